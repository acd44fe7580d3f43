//! Objects that no sane API server would send, from their bytes to what the index answers: nothing
//! panics, tables stay bounded, and who is named was told to be there.

#[path = "hostile_objects/bent.rs"]
mod bent;

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use observer::{
    cluster::{
        Sight,
        index::{Config, Index},
        object::{Change, Kind, Object, PodObject, Source},
        owners::{Limits, Owners},
        read::{self, Event, Found, Losses, Pattern, Resource},
        stream::message::{decode_change, encode_object},
    },
    model::{
        kubernetes::{Dialled, Pod, Service},
        time::{Monotonic, WallOffset},
    },
};
use proptest::{prelude::*, sample::select};
use serde_json::{Value, json};

use bent::*;

/// What is told, and how it is bent before.
#[derive(Clone, Debug)]
struct Step {
    resource: Resource,
    source: Source,
    act: Act,
    /// Which of the few uids, names and addresses that all share.
    picks: [u8; 8],
    /// Where a value is replaced, and by which.
    bends: Vec<(u16, u8)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Set,
    Remove,
    Begin,
    Complete,
}

/// A cluster that is told, and all that it was told.
struct Told {
    index: Index,
    owners: Owners,
    losses: Losses,
    now: Monotonic,
    pods: Vec<Value>,
    nodes: Vec<Value>,
    services: Vec<Value>,
    slices: Vec<Value>,
    controllers: Vec<Value>,
}

const UIDS: [&str; 6] = [
    "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0",
    "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f1",
    "0f1e2d3c4b5a69788796a5b4c3d2e1f0",
    "no-uuid",
    "",
    "uid\nof two lines",
];
const NAMES: [&str; 5] = ["web", "shop-7d9f", "db", "", "name\u{7}"];
const ADDRESSES: [&str; 16] = [
    "10.1.0.4",
    "10.1.0.5",
    "::ffff:10.1.0.4",
    "10.9.0.1",
    "fd00::4",
    "0.0.0.0",
    "::",
    "127.0.0.1",
    "::1",
    "::ffff:127.0.0.1",
    "169.254.1.1",
    "224.0.0.1",
    "255.255.255.255",
    "",
    "10.1.0.4/24",
    "None",
];
const PORTS: [i64; 7] = [80, 443, 30080, 0, -1, 65_536, i64::MAX];
const LIMIT: usize = 4;
const PROTOCOLS: [u8; 2] = [6, 17];

// === impl Told ===

impl Told {
    fn new() -> Self {
        let config = Config {
            max_pods: LIMIT,
            max_services: LIMIT,
            max_endpoints: LIMIT,
            max_nodes: LIMIT,
            retention: Duration::from_secs(10),
            ..Config::default()
        };
        let limits = Limits {
            controllers: LIMIT,
            pods: LIMIT,
            ..Limits::default()
        };
        Self {
            index: Index::new(config),
            owners: Owners::new(limits),
            losses: Losses::default(),
            now: Monotonic(1_000_000_000),
            pods: Vec::new(),
            nodes: Vec::new(),
            services: Vec::new(),
            slices: Vec::new(),
            controllers: Vec::new(),
        }
    }

    fn apply(&mut self, source: Source, change: Change) {
        let change = match (source, change) {
            // What comes from the hub went over the wire, but for containers of other nodes.
            (Source::Cluster, Change::Set(mut object)) => {
                let told = decode_change(encode_object(&object));
                if let Object::Pod(pod) = &mut object {
                    pod.containers.clear();
                }
                assert_eq!(told, Ok(Change::Set(object.clone())));
                Change::Set(object)
            }
            (_, change) => change,
        };
        self.index
            .apply(source, change, self.now, WallOffset::default());
    }

    fn pods(&mut self, source: Source, pods: impl IntoIterator<Item = PodObject>) {
        for pod in pods {
            self.apply(source, Change::Set(Object::Pod(pod)));
        }
    }

    fn step(&mut self, step: &Step) {
        self.now = self
            .now
            .plus(Duration::from_millis(u64::from(step.picks[0]) * 20));
        let expired = self.owners.expire(self.now);
        self.pods(step.source, expired);
        let (source, kind) = (step.source, step.resource.kind());
        match (step.act, kind) {
            (Act::Begin, Some(kind)) => {
                if kind == Kind::Pod {
                    self.owners.begin_pods();
                }
                self.apply(source, Change::Begin(kind));
            }
            (Act::Begin, None) => self.owners.begin(step.resource),
            (Act::Complete, Some(kind)) => self.apply(source, Change::Complete(kind)),
            (Act::Complete, None) => self.owners.complete(step.resource, self.now),
            (Act::Set | Act::Remove, _) => self.tell(step),
        }
        self.index.expire(self.now);
    }

    /// One event of a watch.
    fn tell(&mut self, step: &Step) {
        let mut value = object(step.resource, &step.picks);
        for (at, by) in &step.bends {
            bend(&mut value, &mut usize::from(*at), &junk(*by));
        }
        let kind = if step.act == Act::Set {
            "MODIFIED"
        } else {
            "DELETED"
        };
        let line = json!({"type": kind, "object": value}).to_string();
        let options = read::Options {
            labels: vec![Pattern::new("app*")],
            annotations: vec![Pattern::new("team")],
            ..read::Options::default()
        };
        let malformed = self.losses.malformed;
        let event = read::event(step.resource, line.as_bytes(), &options, &mut self.losses);
        match step.resource {
            Resource::Pods => self.pods.push(value),
            Resource::Nodes => self.nodes.push(value),
            Resource::Services => self.services.push(value),
            Resource::EndpointSlices => self.slices.push(value),
            Resource::ReplicaSets | Resource::Jobs => self.controllers.push(value),
            // None of them is among the steps.
            Resource::Policy(_) => {}
        }
        let source = step.source;
        match event {
            Some(Event::Set(Found::Pod(draft), _)) => {
                let pod = self.owners.pod(*draft, self.now);
                self.pods(source, pod);
            }
            Some(Event::Set(Found::Object(object), _)) => self.apply(source, Change::Set(*object)),
            Some(Event::Set(Found::Controller(found), _)) => {
                let pods = self.owners.controller(step.resource, found, self.now);
                self.pods(source, pods);
            }
            Some(Event::Set(Found::Unwanted(uid), _) | Event::Removed(uid, _)) => {
                match step.resource.kind() {
                    Some(kind) => {
                        if kind == Kind::Pod {
                            self.owners.remove_pod(&uid);
                        }
                        self.apply(source, Change::Remove(kind, uid));
                    }
                    None => self.owners.remove_controller(&uid, self.now),
                }
            }
            Some(Event::Malformed(_)) => assert_eq!(self.losses.malformed, malformed + 1),
            other => assert!(line.is_empty(), "{other:?} of {line}"),
        }
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let owners = self.owners.tables();
        for table in self.index.tables().iter().chain(&owners) {
            prop_assert!(table.entries <= table.limit, "{:?}", table);
        }
        for pod in self.index.pods() {
            self.check_pod(pod)?;
        }
        for uid in UIDS {
            if let Some(pod) = self.index.pod(uid) {
                self.check_pod(pod)?;
            }
        }
        for number in 0..4 {
            if let Some((container, _)) = self.index.container(&id(number)) {
                self.check_pod(&container.pod)?;
                let was_told = |pod: &Value| {
                    is_pod(pod, &container.pod)
                        && list(pod, "/status/containerStatuses").any(|status| {
                            is(status, "/name", &container.name)
                                && status["containerID"]
                                    .as_str()
                                    .is_some_and(|told| told.ends_with(&id(number)))
                        })
                };
                prop_assert!(self.pods.iter().any(was_told), "{:?}", container);
            }
        }
        let ago = |seconds: u64| Monotonic(self.now.0.saturating_sub(seconds * 1_000_000_000));
        for text in ADDRESSES {
            let Ok(address) = text.parse::<IpAddr>() else {
                continue;
            };
            for port in [80, 443, 30080, 65_535] {
                for protocol in PROTOCOLS {
                    for at in [Monotonic(0), ago(5), ago(1), self.now] {
                        let socket = SocketAddr::new(address, port);
                        self.check_sight(
                            address.to_canonical(),
                            &self.index.find(socket, protocol, at),
                        )?;
                        self.check_sight(
                            address.to_canonical(),
                            &self.index.settle(socket, protocol, at),
                        )?;
                        if let Some(service) = self.index.dialled(socket, protocol, at) {
                            self.check_service(&service, socket)?;
                        }
                    }
                    self.index
                        .is_service_address(SocketAddr::new(address, port), protocol);
                }
            }
            for name in [
                "web.db.svc.cluster.local",
                "lb.test",
                "a.web.db.svc",
                "..svc",
                ".",
                "",
            ] {
                let found = self.index.dialled_name(name, SocketAddr::new(address, 80));
                if let Some(service) = found {
                    prop_assert!(self.was_told(&service), "{:?}", service);
                }
            }
        }
        Ok(())
    }

    fn check_pod(&self, pod: &Pod) -> Result<(), TestCaseError> {
        let told: Vec<&Value> = self
            .pods
            .iter()
            .filter(|value| is_pod(value, pod))
            .collect();
        prop_assert!(!told.is_empty(), "{:?}", pod);
        prop_assert!(!pod.uid.is_empty() && !pod.name.is_empty() && !pod.service.name.is_empty());
        if let Some(node) = &pod.node {
            prop_assert!(
                told.iter()
                    .any(|value| is(value, "/spec/nodeName", &node.name))
            );
        }
        let mut owners = BTreeSet::new();
        for value in self.pods.iter().chain(&self.controllers) {
            for owner in list(value, "/metadata/ownerReferences") {
                if let (Some(kind), Some(name)) = (owner["kind"].as_str(), owner["name"].as_str()) {
                    owners.insert((kind, name));
                    if let Some((above, _)) = name.rsplit_once('-') {
                        owners.insert(("Deployment", above));
                    }
                }
            }
        }
        for owner in pod.owners.iter() {
            prop_assert!(
                owners.contains(&(&*owner.kind, &*owner.name)),
                "{:?}",
                owner
            );
        }
        prop_assert!(
            pod.labels.len() <= 64 && pod.labels.iter().all(|(name, _)| name.starts_with("app"))
        );
        prop_assert!(pod.annotations.iter().all(|(name, _)| &**name == "team"));
        let shown = format!("{pod:?}");
        prop_assert!(!shown.contains("hidden"), "{}", shown);
        prop_assert!(
            !shown.contains("\\n") && !shown.contains("\\u{7}"),
            "{}",
            shown
        );
        Ok(())
    }

    fn check_sight(&self, address: IpAddr, sight: &Sight) -> Result<(), TestCaseError> {
        match sight {
            Sight::Pod(pod) => {
                self.check_pod(pod)?;
                prop_assert!(
                    !address.is_loopback() && !address.is_unspecified() && !address.is_multicast()
                );
                let own = |value: &Value| is_pod(value, pod) && has_ip(value, address);
                let listed = |slice: &Value| has_endpoint(slice, address, Some(&pod.uid));
                prop_assert!(
                    self.pods.iter().any(own) || self.slices.iter().any(listed),
                    "{:?} at {}",
                    pod,
                    address
                );
            }
            Sight::Node(node) => {
                let own = |value: &Value| {
                    is(value, "/metadata/name", &node.name)
                        && list(value, "/status/addresses")
                            .any(|entry| parsed(&entry["address"]) == Some(address))
                };
                prop_assert!(self.nodes.iter().any(own), "{:?} at {}", node, address);
            }
            Sight::Network(name) => prop_assert!(false, "{}", name),
            Sight::Doubtful | Sight::Outside => {}
        }
        Ok(())
    }

    fn was_told(&self, service: &Service) -> bool {
        self.services.iter().any(|value| {
            is(value, "/metadata/name", &service.name)
                && is(value, "/metadata/namespace", &service.namespace)
        })
    }

    fn check_service(&self, service: &Service, socket: SocketAddr) -> Result<(), TestCaseError> {
        let address = socket.ip().to_canonical();
        let named = |value: &&Value| {
            is(value, "/metadata/name", &service.name)
                && is(value, "/metadata/namespace", &service.namespace)
        };
        let at = |value: &Value, key: &str| {
            let port = i64::from(socket.port());
            list(value, "/spec/ports").any(|entry| entry[key].as_i64() == Some(port))
        };
        let mut told = self.services.iter().filter(named);
        let right = match service.dialled {
            Dialled::ClusterIp => told.any(|value| {
                let ips = list(value, "/spec/clusterIPs").filter_map(parsed);
                let mut ips = ips.chain(parsed(&value["spec"]["clusterIP"]));
                at(value, "port") && ips.any(|ip| ip == address)
            }),
            Dialled::ExternalIp => told.any(|value| {
                at(value, "port")
                    && list(value, "/spec/externalIPs")
                        .filter_map(parsed)
                        .any(|ip| ip == address)
            }),
            Dialled::LoadBalancer => told.any(|value| {
                let mut ips = list(value, "/status/loadBalancer/ingress")
                    .filter_map(|entry| parsed(&entry["ip"]));
                at(value, "port") && ips.any(|ip| ip == address)
            }),
            Dialled::NodePort => {
                let is_node = |node: &Value| {
                    list(node, "/status/addresses")
                        .any(|entry| parsed(&entry["address"]) == Some(address))
                };
                told.any(|value| at(value, "nodePort")) && self.nodes.iter().any(is_node)
            }
            Dialled::Headless | Dialled::ExternalName | Dialled::Endpoint => {
                self.slices.iter().any(|slice| {
                    slice
                        .pointer("/metadata/labels/kubernetes.io~1service-name")
                        .and_then(Value::as_str)
                        == Some(&service.name)
                        && has_endpoint(slice, address, None)
                })
            }
        };
        prop_assert!(right, "{:?} at {}", service, socket);
        Ok(())
    }
}

fn step() -> impl Strategy<Value = Step> {
    let act = prop_oneof![8 => Just(Act::Set), 1 => Just(Act::Remove), 1 => Just(Act::Begin), 1 => Just(Act::Complete)];
    let bends = prop_oneof![
        2 => Just(Vec::new()),
        1 => proptest::collection::vec((0..48_u16, any::<u8>()), 1..3),
    ];
    (
        select(&Resource::ALL[..]),
        select(&[Source::Node, Source::Cluster][..]),
        act,
        any::<[u8; 8]>(),
        bends,
    )
        .prop_map(|(resource, source, act, picks, bends)| Step {
            resource,
            source,
            act,
            picks,
            bends,
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_told_nobody_is_made_up(steps in proptest::collection::vec(step(), 1..24)) {
        let mut told = Told::new();
        for step in &steps {
            told.step(step);
        }
        told.check()?;
        // What nobody tells any more leaves nothing behind.
        for source in [Source::Node, Source::Cluster] {
            for kind in Kind::ALL {
                told.apply(source, Change::Begin(kind));
                told.apply(source, Change::Complete(kind));
            }
        }
        for _ in 0..3 {
            told.now = told.now.plus(Duration::from_secs(100));
            told.index.expire(told.now);
        }
        for table in told.index.tables() {
            prop_assert_eq!(table.entries, 0, "{}", table.name);
        }
    }
}
