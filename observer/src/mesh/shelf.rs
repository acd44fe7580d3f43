//! Things by a key that several may have at a time.

use std::{hash::Hash, sync::Arc};

use hashbrown::{Equivalent, HashMap};

/// Things by key. A thing is told apart from others of its key by its uid: an object that is made
/// anew under its old name may come before the old one goes.
#[derive(Debug)]
pub(super) struct Shelf<K, T> {
    by_key: HashMap<K, Vec<Held<T>>>,
}

/// A namespace and a name.
pub(super) type Two = (Box<str>, Box<str>);

/// Three texts, the first a namespace.
pub(super) type Three = (Box<str>, Box<str>, Box<str>);

/// A pair of texts, to ask with for an owned one.
#[derive(Clone, Copy, Debug, Hash)]
pub(super) struct Pair<'a>(pub &'a str, pub &'a str);

/// Three texts, to ask with for owned ones.
#[derive(Clone, Copy, Debug, Hash)]
pub(super) struct Triple<'a>(pub &'a str, pub &'a str, pub &'a str);

/// A thing, and the uid of its object.
type Held<T> = (Box<str>, Arc<T>);

// === impl Shelf ===

impl<K: Eq + Hash, T> Shelf<K, T> {
    /// Puts a thing there.
    pub(super) fn insert(&mut self, key: K, uid: &str, thing: Arc<T>) {
        self.by_key
            .entry(key)
            .or_default()
            .push((uid.into(), thing));
    }

    /// Takes it away, if it is there.
    pub(super) fn remove<Q>(&mut self, key: &Q, uid: &str)
    where
        Q: ?Sized + Hash + Equivalent<K>,
    {
        let Some(things) = self.by_key.get_mut(key) else {
            return;
        };
        things.retain(|(known, _)| **known != *uid);
        if things.is_empty() {
            self.by_key.remove(key);
        }
    }

    /// All of a key, in no order.
    pub(super) fn get<Q>(&self, key: &Q) -> impl Iterator<Item = &Arc<T>> + use<'_, Q, K, T>
    where
        Q: ?Sized + Hash + Equivalent<K>,
    {
        let things = self.by_key.get(key).map_or(&[][..], Vec::as_slice);
        things.iter().map(|(_, thing)| thing)
    }
}

impl<K, T> Default for Shelf<K, T> {
    fn default() -> Self {
        Self {
            by_key: HashMap::new(),
        }
    }
}

// === impl Pair ===

impl Equivalent<Two> for Pair<'_> {
    fn equivalent(&self, key: &Two) -> bool {
        (self.0, self.1) == (&*key.0, &*key.1)
    }
}

// === impl Triple ===

impl Equivalent<Three> for Triple<'_> {
    fn equivalent(&self, key: &Three) -> bool {
        (self.0, self.1, self.2) == (&*key.0, &*key.1, &*key.2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_of_one_key_are_told_apart() {
        let mut shelf: Shelf<(Box<str>, Box<str>), u8> = Shelf::default();
        shelf.insert(("shop".into(), "web".into()), "old", Arc::new(1));
        shelf.insert(("shop".into(), "web".into()), "new", Arc::new(2));
        shelf.remove(&Pair("shop", "web"), "old");
        shelf.remove(&Pair("shop", "cart"), "new");
        let left = |shelf: &Shelf<_, u8>| {
            let things = shelf.get(&Pair("shop", "web"));
            things.map(|thing| **thing).collect::<Vec<u8>>()
        };
        assert_eq!(left(&shelf), [2]);
        shelf.remove(&Pair("shop", "web"), "new");
        assert!(left(&shelf).is_empty());
        assert!(shelf.by_key.is_empty());
    }
}
