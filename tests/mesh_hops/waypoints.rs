//! A waypoint between the proxies of nodes is no party to any call.

use anyhow::{Result, ensure};
use observer_tests::{
    agent::Agent,
    h2load,
    mesh::{
        self, Plane, Protocol, Spec, Target, service_address,
        traffic::{Requests, expect_calls, expect_edges},
        waypoint::Waypoint,
    },
    requirement::{Need, lacking},
};

const SECURITY: &str = "hbone";

/// Checks that no edge of `agent` has a proxy as one of its ends.
fn no_proxies(agent: &Agent) -> Result<()> {
    let metrics = agent.metrics()?;
    for name in ["requests", "connections_opened"] {
        let name = format!("observer_edge_{name}_total");
        for sample in metrics.select(&name, &[]) {
            let ends = ["source_name", "destination_name"].map(|key| sample.labels.get(key));
            let proxies = ["waypoint", "ztunnel"];
            let mut names = ends.into_iter().flatten();
            ensure!(
                !names.any(|name| proxies.iter().any(|proxy| name.contains(proxy))),
                "{name} {:?}",
                sample.labels
            );
        }
    }
    Ok(())
}

#[test]
fn a_call_through_a_waypoint_is_one_of_its_client_and_its_server() -> Result<()> {
    if lacking(&[&mesh::NEEDS[..], &[Need::Tool("h2load")]].concat())? {
        return Ok(());
    }
    mesh::scene("waypoint", 2, |mesh| {
        // On the node of the waypoint, and on another.
        let clients = [
            mesh.pod(1, &Spec::new("front", Plane::Ambient))?,
            mesh.pod(2, &Spec::new("back", Plane::Ambient))?,
        ];
        let fast = Spec::new("fast", Plane::Ambient).serves(Protocol::Http2);
        let servers = [
            mesh.pod(2, &Spec::new("web", Plane::Ambient))?,
            mesh.pod(1, &fast)?,
        ];
        let waypoint = Waypoint::start(mesh.site(), 1, "waypoint")?;
        let through = |last, server| Target {
            waypoint: Some(waypoint.address()),
            ..Target::new("", service_address(last, 80), &[server])
        };
        let targets = [
            Target {
                name: "web".to_owned(),
                ..through(10, &servers[0])
            },
            Target {
                name: "fast".to_owned(),
                ..through(11, &servers[1])
            },
        ];
        mesh.services(&[
            (&targets[0], "http", &[&servers[0]]),
            (&targets[1], "http2", &[&servers[1]]),
        ])?;
        let _servers = [servers[0].serve()?, servers[1].serve_with("http2", "")?];
        let known: Vec<&Target> = targets.iter().collect();
        let _waypoint = mesh.waypoint(&waypoint, &known)?;
        let members = [&servers[0], &servers[1], &clients[0], &clients[1]];
        let _carriers = mesh.carry(&members, &known)?;
        let agents = [mesh.agent(1)?, mesh.agent(2)?];
        let all: Vec<&Agent> = agents.iter().collect();

        let body = servers[1].known.pod.name().len() as u64 + 1;
        let (mut edges, mut called, mut served) = (Vec::new(), Vec::new(), [0, 0]);
        for round in 0..2 {
            for (number, client) in clients.iter().enumerate() {
                let place = client.app()?;
                let requests = Requests {
                    host: "web",
                    address: targets[0].dialled()?,
                    path: "/hop",
                    times: 15 + 4 * number + round,
                    at_once: 1 + 2 * round,
                    options: &[],
                };
                let web = requests.expect(&place, 200)?;
                let load = h2load::Load {
                    address: targets[1].dialled()?,
                    paths: &[("/hop", 200, body)],
                    requests: 60,
                    connections: 2,
                    streams: 5,
                    upload: None,
                    arguments: &[],
                };
                let fast = load.run(&place)?.total();
                let source = client.workload.as_str();
                for reporter in ["client", "server"] {
                    edges.push(((reporter, source, "web", SECURITY), web));
                    edges.push(((reporter, source, "fast", SECURITY), fast));
                }
                called.push((source, web + fast));
                served = [served[0] + web, served[1] + fast];
            }
        }
        expect_edges(&all, &edges)?;
        let calls = |name: &str| {
            let own = called.iter().filter(|(source, _)| *source == name);
            own.map(|(_, count)| count).sum::<u64>()
        };
        let expected = [("front", calls("front")), ("back", calls("back"))];
        expect_calls(&all, "client", &expected)?;
        expect_calls(&all, "server", &[("web", served[0]), ("fast", served[1])])?;
        all.iter().try_for_each(|agent| no_proxies(agent))?;
        mesh::finish(agents)
    })
}
