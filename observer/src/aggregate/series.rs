//! Bounded sets of series: a budget, one overflow series, expiry of what is idle.

use std::{hash::Hash, sync::Arc, time::Duration};

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::model::time::Monotonic;

pub(super) use super::contract::OVERFLOW as OVERFLOW_LABEL;

/// Names and values of a series' labels; empty values are left out.
pub type Labels = Arc<[(&'static str, Box<str>)]>;

/// Series of one kind, keyed by what tells them apart.
#[derive(Debug)]
pub(super) struct Store<K, V> {
    budget: usize,
    index: HashMap<K, u32, RandomState>,
    slots: Vec<Slot<K, V>>,
    free: Vec<u32>,
    overflow: Option<Slot<(), V>>,
    overflowed: u64,
}

/// Where a series is; stays safe to use after the series expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Handle {
    index: u32,
    generation: u32,
}

#[derive(Debug)]
struct Slot<K, V> {
    generation: u32,
    used: Monotonic,
    live: Option<(K, Labels, V)>,
}

const OVERFLOW: u32 = u32::MAX;

// === impl Store ===

impl<K: Clone + Eq + Hash, V> Store<K, V> {
    pub(super) fn new(budget: usize) -> Self {
        Self {
            budget,
            index: HashMap::with_hasher(RandomState::default()),
            slots: Vec::new(),
            free: Vec::new(),
            overflow: None,
            overflowed: 0,
        }
    }

    /// Changes the budget; series above a smaller one stay until they are idle.
    pub(super) fn set_budget(&mut self, budget: usize) {
        self.budget = budget;
    }

    /// Finds the series of `key`, or makes it while the budget lasts; otherwise it is the overflow
    /// series.
    pub(super) fn resolve(
        &mut self,
        key: &K,
        now: Monotonic,
        make: impl FnOnce() -> (Labels, V),
    ) -> Handle {
        if let Some(index) = self.index.get(key) {
            let generation = self
                .slots
                .get(*index as usize)
                .map_or(0, |slot| slot.generation);
            return Handle {
                index: *index,
                generation,
            };
        }
        if self.index.len() >= self.budget {
            if self.overflow.is_none() {
                let labels: Labels = Arc::from([(OVERFLOW_LABEL, Box::from("true"))]);
                let live = Some(((), labels, make().1));
                self.overflow = Some(Slot {
                    generation: 0,
                    used: now,
                    live,
                });
            }
            return Handle {
                index: OVERFLOW,
                generation: 0,
            };
        }
        let (labels, value) = make();
        let live = Some((key.clone(), labels, value));
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                self.slots.push(Slot {
                    generation: 0,
                    used: now,
                    live: None,
                });
                u32::try_from(self.slots.len() - 1).unwrap_or(OVERFLOW - 1)
            }
        };
        let mut generation = 0;
        if let Some(slot) = self.slots.get_mut(index as usize) {
            slot.used = now;
            slot.live = live;
            generation = slot.generation;
        }
        self.index.insert(key.clone(), index);
        Handle { index, generation }
    }

    /// The value to change; `None` when the series has expired. Counts what the overflow series
    /// takes.
    pub(super) fn update(&mut self, handle: Handle, now: Monotonic) -> Option<&mut V> {
        if handle.index == OVERFLOW {
            self.overflowed += 1;
            let slot = self.overflow.as_mut()?;
            slot.used = now;
            return slot.live.as_mut().map(|(_, _, value)| value);
        }
        let slot = self.slots.get_mut(handle.index as usize)?;
        if slot.generation != handle.generation {
            return None;
        }
        slot.used = now;
        slot.live.as_mut().map(|(_, _, value)| value)
    }

    /// All values, to be reset or looked at; does not count as use.
    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        let overflow = self
            .overflow
            .iter_mut()
            .filter_map(|slot| slot.live.as_mut());
        let series = self.slots.iter_mut().filter_map(|slot| slot.live.as_mut());
        series
            .map(|(_, _, value)| value)
            .chain(overflow.map(|(_, _, value)| value))
    }

    /// All series, the overflow series last and without a key.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Option<&K>, &Labels, &V)> {
        let overflow = self.overflow.iter().filter_map(|slot| slot.live.as_ref());
        let series = self.slots.iter().filter_map(|slot| slot.live.as_ref());
        series
            .map(|(key, labels, value)| (Some(key), labels, value))
            .chain(overflow.map(|((), labels, value)| (None, labels, value)))
    }

    /// Removes series that were not used for `idle`, unless `keep` says that they still are.
    /// The overflow series stays: what it counted belongs to nobody else.
    pub(super) fn expire(&mut self, now: Monotonic, idle: Duration, keep: impl Fn(&V) -> bool) {
        self.expire_to(now, idle, keep, |_, _| ());
    }

    /// As [`expire`](Self::expire), and shows each series that is removed.
    pub(super) fn expire_to(
        &mut self,
        now: Monotonic,
        idle: Duration,
        keep: impl Fn(&V) -> bool,
        mut gone: impl FnMut(&K, &V),
    ) {
        for (index, slot) in self.slots.iter_mut().enumerate() {
            let Some((key, _, value)) = &slot.live else {
                continue;
            };
            if now.since(slot.used) < idle || keep(value) {
                continue;
            }
            gone(key, value);
            self.index.remove(key);
            slot.live = None;
            slot.generation = slot.generation.wrapping_add(1);
            self.free.extend(u32::try_from(index).ok());
        }
    }

    /// Series now, without the overflow series.
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// Most series.
    pub(super) fn budget(&self) -> usize {
        self.budget
    }

    /// Updates that the overflow series took.
    pub(super) fn overflowed(&self) -> u64 {
        self.overflowed
    }
}

// === impl Handle ===

impl Handle {
    /// It is the overflow series: the key may get a series of its own later.
    pub(super) fn is_overflow(self) -> bool {
        self.index == OVERFLOW
    }
}

/// Labels without the empty ones.
pub(super) fn labels<'a>(pairs: impl IntoIterator<Item = (&'static str, &'a str)>) -> Labels {
    pairs
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| (name, Box::from(value)))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const IDLE: Duration = Duration::from_secs(10);

    fn count(store: &mut Store<u8, u64>, key: u8, now: Monotonic) -> Handle {
        let handle = store.resolve(&key, now, || (labels([("key", "x")]), 0));
        *store.update(handle, now).unwrap() += 1;
        handle
    }

    #[test]
    fn an_expired_handle_is_refused_and_a_new_series_starts_at_zero() {
        let mut store = Store::new(2);
        let old = count(&mut store, 1, Monotonic(0));
        store.expire(Monotonic(0).plus(IDLE), IDLE, |_| false);
        assert_eq!(store.len(), 0);
        let later = Monotonic(0).plus(IDLE * 2);
        count(&mut store, 2, later);
        assert_eq!(store.update(old, later), None);
        assert_eq!(store.iter().map(|(_, _, value)| *value).sum::<u64>(), 1);
    }

    #[test]
    fn what_is_kept_does_not_expire() {
        let mut store = Store::new(2);
        count(&mut store, 1, Monotonic(0));
        store.expire(Monotonic(0).plus(IDLE), IDLE, |value| *value == 1);
        assert_eq!(store.len(), 1);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Count(u8),
        Pass(u8),
        Expire,
        Budget(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (0u8..12).prop_map(Step::Count),
            2 => (0u8..12).prop_map(Step::Pass),
            1 => Just(Step::Expire),
            1 => (0usize..8).prop_map(Step::Budget),
        ]
    }

    proptest! {
        /// Against a plain model: every count is in its series, in the overflow series, or went
        /// with the series that expired.
        #[test]
        fn no_count_is_lost(steps in prop::collection::vec(step(), 0..300)) {
            let mut store: Store<u8, u64> = Store::new(4);
            let mut budget = 4;
            let mut now = Monotonic(0);
            let mut model: BTreeMap<u8, (u64, Monotonic)> = BTreeMap::new();
            let mut overflow = 0;
            for step in steps {
                match step {
                    Step::Count(key) => {
                        count(&mut store, key, now);
                        if model.contains_key(&key) || model.len() < budget {
                            let entry = model.entry(key).or_default();
                            *entry = (entry.0 + 1, now);
                        } else {
                            overflow += 1;
                        }
                    }
                    Step::Pass(seconds) => now = now.plus(Duration::from_secs(seconds.into())),
                    Step::Expire => {
                        store.expire(now, IDLE, |_| false);
                        model.retain(|_, (_, used)| now.since(*used) < IDLE);
                    }
                    Step::Budget(value) => {
                        budget = value;
                        store.set_budget(value);
                    }
                }
                let found: BTreeMap<u8, u64> =
                    store.iter().filter_map(|(key, _, value)| Some((*key?, *value))).collect();
                let wanted: BTreeMap<u8, u64> =
                    model.iter().map(|(key, (value, _))| (*key, *value)).collect();
                prop_assert_eq!(found, wanted);
                prop_assert_eq!(store.overflowed(), overflow);
                let taken: u64 =
                    store.iter().filter(|(key, ..)| key.is_none()).map(|(_, _, value)| *value).sum();
                prop_assert_eq!(taken, overflow);
            }
        }
    }
}
