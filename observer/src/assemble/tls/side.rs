//! One direction of a TLS connection: records out of bytes, handshake messages out of records.
//!
//! Bytes of encrypted records are passed over and never kept.

use std::borrow::Cow;

/// Most bytes of a handshake message that is put together.
pub(super) const MOST_MESSAGE: usize = 64 << 10;
/// Most bytes of a record (RFC 5246 section 6.2.3).
const MOST_RECORD: u16 = (1 << 14) + 2048;
/// An encrypted record of TLS 1.3 that is no longer holds an alert: two bytes, the type of its
/// content, and a tag of at most sixteen. No message that ends a handshake is as short.
const ALERT_RECORD: u16 = 2 + 1 + 16;

/// What became known from the bytes of one direction.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found<'a> {
    /// A handshake message of interest, without its header.
    Message(u8, Cow<'a, [u8]>),
    /// A handshake message of which the type is all that is of interest.
    Passed(u8),
    /// A handshake message was too long to be put together.
    TooLong,
    /// An alert in the clear: level and description.
    Alert(u8, u8),
    /// ChangeCipherSpec.
    Changed,
    /// An encrypted record.
    Encrypted(Encrypted),
}

/// Kinds of encrypted records that can be told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encrypted {
    /// Handshake after ChangeCipherSpec: `Finished` of TLS 1.2 and before.
    Handshake,
    /// Application data, which is all that TLS 1.3 shows.
    Application,
    /// As short as only an alert of TLS 1.3 is.
    Alert,
}

/// The bytes are not TLS.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Handshake messages (IANA TLS HandshakeType).
pub(super) mod message {
    pub(in crate::assemble::tls) const CLIENT_HELLO: u8 = 1;
    pub(in crate::assemble::tls) const SERVER_HELLO: u8 = 2;
    pub(in crate::assemble::tls) const NEW_SESSION_TICKET: u8 = 4;
    pub(in crate::assemble::tls) const CERTIFICATE: u8 = 11;
    pub(in crate::assemble::tls) const SERVER_KEY_EXCHANGE: u8 = 12;
    pub(in crate::assemble::tls) const CERTIFICATE_REQUEST: u8 = 13;
    pub(in crate::assemble::tls) const SERVER_HELLO_DONE: u8 = 14;
    pub(in crate::assemble::tls) const CERTIFICATE_STATUS: u8 = 22;
}

/// Record content types (IANA TLS ContentType).
pub(super) mod content {
    pub(in crate::assemble::tls) const CHANGE_CIPHER_SPEC: u8 = 20;
    pub(in crate::assemble::tls) const ALERT: u8 = 21;
    pub(in crate::assemble::tls) const HANDSHAKE: u8 = 22;
    pub(in crate::assemble::tls) const APPLICATION_DATA: u8 = 23;
    pub(in crate::assemble::tls) const HEARTBEAT: u8 = 24;
}

/// One direction.
#[derive(Debug, Default)]
pub(super) struct Side {
    /// Header of the current record.
    header: Prefix<5>,
    /// Bytes of the current record that are still to come.
    remaining: usize,
    /// How the current record is read.
    reading: Reading,
    /// Header of the current handshake message.
    message: Prefix<4>,
    /// Bytes of the current handshake message that are still to come.
    message_remaining: usize,
    /// What there is of it, when it is of interest.
    body: Option<Vec<u8>>,
    alert: Prefix<2>,
    /// ChangeCipherSpec was seen.
    changed: bool,
    /// A record was seen.
    spoke: bool,
    /// A record after ChangeCipherSpec, or application data, was seen.
    encrypted: bool,
}

/// How the content of a record is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Reading {
    #[default]
    Pass,
    Handshake,
    Alert,
}

/// The first bytes of something, as they come.
#[derive(Clone, Copy, Debug)]
struct Prefix<const LENGTH: usize> {
    bytes: [u8; LENGTH],
    filled: usize,
}

// === impl Prefix ===

impl<const LENGTH: usize> Default for Prefix<LENGTH> {
    fn default() -> Self {
        Self {
            bytes: [0; LENGTH],
            filled: 0,
        }
    }
}

impl<const LENGTH: usize> Prefix<LENGTH> {
    /// Moves bytes here. All of it, and empty again, when that fills it.
    fn fill(&mut self, bytes: &mut &[u8]) -> Option<[u8; LENGTH]> {
        let room = self.bytes.get_mut(self.filled..)?;
        let count = room.len().min(bytes.len());
        let (taken, rest) = bytes.split_at_checked(count)?;
        room.get_mut(..count)?.copy_from_slice(taken);
        *bytes = rest;
        self.filled += count;
        if self.filled < LENGTH {
            return None;
        }
        self.filled = 0;
        Some(self.bytes)
    }
}

// === impl Side ===

impl Side {
    /// Takes bytes until they show something, or all of them. `hidden` says that handshake records
    /// after a ChangeCipherSpec are encrypted, which they are not in TLS 1.3. `keep` says which
    /// messages are of interest.
    pub(super) fn next<'a>(
        &mut self,
        bytes: &mut &'a [u8],
        hidden: bool,
        keep: impl Fn(u8) -> bool,
    ) -> Result<Option<Found<'a>>, Malformed> {
        while !bytes.is_empty() {
            let found = if self.remaining == 0 {
                match self.header.fill(bytes) {
                    Some(header) => self.open(header, hidden)?,
                    None => None,
                }
            } else {
                let count = self.remaining.min(bytes.len());
                let (mut content, _) = bytes.split_at(count);
                let found = match self.reading {
                    Reading::Pass => {
                        content = b"";
                        None
                    }
                    Reading::Handshake => self.handshake(&mut content, &keep),
                    Reading::Alert => self
                        .alert
                        .fill(&mut content)
                        .map(|[level, description]| Found::Alert(level, description)),
                };
                let count = count - content.len();
                self.remaining -= count;
                *bytes = bytes.split_at(count).1;
                found
            };
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Passes over bytes that were not captured. `false` when the place of what follows is not
    /// known any more.
    pub(super) fn skip(&mut self, count: u64) -> bool {
        if self.header.filled > 0 {
            return count == 0;
        }
        let Ok(count) = usize::try_from(count) else {
            return false;
        };
        if count > self.remaining {
            return false;
        }
        if self.reading == Reading::Handshake {
            if self.message.filled > 0 || count > self.message_remaining {
                return count == 0;
            }
            self.message_remaining -= count;
            self.body = None;
        } else if self.reading == Reading::Alert {
            return count == 0;
        }
        self.remaining -= count;
        true
    }

    /// Gives back what a message takes that is under way.
    pub(super) fn release(&mut self) {
        self.body = None;
    }

    /// Bytes of memory beside the value itself.
    pub(super) fn weight(&self) -> usize {
        self.body.as_ref().map_or(0, Vec::capacity)
    }

    /// Starts a record.
    fn open(
        &mut self,
        [kind, major, minor, high, low]: [u8; 5],
        hidden: bool,
    ) -> Result<Option<Found<'static>>, Malformed> {
        let length = u16::from_be_bytes([high, low]);
        if major != 3 || minor > 4 || length > MOST_RECORD {
            return Err(Malformed);
        }
        // Nothing but application data may be empty (RFC 8446 section 5.1).
        if length == 0 && kind != content::APPLICATION_DATA {
            return Err(Malformed);
        }
        self.remaining = usize::from(length);
        self.reading = Reading::Pass;
        let found = match kind {
            content::CHANGE_CIPHER_SPEC => {
                self.changed = true;
                Some(Found::Changed)
            }
            // A MAC or a tag makes an encrypted one longer.
            content::ALERT if length == 2 => {
                self.alert.filled = 0;
                self.reading = Reading::Alert;
                None
            }
            content::HANDSHAKE if self.changed && hidden => {
                self.encrypted = true;
                Some(Found::Encrypted(Encrypted::Handshake))
            }
            content::HANDSHAKE => {
                self.reading = Reading::Handshake;
                None
            }
            content::APPLICATION_DATA => {
                let short = length <= ALERT_RECORD && !self.encrypted;
                self.encrypted = true;
                Some(Found::Encrypted(if short {
                    Encrypted::Alert
                } else {
                    Encrypted::Application
                }))
            }
            content::ALERT | content::HEARTBEAT => None,
            _ => return Err(Malformed),
        };
        if !self.spoke && !matches!(kind, content::HANDSHAKE | content::ALERT) {
            return Err(Malformed);
        }
        self.spoke = true;
        Ok(found)
    }

    /// Takes bytes of handshake messages, which go on over records, until one is found.
    fn handshake<'a>(
        &mut self,
        bytes: &mut &'a [u8],
        keep: impl Fn(u8) -> bool,
    ) -> Option<Found<'a>> {
        if self.message_remaining == 0 {
            let [kind, high, middle, low] = self.message.fill(bytes)?;
            let length = u32::from_be_bytes([0, high, middle, low]) as usize;
            self.message_remaining = length;
            self.body = None;
            return if !keep(kind) {
                Some(Found::Passed(kind))
            } else if length > MOST_MESSAGE {
                Some(Found::TooLong)
            } else if length == 0 {
                Some(Found::Message(kind, Cow::Borrowed(b"")))
            } else {
                self.body = Some(Vec::new());
                None
            };
        }
        let count = self.message_remaining.min(bytes.len());
        let (content, rest) = bytes.split_at(count);
        *bytes = rest;
        self.message_remaining -= count;
        let body = self.body.as_mut()?;
        let [kind, ..] = self.message.bytes;
        if self.message_remaining > 0 {
            body.extend_from_slice(content);
            return None;
        }
        let mut body = self.body.take()?;
        Some(Found::Message(
            kind,
            if body.is_empty() {
                Cow::Borrowed(content)
            } else {
                body.extend_from_slice(content);
                Cow::Owned(body)
            },
        ))
    }
}
