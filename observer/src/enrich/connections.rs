//! The life of a connection: whose it is, found once when it opens, and again when more is known.

use std::{net::SocketAddr, sync::Arc};

use super::{
    Enricher, Told, call,
    identify::{Asked, Knowledge},
    names::Asker,
    routes::Path,
    state,
    state::State,
};
use crate::{
    host::Host,
    model::{
        call::{Call, Link, LinkEvent},
        connection::{Connection, ConnectionEvent, ConnectionId},
        exchange::Exchange,
        mesh::Hop,
        security::Security,
        time::Monotonic,
        workload::{NameSource, Peer, Workload},
    },
};

impl Enricher {
    /// Takes a change of a connection. `None` when it is not of interest to later stages, of a
    /// connection that is not known, or waits to be told by [`Enricher::settle`].
    pub fn connection(
        &mut self,
        event: ConnectionEvent,
        host: &mut Host,
        now: Monotonic,
    ) -> Option<LinkEvent> {
        let id = id_of(&event);
        let event = self.change(event, host, now)?;
        let waits = self.connections.get(&id).is_some_and(|state| state.waits);
        if !waits && !self.waiting.has(id) {
            return self.event_unwired(event, now);
        }
        self.wait(id, Told::Link(event), now);
        None
    }

    fn change(
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
                self.reckon(&mut link);
                let link = Arc::new(link);
                if let Some(state) = self.connections.get_mut(&id) {
                    state.link = link.clone();
                }
                Some(LinkEvent::Recognised { link, at: now })
            }
            ConnectionEvent::Closed { connection, closed } => {
                let id = connection.id;
                let link = self.close(connection, host, now);
                let (at, by) = (closed.at, closed.by);
                self.wires.close(id, at);
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
                let id = connection.id;
                self.forget(id);
                let workload = host.workload(&connection, now);
                let peer = self.name(&connection, &workload, now);
                let mut link = new_link(connection, workload, peer);
                let known = self.identify(&mut link, host, now, false);
                let link = Arc::new(link);
                let event = LinkEvent::Failed { link, at, failure };
                if known == Knowledge::Awaited {
                    self.wait(id, Told::Link(event), now);
                    return None;
                }
                Some(event)
            }
        }
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
        let mut link = new_link(connection, workload, peer);
        let known = self.identify(&mut link, host, now, false);
        let service = self.routes.acquire(&link.workload);
        let link = Arc::new(link);
        self.remember(State {
            link: link.clone(),
            service,
            recent: None,
            active: now,
            placeholder: false,
            closed: false,
            waits: known == Knowledge::Awaited,
            unsure: false,
            beyond: (0, 0),
            caller: None,
        });
        if self.connections.contains_key(&id) {
            let pod = self.wire_pod(&link);
            self.wires.set(&link, pod);
        }
        if known == Knowledge::Unsure {
            self.doubt(id);
        }
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
        let Some(id) = other else {
            return self.name(connection, workload, now);
        };
        let Some(theirs) = connections
            .get(&id)
            .map(|state| state.link.workload.clone())
        else {
            return self.name(connection, workload, now);
        };
        self.tell_end(id, workload, now);
        Peer::Local(theirs)
    }

    /// Tells an end of a connection who the other one is.
    fn tell_end(&mut self, id: ConnectionId, other: &Arc<Workload>, now: Monotonic) {
        let (named, known) = match &mut self.cluster {
            Some(cluster) => cluster.pods.name(other, &cluster.index, now),
            None => (other.clone(), Knowledge::Complete),
        };
        let Some(state) = self.connections.get_mut(&id) else {
            return;
        };
        let mut link = Link::clone(&state.link);
        link.peer = Peer::Local(named);
        // What comes on that end is about this pod as well.
        state.waits |= known == Knowledge::Awaited;
        self.reckon(&mut link);
        if let Some(state) = self.connections.get_mut(&id) {
            state.link = Arc::new(link);
        }
        if known == Knowledge::Unsure {
            self.doubt(id);
        }
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
                let before = link.workload;
                link.workload = host.workload(&link.connection, now);
                self.introduce(&link, &before, now);
            }
        }
        state::classify(&mut link);
        self.peers.insert(&link.connection);
        if !link.peer.is_local() {
            link.peer = self.meet(&link.connection, &link.workload, now);
        }
        let known = self.identify(&mut link, host, now, false);
        if let Some(state) = self.connections.get_mut(&id) {
            state.link = Arc::new(link);
            state.waits |= known == Knowledge::Awaited;
        }
        if known == Knowledge::Unsure {
            self.doubt(id);
        }
    }

    /// Tells the other end of a connection, which knows this one as what it was `before`, who it is.
    fn introduce(&mut self, link: &Link, before: &Workload, now: Monotonic) {
        if !link.peer.is_local() || *link.workload == *before {
            return;
        }
        let connections = &self.connections;
        let look = |id: ConnectionId| {
            let state = connections.get(&id)?;
            let met = matches!(&state.link.peer, Peer::Local(workload) if **workload == *before);
            met.then_some(&state.link.connection)
        };
        if let Some(id) = self.peers.find(&link.connection, look) {
            self.tell_end(id, &link.workload, now);
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
                    self.introduce(&updated, &link.workload, now);
                }
                self.peers.insert(&updated.connection);
                self.identify(&mut updated, host, now, false);
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
    pub(super) fn exchange_of_unknown(&mut self, exchange: Exchange) -> Call {
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
            waits: false,
            unsure: false,
            beyond: (0, 0),
            caller: None,
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

    pub(super) fn forget(&mut self, id: ConnectionId) -> Option<State> {
        let state = self.connections.remove(&id)?;
        self.peers.remove(&state.link.connection);
        self.wires.remove(id);
        self.routes.release(state.service);
        Some(state)
    }

    /// Gives a link what the cluster knows, and says how much that is.
    pub(super) fn identify(
        &mut self,
        link: &mut Link,
        host: &mut Host,
        now: Monotonic,
        last: bool,
    ) -> Knowledge {
        if self.cluster.is_none() {
            return Knowledge::Complete;
        }
        let known = self.ask_cluster(link, host, now, last);
        self.reckon(link);
        known
    }

    fn ask_cluster(
        &mut self,
        link: &mut Link,
        host: &mut Host,
        now: Monotonic,
        last: bool,
    ) -> Knowledge {
        let Some(cluster) = &mut self.cluster else {
            return Knowledge::Complete;
        };
        let asker = Asker {
            workload: &link.workload,
            network_namespace: link.connection.owner.network_namespace,
        };
        let name = self.names.find(link.connection.remote.ip(), asker, now);
        let asked = Asked {
            now,
            last,
            name: name.map(|name| &**name),
        };
        cluster.link(link, host, asked)
    }
}

fn id_of(event: &ConnectionEvent) -> ConnectionId {
    match event {
        ConnectionEvent::Opened(connection)
        | ConnectionEvent::Closed { connection, .. }
        | ConnectionEvent::Failed { connection, .. } => connection.id,
        ConnectionEvent::Progress { id, .. }
        | ConnectionEvent::Placed { id, .. }
        | ConnectionEvent::Recognised { id, .. } => *id,
    }
}

/// A connection of which no byte was seen.
fn new_link(connection: Connection, workload: Arc<Workload>, peer: Peer) -> Link {
    Link {
        connection,
        workload,
        peer,
        dialled: None,
        security: Security::Unknown,
        opening: None,
        mesh: None,
        hop: Hop::Direct,
        far: None,
    }
}
