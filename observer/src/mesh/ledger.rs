//! What was seen of every edge of the mesh, kept to be judged by what is declared.

mod ask;
mod edge;
mod edges;
mod judge;
mod latency;
mod marks;
mod parties;
mod past;
mod raise;
mod readiness;
mod rules;
mod share;
mod show;
mod slab;
mod turn;
mod verdict;
mod view;
mod watch;

use std::{sync::Arc, time::Duration};

use self::{
    edge::Shown,
    edges::Edges,
    judge::{CHECKS, Case},
    raise::{Closing, Judging},
    rules::Rules,
    share::Shared,
    turn::Turn,
    view::MOST_PLACES,
    watch::{Around, Ended, Watch},
};
pub(in crate::mesh) use self::{
    edge::at_least,
    latency::shares,
    readiness::{Basis, State, summary, without_mutual},
    show::{encrypted, observed},
};
use super::{
    findings::{Findings, Id, between, worst_first},
    policy::Policies,
    report::{self, Report},
    traffic::{self, Traffic},
};
use crate::{
    model::{
        call::{Call, Link, LinkEvent},
        mesh::{DeclaredMtls, RouteMatch, Verdict},
        policy::PolicyChange,
        time::{Monotonic, WallOffset},
    },
    telemetry::health::{Loss, Table},
};

/// How often what is idle is forgotten, and at least how often readiness is found.
const SWEEP: Duration = Duration::from_secs(60);
/// At most how often readiness is found.
const MEASURE: Duration = Duration::from_secs(1);
/// Most edges of which what is declared is asked anew at once.
const MOST_ASKED: usize = 512;
/// How long a finding stays open that is raised no more, of what is so of one end as long as it is seen.
const KEEP_STATE: Duration = Duration::from_secs(3600);

/// Bounds of the ledger, and when it judges.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Most edges.
    pub edges: usize,
    /// How long an edge is remembered that nothing is seen of: the longest window of readiness.
    pub idle: Duration,
    /// Connections, or requests, below which nothing is judged.
    pub minimum: u64,
    /// How long nothing is judged after something that has to do with it changed.
    pub settle: Duration,
    /// How long a finding stays open that is raised no more, and that nothing speaks against.
    pub window: Duration,
    /// Window of readiness.
    pub readiness: Duration,
    /// How long something must not be used to be called unused.
    pub unused: Duration,
}

/// What was seen, and what is declared.
#[derive(Debug)]
pub struct Ledger {
    config: Config,
    policies: Policies,
    traffic: Traffic,
    edges: Edges,
    watch: Watch,
    rules: Rules,
    findings: Findings,
    shared: Shared,
    /// When something was declared last.
    revised: Option<Monotonic>,
    /// Since when there is something to see.
    began: Option<Monotonic>,
    swept: Monotonic,
    /// When readiness was found last.
    measured: Monotonic,
    /// The next edge that is asked anew.
    cursor: u32,
}

// === impl Config ===

impl Default for Config {
    fn default() -> Self {
        Self {
            edges: 8_192,
            idle: Duration::from_secs(7 * 24 * 3600),
            minimum: 20,
            settle: Duration::from_secs(60),
            window: Duration::from_secs(24 * 3600),
            readiness: Duration::from_secs(7 * 24 * 3600),
            unused: traffic::Config::default().unused,
        }
    }
}

impl Config {
    fn of_traffic(&self) -> traffic::Config {
        let default = traffic::Config::default();
        traffic::Config {
            minimum: self.minimum,
            settle: self.settle,
            idle: self.idle,
            window: self.window,
            unused: self.unused,
            ..default
        }
    }
}

// === impl Ledger ===

impl Ledger {
    /// Nothing seen yet.
    pub fn new(config: Config) -> Self {
        Self {
            policies: Policies::default(),
            traffic: Traffic::new(config.of_traffic()),
            edges: Edges::default(),
            watch: Watch::default(),
            rules: Rules::default(),
            findings: Findings::new(config.edges),
            shared: Shared::default(),
            revised: None,
            began: None,
            swept: Monotonic::default(),
            measured: Monotonic::default(),
            cursor: 0,
            config,
        }
    }

    /// Changes bounds and times; what was seen stays.
    pub fn reconfigure(&mut self, config: Config) {
        self.traffic.reconfigure(config.of_traffic());
        self.findings.set_limit(config.edges);
        self.config = config;
    }

    /// What is declared.
    pub fn policies(&self) -> &Policies {
        &self.policies
    }

    /// Takes a change of what is declared.
    pub fn declare(&mut self, change: PolicyChange, now: Monotonic) {
        self.policies.apply(change);
        self.revised = Some(now);
    }

    /// Takes a change of a connection.
    pub fn link(&mut self, event: &LinkEvent, now: Monotonic) {
        self.traffic.link(&self.policies, event, now);
        let (mut around, watch) = self.parts(now);
        match event {
            LinkEvent::Opened(link) | LinkEvent::Recognised { link, .. } => {
                watch.follow(link, &mut around);
            }
            LinkEvent::Progress { link, transfer } => {
                if watch.follow(link, &mut around) {
                    watch.carried(link, Some(transfer), None, &mut around);
                }
            }
            LinkEvent::Closed {
                link, by, transfer, ..
            } => {
                if watch.follow(link, &mut around) {
                    let ended = Ended { by: *by };
                    watch.carried(link, Some(transfer), Some(ended), &mut around);
                    watch.closed(link.connection.id, around.edges);
                }
            }
            LinkEvent::Failed { link, .. } => watch.failed(link, &mut around),
        }
    }

    /// Takes a call, and says which declared rule it matched.
    pub fn call(&mut self, call: &Call, now: Monotonic) -> Option<RouteMatch> {
        let (mut around, watch) = self.parts(now);
        watch.call(call, &mut around);
        self.traffic.call(&self.policies, call, now)
    }

    fn parts(&mut self, now: Monotonic) -> (Around<'_>, &mut Watch) {
        self.began.get_or_insert(now);
        let settled = |revised: Monotonic| revised.plus(self.config.settle);
        let around = Around {
            policies: &self.policies,
            edges: &mut self.edges,
            limit: self.config.edges,
            judged_from: self.revised.map_or(Monotonic::default(), settled),
            settle: self.config.settle,
            now,
        };
        (around, &mut self.watch)
    }

    /// Judges what is due, and forgets what is idle. Meant to be called about once a second.
    pub fn tick(&mut self, now: Monotonic) {
        self.began.get_or_insert(now);
        self.traffic.tick(&self.policies, now);
        self.shared.expire(now);
        let (mut around, watch) = self.parts(now);
        watch.settle(&mut around);
        self.edges.fold();
        if self.rules.keep_up(&self.policies, now) {
            self.judge_due(now);
        }
        if now.since(self.swept) >= SWEEP {
            self.swept = now;
            self.sweep(now);
        }
        // As soon as what changed may be judged.
        if now.since(self.measured) >= self.config.settle.clamp(MEASURE, SWEEP) {
            self.measured = now;
            let observed = self.observed(now);
            readiness::find(&mut self.findings, &self.edges, &self.config, observed, now);
            let policies = &self.policies;
            turn::find(
                &mut self.findings,
                &mut self.edges,
                policies,
                &self.config,
                now,
            );
        }
    }

    fn judge_due(&mut self, now: Monotonic) {
        let due = self.edges.take_dirty();
        let mut asked = 0;
        for (index, slot) in due.iter().enumerate() {
            if asked >= MOST_ASKED {
                self.edges.put_back(due.get(index..).unwrap_or_default());
                return;
            }
            asked += usize::from(self.judge(*slot, now));
        }
        // Those that nothing happened to, when what is declared is another.
        let end = self.edges.end();
        for _ in 0..end {
            if asked >= MOST_ASKED {
                return;
            }
            let slot = self.cursor;
            self.cursor = if slot + 1 < end { slot + 1 } else { 0 };
            if self.edges.is_itself(slot) && self.is_stale(slot) {
                asked += usize::from(self.judge(slot, now));
            }
        }
    }

    fn is_stale(&self, slot: u32) -> bool {
        let edge = self.edges.get(slot);
        edge.is_some_and(|edge| edge.asked.map(|asked| asked.0) != Some(self.rules.revision()))
    }

    /// Judges an edge; whether what is declared had to be asked anew.
    fn judge(&mut self, slot: u32, now: Monotonic) -> bool {
        let Some((edge, parties)) = self.edges.get_mut(slot) else {
            return false;
        };
        edge.dirty = false;
        let (minimum, window) = (self.config.minimum.max(1), self.config.window);
        let (Some(client), Some(server)) =
            (parties.get(edge.key.client), parties.get(edge.key.server))
        else {
            return false;
        };
        let service = parties.get(edge.key.service).map(|known| &*known.party);
        let version = (self.rules.revision(), client.changes, server.changes);
        let stale = edge.asked != Some(version);
        let mut closing = Closing::Later;
        if stale {
            let learned = edge.asked.is_none();
            // Rather than that other pods of the same two were seen.
            let revised = edge.asked.is_some_and(|asked| asked.0 != version.0);
            edge.asked = Some(version);
            let told = ask::declared(&self.policies, edge, client, server, service);
            if edge.declared.as_deref() != Some(&told) {
                // It is another because more is known, or because it was changed.
                match (edge.declared.as_deref(), learned) {
                    (None, _) => {}
                    (Some(_), true) => closing = Closing::AtOnce,
                    (Some(old), false) => {
                        let last = edge.turn.take().map(|turn| *turn);
                        edge.turn = Turn::between(last, old, &told).map(Box::new);
                        edge.renew(now.plus(self.config.settle));
                        closing = Closing::All;
                    }
                }
                edge.declared = Some(Box::new(told));
            }
            let around =
                ask::surroundings(&self.policies, &self.rules, edge, client, server, service);
            if revised && closing == Closing::Later && *edge.around != around {
                closing = Closing::AtOnce;
            }
            *edge.around = around;
        }
        if let Some(told) = &edge.declared {
            let of = edge.judgeable();
            if let Some((_, signs)) = verdict::bad(&edge.pending.counts, told, edge.around.guarded)
            {
                edge.last_bad = Some(Shown {
                    at: now,
                    between: between(edge.since.sum(signs), of),
                    of,
                });
            } else if edge
                .last_bad
                .is_some_and(|last| now.since(last.at) > window || last.is_over(of, minimum, now))
            {
                edge.forget_bad(verdict::held_against(told));
            }
        }
        edge.judged = verdict::judge(edge, minimum, now);
        let Some(told) = edge.declared.as_deref() else {
            return stale;
        };
        let case = Case {
            edge,
            told,
            client,
            server,
            service,
            around: &edge.around,
            policies: &self.policies,
        };
        let judging = Judging {
            minimum,
            closing,
            now,
        };
        let mut outcomes = Vec::new();
        // Before anything is declared nothing is known to be wrong.
        if edge.exempt.is_none() && self.policies.revision() > 0 {
            for (place, check) in CHECKS.iter().enumerate() {
                let last = edge.shown(place);
                let outcome = raise::check(check, &case, last, &mut self.findings, judging);
                outcomes.extend(outcome.map(|outcome| (place, outcome)));
            }
        }
        edge.remember(&outcomes);
        if edge.judgeable() >= minimum || edge.exempt.is_some() {
            edge.pending.clear();
        }
        stale
    }

    fn sweep(&mut self, now: Monotonic) {
        self.watch.expire(now, &mut self.edges);
        let before = |keep: Duration| {
            let keep = u64::try_from(keep.as_nanos()).unwrap_or(u64::MAX);
            now.0.checked_sub(keep).map(Monotonic)
        };
        if let Some(before) = before(self.config.idle) {
            self.edges.expire(before);
        }
        if let Some(before) = before(self.config.window) {
            self.findings.expire(before);
        }
        if let Some(before) = before(KEEP_STATE) {
            self.findings
                .retain(|key, open| !matches!(key.id, Id::M09 | Id::M34) || open.last >= before);
        }
    }

    fn observed(&self, now: Monotonic) -> Duration {
        self.began.map_or(Duration::ZERO, |began| now.since(began))
    }

    /// What is declared for a connection, and whether that is what was seen.
    pub fn verdict(&self, link: &Link) -> (DeclaredMtls, Verdict) {
        let edge = self.watch.edge(link).and_then(|slot| self.edges.get(slot));
        edge.map_or((DeclaredMtls::Unknown, Verdict::Unknown), |edge| {
            (edge.declared_mtls(), edge.verdict())
        })
    }

    /// All that was found; `readiness` asks for another window than the configured.
    pub fn report(
        &self,
        readiness: Option<Duration>,
        now: Monotonic,
        offset: WallOffset,
    ) -> Report {
        let observed = self.observed(now);
        let window = readiness.unwrap_or(self.config.readiness);
        let mut report = Report {
            observed_seconds: observed.as_secs_f64(),
            readiness: readiness::report(&self.edges, &self.config, window, observed, now, offset),
            ..Report::default()
        };
        let edges = self.edges.iter();
        report.edges = edges
            .filter_map(|edge| show::edge(&self.edges, edge, offset))
            .collect();
        report.edges.sort_by(|one, other| {
            let name = |edge: &report::Edge| (edge.port, edge.client_plane, edge.server_plane);
            (&one.client, &one.server, &one.service, name(one)).cmp(&(
                &other.client,
                &other.server,
                &other.service,
                name(other),
            ))
        });
        self.findings.report(&mut report.findings, offset);
        self.traffic
            .report(&self.policies, &mut report, now, offset);
        worst_first(&mut report.findings);
        show::objects(&self.policies, &mut report);
        report
    }

    /// As [`Self::report`], made anew at most once a second for those who ask for the same window.
    pub fn shared_report(
        &mut self,
        readiness: Option<Duration>,
        now: Monotonic,
        offset: WallOffset,
    ) -> Arc<Report> {
        let window = readiness.unwrap_or(self.config.readiness);
        if let Some(report) = self.shared.get(window, now) {
            return report;
        }
        let report = Arc::new(self.report(readiness, now, offset));
        self.shared.put(window, report.clone(), now);
        report
    }

    /// What did not fit.
    pub fn losses(&self) -> Vec<Loss> {
        let loss = |reason, count| Loss {
            stage: "mesh",
            reason,
            count,
        };
        let mut losses = vec![
            loss("mesh_edges_full", self.edges.dropped),
            loss("mesh_connections_full", self.watch.dropped),
            loss("mesh_findings_full", self.findings.dropped()),
        ];
        losses.extend(self.traffic.losses());
        losses
    }

    /// How full it is.
    pub fn tables(&self) -> Vec<Table> {
        let table = |name, entries: usize, limit: usize| Table {
            name,
            entries: entries as u64,
            limit: limit as u64,
        };
        let limit = self.config.edges;
        let connections = limit.saturating_mul(8);
        let mut tables = vec![
            table("mesh_edges", self.edges.len(), limit),
            table(
                "mesh_edge_ends",
                self.edges.parties.len(),
                limit.saturating_mul(3),
            ),
            table("mesh_connections", self.watch.len(), connections),
            table("mesh_namespaces", self.watch.places(), MOST_PLACES),
            table("mesh_findings", self.findings.len(), self.findings.limit()),
        ];
        tables.extend(self.traffic.tables());
        tables
    }
}

#[cfg(test)]
mod tests;
