//! One request and its response, as bytes on one socket told them.

use std::sync::Arc;

use super::{
    connection::{ConnectionId, Role},
    mesh::Forwarded,
    rpc::Rpc,
    time::Monotonic,
    trace::{Cause, TraceContext},
};

/// Version of HTTP on the wire (`network.protocol.version`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HttpVersion {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
    /// HTTP/2 (RFC 9113).
    Http2,
}

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Request and response were complete.
    Complete,
    /// The response switched the connection to another protocol (101, or 2xx to CONNECT).
    Tunnel,
    /// The client closed or reset the connection before the response was complete.
    ClientAborted,
    /// The server closed or reset the connection before the response was complete.
    ServerAborted,
    /// The connection ended, and who ended it is not known.
    Aborted,
    /// Bytes that would tell were lost to the observer.
    Lost,
    /// What followed was not HTTP.
    Malformed,
    /// The server said that it did not work on it: `REFUSED_STREAM`, or a GOAWAY with a lower
    /// stream (RFC 9113 sections 8.7 and 6.8).
    Refused,
}

/// A parsed request head. Equal heads are shared.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RequestHead {
    /// Method as sent (RFC 9110 section 9); empty when it was not seen.
    pub method: Box<str>,
    /// Path of the target, without query and fragment; `*` and authority-form (RFC 9112
    /// section 3.2) as they are; empty when it was not seen.
    pub path: Box<str>,
    /// A query followed the path. Its content is not kept.
    pub has_query: bool,
    /// Scheme of an absolute-form target (RFC 9112 section 3.2.2), or `:scheme`.
    pub scheme: Option<Box<str>>,
    /// `Host` header, or the authority of an absolute-form or authority-form target.
    pub authority: Box<str>,
    /// `User-Agent`, cut at 128 bytes.
    pub user_agent: Box<str>,
    /// Version.
    pub version: HttpVersion,
    /// The path was longer than what is kept.
    pub truncated: bool,
}

/// Times and sizes of one direction of an exchange.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Side {
    /// When the first byte passed the socket.
    pub first: Monotonic,
    /// When the last byte seen passed the socket.
    pub last: Monotonic,
    /// Bytes of the head: start line, fields and the empty line; for responses of the final head.
    pub head_bytes: u64,
    /// Bytes of the content: without chunk framing and trailers (`http.response.body.size`).
    pub body_bytes: u64,
}

/// One request and its response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// Of which connection.
    pub connection: ConnectionId,
    /// Which end the observed socket is: `Client` or `Server`.
    pub role: Role,
    /// Number of the exchange on its connection, from 0.
    pub ordinal: u64,
    /// The request head.
    pub request: Arc<RequestHead>,
    /// Times and sizes of the request.
    pub sent: Side,
    /// Status code of the final response; `None` when there was none.
    pub status: Option<u16>,
    /// Version of the response.
    pub response_version: Option<HttpVersion>,
    /// Times and sizes of the response; `None` when no byte of it came.
    pub received: Option<Side>,
    /// HTTP/2: the stream that carried it.
    pub stream: Option<u32>,
    /// HTTP/2: the server pushed it (RFC 9113 section 8.4).
    pub pushed: bool,
    /// HTTP/2: error code of the RST_STREAM or GOAWAY that ended it (RFC 9113 section 7).
    pub reset: Option<u32>,
    /// What it is as a remote procedure call; `None` when it is none.
    pub rpc: Option<Box<Rpc>>,
    /// How it ended.
    pub outcome: Outcome,
    /// When it ended: with its last byte, or with what aborted it.
    pub ended: Monotonic,
    /// Sequence number of the request's first byte and acknowledgement number of the segment that it came
    /// in, the same at both ends.
    pub hop: (u32, u32),
    /// What its fields say of its trace.
    pub context: Option<Arc<TraceContext>>,
    /// The request that made a client make this one, as far as threads show it.
    pub cause: Option<Cause>,
    /// What proxies told in its fields; `None` when they told nothing.
    pub forwarded: Option<Arc<Forwarded>>,
}

/// A request whose response is not complete yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InFlight {
    /// Of which connection.
    pub connection: ConnectionId,
    /// Which end the observed socket is.
    pub role: Role,
    /// The request head.
    pub request: Arc<RequestHead>,
    /// When its first byte passed the socket.
    pub since: Monotonic,
}

// === impl HttpVersion ===

impl HttpVersion {
    /// As in `network.protocol.version`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "1.0",
            Self::Http11 => "1.1",
            Self::Http2 => "2",
        }
    }
}

// === impl Outcome ===

impl Outcome {
    /// Of what was under way when a connection ended, by whether its client ended it; `None` when
    /// that is not known.
    pub const fn aborted_by(client: Option<bool>) -> Self {
        match client {
            Some(true) => Self::ClientAborted,
            Some(false) => Self::ServerAborted,
            None => Self::Aborted,
        }
    }

    /// Name in flows, JSON and labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Tunnel => "tunnel",
            Self::ClientAborted => "client_aborted",
            Self::ServerAborted => "server_aborted",
            Self::Aborted => "aborted",
            Self::Lost => "lost",
            Self::Malformed => "malformed",
            Self::Refused => "refused",
        }
    }
}

// === impl Exchange ===

impl Exchange {
    /// From the first byte of the request to the end, at this socket.
    pub fn duration(&self) -> std::time::Duration {
        self.ended.since(self.sent.first)
    }
}
