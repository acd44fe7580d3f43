//! What Kubernetes is told of the two ends of a flow.

use serde::{Serialize, Serializer, ser::SerializeMap as _};

use crate::model::{
    kubernetes::{Node, Pod, Service},
    workload::{Peer, Workload},
};

/// Pod and node of both ends, and the Service that was dialled; part of every line but of what was
/// lost. All `null` outside of Kubernetes, but for `peer_kind`. The attributes of the semantic
/// conventions that keys stand for are named with them.
#[derive(Clone, Debug, Serialize)]
pub struct Kubernetes<'a> {
    /// Namespace of the pod (`k8s.namespace.name`).
    pub k8s_namespace: Option<&'a str>,
    /// Pod (`k8s.pod.name`).
    pub k8s_pod: Option<&'a str>,
    /// Uid of the pod (`k8s.pod.uid`).
    pub k8s_pod_uid: Option<&'a str>,
    /// Container (`k8s.container.name`); `null` while only its pod is known.
    pub k8s_container: Option<&'a str>,
    /// Kind of the workload, the highest controller of the pod: `Deployment`, `Pod` without any.
    pub k8s_workload_kind: Option<&'a str>,
    /// Name of the workload (`k8s.deployment.name`, `k8s.statefulset.name`, by its kind).
    pub k8s_workload: Option<&'a str>,
    /// Node of the pod (`k8s.node.name`).
    pub k8s_node: Option<&'a str>,
    /// Zone of that (`cloud.availability_zone`).
    pub zone: Option<&'a str>,
    /// Region of that (`cloud.region`).
    pub region: Option<&'a str>,
    /// Labels of the pod that the configuration asks for (`k8s.pod.label.NAME`).
    pub k8s_labels: Option<Pairs<'a>>,
    /// Annotations of the pod that the configuration asks for (`k8s.pod.annotation.NAME`).
    pub k8s_annotations: Option<Pairs<'a>>,
    /// What is known of the other end: `local` (a process of this host), `pod`, `node`, `network`
    /// (that the configuration names), `name` (that DNS had led to) or `address`.
    pub peer_kind: &'static str,
    /// `service.namespace` of the other end, where its service is known; empty when not set.
    pub peer_namespace: Option<&'a str>,
    /// As `k8s_namespace`, of the other end; so with all that begin with `peer_`.
    pub peer_k8s_namespace: Option<&'a str>,
    /// See `k8s_pod`.
    pub peer_k8s_pod: Option<&'a str>,
    /// See `k8s_pod_uid`.
    pub peer_k8s_pod_uid: Option<&'a str>,
    /// See `k8s_container`; known of pods of this host only.
    pub peer_k8s_container: Option<&'a str>,
    /// See `k8s_workload_kind`.
    pub peer_k8s_workload_kind: Option<&'a str>,
    /// See `k8s_workload`.
    pub peer_k8s_workload: Option<&'a str>,
    /// See `k8s_node`; also of a node that is itself the other end.
    pub peer_k8s_node: Option<&'a str>,
    /// See `zone`.
    pub peer_zone: Option<&'a str>,
    /// See `region`.
    pub peer_region: Option<&'a str>,
    /// See `k8s_labels`.
    pub peer_k8s_labels: Option<Pairs<'a>>,
    /// See `k8s_annotations`.
    pub peer_k8s_annotations: Option<Pairs<'a>>,
    /// Service that the client dialled (`k8s.service.name`).
    pub dialled_service: Option<&'a str>,
    /// Namespace of that.
    pub dialled_namespace: Option<&'a str>,
    /// What of it: `cluster_ip`, `headless`, `node_port`, `load_balancer`, `external_ip`,
    /// `external_name`, `endpoint`.
    pub dialled_kind: Option<&'static str>,
}

/// Labels or annotations, as one object.
#[derive(Clone, Copy, Debug)]
pub struct Pairs<'a>(&'a [(Box<str>, Box<str>)]);

/// What is told of one end.
#[derive(Default)]
struct End<'a> {
    namespace: Option<&'a str>,
    pod: Option<&'a str>,
    uid: Option<&'a str>,
    workload_kind: Option<&'a str>,
    workload: Option<&'a str>,
    node: Option<&'a str>,
    zone: Option<&'a str>,
    region: Option<&'a str>,
    labels: Option<Pairs<'a>>,
    annotations: Option<Pairs<'a>>,
}

// === impl Kubernetes ===

impl<'a> Kubernetes<'a> {
    pub(super) fn of(workload: &'a Workload, peer: &'a Peer, dialled: Option<&'a Service>) -> Self {
        let own = workload.pod().map(|pod| End::of_pod(pod));
        let own = own.unwrap_or_default();
        let (far, far_container) = match peer {
            Peer::Node(node) => (End::of_node(Some(node)), None),
            Peer::Local(workload) => {
                let far = workload.pod().map(|pod| End::of_pod(pod));
                (far.unwrap_or_default(), container(workload))
            }
            Peer::Pod(pod) => (End::of_pod(pod), None),
            Peer::Network(_)
            | Peer::Named { .. }
            | Peer::Service(_)
            | Peer::Identity(_)
            | Peer::Address(_) => (End::default(), None),
        };
        Self {
            k8s_namespace: own.namespace,
            k8s_pod: own.pod,
            k8s_pod_uid: own.uid,
            k8s_container: container(workload),
            k8s_workload_kind: own.workload_kind,
            k8s_workload: own.workload,
            k8s_node: own.node,
            zone: own.zone,
            region: own.region,
            k8s_labels: own.labels,
            k8s_annotations: own.annotations,
            peer_kind: peer.kind(),
            peer_namespace: peer.namespace(),
            peer_k8s_namespace: far.namespace,
            peer_k8s_pod: far.pod,
            peer_k8s_pod_uid: far.uid,
            peer_k8s_container: far_container,
            peer_k8s_workload_kind: far.workload_kind,
            peer_k8s_workload: far.workload,
            peer_k8s_node: far.node,
            peer_zone: far.zone,
            peer_region: far.region,
            peer_k8s_labels: far.labels,
            peer_k8s_annotations: far.annotations,
            dialled_service: dialled.map(|service| &*service.name),
            dialled_namespace: dialled.map(|service| &*service.namespace),
            dialled_kind: dialled.map(|service| service.dialled.as_str()),
        }
    }
}

fn container(workload: &Workload) -> Option<&str> {
    let container = workload.container.as_ref()?;
    known(&container.name)
}

fn known(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

// === impl End ===

impl<'a> End<'a> {
    fn of_pod(pod: &'a Pod) -> Self {
        let (workload_kind, workload) = pod.workload();
        Self {
            namespace: Some(&pod.namespace),
            pod: Some(&pod.name),
            uid: known(&pod.uid),
            workload_kind: Some(workload_kind),
            workload: Some(workload),
            labels: Pairs::of(&pod.labels),
            annotations: Pairs::of(&pod.annotations),
            ..Self::of_node(pod.node.as_deref())
        }
    }

    fn of_node(node: Option<&'a Node>) -> Self {
        Self {
            node: node.and_then(|node| known(&node.name)),
            zone: node.and_then(|node| known(&node.zone)),
            region: node.and_then(|node| known(&node.region)),
            ..Self::default()
        }
    }
}

// === impl Pairs ===

impl<'a> Pairs<'a> {
    fn of(pairs: &'a [(Box<str>, Box<str>)]) -> Option<Self> {
        (!pairs.is_empty()).then_some(Self(pairs))
    }
}

impl Serialize for Pairs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}
