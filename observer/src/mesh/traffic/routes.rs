//! Rules of routes: how often each matched, how long requests took, and what of it is not as
//! declared.

use std::time::Duration;

use hashbrown::HashSet;

use super::{
    clients::ClientState,
    host,
    party::Who,
    places::Places,
    rule::{HostSeen, RuleState},
    turn::Turn,
};
use crate::{
    mesh::{
        decision::{DeclaredRule, Rule},
        findings::{Findings, seconds},
        report::{self, Party},
    },
    model::{
        policy::ObjectRef,
        time::{Monotonic, WallOffset},
    },
};

/// Most hosts that are kept of one rule.
const HOSTS: usize = 16;

/// A rule, whatever version its object has.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct RuleKey {
    kind: Box<str>,
    group: Box<str>,
    namespace: Box<str>,
    name: Box<str>,
    rule: Box<str>,
}

/// A host with routes.
#[derive(Debug, Default)]
pub(super) struct HostState {
    /// Requests that routes decided about.
    pub(super) requests: u64,
    /// Last of them.
    pub(super) last: Monotonic,
}

/// All routes.
#[derive(Debug, Default)]
pub(super) struct Routes {
    /// Rules.
    pub(super) rules: Places<RuleKey, RuleState>,
    /// By canonical name.
    pub(super) hosts: Places<Box<str>, HostState>,
    /// By client, and place of the host.
    pub(super) clients: Places<(Who, u32), ClientState>,
}

/// What judging depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Judge {
    /// Now.
    pub(super) now: Monotonic,
    /// Requests below which nothing is said.
    pub(super) minimum: u64,
    /// How long something must not be used.
    pub(super) unused: Duration,
    /// How long is told what was seen last.
    pub(super) window: Duration,
    /// How long after a change nothing is said.
    pub(super) settle: Duration,
}

// === impl RuleKey ===

impl RuleKey {
    /// Of a rule.
    pub(super) fn of(object: &ObjectRef, rule: &str) -> Self {
        Self {
            kind: object.kind.clone(),
            group: object.group.clone(),
            namespace: object.namespace.clone(),
            name: object.name.clone(),
            rule: rule.into(),
        }
    }
}

/// A canonical host, as a party that findings are about.
pub(super) fn party_of(host: &str) -> Party {
    let (kind, name, namespace) = match host.split_once('.') {
        Some((name, namespace)) if !namespace.contains('.') && !name.starts_with('*') => {
            ("kubernetes_service", name, namespace)
        }
        _ => ("name", host, ""),
    };
    Party {
        kind,
        namespace: namespace.to_owned(),
        workload_kind: String::new(),
        name: name.to_owned(),
    }
}

/// `VirtualService shop/cart`.
pub(super) fn words_of(object: &ObjectRef) -> String {
    format!("{} {}/{}", object.kind, object.namespace, object.name)
}

/// Whether two rules say the same, whatever version their object has, and whatever other objects say of
/// their subsets.
fn same(one: &Rule, other: &Rule) -> bool {
    let Rule {
        object: _,
        name: _,
        backends: _,
        timeout,
        retries,
        mirrors,
        fault,
        answers,
        partial,
    } = one;
    let shares = |rule: &Rule| -> Vec<(Box<str>, Box<str>, u16, u64)> {
        let backends = rule.backends.iter();
        backends
            .map(|it| {
                (
                    it.host.clone(),
                    it.subset.clone(),
                    it.port,
                    it.share.to_bits(),
                )
            })
            .collect()
    };
    shares(one) == shares(other)
        && *timeout == other.timeout
        && *retries == other.retries
        && mirrors.len() == other.mirrors.len()
        && mirrors
            .iter()
            .zip(&other.mirrors)
            .all(|(one, other)| one.1 == other.1 && one.0.host == other.0.host)
        && *fault == other.fault
        && *answers == other.answers
        && *partial == other.partial
}

// === impl Judge ===

impl Judge {
    /// Whether what was not used since then is unused.
    pub(super) fn watched(&self, since: Monotonic) -> bool {
        self.now.since(since) >= self.unused
    }

    /// Whether something is settled that is so since then.
    pub(super) fn settled(&self, since: Monotonic) -> bool {
        self.now.since(since) >= self.settle
    }
}

// === impl Routes ===

impl Routes {
    /// The place of a rule that matched, or may have.
    pub(super) fn rule(
        &mut self,
        rule: &Rule,
        host: &str,
        limit: usize,
        now: Monotonic,
    ) -> Option<u32> {
        let place = self.known(rule, true, limit, now)?;
        let state = self.rules.get_mut(place)?;
        let named = |known: &str| host::matches(known, host);
        if !state.listed
            && !state.hosts.iter().any(|known| named(known))
            && state.hosts.len() < HOSTS
        {
            state.hosts.push(host.into());
        }
        Some(place)
    }

    /// The place of a rule. `routed` when it was found for a request: then it is as that client has
    /// it, with what other objects say of it, and goes before what is declared alone.
    fn known(&mut self, rule: &Rule, routed: bool, limit: usize, now: Monotonic) -> Option<u32> {
        let key = RuleKey::of(&rule.object, &rule.name);
        let place = self
            .rules
            .place(&key, limit, || RuleState::new(rule.clone(), now))?;
        let state = self.rules.get_mut(place)?;
        if state.rule.object.version == rule.object.version {
            if routed && !state.routed {
                state.understand(rule);
            }
            return Some(place);
        }
        if same(&state.rule, rule) {
            state.rule.object.version = rule.object.version.clone();
        } else {
            // It is another rule from now on.
            let hosts = std::mem::take(&mut state.hosts);
            let listed = state.listed;
            let turn = Turn::between(state.turn.take(), &state.rule, rule);
            *state = RuleState::new(rule.clone(), now);
            state.before = total(&hosts, &self.hosts);
            (state.hosts, state.listed, state.routed) = (hosts, listed, routed);
            state.turn = turn;
        }
        Some(place)
    }

    /// Takes all rules that are declared. Whether some are gone.
    pub(super) fn declare(
        &mut self,
        rules: impl Iterator<Item = DeclaredRule>,
        limit: usize,
        now: Monotonic,
    ) -> bool {
        let mut told = HashSet::new();
        for declared in rules {
            told.insert(RuleKey::of(&declared.object, &declared.name));
            let Some(place) = self.known(&declared.rule, false, limit, now) else {
                continue;
            };
            let namespace = &declared.object.namespace;
            let hosts: Vec<Box<str>> = declared
                .hosts
                .iter()
                .take(HOSTS)
                .map(|name| host::canonical_in(name, namespace).into())
                .collect();
            let before = total(&hosts, &self.hosts);
            if let Some(state) = self.rules.get_mut(place) {
                if !state.listed || state.hosts != hosts {
                    state.before = before.saturating_sub(state.requests);
                    state.hosts = hosts;
                }
                state.listed = true;
            }
        }
        self.rules
            .retain(|key, state| !state.listed || told.contains(key))
    }

    /// Forgets what nothing was seen of for long. Whether there was anything.
    pub(super) fn expire(&mut self, now: Monotonic, idle: Duration) -> bool {
        let rules = self.rules.retain(|_, state| {
            state.listed || now.since(state.last.unwrap_or(state.since)) <= idle
        });
        let hosts = self.hosts.retain(|_, host| now.since(host.last) <= idle);
        let clients = self
            .clients
            .retain(|_, client| now.since(client.last) <= idle);
        rules || hosts || clients
    }

    /// What was seen of the hosts of a rule.
    fn seen(&self, state: &RuleState) -> HostSeen {
        let all = total(&state.hosts, &self.hosts).saturating_sub(state.before);
        let shadow = state.shadow.as_ref().and_then(|(by, _)| {
            let key = RuleKey::of(&state.rule.object, by);
            self.rules.get(self.rules.find(&key)?)
        });
        HostSeen {
            requests: all.max(state.requests),
            by_shadow: shadow.map_or(0, |shadow| shadow.requests),
        }
    }

    /// What reports say of all rules.
    pub(super) fn report(&self, into: &mut Vec<report::Route>, judge: Judge, offset: WallOffset) {
        for (_, state) in self.rules.iter() {
            let seen = self.seen(state);
            let (name, why) = state.state(seen, judge.minimum);
            into.push(report::Route {
                object: (&state.rule.object).into(),
                rule: state.rule.name.to_string(),
                host: state.hosts.join(", "),
                requests: state.requests,
                possible_requests: state.perhaps,
                host_requests: seen.requests,
                minimum: judge.minimum,
                shadowed_by: state.shadowed_by(seen).map(|(by, _)| by.to_owned()),
                last_seen: state.last.map(|last| seconds(last, offset)),
                timeout_seconds: state.rule.timeout.map(|limit| limit.as_secs_f64()),
                retries: state.rule.retries.map(|retries| retries.attempts),
                longest_seconds: (!state.longest.is_zero()).then_some(state.longest.as_secs_f64()),
                state: name,
                why,
            });
        }
        into.sort_by(|one, other| {
            (&one.object, &one.rule, &one.host).cmp(&(&other.object, &other.rule, &other.host))
        });
    }

    /// What is not as declared.
    pub(super) fn judge(&self, into: &mut Findings, judge: Judge) {
        for (_, state) in self.rules.iter() {
            state.judge(into, judge, self.seen(state));
        }
        for ((who, place), client) in self.clients.iter() {
            let Some((host, _)) = self.hosts.entry(*place) else {
                continue;
            };
            client.judge(into, judge, who, host);
        }
    }
}

/// Requests to hosts, also to those that a pattern stands for.
fn total(hosts: &[Box<str>], all: &Places<Box<str>, HostState>) -> u64 {
    hosts
        .iter()
        .map(|name| {
            if name.starts_with('*') {
                let those = all.iter().filter(|(known, _)| host::matches(name, known));
                return those.map(|(_, host)| host.requests).sum();
            }
            let place = all.find(name).and_then(|place| all.get(place));
            place.map_or(0, |host| host.requests)
        })
        .sum()
}
