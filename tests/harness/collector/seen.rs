//! What a collector was sent, as tests look at it.

use std::{collections::BTreeMap, fmt};

use serde::Deserialize;
use serde_json::Value;

/// Attributes by name, each with the type of its value (`string`, `int`, `double`, `bool`, `array`).
#[derive(Clone, Default, PartialEq, Deserialize)]
pub struct Attributes(BTreeMap<String, (String, Value)>);

/// A request of the exporter.
#[derive(Clone, Debug, Deserialize)]
pub struct Request {
    /// Its number, from 1.
    pub number: u64,
    /// `traces`, `metrics` or `logs`.
    pub signal: String,
    /// How it was answered, as a status of gRPC.
    pub status: String,
    /// When it came, nanoseconds since 1970.
    pub received: u64,
    /// Bytes of its message, without compression.
    pub bytes: u64,
    /// Spans, points or records in it.
    pub items: u64,
    /// How many of them were said to be rejected.
    pub rejected: u64,
    /// Its headers, or its metadata, with names in lower case.
    pub headers: BTreeMap<String, String>,
    /// `grpc` or `http`.
    pub transport: String,
    /// HTTP: its `Content-Encoding`.
    #[serde(default)]
    pub encoding: String,
    /// Whether it was taken.
    pub taken: bool,
    /// Why its message could not be read.
    pub error: Option<String>,
}

/// Name and version of what made a telemetry item.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Scope {
    /// Name.
    pub name: String,
    /// Version.
    pub version: String,
}

/// A span. Ids are hexadecimal, and empty where there is none; times are nanoseconds since 1970.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct SpanSeen {
    /// Attributes of its resource.
    pub resource: Attributes,
    /// Version of the semantic conventions of its resource.
    pub schema: String,
    /// What made it.
    pub scope: Scope,
    /// Its trace.
    pub trace: String,
    /// Its id.
    pub id: String,
    /// Id of its parent.
    pub parent: String,
    /// `tracestate`.
    pub state: String,
    /// Flags: those of W3C, and whether the parent is remote.
    pub flags: u32,
    /// Name.
    pub name: String,
    /// `SERVER`, `CLIENT`.
    pub span_kind: String,
    /// When it started.
    pub start: u64,
    /// When it ended.
    pub end: u64,
    /// `UNSET`, `OK` or `ERROR`.
    pub status: String,
    /// Message of its status.
    pub message: String,
    /// Attributes.
    pub attributes: Attributes,
    /// Links.
    pub links: Vec<Link>,
    /// Events.
    pub events: Vec<Value>,
    /// Number of the request that it came in.
    pub number: u64,
}

/// A link of a span.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Link {
    /// Trace of the other span.
    pub trace: String,
    /// Its id.
    pub id: String,
    /// Attributes of the link.
    pub attributes: Attributes,
}

/// A point of a metric; what its form does not have is `None` or empty.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct MetricSeen {
    /// Attributes of its resource.
    pub resource: Attributes,
    /// What made it.
    pub scope: Scope,
    /// Name.
    pub name: String,
    /// Unit.
    pub unit: String,
    /// `gauge`, `sum`, `histogram`, `exponential_histogram` or `summary`.
    pub form: String,
    /// `DELTA`, `CUMULATIVE` or `UNSPECIFIED`.
    pub temporality: String,
    /// Whether a sum only grows.
    pub monotonic: Option<bool>,
    /// Attributes.
    pub attributes: Attributes,
    /// Start of the time that it tells of, nanoseconds since 1970.
    pub start: u64,
    /// End of that time.
    pub time: u64,
    /// Value of a gauge or a sum.
    #[serde(default)]
    pub value: Option<f64>,
    /// Values in a histogram.
    #[serde(default)]
    pub count: u64,
    /// Their sum.
    #[serde(default)]
    pub sum: Option<f64>,
    /// Upper bounds of the buckets of a histogram.
    #[serde(default)]
    pub bounds: Vec<f64>,
    /// Values in each bucket.
    #[serde(default)]
    pub counts: Vec<u64>,
    /// Exponential histogram: its scale.
    #[serde(default)]
    pub scale: Option<i32>,
    /// Exponential histogram: index of the first bucket.
    #[serde(default)]
    pub offset: i32,
    /// Exponential histogram: values that are zero.
    #[serde(default)]
    pub zero_count: u64,
    /// Examples of what was measured.
    #[serde(default)]
    pub exemplars: Vec<Exemplar>,
    /// Number of the request that it came in.
    pub number: u64,
}

/// An example of what was measured.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Exemplar {
    /// The trace.
    pub trace: String,
    /// The span.
    pub id: String,
    /// When, nanoseconds since 1970.
    pub time: u64,
    /// What was measured.
    pub value: f64,
}

/// A log record.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct LogSeen {
    /// Attributes of its resource.
    pub resource: Attributes,
    /// What made it.
    pub scope: Scope,
    /// When it happened, nanoseconds since 1970.
    pub time: u64,
    /// When it was observed.
    pub observed: u64,
    /// Number of its severity.
    pub severity: i32,
    /// Name of its severity.
    pub severity_text: String,
    /// Body, with its type.
    pub body: (String, Value),
    /// Name of the event.
    pub event: String,
    /// Its trace; empty without.
    pub trace: String,
    /// Its span; empty without.
    pub id: String,
    /// Attributes.
    pub attributes: Attributes,
    /// Number of the request that it came in.
    pub number: u64,
}

// === impl Attributes ===

impl Attributes {
    /// The value of `name`, `null` without.
    pub fn get(&self, name: &str) -> &Value {
        self.0.get(name).map_or(&Value::Null, |(_, value)| value)
    }

    /// The type of `name`, empty without.
    pub fn kind(&self, name: &str) -> &str {
        self.0.get(name).map_or("", |(kind, _)| kind)
    }

    /// The text of `name`; empty without, or where it is no text.
    pub fn text(&self, name: &str) -> &str {
        self.get(name).as_str().unwrap_or_default()
    }

    /// The integer of `name`.
    pub fn integer(&self, name: &str) -> Option<i64> {
        self.get(name).as_i64()
    }

    /// All names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Whether it has all of `wanted`, as texts.
    pub fn has(&self, wanted: &[(&str, &str)]) -> bool {
        wanted.iter().all(|(name, value)| self.text(name) == *value)
    }

    /// All of it as one text, in a fixed order: to tell series apart.
    pub fn key(&self) -> String {
        format!("{self:?}")
    }
}

impl fmt::Debug for Attributes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs = self
            .0
            .iter()
            .map(|(name, (_, value))| (name, value.to_string()));
        formatter.debug_map().entries(pairs).finish()
    }
}

// === impl SpanSeen ===

impl SpanSeen {
    /// Whether it is a server's.
    pub fn is_server(&self) -> bool {
        self.span_kind == "SERVER"
    }

    /// Whether it is a client's.
    pub fn is_client(&self) -> bool {
        self.span_kind == "CLIENT"
    }

    /// Path of its request: of a client's that of the whole address, of a procedure behind its
    /// slash. Empty where it tells none.
    pub fn path(&self) -> &str {
        for name in ["rpc.method_original", "rpc.method"] {
            let method = self.attributes.text(name);
            if !method.is_empty() {
                return method;
            }
        }
        let path = self.attributes.text("url.path");
        if !path.is_empty() {
            return path;
        }
        let full = self.attributes.text("url.full");
        let behind = full.split_once("://").map_or(full, |(_, behind)| behind);
        behind.find('/').map_or("", |start| &behind[start..])
    }

    /// `service.name` of its resource.
    pub fn service(&self) -> &str {
        self.resource.text("service.name")
    }

    /// How its parent was found.
    pub fn source(&self) -> &str {
        self.attributes.text("observer.parent.source")
    }

    /// It in one line.
    pub fn outline(&self) -> String {
        format!(
            "{} {} {} {}/{} under {} by {}, {} links",
            self.service(),
            self.span_kind,
            self.path(),
            self.trace,
            self.id,
            self.parent,
            self.source(),
            self.links.len()
        )
    }
}
