//! Connections and calls of pods: what is known, what waits, and what stays unknown.

use std::{os::unix::fs::MetadataExt as _, time::Duration};

use super::*;
use crate::{
    cluster::{
        index,
        object::{
            Change, ContainerObject, Kind, NodeObject, Object, PodObject, ServiceObject,
            ServicePort, Source,
        },
    },
    enrich::identify,
    model::{
        kubernetes::{Dialled, Owner as Controller, ServiceName},
        time::WallOffset,
    },
};

mod churn;
mod mesh;
mod time;

const UID: &str = "5d3f9e0c-1b7a-4a4e-9b0e-0f1e2d3c4b5a";
const OTHER: &str = "6d3f9e0c-1b7a-4a4e-9b0e-0f1e2d3c4b5a";
const ID: &str = "8f3c5a0f1e7d4b6a9c2e0d1f3b5a79878f3c5a0f1e7d4b6a9c2e0d1f3b5a7987";
const HOLD: u64 = 3;

/// A node with one pod's cgroup, whose socket has this inode.
struct Node {
    bench: Bench,
    cgroup: u64,
    told: Vec<Told>,
}

impl Node {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("cgroup");
        let path = root.join(format!("kubepods/burstable/pod{UID}/{ID}"));
        std::fs::create_dir_all(&path).unwrap();
        let host = Host::new(host::Config {
            proc_root: folder.path().join("proc"),
            cgroup_root: root,
            translations: false,
            ..host::Config::default()
        });
        let cluster = ClusterConfig {
            index: index::Config::default(),
            hold: Duration::from_secs(HOLD),
            source: Source::Cluster,
        };
        let config = Config {
            cluster: Some(cluster),
            ..Config::default()
        };
        let mut node = Self {
            bench: Bench {
                _folder: folder,
                host,
                enricher: Enricher::new(config),
            },
            cgroup: std::fs::metadata(&path).unwrap().ino(),
            told: Vec::new(),
        };
        node.complete(0);
        node
    }

    fn learn(&mut self, change: Change, now: u64) {
        let index = self.bench.enricher.index_mut().unwrap();
        index.apply(Source::Cluster, change, at(now), WallOffset::default());
    }

    /// All lists are told, and nothing is in them.
    fn complete(&mut self, now: u64) {
        for kind in Kind::ALL {
            self.learn(Change::Begin(kind), now);
            self.learn(Change::Complete(kind), now);
        }
    }

    fn set(&mut self, object: Object, now: u64) {
        self.learn(Change::Set(object), now);
    }

    /// What is told when time has come to `now`.
    fn settle(&mut self, now: u64) -> Vec<Told> {
        let Bench { host, enricher, .. } = &mut self.bench;
        enricher.settle(host, at(now), false, &mut self.told);
        std::mem::take(&mut self.told)
    }

    fn open(&mut self, connection: &Connection, now: u64) -> Option<Arc<Link>> {
        let event = ConnectionEvent::Opened(connection.clone());
        match self.bench.event(event, now)? {
            LinkEvent::Opened(link) => Some(link),
            other => panic!("{other:?}"),
        }
    }

    fn call(&mut self, id: u64, now: u64) -> Option<Call> {
        let exchange = exchange(id, Role::Client, &head("/"));
        self.bench.enricher.exchange(exchange, at(now))
    }

    /// A connection of this node's pod, opened at second 1.
    fn client(&self, id: u64, remote: &str) -> Connection {
        Connection {
            owner: Owner {
                cgroup: self.cgroup,
                ..Owner::default()
            },
            pre_existing: false,
            ..connection(id, Role::Client, "10.244.1.7:40000", remote, "")
        }
    }
}

fn pod(uid: &str, name: &str, address: &str, ids: &[&str]) -> Object {
    Object::Pod(PodObject {
        uid: uid.into(),
        namespace: "shop".into(),
        name: name.into(),
        node: "n1".into(),
        addresses: vec![address.parse().unwrap()],
        owners: vec![
            Controller {
                kind: "ReplicaSet".into(),
                name: "cart-5d".into(),
            },
            Controller {
                kind: "Deployment".into(),
                name: "cart".into(),
            },
        ],
        service: ServiceName {
            name: name.split('-').next().unwrap().into(),
            namespace: "shop".into(),
            version: "7".into(),
        },
        containers: vec![ContainerObject {
            name: "app".into(),
            ids: ids.iter().map(|id| (*id).into()).collect(),
            ..ContainerObject::default()
        }],
        ..PodObject::default()
    })
}

fn service(name: &str, address: &str, port: u16) -> Object {
    Object::Service(ServiceObject {
        uid: name.into(),
        namespace: "shop".into(),
        name: name.into(),
        cluster_ips: vec![address.parse().unwrap()],
        ports: vec![ServicePort {
            protocol: 6,
            port,
            node_port: 0,
        }],
        ..ServiceObject::default()
    })
}

const OUTSIDE: &str = "198.51.100.9:443";

#[test]
fn a_pod_is_named_with_its_container() {
    let mut node = Node::new();
    node.set(pod(UID, "cart-x", "10.244.1.7", &[ID]), 0);
    let connection = node.client(1, OUTSIDE);
    let link = node.open(&connection, 1).unwrap();
    let container = link.workload.container.as_ref().unwrap();
    assert_eq!((&*container.pod.name, &*container.name), ("cart-x", "app"));
    assert_eq!(container.pod.workload(), ("Deployment", "cart"));
    assert_eq!(container.instance(), "shop.cart-x.app");
    let workload = &link.workload;
    assert_eq!(
        (&*workload.service, &*workload.namespace, &*workload.version),
        ("cart", "shop", "7")
    );
    assert_eq!(workload.source, NameSource::Kubernetes);
    assert_eq!(link.peer, Peer::Address("198.51.100.9".parse().unwrap()));
    let again = node.open(&node.client(2, OUTSIDE), 1).unwrap();
    assert!(Arc::ptr_eq(&link.workload, &again.workload), "one value");
    assert_eq!(node.settle(1), []);
}

#[test]
fn a_pod_younger_than_the_watch_is_waited_for() {
    let mut node = Node::new();
    let connection = node.client(1, OUTSIDE);
    assert_eq!(node.open(&connection, 1), None);
    assert_eq!(node.call(1, 1), None);
    assert!(node.bench.enricher.link(ConnectionId(1)).is_none());
    let closed = ConnectionEvent::Closed {
        connection,
        closed: closed(),
    };
    assert_eq!(node.bench.event(closed, 2), None);
    assert_eq!(node.settle(2), []);
    // First the pod alone, then its container.
    node.set(pod(UID, "cart-x", "10.244.1.7", &[]), 2);
    assert_eq!(node.settle(2), []);
    node.set(pod(UID, "cart-x", "10.244.1.7", &[ID]), 3);
    let told = node.settle(3);
    let mut kinds = Vec::new();
    for mut one in told {
        let link = one.link_mut().unwrap().clone();
        assert_eq!(&*link.workload.container.as_ref().unwrap().name, "app");
        kinds.push(match one {
            Told::Link(LinkEvent::Opened(_)) => "opened",
            Told::Call(_) => "call",
            Told::Link(LinkEvent::Closed { .. }) => "closed",
            _ => "else",
        });
    }
    assert_eq!(kinds, ["opened", "call", "closed"]);
    assert_eq!(node.bench.lost("pod_unknown"), 0);
}

#[test]
fn a_pod_that_stays_unknown_is_told_as_such_and_not_waited_for_again() {
    let mut node = Node::new();
    assert_eq!(node.open(&node.client(1, OUTSIDE), 1), None);
    assert_eq!(node.call(1, 1), None);
    assert_eq!(node.settle(HOLD), []);
    let told = node.settle(HOLD + 1);
    assert_eq!(told.len(), 2);
    assert!(node.bench.lost("pod_unknown") > 0);
    // The next does not wait, and neither does what comes on the first.
    let link = node.open(&node.client(2, OUTSIDE), 5).unwrap();
    assert_eq!(link.workload.container, None);
    assert_eq!(&*link.workload.pod_uid, UID);
    assert!(node.call(1, 5).is_some());
    // Once it is known, what comes on either is right.
    node.set(pod(UID, "cart-x", "10.244.1.7", &[ID]), 10);
    assert_eq!(node.settle(11), []);
    for id in [1, 2] {
        let call = node.call(id, 11).unwrap();
        assert!(call.link.workload.container.is_some(), "{id}");
    }
}

#[test]
fn both_ends_of_this_host_are_pods() {
    let mut node = Node::new();
    let client = Connection {
        sequences: Some((7, 9)),
        ..node.client(1, "10.244.1.7:80")
    };
    let server = Connection {
        id: ConnectionId(2),
        role: Role::Server,
        local: client.remote,
        remote: client.local,
        sequences: Some((9, 7)),
        ..client.clone()
    };
    let is_named = |link: &Link| {
        let local = matches!(link.peer, Peer::Local(_));
        let named = |pod: Option<&Arc<_>>| pod.is_some();
        local && named(link.workload.pod()) && named(link.peer.pod())
    };
    // Known from the start: whichever comes first.
    node.set(pod(UID, "cart-x", "10.244.1.7", &[ID]), 0);
    assert!(node.open(&client, 1).is_some());
    assert!(is_named(&node.open(&server, 1).unwrap()));
    assert!(is_named(node.bench.enricher.link(ConnectionId(1)).unwrap()));
    // Known later: what comes on both ends waits, also when one had been told as not in a pod.
    let mut node = Node::new();
    let outside = Connection {
        owner: Owner::default(),
        ..client.clone()
    };
    let server = Connection {
        owner: node.client(2, OUTSIDE).owner,
        ..server
    };
    assert!(node.open(&outside, 1).is_none(), "its address is a pod's");
    assert!(node.open(&server, 1).is_none());
    assert!(node.call(1, 1).is_none());
    node.set(pod(UID, "cart-x", "10.244.1.7", &[ID]), 2);
    assert_eq!(node.settle(2).len(), 3);
    let call = node.call(1, 2).unwrap();
    assert!(call.link.peer.pod().is_some());
}

/// As with a listener that is older than the observer: its first packet alone tells whose it is.
#[test]
fn an_end_that_is_placed_late_is_a_pod_for_the_other_one_too() {
    let mut node = Node::new();
    node.set(pod(UID, "cart-x", "10.244.1.7", &[ID]), 0);
    let client = Connection {
        sequences: Some((7, 9)),
        ..node.client(1, "10.244.1.7:80")
    };
    let server = Connection {
        id: ConnectionId(2),
        role: Role::Server,
        local: client.remote,
        remote: client.local,
        sequences: Some((9, 7)),
        owner: Owner::default(),
        ..client.clone()
    };
    node.open(&client, 1);
    node.open(&server, 1);
    let placed = |node: &mut Node| {
        let event = ConnectionEvent::Placed {
            id: ConnectionId(2),
            cgroup: node.cgroup,
            wire: None,
        };
        let bench = &mut node.bench;
        bench.enricher.connection(event, &mut bench.host, at(1));
    };
    placed(&mut node);
    let call = node.call(1, 1).unwrap();
    assert_eq!(&*call.link.peer.pod().unwrap().name, "cart-x");
    assert!(node.call(2, 1).unwrap().link.workload.pod().is_some());

    // Where the pod is not known yet, both wait.
    let mut node = Node::new();
    let client = Connection {
        owner: node.client(1, OUTSIDE).owner,
        remote: "127.0.0.1:80".parse().unwrap(),
        local: "127.0.0.1:4000".parse().unwrap(),
        ..client
    };
    let server = Connection {
        local: client.remote,
        remote: client.local,
        ..server
    };
    let outside = Connection {
        owner: Owner::default(),
        ..client
    };
    assert!(node.open(&outside, 1).is_some());
    assert!(node.open(&server, 1).is_some());
    placed(&mut node);
    assert!(node.call(1, 1).is_none());
    assert!(node.call(2, 1).is_none());
    node.set(pod(UID, "cart-x", "10.244.1.7", &[ID]), 2);
    assert_eq!(node.settle(2).len(), 2);
    assert!(node.call(1, 2).unwrap().link.peer.pod().is_some());
}

#[test]
fn the_other_end_is_a_pod_and_a_service() {
    let mut node = Node::new();
    node.set(pod(UID, "cart-x", "10.244.1.7", &[ID]), 0);
    node.set(pod(OTHER, "pay-y", "10.244.2.8", &[]), 0);
    node.set(service("pay", "10.96.0.20", 80), 0);
    let link = node.open(&node.client(1, "10.244.2.8:8080"), 1).unwrap();
    assert_eq!(&*link.peer.pod().unwrap().name, "pay-y");
    assert_eq!(link.peer.service(), Some("pay"));
    assert_eq!(link.dialled, None);
    // Nobody here translates: the Service alone is known.
    let link = node.open(&node.client(2, "10.96.0.20:80"), 1).unwrap();
    let dialled = link.dialled.as_ref().unwrap();
    assert_eq!(
        (&*dialled.name, dialled.dialled),
        ("pay", Dialled::ClusterIp)
    );
    assert_eq!(link.peer, Peer::Address("10.96.0.20".parse().unwrap()));
    // What its own packets say is as good as what the node's table says.
    let translated = Connection {
        wire: Some((
            "10.244.1.7:40000".parse().unwrap(),
            "10.244.2.8:8080".parse().unwrap(),
        )),
        ..node.client(3, "10.96.0.20:80")
    };
    let link = node.open(&translated, 1).unwrap();
    assert_eq!(&*link.peer.pod().unwrap().name, "pay-y");
    assert_eq!(&*link.dialled.as_ref().unwrap().name, "pay");
}

#[test]
fn an_end_of_this_node_of_which_nothing_was_seen_is_known_by_its_address() {
    let mut node = Node::new();
    node.set(pod(UID, "cart-x", "10.244.1.7", &[ID]), 0);
    node.set(pod(OTHER, "pay-y", "10.244.2.8", &[]), 0);
    let server = Connection {
        owner: Owner::default(),
        sequences: Some((9, 7)),
        ..connection(1, Role::Server, "10.244.2.8:8080", "10.244.1.7:40000", "")
    };
    node.open(&server, 1);
    let client = Connection {
        sequences: Some((7, 9)),
        ..node.client(2, "10.244.2.8:8080")
    };
    let link = node.open(&client, 1).unwrap();
    assert_eq!(&*link.peer.pod().unwrap().name, "pay-y");
}

#[test]
fn an_address_of_the_cluster_that_nobody_has_is_waited_for_once() {
    let mut node = Node::new();
    node.set(pod(UID, "cart-x", "10.244.1.7", &[ID]), 0);
    assert_eq!(node.open(&node.client(1, "10.244.2.8:80"), 1), None);
    assert_eq!(node.open(&node.client(2, "10.244.2.9:80"), 1), None);
    assert_eq!(node.call(1, 1), None);
    node.set(pod(OTHER, "pay-y", "10.244.2.8", &[]), 2);
    let told = node.settle(2);
    assert_eq!(told.len(), 2);
    for mut one in told {
        assert_eq!(&*one.link_mut().unwrap().peer.pod().unwrap().name, "pay-y");
    }
    assert_eq!(node.settle(HOLD + 1).len(), 1);
    assert_eq!(node.bench.lost("peer_unknown"), 2, "the link and its event");
    assert!(node.open(&node.client(3, "10.244.2.9:80"), 5).is_some());
    // After a while it may be worth waiting again.
    node.bench.enricher.expire(at(5));
    node.bench.enricher.expire(at(70));
    assert!(node.open(&node.client(4, "10.244.2.9:80"), 70).is_none());
}

#[test]
fn attempts_that_fail_wait_too() {
    let mut node = Node::new();
    let failed = ConnectionEvent::Failed {
        connection: node.client(1, OUTSIDE),
        at: at(1),
        failure: ConnectFailure::Refused,
    };
    assert_eq!(node.bench.event(failed, 1), None);
    node.set(pod(UID, "cart-x", "10.244.1.7", &[ID]), 2);
    let told = node.settle(2);
    let [Told::Link(LinkEvent::Failed { link, .. })] = &told[..] else {
        panic!("{told:?}");
    };
    assert!(link.workload.container.is_some());
}

#[test]
fn lookups_name_the_service_that_was_asked() {
    let mut node = Node::new();
    let Object::Service(mut dns) = service("kube-dns", "10.96.0.10", 53) else {
        unreachable!();
    };
    dns.ports[0].protocol = 17;
    node.set(Object::Service(dns), 0);
    let asked = Lookup {
        owner: Owner {
            cgroup: node.cgroup,
            ..Owner::default()
        },
        ..lookup("", "pay.shop.svc.cluster.local", "10.96.0.20")
    };
    let Bench { host, enricher, .. } = &mut node.bench;
    assert_eq!(enricher.lookup(asked, host, at(1)), None);
    node.set(pod(UID, "cart-x", "10.244.1.7", &[ID]), 2);
    let told = node.settle(2);
    let [Told::Lookup(resolution)] = &told[..] else {
        panic!("{told:?}");
    };
    assert!(resolution.workload.container.is_some());
    assert_eq!(&*resolution.dialled.as_ref().unwrap().name, "kube-dns");
}

#[test]
fn a_node_is_a_node() {
    let mut node = Node::new();
    node.set(pod(UID, "cart-x", "10.244.1.7", &[ID]), 0);
    node.set(
        Object::Node(NodeObject {
            uid: "n2".into(),
            name: "n2".into(),
            addresses: vec!["192.168.0.2".parse().unwrap()],
            zone: "z".into(),
            ..NodeObject::default()
        }),
        0,
    );
    let link = node.open(&node.client(1, "192.168.0.2:10250"), 1).unwrap();
    assert_eq!(link.peer.name(), Some("n2"));
    assert!(matches!(link.peer, Peer::Node(_)));
}
