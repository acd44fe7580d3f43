//! Calls and connections for tests.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use crate::model::{
    call::{Call, Link, LinkEvent},
    connection::{ClosedBy, Connection, ConnectionId, Owner, Role, Transfer},
    datagram::{Conversation, DatagramProtocol, Datagrams, Quic, Traffic},
    exchange::{Exchange, HttpVersion, Outcome, RequestHead, Side},
    kubernetes::{self, Container, Dialled, Node, Pod, Service, ServiceName},
    lookup::{Lookup, LookupOutcome, Resolution, Transport},
    mesh::{Far, FarSource, Hop, Identity},
    rpc::{Messages, Rpc, RpcEnd, RpcSystem},
    security::Security,
    time::Monotonic,
    workload::{NameSource, Peer, Runtime, Workload},
};

pub(crate) const SECOND: u64 = 1_000_000_000;

pub(crate) fn workload(service: &str) -> Arc<Workload> {
    Arc::new(Workload {
        service: service.into(),
        namespace: "shop".into(),
        version: "1".into(),
        source: NameSource::Unit,
        runtime: Runtime::Unit {
            name: format!("{service}.service").into(),
        },
        cgroup: format!("/system.slice/{service}.service").into(),
        pid: 4_242,
        command: service.into(),
        executable: format!("/usr/bin/{service}").into(),
        pod_uid: "".into(),
        container: None,
    })
}

/// A pod of Deployment `service` in namespace `shop`, on `node-1`, named `service-5d4f-SUFFIX`.
pub(crate) fn pod(service: &str, suffix: &str) -> Arc<Pod> {
    let owner = |kind: &str, name: &str| kubernetes::Owner {
        kind: kind.into(),
        name: name.into(),
    };
    Arc::new(Pod {
        uid: format!("uid-{service}-{suffix}").into(),
        namespace: "shop".into(),
        name: format!("{service}-5d4f-{suffix}").into(),
        node: Some(node("node-1")),
        owners: [
            owner("ReplicaSet", &format!("{service}-5d4f")),
            owner("Deployment", service),
        ]
        .into(),
        service: ServiceName {
            name: service.into(),
            namespace: "shop".into(),
            version: "1".into(),
        }
        .into(),
        labels: [("tier".into(), "front".into())].into(),
        annotations: Box::default(),
        traits: Arc::default(),
    })
}

pub(crate) fn node(name: &str) -> Arc<Node> {
    Arc::new(Node {
        name: name.into(),
        zone: "eu-1a".into(),
        region: "eu-1".into(),
    })
}

/// Container `main` of a [`pod`].
pub(crate) fn workload_in(service: &str, suffix: &str) -> Arc<Workload> {
    Arc::new(Workload {
        source: NameSource::Kubernetes,
        container: Some(Container {
            pod: pod(service, suffix),
            name: "main".into(),
        }),
        ..Workload::clone(&workload(service))
    })
}

/// A link of a pod of `service`; a client dialled Service `dialled`.
pub(crate) fn link_in(
    id: u64,
    (service, suffix): (&str, &str),
    role: Role,
    peer: Peer,
    dialled: Option<&str>,
) -> Arc<Link> {
    let mut link = Link::clone(&link_with(id, service, role, peer));
    link.workload = workload_in(service, suffix);
    link.security = Security::Plaintext;
    link.dialled = dialled.map(|name| {
        Arc::new(Service {
            namespace: "shop".into(),
            name: name.into(),
            dialled: Dialled::ClusterIp,
        })
    });
    Arc::new(link)
}

/// GET `/orders`, 200, of pod `web` from its proxy, which speaks for pod `cart` and has proved its
/// identity.
pub(crate) fn call_through_proxies() -> Call {
    let proxy = workload_in("web", "a");
    let mut link = Link::clone(&link_in(
        7,
        ("web", "a"),
        Role::Server,
        Peer::Local(proxy.clone()),
        None,
    ));
    link.hop = Hop::FromProxy;
    let text = "spiffe://cluster.local/ns/shop/sa/cart";
    link.far = Some(Arc::new(Far {
        peer: Peer::Pod(pod("cart", "k")),
        source: FarSource::Identity,
        security: Security::IstioMutualTls,
        identity: Some(Arc::new(Identity {
            text: text.into(),
            trust_domain: "cluster.local".into(),
            namespace: "shop".into(),
            service_account: "cart".into(),
        })),
        proxy: Some(proxy),
    }));
    call_on(&Arc::new(link), "/orders", 200)
}

/// An outside client of `service`.
pub(crate) fn link(id: u64, service: &str) -> Arc<Link> {
    link_with(
        id,
        service,
        Role::Server,
        Peer::Address([192, 0, 2, 7].into()),
    )
}

pub(crate) fn link_with(id: u64, service: &str, role: Role, peer: Peer) -> Arc<Link> {
    let near: SocketAddr = "10.0.0.1:8080".parse().unwrap();
    let far: SocketAddr = "192.0.2.7:40000".parse().unwrap();
    let (local, remote) = if role == Role::Client {
        (
            "10.0.0.1:40000".parse().unwrap(),
            "198.51.100.9:443".parse().unwrap(),
        )
    } else {
        (near, far)
    };
    Arc::new(Link {
        connection: Connection {
            id: ConnectionId(id),
            role,
            local,
            remote,
            wire: None,
            owner: Owner {
                pid: 4_242,
                command: service.to_owned(),
                ..Owner::default()
            },
            started: Monotonic(SECOND),
            established: Some(Monotonic(SECOND + 2_000_000)),
            sequences: Some((1, 2)),
            pre_existing: false,
        },
        workload: workload(service),
        peer,
        dialled: None,
        security: Security::Unknown,
        opening: None,
        mesh: None,
        hop: Hop::Direct,
        far: None,
    })
}

pub(crate) fn call(service: &str, path: &str, status: u16) -> Call {
    call_on(&link(1, service), path, status)
}

/// A GET of 10 ms with a body of 100 bytes.
pub(crate) fn call_on(link: &Arc<Link>, path: &str, status: u16) -> Call {
    let sent = Side {
        first: Monotonic(2 * SECOND),
        last: Monotonic(2 * SECOND),
        head_bytes: 80,
        body_bytes: 0,
    };
    let received = Side {
        first: Monotonic(2 * SECOND + 9_000_000),
        last: Monotonic(2 * SECOND + 10_000_000),
        head_bytes: 120,
        body_bytes: 100,
    };
    Call {
        link: link.clone(),
        exchange: Exchange {
            connection: link.connection.id,
            role: match link.connection.role {
                Role::Client => Role::Client,
                Role::Server | Role::Unknown => Role::Server,
            },
            ordinal: 3,
            request: head("GET", path),
            sent,
            status: Some(status),
            response_version: Some(HttpVersion::Http11),
            received: Some(received),
            stream: None,
            pushed: false,
            reset: None,
            rpc: None,
            outcome: Outcome::Complete,
            ended: Monotonic(2 * SECOND + 10_000_000),
            hop: (1, 2),
            context: None,
            cause: None,
            forwarded: None,
        },
        route: path.into(),
        error: (status >= 500).then_some("500"),
        http_error: (status >= 500).then_some("500"),
        far: None,
        probe: false,
    }
}

/// A gRPC call of 10 ms over HTTP/2: three requests, two responses.
pub(crate) fn rpc_on(link: &Arc<Link>, path: &str, end: RpcEnd) -> Call {
    let mut call = call_on(link, path, 200);
    let mut head = RequestHead::clone(&head("POST", path));
    head.version = HttpVersion::Http2;
    head.scheme = Some("https".into());
    let exchange = &mut call.exchange;
    exchange.request = Arc::new(head);
    exchange.response_version = Some(HttpVersion::Http2);
    exchange.stream = Some(7);
    let messages = |count, first, last| Messages {
        count,
        at_least: false,
        first: Some(Monotonic(first)),
        last: Some(Monotonic(last)),
    };
    let (sent, ended) = (exchange.sent.first.0, exchange.ended.0);
    exchange.rpc = Some(Box::new(Rpc {
        system: RpcSystem::Grpc,
        end,
        deadline: Some(Duration::from_secs(1)),
        requests: messages(3, sent + 1_000_000, sent + 2_000_000),
        responses: messages(2, ended - 1_000_000, ended - 500_000),
    }));
    call.error = end.status_name().filter(|status| *status != "OK");
    call
}

pub(crate) fn head(method: &str, path: &str) -> Arc<RequestHead> {
    Arc::new(RequestHead {
        method: method.into(),
        path: path.into(),
        has_query: true,
        scheme: None,
        authority: "shop.example".into(),
        user_agent: "curl/8".into(),
        version: HttpVersion::Http11,
        truncated: false,
    })
}

pub(crate) fn transfer(bytes: u64) -> Transfer {
    Transfer {
        received_bytes: bytes,
        sent_bytes: 10 * bytes,
        received_segments: 5,
        sent_segments: 6,
        retransmits: 1,
        smoothed_rtt_us: 300,
        minimum_rtt_us: Some(200),
        understood_bytes: 11 * bytes / 2,
        ..Transfer::default()
    }
}

pub(crate) fn closed(link: &Arc<Link>, bytes: u64) -> LinkEvent {
    LinkEvent::Closed {
        link: link.clone(),
        at: Monotonic(5 * SECOND),
        by: ClosedBy::Remote,
        reset: false,
        transfer: transfer(bytes),
    }
}

/// A lookup of 2 ms that `web` made.
pub(crate) fn resolution(role: Role, outcome: LookupOutcome, code: Option<u16>) -> Resolution {
    Resolution {
        lookup: Lookup {
            socket: ConnectionId(1),
            owner: Owner::default(),
            role,
            transport: Transport::Udp,
            local: "10.0.0.1:40000".parse().unwrap(),
            remote: "10.96.0.10:53".parse().unwrap(),
            name: "db.shop".into(),
            kind: 28,
            class: 1,
            outcome,
            code,
            sent: Monotonic(0),
            ended: Monotonic(2_000_000),
            retries: 1,
            answers: Box::default(),
        },
        workload: workload("web"),
        peer: Peer::Address("10.96.0.10".parse().unwrap()),
        dialled: None,
    }
}

/// Three datagrams between `web` and a peer with a name.
pub(crate) fn conversation(remote: &str, local: &str, quic: Option<Role>) -> Conversation {
    let remote: SocketAddr = remote.parse().unwrap();
    let quic = quic.map(|role| {
        Arc::new(Quic {
            version: 1,
            role,
            handshake: None,
        })
    });
    let change = Traffic {
        received_bytes: 200,
        sent_bytes: 100,
        received_packets: 2,
        sent_packets: 1,
    };
    Conversation {
        datagrams: Datagrams {
            socket: ConnectionId(1),
            owner: Owner::default(),
            local: local.parse().unwrap(),
            remote,
            protocol: match quic {
                Some(_) => DatagramProtocol::Quic,
                None => DatagramProtocol::Other,
            },
            quic,
            started: Monotonic(0),
            last: Monotonic(SECOND),
            change,
            total: change,
            ended: false,
        },
        workload: workload("web"),
        peer: Peer::Named {
            name: "cdn.example".into(),
            address: remote.ip(),
        },
        dialled: None,
    }
}
