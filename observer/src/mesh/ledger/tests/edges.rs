//! What edges are, how they are counted and judged, readiness, and what is bounded.

use std::{sync::Arc, time::Duration};

use super::{
    super::Config, MUTUAL, PLAIN, cart, nothing, peer, permissive, strict, tunnelled, web, world::*,
};
use crate::{
    mesh::{
        ledger::Ledger,
        report::{Edge, Readiness},
    },
    model::{
        mesh::{DeclaredMtls, Far, FarSource, Identity, Verdict},
        policy::PolicyKind,
        security::Security,
        time::WallOffset,
        workload::{Peer, Workload},
    },
};

mod readiness;

mod apart;

const DAY: u64 = 24 * 3600;

/// The only edge there is.
fn only(world: &World) -> Edge {
    let edges = world.report().edges;
    match <[Edge; 1]>::try_from(edges) {
        Ok([edge]) => edge,
        Err(edges) => panic!("one edge is expected: {edges:#?}"),
    }
}

fn seen(edge: &Edge) -> Vec<(&'static str, u64, u64)> {
    edge.observed
        .iter()
        .map(|it| (it.security, it.connections, it.requests))
        .collect()
}

#[test]
fn all_ends_of_a_way_are_one_edge() {
    let mut world = World::shop(&[], strict);
    let (web, cart) = (web(Mesh::Sidecar), cart(Mesh::Sidecar));
    world.connect(3, &Wire::sidecar(&web, &cart, MUTUAL));
    world.connect(3, &Wire::into_sidecar(&cart, peer(&web), MUTUAL));
    world.calls(30, &Wire::to_proxy(&web, &cart, MUTUAL), |_, _| {});
    world.calls(
        25,
        &Wire::from_proxy(&cart, peer(&web), MUTUAL),
        |index, exchange| {
            exchange.forwarded = by_envoy(Some(if index < 20 { 1 } else { 2 }));
        },
    );
    world.pass(1);

    let edge = only(&world);
    assert_eq!(edge.client.describe(), "Deployment shop/web");
    assert_eq!(edge.server.describe(), "Deployment shop/cart");
    assert_eq!(
        (edge.service.as_deref(), edge.port),
        (Some("cart.shop"), 8080)
    );
    assert_eq!(seen(&edge), [("istio_mtls", 3, 30)]);
    assert_eq!(
        (edge.client_plane, edge.server_plane),
        ("istio_sidecar", "istio_sidecar")
    );
    assert_eq!((edge.declared, edge.verdict), ("strict", "satisfied"));
    assert_eq!(edge.encrypted_share, Some(1.0));
    assert_eq!(edge.retry_ratio, Some(0.25));
    assert!(edge.latency.client.is_some() && edge.latency.server.is_some());
}

#[test]
fn a_tunnel_is_of_the_only_port_that_the_application_serves() {
    let mut world = World::shop(&[], strict);
    let (web, cart) = (web(Mesh::Ambient), cart(Mesh::Ambient));
    let place = Wire {
        namespace: 7,
        ..Wire::from_proxy(&web, Peer::Address([10, 0, 0, 9].into()), PLAIN)
    };
    world.connect(1, &place);
    world.connect(5, &tunnelled(&web, &cart));
    let unknown: Vec<u16> = world
        .report()
        .edges
        .iter()
        .filter(|edge| edge.server.name == "cart")
        .map(|edge| edge.port)
        .collect();
    assert_eq!(unknown, [0]);

    let served = Wire::from_proxy(&cart, peer(&web), Security::Hbone);
    world.connect(1, &served);
    let ports = |world: &World| {
        let edges = world.report().edges;
        let of_web = edges
            .iter()
            .filter(|edge| edge.client.name == "web" && edge.server.name == "cart");
        of_web
            .map(|edge| (edge.port, seen(edge)))
            .collect::<Vec<_>>()
    };
    assert_eq!(ports(&world), [(8080, vec![("hbone", 5, 0)])]);

    // With another one it cannot be told.
    let other = Wire {
        local: address("10.0.2.2:9090"),
        ..served
    };
    world.connect(1, &other);
    world.calls(1, &other, |_, _| {});
    let ports = ports(&world);
    assert_eq!(ports.len(), 2, "{ports:?}");
}

#[test]
fn verdicts_wait_until_all_is_settled() {
    let mut world = World::shop(&[], permissive);
    let wire = Wire::direct(&web(Mesh::None), &cart(Mesh::Sidecar));
    let link = world.open(&wire);
    for _ in 0..30 {
        world.call(&link, |_| {});
    }
    world.pass(1);
    assert_eq!(
        world.ledger.verdict(&link),
        (DeclaredMtls::Permissive, Verdict::Satisfied)
    );

    // What began before the change is never held against it.
    world.mode("STRICT");
    world.pass(11);
    for _ in 0..30 {
        world.call(&link, |_| {});
    }
    world.connect(30, &wire);
    assert_eq!(
        world.ledger.verdict(&link),
        (DeclaredMtls::Strict, Verdict::Unknown)
    );
    assert!(world.found().is_empty());
    world.pass(60);
    for _ in 0..30 {
        world.call(&link, |_| {});
    }
    world.pass(1);
    assert!(world.found().is_empty());

    world.connect(30, &wire);
    assert_eq!(
        world.ledger.verdict(&link),
        (DeclaredMtls::Strict, Verdict::Violated)
    );
    assert_eq!(world.found(), ["M01"]);
    let report = world.report();
    let finding = report.findings.first().expect("it is found");
    assert_eq!((finding.count, finding.samples.len()), (30, 5));
    let clients = finding.samples.iter().map(|sample| &*sample.client);
    assert!(clients.into_iter().all(|client| client == "10.0.1.1:40000"));
    let object = finding
        .because
        .iter()
        .find_map(|reason| reason.object.as_ref());
    let object = object.expect("an object decided");
    assert_eq!(
        (&*object.kind, &*object.namespace, &*object.name),
        ("PeerAuthentication", "istio-system", "default")
    );

    // A change that makes it right closes it at once.
    world.mode("PERMISSIVE");
    world.pass(11);
    assert!(world.found().is_empty());
}

#[test]
fn nothing_is_as_declared_that_was_not_seen_to_be() {
    type Step = fn(&mut World);
    type Case = (&'static str, Step, Step, &'static str, &'static str);
    let refused = |world: &mut World| {
        let wire = Wire {
            received: 0,
            by: crate::model::connection::ClosedBy::Remote,
            reset: true,
            ..Wire::direct(&web(Mesh::None), &cart(Mesh::Sidecar))
        };
        world.connect(30, &wire);
        // An edge that nothing came of is not reported.
        let unknown = Wire {
            received: 100,
            ..wire.secured(Security::Unknown)
        };
        world.connect(1, &unknown);
    };
    let cases: [Case; 7] = [
        (
            "refused plaintext alone",
            strict,
            refused,
            "unknown",
            "no mutual TLS was seen",
        ),
        (
            "mutual TLS beside it",
            strict,
            |world| {
                let cart = cart(Mesh::Sidecar);
                world.connect(
                    1,
                    &Wire::into_sidecar(&cart, peer(&web(Mesh::Sidecar)), MUTUAL),
                );
                let wire = Wire {
                    received: 0,
                    by: crate::model::connection::ClosedBy::Remote,
                    ..Wire::sidecar(&web(Mesh::Sidecar), &cart, PLAIN)
                };
                world.connect(30, &wire);
            },
            "satisfied",
            "only mutual TLS was seen, as declared",
        ),
        (
            "requests by the client's proxy",
            strict,
            |world| {
                let wire = Wire::to_proxy(&web(Mesh::Sidecar), &cart(Mesh::Sidecar), MUTUAL);
                world.calls(30, &wire, |_, _| {});
            },
            "satisfied",
            "only mutual TLS was seen, as declared",
        ),
        (
            "requests of which it is not known",
            strict,
            |world| {
                let unknown = Security::Unknown;
                let wire = Wire::to_proxy(&web(Mesh::Sidecar), &cart(Mesh::Sidecar), unknown);
                world.calls(30, &wire, |_, _| {});
            },
            "unknown",
            "too few connections and requests since what is declared last changed",
        ),
        (
            "refused where plaintext is taken",
            permissive,
            refused,
            "unknown",
            "nothing was answered that tells",
        ),
        (
            "plaintext where both are taken",
            permissive,
            |world| {
                world.connect(30, &Wire::direct(&web(Mesh::None), &cart(Mesh::Sidecar)));
            },
            "satisfied",
            "plaintext and mutual TLS are both taken",
        ),
        (
            "mutual TLS where both are taken",
            permissive,
            |world| {
                let (web, cart) = (web(Mesh::Sidecar), cart(Mesh::Sidecar));
                let wire = Wire {
                    dialled: Some(cart_service()),
                    ..Wire::sidecar(&web, &cart, MUTUAL)
                };
                world.connect(30, &wire);
            },
            "satisfied",
            "only encrypted traffic was seen, as declared",
        ),
    ];
    for (name, declare, traffic, verdict, why) in cases {
        let mut world = World::shop(&[], declare);
        traffic(&mut world);
        world.pass(1);
        let edge = only(&world);
        let because = edge.because.first().map(|reason| &*reason.text);
        assert_eq!((edge.verdict, because), (verdict, Some(why)), "{name}");
    }
}

#[test]
fn what_has_nothing_to_do_with_an_edge_does_not_unsettle_it() {
    let mut world = World::shop(&[], strict);
    let wire = Wire::direct(&web(Mesh::None), &cart(Mesh::Sidecar));
    world.connect(30, &wire);
    assert_eq!(world.found(), ["M01"]);
    world.object(
        PolicyKind::PeerAuthentication,
        "other/default",
        r#"{"spec":{"mtls":{"mode":"DISABLE"}}}"#,
    );
    world.pass(20);
    assert_eq!(world.found(), ["M01"]);
    assert_eq!(only(&world).verdict, "violated");
    world.remove(PolicyKind::PeerAuthentication, "other/default");
    world.pass(20);
    assert_eq!(world.found(), ["M01"]);
}

#[test]
fn who_made_a_connection_of_bytes_made_what_is_asked_on_it() {
    let (web, cart) = (web(Mesh::Sidecar), cart(Mesh::Sidecar));
    let known = Wire::from_proxy(&cart, peer(&web), MUTUAL);
    let by = |source, peer: Peer| {
        let far = known.far.as_deref().cloned().expect("it has one");
        Some(Arc::new(Far {
            source,
            peer,
            security: if source == FarSource::Unknown {
                Security::Unknown
            } else {
                MUTUAL
            },
            ..far
        }))
    };
    let nobody = || Peer::Local(Arc::new(Workload::default()));
    let unknown = || by(FarSource::Unknown, nobody());
    let connected = || by(FarSource::Connections, peer(&web));
    let identity = Peer::Identity(Arc::new(Identity {
        text: "spiffe://cluster.local/ns/shop/sa/web".into(),
        namespace: "shop".into(),
        service_account: "web".into(),
        ..Identity::default()
    }));
    for (port, of_link, of_call, expected) in [
        (
            "tcp",
            connected(),
            unknown(),
            ("Deployment shop/web", "istio_mtls"),
        ),
        // A proxy that reads requests would have told.
        ("http", connected(), unknown(), ("unknown", "unknown")),
        ("", connected(), unknown(), ("unknown", "unknown")),
        // It had connections with several.
        ("tcp", unknown(), unknown(), ("unknown", "unknown")),
        (
            "tcp",
            connected(),
            by(FarSource::Identity, identity),
            ("service account shop/web", "istio_mtls"),
        ),
    ] {
        let mut world = World::shop(&[], permissive);
        world.port("cart", port);
        let wire = Wire {
            far: of_link,
            ..known.clone()
        };
        let link = world.open(&wire);
        for _ in 0..3 {
            world.call_of(&link, of_call.clone(), |_| {});
        }
        world.close(&wire, link);
        world.pass(1);
        let edges = world.report().edges;
        let found: Vec<_> = edges
            .iter()
            .map(|edge| (edge.client.describe(), seen(edge)))
            .collect();
        let (client, security) = expected;
        let all = [(client.to_owned(), vec![(security, 0, 3)])];
        assert_eq!(found, all, "{port}");
    }
}

#[test]
fn who_asks_within_a_second_shares_a_report() {
    let mut world = World::shop(&[], strict);
    let made = |world: &mut World, window: Option<u64>| {
        let window = window.map(Duration::from_secs);
        let now = world.now;
        world
            .ledger
            .shared_report(window, now, WallOffset::default())
    };
    let first = made(&mut world, None);
    assert_eq!(*first, world.report());
    world.now = world.now.plus(Duration::from_millis(999));
    assert!(Arc::ptr_eq(&first, &made(&mut world, None)));
    // Of the window that is configured.
    assert!(Arc::ptr_eq(&first, &made(&mut world, Some(7 * DAY))));
    world.now = world.now.plus(Duration::from_millis(1));
    let second = made(&mut world, None);
    assert!(!Arc::ptr_eq(&first, &second));
    assert!(!Arc::ptr_eq(&second, &made(&mut world, Some(DAY))));
    // Nobody keeps it for long.
    let last = made(&mut world, Some(DAY));
    assert_eq!(Arc::strong_count(&last), 2);
    world.pass(1);
    assert_eq!(Arc::strong_count(&last), 1);
}

#[test]
fn routes_that_nobody_accepted_are_told() {
    let route = |parents: &str| {
        format!(
            r#"{{"spec":{{"parentRefs":[{{"kind":"Service","group":"","name":"cart"}}]}},"status":{{"parents":[{parents}]}}}}"#
        )
    };
    let accepted = |status: &str| {
        format!(
            r#"{{"parentRef":{{"kind":"Service","group":"","name":"cart"}},"controllerName":"istio.io/gateway-controller","conditions":[{{"type":"Accepted","status":"{status}","reason":"Because"}},{{"type":"ResolvedRefs","status":"True"}}]}}"#
        )
    };
    for (parents, expected) in [
        (String::new(), Some("no controller has accepted it yet")),
        (
            accepted("False"),
            Some("does not say that Accepted is True: Because"),
        ),
        (accepted("True"), None),
    ] {
        for kind in [PolicyKind::HttpRoute, PolicyKind::LinkerdHttpRoute] {
            let mut world = World::shop(&[], nothing);
            world.object(kind, "shop/cart", &route(&parents));
            let report = world.report();
            assert!(
                report.misunderstood.is_empty(),
                "{:?}",
                report.misunderstood
            );
            let told: Vec<_> = report
                .ignored
                .iter()
                .map(|it| {
                    (
                        &*it.object.name,
                        it.reason.contains(expected.unwrap_or("?")),
                    )
                })
                .collect();
            let all = expected.map(|_| ("cart", true));
            assert_eq!(told, Vec::from_iter(all), "{kind:?} {:?}", report.ignored);
        }
    }
}

#[test]
fn nothing_is_judged_before_anything_is_declared() {
    let mut world = World::new();
    let wire = Wire::direct(&web(Mesh::None), &cart(Mesh::Sidecar));
    world.connect(50, &wire);
    assert!(world.found().is_empty());
}

#[test]
fn findings_are_forgotten_a_day_after_the_last_sign() {
    let mut world = World::shop(&[], strict);
    world.connect(30, &Wire::direct(&web(Mesh::None), &cart(Mesh::Sidecar)));
    world.pass(DAY - 10);
    assert_eq!(world.found(), ["M01"]);
    world.pass(100);
    assert!(world.found().is_empty());
    assert_eq!(world.report().edges.len(), 1);
    world.pass(7 * DAY);
    assert!(world.report().edges.is_empty());
    let tables = world.ledger.tables();
    let entries: u64 = tables.iter().map(|table| table.entries).sum();
    assert_eq!(entries, 0, "{tables:?}");
}

#[test]
fn a_connection_that_lasts_stays_a_sign() {
    let mut world = World::shop(&[], strict);
    let wire = Wire::direct(&web(Mesh::None), &cart(Mesh::Sidecar));
    world.connect(30, &wire);
    let link = world.open(&wire);
    for _ in 0..40 {
        world.progress(&wire, &link);
        world.pass(3600);
    }
    assert_eq!(world.found(), ["M01"]);
    let report = world.report();
    let count = report.findings.first().map(|finding| finding.count);
    assert!(count.is_some_and(|count| count > 60), "{count:?}");
}
