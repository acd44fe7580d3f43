//! What it costs to judge an edge and to route a request with 1,000 policies of each kind and 5,000
//! routes, and what memory they take.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout
)]

use std::{
    hint::black_box,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use criterion::{Criterion, criterion_group, criterion_main};
use observer::{
    mesh::{
        decision::{Caller, Destination, Request},
        ledger::{Config, Ledger},
        policy::Policies,
        wire::identity,
    },
    model::{
        call::{Call, Link, LinkEvent},
        connection::{Connection, ConnectionId, Owner, Role},
        exchange::{Exchange, HttpVersion, Outcome, RequestHead, Side},
        kubernetes::{self, Container, Dialled, Pod, Service, ServiceName},
        mesh::{Far, FarSource, Hop},
        policy::{PolicyChange, PolicyKind, PolicyObject, PortFacts, ServiceFacts, Traits},
        security::Security,
        time::{Monotonic, WallOffset},
        workload::{NameSource, Peer, Workload},
    },
};
use serde_json::{Value, json};

/// Workloads, each with a Service, a policy of each kind and a VirtualService with this many routes.
const WORKLOADS: u32 = 1_000;
const ROUTES: u32 = 5;
const NAMESPACES: u32 = 50;
const SECOND: u64 = 1_000_000_000;

fn namespace(number: u32) -> String {
    format!("team-{}", number % NAMESPACES)
}

fn name(number: u32) -> String {
    format!("service-{number}")
}

fn pod(number: u32) -> Arc<Pod> {
    let name = name(number);
    let label = |key: &str, value: &str| (key.into(), value.into());
    Arc::new(Pod {
        uid: format!("uid-{number}").into(),
        namespace: namespace(number).into(),
        name: format!("{name}-5d8f-x").into(),
        owners: [kubernetes::Owner {
            kind: "Deployment".into(),
            name: name.as_str().into(),
        }]
        .into(),
        service: Arc::new(ServiceName {
            name: name.as_str().into(),
            namespace: namespace(number).into(),
            version: "1".into(),
        }),
        traits: Arc::new(Traits {
            service_account: name.as_str().into(),
            labels: [
                label("app", &name),
                label("security.istio.io/tlsMode", "istio"),
                label("version", "v1"),
            ]
            .into(),
            containers: ["app".into(), "istio-proxy".into()].into(),
            ..Traits::default()
        }),
        ..Pod::default()
    })
}

fn object(kind: PolicyKind, number: u32, spec: &Value) -> PolicyChange {
    PolicyChange::Set(Arc::new(PolicyObject {
        kind,
        uid: format!("{kind:?}-{number}").into(),
        namespace: namespace(number).into(),
        name: name(number).into(),
        version: "1".into(),
        created: 1,
        labels: Box::default(),
        annotations: Box::default(),
        content: json!({ "spec": spec }).to_string().into(),
    }))
}

/// All that is declared, one by one.
fn declared() -> impl Iterator<Item = PolicyChange> {
    (0..WORKLOADS).flat_map(|number| {
        let (name, caller) = (name(number), (number + 1) % WORKLOADS);
        let selector = json!({"matchLabels": {"app": name}});
        let route = |index: u32| {
            json!({
                "name": format!("route-{index}"),
                "match": [{"uri": {"prefix": format!("/v{index}/")}, "method": {"exact": "GET"}}],
                "route": [
                    {"destination": {"host": name, "subset": "v1"}, "weight": 90},
                    {"destination": {"host": name, "subset": "v2"}, "weight": 10},
                ],
                "timeout": "5s",
            })
        };
        let principal = format!(
            "cluster.local/ns/{}/sa/{}",
            namespace(caller),
            self::name(caller)
        );
        [
            PolicyChange::SetService(Arc::new(ServiceFacts {
                uid: format!("service-{number}").into(),
                namespace: namespace(number).into(),
                name: name.as_str().into(),
                selector: [("app".into(), name.as_str().into())].into(),
                ports: [PortFacts {
                    name: "http".into(),
                    port: 80,
                    target: 8080,
                    ..PortFacts::default()
                }]
                .into(),
                ..ServiceFacts::default()
            })),
            object(
                PolicyKind::PeerAuthentication,
                number,
                &json!({"selector": selector, "mtls": {"mode": "STRICT"}}),
            ),
            object(
                PolicyKind::IstioAuthorizationPolicy,
                number,
                &json!({"selector": selector, "rules": [{
                    "from": [{"source": {"principals": [principal]}}],
                    "to": [{"operation": {"methods": ["GET"], "paths": ["/v*"]}}],
                }]}),
            ),
            object(
                PolicyKind::DestinationRule,
                number,
                &json!({"host": name, "subsets": [
                    {"name": "v1", "labels": {"version": "v1"}},
                    {"name": "v2", "labels": {"version": "v2"}},
                ]}),
            ),
            object(
                PolicyKind::VirtualService,
                number,
                &json!({"hosts": [name], "http": (0..ROUTES).map(route).collect::<Vec<_>>()}),
            ),
        ]
    })
}

/// Resident memory of this process, bytes.
fn resident() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("own status");
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().nth(1));
    kibibytes.expect("a size").parse::<i64>().expect("a number") * 1024
}

fn address(number: u32, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + number)), port)
}

/// A call of a pod to the next one's Service, at the socket of the client's application.
fn call(pods: &[Arc<Pod>], number: u32, path: &str) -> Call {
    let at = |number: u32| pods[(number % WORKLOADS) as usize].clone();
    let (client, server) = (at(number + 1), at(number));
    let workload = Arc::new(Workload {
        service: client.service.name.clone(),
        namespace: client.service.namespace.clone(),
        source: NameSource::Kubernetes,
        pod_uid: client.uid.clone(),
        container: Some(Container {
            pod: client,
            name: "app".into(),
        }),
        ..Workload::default()
    });
    let started = Monotonic(SECOND);
    let link = Link {
        connection: Connection {
            id: ConnectionId(number.into()),
            role: Role::Client,
            local: address(number + 1, 40_000),
            remote: address(1 << 20, 80),
            wire: Some((address(number + 1, 40_000), address(127 << 20, 15_001))),
            owner: Owner::default(),
            started,
            established: Some(started),
            sequences: None,
            pre_existing: false,
        },
        workload,
        peer: Peer::Pod(server.clone()),
        dialled: Some(Arc::new(Service {
            namespace: server.namespace.clone(),
            name: (*server.service.name).into(),
            dialled: Dialled::ClusterIp,
        })),
        security: Security::Plaintext,
        opening: None,
        mesh: None,
        hop: Hop::ToProxy,
        far: Some(Arc::new(Far {
            peer: Peer::Pod(server),
            source: FarSource::Service,
            security: Security::IstioMutualTls,
            identity: None,
            proxy: None,
        })),
    };
    let side = Side {
        first: Monotonic(2 * SECOND),
        last: Monotonic(2 * SECOND),
        head_bytes: 100,
        body_bytes: 0,
    };
    Call {
        exchange: Exchange {
            connection: link.connection.id,
            role: Role::Client,
            ordinal: 0,
            request: Arc::new(RequestHead {
                method: "GET".into(),
                path: path.into(),
                has_query: false,
                scheme: None,
                authority: name(number).into(),
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
            ended: Monotonic(2 * SECOND + 1_000_000),
            hop: (1, 2),
            context: None,
            cause: None,
            forwarded: None,
        },
        route: path.into(),
        error: None,
        http_error: None,
        far: None,
        probe: false,
        link: Arc::new(link),
    }
}

fn policies(criterion: &mut Criterion) {
    let before = resident();
    let mut policies = Policies::default();
    for change in declared() {
        policies.apply(change);
    }
    println!("resident: {} KiB", (resident() - before) / 1024);
    assert_eq!(policies.misunderstood().count(), 0);
    let pods: Vec<Arc<Pod>> = (0..WORKLOADS).map(pod).collect();
    let mut numbers = (0..WORKLOADS).cycle().step_by(7_919);
    let mut next = move || numbers.next().unwrap_or_default();
    let mut group = criterion.benchmark_group("mesh");
    group.bench_function("accepts", |bench| {
        bench.iter(|| black_box(policies.accepts(&pods[next() as usize], 8080)));
    });
    let ends = |number: u32| {
        let (client, server) = ((number + 1) % WORKLOADS, number % WORKLOADS);
        (&pods[client as usize], &pods[server as usize])
    };
    let to = |server: &'static Pod| Destination {
        service: Some((&server.namespace, &server.service.name)),
        authority: &server.service.name,
        port: 80,
        pod: Some(server),
        pod_port: 8080,
        address: None,
    };
    // Kept to the end of the process: what is asked borrows from them.
    let kept: Vec<&'static Pod> = pods
        .iter()
        .map(|pod| &*Box::leak(Box::new(Pod::clone(pod))))
        .collect();
    let request = Request {
        method: "GET",
        path: "/v4/orders",
        ..Request::default()
    };
    group.bench_function("sends", |bench| {
        bench.iter(|| {
            let number = next();
            black_box(policies.sends(ends(number).0, &to(kept[number as usize])))
        });
    });
    group.bench_function("routing", |bench| {
        bench.iter(|| {
            let number = next();
            let to = to(kept[number as usize]);
            black_box(policies.routing(Some(ends(number).0), &to, &request))
        });
    });
    group.bench_function("access", |bench| {
        bench.iter(|| {
            let (client, server) = ends(next());
            let account = format!(
                "spiffe://cluster.local/ns/{}/sa/{}",
                client.namespace, client.traits.service_account
            );
            let caller = Caller {
                pod: Some(client),
                identity: Some(&identity(&account)),
                mutual: Some(true),
                address: None,
            };
            black_box(policies.access(server, 8080, &caller, Some(&request)))
        });
    });
    group.finish();
}

fn ledger(criterion: &mut Criterion) {
    let mut ledger = Ledger::new(Config::default());
    for change in declared() {
        ledger.declare(change, Monotonic(1));
    }
    let pods: Vec<Arc<Pod>> = (0..WORKLOADS).map(pod).collect();
    let calls: Vec<Call> = (0..WORKLOADS)
        .map(|number| call(&pods, number, "/v4/orders"))
        .collect();
    let before = resident();
    for call in &calls {
        ledger.link(&LinkEvent::Opened(call.link.clone()), Monotonic(SECOND));
    }
    let mut now = Monotonic(2 * SECOND);
    let mut group = criterion.benchmark_group("ledger");
    let mut numbers = (0..WORKLOADS).cycle().step_by(7_919);
    group.bench_function("call", |bench| {
        bench.iter(|| {
            let number = numbers.next().unwrap_or_default();
            black_box(ledger.call(&calls[number as usize], now))
        });
    });
    println!(
        "resident, 1,000 edges: {} KiB",
        (resident() - before) / 1024
    );
    group.bench_function("tick/all_edges_changed", |bench| {
        bench.iter(|| {
            for call in &calls {
                ledger.call(call, now);
            }
            now = Monotonic(now.0 + SECOND);
            ledger.tick(now);
        });
    });
    group.bench_function("report", |bench| {
        bench.iter(|| black_box(ledger.report(None, now, WallOffset::default())));
    });
    group.finish();
}

criterion_group!(benches, policies, ledger);
criterion_main!(benches);
