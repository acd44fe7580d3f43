//! The graph of services as JSON: the one place that documents and makes `/api/v1/graph`.
//!
//! One object ([`Graph`]) with nodes and the edges between them. All keys are always there, `null`
//! where nothing is known; keys may be added. Ids are stable: they are made of what tells nodes and
//! edges apart, so they are the same in every answer and from every agent of a cluster.
//!
//! An edge is what one end saw, its `reporter`. Connections of which both ends are on this host are
//! counted once: by their clients, or by their servers where no client of this host was seen with
//! that source and destination. So edges can be added up. `seen_from` tells which ends were seen.

use std::collections::{BTreeMap, BTreeSet};

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use serde::Serialize;

use crate::aggregate::{
    graph::{EdgeRow, Party, PartyKind},
    sketch::WINDOW_SECONDS,
};

use super::Hub;

/// Answer of `/api/v1/graph`.
#[derive(Debug, Serialize)]
struct Graph {
    /// Seconds that rates look back; quantiles look back one to two times as long.
    window_seconds: u64,
    /// All that is an end of an edge, by id.
    nodes: Vec<Node>,
    /// Busiest first.
    edges: Vec<Edge>,
}

/// Who calls or is called.
#[derive(Debug, Serialize)]
struct Node {
    /// `workload:NAMESPACE/KIND/NAME`, `service:NAMESPACE/NAME`,
    /// `kubernetes_service:NAMESPACE/NAME`, `identity:NAMESPACE/NAME`, `node:NAME`, `network:NAME`,
    /// `name:NAME`, `outside`, `unknown`, or `overflow`. In the parts `%` is written `%25`, and `/`
    /// is `%2F`.
    id: String,
    /// `workload` (pods of a workload of Kubernetes), `service` (of this host, in no pod), `node`,
    /// `network` (that the configuration names), `kubernetes_service` (one of the workloads behind
    /// it, and a proxy knows which), `identity` (workloads with a service account, and a proxy knows
    /// which), `name` (that a lookup of DNS had led to), `outside`
    /// (all addresses that nothing more is known of), `unknown` (processes of this host that nothing
    /// is known of), `overflow` (all edges beyond the budget).
    kind: &'static str,
    /// Namespace of a workload; `service.namespace` of a service.
    namespace: Option<String>,
    /// Kind of a workload, as `Deployment`.
    workload_kind: Option<String>,
    /// Name.
    name: Option<String>,
}

/// What one end saw of the connections from a source to a destination. Rates are per second over
/// the window; what ends in `_total` counts from when the edge began.
#[derive(Debug, Serialize)]
struct Edge {
    /// Made of all that tells edges apart.
    id: String,
    /// Id of the node that connects. With reporter `unknown` that is not known, and it is the
    /// observed end.
    source: String,
    /// Id of the node that is connected to.
    destination: String,
    /// Service of Kubernetes that the client dialled.
    dialled_service: Option<String>,
    /// Namespace of that.
    dialled_namespace: Option<String>,
    /// `http`, `grpc`, `grpc-web`, `dns`, `quic`, `udp`, another that first bytes showed, or `tcp`.
    protocol: &'static str,
    /// `plaintext`, `tls`, `istio_mtls`, `hbone`, `linkerd_mtls`, `unknown`.
    security: &'static str,
    /// Zone of the source.
    source_zone: Option<String>,
    /// Zone of the destination.
    destination_zone: Option<String>,
    /// End that saw what is told here: `client`, `server`, or `unknown`.
    reporter: &'static str,
    /// Both ends are on this host.
    same_host: bool,
    /// Ends that saw connections from this source to this destination, within this host where it is
    /// one of the same host: `client`, `server`, `both`, or `unknown`.
    seen_from: &'static str,
    /// Calls and lookups.
    requests_per_second: f64,
    /// Those that failed.
    errors_per_second: f64,
    /// Failed by all, over the window; `null` without any.
    error_ratio: Option<f64>,
    p50_seconds: Option<f64>,
    p95_seconds: Option<f64>,
    p99_seconds: Option<f64>,
    /// From source to destination.
    sent_bytes_per_second: f64,
    /// From destination to source.
    received_bytes_per_second: f64,
    /// Mean round-trip time, since the edge began.
    rtt_seconds: Option<f64>,
    open_connections: u64,
    requests_total: u64,
    errors_total: u64,
    sent_bytes_total: u64,
    received_bytes_total: u64,
    connections_opened_total: u64,
    connect_failures_total: u64,
    /// Segments that the reporter sent again.
    retransmits_total: u64,
}

/// Which ends saw what goes from one node to another.
#[derive(Debug, Default)]
pub(super) struct Seen<'a>(BTreeMap<(&'a Party, &'a Party, bool), BTreeSet<&'static str>>);

pub(super) async fn graph(State(hub): State<Hub>) -> Response {
    match hub.graph().await {
        Ok(rows) => Json(Graph::new(&rows)).into_response(),
        Err(error) => error.into_response(),
    }
}

// === impl Graph ===

impl Graph {
    fn new(rows: &[EdgeRow]) -> Self {
        let seen = Seen::of(rows);
        let mut nodes: BTreeMap<String, Node> = BTreeMap::new();
        let mut edges = Vec::new();
        for row in rows {
            if seen.is_counted_elsewhere(row) {
                continue;
            }
            for party in [&row.source, &row.destination] {
                let node = Node::new(party);
                nodes.insert(node.id.clone(), node);
            }
            edges.push(Edge::new(row, seen.from(row)));
        }
        edges.sort_by(|left, right| {
            right
                .requests_per_second
                .total_cmp(&left.requests_per_second)
                .then_with(|| left.id.cmp(&right.id))
        });
        Self {
            window_seconds: WINDOW_SECONDS,
            nodes: nodes.into_values().collect(),
            edges,
        }
    }
}

// === impl Seen ===

impl<'a> Seen<'a> {
    pub(super) fn of(rows: impl IntoIterator<Item = &'a EdgeRow>) -> Self {
        let mut seen = Self::default();
        for row in rows {
            let ends = (&row.source, &row.destination, row.same_host);
            seen.0.entry(ends).or_default().insert(row.reporter);
        }
        seen
    }

    /// Whether the same connections are on an edge of their client.
    pub(super) fn is_counted_elsewhere(&self, row: &EdgeRow) -> bool {
        row.same_host && row.reporter == "server" && self.by(row, "client")
    }

    /// Ends that saw it: `client`, `server`, `both`, or `unknown`.
    fn from(&self, row: &EdgeRow) -> &'static str {
        match (self.by(row, "client"), self.by(row, "server")) {
            (true, true) => "both",
            (true, false) => "client",
            (false, true) => "server",
            (false, false) => "unknown",
        }
    }

    fn by(&self, row: &EdgeRow, end: &str) -> bool {
        let reporters = self.0.get(&(&row.source, &row.destination, row.same_host));
        reporters.is_some_and(|reporters| reporters.contains(end))
    }
}

// === impl Node ===

impl Node {
    fn new(party: &Party) -> Self {
        Self {
            id: id(party),
            kind: party.kind.as_str(),
            namespace: known(&party.namespace),
            workload_kind: known(&party.workload_kind),
            name: known(&party.name),
        }
    }
}

// === impl Edge ===

impl Edge {
    fn new(row: &EdgeRow, seen_from: &'static str) -> Self {
        let (source, destination) = (id(&row.source), id(&row.destination));
        let (dialled_namespace, dialled_service) = row.dialled.clone().unzip();
        let rate = row.requests_per_second;
        let dialled = row
            .dialled
            .as_ref()
            .map(|(namespace, name)| format!("{}/{}", escaped(namespace), escaped(name)));
        let mut parts = vec![
            source.clone(),
            destination.clone(),
            dialled.unwrap_or_default(),
            row.protocol.to_owned(),
            row.security.to_owned(),
            escaped(&row.source_zone),
            escaped(&row.destination_zone),
            row.reporter.to_owned(),
        ];
        parts.extend(row.same_host.then(|| "same_host".to_owned()));
        Self {
            id: parts.join("|"),
            source,
            destination,
            dialled_service,
            dialled_namespace,
            protocol: row.protocol,
            security: row.security,
            source_zone: known(&row.source_zone),
            destination_zone: known(&row.destination_zone),
            reporter: row.reporter,
            same_host: row.same_host,
            seen_from,
            requests_per_second: rate,
            errors_per_second: row.errors_per_second,
            error_ratio: (rate > 0.0).then(|| row.errors_per_second / rate),
            p50_seconds: row.quantiles.map(|[p50, ..]| p50),
            p95_seconds: row.quantiles.map(|[_, p95, _]| p95),
            p99_seconds: row.quantiles.map(|[.., p99]| p99),
            sent_bytes_per_second: row.sent_bytes_per_second,
            received_bytes_per_second: row.received_bytes_per_second,
            rtt_seconds: row.rtt_seconds,
            open_connections: row.open_connections,
            requests_total: row.requests,
            errors_total: row.errors,
            sent_bytes_total: row.sent_bytes,
            received_bytes_total: row.received_bytes,
            connections_opened_total: row.connections_opened,
            connect_failures_total: row.connect_failures,
            retransmits_total: row.retransmits,
        }
    }
}

fn known(text: &str) -> Option<String> {
    Some(text.to_owned()).filter(|text| !text.is_empty())
}

/// Id of a node.
pub(super) fn id(party: &Party) -> String {
    let kind = party.kind.as_str();
    let [namespace, workload, name] =
        [&party.namespace, &party.workload_kind, &party.name].map(|part| escaped(part));
    match party.kind {
        PartyKind::Workload => format!("{kind}:{namespace}/{workload}/{name}"),
        PartyKind::Service | PartyKind::Dialled | PartyKind::Identity => {
            format!("{kind}:{namespace}/{name}")
        }
        PartyKind::Node | PartyKind::Network | PartyKind::Name => format!("{kind}:{name}"),
        PartyKind::Outside | PartyKind::Unknown | PartyKind::Overflow => kind.to_owned(),
    }
}

/// Without what stands between the parts of an id.
pub(super) fn escaped(part: &str) -> String {
    part.replace('%', "%25")
        .replace('/', "%2F")
        .replace('|', "%7C")
}

#[cfg(test)]
mod tests;
