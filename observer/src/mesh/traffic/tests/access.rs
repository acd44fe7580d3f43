//! Who may call: what policy says, what is done, and what nobody uses.

use serde_json::json;

use super::*;
use crate::{
    mesh::findings::Id,
    model::{
        connection::{ClosedBy, Transfer},
        kubernetes::Node,
    },
};

fn allow(rules: Value) -> Value {
    json!({"selector": {"matchLabels": {"app": "cart"}}, "action": "ALLOW", "rules": rules})
}

fn from(principals: &[&str]) -> Value {
    json!([{"source": {"principals": principals}}])
}

const WEB: &str = "cluster.local/ns/shop/sa/web";

fn with(policy: Value) -> World {
    let mut world = World::new();
    world.object(PolicyKind::IstioAuthorizationPolicy, "cart", policy);
    world.settle();
    world
}

#[test]
fn what_passes_against_policy_is_found() {
    for (policy, expected, verdict, counts) in [
        (
            allow(json!([{"from": from(&[WEB])}])),
            0,
            "satisfied",
            (30, 0, 0),
        ),
        (
            allow(json!([{"from": from(&["cluster.local/ns/shop/sa/other"])}])),
            1,
            "violated",
            (0, 30, 0),
        ),
        (
            json!({"action": "DENY", "rules": [{"to": [{"operation": {"methods": ["GET"]}}]}]}),
            1,
            "violated",
            (0, 30, 0),
        ),
        (
            json!({"action": "DENY", "rules": [{"to": [{"operation": {"methods": ["PUT"]}}]}]}),
            0,
            "satisfied",
            (30, 0, 0),
        ),
        // Of claims nothing is seen.
        (
            allow(json!([{"when": [{"key": "request.auth.claims[sub]", "values": ["me"]}]}])),
            0,
            "unknown",
            (0, 0, 30),
        ),
        (
            json!({"action": "CUSTOM", "provider": {"name": "ask"}, "rules": [{}]}),
            0,
            "unknown",
            (0, 0, 30),
        ),
    ] {
        let mut world = with(policy.clone());
        world.arrived(30, &server("v1"), get("/"), None);
        let report = world.report();
        let [authorization] = report.authorizations.as_slice() else {
            panic!("{:?}", report.authorizations);
        };
        assert_eq!(authorization.verdict, verdict, "{policy}");
        let found = (
            authorization.allowed,
            authorization.denied,
            authorization.unknown,
        );
        assert_eq!(found, counts, "{policy}");
        let identity = authorization.identity.as_deref();
        assert_eq!(identity, Some("spiffe://cluster.local/ns/shop/sa/web"));
        assert_eq!(authorization.port, 8080);
        let drift: Vec<&Finding> = report.findings.iter().filter(|it| it.id == "M25").collect();
        assert_eq!(drift.len(), expected, "{policy}");
        if let Some(drift) = drift.first() {
            assert_eq!((drift.count, drift.severity), (30, "critical"));
            assert_eq!(drift.samples.len(), 5);
            assert_eq!(drift.samples[0].request, "GET /");
            let objects = drift.because.iter().filter_map(|it| it.object.as_ref());
            assert_eq!(objects.count(), 1);
            assert_eq!(drift.peer.as_ref().expect("a peer").name, "web");
        }
    }
}

#[test]
fn a_policy_is_given_time_to_arrive() {
    let denied = || allow(json!([{"from": from(&["cluster.local/ns/shop/sa/other"])}]));
    let mut world = World::new();
    world.object(PolicyKind::IstioAuthorizationPolicy, "cart", denied());
    world.arrived(30, &server("v1"), get("/"), None);
    world.tick();
    world.arrived(30, &server("v1"), get("/"), None);
    world.pass(Duration::from_secs(50));
    world.arrived(30, &server("v1"), get("/"), None);
    assert_eq!(world.found(), [""; 0]);
    world.pass(Duration::from_secs(12));
    world.arrived(1, &server("v1"), get("/"), None);
    assert_eq!(world.found(), ["M25"]);

    // What changes elsewhere has nothing to do with it.
    let mut world = with(denied());
    let spec = denied();
    world.declare(fixture::object(
        PolicyKind::IstioAuthorizationPolicy,
        "elsewhere",
        "cart",
        &spec,
    ));
    world.tick();
    world.arrived(1, &server("v1"), get("/"), None);
    assert_eq!(world.found(), ["M25"]);

    // A policy that is gone may be followed still.
    let mut world = with(denied());
    world.object(
        PolicyKind::IstioAuthorizationPolicy,
        "web",
        allow(json!([{"from": from(&[WEB])}])),
    );
    world.settle();
    world.arrived(1, &server("v1"), get("/"), None);
    world.declare(PolicyChange::Remove(
        PolicyKind::IstioAuthorizationPolicy,
        "IstioAuthorizationPolicy-shop-web".into(),
    ));
    world.tick();
    world.arrived(30, &server("v1"), get("/"), None);
    assert!(!world.found().contains(&"M25"));
}

#[test]
fn what_is_only_logged_is_no_drift() {
    let mut world = World::new();
    let spec = allow(json!([{"from": from(&["cluster.local/ns/shop/sa/other"])}]));
    let PolicyChange::Set(object) =
        fixture::object(PolicyKind::IstioAuthorizationPolicy, "shop", "cart", &spec)
    else {
        panic!("an object");
    };
    let mut object = (*object).clone();
    object.annotations = [("istio.io/dry-run".into(), "true".into())].into();
    world.declare(PolicyChange::Set(Arc::new(object)));
    world.settle();
    world.arrived(30, &server("v1"), get("/"), None);
    assert_eq!(world.found(), [""; 0]);
    assert_eq!(world.report().authorizations[0].verdict, "satisfied");
}

#[test]
fn refusals_against_policy_are_found() {
    let allowed = allow(json!([{"from": from(&[WEB])}]));
    let denied = allow(json!([{"from": from(&["cluster.local/ns/shop/sa/other"])}]));
    for (policy, status, own, body, expected) in [
        (&allowed, 403, false, 19, 1),
        (&allowed, 403, true, 0, 1),
        // The application refuses what it likes.
        (&allowed, 403, false, 120, 0),
        (&allowed, 200, false, 19, 0),
        (&denied, 403, false, 19, 0),
    ] {
        let mut world = with(policy.clone());
        let link = Arc::new(world.client_socket(&client(), Some(&server("v1"))));
        for _ in 0..10 {
            world.now = world.now.plus(Duration::from_millis(1));
            let took = Duration::from_millis(1);
            let head = ("GET", "/", "cart");
            let mut call = fixture::call(&link, head, Some(status), world.now, took);
            call.exchange.forwarded = Some(Arc::new(fixture::by_envoy(own)));
            if let Some(received) = &mut call.exchange.received {
                received.body_bytes = body;
            }
            world.traffic.call(&world.policies, &call, world.now);
        }
        let report = world.report();
        let drift: Vec<&Finding> = report.findings.iter().filter(|it| it.id == "M25").collect();
        assert_eq!(drift.len(), expected, "{policy} {status} {own} {body}");
        assert!(drift.iter().all(|it| it.severity == "medium"));
        let refused: u64 = report.authorizations.iter().map(|it| it.refused).sum();
        assert_eq!(refused > 0, status == 403 && (own || body == 19));
    }
}

#[test]
fn probes_and_own_traffic_are_no_callers() {
    let mut world = with(allow(json!([])));
    let own = Peer::Pod(server("v1"));
    let node = Peer::Node(Arc::new(Node::default()));
    for (peer, remote, port) in [
        (node, "10.0.0.250:40000", 8080),
        (own, "10.0.0.2:40000", 8080),
        (
            Peer::Address([127, 0, 0, 1].into()),
            "127.0.0.1:40000",
            8080,
        ),
        (Peer::Pod(client()), "169.254.7.127:40000", 8080),
        (Peer::Pod(client()), "10.0.0.1:40000", 15_020),
    ] {
        let number = world.number();
        let mut link = fixture::link(number, &server("v1"), Role::Server, Hop::Direct, peer);
        link.connection.remote = fixture::address(remote);
        link.connection.local.set_port(port);
        let link = Arc::new(link);
        for _ in 0..30 {
            world.call(&link, get("/"), None);
        }
    }
    // Also behind a proxy.
    let link = Arc::new(world.server_socket(&server("v1"), &client()));
    let took = Duration::from_millis(1);
    let mut call = fixture::call(&link, ("GET", "/", "cart"), Some(200), world.now, took);
    call.probe = true;
    world.traffic.call(&world.policies, &call, world.now);
    assert_eq!(world.found(), [""; 0]);
    assert_eq!(world.report().authorizations, []);
}

#[test]
fn connections_are_judged_without_requests() {
    for (port, expected) in [("5432", 0), ("1", 1)] {
        let mut world = with(json!({
            "selector": {"matchLabels": {"app": "cart"}},
            "rules": [{"from": from(&[WEB]), "to": [{"operation": {"ports": [port]}}]}],
        }));
        let mut link = world.server_socket(&server("v1"), &client());
        link.connection.local.set_port(5432);
        let link = Arc::new(link);
        world.now = world.now.plus(Duration::from_secs(1));
        for (sent_bytes, understood_bytes) in [(10, 0), (0, 0), (10, 20)] {
            let event = LinkEvent::Closed {
                link: link.clone(),
                at: world.now,
                by: ClosedBy::Local,
                reset: false,
                transfer: Transfer {
                    received_bytes: 10,
                    sent_bytes,
                    understood_bytes,
                    ..Transfer::default()
                },
            };
            world.traffic.link(&world.policies, &event, world.now);
        }
        let report = world.report();
        let drift = report.findings.iter().filter(|it| it.id == "M25");
        assert_eq!(drift.map(|it| it.count).sum::<u64>(), expected);
        let [authorization] = report.authorizations.as_slice() else {
            panic!("{:?}", report.authorizations);
        };
        assert_eq!(authorization.allowed + authorization.denied, 1);
    }
}

#[test]
fn what_is_allowed_and_never_used_is_found() {
    let other = "cluster.local/ns/shop/sa/other";
    let rules = json!([{
        "from": from(&[WEB, other]),
        "to": [{"operation": {"methods": ["GET", "DELETE"], "paths": ["/*", "/admin/*"]}}],
    }]);
    let mut world = with(allow(rules));
    let asked = Asked {
        path: "/items/7",
        ..get("/")
    };
    world.arrived(30, &server("v1"), asked, None);
    // It may be used yet.
    assert_eq!(world.found(), [""; 0]);
    world.pass(Duration::from_secs(3_600));
    let findings = world.findings();
    let [finding] = findings.as_slice() else {
        panic!("{findings:?}");
    };
    assert_eq!(finding.id, Id::M26.entry().code);
    assert_eq!(finding.count, 30);
    let summary = &finding.summary;
    for part in [
        "identity cluster.local/ns/shop/sa/other",
        "method DELETE",
        "path /admin/*",
        r#"{"rules":[{"from":[{"source":{"principals":["cluster.local/ns/shop/sa/web"]}}],"to":[{"operation":{"methods":["GET"],"paths":["/items/7"]}}]}]}"#,
    ] {
        assert!(summary.contains(part), "{part}: {summary}");
    }
    assert!(!summary.contains("sa/web,"), "{summary}");

    // All of it is used.
    let mut world = with(allow(json!([{"from": from(&[WEB])}])));
    world.arrived(30, &server("v1"), get("/"), None);
    world.pass(Duration::from_secs(3_600));
    assert_eq!(world.found(), [""; 0]);

    // Nobody calls at all.
    let mut world = with(allow(json!([{"from": from(&[other])}])));
    world.pass(Duration::from_secs(3_600));
    assert_eq!(world.found(), [""; 0]);
}

#[test]
fn least_is_not_said_of_callers_without_identity() {
    let mut world = with(allow(
        json!([{"to": [{"operation": {"methods": ["GET", "PUT"]}}]}]),
    ));
    let mut link = world.server_socket(&server("v1"), &client());
    let peer = Peer::Pod(client());
    link.far = fixture::far(&server("v1"), peer, Security::Plaintext, None);
    let link = Arc::new(link);
    for _ in 0..30 {
        world.call(&link, get("/"), None);
    }
    world.pass(Duration::from_secs(3_600));
    let findings = world.findings();
    assert_eq!(findings.len(), 1);
    assert!(findings[0].summary.contains("method PUT"));
    assert!(!findings[0].summary.contains("least"));
}
