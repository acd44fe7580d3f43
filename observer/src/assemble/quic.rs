//! QUIC as far as it is in the clear: its version, and what a client offers in its first packets.
//!
//! Initial packets are protected with keys that follow from what they carry (RFC 9001 section 5.2),
//! so what opens with them is QUIC for certain. Nothing after them can be read.

pub mod initial;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use hashbrown::HashMap;

use self::initial::{Keys, Reader};
use super::tls::{
    hello::ClientHello,
    ja4::{Transport, ja4},
};
use crate::model::{
    connection::{ConnectionId, Role},
    datagram::{QUIC_V1, QUIC_V2, Quic},
    security::Handshake,
    time::Monotonic,
};

/// What was seen and not understood, since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections whose ClientHello did not come whole, or could not be read.
    pub incomplete: u64,
    /// Attempts that found no room.
    pub full: u64,
    /// Datagrams that look like QUIC and are not, or are not of the client; not a loss.
    pub foreign: u64,
}

/// Connections whose ClientHello has not come whole.
#[derive(Debug, Default)]
pub struct Attempts {
    waiting: HashMap<(ConnectionId, SocketAddr), Attempt, foldhash::fast::RandomState>,
    counters: Counters,
}

/// A connection whose ClientHello comes in pieces.
#[derive(Debug)]
struct Attempt {
    destination: Box<[u8]>,
    crypto: Crypto,
    since: Monotonic,
}

/// The handshake bytes of a client, put together from the frames that carry them.
#[derive(Debug, Default)]
pub struct Crypto {
    bytes: Vec<u8>,
    /// Where there are bytes, in order, not touching.
    ranges: Vec<(usize, usize)>,
}

/// What handshake bytes are so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hello {
    /// Not all there.
    Partial,
    /// All there.
    Whole(Box<ClientHello>),
    /// Not a ClientHello, or too long.
    Broken,
}

/// Attempts that are put together at once.
pub const MAX_ATTEMPTS: usize = 512;
/// Longest ClientHello that is put together.
const MAX_HELLO: usize = 16 << 10;
/// Pieces that one is put together from.
const MAX_PIECES: usize = 128;
/// How long its pieces are waited for: a client sends again for so long.
const PATIENCE: Duration = Duration::from_secs(10);
/// Type of a ClientHello message (RFC 8446 section 4).
const CLIENT_HELLO: u8 = 1;

/// Frames of Initial packets (RFC 9000 sections 12.4 and 19).
mod frame {
    pub(super) const PADDING: u64 = 0x00;
    pub(super) const PING: u64 = 0x01;
    pub(super) const ACK: u64 = 0x02;
    pub(super) const ACK_ECN: u64 = 0x03;
    pub(super) const CRYPTO: u64 = 0x06;
    pub(super) const CONNECTION_CLOSE: u64 = 0x1c;
}

// === impl Attempts ===

impl Attempts {
    /// Takes a datagram that starts like an Initial packet, sent by the end that is `role` of the
    /// two: what is known of its connection now, if that is news. Where `segment` is not 0, `bytes`
    /// are several datagrams of that size.
    pub fn push(
        &mut self,
        key: (ConnectionId, SocketAddr),
        role: Role,
        time: Monotonic,
        segment: usize,
        bytes: &[u8],
    ) -> Option<Quic> {
        let version = initial::version(bytes).filter(|version| initial::is_version(*version));
        let Some(version) = version else {
            self.counters.foreign += 1;
            return None;
        };
        if !matches!(version, QUIC_V1 | QUIC_V2) {
            return Some(Quic {
                version,
                role,
                handshake: None,
            });
        }
        let mut found = None;
        let size = if segment == 0 { bytes.len() } else { segment };
        for datagram in bytes.chunks(size.max(1)) {
            let mut rest = datagram;
            while let Some((packet, behind)) = initial::next(rest) {
                rest = behind;
                if let Some(packet) = packet
                    && let Some(handshake) = self.packet(key, time, &packet)
                {
                    let handshake = handshake.map(Arc::new);
                    found = Some(Quic {
                        version,
                        role,
                        handshake,
                    });
                }
            }
        }
        self.counters.foreign += u64::from(found.is_none());
        found
    }

    /// Gives up what is not put together in time.
    pub fn expire(&mut self, now: Monotonic) {
        if self.waiting.is_empty() {
            return;
        }
        let before = self.waiting.len();
        self.waiting
            .retain(|_, attempt| now.since(attempt.since) < PATIENCE);
        self.counters.incomplete += (before - self.waiting.len()) as u64;
    }

    /// Counters.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Attempts that are put together.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Opens a packet: `None` when it is not a client's, else the handshake if it is whole.
    fn packet(
        &mut self,
        key: (ConnectionId, SocketAddr),
        time: Monotonic,
        packet: &initial::Initial<'_>,
    ) -> Option<Option<Handshake>> {
        let frames = Keys::of_client(packet.version, packet.destination)?.open(packet)?;
        let known = self
            .waiting
            .remove(&key)
            .filter(|attempt| *attempt.destination == *packet.destination);
        let mut attempt = known.unwrap_or_else(|| Attempt {
            destination: packet.destination.into(),
            crypto: Crypto::default(),
            since: time,
        });
        let whole = attempt.crypto.frames(&frames);
        let hello = match whole {
            Some(()) => attempt.crypto.hello(),
            None => Hello::Broken,
        };
        match hello {
            Hello::Whole(hello) => Some(Some(handshake(&hello))),
            Hello::Broken => {
                self.counters.incomplete += 1;
                Some(None)
            }
            Hello::Partial => {
                if self.waiting.len() < MAX_ATTEMPTS {
                    self.waiting.insert(key, attempt);
                } else {
                    self.counters.full += 1;
                }
                Some(None)
            }
        }
    }
}

/// What a ClientHello offers.
fn handshake(hello: &ClientHello) -> Handshake {
    Handshake {
        server_name: hello.server_name.clone(),
        alpn_offered: hello.protocol_names().collect(),
        versions_offered: hello.versions().into(),
        ja4: Some(ja4(hello, Transport::Quic)),
        ..Handshake::default()
    }
}

// === impl Crypto ===

impl Crypto {
    /// Takes the frames of a packet; `None` when they make no sense, or are too many.
    pub fn frames(&mut self, frames: &[u8]) -> Option<()> {
        let mut reader = Reader(frames);
        while !reader.0.is_empty() {
            match reader.number()? {
                frame::PADDING | frame::PING => {}
                kind @ (frame::ACK | frame::ACK_ECN) => {
                    reader.number()?;
                    reader.number()?;
                    let ranges = reader.number()?;
                    reader.number()?;
                    // A range has two numbers of one byte at least.
                    for _ in 0..ranges.min(frames.len() as u64) {
                        reader.number()?;
                        reader.number()?;
                    }
                    if kind == frame::ACK_ECN {
                        for _ in 0..3 {
                            reader.number()?;
                        }
                    }
                }
                frame::CRYPTO => {
                    let offset = usize::try_from(reader.number()?).ok()?;
                    let length = usize::try_from(reader.number()?).ok()?;
                    self.insert(offset, reader.take(length)?)?;
                }
                frame::CONNECTION_CLOSE => return Some(()),
                _ => return None,
            }
        }
        Some(())
    }

    /// Puts a piece in its place; `None` when there is no room.
    fn insert(&mut self, offset: usize, piece: &[u8]) -> Option<()> {
        let end = offset.checked_add(piece.len())?;
        if end > MAX_HELLO {
            return None;
        }
        if piece.is_empty() {
            return Some(());
        }
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes.get_mut(offset..end)?.copy_from_slice(piece);
        let (mut from, mut to) = (offset, end);
        self.ranges.retain(|(start, stop)| {
            let apart = *stop < from || to < *start;
            if !apart {
                from = from.min(*start);
                to = to.max(*stop);
            }
            apart
        });
        if self.ranges.len() >= MAX_PIECES {
            return None;
        }
        let place = self.ranges.partition_point(|(start, _)| *start < from);
        self.ranges.insert(place, (from, to));
        Some(())
    }

    /// Bytes that are kept.
    pub fn weight(&self) -> usize {
        self.bytes.len() + self.ranges.len() * size_of::<(usize, usize)>()
    }

    /// What they are so far.
    pub fn hello(&self) -> Hello {
        let Some((0, end)) = self.ranges.first().copied() else {
            return Hello::Partial;
        };
        let Some([kind, length @ .., _]) = self.bytes.first_chunk::<5>().filter(|_| end >= 5)
        else {
            return Hello::Partial;
        };
        if *kind != CLIENT_HELLO {
            return Hello::Broken;
        }
        let [high, middle, low] = *length;
        let length = u32::from_be_bytes([0, high, middle, low]) as usize;
        if length > MAX_HELLO - 4 {
            return Hello::Broken;
        }
        if end < 4 + length {
            return Hello::Partial;
        }
        let body = self.bytes.get(4..4 + length).unwrap_or_default();
        match ClientHello::parse(body) {
            Some(hello) => Hello::Whole(Box::new(hello)),
            None => Hello::Broken,
        }
    }
}

#[cfg(test)]
mod tests;
