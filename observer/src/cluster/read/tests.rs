//! What is read of objects, and of anything else that may come.

use k8s_openapi::api::{
    core::v1 as core,
    discovery::v1::{self as discovery, EndpointSlice},
};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    cluster::object::{ContainerObject, EndpointsObject, PodObject, ServiceObject, ServicePort},
    model::kubernetes::{Owner, ServiceName},
};

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn options() -> Options {
    Options {
        labels: vec![Pattern::new("team"), Pattern::new("app.kubernetes.io/*")],
        annotations: vec![Pattern::new("example.com/owner")],
        service_from_labels: true,
        traits: false,
    }
}

fn read(resource: Resource, json: &Value) -> (Option<Found>, Losses) {
    let mut losses = Losses::default();
    let found = object(
        resource,
        json.to_string().as_bytes(),
        &options(),
        &mut losses,
    );
    (found, losses)
}

fn draft(json: &Value) -> Draft {
    match read(Resource::Pods, json) {
        (Some(Found::Pod(draft)), _) => *draft,
        other => panic!("{other:?}"),
    }
}

/// A pod as an API server sends it, and what a Deployment's has.
fn skeleton() -> Value {
    let other = ID.replace('0', "f");
    let json = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "shop-5d8f-abcde", "namespace": "eu", "uid": "6a1b",
            "resourceVersion": "42", "generateName": "shop-5d8f-",
            "labels": {"pod-template-hash": "5d8f", "team": "cart", "other": "x"},
            "annotations": {"example.com/owner": "me", "secret": "s"},
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "Other", "name": "o", "uid": "no"},
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "shop-5d8f",
                 "uid": "rs1", "controller": true, "blockOwnerDeletion": true}],
            "managedFields": [{"manager": "kubelet", "operation": "Update", "fieldsV1": {"f:a": {}}}]
        },
        "spec": {
            "nodeName": "n1",
            "initContainers": [{"name": "setup", "image": "registry:5000/setup"}],
            "containers": [
                {"name": "shop", "image": "registry:5000/shop:1.2@sha256:aa",
                 "env": [
                    {"name": "PASSWORD", "value": "hunter2"},
                    {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    {"name": "OTEL_RESOURCE_ATTRIBUTES",
                     "value": "service.namespace=sh%20op,k8s.pod.name=$(POD),service.version=$(NONE)"},
                    {"name": "OTEL_SERVICE_NAME",
                     "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['team']"}}}]},
                {"name": "proxy", "image": "envoy"}]
        },
        "status": {
            "phase": "Running", "podIP": "10.1.0.7",
            "podIPs": [{"ip": "10.1.0.7"}, {"ip": "fd00::7"}],
            "startTime": "2026-01-02T03:04:05Z",
            "containerStatuses": [
                {"name": "shop", "ready": true, "restartCount": 1, "image": "i", "imageID": "i",
                 "containerID": format!("containerd://{ID}"),
                 "state": {"running": {"startedAt": "2026-01-02T03:04:06Z"}},
                 "lastState": {"terminated": {"exitCode": 1, "containerID": format!("containerd://{other}")}}},
                {"name": "proxy", "ready": false, "restartCount": 0, "image": "i", "imageID": "",
                 "state": {"waiting": {"reason": "ContainerCreating"}}, "lastState": {}}],
            "initContainerStatuses": [
                {"name": "setup", "ready": true, "restartCount": 0, "image": "i", "imageID": "i",
                 "containerID": format!("cri-o://{other}"),
                 "state": {"terminated": {"exitCode": 0, "containerID": format!("cri-o://{other}"),
                           "finishedAt": "2026-01-02T03:04:05Z"}}}]
        }
    });
    // The names of fields are those of the API: what its types do not know, they would drop.
    let typed: core::Pod = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(
        serde_json::to_value(typed).unwrap()["status"],
        json["status"]
    );
    json
}

#[test]
fn a_pod() {
    let found = draft(&skeleton());
    let other: Box<str> = ID.replace('0', "f").into();
    let texts = |pairs: &[(&str, &str)]| -> Vec<(Box<str>, Box<str>)> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect()
    };
    let expected = PodObject {
        uid: "6a1b".into(),
        namespace: "eu".into(),
        name: "shop-5d8f-abcde".into(),
        node: "n1".into(),
        addresses: vec!["10.1.0.7".parse().unwrap(), "fd00::7".parse().unwrap()],
        service: ServiceName {
            namespace: "eu".into(),
            ..ServiceName::default()
        },
        containers: vec![
            ContainerObject {
                name: "shop".into(),
                ids: vec![ID.into(), other.clone()],
                service: ServiceName {
                    name: "cart".into(),
                    namespace: "sh op".into(),
                    version: "1.2@sha256:aa".into(),
                },
            },
            ContainerObject {
                name: "setup".into(),
                ids: vec![other],
                service: ServiceName::default(),
            },
        ],
        labels: texts(&[("team", "cart")]),
        annotations: texts(&[("example.com/owner", "me")]),
        started: 1_767_323_045_000_000_000,
        ..PodObject::default()
    };
    assert_eq!(found.pod, expected);
    let owner = |kind: &str, name: &str| Owner {
        kind: kind.into(),
        name: name.into(),
    };
    assert_eq!(
        found.controller,
        Some(Controller {
            owner: owner("ReplicaSet", "shop-5d8f"),
            uid: "rs1".into(),
            resource: Some(Resource::ReplicaSets),
            above: Some(owner("Deployment", "shop")),
        })
    );
    assert!(!format!("{found:?}").contains("hunter2"));
    let pod = found.finish(vec![
        owner("ReplicaSet", "shop-5d8f"),
        owner("Deployment", "shop"),
    ]);
    assert_eq!(&*pod.service.name, "shop");
}

#[test]
fn what_names_the_service() {
    let mut json = skeleton();
    let service = |json: &Value| draft(json).finish(Vec::new()).service;
    assert_eq!(&*service(&json).name, "shop-5d8f-abcde");
    json["metadata"]["labels"]["app.kubernetes.io/name"] = json!("name");
    assert_eq!(&*service(&json).name, "name");
    json["metadata"]["labels"]["app.kubernetes.io/instance"] = json!("instance");
    json["metadata"]["labels"]["app.kubernetes.io/version"] = json!("7");
    assert_eq!(
        (&*service(&json).name, &*service(&json).version),
        ("instance", "7")
    );
    // The pod's version stands before the image's.
    assert_eq!(&*draft(&json).pod.containers[0].service.version, "");
    json["metadata"]["annotations"] = json!({
        "resource.opentelemetry.io/service.name": "annotated",
        "resource.opentelemetry.io/service.namespace": "ours",
        "resource.opentelemetry.io/service.version": "8",
    });
    let named = service(&json);
    assert_eq!(
        (&*named.name, &*named.namespace, &*named.version),
        ("annotated", "ours", "8")
    );
    // What cannot be shown is not taken.
    json["metadata"]["annotations"]["resource.opentelemetry.io/service.name"] = json!("a\nb");
    assert_eq!(&*service(&json).name, "instance");
    let mut losses = Losses::default();
    let options = Options {
        service_from_labels: false,
        ..options()
    };
    let bytes = json.to_string();
    let Some(Found::Pod(draft)) = object(Resource::Pods, bytes.as_bytes(), &options, &mut losses)
    else {
        panic!("no pod");
    };
    assert_eq!(&*draft.pod.service.name, "");
    assert_eq!(losses.values, 1);
}

#[test]
fn versions_of_images() {
    let mut json = skeleton();
    json["spec"]["containers"][0]["env"] = json!(null);
    for (image, version) in [
        ("nginx", ""),
        ("nginx:1.27", "1.27"),
        ("registry:5000/a/nginx", ""),
        ("registry:5000/a/nginx:v2", "v2"),
        ("nginx@sha256:ab", "sha256:ab"),
        ("nginx:1@sha256:ab", "1@sha256:ab"),
        ("", ""),
        (":", ""),
        ("@", ""),
    ] {
        json["spec"]["containers"][0]["image"] = json!(image);
        assert_eq!(
            &*draft(&json).pod.containers[0].service.version,
            version,
            "{image}"
        );
    }
}

#[test]
fn variables_that_refer_to_others() {
    let mut json = skeleton();
    for (env, name) in [
        (json!([{"name": "OTEL_SERVICE_NAME", "value": "a"}]), "a"),
        // The last one counts.
        (
            json!([{"name": "OTEL_SERVICE_NAME", "value": "a"}, {"name": "OTEL_SERVICE_NAME", "value": "b"}]),
            "b",
        ),
        (
            json!([{"name": "X", "value": "x"}, {"name": "OTEL_SERVICE_NAME", "value": "$(X)-y"}]),
            "x-y",
        ),
        // A reference to what comes later, or nowhere, or is a secret, is not known.
        (
            json!([{"name": "OTEL_SERVICE_NAME", "value": "$(X)-y"}, {"name": "X", "value": "x"}]),
            "",
        ),
        (
            json!([{"name": "X", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}, {"name": "OTEL_SERVICE_NAME", "value": "$(X)"}]),
            "",
        ),
        (
            json!([{"name": "OTEL_SERVICE_NAME", "valueFrom": {"configMapKeyRef": {"name": "s", "key": "k"}}}]),
            "",
        ),
        (
            json!([{"name": "OTEL_SERVICE_NAME", "value": "$$(X)"}]),
            "$(X)",
        ),
        (json!([{"name": "OTEL_SERVICE_NAME", "value": "a$"}]), "a$"),
        (
            json!([{"name": "OTEL_SERVICE_NAME", "value": "a$(b"}]),
            "a$(b",
        ),
        // A list that is malformed in part counts for nothing.
        (
            json!([{"name": "OTEL_RESOURCE_ATTRIBUTES", "value": "service.name=a,b"}]),
            "",
        ),
        (
            json!([{"name": "OTEL_RESOURCE_ATTRIBUTES", "value": "service.name=a%2Fb"}]),
            "a/b",
        ),
        (json!("strange"), ""),
    ] {
        json["spec"]["containers"][0]["env"] = env.clone();
        assert_eq!(&*draft(&json).pod.containers[0].service.name, name, "{env}");
    }
}

#[test]
fn static_pods() {
    let mut json = skeleton();
    json["metadata"]["annotations"]["kubernetes.io/config.mirror"] = json!("8f3c");
    json["metadata"]["annotations"]["kubernetes.io/config.hash"] = json!("other");
    json["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "u", "controller": true}]);
    let found = draft(&json);
    assert_eq!((&*found.pod.cgroup_uid, found.controller), ("8f3c", None));
    json["metadata"]["annotations"] = json!({"kubernetes.io/config.hash": "6a1b"});
    assert_eq!(&*draft(&json).pod.cgroup_uid, "");
}

#[test]
fn controllers_of_pods() {
    let mut json = skeleton();
    let mut check = |reference: Value, labels: Value, resource: Option<Resource>, above: &str| {
        json["metadata"]["ownerReferences"] = json!([reference]);
        json["metadata"]["labels"] = labels;
        let controller = draft(&json).controller.unwrap();
        let found = controller
            .above
            .map(|owner| format!("{}/{}", owner.kind, owner.name));
        assert_eq!(controller.resource, resource, "{reference}");
        assert_eq!(found.unwrap_or_default(), above, "{reference}");
    };
    let reference = |api: &str, kind: &str, name: &str| json!({"apiVersion": api, "kind": kind, "name": name, "uid": "u", "controller": true});
    let sets = Some(Resource::ReplicaSets);
    let set = reference("apps/v1", "ReplicaSet", "a-b-c1");
    check(
        set.clone(),
        json!({"pod-template-hash": "c1"}),
        sets,
        "Deployment/a-b",
    );
    check(
        set.clone(),
        json!({"rollouts-pod-template-hash": "c1"}),
        sets,
        "Rollout/a-b",
    );
    // What is not the end of the name tells nothing.
    check(set.clone(), json!({"pod-template-hash": "1"}), sets, "");
    check(set.clone(), json!({"pod-template-hash": ""}), sets, "");
    check(
        set.clone(),
        json!({"pod-template-hash": "a-b-c1"}),
        sets,
        "",
    );
    check(set, json!({}), sets, "");
    check(
        reference("batch/v1", "Job", "j-1"),
        json!({}),
        Some(Resource::Jobs),
        "",
    );
    check(
        reference("apps/v1", "StatefulSet", "s"),
        json!({}),
        None,
        "",
    );
    // Others may call theirs alike.
    check(
        reference("example.com/v1", "ReplicaSet", "a-c1"),
        json!({"pod-template-hash": "c1"}),
        None,
        "",
    );
    check(
        reference("appsy/v1", "ReplicaSet", "a"),
        json!({}),
        None,
        "",
    );
}

#[test]
fn pods_that_end() {
    let mut json = skeleton();
    let done = json!({"terminated": {"exitCode": 0, "finishedAt": "2026-01-02T03:04:09Z"}});
    json["status"]["containerStatuses"][0]["state"] = done.clone();
    json["status"]["phase"] = json!("Failed");
    let pod = draft(&json).pod;
    assert_eq!((pod.finished, pod.ended), (true, 0), "one of them waits");
    json["status"]["containerStatuses"][1]["state"] = done;
    assert_eq!(draft(&json).pod.ended, 1_767_323_049_000_000_000);
    // They may be started again.
    json["status"]["phase"] = json!("Running");
    assert_eq!(draft(&json).pod.ended, 0);
    json["metadata"]["deletionTimestamp"] = json!("2026-01-02T03:05:09Z");
    let pod = draft(&json).pod;
    assert_eq!(
        (pod.terminating, pod.ended),
        (true, 1_767_323_049_000_000_000)
    );
    json["status"]["containerStatuses"][0]["state"]["terminated"]["finishedAt"] = json!(null);
    assert_eq!(draft(&json).pod.ended, 0);
}

fn kept_service(found: Option<Found>) -> ServiceObject {
    match found {
        Some(Found::Object(object)) => match *object {
            Object::Service(service) => service,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[test]
fn services() {
    let json = json!({
        "metadata": {"name": "web", "namespace": "eu", "uid": "s1"},
        "spec": {
            "type": "LoadBalancer", "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7", "fd01::7"],
            "externalIPs": ["192.0.2.1", "not one"], "externalName": "ignored.example",
            "ports": [
                {"port": 80, "protocol": "TCP", "nodePort": 30080, "targetPort": "http"},
                {"port": 53, "protocol": "UDP", "targetPort": 53},
                {"port": 9, "protocol": "DCCP"}, {"port": 70000}, "strange"]
        },
        "status": {"loadBalancer": {"ingress": [{"ip": "::ffff:198.51.100.1"}, {"hostname": "LB.Example.COM."}]}}
    });
    let (found, losses) = read(Resource::Services, &json);
    let address = |text: &str| text.parse().unwrap();
    let port = |protocol, port, node_port| ServicePort {
        protocol,
        port,
        node_port,
    };
    let expected = ServiceObject {
        uid: "s1".into(),
        namespace: "eu".into(),
        name: "web".into(),
        cluster_ips: vec![address("10.96.0.7"), address("fd01::7")],
        external_ips: vec![address("192.0.2.1")],
        balancer_ips: vec![address("198.51.100.1")],
        balancer_names: vec!["lb.example.com".into()],
        ports: vec![port(6, 80, 30080), port(17, 53, 0)],
        ..ServiceObject::default()
    };
    assert_eq!(
        found,
        Some(Found::Object(Box::new(Object::Service(expected))))
    );
    assert_eq!(losses.addresses, 1);
    let json = json!({
        "metadata": {"name": "web", "namespace": "eu", "uid": "s1"},
        "spec": {"clusterIP": "None", "clusterIPs": ["None"]}
    });
    let (found, losses) = read(Resource::Services, &json);
    let service = kept_service(found);
    assert!(service.headless && service.cluster_ips.is_empty() && losses == Losses::default());
    let json = json!({
        "metadata": {"name": "db", "namespace": "eu", "uid": "s1"},
        "spec": {"type": "ExternalName", "externalName": "DB.example.com."}
    });
    let (found, _) = read(Resource::Services, &json);
    let service = kept_service(found);
    assert_eq!(
        (&*service.external_name, service.headless),
        ("db.example.com", false)
    );
    // The names of fields are those of the API.
    let typed: core::Service = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(serde_json::to_value(typed).unwrap()["spec"], json["spec"]);
}

#[test]
fn endpoint_slices() {
    let mut json = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "web-1", "namespace": "eu", "uid": "e1",
                     "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}, {"name": "any"}],
        "endpoints": [
            {"addresses": ["10.1.0.7"], "targetRef": {"kind": "Pod", "name": "p", "uid": "6a1b"}},
            {"addresses": ["192.0.2.9"], "targetRef": {"kind": "Node", "uid": "n"}},
            {"addresses": ["bad"]}, {"addresses": []}]
    });
    let typed: EndpointSlice = serde_json::from_value(json.clone()).unwrap();
    let typed: Vec<discovery::Endpoint> = typed.endpoints;
    assert_eq!(typed.len(), 4);
    let (found, losses) = read(Resource::EndpointSlices, &json);
    let expected = EndpointsObject {
        uid: "e1".into(),
        namespace: "eu".into(),
        service: "web".into(),
        ports: vec![(6, 8080)],
        endpoints: [("10.1.0.7", "6a1b"), ("192.0.2.9", "")]
            .map(|(address, pod)| crate::cluster::object::Endpoint {
                address: address.parse().unwrap(),
                pod_uid: pod.into(),
            })
            .into(),
    };
    assert_eq!(
        found,
        Some(Found::Object(Box::new(Object::Endpoints(expected))))
    );
    assert_eq!(losses.addresses, 1);
    json["metadata"]["labels"] = json!({});
    assert_eq!(
        read(Resource::EndpointSlices, &json).0,
        Some(Found::Unwanted("e1".into()))
    );
}

#[test]
fn nodes() {
    let mut json = json!({
        "metadata": {"name": "n1", "uid": "u1", "labels": {
            "topology.kubernetes.io/zone": "z1", "topology.kubernetes.io/region": "r1"}},
        "spec": {"podCIDR": "10.1.0.0/24", "podCIDRs": ["10.1.0.0/24", "fd02::/64"]},
        "status": {"addresses": [
            {"type": "InternalIP", "address": "192.0.2.7"}, {"type": "Hostname", "address": "n1"},
            {"type": "ExternalIP", "address": "2001:db8::7"}]}
    });
    let typed: core::Node = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(serde_json::to_value(typed).unwrap()["spec"], json["spec"]);
    let node = |json: &Value| match read(Resource::Nodes, json) {
        (Some(Found::Object(object)), losses) => match *object {
            Object::Node(node) => (node, losses),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    let (found, losses) = node(&json);
    let addresses = ["192.0.2.7", "2001:db8::7"].map(|text| text.parse().unwrap());
    assert_eq!(
        (found.addresses, losses),
        (addresses.into(), Losses::default())
    );
    let networks = [("10.1.0.0", 24), ("fd02::", 64)];
    assert_eq!(
        found.pod_networks,
        networks.map(|(first, length)| (first.parse().unwrap(), length))
    );
    assert_eq!((&*found.zone, &*found.region), ("z1", "r1"));
    json["spec"]["podCIDRs"] = json!(["10.0.0.0/33", "x", "10.0.0.0", "::ffff:10.0.0.0/104"]);
    let (found, losses) = node(&json);
    assert_eq!(found.pod_networks, [("10.0.0.0".parse().unwrap(), 8)]);
    assert_eq!(losses.addresses, 3);
}

#[test]
fn events_of_watches() {
    let mut losses = Losses::default();
    let mut read = |line: &str| event(Resource::Pods, line.as_bytes(), &options(), &mut losses);
    let pod = skeleton();
    let line = |kind: &str, object: &Value| json!({"type": kind, "object": object}).to_string();
    let Some(Event::Set(Found::Pod(found), version)) = read(&line("MODIFIED", &pod)) else {
        panic!("no pod");
    };
    assert_eq!((*found, &*version), (draft(&pod), "42"));
    assert_eq!(
        read(&line("DELETED", &pod)),
        Some(Event::Removed("6a1b".into(), "42".into()))
    );
    let mark =
        json!({"kind": "Pod", "metadata": {"resourceVersion": "50", "creationTimestamp": null}});
    assert_eq!(
        read(&line("BOOKMARK", &mark)),
        Some(Event::Bookmark("50".into(), false))
    );
    let mark = json!({"metadata": {"resourceVersion": "50", "annotations": {"k8s.io/initial-events-end": "true"}}});
    assert_eq!(
        read(&line("BOOKMARK", &mark)),
        Some(Event::Bookmark("50".into(), true))
    );
    let status = json!({"kind": "Status", "status": "Failure", "reason": "Expired", "code": 410, "message": "too old"});
    assert_eq!(
        read(&line("ERROR", &status)),
        Some(Event::Failed(Status {
            code: 410,
            reason: "Expired".into(),
            message: "too old".into()
        }))
    );
    let nameless = json!({"metadata": {"uid": "u", "resourceVersion": "51"}});
    assert_eq!(
        read(&line("ADDED", &nameless)),
        Some(Event::Malformed("51".into()))
    );
    assert_eq!(read(&line("WHAT", &pod)), None);
    assert_eq!(read("{\"type\":\"ADDED\",\"object\":{"), None);
    assert_eq!(read("not found"), None);
    assert_eq!(losses.malformed, 1);
}

#[test]
fn what_is_too_much_is_cut_and_counted() {
    let mut json = skeleton();
    let labels = json["metadata"]["labels"].as_object_mut().unwrap();
    for number in 0..20_000 {
        labels.insert(format!("app.kubernetes.io/x{number:05}"), json!("v"));
    }
    labels.insert("app.kubernetes.io/long".into(), json!("x".repeat(10_000)));
    let containers: Vec<Value> = (0..2_000)
        .map(|number| json!({"name": format!("c{number}"), "containerID": format!("cri-o://{ID}")}))
        .collect();
    json["status"]["containerStatuses"] = json!(containers);
    json["status"]["podIPs"] = json!(
        (0..500)
            .map(|n| json!({"ip": format!("10.0.{}.{}", n / 250, n % 250)}))
            .collect::<Vec<_>>()
    );
    let (found, losses) = read(Resource::Pods, &json);
    let Some(Found::Pod(draft)) = found else {
        panic!("no pod")
    };
    assert_eq!(
        (
            draft.pod.labels.len(),
            draft.pod.containers.len(),
            draft.pod.addresses.len()
        ),
        (64, 128, 64)
    );
    assert!(losses.values >= 1 && losses.elements > 20_000, "{losses:?}");
    json["metadata"]["name"] = json!("x".repeat(254));
    let (found, losses) = read(Resource::Pods, &json);
    assert_eq!((found, losses.malformed), (None, 1));
    // An id that is none is no id.
    let mut json = skeleton();
    json["status"]["containerStatuses"][0]["containerID"] = json!("docker://xyz");
    let (found, losses) = read(Resource::Pods, &json);
    let Some(Found::Pod(draft)) = found else {
        panic!("no pod")
    };
    assert_eq!(
        (draft.pod.containers[0].ids.len(), losses.container_ids),
        (1, 1)
    );
}

#[test]
fn patterns() {
    for (pattern, name, expected) in [
        ("team", "team", true),
        ("team", "teams", false),
        ("*", "", true),
        ("*", "anything", true),
        ("a*", "abc", true),
        ("a*", "ba", false),
        ("*c", "abc", true),
        ("*c", "abcd", false),
        ("a*b*c", "a-b-b-c", true),
        ("a*b*c", "a-c-b", false),
        ("a*a", "a", false),
        ("ab*ba", "aba", false),
        ("a**b", "ab", true),
        ("", "", true),
        ("", "a", false),
    ] {
        assert_eq!(
            Pattern::new(pattern).matches(name),
            expected,
            "{pattern} {name}"
        );
    }
}

fn paged(bytes: &[u8], size: usize) -> (Vec<Vec<u8>>, Option<Page>, Losses) {
    let (mut items, mut losses, mut list) = (Vec::new(), Losses::default(), ListReader::default());
    for piece in bytes.chunks(size.max(1)) {
        list.push(piece, &mut losses, |item, _| items.push(item.to_vec()));
    }
    (items, list.finish(), losses)
}

#[test]
fn lists_are_read_item_by_item() {
    let items = vec![
        skeleton(),
        json!({"a": "]},{\\\"["}),
        json!({"items": [1, [2]]}),
        json!(7),
    ];
    let list = json!({
        "kind": "PodList", "metadata": {"resourceVersion": "9", "continue": "next=="}, "items": items,
        "x": {"items": [1]}
    });
    for text in [
        list.to_string(),
        serde_json::to_string_pretty(&list).unwrap(),
    ] {
        for size in [1, 7, 100_000] {
            let (found, page, _) = paged(text.as_bytes(), size);
            let found: Vec<Value> = found
                .iter()
                .map(|item| serde_json::from_slice(item).unwrap())
                .collect();
            assert_eq!(found, items);
            assert_eq!(
                page,
                Some(Page {
                    version: "9".into(),
                    next: "next==".into()
                })
            );
        }
        for end in 0..text.len() - 1 {
            assert_eq!(paged(&text.as_bytes()[..end], 1000).1, None, "{end}");
        }
    }
    let empty = |text: &str| paged(text.as_bytes(), 3);
    for text in [
        r#"{"items":[],"metadata":{"resourceVersion":"9"}}"#,
        r#"{"metadata":{"resourceVersion":"9"},"items":null}"#,
    ] {
        let (found, page, _) = empty(text);
        assert_eq!((found.len(), page.unwrap().version), (0, "9".into()));
    }
    for text in ["", "}", "[]", "nonsense", "{\"items\":[}"] {
        assert!(
            empty(text).1.is_none_or(|page| page == Page::default()),
            "{text}"
        );
    }
}

#[test]
fn an_item_that_is_too_long_costs_itself_only() {
    let long = format!(
        r#"{{"metadata":{{"resourceVersion":"9"}},"items":[{{"a":"{}"}},{{"b":1}}]}}"#,
        "x".repeat(MAX_OBJECT)
    );
    let (found, page, losses) = paged(long.as_bytes(), 1 << 16);
    assert_eq!(found, [b"{\"b\":1}"]);
    assert!(page.is_some());
    assert_eq!(losses.too_large, 1);
}

/// Any JSON, with the names and values that mean something among others.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
        Just(json!("10.0.0.1")),
        Just(json!("2026-01-02T03:04:05Z")),
        Just(json!(format!("containerd://{ID}"))),
        "x{0,2000}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec(("[a-z]{0,3}|name|uid|env|ip|items|kind", inner), 0..6)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

/// Puts `value` at a place of a tree that `path` chooses.
fn replaced(tree: &mut Value, path: &[u8], value: Value) {
    let Some((step, rest)) = path.split_first() else {
        *tree = value;
        return;
    };
    let step = usize::from(*step);
    match tree {
        Value::Object(object) if !object.is_empty() => {
            let at = step % object.len();
            if let Some(inner) = object.values_mut().nth(at) {
                replaced(inner, rest, value);
            }
        }
        Value::Array(array) if !array.is_empty() => {
            let at = step % array.len();
            replaced(&mut array[at], rest, value);
        }
        _ => *tree = value,
    }
}

proptest! {
    #[test]
    fn any_object_is_read_or_counted(
        changes in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..6), any_json()), 0..4),
    ) {
        let mut json = skeleton();
        for (path, value) in changes {
            replaced(&mut json, &path, value);
        }
        for resource in Resource::ALL {
            let (found, losses) = read(resource, &json);
            prop_assert_eq!(found.is_none(), losses.malformed == 1);
            if let Some(Found::Pod(draft)) = &found {
                // Who it is, is what it says or nothing.
                prop_assert_eq!(Some(&*draft.pod.uid), json["metadata"]["uid"].as_str());
                prop_assert_eq!(Some(&*draft.pod.name), json["metadata"]["name"].as_str());
                let shown = format!("{draft:?}");
                prop_assert!(!shown.contains("hunter2"));
                for container in &draft.pod.containers {
                    prop_assert!(container.ids.iter().all(|id| id.len() == 64));
                }
            }
            let mut losses = Losses::default();
            let line = json!({"type": "ADDED", "object": json}).to_string();
            let told = event(resource, line.as_bytes(), &options(), &mut losses);
            match told {
                Some(Event::Set(event, _)) => prop_assert_eq!(Some(event), found),
                other => prop_assert!(found.is_none(), "{:?}", other),
            }
        }
    }

    #[test]
    fn any_list_is_read_as_a_parser_of_json_does(
        items in prop::collection::vec(any_json(), 0..5),
        pretty in any::<bool>(),
        size in 1_usize..200,
    ) {
        let list = json!({"metadata": {"resourceVersion": "1"}, "items": items});
        let text = if pretty { serde_json::to_string_pretty(&list) } else { serde_json::to_string(&list) };
        let text = text.unwrap();
        // As read from the same text: numbers are not told exactly.
        let list: Value = serde_json::from_str(&text).unwrap();
        let (found, page, _) = paged(text.as_bytes(), size);
        let found: Vec<Value> = found.iter().map(|item| serde_json::from_slice(item).unwrap()).collect();
        prop_assert_eq!(&found, list["items"].as_array().unwrap());
        prop_assert!(page.is_some());
    }

    #[test]
    fn any_bytes_are_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut losses = Losses::default();
        for resource in Resource::ALL {
            object(resource, &bytes, &options(), &mut losses);
            event(resource, &bytes, &options(), &mut losses);
        }
        status(&bytes);
        paged(&bytes, 7);
    }
}
