//! The pods that the workloads of this host are.

use std::{sync::Arc, time::Duration};

use hashbrown::HashMap;

use super::identify::Knowledge;
use crate::{
    cluster::index::Index,
    model::{
        kubernetes::{Container, ServiceName},
        time::Monotonic,
        workload::{NameSource, Runtime, Workload},
    },
};

/// Workloads of this host with what the cluster knows of them.
#[derive(Debug, Default)]
pub(super) struct Pods {
    /// By what this host knows of them alone.
    known: HashMap<Arc<Workload>, Entry, foldhash::fast::RandomState>,
    /// Containers that nobody waits for until then.
    given_up: HashMap<Box<str>, Monotonic, foldhash::fast::RandomState>,
}

#[derive(Debug)]
struct Entry {
    named: Arc<Workload>,
    /// Of the index, when it was last asked.
    revision: u64,
}

/// Workloads that are remembered.
const MAX_KNOWN: usize = 16_384;

/// How long a container that was waited for in vain is not waited for again.
const GIVE_UP: Duration = Duration::from_secs(60);

/// The container of a workload, and what that is as a service; the container has no name while only
/// the pod is known.
fn look(workload: &Workload, index: &Index) -> Option<(Container, ServiceName)> {
    if let Runtime::Container { id, .. } = &workload.runtime
        && let Some((container, service)) = index.container(id)
    {
        return Some((container, service.clone()));
    }
    if workload.pod_uid.is_empty() {
        return None;
    }
    let pod = index.pod(&workload.pod_uid)?.clone();
    let service = (*pod.service).clone();
    let name = "".into();
    Some((Container { pod, name }, service))
}

/// A workload as the container that it is. What its own environment or a rule says of its name is
/// stronger than the pod.
fn named(workload: &Workload, container: Container, service: ServiceName) -> Workload {
    let mut named = workload.clone();
    let told = matches!(
        workload.source,
        NameSource::Configuration | NameSource::Environment
    );
    if !told && !service.name.is_empty() {
        named.service = service.name;
        named.source = NameSource::Kubernetes;
    }
    if named.namespace.is_empty() {
        named.namespace = service.namespace;
    }
    if named.version.is_empty() {
        named.version = service.version;
    }
    named.container = Some(container);
    named
}

/// What a workload without a known container is waited for by; `None` when it is in no pod.
fn awaited(workload: &Workload) -> Option<&str> {
    if workload.pod_uid.is_empty() {
        return None;
    }
    match &workload.runtime {
        Runtime::Container { id, .. } => Some(id),
        // Not a container's: the pod is all there is to know.
        Runtime::Unit { .. } | Runtime::Host => Some(&workload.pod_uid),
    }
}

fn is_complete(workload: &Workload) -> bool {
    let contained = matches!(workload.runtime, Runtime::Container { .. });
    workload
        .container
        .as_ref()
        .is_some_and(|container| !contained || !container.name.is_empty())
}

// === impl Pods ===

impl Pods {
    /// A workload with its pod, and how much that is of what there is to know.
    pub(super) fn name(
        &mut self,
        workload: &Arc<Workload>,
        index: &Index,
        now: Monotonic,
    ) -> (Arc<Workload>, Knowledge) {
        if is_complete(workload) {
            return (workload.clone(), Knowledge::Complete);
        }
        let revision = index.revision();
        if let Some(entry) = self
            .known
            .get(workload)
            .filter(|entry| entry.revision == revision)
        {
            let named = entry.named.clone();
            return self.stand(named, now);
        }
        let Some((container, service)) = look(workload, index) else {
            // What was known of it stays true.
            let before = self.known.get(workload).map(|entry| entry.named.clone());
            return self.stand(before.unwrap_or_else(|| workload.clone()), now);
        };
        let named = match self.known.get(workload) {
            Some(entry) if entry.named.container.as_ref() == Some(&container) => {
                entry.named.clone()
            }
            _ => Arc::new(named(workload, container, service)),
        };
        if self.known.len() >= MAX_KNOWN {
            self.known.clear();
        }
        let entry = Entry {
            named: named.clone(),
            revision,
        };
        self.known.insert(workload.clone(), entry);
        self.stand(named, now)
    }

    /// Nobody is to wait for this workload's container for a while.
    pub(super) fn give_up(&mut self, workload: &Workload, now: Monotonic) {
        if let Some(key) = awaited(workload).filter(|_| !is_complete(workload)) {
            if self.given_up.len() >= MAX_KNOWN {
                self.given_up.clear();
            }
            self.given_up.insert(key.into(), now.plus(GIVE_UP));
        }
    }

    /// Forgets workloads that only this remembers. Meant to be called now and then.
    pub(super) fn expire(&mut self, now: Monotonic) {
        self.known
            .retain(|raw, entry| Arc::strong_count(raw) + Arc::strong_count(&entry.named) > 2);
        self.given_up.retain(|_, until| *until > now);
    }

    /// Workloads that are remembered.
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    pub(super) const LIMIT: usize = MAX_KNOWN;

    fn stand(&self, workload: Arc<Workload>, now: Monotonic) -> (Arc<Workload>, Knowledge) {
        let known = match awaited(&workload) {
            _ if is_complete(&workload) => Knowledge::Complete,
            None => Knowledge::Complete,
            Some(key) if self.given_up.get(key).is_some_and(|until| *until > now) => {
                Knowledge::Unsure
            }
            Some(_) => Knowledge::Awaited,
        };
        (workload, known)
    }
}
