//! What the policies of a pod name, in cases.

use serde_json::{Value, json};

use super::*;
use crate::{
    mesh::{
        istio::tests::{ambient, declare, namespace, object, service, sidecar},
        policy::Policies,
    },
    model::policy::PolicyKind,
};

fn policy(name: &str, spec: Value) -> PolicyObject {
    object(PolicyKind::IstioAuthorizationPolicy, name, 1, spec)
}

fn facts(policies: &Policies, server: &Pod) -> Vec<AuthorizationFacts> {
    policies.istio().policies_for(policies.context(), server)
}

#[test]
fn what_rules_name_is_told() {
    let policies = declare([policy(
        "shop/p",
        json!({
            "action": "DENY",
            "rules": [
                {
                    "from": [{ "source": {
                        "principals": ["b", "a"], "namespaces": ["n"], "serviceAccounts": ["s", "o/s"],
                    } }],
                    "to": [{ "operation": { "paths": ["/p"], "methods": ["GET"], "hosts": ["h"] } }],
                },
                { "from": [{ "source": { "principals": ["a"] } }] },
            ],
        }),
    )]);
    let found = facts(&policies, &sidecar("shop", &[]));
    let [facts] = found.as_slice() else {
        panic!("{found:?}")
    };
    assert_eq!(facts.action, Action::Deny);
    assert_eq!(facts.attachment, Attachment::Namespace);
    assert_eq!(facts.unenforced, None);
    assert!(facts.names_identities && facts.names_requests && !facts.names_unseen);
    let text = |list: &[Box<str>]| list.join(",");
    assert_eq!(text(&facts.principals), "a,b");
    assert_eq!(text(&facts.namespaces), "n");
    assert_eq!(text(&facts.service_accounts), "shop/s,o/s");
    assert_eq!(text(&facts.paths), "/p");
    assert_eq!(text(&facts.methods), "GET");
    assert_eq!(text(&facts.hosts), "h");
}

#[test]
fn what_is_never_observed_is_told() {
    for (rule, identities, requests, unseen) in [
        (json!({}), false, false, false),
        (
            json!({ "when": [{ "key": "source.ip" }] }),
            false,
            false,
            false,
        ),
        (
            json!({ "when": [{ "key": "source.principal" }] }),
            true,
            false,
            false,
        ),
        (
            json!({ "when": [{ "key": "request.auth.claims[a]" }] }),
            false,
            true,
            true,
        ),
        (
            json!({ "when": [{ "key": "connection.sni" }] }),
            false,
            false,
            true,
        ),
        (
            json!({ "from": [{ "source": { "requestPrincipals": ["*"] } }] }),
            false,
            true,
            true,
        ),
        (
            json!({ "from": [{ "source": { "notRemoteIpBlocks": ["10.0.0.1"] } }] }),
            false,
            false,
            true,
        ),
        (
            json!({ "from": [{ "source": { "notNamespaces": ["a"] } }] }),
            true,
            false,
            false,
        ),
    ] {
        let text = rule.to_string();
        let policies = declare([policy("shop/p", json!({ "rules": [rule] }))]);
        let found = facts(&policies, &sidecar("shop", &[]));
        let told: Vec<_> = found
            .iter()
            .map(|it| (it.names_identities, it.names_requests, it.names_unseen))
            .collect();
        assert_eq!(told, [(identities, requests, unseen)], "{text}");
    }
}

#[test]
fn what_nobody_enforces_is_told() {
    let requests = json!([{ "to": [{ "operation": { "methods": ["GET"] } }] }]);
    let own = policy("shop/own", json!({ "rules": requests }));
    let plain = policy("shop/plain", json!({ "rules": [{}] }));
    let custom = policy("shop/custom", json!({ "action": "CUSTOM", "rules": [{}] }));
    let target =
        json!({ "targetRefs": [{ "kind": "Service", "name": "cart" }], "rules": requests });
    let targeted = policy("shop/targeted", target);
    let elsewhere = policy(
        "shop/elsewhere",
        json!({ "targetRefs": [{ "kind": "Service", "name": "other" }] }),
    );
    let meshed = sidecar("shop", &[("app", "cart")]);
    let node = ambient("shop", &[("app", "cart")]);
    let waypoint = &[("istio.io/use-waypoint", "w")][..];
    for (server, labels, object, expected) in [
        (&meshed, &[][..], &own, Some(None)),
        (&node, &[], &plain, Some(None)),
        (
            &node,
            &[],
            &own,
            Some(Some(
                "the node's proxy knows nothing of HTTP: a waypoint would",
            )),
        ),
        // A waypoint does not have those of pods.
        (
            &node,
            waypoint,
            &own,
            Some(Some(
                "the node's proxy knows nothing of HTTP: a waypoint would",
            )),
        ),
        (
            &node,
            &[],
            &custom,
            Some(Some("the node's proxy has only ALLOW and DENY")),
        ),
        (
            &node,
            &[],
            &targeted,
            Some(Some("the Service has no waypoint")),
        ),
        (&node, waypoint, &targeted, Some(None)),
        (
            &meshed,
            &[],
            &targeted,
            Some(Some("the Service has no waypoint")),
        ),
        (
            &meshed,
            waypoint,
            &targeted,
            Some(Some("clients with sidecars do not pass the waypoint")),
        ),
        (&node, waypoint, &elsewhere, None),
    ] {
        let mut policies = declare([object.clone()]);
        service(&mut policies, "shop/cart", |_| {});
        namespace(&mut policies, "shop", labels);
        let found = facts(&policies, server);
        let told = found.first().map(|facts| facts.unenforced);
        assert_eq!(told, expected, "{} {labels:?}", object.name);
    }
}

#[test]
fn attachments_are_told_apart() {
    let choose = json!({ "selector": { "matchLabels": { "app": "cart" } } });
    let gateway = json!({ "targetRef": { "kind": "Gateway", "name": "gate" } });
    let server = sidecar(
        "shop",
        &[
            ("app", "cart"),
            ("gateway.networking.k8s.io/gateway-name", "gate"),
        ],
    );
    for (name, spec, expected) in [
        ("istio-system/p", json!({}), Attachment::Mesh),
        ("shop/p", json!({}), Attachment::Namespace),
        ("shop/p", choose.clone(), Attachment::Workload),
        ("istio-system/p", choose, Attachment::Workload),
        ("shop/p", gateway, Attachment::Gateway),
    ] {
        let policies = declare([policy(name, spec)]);
        let found = facts(&policies, &server);
        let told: Vec<_> = found.iter().map(|facts| facts.attachment).collect();
        assert_eq!(told, [expected]);
    }
}
