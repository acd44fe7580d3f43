//! Events to exchanges: the table of connections, the order of their bytes, their protocols.
//!
//! Synchronous and without a clock: time comes with the events. What cannot be known is said, not
//! guessed: bytes that are missing make an exchange `lost`, never a wrong one.

mod causes;
mod connection;
mod counters;
pub mod datagrams;
pub mod dns;
pub mod forwarded;
pub mod grpc;
pub mod heads;
pub mod hpack;
pub mod http1;
pub mod http2;
mod orphans;
pub mod proxy_protocol;
pub mod quic;
pub mod starttls;
pub mod stream;
pub mod tls;
pub mod trace_context;

use hashbrown::HashMap;

pub use self::counters::Counters;
use self::{connection::Tracked, datagrams::Flows, dns::Lookups, heads::Heads, orphans::Orphans};
use crate::{
    model::{
        connection::{
            Closed, Connection, ConnectionEvent, ConnectionId, Direction, Role, Transfer,
        },
        datagram::Datagrams,
        event::{Caused, Event, Segment},
        exchange::{Exchange, InFlight},
        lookup::Lookup,
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
    /// Most bytes that all messages and segments under way may take; beyond it those of the
    /// connections that take much are given up.
    pub memory: usize,
    /// Lookups of DNS.
    pub dns: dns::Config,
    /// Flows of datagrams.
    pub datagrams: datagrams::Config,
}

/// What the kernel is told about a connection, so that it need not ship what nobody reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// Nothing of it is decoded any more.
    Opaque,
    /// Its order was lost: go on where a request starts.
    Resync,
    /// It speaks HTTP/1, which its first bytes did not tell.
    Http,
    /// It speaks HTTP/2. [`Instruction::Skip`] has positions of frame headers then.
    Http2 {
        /// The content of DATA frames is wanted.
        with_data: bool,
    },
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
    /// A lookup of DNS ended.
    fn lookup(&mut self, lookup: Lookup);
    /// Datagrams passed between a socket and a peer.
    fn datagrams(&mut self, datagrams: Datagrams);
    /// The kernel should know.
    fn instruct(&mut self, slot: u32, id: ConnectionId, instruction: Instruction);
}

/// A live connection's numbers, read at a glance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glance {
    /// Totals so far; `understood_bytes` is filled in by the assembler.
    pub transfer: Transfer,
    /// The segment that is held back in the kernel.
    pub held: Option<Held>,
}

/// A segment of the client that the kernel holds back until something answers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// When it passed the socket.
    pub since: Monotonic,
    /// Bytes of its payload, which end where the client's bytes do.
    pub length: u32,
    /// The first of them.
    pub head: Vec<u8>,
}

/// The table of connections and everything that is under way on them.
pub struct Assembler {
    config: Config,
    connections: HashMap<ConnectionId, Box<Tracked>, foldhash::fast::RandomState>,
    shared: Shared,
    orphans: Orphans,
    flows: Flows,
    /// Connections that time alone may change.
    waiting: Vec<ConnectionId>,
    /// When the whole table was last looked at.
    swept: Monotonic,
}

/// What all connections use.
struct Shared {
    heads: Heads,
    counters: Counters,
    lookups: Lookups,
}

/// Between two looks at the whole table for connections that do not move.
const SWEEP: std::time::Duration = std::time::Duration::from_secs(30);

// === impl Config ===

impl Default for Config {
    fn default() -> Self {
        Self {
            max_connections: 65_536,
            head_cache: 4096,
            overtaking: std::time::Duration::from_millis(250),
            retransmission: std::time::Duration::from_secs(130),
            idle: std::time::Duration::from_secs(2 * 3600 + 900),
            memory: 32 << 20,
            dns: dns::Config::default(),
            datagrams: datagrams::Config::default(),
        }
    }
}

// === impl Assembler ===

impl Assembler {
    /// An empty table.
    pub fn new(config: Config) -> Self {
        let heads = Heads::new(config.head_cache);
        Self {
            flows: Flows::new(config.datagrams.clone()),
            connections: HashMap::default(),
            shared: Shared {
                heads,
                counters: Counters::default(),
                lookups: Lookups::new(config.dns.clone()),
            },
            config,
            orphans: Orphans::default(),
            waiting: Vec::new(),
            swept: Monotonic(0),
        }
    }

    /// Takes one event.
    pub fn push(&mut self, event: Event<'_>, out: &mut impl Sink) {
        match event {
            Event::Segment {
                id, lost, segment, ..
            } => self.segments(id, lost, &[segment], out),
            Event::Pair {
                id,
                lost,
                request,
                response,
                ..
            } => self.segments(id, lost, &[request, response], out),
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
                self.shared.counters.orphaned +=
                    self.orphans.push((local_port, remote_port), &segment);
            }
            Event::Placed { id, cgroup, wire } => {
                if let Some(tracked) = self.connections.get_mut(&id) {
                    tracked.connection.wire = wire.or(tracked.connection.wire);
                    tracked.connection.owner.cgroup = cgroup;
                }
                out.connection(ConnectionEvent::Placed { id, cgroup, wire });
            }
            Event::Datagram(datagram) => self.flows.push(&datagram, &mut self.shared.lookups, out),
            Event::Caused(caused) => self.caused(caused),
            Event::HandsOver { pid } => {
                for tracked in self.connections.values_mut() {
                    tracked.doubt_causes(pid);
                }
            }
            Event::Process { .. } => {}
        }
    }

    /// Looks at what waits too long; to be called a few times a second.
    pub fn tick(&mut self, now: Monotonic, out: &mut impl Sink) {
        let Self {
            config,
            connections,
            shared,
            waiting,
            ..
        } = self;
        let mut memory = 0;
        waiting.retain(|id| {
            let Some(tracked) = connections.get_mut(id) else {
                return false;
            };
            tracked.tick(now, config, shared, out);
            memory += tracked.weight();
            if memory > config.memory {
                memory -= tracked.weight();
                tracked.relieve(shared, out);
            }
            tracked.listed = tracked.needs_tick();
            tracked.listed
        });
        self.shared.counters.orphaned += self.orphans.expire(now, self.config.overtaking * 8);
        self.shared.lookups.tick(now, |lookup| out.lookup(lookup));
        self.flows.tick(now);
        if now.since(self.swept) > SWEEP.min(self.config.idle) {
            self.swept = now;
            self.sweep(now, out);
        }
    }

    /// Ends connections that have not moved for too long.
    fn sweep(&mut self, now: Monotonic, out: &mut impl Sink) {
        let idle = self.config.idle;
        let expired: Vec<Box<Tracked>> = self
            .connections
            .extract_if(|_, tracked| now.since(tracked.active) > idle)
            .map(|(_, tracked)| tracked)
            .collect();
        for tracked in expired {
            self.shared.counters.expired += 1;
            let closed = tracked.last_seen();
            self.finish(*tracked, closed, out);
        }
    }

    /// Looks at every live connection, about once a second; `look` has nothing for those that have
    /// no slot any more or were quiet. Returns every request that is not answered in full.
    pub fn glance(
        &mut self,
        now: Monotonic,
        mut look: impl FnMut(u32, ConnectionId) -> Option<Glance>,
        out: &mut impl Sink,
    ) -> Vec<InFlight> {
        let mut in_flight = Vec::new();
        for (id, tracked) in &mut self.connections {
            match tracked.slot.and_then(|slot| look(slot, *id)) {
                Some(glance) => tracked.glance(glance, now, &mut self.shared.heads, out),
                None => tracked.quieten(),
            }
            in_flight.extend(tracked.in_flight());
        }
        in_flight
    }

    /// The flows of datagrams, to be looked at about once a second.
    pub fn flows(&mut self) -> &mut Flows {
        &mut self.flows
    }

    /// Changes what may change while it runs.
    pub fn reconfigure(&mut self, dns: dns::Config, datagrams: datagrams::Config) {
        self.shared.lookups.reconfigure(dns);
        self.flows.reconfigure(datagrams);
    }

    /// Every request that is not answered in full, without a look at anything.
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
        self.flows.drain(out);
    }

    /// What was lost, by reason.
    pub fn losses(&self) -> Vec<Loss> {
        self.shared
            .counters
            .losses()
            .into_iter()
            .chain([self.shared.heads.loss()])
            .chain(self.shared.lookups.losses())
            .chain(self.flows.losses())
            .collect()
    }

    /// Counters, also of what is no loss.
    pub fn counters(&self) -> Counters {
        self.shared.counters
    }

    /// How full the tables are.
    pub fn tables(&self) -> Vec<Table> {
        let mut tables = vec![
            Table {
                name: "connections",
                entries: self.connections.len() as u64,
                limit: self.config.max_connections as u64,
            },
            Table {
                name: "handshake_data",
                entries: self.orphans.len() as u64,
                limit: orphans::MAX_ORPHANS as u64,
            },
            self.shared.lookups.table(),
        ];
        tables.extend(self.flows.tables());
        tables
    }

    fn segments(
        &mut self,
        id: ConnectionId,
        lost: u16,
        segments: &[Segment<'_>],
        out: &mut impl Sink,
    ) {
        let Some(tracked) = self.connections.get_mut(&id) else {
            self.shared.counters.unknown_connection += 1;
            return;
        };
        let mut lost = lost;
        for segment in segments {
            tracked.segment(segment, std::mem::take(&mut lost), &mut self.shared, out);
        }
        self.shared.counters.causes_unmatched += tracked.causes.take_unmatched();
        if !tracked.listed && tracked.needs_tick() {
            tracked.listed = true;
            self.waiting.push(id);
        }
    }

    fn caused(&mut self, caused: Caused) {
        // A request whose connection is gone can cause nothing any more.
        let lives = self.connections.contains_key(&caused.cause.inbound);
        match self.connections.get_mut(&caused.connection) {
            Some(tracked) if lives => tracked.causes.push(caused),
            _ => self.shared.counters.causes_unmatched += 1,
        }
    }

    fn opened(&mut self, connection: Connection, slot: Option<u32>, out: &mut impl Sink) {
        let id = connection.id;
        if self.connections.len() >= self.config.max_connections {
            self.shared.counters.table_full += 1;
            if let Some(slot) = slot {
                out.instruct(slot, id, Instruction::Opaque);
            }
            return;
        }
        let orphan = self.orphans.take(&connection);
        let tracked = Box::new(Tracked::new(connection.clone(), slot));
        if let Some(mut replaced) = self.connections.insert(id, tracked) {
            // Cannot be: a cookie is given once. What was under way is over in any case.
            self.shared.counters.expired += 1;
            replaced.slot = None;
            let closed = replaced.last_seen();
            self.finish(*replaced, closed, out);
        }
        out.connection(ConnectionEvent::Opened(connection));
        if let Some(orphan) = orphan {
            let segment = orphan.segment(Direction::Ingress);
            self.segments(id, 0, &[segment], out);
        }
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
        tracked.close(&closed, &mut self.shared, out);
        self.shared.counters.causes_unmatched += tracked.causes.end();
        closed.transfer.understood_bytes = tracked.understood();
        if let Some(slot) = tracked.slot {
            out.instruct(slot, tracked.connection.id, Instruction::Free);
        }
        out.connection(ConnectionEvent::Closed {
            connection: tracked.connection,
            closed,
        });
    }
}

#[cfg(test)]
mod script;
#[cfg(test)]
mod tests;
