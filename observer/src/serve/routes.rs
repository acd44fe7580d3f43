//! The table of endpoints, and the short ones among them.

use axum::{
    Router,
    extract::{RawQuery, State},
    http::{HeaderMap, StatusCode, Uri},
    response::{IntoResponse, Response},
    routing::get,
};

use super::{Hub, NoAnswer, exposition::Wanted, flows, graph, mesh, node_graph, services, status};
use crate::telemetry::health::ClusterState;

const INDEX: &str = "\
Observer: service metrics and live flows from the kernel

GET /metrics          all metrics, Prometheus text, OpenMetrics or protobuf by Accept
GET /livez            200 while the pipeline runs
GET /readyz           200 while capture is attached; verbose tells what is known of Kubernetes
GET /api/v1/flows     flows as JSON lines; last=N follow=true
                      service= peer= port= protocol= method= path= status= min_duration=
                      security= namespace= pod= workload= node= dialled= trace=
                      hop= identity= verdict=
GET /api/v1/services  table of services as JSON
GET /api/v1/graph     graph of services as JSON
GET /api/v1/node-graph  the same for the Node Graph panel of Grafana
                      window= group=workload|namespace|service|zone focus= depth= limit=
                      errors=true min_rate= namespace= workload= service= kind= protocol=
                      security=
GET /api/v1/findings  what is wrong with service meshes, or may be, worst first, as JSON
                      severity= id= namespace= workload=
GET /api/v1/mesh      edges of service meshes: declared and observed, as JSON
                      namespace= workload=
GET /api/v1/mesh/mtls       encryption of edges, and by namespace; namespace= workload=
GET /api/v1/mesh/readiness  which servers could take mutual TLS only; window= namespace= workload=
GET /api/v1/mesh/split      declared and observed shares of backends; namespace= host=
GET /api/v1/mesh/routes     rules of routes, and how often they matched; namespace= host=
GET /api/v1/mesh/authz      what policy says of requests, and what was done; namespace= workload=
GET /api/v1/status    what the observer knows of itself and of Kubernetes, as JSON
";

/// All endpoints.
pub(super) fn router(hub: Hub) -> Router {
    Router::new()
        .route("/", get(async || INDEX))
        .route("/metrics", get(metrics))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/api/v1/flows", get(flows::flows))
        .route("/api/v1/services", get(services::services))
        .route("/api/v1/graph", get(graph::graph))
        .route("/api/v1/node-graph", get(node_graph::node_graph))
        .route("/api/v1/findings", get(mesh::findings))
        .route("/api/v1/mesh", get(mesh::edges))
        .route("/api/v1/mesh/mtls", get(mesh::mtls))
        .route("/api/v1/mesh/readiness", get(mesh::readiness))
        .route("/api/v1/mesh/split", get(mesh::split))
        .route("/api/v1/mesh/routes", get(mesh::routes))
        .route("/api/v1/mesh/authz", get(mesh::authz))
        .route("/api/graph/fields", get(node_graph::plugin::fields))
        .route("/api/graph/data", get(node_graph::plugin::data))
        .route("/api/health", get(node_graph::plugin::health))
        .route("/api/v1/status", get(status::status))
        .fallback(unknown)
        .method_not_allowed_fallback(async || {
            (
                StatusCode::METHOD_NOT_ALLOWED,
                "only GET and HEAD are answered\n",
            )
        })
        .with_state(hub)
}

async fn unknown(uri: Uri) -> Response {
    let text = format!("{} is not here; GET / lists what is\n", uri.path());
    (StatusCode::NOT_FOUND, text).into_response()
}

async fn metrics(State(hub): State<Hub>, headers: HeaderMap) -> Response {
    let wanted = Wanted::by(&headers);
    // Never closed, so this only waits.
    let Ok(_scrape) = hub.shared.scrapes.acquire().await else {
        return NoAnswer::Ended.into_response();
    };
    let mut snapshot = match hub.snapshot().await {
        Ok(snapshot) => snapshot,
        Err(error) => return error.into_response(),
    };
    snapshot.add_losses(&hub.losses());
    // Thousands of series are milliseconds of work: not on the threads that serve others.
    let offset = hub.offset();
    let answer = tokio::task::spawn_blocking(move || wanted.answer(&snapshot, offset));
    answer
        .await
        .unwrap_or_else(|_| NoAnswer::Ended.into_response())
}

async fn livez(State(hub): State<Hub>) -> Response {
    let silence = hub.silence();
    if silence > hub.shared.config.silence {
        let text = format!(
            "the pipeline has been silent for {} seconds\n",
            silence.as_secs()
        );
        return (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    }
    "alive\n".into_response()
}

/// Whether calls are observed. What is known of Kubernetes is told to who asks for it and changes
/// nothing: while the API server is away, calls are observed all the same.
async fn readyz(State(hub): State<Hub>, RawQuery(query): RawQuery) -> Response {
    let reasons = hub.unready();
    let mut text: String = reasons
        .iter()
        .map(|reason| format!("not ready: {reason}\n"))
        .collect();
    if reasons.is_empty() {
        text.push_str("ready\n");
    }
    let mut parameters = query.as_deref().unwrap_or_default().split('&');
    if parameters.any(|name| name == "verbose" || name == "verbose=true") {
        match hub.snapshot().await {
            Ok(snapshot) => text.extend(snapshot.cluster.iter().map(knowledge)),
            Err(error) => text.push_str(&format!("kubernetes: {error}\n")),
        }
    }
    let status = if reasons.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, text).into_response()
}

/// A line on what is known of one kind of object.
pub(super) fn knowledge(state: &ClusterState) -> String {
    let ClusterState {
        source,
        kind,
        synced,
        age_seconds,
        objects,
        ..
    } = state;
    let known = if *synced { "known" } else { "not known yet" };
    let heard = match age_seconds {
        None => "never heard".to_owned(),
        Some(age) => format!("heard {age:.0} seconds ago"),
    };
    let failed: String = state
        .errors
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(reason, count)| format!(", failed {count} times: {reason}"))
        .collect();
    format!("kubernetes: {source}: {kind} {known}, {objects} objects, {heard}{failed}\n")
}

// === impl NoAnswer ===

impl IntoResponse for NoAnswer {
    fn into_response(self) -> Response {
        (StatusCode::SERVICE_UNAVAILABLE, format!("{self}\n")).into_response()
    }
}
