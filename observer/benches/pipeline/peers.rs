//! Both ends of an HTTP/2 connection, with records of what they say.

use httlib_hpack::Encoder;
use observer::assemble::{Assembler, Sink, http2::frame::PREFACE};

use super::{push, records::Records};

/// Fields of the same exchange in HTTP/2.
pub(super) const REQUEST_FIELDS: &[(&str, &str)] = &[
    (":method", "GET"),
    (":scheme", "http"),
    (":authority", "127.0.0.1:8080"),
    (":path", "/api/v1/users/4711?verbose=1"),
    ("user-agent", "curl/8.14.1"),
    ("accept", "*/*"),
];
pub(super) const RESPONSE_FIELDS: &[(&str, &str)] = &[
    (":status", "200"),
    ("server", "nginx/1.26.3"),
    ("date", "Sat, 01 Nov 2025 12:00:00 GMT"),
    ("content-type", "text/html"),
    ("content-length", "13"),
    ("last-modified", "Sat, 01 Nov 2025 11:00:00 GMT"),
    ("etag", "\"6905f0a0-d\""),
    ("accept-ranges", "bytes"),
];
const CALL_FIELDS: &[(&str, &str)] = &[
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/shop.v1.Users/Get"),
    (":authority", "127.0.0.1:8080"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
    ("user-agent", "grpc-c++/1.76.0 grpc-c/50.0.0"),
    ("grpc-accept-encoding", "identity, deflate, gzip"),
];
const ANSWER_FIELDS: &[(&str, &str)] = &[
    (":status", "200"),
    ("content-type", "application/grpc"),
    ("grpc-accept-encoding", "identity, deflate, gzip"),
];
const TRAILER_FIELDS: &[(&str, &str)] = &[("grpc-status", "0")];
const MESSAGE: &[u8] = b"\0\0\0\0\x0dhello, world\n";
/// Types and flags of frames (RFC 9113 section 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Frames of some streams, again and again.
#[derive(Default)]
struct Frames {
    bytes: Vec<u8>,
    /// Where the numbers of streams are, and which stream of the batch it is.
    numbers: Vec<(usize, u32)>,
}

/// Both ends of an HTTP/2 connection that sends the same exchanges again and again.
pub(super) struct Peers {
    records: Records,
    client: Encoder<'static>,
    server: Encoder<'static>,
    /// Next stream.
    pub(super) next_stream: u32,
    streams: u32,
    request: Frames,
    response: Frames,
    record: Vec<u8>,
}

// === impl Frames ===

impl Frames {
    fn add(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = payload.len() as u32;
        self.bytes.extend_from_slice(&length.to_be_bytes()[1..]);
        self.bytes.extend_from_slice(&[kind, flags]);
        self.numbers.push((self.bytes.len(), stream));
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(payload);
    }

    /// The streams are those from `first` on.
    fn number(&mut self, first: u32) {
        for (at, stream) in &self.numbers {
            let number = first + 2 * stream;
            self.bytes[*at..at + 4].copy_from_slice(&number.to_be_bytes());
        }
    }
}

// === impl Peers ===

impl Peers {
    /// A connection whose tables have all that its messages say.
    pub(super) fn new(id: u64, streams: u32, calls: bool) -> Self {
        let mut peers = Self {
            records: Records::new(id),
            client: Encoder::default(),
            server: Encoder::default(),
            next_stream: 1,
            streams,
            request: Frames::default(),
            response: Frames::default(),
            record: Vec::new(),
        };
        peers.make(calls);
        peers
    }

    /// Makes the frames: the first time with entries for the tables.
    fn make(&mut self, calls: bool) {
        self.request = Frames::default();
        self.response = Frames::default();
        for stream in 0..self.streams {
            if calls {
                let block = encode(&mut self.client, CALL_FIELDS);
                self.request.add(HEADERS, END_HEADERS, stream, &block);
                self.request.add(DATA, END_STREAM, stream, MESSAGE);
                let block = encode(&mut self.server, ANSWER_FIELDS);
                self.response.add(HEADERS, END_HEADERS, stream, &block);
                self.response.add(DATA, 0, stream, MESSAGE);
                let block = encode(&mut self.server, TRAILER_FIELDS);
                let flags = END_HEADERS | END_STREAM;
                self.response.add(HEADERS, flags, stream, &block);
            } else {
                let block = encode(&mut self.client, REQUEST_FIELDS);
                let flags = END_HEADERS | END_STREAM;
                self.request.add(HEADERS, flags, stream, &block);
                let block = encode(&mut self.server, RESPONSE_FIELDS);
                self.response.add(HEADERS, END_HEADERS, stream, &block);
                self.response
                    .add(DATA, END_STREAM, stream, b"hello, world\n");
            }
        }
    }

    /// Opens the connection: the first exchanges fill the tables, and all others are the same.
    pub(super) fn open(&mut self, calls: bool, assembler: &mut Assembler, out: &mut impl Sink) {
        push(assembler, &self.records.opened(), out);
        let mut settings = Frames::default();
        settings.add(SETTINGS, 0, 0, b"\0\x03\0\0\0\x64");
        let opening = [&PREFACE[..], &settings.bytes].concat();
        let record = self.records.segment(true, &opening);
        push(assembler, &record, out);
        let record = self.records.segment(false, &settings.bytes);
        push(assembler, &record, out);
        self.next(assembler, out);
        self.make(calls);
    }

    pub(super) fn next(&mut self, assembler: &mut Assembler, out: &mut impl Sink) {
        self.request.number(self.next_stream);
        self.response.number(self.next_stream);
        self.next_stream += 2 * self.streams;
        let (request, response) = (&self.request.bytes, &self.response.bytes);
        if self.streams == 1 {
            self.records.pair_of(request, response, &mut self.record);
            push(assembler, &self.record, out);
        } else {
            let record = self.records.segment(true, request);
            push(assembler, &record, out);
            let record = self.records.segment(false, response);
            push(assembler, &record, out);
        }
    }
}

pub(super) fn encode(encoder: &mut Encoder<'static>, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        let flags = Encoder::BEST_FORMAT | Encoder::WITH_INDEXING;
        let field = (name.as_bytes().to_vec(), value.as_bytes().to_vec(), flags);
        encoder.encode(field, &mut block).expect("a field");
    }
    block
}
