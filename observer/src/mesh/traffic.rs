//! Requests against declared routes and authorization: which rule each matched, what shares
//! backends really get, whom policy lets pass, and what of it is not so on the wire.
//!
//! Requests are taken where applications have their sockets: at the client, where the name that was
//! asked for tells the route, and at the server, where it shows who served whom. What an observer
//! says is of its node: where another node would have to be asked, it is unknown.

mod answers;
mod clients;
mod connections;
mod declared;
mod ejections;
mod ends;
mod evidence;
mod grants;
mod host;
mod memory;
mod outside;
mod pairs;
mod party;
mod places;
mod ports;
mod rates;
mod refused;
mod routes;
mod rule;
mod sent;
mod served;
mod split;
mod statistics;
mod turn;
mod uses;

use std::{sync::Arc, time::Duration};

use hashbrown::HashMap;

pub(super) use self::connections::is_bytes;
pub(in crate::mesh) use self::split::{Part, Shown};
use self::{
    answers::{Answers, Changes},
    connections::Known,
    declared::Declared,
    ejections::Balances,
    ends::{Ends, Vantage},
    grants::Grants,
    memory::{Memory, Valid},
    outside::Outsides,
    pairs::{Pair, PairKey},
    places::Places,
    ports::Ports,
    rates::Rates,
    routes::{Judge, Routes},
    sent::Sent,
    served::Found,
    split::Split,
    uses::Uses,
};
use super::{findings::Findings, policy::Policies, report::Report};
use crate::{
    model::{
        call::{Call, LinkEvent},
        connection::ConnectionId,
        mesh::RouteMatch,
        policy::{ObjectRef, PolicyKind},
        time::{Monotonic, WallOffset},
    },
    telemetry::health::{Loss, Table},
};

/// How often is looked for what is idle.
const SWEEP: Duration = Duration::from_secs(60);
/// Most findings of one report.
const FINDINGS: usize = 16_384;

/// Bounds of what is kept of traffic, and when it is judged.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Most rules, hosts, clients, servers, and pairs of them, each.
    pub entries: usize,
    /// Most answers of policy that are remembered, of each question.
    pub answers: usize,
    /// Most connections of which is remembered what was asked for them.
    pub connections: usize,
    /// Requests, or connections, below which nothing is judged.
    pub minimum: u64,
    /// How long nothing is judged after something that has to do with it changed.
    pub settle: Duration,
    /// How long something must not be used to be called unused.
    pub unused: Duration,
    /// How long is told what was seen last.
    pub window: Duration,
    /// How long is remembered what nothing is seen of.
    pub idle: Duration,
}

/// Keeps those findings alone whose objects are as they were when they were found. What objects of
/// another version do is found again when it is seen.
fn current(policies: &Policies, findings: &mut Findings) {
    if findings.is_empty() {
        return;
    }
    type Names<'a> = (&'a str, &'a str, &'a str, &'a str);
    let versions: HashMap<Names<'_>, &str> = policies
        .objects()
        .map(|object| {
            let kind = object.kind;
            let names: Names<'_> = (kind.as_str(), kind.group(), &object.namespace, &object.name);
            (names, &*object.version)
        })
        .collect();
    let is_current = |object: &ObjectRef| {
        let names: Names<'_> = (&object.kind, &object.group, &object.namespace, &object.name);
        // Namespaces change for reasons of others all the time.
        object.version.is_empty()
            || *object.kind == *PolicyKind::Namespace.as_str()
            || versions.get(&names) == Some(&&*object.version)
    };
    findings.retain(|_, open| {
        let mut objects = open.saying.because.iter();
        objects.all(|reason| reason.object.as_ref().is_none_or(is_current))
    });
}

/// What was seen of requests.
#[derive(Debug)]
pub struct Traffic {
    config: Config,
    changes: Changes,
    declared: Declared,
    ends: Ends,
    connections: HashMap<ConnectionId, Known>,
    lost_connections: u64,
    /// Changes when places are given to others.
    epoch: u64,
    /// Answers for requests, and for all requests to where nothing is declared.
    sent: Memory<Arc<Sent>>,
    silent: Memory<Arc<Sent>>,
    served: Memory<Arc<Found>>,
    free: Memory<Arc<Found>>,
    routes: Routes,
    pairs: Places<PairKey, Pair>,
    grants: Grants,
    balances: Balances,
    outside: Outsides,
    ports: Ports,
    rates: Rates,
    uses: Uses,
    swept: Monotonic,
    no_route: Arc<str>,
}

// === impl Config ===

impl Default for Config {
    fn default() -> Self {
        Self {
            entries: 4_096,
            answers: 16_384,
            connections: 65_536,
            minimum: 20,
            settle: Duration::from_secs(60),
            unused: Duration::from_secs(24 * 3600),
            window: Duration::from_secs(24 * 3600),
            idle: Duration::from_secs(7 * 24 * 3600),
        }
    }
}

// === impl Traffic ===

impl Traffic {
    /// Nothing seen yet.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            changes: Changes::default(),
            declared: Declared::default(),
            ends: Ends::default(),
            connections: HashMap::new(),
            lost_connections: 0,
            epoch: 0,
            sent: Memory::new(),
            silent: Memory::new(),
            served: Memory::new(),
            free: Memory::new(),
            routes: Routes::default(),
            pairs: Places::default(),
            grants: Grants::default(),
            balances: Balances::default(),
            outside: Outsides::default(),
            ports: Ports::default(),
            rates: Rates::default(),
            uses: Uses::default(),
            swept: Monotonic::default(),
            no_route: Arc::from(""),
        }
    }

    /// Changes bounds and times; what was seen stays.
    pub fn reconfigure(&mut self, config: Config) {
        self.config = config;
    }

    /// Takes a call, and says which declared rule it matched. Only calls at the applications' own
    /// sockets count; of others nothing is kept.
    pub fn call(&mut self, policies: &Policies, call: &Call, now: Monotonic) -> Option<RouteMatch> {
        self.call_with(policies, call, now)
    }

    /// Takes a change of a connection.
    pub fn link(&mut self, policies: &Policies, event: &LinkEvent, now: Monotonic) {
        self.link_with(policies, event, now);
    }

    /// Looks at what is declared if that changed, judges what is due, and forgets what is idle. Meant
    /// to be called about once a second; what changed is held against no request before.
    pub fn tick(&mut self, policies: &Policies, now: Monotonic) {
        self.tick_with(policies, now);
    }

    /// Adds splits, routes, authorizations and findings to a report.
    pub fn report(
        &self,
        policies: &Policies,
        report: &mut Report,
        now: Monotonic,
        offset: WallOffset,
    ) {
        let judge = self.judge(now);
        self.routes.report(&mut report.routes, judge, offset);
        let splits = self.routes.rules.iter();
        report
            .splits
            .extend(splits.filter_map(|(_, state)| state.split.report(state)));
        report
            .splits
            .sort_by(|one, other| (&one.object, &one.rule).cmp(&(&other.object, &other.rule)));
        pairs::report(&self.pairs, &mut report.authorizations, judge);
        let mut findings = Findings::new(FINDINGS);
        self.routes.judge(&mut findings, judge);
        pairs::judge(&self.pairs, &mut findings, judge);
        self.grants.judge(&mut findings, judge);
        ejections::judge(&self.balances, &mut findings, judge);
        outside::judge(&self.outside, &mut findings, judge, self.declared.egress);
        ports::judge(&self.ports, &mut findings, judge);
        rates::judge(&self.rates, &mut findings, judge);
        let hosts = &self.routes.hosts;
        let requests = |host: &str| {
            let place = hosts.find(&host.into()).and_then(|place| hosts.get(place));
            place.map_or(0, |host| host.requests)
        };
        self.uses.judge(&mut findings, judge, requests);
        self.grants.report(&mut report.grants);
        self.uses.report(&mut report.uses, requests);
        for usages in [&mut report.grants, &mut report.uses] {
            usages
                .sort_by(|one, other| (&one.object, &one.what).cmp(&(&other.object, &other.what)));
        }
        current(policies, &mut findings);
        findings.report(&mut report.findings, offset);
    }

    /// What did not fit.
    pub fn losses(&self) -> Vec<Loss> {
        let (_, callers) = self.grants.counts();
        [
            ("mesh_parties_full", self.ends.parties.lost()),
            ("mesh_sockets_full", self.lost_connections),
            ("mesh_rules_full", self.routes.rules.lost()),
            ("mesh_hosts_full", self.routes.hosts.lost()),
            ("mesh_clients_full", self.routes.clients.lost()),
            ("mesh_pairs_full", self.pairs.lost()),
            ("mesh_callers_full", callers),
            ("mesh_balances_full", self.balances.lost()),
            ("mesh_outside_full", self.outside.lost()),
            ("mesh_ports_full", self.ports.lost()),
            ("mesh_rates_full", self.rates.lost()),
            ("mesh_uses_full", self.uses.lost()),
        ]
        .map(|(reason, count)| Loss {
            stage: "mesh",
            reason,
            count,
        })
        .into()
    }

    /// How full it is.
    pub fn tables(&self) -> Vec<Table> {
        let Config {
            entries,
            answers,
            connections,
            ..
        } = self.config;
        [
            ("mesh_parties", self.ends.parties.len(), entries),
            ("mesh_sockets", self.connections.len(), connections),
            ("mesh_routed", self.sent.len(), answers),
            ("mesh_unrouted", self.silent.len(), answers),
            ("mesh_authorized", self.served.len(), answers),
            ("mesh_unpoliced", self.free.len(), answers),
            ("mesh_rules", self.routes.rules.len(), entries),
            ("mesh_hosts", self.routes.hosts.len(), entries),
            ("mesh_clients", self.routes.clients.len(), entries),
            ("mesh_pairs", self.pairs.len(), entries),
            ("mesh_callers", self.grants.counts().0, entries),
            ("mesh_balances", self.balances.len(), entries),
            ("mesh_outside", self.outside.len(), entries),
            ("mesh_ports", self.ports.len(), entries),
            ("mesh_rates", self.rates.len(), entries),
            ("mesh_uses", self.uses.len(), entries),
        ]
        .map(|(name, entries, limit)| Table {
            name,
            entries: entries as u64,
            limit: limit as u64,
        })
        .into()
    }

    fn call_with(
        &mut self,
        answers: &impl Answers,
        call: &Call,
        now: Monotonic,
    ) -> Option<RouteMatch> {
        if call.probe {
            return None;
        }
        let judge = self.judge(now);
        match self.vantage(answers, &call.link, call.far(), now) {
            Vantage::None => None,
            Vantage::Client(end) => self.sent(answers, &end, call, judge),
            Vantage::Server(end) => {
                self.served(answers, &end, call, judge);
                None
            }
        }
    }

    fn tick_with(&mut self, answers: &impl Answers, now: Monotonic) {
        if self.changes.sync(answers, now) {
            self.declare(answers, now);
        }
        for (_, state) in self.routes.rules.iter_mut() {
            state.look(now);
        }
        if now.since(self.swept) >= SWEEP {
            self.swept = now;
            self.sweep(now);
        }
    }

    fn declare(&mut self, answers: &impl Answers, now: Monotonic) {
        let limit = self.config.entries;
        self.declared = Declared::read(answers);
        let (followed, of_gateways): (Vec<_>, Vec<_>) = answers
            .rules()
            .into_iter()
            .partition(|it| self.declared.in_mesh(&it.object, &it.name));
        if self.routes.declare(followed.into_iter(), limit, now) {
            self.epoch += 1;
        }
        for (_, state) in self.routes.rules.iter_mut() {
            state.split.vague = Split::vague(&state.rule, &self.declared);
        }
        self.grants.declare(&self.declared, limit, now);
        self.uses.declare(&self.declared, limit, now);
        // Gateways may be on other nodes.
        for declared in of_gateways {
            self.uses.leads(&declared.rule);
        }
    }

    fn sweep(&mut self, now: Monotonic) {
        let idle = self.config.idle;
        let routes = self.routes.expire(now, idle);
        let pairs = self.pairs.retain(|_, pair| now.since(pair.last) <= idle);
        let balances = self
            .balances
            .retain(|_, balanced| now.since(balanced.last) <= idle);
        let outside = self
            .outside
            .retain(|_, outside| now.since(outside.last) <= idle);
        self.ports.retain(|_, port| now.since(port.last) <= idle);
        let rates = self.rates.retain(|_, rate| now.since(rate.last) <= idle);
        self.grants.expire(now, idle);
        self.expire_connections(now);
        if routes || pairs || balances || outside || rates {
            self.epoch += 1;
        }
        self.changes.expire(now, self.config.settle);
        self.ends.parties.sweep();
    }

    /// When an answer of now is right.
    fn valid(&self, answers: &impl Answers) -> Valid {
        Valid {
            revision: answers.revision(),
            epoch: self.epoch,
        }
    }

    fn judge(&self, now: Monotonic) -> Judge {
        Judge {
            now,
            minimum: self.config.minimum,
            unused: self.config.unused,
            window: self.config.window,
            settle: self.config.settle,
        }
    }

    /// Whether nothing changed lately in any of these namespaces.
    fn settled<'a>(
        &self,
        revision: u64,
        namespaces: impl Iterator<Item = &'a str>,
        now: Monotonic,
    ) -> bool {
        let settle = self.config.settle;
        self.changes.settled(revision, namespaces, now, settle)
    }
}

#[cfg(test)]
mod tests;
