//! Shares of the backends of a rule, as they were served.
//!
//! One observer sees the servers of its node alone: shares among them say nothing of all. So those
//! requests are counted whose clients are of this node too, and they are judged only if about as
//! many were served here as were sent here: then none of the backends is elsewhere.

use std::time::Duration;

use super::{
    declared::Declared,
    evidence::Evidence,
    host,
    routes::{Judge, words_of},
    rule::RuleState,
    statistics::{fit, float},
};
use crate::{
    mesh::{
        decision::{Backend, Rule},
        findings::{Findings, Id},
        report,
    },
    model::{call::Call, mesh::Verdict, time::Monotonic},
};

/// Most backends of one rule that are told apart.
const BACKENDS: usize = 32;
/// Shares are not judged by fewer requests.
const REQUESTS: u64 = 200;
/// Requests that the smallest share should have, if it is true, for the test to hold.
const EXPECTED: f64 = 5.0;
/// A drift that is likely to be none by chance is called one below this probability.
const UNLIKELY: f64 = 0.001;
/// A drift below this does not matter.
const DRIFT: f64 = 0.05;
/// Share of requests that may be missing where they are served.
const MISSING: f64 = 0.05;
/// What was counted is as old as this, and twice as old if there are few.
const PERIOD: Duration = Duration::from_secs(300);

/// What the backends of a rule get.
#[derive(Debug)]
pub(super) struct Split {
    /// Since when shares are as they are.
    pub(super) since: Monotonic,
    young: Counts,
    old: Counts,
    /// All since then, whose clients ever it was of, for those who know of other nodes too.
    total: Counts,
    /// What makes counts say nothing; `None` when they do.
    pub(super) vague: Option<&'static str>,
    drift: Evidence,
    stray: Evidence,
    /// Requests that were served, and connections to none of the backends.
    all: u64,
    /// Copies that are made of requests: to which backend, what share.
    mirrors: Vec<(Backend, f64)>,
}

#[derive(Clone, Debug, Default)]
struct Counts {
    since: Monotonic,
    /// Requests that clients of this node sent.
    sent: u64,
    /// Of these, those that were served on this node, by backend.
    served: Vec<u64>,
    /// By none of the backends.
    strays: u64,
    /// Requests of clients of other nodes.
    foreign: Vec<u64>,
    /// Copies, of which their marks tell.
    copies: u64,
    /// Other requests to the pods of a mirror.
    mirror_alive: bool,
}

/// Who served a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Served {
    /// One of the backends, by its place in the rule.
    Backend(usize),
    /// One of the backends that is to get nothing.
    Idle(usize),
    /// None of them.
    Stray,
    /// It cannot be told.
    Unclear,
}

/// Requests where they were sent, and where they were served.
#[derive(Clone, Debug)]
pub(in crate::mesh) struct Shown<'a> {
    /// Requests that were sent.
    pub(in crate::mesh) sent: u64,
    /// Requests that were served, by backend.
    pub(in crate::mesh) served: Vec<u64>,
    /// By none of them.
    pub(in crate::mesh) strays: u64,
    /// What makes counts say nothing.
    pub(in crate::mesh) unclear: Option<&'a str>,
}

/// A backend of a rule, and the share that it is to get.
#[derive(Clone, Copy, Debug)]
pub(in crate::mesh) struct Part<'a> {
    pub(in crate::mesh) host: &'a str,
    pub(in crate::mesh) subset: &'a str,
    pub(in crate::mesh) share: f64,
}

/// How shares stand.
#[derive(Clone, Debug)]
pub(in crate::mesh) struct Standing {
    counts: Vec<u64>,
    /// Requests that were told apart.
    pub(in crate::mesh) requests: u64,
    /// How likely they are, if shares are as declared.
    pub(in crate::mesh) probability: Option<f64>,
    /// Greatest difference of a share, and whose.
    worst: Option<(f64, usize)>,
    /// Whether they are as declared.
    pub(in crate::mesh) verdict: Verdict,
    /// Why.
    pub(in crate::mesh) why: String,
}

// === impl Counts ===

impl Counts {
    fn new(backends: usize, since: Monotonic) -> Self {
        Self {
            since,
            served: vec![0; backends],
            foreign: vec![0; backends],
            ..Self::default()
        }
    }

    fn add(&self, other: &Self) -> Self {
        let sum = |one: &[u64], other: &[u64]| {
            let pairs = one.iter().zip(other);
            pairs.map(|(one, other)| one + other).collect()
        };
        Self {
            since: self.since.min(other.since),
            sent: self.sent + other.sent,
            served: sum(&self.served, &other.served),
            strays: self.strays + other.strays,
            foreign: sum(&self.foreign, &other.foreign),
            copies: self.copies + other.copies,
            mirror_alive: self.mirror_alive || other.mirror_alive,
        }
    }

    fn local(&self) -> u64 {
        self.served.iter().sum()
    }
}

// === impl Split ===

impl Split {
    pub(super) fn new(rule: &Rule, now: Monotonic) -> Self {
        let backends = rule.backends.len().min(BACKENDS);
        Self {
            since: now,
            young: Counts::new(backends, now),
            old: Counts::new(backends, now),
            total: Counts::new(backends, now),
            vague: None,
            drift: Evidence::default(),
            stray: Evidence::default(),
            all: 0,
            mirrors: rule.mirrors.clone(),
        }
    }

    /// What is said about the shares of a rule by other objects.
    pub(super) fn vague(rule: &Rule, declared: &Declared) -> Option<&'static str> {
        let sticky = rule.backends.iter().any(|backend| {
            let target = declared.target(&host::canonical(&backend.host));
            target.is_some_and(|target| target.sticky)
        });
        if sticky || declared.keeps(&rule.object) {
            return Some("requests stay with a backend by what is in them");
        }
        if rule.partial.is_some() {
            return Some("part of the rule is not understood");
        }
        (rule.backends.len() > BACKENDS).then_some("it has too many backends")
    }

    /// A client of this node sent a request on.
    pub(super) fn sent(&mut self, now: Monotonic) {
        self.turn(now);
        self.young.sent += 1;
        self.total.sent += 1;
    }

    /// A server of this node served a request, at its first attempt.
    pub(super) fn served(&mut self, call: &Call, by: Served, local: bool, judge: Judge) {
        if !judge.settled(self.since) {
            return;
        }
        let now = judge.now;
        self.turn(now);
        self.all += 1;
        let counts = &mut self.young;
        match by {
            Served::Backend(place) | Served::Idle(place) => {
                let of = if local {
                    &mut counts.served
                } else {
                    &mut counts.foreign
                };
                for of in [of, &mut self.total.served] {
                    if let Some(count) = of.get_mut(place) {
                        *count += 1;
                    }
                }
                if matches!(by, Served::Idle(_)) {
                    self.stray.of(self.all).call(call, now);
                }
            }
            // Those of others may have been for another rule, which changed their name on the way.
            Served::Stray if local => {
                counts.strays += 1;
                self.total.strays += 1;
                self.stray.of(self.all).call(call, now);
            }
            Served::Stray => {}
            Served::Unclear => self.vague = Some("its backends share pods"),
        }
    }

    /// A server of this node served a copy of a request that matched.
    pub(super) fn copied(&mut self, judge: Judge) {
        if judge.settled(self.since) {
            self.turn(judge.now);
            self.young.copies += 1;
        }
    }

    /// A connection led to a backend that no rule leads to.
    pub(super) fn strayed(&mut self, evidence: impl FnOnce(&mut Evidence)) {
        self.all += 1;
        evidence(self.stray.of(self.all));
    }

    /// A connection led to one of its backends.
    pub(super) fn led(&mut self) {
        self.all += 1;
    }

    /// A pod of a mirror is on this node, and serves.
    pub(super) fn mirror_serves(&mut self) {
        self.young.mirror_alive = true;
    }

    fn turn(&mut self, now: Monotonic) {
        if now.since(self.young.since) < PERIOD || self.young.local() < REQUESTS {
            return;
        }
        let backends = self.young.served.len();
        self.old = std::mem::replace(&mut self.young, Counts::new(backends, now));
    }

    /// Looks whether shares are as declared.
    pub(super) fn look(&mut self, rule: &Rule, now: Monotonic) {
        if rule.backends.len() < 2 {
            return;
        }
        match self.standing(rule).verdict {
            Verdict::Violated => self.drift.state(now),
            Verdict::Satisfied => self.drift.clear(),
            Verdict::Unknown => {}
        }
    }

    fn standing(&self, rule: &Rule) -> Standing {
        let counts = self.old.add(&self.young);
        let parts = rule.backends.iter().map(|backend| Part {
            host: &backend.host,
            subset: &backend.subset,
            share: backend.share,
        });
        let parts: Vec<Part<'_>> = parts.collect();
        let shown = Shown {
            sent: counts.sent,
            served: counts.served.clone(),
            strays: counts.strays,
            unclear: self.vague,
        };
        let elsewhere = |here: u64, sent: u64| {
            format!(
                "{here} of {sent} requests of this node's clients were served on this node: others serve the rest"
            )
        };
        let (mut standing, whole) = shown.standing(&parts, elsewhere);
        if !whole {
            let both = counts.served.iter().zip(&counts.foreign);
            standing.counts = both.map(|(local, foreign)| local + foreign).collect();
            standing.requests = standing.counts.iter().sum();
        }
        standing
    }

    /// What reports say.
    pub(super) fn report(&self, state: &RuleState) -> Option<report::Split> {
        let rule = &state.rule;
        if rule.backends.len() < 2 {
            return None;
        }
        let standing = self.standing(rule);
        let all = float(standing.requests);
        let backends = rule.backends.iter().enumerate().map(|(place, backend)| {
            let requests = standing.counts.get(place).copied().unwrap_or_default();
            report::SplitBackend {
                host: backend.host.to_string(),
                subset: backend.subset.to_string(),
                declared: backend.share,
                observed: (standing.requests > 0).then(|| float(requests) / all),
                requests,
                served: self.total.served.get(place).copied().unwrap_or_default(),
            }
        });
        Some(report::Split {
            object: (&rule.object).into(),
            rule: rule.name.to_string(),
            host: state.hosts.join(", "),
            backends: backends.collect(),
            requests: standing.requests,
            sent: self.total.sent,
            strays: self.total.strays,
            unclear: self.vague.map(str::to_owned),
            p_value: standing.probability,
            verdict: standing.verdict.as_str(),
            why: standing.why,
        })
    }

    /// What is not as declared.
    pub(super) fn judge(&self, into: &mut Findings, judge: Judge, state: &RuleState) {
        let rule = &state.rule;
        if self.drift.count > 0 {
            let standing = self.standing(rule);
            if standing.verdict == Verdict::Violated {
                let mut evidence = self.drift.clone();
                evidence.count = standing.requests;
                let summary = format!(
                    "{}: {}, of {} requests (p = {:.1e}).",
                    state.words(),
                    standing.why,
                    standing.requests,
                    standing.probability.unwrap_or_default()
                );
                evidence.raise(into, state.key(Id::M13, ""), state.saying(summary));
            }
        }
        if self.stray.count >= judge.minimum && self.stray.stands(judge, self.all) {
            let summary = format!(
                "{} requests or connections that {} is to route were served by a backend that no rule leads to.",
                self.stray.count,
                words_of(&rule.object)
            );
            self.stray
                .raise(into, state.key(Id::M14, ""), state.saying(summary));
        }
        self.judge_mirrors(into, judge, state);
    }

    fn judge_mirrors(&self, into: &mut Findings, judge: Judge, state: &RuleState) {
        let declared: f64 = self.mirrors.iter().map(|(_, share)| share).sum();
        let counts = self.old.add(&self.young);
        let (sent, copies) = (counts.sent, counts.copies);
        // Without a pod of a mirror on this node, copies are made elsewhere.
        let seen = copies > 0 || counts.mirror_alive;
        if !(declared > 0.0 && seen && sent >= REQUESTS.max(judge.minimum)) {
            return;
        }
        let share = float(copies) / float(sent);
        let likely = fit(
            &[copies, sent.saturating_sub(copies)],
            &[declared.min(0.999_9), 1.0 - declared.min(0.999_9)],
        );
        let drifts = (share - declared).abs() > DRIFT && likely.is_some_and(|p| p < UNLIKELY);
        // More of them than were sent here are of other nodes' clients.
        if drifts && share <= 1.0 {
            let evidence = Evidence::lasting(self.since, judge.now, sent);
            let summary = format!(
                "{} copies {:.1} % of its requests, and {copies} of {sent} were copied ({:.1} %).",
                state.words(),
                100.0 * declared,
                100.0 * share
            );
            evidence.raise(into, state.key(Id::M19, ""), state.saying(summary));
        }
    }
}

// === impl Part ===

impl Part<'_> {
    fn name(&self) -> String {
        match self.subset {
            "" => self.host.to_owned(),
            subset => format!("{} {subset}", self.host),
        }
    }
}

// === impl Shown ===

impl Shown<'_> {
    /// How shares stand, and whether about as many were served as were sent; `elsewhere` says what it
    /// means if not.
    pub(in crate::mesh) fn standing(
        self,
        parts: &[Part<'_>],
        elsewhere: impl Fn(u64, u64) -> String,
    ) -> (Standing, bool) {
        let Self {
            sent,
            served,
            strays,
            unclear,
        } = self;
        let least = parts
            .iter()
            .map(|part| part.share)
            .filter(|share| *share > 0.0)
            .fold(1.0, f64::min);
        let needed = (EXPECTED / least).ceil().max(float(REQUESTS));
        let told: u64 = served.iter().sum();
        let here = told + strays;
        let missing = float(sent.abs_diff(here)) / float(sent.max(here)).max(1.0);
        let whole = missing <= MISSING;
        let mut standing = Standing {
            requests: told,
            counts: served,
            probability: None,
            worst: None,
            verdict: Verdict::Unknown,
            why: String::new(),
        };
        if let Some(why) = unclear {
            standing.why = why.to_owned();
        } else if !whole {
            standing.why = elsewhere(here, sent);
        } else if float(told) < needed {
            standing.why = format!("{told} requests are too few: {needed:.0} are needed");
        } else {
            standing.judge(parts, missing);
        }
        (standing, whole)
    }
}

// === impl Standing ===

impl Standing {
    fn judge(&mut self, parts: &[Part<'_>], missing: f64) {
        let all = float(self.requests).max(1.0);
        let shares: Vec<f64> = parts.iter().map(|part| part.share).collect();
        self.probability = fit(&self.counts, &shares);
        let worst = self
            .counts
            .iter()
            .zip(&shares)
            .enumerate()
            .map(|(place, (count, share))| (float(*count) / all - share, place))
            .max_by(|one, other| one.0.abs().total_cmp(&other.0.abs()));
        self.worst = worst;
        let Some((drift, part)) = worst.and_then(|(drift, at)| Some((drift, parts.get(at)?)))
        else {
            return;
        };
        let unlikely = self.probability.is_some_and(|p| p < UNLIKELY);
        // All that is missing may have been of one backend.
        let violated = unlikely && drift.abs() - missing > DRIFT;
        let share = part.share;
        self.verdict = match violated {
            true => Verdict::Violated,
            false => Verdict::Satisfied,
        };
        self.why = format!(
            "{} is to get {:.1} % and got {:.1} %",
            part.name(),
            100.0 * share,
            100.0 * (share + drift)
        );
    }
}
