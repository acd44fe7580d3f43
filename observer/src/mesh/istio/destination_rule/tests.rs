//! Which DestinationRule counts, and what it says of a port, in cases.

use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::{
    mesh::{
        istio::tests::{deciders, declare, mesh, object, sidecar},
        policy::Policies,
    },
    model::policy::PolicyKind,
};

const CART: &str = "cart.shop.svc.cluster.local";

fn rule(name: &str, created: u64, spec: Value) -> PolicyObject {
    object(PolicyKind::DestinationRule, name, created, spec)
}

fn tls(host: &str, mode: &str) -> Value {
    json!({ "host": host, "trafficPolicy": { "tls": { "mode": mode } } })
}

fn with(mut value: Value, field: &str, more: Value) -> Value {
    if let Some(fields) = value.as_object_mut() {
        fields.insert(field.to_owned(), more);
    }
    value
}

fn applied(policies: &Policies, namespace: &str) -> Option<Decision<TrafficPolicy>> {
    let client = sidecar(namespace, &[("app", "web")]);
    policies.istio().traffic_policy(&client, CART, "", 80)
}

#[test]
fn namespaces_have_an_order_and_the_most_specific_host_wins() {
    let private = |value| with(value, "exportTo", json!(["."]));
    let selecting = |app: &str| {
        let selector = json!({ "matchLabels": { "app": app } });
        with(tls(CART, "SIMPLE"), "workloadSelector", selector)
    };
    for (client, objects, decider) in [
        ("web", vec![], None),
        (
            "web",
            vec![rule("shop/own", 1, tls("cart", "SIMPLE"))],
            Some("shop/own"),
        ),
        // A short name is of the object's own namespace.
        ("web", vec![rule("web/own", 1, tls("cart", "SIMPLE"))], None),
        (
            "web",
            vec![
                rule("shop/service", 1, tls(CART, "SIMPLE")),
                rule("web/client", 2, tls(CART, "DISABLE")),
                rule("istio-system/root", 1, tls(CART, "SIMPLE")),
            ],
            Some("web/client"),
        ),
        (
            "web",
            vec![
                rule("shop/service", 2, tls(CART, "SIMPLE")),
                rule("istio-system/root", 1, tls(CART, "SIMPLE")),
            ],
            Some("shop/service"),
        ),
        (
            "web",
            vec![rule("istio-system/root", 1, tls("*.local", "SIMPLE"))],
            Some("istio-system/root"),
        ),
        // The client's is not asked when it is the root namespace.
        (
            "istio-system",
            vec![
                rule("istio-system/root", 1, tls(CART, "SIMPLE")),
                rule("shop/service", 2, tls(CART, "SIMPLE")),
            ],
            Some("shop/service"),
        ),
        // A wildcard nearby goes before a host far away, a host before a wildcard beside it.
        (
            "web",
            vec![
                rule("web/wild", 1, tls("*.shop.svc.cluster.local", "SIMPLE")),
                rule("shop/service", 1, tls(CART, "SIMPLE")),
            ],
            Some("web/wild"),
        ),
        (
            "web",
            vec![
                rule("shop/any", 1, tls("*", "SIMPLE")),
                rule("shop/wild", 1, tls("*.shop.svc.cluster.local", "SIMPLE")),
                rule("shop/exact", 2, tls(CART, "SIMPLE")),
            ],
            Some("shop/exact"),
        ),
        (
            "web",
            vec![
                rule("shop/any", 1, tls("*", "SIMPLE")),
                rule("shop/wild", 2, tls("*.shop.svc.cluster.local", "SIMPLE")),
            ],
            Some("shop/wild"),
        ),
        // What is not for a namespace is not seen there.
        (
            "web",
            vec![rule("shop/own", 1, private(tls("cart", "SIMPLE")))],
            None,
        ),
        (
            "web",
            vec![
                rule("shop/private", 1, private(tls("cart", "SIMPLE"))),
                rule("shop/wild", 1, tls("*.local", "SIMPLE")),
            ],
            Some("shop/wild"),
        ),
        (
            "shop",
            vec![rule("shop/own", 1, private(tls("cart", "SIMPLE")))],
            Some("shop/own"),
        ),
        // Those that choose workloads go first for these, in their namespace alone.
        (
            "web",
            vec![
                rule("web/all", 1, tls(CART, "SIMPLE")),
                rule("web/chosen", 2, selecting("web")),
            ],
            Some("web/chosen"),
        ),
        (
            "web",
            vec![
                rule("web/all", 2, tls(CART, "SIMPLE")),
                rule("web/chosen", 1, selecting("other")),
            ],
            Some("web/all"),
        ),
        ("web", vec![rule("shop/chosen", 1, selecting("web"))], None),
        // One that chooses others leaves nothing to wider ones.
        (
            "web",
            vec![
                rule("web/chosen", 1, selecting("other")),
                rule("shop/all", 1, tls(CART, "SIMPLE")),
            ],
            None,
        ),
    ] {
        let text = format!("{client}: {objects:?}");
        let found = applied(&declare(objects), client);
        let deciders = found.map(|found| deciders(&found.because));
        let expected = decider.map(|decider| vec![decider.to_owned()]);
        assert_eq!(deciders, expected, "{text}");
    }
}

#[test]
fn the_mesh_may_say_who_knows_of_those_that_say_nothing() {
    let mut policies = declare([rule("shop/own", 1, tls("cart", "SIMPLE"))]);
    assert!(applied(&policies, "web").is_some());
    mesh(&mut policies, "defaultDestinationRuleExportTo: [\".\"]");
    assert!(applied(&policies, "web").is_none());
    assert!(applied(&policies, "shop").is_some());
}

#[test]
fn a_port_replaces_all_sections_and_a_subset_only_its_own() {
    let spec = json!({
        "host": "cart",
        "trafficPolicy": {
            "tls": { "mode": "ISTIO_MUTUAL" },
            "outlierDetection": { "consecutive5xxErrors": 3, "baseEjectionTime": "30s" },
            "connectionPool": { "http": { "http1MaxPendingRequests": 1, "http2MaxRequests": 7 } },
            "loadBalancer": { "consistentHash": { "httpHeaderName": "user" } },
            "portLevelSettings": [
                { "port": { "number": 81 }, "connectionPool": { "tcp": { "maxConnections": 9 } } },
            ],
        },
        "subsets": [
            { "name": "v1", "labels": { "version": "v1" } },
            {
                "name": "v2",
                "labels": { "version": "v2" },
                "trafficPolicy": {
                    "tls": { "mode": "DISABLE" },
                    "portLevelSettings": [{ "port": { "number": 82 } }],
                },
            },
        ],
    });
    let policies = declare([rule("shop/own", 1, spec)]);
    let client = sidecar("web", &[]);
    let istio = policies.istio();
    let of = |subset: &str, port| {
        let found = istio.traffic_policy(&client, CART, subset, port);
        found.expect("declared").value
    };
    let mode = |policy: &TrafficPolicy| policy.tls.as_ref().map(|tls| tls.mode);

    let general = of("", 80);
    assert_eq!(mode(&general), Some(TlsMode::IstioMutual));
    let outlier = general.outlier_detection.clone().expect("declared");
    assert_eq!(outlier.consecutive_5xx_errors, Some(3));
    assert_eq!(outlier.base_ejection_time, Some(Duration::from_secs(30)));
    let pool = general.connection_pool.clone().expect("declared");
    assert_eq!(pool.http.max_pending_requests, Some(1));
    assert_eq!(pool.http.max_requests, Some(7));
    let balancer = general.load_balancer.clone().expect("declared");
    let hash = balancer.consistent_hash.expect("declared");
    assert_eq!(hash.http_header_name.as_deref(), Some("user"));
    assert_eq!(of("v1", 80), general);

    let of_port = of("", 81);
    assert_eq!(mode(&of_port), None);
    assert_eq!(of_port.outlier_detection, None);
    let pool = of_port.connection_pool.clone().expect("declared");
    assert_eq!(pool.tcp.max_connections, Some(9));

    let subset = of("v2", 80);
    assert_eq!(mode(&subset), Some(TlsMode::Disable));
    assert_eq!(subset.outlier_detection, general.outlier_detection);
    assert_eq!(mode(&of("v2", 81)), Some(TlsMode::Disable));
    assert_eq!(of("v2", 81).connection_pool, of_port.connection_pool);
    assert_eq!(of("v2", 82), TrafficPolicy::default());
}

#[test]
fn several_of_one_host_are_taken_as_one() {
    let subset = |name: &str, version: &str| {
        json!({
            "host": "cart",
            "subsets": [{ "name": name, "labels": { "version": version } }],
        })
    };
    let policies = declare([
        rule(
            "shop/young",
            2,
            with(subset("v1", "young"), "trafficPolicy", json!({})),
        ),
        rule("shop/old", 1, subset("v1", "old")),
        rule("shop/other", 3, subset("v2", "v2")),
    ]);
    let istio = policies.istio();
    let labels = |name| {
        let subset = istio.subset("web", CART, name)?;
        subset.labels.first().map(|(_, value)| value.to_string())
    };
    assert_eq!(labels("v1").as_deref(), Some("old"));
    assert_eq!(labels("v2").as_deref(), Some("v2"));
    assert_eq!(labels("v3"), None);
    assert_eq!(istio.subsets().count(), 3);
    let decided = applied(&policies, "web").expect("declared");
    assert_eq!(deciders(&decided.because), ["shop/young"]);
}
