//! Sidecars as of Istio.

use anyhow::Result;
use observer_tests::{
    mesh::{
        self, Plane, Spec, Target,
        istio::Sidecar,
        service_address,
        traffic::{Requests, expect_calls, expect_edges},
    },
    requirement::lacking,
};

#[test]
fn a_call_between_sidecars_is_counted_once_at_each_end() -> Result<()> {
    if lacking(&mesh::NEEDS)? {
        return Ok(());
    }
    mesh::scene("sidecars", 2, |mesh| {
        let front = mesh.pod(1, &Spec::new("front", Plane::Istio))?;
        let web = mesh.pod(2, &Spec::new("web", Plane::Istio))?;
        let target = Target::new("web", service_address(10, 80), &[&web]);
        mesh.services(&[(&target, "http", &[&web])])?;
        let _web = web.serve()?;
        let _sidecars = [
            mesh.istio(&web, &Sidecar::default())?,
            mesh.istio(
                &front,
                &Sidecar {
                    targets: &[&target],
                    ..Sidecar::default()
                },
            )?,
        ];
        let agents = [mesh.agent(1)?, mesh.agent(2)?];
        let all: Vec<_> = agents.iter().collect();
        let requests = Requests {
            host: "web",
            address: target.dialled()?,
            path: "/hop",
            times: 40,
            at_once: 4,
            options: &[],
        };
        let counted = requests.expect(&front.app()?, 200)?;
        expect_edges(
            &all,
            &[
                (("client", "front", "web", "istio_mtls"), counted),
                (("server", "front", "web", "istio_mtls"), counted),
            ],
        )?;
        expect_calls(&all, "client", &[("front", counted)])?;
        expect_calls(&all, "server", &[("web", counted)])?;
        mesh::finish(agents)
    })
}
