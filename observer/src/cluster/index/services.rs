//! Services: the addresses and the names that they are dialled by.

use std::{
    collections::BTreeSet,
    hash::BuildHasher,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use crate::{
    cluster::{
        networks::is_claimable,
        object::{ServiceObject, ServicePort},
    },
    model::{
        kubernetes::{Dialled, Service},
        time::Monotonic,
    },
};

use super::{
    intern::Interner,
    multimap::{Hints, Multimap},
    slab::{Recorded, Slab},
    sources::{Telling, Told},
    spans::{Holding, Spans, Tombstones},
    uid::Uid,
};

/// The Services.
#[derive(Debug, Default)]
pub(super) struct Services {
    records: Slab<Record>,
    by_uid: Hints<Uid, u32>,
    /// Slots by hash of namespace and name, and by hash of the name of a balancer.
    by_name: Multimap<u64, u32>,
    by_balancer: Multimap<u64, u32>,
    sockets: Spans<Socket, Arc<Service>>,
    state: foldhash::fast::RandomState,
    gone: Tombstones,
    pub(super) limit: usize,
    pub(super) overflow: u64,
}

/// Where somebody listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Socket {
    pub(super) address: IpAddr,
    pub(super) port: u16,
    /// IP protocol number.
    pub(super) protocol: u8,
}

#[derive(Debug, PartialEq, Eq)]
struct Record {
    uid: Uid,
    told: Told,
    /// It by the way that its name means.
    named: Arc<Service>,
    cluster_ips: Box<[IpAddr]>,
    balancer_names: Box<[Box<str>]>,
    ports: Box<[u16]>,
    sockets: Box<[(Socket, Arc<Service>)]>,
}

/// Sockets of all Services together: so many for each that there may be.
const SOCKETS: usize = 16;
/// More addresses of a kind, or names, of one Service are not kept.
const MAX_ADDRESSES: usize = 64;
/// The address in the place of that of any node.
const ANY_NODE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Whether a Service has a socket among these, which are sorted.
fn has(sockets: &[(Socket, Arc<Service>)], socket: &Socket, service: &Arc<Service>) -> bool {
    sockets
        .binary_search_by_key(socket, |(socket, _)| *socket)
        .is_ok_and(|at| sockets.get(at).is_some_and(|(_, other)| other == service))
}

/// The socket with the same port on any node.
fn any_node(socket: &Socket) -> Socket {
    Socket {
        address: ANY_NODE,
        ..*socket
    }
}

// === impl Services ===

impl Services {
    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    pub(super) fn sockets(&self) -> (usize, usize) {
        (self.sockets.live(), self.limit.saturating_mul(SOCKETS))
    }

    /// Whether it changed anything.
    pub(super) fn set(
        &mut self,
        object: &ServiceObject,
        telling: &Telling,
        names: &mut Interner<str>,
    ) -> bool {
        let uid = Uid::new(&object.uid);
        if self.gone.contains(&uid) {
            return false;
        }
        let known = self.slot(&uid);
        let mut record = Record::new(object, uid, telling, names);
        let mut before = Vec::new();
        if let Some(known) = known.and_then(|slot| self.records.get_mut(slot)) {
            known.told.mark(telling);
            record.told = known.told;
            if *known == record {
                return false;
            }
            before = known.sockets.to_vec();
        } else if self.records.len() >= self.limit {
            self.overflow += 1;
            return false;
        }
        let (used, most) = self.sockets();
        if used.saturating_sub(before.len()) + record.sockets.len() > most {
            self.overflow += 1;
            // What is known of it is no longer true.
            return known.is_some_and(|slot| self.end(slot, telling.now));
        }
        // What did not change is told no later than it was.
        for (socket, service) in &before {
            if !has(&record.sockets, socket, service) {
                self.sockets.close(socket, service, telling.now);
            }
        }
        for (socket, service) in &record.sockets {
            if !has(&before, socket, service) {
                self.sockets.open(*socket, service.clone(), telling.now);
            }
        }
        let slot = match known {
            Some(slot) => {
                self.unname(slot);
                slot
            }
            None => {
                let uid = record.uid.clone();
                let Some(slot) = self.records.insert(Record::default()) else {
                    return false;
                };
                self.by_uid.insert(&uid, slot);
                slot
            }
        };
        let name = self.hash(&record.named.namespace, &record.named.name);
        self.by_name.insert(name, slot);
        for name in &record.balancer_names {
            self.by_balancer.insert(self.hash("", name), slot);
        }
        if let Some(place) = self.records.get_mut(slot) {
            *place = record;
        }
        true
    }

    pub(super) fn remove(&mut self, uid: &str, telling: &Telling) -> bool {
        let slot = self.records.slot_told(&self.by_uid, uid, telling);
        slot.is_some_and(|slot| self.end(slot, telling.now))
    }

    pub(super) fn complete(&mut self, telling: &Telling) -> bool {
        let left = self.records.left_out(telling);
        for slot in &left {
            self.end(*slot, telling.now);
        }
        !left.is_empty()
    }

    pub(super) fn expire(&mut self, until: Monotonic) -> bool {
        self.gone.expire(until, self.limit);
        let (_, most) = self.sockets();
        self.sockets.expire(until, most)
    }

    /// The Service whose address this is.
    pub(super) fn dialled(&self, socket: &Socket, at: Monotonic) -> Holding<'_, Arc<Service>> {
        self.sockets.holder(socket, at)
    }

    /// The Service that has this port on every node.
    pub(super) fn on_nodes(&self, socket: &Socket, at: Monotonic) -> Holding<'_, Arc<Service>> {
        self.sockets.holder(&any_node(socket), at)
    }

    pub(super) fn has(&self, socket: &Socket) -> bool {
        self.sockets.is_held(socket)
    }

    pub(super) fn has_on_nodes(&self, socket: &Socket) -> bool {
        self.sockets.is_held(&any_node(socket))
    }

    /// The Service of this name, if the name leads to this address.
    pub(super) fn by_name(
        &self,
        namespace: &str,
        name: &str,
        address: IpAddr,
    ) -> Option<&Arc<Service>> {
        let record = self.named(namespace, name)?;
        let leads = match record.named.dialled {
            Dialled::Headless | Dialled::ExternalName => true,
            _ => record.cluster_ips.contains(&address),
        };
        leads.then_some(&record.named)
    }

    /// The one Service whose load balancer has this name and which has this port.
    pub(super) fn by_balancer(&self, name: &str, port: u16) -> Option<Arc<Service>> {
        let hash = self.hash("", name);
        let mut found = self
            .by_balancer
            .get(&hash)
            .filter_map(|slot| self.records.get(*slot))
            .filter(|record| record.balancer_names.iter().any(|other| **other == *name))
            .filter(|record| record.ports.contains(&port));
        let only = found.next()?;
        if found.next().is_some() {
            return None;
        }
        Some(Arc::new(Service {
            dialled: Dialled::LoadBalancer,
            ..(*only.named).clone()
        }))
    }

    /// The Service of this name, unless another of its name was not yet told gone.
    fn named(&self, namespace: &str, name: &str) -> Option<&Record> {
        let hash = self.hash(namespace, name);
        let mut found = self
            .by_name
            .get(&hash)
            .filter_map(|slot| self.records.get(*slot))
            .filter(|record| *record.named.namespace == *namespace && *record.named.name == *name);
        let only = found.next()?;
        // It cannot be told which one it is now.
        found.next().is_none().then_some(only)
    }

    fn slot(&self, uid: &Uid) -> Option<u32> {
        self.records.slot(&self.by_uid, uid)
    }

    fn hash(&self, namespace: &str, name: &str) -> u64 {
        self.state.hash_one((namespace, name))
    }

    fn unname(&mut self, slot: u32) {
        let Some(record) = self.records.get(slot) else {
            return;
        };
        let name = self.hash(&record.named.namespace, &record.named.name);
        self.by_name.remove(&name, |other| *other == slot);
        for name in &record.balancer_names {
            let name = self.state.hash_one(("", &**name));
            self.by_balancer.remove(&name, |other| *other == slot);
        }
    }

    fn end(&mut self, slot: u32, now: Monotonic) -> bool {
        self.unname(slot);
        let Some(record) = self.records.remove(slot) else {
            return false;
        };
        for (socket, service) in &record.sockets {
            self.sockets.close(socket, service, now);
        }
        self.by_uid.remove(&record.uid, |other| *other == slot);
        self.gone.insert(record.uid, now);
        true
    }
}

// === impl Socket ===

impl Socket {
    pub(super) fn new(address: SocketAddr, protocol: u8) -> Self {
        Self {
            address: address.ip().to_canonical(),
            port: address.port(),
            protocol,
        }
    }
}

// === impl Record ===

impl Recorded for Record {
    fn uid(&self) -> &Uid {
        &self.uid
    }

    fn told(&self) -> &Told {
        &self.told
    }
}

impl Default for Record {
    fn default() -> Self {
        Self {
            uid: Uid::Hash([0; 16]),
            told: Told::default(),
            named: Arc::default(),
            cluster_ips: Box::default(),
            balancer_names: Box::default(),
            ports: Box::default(),
            sockets: Box::default(),
        }
    }
}

impl Record {
    fn new(object: &ServiceObject, uid: Uid, telling: &Telling, names: &mut Interner<str>) -> Self {
        let named = Arc::new(Service {
            namespace: names.get(&object.namespace),
            name: names.get(&object.name),
            dialled: if !object.external_name.is_empty() {
                Dialled::ExternalName
            } else if object.headless {
                Dialled::Headless
            } else {
                Dialled::ClusterIp
            },
        });
        let by = |dialled| {
            if dialled == named.dialled {
                return named.clone();
            }
            Arc::new(Service {
                dialled,
                ..(*named).clone()
            })
        };
        let mut sockets = Vec::new();
        let mut seen = BTreeSet::new();
        for (dialled, addresses) in [
            (Dialled::ClusterIp, &object.cluster_ips),
            (Dialled::LoadBalancer, &object.balancer_ips),
            (Dialled::ExternalIp, &object.external_ips),
        ] {
            let addresses = addresses
                .iter()
                .map(IpAddr::to_canonical)
                .filter(|address| is_claimable(*address))
                .take(MAX_ADDRESSES);
            let mut shared = None;
            for address in addresses {
                for port in &object.ports {
                    let socket = port.on(address, port.port);
                    if seen.insert(socket) {
                        let service = shared.get_or_insert_with(|| by(dialled));
                        sockets.push((socket, service.clone()));
                    }
                }
            }
        }
        let mut shared = None;
        for port in object.ports.iter().filter(|port| port.node_port != 0) {
            let socket = port.on(ANY_NODE, port.node_port);
            if seen.insert(socket) {
                let service = shared.get_or_insert_with(|| by(Dialled::NodePort));
                sockets.push((socket, service.clone()));
            }
        }
        sockets.sort_unstable_by_key(|(socket, _)| *socket);
        let cluster_ips = object.cluster_ips.iter().map(IpAddr::to_canonical);
        let mut names = object.balancer_names.clone();
        names.truncate(MAX_ADDRESSES);
        names.sort_unstable();
        names.dedup();
        Self {
            uid,
            told: Told::by(telling),
            named,
            cluster_ips: cluster_ips.take(MAX_ADDRESSES).collect(),
            // Ports matter to the names of balancers only.
            ports: if names.is_empty() {
                Box::default()
            } else {
                object.ports.iter().map(|port| port.port).collect()
            },
            balancer_names: names.into(),
            sockets: sockets.into(),
        }
    }
}

impl ServicePort {
    fn on(&self, address: IpAddr, port: u16) -> Socket {
        Socket {
            address,
            port,
            protocol: self.protocol,
        }
    }
}
