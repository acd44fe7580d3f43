//! What proxies of this node have open on the network, by the pod that they stand for.

use std::{net::IpAddr, sync::Arc};

use hashbrown::HashMap;

use crate::{
    mesh::hops::is_on_wire,
    model::{
        call::Link,
        connection::{ConnectionId, Role},
        kubernetes::Pod,
        mesh::Hop,
        security::{MeshSigns, Security},
        time::Monotonic,
    },
};

/// Connections of proxies on the network.
#[derive(Debug, Default)]
pub(super) struct Wires {
    /// By the address of the pod that a proxy stands for: its own, as packets carry it.
    pods: HashMap<IpAddr, Ends, foldhash::fast::RandomState>,
    /// Which pod's each is.
    of: HashMap<ConnectionId, IpAddr, foldhash::fast::RandomState>,
    /// Changes with every one of them.
    changes: u64,
    /// Connections that there was no room for.
    pub(super) full: u64,
}

/// Those that stand for one pod.
#[derive(Debug, Default)]
pub(super) struct Ends {
    /// Changes with every one of them.
    pub(super) revision: u64,
    pub(super) wires: Vec<Wire>,
}

/// One of them.
#[derive(Clone, Debug)]
pub(super) struct Wire {
    id: ConnectionId,
    pub(super) role: Role,
    pub(super) remote: IpAddr,
    /// The pod at the other end, where it is one.
    pub(super) pod: Option<Arc<Pod>>,
    pub(super) security: Security,
    pub(super) signs: Option<Arc<MeshSigns>>,
    pub(super) opened: Monotonic,
}

/// Connections that are remembered.
const MAX_WIRES: usize = 65_536;

// === impl Wires ===

impl Wires {
    /// Takes what is known of a connection by now, and the pod at its other end.
    pub(super) fn set(&mut self, link: &Link, pod: Option<Arc<Pod>>) {
        let id = link.connection.id;
        let on_wire = matches!(link.hop, Hop::Proxy(_)) && is_on_wire(link);
        if !on_wire {
            self.remove(id);
            return;
        }
        if self.of.len() >= MAX_WIRES && !self.of.contains_key(&id) {
            self.full += 1;
            return;
        }
        let connection = &link.connection;
        let (own, far) = connection
            .wire
            .unwrap_or((connection.local, connection.remote));
        // A server's own address is the socket's: a redirection changes its port alone.
        let own = match connection.role {
            Role::Server => connection.local.ip(),
            Role::Client | Role::Unknown => own.ip(),
        };
        let wire = Wire {
            id,
            role: connection.role,
            remote: far.ip(),
            pod,
            security: link.security,
            signs: link.mesh.clone(),
            opened: connection.established.unwrap_or(connection.started),
        };
        if let Some(before) = self.of.insert(id, own).filter(|before| *before != own) {
            self.take(before, id);
        }
        let ends = self.pods.entry(own).or_default();
        match ends.wires.iter_mut().find(|known| known.id == id) {
            Some(known) if known.is_like(&wire) => return,
            Some(known) => *known = wire,
            None => ends.wires.push(wire),
        }
        ends.revision += 1;
        self.changes += 1;
    }

    /// Forgets a connection.
    pub(super) fn remove(&mut self, id: ConnectionId) {
        if let Some(address) = self.of.remove(&id) {
            self.take(address, id);
        }
    }

    fn take(&mut self, address: IpAddr, id: ConnectionId) {
        let Some(ends) = self.pods.get_mut(&address) else {
            return;
        };
        ends.wires.retain(|wire| wire.id != id);
        ends.revision += 1;
        if ends.wires.is_empty() {
            self.pods.remove(&address);
        }
    }

    /// What proxies have open for the pod with this address.
    pub(super) fn of(&self, address: IpAddr) -> Option<&Ends> {
        self.pods.get(&address)
    }

    /// Changes with what proxies have open for the pod with this address.
    pub(super) fn revision(&self, address: IpAddr) -> u64 {
        self.of(address).map_or(0, |ends| ends.revision)
    }

    /// Changes with what any proxy has open.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    pub(super) fn len(&self) -> usize {
        self.of.len()
    }

    pub(super) const LIMIT: usize = MAX_WIRES;
}

// === impl Wire ===

impl Wire {
    fn is_like(&self, other: &Self) -> bool {
        self.security == other.security
            && self.pod == other.pod
            && self.signs == other.signs
            && self.role == other.role
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::{
        aggregate::fixture,
        model::{mesh::ProxyKind, workload::Peer},
    };

    fn wire(id: u64, own: &str, hop: Hop, security: Security) -> Link {
        let link = fixture::link_in(
            id,
            ("cart", "a"),
            Role::Client,
            Peer::Pod(fixture::pod("orders", "b")),
            None,
        );
        let mut link = Link::clone(&link);
        let address = |text: &str| -> SocketAddr { text.parse().unwrap() };
        link.connection.local = address(own);
        link.connection.remote = address("10.0.0.9:8080");
        link.hop = hop;
        link.security = security;
        link
    }

    #[test]
    fn what_a_proxy_has_open_is_found_by_its_pods_address_until_it_is_gone() {
        let mut wires = Wires::default();
        let proxy = Hop::Proxy(ProxyKind::Sidecar);
        let address = "10.0.0.1".parse().unwrap();
        wires.set(
            &wire(1, "10.0.0.1:40000", Hop::Direct, Security::Plaintext),
            None,
        );
        assert!(wires.of(address).is_none(), "an application's own");
        wires.set(&wire(1, "10.0.0.1:40000", proxy, Security::Unknown), None);
        let first = wires.revision(address);
        wires.set(&wire(1, "10.0.0.1:40000", proxy, Security::Unknown), None);
        assert_eq!(wires.revision(address), first, "nothing new");
        wires.set(
            &wire(1, "10.0.0.1:40000", proxy, Security::IstioMutualTls),
            None,
        );
        wires.set(
            &wire(2, "10.0.0.1:40001", proxy, Security::IstioMutualTls),
            None,
        );
        assert!(wires.revision(address) > first);
        let ends = wires.of(address).unwrap();
        assert_eq!(ends.wires.len(), 2);
        assert!(
            ends.wires
                .iter()
                .all(|wire| wire.security == Security::IstioMutualTls)
        );
        wires.remove(ConnectionId(1));
        wires.remove(ConnectionId(2));
        wires.remove(ConnectionId(3));
        assert!(wires.of(address).is_none() && wires.len() == 0);
    }

    #[test]
    fn the_way_to_the_application_is_no_wire() {
        let mut wires = Wires::default();
        let mut inside = wire(
            1,
            "127.0.0.6:40000",
            Hop::Proxy(ProxyKind::Sidecar),
            Security::Plaintext,
        );
        inside.connection.remote = "127.0.0.1:8080".parse().unwrap();
        wires.set(&inside, None);
        assert_eq!(wires.len(), 0);
    }
}
