//! Payload that came with the end of a handshake, before its connection was known.

use std::time::Duration;

use super::stream::Parked;
use crate::model::{
    connection::{Connection, Role},
    event::Segment,
    time::Monotonic,
};

/// Handshake payloads that wait at once.
pub(super) const MAX_ORPHANS: usize = 256;
/// Longest payload that is kept of one; a segment has at most so much.
const MAX_BYTES: usize = 64 << 10;

/// Handshake payloads, oldest first.
#[derive(Default)]
pub(super) struct Orphans {
    waiting: Vec<Orphan>,
}

/// Payload that reached a listener, waiting for its connection.
struct Orphan {
    ports: (u16, u16),
    parked: Parked,
}

// === impl Orphans ===

impl Orphans {
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Keeps a segment between a local and a remote port; returns how many had to go for it.
    pub(super) fn push(&mut self, ports: (u16, u16), segment: &Segment<'_>) -> u64 {
        for Orphan {
            ports: known,
            parked,
        } in &mut self.waiting
        {
            if *known == ports && parked.sequence == segment.sequence {
                // The client sent it again.
                return 0;
            }
            // Windows of one segment follow each other.
            if *known == ports && parked.sequence.wrapping_add(parked.length) == segment.sequence {
                append(parked, segment);
                return 0;
            }
        }
        let gone = self.waiting.len() >= MAX_ORPHANS;
        if gone {
            self.waiting.remove(0);
        }
        self.waiting.push(Orphan {
            ports,
            parked: Parked {
                time: segment.time,
                position: 0,
                sequence: segment.sequence,
                acknowledgement: segment.acknowledgement,
                length: segment.length,
                bytes: segment.bytes.into(),
                fin: segment.fin,
                in_order: true,
                at_frame: false,
            },
        });
        gone.into()
    }

    /// The payload that came with the handshake of `connection`.
    pub(super) fn take(&mut self, connection: &Connection) -> Option<Parked> {
        if self.waiting.is_empty() || connection.role != Role::Server {
            return None;
        }
        let (_, sequence) = connection.sequences?;
        let ports = (connection.local.port(), connection.remote.port());
        let index = self
            .waiting
            .iter()
            .position(|orphan| orphan.ports == ports && orphan.parked.sequence == sequence)?;
        Some(self.waiting.remove(index).parked)
    }

    /// Drops what waits for longer than `limit`; returns how many.
    pub(super) fn expire(&mut self, now: Monotonic, limit: Duration) -> u64 {
        let before = self.waiting.len();
        self.waiting
            .retain(|orphan| now.since(orphan.parked.time) < limit);
        (before - self.waiting.len()) as u64
    }
}

/// Adds a window of the same segment.
fn append(parked: &mut Parked, segment: &Segment<'_>) {
    let whole = parked.bytes.len() == parked.length as usize;
    if whole && parked.bytes.len() + segment.bytes.len() <= MAX_BYTES {
        let mut bytes = std::mem::take(&mut parked.bytes).into_vec();
        bytes.extend_from_slice(segment.bytes);
        parked.bytes = bytes.into_boxed_slice();
    }
    parked.length = parked.length.saturating_add(segment.length);
    parked.fin |= segment.fin;
}
