//! Negotiation, escaping, and what a strict reader makes of both formats.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read as _,
};

use proptest::prelude::*;

use super::*;
use crate::{
    aggregate::{
        Aggregator, Budgets, Config, distribution::Distribution, fixture,
        histogram::REQUEST_SECONDS,
    },
    config::Histograms,
    model::{
        call::LinkEvent,
        time::Monotonic,
        trace::{SpanId, TraceId},
    },
    telemetry::health::{Health, Loss},
};

use prost::Message as _;
use protobuf::{FamilyMessage, HistogramMessage, LabelMessage};

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
    let delimited = protobuf.replace(";q", ";encoding=delimited;q");
    check(&format!("{delimited},{prometheus}"), Format::Protobuf);
    check(&format!("{prometheus},{delimited}"), Format::Protobuf);
    let least = delimited.replace("0.7", "0.1");
    check(&format!("{prometheus},{least}"), Format::OpenMetrics);
    check(
        "application/vnd.google.protobuf;proto=another.Family;encoding=delimited",
        Format::Text,
    );
}

#[test]
fn accepted_encodings() {
    for (accept, expected) in [
        ("", false),
        ("identity", false),
        ("gzip", true),
        ("deflate, GZIP;q=0.5", true),
        ("gzip;q=0, *", false),
        ("*", true),
        ("br, *;q=0", false),
        ("gzip;q=nonsense", false),
    ] {
        assert_eq!(accepts_gzip(accept), expected, "{accept}");
    }
}

/// One sample as a reader sees it.
#[derive(Debug)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
    /// Labels, value and time.
    exemplar: Option<(BTreeMap<String, String>, f64, f64)>,
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
        Format::Text | Format::Protobuf => text,
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
        let rest = rest.strip_prefix(' ').expect("one space");
        let (value, exemplar) = match rest.split_once(" # {") {
            None => (rest, None),
            Some((value, exemplar)) => {
                assert!(format == Format::OpenMetrics && name.ends_with("_bucket"));
                let (labels, rest) = read_labels(exemplar);
                let (own, at) = rest[1..].split_once(' ').expect("a time");
                let numbers = (own.parse().unwrap(), at.parse().unwrap());
                (value, Some((labels, numbers.0, numbers.1)))
            }
        };
        let value = value.parse().expect("a number");
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
            exemplar,
        });
    }
    samples
}

const OFFSET: WallOffset = WallOffset {
    nanoseconds: 1_700_000_000_250_000_000,
};

/// Histograms of the protobuf format, with the name of their family.
type Read = Vec<(String, Vec<LabelMessage>, HistogramMessage)>;

/// What the protobuf format says, as samples of text; histograms are looked at elsewhere.
fn read_protobuf(mut body: &[u8]) -> (Vec<Sample>, Read) {
    let mut samples = Vec::new();
    let mut histograms = Vec::new();
    while !body.is_empty() {
        let family = FamilyMessage::decode_length_delimited(&mut body).expect("a family");
        let name = family.name.expect("a name");
        for metric in family.metric {
            let labels: BTreeMap<String, String> = metric
                .label
                .iter()
                .map(|label| (label.name.clone().unwrap(), label.value.clone().unwrap()))
                .collect();
            let mut add = |suffix: &str, bound: Option<f64>, value: f64, exemplar| {
                let mut labels = labels.clone();
                if let Some(bound) = bound {
                    let text = if bound == f64::INFINITY {
                        "+Inf".to_owned()
                    } else {
                        bound.to_string()
                    };
                    labels.insert("le".to_owned(), text);
                }
                let name = format!("{name}{suffix}");
                samples.push(Sample {
                    name,
                    labels,
                    value,
                    exemplar,
                });
            };
            let number = match family.kind {
                Some(0) => metric.counter,
                Some(1) => metric.gauge,
                Some(4) => {
                    let histogram = *metric.histogram.expect("a histogram");
                    for bucket in &histogram.bucket {
                        let exemplar = bucket.exemplar.as_ref().map(|it| {
                            let at = it.timestamp.unwrap();
                            let labels = it.label.iter();
                            let labels = labels
                                .map(|it| (it.name.clone().unwrap(), it.value.clone().unwrap()));
                            let seconds = at.seconds as f64 + f64::from(at.nanos) / 1e9;
                            (labels.collect(), it.value.unwrap(), seconds)
                        });
                        add(
                            "_bucket",
                            bucket.upper_bound,
                            bucket.cumulative_count.unwrap() as f64,
                            exemplar,
                        );
                    }
                    add("_sum", None, histogram.sample_sum.unwrap(), None);
                    add("_count", None, histogram.sample_count.unwrap() as f64, None);
                    histograms.push((name.clone(), metric.label.clone(), histogram));
                    continue;
                }
                other => panic!("kind {other:?}"),
            };
            add("", None, number.expect("a number").value.unwrap(), None);
        }
    }
    (samples, histograms)
}

fn snapshot(histograms: Histograms) -> Snapshot {
    let budgets = Budgets::all(2);
    let mut aggregator = Aggregator::new(Config {
        budgets,
        histograms,
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
        let span = Some((TraceId([7; 16]), SpanId([9; 8])));
        aggregator.call(&fixture::call_on(&odd, path, status), span, Monotonic(2));
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
    aggregator.snapshot(health, Monotonic(4))
}

fn exposition(format: Format) -> Vec<Sample> {
    let body = format.render(&snapshot(Histograms::Both), OFFSET);
    match format {
        Format::Protobuf => read_protobuf(&body).0,
        _ => read(format, std::str::from_utf8(&body).expect("text")),
    }
}

/// Samples by name and labels; a bound is a number, however it is written.
fn by_name(samples: &[Sample]) -> BTreeMap<(String, Vec<(String, String)>), f64> {
    let key = |sample: &Sample| {
        let labels = sample.labels.iter().map(|(name, value)| {
            let bound = (name == "le").then(|| value.parse::<f64>().unwrap().to_string());
            (name.clone(), bound.unwrap_or_else(|| value.clone()))
        });
        (sample.name.clone(), labels.collect())
    };
    samples
        .iter()
        .map(|sample| (key(sample), sample.value))
        .collect()
}

#[test]
fn all_formats_tell_the_same_numbers() {
    let text = by_name(&exposition(Format::Text));
    assert!(text.len() > 200);
    assert_eq!(text, by_name(&exposition(Format::OpenMetrics)));
    assert_eq!(text, by_name(&exposition(Format::Protobuf)));
}

#[test]
fn exemplars_are_in_the_formats_that_have_them() {
    for format in [Format::OpenMetrics, Format::Protobuf] {
        let samples = exposition(format);
        let found = samples.iter().find(|sample| {
            sample.name == "http_server_request_duration_seconds_bucket"
                && sample.exemplar.is_some()
        });
        let (labels, value, at) = found
            .and_then(|it| it.exemplar.clone())
            .expect("an exemplar");
        assert_eq!(labels["trace_id"], "07".repeat(16));
        assert_eq!(labels["span_id"], "09".repeat(8));
        assert_eq!(value, 0.01);
        assert!((at - 1_700_000_000.25).abs() < 1e-3, "{at}");
    }
    assert!(
        exposition(Format::Text)
            .iter()
            .all(|it| it.exemplar.is_none())
    );
}

/// Counts by index, as a reader of native histograms adds them up.
fn native(histogram: &HistogramMessage) -> BTreeMap<i32, i64> {
    let mut counts = BTreeMap::new();
    let (mut index, mut count) = (0, 0);
    let mut deltas = histogram.positive_delta.iter();
    for span in &histogram.positive_span {
        index += span.offset.unwrap();
        for _ in 0..span.length.unwrap() {
            count += deltas
                .next()
                .expect("as many counts as the spans have buckets");
            counts.insert(index, count);
            index += 1;
        }
    }
    assert_eq!(deltas.next(), None);
    counts
}

#[test]
fn native_histograms_have_all_observations() {
    let body = Format::Protobuf.render(&snapshot(Histograms::Native), OFFSET);
    let (_, histograms) = read_protobuf(&body);
    let mut seen = 0;
    for (name, _, histogram) in &histograms {
        if !name.starts_with("http_server_request_duration") {
            continue;
        }
        seen += 1;
        assert!(histogram.bucket.is_empty());
        let counts = native(histogram);
        let all = counts.values().sum::<i64>() + histogram.zero_count.unwrap() as i64;
        assert_eq!(all, histogram.sample_count.unwrap() as i64);
        // All took 10 ms: the bucket (base^(index - 1), base^index] has it.
        let (index, _) = counts.iter().find(|(_, count)| **count > 0).unwrap();
        let base = (-f64::from(histogram.schema.unwrap())).exp2().exp2();
        assert!(
            base.powi(*index - 1) < 0.01 && 0.01 <= base.powi(*index),
            "{index}"
        );
        assert_eq!(histogram.zero_threshold, Some((-128_f64).exp2()));
        assert_eq!(histogram.exemplars.len(), 1);
    }
    assert_eq!(seen, 3);
    // Sizes of bodies have fixed buckets only.
    assert!(
        histograms
            .iter()
            .any(|(_, _, it)| !it.bucket.is_empty() && it.schema.is_none())
    );
    let body = Format::Protobuf.render(&snapshot(Histograms::Classic), OFFSET);
    let (_, histograms) = read_protobuf(&body);
    assert!(
        histograms
            .iter()
            .all(|(_, _, it)| it.schema.is_none() && !it.bucket.is_empty())
    );
}

fn native_is_what_was_kept(observed: &Distribution) {
    let histogram = protobuf::histogram(&REQUEST_SECONDS, observed, Histograms::Both, OFFSET);
    assert_eq!(histogram.sample_count, Some(observed.count()));
    let Some(exponential) = &observed.exponential else {
        return;
    };
    assert_eq!(histogram.zero_count, Some(exponential.zero_count()));
    let told: BTreeMap<i32, i64> = native(&histogram)
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .collect();
    let kept: BTreeMap<i32, i64> = (exponential.offset() + 1..)
        .zip(exponential.counts().map(|count| count as i64))
        .filter(|(_, count)| *count > 0)
        .collect();
    assert_eq!(told, kept);
    // No gap is told as a span of its own that is shorter than a span.
    let spans = histogram.positive_span.iter().skip(1);
    assert!(spans.map(|span| span.offset.unwrap()).all(|gap| gap > 2));
}

#[test]
fn gaps_and_zeros_are_told() {
    let mut observed = Distribution::new(true);
    for milliseconds in [0, 1, 1, 2, 3_000, 3_300, 3_301] {
        observed.observe(&REQUEST_SECONDS, milliseconds * 1_000_000);
    }
    native_is_what_was_kept(&observed);
}

proptest! {
    #[test]
    fn any_native_histogram_is_read_back(
        values in prop::collection::vec((any::<u64>(), 0_u32..64), 0..80),
    ) {
        let mut observed = Distribution::new(true);
        for (value, shift) in values {
            observed.observe(&REQUEST_SECONDS, value >> shift);
        }
        native_is_what_was_kept(&observed);
    }
}

#[test]
fn answers_are_compressed_for_who_wants_it() {
    let snapshot = snapshot(Histograms::Both);
    let answer = |encoding: &'static str| {
        let mut headers = HeaderMap::new();
        headers.insert("accept-encoding", encoding.parse().unwrap());
        Wanted::by(&headers).answer(&snapshot, OFFSET)
    };
    let plain = answer("identity");
    assert_eq!(plain.headers().get("content-encoding"), None);
    let packed = answer("gzip");
    assert_eq!(packed.headers()["content-encoding"], "gzip");
    assert_eq!(
        packed.headers()["content-type"],
        Format::Text.content_type()
    );
    let body = Format::Text.render(&snapshot, OFFSET);
    let mut unpacked = Vec::new();
    let packed = compressed(&body).unwrap();
    assert!(packed.len() * 4 < body.len());
    flate2::read::GzDecoder::new(&*packed)
        .read_to_end(&mut unpacked)
        .unwrap();
    assert_eq!(unpacked, body);
}

#[test]
fn text_formats_say_what_was_measured_to_a_strict_reader() {
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
