//! Connections from their first segment to their last: order, loss, joining midway, bounds.

use proptest::prelude::*;

use super::script::{ID, Script, Step, connection, line};
use super::*;
use crate::model::{connection::ClosedBy, exchange::Outcome};

const GET: &str = "GET /a HTTP/1.1\r\nHost: h\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
const CREATED: &str = "HTTP/1.1 201 Created\r\nContent-Length: 3\r\n\r\nabc";

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n")
}

/// A conversation with all kinds of framing, in order of cause and effect.
pub(super) fn conversation(script: &mut Script) -> Vec<Step> {
    let turns: [(bool, &str); 14] = [
        (true, "\r\nGET /a?q=1 HTTP/1.1\r\nHost: h\r\n\r\n"),
        (false, OK),
        (
            true,
            "POST /b HTTP/1.1\r\nHost: u:p@h\r\nTransfer-Encoding: chunked\r\n\r\n4;x=y\r\nWiki\r\n0\r\nT: v\r\n\r\n",
        ),
        (
            false,
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\n\r\n",
        ),
        (true, "HEAD /c HTTP/1.1\r\n\r\nGET /d HTTP/1.1\r\n\r\n"),
        (
            false,
            "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
        ),
        (true, "PUT /e HTTP/1.1\r\nContent-Length: 6\r\n\r\n123"),
        (false, "HTTP/1.1 100 Continue\r\n\r\n"),
        (true, "456"),
        (
            false,
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n",
        ),
        (true, "CONNECT h:1 HTTP/1.1\r\n\r\n"),
        (
            false,
            "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno",
        ),
        (true, "GET http://u:p@o/f HTTP/1.0\r\n\r\n"),
        (false, "HTTP/1.0 200 OK\r\n\r\nuntil the end"),
    ];
    let mut steps: Vec<Step> = turns
        .iter()
        .map(|(client, text)| script.make(*client, text.as_bytes()))
        .collect();
    let mut fin = script.make(false, b"");
    fin.fin = true;
    steps.push(fin);
    steps
}

pub(super) const CONVERSATION: [&str; 7] = [
    "GET /a 200 0/5 complete",
    "POST /b 200 4/10 complete",
    "HEAD /c 200 0/0 complete",
    "GET /d 204 0/0 complete",
    "PUT /e 304 6/0 complete",
    "CONNECT h:1 403 0/2 complete",
    "GET /f 200 0/13 complete",
];

fn run(role: Role, change: impl Fn(Vec<Step>) -> Vec<Step>) -> Script {
    let mut script = Script::with(Config::default(), role, false);
    let steps = change(conversation(&mut script));
    for step in &steps {
        script.step(step);
    }
    script
}

#[test]
fn a_conversation_is_told_in_full_at_either_end() {
    for role in [Role::Client, Role::Server] {
        let script = run(role, |steps| steps);
        script.expect(&CONVERSATION);
        let exchanges = &script.seen.exchanges;
        assert!(exchanges.iter().all(|exchange| exchange.role == role));
        let ordinals: Vec<u64> = exchanges.iter().map(|exchange| exchange.ordinal).collect();
        assert_eq!(ordinals, [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(script.counters(), Counters::default());
        assert_eq!(exchanges[0].sent.head_bytes, 32, "without the empty line");
        assert_eq!(&*exchanges[1].request.authority, "h", "no password");
        assert_eq!(&*exchanges[6].request.authority, "o", "no password");
        assert_ne!(exchanges[2].hop, exchanges[3].hop, "of one segment");
        assert_eq!(script.in_flight(), 0);
    }
}

#[test]
fn every_split_point_gives_the_same() {
    let whole = run(Role::Client, |steps| steps).lines();
    let mut template = Script::client();
    let steps = conversation(&mut template);
    for (index, step) in steps.iter().enumerate() {
        for at in 1..step.bytes.len() {
            let script = run(Role::Client, |mut steps| {
                let parts = steps[index].split(at);
                steps.splice(index..=index, parts);
                steps
            });
            assert_eq!(script.lines(), whole, "segment {index} split at {at}");
        }
    }
}

#[test]
fn a_pair_is_its_two_segments() {
    let mut script = Script::client();
    let (request, response) = (
        script.make(true, GET.as_bytes()),
        script.make(false, OK.as_bytes()),
    );
    script.push(Event::Pair {
        id: ID,
        slot: Some(3),
        lost: 0,
        request: request.segment(),
        response: response.segment(),
    });
    script.expect(&["GET /a 200 0/5 complete"]);
    let exchange = &script.seen.exchanges[0];
    assert_eq!(
        (exchange.sent.first, exchange.ended),
        (Monotonic(1010), Monotonic(1020))
    );
    assert_eq!(exchange.hop.0, request.segment().sequence);
}

#[test]
fn each_exchange_tells_its_own_trace() {
    const UUID: &str = "f47ac10b-58cc-4372-a567-0e02b2c3d479";
    let request = |trace: u32, more: &str| {
        let parent = format!("00-{trace:032x}-00f067aa0ba902b7-01");
        format!("GET /a HTTP/1.1\r\nTraceparent: {parent}\r\n{more}Host: h\r\n\r\n")
    };
    let mut script = Script::client();
    // Responses name traces as well, which are those of their requests.
    let answer = format!("HTTP/1.1 204 No\r\nX-Request-Id: {UUID}\r\n\r\n");
    script.c(request(1, "")).s(&answer);
    script.c(request(2, "traceSTATE:a=1 \r\n")).s(&answer);
    script.c(GET).s(&answer);
    script
        .c(request(0, &format!("x-request-id: {UUID}\r\n")))
        .s(&answer);
    // The head in pieces, of which the last is not seen: what is complete counts.
    let cut = request(3, "");
    script.c(&cut[..30]).c(&cut[30..cut.len() - 4]).fin(false);
    let told: Vec<Option<String>> = script
        .seen
        .exchanges
        .iter()
        .map(|exchange| {
            let context = exchange.context.as_ref()?;
            let trace = u128::from_be_bytes(context.trace.0);
            Some(format!(
                "{} {trace:x} {}",
                context.propagation.as_str(),
                context.state
            ))
        })
        .collect();
    let expected = [
        Some("tracecontext 1 "),
        Some("tracecontext 2 a=1"),
        None,
        Some("request_id f47ac10b58cc4372a5670e02b2c3d479 "),
    ];
    assert_eq!(told, expected.map(|text| text.map(str::to_owned)));
    let [first, second, ..] = &script.seen.exchanges[..] else {
        panic!()
    };
    assert!(
        std::sync::Arc::ptr_eq(&first.request, &second.request),
        "heads are shared"
    );
    let losses = script.assembler.losses();
    let malformed = losses.iter().find(|loss| loss.reason == "trace_context");
    assert_eq!(malformed.map(|loss| loss.count), Some(1));
}

#[test]
fn a_lost_segment_in_a_head_is_said_and_the_next_request_starts_anew() {
    let mut script = Script::client();
    script.c(GET).s(OK).c("GET /lost HTTP/1.1\r\nHo");
    // The rest of the head passes unseen; its response comes.
    script.unseen(true, 10);
    script
        .c("x: y\r\n\r\n")
        .s("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    script.expect(&["GET /a 200 0/5 complete"]);
    script.tick(260);
    script.expect(&["GET /a 200 0/5 complete", "GET /lost - 0/- lost"]);
    script.c(get("/next")).s(OK).c(get("/more")).s(CREATED);
    script.tick(600);
    script.expect(&[
        "GET /a 200 0/5 complete",
        "GET /lost - 0/- lost",
        "GET /next 200 0/5 complete",
        "GET /more 201 0/3 complete",
    ]);
    let ordinals: Vec<u64> = script.seen.exchanges.iter().map(|e| e.ordinal).collect();
    assert_eq!(ordinals, [0, 1, 2, 3]);
    assert!(script.seen.instructions.contains(&Instruction::Resync));
}

#[test]
fn a_lost_response_is_lost_and_no_other_takes_its_place() {
    let mut script = Script::client();
    script.c(get("/1")).c(get("/2"));
    script.unseen(false, OK.len() as u64).s(CREATED);
    script.expect(&[]);
    assert_eq!(script.in_flight(), 2);
    script.tick(200);
    script.expect(&[]);
    script.tick(100);
    script.expect(&["GET /1 - 0/- lost", "GET /2 - 0/- lost"]);
    assert_eq!(script.counters().gaps, 1);
}

#[test]
fn a_hole_that_the_kernel_owns_up_to_is_not_waited_for() {
    let mut script = Script::client();
    script.c(get("/1"));
    script.unseen(false, OK.len() as u64).unseen(true, 10);
    let step = script.make(true, get("/2").as_bytes());
    script.lossy_step(&step, 2);
    script.expect(&["GET /1 - 0/- lost"]);
    script.s(CREATED).tick(600);
    script.expect(&["GET /1 - 0/- lost", "GET /2 201 0/3 complete"]);
    assert_eq!(script.counters().gaps, 1);
}

#[test]
fn bytes_lost_in_a_body_change_nothing() {
    let mut script = Script::client();
    script
        .c(GET)
        .s("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n0123456789");
    script.unseen(false, 80);
    let step = script.make(false, b"0123456789");
    script.lossy_step(&step, 1);
    script.c(get("/b")).s(OK);
    script.expect(&["GET /a 200 0/100 complete", "GET /b 200 0/5 complete"]);
    assert_eq!(script.counters(), Counters::default());
}

#[test]
fn gigabytes_pass_unseen() {
    const LENGTH: u64 = 5 << 30;
    let mut script = Script::client();
    script.c(GET);
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n");
    let mut step = script.make(false, format!("{head}{}", "x".repeat(1024)).as_bytes());
    step.length = 65_000;
    script.step(&step);
    script.unseen(false, LENGTH + head.len() as u64 - step.bytes.len() as u64);
    // The kernel says where the body ended, with a position and a time.
    script.s(b"");
    script.c(get("/b")).s(OK);
    script.expect(&[
        &format!("GET /a 200 0/{LENGTH} complete"),
        "GET /b 200 0/5 complete",
    ]);
    let mut script = Script::client();
    script.c(GET).s(format!("{head}{}", "x".repeat(1024)));
    let skip = Instruction::Skip {
        egress: false,
        position: LENGTH + head.len() as u64,
    };
    assert_eq!(script.seen.instructions, [skip], "the kernel is told");
    script.s([b'x'; 2000]);
    assert_eq!(script.seen.instructions, [skip], "once");
}

#[test]
fn bytes_that_were_not_captured_and_are_not_body_are_a_gap() {
    let mut script = Script::client();
    script.c(GET);
    let mut step = script.make(false, OK.as_bytes());
    step.length += 10;
    script.step(&step);
    script.expect(&["GET /a 200 0/5 complete"]);
    assert_eq!(script.counters().gaps, 1);
}

#[test]
fn a_fin_that_comes_with_known_bytes_counts() {
    let mut script = Script::client();
    script.c(GET);
    let mut step = script.make(false, b"HTTP/1.0 200 OK\r\n\r\nabc");
    script.step(&step);
    script.expect(&[]);
    step.fin = true;
    script.step(&step);
    script.expect(&["GET /a 200 0/3 complete"]);
}

#[test]
fn a_fin_waits_for_the_bytes_before_it() {
    let mut script = Script::client();
    script.c(GET);
    let head = script.make(false, b"HTTP/1.0 200 OK\r\n\r\n");
    let mut body = script.make(false, b"abc");
    body.fin = true;
    body.in_order = false;
    script.step(&body);
    script.expect(&[]);
    script.step(&head);
    script.expect(&["GET /a 200 0/3 complete"]);
    let exchange = &script.seen.exchanges[0];
    assert!(exchange.received.unwrap().last >= exchange.received.unwrap().first);
}

#[test]
fn what_waits_when_the_connection_ends_is_lost() {
    let mut script = Script::client();
    script.c(GET).unseen(false, 3).s(OK);
    script.close(ClosedBy::Remote, false);
    script.expect(&["GET /a - 0/- lost"]);
    assert_eq!(script.seen.instructions.last(), Some(&Instruction::Free));
    assert!(matches!(
        script.seen.events.last(),
        Some(ConnectionEvent::Closed { .. })
    ));
}

#[test]
fn holes_of_tcp_itself_are_waited_for_longer() {
    let mut script = Script::client();
    script.c(GET).unseen(false, 3);
    let mut step = script.make(false, b"x");
    step.in_order = false;
    script.step(&step);
    script.tick(100_000);
    script.expect(&[]);
    script.tick(40_000);
    script.expect(&["GET /a - 0/- lost"]);
}

#[test]
fn a_connection_is_joined_at_a_request() {
    for egress in [true, false] {
        let mut script = Script::midway();
        if !egress {
            script.connection.role = Role::Server;
        }
        script.unseen(true, 1000).unseen(false, 50_000);
        script.s("tail of an older response").c(GET).s(OK);
        script.expect(&[]);
        assert_eq!(script.in_flight(), 0, "all is answered");
        script.c(get("/b"));
        script.expect(&["GET /a 200 0/5 complete"]);
        script.s(CREATED);
        script.expect(&["GET /a 200 0/5 complete", "GET /b 201 0/3 complete"]);
        let role = if egress { Role::Client } else { Role::Server };
        assert!(script.seen.exchanges.iter().all(|e| e.role == role));
    }
}

#[test]
fn silence_ends_doubt() {
    let mut script = Script::midway();
    script.c(GET).s(OK).tick(400);
    script.expect(&[]);
    script.tick(200);
    script.expect(&["GET /a 200 0/5 complete"]);
}

#[test]
fn the_end_and_the_stop_end_doubt() {
    let mut script = Script::midway();
    script.c(GET).s(OK).close(ClosedBy::Local, false);
    script.expect(&["GET /a 200 0/5 complete"]);
    let mut script = Script::midway();
    script.c(GET).s(OK);
    script.assembler.drain(&mut script.seen);
    script.expect(&["GET /a 200 0/5 complete"]);
}

#[test]
fn a_surplus_response_shows_that_the_order_was_wrong() {
    let mut script = Script::midway();
    // A request before was not seen: its response is taken for the one of /a at first.
    script.c(GET).s(CREATED).s(OK);
    script.expect(&["GET /a - 0/- lost"]);
    assert_eq!(script.counters().unpaired, 1);
    script.c(get("/b")).s(CREATED).tick(600);
    script.expect(&["GET /a - 0/- lost", "GET /b 201 0/3 complete"]);
}

#[test]
fn a_response_whose_sender_had_not_the_request_is_not_its_answer() {
    let mut script = Script::midway();
    script.c(GET);
    let mut old = script.make(false, OK.as_bytes());
    old.acknowledged = 0;
    script.step(&old);
    // Nobody knows who the client is, and nothing answered: it may not have been a request.
    script.expect(&[]);
    assert_eq!(script.counters().unpaired, 1);
    let mut script = Script::midway();
    script.c(GET).s("tail of an older body").s(OK);
    script.expect(&[]);
}

#[test]
fn the_first_response_after_joining_may_be_out_of_order() {
    let mut script = Script::midway();
    script.unseen(false, 500);
    let old = script.make(false, b"old bytes");
    script.c(GET);
    let [first, second] = script.make(false, OK.as_bytes()).split(20);
    for step in [&old, &second, &old, &first] {
        script.step(step);
    }
    script.tick(600);
    script.expect(&["GET /a 200 0/5 complete"]);
    // A response that was lost is not replaced by the next one.
    let mut script = Script::midway();
    script
        .c(GET)
        .unseen(false, 40)
        .unseen(true, 40)
        .s(OK)
        .tick(600);
    script.expect(&["GET /a - 0/- lost"]);
}

#[test]
fn a_client_that_never_waits_proves_nothing() {
    let mut script = Script::midway();
    script.c(get("/0"));
    for index in 1..200 {
        script.c(get(&format!("/{index}"))).s(OK);
    }
    script.s(OK);
    let lost = script.seen.exchanges.len();
    assert!(lost > 100, "what is held is bounded");
    let all_lost = |e: &Exchange| e.outcome == Outcome::Lost && e.status.is_none();
    assert!(script.seen.exchanges.iter().all(all_lost));
    script.tick(600);
    let rest = &script.seen.exchanges[lost..];
    assert_eq!(rest.len(), 200 - lost);
    assert!(rest.iter().all(|e| e.outcome == Outcome::Complete));
}

#[test]
fn a_body_that_looks_like_a_request_does_not_spoil_the_connection() {
    let mut script = Script::midway();
    // It comes from the server, so the guess at the role is wrong as well.
    script.s("GET what you came for").s("\r\n\r\n");
    script.c(GET).s(OK).c(get("/b"));
    script.expect(&["GET /a 200 0/5 complete"]);
    assert_eq!(script.seen.exchanges[0].role, Role::Client);
}

#[test]
fn payload_of_a_handshake_finds_its_connection() {
    let mut script = Script::server();
    script.assembler = Assembler::new(Config::default());
    let text = get(&format!("/{}", "a".repeat(6000)));
    let step = script.make(true, text.as_bytes());
    let [first, second] = step.split(4096);
    let mut others = Script::server();
    for step in [&first, &second, &first] {
        let other = others.make(true, b"x");
        for (ports, step) in [((80, 4000), step), ((80, 4001), &other)] {
            script.push(Event::ListenerSegment {
                local_port: ports.0,
                remote_port: ports.1,
                segment: step.segment(),
            });
        }
    }
    let connection = script.connection.clone();
    script.push(Event::Opened {
        connection,
        slot: None,
    });
    script.s(OK);
    assert_eq!(script.seen.exchanges.len(), 1);
    assert_eq!(script.seen.exchanges[0].sent.head_bytes, text.len() as u64);
    assert_eq!(script.seen.exchanges[0].hop.0, step.segment().sequence);
    script.tick(10_000);
    assert!(script.counters().orphaned > 0, "the other never came");
}

#[test]
fn handshake_payloads_are_bounded() {
    let mut script = Script::server();
    let step = script.make(true, GET.as_bytes());
    for port in 0..1000 {
        script.push(Event::ListenerSegment {
            local_port: 80,
            remote_port: port,
            segment: step.segment(),
        });
    }
    let table = script.assembler.tables().remove(1);
    assert_eq!(table.entries, table.limit);
    assert_eq!(script.counters().orphaned, 1000 - table.limit);
    script.tick(2100);
    assert_eq!(script.assembler.tables()[1].entries, 0);
    assert_eq!(script.counters().orphaned, 1000);
}

#[test]
fn a_full_table_is_counted_and_the_kernel_told() {
    let config = Config {
        max_connections: 1,
        ..Config::default()
    };
    let mut script = Script::with(config, Role::Client, false);
    let mut other = connection(Role::Client, false);
    other.id = ConnectionId(8);
    script.push(Event::Opened {
        connection: other.clone(),
        slot: Some(4),
    });
    assert_eq!(script.counters().table_full, 1);
    assert_eq!(script.seen.instructions, [Instruction::Opaque]);
    let step = script.make(true, GET.as_bytes());
    script.push(Event::Segment {
        id: other.id,
        slot: None,
        lost: 0,
        segment: step.segment(),
    });
    assert_eq!(script.counters().unknown_connection, 1);
    let losses = script.assembler.losses();
    let count = |reason| losses.iter().find(|l| l.reason == reason).unwrap().count;
    assert_eq!((count("table_full"), count("unknown_connection")), (1, 1));
}

#[test]
fn a_connection_that_does_not_move_is_given_up() {
    let config = Config {
        idle: std::time::Duration::from_secs(10),
        ..Config::default()
    };
    let mut script = Script::with(config, Role::Client, false);
    script.c(GET).tick(9_000);
    assert_eq!(script.in_flight(), 1);
    script.tick(12_000);
    script.expect(&["GET /a - 0/- aborted"]);
    assert_eq!(script.counters().expired, 1);
    assert_eq!(script.assembler.tables()[0].entries, 0);
    assert_eq!(script.seen.instructions, [Instruction::Free]);
}

#[test]
fn memory_is_bounded_over_all_connections() {
    let config = Config {
        memory: 100 << 10,
        ..Config::default()
    };
    let mut assembler = Assembler::new(config);
    let mut seen = script::Seen::default();
    let head = format!("GET /a HTTP/1.1\r\nX: {}", "x".repeat(20_000));
    for id in 0..20 {
        let mut connection = connection(Role::Client, false);
        connection.id = ConnectionId(id);
        assembler.push(
            Event::Opened {
                connection,
                slot: Some(id as u32),
            },
            &mut seen,
        );
        let step = Script::client().make(true, head.as_bytes());
        assembler.push(
            Event::Segment {
                id: ConnectionId(id),
                slot: None,
                lost: 0,
                segment: step.segment(),
            },
            &mut seen,
        );
    }
    assembler.tick(Monotonic(5000), &mut seen);
    let relieved = assembler.counters().memory_full;
    assert!((14..18).contains(&relieved), "{relieved}");
    assert_eq!(
        seen.exchanges.len() as u64,
        relieved,
        "each is reported lost"
    );
}

#[test]
fn a_held_request_is_in_flight() {
    let mut script = Script::client();
    let glance = |held: Option<(u64, &[u8])>| Glance {
        transfer: Transfer {
            sent_bytes: 9,
            ..Transfer::default()
        },
        held: held.map(|(since, bytes)| Held {
            since: Monotonic(since),
            length: bytes.len() as u32,
            head: bytes.to_vec(),
        }),
    };
    let mut look = |held: Option<(u64, &[u8])>| {
        let now = Monotonic(2000);
        let seen = &mut script.seen;
        script
            .assembler
            .glance(now, |slot, _| (slot == 3).then(|| glance(held)), seen);
        let requests: Vec<String> = script
            .assembler
            .in_flight()
            .map(|r| format!("{} {} {}", r.request.method, r.request.path, r.since.0))
            .collect();
        requests
    };
    assert_eq!(
        look(Some((5, b"GET /held?token=1 HTTP/1.1\r\nHost: h\r\nCoo"))),
        ["GET /held 5"]
    );
    assert_eq!(look(Some((6, b"GET /cut-off"))), ["GET  6"]);
    assert_eq!(look(Some((7, b"\x16\x03\x01\x02"))), Vec::<String>::new());
    assert_eq!(look(None), Vec::<String>::new());
    let progress = |event: &&ConnectionEvent| matches!(event, ConnectionEvent::Progress { .. });
    assert_eq!(script.seen.events.iter().filter(progress).count(), 1);
}

#[test]
fn turns_are_told_beyond_what_a_slot_counts() {
    let mut script = Script::client();
    let mut expected = Vec::new();
    let mut turns = 0_u64;
    for more in [3, 0, u64::from(u32::MAX), 1, 1 << 31, 1 << 31] {
        turns += more;
        expected.push(turns);
        let glance = Glance {
            transfer: Transfer {
                // Something moved.
                received_bytes: expected.len() as u64,
                turns: u64::from(turns as u32),
                ..Transfer::default()
            },
            held: None,
        };
        let (now, seen) = (Monotonic(2000), &mut script.seen);
        script
            .assembler
            .glance(now, |slot, _| (slot == 3).then(|| glance.clone()), seen);
    }
    let told = script.seen.events.iter().filter_map(|event| match event {
        ConnectionEvent::Progress { transfer, .. } => Some(transfer.turns),
        _ => None,
    });
    assert_eq!(told.collect::<Vec<_>>(), expected);
}

#[test]
fn ends_and_failures_are_told() {
    let mut script = Script::client();
    let connection = connection(Role::Client, false);
    script.push(Event::Failed {
        connection: connection.clone(),
        at: Monotonic(3),
        failure: crate::model::connection::ConnectFailure::Refused,
        slot: Some(9),
    });
    assert_eq!(script.seen.instructions, [Instruction::Free]);
    script.c(GET).s(OK).close(ClosedBy::Local, false);
    let Some(ConnectionEvent::Closed { closed, .. }) = script.seen.events.last() else {
        panic!("{:?}", script.seen.events)
    };
    assert_eq!(
        closed.transfer.understood_bytes,
        (GET.len() + OK.len()) as u64
    );
    // Of a connection that was never seen to open there is its end at least.
    script.close(ClosedBy::Remote, true);
    assert_eq!(script.seen.events.len(), 5);
}

fn arbitrary_segment() -> impl Strategy<Value = (bool, Step, u16)> {
    let texts = prop_oneof![
        Just(GET.as_bytes().to_vec()),
        Just(OK.as_bytes().to_vec()),
        Just(b"GET /".to_vec()),
        Just(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec()),
        Just(b"CONNECT a HTTP/1.1\r\n\r\n".to_vec()),
        Just(b"HTTP/1.1 101 S\r\n\r\n".to_vec()),
        Just(b"HTTP/1.1 200 OK\r\n\r\n".to_vec()),
        proptest::collection::vec(any::<u8>(), 0..20),
    ];
    (
        (any::<bool>(), any::<bool>(), texts, 0_u64..300),
        (any::<u64>(), any::<u32>(), any::<bool>(), any::<bool>()),
        (0_u64..300, 0..10_u8, any::<u64>(), 0_u16..2),
    )
        .prop_map(
            |(
                (pair, egress, bytes, near),
                (far, extra, fin, in_order),
                (ack, wild, time, lost),
            )| {
                let step = Step {
                    egress,
                    position: if wild == 0 { far } else { near },
                    acknowledged: ack,
                    length: if wild == 1 {
                        (bytes.len() as u32).saturating_add(extra)
                    } else {
                        bytes.len() as u32
                    },
                    bytes,
                    fin: fin && wild < 4,
                    in_order,
                    unframed: false,
                    time,
                };
                (pair, step, lost)
            },
        )
}

#[test]
fn first_bytes_are_named_when_they_are_sure() {
    let named = |first: &[&[u8]]| {
        let mut script = Script::server();
        for bytes in first {
            script.c(bytes);
        }
        script.close(ClosedBy::Local, false);
        let events = script.seen.events.into_iter();
        let told: Vec<_> = events
            .filter_map(|event| match event {
                ConnectionEvent::Recognised { opening, .. } => Some(opening.protocol),
                _ => None,
            })
            .collect();
        assert!(told.len() <= 1, "{told:?}");
        told.into_iter().next().flatten()
    };
    assert_eq!(named(&[b"GET / HT", b"TP/1.1\r\n\r\n"]), Some("http/1"));
    assert_eq!(named(&[b"GET / HT"]), None);
    assert_eq!(
        named(&[b"PRI * HTTP/2.0\r\n\r\nSM", b"\r\n\r\n"]),
        Some("http/2")
    );
    assert_eq!(named(&[b"HELLO THERE\n"]), Some("text"));
    assert_eq!(named(&[b"hello there\n"]), Some("text"));
    assert_eq!(named(&[b"\x01\x80\xff\x02binary"]), None);
    assert_eq!(named(&[b"*1\r\n$4\r\nPING\r\n"]), Some("redis"));
    assert_eq!(named(&[b"AMQP\0\0\x09\x01"]), Some("amqp"));
}

#[test]
fn lookups_over_tcp_are_told() {
    let question = |id: u8| {
        let mut message = vec![0, id, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        message.extend(b"\x04shop\x04test\0\0\x01\0\x01");
        message
    };
    let framed = |message: &[u8]| {
        let mut bytes = (message.len() as u16).to_be_bytes().to_vec();
        bytes.extend(message);
        bytes
    };
    let answer = |id: u8| {
        let mut message = question(id);
        message[2] = 0x81;
        message[7] = 1;
        message.extend(b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\x0a\0\0\x07");
        message
    };
    let mut script = Script::client();
    script.close(ClosedBy::Local, false);
    script.seen = script::Seen::default();
    let mut connection = connection(Role::Client, false);
    connection.remote.set_port(53);
    script.push(Event::Opened {
        connection,
        slot: Some(3),
    });
    // The length by itself, then the rest and a second question.
    let first = framed(&question(1));
    script.c(&first[..2]);
    script.c([&first[2..], &framed(&question(2))[..]].concat());
    script.s(framed(&answer(2))).s(framed(&answer(1)));
    let told: Vec<_> = script
        .seen
        .lookups
        .iter()
        .map(|lookup| {
            (
                &*lookup.name,
                lookup.transport.as_str(),
                lookup.answers.len(),
            )
        })
        .collect();
    assert_eq!(told, [("shop.test", "tcp", 1), ("shop.test", "tcp", 1)]);
    script
        .c(framed(&question(3)))
        .close(ClosedBy::Remote, false);
    let last = script.seen.lookups.last().unwrap();
    assert_eq!(last.outcome, crate::model::lookup::LookupOutcome::Aborted);
    assert_eq!(script.seen.instructions[0], Instruction::Http);
}

proptest! {
    #[test]
    fn any_segmentation_duplication_and_reordering_gives_the_same(
        cuts in proptest::collection::vec((0_usize..15, 0_usize..200), 0..30),
        shuffle in proptest::collection::vec((any::<u16>(), any::<bool>()), 100),
        server in any::<bool>(),
    ) {
        let role = if server { Role::Server } else { Role::Client };
        let whole = run(role, |steps| steps).lines();
        let script = run(role, |steps| {
            let mut result = Vec::new();
            let mut old: Vec<Step> = Vec::new();
            for (index, step) in steps.iter().enumerate() {
                let mut parts = vec![step.clone()];
                for (_, at) in cuts.iter().filter(|(turn, _)| *turn == index) {
                    let from = step.position;
                    let inside = parts.iter().position(|part| {
                        let start = (part.position - from) as usize;
                        start < *at && *at < start + part.bytes.len()
                    });
                    if let Some(found) = inside {
                        let at = at - (parts[found].position - from) as usize;
                        let halves = parts[found].split(at);
                        parts.splice(found..=found, halves);
                    }
                }
                // Segments of one turn are under way at once: they may come in any order, and
                // whatever came before may come again.
                let count = parts.len();
                for (position, (with, again)) in (0..count).zip(&shuffle) {
                    let with = *with as usize % count;
                    parts.swap(position, with);
                    if *again && !old.is_empty() {
                        let copy = old[with % old.len()].clone();
                        parts.push(copy);
                    }
                }
                for part in &mut parts {
                    part.in_order = false;
                }
                old.extend(parts.iter().cloned());
                result.extend(parts);
            }
            result
        });
        prop_assert_eq!(script.lines(), whole);
        prop_assert_eq!(script.counters(), Counters::default());
    }

    #[test]
    fn whatever_is_lost_no_response_is_paired_with_another_request(
        lost in proptest::collection::vec(0_u8..10, 60),
        own_up in any::<bool>(),
        pause in 0_u64..400,
    ) {
        let mut script = Script::client();
        // Not every request is told apart by its path, but by the status that answers it.
        let mut missing = 0;
        for (index, lost) in lost.chunks(2).enumerate() {
            let status = 200 + index;
            let response = format!("HTTP/1.1 {status} X\r\nContent-Length: 3\r\n\r\nabc");
            let request = script.make(true, get(&format!("/{status}")).as_bytes());
            let response = script.make(false, response.as_bytes());
            for (step, lost) in [(request, lost[0]), (response, lost[1])] {
                if lost == 0 {
                    missing += 1;
                } else {
                    script.lossy_step(&step, if own_up { missing } else { 0 });
                    missing = 0;
                }
            }
            script.tick(pause);
        }
        script.close(ClosedBy::Local, false);
        for exchange in &script.seen.exchanges {
            if let Some(status) = exchange.status {
                prop_assert_eq!(&*exchange.request.path, format!("/{status}"), "{}", line(exchange));
            }
        }
        let mut ordinals: Vec<u64> = script.seen.exchanges.iter().map(|e| e.ordinal).collect();
        let count = ordinals.len();
        ordinals.sort_unstable();
        ordinals.dedup();
        prop_assert_eq!(ordinals.len(), count, "each is told once");
    }

    #[test]
    fn any_events_are_taken_within_bounds(
        steps in proptest::collection::vec(arbitrary_segment(), 0..60),
        role in prop_oneof![Just(Role::Client), Just(Role::Server), Just(Role::Unknown)],
        pre_existing in any::<bool>(),
        end in any::<bool>(),
    ) {
        let mut script = Script::with(Config::default(), role, pre_existing);
        for (pair, step, lost) in &steps {
            let mut response = step.clone();
            response.egress = !step.egress;
            if *pair {
                script.push(Event::Pair {
                    id: ID,
                    slot: None,
                    lost: *lost,
                    request: step.segment(),
                    response: response.segment(),
                });
            } else {
                script.lossy_step(step, *lost);
            }
            script.assembler.tick(Monotonic(step.time), &mut script.seen);
        }
        if end {
            script.close(ClosedBy::Unknown, false);
            prop_assert_eq!(script.in_flight(), 0);
        }
        prop_assert!(script.seen.exchanges.len() <= 4 * steps.len() + 1);
    }
}
