//! Tests of the index.

use super::*;
use crate::cluster::object::{
    ContainerObject, Endpoint, EndpointsObject, NodeObject, PodObject, ServiceObject, ServicePort,
};
use crate::model::kubernetes::Owner;

mod behind;
mod history;

const CLUSTER: Source = Source::Cluster;
const NODE: Source = Source::Node;
const OFFSET: WallOffset = WallOffset {
    nanoseconds: 1_700_000_000_000_000_000,
};

fn second(seconds: u64) -> Monotonic {
    Monotonic(seconds * 1_000_000_000)
}

fn unix(seconds: u64) -> u64 {
    OFFSET.unix_nanoseconds(second(seconds))
}

fn index() -> Index {
    Index::new(Config::default())
}

fn tell(index: &mut Index, source: Source, change: Change, seconds: u64) {
    index.apply(source, change, second(seconds), OFFSET);
}

fn set(index: &mut Index, source: Source, object: Object, seconds: u64) {
    tell(index, source, Change::Set(object), seconds);
}

fn pod(uid: &str, address: &str) -> PodObject {
    PodObject {
        uid: uid.into(),
        namespace: "shop".into(),
        name: uid.into(),
        node: "n1".into(),
        addresses: vec![address.parse().unwrap()],
        service: ServiceName {
            name: "web".into(),
            namespace: "shop".into(),
            version: "".into(),
        },
        ..PodObject::default()
    }
}

fn node(uid: &str, name: &str, address: &str) -> NodeObject {
    NodeObject {
        uid: uid.into(),
        name: name.into(),
        addresses: vec![address.parse().unwrap()],
        pod_networks: vec![("203.0.113.0".parse().unwrap(), 24)],
        zone: "z1".into(),
        ..NodeObject::default()
    }
}

fn service(uid: &str, name: &str, ip: &str) -> ServiceObject {
    ServiceObject {
        uid: uid.into(),
        namespace: "shop".into(),
        name: name.into(),
        cluster_ips: ip.parse().into_iter().collect(),
        headless: ip.is_empty(),
        ports: vec![ServicePort {
            protocol: 6,
            port: 80,
            node_port: 0,
        }],
        ..ServiceObject::default()
    }
}

fn slice(uid: &str, service: &str, endpoints: &[(&str, &str)]) -> EndpointsObject {
    EndpointsObject {
        uid: uid.into(),
        namespace: "shop".into(),
        service: service.into(),
        ports: vec![(6, 8080)],
        endpoints: endpoints
            .iter()
            .map(|(address, pod)| Endpoint {
                address: address.parse().unwrap(),
                pod_uid: (*pod).into(),
            })
            .collect(),
    }
}

fn complete(index: &mut Index) {
    for kind in Kind::ALL {
        tell(index, CLUSTER, Change::Begin(kind), 0);
        tell(index, CLUSTER, Change::Complete(kind), 0);
    }
}

fn show(sight: &Sight) -> String {
    match sight {
        Sight::Pod(pod) => format!("pod {}", pod.name),
        Sight::Node(node) => format!("node {}", node.name),
        Sight::Network(name) => format!("network {name}"),
        Sight::Doubtful => "doubtful".to_owned(),
        Sight::Outside => "outside".to_owned(),
    }
}

fn find(index: &Index, address: &str, seconds: u64) -> String {
    show(&index.find(address.parse().unwrap(), 6, second(seconds)))
}

fn settle(index: &Index, address: &str, seconds: u64) -> String {
    show(&index.settle(address.parse().unwrap(), 6, second(seconds)))
}

fn dialled(index: &Index, address: &str, seconds: u64) -> String {
    name(index.dialled(address.parse().unwrap(), 6, second(seconds)))
}

fn named(index: &Index, by: &str, address: &str) -> String {
    name(index.dialled_name(by, address.parse().unwrap()))
}

fn name(service: Option<Arc<Service>>) -> String {
    service.map_or(String::new(), |service| {
        format!("{} {}", service.name, service.dialled.as_str())
    })
}

fn loss(index: &Index, reason: &str) -> u64 {
    let losses = index.losses();
    losses
        .iter()
        .find(|loss| loss.reason == reason)
        .unwrap()
        .count
}

#[test]
fn a_pod_has_its_address_until_it_ends() {
    let mut index = index();
    let web = PodObject {
        started: unix(100),
        ..pod("a", "10.0.0.7")
    };
    set(&mut index, CLUSTER, Object::Pod(web.clone()), 103);
    assert_eq!(find(&index, "10.0.0.7:80", 101), "pod a");
    assert_eq!(find(&index, "[::ffff:10.0.0.7]:80", 101), "pod a");
    assert_eq!(find(&index, "10.0.0.7:80", 99), "doubtful");
    assert_eq!(settle(&index, "10.0.0.7:80", 99), "outside");
    let terminating = PodObject {
        terminating: true,
        ..web
    };
    set(&mut index, CLUSTER, Object::Pod(terminating), 200);
    assert_eq!(find(&index, "10.0.0.7:80", 199), "pod a");
    assert_eq!(find(&index, "10.0.0.7:80", 201), "doubtful");
    assert_eq!(settle(&index, "10.0.0.7:80", 201), "pod a");
    tell(
        &mut index,
        CLUSTER,
        Change::Remove(Kind::Pod, "a".into()),
        210,
    );
    assert_eq!(find(&index, "10.0.0.7:80", 150), "pod a");
    assert_eq!(settle(&index, "10.0.0.7:80", 205), "pod a");
    assert_eq!(settle(&index, "10.0.0.7:80", 211), "outside");
    index.expire(second(210 + 119));
    assert_eq!(find(&index, "10.0.0.7:80", 150), "pod a");
    assert!(index.pod("a").is_some());
    let revision = index.revision();
    index.expire(second(210 + 120));
    assert_eq!(settle(&index, "10.0.0.7:80", 150), "outside");
    assert!(index.pod("a").is_none() && index.revision() > revision);
    assert_eq!(index.pods.entries(), 0);
}

#[test]
fn two_that_live_conflict() {
    let mut index = index();
    set(&mut index, CLUSTER, Object::Pod(pod("a", "10.0.0.7")), 10);
    set(&mut index, CLUSTER, Object::Pod(pod("b", "10.0.0.7")), 20);
    assert_eq!(find(&index, "10.0.0.7:80", 21), "doubtful");
    assert_eq!(settle(&index, "10.0.0.7:80", 21), "doubtful");
    assert_eq!(loss(&index, "address_conflict"), 2);
}

#[test]
fn an_ended_uid_does_not_come_back() {
    let mut index = index();
    set(&mut index, NODE, Object::Pod(pod("a", "10.0.0.7")), 10);
    set(&mut index, CLUSTER, Object::Pod(pod("a", "10.0.0.7")), 11);
    assert_eq!(index.objects(Kind::Pod), 1);
    tell(&mut index, NODE, Change::Remove(Kind::Pod, "a".into()), 20);
    set(&mut index, CLUSTER, Object::Pod(pod("a", "10.0.0.7")), 100);
    assert_eq!(settle(&index, "10.0.0.7:80", 101), "outside");
    // Who is behind keeps it from being forgotten.
    index.expire(second(150));
    set(&mut index, CLUSTER, Object::Pod(pod("a", "10.0.0.7")), 151);
    assert_eq!((index.objects(Kind::Pod), index.pods().count()), (0, 0));
    index.expire(second(230));
    assert!(index.pod("a").is_some());
    index.expire(second(300));
    assert!(index.pod("a").is_none());
}

#[test]
fn a_removal_ends_only_what_its_source_had() {
    let mut index = index();
    complete(&mut index);
    set(&mut index, NODE, Object::Pod(pod("mine", "10.0.0.1")), 10);
    let web = service("web", "web", "10.96.0.1");
    set(&mut index, CLUSTER, Object::Service(web), 10);
    let n1 = node("n1", "n1", "192.0.2.1");
    set(&mut index, CLUSTER, Object::Node(n1), 10);
    let remove = |index: &mut Index, source, kind, uid: &str| {
        tell(index, source, Change::Remove(kind, uid.into()), 20);
    };
    remove(&mut index, CLUSTER, Kind::Pod, "mine");
    remove(&mut index, NODE, Kind::Service, "web");
    remove(&mut index, NODE, Kind::Node, "n1");
    assert_eq!(find(&index, "10.0.0.1:80", 21), "pod mine");
    assert_eq!(dialled(&index, "10.96.0.1:80", 21), "web cluster_ip");
    assert_eq!(find(&index, "192.0.2.1:80", 21), "node n1");
    remove(&mut index, NODE, Kind::Pod, "mine");
    remove(&mut index, CLUSTER, Kind::Service, "web");
    remove(&mut index, CLUSTER, Kind::Node, "n1");
    for kind in [Kind::Pod, Kind::Service, Kind::Node] {
        assert_eq!(index.objects(kind), 0, "{kind:?}");
    }
}

#[test]
fn a_list_ends_only_what_its_source_had() {
    let mut index = index();
    set(&mut index, NODE, Object::Pod(pod("mine", "10.0.0.1")), 10);
    set(
        &mut index,
        CLUSTER,
        Object::Pod(pod("both", "10.0.0.2")),
        10,
    );
    set(&mut index, NODE, Object::Pod(pod("both", "10.0.0.2")), 10);
    set(
        &mut index,
        CLUSTER,
        Object::Pod(pod("other", "10.0.0.3")),
        10,
    );
    tell(&mut index, CLUSTER, Change::Begin(Kind::Pod), 20);
    assert_eq!(find(&index, "10.0.0.3:80", 20), "pod other", "until then");
    assert!(!index.is_complete(CLUSTER, Kind::Pod));
    tell(&mut index, CLUSTER, Change::Complete(Kind::Pod), 21);
    assert!(index.is_complete(CLUSTER, Kind::Pod) && !index.is_complete(NODE, Kind::Pod));
    assert_eq!(find(&index, "10.0.0.1:80", 21), "pod mine");
    assert_eq!(settle(&index, "10.0.0.2:80", 21), "outside");
    assert_eq!(
        settle(&index, "10.0.0.3:80", 9),
        "pod other",
        "last heard at 10"
    );
    assert_eq!(settle(&index, "10.0.0.3:80", 12), "outside");
}

#[test]
fn containers_know_what_they_are() {
    let mut index = index();
    let (running, last) = ("ab".repeat(32), "cd".repeat(32));
    let container = |version: &str, ids: &[&String]| ContainerObject {
        name: "app".into(),
        ids: ids.iter().map(|id| id.as_str().into()).collect(),
        service: ServiceName {
            version: version.into(),
            ..ServiceName::default()
        },
    };
    let with = |containers, owners| PodObject {
        containers,
        owners,
        cgroup_uid: "0123456789abcdef0123456789abcdef".into(),
        ..pod("a", "10.0.0.7")
    };
    let set_owner = Owner {
        kind: "ReplicaSet".into(),
        name: "web-1".into(),
    };
    let here = with(vec![container("2", &[&running])], vec![set_owner.clone()]);
    set(&mut index, NODE, Object::Pod(here), 10);
    let deployment = Owner {
        kind: "Deployment".into(),
        name: "web".into(),
    };
    let mut there = with(
        vec![container("1", &[&last, &running, &"docker://x".to_owned()])],
        vec![set_owner, deployment],
    );
    there.service.name = "shop-web".into();
    set(&mut index, CLUSTER, Object::Pod(there), 11);
    let (found, service) = index.container(&running).unwrap();
    assert_eq!((&*found.name, &*service.version), ("app", "2"));
    assert_eq!((&*service.name, &*service.namespace), ("shop-web", "shop"));
    assert_eq!(found.pod.workload(), ("Deployment", "web"));
    assert_eq!(&*index.container(&last).unwrap().1.version, "1");
    assert!(index.container("docker://x").is_none());
    assert_eq!(loss(&index, "object_malformed"), 1);
    let by_hash = index.pod("0123456789abcdef0123456789abcdef").unwrap();
    assert!(Arc::ptr_eq(by_hash, index.pod("a").unwrap()));
    tell(&mut index, NODE, Change::Remove(Kind::Pod, "a".into()), 20);
    assert!(index.container(&running).is_some(), "remembered");
    index.expire(second(140));
    assert!(index.container(&running).is_none());
    assert_eq!(index.pods.entries(), 0);
}

#[test]
fn pods_follow_their_node() {
    let mut index = index();
    set(&mut index, CLUSTER, Object::Pod(pod("a", "10.0.0.7")), 10);
    assert_eq!(index.pod("a").unwrap().zone(), "");
    let revision = index.revision();
    let n1 = node("u1", "n1", "192.0.2.1");
    set(&mut index, CLUSTER, Object::Node(n1.clone()), 11);
    assert_eq!(index.pod("a").unwrap().zone(), "z1");
    assert!(index.revision() > revision);
    let revision = index.revision();
    set(&mut index, CLUSTER, Object::Node(n1), 12);
    set(&mut index, CLUSTER, Object::Pod(pod("a", "10.0.0.7")), 12);
    assert_eq!(index.revision(), revision, "nothing changed");
}

#[test]
fn a_node_lends_its_address() {
    let mut index = index();
    complete(&mut index);
    set(
        &mut index,
        CLUSTER,
        Object::Node(node("u1", "n1", "192.0.2.1")),
        10,
    );
    let host = PodObject {
        host_network: true,
        ..pod("proxy", "192.0.2.1")
    };
    set(&mut index, CLUSTER, Object::Pod(host), 10);
    assert_eq!(find(&index, "192.0.2.1:8080", 11), "node n1");
    let proxies = slice("s", "proxies", &[("192.0.2.1", "proxy")]);
    set(&mut index, CLUSTER, Object::Endpoints(proxies), 20);
    assert_eq!(find(&index, "192.0.2.1:8080", 21), "pod proxy");
    assert_eq!(find(&index, "192.0.2.1:9090", 21), "node n1");
    assert_eq!(
        find(&index, "192.0.2.1:8080", 15),
        "node n1",
        "not told then"
    );
    tell(
        &mut index,
        CLUSTER,
        Change::Remove(Kind::Pod, "proxy".into()),
        30,
    );
    assert_eq!(find(&index, "192.0.2.1:8080", 31), "node n1");
    tell(
        &mut index,
        CLUSTER,
        Change::Remove(Kind::Node, "u1".into()),
        40,
    );
    assert_eq!(find(&index, "192.0.2.1:9090", 39), "node n1");
    assert_eq!(find(&index, "192.0.2.1:9090", 41), "outside");
}

#[test]
fn what_nobody_has_may_be_young() {
    let networks = [("10.9.0.0/16", "office"), ("203.0.0.0/8", "partner")];
    let networks = networks.map(|(prefix, name)| (prefix.parse().unwrap(), name.into()));
    let mut index = Index::new(Config {
        networks: Networks::new(networks),
        ..Config::default()
    });
    set(
        &mut index,
        CLUSTER,
        Object::Node(node("u1", "n1", "192.0.2.1")),
        1,
    );
    for (address, first, last) in [
        ("10.9.0.1:1", "network office", "network office"),
        ("10.8.0.1:1", "doubtful", "outside"),
        ("100.64.0.1:1", "doubtful", "outside"),
        ("[fd00::1]:1", "doubtful", "outside"),
        ("203.0.113.9:1", "doubtful", "outside"),
        ("203.0.114.9:1", "network partner", "network partner"),
        ("198.51.100.1:1", "outside", "outside"),
        ("127.0.0.1:1", "outside", "outside"),
        ("169.254.20.10:1", "outside", "outside"),
    ] {
        assert_eq!(find(&index, address, 2), first, "{address}");
        assert_eq!(settle(&index, address, 2), last, "{address}");
    }
}

#[test]
fn services_are_dialled_in_every_way() {
    let mut index = index();
    complete(&mut index);
    set(
        &mut index,
        CLUSTER,
        Object::Node(node("u1", "n1", "192.0.2.1")),
        10,
    );
    let mut web = service("s1", "web", "10.96.0.1");
    web.ports[0].node_port = 30080;
    web.balancer_ips = vec!["198.51.100.1".parse().unwrap()];
    web.external_ips = vec!["198.51.100.2".parse().unwrap()];
    web.balancer_names = vec!["lb.example.com".into()];
    set(&mut index, CLUSTER, Object::Service(web.clone()), 10);
    set(
        &mut index,
        CLUSTER,
        Object::Service(service("s2", "db", "")),
        10,
    );
    set(
        &mut index,
        CLUSTER,
        Object::Service(service("s3", "old", "10.96.0.3")),
        10,
    );
    let mut external = service("s4", "mail", "");
    external.headless = false;
    external.external_name = "smtp.example.com".into();
    set(&mut index, CLUSTER, Object::Service(external), 10);
    set(
        &mut index,
        CLUSTER,
        Object::Pod(pod("db-0", "10.0.0.8")),
        10,
    );
    let db = slice("e1", "db", &[("10.0.0.8", "db-0")]);
    set(&mut index, CLUSTER, Object::Endpoints(db), 10);
    let old = slice("e2", "old", &[("198.51.100.9", ""), ("10.0.0.8", "db-0")]);
    set(&mut index, CLUSTER, Object::Endpoints(old), 10);
    for (address, expected, translated) in [
        ("10.96.0.1:80", "web cluster_ip", true),
        ("10.96.0.1:81", "", false),
        ("198.51.100.1:80", "web load_balancer", true),
        ("198.51.100.2:80", "web external_ip", true),
        ("192.0.2.1:30080", "web node_port", true),
        ("192.0.2.9:30080", "", false),
        ("10.0.0.8:8080", "", false),
        ("198.51.100.9:8080", "old endpoint", false),
    ] {
        assert_eq!(dialled(&index, address, 11), expected, "{address}");
        let address = address.parse().unwrap();
        assert_eq!(
            index.is_service_address(address, 6),
            translated,
            "{address}"
        );
        assert_eq!(index.dialled(address, 17, second(11)), None);
    }
    for (by, address, expected) in [
        (
            "web.shop.svc.cluster.local",
            "10.96.0.1:80",
            "web cluster_ip",
        ),
        ("Web.Shop.svc.", "10.96.0.1:80", "web cluster_ip"),
        ("web.shop.svc.cluster.local", "10.96.0.2:80", ""),
        ("x.web.shop.svc.cluster.local", "10.96.0.1:80", ""),
        ("web.shop", "10.96.0.1:80", ""),
        ("web.shop.svc.example.com", "10.96.0.1:80", ""),
        ("db.shop.svc", "10.0.0.8:8080", "db headless"),
        (
            "db-0.db.shop.svc.cluster.local",
            "10.0.0.8:8080",
            "db headless",
        ),
        ("a.b.db.shop.svc", "10.0.0.8:8080", ""),
        (".db.shop.svc", "10.0.0.8:8080", ""),
        (
            "mail.shop.svc.cluster.local",
            "192.0.2.5:25",
            "mail external_name",
        ),
        ("smtp.example.com", "192.0.2.5:25", ""),
        ("lb.example.com", "192.0.2.5:80", "web load_balancer"),
        ("lb.example.com", "192.0.2.5:81", ""),
    ] {
        assert_eq!(named(&index, by, address), expected, "{by}");
    }
    // A second headless Service with the same endpoint: it cannot be told which one was meant.
    set(
        &mut index,
        CLUSTER,
        Object::Service(service("s5", "db2", "")),
        12,
    );
    let db = slice("e3", "db2", &[("10.0.0.8", "db-0")]);
    set(&mut index, CLUSTER, Object::Endpoints(db), 12);
    assert_eq!(dialled(&index, "10.0.0.8:8080", 13), "");
    // The address of one that is gone is another's; what was dialled before is what it was.
    tell(
        &mut index,
        CLUSTER,
        Change::Remove(Kind::Service, "s1".into()),
        20,
    );
    set(
        &mut index,
        CLUSTER,
        Object::Service(service("s6", "new", "10.96.0.1")),
        25,
    );
    assert_eq!(dialled(&index, "10.96.0.1:80", 19), "web cluster_ip");
    assert_eq!(dialled(&index, "10.96.0.1:80", 24), "new cluster_ip");
    set(&mut index, CLUSTER, Object::Service(web), 26);
    assert_eq!(
        dialled(&index, "10.96.0.1:80", 27),
        "new cluster_ip",
        "no return"
    );
    index.expire(second(140));
    assert_eq!(dialled(&index, "10.96.0.1:80", 19), "");
    assert_eq!(dialled(&index, "198.51.100.1:80", 19), "");
}

#[test]
fn tables_are_bounded() {
    let mut index = Index::new(Config {
        max_pods: 3,
        max_services: 2,
        max_endpoints: 2,
        max_nodes: 1,
        ..Config::default()
    });
    complete(&mut index);
    for number in 0..5 {
        let uid = format!("p{number}");
        let address = format!("10.0.0.{number}");
        set(&mut index, CLUSTER, Object::Pod(pod(&uid, &address)), 1);
        let object = service(&uid, &uid, &format!("10.96.0.{number}"));
        set(&mut index, CLUSTER, Object::Service(object), 1);
        set(
            &mut index,
            CLUSTER,
            Object::Node(node(&uid, &uid, &format!("192.0.2.{number}"))),
            1,
        );
    }
    assert_eq!(find(&index, "10.0.0.4:1", 2), "doubtful");
    set(&mut index, NODE, Object::Pod(pod("p4", "10.0.0.4")), 2);
    assert_eq!(
        find(&index, "10.0.0.4:1", 2),
        "pod p4",
        "this node's have room"
    );
    let two = [("198.51.100.1", ""), ("198.51.100.2", "")];
    set(
        &mut index,
        CLUSTER,
        Object::Endpoints(slice("e", "p0", &two)),
        2,
    );
    assert_eq!(dialled(&index, "198.51.100.1:8080", 2), "p0 endpoint");
    let one = [("198.51.100.3", "")];
    set(
        &mut index,
        CLUSTER,
        Object::Endpoints(slice("f", "p1", &one)),
        2,
    );
    assert_eq!(
        dialled(&index, "198.51.100.1:8080", 2),
        "",
        "not all are known"
    );
    for (reason, count) in [
        ("pods_full", 2),
        ("services_full", 3),
        ("nodes_full", 4),
        ("endpoints_full", 1),
    ] {
        assert_eq!(loss(&index, reason), count, "{reason}");
    }
    // What ended is bounded too, and what followed it claims nothing of its time.
    let remove = |uid: &str| Change::Remove(Kind::Pod, uid.into());
    tell(&mut index, CLUSTER, remove("p0"), 10);
    tell(&mut index, CLUSTER, remove("p1"), 10);
    for number in 10..20 {
        let uid = format!("p{number}");
        set(
            &mut index,
            CLUSTER,
            Object::Pod(pod(&uid, "10.0.0.99")),
            number,
        );
        tell(&mut index, CLUSTER, remove(&uid), number);
    }
    assert_eq!(settle(&index, "10.0.0.99:1", 12), "doubtful");
    assert_eq!(loss(&index, "ended_pods_full"), 9);
    assert!(
        index
            .tables()
            .iter()
            .all(|table| table.entries <= table.limit)
    );
}

#[test]
fn a_uid_that_two_pods_have_names_the_first() {
    let mut index = index();
    complete(&mut index);
    set(&mut index, CLUSTER, Object::Pod(pod("p1", "10.1.0.4")), 10);
    let other = PodObject {
        name: "impostor".into(),
        ..pod("p1", "10.1.0.5")
    };
    set(&mut index, NODE, Object::Pod(other), 11);
    assert_eq!(index.pod("p1").map(|pod| &*pod.name), Some("p1"));
    assert!(find(&index, "10.1.0.4:80", 20).contains("p1"));
    assert_eq!(settle(&index, "10.1.0.5:80", 20), "outside");
    assert_eq!(loss(&index, "object_malformed"), 1);
}

#[test]
fn what_a_node_and_a_pod_claim_is_nobodys() {
    let mut index = index();
    complete(&mut index);
    set(
        &mut index,
        CLUSTER,
        Object::Node(node("n1", "node-1", "10.9.0.1")),
        10,
    );
    set(&mut index, CLUSTER, Object::Pod(pod("p1", "10.9.0.1")), 10);
    assert_eq!(settle(&index, "10.9.0.1:80", 20), "doubtful");
    assert!(loss(&index, "address_conflict") > 0);
}

#[test]
fn a_service_at_the_address_of_a_pod_takes_nothing_from_it() {
    let mut index = index();
    complete(&mut index);
    set(&mut index, CLUSTER, Object::Pod(pod("p1", "10.1.0.4")), 10);
    set(
        &mut index,
        CLUSTER,
        Object::Service(service("s1", "web", "10.1.0.4")),
        10,
    );
    // Who comes from there is the pod; who dials it means the Service, and is sent elsewhere.
    assert!(find(&index, "10.1.0.4:80", 20).contains("p1"));
    assert!(dialled(&index, "10.1.0.4:80", 20).contains("web"));
    assert!(index.is_service_address("10.1.0.4:80".parse().unwrap(), 6));
}

#[test]
fn addresses_that_nobody_can_have_are_nobodys() {
    let mut index = index();
    complete(&mut index);
    for (number, address) in [
        "127.0.0.1",
        "::1",
        "0.0.0.0",
        "::",
        "::ffff:127.0.0.1",
        "224.0.0.1",
    ]
    .iter()
    .enumerate()
    {
        let socket = SocketAddr::new(address.parse().unwrap(), 80);
        let at = socket.to_string();
        let uid = format!("p{number}");
        set(&mut index, CLUSTER, Object::Pod(pod(&uid, address)), 10);
        let uid = format!("s{number}");
        let mut service = service(&uid, &uid, address);
        service.ports[0].node_port = 80;
        set(&mut index, CLUSTER, Object::Service(service), 10);
        assert_eq!(find(&index, &at, 20), "outside", "{address}");
        assert_eq!(dialled(&index, &at, 20), "", "{address}");
        assert!(!index.is_service_address(socket, 6), "{address}");
    }
}
