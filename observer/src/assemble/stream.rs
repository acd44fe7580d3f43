//! The order of one direction's bytes: segments in, a stream with known holes out.

use std::collections::BTreeMap;

use crate::model::{event::Segment, time::Monotonic};

/// Where a segment stands relative to the stream so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Right behind it, but for this many bytes that were there already.
    Next {
        /// Bytes of the segment to pass over.
        trim: u64,
    },
    /// Ahead of it by this many bytes.
    Ahead {
        /// Bytes that are missing.
        missing: u64,
    },
    /// All of it was there already.
    Old,
}

/// A segment that waits for earlier bytes.
#[derive(Clone, Debug)]
pub struct Parked {
    /// The segment's numbers.
    pub time: Monotonic,
    /// Position of its first byte.
    pub position: u64,
    /// TCP sequence number.
    pub sequence: u32,
    /// TCP acknowledgement number.
    pub acknowledgement: u32,
    /// Bytes it stands for.
    pub length: u32,
    /// Captured bytes.
    pub bytes: Box<[u8]>,
    /// It ends the stream.
    pub fin: bool,
    /// The kernel saw nothing missing before it: what is missing will not come later.
    pub in_order: bool,
    /// HTTP/2: it starts where a frame does, as the kernel knows.
    pub at_frame: bool,
}

/// One direction of a connection.
#[derive(Debug, Default)]
pub struct Stream {
    /// Position of the next byte; `None` until the stream is synchronised.
    next: Option<u64>,
    /// TCP sequence number of position 0, as far as it is known.
    origin: Option<u32>,
    /// Its FIN was taken, which counts as a byte in TCP's numbers (RFC 9293 section 3.4).
    ended: bool,
    parked: BTreeMap<u64, Parked>,
    parked_bytes: usize,
}

/// Bytes of early segments that are kept for one direction: what TCP may have under way behind a
/// segment that was lost.
const MAX_PARKED: usize = 1 << 20;
/// Segments that are kept for one direction, however short.
const MAX_PARKED_SEGMENTS: usize = 1024;

// === impl Stream ===

impl Stream {
    /// A stream whose first byte is known, and its sequence number perhaps.
    pub fn from_start(origin: Option<u32>) -> Self {
        Self {
            next: Some(0),
            origin,
            ..Self::default()
        }
    }

    /// Position of the next byte.
    pub fn next(&self) -> Option<u64> {
        self.next
    }

    /// Starts, or starts again, at `position`; whatever waited is dropped.
    pub fn start_at(&mut self, position: Option<u64>) {
        *self = Self {
            next: position,
            ..Self::default()
        };
    }

    /// Notes where a segment of the stream stands in TCP's numbers.
    pub fn note(&mut self, segment: &Segment<'_>) {
        // Without bytes its number may be that of omitted ones before it.
        if self.origin.is_none() && segment.length > 0 {
            self.origin = Some(segment.sequence.wrapping_sub(segment.position as u32));
        }
    }

    /// Bytes that TCP counts before a sequence number, as the other end acknowledges it, and that
    /// were not taken; 0 when that is not known.
    pub fn missing_before(&self, acknowledgement: u32) -> u64 {
        let (Some(next), Some(origin)) = (self.next, self.origin) else {
            return 0;
        };
        let taken = origin
            .wrapping_add(next as u32)
            .wrapping_add(self.ended.into());
        let missing = acknowledgement.wrapping_sub(taken) as i32;
        u64::try_from(missing).unwrap_or(0)
    }

    /// What is missing before a sequence number is not waited for: TCP's numbers are not what they
    /// were taken for.
    pub fn give_up_before(&mut self, acknowledgement: u32) {
        let missing = self.missing_before(acknowledgement) as u32;
        self.origin = self.origin.map(|origin| origin.wrapping_add(missing));
    }

    /// Notes that the stream's FIN was taken.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// Where `length` bytes at `position` stand, which end the stream when `fin`.
    pub fn place(&self, position: u64, length: u32, fin: bool) -> Place {
        let Some(next) = self.next else {
            return Place::Old;
        };
        if position > next {
            return Place::Ahead {
                missing: position - next,
            };
        }
        let trim = next - position;
        // A FIN that comes with known bytes is news nevertheless.
        let news = length == 0 || fin;
        if trim > u64::from(length) || trim == u64::from(length) && !news {
            return Place::Old;
        }
        Place::Next { trim }
    }

    /// Moves on by `count` bytes.
    pub fn advance(&mut self, count: u64) {
        if let Some(next) = &mut self.next {
            *next = next.saturating_add(count);
        }
    }

    /// Keeps an early segment; false when there is no room.
    pub fn park(&mut self, segment: &Segment<'_>) -> bool {
        if self.parked_bytes + segment.bytes.len() > MAX_PARKED
            || self.parked.len() >= MAX_PARKED_SEGMENTS
        {
            return false;
        }
        // Of two segments at one place the longer has all that the shorter has, but for a FIN.
        if let Some(old) = self.parked.get_mut(&segment.position)
            && old.bytes.len() >= segment.bytes.len()
        {
            old.fin |= segment.fin && old.length == segment.length;
            return true;
        }
        let parked = Parked {
            time: segment.time,
            position: segment.position,
            sequence: segment.sequence,
            acknowledgement: segment.acknowledgement,
            length: segment.length,
            bytes: segment.bytes.into(),
            fin: segment.fin,
            in_order: segment.in_order,
            at_frame: segment.at_frame,
        };
        self.parked_bytes += parked.bytes.len();
        if let Some(old) = self.parked.insert(segment.position, parked) {
            self.parked_bytes -= old.bytes.len();
        }
        true
    }

    /// Takes the earliest parked segment that may go on the stream: it is next, or at most
    /// `skippable` bytes ahead.
    pub fn take_ready(&mut self, skippable: u64) -> Option<Parked> {
        let next = self.next?;
        let entry = self.parked.first_entry()?;
        if *entry.key() > next.saturating_add(skippable) {
            return None;
        }
        let parked = entry.remove();
        self.parked_bytes -= parked.bytes.len();
        Some(parked)
    }

    /// Bytes of memory that parked segments take.
    pub fn weight(&self) -> usize {
        self.parked_bytes + self.parked.len() * size_of::<Parked>()
    }

    /// The earliest parked segment.
    pub fn first_parked(&self) -> Option<&Parked> {
        self.parked.values().next()
    }
}

// === impl Parked ===

impl Parked {
    /// As a segment of `direction`.
    pub fn segment(&self, direction: crate::model::connection::Direction) -> Segment<'_> {
        Segment {
            time: self.time,
            direction,
            position: self.position,
            sequence: self.sequence,
            acknowledgement: self.acknowledgement,
            length: self.length,
            bytes: &self.bytes,
            fin: self.fin,
            reset: false,
            in_order: self.in_order,
            at_frame: self.at_frame,
            unframed: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::connection::Direction;

    fn segment(position: u64, bytes: &[u8]) -> Segment<'_> {
        Segment {
            time: Monotonic(1),
            direction: Direction::Ingress,
            position,
            sequence: 0,
            acknowledgement: 0,
            length: bytes.len() as u32,
            bytes,
            fin: false,
            reset: false,
            in_order: true,
            at_frame: false,
            unframed: false,
        }
    }

    #[test]
    fn segments_are_placed() {
        let mut stream = Stream::from_start(None);
        stream.advance(10);
        assert_eq!(stream.place(10, 5, false), Place::Next { trim: 0 });
        assert_eq!(stream.place(8, 5, false), Place::Next { trim: 2 });
        assert_eq!(stream.place(5, 5, false), Place::Old);
        assert_eq!(stream.place(12, 5, false), Place::Ahead { missing: 2 });
        assert_eq!(stream.place(10, 0, false), Place::Next { trim: 0 });
        assert_eq!(stream.place(5, 5, true), Place::Next { trim: 5 });
        assert_eq!(stream.place(4, 5, true), Place::Old);
        assert_eq!(
            Stream::default().place(0, 5, false),
            Place::Old,
            "not synchronised"
        );
    }

    #[test]
    fn what_is_acknowledged_and_not_there_is_missing() {
        let mut stream = Stream::from_start(Some(u32::MAX - 4));
        assert_eq!(stream.missing_before(u32::MAX - 4), 0);
        assert_eq!(stream.missing_before(5), 10);
        stream.advance(10);
        assert_eq!(stream.missing_before(5), 0);
        assert_eq!(stream.missing_before(u32::MAX), 0, "an old one");
        assert_eq!(stream.missing_before(6), 1);
        stream.end();
        assert_eq!(stream.missing_before(6), 0, "the FIN");
        stream.give_up_before(20);
        assert_eq!(stream.missing_before(20), 0);
        assert_eq!(stream.missing_before(21), 1);
        stream.start_at(Some(100));
        assert_eq!(stream.missing_before(5000), 0, "not known");
        let mut later = segment(100, b"abc");
        later.sequence = 1000;
        stream.note(&later);
        assert_eq!(stream.missing_before(1003), 3);
        later.position = 700;
        stream.note(&later);
        assert_eq!(stream.missing_before(1003), 3, "known since the first");
        assert_eq!(Stream::default().missing_before(7), 0, "not synchronised");
    }

    #[test]
    fn parked_segments_come_back_in_order() {
        let mut stream = Stream::from_start(None);
        assert!(stream.park(&segment(20, b"c")));
        assert!(stream.park(&segment(10, b"bb")));
        assert!(
            stream.park(&segment(10, b"b")),
            "a shorter copy changes nothing"
        );
        assert!(stream.take_ready(9).is_none());
        assert_eq!(
            stream.take_ready(10).map(|parked| parked.bytes.len()),
            Some(2)
        );
        stream.advance(20);
        assert_eq!(stream.take_ready(0).map(|parked| parked.position), Some(20));
        assert_eq!(stream.parked_bytes, 0);
    }

    #[test]
    fn parking_is_bounded() {
        let mut stream = Stream::from_start(None);
        let bytes = vec![0; 500 << 10];
        assert!(stream.park(&segment(1, &bytes)));
        assert!(stream.park(&segment(600_000, &bytes)));
        assert!(!stream.park(&segment(1_200_000, &bytes)));
        let mut stream = Stream::from_start(None);
        let kept = (0..2000)
            .filter(|index| stream.park(&segment(index * 2 + 1, b"x")))
            .count();
        assert_eq!(kept, MAX_PARKED_SEGMENTS);
    }
}
