//! Datagrams: what passes between UDP sockets and their peers, with the lookups of DNS and the QUIC
//! connections in them.
//!
//! What the kernel counts is read about once a second and told as change; datagrams of DNS come one
//! by one and are counted here. Both are exact but for what is counted as lost.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use hashbrown::HashMap;

use super::{
    Sink,
    dns::{Channel, Lookups},
    quic::{self, Attempts},
};
use crate::{
    model::{
        connection::{ConnectionId, Direction, Owner, Role},
        datagram::{DatagramProtocol, Datagrams, Quic, Traffic},
        event::{Datagram, DatagramPurpose, DatagramTotals},
        lookup::Transport,
        time::Monotonic,
    },
    telemetry::health::{Loss, Table},
};

/// Bounds of the tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How long a flow is quiet when it is over.
    pub idle: Duration,
    /// Most flows that are followed.
    pub max_flows: usize,
}

/// What was lost, since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Flows that the kernel forgot while they moved, or before any look saw them: what passed since
    /// the last look is not known.
    pub evicted: u64,
    /// Looks at flows that found no room: what passed is told when there is some.
    pub full: u64,
}

/// A socket and a peer.
pub type FlowKey = (ConnectionId, SocketAddr);

/// All flows.
#[derive(Debug)]
pub struct Flows {
    config: Config,
    flows: HashMap<FlowKey, Flow, foldhash::fast::RandomState>,
    /// Datagrams of DNS that are not told yet.
    dns: HashMap<FlowKey, Flow, foldhash::fast::RandomState>,
    attempts: Attempts,
    /// Number of the latest look at the kernel's counters.
    look: u64,
    /// Flows that the kernel had begun when that started.
    created: u64,
    /// Those of them that looks saw begin, or that are known to be missed.
    known: u64,
    counters: Counters,
}

/// What is known of a flow.
#[derive(Debug)]
struct Flow {
    local: SocketAddr,
    owner: Owner,
    started: Monotonic,
    /// When the kernel began to count it.
    begun: Option<Monotonic>,
    last: Monotonic,
    /// What the kernel had counted at the last look.
    read: Traffic,
    /// All that passed.
    total: Traffic,
    quic: Option<Arc<Quic>>,
    /// The look that saw it last; 0 when none has.
    seen: u64,
}

/// Sockets and servers whose datagrams of DNS are put together before they are told.
const MAX_DNS: usize = 1024;
/// A flow that the kernel forgot had moved since the last look if its last datagram is not older;
/// one that a datagram told of is waited for as long.
const LATELY: Duration = Duration::from_millis(2500);

// === impl Config ===

impl Default for Config {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(30),
            max_flows: 16_384,
        }
    }
}

// === impl Flows ===

impl Flows {
    /// No flows.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            flows: HashMap::default(),
            dns: HashMap::default(),
            attempts: Attempts::default(),
            look: 0,
            created: 0,
            known: 0,
            counters: Counters::default(),
        }
    }

    /// Changes the bounds; flows are kept.
    pub fn reconfigure(&mut self, config: Config) {
        self.config = config;
    }

    /// Takes a datagram.
    pub fn push(&mut self, datagram: &Datagram<'_>, lookups: &mut Lookups, out: &mut impl Sink) {
        match datagram.purpose {
            DatagramPurpose::Dns => {
                self.count(datagram, out);
                let channel = Channel {
                    socket: datagram.socket,
                    owner: &datagram.owner,
                    transport: Transport::Udp,
                    local: datagram.local,
                    remote: datagram.remote,
                };
                let Datagram {
                    direction, time, ..
                } = *datagram;
                if let Some(lookup) = lookups.push(&channel, direction, time, datagram.bytes) {
                    out.lookup(lookup);
                }
            }
            DatagramPurpose::Quic => self.opens(datagram),
        }
    }

    /// Gives up what waits for too long; to be called a few times a second.
    pub fn tick(&mut self, now: Monotonic) {
        self.attempts.expire(now);
    }

    /// Begins a look at what the kernel has counted, which has begun so many flows in all.
    pub fn begin(&mut self, created: u64) {
        self.look += 1;
        self.created = created;
    }

    /// Takes what the kernel has counted of one peer; `socket` tells the address and the owner of
    /// the socket, if they are not known.
    pub fn totals(
        &mut self,
        totals: &DatagramTotals,
        socket: impl FnOnce() -> (SocketAddr, Owner),
        out: &mut impl Sink,
    ) {
        let key = (totals.socket, totals.remote);
        if !self.flows.contains_key(&key) && self.flows.len() >= self.config.max_flows {
            self.counters.full += 1;
            return;
        }
        let flow = self
            .flows
            .entry(key)
            .or_insert_with(|| Flow::new(socket(), totals.started));
        flow.seen = self.look;
        if flow.begun != Some(totals.started) {
            self.known += 1;
            // Forgotten and begun anew since the last look, unless this is the first.
            self.counters.evicted += u64::from(flow.begun.is_some());
            flow.begun = Some(totals.started);
            flow.read = Traffic::default();
        }
        let change = totals.total.since(&flow.read).unwrap_or_default();
        flow.read = totals.total;
        if !change.is_empty() {
            flow.last = totals.last;
            flow.total.add(&change);
            out.datagrams(flow.told(key, change, false));
        }
    }

    /// Ends a look, which saw all that the kernel has if it is `whole`: tells what is over, and
    /// returns what the kernel need not remember any more.
    pub fn finish(&mut self, now: Monotonic, whole: bool, out: &mut impl Sink) -> Vec<FlowKey> {
        self.tell_dns(out);
        let Self {
            config,
            flows,
            look,
            created,
            known,
            counters,
            ..
        } = self;
        if whole {
            // What was begun before the look is seen by it, or was forgotten before.
            let missed = created.saturating_sub(*known);
            counters.evicted += missed;
            *known += missed;
        }
        let mut over = Vec::new();
        flows.retain(|key, flow| {
            let quiet = now.since(flow.last);
            let there = flow.seen == *look || !whole || flow.seen == 0 && quiet < LATELY;
            if there && quiet < config.idle {
                return true;
            }
            if there {
                over.push(*key);
            } else if flow.seen != 0 {
                counters.evicted += u64::from(quiet < LATELY);
            }
            out.datagrams(flow.told(*key, Traffic::default(), true));
            false
        });
        over
    }

    /// Tells everything that waits: the observer stops.
    pub fn drain(&mut self, out: &mut impl Sink) {
        self.tell_dns(out);
    }

    /// What was lost, by reason.
    pub fn losses(&self) -> Vec<Loss> {
        let quic::Counters {
            incomplete,
            full,
            foreign: _,
        } = self.attempts.counters();
        [
            ("datagrams_evicted", self.counters.evicted),
            ("datagrams_full", self.counters.full),
            ("quic_incomplete", incomplete),
            ("quic_full", full),
        ]
        .map(|(reason, count)| Loss {
            stage: "assemble",
            reason,
            count,
        })
        .to_vec()
    }

    /// How full the tables are.
    pub fn tables(&self) -> Vec<Table> {
        vec![
            Table {
                name: "datagram_flows",
                entries: self.flows.len() as u64,
                limit: self.config.max_flows as u64,
            },
            Table {
                name: "quic_attempts",
                entries: self.attempts.len() as u64,
                limit: quic::MAX_ATTEMPTS as u64,
            },
        ]
    }

    /// Counts a datagram that the kernel does not.
    fn count(&mut self, datagram: &Datagram<'_>, out: &mut impl Sink) {
        if self.dns.len() >= MAX_DNS {
            self.tell_dns(out);
        }
        let Datagram {
            time,
            socket,
            remote,
            ..
        } = *datagram;
        let flow = self
            .dns
            .entry((socket, remote))
            .or_insert_with(|| Flow::new((datagram.local, datagram.owner.clone()), time));
        flow.last = time;
        flow.total.add(&one(datagram));
    }

    fn tell_dns(&mut self, out: &mut impl Sink) {
        for (key, flow) in self.dns.drain() {
            let mut told = flow.told(key, flow.total, false);
            told.protocol = DatagramProtocol::Dns;
            out.datagrams(told);
        }
    }

    /// Looks at a datagram that may open a QUIC connection.
    fn opens(&mut self, datagram: &Datagram<'_>) {
        let role = match datagram.direction {
            Direction::Egress => Role::Client,
            Direction::Ingress => Role::Server,
        };
        let key = (datagram.socket, datagram.remote);
        let segment = datagram.segment.into();
        let found = self
            .attempts
            .push(key, role, datagram.time, segment, datagram.bytes);
        let Some(found) = found else {
            return;
        };
        if !self.flows.contains_key(&key) && self.flows.len() >= self.config.max_flows {
            return;
        }
        let flow = self
            .flows
            .entry(key)
            .or_insert_with(|| Flow::new((datagram.local, datagram.owner.clone()), datagram.time));
        // What is known of a connection is not forgotten for the rest of its first packets.
        if found.handshake.is_some() || flow.quic.is_none() {
            flow.quic = Some(Arc::new(found));
        }
    }
}

/// A datagram as traffic.
fn one(datagram: &Datagram<'_>) -> Traffic {
    let bytes = u64::from(datagram.length);
    match datagram.direction {
        Direction::Ingress => Traffic {
            received_bytes: bytes,
            received_packets: 1,
            ..Traffic::default()
        },
        Direction::Egress => Traffic {
            sent_bytes: bytes,
            sent_packets: 1,
            ..Traffic::default()
        },
    }
}

// === impl Flow ===

impl Flow {
    fn new((local, owner): (SocketAddr, Owner), started: Monotonic) -> Self {
        Self {
            local,
            owner,
            started,
            begun: None,
            last: started,
            read: Traffic::default(),
            total: Traffic::default(),
            quic: None,
            seen: 0,
        }
    }

    fn told(&self, (socket, remote): FlowKey, change: Traffic, ended: bool) -> Datagrams {
        Datagrams {
            socket,
            owner: self.owner.clone(),
            local: self.local,
            remote,
            protocol: match self.quic {
                Some(_) => DatagramProtocol::Quic,
                None => DatagramProtocol::Other,
            },
            quic: self.quic.clone(),
            started: self.started,
            last: self.last,
            change,
            total: self.total,
            ended,
        }
    }
}

#[cfg(test)]
mod tests;
