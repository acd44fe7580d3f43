//! Containers of a pod, and what else most pods have in common with others, in little memory.

use std::sync::Arc;

use crate::{
    cluster::object::ContainerObject,
    model::{
        kubernetes::{Owner, Pod, ServiceName},
        policy::Traits,
    },
};

use super::{intern::Interner, uid::ContainerId};

/// A container of a pod, as one source tells of it.
#[derive(Debug)]
pub(super) struct ContainerRecord {
    alike: Arc<Alike>,
    ids: Ids,
}

/// What containers of many pods have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Alike {
    name: Arc<str>,
    /// What it says itself that it is; `None` if nothing.
    own: Option<Arc<ServiceName>>,
    /// The same, and the rest from its pod.
    merged: Option<Arc<ServiceName>>,
}

/// Ids of a container: nearly all have one.
#[derive(Debug, PartialEq, Eq)]
enum Ids {
    One(ContainerId),
    Several(Box<[ContainerId]>),
}

/// What pods have in common.
#[derive(Debug, Default)]
pub(super) struct Shared {
    names: Interner<str>,
    services: Interner<ServiceName>,
    containers: Interner<Alike>,
    namespaces: Interner<str>,
    owners: Interner<[Owner]>,
    traits: Interner<Traits>,
}

/// More containers of one pod are not kept.
const MAX_CONTAINERS: usize = 256;
/// More ids of one container are not kept.
const MAX_IDS: usize = 4;

/// The ids of containers, with the place of the container that has each.
pub(super) fn ids(containers: &[ContainerRecord]) -> impl Iterator<Item = (ContainerId, u16)> {
    (0..)
        .zip(containers)
        .flat_map(|(index, container)| container.ids().iter().map(move |id| (*id, index)))
}

/// The first unless it is empty.
fn either<'a>(own: &'a str, other: &'a str) -> Box<str> {
    if own.is_empty() { other } else { own }.into()
}

// === impl ContainerRecord ===

/// What follows from its pod is no difference.
impl PartialEq for ContainerRecord {
    fn eq(&self, other: &Self) -> bool {
        self.ids == other.ids
            && self.alike.name == other.alike.name
            && self.alike.own == other.alike.own
    }
}

impl ContainerRecord {
    pub(super) fn name(&self) -> &Arc<str> {
        &self.alike.name
    }

    pub(super) fn ids(&self) -> &[ContainerId] {
        match &self.ids {
            Ids::One(id) => std::slice::from_ref(id),
            Ids::Several(ids) => ids,
        }
    }

    /// What it is as a service.
    pub(super) fn service<'a>(&'a self, pod: &'a Pod) -> &'a ServiceName {
        self.alike.merged.as_deref().unwrap_or(&pod.service)
    }
}

// === impl Shared ===

impl Shared {
    /// What is kept of containers; ids that are none are left out and counted.
    pub(super) fn containers(
        &mut self,
        objects: &[ContainerObject],
        malformed: &mut u64,
    ) -> Box<[ContainerRecord]> {
        let nothing = ServiceName::default();
        objects
            .iter()
            .take(MAX_CONTAINERS)
            .map(|object| {
                let mut ids = Vec::with_capacity(object.ids.len().min(MAX_IDS));
                for id in object.ids.iter().take(MAX_IDS) {
                    match ContainerId::new(id) {
                        Some(id) if !ids.contains(&id) => ids.push(id),
                        Some(_) => {}
                        None => *malformed += 1,
                    }
                }
                let alike = Alike {
                    name: self.names.get(&object.name),
                    own: (object.service != nothing).then(|| self.service(object.service.clone())),
                    merged: None,
                };
                ContainerRecord {
                    alike: self.containers.share(alike),
                    ids: match *ids {
                        [id] => Ids::One(id),
                        _ => Ids::Several(ids.into()),
                    },
                }
            })
            .collect()
    }

    /// Takes over from the pod what containers do not say themselves.
    pub(super) fn merge(&mut self, containers: &mut [ContainerRecord], pod: &ServiceName) {
        for container in containers {
            let Some(own) = &container.alike.own else {
                continue;
            };
            let merged = self.services.share(ServiceName {
                name: either(&own.name, &pod.name),
                namespace: either(&own.namespace, &pod.namespace),
                version: either(&own.version, &pod.version),
            });
            container.alike = self.containers.share(Alike {
                merged: Some(merged),
                ..(*container.alike).clone()
            });
        }
    }

    pub(super) fn service(&mut self, service: ServiceName) -> Arc<ServiceName> {
        self.services.share(service)
    }

    pub(super) fn namespace(&mut self, namespace: &str) -> Arc<str> {
        self.namespaces.get(namespace)
    }

    pub(super) fn owners(&mut self, owners: &[Owner]) -> Arc<[Owner]> {
        self.owners.get(owners)
    }

    pub(super) fn traits(&mut self, traits: &Arc<Traits>) -> Arc<Traits> {
        self.traits.same(traits)
    }
}
