//! Records by small numbers that stay theirs while they live.

use super::{
    multimap::Hints,
    sources::{Telling, Told},
    uid::Uid,
};

/// Records by number.
#[derive(Debug)]
pub(super) struct Slab<T> {
    records: Vec<Option<T>>,
    free: Vec<u32>,
}

/// What is kept of an object of the API, whatever its kind.
pub(super) trait Recorded {
    fn uid(&self) -> &Uid;
    /// Who told of it.
    fn told(&self) -> &Told;
}

// === impl Slab ===

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self {
            records: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Slab<T> {
    /// Number of records.
    pub(super) fn len(&self) -> usize {
        self.records.len() - self.free.len()
    }

    /// `None` if there are as many as numbers.
    pub(super) fn insert(&mut self, record: T) -> Option<u32> {
        if let Some(slot) = self.free.pop() {
            *self.records.get_mut(slot as usize)? = Some(record);
            return Some(slot);
        }
        let slot = u32::try_from(self.records.len()).ok()?;
        self.records.push(Some(record));
        Some(slot)
    }

    pub(super) fn get(&self, slot: u32) -> Option<&T> {
        self.records.get(slot as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut T> {
        self.records.get_mut(slot as usize)?.as_mut()
    }

    pub(super) fn remove(&mut self, slot: u32) -> Option<T> {
        let record = self.records.get_mut(slot as usize)?.take()?;
        self.free.push(slot);
        Some(record)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0..)
            .zip(&self.records)
            .filter_map(|(slot, record)| Some((slot, record.as_ref()?)))
    }
}

impl<T: Recorded> Slab<T> {
    /// The record of a uid, which `by_uid` hints at.
    pub(super) fn slot(&self, by_uid: &Hints<Uid, u32>, uid: &Uid) -> Option<u32> {
        let is = |slot: &u32| self.get(*slot).is_some_and(|record| record.uid() == uid);
        by_uid.get(uid).copied().find(is)
    }

    /// As [`Self::slot`], if whoever tells now told of it before.
    pub(super) fn slot_told(
        &self,
        by_uid: &Hints<Uid, u32>,
        uid: &str,
        telling: &Telling,
    ) -> Option<u32> {
        let has = |slot: &u32| {
            let record = self.get(*slot);
            record.is_some_and(|record| record.told().has(telling.source))
        };
        self.slot(by_uid, &Uid::new(uid)).filter(has)
    }

    /// What a source had told, and its latest list has not.
    pub(super) fn left_out(&self, telling: &Telling) -> Vec<u32> {
        self.iter()
            .filter(|(_, record)| record.told().is_left_out(telling))
            .map(|(slot, _)| slot)
            .collect()
    }
}
