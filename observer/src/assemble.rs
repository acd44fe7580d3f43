//! Events to exchanges: the table of connections, the order of their bytes, their protocols.
//!
//! Synchronous and without a clock: time comes with the events. What cannot be known is said, not
//! guessed: bytes that are missing make an exchange `lost`, never a wrong one.

mod connection;
pub mod heads;
pub mod http1;
pub mod stream;

use hashbrown::HashMap;

use self::{connection::Tracked, heads::Heads};
use crate::{
    model::{
        connection::{Closed, Connection, ConnectionEvent, ConnectionId, Role, Transfer},
        event::{Event, Segment},
        exchange::{Exchange, InFlight, RequestHead},
        time::Monotonic,
    },
    telemetry::health::{Loss, Table},
};

/// Bounds of the assembler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Most connections that are tracked at once; more are counted and not followed.
    pub max_connections: usize,
    /// Request heads that are shared.
    pub head_cache: usize,
    /// How long a hole is waited for when the kernel saw nothing missing: records of one
    /// connection may overtake each other on their way from two CPUs.
    pub overtaking: std::time::Duration,
    /// How long a hole is waited for that TCP itself still has to fill.
    pub retransmission: std::time::Duration,
    /// How long a connection that no longer moves and whose end was not seen is kept.
    pub idle: std::time::Duration,
}

/// What the kernel is told about a connection, so that it need not ship what nobody reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// Nothing of it is decoded any more.
    Opaque,
    /// Its order was lost: go on where a request starts.
    Resync,
    /// Bytes of one direction before a position are body.
    Skip {
        /// From the socket to the network.
        egress: bool,
        /// First position that is wanted again.
        position: u64,
    },
    /// It ended: its slot is free.
    Free,
}

/// Where results go.
pub trait Sink {
    /// A connection changed.
    fn connection(&mut self, event: ConnectionEvent);
    /// An exchange ended.
    fn exchange(&mut self, exchange: Exchange);
    /// The kernel should know.
    fn instruct(&mut self, slot: u32, id: ConnectionId, instruction: Instruction);
}

/// A live connection's numbers, read at a glance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glance {
    /// Totals so far; `understood_bytes` is filled in by the assembler.
    pub transfer: Transfer,
    /// Since when a request is held back in the kernel, and its first bytes.
    pub held: Option<(Monotonic, Vec<u8>)>,
}

/// What was lost or could not be understood, since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections that did not fit into the table.
    pub table_full: u64,
    /// Records of connections that are not in the table.
    pub unknown_connection: u64,
    /// Streams whose order was lost because bytes are missing.
    pub gaps: u64,
    /// Streams that stopped being HTTP.
    pub broken: u64,
    /// Responses that no request asked for.
    pub unpaired: u64,
    /// Early segments that found no room.
    pub parking_full: u64,
    /// Handshake payload whose connection did not come.
    pub orphaned: u64,
    /// Connections whose end was never seen.
    pub expired: u64,
    /// Connections that looked like HTTP at first and are not; not a loss.
    pub not_http: u64,
}

/// Payload that reached a listener, waiting for its connection.
struct Orphan {
    ports: (u16, u16),
    sequence: u32,
    parked: stream::Parked,
}

/// Handshake payloads that wait at once.
const MAX_ORPHANS: usize = 256;

/// The table of connections and everything that is under way on them.
pub struct Assembler {
    config: Config,
    connections: HashMap<ConnectionId, Box<Tracked>, foldhash::fast::RandomState>,
    heads: Heads,
    orphans: Vec<Orphan>,
    counters: Counters,
}

// === impl Config ===

impl Default for Config {
    fn default() -> Self {
        Self {
            max_connections: 65_536,
            head_cache: 4096,
            overtaking: std::time::Duration::from_millis(250),
            retransmission: std::time::Duration::from_secs(130),
            idle: std::time::Duration::from_secs(2 * 3600 + 900),
        }
    }
}

// === impl Assembler ===

impl Assembler {
    /// An empty table.
    pub fn new(config: Config) -> Self {
        let heads = Heads::new(config.head_cache);
        Self {
            config,
            connections: HashMap::default(),
            heads,
            orphans: Vec::new(),
            counters: Counters::default(),
        }
    }

    /// Takes one event.
    pub fn push(&mut self, event: Event<'_>, out: &mut impl Sink) {
        match event {
            Event::Segment { id, segment, .. } => self.segment(id, &segment, out),
            Event::Pair {
                id,
                request,
                response,
                ..
            } => {
                self.segment(id, &request, out);
                self.segment(id, &response, out);
            }
            Event::Opened { connection, slot } => self.opened(connection, slot, out),
            Event::Closed {
                connection,
                closed,
                slot,
                ..
            } => {
                self.closed(connection, closed, slot, out);
            }
            Event::Failed {
                connection,
                at,
                failure,
                slot,
            } => {
                if let Some(slot) = slot {
                    out.instruct(slot, connection.id, Instruction::Free);
                }
                out.connection(ConnectionEvent::Failed {
                    connection,
                    at,
                    failure,
                });
            }
            Event::ListenerSegment {
                local_port,
                remote_port,
                segment,
            } => {
                self.orphan((local_port, remote_port), &segment);
            }
            Event::Placed { id, cgroup, wire } => {
                if let Some(tracked) = self.connections.get_mut(&id) {
                    tracked.connection.wire = wire.or(tracked.connection.wire);
                    tracked.connection.owner.cgroup = cgroup;
                }
                out.connection(ConnectionEvent::Placed { id, cgroup, wire });
            }
            Event::Process { .. } => {}
        }
    }

    /// Looks at what waits too long; to be called a few times a second.
    pub fn tick(&mut self, now: Monotonic, out: &mut impl Sink) {
        let Self {
            config,
            connections,
            counters,
            ..
        } = self;
        let mut expired = Vec::new();
        for (id, tracked) in connections.iter_mut() {
            tracked.tick(now, config, counters, out);
            if now.since(tracked.active) > config.idle {
                expired.push(*id);
            }
        }
        for id in expired {
            if let Some(tracked) = self.connections.remove(&id) {
                self.counters.expired += 1;
                let closed = tracked.last_seen();
                self.finish(*tracked, closed, out);
            }
        }
        let overtaking = self.config.overtaking;
        let before = self.orphans.len();
        self.orphans
            .retain(|orphan| now.since(orphan.parked.time) < overtaking * 8);
        self.counters.orphaned += (before - self.orphans.len()) as u64;
    }

    /// Looks at every live connection that has a slot; to be called about once a second.
    pub fn glance(
        &mut self,
        now: Monotonic,
        mut look: impl FnMut(u32, ConnectionId) -> Option<Glance>,
        out: &mut impl Sink,
    ) {
        for (id, tracked) in &mut self.connections {
            let Some(slot) = tracked.slot else { continue };
            let Some(glance) = look(slot, *id) else {
                continue;
            };
            tracked.glance(glance, now, &mut self.heads, out);
        }
    }

    /// Every request that is not answered in full.
    pub fn in_flight(&self) -> impl Iterator<Item = InFlight> {
        self.connections
            .values()
            .flat_map(|tracked| tracked.in_flight())
    }

    /// Ends everything: the observer stops. What is under way is dropped, not reported as failed.
    pub fn drain(&mut self, out: &mut impl Sink) {
        for tracked in self.connections.values_mut() {
            tracked.confirm(out);
        }
    }

    /// What was lost, by reason.
    pub fn losses(&self) -> Vec<Loss> {
        let Counters {
            table_full,
            unknown_connection,
            gaps,
            broken,
            unpaired,
            parking_full,
            orphaned,
            expired,
            not_http: _,
        } = self.counters;
        [
            ("table_full", table_full),
            ("unknown_connection", unknown_connection),
            ("gap", gaps),
            ("broken", broken),
            ("unpaired", unpaired),
            ("parking_full", parking_full),
            ("orphaned_handshake_data", orphaned),
            ("end_not_seen", expired),
        ]
        .map(|(reason, count)| Loss {
            stage: "assemble",
            reason,
            count,
        })
        .to_vec()
    }

    /// Counters, also of what is no loss.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// How full the tables are.
    pub fn tables(&self) -> Vec<Table> {
        vec![
            Table {
                name: "connections",
                entries: self.connections.len() as u64,
                limit: self.config.max_connections as u64,
            },
            Table {
                name: "handshake_data",
                entries: self.orphans.len() as u64,
                limit: MAX_ORPHANS as u64,
            },
        ]
    }

    fn segment(&mut self, id: ConnectionId, segment: &Segment<'_>, out: &mut impl Sink) {
        match self.connections.get_mut(&id) {
            Some(tracked) => {
                tracked.segment(segment, &mut self.heads, &mut self.counters, out);
            }
            None => self.counters.unknown_connection += 1,
        }
    }

    fn opened(&mut self, connection: Connection, slot: Option<u32>, out: &mut impl Sink) {
        if self.connections.len() >= self.config.max_connections {
            self.counters.table_full += 1;
            return;
        }
        let id = connection.id;
        let orphan = self.take_orphan(&connection);
        let mut tracked = Box::new(Tracked::new(connection.clone(), slot));
        out.connection(ConnectionEvent::Opened(connection));
        if let Some(orphan) = orphan {
            let segment = orphan.segment(crate::model::connection::Direction::Ingress);
            tracked.segment(&segment, &mut self.heads, &mut self.counters, out);
        }
        self.connections.insert(id, tracked);
    }

    fn closed(
        &mut self,
        connection: Connection,
        closed: Closed,
        slot: Option<u32>,
        out: &mut impl Sink,
    ) {
        match self.connections.remove(&connection.id) {
            Some(mut tracked) => {
                tracked.slot = slot.or(tracked.slot);
                // The kernel knows more of it by now, but not what we learnt.
                let role = tracked.connection.role;
                tracked.connection = connection;
                if tracked.connection.role == Role::Unknown {
                    tracked.connection.role = role;
                }
                self.finish(*tracked, closed, out);
            }
            None => {
                if let Some(slot) = slot {
                    out.instruct(slot, connection.id, Instruction::Free);
                }
                out.connection(ConnectionEvent::Closed { connection, closed });
            }
        }
    }

    fn finish(&mut self, mut tracked: Tracked, mut closed: Closed, out: &mut impl Sink) {
        tracked.close(&closed, &mut self.heads, &mut self.counters, out);
        closed.transfer.understood_bytes = tracked.understood();
        if let Some(slot) = tracked.slot {
            out.instruct(slot, tracked.connection.id, Instruction::Free);
        }
        out.connection(ConnectionEvent::Closed {
            connection: tracked.connection,
            closed,
        });
    }

    fn orphan(&mut self, ports: (u16, u16), segment: &Segment<'_>) {
        // Windows of one segment follow each other.
        if let Some(last) = self.orphans.last_mut()
            && last.ports == ports
            && last.parked.bytes.len() == last.parked.length as usize
            && last.sequence.wrapping_add(last.parked.length) == segment.sequence
        {
            let mut bytes = std::mem::take(&mut last.parked.bytes).into_vec();
            bytes.extend_from_slice(segment.bytes);
            last.parked.bytes = bytes.into_boxed_slice();
            last.parked.length += segment.length;
            last.parked.fin |= segment.fin;
            return;
        }
        if self.orphans.len() >= MAX_ORPHANS {
            self.orphans.remove(0);
            self.counters.orphaned += 1;
        }
        self.orphans.push(Orphan {
            ports,
            sequence: segment.sequence,
            parked: stream::Parked {
                time: segment.time,
                position: 0,
                sequence: segment.sequence,
                acknowledgement: segment.acknowledgement,
                length: segment.length,
                bytes: segment.bytes.into(),
                fin: segment.fin,
                in_order: true,
            },
        });
    }

    fn take_orphan(&mut self, connection: &Connection) -> Option<stream::Parked> {
        if self.orphans.is_empty() || connection.role != Role::Server {
            return None;
        }
        let (_, remote_sequence) = connection.sequences?;
        let ports = (connection.local.port(), connection.remote.port());
        let index = self
            .orphans
            .iter()
            .position(|orphan| orphan.ports == ports && orphan.sequence == remote_sequence)?;
        Some(self.orphans.swap_remove(index).parked)
    }
}

/// A held request as one in flight, when enough of its head is there to tell.
fn held_request(
    id: ConnectionId,
    role: Role,
    since: Monotonic,
    bytes: &[u8],
    heads: &mut Heads,
) -> Option<InFlight> {
    let line_end = memchr::memchr(b'\n', bytes);
    let request = match line_end {
        Some(end) => {
            // The fields may be cut off; the request line is what tells.
            let mut line = bytes.get(..=end)?.to_vec();
            line.extend_from_slice(b"\r\n");
            match http1::head::request(&line, 0) {
                http1::head::Parsed::Complete(request, _) => heads.intern(&request),
                _ => return None,
            }
        }
        None => {
            let method = bytes.get(..memchr::memchr(b' ', bytes)?)?;
            std::sync::Arc::new(RequestHead {
                method: String::from_utf8_lossy(method).into(),
                path: "".into(),
                has_query: false,
                scheme: None,
                authority: "".into(),
                user_agent: "".into(),
                version: crate::model::exchange::HttpVersion::Http11,
                truncated: true,
            })
        }
    };
    Some(InFlight {
        connection: id,
        role,
        request,
        since,
    })
}

#[cfg(test)]
mod tests;
