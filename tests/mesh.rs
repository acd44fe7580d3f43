//! Between two sidecars the wire is told as the mesh's, with what it carries of the routing; the
//! hops between application and sidecar are told as calls, exactly.

use std::{fs::File, net::SocketAddr};

use anyhow::{Result, ensure};
use observer_tests::{
    agent::Agent,
    certificates::{Authority, Pair, text},
    cgroup::Cgroup,
    client::Load,
    flow::{BOTH_SIDES, Flow, port_of},
    h2load, namespace,
    namespace::Namespace,
    peers::{self, Peer},
    place::Place,
    process,
    requirement::{Need, lacking},
    server::{PYTHON, Server},
    tally::{self, Tally},
    wait::PROMPT,
};
use serde_json::json;

/// Addresses of the two pods, and of the service that the client dials.
const NEAR: &str = "10.79.0.1";
const FAR: &str = "10.79.0.2";
const SERVICE: &str = "10.96.0.10:80";

/// What the wire between sidecars may speak.
#[derive(Clone, Copy)]
struct Wire {
    alpn: &'static str,
    tls: &'static str,
    http: &'static str,
}

/// Drives two pods with sidecars: `work` is the application's own traffic to [`SERVICE`], and
/// returns what it counted.
fn check(
    label: &str,
    wire: Wire,
    application: impl FnOnce(&Place<'_>, SocketAddr) -> Result<Server>,
    work: impl FnOnce(&Place<'_>, SocketAddr) -> Result<Tally>,
) -> Result<()> {
    let tools = ["ip", "nft", "openssl", "h2load", "nghttpd", "nginx"].map(Need::Tool);
    let needs = [&[Need::Observer, Need::Peer(Peer::Envoy)], &tools[..]].concat();
    if lacking(&needs)? {
        return Ok(());
    }
    let authority = Authority::create()?;
    let identity = |name: &str| {
        let uri = format!("URI:spiffe://cluster.local/ns/ns/sa/{name}");
        authority.sign(name, &[&uri])
    };
    let (client, server) = (identity("client")?, identity("server")?);
    let cgroup = Cgroup::create(label)?;
    let (near, far) = (Namespace::create("near")?, Namespace::create("far")?);
    let (left, right) = (format!("{NEAR}/24"), format!("{FAR}/24"));
    namespace::join((&near, &[&left]), (&far, &[&right]))?;
    near.run("ip", &["route", "add", "10.96.0.0/16", "via", FAR])?;
    near.rules(
        "table ip mesh { chain output { type nat hook output priority -100; \
         ip daddr 10.96.0.0/16 tcp dport 80 redirect to :15001; }; }",
    )?;
    far.rules(
        "table ip mesh { chain prerouting { type nat hook prerouting priority -100; \
         iifname != \"lo\" tcp dport 8080 redirect to :15006; }; }",
    )?;
    let (near, far) = (Place::inside(&cgroup, &near), Place::inside(&cgroup, &far));
    let behind: SocketAddr = format!("{FAR}:8080").parse()?;
    let _application = application(&far, behind)?;
    let certificates = |pair: &Pair| {
        [
            text(&pair.certificate),
            text(&pair.key),
            text(&authority.certificate()),
        ]
    };
    let start = |place: &Place<'_>, port: u16, name: &str, pair: &Pair| {
        let [certificate, key, authority] = certificates(pair);
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let words = [
            ("@SERVICE@", FAR),
            ("@ALPN@", wire.alpn),
            ("@TLS@", wire.tls),
            ("@HTTP@", wire.http),
            ("@CERTIFICATE@", certificate.as_str()),
            ("@KEY@", key.as_str()),
            ("@AUTHORITY@", authority.as_str()),
        ];
        Server::envoy_at(place, address, name, &words)
    };
    let _inbound = start(&far, 15006, "inbound.yaml", &server)?;
    let _outbound = start(&near, 15001, "outbound.yaml", &client)?;
    let agent = Agent::start(&cgroup)?;
    let counted = work(&near, SERVICE.parse()?)?;
    // Client and sidecar, where the client's own socket knows what was dialled.
    let hop = |flow: &Flow, address: &str, port: u16| {
        let near = match flow.text("side") {
            "client" => "remote",
            _ => "local",
        };
        let here = flow.text(near) == address || port_of(flow.text(near)) == Some(port);
        // The wire's port is the application's too.
        here && flow.text("security") != "istio_mtls"
    };
    let calls = tally::expect(
        &agent,
        "client and sidecar",
        &counted,
        &BOTH_SIDES,
        |flow| hop(flow, SERVICE, 15001),
    )?;
    ensure!(
        calls
            .iter()
            .all(|flow| flow.text("security") == "plaintext"),
        "{calls:#?}"
    );
    // What a sidecar adds and removes is fields of heads.
    let inner = tally::expect(
        &agent,
        "sidecar and server",
        &counted,
        &BOTH_SIDES,
        |flow| hop(flow, "none", 8080),
    )?;
    tally::expect_agreement(&inner, PROMPT)?;
    for flow in inner.iter().filter(|flow| flow.text("side") == "server") {
        ensure!(flow.text("remote").starts_with("127.0.0.6:"), "{flow:?}");
    }
    let total = agent.flows()?.iter().filter(|flow| flow.is_call()).count();
    ensure!(
        total as u64 == 4 * counted.total(),
        "{total} calls in all, {} made",
        counted.total()
    );
    // The wire itself, seen by both sidecars.
    for side in BOTH_SIDES {
        let labels = [("role", side), ("security", "istio_mtls")];
        let name = "observer_connections_security_total";
        let connections = agent.metrics()?.sum(name, &labels);
        ensure!(
            connections >= 1.0,
            "{side}: {connections} connections of the mesh"
        );
        let wires: Vec<Flow> = agent
            .flows()?
            .into_iter()
            .filter(|flow| flow.text("side") == side && flow.text("security") == "istio_mtls")
            .collect();
        ensure!(!wires.is_empty(), "no connection of the mesh, {side} side");
        for end in wires {
            ensure!(end.text("kind") == "connection", "{end:?}");
            ensure!(end.text("istio_subset") == "v1", "{end:?}");
            ensure!(end.integer("istio_port")? == 80, "{end:?}");
            ensure!(
                end.text("istio_host") == "svc.ns.svc.cluster.local",
                "{end:?}"
            );
            // The certificates are told at the end.
            if end.text("event") != "closed" {
                continue;
            }
            let spiffe = end.text("tls_client_uris") == "spiffe://cluster.local/ns/ns/sa/client";
            ensure!(spiffe == (wire.tls == "TLSv1_2"), "{end:?}");
        }
    }
    agent.expect_no_loss()?;
    agent.stop()
}

fn of_nginx(place: &Place<'_>, address: SocketAddr) -> Result<Server> {
    let mut command = place.command("nginx")?;
    Server::at(place, address, &mut command, |command, folder| {
        let text = format!(
            "daemon off; user root; worker_processes 1; pid {0}/pid; error_log {0}/error;\n\
             events {{ }}\n\
             http {{ access_log off; client_body_temp_path {0}/b; proxy_temp_path {0}/p;\n\
             fastcgi_temp_path {0}/f; uwsgi_temp_path {0}/u; scgi_temp_path {0}/s;\n\
             keepalive_requests 1000000;\n\
             server {{ listen {address}; location = /hello {{ return 200 \"hello world\\n\"; }} }} }}\n",
            folder.display()
        );
        let path = folder.join("nginx.conf");
        std::fs::write(&path, text)?;
        File::create(folder.join("error"))?;
        command
            .arg("-p")
            .arg(folder)
            .arg("-e")
            .arg(folder.join("error"));
        command.arg("-c").arg(path);
        Ok(())
    })
}

fn check_http_1(label: &str, alpn: &'static str, tls: &'static str) -> Result<()> {
    let wire = Wire {
        alpn,
        tls,
        http: "http_protocol_options",
    };
    check(label, wire, of_nginx, |place, address| {
        let load = Load {
            address,
            targets: &["/hello", "/missing"],
            connections: 4,
            rounds: 50,
            pipelined: 1,
        };
        let counted = load.run(place)?;
        let mut tally = Tally::default();
        for (path, status) in [("/hello", 200), ("/missing", 404)] {
            let fields = json!({
                "method": "GET",
                "path": path,
                "status": status,
                "version": "1.1",
                "outcome": "complete",
            });
            tally.add(&fields, counted.statuses.get(&status).copied().unwrap_or(0));
        }
        ensure!(tally.total() == load.requests(), "{counted:?}");
        Ok(tally)
    })
}

#[test]
fn http_1_between_sidecars_is_told() -> Result<()> {
    check_http_1("mesh13", "istio-http/1.1, istio, http/1.1", "TLSv1_3")
}

#[test]
fn certificates_of_sidecars_are_told_by_tls_1_2() -> Result<()> {
    check_http_1("mesh12", "istio-peer-exchange, istio", "TLSv1_2")
}

#[test]
fn http_2_between_sidecars_is_told() -> Result<()> {
    let wire = Wire {
        alpn: "istio-h2, istio, h2",
        tls: "TLSv1_3",
        http: "http2_protocol_options",
    };
    let application = |place: &Place<'_>, address: SocketAddr| {
        let mut command = place.command("nghttpd")?;
        Server::at(place, address, &mut command, |command, folder| {
            std::fs::write(folder.join("hello"), "hello world\n")?;
            command.args(["--no-tls", "-a", FAR, "-d"]).arg(folder);
            command.arg("8080");
            Ok(())
        })
    };
    check("mesh2", wire, application, |place, address| {
        h2load::Load {
            address,
            paths: &[("/hello", 200, 12)],
            requests: 400,
            connections: 2,
            streams: 10,
            upload: None,
            arguments: &[],
        }
        .run(place)
    })
}

#[test]
fn the_tunnel_of_ambient_mode_is_told_by_its_port() -> Result<()> {
    let needs = ["ip", "openssl", PYTHON].map(Need::Tool);
    if lacking(&[&[Need::Observer], &needs[..]].concat())? {
        return Ok(());
    }
    let authority = Authority::create()?;
    let pair = authority.sign("server", &["URI:spiffe://cluster.local/ns/ns/sa/server"])?;
    let (cgroup, namespace) = (Cgroup::create("hbone")?, Namespace::create("hbone")?);
    let place = Place::inside(&cgroup, &namespace);
    let script = peers::script("tls.py");
    for (port, security) in [(15008, "hbone"), (15009, "tls")] {
        let mut command = place.command(PYTHON)?;
        command
            .arg("-B")
            .arg(&script)
            .args(["serve", &port.to_string()]);
        command.arg(&pair.certificate).arg(&pair.key).arg("h2");
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let server = Server::at(&place, address, &mut command, |_, _| Ok(()))?;
        let agent = Agent::start(&cgroup)?;
        let mut command = place.command(PYTHON)?;
        command
            .arg("-B")
            .arg(&script)
            .args(["call", &port.to_string()]);
        command
            .arg(authority.certificate())
            .args(["-", "h2", "TLSv1_3"]);
        process::check(&mut command)?;
        for side in BOTH_SIDES {
            for end in agent.exactly(1, "ends", |flow| flow.is_event_at("closed", side))? {
                ensure!(end.text("security") == security, "{end:?}");
                ensure!(end.get("tls_server_name").is_null(), "{end:?}");
            }
        }
        agent.stop()?;
        server.stop()?;
    }
    Ok(())
}
