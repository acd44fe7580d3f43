//! Messages of one connection (RFC 9110, RFC 9112): framing, pairing, and ends.

use super::{super::script::Script, *};
use crate::model::{connection::ClosedBy, exchange::HttpVersion};

const GET: &str = "GET /a HTTP/1.1\r\nHost: h\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

#[test]
fn pipelined_requests_are_answered_first_in_first_out() {
    let mut script = Script::client();
    script.c("GET /1 HTTP/1.1\r\n\r\nPOST /2 HTTP/1.1\r\nContent-Length: 2\r\n\r\nxyGET /3 HTTP/1.1\r\n\r\n");
    assert_eq!(script.in_flight(), 3);
    script.s("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1HTTP/1.1 404 N\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n22\r\n0\r\n\r\nHTTP/1.1 500 E\r\nContent-Length: 0\r\n\r\n");
    script.expect(&[
        "GET /1 200 0/1 complete",
        "POST /2 404 2/2 complete",
        "GET /3 500 0/0 complete",
    ]);
    assert_eq!(script.in_flight(), 0);
}

#[test]
fn messages_without_content_are_known() {
    let mut script = Script::client();
    for (request, response) in [
        ("HEAD /1", "200 OK\r\nContent-Length: 1000"),
        ("HEAD /2", "200 OK\r\nTransfer-Encoding: chunked"),
        ("HEAD /3", "200 OK"),
        ("GET /4", "204 No Content\r\nContent-Length: 4"),
        ("GET /5", "304 Not Modified\r\nContent-Length: 4"),
        ("GET /6", "200 OK\r\nContent-Length: 0"),
    ] {
        script.c(format!("{request} HTTP/1.1\r\n\r\n"));
        script.s(format!("HTTP/1.1 {response}\r\n\r\n"));
    }
    script.expect(&[
        "HEAD /1 200 0/0 complete",
        "HEAD /2 200 0/0 complete",
        "HEAD /3 200 0/0 complete",
        "GET /4 204 0/0 complete",
        "GET /5 304 0/0 complete",
        "GET /6 200 0/0 complete",
    ]);
}

#[test]
fn a_body_until_the_end_ends_with_a_fin_only() {
    let open = |end: fn(&mut Script)| {
        let mut script = Script::client();
        script.c(GET).s("HTTP/1.1 200 OK\r\n\r\nabc").s("def");
        script.expect(&[]);
        end(&mut script);
        script
    };
    let script = open(|script| {
        script.fin(false).close(ClosedBy::Remote, false);
    });
    script.expect(&["GET /a 200 0/6 complete"]);
    assert_eq!(script.seen.exchanges[0].ended, Monotonic(1040), "the FIN");
    open(|script| {
        script.close(ClosedBy::Remote, true);
    })
    .expect(&["GET /a 200 0/6 server_aborted"]);
    open(|script| {
        script.fin(true).close(ClosedBy::Local, false);
    })
    .expect(&["GET /a 200 0/6 client_aborted"]);
    // The FIN was sent but not seen: there may have been more.
    open(|script| {
        script.close(ClosedBy::Remote, false);
    })
    .expect(&["GET /a 200 0/6 lost"]);
}

#[test]
fn interim_responses_are_not_the_answer() {
    let mut script = Script::client();
    script.c("POST /a HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
    script.s("HTTP/1.1 100 Continue\r\n\r\n").c("body");
    script
        .s("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
        .s(OK);
    script.expect(&["POST /a 200 4/5 complete"]);
    let received = script.seen.exchanges[0].received.unwrap();
    assert_eq!(received.head_bytes, 38, "of the final head");
    // Refused without the body being sent: the client goes on.
    script.c("POST /b HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
    script
        .s("HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n")
        .c("body");
    script.c(GET).s(OK);
    script.expect(&[
        "POST /a 200 4/5 complete",
        "POST /b 417 4/0 complete",
        "GET /a 200 0/5 complete",
    ]);
}

#[test]
fn connect_becomes_a_tunnel_or_is_refused() {
    let mut script = Script::client();
    script.c("CONNECT u:p@h:443 HTTP/1.1\r\nHost: h\r\n\r\n");
    script.s("HTTP/1.1 407 Auth\r\nContent-Length: 2\r\n\r\nno");
    script.c("CONNECT h:443 HTTP/1.1\r\n\r\n").c("optimistic");
    script.s("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n\x16\x03");
    script.c(GET).s(OK);
    script.expect(&[
        "CONNECT h:443 407 0/2 complete",
        "CONNECT h:443 200 0/0 tunnel",
    ]);
    assert_eq!(&*script.seen.exchanges[0].request.authority, "h:443");
    assert_eq!(
        script.seen.instructions,
        [super::super::Instruction::Opaque]
    );
    assert_eq!(script.counters(), super::super::Counters::default());
}

#[test]
fn an_upgrade_becomes_a_tunnel_or_is_refused() {
    let request = "GET /ws HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let mut script = Script::client();
    script.c(request).s(OK).c(request);
    script.s("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x01\x05hello");
    script.c("\x00\x01").s(OK).close(ClosedBy::Local, false);
    script.expect(&["GET /ws 200 0/5 complete", "GET /ws 101 0/0 tunnel"]);
    // A client that cannot wait.
    let mut script = Script::client();
    script.c(request).c([0x81, 0x05, 0x00]);
    script.s("HTTP/1.1 101 Switching Protocols\r\n\r\n");
    script.expect(&["GET /ws 101 0/0 tunnel"]);
    let mut script = Script::client();
    script.c(request).c([0x81, 0x05, 0x00]).s(OK).s(OK);
    script.expect(&["GET /ws 200 0/5 complete"]);
    assert_eq!(script.counters().broken, 1);
}

#[test]
fn targets_are_told_without_secrets() {
    let mut script = Script::client();
    script.c("GET http://user:secret@h:81/p?secret=1#secret HTTP/1.1\r\nHost: other\r\nAuthorization: secret\r\nCookie: secret\r\nUser-Agent: agent\r\n\r\n").s(OK);
    script
        .c("GET /p?secret HTTP/1.1\r\nHost: user:secret@h\r\n\r\n")
        .s(OK);
    script.c("CONNECT user:secret@h:1 HTTP/1.1\r\n\r\n");
    script.s("HTTP/1.1 500 E\r\nContent-Length: 0\r\n\r\n");
    let head = &script.seen.exchanges[0].request;
    assert_eq!((&*head.path, &*head.authority), ("/p", "h:81"));
    assert_eq!(
        (head.scheme.as_deref(), head.has_query),
        (Some("http"), true)
    );
    assert_eq!(&*head.user_agent, "agent");
    assert_eq!(script.seen.exchanges.len(), 3);
    for exchange in &script.seen.exchanges {
        let text = format!("{exchange:?}");
        assert!(!text.contains("secret"), "{text}");
    }
}

#[test]
fn an_early_response_waits_for_the_end_of_its_request() {
    let post = "POST /a HTTP/1.1\r\nContent-Length: 6\r\n\r\n";
    let early = "HTTP/1.1 413 Large\r\nContent-Length: 0\r\n\r\n";
    let mut script = Script::client();
    script.c(post).c("123").s(early);
    script.expect(&[]);
    assert_eq!(script.in_flight(), 1);
    script.c("456").c(GET).s(OK);
    script.expect(&["POST /a 413 6/0 complete", "GET /a 200 0/5 complete"]);
    // The server closes instead of reading on: what it said is the answer.
    let mut script = Script::client();
    script
        .c(post)
        .c("123")
        .s(early)
        .fin(false)
        .close(ClosedBy::Remote, true);
    script.expect(&["POST /a 413 3/0 complete"]);
    assert_eq!(script.seen.exchanges[0].ended, Monotonic(1030));
    // A response to nothing.
    let mut script = Script::client();
    script.c(post).c("123").s(early).s(OK);
    script.expect(&["POST /a 413 3/0 complete"]);
    assert_eq!(script.counters().unpaired, 1);
}

#[test]
fn a_response_before_the_head_is_complete_answers_what_is_there() {
    let mut script = Script::client();
    script.c("GET /a?b HTTP/1.1\r\nHost: h\r\nX: yyyyyyy");
    script
        .s("HTTP/1.1 431 Large\r\nContent-Length: 0\r\n\r\n")
        .c("yyy");
    script.fin(false).close(ClosedBy::Remote, false);
    script.expect(&["GET /a 431 0/0 complete"]);
    assert_eq!(&*script.seen.exchanges[0].request.authority, "h");
}

#[test]
fn who_gave_up_is_told() {
    let check = |started: bool, end: fn(&mut Script), outcome: &str, at: u64| {
        for server in [false, true] {
            let mut script = if server {
                Script::server()
            } else {
                Script::client()
            };
            script.c(GET);
            if started {
                script.s("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc");
            }
            script.time = 2000;
            end(&mut script);
            let answer = if started { "200 0/3" } else { "- 0/-" };
            script.expect(&[&format!("GET /a {answer} {outcome}")]);
            assert_eq!(script.seen.exchanges[0].ended, Monotonic(at));
        }
    };
    for started in [false, true] {
        check(
            started,
            |script| {
                script.fin(false);
            },
            "server_aborted",
            2010,
        );
        check(
            started,
            |script| {
                script.fin(true).fin(false);
            },
            "client_aborted",
            2020,
        );
        check(
            started,
            |script| {
                script.close(ClosedBy::Timeout, false);
            },
            "aborted",
            2010,
        );
        check(
            started,
            |script| {
                script.close(ClosedBy::Unknown, false);
            },
            "aborted",
            2010,
        );
        check(
            started,
            |script| {
                let by = if script.connection.role == Role::Client {
                    ClosedBy::Remote
                } else {
                    ClosedBy::Local
                };
                script.close(by, true);
            },
            "server_aborted",
            2010,
        );
        check(
            started,
            |script| {
                let by = if script.connection.role == Role::Client {
                    ClosedBy::Local
                } else {
                    ClosedBy::Remote
                };
                script.close(by, true);
            },
            "client_aborted",
            2010,
        );
        check(
            started,
            |script| {
                script.fin(true).close(ClosedBy::Unknown, false);
            },
            "client_aborted",
            2020,
        );
    }
}

#[test]
fn a_client_that_only_sends_no_more_gets_its_responses() {
    let mut script = Script::client();
    script
        .c(GET)
        .c("POST /b HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc");
    script
        .fin(true)
        .s(OK)
        .s("HTTP/1.1 400 B\r\nContent-Length: 0\r\n\r\n")
        .fin(false);
    script.expect(&["GET /a 200 0/5 complete", "POST /b 400 3/0 complete"]);
    let mut script = Script::client();
    script.c("CONNECT h HTTP/1.1\r\n\r\n").fin(true);
    script.s("HTTP/1.1 403 F\r\nContent-Length: 0\r\n\r\n");
    script.expect(&["CONNECT h 403 0/0 complete"]);
}

#[test]
fn what_is_not_http_is_never_told() {
    let long = vec![b'A'; MAX_HEAD + 10];
    for (client, server) in [
        (&b"*1\r\n$4\r\nPING\r\n"[..], &b"+PONG\r\n"[..]),
        (b"SSH-2.0-OpenSSH_9.6\r\n", b"SSH-2.0-OpenSSH_9.6\r\n"),
        (b"\x16\x03\x01\x02\x00\x01\x00", b"\x16\x03\x03"),
        (b"GET key\r\n", b"$-1\r\n"),
        (b"GET / HTTP/1.1\r\n\r\n", b"-ERR unknown command\r\n"),
        (b"GET / HTTP/1.1\r\n\r\n\x00\x01", b"\x00\x01"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x00\x00\x06\x04"),
        (b"GET / HTTP/1.1\r\n\r\n", b"HTTP/2 200\r\n\r\n"),
        (&long, b"x"),
    ] {
        let mut script = Script::client();
        script.c(client).s(server).c(client).s(server);
        script.c(GET).s(OK).close(ClosedBy::Local, false);
        script.expect(&[]);
        assert_eq!(script.counters().not_http, 1, "{client:?}");
        assert_eq!(
            script.seen.instructions[0],
            super::super::Instruction::Opaque
        );
    }
    // A server that speaks first, and a client that is never answered.
    let mut script = Script::client();
    script
        .s("220 mail ESMTP\r\n")
        .c("EHLO x\r\n")
        .close(ClosedBy::Local, false);
    script.expect(&[]);
}

#[test]
fn what_stops_being_http_ends_what_is_under_way() {
    let mut script = Script::client();
    script.c(GET).s(OK).c(GET).s("garbage").s(OK);
    script.expect(&["GET /a 200 0/5 complete", "GET /a - 0/- malformed"]);
    assert_eq!(script.counters().broken, 1);
    // Requests before the garbage have their responses.
    let mut script = Script::client();
    script
        .c(GET)
        .c(GET)
        .c("garbage\r\n")
        .s(OK)
        .c(GET)
        .s(OK)
        .s(OK);
    script.expect(&["GET /a 200 0/5 complete", "GET /a 200 0/5 complete"]);
    assert_eq!(script.counters().broken, 1);
    let mut script = Script::client();
    script
        .c(GET)
        .s("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz");
    script.expect(&["GET /a 200 0/0 malformed"]);
    let mut script = Script::client();
    script
        .c(GET)
        .s("HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\nab")
        .s(OK);
    script.expect(&["GET /a 200 0/0 malformed"]);
}

#[test]
fn requests_of_unknown_length_are_answered_and_nothing_after_them() {
    for fields in [
        "Content-Length: 1\r\nContent-Length: 2",
        "Content-Length: x",
        "Transfer-Encoding: gzip",
    ] {
        let mut script = Script::client();
        script
            .c(format!("POST /a HTTP/1.1\r\n{fields}\r\n\r\nabc"))
            .c(GET);
        script
            .s("HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n")
            .s(OK);
        script.expect(&["POST /a 400 0/0 complete"]);
        assert_eq!(script.counters().broken, 1, "{fields}");
    }
    let mut script = Script::client();
    script
        .c("POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabX")
        .c(GET);
    script
        .s("HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n")
        .s(OK);
    script.expect(&["POST /a 400 2/0 complete"]);
}

#[test]
fn heads_are_followed_to_a_limit() {
    let head = |length: usize| {
        let start = "GET /a HTTP/1.1\r\nX: ";
        format!("{start}{}\r\n\r\n", "x".repeat(length - start.len() - 4))
    };
    for step in [1 << 20, 1460] {
        let send = |script: &mut Script, text: &str| {
            for piece in text.as_bytes().chunks(step) {
                script.c(piece);
            }
        };
        let mut script = Script::client();
        send(&mut script, &head(MAX_HEAD));
        script.s(OK);
        script.expect(&["GET /a 200 0/5 complete"]);
        send(&mut script, &head(MAX_HEAD + 1));
        assert_eq!(script.counters().broken, 1, "in pieces of {step}");
        let mut script = Script::client();
        send(&mut script, &head(MAX_HEAD + 1));
        assert_eq!(script.counters().not_http, 1, "in pieces of {step}");
        let mut script = Script::client();
        script.c(GET).s(OK).c(GET);
        let text = head(MAX_HEAD + 1).replace("GET /a HTTP/1.1", "HTTP/1.1 200 OK");
        script.s(text);
        script.expect(&["GET /a 200 0/5 complete", "GET /a - 0/- malformed"]);
    }
}

#[test]
fn a_pipeline_is_followed_to_a_limit() {
    let mut script = Script::client();
    for _ in 0..MAX_PIPELINE + 100 {
        script.c(GET);
    }
    assert_eq!(script.in_flight(), MAX_PIPELINE);
    for _ in 0..MAX_PIPELINE + 100 {
        script.s(OK);
    }
    assert_eq!(script.seen.exchanges.len(), MAX_PIPELINE);
    assert!(
        script
            .seen
            .exchanges
            .iter()
            .all(|e| e.outcome == Outcome::Complete)
    );
    assert_eq!(script.counters().pipeline_full, 1);
    assert_eq!(script.counters().unpaired, 0);
    assert_eq!(
        script.seen.instructions,
        [super::super::Instruction::Opaque]
    );
}

#[test]
fn a_server_may_tell_an_idle_client_to_go() {
    let mut script = Script::client();
    script
        .c(GET)
        .s(OK)
        .s("HTTP/1.1 408 Request Timeout\r\n\r\nbye")
        .fin(false);
    script.expect(&["GET /a 200 0/5 complete"]);
    assert_eq!(script.counters(), super::super::Counters::default());
}

#[test]
fn times_are_of_first_and_last_bytes() {
    let mut script = Script::client();
    script
        .c("POST /a HTTP/1.0\r\nCont")
        .c("ent-Length: 2\r\n\r\n")
        .c("xy");
    script
        .s("HT")
        .s("TP/1.0 200 OK\r\nContent-Length: 2\r\n")
        .s("\r\na")
        .s("b");
    let exchange = &script.seen.exchanges[0];
    assert_eq!(
        (exchange.sent.first, exchange.sent.last),
        (Monotonic(1010), Monotonic(1030))
    );
    let received = exchange.received.unwrap();
    assert_eq!(
        (received.first, received.last),
        (Monotonic(1040), Monotonic(1070))
    );
    assert_eq!(exchange.ended, Monotonic(1070));
    assert_eq!(exchange.response_version, Some(HttpVersion::Http10));
}

#[test]
fn partial_heads_are_not_kept() {
    let mut script = Script::client();
    script.c("GET /a HTTP/1.1\r\nCookie: sec").c("ret\r\n\r\n");
    let mut http = Http1::new(ConnectionId(1), Role::Client, 0);
    let mut heads = Heads::new(1);
    let mut none = |_: Exchange| ();
    for bytes in [&b"GET /a HTTP/1.1\r\nCookie: sec"[..], b"ret\r\n\r\n"] {
        let piece = Piece {
            bytes,
            time: Monotonic(1),
            hop: (0, 0),
        };
        assert_eq!(http.push(true, piece, &mut heads, &mut none), Verdict::Http);
    }
    assert!(matches!(http.client, Half::Head(None)));
    assert!(!format!("{http:?}").contains("secret"));
}
