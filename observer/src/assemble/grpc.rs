//! gRPC and gRPC-Web inside HTTP: content types, deadlines, statuses, and messages by their
//! prefixes (gRPC over HTTP/2, gRPC-Web, both protocol descriptions of grpc.io).

mod base64;
mod trailers;

use std::time::Duration;

use self::{base64::Base64, trailers::Trailers};
use crate::model::{
    rpc::{Messages, Rpc, RpcEnd, RpcSystem},
    time::Monotonic,
};

/// How messages are put into content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// `application/grpc`: messages behind prefixes.
    Grpc,
    /// `application/grpc-web`: the trailers are one more message.
    Web,
    /// `application/grpc-web-text`: the same in base64.
    WebText,
}

/// Walks over the messages of one direction of a call, without keeping any.
#[derive(Debug)]
pub struct Walker {
    format: Format,
    messages: Messages,
    at: At,
    base64: Base64,
    trailers: Trailers,
}

/// A call that is under way.
#[derive(Debug)]
pub struct Calling {
    /// What the content is in.
    pub format: Format,
    /// `grpc-timeout` of the request.
    pub deadline: Option<Duration>,
    /// `grpc-status` of the response's head or trailers.
    pub status: Option<u32>,
    /// Messages from the client.
    pub requests: Walker,
    /// Messages from the server; `None` when the response is not one of gRPC.
    pub responses: Option<Walker>,
}

/// Bytes before a message: a flag, and its length.
const PREFIX: usize = 5;
/// The message is compressed.
const COMPRESSED: u8 = 0x01;
/// gRPC-Web: the message has the trailers.
const TRAILERS: u8 = 0x80;

/// Where in the content a walker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// In a prefix, of which this much was seen.
    Prefix([u8; PREFIX], u8),
    /// In a message: bytes that are left.
    Message(u32),
    /// In the trailers: bytes that are left.
    Trailers(u32),
    /// Behind the trailers.
    End,
    /// It is not known where.
    Lost,
}

/// What a content type says; `None` when it is none of gRPC.
pub fn content_type(value: &[u8]) -> Option<Format> {
    const START: &[u8] = b"application/grpc";
    let (start, rest) = value.split_at_checked(START.len())?;
    if !start.eq_ignore_ascii_case(START) {
        return None;
    }
    let end = rest
        .iter()
        .position(|byte| matches!(byte, b'+' | b';' | b' ' | b'\t'))
        .unwrap_or(rest.len());
    let kind = &rest[..end];
    if kind.is_empty() {
        Some(Format::Grpc)
    } else if kind.eq_ignore_ascii_case(b"-web") {
        Some(Format::Web)
    } else if kind.eq_ignore_ascii_case(b"-web-text") {
        Some(Format::WebText)
    } else {
        None
    }
}

/// The deadline that a `grpc-timeout` gives: up to eight digits and a unit.
pub fn timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.len() > 8 {
        return None;
    }
    let count = u64::from(number(digits)?);
    Some(match unit {
        b'H' => Duration::from_secs(count * 3600),
        b'M' => Duration::from_secs(count * 60),
        b'S' => Duration::from_secs(count),
        b'm' => Duration::from_millis(count),
        b'u' => Duration::from_micros(count),
        b'n' => Duration::from_nanos(count),
        _ => return None,
    })
}

/// The code that a `grpc-status` has. Codes that are not defined are codes too.
pub fn status(value: &[u8]) -> Option<u32> {
    (value.len() <= 10).then(|| number(value))?
}

/// How a call ended: with a status, or cancelled by its client so long after its start, or neither.
pub fn end(status: Option<u32>, cancelled: Option<Duration>, deadline: Option<Duration>) -> RpcEnd {
    match (status, cancelled, deadline) {
        (Some(status), ..) => RpcEnd::Status(status),
        (None, Some(after), Some(deadline)) if after >= deadline => RpcEnd::DeadlineExceeded,
        (None, Some(_), _) => RpcEnd::Cancelled,
        (None, None, _) => RpcEnd::Unknown,
    }
}

/// Digits and nothing else.
fn number(digits: &[u8]) -> Option<u32> {
    let known = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    known.then(|| std::str::from_utf8(digits).ok()?.parse().ok())?
}

// === impl Format ===

impl Format {
    /// What carries the call.
    pub const fn system(self) -> RpcSystem {
        match self {
            Self::Grpc => RpcSystem::Grpc,
            Self::Web | Self::WebText => RpcSystem::GrpcWeb,
        }
    }
}

// === impl Walker ===

impl Walker {
    /// Before the first byte of content.
    pub fn new(format: Format) -> Self {
        Self {
            format,
            messages: Messages::default(),
            at: At::Prefix([0; PREFIX], 0),
            base64: Base64::default(),
            trailers: Trailers::default(),
        }
    }

    /// Messages so far.
    pub fn messages(&self) -> Messages {
        self.messages
    }

    /// `grpc-status` of the trailers in the content (gRPC-Web).
    pub fn status(&self) -> Option<u32> {
        self.trailers.status()
    }

    /// Takes content, in order.
    pub fn push(&mut self, bytes: &[u8], time: Monotonic) {
        if self.format != Format::WebText {
            self.walk(bytes, time);
            return;
        }
        let mut rest = bytes;
        while !rest.is_empty() && self.at != At::Lost {
            let mut plain = [0; 192];
            let (count, left) = self.base64.decode(rest, &mut plain);
            self.walk(&plain[..count], time);
            let Some(left) = left else {
                return self.lose();
            };
            rest = left;
        }
    }

    /// Takes `count` bytes of content that were not seen; the last of them passed at `time`.
    ///
    /// Within a message they change nothing; when a prefix is among them, nothing is known from
    /// there on.
    pub fn skip(&mut self, count: u64, time: Monotonic) {
        if count == 0 {
            return;
        }
        if self.format == Format::WebText {
            // Padding may be anywhere: it is not known how much text that is.
            return self.lose();
        }
        match &mut self.at {
            At::Message(left) | At::Trailers(left) if count <= u64::from(*left) => {
                *left -= count as u32;
                self.trailers.skip();
                self.settle(time);
            }
            At::Message(left) => {
                *left = 0;
                self.settle(time);
                self.lose();
            }
            At::Prefix(..) => self.lose(),
            At::Trailers(_) => self.at = At::Lost,
            At::End | At::Lost => {}
        }
    }

    /// Bytes were not seen, nobody knows how many: nothing is counted any more.
    pub fn lose(&mut self) {
        self.messages.at_least |= !matches!(self.at, At::End | At::Trailers(_));
        self.at = At::Lost;
    }

    fn walk(&mut self, bytes: &[u8], time: Monotonic) {
        let mut rest = bytes;
        while let Some(&first) = rest.first() {
            match &mut self.at {
                At::Prefix(prefix, seen) => {
                    if *seen == 0 && first & TRAILERS == 0 {
                        self.messages.first.get_or_insert(time);
                    }
                    prefix[usize::from(*seen)] = first;
                    *seen += 1;
                    rest = &rest[1..];
                    if usize::from(*seen) == PREFIX {
                        let [flag, length @ ..] = *prefix;
                        self.enter(flag, u32::from_be_bytes(length));
                        self.settle(time);
                    }
                }
                At::Message(left) | At::Trailers(left) => {
                    let taken = rest.len().min(*left as usize);
                    *left -= taken as u32;
                    if matches!(self.at, At::Trailers(_)) {
                        self.trailers.push(&rest[..taken]);
                    }
                    rest = &rest[taken..];
                    self.settle(time);
                }
                // Nothing may follow the trailers.
                At::End | At::Lost => return,
            }
        }
    }

    /// A prefix is complete.
    fn enter(&mut self, flag: u8, length: u32) {
        let web = self.format != Format::Grpc;
        match flag {
            0 | COMPRESSED => self.at = At::Message(length),
            TRAILERS if web => self.at = At::Trailers(length),
            // Compressed trailers cannot be read; there is no message in them.
            _ if web && flag == TRAILERS | COMPRESSED => self.at = At::End,
            _ => {
                // Not gRPC, or not where we think: what was taken for a first byte was none.
                if self.messages.count == 0 {
                    self.messages.first = None;
                }
                self.lose();
            }
        }
    }

    /// Leaves what has no bytes left.
    fn settle(&mut self, time: Monotonic) {
        match self.at {
            At::Message(0) => {
                self.messages.count += 1;
                self.messages.last = Some(time);
                self.at = At::Prefix([0; PREFIX], 0);
            }
            At::Trailers(0) => {
                self.trailers.finish();
                self.at = At::End;
            }
            _ => {}
        }
    }
}

// === impl Calling ===

impl Calling {
    /// A request with gRPC content, and its `grpc-timeout`.
    pub fn new(format: Format, deadline: Option<Duration>) -> Self {
        Self {
            format,
            deadline,
            status: None,
            requests: Walker::new(format),
            responses: None,
        }
    }

    /// The head of the response: its content type and its `grpc-status`, if it has them.
    pub fn answered(&mut self, format: Option<Format>, status: Option<u32>) {
        self.responses = format.map(Walker::new);
        self.status = status.or(self.status);
    }

    /// What the call was. `cancelled`: the client gave up, so long after the start.
    pub fn finish(&self, cancelled: Option<Duration>) -> Rpc {
        let inner = self.responses.as_ref().and_then(Walker::status);
        Rpc {
            system: self.format.system(),
            end: end(self.status.or(inner), cancelled, self.deadline),
            deadline: self.deadline,
            requests: self.requests.messages(),
            responses: self
                .responses
                .as_ref()
                .map_or_else(Messages::default, Walker::messages),
        }
    }
}

#[cfg(test)]
mod tests;
