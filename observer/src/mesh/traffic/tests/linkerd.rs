//! Linkerd's objects, and traffic between its pods.

use serde_json::json;

use super::*;
use crate::model::{connection::ConnectionId, security::Opening};

const PROXY: &str = "linkerd-proxy";
const CONTROL: (&str, &str) = ("linkerd.io/control-plane-ns", "linkerd");

fn meshed(name: &str, version: &str) -> Arc<Pod> {
    let labels = [("app", name), ("version", version), CONTROL];
    fixture::pod("shop", name, &labels, &[PROXY])
}

fn accepted(world: &mut World, kind: PolicyKind, name: &str, spec: &Value) {
    let PolicyChange::Set(object) = fixture::object(kind, "shop", name, spec) else {
        panic!("an object");
    };
    let mut object = (*object).clone();
    let conditions = json!([{"type": "Accepted", "status": "True"},
        {"type": "ResolvedRefs", "status": "True"}]);
    let status = json!({"parents": [{"parentRef": spec["parentRefs"][0],
        "controllerName": "linkerd.io/policy-controller", "conditions": conditions}]});
    object.content = json!({"spec": spec, "status": status}).to_string().into();
    world.declare(PolicyChange::Set(Arc::new(object)));
}

fn world() -> World {
    let mut world = World::new();
    world.declare(PolicyChange::Remove(
        PolicyKind::DestinationRule,
        "DestinationRule-shop-cart".into(),
    ));
    world.settle();
    let ports = [("http", 80, 8080)];
    for version in ["v1", "v2"] {
        let selector = [("app", "cart"), ("version", version)];
        let name = format!("cart-{version}");
        world.declare(fixture::service("shop", &name, &selector, &ports));
    }
    world
}

fn route(first: u32, second: u32) -> Value {
    json!({
        "parentRefs": [{"group": "", "kind": "Service", "name": "cart", "port": 80}],
        "rules": [{
            "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
            "backendRefs": [
                {"name": "cart-v1", "port": 80, "weight": first},
                {"name": "cart-v2", "port": 80, "weight": second},
            ],
        }],
    })
}

/// As many requests at the client as at the servers.
fn traffic(world: &mut World, first: u64, second: u64) {
    let web = meshed("web", "v1");
    let link = Arc::new(world.client_socket(&web, None));
    for _ in 0..first + second {
        world.call(&link, get("/"), None);
    }
    for (times, version) in [(first, "v1"), (second, "v2")] {
        let link = Arc::new(world.server_socket(&meshed("cart", version), &web));
        for _ in 0..times {
            world.call(&link, get("/"), None);
        }
    }
}

#[test]
fn shares_of_services_are_held_against_routes() {
    for kind in [PolicyKind::LinkerdHttpRoute, PolicyKind::HttpRoute] {
        for (first, second, expected) in [(900, 100, "satisfied"), (700, 300, "violated")] {
            let mut world = world();
            accepted(&mut world, kind, "cart", &route(90, 10));
            world.settle();
            traffic(&mut world, first, second);
            let report = world.report();
            let [split] = report.splits.as_slice() else {
                panic!("{:?}", report.splits);
            };
            assert_eq!(split.verdict, expected, "{kind:?}: {}", split.why);
            assert_eq!(split.host, "cart.shop");
            let found: Vec<&str> = report.findings.iter().map(|it| it.id).collect();
            let drift = if expected == "violated" {
                vec!["M13"]
            } else {
                vec![]
            };
            assert_eq!(found, drift, "{kind:?}");
        }
    }
}

#[test]
fn a_dead_rule_of_a_service_is_found() {
    let mut world = world();
    let mut spec = route(100, 0);
    let old = json!({"matches": [{"path": {"type": "PathPrefix", "value": "/old"}}],
        "backendRefs": [{"name": "cart-v2", "port": 80}]});
    spec["rules"].as_array_mut().expect("a list").push(old);
    accepted(&mut world, PolicyKind::LinkerdHttpRoute, "cart", &spec);
    world.settle();
    traffic(&mut world, 100, 0);
    assert_eq!(world.found(), [""; 0]);
    world.pass(Duration::from_secs(3_600));
    assert_eq!(world.found(), ["M15"]);
}

#[test]
fn servers_refuse_whom_nobody_authorizes() {
    for (identity, expected) in [("web", vec![]), ("other", vec!["M25"])] {
        let mut world = world();
        world.object(
            PolicyKind::LinkerdServer,
            "cart",
            json!({"podSelector": {"matchLabels": {"app": "cart"}}, "port": 8080,
                "proxyProtocol": "HTTP/1"}),
        );
        world.object(
            PolicyKind::LinkerdAuthorizationPolicy,
            "cart",
            json!({
                "targetRef": {"group": "policy.linkerd.io", "kind": "Server", "name": "cart"},
                "requiredAuthenticationRefs": [{"group": "policy.linkerd.io",
                    "kind": "MeshTLSAuthentication", "name": "callers"}],
            }),
        );
        let name = format!("{identity}.shop.serviceaccount.identity.linkerd.cluster.local");
        world.object(
            PolicyKind::MeshTlsAuthentication,
            "callers",
            json!({ "identities": [name, "cron.shop.serviceaccount.identity.linkerd.cluster.local"] }),
        );
        world.settle();
        let (web, cart) = (meshed("web", "v1"), meshed("cart", "v1"));
        let mut link = world.server_socket(&cart, &web);
        let text = "web.shop.serviceaccount.identity.linkerd.cluster.local";
        let proved = crate::model::mesh::Identity {
            text: text.into(),
            trust_domain: "cluster.local".into(),
            namespace: "shop".into(),
            service_account: "web".into(),
        };
        let peer = Peer::Pod(web);
        let secured = Security::LinkerdMutualTls;
        link.far = fixture::far(&cart, peer, secured, Some(Arc::new(proved)));
        let link = Arc::new(link);
        for _ in 0..30 {
            world.call(&link, get("/"), None);
        }
        assert_eq!(world.found(), expected, "{identity}");
        world.pass(Duration::from_secs(3_600));
        let unused = world.findings().into_iter().find(|it| it.id == "M26");
        assert_eq!(unused.is_some(), expected.is_empty(), "{identity}");
        if let Some(unused) = unused {
            assert!(
                unused.summary.contains("identity cron.shop."),
                "{}",
                unused.summary
            );
            let least = format!(r#"{{"identities":["{text}"]}}"#);
            assert!(unused.summary.ends_with(&least), "{}", unused.summary);
        }
    }
}

#[test]
fn http_on_opaque_ports_is_found() {
    for (opaque, protocol, expected) in [
        ("8080", "http/1", vec!["M29"]),
        ("8080", "redis", vec![]),
        ("9000", "http/1", vec![]),
        ("9000", "mysql", vec!["M29"]),
    ] {
        let mut world = world();
        let mut cart = (*meshed("cart", "v1")).clone();
        let mut traits = (*cart.traits).clone();
        traits.annotations = [("config.linkerd.io/opaque-ports".into(), opaque.into())].into();
        cart.traits = Arc::new(traits);
        let mut link = world.server_socket(&Arc::new(cart), &meshed("web", "v1"));
        link.opening = Some(Arc::new(Opening {
            protocol: Some(protocol),
            ..Opening::default()
        }));
        for _ in 0..20 {
            link.connection.id = ConnectionId(world.number());
            let event = LinkEvent::Recognised {
                link: Arc::new(link.clone()),
                at: world.now,
            };
            world.traffic.link(&world.policies, &event, world.now);
        }
        assert_eq!(world.found(), expected, "{opaque} {protocol}");
    }
}

#[test]
fn networks_that_are_refused_are_found_by_address() {
    for (network, expected) in [("192.0.2.0/24", vec!["M28"]), ("198.51.100.0/24", vec![])] {
        let mut world = world();
        world.object(
            PolicyKind::EgressNetwork,
            "none",
            json!({"networks": [{"cidr": network}], "trafficPolicy": "Deny"}),
        );
        world.settle();
        let web = meshed("web", "v1");
        let number = world.number();
        let own = Peer::Pod(web.clone());
        let mut link = fixture::link(number, &web, Role::Client, Hop::ToProxy, own);
        link.connection.remote = fixture::address("192.0.2.1:80");
        let peer = Peer::Address(link.connection.remote.ip());
        link.far = fixture::far(&web, peer, Security::Unknown, None);
        let link = Arc::new(link);
        let asked = Asked {
            authority: "192.0.2.1",
            ..get("/")
        };
        for _ in 0..30 {
            world.call(&link, asked, None);
        }
        assert_eq!(world.found(), expected, "{network}");
    }
}

#[test]
fn a_limit_of_rate_that_refuses_most_is_found() {
    for (refused, limited, expected) in [
        (60, true, vec!["M35"]),
        (30, true, vec![]),
        (60, false, vec![]),
    ] {
        let mut world = world();
        if limited {
            world.object(
                PolicyKind::HttpLocalRateLimitPolicy,
                "cart",
                json!({"targetRef": {"group": "policy.linkerd.io", "kind": "Server",
                    "name": "cart"}, "total": {"requestsPerSecond": 1}}),
            );
        }
        world.settle();
        let link = Arc::new(world.client_socket(&meshed("web", "v1"), None));
        let told = Forwarded {
            proxy_error: true,
            ..Forwarded::default()
        };
        for number in 0..100 {
            let over = number < refused;
            let asked = Asked {
                status: Some(if over { 429 } else { 200 }),
                ..get("/")
            };
            world.call(&link, asked, over.then(|| told.clone()));
        }
        assert_eq!(world.found(), expected, "{refused} {limited}");
    }
}

#[test]
fn a_limit_of_rate_that_nobody_comes_near_is_found() {
    let day = Duration::from_secs(3_601);
    for (limit, in_a_second, wait, expected) in [
        (Some(100), 5, day, 1),
        (Some(100), 10, day, 0),
        (Some(100), 5, Duration::from_secs(600), 0),
        (None, 5, day, 0),
    ] {
        let mut world = world();
        let cart = meshed("cart", "v1");
        world.object(
            PolicyKind::LinkerdServer,
            "cart",
            json!({"podSelector": {"matchLabels": {"app": "cart"}}, "port": 8080,
                "accessPolicy": "all-unauthenticated"}),
        );
        if let Some(limit) = limit {
            world.object(
                PolicyKind::HttpLocalRateLimitPolicy,
                "cart",
                json!({"targetRef": {"group": "policy.linkerd.io", "kind": "Server",
                    "name": "cart"}, "total": {"requestsPerSecond": limit}}),
            );
        }
        world.settle();
        let link = Arc::new(world.server_socket(&cart, &meshed("web", "v1")));
        for _ in 0..10 {
            for _ in 0..in_a_second {
                world.call(&link, get("/"), None);
            }
            // The next second.
            world.now = Monotonic((world.now.0 / SECOND + 1) * SECOND);
        }
        world.pass(wait);
        let findings = world.findings();
        let found: Vec<_> = findings.iter().filter(|it| it.id == "M35").collect();
        assert_eq!(found.len(), expected, "{limit:?} {in_a_second} {wait:?}");
        for finding in found {
            assert_eq!(finding.severity, "low");
            assert_eq!((&*finding.workload.name, finding.count), ("cart", 50));
        }
    }
}

#[test]
fn a_limit_of_rate_is_one_of_each_pod() {
    let day = Duration::from_secs(3_601);
    let limit = |limit: u32| {
        json!({"targetRef": {"group": "policy.linkerd.io", "kind": "Server", "name": "cart"},
            "total": {"requestsPerSecond": limit}})
    };
    // In the same second, to each of two pods of one template.
    for (first, second, expected) in [(9, 9, true), (2, 10, false), (18, 0, false)] {
        let mut world = world();
        let server = json!({"podSelector": {"matchLabels": {"app": "cart"}}, "port": 8080,
            "accessPolicy": "all-unauthenticated"});
        world.object(PolicyKind::LinkerdServer, "cart", server);
        world.object(PolicyKind::HttpLocalRateLimitPolicy, "cart", limit(100));
        world.settle();
        let links = ["one", "other"].map(|uid| {
            let cart = Arc::new(Pod {
                uid: uid.into(),
                ..(*meshed("cart", "v1")).clone()
            });
            Arc::new(world.server_socket(&cart, &meshed("web", "v1")))
        });
        for _ in 0..2 {
            world.now = Monotonic((world.now.0 / SECOND + 1) * SECOND);
            for (link, times) in links.iter().zip([first, second]) {
                for _ in 0..times {
                    world.call(link, get("/"), None);
                }
            }
        }
        world.pass(day);
        let found = world.found().contains(&"M35");
        assert_eq!(found, expected, "{first} {second}");
        // Another limit begins anew.
        world.declare(fixture::versioned(
            PolicyKind::HttpLocalRateLimitPolicy,
            "shop",
            "cart",
            &limit(1_000),
            "2",
        ));
        world.settle();
        for link in &links {
            for _ in 0..10 {
                world.call(link, get("/"), None);
            }
        }
        assert!(!world.found().contains(&"M35"));
        world.pass(day);
        assert!(world.found().contains(&"M35"));
    }
}
