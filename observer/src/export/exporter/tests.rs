//! Tests of the way from the outlet to a collector: batches, the clock, new settings, the end.

use std::sync::atomic::{AtomicU64, Ordering};

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    metrics::v1::{Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, metric::Data},
};
use prost::Message as _;
use tokio::task::JoinHandle;

use super::*;
use crate::{
    aggregate::{Aggregator, fixture},
    export::{
        Outlet, channel,
        otlp::{
            fixture::{about, span_of},
            logs,
            sender::tests::{
                collector::{Act, Collector},
                settings,
            },
            traces,
        },
    },
    model::{
        call::Call,
        connection::Role,
        time::Monotonic,
        trace::SpanId,
        workload::{Peer, Workload},
    },
    telemetry::health::Health,
};

/// A call at `role` by process `pid`, with one that is process `peer`.
fn call(role: Role, pid: u32, peer: u32) -> Call {
    let workload = |pid| {
        Arc::new(Workload {
            pid,
            ..(*fixture::workload("web")).clone()
        })
    };
    let link = fixture::link_with(7, "web", role, Peer::Local(workload(peer)));
    let link = crate::model::call::Link {
        workload: workload(pid),
        ..(*link).clone()
    };
    fixture::call_on(&Arc::new(link), "/a", 200)
}

fn span(number: u64) -> Span {
    Span {
        id: SpanId((number + 1).to_be_bytes()),
        ..span_of(call(Role::Server, 0, 0))
    }
}

fn access() -> Access {
    Access {
        call: Box::new(call(Role::Server, 0, 0)),
        span: None,
    }
}

/// A settings' endpoint with short times.
fn quick(collector: &Collector, grpc: bool) -> Settings {
    Settings {
        batch_items: 10,
        batch_delay: Duration::from_millis(30),
        interval: Duration::from_secs(1),
        ..settings(&collector.url(), grpc, &[])
    }
}

fn snapshot() -> Snapshot {
    Aggregator::new(crate::aggregate::Config::default()).snapshot(Health::default(), Monotonic(1))
}

struct Running {
    outlet: Outlet,
    status: Arc<Status>,
    task: JoinHandle<()>,
    stop: tokio::sync::oneshot::Sender<()>,
    snapshots: Arc<AtomicU64>,
}

/// A request with one data point.
fn point() -> ExportMetricsServiceRequest {
    let data_points = vec![NumberDataPoint::default()];
    let metric = Metric {
        data: Some(Data::Gauge(Gauge { data_points })),
        ..Metric::default()
    };
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            scope_metrics: vec![ScopeMetrics {
                metrics: vec![metric],
                ..ScopeMetrics::default()
            }],
            ..ResourceMetrics::default()
        }],
    }
}

/// An exporter that runs, with its own encoders, but for metrics: a point for each snapshot.
fn run(settings: &Settings) -> Running {
    let (outlet, exporter) = channel(settings);
    let status = Arc::clone(exporter.status());
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let mut spans = traces::Encoder::new(false);
    let mut entries = logs::Encoder::default();
    let encoders = Encoders {
        traces: Box::new(move |batch, about| spans.encode(batch, about)),
        logs: Box::new(move |batch, about| entries.encode(batch, about)),
        metrics: Box::new(|_, _| vec![point()]),
    };
    let snapshots = Arc::new(AtomicU64::new(0));
    let taken = Arc::clone(&snapshots);
    let task = tokio::spawn(exporter.run_with(
        encoders,
        move || {
            taken.fetch_add(1, Ordering::Relaxed);
            std::future::ready(Some(snapshot()))
        },
        about,
        async move {
            // Dropped, it means the same.
            let _ = stopped.await;
        },
    ));
    Running {
        outlet,
        status,
        task,
        stop,
        snapshots,
    }
}

impl Running {
    fn sent(&self, signal: Signal) -> u64 {
        self.status.of(signal).sent.load(Ordering::Relaxed)
    }

    /// Waits until so many are sent.
    async fn until_sent(&self, signal: Signal, count: u64) {
        for _ in 0..1000 {
            if self.sent(signal) >= count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{} of {count} {}", self.sent(signal), signal.as_str());
    }
}

#[tokio::test]
async fn all_signals_get_there() {
    for grpc in [true, false] {
        let collector = Collector::start(grpc).await;
        let mut running = run(&quick(&collector, grpc));
        assert!(running.outlet.wants_spans() && running.outlet.wants_accesses());
        for number in 0..25 {
            running.outlet.span(span(number));
        }
        running.outlet.access(access());
        running.until_sent(Signal::Traces, 25).await;
        running.until_sent(Signal::Logs, 1).await;
        running.until_sent(Signal::Metrics, 1).await;
        let mut batches: Vec<usize> = Vec::new();
        for request in collector.received() {
            if request.path.ends_with("traces") || request.path.contains("TraceService") {
                let message = ExportTraceServiceRequest::decode(&*request.message).unwrap();
                batches.push(message.items());
            }
        }
        assert_eq!(batches, [10, 10, 5]);
        let states = running.status.states();
        assert_eq!(states.len(), 3);
        assert!(states.iter().all(|state| state.error.is_none()));
        // The end tells once more what is measured, and all that waits.
        let measured = running.snapshots.load(Ordering::Relaxed);
        running.outlet.span(span(99));
        running.stop.send(()).unwrap();
        running.task.await.unwrap();
        let status = &running.status;
        assert_eq!(status.of(Signal::Traces).sent.load(Ordering::Relaxed), 26);
        assert!(running.snapshots.load(Ordering::Relaxed) > measured);
        assert!(status.losses().iter().all(|loss| loss.count == 0));
    }
}

#[tokio::test]
async fn without_an_endpoint_nothing_is_kept() {
    let mut running = run(&Settings::default());
    assert!(!running.outlet.wants_spans() && !running.outlet.wants_accesses());
    running.outlet.span(span(1));
    running.outlet.access(access());
    assert!(running.status.states().is_empty());
    let tables = running.status.tables();
    assert!(
        tables
            .iter()
            .all(|table| table.entries == 0 && table.limit == 16_384)
    );

    // It begins when there is one, and ends when there is none any longer.
    let collector = Collector::start(true).await;
    let on = quick(&collector, true);
    running.outlet.reconfigure(&on);
    assert!(running.outlet.wants_spans());
    running.outlet.span(span(1));
    running.until_sent(Signal::Traces, 1).await;
    running.outlet.reconfigure(&Settings {
        endpoint: None,
        ..on
    });
    assert!(!running.outlet.wants_spans());
    running.outlet.span(span(2));
    drop(running.stop);
    running.task.await.unwrap();
    assert!(running.status.losses().iter().all(|loss| loss.count == 0));
}

#[tokio::test]
async fn while_the_collector_is_away_the_newest_wait() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let settings = Settings {
        batch_items: 16,
        batch_delay: Duration::from_millis(10),
        queue_items: 64,
        ..settings(&format!("http://{address}"), true, &[])
    };
    let mut running = run(&settings);
    for number in 0..1000 {
        running.outlet.span(span(number));
        if number == 100 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    let queued = &running.status.tables()[0];
    assert_eq!((queued.entries, queued.limit), (64, 64));
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let collector = Collector::listen(listener, true, None);
    // One batch was on its way.
    running.until_sent(Signal::Traces, 64 + 16).await;
    let dropped = running
        .status
        .of(Signal::Traces)
        .dropped(Dropped::QueueFull);
    assert_eq!(dropped, 1000 - 64 - 16);
    collector.stop();
}

#[tokio::test]
async fn the_end_comes_soon_and_what_is_left_is_counted() {
    let collector = Collector::start(true).await;
    collector.script((0..100).map(|_| Act::Slow(Duration::from_secs(60))));
    let mut running = run(&quick(&collector, true));
    for number in 0..35 {
        running.outlet.span(span(number));
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let start = std::time::Instant::now();
    running.stop.send(()).unwrap();
    running.task.await.unwrap();
    let took = start.elapsed();
    assert!(
        took >= FLUSH && took < FLUSH + Duration::from_secs(4),
        "{took:?}"
    );
    let status = running.status.of(Signal::Traces);
    assert_eq!(status.dropped(Dropped::Shutdown), 35);
}

#[tokio::test]
async fn our_own_calls_are_not_exported() {
    let collector = Collector::start(true).await;
    let mut running = run(&quick(&collector, true));
    let us = 4711;
    running.outlet.set_own_process(us);
    for (role, pid, peer, exported) in [
        (Role::Client, us, 1, false),
        (Role::Server, us, 1, false),
        // The collector on this host, which sees our export.
        (Role::Server, 1, us, false),
        // Whoever asks us for metrics.
        (Role::Client, 1, us, true),
        (Role::Server, 1, 2, true),
    ] {
        let before = running.status.tables()[0].entries;
        running.outlet.span(span_of(call(role, pid, peer)));
        let after = running.status.tables()[0].entries;
        assert_eq!(after > before, exported, "{role:?} {pid} {peer}");
        running.outlet.access(Access {
            call: Box::new(call(role, pid, peer)),
            span: None,
        });
    }
    running.until_sent(Signal::Traces, 2).await;
    running.until_sent(Signal::Logs, 2).await;
    drop(running.stop);
    running.task.await.unwrap();
    assert_eq!(
        running.status.of(Signal::Logs).sent.load(Ordering::Relaxed),
        2
    );
}

#[test]
fn what_waits_is_weighed() {
    let light = span(1).weight();
    let mut heavy = call(Role::Client, 1, 2);
    heavy.route = "/".repeat(5000).into();
    assert!(light > 500 && light < 5000, "{light}");
    assert!(span_of(heavy).weight() > light + 4000);
}
