//! The dashboards, one file each.

use super::{
    contract,
    panel::{Board, Variable},
    query::{Query, Series, count, of},
};

mod edge;
mod encryption;
mod health;
mod mesh;
mod overview;
mod service;
mod tcp;
mod topology;

/// What tells services apart.
pub(super) const SERVICE: &[&str] = &["k8s_cluster_name", "service_namespace", "service_name"];

/// What tells rules of routes apart.
pub(super) const RULE: &[&str] = &["object_kind", "object_namespace", "object_name", "rule"];

/// What tells backends of rules of routes apart.
pub(super) const BACKEND: &[&str] = &[
    "object_kind",
    "object_namespace",
    "object_name",
    "rule",
    "backend",
    "subset",
];

/// What tells edges apart, whichever end saw them.
pub(super) const EDGE: &[&str] = &[
    "k8s_cluster_name",
    "source_kind",
    "source_namespace",
    "source_name",
    "destination_kind",
    "destination_namespace",
    "destination_name",
];

/// Variables of services, and the label that each chooses.
const SERVICES: &[(&str, &str)] = &[
    ("k8s_cluster_name", "cluster"),
    ("service_namespace", "namespace"),
    ("service_name", "service"),
];

/// Variables of edges.
const EDGES: &[(&str, &str)] = &[
    ("k8s_cluster_name", "cluster"),
    ("source_namespace", "source_namespace"),
    ("source_name", "source"),
    ("destination_namespace", "destination_namespace"),
    ("destination_name", "destination"),
];

/// Text of a legend that names a service.
const SERVICE_LEGEND: &str = "{{service_namespace}}/{{service_name}}";

/// Text of a legend that names an edge.
const EDGE_LEGEND: &str = "{{source_name}} to {{destination_name}}";

/// All dashboards.
pub(super) fn all() -> Vec<Board> {
    vec![
        overview::board(),
        service::board(),
        edge::board(),
        tcp::board(),
        encryption::board(),
        mesh::board(),
        topology::board(),
        health::board(),
    ]
}

/// Something about edges, each counted once, by labels: as clients saw it; as servers did where no
/// client was seen; and as those that saw no direction. In a cluster the two ends of an edge are on two
/// nodes, whose agents both tell of it.
pub(super) fn once(
    by: &[&'static str],
    measure: impl Fn(&'static str, &[&'static str]) -> Query,
) -> Query {
    let more = by.iter().filter(|label| !EDGE.contains(label));
    let labels: Vec<&'static str> = EDGE.iter().chain(more).copied().collect();
    let client = measure("client", &labels);
    let server = measure("server", &labels).unless(EDGE, client.clone());
    let all = client.or(server).or(measure("unknown", &labels));
    let same = by.len() == labels.len() && EDGE.iter().all(|label| by.contains(label));
    if same { all } else { all.sum(by) }
}

/// The rate of counters or buckets of edges, each counted once.
pub(super) fn edge_rate(series: impl Fn() -> Series, window: &str, by: &[&'static str]) -> Query {
    once(by, |reporter, labels| {
        series().is("reporter", reporter).rate(window).sum(labels)
    })
}

/// The quantile of buckets of edges, each counted once.
pub(super) fn edge_quantile(
    part: f64,
    family: impl Fn() -> Series,
    window: &str,
    by: &[&'static str],
) -> Query {
    let mut all = by.to_vec();
    all.push("le");
    edge_rate(family, window, &all).quantile(part)
}

/// Requests that servers answered, chosen by variables.
fn requests() -> Series {
    count(&contract::HTTP_SERVER_DURATION).chosen(SERVICES)
}

/// Variables that choose services, of those that have series in `all`.
fn service_variables(all: impl Fn() -> Series) -> Vec<Variable> {
    vec![
        Variable::prometheus(),
        Variable::values("cluster", "Cluster", all(), "k8s_cluster_name"),
        Variable::values(
            "namespace",
            "Namespace",
            all().like("k8s_cluster_name", "$cluster"),
            "service_namespace",
        ),
        Variable::values(
            "service",
            "Service",
            all()
                .like("k8s_cluster_name", "$cluster")
                .like("service_namespace", "$namespace"),
            "service_name",
        ),
    ]
}

/// Variables that choose edges.
fn edge_variables() -> Vec<Variable> {
    let all = || of(&contract::EDGE_SENT_BYTES);
    let choose = |variables: &[(&str, &str)]| all().chosen(variables);
    vec![
        Variable::prometheus(),
        Variable::values("cluster", "Cluster", all(), "k8s_cluster_name"),
        Variable::values(
            "source_namespace",
            "Namespace of the source",
            choose(&[("k8s_cluster_name", "cluster")]),
            "source_namespace",
        ),
        Variable::values(
            "source",
            "Source",
            choose(&[
                ("k8s_cluster_name", "cluster"),
                ("source_namespace", "source_namespace"),
            ]),
            "source_name",
        ),
        Variable::values(
            "destination_namespace",
            "Namespace of the destination",
            choose(&[("k8s_cluster_name", "cluster"), ("source_name", "source")]),
            "destination_namespace",
        ),
        Variable::values(
            "destination",
            "Destination",
            choose(&[
                ("k8s_cluster_name", "cluster"),
                ("source_name", "source"),
                ("destination_namespace", "destination_namespace"),
            ]),
            "destination_name",
        ),
    ]
}
