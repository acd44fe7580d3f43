//! What clients send, in cases.

use serde_json::{Value, json};

use crate::{
    mesh::{
        decision::{Destination, Sends},
        istio::tests::{
            ambient, annotated, declare, mesh, namespace, object, plain, service, sidecar,
        },
        policy::Policies,
    },
    model::{
        kubernetes::Pod,
        policy::{PolicyKind, PolicyObject},
    },
};

fn rule(spec: Value) -> PolicyObject {
    object(PolicyKind::DestinationRule, "shop/rule", 1, spec)
}

fn tls(mode: &str) -> PolicyObject {
    rule(json!({ "host": "cart", "trafficPolicy": { "tls": { "mode": mode } } }))
}

fn strict(mode: &str) -> PolicyObject {
    let spec = json!({ "mtls": { "mode": mode } });
    object(PolicyKind::PeerAuthentication, "shop/p", 1, spec)
}

fn to(pod: Option<&Pod>) -> Destination<'_> {
    Destination {
        service: Some(("shop", "cart")),
        authority: "cart.shop",
        port: 80,
        pod,
        pod_port: 8080,
        address: None,
    }
}

fn sent(policies: &Policies, client: &Pod, to: &Destination<'_>) -> Sends {
    match policies.sends(client, to).value {
        Sends::Unknown(_) => Sends::Unknown("".into()),
        value => value,
    }
}

#[test]
fn rules_go_before_what_the_server_can() {
    let unknown = Sends::Unknown("".into());
    let meshed = sidecar("shop", &[("app", "cart"), ("version", "v1")]);
    let bare = plain("shop", &[("app", "cart")]);
    let hbone = ambient("shop", &[("app", "cart")]);
    let subsets = |mode: &str, version: &str| {
        rule(json!({
            "host": "cart",
            "trafficPolicy": { "tls": { "mode": "ISTIO_MUTUAL" } },
            "subsets": [{
                "name": "other",
                "labels": { "version": version },
                "trafficPolicy": { "tls": { "mode": mode } },
            }],
        }))
    };
    let on_port = rule(json!({
        "host": "cart",
        "trafficPolicy": {
            "tls": { "mode": "DISABLE" },
            "portLevelSettings": [{ "port": { "number": 80 }, "tls": { "mode": "SIMPLE" } }],
        },
    }));
    for (objects, server, expected) in [
        (vec![], Some(&meshed), Sends::Mutual),
        (vec![], Some(&bare), Sends::Plaintext),
        (vec![], Some(&hbone), Sends::Mutual),
        (vec![], None, unknown.clone()),
        // The server takes no mutual TLS.
        (vec![strict("DISABLE")], Some(&meshed), Sends::Plaintext),
        (vec![strict("STRICT")], Some(&meshed), Sends::Mutual),
        // What clients are told wins over what servers are told.
        (
            vec![tls("DISABLE"), strict("STRICT")],
            Some(&meshed),
            Sends::Plaintext,
        ),
        (vec![tls("ISTIO_MUTUAL")], Some(&bare), Sends::Mutual),
        (vec![tls("SIMPLE")], None, Sends::Tls),
        (vec![tls("MUTUAL")], Some(&meshed), Sends::Tls),
        (vec![on_port], Some(&meshed), Sends::Tls),
        // A rule without `tls` leaves it to the server.
        (
            vec![rule(json!({ "host": "cart" }))],
            Some(&meshed),
            Sends::Mutual,
        ),
        // Which subset it is decides, where they differ.
        (
            vec![subsets("DISABLE", "v1")],
            Some(&meshed),
            unknown.clone(),
        ),
        (vec![subsets("DISABLE", "v1")], None, unknown.clone()),
        (vec![subsets("DISABLE", "v9")], Some(&meshed), Sends::Mutual),
        (vec![subsets("ISTIO_MUTUAL", "v1")], None, Sends::Mutual),
    ] {
        let text = format!("{objects:?} {:?}", server.map(|it| &it.traits));
        let mut policies = declare(objects);
        service(&mut policies, "shop/cart", |_| {});
        let client = sidecar("web", &[]);
        assert_eq!(sent(&policies, &client, &to(server)), expected, "{text}");
    }
}

#[test]
fn what_cannot_be_told_apart_is_unknown() {
    let server = sidecar("shop", &[("app", "cart")]);
    let client = sidecar("web", &[]);
    let mut policies = declare([]);
    service(&mut policies, "shop/cart", |facts| facts.headless = true);
    let unknown = Sends::Unknown("".into());
    assert_eq!(sent(&policies, &client, &to(Some(&server))), unknown);
    service(&mut policies, "shop/cart", |facts| {
        facts.external_name = "a.example".into()
    });
    assert_eq!(sent(&policies, &client, &to(None)), unknown);
    // Also here rules decide.
    let mut policies = declare([tls("ISTIO_MUTUAL")]);
    service(&mut policies, "shop/cart", |facts| facts.headless = true);
    assert_eq!(sent(&policies, &client, &to(Some(&server))), Sends::Mutual);
}

#[test]
fn what_the_mesh_does_not_know_is_passed_on() {
    let server = sidecar("shop", &[("app", "cart")]);
    let client = sidecar("web", &[]);
    let by_address = Destination {
        pod: Some(&server),
        pod_port: 8080,
        port: 8080,
        ..Destination::default()
    };
    let mut policies = declare([]);
    service(&mut policies, "shop/cart", |_| {});
    assert_eq!(sent(&policies, &client, &by_address), Sends::Plaintext);
    // Whatever name it asks for, at a port that is none of the Service's.
    let named = |port| Destination {
        authority: "cart.shop",
        port,
        ..by_address
    };
    assert_eq!(sent(&policies, &client, &named(8080)), Sends::Plaintext);
    assert_eq!(sent(&policies, &client, &named(80)), Sends::Mutual);
    assert_eq!(sent(&policies, &client, &to(Some(&server))), Sends::Mutual);

    // A namespace that the control plane does not look at.
    namespace(&mut policies, "shop", &[]);
    mesh(
        &mut policies,
        "discoverySelectors:\n- matchLabels:\n    mesh: \"on\"\n",
    );
    assert_eq!(
        sent(&policies, &client, &to(Some(&server))),
        Sends::Plaintext
    );
    namespace(&mut policies, "shop", &[("mesh", "on")]);
    assert_eq!(sent(&policies, &client, &to(Some(&server))), Sends::Mutual);

    // A Sidecar that leaves it out.
    let spec = json!({ "egress": [{ "hosts": ["./*"] }] });
    let mut policies = declare([object(PolicyKind::Sidecar, "web/s", 1, spec)]);
    service(&mut policies, "shop/cart", |_| {});
    assert_eq!(
        sent(&policies, &client, &to(Some(&server))),
        Sends::Plaintext
    );

    mesh(&mut policies, "enableAutoMtls: false");
    let mut policies = declare([]);
    mesh(&mut policies, "enableAutoMtls: false");
    service(&mut policies, "shop/cart", |_| {});
    assert_eq!(
        sent(&policies, &client, &to(Some(&server))),
        Sends::Plaintext
    );
}

#[test]
fn what_is_outside_gets_plaintext_unless_a_rule_says_otherwise() {
    let entry = |location: &str| {
        let spec = json!({ "hosts": ["api.example.com"], "location": location });
        object(PolicyKind::ServiceEntry, "web/entry", 1, spec)
    };
    let originate = object(
        PolicyKind::DestinationRule,
        "web/rule",
        1,
        json!({ "host": "api.example.com", "trafficPolicy": { "tls": { "mode": "SIMPLE" } } }),
    );
    let client = sidecar("web", &[]);
    let to = Destination {
        authority: "api.example.com:80",
        port: 80,
        address: "192.0.2.1".parse().ok(),
        ..Destination::default()
    };
    for (objects, expected) in [
        (vec![entry("")], Sends::Plaintext),
        (vec![entry("MESH_EXTERNAL")], Sends::Plaintext),
        (vec![entry("MESH_INTERNAL")], Sends::Unknown("".into())),
        (vec![entry(""), originate], Sends::Tls),
    ] {
        assert_eq!(sent(&declare(objects), &client, &to), expected);
    }
}

#[test]
fn the_nodes_proxy_uses_its_tunnel_where_it_can() {
    let client = ambient("web", &[]);
    let mut policies = declare([tls("DISABLE")]);
    service(&mut policies, "shop/cart", |_| {});
    let tunnel = plain("shop", &[("networking.istio.io/tunnel", "http")]);
    for (server, expected) in [
        (Some(ambient("shop", &[])), Sends::Mutual),
        (Some(sidecar("shop", &[])), Sends::Plaintext),
        (Some(tunnel), Sends::Mutual),
        (Some(plain("shop", &[])), Sends::Plaintext),
        (None, Sends::Unknown("".into())),
    ] {
        assert_eq!(
            sent(&policies, &client, &to(server.as_ref())),
            expected,
            "{server:?}"
        );
    }
    let outside = Destination {
        address: "192.0.2.1".parse().ok(),
        ..Destination::default()
    };
    assert_eq!(sent(&policies, &client, &outside), Sends::Plaintext);
    namespace(
        &mut policies,
        "shop",
        &[("istio.io/use-waypoint", "waypoint")],
    );
    assert_eq!(sent(&policies, &client, &to(None)), Sends::Mutual);
    // What is sent to a pod's address passes none, whatever name it asks for.
    let bare = plain("shop", &[]);
    let named = Destination {
        service: None,
        ..to(Some(&bare))
    };
    assert_eq!(sent(&policies, &client, &named), Sends::Plaintext);
}

#[test]
fn without_a_proxy_nobody_sends_for_it() {
    let policies = declare([]);
    assert_eq!(
        sent(&policies, &plain("web", &[]), &to(None)),
        Sends::NoProxy
    );
    let excluded = annotated(
        sidecar("web", &[]),
        &[("traffic.sidecar.istio.io/excludeOutboundPorts", "80")],
    );
    assert_eq!(sent(&policies, &excluded, &to(None)), Sends::NoProxy);
}
