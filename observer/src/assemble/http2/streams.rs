//! What the frames of an HTTP/2 connection tell of its streams.

use hashbrown::HashMap;

use super::{
    MAX_STREAMS,
    fields::Fields,
    reader::Told,
    stream::{Reset, Stream, Whose},
};
use crate::{
    assemble::{heads::Heads, hpack::Decoder},
    model::{
        exchange::{Exchange, Outcome, Side},
        time::Monotonic,
    },
};

/// `SETTINGS_HEADER_TABLE_SIZE` (RFC 9113 section 6.5.2).
const HEADER_TABLE_SIZE: u16 = 1;
/// `REFUSED_STREAM` (RFC 9113 section 7).
const REFUSED_STREAM: u32 = 7;

/// All that frames tell.
#[derive(Debug)]
pub(super) struct Streams {
    pub(super) whose: Whose,
    pub(super) table: HashMap<u32, Stream, foldhash::fast::RandomState>,
    pub(super) fields: Fields,
    pub(super) ordinal: u64,
    /// Highest stream that the client opened.
    pub(super) highest: u32,
    /// It was joined midway: there are streams that were never seen.
    pub(super) midway: bool,
    /// A message was read.
    pub(super) proven: bool,
    /// The client was the first to send a FIN; `None` before any.
    pub(super) client_first: Option<bool>,
    /// Bytes of the client are missing after those that were taken.
    pub(super) hole: bool,
    /// Bytes of frames, both ways.
    pub(super) understood: u64,
    /// gRPC was seen.
    pub(super) calls: bool,
    /// `SETTINGS_HEADER_TABLE_SIZE` that the client, or the server, announced just now.
    pub(super) announced: Option<(bool, u32)>,
    pub(super) malformed: u32,
    pub(super) untracked: u64,
    pub(super) unpaired: u64,
}

/// Where a frame was seen.
pub(super) struct Seen<'a, 'b> {
    pub(super) from_client: bool,
    /// When the first byte of the frame, or of its header block, passed.
    pub(super) first: Monotonic,
    pub(super) hop: (u32, u32),
    /// When the last byte passed.
    pub(super) time: Monotonic,
    pub(super) heads: &'a mut Heads,
    pub(super) out: &'a mut (dyn FnMut(Exchange) + 'b),
}

// === impl Streams ===

impl Streams {
    pub(super) fn new(whose: Whose, ordinal: u64, midway: bool) -> Self {
        Self {
            whose,
            table: HashMap::default(),
            fields: Fields::default(),
            ordinal,
            highest: 0,
            midway,
            proven: false,
            client_first: None,
            hole: false,
            understood: 0,
            calls: false,
            announced: None,
            malformed: 0,
            untracked: 0,
            unpaired: 0,
        }
    }

    pub(super) fn told(&mut self, told: Told<'_>, decoder: &mut Decoder, seen: &mut Seen<'_, '_>) {
        let (from_client, time) = (seen.from_client, seen.time);
        match told {
            Told::Data(id, bytes) => {
                if let Some(stream) = self.table.get_mut(&id) {
                    stream.content(from_client, bytes, time);
                }
            }
            Told::DataSkipped(id, count) => {
                if let Some(stream) = self.table.get_mut(&id) {
                    stream.skipped(from_client, count, time);
                }
            }
            Told::DataEnds(id, last) => {
                if let Some(stream) = self.table.get_mut(&id) {
                    stream.touch(from_client, time);
                }
                if last {
                    self.ended(id, seen);
                }
            }
            Told::Headers(id, block, bytes, last) => {
                let read = self.fields.read(decoder, block);
                self.malformed += u32::from(read.is_err());
                self.head(id, bytes, seen);
                if last {
                    self.ended(id, seen);
                }
            }
            Told::Unreadable(id, bytes, last) => {
                self.fields = Fields::default();
                self.head(id, bytes, seen);
                if last {
                    self.ended(id, seen);
                }
            }
            Told::Promise(promised, block, bytes) => {
                let read = self.fields.read(decoder, block);
                self.malformed += u32::from(read.is_err());
                if !from_client && self.has_room() {
                    self.begin(promised, bytes, seen);
                    if let Some(stream) = self.table.get_mut(&promised) {
                        stream.pushed = true;
                        stream.sent_all = true;
                    }
                }
            }
            Told::Reset(id, code) => self.reset(id, code, seen),
            Told::GoAway(last, code) => {
                if !from_client {
                    self.go_away(last, code, seen);
                }
            }
            Told::Setting(HEADER_TABLE_SIZE, size) => self.announced = Some((from_client, size)),
            Told::Setting(..) => {}
        }
    }

    /// A header block was read into `fields`.
    fn head(&mut self, id: u32, bytes: u64, seen: &mut Seen<'_, '_>) {
        if seen.from_client {
            self.proven |= self.fields.of_request;
            match self.table.get_mut(&id) {
                None if id > self.highest && id % 2 == 1 => {
                    self.highest = id;
                    if self.has_room() {
                        self.begin(id, bytes, seen);
                    }
                }
                // Of a stream that is over, or was never seen to begin.
                None => {}
                Some(stream) if stream.request.is_none() => {
                    self.highest = self.highest.max(id);
                    self.begin(id, bytes, seen);
                }
                // Trailers.
                Some(stream) => stream.touch(true, seen.time),
            }
        } else {
            self.proven |= self.fields.status.is_some();
            if !self.table.contains_key(&id) && id % 2 == 1 && id > self.highest && !self.midway {
                if !self.hole || !self.has_room() {
                    self.unpaired += 1;
                    return;
                }
                // Its request is among bytes that overtook each other on their way here.
                self.table.insert(id, Stream::new(seen.first, seen.hop));
            }
            self.answer(id, bytes, seen);
        }
    }

    fn has_room(&mut self) -> bool {
        let room = self.table.len() < MAX_STREAMS;
        self.untracked += u64::from(!room);
        room
    }

    /// A request begins, or the one whose response came first.
    fn begin(&mut self, id: u32, bytes: u64, seen: &mut Seen<'_, '_>) {
        let stream = self
            .table
            .entry(id)
            .or_insert_with(|| Stream::new(seen.first, seen.hop));
        stream.request = Some(self.fields.request(seen.heads));
        stream.context = seen.heads.context(&self.fields.trace);
        let asked = self.fields.asked();
        stream.forwarded = seen.heads.asked(&asked, &self.fields.trace);
        stream.ordinal = self.ordinal;
        self.ordinal += 1;
        stream.hop = seen.hop;
        stream.connects = self.fields.is_connect();
        stream.sent = Side {
            first: seen.first,
            last: seen.time,
            head_bytes: bytes,
            body_bytes: 0,
        };
        if let Some(format) = self.fields.rpc {
            self.calls = true;
            stream.calls(format, self.fields.deadline);
        }
    }

    /// A header block of the server: the head of a response, an interim one, or trailers.
    fn answer(&mut self, id: u32, bytes: u64, seen: &mut Seen<'_, '_>) {
        let fields = &self.fields;
        let Some(stream) = self.table.get_mut(&id) else {
            return;
        };
        if matches!(fields.status, Some(100..200)) {
            // The final response follows (RFC 9110 section 15.2).
            return;
        }
        let known = stream.received.is_some();
        if known && fields.status.is_none() {
            stream.touch(false, seen.time);
            if let Some(rpc) = &mut stream.rpc {
                rpc.status = fields.rpc_status.or(rpc.status);
            }
            return;
        }
        // A first block without a status that could be read may have been an interim response.
        stream.status = fields.status;
        let answered = fields.answered;
        stream.forwarded = seen.heads.answered(stream.forwarded.take(), answered);
        stream.received = Some(Side {
            first: seen.first,
            last: seen.time,
            head_bytes: bytes,
            body_bytes: 0,
        });
        if stream.rpc.is_none()
            && let Some(format) = fields.rpc
        {
            // Of the request the content type was not seen.
            self.calls = true;
            stream.calls(format, None);
            if let Some(rpc) = &mut stream.rpc {
                rpc.requests.lose();
            }
        }
        if let Some(rpc) = &mut stream.rpc {
            // What cannot be read is most likely what was asked for; other content has no prefixes,
            // and ends the count.
            let unseen = fields.unknown.then_some(rpc.format);
            rpc.answered(fields.rpc.or(unseen), fields.rpc_status);
        }
        if stream.connects && matches!(stream.status, Some(200..300)) && !stream.told {
            stream.told = true;
            let told = std::mem::replace(stream, Stream::new(seen.first, seen.hop));
            stream.told = true;
            if let Some(exchange) = told.exchange(id, self.whose, Outcome::Tunnel, None, seen.time)
            {
                (seen.out)(exchange);
            }
        }
    }

    /// One side has sent all of a stream.
    fn ended(&mut self, id: u32, seen: &mut Seen<'_, '_>) {
        let Some(stream) = self.table.get_mut(&id) else {
            return;
        };
        if seen.from_client {
            stream.sent_all = true;
        } else {
            stream.received_all = true;
        }
        let lost = stream.uncertain && stream.received_all && !stream.sent_all;
        if stream.is_over() || lost {
            let outcome = if lost {
                Outcome::Lost
            } else {
                stream.answered()
            };
            self.finish(id, outcome, None, None, seen);
        }
    }

    fn reset(&mut self, id: u32, code: u32, seen: &mut Seen<'_, '_>) {
        let Some(stream) = self.table.get(&id) else {
            return;
        };
        if stream.received_all {
            // The rest of the request is not wanted, or not sent, any more.
            let outcome = stream.answered();
            self.finish(id, outcome, None, None, seen);
            return;
        }
        let from_client = seen.from_client;
        let outcome = match (from_client, code) {
            (true, _) => Outcome::ClientAborted,
            (false, REFUSED_STREAM) => Outcome::Refused,
            (false, _) => Outcome::ServerAborted,
        };
        let reset = Reset { from_client, code };
        self.finish(id, outcome, Some(reset), Some(seen.time), seen);
    }

    /// The server works on no stream above `last`.
    fn go_away(&mut self, last: u32, code: u32, seen: &mut Seen<'_, '_>) {
        let mut refused: Vec<u32> = self
            .table
            .iter()
            .filter(|(id, stream)| **id > last && *id % 2 == 1 && stream.received.is_none())
            .map(|(id, _)| *id)
            .collect();
        refused.sort_unstable();
        let reset = Reset {
            from_client: false,
            code,
        };
        for id in refused {
            self.finish(id, Outcome::Refused, Some(reset), Some(seen.time), seen);
        }
    }

    fn finish(
        &mut self,
        id: u32,
        outcome: Outcome,
        reset: Option<Reset>,
        at: Option<Monotonic>,
        seen: &mut Seen<'_, '_>,
    ) {
        let Some(stream) = self.table.remove(&id) else {
            return;
        };
        if stream.told {
            return;
        }
        let ended = at.unwrap_or_else(|| stream.last_byte());
        match stream.exchange(id, self.whose, outcome, reset, ended) {
            Some(exchange) => (seen.out)(exchange),
            None => self.unpaired += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Http2;
    use super::*;
    use crate::{
        assemble::http1::Piece,
        model::{
            connection::{ConnectionId, Role},
            rpc::RpcEnd,
        },
    };

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags, 0, 0, 0, 1]);
        bytes.extend(payload);
        bytes
    }

    #[test]
    fn a_response_whose_content_type_was_not_seen_has_messages() {
        let request = b"\x83\x44\x06/a.B/C\x5f\x10application/grpc";
        // Status 200, then an entry that was inserted before.
        let head = b"\x88\xbe";
        let trailers = b"\x40\x0bgrpc-status\x010";
        let message = b"\0\0\0\0\x03abc";
        for (content, count, at_least) in [(&message[..], 1, false), (b"<html>", 0, true)] {
            let mut http = Http2::midway(ConnectionId(1), Role::Client, 0);
            let mut heads = Heads::new(4);
            let mut exchanges = Vec::new();
            for (from_client, bytes) in [
                (true, frame(1, 4, request)),
                (true, frame(0, 1, message)),
                (false, frame(1, 4, head)),
                (false, frame(0, 0, content)),
                (false, frame(1, 5, trailers)),
            ] {
                http.resume(from_client);
                let piece = Piece {
                    bytes: &bytes,
                    time: Monotonic(1),
                    hop: (0, 0),
                };
                http.push(from_client, piece, &mut heads, &mut |exchange| {
                    exchanges.push(exchange);
                });
            }
            let [exchange] = &exchanges[..] else {
                panic!("{exchanges:?}");
            };
            let rpc = exchange.rpc.as_ref().unwrap();
            assert_eq!(rpc.end, RpcEnd::Status(0));
            assert_eq!((rpc.requests.count, rpc.requests.at_least), (1, false));
            let responses = (rpc.responses.count, rpc.responses.at_least);
            assert_eq!(responses, (count, at_least));
        }
    }
}
