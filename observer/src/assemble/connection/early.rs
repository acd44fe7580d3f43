//! Responses whose request is still under way to us: they wait for it.
//!
//! The kernel's runs for one socket may overtake each other on their way from two CPUs, and a
//! request may be in the hands of one of them while its response leaves from another. The response
//! tells: it acknowledges bytes that were not read yet.

use super::Tracked;
use crate::{
    assemble::{Config, Shared, Sink},
    model::{connection::Direction, event::Segment, time::Monotonic},
};

// === impl Tracked ===

impl Tracked {
    /// Keeps a segment of the server that was sent after bytes of the client that were not read
    /// yet; false when it is to be read now.
    pub(super) fn waits(&mut self, segment: &Segment<'_>, shared: &mut Shared) -> bool {
        // What was lost is not waited for. A RST alone says nothing that has a place.
        if !self.is_early(segment.direction, segment.acknowledgement)
            || self.cut
            || segment.length == 0 && !segment.fin
            || self.stream(segment.direction).next().is_none()
        {
            return false;
        }
        let room = self.stream(segment.direction).park(segment);
        shared.counters.parking_full += u64::from(!room);
        room
    }

    /// Reads what waited for bytes of `direction`, before more of them are read.
    pub(super) fn deliver_answers(
        &mut self,
        direction: Direction,
        shared: &mut Shared,
        out: &mut impl Sink,
    ) {
        let server = direction.reverse();
        if self.is_from_server(server) && self.stream(server).first_parked().is_some() {
            self.deliver_parked(server, shared, out);
        }
    }

    /// Whether the first parked segment of a direction is the server's, and waits for the client's
    /// bytes.
    pub(super) fn first_is_early(&mut self, direction: Direction) -> bool {
        let first = self.stream(direction).first_parked();
        let acknowledgement = first.map(|parked| parked.acknowledgement);
        !self.cut && acknowledgement.is_some_and(|number| self.is_early(direction, number))
    }

    /// Reads what waited too long for bytes of the client as if they had been there.
    pub(super) fn read_late(
        &mut self,
        direction: Direction,
        now: Monotonic,
        config: &Config,
        shared: &mut Shared,
        out: &mut impl Sink,
    ) {
        while self.first_is_early(direction)
            && let Some(parked) = self.stream(direction).first_parked()
            && now.since(parked.time) > config.overtaking
        {
            self.read_first(direction, shared, out);
        }
    }

    /// Reads all that waits for bytes of the client as if they had been there.
    pub(super) fn read_early(
        &mut self,
        direction: Direction,
        shared: &mut Shared,
        out: &mut impl Sink,
    ) {
        while self.first_is_early(direction) {
            self.read_first(direction, shared, out);
        }
    }

    fn read_first(&mut self, direction: Direction, shared: &mut Shared, out: &mut impl Sink) {
        let Some(parked) = self.stream(direction).first_parked() else {
            return;
        };
        let acknowledgement = parked.acknowledgement;
        self.stream(direction.reverse())
            .give_up_before(acknowledgement);
        self.deliver_parked(direction, shared, out);
    }

    /// Whether whoever sent this acknowledgement is the server, and had bytes of the client that
    /// were neither read nor may be passed over.
    fn is_early(&self, direction: Direction, acknowledgement: u32) -> bool {
        let client = match direction {
            Direction::Ingress => &self.egress,
            Direction::Egress => &self.ingress,
        };
        let missing = client.missing_before(acknowledgement);
        missing > 0 && self.is_from_server(direction) && missing > self.protocol.skippable(true)
    }
}

#[cfg(test)]
mod tests;
