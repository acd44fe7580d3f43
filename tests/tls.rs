//! What is encrypted is told as that, with what its handshake shows, and never as HTTP.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use observer_tests::{
    agent::Agent,
    certificates::{Authority, text},
    cgroup::Cgroup,
    client,
    conversation::{Conversation, Cut},
    flow::{BOTH_SIDES, Flow},
    peers,
    place::Place,
    process,
    requirement::{Need, lacking},
    server::{PYTHON, Server},
};

const NAME: &str = "a.test";
const SPIFFE: &str = "spiffe://a.test/ns/ns/sa/caller";

/// What a test has: an authority with certificates, and an observed cgroup.
struct Stage {
    authority: Authority,
    cgroup: Cgroup,
}

fn stage(label: &str, tools: &[&'static str]) -> Result<Option<Stage>> {
    let mut needs = vec![Need::Observer, Need::Tool("openssl")];
    needs.extend(tools.iter().map(|tool| Need::Tool(tool)));
    if lacking(&needs)? {
        return Ok(None);
    }
    let (authority, cgroup) = (Authority::create()?, Cgroup::create(label)?);
    Ok(Some(Stage { authority, cgroup }))
}

/// The ends of `count` connections to `server`, the same at both sides.
fn ends(agent: &Agent, server: &Server, count: usize) -> Result<Vec<Flow>> {
    let mut both = Vec::new();
    for side in BOTH_SIDES {
        let port = server.address().port();
        let near = if side == "client" { "remote" } else { "local" };
        let own = |flow: &Flow| {
            flow.is_event_at("closed", side)
                && observer_tests::flow::port_of(flow.text(near)) == Some(port)
        };
        both.extend(agent.exactly(count, "ends of connections", own)?);
    }
    Ok(both)
}

/// `s_server` of openssl as an HTTP server.
fn openssl_server(stage: &Stage, arguments: &[&str]) -> Result<Server> {
    let pair = stage.authority.sign(NAME, &["DNS:a.test"])?;
    let place = Place::host(&stage.cgroup);
    let mut command = place.command("openssl")?;
    command.args(["s_server", "-quiet", "-www"]).args(arguments);
    command
        .arg("-cert")
        .arg(&pair.certificate)
        .arg("-key")
        .arg(&pair.key);
    command.arg("-CAfile").arg(stage.authority.certificate());
    Server::other(&place, &mut command, |command, _, port| {
        command.args(["-accept", &format!("127.0.0.1:{port}")]);
        Ok(())
    })
}

/// curl's request by TLS to the name that the certificate has.
fn curl(stage: &Stage, server: &Server, arguments: &[&str]) -> Result<client::Fetched> {
    let port = server.address().port();
    let authority = text(&stage.authority.certificate());
    let (url, resolve) = (
        format!("https://{NAME}:{port}/"),
        format!("{NAME}:{port}:127.0.0.1"),
    );
    let always = ["--cacert", &authority, "--resolve", &resolve, &url];
    client::curl(&Place::host(&stage.cgroup), &[arguments, &always].concat())
}

fn is_tls(flow: &Flow, version: &str) -> Result<()> {
    ensure!(flow.text("security") == "tls", "{flow:?}");
    ensure!(flow.text("tls_server_name") == NAME, "{flow:?}");
    ensure!(flow.text("tls_version") == version, "{flow:?}");
    ensure!(flow.text("tls_ja4").starts_with("t1"), "{flow:?}");
    Ok(())
}

#[test]
fn both_versions_of_tls_are_told() -> Result<()> {
    let Some(stage) = stage("versions", &["curl"])? else {
        return Ok(());
    };
    let server = openssl_server(&stage, &[])?;
    for (arguments, version) in [
        (["--tlsv1.3", "--tls-max", "1.3"], "1.3"),
        (["--tlsv1.2", "--tls-max", "1.2"], "1.2"),
    ] {
        let agent = Agent::start(&stage.cgroup)?;
        let fetched = curl(&stage, &server, &arguments)?;
        ensure!(fetched.status == 200, "{fetched:?}");
        for end in ends(&agent, &server, 1)? {
            is_tls(&end, version)?;
            ensure!(end.text("application_protocol") == "tls", "{end:?}");
        }
        agent.exactly(0, "calls inside of TLS", Flow::is_call)?;
        for side in BOTH_SIDES {
            let labels = [("role", side), ("security", "tls")];
            agent.expect_metric("observer_connections_security_total", &labels, 1)?;
        }
        agent.expect_no_loss()?;
        agent.stop()?;
    }
    Ok(())
}

#[test]
fn http_2_inside_of_tls_is_told_as_offered() -> Result<()> {
    let Some(stage) = stage("alpn", &["curl", "nghttpd"])? else {
        return Ok(());
    };
    let place = Place::host(&stage.cgroup);
    let pair = stage.authority.sign(NAME, &["DNS:a.test"])?;
    let mut command = place.command("nghttpd")?;
    let server = Server::other(&place, &mut command, |command, folder, port| {
        std::fs::write(folder.join("index.html"), "hello")?;
        command.arg("-a").arg("127.0.0.1").arg("-d").arg(folder);
        command.arg(port.to_string());
        command.arg(&pair.key).arg(&pair.certificate);
        Ok(())
    })?;
    for version in ["1.3", "1.2"] {
        let agent = Agent::start(&stage.cgroup)?;
        let flag = format!("--tlsv{version}");
        let fetched = curl(&stage, &server, &[&flag, "--tls-max", version, "--http2"])?;
        ensure!(fetched.status == 200, "{fetched:?}");
        for end in ends(&agent, &server, 1)? {
            is_tls(&end, version)?;
            ensure!(end.text("tls_alpn_offered") == "h2,http/1.1", "{end:?}");
            // Encrypted from TLS 1.3 on.
            let chosen = if version == "1.2" { "h2" } else { "" };
            ensure!(end.text("tls_alpn") == chosen, "{end:?}");
        }
        agent.exactly(0, "calls inside of TLS", Flow::is_call)?;
        agent.expect_no_loss()?;
        agent.stop()?;
    }
    Ok(())
}

#[test]
fn certificates_of_both_ends_are_told_where_they_are_in_the_clear() -> Result<()> {
    let Some(stage) = stage("mutual", &["curl"])? else {
        return Ok(());
    };
    let server = openssl_server(&stage, &["-Verify", "1"])?;
    let own = stage
        .authority
        .sign("caller", &[&format!("URI:{SPIFFE}")])?;
    let (certificate, key) = (text(&own.certificate), text(&own.key));
    for version in ["1.3", "1.2"] {
        let agent = Agent::start(&stage.cgroup)?;
        let flag = format!("--tlsv{version}");
        let arguments = [
            &flag,
            "--tls-max",
            version,
            "--cert",
            &certificate,
            "--key",
            &key,
        ];
        let fetched = curl(&stage, &server, &arguments)?;
        ensure!(fetched.status == 200, "{fetched:?}");
        for end in ends(&agent, &server, 1)? {
            is_tls(&end, version)?;
            let told = [
                end.text("tls_server_dns_names"),
                end.text("tls_client_uris"),
            ];
            let expected = match version {
                "1.2" => [NAME, SPIFFE],
                _ => ["", ""],
            };
            ensure!(told == expected, "{end:?}");
        }
        agent.stop()?;
    }
    Ok(())
}

#[test]
fn resumed_sessions_are_told() -> Result<()> {
    let Some(stage) = stage("resumed", &[])? else {
        return Ok(());
    };
    let server = openssl_server(&stage, &[])?;
    let place = Place::host(&stage.cgroup);
    for version in ["-tls1_3", "-tls1_2"] {
        let folder = tempfile::tempdir()?;
        let session = folder.path().join("session");
        let agent = Agent::start(&stage.cgroup)?;
        let connect = |file: &str| -> Result<String> {
            let mut command = place.command("sh")?;
            // The ticket comes after the handshake, with the first data at the latest.
            let script = format!(
                "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | openssl s_client -connect {} -servername {NAME} \
                 -ign_eof {version} {file} {}",
                server.address(),
                session.display()
            );
            process::check(command.args(["-c", &script]))
        };
        connect("-sess_out")?;
        let again = connect("-sess_in")?;
        ensure!(again.contains("Reused, "), "{version}: {again}");
        let ends = ends(&agent, &server, 2)?;
        for (number, end) in ends.iter().enumerate() {
            is_tls(end, if version == "-tls1_3" { "1.3" } else { "1.2" })?;
            let resumed = end.get("tls_resumed").as_bool().context("not known")?;
            ensure!(resumed == (number % 2 == 1), "{version}: {ends:#?}");
        }
        agent.stop()?;
    }
    Ok(())
}

#[test]
fn mail_that_starts_tls_is_told() -> Result<()> {
    let Some(stage) = stage("mail", &[PYTHON])? else {
        return Ok(());
    };
    let place = Place::host(&stage.cgroup);
    let server = python_server(&stage, &place, "smtp", &[])?;
    let agent = Agent::start(&stage.cgroup)?;
    let port = server.address().port().to_string();
    let authority = text(&stage.authority.certificate());
    let mut command = python(&place, &["mail", &port, &authority, NAME])?;
    let printed = process::check(&mut command)?;
    let ports: Vec<u16> = printed.lines().map(str::parse).collect::<Result<_, _>>()?;
    let ends = ends(&agent, &server, 2)?;
    for end in &ends {
        if end.connects(ports[0], server.address().port()) {
            is_tls(end, "1.3")?;
            ensure!(end.text("tls_started_by") == "smtp", "{end:?}");
        } else {
            ensure!(end.text("security") == "plaintext", "{end:?}");
            ensure!(end.text("application_protocol") == "smtp", "{end:?}");
        }
    }
    agent.exactly(0, "calls in mail", Flow::is_call)?;
    agent.expect_no_loss()?;
    agent.stop()
}

/// A script of `peers/tls.py`.
fn python(place: &Place<'_>, arguments: &[&str]) -> Result<Command> {
    let mut command = place.command(PYTHON)?;
    command
        .arg("-B")
        .arg(peers::script("tls.py"))
        .args(arguments);
    Ok(command)
}

fn python_server(stage: &Stage, place: &Place<'_>, mode: &str, more: &[&str]) -> Result<Server> {
    let pair = stage.authority.sign(NAME, &["DNS:a.test"])?;
    Server::other(place, &mut python(place, &[mode])?, |command, _, port| {
        command.arg(port.to_string());
        command.arg(&pair.certificate).arg(&pair.key).args(more);
        Ok(())
    })
}

/// Connects once with this name, these protocols and this version, and returns both ends.
fn shake_hands(
    label: &str,
    name: &str,
    protocols: &str,
    version: &str,
) -> Result<Option<Vec<Flow>>> {
    let Some(stage) = stage(label, &[PYTHON])? else {
        return Ok(None);
    };
    let place = Place::host(&stage.cgroup);
    let server = python_server(&stage, &place, "serve", &[protocols])?;
    let agent = Agent::start(&stage.cgroup)?;
    let port = server.address().port().to_string();
    let authority = text(&stage.authority.certificate());
    let arguments = ["call", &port, &authority, name, protocols, version];
    process::check(&mut python(&place, &arguments)?)?;
    let ends = ends(&agent, &server, 1)?;
    agent.expect_no_loss()?;
    agent.stop()?;
    Ok(Some(ends))
}

#[test]
fn linkerd_is_told_by_its_protocol_and_its_name() -> Result<()> {
    let name = "web.shop.serviceaccount.identity.linkerd.cluster.local";
    for protocols in ["transport.l5d.io/v1", ""] {
        let Some(ends) = shake_hands("linkerd", name, protocols, "TLSv1_3")? else {
            return Ok(());
        };
        for end in ends {
            ensure!(end.text("security") == "linkerd_mtls", "{end:?}");
            ensure!(end.text("tls_server_name") == name, "{end:?}");
            ensure!(end.text("linkerd_server_identity") == name, "{end:?}");
        }
    }
    Ok(())
}

#[test]
fn istio_is_told_by_its_protocol_and_its_name() -> Result<()> {
    let name = "outbound_.80_.v1_.svc.ns.svc.cluster.local";
    for protocols in [
        "istio-http/1.1,istio,http/1.1",
        "istio-peer-exchange,istio",
        "istio-h2,istio,h2",
    ] {
        // Before TLS 1.3 the certificates are in the clear, and these are none of a mesh.
        for (version, security) in [("TLSv1_3", "istio_mtls"), ("TLSv1_2", "tls")] {
            let Some(ends) = shake_hands("istio", name, protocols, version)? else {
                return Ok(());
            };
            for end in ends {
                ensure!(end.text("security") == security, "{end:?}");
                ensure!(end.text("istio_subset") == "v1", "{end:?}");
                ensure!(end.integer("istio_port")? == 80, "{end:?}");
                ensure!(
                    end.text("istio_host") == "svc.ns.svc.cluster.local",
                    "{end:?}"
                );
            }
        }
    }
    Ok(())
}

#[test]
fn plaintext_is_told_as_that() -> Result<()> {
    if lacking(&[Need::Observer, Need::Tool("nginx"), Need::Tool("curl")])? {
        return Ok(());
    }
    let cgroup = Cgroup::create("plaintext")?;
    let place = Place::host(&cgroup);
    let servers = [Server::nginx(&place)?, Server::nginx_http2(&place)?];
    let agent = Agent::start(&cgroup)?;
    for (server, flag) in servers.iter().zip(["--http1.1", "--http2-prior-knowledge"]) {
        let fetched = client::curl(&place, &[flag, &server.url("/hello")])?;
        ensure!(fetched.status == 200, "{fetched:?}");
        for end in ends(&agent, server, 1)? {
            ensure!(end.text("security") == "plaintext", "{end:?}");
        }
    }
    for side in BOTH_SIDES {
        for call in agent.exactly(2, "calls", |flow| flow.is_call_at(side))? {
            ensure!(call.text("security") == "plaintext", "{call:?}");
        }
        let requests = format!("http_{side}_request_duration_seconds_count");
        agent.expect_metric(&requests, &[("security", "plaintext")], 2)?;
    }
    agent.expect_no_loss()?;
    agent.stop()
}

#[test]
fn of_older_connections_it_is_unknown() -> Result<()> {
    if lacking(&[Need::Observer])? {
        return Ok(());
    }
    let cgroup = Cgroup::create("older")?;
    let place = Place::host(&cgroup);
    let mut talk = Conversation::open(&place)?;
    // Nothing that starts anything: the middle of some stream.
    talk.ask(&[0x17, 0xf0, 0x99, 0x80, 0x81], Cut::Whole)?;
    let agent = Agent::start(&cgroup)?;
    talk.ask(&[0x99; 300], Cut::Whole)?;
    talk.answer(&[0x98; 300], Cut::Whole)?;
    talk.close_by_client()?;
    // Nothing tells which end is the client's.
    for end in agent.exactly(2, "ends", |flow| flow.text("event") == "closed")? {
        ensure!(end.text("security") == "unknown", "{end:?}");
        ensure!(end.get("pre_existing") == true, "{end:?}");
    }
    agent.exactly(0, "calls", Flow::is_call)?;
    agent.stop()
}
