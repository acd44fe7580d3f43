//! Any bytes, holes and losses as HTTP/2: bounded, every exchange once, and cut wherever.
#![no_main]

use std::collections::HashSet;

use libfuzzer_sys::fuzz_target;
use observer::{
    assemble::{
        Held,
        heads::Heads,
        http1::{Piece, Verdict},
        http2::{Http2, MAX_STREAMS, frame::PREFACE},
    },
    model::{
        connection::{Closed, ClosedBy, ConnectionId, Role, Transfer},
        exchange::{Exchange, InFlight, Outcome},
        time::Monotonic,
    },
};

/// The first byte of a script.
const MIDWAY: u8 = 1;
const AS_SERVER: u8 = 2;
const NO_PREFACE: u8 = 4;
/// The first byte of a step: what it does in the lowest bits, and on whose bytes.
const CLIENT: u8 = 0x80;

/// Reads a script from the fuzzer's bytes.
struct Script<'a>(&'a [u8]);

/// A connection, and what is checked of it.
struct Run {
    http: Http2,
    heads: Heads,
    told: Vec<Exchange>,
    over: bool,
    /// Pieces are cut after this many bytes.
    cut: usize,
    now: u64,
    /// Bytes so far, by direction: of the client last.
    bytes: [u64; 2],
}

// === impl Script ===

impl<'a> Script<'a> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, b""));
        self.0 = rest;
        *first
    }

    fn bytes(&mut self) -> &'a [u8] {
        let count = usize::from(self.byte()).min(self.0.len());
        let (bytes, rest) = self.0.split_at(count);
        self.0 = rest;
        bytes
    }

    /// A frame: its type, flags and stream, and its payload, of which it may announce more.
    fn frame(&mut self, may_be_cut: bool) -> Vec<u8> {
        let (kind, flags, stream) = (self.byte(), self.byte(), self.byte());
        let cut = may_be_cut && kind & 0x80 != 0;
        let more = if cut { self.byte() } else { 0 };
        let kind = kind & 0xf;
        let payload = self.bytes();
        let mut frame = (payload.len() as u32 + u32::from(more)).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags, 0, 0, 0, stream]);
        frame.extend(payload);
        frame
    }
}

// === impl Run ===

impl Run {
    fn new(flags: u8, cut: usize) -> Self {
        let role = if flags & AS_SERVER == 0 {
            Role::Client
        } else {
            Role::Server
        };
        let http = if flags & MIDWAY == 0 {
            Http2::new(ConnectionId(1), role, 0)
        } else {
            Http2::midway(ConnectionId(1), role, 0)
        };
        let mut run = Self {
            http,
            heads: Heads::new(4),
            told: Vec::new(),
            over: false,
            cut,
            now: 1,
            bytes: [0; 2],
        };
        if flags & (MIDWAY | NO_PREFACE) == 0 {
            run.push(true, PREFACE);
        }
        run
    }

    fn push(&mut self, from_client: bool, bytes: &[u8]) {
        let so_far = &mut self.bytes[usize::from(from_client)];
        let mut piece = Piece {
            bytes,
            time: Monotonic(self.now),
            hop: (*so_far as u32, 0),
        };
        *so_far += bytes.len() as u64;
        while !self.over && !piece.bytes.is_empty() {
            let part = Piece {
                bytes: &piece.bytes[..self.cut.min(piece.bytes.len())],
                ..piece
            };
            let out = &mut |exchange| self.told.push(exchange);
            let verdict = self.http.push(from_client, part, &mut self.heads, out);
            self.over = verdict != Verdict::Http;
            piece.advance(part.bytes.len());
        }
        if self.over {
            assert_eq!(self.http.in_flight().count(), 0);
        }
    }

    fn skip(&mut self, from_client: bool, count: u64) {
        let skippable = self.http.skippable(from_client);
        if let Some(ahead) = self.http.to_next_frame(from_client) {
            assert_eq!(ahead, skippable);
        }
        let count = count.min(skippable);
        self.bytes[usize::from(from_client)] += count;
        let out = &mut |exchange| self.told.push(exchange);
        let now = Monotonic(self.now);
        self.http
            .skip(from_client, count, now, &mut self.heads, out);
        assert_eq!(self.http.skippable(from_client), skippable - count);
    }

    fn hold(&mut self, bytes: &[u8], follows: bool) -> Vec<InFlight> {
        let before = (self.http.weight(), self.http.ordinal());
        let held = Held {
            since: Monotonic(self.now),
            length: bytes.len() as u32,
            head: bytes.to_vec(),
        };
        let requests = self.http.held(&held, follows, &mut self.heads);
        assert!(requests.len() <= bytes.len() / 9);
        assert_eq!(before, (self.http.weight(), self.http.ordinal()));
        requests
    }

    /// A header block is held, and comes: what was known of it is so.
    fn hold_and_push(&mut self, frame: &[u8]) {
        let whole = self.http.to_next_frame(true) == Some(0);
        let known = self.hold(frame, true);
        self.push(true, frame);
        if self.over || !whole {
            return;
        }
        let requests = self.http.in_flight().map(|it| it.request);
        let told = self.told.iter().map(|it| it.request.clone());
        let all: Vec<_> = requests.chain(told).collect();
        for request in known.iter().map(|it| &it.request) {
            assert!(all.iter().any(|it| it == request), "{request:?}");
        }
    }

    fn close(&mut self, by: ClosedBy) {
        let closed = Closed {
            at: Monotonic(self.now),
            by,
            reset: false,
            transfer: Transfer::default(),
        };
        self.http
            .close(&closed, &mut |exchange| self.told.push(exchange));
        assert_eq!(self.http.in_flight().count(), 0);
    }

    fn step(&mut self, script: &mut Script<'_>) {
        let operation = script.byte();
        let from_client = operation & CLIENT != 0;
        self.now += u64::from(operation);
        let now = Monotonic(self.now);
        match operation & 0xf {
            0 => self.push(from_client, script.bytes()),
            1 => self.skip(from_client, script.byte().into()),
            2 => {
                let out = &mut |exchange| self.told.push(exchange);
                self.http.lose(from_client, out);
            }
            3 => self.http.resume(from_client),
            4 => self.http.set_hole(operation & 0x40 != 0),
            5 => {
                let out = &mut |exchange| self.told.push(exchange);
                self.http.end_of_stream(from_client, now, out);
            }
            6 => {
                self.hold(script.bytes(), operation & 0x40 != 0);
            }
            7 => {
                self.http.shrink();
                self.http.quieten();
                let _ = self.http.take_losses();
            }
            9 => {
                let mut frame = script.frame(false);
                // HEADERS, with END_HEADERS.
                (frame[3], frame[4]) = (1, frame[4] | 4);
                self.hold_and_push(&frame);
            }
            _ => {
                let frame = script.frame(true);
                self.push(from_client, &frame);
            }
        }
    }
}

fn run(data: &[u8], cut: usize) -> Vec<Exchange> {
    let mut script = Script(data);
    let mut run = Run::new(script.byte(), cut);
    let by = [ClosedBy::Local, ClosedBy::Remote, ClosedBy::Timeout][usize::from(script.byte()) % 3];
    while !run.over && !script.0.is_empty() {
        run.step(&mut script);
        let bytes = run.bytes[0] + run.bytes[1];
        assert!(run.http.understood() <= bytes);
        assert!(run.http.weight() as u64 <= (64 << 10) + bytes * 256);
        assert!(run.http.weight() <= 4 << 20);
        assert!(run.http.in_flight().count() <= MAX_STREAMS);
    }
    if !run.over {
        run.close(by);
    }
    let mut ordinals = HashSet::new();
    let mut streams = HashSet::new();
    for exchange in &run.told {
        assert!(exchange.ordinal < run.http.ordinal());
        assert!(ordinals.insert(exchange.ordinal));
        assert!(exchange.pushed || streams.insert(exchange.stream));
        let answered = matches!(exchange.outcome, Outcome::Complete | Outcome::Tunnel);
        assert!(!answered || exchange.received.is_some());
        assert!(exchange.status.is_none() || exchange.received.is_some());
        let received = exchange.received.map_or(0, |side| side.body_bytes);
        assert!(received <= run.bytes[0] && exchange.sent.body_bytes <= run.bytes[1]);
    }
    run.told
}

fuzz_target!(|data: &[u8]| {
    let Some((cut, data)) = data.split_first() else {
        return;
    };
    let whole = run(data, usize::MAX);
    assert_eq!(run(data, usize::from(*cut).max(1)), whole);
});
