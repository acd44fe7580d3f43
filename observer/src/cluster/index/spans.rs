//! Whose a key was at what time: of addresses of nodes and of Services, which few share and which
//! rarely move.

use std::{collections::VecDeque, hash::Hash};

use hashbrown::HashSet;

use crate::model::time::Monotonic;

use super::{
    claims::{NEVER, REACH, before},
    multimap::Multimap,
    uid::Uid,
};

/// Whose a key was at what time.
#[derive(Debug)]
pub(super) struct Spans<K, V> {
    held: Multimap<K, Held<V>>,
    /// What is no longer held, and since when.
    ended: VecDeque<(Monotonic, K, V)>,
    /// Nothing that was told later holds from before this: what was there is forgotten.
    floor: Monotonic,
}

/// Who held a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Holding<'a, V> {
    Nobody,
    One(&'a V),
    Several,
}

/// Uids of what is gone. They do not come back: who tells of them is behind.
#[derive(Debug, Default)]
pub(super) struct Tombstones {
    uids: HashSet<Uid, foldhash::fast::RandomState>,
    order: VecDeque<(Monotonic, Uid)>,
}

#[derive(Debug)]
struct Held<V> {
    value: V,
    told: Monotonic,
    gone: Monotonic,
}

// === impl Spans ===

impl<K, V> Default for Spans<K, V> {
    fn default() -> Self {
        Self {
            held: Multimap::default(),
            ended: VecDeque::new(),
            floor: Monotonic(0),
        }
    }
}

impl<K: Hash + Eq + Clone, V: PartialEq + Clone> Spans<K, V> {
    /// Keys that are held, each as often as it is.
    pub(super) fn live(&self) -> usize {
        self.held.len() - self.ended.len()
    }

    /// From now on this holds the key.
    pub(super) fn open(&mut self, key: K, value: V, now: Monotonic) {
        let held = Held {
            value,
            told: now,
            gone: NEVER,
        };
        self.held.insert(key, held);
    }

    /// This no longer holds the key; it is remembered until [`Self::expire`] forgets it.
    pub(super) fn close(&mut self, key: &K, value: &V, now: Monotonic) {
        let live = |held: &Held<V>| held.gone == NEVER && held.value == *value;
        if let Some(held) = self.held.find_mut(key, live) {
            held.gone = now;
            self.ended.push_back((now, key.clone(), value.clone()));
        }
    }

    /// Who held the key. What was told later than `at` holds it too, for a while back, if nobody
    /// else is known to have.
    pub(super) fn holder(&self, key: &K, at: Monotonic) -> Holding<'_, V> {
        let told = self.only(key, |held| held.told <= at && at < held.gone);
        if told != Holding::Nobody {
            return told;
        }
        self.only(key, |held| {
            at < held.told && before(held.told, REACH).max(self.floor) <= at
        })
    }

    /// Whether anybody holds the key, or did a short time ago.
    pub(super) fn is_held(&self, key: &K) -> bool {
        self.held.get(key).next().is_some()
    }

    /// Forgets what ended before `until`, and the oldest beyond `limit`.
    pub(super) fn expire(&mut self, until: Monotonic, limit: usize) -> bool {
        let mut changed = false;
        while let Some((gone, ..)) = self.ended.front()
            && (*gone <= until || self.ended.len() > limit)
        {
            let Some((gone, key, value)) = self.ended.pop_front() else {
                break;
            };
            self.floor = self.floor.max(gone);
            self.held
                .remove(&key, |held| held.gone == gone && held.value == value);
            changed = true;
        }
        changed
    }

    fn only(&self, key: &K, holds: impl Fn(&Held<V>) -> bool) -> Holding<'_, V> {
        let mut found = Holding::Nobody;
        for held in self.held.get(key).filter(|held| holds(held)) {
            match found {
                Holding::One(value) if *value != held.value => return Holding::Several,
                _ => found = Holding::One(&held.value),
            }
        }
        found
    }
}

// === impl Tombstones ===

impl Tombstones {
    pub(super) fn insert(&mut self, uid: Uid, now: Monotonic) {
        if self.uids.insert(uid.clone()) {
            self.order.push_back((now, uid));
        }
    }

    pub(super) fn contains(&self, uid: &Uid) -> bool {
        self.uids.contains(uid)
    }

    /// Forgets those from before `until`, and the oldest beyond `limit`.
    pub(super) fn expire(&mut self, until: Monotonic, limit: usize) {
        while let Some((gone, uid)) = self.order.front()
            && (*gone <= until || self.order.len() > limit)
        {
            self.uids.remove(uid);
            self.order.pop_front();
        }
    }
}
