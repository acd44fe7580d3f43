//! Bytes on their way to a message.

use crate::model::{event::Segment, time::Monotonic};

/// Piece of a stream.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a> {
    /// Its bytes.
    pub bytes: &'a [u8],
    /// When they passed the socket.
    pub time: Monotonic,
    /// Sequence number of its first byte, and acknowledgement number of its segment.
    pub hop: (u32, u32),
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

    /// Moves on by `count` bytes.
    pub fn advance(&mut self, count: usize) {
        self.bytes = self.bytes.get(count..).unwrap_or(b"");
        self.hop.0 = self.hop.0.wrapping_add(count as u32);
    }
}
