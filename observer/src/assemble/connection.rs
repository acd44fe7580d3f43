//! One tracked connection: both streams, their protocol, and what is known for sure.

use super::{
    Config, Counters, Glance, Instruction, Sink,
    heads::Heads,
    held_request,
    http1::{Http1, Piece, Verdict, head},
    stream::{Place, Stream},
};
use crate::model::{
    connection::{Closed, ClosedBy, Connection, ConnectionEvent, Direction, Role, Transfer},
    event::Segment,
    exchange::{Exchange, InFlight, Outcome},
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

/// What is to be doubted about a connection that was joined midway.
struct Doubt {
    /// End of the request that started it, as a sequence number: the answer must acknowledge it.
    request_end: u32,
    /// The first response was seen, and passed the test.
    answered: bool,
    /// Exchanges that hold only if no surplus response comes: requests that were sent before we
    /// looked would have one.
    held: Vec<Exchange>,
    /// Time of the last byte.
    since: Monotonic,
}

/// Exchanges that are held in doubt at once; the oldest is believed then.
const MAX_DOUBTED: usize = 64;
/// A connection that was answered in full and then quiet for so long owes no response.
const DOUBT_ENDS: std::time::Duration = std::time::Duration::from_millis(500);
/// Body bytes that are worth telling the kernel to skip.
const WORTH_SKIPPING: u64 = 64 << 10;

/// A connection in the table.
pub(super) struct Tracked {
    pub(super) connection: Connection,
    pub(super) slot: Option<u32>,
    pub(super) active: Monotonic,
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
}

// === impl Tracked ===

impl Tracked {
    pub(super) fn new(connection: Connection, slot: Option<u32>) -> Self {
        let pre_existing = connection.pre_existing;
        let stream = || {
            if pre_existing {
                Stream::default()
            } else {
                Stream::from_start()
            }
        };
        Self {
            active: connection.established.unwrap_or(connection.started),
            connection,
            slot,
            ingress: stream(),
            egress: stream(),
            protocol: if pre_existing {
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

    /// Takes a segment.
    pub(super) fn segment(
        &mut self,
        segment: &Segment<'_>,
        heads: &mut Heads,
        counters: &mut Counters,
        out: &mut impl Sink,
    ) {
        self.active = self.active.max(segment.time);
        match &self.protocol {
            Protocol::Opaque => return,
            Protocol::Fresh => {
                let id = self.connection.id;
                self.protocol = Protocol::Http(Box::new(Http1::new(id, self.connection.role, 0)));
            }
            Protocol::Unsynced => {
                if !self.join(segment) {
                    return;
                }
            }
            Protocol::Http(_) => {}
        }
        if let Some(doubt) = &mut self.doubt {
            doubt.since = segment.time;
            if !self.stands_test(segment) {
                counters.unpaired += 1;
                self.lose(Outcome::Lost, segment.time, out);
                return;
            }
        }
        self.deliver(segment, heads, counters, out);
        if self.stream(segment.direction).first_parked().is_some() {
            self.deliver_parked(segment.direction, heads, counters, out);
        }
    }

    /// Joins a connection midway, at the start of a request; false when this is none.
    fn join(&mut self, segment: &Segment<'_>) -> bool {
        if !segment.in_order || !head::starts_request(segment.bytes) {
            return false;
        }
        let role = match segment.direction {
            Direction::Egress => Role::Client,
            Direction::Ingress => Role::Server,
        };
        if self.connection.role == Role::Unknown {
            self.connection.role = role;
        } else if self.connection.role != role {
            return false;
        }
        self.stream(segment.direction)
            .start_at(Some(segment.position));
        self.stream(segment.direction.reverse()).start_at(None);
        let http = Http1::new(self.connection.id, role, self.ordinal);
        self.protocol = Protocol::Http(Box::new(http));
        self.doubt = Some(Doubt {
            request_end: segment.sequence.wrapping_add(segment.length),
            answered: false,
            held: Vec::new(),
            since: segment.time,
        });
        true
    }

    /// Whether the first response after joining can be the answer to the first request: it starts
    /// like one, and its sender had received the request.
    fn stands_test(&mut self, segment: &Segment<'_>) -> bool {
        let from_server = self.from_server(segment.direction);
        let Some(doubt) = &mut self.doubt else {
            return true;
        };
        if !from_server || doubt.answered || segment.length == 0 {
            return true;
        }
        let acknowledges = segment.acknowledgement.wrapping_sub(doubt.request_end) as i32 >= 0;
        if !acknowledges || !head::may_be_response(segment.bytes) || segment.bytes.is_empty() {
            return false;
        }
        doubt.answered = true;
        self.stream(segment.direction)
            .start_at(Some(segment.position));
        true
    }

    fn from_server(&self, direction: Direction) -> bool {
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
        heads: &mut Heads,
        counters: &mut Counters,
        out: &mut impl Sink,
    ) {
        let from_client = !self.from_server(segment.direction);
        let place = self
            .stream(segment.direction)
            .place(segment.position, segment.length);
        let trim = match place {
            Place::Next { trim } => trim,
            Place::Old => return,
            Place::Ahead { missing } => {
                let Protocol::Http(http) = &mut self.protocol else {
                    return;
                };
                if missing > http.skippable(from_client) {
                    if !self.stream(segment.direction).park(segment) {
                        counters.parking_full += 1;
                        counters.gaps += 1;
                        self.lose(Outcome::Lost, segment.time, out);
                    }
                    return;
                }
                self.skip(segment.direction, missing, segment.time, out);
                0
            }
        };
        let doubtful = self.doubt.is_some();
        let Protocol::Http(http) = &mut self.protocol else {
            return;
        };
        let mut done = Vec::new();
        let verdict = {
            let mut emit = |exchange| {
                if doubtful {
                    done.push(exchange);
                } else {
                    out.exchange(exchange);
                }
            };
            let piece = Piece::of(segment, usize::try_from(trim).unwrap_or(usize::MAX));
            http.push(from_client, piece, heads, &mut emit)
        };
        let ordinal = http.ordinal();
        let proven = http.is_proven();
        self.ordinal = ordinal;
        let seen = (segment.bytes.len() as u64).saturating_sub(trim);
        self.stream(segment.direction).advance(seen);
        if doubtful {
            self.doubt_more(done, from_client, out);
        }
        match verdict {
            Verdict::Http => {}
            Verdict::Tunnel | Verdict::NotHttp | Verdict::Broken => {
                if verdict == Verdict::NotHttp {
                    counters.not_http += 1;
                } else if verdict == Verdict::Broken {
                    counters.broken += 1;
                }
                self.confirm(out);
                self.give_up(proven, out);
                return;
            }
            Verdict::Unpaired => {
                counters.unpaired += 1;
                self.lose(Outcome::Lost, segment.time, out);
                return;
            }
        }
        self.rest(segment, trim, from_client, counters, out);
    }

    /// Takes what of a segment was not captured, and its FIN.
    fn rest(
        &mut self,
        segment: &Segment<'_>,
        trim: u64,
        from_client: bool,
        counters: &mut Counters,
        out: &mut impl Sink,
    ) {
        let captured = segment.bytes.len() as u64;
        let omitted = u64::from(segment.length) - captured.max(trim.min(u64::from(segment.length)));
        let Protocol::Http(http) = &mut self.protocol else {
            return;
        };
        if omitted > 0 {
            if omitted > http.skippable(from_client) {
                counters.gaps += 1;
                self.lose(Outcome::Lost, segment.time, out);
                return;
            }
            self.skip(segment.direction, omitted, segment.time, out);
        } else if captured >= 1024 {
            self.tell_skip(segment.direction, from_client, out);
        }
        if segment.fin {
            self.end_of_stream(from_client, segment.time, out);
        }
    }

    fn skip(&mut self, direction: Direction, count: u64, time: Monotonic, out: &mut impl Sink) {
        let from_client = !self.from_server(direction);
        self.stream(direction).advance(count);
        self.with_http(out, |http, emit| http.skip(from_client, count, time, emit));
    }

    fn end_of_stream(&mut self, from_client: bool, time: Monotonic, out: &mut impl Sink) {
        self.with_http(out, |http, emit| {
            http.end_of_stream(from_client, time, emit)
        });
    }

    /// Runs `work` on the HTTP connection; what it emits is held back while there is doubt.
    fn with_http(
        &mut self,
        out: &mut impl Sink,
        work: impl FnOnce(&mut Http1, &mut dyn FnMut(Exchange)),
    ) {
        let Protocol::Http(http) = &mut self.protocol else {
            return;
        };
        match &mut self.doubt {
            Some(doubt) => work(http, &mut |exchange| doubt.held.push(exchange)),
            None => work(http, &mut |exchange| out.exchange(exchange)),
        }
    }

    fn deliver_parked(
        &mut self,
        direction: Direction,
        heads: &mut Heads,
        counters: &mut Counters,
        out: &mut impl Sink,
    ) {
        loop {
            let from_client = !self.from_server(direction);
            let Protocol::Http(http) = &self.protocol else {
                return;
            };
            let skippable = http.skippable(from_client);
            let Some(parked) = self.stream(direction).take_ready(skippable) else {
                return;
            };
            self.deliver(&parked.segment(direction), heads, counters, out);
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

    /// Keeps exchanges of a doubtful connection back until a new request shows that none is owed.
    fn doubt_more(&mut self, done: Vec<Exchange>, from_client: bool, out: &mut impl Sink) {
        let Some(doubt) = &mut self.doubt else { return };
        let new_request = from_client && !doubt.held.is_empty();
        doubt.held.extend(done);
        if doubt.held.len() > MAX_DOUBTED {
            self.confirm(out);
        } else if new_request {
            // A request on a connection whose responses are all there: the order is right.
            let Protocol::Http(http) = &self.protocol else {
                return;
            };
            if http.in_flight().count() <= 1 {
                self.confirm(out);
            }
        }
    }

    /// Believes what was in doubt.
    pub(super) fn confirm(&mut self, out: &mut impl Sink) {
        if let Some(doubt) = self.doubt.take() {
            for exchange in doubt.held {
                out.exchange(exchange);
            }
        }
    }

    /// The order is lost: everything under way is `outcome`, and a new request may start anew.
    fn lose(&mut self, outcome: Outcome, time: Monotonic, out: &mut impl Sink) {
        if let Protocol::Http(http) = &mut self.protocol {
            // Exchanges in doubt have a response that may be another's.
            if let Some(doubt) = self.doubt.take() {
                for mut exchange in doubt.held {
                    exchange.outcome = Outcome::Lost;
                    exchange.status = None;
                    exchange.response_version = None;
                    exchange.received = None;
                    exchange.ended = exchange.sent.last;
                    out.exchange(exchange);
                }
            }
            http.abandon(outcome, time, &mut |exchange| out.exchange(exchange));
            self.understood += http.understood();
        }
        self.protocol = Protocol::Unsynced;
        self.ingress.start_at(None);
        self.egress.start_at(None);
        if let Some(slot) = self.slot {
            out.instruct(slot, self.connection.id, Instruction::Resync);
        }
    }

    /// Nothing of the connection is decoded from here on.
    fn give_up(&mut self, proven: bool, out: &mut impl Sink) {
        if let Protocol::Http(http) = &self.protocol
            && proven
        {
            self.understood += http.understood();
        }
        self.protocol = Protocol::Opaque;
        self.ingress.start_at(None);
        self.egress.start_at(None);
        if let Some(slot) = self.slot {
            out.instruct(slot, self.connection.id, Instruction::Opaque);
        }
    }

    /// Looks for holes that will not be filled, and ends doubts.
    pub(super) fn tick(
        &mut self,
        now: Monotonic,
        config: &Config,
        counters: &mut Counters,
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
            counters.gaps += 1;
            self.lose(Outcome::Lost, now, out);
        }
        if let (Some(doubt), Protocol::Http(http)) = (&self.doubt, &self.protocol)
            && now.since(doubt.since) > DOUBT_ENDS
            && doubt.answered
            && http.is_idle()
        {
            self.confirm(out);
        }
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
            held_request(
                self.connection.id,
                self.connection.role,
                since,
                &bytes,
                heads,
            )
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
    pub(super) fn close(
        &mut self,
        closed: &Closed,
        heads: &mut Heads,
        counters: &mut Counters,
        out: &mut impl Sink,
    ) {
        for direction in [Direction::Ingress, Direction::Egress] {
            self.deliver_parked(direction, heads, counters, out);
            if self.stream(direction).first_parked().is_some() {
                counters.gaps += 1;
                self.lose(Outcome::Lost, closed.at, out);
            }
        }
        self.confirm(out);
        if let Protocol::Http(http) = &mut self.protocol {
            http.close(closed.by, closed.at, &mut |exchange| out.exchange(exchange));
        }
    }
}
