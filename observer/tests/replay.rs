//! Recorded kernel records through the whole chain, in one thread, against expected text.
//!
//! `tests/fixtures/record` records them anew; with `UPDATE_FIXTURES=1` the expected texts are
//! written instead of compared.
#![allow(clippy::unwrap_used)]

use std::{env, fmt::Write as _, fs, path::PathBuf};

use observer::{
    aggregate::{self, Aggregator},
    assemble::{self, Assembler, Instruction, Sink},
    decode::decode,
    enrich::{self, Enricher},
    host::{self, Host},
    model::{
        call::{Link, LinkEvent},
        connection::{ConnectionEvent, ConnectionId},
        datagram::Datagrams,
        event::Event,
        exchange::Exchange,
        lookup::{Lookup, code_name, type_name},
        rpc::Rpc,
        security::Opening,
        time::{Monotonic, WallOffset},
        workload::Peer,
    },
    serve::exposition::Format,
    telemetry::health::Health,
};

/// The stages after `assemble`, and what they told.
struct Rest {
    host: Host,
    enricher: Enricher,
    aggregator: Aggregator,
    now: Monotonic,
    start: Monotonic,
    told: String,
}

// === impl Rest ===

impl Rest {
    fn milliseconds(&self, at: Monotonic) -> f64 {
        at.since(self.start).as_secs_f64() * 1000.0
    }
}

impl Sink for Rest {
    fn connection(&mut self, event: ConnectionEvent) {
        let Some(event) = self.enricher.connection(event, &mut self.host, self.now) else {
            return;
        };
        self.aggregator.link(&event, self.now);
        let line = match &event {
            LinkEvent::Opened(link) => format!("opened {}", ends(link)),
            LinkEvent::Recognised { link, .. } => {
                let opening = link.opening.as_deref().map(opening).unwrap_or_default();
                let security = link.security.as_str();
                format!("recognised {} {security}{opening}", ends(link))
            }
            LinkEvent::Progress { .. } => return,
            LinkEvent::Closed {
                link,
                by,
                reset,
                transfer,
                ..
            } => format!(
                "closed {} by {} reset {reset} received {} sent {} understood {}",
                ends(link),
                by.as_str(),
                transfer.received_bytes,
                transfer.sent_bytes,
                transfer.understood_bytes
            ),
            LinkEvent::Failed { link, failure, .. } => {
                format!("failed {} {}", ends(link), failure.as_str())
            }
        };
        writeln!(self.told, "{line}").unwrap();
    }

    fn exchange(&mut self, exchange: Exchange) {
        let ended = exchange.ended;
        let call = self.enricher.exchange(exchange, self.now).unwrap();
        self.aggregator.call(&call, None, ended);
        let exchange = &call.exchange;
        let received = exchange.received.unwrap_or_default();
        writeln!(
            self.told,
            "call {} #{}{} {} {} query {} host {} status {:?} sent {}+{} received {}+{}{} {} at {:.3} ms took {:.3} ms",
            ends(&call.link),
            exchange.ordinal,
            exchange
                .stream
                .map(|stream| format!(" stream {stream}"))
                .unwrap_or_default(),
            exchange.request.method,
            call.route,
            exchange.request.has_query,
            exchange.request.authority,
            exchange.status,
            exchange.sent.head_bytes,
            exchange.sent.body_bytes,
            received.head_bytes,
            received.body_bytes,
            exchange.rpc.as_deref().map(procedure).unwrap_or_default(),
            exchange.outcome.as_str(),
            self.milliseconds(exchange.sent.first),
            exchange.duration().as_secs_f64() * 1000.0,
        )
        .unwrap();
    }

    fn lookup(&mut self, lookup: Lookup) {
        let resolution = self
            .enricher
            .lookup(lookup, &mut self.host, self.now)
            .unwrap();
        self.aggregator.lookup(&resolution, self.now);
        let lookup = resolution.lookup;
        writeln!(
            self.told,
            "{} looked up {} of type {} at {}: {} {} in {:.3} ms",
            lookup.role.as_str(),
            lookup.name,
            type_name(lookup.kind),
            lookup.remote,
            lookup.outcome.as_str(),
            lookup.code.map_or("-", code_name),
            lookup.duration().as_secs_f64() * 1000.0
        )
        .unwrap();
    }

    fn datagrams(&mut self, datagrams: Datagrams) {
        let conversation = self
            .enricher
            .datagrams(datagrams, &mut self.host, self.now)
            .unwrap();
        self.aggregator.datagrams(&conversation, self.now);
    }

    fn instruct(&mut self, _: u32, _: ConnectionId, instruction: Instruction) {
        if instruction != Instruction::Free {
            writeln!(self.told, "instruction {instruction:?}").unwrap();
        }
    }
}

fn ends(link: &Link) -> String {
    let peer = match &link.peer {
        Peer::Address(address) => address.to_string(),
        named => named.name().unwrap_or_default().to_owned(),
    };
    format!(
        "{} {} of {peer}",
        link.connection.role.as_str(),
        link.workload.service
    )
}

/// What the first bytes of a connection showed.
fn opening(opening: &Opening) -> String {
    let mut text = String::new();
    if let Some(protocol) = opening.protocol {
        write!(text, " {protocol}").unwrap();
    }
    if let Some(proxied) = opening.proxied.as_deref() {
        write!(
            text,
            " proxied {:?} {:?}",
            proxied.version, proxied.addresses
        )
        .unwrap();
    }
    if let Some(tls) = opening.tls.as_deref() {
        let subject = tls.server_certificate.as_ref().map(|it| &it.subject);
        write!(
            text,
            " version {:x?} name {:?} offered {:?} chosen {:?} cipher {:x?} certificate {subject:?} \
             resumed {:?} established {}",
            tls.version,
            tls.server_name,
            tls.alpn_offered,
            tls.alpn_chosen,
            tls.cipher,
            tls.resumed,
            tls.established
        )
        .unwrap();
    }
    text
}

fn procedure(rpc: &Rpc) -> String {
    format!(
        " {} {} messages {}+{}",
        rpc.system.as_str(),
        rpc.end.status_name().unwrap_or("unknown"),
        rpc.requests.count,
        rpc.responses.count
    )
}

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

fn records(bytes: &[u8]) -> Vec<&[u8]> {
    let mut records = Vec::new();
    let mut rest = bytes;
    while let Some((length, after)) = rest.split_first_chunk() {
        let (record, after) = after.split_at(u32::from_le_bytes(*length) as usize);
        records.push(record);
        rest = after;
    }
    assert!(rest.is_empty(), "the file ends within a record");
    records
}

/// Time of an event, as far as it has one.
fn time(event: &Event<'_>) -> Option<Monotonic> {
    match event {
        Event::Opened { connection, .. } => connection.established.or(Some(connection.started)),
        Event::Closed { closed, .. } => Some(closed.at),
        Event::Failed { at, .. } => Some(*at),
        Event::Segment { segment, .. } | Event::ListenerSegment { segment, .. } => {
            Some(segment.time)
        }
        Event::Pair { response, .. } => Some(response.time),
        Event::Datagram(datagram) => Some(datagram.time),
        Event::Process { time, .. } => Some(*time),
        Event::Caused(caused) => Some(caused.time),
        Event::Placed { .. } | Event::HandsOver { .. } => None,
    }
}

fn replay(name: &str) -> String {
    let bytes = fs::read(fixture(&format!("{name}.records"))).unwrap();
    let nowhere = tempfile::tempdir().unwrap();
    let mut rest = Rest {
        // The processes are gone: services are named by what the kernel said.
        host: Host::new(host::Config {
            proc_root: nowhere.path().join("proc"),
            cgroup_root: nowhere.path().join("cgroup"),
            ..host::Config::default()
        }),
        enricher: Enricher::new(enrich::Config::default()),
        aggregator: Aggregator::new(aggregate::Config::default()),
        now: Monotonic(0),
        start: Monotonic(0),
        told: String::new(),
    };
    let mut assembler = Assembler::new(assemble::Config::default());
    for record in records(&bytes) {
        let event = decode(record).unwrap();
        rest.now = rest.now.max(time(&event).unwrap_or_default());
        if rest.start == Monotonic(0) {
            rest.start = rest.now;
        }
        if let Event::Process { time, owner } = &event {
            rest.host.observe(owner, *time);
        }
        assembler.push(event, &mut rest);
        assembler.tick(rest.now, &mut rest);
    }
    let end = Monotonic(rest.now.0 + 2_000_000_000);
    assembler.tick(end, &mut rest);
    for loss in assembler.losses().iter().filter(|loss| loss.count > 0) {
        writeln!(rest.told, "lost {} {}", loss.reason, loss.count).unwrap();
    }
    let snapshot = rest.aggregator.snapshot(Health::default(), end);
    let text = Format::Text.render(&snapshot, WallOffset::default());
    let text = String::from_utf8(text).unwrap();
    let counts = text.lines().filter(|line| {
        line.starts_with("http_") && line.contains("request_duration_seconds_count")
            || line.starts_with("rpc_") && line.contains("call_duration_seconds_count")
            || line.starts_with("observer_tcp_connections")
    });
    for line in counts {
        writeln!(rest.told, "{line}").unwrap();
    }
    rest.told
}

#[track_caller]
fn check(name: &str) {
    let told = replay(name);
    let expected = fixture(&format!("{name}.txt"));
    if env::var_os("UPDATE_FIXTURES").is_some() {
        fs::write(expected, told).unwrap();
        return;
    }
    assert_eq!(told, fs::read_to_string(expected).unwrap(), "{name}");
}

#[test]
fn keep_alive() {
    check("keep-alive");
}

#[test]
fn chunked_bodies_with_extensions_and_trailers() {
    check("chunked");
}

#[test]
fn pipelined_requests() {
    check("pipeline");
}

#[test]
fn a_refused_connection() {
    check("refused");
}

#[test]
fn a_body_of_a_mebibyte() {
    check("large");
}

#[test]
fn lookups() {
    check("lookups");
}

#[test]
fn a_connection_older_than_the_observer() {
    check("midstream");
}

#[test]
fn ten_streams_at_a_time() {
    check("http2");
}

#[test]
fn calls_of_grpc() {
    check("grpc");
}

#[test]
fn a_handshake_of_tls_1_2() {
    check("tls12");
}

#[test]
fn a_handshake_of_tls_1_3() {
    check("tls13");
}

#[test]
fn a_request_behind_a_proxy_header() {
    check("proxied");
}
