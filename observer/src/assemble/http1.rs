//! One HTTP/1 connection: which bytes are which message, and which response answers which request.

pub mod body;
mod exchanges;
mod half;
pub mod head;
mod messages;
mod piece;

use std::{collections::VecDeque, sync::Arc};

use body::{Body, State};
use exchanges::{requests, responses};
use half::{Half, Partial, Pending};
use head::Parsed;
pub use piece::Piece;

use super::{grpc::Calling, heads::Heads};
use crate::model::{
    connection::{Closed, ConnectionId, Role},
    exchange::{Exchange, InFlight, Outcome, RequestHead, Side},
    mesh::Forwarded,
    time::Monotonic,
    trace::TraceContext,
};

/// Longest head that is assembled; beyond it the connection is given up.
pub const MAX_HEAD: usize = 64 << 10;
/// Requests that may wait for their responses on one connection. Those that came before are still
/// answered; then the connection is given up.
pub const MAX_PIPELINE: usize = 4096;

/// What became of the connection after some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Http,
    /// It is another protocol from here on: a tunnel, or what an upgrade made of it.
    Tunnel,
    /// It is HTTP/2 from here on: see [`Http1::take_upgrade`].
    Upgraded,
    /// It never was HTTP.
    NotHttp,
    /// It was HTTP, and what came now is not.
    Broken,
    /// More requests waited than [`MAX_PIPELINE`]; those were not read.
    Full,
    /// Its order is lost: a response came that no request asked for.
    Unpaired,
}

/// A request that asked for HTTP/2, and is to be answered there.
#[derive(Clone, Debug)]
pub struct Upgraded {
    /// Its head.
    pub head: Arc<RequestHead>,
    /// Number of its exchange.
    pub ordinal: u64,
    /// Its times and sizes.
    pub sent: Side,
    /// Sequence and acknowledgement number of its first byte.
    pub hop: (u32, u32),
    /// What its fields say of its trace.
    pub context: Option<Arc<TraceContext>>,
    /// What proxies told in its fields.
    pub forwarded: Option<Arc<Forwarded>>,
}

/// The messages of one HTTP/1 connection.
#[derive(Debug)]
pub struct Http1 {
    connection: ConnectionId,
    role: Role,
    client: Half,
    server: Half,
    queue: VecDeque<Pending>,
    /// How many of them are calls of gRPC-Web.
    calls: usize,
    ordinal: u64,
    /// A response was understood: the connection is HTTP beyond doubt.
    proven: bool,
    /// The client's bytes are not followed any more. What the connection comes to when the
    /// requests before are answered.
    verdict: Option<Verdict>,
    /// The client was the first to send a FIN; `None` before any.
    client_first: Option<bool>,
    /// Bytes of the client are missing after those that were taken.
    hole: bool,
    /// Bytes of heads and bodies, both ways.
    understood: u64,
    /// What asked for HTTP/2, and was granted it.
    upgraded: Option<Upgraded>,
    /// Bytes at the end of what was pushed last that were not read: they are of another protocol.
    unread: usize,
}

// === impl Verdict ===

impl Verdict {
    /// Name as a label value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Tunnel => "tunnel",
            Self::Upgraded => "upgraded",
            Self::NotHttp => "not_http",
            Self::Broken => "broken",
            Self::Full => "full",
            Self::Unpaired => "unpaired",
        }
    }
}

// === impl Http1 ===

impl Http1 {
    /// A connection before its first byte, or at the start of a request.
    pub fn new(connection: ConnectionId, role: Role, ordinal: u64) -> Self {
        Self {
            connection,
            role,
            client: Half::Head(None),
            server: Half::Head(None),
            queue: VecDeque::new(),
            calls: 0,
            ordinal,
            proven: false,
            verdict: None,
            client_first: None,
            hole: false,
            understood: 0,
            upgraded: None,
            unread: 0,
        }
    }

    /// Number of the next exchange.
    pub fn ordinal(&self) -> u64 {
        self.ordinal
    }

    /// Bytes of heads and bodies so far, both ways.
    pub fn understood(&self) -> u64 {
        self.understood
    }

    /// Whether no message is under way.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty()
            && matches!(self.client, Half::Head(None))
            && matches!(self.server, Half::Head(None))
    }

    /// After [`Verdict::Upgraded`]: the request that asked for it, and how many bytes at the end of
    /// what was pushed last are of the new protocol.
    pub fn take_upgrade(&mut self) -> Option<(Upgraded, usize)> {
        Some((self.upgraded.take()?, self.unread))
    }

    /// Whether any response was understood.
    pub fn is_proven(&self) -> bool {
        self.proven
    }

    /// Requests that wait for the end of their responses.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Requests that wait for the end of their responses, oldest first.
    pub fn in_flight(&self) -> impl Iterator<Item = InFlight> {
        self.queue.iter().map(|pending| InFlight {
            connection: self.connection,
            role: self.role,
            request: Arc::clone(&pending.head),
            since: pending.sent.first,
        })
    }

    /// Bytes of memory that messages under way take.
    pub fn weight(&self) -> usize {
        self.client.weight()
            + self.server.weight()
            + self.queue.capacity() * size_of::<Pending>()
            + self.calls * size_of::<Calling>()
    }

    /// Gives back memory that a burst of requests took.
    pub fn shrink(&mut self) {
        self.queue.shrink_to(self.queue.len() * 2);
    }

    /// Gives back the memory that requests took, when there are none: most connections are idle most
    /// of the time.
    pub fn quieten(&mut self) {
        if self.queue.is_empty() && self.queue.capacity() > 0 {
            self.queue = VecDeque::new();
        }
    }

    /// Says whether bytes of the client are missing.
    pub fn set_hole(&mut self, hole: bool) {
        self.hole = hole;
    }

    /// Bytes ahead in one direction that need not be seen.
    pub fn skippable(&self, from_client: bool) -> u64 {
        if from_client {
            self.client.skippable()
        } else {
            self.server.skippable()
        }
    }

    /// Takes `count` bytes that were not seen, at most [`Http1::skippable`].
    pub fn skip(
        &mut self,
        from_client: bool,
        count: u64,
        time: Monotonic,
        out: &mut dyn FnMut(Exchange),
    ) {
        let half = if from_client {
            &mut self.client
        } else {
            &mut self.server
        };
        if let Half::Body(body) = half {
            let state = body.skip(count);
            self.understood += count;
            if from_client {
                self.sent(count, time);
                if let Some(walker) = requests(&mut self.queue) {
                    walker.skip(count, time);
                }
                if state == State::Done {
                    self.request_ended(out);
                }
            } else {
                self.received(count, time);
                if let Some(walker) = responses(&mut self.queue) {
                    walker.skip(count, time);
                }
                if state == State::Done {
                    self.response_ended(out);
                }
            }
        }
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
            let (used, verdict) = if from_client {
                self.push_request(piece, heads, out)
            } else {
                self.push_response(piece, heads, out)
            };
            if verdict != Verdict::Http {
                self.unread = piece.bytes.len().saturating_sub(used);
                return verdict;
            }
            if let Some(verdict) = self.verdict
                && self.queue.is_empty()
            {
                return verdict;
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
        let client_first = *self.client_first.get_or_insert(from_client);
        if from_client {
            // A half-closed client still waits for its responses.
            if let Some(pending) = self.queue.back_mut() {
                pending.sent_all = true;
            }
            self.client = Half::Ignored;
            self.emit_ready(out);
            return;
        }
        if matches!(self.server, Half::Body(Body::UntilClose)) {
            self.received(0, time);
            self.response_ended(out);
        }
        self.server = Half::Ignored;
        // A server that sees its client leave leaves as well: it is not the one who gave up.
        self.abandon(Outcome::aborted_by(Some(client_first)), time, out);
    }

    /// The connection ended.
    pub fn close(&mut self, closed: &Closed, out: &mut dyn FnMut(Exchange)) {
        let client = closed.by.is_client(self.role, self.client_first);
        let outcome = match client {
            // The FIN would have ended this body. It was sent, and is lost to us.
            Some(false) if !closed.reset && matches!(self.server, Half::Body(Body::UntilClose)) => {
                Outcome::Lost
            }
            client => Outcome::aborted_by(client),
        };
        self.abandon(outcome, closed.at, out);
    }

    /// Ends every exchange that is under way; those that are answered in full are complete.
    pub fn abandon(&mut self, outcome: Outcome, time: Monotonic, out: &mut dyn FnMut(Exchange)) {
        while let Some(pending) = self.queue.pop_front() {
            let last = pending.last_byte();
            let (outcome, ended) = match outcome {
                _ if pending.is_answered() => (Outcome::Complete, last),
                // When it ended is what we do not know.
                Outcome::Lost => (outcome, last),
                _ => (outcome, time),
            };
            out(self.exchange(pending, outcome, ended));
        }
    }

    /// Ends every exchange under way because bytes are missing; also the one of a request of which
    /// only the start is there.
    pub fn lose(&mut self, heads: &mut Heads, out: &mut dyn FnMut(Exchange)) {
        self.begin_opening(heads);
        self.abandon(Outcome::Lost, Monotonic(0), out);
    }

    fn push_request(
        &mut self,
        piece: Piece<'_>,
        heads: &mut Heads,
        out: &mut dyn FnMut(Exchange),
    ) -> (usize, Verdict) {
        match &mut self.client {
            Half::Ignored | Half::Waiting => (piece.bytes.len(), Verdict::Http),
            Half::Body(body) => {
                let mut walker = requests(&mut self.queue);
                let progress = body.push(piece.bytes, |content| {
                    if let Some(walker) = &mut walker {
                        walker.push(content, piece.time);
                    }
                });
                self.understood += progress.consumed as u64;
                self.sent(progress.content, piece.time);
                match progress.state {
                    State::More => {}
                    State::Done => self.request_ended(out),
                    // The server will refuse it and close; its answer is still of interest.
                    State::Malformed => {
                        self.request_ended(out);
                        self.stop_requests(Verdict::Broken);
                    }
                }
                (progress.consumed.max(1), Verdict::Http)
            }
            Half::Head(None) => {
                // Empty lines between messages belong to none (RFC 9112 section 2.2).
                let blank = head::blank_lines(piece.bytes);
                if blank > 0 {
                    return (blank, Verdict::Http);
                }
                if self.queue.len() >= MAX_PIPELINE {
                    self.stop_requests(Verdict::Full);
                    return (piece.bytes.len(), Verdict::Http);
                }
                match head::request(piece.bytes, 0) {
                    Parsed::Complete(request, length) if length <= MAX_HEAD => {
                        self.begin(&request, length, piece.hop, (piece.time, piece.time), heads);
                        (length, Verdict::Http)
                    }
                    Parsed::Partial if piece.bytes.len() <= MAX_HEAD => {
                        self.client = Half::Head(Some(Partial::new(piece)));
                        (piece.bytes.len(), Verdict::Http)
                    }
                    _ => (piece.bytes.len(), self.not_a_request()),
                }
            }
            Half::Head(Some(partial)) => {
                let before = partial.buffer.len();
                partial.add(piece);
                // A head that is complete is not kept longer than until here.
                let Half::Head(Some(partial)) =
                    std::mem::replace(&mut self.client, Half::Head(None))
                else {
                    return (piece.bytes.len(), Verdict::Http);
                };
                match head::request(&partial.buffer, before) {
                    Parsed::Complete(request, length) if length <= MAX_HEAD => {
                        let times = (partial.first, partial.last);
                        self.begin(&request, length, partial.hop, times, heads);
                        (length.saturating_sub(before), Verdict::Http)
                    }
                    Parsed::Partial if partial.buffer.len() <= MAX_HEAD => {
                        self.client = Half::Head(Some(partial));
                        (piece.bytes.len(), Verdict::Http)
                    }
                    _ => (piece.bytes.len(), self.not_a_request()),
                }
            }
        }
    }

    fn push_response(
        &mut self,
        piece: Piece<'_>,
        heads: &mut Heads,
        out: &mut dyn FnMut(Exchange),
    ) -> (usize, Verdict) {
        match &mut self.server {
            Half::Ignored | Half::Waiting => (piece.bytes.len(), Verdict::Http),
            Half::Body(body) => {
                let mut walker = responses(&mut self.queue);
                let progress = body.push(piece.bytes, |content| {
                    if let Some(walker) = &mut walker {
                        walker.push(content, piece.time);
                    }
                });
                self.understood += progress.consumed as u64;
                self.received(progress.content, piece.time);
                match progress.state {
                    State::More => {}
                    State::Done => self.response_ended(out),
                    State::Malformed => {
                        self.abandon(Outcome::Malformed, piece.time, out);
                        return (0, Verdict::Broken);
                    }
                }
                (progress.consumed.max(1), Verdict::Http)
            }
            Half::Head(None) => match head::response(piece.bytes, 0) {
                Parsed::Complete(response, length) if length <= MAX_HEAD => {
                    let times = (piece.time, piece.time);
                    (length, self.answer(response, length, times, heads, out))
                }
                Parsed::Partial if piece.bytes.len() <= MAX_HEAD => {
                    self.server = Half::Head(Some(Partial::new(piece)));
                    (piece.bytes.len(), Verdict::Http)
                }
                _ => (0, self.not_a_response(piece.time, out)),
            },
            Half::Head(Some(partial)) => {
                let before = partial.buffer.len();
                partial.add(piece);
                match head::response(&partial.buffer, before) {
                    Parsed::Complete(response, length) if length <= MAX_HEAD => {
                        let times = (partial.first, partial.last);
                        self.server = Half::Head(None);
                        let verdict = self.answer(response, length, times, heads, out);
                        (length.saturating_sub(before), verdict)
                    }
                    Parsed::Partial if partial.buffer.len() <= MAX_HEAD => {
                        (piece.bytes.len(), Verdict::Http)
                    }
                    _ => (0, self.not_a_response(piece.time, out)),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
