//! The server over real sockets: endpoints, health, followers, slow and stuck clients, shutdown.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};

use super::*;
use crate::{
    aggregate::{Aggregator, fixture},
    mesh::report,
    model::time::Monotonic,
    telemetry::health::{ClusterState, ExportState, Health},
};

const LONG: Duration = Duration::from_secs(20);

struct Server {
    hub: Hub,
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
}

async fn serve(config: Config) -> (Server, Pipeline) {
    let (hub, pipeline) = channel(config, WallOffset { nanoseconds: 0 });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let shutdown = async {
        let _ = stopped.await;
    };
    let served = tokio::spawn(run(listener, hub.clone(), shutdown));
    (
        Server {
            hub,
            address,
            stop,
            served,
        },
        pipeline,
    )
}

fn health() -> Health {
    Health {
        cluster: vec![ClusterState {
            source: "hub",
            kind: "pods",
            synced: true,
            age_seconds: Some(1.5),
            objects: 3,
            requests: 2,
            errors: vec![("gone", 1)],
        }],
        export: vec![ExportState {
            signal: "traces",
            destination: "http://collector:4317".to_owned(),
            protocol: "grpc",
            sent: 5,
            failures: 1,
            error: Some("HTTP 503".to_owned()),
            ..ExportState::default()
        }],
        ..Health::default()
    }
}

/// Answers queries from an aggregate with one service until the pipeline is aborted.
fn drive(mut pipeline: Pipeline, calls: usize) -> JoinHandle<()> {
    tokio::spawn(async move {
        let now = Monotonic(3 * fixture::SECOND);
        let mut aggregator = Aggregator::new(Default::default());
        for _ in 0..calls {
            aggregator.call(&fixture::call("web", "/", 200), None, now);
        }
        loop {
            while let Some(query) = pipeline.query() {
                match query {
                    Query::Snapshot(reply) => {
                        let _ = reply.send(aggregator.snapshot(health(), now));
                    }
                    Query::Graph(reply) => {
                        let _ = reply.send(aggregator.graph(now));
                    }
                    Query::GraphIn { window, reply } => {
                        let _ = reply.send(aggregator.graph_in(window, now));
                    }
                    Query::Mesh { window, reply } => {
                        let mut report = report::fixture::report();
                        if let Some(window) = window {
                            report.readiness[0].window_seconds = window.as_secs_f64();
                        }
                        let _ = reply.send(Arc::new(report));
                    }
                    Query::History {
                        last,
                        filter,
                        reply,
                    } => {
                        let history = aggregator.history();
                        let flows = history.last(last, |flow| filter.matches(flow));
                        let _ = reply.send(Recent {
                            flows,
                            sequence: history.sequence(),
                        });
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
}

impl Server {
    /// Head and body of the answer to one request on a connection of its own.
    async fn get(&self, path: &str, fields: &str) -> (String, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{fields}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(LONG, stream.read_to_string(&mut answer))
            .await
            .unwrap()
            .unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    }

    async fn status(&self, path: &str) -> (u16, String) {
        let (head, body) = self.get(path, "").await;
        (head[9..12].parse().unwrap(), body)
    }

    /// A client that follows, its answer's head read.
    async fn follow(&self) -> BufReader<TcpStream> {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = "GET /api/v1/flows?follow=true HTTP/1.1\r\nhost: x\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            timeout(LONG, stream.read_line(&mut line))
                .await
                .unwrap()
                .unwrap();
        }
        stream
    }
}

#[tokio::test]
async fn endpoints() {
    let (server, pipeline) = serve(Config::default()).await;
    drive(pipeline, 3);

    let (status, index) = server.status("/").await;
    assert_eq!(status, 200);
    for path in [
        "/metrics",
        "/livez",
        "/readyz",
        "/api/v1/flows",
        "/api/v1/services",
        "/api/v1/findings",
        "/api/v1/mesh/readiness",
    ] {
        assert!(index.contains(path), "{path} is not in the index");
    }

    let (head, body) = server.get("/metrics", "").await;
    assert!(
        head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"),
        "{head}"
    );
    assert!(body.contains("http_server_request_duration_seconds_count{service_name=\"web\""));
    assert!(body.contains("observer_loss_total{stage=\"serve\",reason=\"follower_lagged\"} 0\n"));
    let (head, body) = server
        .get("/metrics", "accept: application/openmetrics-text\r\n")
        .await;
    assert!(
        head.contains("content-type: application/openmetrics-text; version=1.0.0;"),
        "{head}"
    );
    assert!(body.ends_with("# EOF\n"));

    let (status, text) = server.status("/nothing").await;
    assert_eq!(
        (status, text.as_str()),
        (404, "/nothing is not here; GET / lists what is\n")
    );
    let (status, text) = server.status("/api/v1/flows?colour=red").await;
    assert_eq!(status, 400);
    assert!(
        text.starts_with("colour: expected one of last, follow, service"),
        "{text}"
    );

    let (status, services) = server.status("/api/v1/services").await;
    assert_eq!(status, 200);
    let services: Value = serde_json::from_str(&services).unwrap();
    let row = services["services"][0].as_object().unwrap();
    assert_eq!(services["window_seconds"], 10);
    assert_eq!(
        (&row["service"], &row["side"], &row["calls_total"]),
        (&"web".into(), &"server".into(), &3.into())
    );
    let mut keys: Vec<&str> = row.keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(
        keys.join(" "),
        "calls_per_second calls_total coverage_ratio encrypted_ratio error_ratio errors_per_second errors_total \
         in_flight k8s_container k8s_namespace k8s_workload k8s_workload_kind lost_total oldest_in_flight_seconds open_connections p50_seconds p95_seconds \
         p99_seconds received_bytes_per_second sent_bytes_per_second service service_namespace side"
    );
}

#[tokio::test]
async fn readiness() {
    let (server, _pipeline) = serve(Config::default()).await;
    let text = "not ready: capture is not attached yet\n";
    assert_eq!(server.status("/readyz").await, (503, text.to_owned()));
    server.hub.set_unready(Vec::new());
    assert_eq!(server.status("/readyz").await, (200, "ready\n".to_owned()));
    server.hub.set_unready(vec!["no cgroup".to_owned()]);
    assert_eq!(
        server.status("/readyz").await,
        (503, "not ready: no cgroup\n".to_owned())
    );
}

#[tokio::test]
async fn readiness_tells_of_kubernetes_and_does_not_depend_on_it() {
    let (server, pipeline) = serve(Config::default()).await;
    let driver = drive(pipeline, 0);
    server.hub.set_unready(Vec::new());
    let known =
        "kubernetes: hub: pods known, 3 objects, heard 2 seconds ago, failed 1 times: gone\n";
    for query in ["verbose", "verbose=true", "a=b&verbose"] {
        let (status, text) = server.status(&format!("/readyz?{query}")).await;
        assert_eq!((status, text), (200, format!("ready\n{known}")));
    }
    assert_eq!(server.status("/readyz?a=verbose").await.1, "ready\n");
    server.hub.set_unready(vec!["no cgroup".to_owned()]);
    let (status, text) = server.status("/readyz?verbose").await;
    assert_eq!(
        (status, text),
        (503, format!("not ready: no cgroup\n{known}"))
    );
    // Nobody who knows is there.
    driver.abort();
    server.hub.set_unready(Vec::new());
    let (status, text) = server.status("/readyz?verbose").await;
    assert_eq!(status, 200);
    assert!(
        text.starts_with("ready\nkubernetes: the pipeline"),
        "{text}"
    );
}

#[test]
fn what_is_not_known_of_kubernetes_is_said() {
    let state = ClusterState {
        synced: false,
        age_seconds: None,
        errors: vec![("forbidden", 2), ("silent", 0)],
        ..health().cluster.remove(0)
    };
    assert_eq!(
        routes::knowledge(&state),
        "kubernetes: hub: pods not known yet, 3 objects, never heard, failed 2 times: forbidden\n"
    );
}

#[tokio::test]
async fn a_silent_pipeline_is_not_alive_and_does_not_hold_clients() {
    let short = Duration::from_millis(500);
    let config = Config {
        query_timeout: short,
        silence: short,
        ..Config::default()
    };
    let (server, pipeline) = serve(config).await;
    pipeline.tick();
    assert_eq!(server.status("/livez").await, (200, "alive\n".to_owned()));
    tokio::time::sleep(short * 2).await;
    assert_eq!(server.status("/livez").await.0, 503);
    for path in ["/metrics", "/api/v1/services", "/api/v1/flows"] {
        let (status, text) = server.status(path).await;
        assert_eq!(status, 503);
        assert_eq!(text, "the pipeline did not answer in time; try again\n");
    }
    drop(pipeline);
    let (status, text) = server.status("/metrics").await;
    assert_eq!((status, text.as_str()), (503, "the pipeline has ended\n"));
}

#[tokio::test]
async fn a_slow_follower_is_told_what_it_lost_and_holds_nobody() {
    const FLOWS: usize = 200_000;
    let (hub, mut pipeline) = channel(
        Config {
            live_flows: 16,
            ..Config::default()
        },
        WallOffset::default(),
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let served = tokio::spawn(run(listener, hub.clone(), std::future::pending()));
    let (stop, served) = (oneshot::channel().0, served);
    let server = Server {
        hub,
        address,
        stop,
        served,
    };
    let (following, mut stream) = tokio::join!(
        async {
            loop {
                if let Some(Query::History { reply, .. }) = pipeline.query() {
                    let _ = reply.send(Recent {
                        flows: Vec::new(),
                        sequence: 0,
                    });
                    return;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        },
        server.follow()
    );
    let () = following;
    // Published from a thread of its own, while the client reads nothing at all.
    let publisher = std::thread::spawn(move || {
        let mut aggregator = Aggregator::new(Default::default());
        let call = fixture::call("web", "/", 200);
        for _ in 0..FLOWS {
            pipeline.publish(aggregator.call(&call, None, Monotonic(1)).unwrap());
        }
        pipeline
    });
    while !publisher.is_finished() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let _pipeline = publisher.join().unwrap();
    let (mut shown, mut lost) = (0, 0);
    let mut line = String::new();
    while shown + lost < FLOWS as u64 {
        line.clear();
        timeout(LONG, stream.read_line(&mut line))
            .await
            .unwrap()
            .unwrap();
        // Chunk sizes and the ends of chunks stand between the lines.
        if let Ok(flow) = serde_json::from_str::<Value>(&line)
            && let Some(kind) = flow.get("kind")
        {
            match kind.as_str().unwrap() {
                "lost" => lost += flow["count"].as_u64().unwrap(),
                _ => shown += 1,
            }
        }
    }
    assert_eq!(shown + lost, FLOWS as u64);
    assert!(shown > 0 && lost > 0, "{shown} shown, {lost} lost");
    assert_eq!(server.hub.losses()[0].count, lost);
}

#[tokio::test]
async fn followers_and_connections_are_bounded() {
    let config = Config {
        followers: 1,
        connections: 2,
        ..Config::default()
    };
    let (server, pipeline) = serve(config).await;
    drive(pipeline, 0);
    let follower = server.follow().await;
    let (status, text) = server.status("/api/v1/flows?follow=true").await;
    assert_eq!(
        (status, text.as_str()),
        (503, "too many clients follow flows; try again later\n")
    );
    let idle = TcpStream::connect(server.address).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let mut third = TcpStream::connect(server.address).await.unwrap();
    let mut answer = String::new();
    timeout(LONG, third.read_to_string(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(
        head.contains(&format!("content-length: {}", body.len())),
        "{answer}"
    );
    assert_eq!(server.hub.losses()[1].count, 2);

    drop((follower, idle));
    let ended = async {
        while server.hub.shared.followers.available_permits() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(LONG, ended).await.unwrap();
    drop(server.follow().await);
}

#[tokio::test]
async fn a_client_that_never_ends_its_head_is_dropped() {
    let head_timeout = Duration::from_millis(100);
    let (server, _pipeline) = serve(Config {
        head_timeout,
        ..Config::default()
    })
    .await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nx-a: ").await.unwrap();
    let mut answer = Vec::new();
    let dripping = async {
        // A byte now and then must not buy more time.
        while stream.write_all(b"b").await.is_ok() {
            tokio::select! {
                read = stream.read_buf(&mut answer) => if read.is_err() || matches!(read, Ok(0)) { return },
                () = tokio::time::sleep(Duration::from_millis(20)) => {}
            }
        }
    };
    timeout(Duration::from_secs(5), dripping).await.unwrap();
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_dropped() {
    let stall_timeout = Duration::from_secs(1);
    let config = Config {
        stall_timeout,
        connections: 1,
        ..Config::default()
    };
    let (server, pipeline) = serve(config).await;
    drive(pipeline, 8_000);
    let mut stuck = TcpStream::connect(server.address).await.unwrap();
    // 100 MiB of answers: far more than the buffers of a socket hold.
    let request = "GET /api/v1/flows?last=8000 HTTP/1.1\r\nhost: x\r\n\r\n";
    stuck
        .write_all(request.repeat(20).as_bytes())
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    // A refusal can be overtaken by the reset of the connection: only an answer counts.
    let alive = async || {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let request = "GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        let mut answer = String::new();
        let asked = async {
            stream.write_all(request.as_bytes()).await?;
            stream.read_to_string(&mut answer).await
        };
        timeout(LONG, asked).await.unwrap().is_ok() && answer.contains(" 200 ")
    };
    assert!(!alive().await, "the only connection is taken");
    let freed = async {
        while !alive().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LONG, freed).await.unwrap();
}

#[tokio::test]
async fn shutdown_ends_followers_and_frees_the_port() {
    let (server, pipeline) = serve(Config::default()).await;
    drive(pipeline, 0);
    let mut follower = server.follow().await;
    server.stop.send(()).unwrap();
    timeout(Duration::from_millis(1_900), server.served)
        .await
        .unwrap()
        .unwrap();
    let mut rest = String::new();
    timeout(LONG, follower.read_to_string(&mut rest))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(rest, "0\r\n\r\n");
    TcpListener::bind(server.address).await.unwrap();
}

#[tokio::test]
async fn the_graph_and_the_status() {
    let (server, pipeline) = serve(Config::default()).await;
    let pipeline = drive(pipeline, 3);
    let (status, body) = server.status("/api/v1/graph").await;
    assert_eq!(status, 200, "{body}");
    let graph: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(graph["edges"][0]["source"], "outside");
    assert_eq!(graph["edges"][0]["destination"], "service:shop/web");
    assert_eq!(graph["edges"][0]["requests_total"], 3);
    let (status, body) = server.status("/api/v1/status").await;
    assert_eq!(status, 200, "{body}");
    let found: Value = serde_json::from_str(&body).unwrap();
    let expected = serde_json::json!({
        "version": env!("CARGO_PKG_VERSION"), "ready": false,
        "unready": ["capture is not attached yet"],
        "kubernetes": [{
            "source": "hub", "kind": "pods", "synced": true, "age_seconds": 1.5, "objects": 3,
            "requests_total": 2, "errors_total": {"gone": 1}
        }],
        "export": [{
            "signal": "traces", "destination": "http://collector:4317", "protocol": "grpc",
            "queued_items": 0, "sent_items_total": 5, "rejected_items_total": 0,
            "dropped_items_total": 0, "requests_total": 0, "failures_total": 1,
            "age_seconds": null, "error": "HTTP 503"
        }]
    });
    assert_eq!(found, expected);
    pipeline.abort();
}

#[tokio::test]
async fn the_graph_for_grafana() {
    let (server, pipeline) = serve(Config::default()).await;
    let pipeline = drive(pipeline, 3);
    for path in [
        "/api/v1/node-graph?window=5m&focus=web",
        "/api/graph/data?query=window%3D5m%26focus%3Dweb",
    ] {
        let (status, body) = server.status(path).await;
        assert_eq!(status, 200, "{body}");
        let graph: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(graph["edges"][0]["target"], "service:shop/web");
        assert_eq!(graph["granularity_seconds"], 60);
    }
    for path in [
        "/api/v1/node-graph?window=1d",
        "/api/graph/data?query=window%3D1d",
    ] {
        let (status, body) = server.status(path).await;
        assert_eq!(
            (status, body.as_str()),
            (400, "window=1d: expected 10s to 1h\n")
        );
    }
    let (status, body) = server.status("/api/graph/data?query=%7F").await;
    assert_eq!(status, 400, "{body}");
    assert_eq!(server.status("/api/graph/fields").await.0, 200);
    assert_eq!(server.status("/api/health").await.0, 503);
    pipeline.abort();
}

#[tokio::test]
async fn the_mesh() {
    let (server, pipeline) = serve(Config::default()).await;
    drive(pipeline, 0);
    for (path, list) in [
        ("/api/v1/findings?severity=critical", "findings"),
        ("/api/v1/mesh", "edges"),
        ("/api/v1/mesh/mtls", "namespaces"),
        ("/api/v1/mesh/readiness?window=2d", "readiness"),
        ("/api/v1/mesh/split?host=cart", "splits"),
        ("/api/v1/mesh/routes", "routes"),
        ("/api/v1/mesh/authz?namespace=shop", "authorizations"),
    ] {
        let (status, body) = server.status(path).await;
        assert_eq!(status, 200, "{path}: {body}");
        let answer: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(answer["observed_seconds"], 7_200.0, "{path}");
        assert!(!answer[list].as_array().unwrap().is_empty(), "{path}");
        if list == "readiness" {
            assert_eq!(answer[list][0]["window_seconds"], 172_800.0);
        }
    }
    for path in [
        "/api/v1/findings?severity=worst",
        "/api/v1/mesh/readiness?window=1y",
        "/api/v1/mesh/split?workload=a",
    ] {
        let (status, text) = server.status(path).await;
        assert_eq!(status, 400, "{path}");
        assert!(text.ends_with('\n') && text.len() > 20, "{text}");
    }
}
