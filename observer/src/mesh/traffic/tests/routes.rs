//! Rules, and shares of backends.

use serde_json::json;

use super::*;

fn split(first: u32, second: u32) -> Value {
    routes(json!([{"route": [to("v1", first), to("v2", second)]}]))
}

/// As many requests at the client as at the servers, of which so many reach the second.
fn traffic(world: &mut World, first: u64, second: u64) {
    world.sent(first + second, get("/"), None);
    world.arrived(first, &server("v1"), get("/"), attempt(1));
    world.arrived(second, &server("v2"), get("/"), attempt(1));
}

#[test]
fn a_call_is_told_its_rule() {
    let mut world = World::new();
    world.object(
        PolicyKind::VirtualService,
        "cart",
        routes(json!([
            {"match": [{"uri": {"prefix": "/api"}}], "route": [to("v2", 100)]},
            {"name": "rest", "route": [to("v1", 90), to("v2", 10)]},
        ])),
    );
    world.tick();
    let link = Arc::new(world.client_socket(&client(), None));
    let found = world.call(&link, get("/api/1"), None).expect("a rule");
    assert_eq!((&*found.rule, &*found.backend), ("0", "v2"));
    assert_eq!(&*found.object.name, "cart");
    let found = world.call(&link, get("/"), None).expect("a rule");
    assert_eq!((&*found.rule, &*found.backend), ("rest", ""));
    // What changes is followed at once.
    world.object(PolicyKind::VirtualService, "cart", split(100, 0));
    let found = world.call(&link, get("/api/1"), None).expect("a rule");
    assert_eq!((&*found.rule, &*found.backend), ("0", "v1"));
    world.declare(PolicyChange::Remove(
        PolicyKind::VirtualService,
        "VirtualService-shop-cart".into(),
    ));
    assert_eq!(world.call(&link, get("/api/1"), None), None);
    // Nobody but the client tells it, and never a socket in between.
    let link = Arc::new(world.server_socket(&server("v1"), &client()));
    assert_eq!(world.call(&link, get("/api/1"), None), None);
}

#[test]
fn shares_that_drift_are_found() {
    for (declared, first, second, expected) in [
        ((90, 10), 900, 100, "satisfied"),
        ((90, 10), 800, 200, "violated"),
        ((90, 10), 80, 20, "unknown"),
        // Unlikely, but too little to matter.
        ((90, 10), 9_300, 700, "satisfied"),
        ((50, 50), 300, 300, "satisfied"),
        ((99, 1), 300, 0, "unknown"),
        ((99, 1), 600, 0, "satisfied"),
    ] {
        let mut world = World::new();
        let spec = split(declared.0, declared.1);
        world.object(PolicyKind::VirtualService, "cart", spec);
        world.settle();
        traffic(&mut world, first, second);
        let report = world.report();
        let [split] = report.splits.as_slice() else {
            panic!("{:?}", report.splits);
        };
        assert_eq!(
            split.verdict, expected,
            "{declared:?} {first} {second}: {}",
            split.why
        );
        assert_eq!(split.requests, first + second);
        let found = report.findings.iter().filter(|it| it.id == "M13").count();
        assert_eq!(found, usize::from(expected == "violated"));
        if expected == "violated" {
            assert!(split.p_value.is_some_and(|p| p < 0.001));
            let finding = &report.findings[0];
            assert_eq!(finding.count, 1_000);
            assert_eq!(finding.workload.name, "cart");
            let object = finding.because[0].object.as_ref().expect("an object");
            assert_eq!(
                (&*object.kind, &*object.resource_version),
                ("VirtualService", "1")
            );
        }
    }
}

#[test]
fn drift_is_not_said_of_what_cannot_be_known() {
    // Affinity.
    let mut world = World::new();
    world.object(PolicyKind::VirtualService, "cart", split(90, 10));
    world.object(
        PolicyKind::DestinationRule,
        "cart",
        json!({"host": "cart",
            "trafficPolicy": {"loadBalancer": {"consistentHash": {"useSourceIp": true}}},
            "subsets": [
                {"name": "v1", "labels": {"version": "v1"}},
                {"name": "v2", "labels": {"version": "v2"}},
        ]}),
    );
    world.settle();
    traffic(&mut world, 500, 500);
    assert_eq!(world.report().splits[0].verdict, "unknown");
    assert_eq!(world.found(), [""; 0]);

    // Shares that changed a moment ago.
    let mut world = World::new();
    world.object(PolicyKind::VirtualService, "cart", split(90, 10));
    world.tick();
    traffic(&mut world, 500, 500);
    assert_eq!(world.found(), [""; 0]);

    // Pods of other nodes serve most of it.
    let mut world = World::new();
    world.object(PolicyKind::VirtualService, "cart", split(50, 50));
    world.settle();
    world.sent(1_000, get("/"), None);
    world.arrived(500, &server("v1"), get("/"), attempt(1));
    let report = world.report();
    assert_eq!(report.splits[0].verdict, "unknown");
    assert!(
        report.splits[0].why.contains("others serve the rest"),
        "{}",
        report.splits[0].why
    );
    assert_eq!(world.found(), [""; 0]);

    // Retries and copies are none of it.
    let mut world = World::new();
    world.object(PolicyKind::VirtualService, "cart", split(50, 50));
    world.settle();
    traffic(&mut world, 500, 500);
    world.arrived(150, &server("v2"), get("/"), attempt(2));
    let copy = Asked {
        authority: "cart-shadow",
        ..get("/")
    };
    world.arrived(500, &server("v2"), copy, attempt(1));
    assert_eq!(world.report().splits[0].verdict, "satisfied");
}

#[test]
fn a_new_version_begins_anew() {
    let mut world = World::new();
    world.object(PolicyKind::VirtualService, "cart", split(90, 10));
    world.settle();
    traffic(&mut world, 500, 500);
    assert_eq!(world.found(), ["M13"]);
    let spec = split(50, 50);
    world.declare(fixture::versioned(
        PolicyKind::VirtualService,
        "shop",
        "cart",
        &spec,
        "2",
    ));
    world.settle();
    assert_eq!(world.found(), [""; 0]);
    traffic(&mut world, 500, 500);
    let report = world.report();
    assert_eq!(report.splits[0].verdict, "satisfied");
    assert_eq!(report.splits[0].object.resource_version, "2");
}

#[test]
fn backends_that_no_rule_leads_to_are_found() {
    // A share of nothing, and a subset that is not there.
    for rules in [
        json!([{"route": [to("v1", 100), to("v2", 0)]}]),
        json!([{"route": [to("v1", 100)]}]),
    ] {
        let mut world = World::new();
        world.object(PolicyKind::VirtualService, "cart", routes(rules));
        world.settle();
        traffic(&mut world, 300, 30);
        assert!(world.found().contains(&"M14"));
    }
    // Where the client was not seen to follow the rule.
    let mut world = World::new();
    let spec = routes(json!([{"route": [to("v1", 100)]}]));
    world.object(PolicyKind::VirtualService, "cart", spec);
    world.settle();
    world.arrived(30, &server("v2"), get("/"), attempt(1));
    assert_eq!(world.found(), [""; 0]);
}

#[test]
fn rules_that_never_match_are_found() {
    let rules = json!([
        {"match": [{"uri": {"prefix": "/old"}}], "route": [to("v1", 100)]},
        {"match": [{"uri": {"prefix": "/api"}}], "route": [to("v1", 100)]},
        {"match": [{"uri": {"prefix": "/api/v2"}}], "route": [to("v2", 100)]},
        {"route": [to("v1", 100)]},
    ]);
    let mut world = World::new();
    world.object(PolicyKind::VirtualService, "cart", routes(rules));
    world.settle();
    world.sent(50, get("/api/v1"), None);
    world.sent(30, get("/api/v2"), None);
    // The last rule is not shadowed: it is the one for the rest.
    let report = world.report();
    let states: Vec<(&str, &str, u64)> = report
        .routes
        .iter()
        .map(|route| (&*route.rule, route.state, route.requests))
        .collect();
    assert_eq!(
        states,
        [
            ("0", "unused", 0),
            ("1", "used", 80),
            ("2", "shadowed", 0),
            ("3", "unused", 0)
        ]
    );
    assert!(report.routes.iter().all(|route| route.host_requests == 80));
    assert_eq!(world.found(), ["M16"]);
    world.pass(Duration::from_secs(3_600));
    // The subset that only the shadowed rule leads to is unused too.
    assert_eq!(world.found(), ["M15", "M15", "M16", "M36"]);
    // As soon as it matches, it is used.
    world.sent(1, get("/old"), None);
    assert_eq!(world.found(), ["M15", "M16", "M36"]);
}

#[test]
fn rules_are_not_dead_where_nobody_asks() {
    let rules = json!([
        {"match": [{"uri": {"prefix": "/old"}}], "route": [to("v1", 100)]},
        {"route": [to("v1", 100)]},
    ]);
    let mut world = World::new();
    world.object(PolicyKind::VirtualService, "cart", routes(rules.clone()));
    world.settle();
    world.sent(19, get("/"), None);
    world.pass(Duration::from_secs(3_600));
    assert_eq!(world.found(), [""; 0]);
    world.sent(1, get("/"), None);
    assert_eq!(world.found(), ["M15", "M36"]);

    // A gateway follows it, and no client.
    let mut world = World::new();
    let spec = json!({"hosts": ["cart"], "gateways": ["ingress"], "http": rules});
    world.object(PolicyKind::VirtualService, "cart", spec);
    world.settle();
    world.sent(100, get("/"), None);
    world.pass(Duration::from_secs(3_600));
    assert_eq!(world.found(), [""; 0]);

    // Whether it matched depends on a field that is not kept.
    let mut world = World::new();
    let rules = json!([
        {"match": [{"headers": {"x-user": {"exact": "me"}}}], "route": [to("v2", 100)]},
        {"route": [to("v1", 100)]},
    ]);
    world.object(PolicyKind::VirtualService, "cart", routes(rules));
    world.settle();
    world.sent(100, get("/"), None);
    world.pass(Duration::from_secs(3_600));
    assert_eq!(world.found(), [""; 0]);
    let report = world.report();
    assert!(report.routes.iter().all(|route| route.state == "unknown"));
}

#[test]
fn requests_without_a_rule_are_found() {
    let rules = json!([{"match": [{"uri": {"prefix": "/api"}}], "route": [to("v1", 100)]}]);
    for (status, own, settle, expected) in [
        (404, true, true, vec!["M17"]),
        // The application says so itself: the rule is not applied.
        (404, false, true, vec!["M18"]),
        (200, false, true, vec!["M18"]),
        (404, true, false, vec![]),
    ] {
        let mut world = World::new();
        world.object(PolicyKind::VirtualService, "cart", routes(rules.clone()));
        if settle {
            world.settle();
        }
        world.tick();
        world.sent(30, get("/api"), Some(fixture::by_envoy(false)));
        let missed = Asked {
            status: Some(status),
            ..get("/other")
        };
        world.sent(20, missed, Some(fixture::by_envoy(own)));
        assert_eq!(world.found(), expected, "{status} {own} {settle}");
    }
}

#[test]
fn routes_that_clients_go_past_are_found() {
    let rules = || routes(json!([{"route": [to("v1", 100)]}]));
    let no_proxy = fixture::pod("shop", "cron", &[("app", "cron")], &[]);
    let direct = |world: &mut World, pod: &Arc<Pod>, service: bool, authority: &'static str| {
        let number = world.number();
        let peer = Peer::Pod(server("v1"));
        let mut link = fixture::link(number, pod, Role::Client, Hop::Direct, peer);
        link.dialled = fixture::dialled("shop", "cart").filter(|_| service);
        if !service {
            link.connection.remote = fixture::address("10.0.0.2:8080");
        }
        let link = Arc::new(link);
        let asked = Asked {
            authority,
            ..get("/")
        };
        for _ in 0..30 {
            assert_eq!(world.call(&link, asked, None), None);
        }
    };
    for (pod, service, authority, declared, expected) in [
        (&no_proxy, true, "cart", true, vec!["M18"]),
        (&no_proxy, true, "cart", false, vec![]),
        // Past its own proxy.
        (&client(), true, "cart", true, vec!["M18"]),
    ] {
        let mut world = World::new();
        if declared {
            world.object(PolicyKind::VirtualService, "cart", rules());
        }
        world.settle();
        direct(&mut world, pod, service, authority);
        assert_eq!(
            world.found(),
            expected,
            "{} {service} {authority}",
            pod.name
        );
    }
    // To a pod by its address.
    let mut world = World::new();
    world.object(PolicyKind::VirtualService, "cart", rules());
    world.settle();
    let mut link = world.client_socket(&client(), Some(&server("v1")));
    link.dialled = None;
    link.connection.remote = fixture::address("10.0.0.2:8080");
    let link = Arc::new(link);
    let asked = Asked {
        authority: "10.0.0.2:8080",
        ..get("/")
    };
    for _ in 0..30 {
        world.call(&link, asked, None);
    }
    assert_eq!(world.found(), ["M18"]);
}

#[test]
fn copies_are_counted() {
    for (share, copies, expected) in [(50, 500, 0), (50, 200, 1), (50, 0, 1), (100, 1_000, 0)] {
        let mut world = World::new();
        world.object(
            PolicyKind::VirtualService,
            "cart",
            routes(json!([{
                "route": [to("v1", 100)],
                "mirror": {"host": "cart", "subset": "v2"},
                "mirrorPercentage": {"value": share},
            }])),
        );
        world.settle();
        world.sent(1_000, get("/"), None);
        world.arrived(1_000, &server("v1"), get("/"), attempt(1));
        let copy = Asked {
            authority: "cart-shadow",
            ..get("/")
        };
        world.arrived(copies, &server("v2"), copy, attempt(1));
        // Another request shows that the mirror is on this node.
        let probe = Asked {
            authority: "10.0.0.2:8080",
            ..get("/healthy")
        };
        world.arrived(1, &server("v2"), probe, None);
        let found = world.findings();
        let count = found.iter().filter(|it| it.id == "M19").count();
        assert_eq!(count, expected, "{share} {copies}");
        assert_eq!(found.len(), expected, "{found:?}");
    }
}

#[test]
fn the_backend_that_is_furthest_off_is_named() {
    let shown = Shown {
        sent: 400,
        served: vec![180, 80, 140],
        strays: 0,
        unclear: None,
    };
    let part = |subset, share| Part {
        host: "cart",
        subset,
        share,
    };
    let parts = [part("", 0.5), part("v1", 0.3), part("v2", 0.2)];
    let (standing, _) = shown.standing(&parts, |_, _| unreachable!());
    assert_eq!(standing.why, "cart v2 is to get 20.0 % and got 35.0 %");
}
