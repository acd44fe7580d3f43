//! What servers take, in cases.

use serde_json::{Value, json};

use crate::{
    mesh::{
        decision::Accepts,
        istio::tests::{ambient, annotated, deciders, declare, object, plain, sidecar},
    },
    model::{
        kubernetes::Pod,
        policy::{PolicyKind, PolicyObject},
    },
};

fn policy(name: &str, created: u64, spec: Value) -> PolicyObject {
    object(PolicyKind::PeerAuthentication, name, created, spec)
}

fn mode(mode: &str) -> Value {
    json!({ "mtls": { "mode": mode } })
}

fn chosen(app: &str, mode: &str, ports: Value) -> Value {
    json!({
        "selector": { "matchLabels": { "app": app } },
        "mtls": { "mode": mode },
        "portLevelMtls": ports,
    })
}

fn cart() -> Pod {
    sidecar("shop", &[("app", "cart")])
}

#[test]
fn the_narrowest_scope_wins_and_in_one_the_oldest() {
    let mesh = |text| policy("istio-system/mesh", 1, mode(text));
    let namespace = |text| policy("shop/namespace", 1, mode(text));
    let workload = |text| policy("shop/workload", 1, chosen("cart", text, json!({})));
    let port = |text, port| {
        let ports = json!({ "8080": { "mode": port } });
        policy("shop/workload", 1, chosen("cart", text, ports))
    };
    let default = "PERMISSIVE is the default";
    for (objects, accepts, decider) in [
        (vec![], Accepts::Both, default),
        (vec![mesh("STRICT")], Accepts::Mutual, "istio-system/mesh"),
        (vec![mesh("UNSET")], Accepts::Both, default),
        (
            vec![mesh("DISABLE")],
            Accepts::Plaintext,
            "istio-system/mesh",
        ),
        (
            vec![mesh("STRICT"), namespace("PERMISSIVE")],
            Accepts::Both,
            "shop/namespace",
        ),
        (
            vec![mesh("STRICT"), namespace("UNSET")],
            Accepts::Mutual,
            "istio-system/mesh",
        ),
        // Without any mode at all.
        (
            vec![mesh("STRICT"), policy("shop/namespace", 1, json!({}))],
            Accepts::Mutual,
            "istio-system/mesh",
        ),
        (
            vec![mesh("STRICT"), namespace("STRICT"), workload("DISABLE")],
            Accepts::Plaintext,
            "shop/workload",
        ),
        (
            vec![namespace("STRICT"), workload("UNSET")],
            Accepts::Mutual,
            "shop/namespace",
        ),
        (
            vec![namespace("STRICT"), port("STRICT", "PERMISSIVE")],
            Accepts::Both,
            "shop/workload",
        ),
        (
            vec![mesh("STRICT"), port("UNSET", "DISABLE")],
            Accepts::Plaintext,
            "shop/workload",
        ),
        // A port without a mode takes the workload's, and that takes the namespace's.
        (
            vec![port("STRICT", "UNSET")],
            Accepts::Mutual,
            "shop/workload",
        ),
        (
            vec![namespace("STRICT"), port("UNSET", "UNSET")],
            Accepts::Mutual,
            "shop/namespace",
        ),
        // Another workload's, another namespace's.
        (
            vec![policy("shop/other", 1, chosen("web", "STRICT", json!({})))],
            Accepts::Both,
            default,
        ),
        (
            vec![policy("other/p", 1, mode("STRICT"))],
            Accepts::Both,
            default,
        ),
        // Selectors in the root namespace are ignored.
        (
            vec![policy(
                "istio-system/p",
                1,
                chosen("cart", "STRICT", json!({})),
            )],
            Accepts::Both,
            default,
        ),
        // The oldest of one scope, and of equal age the first by name.
        (
            vec![
                policy("shop/a", 2, mode("STRICT")),
                policy("shop/b", 1, mode("PERMISSIVE")),
            ],
            Accepts::Both,
            "shop/b",
        ),
        (
            vec![
                policy("shop/b", 1, mode("PERMISSIVE")),
                policy("shop/a", 1, mode("STRICT")),
            ],
            Accepts::Mutual,
            "shop/a",
        ),
        // Also where the oldest says nothing: the scope around it counts.
        (
            vec![
                policy("shop/a", 1, mode("UNSET")),
                policy("shop/b", 2, mode("STRICT")),
            ],
            Accepts::Both,
            default,
        ),
        // Unknown modes are those of later versions.
        (vec![mesh("LATER")], Accepts::Both, default),
    ] {
        let text = format!("{objects:?}");
        let decision = declare(objects).accepts(&cart(), 8080);
        assert_eq!(decision.value, accepts, "{text}");
        assert_eq!(deciders(&decision.because), [decider], "{text}");
    }
}

#[test]
fn in_the_root_namespace_nothing_is_chosen() {
    let server = sidecar("istio-system", &[("app", "cart")]);
    let policies = declare([
        policy(
            "istio-system/chosen",
            1,
            chosen("cart", "DISABLE", json!({})),
        ),
        policy("istio-system/mesh", 2, mode("STRICT")),
    ]);
    let decision = policies.accepts(&server, 8080);
    assert_eq!(decision.value, Accepts::Mutual);
    assert_eq!(deciders(&decision.because), ["istio-system/mesh"]);
}

#[test]
fn a_port_is_the_containers_alone() {
    let ports = json!({ "8080": { "mode": "DISABLE" } });
    let policies = declare([policy("shop/p", 1, chosen("cart", "STRICT", ports))]);
    assert_eq!(policies.accepts(&cart(), 8080).value, Accepts::Plaintext);
    assert_eq!(policies.accepts(&cart(), 80).value, Accepts::Mutual);
    // Without a selector ports say nothing.
    let general = json!({ "portLevelMtls": { "8080": { "mode": "STRICT" } } });
    let policies = declare([policy("shop/p", 1, general)]);
    assert_eq!(policies.accepts(&cart(), 8080).value, Accepts::Both);
}

#[test]
fn ambient_mode_cannot_turn_it_off() {
    let pod = ambient("shop", &[("app", "cart")]);
    let policies = declare([policy("shop/p", 1, mode("DISABLE"))]);
    let decision = policies.accepts(&pod, 8080);
    assert_eq!(decision.value, Accepts::Both);
    assert_eq!(
        deciders(&decision.because),
        [
            "shop/p",
            "ambient mode has no DISABLE: it only takes plaintext too"
        ]
    );
    let policies = declare([policy("shop/p", 1, mode("STRICT"))]);
    assert_eq!(policies.accepts(&pod, 8080).value, Accepts::Mutual);
}

#[test]
fn what_no_proxy_takes_is_plaintext_whatever_is_declared() {
    let policies = declare([policy("istio-system/p", 1, mode("STRICT"))]);
    let excluded = |name: &str, ports: &str| annotated(cart(), &[(name, ports)]);
    const EXCLUDE: &str = "traffic.sidecar.istio.io/excludeInboundPorts";
    const INCLUDE: &str = "traffic.sidecar.istio.io/includeInboundPorts";
    for (pod, expected) in [
        (excluded(EXCLUDE, "9090, 8080"), Accepts::Plaintext),
        (excluded(EXCLUDE, "9090"), Accepts::Mutual),
        (excluded(INCLUDE, "*"), Accepts::Mutual),
        (excluded(INCLUDE, "9090"), Accepts::Plaintext),
        (excluded(INCLUDE, ""), Accepts::Plaintext),
        (plain("shop", &[]), Accepts::NoMesh),
        (
            annotated(
                plain("shop", &[]),
                &[
                    ("ambient.istio.io/bypass-inbound-capture", "true"),
                    ("ambient.istio.io/redirection", "enabled"),
                ],
            ),
            Accepts::Plaintext,
        ),
    ] {
        assert_eq!(policies.accepts(&pod, 8080).value, expected, "{pod:?}");
    }
    assert_eq!(policies.accepts(&cart(), 15020).value, Accepts::Plaintext);
}
