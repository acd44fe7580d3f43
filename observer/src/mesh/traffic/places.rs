//! A bounded table whose entries are found by key once, and by their place from then on.

use std::hash::Hash;

use hashbrown::HashMap;

/// Values by key and by place. A place is good until [`Places::retain`] says that some were freed.
#[derive(Debug)]
pub(super) struct Places<K, V> {
    by_key: HashMap<K, u32>,
    values: Vec<Option<(K, V)>>,
    free: Vec<u32>,
    lost: u64,
}

impl<K, V> Default for Places<K, V> {
    fn default() -> Self {
        Self {
            by_key: HashMap::new(),
            values: Vec::new(),
            free: Vec::new(),
            lost: 0,
        }
    }
}

// === impl Places ===

impl<K: Clone + Eq + Hash, V> Places<K, V> {
    /// The place of a key, which is made where it is new; `None` when there are too many.
    pub(super) fn place(&mut self, key: &K, limit: usize, make: impl FnOnce() -> V) -> Option<u32> {
        if let Some(place) = self.by_key.get(key) {
            return Some(*place);
        }
        if self.by_key.len() >= limit {
            self.lost += 1;
            return None;
        }
        let entry = Some((key.clone(), make()));
        let place = match self.free.pop() {
            Some(place) => place,
            None => {
                self.values.push(None);
                u32::try_from(self.values.len() - 1).ok()?
            }
        };
        if let Some(value) = self.values.get_mut(place as usize) {
            *value = entry;
        }
        self.by_key.insert(key.clone(), place);
        Some(place)
    }

    /// The place of a key.
    pub(super) fn find(&self, key: &K) -> Option<u32> {
        self.by_key.get(key).copied()
    }

    /// What is at a place.
    pub(super) fn get(&self, place: u32) -> Option<&V> {
        let (_, value) = self.values.get(place as usize)?.as_ref()?;
        Some(value)
    }

    /// What is at a place, with its key.
    pub(super) fn entry(&self, place: u32) -> Option<(&K, &V)> {
        let (key, value) = self.values.get(place as usize)?.as_ref()?;
        Some((key, value))
    }

    /// What is at a place.
    pub(super) fn get_mut(&mut self, place: u32) -> Option<&mut V> {
        let (_, value) = self.values.get_mut(place as usize)?.as_mut()?;
        Some(value)
    }

    /// All.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.values
            .iter()
            .flatten()
            .map(|(key, value)| (key, value))
    }

    /// All.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut V)> {
        self.values
            .iter_mut()
            .flatten()
            .map(|(key, value)| (&*key, value))
    }

    /// Forgets all that do not pass. Whether there were any: then places may be given to others.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&K, &mut V) -> bool) -> bool {
        let before = self.by_key.len();
        for (place, slot) in self.values.iter_mut().enumerate() {
            let gone = slot.as_mut().is_some_and(|(key, value)| !keep(key, value));
            if gone && let Some((key, _)) = slot.take() {
                self.by_key.remove(&key);
                self.free.extend(u32::try_from(place));
            }
        }
        self.by_key.len() != before
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// How many did not fit.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }
}
