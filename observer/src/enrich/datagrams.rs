//! Lookups and datagrams to who made them; what lookups tell of addresses.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use super::{Enricher, Told, names::Asker};
use crate::{
    host::Host,
    model::{
        connection::{Connection, ConnectionId, Owner, Role},
        datagram::{Conversation, Datagrams},
        lookup::{Lookup, LookupOutcome, Resolution},
        time::Monotonic,
        workload::{Peer, Workload},
    },
};

/// An address, and the network namespace where it means something else in each.
pub(super) type Place = (SocketAddr, u64);

/// Sockets older than the observer whose workload is remembered, and servers.
pub(super) const MAX_SOCKETS: usize = 4096;
/// How long it is remembered of one that is quiet: a process that comes later may tell more.
const SOCKET_IDLE: Duration = Duration::from_secs(60);

impl Enricher {
    /// Takes a lookup, and remembers what it tells of addresses. `None` when it waits to be told by
    /// [`Enricher::settle`].
    pub fn lookup(
        &mut self,
        lookup: Lookup,
        host: &mut Host,
        now: Monotonic,
    ) -> Option<Resolution> {
        let socket = lookup.socket;
        let workload = self.workload(lookup.socket, lookup.local, &lookup.owner, host, now);
        let asker = Asker {
            workload: &workload,
            network_namespace: lookup.owner.network_namespace,
        };
        let answered = matches!(
            lookup.outcome,
            LookupOutcome::Answered | LookupOutcome::Truncated
        );
        if answered && lookup.role == Role::Client && lookup.code == Some(0) {
            self.names
                .learn(&lookup.name, &lookup.answers, asker, lookup.ended);
        }
        if lookup.role == Role::Server {
            self.serves(lookup.local, asker, now);
        }
        let peer = self.datagram_peer(lookup.remote, asker, now);
        let resolution = Resolution {
            lookup,
            workload,
            peer,
            dialled: None,
        };
        match self.tell(socket, Told::Lookup(resolution), host, now)? {
            Told::Lookup(resolution) => Some(resolution),
            _ => None,
        }
    }

    /// Takes what passed between a socket and a peer. `None` when it waits to be told by
    /// [`Enricher::settle`].
    pub fn datagrams(
        &mut self,
        datagrams: Datagrams,
        host: &mut Host,
        now: Monotonic,
    ) -> Option<Conversation> {
        let (socket, local) = (datagrams.socket, datagrams.local);
        let workload = self.workload(socket, local, &datagrams.owner, host, now);
        let asker = Asker {
            workload: &workload,
            network_namespace: datagrams.owner.network_namespace,
        };
        if datagrams.role() == Role::Server {
            self.serves(datagrams.local, asker, now);
        }
        let peer = self.datagram_peer(datagrams.remote, asker, now);
        let conversation = Conversation {
            datagrams,
            workload,
            peer,
            dialled: None,
        };
        match self.tell(socket, Told::Datagrams(conversation), host, now)? {
            Told::Datagrams(conversation) => Some(conversation),
            _ => None,
        }
    }

    /// The other end of a connection that is not on this host.
    pub(super) fn name(
        &self,
        connection: &Connection,
        workload: &Arc<Workload>,
        now: Monotonic,
    ) -> Peer {
        let asker = Asker {
            workload,
            network_namespace: connection.owner.network_namespace,
        };
        self.peer(connection.remote, asker, now)
    }

    /// Whose a socket is; of one that is older than the observer that is found out once.
    fn workload(
        &mut self,
        socket: ConnectionId,
        local: SocketAddr,
        owner: &Owner,
        host: &mut Host,
        now: Monotonic,
    ) -> Arc<Workload> {
        if owner.pid != 0 {
            return host.workload_at(local, owner, now);
        }
        if let Some((workload, used)) = self.sockets.get_mut(&socket) {
            *used = now;
            return workload.clone();
        }
        let workload = host.workload_at(local, owner, now);
        if self.sockets.len() < MAX_SOCKETS {
            self.sockets.insert(socket, (workload.clone(), now));
        }
        workload
    }

    /// Remembers whose server is at an address of this host.
    fn serves(&mut self, local: SocketAddr, server: Asker<'_>, now: Monotonic) {
        let Some(place) = place(local, server.network_namespace) else {
            return;
        };
        if self.servers.len() < MAX_SOCKETS || self.servers.contains_key(&place) {
            self.servers.insert(place, (server.workload.clone(), now));
        }
    }

    /// The other end of datagrams: a server of this host, or a name, or an address.
    fn datagram_peer(&self, remote: SocketAddr, asker: Asker<'_>, now: Monotonic) -> Peer {
        place(remote, asker.network_namespace)
            .and_then(|place| self.servers.get(&place))
            .map_or_else(
                || self.peer(remote, asker, now),
                |(workload, _)| Peer::Local(workload.clone()),
            )
    }

    /// Forgets sockets that were not heard of for long.
    pub(super) fn expire_sockets(&mut self, now: Monotonic) {
        self.sockets
            .retain(|_, (_, used)| now.since(*used) < SOCKET_IDLE);
        self.servers
            .retain(|_, (_, used)| now.since(*used) < SOCKET_IDLE);
    }

    fn peer(&self, remote: SocketAddr, asker: Asker<'_>, now: Monotonic) -> Peer {
        let address = remote.ip();
        match self.names.find(address, asker, now) {
            Some(name) => Peer::Named {
                name: name.clone(),
                address,
            },
            None => Peer::Address(address),
        }
    }
}

/// Where an address is: loopback is another in each network namespace, and nowhere if that is not
/// known.
fn place(address: SocketAddr, network_namespace: u64) -> Option<Place> {
    match (address.ip().is_loopback(), network_namespace) {
        (true, 0) => None,
        (true, namespace) => Some((address, namespace)),
        (false, _) => Some((address, 0)),
    }
}
