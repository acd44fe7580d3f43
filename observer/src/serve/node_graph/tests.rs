//! The graph for Grafana: rows in full, both ends counted once, groups, focus, limit, the plugin.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value as Json, json, to_value};

use super::*;
use crate::aggregate::graph::{EdgeRow, Party, PartyKind, Windowed, WindowedEdge, past::Counts};

fn workload(namespace: &str, name: &str) -> Party {
    Party {
        kind: PartyKind::Workload,
        namespace: namespace.to_owned(),
        workload_kind: "Deployment".to_owned(),
        name: name.to_owned(),
    }
}

fn outside() -> Party {
    Party {
        kind: PartyKind::Outside,
        ..Party::default()
    }
}

/// An edge with so many requests of 20 ms in the window.
fn edge(source: Party, destination: Party, requests: u64) -> WindowedEdge {
    let mut durations = Counts::default().durations;
    // 10 to 25 ms.
    durations[2] = requests;
    WindowedEdge {
        row: EdgeRow {
            source,
            destination,
            protocol: "http",
            security: "tls",
            reporter: "client",
            ..EdgeRow::default()
        },
        counts: Counts {
            requests,
            durations,
            ..Counts::default()
        },
    }
}

fn shown(edges: Vec<WindowedEdge>, query: &str) -> NodeGraph {
    let pairs: Vec<(String, String)> = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let windowed = Windowed {
        length: Duration::from_secs(10),
        edges,
    };
    Picture::new(&windowed, &Parameters::parse(&pairs).unwrap()).show()
}

/// web calls cart, which calls pay in another namespace; outside calls web.
fn shop() -> Vec<WindowedEdge> {
    let [web, cart, pay] = [("shop", "web"), ("shop", "cart"), ("bank", "pay")]
        .map(|(namespace, name)| workload(namespace, name));
    let mut edges = vec![
        edge(outside(), web.clone(), 100),
        edge(web, cart.clone(), 50),
        edge(cart, pay, 10),
    ];
    edges[1].row.dialled = Some(("shop".to_owned(), "basket".to_owned()));
    edges[2].row.security = "plaintext";
    edges[2].counts.errors = 1;
    edges
}

fn ids(graph: &NodeGraph) -> Vec<&str> {
    graph.nodes.iter().map(|node| node.id.as_str()).collect()
}

const WEB: &str = "workload:shop/Deployment/web";
const CART: &str = "workload:shop/Deployment/cart";
const PAY: &str = "workload:bank/Deployment/pay";

#[test]
fn an_edge_and_a_node_in_full() {
    let mut edges = vec![edge(workload("shop", "web"), workload("shop", "cart"), 20)];
    let WindowedEdge { row, counts } = &mut edges[0];
    row.dialled = Some(("shop".to_owned(), "basket".to_owned()));
    row.source_zone = "eu-1a".to_owned();
    row.destination_zone = "eu-1b".to_owned();
    row.open_connections = 3;
    counts.errors = 5;
    counts.sent_bytes = 1_000;
    counts.received_bytes = 25_000;
    counts.connections_opened = 10;
    counts.connect_failures = 1;
    counts.retransmits = 2;
    counts.rtt_nanoseconds = 3_000_000;
    counts.rtt_samples = 2;
    // The same seen by the server of this host would be counted twice.
    let mut other = edges[0].clone();
    edges[0].row.same_host = true;
    other.row.same_host = true;
    other.row.reporter = "server";
    other.row.dialled = None;
    edges.push(other);
    let found = to_value(shown(edges, "window=10s")).unwrap();
    assert_eq!(
        found["edges"],
        json!([{
            "id": format!("{WEB}|{CART}"), "source": WEB, "target": CART,
            "mainstat": "2/s", "secondarystat": "p95 24.2 ms, 25% failed, 0.1/s not connected",
            "thickness": 1.6, "color": "#F2495C", "strokeDasharray": null,
            "detail__protocol": "http", "detail__security": "tls 100%",
            "detail__encrypted_ratio": 1.0, "detail__dialled": "shop/basket",
            "detail__zones": "eu-1a to eu-1b", "detail__requests_per_second": 2.0,
            "detail__errors_per_second": 0.5, "detail__error_ratio": 0.25,
            "detail__p50_seconds": 0.0175, "detail__p95_seconds": 0.02425,
            "detail__p99_seconds": 0.02485, "detail__sent_bytes_per_second": 100.0,
            "detail__received_bytes_per_second": 2_500.0,
            "detail__connections_opened_per_second": 1.0,
            "detail__connect_failures_per_second": 0.1, "detail__retransmits_per_second": 0.2,
            "detail__rtt_seconds": 0.0015, "detail__open_connections": 3
        }])
    );
    let cart = found["nodes"].as_array().unwrap();
    let cart = cart.iter().find(|node| node["id"] == CART).unwrap();
    assert_eq!(
        *cart,
        json!({
            "id": CART, "title": "cart", "subtitle": "shop Deployment", "mainstat": "2/s",
            "secondarystat": "p95 24.2 ms", "arc__success": 0.75, "arc__errors": 0.25,
            "arc__idle": 0.0, "arc__success_color": "#73BF69", "arc__errors_color": "#F2495C",
            "arc__idle_color": "#8E8E8E", "icon": null, "color": "#F2495C",
            "detail__kind": "workload", "detail__namespace": "shop",
            "detail__workload_kind": "Deployment", "detail__zone": "eu-1b",
            "detail__requests_per_second": 2.0, "detail__made_per_second": 0.0,
            "detail__error_ratio": 0.25, "detail__p50_seconds": 0.0175,
            "detail__p95_seconds": 0.02425, "detail__p99_seconds": 0.02485,
            "detail__sent_bytes_per_second": 2_500.0,
            "detail__received_bytes_per_second": 100.0, "detail__encrypted_ratio": 1.0,
            "detail__security": "tls 100%"
        })
    );
    let rest = [
        "window_seconds",
        "granularity_seconds",
        "nodes_left_out",
        "edges_left_out",
    ];
    assert_eq!(
        rest.map(|key| found[key].clone()),
        [json!(10.0), json!(10), json!(0), json!(0)]
    );
}

#[test]
fn edges_show_what_is_in_the_clear() {
    let line = |security: &'static str, errors| {
        let mut edge = edge(workload("a", "x"), workload("a", "y"), 1_000);
        edge.row.security = security;
        edge.counts.errors = errors;
        let mut graph = shown(vec![edge], "");
        let Edge {
            color,
            stroke_dasharray,
            ..
        } = graph.edges.remove(0);
        (color, stroke_dasharray)
    };
    assert_eq!(line("istio_mtls", 0), ("#73BF69", None));
    assert_eq!(line("plaintext", 0), ("#FADE2A", Some("8 4")));
    assert_eq!(line("unknown", 0), ("#8E8E8E", Some("2 4")));
    assert_eq!(line("tls", 1), ("#FF9830", None));
    assert_eq!(line("plaintext", 50), ("#F2495C", Some("8 4")));
}

#[test]
fn one_edge_between_two_nodes_whatever_is_spoken() {
    let mut edges = vec![
        edge(workload("a", "x"), workload("a", "y"), 30),
        edge(workload("a", "x"), workload("a", "y"), 10),
    ];
    edges[1].row.security = "plaintext";
    edges[1].row.protocol = "grpc";
    let graph = shown(edges, "");
    assert_eq!(graph.edges.len(), 1);
    let edge = &graph.edges[0];
    assert_eq!(edge.detail__requests_per_second, 4.0);
    assert_eq!(edge.detail__protocol, "grpc, http");
    assert_eq!(edge.detail__security, "tls 75%, plaintext 25%");
    assert_eq!(edge.detail__encrypted_ratio, Some(0.75));
}

#[test]
fn groups() {
    let graph = shown(shop(), "group=namespace");
    assert_eq!(ids(&graph), ["namespace:shop", "outside", "namespace:bank"]);
    // What a namespace does inside of it counts for it.
    assert_eq!(graph.nodes[0].detail__requests_per_second, 15.0);
    let graph = shown(shop(), "group=service");
    assert!(ids(&graph).contains(&"kubernetes_service:shop/basket"));
    let graph = shown(shop(), "group=zone");
    assert_eq!(ids(&graph), ["zone:"]);
    assert_eq!(graph.nodes[0].title, "no known zone");
}

#[test]
fn focus_and_depth() {
    let near = |query: &str| {
        let graph = shown(shop(), query);
        ids(&graph)
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(near("focus=cart"), [CART, WEB, PAY]);
    assert_eq!(near("focus=shop/cart&depth=0"), [CART]);
    assert_eq!(near(&format!("focus={PAY}&depth=2")), [PAY, WEB, CART]);
    assert_eq!(near("focus=pay&depth=16").len(), 4);
    assert!(near("focus=nobody").is_empty());
}

#[test]
fn filters() {
    let edges = |query: &str| shown(shop(), query).edges.len();
    assert_eq!(edges("namespace=bank"), 1);
    assert_eq!(edges("namespace=bank,shop"), 3);
    assert_eq!(edges("workload=web"), 2);
    assert_eq!(edges("workload=bank/web"), 0);
    assert_eq!(edges("service=basket"), 1);
    assert_eq!(edges("kind=outside"), 1);
    assert_eq!(edges("protocol=grpc"), 0);
    assert_eq!(edges("security=encrypted"), 2);
    assert_eq!(edges("security=plaintext"), 1);
    assert_eq!(edges("errors=true"), 1);
    assert_eq!(edges("min_rate=5"), 2);
    assert_eq!(
        edges("min_rate=5&security=tls&namespace=shop&workload=cart"),
        1
    );
}

#[test]
fn the_busiest_are_kept_and_the_rest_is_told() {
    let graph = shown(shop(), "limit=2");
    assert_eq!(ids(&graph), [WEB, "outside"]);
    assert_eq!((graph.nodes_left_out, graph.edges_left_out), (2, 2));
    // What is looked at stays, however little it does.
    let graph = shown(shop(), "limit=2&focus=pay&depth=3");
    assert_eq!(ids(&graph), [PAY, WEB]);
}

#[test]
fn what_is_not_observed_itself_has_an_icon() {
    let graph = shown(shop(), "");
    let icons: Vec<_> = graph.nodes.iter().map(|node| node.icon).collect();
    assert_eq!(icons, [None, Some("cloud"), None, None]);
    assert_eq!(graph.nodes[1].title, "outside");
    assert_eq!(graph.nodes[1].mainstat, "10/s");
}

#[test]
fn the_plugin_is_told_of_every_field() {
    let response = futures_util::FutureExt::now_or_never(plugin::fields()).unwrap();
    let body = axum::body::to_bytes(response.into_body(), 1 << 20);
    let body = futures_util::FutureExt::now_or_never(body)
        .unwrap()
        .unwrap();
    let fields: Json = serde_json::from_slice(&body).unwrap();
    let graph = to_value(shown(shop(), "")).unwrap();
    for (rows, fields) in [("nodes", "nodes_fields"), ("edges", "edges_fields")]
        .map(|(rows, names)| (&graph[rows], &fields[names]))
    {
        let rows = rows.as_array().unwrap();
        let told: Vec<(&str, &str)> = fields
            .as_array()
            .unwrap()
            .iter()
            .map(|field| {
                (
                    field["field_name"].as_str().unwrap(),
                    field["type"].as_str().unwrap(),
                )
            })
            .collect();
        for row in rows {
            let row = row.as_object().unwrap();
            // Colours of arcs are told with the fields.
            let wanted = row.keys().filter(|key| !key.ends_with("_color")).count();
            assert_eq!(told.len(), wanted);
            for (name, kind) in &told {
                let value = &row[*name];
                let right = value.is_null() || value.is_string() == (*kind == "string");
                assert!(right, "{name}: {value}");
            }
        }
    }
}

fn party() -> impl Strategy<Value = Party> {
    (0..3_usize, 0..4_usize).prop_map(|(namespace, name)| match name {
        3 => outside(),
        name => workload(["a", "b", "c/|%"][namespace], ["x", "y", "z"][name]),
    })
}

fn any_edge() -> impl Strategy<Value = WindowedEdge> {
    let security = prop::sample::select(vec!["plaintext", "tls", "unknown", "istio_mtls"]);
    (party(), party(), 0..50_u64, 0..50_u64, security, 0..3_u64).prop_map(
        |(source, destination, requests, errors, security, open)| {
            let mut edge = edge(source, destination, requests);
            edge.counts.errors = errors.min(requests);
            edge.row.security = security;
            edge.row.open_connections = open;
            edge
        },
    )
}

proptest! {
    /// Whatever there is: ids are unique, edges end at nodes, arcs add up to 1, and nothing is lost
    /// but by name.
    #[test]
    fn the_panel_can_draw_it(
        edges in prop::collection::vec(any_edge(), 0..30),
        group in prop::sample::select(vec!["workload", "namespace", "service", "zone"]),
        limit in 1..12_usize,
    ) {
        let requests: u64 = edges.iter().map(|edge| edge.counts.requests).sum();
        let all = shown(edges.clone(), &format!("group={group}"));
        let graph = shown(edges, &format!("group={group}&limit={limit}"));
        prop_assert!(graph.nodes.len() <= limit);
        prop_assert_eq!(graph.nodes.len() + graph.nodes_left_out, all.nodes.len());
        prop_assert_eq!(graph.edges.len() + graph.edges_left_out, all.edges.len());
        for graph in [&all, &graph] {
            let nodes: std::collections::BTreeSet<_> = ids(graph).into_iter().collect();
            prop_assert_eq!(nodes.len(), graph.nodes.len());
            let edges: std::collections::BTreeSet<_> =
                graph.edges.iter().map(|edge| edge.id.as_str()).collect();
            prop_assert_eq!(edges.len(), graph.edges.len());
            for edge in &graph.edges {
                prop_assert!(nodes.contains(edge.source.as_str()));
                prop_assert!(nodes.contains(edge.target.as_str()));
            }
            for node in &graph.nodes {
                let sum = node.arc__success + node.arc__errors + node.arc__idle;
                prop_assert!((sum - 1.0).abs() < 1e-9);
            }
        }
        let rates: f64 = all.edges.iter().map(|edge| edge.detail__requests_per_second).sum();
        let received: f64 = all.nodes.iter().map(|node| node.detail__requests_per_second).sum();
        #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
        let expected = requests as f64 / 10.0;
        prop_assert!((rates - expected).abs() < 1e-6 && (received - expected).abs() < 1e-6);
    }
}
