//! What of the objects that a mesh is told by is passed on: so many of them, and each kind whole.

use hashbrown::{HashMap, HashSet};

use super::reflect::Told;
use crate::{
    cluster::{
        object::Change,
        read::{Found, Resource},
        status::Status,
    },
    model::policy::{PolicyChange, PolicyKind},
    telemetry::health::{Loss, Table},
};

/// Which of these objects are known.
#[derive(Debug, Default)]
pub(super) struct Declared {
    /// By kind: uid of each object, and in which list it was told last.
    kinds: HashMap<PolicyKind, Known>,
    objects: usize,
    overflow: u64,
}

#[derive(Debug, Default)]
struct Known {
    list: u32,
    by_uid: HashMap<Box<str>, u32>,
}

/// Most objects of all kinds together.
const MAX_OBJECTS: usize = 50_000;

// === impl Declared ===

impl Declared {
    /// What changes by what is told of a kind; `None` if nothing does.
    pub(super) fn take(&mut self, kind: PolicyKind, told: Told) -> Option<Change> {
        let known = self.kinds.entry(kind).or_default();
        let change = match told {
            Told::Begin => {
                known.list = known.list.wrapping_add(1);
                PolicyChange::Begin(kind)
            }
            Told::Found(Found::Policy(object)) => {
                if let Some(list) = known.by_uid.get_mut(&object.uid) {
                    *list = known.list;
                } else if self.objects >= MAX_OBJECTS {
                    self.overflow += 1;
                    return None;
                } else {
                    known.by_uid.insert(object.uid.clone(), known.list);
                    self.objects += 1;
                }
                PolicyChange::Set(object)
            }
            Told::Found(Found::Unwanted(uid)) | Told::Removed(uid) => {
                known.by_uid.remove(&uid)?;
                self.objects -= 1;
                PolicyChange::Remove(kind, uid)
            }
            // Of another kind: a list of this one has none.
            Told::Found(_) => return None,
            Told::Complete => {
                let before = known.by_uid.len();
                let list = known.list;
                known.by_uid.retain(|_, told| *told == list);
                self.objects -= before - known.by_uid.len();
                PolicyChange::Complete(kind)
            }
            Told::Absent => {
                self.objects -= known.by_uid.len();
                known.by_uid = HashMap::new();
                PolicyChange::Absent(kind)
            }
        };
        Some(Change::Declared(change))
    }

    /// Tells how many there are.
    pub(super) fn tell(&self, status: &Status) {
        for (kind, known) in &self.kinds {
            status.has(Resource::Policy(*kind), known.by_uid.len());
        }
        let loss = Loss {
            stage: "cluster",
            reason: "policies_full",
            count: self.overflow,
        };
        let table = Table {
            name: "cluster_policies",
            entries: self.objects as u64,
            limit: MAX_OBJECTS as u64,
        };
        status.declared(loss, table);
    }

    /// The kinds that are not among `watched`: nothing is known of them, nor will be.
    pub(super) fn unwatched(watched: &[PolicyKind]) -> impl Iterator<Item = Change> {
        let watched: HashSet<PolicyKind> = watched.iter().copied().collect();
        PolicyKind::ALL
            .into_iter()
            .filter(move |kind| !watched.contains(kind))
            .map(|kind| Change::Declared(PolicyChange::Absent(kind)))
    }
}
