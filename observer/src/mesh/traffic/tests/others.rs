//! Hosts outside, protocols of ports, what nobody uses, and what it costs.

use serde_json::json;

use super::*;
use crate::model::{
    connection::{ClosedBy, Transfer},
    security::{Handshake, MeshSigns, Opening},
};

mod bounds;

fn outside(world: &mut World, address: &str, name: Option<&str>) -> Link {
    let number = world.number();
    let address = fixture::address(address);
    let peer = match name {
        Some(name) => Peer::Named {
            name: name.into(),
            address: address.ip(),
        },
        None => Peer::Address(address.ip()),
    };
    let own = Peer::Pod(client());
    let mut link = fixture::link(number, &client(), Role::Client, Hop::ToProxy, own);
    link.connection.remote = address;
    link.far = fixture::far(&client(), peer, Security::Unknown, None);
    link
}

fn only_declared(world: &mut World) {
    let mut change = fixture::object(PolicyKind::MeshConfig, "istio-system", "istio", &json!({}));
    if let PolicyChange::Set(object) = &mut change {
        let mesh = "outboundTrafficPolicy:\n  mode: REGISTRY_ONLY\n";
        Arc::make_mut(object).content = json!({ "mesh": mesh }).to_string().into();
    }
    world.declare(change);
}

fn entry(hosts: &[&str]) -> Value {
    json!({"hosts": hosts, "location": "MESH_EXTERNAL", "resolution": "DNS",
        "ports": [{"number": 443, "name": "https", "protocol": "HTTPS"},
            {"number": 80, "name": "http", "protocol": "HTTP"}]})
}

#[test]
fn hosts_outside_that_are_not_declared_are_found() {
    for (closed, declared, authority, status, own, expected) in [
        (
            true,
            None,
            "api.example.com",
            200,
            false,
            vec![("M28", "high")],
        ),
        (
            true,
            None,
            "api.example.com",
            502,
            true,
            vec![("M28", "medium")],
        ),
        (
            true,
            Some("api.example.com"),
            "api.example.com",
            200,
            false,
            vec![],
        ),
        (
            true,
            Some("*.example.com"),
            "api.example.com",
            200,
            false,
            vec![],
        ),
        (
            false,
            Some("other.example.com"),
            "api.example.com",
            200,
            false,
            vec![("M28", "low")],
        ),
        // Nobody declares anything: then nothing is missing.
        (false, None, "api.example.com", 200, false, vec![]),
        // Only an address, which may be anybody's.
        (true, None, "192.0.2.1", 200, false, vec![]),
    ] {
        let mut world = World::new();
        if closed {
            only_declared(&mut world);
        }
        if let Some(host) = declared {
            world.object(PolicyKind::ServiceEntry, "out", entry(&[host]));
        }
        world.settle();
        let link = Arc::new(outside(&mut world, "192.0.2.1:80", None));
        let asked = Asked {
            authority,
            status: Some(status),
            ..get("/")
        };
        for _ in 0..30 {
            world.call(&link, asked, Some(fixture::by_envoy(own)));
        }
        let findings = world.findings();
        let found: Vec<(&str, &str)> = findings.iter().map(|it| (it.id, it.severity)).collect();
        assert_eq!(
            found, expected,
            "{closed} {declared:?} {authority} {status}"
        );
        assert!(
            findings
                .iter()
                .all(|it| it.summary.contains("api.example.com"))
        );
    }
}

#[test]
fn connections_outside_are_known_by_the_name_in_tls() {
    for (received_bytes, expected) in [(5_000, 1), (0, 0)] {
        let mut world = World::new();
        only_declared(&mut world);
        world.settle();
        let mut link = outside(&mut world, "192.0.2.1:443", Some("cdn.example.net"));
        link.opening = Some(Arc::new(Opening {
            protocol: Some("tls"),
            tls: Some(Arc::new(Handshake {
                server_name: Some("pay.example.com".into()),
                ..Handshake::default()
            })),
            ..Opening::default()
        }));
        let event = LinkEvent::Closed {
            link: Arc::new(link),
            at: world.now,
            by: ClosedBy::Local,
            reset: false,
            transfer: Transfer {
                received_bytes,
                sent_bytes: 500,
                ..Transfer::default()
            },
        };
        world.traffic.link(&world.policies, &event, world.now);
        let findings = world.findings();
        assert_eq!(findings.len(), expected);
        assert!(
            findings
                .iter()
                .all(|it| it.summary.contains("pay.example.com"))
        );
    }
}

#[test]
fn gateways_that_are_gone_past_are_found() {
    const NAME: &str = "api.example.com";
    const GATEWAY: &str = "egress.istio-system.svc.cluster.local";
    fn leads(world: &mut World, to: &str, tls: bool) {
        let route = json!([{"destination": {"host": to, "port": {"number": 443}}}]);
        let spec = match tls {
            true => json!({"hosts": [NAME], "gateways": ["mesh", "istio-system/egress"], "tls": [
                {"match": [{"gateways": ["mesh"], "port": 443, "sniHosts": [NAME]}], "route": route},
                {"match": [{"gateways": ["istio-system/egress"], "port": 443, "sniHosts": [NAME]}],
                    "route": [{"destination": {"host": NAME}}]},
            ]}),
            false => json!({"hosts": [NAME], "http": [{"route": route}]}),
        };
        world.object(PolicyKind::VirtualService, "egress", spec);
    }
    fn tls(link: Link, hop: Hop, name: &str) -> Link {
        Link {
            hop,
            far: None,
            peer: Peer::Address([192, 0, 2, 1].into()),
            opening: Some(Arc::new(Opening {
                protocol: Some("tls"),
                tls: Some(Arc::new(Handshake {
                    server_name: Some(name.into()),
                    ..Handshake::default()
                })),
                ..Opening::default()
            })),
            ..link
        }
    }
    let proxy = Hop::Proxy(crate::model::mesh::ProxyKind::Sidecar);
    let gateway = Hop::Proxy(crate::model::mesh::ProxyKind::Gateway);
    for (to, hop, name, times, wait, expected) in [
        (GATEWAY, proxy, NAME, 20, 61, 1),
        (GATEWAY, Hop::Direct, NAME, 20, 61, 1),
        (GATEWAY, proxy, NAME, 19, 61, 0),
        (GATEWAY, proxy, NAME, 20, 30, 0),
        // The application's connection to its proxy tells nothing of the way on.
        (GATEWAY, Hop::ToProxy, NAME, 20, 61, 0),
        // What the gateway itself sends is to go there.
        (GATEWAY, gateway, NAME, 20, 61, 0),
        (GATEWAY, proxy, "other.example.com", 20, 61, 0),
        (NAME, proxy, NAME, 20, 61, 0),
    ] {
        let mut world = World::new();
        world.object(PolicyKind::ServiceEntry, "out", entry(&["*.example.com"]));
        world.settle();
        leads(&mut world, to, true);
        world.pass(Duration::from_secs(wait));
        for _ in 0..times {
            let link = outside(&mut world, "192.0.2.1:443", None);
            let link = Arc::new(tls(link, hop, name));
            let event = LinkEvent::Recognised {
                link: link.clone(),
                at: world.now,
            };
            world.traffic.link(&world.policies, &event, world.now);
            let event = LinkEvent::Closed {
                link,
                at: world.now,
                by: ClosedBy::Local,
                reset: false,
                transfer: Transfer {
                    received_bytes: 5_000,
                    sent_bytes: 500,
                    ..Transfer::default()
                },
            };
            world.traffic.link(&world.policies, &event, world.now);
        }
        let findings = world.findings();
        let found = findings.iter().filter(|it| it.id == "M28");
        let found: Vec<_> = found.map(|it| (it.count, &*it.summary)).collect();
        assert_eq!(
            found.len(),
            expected,
            "{to} {hop:?} {name} {times} {found:?}"
        );
        assert!(found.iter().all(|it| it.0 == 20 && it.1.contains(NAME)));
    }
    // Requests of an application that goes past its proxy.
    for (to, expected) in [(GATEWAY, 1), (NAME, 0)] {
        let mut world = World::new();
        world.object(PolicyKind::ServiceEntry, "out", entry(&[NAME]));
        leads(&mut world, to, false);
        world.settle();
        let link = outside(&mut world, "192.0.2.1:80", None);
        let link = Arc::new(Link {
            hop: Hop::Direct,
            far: None,
            peer: Peer::Address([192, 0, 2, 1].into()),
            ..link
        });
        let asked = Asked {
            authority: NAME,
            ..get("/")
        };
        for _ in 0..30 {
            world.call(&link, asked, None);
        }
        let findings = world.findings();
        let found = findings.iter().filter(|it| it.id == "M28").count();
        assert_eq!(found, expected, "{to} {findings:?}");
    }
}

pub(super) fn recognised(world: &mut World, times: u64, mut link: Link, protocol: &'static str) {
    link.opening = Some(Arc::new(Opening {
        protocol: Some(protocol),
        ..Opening::default()
    }));
    for _ in 0..times {
        link.connection.id = ConnectionId(world.number());
        let event = LinkEvent::Recognised {
            link: Arc::new(link.clone()),
            at: world.now,
        };
        // It is told again when more is known, and counts once.
        world.traffic.link(&world.policies, &event, world.now);
        world.traffic.link(&world.policies, &event, world.now);
    }
}

#[test]
fn ports_that_speak_something_else_are_found() {
    for (name, right, wrong, protocol, expected) in [
        ("http", 0, 20, "tls", 1),
        ("http", 0, 19, "tls", 0),
        ("http", 30, 20, "tls", 0),
        ("http", 0, 20, "redis", 1),
        ("tcp-cart", 0, 20, "http/1", 1),
        ("tcp-cart", 0, 20, "tls", 0),
        ("", 0, 20, "tls", 0),
        ("", 0, 20, "mysql", 1),
        ("http2", 0, 20, "http/1", 0),
    ] {
        let mut world = World::new();
        let selector = [("app", "cart")];
        world.declare(fixture::service(
            "shop",
            "cart",
            &selector,
            &[(name, 80, 8080)],
        ));
        world.settle();
        let link = world.client_socket(&client(), None);
        recognised(&mut world, right, link.clone(), "http/1");
        recognised(&mut world, wrong, link, protocol);
        let findings = world.findings();
        assert_eq!(findings.len(), expected, "{name} {protocol}");
        for finding in findings {
            assert_eq!(
                (finding.id, finding.port, finding.count),
                ("M29", 8080, wrong)
            );
            assert_eq!(finding.workload.name, "cart");
        }
    }
    // Of pods without a mesh nothing is said.
    let mut world = World::new();
    let selector = [("app", "cart")];
    world.declare(fixture::service(
        "shop",
        "cart",
        &selector,
        &[("http", 80, 8080)],
    ));
    let plain = fixture::pod("shop", "cron", &[], &[]);
    let peer = Peer::Pod(server("v1"));
    let mut link = fixture::link(0, &plain, Role::Client, Hop::Direct, peer);
    link.dialled = fixture::dialled("shop", "cart");
    recognised(&mut world, 30, link, "tls");
    assert_eq!(world.found(), [""; 0]);
}

#[test]
fn what_is_declared_and_never_used_is_found() {
    let mut world = World::new();
    let hosts = ["api.example.com", "old.example.com"];
    world.object(PolicyKind::ServiceEntry, "out", entry(&hosts));
    world.object(
        PolicyKind::Sidecar,
        "default",
        json!({"egress": [{"hosts": ["./*", "istio-system/*", "shop/cart.shop.svc.cluster.local",
            "other/unused.other.svc.cluster.local", "*/api.example.com"]}]}),
    );
    world.object(
        PolicyKind::VirtualService,
        "cart",
        routes(json!([{"route": [to("v1", 100)]}])),
    );
    world.settle();
    world.sent(30, get("/"), None);
    world.arrived(30, &server("v1"), get("/"), attempt(1));
    let link = Arc::new(outside(&mut world, "192.0.2.1:80", None));
    let asked = Asked {
        authority: "api.example.com",
        ..get("/")
    };
    for _ in 0..30 {
        world.call(&link, asked, None);
    }
    assert_eq!(world.found(), [""; 0]);
    world.pass(Duration::from_secs(3_600));
    let mut summaries: Vec<String> = world
        .findings()
        .into_iter()
        .map(|finding| {
            assert_eq!(finding.id, "M36");
            finding.summary
        })
        .collect();
    summaries.sort();
    assert_eq!(summaries.len(), 3, "{summaries:?}");
    for (summary, part) in
        summaries
            .iter()
            .zip(["subset v2 of cart.shop", "old.example.com", "unused.other"])
    {
        assert!(summary.contains(part), "{part}: {summary}");
    }
}

#[test]
fn subsets_on_the_wire_are_held_against_rules() {
    for (subset, expected) in [("v1", false), ("v2", true), ("", false)] {
        let mut world = World::new();
        let spec = routes(json!([{"route": [to("v1", 100)]}]));
        world.object(PolicyKind::VirtualService, "cart", spec);
        world.settle();
        let peer = Peer::Pod(server("v1"));
        let hop = Hop::Proxy(crate::model::mesh::ProxyKind::Sidecar);
        let mut link = fixture::link(0, &client(), Role::Client, hop, peer);
        link.mesh = Some(Arc::new(MeshSigns {
            subset: Some(subset.into()),
            port: Some(80),
            host: Some("cart.shop.svc.cluster.local".into()),
            server_identity: None,
        }));
        recognised(&mut world, 30, link, "tls");
        assert_eq!(world.found().contains(&"M14"), expected, "{subset}");
    }
}

#[test]
fn pods_that_are_left_out_after_failures_are_found() {
    for (ejects, failures, later, wait, expected) in [
        (true, 5, 40, 31, vec!["M23"]),
        (false, 5, 40, 31, vec![]),
        (true, 4, 40, 31, vec![]),
        // So few that it may be chance.
        (true, 5, 39, 31, vec![]),
        (true, 5, 40, 10, vec![]),
    ] {
        let mut world = World::new();
        if ejects {
            let outliers = json!({"consecutive5xxErrors": 5});
            let spec = json!({"host": "cart", "trafficPolicy": {"outlierDetection": outliers}});
            world.object(PolicyKind::DestinationRule, "cart", spec);
        }
        world.settle();
        let (bad, good) = (server("v1"), server("v1"));
        let mut good = (*good).clone();
        good.uid = "another".into();
        let good = Arc::new(good);
        let failed = Asked {
            status: Some(503),
            ..get("/")
        };
        world.arrived(1, &good, get("/"), None);
        world.arrived(1, &bad, get("/"), None);
        world.arrived(failures, &bad, failed, None);
        world.arrived(later, &good, get("/"), None);
        world.pass(Duration::from_secs(wait));
        assert_eq!(
            world.found(),
            expected,
            "{ejects} {failures} {later} {wait}"
        );
        // It gets requests again.
        world.arrived(1, &bad, get("/"), None);
        assert_eq!(world.found(), [""; 0]);
    }
}
