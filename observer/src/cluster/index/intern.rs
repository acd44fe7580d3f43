//! Values of which many are alike, kept once.

use std::{hash::Hash, sync::Arc};

use hashbrown::HashSet;

/// Values that are kept once. It has what somebody uses, and at most as much again that nobody
/// does any more.
#[derive(Debug)]
pub(super) struct Interner<T: ?Sized> {
    values: HashSet<Arc<T>, foldhash::fast::RandomState>,
    /// With more than this it is time to let go of what nobody uses.
    crowded: usize,
}

/// Below this nothing is gained by letting go.
const FEW: usize = 256;

// === impl Interner ===

impl<T: ?Sized> Default for Interner<T> {
    fn default() -> Self {
        Self {
            values: HashSet::default(),
            crowded: FEW,
        }
    }
}

impl<T: Hash + Eq + ?Sized> Interner<T> {
    /// The one value that is like this.
    pub(super) fn get(&mut self, value: &T) -> Arc<T>
    where
        for<'a> Arc<T>: From<&'a T>,
    {
        match self.known(value) {
            Some(known) => known,
            None => self.insert(Arc::from(value)),
        }
    }

    /// The one value that is like this.
    pub(super) fn share(&mut self, value: T) -> Arc<T>
    where
        T: Sized,
    {
        match self.known(&value) {
            Some(known) => known,
            None => self.insert(Arc::new(value)),
        }
    }

    /// The one value that is like this, which is this one if it is the first.
    pub(super) fn same(&mut self, value: &Arc<T>) -> Arc<T> {
        match self.known(value) {
            Some(known) => known,
            None => self.insert(value.clone()),
        }
    }

    fn known(&self, value: &T) -> Option<Arc<T>> {
        self.values.get(value).cloned()
    }

    fn insert(&mut self, value: Arc<T>) -> Arc<T> {
        if self.values.len() >= self.crowded {
            self.values.retain(|value| Arc::strong_count(value) > 1);
            self.values.shrink_to_fit();
            self.crowded = FEW.max(self.values.len() * 2);
        }
        self.values.insert(value.clone());
        value
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.values.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_uses_goes() {
        let mut interner: Interner<str> = Interner::default();
        let kept = interner.get("kept");
        assert!(Arc::ptr_eq(&kept, &interner.get("kept")));
        for number in 0..10_000 {
            interner.get(&number.to_string());
        }
        assert!(interner.len() <= FEW);
        assert!(Arc::ptr_eq(&kept, &interner.get("kept")));
    }
}
