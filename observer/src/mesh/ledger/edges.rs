//! All edges, found by who talks to whom; those that turn out to be the same become one.

use hashbrown::HashMap;

use super::{
    edge::{Edge, EdgeKey},
    parties::{Known, NOBODY, Parties},
    slab::Slab,
    view::View,
};
use crate::{
    mesh::party::{End, SERVICE},
    model::{kubernetes::Pod, mesh::Plane, time::Monotonic},
};

/// Times that an edge can have become part of another, which became part of another.
const MOST_MOVES: usize = 8;

/// All edges.
#[derive(Debug, Default)]
pub(super) struct Edges {
    pub(super) parties: Parties,
    slots: Slab<Slot>,
    index: HashMap<EdgeKey, u32>,
    /// Edges between the same two parties.
    groups: HashMap<(u32, u32), Vec<u32>>,
    /// Groups in which something is new.
    unfolded: Vec<(u32, u32)>,
    /// Edges that something happened to.
    dirty: Vec<u32>,
    /// Times that there was no room.
    pub(super) dropped: u64,
}

#[derive(Debug)]
enum Slot {
    Edge(Box<Edge>),
    /// It turned out to be part of this one.
    Moved(u32),
}

// === impl Edges ===

impl Edges {
    /// The edge that a socket tells of; a new one where there are less than `limit`.
    pub(super) fn find(
        &mut self,
        view: &View<'_>,
        plane: impl Fn(&Pod) -> Plane,
        limit: usize,
        judged_from: Monotonic,
        now: Monotonic,
    ) -> Option<u32> {
        let plane = |pod: Option<&std::sync::Arc<Pod>>| pod.map_or(Plane::None, |pod| plane(pod));
        // Each edge has at most three parties of its own.
        let most = limit.saturating_mul(3);
        let parties = &mut self.parties;
        let mut number = |end, pod: Option<_>| parties.number(end, plane(pod), pod, most, now);
        let client = number(view.client, view.client_pod);
        let server = number(view.server, view.server_pod);
        let service = view.service.map(|(namespace, name)| {
            let end = End {
                kind: SERVICE,
                namespace,
                workload_kind: "",
                name,
            };
            number(end, None)
        });
        let (Some(client), Some(server), Some(service)) =
            (client, server, service.unwrap_or(Some(NOBODY)))
        else {
            for party in [client, server].into_iter().flatten() {
                self.parties.forget_unused(party);
            }
            self.dropped += 1;
            return None;
        };
        let key = EdgeKey {
            client,
            server,
            service,
            port: view.port,
        };
        if let Some(slot) = self.index.get(&key) {
            return Some(self.current(*slot));
        }
        for party in [client, server, service] {
            self.parties.hold(party);
        }
        let slot = (self.slots.len() < limit)
            .then(|| Slot::Edge(Box::new(Edge::new(key, judged_from, now))))
            .and_then(|edge| self.slots.insert(edge));
        let Some(slot) = slot else {
            self.dropped += 1;
            self.release(key);
            return None;
        };
        self.index.insert(key, slot);
        self.groups.entry((client, server)).or_default().push(slot);
        self.unfolded.push((client, server));
        self.dirty.push(slot);
        Some(slot)
    }

    /// What an edge has become part of, or itself.
    pub(super) fn current(&self, slot: u32) -> u32 {
        let mut at = slot;
        for _ in 0..MOST_MOVES {
            match self.slots.get(at) {
                Some(Slot::Moved(to)) => at = *to,
                _ => break,
            }
        }
        at
    }

    /// Whether a number is an edge's, and not of one that became part of another.
    pub(super) fn is_itself(&self, slot: u32) -> bool {
        matches!(self.slots.get(slot), Some(Slot::Edge(_)))
    }

    pub(super) fn get(&self, slot: u32) -> Option<&Edge> {
        match self.slots.get(self.current(slot))? {
            Slot::Edge(edge) => Some(edge),
            Slot::Moved(_) => None,
        }
    }

    /// An edge that something happens to: it will be judged.
    pub(super) fn touch(&mut self, slot: u32, now: Monotonic) -> Option<&mut Edge> {
        let at = self.current(slot);
        let Some(Slot::Edge(edge)) = self.slots.get_mut(at) else {
            return None;
        };
        edge.last = edge.last.max(now);
        if !edge.dirty {
            edge.dirty = true;
            self.dirty.push(at);
        }
        Some(edge)
    }

    /// An edge, to be judged.
    pub(super) fn get_mut(&mut self, slot: u32) -> Option<(&mut Edge, &Parties)> {
        let at = self.current(slot);
        match self.slots.get_mut(at)? {
            Slot::Edge(edge) => Some((edge, &self.parties)),
            Slot::Moved(_) => None,
        }
    }

    /// Edges that something happened to since the last time. Those are to be put back that are not
    /// judged.
    pub(super) fn take_dirty(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.dirty)
    }

    pub(super) fn put_back(&mut self, slots: &[u32]) {
        self.dirty.extend_from_slice(slots);
    }

    pub(super) fn known(&self, party: u32) -> Option<&Known> {
        self.parties.get(party)
    }

    /// An application was seen to serve a port behind its proxy.
    pub(super) fn serves(&mut self, server: u32, port: u16) {
        if !self.parties.serves(server, port) {
            return;
        }
        let groups = self.groups.keys();
        self.unfolded
            .extend(groups.filter(|(_, of)| *of == server).copied());
    }

    /// Makes one edge of those that turned out to be the same: of which port or Service was not
    /// known, where there is only one that it can be.
    pub(super) fn fold(&mut self) {
        let mut groups = std::mem::take(&mut self.unfolded);
        groups.sort_unstable();
        groups.dedup();
        for group in groups {
            // Without a name it stands for many servers.
            let server = self.known(group.1).map(|known| &known.party);
            if server.is_some_and(|party| party.name.is_empty()) {
                continue;
            }
            self.fold_ports(group);
            self.fold_services(group);
        }
    }

    fn fold_ports(&mut self, group: (u32, u32)) {
        let keys = self.keys(group);
        let mut ports = keys.iter().map(|(_, key)| key.port).filter(|it| *it != 0);
        let told = ports.next();
        let only_told = told.filter(|told| ports.all(|port| port == *told));
        let served = self.known(group.1).map(|known| known.ports);
        let learned = served.and_then(|ports| ports.only());
        let known_to_serve_several = served.is_some_and(|ports| ports.iter().count() > 1);
        let Some(port) = learned.or(only_told.filter(|_| !known_to_serve_several)) else {
            return;
        };
        for (slot, key) in keys.iter().filter(|(_, key)| key.port == 0) {
            self.rename(*slot, EdgeKey { port, ..*key });
        }
    }

    fn fold_services(&mut self, group: (u32, u32)) {
        let keys = self.keys(group);
        for (slot, key) in keys.iter().filter(|(_, key)| key.service == NOBODY) {
            let mut services = keys
                .iter()
                .filter(|(_, other)| other.port == key.port && other.service != NOBODY)
                .map(|(_, other)| other.service);
            let Some(service) = services.next() else {
                continue;
            };
            if services.all(|other| other == service) {
                self.rename(*slot, EdgeKey { service, ..*key });
            }
        }
    }

    /// Edges of a group that are not part of others.
    fn keys(&self, group: (u32, u32)) -> Vec<(u32, EdgeKey)> {
        let slots = self.groups.get(&group).map_or(&[][..], |slots| slots);
        let key = |slot: &u32| match self.slots.get(*slot)? {
            Slot::Edge(edge) => Some((*slot, edge.key)),
            Slot::Moved(_) => None,
        };
        slots.iter().filter_map(key).collect()
    }

    /// More is known of an edge: it gets another key, or becomes part of the one that has it. It is
    /// found by its old key, too.
    fn rename(&mut self, slot: u32, key: EdgeKey) {
        match self.index.get(&key).copied() {
            Some(to) if self.current(to) != slot => {
                let to = self.current(to);
                let moved = match self.slots.get_mut(slot) {
                    Some(place @ Slot::Edge(_)) => std::mem::replace(place, Slot::Moved(to)),
                    _ => return,
                };
                if let (Slot::Edge(moved), Some(Slot::Edge(edge))) = (moved, self.slots.get_mut(to))
                {
                    edge.absorb(*moved);
                    self.dirty.push(to);
                }
            }
            Some(_) => {}
            None => {
                // Of its parties it holds those that it had; the Service is new to it.
                if let Some(Slot::Edge(edge)) = self.slots.get_mut(slot) {
                    edge.key = key;
                    edge.asked = None;
                    self.index.insert(key, slot);
                    self.dirty.push(slot);
                    for party in [key.client, key.server, key.service] {
                        self.parties.hold(party);
                    }
                }
            }
        }
    }

    fn release(&mut self, key: EdgeKey) {
        for party in [key.client, key.server, key.service] {
            self.parties.release(party);
        }
    }

    /// Forgets edges that nothing was seen of since `before`, and that have no open connections.
    pub(super) fn expire(&mut self, before: Monotonic) {
        let idle = |slot: u32| {
            self.get(slot)
                .is_none_or(|edge| edge.live == 0 && edge.last < before)
        };
        let gone: Vec<u32> = self
            .slots
            .iter()
            .map(|(slot, _)| slot)
            .filter(|slot| idle(*slot))
            .collect();
        if gone.is_empty() {
            return;
        }
        let gone: hashbrown::HashSet<u32> = gone.into_iter().collect();
        let keys: Vec<EdgeKey> = self
            .index
            .extract_if(|_, slot| gone.contains(slot))
            .map(|(key, _)| key)
            .collect();
        for key in keys {
            self.release(key);
        }
        self.groups.retain(|_, slots| {
            slots.retain(|slot| !gone.contains(slot));
            !slots.is_empty()
        });
        self.dirty.retain(|slot| !gone.contains(slot));
        for slot in gone {
            self.slots.remove(slot);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Edge> {
        self.slots.iter().filter_map(|(_, slot)| match slot {
            Slot::Edge(edge) => Some(&**edge),
            Slot::Moved(_) => None,
        })
    }

    /// All edges, with their numbers.
    pub(super) fn numbered(&self) -> impl Iterator<Item = (u32, &Edge)> {
        self.slots.iter().filter_map(|(number, slot)| match slot {
            Slot::Edge(edge) => Some((number, &**edge)),
            Slot::Moved(_) => None,
        })
    }

    /// Edges, and numbers that are kept for those that became part of others.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// One more than the highest number of an edge.
    pub(super) fn end(&self) -> u32 {
        self.slots.end()
    }
}
