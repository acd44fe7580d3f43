//! Traces in flows.

use serde::Serialize;

use crate::model::{
    exchange::Exchange,
    trace::{SpanId, TraceId},
};

/// What a call's own fields say of its trace; part of [`super::CallLine`], all `null` when they say
/// nothing that can be read.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Traced {
    /// The trace, 32 hexadecimal digits.
    pub trace_id: Option<String>,
    /// The span that the caller sent the request for, 16 hexadecimal digits; `null` where only the
    /// trace is named.
    pub trace_parent: Option<String>,
    /// Whether the caller keeps the trace; `null` where that is left open.
    pub trace_sampled: Option<bool>,
    /// Which fields told: `tracecontext`, `b3`, `jaeger`, `xray`, `cloud_trace` or `request_id`.
    pub trace_source: Option<&'static str>,
}

// === impl Traced ===

impl Traced {
    /// What the request of `exchange` says.
    pub(super) fn of(exchange: &Exchange) -> Self {
        let Some(context) = exchange.context.as_deref() else {
            return Self::default();
        };
        Self {
            trace_id: Some(TraceId::to_string(&context.trace)),
            trace_parent: context.parent.as_ref().map(SpanId::to_string),
            trace_sampled: context.sampled,
            trace_source: Some(context.propagation.as_str()),
        }
    }
}
