//! What is kept of the API's objects, and how changes of them are told.

use std::{net::IpAddr, sync::Arc};

use crate::model::{
    kubernetes::{Owner, ServiceName},
    policy::{PolicyChange, PolicyKind, ServiceFacts, Traits},
};

/// A pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodObject {
    /// `metadata.uid`; that of the mirror pod for static pods.
    pub uid: Box<str>,
    /// What its cgroup calls it, where that is not the uid: the hash of a static pod's manifest
    /// (annotation `kubernetes.io/config.mirror`, or `kubernetes.io/config.hash`); else empty.
    pub cgroup_uid: Box<str>,
    /// Namespace.
    pub namespace: Box<str>,
    /// Name.
    pub name: Box<str>,
    /// `spec.nodeName`; empty before it is scheduled.
    pub node: Box<str>,
    /// `status.podIPs`, canonical.
    pub addresses: Vec<IpAddr>,
    /// `spec.hostNetwork`: its addresses are the node's.
    pub host_network: bool,
    /// Its controllers, lowest first; see [`crate::model::kubernetes::Pod::owners`].
    pub owners: Vec<Owner>,
    /// What it is as a service.
    pub service: ServiceName,
    /// Its containers that have or had an id, also init, sidecar and ephemeral ones.
    pub containers: Vec<ContainerObject>,
    /// Labels that were asked for, sorted by name.
    pub labels: Vec<(Box<str>, Box<str>)>,
    /// Annotations that were asked for, sorted by name.
    pub annotations: Vec<(Box<str>, Box<str>)>,
    /// Earliest time at which it can have had its addresses (`status.startTime`, by the clock of its
    /// node), nanoseconds since the Unix epoch; 0 when unknown. The API tells whole seconds.
    pub started: u64,
    /// When the last of its containers ended, nanoseconds since the Unix epoch; 0 while one may run.
    pub ended: u64,
    /// It is being deleted (`metadata.deletionTimestamp`): its addresses may be given away soon.
    pub terminating: bool,
    /// Phase `Succeeded` or `Failed`: it has no addresses any more, whatever its status says.
    pub finished: bool,
    /// What policies choose it by; nothing in it where that was not asked for.
    pub traits: Arc<Traits>,
}

/// A container of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerObject {
    /// Name.
    pub name: Box<str>,
    /// Ids without the engine's scheme, 64 hexadecimal digits each: the running one first, then that
    /// of its last state.
    pub ids: Vec<Box<str>>,
    /// What it is as a service, where that differs from its pod: by `OTEL_SERVICE_NAME` and
    /// `OTEL_RESOURCE_ATTRIBUTES` in its spec, or by its image (version).
    pub service: ServiceName,
}

/// A Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceObject {
    /// `metadata.uid`.
    pub uid: Box<str>,
    /// Namespace.
    pub namespace: Box<str>,
    /// Name.
    pub name: Box<str>,
    /// `spec.clusterIPs`; empty for headless ones.
    pub cluster_ips: Vec<IpAddr>,
    /// `spec.externalIPs`.
    pub external_ips: Vec<IpAddr>,
    /// `status.loadBalancer.ingress[].ip`.
    pub balancer_ips: Vec<IpAddr>,
    /// `status.loadBalancer.ingress[].hostname`, lower case, without a dot at its end.
    pub balancer_names: Vec<Box<str>>,
    /// `spec.externalName`, lower case, without a dot at its end; empty unless of that type.
    pub external_name: Box<str>,
    /// `clusterIP: None`.
    pub headless: bool,
    /// Ports.
    pub ports: Vec<ServicePort>,
    /// What policies choose it by; nothing in it where that was not asked for.
    pub facts: Arc<ServiceFacts>,
}

/// A port of a Service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServicePort {
    /// IP protocol number: 6, 17 or 132.
    pub protocol: u8,
    /// Port of the Service.
    pub port: u16,
    /// Port of every node; 0 when it has none.
    pub node_port: u16,
}

/// An EndpointSlice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointsObject {
    /// `metadata.uid`.
    pub uid: Box<str>,
    /// Namespace.
    pub namespace: Box<str>,
    /// Name of its Service (label `kubernetes.io/service-name`).
    pub service: Box<str>,
    /// IP protocol number and port, of every endpoint.
    pub ports: Vec<(u8, u16)>,
    /// Its endpoints.
    pub endpoints: Vec<Endpoint>,
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Address.
    pub address: IpAddr,
    /// `targetRef.uid` if that is a pod; else empty.
    pub pod_uid: Box<str>,
}

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeObject {
    /// `metadata.uid`.
    pub uid: Box<str>,
    /// Name.
    pub name: Box<str>,
    /// `status.addresses` of type InternalIP and ExternalIP.
    pub addresses: Vec<IpAddr>,
    /// `spec.podCIDRs`: first address and length of the prefix.
    pub pod_networks: Vec<(IpAddr, u8)>,
    /// Label `topology.kubernetes.io/zone`.
    pub zone: Box<str>,
    /// Label `topology.kubernetes.io/region`.
    pub region: Box<str>,
}

/// What is kept of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// A pod.
    Pod(PodObject),
    /// A Service.
    Service(ServiceObject),
    /// An EndpointSlice.
    Endpoints(EndpointsObject),
    /// A node.
    Node(NodeObject),
}

/// Kinds of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Pods.
    Pod,
    /// Services.
    Service,
    /// EndpointSlices.
    Endpoints,
    /// Nodes.
    Node,
}

/// Kinds of objects with those that a mesh is told by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// What the cluster is.
    Kind(Kind),
    /// What is declared.
    Policy(PolicyKind),
}

/// Who tells a change. Two may tell of the same pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// A watch of the pods of this node.
    Node,
    /// A watch of the whole cluster, by this process or by the hub.
    Cluster,
}

/// A change of what is known.
#[expect(clippy::large_enum_variant, reason = "nearly all are the large one")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// All objects of a kind follow, then [`Change::Complete`]; until then what was known stays.
    Begin(Kind),
    /// An object is new, or different.
    Set(Object),
    /// An object is gone.
    Remove(Kind, Box<str>),
    /// What was not set since [`Change::Begin`] is gone.
    Complete(Kind),
    /// What a mesh is told. Of Services it is told by their own changes, see [`Change::declares`].
    Declared(PolicyChange),
}

// === impl Change ===

impl Change {
    /// What it changes of all that is declared, for whoever judges by that; `None` if nothing.
    pub fn declares(&self) -> Option<PolicyChange> {
        match self {
            Self::Declared(change) => Some(change.clone()),
            Self::Begin(Kind::Service) => Some(PolicyChange::BeginServices),
            Self::Set(Object::Service(service)) => (!service.facts.uid.is_empty())
                .then(|| PolicyChange::SetService(service.facts.clone())),
            Self::Remove(Kind::Service, uid) => Some(PolicyChange::RemoveService(uid.clone())),
            Self::Complete(Kind::Service) => Some(PolicyChange::CompleteServices),
            Self::Begin(_) | Self::Set(_) | Self::Remove(..) | Self::Complete(_) => None,
        }
    }
}

// === impl Kind ===

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Pod, Self::Service, Self::Endpoints, Self::Node];

    /// Name in metrics and logs, the resource's of the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pod => "pods",
            Self::Service => "services",
            Self::Endpoints => "endpointslices",
            Self::Node => "nodes",
        }
    }
}

// === impl Subject ===

impl Subject {
    /// How many there are.
    pub const COUNT: usize = Kind::ALL.len() + PolicyKind::ALL.len();

    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        let kinds = Kind::ALL.into_iter().map(Self::Kind);
        kinds.chain(PolicyKind::ALL.into_iter().map(Self::Policy))
    }

    /// Place in [`Self::all`].
    pub const fn index(self) -> usize {
        match self {
            Self::Kind(kind) => kind as usize,
            Self::Policy(kind) => Kind::ALL.len() + kind.index(),
        }
    }

    /// Name in metrics and logs, the resource's of the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kind(kind) => kind.as_str(),
            Self::Policy(kind) => kind.resource(),
        }
    }
}

// === impl Source ===

impl Source {
    /// Name in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Cluster => "cluster",
        }
    }
}

// === impl Object ===

impl Object {
    /// Its kind.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Pod(_) => Kind::Pod,
            Self::Service(_) => Kind::Service,
            Self::Endpoints(_) => Kind::Endpoints,
            Self::Node(_) => Kind::Node,
        }
    }

    /// Its uid.
    pub fn uid(&self) -> &str {
        match self {
            Self::Pod(pod) => &pod.uid,
            Self::Service(service) => &service.uid,
            Self::Endpoints(endpoints) => &endpoints.uid,
            Self::Node(node) => &node.uid,
        }
    }
}
