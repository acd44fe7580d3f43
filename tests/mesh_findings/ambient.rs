//! The cases of the proxies of nodes, and of waypoints.

use anyhow::Result;
use observer_tests::{
    apiserver::objects,
    kubernetes::NAMESPACE,
    mesh::{self, Plane, Spec, Target, service_address, waypoint::Waypoint},
    requirement::lacking,
};
use serde_json::json;

use super::{CONFIGURATION, Case, Expected, ask, case, declared, expect, told};

/// What is done, whatever is declared.
struct Ambient {
    /// File of what is declared.
    objects: Case,
    /// The namespace names a waypoint, which runs.
    waypoint: bool,
    /// The client's proxy sends to it.
    used: bool,
}

/// An ordinary case, in which `front` and `web` are in the mesh.
fn ambient(objects: Case) -> Ambient {
    Ambient {
        objects: Case {
            front: Spec::new("front", Plane::Ambient),
            web: Spec::new("web", Plane::Ambient),
            ..objects
        },
        waypoint: false,
        used: false,
    }
}

const PAST_WAYPOINT: &[Expected] = &[("M11", &["front", "web"])];

fn check(ambient: &Ambient) -> Result<()> {
    if lacking(&mesh::NEEDS)? {
        return Ok(());
    }
    let case = &ambient.objects;
    mesh::scene(case.objects, 1, |mesh| {
        mesh.install(false)?;
        mesh.site()
            .api
            .change(&objects::namespace(NAMESPACE), |object| {
                let labels = &mut object["metadata"]["labels"];
                labels["istio.io/dataplane-mode"] = json!("ambient");
                if ambient.waypoint {
                    labels["istio.io/use-waypoint"] = json!("waypoint");
                }
            })?;
        let objects = declared(case.objects)?;
        mesh.declare(&objects)?;
        let front = mesh.pod(1, &case.front)?;
        let web = mesh.pod(1, &case.web)?;
        let mut target = Target::new("web", service_address(10, 80), &[&web]);
        mesh.services(&[(&target, "http", &[&web])])?;
        let _server = web.serve()?;
        let waypoint = match ambient.waypoint {
            true => Some(Waypoint::start(mesh.site(), 1, "waypoint")?),
            false => None,
        };
        let _waypoint = match &waypoint {
            Some(waypoint) => Some(mesh.waypoint(waypoint, &[&target])?),
            None => None,
        };
        if ambient.used {
            target.waypoint = waypoint.as_ref().map(Waypoint::address);
        }
        let _carriers = mesh.carry(&[&web, &front], &[&target])?;
        let agent = mesh.agent_with(1, CONFIGURATION)?;
        told(&agent, &objects)?;
        ask(&front, &target, case.front_asks)?;
        expect(&agent, case)?;
        mesh::finish([agent])
    })
}

#[test]
fn pods_of_ambient_mode_that_talk_past_their_tunnel() -> Result<()> {
    let mut leak = ambient(Case {
        expected: &[("M10", &["front", "web"])],
        ..case("nothing")
    });
    leak.objects.front.open_outbound = &[80];
    check(&leak)
}

#[test]
fn a_waypoint_that_is_passed_over() -> Result<()> {
    check(&Ambient {
        waypoint: true,
        ..ambient(Case {
            expected: PAST_WAYPOINT,
            ..case("waypoint")
        })
    })
}

#[test]
fn nothing_is_found_where_a_waypoint_is_used() -> Result<()> {
    check(&Ambient {
        waypoint: true,
        used: true,
        ..ambient(case("waypoint"))
    })
}

#[test]
fn policy_for_requests_that_nobody_reads() -> Result<()> {
    check(&ambient(Case {
        expected: &[("M12", &["web"])],
        ..case("unenforced")
    }))
}
