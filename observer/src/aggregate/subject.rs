//! Whose sockets they are, as far as that becomes labels.

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
};

use super::Config;
use crate::model::workload::Workload;

/// What of a cluster becomes a label.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Labelling {
    /// Name of the cluster; empty without.
    pub(super) cluster: Box<str>,
    /// Pods are told apart.
    pub(super) pods: bool,
}

/// A workload that compares by what becomes a label of it.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub(super) workload: Arc<Workload>,
    labelling: Arc<Labelling>,
}

/// Namespace, kind and name of the workload, container, and the pod where those are told apart.
type InCluster<'a> = (&'a str, &'a str, &'a str, &'a str, &'a str);

// === impl Labelling ===

impl Labelling {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            cluster: config.cluster.as_str().into(),
            pods: config.pod_labels,
        }
    }
}

// === impl Subject ===

impl Subject {
    pub(super) fn new(workload: &Arc<Workload>, labelling: &Arc<Labelling>) -> Self {
        Self {
            workload: workload.clone(),
            labelling: labelling.clone(),
        }
    }

    fn in_cluster(&self) -> Option<InCluster<'_>> {
        let container = self.workload.container.as_ref()?;
        let pod = &container.pod;
        let (kind, name) = pod.workload();
        let own = if self.labelling.pods { &*pod.name } else { "" };
        Some((&pod.namespace, kind, name, &container.name, own))
    }

    fn names(&self) -> (&str, &str, &str, Option<InCluster<'_>>) {
        let Workload {
            service, namespace, ..
        } = &*self.workload;
        (
            service,
            namespace,
            &self.labelling.cluster,
            self.in_cluster(),
        )
    }

    /// `service_name` and what else tells whose sockets they are.
    pub(super) fn labels(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let (service, service_namespace, cluster, found) = self.names();
        let (namespace, kind, name, container, pod) = found.unwrap_or_default();
        [
            ("service_name", service),
            ("service_namespace", service_namespace),
            ("k8s_cluster_name", cluster),
            ("k8s_namespace_name", namespace),
            ("k8s_workload_kind", kind),
            ("k8s_workload_name", name),
            ("k8s_container_name", container),
            ("k8s_pod_name", pod),
        ]
        .into_iter()
    }
}

impl PartialEq for Subject {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.workload, &other.workload)
            && Arc::ptr_eq(&self.labelling, &other.labelling)
            || self.names() == other.names()
    }
}

impl Eq for Subject {}

impl Hash for Subject {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.names().hash(state);
    }
}
