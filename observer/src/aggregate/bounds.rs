//! What the aggregate may hold, and what it makes.

use std::time::Duration;

use crate::config::{Histograms, MeshSeries};

/// Bounds of the aggregate.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Most label sets of each group of families.
    pub budgets: Budgets,
    /// How long a series may be without an update before it is removed.
    pub idle: Duration,
    /// Most open connections that are tracked.
    pub connections: usize,
    /// Flows that are kept for those who ask later; at least 1.
    pub flow_history: usize,
    /// Share of flows that is kept and shown live, 0 to 1. Connections are kept or left whole,
    /// failed calls and failed connections are always kept. Does not change any metric.
    pub flow_ratio: f64,
    /// Name of the Kubernetes cluster, a label of everything about services; empty without.
    pub cluster: String,
    /// Whether services are measured by pod, with `k8s_pod_name`. A connection keeps the labels
    /// that it was first seen with.
    pub pod_labels: bool,
    /// Which histograms of durations are kept. Series keep what they began with.
    pub histograms: Histograms,
    /// Families of the service graph, as Tempo names them.
    pub service_graph: bool,
    /// Families of spans by name, as Tempo names them.
    pub span_metrics: bool,
    /// Families as the proxies of meshes name them.
    pub mesh_series: MeshSeries,
}

/// Most label sets of each group of families that share them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budgets {
    /// `http_server_*` histograms.
    pub http_server: usize,
    /// `http_client_*` histograms.
    pub http_client: usize,
    /// Requests in flight.
    pub http_active: usize,
    /// `rpc_server_*`, and messages at servers.
    pub rpc_server: usize,
    /// `rpc_client_*`, and messages at clients.
    pub rpc_client: usize,
    /// `observer_tcp_*`.
    pub tcp: usize,
    /// Services at one end: outcomes, coverage, the table of services.
    pub services: usize,
    /// `dns_*` and `observer_dns_*`.
    pub dns: usize,
    /// `observer_udp_*`.
    pub udp: usize,
    /// Edges of the graph, `observer_edge_*`.
    pub edges: usize,
    /// Pods of this node, `observer_pod_info`.
    pub pods: usize,
    /// Each group of `mesh_finding` and `observer_mesh_*`.
    pub mesh: usize,
}

// === impl Config ===

impl Default for Config {
    fn default() -> Self {
        Self {
            budgets: Budgets::default(),
            idle: Duration::from_secs(5 * 60),
            connections: 131_072,
            flow_history: 8_192,
            flow_ratio: 1.0,
            cluster: String::new(),
            pod_labels: false,
            histograms: Histograms::default(),
            service_graph: true,
            span_metrics: false,
            mesh_series: MeshSeries::default(),
        }
    }
}

// === impl Budgets ===

impl Budgets {
    /// The same budget for every group.
    pub const fn all(budget: usize) -> Self {
        Self {
            http_server: budget,
            http_client: budget,
            http_active: budget,
            rpc_server: budget,
            rpc_client: budget,
            tcp: budget,
            services: budget,
            dns: budget,
            udp: budget,
            edges: budget,
            pods: budget,
            mesh: budget,
        }
    }
}

impl Default for Budgets {
    fn default() -> Self {
        Self::all(2_000)
    }
}
