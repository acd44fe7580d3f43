//! Objects where they are found quickly: by namespace, and by host.

use std::sync::Arc;

use hashbrown::HashMap;
use serde::Deserialize;

use crate::{
    mesh::shelf::{Shelf, Three, Triple},
    model::policy::{ObjectRef, PolicyObject, Traits, find},
};

/// What names an object, and how old it is.
#[derive(Clone, Debug, Default)]
pub(super) struct Meta {
    pub(super) reference: ObjectRef,
    uid: Box<str>,
    created: u64,
}

/// An object that was read.
pub(super) trait Declared {
    /// What names it.
    fn meta(&self) -> &Meta;
}

/// An object that may choose pods.
pub(super) trait Choosing: Declared {
    /// Labels of its pods; empty when it chooses none.
    fn selector(&self) -> &Labels;
}

/// Objects by namespace, the oldest first.
#[derive(Debug)]
pub(super) struct ByNamespace<T>(HashMap<Box<str>, Vec<Arc<T>>>);

/// Objects that choose pods by labels, or all of their namespace, where those of a pod are found
/// without asking every one.
#[derive(Debug)]
pub(super) struct BySelector<T> {
    /// Those that choose no pods, by namespace.
    general: ByNamespace<T>,
    /// Those that do.
    choosing: ByNamespace<T>,
    /// The same by namespace, and the first label that they demand with its value.
    by_label: Shelf<Three, T>,
}

/// Objects by host, the oldest of each first. Hosts may begin with `*`.
#[derive(Debug)]
pub(super) struct ByHost<T> {
    exact: HashMap<Box<str>, Vec<Arc<T>>>,
    /// By what follows the `*`.
    wildcards: HashMap<Box<str>, Vec<Arc<T>>>,
}

/// Labels that something must have, all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "std::collections::BTreeMap<Box<str>, Box<str>>")]
pub(super) struct Labels(pub(super) Box<[(Box<str>, Box<str>)]>);

/// `selector` of an object.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct SelectorSpec {
    /// Labels that pods must have. (`labels` of those that choose workloads.)
    #[serde(alias = "labels")]
    pub(super) match_labels: Labels,
}

/// `exportTo` of an object: who may know of it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(transparent)]
pub(super) struct Export(Box<[Box<str>]>);

// === impl Meta ===

impl Meta {
    pub(super) fn of(object: &PolicyObject) -> Self {
        Self {
            reference: object.reference(),
            uid: object.uid.clone(),
            // The unknown is taken for young, so that it does not win.
            created: match object.created {
                0 => u64::MAX,
                created => created,
            },
        }
    }

    pub(super) fn namespace(&self) -> &str {
        &self.reference.namespace
    }

    pub(super) fn name(&self) -> &str {
        &self.reference.name
    }

    /// Orders by age. Of equal age, by name and namespace: never by when they were told.
    pub(super) fn age(&self) -> (u64, &str, &str, &str) {
        (self.created, self.name(), self.namespace(), &self.uid)
    }
}

/// Puts an object in its place by age.
fn insert_by_age<T: Declared>(list: &mut Vec<Arc<T>>, item: Arc<T>) {
    let at = list.partition_point(|known| known.meta().age() < item.meta().age());
    list.insert(at, item);
}

/// Takes an object out of the list of a key, and the list when it is empty.
fn take<T: Declared>(lists: &mut HashMap<Box<str>, Vec<Arc<T>>>, key: &str, uid: &str) {
    if let Some(list) = lists.get_mut(key) {
        list.retain(|known| *known.meta().uid != *uid);
        if list.is_empty() {
            lists.remove(key);
        }
    }
}

// === impl ByNamespace ===

impl<T> Default for ByNamespace<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T: Declared> ByNamespace<T> {
    pub(super) fn insert(&mut self, item: Arc<T>) {
        let list = self.0.entry(item.meta().namespace().into()).or_default();
        insert_by_age(list, item);
    }

    /// The object that it was, if it was there.
    pub(super) fn remove(&mut self, object: &PolicyObject) -> Option<Arc<T>> {
        let list = self.0.get(&object.namespace)?;
        let known = list.iter().find(|known| known.meta().uid == object.uid);
        let known = known.cloned();
        take(&mut self.0, &object.namespace, &object.uid);
        known
    }

    /// Those of a namespace, the oldest first.
    pub(super) fn of(&self, namespace: &str) -> &[Arc<T>] {
        self.0.get(namespace).map_or(&[], Vec::as_slice)
    }

    /// One by its name.
    pub(super) fn named(&self, namespace: &str, name: &str) -> Option<&Arc<T>> {
        let mut list = self.of(namespace).iter();
        list.find(|known| known.meta().name() == name)
    }

    /// All, in no order.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<T>> {
        self.0.values().flatten()
    }
}

// === impl BySelector ===

impl<T> Default for BySelector<T> {
    fn default() -> Self {
        Self {
            general: ByNamespace::default(),
            choosing: ByNamespace::default(),
            by_label: Shelf::default(),
        }
    }
}

impl<T: Choosing> BySelector<T> {
    pub(super) fn insert(&mut self, item: Arc<T>) {
        let Some((label, value)) = item.selector().0.first() else {
            self.general.insert(item);
            return;
        };
        let key = (item.meta().namespace().into(), label.clone(), value.clone());
        self.by_label.insert(key, &item.meta().uid, item.clone());
        self.choosing.insert(item);
    }

    pub(super) fn remove(&mut self, object: &PolicyObject) {
        self.general.remove(object);
        let Some(item) = self.choosing.remove(object) else {
            return;
        };
        if let Some((label, value)) = item.selector().0.first() {
            let key = Triple(&object.namespace, label, value);
            self.by_label.remove(&key, &object.uid);
        }
    }

    /// Those of a namespace that choose no pods, the oldest first.
    pub(super) fn general(&self, namespace: &str) -> &[Arc<T>] {
        self.general.of(namespace)
    }

    /// Those of a namespace that choose a pod with these traits, the oldest first.
    pub(super) fn choosing(&self, namespace: &str, traits: &Traits) -> Vec<&Arc<T>> {
        let labels = traits.labels.iter();
        let mut found: Vec<&Arc<T>> = labels
            .flat_map(|(label, value)| self.by_label.get(&Triple(namespace, label, value)))
            .filter(|item| item.selector().select(traits))
            .collect();
        found.sort_by(|left, right| left.meta().age().cmp(&right.meta().age()));
        found
    }

    /// All, in no order.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<T>> {
        self.general.all().chain(self.choosing.all())
    }
}

// === impl ByHost ===

impl<T> Default for ByHost<T> {
    fn default() -> Self {
        Self {
            exact: HashMap::new(),
            wildcards: HashMap::new(),
        }
    }
}

impl<T: Declared> ByHost<T> {
    fn place<'a>(&mut self, host: &'a str) -> (&mut HashMap<Box<str>, Vec<Arc<T>>>, &'a str) {
        match host.strip_prefix('*') {
            Some(rest) => (&mut self.wildcards, rest),
            None => (&mut self.exact, host),
        }
    }

    pub(super) fn insert(&mut self, host: &str, item: &Arc<T>) {
        let (lists, key) = self.place(host);
        let list = lists.entry(key.into()).or_default();
        // An object may name a host twice.
        if !list.iter().any(|known| known.meta().uid == item.meta().uid) {
            insert_by_age(list, item.clone());
        }
    }

    pub(super) fn remove(&mut self, host: &str, object: &PolicyObject) {
        let (lists, key) = self.place(host);
        take(lists, key, &object.uid);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.wildcards.is_empty()
    }

    /// Those whose host is this one or stands for it: lists, that of the most specific host first,
    /// and in each the oldest first.
    pub(super) fn matching<'a, 'b>(
        &'a self,
        host: &'b str,
    ) -> impl Iterator<Item = &'a [Arc<T>]> + use<'a, 'b, T> {
        let wildcards = (!self.wildcards.is_empty()).then(|| {
            (0..=host.len())
                .filter_map(|at| host.get(at..))
                .filter_map(|rest| self.wildcards.get(rest))
        });
        self.exact
            .get(host)
            .into_iter()
            .chain(wildcards.into_iter().flatten())
            .map(Vec::as_slice)
    }
}

// === impl Labels ===

impl From<std::collections::BTreeMap<Box<str>, Box<str>>> for Labels {
    fn from(labels: std::collections::BTreeMap<Box<str>, Box<str>>) -> Self {
        Self(labels.into_iter().collect())
    }
}

impl Labels {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether labels, sorted by name, have all of these.
    pub(super) fn within(&self, labels: &[(Box<str>, Box<str>)]) -> bool {
        self.0
            .iter()
            .all(|(name, value)| find(labels, name) == Some(value))
    }

    /// Whether a pod has all of these.
    pub(super) fn select(&self, traits: &Traits) -> bool {
        self.within(&traits.labels)
    }
}

// === impl Export ===

impl Export {
    /// Whether `client` may know of an object of `own`, both namespaces. `default` is what the mesh
    /// says for objects that say nothing.
    pub(super) fn reaches(&self, own: &str, client: &str, default: &[Box<str>]) -> bool {
        let list = if self.0.is_empty() { default } else { &self.0 };
        list.is_empty()
            || list.iter().any(|to| match &**to {
                "*" => true,
                "." => own == client,
                "~" => false,
                namespace => namespace == client,
            })
    }

    /// Whether only its own namespace may know of it.
    pub(super) fn is_private(&self, default: &[Box<str>]) -> bool {
        let list = if self.0.is_empty() { default } else { &self.0 };
        !list.is_empty() && list.iter().all(|to| **to == *".")
    }

    /// Whether every namespace may know of it.
    pub(super) fn is_public(&self, default: &[Box<str>]) -> bool {
        let list = if self.0.is_empty() { default } else { &self.0 };
        list.is_empty() || list.iter().any(|to| **to == *"*")
    }
}

#[cfg(test)]
mod tests;
