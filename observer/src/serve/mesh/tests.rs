//! The answers, and what filters leave of them.

use axum::body::to_bytes;
use serde_json::{Value, json};

use super::*;
use crate::mesh::report::fixture;

/// The answer to `query`.
async fn ask(view: View, query: &str) -> Value {
    let pairs: Vec<(String, String)> = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let parameters = Parameters::parse(view, &pairs).unwrap();
    let answer = show(view, fixture::report(), &parameters);
    assert_eq!(answer.status(), StatusCode::OK);
    let body = to_bytes(answer.into_body(), 1 << 20).await.unwrap();
    let answer: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(answer["observed_seconds"], 7_200.0);
    answer
}

#[tokio::test]
async fn filters() {
    for (view, list, query, left) in [
        (View::Findings, "findings", "", 2),
        (View::Findings, "findings", "severity=critical", 1),
        (View::Findings, "findings", "severity=high,low", 1),
        (View::Findings, "findings", "severity=info", 0),
        (View::Findings, "findings", "id=m01,M15", 2),
        (View::Findings, "findings", "id=M02", 0),
        (View::Findings, "findings", "namespace=old", 1),
        (
            View::Findings,
            "findings",
            "namespace=pay&severity=critical",
            0,
        ),
        (View::Findings, "findings", "workload=batch", 1),
        (View::Findings, "findings", "workload=shop/batch", 0),
        (View::Findings, "misunderstood", "severity=info", 1),
        (View::Findings, "misunderstood", "namespace=shop", 0),
        (View::Findings, "ignored", "namespace=pay", 1),
        (View::Findings, "ignored", "namespace=shop", 0),
        (View::Edges, "edges", "", 2),
        (View::Edges, "edges", "workload=web", 1),
        (View::Edges, "edges", "workload=shop/cart", 2),
        (View::Mtls, "edges", "namespace=old", 1),
        (View::Readiness, "readiness", "workload=cart", 1),
        (View::Readiness, "readiness", "workload=web", 0),
        (View::Split, "splits", "host=cart", 1),
        (View::Split, "splits", "host=car", 0),
        (View::Split, "splits", "namespace=pay", 0),
        (View::Routes, "routes", "host=cart&namespace=shop", 1),
        (View::Authz, "authorizations", "workload=batch", 1),
        (View::Authz, "authorizations", "namespace=pay", 0),
    ] {
        let answer = ask(view, query).await;
        let found = answer[list].as_array().unwrap().len();
        assert_eq!(found, left, "{view:?} {query}");
    }
}

#[tokio::test]
async fn encryption_by_namespace() {
    let answer = ask(View::Mtls, "").await;
    let expected = json!([{
        "namespace": "shop", "edges": 2, "encrypted": 1, "plaintext": 1, "satisfied": 1,
        "violated": 1, "unknown": 0
    }]);
    assert_eq!(answer["namespaces"], expected);
    let edge = answer["edges"][1].as_object().unwrap();
    let keys: Vec<&str> = edge.keys().map(String::as_str).collect();
    let expected = [
        "at_client",
        "at_server",
        "because",
        "client",
        "client_plane",
        "declared",
        "encrypted_share",
        "first_seen",
        "last_seen",
        "observed",
        "port",
        "server",
        "server_plane",
        "service",
        "verdict",
    ];
    assert_eq!(keys, expected);
    assert_eq!(edge["encrypted_share"], 0.25);
    assert_eq!(edge["because"][0]["object"]["kind"], "PeerAuthentication");
    assert_eq!(edge["service"], Value::Null);
}

#[tokio::test]
async fn a_finding_in_full() {
    let answer = ask(View::Findings, "id=M01").await;
    let finding = &answer["findings"][0];
    assert_eq!(finding["severity"], "critical");
    assert_eq!(
        finding["workload"],
        json!({"kind": "workload", "namespace": "shop", "workload_kind": "Deployment", "name": "cart"})
    );
    assert_eq!(finding["samples"][0]["request"], "GET /cart");
    assert_eq!(finding["see"], json!(["KIA0505"]));
    let answer = ask(View::Findings, "id=M15").await;
    assert_eq!(answer["findings"][0]["peer"], Value::Null);
}
