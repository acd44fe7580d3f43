//! A hash table with any number of values for a key, without memory of its own for each key.

use std::hash::{BuildHasher, Hash};

use hashbrown::HashTable;

/// Any number of values for a key.
#[derive(Debug)]
pub(super) struct Multimap<K, V> {
    table: HashTable<(K, V)>,
    state: foldhash::fast::RandomState,
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
