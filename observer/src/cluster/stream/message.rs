//! The messages of the stream (Protocol Buffers), and how objects become them and come back.
//!
//! Numbers of fields are the contract between versions: a field that goes leaves its number unused,
//! a new one takes a new number, and readers skip what they do not know. What only a pod's own node
//! needs is not sent: its containers, and what its cgroup calls it.

mod conversion;
mod declared;
mod uid;

use prost::bytes::Bytes;

pub use conversion::{
    Unusable, decode_change, encode_absent, encode_begin, encode_complete, encode_object,
    encode_policy, encode_removal, number_of, subject_of,
};
pub use declared::{Facts, FactsPort, NamedPort, Policy, Traits};

#[cfg(doc)]
use crate::cluster::object::{EndpointsObject, NodeObject, PodObject, ServiceObject};

/// A frame.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Frame {
    /// What it is; `None` for one of a later version.
    #[prost(oneof = "Content", tags = "1, 2, 3")]
    pub content: Option<Content>,
}

/// What a frame is.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Content {
    /// First of a stream, and where it starts over.
    #[prost(message, tag = "1")]
    Hello(Hello),
    /// Changes.
    #[prost(message, tag = "2")]
    Batch(Batch),
    /// Sign of life.
    #[prost(message, tag = "3")]
    Heartbeat(Heartbeat),
}

/// Says what follows.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Hello {
    /// Version of the protocol that the hub speaks: [`super::PROTOCOL`].
    #[prost(uint32, tag = "1")]
    pub protocol: u32,
    /// Which run of which hub: revisions of another epoch mean nothing.
    #[prost(fixed64, tag = "2")]
    pub epoch: u64,
    /// Deltas since the revision that the agent named follow; else a snapshot.
    #[prost(bool, tag = "3")]
    pub resumed: bool,
}

/// Changes, in order.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Batch {
    /// What is known after it; 0 within a snapshot, whose last batch has its revision.
    #[prost(uint64, tag = "1")]
    pub revision: u64,
    /// Encoded [`Change`]s; so one is decoded at a time, and one that is not understood alone is
    /// skipped.
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub changes: Vec<Bytes>,
}

/// How old the hub's own knowledge is.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Heartbeat {
    /// What is known to the hub: an agent that has less is about to be told.
    #[prost(uint64, tag = "1")]
    pub revision: u64,
    /// By kind.
    #[prost(message, repeated, tag = "2")]
    pub kinds: Vec<KindState>,
}

/// The hub's watch of one kind.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct KindState {
    /// Which: 1 pods, 2 services, 3 EndpointSlices, 4 nodes; from 101 on what is declared.
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    /// All of them were told once.
    #[prost(bool, tag = "2")]
    pub synced: bool,
    /// How many there are.
    #[prost(uint64, tag = "3")]
    pub objects: u64,
    /// Milliseconds since the API server was last heard of this kind; absent before.
    #[prost(uint64, optional, tag = "4")]
    pub age_milliseconds: Option<u64>,
}

/// A change.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Change {
    /// What it is; `None` for one of a later version.
    #[prost(oneof = "Changed", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9")]
    pub changed: Option<Changed>,
}

/// What a change is. A new kind of objects takes a new number.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Changed {
    /// All objects of this kind follow.
    #[prost(uint32, tag = "1")]
    Begin(u32),
    /// What of this kind was not set since is gone.
    #[prost(uint32, tag = "2")]
    Complete(u32),
    /// An object is gone.
    #[prost(message, tag = "3")]
    Removed(Removed),
    /// A pod is new or different.
    #[prost(message, tag = "4")]
    Pod(Pod),
    /// A Service is new or different.
    #[prost(message, tag = "5")]
    Service(Service),
    /// An EndpointSlice is new or different.
    #[prost(message, tag = "6")]
    Endpoints(Endpoints),
    /// A node is new or different.
    #[prost(message, tag = "7")]
    Node(Node),
    /// What a mesh is told is new or different.
    #[prost(message, tag = "8")]
    Policy(Policy),
    /// The API has nothing of this kind, or it is not read.
    #[prost(uint32, tag = "9")]
    Absent(u32),
}

/// An object that is gone.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Removed {
    /// As in [`KindState::kind`].
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    /// Its uid.
    #[prost(message, optional, tag = "2")]
    pub uid: Option<Uid>,
}

/// A uid: sixteen bytes where it is a UUID as the API server writes them, which takes less than half.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Uid {
    /// Sixteen bytes, or none.
    #[prost(bytes = "bytes", tag = "1")]
    pub binary: Bytes,
    /// What is no UUID.
    #[prost(string, tag = "2")]
    pub text: String,
}

/// [`PodObject`], without its containers.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Pod {
    /// Namespace.
    #[prost(string, tag = "1")]
    pub namespace: String,
    /// Name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Node.
    #[prost(string, tag = "3")]
    pub node: String,
    /// Addresses, four or sixteen bytes each.
    #[prost(bytes = "bytes", repeated, tag = "4")]
    pub addresses: Vec<Bytes>,
    /// On the node's network.
    #[prost(bool, tag = "5")]
    pub host_network: bool,
    /// Controllers, lowest first: `name` is the kind, `value` the name.
    #[prost(message, repeated, tag = "6")]
    pub owners: Vec<Pair>,
    /// `service.name`.
    #[prost(string, tag = "7")]
    pub service_name: String,
    /// `service.namespace`; absent when it is the pod's namespace.
    #[prost(string, optional, tag = "8")]
    pub service_namespace: Option<String>,
    /// `service.version`.
    #[prost(string, tag = "9")]
    pub service_version: String,
    /// Labels that were asked for.
    #[prost(message, repeated, tag = "10")]
    pub labels: Vec<Pair>,
    /// Annotations that were asked for.
    #[prost(message, repeated, tag = "11")]
    pub annotations: Vec<Pair>,
    /// [`PodObject::started`].
    #[prost(message, optional, tag = "12")]
    pub started: Option<Time>,
    /// [`PodObject::ended`].
    #[prost(message, optional, tag = "13")]
    pub ended: Option<Time>,
    /// Is being deleted.
    #[prost(bool, tag = "14")]
    pub terminating: bool,
    /// Ended for good.
    #[prost(bool, tag = "15")]
    pub finished: bool,
    /// Uid. Last, so that what objects have in common is together.
    #[prost(message, optional, tag = "16")]
    pub uid: Option<Uid>,
    /// What policies choose it by; absent where that is not read.
    #[prost(message, optional, tag = "17")]
    pub traits: Option<Traits>,
}

/// A name and a value.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Pair {
    /// Name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// A time since the Unix epoch. The API tells whole seconds.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Time {
    /// Whole seconds.
    #[prost(uint64, tag = "1")]
    pub seconds: u64,
    /// The rest.
    #[prost(uint32, tag = "2")]
    pub nanoseconds: u32,
}

/// [`ServiceObject`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct Service {
    /// Namespace.
    #[prost(string, tag = "1")]
    pub namespace: String,
    /// Name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Cluster IPs.
    #[prost(bytes = "bytes", repeated, tag = "3")]
    pub cluster_ips: Vec<Bytes>,
    /// External IPs.
    #[prost(bytes = "bytes", repeated, tag = "4")]
    pub external_ips: Vec<Bytes>,
    /// Addresses of its load balancer.
    #[prost(bytes = "bytes", repeated, tag = "5")]
    pub balancer_ips: Vec<Bytes>,
    /// Names of its load balancer.
    #[prost(string, repeated, tag = "6")]
    pub balancer_names: Vec<String>,
    /// The name that it stands for.
    #[prost(string, tag = "7")]
    pub external_name: String,
    /// Has no cluster IP on purpose.
    #[prost(bool, tag = "8")]
    pub headless: bool,
    /// Ports.
    #[prost(message, repeated, tag = "9")]
    pub ports: Vec<Port>,
    /// Uid.
    #[prost(message, optional, tag = "16")]
    pub uid: Option<Uid>,
    /// What policies choose it by; absent where that is not read.
    #[prost(message, optional, tag = "17")]
    pub facts: Option<Facts>,
}

/// A port of a Service or of endpoints.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Port {
    /// IP protocol number.
    #[prost(uint32, tag = "1")]
    pub protocol: u32,
    /// Port.
    #[prost(uint32, tag = "2")]
    pub port: u32,
    /// Port of every node; 0 when it has none.
    #[prost(uint32, tag = "3")]
    pub node_port: u32,
}

/// [`EndpointsObject`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct Endpoints {
    /// Namespace.
    #[prost(string, tag = "1")]
    pub namespace: String,
    /// Name of the Service.
    #[prost(string, tag = "2")]
    pub service: String,
    /// Ports.
    #[prost(message, repeated, tag = "3")]
    pub ports: Vec<Port>,
    /// Endpoints.
    #[prost(message, repeated, tag = "4")]
    pub endpoints: Vec<Target>,
    /// Uid.
    #[prost(message, optional, tag = "16")]
    pub uid: Option<Uid>,
}

/// One endpoint.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Target {
    /// Address, four or sixteen bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub address: Bytes,
    /// Uid of its pod; absent when it is none.
    #[prost(message, optional, tag = "2")]
    pub pod: Option<Uid>,
}

/// [`NodeObject`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct Node {
    /// Name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Addresses.
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub addresses: Vec<Bytes>,
    /// Networks of its pods.
    #[prost(message, repeated, tag = "3")]
    pub pod_networks: Vec<Prefix>,
    /// Zone.
    #[prost(string, tag = "4")]
    pub zone: String,
    /// Region.
    #[prost(string, tag = "5")]
    pub region: String,
    /// Uid.
    #[prost(message, optional, tag = "16")]
    pub uid: Option<Uid>,
}

/// A network.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Prefix {
    /// First address.
    #[prost(bytes = "bytes", tag = "1")]
    pub address: Bytes,
    /// Length, bits.
    #[prost(uint32, tag = "2")]
    pub length: u32,
}

#[cfg(test)]
pub(super) mod tests;
