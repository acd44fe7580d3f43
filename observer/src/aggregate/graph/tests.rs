//! The graph: who is at its ends, when connections are settled, bounds.

use std::{sync::Arc, time::Duration};

use super::*;
use crate::{
    aggregate::{
        Aggregator, Budgets, Config,
        fixture::{
            SECOND, call_on, closed, conversation, link, link_in, link_with, node, pod, resolution,
            rpc_on, transfer, workload, workload_in,
        },
    },
    model::{
        call::{Link, LinkEvent},
        kubernetes,
        lookup::LookupOutcome,
        rpc::RpcEnd,
        security::{Opening, Security},
        workload::{NameSource, Peer, Workload},
    },
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

fn party(kind: PartyKind, namespace: &str, workload_kind: &str, name: &str) -> Party {
    Party {
        kind,
        namespace: namespace.to_owned(),
        workload_kind: workload_kind.to_owned(),
        name: name.to_owned(),
    }
}

fn only(aggregator: &mut Aggregator, now: Monotonic) -> EdgeRow {
    let mut rows = aggregator.graph(now);
    assert_eq!(rows.len(), 1, "{rows:?}");
    rows.remove(0)
}

#[test]
fn pods_of_a_workload_are_one_end() {
    let mut aggregator = aggregator(10);
    for (id, near, far) in [(1, "a", "k"), (2, "b", "l")] {
        let peer = Peer::Pod(pod("cart", far));
        let link = link_in(id, ("web", near), Role::Client, peer, Some("cart"));
        aggregator.link(&LinkEvent::Opened(link.clone()), at(2));
        aggregator.call(&call_on(&link, "/", 500), None, at(3));
        let transfer = transfer(100);
        aggregator.link(&LinkEvent::Progress { link, transfer }, at(3));
    }
    let row = only(&mut aggregator, at(4));
    assert_eq!(
        row.source,
        party(PartyKind::Workload, "shop", "Deployment", "web")
    );
    assert_eq!(
        row.destination,
        party(PartyKind::Workload, "shop", "Deployment", "cart")
    );
    assert_eq!(row.dialled, Some(("shop".to_owned(), "cart".to_owned())));
    assert_eq!(
        (row.protocol, row.security, row.reporter),
        ("http", "plaintext", "client")
    );
    assert_eq!(
        (&*row.source_zone, &*row.destination_zone),
        ("eu-1a", "eu-1a")
    );
    assert_eq!((row.requests, row.errors), (2, 2));
    assert_eq!((row.requests_per_second, row.errors_per_second), (2.0, 2.0));
    assert_eq!((row.sent_bytes, row.received_bytes), (2_000, 200));
    assert_eq!((row.connections_opened, row.open_connections), (2, 2));
    assert_eq!(row.retransmits, 2);
    assert_eq!(row.rtt_seconds, Some(0.0003));
    assert!(!row.same_host);
    let [median, ..] = row.quantiles.unwrap();
    assert!((0.0095..0.0105).contains(&median), "{median}");
}

#[test]
fn bytes_go_from_the_client_whoever_reports() {
    let mut aggregator = aggregator(10);
    let link = link(1, "web");
    aggregator.link(&LinkEvent::Opened(link.clone()), at(2));
    aggregator.link(&closed(&link, 100), at(5));
    let row = only(&mut aggregator, at(5));
    assert_eq!(
        (row.reporter, row.source.kind),
        ("server", PartyKind::Outside)
    );
    assert_eq!(
        row.destination,
        party(PartyKind::Service, "shop", "", "web")
    );
    assert_eq!((row.sent_bytes, row.received_bytes), (100, 1_000));
    assert_eq!((row.connections_opened, row.open_connections), (1, 0));
}

#[test]
fn ends_are_what_is_known_of_them() {
    let address = [192, 0, 2, 9].into();
    let unknown = Workload {
        source: NameSource::Unknown,
        ..Workload::clone(&workload("unknown"))
    };
    let network = kubernetes::Network {
        name: "office".into(),
        address,
    };
    let named = || Peer::Named {
        name: "api.example".into(),
        address,
    };
    for (peer, role, expected) in [
        (
            Peer::Node(node("node-2")),
            Role::Client,
            party(PartyKind::Node, "", "", "node-2"),
        ),
        (
            Peer::Network(network),
            Role::Server,
            party(PartyKind::Network, "", "", "office"),
        ),
        (
            named(),
            Role::Client,
            party(PartyKind::Name, "", "", "api.example"),
        ),
        (named(), Role::Server, party(PartyKind::Outside, "", "", "")),
        (
            Peer::Address(address),
            Role::Client,
            party(PartyKind::Outside, "", "", ""),
        ),
        (
            Peer::Address([127, 0, 0, 1].into()),
            Role::Client,
            party(PartyKind::Unknown, "", "", ""),
        ),
        (
            Peer::Local(Arc::new(unknown)),
            Role::Client,
            party(PartyKind::Unknown, "", "", ""),
        ),
        (
            Peer::Local(workload("db")),
            Role::Client,
            party(PartyKind::Service, "shop", "", "db"),
        ),
        (
            Peer::Local(workload_in("cart", "x")),
            Role::Client,
            party(PartyKind::Workload, "shop", "Deployment", "cart"),
        ),
    ] {
        let mut aggregator = aggregator(10);
        let same_host = peer.is_local();
        let link = link_with(1, "web", role, peer);
        aggregator.call(&call_on(&link, "/", 200), None, at(3));
        let row = only(&mut aggregator, at(3));
        let (own, far) = match role {
            Role::Server => (&row.destination, &row.source),
            _ => (&row.source, &row.destination),
        };
        assert_eq!(*far, expected);
        assert_eq!(own.name, "web");
        assert_eq!(row.same_host, same_host);
    }
}

#[test]
fn who_calls_from_outside_is_one_end() {
    let mut aggregator = aggregator(10);
    for host in 0..100 {
        let peer = Peer::Address([198, 51, 100, host].into());
        let link = link_with(host.into(), "web", Role::Server, peer);
        aggregator.call(&call_on(&link, "/", 200), None, at(3));
    }
    assert_eq!(only(&mut aggregator, at(3)).requests, 100);
}

/// A connection is counted under what it turns out to be, and only there.
#[test]
fn a_connection_is_settled_when_it_shows_what_it_is() {
    let mut aggregator = aggregator(10);
    let first = link(1, "web");
    aggregator.link(&LinkEvent::Opened(first.clone()), at(2));
    assert_eq!(aggregator.graph(at(2)), []);
    let mut known = Link::clone(&first);
    known.security = Security::Plaintext;
    known.opening = Some(Arc::new(Opening {
        protocol: Some("http/2"),
        ..Opening::default()
    }));
    let known = Arc::new(known);
    let recognised = LinkEvent::Recognised {
        link: known.clone(),
        at: at(2),
    };
    aggregator.link(&recognised, at(2));
    aggregator.call(&rpc_on(&known, "/a.B/C", RpcEnd::Status(0)), None, at(2));
    // What else it carries does not make it another one.
    aggregator.call(&call_on(&known, "/", 200), None, at(2));
    let row = only(&mut aggregator, at(2));
    assert_eq!(
        (row.protocol, row.security, row.requests),
        ("grpc", "plaintext", 2)
    );
    assert_eq!((row.connections_opened, row.open_connections), (1, 1));
    aggregator.link(&closed(&known, 10), at(5));
    let row = only(&mut aggregator, at(5));
    assert_eq!((row.connections_opened, row.open_connections), (1, 0));
}

#[test]
fn one_that_shows_nothing_is_settled_after_a_second_and_moves_on_later() {
    let mut aggregator = aggregator(10);
    let first = link(1, "web");
    aggregator.link(&LinkEvent::Opened(first.clone()), at(1));
    aggregator.expire(Monotonic(SECOND + 500_000_000));
    assert_eq!(aggregator.graph(at(2)), []);
    aggregator.expire(Monotonic(2 * SECOND + 500_000_000));
    let row = only(&mut aggregator, at(3));
    assert_eq!((row.protocol, row.open_connections), ("tcp", 1));
    aggregator.call(&call_on(&first, "/", 200), None, at(3));
    let mut rows = aggregator.graph(at(3));
    rows.sort_by_key(|row| row.protocol);
    let [http, tcp] = &rows[..] else {
        panic!("two edges, not {rows:?}")
    };
    assert_eq!(
        (http.protocol, http.requests, http.open_connections),
        ("http", 1, 1)
    );
    // It was opened once, where it was first counted.
    assert_eq!((http.connections_opened, tcp.connections_opened), (0, 1));
    assert_eq!(tcp.open_connections, 0);
}

#[test]
fn failures_lookups_and_datagrams() {
    let mut aggregator = aggregator(10);
    let link = link_with(1, "web", Role::Client, Peer::Local(workload("db")));
    let failure = ConnectFailure::Refused;
    aggregator.link(
        &LinkEvent::Failed {
            link,
            failure,
            at: at(2),
        },
        at(2),
    );
    let row = only(&mut aggregator, at(2));
    assert_eq!((row.connect_failures, row.connections_opened), (1, 0));

    aggregator.lookup(
        &resolution(Role::Client, LookupOutcome::Timeout, None),
        at(2),
    );
    aggregator.lookup(
        &resolution(Role::Client, LookupOutcome::Superseded, None),
        at(2),
    );
    let rows = aggregator.graph(at(2));
    let row = rows.iter().find(|row| row.protocol == "dns").unwrap();
    assert_eq!(
        (row.requests, row.errors, row.security),
        (2, 1, "plaintext")
    );

    let found = conversation("192.0.2.1:443", "10.0.0.1:40000", Some(Role::Client));
    aggregator.datagrams(&found, at(2));
    let rows = aggregator.graph(at(2));
    let row = rows.iter().find(|row| row.protocol == "quic").unwrap();
    assert_eq!(
        row.destination,
        party(PartyKind::Name, "", "", "cdn.example")
    );
    assert_eq!(
        (row.sent_bytes, row.received_bytes, row.security),
        (100, 200, "tls")
    );
}

#[test]
fn edges_are_bounded_and_expire() {
    let mut aggregator = aggregator(2);
    for (id, service) in ["a", "b", "c", "d"].into_iter().enumerate() {
        let link = link(id as u64, service);
        aggregator.link(&LinkEvent::Opened(link.clone()), at(2));
        aggregator.call(&call_on(&link, "/", 200), None, at(2));
    }
    let rows = aggregator.graph(at(2));
    assert_eq!(rows.len(), 3);
    let overflow = rows
        .iter()
        .find(|row| row.source.kind == PartyKind::Overflow)
        .unwrap();
    assert_eq!((overflow.requests, overflow.open_connections), (2, 2));
    // An edge with open connections stays.
    let idle = Duration::from_secs(301);
    aggregator.expire(at(2).plus(idle));
    assert_eq!(aggregator.graph(at(2).plus(idle)).len(), 3);
    for (id, service) in ["a", "b", "c", "d"].into_iter().enumerate() {
        aggregator.link(&closed(&link(id as u64, service), 10), at(400));
    }
    aggregator.expire(at(400).plus(idle));
    let row = only(&mut aggregator, at(400).plus(idle));
    assert_eq!(
        (row.source.kind, row.open_connections),
        (PartyKind::Overflow, 0)
    );
}

/// What is not tracked for want of room is on the graph all the same.
#[test]
fn connections_beyond_the_limit_count() {
    let mut aggregator = Aggregator::new(Config {
        connections: 0,
        ..Config::default()
    });
    let link = link(1, "web");
    aggregator.link(&LinkEvent::Opened(link.clone()), at(2));
    aggregator.call(&call_on(&link, "/", 200), None, at(3));
    aggregator.link(&closed(&link, 10), at(5));
    let rows = aggregator.graph(at(5));
    let sum = |pick: fn(&EdgeRow) -> u64| rows.iter().map(pick).sum::<u64>();
    assert_eq!(sum(|row| row.requests), 1);
    assert_eq!(sum(|row| row.connections_opened), 1);
    assert_eq!(sum(|row| row.received_bytes), 100);
}
