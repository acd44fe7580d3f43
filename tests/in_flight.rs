//! A call that is stuck shows before it ends.

use std::{process::Stdio, time::Duration};

use anyhow::{Result, ensure};
use observer_tests::{
    agent::Agent,
    cgroup::Cgroup,
    conversation::{Conversation, Cut},
    flow::BOTH_SIDES,
    place::Place,
    process::{Process, Signal},
    requirement::{Need, lacking},
    server::Server,
    wait::PATIENCE,
};

const GAUGES: [&str; 2] = ["http_server_active_requests", "http_client_active_requests"];

#[test]
fn requests_in_flight_are_counted() -> Result<()> {
    if lacking(&[Need::Observer])? {
        return Ok(());
    }
    let cgroup = Cgroup::create("inflight")?;
    let place = Place::host(&cgroup);
    let agent = Agent::start(&cgroup)?;
    let talks = (0..3).map(|_| Conversation::open(&place));
    let mut talks: Vec<Conversation> = talks.collect::<Result<_>>()?;
    for talk in &mut talks {
        talk.ask(b"GET /stuck HTTP/1.1\r\nHost: a.test\r\n\r\n", Cut::Whole)?;
    }
    for gauge in GAUGES {
        agent.expect_metric(gauge, &[], 3)?;
    }
    let calls = agent.flows()?.iter().filter(|flow| flow.is_call()).count();
    ensure!(calls == 0, "{calls} calls are told before they ended");
    std::thread::sleep(Duration::from_millis(500));
    // One is answered, one is given up, one stays.
    talks[0].answer(
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        Cut::Whole,
    )?;
    talks.remove(1).reset_by_client()?;
    for side in BOTH_SIDES {
        for call in agent.exactly(2, "calls that ended", |flow| flow.is_call_at(side))? {
            let took = call.number("duration_seconds")?;
            let answered = call.text("outcome") == "complete";
            // What was never answered has lasted as long as it was waited for, or is not measured.
            ensure!(!answered || took > 0.5, "{call:?}");
        }
    }
    for gauge in GAUGES {
        let active = agent.metrics()?.sum(gauge, &[]);
        ensure!(active == 1.0, "{gauge} is {active}");
    }
    talks.remove(1).close_by_client()?;
    for side in BOTH_SIDES {
        agent.exactly(3, "calls that ended", |flow| flow.is_call_at(side))?;
    }
    for gauge in GAUGES {
        let active = agent.metrics()?.sum(gauge, &[]);
        ensure!(active == 0.0, "{gauge} is {active}");
    }
    agent.stop()
}

#[test]
fn streams_in_flight_are_counted() -> Result<()> {
    if lacking(&[Need::Observer, Need::Tool("node"), Need::Tool("curl")])? {
        return Ok(());
    }
    let cgroup = Cgroup::create("streams")?;
    let place = Place::host(&cgroup);
    let server = Server::node_http2(&place)?;
    let agent = Agent::start(&cgroup)?;
    let mut stuck = Vec::new();
    for _ in 0..3 {
        let mut command = place.command("curl")?;
        command.args(["--silent", "--http2-prior-knowledge", &server.url("/wait")]);
        command.stdout(Stdio::null());
        stuck.push(Process::spawn(&mut command)?);
    }
    let gauges = ["http_server_active_requests", "http_client_active_requests"];
    for gauge in gauges {
        agent.expect_metric(gauge, &[], 3)?;
    }
    for mut process in stuck {
        process.signal(Signal::Kill)?;
        process.wait(PATIENCE)?;
    }
    for side in BOTH_SIDES {
        for call in agent.exactly(3, "calls that ended", |flow| flow.is_call_at(side))? {
            ensure!(call.text("outcome") == "client_aborted", "{call:?}");
            ensure!(call.text("path") == "/wait", "{call:?}");
        }
    }
    for gauge in gauges {
        agent.expect_metric(gauge, &[], 0)?;
    }
    agent.stop()
}

#[test]
fn a_small_request_of_http_2_is_in_flight() -> Result<()> {
    if lacking(&[Need::Observer, Need::Tool("node"), Need::Tool("h2load")])? {
        return Ok(());
    }
    let cgroup = Cgroup::create("inflight2")?;
    let place = Place::host(&cgroup);
    let server = Server::node_http2(&place)?;
    let agent = Agent::start(&cgroup)?;
    // On one connection: the first request goes with the opening, the second is small, and is held
    // back in the kernel until its answer comes.
    let mut command = place.command("h2load")?;
    command
        .args(["--requests=2", "--clients=1", "--threads=1"])
        .args([server.url("/hello"), server.url("/slow/6000")])
        .stdout(Stdio::null());
    let mut client = Process::spawn(&mut command)?;
    for side in BOTH_SIDES {
        agent.exactly(1, "calls that ended", |flow| flow.is_call_at(side))?;
    }
    for gauge in GAUGES {
        agent.expect_metric(gauge, &[("http_request_method", "GET")], 1)?;
    }
    for side in BOTH_SIDES {
        let calls = agent.exactly(1, "calls that ended", |flow| flow.is_call_at(side))?;
        ensure!(calls[0].text("path") == "/hello", "{calls:?}");
    }
    ensure!(client.wait(2 * PATIENCE)?.success(), "h2load failed");
    for side in BOTH_SIDES {
        let calls = agent.exactly(2, "calls that ended", |flow| flow.is_call_at(side))?;
        ensure!(
            calls.iter().any(|call| call.text("path") == "/slow/6000"),
            "{calls:?}"
        );
    }
    for gauge in GAUGES {
        agent.expect_metric(gauge, &[], 0)?;
    }
    agent.stop()
}
