//! A hash table with any number of values for a key, without memory of its own for each key.

use std::{
    hash::{BuildHasher, Hash},
    marker::PhantomData,
};

use hashbrown::HashTable;

/// Any number of values for a key.
#[derive(Debug)]
pub(super) struct Multimap<K, V> {
    table: HashTable<(K, V)>,
    state: foldhash::fast::RandomState,
}

/// Values by keys that are not kept: what has the key is among what is found, and has to be told
/// from others by whoever asks.
#[derive(Debug)]
pub(super) struct Hints<K: ?Sized, V> {
    table: HashTable<(u32, V)>,
    state: foldhash::fast::RandomState,
    keys: PhantomData<fn(&K)>,
}

/// The hash of what is kept of a key: tables want all of its bits to vary.
fn spread(hint: u32) -> u64 {
    u64::from(hint).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

// === impl Multimap ===

impl<K, V> Default for Multimap<K, V> {
    fn default() -> Self {
        Self {
            table: HashTable::new(),
            state: foldhash::fast::RandomState::default(),
        }
    }
}

impl<K: Hash + Eq, V> Multimap<K, V> {
    /// Number of values.
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// The values of a key, in any order.
    pub(super) fn get(&self, key: &K) -> impl Iterator<Item = &V> {
        self.table
            .iter_hash(self.state.hash_one(key))
            .filter(move |(other, _)| other == key)
            .map(|(_, value)| value)
    }

    /// The value of a key that `is` the one.
    pub(super) fn find_mut(&mut self, key: &K, is: impl Fn(&V) -> bool) -> Option<&mut V> {
        self.table
            .find_mut(self.state.hash_one(key), |(other, value)| {
                other == key && is(value)
            })
            .map(|(_, value)| value)
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        let state = &self.state;
        self.table
            .insert_unique(state.hash_one(&key), (key, value), |(key, _)| {
                state.hash_one(key)
            });
    }

    /// Removes the value of a key that `is` the one.
    pub(super) fn remove(&mut self, key: &K, is: impl Fn(&V) -> bool) -> Option<V> {
        let entry = self
            .table
            .find_entry(self.state.hash_one(key), |(other, value)| {
                other == key && is(value)
            })
            .ok()?;
        let ((_, value), _) = entry.remove();
        Some(value)
    }
}

// === impl Hints ===

impl<K: ?Sized, V> Default for Hints<K, V> {
    fn default() -> Self {
        Self {
            table: HashTable::new(),
            state: foldhash::fast::RandomState::default(),
            keys: PhantomData,
        }
    }
}

impl<K: Hash + ?Sized, V> Hints<K, V> {
    /// Number of values.
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// The values of a key, and perhaps of others.
    pub(super) fn get<'a>(&'a self, key: &K) -> impl Iterator<Item = &'a V> + use<'a, K, V> {
        let hint = self.hint(key);
        self.table
            .iter_hash(spread(hint))
            .filter(move |(other, _)| *other == hint)
            .map(|(_, value)| value)
    }

    pub(super) fn insert(&mut self, key: &K, value: V) {
        let hint = self.hint(key);
        self.table
            .insert_unique(spread(hint), (hint, value), |(hint, _)| spread(*hint));
    }

    /// Removes the value of a key that `is` the one.
    pub(super) fn remove(&mut self, key: &K, is: impl Fn(&V) -> bool) -> Option<V> {
        let hint = self.hint(key);
        let entry = self
            .table
            .find_entry(spread(hint), |(other, value)| *other == hint && is(value))
            .ok()?;
        let ((_, value), _) = entry.remove();
        Some(value)
    }

    #[expect(clippy::cast_possible_truncation, reason = "half of a hash is one")]
    fn hint(&self, key: &K) -> u32 {
        self.state.hash_one(key) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_key_is_among_what_is_found() {
        let mut hints: Hints<str, usize> = Hints::default();
        // Of so many keys some are alike in half of a hash, nearly always.
        let keys: Vec<String> = (0..100_000).map(|number| format!("key {number}")).collect();
        for (number, key) in keys.iter().enumerate() {
            hints.insert(key, number);
        }
        for (number, key) in keys.iter().enumerate() {
            assert!(hints.get(key).any(|found| *found == number), "{key}");
            if number % 2 == 0 {
                assert_eq!(hints.remove(key, |found| *found == number), Some(number));
            }
        }
        assert_eq!(hints.len(), keys.len() / 2);
        for (number, key) in keys.iter().enumerate() {
            let found = hints.get(key).any(|found| *found == number);
            assert_eq!(found, number % 2 == 1, "{key}");
        }
    }
}
