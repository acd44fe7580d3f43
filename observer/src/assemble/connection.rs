//! One tracked connection: both streams, their protocol, and what is known for sure.

mod doubt;
mod held;

use self::{doubt::Doubt, held::held_request};
use super::{
    Config, Glance, Instruction, Shared, Sink,
    heads::Heads,
    http1::{Http1, Piece, Verdict},
    stream::{Place, Stream},
};
use crate::model::{
    connection::{Closed, ClosedBy, Connection, ConnectionEvent, Direction, Role, Transfer},
    event::Segment,
    exchange::{Exchange, InFlight},
    time::Monotonic,
};

/// What the connection carries, as far as it is known.
enum Protocol {
    /// Nothing yet: it was opened under our eyes and has not spoken.
    Fresh,
    /// Its order is not known: only the start of a request helps.
    Unsynced,
    /// HTTP/1.
    Http(Box<Http1>),
    /// Not decoded.
    Opaque,
}

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
    held: Option<InFlight>,
    last: Transfer,
    /// Understood bytes of protocols that are over.
    understood: u64,
    ordinal: u64,
    skip_told: [u64; 2],
    /// Records of it were lost: what is missing will not come.
    cut: bool,
}

// === impl Tracked ===

impl Tracked {
    pub(super) fn new(connection: Connection, slot: Option<u32>) -> Self {
        // Without a role nothing can be told before a request shows it.
        let midway = connection.pre_existing || connection.role == Role::Unknown;
        let stream = || {
            if midway {
                Stream::default()
            } else {
                Stream::from_start()
            }
        };
        Self {
            active: connection.established.unwrap_or(connection.started),
            connection,
            slot,
            listed: false,
            ingress: stream(),
            egress: stream(),
            protocol: if midway {
                Protocol::Unsynced
            } else {
                Protocol::Fresh
            },
            doubt: None,
            held: None,
            last: Transfer::default(),
            understood: 0,
            ordinal: 0,
            skip_told: [0; 2],
            cut: false,
        }
    }

    /// Bytes understood so far.
    pub(super) fn understood(&self) -> u64 {
        let now = match &self.protocol {
            Protocol::Http(http) => http.understood(),
            _ => 0,
        };
        self.understood + now
    }

    /// Requests that are not answered, those held in the kernel included.
    pub(super) fn in_flight(&self) -> impl Iterator<Item = InFlight> {
        let assembled = match &self.protocol {
            Protocol::Http(http) => Some(http.in_flight()),
            _ => None,
        };
        assembled
            .into_iter()
            .flatten()
            .chain(self.held.iter().cloned())
    }

    /// The connection is quiet: gives back the memory that it used while it was not.
    pub(super) fn quieten(&mut self) {
        if let Protocol::Http(http) = &mut self.protocol {
            http.quieten();
        }
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
        match &self.protocol {
            Protocol::Opaque => return,
            Protocol::Fresh => {
                let http = Http1::new(self.connection.id, self.connection.role, 0);
                self.protocol = Protocol::Http(Box::new(http));
            }
            Protocol::Unsynced => {
                if !self.join(segment) {
                    return;
                }
            }
            Protocol::Http(_) => {}
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
        if self.deliver(segment, shared, out) == Delivery::Cut && self.join(segment) {
            self.deliver(segment, shared, out);
        }
        if self.stream(segment.direction).first_parked().is_some() {
            self.deliver_parked(segment.direction, shared, out);
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
        let from_client = !self.is_from_server(segment.direction);
        let stream = match segment.direction {
            Direction::Ingress => &mut self.ingress,
            Direction::Egress => &mut self.egress,
        };
        let Protocol::Http(http) = &mut self.protocol else {
            return Delivery::Done;
        };
        let trim = match stream.place(segment.position, segment.length, segment.fin) {
            Place::Next { trim } => trim,
            Place::Old => return Delivery::Done,
            Place::Ahead { missing } => {
                if missing > http.skippable(from_client) {
                    if !self.cut && stream.park(segment) {
                        if from_client {
                            http.set_hole(true);
                        }
                        return Delivery::Done;
                    }
                    shared.counters.parking_full += u64::from(!self.cut);
                    shared.counters.gaps += 1;
                    self.lose(shared, out);
                    return Delivery::Cut;
                }
                // What was lost was of no interest.
                self.cut = false;
                self.skip(segment.direction, missing, segment.time, out);
                0
            }
        };
        if segment.bytes.len() as u64 > trim {
            let new_request = from_client && self.has_doubted();
            let piece = Piece::of(segment, usize::try_from(trim).unwrap_or(usize::MAX));
            let heads = &mut shared.heads;
            let verdict =
                self.with_http(out, |http, emit| http.push(from_client, piece, heads, emit));
            self.stream(segment.direction)
                .advance(segment.bytes.len() as u64 - trim);
            if self.doubt.is_some() {
                self.settle(new_request, out);
            }
            if let Some(verdict) = verdict
                && verdict != Verdict::Http
            {
                self.end_protocol(verdict, shared, out);
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
            let Protocol::Http(http) = &self.protocol else {
                return;
            };
            if omitted > http.skippable(from_client) {
                shared.counters.gaps += 1;
                self.lose(shared, out);
                return;
            }
            self.skip(segment.direction, omitted, segment.time, out);
        } else if captured >= 1024 {
            self.tell_skip(segment.direction, from_client, out);
        }
        if segment.fin {
            self.with_http(out, |http, emit| {
                http.end_of_stream(from_client, segment.time, emit);
            });
        }
    }

    fn skip(&mut self, direction: Direction, count: u64, time: Monotonic, out: &mut impl Sink) {
        let from_client = !self.is_from_server(direction);
        self.stream(direction).advance(count);
        self.with_http(out, |http, emit| http.skip(from_client, count, time, emit));
    }

    /// Runs `work` on the HTTP connection; what it emits is held back while there is doubt.
    fn with_http<R>(
        &mut self,
        out: &mut impl Sink,
        work: impl FnOnce(&mut Http1, &mut dyn FnMut(Exchange)) -> R,
    ) -> Option<R> {
        let Protocol::Http(http) = &mut self.protocol else {
            return None;
        };
        Some(match &mut self.doubt {
            Some(doubt) => work(http, &mut |exchange| doubt.hold(exchange)),
            None => work(http, &mut |exchange| out.exchange(exchange)),
        })
    }

    fn deliver_parked(&mut self, direction: Direction, shared: &mut Shared, out: &mut impl Sink) {
        let from_client = !self.is_from_server(direction);
        loop {
            let Protocol::Http(http) = &mut self.protocol else {
                return;
            };
            let skippable = http.skippable(from_client);
            let stream = match direction {
                Direction::Ingress => &mut self.ingress,
                Direction::Egress => &mut self.egress,
            };
            let Some(parked) = stream.take_ready(skippable) else {
                if from_client {
                    http.set_hole(stream.first_parked().is_some());
                }
                return;
            };
            self.deliver(&parked.segment(direction), shared, out);
        }
    }

    /// Tells the kernel of a long body, when its bytes come though nobody needs them.
    fn tell_skip(&mut self, direction: Direction, from_client: bool, out: &mut impl Sink) {
        let Protocol::Http(http) = &self.protocol else {
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

    /// The connection is not HTTP any more, or is out of order.
    fn end_protocol(&mut self, verdict: Verdict, shared: &mut Shared, out: &mut impl Sink) {
        let counters = &mut shared.counters;
        match verdict {
            Verdict::Http => return,
            Verdict::Tunnel => {}
            Verdict::NotHttp => counters.not_http += 1,
            Verdict::Broken => counters.broken += 1,
            Verdict::Full => counters.pipeline_full += 1,
            Verdict::Unpaired => counters.unpaired += 1,
        }
        let misread = self.doubt.is_some() && verdict != Verdict::Tunnel;
        if verdict == Verdict::Unpaired || misread {
            // What was taken for a request may have been part of a body.
            self.lose(shared, out);
            return;
        }
        self.confirm(out);
        if let Protocol::Http(http) = &self.protocol {
            if http.is_proven() {
                self.understood += http.understood();
            }
            self.ordinal = http.ordinal();
        }
        self.stop(Protocol::Opaque, Instruction::Opaque, out);
    }

    /// The order is lost: everything under way is lost, and a new request may start anew.
    fn lose(&mut self, shared: &mut Shared, out: &mut impl Sink) {
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

    /// Bytes of memory that what is under way takes.
    pub(super) fn weight(&self) -> usize {
        let messages = match &self.protocol {
            Protocol::Http(http) => http.weight(),
            _ => 0,
        };
        let doubted = self.doubt.as_ref().map_or(0, Doubt::weight);
        messages + doubted + self.ingress.weight() + self.egress.weight()
    }

    /// Whether time alone may change something: bytes wait for others, exchanges are in doubt, or
    /// much memory is taken.
    pub(super) fn needs_tick(&self) -> bool {
        self.doubt.is_some()
            || self.ingress.first_parked().is_some()
            || self.egress.first_parked().is_some()
            || self.weight() > LIGHT
    }

    /// Looks for holes that will not be filled, and ends doubts.
    pub(super) fn tick(
        &mut self,
        now: Monotonic,
        config: &Config,
        shared: &mut Shared,
        out: &mut impl Sink,
    ) {
        let late = [&self.ingress, &self.egress].into_iter().any(|stream| {
            stream.first_parked().is_some_and(|parked| {
                let limit = if parked.in_order {
                    config.overtaking
                } else {
                    config.retransmission
                };
                now.since(parked.time) > limit
            })
        });
        if late {
            shared.counters.gaps += 1;
            self.lose(shared, out);
        }
        self.settle_quiet(now, out);
        if let Protocol::Http(http) = &mut self.protocol {
            http.shrink();
        }
    }

    /// Gives up what is under way, to free memory.
    pub(super) fn relieve(&mut self, shared: &mut Shared, out: &mut impl Sink) {
        shared.counters.memory_full += 1;
        self.lose(shared, out);
    }

    /// Takes the numbers of a live connection.
    pub(super) fn glance(
        &mut self,
        glance: Glance,
        now: Monotonic,
        heads: &mut Heads,
        out: &mut impl Sink,
    ) {
        let mut transfer = glance.transfer;
        transfer.understood_bytes = self.understood();
        if transfer != self.last {
            self.last = transfer;
            self.active = now;
            out.connection(ConnectionEvent::Progress {
                id: self.connection.id,
                transfer,
            });
        }
        self.held = glance.held.and_then(|(since, bytes)| {
            let Connection { id, role, .. } = self.connection;
            held_request(id, role, since, &bytes, heads)
        });
    }

    /// What is known of the end of a connection that was never seen to end.
    pub(super) fn last_seen(&self) -> Closed {
        Closed {
            at: self.active,
            by: ClosedBy::Unknown,
            reset: false,
            transfer: self.last,
        }
    }

    /// The connection ended.
    pub(super) fn close(&mut self, closed: &Closed, shared: &mut Shared, out: &mut impl Sink) {
        for direction in [Direction::Ingress, Direction::Egress] {
            self.deliver_parked(direction, shared, out);
        }
        let waits = |stream: &Stream| stream.first_parked().is_some();
        if waits(&self.ingress) || waits(&self.egress) {
            shared.counters.gaps += 1;
            self.lose(shared, out);
        }
        self.confirm(out);
        if let Protocol::Http(http) = &mut self.protocol {
            http.close(closed, &mut |exchange| out.exchange(exchange));
        }
    }
}
