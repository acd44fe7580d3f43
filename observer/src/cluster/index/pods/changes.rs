//! What each part of a pod's object changes.

use std::{net::IpAddr, sync::Arc};

use crate::{
    cluster::{
        networks::is_claimable,
        object::{PodObject, Source},
    },
    model::{kubernetes::Pod, policy::Traits},
};

use super::{
    super::{
        claims::{Claim, NEVER},
        containers,
        nodes::Nodes,
        sources::{Telling, number},
        uid::Uid,
    },
    Place, Pods,
    accounts::account,
};

/// More addresses of one pod are not kept.
const MAX_ADDRESSES: usize = 16;

// === impl Pods ===

impl Pods {
    pub(super) fn set_alias(&mut self, slot: u32, alias: &str) -> bool {
        let Some(record) = self.records.get_mut(slot) else {
            return false;
        };
        let alias = Uid::new(alias);
        if alias == Uid::Text("".into()) || record.rare().alias.as_ref() == Some(&alias) {
            return false;
        }
        self.by_alias.insert(&alias, slot);
        if let Some(old) = record.rare_mut().alias.replace(alias) {
            self.by_alias.remove(&old, |other| *other == slot);
        }
        true
    }

    pub(super) fn set_containers(&mut self, slot: u32, object: &PodObject, source: Source) -> bool {
        let Some(record) = self.records.get_mut(slot) else {
            return false;
        };
        let containers = self
            .shared
            .containers(&object.containers, &mut self.malformed);
        let place = &mut record.containers[number(source)];
        if *place == containers {
            return false;
        }
        let old = std::mem::replace(place, containers);
        for (id, index) in containers::ids(&old) {
            let is = Place {
                slot,
                index,
                source,
            };
            self.by_container.remove(&id, |place| *place == is);
        }
        for (id, index) in containers::ids(place) {
            let place = Place {
                slot,
                index,
                source,
            };
            self.by_container.insert(&id, place);
        }
        true
    }

    pub(super) fn set_addresses(
        &mut self,
        slot: u32,
        object: &PodObject,
        telling: &Telling,
    ) -> bool {
        let Some(record) = self.records.get_mut(slot) else {
            return false;
        };
        record.host_network = object.host_network;
        let mut addresses: Vec<IpAddr> = Vec::new();
        if !object.host_network {
            addresses.extend(
                object
                    .addresses
                    .iter()
                    .map(IpAddr::to_canonical)
                    .filter(|address| is_claimable(*address))
                    .take(MAX_ADDRESSES),
            );
            addresses.sort_unstable();
            addresses.dedup();
        }
        // The node's own word counts, and nobody's silence.
        let mine = record.addresses_by == telling.source;
        let is_news = if addresses.is_empty() {
            mine
        } else {
            mine || telling.source == Source::Node || record.addresses.is_empty()
        };
        if !is_news {
            return false;
        }
        let unaddressed = record.rare().unaddressed;
        if addresses.is_empty() {
            record.rare_mut().unaddressed = Some(telling.now);
        }
        record.addresses_by = telling.source;
        if *record.addresses == *addresses {
            return false;
        }
        let old = std::mem::replace(&mut record.addresses, addresses.into());
        // With other addresses it did not have this one.
        let without = if old.is_empty() {
            unaddressed
        } else {
            Some(telling.now)
        };
        for address in old.iter().filter(|old| !record.addresses.contains(*old)) {
            let is = |claim: &Claim| claim.pod == slot;
            if let Some(claim) = self.claims.find_mut(address, is) {
                claim.dropped = telling.now;
                self.dropped.push_back((telling.now, slot, *address));
            }
            record.rare.get_or_insert_default().former.push(*address);
        }
        for address in record.addresses.iter().filter(|new| !old.contains(*new)) {
            let is = |claim: &Claim| claim.pod == slot;
            if let Some(claim) = self.claims.find_mut(address, is) {
                // Had, lost and had again: in between there is doubt if another claims it.
                claim.dropped = NEVER;
                if let Some(rare) = &mut record.rare {
                    rare.former.retain(|other| other != address);
                }
                continue;
            }
            let claim = Claim::new(slot, object.started, without, self.floor, telling);
            self.claims.insert(*address, claim);
        }
        // A pod whose addresses never rest.
        if let Some(rare) = &mut record.rare {
            let most = 2 * MAX_ADDRESSES - record.addresses.len();
            let more = rare.former.len().saturating_sub(most);
            for address in rare.former.drain(..more) {
                self.claims.remove(&address, |claim| claim.pod == slot);
                self.floor = self.floor.max(telling.now);
            }
        }
        true
    }

    pub(super) fn set_end(&mut self, slot: u32, object: &PodObject, telling: &Telling) -> bool {
        let Some(record) = self.records.get_mut(slot) else {
            return false;
        };
        let mut life = *record.life();
        // A source that is behind does not know the end yet; it does not unsay it.
        if object.ended == 0 && record.told.has(Source::Node) && telling.source != Source::Node {
            life.tell_terminating(object.terminating, telling.now);
        } else {
            life.tell(
                object.terminating,
                object.ended,
                telling.now,
                telling.offset,
            );
        }
        let changed = life != *record.life();
        if changed {
            record.rare_mut().life = life;
        }
        changed
    }

    pub(super) fn set_identity(
        &mut self,
        slot: u32,
        object: PodObject,
        is_new: bool,
        telling: &Telling,
        nodes: &mut Nodes,
    ) -> bool {
        let Some(record) = self.records.get_mut(slot) else {
            return false;
        };
        let (new, old) = (object.owners.len(), record.pod.owners.len());
        let wins = is_new
            || record.identity == telling.source
            || new > old
            || (new == old && telling.source == Source::Node);
        if !wins {
            return self.set_traits(slot, &object);
        }
        record.identity = telling.source;
        let node = match &record.pod.node {
            Some(node) if node.name == object.node => Some(node.clone()),
            old => {
                if let Some(old) = old {
                    nodes.detach(&old.name, slot);
                }
                (!object.node.is_empty()).then(|| nodes.attach(&object.node, slot))
            }
        };
        let pod = Pod {
            uid: object.uid,
            namespace: self.shared.namespace(&object.namespace),
            name: object.name,
            node,
            owners: self.shared.owners(&object.owners),
            service: self.shared.service(object.service),
            labels: object.labels.into(),
            annotations: object.annotations.into(),
            traits: if *object.traits == Traits::default() {
                // Who does not tell them says nothing of them.
                record.pod.traits.clone()
            } else {
                self.shared.traits(&object.traits)
            },
        };
        if !is_new && *record.pod == pod {
            return false;
        }
        self.replace(slot, pod)
    }

    /// Takes the traits of a pod, where who tells of it otherwise has told none.
    fn set_traits(&mut self, slot: u32, object: &PodObject) -> bool {
        let Some(record) = self.records.get(slot) else {
            return false;
        };
        let nothing = Traits::default();
        if *record.pod.traits != nothing || *object.traits == nothing {
            return false;
        }
        let pod = Pod {
            traits: self.shared.traits(&object.traits),
            ..(*record.pod).clone()
        };
        self.replace(slot, pod)
    }

    fn replace(&mut self, slot: u32, pod: Pod) -> bool {
        let Some(record) = self.records.get_mut(slot) else {
            return false;
        };
        if let Some(old) = account(&self.state, &record.pod) {
            self.by_account.remove(&old, |other| *other == slot);
        }
        if let Some(new) = account(&self.state, &pod) {
            self.by_account.insert(new, slot);
        }
        record.pod = Arc::new(pod);
        self.changes += 1;
        true
    }

    /// Tells containers again what they take over from their pod.
    pub(super) fn merge(&mut self, slot: u32) {
        if let Some(record) = self.records.get_mut(slot) {
            for containers in &mut record.containers {
                self.shared.merge(containers, &record.pod.service);
            }
        }
    }
}
