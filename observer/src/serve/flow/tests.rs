//! Lines of flows, in full.

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::{
    aggregate::fixture,
    model::{
        connection::{ConnectFailure, ConnectionId},
        mesh::{DeclaredMtls, Far, Forwarded, Hop, ProxyKind, RouteMatch, Verdict},
        policy::ObjectRef,
        rpc::RpcEnd,
        security::{self, Certificate, MeshSigns, Opening, Proxied, ProxyVersion, Security},
        time::Monotonic,
        trace::{Cause, Propagation, SpanId, TraceContext, TraceId},
    },
};

const OFFSET: WallOffset = WallOffset {
    nanoseconds: 1_700_000_000_000_000_000,
};

const SECURED: &[&str] = &[
    "tls_server_name",
    "tls_alpn_offered",
    "tls_alpn",
    "tls_version",
    "tls_cipher",
    "tls_ja4",
    "istio_subset",
    "istio_port",
    "istio_host",
    "linkerd_server_identity",
    "proxied_source",
    "proxied_destination",
    "proxied_authority",
    "proxied_identity",
];

const HANDSHAKE: &[&str] = &[
    "application_protocol",
    "tls_started_by",
    "tls_versions_offered",
    "tls_established",
    "tls_alert",
    "tls_resumed",
    "tls_client_certificate_requested",
    "tls_server_subject",
    "tls_server_dns_names",
    "tls_server_uris",
    "tls_server_not_after",
    "tls_client_subject",
    "tls_client_dns_names",
    "tls_client_uris",
    "tls_client_not_after",
    "proxied_version",
];

/// What a mesh does, but for `hop`.
const MESH: &[&str] = &[
    "hop_proxy",
    "far_peer",
    "far_kind",
    "far_service",
    "far_k8s_namespace",
    "far_k8s_pod",
    "far_k8s_workload_kind",
    "far_k8s_workload",
    "far_source",
    "far_security",
    "client_identity",
    "server_identity",
    "route_object",
    "route_rule",
    "route_backend",
    "declared_mtls",
    "verdict",
];

/// What caused a call.
const CAUSE: &[&str] = &["cause_connection", "cause_sequence", "cause_certain"];

const TRACED: &[&str] = &["trace_id", "trace_parent", "trace_sampled", "trace_source"];

const FORWARDED: &[&str] = &[
    "forwarded_client",
    "forwarded_attempt",
    "forwarded_upstream_seconds",
    "forwarded_proxy_error",
];

const PROCEDURE: &[&str] = &[
    "rpc_system",
    "rpc_service",
    "rpc_method",
    "rpc_status",
    "rpc_deadline_seconds",
    "rpc_request_messages",
    "rpc_request_messages_at_least",
    "rpc_first_request_seconds",
    "rpc_last_request_seconds",
    "rpc_response_messages",
    "rpc_response_messages_at_least",
    "rpc_first_response_seconds",
    "rpc_last_response_seconds",
];

const KUBERNETES: &[&str] = &[
    "k8s_namespace",
    "k8s_pod",
    "k8s_pod_uid",
    "k8s_container",
    "k8s_workload_kind",
    "k8s_workload",
    "k8s_node",
    "zone",
    "region",
    "k8s_labels",
    "k8s_annotations",
    "peer_namespace",
    "peer_k8s_namespace",
    "peer_k8s_pod",
    "peer_k8s_pod_uid",
    "peer_k8s_container",
    "peer_k8s_workload_kind",
    "peer_k8s_workload",
    "peer_k8s_node",
    "peer_zone",
    "peer_region",
    "peer_k8s_labels",
    "peer_k8s_annotations",
    "dialled_service",
    "dialled_namespace",
    "dialled_kind",
];

/// `line`, whose ends are not on Kubernetes.
pub(super) fn elsewhere(mut line: Value, peer_kind: &str) -> Value {
    line["peer_kind"] = peer_kind.into();
    for key in KUBERNETES {
        line[*key] = Value::Null;
    }
    line
}

/// A line of a connection whose security is not known, with keys of which nothing is known.
fn with(mut line: Value, parts: &[&[&str]]) -> Value {
    line = elsewhere(line, "address");
    line["security"] = "unknown".into();
    line["hop"] = "direct".into();
    for key in parts.iter().copied().chain([MESH]).flatten() {
        line[*key] = Value::Null;
    }
    line
}

fn parse(event: FlowEvent) -> Value {
    let mut out = Vec::new();
    let flow = Flow {
        sequence: 1,
        event,
        judgement: None,
    };
    render(&mut out, &flow, OFFSET);
    assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1);
    serde_json::from_slice(&out).unwrap()
}

#[test]
fn a_call_in_full() {
    let line = parse(FlowEvent::Call(fixture::call("web", "/orders/7", 503)));
    let expected = json!({
        "kind": "call", "time": "2023-11-14T22:13:22.000000000Z", "side": "server",
        "protocol": "http", "version": "1.1", "service": "web", "service_namespace": "shop",
        "peer": "192.0.2.7", "peer_service": null, "method": "GET", "path": "/orders/7",
        "route": "/orders/7", "query": true, "authority": "shop.example",
        "user_agent": "curl/8", "status": 503, "outcome": "complete", "error": "500",
        "duration_seconds": 0.01, "time_to_first_byte_seconds": 0.009,
        "request_head_bytes": 80, "request_body_bytes": 0, "response_head_bytes": 120,
        "response_body_bytes": 100, "local": "10.0.0.1:8080", "remote": "192.0.2.7:40000",
        "wire_local": null, "wire_remote": null, "pid": 4242, "command": "web",
        "executable": "/usr/bin/web", "container": null, "unit": "web.service",
        "cgroup": "/system.slice/web.service", "connection": "0000000000000001",
        "ordinal": 3, "scheme": null, "stream": null, "pushed": false, "reset_code": null
    });
    let mut expected = with(expected, &[SECURED, PROCEDURE, CAUSE, TRACED, FORWARDED]);
    expected["request_sequence"] = 1.into();
    assert_eq!(line, expected);
}

#[test]
fn a_call_through_proxies_tells_whom_it_is_with() {
    let call = fixture::call_through_proxies();
    let flow = Flow {
        sequence: 1,
        event: FlowEvent::Call(call.clone()),
        judgement: Some(Judgement {
            declared: DeclaredMtls::Strict,
            verdict: Verdict::Satisfied,
            route: Some(Arc::new(RouteMatch {
                object: ObjectRef {
                    kind: "VirtualService".into(),
                    namespace: "shop".into(),
                    name: "orders".into(),
                    ..ObjectRef::default()
                },
                rule: "0".into(),
                backend: "".into(),
            })),
        }),
    };
    let mut out = Vec::new();
    render(&mut out, &flow, OFFSET);
    let line: Value = serde_json::from_slice(&out).unwrap();
    let expected = json!({
        "hop": "from_proxy", "hop_proxy": null, "far_peer": "cart", "far_kind": "pod",
        "far_service": "cart", "far_k8s_namespace": "shop", "far_k8s_pod": "cart-5d4f-k",
        "far_k8s_workload_kind": "Deployment", "far_k8s_workload": "cart",
        "far_source": "identity", "far_security": "istio_mtls",
        "client_identity": "spiffe://cluster.local/ns/shop/sa/cart", "server_identity": null,
        "route_object": "VirtualService shop/orders", "route_rule": "0", "route_backend": null,
        "declared_mtls": "strict", "verdict": "satisfied", "peer": "web",
        "peer_k8s_pod": "web-5d4f-a",
    });
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&line[key], value, "{key}");
    }

    // What is known of one call goes before what is known of its connection.
    let mut call = call;
    let mut far = Far::clone(call.far().unwrap());
    far.peer = Peer::Address([192, 0, 2, 9].into());
    far.identity = None;
    call.far = Some(Arc::new(far));
    call.exchange.role = Role::Client;
    let line = parse(FlowEvent::Call(call));
    assert_eq!(line["far_peer"], "192.0.2.9");
    assert_eq!(line["far_k8s_pod"], Value::Null);
    assert_eq!(line["client_identity"], Value::Null);
    assert_eq!(line["verdict"], Value::Null);
}

#[test]
fn sockets_of_proxies_say_what_proxies_they_are() {
    let mut link = Link::clone(&fixture::link(1, "envoy"));
    link.hop = Hop::Proxy(ProxyKind::Sidecar);
    let line = parse(FlowEvent::Link(LinkEvent::Opened(Arc::new(link))));
    assert_eq!(
        (&line["hop"], &line["hop_proxy"]),
        (&json!("proxy"), &json!("sidecar"))
    );
}

#[test]
fn a_call_tells_what_caused_it() {
    let mut call = fixture::call("web", "/orders/7", 200);
    call.exchange.hop = (u32::MAX, 7);
    call.exchange.cause = Some(Cause {
        inbound: ConnectionId(0xab),
        sequence: 12,
        certain: true,
    });
    let line = parse(FlowEvent::Call(call));
    assert_eq!(line["request_sequence"], json!(u32::MAX));
    assert_eq!(line["cause_connection"], json!("00000000000000ab"));
    assert_eq!(line["cause_sequence"], json!(12));
    assert_eq!(line["cause_certain"], json!(true));
}

#[test]
fn what_proxies_vouch_for_is_told() {
    let mut call = fixture::call("web", "/", 200);
    call.exchange.forwarded = Some(Arc::new(Forwarded {
        client_uri: Some("spiffe://td/ns/shop/sa/web".into()),
        attempt: Some(2),
        upstream: Some(std::time::Duration::from_millis(7)),
        ..Forwarded::default()
    }));
    let line = parse(FlowEvent::Call(call.clone()));
    assert_eq!(line["forwarded_client"], "spiffe://td/ns/shop/sa/web");
    assert_eq!(line["forwarded_attempt"], 2);
    assert_eq!(line["forwarded_upstream_seconds"], 0.007);
    assert_eq!(line["forwarded_proxy_error"], Value::Null);
    call.exchange.forwarded = Some(Arc::new(Forwarded {
        client_id: Some("web.shop".into()),
        proxy_error: true,
        ..Forwarded::default()
    }));
    let line = parse(FlowEvent::Call(call));
    assert_eq!(line["forwarded_client"], "web.shop");
    assert_eq!(line["forwarded_proxy_error"], true);
}

#[test]
fn the_trace_that_a_request_names_is_told() {
    let mut call = fixture::call("web", "/", 200);
    let mut context = TraceContext {
        propagation: Propagation::TraceContext,
        trace: TraceId([0xab; 16]),
        parent: SpanId::new([0, 0, 0, 0, 0, 0, 0, 7]),
        sampled: Some(false),
        state: "vendor=private".into(),
    };
    call.exchange.context = Some(Arc::new(context.clone()));
    let line = parse(FlowEvent::Call(call.clone()));
    assert_eq!(line["trace_id"], "abababababababababababababababab");
    assert_eq!(line["trace_parent"], "0000000000000007");
    assert_eq!(line["trace_sampled"], false);
    assert_eq!(line["trace_source"], "tracecontext");
    assert!(!line.to_string().contains("private"));
    context.propagation = Propagation::RequestId;
    (context.parent, context.sampled) = (None, None);
    call.exchange.context = Some(Arc::new(context));
    let line = parse(FlowEvent::Call(call));
    assert_eq!(line["trace_source"], "request_id");
    assert_eq!(
        (&line["trace_parent"], &line["trace_sampled"]),
        (&Value::Null, &Value::Null)
    );
}

#[test]
fn a_remote_procedure_call_in_full() {
    let link = fixture::link(1, "web");
    let mut call = fixture::rpc_on(&link, "/shop.Orders/Get", RpcEnd::Status(5));
    call.exchange.reset = Some(8);
    call.exchange.pushed = true;
    let line = parse(FlowEvent::Call(call));
    for (key, value) in [
        ("protocol", json!("grpc")),
        ("version", json!("2")),
        ("method", json!("POST")),
        ("path", json!("/shop.Orders/Get")),
        ("scheme", json!("https")),
        ("status", json!(200)),
        ("error", json!("NOT_FOUND")),
        ("stream", json!(7)),
        ("pushed", json!(true)),
        ("reset_code", json!(8)),
        ("rpc_system", json!("grpc")),
        ("rpc_service", json!("shop.Orders")),
        ("rpc_method", json!("Get")),
        ("rpc_status", json!("NOT_FOUND")),
        ("rpc_deadline_seconds", json!(1.0)),
        ("rpc_request_messages", json!(3)),
        ("rpc_request_messages_at_least", json!(false)),
        ("rpc_first_request_seconds", json!(0.001)),
        ("rpc_last_request_seconds", json!(0.002)),
        ("rpc_response_messages", json!(2)),
        ("rpc_response_messages_at_least", json!(false)),
        ("rpc_first_response_seconds", json!(0.009)),
        ("rpc_last_response_seconds", json!(0.0095)),
    ] {
        assert_eq!(line[key], value, "{key}");
    }
}

#[test]
fn a_recognised_connection_in_full() {
    let mut link = Link::clone(&fixture::link(1, "web"));
    let certificate = |subject: &str| {
        Some(Box::new(Certificate {
            subject: subject.into(),
            dns_names: ["a.example".into(), "b.example".into()].into(),
            uris: ["spiffe://cluster.local/ns/shop/sa/web".into()].into(),
            not_after: 4_107_542_400,
        }))
    };
    link.security = Security::IstioMutualTls;
    link.opening = Some(Arc::new(Opening {
        protocol: Some("tls"),
        tls: Some(Arc::new(security::Handshake {
            server_name: Some("web.shop".into()),
            alpn_offered: ["istio-peer-exchange".into(), "h2".into()].into(),
            alpn_chosen: Some("h2".into()),
            versions_offered: [0x0304, 0x0303, 0x7f1c].into(),
            version: Some(0x0303),
            cipher: Some(0xc02f),
            ja4: Some("t13d1516h2_8daaf6152771_e5627efa2ab1".into()),
            resumed: Some(false),
            client_certificate_requested: Some(true),
            server_certificate: certificate("CN=server"),
            client_certificate: certificate("CN=client"),
            established: true,
            alert: None,
        })),
        started_by: Some("postgresql"),
        proxied: Some(Arc::new(Proxied {
            version: ProxyVersion::V2,
            addresses: Some((
                "198.51.100.1:1234".parse().unwrap(),
                "[2001:db8::1]:443".parse().unwrap(),
            )),
            authority: Some("web.example".into()),
            identity: Some("spiffe://cluster.local/ns/shop/sa/api".into()),
        })),
    }));
    link.mesh = Some(Arc::new(MeshSigns {
        subset: Some("v1".into()),
        port: Some(8080),
        host: Some("web.shop.svc.cluster.local".into()),
        server_identity: Some("web.shop.serviceaccount".into()),
    }));
    let at = Monotonic(fixture::SECOND + 3_000_000);
    let link = Arc::new(link);
    let line = parse(FlowEvent::Link(LinkEvent::Recognised {
        link: link.clone(),
        at,
    }));
    let secured = json!({
        "security": "istio_mtls", "tls_server_name": "web.shop",
        "tls_alpn_offered": "istio-peer-exchange,h2", "tls_alpn": "h2", "tls_version": "1.2",
        "tls_cipher": "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        "tls_ja4": "t13d1516h2_8daaf6152771_e5627efa2ab1", "istio_subset": "v1",
        "istio_port": 8080, "istio_host": "web.shop.svc.cluster.local",
        "linkerd_server_identity": "web.shop.serviceaccount",
        "proxied_source": "198.51.100.1:1234", "proxied_destination": "[2001:db8::1]:443",
        "proxied_authority": "web.example",
        "proxied_identity": "spiffe://cluster.local/ns/shop/sa/api"
    });
    let handshake = json!({
        "event": "recognised", "time": "2023-11-14T22:13:21.003000000Z",
        "application_protocol": "tls", "tls_started_by": "postgresql",
        "tls_versions_offered": "1.3,1.2,0x7f1c", "tls_established": true, "tls_alert": null,
        "tls_resumed": false, "tls_client_certificate_requested": true,
        "tls_server_subject": "CN=server", "tls_server_dns_names": "a.example,b.example",
        "tls_server_uris": "spiffe://cluster.local/ns/shop/sa/web",
        "tls_server_not_after": "2100-03-01T00:00:00Z", "tls_client_subject": "CN=client",
        "tls_client_dns_names": "a.example,b.example",
        "tls_client_uris": "spiffe://cluster.local/ns/shop/sa/web",
        "tls_client_not_after": "2100-03-01T00:00:00Z", "proxied_version": "2"
    });
    let same = |line: &Value, part: &Value| {
        for (key, value) in part.as_object().unwrap() {
            assert_eq!(line[key], *value, "{key}");
        }
    };
    same(&line, &secured);
    same(&line, &handshake);
    assert_eq!(line["duration_seconds"], Value::Null);
    // No key but these, and those of all connections.
    let keys = |value: &Value| value.as_object().unwrap().len();
    let opened = parse(FlowEvent::Link(LinkEvent::Opened(fixture::link(1, "web"))));
    assert_eq!(keys(&line), keys(&opened));
    // A call over it has the first part.
    same(
        &parse(FlowEvent::Call(fixture::call_on(&link, "/", 200))),
        &secured,
    );
}

#[test]
fn connections_in_full() {
    let link = fixture::link_with(
        0xabc,
        "web",
        Role::Client,
        Peer::Local(fixture::workload("database")),
    );
    let mut expected = json!({
        "kind": "connection", "event": "closed", "time": "2023-11-14T22:13:25.000000000Z",
        "side": "client", "protocol": "tcp", "service": "web", "service_namespace": "shop",
        "peer": "database", "peer_service": "database", "failure": null,
        "closed_by": "remote", "reset": false, "duration_seconds": 3.998,
        "connect_seconds": 0.002, "sent_bytes": 100, "received_bytes": 10,
        "sent_segments": 6, "received_segments": 5, "retransmits": 1,
        "smoothed_rtt_seconds": 0.0003, "minimum_rtt_seconds": 0.0002,
        "turns": null, "turn_seconds": null,
        "pre_existing": false, "local": "10.0.0.1:40000", "remote": "198.51.100.9:443",
        "wire_local": null, "wire_remote": null, "pid": 4242, "command": "web",
        "executable": "/usr/bin/web", "container": null, "unit": "web.service",
        "cgroup": "/system.slice/web.service", "connection": "0000000000000abc"
    });
    expected = with(expected, &[SECURED, HANDSHAKE]);
    expected["peer_kind"] = "local".into();
    expected["peer_namespace"] = "shop".into();
    assert_eq!(parse(FlowEvent::Link(fixture::closed(&link, 10))), expected);

    let mut closed = fixture::closed(&link, 10);
    if let LinkEvent::Closed { transfer, .. } = &mut closed {
        (transfer.turns, transfer.turn_nanoseconds) = (3, 60_000_000);
    }
    let line = parse(FlowEvent::Link(closed));
    assert_eq!(
        (&line["turns"], &line["turn_seconds"]),
        (&json!(3), &json!(0.06))
    );

    for key in [
        "closed_by",
        "reset",
        "smoothed_rtt_seconds",
        "minimum_rtt_seconds",
    ] {
        expected[key] = Value::Null;
    }
    let sizes = [
        "sent_bytes",
        "received_bytes",
        "sent_segments",
        "received_segments",
    ];
    for key in sizes.into_iter().chain(["retransmits"]) {
        expected[key] = 0.into();
    }
    expected["event"] = "failed".into();
    expected["failure"] = "refused".into();
    expected["duration_seconds"] = 4.0.into();
    let failed = LinkEvent::Failed {
        link: link.clone(),
        at: Monotonic(5 * fixture::SECOND),
        failure: ConnectFailure::Refused,
    };
    assert_eq!(parse(FlowEvent::Link(failed)), expected);

    expected["event"] = "opened".into();
    expected["time"] = "2023-11-14T22:13:21.002000000Z".into();
    expected["failure"] = Value::Null;
    expected["duration_seconds"] = Value::Null;
    assert_eq!(parse(FlowEvent::Link(LinkEvent::Opened(link))), expected);
}

#[test]
fn lost_in_full() {
    let mut out = Vec::new();
    line(&mut out, &LostLine::new(7));
    assert_eq!(out, b"{\"kind\":\"lost\",\"count\":7}\n");
}

#[test]
fn dates() {
    for (seconds, expected) in [
        (0, "1970-01-01T00:00:00.000000001Z"),
        (951_782_399, "2000-02-28T23:59:59.000000001Z"),
        (951_782_400, "2000-02-29T00:00:00.000000001Z"),
        (4_107_542_400, "2100-03-01T00:00:00.000000001Z"),
        (1_735_689_599, "2024-12-31T23:59:59.000000001Z"),
    ] {
        let at = Monotonic(seconds * 1_000_000_000 + 1);
        assert_eq!(timestamp(WallOffset::default(), at), expected);
    }
}

#[test]
fn both_ends_on_kubernetes() {
    let peer = Peer::Pod(fixture::pod("cart", "k"));
    let link = fixture::link_in(1, ("web", "a"), Role::Client, peer, Some("cart"));
    let line = parse(FlowEvent::Call(fixture::call_on(&link, "/", 200)));
    let expected = json!({
        "service": "web", "service_namespace": "shop", "peer": "cart", "peer_service": "cart",
        "k8s_namespace": "shop", "k8s_pod": "web-5d4f-a", "k8s_pod_uid": "uid-web-a",
        "k8s_container": "main", "k8s_workload_kind": "Deployment", "k8s_workload": "web",
        "k8s_node": "node-1", "zone": "eu-1a", "region": "eu-1",
        "k8s_labels": {"tier": "front"}, "k8s_annotations": null, "peer_kind": "pod",
        "peer_namespace": "shop", "peer_k8s_namespace": "shop", "peer_k8s_pod": "cart-5d4f-k",
        "peer_k8s_pod_uid": "uid-cart-k", "peer_k8s_container": null,
        "peer_k8s_workload_kind": "Deployment", "peer_k8s_workload": "cart",
        "peer_k8s_node": "node-1", "peer_zone": "eu-1a", "peer_region": "eu-1",
        "peer_k8s_labels": {"tier": "front"}, "peer_k8s_annotations": null,
        "dialled_service": "cart", "dialled_namespace": "shop", "dialled_kind": "cluster_ip"
    });
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&line[key], value, "{key}");
    }
    for key in KUBERNETES {
        assert!(expected.get(key).is_some(), "{key} is not checked");
    }
    // A pod of this host is known down to its container; a node has its place.
    let local = Peer::Local(fixture::workload_in("cart", "k"));
    let node = Peer::Node(fixture::node("node-2"));
    for (peer, kind, container, node) in [
        (local, "local", json!("main"), "node-1"),
        (node, "node", Value::Null, "node-2"),
    ] {
        let link = fixture::link_in(1, ("web", "a"), Role::Server, peer, None);
        let line = parse(FlowEvent::Link(LinkEvent::Opened(link)));
        assert_eq!(line["peer_kind"], kind);
        assert_eq!(line["peer_k8s_container"], container);
        assert_eq!(line["peer_k8s_node"], node);
        assert_eq!(line["dialled_service"], Value::Null);
    }
}
