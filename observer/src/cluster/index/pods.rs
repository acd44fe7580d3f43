//! Pods: by uid, by container and by address, from when they are told until they are forgotten.

use std::{collections::VecDeque, net::IpAddr, sync::Arc};

use crate::{
    cluster::object::{PodObject, Source},
    model::{
        kubernetes::{Container, Node, Pod, ServiceName},
        time::Monotonic,
    },
};

use super::{
    claims::{self, Claim, Holder, Life, is_long_ago},
    containers::{self, ContainerRecord, Shared},
    multimap::{Hints, Multimap},
    nodes::Nodes,
    slab::{Recorded, Slab},
    sources::{SOURCES, Telling, Told, number},
    uid::{ContainerId, Uid},
};

mod accounts;
mod changes;

/// The pods.
#[derive(Debug, Default)]
pub(super) struct Pods {
    records: Slab<Record>,
    by_uid: Hints<Uid, u32>,
    /// By what a cgroup calls them.
    by_alias: Hints<Uid, u32>,
    by_container: Hints<ContainerId, Place>,
    claims: Multimap<IpAddr, Claim>,
    /// Those that have not ended, by hash of namespace and service account.
    by_account: Multimap<u64, u32>,
    state: foldhash::fast::RandomState,
    /// Rises when a pod comes, goes, or becomes another's.
    pub(super) changes: u64,
    /// Those that ended, by when they are to be forgotten.
    ended: VecDeque<(Monotonic, u32)>,
    /// Addresses that pods lost while they lived, and when.
    dropped: VecDeque<(Monotonic, u32, IpAddr)>,
    /// Of what was before this, something is forgotten.
    floor: Monotonic,
    shared: Shared,
    pub(super) limit: usize,
    pub(super) overflow: u64,
    /// Those that ended and were forgotten before their time.
    pub(super) evicted: u64,
    /// Ids of containers that are none.
    pub(super) malformed: u64,
}

/// A pod.
#[derive(Debug)]
struct Record {
    pod: Arc<Pod>,
    uid: Uid,
    told: Told,
    /// Who told of its owners, and of all that follows from them.
    identity: Source,
    containers: [Box<[ContainerRecord]>; SOURCES],
    /// Addresses that it has, and who told of them.
    addresses: Box<[IpAddr]>,
    addresses_by: Source,
    host_network: bool,
    /// `None` where it is [`USUAL`].
    rare: Option<Box<Rare>>,
}

/// What few pods have.
#[derive(Debug)]
struct Rare {
    /// What its cgroup calls it, where that is not its uid.
    alias: Option<Uid>,
    life: Life,
    /// When somebody who is behind last told of it after its end.
    seen: Monotonic,
    /// When it was last told without any address.
    unaddressed: Option<Monotonic>,
    /// Addresses that it once had, and whose claims are remembered.
    former: Vec<IpAddr>,
}

/// Where a container is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    slot: u32,
    index: u16,
    source: Source,
}

/// What most pods have of what few have.
static USUAL: Rare = Rare {
    alias: None,
    life: Life::GOES_ON,
    seen: Monotonic(0),
    unaddressed: None,
    former: Vec::new(),
};
/// Pods of this node may be so many more than the limit, lest others push them out.
const RESERVED: usize = 1024;

// === impl Pods ===

impl Pods {
    /// Pods that have not ended.
    pub(super) fn live(&self) -> usize {
        self.records.len() - self.ended.len()
    }

    /// Pods that ended and are remembered.
    pub(super) fn ended(&self) -> usize {
        self.ended.len()
    }

    /// Entries of all tables.
    #[cfg(test)]
    pub(super) fn entries(&self) -> usize {
        self.records.len()
            + self.by_uid.len()
            + self.by_alias.len()
            + self.by_container.len()
            + self.claims.len()
            + self.by_account.len()
    }

    pub(super) fn most(&self) -> usize {
        self.limit.saturating_add(RESERVED)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.records
            .iter()
            .filter(|(_, record)| !record.life().is_over())
            .map(|(_, record)| &record.pod)
    }

    /// Whether it changed anything.
    pub(super) fn set(&mut self, object: PodObject, telling: &Telling, nodes: &mut Nodes) -> bool {
        if object.uid.is_empty() {
            self.malformed += 1;
            return false;
        }
        let uid = Uid::new(&object.uid);
        let known = self.slot(&uid);
        let is_other = |record: &Record| {
            *record.pod.name != *object.name || *record.pod.namespace != *object.namespace
        };
        if known
            .and_then(|slot| self.records.get(slot))
            .is_some_and(is_other)
        {
            // The API changes neither: somebody is mistaken, and what was told first stays.
            self.malformed += 1;
            return false;
        }
        let slot = match known {
            Some(slot) => slot,
            None => {
                if object.finished && is_long_ago(object.ended, telling.now, telling.offset) {
                    return false;
                }
                let limit = match telling.source {
                    Source::Node => self.most(),
                    Source::Cluster => self.limit,
                };
                if self.live() >= limit {
                    self.overflow += 1;
                    return false;
                }
                let record = Record::new(uid.clone(), telling);
                let Some(slot) = self.records.insert(record) else {
                    return false;
                };
                self.by_uid.insert(&uid, slot);
                slot
            }
        };
        let Some(record) = self.records.get_mut(slot) else {
            return false;
        };
        record.told.mark(telling);
        if record.life().is_over() {
            // It does not come back: who tells of it is behind, and may tell of it again.
            record.rare_mut().seen = telling.now;
            return false;
        }
        let mut changed = known.is_none();
        changed |= self.set_alias(slot, &object.cgroup_uid);
        let other_containers = self.set_containers(slot, &object, telling.source);
        if !object.finished {
            changed |= self.set_addresses(slot, &object, telling);
        }
        changed |= self.set_end(slot, &object, telling);
        let finished = object.finished;
        let other_identity = self.set_identity(slot, object, known.is_none(), telling, nodes);
        if other_containers || other_identity {
            self.merge(slot);
            changed = true;
        }
        changed | (finished && self.end(slot, telling.now, None, nodes))
    }

    /// A source says that a pod is gone.
    pub(super) fn remove(&mut self, uid: &str, telling: &Telling, nodes: &mut Nodes) -> bool {
        let Some(slot) = self.records.slot_told(&self.by_uid, uid, telling) else {
            return false;
        };
        if let Some(record) = self.records.get_mut(slot) {
            record.told.clear(telling.source);
        }
        self.end(slot, telling.now, None, nodes)
    }

    /// A source told all pods: what is left out is gone, since the source was heard before, `since`.
    pub(super) fn complete(
        &mut self,
        telling: &Telling,
        since: Monotonic,
        nodes: &mut Nodes,
    ) -> bool {
        let left = self.records.left_out(telling);
        let mut changed = false;
        for slot in left {
            if let Some(record) = self.records.get_mut(slot) {
                record.told.clear(telling.source);
            }
            changed |= self.end(slot, telling.now, Some(since), nodes);
        }
        changed
    }

    /// Gives another value of their node to pods.
    pub(super) fn move_to(&mut self, node: &Arc<Node>, slots: &[u32]) {
        for slot in slots {
            if let Some(record) = self.records.get_mut(*slot) {
                record.pod = Arc::new(Pod {
                    node: Some(node.clone()),
                    ..(*record.pod).clone()
                });
            }
        }
        self.changes += 1;
    }

    /// Forgets what ended before `until`, and the oldest beyond the limit.
    pub(super) fn expire(&mut self, until: Monotonic) -> bool {
        let mut changed = false;
        while let Some((gone, slot)) = self.ended.front().copied()
            && (gone <= until || self.ended.len() > self.limit)
        {
            self.ended.pop_front();
            let seen = self.records.get(slot).map(|record| record.rare().seen);
            if let Some(seen) = seen.filter(|seen| *seen > until && gone <= until) {
                self.ended.push_back((seen, slot));
                continue;
            }
            self.evicted += u64::from(gone > until);
            self.forget(slot);
            changed = true;
        }
        while let Some((when, slot, address)) = self.dropped.front().copied()
            && (when <= until || self.dropped.len() > self.limit)
        {
            self.dropped.pop_front();
            let is = |claim: &Claim| claim.pod == slot && claim.dropped <= when;
            if self.claims.remove(&address, is).is_some() {
                self.floor = self.floor.max(when);
                if let Some(record) = self.records.get_mut(slot) {
                    record.rare_mut().former.retain(|other| *other != address);
                }
                changed = true;
            }
        }
        changed
    }

    /// A container and what it is as a service.
    pub(super) fn container(&self, id: &str) -> Option<(Container, &ServiceName)> {
        let id = ContainerId::new(id)?;
        let mut best: Option<(&Record, Place)> = None;
        let mut doubtful = false;
        for place in self.by_container.get(&id) {
            let Some(record) = self.records.get(place.slot) else {
                continue;
            };
            if !record.has_container(&id, *place) {
                continue;
            }
            match best {
                Some((_, other)) if other.slot == place.slot => {
                    if place.source == Source::Node {
                        best = Some((record, *place));
                    }
                }
                Some((other, _)) if other.life().is_over() == record.life().is_over() => {
                    doubtful = true;
                }
                Some((other, _)) if !other.life().is_over() => {}
                _ => {
                    best = Some((record, *place));
                    doubtful = false;
                }
            }
        }
        let (record, place) = best.filter(|_| !doubtful)?;
        let containers = &record.containers[number(place.source)];
        let container = containers.get(usize::from(place.index))?;
        let service = container.service(&record.pod);
        let container = Container {
            pod: record.pod.clone(),
            name: container.name().clone(),
        };
        Some((container, service))
    }

    /// A pod by its uid, or by what its cgroup calls it.
    pub(super) fn pod(&self, uid: &str) -> Option<&Arc<Pod>> {
        let uid = Uid::new(uid);
        let slot = match self.slot(&uid) {
            Some(slot) => slot,
            None => self.aliased(&uid)?,
        };
        Some(&self.records.get(slot)?.pod)
    }

    /// The pod of this uid, if it is on its node's network and nothing says that it ended before
    /// `at`.
    pub(super) fn on_host(&self, uid: &Uid, at: Monotonic) -> Option<&Arc<Pod>> {
        let record = self.records.get(self.slot(uid)?)?;
        (record.host_network && at < record.life().ending).then_some(&record.pod)
    }

    /// Whose an address was.
    pub(super) fn holder(&self, address: IpAddr, at: Monotonic) -> Holder {
        let claims = || {
            self.claims
                .get(&address)
                .filter_map(|claim| Some((claim, self.records.get(claim.pod)?.life())))
        };
        claims::holder(claims, at)
    }

    /// Whether any pod says, or said a short time ago, that an address is its own.
    pub(super) fn has(&self, address: IpAddr) -> bool {
        self.claims.get(&address).next().is_some()
    }

    pub(super) fn at(&self, slot: u32) -> Option<&Arc<Pod>> {
        Some(&self.records.get(slot)?.pod)
    }

    /// Of several pods that cgroups call the same the one that lives, else the one that ended last.
    fn aliased(&self, alias: &Uid) -> Option<u32> {
        let mut best: Option<(u32, (Monotonic, bool))> = None;
        let mut doubtful = false;
        for slot in self.by_alias.get(alias) {
            let Some(record) = self.records.get(*slot) else {
                continue;
            };
            if record.rare().alias.as_ref() != Some(alias) {
                continue;
            }
            // The hash of a static pod is that of its manifest, which another node may have too.
            let rank = (record.life().gone, record.told.has(Source::Node));
            match best {
                Some((_, other)) if other > rank => {}
                Some((_, other)) if other == rank => doubtful = true,
                _ => {
                    best = Some((*slot, rank));
                    doubtful = false;
                }
            }
        }
        best.filter(|_| !doubtful).map(|(slot, _)| slot)
    }

    fn end(
        &mut self,
        slot: u32,
        now: Monotonic,
        since: Option<Monotonic>,
        nodes: &mut Nodes,
    ) -> bool {
        let Some(record) = self.records.get_mut(slot) else {
            return false;
        };
        if record.life().is_over() {
            return false;
        }
        record.rare_mut().life.tell_end(now, since);
        if let Some(node) = &record.pod.node {
            nodes.detach(&node.name, slot);
        }
        self.changes += 1;
        if let Some(account) = accounts::account(&self.state, &record.pod) {
            self.by_account.remove(&account, |other| *other == slot);
        }
        self.ended.push_back((now, slot));
        true
    }

    fn slot(&self, uid: &Uid) -> Option<u32> {
        self.records.slot(&self.by_uid, uid)
    }

    fn forget(&mut self, slot: u32) {
        let Some(record) = self.records.remove(slot) else {
            return;
        };
        let rare = record.rare();
        if !record.addresses.is_empty() || !rare.former.is_empty() {
            self.floor = self.floor.max(rare.life.possible_end());
        }
        self.by_uid.remove(&record.uid, |other| *other == slot);
        if let Some(alias) = &rare.alias {
            self.by_alias.remove(alias, |other| *other == slot);
        }
        for address in record.addresses.iter().chain(&rare.former) {
            self.claims.remove(address, |claim| claim.pod == slot);
        }
        for (source, containers) in [Source::Node, Source::Cluster]
            .iter()
            .zip(&record.containers)
        {
            for (id, index) in containers::ids(containers) {
                let is = Place {
                    slot,
                    index,
                    source: *source,
                };
                self.by_container.remove(&id, |place| *place == is);
            }
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

impl Record {
    fn new(uid: Uid, telling: &Telling) -> Self {
        Self {
            pod: Arc::default(),
            uid,
            told: Told::default(),
            identity: telling.source,
            containers: [Box::default(), Box::default()],
            addresses: Box::default(),
            addresses_by: telling.source,
            host_network: false,
            rare: None,
        }
    }

    fn rare(&self) -> &Rare {
        self.rare.as_deref().unwrap_or(&USUAL)
    }

    fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    fn life(&self) -> &Life {
        &self.rare().life
    }

    /// Whether the container there has this id.
    fn has_container(&self, id: &ContainerId, place: Place) -> bool {
        let containers = &self.containers[number(place.source)];
        let container = containers.get(usize::from(place.index));
        container.is_some_and(|container| container.ids().contains(id))
    }
}

// === impl Rare ===

impl Default for Rare {
    fn default() -> Self {
        Self {
            alias: None,
            life: Life::GOES_ON,
            seen: Monotonic(0),
            unaddressed: None,
            former: Vec::new(),
        }
    }
}
