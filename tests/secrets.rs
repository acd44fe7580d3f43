//! Credentials, cookies and query values leave no trace in anything that the observer says.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Result, ensure};
use observer_tests::{
    agent::{self, Agent},
    cgroup::Cgroup,
    conversation::{Conversation, Cut},
    peers::Peer,
    place::{Handshake, Place},
    process,
    requirement::{Need, lacking},
    server::Server,
};

/// In every place where a secret can be; long and rare enough to be found by itself.
const SECRET: &str = "s3cr3tq7x9";
/// A field that is told, so that the one that goes with it is read.
const PARENT: &str = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[test]
fn secrets_are_not_kept() -> Result<()> {
    if lacking(&[Need::Observer])? {
        return Ok(());
    }
    let cgroup = Cgroup::create("secrets")?;
    let place = Place::host(&cgroup);
    let agent = Agent::start(&cgroup)?;
    let listener = place.listen(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let requests = [
        format!("GET /login?token={SECRET}&a=b HTTP/1.1\r\nHost: a.test\r\n\r\n"),
        format!("GET /login HTTP/1.1\r\nHost: a.test\r\nAuthorization: Bearer {SECRET}\r\n\r\n"),
        format!("GET /login HTTP/1.1\r\nHost: a.test\r\nCookie: id={SECRET}; b=c\r\n\r\n"),
        format!("GET http://u:{SECRET}@a.test/login?{SECRET} HTTP/1.1\r\nHost: a.test\r\n\r\n"),
        format!(
            "GET /login HTTP/1.1\r\nHost: a.test\r\n{PARENT}\r\nTracestate: a={SECRET}\r\n\r\n"
        ),
        format!(
            "GET /login HTTP/1.1\r\nHost: a.test\r\nX-Request-Id: {SECRET}\r\n\
             Traceparent: {SECRET}\r\nB3: {SECRET}\r\nX-Amzn-Trace-Id: Self={SECRET}\r\n\r\n"
        ),
        format!(
            "GET /login HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-Client-Cert: Hash={SECRET};\
             Cert=\"{SECRET}\";Subject=\"CN={SECRET}\";URI=spiffe://a/ns/b/sa/c\r\n\r\n"
        ),
        format!("GET /login#{SECRET} HTTP/1.1\r\nHost: a.test\r\n\r\n"),
        format!(
            "POST /login HTTP/1.1\r\nHost: a.test\r\nContent-Length: {}\r\n\r\n{SECRET}",
            SECRET.len()
        ),
    ];
    let response = format!(
        "HTTP/1.1 200 OK\r\nSet-Cookie: id={SECRET}\r\nLocation: /?{SECRET}\r\n\
         L5d-Proxy-Error: {SECRET}\r\nServer: {SECRET}\r\n\
         Content-Length: {}\r\n\r\n{SECRET}",
        SECRET.len()
    );
    for cut in [Cut::Whole, Cut::Seeded(5)] {
        let mut talk = Conversation::accept(&place, &listener, Handshake::Plain)?;
        for request in &requests {
            talk.ask(request.as_bytes(), cut)?;
            talk.answer(response.as_bytes(), cut)?;
        }
        talk.close_by_client()?;
    }
    let calls = agent.exactly(4 * requests.len(), "calls", |flow| flow.is_call())?;
    for call in &calls {
        ensure!(call.text("path") == "/login", "{call:?}");
    }
    expect_silence(&agent)?;
    agent.stop()
}

#[test]
fn secrets_of_http_2_are_not_kept() -> Result<()> {
    let needs = [Need::Observer, Need::Tool("curl"), Need::Peer(Peer::Go)];
    if lacking(&needs)? {
        return Ok(());
    }
    let cgroup = Cgroup::create("secrets2")?;
    let place = Place::host(&cgroup);
    let server = Server::go(&place, Ipv4Addr::LOCALHOST.into())?;
    let agent = Agent::start(&cgroup)?;
    let url = server.url(&format!("/echo?token={SECRET}#{SECRET}"));
    // The first asks for HTTP/2 by an upgrade.
    for flag in ["--http2", "--http2-prior-knowledge"] {
        let mut command = place.command("curl")?;
        command.args(["--silent", flag, "--request", "POST", &url]);
        for name in [
            "Authorization: Bearer",
            "X-Key:",
            "Referer: http://a.test/?",
            "X-Request-Id:",
            "Uber-Trace-Id:",
            "Tracestate: a=",
            "X-Forwarded-Client-Cert: URI=spiffe://a/ns/b/sa/c;Hash=",
        ] {
            command.args(["--header", &format!("{name} {SECRET}")]);
        }
        command.args(["--header", PARENT]);
        command.args(["--cookie", &format!("id={SECRET}")]);
        if flag != "--http2" {
            command.args(["--data", SECRET]);
            ensure!(process::check(&mut command)? == SECRET, "no echo");
        } else {
            process::check(&mut command)?;
        }
    }
    let calls = agent.exactly(4, "calls", |flow| flow.is_call())?;
    for call in &calls {
        ensure!(call.text("path") == "/echo", "{call:?}");
    }
    expect_silence(&agent)?;
    agent.stop()
}

/// Fails if anything that the observer says has a secret in it.
fn expect_silence(agent: &Agent) -> Result<()> {
    let url = format!("http://{}", agent.address());
    let mut said = vec![
        agent.get("/metrics")?,
        agent.get("/api/v1/flows?last=100000")?,
        agent.get("/api/v1/services")?,
        agent.log()?,
    ];
    for form in ["compact", "wide", "json"] {
        let flows = agent::run(&["flows", "--server", &url, "--last", "1000", "-o", form])?;
        ensure!(
            flows.status.success(),
            "observer flows -o {form}: {flows:?}"
        );
        said.push(String::from_utf8_lossy(&flows.stdout).into_owned());
    }
    for text in said {
        let line = text.lines().find(|line| line.contains(SECRET));
        ensure!(line.is_none(), "a secret is told: {line:?}");
    }
    Ok(())
}
