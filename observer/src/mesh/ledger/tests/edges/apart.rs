//! What does not fit, and who and what is told apart.

use super::*;

#[test]
fn what_does_not_fit_is_counted() {
    let mut world = World::shop(&[], strict);
    world.ledger = Ledger::new(Config {
        edges: 10,
        ..Config::default()
    });
    let cart = cart(Mesh::Sidecar);
    for index in 0..50 {
        let client = pod(&format!("client-{index}"), Mesh::None, same);
        world.connect(1, &Wire::direct(&client, &cart));
    }
    assert!(world.report().edges.len() <= 10);
    let losses = world.ledger.losses();
    let full = losses.iter().find(|loss| loss.reason == "mesh_edges_full");
    assert!(full.is_some_and(|loss| loss.count >= 40), "{losses:?}");
    for table in world.ledger.tables() {
        assert!(table.entries <= table.limit, "{table:?}");
    }
    // Room is made by those that are idle.
    world.pass(8 * DAY);
    world.connect(1, &Wire::direct(&web(Mesh::None), &cart));
    assert_eq!(world.report().edges.len(), 1);
}

#[test]
fn pods_of_one_workload_with_and_without_a_proxy_are_told_apart() {
    let mut world = World::shop(&[("istio-injection", "enabled")], permissive);
    let web = web(Mesh::Sidecar);
    for _ in 0..30 {
        world.connect(1, &Wire::sidecar(&web, &cart(Mesh::Sidecar), MUTUAL));
        let plain = Wire {
            dialled: Some(cart_service()),
            ..Wire::sidecar(&web, &cart(Mesh::None), PLAIN)
        };
        world.connect(1, &plain);
    }
    let planes: Vec<_> = world
        .report()
        .edges
        .iter()
        .map(|edge| edge.server_plane)
        .collect();
    assert_eq!(planes.len(), 2, "{planes:?}");
    assert_eq!(world.found(), ["M06", "M09"]);
}

#[test]
fn links_that_are_told_anew_are_counted_once() {
    let mut world = World::shop(&[], strict);
    let (web, cart) = (web(Mesh::Sidecar), cart(Mesh::Sidecar));
    let vague = Wire {
        peer: Peer::Address([10, 0, 2, 2].into()),
        ..Wire::sidecar(&web, &cart, Security::Unknown)
    };
    let known = Wire::sidecar(&web, &cart, MUTUAL);
    let link = world.open(&vague);
    world.pass(5);
    world.progress(&vague, &link);
    let better = Arc::new(crate::model::call::Link {
        connection: link.connection.clone(),
        ..(*world.link(&known)).clone()
    });
    world.progress(&known, &better);
    world.close(&known, better);
    world.pass(1);
    let edges = world.report().edges;
    let with_something: Vec<_> = edges
        .iter()
        .filter(|edge| !edge.observed.is_empty())
        .map(|edge| (edge.server.describe(), seen(edge)))
        .collect();
    assert_eq!(
        with_something,
        [(
            "Deployment shop/cart".to_owned(),
            vec![("istio_mtls", 1, 0)]
        )]
    );
}

#[test]
fn the_time_of_a_request_has_its_shares() {
    let mut world = World::shop(&[], strict);
    let (web, cart) = (web(Mesh::Sidecar), cart(Mesh::Sidecar));
    let took = |milliseconds: u64| {
        move |_, exchange: &mut crate::model::exchange::Exchange| {
            exchange.ended = exchange
                .sent
                .first
                .plus(Duration::from_millis(milliseconds));
        }
    };
    world.calls(100, &Wire::to_proxy(&web, &cart, MUTUAL), took(20));
    world.calls(100, &Wire::from_proxy(&cart, peer(&web), MUTUAL), took(10));
    for (mut wire, milliseconds) in [
        (Wire::sidecar(&web, &cart, MUTUAL), 15),
        (Wire::into_sidecar(&cart, peer(&web), MUTUAL), 12),
    ] {
        wire.turns = (50, Duration::from_millis(milliseconds));
        world.connect(2, &wire);
    }
    world.pass(1);
    let latency = only(&world).latency;
    let shares = [
        (latency.client, 0.020),
        (latency.client_proxy, 0.005),
        (latency.wire_client, 0.015),
        (latency.network, 0.003),
        (latency.wire_server, 0.012),
        (latency.server_proxy, 0.002),
        (latency.server, 0.010),
    ];
    for (share, expected) in shares {
        let near = share.is_some_and(|share| (share - expected).abs() < 1e-9);
        assert!(near, "{latency:?}");
    }
}

#[test]
fn calls_of_several_clients_on_one_connection_are_told_apart() {
    let mut world = World::shop(&[], strict);
    let cart = cart(Mesh::Sidecar);
    let clients = ["web", "mobile"].map(|name| {
        let client = pod(name, Mesh::Sidecar, same);
        Wire::from_proxy(&cart, peer(&client), MUTUAL).far
    });
    let wire = Wire {
        far: None,
        ..Wire::from_proxy(&cart, node(), MUTUAL)
    };
    let link = world.open(&wire);
    for _ in 0..15 {
        for far in &clients {
            world.call_of(&link, far.clone(), |_| {});
        }
    }
    world.close(&wire, link);
    world.pass(1);
    let edges = world.report().edges;
    let told: Vec<_> = edges
        .iter()
        .map(|edge| (&*edge.client.name, edge.port, seen(edge)))
        .collect();
    assert_eq!(
        told,
        [
            ("mobile", 8080, vec![("istio_mtls", 0, 15)]),
            ("web", 8080, vec![("istio_mtls", 0, 15)]),
        ]
    );
}

#[test]
fn what_is_learned_later_unsettles_nothing() {
    let mut world = World::shop(&[], permissive);
    let (web, cart) = (web(Mesh::Sidecar), cart(Mesh::Sidecar));
    // At the wire it is not known which Service was dialled, and what the proxy is to send.
    world.connect(30, &Wire::sidecar(&web, &cart, PLAIN));
    assert_eq!(only(&world).verdict, "unknown");
    assert!(world.found().is_empty());
    world.calls(1, &Wire::to_proxy(&web, &cart, PLAIN), |_, _| {});
    world.connect(1, &Wire::sidecar(&web, &cart, PLAIN));
    assert_eq!(only(&world).verdict, "violated");
    assert_eq!(world.found(), ["M06"]);
}

#[test]
fn servers_outside_are_not_taken_for_one() {
    let mut world = World::shop(&[], permissive);
    let outside = |text: &str, service| Wire {
        peer: Peer::Address(address(text).ip()),
        remote: address(text),
        dialled: service,
        ..Wire::direct(&web(Mesh::None), &cart(Mesh::None))
    };
    world.connect(1, &outside("192.0.2.1:8080", Some(cart_service())));
    world.connect(30, &outside("192.0.2.2:8080", None));
    let edges = world.report().edges;
    let mut seen: Vec<_> = edges.iter().map(|edge| edge.service.as_deref()).collect();
    seen.sort();
    assert_eq!(seen, [None, Some("cart.shop")]);
}
