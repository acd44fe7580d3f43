//! Containers of a pod, in little memory: most are like those of other pods.

use std::sync::Arc;

use crate::{
    cluster::object::ContainerObject,
    model::kubernetes::{Pod, ServiceName},
};

use super::{intern::Interner, uid::ContainerId};

/// A container of a pod, as one source tells of it.
#[derive(Debug)]
pub(super) struct ContainerRecord {
    pub(super) name: Arc<str>,
    ids: Box<[ContainerId]>,
    /// What it says itself that it is; `None` if nothing.
    own: Option<Arc<ServiceName>>,
    /// The same, and the rest from its pod.
    merged: Option<Arc<ServiceName>>,
}

/// What containers have in common.
#[derive(Debug, Default)]
pub(super) struct Shared {
    names: Interner<str>,
    services: Interner<ServiceName>,
}

/// More containers of one pod are not kept.
const MAX_CONTAINERS: usize = 256;
/// More ids of one container are not kept.
const MAX_IDS: usize = 4;

/// The ids of containers, with the place of the container that has each.
pub(super) fn ids(containers: &[ContainerRecord]) -> impl Iterator<Item = (ContainerId, u16)> {
    (0..)
        .zip(containers)
        .flat_map(|(index, container)| container.ids.iter().map(move |id| (*id, index)))
}

/// The first unless it is empty.
fn either<'a>(own: &'a str, other: &'a str) -> Box<str> {
    if own.is_empty() { other } else { own }.into()
}

// === impl ContainerRecord ===

/// What follows from its pod is no difference.
impl PartialEq for ContainerRecord {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.ids == other.ids && self.own == other.own
    }
}

impl ContainerRecord {
    /// What it is as a service.
    pub(super) fn service<'a>(&'a self, pod: &'a Pod) -> &'a ServiceName {
        self.merged.as_deref().unwrap_or(&pod.service)
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
                ContainerRecord {
                    name: self.names.get(&object.name),
                    ids: ids.into(),
                    own: (object.service != nothing).then(|| self.share(object.service.clone())),
                    merged: None,
                }
            })
            .collect()
    }

    /// Takes over from the pod what containers do not say themselves.
    pub(super) fn merge(&mut self, containers: &mut [ContainerRecord], pod: &ServiceName) {
        for container in containers {
            container.merged = container.own.clone().map(|own| {
                self.share(ServiceName {
                    name: either(&own.name, &pod.name),
                    namespace: either(&own.namespace, &pod.namespace),
                    version: either(&own.version, &pod.version),
                })
            });
        }
    }

    fn share(&mut self, service: ServiceName) -> Arc<ServiceName> {
        let services = &mut self.services;
        if let Some(known) = services.known(&service) {
            return known;
        }
        services.insert(Arc::new(service))
    }
}
