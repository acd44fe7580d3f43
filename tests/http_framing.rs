//! HTTP/1 is understood exactly, however messages are framed, cut, mixed and broken off.

use anyhow::{Result, ensure};
use observer_tests::{
    agent::Agent,
    cgroup::Cgroup,
    client::{self, Fetched},
    conversation::{Conversation, Cut},
    flow::{Expected, Flow},
    place::Place,
    requirement::{Need, lacking},
    server::{PYTHON, Server},
};

#[path = "http_framing/cases.rs"]
mod cases;

use cases::{
    Case,
    Turn::{self, Answer, Ask, ClientFinishes, ClientResets, ServerFinishes, ServerResets},
    broken_cases, call, control_cases, foreign_cases, framing_cases,
};

/// Cuts of every case; a byte at a time only where that makes few segments.
const CUTS: [Cut; 3] = [Cut::Whole, Cut::Seeded(42), Cut::EveryByte];

fn perform(place: &Place<'_>, case: &Case, cut: Cut) -> Result<(u16, u16)> {
    let mut talk = Conversation::open(place)?;
    let ports = talk.ports()?;
    for turn in &case.turns {
        match turn {
            Ask(text) => talk.ask(text.as_bytes(), cut)?,
            Answer(text) => talk.answer(text.as_bytes(), cut)?,
            ClientFinishes => talk.client_finishes()?,
            ServerFinishes => talk.server_finishes()?,
            ClientResets => return talk.reset_by_client().map(|()| ports),
            ServerResets => return talk.reset_by_server().map(|()| ports),
        }
    }
    let finished = case
        .turns
        .iter()
        .any(|turn| matches!(turn, ClientFinishes | ServerFinishes));
    if !finished {
        talk.close_by_client()?;
    }
    Ok(ports)
}

fn check_all(label: &str, cases: &[Case]) -> Result<()> {
    if lacking(&[Need::Observer])? {
        return Ok(());
    }
    let cgroup = Cgroup::create(label)?;
    let place = Place::host(&cgroup);
    let agent = Agent::start(&cgroup)?;
    let mut made = Vec::new();
    for case in cases {
        for cut in CUTS {
            let bulky =
                |turn: &Turn| matches!(turn, Ask(text) | Answer(text) if text.len() > 30_000);
            if cut == Cut::EveryByte && case.turns.iter().any(bulky) {
                continue;
            }
            made.push((case, cut, perform(&place, case, cut)?));
        }
    }
    // The cases are looked at one by one; only the first has to wait for the observer.
    let total = made
        .iter()
        .map(|(case, ..)| case.calls.len())
        .sum::<usize>()
        * 2;
    let all = agent.exactly(total, "calls of all cases", Flow::is_call);
    // Also those that are not HTTP were seen.
    let ended = |flow: &Flow| flow.text("event") == "closed";
    agent.exactly(2 * made.len(), "ends of all connections", ended)?;
    let flows = agent.flows()?;
    let mut wrong = Vec::new();
    for (case, cut, (client, server)) in made {
        for side in observer_tests::flow::BOTH_SIDES {
            let own = flows.iter().filter(|flow| flow.is_call_at(side));
            let own: Vec<&Flow> = own.filter(|flow| flow.connects(client, server)).collect();
            let outlines: Vec<Expected> = own.iter().map(|flow| flow.outline()).collect();
            let ordered = own.iter().enumerate().all(|(number, flow)| {
                flow.integer("ordinal")
                    .is_ok_and(|ordinal| ordinal == number as u64)
            });
            if outlines != case.calls || !ordered {
                let name = case.name;
                wrong.push(format!(
                    "{name}, {cut:?}, {side} side:\n  expected {:?}\n  found {own:?}",
                    case.calls
                ));
            }
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    all?;
    agent.expect_no_loss()?;
    agent.stop()
}

#[test]
fn framing_is_exact() -> Result<()> {
    check_all("framing", &framing_cases())
}

#[test]
fn interim_responses_tunnels_and_targets_are_exact() -> Result<()> {
    check_all("control", &control_cases())
}

#[test]
fn exchanges_that_break_off_say_so() -> Result<()> {
    check_all("broken", &broken_cases())
}

#[test]
fn other_protocols_are_not_reported_as_http() -> Result<()> {
    check_all("foreign", &foreign_cases())
}

#[test]
fn every_split_point_gives_the_same_call() -> Result<()> {
    if lacking(&[Need::Observer])? {
        return Ok(());
    }
    let cgroup = Cgroup::create("split")?;
    let place = Place::host(&cgroup);
    let agent = Agent::start(&cgroup)?;
    let request = "POST /split HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                   3;e=1\r\nabc\r\n0\r\n\r\n";
    let response = "HTTP/1.1 201 Created\r\nContent-Length: 7\r\n\r\ncontent";
    let mut talk = Conversation::open(&place)?;
    let points = request.len().max(response.len());
    for point in 1..points {
        talk.ask(request.as_bytes(), Cut::At(point))?;
        talk.answer(response.as_bytes(), Cut::At(point))?;
    }
    talk.close_by_server()?;
    let calls = vec![call(request, 3, response, 7); points - 1];
    agent.expect_calls("split points", &calls, |_| true)?;
    agent.expect_no_loss()?;
    agent.stop()
}

#[test]
fn a_request_that_comes_with_the_handshake_is_not_lost() -> Result<()> {
    if lacking(&[Need::Observer])? {
        return Ok(());
    }
    let cgroup = Cgroup::create("handshake")?;
    let place = Place::host(&cgroup);
    let agent = Agent::start(&cgroup)?;
    let request = "GET /handshake HTTP/1.1\r\nHost: a.test\r\n\r\n";
    let response = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    for _ in 0..20 {
        let mut talk = Conversation::open_with_data(&place, request.as_bytes())?;
        talk.answer(response.as_bytes(), Cut::Whole)?;
        talk.ask(request.as_bytes(), Cut::Whole)?;
        talk.answer(response.as_bytes(), Cut::Whole)?;
        talk.close_by_client()?;
    }
    agent.expect_calls("calls", &vec![call(request, 0, response, 5); 40], |_| true)?;
    agent.expect_no_loss()?;
    agent.stop()
}

#[test]
fn details_of_a_request_are_told() -> Result<()> {
    if lacking(&[Need::Observer])? {
        return Ok(());
    }
    let cgroup = Cgroup::create("details")?;
    let place = Place::host(&cgroup);
    let agent = Agent::start(&cgroup)?;
    let long = "p".repeat(20_000);
    let requests = [
        "GET http://c.test:8080/far?query=1 HTTP/1.1\r\nHost: c.test:8080\r\n\r\n".to_owned(),
        "GET /near HTTP/1.1\r\nuser-agent: robot/1.0\r\nhOST:b.test\r\n\r\n".to_owned(),
        format!("GET /{long} HTTP/1.1\r\nHost: b.test\r\n\r\n"),
    ];
    let response = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    let mut talk = Conversation::open(&place)?;
    for request in &requests {
        talk.ask(request.as_bytes(), Cut::Whole)?;
        talk.answer(response.as_bytes(), Cut::Whole)?;
    }
    talk.close_by_client()?;
    for side in observer_tests::flow::BOTH_SIDES {
        let calls = agent.exactly(3, "calls", |flow| flow.is_call_at(side))?;
        let [far, near, wide] = &calls[..] else {
            anyhow::bail!("{calls:?}")
        };
        ensure!(far.text("authority") == "c.test:8080", "{far:?}");
        ensure!(far.get("query").as_bool() == Some(true), "{far:?}");
        ensure!(near.text("authority") == "b.test", "{near:?}");
        ensure!(near.text("user_agent") == "robot/1.0", "{near:?}");
        ensure!(near.get("query").as_bool() == Some(false), "{near:?}");
        ensure!(
            near.text("version") == "1.1" && near.text("protocol") == "http",
            "{near:?}"
        );
        let path = wide.text("path");
        ensure!(
            path.len() > 8 && format!("/{long}").starts_with(path),
            "{wide:?}"
        );
        ensure!(
            wide.integer("request_head_bytes")? == requests[2].len() as u64,
            "{wide:?}"
        );
    }
    agent.stop()
}

#[test]
fn real_servers_and_clients_agree() -> Result<()> {
    if lacking(&[
        Need::Observer,
        Need::Tool("curl"),
        Need::Tool("node"),
        Need::Tool(PYTHON),
    ])? {
        return Ok(());
    }
    let cgroup = Cgroup::create("real")?;
    let place = Place::host(&cgroup);
    let (python, node) = (Server::python(&place, &[])?, Server::node(&place, &[])?);
    let agent = Agent::start(&cgroup)?;
    let mut fetched: Vec<(&str, Fetched)> = Vec::new();
    for (path, arguments) in [
        ("/hello", &[][..]),
        ("/bytes/100000", &[]),
        ("/chunked", &[]),
        ("/close", &[]),
        ("/empty", &[]),
        ("/unchanged", &[]),
        ("/status/503", &[]),
        ("/hello", &["--head"]),
        ("/stored", &["--data", "abc=def"]),
        ("/hello", &["--http1.0"]),
    ] {
        let url = python.url(path);
        fetched.push((
            path,
            client::curl(&place, &[&[url.as_str()], arguments].concat())?,
        ));
    }
    for (path, arguments) in [
        ("/hello", &[][..]),
        ("/chunked", &[]),
        ("/echo", &["--data", "abc"]),
    ] {
        let url = node.url(path);
        fetched.push((
            path,
            client::curl(&place, &[&[url.as_str()], arguments].concat())?,
        ));
    }
    for side in observer_tests::flow::BOTH_SIDES {
        agent.exactly(fetched.len(), "calls", |flow| flow.is_call_at(side))?;
    }
    let flows = agent.flows()?;
    for (path, truth) in &fetched {
        for side in observer_tests::flow::BOTH_SIDES {
            let end = if side == "client" { "local" } else { "remote" };
            let address = format!("127.0.0.1:{}", truth.local_port);
            let own = flows.iter().filter(|flow| flow.is_call_at(side));
            let own: Vec<&Flow> = own.filter(|flow| flow.text(end) == address).collect();
            let [flow] = own[..] else {
                anyhow::bail!("{path}: {own:?}")
            };
            let outline = flow.outline();
            ensure!(
                outline.path == *path && outline.outcome == "complete",
                "{path}: {flow:?}"
            );
            ensure!(outline.status == Some(truth.status), "{path}: {flow:?}");
            // curl counts content that leaves with the head among its bytes.
            let head = truth.request_head_bytes - truth.request_body_bytes;
            let sent = (head, truth.request_body_bytes);
            ensure!(outline.request == sent, "{path}: {flow:?}, curl: {truth:?}");
            let received = (truth.response_head_bytes, truth.response_body_bytes);
            ensure!(
                outline.response == received,
                "{path}: {flow:?}, curl: {truth:?}"
            );
            let told = flow.number("duration_seconds")?;
            ensure!(
                told <= truth.total.as_secs_f64() + 0.005,
                "{path}: {flow:?}, curl: {truth:?}"
            );
        }
    }
    agent.expect_no_loss()?;
    agent.stop()
}
