//! What sending costs: spans from the outlet to a collector in this process, over gRPC and HTTP.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::{HeaderMap, Request, Response, body::Incoming, server::conn, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use observer::{
    config::{Config, Flags, OtlpCompression, Signal},
    export::{
        self, About, Encoders, Settings,
        otlp::{logs, traces},
    },
    model::{
        call::{Call, Link},
        connection::{Connection, ConnectionId, Owner, Role},
        exchange::{Exchange, HttpVersion, Outcome, RequestHead, Side},
        mesh::Hop,
        security::Security,
        span::{Kept, Span, Subject},
        time::Monotonic,
        trace::{ParentSource, SpanId, TraceId},
        workload::{Peer, Workload},
    },
};

/// Spans of a run, as many as fit the queue.
const SPANS: u64 = 16_384;

fn link(service: &str) -> Arc<Link> {
    let local: SocketAddr = "10.0.0.1:8080".parse().unwrap();
    let remote: SocketAddr = "10.0.0.2:40000".parse().unwrap();
    Arc::new(Link {
        connection: Connection {
            id: ConnectionId(1),
            role: Role::Server,
            local,
            remote,
            wire: None,
            owner: Owner::default(),
            started: Monotonic(1),
            established: Some(Monotonic(2)),
            sequences: Some((1, 2)),
            pre_existing: false,
        },
        workload: Arc::new(Workload {
            service: service.into(),
            namespace: "shop".into(),
            ..Workload::default()
        }),
        peer: Peer::Address(remote.ip()),
        dialled: None,
        security: Security::Plaintext,
        opening: None,
        mesh: None,
        hop: Hop::Direct,
        far: None,
    })
}

fn span(number: u64, link: &Arc<Link>) -> Span {
    let side = |first: u64| Side {
        first: Monotonic(first),
        last: Monotonic(first + 1_000),
        head_bytes: 100,
        body_bytes: 300,
    };
    let start = number * 10_000;
    // Ids do not compress, as in life.
    let id = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let trace = u128::from(id) << 64 | u128::from(id.rotate_left(32));
    Span {
        trace: TraceId(trace.to_be_bytes()),
        id: SpanId(id.to_be_bytes()),
        parent: SpanId::new(id.rotate_left(7).to_be_bytes()),
        source: ParentSource::Hop,
        context: None,
        link: None,
        kept: Kept::Sampled,
        subject: Subject::Call(Box::new(Call {
            link: link.clone(),
            exchange: Exchange {
                connection: link.connection.id,
                role: Role::Server,
                ordinal: number,
                request: Arc::new(RequestHead {
                    method: "GET".into(),
                    path: format!("/users/{number}/orders").into(),
                    has_query: false,
                    scheme: None,
                    authority: "cart.shop:8080".into(),
                    user_agent: "Go-http-client/1.1".into(),
                    version: HttpVersion::Http11,
                    truncated: false,
                }),
                sent: side(start),
                status: Some(200),
                response_version: Some(HttpVersion::Http11),
                received: Some(side(start + 2_000_000)),
                stream: None,
                pushed: false,
                reset: None,
                rpc: None,
                outcome: Outcome::Complete,
                ended: Monotonic(start + 2_001_000),
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
        })),
    }
}

/// Reads requests to their end, and takes them.
async fn sink(listener: tokio::net::TcpListener, grpc: bool) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let service = service_fn(move |request: Request<Incoming>| async move {
            let _ = request.into_body().collect().await;
            Ok::<_, Infallible>(taken(grpc))
        });
        let stream = TokioIo::new(stream);
        tokio::spawn(async move {
            if grpc {
                let builder = conn::http2::Builder::new(TokioExecutor::new());
                let _ = builder.serve_connection(stream, service).await;
            } else {
                let builder = conn::http1::Builder::new();
                let _ = builder.serve_connection(stream, service).await;
            }
        });
    }
}

fn taken(grpc: bool) -> Response<BoxBody<Bytes, Infallible>> {
    if !grpc {
        return Response::new(Full::new(Bytes::new()).boxed());
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", 0.into());
    let body = Full::new(Bytes::from_static(&[0; 5]));
    let body = body.with_trailers(async move { Some(Ok(trailers)) });
    Response::new(body.boxed())
}

fn settings(address: SocketAddr, grpc: bool, compression: OtlpCompression) -> Settings {
    let environment = |name: &str| match name {
        "OBSERVER_OTLP_ENDPOINT" => Some(format!("http://{address}")),
        "OBSERVER_OTLP_PROTOCOL" if grpc => Some("grpc".to_owned()),
        _ => None,
    };
    let config = Config::load(None, &Flags::default(), &environment).unwrap();
    Settings {
        compression,
        batch_delay: Duration::from_millis(10),
        queue_bytes: 1 << 30,
        ..config.otlp
    }
}

fn exports(criterion: &mut Criterion) {
    let links: Vec<Arc<Link>> = ["cart", "web", "db", "users"].map(link).into();
    let spans: Vec<Span> = (0..SPANS)
        .zip(links.iter().cycle())
        .map(|(number, link)| span(number, link))
        .collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let mut group = criterion.benchmark_group("export");
    group
        .throughput(Throughput::Elements(SPANS))
        .sample_size(10);
    for (name, grpc, compression) in [
        ("grpc_gzip", true, OtlpCompression::Gzip),
        ("grpc", true, OtlpCompression::None),
        ("http_gzip", false, OtlpCompression::Gzip),
    ] {
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"));
        let listener = listener.unwrap();
        let address = listener.local_addr().unwrap();
        let sink = runtime.spawn(sink(listener, grpc));
        let (mut outlet, exporter) = export::channel(&settings(address, grpc, compression));
        let (mut encode, mut entries) = (traces::Encoder::new(true), logs::Encoder::default());
        let encoders = Encoders {
            traces: Box::new(move |spans, about| encode.encode(spans, about)),
            logs: Box::new(move |batch, about| entries.encode(batch, about)),
            metrics: Box::new(|_, _| Vec::new()),
        };
        let status = Arc::clone(exporter.status());
        let exporter = runtime.spawn(exporter.run_with(
            encoders,
            || std::future::ready(None),
            About::default,
            std::future::pending(),
        ));
        let sent = || status.of(Signal::Traces).sent.load(Ordering::Relaxed);
        group.bench_function(name, |bench| {
            bench.iter_custom(|runs| {
                let mut time = Duration::ZERO;
                for _ in 0..runs {
                    let batch = spans.clone();
                    let until = sent() + SPANS;
                    let start = Instant::now();
                    for span in batch {
                        outlet.span(span);
                    }
                    while sent() < until {
                        std::thread::sleep(Duration::from_micros(100));
                    }
                    time += start.elapsed();
                }
                time
            });
        });
        assert!(status.losses().iter().all(|loss| loss.count == 0));
        exporter.abort();
        sink.abort();
    }
    // What the pipeline's thread has of it.
    let (mut outlet, _exporter) = export::channel(&settings(
        ([127, 0, 0, 1], 1).into(),
        true,
        OtlpCompression::Gzip,
    ));
    group.bench_function("outlet_alone", |bench| {
        bench.iter_batched(
            || spans.clone(),
            |batch| batch.into_iter().for_each(|span| outlet.span(span)),
            criterion::BatchSize::LargeInput,
        );
    });
    group.finish();
}

criterion_group!(benches, exports);
criterion_main!(benches);
