//! What must be so through any plane, and without one.

use anyhow::{Context, Result, ensure};
use observer_tests::{
    agent::Agent,
    client, h2load, mesh,
    mesh::{
        Plane, Protocol, Spec, Target, service_address,
        traffic::{Requests, expect_calls, expect_connections, expect_edges},
    },
    peers::{self, Peer},
    process,
    requirement::{Need, lacking},
    server::PYTHON,
};

/// A plane, and how the observer calls what it does on the wire.
type Wire = (Plane, &'static str);

const NONE: Wire = (Plane::None, "plaintext");
const ISTIO: Wire = (Plane::Istio, "istio_mtls");
const LINKERD: Wire = (Plane::Linkerd, "linkerd_mtls");
const AMBIENT: Wire = (Plane::Ambient, "hbone");

/// HTTP/1.1, HTTP/2, gRPC and bytes of nobody's, each from one client to a server of its own.
fn every_protocol((plane, security): Wire) -> Result<()> {
    let more = [
        Need::Tool("h2load"),
        Need::Tool(PYTHON),
        Need::Peer(Peer::Go),
    ];
    if lacking(&[&mesh::NEEDS[..], &more].concat())? {
        return Ok(());
    }
    mesh::scene("protocols", 2, |mesh| {
        let front = mesh.pod(1, &Spec::new("front", plane))?;
        let kinds = [
            ("web", "http", Protocol::Http1),
            ("fast", "http2", Protocol::Http2),
            ("rpc", "grpc", Protocol::Http2),
            ("bytes", "tcp", Protocol::Tcp),
        ];
        let servers = kinds
            .iter()
            .map(|(name, _, protocol)| mesh.pod(2, &Spec::new(name, plane).serves(*protocol)));
        let servers = servers.collect::<Result<Vec<_>>>()?;
        let targets: Vec<Target> = (10..)
            .zip(&servers)
            .map(|(last, server)| {
                Target::new(&server.workload, service_address(last, 80), &[server])
            })
            .collect();
        let answers: Vec<_> = servers.iter().map(|server| [server]).collect();
        let services: Vec<_> = (targets.iter().zip(&kinds).zip(&answers))
            .map(|((target, (_, port, _)), server)| (target, *port, &server[..]))
            .collect();
        mesh.services(&services)?;
        let _servers = [
            servers[0].serve()?,
            servers[1].serve_with("http2", "")?,
            servers[2].serve_rpc()?,
            servers[3].serve_bytes()?,
        ];
        let known: Vec<&Target> = targets.iter().collect();
        let mut members: Vec<_> = servers.iter().collect();
        members.push(&front);
        let _carriers = mesh.carry(&members, &known)?;
        let agents = [mesh.agent(1)?, mesh.agent(2)?];
        let agents_all: Vec<&Agent> = agents.iter().collect();
        let place = front.app()?;

        // Over connections that stay, and one for each.
        let load = client::Load {
            address: targets[0].dialled()?,
            targets: &["/hop", "/error", "/missing/42"],
            connections: 4,
            rounds: 15,
            pipelined: 1,
        };
        let counted = load.run(&place)?;
        let mut web: u64 = counted.statuses.values().sum();
        ensure!(web == load.requests(), "{counted:?}");
        let requests = Requests {
            host: "web",
            address: targets[0].dialled()?,
            path: "/once",
            times: 10,
            at_once: 1,
            options: &["--header", "Connection: close"],
        };
        web += requests.expect(&place, 200)?;
        let body = servers[1].known.pod.name().len() as u64 + 1;
        let load = h2load::Load {
            address: targets[1].dialled()?,
            paths: &[("/hop", 200, body)],
            requests: 120,
            connections: 2,
            streams: 10,
            upload: None,
            arguments: &[],
        };
        let fast = load.run(&place)?.total();
        let address = targets[2].dialled()?.to_string();
        let load = ["-connections", "2", "-streams", "5", "-calls", "200"];
        let arguments = [&["grpc-load", "-address", &address], &load[..]].concat();
        let printed = process::check(&mut peers::go(&place, &arguments)?)?;
        let rpc: u64 = (printed.split(' ').nth(1))
            .context("the client tells no number")?
            .parse()?;
        let (bytes, address) = (7, targets[3].dialled()?);
        let mut command = place.command(PYTHON)?;
        command.arg("-B").arg(peers::script("echo.py"));
        command.args(["call", &address.ip().to_string(), "80"]);
        process::check(command.arg(bytes.to_string()))?;

        let mut edges = Vec::new();
        for (server, count) in [("web", web), ("fast", fast), ("rpc", rpc)] {
            for reporter in ["client", "server"] {
                edges.push(((reporter, "front", server, security), count));
            }
        }
        expect_edges(&agents_all, &edges)?;
        expect_calls(&agents_all, "client", &[("front", web + fast + rpc)])?;
        let servers = [("web", web), ("fast", fast), ("rpc", rpc)];
        expect_calls(&agents_all, "server", &servers)?;
        // What the bytes of nobody's protocol are is not known either, unless a mesh carries them.
        let security = match plane {
            Plane::None => "unknown",
            _ => security,
        };
        for reporter in ["client", "server"] {
            expect_connections(&agents_all, (reporter, "front", "bytes", security), bytes)?;
        }
        mesh::finish(agents)
    })
}

/// Clients with and without a mesh, to servers with and without, on their node and on another.
fn one_sided((plane, security): Wire) -> Result<()> {
    if lacking(&mesh::NEEDS)? {
        return Ok(());
    }
    mesh::scene("sides", 2, |mesh| {
        let clients = [
            mesh.pod(1, &Spec::new("front", plane))?,
            mesh.pod(1, &Spec::new("stranger", Plane::None))?,
            mesh.pod(2, &Spec::new("front-near", plane))?,
            mesh.pod(2, &Spec::new("stranger-near", Plane::None))?,
        ];
        let servers = [
            mesh.pod(2, &Spec::new("web", plane))?,
            mesh.pod(2, &Spec::new("bare", Plane::None))?,
        ];
        let targets = [
            Target::new("web", service_address(10, 80), &[&servers[0]]),
            Target::new("bare", service_address(11, 80), &[&servers[1]]),
        ];
        mesh.services(&[
            (&targets[0], "http", &[&servers[0]]),
            (&targets[1], "http", &[&servers[1]]),
        ])?;
        let _servers = [servers[0].serve()?, servers[1].serve()?];
        let known: Vec<&Target> = targets.iter().collect();
        let _carriers = mesh.carry(&[&servers[0], &clients[0], &clients[2]], &known)?;
        let agents = [mesh.agent(1)?, mesh.agent(2)?];
        let mut edges = Vec::new();
        let mut times = 10;
        for client in &clients {
            for target in &targets {
                times += 3;
                let requests = Requests {
                    host: &target.name,
                    address: target.dialled()?,
                    path: "/hop",
                    times,
                    at_once: 2,
                    options: &[],
                };
                let counted = requests.expect(&client.app()?, 200)?;
                let secured = client.plane != Plane::None && target.name == "web";
                let security = if secured { security } else { "plaintext" };
                for reporter in ["client", "server"] {
                    let (source, destination) = (client.workload.as_str(), target.name.as_str());
                    edges.push(((reporter, source, destination, security), counted));
                }
            }
        }
        expect_edges(&agents.iter().collect::<Vec<_>>(), &edges)?;
        mesh::finish(agents)
    })
}

/// Several clients in turns, whom a proxy may serve over one connection to the application; on one
/// node with it and on another.
fn several_clients((plane, security): Wire) -> Result<()> {
    if lacking(&mesh::NEEDS)? {
        return Ok(());
    }
    mesh::scene("several", 2, |mesh| {
        let clients = [
            mesh.pod(1, &Spec::new("front", plane))?,
            mesh.pod(1, &Spec::new("back", plane))?,
            mesh.pod(2, &Spec::new("near", plane))?,
        ];
        let web = mesh.pod(2, &Spec::new("web", plane))?;
        let target = Target::new("web", service_address(10, 80), &[&web]);
        mesh.services(&[(&target, "http", &[&web])])?;
        let _server = web.serve()?;
        let members = [&web, &clients[0], &clients[1], &clients[2]];
        let _carriers = mesh.carry(&members, &[&target])?;
        let agents = [mesh.agent(1)?, mesh.agent(2)?];
        let mut edges = Vec::new();
        for round in 0..3 {
            for (number, client) in clients.iter().enumerate() {
                let requests = Requests {
                    host: "web",
                    address: target.dialled()?,
                    path: "/turn",
                    times: 5 + 2 * number + round,
                    at_once: 1,
                    options: &[],
                };
                let counted = requests.expect(&client.app()?, 200)?;
                for reporter in ["client", "server"] {
                    let source = client.workload.as_str();
                    edges.push(((reporter, source, "web", security), counted));
                }
            }
        }
        expect_edges(&agents.iter().collect::<Vec<_>>(), &edges)?;
        mesh::finish(agents)
    })
}

#[test]
fn every_protocol_without_a_mesh() -> Result<()> {
    every_protocol(NONE)
}

#[test]
fn sides_without_a_mesh() -> Result<()> {
    one_sided(NONE)
}

#[test]
fn several_clients_without_a_mesh() -> Result<()> {
    several_clients(NONE)
}

#[test]

fn every_protocol_by_sidecars_of_istio() -> Result<()> {
    every_protocol(ISTIO)
}

#[test]

fn one_side_with_sidecars_of_istio() -> Result<()> {
    one_sided(ISTIO)
}

#[test]
fn several_clients_by_sidecars_of_istio() -> Result<()> {
    several_clients(ISTIO)
}

#[test]

fn every_protocol_by_sidecars_of_linkerd() -> Result<()> {
    every_protocol(LINKERD)
}

#[test]

fn one_side_with_sidecars_of_linkerd() -> Result<()> {
    one_sided(LINKERD)
}

#[test]
fn several_clients_by_sidecars_of_linkerd() -> Result<()> {
    several_clients(LINKERD)
}

#[test]

fn every_protocol_by_the_proxies_of_nodes() -> Result<()> {
    every_protocol(AMBIENT)
}

#[test]

fn one_side_with_the_proxy_of_its_node() -> Result<()> {
    one_sided(AMBIENT)
}

#[test]

fn several_clients_by_the_proxies_of_nodes() -> Result<()> {
    several_clients(AMBIENT)
}
