//! What one exchange costs in user space: each stage alone, and all of them from a kernel record.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::{hint::black_box, sync::Arc};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use httlib_hpack::Encoder;
use observer::{
    aggregate::{self, Aggregator},
    assemble::{self, Assembler, Instruction, Sink, hpack::Decoder},
    config::Histograms,
    decode::decode,
    enrich::{self, Enricher},
    host::{self, Host},
    model::{
        call::{Call, LinkEvent},
        connection::{ConnectionEvent, ConnectionId},
        datagram::Datagrams,
        event::Event,
        exchange::Exchange,
        lookup::Lookup,
        time::Monotonic,
        trace::{SpanId, TraceId},
    },
};

#[path = "pipeline/peers.rs"]
mod peers;
#[path = "pipeline/records.rs"]
mod records;

use self::{
    peers::{Peers, REQUEST_FIELDS, RESPONSE_FIELDS, encode},
    records::{MESHED_REQUEST, REQUEST, RESPONSE, Records},
};

const PIPELINED: usize = 16;

/// All stages after `assemble`.
struct Rest {
    host: Host,
    enricher: Enricher,
    aggregator: Aggregator,
    calls: u64,
}

/// Keeps the last exchange only.
#[derive(Default)]
struct Last(Option<Exchange>);

// === impl Rest ===

impl Rest {
    fn new() -> Self {
        Self {
            host: Host::new(host::Config {
                proc_root: "/nonexistent".into(),
                cgroup_root: "/nonexistent".into(),
                ..host::Config::default()
            }),
            enricher: Enricher::new(enrich::Config::default()),
            aggregator: Aggregator::new(aggregate::Config::default()),
            calls: 0,
        }
    }
}

impl Sink for Rest {
    fn connection(&mut self, event: ConnectionEvent) {
        let now = Monotonic(1_000_000_000);
        if let Some(event) = self.enricher.connection(event, &mut self.host, now) {
            self.aggregator.link(&event, now);
        }
    }

    fn exchange(&mut self, exchange: Exchange) {
        let ended = exchange.ended;
        if let Some(call) = self.enricher.exchange(exchange, ended) {
            black_box(self.aggregator.call(&call, None, ended));
        }
        self.calls += 1;
    }

    fn lookup(&mut self, _: Lookup) {}

    fn datagrams(&mut self, _: Datagrams) {}

    fn instruct(&mut self, _: u32, _: ConnectionId, _: Instruction) {}
}

// === impl Last ===

impl Sink for Last {
    fn connection(&mut self, _: ConnectionEvent) {}

    fn exchange(&mut self, exchange: Exchange) {
        self.0 = Some(exchange);
    }

    fn lookup(&mut self, _: Lookup) {}

    fn datagrams(&mut self, _: Datagrams) {}

    fn instruct(&mut self, _: u32, _: ConnectionId, _: Instruction) {}
}

fn push(assembler: &mut Assembler, record: &[u8], out: &mut impl Sink) {
    assembler.push(decode(record).expect("a record"), out);
}

fn stages(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("stage");
    group.throughput(Throughput::Elements(1));
    let pair = Records::new(1).pair();
    group.bench_function("decode", |bench| {
        bench.iter(|| black_box(decode(black_box(&pair))));
    });

    let mut records = Records::new(1);
    let mut assembler = Assembler::new(assemble::Config::default());
    let mut last = Last::default();
    push(&mut assembler, &records.opened(), &mut last);
    let mut record = Vec::new();
    group.bench_function("record_making_only", |bench| {
        let mut records = Records::new(2);
        bench.iter(|| {
            records.next_pair(&mut record);
            black_box(&record);
        });
    });
    group.bench_function("decode_and_assemble", |bench| {
        bench.iter(|| {
            records.next_pair(&mut record);
            push(&mut assembler, &record, &mut last);
        });
    });

    let mut meshed = Last::default();
    group.bench_function("decode_and_assemble_in_a_mesh", |bench| {
        bench.iter(|| {
            records.pair_of(MESHED_REQUEST, RESPONSE, &mut record);
            push(&mut assembler, &record, &mut meshed);
        });
    });
    let id = b"x-request-id: f47ac10b-58cc-4372-a567-0e02b2c3d479\r\n\r\n";
    let with_id = [&MESHED_REQUEST[..MESHED_REQUEST.len() - 2], id].concat();
    group.bench_function("decode_and_assemble_in_a_mesh_with_ids", |bench| {
        bench.iter(|| {
            records.pair_of(&with_id, RESPONSE, &mut record);
            push(&mut assembler, &record, &mut meshed);
        });
    });

    let exchange = last.0.expect("an exchange");
    let mut rest = Rest::new();
    let Ok(Event::Opened { connection, .. }) = decode(&records.opened()) else {
        unreachable!("a record of a connection")
    };
    rest.connection(ConnectionEvent::Opened(connection));
    group.bench_function("enrich", |bench| {
        bench.iter_batched(
            || exchange.clone(),
            |exchange| {
                let ended = exchange.ended;
                black_box(rest.enricher.exchange(exchange, ended))
            },
            BatchSize::SmallInput,
        );
    });
    let ended = exchange.ended;
    let mut call: Call =
        (rest.enricher.exchange(exchange, ended)).expect("a call that does not wait");
    let began = call.exchange.ended;
    let span = Some((TraceId([1; 16]), SpanId([2; 8])));
    // All at once, so that they share what else the machine does.
    for (name, histograms, span) in [
        ("aggregate", Histograms::Both, None),
        ("aggregate_classic", Histograms::Classic, None),
        ("aggregate_sampled", Histograms::Both, span),
    ] {
        let mut aggregator = Aggregator::new(aggregate::Config {
            histograms,
            ..aggregate::Config::default()
        });
        aggregator.link(&LinkEvent::Opened(call.link.clone()), began);
        let mut now = began;
        let mut spread = 1_u64;
        group.bench_function(name, |bench| {
            bench.iter(|| {
                now = Monotonic(now.0 + 1000);
                // Durations from microseconds to a second.
                spread = spread.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(1);
                let taken = spread >> (34 + (spread & 7));
                call.exchange.ended = Monotonic(began.0 + taken);
                black_box(aggregator.call(&call, span, now));
            });
        });
    }
    black_box(Arc::strong_count(&call.link));
    group.finish();
}

/// HTTP/2 beside HTTP/1: `decode_and_assemble` of [`stages`], for each exchange.
fn http2(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("http2");
    for (name, streams, calls) in [
        ("decode_and_assemble_pair", 1, false),
        ("decode_and_assemble_100_in_a_segment", 100, false),
        ("decode_and_assemble_call", 1, true),
        ("decode_and_assemble_100_calls_in_a_segment", 100, true),
    ] {
        let mut assembler = Assembler::new(assemble::Config::default());
        let mut rest = Rest::new();
        let mut peers = Peers::new(1, streams, calls);
        peers.open(calls, &mut assembler, &mut rest);
        assert_eq!(rest.calls, u64::from(streams), "each was an exchange");
        let mut last = Last::default();
        group.throughput(Throughput::Elements(streams.into()));
        group.bench_function(name, |bench| {
            bench.iter(|| peers.next(&mut assembler, &mut last));
        });
        let last = last.0.expect("an exchange");
        assert_eq!((last.status, last.rpc.is_some()), (Some(200), calls));
    }

    group.throughput(Throughput::Elements(1));
    for (name, fields) in [("request", REQUEST_FIELDS), ("response", RESPONSE_FIELDS)] {
        let mut encoder = Encoder::default();
        let mut decoder = Decoder::new(true);
        let first = encode(&mut encoder, fields);
        group.bench_function(format!("hpack_{name}_of_literals"), |bench| {
            bench.iter(|| {
                black_box(decoder.decode(black_box(&first), &mut |field| {
                    black_box(field);
                }))
            });
        });
        let mut decoder = Decoder::new(true);
        let decoded = decoder.decode(&first, &mut |_| ());
        decoded.expect("a block");
        let again = encode(&mut encoder, fields);
        group.bench_function(format!("hpack_{name}_of_indices"), |bench| {
            bench.iter(|| {
                black_box(decoder.decode(black_box(&again), &mut |field| {
                    black_box(field);
                }))
            });
        });
    }
    group.finish();
}

fn chain(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("chain");
    group.throughput(Throughput::Elements(1));
    for connections in [1_u64, 1000] {
        let mut assembler = Assembler::new(assemble::Config::default());
        let mut rest = Rest::new();
        let mut all: Vec<Records> = (1..=connections).map(Records::new).collect();
        for records in &all {
            push(&mut assembler, &records.opened(), &mut rest);
        }
        let mut record = Vec::new();
        let mut turn = 0;
        let mut made = 0_u64;
        group.bench_function(format!("pair_{connections}_connections"), |bench| {
            bench.iter(|| {
                let records = &mut all[turn];
                turn = (turn + 1) % connections as usize;
                made += 1;
                records.next_pair(&mut record);
                push(&mut assembler, &record, &mut rest);
            });
        });
        assert_eq!(rest.calls, made, "every record was an exchange");
    }

    let mut assembler = Assembler::new(assemble::Config::default());
    let mut rest = Rest::new();
    let mut records = Records::new(1);
    push(&mut assembler, &records.opened(), &mut rest);
    group.throughput(Throughput::Elements(PIPELINED as u64));
    let (requests, responses) = (REQUEST.repeat(PIPELINED), RESPONSE.repeat(PIPELINED));
    group.bench_function("pipelined_16_in_a_segment", |bench| {
        bench.iter(|| {
            let request = records.segment(true, &requests);
            push(&mut assembler, &request, &mut rest);
            let response = records.segment(false, &responses);
            push(&mut assembler, &response, &mut rest);
        });
    });
    assert!(rest.calls > 0 && rest.calls.is_multiple_of(PIPELINED as u64));

    group.throughput(Throughput::Elements(1));
    for (name, calls) in [("http2_pair", false), ("grpc_pair", true)] {
        let mut assembler = Assembler::new(assemble::Config::default());
        let mut rest = Rest::new();
        let mut peers = Peers::new(1, 1, calls);
        peers.open(calls, &mut assembler, &mut rest);
        group.bench_function(name, |bench| {
            bench.iter(|| peers.next(&mut assembler, &mut rest));
        });
        assert_eq!(
            u64::from(peers.next_stream / 2),
            rest.calls,
            "every record was an exchange"
        );
    }
    group.finish();
}

criterion_group!(benches, stages, http2, chain);
criterion_main!(benches);
