//! What tests of messages share: decoded attributes, and calls of all sorts.

use std::{collections::BTreeMap, sync::Arc};

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use proptest::prelude::*;

use crate::{
    aggregate::fixture,
    export::about::About,
    model::{
        call::Call,
        connection::Role,
        exchange::{HttpVersion, Outcome, RequestHead},
        kubernetes::{Dialled, Service},
        rpc::RpcEnd,
        span::{Kept, Span, SpanLink, Subject},
        time::{Monotonic, WallOffset},
        trace::{ParentSource, Propagation, SpanId, TraceContext, TraceId},
        workload::Peer,
    },
};

/// Where wall-clock time of tests begins.
pub(crate) const EPOCH: u64 = 1_700_000_000_000_000_000;

pub(crate) fn about() -> About {
    About {
        cluster: "west".into(),
        host_name: "node-1".into(),
        host_id: "0123456789abcdef0123456789abcdef".into(),
        node: "node-1".into(),
        offset: WallOffset { nanoseconds: EPOCH },
        version: "1.2.3",
    }
}

/// As text: numbers as they are, texts of a list with commas between.
pub(crate) fn shown(value: &AnyValue) -> String {
    match value.value.as_ref().expect("a value") {
        Value::StringValue(text) => text.clone(),
        Value::BoolValue(flag) => flag.to_string(),
        Value::IntValue(number) => number.to_string(),
        Value::DoubleValue(number) => format!("{number:?}"),
        Value::ArrayValue(list) => {
            let texts: Vec<String> = list.values.iter().map(shown).collect();
            texts.join(",")
        }
        other => panic!("{other:?}"),
    }
}

/// By key; none of them twice.
pub(crate) fn by_key(attributes: &[KeyValue]) -> BTreeMap<&str, String> {
    let mut found = BTreeMap::new();
    for pair in attributes {
        let value = shown(pair.value.as_ref().expect("a value"));
        assert!(
            found.insert(&*pair.key, value).is_none(),
            "{} twice",
            pair.key
        );
    }
    found
}

/// Checks that `attributes` are these, one `key=value` a line.
#[track_caller]
pub(crate) fn assert_attributes(attributes: &[KeyValue], expected: &str) {
    let found: Vec<String> = by_key(attributes)
        .into_iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let mut expected: Vec<&str> = expected.lines().map(str::trim).collect();
    expected.retain(|line| !line.is_empty());
    expected.sort_unstable();
    let mut found: Vec<&str> = found.iter().map(|line| &**line).collect();
    found.sort_unstable();
    assert_eq!(found.join("\n"), expected.join("\n"));
}

pub(crate) fn span_of(call: Call) -> Span {
    Span {
        trace: TraceId([0x11; 16]),
        id: SpanId([0x22; 8]),
        parent: None,
        source: ParentSource::Root,
        context: None,
        link: None,
        kept: Kept::Sampled,
        subject: Subject::Call(Box::new(call)),
    }
}

pub(crate) fn context(sampled: Option<bool>) -> Arc<TraceContext> {
    Arc::new(TraceContext {
        propagation: Propagation::TraceContext,
        trace: TraceId([0x11; 16]),
        parent: SpanId::new([0x33; 8]),
        sampled,
        state: "vendor=x".into(),
    })
}

fn outcomes() -> impl Strategy<Value = Outcome> {
    prop::sample::select(vec![
        Outcome::Complete,
        Outcome::Tunnel,
        Outcome::ClientAborted,
        Outcome::ServerAborted,
        Outcome::Aborted,
        Outcome::Lost,
        Outcome::Malformed,
        Outcome::Refused,
    ])
}

fn peers() -> impl Strategy<Value = Peer> {
    prop_oneof![
        Just(Peer::Address([192, 0, 2, 7].into())),
        Just(Peer::Pod(fixture::pod("db", "x"))),
        Just(Peer::Node(fixture::node("node-2"))),
        Just(Peer::Local(fixture::workload("cache"))),
        ".{0,40}".prop_map(|name| Peer::Named {
            name: name.into(),
            address: [198, 51, 100, 9].into(),
        }),
    ]
}

prop_compose! {
    /// Calls with whatever a peer may send in them.
    pub(crate) fn calls()(
        peer in peers(),
        role in prop::sample::select(vec![Role::Client, Role::Server]),
        (method, path, authority) in (".{0,12}", ".{0,2000}", ".{0,300}"),
        (scheme, user_agent, route) in (prop::option::of(".{0,8}"), ".{0,200}", ".{0,1500}"),
        version in prop::sample::select(vec![HttpVersion::Http10, HttpVersion::Http11, HttpVersion::Http2]),
        status in prop::option::of(any::<u16>()),
        outcome in outcomes(),
        (started, ended, first) in any::<(u64, u64, u64)>(),
        (sent, received) in any::<(u64, u64)>(),
        answered in any::<bool>(),
        rpc in prop::option::of(prop_oneof![
            any::<u32>().prop_map(RpcEnd::Status),
            Just(RpcEnd::Cancelled),
            Just(RpcEnd::Unknown),
        ]),
        dialled in any::<bool>(),
        error in prop::option::of(prop::sample::select(vec!["404", "503", "UNAVAILABLE", "aborted"])),
    ) -> Call {
        let link = fixture::link_with(7, "web", role, peer);
        let mut link = (*link).clone();
        if dialled {
            link.dialled = Some(Arc::new(Service {
                namespace: "shop".into(),
                name: "db".into(),
                dialled: Dialled::Headless,
            }));
        }
        let link = Arc::new(link);
        let mut call = match rpc {
            Some(end) => fixture::rpc_on(&link, &path, end),
            None => fixture::call_on(&link, &path, 200),
        };
        call.route = route.into();
        call.error = error;
        let exchange = &mut call.exchange;
        exchange.request = Arc::new(RequestHead {
            method: method.into(),
            path: path.into(),
            has_query: dialled,
            scheme: scheme.map(Into::into),
            authority: authority.into(),
            user_agent: user_agent.into(),
            version,
            truncated: false,
        });
        exchange.status = status;
        exchange.outcome = outcome;
        exchange.sent.first = Monotonic(started);
        exchange.sent.body_bytes = sent;
        exchange.ended = Monotonic(ended);
        exchange.received = exchange.received.filter(|_| answered).map(|mut side| {
            side.first = Monotonic(first);
            side.body_bytes = received;
            side
        });
        call
    }
}

fn propagations() -> impl Strategy<Value = Propagation> {
    prop::sample::select(vec![
        Propagation::TraceContext,
        Propagation::B3,
        Propagation::Jaeger,
        Propagation::XRay,
        Propagation::CloudTrace,
        Propagation::RequestId,
    ])
}

prop_compose! {
    /// Spans of [`calls`], their ids valid or not.
    pub(crate) fn spans()(
        call in calls(),
        trace in prop_oneof![1 => Just([0; 16]), 9 => any::<[u8; 16]>()],
        id in prop_oneof![1 => Just([0; 8]), 9 => any::<[u8; 8]>()],
        parent in prop::option::of(any::<[u8; 8]>()),
        propagation in propagations(),
        source in 0..4,
        same in any::<bool>(),
        sampled in any::<Option<bool>>(),
        link in prop::option::of(any::<([u8; 16], [u8; 8], bool)>()),
    ) -> Span {
        Span {
            trace: TraceId(trace),
            id: SpanId(id),
            parent: parent.map(SpanId),
            source: match source {
                0 => ParentSource::Root,
                1 => ParentSource::Header(propagation),
                2 => ParentSource::Hop,
                _ => ParentSource::Thread,
            },
            context: Some(Arc::new(TraceContext {
                propagation,
                trace: TraceId(if same { trace } else { [9; 16] }),
                parent: None,
                sampled,
                state: "a=b".into(),
            })),
            link: link.map(|(trace, id, certain)| SpanLink {
                trace: TraceId(trace),
                id: SpanId(id),
                certain,
            }),
            kept: Kept::Failed,
            subject: Subject::Call(Box::new(call)),
        }
    }
}
