//! What objects declare, and nobody uses.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashSet};

use super::{
    declared::{Declared, Usage, Use},
    evidence::Evidence,
    host,
    routes::{Judge, party_of, words_of},
};
use crate::{
    mesh::{
        decision::{Reason, Rule},
        findings::{Findings, Id, Key, Saying},
        report,
    },
    model::time::Monotonic,
};

/// Most marks that are remembered.
const MARKS: usize = 4_096;

/// Kind, namespace and name of an object; usage, host and subset.
type UseKey = (Box<str>, Box<str>, Box<str>, Usage, Box<str>, Box<str>);

/// What is declared to be used.
#[derive(Debug, Default)]
pub(super) struct Uses {
    all: HashMap<UseKey, State>,
    /// Requests and connections that could have used something, by [`Usage`]; of subsets it is those
    /// of their host that count.
    seen: [u64; 3],
    /// What was marked, by its hash: it is not looked for again.
    marked: HashSet<u64>,
    hasher: RandomState,
    /// What did not fit, of what is declared now.
    lost: u64,
}

#[derive(Debug)]
struct State {
    declared: Use,
    since: Monotonic,
    used: bool,
}

fn key_of(declared: &Use) -> UseKey {
    let object = &declared.object;
    (
        object.kind.clone(),
        object.namespace.clone(),
        object.name.clone(),
        declared.what,
        declared.host.clone(),
        declared.subset.clone(),
    )
}

// === impl Uses ===

impl Uses {
    /// Takes what is declared.
    pub(super) fn declare(&mut self, declared: &Declared, limit: usize, now: Monotonic) {
        self.marked.clear();
        let mut known = std::mem::take(&mut self.all);
        self.lost += declared.uses.len().saturating_sub(limit) as u64;
        for declared in declared.uses.iter().take(limit) {
            let key = key_of(declared);
            let mut state = known.remove(&key).unwrap_or(State {
                declared: declared.clone(),
                since: now,
                used: false,
            });
            state.declared.object = declared.object.clone();
            self.all.insert(key, state);
        }
    }

    /// A request or connection could have used something of a kind.
    pub(super) fn seen(&mut self, what: Usage) {
        if let Some(count) = self.seen.get_mut(what as usize) {
            *count = count.saturating_add(1);
        }
    }

    /// Something of a kind was used: a host, or one of its subsets, by somebody in a namespace.
    pub(super) fn mark(&mut self, what: Usage, name: &str, subset: &str, namespace: &str) {
        if self.all.is_empty() {
            return;
        }
        let mark = self.hasher.hash_one((what, name, subset, namespace));
        if self.marked.len() >= MARKS {
            self.marked.clear();
        }
        if !self.marked.insert(mark) {
            return;
        }
        for state in self.all.values_mut().filter(|state| !state.used) {
            let declared = &state.declared;
            let meant = declared.what == what
                && *declared.subset == *subset
                && host::matches(&declared.host, name)
                && (what != Usage::Scope || *declared.object.namespace == *namespace);
            state.used |= meant;
        }
    }

    /// A rule that is followed leads to subsets.
    pub(super) fn leads(&mut self, rule: &Rule) {
        for backend in rule.backends.iter().filter(|backend| backend.share > 0.0) {
            let name = host::canonical(&backend.host);
            self.mark(Usage::Subset, &name, &backend.subset, "");
        }
    }

    /// How much is declared.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// How much did not fit.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    /// What reports say. `requests` tells those to a canonical host.
    pub(super) fn report(&self, into: &mut Vec<report::Usage>, requests: impl Fn(&str) -> u64) {
        into.extend(self.all.values().map(|state| report::Usage {
            object: (&state.declared.object).into(),
            what: state.declared.words(),
            used: state.used,
            requests: self.possible(&state.declared, &requests),
        }));
    }

    /// Requests and connections that could have used something.
    fn possible(&self, declared: &Use, requests: impl Fn(&str) -> u64) -> u64 {
        match declared.what {
            Usage::Subset => requests(&declared.host),
            what => self.seen.get(what as usize).copied().unwrap_or_default(),
        }
    }

    /// What is not used. `requests` tells those to a canonical host.
    pub(super) fn judge(&self, into: &mut Findings, judge: Judge, requests: impl Fn(&str) -> u64) {
        for state in self.all.values() {
            let declared = &state.declared;
            let seen = self.possible(declared, &requests);
            let long = judge.watched(state.since);
            if state.used || !long || seen < judge.minimum {
                continue;
            }
            let what = declared.words();
            let summary = format!(
                "{} declares {what}, which nobody on this node used.",
                words_of(&declared.object)
            );
            let evidence = Evidence::lasting(state.since, judge.now, seen);
            let key = Key {
                id: Id::M36,
                workload: party_of(&declared.host).into(),
                peer: None,
                port: 0,
                about: format!("{} {what}", words_of(&declared.object)).into(),
            };
            let because = vec![Reason::of(declared.object.clone(), what)];
            let saying = Saying {
                summary,
                because,
                severity: None,
            };
            evidence.raise(into, key, saying);
        }
    }
}

// === impl Use ===

impl Use {
    /// `subset v1 of cart.shop`.
    fn words(&self) -> String {
        match self.what {
            Usage::Outside => format!("host {}", self.host),
            Usage::Subset => format!("subset {} of {}", self.subset, self.host),
            Usage::Scope => format!("host {} in its scope", self.host),
        }
    }
}
