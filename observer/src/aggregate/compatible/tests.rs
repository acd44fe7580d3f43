//! Series as tools for meshes read them.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{
    aggregate::{
        Aggregator, Budgets, Config, contract,
        fixture::{self, SECOND, call_on, call_through_proxies},
    },
    config::IstioSeries,
    model::{
        exchange::Exchange,
        kubernetes::{Container, Pod},
        mesh::{FarSource, Forwarded, Hop, ProxyKind},
        policy::Traits,
        rpc::RpcEnd,
        security::Security,
        workload::{Peer, Workload},
    },
    telemetry::health::Health,
};

const NOW: Monotonic = Monotonic(10 * SECOND);

fn aggregator(istio: IstioSeries, linkerd: bool) -> Aggregator {
    Aggregator::new(Config {
        mesh_series: MeshSeries { istio, linkerd },
        ..Config::default()
    })
}

/// Series of a family: labels, and the value or the count.
fn series(aggregator: &mut Aggregator, family: &str) -> Vec<(BTreeMap<&'static str, String>, u64)> {
    let snapshot = aggregator.snapshot(Health::default(), NOW);
    let found = snapshot
        .families
        .iter()
        .find(|samples| samples.family.name == family);
    let series = found.iter().flat_map(|samples| &samples.series);
    series
        .map(|series| {
            let labels = series
                .labels()
                .map(|(name, value)| (name, value.to_owned()))
                .collect();
            let value = match &series.value {
                crate::aggregate::snapshot::Value::Integer(value) => *value,
                crate::aggregate::snapshot::Value::Histogram(_, found) => found.count(),
                crate::aggregate::snapshot::Value::Float(_) => panic!("not whole"),
            };
            (labels, value)
        })
        .collect()
}

fn traits(containers: &[&str], annotations: &[(&str, &str)]) -> Arc<Traits> {
    let pairs = |list: &[(&str, &str)]| {
        let pairs = list.iter();
        pairs
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect()
    };
    Arc::new(Traits {
        service_account: "web".into(),
        labels: pairs(&[("app", "front"), ("version", "v2")]),
        annotations: pairs(annotations),
        containers: containers.iter().map(|name| (*name).into()).collect(),
        ..Traits::default()
    })
}

/// `link` of a pod with these traits.
fn in_pod(link: &Arc<Link>, traits: &Arc<Traits>) -> Link {
    let mut link = Link::clone(link);
    let mut workload = Workload::clone(&link.workload);
    let mut pod = Pod::clone(workload.pod().unwrap());
    pod.traits = traits.clone();
    workload.container = Some(Container {
        pod: Arc::new(pod),
        name: "main".into(),
    });
    link.workload = Arc::new(workload);
    link
}

fn client() -> Arc<Link> {
    let peer = Peer::Pod(fixture::pod("cart", "k"));
    fixture::link_in(1, ("web", "a"), Role::Client, peer, Some("basket"))
}

fn expect(found: &BTreeMap<&'static str, String>, expected: &[(&'static str, &str)]) {
    for (name, value) in expected {
        assert_eq!(found.get(name).map(String::as_str), Some(*value), "{name}");
    }
}

/// Labels without which Kiali leaves a series out.
const NEEDED: [&str; 14] = [
    "source_workload_namespace",
    "source_workload",
    "source_canonical_service",
    "source_canonical_revision",
    "destination_service_namespace",
    "destination_service",
    "destination_service_name",
    "destination_workload_namespace",
    "destination_workload",
    "destination_canonical_service",
    "destination_canonical_revision",
    "response_flags",
    "request_protocol",
    "response_code",
];

#[test]
fn a_request_of_a_client_without_a_proxy() {
    let link = Arc::new(in_pod(&client(), &traits(&[], &[])));
    let mut aggregator = aggregator(IstioSeries::Gaps, false);
    aggregator.call(&call_on(&link, "/", 200), None, NOW);
    aggregator.call(&call_on(&link, "/other", 200), None, NOW);
    let found = series(&mut aggregator, "istio_requests_total");
    let [(labels, 2)] = &found[..] else {
        panic!("{found:?}")
    };
    expect(
        labels,
        &[
            ("reporter", "source"),
            ("source_workload", "web"),
            ("source_workload_namespace", "shop"),
            ("source_principal", "unknown"),
            ("source_app", "front"),
            ("source_version", "v2"),
            ("source_canonical_service", "front"),
            ("source_canonical_revision", "v2"),
            ("source_cluster", "Kubernetes"),
            ("destination_workload", "cart"),
            ("destination_workload_namespace", "shop"),
            ("destination_principal", "unknown"),
            ("destination_app", "unknown"),
            ("destination_version", "unknown"),
            ("destination_service", "basket.shop.svc.cluster.local"),
            ("destination_service_name", "basket"),
            ("destination_service_namespace", "shop"),
            ("destination_canonical_service", "cart"),
            ("destination_canonical_revision", "latest"),
            ("destination_cluster", "Kubernetes"),
            ("request_protocol", "http"),
            ("response_code", "200"),
            ("response_flags", "-"),
            ("connection_security_policy", "unknown"),
        ],
    );
    for family in [
        "istio_request_duration_milliseconds",
        "istio_request_bytes",
        "istio_response_bytes",
    ] {
        let found = series(&mut aggregator, family);
        assert_eq!(found, [(labels.clone(), 2)], "{family}");
    }
}

#[test]
fn a_request_to_a_server_behind_its_proxy() {
    let call = call_through_proxies();
    let link = Arc::new(in_pod(&call.link, &traits(&[], &[])));
    let call = Call { link, ..call };
    let mut aggregator = aggregator(IstioSeries::All, false);
    aggregator.call(&call, None, NOW);
    let found = series(&mut aggregator, "istio_requests_total");
    let [(labels, 1)] = &found[..] else {
        panic!("{found:?}")
    };
    expect(
        labels,
        &[
            ("reporter", "destination"),
            ("source_workload", "cart"),
            ("source_principal", "spiffe://cluster.local/ns/shop/sa/cart"),
            ("destination_workload", "web"),
            (
                "destination_principal",
                "spiffe://cluster.local/ns/shop/sa/web",
            ),
            ("destination_service", "front.shop.svc.cluster.local"),
            ("connection_security_policy", "mutual_tls"),
        ],
    );
}

#[test]
fn nothing_that_tools_need_is_missing() {
    let outside = Peer::Address([192, 0, 2, 9].into());
    let server = fixture::link_in(2, ("web", "a"), Role::Server, outside.clone(), None);
    let away = fixture::link_in(3, ("web", "a"), Role::Client, outside, None);
    let mut aggregator = aggregator(IstioSeries::Gaps, false);
    for link in [&client(), &server, &away] {
        let mut call = call_on(link, "/", 200);
        call.exchange.status = None;
        call.exchange.outcome = Outcome::ClientAborted;
        aggregator.call(&call, None, NOW);
    }
    let found = series(&mut aggregator, "istio_requests_total");
    assert_eq!(found.len(), 3);
    for (labels, _) in &found {
        for name in NEEDED {
            assert!(labels.contains_key(name), "{name}: {labels:?}");
        }
        expect(labels, &[("response_code", "0"), ("response_flags", "DC")]);
    }
    let away = found
        .iter()
        .find(|(labels, _)| labels["destination_service"] == "192.0.2.9");
    expect(
        &away.unwrap().0,
        &[
            ("destination_service_name", "PassthroughCluster"),
            ("destination_workload", "unknown"),
            ("destination_cluster", "unknown"),
        ],
    );
}

/// Who is told of by whom: with a sidecar, with the proxy of the node, with another mesh's, with none.
#[test]
fn gaps_are_what_no_proxy_tells() {
    let none = traits(&["main"], &[]);
    let sidecar = traits(&["main", "istio-proxy"], &[]);
    let linkerd = traits(&["main", "linkerd-proxy"], &[]);
    let ambient = traits(&["main"], &[("ambient.istio.io/redirection", "enabled")]);
    let waypoint = Some(Arc::new(Forwarded {
        by_envoy: true,
        ..Forwarded::default()
    }));
    let plain = Some(Arc::new(Forwarded::default()));
    for (traits, hop, forwarded, gaps, all) in [
        (&none, Hop::Direct, &None, true, true),
        (&sidecar, Hop::ToProxy, &plain, false, true),
        (&sidecar, Hop::FromProxy, &None, false, true),
        // Past its sidecar.
        (&sidecar, Hop::Direct, &None, true, true),
        (
            &sidecar,
            Hop::Proxy(ProxyKind::Sidecar),
            &None,
            false,
            false,
        ),
        (&none, Hop::Proxy(ProxyKind::Gateway), &None, false, true),
        (&ambient, Hop::ToProxy, &None, true, true),
        (&ambient, Hop::FromProxy, &plain, true, true),
        (&ambient, Hop::ToProxy, &waypoint, false, true),
        (&linkerd, Hop::ToProxy, &None, true, true),
    ] {
        for (which, expected) in [
            (IstioSeries::Gaps, gaps),
            (IstioSeries::All, all),
            (IstioSeries::Off, false),
        ] {
            let mut link = in_pod(&client(), traits);
            link.hop = hop;
            let mut call = call_on(&Arc::new(link), "/", 200);
            call.exchange.forwarded = forwarded.clone();
            let mut aggregator = aggregator(which, false);
            aggregator.call(&call, None, NOW);
            let found = series(&mut aggregator, "istio_requests_total");
            assert_eq!(!found.is_empty(), expected, "{which:?} {hop:?} {traits:?}");
        }
    }
    // The proxy of the node counts connections itself.
    let mut link = in_pod(&client(), &ambient);
    link.hop = Hop::ToProxy;
    let mut aggregator = aggregator(IstioSeries::Gaps, false);
    aggregator.link(&fixture::closed(&Arc::new(link), 10), NOW);
    assert!(series(&mut aggregator, "istio_tcp_sent_bytes_total").is_empty());
}

#[test]
fn bytes_of_connections_are_told_from_the_side_of_the_server() {
    for (role, sent, received) in [(Role::Client, 70, 30), (Role::Server, 30, 70)] {
        let peer = Peer::Pod(fixture::pod("cart", "k"));
        let link = fixture::link_in(1, ("web", "a"), role, peer, None);
        let mut aggregator = aggregator(IstioSeries::Gaps, false);
        let total = |sent_bytes, received_bytes| Transfer {
            sent_bytes,
            received_bytes,
            ..Transfer::default()
        };
        let progress = |transfer| LinkEvent::Progress {
            link: link.clone(),
            transfer,
        };
        aggregator.link(&LinkEvent::Opened(link.clone()), NOW);
        aggregator.link(&progress(total(10, 20)), NOW);
        // It may still turn out to carry requests.
        assert!(series(&mut aggregator, "istio_tcp_sent_bytes_total").is_empty());
        aggregator.expire(NOW);
        aggregator.link(&progress(total(30, 70)), NOW);
        let value = |aggregator: &mut Aggregator, family| {
            let found = series(aggregator, family);
            let [(labels, value)] = &found[..] else {
                panic!("{family} {found:?}")
            };
            expect(
                labels,
                &[("request_protocol", "tcp"), ("response_flags", "-")],
            );
            assert!(!labels.contains_key("response_code"));
            *value
        };
        let found = value(&mut aggregator, "istio_tcp_sent_bytes_total");
        assert_eq!(found, sent, "{role:?}");
        let found = value(&mut aggregator, "istio_tcp_received_bytes_total");
        assert_eq!(found, received, "{role:?}");
        let opened = value(&mut aggregator, "istio_tcp_connections_opened_total");
        let closed = value(&mut aggregator, "istio_tcp_connections_closed_total");
        assert_eq!((opened, closed), (1, 0));
        aggregator.link(&fixture::closed(&link, 1_000), NOW);
        let closed = value(&mut aggregator, "istio_tcp_connections_closed_total");
        assert_eq!(closed, 1);
    }
}

#[test]
fn connections_with_requests_are_no_connections_of_tcp() {
    let link = client();
    let mut aggregator = aggregator(IstioSeries::All, false);
    aggregator.link(&LinkEvent::Opened(link.clone()), NOW);
    aggregator.call(&call_on(&link, "/", 200), None, NOW);
    aggregator.expire(NOW);
    aggregator.link(&fixture::closed(&link, 1_000), NOW);
    assert!(series(&mut aggregator, "istio_tcp_sent_bytes_total").is_empty());
    assert_eq!(series(&mut aggregator, "istio_requests_total").len(), 1);
}

#[test]
fn procedures() {
    let call = fixture::rpc_on(&client(), "/a.B/C", RpcEnd::Status(14));
    let mut aggregator = aggregator(IstioSeries::All, true);
    aggregator.call(&call, None, NOW);
    let found = series(&mut aggregator, "istio_request_messages_total");
    expect(
        &found[0].0,
        &[("request_protocol", "grpc"), ("grpc_response_status", "14")],
    );
    assert_eq!(found[0].1, 3);
    assert_eq!(
        series(&mut aggregator, "istio_response_messages_total")[0].1,
        2
    );
    expect(
        &series(&mut aggregator, "response_total")[0].0,
        &[("grpc_status", "14"), ("classification", "failure")],
    );
}

#[test]
fn stat_and_edges_of_linkerd() {
    let mut aggregator = aggregator(IstioSeries::Off, true);
    let link = client();
    aggregator.link(&LinkEvent::Opened(link.clone()), NOW);
    aggregator.expire(NOW);
    for status in [200, 200, 503] {
        aggregator.call(&call_on(&link, "/", status), None, NOW);
    }
    let ends = [
        ("direction", "outbound"),
        ("namespace", "shop"),
        ("pod", "web-5d4f-a"),
        ("deployment", "web"),
        ("dst_namespace", "shop"),
        ("dst_pod", "cart-5d4f-k"),
        ("dst_deployment", "cart"),
        ("dst_service", "basket"),
        ("authority", "basket.shop.svc.cluster.local:443"),
        ("tls", "no_identity"),
        ("no_tls_reason", "not_provided_by_service_discovery"),
    ];
    let requests = series(&mut aggregator, "request_total");
    assert_eq!((requests.len(), requests[0].1), (1, 3));
    expect(&requests[0].0, &ends);
    let mut responses = series(&mut aggregator, "response_total");
    responses.sort_by_key(|(_, count)| *count);
    let result = |index: usize| {
        let (labels, count): &(BTreeMap<_, _>, u64) = &responses[index];
        (
            labels["classification"].as_str(),
            labels["status_code"].as_str(),
            *count,
        )
    };
    assert_eq!(result(0), ("failure", "503", 1));
    assert_eq!(result(1), ("success", "200", 2));
    let open = series(&mut aggregator, "tcp_open_connections");
    assert_eq!((open.len(), open[0].1), (1, 1));
    expect(&open[0].0, &ends);
    expect(&open[0].0, &[("peer", "dst")]);
    aggregator.link(&fixture::closed(&link, 1_000), NOW);
    assert_eq!(series(&mut aggregator, "tcp_open_connections")[0].1, 0);
    let (read, written) = (
        series(&mut aggregator, "tcp_read_bytes_total")[0].1,
        series(&mut aggregator, "tcp_write_bytes_total")[0].1,
    );
    let LinkEvent::Closed { transfer, .. } = fixture::closed(&link, 1_000) else {
        panic!("not closed")
    };
    assert_eq!(
        (read, written),
        (transfer.received_bytes, transfer.sent_bytes)
    );
}

#[test]
fn a_pod_with_a_proxy_of_linkerd_is_told_of_by_that() {
    let mut aggregator = aggregator(IstioSeries::Off, true);
    let meshed = in_pod(&client(), &traits(&["linkerd-proxy"], &[]));
    aggregator.call(&call_on(&Arc::new(meshed), "/", 200), None, NOW);
    assert!(series(&mut aggregator, "request_total").is_empty());
}

#[test]
fn an_identity_makes_it_secured() {
    let call = call_through_proxies();
    let mut aggregator = aggregator(IstioSeries::Off, true);
    aggregator.call(&call, None, NOW);
    let found = series(&mut aggregator, "response_total");
    expect(
        &found[0].0,
        &[
            ("direction", "inbound"),
            ("tls", "true"),
            ("client_id", "spiffe://cluster.local/ns/shop/sa/cart"),
        ],
    );
    assert!(!found[0].0.contains_key("no_tls_reason"));
}

#[test]
fn what_a_client_writes_makes_no_service_of_another_namespace() {
    let peer = Peer::Pod(fixture::pod("cart", "k"));
    let link = fixture::link_in(1, ("web", "a"), Role::Server, peer, None);
    for (authority, service) in [
        ("orders", "orders.shop.svc.cluster.local"),
        ("orders.shop:80", "orders.shop.svc.cluster.local"),
        ("orders.other", "web.shop.svc.cluster.local"),
        ("10.1.2.3:80", "web.shop.svc.cluster.local"),
        ("shop.example.com", "web.shop.svc.cluster.local"),
    ] {
        let mut call = call_on(&link, "/", 200);
        let mut head = call.exchange.request.as_ref().clone();
        head.authority = authority.into();
        call.exchange = Exchange {
            request: Arc::new(head),
            ..call.exchange
        };
        let mut aggregator = aggregator(IstioSeries::All, false);
        aggregator.call(&call, None, NOW);
        let found = series(&mut aggregator, "istio_requests_total");
        expect(&found[0].0, &[("destination_service", service)]);
    }
}

/// A far end that becomes known later gets series of its own, memo or not.
#[test]
fn what_becomes_known_later_is_told() {
    let mut aggregator = aggregator(IstioSeries::All, false);
    let link = client();
    aggregator.link(&LinkEvent::Opened(link.clone()), NOW);
    aggregator.call(&call_on(&link, "/", 200), None, NOW);
    let mut call = call_on(&link, "/", 200);
    call.far = Some(Arc::new(Far {
        peer: Peer::Pod(fixture::pod("other", "z")),
        source: FarSource::Address,
        security: Security::Hbone,
        identity: None,
        proxy: None,
    }));
    aggregator.call(&call, None, NOW);
    let found = series(&mut aggregator, "istio_requests_total");
    let mut workloads: Vec<&str> = found
        .iter()
        .map(|(labels, _)| labels["destination_workload"].as_str())
        .collect();
    workloads.sort_unstable();
    assert_eq!(workloads, ["cart", "other"]);
}

#[test]
fn bounds_hold() {
    let mut aggregator = Aggregator::new(Config {
        mesh_series: MeshSeries {
            istio: IstioSeries::All,
            linkerd: true,
        },
        budgets: Budgets {
            mesh: 1,
            ..Budgets::default()
        },
        connections: 1,
        ..Config::default()
    });
    for id in 0..3 {
        let mut link = Link::clone(&client());
        link.connection.id = ConnectionId(id);
        let link = Arc::new(link);
        aggregator.link(&LinkEvent::Opened(link.clone()), NOW);
        let status = 200 + u16::try_from(id).unwrap();
        aggregator.call(&call_on(&link, "/", status), None, NOW);
    }
    let found = series(&mut aggregator, "istio_requests_total");
    assert_eq!(found.len(), 2);
    assert!(found[1].0.contains_key("otel_metric_overflow"));
    let sum: u64 = found.iter().map(|(_, count)| count).sum();
    assert_eq!(sum, 3, "what does not fit is in the overflow series");
    assert_eq!(aggregator.compatible.untracked(), 2);
    assert_eq!(series(&mut aggregator, "request_total").len(), 2);
}

#[test]
fn turning_it_off_leaves_nothing() {
    let mut aggregator = aggregator(IstioSeries::All, true);
    aggregator.call(&call_on(&client(), "/", 200), None, NOW);
    assert!(!series(&mut aggregator, "istio_requests_total").is_empty());
    aggregator.reconfigure(Config::default());
    for family in contract::FAMILIES {
        let name = family.name;
        if name.starts_with("istio_") || name == "request_total" {
            assert!(series(&mut aggregator, name).is_empty(), "{name}");
        }
    }
}

proptest! {
    /// Whatever order things come in, bytes are counted once.
    #[test]
    fn bytes_are_counted_once(steps in prop::collection::vec((0u8..4, 0u64..1_000), 0..40)) {
        let mut compatible = Compatible::new(
            MeshSeries { istio: IstioSeries::All, linkerd: true }, 10, 10, "",
        );
        let link = client();
        let mut total = Transfer::default();
        let mut now = NOW;
        compatible.link(&LinkEvent::Opened(link.clone()), now);
        for (step, amount) in steps {
            now = now.plus(Duration::from_millis(amount));
            match step {
                0 => compatible.expire(now, Duration::from_secs(300)),
                1 => {
                    let at = now;
                    compatible.link(&LinkEvent::Recognised { link: link.clone(), at }, now);
                }
                _ => {
                    total.sent_bytes += amount;
                    let transfer = total;
                    compatible.link(&LinkEvent::Progress { link: link.clone(), transfer }, now);
                }
            }
        }
        let end = LinkEvent::Closed {
            link: link.clone(),
            at: now,
            by: crate::model::connection::ClosedBy::Local,
            reset: false,
            transfer: total,
        };
        compatible.link(&end, now);
        for dialect in &compatible.dialects {
            let found: Vec<_> = dialect.tcp.iter().map(|(_, _, tcp)| tcp).collect();
            prop_assert_eq!(found.len(), 1);
            prop_assert_eq!(found[0].from_client, total.sent_bytes);
            prop_assert_eq!((found[0].opened, found[0].closed, found[0].open), (1, 1, 0));
        }
        prop_assert!(compatible.connections.is_empty());
    }
}
