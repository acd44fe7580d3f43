//! What is under way on an HTTP/1 connection: the state of each direction, and the requests that
//! wait.

use std::sync::Arc;

use super::{
    Piece,
    body::Body,
    head::{self, Request},
};
use crate::{
    assemble::grpc::Calling,
    model::{
        exchange::{HttpVersion, RequestHead, Side},
        mesh::Forwarded,
        time::Monotonic,
        trace::TraceContext,
    },
};

/// One direction of the connection.
#[derive(Debug)]
pub(super) enum Half {
    /// Between messages, or in a head of which not all is there.
    Head(Option<Box<Partial>>),
    /// In a body.
    Body(Body),
    /// Waits for the answer to CONNECT; what the client sends meanwhile is not looked at.
    Waiting,
    /// Nothing in this direction is looked at any more.
    Ignored,
}

/// A head of which not all is there.
#[derive(Debug)]
pub(super) struct Partial {
    pub(super) buffer: Vec<u8>,
    /// When its first byte passed.
    pub(super) first: Monotonic,
    /// When its last byte so far passed.
    pub(super) last: Monotonic,
    /// Sequence and acknowledgement number of its first byte.
    pub(super) hop: (u32, u32),
}

/// A request that is not answered in full.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) head: Arc<RequestHead>,
    pub(super) expects: Expects,
    pub(super) ordinal: u64,
    pub(super) sent: Side,
    pub(super) sent_all: bool,
    pub(super) hop: (u32, u32),
    pub(super) answer: Option<Answer>,
    /// What it is as a call, if it is one.
    pub(super) rpc: Option<Box<Calling>>,
    /// What its fields say of its trace.
    pub(super) context: Option<Arc<TraceContext>>,
    /// What proxies told in its fields, and in those of its response once that is there.
    pub(super) forwarded: Option<Arc<Forwarded>>,
}

/// What the request says of its response's framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expects {
    Content,
    NoContent,
    Tunnel,
}

/// The response so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) version: HttpVersion,
    pub(super) side: Side,
    pub(super) whole: bool,
}

// === impl Half ===

impl Half {
    /// The state after a head with this body; `None` for no body.
    pub(super) fn after(body: Option<Body>) -> Self {
        body.map_or(Self::Head(None), Self::Body)
    }

    /// Bytes ahead that need not be seen.
    pub(super) fn skippable(&self) -> u64 {
        match self {
            Self::Body(body) => body.skippable(),
            Self::Head(_) => 0,
            Self::Waiting | Self::Ignored => u64::MAX,
        }
    }

    /// Bytes of memory that it holds beyond itself.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Head(Some(partial)) => partial.buffer.capacity(),
            _ => 0,
        }
    }
}

// === impl Partial ===

impl Partial {
    pub(super) fn new(piece: Piece<'_>) -> Box<Self> {
        Box::new(Self {
            buffer: piece.bytes.to_vec(),
            first: piece.time,
            last: piece.time,
            hop: piece.hop,
        })
    }

    pub(super) fn add(&mut self, piece: Piece<'_>) {
        self.buffer.extend_from_slice(piece.bytes);
        self.last = self.last.max(piece.time);
    }
}

// === impl Pending ===

impl Pending {
    /// When the last byte of the request or of its response passed.
    pub(super) fn last_byte(&self) -> Monotonic {
        let received = self
            .answer
            .map_or(self.sent.last, |answer| answer.side.last);
        received.max(self.sent.last)
    }

    /// Whether the response is there in full.
    pub(super) fn is_answered(&self) -> bool {
        self.answer.is_some_and(|answer| answer.whole)
    }
}

// === impl Expects ===

impl Expects {
    pub(super) fn of(request: &Request<'_>) -> Self {
        match request.method {
            b"HEAD" => Self::NoContent,
            b"CONNECT" => Self::Tunnel,
            _ => Self::Content,
        }
    }
}

// === impl Answer ===

impl Answer {
    /// A response whose head is there.
    pub(super) fn new(response: head::Response, side: Side, whole: bool) -> Self {
        Self {
            status: response.status,
            version: response.version,
            side,
            whole,
        }
    }
}
