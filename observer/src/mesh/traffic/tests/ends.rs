//! Findings end when nothing shows them any more, or what they are about is declared no more.

use serde_json::json;

use super::*;

const QUIET: Duration = Duration::from_secs(901);

/// What is declared, what shows a finding, and what shows that it is no more so.
struct Case {
    id: &'static str,
    declare: fn(&mut World, version: &str),
    shows: fn(&mut World, times: u64),
    fine: fn(&mut World, times: u64),
    remove: (PolicyKind, &'static str),
}

fn versioned(world: &mut World, kind: PolicyKind, spec: &Value, version: &str) {
    world.declare(fixture::versioned(kind, "shop", "cart", spec, version));
}

fn cases() -> [Case; 4] {
    [
        Case {
            id: "M25",
            declare: |world, version| {
                let spec = json!({"action": "DENY",
                    "rules": [{"to": [{"operation": {"paths": ["/admin"]}}]}]});
                versioned(world, PolicyKind::IstioAuthorizationPolicy, &spec, version);
            },
            shows: |world, times| world.arrived(times, &server("v1"), get("/admin"), None),
            fine: |world, times| world.arrived(times, &server("v1"), get("/"), None),
            remove: (PolicyKind::IstioAuthorizationPolicy, "cart"),
        },
        Case {
            id: "M17",
            declare: |world, version| {
                let rule = json!({"match": [{"uri": {"prefix": "/api"}}], "route": [to("v1", 1)]});
                versioned(
                    world,
                    PolicyKind::VirtualService,
                    &routes(json!([rule])),
                    version,
                );
            },
            shows: |world, times| {
                let asked = Asked {
                    status: Some(404),
                    ..get("/")
                };
                world.sent(times, asked, Some(fixture::by_envoy(true)));
            },
            fine: |world, times| world.sent(times, get("/api"), Some(fixture::by_envoy(false))),
            remove: (PolicyKind::VirtualService, "cart"),
        },
        Case {
            id: "M22",
            declare: |world, version| {
                let fault = json!({"abort": {"httpStatus": 503, "percentage": {"value": 10}}});
                let rules = json!([{"route": [to("v1", 1)], "fault": fault}]);
                versioned(world, PolicyKind::VirtualService, &routes(rules), version);
            },
            shows: |world, times| {
                let asked = Asked {
                    status: Some(503),
                    ..get("/")
                };
                world.sent(times, asked, Some(fixture::by_envoy(true)));
            },
            fine: |world, times| world.sent(times, get("/"), Some(fixture::by_envoy(false))),
            remove: (PolicyKind::VirtualService, "cart"),
        },
        Case {
            id: "M14",
            declare: |world, version| {
                let rules = json!([{"route": [to("v1", 1)]}]);
                versioned(world, PolicyKind::VirtualService, &routes(rules), version);
            },
            shows: |world, times| world.arrived(times, &server("v2"), get("/"), attempt(1)),
            fine: |world, times| world.arrived(times, &server("v1"), get("/"), attempt(1)),
            remove: (PolicyKind::VirtualService, "cart"),
        },
    ]
}

fn declared(case: &Case) -> World {
    let mut world = World::new();
    (case.declare)(&mut world, "1");
    world.settle();
    // The client is one of this node.
    world.sent(1, get("/api"), None);
    world
}

fn is_found(world: &mut World, id: &str) -> bool {
    world.found().contains(&id)
}

#[test]
fn enough_without() {
    for case in cases() {
        for (shown, of, wait, since, expected) in [
            (30, 30, QUIET, 20, false),
            (30, 30, QUIET, 19, true),
            (30, 30, QUIET, 0, true),
            (30, 30, Duration::from_secs(600), 500, true),
            // One of ten.
            (30, 300, QUIET, 69, true),
            (30, 300, QUIET, 80, false),
        ] {
            let mut world = declared(&case);
            (case.shows)(&mut world, 1);
            (case.fine)(&mut world, of - shown);
            (case.shows)(&mut world, shown - 1);
            let name = format!("{} {shown} of {of}, {since} after {wait:?}", case.id);
            assert!(is_found(&mut world, case.id), "{name}");
            world.pass(wait);
            (case.fine)(&mut world, since);
            assert_eq!(is_found(&mut world, case.id), expected, "{name}");
            // It may begin again, and is known since when.
            (case.shows)(&mut world, 1);
            let found = world.findings();
            let found = found.iter().find(|it| it.id == case.id);
            assert_eq!(found.map(|it| it.count), Some(shown + 1), "{name}");
            assert!(
                found.is_some_and(|it| it.last_seen - it.first_seen >= 600.0),
                "{name}"
            );
        }
    }
}

#[test]
fn declared_no_more() {
    for case in cases() {
        let mut world = declared(&case);
        (case.shows)(&mut world, 30);
        assert!(is_found(&mut world, case.id), "{}", case.id);
        // Something else.
        let other = json!({"host": "other"});
        world.object(PolicyKind::DestinationRule, "other", other);
        assert!(is_found(&mut world, case.id), "{}", case.id);
        let (kind, name) = case.remove;
        let uid = format!("{kind:?}-shop-{name}").into();
        world.declare(PolicyChange::Remove(kind, uid));
        assert!(!is_found(&mut world, case.id), "{}", case.id);
    }
}

#[test]
fn declared_anew_it_is_found_again_when_it_is_seen() {
    for case in cases() {
        let mut world = declared(&case);
        (case.shows)(&mut world, 30);
        (case.declare)(&mut world, "2");
        // Rules that say the same are the same.
        let stays = case.remove.0 == PolicyKind::VirtualService && case.id != "M17";
        assert_eq!(is_found(&mut world, case.id), stays, "{}", case.id);
        world.settle();
        (case.shows)(&mut world, 1);
        assert!(is_found(&mut world, case.id), "{}", case.id);
    }
}
