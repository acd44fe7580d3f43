//! A cluster that is made up: its objects, and what happens in it every second.

use std::net::{IpAddr, Ipv4Addr};

use observer::{
    cluster::object::{
        Change, ContainerObject, Endpoint, EndpointsObject, Kind, NodeObject, Object, PodObject,
        ServiceObject, ServicePort,
    },
    model::kubernetes::{Owner, ServiceName},
};

pub(crate) const PODS: u64 = 10_000;
pub(crate) const NODES: u64 = 1_000;
pub(crate) const SERVICES: u64 = 5_000;
pub(crate) const NAMESPACES: u64 = 100;

/// Changes of the API a second, in this order: the status of a pod, a pod gone, its successor, and
/// the EndpointSlice that names it.
pub(crate) const STATUS: u64 = 20;
pub(crate) const REPLACED: u64 = 10;
pub(crate) const CHANGES: u64 = STATUS + 3 * REPLACED;

pub(crate) struct Cluster {
    /// How often each pod was replaced.
    generations: Vec<u64>,
    next: u64,
}

/// A number like those of random names and uids, the same each time.
fn mixed(seed: u64) -> u64 {
    let mut value = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

fn uid(kind: u64, number: u64) -> Box<str> {
    let (high, low) = (mixed(kind << 48 | number), mixed(!(kind << 48 | number)));
    let node = low & 0xffff_ffff_ffff;
    let text = format!(
        "{:08x}-{:04x}-4{:03x}-a{:03x}-{node:012x}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xfff,
        low >> 48 & 0xfff,
    );
    text.into()
}

fn suffix(seed: u64, length: u32) -> String {
    let letters = b"bcdfghjklmnpqrstvwxz2456789";
    let mut state = mixed(seed);
    let mut text = String::new();
    for _ in 0..length {
        text.push(char::from(letters[(state % 27) as usize]));
        state /= 27;
    }
    text
}

fn namespace(service: u64) -> Box<str> {
    format!("team-{:02}", service % NAMESPACES).into()
}

fn service_name(service: u64) -> String {
    let words = [
        "cart",
        "checkout",
        "catalogue",
        "payment",
        "search",
        "mail",
        "quote",
        "ads",
    ];
    let word = words[(service % 8) as usize];
    format!("{word}-{}", service / 8)
}

fn node_name(node: u64) -> Box<str> {
    let part = mixed(node) >> 48;
    format!(
        "ip-10-{}-{}-{}.example.internal",
        part >> 8,
        part & 0xff,
        node % 250
    )
    .into()
}

fn address(base: u32, number: u64) -> IpAddr {
    Ipv4Addr::from_bits(base + number as u32).into()
}

fn node(number: u64) -> Object {
    Object::Node(NodeObject {
        uid: uid(1, number),
        name: node_name(number),
        addresses: vec![address(0x0a00_0001, number)],
        pod_networks: vec![(address(0x0a80_0000, number * 256), 24)],
        zone: format!("eu-west-1{}", char::from(b'a' + (number % 3) as u8)).into(),
        region: "eu-west-1".into(),
    })
}

fn service(number: u64) -> Object {
    Object::Service(ServiceObject {
        uid: uid(2, number),
        namespace: namespace(number),
        name: service_name(number).into(),
        cluster_ips: vec![address(0x0b00_0001, number)],
        ports: vec![
            ServicePort {
                protocol: 6,
                port: 80,
                node_port: 0,
            },
            ServicePort {
                protocol: 6,
                port: 9090,
                node_port: 0,
            },
        ],
        ..ServiceObject::default()
    })
}

impl Cluster {
    pub(crate) fn new() -> Self {
        Self {
            generations: vec![0; PODS as usize],
            next: 0,
        }
    }

    fn pod(&self, number: u64, restarts: u64) -> PodObject {
        let generation = self.generations[number as usize];
        let identity = generation * PODS + number;
        let service = number % SERVICES;
        let name = service_name(service);
        let set = format!("{name}-{}", suffix(service, 9));
        let node = mixed(identity) % NODES;
        PodObject {
            uid: uid(3, identity),
            namespace: namespace(service),
            name: format!("{set}-{}", suffix(identity, 5)).into(),
            node: node_name(node),
            // Of the node's network, another one each time.
            addresses: vec![address(0x0a80_0000, node * 256 + identity % 254 + 1)],
            owners: vec![
                Owner {
                    kind: "ReplicaSet".into(),
                    name: set.into(),
                },
                Owner {
                    kind: "Deployment".into(),
                    name: name.clone().into(),
                },
            ],
            service: ServiceName {
                name: name.into(),
                namespace: namespace(service),
                version: format!("1.{}.{}", service % 20, service % 7).into(),
            },
            containers: vec![ContainerObject {
                name: "main".into(),
                ids: vec![
                    format!("{:016x}", mixed(identity + restarts))
                        .repeat(4)
                        .into(),
                ],
                ..ContainerObject::default()
            }],
            started: (1_760_000_000 + mixed(identity) % 10_000_000) * 1_000_000_000,
            ..PodObject::default()
        }
    }

    fn endpoints(&self, service: u64) -> Object {
        let pods = (service..PODS).step_by(SERVICES as usize);
        let endpoint = |number| {
            let pod = self.pod(number, 0);
            Endpoint {
                address: pod.addresses[0],
                pod_uid: pod.uid,
            }
        };
        Object::Endpoints(EndpointsObject {
            uid: uid(4, service),
            namespace: namespace(service),
            service: service_name(service).into(),
            ports: vec![(6, 8080), (6, 9090)],
            endpoints: pods.map(endpoint).collect(),
        })
    }

    /// All objects, as a watch tells them first.
    pub(crate) fn everything(&self) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut tell = |kind, objects: &mut dyn Iterator<Item = Object>| {
            changes.push(Change::Begin(kind));
            changes.extend(objects.map(Change::Set));
            changes.push(Change::Complete(kind));
        };
        tell(Kind::Node, &mut (0..NODES).map(node));
        tell(Kind::Service, &mut (0..SERVICES).map(service));
        let pods = (0..PODS).map(|number| Object::Pod(self.pod(number, 0)));
        tell(Kind::Pod, &mut pods.into_iter());
        tell(
            Kind::Endpoints,
            &mut (0..SERVICES).map(|number| self.endpoints(number)),
        );
        changes
    }

    /// A part of what happens in a second: a `parts`th of [`CHANGES`].
    pub(crate) fn happen(&mut self, parts: u64) -> Vec<Change> {
        let mut changes = Vec::new();
        for _ in 0..STATUS / parts {
            self.next += 1;
            let number = mixed(self.next) % PODS;
            changes.push(Change::Set(Object::Pod(self.pod(number, self.next))));
        }
        for _ in 0..REPLACED / parts {
            self.next += 1;
            let number = mixed(self.next) % PODS;
            changes.push(Change::Remove(Kind::Pod, self.pod(number, 0).uid));
            self.generations[number as usize] += 1;
            changes.push(Change::Set(Object::Pod(self.pod(number, 0))));
            changes.push(Change::Set(self.endpoints(number % SERVICES)));
        }
        changes
    }
}
