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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{cluster::object::Source, model::policy::PolicyObject};

    fn found(kind: PolicyKind, uid: &str) -> Told {
        Told::Found(Found::Policy(Arc::new(PolicyObject {
            kind,
            uid: uid.into(),
            namespace: "n".into(),
            name: uid.into(),
            version: "1".into(),
            created: 0,
            labels: Box::default(),
            annotations: Box::default(),
            content: "{}".into(),
        })))
    }

    fn count(declared: &Declared) -> (usize, u64) {
        let status = Status::new(Source::Cluster);
        declared.tell(&status);
        let tables = status.tables();
        let lost = status.losses().into_iter();
        let lost = lost.filter(|loss| loss.reason == "policies_full");
        assert_eq!(tables.len(), 1);
        assert_eq!(tables[0].entries, declared.objects as u64);
        (declared.objects, lost.map(|loss| loss.count).sum())
    }

    #[test]
    fn objects_are_counted_however_they_go() {
        let (kind, other) = (PolicyKind::Gateway, PolicyKind::Sidecar);
        let mut declared = Declared::default();
        for told in [
            Told::Begin,
            found(kind, "a"),
            found(kind, "b"),
            Told::Complete,
        ] {
            assert!(declared.take(kind, told).is_some());
        }
        declared.take(other, found(other, "c"));
        assert_eq!(count(&declared), (3, 0));
        // Told again, it is the same; what nobody told of does not go.
        assert!(declared.take(kind, found(kind, "a")).is_some());
        assert_eq!(declared.take(kind, Told::Removed("x".into())), None);
        let unwanted = Told::Found(Found::Unwanted("b".into()));
        assert_eq!(
            declared.take(kind, unwanted),
            Some(Change::Declared(PolicyChange::Remove(kind, "b".into())))
        );
        assert_eq!(count(&declared), (2, 0));
        for told in [Told::Begin, found(kind, "d"), Told::Complete] {
            declared.take(kind, told);
        }
        assert_eq!(count(&declared), (2, 0));
        declared.take(kind, Told::Absent);
        assert_eq!(count(&declared), (1, 0));
    }

    #[test]
    fn what_does_not_fit_is_counted_and_not_told() {
        let kind = PolicyKind::NetworkPolicy;
        let mut declared = Declared::default();
        for number in 0..MAX_OBJECTS {
            assert!(
                declared
                    .take(kind, found(kind, &number.to_string()))
                    .is_some()
            );
        }
        assert_eq!(declared.take(kind, found(kind, "more")), None);
        assert!(declared.take(kind, found(kind, "0")).is_some());
        assert_eq!(count(&declared), (MAX_OBJECTS, 1));
    }

    #[test]
    fn what_is_not_watched_is_told_to_be_absent() {
        let all = PolicyKind::ALL;
        assert_eq!(Declared::unwatched(&all).count(), 0);
        assert_eq!(Declared::unwatched(&all[..3]).count(), all.len() - 3);
        assert_eq!(Declared::unwatched(&[]).count(), all.len());
    }
}
