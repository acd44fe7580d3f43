//! The three endpoints of the plugin "Node Graph API" of Grafana, which is no longer developed: for
//! those who have it.
//!
//! `/api/graph/fields` names the fields, `/api/graph/data` has the rows, and `/api/health` answers 200
//! while calls are observed. The plugin sends what is typed into its query as `query`: the parameters
//! of `/api/v1/node-graph`, as `group=namespace&window=5m`. They may stand beside it as well.

use axum::{
    Json,
    extract::{Query, State},
    http::{StatusCode, Uri},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use super::{Pairs, Parameters, answer, refuse, show};
use crate::serve::Hub;

/// Answer of `/api/graph/fields`.
#[derive(Debug, Serialize)]
struct Fields {
    nodes_fields: Vec<Field>,
    edges_fields: Vec<Field>,
}

/// A field of the rows.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Field {
    /// Name.
    #[serde(rename = "field_name")]
    field_name: &'static str,
    /// `string` or `number`.
    r#type: &'static str,
    /// Colour of an arc.
    #[serde(skip_serializing_if = "Option::is_none")]
    color: Option<&'static str>,
    /// Name that is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    display_name: Option<&'static str>,
}

/// Fields of nodes that are texts and numbers, without arcs.
const NODES: &[(&str, &str, Option<&str>)] = &[
    ("id", TEXT, None),
    ("title", TEXT, None),
    ("subtitle", TEXT, None),
    ("mainstat", TEXT, Some("Rate")),
    ("secondarystat", TEXT, Some("Duration")),
    ("icon", TEXT, None),
    ("color", TEXT, None),
    ("detail__kind", TEXT, Some("Kind")),
    ("detail__namespace", TEXT, Some("Namespace")),
    ("detail__workload_kind", TEXT, Some("Kind of workload")),
    ("detail__zone", TEXT, Some("Zone")),
    (
        "detail__requests_per_second",
        NUMBER,
        Some("Requests received per second"),
    ),
    (
        "detail__made_per_second",
        NUMBER,
        Some("Requests made per second"),
    ),
    ("detail__error_ratio", NUMBER, Some("Share of errors")),
    ("detail__p50_seconds", NUMBER, Some("p50, seconds")),
    ("detail__p95_seconds", NUMBER, Some("p95, seconds")),
    ("detail__p99_seconds", NUMBER, Some("p99, seconds")),
    (
        "detail__sent_bytes_per_second",
        NUMBER,
        Some("Bytes sent per second"),
    ),
    (
        "detail__received_bytes_per_second",
        NUMBER,
        Some("Bytes received per second"),
    ),
    ("detail__encrypted_ratio", NUMBER, Some("Share encrypted")),
    ("detail__security", TEXT, Some("Security")),
];

const EDGES: &[(&str, &str, Option<&str>)] = &[
    ("id", TEXT, None),
    ("source", TEXT, None),
    ("target", TEXT, None),
    ("mainstat", TEXT, Some("Rate")),
    ("secondarystat", TEXT, Some("Duration and errors")),
    ("thickness", NUMBER, None),
    ("color", TEXT, None),
    ("strokeDasharray", TEXT, None),
    ("detail__protocol", TEXT, Some("Protocol")),
    ("detail__security", TEXT, Some("Security")),
    ("detail__encrypted_ratio", NUMBER, Some("Share encrypted")),
    ("detail__dialled", TEXT, Some("Service dialled")),
    ("detail__zones", TEXT, Some("Zones")),
    (
        "detail__requests_per_second",
        NUMBER,
        Some("Requests per second"),
    ),
    (
        "detail__errors_per_second",
        NUMBER,
        Some("Errors per second"),
    ),
    ("detail__error_ratio", NUMBER, Some("Share of errors")),
    ("detail__p50_seconds", NUMBER, Some("p50, seconds")),
    ("detail__p95_seconds", NUMBER, Some("p95, seconds")),
    ("detail__p99_seconds", NUMBER, Some("p99, seconds")),
    (
        "detail__sent_bytes_per_second",
        NUMBER,
        Some("Bytes sent per second"),
    ),
    (
        "detail__received_bytes_per_second",
        NUMBER,
        Some("Bytes received per second"),
    ),
    (
        "detail__connections_opened_per_second",
        NUMBER,
        Some("Connections opened per second"),
    ),
    (
        "detail__connect_failures_per_second",
        NUMBER,
        Some("Connections failed per second"),
    ),
    (
        "detail__retransmits_per_second",
        NUMBER,
        Some("Retransmits per second"),
    ),
    (
        "detail__rtt_seconds",
        NUMBER,
        Some("Round-trip time, seconds"),
    ),
    ("detail__open_connections", NUMBER, Some("Open connections")),
];

const ARCS: [(&str, &str, &str); 3] = [
    ("arc__success", show::SUCCESS, "Success"),
    ("arc__errors", show::ERRORS, "Errors"),
    ("arc__idle", show::IDLE, "No requests"),
];

const TEXT: &str = "string";
const NUMBER: &str = "number";

/// Names and types of fields.
pub(in crate::serve) async fn fields() -> Response {
    Json(Fields::all()).into_response()
}

/// Nodes and edges.
pub(in crate::serve) async fn data(State(hub): State<Hub>, pairs: Pairs) -> Response {
    match pairs.map_err(|error| error.to_string()).and_then(typed) {
        Ok(parameters) => answer(&hub, &parameters).await,
        Err(error) => refuse(&error),
    }
}

/// Whether calls are observed.
pub(in crate::serve) async fn health(State(hub): State<Hub>) -> Response {
    match hub.unready().is_empty() {
        true => (StatusCode::OK, "observed\n").into_response(),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not observed yet\n").into_response(),
    }
}

/// The parameters, with those that are typed in one.
fn typed(Query(pairs): Query<Vec<(String, String)>>) -> Result<Parameters, String> {
    let (typed, mut all): (Vec<_>, Vec<_>) =
        pairs.into_iter().partition(|(name, _)| name == "query");
    for (_, text) in typed {
        let text = text.trim().trim_start_matches('?');
        let wrong = || format!("query={text}: expected parameters as in a URL");
        let uri: Uri = format!("/?{text}").parse().map_err(|_| wrong())?;
        let Query(pairs) =
            Query::<Vec<(String, String)>>::try_from_uri(&uri).map_err(|_| wrong())?;
        all.extend(pairs);
    }
    Parameters::parse(&all)
}

// === impl Fields ===

impl Fields {
    fn all() -> Self {
        let plain = |fields: &[(&'static str, &'static str, Option<&'static str>)]| {
            let fields = fields
                .iter()
                .map(|(field_name, r#type, display_name)| Field {
                    field_name,
                    r#type,
                    color: None,
                    display_name: *display_name,
                });
            fields.collect::<Vec<Field>>()
        };
        let arcs = ARCS.map(|(field_name, color, display_name)| Field {
            field_name,
            r#type: NUMBER,
            color: Some(color),
            display_name: Some(display_name),
        });
        let mut nodes_fields = plain(NODES);
        nodes_fields.extend(arcs);
        Self {
            nodes_fields,
            edges_fields: plain(EDGES),
        }
    }
}
