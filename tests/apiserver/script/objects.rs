//! Objects that both servers take, and objects that neither does.

use anyhow::Result;
use observer_tests::apiserver::client::Client;
use serde_json::{Value, json};

use super::{PODS, SERVICES, SETS, SLICES, Tell, summary, write};

pub(super) fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    })
}

fn slice(name: &str, addresses: &Value) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": "s"}},
        "addressType": "IPv4", "endpoints": [{"addresses": addresses}],
        "ports": [{"port": 80}],
    })
}

pub(super) fn with(mut object: Value, pointer: &str, value: Value) -> Value {
    let (parent, key) = pointer.rsplit_once('/').unwrap_or(("", pointer));
    if let Some(parent) = object.pointer_mut(parent) {
        parent[key] = value;
    }
    object
}

/// Objects that are taken and objects that are not.
pub(super) fn written(admin: &Client, tell: &mut Tell<'_>) -> Result<()> {
    let plain = pod("a");
    for object in [
        plain.clone(),
        plain.clone(),
        pod("A_b"),
        pod(""),
        with(pod("b"), "/kind", json!("Node")),
        with(pod("b"), "/spec", json!({})),
        with(pod("b"), "/spec/containers", json!("x")),
        with(pod("b"), "/metadata/namespace", json!("other")),
        with(pod("b"), "/metadata/labels", json!({"x": "-bad-"})),
        with(
            pod("b"),
            "/metadata/ownerReferences",
            json!([{"kind": "X", "name": "x"}]),
        ),
        with(pod("b"), "/spec/nodeName", json!("Node_1")),
        with(pod("b"), "/spec/containers", json!([{"name": "C"}])),
        with(
            pod("b"),
            "/spec/containers",
            json!([{"name": "c", "image": "i"}, {"name": "c", "image": " "}]),
        ),
        with(
            with(pod("b"), "/spec/nodeName", json!("n1")),
            "/spec/hostNetwork",
            json!(true),
        ),
        with(
            pod("c"),
            "/status",
            json!({"phase": "Running", "podIP": "1.2.3.4"}),
        ),
    ] {
        write(admin, ("POST", PODS), &object, tell)?;
    }
    let elsewhere = "/api/v1/namespaces/none/pods";
    write(admin, ("POST", elsewhere), &plain, tell)?;
    let answer = admin.send_text("POST", PODS, Some("nonsense".to_owned()))?;
    tell("POST nonsense", summary(answer.code, &answer.body));
    for status in [
        json!({"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.2"}]}),
        json!({"phase": "Running", "podIPs": [{"ip": "10.0.0.3"}]}),
        json!({"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}]}),
        json!({
            "phase": "Running", "podIP": "10.0.0.1",
            "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}],
        }),
        json!({"phase": "Running", "podIP": "nonsense"}),
    ] {
        let object = with(plain.clone(), "/status", status);
        write(admin, ("PUT", &format!("{PODS}/a/status")), &object, tell)?;
    }
    let old = with(plain.clone(), "/metadata/resourceVersion", json!("3"));
    write(admin, ("PUT", &format!("{PODS}/a/status")), &old, tell)?;
    write(
        admin,
        ("PUT", &format!("{PODS}/none/status")),
        &pod("none"),
        tell,
    )?;
    write(admin, ("PUT", &format!("{PODS}/none")), &pod("none"), tell)?;
    write(admin, ("PUT", &format!("{PODS}/a")), &pod("z"), tell)?;
    let moved = with(plain.clone(), "/spec/hostNetwork", json!(true));
    write(admin, ("PUT", &format!("{PODS}/a")), &moved, tell)?;
    let labelled = with(plain, "/metadata/labels", json!({"app": "a", "new": "yes"}));
    write(admin, ("PUT", &format!("{PODS}/a")), &labelled, tell)?;
    for addresses in [
        json!(["127.0.0.1"]),
        json!(["10.0.0.1"]),
        json!(["fd00::1"]),
        json!([]),
        json!(["169.254.1.1"]),
        json!(["224.0.0.1"]),
        json!(["0.0.0.0"]),
    ] {
        write(admin, ("POST", SLICES), &slice("s", &addresses), tell)?;
    }
    let empty = slice("t", &json!(["10.0.0.1"]));
    let ports = json!([{"port": 80}, {"port": 81}, {"name": "X", "protocol": "foo"}]);
    for object in [
        with(empty.clone(), "/addressType", json!("")),
        with(empty.clone(), "/ports", ports),
        with(empty.clone(), "/endpoints", json!([])),
    ] {
        write(admin, ("POST", SLICES), &object, tell)?;
    }
    others(admin, tell)
}

/// Services, nodes and controllers.
fn others(admin: &Client, tell: &mut Tell<'_>) -> Result<()> {
    let ports = json!([{"port": 80, "name": "x"}, {"port": 53, "name": "y", "protocol": "UDP"}]);
    for (name, spec) in [
        ("a", json!({"ports": [{"port": 80}]})),
        ("b", json!({})),
        ("c", json!({"clusterIP": "None", "selector": {"a": "b"}})),
        (
            "d",
            json!({"type": "ExternalName", "externalName": "Db.Example.com"}),
        ),
        (
            "d",
            json!({"type": "ExternalName", "externalName": "db.example.com."}),
        ),
        ("e", json!({"type": "NodePort", "ports": ports})),
        (
            "f",
            json!({
                "type": "LoadBalancer", "ports": [{"port": 80}], "externalIPs": ["1.2.3.4"],
            }),
        ),
        (
            "g",
            json!({"ports": [{"port": 80}], "externalIPs": ["127.0.0.1"]}),
        ),
        ("g", json!({"ports": [{"port": 80}, {"port": 81}]})),
        (
            "g",
            json!({"clusterIP": "10.96.0.9", "ports": [{"port": 80}]}),
        ),
        (
            "h",
            json!({"clusterIP": "10.96.0.9", "ports": [{"port": 80}]}),
        ),
        (
            "h",
            json!({"clusterIP": "11.96.0.9", "ports": [{"port": 80}]}),
        ),
        ("1h", json!({"ports": [{"port": 80}]})),
        ("h", json!({"ports": [{"port": 70_000}]})),
    ] {
        let object = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec,
        });
        write(admin, ("POST", SERVICES), &object, tell)?;
    }
    let mut edge = admin.get(&format!("{SERVICES}/f"))?.success()?;
    for ingress in [
        json!([{"ip": "5.6.7.8", "ipMode": "VIP"}, {"hostname": "lb.example.com"}]),
        json!([{"hostname": "LB.example.com"}]),
    ] {
        edge["status"] = json!({"loadBalancer": {"ingress": ingress}});
        if let Some(metadata) = edge["metadata"].as_object_mut() {
            metadata.remove("resourceVersion");
        }
        let answer = admin.send("PUT", &format!("{SERVICES}/f/status"), Some(&edge))?;
        tell(
            &format!("PUT f/status {ingress}"),
            summary(answer.code, &answer.body),
        );
    }
    let moved = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"},
        "spec": {"clusterIP": "10.96.7.7", "ports": [{"port": 80}]},
    });
    write(admin, ("PUT", &format!("{SERVICES}/a")), &moved, tell)?;
    for (name, spec) in [
        ("n1", json!({"podCIDR": "10.1.0.0/24"})),
        ("n2", json!({"podCIDRs": ["10.1.0.0/24", "10.2.0.0/24"]})),
        ("n2", json!({"podCIDRs": ["nonsense"]})),
        ("n3", json!({"podCIDRs": ["10.3.0.0/24", "fd00::/64"]})),
    ] {
        let object = json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": spec,
        });
        write(admin, ("POST", "/api/v1/nodes"), &object, tell)?;
    }
    let address = json!({"type": "InternalIP", "address": "10.9.0.1"});
    let node = json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"},
        "status": {"addresses": [address, address]},
    });
    write(admin, ("PUT", "/api/v1/nodes/n1/status"), &node, tell)?;
    let set = json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "r"},
        "spec": {
            "replicas": 0, "selector": {"matchLabels": {"a": "b"}},
            "template": {
                "metadata": {"labels": {"a": "b"}},
                "spec": {"containers": [{"name": "c", "image": "i"}]},
            },
        },
    });
    for object in [
        with(
            set.clone(),
            "/spec/template/metadata/labels",
            json!({"a": "c"}),
        ),
        with(set.clone(), "/spec", json!({})),
        set,
    ] {
        write(admin, ("POST", SETS), &object, tell)?;
    }
    let job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"},
        "spec": {"template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}},
    });
    write(
        admin,
        ("POST", "/apis/batch/v1/namespaces/default/jobs"),
        &job,
        tell,
    )?;
    let namespace = json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "Shop"},
    });
    write(admin, ("POST", "/api/v1/namespaces"), &namespace, tell)?;
    write(
        admin,
        ("POST", "/api/v1/namespaces"),
        &with(namespace, "/metadata/name", json!("shop")),
        tell,
    )?;
    Ok(())
}
