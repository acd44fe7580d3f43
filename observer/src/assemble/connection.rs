//! One tracked connection: both streams, their protocol, and what is known for sure.

mod doubt;
mod early;
mod frames;
mod held;
mod lookout;
mod protocol;
mod recogniser;
mod speech;

use std::sync::Arc;

use self::{doubt::Doubt, frames::Guesses, protocol::Protocol};
use super::{
    Instruction, Shared, Sink,
    causes::Causes,
    http1::Piece,
    stream::{Place, Stream},
};
use crate::model::{
    connection::{Connection, Direction, Role, Transfer},
    event::Segment,
    exchange::{Exchange, InFlight},
    security::Opening,
    time::Monotonic,
};

/// Whether a segment could be put in its place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Delivery {
    /// It was taken, parked, or is of no use.
    Done,
    /// Bytes before it will not come: it may be where a new order starts.
    Cut,
}

/// Body bytes that are worth telling the kernel to skip.
const WORTH_SKIPPING: u64 = 64 << 10;
/// A connection that takes less memory than this is not looked at between its segments.
const LIGHT: usize = 8 << 10;

/// A connection in the table.
pub(super) struct Tracked {
    pub(super) connection: Connection,
    pub(super) slot: Option<u32>,
    pub(super) active: Monotonic,
    /// It is on the list of connections that [`Tracked::tick`] is to look at.
    pub(super) listed: bool,
    ingress: Stream,
    egress: Stream,
    protocol: Protocol,
    doubt: Option<Doubt>,
    /// What caused the requests, where the socket is the client's.
    pub(super) causes: Causes,
    held: Vec<InFlight>,
    last: Transfer,
    /// Understood bytes of protocols that are over.
    understood: u64,
    ordinal: u64,
    skip_told: [u64; 2],
    /// Records of it were lost: what is missing will not come.
    cut: bool,
    /// HTTP/2: the kernel was told that the content of DATA frames is wanted.
    with_data: bool,
    guesses: Guesses,
    /// It was told what it speaks.
    named: bool,
    /// What its first bytes showed.
    opening: Option<Arc<Opening>>,
}

// === impl Tracked ===

impl Tracked {
    pub(super) fn new(connection: Connection, slot: Option<u32>) -> Self {
        // Without a role nothing can be told before a request shows it.
        let midway = connection.pre_existing || connection.role == Role::Unknown;
        let stream = |first: Option<u32>| {
            if midway {
                Stream::default()
            } else {
                Stream::from_start(first)
            }
        };
        let sequences = connection.sequences;
        Self {
            active: connection.established.unwrap_or(connection.started),
            connection,
            slot,
            listed: false,
            ingress: stream(sequences.map(|(_, received)| received)),
            egress: stream(sequences.map(|(sent, _)| sent)),
            protocol: if midway {
                Protocol::Unsynced
            } else {
                Protocol::Fresh
            },
            doubt: None,
            causes: Causes::default(),
            held: Vec::new(),
            last: Transfer::default(),
            understood: 0,
            ordinal: 0,
            skip_told: [0; 2],
            cut: false,
            with_data: false,
            guesses: Guesses::default(),
            named: false,
            opening: None,
        }
    }

    /// Bytes understood so far.
    pub(super) fn understood(&self) -> u64 {
        let now = self.protocol.understood();
        self.understood + now
    }

    /// Requests that are not answered, those held in the kernel included.
    pub(super) fn in_flight(&self) -> impl Iterator<Item = InFlight> {
        self.protocol.in_flight().chain(self.held.iter().cloned())
    }

    /// The connection is quiet: gives back the memory that it used while it was not.
    pub(super) fn quieten(&mut self) {
        self.protocol.quieten();
    }

    /// Takes a segment, before which `lost` records of the connection were lost.
    pub(super) fn segment(
        &mut self,
        segment: &Segment<'_>,
        lost: u16,
        shared: &mut Shared,
        out: &mut impl Sink,
    ) {
        self.active = self.active.max(segment.time);
        self.cut |= lost != 0;
        self.stream(segment.direction).note(segment);
        if self.waits(segment, shared) {
            return;
        }
        match &self.protocol {
            Protocol::Opaque => return,
            Protocol::Fresh => self.begin(segment, shared, out),
            Protocol::Unsynced => {
                if !self.join(segment, out) {
                    return;
                }
            }
            Protocol::Http2(_) => {
                if !self.find_frames(segment) {
                    return;
                }
            }
            Protocol::Opening(_) | Protocol::Http1(_) | Protocol::Dns(_) => {}
        }
        if let Some(doubt) = &mut self.doubt {
            doubt.touch(segment.time);
            if !self.stands_test(segment) {
                shared.counters.unpaired += 1;
                if !self.starts_over(segment, shared, out) {
                    return;
                }
            }
        }
        if self.deliver(segment, shared, out) == Delivery::Cut && self.joins_again(segment, out) {
            self.deliver(segment, shared, out);
        }
        self.deliver_answers(segment.direction, shared, out);
        if self.stream(segment.direction).first_parked().is_some() {
            self.deliver_parked(segment.direction, shared, out);
        }
        if let Protocol::Http2(_) = &self.protocol {
            self.tell_frames(segment, out);
        }
    }

    fn is_from_server(&self, direction: Direction) -> bool {
        match direction {
            Direction::Ingress => self.connection.role == Role::Client,
            Direction::Egress => self.connection.role == Role::Server,
        }
    }

    fn stream(&mut self, direction: Direction) -> &mut Stream {
        match direction {
            Direction::Ingress => &mut self.ingress,
            Direction::Egress => &mut self.egress,
        }
    }

    /// Puts a segment in its place.
    fn deliver(
        &mut self,
        segment: &Segment<'_>,
        shared: &mut Shared,
        out: &mut impl Sink,
    ) -> Delivery {
        if segment.reset && segment.length == 0 && !segment.fin {
            // Behind a FIN its number is one more than that of the next byte, as if one was missing.
            return Delivery::Done;
        }
        let from_client = !self.is_from_server(segment.direction);
        let stream = match segment.direction {
            Direction::Ingress => &mut self.ingress,
            Direction::Egress => &mut self.egress,
        };
        let trim = match stream.place(segment.position, segment.length, segment.fin) {
            Place::Next { trim } => trim,
            Place::Old => return Delivery::Done,
            Place::Ahead { missing } => {
                if missing > self.protocol.skippable(from_client) {
                    if !self.cut && stream.park(segment) {
                        if from_client {
                            self.protocol.set_hole(true);
                        }
                        return Delivery::Done;
                    }
                    shared.counters.parking_full += u64::from(!self.cut);
                    shared.counters.gaps += 1;
                    self.lose(segment.direction, shared, out);
                    return Delivery::Cut;
                }
                // What was lost was of no interest.
                self.cut = false;
                self.skip(segment.direction, missing, segment.time, shared, out);
                0
            }
        };
        if segment.bytes.len() as u64 > trim {
            let piece = Piece::of(segment, usize::try_from(trim).unwrap_or(usize::MAX));
            self.stream(segment.direction)
                .advance(piece.bytes.len() as u64);
            if !self.take(from_client, piece, shared, out) {
                return Delivery::Done;
            }
        }
        self.rest(segment, trim, from_client, shared, out);
        Delivery::Done
    }

    /// Takes what of a segment was not captured, and its FIN.
    fn rest(
        &mut self,
        segment: &Segment<'_>,
        trim: u64,
        from_client: bool,
        shared: &mut Shared,
        out: &mut impl Sink,
    ) {
        let captured = segment.bytes.len() as u64;
        let omitted = u64::from(segment.length) - captured.max(trim.min(u64::from(segment.length)));
        if omitted > 0 {
            if omitted > self.protocol.skippable(from_client) {
                shared.counters.gaps += 1;
                self.lose(segment.direction, shared, out);
                return;
            }
            self.skip(segment.direction, omitted, segment.time, shared, out);
        } else if captured >= 1024 {
            self.tell_skip(segment.direction, from_client, out);
        }
        if segment.fin {
            self.stream(segment.direction).end();
            self.with_protocol(out, |protocol, emit| {
                protocol.end_of_stream(from_client, segment.time, emit);
            });
        }
    }

    fn skip(
        &mut self,
        direction: Direction,
        count: u64,
        time: Monotonic,
        shared: &mut Shared,
        out: &mut impl Sink,
    ) {
        let from_client = !self.is_from_server(direction);
        self.stream(direction).advance(count);
        let heads = &mut shared.heads;
        self.with_protocol(out, |protocol, emit| {
            protocol.skip(from_client, count, time, heads, emit);
        });
    }

    /// Runs `work` on the protocol; what it emits is held back while there is doubt.
    fn with_protocol<R>(
        &mut self,
        out: &mut impl Sink,
        work: impl FnOnce(&mut Protocol, &mut dyn FnMut(Exchange)) -> R,
    ) -> R {
        let (protocol, causes) = (&mut self.protocol, &mut self.causes);
        match &mut self.doubt {
            Some(doubt) => work(protocol, &mut |exchange| {
                doubt.hold(causes.explained(exchange));
            }),
            None => work(protocol, &mut |exchange| {
                out.exchange(causes.explained(exchange));
            }),
        }
    }

    fn deliver_parked(&mut self, direction: Direction, shared: &mut Shared, out: &mut impl Sink) {
        let from_client = !self.is_from_server(direction);
        loop {
            if self.first_is_early(direction) {
                return;
            }
            let skippable = self.protocol.skippable(from_client);
            let stream = match direction {
                Direction::Ingress => &mut self.ingress,
                Direction::Egress => &mut self.egress,
            };
            let Some(parked) = stream.take_ready(skippable) else {
                if from_client {
                    let hole = stream.first_parked().is_some();
                    self.protocol.set_hole(hole);
                }
                return;
            };
            let segment = parked.segment(direction);
            if let Protocol::Fresh = &self.protocol {
                self.begin(&segment, shared, out);
            }
            self.deliver(&segment, shared, out);
            self.deliver_answers(direction, shared, out);
        }
    }

    /// Tells the kernel of a long body, when its bytes come though nobody needs them.
    fn tell_skip(&mut self, direction: Direction, from_client: bool, out: &mut impl Sink) {
        let Protocol::Http1(http) = &self.protocol else {
            return;
        };
        let skippable = http.skippable(from_client);
        if skippable < WORTH_SKIPPING {
            return;
        }
        let Some(next) = self.stream(direction).next() else {
            return;
        };
        let egress = direction == Direction::Egress;
        let position = next.saturating_add(skippable);
        let told = &mut self.skip_told[usize::from(egress)];
        if *told != position
            && let Some(slot) = self.slot
        {
            *told = position;
            let instruction = Instruction::Skip { egress, position };
            out.instruct(slot, self.connection.id, instruction);
        }
    }

    /// Bytes of a direction are missing.
    fn lose(&mut self, direction: Direction, shared: &mut Shared, out: &mut impl Sink) {
        match &self.protocol {
            Protocol::Http2(_) => self.lose_frames(direction, out),
            // What a connection is cannot be told from later bytes.
            Protocol::Opening(_) => {
                self.tell_opening(out);
                self.stop(Protocol::Opaque, Instruction::Opaque, out);
            }
            // Where the next message starts is not known any more.
            Protocol::Dns(_) => {
                self.keep_counts();
                self.stop(Protocol::Opaque, Instruction::Opaque, out);
            }
            _ => self.lose_order(shared, out),
        }
    }

    /// The order is lost: everything under way is lost, and a new request may start anew.
    fn lose_order(&mut self, shared: &mut Shared, out: &mut impl Sink) {
        self.lose_messages(shared, out);
        self.cut = false;
        self.stop(Protocol::Unsynced, Instruction::Resync, out);
    }

    fn stop(&mut self, protocol: Protocol, instruction: Instruction, out: &mut impl Sink) {
        self.protocol = protocol;
        self.doubt = None;
        self.ingress.start_at(None);
        self.egress.start_at(None);
        if let Some(slot) = self.slot {
            out.instruct(slot, self.connection.id, instruction);
        }
    }
}
