//! Negotiation, escaping, and what a strict reader makes of both formats.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::{
    aggregate::{Aggregator, Budgets, Config, fixture},
    model::{call::LinkEvent, time::Monotonic},
    telemetry::health::{Health, Loss},
};

#[test]
fn accept_headers() {
    let check = |accept: &str, expected: Format| {
        assert_eq!(Format::negotiate(accept), expected, "{accept}");
    };
    check("", Format::Text);
    check("*/*", Format::Text);
    check("application/json", Format::Text);
    check("application/openmetrics-text", Format::OpenMetrics);
    check(
        "Application/OpenMetrics-Text; Version=\"1.0.0\"",
        Format::OpenMetrics,
    );
    check("application/openmetrics-text;version=0.0.1", Format::Text);
    check("application/openmetrics-text;q=0", Format::Text);
    check(
        "application/openmetrics-text;q=0.5,text/plain;version=0.0.4;q=0.6",
        Format::Text,
    );
    check(
        "text/plain;version=0.0.4;q=0.5,application/openmetrics-text;q=0.5",
        Format::OpenMetrics,
    );
    check(
        "application/openmetrics-text;q=nonsense,text/plain",
        Format::Text,
    );
    // What Prometheus 3 sends, with and without its protobuf format.
    let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                      application/openmetrics-text;version=0.0.1;q=0.5,\
                      text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
                      text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
    check(prometheus, Format::OpenMetrics);
    let protobuf = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;q=0.7";
    check(&format!("{protobuf},{prometheus}"), Format::OpenMetrics);
}

/// One sample as a reader sees it.
#[derive(Debug)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

/// Reads a label set up to its closing brace; returns the rest.
fn read_labels(mut text: &str) -> (BTreeMap<String, String>, &str) {
    let mut labels = BTreeMap::new();
    loop {
        let (name, rest) = text.split_once("=\"").expect("a quoted value");
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        assert!(
            !name.is_empty() && name.bytes().all(plain),
            "label name {name:?}"
        );
        let mut value = String::new();
        let mut characters = rest.char_indices();
        let end = loop {
            match characters.next().expect("a closing quote") {
                (index, '"') => break index,
                (_, '\\') => match characters.next().expect("an escaped character").1 {
                    'n' => value.push('\n'),
                    escaped @ ('\\' | '"') => value.push(escaped),
                    other => panic!("escape of {other:?}"),
                },
                (_, character) => value.push(character),
            }
        };
        assert!(
            labels.insert(name.to_owned(), value).is_none(),
            "label {name} twice"
        );
        match rest[end + 1..].split_at(1) {
            (",", rest) => text = rest,
            ("}", rest) => return (labels, rest),
            (other, _) => panic!("{other:?} after a label"),
        }
    }
}

/// Reads an exposition as strictly as its specification allows; panics on any violation.
fn read(format: Format, text: &str) -> Vec<Sample> {
    assert!(text.ends_with('\n'));
    let body = match format {
        Format::OpenMetrics => text.strip_suffix("# EOF\n").expect("# EOF at the end"),
        Format::Text => text,
    };
    let mut samples = Vec::new();
    let mut families = BTreeSet::new();
    let mut series = BTreeSet::new();
    let (mut family, mut kind) = (String::new(), String::new());
    for line in body.lines() {
        if let Some(metadata) = line.strip_prefix("# ") {
            let mut words = metadata.splitn(3, ' ');
            let (word, name, value) = (
                words.next().unwrap(),
                words.next().unwrap(),
                words.next().unwrap(),
            );
            match word {
                "HELP" => {
                    assert!(families.insert(name.to_owned()), "family {name} twice");
                    family = name.to_owned();
                    kind.clear();
                }
                "TYPE" => kind = value.to_owned(),
                "UNIT" => {
                    assert_eq!(format, Format::OpenMetrics);
                    assert!(name.ends_with(&format!("_{value}")), "{line}");
                }
                _ => panic!("unknown metadata: {line}"),
            }
            assert_eq!(name, family, "metadata of another family");
            continue;
        }
        let end = line.find(['{', ' ']).expect("a value");
        let (name, rest) = line.split_at(end);
        let (labels, rest) = match rest.strip_prefix('{') {
            Some(rest) => read_labels(rest),
            None => (BTreeMap::new(), rest),
        };
        let value = rest
            .strip_prefix(' ')
            .expect("one space")
            .parse()
            .expect("a number");
        let suffix = name.strip_prefix(&family).expect("a sample of the family");
        let suffixes: &[&str] = match (format, kind.as_str()) {
            (Format::OpenMetrics, "counter") => &["_total"],
            (Format::OpenMetrics, "info") => &["_info"],
            (_, "histogram") => &["_bucket", "_sum", "_count"],
            (_, "counter" | "gauge") => &[""],
            (_, other) => panic!("{other} of {family}"),
        };
        assert!(suffixes.contains(&suffix), "{name} in {kind} {family}");
        assert!(
            series.insert((name.to_owned(), labels.clone())),
            "{line} twice"
        );
        samples.push(Sample {
            name: name.to_owned(),
            labels,
            value,
        });
    }
    samples
}

fn exposition(format: Format) -> Vec<Sample> {
    let budgets = Budgets::all(2);
    let mut aggregator = Aggregator::new(Config {
        budgets,
        ..Config::default()
    });
    let odd = fixture::link(1, "we\"ird\\ser\nvice");
    aggregator.link(&LinkEvent::Opened(odd.clone()), Monotonic(1));
    for (path, status) in [
        ("/a", 200),
        ("/a", 200),
        ("/b", 503),
        ("/c", 200),
        ("/d", 200),
    ] {
        aggregator.call(&fixture::call_on(&odd, path, status), None, Monotonic(2));
    }
    aggregator.link(&fixture::closed(&odd, 10), Monotonic(3));
    let losses = vec![Loss {
        stage: "decode",
        reason: "short",
        count: 3,
    }];
    let health = Health {
        losses,
        cpu_seconds: 1.5,
        start_unix_seconds: 1.7e9,
        ..Health::default()
    };
    read(
        format,
        &format.render(&aggregator.snapshot(health, Monotonic(4))),
    )
}

#[test]
fn both_formats_say_the_same_to_a_strict_reader() {
    for format in [Format::Text, Format::OpenMetrics] {
        let samples = exposition(format);
        let find = |name: &str, label: &str, value: &str| -> &Sample {
            let found = samples.iter().find(|sample| {
                sample.name == name && sample.labels.get(label).is_some_and(|own| own == value)
            });
            found.unwrap_or_else(|| panic!("no {name} with {label}={value}"))
        };
        let duration = "http_server_request_duration_seconds";
        let count = find(&format!("{duration}_count"), "http_route", "/a");
        assert_eq!(count.value, 2.0);
        assert_eq!(count.labels["service_name"], "we\"ird\\ser\nvice");
        assert_eq!(
            find(&format!("{duration}_sum"), "http_route", "/a").value,
            0.02
        );
        assert_eq!(
            find(&format!("{duration}_count"), "otel_metric_overflow", "true").value,
            2.0
        );
        assert_eq!(find("observer_loss_total", "reason", "short").value, 3.0);
        assert_eq!(
            find("observer_build_info", "version", env!("CARGO_PKG_VERSION")).value,
            1.0
        );

        let bounds: Vec<(&str, f64)> = samples
            .iter()
            .filter(|sample| sample.name == format!("{duration}_bucket"))
            .filter(|sample| {
                sample
                    .labels
                    .get("http_route")
                    .is_some_and(|route| route == "/a")
            })
            .map(|sample| (sample.labels["le"].as_str(), sample.value))
            .collect();
        let one = if format == Format::Text { "1" } else { "1.0" };
        assert_eq!(bounds.len(), 15);
        assert_eq!(bounds[..2], [("0.005", 0.0), ("0.01", 2.0)]);
        assert_eq!(bounds[9], (one, 2.0));
        assert_eq!(bounds[14], ("+Inf", 2.0));
    }
}
