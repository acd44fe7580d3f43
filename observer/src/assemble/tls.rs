//! TLS as far as it is in the clear: what a handshake offers, chooses and shows (RFC 8446, RFC
//! 5246).
//!
//! Nothing is decrypted and no secret is kept: no key, random, session id or ticket. What an order
//! of bytes across both directions would have to tell is not used, so it does not matter which
//! direction is heard first.

mod certificate;
pub mod hello;
pub mod ja4;
mod reader;
mod side;

use self::{
    hello::{ClientHello, ServerHello, is_tls13, protocol_name},
    ja4::{Transport, ja4},
    side::{Encrypted, Found, Malformed, Side, message},
};
use crate::model::security::Handshake;

/// What pushing bytes led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing new yet.
    More,
    /// The handshake shows more than before.
    News,
    /// Nothing more will be learnt: both directions are encrypted, the handshake failed, or bytes
    /// are missing. [`Tls::handshake`] says which.
    Done,
    /// A handshake message was too long to be put together, and is passed over; the handshake may
    /// show more than before. To be counted, else as [`Self::News`].
    TooLong,
    /// It began as TLS and went on as something else. To be counted, else as [`Self::Done`].
    Broken,
    /// The client's first bytes are no TLS.
    NotTls,
}

/// A connection of TLS, from its first byte until nothing more is in the clear.
#[derive(Debug, Default)]
pub struct Tls {
    handshake: Handshake,
    client: Direction,
    server: Direction,
    /// The ClientHello was read.
    hello: bool,
    /// The client announced early data, which is encrypted before there is an answer.
    early_data: bool,
    over: bool,
}

/// One direction, and what is known of its encryption.
#[derive(Debug, Default)]
struct Direction {
    side: Side,
    /// A handshake record after ChangeCipherSpec.
    finished: bool,
    /// Application data.
    application: bool,
    /// The place of its bytes in records is not known any more.
    lost: bool,
}

/// What a finding means for the connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Effect {
    Nothing,
    News,
    TooLong,
    /// It ended.
    End,
    /// It is no TLS, or none any more.
    Broken,
}

/// `close_notify` and `user_canceled` (RFC 8446 section 6.1).
const CLOSE_NOTIFY: u8 = 0;
const USER_CANCELED: u8 = 90;

/// Whether the first bytes of a client are a ClientHello in a TLS record: `None` when more bytes
/// are needed to tell. Eleven always tell.
pub fn starts(bytes: &[u8]) -> Option<bool> {
    let expected: [fn(u8) -> bool; 11] = [
        |kind| kind == side::content::HANDSHAKE,
        |major| major == 3,
        |minor| minor <= 4,
        // Plain records have at most 2^14 bytes.
        |length| length <= 0x40,
        |_| true,
        |message| message == message::CLIENT_HELLO,
        |length| length == 0,
        |_| true,
        |_| true,
        |major| major == 3,
        |minor| minor <= 4,
    ];
    if !bytes.iter().zip(expected).all(|(byte, right)| right(*byte)) {
        return Some(false);
    }
    let [_, _, _, high, low, ..] = bytes else {
        return None;
    };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    // A ClientHello may be cut into records, but nobody cuts it here.
    if length < expected.len() - 5 {
        return Some(false);
    }
    (bytes.len() >= expected.len()).then_some(true)
}

// === impl Tls ===

impl Tls {
    /// Nothing was heard yet: the next byte of each direction is its first one of TLS.
    pub fn new() -> Self {
        Self::default()
    }

    /// What is known.
    pub fn handshake(&self) -> &Handshake {
        &self.handshake
    }

    /// Takes the next bytes of one direction.
    pub fn push(&mut self, from_client: bool, mut bytes: &[u8]) -> Progress {
        let mut progress = Progress::More;
        while !self.over {
            let hidden = self.handshake.version.is_none_or(|it| !is_tls13(it));
            let hello = self.hello;
            let direction = self.direction(from_client);
            if direction.lost {
                break;
            }
            let keep = |kind| match kind {
                message::CLIENT_HELLO => from_client && !hello,
                message::SERVER_HELLO => !from_client,
                message::CERTIFICATE => true,
                _ => false,
            };
            let effect = match direction.side.next(&mut bytes, hidden, keep) {
                Ok(None) => break,
                Ok(Some(found)) => self.take(from_client, found),
                Err(Malformed) => Effect::Broken,
            };
            match effect {
                Effect::Nothing => {}
                Effect::News if progress == Progress::More => progress = Progress::News,
                Effect::News => {}
                Effect::TooLong => progress = Progress::TooLong,
                Effect::End => self.end(),
                Effect::Broken => {
                    self.end();
                    return if self.hello || !from_client {
                        Progress::Broken
                    } else {
                        Progress::NotTls
                    };
                }
            }
            self.settle();
        }
        self.told(progress)
    }

    /// Passes over bytes of one direction that were not captured. Inside of an encrypted record,
    /// or of a message, nothing but them is lost; else nothing more is learnt of that direction.
    pub fn skip(&mut self, from_client: bool, count: u64) -> Progress {
        let direction = self.direction(from_client);
        if !direction.lost && !direction.side.skip(count) {
            direction.lost = true;
            direction.side.release();
        }
        self.settle();
        self.told(Progress::More)
    }

    /// Bytes of memory beside the value itself and its handshake.
    pub fn weight(&self) -> usize {
        self.client.side.weight() + self.server.side.weight()
    }

    fn direction(&mut self, from_client: bool) -> &mut Direction {
        if from_client {
            &mut self.client
        } else {
            &mut self.server
        }
    }

    /// Nothing more is learnt.
    fn end(&mut self) {
        self.over = true;
        self.client.side.release();
        self.server.side.release();
    }

    /// Looks whether anything is left to learn.
    fn settle(&mut self) {
        if self.over {
            return;
        }
        let version = self.handshake.version;
        let encrypted = |direction: &Direction| match version {
            Some(version) if is_tls13(version) => direction.application,
            _ => direction.finished || direction.application,
        };
        let [client, server] = [&self.client, &self.server].map(encrypted);
        self.handshake.established = version.is_some() && client && server;
        // Without a version, records after ChangeCipherSpec may be in the clear still.
        let known = version.is_some() || self.server.lost;
        if known && (client || self.client.lost) && (server || self.server.lost) {
            self.end();
        }
    }

    fn told(&self, progress: Progress) -> Progress {
        match progress {
            Progress::TooLong => progress,
            _ if self.over => Progress::Done,
            _ => progress,
        }
    }

    /// Takes what one direction showed.
    fn take(&mut self, from_client: bool, found: Found<'_>) -> Effect {
        match found {
            Found::Message(message::CLIENT_HELLO, body) => self.client_hello(&body),
            Found::Message(message::SERVER_HELLO, body) => self.server_hello(&body),
            Found::Message(_, body) => self.certificate(from_client, &body),
            Found::Passed(kind) => self.passed(from_client, kind),
            Found::TooLong if from_client && !self.hello => {
                // What the client offers stays unknown, the rest does not.
                self.hello = true;
                Effect::TooLong
            }
            Found::TooLong => Effect::TooLong,
            Found::Alert(level, description) => self.alert(level, description),
            Found::Changed if from_client => Effect::Nothing,
            Found::Changed => self.resumed(true),
            Found::Encrypted(kind) => self.encrypted(from_client, kind),
        }
    }

    fn client_hello(&mut self, body: &[u8]) -> Effect {
        let Some(hello) = ClientHello::parse(body) else {
            return Effect::Broken;
        };
        self.hello = true;
        self.early_data = hello.early_data;
        self.handshake.ja4 = Some(ja4(&hello, Transport::Tcp));
        self.handshake.versions_offered = hello.versions().into();
        self.handshake.alpn_offered = hello.protocol_names().collect();
        self.handshake.server_name = hello.server_name;
        Effect::News
    }

    fn server_hello(&mut self, body: &[u8]) -> Effect {
        let Some(hello) = ServerHello::parse(body) else {
            return Effect::Broken;
        };
        self.handshake.version = Some(hello.version);
        self.handshake.cipher = Some(hello.cipher);
        if is_tls13(hello.version) {
            // A retry tells nothing of it.
            self.handshake.resumed = (!hello.retry).then_some(hello.pre_shared_key);
        } else {
            self.handshake.alpn_chosen = hello.protocol.map(|name| protocol_name(&name));
        }
        Effect::News
    }

    fn certificate(&mut self, from_client: bool, body: &[u8]) -> Effect {
        let first = if from_client {
            !self.hello
        } else {
            self.handshake.version.is_none()
        };
        let Ok(leaf) = certificate::leaf(body) else {
            return Effect::Broken;
        };
        if first {
            return Effect::Broken;
        }
        let parsed = leaf.and_then(certificate::parse).map(Box::new);
        if from_client {
            self.handshake.client_certificate = parsed;
            return Effect::News;
        }
        self.handshake.server_certificate = parsed;
        self.resumed(false);
        Effect::News
    }

    /// A message of which the type is enough.
    fn passed(&mut self, from_client: bool, kind: u8) -> Effect {
        if !self.hello && from_client {
            // Nothing may come before a ClientHello.
            return Effect::Broken;
        }
        if from_client {
            return Effect::Nothing;
        }
        if self.handshake.version.is_none() {
            return Effect::Broken;
        }
        let requested = &mut self.handshake.client_certificate_requested;
        match kind {
            message::CERTIFICATE_REQUEST => {
                *requested = Some(true);
                Effect::News
            }
            message::SERVER_HELLO_DONE => {
                requested.get_or_insert(false);
                self.resumed(false);
                Effect::News
            }
            message::SERVER_KEY_EXCHANGE | message::CERTIFICATE_STATUS => self.resumed(false),
            message::NEW_SESSION_TICKET => self.resumed(true),
            _ => Effect::Nothing,
        }
    }

    /// Up to TLS 1.2 the server's first message after its ServerHello shows whether it resumes a
    /// session: then no certificate and no keys follow, but ChangeCipherSpec, or a new ticket
    /// before it (RFC 5246 section 7.3, RFC 5077 section 3.1).
    fn resumed(&mut self, resumed: bool) -> Effect {
        let handshake = &mut self.handshake;
        if handshake.version.is_none_or(is_tls13) || handshake.resumed.is_some() {
            return Effect::Nothing;
        }
        handshake.resumed = Some(resumed);
        Effect::News
    }

    fn alert(&mut self, level: u8, description: u8) -> Effect {
        // TLS 1.3 has no warnings (RFC 8446 section 6).
        let fatal = match level {
            1 => self.handshake.version.is_some_and(is_tls13) && description != USER_CANCELED,
            2 => true,
            _ => return Effect::Broken,
        };
        if !fatal && description != CLOSE_NOTIFY {
            return Effect::Nothing;
        }
        self.handshake.alert = Some(description);
        Effect::End
    }

    fn encrypted(&mut self, from_client: bool, kind: Encrypted) -> Effect {
        // Early data says nothing of the handshake.
        let early = from_client && self.early_data;
        if early && !(self.server.application || self.server.lost) {
            return Effect::Nothing;
        }
        let direction = self.direction(from_client);
        match kind {
            Encrypted::Handshake => direction.finished = true,
            Encrypted::Application => direction.application = true,
            Encrypted::Alert if early => direction.application = true,
            // It is the first encrypted record: the other end's handshake was refused.
            Encrypted::Alert => return Effect::End,
        }
        Effect::Nothing
    }
}

#[cfg(test)]
mod tests;
