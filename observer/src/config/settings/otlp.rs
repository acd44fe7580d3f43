//! The settings of OTLP, and the variables that OpenTelemetry has for them.

use std::{path::PathBuf, time::Duration};

use super::{
    super::{
        Config, ConfigError, OtlpHistograms, OtlpTls, Signal, Temporality, otlp, parse_bytes,
        parse_duration,
    },
    Setting, between, count, kubernetes, truth,
};

/// One setting: its constant, its key, and what it does.
macro_rules! settings {
    ($($constant:ident $key:literal $set:expr;)*) => {
        $(pub(in crate::config) const $constant: Setting = Setting { key: $key, set: $set };)*
    };
}

settings! {
    OTLP_ENDPOINT "otlp.endpoint" |config, text| put(&mut config.otlp.endpoint, otlp::endpoint(text));
    OTLP_PROTOCOL "otlp.protocol" |config, text| put(&mut config.otlp.protocol, otlp::protocol(text));
    OTLP_HEADERS "otlp.headers" |config, text| put(&mut config.otlp.headers, otlp::headers(text));
    OTLP_COMPRESSION "otlp.compression" |config, text| put(&mut config.otlp.compression, otlp::compression(text));
    OTLP_TIMEOUT "otlp.timeout" |config, text| put(&mut config.otlp.timeout, timeout(text));
    OTLP_CA "otlp.tls.ca" |config, text| put(&mut config.otlp.tls.ca, file(text));
    OTLP_CERTIFICATE "otlp.tls.certificate" |config, text| put(&mut config.otlp.tls.certificate, file(text));
    OTLP_KEY "otlp.tls.key" |config, text| put(&mut config.otlp.tls.key, file(text));
    OTLP_TRACES_ENABLED "otlp.traces.enabled" |config, text| put(&mut config.otlp.traces.enabled, truth(text));
    OTLP_TRACES_ENDPOINT "otlp.traces.endpoint" |config, text| put(&mut config.otlp.traces.endpoint, otlp::endpoint(text));
    OTLP_TRACES_PROTOCOL "otlp.traces.protocol" |config, text| put(&mut config.otlp.traces.protocol, otlp::protocol(text).map(Some));
    OTLP_TRACES_HEADERS "otlp.traces.headers" |config, text| put(&mut config.otlp.traces.headers, otlp::headers(text).map(Some));
    OTLP_METRICS_ENABLED "otlp.metrics.enabled" |config, text| put(&mut config.otlp.metrics.enabled, truth(text));
    OTLP_METRICS_ENDPOINT "otlp.metrics.endpoint" |config, text| put(&mut config.otlp.metrics.endpoint, otlp::endpoint(text));
    OTLP_METRICS_PROTOCOL "otlp.metrics.protocol" |config, text| put(&mut config.otlp.metrics.protocol, otlp::protocol(text).map(Some));
    OTLP_METRICS_HEADERS "otlp.metrics.headers" |config, text| put(&mut config.otlp.metrics.headers, otlp::headers(text).map(Some));
    OTLP_METRICS_INTERVAL "otlp.metrics.interval" |config, text| put(&mut config.otlp.interval, between(text, SECOND, HOUR));
    OTLP_SKIP "otlp.traces.span_metrics_skip" |config, text| put(&mut config.otlp.span_metrics_skip, truth(text));
    OTLP_TEMPORALITY "otlp.metrics.temporality" |config, text| put(&mut config.otlp.temporality, Temporality::parse(text));
    OTLP_HISTOGRAMS "otlp.metrics.histograms" |config, text| put(&mut config.otlp.histograms, OtlpHistograms::parse(text));
    OTLP_LOGS_ENABLED "otlp.logs.enabled" |config, text| put(&mut config.otlp.logs.enabled, truth(text));
    OTLP_LOGS_ENDPOINT "otlp.logs.endpoint" |config, text| put(&mut config.otlp.logs.endpoint, otlp::endpoint(text));
    OTLP_LOGS_PROTOCOL "otlp.logs.protocol" |config, text| put(&mut config.otlp.logs.protocol, otlp::protocol(text).map(Some));
    OTLP_LOGS_HEADERS "otlp.logs.headers" |config, text| put(&mut config.otlp.logs.headers, otlp::headers(text).map(Some));
    OTLP_QUEUE_ITEMS "otlp.queue.items" |config, text| put(&mut config.otlp.queue_items, count(text, 16, 1 << 20));
    OTLP_QUEUE_BYTES "otlp.queue.bytes" |config, text| put(&mut config.otlp.queue_bytes, queue_bytes(text));
    OTLP_BATCH_ITEMS "otlp.batch.items" |config, text| put(&mut config.otlp.batch_items, count(text, 1, 65_536));
    OTLP_BATCH_DELAY "otlp.batch.delay" |config, text| put(&mut config.otlp.batch_delay, delay(text));
    OTLP_MAX_ELAPSED "otlp.retry.max_elapsed" |config, text| put(&mut config.otlp.max_elapsed, between(text, Duration::ZERO, HOUR));
}

/// What a variable of OpenTelemetry sets, for all signals or for one.
type Set = fn(&mut Config, Option<Signal>, &str) -> Result<(), String>;

/// Variables of OpenTelemetry's exporters, behind `OTEL_EXPORTER_OTLP_` and the name of a signal;
/// with the key that is told in errors.
const STANDARD: &[(&str, &str, Set)] = &[
    ("ENDPOINT", "endpoint", |config, signal, text| {
        put(
            match signal {
                None => &mut config.otlp.endpoint,
                Some(signal) => &mut config.otlp.of_mut(signal).endpoint,
            },
            otlp::endpoint(text),
        )
    }),
    ("PROTOCOL", "protocol", |config, signal, text| {
        let protocol = otlp::protocol(text)?;
        match signal {
            None => config.otlp.protocol = protocol,
            Some(signal) => config.otlp.of_mut(signal).protocol = Some(protocol),
        }
        Ok(())
    }),
    ("HEADERS", "headers", |config, signal, text| {
        let headers = otlp::headers(text)?;
        match signal {
            None => config.otlp.headers = headers,
            Some(signal) => config.otlp.of_mut(signal).headers = Some(headers),
        }
        Ok(())
    }),
    ("TIMEOUT", "timeout", |config, signal, text| {
        let timeout = milliseconds(text)?;
        match signal {
            None => config.otlp.timeout = timeout,
            Some(signal) => config.otlp.of_mut(signal).timeout = Some(timeout),
        }
        Ok(())
    }),
    ("COMPRESSION", "compression", |config, signal, text| {
        let compression = otlp::compression(text)?;
        match signal {
            None => config.otlp.compression = compression,
            Some(signal) => config.otlp.of_mut(signal).compression = Some(compression),
        }
        Ok(())
    }),
    ("CERTIFICATE", "tls.ca", |config, signal, text| {
        put(&mut tls(config, signal).ca, file(text))
    }),
    (
        "CLIENT_CERTIFICATE",
        "tls.certificate",
        |config, signal, text| put(&mut tls(config, signal).certificate, file(text)),
    ),
    ("CLIENT_KEY", "tls.key", |config, signal, text| {
        put(&mut tls(config, signal).key, file(text))
    }),
];

/// What counters and histograms tell.
const TEMPORALITY: &str = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE";
/// Which buckets histograms have.
const HISTOGRAMS: &str = "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION";
/// Between two exports of metrics, milliseconds.
const INTERVAL: &str = "OTEL_METRIC_EXPORT_INTERVAL";

/// Sets what variables of OpenTelemetry say. An empty one is one that is not set.
pub(super) fn apply_standard(
    config: &mut Config,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<(), ConfigError> {
    let set = |name: &str| environment(name).filter(|value| !value.trim().is_empty());
    let failed = |name: &str, key: String, problem| ConfigError {
        place: format!("environment variable {name}"),
        key,
        problem,
    };
    let signals = Signal::ALL.into_iter().map(Some);
    for signal in std::iter::once(None).chain(signals) {
        for (variable, key, apply) in STANDARD {
            let (upper, lower) = match signal {
                None => (String::new(), String::new()),
                Some(signal) => (
                    signal.as_str().to_ascii_uppercase() + "_",
                    format!(".{}", signal.as_str()),
                ),
            };
            let name = format!("OTEL_EXPORTER_OTLP_{upper}{variable}");
            if let Some(text) = set(&name) {
                apply(config, signal, &text)
                    .map_err(|problem| failed(&name, format!("otlp{lower}.{key}"), problem))?;
            }
        }
    }
    if let Some(text) = set(TEMPORALITY) {
        config.otlp.temporality = Temporality::parse(&text)
            .map_err(|problem| failed(TEMPORALITY, OTLP_TEMPORALITY.key.to_owned(), problem))?;
    }
    if let Some(text) = set(HISTOGRAMS) {
        config.otlp.histograms = OtlpHistograms::of_variable(&text)
            .map_err(|problem| failed(HISTOGRAMS, OTLP_HISTOGRAMS.key.to_owned(), problem))?;
    }
    if let Some(text) = set(INTERVAL) {
        config.otlp.interval = milliseconds(&text)
            .and_then(|interval| within(&text, interval, SECOND, HOUR))
            .map_err(|problem| failed(INTERVAL, OTLP_METRICS_INTERVAL.key.to_owned(), problem))?;
    }
    Ok(())
}

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

fn tls(config: &mut Config, signal: Option<Signal>) -> &mut OtlpTls {
    match signal {
        None => &mut config.otlp.tls,
        Some(signal) => &mut config.otlp.of_mut(signal).tls,
    }
}

fn put<T>(place: &mut T, value: Result<T, String>) -> Result<(), String> {
    *place = value?;
    Ok(())
}

fn file(text: &str) -> Result<Option<PathBuf>, String> {
    kubernetes::file(text).map(Some)
}

fn timeout(text: &str) -> Result<Duration, String> {
    within(
        text,
        parse_duration(text)?,
        Duration::from_millis(100),
        HOUR,
    )
}

fn milliseconds(text: &str) -> Result<Duration, String> {
    let milliseconds = text
        .trim()
        .parse()
        .map_err(|_| format!("{text:?} is not a number of milliseconds"))?;
    within(
        text,
        Duration::from_millis(milliseconds),
        Duration::from_millis(100),
        HOUR,
    )
}

fn delay(text: &str) -> Result<Duration, String> {
    let least = Duration::from_millis(10);
    within(text, parse_duration(text)?, least, Duration::from_secs(60))
}

fn within(
    text: &str,
    duration: Duration,
    least: Duration,
    most: Duration,
) -> Result<Duration, String> {
    if (least..=most).contains(&duration) {
        Ok(duration)
    } else {
        Err(format!("{text:?} is not a time from {least:?} to {most:?}"))
    }
}

fn queue_bytes(text: &str) -> Result<u64, String> {
    let bytes = parse_bytes(text)?;
    if (64 << 10..=1 << 30).contains(&bytes) {
        Ok(bytes)
    } else {
        Err(format!("{text:?} is not a size from 64KiB to 1GiB"))
    }
}
