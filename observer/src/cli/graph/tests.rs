//! The graph as a table and for Graphviz.

use serde_json::json;

use super::*;

fn answer() -> Value {
    json!({
        "window_seconds": 10,
        "nodes": [
            {"id": "workload:shop/Deployment/web", "kind": "workload", "namespace": "shop",
             "workload_kind": "Deployment", "name": "web"},
            {"id": "workload:shop/StatefulSet/db", "kind": "workload", "namespace": "shop",
             "workload_kind": "StatefulSet", "name": "db\"\u{1b}"},
            {"id": "name:api.example", "kind": "name", "namespace": null,
             "workload_kind": null, "name": "api.example"},
            {"id": "outside", "kind": "outside", "namespace": null, "workload_kind": null,
             "name": null}
        ],
        "edges": [
            {"source": "outside", "destination": "workload:shop/Deployment/web",
             "dialled_service": null, "protocol": "http", "security": "plaintext",
             "reporter": "server", "requests_per_second": 120.0, "error_ratio": 0.01,
             "p50_seconds": 0.002, "p99_seconds": 0.05, "sent_bytes_per_second": 2048.0,
             "received_bytes_per_second": 5e6, "rtt_seconds": 0.0004, "open_connections": 7},
            {"source": "workload:shop/Deployment/web",
             "destination": "workload:shop/StatefulSet/db", "dialled_service": "db",
             "dialled_namespace": "shop", "protocol": "tcp", "security": "tls",
             "reporter": "client", "requests_per_second": 0.0, "error_ratio": null,
             "p50_seconds": null, "p99_seconds": null, "sent_bytes_per_second": 0.0,
             "received_bytes_per_second": 0.0, "rtt_seconds": null, "open_connections": 1}
        ]
    })
}

#[test]
fn tables() {
    let expected = "\
SOURCE    DESTINATION  DIALLED  PROTOCOL  SECURITY   BY      CALLS/S  ERRORS     P50     P99   SENT/S  RECEIVED/S    RTT  OPEN
outside   shop/web              http      plaintext  server      120    1.0%  2.00ms  50.0ms  2.00KiB     4.77MiB  400us     7
shop/web  shop/db\"?    db.shop  tcp       tls        client      0.0       -       -       -       0B          0B      -     1
";
    assert_eq!(table(&answer(), Style::plain()), expected);
    let none = table(&json!({"nodes": [], "edges": []}), Style::plain());
    assert!(none.ends_with("nobody has called anybody yet\n"), "{none}");
}

#[test]
fn graphviz() {
    let expected = r#"digraph services {
  rankdir=LR;
  node [shape=box];
  subgraph cluster_0 {
    label="shop";
    "workload:shop/Deployment/web" [label="web\nDeployment"];
    "workload:shop/StatefulSet/db" [label="db\"?\nStatefulSet"];
  }
  "name:api.example" [label="api.example\nname"];
  "outside" [label="outside"];
  "outside" -> "workload:shop/Deployment/web" [label="http\n120/s, 1.0% failed\np99 50.0ms", style=dashed, color=red];
  "workload:shop/Deployment/web" -> "workload:shop/StatefulSet/db" [label="tcp"];
}
"#;
    assert_eq!(dot(&answer()), expected);
}
