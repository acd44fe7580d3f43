//! What policy allows and nobody uses, and the least that would do.

use std::sync::Arc;

use hashbrown::{Equivalent, HashMap, HashSet};

use super::{
    declared::{Declared, Grant, Subject},
    evidence::Evidence,
    party::Who,
    places::Places,
    routes::{Judge, words_of},
};
use crate::{
    mesh::{
        decision::Reason,
        findings::{Findings, Id, Key, Saying},
        report,
    },
    model::{
        exchange::RequestHead,
        mesh::Identity,
        policy::{ObjectRef, PolicyKind},
        time::Monotonic,
    },
};

/// Most identities, methods and paths that a policy is made of; beyond that none is.
const MOST: usize = 32;

/// Kind, group, namespace and name of an object that allows.
type PolicyKey = (Box<str>, Box<str>, Box<str>, Box<str>);

/// What was seen of policies that allow.
#[derive(Debug, Default)]
pub(super) struct Grants {
    used: HashMap<PolicyKey, Used>,
    /// By server, and port: all that was let pass.
    callers: Places<(Who, u16), Callers>,
}

/// What was seen of a policy.
#[derive(Debug)]
struct Used {
    version: Box<str>,
    since: Monotonic,
    last: Monotonic,
    requests: u64,
    server: Option<(Who, u16)>,
    grants: Vec<(Grant, bool)>,
}

/// Who was let pass, and what for.
#[derive(Debug, Default)]
struct Callers {
    last: Monotonic,
    identities: HashSet<Arc<Identity>>,
    operations: HashSet<(Box<str>, Arc<str>)>,
    /// There were more than are kept.
    more: bool,
}

/// A request that was let pass.
#[derive(Clone, Copy, Debug)]
pub(super) struct Passed<'a> {
    /// The proved identity of who called.
    pub(super) identity: Option<&'a Arc<Identity>>,
    /// The request; `None` for connections.
    pub(super) head: Option<&'a RequestHead>,
    /// Its route, as a template.
    pub(super) route: &'a Arc<str>,
    /// Why it was let pass.
    pub(super) because: &'a [Reason],
    /// Who was called, at which port.
    pub(super) server: (&'a Who, u16),
}

/// [`PolicyKey`] without copies: hashes as it does.
#[derive(Hash)]
struct PolicyName<'a>(&'a str, &'a str, &'a str, &'a str);

impl Equivalent<PolicyKey> for PolicyName<'_> {
    fn equivalent(&self, key: &PolicyKey) -> bool {
        (self.0, self.1, self.2, self.3) == (&*key.0, &*key.1, &*key.2, &*key.3)
    }
}

fn key_of(object: &ObjectRef) -> PolicyKey {
    (
        object.kind.clone(),
        object.group.clone(),
        object.namespace.clone(),
        object.name.clone(),
    )
}

// === impl Grants ===

impl Grants {
    /// Takes what is declared.
    pub(super) fn declare(&mut self, declared: &Declared, limit: usize, now: Monotonic) {
        let mut known = std::mem::take(&mut self.used);
        for grant in &declared.grants {
            let key = key_of(&grant.object);
            if !self.used.contains_key(&key) {
                let old = known.remove(&key);
                let old = old.filter(|used| used.version == grant.object.version);
                let used = old.unwrap_or_else(|| Used {
                    version: grant.object.version.clone(),
                    since: now,
                    last: now,
                    requests: 0,
                    server: None,
                    grants: Vec::new(),
                });
                if self.used.len() >= limit {
                    continue;
                }
                self.used.insert(key.clone(), used);
            }
            if let Some(used) = self.used.get_mut(&key)
                && !used.grants.iter().any(|(known, _)| known == grant)
            {
                used.grants.push((grant.clone(), false));
            }
        }
    }

    /// Takes a request that was let pass; `first` when the same was not seen before.
    pub(super) fn passed(&mut self, passed: Passed<'_>, first: bool, limit: usize, now: Monotonic) {
        if self.used.is_empty() {
            return;
        }
        let objects = passed.because.iter().filter_map(|why| why.object.as_ref());
        for object in objects {
            let name = PolicyName(&object.kind, &object.group, &object.namespace, &object.name);
            let Some(used) = self.used.get_mut(&name) else {
                continue;
            };
            used.requests += 1;
            used.last = now;
            if !first {
                continue;
            }
            used.server = Some((passed.server.0.clone(), passed.server.1));
            for (grant, hit) in &mut used.grants {
                *hit = *hit || covers(grant, &passed);
            }
        }
        let place = (passed.server.0.clone(), passed.server.1);
        let Some(place) = self.callers.place(&place, limit, Callers::default) else {
            return;
        };
        if let Some(callers) = self.callers.get_mut(place) {
            callers.last = now;
            if first {
                callers.take(&passed);
            }
        }
    }

    /// Forgets servers that nothing was seen of for long.
    pub(super) fn expire(&mut self, now: Monotonic, idle: std::time::Duration) {
        self.callers
            .retain(|_, callers| now.since(callers.last) <= idle);
    }

    /// How many servers are known, and how many did not fit.
    pub(super) fn counts(&self) -> (usize, u64) {
        (self.callers.len(), self.callers.lost())
    }

    /// What reports say.
    pub(super) fn report(&self, into: &mut Vec<report::Usage>) {
        for used in self.used.values() {
            into.extend(used.grants.iter().map(|(grant, hit)| report::Usage {
                object: (&grant.object).into(),
                what: grant.words(),
                used: *hit,
                requests: used.requests,
            }));
        }
    }

    /// What is allowed and not used.
    pub(super) fn judge(&self, into: &mut Findings, judge: Judge) {
        for used in self.used.values() {
            let Some(server) = &used.server else {
                continue;
            };
            let long = judge.watched(used.since);
            if !long || used.requests < judge.minimum {
                continue;
            }
            let idle: Vec<&Grant> = used
                .grants
                .iter()
                .filter_map(|(grant, hit)| (!hit).then_some(grant))
                .collect();
            let Some(first) = idle.first() else {
                continue;
            };
            let object = &first.object;
            let names: Vec<String> = idle.iter().take(MOST).map(|grant| grant.words()).collect();
            let mut summary = format!(
                "{} allows what none of {} requests seen on this node used: {}.",
                words_of(object),
                used.requests,
                names.join(", ")
            );
            let callers = self
                .callers
                .find(server)
                .and_then(|place| self.callers.get(place));
            if let Some(least) = callers.and_then(|callers| callers.least(object)) {
                summary.push_str(" The least that allows what was seen: ");
                summary.push_str(&least);
            }
            let evidence = Evidence::lasting(used.since, used.last, used.requests);
            let key = Key {
                id: Id::M26,
                workload: server.0.party().clone(),
                peer: None,
                port: server.1,
                about: words_of(object).into(),
            };
            let reason = |grant: &&Grant| {
                let text = format!("allows {} {}", grant.subject.as_str(), grant.pattern);
                Reason::of(grant.object.clone(), text)
            };
            let because = idle.iter().take(MOST).map(reason).collect();
            let saying = Saying {
                summary,
                because,
                severity: None,
            };
            evidence.raise(into, key, saying);
        }
    }
}

fn covers(grant: &Grant, passed: &Passed<'_>) -> bool {
    let identity = passed.identity;
    match grant.subject {
        Subject::Identity => identity.is_some_and(|identity| {
            let text = &*identity.text;
            let short = text.strip_prefix("spiffe://").unwrap_or(text);
            grant.covers(text) || grant.covers(short)
        }),
        Subject::Namespace => identity.is_some_and(|identity| grant.covers(&identity.namespace)),
        Subject::ServiceAccount => identity.is_some_and(|identity| {
            let (namespace, name) = grant
                .pattern
                .split_once('/')
                .unwrap_or((&grant.object.namespace, &grant.pattern));
            *identity.namespace == *namespace && *identity.service_account == *name
        }),
        Subject::Method => passed.head.is_some_and(|head| grant.covers(&head.method)),
        Subject::Path => passed.head.is_some_and(|head| grant.covers(&head.path)),
    }
}

// === impl Callers ===

impl Callers {
    fn take(&mut self, passed: &Passed<'_>) {
        match passed.identity {
            Some(identity) if self.identities.len() < MOST => {
                self.identities.insert(identity.clone());
            }
            Some(identity) => self.more |= !self.identities.contains(identity),
            // Somebody without one cannot be named.
            None => self.more = true,
        }
        let Some(head) = passed.head else {
            return;
        };
        let operation = (head.method.clone(), passed.route.clone());
        match self.operations.len() < MOST {
            true => {
                self.operations.insert(operation);
            }
            false => self.more |= !self.operations.contains(&operation),
        }
    }

    /// What allows what was seen, in place of what the object has, as JSON; `None` when it cannot be
    /// said in few.
    fn least(&self, object: &ObjectRef) -> Option<String> {
        if self.more || self.identities.is_empty() {
            return None;
        }
        let mut identities: Vec<&str> = self
            .identities
            .iter()
            .map(|identity| &*identity.text)
            .map(|text| text.strip_prefix("spiffe://").unwrap_or(text))
            .collect();
        identities.sort_unstable();
        if *object.group == *PolicyKind::MeshTlsAuthentication.group() {
            return Some(serde_json::json!({"identities": identities}).to_string());
        }
        let from = serde_json::json!([{"source": {"principals": identities}}]);
        if self.operations.is_empty() {
            return Some(serde_json::json!({"rules": [{"from": from}]}).to_string());
        }
        let mut operations: Vec<(&str, String)> = self
            .operations
            .iter()
            .map(|(method, route)| (&**method, template(route)))
            .collect();
        operations.sort_unstable();
        let to: Vec<serde_json::Value> = operations
            .into_iter()
            .map(|(method, path)| {
                serde_json::json!({"operation": {"methods": [method], "paths": [path]}})
            })
            .collect();
        Some(serde_json::json!({"rules": [{"from": from, "to": to}]}).to_string())
    }
}

/// A route's template in the words of policies: `/users/{id}` as `/users/{*}`.
fn template(route: &str) -> String {
    let parts = route.split('/').map(|part| {
        if part.starts_with('{') && part.ends_with('}') {
            "{*}"
        } else {
            part
        }
    });
    parts.collect::<Vec<&str>>().join("/")
}

// === impl Grant ===

impl Grant {
    /// `identity cluster.local/ns/shop/sa/web`.
    fn words(&self) -> String {
        format!("{} {}", self.subject.as_str(), self.pattern)
    }
}

// === impl Subject ===

impl Subject {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Namespace => "namespace",
            Self::ServiceAccount => "service account",
            Self::Method => "method",
            Self::Path => "path",
        }
    }
}
