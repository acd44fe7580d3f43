//! What came of requests, and what is measured of them.

use crate::{
    aggregate::{
        distribution::Distribution,
        histogram::{BODY_BYTES, Histogram, REQUEST_MILLISECONDS},
    },
    model::{
        call::Call,
        connection::Role,
        exchange::{Outcome, Side},
        rpc::RpcEnd,
        time::Monotonic,
    },
};

/// What came of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Answer {
    /// 0 without a response.
    pub(super) status: u16,
    /// Status of gRPC.
    pub(super) grpc: Option<u32>,
    /// It is a remote procedure call.
    pub(super) rpc: bool,
    /// Who broke it off, if anybody did: the client or the server.
    pub(super) aborted_by: Option<Role>,
    /// It failed, by the rules of errors here.
    pub(super) failed: bool,
}

/// Measures of requests.
#[derive(Debug, Default)]
pub(super) struct Http {
    pub(super) requests: u64,
    pub(super) milliseconds: Distribution,
    pub(super) request_bytes: Histogram,
    pub(super) response_bytes: Histogram,
    pub(super) request_messages: u64,
    pub(super) response_messages: u64,
}

// === impl Answer ===

impl Answer {
    pub(super) fn of(call: &Call) -> Self {
        let exchange = &call.exchange;
        let rpc = exchange.rpc.as_deref();
        Self {
            status: exchange.status.unwrap_or(0),
            grpc: rpc.and_then(|rpc| match rpc.end {
                // There are 17, and whatever else a server makes up is UNKNOWN.
                RpcEnd::Status(code) => Some(if code < 17 { code } else { 2 }),
                RpcEnd::Cancelled => Some(1),
                RpcEnd::DeadlineExceeded => Some(4),
                RpcEnd::Unknown => None,
            }),
            rpc: rpc.is_some(),
            aborted_by: match exchange.outcome {
                Outcome::ClientAborted => Some(Role::Client),
                Outcome::ServerAborted => Some(Role::Server),
                _ => None,
            },
            failed: call.error.is_some(),
        }
    }
}

// === impl Http ===

impl Http {
    pub(super) fn observe(&mut self, call: &Call, now: Monotonic) {
        let exchange = &call.exchange;
        self.requests += 1;
        self.milliseconds
            .observe_duration(&REQUEST_MILLISECONDS, exchange.duration(), None, now);
        let size = |side: Side| side.head_bytes + side.body_bytes;
        self.request_bytes.observe(&BODY_BYTES, size(exchange.sent));
        let response = exchange.received.map_or(0, size);
        self.response_bytes.observe(&BODY_BYTES, response);
        if let Some(rpc) = &exchange.rpc {
            self.request_messages += rpc.requests.count;
            self.response_messages += rpc.responses.count;
        }
    }
}
