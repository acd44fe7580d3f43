//! Records of one connection that overtook each other across its directions, as those of two CPUs
//! may: what the server sent is here before what it answers.

use proptest::prelude::*;

use crate::{
    assemble::{
        Counters,
        http2::frame::PREFACE,
        script::{Script, Step},
        tests::{CONVERSATION, conversation},
    },
    model::connection::{ClosedBy, Role},
};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
const LATER: &str = "HTTP/1.1 202 Accepted\r\nContent-Length: 1\r\n\r\nx";

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n")
}

/// A frame of HTTP/2 without flags but `END_HEADERS` and `END_STREAM`.
fn frame(kind: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, 5 * u8::from(kind != 4), 0, 0, 0, stream]);
    bytes.extend(payload);
    bytes
}

fn http2(role: Role) -> Script {
    let mut script = Script::with(crate::assemble::Config::default(), role, false);
    script
        .c([PREFACE.to_vec(), frame(4, 0, b"")].concat())
        .s(frame(4, 0, b""));
    script
}

fn in_order(script: &mut Script, steps: &[&Step]) {
    for step in steps {
        script.step(step);
    }
}

#[test]
fn a_response_of_http2_waits_for_its_request() {
    for role in [Role::Server, Role::Client] {
        let mut script = http2(role);
        let first = script.make(true, &frame(1, 1, b"\x82\x86\x84"));
        let second = script.make(true, &frame(1, 3, b"\x82\x86\x85"));
        let answer = script.make(false, &frame(1, 1, b"\x88"));
        let last = script.make(false, &frame(1, 3, b"\x8d"));
        in_order(&mut script, &[&answer, &last]);
        assert_eq!(script.in_flight(), 0);
        in_order(&mut script, &[&second, &first]);
        script.expect(&["GET / 200 0/0 complete", "GET /index.html 404 0/0 complete"]);
        let exchange = &script.seen.exchanges[0];
        let received = exchange.received.unwrap();
        assert_eq!(exchange.sent.first, first.segment().time);
        assert_eq!(received.first, answer.segment().time);
        assert_eq!(exchange.ended, answer.segment().time);
        assert_eq!(script.counters(), Counters::default());
    }
}

#[test]
fn what_does_not_depend_on_what_is_under_way_is_read_at_once() {
    let mut script = http2(Role::Server);
    script.c(frame(1, 1, b"\x82\x86\x84"));
    let answer = script.make(false, &frame(1, 1, b"\x88"));
    script.make(true, &frame(1, 3, b"\x82\x86\x85"));
    script.step(&answer);
    script.expect(&["GET / 200 0/0 complete"]);
}

#[test]
fn a_response_of_http1_waits_for_its_request() {
    for role in [Role::Server, Role::Client] {
        let mut script = Script::with(crate::assemble::Config::default(), role, false);
        // The very first request, with another and a FIN behind it.
        let first = script.make(true, get("/a").as_bytes());
        let second = script.make(true, get("/b").as_bytes());
        let mut fin = script.make(true, b"");
        fin.fin = true;
        let answer = script.make(false, OK.as_bytes());
        let mut last = script.make(false, LATER.as_bytes());
        // A FIN is acknowledged like a byte.
        last.acknowledged += 1;
        in_order(&mut script, &[&answer, &last, &fin, &second]);
        script.expect(&[]);
        script.step(&first);
        script.expect(&["GET /a 200 0/5 complete", "GET /b 202 0/1 complete"]);
        assert_eq!(script.counters(), Counters::default());
    }
}

#[test]
fn content_that_is_omitted_is_not_waited_for() {
    let mut script = Script::server();
    let head = "PUT /a HTTP/1.1\r\nContent-Length: 100000\r\n\r\n";
    script
        .c(head)
        .unseen(true, 50_000)
        .s("HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n");
    script.unseen(true, 50_000).c(b"");
    script.expect(&["PUT /a 413 100000/0 complete"]);
    assert_eq!(script.counters(), Counters::default());
}

#[test]
fn it_waits_for_so_long_and_no_longer() {
    let mut script = http2(Role::Server);
    script.c(frame(1, 1, b"\x82\x86\x84"));
    // Never comes, nor does anything behind it.
    script.unseen(true, 100).s(frame(1, 1, b"\x88"));
    script.tick(200);
    script.expect(&[]);
    script.tick(100);
    script.expect(&["GET / 200 0/0 complete"]);
    // As numbers that are not what they seem they are not waited for again.
    let mut script = http2(Role::Server);
    script.unseen(true, 100).s(frame(4, 0, b"")).tick(300);
    script.next[0] -= 100;
    for _ in 0..10 {
        let mut request = script.make(true, &frame(1, 1, b"\x82\x86\x84"));
        request.bytes[8] = script.seen.exchanges.len() as u8 * 2 + 1;
        let mut answer = script.make(false, &frame(1, request.bytes[8], b"\x88"));
        answer.acknowledged += 100;
        in_order(&mut script, &[&request, &answer]);
    }
    assert_eq!(script.seen.exchanges.len(), 10);
    assert_eq!(script.counters(), Counters::default());
}

#[test]
fn nothing_waits_for_what_was_lost() {
    let mut script = http2(Role::Server);
    script.c(frame(1, 1, b"\x82\x86\x84"));
    script.unseen(true, 100);
    let answer = script.make(false, &frame(1, 1, b"\x88"));
    script.lossy_step(&answer, 1);
    script.expect(&["GET / 200 0/0 complete"]);
}

#[test]
fn the_end_of_the_connection_ends_the_wait() {
    let mut script = http2(Role::Server);
    script.c(frame(1, 1, b"\x82\x86\x84"));
    script.unseen(true, 9).s(frame(1, 1, b"\x88"));
    script.close(ClosedBy::Remote, false);
    script.expect(&["GET / 200 0/0 complete"]);
}

#[test]
fn what_waits_is_bounded() {
    let mut script = http2(Role::Server);
    script.c(frame(1, 1, b"\x82\x86\x84"));
    script.unseen(true, 9);
    for _ in 0..2000 {
        script.s(frame(4, 0, b""));
    }
    assert!(script.counters().parking_full > 0);
    script.s(frame(1, 1, b"\x88")).tick(1000);
    assert_eq!(script.seen.exchanges.len(), 1);
}

proptest! {
    #[test]
    fn requests_that_are_late_change_nothing(
        delays in proptest::collection::vec(0_usize..6, 20),
        server in any::<bool>(),
    ) {
        let role = if server { Role::Server } else { Role::Client };
        let mut script = Script::with(crate::assemble::Config::default(), role, false);
        let steps = conversation(&mut script);
        let mut order: Vec<(usize, &Step)> = steps
            .iter()
            .enumerate()
            .map(|(index, step)| {
                let from_client = step.egress != server;
                let delay = if from_client { delays[index] } else { 0 };
                (2 * (index + delay) + usize::from(from_client && delay > 0), step)
            })
            .collect();
        order.sort_by_key(|(at, _)| *at);
        for (_, step) in order {
            script.step(step);
        }
        script.expect(&CONVERSATION);
        prop_assert_eq!(script.counters(), Counters::default());
    }
}
