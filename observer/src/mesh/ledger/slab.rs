//! Values that are found again by a small number, which is given to another when they are gone.

/// Values by number.
#[derive(Debug)]
pub(super) struct Slab<T> {
    items: Vec<Option<T>>,
    free: Vec<u32>,
}

// === impl Slab ===

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Slab<T> {
    /// Keeps a value; `None` when there is no number left.
    pub(super) fn insert(&mut self, value: T) -> Option<u32> {
        if let Some(at) = self.free.pop()
            && let Some(slot) = self.items.get_mut(at as usize)
        {
            *slot = Some(value);
            return Some(at);
        }
        let at = u32::try_from(self.items.len()).ok()?;
        if at == u32::MAX {
            return None;
        }
        self.items.push(Some(value));
        Some(at)
    }

    pub(super) fn get(&self, at: u32) -> Option<&T> {
        self.items.get(at as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, at: u32) -> Option<&mut T> {
        self.items.get_mut(at as usize)?.as_mut()
    }

    pub(super) fn remove(&mut self, at: u32) -> Option<T> {
        let value = self.items.get_mut(at as usize)?.take()?;
        self.free.push(at);
        Some(value)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let numbered = self.items.iter().enumerate();
        numbered.filter_map(|(at, value)| Some((u32::try_from(at).ok()?, value.as_ref()?)))
    }

    pub(super) fn len(&self) -> usize {
        self.items.len() - self.free.len()
    }

    /// One more than the highest number that was given.
    pub(super) fn end(&self) -> u32 {
        u32::try_from(self.items.len()).unwrap_or(u32::MAX)
    }
}
