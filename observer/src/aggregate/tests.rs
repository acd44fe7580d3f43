//! What the aggregate promises, through its public methods.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use proptest::prelude::*;

use super::{
    contract::{FAMILIES, Kind},
    fixture::{
        SECOND, call, call_on, closed, conversation, head, link, link_with, resolution, rpc_on,
        transfer, workload,
    },
    snapshot::Value,
    *,
};
use crate::{
    config::{IstioSeries, MeshSeries},
    mesh::report,
    model::{
        connection::{ConnectFailure, ConnectionId, Role},
        exchange::{HttpVersion, Outcome, RequestHead},
        kubernetes::{self, Pod},
        lookup::LookupOutcome,
        mesh::Hop,
        rpc::RpcEnd,
        security::{Handshake, Opening, Proxied, ProxyVersion, Security},
        workload::{Peer, Workload},
    },
    telemetry::health::{ClusterState, ExportState, Loss, ProgramCost, Table},
};

fn aggregator(budget: usize) -> Aggregator {
    Aggregator::new(Config {
        budgets: Budgets::all(budget),
        ..Config::default()
    })
}

fn at(seconds: u64) -> Monotonic {
    Monotonic(seconds * SECOND)
}

/// Values of a family's series by their labels; histograms as their count.
fn values(aggregator: &mut Aggregator, family: &str, now: Monotonic) -> BTreeMap<String, f64> {
    let snapshot = aggregator.snapshot(Health::default(), now);
    let samples = snapshot
        .families
        .iter()
        .find(|samples| samples.family.name == family);
    let mut values = BTreeMap::new();
    for series in samples.into_iter().flat_map(|samples| &samples.series) {
        let labels: Vec<String> = series
            .labels()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let value = match &series.value {
            Value::Integer(value) => *value as f64,
            Value::Float(value) => *value,
            Value::Histogram(_, histogram) => histogram.count() as f64,
        };
        assert!(
            values.insert(labels.join(","), value).is_none(),
            "{family} {labels:?} twice"
        );
    }
    values
}

fn total(aggregator: &mut Aggregator, family: &str) -> f64 {
    values(aggregator, family, at(9)).values().sum()
}

const DURATION: &str = "http_server_request_duration_seconds";

#[test]
fn a_call_is_measured_under_its_labels() {
    let mut aggregator = aggregator(10);
    aggregator.call(&call("web", "/orders/{id}", 503), None, at(3));
    let labels = "service_name=web,service_namespace=shop,http_request_method=GET,\
                  http_route=/orders/{id},http_response_status_code=503,\
                  network_protocol_version=1.1,url_scheme=http,error_type=500,\
                  security=unknown";
    assert_eq!(
        values(&mut aggregator, DURATION, at(3)),
        [(labels.to_owned(), 1.0)].into()
    );
    let outcome = "service_name=web,service_namespace=shop,role=server,outcome=complete";
    assert_eq!(
        values(&mut aggregator, "observer_http_exchanges_total", at(3)),
        [(outcome.to_owned(), 1.0)].into()
    );
}

#[test]
fn clients_have_the_dialled_address_and_the_local_peer() {
    let mut aggregator = aggregator(10);
    let link = link_with(1, "web", Role::Client, Peer::Local(workload("database")));
    let mut call = call_on(&link, "/", 200);
    call.exchange.request = head("BREW", "/");
    aggregator.call(&call, None, at(3));
    let labels = "service_name=web,service_namespace=shop,service_peer_name=database,\
                  server_address=198.51.100.9,server_port=443,http_request_method=_OTHER,\
                  http_route=/,http_response_status_code=200,network_protocol_version=1.1,\
                  url_scheme=http,security=unknown";
    assert_eq!(
        values(
            &mut aggregator,
            "http_client_request_duration_seconds",
            at(3)
        ),
        [(labels.to_owned(), 1.0)].into()
    );
}

#[test]
fn a_remote_procedure_call_is_measured_as_both() {
    let mut aggregator = aggregator(10);
    let link = link(1, "web");
    aggregator.call(&rpc_on(&link, "/a.B/C", RpcEnd::Status(13)), None, at(3));
    let client = link_with(2, "web", Role::Client, Peer::Local(workload("api")));
    let mut unseen = rpc_on(&client, "", RpcEnd::Unknown);
    unseen.exchange.request = head("", "");
    aggregator.call(&unseen, None, at(3));
    let http = values(&mut aggregator, DURATION, at(3));
    let labels = "service_name=web,service_namespace=shop,http_request_method=POST,\
                  http_route=/a.B/C,http_response_status_code=200,network_protocol_version=2,\
                  url_scheme=https,security=unknown,rpc_system_name=grpc";
    assert_eq!(http, [(labels.to_owned(), 1.0)].into());
    let procedure = "service_name=web,service_namespace=shop,rpc_system_name=grpc,\
                     rpc_method=a.B/C,rpc_response_status_code=INTERNAL,error_type=INTERNAL,\
                     security=unknown";
    let server = values(&mut aggregator, "rpc_server_call_duration_seconds", at(3));
    assert_eq!(server, [(procedure.to_owned(), 1.0)].into());
    let client = values(&mut aggregator, "rpc_client_call_duration_seconds", at(3));
    let dialled = "service_name=web,service_namespace=shop,service_peer_name=api,\
                   server_address=198.51.100.9,server_port=443,rpc_system_name=grpc,\
                   security=unknown";
    assert_eq!(client, [(dialled.to_owned(), 1.0)].into());
    let methods = values(
        &mut aggregator,
        "http_client_request_duration_seconds",
        at(3),
    );
    let method = "http_request_method=unknown,http_response_status_code=200";
    assert!(methods.keys().all(|labels| labels.contains(method)));
    // Three requests, two responses: what the client sends, the server receives.
    let messages = values(&mut aggregator, "observer_rpc_messages_total", at(3));
    for (labels, role, sent, received) in [
        (procedure, "server", 2.0, 3.0),
        (dialled, "client", 3.0, 2.0),
    ] {
        let of = |direction| messages[&format!("{labels},role={role},direction={direction}")];
        assert_eq!((of("sent"), of("received")), (sent, received), "{role}");
    }
    let row = &aggregator.snapshot(Health::default(), at(3)).services;
    assert_eq!(row.iter().map(|row| row.errors).sum::<u64>(), 1);
}

#[test]
fn schemes_are_few() {
    let mut aggregator = aggregator(10);
    for (scheme, version) in [
        (None, HttpVersion::Http11),
        (None, HttpVersion::Http2),
        (Some("HTTPS"), HttpVersion::Http2),
        (Some("coap+tcp"), HttpVersion::Http11),
    ] {
        let mut call = call("web", "/", 200);
        let mut head = RequestHead::clone(&call.exchange.request);
        (head.scheme, head.version) = (scheme.map(Into::into), version);
        call.exchange.request = Arc::new(head);
        aggregator.call(&call, None, at(3));
    }
    let found = values(&mut aggregator, DURATION, at(3));
    for scheme in ["http", "https", "unknown", "_OTHER"] {
        let label = format!("url_scheme={scheme},");
        assert_eq!(
            found.keys().filter(|key| key.contains(&label)).count(),
            1,
            "{scheme}"
        );
    }
}

#[test]
fn connections_are_counted_under_what_they_show() {
    let mut aggregator = aggregator(10);
    let secured = |id, security| {
        let mut link = Link::clone(&link(id, "web"));
        link.security = security;
        Arc::new(link)
    };
    let recognised = |link: &Arc<Link>| LinkEvent::Recognised {
        link: link.clone(),
        at: at(2),
    };
    let of = |security| format!("service_name=web,service_namespace=shop,role=server,{security}");
    aggregator.link(&LinkEvent::Opened(link(1, "web")), at(1));
    aggregator.link(&LinkEvent::Opened(link(2, "web")), at(1));
    let open = values(&mut aggregator, "observer_tcp_open_connections", at(1));
    assert_eq!(open, [(of("security=unknown"), 2.0)].into());
    let tls = secured(1, Security::Tls);
    // A flow tells the handshake when it has ended; what it is counts before.
    for (established, alert, told) in [
        (false, None, false),
        (true, None, true),
        (false, Some(40), true),
    ] {
        let mut tls = Link::clone(&tls);
        tls.opening = Some(Arc::new(Opening {
            tls: Some(Arc::new(Handshake {
                established,
                alert,
                ..Handshake::default()
            })),
            ..Opening::default()
        }));
        let found = aggregator.link(&recognised(&Arc::new(tls)), at(2));
        assert_eq!(found.is_some(), told);
    }
    // HTTP in the clear says so with each call, unless a proxy has a word to say.
    let proxied = Proxied {
        version: ProxyVersion::V1,
        addresses: None,
        authority: None,
        identity: None,
    };
    for (protocol, proxied, told) in [
        (Some("http/1"), None, false),
        (Some("http/2"), None, false),
        (Some("http/1"), Some(Arc::new(proxied)), true),
        (Some("redis"), None, true),
        (None, None, true),
    ] {
        let mut plain = Link::clone(&link(1, "web"));
        plain.opening = Some(Arc::new(Opening {
            protocol,
            proxied,
            ..Opening::default()
        }));
        let found = aggregator.link(&recognised(&Arc::new(plain)), at(2));
        assert_eq!(found.is_some(), told, "{protocol:?}");
    }
    // More is known later: it is one connection all the same.
    let mesh = secured(1, Security::LinkerdMutualTls);
    aggregator.link(&recognised(&mesh), at(2));
    aggregator.link(
        &LinkEvent::Progress {
            link: mesh.clone(),
            transfer: transfer(10),
        },
        at(3),
    );
    aggregator.call(&call_on(&mesh, "/", 200), None, at(3));
    let open = values(&mut aggregator, "observer_tcp_open_connections", at(3));
    assert_eq!(open[&of("security=unknown")], 1.0);
    assert_eq!(open[&of("security=tls")], 0.0);
    assert_eq!(open[&of("security=linkerd_mtls")], 1.0);
    let calls = values(&mut aggregator, DURATION, at(3));
    assert!(
        calls
            .keys()
            .all(|key| key.ends_with("security=linkerd_mtls"))
    );
    aggregator.link(&closed(&mesh, 100), at(5));
    aggregator.link(&closed(&link(2, "web"), 7), at(5));
    let bytes = values(&mut aggregator, "observer_tcp_received_bytes_total", at(5));
    assert_eq!(bytes[&of("security=linkerd_mtls")], 100.0);
    assert_eq!(bytes[&of("security=unknown")], 7.0);
    let ends = values(
        &mut aggregator,
        "observer_tcp_connections_closed_total",
        at(5),
    );
    assert_eq!(
        ends[&of("closed_by=remote,reset=false,security=linkerd_mtls")],
        1.0
    );
    // Each once, as first recognised.
    let counted = values(
        &mut aggregator,
        "observer_connections_security_total",
        at(5),
    );
    assert_eq!(
        counted,
        [(of("security=tls"), 1.0), (of("security=unknown"), 1.0)].into()
    );
    assert_eq!(total(&mut aggregator, "observer_tcp_open_connections"), 0.0);
    let plain = recognised(&secured(3, Security::Plaintext));
    aggregator.link(&plain, at(6));
    let row = &aggregator.snapshot(Health::default(), at(6)).services[0];
    assert_eq!(row.encrypted, Some(0.5), "one of those that are known");
}

#[test]
fn a_tracked_connection_measures_as_an_untracked_one() {
    for tracked in [true, false] {
        let mut aggregator = aggregator(100);
        let link = link(1, "web");
        if tracked {
            aggregator.link(&LinkEvent::Opened(link.clone()), at(1));
        }
        for (path, status) in [
            ("/a", 200),
            ("/a", 200),
            ("/b", 200),
            ("/a", 404),
            ("/a", 200),
        ] {
            // A fresh route each time: equality must not depend on the pointer.
            aggregator.call(&call_on(&link, path, status), None, at(3));
        }
        let counts: Vec<f64> = values(&mut aggregator, DURATION, at(3))
            .into_values()
            .collect();
        assert_eq!(counts, [3.0, 1.0, 1.0], "tracked: {tracked}");
    }
}

#[test]
fn a_lost_exchange_is_counted_but_not_timed() {
    let mut aggregator = aggregator(10);
    let mut call = call("web", "/", 200);
    call.exchange.outcome = Outcome::Lost;
    aggregator.call(&call, None, at(3));
    assert_eq!(total(&mut aggregator, DURATION), 0.0);
    assert_eq!(total(&mut aggregator, "observer_http_exchanges_total"), 1.0);
    assert_eq!(
        aggregator.snapshot(Health::default(), at(3)).services[0].lost,
        1
    );
}

#[test]
fn progress_and_end_add_up_to_the_totals() {
    let mut aggregator = aggregator(10);
    let link = link(1, "web");
    aggregator.link(&LinkEvent::Opened(link.clone()), at(1));
    for bytes in [10, 70, 60] {
        let transfer = transfer(bytes);
        aggregator.link(
            &LinkEvent::Progress {
                link: link.clone(),
                transfer,
            },
            at(2),
        );
    }
    assert_eq!(total(&mut aggregator, "observer_tcp_open_connections"), 1.0);
    aggregator.link(&closed(&link, 100), at(5));
    for (family, value) in [
        ("observer_tcp_open_connections", 0.0),
        ("observer_tcp_connections_opened_total", 1.0),
        ("observer_tcp_connections_closed_total", 1.0),
        ("observer_tcp_received_bytes_total", 100.0),
        ("observer_tcp_sent_bytes_total", 1000.0),
        ("observer_tcp_sent_segments_total", 6.0),
        ("observer_tcp_received_segments_total", 5.0),
        ("observer_tcp_retransmits_total", 1.0),
        ("observer_tcp_rtt_seconds", 4.0),
        ("observer_tcp_minimum_rtt_seconds", 0.0002),
        ("observer_tcp_connection_duration_seconds", 1.0),
        ("observer_moved_bytes_total", 1100.0),
        ("observer_understood_bytes_total", 550.0),
        ("observer_coverage_ratio", 0.5),
    ] {
        assert_eq!(total(&mut aggregator, family), value, "{family}");
    }
}

#[test]
fn connections_without_room_lose_no_bytes() {
    let config = Config {
        connections: 1,
        ..Config::default()
    };
    let mut aggregator = Aggregator::new(config);
    for id in 0..3 {
        aggregator.link(&LinkEvent::Opened(link(id, "web")), at(1));
    }
    let transfer = transfer(50);
    aggregator.link(
        &LinkEvent::Progress {
            link: link(2, "web"),
            transfer,
        },
        at(2),
    );
    for id in 0..3 {
        aggregator.link(&closed(&link(id, "web"), 100), at(5));
    }
    assert_eq!(
        total(&mut aggregator, "observer_tcp_received_bytes_total"),
        300.0
    );
    assert_eq!(
        total(&mut aggregator, "observer_tcp_connections_opened_total"),
        3.0
    );
    assert_eq!(total(&mut aggregator, "observer_tcp_open_connections"), 0.0);
    let losses = values(&mut aggregator, "observer_loss_total", at(5));
    assert_eq!(losses["stage=aggregate,reason=connection_table_full"], 2.0);
}

#[test]
fn a_connection_moves_to_the_role_that_its_exchange_shows() {
    let mut aggregator = aggregator(10);
    let unknown = link_with(
        1,
        "web",
        Role::Unknown,
        Peer::Address([192, 0, 2, 7].into()),
    );
    aggregator.link(&LinkEvent::Opened(unknown.clone()), at(1));
    let progress = |bytes| LinkEvent::Progress {
        link: unknown.clone(),
        transfer: transfer(bytes),
    };
    aggregator.link(&progress(10), at(2));
    aggregator.call(&call_on(&unknown, "/", 200), None, at(3));
    aggregator.link(&progress(30), at(4));
    let open = values(&mut aggregator, "observer_tcp_open_connections", at(4));
    let labels =
        |role| format!("service_name=web,service_namespace=shop,role={role},security=unknown");
    assert_eq!(
        (open[&labels("unknown")], open[&labels("server")]),
        (0.0, 1.0)
    );
    let bytes = values(&mut aggregator, "observer_tcp_received_bytes_total", at(4));
    assert_eq!(
        (bytes[&labels("unknown")], bytes[&labels("server")]),
        (10.0, 20.0)
    );
}

#[test]
fn quiet_connections_stay_open_and_forgotten_ones_do_not() {
    let mut aggregator = aggregator(10);
    let link = link(1, "web");
    aggregator.link(&LinkEvent::Opened(link.clone()), at(1));
    aggregator.link(
        &LinkEvent::Progress {
            link: link.clone(),
            transfer: transfer(10),
        },
        at(2),
    );
    aggregator.expire(at(3_600));
    assert_eq!(total(&mut aggregator, "observer_tcp_open_connections"), 1.0);
    let late = at(25 * 3_600);
    aggregator.expire(late);
    assert_eq!(total(&mut aggregator, "observer_tcp_open_connections"), 0.0);
    // Its end comes after all: bytes that were counted before are not counted again.
    aggregator.link(&closed(&link, 100), late);
    assert_eq!(
        total(&mut aggregator, "observer_tcp_received_bytes_total"),
        10.0
    );
    assert_eq!(total(&mut aggregator, "observer_tcp_open_connections"), 0.0);
    aggregator.expire(at(27 * 3_600));
    assert_eq!(total(&mut aggregator, "observer_series"), 0.0);
    assert_eq!(aggregator.identities.len(), 0);
}

#[test]
fn requests_in_flight_are_gauges() {
    let mut aggregator = aggregator(10);
    let link = link(1, "web");
    aggregator.link(&LinkEvent::Opened(link.clone()), at(1));
    let request = |since| InFlight {
        connection: link.connection.id,
        role: Role::Server,
        request: head("POST", "/slow"),
        since: at(since),
    };
    let mut calls = vec![(link.clone(), request(4)), (link.clone(), request(2))].into_iter();
    aggregator.in_flight(at(9), &mut calls);
    assert_eq!(total(&mut aggregator, "http_server_active_requests"), 2.0);
    assert_eq!(
        total(
            &mut aggregator,
            "observer_http_oldest_active_request_seconds"
        ),
        7.0
    );
    let row = &aggregator.snapshot(Health::default(), at(9)).services[0];
    assert_eq!((row.in_flight, row.oldest_seconds), (2, Some(7.0)));
    aggregator.in_flight(at(10), &mut std::iter::empty());
    let active = values(&mut aggregator, "http_server_active_requests", at(10));
    assert_eq!(active.into_values().collect::<Vec<_>>(), [0.0]);
    aggregator.expire(at(1_000));
    assert!(values(&mut aggregator, "http_server_active_requests", at(1_000)).is_empty());
}

#[test]
fn the_table_of_services_shows_the_last_seconds() {
    let mut aggregator = aggregator(10);
    for second in 0..20 {
        for index in 0..50 {
            let status = if index == 0 { 500 } else { 200 };
            aggregator.call(&call("web", "/", status), None, at(second));
        }
    }
    let snapshot = aggregator.snapshot(Health::default(), at(20));
    let row = &snapshot.services[0];
    assert_eq!(
        (row.service.as_str(), row.namespace.as_str(), row.side),
        ("web", "shop", "server")
    );
    assert_eq!((row.calls_per_second, row.errors_per_second), (50.0, 1.0));
    assert_eq!((row.calls, row.errors), (1_000, 20));
    for quantile in row.quantiles.unwrap() {
        assert!((quantile - 0.010).abs() < 0.000_4, "{quantile}");
    }
}

/// Everything happens: the contract and what is emitted are the same.
#[test]
fn the_contract_is_what_is_emitted() {
    let mut aggregator = aggregator(10);
    for (id, role) in [(1, Role::Server), (2, Role::Client)] {
        let link = link_with(id, "web", role, Peer::Local(workload("api")));
        aggregator.link(&LinkEvent::Opened(link.clone()), at(1));
        aggregator.call(&call_on(&link, "/", 500), None, at(2));
        aggregator.call(&rpc_on(&link, "/a.B/C", RpcEnd::Status(13)), None, at(2));
        let since = at(2);
        let request = InFlight {
            connection: ConnectionId(id),
            role,
            request: head("GET", "/"),
            since,
        };
        aggregator.in_flight(at(3), &mut [(link.clone(), request)].into_iter());
        aggregator.link(&closed(&link, 10), at(5));
        let failure = ConnectFailure::Refused;
        aggregator.link(
            &LinkEvent::Failed {
                link,
                at: at(5),
                failure,
            },
            at(5),
        );
    }
    let mut found = resolution(Role::Client, LookupOutcome::Answered, Some(3));
    found.peer = Peer::Local(workload("dnsmasq"));
    aggregator.lookup(&found, at(5));
    aggregator.datagrams(&conversation("192.0.2.1:53", "10.0.0.1:4000", None), at(5));
    in_a_cluster(&mut aggregator);
    for (id, role) in [(90, Role::Server), (91, Role::Client)] {
        let outside = link_with(id, "web", role, Peer::Address([192, 0, 2, 9].into()));
        aggregator.call(&call_on(&outside, "/outside", 200), None, at(5));
    }
    let health = Health {
        losses: vec![Loss {
            stage: "decode",
            reason: "short",
            count: 1,
        }],
        programs: vec![ProgramCost {
            name: "ingress".to_owned(),
            runs: 1,
            nanoseconds: 1,
        }],
        tables: vec![Table {
            name: "connections",
            entries: 1,
            limit: 2,
        }],
        cluster: vec![ClusterState {
            source: "api",
            kind: "pods",
            age_seconds: Some(1.0),
            errors: vec![("gone", 1)],
            ..ClusterState::default()
        }],
        export: vec![ExportState {
            signal: "traces",
            age_seconds: Some(1.0),
            ..ExportState::default()
        }],
        ..Health::default()
    };
    let mut snapshot = aggregator.snapshot(health, at(6));
    snapshot.add_losses(&[Loss {
        stage: "serve",
        reason: "lagged",
        count: 2,
    }]);
    let emitted: Vec<&str> = snapshot
        .families
        .iter()
        .map(|samples| samples.family.name)
        .collect();
    let listed: Vec<&str> = FAMILIES.iter().map(|family| family.name).collect();
    assert_eq!(emitted, listed);
    for samples in &snapshot.families {
        let mut used: BTreeSet<&str> = ["otel_metric_overflow", "service_peer_name"].into();
        used.extend(["server_address", "server_port"]);
        used.extend(["k8s_service_name", "k8s_service_namespace"]);
        // Workloads of other kinds.
        for kind in [
            "statefulset",
            "daemonset",
            "replicaset",
            "k8s_job",
            "cronjob",
        ] {
            if samples.family.labels.contains(&"dst_service") {
                used.extend([kind, dst(kind)]);
            }
        }
        for series in &samples.series {
            for (name, _) in series.labels() {
                used.insert(name);
                assert!(
                    samples.family.labels.contains(&name),
                    "{} {name}",
                    samples.family.name
                );
            }
            let histogram = matches!(series.value, Value::Histogram(..));
            assert_eq!(histogram, samples.family.kind == Kind::Histogram);
        }
        for label in samples.family.labels {
            assert!(
                used.contains(label),
                "{} never has {label}",
                samples.family.name
            );
        }
    }
    let losses = snapshot
        .families
        .iter()
        .find(|samples| samples.family.name == "observer_loss_total");
    assert!(
        losses
            .unwrap()
            .series
            .iter()
            .any(|series| series.value == Value::Integer(2))
    );
}

/// The label of the destination for one of the source.
fn dst(kind: &str) -> &'static str {
    match kind {
        "statefulset" => "dst_statefulset",
        "daemonset" => "dst_daemonset",
        "replicaset" => "dst_replicaset",
        "k8s_job" => "dst_k8s_job",
        _ => "dst_cronjob",
    }
}

/// Calls and connections of pods as the proxies of meshes tell them, also beyond the budget.
fn in_a_mesh(aggregator: &mut Aggregator) {
    let peer = Peer::Pod(fixture::pod("cart", "k"));
    let through = fixture::call_through_proxies();
    let mut link = Link::clone(&fixture::link_in(
        95,
        ("web", "a"),
        Role::Client,
        peer,
        Some("basket"),
    ));
    link.hop = Hop::ToProxy;
    link.far = through.link.far.clone();
    let link = Arc::new(link);
    let call = rpc_on(&link, "/a.B/C", RpcEnd::Status(0));
    aggregator.call(&call, None, at(5));
    aggregator.call(&through, None, at(5));
    for link in [&link, &through.link] {
        let mut other = Link::clone(link);
        other.connection.id = ConnectionId(link.connection.id.0 + 100);
        aggregator.link(&closed(&Arc::new(other), 1_000), at(5));
    }
    // One that is not encrypted.
    let peer = Peer::Pod(fixture::pod("cart", "k"));
    let plain = fixture::link_in(96, ("web", "a"), Role::Client, peer, None);
    aggregator.call(&call_on(&plain, "/", 200), None, at(5));
    aggregator.link(&closed(&plain, 1_000), at(5));
}

/// Calls, connections, a lookup and datagrams of pods, with every label that there is of them.
fn in_a_cluster(aggregator: &mut Aggregator) {
    aggregator.reconfigure(Config {
        cluster: "west".to_owned(),
        pod_labels: true,
        span_metrics: true,
        mesh_series: MeshSeries {
            istio: IstioSeries::All,
            linkerd: true,
        },
        ..Config::default()
    });
    in_a_mesh(aggregator);
    let objects = [(PolicyKind::VirtualService, 1)];
    aggregator.judge(&report::fixture::report(), &objects, at(5));
    let mut pod = Pod::clone(&fixture::pod("orders", "x"));
    let controllers = [
        "Deployment",
        "ReplicaSet",
        "StatefulSet",
        "DaemonSet",
        "Job",
        "CronJob",
    ];
    pod.owners = controllers
        .map(|kind| kubernetes::Owner {
            kind: kind.into(),
            name: "orders".into(),
        })
        .into();
    let pod = Arc::new(pod);
    let mut own = Workload::clone(&fixture::workload_in("orders", "x"));
    if let Some(container) = &mut own.container {
        container.pod = pod;
    }
    let own = Arc::new(own);
    for (id, role) in [(50, Role::Server), (51, Role::Client)] {
        let near = Peer::Local(fixture::workload_in("cart", "y"));
        let link = fixture::link_in(id, ("orders", "x"), role, near, Some("cart"));
        let link = Arc::new(Link {
            workload: own.clone(),
            ..Link::clone(&link)
        });
        aggregator.link(&LinkEvent::Opened(link.clone()), at(4));
        let end = RpcEnd::Status(13);
        aggregator.call(&rpc_on(&link, "/a.B/C", end), None, at(4));
        let request = InFlight {
            role,
            since: at(4),
            request: head("GET", "/"),
            connection: link.connection.id,
        };
        aggregator.in_flight(at(4), &mut [(link.clone(), request)].into_iter());
        aggregator.link(&closed(&link, 10), at(5));
        let (failure, at) = (ConnectFailure::Refused, at(5));
        aggregator.link(&LinkEvent::Failed { link, failure, at }, at);
        for role in [Role::Client, Role::Server] {
            let mut found = resolution(role, LookupOutcome::Answered, Some(3));
            found.workload = own.clone();
            found.peer = Peer::Pod(fixture::pod("coredns", "z"));
            aggregator.lookup(&found, at);
        }
        let mut found = conversation("192.0.2.1:443", "10.0.0.1:4000", Some(Role::Client));
        found.workload = own.clone();
        found.peer = Peer::Pod(fixture::pod("coredns", "z"));
        aggregator.datagrams(&found, at);
    }
}

#[test]
fn a_pod_is_labelled_by_its_workload_and_never_by_its_address() {
    let mut aggregator = aggregator(10);
    for (id, suffix, peer) in [(1, "a", "k"), (2, "b", "l"), (3, "b", "m")] {
        let peer = Peer::Pod(fixture::pod("cart", peer));
        let link = fixture::link_in(id, ("web", suffix), Role::Client, peer, None);
        aggregator.call(&call_on(&link, "/", 200), None, at(3));
    }
    let peer = Peer::Pod(fixture::pod("cart", "k"));
    let link = fixture::link_in(4, ("web", "a"), Role::Client, peer, Some("cart"));
    aggregator.call(&call_on(&link, "/", 200), None, at(3));
    let who = "service_name=web,service_namespace=shop,k8s_namespace_name=shop,\
               k8s_workload_kind=Deployment,k8s_workload_name=web,k8s_container_name=main";
    let peer = "service_peer_name=cart,service_peer_namespace=shop";
    let dialled = "k8s_service_name=cart,k8s_service_namespace=shop,server_address=cart.shop";
    let what = "server_port=443,http_request_method=GET,http_route=/,\
                http_response_status_code=200,network_protocol_version=1.1,url_scheme=http,\
                security=plaintext";
    assert_eq!(
        values(
            &mut aggregator,
            "http_client_request_duration_seconds",
            at(3)
        ),
        [
            (format!("{who},{peer},{what}"), 3.0),
            (format!("{who},{peer},{dialled},{what}"), 1.0)
        ]
        .into()
    );
    let snapshot = aggregator.snapshot(Health::default(), at(3));
    let [row] = &snapshot.services[..] else {
        panic!("one service, not {:?}", snapshot.services)
    };
    assert_eq!(row.k8s_namespace, "shop");
    assert_eq!(row.k8s_workload_kind, "Deployment");
    assert_eq!((&*row.k8s_workload, &*row.k8s_container), ("web", "main"));
}

#[test]
fn pods_are_told_apart_when_that_is_asked_for() {
    let mut aggregator = aggregator(10);
    let count = |aggregator: &mut Aggregator| {
        values(aggregator, "observer_http_exchanges_total", at(3)).len()
    };
    let call_of = |aggregator: &mut Aggregator, id, suffix| {
        let peer = Peer::Address([192, 0, 2, 7].into());
        let link = fixture::link_in(id, ("web", suffix), Role::Server, peer, None);
        aggregator.call(&call_on(&link, "/", 200), None, at(3));
    };
    call_of(&mut aggregator, 1, "a");
    call_of(&mut aggregator, 2, "b");
    assert_eq!(count(&mut aggregator), 1);
    aggregator.reconfigure(Config {
        pod_labels: true,
        ..aggregator.config.clone()
    });
    call_of(&mut aggregator, 3, "a");
    call_of(&mut aggregator, 4, "b");
    assert_eq!(count(&mut aggregator), 3);
}

#[test]
fn pods_are_told_once_each_with_what_is_known_last() {
    let mut aggregator = aggregator(2);
    let info = |aggregator: &mut Aggregator, now| values(aggregator, "observer_pod_info", now);
    let peer = || Peer::Address([192, 0, 2, 7].into());
    let link = fixture::link_in(1, ("web", "a"), Role::Server, peer(), None);
    aggregator.link(&LinkEvent::Opened(link.clone()), at(1));
    let labels = "k8s_namespace_name=shop,k8s_pod_name=web-5d4f-a,k8s_pod_uid=uid-web-a,\
                  k8s_node_name=node-1,k8s_workload_kind=Deployment,k8s_workload_name=web,\
                  k8s_deployment_name=web,k8s_replicaset_name=web-5d4f,\
                  cloud_availability_zone=eu-1a,cloud_region=eu-1,service_name=web,\
                  service_namespace=shop";
    assert_eq!(
        info(&mut aggregator, at(1)),
        [(labels.to_owned(), 1.0)].into()
    );
    // Its zone changes; it is the same pod.
    let mut moved = Link::clone(&fixture::link_in(
        2,
        ("web", "a"),
        Role::Server,
        peer(),
        None,
    ));
    let mut own = Workload::clone(&moved.workload);
    let container = own.container.as_mut().unwrap();
    Arc::make_mut(&mut container.pod).node = None;
    moved.workload = Arc::new(own);
    aggregator.link(&LinkEvent::Opened(Arc::new(moved)), at(2));
    let found = info(&mut aggregator, at(2));
    assert_eq!(found.len(), 1);
    assert!(!found.keys().any(|labels| labels.contains("zone")));
    // More pods than there is room for are counted, and told by nobody.
    for (id, suffix) in [(3, "b"), (4, "c"), (5, "d")] {
        let link = fixture::link_in(id, ("web", suffix), Role::Server, peer(), None);
        aggregator.link(&LinkEvent::Opened(link), at(2));
    }
    assert_eq!(info(&mut aggregator, at(2)).len(), 2);
    let overflows = values(&mut aggregator, "observer_series_overflow_total", at(2));
    assert_eq!(overflows["family=pods"], 2.0);
    // While a connection is open its pod stays, however quiet; then it expires.
    aggregator.link(&closed(&link, 10), at(5));
    for second in [200, 400, 600] {
        aggregator.expire(at(second));
    }
    assert_eq!(info(&mut aggregator, at(600)).len(), 2);
    let link = fixture::link_in(2, ("web", "a"), Role::Server, peer(), None);
    aggregator.link(&closed(&link, 10), at(601));
    aggregator.expire(at(601 + 301));
    let left = info(&mut aggregator, at(902));
    assert!(
        left.keys().all(|labels| labels.contains("uid-web-b")),
        "{left:?}"
    );
    assert_eq!(left.len(), 1);
}

#[derive(Clone, Debug)]
enum Step {
    Call {
        connection: u64,
        service: u8,
        route: u8,
        status: u16,
    },
    Opened {
        connection: u64,
        service: u8,
    },
    Closed {
        connection: u64,
        service: u8,
    },
    Pass(u16),
    Expire,
}

fn step() -> impl Strategy<Value = Step> {
    let call = (
        0u64..6,
        0u8..3,
        0u8..4,
        prop::sample::select(vec![200u16, 404, 500]),
    );
    prop_oneof![
        8 => call.prop_map(|(connection, service, route, status)| {
            Step::Call { connection, service, route, status }
        }),
        2 => (0u64..6, 0u8..3).prop_map(|(connection, service)| Step::Opened { connection, service }),
        1 => (0u64..6, 0u8..3).prop_map(|(connection, service)| Step::Closed { connection, service }),
        1 => (0u16..200).prop_map(Step::Pass),
        1 => Just(Step::Expire),
    ]
}

proptest! {
    /// Whatever connections do, every call is in its own series, in the overflow series, or went
    /// with a series that had been idle.
    #[test]
    fn no_call_is_lost(steps in prop::collection::vec(step(), 0..200), budget in 0usize..6) {
        let mut aggregator = aggregator(budget);
        let idle = aggregator.config.idle;
        let mut now = at(10);
        let mut model: BTreeMap<(u8, u8, u16), (u64, Monotonic)> = BTreeMap::new();
        let mut overflow = 0;
        let mut links: BTreeMap<(u64, u8), Arc<Link>> = BTreeMap::new();
        for step in steps {
            let mut link = |connection, service: u8| {
                let make = || link(connection, &format!("service-{service}"));
                links.entry((connection, service)).or_insert_with(make).clone()
            };
            match step {
                Step::Call { connection, service, route, status } => {
                    let link = link(connection, service);
                    aggregator.call(&call_on(&link, &format!("/{route}"), status), None, now);
                    let key = (service, route, status);
                    if model.contains_key(&key) || model.len() < budget {
                        let entry = model.entry(key).or_insert((0, now));
                        *entry = (entry.0 + 1, now);
                    } else {
                        overflow += 1;
                    }
                }
                Step::Opened { connection, service } => {
                    aggregator.link(&LinkEvent::Opened(link(connection, service)), now);
                }
                Step::Closed { connection, service } => {
                    aggregator.link(&closed(&link(connection, service), 10), now);
                }
                Step::Pass(seconds) => now = now.plus(Duration::from_secs(seconds.into())),
                Step::Expire => {
                    aggregator.expire(now);
                    model.retain(|_, (_, used)| now.since(*used) < idle);
                }
            }
        }
        let mut found = values(&mut aggregator, DURATION, now);
        let taken = found.remove("otel_metric_overflow=true").unwrap_or_default();
        prop_assert_eq!(taken, f64::from(overflow));
        let mut counts: Vec<u64> = found.into_values().map(|count| count as u64).collect();
        let mut wanted: Vec<u64> = model.into_values().map(|(count, _)| count).collect();
        counts.sort_unstable();
        wanted.sort_unstable();
        prop_assert_eq!(counts, wanted);
    }
}

/// The next call on a connection takes the series of the last one.
#[test]
fn the_steady_state_makes_no_series() {
    let mut aggregator = aggregator(10);
    let link = link(1, "web");
    aggregator.link(&LinkEvent::Opened(link.clone()), at(1));
    let call = call_on(&link, "/", 200);
    aggregator.call(&call, None, at(2));
    let memo = aggregator.links.table[&link.connection.id]
        .memo
        .as_ref()
        .map(|(_, handle)| *handle);
    assert!(memo.is_some());
    for _ in 0..1_000 {
        aggregator.call(&call, None, at(2));
    }
    let after = aggregator.links.table[&link.connection.id]
        .memo
        .as_ref()
        .map(|(_, handle)| *handle);
    assert_eq!(memo, after);
    assert_eq!(total(&mut aggregator, DURATION), 1_001.0);
}

#[test]
fn a_smaller_budget_keeps_what_there_is() {
    let mut aggregator = aggregator(10);
    for service in ["a", "b", "c"] {
        aggregator.call(&call(service, "/", 200), None, at(3));
    }
    let budgets = Budgets::all(1);
    aggregator.reconfigure(Config {
        budgets,
        flow_history: 2,
        ..Config::default()
    });
    for service in ["a", "b", "c", "d"] {
        aggregator.call(&call(service, "/", 500), None, at(4));
        aggregator.call(&call(service, "/", 200), None, at(4));
    }
    // Three known series went on; five calls had none.
    let found = values(&mut aggregator, DURATION, at(4));
    assert_eq!(found["otel_metric_overflow=true"], 5.0);
    assert_eq!(found.values().sum::<f64>(), 11.0);
    assert_eq!(aggregator.history().last(10, |_| true).len(), 2);
    let snapshot = aggregator.snapshot(Health::default(), at(4));
    let overflow = snapshot
        .services
        .iter()
        .find(|row| row.service == "_OVERFLOW")
        .unwrap();
    assert_eq!((overflow.calls, overflow.errors), (2, 1));
    let overflows = values(&mut aggregator, "observer_series_overflow_total", at(4));
    assert_eq!(overflows["family=http_server"], 5.0);
    // Room comes back as others go idle.
    aggregator.expire(at(1_000));
    aggregator.call(&call("d", "/", 200), None, at(1_001));
    let found = values(&mut aggregator, DURATION, at(1_001));
    assert_eq!((found.len(), found["otel_metric_overflow=true"]), (2, 5.0));
}
