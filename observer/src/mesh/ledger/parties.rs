//! Who is at the ends of edges, each named once, with what is known of its pods.

use std::{hash::BuildHasher, sync::Arc};

use hashbrown::{DefaultHashBuilder, HashTable};

use super::slab::Slab;
use crate::{
    mesh::{party::End, report::Party},
    model::{kubernetes::Pod, mesh::Plane, time::Monotonic},
};

/// Stands for no party.
pub(super) const NOBODY: u32 = u32::MAX;

/// Ports that an application was seen to serve behind its proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Ports {
    /// None yet.
    #[default]
    None,
    /// This one.
    One(u16),
    /// More: up to four of them.
    Several([u16; 4]),
}

/// A party, and what is known of it.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) party: Arc<Party>,
    /// Who carries the traffic of its pods. Pods of one workload with another are another party.
    pub(super) plane: Plane,
    /// One of its pods, the last that was seen.
    pub(super) pod: Option<Arc<Pod>>,
    /// How often what policies choose its pods by was another.
    pub(super) changes: u32,
    /// Ports of the application.
    pub(super) ports: Ports,
    /// When it was first seen.
    pub(super) first: Monotonic,
    /// Since when proxies were seen to carry its traffic.
    pub(super) proxied: Option<Monotonic>,
    /// Edges that it is part of.
    edges: u32,
}

/// Parties by number.
#[derive(Debug, Default)]
pub(super) struct Parties {
    known: Slab<Known>,
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

// === impl Ports ===

impl Ports {
    /// Adds one; whether that is the first.
    fn add(&mut self, port: u16) -> bool {
        match self {
            _ if port == 0 => {}
            Self::None => {
                *self = Self::One(port);
                return true;
            }
            Self::One(only) if *only == port => {}
            Self::One(only) => *self = Self::Several([*only, port, 0, 0]),
            Self::Several(ports) => {
                if !ports.contains(&port)
                    && let Some(free) = ports.iter_mut().find(|port| **port == 0)
                {
                    *free = port;
                }
            }
        }
        false
    }

    /// The only one.
    pub(super) fn only(self) -> Option<u16> {
        match self {
            Self::One(port) => Some(port),
            Self::None | Self::Several(_) => None,
        }
    }

    /// All that are known.
    pub(super) fn iter(self) -> impl Iterator<Item = u16> {
        let ports = match self {
            Self::None => [0; 4],
            Self::One(port) => [port, 0, 0, 0],
            Self::Several(ports) => ports,
        };
        ports.into_iter().filter(|port| *port != 0)
    }
}

// === impl Known ===

impl Known {
    /// Whether a connection began when its proxy, if it has one that works, was there.
    pub(super) fn had_proxy(&self, started: Monotonic, settle: std::time::Duration) -> bool {
        self.proxied.is_some_and(|since| since <= started) || self.first.plus(settle) <= started
    }

    fn see(&mut self, pod: &Arc<Pod>) {
        match &self.pod {
            Some(known) if Arc::ptr_eq(known, pod) => return,
            Some(known) => {
                let same = Arc::ptr_eq(&known.traits, &pod.traits) || known.traits == pod.traits;
                self.changes = self.changes.wrapping_add(u32::from(!same));
            }
            None => self.changes = self.changes.wrapping_add(1),
        }
        self.pod = Some(pod.clone());
    }
}

// === impl Parties ===

impl Parties {
    pub(super) fn get(&self, number: u32) -> Option<&Known> {
        self.known.get(number)
    }

    /// The number of a party; makes one up where there are less than `limit`. Of who is new nobody
    /// is told before [`Self::hold`].
    pub(super) fn number(
        &mut self,
        end: End<'_>,
        plane: Plane,
        pod: Option<&Arc<Pod>>,
        limit: usize,
        now: Monotonic,
    ) -> Option<u32> {
        let hash = self.hash(end, plane);
        let known = &self.known;
        let same = |number: &u32| {
            known
                .get(*number)
                .is_some_and(|known| known.plane == plane && known.party.end() == end)
        };
        if let Some(number) = self.index.find(hash, same).copied() {
            if let (Some(known), Some(pod)) = (self.known.get_mut(number), pod) {
                known.see(pod);
            }
            return Some(number);
        }
        if self.known.len() >= limit {
            return None;
        }
        let number = self.known.insert(Known {
            party: Arc::new(end.party()),
            plane,
            pod: pod.cloned(),
            changes: 0,
            ports: Ports::None,
            first: now,
            proxied: None,
            edges: 0,
        })?;
        let (known, hasher) = (&self.known, &self.hasher);
        self.index.insert_unique(hash, number, |number| {
            known
                .get(*number)
                .map_or(0, |known| hash_of(hasher, known.party.end(), known.plane))
        });
        Some(number)
    }

    /// The application was seen to serve a port behind its proxy; whether that is the first.
    pub(super) fn serves(&mut self, number: u32, port: u16) -> bool {
        let Some(known) = self.known.get_mut(number) else {
            return false;
        };
        let before = known.ports;
        let first = known.ports.add(port);
        known.changes = known.changes.wrapping_add(u32::from(known.ports != before));
        first
    }

    /// A proxy was seen to carry its traffic.
    pub(super) fn proxied(&mut self, number: u32, since: Monotonic) {
        if let Some(known) = self.known.get_mut(number) {
            known.proxied = Some(known.proxied.map_or(since, |known| known.min(since)));
        }
    }

    /// It is part of one more edge.
    pub(super) fn hold(&mut self, number: u32) {
        if let Some(known) = self.known.get_mut(number) {
            known.edges += 1;
        }
    }

    /// It is part of one edge less; it is forgotten after the last.
    pub(super) fn release(&mut self, number: u32) {
        let Some(known) = self.known.get_mut(number) else {
            return;
        };
        known.edges = known.edges.saturating_sub(1);
        self.forget_unused(number);
    }

    /// Forgets it, if it is part of no edge.
    pub(super) fn forget_unused(&mut self, number: u32) {
        if self.get(number).is_none_or(|known| known.edges > 0) {
            return;
        }
        let Some(known) = self.known.remove(number) else {
            return;
        };
        let hash = self.hash(known.party.end(), known.plane);
        if let Ok(entry) = self.index.find_entry(hash, |it| *it == number) {
            entry.remove();
        }
    }

    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    fn hash(&self, end: End<'_>, plane: Plane) -> u64 {
        hash_of(&self.hasher, end, plane)
    }
}

fn hash_of(hasher: &DefaultHashBuilder, end: End<'_>, plane: Plane) -> u64 {
    hasher.hash_one((end, plane))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(name: &str) -> End<'_> {
        End {
            kind: "workload",
            namespace: "shop",
            workload_kind: "Deployment",
            name,
        }
    }

    #[test]
    fn each_is_named_once_and_forgotten_after_its_last_edge() {
        let mut parties = Parties::default();
        let number = |parties: &mut Parties, name, plane| {
            parties.number(end(name), plane, None, 3, Monotonic(0))
        };
        let web = number(&mut parties, "web", Plane::None);
        let cart = number(&mut parties, "cart", Plane::None);
        let meshed = number(&mut parties, "cart", Plane::Linkerd);
        assert_eq!(number(&mut parties, "web", Plane::None), web);
        assert_ne!(cart, meshed);
        assert_eq!(number(&mut parties, "more", Plane::None), None);
        let cart = cart.expect("there is room");
        parties.hold(cart);
        parties.hold(cart);
        parties.release(cart);
        assert!(parties.get(cart).is_some());
        parties.release(cart);
        assert!(parties.get(cart).is_none());
        assert_eq!(parties.len(), 2);
        assert!(number(&mut parties, "more", Plane::None).is_some());
    }

    #[test]
    fn one_port_is_told_from_several() {
        let mut ports = Ports::default();
        assert_eq!(ports.only(), None);
        assert!(ports.add(8080));
        assert!(!ports.add(8080));
        assert_eq!(ports.only(), Some(8080));
        for port in [9090, 1, 2, 3] {
            assert!(!ports.add(port));
        }
        assert_eq!(ports.only(), None);
        assert_eq!(ports.iter().collect::<Vec<_>>(), [8080, 9090, 1, 2]);
    }
}
