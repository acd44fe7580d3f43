//! Scripts of connections for tests: who sent what, and what became of it.

use super::*;
use crate::model::{
    connection::{ClosedBy, Owner},
    exchange::Outcome,
};

pub(super) const ID: ConnectionId = ConnectionId(7);

/// Collects results.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) exchanges: Vec<Exchange>,
    pub(super) events: Vec<ConnectionEvent>,
    pub(super) instructions: Vec<Instruction>,
    pub(super) lookups: Vec<Lookup>,
}

/// One segment of a script, owned.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) egress: bool,
    pub(super) position: u64,
    pub(super) acknowledged: u64,
    pub(super) bytes: Vec<u8>,
    pub(super) length: u32,
    pub(super) fin: bool,
    pub(super) in_order: bool,
    pub(super) unframed: bool,
    pub(super) time: u64,
}

/// A connection whose segments are made up; the socket is the client's unless said otherwise.
pub(super) struct Script {
    pub(super) assembler: Assembler,
    pub(super) seen: Seen,
    pub(super) connection: Connection,
    pub(super) time: u64,
    /// Position of the next byte: ingress, egress.
    pub(super) next: [u64; 2],
}

/// Distance between stream positions and sequence numbers, by direction; close to where they wrap.
const BASE: [u32; 2] = [u32::MAX - 20, u32::MAX - 3];

// === impl Seen ===

impl Sink for Seen {
    fn connection(&mut self, event: ConnectionEvent) {
        self.events.push(event);
    }

    fn exchange(&mut self, exchange: Exchange) {
        self.exchanges.push(exchange);
    }

    fn lookup(&mut self, lookup: Lookup) {
        self.lookups.push(lookup);
    }

    fn datagrams(&mut self, _: Datagrams) {}

    fn instruct(&mut self, _slot: u32, _id: ConnectionId, instruction: Instruction) {
        self.instructions.push(instruction);
    }
}

// === impl Step ===

impl Step {
    pub(super) fn segment(&self) -> Segment<'_> {
        let direction = if self.egress {
            Direction::Egress
        } else {
            Direction::Ingress
        };
        let (own, other) = (usize::from(self.egress), usize::from(!self.egress));
        Segment {
            time: Monotonic(self.time),
            direction,
            position: self.position,
            sequence: BASE[own].wrapping_add(self.position as u32),
            acknowledgement: BASE[other].wrapping_add(self.acknowledged as u32),
            length: self.length,
            bytes: &self.bytes,
            fin: self.fin,
            reset: false,
            in_order: self.in_order,
            at_frame: false,
            unframed: self.unframed,
        }
    }

    /// The first `at` bytes, and the rest.
    pub(super) fn split(&self, at: usize) -> [Self; 2] {
        let (head, tail) = self.bytes.split_at(at);
        let first = Self {
            bytes: head.to_vec(),
            length: at as u32,
            fin: false,
            ..self.clone()
        };
        let second = Self {
            bytes: tail.to_vec(),
            length: self.length - at as u32,
            position: self.position + at as u64,
            ..self.clone()
        };
        [first, second]
    }
}

// === impl Script ===

pub(super) fn connection(role: Role, pre_existing: bool) -> Connection {
    Connection {
        id: ID,
        role,
        local: "127.0.0.1:80".parse().unwrap(),
        remote: "127.0.0.1:4000".parse().unwrap(),
        wire: None,
        owner: Owner::default(),
        started: Monotonic(1),
        established: (!pre_existing).then_some(Monotonic(2)),
        sequences: (!pre_existing).then_some((BASE[1], BASE[0])),
        pre_existing,
    }
}

pub(super) fn closed(by: ClosedBy, reset: bool, at: u64) -> Closed {
    Closed {
        at: Monotonic(at),
        by,
        reset,
        transfer: Transfer::default(),
    }
}

impl Script {
    pub(super) fn with(config: Config, role: Role, pre_existing: bool) -> Self {
        let mut script = Self {
            assembler: Assembler::new(config),
            seen: Seen::default(),
            connection: connection(role, pre_existing),
            time: 1000,
            next: [0; 2],
        };
        script.push(Event::Opened {
            connection: script.connection.clone(),
            slot: Some(3),
        });
        script
    }

    pub(super) fn client() -> Self {
        Self::with(Config::default(), Role::Client, false)
    }

    pub(super) fn server() -> Self {
        Self::with(Config::default(), Role::Server, false)
    }

    /// Attached in the middle.
    pub(super) fn midway() -> Self {
        Self::with(Config::default(), Role::Unknown, true)
    }

    pub(super) fn push(&mut self, event: Event<'_>) {
        self.assembler.push(event, &mut self.seen);
    }

    fn is_client(&self) -> bool {
        self.connection.role != Role::Server
    }

    /// The next segment from the client or the server; time moves on by 10.
    pub(super) fn make(&mut self, from_client: bool, bytes: &[u8]) -> Step {
        let egress = from_client == self.is_client();
        self.time += 10;
        let step = Step {
            egress,
            position: self.next[usize::from(egress)],
            acknowledged: self.next[usize::from(!egress)],
            bytes: bytes.to_vec(),
            length: bytes.len() as u32,
            fin: false,
            in_order: true,
            unframed: false,
            time: self.time,
        };
        self.next[usize::from(egress)] += bytes.len() as u64;
        step
    }

    pub(super) fn step(&mut self, step: &Step) {
        self.lossy_step(step, 0);
    }

    pub(super) fn lossy_step(&mut self, step: &Step, lost: u16) {
        self.push(Event::Segment {
            id: ID,
            slot: Some(3),
            lost,
            segment: step.segment(),
        });
    }

    /// The client sends.
    pub(super) fn c(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let step = self.make(true, bytes.as_ref());
        self.step(&step);
        self
    }

    /// The server sends.
    pub(super) fn s(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let step = self.make(false, bytes.as_ref());
        self.step(&step);
        self
    }

    /// Bytes of the client, or the server, that we never see.
    pub(super) fn unseen(&mut self, from_client: bool, count: u64) -> &mut Self {
        let egress = from_client == self.is_client();
        self.next[usize::from(egress)] += count;
        self
    }

    /// The client, or the server, sends a FIN.
    pub(super) fn fin(&mut self, from_client: bool) -> &mut Self {
        let mut step = self.make(from_client, b"");
        step.fin = true;
        self.step(&step);
        self
    }

    pub(super) fn close(&mut self, by: ClosedBy, reset: bool) -> &mut Self {
        self.time += 10;
        let (connection, at) = (self.connection.clone(), self.time);
        self.push(Event::Closed {
            connection,
            closed: closed(by, reset, at),
            slot: Some(3),
            lost: 0,
        });
        self
    }

    pub(super) fn tick(&mut self, after_milliseconds: u64) -> &mut Self {
        self.time += after_milliseconds * 1_000_000;
        let now = Monotonic(self.time);
        self.assembler.tick(now, &mut self.seen);
        self
    }

    pub(super) fn counters(&self) -> Counters {
        self.assembler.counters()
    }

    /// What there is to say of each exchange, one line for each:
    /// `ordinal method path status outcome request-head+body response-head+body`.
    pub(super) fn lines(&self) -> Vec<String> {
        self.seen.exchanges.iter().map(line).collect()
    }

    /// Method, path, status and bodies: `GET /a 200 0/5 complete`.
    #[track_caller]
    pub(super) fn expect(&self, expected: &[&str]) {
        let lines: Vec<String> = self.seen.exchanges.iter().map(short).collect();
        assert_eq!(lines, expected);
    }

    #[track_caller]
    pub(super) fn in_flight(&self) -> usize {
        self.assembler.in_flight().count()
    }
}

pub(super) fn line(exchange: &Exchange) -> String {
    let head = exchange.received.map_or(0, |side| side.head_bytes);
    format!(
        "{} {} head {}/{head} hop {:?} {}",
        exchange.ordinal,
        short(exchange),
        exchange.sent.head_bytes,
        exchange.hop.0,
        exchange.request.authority,
    )
}

fn short(exchange: &Exchange) -> String {
    let status = exchange
        .status
        .map_or_else(|| "-".to_owned(), |status| status.to_string());
    let received = exchange
        .received
        .map_or_else(|| "-".to_owned(), |side| side.body_bytes.to_string());
    assert!(exchange.ended >= exchange.sent.first || exchange.outcome == Outcome::Lost);
    format!(
        "{} {} {status} {}/{received} {}",
        exchange.request.method,
        exchange.request.path,
        exchange.sent.body_bytes,
        exchange.outcome.as_str()
    )
}
