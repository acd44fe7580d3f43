//! What all tests of Istio's objects are made of, and what is true of all of them.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{
    mesh::{
        decision::{Accepts, Caller, Destination, Reason, Request},
        policy::Policies,
    },
    model::{
        kubernetes::{Owner, Pod},
        mesh::{Identity, Plane},
        policy::{PolicyChange, PolicyKind, PolicyObject, PortFacts, ServiceFacts, Traits},
    },
};

/// Names and values, sorted by name.
pub(super) fn pairs(list: &[(&str, &str)]) -> Box<[(Box<str>, Box<str>)]> {
    let mut list: Vec<(Box<str>, Box<str>)> = list
        .iter()
        .map(|(name, value)| ((*name).into(), (*value).into()))
        .collect();
    list.sort();
    list.into()
}

/// An object, `namespace/name`, that is as old as its number is small.
pub(super) fn object(kind: PolicyKind, name: &str, created: u64, spec: Value) -> PolicyObject {
    let (namespace, name) = name.split_once('/').unwrap_or(("", name));
    PolicyObject {
        kind,
        uid: format!("{kind:?}/{namespace}/{name}").into(),
        namespace: namespace.into(),
        name: name.into(),
        version: "1".into(),
        created,
        labels: Box::new([]),
        annotations: Box::new([]),
        content: json!({ "spec": spec }).to_string().into(),
    }
}

/// A pod in the mesh by a sidecar.
pub(super) fn sidecar(namespace: &str, labels: &[(&str, &str)]) -> Pod {
    let mut labels = labels.to_vec();
    labels.push(("security.istio.io/tlsMode", "istio"));
    let mut pod = plain(namespace, &labels);
    let traits = Arc::make_mut(&mut pod.traits);
    traits.containers = Box::new(["app".into(), "istio-proxy".into()]);
    pod
}

/// A pod in the mesh by the proxy of its node.
pub(super) fn ambient(namespace: &str, labels: &[(&str, &str)]) -> Pod {
    annotated(
        plain(namespace, labels),
        &[("ambient.istio.io/redirection", "enabled")],
    )
}

/// A pod in no mesh.
pub(super) fn plain(namespace: &str, labels: &[(&str, &str)]) -> Pod {
    Pod {
        uid: "pod".into(),
        namespace: namespace.into(),
        name: "pod-1".into(),
        owners: Arc::new([Owner {
            kind: "Deployment".into(),
            name: "pod".into(),
        }]),
        traits: Arc::new(Traits {
            service_account: "account".into(),
            labels: pairs(labels),
            containers: Box::new(["app".into()]),
            ..Traits::default()
        }),
        ..Pod::default()
    }
}

pub(super) fn annotated(mut pod: Pod, annotations: &[(&str, &str)]) -> Pod {
    Arc::make_mut(&mut pod.traits).annotations = pairs(annotations);
    pod
}

pub(super) fn identity(namespace: &str, account: &str) -> Identity {
    Identity {
        text: format!("spiffe://cluster.local/ns/{namespace}/sa/{account}").into(),
        trust_domain: "cluster.local".into(),
        namespace: namespace.into(),
        service_account: account.into(),
    }
}

pub(super) fn declare(objects: impl IntoIterator<Item = PolicyObject>) -> Policies {
    let mut policies = Policies::default();
    for object in objects {
        policies.apply(PolicyChange::Set(Arc::new(object)));
    }
    policies
}

/// Adds a Service, `namespace/name`, that chooses pods by `app`, from port 80 to 8080.
pub(super) fn service(policies: &mut Policies, name: &str, change: impl FnOnce(&mut ServiceFacts)) {
    let (namespace, name) = name.split_once('/').expect("namespace/name");
    let mut facts = ServiceFacts {
        uid: format!("{namespace}/{name}").into(),
        namespace: namespace.into(),
        name: name.into(),
        selector: pairs(&[("app", name)]),
        ports: Box::new([PortFacts {
            port: 80,
            target: 8080,
            ..PortFacts::default()
        }]),
        ..ServiceFacts::default()
    };
    change(&mut facts);
    policies.apply(PolicyChange::SetService(Arc::new(facts)));
}

/// Adds a Namespace with labels.
pub(super) fn namespace(policies: &mut Policies, name: &str, labels: &[(&str, &str)]) {
    let mut object = object(PolicyKind::Namespace, name, 1, json!({}));
    object.labels = pairs(labels);
    policies.apply(PolicyChange::Set(Arc::new(object)));
}

/// Sets the configuration of the mesh.
pub(super) fn mesh(policies: &mut Policies, yaml: &str) {
    let mut object = object(PolicyKind::MeshConfig, "istio-system/istio", 1, json!({}));
    object.content = json!({ "mesh": yaml }).to_string().into();
    policies.apply(PolicyChange::Set(Arc::new(object)));
    assert_eq!(policies.misunderstood().count(), 0);
}

/// Who decided, as `namespace/name`, or what, where it is no object.
pub(super) fn deciders(because: &[Reason]) -> Vec<String> {
    because
        .iter()
        .map(|reason| match &reason.object {
            Some(object) => format!("{}/{}", object.namespace, object.name),
            None => reason.text.to_string(),
        })
        .collect()
}

const KINDS: [PolicyKind; 7] = [
    PolicyKind::MeshConfig,
    PolicyKind::PeerAuthentication,
    PolicyKind::DestinationRule,
    PolicyKind::VirtualService,
    PolicyKind::IstioAuthorizationPolicy,
    PolicyKind::ServiceEntry,
    PolicyKind::Sidecar,
];

/// All answers that there are, of a few pods.
fn answers(policies: &Policies) -> String {
    let context = policies.context();
    let istio = policies.istio();
    let pods = [
        sidecar("shop", &[("app", "web")]),
        sidecar("shop", &[("app", "cart"), ("version", "v1")]),
        ambient("shop", &[("app", "cart")]),
        plain("other", &[("app", "cart")]),
    ];
    let mut all = Vec::new();
    for client in &pods {
        for server in &pods {
            let to = Destination {
                service: Some(("shop", "cart")),
                authority: "cart",
                port: 80,
                pod: Some(server),
                pod_port: 8080,
                address: None,
            };
            let outside = Destination {
                authority: "api.example.com",
                port: 443,
                address: "192.0.2.1".parse().ok(),
                ..Destination::default()
            };
            let request = Request {
                method: "GET",
                path: "/a/b",
                authority: "cart",
                ..Request::default()
            };
            let who = identity("shop", "web");
            let caller = Caller {
                pod: Some(client),
                identity: Some(&who),
                mutual: Some(true),
                address: "10.0.0.1".parse().ok(),
            };
            all.push(format!(
                "{:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?}",
                policies.accepts(server, 8080),
                policies.sends(client, &to),
                policies.routing(Some(client), &to, &request),
                policies.routing(Some(client), &to, &Request::default()),
                policies.access(server, 8080, &caller, Some(&request)),
                policies.access(server, 8080, &Caller::default(), None),
                policies.egress(client, &outside),
                istio.declared_plane(context, server),
                istio.policies_for(context, server),
                istio.waypoint(context, server, Some(("shop", "cart"))),
            ));
            all.push(format!(
                "{:?} {:?}",
                istio.traffic_policy(client, "cart.shop.svc.cluster.local", "v1", 80),
                istio.matching_rules(context, client, &to, &request)
            ));
        }
    }
    all.join("\n")
}

/// What objects are written with: words that mean something, so that much of it is understood.
fn value() -> impl Strategy<Value = Value> {
    let word = prop_oneof![
        Just("STRICT"),
        Just("DISABLE"),
        Just("PERMISSIVE"),
        Just("ISTIO_MUTUAL"),
        Just("DENY"),
        Just("CUSTOM"),
        Just("*"),
        Just("."),
        Just("~"),
        Just("cart"),
        Just("cart.shop"),
        Just("*.example.com"),
        Just("api.example.com"),
        Just("shop/cart"),
        Just("./*"),
        Just("mesh"),
        Just("5s"),
        Just("-1s"),
        Just("a("),
        Just("/a/{**}"),
        Just("10.0.0.0/8"),
        Just("8080"),
        Just("v1"),
        Just("shop"),
        Just("é*"),
        Just("outlierDetection: [}"),
        Just("rootNamespace: shop"),
    ];
    let leaf = prop_oneof![
        2 => word.prop_map(|word| json!(word)),
        1 => any::<i64>().prop_map(|number| json!(number)),
        1 => any::<f64>().prop_map(|number| json!(number)),
        1 => any::<bool>().prop_map(|flag| json!(flag)),
        1 => Just(Value::Null),
    ];
    leaf.prop_recursive(6, 48, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::vec((field(), inner), 0..5)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn field() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "selector",
        "matchLabels",
        "labels",
        "app",
        "mtls",
        "mode",
        "portLevelMtls",
        "8080",
        "host",
        "hosts",
        "subsets",
        "name",
        "trafficPolicy",
        "portLevelSettings",
        "port",
        "number",
        "tls",
        "exportTo",
        "http",
        "tcp",
        "match",
        "uri",
        "exact",
        "prefix",
        "regex",
        "route",
        "destination",
        "subset",
        "weight",
        "timeout",
        "retries",
        "attempts",
        "mirror",
        "mirrors",
        "mirrorPercentage",
        "value",
        "percentage",
        "fault",
        "abort",
        "delay",
        "fixedDelay",
        "delegate",
        "redirect",
        "headers",
        "action",
        "rules",
        "from",
        "source",
        "principals",
        "notPrincipals",
        "to",
        "operation",
        "paths",
        "methods",
        "when",
        "key",
        "values",
        "ports",
        "ipBlocks",
        "targetRef",
        "targetRefs",
        "kind",
        "egress",
        "outboundTrafficPolicy",
        "addresses",
        "location",
        "resolution",
        "endpoints",
        "spec",
        "workloadSelector",
        "mesh",
        "gateways",
    ])
    .prop_map(str::to_owned)
}

proptest! {
    #[test]
    fn nothing_that_is_declared_breaks_anything(
        declared in prop::collection::vec((0..KINDS.len(), value(), 0..4_u64), 1..8)
    ) {
        let mut policies = Policies::default();
        service(&mut policies, "shop/cart", |_| {});
        let before = answers(&policies);
        let mut objects = Vec::new();
        for (index, (kind, content, created)) in declared.into_iter().enumerate() {
            let name = if index % 2 == 0 { "shop" } else { "istio-system" };
            let kind = KINDS.get(kind).copied().expect("a kind");
            let mut object = object(kind, &format!("{name}/o{index}"), created, content.clone());
            if created == 0 {
                // As it is, without a place for it.
                object.content = content.to_string().into();
            }
            let object = Arc::new(object);
            policies.apply(PolicyChange::Set(object.clone()));
            objects.push(object);
        }
        let _ = answers(&policies);
        let _ = policies.istio().rules().count();
        let _ = policies.istio().unreachable_rules().count();
        let _ = policies.istio().subsets().count();
        for object in objects {
            policies.apply(PolicyChange::Remove(object.kind, object.uid.clone()));
        }
        // Nothing stays behind.
        prop_assert_eq!(before, answers(&policies));
        prop_assert_eq!(format!("{:?}", policies.istio()), format!("{:?}", super::Istio::default()));
    }

    #[test]
    fn any_text_is_refused_or_understood(text in ".{0,200}", kind in 0..KINDS.len()) {
        let kind = KINDS.get(kind).copied().expect("a kind");
        let mut object = object(kind, "shop/o", 1, json!({}));
        object.content = text.into();
        let mut istio = super::Istio::default();
        let _ = istio.set(&object);
        istio.remove(&object);
    }

    #[test]
    fn the_order_of_arrival_decides_nothing(order in Just(samples()).prop_shuffle()) {
        let mut expected = declare(samples());
        let mut policies = declare(order);
        for policies in [&mut expected, &mut policies] {
            service(policies, "shop/cart", |_| {});
            namespace(policies, "shop", &[("istio.io/use-waypoint", "waypoint")]);
        }
        prop_assert_eq!(answers(&expected), answers(&policies));
    }

    #[test]
    fn what_has_nothing_to_do_with_it_changes_nothing(content in value(), kind in 1..KINDS.len()) {
        let kind = KINDS.get(kind).copied().expect("a kind");
        let mut policies = declare(samples());
        service(&mut policies, "shop/cart", |_| {});
        let before = answers(&policies);
        // Of a namespace that nothing here is of, and seen by nobody else.
        let mut content = content;
        if let Some(fields) = content.as_object_mut() {
            fields.insert("exportTo".to_owned(), json!(["."]));
        }
        policies.apply(PolicyChange::Set(Arc::new(object(kind, "elsewhere/o", 0, content))));
        prop_assert_eq!(before, answers(&policies));
    }
}

/// Objects of all kinds that contradict each other.
fn samples() -> Vec<PolicyObject> {
    let route = |subset: &str| {
        json!({
            "hosts": ["cart"],
            "http": [{ "route": [{ "destination": { "host": "cart", "subset": subset } }] }],
        })
    };
    let rule = |mode: &str| {
        json!({
            "host": "cart",
            "trafficPolicy": { "tls": { "mode": mode } },
            "subsets": [{ "name": "v1", "labels": { "version": mode } }],
        })
    };
    let entry = json!({ "hosts": ["api.example.com"], "ports": [{ "number": 443 }] });
    let allow = |path: &str| json!({ "rules": [{ "to": [{ "operation": { "paths": [path] } }] }] });
    let mode = |mode: &str| json!({ "mtls": { "mode": mode } });
    vec![
        object(PolicyKind::VirtualService, "shop/a", 2, route("v1")),
        object(PolicyKind::VirtualService, "shop/b", 1, route("v2")),
        object(PolicyKind::VirtualService, "shop/c", 1, route("v3")),
        object(PolicyKind::DestinationRule, "shop/a", 1, rule("SIMPLE")),
        object(
            PolicyKind::DestinationRule,
            "shop/b",
            1,
            rule("ISTIO_MUTUAL"),
        ),
        object(PolicyKind::ServiceEntry, "shop/a", 1, entry.clone()),
        object(PolicyKind::ServiceEntry, "istio-system/b", 1, entry),
        object(PolicyKind::PeerAuthentication, "shop/a", 2, mode("STRICT")),
        object(PolicyKind::PeerAuthentication, "shop/b", 2, mode("DISABLE")),
        object(
            PolicyKind::PeerAuthentication,
            "istio-system/c",
            1,
            mode("STRICT"),
        ),
        object(
            PolicyKind::IstioAuthorizationPolicy,
            "shop/a",
            1,
            allow("/a/*"),
        ),
        object(
            PolicyKind::IstioAuthorizationPolicy,
            "shop/b",
            1,
            allow("/a/{**}"),
        ),
        object(
            PolicyKind::Sidecar,
            "shop/a",
            1,
            json!({ "outboundTrafficPolicy": { "mode": "REGISTRY_ONLY" } }),
        ),
        object(
            PolicyKind::Sidecar,
            "shop/b",
            1,
            json!({ "egress": [{ "hosts": ["./*"] }] }),
        ),
    ]
}

#[test]
fn what_is_not_understood_is_named_and_changes_nothing() {
    let server = sidecar("shop", &[]);
    let strict = json!({ "mtls": { "mode": "STRICT" } });
    let mut policies = declare([object(PolicyKind::PeerAuthentication, "shop/p", 1, strict)]);
    let wrong = json!({ "mtls": { "mode": 5 } });
    let wrong = Arc::new(object(
        PolicyKind::PeerAuthentication,
        "shop/wrong",
        0,
        wrong,
    ));
    policies.apply(PolicyChange::Set(wrong));
    assert_eq!(policies.accepts(&server, 80).value, Accepts::Mutual);
    let found: Vec<String> = policies
        .misunderstood()
        .map(|(object, problem)| format!("{} {problem}", object.name))
        .collect();
    assert_eq!(
        found,
        ["wrong spec.mtls.mode: invalid type: integer `5`, expected a string"]
    );
    assert_eq!(policies.plane(&server), Plane::IstioSidecar);
}
