//! One HTTP/2 connection (RFC 9113): frames in, and the exchange of every stream out.
//!
//! Which response answers which request is what the stream says, so nothing is ever guessed: also
//! not on a connection that was joined midway, whose older streams are left out. What a header
//! block refers to and was not seen is unknown.

mod fields;
pub mod frame;
mod held;
mod reader;
mod stream;
mod streams;

use std::sync::Arc;

use hashbrown::HashMap;

use self::{
    reader::{Progress, Reader},
    stream::{Stream, Whose},
    streams::{Seen, Streams},
};
use super::{
    grpc::Calling,
    heads::Heads,
    http1::{Piece, Upgraded, Verdict},
};
use crate::model::{
    connection::{Closed, ConnectionId, Role},
    exchange::{Exchange, InFlight, Outcome},
    time::Monotonic,
};

/// Streams that are followed at once on one connection; more are counted and not followed.
pub const MAX_STREAMS: usize = 4096;
/// Header blocks that cannot be read before the connection is given up.
const MAX_MALFORMED: u32 = 16;

/// The messages of one HTTP/2 connection.
#[derive(Debug)]
pub struct Http2 {
    client: Reader,
    server: Reader,
    streams: Streams,
}

// === impl Http2 ===

impl Http2 {
    /// A connection before its first byte.
    pub fn new(connection: ConnectionId, role: Role, ordinal: u64) -> Self {
        Self {
            client: Reader::from_start(true),
            server: Reader::from_start(false),
            streams: Streams::new(Whose { connection, role }, ordinal, false),
        }
    }

    /// A connection that was joined midway. Nothing is read of a direction before
    /// [`Http2::resume`].
    pub fn midway(connection: ConnectionId, role: Role, ordinal: u64) -> Self {
        Self {
            client: Reader::lost(),
            server: Reader::lost(),
            streams: Streams::new(Whose { connection, role }, ordinal, true),
        }
    }

    /// A connection that HTTP/1 was upgraded to: its first stream has the request that asked for
    /// it (RFC 7540 section 3.2).
    pub fn upgraded(connection: ConnectionId, role: Role, ordinal: u64, asked: Upgraded) -> Self {
        let mut http = Self::new(connection, role, ordinal);
        let mut stream = Stream::new(asked.sent.first, asked.hop);
        stream.request = Some(asked.head);
        stream.ordinal = asked.ordinal;
        stream.sent = asked.sent;
        stream.context = asked.context;
        stream.forwarded = asked.forwarded;
        stream.sent_all = true;
        http.streams.table.insert(1, stream);
        http.streams.highest = 1;
        http
    }

    /// Number of the next exchange.
    pub fn ordinal(&self) -> u64 {
        self.streams.ordinal
    }

    /// Bytes of frames so far, both ways.
    pub fn understood(&self) -> u64 {
        self.streams.understood
    }

    /// Whether any message was read.
    pub fn is_proven(&self) -> bool {
        self.streams.proven
    }

    /// Whether the client's preface is whole.
    pub fn has_started(&self) -> bool {
        !self.client.is_in_preface()
    }

    /// Whether gRPC was seen on it.
    pub fn has_calls(&self) -> bool {
        self.streams.calls
    }

    /// Streams that were not followed because there were too many, and responses on streams that
    /// were never opened, since the last time.
    pub fn take_losses(&mut self) -> (u64, u64) {
        let Streams {
            untracked,
            unpaired,
            ..
        } = &mut self.streams;
        (std::mem::take(untracked), std::mem::take(unpaired))
    }

    /// Requests that are not answered in full.
    pub fn in_flight(&self) -> impl Iterator<Item = InFlight> {
        let Whose { connection, role } = self.streams.whose;
        self.streams.table.values().filter_map(move |stream| {
            Some(InFlight {
                connection,
                role,
                request: Arc::clone(stream.request.as_ref().filter(|_| !stream.told)?),
                since: stream.sent.first,
            })
        })
    }

    /// Bytes of memory that messages under way take.
    pub fn weight(&self) -> usize {
        let entry = size_of::<Stream>() + size_of::<u32>() + 1;
        let table = &self.streams.table;
        let calls = if self.streams.calls { table.len() } else { 0 };
        self.client.weight()
            + self.server.weight()
            + table.capacity() * entry
            + calls * size_of::<Calling>()
    }

    /// Gives back memory that a burst of streams took.
    pub fn shrink(&mut self) {
        let count = self.streams.table.len();
        if self.streams.table.capacity() > 64.max(count * 4) {
            self.streams.table.shrink_to(count * 2);
        }
    }

    /// Gives back the memory that streams took, when there are none.
    pub fn quieten(&mut self) {
        if self.streams.table.is_empty() && self.streams.table.capacity() > 0 {
            self.streams.table = HashMap::default();
        }
    }

    /// Says whether bytes of the client are missing.
    pub fn set_hole(&mut self, hole: bool) {
        self.streams.hole = hole;
    }

    /// Whether a direction cannot be read before [`Http2::resume`].
    pub fn is_lost(&self, from_client: bool) -> bool {
        self.reader(from_client).is_lost()
    }

    /// Bytes ahead in one direction that need not be seen.
    pub fn skippable(&self, from_client: bool) -> u64 {
        self.reader(from_client).skippable()
    }

    /// Bytes ahead in one direction before the next frame; `None` when that is not known.
    pub fn to_next_frame(&self, from_client: bool) -> Option<u64> {
        self.reader(from_client).to_next()
    }

    /// The next byte of a direction that was lost starts a frame.
    pub fn resume(&mut self, from_client: bool) {
        let reader = self.reader_mut(from_client);
        if !reader.is_lost() {
            return;
        }
        reader.resume();
        if !from_client {
            // What these streams wait for may have been among the bytes that were not read.
            for stream in self.streams.table.values_mut() {
                stream.uncertain = true;
            }
        }
    }

    /// Takes `count` bytes that were not seen, at most [`Http2::skippable`].
    pub fn skip(
        &mut self,
        from_client: bool,
        count: u64,
        time: Monotonic,
        heads: &mut Heads,
        out: &mut dyn FnMut(Exchange),
    ) {
        let Self {
            client,
            server,
            streams,
        } = self;
        let reader = if from_client { client } else { server };
        streams.understood += count;
        let (first, hop) = (reader.first, reader.hop);
        let mut seen = Seen {
            from_client,
            first,
            hop,
            time,
            heads,
            out,
        };
        reader.skip(count, |told, decoder| {
            streams.told(told, decoder, &mut seen);
        });
    }

    /// Takes bytes of one direction.
    pub fn push(
        &mut self,
        from_client: bool,
        mut piece: Piece<'_>,
        heads: &mut Heads,
        out: &mut dyn FnMut(Exchange),
    ) -> Verdict {
        while !piece.bytes.is_empty() {
            let Self {
                client,
                server,
                streams,
            } = self;
            let reader = if from_client { client } else { server };
            if reader.is_lost() {
                return Verdict::Http;
            }
            let between = reader.is_between();
            let (first, hop) = if between {
                (piece.time, piece.hop)
            } else {
                (reader.first, reader.hop)
            };
            let mut seen = Seen {
                from_client,
                first,
                hop,
                time: piece.time,
                heads,
                out,
            };
            let progress = reader.push(&piece, |told, decoder| {
                streams.told(told, decoder, &mut seen);
            });
            let Progress::Taken(used) = progress else {
                return self.broken(piece.time, out);
            };
            if streams.malformed > MAX_MALFORMED || !streams.proven && streams.malformed > 0 {
                return self.broken(piece.time, out);
            }
            streams.understood += used as u64;
            if let Some((by_client, size)) = streams.announced.take() {
                // It limits the table of the blocks that are sent to who announced it.
                self.reader_mut(!by_client).decoder.set_limit(size);
            }
            piece.advance(used);
        }
        Verdict::Http
    }

    /// The client, or the server, sends no more.
    pub fn end_of_stream(
        &mut self,
        from_client: bool,
        time: Monotonic,
        out: &mut dyn FnMut(Exchange),
    ) {
        let client_first = *self.streams.client_first.get_or_insert(from_client);
        if from_client {
            // A half-closed client still waits for its responses.
            return;
        }
        self.abandon(Outcome::aborted_by(Some(client_first)), time, out);
    }

    /// The connection ended.
    pub fn close(&mut self, closed: &Closed, out: &mut dyn FnMut(Exchange)) {
        let client = closed
            .by
            .is_client(self.streams.whose.role, self.streams.client_first);
        self.abandon(Outcome::aborted_by(client), closed.at, out);
    }

    /// Bytes of a direction are missing. Nothing is read of it before [`Http2::resume`].
    ///
    /// Of the server's, any response may have ended in them; of the client's, any request, which
    /// shows when the response does.
    pub fn lose(&mut self, from_client: bool, out: &mut dyn FnMut(Exchange)) {
        self.reader_mut(from_client).lose();
        // What the other side is told by SETTINGS may have been among them.
        self.reader_mut(!from_client).decoder.lose_limit();
        self.streams.midway = true;
        if from_client {
            for stream in self.streams.table.values_mut() {
                stream.uncertain = true;
            }
        } else {
            self.abandon(Outcome::Lost, Monotonic(0), out);
        }
    }

    /// Ends every stream that is under way, in order; those that are answered in full are complete.
    pub fn abandon(&mut self, outcome: Outcome, time: Monotonic, out: &mut dyn FnMut(Exchange)) {
        // Any of them may have been answered in bytes that are not read.
        let unread = self.server.is_lost() && outcome != Outcome::Malformed;
        let mut streams: Vec<(u32, Stream)> = self.streams.table.drain().collect();
        streams.sort_unstable_by_key(|(_, stream)| stream.ordinal);
        for (id, stream) in streams {
            if stream.told {
                continue;
            }
            let last = stream.last_byte();
            let (outcome, ended) = match outcome {
                _ if stream.received_all && !stream.uncertain => (stream.answered(), last),
                _ if stream.uncertain || unread => (Outcome::Lost, last),
                Outcome::Lost => (outcome, last),
                _ => (outcome, time),
            };
            let whose = self.streams.whose;
            if let Some(exchange) = stream.exchange(id, whose, outcome, None, ended) {
                out(exchange);
            }
        }
    }

    fn broken(&mut self, time: Monotonic, out: &mut dyn FnMut(Exchange)) -> Verdict {
        if !self.streams.proven {
            self.streams.table.clear();
            return Verdict::NotHttp;
        }
        self.abandon(Outcome::Malformed, time, out);
        Verdict::Broken
    }

    fn reader(&self, from_client: bool) -> &Reader {
        if from_client {
            &self.client
        } else {
            &self.server
        }
    }

    fn reader_mut(&mut self, from_client: bool) -> &mut Reader {
        if from_client {
            &mut self.client
        } else {
            &mut self.server
        }
    }
}

#[cfg(test)]
mod tests;
