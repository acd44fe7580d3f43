//! What it costs to ask and to tell the index of a cluster of 10,000 pods, and what memory it takes.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout
)]

use std::{hint::black_box, net::SocketAddr};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use observer::{
    cluster::{
        index::{Config, Index},
        object::{
            Change, ContainerObject, Endpoint, EndpointsObject, Kind, NodeObject, Object,
            PodObject, ServiceObject, ServicePort, Source,
        },
    },
    model::{
        kubernetes::{Owner, ServiceName},
        time::{Monotonic, WallOffset},
    },
};

const PODS: u32 = 10_000;
const SERVICES: u32 = 5_000;
const NODES: u32 = 1_000;
const OFFSET: WallOffset = WallOffset {
    nanoseconds: 1_700_000_000_000_000_000,
};
const NOW: Monotonic = Monotonic(1_000_000_000_000);

fn address(network: u8, number: u32) -> std::net::IpAddr {
    let [_, _, high, low] = number.to_be_bytes();
    [10, network, high, low].into()
}

fn uid(kind: u32, number: u32) -> Box<str> {
    format!("{kind:08x}-0000-4000-8000-{number:012x}").into()
}

fn container_id(number: u32) -> Box<str> {
    format!("{number:064x}").into()
}

fn pod(number: u32) -> PodObject {
    let workload = format!("checkout-service-{}", number / 10);
    let owner = |kind: &str, name: String| Owner {
        kind: kind.into(),
        name: name.into(),
    };
    PodObject {
        uid: uid(1, number),
        namespace: format!("team-{}", number % 50).into(),
        name: format!("{workload}-5d8f7c9b6d-{number:05}").into(),
        node: format!("node-{}.example.internal", number % NODES).into(),
        addresses: vec![address(1, number)],
        owners: vec![
            owner("ReplicaSet", format!("{workload}-5d8f7c9b6d")),
            owner("Deployment", workload.clone()),
        ],
        service: ServiceName {
            name: workload.into(),
            namespace: format!("team-{}", number % 50).into(),
            version: "1.42.0".into(),
        },
        containers: ["app", "proxy"]
            .iter()
            .zip(0..)
            .map(|(name, index)| ContainerObject {
                name: (*name).into(),
                ids: vec![container_id(number * 2 + index)],
                service: ServiceName {
                    version: format!("1.{}.0", number / 10).into(),
                    ..ServiceName::default()
                },
            })
            .collect(),
        started: OFFSET.unix_nanoseconds(Monotonic(1)),
        ..PodObject::default()
    }
}

/// All objects, as a hub tells them at first.
fn objects() -> impl Iterator<Item = Change> {
    let nodes = (0..NODES).map(|number| {
        Object::Node(NodeObject {
            uid: uid(2, number),
            name: format!("node-{number}.example.internal").into(),
            addresses: vec![address(2, number)],
            pod_networks: vec![(address(1, number * 64), 26)],
            zone: format!("zone-{}", number % 3).into(),
            region: "region".into(),
        })
    });
    let services = (0..SERVICES).map(|number| {
        Object::Service(ServiceObject {
            uid: uid(3, number),
            namespace: format!("team-{}", number % 50).into(),
            name: format!("checkout-service-{number}").into(),
            cluster_ips: vec![address(3, number)],
            ports: vec![ServicePort {
                protocol: 6,
                port: 80,
                node_port: 0,
            }],
            ..ServiceObject::default()
        })
    });
    let slices = (0..SERVICES).map(|number| {
        let endpoint = |number| Endpoint {
            address: address(1, number),
            pod_uid: uid(1, number),
        };
        Object::Endpoints(EndpointsObject {
            uid: uid(4, number),
            namespace: format!("team-{}", number % 50).into(),
            service: format!("checkout-service-{number}").into(),
            ports: vec![(6, 8080)],
            endpoints: [2 * number, 2 * number + 1].map(endpoint).into(),
        })
    });
    let pods = (0..PODS).map(|number| Object::Pod(pod(number)));
    list(Kind::Pod, pods)
        .chain(list(Kind::Node, nodes))
        .chain(list(Kind::Service, services))
        .chain(list(Kind::Endpoints, slices))
}

fn list(kind: Kind, objects: impl Iterator<Item = Object>) -> impl Iterator<Item = Change> {
    std::iter::once(Change::Begin(kind))
        .chain(objects.map(Change::Set))
        .chain(std::iter::once(Change::Complete(kind)))
}

fn fill(changes: impl IntoIterator<Item = Change>) -> Index {
    let mut index = Index::new(Config::default());
    for change in changes {
        index.apply(Source::Cluster, change, NOW, OFFSET);
    }
    index
}

/// Resident memory of this process, bytes.
fn resident() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("own status");
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().nth(1));
    kibibytes.expect("a size").parse::<i64>().expect("a number") * 1024
}

fn cluster(criterion: &mut Criterion) {
    // Told one by one, as they come over the network: what remains is the index.
    let before = resident();
    let mut index = Index::new(Config::default());
    for change in objects() {
        index.apply(Source::Cluster, change, NOW, OFFSET);
    }
    println!("resident: {} KiB", (resident() - before) / 1024);
    let mut group = criterion.benchmark_group("cluster");
    let mut numbers = (0..PODS).cycle().step_by(7_919);
    let mut next = move || numbers.next().unwrap_or_default();
    group.bench_function("find", |bench| {
        bench.iter(|| {
            let address = SocketAddr::new(address(1, next() % PODS), 8080);
            black_box(index.find(address, 6, NOW))
        });
    });
    group.bench_function("dialled/cluster_ip", |bench| {
        bench.iter(|| {
            let address = SocketAddr::new(address(3, next() % SERVICES), 80);
            black_box(index.dialled(address, 6, NOW))
        });
    });
    group.bench_function("dialled/pod", |bench| {
        bench.iter(|| {
            let address = SocketAddr::new(address(1, next() % PODS), 8080);
            black_box(index.dialled(address, 6, NOW))
        });
    });
    let ids: Vec<_> = (0..PODS).map(container_id).collect();
    group.bench_function("container", |bench| {
        bench.iter(|| black_box(index.container(&ids[next() as usize % ids.len()]).is_some()));
    });
    group.bench_function("change", |bench| {
        bench.iter_batched(
            || {
                let mut pod = pod(next() % PODS);
                pod.service.version = format!("{}", next()).into();
                Change::Set(Object::Pod(pod))
            },
            |change| index.apply(Source::Cluster, change, NOW, OFFSET),
            BatchSize::SmallInput,
        );
    });
    group.sample_size(10);
    group.bench_function("sync", |bench| {
        bench.iter_batched(
            || objects().collect::<Vec<_>>(),
            fill,
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, cluster);
criterion_main!(benches);
