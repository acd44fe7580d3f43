//! Names of metrics, units and attributes.
//!
//! A family of the semantic conventions has its name there. Every other one has its Prometheus name
//! without what its kind and unit add (`_total`, `_seconds`, `_bytes`, `_ratio`), and with `.` for
//! `_`; the unit stays where the name would be that of two families. So what Prometheus makes of OTLP (its translation `UnderscoreEscapingWithSuffixes`) is the
//! name of the contract again, and the same queries work whichever way metrics came.
//!
//! Units are those of UCUM: `s`, `By`, `1` for ratios. What is counted is an annotation in braces
//! (`{request}`), which Prometheus leaves out of names. A label becomes the attribute of the
//! conventions that translates to it, or stays as it is.

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use opentelemetry_proto::tonic::common::v1::KeyValue;

use super::super::attributes::Attributes;
use crate::aggregate::contract::{FAMILIES, Family, Kind};

/// Attributes with dots that labels stand for.
const DOTTED: &[&str] = &[
    "cloud.availability_zone",
    "cloud.region",
    "destination.kind",
    "destination.name",
    "destination.namespace",
    "destination.workload.kind",
    "destination.zone",
    "dns.question.type",
    "dns.response.code",
    "error.type",
    "http.request.method",
    "http.response.status_code",
    "http.route",
    "k8s.cluster.name",
    "k8s.container.name",
    "k8s.cronjob.name",
    "k8s.daemonset.name",
    "k8s.deployment.name",
    "k8s.job.name",
    "k8s.namespace.name",
    "k8s.node.name",
    "k8s.pod.name",
    "k8s.pod.uid",
    "k8s.replicaset.name",
    "k8s.service.name",
    "k8s.service.namespace",
    "k8s.statefulset.name",
    "k8s.workload.kind",
    "k8s.workload.name",
    "network.peer.address",
    "network.peer.port",
    "network.protocol.name",
    "network.protocol.version",
    "network.transport",
    "otel.metric.overflow",
    "rpc.method",
    "rpc.response.status_code",
    "rpc.system.name",
    "server.address",
    "server.port",
    "service.instance.id",
    "service.name",
    "service.namespace",
    "service.peer.name",
    "service.peer.namespace",
    "service.version",
    "source.kind",
    "source.name",
    "source.namespace",
    "source.workload.kind",
    "source.zone",
    "url.scheme",
    "url.template",
    "user_agent.original",
    "host.id",
    "host.name",
];

/// Attributes that are whole numbers.
const INTEGERS: &[&str] = &[
    "http.response.status_code",
    "network.peer.port",
    "server.port",
];

/// Attributes that are true or false.
const FLAGS: &[&str] = &["otel.metric.overflow", "reset", "same_host"];

/// What the last word of a name counts.
const COUNTED: &[(&str, &str)] = &[
    ("calls", "{call}"),
    ("closed", "{connection}"),
    ("connections", "{connection}"),
    ("entries", "{entry}"),
    ("errors", "{error}"),
    ("exchanges", "{exchange}"),
    ("failed", "{request}"),
    ("failures", "{connection}"),
    ("items", "{item}"),
    ("lookups", "{lookup}"),
    ("loss", "{loss}"),
    ("messages", "{message}"),
    ("objects", "{object}"),
    ("opened", "{connection}"),
    ("overflow", "{update}"),
    ("packets", "{packet}"),
    ("records", "{record}"),
    ("request", "{request}"),
    ("requests", "{request}"),
    ("retransmits", "{segment}"),
    ("retries", "{question}"),
    ("runs", "{run}"),
    ("segments", "{segment}"),
];

/// From families and labels to metrics and attributes.
#[derive(Debug)]
pub(super) struct Names {
    metrics: HashMap<&'static str, String, RandomState>,
    dotted: HashMap<String, &'static str, RandomState>,
}

/// Name of a family in OTLP.
fn metric(family: &Family) -> String {
    if let Some(convention) = family.convention {
        return convention.to_owned();
    }
    let stem = stem(family);
    let alone = FAMILIES
        .iter()
        .all(|other| other.name == family.name || self::stem(other) != stem);
    match alone {
        true => stem.replace('_', "."),
        false => without_total(family).replace('_', "."),
    }
}

/// Its unit.
pub(super) fn unit(family: &Family) -> &'static str {
    match family.unit {
        Some("seconds") => "s",
        Some("bytes") => "By",
        Some("ratio") => "1",
        Some(_) => "",
        None if family.kind == Kind::Info => "",
        None => {
            let name = stem(family);
            let last = name.rsplit_once('_').map_or(name, |(_, last)| last);
            let known = COUNTED.iter().find(|(word, _)| *word == last);
            known.map_or("", |(_, unit)| unit)
        }
    }
}

/// The name without what kind and unit added.
fn stem(family: &Family) -> &str {
    let name = without_total(family);
    let suffix = family.unit.and_then(|unit| {
        let rest = name.strip_suffix(unit)?;
        rest.strip_suffix('_')
    });
    suffix.unwrap_or(name)
}

fn without_total(family: &Family) -> &str {
    match family.kind {
        Kind::Counter => family.name.strip_suffix("_total").unwrap_or(family.name),
        Kind::Gauge | Kind::Histogram | Kind::Info => family.name,
    }
}

// === impl Names ===

impl Names {
    pub(super) fn new() -> Self {
        let dotted = DOTTED.iter().map(|name| (name.replace('.', "_"), *name));
        let metrics = FAMILIES.iter().map(|family| (family.name, metric(family)));
        Self {
            metrics: metrics.collect(),
            dotted: dotted.collect(),
        }
    }

    /// Name of a family in OTLP.
    pub(super) fn metric(&self, family: &Family) -> String {
        let known = self.metrics.get(family.name);
        known.cloned().unwrap_or_else(|| metric(family))
    }

    /// The attribute that a label stands for.
    pub(super) fn key(&self, label: &'static str) -> &'static str {
        self.dotted.get(label).copied().unwrap_or(label)
    }

    /// Labels as attributes.
    pub(super) fn attributes<'a>(
        &self,
        labels: impl Iterator<Item = (&'static str, &'a str)>,
    ) -> Vec<KeyValue> {
        let mut out = Attributes::with_capacity(8);
        for (label, value) in labels {
            let key = self.key(label);
            match (value.parse::<i64>(), value) {
                (Ok(number), _) if INTEGERS.contains(&key) => out.integer(key, number),
                (_, "true" | "false") if FLAGS.contains(&key) => out.flag(key, value == "true"),
                _ => out.text(key, value),
            }
        }
        out.0
    }
}
