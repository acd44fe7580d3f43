//! gRPC of real peers: every call with its status and the number of its messages, at both ends.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, Result, ensure};
use observer_tests::{
    agent::{Agent, Options},
    cgroup::Cgroup,
    flow::{BOTH_SIDES, Flow},
    peers::{self, Peer},
    place::Place,
    process,
    requirement::{Need, lacking},
    server::Server,
    settings,
    tally::{self, Tally},
};
use serde_json::json;

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn observe(cgroup: &Cgroup) -> Result<Agent> {
    let options = Options {
        configuration: Some(settings::long_history()),
        ..Options::default()
    };
    Agent::start_with(cgroup, &options)
}

#[test]
fn every_kind_of_call_of_grpcio_is_told() -> Result<()> {
    if lacking(&[Need::Observer, Need::Peer(Peer::Python)])? {
        return Ok(());
    }
    let cgroup = Cgroup::create("grpcio")?;
    let place = Place::host(&cgroup);
    let server = Server::rpc(&place, LOCAL)?;
    let agent = observe(&cgroup)?;
    let address = server.address().to_string();
    let counted = peers::count(&mut peers::python(
        &place,
        "rpc.py",
        &["call", &address, "20"],
    )?)?;
    let calls = tally::expect(&agent, "calls", &counted, &BOTH_SIDES, |_| true)?;
    let open = |flow: &&Flow| flow.text("outcome") == "complete";
    let whole: Vec<Flow> = calls.iter().filter(open).cloned().collect();
    tally::expect_agreement(&whole, observer_tests::wait::PROMPT)?;
    for side in BOTH_SIDES {
        let name = format!("rpc_{side}_call_duration_seconds_count");
        agent.expect_metric(&name, &[], counted.total())?;
    }
    agent.expect_no_loss()?;
    agent.stop()
}

#[test]
fn calls_whose_deadline_passes_are_told() -> Result<()> {
    if lacking(&[Need::Observer, Need::Peer(Peer::Python)])? {
        return Ok(());
    }
    let cgroup = Cgroup::create("deadline")?;
    let place = Place::host(&cgroup);
    let server = Server::rpc(&place, LOCAL)?;
    let agent = observe(&cgroup)?;
    let address = server.address().to_string();
    let printed = process::check(&mut peers::python(
        &place,
        "rpc.py",
        &["deadline", &address],
    )?)?;
    let received: Vec<u64> = Flow::parse_lines(&printed)?
        .iter()
        .map(|line| line.integer("received"))
        .collect::<Result<_>>()?;
    ensure!(received == [0, 2], "{printed}");
    for side in BOTH_SIDES {
        let calls = agent.exactly(2, "calls", |flow| flow.is_call_at(side))?;
        for (call, received) in calls.iter().zip(received.iter()) {
            ensure!(call.text("rpc_status") == "DEADLINE_EXCEEDED", "{call:?}");
            ensure!(call.text("rpc_method") == "HangAfter", "{call:?}");
            ensure!(
                call.integer("rpc_response_messages")? == *received,
                "{call:?}"
            );
            let took = call.number("duration_seconds")?;
            ensure!((0.2..2.0).contains(&took), "{call:?}");
        }
    }
    agent.expect_no_loss()?;
    agent.stop()
}

#[test]
fn a_busy_go_server_is_told_exactly() -> Result<()> {
    if lacking(&[Need::Observer, Need::Peer(Peer::Go)])? {
        return Ok(());
    }
    let cgroup = Cgroup::create("grpc-go")?;
    let place = Place::host(&cgroup);
    let server = Server::go_rpc(&place)?;
    let agent = observe(&cgroup)?;
    let address = server.address().to_string();
    let load = ["-connections", "4", "-streams", "10", "-calls", "10000"];
    let printed = process::check(&mut peers::go(
        &place,
        &[&["grpc-load", "-address", &address], &load[..]].concat(),
    )?)?;
    let made = printed
        .split(' ')
        .nth(1)
        .context("the client tells no number")?;
    ensure!(made == "10000", "{printed}");
    let mut counted = Tally::default();
    counted.add(
        &json!({
            "method": "POST",
            "path": "/observer.test.Echo/Unary",
            "version": "2",
            "status": 200,
            "outcome": "complete",
            "rpc_system": "grpc",
            "rpc_service": "observer.test.Echo",
            "rpc_method": "Unary",
            "rpc_status": "OK",
            "rpc_request_messages": 1,
            "rpc_response_messages": 1,
            // A message of 32 bytes behind its prefix of 5.
            "request_body_bytes": 37,
            "response_body_bytes": 37,
        }),
        10_000,
    );
    let calls = tally::expect(&agent, "calls", &counted, &BOTH_SIDES, |_| true)?;
    tally::expect_agreement(&calls, observer_tests::wait::PROMPT)?;
    agent.expect_no_loss()?;
    agent.stop()
}

#[test]
fn grpc_web_through_envoy_is_told_at_both_of_its_ends() -> Result<()> {
    let needs = [
        Need::Observer,
        Need::Peer(Peer::Python),
        Need::Peer(Peer::Envoy),
    ];
    if lacking(&needs)? {
        return Ok(());
    }
    let cgroup = Cgroup::create("web")?;
    let place = Place::host(&cgroup);
    let server = Server::rpc(&place, LOCAL)?;
    let envoy = Server::envoy(
        &place,
        "grpc-web.yaml",
        &[("@UPSTREAM@", &server.address().port().to_string())],
    )?;
    let agent = observe(&cgroup)?;
    let port = envoy.address().port();
    let address = format!("127.0.0.1:{port}");
    let web = peers::count(&mut peers::python(&place, "grpc_web.py", &[&address])?)?;
    ensure!(web.total() > 0, "the client counted nothing");
    // In front HTTP/1.1 with gRPC-Web, behind HTTP/2 with gRPC.
    let of =
        |flow: &Flow, side: &str, near: &str| flow.is_call_at(side) && flow.text(near) == address;
    tally::expect(&agent, "gRPC-Web", &web, &["client"], |flow| {
        of(flow, "client", "remote")
    })?;
    tally::expect(&agent, "gRPC-Web", &web, &["server"], |flow| {
        of(flow, "server", "local")
    })?;
    let behind = web
        .without("status")
        .with("rpc_system", "grpc")
        .with("version", "2");
    let upstream = server.address().to_string();
    for (side, near) in [("client", "remote"), ("server", "local")] {
        tally::expect(&agent, "gRPC", &behind, &[side], |flow| {
            flow.is_call_at(side) && flow.text(near) == upstream
        })?;
    }
    agent.expect_no_loss()?;
    agent.stop()
}
