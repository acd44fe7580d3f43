//! What telling costs: a span, an entry of the access log, and a snapshot of metrics as OTLP.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::{hint::black_box, net::SocketAddr, sync::Arc, time::Duration};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use observer::{
    aggregate::{
        contract,
        distribution::Distribution,
        histogram::REQUEST_SECONDS,
        series::Labels,
        snapshot::{Samples, Series, Snapshot, Value},
    },
    config::Histograms,
    export::{
        about::About,
        otlp::{logs, metrics, traces},
    },
    model::{
        call::{Call, Link},
        connection::{Connection, ConnectionId, Owner, Role},
        exchange::{Exchange, HttpVersion, Outcome, RequestHead, Side},
        kubernetes::{self, Container, Node, Pod, ServiceName},
        mesh::Hop,
        security::Security,
        span::{Access, Kept, Span, Subject},
        time::{Monotonic, WallOffset},
        trace::{ParentSource, SpanId, TraceId},
        workload::{Peer, Runtime, Workload},
    },
};
use prost::Message as _;

/// Spans in a request.
const SPANS: u64 = 1_024;

/// Series in a snapshot.
const SERIES: u64 = 1_000;

fn about() -> About {
    About {
        cluster: "production".into(),
        host_name: "node-1".into(),
        host_id: "0123456789abcdef0123456789abcdef".into(),
        node: "node-1".into(),
        offset: WallOffset {
            nanoseconds: 1_700_000_000_000_000_000,
        },
        version: "0.1.0",
    }
}

fn pod(service: &str) -> Arc<Pod> {
    let owner = |kind: &str| kubernetes::Owner {
        kind: kind.into(),
        name: service.into(),
    };
    Arc::new(Pod {
        uid: "7f1c0d8e-0000-4000-8000-000000000000".into(),
        namespace: "shop".into(),
        name: format!("{service}-5d4f8c-x7k2p").into(),
        node: Some(Arc::new(Node {
            name: "node-1".into(),
            zone: "eu-1a".into(),
            region: "eu-1".into(),
        })),
        owners: [owner("ReplicaSet"), owner("Deployment")].into(),
        service: Arc::new(ServiceName {
            name: service.into(),
            namespace: "shop".into(),
            version: "1".into(),
        }),
        ..Pod::default()
    })
}

fn workload(service: &str) -> Arc<Workload> {
    Arc::new(Workload {
        service: service.into(),
        namespace: "shop".into(),
        version: "1".into(),
        runtime: Runtime::Container {
            id: "c0ffee".into(),
            engine: "containerd",
        },
        executable: "/usr/bin/server".into(),
        container: Some(Container {
            pod: pod(service),
            name: "main".into(),
        }),
        ..Workload::default()
    })
}

fn link(workload: &Arc<Workload>) -> Arc<Link> {
    let local: SocketAddr = "10.0.0.1:8080".parse().unwrap();
    let remote: SocketAddr = "10.0.0.2:40000".parse().unwrap();
    Arc::new(Link {
        connection: Connection {
            id: ConnectionId(1),
            role: Role::Server,
            local,
            remote,
            wire: None,
            owner: Owner {
                pid: 4_242,
                ..Owner::default()
            },
            started: Monotonic(1),
            established: Some(Monotonic(2)),
            sequences: Some((1, 2)),
            pre_existing: false,
        },
        workload: workload.clone(),
        peer: Peer::Pod(pod("web")),
        dialled: None,
        security: Security::Plaintext,
        opening: None,
        mesh: None,
        hop: Hop::Direct,
        far: None,
    })
}

fn call(link: &Arc<Link>) -> Call {
    let side = |first: u64, bytes| Side {
        first: Monotonic(first),
        last: Monotonic(first + 1_000),
        head_bytes: 100,
        body_bytes: bytes,
    };
    Call {
        link: link.clone(),
        exchange: Exchange {
            connection: link.connection.id,
            role: Role::Server,
            ordinal: 0,
            request: Arc::new(RequestHead {
                method: "GET".into(),
                path: "/users/4711/orders".into(),
                has_query: false,
                scheme: None,
                authority: "cart.shop:8080".into(),
                user_agent: "Go-http-client/1.1".into(),
                version: HttpVersion::Http11,
                truncated: false,
            }),
            sent: side(1_000, 0),
            status: Some(200),
            response_version: Some(HttpVersion::Http11),
            received: Some(side(2_000_000, 300)),
            stream: None,
            pushed: false,
            reset: None,
            rpc: None,
            outcome: Outcome::Complete,
            ended: Monotonic(2_001_000),
            hop: (1, 2),
            context: None,
            cause: None,
            forwarded: None,
        },
        route: "/users/{id}/orders".into(),
        error: None,
        http_error: None,
        far: None,
        probe: false,
    }
}

fn spans(criterion: &mut Criterion) {
    let about = about();
    let links: Vec<Arc<Link>> = ["cart", "web", "db", "users"]
        .iter()
        .map(|service| link(&workload(service)))
        .collect();
    let calls: Vec<Call> = (0..SPANS)
        .zip(links.iter().cycle())
        .map(|(_, link)| call(link))
        .collect();
    let spans: Vec<Span> = calls
        .iter()
        .map(|call| Span {
            trace: TraceId([1; 16]),
            id: SpanId([2; 8]),
            parent: SpanId::new([3; 8]),
            source: ParentSource::Hop,
            context: None,
            link: None,
            kept: Kept::Sampled,
            subject: Subject::Call(Box::new(call.clone())),
        })
        .collect();
    let entries: Vec<Access> = calls
        .iter()
        .map(|call| Access {
            call: Box::new(call.clone()),
            span: Some((TraceId([1; 16]), SpanId([2; 8]))),
        })
        .collect();
    let mut group = criterion.benchmark_group("encode");
    group.throughput(Throughput::Elements(SPANS));
    let mut encoder = traces::Encoder::new(true);
    group.bench_function("spans", |bench| {
        bench.iter(|| encoder.encode(black_box(&spans), &about));
    });
    group.bench_function("spans_to_bytes", |bench| {
        bench.iter(|| encoder.encode(black_box(&spans), &about).encode_to_vec());
    });
    let mut encoder = logs::Encoder::default();
    group.bench_function("access_to_bytes", |bench| {
        bench.iter(|| encoder.encode(black_box(&entries), &about).encode_to_vec());
    });
    group.finish();
}

fn snapshot(at: u64) -> Snapshot {
    let series = (0..SERIES).map(|number| {
        let labels: Labels = [
            ("service_name", Box::from("cart")),
            ("service_namespace", "shop".into()),
            ("k8s_namespace_name", "shop".into()),
            ("k8s_workload_kind", "Deployment".into()),
            ("k8s_workload_name", "cart".into()),
            ("http_request_method", "GET".into()),
            ("http_route", format!("/users/{{id}}/{number}").into()),
            ("http_response_status_code", "200".into()),
            ("url_scheme", "http".into()),
            ("security", "plaintext".into()),
        ]
        .into();
        let mut distribution = Distribution::new(true);
        for millisecond in 0..20 * at {
            let value = Duration::from_millis(millisecond);
            distribution.observe_duration(&REQUEST_SECONDS, value, None, Monotonic(at));
        }
        Series {
            labels,
            more: Box::default(),
            value: Value::Histogram(&REQUEST_SECONDS, Box::new(distribution)),
        }
    });
    Snapshot {
        at: Monotonic(at),
        families: vec![Samples {
            family: &contract::HTTP_SERVER_DURATION,
            series: series.collect(),
        }],
        services: Vec::new(),
        cluster: Vec::new(),
        export: Vec::new(),
        histograms: Histograms::Both,
    }
}

fn histograms(criterion: &mut Criterion) {
    let about = about();
    let snapshots = [snapshot(1), snapshot(2)];
    let mut group = criterion.benchmark_group("encode");
    group.throughput(Throughput::Elements(SERIES));
    for (name, exponential) in [("histograms", false), ("exponential_histograms", true)] {
        let settings = metrics::Settings {
            exponential,
            ..metrics::Settings::default()
        };
        let mut encoder = metrics::Encoder::new(settings, 0);
        let mut turn = snapshots.iter().cycle();
        group.bench_function(name, |bench| {
            bench.iter(|| turn.next().map(|snapshot| encoder.encode(snapshot, &about)));
        });
    }
    group.finish();
}

criterion_group!(benches, spans, histograms);
criterion_main!(benches);
