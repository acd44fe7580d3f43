//! Endpoints: who stands behind the Services that give no address of their own.

use std::{hash::BuildHasher, net::IpAddr, sync::Arc};

use hashbrown::HashMap;

use crate::{
    cluster::{
        networks::is_claimable,
        object::{Endpoint, EndpointsObject},
    },
    model::{
        kubernetes::{Dialled, Service},
        time::Monotonic,
    },
};

use super::{
    claims::{LAG, before},
    intern::Interner,
    multimap::{Hints, Multimap},
    services::Socket,
    slab::{Recorded, Slab},
    sources::{Telling, Told},
    spans::Tombstones,
    uid::Uid,
};

/// The endpoints of all Services.
#[derive(Debug, Default)]
pub(super) struct Endpoints {
    records: Slab<Record>,
    by_uid: Hints<Uid, u32>,
    sockets: Hints<Socket, Place>,
    /// Slots by hash of namespace and name of their Service.
    by_service: Multimap<u64, u32>,
    state: foldhash::fast::RandomState,
    /// Rises when an endpoint comes or goes.
    pub(super) changes: u64,
    ports: Interner<[(u8, u16)]>,
    gone: Tombstones,
    pub(super) limit: usize,
    pub(super) overflow: u64,
    /// Some are missing, so what is the only one may not be.
    lacking: bool,
    /// Some were missing since the list that is under way began.
    refused: bool,
}

/// An endpoint, as it is found by its socket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found<'a> {
    /// Its Service, dialled by an endpoint.
    pub(super) service: &'a Arc<Service>,
    /// Its pod; `None` for an address outside.
    pub(super) pod: Option<&'a Uid>,
    told: Monotonic,
}

#[derive(Debug)]
struct Record {
    uid: Uid,
    told: Told,
    service: Arc<Service>,
    ports: Arc<[(u8, u16)]>,
    endpoints: Box<[(IpAddr, Option<Uid>)]>,
}

/// Where an endpoint is.
#[derive(Clone, Copy, Debug)]
struct Place {
    told: Monotonic,
    slot: u32,
    index: u32,
}

/// Hash of the namespace and the name of the Service of a slice.
fn service(state: &foldhash::fast::RandomState, record: &Record) -> u64 {
    state.hash_one((&*record.service.namespace, &*record.service.name))
}

// === impl Endpoints ===

impl Endpoints {
    /// Number of slices.
    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    /// Number of endpoints, each as often as it has ports.
    pub(super) fn sockets(&self) -> usize {
        self.sockets.len()
    }

    /// Whether it changed anything.
    pub(super) fn set(
        &mut self,
        object: EndpointsObject,
        telling: &Telling,
        names: &mut Interner<str>,
    ) -> bool {
        let uid = Uid::new(&object.uid);
        if self.gone.contains(&uid) {
            return false;
        }
        let known = self.slot(&uid);
        let mut record = Record::new(object, uid, telling, names, &mut self.ports);
        let mut used = self.sockets.len();
        if let Some(old) = known.and_then(|slot| self.records.get_mut(slot)) {
            old.told.mark(telling);
            record.told = old.told;
            if old.service == record.service
                && old.ports == record.ports
                && old.endpoints == record.endpoints
            {
                return false;
            }
            used -= old.len();
        }
        if record.len().saturating_add(used) > self.limit || self.records.len() >= self.limit {
            self.overflow += 1;
            (self.lacking, self.refused) = (true, true);
            // What is known of it is no longer true.
            return known.is_some_and(|slot| self.end(slot, telling.now));
        }
        let slot = match known {
            Some(slot) => slot,
            None => {
                let Some(slot) = self.records.insert(Record::default()) else {
                    return false;
                };
                self.by_uid.insert(&record.uid, slot);
                slot
            }
        };
        self.changes += 1;
        let old = self.take(slot);
        for (socket, index) in record.sockets() {
            let pod = record.endpoints.get(index).map(|(_, pod)| pod);
            // What did not change was told no later than it was.
            let told = pod.and_then(|pod| old.get(&(socket, pod.clone())));
            let told = told.copied().unwrap_or(telling.now);
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            self.sockets.insert(&socket, Place { told, slot, index });
        }
        self.by_service.insert(service(&self.state, &record), slot);
        if let Some(place) = self.records.get_mut(slot) {
            *place = record;
        }
        true
    }

    pub(super) fn remove(&mut self, uid: &str, telling: &Telling) -> bool {
        let slot = self.records.slot_told(&self.by_uid, uid, telling);
        slot.is_some_and(|slot| self.end(slot, telling.now))
    }

    /// A list begins: it may fit where the last one did not.
    pub(super) fn begin(&mut self) {
        self.refused = false;
    }

    pub(super) fn complete(&mut self, telling: &Telling) -> bool {
        let left = self.records.left_out(telling);
        self.lacking = self.refused;
        for slot in &left {
            self.end(*slot, telling.now);
        }
        !left.is_empty()
    }

    pub(super) fn expire(&mut self, until: Monotonic) {
        self.gone.expire(until, self.limit);
    }

    /// The pods behind a Service, as often as slices name them; `None` for an address outside.
    pub(super) fn of(&self, namespace: &str, name: &str) -> impl Iterator<Item = Option<&Uid>> {
        let hash = self.state.hash_one((namespace, name));
        let slots = self.by_service.get(&hash).copied().collect::<Vec<u32>>();
        slots
            .into_iter()
            .filter_map(|slot| self.records.get(slot))
            .filter(move |record| {
                *record.service.namespace == *namespace && *record.service.name == *name
            })
            .flat_map(|record| record.endpoints.iter().map(|(_, pod)| pod.as_ref()))
    }

    /// Whether all that were told are here.
    pub(super) fn are_all(&self) -> bool {
        !self.lacking
    }

    /// The endpoints with this socket at that time.
    pub(super) fn at(&self, socket: &Socket, at: Monotonic) -> impl Iterator<Item = Found<'_>> {
        let socket = *socket;
        self.sockets
            .get(&socket)
            .filter(move |place| before(place.told, LAG) <= at)
            .filter_map(move |place| {
                let record = self.records.get(place.slot)?;
                let (address, pod) = record.endpoints.get(place.index as usize)?;
                let is = *address == socket.address
                    && record.ports.contains(&(socket.protocol, socket.port));
                is.then_some(Found {
                    service: &record.service,
                    pod: pod.as_ref(),
                    told: place.told,
                })
            })
    }

    fn slot(&self, uid: &Uid) -> Option<u32> {
        self.records.slot(&self.by_uid, uid)
    }

    fn end(&mut self, slot: u32, now: Monotonic) -> bool {
        self.changes += 1;
        self.take(slot);
        let Some(record) = self.records.remove(slot) else {
            return false;
        };
        self.by_uid.remove(&record.uid, |other| *other == slot);
        self.gone.insert(record.uid, now);
        true
    }

    /// Takes the sockets of a slice away: each with its pod, and when it was told.
    fn take(&mut self, slot: u32) -> HashMap<(Socket, Option<Uid>), Monotonic> {
        let mut taken = HashMap::new();
        let Some(record) = self.records.get(slot) else {
            return taken;
        };
        let hash = service(&self.state, record);
        self.by_service.remove(&hash, |other| *other == slot);
        for (socket, index) in record.sockets() {
            let is = |place: &Place| place.slot == slot && place.index as usize == index;
            if let Some(place) = self.sockets.remove(&socket, is)
                && let Some((_, pod)) = record.endpoints.get(index)
            {
                taken.insert((socket, pod.clone()), place.told);
            }
        }
        taken
    }
}

// === impl Found ===

impl Found<'_> {
    /// Whether it was told before that time.
    pub(super) fn is_told(&self, at: Monotonic) -> bool {
        self.told <= at
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
            service: Arc::default(),
            ports: Arc::default(),
            endpoints: Box::default(),
        }
    }
}

impl Record {
    fn new(
        object: EndpointsObject,
        uid: Uid,
        telling: &Telling,
        names: &mut Interner<str>,
        shared: &mut Interner<[(u8, u16)]>,
    ) -> Self {
        let endpoint = |Endpoint { address, pod_uid }: Endpoint| {
            let pod = (!pod_uid.is_empty()).then(|| Uid::new(&pod_uid));
            (address.to_canonical(), pod)
        };
        let mut ports = object.ports;
        ports.sort_unstable();
        ports.dedup();
        let mut endpoints: Vec<_> = object
            .endpoints
            .into_iter()
            .map(endpoint)
            .filter(|(address, _)| is_claimable(*address))
            .collect();
        // Their order says nothing.
        endpoints.sort_unstable();
        endpoints.dedup();
        Self {
            uid,
            told: Told::by(telling),
            service: Arc::new(Service {
                namespace: names.get(&object.namespace),
                name: names.get(&object.service),
                dialled: Dialled::Endpoint,
            }),
            ports: shared.get(&ports),
            endpoints: endpoints.into(),
        }
    }

    fn len(&self) -> usize {
        self.ports.len().saturating_mul(self.endpoints.len())
    }

    /// The sockets of its endpoints, and the number of the endpoint that has each.
    fn sockets(&self) -> impl Iterator<Item = (Socket, usize)> {
        let endpoints = self.endpoints.iter().enumerate();
        endpoints.flat_map(|(index, (address, _))| {
            self.ports.iter().map(move |(protocol, port)| {
                let socket = Socket {
                    address: *address,
                    port: *port,
                    protocol: *protocol,
                };
                (socket, index)
            })
        })
    }
}
