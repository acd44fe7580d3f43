//! HTTP/1 is understood exactly, however messages are framed, cut, mixed and broken off.

use anyhow::{Result, ensure};
use observer_tests::{
    agent::Agent,
    cgroup::Cgroup,
    client::{self, Fetched},
    conversation::{Conversation, Cut},
    flow::{Expected, Flow},
    http::end_of_head,
    place::Place,
    requirement::{Need, lacking},
    server::{PYTHON, Server},
};

/// Cuts of every case; a byte at a time only where that makes few segments.
const CUTS: [Cut; 3] = [Cut::Whole, Cut::Seeded(42), Cut::EveryByte];

/// One step of a connection.
#[derive(Clone, Debug)]
enum Turn {
    Ask(String),
    Answer(String),
    ClientFinishes,
    ServerFinishes,
    ClientResets,
    ServerResets,
}

use Turn::{Answer, Ask, ClientFinishes, ClientResets, ServerFinishes, ServerResets};

/// A connection and the calls that it has to be reported as.
struct Case {
    name: &'static str,
    turns: Vec<Turn>,
    calls: Vec<Expected>,
}

fn ask(text: &str) -> Turn {
    Ask(text.to_owned())
}

fn answer(text: &str) -> Turn {
    Answer(text.to_owned())
}

fn head(text: &str) -> u64 {
    end_of_head(text.as_bytes()).unwrap_or(0) as u64
}

/// A complete call of the two messages; the sizes of their contents are told, their heads measured.
fn call(request: &str, sent: u64, response: &str, received: u64) -> Expected {
    let mut words = request.split(' ');
    let (method, target) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    let path = target.split('?').next().unwrap_or_default();
    let status = response
        .split(' ')
        .nth(1)
        .and_then(|word| word.trim().parse().ok());
    let sizes = ((head(request), sent), (head(response), received));
    Expected::complete(method, path, status.unwrap_or(0), sizes.0, sizes.1)
}

/// A call that got no response.
fn unanswered(request: &str, sent: u64, outcome: &str) -> Expected {
    let expected = call(request, sent, "", 0);
    Expected {
        status: None,
        outcome: outcome.to_owned(),
        ..expected
    }
}

fn case(name: &'static str, turns: Vec<Turn>, calls: Vec<Expected>) -> Case {
    Case { name, turns, calls }
}

fn framing_cases() -> Vec<Case> {
    let get = "GET /first?secret=1 HTTP/1.1\r\nHost: a.test\r\n\r\n";
    let second = "GET /second HTTP/1.1\r\nHost: a.test\r\n\r\n";
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    let missing = "HTTP/1.1 404 Not Found\r\ncontent-LENGTH:   0  \r\n\r\n";
    let post = "POST /form HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc";
    let chunked_post = "PUT /chunks HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n\
                        4;name=\"va;lue\"\r\nabcd\r\n0A\r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\n";
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-A\r\n\r\n\
                   5\r\nhello\r\n1a;x\r\nabcdefghijklmnopqrstuvwxyz\r\n000\r\nX-A: b\r\nX-C: d\r\n\r\n";
    // RFC 9112 section 6.3: Transfer-Encoding overrides Content-Length.
    let both = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n\
                2\r\nhi\r\n0\r\n\r\n";
    let until_end = "HTTP/1.1 200 OK\r\nServer: x\r\n\r\n";
    let old = "GET /old HTTP/1.0\r\n\r\n";
    let old_alive = "GET /alive HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    let old_ok = "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok";
    let head_request = "HEAD /big HTTP/1.1\r\nHost: a.test\r\n\r\n";
    let big = "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n";
    let empty = "HTTP/1.1 204 No Content\r\n\r\n";
    let unchanged = "HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n";
    let nested = "POST /nested HTTP/1.1\r\nHost: a.test\r\nContent-Length: 22\r\n\r\n\
                  GET /fake HTTP/1.1\r\n\r\n";
    let padding = "x".repeat(20_000);
    let wide = format!("GET /wide HTTP/1.1\r\nHost: a.test\r\nX-Padding: {padding}\r\n\r\n");
    let wide_ok = format!("HTTP/1.1 200 OK\r\nX-Padding: {padding}\r\nContent-Length: 2\r\n\r\nok");
    let bulk = "y".repeat(200_000);
    let bulk_post =
        format!("POST /bulk HTTP/1.1\r\nHost: a.test\r\nContent-Length: 200000\r\n\r\n{bulk}");
    let bulk_ok = format!("HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n{bulk}");
    vec![
        case(
            "keep-alive",
            vec![
                ask(get),
                answer(ok),
                ask(post),
                answer(missing),
                ask(second),
                answer(ok),
            ],
            vec![
                call(get, 0, ok, 5),
                call(post, 3, missing, 0),
                call(second, 0, ok, 5),
            ],
        ),
        case(
            "pipelined, first in, first out",
            vec![
                Ask([get, post, chunked_post, second].concat()),
                Answer([ok, missing, chunked, ok].concat()),
            ],
            vec![
                call(get, 0, ok, 5),
                call(post, 3, missing, 0),
                call(chunked_post, 14, chunked, 31),
                call(second, 0, ok, 5),
            ],
        ),
        case(
            "chunks with extensions and trailers",
            vec![
                ask(chunked_post),
                answer(chunked),
                ask(get),
                answer(both),
                ask(get),
                answer(ok),
            ],
            vec![
                call(chunked_post, 14, chunked, 31),
                call(get, 0, both, 2),
                call(get, 0, ok, 5),
            ],
        ),
        case(
            "the end of the connection ends the content",
            vec![
                ask(get),
                answer(until_end),
                answer("all of this"),
                ServerFinishes,
            ],
            vec![call(get, 0, until_end, 11)],
        ),
        case(
            "HTTP/1.0",
            vec![
                ask(old_alive),
                answer(old_ok),
                ask(old),
                answer("HTTP/1.0 200 OK\r\n\r\n"),
                answer("rest"),
                ServerFinishes,
            ],
            vec![
                call(old_alive, 0, old_ok, 2),
                call(old, 0, "HTTP/1.0 200 OK\r\n\r\n", 4),
            ],
        ),
        case(
            "responses without content",
            vec![
                ask(head_request),
                answer(big),
                ask(get),
                answer(empty),
                ask(get),
                answer(unchanged),
                ask(second),
                answer(ok),
            ],
            vec![
                call(head_request, 0, big, 0),
                call(get, 0, empty, 0),
                call(get, 0, unchanged, 0),
                call(second, 0, ok, 5),
            ],
        ),
        case(
            "content that looks like a request",
            vec![ask(nested), answer(ok), ask(get), answer(ok)],
            vec![call(nested, 22, ok, 5), call(get, 0, ok, 5)],
        ),
        case(
            "heads larger than what is captured",
            vec![
                Ask(wide.clone()),
                Answer(wide_ok.clone()),
                ask(second),
                answer(ok),
            ],
            vec![call(&wide, 0, &wide_ok, 2), call(second, 0, ok, 5)],
        ),
        case(
            "large contents both ways",
            vec![
                Ask(bulk_post.clone()),
                Answer(bulk_ok.clone()),
                ask(second),
                answer(ok),
            ],
            vec![
                call(&bulk_post, 200_000, &bulk_ok, 200_000),
                call(second, 0, ok, 5),
            ],
        ),
    ]
}

fn control_cases() -> Vec<Case> {
    let get = "GET /after HTTP/1.1\r\nHost: a.test\r\n\r\n";
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    let expecting = "POST /expect HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\
                     Expect: 100-continue\r\n\r\n";
    let go_on = "HTTP/1.1 100 Continue\r\n\r\n";
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n";
    let refused = "HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n";
    let upload = "POST /early HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1000\r\n\r\n";
    let too_large = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno";
    let connect = "CONNECT b.test:443 HTTP/1.1\r\nHost: b.test:443\r\n\r\n";
    let connected = "HTTP/1.1 200 Connection established\r\n\r\n";
    let authenticate =
        "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 4\r\n\r\nwho?";
    let upgrade = "GET /socket HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\n\
                   Upgrade: websocket\r\n\r\n";
    let switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                     Upgrade: websocket\r\n\r\n";
    let ignored = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nnot";
    let absolute = "GET http://c.test:8080/far?query=1 HTTP/1.1\r\nHost: c.test:8080\r\n\r\n";
    let options = "OPTIONS * HTTP/1.1\r\nHost: a.test\r\n\r\n";
    let far = Expected {
        path: "/far".to_owned(),
        ..call(absolute, 0, ok, 5)
    };
    vec![
        case(
            "100 Continue",
            vec![
                ask(expecting),
                answer(go_on),
                ask("body"),
                answer(ok),
                ask(get),
                answer(ok),
            ],
            vec![call(expecting, 4, ok, 5), call(get, 0, ok, 5)],
        ),
        case(
            "several interim responses",
            vec![
                ask(get),
                answer(hints),
                answer(hints),
                answer(ok),
                ask(get),
                answer(ok),
            ],
            vec![call(get, 0, ok, 5), call(get, 0, ok, 5)],
        ),
        case(
            "an expectation that fails ends the connection",
            vec![ask(expecting), answer(refused), ServerFinishes],
            vec![call(expecting, 0, refused, 0)],
        ),
        case(
            "an early response",
            vec![
                Ask(format!("{upload}{}", "z".repeat(100))),
                answer(too_large),
                Ask("z".repeat(900)),
                ask(get),
                answer(ok),
            ],
            vec![call(upload, 1000, too_large, 2), call(get, 0, ok, 5)],
        ),
        case(
            "a tunnel by CONNECT",
            vec![
                ask(connect),
                answer(connected),
                ask(get),
                answer(ok),
                ask("\x16\x03\x01"),
            ],
            vec![call(connect, 0, connected, 0).but("tunnel")],
        ),
        case(
            "a tunnel that was not made",
            vec![ask(connect), answer(authenticate), ask(get), answer(ok)],
            vec![call(connect, 0, authenticate, 4), call(get, 0, ok, 5)],
        ),
        case(
            "an upgrade",
            vec![
                ask(upgrade),
                answer(switching),
                answer("\u{1}frame"),
                ask(get),
                answer(ok),
            ],
            vec![call(upgrade, 0, switching, 0).but("tunnel")],
        ),
        case(
            "an upgrade that was ignored",
            vec![ask(upgrade), answer(ignored), ask(get), answer(ok)],
            vec![call(upgrade, 0, ignored, 3), call(get, 0, ok, 5)],
        ),
        case(
            "targets in other forms",
            vec![ask(absolute), answer(ok), ask(options), answer(ok)],
            vec![far, call(options, 0, ok, 5)],
        ),
    ]
}

fn broken_cases() -> Vec<Case> {
    let get = "GET /broken HTTP/1.1\r\nHost: a.test\r\n\r\n";
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    let part = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe";
    let open_chunk = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel";
    let plain = "HTTP/1.1 200 OK\r\n\r\nall";
    vec![
        case(
            "half-closed by the client",
            vec![ask(get), ClientFinishes, answer(ok), ServerFinishes],
            vec![call(get, 0, ok, 5)],
        ),
        case(
            "the client gives up",
            vec![ask(get), answer(ok), ask(get), ClientFinishes],
            vec![call(get, 0, ok, 5), unanswered(get, 0, "client_aborted")],
        ),
        case(
            "the client resets",
            vec![ask(get), ClientResets],
            vec![unanswered(get, 0, "client_aborted")],
        ),
        case(
            "the client resets in the content",
            vec![ask(get), answer(part), ClientResets],
            vec![call(get, 0, part, 2).but("client_aborted")],
        ),
        case(
            "the server closes without an answer",
            vec![ask(get), ServerFinishes],
            vec![unanswered(get, 0, "server_aborted")],
        ),
        case(
            "the server resets",
            vec![ask(get), ServerResets],
            vec![unanswered(get, 0, "server_aborted")],
        ),
        case(
            "the server closes in the content",
            vec![ask(get), answer(part), ServerFinishes],
            vec![call(get, 0, part, 2).but("server_aborted")],
        ),
        case(
            "the server closes in a chunk",
            vec![ask(get), answer(open_chunk), ServerFinishes],
            vec![call(get, 0, open_chunk, 3).but("server_aborted")],
        ),
        case(
            "the server resets in content that its end would end",
            vec![ask(get), answer(plain), ServerResets],
            vec![call(get, 0, plain, 3).but("server_aborted")],
        ),
    ]
}

fn foreign_cases() -> Vec<Case> {
    let foreign = |name, turns| case(name, turns, Vec::new());
    vec![
        foreign(
            "ssh",
            vec![answer("SSH-2.0-OpenSSH_9\r\n"), ask("SSH-2.0-client\r\n")],
        ),
        foreign("memcached", vec![ask("get key\r\n"), answer("END\r\n")]),
        foreign(
            "redis",
            vec![ask("*1\r\n$4\r\nPING\r\n"), answer("+PONG\r\n")],
        ),
        foreign(
            "mail",
            vec![
                answer("220 mail\r\n"),
                ask("HELO a\r\n"),
                answer("250 ok\r\n"),
            ],
        ),
        foreign(
            "prose",
            vec![
                ask("GETTING STARTED\r\n\r\n"),
                answer("HTTPS is not HTTP\r\n"),
            ],
        ),
        foreign(
            "session",
            vec![
                ask("OPTIONS rtsp://a RTSP/1.0\r\n\r\n"),
                answer("RTSP/1.0 200\r\n\r\n"),
            ],
        ),
        foreign(
            "HTTP/2",
            vec![
                ask("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0"),
                answer("\0\0\0\u{4}"),
            ],
        ),
        foreign(
            "TLS",
            vec![
                ask("\u{16}\u{3}\u{1}\0\u{5}hello"),
                answer("\u{16}\u{3}\u{3}\0"),
            ],
        ),
        foreign("nothing", vec![]),
    ]
}

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
    agent.exactly(total, "calls of all cases", Flow::is_call)?;
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
            let sent = (truth.request_head_bytes, truth.request_body_bytes);
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
