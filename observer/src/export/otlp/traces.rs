//! Spans as OTLP: one `ResourceSpans` for each service in a request.
//!
//! Beside what [`super::call`] and [`super::lookup`] tell, a span has `observer.parent.source` (how
//! its parent was found: `root`, `hop`, `thread`, or the fields that named it),
//! `observer.sampling.reason` (`sampled`, `failed`, `slow`) and, unless that is switched off,
//! `span.metrics.skip`: its measures are exported already, and need not be made of spans again.

use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    trace::v1::{
        ResourceSpans, ScopeSpans, Span as Message, SpanFlags, Status,
        span::{Link, SpanKind},
        status::StatusCode,
    },
};

use super::{
    attributes::Attributes,
    call, lookup,
    resource::{Resources, SCHEMA_URL, address, scope},
};
use crate::{
    export::about::About,
    model::{
        connection::Role,
        span::{Span, SpanLink, Subject},
        time::Monotonic,
        trace::{ParentSource, Propagation, SpanId, TraceId},
        workload::Workload,
    },
};

/// Says that no measures are to be made of a span.
pub const SKIP_METRICS: &str = "span.metrics.skip";
/// How the parent was found.
pub const PARENT_SOURCE: &str = "observer.parent.source";
/// Why a span is in the sample.
pub const SAMPLING_REASON: &str = "observer.sampling.reason";
/// Whether a link is to the cause for certain.
pub const LINK_CERTAIN: &str = "observer.link.certain";

/// Makes requests of spans.
#[derive(Debug)]
pub struct Encoder {
    resources: Resources,
    skip_metrics: bool,
    invalid: u64,
}

/// Bit of the trace flags: the trace is kept (W3C Trace Context, section 3.2.2.5.1).
const SAMPLED: u32 = 1;

// === impl Encoder ===

impl Encoder {
    /// Makes spans with `span.metrics.skip` where that is wanted.
    pub fn new(skip_metrics: bool) -> Self {
        Self {
            resources: Resources::default(),
            skip_metrics,
            invalid: 0,
        }
    }

    /// Spans that were left out so far: an id of theirs was all zero, which no receiver takes.
    pub const fn invalid(&self) -> u64 {
        self.invalid
    }

    /// A request with all of `spans`, by service, in their order.
    pub fn encode(&mut self, spans: &[Span], about: &About) -> ExportTraceServiceRequest {
        let mut groups: Vec<ResourceSpans> = Vec::new();
        let mut places: HashMap<usize, usize, RandomState> = HashMap::default();
        for span in spans {
            if !is_valid(span.trace, span.id) {
                self.invalid += 1;
                continue;
            }
            let workload = workload(&span.subject);
            let place = *places.entry(address(workload)).or_insert_with(|| {
                groups.push(ResourceSpans {
                    resource: Some(self.resources.get(workload, about)),
                    scope_spans: vec![ScopeSpans {
                        scope: Some(scope(about)),
                        spans: Vec::new(),
                        schema_url: SCHEMA_URL.to_owned(),
                    }],
                    schema_url: SCHEMA_URL.to_owned(),
                });
                groups.len() - 1
            });
            let group = groups.get_mut(place);
            if let Some(group) = group.and_then(|group| group.scope_spans.first_mut()) {
                group.spans.push(self.message(span, about));
            }
        }
        ExportTraceServiceRequest {
            resource_spans: groups,
        }
    }

    fn message(&self, span: &Span, about: &About) -> Message {
        let (name, role, start, end, failed) = match &span.subject {
            Subject::Call(call) => {
                let exchange = &call.exchange;
                let (start, end) = (exchange.sent.first, exchange.ended);
                let failed = call.error.is_some();
                (call::name(call), exchange.role, start, end, failed)
            }
            Subject::Lookup(resolution) => {
                let lookup = &resolution.lookup;
                let failed = lookup.error().is_some();
                let name = lookup::name(resolution);
                (name, lookup.role, lookup.sent, lookup.ended, failed)
            }
        };
        let kind = match role {
            Role::Client => SpanKind::Client,
            Role::Server | Role::Unknown => SpanKind::Server,
        };
        let nanoseconds = |at: Monotonic| about.offset.unix_nanoseconds(at);
        let parent = span.parent.filter(|parent| parent.0 != [0; 8]);
        Message {
            trace_id: span.trace.0.to_vec(),
            span_id: span.id.0.to_vec(),
            trace_state: state(span).to_owned(),
            parent_span_id: parent.map(|parent| parent.0.to_vec()).unwrap_or_default(),
            flags: flags(span),
            name,
            kind: kind.into(),
            start_time_unix_nano: nanoseconds(start),
            end_time_unix_nano: nanoseconds(end.max(start)),
            attributes: self.attributes(span),
            links: span.link.iter().filter_map(link).collect(),
            // What is no error is left open, as the conventions want it; `error.type` says why it
            // is one.
            status: failed.then(|| Status {
                code: StatusCode::Error.into(),
                message: String::new(),
            }),
            ..Message::default()
        }
    }

    fn attributes(&self, span: &Span) -> Vec<opentelemetry_proto::tonic::common::v1::KeyValue> {
        let mut out = Attributes::with_capacity(call::CAPACITY);
        match &span.subject {
            Subject::Call(call) => call::push(&mut out, call),
            Subject::Lookup(resolution) => lookup::push(&mut out, resolution),
        }
        out.text(PARENT_SOURCE, span.source.as_str());
        out.text(SAMPLING_REASON, span.kept.as_str());
        if self.skip_metrics {
            out.flag(SKIP_METRICS, true);
        }
        out.0
    }
}

fn is_valid(trace: TraceId, id: SpanId) -> bool {
    trace.0 != [0; 16] && id.0 != [0; 8]
}

fn workload(subject: &Subject) -> &Arc<Workload> {
    match subject {
        Subject::Call(call) => &call.link.workload,
        Subject::Lookup(resolution) => &resolution.workload,
    }
}

/// `tracestate` that came with the trace that the span is in.
fn state(span: &Span) -> &str {
    match &span.context {
        Some(context)
            if context.trace == span.trace && context.propagation == Propagation::TraceContext =>
        {
            &context.state
        }
        _ => "",
    }
}

/// Flags of the trace, and whether the parent is in another process, where that is known.
fn flags(span: &Span) -> u32 {
    let known = SpanFlags::ContextHasIsRemoteMask as u32;
    let remote = known | SpanFlags::ContextIsRemoteMask as u32;
    let client = match &span.subject {
        Subject::Call(call) => call.exchange.role == Role::Client,
        Subject::Lookup(resolution) => resolution.lookup.role == Role::Client,
    };
    let place = match span.source {
        ParentSource::Root | ParentSource::Thread => known,
        ParentSource::Hop => remote,
        // What a client sends may be its own span, or one that it only passes on.
        ParentSource::Header(_) if client => 0,
        ParentSource::Header(_) => remote,
    };
    place | trace_flags(span)
}

/// A span that is sent is sampled, unless its caller said that the trace is not.
fn trace_flags(span: &Span) -> u32 {
    match &span.context {
        Some(context) if context.trace == span.trace && context.sampled == Some(false) => 0,
        _ => SAMPLED,
    }
}

fn link(link: &SpanLink) -> Option<Link> {
    if !is_valid(link.trace, link.id) {
        return None;
    }
    let mut out = Attributes::with_capacity(1);
    out.flag(LINK_CERTAIN, link.certain);
    Some(Link {
        trace_id: link.trace.0.to_vec(),
        span_id: link.id.0.to_vec(),
        attributes: out.0,
        // A thread found it, and threads are of one process.
        flags: SpanFlags::ContextHasIsRemoteMask as u32,
        ..Link::default()
    })
}

#[cfg(test)]
mod tests;
