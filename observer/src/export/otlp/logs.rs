//! The access log as OTLP: one log record for each call, with the attributes of its span.
//!
//! A record is an event named `observer.access`: the conventions have none for a request that
//! ended. Its time is the end of the call; `observer.duration` is how long that took, seconds. Its
//! severity is `WARN` for what the client did wrong (4xx, and statuses of gRPC that are no fault of
//! the server), `ERROR` for every other failure, else `INFO`. The body is a line for people. It has the
//! ids of the call's span, or of its trace alone where the call has none.

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use opentelemetry_proto::tonic::{
    collector::logs::v1::ExportLogsServiceRequest,
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs, SeverityNumber},
};

use super::{
    attributes::{Attributes, text_value},
    call,
    resource::{Resources, SCHEMA_URL, address, scope},
};
use crate::{
    export::about::About,
    model::{
        call::Call,
        span::Access,
        trace::{SpanId, TraceId},
    },
};

/// Name of the event that a call ended.
pub const EVENT_NAME: &str = "observer.access";
/// How long the call took, seconds.
pub const DURATION: &str = "observer.duration";

/// Makes requests of entries of the access log.
#[derive(Debug, Default)]
pub struct Encoder {
    resources: Resources,
}

// === impl Encoder ===

impl Encoder {
    /// A request with all of `entries`, by service, in their order.
    pub fn encode(&mut self, entries: &[Access], about: &About) -> ExportLogsServiceRequest {
        let mut groups: Vec<ResourceLogs> = Vec::new();
        let mut places: HashMap<usize, usize, RandomState> = HashMap::default();
        for access in entries {
            let workload = &access.call.link.workload;
            let place = *places.entry(address(workload)).or_insert_with(|| {
                groups.push(ResourceLogs {
                    resource: Some(self.resources.get(workload, about)),
                    scope_logs: vec![ScopeLogs {
                        scope: Some(scope(about)),
                        log_records: Vec::new(),
                        schema_url: SCHEMA_URL.to_owned(),
                    }],
                    schema_url: SCHEMA_URL.to_owned(),
                });
                groups.len() - 1
            });
            let group = groups.get_mut(place);
            if let Some(group) = group.and_then(|group| group.scope_logs.first_mut()) {
                group.log_records.push(record(access, about));
            }
        }
        ExportLogsServiceRequest {
            resource_logs: groups,
        }
    }
}

/// One call as a log record.
pub fn record(access: &Access, about: &About) -> LogRecord {
    let call = &*access.call;
    let severity = severity(call);
    let ended = about.offset.unix_nanoseconds(call.exchange.ended);
    let mut out = Attributes::with_capacity(call::CAPACITY);
    call::push(&mut out, call);
    out.float(DURATION, call.exchange.duration().as_secs_f64());
    let (trace, span, sampled) = ids(access);
    LogRecord {
        time_unix_nano: ended,
        observed_time_unix_nano: ended,
        severity_number: severity.into(),
        severity_text: severity_text(severity).to_owned(),
        body: Some(text_value(&line(call))),
        attributes: out.0,
        flags: sampled.into(),
        trace_id: trace.map(|trace| trace.0.to_vec()).unwrap_or_default(),
        span_id: span.map(|span| span.0.to_vec()).unwrap_or_default(),
        event_name: EVENT_NAME.to_owned(),
        ..LogRecord::default()
    }
}

/// Of its span; else of the trace that its fields name, in which it has no span of ours.
fn ids(access: &Access) -> (Option<TraceId>, Option<SpanId>, bool) {
    if let Some((trace, span)) = access.span
        && trace.0 != [0; 16]
        && span.0 != [0; 8]
    {
        return (Some(trace), Some(span), true);
    }
    let context = access.call.exchange.context.as_deref();
    let context = context.filter(|context| context.trace.0 != [0; 16]);
    let sampled = context.is_some_and(|context| context.sampled == Some(true));
    (context.map(|context| context.trace), None, sampled)
}

fn severity(call: &Call) -> SeverityNumber {
    let exchange = &call.exchange;
    let refused = match exchange.rpc.as_deref() {
        Some(rpc) => rpc.end.status_name().is_some_and(|status| status != "OK"),
        None => exchange.status.is_some_and(|status| status >= 400),
    };
    match call.error {
        Some(error) if error.len() == 3 && error.starts_with('4') => SeverityNumber::Warn,
        Some(_) => SeverityNumber::Error,
        None if refused => SeverityNumber::Warn,
        None => SeverityNumber::Info,
    }
}

const fn severity_text(severity: SeverityNumber) -> &'static str {
    match severity {
        SeverityNumber::Error => "ERROR",
        SeverityNumber::Warn => "WARN",
        _ => "INFO",
    }
}

/// `GET /cart 200 12.3ms`: method, path without its query, status or what happened, duration.
fn line(call: &Call) -> String {
    let exchange = &call.exchange;
    let head = &exchange.request;
    let end = match exchange
        .rpc
        .as_deref()
        .and_then(|rpc| rpc.end.status_name())
    {
        Some(status) => status.to_owned(),
        None => match exchange.status {
            Some(status) => status.to_string(),
            None => exchange.outcome.as_str().to_owned(),
        },
    };
    let (method, path) = (known(&head.method), known(&head.path));
    let milliseconds = exchange.duration().as_secs_f64() * 1e3;
    format!("{method} {path} {end} {milliseconds:.3}ms")
}

fn known(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

#[cfg(test)]
mod tests;
