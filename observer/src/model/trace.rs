//! Traces: names of traces and spans, what a request says of its own trace, and what caused it.

use std::fmt;

use super::connection::ConnectionId;

/// Name of a trace, 16 bytes, never all zero (W3C Trace Context, section 3.2.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceId(pub [u8; 16]);

/// Name of a span within its trace, 8 bytes, never all zero (W3C Trace Context, section 3.2.2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpanId(pub [u8; 8]);

/// Which fields of a request told its trace, the strongest first where there are several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Propagation {
    /// `traceparent` and `tracestate` (W3C Trace Context).
    TraceContext,
    /// `b3`, or `x-b3-traceid` and its fellows (Zipkin).
    B3,
    /// `uber-trace-id` (Jaeger).
    Jaeger,
    /// `x-amzn-trace-id` (AWS X-Ray).
    XRay,
    /// `x-cloud-trace-context` (Google Cloud).
    CloudTrace,
    /// `x-request-id` with a UUID, as Envoy makes them: it names a trace, and no span in it.
    RequestId,
}

/// What the fields of a request say of the trace that it belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TraceContext {
    /// Which fields told it.
    pub propagation: Propagation,
    /// The trace.
    pub trace: TraceId,
    /// The span that the caller sent the request for; `None` where the fields name none.
    pub parent: Option<SpanId>,
    /// Whether the caller keeps the trace; `None` where the fields leave that open.
    pub sampled: Option<bool>,
    /// `tracestate`, joined as one list, at most 512 bytes; empty without.
    pub state: Box<str>,
}

/// The request that a thread had read, and not answered yet, when it wrote another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cause {
    /// The connection that the thread had read from.
    pub inbound: ConnectionId,
    /// TCP sequence number behind the first byte that the thread had read of the request: the last
    /// one on that connection whose first byte is before it is meant.
    pub sequence: u32,
    /// The thread waits for one request after the other, and its process was never seen to hand
    /// one to another thread. Without that it is the one request that the thread had read and not
    /// answered, and may be the wrong one.
    pub certain: bool,
}

/// How the parent of a span was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ParentSource {
    /// It has none.
    Root,
    /// The request's own fields name it.
    Header(Propagation),
    /// It is the other end of the same request: both ends derive the same ids.
    Hop,
    /// The thread that wrote the request had read the parent's.
    Thread,
}

// === impl TraceId ===

impl TraceId {
    /// `None` for the invalid id, all zero.
    pub fn new(bytes: [u8; 16]) -> Option<Self> {
        (bytes != [0; 16]).then_some(Self(bytes))
    }
}

impl fmt::Display for TraceId {
    /// 32 hexadecimal digits in lower case.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", u128::from_be_bytes(self.0))
    }
}

// === impl SpanId ===

impl SpanId {
    /// `None` for the invalid id, all zero.
    pub fn new(bytes: [u8; 8]) -> Option<Self> {
        (bytes != [0; 8]).then_some(Self(bytes))
    }
}

impl fmt::Display for SpanId {
    /// 16 hexadecimal digits in lower case.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}", u64::from_be_bytes(self.0))
    }
}

// === impl Propagation ===

impl Propagation {
    /// Name in flows, JSON and attributes of spans.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TraceContext => "tracecontext",
            Self::B3 => "b3",
            Self::Jaeger => "jaeger",
            Self::XRay => "xray",
            Self::CloudTrace => "cloud_trace",
            Self::RequestId => "request_id",
        }
    }
}

// === impl ParentSource ===

impl ParentSource {
    /// Name in JSON and in the attribute `observer.parent.source` of spans.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Header(propagation) => propagation.as_str(),
            Self::Hop => "hop",
            Self::Thread => "thread",
        }
    }
}
