//! Who reports an edge, and that sums are those of the series they are made of.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::{
    aggregate::{
        Aggregator, Budgets, Config,
        fixture::{self, SECOND, call_on, link_in, link_with, rpc_on, workload},
        snapshot::{Series, Value},
    },
    model::{connection::Role, rpc::RpcEnd, time::Monotonic, workload::Peer},
    telemetry::health::Health,
};

fn at(seconds: u64) -> Monotonic {
    Monotonic(seconds * SECOND)
}

fn aggregator() -> Aggregator {
    Aggregator::new(Config {
        span_metrics: true,
        ..Config::default()
    })
}

fn number(series: &Series) -> u64 {
    match &series.value {
        Value::Integer(value) => *value,
        Value::Histogram(_, observed) => {
            if let Some(exponential) = &observed.exponential {
                assert_eq!(exponential.count(), observed.count());
            }
            observed.count()
        }
        Value::Float(_) => panic!("a float"),
    }
}

/// Values of a family by the labels that `names` wants, `|` between.
fn by(aggregator: &mut Aggregator, family: &str, names: &[&str]) -> BTreeMap<String, u64> {
    let snapshot = aggregator.snapshot(Health::default(), at(1));
    let mut found = BTreeMap::new();
    for samples in snapshot
        .families
        .iter()
        .filter(|it| it.family.name == family)
    {
        for series in &samples.series {
            let labels: BTreeMap<&str, &str> = series.labels().collect();
            let of = |name: &&str| labels.get(name).copied().unwrap_or_default();
            let key: Vec<&str> = names.iter().map(of).collect();
            *found.entry(key.join("|")).or_default() += number(series);
        }
    }
    found
}

fn map<const N: usize>(pairs: [(&str, u64); N]) -> BTreeMap<String, u64> {
    pairs
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}

const EDGE: &[&str] = &["client", "server", "connection_type", "virtual_node"];

#[test]
fn one_end_reports_each_edge() {
    let mut aggregator = aggregator();
    let mut calls = |id, own: &str, role, peer: Peer, statuses: &[u16]| {
        let link = link_with(id, own, role, peer);
        for status in statuses {
            aggregator.call(&call_on(&link, "/", *status), None, at(1));
        }
    };
    let (client, server) = (Role::Client, Role::Server);
    let outside = || Peer::Address([192, 0, 2, 7].into());
    // A call within the host is seen at both ends.
    calls(1, "web", client, Peer::Local(workload("cart")), &[200, 500]);
    calls(2, "cart", server, Peer::Local(workload("web")), &[200, 500]);
    // A pod of another node: that node counts.
    calls(
        3,
        "cart",
        client,
        Peer::Pod(fixture::pod("stock", "a")),
        &[200],
    );
    calls(
        4,
        "cart",
        server,
        Peer::Pod(fixture::pod("front", "a")),
        &[200],
    );
    // Nobody will observe these.
    let name = Peer::Named {
        name: "api.example.org".into(),
        address: [192, 0, 2, 7].into(),
    };
    calls(5, "cart", client, name, &[200, 200, 503]);
    calls(
        6,
        "cart",
        client,
        Peer::Node(fixture::node("node-1")),
        &[200],
    );
    calls(7, "cart", client, outside(), &[200]);
    // And from outside.
    calls(8, "web", server, outside(), &[200, 200, 200]);

    let requests = map([
        ("cart|198.51.100.9|virtual_node|server", 1),
        ("cart|api.example.org|virtual_node|server", 3),
        ("cart|node-1|virtual_node|server", 1),
        ("front|cart||", 1),
        ("user|web|virtual_node|client", 3),
        ("web|cart||", 2),
    ]);
    let mut of = |family: &str| {
        by(
            &mut aggregator,
            &format!("traces_service_graph_{family}"),
            EDGE,
        )
    };
    assert_eq!(of("request_total"), requests);
    assert_eq!(of("request_server_seconds"), requests);
    let failed = of("request_failed_total");
    assert_eq!(failed.values().sum::<u64>(), 2);
    assert_eq!(
        (
            failed["web|cart||"],
            failed["cart|api.example.org|virtual_node|server"]
        ),
        (1, 1)
    );
    assert_eq!(
        of("request_client_seconds"),
        map([
            ("cart|198.51.100.9|virtual_node|server", 1),
            ("cart|api.example.org|virtual_node|server", 3),
            ("cart|node-1|virtual_node|server", 1),
            ("cart|stock||", 1),
            ("web|cart||", 2),
        ])
    );
    let names = [
        "server",
        "client_service_namespace",
        "server_service_namespace",
    ];
    let namespaces = by(
        &mut aggregator,
        "traces_service_graph_request_total",
        &names,
    );
    assert!(namespaces.contains_key("cart|shop|shop") && namespaces.contains_key("web||shop"));
}

#[test]
fn a_service_that_was_dialled_names_who_is_not_observed() {
    let mut aggregator = aggregator();
    let outside = Peer::Address([192, 0, 2, 7].into());
    let link = link_in(1, ("web", "a"), Role::Client, outside, Some("ledger"));
    aggregator.call(&call_on(&link, "/", 200), None, at(1));
    let names = [
        "client",
        "server",
        "server_service_namespace",
        "virtual_node",
    ];
    let found = by(
        &mut aggregator,
        "traces_service_graph_request_total",
        &names,
    );
    assert_eq!(found, map([("web|ledger|shop|server", 1)]));
}

const SPAN: &[&str] = &["service", "span_name", "span_kind", "status_code"];

#[test]
fn spans_are_named_as_the_conventions_say() {
    let mut aggregator = aggregator();
    let link = fixture::link(1, "web");
    for (route, status) in [("/orders/{id}", 200), ("/orders/{id}", 503), ("", 200)] {
        aggregator.call(&call_on(&link, route, status), None, at(1));
    }
    for end in [0, 0, 13] {
        aggregator.call(&rpc_on(&link, "/a.B/C", RpcEnd::Status(end)), None, at(1));
    }
    let wanted = map([
        ("web|GET /orders/{id}|SPAN_KIND_SERVER|STATUS_CODE_ERROR", 1),
        ("web|GET /orders/{id}|SPAN_KIND_SERVER|STATUS_CODE_UNSET", 1),
        ("web|GET|SPAN_KIND_SERVER|STATUS_CODE_UNSET", 1),
        ("web|a.B/C|SPAN_KIND_SERVER|STATUS_CODE_ERROR", 1),
        ("web|a.B/C|SPAN_KIND_SERVER|STATUS_CODE_UNSET", 2),
    ]);
    assert_eq!(
        by(&mut aggregator, "traces_spanmetrics_calls_total", SPAN),
        wanted
    );
    assert_eq!(
        by(&mut aggregator, "traces_spanmetrics_latency", SPAN),
        wanted
    );
    let target = by(
        &mut aggregator,
        "traces_target_info",
        &["service", "service_namespace"],
    );
    assert_eq!(target, map([("web|shop", 1)]));
    let kinds = by(
        &mut aggregator,
        "http_server_request_duration_seconds",
        &["rpc_system_name"],
    );
    assert_eq!(kinds, map([("", 3), ("grpc", 3)]));
}

#[test]
fn families_that_are_not_wanted_are_not_there() {
    let mut aggregator = Aggregator::new(Config {
        service_graph: false,
        ..Config::default()
    });
    aggregator.call(&fixture::call("web", "/", 200), None, at(1));
    let snapshot = aggregator.snapshot(Health::default(), at(1));
    let mut families = snapshot.families.iter();
    assert!(families.all(|it| !it.family.name.starts_with("traces_")));
}

#[test]
fn a_sum_stays_while_one_of_its_series_does() {
    let mut aggregator = aggregator();
    let link = fixture::link(1, "web");
    let total = |aggregator: &mut Aggregator| -> (u64, u64) {
        let of =
            |aggregator: &mut Aggregator, family| by(aggregator, family, &[]).values().sum::<u64>();
        (
            of(aggregator, "traces_service_graph_request_total"),
            of(aggregator, "traces_spanmetrics_calls_total"),
        )
    };
    let idle = 5 * 60;
    aggregator.call(&call_on(&link, "/a", 200), None, at(1));
    aggregator.call(&call_on(&link, "/a", 404), None, at(1));
    aggregator.call(&call_on(&link, "/a", 200), None, at(idle));
    assert_eq!(total(&mut aggregator), (3, 3));
    // One of two series goes; the sums of both stay.
    aggregator.expire(at(1 + idle));
    assert_eq!(total(&mut aggregator), (3, 3));
    aggregator.expire(at(100 + idle));
    aggregator.call(&call_on(&link, "/a", 200), None, at(100 + idle));
    assert_eq!(total(&mut aggregator), (4, 4));
    // The last one goes, and with it the sums.
    aggregator.expire(at(100 + 2 * idle));
    aggregator.expire(at(200 + 2 * idle));
    assert_eq!(total(&mut aggregator), (0, 0));
    aggregator.call(&call_on(&link, "/a", 200), None, at(200 + 2 * idle));
    assert_eq!(total(&mut aggregator), (1, 1));
}

proptest! {
    /// Whatever the budget: the counts of both families are those of the families they are from.
    #[test]
    fn sums_are_those_of_the_series(
        calls in prop::collection::vec((0_u64..6, 0_u8..4, any::<bool>(), any::<bool>()), 0..60),
        budget in 1_usize..12,
    ) {
        let mut aggregator = Aggregator::new(Config {
            budgets: Budgets { rpc_server: 100, rpc_client: 100, ..Budgets::all(budget) },
            span_metrics: true,
            ..Config::default()
        });
        for (id, route, failed, client) in calls {
            let role = if client { Role::Client } else { Role::Server };
            let peer = match id % 2 {
                0 => Peer::Address([192, 0, 2, 7].into()),
                _ => Peer::Local(workload("other")),
            };
            let link = link_with(id * 2 + u64::from(client), "web", role, peer);
            let status = if failed { 500 } else { 200 };
            aggregator.call(&call_on(&link, &format!("/{route}"), status), None, at(1));
        }
        let mut sum = |family: &str| by(&mut aggregator, family, &[]).values().sum::<u64>();
        let server = sum("http_server_request_duration_seconds");
        let client = sum("http_client_request_duration_seconds");
        prop_assert_eq!(sum("traces_spanmetrics_calls_total"), server + client);
        prop_assert_eq!(sum("traces_service_graph_request_client_seconds"), client);
        let counted = sum("traces_service_graph_request_total");
        prop_assert!(counted >= server && counted <= server + client);
        prop_assert_eq!(sum("traces_service_graph_request_server_seconds"), counted);
    }
}
