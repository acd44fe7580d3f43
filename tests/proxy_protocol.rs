//! A PROXY protocol header in front of a connection is recognised and its source kept, and what
//! follows is told as if it were not there.

use std::fs;

use anyhow::{Result, ensure};
use observer_tests::{
    agent::Agent,
    certificates::{Authority, text},
    cgroup::Cgroup,
    client,
    flow::{BOTH_SIDES, Flow, port_of},
    place::Place,
    requirement::{Need, lacking},
    server::Server,
};

const CONFIGURATION: &str = "
global
    log /dev/null local0
defaults
    mode tcp
    timeout connect 5s
    timeout client 20s
    timeout server 20s
frontend front
    bind 127.0.0.1:@PORT@
    default_backend back
backend back
    server only 127.0.0.1:@BACKEND@ @SEND@
";

const NEEDS: [Need; 4] = [
    Need::Observer,
    Need::Tool("nginx"),
    Need::Tool("haproxy"),
    Need::Tool("curl"),
];

/// Starts haproxy in front of `backend`, which sends headers of PROXY protocol `version`.
fn haproxy(place: &Place<'_>, backend: &Server, version: &str) -> Result<Server> {
    let send = if version == "2" {
        "send-proxy-v2"
    } else {
        "send-proxy"
    };
    let mut command = place.command("haproxy")?;
    Server::other(place, &mut command, |command, folder, port| {
        let path = folder.join("haproxy.cfg");
        let text = CONFIGURATION
            .replace("@PORT@", &port.to_string())
            .replace("@BACKEND@", &backend.address().port().to_string())
            .replace("@SEND@", send);
        fs::write(&path, text)?;
        command.args(["-db", "-f"]).arg(path);
        Ok(())
    })
}

/// Whether `flow` is of the connection to `server`, which `side` saw.
fn is_to(flow: &Flow, server: &Server, side: &str) -> bool {
    let near = if side == "client" { "remote" } else { "local" };
    flow.text("side") == side && port_of(flow.text(near)) == Some(server.address().port())
}

fn check_header(flow: &Flow, version: &str, source: &str) -> Result<()> {
    ensure!(flow.text("proxied_source") == source, "{flow:?}");
    if !flow.is_call() {
        ensure!(flow.text("proxied_version") == version, "{flow:?}");
    }
    Ok(())
}

/// Makes three requests through haproxy, by `flag` of curl, to an nginx with `parameters`.
fn check(label: &str, parameters: &str, flag: &str, http: &str) -> Result<()> {
    if lacking(&NEEDS)? {
        return Ok(());
    }
    for version in ["1", "2"] {
        let cgroup = Cgroup::create(label)?;
        let place = Place::host(&cgroup);
        let nginx = Server::nginx_with(&place, parameters, "")?;
        let front = haproxy(&place, &nginx, version)?;
        let agent = Agent::start(&cgroup)?;
        let paths = [("/hello", 200), ("/missing", 404), ("/users/17", 200)];
        let mut sources = Vec::new();
        for (path, status) in paths {
            let fetched = client::curl(&place, &[flag, &front.url(path)])?;
            ensure!(fetched.status == status, "{fetched:?}");
            sources.push(format!("127.0.0.1:{}", fetched.local_port));
        }
        for side in BOTH_SIDES {
            // In front of haproxy there is no header, behind it there is.
            for (server, proxied) in [(&front, false), (&nginx, true)] {
                let what = format!("calls, version {version}, {side} side");
                let own = |flow: &Flow| flow.is_call() && is_to(flow, server, side);
                let calls = agent.exactly(3, &what, own)?;
                for ((call, (path, status)), source) in calls.iter().zip(paths).zip(&sources) {
                    ensure!(call.text("path") == path, "{call:?}");
                    ensure!(call.integer("status")? == u64::from(status), "{call:?}");
                    ensure!(call.text("version") == http, "{call:?}");
                    ensure!(call.text("outcome") == "complete", "{call:?}");
                    if proxied {
                        check_header(call, version, source)?;
                    } else {
                        ensure!(call.get("proxied_source").is_null(), "{call:?}");
                    }
                }
            }
        }
        for side in BOTH_SIDES {
            let own = |flow: &Flow| flow.is_event_at("closed", side) && is_to(flow, &nginx, side);
            for (end, source) in agent.exactly(3, "ends", own)?.iter().zip(&sources) {
                check_header(end, version, source)?;
                ensure!(end.text("security") == "plaintext", "{end:?}");
            }
        }
        agent.expect_no_loss()?;
        agent.stop()?;
    }
    Ok(())
}

#[test]
fn http_1_is_told_behind_a_header() -> Result<()> {
    check("proxy1", "proxy_protocol", "--http1.1", "1.1")
}

#[test]
fn http_2_is_told_behind_a_header() -> Result<()> {
    check(
        "proxy2",
        "http2 proxy_protocol",
        "--http2-prior-knowledge",
        "2",
    )
}

#[test]
fn tls_is_told_behind_a_header() -> Result<()> {
    if lacking(&[&NEEDS[..], &[Need::Tool("openssl")]].concat())? {
        return Ok(());
    }
    let authority = Authority::create()?;
    let pair = authority.sign("a.test", &["DNS:a.test"])?;
    let directives = format!(
        "ssl_certificate {}; ssl_certificate_key {};",
        text(&pair.certificate),
        text(&pair.key)
    );
    for version in ["1", "2"] {
        let cgroup = Cgroup::create("proxytls")?;
        let place = Place::host(&cgroup);
        let nginx = Server::nginx_with(&place, "ssl proxy_protocol", &directives)?;
        let front = haproxy(&place, &nginx, version)?;
        let agent = Agent::start(&cgroup)?;
        let port = front.address().port();
        let (url, resolve) = (
            format!("https://a.test:{port}/hello"),
            format!("a.test:{port}:127.0.0.1"),
        );
        let own = text(&authority.certificate());
        let arguments = ["--cacert", &own, "--resolve", &resolve, &url];
        let fetched = client::curl(&place, &arguments)?;
        ensure!(fetched.status == 200, "{fetched:?}");
        let source = format!("127.0.0.1:{}", fetched.local_port);
        for side in BOTH_SIDES {
            for server in [&front, &nginx] {
                let own =
                    |flow: &Flow| flow.is_event_at("closed", side) && is_to(flow, server, side);
                for end in agent.exactly(1, "ends", own)? {
                    ensure!(end.text("security") == "tls", "{end:?}");
                    ensure!(end.text("tls_server_name") == "a.test", "{end:?}");
                    if server.address() == nginx.address() {
                        check_header(&end, version, &source)?;
                    }
                }
            }
        }
        agent.exactly(0, "calls inside of TLS", Flow::is_call)?;
        agent.expect_no_loss()?;
        agent.stop()?;
    }
    Ok(())
}

#[test]
fn a_header_of_curl_is_told() -> Result<()> {
    if lacking(&NEEDS)? {
        return Ok(());
    }
    let cgroup = Cgroup::create("proxycurl")?;
    let place = Place::host(&cgroup);
    let nginx = Server::nginx_with(&place, "proxy_protocol", "")?;
    let agent = Agent::start(&cgroup)?;
    let fetched = client::curl(&place, &["--haproxy-protocol", &nginx.url("/hello")])?;
    ensure!(fetched.status == 200, "{fetched:?}");
    let source = format!("127.0.0.1:{}", fetched.local_port);
    for side in BOTH_SIDES {
        for call in agent.exactly(1, "calls", |flow| flow.is_call_at(side))? {
            ensure!(call.text("path") == "/hello", "{call:?}");
            // The header is in front of the request, not part of it.
            ensure!(
                call.integer("request_head_bytes")? == fetched.request_head_bytes
                    || call.integer("request_head_bytes")? < 120,
                "{call:?} of {fetched:?}"
            );
            check_header(&call, "1", &source)?;
        }
    }
    agent.expect_no_loss()?;
    agent.stop()
}
