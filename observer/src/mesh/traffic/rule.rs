//! A rule of a route: how often it matched, how long requests took, and what of it is not as declared.

use std::time::Duration;

use hashbrown::HashSet;

use super::{
    clients::answered_by_proxy,
    evidence::Evidence,
    party::Who,
    routes::{Judge, party_of, words_of},
    split::Split,
    turn::Turn,
};
use crate::{
    mesh::{
        decision::{Reason, Rule},
        findings::{Findings, Id, Key, Saying},
    },
    model::{call::Call, exchange::Outcome, time::Monotonic},
};

/// Most clients of a rule that are told from others.
const CLIENTS: usize = 256;
/// A request may take so much longer than its limit: what the proxy does beside, and the way to it.
const SLACK: Duration = Duration::from_millis(100);
/// Requests that took too long, below which nothing is said.
const SLOW: u64 = 2;
/// Requests that their clients gave up, below which nothing is said.
const EARLY: u64 = 5;
/// A client that gives up sooner does so for other reasons than a limit of time.
const PATIENCE: Duration = Duration::from_millis(50);

/// What was seen of the hosts of a rule.
#[derive(Clone, Copy, Debug)]
pub(super) struct HostSeen {
    /// Requests to them, since the rule is what it is.
    pub(super) requests: u64,
    /// Requests of the rule that shadows it.
    pub(super) by_shadow: u64,
}

/// A rule, and what was seen of it.
#[derive(Debug)]
pub(super) struct RuleState {
    /// What it says.
    pub(super) rule: Rule,
    /// Canonical hosts that it is about.
    pub(super) hosts: Vec<Box<str>>,
    /// It is one of those that were told whole; others are known from matches alone.
    pub(super) listed: bool,
    /// It is as a client has it.
    pub(super) routed: bool,
    /// Since when it says so, as far as this observer knows.
    pub(super) since: Monotonic,
    /// Requests that matched it.
    pub(super) requests: u64,
    /// Requests that may have matched it.
    pub(super) perhaps: u64,
    /// Requests that match it and were taken by an earlier rule: that one's name, and how many.
    pub(super) shadow: Option<(Box<str>, u64)>,
    /// Last that matched.
    pub(super) last: Option<Monotonic>,
    /// Requests to its hosts before [`Self::since`].
    pub(super) before: u64,
    pub(super) longest: Duration,
    slow: Evidence,
    early: Evidence,
    early_range: (Duration, Duration),
    faults: Evidence,
    /// Who calls, on this node.
    pub(super) clients: HashSet<Who>,
    /// What its backends get.
    pub(super) split: Split,
    /// Where it led before it was changed, and who leads there still.
    pub(super) turn: Option<Box<Turn>>,
}

// === impl RuleState ===

impl RuleState {
    /// Nothing seen of it yet.
    pub(super) fn new(rule: Rule, now: Monotonic) -> Self {
        Self {
            split: Split::new(&rule, now),
            rule,
            hosts: Vec::new(),
            listed: false,
            routed: false,
            since: now,
            requests: 0,
            perhaps: 0,
            shadow: None,
            last: None,
            before: 0,
            longest: Duration::ZERO,
            slow: Evidence::default(),
            early: Evidence::default(),
            early_range: (Duration::MAX, Duration::ZERO),
            faults: Evidence::default(),
            clients: HashSet::new(),
            turn: None,
        }
    }

    /// What it says is known better: as a client has it.
    pub(super) fn understand(&mut self, rule: &Rule) {
        self.routed = true;
        self.split = Split::new(rule, self.split.since);
        self.rule = rule.clone();
    }

    /// An earlier rule took a request that it matches.
    pub(super) fn shadowed(&mut self, by: &str) {
        match &mut self.shadow {
            Some((known, count)) if **known == *by => *count += 1,
            Some(_) => {}
            None => self.shadow = Some((by.into(), 1)),
        }
    }

    /// Looks whether its backends get their shares.
    pub(super) fn look(&mut self, now: Monotonic) {
        self.split.look(&self.rule, now);
    }

    /// Takes a request that matched, at its client.
    pub(super) fn matched(&mut self, call: &Call, who: &Who, judge: Judge) {
        let now = judge.now;
        self.requests += 1;
        self.last = Some(now);
        if !self.clients.contains(who) && self.clients.len() < CLIENTS {
            self.clients.insert(who.clone());
        }
        let exchange = &call.exchange;
        let told = !matches!(exchange.outcome, Outcome::Lost | Outcome::Tunnel);
        if !told {
            return;
        }
        let local = answered_by_proxy(call);
        if !local && judge.settled(self.split.since) {
            self.split.sent(now);
        }
        let took = exchange.duration();
        self.longest = self.longest.max(took);
        // Streams last as long as they like.
        if !judge.settled(self.since) || exchange.rpc.is_some() {
            return;
        }
        self.times(call, now);
        let Some(fault) = self.rule.fault else {
            return;
        };
        let aborted = local
            && fault.abort_share > 0.0
            && (exchange.status == Some(fault.abort_status) || fault.abort_status == 0);
        let delayed = fault.delay_share > 0.0 && !fault.delay.is_zero() && took >= fault.delay;
        if aborted || delayed {
            self.faults.of(self.requests).call(call, now);
        }
    }

    fn times(&mut self, call: &Call, now: Monotonic) {
        let exchange = &call.exchange;
        let Some(limit) = self.rule.timeout.filter(|limit| !limit.is_zero()) else {
            return;
        };
        // A proxy counts from the end of the request.
        let took = exchange
            .ended
            .since(exchange.sent.last.max(exchange.sent.first));
        if took > limit + limit / 10 + SLACK {
            self.slow.of(self.requests).call(call, now);
        } else if exchange.outcome == Outcome::ClientAborted && took >= PATIENCE && took < limit {
            let (least, most) = self.early_range;
            self.early_range = (least.min(took), most.max(took));
            self.early.of(self.requests).call(call, now);
        }
    }

    /// `used`, `unused`, `shadowed`, `unknown`, and why.
    pub(super) fn state(&self, seen: HostSeen, minimum: u64) -> (&'static str, String) {
        let host_requests = seen.requests;
        if self.requests > 0 {
            return ("used", format!("{} requests matched", self.requests));
        }
        if self.perhaps > 0 {
            let why = format!(
                "{} requests may have matched: not all of them is seen",
                self.perhaps
            );
            return ("unknown", why);
        }
        if host_requests < minimum {
            let why = format!("only {host_requests} requests to its host were seen on this node");
            return ("unknown", why);
        }
        if let Some((by, count)) = self.shadowed_by(seen) {
            let why = format!("rule {by} took {count} requests that match it");
            return ("shadowed", why);
        }
        let why = format!("none of {host_requests} requests of this node to its host matched");
        ("unused", why)
    }

    /// Tells a finding about it from others; `what` tells two of one kind apart.
    pub(super) fn key(&self, id: Id, what: &str) -> Key {
        let host = self.hosts.first().map_or("", |host| host);
        Key {
            id,
            workload: party_of(host).into(),
            peer: None,
            port: 0,
            about: format!("{} {} {what}", words_of(&self.rule.object), self.rule.name).into(),
        }
    }

    /// What is said of it.
    pub(super) fn saying(&self, summary: String) -> Saying {
        let text = format!("rule {}", self.rule.name);
        Saying {
            summary,
            because: vec![Reason::of(self.rule.object.clone(), text)],
            severity: None,
        }
    }

    /// `Rule 0 of VirtualService shop/cart`.
    pub(super) fn words(&self) -> String {
        format!("Rule {} of {}", self.rule.name, words_of(&self.rule.object))
    }

    /// What is not as declared.
    pub(super) fn judge(&self, into: &mut Findings, judge: Judge, seen: HostSeen) {
        self.judge_use(into, judge, seen);
        self.judge_times(into, judge);
        if self.faults.stands(judge, self.requests) {
            let summary = format!(
                "{} injects faults into live traffic: {} of {} requests failed or waited as it says.",
                self.words(),
                self.faults.count,
                self.requests
            );
            let key = self.key(Id::M22, "");
            self.faults.raise(into, key, self.saying(summary));
        }
        self.split.judge(into, judge, self);
        if let Some(turn) = &self.turn {
            turn.judge(into, judge, self);
        }
    }

    fn judge_use(&self, into: &mut Findings, judge: Judge, seen: HostSeen) {
        let silent = self.listed
            && self.requests == 0
            && self.perhaps == 0
            && self.rule.partial.is_none()
            && judge.settled(self.since)
            && seen.requests >= judge.minimum;
        if !silent {
            return;
        }
        if let Some((by, count)) = self
            .shadowed_by(seen)
            .filter(|(_, count)| *count >= judge.minimum)
        {
            let summary = format!(
                "{} matches {count} requests of clients of this node, and rule {by} before it took all of them.",
                self.words()
            );
            let evidence = Evidence::lasting(self.since, judge.now, count);
            evidence.raise(into, self.key(Id::M16, ""), self.saying(summary));
        } else if judge.watched(self.since) {
            let summary = format!(
                "{} matched none of {} requests that clients of this node made to {}.",
                self.words(),
                seen.requests,
                self.hosts.join(", ")
            );
            let evidence = Evidence::lasting(self.since, judge.now, seen.requests);
            evidence.raise(into, self.key(Id::M15, ""), self.saying(summary));
        }
    }

    /// The rule that takes what this one is for. One that takes no other requests is only the more
    /// special of both.
    pub(super) fn shadowed_by(&self, seen: HostSeen) -> Option<(&str, u64)> {
        let (by, count) = self.shadow.as_ref()?;
        (seen.by_shadow > *count).then_some((by, *count))
    }

    fn judge_times(&self, into: &mut Findings, judge: Judge) {
        let Some(limit) = self.rule.timeout.filter(|limit| !limit.is_zero()) else {
            return;
        };
        let seconds = limit.as_secs_f64();
        if self.slow.count >= SLOW && self.slow.stands(judge, self.requests) {
            let summary = format!(
                "{} limits requests to {seconds} s, and {} took longer, up to {:.3} s: the limit is not applied.",
                self.words(),
                self.slow.count,
                self.longest.as_secs_f64()
            );
            self.slow
                .raise(into, self.key(Id::M21, "limit"), self.saying(summary));
        }
        let (least, most) = self.early_range;
        // Clients with a limit of their own give up after the same time; others after any.
        let alike = most <= least.saturating_add(least / 10).saturating_add(PATIENCE);
        if self.early.count >= EARLY && alike && self.early.stands(judge, self.requests) {
            let summary = format!(
                "Clients gave {} requests up after {:.3} s, before the limit of {seconds} s of rule {} of {}.",
                self.early.count,
                most.as_secs_f64(),
                self.rule.name,
                words_of(&self.rule.object)
            );
            let key = self.key(Id::M21, "clients");
            self.early.raise(into, key, self.saying(summary));
        }
        let Some(retries) = self.rule.retries else {
            return;
        };
        let tries = retries.attempts.saturating_add(1);
        let Some(whole) = retries.per_try.and_then(|each| each.checked_mul(tries)) else {
            return;
        };
        if whole > limit && self.requests >= judge.minimum {
            let last = self.last.unwrap_or(judge.now);
            let evidence = Evidence::lasting(self.since, last, self.requests);
            let summary = format!(
                "{} allows {tries} attempts that add up to {} s, and limits them all to {seconds} s: the last are never made whole.",
                self.words(),
                whole.as_secs_f64()
            );
            let key = self.key(Id::M21, "attempts");
            evidence.raise(into, key, self.saying(summary));
        }
    }
}
