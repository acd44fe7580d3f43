//! From objects to messages and back.

use std::{net::IpAddr, sync::Arc};

use prost::{Message as _, bytes::Bytes};

use super::{
    Change, Changed, Endpoints, Node, Pair, Pod, Port, Prefix, Removed, Service, Target, Time,
    declared,
    uid::{decode_uid, encode_uid, own_uid},
};
use crate::{
    cluster::object::{
        self, Endpoint, EndpointsObject, Kind, NodeObject, Object, PodObject, ServiceObject,
        ServicePort, Subject,
    },
    model::{
        kubernetes::{Owner, ServiceName},
        policy::{PolicyChange, PolicyKind, PolicyObject},
    },
};

/// Why a change cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// A later version's.
    #[error("a change or kind that this version does not know")]
    Unknown,
    /// Not Protocol Buffers.
    #[error("a change that cannot be decoded: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// Decoded, but of no use.
    #[error("a change with a bad {0}")]
    Bad(&'static str),
}

const NANOSECONDS: u64 = 1_000_000_000;

/// Encodes what agents need of an object, as a change that sets it.
pub fn encode_object(object: &Object) -> Bytes {
    let changed = match object {
        Object::Pod(pod) => Changed::Pod(pod.into()),
        Object::Service(service) => Changed::Service(service.into()),
        Object::Endpoints(endpoints) => Changed::Endpoints(endpoints.into()),
        Object::Node(node) => Changed::Node(node.into()),
    };
    encode(changed)
}

/// Encodes an object that is declared, as a change that sets it.
pub fn encode_policy(object: &PolicyObject) -> Bytes {
    encode(Changed::Policy(object.into()))
}

/// Encodes that an object is gone.
pub fn encode_removal(subject: Subject, uid: &str) -> Bytes {
    encode(Changed::Removed(Removed {
        kind: number_of(subject),
        uid: encode_uid(uid),
    }))
}

/// Encodes that all objects of a kind follow.
pub fn encode_begin(subject: Subject) -> Bytes {
    encode(Changed::Begin(number_of(subject)))
}

/// Encodes that all objects of a kind were told.
pub fn encode_complete(subject: Subject) -> Bytes {
    encode(Changed::Complete(number_of(subject)))
}

/// Encodes that there is nothing of a kind.
pub fn encode_absent(kind: PolicyKind) -> Bytes {
    encode(Changed::Absent(number_of(Subject::Policy(kind))))
}

/// Decodes a change.
///
/// # Errors
///
/// When it is of a later version, or not what it should be.
pub fn decode_change(bytes: Bytes) -> Result<object::Change, Unusable> {
    use object::Change::{Begin, Complete, Declared, Remove, Set};

    let changed = Change::decode(bytes)?.changed.ok_or(Unusable::Unknown)?;
    Ok(match changed {
        Changed::Begin(number) => match subject_of(number)? {
            Subject::Kind(kind) => Begin(kind),
            Subject::Policy(kind) => Declared(PolicyChange::Begin(kind)),
        },
        Changed::Complete(number) => match subject_of(number)? {
            Subject::Kind(kind) => Complete(kind),
            Subject::Policy(kind) => Declared(PolicyChange::Complete(kind)),
        },
        Changed::Removed(Removed { kind, uid }) => match subject_of(kind)? {
            Subject::Kind(kind) => Remove(kind, own_uid(uid)?),
            Subject::Policy(kind) => Declared(PolicyChange::Remove(kind, own_uid(uid)?)),
        },
        Changed::Pod(pod) => Set(Object::Pod(pod.try_into()?)),
        Changed::Service(service) => Set(Object::Service(service.try_into()?)),
        Changed::Endpoints(endpoints) => Set(Object::Endpoints(endpoints.try_into()?)),
        Changed::Node(node) => Set(Object::Node(node.try_into()?)),
        Changed::Policy(policy) => Declared(PolicyChange::Set(Arc::new(policy.try_into()?))),
        Changed::Absent(number) => match subject_of(number)? {
            Subject::Policy(kind) => Declared(PolicyChange::Absent(kind)),
            Subject::Kind(_) => return Err(Unusable::Bad("kind")),
        },
    })
}

/// Number of a kind on the wire.
pub const fn number_of(subject: Subject) -> u32 {
    match subject {
        Subject::Kind(kind) => match kind {
            Kind::Pod => 1,
            Kind::Service => 2,
            Kind::Endpoints => 3,
            Kind::Node => 4,
        },
        Subject::Policy(kind) => declared::number_of(kind),
    }
}

/// Kind with a number on the wire.
///
/// # Errors
///
/// When it is of a later version.
pub fn subject_of(number: u32) -> Result<Subject, Unusable> {
    Subject::all()
        .find(|subject| number_of(*subject) == number)
        .ok_or(Unusable::Unknown)
}

fn encode(changed: Changed) -> Bytes {
    let changed = Some(changed);
    Change { changed }.encode_to_vec().into()
}

fn encode_address(address: IpAddr) -> Bytes {
    match address {
        IpAddr::V4(address) => Bytes::copy_from_slice(&address.octets()),
        IpAddr::V6(address) => Bytes::copy_from_slice(&address.octets()),
    }
}

fn decode_address(bytes: &Bytes) -> Result<IpAddr, Unusable> {
    if let Ok(octets) = <[u8; 4]>::try_from(&**bytes) {
        return Ok(octets.into());
    }
    match <[u8; 16]>::try_from(&**bytes) {
        Ok(octets) => Ok(octets.into()),
        Err(_) => Err(Unusable::Bad("address")),
    }
}

fn encode_addresses(addresses: &[IpAddr]) -> Vec<Bytes> {
    addresses.iter().copied().map(encode_address).collect()
}

fn decode_addresses(addresses: &[Bytes]) -> Result<Vec<IpAddr>, Unusable> {
    addresses.iter().map(decode_address).collect()
}

fn encode_time(nanoseconds: u64) -> Option<Time> {
    (nanoseconds != 0).then_some(Time {
        seconds: nanoseconds / NANOSECONDS,
        // The rest of a division by a billion.
        nanoseconds: (nanoseconds % NANOSECONDS) as u32,
    })
}

fn decode_time(time: Option<Time>) -> u64 {
    time.map_or(0, |time| {
        let seconds = time.seconds.saturating_mul(NANOSECONDS);
        seconds.saturating_add(u64::from(time.nanoseconds))
    })
}

pub(super) fn encode_pairs(pairs: &[(Box<str>, Box<str>)]) -> Vec<Pair> {
    let pair = |(name, value): &(Box<str>, Box<str>)| Pair {
        name: (**name).to_owned(),
        value: (**value).to_owned(),
    };
    pairs.iter().map(pair).collect()
}

pub(super) fn decode_pairs(pairs: Vec<Pair>) -> Vec<(Box<str>, Box<str>)> {
    let pair = |Pair { name, value }| (name.into(), value.into());
    pairs.into_iter().map(pair).collect()
}

pub(super) fn number<T: TryFrom<u32>>(number: u32, what: &'static str) -> Result<T, Unusable> {
    T::try_from(number).map_err(|_| Unusable::Bad(what))
}

// === impl Pod ===

impl From<&PodObject> for Pod {
    fn from(pod: &PodObject) -> Self {
        let PodObject {
            uid,
            cgroup_uid: _,
            namespace,
            name,
            node,
            addresses,
            host_network,
            owners,
            service,
            containers: _,
            labels,
            annotations,
            started,
            ended,
            terminating,
            finished,
            traits,
        } = pod;
        let owner = |Owner { kind, name }: &Owner| Pair {
            name: kind.to_string(),
            value: name.to_string(),
        };
        Self {
            namespace: namespace.to_string(),
            name: name.to_string(),
            node: node.to_string(),
            addresses: encode_addresses(addresses),
            host_network: *host_network,
            owners: owners.iter().map(owner).collect(),
            service_name: service.name.to_string(),
            service_namespace: (service.namespace != *namespace)
                .then(|| service.namespace.to_string()),
            service_version: service.version.to_string(),
            labels: encode_pairs(labels),
            annotations: encode_pairs(annotations),
            started: encode_time(*started),
            ended: encode_time(*ended),
            terminating: *terminating,
            finished: *finished,
            uid: encode_uid(uid),
            traits: declared::encode_traits(traits),
        }
    }
}

impl TryFrom<Pod> for PodObject {
    type Error = Unusable;

    fn try_from(pod: Pod) -> Result<Self, Unusable> {
        let owner = |Pair { name, value }| Owner {
            kind: name.into(),
            name: value.into(),
        };
        let service_namespace = match pod.service_namespace {
            Some(namespace) => namespace.into(),
            None => Box::from(&*pod.namespace),
        };
        Ok(Self {
            uid: own_uid(pod.uid)?,
            cgroup_uid: Box::default(),
            namespace: pod.namespace.into(),
            name: pod.name.into(),
            node: pod.node.into(),
            addresses: decode_addresses(&pod.addresses)?,
            host_network: pod.host_network,
            owners: pod.owners.into_iter().map(owner).collect(),
            service: ServiceName {
                name: pod.service_name.into(),
                namespace: service_namespace,
                version: pod.service_version.into(),
            },
            containers: Vec::new(),
            labels: decode_pairs(pod.labels),
            annotations: decode_pairs(pod.annotations),
            started: decode_time(pod.started),
            ended: decode_time(pod.ended),
            terminating: pod.terminating,
            finished: pod.finished,
            traits: declared::decode_traits(pod.traits, pod.host_network)?,
        })
    }
}

// === impl Service ===

impl From<&ServiceObject> for Service {
    fn from(service: &ServiceObject) -> Self {
        let ServiceObject {
            uid,
            namespace,
            name,
            cluster_ips,
            external_ips,
            balancer_ips,
            balancer_names,
            external_name,
            headless,
            ports,
            facts,
        } = service;
        let port = |port: &ServicePort| Port {
            protocol: port.protocol.into(),
            port: port.port.into(),
            node_port: port.node_port.into(),
        };
        Self {
            namespace: namespace.to_string(),
            name: name.to_string(),
            cluster_ips: encode_addresses(cluster_ips),
            external_ips: encode_addresses(external_ips),
            balancer_ips: encode_addresses(balancer_ips),
            balancer_names: balancer_names.iter().map(ToString::to_string).collect(),
            external_name: external_name.to_string(),
            headless: *headless,
            ports: ports.iter().map(port).collect(),
            uid: encode_uid(uid),
            facts: declared::encode_facts(facts),
        }
    }
}

impl TryFrom<Service> for ServiceObject {
    type Error = Unusable;

    fn try_from(service: Service) -> Result<Self, Unusable> {
        let port = |port: Port| {
            Ok(ServicePort {
                protocol: number(port.protocol, "protocol")?,
                port: number(port.port, "port")?,
                node_port: number(port.node_port, "port")?,
            })
        };
        let uid = own_uid(service.uid.clone())?;
        let facts = declared::decode_facts(&uid, &service)?;
        let names = service.balancer_names.into_iter();
        Ok(Self {
            uid,
            namespace: service.namespace.into(),
            name: service.name.into(),
            cluster_ips: decode_addresses(&service.cluster_ips)?,
            external_ips: decode_addresses(&service.external_ips)?,
            balancer_ips: decode_addresses(&service.balancer_ips)?,
            balancer_names: names.map(String::into_boxed_str).collect(),
            external_name: service.external_name.into(),
            headless: service.headless,
            ports: service
                .ports
                .into_iter()
                .map(port)
                .collect::<Result<_, Unusable>>()?,
            facts,
        })
    }
}

// === impl Endpoints ===

impl From<&EndpointsObject> for Endpoints {
    fn from(object: &EndpointsObject) -> Self {
        let EndpointsObject {
            uid,
            namespace,
            service,
            ports,
            endpoints,
        } = object;
        let port = |&(protocol, port): &(u8, u16)| Port {
            protocol: protocol.into(),
            port: port.into(),
            node_port: 0,
        };
        let target = |Endpoint { address, pod_uid }: &Endpoint| Target {
            address: encode_address(*address),
            pod: encode_uid(pod_uid),
        };
        Self {
            namespace: namespace.to_string(),
            service: service.to_string(),
            ports: ports.iter().map(port).collect(),
            endpoints: endpoints.iter().map(target).collect(),
            uid: encode_uid(uid),
        }
    }
}

impl TryFrom<Endpoints> for EndpointsObject {
    type Error = Unusable;

    fn try_from(object: Endpoints) -> Result<Self, Unusable> {
        let port = |port: Port| {
            Ok((
                number(port.protocol, "protocol")?,
                number(port.port, "port")?,
            ))
        };
        let endpoint = |target: Target| {
            Ok(Endpoint {
                address: decode_address(&target.address)?,
                pod_uid: decode_uid(target.pod)?,
            })
        };
        let ports = object.ports.into_iter().map(port);
        let endpoints = object.endpoints.into_iter().map(endpoint);
        Ok(Self {
            uid: own_uid(object.uid)?,
            namespace: object.namespace.into(),
            service: object.service.into(),
            ports: ports.collect::<Result<_, Unusable>>()?,
            endpoints: endpoints.collect::<Result<_, Unusable>>()?,
        })
    }
}

// === impl Node ===

impl From<&NodeObject> for Node {
    fn from(node: &NodeObject) -> Self {
        let NodeObject {
            uid,
            name,
            addresses,
            pod_networks,
            zone,
            region,
        } = node;
        let prefix = |&(address, length): &(IpAddr, u8)| Prefix {
            address: encode_address(address),
            length: length.into(),
        };
        Self {
            name: name.to_string(),
            addresses: encode_addresses(addresses),
            pod_networks: pod_networks.iter().map(prefix).collect(),
            zone: zone.to_string(),
            region: region.to_string(),
            uid: encode_uid(uid),
        }
    }
}

impl TryFrom<Node> for NodeObject {
    type Error = Unusable;

    fn try_from(node: Node) -> Result<Self, Unusable> {
        let network = |prefix: Prefix| {
            let address = decode_address(&prefix.address)?;
            let most = if address.is_ipv4() { 32 } else { 128 };
            if prefix.length > most {
                return Err(Unusable::Bad("network"));
            }
            Ok((address, number(prefix.length, "network")?))
        };
        let networks = node.pod_networks.into_iter().map(network);
        Ok(Self {
            uid: own_uid(node.uid)?,
            name: node.name.into(),
            addresses: decode_addresses(&node.addresses)?,
            pod_networks: networks.collect::<Result<_, Unusable>>()?,
            zone: node.zone.into(),
            region: node.region.into(),
        })
    }
}
