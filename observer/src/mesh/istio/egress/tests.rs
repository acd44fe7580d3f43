//! What may be reached, in cases.

use serde_json::{Value, json};

use super::*;
use crate::{
    mesh::{
        istio::tests::{ambient, declare, mesh, object, service, sidecar},
        policy::Policies,
    },
    model::policy::PolicyKind,
};

fn entry(name: &str, spec: Value) -> PolicyObject {
    object(PolicyKind::ServiceEntry, name, 1, spec)
}

fn known(name: &str, spec: Value) -> PolicyObject {
    object(PolicyKind::Sidecar, name, 1, spec)
}

fn outside<'a>(authority: &'a str, port: u16) -> Destination<'a> {
    Destination {
        authority,
        port,
        address: "192.0.2.1".parse().ok(),
        ..Destination::default()
    }
}

fn reach(policies: &Policies, to: &Destination<'_>) -> Egress {
    let client = sidecar("web", &[("app", "web")]);
    match policies.egress(&client, to).value {
        Egress::Unknown(_) => Egress::Unknown("".into()),
        value => value,
    }
}

#[test]
fn what_is_declared_may_be_reached() {
    let https = json!([{ "number": 443, "protocol": "TLS" }]);
    let api = |more: Value| {
        let mut spec = json!({ "hosts": ["api.example.com"], "ports": https });
        if let (Some(spec), Some(more)) = (spec.as_object_mut(), more.as_object()) {
            spec.extend(more.clone());
        }
        spec
    };
    for (objects, authority, port, expected) in [
        (vec![], "api.example.com", 443, Egress::Closed),
        (
            vec![entry("web/e", api(json!({})))],
            "api.example.com",
            443,
            Egress::Declared,
        ),
        (
            vec![entry("web/e", api(json!({})))],
            "API.example.com:443",
            443,
            Egress::Declared,
        ),
        (
            vec![entry("web/e", api(json!({})))],
            "api.example.com",
            80,
            Egress::Closed,
        ),
        (
            vec![entry("web/e", api(json!({})))],
            "www.example.com",
            443,
            Egress::Closed,
        ),
        // Only the address is known: it may be this.
        (
            vec![entry("web/e", api(json!({})))],
            "",
            443,
            Egress::Unknown("".into()),
        ),
        (
            vec![entry("web/e", api(json!({})))],
            "",
            444,
            Egress::Closed,
        ),
        (
            vec![entry("web/e", json!({ "hosts": ["*.example.com"] }))],
            "www.example.com",
            443,
            Egress::Declared,
        ),
        (
            vec![entry(
                "web/e",
                api(json!({ "addresses": ["192.0.2.0/24"] })),
            )],
            "",
            443,
            Egress::Declared,
        ),
        (
            vec![entry(
                "web/e",
                api(json!({ "addresses": ["192.0.3.0/24"] })),
            )],
            "",
            443,
            Egress::Closed,
        ),
        // Of another namespace, for all or not.
        (
            vec![entry("shop/e", api(json!({})))],
            "api.example.com",
            443,
            Egress::Declared,
        ),
        (
            vec![entry("shop/e", api(json!({ "exportTo": ["."] })))],
            "api.example.com",
            443,
            Egress::Closed,
        ),
        (
            vec![entry("shop/e", api(json!({ "exportTo": ["web"] })))],
            "api.example.com",
            443,
            Egress::Declared,
        ),
    ] {
        let text = format!("{objects:?} {authority}:{port}");
        let mut policies = declare(objects);
        mesh(
            &mut policies,
            "outboundTrafficPolicy:\n  mode: REGISTRY_ONLY\n",
        );
        let found = reach(&policies, &outside(authority, port));
        assert_eq!(found, expected, "{text}");
    }
}

#[test]
fn what_is_not_declared_is_as_the_nearest_policy_says() {
    let mode = |mode: &str| json!({ "outboundTrafficPolicy": { "mode": mode } });
    let chosen = |app: &str, mode: &str| {
        json!({
            "workloadSelector": { "labels": { "app": app } },
            "outboundTrafficPolicy": { "mode": mode },
        })
    };
    for (closed, objects, expected) in [
        (false, vec![], Egress::Open),
        (true, vec![], Egress::Closed),
        (true, vec![known("web/s", mode("ALLOW_ANY"))], Egress::Open),
        (
            false,
            vec![known("web/s", mode("REGISTRY_ONLY"))],
            Egress::Closed,
        ),
        (true, vec![known("web/s", json!({}))], Egress::Closed),
        (
            false,
            vec![known("istio-system/s", mode("REGISTRY_ONLY"))],
            Egress::Closed,
        ),
        (
            false,
            vec![known("shop/s", mode("REGISTRY_ONLY"))],
            Egress::Open,
        ),
        (
            false,
            vec![
                known("web/a", mode("REGISTRY_ONLY")),
                known("web/b", chosen("web", "ALLOW_ANY")),
            ],
            Egress::Open,
        ),
        (
            false,
            vec![
                known("web/a", chosen("other", "ALLOW_ANY")),
                known("web/b", mode("REGISTRY_ONLY")),
            ],
            Egress::Closed,
        ),
        // Of the root namespace, those that choose are for its own pods.
        (
            false,
            vec![known("istio-system/s", chosen("web", "REGISTRY_ONLY"))],
            Egress::Open,
        ),
    ] {
        let text = format!("{closed} {objects:?}");
        let mut policies = declare(objects);
        if closed {
            mesh(
                &mut policies,
                "outboundTrafficPolicy:\n  mode: REGISTRY_ONLY\n",
            );
        }
        assert_eq!(
            reach(&policies, &outside("a.example", 443)),
            expected,
            "{text}"
        );
    }
}

#[test]
fn a_sidecar_knows_only_its_hosts() {
    let declared = entry("shop/e", json!({ "hosts": ["api.example.com"] }));
    for (hosts, expected) in [
        (json!(["*/*"]), Egress::Declared),
        (json!(["*/api.example.com"]), Egress::Declared),
        (json!(["shop/*.example.com"]), Egress::Declared),
        (json!(["./*"]), Egress::Closed),
        (json!(["~/*"]), Egress::Closed),
        (json!(["other/*", "shop/www.example.com"]), Egress::Closed),
    ] {
        let spec = json!({
            "egress": [{ "hosts": hosts }],
            "outboundTrafficPolicy": { "mode": "REGISTRY_ONLY" },
        });
        let policies = declare([declared.clone(), known("web/s", spec)]);
        let found = reach(&policies, &outside("api.example.com", 443));
        assert_eq!(found, expected, "{hosts}");
    }
}

#[test]
fn services_of_the_cluster_are_declared() {
    let spec = json!({ "outboundTrafficPolicy": { "mode": "REGISTRY_ONLY" } });
    let mut policies = declare([known("web/s", spec)]);
    service(&mut policies, "shop/cart", |_| {});
    let dialled = Destination {
        service: Some(("shop", "cart")),
        ..Destination::default()
    };
    assert_eq!(reach(&policies, &dialled), Egress::Declared);
    assert_eq!(
        reach(&policies, &outside("cart.shop", 80)),
        Egress::Declared
    );
    assert_eq!(reach(&policies, &outside("cart", 80)), Egress::Closed);
}

#[test]
fn the_nodes_proxy_keeps_nobody_in() {
    let mut policies = declare([]);
    mesh(
        &mut policies,
        "outboundTrafficPolicy:\n  mode: REGISTRY_ONLY\n",
    );
    let client = ambient("web", &[]);
    let decision = policies.egress(&client, &outside("a.example", 443));
    assert_eq!(decision.value, Egress::Open);
}
