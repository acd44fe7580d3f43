//! HTTP/2 whose place in the frames was lost, or never known: finding it again, and telling the
//! kernel.

use super::{Protocol, Tracked};
use crate::{
    assemble::{
        Instruction, Sink,
        http2::{
            Http2,
            frame::{self, Kind},
        },
    },
    model::{
        connection::{Direction, Role},
        event::Segment,
    },
};

/// Segments of a guess that turned out to be no frames before the kernel is to guess anew.
const MISSES: u8 = 8;
/// Guesses that turned out wrong before the connection is given up.
const GUESSES: u8 = 4;

/// Guesses of the kernel about a connection that was joined midway.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Guesses {
    /// Segments since the last that were no frames.
    misses: u8,
    /// How many there were.
    made: u8,
}

/// Whose bytes the frames of a segment are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sender {
    Client,
    Server,
    Unknown,
}

// === impl Tracked ===

impl Tracked {
    /// Joins a connection midway, where a request or a frame starts; false where none does.
    pub(super) fn join(&mut self, segment: &Segment<'_>, out: &mut impl Sink) -> bool {
        if self.join_request(segment) {
            self.recognised("http/1", out);
            return true;
        }
        if self.join_frames(segment) {
            self.guesses = Guesses::default();
            self.recognised("http/2", out);
            return true;
        }
        if segment.unframed {
            self.misguessed(out);
        }
        false
    }

    /// As [`Tracked::join`], after an order that was lost.
    pub(super) fn joins_again(&mut self, segment: &Segment<'_>, out: &mut impl Sink) -> bool {
        match &self.protocol {
            Protocol::Http2(_) => self.find_frames(segment),
            Protocol::Unsynced => self.join(segment, out),
            _ => false,
        }
    }

    /// Joins HTTP/2 midway. Which end is the client's shows in the fields of a header block.
    fn join_frames(&mut self, segment: &Segment<'_>) -> bool {
        let Some(sender) = sender(segment) else {
            return false;
        };
        let role = match (sender, segment.direction) {
            (Sender::Unknown, _) => self.connection.role,
            (Sender::Client, Direction::Egress) | (Sender::Server, Direction::Ingress) => {
                Role::Client
            }
            (Sender::Client, Direction::Ingress) | (Sender::Server, Direction::Egress) => {
                Role::Server
            }
        };
        if role == Role::Unknown
            || !matches!(self.connection.role, Role::Unknown) && self.connection.role != role
        {
            return false;
        }
        self.connection.role = role;
        let http = Http2::midway(self.connection.id, role, self.ordinal);
        self.protocol = Protocol::Http2(Box::new(http));
        self.ingress.start_at(None);
        self.egress.start_at(None);
        self.find_frames(segment)
    }

    /// Whether the frames of the segment's direction are followed; where they are not, they may be
    /// from this segment on.
    pub(super) fn find_frames(&mut self, segment: &Segment<'_>) -> bool {
        let from_client = !self.is_from_server(segment.direction);
        let Protocol::Http2(http) = &mut self.protocol else {
            return false;
        };
        if !http.is_lost(from_client) {
            return true;
        }
        if !segment.in_order || !segment.at_frame && sender(segment).is_none() {
            return false;
        }
        http.resume(from_client);
        self.stream(segment.direction)
            .start_at(Some(segment.position));
        true
    }

    /// Bytes of a direction are missing: streams may have ended in them.
    pub(super) fn lose_frames(&mut self, direction: Direction, out: &mut impl Sink) {
        let from_client = !self.is_from_server(direction);
        self.cut = false;
        self.stream(direction).start_at(None);
        if let Protocol::Http2(http) = &mut self.protocol {
            http.lose(from_client, &mut |exchange| out.exchange(exchange));
            http.set_hole(false);
        }
    }

    /// Tells the kernel what it does not know of the frames: where the next one starts, and that
    /// the content of gRPC is wanted.
    pub(super) fn tell_frames(&mut self, segment: &Segment<'_>, out: &mut impl Sink) {
        let from_client = !self.is_from_server(segment.direction);
        let Protocol::Http2(http) = &self.protocol else {
            return;
        };
        let Some(slot) = self.slot else {
            return;
        };
        let (id, egress) = (self.connection.id, segment.direction == Direction::Egress);
        if http.has_calls() && !self.with_data {
            self.with_data = true;
            out.instruct(slot, id, Instruction::Http2 { with_data: true });
        }
        if segment.unframed
            && let Some(ahead) = http.to_next_frame(from_client)
            && let Some(next) = self.stream(segment.direction).next()
        {
            let position = next.saturating_add(ahead);
            let told = &mut self.skip_told[usize::from(egress)];
            if *told != position {
                *told = position;
                out.instruct(slot, id, Instruction::Skip { egress, position });
            }
        }
    }

    /// The kernel took a segment for frames, and it is none.
    fn misguessed(&mut self, out: &mut impl Sink) {
        self.guesses.misses += 1;
        if self.guesses.misses < MISSES {
            return;
        }
        self.guesses.misses = 0;
        self.guesses.made += 1;
        if self.guesses.made < GUESSES {
            self.stop(Protocol::Unsynced, Instruction::Resync, out);
        } else {
            self.stop(Protocol::Opaque, Instruction::Opaque, out);
        }
    }
}

/// Who sent the frames that a segment consists of; `None` when it does not look like frames.
///
/// One frame may be chance: there must be two, or a header block that can be read.
fn sender(segment: &Segment<'_>) -> Option<Sender> {
    let mut count = 0;
    let mut sender = Sender::Unknown;
    let mut readable = false;
    let frames = frame::frames(segment.bytes, |header, payload| {
        count += 1;
        let whole = payload.len() == header.length as usize;
        if header.kind == Kind::Headers && whole && sender == Sender::Unknown {
            match frame::sender(&header, payload) {
                Some(true) => sender = Sender::Client,
                Some(false) => sender = Sender::Server,
                None => {}
            }
            readable |= sender != Sender::Unknown;
        }
    });
    (segment.in_order && frames && (readable || count > 1)).then_some(sender)
}
