//! The graph for the Node Graph panel of Grafana: the one place that documents `/api/v1/node-graph`.
//!
//! One object ([`NodeGraph`]) with the two tables that the panel wants. It is made for the data
//! source Infinity: format `Nodes - Node Graph` with the root selector `nodes`, and
//! `Edges - Node Graph` with `edges`. The plugin "Node Graph API" gets the same from `/api/graph/data`
//! ([`plugin`]). Names of fields are those that the panel looks for, without regard to case; all
//! fields are always there, `null` where nothing is known, and fields may be added.
//!
//! Between two nodes there is one edge in each direction, whatever was spoken there: the panel draws
//! edges with the same ends over each other. Calls within this host are seen from both ends and
//! counted once, at the client where it is known (see `/api/v1/graph`). Parameters are in
//! [`Parameters`]; windows and how exact they are in [`past`](crate::aggregate::graph::past).

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Serialize;

use super::Hub;
use parameters::Parameters;
pub(super) use parameters::is_called;
use picture::Picture;

mod parameters;
mod picture;
pub(super) mod plugin;
mod show;

/// Answer of `/api/v1/node-graph`.
#[derive(Debug, PartialEq, Serialize)]
struct NodeGraph {
    /// Who calls or is called; the busiest first.
    nodes: Vec<Node>,
    /// Who calls whom; the busiest first.
    edges: Vec<Edge>,
    /// Length of the window in seconds: what was asked for, and up to `granularity_seconds` more; or
    /// less, when the observer is younger.
    window_seconds: f64,
    /// How much longer than asked for the window may be, seconds.
    granularity_seconds: u64,
    /// Nodes that are left out, as there are more than `limit`: those that do least.
    nodes_left_out: usize,
    /// Edges that are left out, as one of their ends is.
    edges_left_out: usize,
}

/// A row of the table of nodes. What it tells is about the calls that the node received, or those
/// that it made if it received none.
#[derive(Debug, PartialEq, Serialize)]
#[expect(non_snake_case, reason = "the names that the panel looks for")]
struct Node {
    /// As in `/api/v1/graph`; or `namespace:NAME`, `kubernetes_service:NAMESPACE/NAME`, `zone:NAME`
    /// where they are grouped.
    id: String,
    /// Name; the kind for those that have none.
    title: String,
    /// Namespace and kind.
    subtitle: String,
    /// Requests per second, as `12.5/s`; bytes per second where there are no requests, as `1.2 MB/s`.
    mainstat: String,
    /// Quantile 0.95 of durations, as `p95 12 ms`; empty without.
    secondarystat: String,
    /// Share of requests that did not fail. The three add up to 1.
    arc__success: f64,
    /// Share of requests that failed.
    arc__errors: f64,
    /// 1 if there were no requests, else 0.
    arc__idle: f64,
    /// Colour of the arc of the same name, for Infinity.
    arc__success_color: &'static str,
    /// Colour of the arc of the same name, for Infinity.
    arc__errors_color: &'static str,
    /// Colour of the arc of the same name, for Infinity.
    arc__idle_color: &'static str,
    /// Icon of Grafana, for kinds that are not observed themselves: the panel shows it in the place of
    /// `mainstat` and `secondarystat`.
    icon: Option<&'static str>,
    /// Colour by share of errors, where the panel shows no arcs.
    color: &'static str,
    /// `workload`, `service`, `node`, `network`, `name`, `outside`, `unknown`, `overflow` as in
    /// `/api/v1/graph`; or `namespace`, `kubernetes_service`, `zone`.
    detail__kind: &'static str,
    detail__namespace: Option<String>,
    /// Kind of a workload, as `Deployment`.
    detail__workload_kind: Option<String>,
    /// Zones that it was seen in, with commas between.
    detail__zone: Option<String>,
    /// Requests that it received per second.
    detail__requests_per_second: f64,
    /// Requests that it made per second.
    detail__made_per_second: f64,
    /// Failed by all of the requests that the arcs are about; `null` without any.
    detail__error_ratio: Option<f64>,
    detail__p50_seconds: Option<f64>,
    detail__p95_seconds: Option<f64>,
    detail__p99_seconds: Option<f64>,
    /// Payload bytes that it sent, as source and as destination.
    detail__sent_bytes_per_second: f64,
    /// Payload bytes that it received, as source and as destination.
    detail__received_bytes_per_second: f64,
    /// Share that is encrypted of what it exchanges: of requests, or of bytes without any, or of open
    /// connections without those; `null` without any of that.
    detail__encrypted_ratio: Option<f64>,
    /// The same by kind of security, as `istio_mtls 90%, plaintext 10%`.
    detail__security: String,
}

/// A row of the table of edges. Rates are per second over the window.
#[derive(Debug, PartialEq, Serialize)]
#[expect(non_snake_case, reason = "the names that the panel looks for")]
struct Edge {
    /// Ids of the ends with `|` between.
    id: String,
    /// Id of the node that connects.
    source: String,
    /// Id of the node that is connected to.
    target: String,
    /// Requests per second, as `12.5/s`; bytes per second where there are no requests, as `1.2 MB/s`.
    mainstat: String,
    /// Quantile 0.95 of durations and share of errors, as `p95 12 ms, 1.5% failed`.
    secondarystat: String,
    /// Width of the line, 1 to 6, by the magnitude of the rate.
    thickness: f64,
    /// Red when 5% or more fail, orange when any does; else by security: green where all is encrypted,
    /// yellow where something is in the clear, grey where that is not known.
    color: &'static str,
    /// How the line is dashed: `8 4` where something is in the clear, `2 4` where security is not
    /// known, else `null`.
    #[serde(rename = "strokeDasharray")]
    stroke_dasharray: Option<&'static str>,
    /// All that is spoken, with commas between, as in `/api/v1/graph`.
    detail__protocol: String,
    /// As `istio_mtls 90%, plaintext 10%`.
    detail__security: String,
    /// As in [`Node`].
    detail__encrypted_ratio: Option<f64>,
    /// Services of Kubernetes that were dialled, as `NAMESPACE/NAME`, with commas between.
    detail__dialled: Option<String>,
    /// From which zones to which, as `eu-1a to eu-1b`, with commas between.
    detail__zones: Option<String>,
    detail__requests_per_second: f64,
    detail__errors_per_second: f64,
    /// Failed by all; `null` without requests.
    detail__error_ratio: Option<f64>,
    detail__p50_seconds: Option<f64>,
    detail__p95_seconds: Option<f64>,
    detail__p99_seconds: Option<f64>,
    /// From source to target.
    detail__sent_bytes_per_second: f64,
    /// From target to source.
    detail__received_bytes_per_second: f64,
    detail__connections_opened_per_second: f64,
    detail__connect_failures_per_second: f64,
    detail__retransmits_per_second: f64,
    /// Mean round-trip time.
    detail__rtt_seconds: Option<f64>,
    detail__open_connections: u64,
}

/// What a query string is read as.
type Pairs = Result<Query<Vec<(String, String)>>, QueryRejection>;

pub(super) async fn node_graph(State(hub): State<Hub>, pairs: Pairs) -> Response {
    let parameters = match pairs {
        Ok(Query(pairs)) => Parameters::parse(&pairs),
        Err(error) => Err(error.to_string()),
    };
    match parameters {
        Ok(parameters) => answer(&hub, &parameters).await,
        Err(error) => refuse(&error),
    }
}

async fn answer(hub: &Hub, parameters: &Parameters) -> Response {
    match hub.graph_in(parameters.window).await {
        Ok(windowed) => Json(Picture::new(&windowed, parameters).show()).into_response(),
        Err(error) => error.into_response(),
    }
}

fn refuse(error: &str) -> Response {
    (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response()
}

#[cfg(test)]
mod tests;
