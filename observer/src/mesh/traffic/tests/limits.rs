//! Retries, limits of time and of connections, and faults.

use serde_json::json;

use super::*;

#[test]
fn retries_that_multiply_are_found() {
    let rules = json!([{"route": [to("v1", 100)], "retries": {"attempts": 2}}]);
    for (firsts, seconds, thirds, method, expected) in [
        (100, 10, 0, "GET", vec![]),
        (100, 30, 0, "GET", vec!["ratio"]),
        (100, 5, 1, "GET", vec!["last"]),
        (100, 1, 0, "POST", vec!["repeated"]),
        (10, 5, 0, "GET", vec![]),
    ] {
        let mut world = World::new();
        world.object(PolicyKind::VirtualService, "cart", routes(rules.clone()));
        world.settle();
        let asked = Asked { method, ..get("/") };
        for (number, times) in [(1, firsts), (2, seconds), (3, thirds)] {
            world.arrived(times, &server("v1"), asked, attempt(number));
        }
        let findings = world.findings();
        let kinds: Vec<&str> = findings
            .iter()
            .map(|finding| {
                assert_eq!(finding.id, "M20");
                assert!(!finding.samples.is_empty());
                match () {
                    () if finding.summary.contains("for each that") => "ratio",
                    () if finding.summary.contains("last attempt") => "last",
                    () => "repeated",
                }
            })
            .collect();
        assert_eq!(kinds, expected, "{firsts} {seconds} {thirds} {method}");
    }
}

#[test]
fn limits_of_time_are_held_against_what_requests_took() {
    let took = |milliseconds| Asked {
        took: Duration::from_millis(milliseconds),
        ..get("/")
    };
    let given_up = |milliseconds| Asked {
        status: None,
        ..took(milliseconds)
    };
    let plain = json!({"timeout": "1s"});
    let tried = json!({"timeout": "1s", "retries": {"attempts": 3, "perTryTimeout": "0.5s"}});
    for (extra, requests, expected) in [
        (&plain, vec![took(900); 30], 0),
        (&plain, vec![took(1_100); 30], 0),
        (&plain, vec![took(2_000); 30], 1),
        (&plain, vec![took(2_000)], 0),
        (&json!({"timeout": "0s"}), vec![took(2_000); 30], 0),
        (&json!({}), vec![took(2_000); 30], 0),
        // Clients give up after half a second, all of them.
        (&plain, vec![given_up(500); 10], 1),
        (&plain, (1..10).map(|it| given_up(it * 100)).collect(), 0),
        (&tried, vec![took(10); 30], 1),
        (&tried, vec![took(10); 3], 0),
    ] {
        let mut world = World::new();
        let mut rule = json!({"route": [to("v1", 100)]});
        let fields = rule.as_object_mut().expect("an object");
        fields.extend(extra.as_object().expect("an object").clone());
        world.object(PolicyKind::VirtualService, "cart", routes(json!([rule])));
        world.settle();
        for asked in requests {
            world.sent(1, asked, None);
        }
        let found = world.found();
        assert_eq!(found, vec!["M21"; expected], "{extra}");
    }
}

#[test]
fn faults_that_are_left_on_are_found() {
    let aborts = json!({"abort": {"httpStatus": 503, "percentage": {"value": 10}}});
    let delays = json!({"delay": {"fixedDelay": "2s", "percentage": {"value": 10}}});
    for (fault, status, took, own, expected) in [
        (&aborts, 503, 1, true, 1),
        // The server's own.
        (&aborts, 503, 1, false, 0),
        (&aborts, 200, 1, false, 0),
        (&delays, 200, 2_010, false, 1),
        (&delays, 200, 100, false, 0),
    ] {
        let mut world = World::new();
        world.object(
            PolicyKind::VirtualService,
            "cart",
            routes(json!([{"route": [to("v1", 100)], "fault": fault}])),
        );
        world.settle();
        let asked = Asked {
            status: Some(status),
            took: Duration::from_millis(took),
            ..get("/")
        };
        world.sent(30, asked, Some(fixture::by_envoy(own)));
        assert_eq!(
            world.found(),
            vec!["M22"; expected],
            "{fault} {status} {took}"
        );
    }
}

#[test]
fn a_limit_that_is_reached_is_found() {
    let limited = json!({"host": "cart",
        "trafficPolicy": {"connectionPool": {"http": {"http1MaxPendingRequests": 1}}},
        "subsets": [{"name": "v1", "labels": {"version": "v1"}}]});
    for (limited, own, fine, expected) in [
        (Some(&limited), true, 100, 1),
        (Some(&limited), false, 100, 0),
        // All of them fail: there is nobody to send them to.
        (Some(&limited), true, 0, 0),
        (None, true, 100, 0),
    ] {
        let mut world = World::new();
        let spec = routes(json!([{"route": [to("v1", 100)]}]));
        world.object(PolicyKind::VirtualService, "cart", spec);
        if let Some(limited) = limited {
            world.object(PolicyKind::DestinationRule, "cart", limited.clone());
        }
        world.settle();
        world.sent(fine, get("/"), Some(fixture::by_envoy(false)));
        let refused = Asked {
            status: Some(503),
            ..get("/")
        };
        world.sent(30, refused, Some(fixture::by_envoy(own)));
        assert_eq!(world.found(), vec!["M24"; expected], "{own} {fine}");
    }
}
