//! Contents of any size are counted to the byte, and their durations agree with the client's.

use std::{fs::File, time::Duration};

use anyhow::{Result, ensure};
use observer_tests::{
    agent::{Agent, Options},
    cgroup::Cgroup,
    client::{self, Fetched},
    flow::{BOTH_SIDES, Flow},
    place::Place,
    requirement::{Need, lacking},
    server::{PYTHON, Server},
};

/// Checks the two calls and the two connections of what curl has `fetched`.
fn expect(agent: &Agent, fetched: &Fetched) -> Result<()> {
    for side in BOTH_SIDES {
        let end = if side == "client" { "local" } else { "remote" };
        let address = format!("127.0.0.1:{}", fetched.local_port);
        let call = agent.exactly(1, "the call", |flow: &Flow| {
            flow.is_call_at(side) && flow.text(end) == address
        })?;
        let call = &call[0];
        let sent = (fetched.request_head_bytes, fetched.request_body_bytes);
        let received = (fetched.response_head_bytes, fetched.response_body_bytes);
        let outline = call.outline();
        ensure!(
            outline.request == sent,
            "{side} side: {call:?}, curl: {fetched:?}"
        );
        ensure!(
            outline.response == received,
            "{side} side: {call:?}, curl: {fetched:?}"
        );
        ensure!(outline.outcome == "complete", "{side} side: {call:?}");
        ensure!(outline.status == Some(200), "{side} side: {call:?}");
        // curl's clock starts before it connects.
        let told = Duration::from_secs_f64(call.number("duration_seconds")?);
        let noise = Duration::from_millis(30) + fetched.total / 10;
        ensure!(
            told <= fetched.total + noise,
            "{side} side: {told:?}, curl: {fetched:?}"
        );
        ensure!(
            told + noise >= fetched.total,
            "{side} side: {told:?}, curl: {fetched:?}"
        );
        let first = Duration::from_secs_f64(call.number("time_to_first_byte_seconds")?);
        ensure!(first <= told, "{side} side: {call:?}");
        let closed = agent.exactly(1, "the end of the connection", |flow: &Flow| {
            flow.is_event_at("closed", side) && flow.text(end) == address
        })?;
        let (up, down) = match side {
            "client" => ("sent_bytes", "received_bytes"),
            _ => ("received_bytes", "sent_bytes"),
        };
        ensure!(
            closed[0].integer(up)? == sent.0 + sent.1,
            "{side} side: {closed:?}"
        );
        ensure!(
            closed[0].integer(down)? == received.0 + received.1,
            "{side} side: {closed:?}"
        );
    }
    Ok(())
}

#[test]
fn downloads_are_counted_to_the_byte() -> Result<()> {
    if lacking(&[Need::Observer, Need::Tool("nginx"), Need::Tool("curl")])? {
        return Ok(());
    }
    let cgroup = Cgroup::create("downloads")?;
    let place = Place::host(&cgroup);
    let nginx = Server::nginx(&place)?;
    let agent = Agent::start(&cgroup)?;
    for (path, bytes) in [("/64k", 64 << 10), ("/10m", 10 << 20), ("/1g", 1 << 30)] {
        let fetched = client::curl(&place, &[&nginx.url(path)])?;
        ensure!(fetched.response_body_bytes == bytes, "curl: {fetched:?}");
        expect(&agent, &fetched)?;
    }
    agent.expect_no_loss()?;
    agent.stop()
}

#[test]
fn chunked_downloads_are_counted_to_the_byte() -> Result<()> {
    if lacking(&[Need::Observer, Need::Tool(PYTHON), Need::Tool("curl")])? {
        return Ok(());
    }
    let cgroup = Cgroup::create("chunks")?;
    let place = Place::host(&cgroup);
    let python = Server::python(&place, &[])?;
    // Both ends of the largest are copied: more than the default buffer holds where nobody drains it
    // for a moment.
    let options = Options {
        configuration: Some("capture:\n  ring_bytes: 32MiB\n".to_owned()),
        ..Options::default()
    };
    let agent = Agent::start_with(&cgroup, &options)?;
    for kibibytes in [104, 600, 4096] {
        let path = format!("/chunked/{kibibytes}");
        let fetched = client::curl(&place, &[&python.url(&path)])?;
        ensure!(
            fetched.response_body_bytes == kibibytes << 10,
            "{fetched:?}"
        );
        for side in BOTH_SIDES {
            let call = agent.exactly(1, "the call", |flow: &Flow| {
                flow.is_call_at(side) && flow.text("path") == path
            })?;
            let outline = call[0].outline();
            let received = (fetched.response_head_bytes, fetched.response_body_bytes);
            ensure!(outline.response == received, "{call:?}, curl: {fetched:?}");
            ensure!(outline.outcome == "complete", "{call:?}");
        }
    }
    agent.expect_no_loss()?;
    agent.stop()
}

#[test]
fn uploads_are_counted_to_the_byte() -> Result<()> {
    if lacking(&[Need::Observer, Need::Tool(PYTHON), Need::Tool("curl")])? {
        return Ok(());
    }
    let cgroup = Cgroup::create("uploads")?;
    let place = Place::host(&cgroup);
    let python = Server::python(&place, &[])?;
    let agent = Agent::start(&cgroup)?;
    let folder = tempfile::tempdir()?;
    for bytes in [64 << 10, 10 << 20] {
        let path = folder.path().join("content");
        File::create(&path)?.set_len(bytes)?;
        let path = path.display().to_string();
        let url = python.url("/stored");
        // Without an empty Expect curl would wait for 100 Continue, which Python sends too.
        for expectation in ["Expect:", "Expect: 100-continue"] {
            let fetched = client::curl(
                &place,
                &["--upload-file", &path, "--header", expectation, &url],
            )?;
            ensure!(fetched.request_body_bytes == bytes, "curl: {fetched:?}");
            let interim = match expectation {
                "Expect:" => 0,
                _ => "HTTP/1.1 100 Continue\r\n\r\n".len() as u64,
            };
            expect_with_interim(&agent, &fetched, interim)?;
        }
    }
    agent.expect_no_loss()?;
    agent.stop()
}

/// As [`expect`] for calls alone: curl counts the head of the interim response too.
fn expect_with_interim(agent: &Agent, fetched: &Fetched, interim: u64) -> Result<()> {
    if interim == 0 {
        return expect(agent, fetched);
    }
    for side in BOTH_SIDES {
        let end = if side == "client" { "local" } else { "remote" };
        let address = format!("127.0.0.1:{}", fetched.local_port);
        let call = agent.exactly(1, "the call", |flow: &Flow| {
            flow.is_call_at(side) && flow.text(end) == address
        })?;
        let outline = call[0].outline();
        let sent = (fetched.request_head_bytes, fetched.request_body_bytes);
        ensure!(
            outline.request == sent,
            "{side} side: {call:?}, curl: {fetched:?}"
        );
        let received = (
            fetched.response_head_bytes - interim,
            fetched.response_body_bytes,
        );
        ensure!(
            outline.response == received,
            "{side} side: {call:?}, curl: {fetched:?}"
        );
    }
    Ok(())
}
