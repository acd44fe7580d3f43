//! An observer that starts in the middle of traffic is right from the next exchange on.

use std::io::{Read, Write};

use anyhow::{Result, ensure};
use observer_tests::{
    agent::Agent,
    cgroup::Cgroup,
    client,
    conversation::{Conversation, Cut},
    flow::{BOTH_SIDES, Expected, Flow},
    http,
    place::Place,
    requirement::{Need, lacking},
    server::Server,
};

fn request(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n")
}

const RESPONSE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

fn call(path: &str) -> Expected {
    let head = http::end_of_head(RESPONSE.as_bytes()).unwrap_or(0) as u64;
    Expected::complete("GET", path, 200, (request(path).len() as u64, 0), (head, 5))
}

#[test]
fn keep_alive_connections_are_joined_between_exchanges() -> Result<()> {
    if lacking(&[Need::Observer])? {
        return Ok(());
    }
    let cgroup = Cgroup::create("between")?;
    let place = Place::host(&cgroup);
    let talks = (0..5).map(|_| Conversation::open(&place));
    let mut talks: Vec<Conversation> = talks.collect::<Result<_>>()?;
    let mut say = |path: &str| -> Result<()> {
        for talk in &mut talks {
            talk.ask(request(path).as_bytes(), Cut::Whole)?;
            talk.answer(RESPONSE.as_bytes(), Cut::Whole)?;
        }
        Ok(())
    };
    for _ in 0..3 {
        say("/before")?;
    }
    let agent = Agent::start(&cgroup)?;
    for _ in 0..4 {
        say("/after")?;
    }
    agent.expect_calls("calls after the start", &vec![call("/after"); 20], |_| true)?;
    agent.stop()
}

#[test]
fn an_exchange_under_way_is_never_mistaken() -> Result<()> {
    if lacking(&[Need::Observer])? {
        return Ok(());
    }
    let cgroup = Cgroup::create("within")?;
    let place = Place::host(&cgroup);
    // One waits for its response; one is in the middle of content that looks like HTTP.
    let (mut waiting, mut moving) = (Conversation::open(&place)?, Conversation::open(&place)?);
    waiting.ask(request("/before").as_bytes(), Cut::Whole)?;
    let fake = [request("/fake"), RESPONSE.to_owned()].concat();
    let bytes = fake.repeat(40);
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", bytes.len());
    moving.ask(request("/before").as_bytes(), Cut::Whole)?;
    moving.answer(head.as_bytes(), Cut::Whole)?;
    moving.answer(&bytes.as_bytes()[..10], Cut::Whole)?;
    let agent = Agent::start(&cgroup)?;
    waiting.answer(RESPONSE.as_bytes(), Cut::Whole)?;
    moving.answer(&bytes.as_bytes()[10..], Cut::Seeded(9))?;
    for talk in [&mut waiting, &mut moving] {
        for _ in 0..3 {
            talk.ask(request("/after").as_bytes(), Cut::Whole)?;
            talk.answer(RESPONSE.as_bytes(), Cut::Whole)?;
        }
    }
    waiting.close_by_client()?;
    moving.close_by_server()?;
    let wrong = |flow: &Flow| flow.is_call() && flow.text("path") != "/after";
    agent.exactly(0, "calls that were not made", wrong)?;
    for side in BOTH_SIDES {
        let after = |flow: &Flow| flow.is_call_at(side) && flow.text("path") == "/after";
        for flow in agent.exactly(6, "calls after the start", after)? {
            ensure!(flow.outline() == call("/after"), "{flow:?}");
        }
    }
    agent.stop()
}

#[test]
fn load_is_joined_without_wrong_calls() -> Result<()> {
    if lacking(&[Need::Observer, Need::Tool("nginx")])? {
        return Ok(());
    }
    let cgroup = Cgroup::create("load")?;
    let place = Place::host(&cgroup);
    let nginx = Server::nginx(&place)?;
    let mut stream = place.connect(nginx.address())?;
    let ask = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n");
    client::exchange(&mut stream, &ask("/hello"))?;
    // Ten megabytes, of which the client reads a little, are still under way at the start.
    stream.write_all(ask("/10m").as_bytes())?;
    let mut read = stream.read(&mut [0; 4096])?;
    let agent = Agent::start(&cgroup)?;
    let mut buffer = vec![0; 1 << 16];
    // nginx writes a head of its own; the content is counted from what follows it.
    let head_bytes = {
        let mut probe = place.connect(nginx.address())?;
        let (head, _) = client::exchange(&mut probe, &ask("/64k"))?;
        // The two heads differ in the digits of the length.
        head.len() + "10485760".len() - "65536".len()
    };
    let slack = 16;
    while read + slack < head_bytes + (10 << 20) {
        read += stream.read(&mut buffer)?;
    }
    stream.set_read_timeout(Some(std::time::Duration::from_millis(200)))?;
    while stream.read(&mut buffer).is_ok_and(|length| length > 0) {}
    stream.set_read_timeout(Some(std::time::Duration::from_secs(10)))?;
    for _ in 0..50 {
        client::exchange(&mut stream, &ask("/users/17"))?;
    }
    drop(stream);
    for side in BOTH_SIDES {
        let after = |flow: &Flow| flow.is_call_at(side) && flow.text("path") == "/users/17";
        for flow in agent.exactly(50, "calls after the start", after)? {
            ensure!(flow.outline().status == Some(200), "{flow:?}");
            ensure!(flow.outline().outcome == "complete", "{flow:?}");
        }
        let others = |flow: &Flow| flow.is_call_at(side) && flow.text("path") != "/users/17";
        for flow in agent.exactly(1, "the call of the probe", others)? {
            ensure!(flow.text("path") == "/64k", "{flow:?}");
        }
    }
    agent.stop()
}
