//! Exchanges to calls: who, with whom, which route.
//!
//! A connection is resolved once, when it opens; an exchange then costs two look-ups and two
//! reference counts, and allocates nothing.

mod connections;
mod datagrams;
mod failure;
mod far;
mod health;
mod identify;
mod names;
mod peers;
mod pods;
mod routes;
mod segment;
mod settle;
mod state;
mod template;
mod unwired;
mod waiting;
mod wires;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use hashbrown::HashMap;

use crate::mesh::hops;
use crate::model::{
    call::{Call, Link},
    connection::{ConnectionId, Role},
    exchange::{Exchange, RequestHead},
    time::Monotonic,
    workload::Workload,
};

pub use identify::Config as ClusterConfig;
pub use template::{RoutePattern, RoutePatternError};
pub use waiting::Told;

use identify::Cluster;
use names::Names;
use peers::Peers;
use routes::{Limits, Path, Routes, SHARED};
use state::State;
use unwired::Unwired;
use waiting::Waiting;
use wires::Wires;

/// How routes are named and how much is remembered.
#[derive(Clone, Debug)]
pub struct Config {
    /// Routes that the heuristic does not know, the first that matches wins.
    pub routes: Vec<RoutePattern>,
    /// Segments of a route template; what follows is `/*`.
    pub max_segments: usize,
    /// Distinct route templates of one service; what is beyond is `/*`. Configured routes do not
    /// count.
    pub max_routes: usize,
    /// Services with a budget of route templates of their own; the others share one.
    pub max_services: usize,
    /// How long an unused route template takes part of the budget.
    pub route_idle: Duration,
    /// Most connections remembered.
    pub max_connections: usize,
    /// How long a closed connection is remembered, for late exchanges and for its other end.
    pub linger: Duration,
    /// How long a connection is remembered that nothing is heard of: its end may have been lost.
    pub connection_idle: Duration,
    /// Most addresses whose names are remembered.
    pub max_names: usize,
    /// The cluster that this host is a node of, if it is one.
    pub cluster: Option<ClusterConfig>,
    /// Whether what proxies of a mesh carry is told as the calls of those that they speak for.
    pub fold: bool,
}

/// Gives exchanges and connections their identities.
#[derive(Debug)]
pub struct Enricher {
    config: Config,
    connections: HashMap<ConnectionId, State, foldhash::fast::RandomState>,
    /// Closed connections, the earliest first.
    closed: VecDeque<(Monotonic, ConnectionId)>,
    peers: Peers,
    names: Names,
    /// Workloads of sockets of UDP that are older than the observer, and when they were last heard of.
    sockets: HashMap<ConnectionId, (Arc<Workload>, Monotonic), foldhash::fast::RandomState>,
    /// Servers of UDP on this host, by where they are, and when they were last heard of.
    servers: HashMap<datagrams::Place, (Arc<Workload>, Monotonic), foldhash::fast::RandomState>,
    routes: Routes,
    cluster: Option<Cluster>,
    wires: Wires,
    unwired: Unwired,
    waiting: Waiting,
    /// Connections of which something waits since it was last looked at.
    fresh: Vec<ConnectionId>,
    /// Connections that were told, and of which more may become known.
    unsure: VecDeque<ConnectionId>,
    /// Revision of the index when what waits was last looked at.
    revision: u64,
    /// When the unsure were last looked at, and at which revision.
    asked: Monotonic,
    asked_revision: u64,
    unknown: Arc<Workload>,
    swept: Option<Monotonic>,
    losses: Losses,
}

#[derive(Debug, Default)]
struct Losses {
    exchanges_unknown: u64,
    events_unknown: u64,
    connections_full: u64,
    connections_idle: u64,
}

/// Connections are searched for idle ones at most this often.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

// === impl Config ===

impl Default for Config {
    fn default() -> Self {
        Self {
            routes: Vec::new(),
            max_segments: 8,
            max_routes: 512,
            max_services: 4096,
            route_idle: Duration::from_secs(3600),
            max_connections: 131_072,
            // Both ends of a connection on this host end within one batch of records.
            linger: Duration::from_millis(200),
            connection_idle: Duration::from_secs(6 * 3600),
            max_names: 16_384,
            cluster: None,
            fold: true,
        }
    }
}

impl Config {
    fn limits(&self) -> Limits {
        Limits {
            depth: self.max_segments,
            routes: self.max_routes,
            services: self.max_services,
            idle: self.route_idle,
        }
    }
}

// === impl Enricher ===

impl Enricher {
    /// Knows no connection yet.
    pub fn new(config: Config) -> Self {
        let service = "unknown".into();
        Self {
            routes: Routes::new(config.routes.clone(), config.limits()),
            connections: HashMap::default(),
            closed: VecDeque::new(),
            peers: Peers::default(),
            names: Names::new(config.max_names),
            sockets: HashMap::default(),
            servers: HashMap::default(),
            cluster: config.cluster.clone().map(Cluster::new),
            wires: Wires::default(),
            unwired: Unwired::default(),
            waiting: Waiting::default(),
            fresh: Vec::new(),
            unsure: VecDeque::new(),
            revision: 0,
            asked: Monotonic::default(),
            asked_revision: 0,
            unknown: Arc::new(Workload {
                service,
                ..Workload::default()
            }),
            swept: None,
            losses: Losses::default(),
            config,
        }
    }

    /// Changes patterns and limits; connections are kept.
    pub fn reconfigure(&mut self, config: Config) {
        self.routes
            .reconfigure(config.routes.clone(), config.limits());
        self.names.set_limit(config.max_names);
        if let (Some(cluster), Some(config)) = (&mut self.cluster, &config.cluster) {
            cluster.reconfigure(config.clone());
        }
        self.config = config;
    }

    /// Takes an exchange. `None` when it waits to be told by [`Self::settle`].
    pub fn exchange(&mut self, exchange: Exchange, now: Monotonic) -> Option<Call> {
        let id = exchange.connection;
        self.look_beyond(id);
        let Some(state) = self.connections.get_mut(&id) else {
            return Some(self.exchange_of_unknown(exchange));
        };
        self.losses.exchanges_unknown += u64::from(state.placeholder);
        state.active = state.active.max(exchange.sent.first);
        if state.link.connection.role == Role::Unknown && exchange.role != Role::Unknown {
            let mut link = Link::clone(&state.link);
            link.connection.role = exchange.role;
            state.link = Arc::new(link);
        }
        let route = state.route(&mut self.routes, &exchange.request, exchange.rpc.is_some());
        let waits = state.waits;
        let mut call = call(state.link.clone(), route, exchange);
        if waits {
            self.wait(id, Told::Call(call), now);
            return None;
        }
        self.find_caller(&mut call);
        self.call_unwired(call, now)
    }

    /// What is known of a connection; nothing while it waits to be told.
    pub fn link(&self, id: ConnectionId) -> Option<&Arc<Link>> {
        let state = self.connections.get(&id).filter(|state| !state.waits)?;
        Some(&state.link)
    }

    /// The route of a path that belongs to no connection. All such paths share one budget.
    pub fn route(&mut self, path: &str) -> Arc<str> {
        self.routes.route(SHARED, Path::plain(path))
    }

    /// The route of a request that is not an exchange yet, within the budget of its connection.
    pub fn route_of(&mut self, id: ConnectionId, head: &Arc<RequestHead>) -> Arc<str> {
        match self.connections.get_mut(&id) {
            Some(state) => state.route(&mut self.routes, head, false),
            None => self.routes.route(SHARED, Path::of(head, false)),
        }
    }

    /// Forgets connections that closed a while ago or were not heard of for long, and routes out
    /// of use. Meant to be called about once a second.
    pub fn expire(&mut self, now: Monotonic) {
        while let Some((at, id)) = self.closed.front().copied() {
            if now.since(at) < self.config.linger {
                break;
            }
            self.closed.pop_front();
            if self.connections.get(&id).is_some_and(|state| state.closed) {
                self.forget(id);
            }
        }
        if now.since(*self.swept.get_or_insert(now)) >= SWEEP_INTERVAL {
            self.swept = Some(now);
            let idle = |state: &State| now.since(state.active) >= self.config.connection_idle;
            let found: Vec<ConnectionId> = self
                .connections
                .iter()
                .filter_map(|(id, state)| idle(state).then_some(*id))
                .collect();
            for id in found {
                self.losses.connections_idle += 1;
                self.forget(id);
            }
            self.expire_sockets(now);
            if let Some(cluster) = &mut self.cluster {
                cluster.expire(now);
            }
        }
        self.wires.expire(now);
        self.routes.expire(now);
        self.names.expire(now);
    }
}

fn call(link: Arc<Link>, route: Arc<str>, exchange: Exchange) -> Call {
    let http_error = failure::error_type(exchange.role, exchange.status, exchange.outcome);
    let error = match &exchange.rpc {
        Some(rpc) => failure::rpc_error_type(exchange.role, rpc.end, http_error),
        None => http_error,
    };
    let remote = link.connection.remote.ip();
    let probe = hops::is_probe(remote, &link.peer, &exchange.request.user_agent);
    Call {
        link,
        exchange,
        route,
        error,
        http_error,
        far: None,
        probe,
    }
}

#[cfg(test)]
mod tests;
