//! One entry of the access log as a line of JSON.

use std::sync::Arc;

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, KeyValue, any_value::Value},
    logs::v1::LogRecord,
    resource::v1::Resource,
};
use serde::{
    Serialize, Serializer,
    ser::{SerializeMap as _, SerializeSeq as _},
};

use crate::{
    export::{
        about::About,
        otlp::{logs::record, resource::Resources},
    },
    model::{span::Access, time},
};

/// Makes lines.
#[derive(Debug, Default)]
pub(super) struct Lines {
    resources: Resources,
}

struct Line<'a> {
    record: &'a LogRecord,
    resource: &'a Resource,
}

struct Shown<'a>(&'a AnyValue);

// === impl Lines ===

impl Lines {
    /// Appends the line of `access`.
    pub(super) fn append(&mut self, out: &mut Vec<u8>, access: &Access, about: &Arc<About>) {
        let record = record(access, about);
        let resource = self.resources.get(&access.call.link.workload, about);
        let line = Line {
            record: &record,
            resource: &resource,
        };
        let start = out.len();
        // Texts and numbers always have a form in JSON, and memory takes them.
        if serde_json::to_writer(&mut *out, &line).is_err() {
            out.truncate(start);
            return;
        }
        out.push(b'\n');
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| char::from(DIGITS.get(usize::from(value)).copied().unwrap_or(b'0'));
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)])
        .collect()
}

// === impl Line ===

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let record = self.record;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("time", &time::rfc3339(record.time_unix_nano))?;
        map.serialize_entry("severity", &record.severity_text)?;
        if let Some(body) = &record.body {
            map.serialize_entry("message", &Shown(body))?;
        }
        map.serialize_entry("event", &record.event_name)?;
        for (key, id) in [("trace_id", &record.trace_id), ("span_id", &record.span_id)] {
            if !id.is_empty() {
                map.serialize_entry(key, &hexadecimal(id))?;
            }
        }
        for KeyValue { key, value, .. } in self.resource.attributes.iter().chain(&record.attributes)
        {
            if let Some(value) = value {
                map.serialize_entry(key, &Shown(value))?;
            }
        }
        map.end()
    }
}

// === impl Shown ===

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0.value {
            Some(Value::StringValue(text)) => serializer.serialize_str(text),
            Some(Value::BoolValue(flag)) => serializer.serialize_bool(*flag),
            Some(Value::IntValue(number)) => serializer.serialize_i64(*number),
            Some(Value::DoubleValue(number)) => serializer.serialize_f64(*number),
            Some(Value::ArrayValue(list)) => {
                let mut out = serializer.serialize_seq(Some(list.values.len()))?;
                for value in &list.values {
                    out.serialize_element(&Shown(value))?;
                }
                out.end()
            }
            // No attribute of ours is of another kind.
            Some(_) | None => serializer.serialize_none(),
        }
    }
}
