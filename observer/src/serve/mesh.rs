//! What was found of service meshes as JSON: makes `/api/v1/findings` and `/api/v1/mesh`.
//!
//! Each answer is one object with `observed_seconds`, how long this observer has looked, and lists
//! whose elements [`report`](crate::mesh::report) documents:
//!
//! | path | lists |
//! |---|---|
//! | `/api/v1/findings` | `findings`, worst first; `misunderstood`; `ignored` |
//! | `/api/v1/mesh` | `edges` |
//! | `/api/v1/mesh/mtls` | `namespaces` ([`Namespace`]), `edges` ([`Secured`]) |
//! | `/api/v1/mesh/readiness` | `readiness` |
//! | `/api/v1/mesh/split` | `splits` |
//! | `/api/v1/mesh/routes` | `routes` |
//! | `/api/v1/mesh/authz` | `authorizations` |
//!
//! Parameters are in [`Parameters`].

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Serialize;

use super::Hub;
use crate::mesh::report::{
    Authorization, Edge, Finding, Ignored, Misunderstood, Observed, Party, Readiness, Reason,
    Report, Route, Split,
};
use parameters::{Parameters, View};

mod parameters;

/// Answer of `/api/v1/findings`.
#[derive(Debug, Serialize)]
struct Findings {
    observed_seconds: f64,
    findings: Vec<Finding>,
    misunderstood: Vec<Misunderstood>,
    ignored: Vec<Ignored>,
}

/// Answer of `/api/v1/mesh`.
#[derive(Debug, Serialize)]
struct Edges {
    observed_seconds: f64,
    edges: Vec<Edge>,
}

/// Answer of `/api/v1/mesh/mtls`.
#[derive(Debug, Serialize)]
struct Mtls {
    observed_seconds: f64,
    namespaces: Vec<Namespace>,
    edges: Vec<Secured>,
}

/// The edges to servers of a namespace, counted.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Namespace {
    /// Name; empty for servers without one.
    namespace: String,
    /// All that there are.
    edges: usize,
    /// Those of which everything was encrypted.
    encrypted: usize,
    /// Those with some plaintext, or nothing but plaintext.
    plaintext: usize,
    /// Those that are what was declared.
    satisfied: usize,
    /// Those that are not.
    violated: usize,
    /// Those of which that cannot be told.
    unknown: usize,
}

/// What of an edge is about encryption; as in [`Edge`].
#[derive(Debug, Serialize)]
struct Secured {
    client: Party,
    server: Party,
    service: Option<String>,
    port: u16,
    client_plane: &'static str,
    server_plane: &'static str,
    declared: &'static str,
    observed: Vec<Observed>,
    encrypted_share: Option<f64>,
    verdict: &'static str,
    because: Vec<Reason>,
    first_seen: f64,
    last_seen: f64,
}

/// Answer of `/api/v1/mesh/readiness`.
#[derive(Debug, Serialize)]
struct Ready {
    observed_seconds: f64,
    readiness: Vec<Readiness>,
}

/// Answer of `/api/v1/mesh/split`.
#[derive(Debug, Serialize)]
struct Splits {
    observed_seconds: f64,
    splits: Vec<Split>,
}

/// Answer of `/api/v1/mesh/routes`.
#[derive(Debug, Serialize)]
struct Routes {
    observed_seconds: f64,
    routes: Vec<Route>,
}

/// Answer of `/api/v1/mesh/authz`.
#[derive(Debug, Serialize)]
struct Authorizations {
    observed_seconds: f64,
    authorizations: Vec<Authorization>,
}

/// What a query string is read as.
type Pairs = Result<Query<Vec<(String, String)>>, QueryRejection>;

pub(super) async fn findings(State(hub): State<Hub>, pairs: Pairs) -> Response {
    answer(&hub, View::Findings, pairs).await
}

pub(super) async fn edges(State(hub): State<Hub>, pairs: Pairs) -> Response {
    answer(&hub, View::Edges, pairs).await
}

pub(super) async fn mtls(State(hub): State<Hub>, pairs: Pairs) -> Response {
    answer(&hub, View::Mtls, pairs).await
}

pub(super) async fn readiness(State(hub): State<Hub>, pairs: Pairs) -> Response {
    answer(&hub, View::Readiness, pairs).await
}

pub(super) async fn split(State(hub): State<Hub>, pairs: Pairs) -> Response {
    answer(&hub, View::Split, pairs).await
}

pub(super) async fn routes(State(hub): State<Hub>, pairs: Pairs) -> Response {
    answer(&hub, View::Routes, pairs).await
}

pub(super) async fn authz(State(hub): State<Hub>, pairs: Pairs) -> Response {
    answer(&hub, View::Authz, pairs).await
}

async fn answer(hub: &Hub, view: View, pairs: Pairs) -> Response {
    let parameters = match pairs {
        Ok(Query(pairs)) => Parameters::parse(view, &pairs),
        Err(error) => Err(error.to_string()),
    };
    let parameters = match parameters {
        Ok(parameters) => parameters,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    };
    match hub.mesh(parameters.window).await {
        Ok(report) => show(view, report, &parameters),
        Err(error) => error.into_response(),
    }
}

fn show(view: View, report: Report, wanted: &Parameters) -> Response {
    let observed_seconds = report.observed_seconds;
    match view {
        View::Findings => Json(Findings {
            observed_seconds,
            findings: kept(report.findings, |finding| wanted.finding(finding)),
            misunderstood: kept(report.misunderstood, |one| wanted.object(&one.object)),
            ignored: kept(report.ignored, |one| wanted.object(&one.object)),
        })
        .into_response(),
        View::Edges => Json(Edges {
            observed_seconds,
            edges: kept(report.edges, |edge| wanted.edge(edge)),
        })
        .into_response(),
        View::Mtls => {
            let edges = kept(report.edges, |edge| wanted.edge(edge));
            Json(Mtls {
                observed_seconds,
                namespaces: Namespace::of(&edges),
                edges: edges.into_iter().map(Secured::from).collect(),
            })
            .into_response()
        }
        View::Readiness => Json(Ready {
            observed_seconds,
            readiness: kept(report.readiness, |one| wanted.parties(&[&one.workload])),
        })
        .into_response(),
        View::Split => Json(Splits {
            observed_seconds,
            splits: kept(report.splits, |split| {
                wanted.rule(&split.object, &split.host)
            }),
        })
        .into_response(),
        View::Routes => Json(Routes {
            observed_seconds,
            routes: kept(report.routes, |route| {
                wanted.rule(&route.object, &route.host)
            }),
        })
        .into_response(),
        View::Authz => Json(Authorizations {
            observed_seconds,
            authorizations: kept(report.authorizations, |one| {
                wanted.parties(&[&one.client, &one.server])
            }),
        })
        .into_response(),
    }
}

fn kept<T>(mut list: Vec<T>, wanted: impl FnMut(&T) -> bool) -> Vec<T> {
    list.retain(wanted);
    list
}

// === impl Namespace ===

impl Namespace {
    fn of(edges: &[Edge]) -> Vec<Self> {
        let mut found: BTreeMap<&str, Self> = BTreeMap::new();
        for edge in edges {
            let namespace = edge.server.namespace.as_str();
            let counts = found.entry(namespace).or_default();
            counts.edges += 1;
            match edge.encrypted_share {
                Some(share) if share >= 1.0 => counts.encrypted += 1,
                Some(_) => counts.plaintext += 1,
                None => {}
            }
            match edge.verdict {
                "satisfied" => counts.satisfied += 1,
                "violated" => counts.violated += 1,
                _ => counts.unknown += 1,
            }
        }
        let named = found.into_iter().map(|(namespace, counts)| Self {
            namespace: namespace.to_owned(),
            ..counts
        });
        named.collect()
    }
}

// === impl Secured ===

impl From<Edge> for Secured {
    fn from(edge: Edge) -> Self {
        Self {
            client: edge.client,
            server: edge.server,
            service: edge.service,
            port: edge.port,
            client_plane: edge.client_plane,
            server_plane: edge.server_plane,
            declared: edge.declared,
            observed: edge.observed,
            encrypted_share: edge.encrypted_share,
            verdict: edge.verdict,
            because: edge.because,
            first_seen: edge.first_seen,
            last_seen: edge.last_seen,
        }
    }
}

#[cfg(test)]
mod tests;
