//! Resources: whose telemetry it is, on behalf of the service that was observed.
//!
//! Names are those of the semantic conventions for resources. `service.instance.id` is
//! `namespace.pod.container` on Kubernetes, else the container's id, else `host.unit` or
//! `host.service`: a service of a host is told as one, however many processes it has. Of the
//! observer itself resources say `telemetry.distro.*` and nothing of `telemetry.sdk.*`: there is no
//! SDK in the process that they are about.

use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use opentelemetry_proto::tonic::{common::v1::InstrumentationScope, resource::v1::Resource};
use opentelemetry_semantic_conventions::attribute as semantic;

use super::attributes::Attributes;
use crate::{
    export::about::About,
    model::{
        kubernetes::Pod,
        workload::{Runtime, Workload},
    },
};

pub use opentelemetry_semantic_conventions::SCHEMA_URL;

/// Name of the scope of all that is told, and `telemetry.distro.name`.
pub const NAME: &str = "observer";

/// Kinds of controllers that have a name in the semantic conventions.
pub(super) const CONTROLLERS: [(&str, &str); 7] = [
    ("Deployment", semantic::K8S_DEPLOYMENT_NAME),
    ("ReplicaSet", semantic::K8S_REPLICASET_NAME),
    ("StatefulSet", semantic::K8S_STATEFULSET_NAME),
    ("DaemonSet", semantic::K8S_DAEMONSET_NAME),
    ("Job", semantic::K8S_JOB_NAME),
    ("CronJob", semantic::K8S_CRONJOB_NAME),
    (
        "ReplicationController",
        semantic::K8S_REPLICATIONCONTROLLER_NAME,
    ),
];

/// Kind of the highest controller of a pod; `Pod` without any.
pub(super) const WORKLOAD_KIND: &str = "k8s.workload.kind";
/// Name of that.
pub(super) const WORKLOAD_NAME: &str = "k8s.workload.name";
/// The systemd unit of a service.
const UNIT: &str = "systemd.unit";

/// Resources of workloads that were told lately.
#[derive(Debug)]
pub(in crate::export) struct Resources {
    limit: usize,
    about: About,
    /// By address. The workload is kept, so that no other one can have its address.
    known: HashMap<usize, (Arc<Workload>, Resource), RandomState>,
}

/// Most resources that are remembered; about 3 KiB each.
const LIMIT: usize = 1024;

/// Address of a workload: what tells workloads apart while somebody holds them.
pub(super) fn address(workload: &Arc<Workload>) -> usize {
    Arc::as_ptr(workload).addr()
}

/// Who tells it.
pub(super) fn scope(about: &About) -> InstrumentationScope {
    InstrumentationScope {
        name: NAME.to_owned(),
        version: about.version.to_owned(),
        ..InstrumentationScope::default()
    }
}

/// The observer itself.
pub fn of_observer(about: &About) -> Resource {
    let mut out = Attributes::with_capacity(10);
    out.text(semantic::SERVICE_NAME, NAME);
    out.text(semantic::SERVICE_VERSION, about.version);
    out.text(semantic::SERVICE_INSTANCE_ID, &about.host_name);
    push_host(&mut out, about);
    out.text(semantic::K8S_NODE_NAME, &about.node);
    finished(out, about)
}

/// A service that was observed.
pub fn of_workload(workload: &Workload, about: &About) -> Resource {
    let mut out = Attributes::with_capacity(32);
    out.text(semantic::SERVICE_NAME, &workload.service);
    out.text(semantic::SERVICE_NAMESPACE, &workload.namespace);
    out.text(semantic::SERVICE_VERSION, &workload.version);
    out.made(semantic::SERVICE_INSTANCE_ID, instance(workload, about));
    push_host(&mut out, about);
    match &workload.runtime {
        Runtime::Container { id, .. } => out.text(semantic::CONTAINER_ID, id),
        Runtime::Unit { name } => out.text(UNIT, name),
        Runtime::Host => {}
    }
    out.text(semantic::PROCESS_EXECUTABLE_PATH, &workload.executable);
    let mut node = &*about.node;
    match &workload.container {
        Some(container) => {
            out.text(semantic::K8S_CONTAINER_NAME, &container.name);
            let pod = &container.pod;
            push_pod(&mut out, pod);
            if !pod.node_name().is_empty() {
                node = pod.node_name();
            }
        }
        None => out.text(semantic::K8S_POD_UID, &workload.pod_uid),
    }
    out.text(semantic::K8S_NODE_NAME, node);
    finished(out, about)
}

/// A resource, with who tells it.
pub(super) fn finished(mut out: Attributes, about: &About) -> Resource {
    out.text(semantic::TELEMETRY_DISTRO_NAME, NAME);
    out.text(semantic::TELEMETRY_DISTRO_VERSION, about.version);
    Resource {
        attributes: out.0,
        ..Resource::default()
    }
}

/// The host, and its cluster.
pub(super) fn push_host(out: &mut Attributes, about: &About) {
    out.text(semantic::K8S_CLUSTER_NAME, &about.cluster);
    out.text(semantic::HOST_NAME, &about.host_name);
    out.text(semantic::HOST_ID, &about.host_id);
}

fn push_pod(out: &mut Attributes, pod: &Pod) {
    out.text(semantic::K8S_NAMESPACE_NAME, &pod.namespace);
    out.text(semantic::K8S_POD_NAME, &pod.name);
    out.text(semantic::K8S_POD_UID, &pod.uid);
    let (kind, name) = pod.workload();
    out.text(WORKLOAD_KIND, kind);
    out.text(WORKLOAD_NAME, name);
    for (kind, key) in CONTROLLERS {
        out.some(key, pod.owner(kind));
    }
    if let Some(node) = &pod.node {
        out.text(semantic::CLOUD_AVAILABILITY_ZONE, &node.zone);
        out.text(semantic::CLOUD_REGION, &node.region);
    }
    for (pairs, prefix) in [
        (&pod.labels, semantic::K8S_POD_LABEL),
        (&pod.annotations, semantic::K8S_POD_ANNOTATION),
    ] {
        for (name, value) in pairs {
            out.text(format!("{prefix}.{name}"), value);
        }
    }
}

/// `service.instance.id`.
fn instance(workload: &Workload, about: &About) -> String {
    if let Some(container) = workload.container.as_ref() {
        return container.instance();
    }
    match &workload.runtime {
        Runtime::Container { id, .. } => id.to_string(),
        Runtime::Unit { name } => format!("{}.{name}", about.host_name),
        Runtime::Host => format!("{}.{}", about.host_name, workload.service),
    }
}

// === impl Resources ===

impl Default for Resources {
    fn default() -> Self {
        Self {
            limit: LIMIT,
            about: About::default(),
            known: HashMap::default(),
        }
    }
}

impl Resources {
    /// The resource of `workload`.
    pub(in crate::export) fn get(&mut self, workload: &Arc<Workload>, about: &About) -> Resource {
        if !self.about.is_same(about) {
            self.known.clear();
            self.about = about.clone();
        }
        let address = address(workload);
        if let Some((_, resource)) = self.known.get(&address) {
            return resource.clone();
        }
        if self.known.len() >= self.limit {
            // Those that nobody else knows any more will not come again.
            self.known
                .retain(|_, (workload, _)| Arc::strong_count(workload) > 1);
            if self.known.len() >= self.limit {
                self.known.clear();
            }
        }
        let resource = of_workload(workload, about);
        self.known
            .insert(address, (workload.clone(), resource.clone()));
        resource
    }
}

#[cfg(test)]
mod tests;
