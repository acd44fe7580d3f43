//! Spans: calls and lookups with their place in a trace.

use std::sync::Arc;

use super::{
    call::Call,
    lookup::Resolution,
    trace::{ParentSource, SpanId, TraceContext, TraceId},
};

/// One span. Who, what, when and how it ended are those of its subject: a server's call is a
/// span of kind `SERVER`, a client's call and a lookup are of kind `CLIENT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its trace.
    pub trace: TraceId,
    /// Its own name in it.
    pub id: SpanId,
    /// The span that it is a part of.
    pub parent: Option<SpanId>,
    /// How the parent was found.
    pub source: ParentSource,
    /// What the request's fields said, if anything: `tracestate` and flags are taken from it.
    pub context: Option<Arc<TraceContext>>,
    /// Another span that it probably, or certainly but in another trace, belongs to.
    pub link: Option<SpanLink>,
    /// Why it was kept.
    pub kept: Kept,
    /// What it tells of.
    pub subject: Subject,
}

/// A span of another trace, or one that may be the cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanLink {
    /// Its trace.
    pub trace: TraceId,
    /// Its name.
    pub id: SpanId,
    /// It is the cause for certain; otherwise it was the last request that the thread had read.
    pub certain: bool,
}

/// What a span tells of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A call, seen at one end.
    Call(Box<Call>),
    /// A lookup of DNS.
    Lookup(Box<Resolution>),
}

/// An entry of the access log: a call that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// The call.
    pub call: Box<Call>,
    /// Its span, if that was kept.
    pub span: Option<(TraceId, SpanId)>,
}

/// Why a span is in the sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kept {
    /// By its trace: all of them, its share, or as the caller decided.
    Sampled,
    /// It failed.
    Failed,
    /// It took long.
    Slow,
}

// === impl Kept ===

impl Kept {
    /// Name in JSON and in the attribute `observer.sampling.reason` of spans.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sampled => "sampled",
            Self::Failed => "failed",
            Self::Slow => "slow",
        }
    }
}
