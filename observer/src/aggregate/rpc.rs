//! Remote procedure calls: durations and messages.

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
};

use crate::model::{
    call::Call,
    connection::Role,
    exchange::{Exchange, Outcome},
    rpc::{self, Rpc, RpcSystem},
    security::Security,
    time::Monotonic,
    trace::{SpanId, TraceId},
};

use super::{
    contract::OTHER_METHOD,
    distribution::Distribution,
    histogram::REQUEST_SECONDS,
    identity::{Identity, Interned},
    series::Labels,
};

/// What tells series of remote procedure calls apart.
#[derive(Clone, Debug)]
pub(super) struct RpcKey {
    identity: Interned,
    system: RpcSystem,
    route: Arc<str>,
    status: Option<&'static str>,
    error: Option<&'static str>,
    security: Security,
}

/// Measures of one series.
#[derive(Debug)]
pub(super) struct RpcCalls {
    pub(super) duration: Distribution,
    pub(super) sent_messages: u64,
    pub(super) received_messages: u64,
    /// Content of requests and responses of those with a duration.
    pub(super) body_bytes: u64,
}

// === impl RpcKey ===

impl RpcKey {
    pub(super) fn new(identity: Interned, call: &Call, rpc: &Rpc) -> Self {
        Self {
            identity,
            system: rpc.system,
            route: call.route.clone(),
            status: rpc.end.status_name(),
            error: call.error,
            security: call.secured(),
        }
    }

    pub(super) fn identity(&self) -> &Identity {
        &self.identity.0
    }

    /// `package.Service/Method`, or the system where that is not known (semantic conventions for
    /// RPC spans, "Name").
    pub(super) fn span_name(&self) -> &str {
        match method(&self.route) {
            "" | OTHER_METHOD => self.system.as_str(),
            method => method,
        }
    }

    pub(super) fn failed(&self) -> bool {
        self.error.is_some()
    }

    pub(super) fn labels(&self) -> Labels {
        self.identity.0.labels(&[
            ("rpc_system_name", self.system.as_str()),
            ("rpc_method", method(&self.route)),
            ("rpc_response_status_code", self.status.unwrap_or_default()),
            ("error_type", self.error.unwrap_or_default()),
            ("security", self.security.as_str()),
        ])
    }
}

/// `package.Service/Method`, as `rpc.method` has it; empty when the path was not seen. What was
/// made a template, or is beyond the budget of routes, is no name.
fn method(route: &str) -> &str {
    match route.strip_prefix('/') {
        None => "",
        Some(name) if rpc::names(route).is_some() && !name.contains(['{', '*']) => name,
        Some(_) => OTHER_METHOD,
    }
}

impl PartialEq for RpcKey {
    fn eq(&self, other: &Self) -> bool {
        self.identity == other.identity
            && self.system == other.system
            && self.status == other.status
            && self.error == other.error
            && self.security == other.security
            && self.route == other.route
    }
}

impl Eq for RpcKey {}

impl Hash for RpcKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.identity.hash(state);
        self.status.hash(state);
        self.route.hash(state);
    }
}

// === impl RpcCalls ===

impl RpcCalls {
    /// None yet; durations with exponential buckets or without.
    pub(super) fn new(exponential: bool) -> Self {
        Self {
            duration: Distribution::new(exponential),
            sent_messages: 0,
            received_messages: 0,
            body_bytes: 0,
        }
    }

    /// Counts a call that ended `now`; `span` is that of the call if it is in the sample.
    pub(super) fn observe(
        &mut self,
        exchange: &Exchange,
        rpc: &Rpc,
        span: Option<(TraceId, SpanId)>,
        now: Monotonic,
    ) {
        // The end of a lost exchange was not seen.
        if exchange.outcome != Outcome::Lost {
            self.duration
                .observe_duration(&REQUEST_SECONDS, exchange.duration(), span, now);
            let received = exchange.received.map_or(0, |side| side.body_bytes);
            self.body_bytes += exchange.sent.body_bytes + received;
        }
        let (sent, received) = match exchange.role {
            Role::Client => (rpc.requests, rpc.responses),
            Role::Server | Role::Unknown => (rpc.responses, rpc.requests),
        };
        self.sent_messages += sent.count;
        self.received_messages += received.count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_names_or_nothing() {
        for (route, expected) in [
            ("/a.B/C", "a.B/C"),
            ("/prefix/a.B/C", "prefix/a.B/C"),
            ("/*", "_OTHER"),
            ("/{text}/{id}", "_OTHER"),
            ("/healthz", "_OTHER"),
            ("", ""),
        ] {
            assert_eq!(method(route), expected, "{route}");
        }
    }
}
