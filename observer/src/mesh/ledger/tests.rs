//! Cases of objects, traffic and what is found; and what is silent when it should be.

mod world;

use std::{sync::Arc, time::Duration};

use self::world::*;
use super::Config;
use crate::model::{
    connection::{ClosedBy, Role},
    kubernetes::{Pod, Service},
    mesh::{Hop, ProxyKind},
    policy::PolicyKind,
    security::{MeshSigns, Security},
    workload::Peer,
};

const MUTUAL: Security = Security::IstioMutualTls;
const PLAIN: Security = Security::Plaintext;

/// Objects, traffic, and what is found.
struct Case {
    name: &'static str,
    labels: &'static [(&'static str, &'static str)],
    objects: fn(&mut World),
    traffic: fn(&mut World),
    expected: &'static [&'static str],
}

fn strict(world: &mut World) {
    world.mode("STRICT");
}

fn permissive(world: &mut World) {
    world.mode("PERMISSIVE");
}

fn nothing(_: &mut World) {}

fn web(mesh: Mesh) -> Arc<Pod> {
    pod("web", mesh, same)
}

fn cart(mesh: Mesh) -> Arc<Pod> {
    pod("cart", mesh, same)
}

fn peer(pod: &Arc<Pod>) -> Peer {
    Peer::Pod(pod.clone())
}

fn check(cases: &[Case]) {
    for case in cases {
        let mut world = World::shop(case.labels, case.objects);
        (case.traffic)(&mut world);
        world.pass(1);
        assert_eq!(world.found(), case.expected, "{}", case.name);
    }
}

#[test]
fn plaintext_under_strict() {
    check(&[
        Case {
            name: "a client without a proxy is answered",
            labels: &[],
            objects: strict,
            traffic: |world| {
                world.connect(20, &Wire::direct(&web(Mesh::None), &cart(Mesh::Sidecar)));
            },
            expected: &["M01"],
        },
        Case {
            name: "seen at the server's proxy",
            labels: &[],
            objects: strict,
            traffic: |world| {
                let (web, cart) = (web(Mesh::None), cart(Mesh::Sidecar));
                world.connect(1, &Wire::from_proxy(&cart, peer(&web), PLAIN));
                world.connect(20, &Wire::into_sidecar(&cart, peer(&web), PLAIN));
            },
            expected: &["M01"],
        },
        Case {
            name: "requests on one connection",
            labels: &[],
            objects: strict,
            traffic: |world| {
                let wire = Wire::direct(&web(Mesh::None), &cart(Mesh::Sidecar));
                world.calls(20, &wire, |_, _| {});
            },
            expected: &["M01"],
        },
        Case {
            name: "too few to judge",
            labels: &[],
            objects: strict,
            traffic: |world| {
                world.connect(19, &Wire::direct(&web(Mesh::None), &cart(Mesh::Sidecar)));
            },
            expected: &[],
        },
        Case {
            name: "mutual TLS is as declared",
            labels: &[],
            objects: strict,
            traffic: |world| {
                world.connect(
                    50,
                    &Wire::sidecar(&web(Mesh::Sidecar), &cart(Mesh::Sidecar), MUTUAL),
                );
            },
            expected: &[],
        },
        Case {
            name: "plaintext between proxy and application is normal",
            labels: &[],
            objects: strict,
            traffic: |world| {
                let (web, cart) = (web(Mesh::Sidecar), cart(Mesh::Sidecar));
                world.calls(50, &Wire::to_proxy(&web, &cart, MUTUAL), |_, _| {});
                world.calls(50, &Wire::from_proxy(&cart, peer(&web), MUTUAL), |_, _| {});
                world.connect(50, &Wire::to_proxy(&web, &cart, MUTUAL));
            },
            expected: &[],
        },
        Case {
            name: "what is not known is not judged",
            labels: &[],
            objects: strict,
            traffic: |world| {
                let wire = Wire::direct(&web(Mesh::None), &cart(Mesh::Sidecar));
                world.connect(50, &wire.secured(Security::Unknown));
            },
            expected: &[],
        },
        Case {
            name: "connections older than the observer",
            labels: &[],
            objects: strict,
            traffic: |world| {
                let wire = Wire {
                    pre_existing: true,
                    ..Wire::direct(&web(Mesh::None), &cart(Mesh::Sidecar))
                };
                world.connect(50, &wire);
            },
            expected: &[],
        },
        Case {
            name: "probes of the node",
            labels: &[],
            objects: strict,
            traffic: |world| {
                let cart = cart(Mesh::Sidecar);
                world.connect(50, &Wire::into_sidecar(&cart, node(), PLAIN));
                world.connect(50, &Wire::into_app(&cart, node()));
            },
            expected: &[],
        },
        Case {
            name: "probes from elsewhere",
            labels: &[],
            objects: strict,
            traffic: |world| {
                let cart = cart(Mesh::Sidecar);
                let outside = Peer::Address(std::net::IpAddr::from([10, 9, 9, 9]));
                world.probes = true;
                for _ in 0..50 {
                    let wire = Wire::into_app(&cart, outside.clone());
                    world.calls(1, &wire, |_, _| {});
                }
                let wire = Wire {
                    remote: address("169.254.7.127:4000"),
                    ..Wire::into_sidecar(&cart, outside, PLAIN)
                };
                world.connect(50, &wire);
            },
            expected: &[],
        },
        Case {
            name: "ports of the mesh itself",
            labels: &[],
            objects: strict,
            traffic: |world| {
                for port in ["10.0.2.2:15020", "10.0.2.2:15090", "10.0.2.2:4191"] {
                    let wire = Wire {
                        remote: address(port),
                        dialled: None,
                        ..Wire::direct(&web(Mesh::None), &cart(Mesh::Sidecar))
                    };
                    world.connect(50, &wire);
                }
            },
            expected: &[],
        },
        Case {
            name: "connections that are closed before data",
            labels: &[],
            objects: strict,
            traffic: |world| {
                let wire = Wire {
                    sent: 0,
                    received: 0,
                    ..Wire::direct(&web(Mesh::None), &cart(Mesh::Sidecar))
                };
                world.connect(50, &wire);
            },
            expected: &[],
        },
        Case {
            name: "a port that is kept from the proxy",
            labels: &[],
            objects: strict,
            traffic: |world| {
                let exclude = annotated("traffic.sidecar.istio.io/excludeInboundPorts", "8080");
                let cart = pod("cart", Mesh::Sidecar, exclude);
                world.connect(50, &Wire::direct(&web(Mesh::None), &cart));
                world.connect(50, &Wire::into_app(&cart, peer(&web(Mesh::None))));
            },
            expected: &[],
        },
        Case {
            name: "a port with a mode of its own",
            labels: &[],
            objects: |world| {
                world.mode("STRICT");
                world.object(
                    PolicyKind::PeerAuthentication,
                    "shop/cart",
                    r#"{"spec":{"selector":{"matchLabels":{"app":"cart"}},
                        "mtls":{"mode":"STRICT"},
                        "portLevelMtls":{"8080":{"mode":"PERMISSIVE"}}}}"#,
                );
            },
            traffic: |world| {
                world.connect(50, &Wire::direct(&web(Mesh::None), &cart(Mesh::Sidecar)));
            },
            expected: &[],
        },
        Case {
            name: "pods on the network of their node",
            labels: &[],
            objects: strict,
            traffic: |world| {
                let web = pod("web", Mesh::None, |traits| traits.host_network = true);
                world.connect(50, &Wire::direct(&web, &cart(Mesh::Sidecar)));
            },
            expected: &[],
        },
        Case {
            name: "permissive takes both",
            labels: &[],
            objects: permissive,
            traffic: |world| {
                world.connect(50, &Wire::direct(&web(Mesh::None), &cart(Mesh::Sidecar)));
            },
            expected: &[],
        },
        Case {
            name: "a server in no mesh",
            labels: &[],
            objects: strict,
            traffic: |world| {
                world.connect(50, &Wire::direct(&web(Mesh::None), &cart(Mesh::None)));
            },
            expected: &[],
        },
    ]);
}

#[test]
fn plaintext_that_is_refused() {
    fn refused(own: &Arc<Pod>) -> Wire {
        Wire {
            received: 0,
            by: ClosedBy::Remote,
            reset: true,
            ..Wire::direct(own, &cart(Mesh::Sidecar))
        }
    }
    check(&[
        Case {
            name: "a client keeps trying",
            labels: &[],
            objects: strict,
            traffic: |world| world.connect(20, &refused(&web(Mesh::None))),
            expected: &["M02"],
        },
        Case {
            name: "the client gave up by itself",
            labels: &[],
            objects: strict,
            traffic: |world| {
                let wire = Wire {
                    by: ClosedBy::Local,
                    ..refused(&web(Mesh::None))
                };
                world.connect(40, &wire);
            },
            expected: &[],
        },
        Case {
            name: "scanners from outside",
            labels: &[],
            objects: strict,
            traffic: |world| {
                let outside = Peer::Address(std::net::IpAddr::from([192, 0, 2, 1]));
                let wire = Wire {
                    sent: 0,
                    received: 100,
                    by: ClosedBy::Local,
                    reset: true,
                    ..Wire::into_sidecar(&cart(Mesh::Sidecar), outside, PLAIN)
                };
                world.connect(40, &wire);
            },
            expected: &[],
        },
    ]);
}

#[test]
fn tls_of_others() {
    fn foreign(port: &str) -> Wire {
        Wire {
            remote: address(port),
            dialled: None,
            ..Wire::direct(&web(Mesh::None), &cart(Mesh::Sidecar)).secured(Security::Tls)
        }
    }
    check(&[
        Case {
            name: "opaque to the proxy",
            labels: &[],
            objects: permissive,
            traffic: |world| world.connect(20, &foreign("10.0.2.2:8080")),
            expected: &["M04"],
        },
        Case {
            name: "a port of TLS",
            labels: &[],
            objects: permissive,
            traffic: |world| world.connect(20, &foreign("10.0.2.2:8443")),
            expected: &[],
        },
        Case {
            name: "a protocol that asks for TLS itself",
            labels: &[],
            objects: permissive,
            traffic: |world| {
                let mut wire = foreign("10.0.2.2:5432");
                if let Some(opening) = &mut wire.opening {
                    opening.started_by = Some("postgresql");
                }
                world.connect(20, &wire);
            },
            expected: &[],
        },
        Case {
            name: "it fails where only that of the mesh is taken",
            labels: &[],
            objects: strict,
            traffic: |world| {
                let mut wire = foreign("10.0.2.2:8443");
                if let Some(opening) = &mut wire.opening {
                    opening.tls = Some(Arc::default());
                }
                world.connect(20, &wire);
            },
            expected: &["M04"],
        },
        Case {
            name: "a server in no mesh",
            labels: &[],
            objects: strict,
            traffic: |world| {
                let wire = Wire::direct(&web(Mesh::Sidecar), &cart(Mesh::None));
                let wire = Wire {
                    hop: Hop::Proxy(ProxyKind::Sidecar),
                    container: "istio-proxy",
                    ..wire.secured(Security::Tls)
                };
                world.connect(20, &wire);
            },
            expected: &[],
        },
    ]);
}

#[test]
fn policies_that_contradict_each_other() {
    fn rule(world: &mut World, mode: &str, host: &str) {
        let content = format!(
            r#"{{"spec":{{"host":"{host}","trafficPolicy":{{"tls":{{"mode":"{mode}"}}}}}}}}"#
        );
        world.object(PolicyKind::DestinationRule, "shop/cart", &content);
    }
    fn plain(world: &mut World) {
        let wire = Wire {
            dialled: Some(cart_service()),
            ..Wire::sidecar(&web(Mesh::Sidecar), &cart(Mesh::Sidecar), PLAIN)
        };
        let refused = Wire {
            received: 0,
            by: ClosedBy::Remote,
            reset: true,
            ..wire
        };
        world.connect(20, &refused);
    }
    check(&[
        Case {
            name: "told to send plaintext to who takes none",
            labels: &[],
            objects: |world| {
                world.mode("STRICT");
                rule(world, "DISABLE", "cart.shop.svc.cluster.local");
            },
            traffic: plain,
            expected: &["M02", "M05"],
        },
        Case {
            name: "the client's proxy answers instead",
            labels: &[],
            objects: |world| {
                world.mode("STRICT");
                rule(world, "SIMPLE", "cart.shop.svc.cluster.local");
            },
            traffic: |world| {
                let (web, cart) = (web(Mesh::Sidecar), cart(Mesh::Sidecar));
                let foreign = Security::Tls;
                world.calls(30, &Wire::to_proxy(&web, &cart, foreign), |_, exchange| {
                    exchange.status = Some(503);
                    exchange.forwarded = by_envoy(None);
                });
            },
            expected: &["M05"],
        },
        Case {
            name: "a rule for another host",
            labels: &[],
            objects: |world| {
                world.mode("STRICT");
                rule(world, "DISABLE", "other.shop.svc.cluster.local");
            },
            traffic: |world| {
                let (web, cart) = (web(Mesh::Sidecar), cart(Mesh::Sidecar));
                world.connect(30, &Wire::sidecar(&web, &cart, MUTUAL));
                world.calls(30, &Wire::to_proxy(&web, &cart, MUTUAL), |_, exchange| {
                    exchange.status = Some(503);
                    exchange.forwarded = by_envoy(None);
                });
            },
            expected: &[],
        },
        Case {
            name: "both agree",
            labels: &[],
            objects: |world| {
                world.mode("PERMISSIVE");
                rule(world, "DISABLE", "cart.shop.svc.cluster.local");
            },
            traffic: |world| {
                let wire = Wire {
                    dialled: Some(cart_service()),
                    ..Wire::sidecar(&web(Mesh::Sidecar), &cart(Mesh::Sidecar), PLAIN)
                };
                world.connect(30, &wire);
            },
            expected: &[],
        },
    ]);
}

#[test]
fn fallback_and_pods_that_are_not_captured() {
    const INJECTED: &[(&str, &str)] = &[("istio-injection", "enabled")];
    fn fallback(cart: &Arc<Pod>) -> Wire {
        Wire {
            dialled: Some(cart_service()),
            ..Wire::sidecar(&web(Mesh::Sidecar), cart, PLAIN)
        }
    }
    check(&[
        Case {
            name: "on a connection that the proxy keeps",
            labels: INJECTED,
            objects: nothing,
            traffic: |world| {
                let (web, cart) = (web(Mesh::Sidecar), cart(Mesh::None));
                world.calls(20, &Wire::direct(&web, &cart), |_, _| {});
                world.keep(&fallback(&cart));
            },
            expected: &["M06", "M09"],
        },
        Case {
            name: "the server is declared to be in the mesh",
            labels: INJECTED,
            objects: nothing,
            traffic: |world| world.connect(20, &fallback(&cart(Mesh::None))),
            expected: &["M06", "M09"],
        },
        Case {
            name: "the server opted out",
            labels: INJECTED,
            objects: nothing,
            traffic: |world| {
                let cart = pod(
                    "cart",
                    Mesh::None,
                    labelled("sidecar.istio.io/inject", "false"),
                );
                world.connect(20, &fallback(&cart));
            },
            expected: &[],
        },
        Case {
            name: "the namespace is in no mesh",
            labels: &[],
            objects: nothing,
            traffic: |world| world.connect(20, &fallback(&cart(Mesh::None))),
            expected: &[],
        },
        Case {
            name: "both have proxies, and plaintext is sent all the same",
            labels: INJECTED,
            objects: permissive,
            traffic: |world| world.connect(20, &fallback(&cart(Mesh::Sidecar))),
            expected: &["M06"],
        },
        Case {
            name: "pods are dialled as well as their Service",
            labels: INJECTED,
            objects: permissive,
            traffic: |world| {
                let (web, cart) = (web(Mesh::Sidecar), cart(Mesh::Sidecar));
                let by_service = Wire::to_proxy(&web, &cart, MUTUAL);
                world.calls(20, &by_service, |_, _| {});
                let by_address = Wire {
                    remote: address("10.0.2.2:8080"),
                    dialled: None,
                    ..Wire::to_proxy(&web, &cart, PLAIN)
                };
                world.calls(20, &by_address, |_, _| {});
                world.connect(20, &Wire::sidecar(&web, &cart, PLAIN));
            },
            expected: &[],
        },
        Case {
            name: "a client that is not captured",
            labels: INJECTED,
            objects: permissive,
            traffic: |world| {
                world.connect(20, &Wire::direct(&web(Mesh::None), &cart(Mesh::Sidecar)));
            },
            expected: &["M09"],
        },
        Case {
            name: "ambient mode, and not captured",
            labels: &[("istio.io/dataplane-mode", "ambient")],
            objects: permissive,
            traffic: |world| {
                world.connect(20, &Wire::direct(&web(Mesh::None), &cart(Mesh::Ambient)));
            },
            expected: &["M09"],
        },
        Case {
            name: "capture is pending",
            labels: &[("istio.io/dataplane-mode", "ambient")],
            objects: permissive,
            traffic: |world| {
                let pending = annotated("ambient.istio.io/redirection", "pending");
                let web = pod("web", Mesh::None, pending);
                world.connect(20, &Wire::direct(&web, &cart(Mesh::Ambient)));
            },
            expected: &[],
        },
    ]);
}

#[test]
fn traffic_past_proxies() {
    check(&[
        Case {
            name: "an application past its proxy",
            labels: &[],
            objects: permissive,
            traffic: |world| {
                let (web, cart) = (web(Mesh::Sidecar), cart(Mesh::None));
                world.calls(30, &Wire::to_proxy(&web, &cart, PLAIN), |_, _| {});
                world.connect(20, &Wire::direct(&web, &cart));
            },
            expected: &["M07"],
        },
        Case {
            name: "excluded on purpose",
            labels: &[],
            objects: permissive,
            traffic: |world| {
                let exclude = annotated("traffic.sidecar.istio.io/excludeOutboundPorts", "80");
                let web = pod("web", Mesh::Sidecar, exclude);
                world.connect(1, &Wire::to_proxy(&web, &cart(Mesh::None), PLAIN));
                world.connect(30, &Wire::direct(&web, &cart(Mesh::None)));
            },
            expected: &[],
        },
        Case {
            name: "before the proxy started",
            labels: &[],
            objects: permissive,
            traffic: |world| {
                let (web, cart) = (web(Mesh::Sidecar), cart(Mesh::None));
                world.connect(30, &Wire::direct(&web, &cart));
                world.connect(30, &Wire::to_proxy(&web, &cart, PLAIN));
            },
            expected: &[],
        },
        Case {
            name: "a proxy that never carries anything",
            labels: &[],
            objects: permissive,
            traffic: |world| {
                let (web, cart) = (web(Mesh::Sidecar), cart(Mesh::None));
                world.connect(1, &Wire::direct(&web, &cart));
                world.pass(61);
                world.connect(30, &Wire::direct(&web, &cart));
            },
            expected: &["M07"],
        },
        Case {
            name: "an init container",
            labels: &[],
            objects: permissive,
            traffic: |world| {
                let (web, cart) = (web(Mesh::Sidecar), cart(Mesh::None));
                world.connect(1, &Wire::to_proxy(&web, &cart, PLAIN));
                let wire = Wire {
                    container: "migrate",
                    ..Wire::direct(&web, &cart)
                };
                world.connect(30, &wire);
            },
            expected: &[],
        },
        Case {
            name: "reached past the proxy",
            labels: &[],
            objects: strict,
            traffic: |world| {
                let (web, cart) = (web(Mesh::None), cart(Mesh::Sidecar));
                world.connect(1, &Wire::from_proxy(&cart, peer(&web), PLAIN));
                world.connect(20, &Wire::into_app(&cart, peer(&web)));
            },
            expected: &["M08"],
        },
        Case {
            name: "transparent interception keeps the address",
            labels: &[],
            objects: permissive,
            traffic: |world| {
                let keep = annotated("sidecar.istio.io/interceptionMode", "TPROXY");
                let cart = pod("cart", Mesh::Sidecar, keep);
                let web = web(Mesh::None);
                world.connect(1, &Wire::from_proxy(&cart, peer(&web), PLAIN));
                world.connect(20, &Wire::into_app(&cart, peer(&web)));
            },
            expected: &[],
        },
    ]);
}

/// A proxy that was never seen to carry anything may not have started, as long as it takes to settle.
#[test]
fn a_proxy_has_as_long_to_start_as_is_configured() {
    for (settle, expected) in [(0, vec!["M07"]), (20, vec!["M07"]), (40, vec![])] {
        let mut world = World::shop(&[], permissive);
        world.ledger.reconfigure(Config {
            settle: Duration::from_secs(settle),
            ..Config::default()
        });
        let (web, cart) = (web(Mesh::Sidecar), cart(Mesh::None));
        world.connect(20, &Wire::direct(&web, &cart));
        world.pass(29);
        world.connect(20, &Wire::direct(&web, &cart));
        assert_eq!(world.found(), expected, "{settle}");
    }
    for (settle, expected) in [(0, vec!["M08"]), (40, vec![])] {
        let mut world = World::shop(&[], permissive);
        world.ledger.reconfigure(Config {
            settle: Duration::from_secs(settle),
            ..Config::default()
        });
        let (web, cart) = (web(Mesh::None), cart(Mesh::Sidecar));
        world.connect(20, &Wire::into_app(&cart, peer(&web)));
        world.pass(29);
        world.connect(20, &Wire::into_app(&cart, peer(&web)));
        assert_eq!(world.found(), expected, "{settle}");
        let report = world.report();
        let verdicts: Vec<&str> = report.edges.iter().map(|edge| edge.verdict).collect();
        let verdict = match expected.is_empty() {
            true => "satisfied",
            false => "violated",
        };
        assert_eq!(verdicts, [verdict], "{settle}");
    }
}

/// The connection of the node's proxy for a pod, in whose network namespace it is.
fn tunnelled(client: &Arc<Pod>, server: &Arc<Pod>) -> Wire {
    let ztunnel = pod("ztunnel", Mesh::None, same);
    Wire {
        own: ztunnel,
        container: "istio-proxy",
        hop: Hop::Proxy(ProxyKind::Node),
        role: Role::Client,
        remote: address("10.0.2.2:15008"),
        dialled: None,
        namespace: 7,
        ..Wire::direct(client, server).secured(Security::Hbone)
    }
}

fn ambient_client(world: &mut World, web: &Arc<Pod>, cart: &Arc<Pod>) {
    let wire = Wire {
        namespace: 7,
        ..Wire::to_proxy(web, cart, Security::Hbone)
    };
    world.calls(20, &wire, |_, _| {});
}

#[test]
fn ambient_mode() {
    const WAYPOINT: &[(&str, &str)] = &[("istio.io/use-waypoint", "waypoint")];
    const L7: &str = r#"{"spec":{"selector":{"matchLabels":{"app":"cart"}},"action":"ALLOW",
        "rules":[{"to":[{"operation":{"methods":["GET"]}}]}]}}"#;
    check(&[
        Case {
            name: "tunnelled, as it should be",
            labels: &[],
            objects: strict,
            traffic: |world| {
                let (web, cart) = (web(Mesh::Ambient), cart(Mesh::Ambient));
                ambient_client(world, &web, &cart);
                world.connect(30, &tunnelled(&web, &cart));
            },
            expected: &[],
        },
        Case {
            name: "not tunnelled",
            labels: &[],
            objects: permissive,
            traffic: |world| {
                world.connect(30, &Wire::direct(&web(Mesh::Ambient), &cart(Mesh::Ambient)));
            },
            expected: &["M10"],
        },
        Case {
            name: "the server bypasses on purpose",
            labels: &[],
            objects: permissive,
            traffic: |world| {
                let bypass = annotated("ambient.istio.io/bypass-inbound-capture", "true");
                let cart = pod("cart", Mesh::Ambient, bypass);
                world.connect(30, &Wire::direct(&web(Mesh::Ambient), &cart));
            },
            expected: &[],
        },
        Case {
            name: "the client is in no mesh",
            labels: &[],
            objects: permissive,
            traffic: |world| {
                world.connect(30, &Wire::direct(&web(Mesh::None), &cart(Mesh::Ambient)));
            },
            expected: &[],
        },
        Case {
            name: "past the waypoint",
            labels: WAYPOINT,
            objects: nothing,
            traffic: |world| {
                let (web, cart) = (web(Mesh::Ambient), cart(Mesh::Ambient));
                ambient_client(world, &web, &cart);
                world.connect(30, &tunnelled(&web, &cart));
            },
            expected: &["M11"],
        },
        Case {
            name: "pods that are dialled have no waypoint of a Service",
            labels: WAYPOINT,
            objects: nothing,
            traffic: |world| {
                let (web, cart) = (web(Mesh::Ambient), cart(Mesh::Ambient));
                let wire = Wire {
                    namespace: 7,
                    dialled: None,
                    remote: address("10.0.2.2:8080"),
                    ..Wire::to_proxy(&web, &cart, Security::Hbone)
                };
                world.calls(20, &wire, |_, _| {});
                world.connect(30, &tunnelled(&web, &cart));
            },
            expected: &[],
        },
        Case {
            name: "policy for requests without a waypoint",
            labels: &[],
            objects: |world| {
                world.object(PolicyKind::IstioAuthorizationPolicy, "shop/gets", L7);
            },
            traffic: |world| {
                let (web, cart) = (web(Mesh::Ambient), cart(Mesh::Ambient));
                ambient_client(world, &web, &cart);
                world.connect(30, &tunnelled(&web, &cart));
            },
            expected: &["M12"],
        },
        Case {
            name: "policy for requests of another workload",
            labels: &[],
            objects: |world| {
                let other = L7.replace("cart", "other");
                world.object(PolicyKind::IstioAuthorizationPolicy, "shop/gets", &other);
            },
            traffic: |world| {
                let (web, cart) = (web(Mesh::Ambient), cart(Mesh::Ambient));
                ambient_client(world, &web, &cart);
            },
            expected: &[],
        },
    ]);
}

#[test]
fn destination_rules_for_requests_without_a_waypoint() {
    fn rule(world: &mut World, host: &str, policy: &str) {
        let content = format!(r#"{{"spec":{{"host":"{host}","trafficPolicy":{policy}}}}}"#);
        world.object(PolicyKind::DestinationRule, "shop/cart", &content);
    }
    const CART: &str = "cart.shop.svc.cluster.local";
    const WAYPOINT: &[(&str, &str)] = &[("istio.io/use-waypoint", "waypoint")];
    const OUTLIERS: &str = r#"{"outlierDetection":{}}"#;
    for (labels, client, host, policy, expected) in [
        (&[][..], Mesh::Ambient, CART, OUTLIERS, true),
        (
            &[],
            Mesh::Ambient,
            CART,
            r#"{"connectionPool":{"http":{"http2MaxRequests":10}}}"#,
            true,
        ),
        (
            &[],
            Mesh::Ambient,
            CART,
            r#"{"loadBalancer":{"consistentHash":{"httpHeaderName":"user"}}}"#,
            true,
        ),
        // Of connections.
        (
            &[],
            Mesh::Ambient,
            CART,
            r#"{"connectionPool":{"tcp":{"maxConnections":10}},"loadBalancer":{"simple":"RANDOM"}}"#,
            false,
        ),
        (
            &[],
            Mesh::Ambient,
            CART,
            r#"{"tls":{"mode":"ISTIO_MUTUAL"}}"#,
            false,
        ),
        (
            &[],
            Mesh::Ambient,
            "other.shop.svc.cluster.local",
            OUTLIERS,
            false,
        ),
        // Nobody expects it of a client in no mesh.
        (&[], Mesh::None, CART, OUTLIERS, false),
        (WAYPOINT, Mesh::Ambient, CART, OUTLIERS, false),
    ] {
        let mut world = World::shop(labels, |world| rule(world, host, policy));
        let (web, cart) = (web(client), cart(Mesh::Ambient));
        match client {
            Mesh::Ambient => ambient_client(&mut world, &web, &cart),
            _ => world.calls(20, &Wire::direct(&web, &cart), |_, _| {}),
        }
        let found = world.found().contains(&"M12");
        assert_eq!(found, expected, "{labels:?} {client:?} {host} {policy}");
    }
}

#[test]
fn a_waypoint_that_is_passed_over_is_critical_where_policy_is_attached() {
    let mut world = World::shop(&[("istio.io/use-waypoint", "waypoint")], |world| {
        world.object(
            PolicyKind::IstioAuthorizationPolicy,
            "shop/gets",
            r#"{"spec":{"targetRefs":[{"kind":"Service","name":"cart"}],
                "rules":[{"to":[{"operation":{"methods":["GET"]}}]}]}}"#,
        );
    });
    let (web, cart) = (web(Mesh::Ambient), cart(Mesh::Ambient));
    ambient_client(&mut world, &web, &cart);
    world.connect(30, &tunnelled(&web, &cart));
    let report = world.report();
    let found = report.findings.iter().find(|finding| finding.id == "M11");
    let found = found.expect("the waypoint is passed over");
    assert_eq!(found.severity, "critical");
    assert!(found.because.iter().any(|reason| {
        let object = reason.object.as_ref();
        object.is_some_and(|object| object.kind == "AuthorizationPolicy")
    }));
    assert_eq!(found.samples.len(), 5);
}

#[test]
fn identities_networks_and_tls() {
    const DENY: &str = r#"{"spec":{"selector":{"matchLabels":{"app":"cart"}},"action":"DENY",
        "rules":[{"from":[{"source":{"principals":["cluster.local/ns/evil/sa/evil"]}}]}]}}"#;
    fn network(world: &mut World, port: u16) {
        let content = format!(
            r#"{{"spec":{{"podSelector":{{"matchLabels":{{"app":"cart"}}}},
                "ingress":[{{"ports":[{{"port":15008}},{{"port":{port}}}]}}]}}}}"#
        );
        world.object(PolicyKind::NetworkPolicy, "shop/cart", &content);
    }
    fn tunnel(world: &mut World) {
        let (web, cart) = (web(Mesh::Ambient), cart(Mesh::Ambient));
        ambient_client(world, &web, &cart);
        world.connect(30, &tunnelled(&web, &cart));
    }
    fn asks_for(host: &str) -> Wire {
        Wire {
            mesh: Some(MeshSigns {
                subset: Some("".into()),
                port: Some(80),
                host: Some(host.into()),
                server_identity: None,
            }),
            ..Wire::sidecar(&web(Mesh::Sidecar), &cart(Mesh::Sidecar), MUTUAL)
        }
    }
    check(&[
        Case {
            name: "identities that plaintext does not have",
            labels: &[],
            objects: |world| {
                world.object(PolicyKind::IstioAuthorizationPolicy, "shop/deny", DENY);
            },
            traffic: |world| {
                world.connect(20, &Wire::direct(&web(Mesh::None), &cart(Mesh::Sidecar)));
            },
            expected: &["M27"],
        },
        Case {
            name: "with mutual TLS they hold",
            labels: &[],
            objects: |world| {
                world.object(PolicyKind::IstioAuthorizationPolicy, "shop/deny", DENY);
            },
            traffic: |world| {
                let wire = Wire::sidecar(&web(Mesh::Sidecar), &cart(Mesh::Sidecar), MUTUAL);
                world.connect(20, &wire);
            },
            expected: &[],
        },
        Case {
            name: "strict servers refuse plaintext by themselves",
            labels: &[],
            objects: |world| {
                world.mode("STRICT");
                world.object(PolicyKind::IstioAuthorizationPolicy, "shop/deny", DENY);
            },
            traffic: |world| {
                world.connect(20, &Wire::direct(&web(Mesh::None), &cart(Mesh::Sidecar)));
            },
            expected: &["M01"],
        },
        Case {
            name: "a NetworkPolicy that the tunnel voids",
            labels: &[],
            objects: |world| network(world, 9090),
            traffic: tunnel,
            expected: &["M30"],
        },
        Case {
            name: "a NetworkPolicy that lets the port pass",
            labels: &[],
            objects: |world| network(world, 8080),
            traffic: tunnel,
            expected: &[],
        },
        Case {
            name: "a Service that does not choose the pod",
            labels: &[],
            objects: |world| world.service("other", &[]),
            traffic: |world| world.connect(20, &asks_for("other.shop.svc.cluster.local")),
            expected: &["M31"],
        },
        Case {
            name: "a Service that does not choose the pod, on a connection that is kept",
            labels: &[],
            objects: |world| world.service("other", &[]),
            traffic: |world| {
                let (web, cart) = (web(Mesh::Sidecar), cart(Mesh::Sidecar));
                let own = Wire {
                    dialled: Some(Arc::new(Service {
                        name: "other".into(),
                        ..(*cart_service()).clone()
                    })),
                    ..Wire::to_proxy(&web, &cart, MUTUAL)
                };
                world.calls(20, &own, |_, _| {});
                let wire = asks_for("other.shop.svc.cluster.local");
                let link = world.open(&wire);
                for _ in 0..4 {
                    world.pass(601);
                    world.progress(&wire, &link);
                }
            },
            expected: &["M31"],
        },
        Case {
            name: "a Service that a gateway answers for",
            labels: &[],
            objects: |world| world.service("other", &[]),
            traffic: |world| {
                let labels = labelled("istio", "eastwestgateway");
                let gateway = pod("cart", Mesh::Sidecar, labels);
                let wire = Wire {
                    peer: Peer::Pod(gateway),
                    ..asks_for("other.shop.svc.cluster.local")
                };
                world.connect(20, &wire);
            },
            expected: &[],
        },
        Case {
            name: "the Service that chooses it",
            labels: &[],
            objects: nothing,
            traffic: |world| world.connect(20, &asks_for("cart.shop.svc.cluster.local")),
            expected: &[],
        },
        Case {
            name: "a Service that nothing is known of",
            labels: &[],
            objects: nothing,
            traffic: |world| world.connect(20, &asks_for("api.example.com")),
            expected: &[],
        },
        Case {
            name: "an old version where only a new one is declared, on a connection that is kept",
            labels: &[],
            objects: |world| {
                let mesh = r#"{"mesh":"meshMTLS: {minProtocolVersion: TLSV1_3}"}"#;
                world.object(PolicyKind::MeshConfig, "istio-system/istio", mesh);
            },
            traffic: |world| {
                let (web, cart) = (web(Mesh::Sidecar), cart(Mesh::Sidecar));
                world.calls(20, &Wire::to_proxy(&web, &cart, MUTUAL), |_, _| {});
                let wire = Wire {
                    opening: Some(tls(0x0303, 0xc02f)),
                    ..Wire::sidecar(&web, &cart, MUTUAL)
                };
                world.keep(&wire);
            },
            expected: &["M32"],
        },
        Case {
            name: "an old cipher",
            labels: &[],
            objects: nothing,
            traffic: |world| {
                let wire = Wire {
                    opening: Some(tls(0x0303, 0x002f)),
                    ..Wire::sidecar(&web(Mesh::Sidecar), &cart(Mesh::Sidecar), MUTUAL)
                };
                world.connect(20, &wire);
            },
            expected: &["M32"],
        },
        Case {
            name: "an old cipher of who is outside",
            labels: &[],
            objects: nothing,
            traffic: |world| {
                let outside = Peer::Address(std::net::IpAddr::from([192, 0, 2, 1]));
                let wire = Wire {
                    opening: Some(tls(0x0303, 0x002f)),
                    ..Wire::into_sidecar(&cart(Mesh::Sidecar), outside, MUTUAL)
                };
                world.connect(20, &wire);
            },
            expected: &[],
        },
        Case {
            name: "two proxies in one pod",
            labels: &[],
            objects: nothing,
            traffic: |world| {
                let both = annotated("ambient.istio.io/redirection", "enabled");
                let cart = pod("cart", Mesh::Sidecar, both);
                world.connect(20, &Wire::sidecar(&web(Mesh::Sidecar), &cart, MUTUAL));
            },
            expected: &["M34"],
        },
        Case {
            name: "a sidecar in a namespace in ambient mode",
            labels: &[("istio.io/dataplane-mode", "ambient")],
            objects: nothing,
            traffic: |world| {
                let wire = Wire::sidecar(&web(Mesh::Sidecar), &cart(Mesh::Sidecar), MUTUAL);
                world.connect(20, &wire);
            },
            expected: &[],
        },
    ]);
}

#[test]
fn linkerd() {
    const INJECTED: &[(&str, &str)] = &[];
    fn authenticated(world: &mut World) {
        let policy = (
            "config.linkerd.io/default-inbound-policy",
            "all-authenticated",
        );
        world.namespace("shop", &[], &[policy, ("linkerd.io/inject", "enabled")]);
    }
    fn asks_for(identity: &str) -> Wire {
        Wire {
            remote: address("10.0.2.2:4143"),
            mesh: Some(MeshSigns {
                server_identity: Some(identity.into()),
                ..MeshSigns::default()
            }),
            ..Wire::sidecar(
                &web(Mesh::Linkerd),
                &cart(Mesh::Linkerd),
                Security::LinkerdMutualTls,
            )
        }
    }
    check(&[
        Case {
            name: "the identity of the pod",
            labels: INJECTED,
            objects: authenticated,
            traffic: |world| {
                let name = "cart.shop.serviceaccount.identity.linkerd.cluster.local";
                world.connect(30, &asks_for(name));
            },
            expected: &[],
        },
        Case {
            name: "another identity than the pod's",
            labels: INJECTED,
            objects: authenticated,
            traffic: |world| {
                let name = "other.shop.serviceaccount.identity.linkerd.cluster.local";
                world.connect(30, &asks_for(name));
            },
            expected: &["M31"],
        },
        Case {
            name: "plaintext where only the mesh may call",
            labels: INJECTED,
            objects: authenticated,
            traffic: |world| {
                let client = pod(
                    "web",
                    Mesh::None,
                    annotated("linkerd.io/inject", "disabled"),
                );
                world.connect(30, &Wire::direct(&client, &cart(Mesh::Linkerd)));
            },
            expected: &["M01"],
        },
        Case {
            name: "a server that lost its proxy",
            labels: INJECTED,
            objects: authenticated,
            traffic: |world| {
                let wire = Wire {
                    dialled: Some(cart_service()),
                    ..Wire::sidecar(&web(Mesh::Linkerd), &cart(Mesh::None), PLAIN)
                };
                world.connect(30, &wire);
            },
            expected: &["M06", "M09"],
        },
        Case {
            name: "a port that the proxy does not take",
            labels: INJECTED,
            objects: authenticated,
            traffic: |world| {
                let skip = annotated("config.linkerd.io/skip-inbound-ports", "8080");
                let cart = pod("cart", Mesh::Linkerd, skip);
                let web = pod(
                    "web",
                    Mesh::None,
                    annotated("linkerd.io/inject", "disabled"),
                );
                world.connect(30, &Wire::direct(&web, &cart));
                world.connect(30, &Wire::into_app(&cart, peer(&web)));
            },
            expected: &[],
        },
        Case {
            name: "a NetworkPolicy that the proxy's port voids",
            labels: INJECTED,
            objects: |world| {
                authenticated(world);
                world.object(
                    PolicyKind::NetworkPolicy,
                    "shop/cart",
                    r#"{"spec":{"podSelector":{"matchLabels":{"app":"cart"}},
                        "ingress":[{"ports":[{"port":4143}]}]}}"#,
                );
            },
            traffic: |world| {
                let (web, cart) = (web(Mesh::Linkerd), cart(Mesh::Linkerd));
                let mutual = Security::LinkerdMutualTls;
                world.calls(30, &Wire::from_proxy(&cart, peer(&web), mutual), |_, _| {});
                let wire = Wire {
                    local: address("10.0.2.2:4143"),
                    ..Wire::into_sidecar(&cart, peer(&web), mutual)
                };
                world.connect(30, &wire);
            },
            expected: &["M30"],
        },
    ]);
}

mod edges;
mod over;
mod properties;
mod stale;
