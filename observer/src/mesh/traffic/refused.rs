//! Requests that a proxy refused by policy, as their clients see them.

use std::sync::Arc;

use super::{
    Traffic,
    answers::Answers,
    ends::{self, ClientEnd},
    pairs::{Judged, Pair, PairKey},
    routes::Judge,
};
use crate::{
    mesh::decision::{Caller, Reason},
    model::{call::Call, exchange::Outcome},
};

/// Body of the response that Istio's proxies refuse a request with: `RBAC: access denied`.
const REFUSAL_BYTES: u64 = 19;
/// Whether a proxy refused a request by policy, rather than the application.
fn refused_by_policy(call: &Call) -> bool {
    let Some(forwarded) = &call.exchange.forwarded else {
        return false;
    };
    let body = call.exchange.received.map(|received| received.body_bytes);
    call.exchange.status == Some(403)
        && (forwarded.proxy_error
            || forwarded.by_envoy && (forwarded.upstream.is_none() || body == Some(REFUSAL_BYTES)))
}

impl Traffic {
    /// Takes a request that a proxy refused by policy: whether policy says so.
    pub(super) fn policed(
        &mut self,
        answers: &impl Answers,
        end: &ClientEnd,
        call: &Call,
        judge: Judge,
    ) {
        if !refused_by_policy(call) || call.exchange.outcome == Outcome::Lost {
            return;
        }
        let Some(server) = end.server_pod.as_ref().filter(|_| end.pod_port != 0) else {
            return;
        };
        let caller = Caller {
            pod: Some(&end.pod),
            identity: None,
            mutual: end.mutual,
            address: None,
        };
        let mut fields = Vec::new();
        let head = &call.exchange.request;
        let request = ends::request(head, ends::is_grpc(&call.exchange), &mut fields);
        let decision = answers.access(server, end.pod_port, &caller, Some(&request));
        let because: Arc<[Reason]> = decision.because.into();
        let settled = self.settled(answers.revision(), end.namespaces(&because), judge.now);
        let key = PairKey {
            client: end.who.clone(),
            identity: None,
            server: end.server.clone(),
            port: end.pod_port,
        };
        let place = self.pairs.place(&key, self.config.entries, Pair::default);
        let Some(pair) = place.and_then(|place| self.pairs.get_mut(place)) else {
            return;
        };
        let judged = Judged {
            access: &decision.value,
            because: &because,
            passed: false,
            settled,
        };
        if pair.take(judged, judge) {
            pair.against(false).call(call, judge.now);
        }
    }
}
