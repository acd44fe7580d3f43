//! Routes: rules that are for nothing, backends that are not led to, copies and limits of time.

use anyhow::Result;
use observer_tests::mesh::{Target, traffic::Requests};

use super::{Case, case, check, requests, slow};

#[test]
fn rules_that_lead_nobody_and_requests_that_no_rule_leads() -> Result<()> {
    check(&Case {
        halved: Some([60, 40]),
        front_asks: &[
            ("/api/special", 10, 200),
            ("/api/narrow", 10, 200),
            ("/api/other", 20, 200),
            ("/hop", 60, 200),
        ],
        stranger_asks: Some(("/plain", 30, 200)),
        leaves: 30,
        expected: &[
            ("M14", &["web", "rule all"]),
            ("M15", &["web", "rule old"]),
            ("M16", &["web", "rule narrow"]),
            ("M18", &["stranger"]),
            ("M36", &["web", "subset v3 of web.shop"]),
            ("M36", &["idle.nowhere.test"]),
        ],
        absent: &[
            ("M15", &["rule narrow"]),
            ("M16", &["rule wide"]),
            ("M18", &["front"]),
            ("M36", &["registered.nowhere.test"]),
            ("M36", &["subset v2 of web.shop"]),
        ],
        ..case("rules")
    })
}

#[test]
fn copies_that_are_not_made_and_limits_of_time_that_do_not_hold() -> Result<()> {
    check(&Case {
        halved: Some([100, 0]),
        serves: slow,
        target: |target| {
            target.mirror = Some("v2".to_owned());
            target.mirrored = Some(20);
        },
        front_asks: &[("/hop", 220, 200)],
        more: |scene| {
            let place = scene.front.app()?;
            let ask = |path, times, options| {
                let requests = requests(scene.target, path, times)?;
                let at_once = times;
                Requests {
                    at_once,
                    options,
                    ..requests
                }
                .make(&place)
            };
            ask("/slow/hurried", 4, &[])?;
            // A limit of none is no limit.
            ask("/slow/other", 8, &[])?;
            ask("/slow/patient", 8, &["--max-time", "0.3"])?;
            // By the address of a pod, which no route is for.
            let pod = Target {
                name: "pod.test".to_owned(),
                address: scene.target.subsets[0]
                    .endpoints
                    .first()
                    .map(|(pod, _)| *pod),
                ..Target::default()
            };
            requests(&pod, "/hop", 20)?.expect(&place, 200).map(drop)
        },
        expected: &[
            ("M18", &["front"]),
            ("M19", &["web", "rule all"]),
            ("M21", &["web", "rule hurried"]),
            ("M21", &["web", "rule patient"]),
        ],
        absent: &[("M21", &["rule all"])],
        ..case("copies")
    })
}

#[test]
fn requests_that_are_repeated_and_such_without_a_route() -> Result<()> {
    check(&Case {
        serves: |member| member.serve_with("", "location = /api/broken { return 503; }"),
        target: |target| {
            target.prefix = Some("/api".to_owned());
            target.retries = 2;
        },
        front_asks: &[("/api/broken", 30, 503), ("/other", 30, 404)],
        expected: &[("M17", &["front"]), ("M20", &["front", "web"])],
        ..case("routes")
    })
}
