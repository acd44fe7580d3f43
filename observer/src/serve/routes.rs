//! The table of endpoints, and the short ones among them.

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::get,
};

use super::{Hub, NoAnswer, exposition::Format, flows, graph, services, status};

const INDEX: &str = "\
Observer: service metrics and live flows from the kernel

GET /metrics          all metrics, Prometheus text or OpenMetrics by Accept
GET /livez            200 while the pipeline runs
GET /readyz           200 while capture is attached
GET /api/v1/flows     flows as JSON lines; last=N follow=true
                      service= peer= port= protocol= method= path= status= min_duration=
                      security= namespace= pod= workload= node= dialled=
GET /api/v1/services  table of services as JSON
GET /api/v1/graph     graph of services as JSON
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
    let accept: Vec<&str> = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect();
    let format = Format::negotiate(&accept.join(","));
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
    match tokio::task::spawn_blocking(move || format.render(&snapshot)).await {
        Ok(text) => ([(header::CONTENT_TYPE, format.content_type())], text).into_response(),
        Err(_) => NoAnswer::Ended.into_response(),
    }
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

async fn readyz(State(hub): State<Hub>) -> Response {
    let reasons = hub.unready();
    if reasons.is_empty() {
        return "ready\n".into_response();
    }
    let text: String = reasons
        .iter()
        .map(|reason| format!("not ready: {reason}\n"))
        .collect();
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

// === impl NoAnswer ===

impl IntoResponse for NoAnswer {
    fn into_response(self) -> Response {
        (StatusCode::SERVICE_UNAVAILABLE, format!("{self}\n")).into_response()
    }
}
