//! Proxies that lead requests to where a rule led before it was changed, when others follow it.
//!
//! A backend that a rule leads to no more shows who has not heard of the change, and one that it did
//! not lead to shows who has. Shares that changed alone show neither.

use std::{sync::Arc, time::Duration};

use super::{
    evidence::Evidence,
    host,
    routes::{Judge, words_of},
    rule::RuleState,
};
use crate::{
    mesh::{
        decision::{Backend, Reason, Rule},
        findings::{Findings, Id, Key, Saying},
        party::End,
        report::Party,
    },
    model::{kubernetes::Pod, time::Monotonic},
};

/// Most proxies that are told apart for one rule.
const PROXIES: usize = 32;
/// Requests, or connections, that show what a proxy does, below which it is not said.
const SHOWN: u64 = 3;

/// What a rule led to before, and what proxies do since.
#[derive(Debug)]
pub(super) struct Turn {
    /// Where it led, and leads no more.
    before: Vec<Backend>,
    /// Where it leads, and did not.
    now: Vec<Backend>,
    proxies: Vec<Conduct>,
}

/// What a request, or a connection, shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shows {
    /// It went where the rule led before.
    Before,
    /// It went where the rule leads only now.
    Now,
    /// It went where it leads as ever.
    Either,
}

/// What a client's proxy did since.
#[derive(Debug)]
struct Conduct {
    pod: Arc<Pod>,
    party: Arc<Party>,
    before: Evidence,
    now: u64,
    all: u64,
}

fn is(one: &Backend, host: &str, subset: &str) -> bool {
    *one.subset == *subset && host::canonical(&one.host) == host
}

/// Where a rule leads, and another does not.
fn only(one: &Rule, other: &Rule) -> Vec<Backend> {
    let leads = |rule: &Rule, wanted: &Backend| {
        let host = host::canonical(&wanted.host);
        let mut backends = rule.backends.iter().filter(|it| it.share > 0.0);
        backends.any(|it| is(it, &host, &wanted.subset))
    };
    let backends = one.backends.iter().filter(|it| it.share > 0.0);
    backends.filter(|it| !leads(other, it)).cloned().collect()
}

// === impl Turn ===

impl Turn {
    /// What changes with a rule; `last` is what did before, and stays where both lead to the same.
    /// `None` when nothing does that a single request can show.
    pub(super) fn between(last: Option<Box<Self>>, old: &Rule, new: &Rule) -> Option<Box<Self>> {
        let (before, now) = (only(old, new), only(new, old));
        if before.is_empty() && now.is_empty() {
            return last;
        }
        let told = old.partial.is_none() && new.partial.is_none();
        (told && !before.is_empty()).then(|| {
            Box::new(Self {
                before,
                now,
                proxies: Vec::new(),
            })
        })
    }

    /// What a connection to a subset shows.
    pub(super) fn of_subset(&self, host: &str, subset: &str) -> Shows {
        let any = |all: &[Backend]| all.iter().any(|it| is(it, host, subset));
        match (any(&self.before), any(&self.now)) {
            (true, _) => Shows::Before,
            (false, true) => Shows::Now,
            (false, false) => Shows::Either,
        }
    }

    /// What a request shows that was served by this backend of the rule; `None` for one that is none
    /// of them. Whether the pod `is_of` a backend may not be known.
    pub(super) fn of_backend(
        &self,
        backend: Option<&Backend>,
        is_of: impl Fn(&Backend) -> Option<bool>,
    ) -> Option<Shows> {
        match backend.filter(|backend| backend.share > 0.0) {
            Some(backend) => Some(self.of_subset(&host::canonical(&backend.host), &backend.subset)),
            None => {
                let mut before = self.before.iter();
                before
                    .any(|it| is_of(it) == Some(true))
                    .then_some(Shows::Before)
            }
        }
    }

    /// Takes a request or a connection of a pod's proxy. Where to put what shows that it goes on as
    /// before; `None` when it does not.
    pub(super) fn saw(&mut self, pod: &Arc<Pod>, shows: Shows) -> Option<&mut Evidence> {
        let mut all = self.proxies.iter();
        let known = all.position(|it| Arc::ptr_eq(&it.pod, pod)).or_else(|| {
            let mut all = self.proxies.iter();
            all.position(|it| it.pod.uid == pod.uid)
        });
        let place = match known {
            Some(place) => place,
            None if self.proxies.len() >= PROXIES => return None,
            None => {
                self.proxies.push(Conduct {
                    party: Arc::new(End::of_pod(pod).party()),
                    pod: pod.clone(),
                    before: Evidence::default(),
                    now: 0,
                    all: 0,
                });
                self.proxies.len() - 1
            }
        };
        let conduct = self.proxies.get_mut(place)?;
        conduct.all += 1;
        match shows {
            Shows::Before => return Some(conduct.before.of(conduct.all)),
            Shows::Now => conduct.now += 1,
            Shows::Either => {}
        }
        None
    }

    /// Whether a proxy follows: it went where the rule leads only now, or, where there is no such
    /// place, nowhere else for long.
    fn follows(&self, conduct: &Conduct, judge: Judge) -> bool {
        match self.now.is_empty() {
            true => conduct.before.count == 0 && conduct.all >= judge.minimum,
            false => conduct.now >= SHOWN,
        }
    }

    /// What is not as declared.
    pub(super) fn judge(&self, into: &mut Findings, judge: Judge, state: &RuleState) {
        let others = self.proxies.iter();
        let others = others.filter(|it| self.follows(it, judge)).count();
        if others == 0 {
            return;
        }
        for conduct in &self.proxies {
            let goes_on = conduct.before.count >= SHOWN
                && conduct.now == 0
                && conduct.before.stands(judge, conduct.all);
            if !goes_on {
                continue;
            }
            let summary = format!(
                "The proxy of pod {} of {} led {} requests or connections to where {} led before it was changed, and {others} other proxies follow the change.",
                conduct.pod.name,
                conduct.party.describe(),
                conduct.before.count,
                state.words(),
            );
            let key = Key {
                workload: conduct.party.clone(),
                peer: Some(state.key(Id::M33, "").workload),
                about: format!(
                    "{} {} {}",
                    words_of(&state.rule.object),
                    state.rule.name,
                    conduct.pod.name
                )
                .into(),
                ..state.key(Id::M33, "")
            };
            let mut saying: Saying = state.saying(summary);
            let names = self.before.iter().map(|it| match &*it.subset {
                "" => it.host.to_string(),
                subset => format!("subset {subset} of {}", it.host),
            });
            let names: Vec<String> = names.collect();
            let text = format!("it led to {} before", names.join(", "));
            saying.because.push(Reason::plain(text));
            conduct.before.raise(into, key, saying);
        }
    }
}

/// Whether something that began then is held against a rule that is what it is `since` then.
pub(super) fn counts(began: Monotonic, since: Monotonic, settle: Duration) -> bool {
    began >= since.plus(settle)
}
