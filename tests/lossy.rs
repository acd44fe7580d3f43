//! A network that drops, duplicates and reorders packets changes no call and no byte.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use observer_tests::{
    agent::Agent,
    cgroup::Cgroup,
    conversation::{Conversation, Cut},
    flow::{BOTH_SIDES, Expected, Flow},
    http::end_of_head,
    link::{Faults, Link},
    place::{Handshake, Place},
    requirement::{Need, lacking},
};

const FAULTS: Faults = Faults {
    dropped: 30,
    duplicated: 30,
    reordered: 60,
};

fn check(seed: u64) -> Result<()> {
    if lacking(&[Need::Observer, Need::Tool("ip"), Need::Tun])? {
        return Ok(());
    }
    let cgroup = Cgroup::create("lossy")?;
    let link = Link::create(seed, FAULTS)?;
    let agent = Agent::start(&cgroup)?;
    let address = SocketAddr::from((Link::RIGHT, 7000));
    let listener = Place::inside(&cgroup, link.right()).listen(address)?;
    let caller = Place::inside(&cgroup, link.left());
    let mut made = Vec::new();
    let bodies = [0, 5, 3000, 100_000];
    for connection in 0..6_usize {
        let mut talk = Conversation::accept(&caller, &listener, Handshake::Plain)?;
        let ports = talk.ports()?;
        let (mut asked, mut answered, mut expected) = (0, 0, Vec::new());
        for number in 0..8_usize {
            let (sent, received) = (bodies[number % 4], bodies[(number + connection) % 4]);
            let path = format!("/c{connection}/n{number}");
            let question = format!(
                "POST {path} HTTP/1.1\r\nHost: a.test\r\nContent-Length: {sent}\r\n\r\n{}",
                "q".repeat(sent)
            );
            let reply = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {received}\r\n\r\n{}",
                "r".repeat(received)
            );
            // Small messages in small segments, large ones as TCP likes it.
            let cut = |bytes: usize| {
                if bytes < 100 {
                    Cut::Seeded(seed)
                } else {
                    Cut::Whole
                }
            };
            talk.ask(question.as_bytes(), cut(sent))?;
            talk.answer(reply.as_bytes(), cut(received))?;
            asked += question.len() as u64;
            answered += reply.len() as u64;
            let head = |text: &str| end_of_head(text.as_bytes()).unwrap_or(0) as u64;
            expected.push(Expected::complete(
                "POST",
                &path,
                200,
                (head(&question), sent as u64),
                (head(&reply), received as u64),
            ));
        }
        talk.close_by_client()?;
        made.push((ports, asked, answered, expected));
    }
    let total: usize = made.iter().map(|(.., expected)| expected.len()).sum();
    agent.exactly(2 * total, "calls over a lossy link", Flow::is_call)?;
    for ((client, server), asked, answered, expected) in made {
        agent.expect_calls("calls over a lossy link", &expected, |flow| {
            flow.connects(client, server)
        })?;
        for side in BOTH_SIDES {
            let closed = agent.exactly(1, "ends over a lossy link", |flow| {
                flow.is_event_at("closed", side) && flow.connects(client, server)
            })?;
            let (up, down) = match side {
                "client" => ("sent_bytes", "received_bytes"),
                _ => ("received_bytes", "sent_bytes"),
            };
            ensure!(
                closed[0].integer(up)? == asked,
                "{asked} bytes asked: {closed:?}"
            );
            ensure!(
                closed[0].integer(down)? == answered,
                "{answered} bytes answered: {closed:?}"
            );
        }
    }
    let closed: Vec<Flow> = agent
        .flows()?
        .into_iter()
        .filter(|flow| flow.text("event") == "closed")
        .collect();
    let retransmits = closed
        .iter()
        .map(|flow| flow.integer("retransmits"))
        .sum::<Result<u64>>()?;
    ensure!(retransmits > 0, "no retransmit is told");
    agent.expect_no_loss()?;
    agent.stop()?;
    let suffered = link.finish()?;
    let Faults {
        dropped,
        duplicated,
        reordered,
    } = suffered.faults;
    ensure!(
        dropped > 0 && duplicated > 0 && reordered > 0,
        "too kind a link: {suffered:?}"
    );
    Ok(())
}

#[test]
fn seed_1_changes_nothing() -> Result<()> {
    check(1)
}

#[test]
fn seed_2_changes_nothing() -> Result<()> {
    check(2)
}

#[test]
fn seed_3_changes_nothing() -> Result<()> {
    check(3)
}
