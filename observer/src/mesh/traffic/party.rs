//! Who, in the words of reports, each once.

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
};

use hashbrown::{Equivalent, HashMap};

use crate::mesh::{party::End, report::Party};

/// Somebody: two are the same if they are the same place in memory.
#[derive(Clone, Debug)]
pub(super) struct Who(Arc<Party>);

/// All that are spoken of.
#[derive(Debug, Default)]
pub(super) struct Parties {
    known: HashMap<Known, ()>,
    /// Those beyond the limit.
    lost: u64,
}

/// A party by what it is.
#[derive(Debug)]
struct Known(Arc<Party>);

// === impl Who ===

impl Who {
    /// In the words of reports.
    pub(super) fn party(&self) -> &Arc<Party> {
        &self.0
    }

    /// In the words of sentences.
    pub(super) fn words(&self) -> String {
        self.0.describe()
    }
}

impl PartialEq for Who {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Who {}

impl Hash for Who {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

// === impl Known ===

impl PartialEq for Known {
    fn eq(&self, other: &Self) -> bool {
        self.0.end() == other.0.end()
    }
}

impl Eq for Known {}

impl Hash for Known {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.end().hash(state);
    }
}

/// What looks a party up without copies.
#[derive(PartialEq, Eq, Hash)]
struct Wanted<'a>(End<'a>);

impl Equivalent<Known> for Wanted<'_> {
    fn equivalent(&self, known: &Known) -> bool {
        self.0 == known.0.end()
    }
}

// === impl Parties ===

impl Parties {
    /// Somebody; `None` when there are too many.
    pub(super) fn who(&mut self, end: End<'_>, limit: usize) -> Option<Who> {
        if let Some((known, ())) = self.known.get_key_value(&Wanted(end)) {
            return Some(Who(known.0.clone()));
        }
        if self.known.len() >= limit {
            self.lost += 1;
            return None;
        }
        let party = Arc::new(end.party());
        self.known.insert(Known(party.clone()), ());
        Some(Who(party))
    }

    /// Forgets whom nobody speaks of any more.
    pub(super) fn sweep(&mut self) {
        self.known
            .retain(|known, ()| Arc::strong_count(&known.0) > 1);
    }

    /// How many are known.
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// How many did not fit.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }
}
