//! What the observer knows of itself, of Kubernetes, and of what it sends, as JSON.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use serde::Serialize;

use crate::telemetry::health::{ClusterState, ExportState};

use super::Hub;

/// Answer of `/api/v1/status`.
#[derive(Debug, Serialize)]
struct Status {
    /// Version of the observer.
    version: &'static str,
    /// As `/readyz` answers.
    ready: bool,
    /// Why it is not ready; empty when it is.
    unready: Vec<String>,
    /// What is known of Kubernetes, by source and kind; empty outside.
    kubernetes: Vec<Kind>,
    /// What became of telemetry that is sent, by signal; empty where none is.
    export: Vec<Export>,
}

/// What became of the telemetry of one signal. Items are spans, data points or log records.
#[derive(Debug, Serialize)]
struct Export {
    /// `traces`, `metrics` or `logs`.
    signal: &'static str,
    /// Where it goes, without its path; empty when it was turned off.
    destination: String,
    /// `grpc` or `http/protobuf`.
    protocol: &'static str,
    /// Items that wait.
    queued_items: u64,
    /// Items that the collector took.
    sent_items_total: u64,
    /// Items that it did not want.
    rejected_items_total: u64,
    /// Items that were lost in any other way.
    dropped_items_total: u64,
    /// Requests, each attempt.
    requests_total: u64,
    /// Requests that were not taken.
    failures_total: u64,
    /// Time since the last request that was taken, seconds; `null` before the first.
    age_seconds: Option<f64>,
    /// Why the last request was not taken; `null` when it was.
    error: Option<String>,
}

/// What is known of one kind of object, from one source.
#[derive(Debug, Serialize)]
struct Kind {
    /// `api` or `hub`.
    source: &'static str,
    /// `pods`, `services`, and so on.
    kind: &'static str,
    /// All objects there were at the start are known, and changes arrive.
    synced: bool,
    /// Time since the source was last heard of, seconds; `null` before the first time.
    age_seconds: Option<f64>,
    /// Objects known.
    objects: u64,
    /// Requests made.
    requests_total: u64,
    /// Requests that failed and streams that broke, by reason.
    errors_total: serde_json::Map<String, serde_json::Value>,
}

// === impl Export ===

impl From<ExportState> for Export {
    fn from(state: ExportState) -> Self {
        Self {
            signal: state.signal,
            destination: state.destination,
            protocol: state.protocol,
            queued_items: state.queued_items,
            sent_items_total: state.sent,
            rejected_items_total: state.rejected,
            dropped_items_total: state.dropped,
            requests_total: state.requests,
            failures_total: state.failures,
            age_seconds: state.age_seconds,
            error: state.error,
        }
    }
}

// === impl Kind ===

impl From<ClusterState> for Kind {
    fn from(state: ClusterState) -> Self {
        let errors = state.errors.into_iter();
        Self {
            source: state.source,
            kind: state.kind,
            synced: state.synced,
            age_seconds: state.age_seconds,
            objects: state.objects,
            requests_total: state.requests,
            errors_total: errors
                .map(|(reason, count)| (reason.to_owned(), count.into()))
                .collect(),
        }
    }
}

pub(super) async fn status(State(hub): State<Hub>) -> Response {
    match hub.snapshot().await {
        Ok(snapshot) => {
            let unready = hub.unready();
            Json(Status {
                version: env!("CARGO_PKG_VERSION"),
                ready: unready.is_empty(),
                unready,
                kubernetes: snapshot.cluster.into_iter().map(Kind::from).collect(),
                export: snapshot.export.into_iter().map(Export::from).collect(),
            })
            .into_response()
        }
        Err(error) => error.into_response(),
    }
}
