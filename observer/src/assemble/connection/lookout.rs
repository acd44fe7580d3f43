//! What time and looks from outside do to a connection: waits that end, numbers, its end.

use super::{Doubt, LIGHT, Protocol, Tracked, held::held_requests};
use crate::{
    assemble::{Config, Glance, Held, Shared, Sink, heads::Heads},
    model::{
        connection::{Closed, ClosedBy, Connection, ConnectionEvent, Direction, Transfer},
        exchange::InFlight,
        time::Monotonic,
    },
};

// === impl Tracked ===

impl Tracked {
    /// Bytes of memory that what is under way takes.
    pub(in crate::assemble) fn weight(&self) -> usize {
        let messages = self.protocol.weight();
        let doubted = self.doubt.as_ref().map_or(0, Doubt::weight);
        messages + doubted + self.ingress.weight() + self.egress.weight()
    }

    /// Whether time alone may change something: bytes wait for others, exchanges are in doubt, or
    /// much memory is taken.
    pub(in crate::assemble) fn needs_tick(&self) -> bool {
        self.doubt.is_some()
            || self.ingress.first_parked().is_some()
            || self.egress.first_parked().is_some()
            || self.weight() > LIGHT
    }

    /// Looks for holes that will not be filled, and ends doubts.
    pub(in crate::assemble) fn tick(
        &mut self,
        now: Monotonic,
        config: &Config,
        shared: &mut Shared,
        out: &mut impl Sink,
    ) {
        for direction in [Direction::Ingress, Direction::Egress] {
            self.read_late(direction, now, config, shared, out);
            let late = self.stream(direction).first_parked().is_some_and(|parked| {
                let limit = if parked.in_order {
                    config.overtaking
                } else {
                    config.retransmission
                };
                now.since(parked.time) > limit
            });
            if late {
                shared.counters.gaps += 1;
                self.lose(direction, shared, out);
                self.deliver_answers(direction, shared, out);
            }
        }
        self.settle_quiet(now, out);
        self.protocol.shrink();
    }

    /// Gives up what is under way, to free memory.
    pub(in crate::assemble) fn relieve(&mut self, shared: &mut Shared, out: &mut impl Sink) {
        shared.counters.memory_full += 1;
        self.lose(Direction::Ingress, shared, out);
        self.lose(Direction::Egress, shared, out);
    }

    /// Takes the numbers of a live connection.
    pub(in crate::assemble) fn glance(
        &mut self,
        glance: Glance,
        now: Monotonic,
        heads: &mut Heads,
        out: &mut impl Sink,
    ) {
        match &glance.held {
            Some(held) if self.knows(held) => {}
            Some(held) => self.held = self.held_requests(held, &glance.transfer, heads),
            None => self.held = Vec::new(),
        }
        let mut transfer = glance.transfer;
        transfer.understood_bytes = self.understood();
        // A slot has the lower half of them.
        let more = (transfer.turns as u32).wrapping_sub(self.last.turns as u32);
        transfer.turns = self.last.turns + u64::from(more);
        if transfer != self.last {
            self.last = transfer;
            self.active = now;
            out.connection(ConnectionEvent::Progress {
                id: self.connection.id,
                transfer,
            });
        }
    }

    /// Whether all that counts of a held segment is known from an earlier look.
    fn knows(&self, held: &Held) -> bool {
        let known =
            |request: &InFlight| request.since == held.since && !request.request.path.is_empty();
        !self.held.is_empty() && self.held.iter().all(known)
    }

    /// The requests that the kernel holds back. The look at the slot may be ahead of the records.
    fn held_requests(&self, held: &Held, transfer: &Transfer, heads: &mut Heads) -> Vec<InFlight> {
        let Connection { id, role, .. } = self.connection;
        let (stream, bytes) = if self.is_from_server(Direction::Ingress) {
            (&self.egress, transfer.sent_bytes)
        } else {
            (&self.ingress, transfer.received_bytes)
        };
        let follows = stream
            .next()
            .is_some_and(|next| next.saturating_add(held.length.into()) == bytes);
        held_requests(&self.protocol, (id, role), held, follows, heads)
    }

    /// What is known of the end of a connection that was never seen to end.
    pub(in crate::assemble) fn last_seen(&self) -> Closed {
        Closed {
            at: self.active,
            by: ClosedBy::Unknown,
            reset: false,
            transfer: self.last,
        }
    }

    /// The connection ended.
    pub(in crate::assemble) fn close(
        &mut self,
        closed: &Closed,
        shared: &mut Shared,
        out: &mut impl Sink,
    ) {
        for direction in [Direction::Ingress, Direction::Egress] {
            self.deliver_parked(direction, shared, out);
        }
        for direction in [Direction::Ingress, Direction::Egress] {
            self.read_early(direction, shared, out);
            if self.stream(direction).first_parked().is_some() {
                shared.counters.gaps += 1;
                self.lose(direction, shared, out);
            }
        }
        self.confirm(out);
        self.tell_opening(out);
        if let Protocol::Dns(_) = &self.protocol {
            let id = self.connection.id;
            shared
                .lookups
                .close(id, closed.at, |lookup| out.lookup(lookup));
        }
        let causes = &mut self.causes;
        self.protocol.close(closed, &mut |exchange| {
            out.exchange(causes.explained(exchange));
        });
    }
}
