//! The pods of this node that were seen: what `observer_pod_info` tells of them.

use std::sync::Arc;

use crate::model::{kubernetes::Pod, time::Monotonic, workload::Workload};

use super::{
    Aggregator,
    series::{Handle, Labels, labels},
};

/// What is known of a pod, the latest.
#[derive(Debug)]
pub(super) struct PodInfo(Arc<Pod>);

/// Kinds of controllers that have a label of their own in the semantic conventions.
const CONTROLLERS: [(&str, &str); 6] = [
    ("Deployment", "k8s_deployment_name"),
    ("ReplicaSet", "k8s_replicaset_name"),
    ("StatefulSet", "k8s_statefulset_name"),
    ("DaemonSet", "k8s_daemonset_name"),
    ("Job", "k8s_job_name"),
    ("CronJob", "k8s_cronjob_name"),
];

// === impl PodInfo ===

impl PodInfo {
    pub(super) fn labels(&self, cluster: &str) -> Labels {
        let pod = &*self.0;
        let (kind, name) = pod.workload();
        let region = pod.node.as_ref().map_or("", |node| &node.region);
        let own = [
            ("k8s_cluster_name", cluster),
            ("k8s_namespace_name", &*pod.namespace),
            ("k8s_pod_name", &*pod.name),
            ("k8s_pod_uid", &*pod.uid),
            ("k8s_node_name", pod.node_name()),
            ("k8s_workload_kind", kind),
            ("k8s_workload_name", name),
        ];
        let controllers =
            CONTROLLERS.map(|(kind, label)| (label, pod.owner(kind).unwrap_or_default()));
        let more = [
            ("cloud_availability_zone", pod.zone()),
            ("cloud_region", region),
            ("service_name", &*pod.service.name),
            ("service_namespace", &*pod.service.namespace),
        ];
        labels(own.into_iter().chain(controllers).chain(more))
    }
}

// === impl Aggregator ===

impl Aggregator {
    /// Remembers the pod of a workload of this host, or what is new of it; returns where.
    pub(super) fn see_pod(&mut self, workload: &Workload, now: Monotonic) -> Option<Handle> {
        let pod = workload.pod()?;
        let make = || (labels([]), PodInfo(pod.clone()));
        let handle = self.pods.resolve(&pod.uid, now, make);
        // The overflow series tells of nobody, and only counts.
        let info = self.pods.update(handle, now)?;
        if !handle.is_overflow() && !Arc::ptr_eq(&info.0, pod) {
            info.0 = pod.clone();
        }
        Some(handle).filter(|handle| !handle.is_overflow())
    }
}
