//! Where addresses are translated, a call tells what was dialled and what answered.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use observer_tests::{
    agent::Agent,
    cgroup::Cgroup,
    client,
    conversation::{Conversation, Cut},
    namespace::{self, Namespace},
    place::{self, Place},
    requirement::{Need, lacking},
};

const REQUEST: &str = "GET /translated HTTP/1.1\r\nHost: a.test\r\n\r\n";
const RESPONSE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

/// Connects to `dialled`, is answered by `served`, and checks the addresses of both calls.
/// `translated` tells whether the server's own packets already carry what was dialled.
fn check(
    client: &Place<'_>,
    server: &Place<'_>,
    cgroup: &Cgroup,
    dialled: SocketAddr,
    served: SocketAddr,
    translated: bool,
) -> Result<()> {
    let agent = Agent::start(cgroup)?;
    let listener = server.listen(SocketAddr::new("0.0.0.0".parse()?, served.port()))?;
    let stream = client.connect(dialled)?;
    let near = stream.local_addr()?;
    let (accepted, seen) = listener.accept()?;
    let mut talk = Conversation {
        client: stream,
        server: place::prepare(accepted)?,
    };
    for _ in 0..3 {
        talk.ask(REQUEST.as_bytes(), Cut::Whole)?;
        talk.answer(RESPONSE.as_bytes(), Cut::Whole)?;
    }
    talk.close_by_client()?;
    for call in agent.exactly(3, "calls", |flow| flow.is_call_at("client"))? {
        ensure!(call.text("local") == near.to_string(), "{call:?}");
        ensure!(call.text("remote") == dialled.to_string(), "{call:?}");
        ensure!(call.text("wire_remote") == served.to_string(), "{call:?}");
        ensure!(
            !call.get("peer_service").is_null(),
            "the peer is of this host: {call:?}"
        );
    }
    for call in agent.exactly(3, "calls", |flow| flow.is_call_at("server"))? {
        ensure!(call.text("local") == served.to_string(), "{call:?}");
        ensure!(call.text("remote") == seen.to_string(), "{call:?}");
        let wire = call.get("wire_local").as_str().map(str::to_owned);
        ensure!(wire == translated.then(|| dialled.to_string()), "{call:?}");
        ensure!(
            !call.get("peer_service").is_null(),
            "the peer is of this host: {call:?}"
        );
    }
    agent.expect_no_loss()?;
    agent.stop()
}

#[test]
fn a_redirected_port_is_told_at_both_ends() -> Result<()> {
    if lacking(&[Need::Observer, Need::Tool("ip"), Need::Tool("nft")])? {
        return Ok(());
    }
    let (cgroup, namespace) = (Cgroup::create("redirect")?, Namespace::create("redirect")?);
    namespace.rules(
        "table ip redirects { chain output { type nat hook output priority -100; \
         tcp dport 19001 redirect to :19002; }; }",
    )?;
    let place = Place::inside(&cgroup, &namespace);
    check(
        &place,
        &place,
        &cgroup,
        "127.0.0.1:19001".parse()?,
        "127.0.0.1:19002".parse()?,
        true,
    )
}

#[test]
fn a_virtual_address_is_told_apart_from_its_backend() -> Result<()> {
    if lacking(&[Need::Observer, Need::Tool("ip"), Need::Tool("nft")])? {
        return Ok(());
    }
    let cgroup = Cgroup::create("virtual")?;
    let (near, far) = (Namespace::create("near")?, Namespace::create("far")?);
    namespace::join((&near, &["10.78.0.1/24"]), (&far, &["10.78.0.2/24"]))?;
    near.run("ip", &["route", "add", "10.96.0.0/16", "via", "10.78.0.2"])?;
    near.rules(
        "table ip services { chain output { type nat hook output priority -100; \
         ip daddr 10.96.0.10 tcp dport 80 dnat to 10.78.0.2:8080; }; }",
    )?;
    check(
        &Place::inside(&cgroup, &near),
        &Place::inside(&cgroup, &far),
        &cgroup,
        "10.96.0.10:80".parse()?,
        "10.78.0.2:8080".parse()?,
        false,
    )
}

#[test]
fn addresses_that_are_not_translated_are_told_once() -> Result<()> {
    if lacking(&[Need::Observer])? {
        return Ok(());
    }
    let cgroup = Cgroup::create("plain")?;
    let place = Place::host(&cgroup);
    let agent = Agent::start(&cgroup)?;
    let listener = place.listen("127.0.0.1:0".parse()?)?;
    let mut stream = place.connect(listener.local_addr()?)?;
    let (mut accepted, _) = listener.accept()?;
    let server = std::thread::spawn(move || -> Result<()> {
        use std::io::{Read, Write};
        let mut buffer = [0; 1024];
        while accepted.read(&mut buffer)? > 0 {
            accepted.write_all(RESPONSE.as_bytes())?;
        }
        Ok(())
    });
    client::exchange(&mut stream, REQUEST)?;
    drop(stream);
    server
        .join()
        .map_err(|_| anyhow::anyhow!("the server died"))??;
    for flow in agent.exactly(2, "calls", |flow| flow.is_call())? {
        ensure!(
            flow.get("wire_local").is_null() && flow.get("wire_remote").is_null(),
            "{flow:?}"
        );
    }
    agent.stop()
}
