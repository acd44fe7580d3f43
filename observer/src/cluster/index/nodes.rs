//! Nodes: their addresses, the networks of their pods, and which pods are on them.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use hashbrown::HashMap;

use crate::{
    cluster::{
        networks::{Prefix, Prefixes, is_claimable},
        object::NodeObject,
    },
    model::{kubernetes::Node, time::Monotonic},
};

use super::{
    multimap::Hints,
    slab::{Recorded, Slab},
    sources::{Telling, Told},
    spans::{Holding, Spans, Tombstones},
    uid::Uid,
};

/// The nodes.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    records: Slab<Record>,
    by_uid: Hints<Uid, u32>,
    by_name: HashMap<Box<str>, Named, foldhash::fast::RandomState>,
    addresses: Spans<IpAddr, Arc<Node>>,
    /// Networks of pods, and how many nodes have each.
    networks: Prefixes<usize>,
    gone: Tombstones,
    pub(super) limit: usize,
    pub(super) overflow: u64,
}

/// A node as somebody names it, perhaps before it is known.
#[derive(Debug)]
struct Named {
    node: Arc<Node>,
    /// Its object; the newest, if there are several.
    record: Option<u32>,
    /// Slots of its pods.
    pods: Vec<u32>,
}

#[derive(Debug)]
struct Record {
    uid: Uid,
    told: Told,
    node: Arc<Node>,
    addresses: Box<[IpAddr]>,
    networks: Box<[Prefix]>,
}

/// More addresses or networks of one node are not kept.
const MAX_ADDRESSES: usize = 32;

// === impl Nodes ===

impl Nodes {
    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    /// The node of this name for a pod, which is told when the node changes.
    pub(super) fn attach(&mut self, name: &str, pod: u32) -> Arc<Node> {
        if let Some(named) = self.by_name.get_mut(name) {
            named.pods.push(pod);
            return named.node.clone();
        }
        let node = Arc::new(Node {
            name: name.into(),
            ..Node::default()
        });
        let named = Named {
            node: node.clone(),
            record: None,
            pods: vec![pod],
        };
        self.by_name.insert(name.into(), named);
        node
    }

    /// The pod has ended.
    pub(super) fn detach(&mut self, name: &str, pod: u32) {
        if let Some(named) = self.by_name.get_mut(name) {
            if let Some(at) = named.pods.iter().position(|other| *other == pod) {
                named.pods.swap_remove(at);
            }
            if named.pods.is_empty() && named.record.is_none() {
                self.by_name.remove(name);
            }
        }
    }

    /// Takes a node. If it changed: it, and the slots of its pods if it is another to them.
    pub(super) fn set(
        &mut self,
        object: NodeObject,
        telling: &Telling,
    ) -> Option<(Arc<Node>, Vec<u32>)> {
        let uid = Uid::new(&object.uid);
        if self.gone.contains(&uid) {
            return None;
        }
        let mut addresses: Vec<IpAddr> = object
            .addresses
            .iter()
            .map(IpAddr::to_canonical)
            .filter(|address| is_claimable(*address))
            .take(MAX_ADDRESSES)
            .collect();
        addresses.sort_unstable();
        addresses.dedup();
        let networks: BTreeSet<Prefix> = object
            .pod_networks
            .iter()
            .filter_map(|(address, length)| Prefix::of(*address, *length))
            // What has no prefix is every address, and says nothing.
            .filter(|prefix| prefix.length() > 0)
            .take(MAX_ADDRESSES)
            .collect();
        let node = Node {
            name: object.name,
            zone: object.zone,
            region: object.region,
        };
        let (slot, told) = match self.slot(&uid) {
            Some(slot) => {
                let record = self.records.get_mut(slot)?;
                record.told.mark(telling);
                if *record.node == node
                    && *record.addresses == *addresses
                    && record.networks.iter().eq(&networks)
                {
                    return None;
                }
                let told = record.told;
                self.take(slot, telling.now);
                (slot, told)
            }
            None if self.records.len() >= self.limit => {
                self.overflow += 1;
                return None;
            }
            None => {
                let record = Record {
                    uid: uid.clone(),
                    told: Told::by(telling),
                    node: Arc::default(),
                    addresses: Box::default(),
                    networks: Box::default(),
                };
                let slot = self.records.insert(record)?;
                self.by_uid.insert(&uid, slot);
                (slot, Told::by(telling))
            }
        };
        let (node, pods) = self.rename(node, slot);
        for address in &addresses {
            self.addresses.open(*address, node.clone(), telling.now);
        }
        for prefix in &networks {
            match self.networks.get_mut(*prefix) {
                Some(count) => *count += 1,
                None => self.networks.insert(*prefix, 1),
            }
        }
        let record = self.records.get_mut(slot)?;
        record.told = told;
        record.node = node.clone();
        record.addresses = addresses.into();
        record.networks = networks.into_iter().collect();
        Some((node, pods))
    }

    /// Forgets a node that a source says is gone.
    pub(super) fn remove(&mut self, uid: &str, telling: &Telling) -> bool {
        let slot = self.records.slot_told(&self.by_uid, uid, telling);
        slot.is_some_and(|slot| self.end(slot, telling.now))
    }

    /// Forgets what a source had, and its latest list has not.
    pub(super) fn complete(&mut self, telling: &Telling) -> bool {
        let left = self.records.left_out(telling);
        for slot in &left {
            self.end(*slot, telling.now);
        }
        !left.is_empty()
    }

    pub(super) fn expire(&mut self, until: Monotonic) -> bool {
        self.gone.expire(until, self.limit);
        self.addresses
            .expire(until, self.limit.saturating_mul(MAX_ADDRESSES))
    }

    /// The node that has an address.
    pub(super) fn holder(&self, address: IpAddr, at: Monotonic) -> Holding<'_, Arc<Node>> {
        self.addresses.holder(&address, at)
    }

    /// Whether a node has an address, or had it a short time ago.
    pub(super) fn has(&self, address: IpAddr) -> bool {
        self.addresses.is_held(&address)
    }

    /// Length of the longest prefix of a network of pods that has this address.
    pub(super) fn pod_network(&self, address: IpAddr) -> Option<u8> {
        Some(self.networks.find(address)?.0)
    }

    /// The shared value of a node, and the slots of the pods that have another.
    fn rename(&mut self, node: Node, slot: u32) -> (Arc<Node>, Vec<u32>) {
        if let Some(named) = self.by_name.get_mut(&node.name) {
            named.record = Some(slot);
            if *named.node == node {
                return (named.node.clone(), Vec::new());
            }
            named.node = Arc::new(node);
            return (named.node.clone(), named.pods.clone());
        }
        let node = Arc::new(node);
        let named = Named {
            node: node.clone(),
            record: Some(slot),
            pods: Vec::new(),
        };
        self.by_name.insert(node.name.clone(), named);
        (node, Vec::new())
    }

    fn slot(&self, uid: &Uid) -> Option<u32> {
        self.records.slot(&self.by_uid, uid)
    }

    fn end(&mut self, slot: u32, now: Monotonic) -> bool {
        self.take(slot, now);
        let Some(record) = self.records.remove(slot) else {
            return false;
        };
        self.by_uid.remove(&record.uid, |other| *other == slot);
        self.gone.insert(record.uid, now);
        if let Some(named) = self.by_name.get_mut(&record.node.name)
            && named.record == Some(slot)
        {
            // Its pods keep what they know: a zone does not change with the object.
            named.record = None;
            if named.pods.is_empty() {
                self.by_name.remove(&record.node.name);
            }
        }
        true
    }

    /// Takes the addresses and networks away from a node.
    fn take(&mut self, slot: u32, now: Monotonic) {
        let Some(record) = self.records.get(slot) else {
            return;
        };
        for address in &record.addresses {
            self.addresses.close(address, &record.node, now);
        }
        for prefix in &record.networks {
            if let Some(count) = self.networks.get_mut(*prefix) {
                *count -= 1;
                if *count == 0 {
                    self.networks.remove(*prefix);
                }
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
