//! Every TCP connection is told once, with who ended it, why it failed, and its bytes.

use std::{
    io::ErrorKind,
    net::{SocketAddr, TcpListener},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use observer_tests::{
    agent::Agent,
    cgroup::Cgroup,
    conversation::{Conversation, Cut, Random},
    flow::{BOTH_SIDES, Flow, port_of},
    namespace::{self, Namespace},
    place::{Handshake, Place},
    requirement::{Need, lacking},
    wait,
    witness::{Life, Witness},
};

/// How a connection of a test ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    ClientCloses,
    ServerCloses,
    ClientResets,
    ServerResets,
}

const ENDINGS: [Ending; 4] = [
    Ending::ClientCloses,
    Ending::ServerCloses,
    Ending::ClientResets,
    Ending::ServerResets,
];

impl Ending {
    fn end(self, talk: Conversation) -> Result<()> {
        match self {
            Self::ClientCloses => talk.close_by_client(),
            Self::ServerCloses => talk.close_by_server(),
            Self::ClientResets => talk.reset_by_client(),
            Self::ServerResets => talk.reset_by_server(),
        }
    }

    fn resets(self) -> bool {
        matches!(self, Self::ClientResets | Self::ServerResets)
    }

    /// `closed_by` as the socket of `side` has to tell it.
    fn closed_by(self, side: &str) -> &'static str {
        let by_client = matches!(self, Self::ClientCloses | Self::ClientResets);
        if by_client == (side == "client") {
            "local"
        } else {
            "remote"
        }
    }
}

/// Checks what both sides tell of a connection that moved `asked` and `answered` bytes.
fn expect_closed(
    agent: &Agent,
    (client, server): (u16, u16),
    ending: Ending,
    (asked, answered): (u64, u64),
    lived: Duration,
) -> Result<()> {
    for side in BOTH_SIDES {
        let what = format!("connections of port {client}, {side} side, {ending:?}");
        let flows = agent.flows()?;
        let own = flows.iter().filter(|flow| flow.connects(client, server));
        let own: Vec<&Flow> = own
            .filter(|flow| flow.text("side") == side && flow.text("event") != "recognised")
            .collect();
        let events: Vec<&str> = own.iter().map(|flow| flow.text("event")).collect();
        ensure!(events == ["opened", "closed"], "{what}: {own:?}");
        let closed = own[1];
        let (sent, received) = match side {
            "client" => (asked, answered),
            _ => (answered, asked),
        };
        ensure!(closed.integer("sent_bytes")? == sent, "{what}: {closed:?}");
        ensure!(
            closed.integer("received_bytes")? == received,
            "{what}: {closed:?}"
        );
        ensure!(
            closed.text("closed_by") == ending.closed_by(side),
            "{what}: {closed:?}"
        );
        ensure!(
            closed.get("reset").as_bool() == Some(ending.resets()),
            "{what}: {closed:?}"
        );
        ensure!(closed.integer("retransmits")? == 0, "{what}: {closed:?}");
        ensure!(closed.integer("sent_segments")? >= 2, "{what}: {closed:?}");
        ensure!(
            closed.integer("received_segments")? >= 2,
            "{what}: {closed:?}"
        );
        ensure!(
            closed.get("pre_existing").as_bool() == Some(false),
            "{what}: {closed:?}"
        );
        let told = closed.number("duration_seconds")?;
        let difference = (told - lived.as_secs_f64()).abs();
        ensure!(difference < 0.05, "{what}: lived {lived:?}, told {told} s");
    }
    Ok(())
}

#[test]
fn each_end_tells_who_closed_and_every_byte() -> Result<()> {
    if lacking(&[Need::Observer])? {
        return Ok(());
    }
    let cgroup = Cgroup::create("closed")?;
    let place = Place::host(&cgroup);
    let agent = Agent::start(&cgroup)?;
    // Where to listen, where to connect to, and the addresses that flows have to show.
    let families = [
        ("127.0.0.1", "127.0.0.1"),
        ("::1", "::1"),
        ("::", "127.0.0.1"),
        ("::", "::ffff:127.0.0.1"),
    ];
    let mut made = Vec::new();
    for (listen, connect) in families {
        let listener = place.listen(SocketAddr::new(listen.parse()?, 0))?;
        let port = listener.local_addr()?.port();
        let target = SocketAddr::new(connect.parse()?, port);
        for ending in ENDINGS {
            let start = Instant::now();
            let client = place.connect(target)?;
            let (server, _) = listener.accept()?;
            let server = observer_tests::place::prepare(server)?;
            let mut talk = Conversation { client, server };
            let ports = talk.ports()?;
            talk.ask(&[b'a'; 12_345], Cut::Whole)?;
            talk.answer(&[b'b'; 54_321], Cut::Whole)?;
            ending.end(talk)?;
            made.push((ports, ending, start.elapsed(), target.ip().to_canonical()));
        }
    }
    for side in BOTH_SIDES {
        let what = format!("closed connections, {side} side");
        let closed = agent.exactly(made.len(), &what, |flow| flow.is_event_at("closed", side))?;
        for (flow, (_, _, _, address)) in closed.iter().zip(&made) {
            for end in ["local", "remote"] {
                let shown: SocketAddr = flow.text(end).parse().context("an address")?;
                ensure!(
                    shown.ip() == *address,
                    "{end} is not at {address}: {flow:?}"
                );
            }
            ensure!(
                flow.get("wire_local").is_null(),
                "nothing was translated: {flow:?}"
            );
        }
    }
    for (ports, ending, lived, _) in made {
        expect_closed(&agent, ports, ending, (12_345, 54_321), lived)?;
    }
    let calls = agent.flows()?.iter().filter(|flow| flow.is_call()).count();
    ensure!(calls == 0, "{calls} calls on connections without HTTP");
    agent.expect_no_loss()?;
    agent.stop()
}

#[test]
fn connections_that_fail_tell_why() -> Result<()> {
    if lacking(&[Need::Observer, Need::Tool("ip"), Need::Tool("nft")])? {
        return Ok(());
    }
    let cgroup = Cgroup::create("failed")?;
    let (near, far) = (Namespace::create("near")?, Namespace::create("far")?);
    let (device, _) = namespace::join(
        (&near, &["10.77.0.1/24", "fd77::1/64"]),
        (&far, &["10.77.0.2/24", "fd77::2/64"]),
    )?;
    // One SYN more after a second, then it is given up after two more.
    near.set("ipv4/tcp_syn_retries", "1")?;
    near.set(&format!("ipv4/neigh/{device}/retrans_time_ms"), "100")?;
    near.set(&format!("ipv6/neigh/{device}/retrans_time_ms"), "100")?;
    far.rules(
        "table inet silence { chain input { type filter hook input priority 0; \
         tcp dport 7001 drop; }; }",
    )?;
    let place = Place::inside(&cgroup, &near);
    let agent = Agent::start(&cgroup)?;
    let attempts = [
        ("10.77.0.2:7000", ErrorKind::ConnectionRefused, "refused"),
        ("[fd77::2]:7000", ErrorKind::ConnectionRefused, "refused"),
        ("127.0.0.1:7000", ErrorKind::ConnectionRefused, "refused"),
        ("10.77.0.2:7001", ErrorKind::TimedOut, "timed_out"),
        ("10.77.0.99:7002", ErrorKind::HostUnreachable, "unreachable"),
        ("[fd77::99]:7002", ErrorKind::HostUnreachable, "unreachable"),
    ];
    for (address, kind, _) in attempts {
        let error = place
            .connect(address.parse()?)
            .err()
            .context("it connected")?;
        let cause = error.downcast_ref::<std::io::Error>().context("no cause")?;
        ensure!(cause.kind() == kind, "{address}: {error:#}");
    }
    let abandoned = "[fd77::2]:7001";
    let socket = place.start_connecting(abandoned.parse()?)?;
    std::thread::sleep(Duration::from_millis(100));
    drop(socket);
    let all = attempts.map(|(address, _, failure)| (address, failure));
    let failed = agent.exactly(all.len() + 1, "failed connections", |flow| {
        flow.text("event") == "failed"
    })?;
    for (flow, (address, failure)) in failed
        .iter()
        .zip(all.iter().chain([&(abandoned, "abandoned")]))
    {
        ensure!(flow.text("side") == "client", "{flow:?}");
        ensure!(flow.text("remote") == *address, "{address}: {flow:?}");
        ensure!(flow.text("failure") == *failure, "{address}: {flow:?}");
    }
    let others = agent
        .flows()?
        .iter()
        .filter(|flow| flow.text("event") != "failed")
        .count();
    ensure!(others == 0, "{others} flows besides the failures");
    agent.expect_no_loss()?;
    agent.stop()
}

#[test]
fn a_connection_older_than_the_observer_is_told() -> Result<()> {
    if lacking(&[Need::Observer])? {
        return Ok(());
    }
    let cgroup = Cgroup::create("older")?;
    let mut talk = Conversation::open(&Place::host(&cgroup))?;
    let (client, server) = talk.ports()?;
    talk.ask(&[b'a'; 1000], Cut::Whole)?;
    let agent = Agent::start(&cgroup)?;
    talk.ask(&[b'b'; 200], Cut::Whole)?;
    talk.answer(&[b'c'; 300], Cut::Whole)?;
    talk.close_by_client()?;
    let closed = agent.exactly(2, "the end of an older connection", |flow| {
        flow.text("event") == "closed" && flow.get("pre_existing").as_bool() == Some(true)
    })?;
    for flow in closed {
        // Its side may be unknown: nothing that it does now tells who had connected.
        let local = port_of(flow.text("local"));
        let at_client = local == Some(client);
        ensure!(at_client || local == Some(server), "{flow:?}");
        let (asked, answered) = match at_client {
            true => ("sent_bytes", "received_bytes"),
            false => ("received_bytes", "sent_bytes"),
        };
        ensure!((200..=1200).contains(&flow.integer(asked)?), "{flow:?}");
        ensure!(flow.integer(answered)? == 300, "{flow:?}");
        let by = if at_client { "local" } else { "remote" };
        ensure!(flow.text("closed_by") == by, "{flow:?}");
    }
    agent.stop()
}

#[test]
fn an_independent_witness_agrees() -> Result<()> {
    let tools = ["tcplife", "unshare", "stdbuf"].map(Need::Tool);
    if lacking(&[&[Need::Observer], &tools[..]].concat())? {
        return Ok(());
    }
    let cgroup = Cgroup::create("witness")?;
    let place = Place::host(&cgroup);
    let witness = Witness::start("tcplife")?;
    let agent = Agent::start(&cgroup)?;
    let listener: TcpListener = place.listen("127.0.0.1:0".parse()?)?;
    let port = listener.local_addr()?.port();
    let mut random = Random::new(5);
    for number in 0..60 {
        let mut talk = Conversation::accept(&place, &listener, Handshake::Plain)?;
        talk.ask(&vec![b'a'; 1 + random.below(20_000) as usize], Cut::Whole)?;
        talk.answer(&vec![b'b'; 1 + random.below(60_000) as usize], Cut::Whole)?;
        ENDINGS[number % ENDINGS.len()].end(talk)?;
    }
    let lives: Vec<Life> = wait::until("the witness", wait::PATIENCE, || {
        let own = |life: &Life| life.local.1 == port || life.remote.1 == port;
        let lives: Vec<Life> = witness.lives()?.into_iter().filter(own).collect();
        Ok((lives.len() >= 120).then_some(lives))
    })?;
    ensure!(
        lives.len() == 120,
        "the witness saw {} sockets",
        lives.len()
    );
    let closed = agent.exactly(120, "closed connections", |flow| {
        flow.text("event") == "closed"
    })?;
    for life in lives {
        let flow = closed.iter().find(|flow| {
            port_of(flow.text("local")) == Some(life.local.1)
                && port_of(flow.text("remote")) == Some(life.remote.1)
        });
        let flow = flow.with_context(|| format!("no flow for {life:?}"))?;
        for (bytes, kibibytes) in [
            ("sent_bytes", life.sent_kibibytes),
            ("received_bytes", life.received_kibibytes),
        ] {
            let difference = flow.number(bytes)? / 1024.0 - kibibytes;
            // The witness counts SYN and FIN as bytes, and rounds to two digits.
            ensure!(
                difference.abs() <= 0.008,
                "{bytes} of {flow:?}; witness: {life:?}"
            );
        }
    }
    witness.stop()?;
    agent.stop()
}
