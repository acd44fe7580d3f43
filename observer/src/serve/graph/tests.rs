//! The graph as JSON: in full, both ends of a host, stable ids.

use serde_json::{Value, json, to_value};

use super::*;
use crate::{
    aggregate::{Aggregator, fixture},
    model::{connection::Role, time::Monotonic, workload::Peer},
};

const NOW: Monotonic = Monotonic(3 * fixture::SECOND);

fn graph(aggregator: &mut Aggregator) -> Value {
    to_value(Graph::new(&aggregator.graph(NOW))).unwrap()
}

#[test]
fn an_edge_in_full() {
    let mut aggregator = Aggregator::new(Default::default());
    let peer = Peer::Pod(fixture::pod("cart", "k"));
    let link = fixture::link_in(1, ("web", "a"), Role::Client, peer, Some("basket"));
    aggregator.call(&fixture::call_on(&link, "/", 500), None, NOW);
    let mut found = graph(&mut aggregator);
    let quantiles = ["p50_seconds", "p95_seconds", "p99_seconds"];
    for key in quantiles {
        let value = found["edges"][0][key].take().as_f64().unwrap();
        assert!((0.0095..0.0105).contains(&value), "{key} {value}");
    }
    let (web, cart) = (
        "workload:shop/Deployment/web",
        "workload:shop/Deployment/cart",
    );
    let id = format!("{web}|{cart}|shop/basket|http|plaintext|eu-1a|eu-1a|client");
    let node = |id: &str, name: &str| {
        json!({"id": id, "kind": "workload", "namespace": "shop", "workload_kind": "Deployment",
               "name": name})
    };
    let expected = json!({
        "window_seconds": 10,
        "nodes": [node(cart, "cart"), node(web, "web")],
        "edges": [{
            "id": id, "source": web, "destination": cart, "dialled_service": "basket",
            "dialled_namespace": "shop", "protocol": "http", "security": "plaintext",
            "source_zone": "eu-1a", "destination_zone": "eu-1a", "reporter": "client",
            "same_host": false, "seen_from": "client", "requests_per_second": 1.0,
            "errors_per_second": 1.0, "error_ratio": 1.0, "p50_seconds": null,
            "p95_seconds": null, "p99_seconds": null, "sent_bytes_per_second": 0.0,
            "received_bytes_per_second": 0.0, "rtt_seconds": null, "open_connections": 0,
            "requests_total": 1, "errors_total": 1, "sent_bytes_total": 0,
            "received_bytes_total": 0, "connections_opened_total": 0,
            "connect_failures_total": 0, "retransmits_total": 0
        }]
    });
    assert_eq!(found, expected);
}

/// Two calls within the host, seen at both ends, and one from another host.
#[test]
fn connections_within_the_host_are_counted_once() {
    let mut aggregator = Aggregator::new(Default::default());
    let local = |name| Peer::Local(fixture::workload_in(name, "a"));
    let client = fixture::link_in(1, ("web", "a"), Role::Client, local("cart"), Some("cart"));
    let server = fixture::link_in(2, ("cart", "a"), Role::Server, local("web"), None);
    let remote = Peer::Pod(fixture::pod("web", "b"));
    let remote = fixture::link_in(3, ("cart", "a"), Role::Server, remote, None);
    for link in [&client, &client, &server, &server, &remote] {
        aggregator.call(&fixture::call_on(link, "/", 200), None, NOW);
    }
    let found = graph(&mut aggregator);
    let mut edges: Vec<_> = found["edges"]
        .as_array()
        .unwrap()
        .iter()
        .map(|edge| {
            let text = |key: &str| edge[key].as_str().unwrap().to_owned();
            let requests = edge["requests_total"].as_u64().unwrap();
            (
                text("reporter"),
                edge["same_host"] == true,
                text("seen_from"),
                requests,
            )
        })
        .collect();
    edges.sort();
    let edge = |reporter: &str, same_host, seen_from: &str, requests| {
        (
            reporter.to_owned(),
            same_host,
            seen_from.to_owned(),
            requests,
        )
    };
    assert_eq!(
        edges,
        [
            edge("client", true, "both", 2),
            edge("server", false, "server", 1)
        ]
    );
    assert_eq!(found["nodes"].as_array().unwrap().len(), 2);
}

#[test]
fn what_only_servers_saw_is_told_by_them() {
    let mut aggregator = Aggregator::new(Default::default());
    let peer = Peer::Local(fixture::workload_in("web", "a"));
    let server = fixture::link_in(2, ("cart", "a"), Role::Server, peer, None);
    aggregator.call(&fixture::call_on(&server, "/", 200), None, NOW);
    let found = graph(&mut aggregator);
    let edge = &found["edges"][0];
    assert_eq!(
        (&edge["reporter"], &edge["seen_from"]),
        (&json!("server"), &json!("server"))
    );
    assert_eq!(edge["source"], "workload:shop/Deployment/web");
}

#[test]
fn ids_are_told_apart_whatever_names_have() {
    let party = |kind, namespace: &str, name: &str| Party {
        kind,
        namespace: namespace.to_owned(),
        workload_kind: String::new(),
        name: name.to_owned(),
    };
    let service = PartyKind::Service;
    assert_eq!(id(&party(service, "a/b", "c")), "service:a%2Fb/c");
    assert_eq!(id(&party(service, "a", "b/c|%")), "service:a/b%2Fc%7C%25");
    assert_eq!(
        id(&party(PartyKind::Name, "", "api.example")),
        "name:api.example"
    );
    assert_eq!(id(&Party::default()), "unknown");
    assert_eq!(id(&party(PartyKind::Outside, "", "")), "outside");
}
