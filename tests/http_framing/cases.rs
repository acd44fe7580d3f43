//! Connections in turns, and the calls that they have to be reported as.

use self::Turn::{Answer, Ask, ClientFinishes, ClientResets, ServerFinishes, ServerResets};
use observer_tests::{flow::Expected, http::end_of_head};

/// One step of a connection.
#[derive(Clone, Debug)]
pub(crate) enum Turn {
    Ask(String),
    Answer(String),
    ClientFinishes,
    ServerFinishes,
    ClientResets,
    ServerResets,
}

/// A connection and the calls that it has to be reported as.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) turns: Vec<Turn>,
    pub(crate) calls: Vec<Expected>,
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
pub(crate) fn call(request: &str, sent: u64, response: &str, received: u64) -> Expected {
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

pub(crate) fn framing_cases() -> Vec<Case> {
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

pub(crate) fn control_cases() -> Vec<Case> {
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

pub(crate) fn broken_cases() -> Vec<Case> {
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

pub(crate) fn foreign_cases() -> Vec<Case> {
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
