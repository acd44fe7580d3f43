//! Pods, what is declared for them, and their traffic, for tests of the ledger.

mod wires;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use super::super::{Config, Ledger};
use crate::{
    mesh::report::Report,
    model::{
        call::{Call, Link, LinkEvent},
        connection::{ClosedBy, Connection, ConnectionId, Owner as Process, Role, Transfer},
        exchange::{Exchange, HttpVersion, Outcome, RequestHead, Side},
        kubernetes::{Container, Node, Owner, Pod, Service},
        mesh::{Far, FarSource, Forwarded, Hop, ProxyKind},
        policy::{PolicyChange, PolicyKind, PolicyObject, PortFacts, ServiceFacts, Traits},
        security::{Handshake, MeshSigns, Opening, Security},
        time::{Monotonic, WallOffset},
        workload::{Peer, Workload},
    },
};

/// Who carries the traffic of a pod that is made up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mesh {
    None,
    Sidecar,
    Ambient,
    Linkerd,
}

/// A ledger, its clock, and what is in its cluster.
pub(super) struct World {
    pub(super) ledger: Ledger,
    pub(super) now: Monotonic,
    /// Calls are probes.
    pub(super) probes: bool,
    next: u64,
}

/// A connection that is made up.
#[derive(Clone)]
pub(super) struct Wire {
    pub(super) hop: Hop,
    pub(super) role: Role,
    pub(super) own: Arc<Pod>,
    pub(super) container: &'static str,
    pub(super) peer: Peer,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    pub(super) security: Security,
    pub(super) dialled: Option<Arc<Service>>,
    pub(super) opening: Option<Opening>,
    pub(super) mesh: Option<MeshSigns>,
    pub(super) far: Option<Arc<Far>>,
    pub(super) received: u64,
    pub(super) sent: u64,
    pub(super) by: ClosedBy,
    pub(super) reset: bool,
    pub(super) pre_existing: bool,
    pub(super) namespace: u64,
    /// How often the server answered, and how long that took each time.
    pub(super) turns: (u64, Duration),
}

pub(super) fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address and a port")
}

fn pairs(list: &[(&str, &str)]) -> Box<[(Box<str>, Box<str>)]> {
    let mut list: Vec<(Box<str>, Box<str>)> = list
        .iter()
        .map(|(name, value)| ((*name).into(), (*value).into()))
        .collect();
    list.sort();
    list.into()
}

/// A pod of a Deployment, which its namespace and label `app` are named after.
pub(super) fn pod(name: &str, mesh: Mesh, change: impl FnOnce(&mut Traits)) -> Arc<Pod> {
    let mut labels = vec![("app", name)];
    let mut annotations = Vec::new();
    let mut containers: Vec<Box<str>> = vec!["app".into()];
    match mesh {
        Mesh::None => {}
        Mesh::Sidecar => {
            labels.push(("security.istio.io/tlsMode", "istio"));
            annotations.push(("sidecar.istio.io/status", "{}"));
            containers.push("istio-proxy".into());
        }
        Mesh::Ambient => annotations.push(("ambient.istio.io/redirection", "enabled")),
        Mesh::Linkerd => {
            labels.push(("linkerd.io/control-plane-ns", "linkerd"));
            containers.push("linkerd-proxy".into());
        }
    }
    let mut traits = Traits {
        service_account: name.into(),
        labels: pairs(&labels),
        annotations: pairs(&annotations),
        containers: containers.into(),
        ports: Box::default(),
        host_network: false,
    };
    change(&mut traits);
    let owner = |kind: &str, name: String| Owner {
        kind: kind.into(),
        name: name.into(),
    };
    Arc::new(Pod {
        uid: format!("uid-{name}-{mesh:?}").into(),
        namespace: "shop".into(),
        name: format!("{name}-1").into(),
        owners: [
            owner("ReplicaSet", format!("{name}-7f")),
            owner("Deployment", name.to_owned()),
        ]
        .into(),
        traits: Arc::new(traits),
        ..Pod::default()
    })
}

/// Adds an annotation.
pub(super) fn annotated(name: &'static str, value: &'static str) -> impl FnOnce(&mut Traits) {
    move |traits| {
        let mut all: Vec<_> = traits.annotations.to_vec();
        all.push((name.into(), value.into()));
        all.sort();
        traits.annotations = all.into();
    }
}

/// Adds a label.
pub(super) fn labelled(name: &'static str, value: &'static str) -> impl FnOnce(&mut Traits) {
    move |traits| {
        let mut all: Vec<_> = traits.labels.to_vec();
        all.push((name.into(), value.into()));
        all.sort();
        traits.labels = all.into();
    }
}

pub(super) fn same(_: &mut Traits) {}

pub(super) fn workload(pod: &Arc<Pod>, container: &str) -> Arc<Workload> {
    Arc::new(Workload {
        service: pod.owners.last().map_or("", |owner| &owner.name).into(),
        container: Some(Container {
            pod: pod.clone(),
            name: container.into(),
        }),
        ..Workload::default()
    })
}

/// An opening whose TLS came to a connection, in this version and with this cipher.
pub(super) fn tls(version: u16, cipher: u16) -> Opening {
    Opening {
        protocol: Some("tls"),
        tls: Some(Arc::new(Handshake {
            version: Some(version),
            cipher: Some(cipher),
            established: true,
            ..Handshake::default()
        })),
        ..Opening::default()
    }
}

pub(super) fn cart_service() -> Arc<Service> {
    Arc::new(Service {
        namespace: "shop".into(),
        name: "cart".into(),
        ..Service::default()
    })
}

impl World {
    pub(super) fn new() -> Self {
        Self {
            ledger: Ledger::new(Config::default()),
            now: Monotonic(1_000_000_000_000_000),
            probes: false,
            next: 1,
        }
    }

    /// The Service `cart` and its namespace, and time for all of it to settle.
    pub(super) fn shop(labels: &[(&str, &str)], declare: impl FnOnce(&mut Self)) -> Self {
        let mut world = Self::new();
        world.namespace("shop", labels, &[]);
        world.service("cart", &[]);
        declare(&mut world);
        world.pass(120);
        world
    }

    pub(super) fn pass(&mut self, seconds: u64) {
        self.now = self.now.plus(Duration::from_secs(seconds));
        self.ledger.tick(self.now);
    }

    fn change(&mut self, change: PolicyChange) {
        self.ledger.declare(change, self.now);
    }

    pub(super) fn namespace(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        annotations: &[(&str, &str)],
    ) {
        self.next += 1;
        self.change(PolicyChange::Set(Arc::new(PolicyObject {
            kind: PolicyKind::Namespace,
            uid: format!("ns-{name}").into(),
            namespace: "".into(),
            name: name.into(),
            version: self.next.to_string().into(),
            created: 1,
            labels: pairs(labels),
            annotations: pairs(annotations),
            content: "{}".into(),
        })));
    }

    pub(super) fn service(&mut self, name: &str, labels: &[(&str, &str)]) {
        self.facts(name, labels, "http");
    }

    /// Gives the port of a Service this name.
    pub(super) fn port(&mut self, service: &str, name: &str) {
        self.facts(service, &[], name);
    }

    fn facts(&mut self, name: &str, labels: &[(&str, &str)], port: &str) {
        self.change(PolicyChange::SetService(Arc::new(ServiceFacts {
            uid: format!("svc-{name}").into(),
            namespace: "shop".into(),
            name: name.into(),
            selector: pairs(&[("app", name)]),
            labels: pairs(labels),
            ports: [PortFacts {
                name: port.into(),
                port: 80,
                target: 8080,
                ..PortFacts::default()
            }]
            .into(),
            ..ServiceFacts::default()
        })));
    }

    /// Declares an object; its uid is its kind and name.
    pub(super) fn object(&mut self, kind: PolicyKind, place: &str, content: &str) {
        let (namespace, name) = place.split_once('/').expect("namespace/name");
        self.next += 1;
        self.change(PolicyChange::Set(Arc::new(PolicyObject {
            kind,
            uid: format!("{}-{place}", kind.as_str()).into(),
            namespace: namespace.into(),
            name: name.into(),
            version: self.next.to_string().into(),
            created: 1,
            labels: Box::default(),
            annotations: Box::default(),
            content: content.into(),
        })));
    }

    pub(super) fn remove(&mut self, kind: PolicyKind, place: &str) {
        let uid = format!("{}-{place}", kind.as_str()).into();
        self.change(PolicyChange::Remove(kind, uid));
    }

    /// Mutual TLS of the whole mesh, in this mode.
    pub(super) fn mode(&mut self, mode: &str) {
        let content = format!(r#"{{"spec":{{"mtls":{{"mode":"{mode}"}}}}}}"#);
        self.object(
            PolicyKind::PeerAuthentication,
            "istio-system/default",
            &content,
        );
    }

    pub(super) fn open(&mut self, wire: &Wire) -> Arc<Link> {
        self.next += 1;
        let link = Arc::new(wire.link(self.next, self.now));
        self.ledger.link(&LinkEvent::Opened(link.clone()), self.now);
        link
    }

    /// A link of a connection that is not opened.
    pub(super) fn link(&mut self, wire: &Wire) -> Arc<Link> {
        self.next += 1;
        Arc::new(wire.link(self.next, self.now))
    }

    pub(super) fn progress(&mut self, wire: &Wire, link: &Arc<Link>) {
        let event = LinkEvent::Progress {
            link: link.clone(),
            transfer: transfer(wire),
        };
        self.ledger.link(&event, self.now);
    }

    pub(super) fn close(&mut self, wire: &Wire, link: Arc<Link>) {
        let transfer = transfer(wire);
        let closed = LinkEvent::Closed {
            link,
            at: self.now,
            by: wire.by,
            reset: wire.reset,
            transfer,
        };
        self.ledger.link(&closed, self.now);
    }

    /// So many connections, one after the other.
    pub(super) fn connect(&mut self, count: usize, wire: &Wire) {
        for _ in 0..count {
            let link = self.open(wire);
            self.close(wire, link);
        }
        self.pass(1);
    }

    /// A connection that carries something at once, nothing later, and stays open.
    pub(super) fn keep(&mut self, wire: &Wire) {
        let link = self.open(wire);
        self.progress(wire, &link);
        self.pass(1);
        self.pass(2);
    }

    pub(super) fn call(&mut self, link: &Arc<Link>, change: impl FnOnce(&mut Exchange)) {
        self.call_of(link, None, change);
    }

    /// A call, and whom it is really with.
    pub(super) fn call_of(
        &mut self,
        link: &Arc<Link>,
        far: Option<Arc<Far>>,
        change: impl FnOnce(&mut Exchange),
    ) {
        let side = Side {
            first: self.now,
            last: self.now,
            ..Side::default()
        };
        let mut exchange = Exchange {
            connection: link.connection.id,
            role: link.connection.role,
            ordinal: 0,
            request: Arc::new(RequestHead {
                method: "GET".into(),
                path: "/items".into(),
                has_query: false,
                scheme: None,
                authority: "cart".into(),
                user_agent: "".into(),
                version: HttpVersion::Http11,
                truncated: false,
            }),
            sent: side,
            status: Some(200),
            response_version: Some(HttpVersion::Http11),
            received: Some(side),
            stream: None,
            pushed: false,
            reset: None,
            rpc: None,
            outcome: Outcome::Complete,
            ended: self.now.plus(Duration::from_millis(10)),
            hop: (0, 0),
            context: None,
            cause: None,
            forwarded: None,
        };
        change(&mut exchange);
        let call = Call {
            link: link.clone(),
            exchange,
            route: "".into(),
            error: None,
            http_error: None,
            far,
            probe: self.probes,
        };
        self.ledger.call(&call, self.now);
    }

    /// So many calls on one connection.
    pub(super) fn calls(
        &mut self,
        count: usize,
        wire: &Wire,
        mut change: impl FnMut(usize, &mut Exchange),
    ) {
        let link = self.open(wire);
        for index in 0..count {
            self.call(&link, |exchange| change(index, exchange));
        }
        self.close(wire, link);
        self.pass(1);
    }

    pub(super) fn report(&self) -> Report {
        self.ledger.report(None, self.now, WallOffset::default())
    }

    /// Ids of all that is found of edges, but for what is only to know.
    pub(super) fn found(&self) -> Vec<&'static str> {
        const OWN: [&str; 16] = [
            "M01", "M02", "M04", "M05", "M06", "M07", "M08", "M09", "M10", "M11", "M12", "M27",
            "M30", "M31", "M32", "M34",
        ];
        let mut ids: Vec<&'static str> = self
            .report()
            .findings
            .iter()
            .map(|finding| finding.id)
            .filter(|id| OWN.contains(id))
            .collect();
        ids.sort_unstable();
        ids
    }
}

fn transfer(wire: &Wire) -> Transfer {
    let nanoseconds = wire.turns.1.as_nanos() * u128::from(wire.turns.0);
    Transfer {
        received_bytes: wire.received,
        sent_bytes: wire.sent,
        turns: wire.turns.0,
        turn_nanoseconds: u64::try_from(nanoseconds).expect("it is short"),
        ..Transfer::default()
    }
}

/// What Envoy tells in fields.
pub(super) fn by_envoy(attempt: Option<u16>) -> Option<Arc<Forwarded>> {
    Some(Arc::new(Forwarded {
        attempt,
        by_envoy: true,
        ..Forwarded::default()
    }))
}

/// A node as a peer.
pub(super) fn node() -> Peer {
    Peer::Node(Arc::new(Node {
        name: "worker-1".into(),
        ..Node::default()
    }))
}
