//! Connections whose bytes are not read tell how often the server answered, and how long it took.

use std::{
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use observer_tests::{
    agent::Agent,
    certificates::{Authority, text},
    cgroup::Cgroup,
    client,
    conversation::{Conversation, Cut},
    flow::{Flow, port_of},
    peers,
    place::Place,
    process,
    requirement::{Need, lacking},
    server::{PYTHON, Server},
};

const NAME: &str = "a.test";
/// How long the server takes for an answer, seconds.
const SERVICE: f64 = 0.02;
/// How far a mean may be from what the client itself has measured, seconds: it is a machine with much
/// else to do.
const SLACK: f64 = 0.005;
const REQUESTS: u64 = 30;

/// The client's and the server's end of the one connection to `port`.
fn ends(agent: &Agent, port: u16) -> Result<[Flow; 2]> {
    let one = |side: &str, near: &str| -> Result<Flow> {
        let own = |flow: &Flow| {
            flow.is_event_at("closed", side) && port_of(flow.text(near)) == Some(port)
        };
        Ok(agent.exactly(1, "ends of the connection", own)?.remove(0))
    };
    Ok([one("client", "remote")?, one("server", "local")?])
}

/// Mean of the turns of an end, seconds.
fn mean(end: &Flow, turns: u64) -> Result<f64> {
    ensure!(end.integer("turns")? == turns, "{turns} turns: {end:?}");
    Ok(end.number("turn_seconds")? / turns as f64)
}

fn python(place: &Place<'_>, arguments: &[&str]) -> Result<Command> {
    let mut command = place.command(PYTHON)?;
    command
        .arg("-B")
        .arg(peers::script("tls.py"))
        .args(arguments);
    Ok(command)
}

#[test]
fn requests_inside_of_tls_are_turns() -> Result<()> {
    if lacking(&[Need::Observer, Need::Tool("openssl"), Need::Tool(PYTHON)])? {
        return Ok(());
    }
    let (authority, cgroup) = (Authority::create()?, Cgroup::create("turns")?);
    let place = Place::host(&cgroup);
    let pair = authority.sign(NAME, &["DNS:a.test"])?;
    let server = Server::other(
        &place,
        &mut python(&place, &["slow"])?,
        |command, _, port| {
            command.arg(port.to_string());
            command.arg(&pair.certificate).arg(&pair.key);
            command.arg(SERVICE.to_string());
            Ok(())
        },
    )?;
    let port = server.address().port();
    let certificate = text(&authority.certificate());
    for version in ["TLSv1_2", "TLSv1_3"] {
        let agent = Agent::start(&cgroup)?;
        let (number, count) = (port.to_string(), REQUESTS.to_string());
        let arguments = ["ask", &number, &certificate, NAME, version, &count];
        let printed = process::check(&mut python(&place, &arguments)?)?;
        let measured = printed.trim().parse::<f64>()? / REQUESTS as f64;
        let ends = ends(&agent, port)?;
        for end in &ends {
            ensure!(end.text("security") == "tls", "{end:?}");
        }
        let [client, server] = [mean(&ends[0], REQUESTS)?, mean(&ends[1], REQUESTS)?];
        println!("{version}: {measured:.6} s in all, client {client:.6} s, server {server:.6} s");
        ensure!(
            client >= server,
            "{client} at the client, {server} at the server"
        );
        ensure!(server >= SERVICE, "{server} at the server");
        ensure!(
            client <= measured,
            "{client} at the client, which took {measured}"
        );
        ensure!(
            measured - server < SLACK,
            "{server} at the server, {measured} in all"
        );
        agent.expect_no_loss()?;
        agent.stop()?;
    }
    Ok(())
}

#[test]
fn requests_that_share_a_connection_are_fewer_turns() -> Result<()> {
    let tools = [Need::Observer, Need::Tool("nghttpd"), Need::Tool("h2load")];
    if lacking(&tools)? || lacking(&[Need::Tool("openssl")])? {
        return Ok(());
    }
    let (authority, cgroup) = (Authority::create()?, Cgroup::create("turns-h2")?);
    let place = Place::host(&cgroup);
    let pair = authority.sign(NAME, &["DNS:a.test"])?;
    let mut command = place.command("nghttpd")?;
    let server = Server::other(&place, &mut command, |command, folder, port| {
        std::fs::write(folder.join("index.html"), "hello")?;
        command.arg("-a").arg("127.0.0.1").arg("-d").arg(folder);
        command.arg(port.to_string());
        command.arg(&pair.key).arg(&pair.certificate);
        Ok(())
    })?;
    let agent = Agent::start(&cgroup)?;
    let mut load = place.command("h2load")?;
    load.args(["-n", "400", "-c", "1", "-m", "20"]);
    load.arg(format!("https://{}/", server.address()));
    let printed = process::check(&mut load)?;
    ensure!(printed.contains("400 succeeded"), "{printed}");
    for end in ends(&agent, server.address().port())? {
        let turns = end.integer("turns")?;
        ensure!((1..400).contains(&turns), "{end:?}");
    }
    agent.expect_no_loss()?;
    agent.stop()
}

#[test]
fn unknown_protocols_have_turns_from_the_first_byte() -> Result<()> {
    if lacking(&[Need::Observer])? {
        return Ok(());
    }
    let cgroup = Cgroup::create("turns-plain")?;
    let agent = Agent::start(&cgroup)?;
    let mut talk = Conversation::open(&Place::host(&cgroup))?;
    let port = talk.ports()?.1;
    let pause = Duration::from_secs_f64(SERVICE);
    // The server speaks first; that answers nothing.
    talk.answer(&[0x80; 60], Cut::Whole)?;
    let mut waited = Duration::ZERO;
    for turn in 0..20 {
        let began = Instant::now();
        talk.ask(&[0x81; 50], Cut::At(20))?;
        thread::sleep(pause);
        talk.answer(&[0x82; 500], Cut::At(100))?;
        waited += began.elapsed();
        if turn % 5 == 0 {
            // Between turns nobody waits for anything.
            thread::sleep(4 * pause);
        }
    }
    // Not answered: it is no turn yet.
    talk.ask(&[0x81; 50], Cut::Whole)?;
    talk.close_by_client()?;
    for end in ends(&agent, port)? {
        let mean = mean(&end, 20)?;
        let measured = waited.as_secs_f64() / 20.0;
        ensure!(
            (SERVICE..=measured).contains(&mean),
            "{mean} of {measured}: {end:?}"
        );
        ensure!(measured - mean < SLACK, "{mean} of {measured}: {end:?}");
    }
    agent.expect_no_loss()?;
    agent.stop()
}

#[test]
fn what_is_read_has_no_turns() -> Result<()> {
    if lacking(&[Need::Observer, Need::Tool("nginx"), Need::Tool("curl")])? {
        return Ok(());
    }
    let cgroup = Cgroup::create("turns-http")?;
    let place = Place::host(&cgroup);
    let servers = [Server::nginx(&place)?, Server::nginx_http2(&place)?];
    let agent = Agent::start(&cgroup)?;
    for (server, flag) in servers.iter().zip(["--http1.1", "--http2-prior-knowledge"]) {
        client::curl(&place, &[flag, &server.url("/hello")])?;
        for end in ends(&agent, server.address().port())? {
            ensure!(end.get("turns").is_null(), "{end:?}");
            ensure!(end.get("turn_seconds").is_null(), "{end:?}");
        }
    }
    agent.expect_no_loss()?;
    agent.stop()
}
