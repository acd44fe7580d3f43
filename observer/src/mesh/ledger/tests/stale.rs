//! Proxies that go on as before a change of policy.

use std::{sync::Arc, time::Duration};

use super::{MUTUAL, PLAIN, cart, peer, web, world::*};
use crate::{
    mesh::report::Finding,
    model::{
        connection::ClosedBy,
        kubernetes::{Node, Pod},
        policy::PolicyKind,
        time::WallOffset,
    },
};

/// Another pod of the same workload.
fn another(pod: &Arc<Pod>, number: u32) -> Arc<Pod> {
    Arc::new(Pod {
        uid: format!("{}-{number}", pod.uid).into(),
        name: format!("{}-{number}", pod.name).into(),
        ..(**pod).clone()
    })
}

/// Plaintext that the server's proxy answers.
fn taken(cart: &Arc<Pod>) -> Wire {
    Wire::direct(&web(Mesh::None), cart)
}

/// Plaintext that the server's proxy does not take.
fn refused(cart: &Arc<Pod>) -> Wire {
    Wire {
        received: 0,
        by: ClosedBy::Remote,
        reset: true,
        ..taken(cart)
    }
}

/// What the proxy of a client sends.
fn sent(name: &str, security: crate::model::security::Security) -> Wire {
    let client = pod(name, Mesh::Sidecar, same);
    Wire {
        dialled: Some(cart_service()),
        ..Wire::sidecar(&client, &cart(Mesh::Sidecar), security)
    }
}

fn stale(world: &World) -> Vec<Finding> {
    let report = world.ledger.report(None, world.now, WallOffset::default());
    let findings = report.findings.into_iter();
    findings.filter(|it| it.id == "M33").collect()
}

/// Lets edges be asked anew, and what is new settle.
fn settle(world: &mut World) {
    world.pass(11);
    world.pass(61);
    world.pass(1);
}

fn plaintext(world: &mut World, mode: &str) {
    let content = format!(
        r#"{{"spec":{{"host":"cart.shop.svc.cluster.local","trafficPolicy":{{"tls":{{"mode":"{mode}"}}}}}}}}"#
    );
    world.object(PolicyKind::DestinationRule, "shop/cart", &content);
}

#[test]
fn servers_that_go_on_are_found_where_others_follow() {
    struct Case {
        name: &'static str,
        mesh: Mesh,
        /// What each of two pods does, once the change is settled.
        traffic: fn(&mut World, &Arc<Pod>, &Arc<Pod>),
        expected: &'static [&'static str],
    }
    let cases = [
        Case {
            name: "one takes plaintext still, the other does not",
            mesh: Mesh::Sidecar,
            traffic: |world, one, other| {
                world.connect(20, &taken(one));
                world.connect(20, &refused(other));
            },
            expected: &["cart-1"],
        },
        Case {
            name: "all go on: nobody has heard of it, or it means something else",
            mesh: Mesh::Sidecar,
            traffic: |world, one, other| {
                world.connect(20, &taken(one));
                world.connect(20, &taken(other));
            },
            expected: &[],
        },
        Case {
            name: "all follow",
            mesh: Mesh::Sidecar,
            traffic: |world, one, other| {
                world.connect(20, &refused(one));
                world.connect(20, &refused(other));
            },
            expected: &[],
        },
        Case {
            name: "mutual TLS is as before and as now",
            mesh: Mesh::Sidecar,
            traffic: |world, one, other| {
                world.connect(20, &Wire::sidecar(&web(Mesh::Sidecar), one, MUTUAL));
                world.connect(20, &refused(other));
            },
            expected: &[],
        },
        Case {
            name: "one connection may be anything",
            mesh: Mesh::Sidecar,
            traffic: |world, one, other| {
                world.connect(1, &taken(one));
                world.connect(20, &refused(other));
            },
            expected: &[],
        },
        Case {
            name: "too few in all",
            mesh: Mesh::Sidecar,
            traffic: |world, one, other| {
                world.connect(5, &taken(one));
                world.connect(5, &refused(other));
            },
            expected: &[],
        },
        Case {
            name: "the proxy of a node is one, whatever the pod",
            mesh: Mesh::Ambient,
            traffic: |world, one, other| {
                world.connect(20, &taken(one));
                world.connect(20, &refused(other));
            },
            expected: &[],
        },
    ];
    for case in cases {
        let mut world = World::shop(&[], |world| world.mode("PERMISSIVE"));
        let node = Arc::new(Node {
            name: "worker-1".into(),
            ..Node::default()
        });
        let one = Arc::new(Pod {
            node: Some(node),
            ..(*cart(case.mesh)).clone()
        });
        let other = another(&one, 2);
        world.connect(20, &taken(&one));
        world.mode("STRICT");
        settle(&mut world);
        (case.traffic)(&mut world, &one, &other);
        world.pass(61);
        let found = stale(&world);
        let pods: Vec<&str> = found
            .iter()
            .filter_map(|it| it.summary.split(' ').nth(4))
            .collect();
        assert_eq!(pods, case.expected, "{}", case.name);
        for finding in found {
            assert_eq!(finding.workload.name, "cart", "{}", case.name);
            assert_eq!(finding.count, 20, "{}", case.name);
            assert!(!finding.samples.is_empty(), "{}", case.name);
            let objects = finding.because.iter().filter_map(|it| it.object.as_ref());
            let names: Vec<&str> = objects.map(|it| &*it.kind).collect();
            assert_eq!(names, ["PeerAuthentication"], "{}", case.name);
        }
    }
}

#[test]
fn ports_that_are_kept_from_the_proxy_tell_nothing_of_it() {
    const EXCLUDE: &str = "traffic.sidecar.istio.io/excludeInboundPorts";
    for (ports, expected) in [("9090", 1), ("8080", 0)] {
        let mut world = World::shop(&[], |world| world.mode("PERMISSIVE"));
        let one = pod("cart", Mesh::Sidecar, annotated(EXCLUDE, ports));
        let other = another(&one, 2);
        world.connect(20, &taken(&one));
        world.mode("STRICT");
        settle(&mut world);
        world.connect(20, &taken(&one));
        world.connect(20, &refused(&other));
        world.pass(61);
        assert_eq!(stale(&world).len(), expected, "{ports}");
    }
}

#[test]
fn what_the_application_takes_itself_tells_nothing_of_its_proxy() {
    let mut world = World::shop(&[], |world| world.mode("PERMISSIVE"));
    let one = cart(Mesh::Sidecar);
    let other = another(&one, 2);
    let client = || peer(&web(Mesh::None));
    world.connect(1, &Wire::from_proxy(&one, client(), PLAIN));
    world.connect(20, &Wire::into_app(&one, client()));
    world.mode("STRICT");
    settle(&mut world);
    world.connect(20, &Wire::into_app(&one, client()));
    let refused = Wire {
        received: 100,
        sent: 0,
        ..Wire::into_app(&other, client())
    };
    world.connect(20, &refused);
    world.pass(61);
    assert_eq!(stale(&world), []);
}

#[test]
fn connections_of_before_do_not_count() {
    let mut world = World::shop(&[], |world| world.mode("PERMISSIVE"));
    let one = cart(Mesh::Sidecar);
    let other = another(&one, 2);
    let idle: Vec<_> = (0..20)
        .map(|_| {
            let wire = taken(&one);
            let link = world.open(&wire);
            world.progress(&wire, &link);
            (wire, link)
        })
        .collect();
    world.connect(20, &taken(&one));
    world.mode("STRICT");
    world.pass(11);
    // Nor do those that are opened before it is settled.
    world.connect(20, &taken(&one));
    world.pass(61);
    for (wire, link) in idle {
        world.progress(&wire, &link);
        world.close(&wire, link);
    }
    world.connect(20, &refused(&other));
    world.pass(61);
    assert_eq!(stale(&world), []);
}

#[test]
fn clients_that_go_on_are_found_where_others_follow() {
    for (name, before, after, traffic, expected) in [
        (
            "told to send mutual TLS again",
            Some("DISABLE"),
            None,
            [("web", PLAIN), ("api", MUTUAL)],
            &["web"][..],
        ),
        (
            "told to send plaintext",
            Some("ISTIO_MUTUAL"),
            Some("DISABLE"),
            [("web", PLAIN), ("api", MUTUAL)],
            &["api"],
        ),
        (
            "both follow",
            Some("DISABLE"),
            None,
            [("web", MUTUAL), ("api", MUTUAL)],
            &[],
        ),
        (
            "both go on",
            Some("DISABLE"),
            None,
            [("web", PLAIN), ("api", PLAIN)],
            &[],
        ),
        (
            "nothing was changed",
            Some("DISABLE"),
            Some("DISABLE"),
            [("web", PLAIN), ("api", MUTUAL)],
            &[],
        ),
    ] {
        let mut world = World::shop(&[], |world| {
            world.mode("PERMISSIVE");
            if let Some(mode) = before {
                plaintext(world, mode);
            }
        });
        for client in ["web", "api"] {
            let security = if before == Some("DISABLE") {
                PLAIN
            } else {
                MUTUAL
            };
            world.connect(20, &sent(client, security));
        }
        match after {
            Some(mode) => plaintext(&mut world, mode),
            None => world.remove(PolicyKind::DestinationRule, "shop/cart"),
        }
        settle(&mut world);
        for (client, security) in traffic {
            world.connect(20, &sent(client, security));
        }
        world.pass(61);
        let found = stale(&world);
        let clients: Vec<&str> = found.iter().map(|it| &*it.workload.name).collect();
        assert_eq!(clients, expected, "{name}");
    }
}

#[test]
fn a_proxy_that_gets_nothing_that_would_show_it_is_told_no_more() {
    for (count, wait, expected) in [(20, 901, 0), (19, 901, 1), (100, 300, 1)] {
        let mut world = World::shop(&[], |world| world.mode("PERMISSIVE"));
        let one = cart(Mesh::Sidecar);
        let other = another(&one, 2);
        let client = || peer(&web(Mesh::None));
        world.connect(20, &taken(&one));
        // Which port it is for cannot be seen there, and is found out.
        world.connect(1, &Wire::into_sidecar(&one, client(), MUTUAL));
        world.mode("STRICT");
        settle(&mut world);
        world.connect(20, &taken(&one));
        world.connect(20, &refused(&other));
        world.pass(wait);
        world.connect(count, &Wire::into_sidecar(&one, client(), MUTUAL));
        world.pass(61);
        assert_eq!(stale(&world).len(), expected, "{count} {wait}");
    }
}

#[test]
fn a_proxy_that_follows_late_is_told_no_more() {
    let mut world = World::shop(&[], |world| world.mode("PERMISSIVE"));
    let one = cart(Mesh::Sidecar);
    let other = another(&one, 2);
    world.connect(20, &taken(&one));
    world.mode("STRICT");
    settle(&mut world);
    world.connect(20, &taken(&one));
    world.connect(20, &refused(&other));
    world.pass(61);
    assert_eq!(stale(&world).len(), 1);
    // It is found again when a new version says the same, by what proxies did since the first.
    world.mode("STRICT");
    settle(&mut world);
    world.connect(20, &taken(&one));
    world.pass(61);
    assert_eq!(stale(&world).first().map(|it| it.count), Some(20));
    world.connect(3, &refused(&one));
    world.pass(61);
    assert_eq!(stale(&world), []);
    // Nor is one told that nothing is seen of for long.
    world.connect(20, &Wire::into_sidecar(&one, peer(&web(Mesh::None)), PLAIN));
    world.now = world.now.plus(Duration::from_secs(25 * 3600));
    world.pass(61);
    assert_eq!(stale(&world), []);
}
