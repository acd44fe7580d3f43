//! The part of the configuration file that is about OTLP.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{
    super::{Config, ConfigError, Headers, otlp},
    Value, place,
    settings::{self, Setting},
};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Section {
    endpoint: Option<Value>,
    protocol: Option<Value>,
    headers: Option<BTreeMap<String, Value>>,
    compression: Option<Value>,
    timeout: Option<Value>,
    tls: TlsSection,
    traces: TracesSection,
    metrics: MetricsSection,
    logs: SignalSection,
    queue: QueueSection,
    batch: BatchSection,
    retry: RetrySection,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct TlsSection {
    ca: Option<Value>,
    certificate: Option<Value>,
    key: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SignalSection {
    enabled: Option<Value>,
    endpoint: Option<Value>,
    protocol: Option<Value>,
    headers: Option<BTreeMap<String, Value>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct TracesSection {
    enabled: Option<Value>,
    endpoint: Option<Value>,
    protocol: Option<Value>,
    headers: Option<BTreeMap<String, Value>>,
    span_metrics_skip: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct MetricsSection {
    enabled: Option<Value>,
    endpoint: Option<Value>,
    protocol: Option<Value>,
    headers: Option<BTreeMap<String, Value>>,
    interval: Option<Value>,
    temporality: Option<Value>,
    histograms: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct QueueSection {
    items: Option<Value>,
    bytes: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct BatchSection {
    items: Option<Value>,
    delay: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RetrySection {
    max_elapsed: Option<Value>,
}

/// Sets what `section` of the file `name` sets.
pub(super) fn apply(config: &mut Config, name: &str, section: Section) -> Result<(), ConfigError> {
    let Section {
        endpoint,
        protocol,
        headers: fields,
        compression,
        timeout,
        tls,
        traces,
        metrics,
        logs,
        queue,
        batch,
        retry,
    } = section;
    let single = [
        (settings::OTLP_ENDPOINT, endpoint),
        (settings::OTLP_PROTOCOL, protocol),
        (settings::OTLP_COMPRESSION, compression),
        (settings::OTLP_TIMEOUT, timeout),
        (settings::OTLP_CA, tls.ca),
        (settings::OTLP_CERTIFICATE, tls.certificate),
        (settings::OTLP_KEY, tls.key),
        (settings::OTLP_TRACES_ENABLED, traces.enabled),
        (settings::OTLP_TRACES_ENDPOINT, traces.endpoint),
        (settings::OTLP_TRACES_PROTOCOL, traces.protocol),
        (settings::OTLP_SKIP, traces.span_metrics_skip),
        (settings::OTLP_METRICS_ENABLED, metrics.enabled),
        (settings::OTLP_METRICS_ENDPOINT, metrics.endpoint),
        (settings::OTLP_METRICS_PROTOCOL, metrics.protocol),
        (settings::OTLP_METRICS_INTERVAL, metrics.interval),
        (settings::OTLP_TEMPORALITY, metrics.temporality),
        (settings::OTLP_HISTOGRAMS, metrics.histograms),
        (settings::OTLP_LOGS_ENABLED, logs.enabled),
        (settings::OTLP_LOGS_ENDPOINT, logs.endpoint),
        (settings::OTLP_LOGS_PROTOCOL, logs.protocol),
        (settings::OTLP_QUEUE_ITEMS, queue.items),
        (settings::OTLP_QUEUE_BYTES, queue.bytes),
        (settings::OTLP_BATCH_ITEMS, batch.items),
        (settings::OTLP_BATCH_DELAY, batch.delay),
        (settings::OTLP_MAX_ELAPSED, retry.max_elapsed),
    ];
    for (setting, value) in single {
        if let Some(value) = value {
            setting.apply(config, &value.value, || place(name, &value))?;
        }
    }
    if let Some(fields) = fields {
        config.otlp.headers = headers(name, settings::OTLP_HEADERS, &fields)?;
    }
    for (signal, setting, fields) in [
        (
            &mut config.otlp.traces,
            settings::OTLP_TRACES_HEADERS,
            traces.headers,
        ),
        (
            &mut config.otlp.metrics,
            settings::OTLP_METRICS_HEADERS,
            metrics.headers,
        ),
        (
            &mut config.otlp.logs,
            settings::OTLP_LOGS_HEADERS,
            logs.headers,
        ),
    ] {
        if let Some(fields) = fields {
            signal.headers = Some(headers(name, setting, &fields)?);
        }
    }
    Ok(())
}

/// Fields of requests, each checked where it is written.
fn headers(
    file: &str,
    setting: Setting,
    fields: &BTreeMap<String, Value>,
) -> Result<Headers, ConfigError> {
    let failed = |value: Option<&Value>, problem| ConfigError {
        place: value.map_or_else(|| file.to_owned(), |value| place(file, value)),
        key: setting.key.to_owned(),
        problem,
    };
    let mut headers = Vec::with_capacity(fields.len());
    for (name, value) in fields {
        let header = otlp::header(name, value.value.as_bytes());
        headers.push(header.map_err(|problem| failed(Some(value), problem))?);
    }
    let first = fields.values().next();
    otlp::bounded(headers).map_err(|problem| failed(first, problem))
}
