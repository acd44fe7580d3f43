//! Limits: what proxies refuse by themselves, and whom they leave out.

use std::{thread, time::Duration};

use anyhow::{Result, ensure};
use observer_tests::mesh::{Plane, Spec, Subset, traffic::Requests};

use super::{Case, case, check, requests, slow};

/// A pod that got nothing for so long is said to be left out, not only by chance.
const EJECTED: Duration = Duration::from_secs(30);

#[test]
fn requests_that_are_too_many_at_once() -> Result<()> {
    check(&Case {
        serves: slow,
        target: |target| target.limit = Some(1),
        front_asks: &[("/hop", 60, 200)],
        more: |scene| {
            let burst = Requests {
                at_once: 20,
                options: &[],
                ..requests(scene.target, "/slow", 20)?
            };
            let statuses = burst.make(&scene.front.app()?)?;
            let refused = statuses.get(&503).copied().unwrap_or_default();
            ensure!((10..20).contains(&refused), "{statuses:?}");
            Ok(())
        },
        expected: &[("M24", &["front"])],
        ..case("pool")
    })
}

#[test]
fn a_pod_that_fails_and_is_left_out() -> Result<()> {
    check(&Case {
        halved: Some([1, 1]),
        second: Spec::new("web", Plane::Istio).replica(1),
        serves: |member| match member.known.pod.name() {
            "web-5d8f-1-1" => member.serve_with("", "location = /hop { return 503; }"),
            _ => member.serve(),
        },
        target: |target| {
            let all = target.subsets.iter().flat_map(|it| it.endpoints.clone());
            target.subsets = vec![Subset {
                weight: 1,
                endpoints: all.collect(),
                ..Subset::default()
            }];
            target.ejects = Some(5);
        },
        front_asks: &[],
        more: |scene| {
            let statuses = requests(scene.target, "/hop", 60)?.make(&scene.front.app()?)?;
            // One may be on its way already when it is left out.
            let failed = statuses.get(&503).copied().unwrap_or_default();
            ensure!((5..10).contains(&failed), "{statuses:?}");
            thread::sleep(EJECTED);
            Ok(())
        },
        expected: &[("M23", &["front", "web"])],
        ..case("outliers")
    })
}

#[test]
fn requests_that_are_too_many_in_a_second_and_a_port_that_a_mesh_opens() -> Result<()> {
    check(&Case {
        front: Spec::new("front", Plane::Linkerd),
        web: Spec::new("web", Plane::Linkerd),
        passes: Some(5),
        front_asks: &[("/hop", 5, 200), ("/hop", 40, 429)],
        expected: &[("M30", &["web"]), ("M35", &["front"])],
        ..case("linkerd")
    })
}
