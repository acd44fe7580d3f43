//! Who with whom, once for all connections that share it.

use std::{
    hash::{Hash, Hasher},
    net::SocketAddr,
    sync::Arc,
};

use foldhash::fast::RandomState;
use hashbrown::HashSet;

use crate::model::{
    call::Link,
    connection::Role,
    workload::{Peer, Workload},
};

/// A service, its end of the connection, and the other end as far as it becomes a label.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    workload: Arc<Workload>,
    role: Role,
    peer: Peer,
    server: Option<SocketAddr>,
}

/// All identities in use: one `Arc` each, so that they compare by pointer.
#[derive(Debug, Default)]
pub(super) struct Identities {
    known: HashSet<Arc<Identity>, RandomState>,
}

/// An identity that compares by pointer; only for those from [`Identities`].
#[derive(Clone, Debug)]
pub(super) struct Interned(pub(super) Arc<Identity>);

/// A service at one end of its connections, whoever the peer is.
#[derive(Clone, Debug)]
pub(super) struct ServiceKey {
    pub(super) workload: Arc<Workload>,
    pub(super) role: Role,
}

// === impl Identity ===

impl Identity {
    fn new(link: &Link, role: Role) -> Self {
        Self {
            workload: link.workload.clone(),
            role,
            peer: link.peer.clone(),
            // Who calls a server from outside would be a label without bound, and its port one
            // for every connection: only what a client dialled names an end.
            server: (role == Role::Client).then_some(link.connection.remote),
        }
    }

    fn names(&self) -> (&str, &str, Role, Option<&str>, Option<SocketAddr>) {
        (
            &self.workload.service,
            &self.workload.namespace,
            self.role,
            self.peer_name(),
            self.server,
        )
    }

    /// Who is at the other end, as a label. Of those who call from outside a few have a name by
    /// chance, which would only tell that chance.
    fn peer_name(&self) -> Option<&str> {
        match self.role {
            Role::Client => self.peer.name(),
            Role::Server | Role::Unknown => self.peer.service(),
        }
    }

    pub(super) fn role(&self) -> Role {
        self.role
    }

    pub(super) fn service(&self) -> ServiceKey {
        ServiceKey {
            workload: self.workload.clone(),
            role: self.role,
        }
    }

    /// `service_name` and the rest of what tells who with whom; `more` follows.
    pub(super) fn labels(&self, more: &[(&'static str, &str)]) -> super::series::Labels {
        let (address, port) = match self.server {
            Some(server) => (server.ip().to_string(), server.port().to_string()),
            None => Default::default(),
        };
        let peer = self.peer_name().unwrap_or_default();
        let identity = [
            ("service_name", &*self.workload.service),
            ("service_namespace", &*self.workload.namespace),
            ("service_peer_name", peer),
            ("server_address", address.as_str()),
            ("server_port", port.as_str()),
        ];
        super::series::labels(identity.into_iter().chain(more.iter().copied()))
    }
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        self.names() == other.names()
    }
}

impl Eq for Identity {}

impl Hash for Identity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.names().hash(state);
    }
}

// === impl Identities ===

impl Identities {
    /// The one identity of `link`; `role` is that of the link, or what an exchange showed.
    pub(super) fn intern(&mut self, link: &Link, role: Role) -> Interned {
        let identity = Identity::new(link, role);
        if let Some(known) = self.known.get(&identity) {
            return Interned(known.clone());
        }
        let identity = Arc::new(identity);
        self.known.insert(identity.clone());
        Interned(identity)
    }

    /// Forgets identities that no connection and no series has: what bounds those, bounds these.
    pub(super) fn expire(&mut self) {
        self.known
            .retain(|identity| Arc::strong_count(identity) > 1);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }
}

// === impl Interned ===

impl PartialEq for Interned {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Interned {}

impl Hash for Interned {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

// === impl ServiceKey ===

impl ServiceKey {
    fn names(&self) -> (&str, &str, Role) {
        (&self.workload.service, &self.workload.namespace, self.role)
    }

    pub(super) fn labels(&self) -> super::series::Labels {
        super::series::labels([
            ("service_name", &*self.workload.service),
            ("service_namespace", &*self.workload.namespace),
            ("role", self.role.as_str()),
        ])
    }
}

impl PartialEq for ServiceKey {
    fn eq(&self, other: &Self) -> bool {
        self.names() == other.names()
    }
}

impl Eq for ServiceKey {}

impl Hash for ServiceKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.names().hash(state);
    }
}
