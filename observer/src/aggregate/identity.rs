//! Who with whom, once for all connections that share it.

use std::{
    borrow::Cow,
    hash::{Hash, Hasher},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use foldhash::fast::RandomState;
use hashbrown::HashSet;

use crate::model::{
    call::Link,
    connection::Role,
    kubernetes::{Pod, Service},
    workload::{Peer, Workload},
};

use super::subject::{Labelling, Subject};

/// A service, its end of the connection, and the other end as far as it becomes a label.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    subject: Subject,
    role: Role,
    peer: Peer,
    /// What a client dialled.
    server: Option<SocketAddr>,
    /// The Service that a client dialled.
    dialled: Option<Arc<Service>>,
}

/// All of an identity that is a label.
type Names<'a> = (
    &'a Subject,
    Role,
    Option<&'a str>,
    Option<&'a str>,
    Option<(&'a str, &'a str)>,
    Option<IpAddr>,
    Option<u16>,
);

/// All identities in use: one `Arc` each, so that they compare by pointer.
#[derive(Debug)]
pub(super) struct Identities {
    known: HashSet<Arc<Identity>, RandomState>,
    pub(super) labelling: Arc<Labelling>,
}

/// An identity that compares by pointer; only for those from [`Identities`].
#[derive(Clone, Debug)]
pub(super) struct Interned(pub(super) Arc<Identity>);

/// A service at one end of its connections, whoever the peer is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ServiceKey {
    pub(super) subject: Subject,
    pub(super) role: Role,
}

// === impl Identity ===

impl Identity {
    fn new(link: &Link, peer: &Peer, role: Role, labelling: &Arc<Labelling>) -> Self {
        let client = role == Role::Client;
        Self {
            subject: Subject::new(&link.workload, labelling),
            role,
            peer: peer.clone(),
            // Who calls a server from outside would be a label without bound, and its port one
            // for every connection: only what a client dialled names an end.
            server: client.then_some(link.connection.remote),
            dialled: link.dialled.clone().filter(|_| client),
        }
    }

    fn names(&self) -> Names<'_> {
        (
            &self.subject,
            self.role,
            self.peer_name(),
            self.peer_pod().map(|pod| &*pod.service.namespace),
            self.dialled_name(),
            self.address(),
            self.server.map(|server| server.port()),
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

    fn peer_pod(&self) -> Option<&Arc<Pod>> {
        self.peer.pod()
    }

    fn dialled_name(&self) -> Option<(&str, &str)> {
        let service = self.dialled.as_ref()?;
        Some((&service.namespace, &service.name))
    }

    /// The address that was dialled, where that may be a label: pods come and go with theirs, and
    /// a Service has a name.
    fn address(&self) -> Option<IpAddr> {
        if self.dialled.is_some() || self.peer_pod().is_some() {
            return None;
        }
        self.server.map(|server| server.ip())
    }

    /// Whose sockets they are.
    pub(super) fn workload(&self) -> &Workload {
        &self.subject.workload
    }

    /// The other end, as it was seen first.
    pub(super) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Name of what a client calls that is no service of anybody who is observed, and its
    /// namespace: the Service that was dialled, or the name of the peer, or its address.
    pub(super) fn server_name(&self) -> (Cow<'_, str>, &str) {
        if let Some((namespace, name)) = self.dialled_name() {
            return (name.into(), namespace);
        }
        if let Some(name) = self.peer.name() {
            return (name.into(), "");
        }
        let address = self.server.map(|server| server.ip().to_string());
        (address.unwrap_or_default().into(), "")
    }

    pub(super) fn role(&self) -> Role {
        self.role
    }

    pub(super) fn service(&self) -> ServiceKey {
        ServiceKey {
            subject: self.subject.clone(),
            role: self.role,
        }
    }

    /// `service_name` and the rest of what tells who with whom; `more` follows.
    pub(super) fn labels(&self, more: &[(&'static str, &str)]) -> super::series::Labels {
        let (_, _, peer, peer_namespace, dialled, address, port) = self.names();
        let (dialled_namespace, dialled) = dialled.unwrap_or_default();
        let address = match address {
            Some(address) => address.to_string(),
            None if dialled.is_empty() => String::new(),
            None => format!("{dialled}.{dialled_namespace}"),
        };
        let port = port.map(|port| port.to_string()).unwrap_or_default();
        let peer = [
            ("service_peer_name", peer.unwrap_or_default()),
            ("service_peer_namespace", peer_namespace.unwrap_or_default()),
            ("k8s_service_name", dialled),
            ("k8s_service_namespace", dialled_namespace),
            ("server_address", address.as_str()),
            ("server_port", port.as_str()),
        ];
        super::series::labels(
            self.subject
                .labels()
                .chain(peer)
                .chain(more.iter().copied()),
        )
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
    pub(super) fn new(labelling: Labelling) -> Self {
        Self {
            known: HashSet::default(),
            labelling: Arc::new(labelling),
        }
    }

    /// The one identity of `link`; `role` is that of the link, or what an exchange showed.
    pub(super) fn intern(&mut self, link: &Link, role: Role) -> Interned {
        self.intern_with(link, link.peer(), role)
    }

    /// As [`Self::intern`], with somebody else at the other end.
    pub(super) fn intern_with(&mut self, link: &Link, peer: &Peer, role: Role) -> Interned {
        let identity = Identity::new(link, peer, role, &self.labelling);
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
    pub(super) fn labels(&self) -> super::series::Labels {
        let role = [("role", self.role.as_str())];
        super::series::labels(self.subject.labels().chain(role))
    }
}
