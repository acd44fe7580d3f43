//! Telemetry out: where OTLP goes, how, and how much of it may wait.

mod metrics;
mod parse;

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use hyper::header::{HeaderName, HeaderValue};

pub use metrics::{OtlpHistograms, Temporality};
pub(super) use parse::{bounded, compression, endpoint, header, headers, protocol};

/// Telemetry out. Nothing is sent to where no endpoint is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Otlp {
    /// Where all signals go that say nothing else; paths of HTTP are appended to its own.
    pub endpoint: Option<Endpoint>,
    /// How it is spoken.
    pub protocol: OtlpProtocol,
    /// Fields of every request.
    pub headers: Headers,
    /// How bodies are packed.
    pub compression: OtlpCompression,
    /// For one request, from connecting to the end of its response.
    pub timeout: Duration,
    /// Files of TLS.
    pub tls: OtlpTls,
    /// What differs for spans.
    pub traces: OtlpSignal,
    /// What differs for metrics.
    pub metrics: OtlpSignal,
    /// What differs for logs.
    pub logs: OtlpSignal,
    /// Spans say that no measures are to be made of them, as they are exported already.
    pub span_metrics_skip: bool,
    /// What counters and histograms tell.
    pub temporality: Temporality,
    /// Which buckets histograms have.
    pub histograms: OtlpHistograms,
    /// Between two exports of metrics.
    pub interval: Duration,
    /// Most items that wait, for each signal.
    pub queue_items: u32,
    /// Most bytes that wait, for each signal.
    pub queue_bytes: u64,
    /// Items that make a request.
    pub batch_items: u32,
    /// Longest time that an item waits for others.
    pub batch_delay: Duration,
    /// Longest time that a request is tried again.
    pub max_elapsed: Duration,
}

/// What differs for one signal; `None` where it does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtlpSignal {
    /// Whether it is sent.
    pub enabled: bool,
    /// Where it goes, path and all.
    pub endpoint: Option<Endpoint>,
    /// How it is spoken.
    pub protocol: Option<OtlpProtocol>,
    /// Fields of its requests, instead of those of all.
    pub headers: Option<Headers>,
    /// How its bodies are packed.
    pub compression: Option<OtlpCompression>,
    /// For one of its requests.
    pub timeout: Option<Duration>,
    /// Its files of TLS, each instead of that of all.
    pub tls: OtlpTls,
}

/// Where a collector is.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Whether it is `https`.
    pub tls: bool,
    /// Name or address, without brackets.
    pub host: Arc<str>,
    /// `None` where it was not written.
    pub port: Option<u16>,
    /// Path, empty or with `/` in front.
    pub path: Arc<str>,
}

/// How OTLP is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OtlpProtocol {
    /// gRPC at port 4317, HTTP at any other.
    #[default]
    Auto,
    /// gRPC.
    Grpc,
    /// Protobuf over HTTP/1.1.
    HttpProtobuf,
}

/// How bodies of requests are packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OtlpCompression {
    /// gzip.
    #[default]
    Gzip,
    /// Not at all.
    None,
}

/// Files of TLS, PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OtlpTls {
    /// Authorities that the collector's certificate must be signed by; `None`: those of the system.
    pub ca: Option<PathBuf>,
    /// Our certificate, and those that lead to its authority.
    pub certificate: Option<PathBuf>,
    /// Its private key.
    pub key: Option<PathBuf>,
}

/// Fields of requests. Their values may be secrets, and are never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(pub Vec<(HeaderName, HeaderValue)>);

/// One kind of telemetry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signal {
    /// Spans.
    Traces,
    /// Metrics.
    Metrics,
    /// Log records.
    Logs,
}

/// Where one signal goes, and how: all that was set, resolved.
#[derive(Clone, PartialEq, Eq)]
pub struct Destination {
    /// Which signal.
    pub signal: Signal,
    /// Whether TLS is spoken.
    pub secure: bool,
    /// Name or address, without brackets.
    pub host: Arc<str>,
    /// Port.
    pub port: u16,
    /// gRPC; protobuf over HTTP/1.1 otherwise.
    pub grpc: bool,
    /// Path of requests.
    pub path: Arc<str>,
    /// Fields of requests.
    pub headers: Headers,
    /// How bodies are packed.
    pub compression: OtlpCompression,
    /// For one request, from connecting to the end of its response.
    pub timeout: Duration,
    /// Files of TLS.
    pub tls: OtlpTls,
}

/// Port of OTLP over gRPC.
const GRPC_PORT: u16 = 4317;
/// Port of OTLP over HTTP.
const HTTP_PORT: u16 = 4318;

// === impl Otlp ===

impl Default for Otlp {
    fn default() -> Self {
        Self {
            endpoint: None,
            protocol: OtlpProtocol::Auto,
            headers: Headers::default(),
            compression: OtlpCompression::Gzip,
            timeout: Duration::from_secs(10),
            tls: OtlpTls::default(),
            traces: OtlpSignal::default(),
            metrics: OtlpSignal::default(),
            logs: OtlpSignal::default(),
            span_metrics_skip: true,
            temporality: Temporality::Cumulative,
            histograms: OtlpHistograms::Auto,
            interval: Duration::from_secs(60),
            queue_items: 16_384,
            queue_bytes: 16 << 20,
            batch_items: 1_024,
            batch_delay: Duration::from_secs(1),
            max_elapsed: Duration::from_secs(60),
        }
    }
}

impl Otlp {
    /// What differs for a signal.
    pub fn of(&self, signal: Signal) -> &OtlpSignal {
        match signal {
            Signal::Traces => &self.traces,
            Signal::Metrics => &self.metrics,
            Signal::Logs => &self.logs,
        }
    }

    pub(super) fn of_mut(&mut self, signal: Signal) -> &mut OtlpSignal {
        match signal {
            Signal::Traces => &mut self.traces,
            Signal::Metrics => &mut self.metrics,
            Signal::Logs => &mut self.logs,
        }
    }

    /// Where a signal goes; `None` where it is not sent.
    pub fn destination(&self, signal: Signal) -> Option<Destination> {
        let own = self.of(signal);
        let endpoint = own.endpoint.as_ref().or(self.endpoint.as_ref())?;
        if !own.enabled {
            return None;
        }
        let grpc = match own.protocol.unwrap_or(self.protocol) {
            OtlpProtocol::Grpc => true,
            OtlpProtocol::HttpProtobuf => false,
            OtlpProtocol::Auto => endpoint.port == Some(GRPC_PORT),
        };
        let port = endpoint.port.unwrap_or(match (endpoint.tls, grpc) {
            (true, _) => 443,
            (false, true) => GRPC_PORT,
            (false, false) => HTTP_PORT,
        });
        let path: Arc<str> = if grpc {
            signal.procedure().into()
        } else if own.endpoint.is_none() {
            let base = endpoint.path.trim_end_matches('/');
            format!("{base}/v1/{}", signal.as_str()).into()
        } else if endpoint.path.is_empty() {
            "/".into()
        } else {
            Arc::clone(&endpoint.path)
        };
        let file = |own: &Option<PathBuf>, all: &Option<PathBuf>| own.clone().or(all.clone());
        Some(Destination {
            signal,
            secure: endpoint.tls,
            host: Arc::clone(&endpoint.host),
            port,
            grpc,
            path,
            headers: own.headers.clone().unwrap_or_else(|| self.headers.clone()),
            compression: own.compression.unwrap_or(self.compression),
            timeout: own.timeout.unwrap_or(self.timeout),
            tls: OtlpTls {
                ca: file(&own.tls.ca, &self.tls.ca),
                certificate: file(&own.tls.certificate, &self.tls.certificate),
                key: file(&own.tls.key, &self.tls.key),
            },
        })
    }

    /// What is wrong with settings that are right by themselves: key, and problem.
    pub(super) fn problem(&self) -> Option<(String, String)> {
        Signal::ALL.into_iter().find_map(|signal| {
            let tls = self.destination(signal)?.tls;
            let missing = match (tls.certificate.is_some(), tls.key.is_some()) {
                (true, false) => "key",
                (false, true) => "certificate",
                _ => return None,
            };
            Some((
                format!("otlp.tls.{missing}"),
                "a client has both a certificate and its key, or none of them".to_owned(),
            ))
        })
    }
}

// === impl OtlpSignal ===

impl Default for OtlpSignal {
    fn default() -> Self {
        Self {
            enabled: true,
            endpoint: None,
            protocol: None,
            headers: None,
            compression: None,
            timeout: None,
            tls: OtlpTls::default(),
        }
    }
}

// === impl Signal ===

impl Signal {
    /// All signals.
    pub const ALL: [Self; 3] = [Self::Traces, Self::Metrics, Self::Logs];

    /// Name in paths, labels and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Metrics => "metrics",
            Self::Logs => "logs",
        }
    }

    /// Path of its procedure in gRPC.
    const fn procedure(self) -> &'static str {
        match self {
            Self::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            Self::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
            Self::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
        }
    }
}

// === impl Endpoint ===

impl fmt::Debug for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            tls,
            host,
            port,
            path,
        } = self;
        let scheme = if *tls { "https" } else { "http" };
        write!(formatter, "{scheme}://{host}")?;
        if let Some(port) = port {
            write!(formatter, ":{port}")?;
        }
        // A path may be a secret of a vendor's.
        formatter.write_str(if path.is_empty() { "" } else { "/…" })
    }
}

// === impl Headers ===

impl fmt::Debug for Headers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.iter().map(|(name, _)| name.as_str());
        formatter.debug_list().entries(names).finish()
    }
}

// === impl Destination ===

impl Destination {
    /// Host and port, as in a URL.
    pub fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        }
    }

    /// Where it is, for people: without its path, which may be a secret.
    pub fn shown(&self) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        format!("{scheme}://{}", self.authority())
    }

    /// Name of the protocol.
    pub const fn protocol(&self) -> &'static str {
        if self.grpc { "grpc" } else { "http/protobuf" }
    }
}

impl fmt::Debug for Destination {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Destination")
            .field("signal", &self.signal)
            .field("to", &self.shown())
            .field("protocol", &self.protocol())
            .field("headers", &self.headers)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
