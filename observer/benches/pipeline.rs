//! What one exchange costs in user space: each stage alone, and all of them from a kernel record.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::{hint::black_box, sync::Arc};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use observer::{
    aggregate::{self, Aggregator},
    assemble::{self, Assembler, Instruction, Sink},
    decode::decode,
    enrich::{self, Enricher},
    host::{self, Host},
    model::{
        call::Call,
        connection::{ConnectionEvent, ConnectionId},
        datagram::Datagrams,
        event::Event,
        exchange::Exchange,
        lookup::Lookup,
        time::Monotonic,
    },
};
use observer_ebpf::abi::{
    self, ConnectionRecord, Header, SegmentPart, SegmentRecord, direction, flag, kind, role,
};

const REQUEST: &[u8] = b"GET /api/v1/users/4711?verbose=1 HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\
    User-Agent: curl/8.14.1\r\nAccept: */*\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nServer: nginx/1.26.3\r\n\
    Date: Sat, 01 Nov 2025 12:00:00 GMT\r\nContent-Type: text/html\r\nContent-Length: 13\r\n\
    Last-Modified: Sat, 01 Nov 2025 11:00:00 GMT\r\nConnection: keep-alive\r\n\
    ETag: \"6905f0a0-d\"\r\nAccept-Ranges: bytes\r\n\r\nhello, world\n";
const PIPELINED: usize = 16;

/// The records of one connection, as the kernel would send them.
struct Records {
    id: u64,
    time: u64,
    /// Next position, by direction.
    next: [u64; 2],
}

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

// === impl Records ===

impl Records {
    fn new(id: u64) -> Self {
        Self {
            id,
            time: 1_000_000_000,
            next: [0; 2],
        }
    }

    fn opened(&self) -> Vec<u8> {
        let mut record = ConnectionRecord {
            header: self.header(kind::OPENED),
            local_port: 8080,
            remote_port: 40_000 + (self.id % 20_000) as u16,
            role: role::SERVER,
            started_ns: 1,
            established_ns: 2,
            ..ConnectionRecord::default()
        };
        record.local_address[10..].copy_from_slice(&[255, 255, 127, 0, 0, 1]);
        record.remote_address = record.local_address;
        record.owner.comm[..5].copy_from_slice(b"nginx");
        abi::bytes_of(&record).to_vec()
    }

    fn header(&self, kind: u16) -> Header {
        Header {
            kind,
            lost: 0,
            slot: 1,
            time_ns: self.time,
            cookie: self.id,
        }
    }

    fn part(&mut self, ingress: bool, length: usize) -> SegmentPart {
        self.time += 30_000;
        let (own, other) = (usize::from(!ingress), usize::from(ingress));
        let position = self.next[own];
        self.next[own] += length as u64;
        SegmentPart {
            time_ns: self.time,
            position,
            sequence: position as u32,
            acknowledgement: self.next[other] as u32,
            length: length as u32,
            captured: length as u32,
            direction: if ingress {
                direction::INGRESS
            } else {
                direction::EGRESS
            },
            flags: flag::IN_ORDER,
            ..SegmentPart::default()
        }
    }

    fn pair(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.next_pair(&mut bytes);
        bytes
    }

    fn next_pair(&mut self, bytes: &mut Vec<u8>) {
        let first = self.part(true, REQUEST.len());
        let second = self.part(false, RESPONSE.len());
        let record = SegmentRecord {
            header: self.header(kind::PAIR),
            first,
            second,
        };
        bytes.clear();
        bytes.extend_from_slice(abi::bytes_of(&record));
        bytes.extend_from_slice(REQUEST);
        bytes.extend_from_slice(RESPONSE);
    }

    fn segment(&mut self, ingress: bool, payload: &[u8]) -> Vec<u8> {
        let record = SegmentRecord {
            first: self.part(ingress, payload.len()),
            header: self.header(kind::SEGMENT),
            ..SegmentRecord::default()
        };
        [abi::bytes_of(&record), payload].concat()
    }
}

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
        let call = self.enricher.exchange(exchange);
        black_box(self.aggregator.call(&call, ended));
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

    let exchange = last.0.expect("an exchange");
    let mut rest = Rest::new();
    let Ok(Event::Opened { connection, .. }) = decode(&records.opened()) else {
        unreachable!("a record of a connection")
    };
    rest.connection(ConnectionEvent::Opened(connection));
    group.bench_function("enrich", |bench| {
        bench.iter_batched(
            || exchange.clone(),
            |exchange| black_box(rest.enricher.exchange(exchange)),
            BatchSize::SmallInput,
        );
    });
    let call: Call = rest.enricher.exchange(exchange);
    let mut ended = call.exchange.ended;
    group.bench_function("aggregate", |bench| {
        bench.iter(|| {
            ended = Monotonic(ended.0 + 1000);
            black_box(rest.aggregator.call(&call, ended));
        });
    });
    black_box(Arc::strong_count(&call.link));
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
    group.finish();
}

criterion_group!(benches, stages, chain);
criterion_main!(benches);
