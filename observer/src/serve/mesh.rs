//! What was found of service meshes as JSON: makes `/api/v1/findings` and `/api/v1/mesh`.
//!
//! Each answer is one object with `observed_seconds`, how long this observer has looked, and lists
//! whose elements [`report`](crate::mesh::report) documents:
//!
//! | path | lists |
//! |---|---|
//! | `/api/v1/findings` | `findings`, worst first; `misunderstood`; `ignored` |
//! | `/api/v1/mesh` | `edges` |
//! | `/api/v1/mesh/mtls` | `namespaces` ([`Namespace`](crate::mesh::report::answer::Namespace)), `edges` without times of requests |
//! | `/api/v1/mesh/readiness` | `readiness` |
//! | `/api/v1/mesh/split` | `splits` |
//! | `/api/v1/mesh/routes` | `routes`; `uses` |
//! | `/api/v1/mesh/authz` | `authorizations`; `grants` |
//!
//! Parameters are in [`Parameters`].

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};

use super::Hub;
use crate::mesh::report::{
    Report,
    answer::{Answer, View},
};
use parameters::Parameters;

mod parameters;

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

fn show(view: View, mut report: Report, wanted: &Parameters) -> Response {
    report.findings.retain(|finding| wanted.finding(finding));
    report
        .misunderstood
        .retain(|one| wanted.object(&one.object));
    report.ignored.retain(|one| wanted.object(&one.object));
    report.edges.retain(|edge| wanted.edge(edge));
    report
        .readiness
        .retain(|one| wanted.parties(&[&one.workload]));
    report
        .splits
        .retain(|split| wanted.rule(&split.object, &split.host));
    report
        .routes
        .retain(|route| wanted.rule(&route.object, &route.host));
    report
        .authorizations
        .retain(|one| wanted.parties(&[&one.client, &one.server]));
    for usages in [&mut report.grants, &mut report.uses] {
        usages.retain(|usage| wanted.object(&usage.object));
    }
    Json(Answer::new(view, report)).into_response()
}

#[cfg(test)]
mod tests;
