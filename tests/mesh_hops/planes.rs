//! The planes of the harness are what they stand for: what applications get, from where, and what is
//! on the wire.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use observer_tests::{
    agent::Agent,
    kubernetes::ask_with,
    mesh::{
        self, Member, Mesh, Plane, Spec, Target,
        ambient::Ztunnel,
        istio::{Accepts, Sidecar},
        linkerd, service_address,
    },
    requirement::lacking,
    server::Server,
};

/// What the server is told of its clients.
const ECHO: &str = "location = /echo { return 200 \"$remote_addr|$http_x_forwarded_client_cert|\
                    $http_l5d_client_id|$http_x_envoy_attempt_count|$server_protocol\\n\"; }";

/// Asks from `member`, always over one connection: what each answer says.
fn echo(member: &Member<'_>, target: &Target) -> Result<BTreeMap<String, usize>> {
    let (host, address) = (&target.name, target.dialled()?);
    let known = format!("{host}:{}:{}", address.port(), address.ip());
    let place = member.app()?;
    ask_with(&place, &format!("{host}/echo"), 3, &["--resolve", &known])
}

/// The fields of the only kind of answer.
fn only(answers: BTreeMap<String, usize>) -> Result<Vec<String>> {
    ensure!(answers.len() == 1, "{answers:?}");
    let (line, _) = answers.into_iter().next().context("no answer")?;
    Ok(line.split('|').map(str::to_owned).collect())
}

/// Checks the security of connections that an agent has seen at `side`.
fn wire(agent: &Agent, side: &str, security: &str) -> Result<()> {
    let labels = [("role", side), ("security", security)];
    let name = "observer_connections_security_total";
    let found = agent.metrics()?.sum(name, &labels);
    ensure!(found >= 1.0, "no connection with {security} at the {side}");
    Ok(())
}

/// A client and a server of one plane on two nodes, and a client without a mesh.
struct Pair<'a> {
    front: Member<'a>,
    stranger: Member<'a>,
    web: Member<'a>,
    target: Target,
    _web: Server,
}

fn pair<'a>(mesh: &Mesh<'a>, plane: Plane) -> Result<Pair<'a>> {
    let front = mesh.pod(1, &Spec::new("front", plane))?;
    let stranger = mesh.pod(1, &Spec::new("stranger", Plane::None))?;
    let web = mesh.pod(2, &Spec::new("web", plane))?;
    let target = Target::new("web", service_address(10, 80), &[&web]);
    mesh.services(&[(&target, "http", &[&web])])?;
    let server = web.serve_with("", ECHO)?;
    Ok(Pair {
        front,
        stranger,
        web,
        target,
        _web: server,
    })
}

#[test]
fn a_sidecar_of_istio_tells_the_client_and_takes_plaintext_if_it_is_to() -> Result<()> {
    if lacking(&mesh::NEEDS)? {
        return Ok(());
    }
    for accepts in [Accepts::Permissive, Accepts::Strict] {
        mesh::scene("istio", 2, |mesh| {
            let pair = pair(mesh, Plane::Istio)?;
            let sidecar = Sidecar {
                targets: &[&pair.target],
                ..Sidecar::default()
            };
            let inbound = Sidecar {
                accepts,
                ..Sidecar::default()
            };
            let _sidecars = [
                mesh.istio(&pair.front, &sidecar)?,
                mesh.istio(&pair.web, &inbound)?,
            ];
            let agents = [mesh.agent(1)?, mesh.agent(2)?];
            let fields = only(echo(&pair.front, &pair.target)?)?;
            let [address, certificate, client, attempt, version] = &fields[..] else {
                anyhow::bail!("{fields:?}");
            };
            ensure!(
                (address.as_str(), attempt.as_str()) == ("127.0.0.6", "1")
                    && client.is_empty()
                    && version == "HTTP/1.1",
                "{fields:?}"
            );
            let uri = "URI=spiffe://cluster.local/ns/shop/sa/front";
            ensure!(certificate.contains(uri), "{certificate}");
            wire(&agents[0], "client", "istio_mtls")?;
            wire(&agents[1], "server", "istio_mtls")?;
            let plain = echo(&pair.stranger, &pair.target);
            match accepts {
                Accepts::Strict => ensure!(plain.is_err(), "{plain:?}"),
                Accepts::Permissive | Accepts::Disabled => {
                    let fields = only(plain?)?;
                    ensure!(
                        fields[0] == "127.0.0.6" && fields[1].is_empty(),
                        "{fields:?}"
                    );
                }
            }
            mesh::finish(agents)
        })?;
    }
    Ok(())
}

#[test]
fn a_sidecar_of_linkerd_tells_the_client() -> Result<()> {
    if lacking(&mesh::NEEDS)? {
        return Ok(());
    }
    mesh::scene("linkerd", 2, |mesh| {
        let pair = pair(mesh, Plane::Linkerd)?;
        let sidecar = linkerd::Sidecar {
            targets: &[&pair.target],
            ..linkerd::Sidecar::default()
        };
        let _sidecars = [
            mesh.linkerd(&pair.front, &sidecar)?,
            mesh.linkerd(&pair.web, &linkerd::Sidecar::default())?,
        ];
        let agents = [mesh.agent(1)?, mesh.agent(2)?];
        let fields = only(echo(&pair.front, &pair.target)?)?;
        let own = pair.web.known.pod.addresses()[0].to_string();
        let identity = linkerd::identity("front");
        ensure!(
            fields == [own.as_str(), "", &identity, "", "HTTP/1.1"],
            "{fields:?}"
        );
        wire(&agents[0], "client", "linkerd_mtls")?;
        wire(&agents[1], "server", "linkerd_mtls")?;
        let fields = only(echo(&pair.stranger, &pair.target)?)?;
        ensure!(
            fields == [own.as_str(), "", "", "", "HTTP/1.1"],
            "{fields:?}"
        );
        mesh::finish(agents)
    })
}

#[test]
fn the_proxy_of_a_node_keeps_the_client_s_address() -> Result<()> {
    if lacking(&mesh::NEEDS)? {
        return Ok(());
    }
    mesh::scene("ambient", 2, |mesh| {
        let pair = pair(mesh, Plane::Ambient)?;
        let proxies = [
            Ztunnel::start(mesh.site(), 1)?,
            Ztunnel::start(mesh.site(), 2)?,
        ];
        let _proxies = [
            mesh.ambient(&proxies[0], &pair.front, &[&pair.target])?,
            mesh.ambient(&proxies[1], &pair.web, &[])?,
        ];
        let agents = [mesh.agent(1)?, mesh.agent(2)?];
        for (client, security) in [(&pair.front, "hbone"), (&pair.stranger, "plaintext")] {
            let fields = only(echo(client, &pair.target)?)?;
            let address = client.known.pod.addresses()[0].to_string();
            ensure!(
                fields == [address.as_str(), "", "", "", "HTTP/1.1"],
                "{fields:?}"
            );
            wire(&agents[0], "client", security)?;
            wire(&agents[1], "server", security)?;
        }
        mesh::finish(agents)
    })
}
