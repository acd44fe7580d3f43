//! The pipeline's thread: one owner of all state, one direction of data, no lock.

use std::{sync::Arc, sync::mpsc, time::Duration};

mod rest;

use self::rest::Rest;
use super::{Cgroup, cluster::Cluster, export::Exports, ignored::Ignored, settings};
use crate::{
    aggregate::{Aggregator, access::AccessLog, spans::Spans},
    assemble::{self, Assembler, Glance, Held, Instruction},
    capture::{self, Capture},
    config::Config,
    decode::{self, DecodeError, decode},
    enrich::Enricher,
    host::Host,
    mesh::ledger::Ledger,
    model::{
        connection::{ConnectionId, Transfer},
        event::Event,
        time::{Monotonic, WallOffset},
    },
    serve::{self, Query, Recent},
    telemetry::{
        health::{Health, Loss},
        process,
    },
};

/// What the pipeline is told from outside.
pub(super) enum Order {
    /// Take over new settings.
    Configure(Box<Config>),
    /// Drain and end.
    Stop,
}

/// All stages, in the order of data.
pub(super) struct Stages {
    capture: Capture,
    undecoded: [u64; DecodeError::ALL.len()],
    /// Looks at the counters of datagrams that failed.
    unread: u64,
    assembler: Assembler,
    rest: Rest,
    /// What happens in the cluster, where this host is in one.
    cluster: Option<Cluster>,
    hub: serve::Hub,
    capture_config: capture::Config,
    start_unix_seconds: f64,
    offset: WallOffset,
}

/// How long the pipeline sleeps when nothing asks for attention. Records and questions wait for
/// so long at most.
const NAP: Duration = Duration::from_millis(20);
/// How long it sleeps at most while there are no records: a ring buffer that fills ends it early.
const LONGEST_NAP: Duration = Duration::from_millis(80);
/// How long it sleeps under load: what is drained at once keeps a CPU from the applications for as
/// long as it takes, so it had better be little.
const SHORT_NAP: Duration = Duration::from_millis(4);
/// Records in one round that count as load.
const BUSY: usize = 256;
/// Records between two looks at questions and timers.
const BATCH: usize = 4096;
/// Changes of the cluster after which the rest waits its turn. Batches may be of one change each, and what
/// is known of a pod holds from when it was taken: so it is changes that are counted.
const CHANGES: usize = 8192;
/// Between two looks at what waits too long.
const TICK: Duration = Duration::from_millis(100);
/// Between two looks at live connections.
const GLANCE: Duration = Duration::from_millis(1000);
/// A connection whose last payload is older has told all it had to tell, in several looks.
const QUIET: Duration = Duration::from_secs(2);
/// Nanoseconds that wall-clock time must have moved against the kernel's clock to be followed.
const WORTH_CORRECTING: u64 = 1_000_000;

// === impl Stages ===

impl Stages {
    pub(super) fn new(
        config: &Config,
        cgroup: &Cgroup,
        capture: Capture,
        cluster: Option<Cluster>,
        exports: Exports,
        (hub, answers): (serve::Hub, serve::Pipeline),
    ) -> Self {
        let node = cluster.as_ref().map(|cluster| cluster.source);
        Self {
            capture,
            undecoded: [0; DecodeError::ALL.len()],
            unread: 0,
            assembler: Assembler::new(settings::assemble(config)),
            rest: Rest {
                host: Host::new(settings::host(config, &cgroup.root)),
                enricher: Enricher::new(settings::enrich(config, node)),
                ignored: Ignored::new(config),
                aggregator: Aggregator::new(settings::aggregate(config)),
                spans: Spans::new(settings::spans(config, exports.wants_spans())),
                access_log: AccessLog::new(config.access_log.clone()),
                ledger: Ledger::new(settings::ledger(config)),
                judges: config.mesh.is_on(cluster.is_some()),
                exports,
                made: Vec::new(),
                answers,
                told: Vec::new(),
                instructions: Vec::new(),
                now: capture::now(),
            },
            cluster,
            hub,
            capture_config: settings::capture(config, &cgroup.observed),
            start_unix_seconds: process::start_unix_seconds(),
            offset: capture::wall_offset(),
        }
    }

    /// Runs until it is told to stop.
    pub(super) fn run(mut self, orders: &mpsc::Receiver<Order>) {
        let mut ticked = capture::now();
        let mut glanced = ticked;
        let mut nap = NAP;
        loop {
            let drained = self.drain();
            let now = capture::now();
            self.rest.now = now;
            if now.since(ticked) >= TICK {
                ticked = now;
                self.assembler.tick(now, &mut self.rest);
                self.rest.enricher.expire(now);
                self.rest.expire_spans(false);
            }
            if now.since(glanced) >= GLANCE {
                glanced = now;
                self.glance(now);
            }
            self.instruct();
            self.learn(now);
            self.rest.settle(false);
            self.rest.answers.tick();
            while let Some(query) = self.rest.answers.query() {
                self.answer(query, now);
            }
            match orders.try_recv() {
                Ok(Order::Configure(config)) => self.configure(&config),
                Ok(Order::Stop) | Err(mpsc::TryRecvError::Disconnected) => break,
                Err(mpsc::TryRecvError::Empty) => {}
            }
            nap = match drained {
                0 => LONGEST_NAP.min(nap * 2),
                1..BUSY => NAP,
                _ => SHORT_NAP,
            };
            if drained < BATCH {
                self.capture.wait(nap);
            }
        }
        while self.drain() > 0 {}
        self.datagrams(capture::now());
        self.assembler.drain(&mut self.rest);
        self.rest.settle(true);
        self.rest.expire_spans(true);
        tracing::info!(records = self.capture.records(), "drained and detached");
    }

    /// Takes a batch of records through all stages.
    fn drain(&mut self) -> usize {
        let Self {
            capture,
            undecoded,
            assembler,
            rest,
            ..
        } = self;
        capture.drain(BATCH, |record| match decode(record) {
            Ok(event) => {
                if let Event::Process { time, owner } = &event {
                    rest.host.observe(owner, *time);
                }
                assembler.push(event, rest);
            }
            Err(error) => {
                if let Some(count) = undecoded.get_mut(error as usize) {
                    *count += 1;
                }
            }
        })
    }

    /// Takes what happened in the cluster.
    fn learn(&mut self, now: Monotonic) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let Some(index) = self.rest.enricher.index_mut() else {
            return;
        };
        let mut taken = 0;
        while taken < CHANGES {
            let Ok((source, batch)) = cluster.changes.try_recv() else {
                break;
            };
            taken += batch.len().max(1);
            for change in batch {
                if self.rest.judges
                    && let Some(declared) = change.declares()
                {
                    self.rest.ledger.declare(declared, now);
                }
                index.apply(source, change, now, self.offset);
            }
        }
        index.expire(now);
    }

    /// Looks at every live connection.
    fn glance(&mut self, now: Monotonic) {
        let slots = self.capture.slots();
        let look = |slot, id| glance(slots, slot, id, now);
        let in_flight = self.assembler.glance(now, look, &mut self.rest);
        self.datagrams(now);
        let Rest {
            enricher,
            aggregator,
            ignored,
            host,
            ledger,
            judges,
            ..
        } = &mut self.rest;
        let mut calls = in_flight.into_iter().filter_map(|request| {
            let link = enricher.link(request.connection)?;
            (!ignored.is(&link.workload)).then(|| (Arc::clone(link), request))
        });
        aggregator.in_flight(now, &mut calls);
        aggregator.expire(now);
        if *judges {
            ledger.tick(now);
        }
        host.expire(now);
        self.announce(now);
        let offset = capture::wall_offset();
        // Small corrections are left alone, so that one flow is told with one time.
        if offset.nanoseconds.abs_diff(self.offset.nanoseconds) > WORTH_CORRECTING {
            self.offset = offset;
            self.hub.set_wall_offset(offset);
            self.rest.exports.set_offset(offset);
        }
    }

    /// Looks at what the kernel has counted of datagrams.
    fn datagrams(&mut self, now: Monotonic) {
        let Self {
            capture,
            assembler,
            rest,
            ..
        } = self;
        let flows = assembler.flows();
        flows.begin(capture.datagram_flows());
        let read = capture.datagrams(|key, flow| {
            let socket = || decode::datagram_socket(flow);
            flows.totals(&decode::datagram_totals(key, flow), socket, rest);
        });
        if let Err(error) = &read {
            tracing::debug!(%error, "cannot read the counters of datagrams");
        }
        self.unread += u64::from(read.is_err());
        for (socket, remote) in flows.finish(now, read.is_ok(), rest) {
            capture.forget_datagrams(socket.0, remote);
        }
    }

    /// Carries out what the stages want of the kernel.
    fn instruct(&mut self) {
        for (slot, id, instruction) in self.rest.instructions.drain(..) {
            let slots = self.capture.slots();
            match instruction {
                Instruction::Opaque => slots.set_opaque(slot, id.0),
                Instruction::Resync => slots.set_resync(slot, id.0),
                Instruction::Http => slots.set_http(slot, id.0),
                Instruction::Http2 { with_data } => slots.set_http2(slot, id.0, with_data),
                Instruction::Skip { egress, position } => slots.skip(slot, id.0, egress, position),
                Instruction::Free => self.capture.free_slot(slot),
            }
        }
    }

    fn answer(&mut self, query: Query, now: Monotonic) {
        match query {
            // Whoever asked may be gone; that is no error.
            Query::Snapshot(reply) => {
                let health = self.health();
                self.judge(now);
                let _ = reply.send(self.rest.aggregator.snapshot(health, now));
            }
            Query::Graph(reply) => {
                let _ = reply.send(self.rest.aggregator.graph(now));
            }
            Query::GraphIn { window, reply } => {
                let _ = reply.send(self.rest.aggregator.graph_in(window, now));
            }
            Query::Mesh { window, reply } => {
                let ledger = &mut self.rest.ledger;
                let _ = reply.send(ledger.shared_report(window, now, self.offset));
            }
            Query::History {
                last,
                filter,
                reply,
            } => {
                let history = self.rest.aggregator.history();
                let _ = reply.send(Recent {
                    flows: history.last(last, |flow| filter.matches(flow)),
                    sequence: history.sequence(),
                });
            }
        }
    }

    /// Tells the cluster what was found of the mesh, where that is wanted.
    fn announce(&mut self, now: Monotonic) {
        let announcer = self.cluster.as_mut();
        let Some(announcer) = announcer.and_then(|cluster| cluster.announcer.as_mut()) else {
            return;
        };
        if announcer.is_due(now) {
            let ledger = &mut self.rest.ledger;
            let report = ledger.shared_report(None, now, self.offset);
            announcer.look(&report, now);
        }
    }

    /// Makes series of what was found of the mesh.
    fn judge(&mut self, now: Monotonic) {
        let Rest {
            ledger, aggregator, ..
        } = &mut self.rest;
        let report = ledger.shared_report(None, now, self.offset);
        aggregator.judge(&report, &ledger.policies().counts(), now);
    }

    fn configure(&mut self, config: &Config) {
        let Rest {
            host,
            enricher,
            ignored,
            aggregator,
            spans,
            access_log,
            ledger,
            exports,
            ..
        } = &mut self.rest;
        self.capture_config.ignored_ports = config.ignore.ports.clone();
        if let Err(error) = self.capture.reconfigure(&self.capture_config) {
            tracing::error!(%error, "the kernel did not take the new settings");
        }
        host.reconfigure(settings::rules(config));
        let node = self.cluster.as_ref().map(|cluster| cluster.source);
        enricher.reconfigure(settings::enrich(config, node));
        let assemble::Config { dns, datagrams, .. } = settings::assemble(config);
        self.assembler.reconfigure(dns, datagrams);
        aggregator.reconfigure(settings::aggregate(config));
        exports.reconfigure(config);
        spans.reconfigure(settings::spans(config, exports.wants_spans()));
        access_log.reconfigure(config.access_log.clone());
        ledger.reconfigure(settings::ledger(config));
        *ignored = Ignored::new(config);
    }

    fn health(&mut self) -> Health {
        let usage = process::usage();
        let mut losses = self.capture.losses();
        for error in DecodeError::ALL {
            losses.push(Loss {
                stage: "decode",
                reason: error.as_str(),
                count: self.undecoded.get(error as usize).copied().unwrap_or(0),
            });
        }
        losses.push(Loss {
            stage: "capture",
            reason: "datagrams_not_read",
            count: self.unread,
        });
        losses.extend(self.assembler.losses());
        losses.extend(self.rest.host.losses());
        losses.extend(self.rest.enricher.losses());
        losses.extend(self.rest.spans.losses());
        losses.push(Loss {
            stage: "aggregate",
            reason: "access_log_rate",
            count: self.rest.access_log.limited(),
        });
        losses.extend(self.rest.ledger.losses());
        losses.extend(self.rest.exports.losses());
        let mut tables = self.assembler.tables();
        tables.extend(self.rest.host.tables());
        tables.extend(self.rest.enricher.tables());
        tables.extend(self.rest.spans.tables());
        tables.extend(self.rest.ledger.tables());
        tables.extend(self.rest.exports.tables());
        let mut states = Vec::new();
        if let (Some(cluster), Some(index)) = (&self.cluster, self.rest.enricher.index()) {
            losses.extend(cluster.informants.losses());
            let announcer = cluster.announcer.iter();
            losses.extend(announcer.flat_map(|announcer| announcer.sender().losses()));
            tables.extend(cluster.informants.tables());
            states = cluster.informants.states(index);
        }
        Health {
            losses,
            programs: self.capture.costs(),
            tables,
            records: self.capture.records(),
            ring_used_bytes: self.capture.take_highest_fill(),
            ring_size_bytes: self.capture.ring_bytes(),
            cpu_seconds: usage.cpu_seconds,
            resident_bytes: usage.resident_bytes,
            start_unix_seconds: self.start_unix_seconds,
            cluster: states,
            export: self.rest.exports.states(),
        }
    }
}

/// What a slot shows of a connection, unless it has shown it before.
fn glance(slots: &capture::Slots, index: u32, id: ConnectionId, now: Monotonic) -> Option<Glance> {
    // Most connections of a host are idle: reading of them no more than this keeps idling cheap.
    let quiet = now.since(Monotonic(slots.last_payload(index))) > QUIET;
    if quiet && slots.held_since(index) == 0 {
        return None;
    }
    let slot = slots.get(index, id.0)?;
    let held = (slot.held_ns != 0).then(|| {
        let length = (slot.head_length as usize).min(slot.head.len());
        let head = slot.head.get(..length).unwrap_or_default();
        Held {
            since: Monotonic(slot.held_ns),
            length: slot.head_length,
            head: head.to_vec(),
        }
    });
    Some(Glance {
        transfer: Transfer {
            received_bytes: slot.received_bytes,
            sent_bytes: slot.sent_bytes,
            received_segments: slot.received_segments,
            sent_segments: slot.sent_segments,
            retransmits: slot.retransmits,
            smoothed_rtt_us: slot.srtt_us,
            minimum_rtt_us: (slot.min_rtt_us != 0 && slot.min_rtt_us != u32::MAX)
                .then_some(slot.min_rtt_us),
            understood_bytes: 0,
            turns: slot.turns.into(),
            turn_nanoseconds: slot.turns_ns,
        },
        held,
    })
}
