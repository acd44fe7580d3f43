//! Who, on a Kubernetes cluster: pods, the workloads that they belong to, nodes, services.

use std::{net::IpAddr, sync::Arc};

use super::policy::Traits;

/// The container of a pod that a process runs in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Container {
    /// Its pod.
    pub pod: Arc<Pod>,
    /// `k8s.container.name`; empty when the pod is known and the container is not yet.
    pub name: Arc<str>,
}

/// A pod, with all that is told of it. What many pods have in common they share.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Pod {
    /// `k8s.pod.uid`.
    pub uid: Box<str>,
    /// `k8s.namespace.name`.
    pub namespace: Arc<str>,
    /// `k8s.pod.name`.
    pub name: Box<str>,
    /// Where it runs; `None` before it is scheduled.
    pub node: Option<Arc<Node>>,
    /// Its controller, that one's controller, and so on: `[ReplicaSet, Deployment]`. Empty for a
    /// pod that nobody controls.
    pub owners: Arc<[Owner]>,
    /// What it is as a service.
    pub service: Arc<ServiceName>,
    /// Labels that were asked for, by name.
    pub labels: Box<[(Box<str>, Box<str>)]>,
    /// Annotations that were asked for, by name.
    pub annotations: Box<[(Box<str>, Box<str>)]>,
    /// What policies choose it by.
    pub traits: Arc<Traits>,
}

/// A controller.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    /// Kind as the API spells it: `Deployment`, `Rollout`.
    pub kind: Box<str>,
    /// Name, in the pod's namespace.
    pub name: Box<str>,
}

/// What a pod is as a service, by the rules of OpenTelemetry's semantic conventions for Kubernetes
/// attributes ("Specify resource attributes using Kubernetes annotations").
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ServiceName {
    /// `service.name`; never empty for a pod.
    pub name: Box<str>,
    /// `service.namespace`; the pod's namespace unless it says otherwise.
    pub namespace: Box<str>,
    /// `service.version`; empty when nothing tells it.
    pub version: Box<str>,
}

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Node {
    /// `k8s.node.name`.
    pub name: Box<str>,
    /// `cloud.availability_zone`, from label `topology.kubernetes.io/zone`; empty without.
    pub zone: Box<str>,
    /// `cloud.region`, from label `topology.kubernetes.io/region`; empty without.
    pub region: Box<str>,
}

/// An address within a network outside of the cluster that the configuration names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Network {
    /// Its name.
    pub name: Arc<str>,
    /// The address.
    pub address: IpAddr,
}

/// A Service, as somebody dials it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Service {
    /// Namespace.
    pub namespace: Arc<str>,
    /// `k8s.service.name`.
    pub name: Arc<str>,
    /// What was dialled of it.
    pub dialled: Dialled,
}

/// Which address of a Service somebody dials.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Dialled {
    /// One of its cluster IPs.
    #[default]
    ClusterIp,
    /// A pod, by the name of a Service without cluster IP.
    Headless,
    /// A port of a node.
    NodePort,
    /// An address of its load balancer.
    LoadBalancer,
    /// One of its external IPs.
    ExternalIp,
    /// The name that it stands for.
    ExternalName,
    /// An address outside that is listed as its endpoint.
    Endpoint,
}

// === impl Pod ===

impl Pod {
    /// What it belongs to: the highest of its controllers, or itself.
    pub fn workload(&self) -> (&str, &str) {
        match self.owners.last() {
            Some(owner) => (&owner.kind, &owner.name),
            None => ("Pod", &self.name),
        }
    }

    /// Name of the controller of this kind among its own, `k8s.deployment.name` for `Deployment`.
    pub fn owner(&self, kind: &str) -> Option<&str> {
        let owner = self.owners.iter().find(|owner| &*owner.kind == kind)?;
        Some(&owner.name)
    }

    /// Name of its node; empty before it is scheduled.
    pub fn node_name(&self) -> &str {
        self.node.as_ref().map_or("", |node| &node.name)
    }

    /// Zone of its node; empty when not known.
    pub fn zone(&self) -> &str {
        self.node.as_ref().map_or("", |node| &node.zone)
    }
}

// === impl Container ===

impl Container {
    /// `service.instance.id`: `namespace.pod.container`.
    pub fn instance(&self) -> String {
        format!("{}.{}.{}", self.pod.namespace, self.pod.name, self.name)
    }
}

// === impl Dialled ===

impl Dialled {
    /// Name in flows and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClusterIp => "cluster_ip",
            Self::Headless => "headless",
            Self::NodePort => "node_port",
            Self::LoadBalancer => "load_balancer",
            Self::ExternalIp => "external_ip",
            Self::ExternalName => "external_name",
            Self::Endpoint => "endpoint",
        }
    }
}
