//! A gateway is a workload of its own: what it is asked, and what it asks, are two edges.

use anyhow::{Result, ensure};
use observer_tests::{
    agent::Agent,
    mesh::{
        self, Plane, Spec, Target,
        gateway::NODE_PORT,
        istio::Sidecar,
        service_address,
        traffic::{Requests, expect_calls, expect_edges},
    },
    requirement::lacking,
};

#[test]
fn a_gateway_is_called_and_calls() -> Result<()> {
    if lacking(&mesh::NEEDS)? {
        return Ok(());
    }
    mesh::scene("gateway", 2, |mesh| {
        let stranger = mesh.pod(2, &Spec::new("stranger", Plane::None))?;
        let gateway = mesh.pod(1, &Spec::gateway("entry"))?;
        let web = mesh.pod(2, &Spec::new("web", Plane::Istio))?;
        let bare = mesh.pod(2, &Spec::new("bare", Plane::None))?;
        let entry = Target::new("entry", service_address(9, 80), &[&gateway]);
        let targets = [
            Target::new("web", service_address(10, 80), &[&web]),
            Target::new("bare", service_address(11, 80), &[&bare]),
        ];
        mesh.services(&[
            (&entry, "http", &[&gateway]),
            (&targets[0], "http", &[&web]),
            (&targets[1], "http", &[&bare]),
        ])?;
        let _servers = [web.serve()?, bare.serve()?];
        let _proxies = [
            mesh.istio(&web, &Sidecar::default())?,
            mesh.gateway(&gateway, &[&targets[0], &targets[1]])?,
        ];
        let agents = [mesh.agent(1)?, mesh.agent(2)?];
        let all: Vec<&Agent> = agents.iter().collect();
        let ask = |from: &str, host: &str, times: usize| -> Result<u64> {
            let (place, address) = match from {
                "stranger" => (stranger.app()?, entry.dialled()?),
                _ => {
                    let node = mesh.site().node(1).addresses()[0];
                    (mesh.outside(), (node, NODE_PORT).into())
                }
            };
            let requests = Requests {
                host,
                address,
                path: "/entry",
                times,
                at_once: 2,
                options: &[],
            };
            requests.expect(&place, 200)
        };
        let strange = [ask("stranger", "web", 14)?, ask("stranger", "bare", 9)?];
        let foreign = [ask("outside", "web", 21)?, ask("outside", "bare", 12)?];
        ensure!(strange == [14, 9] && foreign == [21, 12]);
        let asked = [strange[0] + foreign[0], strange[1] + foreign[1]];
        expect_edges(
            &all,
            &[
                (("client", "stranger", "entry", "plaintext"), 23),
                (("server", "stranger", "entry", "plaintext"), 23),
                // An address of nobody has no name.
                (("server", "", "entry", "plaintext"), 33),
                // What the gateway sends to a proxy is in TLS at its end.
                (("server", "entry", "web", "istio_mtls"), asked[0]),
                (("client", "entry", "bare", "plaintext"), asked[1]),
                (("server", "entry", "bare", "plaintext"), asked[1]),
            ],
        )?;
        expect_calls(&all, "client", &[("stranger", 23), ("entry", asked[1])])?;
        let served = [("entry", 56), ("web", asked[0]), ("bare", asked[1])];
        expect_calls(&all, "server", &served)?;
        mesh::finish(agents)
    })
}
