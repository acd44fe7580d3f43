//! A network that drops, duplicates and reorders packets changes no exchange of HTTP/2 or gRPC.

use anyhow::{Result, ensure};
use observer_tests::{
    agent::{Agent, Options},
    cgroup::Cgroup,
    flow::{BOTH_SIDES, Flow},
    h2load::Load,
    link::{Faults, Link},
    peers::{self, Peer},
    place::Place,
    requirement::{Need, lacking},
    server::Server,
    settings,
    tally::{self, Tally},
    wait::PROMPT,
};

const FAULTS: Faults = Faults {
    dropped: 20,
    duplicated: 20,
    reordered: 40,
};

fn check(
    seed: u64,
    needs: &[Need],
    start: impl FnOnce(&Place<'_>) -> Result<Server>,
    drive: impl FnOnce(&Place<'_>, &Server) -> Result<Tally>,
) -> Result<()> {
    let always = [Need::Observer, Need::Tool("ip"), Need::Tun];
    if lacking(&[&always, needs].concat())? {
        return Ok(());
    }
    let cgroup = Cgroup::create("lossy2")?;
    let link = Link::create(seed, FAULTS)?;
    let server = start(&Place::inside(&cgroup, link.right()))?;
    let options = Options {
        configuration: Some(settings::long_history()),
        ..Options::default()
    };
    let agent = Agent::start_with(&cgroup, &options)?;
    let counted = drive(&Place::inside(&cgroup, link.left()), &server)?;
    ensure!(counted.total() > 0, "the client counted nothing");
    let calls = tally::expect(&agent, "a lossy link", &counted, &BOTH_SIDES, |_| true)?;
    let whole = |flow: &&Flow| flow.text("outcome") == "complete";
    let whole: Vec<Flow> = calls.iter().filter(whole).cloned().collect();
    // Losses make ends differ in time, as they see one message at other times.
    tally::expect_agreement(&whole, 3 * PROMPT)?;
    // What the last packets of a connection bring no exchange waits for, and some never come.
    let lost = agent.metrics()?.losses();
    ensure!(
        lost.iter().all(|loss| loss.starts_with("assemble/gap ")),
        "lost: {lost:?}"
    );
    agent.stop()?;
    let suffered = link.finish()?;
    ensure!(suffered.faults.dropped > 0, "too kind a link: {suffered:?}");
    Ok(())
}

fn check_h2load(seed: u64, streams: u64) -> Result<()> {
    let needs = [Need::Tool("h2load"), Need::Tool("nghttpd")];
    let start = |place: &Place<'_>| Server::nghttpd(place, Link::RIGHT.into(), &[]);
    check(seed, &needs, start, |place, server| {
        Load {
            address: server.address(),
            paths: &[("/hello", 200, 12), ("/64k", 200, 65536)],
            requests: 160,
            connections: 4,
            streams,
            upload: None,
            arguments: &[],
        }
        .run(place)
    })
}

#[test]
fn single_streams_are_told() -> Result<()> {
    check_h2load(11, 1)
}

#[test]
fn many_streams_are_told() -> Result<()> {
    check_h2load(12, 20)
}

#[test]
fn bodies_both_ways_are_told() -> Result<()> {
    let start = |place: &Place<'_>| Server::go(place, Link::RIGHT.into());
    check(13, &[Need::Peer(Peer::Go)], start, |place, server| {
        let address = server.address().to_string();
        let load = ["-connections", "2", "-streams", "8", "-rounds", "10"];
        let arguments = [&["load", "-address", &address], &load[..]].concat();
        Ok(peers::count(&mut peers::go(place, &arguments)?)?.with("version", "2"))
    })
}

#[test]
fn calls_of_grpc_are_told() -> Result<()> {
    let start = |place: &Place<'_>| Server::rpc(place, Link::RIGHT.into());
    check(14, &[Need::Peer(Peer::Python)], start, |place, server| {
        let address = server.address().to_string();
        peers::count(&mut peers::python(
            place,
            "rpc.py",
            &["call", &address, "2"],
        )?)
    })
}
