//! `observer flows`: calls, connections, lookups and datagrams, the last ones or live.

use std::io::{self, BufWriter, Write};

use anyhow::Context;
use serde_json::Value;

use super::{
    client,
    terminal::{Cell, Colour, Columns, Style, bytes, duration, quiet},
};

/// What to show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// URL of the observer, as `http://127.0.0.1:9920`.
    pub server: String,
    /// Go on with flows as they happen.
    pub follow: bool,
    /// So many of the last flows; without it 100, or none when following.
    pub last: Option<usize>,
    /// How to print.
    pub output: Output,
    /// Which flows.
    pub filters: Filters,
}

/// How flows are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Output {
    /// One short line each.
    #[default]
    Compact,
    /// One long line each: also addresses, sizes, process.
    Wide,
    /// JSON lines, as the server sends them.
    Json,
}

/// Conditions, all of which a flow must meet; the server checks and explains their form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters {
    /// Service whose socket it is; `*` for any characters, commas between alternatives.
    pub service: Option<String>,
    /// Service or address of the other end.
    pub peer: Option<String>,
    /// Port at either end.
    pub port: Option<String>,
    /// `http` for calls, `grpc` for remote procedure calls, `tcp` for connections, `dns` for
    /// lookups, `quic` and `udp` for datagrams.
    pub protocol: Option<String>,
    /// Request method.
    pub method: Option<String>,
    /// Start of the path, or a pattern with `*`.
    pub path: Option<String>,
    /// Status, class (`5xx`) or range (`400-499`), or name of a status of gRPC.
    pub status: Option<String>,
    /// Who secured the connection, or `encrypted`.
    pub security: Option<String>,
    /// Namespace of Kubernetes at either end.
    pub namespace: Option<String>,
    /// Pod at either end, alone or as `namespace/pod`.
    pub pod: Option<String>,
    /// Workload at either end, alone or as `kind/name`.
    pub workload: Option<String>,
    /// Node at either end.
    pub node: Option<String>,
    /// Service that the client dialled, alone or as `namespace/service`.
    pub dialled: Option<String>,
    /// Trace that the headers of a call name.
    pub trace: Option<String>,
    /// What the socket is on the way through a mesh.
    pub hop: Option<String>,
    /// Identity that a proxy proved.
    pub identity: Option<String>,
    /// Whether what was seen is what is declared.
    pub verdict: Option<String>,
    /// Shortest duration, as `250ms`.
    pub min_duration: Option<String>,
}

/// Prints flows until there are no more, or nobody reads them.
pub fn run(options: Options) -> anyhow::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    print(&options, Style::of_stdout(), &mut out)
}

/// As [`run`], to any writer.
fn print(options: &Options, style: Style, out: &mut impl Write) -> anyhow::Result<()> {
    let mut response = client::get(&options.server, &options.path(), options.follow)?;
    let mut columns = Columns::default();
    while let Some(line) = response.line().context("the observer stopped answering")? {
        let text = match options.output {
            Output::Json => line,
            Output::Compact | Output::Wide => {
                let flow: Value = serde_json::from_str(&line)
                    .context("the answer is not a flow; is this the observer's port?")?;
                columns.line(style, &cells(&flow, options.output == Output::Wide))
            }
        };
        let mut written = writeln!(out, "{text}");
        if options.follow {
            written = written.and_then(|()| out.flush());
        }
        if !quiet(written)? {
            return Ok(());
        }
    }
    quiet(out.flush())?;
    Ok(())
}

// === impl Options ===

impl Options {
    /// Path and query to ask for.
    fn path(&self) -> String {
        let mut path = format!("/api/v1/flows?follow={}", self.follow);
        let last = self.last.map(|last| last.to_string());
        let filters = &self.filters;
        for (key, value) in [
            ("last", &last),
            ("service", &filters.service),
            ("peer", &filters.peer),
            ("port", &filters.port),
            ("protocol", &filters.protocol),
            ("method", &filters.method),
            ("path", &filters.path),
            ("status", &filters.status),
            ("security", &filters.security),
            ("namespace", &filters.namespace),
            ("pod", &filters.pod),
            ("workload", &filters.workload),
            ("node", &filters.node),
            ("dialled", &filters.dialled),
            ("trace", &filters.trace),
            ("hop", &filters.hop),
            ("identity", &filters.identity),
            ("verdict", &filters.verdict),
            ("min_duration", &filters.min_duration),
        ] {
            if let Some(value) = value {
                path.push_str(&format!("&{key}={}", client::encode(value)));
            }
        }
        path
    }
}

/// One flow as the cells of a line.
fn cells(flow: &Value, wide: bool) -> Vec<Cell> {
    let text = |key: &str| flow.get(key).and_then(Value::as_str).unwrap_or_default();
    let number = |key: &str| flow.get(key).and_then(Value::as_f64);
    if text("kind") == "lost" {
        let count = number("count").unwrap_or_default();
        let text = format!("{count:.0} flows lost: this reader was too slow");
        return vec![Cell::new(text, Colour::Yellow)];
    }
    // The date is that of today nearly always; JSON has all of it.
    let time = text("time");
    let time = if wide {
        time
    } else {
        time.get(11..23).unwrap_or(time)
    };
    // The arrow points from the one who asked to the one who was asked.
    let arrow = match text("side") {
        "server" => "<-",
        "unknown" if text("kind") == "datagrams" => "--",
        _ => "->",
    };
    let mut cells = vec![
        Cell::new(time, Colour::Dim),
        Cell::new(text("side"), Colour::Dim),
        Cell::new(own(flow), Colour::Plain),
        Cell::new(arrow, Colour::Dim),
        Cell::new(peer(flow), Colour::Plain),
    ];
    let took = number("duration_seconds").map(duration).unwrap_or_default();
    if text("kind") == "call" {
        let status = match text("rpc_status") {
            "" => number("status").map_or("-".to_owned(), |status| format!("{status:.0}")),
            status => status.to_owned(),
        };
        let failed = flow.get("error").is_some_and(Value::is_string);
        let colour = match status.as_str() {
            _ if failed => Colour::Red,
            "OK" => Colour::Green,
            status if status.starts_with('2') => Colour::Green,
            _ => Colour::Yellow,
        };
        cells.push(Cell::right(status, colour));
        cells.push(Cell::right(took, Colour::Plain));
        // Every procedure is a POST.
        let method = match text("rpc_system") {
            "" => text("method"),
            system => system,
        };
        cells.push(Cell::new(method, Colour::Plain));
        let query = flow.get("query").and_then(Value::as_bool) == Some(true);
        let mut path = text("path").to_owned();
        if query {
            path.push_str("?...");
        }
        for (key, name) in [("request", "requests"), ("response", "responses")] {
            let count = number(&format!("rpc_{key}_messages")).unwrap_or(1.0);
            let more = flow.get(format!("rpc_{key}_messages_at_least")) == Some(&true.into());
            if count > 1.0 || more {
                let sign = if more { "+" } else { "" };
                path.push_str(&format!("  {count:.0}{sign} {name}"));
            }
        }
        if text("outcome") != "complete" {
            path.push_str(&format!("  {}", text("outcome")));
        }
        if text("verdict") == "violated" {
            path.push_str("  not as declared");
        }
        cells.push(Cell::new(path, Colour::Plain));
    } else if text("kind") == "lookup" {
        cells.extend(lookup(flow, took));
    } else if text("kind") == "datagrams" {
        cells.extend(datagrams(flow, took));
    } else {
        let event = text("event");
        let colour = if event == "failed" {
            Colour::Red
        } else {
            Colour::Dim
        };
        cells.push(Cell::right(event, colour));
        cells.push(Cell::right(took, Colour::Plain));
        cells.push(Cell::new("TCP", Colour::Dim));
        let mut detail = match event {
            "failed" => text("failure").to_owned(),
            "closed" => format!("by {}", text("closed_by")),
            "recognised" => recognised(flow),
            _ => String::new(),
        };
        if flow.get("reset").and_then(Value::as_bool) == Some(true) {
            detail.push_str(", reset");
        }
        if text("verdict") == "violated" {
            detail.push_str(", not as declared");
        }
        if event == "closed" {
            let size = |key| bytes(number(key).unwrap_or_default());
            detail.push_str(&format!(
                ", {} sent, {} received",
                size("sent_bytes"),
                size("received_bytes")
            ));
        }
        cells.push(Cell::new(detail, Colour::Dim));
    }
    if wide {
        cells.push(Cell::new(
            format!("{} {} {}", text("local"), arrow, text("remote")),
            Colour::Dim,
        ));
        cells.push(Cell::new(details(flow), Colour::Dim));
    }
    cells
}

/// The observed end: its pod, or else its service.
fn own(flow: &Value) -> String {
    let text = |key: &str| flow.get(key).and_then(Value::as_str).unwrap_or_default();
    match text("k8s_pod") {
        "" => text("service").to_owned(),
        pod => format!("{}/{pod}", text("k8s_namespace")),
    }
}

/// The other end, proxies left out: its pod, or else what it is called; and the Service that was dialled.
fn peer(flow: &Value) -> String {
    let text = |key: &str| flow.get(key).and_then(Value::as_str).unwrap_or_default();
    let mut peer = match (text("far_k8s_pod"), text("peer_k8s_pod")) {
        // Behind its proxy there is somebody else.
        ("", _) if !text("far_peer").is_empty() => match text("far_k8s_namespace") {
            "" => text("far_peer").to_owned(),
            namespace => format!("{namespace}/{}", text("far_peer")),
        },
        ("", "") => text("peer").to_owned(),
        ("", pod) => format!("{}/{pod}", text("peer_k8s_namespace")),
        (pod, _) => format!("{}/{pod}", text("far_k8s_namespace")),
    };
    if !text("dialled_service").is_empty() {
        let namespace = text("dialled_namespace");
        peer.push_str(&format!(" ({}.{namespace})", text("dialled_service")));
    }
    peer
}

/// What the first bytes of a connection showed, in a few words.
fn recognised(flow: &Value) -> String {
    let text = |key: &str| flow.get(key).and_then(Value::as_str).unwrap_or_default();
    let alert = flow.get("tls_alert").and_then(Value::as_u64);
    let mut parts = vec![text("security").to_owned()];
    match text("application_protocol") {
        "" | "tls" => {}
        protocol => parts.push(protocol.to_owned()),
    }
    if !text("tls_version").is_empty() {
        parts.push(format!("TLS {}", text("tls_version")));
    }
    parts.push(text("tls_server_name").to_owned());
    parts.extend(alert.map(|alert| format!("alert {alert}")));
    if !text("proxied_source").is_empty() {
        parts.push(format!("for {}", text("proxied_source")));
    }
    parts.retain(|part| !part.is_empty());
    parts.join(", ")
}

/// What a lookup has behind who asked whom.
fn lookup(flow: &Value, took: String) -> [Cell; 4] {
    let text = |key: &str| flow.get(key).and_then(Value::as_str).unwrap_or_default();
    let result = match text("code") {
        "" => text("outcome"),
        code => code,
    };
    let failed = flow.get("error").is_some_and(Value::is_string);
    let mut detail = format!("{} {}", text("type"), text("name"));
    if text("outcome") == "truncated" {
        detail.push_str("  truncated");
    }
    let answers = flow.get("answers").and_then(Value::as_array);
    let addresses: Vec<&str> = answers
        .into_iter()
        .flatten()
        .filter(|answer| answer.get("type").and_then(Value::as_str) != Some("CNAME"))
        .filter_map(|answer| answer.get("value").and_then(Value::as_str))
        .collect();
    if !addresses.is_empty() {
        detail.push_str(&format!("  {}", addresses.join(" ")));
    }
    [
        Cell::right(result, if failed { Colour::Red } else { Colour::Green }),
        Cell::right(took, Colour::Plain),
        Cell::new("DNS", Colour::Plain),
        Cell::new(detail, Colour::Plain),
    ]
}

/// What datagrams have behind who with whom.
fn datagrams(flow: &Value, took: String) -> [Cell; 4] {
    let text = |key: &str| flow.get(key).and_then(Value::as_str).unwrap_or_default();
    let number = |key: &str| flow.get(key).and_then(Value::as_f64).unwrap_or_default();
    let mut detail = format!(
        "{} in {:.0} sent, {} in {:.0} received",
        bytes(number("sent_bytes")),
        number("sent_packets"),
        bytes(number("received_bytes")),
        number("received_packets")
    );
    if !text("server_name").is_empty() {
        detail = format!("{}  {detail}", text("server_name"));
    }
    [
        Cell::right("idle", Colour::Dim),
        Cell::right(took, Colour::Plain),
        Cell::new(text("protocol").to_ascii_uppercase(), Colour::Dim),
        Cell::new(detail, Colour::Dim),
    ]
}

/// The rest of a flow that a wide line shows, as `key=value`.
fn details(flow: &Value) -> String {
    const KEYS: [&str; 80] = [
        "wire_local",
        "wire_remote",
        "transport",
        "version",
        "scheme",
        "stream",
        "reset_code",
        "authority",
        "route",
        "error",
        "rpc_deadline_seconds",
        "rpc_first_response_seconds",
        "rpc_last_response_seconds",
        "time_to_first_byte_seconds",
        "request_head_bytes",
        "request_body_bytes",
        "response_head_bytes",
        "response_body_bytes",
        "trace_id",
        "trace_parent",
        "trace_sampled",
        "trace_source",
        "forwarded_client",
        "forwarded_attempt",
        "forwarded_upstream_seconds",
        "forwarded_proxy_error",
        "connect_seconds",
        "smoothed_rtt_seconds",
        "minimum_rtt_seconds",
        "retransmits",
        "turns",
        "turn_seconds",
        "security",
        "hop",
        "hop_proxy",
        "far_kind",
        "far_source",
        "far_security",
        "client_identity",
        "server_identity",
        "route_object",
        "route_rule",
        "route_backend",
        "declared_mtls",
        "verdict",
        "tls_server_name",
        "tls_alpn_offered",
        "tls_version",
        "tls_cipher",
        "tls_ja4",
        "istio_subset",
        "istio_host",
        "linkerd_server_identity",
        "proxied_source",
        "proxied_identity",
        "retries",
        "ja4",
        "service",
        "service_namespace",
        "k8s_container",
        "k8s_workload_kind",
        "k8s_workload",
        "k8s_node",
        "zone",
        "peer_kind",
        "peer_service",
        "peer_k8s_workload_kind",
        "peer_k8s_workload",
        "peer_k8s_node",
        "peer_zone",
        "dialled_kind",
        "pid",
        "command",
        "container",
        "unit",
        "connection",
        "ordinal",
        "cause_connection",
        "cause_sequence",
        "cause_certain",
    ];
    let mut out = Vec::new();
    for key in KEYS {
        let Some(value) = flow.get(key) else { continue };
        // Outside of Kubernetes the line begins with it.
        let pod = flow.get("k8s_pod").is_some_and(Value::is_string);
        if !pod && matches!(key, "service" | "peer_kind" | "peer_service") {
            continue;
        }
        let value = match value {
            Value::Null => continue,
            Value::String(text) if key == "hop" && text == "direct" => continue,
            Value::String(text) if text.is_empty() => continue,
            Value::String(text) if key == "container" => text.chars().take(12).collect(),
            Value::String(text) => text.clone(),
            Value::Number(number) if key.ends_with("_seconds") => {
                duration(number.as_f64().unwrap_or_default())
            }
            other => other.to_string(),
        };
        out.push(format!(
            "{}={value}",
            key.strip_suffix("_seconds").unwrap_or(key)
        ));
    }
    out.join(" ")
}

#[cfg(test)]
mod tests;
