//! Numbers of the graph as the Node Graph panel shows them: texts, colours, lines.

use super::{
    Edge, Node, NodeGraph,
    parameters::is_encrypted,
    picture::{Line, Picture, Shares, Vertex, per_second, ratio},
};
use crate::aggregate::graph::past::Counts;

/// Names of colours that Grafana's themes know how to draw on light and dark.
const GREEN: &str = "#73BF69";
const RED: &str = "#F2495C";
const ORANGE: &str = "#FF9830";
const YELLOW: &str = "#FADE2A";
const GREY: &str = "#8E8E8E";

pub(super) const SUCCESS: &str = GREEN;
pub(super) const ERRORS: &str = RED;
pub(super) const IDLE: &str = GREY;

/// Share of failed calls from which an edge or a node is red.
const MANY: f64 = 0.05;

// === impl Picture ===

impl Picture {
    pub(super) fn show(&self) -> NodeGraph {
        let seconds = self.window.as_secs_f64();
        NodeGraph {
            nodes: self.nodes.iter().map(|node| node.show(seconds)).collect(),
            edges: self.edges.iter().map(|edge| edge.show(seconds)).collect(),
            window_seconds: seconds,
            granularity_seconds: self.granularity.as_secs(),
            nodes_left_out: self.nodes_left_out,
            edges_left_out: self.edges_left_out,
        }
    }
}

// === impl Vertex ===

impl Vertex {
    fn show(&self, seconds: f64) -> Node {
        let end = &self.end;
        let (received, made) = (&self.received, &self.made);
        // Who receives nothing is told of by what it makes.
        let told = match received.requests {
            0 => made,
            _ => received,
        };
        let sent = received.received_bytes + made.sent_bytes;
        let taken = received.sent_bytes + made.received_bytes;
        let failed = error_ratio(told);
        let [p50, p95, p99] = quantiles(told);
        Node {
            id: end.id.clone(),
            title: end.title().to_owned(),
            subtitle: self.subtitle(),
            mainstat: match told.requests {
                0 => bytes_per_second(per_second(sent + taken, seconds)),
                requests => rate(per_second(requests, seconds)),
            },
            secondarystat: p95.map(p95_text).unwrap_or_default(),
            arc__success: failed.map_or(0.0, |failed| 1.0 - failed),
            arc__errors: failed.unwrap_or_default(),
            arc__idle: if failed.is_none() { 1.0 } else { 0.0 },
            arc__success_color: SUCCESS,
            arc__errors_color: ERRORS,
            arc__idle_color: IDLE,
            icon: end.icon,
            color: failed.map_or(GREY, |failed| colour_of_errors(failed).unwrap_or(GREEN)),
            detail__kind: end.kind,
            detail__namespace: text(end.namespace.clone()),
            detail__workload_kind: text(end.workload_kind.clone()),
            detail__zone: text(joined(&self.zones)),
            detail__requests_per_second: per_second(received.requests, seconds),
            detail__made_per_second: per_second(made.requests, seconds),
            detail__error_ratio: failed,
            detail__p50_seconds: p50,
            detail__p95_seconds: p95,
            detail__p99_seconds: p99,
            detail__sent_bytes_per_second: per_second(sent, seconds),
            detail__received_bytes_per_second: per_second(taken, seconds),
            detail__encrypted_ratio: self.security.encrypted(),
            detail__security: self.security.text(),
        }
    }

    fn subtitle(&self) -> String {
        let end = &self.end;
        let kind = match end.workload_kind.as_str() {
            "" => end.kind,
            kind => kind,
        };
        match end.namespace.as_str() {
            // The title says it already.
            _ if end.kind == "namespace" || end.title() == kind => kind.to_owned(),
            "" => kind.to_owned(),
            namespace => format!("{namespace} {kind}"),
        }
    }
}

// === impl Line ===

impl Line {
    fn show(&self, seconds: f64) -> Edge {
        let counts = &self.counts;
        let failed = error_ratio(counts);
        let [p50, p95, p99] = quantiles(counts);
        let bytes = per_second(counts.sent_bytes + counts.received_bytes, seconds);
        let requests = per_second(counts.requests, seconds);
        let failures = per_second(counts.connect_failures, seconds);
        let mut told: Vec<String> = p95.map(p95_text).into_iter().collect();
        told.extend(
            failed
                .filter(|failed| *failed > 0.0)
                .map(|failed| format!("{} failed", percent(failed))),
        );
        if counts.connect_failures > 0 {
            told.push(format!("{} not connected", rate(failures)));
        }
        let zones: Vec<String> = self
            .zones
            .iter()
            .map(|(source, destination)| format!("{source} to {destination}"))
            .collect();
        let securities = self.security.ratios();
        let open = |wanted: &str| securities.iter().any(|(security, _)| *security == wanted);
        let colour = failed
            .and_then(colour_of_errors)
            .or_else(|| (failed.is_none() && counts.connect_failures > 0).then_some(RED))
            .unwrap_or_else(|| match securities.is_empty() {
                _ if open("plaintext") => YELLOW,
                false if !open("unknown") => GREEN,
                _ => GREY,
            });
        Edge {
            id: format!("{}|{}", self.source, self.target),
            source: self.source.clone(),
            target: self.target.clone(),
            mainstat: match counts.requests {
                0 => bytes_per_second(bytes),
                _ => rate(requests),
            },
            secondarystat: told.join(", "),
            thickness: thickness(requests, bytes),
            color: colour,
            stroke_dasharray: match securities.is_empty() {
                _ if open("plaintext") => Some("8 4"),
                false if !open("unknown") => None,
                _ => Some("2 4"),
            },
            detail__protocol: joined(&self.protocols),
            detail__security: self.security.text(),
            detail__encrypted_ratio: self.security.encrypted(),
            detail__dialled: text(joined(&self.dialled)),
            detail__zones: text(zones.join(", ")),
            detail__requests_per_second: requests,
            detail__errors_per_second: per_second(counts.errors, seconds),
            detail__error_ratio: failed,
            detail__p50_seconds: p50,
            detail__p95_seconds: p95,
            detail__p99_seconds: p99,
            detail__sent_bytes_per_second: per_second(counts.sent_bytes, seconds),
            detail__received_bytes_per_second: per_second(counts.received_bytes, seconds),
            detail__connections_opened_per_second: per_second(counts.connections_opened, seconds),
            detail__connect_failures_per_second: failures,
            detail__retransmits_per_second: per_second(counts.retransmits, seconds),
            detail__rtt_seconds: counts.rtt_seconds(),
            detail__open_connections: self.open_connections,
        }
    }
}

// === impl Shares ===

impl Shares {
    fn encrypted(&self) -> Option<f64> {
        let ratios = self.ratios();
        let encrypted = ratios.iter().filter(|(security, _)| is_encrypted(security));
        (!ratios.is_empty()).then(|| encrypted.map(|(_, ratio)| ratio).sum())
    }

    fn text(&self) -> String {
        let ratios = self.ratios();
        let parts: Vec<String> = ratios
            .iter()
            .map(|(security, ratio)| format!("{security} {}", percent(*ratio)))
            .collect();
        parts.join(", ")
    }
}

fn error_ratio(counts: &Counts) -> Option<f64> {
    (counts.requests > 0).then(|| ratio(counts.errors, counts.requests))
}

fn quantiles(counts: &Counts) -> [Option<f64>; 3] {
    [0.5, 0.95, 0.99].map(|part| counts.quantile(part))
}

fn colour_of_errors(failed: f64) -> Option<&'static str> {
    match failed {
        failed if failed >= MANY => Some(RED),
        failed if failed > 0.0 => Some(ORANGE),
        _ => None,
    }
}

/// One more for each power of ten: of requests, or of kilobytes without any.
fn thickness(requests: f64, bytes: f64) -> f64 {
    let shown = if requests > 0.0 {
        requests
    } else {
        bytes / 1e3
    };
    let width = 1.0 + (1.0 + shown).log10() * 1.25;
    (width.clamp(1.0, 6.0) * 10.0).round() / 10.0
}

fn text(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

fn joined<T: AsRef<str>>(parts: &std::collections::BTreeSet<T>) -> String {
    let parts: Vec<&str> = parts.iter().map(AsRef::as_ref).collect();
    parts.join(", ")
}

fn rate(per_second: f64) -> String {
    format!("{}/s", scaled(per_second, "", ["k", "M", "G"]))
}

fn bytes_per_second(per_second: f64) -> String {
    format!("{}/s", scaled(per_second, " B", [" kB", " MB", " GB"]))
}

fn p95_text(seconds: f64) -> String {
    let shown = match seconds {
        seconds if seconds < 1e-3 => format!("{} µs", short(seconds * 1e6)),
        seconds if seconds < 1.0 => format!("{} ms", short(seconds * 1e3)),
        seconds => format!("{} s", short(seconds)),
    };
    format!("p95 {shown}")
}

fn percent(ratio: f64) -> String {
    match ratio * 100.0 {
        percent if percent > 0.0 && percent < 0.1 => "<0.1%".to_owned(),
        // What is not all is not shown as all.
        percent if percent < 100.0 => format!("{}%", short(percent.min(99.9))),
        _ => "100%".to_owned(),
    }
}

/// With the unit that leaves fewer than four digits before the point.
fn scaled(value: f64, unit: &str, larger: [&str; 3]) -> String {
    let (mut value, mut shown) = (value, unit);
    for unit in larger {
        if value < 999.5 {
            break;
        }
        value /= 1e3;
        shown = unit;
    }
    format!("{}{shown}", short(value))
}

/// With about three digits.
fn short(value: f64) -> String {
    let decimals = match value {
        value if value >= 99.95 || value == 0.0 => 0,
        value if value >= 9.995 => 1,
        value if value >= 0.095 => 2,
        _ => 4,
    };
    let text = format!("{value:.decimals$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (value, expected) in [
            (0.0, "0/s"),
            (0.016_666, "0.0167/s"),
            (0.5, "0.5/s"),
            (12.34, "12.3/s"),
            (999.4, "999/s"),
            (1_250.0, "1.25k/s"),
            (3e6, "3M/s"),
        ] {
            assert_eq!(rate(value), expected);
        }
        assert_eq!(bytes_per_second(512.0), "512 B/s");
        assert_eq!(bytes_per_second(1.5e6), "1.5 MB/s");
        assert_eq!(p95_text(0.000_25), "p95 250 µs");
        assert_eq!(p95_text(0.012), "p95 12 ms");
        assert_eq!(p95_text(2.5), "p95 2.5 s");
        assert_eq!(percent(0.000_1), "<0.1%");
        assert_eq!(percent(0.999_99), "99.9%");
        assert_eq!(percent(1.0), "100%");
        assert_eq!(percent(0.015), "1.5%");
    }

    #[test]
    fn lines_are_one_to_six_wide() {
        for (requests, bytes) in [(0.0, 0.0), (0.0, 1e18), (1e12, 0.0), (0.1, 0.0)] {
            assert!((1.0..=6.0).contains(&thickness(requests, bytes)));
        }
        assert!(thickness(100.0, 0.0) > thickness(10.0, 0.0));
    }
}
