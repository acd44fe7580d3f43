//! Records by small numbers that stay theirs while they live.

/// Records by number.
#[derive(Debug)]
pub(super) struct Slab<T> {
    records: Vec<Option<T>>,
    free: Vec<u32>,
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
