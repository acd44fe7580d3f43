//! Tests of reading what is declared: what is kept, what is not, and what bounds it.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::cluster::{
    object::Object,
    read::{self, Event, Options, Resource},
};

fn options() -> Options {
    Options {
        traits: true,
        ..Options::default()
    }
}

fn read(kind: PolicyKind, object: &Value) -> (Option<Found>, Losses) {
    let mut losses = Losses::default();
    let json = object.to_string();
    let found = read::object(
        Resource::Policy(kind),
        json.as_bytes(),
        &options(),
        &mut losses,
    );
    (found, losses)
}

fn policy_of(kind: PolicyKind, object: &Value) -> Arc<PolicyObject> {
    match read(kind, object).0 {
        Some(Found::Policy(object)) => object,
        other => panic!("{other:?}"),
    }
}

fn list(pairs: &[(&str, &str)]) -> List {
    pairs
        .iter()
        .map(|(name, value)| ((*name).into(), (*value).into()))
        .collect()
}

#[test]
fn an_object_is_kept_as_it_says_and_nothing_around_it() {
    let object = policy_of(
        PolicyKind::VirtualService,
        &json!({
            "apiVersion": "networking.istio.io/v1",
            "kind": "VirtualService",
            "metadata": {
                "uid": "u1", "namespace": "shop", "name": "cart", "resourceVersion": "42",
                "creationTimestamp": "2024-05-06T07:08:09Z",
                "labels": {"b": "2", "a": ""},
                "annotations": {
                    "kubectl.kubernetes.io/last-applied-configuration": "secret",
                    "networking.istio.io/exportTo": "*",
                    "istio.io/rev": "x", "evilistio.io/a": "no", "plain": "no",
                    "config.linkerd.io/opaque-ports": "3306",
                },
                "managedFields": [{"manager": "kubectl"}],
            },
            "spec": {"hosts": ["cart"], "http": [{"route": []}]},
            "status": {
                "conditions": [{"type": "Reconciled", "status": "True"}],
                "parents": [{"controllerName": "c"}],
                "validationMessages": ["left out"],
                "observedGeneration": 7,
            },
        }),
    );
    assert_eq!(
        *object,
        PolicyObject {
            kind: PolicyKind::VirtualService,
            uid: "u1".into(),
            namespace: "shop".into(),
            name: "cart".into(),
            version: "42".into(),
            created: 1_714_979_289,
            labels: list(&[("a", ""), ("b", "2")]),
            annotations: list(&[
                ("config.linkerd.io/opaque-ports", "3306"),
                ("istio.io/rev", "x"),
                ("networking.istio.io/exportTo", "*"),
            ]),
            content: "{\"spec\":{\"hosts\":[\"cart\"],\"http\":[{\"route\":[]}]},\"status\":\
                      {\"conditions\":[{\"status\":\"True\",\"type\":\"Reconciled\"}],\
                      \"parents\":[{\"controllerName\":\"c\"}]}}"
                .into(),
        }
    );
}

#[test]
fn a_namespace_is_its_labels_and_a_config_is_its_mesh() {
    let namespace = policy_of(
        PolicyKind::Namespace,
        &json!({"metadata": {"uid": "n", "name": "shop", "labels": {"istio-injection": "enabled"}},
                "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}),
    );
    assert_eq!((&*namespace.namespace, &*namespace.name), ("", "shop"));
    assert_eq!(&*namespace.content, "{}");
    assert_eq!(namespace.labels, list(&[("istio-injection", "enabled")]));

    let config = |name: &str, data: Value| json!({"metadata": {"uid": "c", "namespace": "istio-system", "name": name}, "data": data});
    for (name, mesh) in [("istio", "a: 1\nb: \"x\""), ("istio-1-20", "c: 2")] {
        let object = policy_of(
            PolicyKind::MeshConfig,
            &config(name, json!({"mesh": mesh, "meshNetworks": "networks: {}"})),
        );
        let content: Value = serde_json::from_str(&object.content).unwrap();
        assert_eq!(content, json!({"mesh": mesh}));
    }
    for (name, data) in [
        ("istio-ca-root-cert", json!({"root-cert.pem": "x"})),
        ("other", json!({"mesh": "a: 1"})),
        ("istiod", json!({"mesh": "a: 1"})),
        ("istio", json!({})),
        ("istio", json!(null)),
        ("istio", json!({"mesh": 5})),
    ] {
        let (found, losses) = read(PolicyKind::MeshConfig, &config(name, data.clone()));
        assert_eq!(found, Some(Found::Unwanted("c".into())), "{name} {data}");
        assert_eq!(losses, Losses::default());
    }
}

#[test]
fn what_is_strange_is_left_out_and_what_is_too_long_is_there_all_the_same() {
    let metadata = json!({"uid": "u", "namespace": "n", "name": "o"});
    for (spec, status, content) in [
        (json!(null), json!(null), "{}"),
        (json!("text"), json!([1]), "{}"),
        (
            json!({}),
            json!({"conditions": {}, "parents": null}),
            "{\"spec\":{}}",
        ),
        (
            json!([1]),
            json!({"conditions": []}),
            "{\"status\":{\"conditions\":[]}}",
        ),
    ] {
        let object = json!({"metadata": metadata, "spec": spec, "status": status});
        let read = policy_of(PolicyKind::HttpRoute, &object);
        assert_eq!(&*read.content, content, "{object}");
    }
    let long = json!({"metadata": metadata, "spec": {"a": "x".repeat(MAX_CONTENT)}});
    let (found, losses) = read(PolicyKind::HttpRoute, &long);
    let Some(Found::Policy(object)) = found else {
        panic!("{found:?}");
    };
    assert_eq!((&*object.content, losses.too_large), ("", 1));

    let labels: serde_json::Map<String, Value> =
        (0..100).map(|n| (format!("l{n:03}"), json!("v"))).collect();
    let object = json!({"metadata": {
        "uid": "u", "namespace": "n", "name": "o", "labels": labels,
        "annotations": {"istio.io/long": "x".repeat(MAX_ANNOTATION + 1), "istio.io/odd": "\u{1}",
                        "istio.io/lines": "a\nb"},
    }});
    let (found, losses) = read(PolicyKind::Telemetry, &object);
    let Some(Found::Policy(object)) = found else {
        panic!("{found:?}");
    };
    assert_eq!(object.labels.len(), MAX_PAIRS);
    assert_eq!(object.annotations, list(&[("istio.io/lines", "a\nb")]));
    assert_eq!((losses.elements, losses.values), (36, 2));

    for metadata in [
        json!({}),
        json!({"uid": "u", "namespace": "n"}),
        json!({"uid": "u", "name": "o"}),
        json!({"namespace": "n", "name": "o"}),
    ] {
        let (found, losses) = read(PolicyKind::Telemetry, &json!({"metadata": metadata}));
        assert_eq!((found, losses.malformed), (None, 1), "{metadata}");
    }
}

#[test]
fn events_tell_objects_of_any_kind() {
    for kind in PolicyKind::ALL {
        let event = |name: &str| {
            let object = json!({"metadata": {"uid": "u", "namespace": "n", "name": "istio",
                                             "resourceVersion": "7"},
                                "data": {"mesh": "a: 1"}});
            let line = json!({"type": name, "object": object}).to_string();
            let mut losses = Losses::default();
            let resource = Resource::Policy(kind);
            read::event(resource, line.as_bytes(), &options(), &mut losses)
        };
        match event("MODIFIED") {
            Some(Event::Set(Found::Policy(object), version)) => {
                assert_eq!((object.kind, &*version), (kind, "7"));
            }
            other => panic!("{kind:?}: {other:?}"),
        }
        assert_eq!(
            event("DELETED"),
            Some(Event::Removed("u".into(), "7".into()))
        );
    }
}

fn pod_json() -> Value {
    json!({
        "metadata": {
            "uid": "p", "namespace": "shop", "name": "cart-1",
            "labels": {"app": "cart", "pod-template-hash": "abc"},
            "annotations": {"sidecar.istio.io/status": "{\"x\":1}", "team": "a",
                            "linkerd.io/inject": "enabled"},
        },
        "spec": {
            "serviceAccountName": "cart",
            "hostNetwork": true,
            "containers": [
                {"name": "app", "ports": [
                    {"name": "http", "containerPort": 8080}, {"containerPort": 9090},
                    {"name": "admin", "containerPort": 9091}, {"name": "bad", "containerPort": 0},
                ]},
            ],
            "initContainers": [
                {"name": "setup"},
                {"name": "istio-proxy", "restartPolicy": "Always",
                 "ports": [{"name": "http-envoy-prom", "containerPort": 15090}]},
            ],
        },
    })
}

#[test]
fn traits_of_pods_are_read_where_they_are_asked_for() {
    let pod = |options: &Options| {
        let mut losses = Losses::default();
        let json = pod_json().to_string();
        match read::object(Resource::Pods, json.as_bytes(), options, &mut losses) {
            Some(Found::Pod(draft)) => draft.pod.traits,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(*pod(&Options::default()), Traits::default());
    assert_eq!(
        *pod(&options()),
        Traits {
            service_account: "cart".into(),
            labels: list(&[("app", "cart"), ("pod-template-hash", "abc")]),
            annotations: list(&[
                ("linkerd.io/inject", "enabled"),
                ("sidecar.istio.io/status", "{\"x\":1}"),
            ]),
            containers: Box::new(["app".into(), "istio-proxy".into()]),
            ports: Box::new([
                ("admin".into(), 9091),
                ("http".into(), 8080),
                ("http-envoy-prom".into(), 15090),
            ]),
            host_network: true,
        }
    );
}

#[test]
fn facts_of_services_are_read_where_they_are_asked_for() {
    let object = json!({
        "metadata": {"uid": "s", "namespace": "shop", "name": "cart",
                     "labels": {"app": "cart", "istio.io/use-waypoint": "w"},
                     "annotations": {"a": "b", "networking.istio.io/exportTo": "."}},
        "spec": {
            "clusterIP": "None", "selector": {"app": "cart"},
            "ports": [
                {"name": "http", "port": 80, "targetPort": "web", "appProtocol": "kubernetes.io/h2c"},
                {"name": "grpc", "port": 81, "targetPort": 8081, "protocol": "TCP"},
                {"name": "plain", "port": 82},
                {"name": "dns", "port": 53, "protocol": "UDP"},
            ],
        },
    });
    let facts = |options: &Options| {
        let mut losses = Losses::default();
        let json = object.to_string();
        match read::object(Resource::Services, json.as_bytes(), options, &mut losses) {
            Some(Found::Object(object)) => match *object {
                Object::Service(service) => service.facts,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(*facts(&Options::default()), ServiceFacts::default());
    let port = |name: &str, app_protocol: &str, port, target, target_name: &str| PortFacts {
        name: name.into(),
        app_protocol: app_protocol.into(),
        port,
        target,
        target_name: target_name.into(),
    };
    assert_eq!(
        *facts(&options()),
        ServiceFacts {
            uid: "s".into(),
            namespace: "shop".into(),
            name: "cart".into(),
            selector: list(&[("app", "cart")]),
            labels: list(&[("istio.io/use-waypoint", "w")]),
            annotations: list(&[("networking.istio.io/exportTo", ".")]),
            ports: Box::new([
                port("http", "kubernetes.io/h2c", 80, 0, "web"),
                port("grpc", "", 81, 8081, ""),
                port("plain", "", 82, 82, ""),
            ]),
            headless: true,
            external_name: "".into(),
        }
    );
}

/// Any JSON, small.
fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-z\"\\\\\u{1}é/.]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::hash_map("[a-z]{1,4}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn whatever_it_says_is_kept_as_it_is(spec in anything(), conditions in anything()) {
        let object = json!({
            "metadata": {"uid": "u", "namespace": "n", "name": "o"},
            "spec": spec, "status": {"conditions": conditions, "else": 1},
        });
        let content = policy_of(PolicyKind::Gateway, &object).content.clone();
        let content: Value = serde_json::from_str(&content).unwrap();
        let expected = if spec.is_object() { spec } else { Value::Null };
        prop_assert_eq!(&content["spec"], &expected);
        let expected = if conditions.is_array() { conditions } else { Value::Null };
        prop_assert_eq!(&content["status"]["conditions"], &expected);
        prop_assert_eq!(&content["status"]["else"], &Value::Null);
    }
}
