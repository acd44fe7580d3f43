//! Calls through proxies: whom they are really with, and what that rests on.

use super::*;
use crate::{
    cluster::object::{Endpoint, EndpointsObject},
    model::{
        mesh::{FarSource, Forwarded, Hop},
        policy::Traits,
        security::{Handshake, Opening, Security},
    },
};

mod ambient;

const SIDECAR: &str = "9f3c5a0f1e7d4b6a9c2e0d1f3b5a79878f3c5a0f1e7d4b6a9c2e0d1f3b5a7987";
/// Address of the pod of this node, of Service `orders`, and of its first pod elsewhere.
const OWN: &str = "10.244.1.7";
const SERVICE: &str = "10.96.0.10:80";
const REMOTE: &str = "10.244.2.9";

/// A node with one pod of an application and a sidecar.
struct Meshed {
    node: Node,
    /// Inode of the sidecar's cgroup.
    sidecar: u64,
}

fn object(uid: &str, name: &str, address: &str, account: &str, ids: &[(&str, &str)]) -> Object {
    let Object::Pod(mut pod) = pod(uid, name, address, &[]) else {
        unreachable!()
    };
    let workload = name.split('-').next().unwrap();
    pod.owners = vec![Controller {
        kind: "Deployment".into(),
        name: workload.into(),
    }];
    pod.containers = ids
        .iter()
        .map(|(container, id)| ContainerObject {
            name: (*container).into(),
            ids: vec![(*id).into()],
            ..ContainerObject::default()
        })
        .collect();
    pod.traits = Arc::new(Traits {
        service_account: account.into(),
        containers: ["app".into(), "istio-proxy".into()].into(),
        ..Traits::default()
    });
    Object::Pod(pod)
}

fn endpoints(uid: &str, addresses: &[(&str, &str)]) -> Object {
    Object::Endpoints(EndpointsObject {
        uid: uid.into(),
        namespace: "shop".into(),
        service: "orders".into(),
        ports: vec![(6, 8080)],
        endpoints: addresses
            .iter()
            .map(|(address, uid)| Endpoint {
                address: address.parse().unwrap(),
                pod_uid: (*uid).into(),
            })
            .collect(),
    })
}

impl Meshed {
    fn new() -> Self {
        let mut node = Node::new();
        let root = node.bench._folder.path().join("cgroup");
        let path = root.join(format!("kubepods/burstable/pod{UID}/{SIDECAR}"));
        std::fs::create_dir_all(&path).unwrap();
        let sidecar = std::fs::metadata(&path).unwrap().ino();
        let ids = [("app", ID), ("istio-proxy", SIDECAR)];
        node.set(object(UID, "cart-x", OWN, "cart", &ids), 0);
        node.set(object(OTHER, "orders-y", REMOTE, "orders", &[]), 0);
        node.set(service("orders", "10.96.0.10", 80), 0);
        node.set(endpoints("slice", &[(REMOTE, OTHER)]), 0);
        Self { node, sidecar }
    }

    fn open(
        &mut self,
        id: u64,
        sidecar: bool,
        role: Role,
        addresses: (&str, &str),
        wire: Option<&str>,
    ) {
        let client = self.node.client(id, addresses.1);
        let mut connection = Connection {
            role,
            local: addresses.0.parse().unwrap(),
            wire: wire.map(|far| (addresses.0.parse().unwrap(), far.parse().unwrap())),
            sequences: Some((u32::try_from(id).unwrap() / 10, role as u32)),
            ..client
        };
        if sidecar {
            connection.owner.cgroup = self.sidecar;
        }
        self.node.open(&connection, 1).expect("all is known");
    }

    /// The application's connection to its sidecar, and the sidecar's end of it.
    fn dial(&mut self) {
        let own = "10.244.1.7:40000";
        self.open(
            10,
            false,
            Role::Client,
            (own, SERVICE),
            Some("127.0.0.1:15001"),
        );
    }

    /// A connection of the sidecar on the network.
    fn wire(&mut self, id: u64, role: Role, remote: &str, opening: Opening) {
        let local = match role {
            Role::Server => "10.244.1.7:15006",
            _ => "10.244.1.7:41000",
        };
        self.open(id, true, role, (local, remote), None);
        let event = ConnectionEvent::Recognised {
            id: ConnectionId(id),
            opening: Arc::new(opening),
        };
        self.node.bench.event(event, 1);
    }

    /// A call that has to wait for what its proxy's connections show.
    fn held(&mut self, id: u64) {
        let exchange = exchange(id, Role::Server, &head("/"));
        let told = self.node.bench.enricher.exchange(exchange, at(2));
        assert_eq!(told, None);
    }

    /// The only call that is told by then.
    fn told(&mut self, now: u64) -> Call {
        match self.node.settle(now).as_slice() {
            [Told::Call(call)] => call.clone(),
            other => panic!("{other:?}"),
        }
    }

    fn call(&mut self, id: u64, role: Role, forwarded: Option<&str>) -> Call {
        let mut exchange = exchange(id, role, &head("/"));
        exchange.forwarded = forwarded.map(|uri| {
            Arc::new(Forwarded {
                client_uri: Some(uri.into()),
                ..Forwarded::default()
            })
        });
        self.node.bench.enricher.exchange(exchange, at(2)).unwrap()
    }
}

fn mutual(subset: &str) -> Opening {
    Opening {
        protocol: Some("tls"),
        tls: Some(Arc::new(Handshake {
            server_name: Some(
                format!("outbound_.80_.{subset}_.orders.shop.svc.cluster.local").into(),
            ),
            alpn_offered: ["istio".into()].into(),
            ..Handshake::default()
        })),
        ..Opening::default()
    }
}

fn plain() -> Opening {
    Opening {
        protocol: Some("http/1"),
        ..Opening::default()
    }
}

fn name(peer: &Peer) -> String {
    format!("{} {}", peer.kind(), peer.name().unwrap_or_default())
}

#[test]
fn a_call_to_a_sidecar_is_one_to_the_workload_behind_the_service() {
    let mut meshed = Meshed::new();
    meshed.dial();
    let call = meshed.call(10, Role::Client, None);
    assert_eq!(call.link.hop, Hop::ToProxy);
    let far = call.far().unwrap();
    assert_eq!(
        (name(&far.peer), far.source),
        ("pod orders".to_owned(), FarSource::Service)
    );
    assert_eq!(
        far.security,
        Security::Unknown,
        "the sidecar has nothing open yet"
    );
    // The sidecar connects when the first request is there.
    meshed.wire(20, Role::Client, "10.244.2.9:8080", mutual(""));
    let call = meshed.call(10, Role::Client, None);
    assert_eq!(call.secured(), Security::IstioMutualTls);
    let before = call.link.clone();
    assert!(
        Arc::ptr_eq(&before, &meshed.call(10, Role::Client, None).link),
        "nothing new, nothing made"
    );
    // In the clear to another pod of it: that is not one way any more.
    meshed.wire(30, Role::Client, "10.244.2.9:8080", plain());
    assert_eq!(
        meshed.call(10, Role::Client, None).secured(),
        Security::Unknown
    );
}

#[test]
fn of_several_workloads_behind_a_service_none_is_told_by_chance() {
    let mut meshed = Meshed::new();
    let third = "7d3f9e0c-1b7a-4a4e-9b0e-0f1e2d3c4b5a";
    meshed.node.set(
        object(third, "ordersnext-z", "10.244.2.10", "orders", &[]),
        0,
    );
    meshed.node.set(
        endpoints("slice", &[(REMOTE, OTHER), ("10.244.2.10", third)]),
        0,
    );
    meshed.dial();
    assert_eq!(
        name(meshed.call(10, Role::Client, None).peer()),
        "service orders"
    );
    meshed.wire(20, Role::Client, "10.244.2.10:8080", mutual("v2"));
    assert_eq!(
        name(meshed.call(10, Role::Client, None).peer()),
        "service orders"
    );
    // Two that it may be: nobody says which.
    meshed.wire(30, Role::Client, "10.244.2.9:8080", mutual("v1"));
    let call = meshed.call(10, Role::Client, None);
    assert_eq!(name(call.peer()), "service orders");
    assert_eq!(call.secured(), Security::IstioMutualTls, "both ways are");
}

#[test]
fn a_call_from_a_sidecar_is_one_of_whom_it_vouches_for() {
    let mut meshed = Meshed::new();
    meshed.open(
        40,
        false,
        Role::Server,
        ("10.244.1.7:8080", "127.0.0.6:40001"),
        None,
    );
    // Nothing is known of who called: that may come, and is waited for briefly.
    meshed.held(40);
    assert_eq!(meshed.node.settle(2), []);
    let nobody = meshed.told(4);
    assert_eq!(nobody.link.hop, Hop::FromProxy);
    assert_eq!(nobody.far().unwrap().source, FarSource::Unknown);
    let uri = "spiffe://cluster.local/ns/shop/sa/orders";
    let call = meshed.call(40, Role::Server, Some(uri));
    let far = call.far().unwrap();
    assert_eq!(
        (name(&far.peer), far.source),
        ("pod orders".to_owned(), FarSource::Identity)
    );
    assert_eq!(far.security, Security::IstioMutualTls);
    assert_eq!(&*far.identity.as_ref().unwrap().service_account, "orders");
    // Another's on the same connection.
    let call = meshed.call(
        40,
        Role::Server,
        Some("spiffe://cluster.local/ns/shop/sa/else"),
    );
    assert_eq!(name(call.peer()), "identity else");
    // Nobody vouches for who comes in the clear: the one of those that the sidecar has.
    meshed.held(40);
    meshed.wire(50, Role::Server, "10.244.2.9:50000", plain());
    let call = meshed.told(2);
    assert_eq!(name(call.peer()), "pod orders");
    assert_eq!(
        (call.far().unwrap().source, call.secured()),
        (FarSource::Connections, Security::Plaintext)
    );
}

#[test]
fn a_caller_who_is_gone_before_anybody_looks_is_told_all_the_same() {
    let mut meshed = Meshed::new();
    meshed.open(
        40,
        false,
        Role::Server,
        ("10.244.1.7:8080", "127.0.0.6:40001"),
        None,
    );
    meshed.held(40);
    meshed.wire(50, Role::Server, "10.244.2.9:50000", plain());
    let enricher = &mut meshed.node.bench.enricher;
    enricher.wires.close(ConnectionId(50), at(2));
    enricher.forget(ConnectionId(50));
    let call = meshed.told(2);
    assert_eq!(name(call.peer()), "pod orders");
    assert_eq!(call.secured(), Security::Plaintext);
    // Who comes later is somebody else.
    let mut later = exchange(40, Role::Server, &head("/"));
    later.sent.first = at(3);
    let enricher = &mut meshed.node.bench.enricher;
    assert_eq!(enricher.exchange(later, at(4)), None);
    assert_eq!(meshed.told(5).far().unwrap().source, FarSource::Unknown);
}

#[test]
fn of_several_workloads_with_an_account_the_sidecars_connections_tell() {
    let mut meshed = Meshed::new();
    let third = "7d3f9e0c-1b7a-4a4e-9b0e-0f1e2d3c4b5a";
    meshed.node.set(
        object(third, "ordersnext-z", "10.244.2.10", "orders", &[]),
        0,
    );
    meshed.open(
        40,
        false,
        Role::Server,
        ("10.244.1.7:8080", "127.0.0.6:40001"),
        None,
    );
    let uri = "spiffe://cluster.local/ns/shop/sa/orders";
    assert_eq!(
        name(meshed.call(40, Role::Server, Some(uri)).peer()),
        "identity orders"
    );
    meshed.wire(50, Role::Server, "10.244.2.10:50000", mutual(""));
    assert_eq!(
        name(meshed.call(40, Role::Server, Some(uri)).peer()),
        "pod ordersnext"
    );
    meshed.wire(60, Role::Server, "10.244.2.9:50000", mutual(""));
    assert_eq!(
        name(meshed.call(40, Role::Server, Some(uri)).peer()),
        "identity orders"
    );
}

/// A call from a proxy that keeps the address of who called.
fn call_from(meshed: &mut Meshed, remote: &str) -> Call {
    meshed.open(60, false, Role::Server, ("10.244.1.7:8080", remote), None);
    let mut proxy = meshed.node.client(70, "10.244.1.7:8080");
    proxy.local = remote.parse().unwrap();
    proxy.owner.cgroup = meshed.sidecar;
    proxy.sequences = Some((Role::Server as u32, 6));
    meshed.node.open(&proxy, 1).expect("all is known");
    let exchange = exchange(60, Role::Server, &head("/"));
    let enricher = &mut meshed.node.bench.enricher;
    match enricher.exchange(exchange, at(2)) {
        Some(call) => call,
        None => meshed.told(4),
    }
}

/// Of several that nobody vouches for, it was the one that was there when the request came.
#[test]
fn clients_without_an_identity_are_told_apart_by_when_they_were_connected() {
    let mut meshed = Meshed::new();
    let third = "7d3f9e0c-1b7a-4a4e-9b0e-0f1e2d3c4b5a";
    let other = object(third, "other-z", "10.244.2.10", "other", &[]);
    meshed.node.set(other, 0);
    let addresses = ("10.244.1.7:8080", "127.0.0.6:40001");
    meshed.open(40, false, Role::Server, addresses, None);
    meshed.wire(50, Role::Server, "10.244.2.9:50000", plain());
    meshed.wire(60, Role::Server, "10.244.2.10:50000", plain());
    let call = meshed.call(40, Role::Server, None);
    assert_eq!(call.far().unwrap().source, FarSource::Unknown);
    // The observer may be late: both may be gone by then.
    let wires = &mut meshed.node.bench.enricher.wires;
    wires.close(ConnectionId(50), at(1));
    wires.close(ConnectionId(60), at(3));
    for id in [50, 60] {
        meshed.node.bench.enricher.forget(ConnectionId(id));
    }
    let call = meshed.call(40, Role::Server, None);
    assert_eq!(
        (name(call.peer()), call.secured()),
        ("pod other".to_owned(), Security::Plaintext)
    );
    meshed.node.bench.enricher.wires.expire(at(7));
    assert_eq!(meshed.node.bench.enricher.wires.len(), 0);
}

#[test]
fn connections_of_sidecars_are_forgotten_with_their_end() {
    let mut meshed = Meshed::new();
    for id in 0..20 {
        meshed.wire(100 + 10 * id, Role::Client, "10.244.2.9:8080", mutual(""));
    }
    let enricher = &mut meshed.node.bench.enricher;
    assert_eq!(enricher.wires.len(), 20);
    for id in 0..20 {
        enricher.forget(ConnectionId(100 + 10 * id));
    }
    assert_eq!(enricher.wires.len(), 0);
}

#[test]
fn hops_are_told_as_they_are_where_that_is_asked_for() {
    let mut meshed = Meshed::new();
    meshed.node.bench.enricher.config.fold = false;
    meshed.dial();
    let call = meshed.call(10, Role::Client, None);
    assert_eq!((call.link.hop, call.far()), (Hop::Direct, None));
}
