//! Who: the service behind a socket.

use std::{net::IpAddr, sync::Arc};

use super::{
    kubernetes::{Container, Network, Node, Pod, Service},
    mesh::Identity,
};

/// What runs a process, as its cgroup tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Runtime {
    /// Neither a container nor a service manager's unit.
    #[default]
    Host,
    /// A container.
    Container {
        /// Full id, 64 hexadecimal digits.
        id: Box<str>,
        /// `containerd`, `cri-o`, `docker`, `podman`, or `unknown`.
        engine: &'static str,
    },
    /// A systemd service or scope.
    Unit {
        /// Unit name with its suffix, `nginx.service`.
        name: Box<str>,
    },
}

/// Where a workload's service name comes from, strongest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum NameSource {
    /// A rule of the configuration.
    Configuration,
    /// `OTEL_SERVICE_NAME` or `OTEL_RESOURCE_ATTRIBUTES` of the process.
    Environment,
    /// The pod: its annotations, labels, or controllers.
    Kubernetes,
    /// The systemd unit.
    Unit,
    /// The program: executable, or the script that an interpreter runs.
    Program,
    /// The thread name; the process was gone before it could be looked at.
    Command,
    /// Nothing is known.
    #[default]
    Unknown,
}

/// One service of this host: all processes that share a name and a runtime.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Workload {
    /// `service.name`; `unknown` when nothing is known.
    pub service: Box<str>,
    /// `service.namespace`; empty when not set.
    pub namespace: Box<str>,
    /// `service.version`; empty when not set.
    pub version: Box<str>,
    /// Where `service` comes from.
    pub source: NameSource,
    /// What runs it.
    pub runtime: Runtime,
    /// Path of its cgroup below the cgroup v2 root, `/` for the root; empty when unknown.
    pub cgroup: Box<str>,
    /// Process id; 0 when unknown.
    pub pid: u32,
    /// Thread name of the process (`/proc/PID/comm`).
    pub command: Box<str>,
    /// Executable path; empty when unknown.
    pub executable: Box<str>,
    /// `k8s.pod.uid` as its cgroup tells it, the hash of its manifest for a static pod; empty when it
    /// is in no pod.
    pub pod_uid: Box<str>,
    /// The container of a pod that it is; `None` outside of clusters, and while it is not known.
    pub container: Option<Container>,
}

/// The other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// A process of this host.
    Local(Arc<Workload>),
    /// A pod of another node.
    Pod(Arc<Pod>),
    /// A node, or a pod on the network of a node.
    Node(Arc<Node>),
    /// An address of a network that the configuration names.
    Network(Network),
    /// An address outside this host that a lookup of DNS had led to.
    Named {
        /// The name that was asked for.
        name: Arc<str>,
        /// Its address.
        address: IpAddr,
    },
    /// Behind a proxy: one of several workloads of a Service, and nothing tells which.
    Service(Arc<Service>),
    /// Behind a proxy: some workload with this identity.
    Identity(Arc<Identity>),
    /// An address outside this host, or one that nothing is known of.
    Address(IpAddr),
}

// === impl Workload ===

impl Workload {
    /// Its pod.
    pub fn pod(&self) -> Option<&Arc<Pod>> {
        self.container.as_ref().map(|container| &container.pod)
    }
}

// === impl Peer ===

impl Peer {
    /// Service name of the peer, if it is a process of this host or a pod; of what a proxy hides, the
    /// name of the Service, or of the service account.
    pub fn service(&self) -> Option<&str> {
        match self {
            Self::Local(workload) => Some(&workload.service),
            Self::Pod(pod) => Some(&pod.service.name),
            Self::Service(service) => Some(&service.name),
            Self::Identity(identity) => Some(identity.name()),
            _ => None,
        }
    }

    /// Service namespace of the peer, where it has a service name.
    pub fn namespace(&self) -> Option<&str> {
        match self {
            Self::Local(workload) => Some(&workload.namespace),
            Self::Pod(pod) => Some(&pod.service.namespace),
            Self::Service(service) => Some(&service.namespace),
            Self::Identity(identity) => Some(&identity.namespace),
            _ => None,
        }
    }

    /// Service name of the peer, or else the name of the node or network, or that DNS gave it.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Local(workload) => Some(&workload.service),
            Self::Pod(pod) => Some(&pod.service.name),
            Self::Node(node) => Some(&node.name),
            Self::Network(network) => Some(&network.name),
            Self::Named { name, .. } => Some(name),
            Self::Service(service) => Some(&service.name),
            Self::Identity(identity) => Some(identity.name()),
            Self::Address(_) => None,
        }
    }

    /// Its pod, wherever that runs.
    pub fn pod(&self) -> Option<&Arc<Pod>> {
        match self {
            Self::Local(workload) => workload.pod(),
            Self::Pod(pod) => Some(pod),
            _ => None,
        }
    }

    /// What it is: name in flows, JSON and attributes.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Local(_) => "local",
            Self::Pod(_) => "pod",
            Self::Node(_) => "node",
            Self::Network(_) => "network",
            Self::Named { .. } => "name",
            Self::Service(_) => "service",
            Self::Identity(_) => "identity",
            Self::Address(_) => "address",
        }
    }

    /// Whether it is a process of this host.
    pub fn is_local(&self) -> bool {
        matches!(self, Self::Local(_))
    }
}
