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
    /// Those that closed, the first that did first.
    gone: VecDeque<(Monotonic, ConnectionId)>,
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
    closed: Option<Monotonic>,
}

/// Connections that are remembered.
const MAX_WIRES: usize = 65_536;

/// How long one that closed is remembered: what came by it may wait so long for the pods that it is about.
const REMEMBERED: Duration = Duration::from_secs(4);
/// Most that closed and are remembered, of all pods and of one, whose are looked through for every call.
const MAX_GONE: usize = 4_096;
const MAX_GONE_OF_POD: usize = 32;

/// Those of one side of which `which` holds: that a call which began `then` may have come by; without a
/// call, those that are open, or closed a moment ago where none is.
pub(super) fn wires_at<'a>(
    ends: Option<&'a Ends>,
    role: Role,
    then: Option<Monotonic>,
    which: &'a dyn Fn(&Wire) -> bool,
) -> impl Iterator<Item = &'a Wire> + Clone {
    let all = ends.map(|ends| ends.wires.as_slice()).unwrap_or_default();
    let all = all
        .iter()
        .filter(move |wire| wire.role == role && which(wire));
    let none_open = then.is_none() && all.clone().all(|wire| wire.closed.is_some());
    all.filter(move |wire| match (wire.closed, then) {
        (None, None) => true,
        (Some(_), None) => none_open,
        // Whoever came later did not make it: the observer may be late itself.
        (closed, Some(then)) => wire.opened <= then && closed.is_none_or(|at| at >= then),
    })
}

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
        let mut wire = Wire {
            id,
            role: connection.role,
            remote: far.ip(),
            pod,
            security: link.security,
            signs: link.mesh.clone(),
            opened: match connection.pre_existing {
                // Nobody knows since when.
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
            Some(known) => {
                // More may become known of one that closed.
                wire.closed = known.closed.filter(|_| known.opened == wire.opened);
                if known.is_like(&wire) {
                    return;
                }
                *known = wire;
            }
            None => ends.wires.push(wire),
        }
        ends.revision += 1;
        self.changes += 1;
    }

    /// Forgets a connection that did not close.
    pub(super) fn remove(&mut self, id: ConnectionId) {
        if let Some(address) = self.of.get(&id).copied()
            && !self.has_closed(address, id)
        {
            self.of.remove(&id);
            self.take(address, id);
        }
    }

    /// Takes the end of a connection, which is remembered for what has come by it.
    pub(super) fn close(&mut self, id: ConnectionId, at: Monotonic) {
        let Some(ends) = self.of.get(&id).and_then(|pod| self.pods.get_mut(pod)) else {
            return;
        };
        let mut open = ends.wires.iter_mut();
        let Some(wire) = open.find(|wire| wire.id == id && wire.closed.is_none()) else {
            return;
        };
        wire.closed = Some(at);
        ends.revision += 1;
        self.changes += 1;
        if let Some(place) = ends.oldest_of_many() {
            let wire = ends.wires.swap_remove(place);
            self.of.remove(&wire.id);
        }
        self.gone.push_back((at, id));
        if self.gone.len() > MAX_GONE {
            self.drop_oldest();
        }
    }

    /// Forgets what closed long enough ago.
    pub(super) fn expire(&mut self, now: Monotonic) {
        while let Some((at, _)) = self.gone.front()
            && now.since(*at) >= REMEMBERED
        {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some((_, id)) = self.gone.pop_front()
            && let Some(address) = self.of.get(&id).copied()
            // It may have been told again since.
            && self.has_closed(address, id)
        {
            self.of.remove(&id);
            self.take(address, id);
        }
    }

    fn has_closed(&self, address: IpAddr, id: ConnectionId) -> bool {
        let mut wires = self.of(address).into_iter().flat_map(|ends| &ends.wires);
        wires.any(|wire| wire.id == id && wire.closed.is_some())
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
    /// From when on, and until when, the same of them were open as at this time.
    pub(super) fn unchanged(&self, at: Monotonic) -> (Monotonic, Monotonic) {
        let mut times = (Monotonic::default(), Monotonic(u64::MAX));
        let opened = self.wires.iter().map(|wire| wire.opened);
        // When it closed it still was.
        let closed = self.wires.iter().filter_map(|wire| wire.closed);
        let closed = closed.map(|closed| closed.plus(Duration::from_nanos(1)));
        for change in opened.chain(closed) {
            match change <= at {
                true => times.0 = times.0.max(change),
                false => times.1 = times.1.min(change),
            }
        }
        times
    }

    /// Which closed first, if more have than are remembered.
    fn oldest_of_many(&self) -> Option<usize> {
        let closed = self.wires.iter().enumerate();
        let closed = closed.filter_map(|(place, wire)| Some((wire.closed?, place)));
        if closed.clone().count() <= MAX_GONE_OF_POD {
            return None;
        }
        closed.min().map(|(_, place)| place)
    }
}

// === impl Wire ===

impl Wire {
    fn is_like(&self, other: &Self) -> bool {
        self.closed == other.closed
            && self.security == other.security
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
    fn what_closed_is_known_to_what_began_before_that_and_for_a_while() {
        let mut wires = Wires::default();
        let proxy = Hop::Proxy(ProxyKind::Sidecar);
        let address: IpAddr = "10.0.0.1".parse().unwrap();
        let at = |seconds: u64| Monotonic(seconds * 1_000_000_000);
        let mut open = |id: u64, security| {
            wires.set(&wire(id, "10.0.0.1:40000", proxy, security), None);
        };
        open(1, Security::Plaintext);
        open(2, Security::IstioMutualTls);
        wires.close(ConnectionId(1), at(10));
        // More is known of it, and then it is forgotten as a connection.
        wires.set(&wire(1, "10.0.0.1:40000", proxy, Security::Tls), None);
        wires.remove(ConnectionId(1));
        let ids = |wires: &Wires, then| -> Vec<u64> {
            let found = wires_at(wires.of(address), Role::Client, then, &|_| true);
            found.map(|wire| wire.id.0).collect()
        };
        assert_eq!(ids(&wires, None), [2], "one is open");
        let tls = |wire: &Wire| wire.security == Security::Tls;
        let of_tls = wires_at(wires.of(address), Role::Client, None, &tls);
        assert_eq!(of_tls.count(), 1, "none of these is open");
        assert_eq!(ids(&wires, Some(at(11))), [2], "a later call");
        assert_eq!(ids(&wires, Some(at(9))), [1, 2]);
        wires.close(ConnectionId(2), at(12));
        assert_eq!(ids(&wires, None), [1, 2], "none is open");
        wires.expire(at(14));
        assert_eq!(ids(&wires, Some(at(9))), [2]);
        assert_eq!(wires.len(), 1);
        wires.expire(at(16));
        assert!(wires.of(address).is_none() && wires.len() == 0);
        // Those of one pod are few, whatever their rate.
        for id in 0..10_000 {
            wires.set(
                &wire(id, "10.0.0.1:40000", proxy, Security::Plaintext),
                None,
            );
            wires.close(ConnectionId(id), at(20));
        }
        assert_eq!(wires.len(), MAX_GONE_OF_POD);
        assert!(wires.gone.len() <= MAX_GONE);
        wires.expire(at(24));
        assert!(wires.of(address).is_none() && wires.len() == 0);
    }

    #[test]
    fn a_request_came_by_what_was_open_when_it_came() {
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
        wires.close(ConnectionId(1), at(30));
        let after = Monotonic(at(30).0 + 1);
        for (when, carriers, times) in [
            (at(9), vec![], (at(0), at(10))),
            (at(10), vec![1], (at(10), at(20))),
            (at(29), vec![1, 2], (at(20), after)),
            (at(30), vec![1, 2], (at(20), after)),
            (after, vec![2], (after, Monotonic(u64::MAX))),
        ] {
            let ends = wires.of(address);
            let found = wires_at(ends, Role::Client, Some(when), &|_| true);
            let found: Vec<u64> = found.map(|wire| wire.id.0).collect();
            assert_eq!(found, carriers, "{when:?}");
            assert_eq!(ends.unwrap().unchanged(when), times, "{when:?}");
        }
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
