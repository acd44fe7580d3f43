//! Rules as they are written, in cases.

use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::{mesh::istio::tests::object, model::policy::PolicyKind};

fn read(spec: Value) -> VirtualService {
    let object = object(PolicyKind::VirtualService, "shop/v", 1, spec);
    let (service, problem) = VirtualService::read(&object).expect("understood");
    assert_eq!(problem, None);
    service
}

fn route(more: Value) -> Rule {
    let service = read(json!({ "hosts": ["cart"], "http": [more] }));
    service.http.first().expect("one").rule.clone()
}

#[test]
fn shares_are_relative_and_a_lone_destination_gets_all() {
    for (weights, shares) in [
        (&[0][..], &[1.0][..]),
        (&[7], &[1.0]),
        (&[75, 25], &[0.75, 0.25]),
        (&[1, 3], &[0.25, 0.75]),
        (&[100, 0], &[1.0, 0.0]),
        (&[-1, 1], &[0.0, 1.0]),
        (&[0, 0], &[0.0, 0.0]),
    ] {
        let routes: Vec<Value> = weights
            .iter()
            .map(|weight| json!({ "destination": { "host": "cart" }, "weight": weight }))
            .collect();
        let rule = route(json!({ "route": routes }));
        let found: Vec<f64> = rule.backends.iter().map(|it| it.share).collect();
        assert_eq!(found, shares);
        assert_eq!(rule.partial.is_some(), weights == [0, 0]);
    }
}

#[test]
fn destinations_are_named_in_full() {
    let rule = route(json!({ "route": [
        { "destination": { "host": "cart", "subset": "v1", "port": { "number": 81 } } },
        { "destination": { "host": "a.example" }, "weight": 1 },
    ] }));
    let found: Vec<_> = rule
        .backends
        .iter()
        .map(|it| (&*it.host, &*it.subset, it.port))
        .collect();
    assert_eq!(
        found,
        [
            ("cart.shop.svc.cluster.local", "v1", 81),
            ("a.example", "", 0)
        ]
    );
}

#[test]
fn what_is_done_with_requests_is_read() {
    let second = Duration::from_secs(1);
    assert_eq!(route(json!({})).timeout, None);
    assert_eq!(route(json!({ "timeout": "0s" })).timeout, None);
    assert_eq!(route(json!({ "timeout": "1s" })).timeout, Some(second));
    assert_eq!(route(json!({})).retries, None);
    let retries = route(json!({ "retries": { "attempts": 3, "perTryTimeout": "1s" } })).retries;
    assert_eq!(
        retries.map(|it| (it.attempts, it.per_try)),
        Some((3, Some(second)))
    );
    let off = route(json!({ "retries": { "attempts": 0 } })).retries;
    assert_eq!(off.map(|it| it.attempts), Some(0));
    for (answer, expected) in [
        (json!({ "redirect": { "uri": "/" } }), true),
        (json!({ "directResponse": { "status": 200 } }), true),
        (json!({ "route": [] }), false),
    ] {
        assert_eq!(route(answer).answers, expected);
    }
    let named =
        read(json!({ "http": [{ "name": "n", "rewrite": { "uri": "/x" } }, {}], "tcp": [{}] }));
    let names: Vec<&str> = named
        .lists()
        .into_iter()
        .flatten()
        .map(|route| &*route.rule.name)
        .collect();
    assert_eq!(names, ["n", "1", "tcp-0"]);
    let rewrite = named.http.first().and_then(|route| route.rewrite.clone());
    assert_eq!(rewrite.map(|it| it.path).as_deref(), Some("/x"));
}

#[test]
fn copies_have_shares() {
    let host = || json!({ "host": "copy" });
    for (written, expected) in [
        (json!({}), &[][..]),
        (json!({ "mirror": host() }), &[1.0]),
        (
            json!({ "mirror": host(), "mirrorPercentage": { "value": 12.5 } }),
            &[0.125],
        ),
        (
            json!({ "mirror": host(), "mirrorPercentage": { "value": 0 } }),
            &[],
        ),
        (json!({ "mirror": host(), "mirrorPercent": 50 }), &[0.5]),
        (
            json!({ "mirrors": [
                { "destination": host() },
                { "destination": host(), "percentage": { "value": 10 } },
            ] }),
            &[1.0, 0.1],
        ),
    ] {
        let text = written.to_string();
        let rule = route(written);
        let shares: Vec<f64> = rule.mirrors.iter().map(|(_, share)| *share).collect();
        assert_eq!(shares, expected, "{text}");
        for (backend, _) in &rule.mirrors {
            assert_eq!(&*backend.host, "copy.shop.svc.cluster.local");
        }
    }
}

#[test]
fn faults_need_a_percentage() {
    for (written, expected) in [
        (json!({}), None),
        (json!({ "abort": { "httpStatus": 500 } }), None),
        (json!({ "delay": { "fixedDelay": "1s" } }), None),
        (
            json!({ "abort": { "httpStatus": 500, "percentage": { "value": 10 } } }),
            Some((0.1, 500, 0.0)),
        ),
        (
            json!({ "abort": { "grpcStatus": "UNAVAILABLE", "percentage": { "value": 100 } } }),
            Some((1.0, 0, 0.0)),
        ),
        (
            json!({ "delay": { "fixedDelay": "1s", "percentage": { "value": 0.1 } } }),
            Some((0.0, 0, 0.001)),
        ),
        (
            json!({ "delay": { "fixedDelay": "1s", "percent": 100 } }),
            Some((0.0, 0, 1.0)),
        ),
    ] {
        let text = written.to_string();
        let fault = route(json!({ "fault": written })).fault;
        let found = fault.map(|it| (it.abort_share, it.abort_status, it.delay_share));
        assert_eq!(found, expected, "{text}");
    }
}

#[test]
fn a_pattern_that_cannot_be_read_leaves_the_rest() {
    let spec = json!({
        "hosts": ["cart"],
        "http": [
            { "match": [{ "uri": { "exact": "/" } }, { "headers": { "a": { "regex": "(" } } }] },
            {},
        ],
    });
    let object = object(PolicyKind::VirtualService, "shop/v", 1, spec);
    let (service, problem) = VirtualService::read(&object).expect("understood");
    assert_eq!(
        problem.as_deref(),
        Some("spec.http[0].match[1].headers.a.regex: error: unclosed group")
    );
    let partial: Vec<bool> = service
        .http
        .iter()
        .map(|route| route.rule.partial.is_some())
        .collect();
    assert_eq!(partial, [true, false]);
}

#[test]
fn gateways_say_who_follows() {
    for (spec, in_mesh) in [
        (json!({}), true),
        (json!({ "gateways": ["gate"] }), false),
        (json!({ "gateways": ["gate", "mesh"] }), true),
        (
            json!({ "gateways": ["gate"], "http": [{ "match": [{ "gateways": ["mesh"] }] }] }),
            true,
        ),
    ] {
        assert_eq!(read(spec.clone()).in_mesh, in_mesh, "{spec}");
    }
}
