//! An observer that starts in the middle of HTTP/2 and gRPC counts exactly from then on, and knows
//! or does not know, but never mistakes.

use std::{
    net::{IpAddr, Ipv4Addr},
    process::Stdio,
    thread::sleep,
    time::Duration,
};

use anyhow::{Result, ensure};
use observer_tests::{
    agent::{Agent, Options},
    cgroup::Cgroup,
    flow::{BOTH_SIDES, Flow},
    h2load::Load,
    metrics::Metrics,
    peers::{self, Peer, Phases},
    place::Place,
    process::Process,
    requirement::{Need, lacking},
    server::Server,
    settings, tally,
    wait::PROMPT,
};

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn observe(cgroup: &Cgroup) -> Result<Agent> {
    let options = Options {
        configuration: Some(settings::long_history()),
        ..Options::default()
    };
    Agent::start_with(cgroup, &options)
}

/// Whether the text of field `name` is `expected` or not known.
fn is_or_unknown(flow: &Flow, name: &str, expected: &str) -> bool {
    matches!(flow.text(name), "" | "unknown") || flow.text(name) == expected
}

#[test]
fn busy_connections_are_joined() -> Result<()> {
    if lacking(&[Need::Observer, Need::Peer(Peer::Go)])? {
        return Ok(());
    }
    let cgroup = Cgroup::create("busy")?;
    let place = Place::host(&cgroup);
    let server = Server::go(&place, LOCAL)?;
    let address = server.address().to_string();
    // Two connections, each with four streams that are always busy with one path.
    let mut client = Phases::start(&mut peers::go(&place, &["phases", "-address", &address])?)?;
    client.run("before")?;
    let agent = observe(&cgroup)?;
    client.run("after")?;
    client.run("later")?;
    let counted = client.finish()?;
    let busy = counted
        .clone()
        .only(|record| record["path"] == "/hello/busy")
        .total();
    let phases = counted
        .only(|record| record["path"] == "/hello/after" || record["path"] == "/hello/later")
        .with("version", "2")
        .with("outcome", "complete");
    ensure!(phases.total() == 800, "{phases:?}");
    let phase = |flow: &Flow| ["/hello/after", "/hello/later"].contains(&flow.text("path"));
    let calls = tally::expect(&agent, "phases", &phases, &BOTH_SIDES, phase)?;
    tally::expect_agreement(&calls, PROMPT)?;
    for side in BOTH_SIDES {
        let others: Vec<Flow> = agent
            .flows()?
            .into_iter()
            .filter(|flow| flow.is_call_at(side) && !phase(flow))
            .collect();
        let whole = others
            .iter()
            .filter(|flow| flow.text("outcome") == "complete");
        ensure!(
            others.len() as u64 <= busy && whole.clone().count() > 100,
            "{} calls besides, of {busy} at most",
            others.len()
        );
        // What was under way at the start may be lost, and nothing else.
        ensure!(
            others.len() - whole.clone().count() <= 8 + 8,
            "{} are not complete",
            others.len() - whole.clone().count()
        );
        for flow in &others {
            ensure!(
                is_or_unknown(flow, "path", "/hello/busy") && is_or_unknown(flow, "method", "GET"),
                "{flow:?}"
            );
        }
        for flow in whole {
            ensure!(flow.integer("status")? == 200, "{flow:?}");
            ensure!(flow.integer("response_body_bytes")? == 12, "{flow:?}");
            ensure!(flow.number("duration_seconds")? < 1.0, "{flow:?}");
        }
    }
    agent.stop()
}

#[test]
fn channels_that_are_older_are_joined() -> Result<()> {
    if lacking(&[Need::Observer, Need::Peer(Peer::Python)])? {
        return Ok(());
    }
    let cgroup = Cgroup::create("channel")?;
    let place = Place::host(&cgroup);
    let server = Server::rpc(&place, LOCAL)?;
    let address = server.address().to_string();
    let mut client = Phases::start(&mut peers::python(&place, "rpc.py", &["phases", &address])?)?;
    client.run("Before")?;
    let agent = observe(&cgroup)?;
    // A path that is in the header table already, then two that are not.
    for phase in ["Before", "After", "Later"] {
        client.run(phase)?;
    }
    let counted = client.finish()?;
    let new = |name: &str| name.ends_with("/PhaseAfter") || name.ends_with("/PhaseLater");
    // That it is gRPC, and its status, may be fields in the header table since before.
    let mut expected = counted.only(|record| record["path"].as_str().is_some_and(new));
    for name in ["system", "service", "method", "status"] {
        expected = expected.without(&format!("rpc_{name}"));
    }
    for name in ["request", "response"] {
        expected = expected.without(&format!("rpc_{name}_messages"));
    }
    ensure!(expected.total() == 400, "{expected:?}");
    let calls = tally::expect(&agent, "phases", &expected, &BOTH_SIDES, |flow| {
        new(flow.text("path"))
    })?;
    tally::expect_agreement(&calls, PROMPT)?;
    for call in &calls {
        ensure!(is_or_unknown(call, "rpc_system", "grpc"), "{call:?}");
        ensure!(is_or_unknown(call, "rpc_status", "OK"), "{call:?}");
        // Messages of 32 bytes, behind a prefix of 5.
        for name in ["request_body_bytes", "response_body_bytes"] {
            ensure!(call.integer(name)? == 37, "{call:?}");
        }
    }
    for side in BOTH_SIDES {
        let old = |flow: &Flow| flow.is_call_at(side) && !new(flow.text("path"));
        for call in agent.exactly(200, "calls of the older path", old)? {
            let path = "/observer.test.Echo/PhaseBefore";
            ensure!(is_or_unknown(&call, "path", path), "{call:?}");
            ensure!(call.integer("status")? == 200, "{call:?}");
            ensure!(call.text("outcome") == "complete", "{call:?}");
        }
    }
    agent.stop()
}

/// Calls at `side`, by method, route and status.
fn calls(metrics: &Metrics, side: &str) -> Vec<(String, String, String, f64)> {
    let name = format!("http_{side}_request_duration_seconds_count");
    let label = |labels: &std::collections::BTreeMap<String, String>, name: &str| {
        labels.get(name).cloned().unwrap_or_default()
    };
    let samples = metrics.select(&name, &[]).map(|sample| {
        (
            label(&sample.labels, "http_request_method"),
            label(&sample.labels, "http_route"),
            label(&sample.labels, "http_response_status_code"),
            sample.value,
        )
    });
    samples.collect()
}

#[test]
fn a_load_is_joined_without_wrong_calls() -> Result<()> {
    if lacking(&[Need::Observer, Need::Tool("h2load"), Need::Tool("nghttpd")])? {
        return Ok(());
    }
    let cgroup = Cgroup::create("h2load")?;
    let place = Place::host(&cgroup);
    let server = Server::nghttpd(&place, LOCAL, &[])?;
    let mut command = place.command("h2load")?;
    command.args([
        "--duration=60",
        "--clients=4",
        "--max-concurrent-streams=100",
    ]);
    command.arg(server.url("/hello"));
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut load = Process::spawn(&mut command)?;
    sleep(Duration::from_millis(700));
    let agent = Agent::start(&cgroup)?;
    sleep(Duration::from_millis(1500));
    ensure!(load.ended()?.is_none(), "h2load has ended before");
    load.stop()?;
    tally::settle(&agent, Flow::is_call)?;
    let before = agent.metrics()?;
    for side in BOTH_SIDES {
        let known = calls(&before, side);
        let whole: f64 = known
            .iter()
            .filter(|(method, route, status, _)| {
                method == "GET" && route == "/hello" && status == "200"
            })
            .map(|(.., count)| count)
            .sum();
        ensure!(whole > 1000.0, "{side}: {known:?}");
        // Streams that were under way when the observer started, or when h2load ended.
        let rest: Vec<_> = known
            .iter()
            .filter(|(.., status, _)| status != "200")
            .collect();
        ensure!(
            rest.iter().map(|(.., count)| count).sum::<f64>() <= 800.0,
            "{side}: {rest:?}"
        );
        for (method, route, status, _) in &known {
            ensure!(
                ["GET", "", "_OTHER"].contains(&method.as_str())
                    && !route.contains("missing")
                    && ["200", ""].contains(&status.as_str()),
                "{side}: {known:?}"
            );
        }
    }
    // New connections of the same client to the same server are told exactly.
    let counted = Load {
        address: server.address(),
        paths: &[("/64k", 200, 65536)],
        requests: 2000,
        connections: 2,
        streams: 50,
        upload: None,
        arguments: &[],
    }
    .run(&place)?;
    let new = |flow: &Flow| flow.text("path") == "/64k";
    let found = tally::expect(&agent, "a load after it", &counted, &BOTH_SIDES, new)?;
    tally::expect_agreement(&found, PROMPT)?;
    agent.stop()
}
