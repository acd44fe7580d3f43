//! One stream of HTTP/2: what was seen of a request and its response.

use std::{sync::Arc, time::Duration};

use crate::{
    assemble::grpc::{Calling, Format, Walker},
    model::{
        connection::{ConnectionId, Role},
        exchange::{Exchange, HttpVersion, Outcome, RequestHead, Side},
        mesh::Forwarded,
        rpc::{Rpc, RpcEnd},
        time::Monotonic,
        trace::TraceContext,
    },
};

/// The client's clock started before its request passed the socket, and the deadline is rounded:
/// a cancellation that comes this much early is one by the deadline.
const SLACK: Duration = Duration::from_millis(5);

/// A request that is under way.
#[derive(Debug)]
pub(super) struct Stream {
    /// Head of the request; `None` when its response came first.
    pub(super) request: Option<Arc<RequestHead>>,
    pub(super) ordinal: u64,
    pub(super) hop: (u32, u32),
    pub(super) sent: Side,
    /// The client has sent all.
    pub(super) sent_all: bool,
    pub(super) status: Option<u16>,
    pub(super) received: Option<Side>,
    /// The server has sent all.
    pub(super) received_all: bool,
    pub(super) pushed: bool,
    /// It is a CONNECT: a final 2xx makes a tunnel of it (RFC 9113 section 8.5).
    pub(super) connects: bool,
    /// It was told, and what follows on it is of no interest.
    pub(super) told: bool,
    /// Bytes of the client were missed since it began.
    pub(super) uncertain: bool,
    pub(super) rpc: Option<Box<Calling>>,
    /// What its fields say of its trace.
    pub(super) context: Option<Arc<TraceContext>>,
    /// What proxies told in its fields, and in those of its response once that is there.
    pub(super) forwarded: Option<Arc<Forwarded>>,
}

/// Whose exchange it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Whose {
    pub(super) connection: ConnectionId,
    pub(super) role: Role,
}

/// What ended a stream early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reset {
    pub(super) from_client: bool,
    pub(super) code: u32,
}

// === impl Stream ===

impl Stream {
    /// A stream whose first byte passed at `first`.
    pub(super) fn new(first: Monotonic, hop: (u32, u32)) -> Self {
        Self {
            request: None,
            ordinal: 0,
            hop,
            sent: Side {
                first,
                last: first,
                ..Side::default()
            },
            sent_all: false,
            status: None,
            received: None,
            received_all: false,
            pushed: false,
            connects: false,
            told: false,
            uncertain: false,
            rpc: None,
            context: None,
            forwarded: None,
        }
    }

    /// The side that has bytes of this direction: of a response, only once its head came.
    fn side(&mut self, from_client: bool) -> Option<&mut Side> {
        if from_client {
            Some(&mut self.sent)
        } else {
            self.received.as_mut()
        }
    }

    /// A frame passed.
    pub(super) fn touch(&mut self, from_client: bool, time: Monotonic) {
        if let Some(side) = self.side(from_client) {
            side.last = side.last.max(time);
        }
    }

    /// Content passed.
    pub(super) fn content(&mut self, from_client: bool, bytes: &[u8], time: Monotonic) {
        if let Some(messages) = self.count(from_client, bytes.len() as u64, time) {
            messages.push(bytes, time);
        }
    }

    /// Content passed that was not captured.
    pub(super) fn skipped(&mut self, from_client: bool, count: u64, time: Monotonic) {
        if let Some(messages) = self.count(from_client, count, time) {
            messages.skip(count, time);
        }
    }

    /// Counts content; returns what walks over the messages in it, if it has any.
    fn count(&mut self, from_client: bool, bytes: u64, time: Monotonic) -> Option<&mut Walker> {
        self.touch(from_client, time);
        if let Some(side) = self.side(from_client) {
            side.body_bytes += bytes;
        }
        let rpc = self.rpc.as_mut()?;
        if from_client {
            Some(&mut rpc.requests)
        } else {
            rpc.responses.as_mut()
        }
    }

    /// The request is one of gRPC.
    pub(super) fn calls(&mut self, format: Format, deadline: Option<Duration>) {
        self.rpc = Some(Box::new(Calling::new(format, deadline)));
    }

    /// Whether it is over.
    pub(super) fn is_over(&self) -> bool {
        self.sent_all && self.received_all
    }

    /// What it is when the server has sent all: without a head that is no response (RFC 9113
    /// section 8.1.1).
    pub(super) fn answered(&self) -> Outcome {
        if self.received.is_some() {
            Outcome::Complete
        } else {
            Outcome::Malformed
        }
    }

    /// When its last byte passed.
    pub(super) fn last_byte(&self) -> Monotonic {
        let last = self.received.map_or(self.sent.last, |side| side.last);
        last.max(self.sent.last)
    }

    /// The exchange; `None` when its request was never seen.
    pub(super) fn exchange(
        self,
        id: u32,
        whose: Whose,
        outcome: Outcome,
        reset: Option<Reset>,
        ended: Monotonic,
    ) -> Option<Exchange> {
        let rpc = self
            .rpc
            .as_deref()
            .map(|rpc| Box::new(self.rpc(rpc, reset, ended)));
        Some(Exchange {
            connection: whose.connection,
            role: whose.role,
            ordinal: self.ordinal,
            request: self.request?,
            sent: self.sent,
            status: self.status,
            response_version: self.received.map(|_| HttpVersion::Http2),
            received: self.received,
            stream: Some(id),
            pushed: self.pushed,
            reset: reset.map(|reset| reset.code),
            rpc,
            outcome,
            ended,
            hop: self.hop,
            context: self.context,
            cause: None,
            forwarded: self.forwarded,
        })
    }

    fn rpc(&self, rpc: &Calling, reset: Option<Reset>, ended: Monotonic) -> Rpc {
        let after = ended.since(self.sent.first);
        let cancelled = reset.filter(|reset| reset.from_client);
        let mut call = rpc.finish(cancelled.map(|_| after + after / 64 + SLACK));
        if call.end == RpcEnd::Unknown
            && let Some(Reset {
                from_client: false,
                code,
            }) = reset
        {
            call.end = of_error_code(code);
        }
        call
    }
}

/// What a client of gRPC makes of a stream that the server reset (gRPC over HTTP/2, "Errors").
fn of_error_code(code: u32) -> RpcEnd {
    match code {
        // REFUSED_STREAM: UNAVAILABLE.
        7 => RpcEnd::Status(14),
        // CANCEL.
        8 => RpcEnd::Cancelled,
        // ENHANCE_YOUR_CALM: RESOURCE_EXHAUSTED.
        11 => RpcEnd::Status(8),
        // INADEQUATE_SECURITY: PERMISSION_DENIED.
        12 => RpcEnd::Status(7),
        // The rest is INTERNAL.
        _ => RpcEnd::Status(13),
    }
}
