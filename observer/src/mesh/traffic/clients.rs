//! A client of a host with routes: requests that no rule matches, that go past the rules, or that a
//! limit refuses.

use super::{evidence::Evidence, party::Who, routes::Judge, statistics::float};
use crate::{
    mesh::findings::{Findings, Id, Key, Saying},
    model::{call::Call, time::Monotonic},
};

/// A client of a host with routes.
#[derive(Debug, Default)]
pub(super) struct ClientState {
    /// Requests.
    pub(super) requests: u64,
    /// Last of them.
    pub(super) last: Monotonic,
    /// Requests that match no rule, and got 404.
    pub(super) unmatched: Evidence,
    /// Requests that routes are declared for, and that went past them.
    pub(super) past: Evidence,
    /// Requests that a limit of rate refused.
    pub(super) limited: Evidence,
    /// Requests that the client's proxy refused, as when its limit of connections is reached.
    pub(super) overflown: Evidence,
}

/// Whether the client's own proxy made the response: nothing was sent on.
pub(super) fn answered_by_proxy(call: &Call) -> bool {
    let Some(forwarded) = &call.exchange.forwarded else {
        return false;
    };
    forwarded.proxy_error || forwarded.by_envoy && forwarded.upstream.is_none()
}

// === impl ClientState ===

impl ClientState {
    /// What is not as declared.
    pub(super) fn judge(&self, into: &mut Findings, judge: Judge, who: &Who, host: &str) {
        if self.requests < judge.minimum {
            return;
        }
        let key = |id| Key {
            id,
            workload: who.party().clone(),
            peer: None,
            port: 0,
            about: host.into(),
        };
        let share = |evidence: &Evidence| 100.0 * float(evidence.count) / float(self.requests);
        if self.unmatched.stands(judge, self.requests) {
            let summary = format!(
                "{} of {} requests of {} to {host} match no rule of its routes and got 404 ({:.1} %).",
                self.unmatched.count,
                self.requests,
                who.words(),
                share(&self.unmatched)
            );
            let saying = Saying {
                summary,
                because: self.unmatched.because.to_vec(),
                severity: None,
            };
            self.unmatched.raise(into, key(Id::M17), saying);
        }
        if self.past.count >= judge.minimum && self.past.stands(judge, self.requests) {
            let summary = format!(
                "Routes are declared for {host}, and {} requests of {} went past them.",
                self.past.count,
                who.words()
            );
            let saying = Saying {
                summary,
                because: self.past.because.to_vec(),
                severity: None,
            };
            self.past.raise(into, key(Id::M18), saying);
        }
        self.judge_limits(into, judge, who, host, &key);
    }

    fn judge_limits(
        &self,
        into: &mut Findings,
        judge: Judge,
        who: &Who,
        host: &str,
        key: &impl Fn(Id) -> Key,
    ) {
        let half = |evidence: &Evidence| evidence.count.saturating_mul(2) > self.requests;
        let saying = |evidence: &Evidence, summary| Saying {
            summary,
            because: evidence.because.to_vec(),
            severity: None,
        };
        let fresh = |evidence: &Evidence| {
            evidence.count >= judge.minimum && evidence.stands(judge, self.requests)
        };
        if fresh(&self.limited) && half(&self.limited) {
            let summary = format!(
                "A limit of rate refuses most requests of {} to {host}: {} of {}.",
                who.words(),
                self.limited.count,
                self.requests
            );
            self.limited
                .raise(into, key(Id::M35), saying(&self.limited, summary));
        }
        // When all fail it is something else: no endpoint, or no route.
        if fresh(&self.overflown) && !half(&self.overflown) {
            let summary = format!(
                "The proxy of {} refused {} of {} requests to {host} with 503 without sending them on, as when a limit of its connection pool is reached.",
                who.words(),
                self.overflown.count,
                self.requests
            );
            self.overflown
                .raise(into, key(Id::M24), saying(&self.overflown, summary));
        }
    }
}
