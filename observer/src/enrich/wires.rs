//! What proxies of this node have open on the network, by the pod that they stand for.

use std::{collections::VecDeque, net::IpAddr, sync::Arc, time::Duration};

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
    /// Those that have ended, and when, in order.
    ended: VecDeque<(Monotonic, ConnectionId)>,
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
    pub(super) closed: Option<Monotonic>,
}

/// Connections that are remembered.
const MAX_WIRES: usize = 65_536;

/// How long one is remembered that has ended: what it carried may be looked at later, as it waits for the
/// pods that it is about, all the more where the observer itself is late.
const KEPT: Duration = Duration::from_secs(4);
/// Most of one pod that have ended and are remembered: all are looked through for a call.
const MAX_KEPT: usize = 64;

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
            let Some((_, oldest)) = self.ended.pop_front() else {
                self.full += 1;
                return;
            };
            self.remove(oldest);
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
        let mut wire = Wire {
            id,
            role: connection.role,
            remote: far.ip(),
            pod,
            security: link.security,
            signs: link.mesh.clone(),
            opened: match connection.pre_existing {
                // Since nobody knows when.
                true => Monotonic::default(),
                false => connection.established.unwrap_or(connection.started),
            },
            closed: None,
        };
        if let Some(before) = self.of.insert(id, own).filter(|before| *before != own) {
            self.take(before, id);
        }
        let ends = self.pods.entry(own).or_default();
        match ends.wires.iter_mut().find(|known| known.id == id) {
            Some(known) if known.is_like(&wire) => return,
            Some(known) => {
                wire.closed = known.closed;
                *known = wire;
            }
            None => ends.wires.push(wire),
        }
        ends.revision += 1;
        self.changes += 1;
    }

    /// A connection has ended.
    pub(super) fn close(&mut self, id: ConnectionId, at: Monotonic) {
        let Some(address) = self.of.get(&id) else {
            return;
        };
        let Some(ends) = self.pods.get_mut(address) else {
            return;
        };
        let open = |wire: &&mut Wire| wire.id == id && wire.closed.is_none();
        if let Some(wire) = ends.wires.iter_mut().find(open) {
            wire.closed = Some(at);
            ends.revision += 1;
            self.changes += 1;
            self.ended.push_back((at, id));
            if let Some(oldest) = ends.oldest_of_many() {
                self.remove(oldest);
            }
        }
    }

    /// Nothing more is heard of a connection: it is forgotten, unless it has ended in order.
    pub(super) fn leave(&mut self, id: ConnectionId) {
        let ends = self.of.get(&id).and_then(|address| self.pods.get(address));
        let has_ended = |ends: &Ends| {
            let mut wires = ends.wires.iter();
            wires.any(|wire| wire.id == id && wire.closed.is_some())
        };
        if !ends.is_some_and(has_ended) {
            self.remove(id);
        }
    }

    /// Forgets what has ended a while ago.
    pub(super) fn expire(&mut self, now: Monotonic) {
        while let Some((at, id)) = self.ended.front().copied() {
            if now.since(at) < KEPT {
                return;
            }
            self.ended.pop_front();
            self.remove(id);
        }
    }

    /// Forgets a connection.
    fn remove(&mut self, id: ConnectionId) {
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

// === impl Ends ===

impl Ends {
    /// The one that ended first, if there are more than are remembered.
    fn oldest_of_many(&self) -> Option<ConnectionId> {
        let ended = self.wires.iter();
        let ended = ended.filter_map(|wire| Some((wire.closed?, wire.id)));
        if ended.clone().count() <= MAX_KEPT {
            return None;
        }
        ended.min().map(|(_, id)| id)
    }

    /// Around this time, when any of them was opened or closed last, and when next.
    pub(super) fn unchanged(&self, at: Monotonic) -> (Monotonic, Monotonic) {
        let mut around = (Monotonic::default(), Monotonic(u64::MAX));
        let opened = self.wires.iter().map(|wire| wire.opened);
        // It still carried then.
        let closed = self.wires.iter().filter_map(|wire| wire.closed);
        let closed = closed.map(|closed| closed.plus(Duration::from_nanos(1)));
        for change in opened.chain(closed) {
            match change <= at {
                true => around.0 = around.0.max(change),
                false => around.1 = around.1.min(change),
            }
        }
        around
    }
}

// === impl Wire ===

impl Wire {
    /// Whether what came then may have come by it.
    pub(super) fn carries(&self, at: Monotonic) -> bool {
        self.opened <= at && self.closed.is_none_or(|closed| at <= closed)
    }

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
        wires.leave(ConnectionId(1));
        wires.leave(ConnectionId(2));
        wires.leave(ConnectionId(3));
        assert!(wires.of(address).is_none() && wires.len() == 0);
    }

    #[test]
    fn what_has_ended_is_known_a_little_longer_and_when_it_was_open() {
        let mut wires = Wires::default();
        let proxy = Hop::Proxy(ProxyKind::Sidecar);
        let address = "10.0.0.1".parse().unwrap();
        let at = |seconds: u64| Monotonic::default().plus(Duration::from_secs(seconds));
        for (id, opened) in [(1, 10), (2, 20)] {
            let mut link = wire(id, "10.0.0.1:40000", proxy, Security::Plaintext);
            link.connection.established = Some(at(opened));
            link.connection.pre_existing = false;
            wires.set(&link, None);
        }
        let revision = wires.revision(address);
        wires.close(ConnectionId(1), at(30));
        assert!(wires.revision(address) > revision);
        wires.leave(ConnectionId(1));
        let mut late = wire(1, "10.0.0.1:40000", proxy, Security::Tls);
        late.connection.established = Some(at(10));
        late.connection.pre_existing = false;
        wires.set(&late, None);
        for (when, carrying, around) in [
            (9, vec![], (at(0), at(10))),
            (10, vec![1], (at(10), at(20))),
            (29, vec![1, 2], (at(20), Monotonic(at(30).0 + 1))),
            (30, vec![1, 2], (at(20), Monotonic(at(30).0 + 1))),
            (31, vec![2], (Monotonic(at(30).0 + 1), Monotonic(u64::MAX))),
        ] {
            let ends = wires.of(address).unwrap();
            let carriers = ends.wires.iter().filter(|wire| wire.carries(at(when)));
            let carriers: Vec<u64> = carriers.map(|wire| wire.id.0).collect();
            assert_eq!(carriers, carrying, "{when}");
            assert_eq!(ends.unchanged(at(when)), around, "{when}");
        }
        wires.expire(at(33));
        assert_eq!(wires.len(), 2);
        wires.expire(at(34));
        assert_eq!((wires.len(), wires.ended.len()), (1, 0));
        wires.leave(ConnectionId(2));
        assert_eq!(wires.len(), 0);
        // They are few of one pod, whatever their rate.
        for id in 0..10_000 {
            let link = wire(id, "10.0.0.1:40000", proxy, Security::Plaintext);
            wires.set(&link, None);
            wires.close(ConnectionId(id), at(40));
        }
        assert_eq!(wires.len(), MAX_KEPT);
        wires.expire(at(44));
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
