//! Spans, decoded and compared.

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use proptest::prelude::*;
use prost::Message as _;

use super::{
    super::{
        attributes::MAX_TEXT,
        fixture::{EPOCH, about, assert_attributes, by_key, context, span_of, spans},
    },
    *,
};
use crate::{
    aggregate::fixture::{SECOND, call, call_on, link_in, link_with, pod, resolution, rpc_on},
    model::{
        call::{Call, Link as CallLink},
        exchange::Outcome,
        lookup::{Answer, LookupOutcome, Target},
        rpc::RpcEnd,
        security::{Handshake, MeshSigns, Opening, Proxied, ProxyVersion, Security},
        span::Kept,
        workload::Peer,
    },
};

/// What a receiver reads.
fn sent(encoder: &mut Encoder, spans: &[Span]) -> ExportTraceServiceRequest {
    let bytes = encoder.encode(spans, &about()).encode_to_vec();
    ExportTraceServiceRequest::decode(&*bytes).unwrap()
}

fn only(span: Span) -> Message {
    let request = sent(&mut Encoder::new(true), &[span]);
    request.resource_spans[0].scope_spans[0].spans[0].clone()
}

fn of_call(call: Call) -> Message {
    only(span_of(call))
}

fn attribute(message: &Message, key: &str) -> Option<String> {
    by_key(&message.attributes).remove(key)
}

fn failed(message: &Message) -> bool {
    match &message.status {
        Some(status) => {
            assert_eq!(status.code, StatusCode::Error as i32);
            assert_eq!(status.message, "");
            true
        }
        None => false,
    }
}

#[test]
fn a_server_span_has_every_field() {
    let link = link_in(
        0xabc,
        ("cart", "x7"),
        Role::Server,
        Peer::Pod(pod("web", "q1")),
        None,
    );
    let mut call = call_on(&link, "/cart/42", 500);
    call.route = "/cart/{id}".into();
    let mut span = span_of(call);
    span.parent = SpanId::new([0x33; 8]);
    span.source = ParentSource::Header(Propagation::TraceContext);
    span.context = Some(context(Some(true)));
    span.kept = Kept::Failed;
    let message = only(span);
    assert_eq!(message.trace_id, [0x11; 16]);
    assert_eq!(message.span_id, [0x22; 8]);
    assert_eq!(message.parent_span_id, [0x33; 8]);
    assert_eq!(message.trace_state, "vendor=x");
    assert_eq!(message.flags, 0x301);
    assert_eq!(message.name, "GET /cart/{id}");
    assert_eq!(message.kind, SpanKind::Server as i32);
    assert_eq!(message.start_time_unix_nano, EPOCH + 2 * SECOND);
    assert_eq!(message.end_time_unix_nano, EPOCH + 2 * SECOND + 10_000_000);
    assert!(failed(&message));
    assert!(message.links.is_empty() && message.events.is_empty());
    assert_attributes(
        &message.attributes,
        "client.address=192.0.2.7
        client.port=40000
        error.type=500
        http.request.body.size=0
        http.request.method=GET
        http.response.body.size=100
        http.response.status_code=500
        http.route=/cart/{id}
        network.local.address=10.0.0.1
        network.local.port=8080
        network.peer.address=192.0.2.7
        network.peer.port=40000
        network.protocol.name=http
        network.protocol.version=1.1
        network.transport=tcp
        observer.connection=0000000000000abc
        observer.outcome=complete
        observer.parent.source=tracecontext
        observer.peer.cloud.availability_zone=eu-1a
        observer.peer.k8s.namespace.name=shop
        observer.peer.k8s.node.name=node-1
        observer.peer.k8s.pod.name=web-5d4f-q1
        observer.peer.k8s.workload.kind=Deployment
        observer.peer.k8s.workload.name=web
        observer.peer.kind=pod
        observer.sampling.reason=failed
        observer.security=plaintext
        observer.time_to_first_byte=0.009
        observer.url.has_query=true
        process.pid=4242
        server.address=shop.example
        server.port=8080
        service.peer.name=web
        service.peer.namespace=shop
        span.metrics.skip=true
        url.path=/cart/42
        url.scheme=http
        user_agent.original=curl/8",
    );
}

#[test]
fn a_client_span_has_every_field() {
    let db = Peer::Pod(pod("db", "a"));
    let link = link_in(1, ("web", "q1"), Role::Client, db, Some("db"));
    let mut call = call_on(&link, "/rows/7", 404);
    call.route = "/rows/{id}".into();
    call.error = Some("404");
    let message = of_call(call);
    assert_eq!(message.name, "GET /rows/{id}");
    assert_eq!(message.kind, SpanKind::Client as i32);
    assert_eq!(message.flags, 0x101);
    assert!(failed(&message));
    assert!(message.parent_span_id.is_empty() && message.trace_state.is_empty());
    assert_attributes(
        &message.attributes,
        "error.type=404
        http.request.body.size=0
        http.request.method=GET
        http.response.body.size=100
        http.response.status_code=404
        k8s.service.name=db
        k8s.service.namespace=shop
        network.local.address=10.0.0.1
        network.local.port=40000
        network.peer.address=198.51.100.9
        network.peer.port=443
        network.protocol.name=http
        network.protocol.version=1.1
        network.transport=tcp
        observer.connection=0000000000000001
        observer.dialled=cluster_ip
        observer.outcome=complete
        observer.parent.source=root
        observer.peer.cloud.availability_zone=eu-1a
        observer.peer.k8s.namespace.name=shop
        observer.peer.k8s.node.name=node-1
        observer.peer.k8s.pod.name=db-5d4f-a
        observer.peer.k8s.workload.kind=Deployment
        observer.peer.k8s.workload.name=db
        observer.peer.kind=pod
        observer.sampling.reason=sampled
        observer.security=plaintext
        observer.time_to_first_byte=0.009
        observer.url.has_query=true
        peer.service=db
        process.pid=4242
        server.address=shop.example
        server.port=443
        service.peer.name=db
        service.peer.namespace=shop
        span.metrics.skip=true
        url.full=http://shop.example/rows/7
        url.path=/rows/7
        url.scheme=http
        url.template=/rows/{id}
        user_agent.original=curl/8",
    );
}

#[test]
fn names_are_never_raw_paths() {
    let named = |method: &str, route: &str| {
        let mut call = call("web", "/users/4711", 200);
        call.exchange.request = crate::aggregate::fixture::head(method, "/users/4711");
        call.route = route.into();
        of_call(call)
    };
    let message = named("GET", "");
    assert_eq!(message.name, "GET");
    assert_eq!(attribute(&message, "http.route"), None);
    let message = named("PURGE", "/users/{id}");
    assert_eq!(message.name, "HTTP /users/{id}");
    assert_eq!(
        attribute(&message, "http.request.method").unwrap(),
        "_OTHER"
    );
    let original = attribute(&message, "http.request.method_original");
    assert_eq!(original.unwrap(), "PURGE");
    let message = named("", "");
    assert_eq!(message.name, "HTTP");
    assert_eq!(
        attribute(&message, "http.request.method").unwrap(),
        "_OTHER"
    );
    assert_eq!(attribute(&message, "http.request.method_original"), None);
}

#[test]
fn a_target_that_is_no_path_is_none() {
    let mut call = call("web", "db.example:5432", 200);
    call.exchange.request = crate::aggregate::fixture::head("CONNECT", "db.example:5432");
    call.route = "".into();
    let message = of_call(call);
    assert_eq!(attribute(&message, "url.path"), None);
    assert_eq!(message.name, "CONNECT");
}

#[test]
fn what_failed_is_an_error_and_what_the_observer_lost_is_none() {
    let ended = |outcome, error| {
        let mut call = call("web", "/", 200);
        call.exchange.status = None;
        call.exchange.outcome = outcome;
        call.error = error;
        of_call(call)
    };
    let lost = ended(Outcome::Lost, None);
    assert!(!failed(&lost));
    assert_eq!(attribute(&lost, "observer.outcome").unwrap(), "lost");
    assert_eq!(attribute(&lost, "http.response.body.size"), None);
    assert_eq!(attribute(&lost, "http.response.status_code"), None);
    assert_eq!(attribute(&lost, "error.type"), None);
    let malformed = ended(Outcome::Malformed, Some("malformed"));
    assert!(failed(&malformed));
    assert_eq!(attribute(&malformed, "error.type").unwrap(), "malformed");
    // To a server a client that goes away is no error.
    assert!(!failed(&ended(Outcome::ClientAborted, None)));
    assert!(failed(&ended(Outcome::Refused, Some("refused"))));
}

#[test]
fn a_remote_procedure_call_has_its_own_names() {
    let link = link_with(1, "web", Role::Client, Peer::Address([192, 0, 2, 1].into()));
    let path = "/helloworld.Greeter/SayHello";
    let message = of_call(rpc_on(&link, path, RpcEnd::Status(14)));
    assert_eq!(message.name, "helloworld.Greeter/SayHello");
    assert!(failed(&message));
    let found = by_key(&message.attributes);
    for (key, value) in [
        ("rpc.system.name", "grpc"),
        ("rpc.method", "helloworld.Greeter/SayHello"),
        ("rpc.response.status_code", "UNAVAILABLE"),
        ("error.type", "UNAVAILABLE"),
        ("network.protocol.version", "2"),
        ("observer.rpc.request.messages", "3"),
        ("observer.rpc.response.messages", "2"),
        ("observer.rpc.deadline", "1.0"),
        ("observer.http2.stream", "7"),
        ("server.address", "shop.example"),
    ] {
        assert_eq!(found.get(key).map(|text| &**text), Some(value), "{key}");
    }
    for key in [
        "http.request.method",
        "url.full",
        "http.response.status_code",
    ] {
        assert!(!found.contains_key(key), "{key}");
    }
}

#[test]
fn a_method_without_a_name_is_other() {
    let link = link_with(1, "web", Role::Server, Peer::Address([192, 0, 2, 1].into()));
    let mut call = rpc_on(&link, "/a.B/C", RpcEnd::Unknown);
    call.route = "/{name}/C".into();
    call.exchange.status = Some(503);
    let message = of_call(call);
    assert_eq!(message.name, "grpc");
    assert_eq!(attribute(&message, "rpc.method").unwrap(), "_OTHER");
    assert_eq!(attribute(&message, "rpc.method_original").unwrap(), "a.B/C");
    assert_eq!(attribute(&message, "rpc.response.status_code"), None);
    assert_eq!(
        attribute(&message, "http.response.status_code").unwrap(),
        "503"
    );
}

#[test]
fn a_lookup_is_a_client_span() {
    let mut resolution = resolution(Role::Client, LookupOutcome::Answered, Some(3));
    resolution.lookup.answers = Box::new([
        Answer {
            name: "db.shop".into(),
            ttl: 5,
            target: Target::Alias("db1.shop".into()),
        },
        Answer {
            name: "db1.shop".into(),
            ttl: 5,
            target: Target::Address("2001:db8::1".parse().unwrap()),
        },
    ]);
    let mut span = span_of(call("web", "/", 200));
    span.subject = Subject::Lookup(Box::new(resolution));
    let message = only(span);
    assert_eq!(message.name, "DNS AAAA");
    assert_eq!(message.kind, SpanKind::Client as i32);
    assert_eq!(
        message.end_time_unix_nano - message.start_time_unix_nano,
        2_000_000
    );
    assert!(failed(&message));
    assert_attributes(
        &message.attributes,
        "dns.answers=2001:db8::1
        dns.question.name=db.shop
        dns.question.type=AAAA
        dns.response.code=NXDOMAIN
        error.type=NXDOMAIN
        network.local.address=10.0.0.1
        network.local.port=40000
        network.peer.address=10.96.0.10
        network.peer.port=53
        network.protocol.name=dns
        network.transport=udp
        observer.connection=0000000000000001
        observer.dns.retries=1
        observer.outcome=answered
        observer.parent.source=root
        observer.peer.kind=address
        observer.sampling.reason=sampled
        server.address=10.96.0.10
        server.port=53
        span.metrics.skip=true",
    );
}

#[test]
fn flags_say_what_is_known_of_the_parent() {
    let flags = |role, source, sampled| {
        let link = link_with(1, "web", role, Peer::Address([192, 0, 2, 1].into()));
        let mut span = span_of(call_on(&link, "/", 200));
        span.source = source;
        span.context = Some(context(sampled));
        only(span).flags
    };
    let header = ParentSource::Header(Propagation::B3);
    for (role, source, sampled, expected) in [
        (Role::Server, ParentSource::Root, None, 0x101),
        (Role::Server, header, Some(true), 0x301),
        (Role::Server, header, Some(false), 0x300),
        (Role::Client, header, Some(true), 0x001),
        (Role::Server, ParentSource::Hop, None, 0x301),
        (Role::Client, ParentSource::Thread, None, 0x101),
    ] {
        assert_eq!(
            flags(role, source, sampled),
            expected,
            "{role:?} {source:?}"
        );
    }
}

#[test]
fn state_and_flags_of_another_trace_are_not_taken() {
    let mut span = span_of(call("web", "/", 200));
    span.trace = TraceId([0x44; 16]);
    span.context = Some(context(Some(false)));
    let message = only(span);
    assert_eq!(message.trace_state, "");
    assert_eq!(message.flags & 0xff, 1);
}

#[test]
fn a_link_says_how_certain_it_is() {
    let mut span = span_of(call("web", "/", 200));
    span.link = Some(SpanLink {
        trace: TraceId([5; 16]),
        id: SpanId([6; 8]),
        certain: false,
    });
    let message = only(span);
    let link = &message.links[0];
    assert_eq!(
        (&*link.trace_id, &*link.span_id),
        (&[5; 16][..], &[6; 8][..])
    );
    assert_eq!(link.flags, 0x100);
    assert_attributes(&link.attributes, "observer.link.certain=false");
}

fn on_link(change: impl FnOnce(&mut CallLink)) -> Message {
    let link = link_with(1, "web", Role::Client, Peer::Address([192, 0, 2, 1].into()));
    let mut link = CallLink::clone(&link);
    change(&mut link);
    let mut call = call_on(&Arc::new(link), "/", 200);
    let mut head = (*call.exchange.request).clone();
    head.authority = "".into();
    call.exchange.request = Arc::new(head);
    of_call(call)
}

#[test]
fn what_secures_a_connection_is_told() {
    let message = on_link(|link| {
        link.security = Security::IstioMutualTls;
        link.opening = Some(Arc::new(Opening {
            tls: Some(Arc::new(Handshake {
                server_name: Some("db.example".into()),
                version: Some(0x0304),
                alpn_chosen: Some("h2".into()),
                resumed: Some(false),
                established: true,
                ja4: Some("t13d".into()),
                ..Handshake::default()
            })),
            proxied: Some(Arc::new(Proxied {
                version: ProxyVersion::V2,
                addresses: Some((
                    "203.0.113.1:9".parse().unwrap(),
                    "203.0.113.2:443".parse().unwrap(),
                )),
                authority: None,
                identity: Some("spiffe://a".into()),
            })),
            ..Opening::default()
        }));
        link.mesh = Some(Arc::new(MeshSigns {
            host: Some("db.shop.svc.cluster.local".into()),
            subset: Some("v1".into()),
            port: Some(5432),
            server_identity: None,
        }));
    });
    let found = by_key(&message.attributes);
    for (key, value) in [
        ("observer.security", "istio_mtls"),
        ("server.address", "db.example"),
        ("server.port", "443"),
        ("tls.protocol.name", "tls"),
        ("tls.protocol.version", "1.3"),
        ("tls.next_protocol", "h2"),
        ("tls.established", "true"),
        ("tls.resumed", "false"),
        ("observer.tls.client.ja4", "t13d"),
        ("observer.mesh.istio.host", "db.shop.svc.cluster.local"),
        ("observer.mesh.istio.port", "5432"),
        ("observer.proxy.identity", "spiffe://a"),
        ("observer.proxy.destination", "203.0.113.2:443"),
    ] {
        assert_eq!(found.get(key).map(|text| &**text), Some(value), "{key}");
    }
}

#[test]
fn a_server_is_called_by_the_name_that_dns_led_by_and_the_wire_says_who_answered() {
    let message = on_link(|link| {
        link.peer = Peer::Named {
            name: "api.example".into(),
            address: [198, 51, 100, 9].into(),
        };
        link.connection.wire = Some((
            "10.1.1.1:1000".parse().unwrap(),
            "10.2.2.2:8443".parse().unwrap(),
        ));
    });
    let found = by_key(&message.attributes);
    assert_eq!(found["server.address"], "api.example");
    assert_eq!(found["peer.service"], "api.example");
    assert!(!found.contains_key("service.peer.name"));
    assert!(!found.contains_key("url.full"));
    assert_eq!(found["network.peer.address"], "10.2.2.2");
    assert_eq!(found["network.peer.port"], "8443");
    assert_eq!(found["network.local.port"], "1000");
}

#[test]
fn authorities_have_a_host_and_perhaps_a_port() {
    for (authority, host, port) in [
        ("shop", "shop", None),
        ("shop:81", "shop", Some(81)),
        ("[::1]:81", "::1", Some(81)),
        ("[::1]", "::1", None),
        ("::1", "::1", None),
        ("shop:x", "shop", None),
        ("", "", None),
    ] {
        assert_eq!(call::host_and_port(authority), (host, port), "{authority}");
    }
}

#[test]
fn there_is_one_resource_for_each_service() {
    let mut encoder = Encoder::new(false);
    let web = link_with(1, "web", Role::Server, Peer::Address([192, 0, 2, 1].into()));
    let db = link_with(2, "db", Role::Server, Peer::Address([192, 0, 2, 1].into()));
    let spans: Vec<Span> = [&web, &db, &web, &web]
        .into_iter()
        .map(|link| span_of(call_on(link, "/", 200)))
        .collect();
    for _ in 0..2 {
        let request = sent(&mut encoder, &spans);
        let found: Vec<(String, usize)> = request
            .resource_spans
            .iter()
            .map(|group| {
                let resource = group.resource.as_ref().unwrap();
                let scope = group.scope_spans[0].scope.as_ref().unwrap();
                assert_eq!((&*scope.name, &*scope.version), ("observer", "1.2.3"));
                assert_eq!(group.schema_url, "https://opentelemetry.io/schemas/1.42.0");
                let name = by_key(&resource.attributes).remove("service.name");
                (name.unwrap(), group.scope_spans[0].spans.len())
            })
            .collect();
        assert_eq!(found, [("web".to_owned(), 3), ("db".to_owned(), 1)]);
    }
    let request = sent(&mut encoder, &spans);
    let span = &request.resource_spans[0].scope_spans[0].spans[0];
    assert_eq!(attribute(span, "span.metrics.skip"), None);
}

#[test]
fn an_id_of_zero_is_not_sent_and_counted() {
    let mut encoder = Encoder::new(true);
    let mut span = span_of(call("web", "/", 200));
    span.id = SpanId([0; 8]);
    assert_eq!(sent(&mut encoder, &[span]).resource_spans, []);
    assert_eq!(encoder.invalid(), 1);
}

proptest! {
    /// Whatever was seen, the span is one that receivers take.
    #[test]
    fn spans_are_valid(spans in prop::collection::vec(spans(), 1..4)) {
        let mut encoder = Encoder::new(true);
        let request = sent(&mut encoder, &spans);
        let messages: Vec<&Message> = request
            .resource_spans
            .iter()
            .flat_map(|group| &group.scope_spans)
            .flat_map(|scope| &scope.spans)
            .collect();
        prop_assert_eq!(messages.len() as u64 + encoder.invalid(), spans.len() as u64);
        for message in messages {
            prop_assert_eq!(message.trace_id.len(), 16);
            prop_assert!(message.trace_id.iter().any(|byte| *byte != 0));
            prop_assert_eq!(message.span_id.len(), 8);
            prop_assert!(message.span_id.iter().any(|byte| *byte != 0));
            prop_assert!([0, 8].contains(&message.parent_span_id.len()));
            prop_assert!(message.end_time_unix_nano >= message.start_time_unix_nano);
            prop_assert!(!message.name.is_empty());
            prop_assert!(message.name.len() <= MAX_TEXT + "CONNECT ".len());
            prop_assert!(message.attributes.len() <= 64);
            let mut keys = std::collections::BTreeSet::new();
            for pair in &message.attributes {
                prop_assert!(keys.insert(&pair.key), "{} twice", pair.key);
                let value = pair.value.as_ref().and_then(|value| value.value.as_ref());
                match value {
                    Some(Value::StringValue(text)) => {
                        prop_assert!(!text.is_empty() && text.len() <= MAX_TEXT);
                    }
                    value => prop_assert!(value.is_some()),
                }
            }
            for link in &message.links {
                prop_assert!(link.trace_id.iter().any(|byte| *byte != 0));
                prop_assert!(link.span_id.iter().any(|byte| *byte != 0));
            }
        }
    }
}
