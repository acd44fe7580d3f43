//! Exchanges to calls: who, with whom, which route.
//!
//! A connection is resolved once, when it opens; an exchange then costs two look-ups and two
//! reference counts, and allocates nothing.

mod datagrams;
mod failure;
mod health;
mod names;
mod peers;
mod routes;
mod segment;
mod state;
mod template;

use std::{collections::VecDeque, net::SocketAddr, sync::Arc, time::Duration};

use hashbrown::HashMap;

use crate::{
    host::Host,
    model::{
        call::{Call, Link, LinkEvent},
        connection::{Connection, ConnectionEvent, ConnectionId, Role},
        exchange::{Exchange, RequestHead},
        security::Security,
        time::Monotonic,
        workload::{NameSource, Peer, Workload},
    },
};

pub use template::{RoutePattern, RoutePatternError};

use names::Names;
use peers::Peers;
use routes::{Limits, Path, Routes, SHARED};
use state::State;

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
        self.config = config;
    }

    /// Takes a change of a connection. `None` when it is not of interest to later stages, or of a
    /// connection that is not known.
    pub fn connection(
        &mut self,
        event: ConnectionEvent,
        host: &mut Host,
        now: Monotonic,
    ) -> Option<LinkEvent> {
        match event {
            ConnectionEvent::Opened(connection) => {
                Some(LinkEvent::Opened(self.open(connection, host, now)))
            }
            ConnectionEvent::Progress { id, transfer } => {
                let Some(state) = self.connections.get_mut(&id) else {
                    self.losses.events_unknown += 1;
                    return None;
                };
                state.active = now;
                Some(LinkEvent::Progress {
                    link: state.link.clone(),
                    transfer,
                })
            }
            ConnectionEvent::Placed { id, cgroup, wire } => {
                self.place(id, cgroup, wire, host, now);
                None
            }
            ConnectionEvent::Recognised { id, opening } => {
                let Some(state) = self.connections.get_mut(&id) else {
                    self.losses.events_unknown += 1;
                    return None;
                };
                state.active = now;
                let mut link = Link::clone(&state.link);
                link.opening = Some(opening);
                state::classify(&mut link);
                state.link = Arc::new(link);
                Some(LinkEvent::Recognised {
                    link: state.link.clone(),
                    at: now,
                })
            }
            ConnectionEvent::Closed { connection, closed } => {
                let link = self.close(connection, host, now);
                let (at, by) = (closed.at, closed.by);
                Some(LinkEvent::Closed {
                    link,
                    at,
                    by,
                    reset: closed.reset,
                    transfer: closed.transfer,
                })
            }
            ConnectionEvent::Failed {
                connection,
                at,
                failure,
            } => {
                self.forget(connection.id);
                let workload = host.workload(&connection, now);
                let peer = self.name(&connection, &workload, now);
                let link = Arc::new(Link {
                    connection,
                    workload,
                    peer,
                    dialled: None,
                    security: Security::Unknown,
                    opening: None,
                    mesh: None,
                });
                Some(LinkEvent::Failed { link, at, failure })
            }
        }
    }

    /// Takes an exchange.
    pub fn exchange(&mut self, exchange: Exchange) -> Call {
        let Some(state) = self.connections.get_mut(&exchange.connection) else {
            return self.exchange_of_unknown(exchange);
        };
        self.losses.exchanges_unknown += u64::from(state.placeholder);
        state.active = state.active.max(exchange.sent.first);
        if state.link.connection.role == Role::Unknown && exchange.role != Role::Unknown {
            let mut link = Link::clone(&state.link);
            link.connection.role = exchange.role;
            state.link = Arc::new(link);
        }
        let route = state.route(&mut self.routes, &exchange.request, exchange.rpc.is_some());
        call(state.link.clone(), route, exchange)
    }

    /// What is known of a connection.
    pub fn link(&self, id: ConnectionId) -> Option<&Arc<Link>> {
        self.connections.get(&id).map(|state| &state.link)
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
        }
        self.routes.expire(now);
        self.names.expire(now);
    }

    fn open(&mut self, connection: Connection, host: &mut Host, now: Monotonic) -> Arc<Link> {
        let id = connection.id;
        // Told again: the other end stays.
        let before = self.forget(id).filter(|before| !before.placeholder);
        let workload = host.workload(&connection, now);
        let peer = match before {
            Some(State { link, .. }) if link.peer.is_local() => link.peer.clone(),
            _ => self.meet(&connection, &workload, now),
        };
        let service = self.routes.acquire(&workload);
        let link = Arc::new(Link {
            connection,
            workload,
            peer,
            dialled: None,
            security: Security::Unknown,
            opening: None,
            mesh: None,
        });
        self.remember(State {
            link: link.clone(),
            service,
            recent: None,
            active: now,
            placeholder: false,
            closed: false,
        });
        link
    }

    /// Finds the other end of a connection and tells it of this one.
    fn meet(&mut self, connection: &Connection, workload: &Arc<Workload>, now: Monotonic) -> Peer {
        let connections = &self.connections;
        let look = |id: ConnectionId| {
            let state = connections.get(&id)?;
            let alone = !state.placeholder && !state.link.peer.is_local();
            alone.then_some(&state.link.connection)
        };
        let other = self.peers.find(connection, look);
        let Some(state) = other.and_then(|id| self.connections.get_mut(&id)) else {
            return self.name(connection, workload, now);
        };
        let theirs = state.link.workload.clone();
        let peer = Peer::Local(workload.clone());
        state.link = Arc::new(Link {
            peer,
            ..Link::clone(&state.link)
        });
        Peer::Local(theirs)
    }

    /// Takes what the first packets of a connection told: it may name a workload that was unknown,
    /// and lead to the other end.
    fn place(
        &mut self,
        id: ConnectionId,
        cgroup: u64,
        wire: Option<(SocketAddr, SocketAddr)>,
        host: &mut Host,
        now: Monotonic,
    ) {
        let Some(state) = self.connections.get(&id).filter(|state| !state.placeholder) else {
            self.losses.events_unknown += 1;
            return;
        };
        let mut link = Link::clone(&state.link);
        self.peers.remove(&link.connection);
        link.connection.wire = wire.or(link.connection.wire);
        if link.connection.owner.cgroup == 0 {
            link.connection.owner.cgroup = cgroup;
            if link.workload.source == NameSource::Unknown {
                link.workload = host.workload(&link.connection, now);
            }
        }
        state::classify(&mut link);
        self.peers.insert(&link.connection);
        if !link.peer.is_local() {
            link.peer = self.meet(&link.connection, &link.workload, now);
        }
        if let Some(state) = self.connections.get_mut(&id) {
            state.link = Arc::new(link);
        }
    }

    fn close(&mut self, connection: Connection, host: &mut Host, now: Monotonic) -> Arc<Link> {
        let id = connection.id;
        let known = self.connections.get(&id).filter(|state| !state.placeholder);
        let link = match known.map(|state| state.link.clone()) {
            Some(link) if link.connection == connection => link,
            Some(link) => {
                self.peers.remove(&link.connection);
                let mut updated = Link::clone(&link);
                updated.connection = state::newest(&link.connection, connection);
                if link.workload.source == NameSource::Unknown
                    && updated.connection.owner != link.connection.owner
                {
                    updated.workload = host.workload(&updated.connection, now);
                }
                self.peers.insert(&updated.connection);
                Arc::new(updated)
            }
            None => {
                // The first that is heard of it.
                self.losses.events_unknown += 1;
                self.open(connection, host, now)
            }
        };
        if let Some(state) = self.connections.get_mut(&id) {
            state.link = link.clone();
            state.active = now;
            if !state.closed {
                state.closed = true;
                self.closed.push_back((now, id));
            }
        }
        link
    }

    /// Remembers the connection of an exchange whose opening was not seen.
    #[cold]
    fn exchange_of_unknown(&mut self, exchange: Exchange) -> Call {
        self.losses.exchanges_unknown += 1;
        let link = Arc::new(state::placeholder(&exchange, &self.unknown));
        let service = self.routes.acquire(&link.workload);
        let head = &exchange.request;
        let path = Path::of(head, exchange.rpc.is_some());
        let route = self.routes.route(service, path);
        self.remember(State {
            link: link.clone(),
            service,
            recent: None,
            active: exchange.sent.first,
            placeholder: true,
            closed: false,
        });
        call(link, route, exchange)
    }

    /// Adds a connection; when there is no room, the one that closed first makes some.
    fn remember(&mut self, state: State) {
        while self.connections.len() >= self.config.max_connections {
            let Some((_, id)) = self.closed.pop_front() else {
                self.losses.connections_full += 1;
                self.routes.release(state.service);
                return;
            };
            if self.connections.get(&id).is_some_and(|state| state.closed) {
                self.forget(id);
            }
        }
        if !state.placeholder {
            self.peers.insert(&state.link.connection);
        }
        self.connections.insert(state.link.connection.id, state);
    }

    fn forget(&mut self, id: ConnectionId) -> Option<State> {
        let state = self.connections.remove(&id)?;
        self.peers.remove(&state.link.connection);
        self.routes.release(state.service);
        Some(state)
    }
}

fn call(link: Arc<Link>, route: Arc<str>, exchange: Exchange) -> Call {
    let http_error = failure::error_type(exchange.role, exchange.status, exchange.outcome);
    let error = match &exchange.rpc {
        Some(rpc) => failure::rpc_error_type(exchange.role, rpc.end, http_error),
        None => http_error,
    };
    Call {
        link,
        exchange,
        route,
        error,
        http_error,
    }
}

#[cfg(test)]
mod tests;
