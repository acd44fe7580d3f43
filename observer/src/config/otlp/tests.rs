//! Tests of endpoints, precedence and secrets of OTLP.

use std::path::Path;

use super::*;
use crate::config::{Config, Flags};

fn loaded(file: &str, variables: &[(&str, &str)]) -> Result<Otlp, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("observer.yaml");
    std::fs::write(&path, file).unwrap();
    let environment = |name: &str| {
        let found = variables.iter().find(|(variable, _)| *variable == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    let path: &Path = &path;
    Config::load(Some(path), &Flags::default(), &environment)
        .map(|config| config.otlp)
        .map_err(|error| error.to_string())
}

/// Scheme, host, port, path and protocol of where a signal goes.
fn to(otlp: &Otlp, signal: Signal) -> Option<String> {
    let destination = otlp.destination(signal)?;
    Some(format!(
        "{}{} {}",
        destination.shown(),
        destination.path,
        destination.protocol()
    ))
}

#[test]
fn endpoints_get_ports_and_paths() {
    for (endpoint, protocol, expected) in [
        (
            "http://c:4318",
            "auto",
            "http://c:4318/v1/traces http/protobuf",
        ),
        ("http://c", "auto", "http://c:4318/v1/traces http/protobuf"),
        (
            "http://c/",
            "http/protobuf",
            "http://c:4318/v1/traces http/protobuf",
        ),
        (
            "https://c/otlp/",
            "auto",
            "https://c:443/otlp/v1/traces http/protobuf",
        ),
        (
            "http://c:80/a/b",
            "auto",
            "http://c:80/a/b/v1/traces http/protobuf",
        ),
        (
            "http://[::1]:4318",
            "auto",
            "http://[::1]:4318/v1/traces http/protobuf",
        ),
        (
            "http://c:4317",
            "http/protobuf",
            "http://c:4317/v1/traces http/protobuf",
        ),
    ] {
        let file = format!("otlp: {{endpoint: '{endpoint}', protocol: {protocol}}}\n");
        let otlp = loaded(&file, &[]).unwrap();
        assert_eq!(to(&otlp, Signal::Traces).as_deref(), Some(expected));
    }
    for (endpoint, protocol, port) in [
        ("http://c:4317", "auto", 4317),
        ("http://c", "grpc", 4317),
        ("https://c", "grpc", 443),
        ("http://c:4318/ignored", "grpc", 4318),
    ] {
        let file = format!("otlp: {{endpoint: '{endpoint}', protocol: {protocol}}}\n");
        let destination = loaded(&file, &[])
            .unwrap()
            .destination(Signal::Logs)
            .unwrap();
        assert!(destination.grpc && destination.port == port, "{endpoint}");
        assert_eq!(
            &*destination.path,
            "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
        );
    }
}

#[test]
fn an_endpoint_of_a_signal_is_used_as_it_is() {
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://all:4318/base"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://tempo:4318/in"),
        ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http://loki"),
    ];
    let otlp = loaded("", &variables).unwrap();
    let check = |signal, expected| assert_eq!(to(&otlp, signal).as_deref(), Some(expected));
    check(Signal::Traces, "http://tempo:4318/in http/protobuf");
    check(
        Signal::Metrics,
        "http://all:4318/base/v1/metrics http/protobuf",
    );
    check(Signal::Logs, "http://loki:4318/ http/protobuf");
}

#[test]
fn nothing_is_sent_to_nowhere_or_when_it_is_off() {
    let otlp = Otlp::default();
    assert!(
        Signal::ALL
            .iter()
            .all(|signal| otlp.destination(*signal).is_none())
    );
    let otlp = loaded(
        "otlp: {endpoint: 'http://c', logs: {enabled: false}}\n",
        &[],
    )
    .unwrap();
    assert!(otlp.destination(Signal::Logs).is_none());
    assert!(otlp.destination(Signal::Metrics).is_some());
    let otlp = loaded("otlp: {traces: {endpoint: 'http://c'}}\n", &[]).unwrap();
    assert!(otlp.destination(Signal::Traces).is_some());
    assert!(otlp.destination(Signal::Metrics).is_none());
}

#[test]
fn file_then_standard_variables_then_ours() {
    let file = "otlp: {endpoint: 'http://file', timeout: 1s, headers: {a: file}}\n";
    let mut variables = vec![
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://standard"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "2500"),
        ("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "3000"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "none"),
        ("OTEL_EXPORTER_OTLP_LOGS_COMPRESSION", "gzip"),
        (
            "OTEL_EXPORTER_OTLP_HEADERS",
            "a=standard,Authorization=Basic%20eA%3D%3D",
        ),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", ""),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca"),
        ("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "/traces-ca"),
        ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/crt"),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/key"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "15000"),
    ];
    let otlp = loaded(file, &variables).unwrap();
    let traces = otlp.destination(Signal::Traces).unwrap();
    assert_eq!(&*traces.host, "standard");
    assert_eq!(traces.timeout, Duration::from_millis(2500));
    assert!(traces.grpc && traces.compression == OtlpCompression::None);
    let [(first, _), (second, value)] = &traces.headers.0[..] else {
        panic!("{:?}", traces.headers)
    };
    assert_eq!((first.as_str(), second.as_str()), ("a", "authorization"));
    assert_eq!(value, "Basic eA==");
    assert_eq!(traces.tls.ca.as_deref(), Some(Path::new("/traces-ca")));
    assert_eq!(traces.tls.key.as_deref(), Some(Path::new("/key")));
    let metrics = otlp.destination(Signal::Metrics).unwrap();
    assert_eq!(metrics.timeout, Duration::from_secs(3));
    assert_eq!(metrics.tls.ca.as_deref(), Some(Path::new("/ca")));
    let logs = otlp.destination(Signal::Logs).unwrap();
    assert!(!logs.grpc && logs.compression == OtlpCompression::Gzip);
    assert_eq!(otlp.interval, Duration::from_secs(15));

    variables.push(("OBSERVER_OTLP_ENDPOINT", "http://ours"));
    variables.push(("OBSERVER_OTLP_LOGS_ENABLED", "false"));
    let otlp = loaded(file, &variables).unwrap();
    assert_eq!(&*otlp.destination(Signal::Traces).unwrap().host, "ours");
    assert!(otlp.destination(Signal::Logs).is_none());
}

#[test]
fn temporality_and_histograms_are_also_what_variables_of_opentelemetry_say() {
    const TEMPORALITY: &str = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE";
    const HISTOGRAMS: &str = "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION";
    let file = "otlp: {metrics: {temporality: cumulative, histograms: explicit}}\n";
    for (text, expected) in [
        ("Delta", Temporality::Delta),
        ("LowMemory", Temporality::Delta),
        ("CUMULATIVE", Temporality::Cumulative),
    ] {
        let otlp = loaded(file, &[(TEMPORALITY, text)]).unwrap();
        assert_eq!(otlp.temporality, expected);
    }
    let variables = [(HISTOGRAMS, "base2_exponential_bucket_histogram")];
    let otlp = loaded(file, &variables).unwrap();
    assert_eq!(otlp.histograms, OtlpHistograms::Exponential);
    let error = loaded(file, &[(TEMPORALITY, "low")]).unwrap_err();
    assert!(error.contains(TEMPORALITY), "{error}");
    loaded(file, &[(HISTOGRAMS, "exponential")]).unwrap_err();
    let file = "otlp: {metrics: {temporality: lowmemory}, traces: {span_metrics_skip: false}}\n";
    let otlp = loaded(file, &[]).unwrap();
    assert_eq!(otlp.temporality, Temporality::Delta);
    assert!(!otlp.span_metrics_skip);
}

#[test]
fn exponential_buckets_are_told_where_they_are_kept_and_wanted() {
    use crate::config::Histograms::{Both, Classic, Native};
    for (wanted, expected) in [
        (OtlpHistograms::Auto, [false, false, true]),
        (OtlpHistograms::Explicit, [false, false, false]),
        (OtlpHistograms::Exponential, [false, true, true]),
    ] {
        let found = [Classic, Both, Native].map(|kept| wanted.are_exponential(kept));
        assert_eq!(found, expected, "{wanted:?}");
    }
}

#[test]
fn what_cannot_be_is_told_with_its_place() {
    for (file, expected) in [
        (
            "otlp: {endpoint: 'collector:4317'}\n",
            "1:18: otlp.endpoint: \"collector:4317\"",
        ),
        ("otlp: {endpoint: 'ftp://c'}\n", "1:18: otlp.endpoint: "),
        ("otlp: {endpoint: 'http://c:0'}\n", "otlp.endpoint: "),
        ("otlp: {endpoint: 'http://c:99999'}\n", "otlp.endpoint: "),
        ("otlp: {endpoint: 'http://c?x=1'}\n", "has a query"),
        (
            "otlp: {protocol: http/json}\n",
            "none of auto, grpc, http/protobuf",
        ),
        ("otlp: {compression: zstd}\n", "none of gzip, none"),
        (
            "otlp: {timeout: 1ms}\n",
            "1:17: otlp.timeout: \"1ms\" is not a time from 100ms to 3600s",
        ),
        ("otlp: {queue: {bytes: 1KiB}}\n", "otlp.queue.bytes: "),
        ("otlp: {queue: {items: 1}}\n", "otlp.queue.items: "),
        ("otlp: {batch: {delay: 1h}}\n", "otlp.batch.delay: "),
        (
            "otlp: {metrics: {interval: 1ms}}\n",
            "otlp.metrics.interval: ",
        ),
        (
            "otlp: {metrics: {temporality: both}}\n",
            "1:31: otlp.metrics.temporality: \"both\" is none of cumulative, delta",
        ),
        (
            "otlp: {metrics: {histograms: classic}}\n",
            "otlp.metrics.histograms: ",
        ),
        (
            "otlp: {traces: {span_metrics_skip: maybe}}\n",
            "otlp.traces.span_metrics_skip: ",
        ),
        (
            "otlp: {headers: {host: x}}\n",
            "1:24: otlp.headers: \"host\" is written by",
        ),
        ("otlp: {headers: {'a b': x}}\n", "not the name of a field"),
        ("otlp: {tls: {ca: ca.crt}}\n", "otlp.tls.ca: "),
        (
            "otlp: {endpoint: 'https://c', tls: {key: /k}}\n",
            "settings of TLS: otlp.tls.certificate: a client has both",
        ),
    ] {
        let error = loaded(file, &[]).unwrap_err();
        assert!(error.contains(expected), "{file}: {error}");
    }
}

#[test]
fn secrets_are_not_shown() {
    const SECRET: &str = "hunter2";
    for file in [
        "otlp: {endpoint: 'http://me:hunter2@c'}\n",
        "otlp: {headers: {a: \"hunter2\\n\"}}\n",
    ] {
        let error = loaded(file, &[]).unwrap_err();
        assert!(!error.contains(SECRET), "{error}");
    }
    for headers in ["hunter2", "a=%hunter2", "a=hunter2%0a", "host=hunter2"] {
        let error = loaded("", &[("OTEL_EXPORTER_OTLP_HEADERS", headers)]).unwrap_err();
        assert!(!error.contains(SECRET), "{error}");
    }
    let file = "otlp: {endpoint: 'http://c/hunter2', headers: {a: hunter2}}\n";
    let otlp = loaded(file, &[]).unwrap();
    let destination = otlp.destination(Signal::Traces).unwrap();
    assert!(destination.path.contains(SECRET));
    for shown in [
        format!("{otlp:?}"),
        format!("{destination:?}"),
        destination.shown(),
    ] {
        assert!(!shown.contains(SECRET), "{shown}");
    }
}
