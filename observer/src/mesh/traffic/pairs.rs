//! What policy says of the requests from a client to a server, what was done with them, and how
//! often they were tried again.

use std::sync::Arc;

use super::{evidence::Evidence, party::Who, places::Places, routes::Judge, statistics::float};
use crate::{
    mesh::{
        decision::{Access, Reason},
        findings::{self, Findings, Id, Key, Saying, Severity},
        report,
    },
    model::{
        call::Call,
        mesh::{Identity, Verdict},
        time::Monotonic,
    },
};

/// Requests at a server for each first attempt, above which retries are said to multiply.
const AMPLIFIED: f64 = 1.2;
/// Methods that may be repeated (RFC 9110 section 9.2.2).
const IDEMPOTENT: [&str; 7] = ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", ""];

/// Who calls whom.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct PairKey {
    /// Who calls.
    pub(super) client: Who,
    /// Its proved identity.
    pub(super) identity: Option<Arc<Identity>>,
    /// Who is called.
    pub(super) server: Who,
    /// Port of the server's pod.
    pub(super) port: u16,
}

/// What was seen of it.
#[derive(Debug, Default)]
pub(super) struct Pair {
    /// Last request or connection.
    pub(super) last: Monotonic,
    allowed: u64,
    denied: u64,
    audited: u64,
    unknown: u64,
    refused: u64,
    /// Why the last was decided as it was.
    because: Arc<[Reason]>,
    /// Let pass against policy, and why it should not have been.
    leaked: Evidence,
    leak: Arc<[Reason]>,
    /// Refused against policy, and why it should not have been.
    barred: Evidence,
    bar: Arc<[Reason]>,
    /// Requests by attempt: the first, and all others.
    firsts: u64,
    again: u64,
    most: u16,
    limit: Option<u32>,
    retried: Evidence,
    exhausted: Evidence,
    repeated: Evidence,
}

/// What is known of one request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Judged<'a> {
    /// What policy says.
    pub(super) access: &'a Access,
    /// Why.
    pub(super) because: &'a Arc<[Reason]>,
    /// It reached the application.
    pub(super) passed: bool,
    /// Nothing that has to do with it changed lately.
    pub(super) settled: bool,
}

// === impl Pair ===

impl Pair {
    /// Takes a request or a connection. Whether it is against policy.
    pub(super) fn take(&mut self, judged: Judged<'_>, judge: Judge) -> bool {
        self.last = judge.now;
        let count = match judged.access {
            Access::Allowed => &mut self.allowed,
            Access::Denied => &mut self.denied,
            Access::Audited => &mut self.audited,
            Access::Unknown(_) => &mut self.unknown,
        };
        *count += 1;
        self.refused += u64::from(!judged.passed);
        if !Arc::ptr_eq(&self.because, judged.because) {
            self.because = judged.because.clone();
        }
        let against = match judged.access {
            Access::Denied => judged.passed,
            Access::Allowed => !judged.passed,
            Access::Audited | Access::Unknown(_) => false,
        };
        if !(against && judged.settled) {
            return false;
        }
        let why = match judged.passed {
            true => &mut self.leak,
            false => &mut self.bar,
        };
        *why = judged.because.clone();
        true
    }

    /// What shows that a request went against policy.
    pub(super) fn against(&mut self, passed: bool) -> &mut Evidence {
        let all = self.total();
        match passed {
            true => self.leaked.of(all),
            false => self.barred.of(all),
        }
    }

    /// Takes the attempt that a request was. `limit` is how many its rule allows.
    pub(super) fn attempt(&mut self, call: &Call, limit: Option<u32>, now: Monotonic) {
        let forwarded = call.exchange.forwarded.as_ref();
        let Some(attempt) = forwarded.and_then(|forwarded| forwarded.attempt) else {
            return;
        };
        if attempt <= 1 {
            self.firsts += 1;
            return;
        }
        self.again += 1;
        self.most = self.most.max(attempt);
        let all = self.firsts + self.again;
        self.retried.of(all).call(call, now);
        self.limit = limit.or(self.limit);
        if limit.is_some_and(|limit| u32::from(attempt) > limit) {
            self.exhausted.of(all).call(call, now);
        }
        if !IDEMPOTENT.contains(&&*call.exchange.request.method) && call.exchange.rpc.is_none() {
            self.repeated.of(all).call(call, now);
        }
    }

    fn total(&self) -> u64 {
        self.allowed + self.denied + self.audited + self.unknown
    }

    fn verdict(&self, judge: Judge) -> Verdict {
        let against = |evidence: &Evidence| evidence.stands(judge, self.total());
        if against(&self.leaked) || against(&self.barred) {
            return Verdict::Violated;
        }
        match self.unknown < self.total() {
            true => Verdict::Satisfied,
            false => Verdict::Unknown,
        }
    }

    fn judge(&self, into: &mut Findings, judge: Judge, key: &PairKey) {
        let of = |id, about: &str| Key {
            id,
            workload: key.server.party().clone(),
            peer: Some(key.client.party().clone()),
            port: key.port,
            about: about.into(),
        };
        let (client, server) = (key.client.words(), key.server.words());
        if self.leaked.stands(judge, self.total()) {
            let summary = format!(
                "{} requests of {client} reached {server} at port {}, and policy refuses them: it is not enforced.",
                self.leaked.count, key.port
            );
            let saying = Saying {
                summary,
                because: self.leak.to_vec(),
                severity: None,
            };
            self.leaked.raise(into, of(Id::M25, "passed"), saying);
        }
        if self.barred.stands(judge, self.total()) {
            let summary = format!(
                "{} requests of {client} to {server} were refused by a proxy, and policy allows them.",
                self.barred.count
            );
            let saying = Saying {
                summary,
                because: self.bar.to_vec(),
                severity: Some(Severity::Medium),
            };
            self.barred.raise(into, of(Id::M25, "refused"), saying);
        }
        self.judge_retries(into, judge, &of, (&client, &server));
    }

    fn judge_retries(
        &self,
        into: &mut Findings,
        judge: Judge,
        of: &impl Fn(Id, &str) -> Key,
        (client, server): (&str, &str),
    ) {
        if self.firsts + self.again < judge.minimum {
            return;
        }
        let saying = |summary| Saying {
            summary,
            because: vec![Reason::plain(
                "attempts as the proxy of the client counts them",
            )],
            severity: None,
        };
        let ratio = float(self.firsts + self.again) / float(self.firsts.max(1));
        let all = self.firsts + self.again;
        if self.exhausted.stands(judge, all) {
            let summary = format!(
                "{} requests of {client} reached {server} at their last attempt of {}: retries are used up.",
                self.exhausted.count,
                self.limit.unwrap_or_default().saturating_add(1)
            );
            let key = of(Id::M20, "last attempt");
            self.exhausted.raise(into, key, saying(summary));
        }
        if self.retried.stands(judge, all) && ratio > AMPLIFIED {
            let summary = format!(
                "{server} got {ratio:.2} requests for each that {client} made: {} are retries, up to attempt {}.",
                self.again, self.most
            );
            self.retried
                .raise(into, of(Id::M20, "ratio"), saying(summary));
        }
        if self.repeated.stands(judge, all) {
            let summary = format!(
                "{} requests of {client} to {server} were tried again though their methods must not be repeated.",
                self.repeated.count
            );
            self.repeated
                .raise(into, of(Id::M20, "not idempotent"), saying(summary));
        }
    }
}

/// What is not as declared.
pub(super) fn judge(pairs: &Places<PairKey, Pair>, into: &mut Findings, judge: Judge) {
    for (key, pair) in pairs.iter() {
        pair.judge(into, judge, key);
    }
}

/// What reports say.
pub(super) fn report(
    pairs: &Places<PairKey, Pair>,
    into: &mut Vec<report::Authorization>,
    judge: Judge,
) {
    let told = pairs.iter().filter(|(_, pair)| pair.total() > 0);
    into.extend(told.map(|(key, pair)| {
        report::Authorization {
            client: (**key.client.party()).clone(),
            identity: key
                .identity
                .as_ref()
                .map(|identity| identity.text.to_string()),
            server: (**key.server.party()).clone(),
            port: key.port,
            allowed: pair.allowed + pair.audited,
            denied: pair.denied,
            unknown: pair.unknown,
            refused: pair.refused,
            verdict: pair.verdict(judge).as_str(),
            because: findings::reasons(&pair.because),
        }
    }));
    into.sort_by(|one, other| {
        (&one.client, &one.identity, &one.server, one.port).cmp(&(
            &other.client,
            &other.identity,
            &other.server,
            other.port,
        ))
    });
}
