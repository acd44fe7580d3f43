//! People see what happens soon, by the commands and by the interface that scripts use.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use observer_tests::{
    agent::{self, Agent},
    cgroup::Cgroup,
    client,
    conversation::{Conversation, Cut},
    flow::Flow,
    http,
    metrics::Metrics,
    place::{Handshake, Place},
    process::Process,
    requirement::{Need, lacking},
    server::Server,
};

/// Runs an observer's command that has to succeed, and returns its output.
fn said(arguments: &[&str]) -> Result<String> {
    let output = agent::run(arguments)?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{arguments:?}: {}: {errors}",
        output.status
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn requests_show_within_two_seconds() -> Result<()> {
    if lacking(&[Need::Observer, Need::Tool("nginx"), Need::Tool("curl")])? {
        return Ok(());
    }
    let cgroup = Cgroup::create("soon")?;
    let place = Place::host(&cgroup);
    let nginx = Server::nginx(&place)?;
    let start = Instant::now();
    let agent = Agent::start(&cgroup)?;
    ensure!(
        start.elapsed() < Duration::from_secs(5),
        "it started in {:?}",
        start.elapsed()
    );
    let two_seconds = Duration::from_secs(2);
    for number in 0..3 {
        let path = format!("/users/{number}");
        client::curl(&place, &[&nginx.url(&path)])?;
        for side in observer_tests::flow::BOTH_SIDES {
            agent.first("a call", two_seconds, |flow| {
                flow.is_call_at(side) && flow.text("path") == path
            })?;
        }
    }
    let labels = [("http_route", "/users/{id}")];
    let count = "http_server_request_duration_seconds_count";
    let shown = Instant::now();
    agent.expect_metric(count, &labels, 3)?;
    ensure!(
        shown.elapsed() < Duration::from_secs(3),
        "metrics came after {:?}",
        shown.elapsed()
    );
    agent.stop()
}

#[test]
fn the_interface_answers() -> Result<()> {
    if lacking(&[Need::Observer])? {
        return Ok(());
    }
    let cgroup = Cgroup::create("interface")?;
    let agent = Agent::start(&cgroup)?;
    for target in [
        "/livez",
        "/readyz",
        "/metrics",
        "/api/v1/flows",
        "/api/v1/services",
    ] {
        agent.get(target).with_context(|| target.to_owned())?;
    }
    let missing = http::get(agent.address(), "/no/such/page")?;
    ensure!(missing.status == 404, "{missing:?}");
    let bad = http::get(agent.address(), "/api/v1/flows?last=many")?;
    ensure!(bad.status == 400, "{bad:?}");
    Metrics::parse(&agent.get("/metrics")?)?;
    agent.stop()
}

#[test]
fn flows_are_listed_and_filtered() -> Result<()> {
    if lacking(&[Need::Observer])? {
        return Ok(());
    }
    let cgroup = Cgroup::create("flows")?;
    let place = Place::host(&cgroup);
    let agent = Agent::start(&cgroup)?;
    let listener = place.listen(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let port = listener.local_addr()?.port().to_string();
    let mut talk = Conversation::accept(&place, &listener, Handshake::Plain)?;
    for (method, path, status) in [
        ("GET", "/fruit/apple", 200),
        ("GET", "/fruit/plum", 404),
        ("POST", "/fruit/pear", 201),
        ("DELETE", "/tree", 500),
        ("GET", "/slow", 200),
    ] {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: a.test\r\n\r\n");
        talk.ask(request.as_bytes(), Cut::Whole)?;
        if path == "/slow" {
            std::thread::sleep(Duration::from_millis(300));
        }
        let response = format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n");
        talk.answer(response.as_bytes(), Cut::Whole)?;
    }
    talk.close_by_client()?;
    agent.exactly(10, "calls", Flow::is_call)?;
    let ended = |flow: &Flow| flow.text("event") == "closed";
    agent.exactly(2, "ends of the connection", ended)?;
    let url = format!("http://{}", agent.address());
    let list = |filters: &[&str]| -> Result<Vec<Flow>> {
        let common = ["flows", "--server", &url, "--last", "1000", "-o", "json"];
        Flow::parse_lines(&said(&[&common, filters].concat())?)
    };
    ensure!(
        list(&[])? == agent.flows()?,
        "the command and the interface tell different flows"
    );
    for (filters, expected) in [
        (&["--method", "GET"][..], 6),
        (&["--status", "404"], 2),
        (&["--status", "5xx"], 2),
        (&["--path", "/fruit/*"], 6),
        (&["--min-duration", "200ms"], 2),
        (
            &["--method", "GET", "--status", "200", "--path", "/slow"],
            2,
        ),
    ] {
        let found = list(filters)?;
        let calls = found.iter().filter(|flow| flow.is_call()).count();
        ensure!(
            calls == expected,
            "{filters:?}: {calls} instead of {expected}: {found:#?}"
        );
    }
    for (filters, expected) in [
        (&["--port", port.as_str()][..], 10),
        (&["--port", "1"], 0),
        (&["--protocol", "http"], 10),
        (&["--service", "no-such-service"], 0),
        (&["--peer", "no-such-peer"], 0),
    ] {
        let calls = list(filters)?.iter().filter(|flow| flow.is_call()).count();
        ensure!(
            calls == expected,
            "{filters:?}: {calls} instead of {expected}"
        );
    }
    let last = ["flows", "--server", &url, "--last", "2", "-o", "json"];
    ensure!(
        Flow::parse_lines(&said(&last)?)?.len() == 2,
        "--last 2 is not two flows"
    );
    for form in ["compact", "wide"] {
        let text = said(&["flows", "--server", &url, "--last", "1000", "-o", form])?;
        let line = text.lines().find(|line| line.contains("/fruit/plum"));
        ensure!(
            line.is_some_and(|line| line.contains("404")),
            "{form}: {text}"
        );
    }
    agent.stop()
}

#[test]
fn flows_are_followed() -> Result<()> {
    if lacking(&[Need::Observer])? {
        return Ok(());
    }
    let cgroup = Cgroup::create("follow")?;
    let place = Place::host(&cgroup);
    let agent = Agent::start(&cgroup)?;
    let url = format!("http://{}", agent.address());
    let mut command = Command::new(agent::binary()?);
    command.args(["flows", "--server", &url, "--follow", "-o", "json"]);
    let mut follower = Process::spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()))?;
    let pipe = follower.child().stdout.take().context("no pipe")?;
    let (sender, lines) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(|line| line.ok()) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    std::thread::sleep(Duration::from_millis(500));
    let mut talk = Conversation::open(&place)?;
    talk.ask(b"GET /live HTTP/1.1\r\nHost: a.test\r\n\r\n", Cut::Whole)?;
    talk.answer(b"HTTP/1.1 204 No Content\r\n\r\n", Cut::Whole)?;
    // The connection is still open: a call is told when it ends, not when its connection does.
    let mut calls = 0;
    while calls < 2 {
        let line = lines
            .recv_timeout(Duration::from_secs(2))
            .context("no call within 2 s")?;
        let flow = Flow::parse(&line)?;
        calls += usize::from(flow.is_call() && flow.text("path") == "/live");
    }
    talk.close_by_client()?;
    drop(follower);
    reader
        .join()
        .map_err(|_| anyhow::anyhow!("the reader died"))?;
    agent.stop()
}

#[test]
fn top_and_doctor_report() -> Result<()> {
    if lacking(&[Need::Observer, Need::Tool("nginx"), Need::Tool("ab")])? {
        return Ok(());
    }
    let cgroup = Cgroup::create("top")?;
    let place = Place::host(&cgroup);
    let nginx = Server::nginx(&place)?;
    let agent = Agent::start(&cgroup)?;
    client::ab(&place, &nginx.url("/hello"), 200, 2, true)?;
    agent.expect_metric("http_server_request_duration_seconds_count", &[], 200)?;
    let url = format!("http://{}", agent.address());
    let top = said(&["top", "--server", &url, "--once"])?;
    ensure!(
        top.contains("nginx") && top.to_lowercase().contains("p95"),
        "{top}"
    );
    let report = said(&["doctor", "-o", "json"])?;
    let report: serde_json::Value = serde_json::from_str(&report).context("read the report")?;
    ensure!(report.is_object(), "{report}");
    let text = report.to_string();
    for word in ["kernel", "cgroup", "cap"] {
        ensure!(
            text.contains(word),
            "the report says nothing of {word}: {report}"
        );
    }
    for arguments in [
        &["--help"][..],
        &["agent", "--help"],
        &["flows", "--help"],
        &["top", "--help"],
    ] {
        ensure!(
            said(arguments)?.lines().count() > 5,
            "{arguments:?} helps little"
        );
    }
    agent.stop()
}
