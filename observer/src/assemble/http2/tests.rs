//! Connections of HTTP/2, by script: what another encoder wrote, in whatever pieces, with bytes
//! missing, or from the middle on.

use httlib_hpack::Encoder;
use proptest::{collection::vec, prelude::*};

use crate::{
    assemble::{
        Glance, Held, Instruction,
        http2::frame::{END_HEADERS, END_STREAM, PADDED, PREFACE},
        script::{Script, Step},
    },
    model::{
        connection::{ClosedBy, ConnectionEvent, Role, Transfer},
        exchange::{Exchange, HttpVersion, InFlight, Outcome, RequestHead},
        rpc::RpcEnd,
        time::Monotonic,
        trace::Propagation,
    },
};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PROMISE: u8 = 5;
const GO_AWAY: u8 = 7;
const CONTINUATION: u8 = 9;

/// Both ends of a connection, each with its encoder.
struct Peers {
    client: Encoder<'static>,
    server: Encoder<'static>,
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

fn encode(encoder: &mut Encoder<'static>, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        let flags = Encoder::BEST_FORMAT | Encoder::WITH_INDEXING;
        let field = (name.as_bytes().to_vec(), value.as_bytes().to_vec(), flags);
        encoder.encode(field, &mut block).unwrap();
    }
    block
}

impl Peers {
    fn new() -> Self {
        Self {
            client: Encoder::default(),
            server: Encoder::default(),
        }
    }

    fn request(&mut self, method: &str, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
        let mut fields = vec![
            (":method", method),
            (":scheme", "http"),
            (":authority", "shop.test"),
            (":path", path),
        ];
        fields.extend(more);
        encode(&mut self.client, &fields)
    }

    fn get(&mut self, stream: u32, path: &str) -> Vec<u8> {
        let block = self.request("GET", path, &[]);
        frame(HEADERS, END_HEADERS | END_STREAM, stream, &block)
    }

    fn respond(&mut self, status: &str, more: &[(&str, &str)]) -> Vec<u8> {
        let mut fields = vec![(":status", status)];
        fields.extend(more);
        encode(&mut self.server, &fields)
    }

    fn ok(&mut self, stream: u32, content: &[u8]) -> Vec<u8> {
        let block = self.respond("200", &[("server", "test")]);
        let mut bytes = frame(HEADERS, END_HEADERS, stream, &block);
        bytes.extend(frame(DATA, END_STREAM, stream, content));
        bytes
    }
}

fn opening() -> Vec<u8> {
    [PREFACE.to_vec(), frame(SETTINGS, 0, 0, &[])].concat()
}

#[test]
fn streams_end_in_any_order() {
    let mut peers = Peers::new();
    let mut script = Script::server();
    script.c(opening()).s(frame(SETTINGS, 0, 0, &[]));
    script.c([peers.get(1, "/a"), peers.get(3, "/b?secret=1")].concat());
    assert_eq!(script.in_flight(), 2);
    script.s(peers.ok(3, b"12345")).s(peers.ok(1, b"1"));
    script.expect(&["GET /b 200 0/5 complete", "GET /a 200 0/1 complete"]);
    let [second, first] = &script.seen.exchanges[..] else {
        panic!()
    };
    assert_eq!((first.stream, second.stream), (Some(1), Some(3)));
    assert_eq!((first.ordinal, second.ordinal), (0, 1));
    assert!(second.request.has_query);
    assert_eq!(&*first.request.authority, "shop.test");
    assert_eq!(first.response_version, Some(HttpVersion::Http2));
    assert_eq!(script.in_flight(), 0);
}

#[test]
fn the_first_bytes_may_come_one_by_one() {
    let mut peers = Peers::new();
    let mut script = Script::server();
    let bytes = [opening(), peers.get(1, "/a")].concat();
    for byte in bytes {
        script.c([byte]);
    }
    script.s(frame(SETTINGS, 0, 0, &[])).s(peers.ok(1, b""));
    script.expect(&["GET /a 200 0/0 complete"]);
    let told = Instruction::Http2 { with_data: false };
    assert_eq!(script.seen.instructions, [told]);
}

#[test]
fn servers_may_speak_first() {
    let mut peers = Peers::new();
    let mut script = Script::client();
    script.s(frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]));
    script.c([opening(), peers.get(1, "/a")].concat());
    script.s(peers.ok(1, b"x"));
    script.expect(&["GET /a 200 0/1 complete"]);
}

#[test]
fn trailers_interim_responses_padding_and_continuations() {
    let mut peers = Peers::new();
    let mut script = Script::client();
    script.c(opening());
    let block = peers.request("POST", "/upload", &[("expect", "100-continue")]);
    let (start, rest) = block.split_at(5);
    let padded = [&[3_u8][..], start, &[0; 3]].concat();
    script.c([
        frame(HEADERS, PADDED, 1, &padded),
        frame(CONTINUATION, 0, 1, &rest[..1]),
        frame(CONTINUATION, END_HEADERS, 1, &rest[1..]),
    ]
    .concat());
    let interim = peers.respond("100", &[]);
    script.s(frame(HEADERS, END_HEADERS, 1, &interim));
    script.c(frame(DATA, PADDED, 1, b"\x04body....x"[..10].as_ref()));
    let trailers = encode(&mut peers.client, &[("checksum", "1")]);
    script.c(frame(HEADERS, END_HEADERS | END_STREAM, 1, &trailers));
    let head = peers.respond("201", &[]);
    script.s(frame(HEADERS, END_HEADERS, 1, &head));
    let trailers = encode(&mut peers.server, &[("took", "1")]);
    script.s(frame(HEADERS, END_HEADERS | END_STREAM, 1, &trailers));
    script.expect(&["POST /upload 201 5/0 complete"]);
}

#[test]
fn a_block_begins_with_its_first_frame() {
    let mut peers = Peers::new();
    let mut script = Script::client();
    script.c(opening());
    let block = peers.request("GET", "/a", &[]);
    script.c(frame(HEADERS, END_STREAM, 1, &block));
    let (first, sent) = (script.time, script.next[1]);
    let start = sent - block.len() as u64 - 9;
    script.c(frame(CONTINUATION, END_HEADERS, 1, b""));
    script.s(peers.ok(1, b""));
    let next = script.make(true, b"");
    let exchange = &script.seen.exchanges[0];
    assert_eq!(exchange.sent.first, Monotonic(first));
    let behind = next.segment().sequence.wrapping_sub(exchange.hop.0);
    assert_eq!(u64::from(behind), next.position - start);
}

#[test]
fn resets_and_goaway_say_who_gave_up() {
    let mut peers = Peers::new();
    let mut script = Script::client();
    script.c(opening());
    for (index, path) in ["/c", "/s", "/r", "/g"].into_iter().enumerate() {
        script.c(peers.get(1 + 2 * index as u32, path));
    }
    script.c(frame(RESET, 0, 1, &8_u32.to_be_bytes()));
    script.s(frame(RESET, 0, 3, &2_u32.to_be_bytes()));
    script.s(frame(RESET, 0, 5, &7_u32.to_be_bytes()));
    script.s(frame(GO_AWAY, 0, 0, &[0, 0, 0, 5, 0, 0, 0, 0]));
    script.expect(&[
        "GET /c - 0/- client_aborted",
        "GET /s - 0/- server_aborted",
        "GET /r - 0/- refused",
        "GET /g - 0/- refused",
    ]);
    let codes: Vec<_> = script.seen.exchanges.iter().map(|it| it.reset).collect();
    assert_eq!(codes, [Some(8), Some(2), Some(7), Some(0)]);
}

#[test]
fn a_response_may_be_whole_before_its_request() {
    let mut peers = Peers::new();
    let mut script = Script::client();
    let block = peers.request("POST", "/a", &[]);
    script.c([opening(), frame(HEADERS, END_HEADERS, 1, &block)].concat());
    script.s(peers.ok(1, b"no"));
    script.expect(&[]);
    script.c(frame(RESET, 0, 1, &0_u32.to_be_bytes()));
    script.expect(&["POST /a 200 0/2 complete"]);
}

#[test]
fn a_stream_that_ends_without_a_head_is_no_response() {
    let mut peers = Peers::new();
    let mut script = Script::client();
    script.c([opening(), peers.get(1, "/a"), peers.get(3, "/b")].concat());
    script.s(frame(DATA, END_STREAM, 1, b"what"));
    let interim = peers.respond("100", &[]);
    script.s(frame(HEADERS, END_HEADERS | END_STREAM, 3, &interim));
    let head = peers.request("POST", "/c", &[]);
    script.c(frame(HEADERS, END_HEADERS, 5, &head));
    script.s(frame(DATA, END_STREAM, 5, b""));
    script.c(frame(RESET, 0, 5, &0_u32.to_be_bytes()));
    script.expect(&[
        "GET /a - 0/- malformed",
        "GET /b - 0/- malformed",
        "POST /c - 0/- malformed",
    ]);
}

#[test]
fn trailers_of_a_stream_that_is_over_begin_nothing() {
    let mut peers = Peers::new();
    let mut script = Script::client();
    let block = peers.request("POST", "/a", &[]);
    script.c([opening(), frame(HEADERS, END_HEADERS, 1, &block)].concat());
    script.s(frame(RESET, 0, 1, &2_u32.to_be_bytes()));
    let trailers = encode(&mut peers.client, &[("checksum", "1")]);
    script.c(frame(HEADERS, END_HEADERS | END_STREAM, 1, &trailers));
    assert_eq!(script.in_flight(), 0);
    // What they put into the table counts all the same.
    let block = peers.request("GET", "/b", &[("checksum", "1")]);
    script.c(frame(HEADERS, END_HEADERS | END_STREAM, 3, &block));
    script.s(peers.ok(3, b"1")).close(ClosedBy::Local, false);
    script.expect(&["POST /a - 0/- server_aborted", "GET /b 200 0/1 complete"]);
}

#[test]
fn pushes_are_exchanges_of_their_own() {
    let mut peers = Peers::new();
    let mut script = Script::client();
    script.c([opening(), peers.get(1, "/page")].concat());
    let fields = [(":method", "GET"), (":path", "/style")];
    let block = encode(&mut peers.server, &fields);
    let promise = [&2_u32.to_be_bytes()[..], &block].concat();
    script.s(frame(PROMISE, END_HEADERS, 1, &promise));
    script.s([peers.ok(2, b"css"), peers.ok(1, b"html!")].concat());
    script.expect(&["GET /style 200 0/3 complete", "GET /page 200 0/5 complete"]);
    assert!(script.seen.exchanges[0].pushed && !script.seen.exchanges[1].pushed);
}

#[test]
fn connects_become_tunnels() {
    let mut peers = Peers::new();
    let mut script = Script::client();
    let plain = encode(
        &mut peers.client,
        &[(":method", "CONNECT"), (":authority", "db:5432")],
    );
    let socket = peers.request("CONNECT", "/chat", &[(":protocol", "websocket")]);
    script.c([
        opening(),
        frame(HEADERS, END_HEADERS, 1, &plain),
        frame(HEADERS, END_HEADERS, 3, &socket),
    ]
    .concat());
    for stream in [1, 3] {
        let block = peers.respond("200", &[]);
        script.s(frame(HEADERS, END_HEADERS, stream, &block));
        script.s(frame(DATA, END_STREAM, stream, b"tunnelled"));
        script.c(frame(DATA, END_STREAM, stream, b"tunnelled"));
    }
    script.expect(&[
        "CONNECT db:5432 200 0/0 tunnel",
        "CONNECT /chat 200 0/0 tunnel",
    ]);
}

#[test]
fn grpc_ends_with_its_status() {
    let mut peers = Peers::new();
    let mut script = Script::client();
    script.c(opening());
    let call = |peers: &mut Peers, stream: u32| {
        let more = [("content-type", "application/grpc"), ("grpc-timeout", "1m")];
        let block = peers.request("POST", "/a.B/C", &more);
        [
            frame(HEADERS, END_HEADERS, stream, &block),
            frame(DATA, END_STREAM, stream, b"\0\0\0\0\x02hi\0\0\0\0\0"),
        ]
        .concat()
    };
    script.c([
        call(&mut peers, 1),
        call(&mut peers, 3),
        call(&mut peers, 5),
    ]
    .concat());
    let head = peers.respond("200", &[("content-type", "application/grpc")]);
    let trailers = encode(&mut peers.server, &[("grpc-status", "5")]);
    script.s([
        frame(HEADERS, END_HEADERS, 1, &head),
        frame(DATA, 0, 1, b"\0\0\0\0\x01x"),
        frame(HEADERS, END_HEADERS | END_STREAM, 1, &trailers),
    ]
    .concat());
    // Trailers only.
    let fields = [("content-type", "application/grpc"), ("grpc-status", "16")];
    let block = peers.respond("200", &fields);
    script.s(frame(HEADERS, END_HEADERS | END_STREAM, 3, &block));
    script.time += 2_000_000;
    script.c(frame(RESET, 0, 5, &8_u32.to_be_bytes()));
    let ends: Vec<_> = script
        .seen
        .exchanges
        .iter()
        .map(|exchange| {
            let rpc = exchange.rpc.as_deref().unwrap();
            (rpc.end, rpc.requests.count, rpc.responses.count)
        })
        .collect();
    assert_eq!(
        ends,
        [
            (RpcEnd::Status(5), 2, 1),
            (RpcEnd::Status(16), 2, 0),
            (RpcEnd::DeadlineExceeded, 2, 0),
        ]
    );
    let wanted = Instruction::Http2 { with_data: true };
    assert_eq!(script.seen.instructions, [wanted]);
}

#[test]
fn an_upgrade_is_one_exchange() {
    let mut peers = Peers::new();
    let mut script = Script::client();
    script.c(
        "GET /a HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\n\
              Upgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\nb3: 4bf92f3577b34da6-00f067aa0ba902b7\r\n\r\n",
    );
    let switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
    script.s([&switch[..], &frame(SETTINGS, 0, 0, &[])].concat());
    script.c(opening());
    script.s(peers.ok(1, b"hello"));
    script.c(peers.get(3, "/b")).s(peers.ok(3, b""));
    script.expect(&["GET /a 200 0/5 complete", "GET /b 200 0/0 complete"]);
    assert_eq!(
        script.seen.exchanges[0].request.version,
        HttpVersion::Http11
    );
    assert_eq!(script.seen.exchanges[1].ordinal, 1);
    assert!(script.seen.exchanges[0].context.is_some());
}

#[test]
fn traces_are_told_however_their_fields_are_encoded() {
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let fields = [
        ("traceparent", parent),
        ("tracestate", "a=1"),
        ("tracestate", "b=2"),
        ("x-request-id", "not a UUID, which nobody is to see"),
    ];
    let mut peers = Peers::new();
    let mut script = Script::server();
    script.c(opening()).s(frame(SETTINGS, 0, 0, &[]));
    let flags = END_HEADERS | END_STREAM;
    let mut blocks = Vec::new();
    for stream in [1, 3, 5] {
        let block = peers.request("GET", "/", &fields);
        script.c(frame(HEADERS, flags, stream, &block));
        script.s(peers.ok(stream, b""));
        blocks.push(block);
    }
    assert!(blocks[1].len() < 20, "all of it is in the table");
    let [first, second, third] = &script.seen.exchanges[..] else {
        panic!()
    };
    assert_eq!(first.context, second.context);
    assert_eq!(first.context, third.context);
    let context = first.context.as_deref().unwrap();
    assert_eq!(context.propagation, Propagation::TraceContext);
    assert_eq!(context.trace.to_string(), parent[3..35]);
    assert_eq!((&*context.state, context.sampled), ("a=1,b=2", Some(true)));
    // What refers to an entry that was not seen names nothing.
    let mut script = Script::with(crate::assemble::Config::default(), Role::Server, true);
    let mut late = frame(HEADERS, flags, 7, &blocks[2]);
    late.extend(frame(HEADERS, flags, 9, b"\x82\x84\x86"));
    script
        .c(late)
        .s([peers.ok(7, b""), peers.ok(9, b"")].concat());
    assert_eq!(script.seen.exchanges.len(), 2);
    assert!(
        script
            .seen
            .exchanges
            .iter()
            .all(|exchange| exchange.context.is_none())
    );
    // A request without the fields, behind one with them.
    let mut peers = Peers::new();
    let mut script = Script::client();
    let block = peers.request("GET", "/", &fields);
    script.c([
        opening(),
        frame(HEADERS, flags, 1, &block),
        peers.get(3, "/b"),
    ]
    .concat());
    script.s([
        frame(SETTINGS, 0, 0, &[]),
        peers.ok(1, b""),
        peers.ok(3, b""),
    ]
    .concat());
    let [first, second] = &script.seen.exchanges[..] else {
        panic!()
    };
    assert!(first.context.is_some() && second.context.is_none());
}

#[test]
fn joined_midway_the_older_streams_are_left_out() {
    let mut peers = Peers::new();
    let mut script = Script::midway();
    // Seen by nobody.
    let _ = (
        peers.get(1, "/older"),
        peers.get(3, "/older"),
        peers.ok(1, b""),
    );
    script.unseen(true, 300).unseen(false, 200);
    script.s(peers.ok(3, b"old"));
    script.c(peers.get(5, "/older")).s(peers.ok(5, b"12"));
    script.c(peers.get(7, "/new")).s(peers.ok(7, b"1"));
    // The path of the first refers to an entry that was not seen.
    script.expect(&["GET  200 0/2 complete", "GET /new 200 0/1 complete"]);
}

#[test]
fn what_only_looks_like_frames_is_given_up() {
    let mut script = Script::midway();
    for _ in 0..100 {
        let mut step = script.make(true, b"\0\0\x04\x08\0\0\0\0\0nope, this is none");
        step.unframed = true;
        script.step(&step);
    }
    assert!(script.seen.exchanges.is_empty());
    assert_eq!(script.seen.instructions.last(), Some(&Instruction::Opaque));
}

#[test]
fn missing_bytes_lose_what_they_may_have_ended() {
    let mut peers = Peers::new();
    let mut script = Script::client();
    script.c([opening(), peers.get(1, "/a"), peers.get(3, "/b")].concat());
    let lost = script.make(false, &peers.ok(1, b"1"));
    drop(lost);
    let next = script.make(false, &peers.ok(3, b"2"));
    script.lossy_step(&next, 1);
    script.expect(&["GET /a - 0/- lost", "GET /b - 0/- lost"]);
    script.c(peers.get(5, "/c")).s(peers.ok(5, b"12"));
    assert_eq!(script.seen.exchanges.len(), 3);
    let last = &script.seen.exchanges[2];
    assert_eq!(last.outcome, Outcome::Complete);
    assert_eq!((&*last.request.path, last.status), ("/c", Some(200)));
}

#[test]
fn what_may_have_been_answered_unread_is_lost() {
    let mut peers = Peers::new();
    let mut script = Script::client();
    script.c([opening(), peers.get(1, "/a")].concat());
    drop(script.make(false, &peers.ok(1, b"1")));
    let middle = script.make(false, b"in the middle of a frame");
    script.lossy_step(&middle, 1);
    script.c([peers.get(3, "/b"), peers.get(5, "/c")].concat());
    // Nobody reads the response to the first.
    script.s(b"also in the middle of one").s(peers.ok(5, b"12"));
    script.c(peers.get(7, "/d")).close(ClosedBy::Local, false);
    // The last came after the server's bytes could be read again.
    script.expect(&[
        "GET /a - 0/- lost",
        "GET /c 200 0/2 complete",
        "GET /b - 0/- lost",
        "GET /d - 0/- client_aborted",
    ]);

    let mut peers = Peers::new();
    let mut script = Script::client();
    script.c([opening(), peers.get(1, "/a")].concat());
    drop(script.make(false, b"1"));
    let middle = script.make(false, b"in the middle of a frame");
    script.lossy_step(&middle, 1);
    script.c(peers.get(3, "/b")).close(ClosedBy::Local, false);
    script.expect(&["GET /a - 0/- lost", "GET /b - 0/- lost"]);
}

#[test]
fn too_many_streams_are_counted() {
    let mut peers = Peers::new();
    let mut script = Script::client();
    script.c(opening());
    for index in 0..super::MAX_STREAMS as u32 + 5 {
        let request = peers.get(2 * index + 1, "/a");
        script.c(request);
    }
    assert_eq!(script.in_flight(), super::MAX_STREAMS);
    assert_eq!(script.counters().pipeline_full, 5);
    script.close(ClosedBy::Remote, true);
    assert_eq!(script.seen.exchanges.len(), super::MAX_STREAMS);
}

#[test]
fn the_kernel_is_told_where_frames_start() {
    let mut peers = Peers::new();
    let mut script = Script::midway();
    let mut request = script.make(true, &peers.get(9, "/a"));
    request.unframed = true;
    script.step(&request);
    let head = peers.respond("200", &[]);
    let data = frame(DATA, END_STREAM, 9, &[0; 10_000]);
    let bytes = [frame(HEADERS, END_HEADERS, 9, &head), data].concat();
    let mut response = script.make(false, &bytes[..4000]);
    response.unframed = true;
    script.step(&response);
    let length = request.bytes.len() as u64;
    assert_eq!(
        script.seen.instructions,
        [
            Instruction::Skip {
                egress: true,
                position: length
            },
            Instruction::Skip {
                egress: false,
                position: bytes.len() as u64
            },
        ]
    );
}

/// What is in flight while the kernel holds `segment`, of which its slot has `shown` bytes; `unread`
/// bytes of the client before it were not read yet.
fn held(script: &mut Script, segment: &[u8], shown: usize, unread: u64) -> Vec<String> {
    let sent_bytes = script.next[1] + unread + segment.len() as u64;
    script.time += 1;
    let glance = Glance {
        transfer: Transfer {
            sent_bytes,
            ..Transfer::default()
        },
        held: Some(Held {
            since: Monotonic(script.time),
            length: segment.len() as u32,
            head: segment[..shown.min(segment.len())].to_vec(),
        }),
    };
    let now = Monotonic(script.time + 1);
    let requests = script
        .assembler
        .glance(now, |_, _| Some(glance.clone()), &mut script.seen);
    let line = |it: InFlight| {
        let RequestHead {
            method,
            path,
            truncated,
            ..
        } = &*it.request;
        format!(
            "{method} {path}{}",
            if *truncated { " cut off" } else { "" }
        )
    };
    requests.into_iter().map(line).collect()
}

#[test]
fn held_requests_are_in_flight() {
    let mut peers = Peers::new();
    let mut script = Script::client();
    script.c([opening(), peers.get(1, "/a")].concat());
    script.s(peers.ok(1, b""));
    // Both refer to entries of the table: the second to one of the first.
    let both = [peers.get(3, "/b"), peers.get(5, "/b")].concat();
    assert_eq!(held(&mut script, &both, 96, 0), ["GET /b", "GET /b"]);
    let update = frame(8, 0, 0, &[0, 0, 1, 0]);
    let again = [update, peers.get(7, "/a")].concat();
    // The records of the two are still under way: what they put into the table is not known.
    let before = both.len() as u64;
    assert_eq!(held(&mut script, &again, 96, before), ["GET "]);
    script.c(&both).s(peers.ok(3, b"")).s(peers.ok(5, b""));
    assert_eq!(held(&mut script, &again, 96, 0), ["GET /a"]);
    // Reading ahead changed nothing.
    script.c(&again).s(peers.ok(7, b"1"));
    script.expect(&[
        "GET /a 200 0/0 complete",
        "GET /b 200 0/0 complete",
        "GET /b 200 0/0 complete",
        "GET /a 200 0/1 complete",
    ]);
    assert_eq!(
        held(&mut script, &again, 96, 0),
        Vec::<String>::new(),
        "it is over"
    );
}

#[test]
fn what_is_cut_off_a_held_request_is_unknown() {
    let mut peers = Peers::new();
    let mut script = Script::client();
    script.c([opening(), peers.get(1, "/a")].concat());
    script.s(peers.ok(1, b""));
    let head = peers.get(3, "/some-path");
    let segment = [&head[..], &frame(DATA, END_STREAM, 3, b"content")].concat();
    for shown in 0..=segment.len() {
        let known = held(&mut script, &segment, shown, 0);
        // The path is the last of the fields, the method the first.
        let expected: &[&str] = match shown {
            0..9 => &[],
            9 => &["  cut off"],
            _ if shown < head.len() => &["GET  cut off"],
            _ => &["GET /some-path"],
        };
        assert_eq!(known, expected, "{shown} bytes");
    }
}

#[test]
fn a_held_segment_may_start_within_a_frame() {
    let mut peers = Peers::new();
    let mut script = Script::client();
    let head = peers.request("POST", "/up", &[]);
    let forged = Peers::new().get(9, "/forged");
    let data = frame(DATA, END_STREAM, 1, &forged);
    let (start, rest) = data.split_at(9);
    script.c([
        &opening()[..],
        &frame(HEADERS, END_HEADERS, 1, &head),
        start,
    ]
    .concat());
    let segment = [rest, &peers.get(3, "/a")].concat();
    let mut known = held(&mut script, &segment, 96, 0);
    known.sort();
    assert_eq!(known, ["GET /a", "POST /up"]);
}

#[test]
fn tables_of_held_blocks_are_those_of_all_before() {
    let mut peers = Peers::new();
    let mut script = Script::client();
    let head = peers.request("POST", "/up", &[]);
    script.c([opening(), frame(HEADERS, END_HEADERS, 1, &head)].concat());
    // Trailers that go before a request, in one segment.
    let trailers = encode(&mut peers.client, &[("checksum", "1")]);
    let trailers = frame(HEADERS, END_HEADERS | END_STREAM, 1, &trailers);
    let segment = [trailers, peers.get(3, "/up")].concat();
    let mut known = held(&mut script, &segment, 96, 0);
    known.sort();
    assert_eq!(known, ["GET /up", "POST /up"]);
    // A block whose rest is held.
    script.c(&segment);
    let block = peers.request("GET", "/b", &[("x-more", "1")]);
    let (start, rest) = block.split_at(4);
    script.c(frame(HEADERS, END_STREAM, 5, start));
    let rest = frame(CONTINUATION, END_HEADERS, 5, rest);
    let segment = [rest, peers.get(7, "/up")].concat();
    let known = held(&mut script, &segment, 96, 0);
    assert!(known.contains(&"GET ".to_owned()), "{known:?}");
}

#[test]
fn what_is_no_request_is_none_that_is_held() {
    let mut peers = Peers::new();
    let mut script = Script::client();
    script.c([opening(), peers.get(1, "/a")].concat());
    let trailers = encode(&mut peers.client, &[("checksum", "1")]);
    for segment in [
        frame(HEADERS, END_HEADERS | END_STREAM, 1, &trailers),
        frame(HEADERS, END_HEADERS, 3, &[0xff; 10]),
        frame(HEADERS, END_HEADERS, 2, b"\x82"),
        frame(HEADERS, END_HEADERS, 3, b"\x88"),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        Vec::new(),
    ] {
        assert_eq!(
            held(&mut script, &segment, 96, 0),
            ["GET /a"],
            "{segment:?}"
        );
    }
}

#[test]
fn it_is_told_what_a_connection_speaks() {
    let mut script = Script::client();
    script.c(opening());
    let told = script.seen.events.iter().find_map(|event| match event {
        ConnectionEvent::Recognised { opening, .. } => opening.protocol,
        _ => None,
    });
    assert_eq!(told, Some("http/2"));
}

/// Requests and their responses, interleaved, as bytes of each direction in order of time.
fn conversation(plan: &[(u8, u16)]) -> Vec<(bool, Vec<u8>)> {
    let mut peers = Peers::new();
    let mut turns = vec![(true, opening()), (false, frame(SETTINGS, 0, 0, &[]))];
    let mut open = Vec::new();
    let mut next = 1;
    for (what, size) in plan {
        if what % 2 == 0 || open.is_empty() {
            turns.push((true, peers.get(next, &format!("/{}", what / 16))));
            open.push((next, *size));
            next += 2;
        } else {
            let (stream, size) = open.remove(usize::from(*what) % open.len());
            turns.push((false, peers.ok(stream, &vec![0; size.into()])));
        }
    }
    for (stream, size) in open {
        turns.push((false, peers.ok(stream, &vec![0; size.into()])));
    }
    turns
}

fn told(exchanges: &[Exchange]) -> Vec<(Option<u32>, String, Option<u16>, u64)> {
    let mut told: Vec<_> = exchanges
        .iter()
        .map(|exchange| {
            let size = exchange.received.map_or(0, |side| side.body_bytes);
            let path = exchange.request.path.to_string();
            (exchange.stream, path, exchange.status, size)
        })
        .collect();
    told.sort();
    told
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn splits_change_nothing(
        plan in vec((any::<u8>(), 0_u16..3000), 1..40),
        sizes in vec(1_usize..200, 1..20),
    ) {
        let turns = conversation(&plan);
        let mut whole = Script::server();
        for (from_client, bytes) in &turns {
            let step = whole.make(*from_client, bytes);
            whole.step(&step);
        }
        let mut split = Script::server();
        let mut sizes = sizes.iter().cycle();
        for (from_client, bytes) in &turns {
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let count = (*sizes.next().unwrap()).min(rest.len());
                let step = split.make(*from_client, &rest[..count]);
                split.step(&step);
                rest = &rest[count..];
            }
        }
        prop_assert_eq!(told(&whole.seen.exchanges), told(&split.seen.exchanges));
        let complete = |exchange: &Exchange| exchange.outcome == Outcome::Complete;
        prop_assert!(whole.seen.exchanges.iter().all(complete));
    }

    #[test]
    fn losses_never_make_a_wrong_exchange(
        plan in vec((any::<u8>(), 0_u16..300), 1..60),
        lost in vec(0_u8..10, 1..20),
        skipped in 0_usize..30,
    ) {
        let turns = conversation(&plan);
        let mut whole = Script::server();
        for (from_client, bytes) in &turns {
            let step = whole.make(*from_client, bytes);
            whole.step(&step);
        }
        let truth = told(&whole.seen.exchanges);
        let mut script = if skipped > 2 { Script::midway() } else { Script::server() };
        let mut lost = lost.iter().cycle();
        let mut before = 0;
        for (index, (from_client, bytes)) in turns.iter().enumerate() {
            let step: Step = script.make(*from_client, bytes);
            if skipped > 2 && index < skipped {
                continue;
            }
            if *lost.next().unwrap() == 0 {
                before += 1;
            } else {
                script.lossy_step(&step, std::mem::take(&mut before));
            }
        }
        script.tick(1000);
        for (stream, path, status, size) in told(&script.seen.exchanges) {
            let right = truth.iter().find(|it| it.0 == stream).unwrap();
            prop_assert!(path.is_empty() || path == right.1, "{path} is not {}", right.1);
            prop_assert!(status.is_none() || status == right.2);
            prop_assert!(status.is_none() || size <= right.3);
        }
    }
}
