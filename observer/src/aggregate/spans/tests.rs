//! Which spans are made of calls, and how they hang together.

use std::{sync::Arc, time::Duration};

use hashbrown::{HashMap, HashSet};
use proptest::prelude::*;

use super::*;
use crate::{
    aggregate::fixture::{call_on, link_with, resolution, workload},
    config::{Sampler, Sampling as Settings},
    model::{
        connection::ConnectionId,
        lookup::LookupOutcome,
        span::Kept,
        trace::{Propagation, TraceContext},
    },
};

const MILLISECOND: u64 = 1_000_000;

fn at(milliseconds: u64) -> Monotonic {
    Monotonic(milliseconds * MILLISECOND)
}

fn all() -> Spans {
    Spans::new(Config {
        enabled: true,
        sampling: Settings {
            sampler: Sampler::Always,
            ..Settings::default()
        },
        ..Config::default()
    })
}

/// One end of a request on connection `id`: its first byte has sequence number `sequence`, its head
/// is 100 bytes, and it lasts from `from` to `to`, in milliseconds.
fn end(role: Role, id: u64, sequence: u32, (from, to): (u64, u64), path: &str) -> Call {
    let mut call = call_on(
        &link_with(id, "web", role, Peer::Local(workload("api"))),
        path,
        200,
    );
    call.exchange.role = role;
    call.exchange.hop = (sequence, 7_000);
    call.exchange.sent.first = at(from);
    call.exchange.sent.head_bytes = 100;
    call.exchange.sent.body_bytes = 0;
    call.exchange.ended = at(to);
    call
}

/// What a thread shows: it had read all of the request that began at `sequence` on `inbound`.
fn caused(mut call: Call, inbound: u64, sequence: u32, certain: bool) -> Call {
    call.exchange.cause = Some(Cause {
        inbound: ConnectionId(inbound),
        sequence: sequence.wrapping_add(100),
        certain,
    });
    call
}

fn with(mut call: Call, trace: u8, parent: Option<u8>) -> Call {
    call.exchange.context = Some(Arc::new(TraceContext {
        propagation: Propagation::TraceContext,
        trace: TraceId([trace; 16]),
        parent: parent.map(|parent| SpanId([parent; 8])),
        sampled: Some(true),
        state: "".into(),
    }));
    call
}

/// Tells a call when it ends.
fn tell(spans: &mut Spans, call: &Call, far: FarEnd) -> Vec<Span> {
    let mut out = Vec::new();
    spans.call(call, far, call.exchange.ended, &mut out);
    out
}

fn path(span: &Span) -> &str {
    match &span.subject {
        Subject::Call(call) => &call.exchange.request.path,
        Subject::Lookup(_) => "",
    }
}

fn only(spans: Vec<Span>) -> Span {
    assert_eq!(spans.len(), 1, "{spans:?}");
    spans.into_iter().next().unwrap()
}

#[test]
fn nothing_is_made_for_nobody() {
    let mut spans = Spans::new(Config::default());
    let call = end(Role::Server, 1, 1, (0, 1), "/");
    assert_eq!(tell(&mut spans, &call, FarEnd::Here), []);
}

#[test]
fn both_ends_of_a_request_meet_without_a_word() {
    // Two agents, two sockets, other times and addresses: what is the same are the numbers.
    let client = end(Role::Client, 1, 4_000_000_000, (0, 9), "/cart");
    let server = end(Role::Server, 2, 4_000_000_000, (500, 502), "/cart");
    let client = only(tell(&mut all(), &client, FarEnd::Elsewhere));
    let server = only(tell(&mut all(), &server, FarEnd::Elsewhere));
    assert_eq!(
        (client.trace, Some(client.id)),
        (server.trace, server.parent)
    );
    assert_eq!((client.parent, client.source), (None, ParentSource::Root));
    assert_eq!(server.source, ParentSource::Hop);

    let next = end(Role::Server, 2, 4_000_000_100, (600, 602), "/cart");
    let next = only(tell(&mut all(), &next, FarEnd::Elsewhere));
    assert_ne!(next.trace, server.trace);
}

#[test]
fn a_server_that_nobody_calls_in_sight_is_a_root() {
    let server = end(Role::Server, 2, 1, (0, 1), "/");
    let server = only(tell(&mut all(), &server, FarEnd::Unseen));
    assert_eq!((server.parent, server.source), (None, ParentSource::Root));
}

#[test]
fn a_request_that_names_its_trace_keeps_it() {
    let client = with(end(Role::Client, 1, 1, (0, 9), "/"), 0xaa, Some(0xbb));
    let server = with(end(Role::Server, 2, 1, (0, 9), "/"), 0xaa, Some(0xbb));
    let told = only(tell(&mut all(), &client, FarEnd::Elsewhere));
    assert_eq!(told.trace, TraceId([0xaa; 16]));
    assert_eq!(told.parent, Some(SpanId([0xbb; 8])));
    assert_eq!(told.source, ParentSource::Header(Propagation::TraceContext));
    let seen = only(tell(&mut all(), &server, FarEnd::Elsewhere));
    assert_eq!((seen.trace, seen.parent), (told.trace, Some(told.id)));
    let alone = only(tell(&mut all(), &server, FarEnd::Unseen));
    assert_eq!((alone.trace, alone.parent), (told.trace, told.parent));
}

#[test]
fn what_a_request_caused_outside_is_a_part_of_it() {
    let mut spans = all();
    let outbound = caused(end(Role::Client, 9, 50, (2, 5), "/db"), 1, 1_000, true);
    assert_eq!(tell(&mut spans, &outbound, FarEnd::Unseen), [], "it waits");
    let inbound = end(Role::Server, 1, 1_000, (1, 8), "/shop");
    let told = tell(&mut spans, &inbound, FarEnd::Elsewhere);
    let [server, client] = &told[..] else {
        panic!("{told:?}")
    };
    assert_eq!((path(server), path(client)), ("/shop", "/db"));
    assert_eq!(
        (client.trace, client.parent),
        (server.trace, Some(server.id))
    );
    assert_eq!(client.source, ParentSource::Thread);
    // One that ends after its cause was answered is joined at once.
    let later = caused(end(Role::Client, 9, 150, (3, 12), "/log"), 1, 1_000, true);
    let later = only(tell(&mut spans, &later, FarEnd::Unseen));
    assert_eq!(later.parent, Some(server.id));
}

#[test]
fn what_a_request_caused_on_another_node_is_linked() {
    let mut spans = all();
    let outbound = caused(end(Role::Client, 9, 50, (2, 5), "/cart"), 1, 1_000, true);
    tell(&mut spans, &outbound, FarEnd::Elsewhere);
    let inbound = end(Role::Server, 1, 1_000, (1, 8), "/shop");
    let told = tell(&mut spans, &inbound, FarEnd::Elsewhere);
    let (server, client) = (&told[0], &told[1]);
    // The server on the other node derives the trace and the parent from the request alone.
    let there = end(Role::Server, 3, 50, (2, 5), "/cart");
    let there = only(tell(&mut all(), &there, FarEnd::Elsewhere));
    assert_eq!((there.trace, there.parent), (client.trace, Some(client.id)));
    let link = client.link.unwrap();
    assert_eq!(
        (link.trace, link.id, link.certain),
        (server.trace, server.id, true)
    );
}

#[test]
fn a_chain_within_a_host_is_one_trace() {
    let mut spans = all();
    // A cause was seen, so servers wait for their clients from now on.
    let first = caused(end(Role::Client, 99, 1, (0, 1), "/"), 98, 1, true);
    tell(&mut spans, &first, FarEnd::Elsewhere);
    let server = |id, sequence, times, path| end(Role::Server, id, sequence, times, path);
    let client = |id, sequence, times, path| end(Role::Client, id, sequence, times, path);
    let c3 = caused(client(30, 700, (4, 6), "/3"), 21, 500, true);
    let c2 = caused(client(20, 500, (2, 8), "/2"), 11, 300, true);
    let mut told = Vec::new();
    told.extend(tell(
        &mut spans,
        &server(31, 700, (4, 5), "/3"),
        FarEnd::Here,
    ));
    told.extend(tell(&mut spans, &c3, FarEnd::Here));
    told.extend(tell(
        &mut spans,
        &server(21, 500, (3, 7), "/2"),
        FarEnd::Here,
    ));
    told.extend(tell(&mut spans, &c2, FarEnd::Here));
    assert_eq!(told, [], "all wait for the first request to be answered");
    told.extend(tell(
        &mut spans,
        &server(11, 300, (1, 9), "/1"),
        FarEnd::Unseen,
    ));
    let ids: Vec<_> = told.iter().map(|span| (path(span), span.parent)).collect();
    let id = |number: usize| Some(told[number].id);
    assert_eq!(
        ids,
        [
            ("/1", None),
            ("/2", id(0)),
            ("/2", id(1)),
            ("/3", id(2)),
            ("/3", id(3))
        ]
    );
    assert!(told.iter().all(|span| span.trace == told[0].trace));
}

#[test]
fn a_guess_is_a_link() {
    let mut spans = all();
    let outbound = caused(end(Role::Client, 9, 50, (2, 5), "/db"), 1, 1_000, false);
    tell(&mut spans, &outbound, FarEnd::Unseen);
    let inbound = end(Role::Server, 1, 1_000, (1, 8), "/shop");
    let told = tell(&mut spans, &inbound, FarEnd::Elsewhere);
    assert_eq!(told[1].parent, None);
    assert_ne!(told[1].trace, told[0].trace);
    assert!(!told[1].link.unwrap().certain);
}

#[test]
fn pipelined_requests_are_no_certain_causes() {
    let mut spans = all();
    // Two requests came together: the thread had read to the end of the second.
    let outbound = caused(end(Role::Client, 9, 50, (2, 5), "/db"), 1, 1_100, true);
    tell(&mut spans, &outbound, FarEnd::Unseen);
    let first = end(Role::Server, 1, 1_000, (1, 8), "/first");
    assert_eq!(tell(&mut spans, &first, FarEnd::Unseen).len(), 1);
    let second = end(Role::Server, 1, 1_100, (1, 9), "/second");
    let told = tell(&mut spans, &second, FarEnd::Unseen);
    assert_eq!(told[1].parent, None);
    assert!(!told[1].link.unwrap().certain);
}

#[test]
fn an_earlier_cause_is_never_a_later_request() {
    let mut spans = all();
    let outbound = caused(end(Role::Client, 9, 50, (2, 5), "/db"), 1, 1_000, true);
    tell(&mut spans, &outbound, FarEnd::Unseen);
    // The request itself was lost to the observer; the next on its connection is another.
    let next = end(Role::Server, 1, 1_100, (7, 8), "/next");
    let told = tell(&mut spans, &next, FarEnd::Unseen);
    let client = told.iter().find(|span| path(span) == "/db").unwrap();
    assert_eq!((client.parent, client.link), (None, None));
}

#[test]
fn what_began_before_or_after_a_request_was_not_caused_by_it() {
    for (from, to) in [(0, 12), (9, 12)] {
        let mut spans = all();
        let outbound = caused(end(Role::Client, 9, 50, (from, to), "/db"), 1, 1_000, true);
        tell(&mut spans, &outbound, FarEnd::Unseen);
        let inbound = end(Role::Server, 1, 1_000, (1, 8), "/shop");
        let told = tell(&mut spans, &inbound, FarEnd::Unseen);
        assert_eq!(
            (told[1].parent, told[1].link),
            (None, None),
            "from {from} ms"
        );
    }
}

#[test]
fn waiting_ends() {
    let mut spans = all();
    let outbound = caused(end(Role::Client, 9, 50, (2, 5), "/db"), 1, 1_000, true);
    tell(&mut spans, &outbound, FarEnd::Unseen);
    let served = end(Role::Server, 8, 70, (2, 6), "/here");
    assert_eq!(
        tell(&mut spans, &served, FarEnd::Here),
        [],
        "its client is to come"
    );
    let mut out = Vec::new();
    spans.expire(at(400), false, &mut out);
    assert_eq!(out, []);
    spans.expire(at(600), false, &mut out);
    assert_eq!(path(&only(std::mem::take(&mut out))), "/here");
    spans.expire(at(10_006), false, &mut out);
    let late = only(out);
    assert_eq!(
        (path(&late), late.parent, late.source),
        ("/db", None, ParentSource::Root)
    );
    assert_eq!(spans.losses()[0].count, 1);
    assert!(
        spans
            .tables()
            .iter()
            .take(1)
            .all(|table| table.entries == 0)
    );
}

#[test]
fn what_waits_is_told_at_the_end() {
    let mut spans = all();
    let outbound = caused(end(Role::Client, 9, 50, (2, 5), "/db"), 1, 1_000, true);
    tell(&mut spans, &outbound, FarEnd::Unseen);
    let mut out = Vec::new();
    spans.expire(at(6), true, &mut out);
    assert_eq!(path(&only(out)), "/db");
    assert_eq!(spans.losses()[0].count, 0);
}

#[test]
fn what_waits_is_bounded() {
    let mut spans = all();
    let limit = spans.tables()[0].limit;
    for number in 0..limit + 10 {
        let call = end(Role::Client, number, 50, (2, 5), "/");
        let call = caused(call, number, 1, true);
        let told = tell(&mut spans, &call, FarEnd::Unseen).len();
        assert_eq!(told, usize::from(number >= limit));
    }
    assert_eq!(spans.losses()[1].count, 10);
    let mut out = Vec::new();
    spans.expire(at(20_000), false, &mut out);
    assert_eq!(out.len() as u64, limit);
    assert_eq!(spans.tables()[0].entries, 0);
}

#[test]
fn fields_that_were_handed_on_name_the_caller_of_both() {
    let mut spans = all();
    let outbound = end(Role::Client, 9, 50, (2, 5), "/db");
    let same = with(caused(outbound.clone(), 1, 1_000, true), 0xaa, Some(0xbb));
    tell(&mut spans, &same, FarEnd::Elsewhere);
    // A library made a span of its own in between.
    let mut own = with(caused(outbound.clone(), 1, 1_000, true), 0xaa, Some(0xcc));
    own.exchange.hop.0 = 51;
    tell(&mut spans, &own, FarEnd::Elsewhere);
    let mut other = with(caused(outbound, 1, 1_000, true), 0xdd, Some(0xee));
    other.exchange.hop.0 = 52;
    tell(&mut spans, &other, FarEnd::Elsewhere);
    let inbound = end(Role::Server, 1, 1_000, (1, 8), "/shop");
    let told = tell(&mut spans, &with(inbound, 0xaa, Some(0xbb)), FarEnd::Unseen);
    let server = &told[0];
    let by_source = |source| told[1..].iter().filter(move |span| span.source == source);
    let thread: Vec<_> = by_source(ParentSource::Thread).collect();
    assert_eq!(thread.len(), 1);
    assert_eq!(
        (thread[0].parent, thread[0].trace),
        (Some(server.id), server.trace)
    );
    let header = ParentSource::Header(Propagation::TraceContext);
    for span in by_source(header) {
        let expected = match span.trace {
            TraceId([0xaa, ..]) => (Some(SpanId([0xcc; 8])), None),
            _ => (Some(SpanId([0xee; 8])), Some(server.id)),
        };
        assert_eq!((span.parent, span.link.map(|link| link.id)), expected);
    }
    assert_eq!(by_source(header).count(), 2);
}

#[test]
fn only_what_is_kept_is_told() {
    let mut spans = Spans::new(Config {
        enabled: true,
        sampling: Settings {
            sampler: Sampler::Never,
            ratio: 0.0,
            keep_failed: true,
            slower_than: Some(Duration::from_secs(1)),
        },
        ..Config::default()
    });
    let call = end(Role::Server, 1, 1, (0, 5), "/");
    assert_eq!(tell(&mut spans, &call, FarEnd::Unseen), []);
    let slow = end(Role::Server, 1, 1, (0, 1_001), "/");
    let slow = only(tell(&mut spans, &slow, FarEnd::Unseen));
    assert_eq!(slow.kept, Kept::Slow);
    let failed = Call {
        error: Some("500"),
        ..end(Role::Server, 1, 1, (0, 5), "/")
    };
    let failed = only(tell(&mut spans, &failed, FarEnd::Unseen));
    assert_eq!(failed.kept, Kept::Failed);
    spans.reconfigure(all().config);
    assert_eq!(tell(&mut spans, &call, FarEnd::Unseen).len(), 1);
}

#[test]
fn lookups_are_traces_of_their_own() {
    let mut spans = all();
    let mut out = Vec::new();
    let mut lookup = resolution(Role::Client, LookupOutcome::Answered, Some(0));
    spans.lookup(&lookup, &mut out);
    lookup.lookup.sent = lookup.lookup.sent.plus(Duration::from_nanos(1));
    spans.lookup(&lookup, &mut out);
    assert_eq!(out.len(), 2);
    assert_ne!(out[0].trace, out[1].trace);
    assert_ne!(out[0].id, out[1].id);
}

/// A request into a service, and those that it made.
#[derive(Clone, Debug)]
struct Work {
    connection: u64,
    sequence: u32,
    outbound: Vec<u64>,
}

/// Services of threads: connections with requests one after the other, each of which makes some.
fn works() -> impl Strategy<Value = Vec<Vec<u8>>> {
    prop::collection::vec(prop::collection::vec(0..3_u8, 1..5), 1..5)
}

proptest! {
    /// Whatever the order in which calls of different connections end, no span hangs under a
    /// request that did not cause it, and each is told once.
    #[test]
    fn no_call_is_put_under_another_request(
        works in works(),
        order in any::<u64>(),
        drop in 0..7_u64,
    ) {
        let mut spans = all();
        let mut queues: Vec<Vec<(Call, FarEnd)>> = Vec::new();
        let mut truth = HashMap::new();
        let mut number = 0_u64;
        for (connection, requests) in works.iter().enumerate() {
            let connection = connection as u64 + 1;
            let mut queue = Vec::new();
            for (index, outbound) in requests.iter().enumerate() {
                let work = Work {
                    connection,
                    sequence: (u32::MAX - 150).wrapping_add(100 * u32::try_from(index).unwrap()),
                    outbound: (0..u64::from(*outbound)).map(|next| number + next).collect(),
                };
                number += u64::from(*outbound);
                let path = format!("/{connection}/{index}");
                let from = index as u64 * 10;
                for outbound in &work.outbound {
                    let mut call = end(Role::Client, 100 + outbound, 7 * *outbound as u32, (from + 1, from + 5), &format!("/out/{outbound}"));
                    call = caused(call, work.connection, work.sequence, true);
                    truth.insert(format!("/out/{outbound}"), path.clone());
                    queue.push((call, FarEnd::Unseen));
                }
                let server = end(Role::Server, connection, work.sequence, (from, from + 9), &path);
                // Some requests are lost to the observer.
                if (connection + index as u64) % 7 != drop {
                    queue.push((server, FarEnd::Unseen));
                }
            }
            queue.reverse();
            queues.push(queue);
        }
        let total: usize = queues.iter().map(Vec::len).sum();
        let mut random = order | 1;
        let mut out = Vec::new();
        let mut now = 0;
        while queues.iter().any(|queue| !queue.is_empty()) {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let index = (random >> 33) as usize % queues.len();
            if let Some((call, far)) = queues[index].pop() {
                now += 1;
                spans.call(&call, far, at(now), &mut out);
            }
        }
        spans.expire(at(now), true, &mut out);
        prop_assert_eq!(out.len(), total);
        let ids: HashSet<_> = out.iter().map(|span| span.id).collect();
        prop_assert_eq!(ids.len(), total);
        let by_id: HashMap<_, _> = out.iter().map(|span| (span.id, path(span))).collect();
        for span in &out {
            if let Some(expected) = truth.get(path(span))
                && let Some(parent) = span.parent {
                    prop_assert_eq!(by_id[&parent], expected);
                }
        }
    }
}
