//! One HTTP/1 connection: which bytes are which message, and which response answers which request.

pub mod body;
pub mod head;

use std::{collections::VecDeque, sync::Arc};

use body::{Body, State};
use head::{BodyLength, Parsed};

use super::heads::Heads;
use crate::model::{
    connection::{ClosedBy, ConnectionId, Role},
    event::Segment,
    exchange::{Exchange, HttpVersion, InFlight, Outcome, RequestHead, Side},
    time::Monotonic,
};

/// Longest head that is assembled; beyond it the connection is given up.
pub const MAX_HEAD: usize = 64 << 10;
/// Requests that may wait for their responses on one connection.
pub const MAX_PIPELINE: usize = 4096;

/// What became of the connection after some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Http,
    /// It is another protocol from here on: a tunnel, or what an upgrade made of it.
    Tunnel,
    /// It never was HTTP.
    NotHttp,
    /// It was HTTP, and what came now is not.
    Broken,
    /// Its order is lost: a response came that no request asked for.
    Unpaired,
}

/// Piece of a stream.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a> {
    /// Its bytes.
    pub bytes: &'a [u8],
    /// When they passed the socket.
    pub time: Monotonic,
    /// Sequence and acknowledgement number of the segment that they came in.
    pub hop: (u32, u32),
}

/// The messages of one HTTP/1 connection.
#[derive(Debug)]
pub struct Http1 {
    connection: ConnectionId,
    role: Role,
    client: Half,
    server: Half,
    queue: VecDeque<Pending>,
    ordinal: u64,
    /// A response was understood: the connection is HTTP beyond doubt.
    proven: bool,
    /// Bytes of heads and bodies, both ways.
    understood: u64,
}

/// One direction of the connection.
#[derive(Debug)]
enum Half {
    /// Between messages, or in a head.
    Head(Box<Partial>),
    /// In a body.
    Body(Body),
    /// Waits for the answer to CONNECT; what the client sends meanwhile is not looked at.
    Waiting,
    /// Nothing in this direction is looked at any more.
    Ignored,
}

/// A head of which not all is there.
#[derive(Debug, Default)]
struct Partial {
    buffer: Vec<u8>,
    first: Option<(Monotonic, (u32, u32))>,
}

/// A request that is not answered in full.
#[derive(Debug)]
struct Pending {
    head: Arc<RequestHead>,
    expects: Expects,
    ordinal: u64,
    sent: Side,
    sent_all: bool,
    hop: (u32, u32),
    answer: Option<Answer>,
}

/// What the request says of its response's framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expects {
    Content,
    NoContent,
    Tunnel,
    Upgrade,
}

/// The response so far.
#[derive(Clone, Copy, Debug)]
struct Answer {
    status: u16,
    version: HttpVersion,
    side: Side,
    whole: bool,
}

// === impl Verdict ===

impl Verdict {
    /// Name as a label value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Tunnel => "tunnel",
            Self::NotHttp => "not_http",
            Self::Broken => "broken",
            Self::Unpaired => "unpaired",
        }
    }
}

// === impl Half ===

impl Half {
    fn head() -> Self {
        Self::Head(Box::default())
    }

    /// The state after a head with this body; `None` for no body.
    fn after(body: Option<Body>) -> Self {
        body.map_or_else(Self::head, Self::Body)
    }
}

// === impl Http1 ===

impl Http1 {
    /// A connection before its first byte, or at the start of a request.
    pub fn new(connection: ConnectionId, role: Role, ordinal: u64) -> Self {
        Self {
            connection,
            role,
            client: Half::head(),
            server: Half::head(),
            queue: VecDeque::new(),
            ordinal,
            proven: false,
            understood: 0,
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
        let between =
            |half: &Half| matches!(half, Half::Head(partial) if partial.buffer.is_empty());
        self.queue.is_empty() && between(&self.client) && between(&self.server)
    }

    /// Whether any response was understood.
    pub fn is_proven(&self) -> bool {
        self.proven
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

    /// Bytes ahead in one direction that need not be seen.
    pub fn skippable(&self, from_client: bool) -> u64 {
        match if from_client {
            &self.client
        } else {
            &self.server
        } {
            Half::Body(body) => body.skippable(),
            Half::Head(_) => 0,
            Half::Waiting | Half::Ignored => u64::MAX,
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
                if state == State::Done {
                    self.request_ended(out);
                }
            } else {
                self.received(count, time);
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
                self.push_response(piece, out)
            };
            if verdict != Verdict::Http {
                return verdict;
            }
            piece.bytes = piece.bytes.get(used..).unwrap_or(b"");
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
        self.abandon(Outcome::ServerAborted, time, out);
    }

    /// The connection ended.
    pub fn close(&mut self, by: ClosedBy, time: Monotonic, out: &mut dyn FnMut(Exchange)) {
        let outcome = match (by, self.role) {
            (ClosedBy::Local, Role::Client) | (ClosedBy::Remote, Role::Server) => {
                Outcome::ClientAborted
            }
            (ClosedBy::Local, Role::Server) | (ClosedBy::Remote, Role::Client) => {
                Outcome::ServerAborted
            }
            _ => Outcome::Aborted,
        };
        self.abandon(outcome, time, out);
    }

    /// Ends every exchange that is under way; those that are answered in full are complete.
    pub fn abandon(&mut self, outcome: Outcome, time: Monotonic, out: &mut dyn FnMut(Exchange)) {
        while let Some(pending) = self.queue.pop_front() {
            let whole = pending.answer.is_some_and(|answer| answer.whole);
            let outcome = if whole { Outcome::Complete } else { outcome };
            out(self.exchange(pending, outcome, time));
        }
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
                let progress = body.push(piece.bytes);
                self.understood += progress.consumed as u64;
                self.sent(progress.content, piece.time);
                match progress.state {
                    State::More => {}
                    State::Done => self.request_ended(out),
                    // The server will refuse it and close; its answer is still of interest.
                    State::Malformed => {
                        self.request_ended(out);
                        self.client = Half::Ignored;
                    }
                }
                (progress.consumed.max(1), Verdict::Http)
            }
            Half::Head(partial) => {
                let first = partial.first.unwrap_or((piece.time, piece.hop));
                if partial.buffer.is_empty() {
                    match head::request(piece.bytes, 0) {
                        Parsed::Complete(request, length) => {
                            let head = heads.intern(&request);
                            let (body, expects) = (request.body, expects(&request));
                            self.begin(head, body, expects, length, first, piece.time);
                            return (length, Verdict::Http);
                        }
                        Parsed::Partial => {
                            // Empty lines between messages are not the start of one.
                            if !piece.bytes.iter().all(|byte| matches!(byte, b'\r' | b'\n')) {
                                partial.buffer.extend_from_slice(piece.bytes);
                                partial.first = Some(first);
                            }
                            return (piece.bytes.len(), Verdict::Http);
                        }
                        Parsed::Invalid => return (0, self.not_a_request(piece.time, out)),
                    }
                }
                let before = partial.buffer.len();
                partial.buffer.extend_from_slice(piece.bytes);
                let buffer = std::mem::take(&mut partial.buffer);
                match head::request(&buffer, before) {
                    Parsed::Complete(request, length) => {
                        let head = heads.intern(&request);
                        let (body, expects) = (request.body, expects(&request));
                        self.begin(head, body, expects, length, first, piece.time);
                        (length.saturating_sub(before), Verdict::Http)
                    }
                    Parsed::Partial if buffer.len() <= MAX_HEAD => {
                        partial.buffer = buffer;
                        (piece.bytes.len(), Verdict::Http)
                    }
                    Parsed::Partial | Parsed::Invalid => (0, self.not_a_request(piece.time, out)),
                }
            }
        }
    }

    fn push_response(
        &mut self,
        piece: Piece<'_>,
        out: &mut dyn FnMut(Exchange),
    ) -> (usize, Verdict) {
        match &mut self.server {
            Half::Ignored | Half::Waiting => (piece.bytes.len(), Verdict::Http),
            Half::Body(body) => {
                let progress = body.push(piece.bytes);
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
            Half::Head(partial) => {
                let first = partial.first.map_or(piece.time, |(time, _)| time);
                let before = partial.buffer.len();
                let parsed = if before == 0 {
                    head::response(piece.bytes, 0)
                } else {
                    partial.buffer.extend_from_slice(piece.bytes);
                    head::response(&partial.buffer, before)
                };
                match parsed {
                    Parsed::Complete(response, length) => {
                        let verdict = self.answer(response, length, first, piece.time, out);
                        (length.saturating_sub(before), verdict)
                    }
                    Parsed::Partial if before + piece.bytes.len() <= MAX_HEAD => {
                        if before == 0 {
                            partial.buffer.extend_from_slice(piece.bytes);
                            partial.first = Some((piece.time, piece.hop));
                        }
                        (piece.bytes.len(), Verdict::Http)
                    }
                    Parsed::Partial | Parsed::Invalid => {
                        if !self.proven {
                            self.queue.clear();
                            return (0, Verdict::NotHttp);
                        }
                        self.abandon(Outcome::Malformed, piece.time, out);
                        (0, Verdict::Broken)
                    }
                }
            }
        }
    }

    /// A request head is complete.
    fn begin(
        &mut self,
        head: Arc<RequestHead>,
        length: BodyLength,
        expects: Expects,
        head_bytes: usize,
        (first, hop): (Monotonic, (u32, u32)),
        last: Monotonic,
    ) {
        self.understood += head_bytes as u64;
        let body = Body::new(length);
        self.queue.push_back(Pending {
            head,
            expects,
            ordinal: self.ordinal,
            sent: Side {
                first,
                last,
                head_bytes: head_bytes as u64,
                body_bytes: 0,
            },
            sent_all: body.is_none() || length == BodyLength::Malformed,
            hop,
            answer: None,
        });
        self.ordinal += 1;
        self.client = match (expects, length) {
            (Expects::Tunnel, _) => Half::Waiting,
            (_, BodyLength::Malformed) => Half::Ignored,
            _ => Half::after(body),
        };
        if self.queue.len() > MAX_PIPELINE {
            self.client = Half::Ignored;
        }
    }

    /// A response head is complete.
    fn answer(
        &mut self,
        response: head::Response,
        head_bytes: usize,
        first: Monotonic,
        last: Monotonic,
        out: &mut dyn FnMut(Exchange),
    ) -> Verdict {
        self.proven = true;
        self.understood += head_bytes as u64;
        let Some(pending) = self.queue.front_mut() else {
            return Verdict::Unpaired;
        };
        if pending.answer.is_some() {
            // The request is still being sent, and has its answer already.
            return Verdict::Unpaired;
        }
        let status = response.status;
        if status < 200 && status != 101 {
            // Interim: the final response follows (RFC 9110 section 15.2).
            self.server = Half::head();
            return Verdict::Http;
        }
        let switched =
            status == 101 || pending.expects == Expects::Tunnel && (200..300).contains(&status);
        let none = switched || pending.expects == Expects::NoContent || matches!(status, 204 | 304);
        let body = if none { None } else { Body::new(response.body) };
        pending.answer = Some(Answer {
            status,
            version: response.version,
            side: Side {
                first,
                last,
                head_bytes: head_bytes as u64,
                body_bytes: 0,
            },
            whole: body.is_none(),
        });
        if switched {
            pending.sent_all = true;
            self.client = Half::Ignored;
            self.server = Half::Ignored;
            if let Some(pending) = self.queue.pop_front() {
                out(self.exchange(pending, Outcome::Tunnel, last));
            }
            self.abandon(Outcome::Malformed, last, out);
            return Verdict::Tunnel;
        }
        if pending.expects == Expects::Tunnel {
            // Refused: the client may go on with other requests.
            self.client = Half::head();
        }
        self.server = Half::after(body);
        self.emit_ready(out);
        Verdict::Http
    }

    fn not_a_request(&mut self, time: Monotonic, out: &mut dyn FnMut(Exchange)) -> Verdict {
        if !self.proven && self.queue.is_empty() {
            return Verdict::NotHttp;
        }
        if self
            .queue
            .back()
            .is_some_and(|pending| pending.expects == Expects::Upgrade)
        {
            // It speaks the new protocol before the server agreed.
            self.client = Half::Ignored;
            return Verdict::Http;
        }
        self.abandon(Outcome::Malformed, time, out);
        Verdict::Broken
    }

    fn sent(&mut self, content: u64, time: Monotonic) {
        if let Some(pending) = self.queue.back_mut() {
            pending.sent.body_bytes += content;
            pending.sent.last = time;
        }
    }

    fn received(&mut self, content: u64, time: Monotonic) {
        if let Some(Pending {
            answer: Some(answer),
            ..
        }) = self.queue.front_mut()
        {
            answer.side.body_bytes += content;
            answer.side.last = time;
        }
    }

    fn request_ended(&mut self, out: &mut dyn FnMut(Exchange)) {
        self.client = Half::head();
        if let Some(pending) = self.queue.back_mut() {
            pending.sent_all = true;
        }
        self.emit_ready(out);
    }

    fn response_ended(&mut self, out: &mut dyn FnMut(Exchange)) {
        self.server = Half::head();
        if let Some(Pending {
            answer: Some(answer),
            ..
        }) = self.queue.front_mut()
        {
            answer.whole = true;
        }
        self.emit_ready(out);
    }

    /// Emits the exchanges at the front that are complete both ways.
    fn emit_ready(&mut self, out: &mut dyn FnMut(Exchange)) {
        while let Some(Pending {
            sent_all: true,
            answer: Some(answer),
            ..
        }) = self.queue.front()
            && answer.whole
        {
            if let Some(pending) = self.queue.pop_front() {
                let ended = answer_end(&pending);
                out(self.exchange(pending, Outcome::Complete, ended));
            }
        }
    }

    fn exchange(&self, pending: Pending, outcome: Outcome, ended: Monotonic) -> Exchange {
        Exchange {
            connection: self.connection,
            role: self.role,
            ordinal: pending.ordinal,
            request: pending.head,
            sent: pending.sent,
            status: pending.answer.map(|answer| answer.status),
            response_version: pending.answer.map(|answer| answer.version),
            received: pending.answer.map(|answer| answer.side),
            outcome,
            ended,
            hop: pending.hop,
        }
    }
}

// === impl Piece ===

impl<'a> Piece<'a> {
    /// The bytes of a segment from `trim` on.
    pub fn of(segment: &Segment<'a>, trim: usize) -> Self {
        Self {
            bytes: segment.bytes.get(trim..).unwrap_or(b""),
            time: segment.time,
            hop: (
                segment.sequence.wrapping_add(trim as u32),
                segment.acknowledgement,
            ),
        }
    }
}

fn answer_end(pending: &Pending) -> Monotonic {
    let received = pending
        .answer
        .map_or(pending.sent.last, |answer| answer.side.last);
    received.max(pending.sent.last)
}

fn expects(request: &head::Request<'_>) -> Expects {
    match request.method {
        b"HEAD" => Expects::NoContent,
        b"CONNECT" => Expects::Tunnel,
        _ if request.upgrade => Expects::Upgrade,
        _ => Expects::Content,
    }
}

#[cfg(test)]
mod tests;
