//! The table of services as JSON.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use serde::Serialize;

use crate::aggregate::{services::ServiceRow, sketch::WINDOW_SECONDS};

use super::Hub;

/// Answer of `/api/v1/services`.
#[derive(Debug, Serialize)]
struct Services {
    /// Seconds that rates look back.
    window_seconds: u64,
    /// Busiest first.
    services: Vec<Row>,
}

/// One service at one end of its connections. Rates are per second over the window, quantiles over
/// one to two windows; `null` where there is nothing to tell.
#[derive(Debug, Serialize)]
struct Row {
    service: String,
    service_namespace: String,
    /// Namespace, workload and container of Kubernetes; `null` outside.
    k8s_namespace: Option<String>,
    k8s_workload_kind: Option<String>,
    k8s_workload: Option<String>,
    k8s_container: Option<String>,
    side: &'static str,
    calls_per_second: f64,
    errors_per_second: f64,
    error_ratio: Option<f64>,
    p50_seconds: Option<f64>,
    p95_seconds: Option<f64>,
    p99_seconds: Option<f64>,
    sent_bytes_per_second: f64,
    received_bytes_per_second: f64,
    in_flight: u64,
    oldest_in_flight_seconds: Option<f64>,
    coverage_ratio: Option<f64>,
    encrypted_ratio: Option<f64>,
    open_connections: u64,
    calls_total: u64,
    errors_total: u64,
    lost_total: u64,
}

// === impl Row ===

impl From<ServiceRow> for Row {
    fn from(row: ServiceRow) -> Self {
        let rate = row.calls_per_second;
        Self {
            service: row.service,
            service_namespace: row.namespace,
            k8s_namespace: known(row.k8s_namespace),
            k8s_workload_kind: known(row.k8s_workload_kind),
            k8s_workload: known(row.k8s_workload),
            k8s_container: known(row.k8s_container),
            side: row.side,
            calls_per_second: rate,
            errors_per_second: row.errors_per_second,
            error_ratio: (rate > 0.0).then(|| row.errors_per_second / rate),
            p50_seconds: row.quantiles.map(|[p50, ..]| p50),
            p95_seconds: row.quantiles.map(|[_, p95, _]| p95),
            p99_seconds: row.quantiles.map(|[.., p99]| p99),
            sent_bytes_per_second: row.sent_bytes_per_second,
            received_bytes_per_second: row.received_bytes_per_second,
            in_flight: row.in_flight,
            oldest_in_flight_seconds: row.oldest_seconds,
            coverage_ratio: row.coverage,
            encrypted_ratio: row.encrypted,
            open_connections: row.open_connections,
            calls_total: row.calls,
            errors_total: row.errors,
            lost_total: row.lost,
        }
    }
}

fn known(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

pub(super) async fn services(State(hub): State<Hub>) -> Response {
    match hub.snapshot().await {
        Ok(snapshot) => {
            let mut services: Vec<Row> = snapshot.services.into_iter().map(Row::from).collect();
            services.sort_by(|left, right| {
                right
                    .calls_per_second
                    .total_cmp(&left.calls_per_second)
                    .then_with(|| left.service.cmp(&right.service))
                    .then_with(|| left.service_namespace.cmp(&right.service_namespace))
                    .then_with(|| left.k8s_container.cmp(&right.k8s_container))
                    .then_with(|| left.side.cmp(right.side))
            });
            Json(Services {
                window_seconds: WINDOW_SECONDS,
                services,
            })
            .into_response()
        }
        Err(error) => error.into_response(),
    }
}
