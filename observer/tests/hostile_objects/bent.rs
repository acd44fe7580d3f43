//! Objects of the API by a few picks, bent in ways that no server would, and what is true of them.

use std::net::IpAddr;

use observer::{cluster::read::Resource, model::kubernetes::Pod};
use serde_json::{Value, json};

use super::*;

pub(crate) fn of<T: Copy>(from: &[T], pick: u8) -> T {
    from[usize::from(pick) % from.len()]
}

pub(crate) fn id(pick: u8) -> String {
    format!("{:064x}", pick % 4)
}

/// An object as a server could send it, but for what it says.
pub(crate) fn object(resource: Resource, picks: &[u8; 8]) -> Value {
    let [uid, name, address, other, port, more, owner, flags] = *picks;
    let mut metadata = json!({
        "uid": of(&UIDS, uid), "name": of(&NAMES, name), "namespace": of(&NAMES, more),
        "resourceVersion": "7",
        "labels": {
            "app": "a", "kubernetes.io/service-name": of(&NAMES, other),
            "pod-template-hash": "7d9f", "secret": "hidden",
            "topology.kubernetes.io/zone": "zone-a",
        },
        "annotations": {"team": "t", "password": "hidden"},
        "ownerReferences": [{
            "apiVersion": "apps/v1", "kind": "ReplicaSet", "controller": flags & 1 == 1,
            "name": of(&["shop-7d9f", "web", ""], owner), "uid": of(&UIDS, owner),
        }],
    });
    if flags & 2 == 2 {
        metadata["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    }
    let [address, other] = [of(&ADDRESSES, address), of(&ADDRESSES, other)];
    let port = of(&PORTS, port);
    match resource {
        Resource::Pods => json!({
            "metadata": metadata,
            "spec": {
                "nodeName": of(&["node-0", "node-1", ""], more),
                "hostNetwork": flags & 4 == 4,
                "containers": [{"name": "main", "env": [{"name": "KEY", "value": "hidden"}]}],
            },
            "status": {
                "phase": of(&["Running", "Succeeded", "Pending", "?"], flags >> 4),
                "podIP": address, "podIPs": [{"ip": address}, {"ip": other}],
                "containerStatuses": [
                    {"name": "main", "containerID": format!("containerd://{}", id(port as u8))},
                    {"name": "side", "containerID": of(&["", "containerd://x"], flags)},
                ],
            },
        }),
        Resource::Services => json!({
            "metadata": metadata,
            "spec": {
                "type": of(&["ClusterIP", "ExternalName", "?"], flags),
                "clusterIP": address, "clusterIPs": [address], "externalIPs": [other],
                "externalName": "db.example.org",
                "ports": [{"port": port, "nodePort": 30080, "protocol": "TCP"}, {"port": 80}],
            },
            "status": {"loadBalancer": {"ingress": [{"ip": other}, {"hostname": "lb.test"}]}},
        }),
        Resource::EndpointSlices => json!({
            "metadata": metadata, "addressType": "IPv4",
            "ports": [{"port": port}, {"port": 80, "protocol": "UDP"}],
            "endpoints": [
                {"addresses": [address], "targetRef": {"kind": "Pod", "uid": of(&UIDS, owner)}},
                {"addresses": [other]},
            ],
        }),
        Resource::Nodes => json!({
            "metadata": metadata,
            "spec": {"podCIDRs": ["10.1.0.0/24", of(&["fd00::/64", "::/0", "x/y", "10.1.0.0/-1"], more)]},
            "status": {"addresses": [
                {"type": "InternalIP", "address": address}, {"type": "ExternalIP", "address": other},
                {"type": "Hostname", "address": "10.1.0.5"},
            ]},
        }),
        Resource::Policy(_) => json!({
            "metadata": metadata,
            "spec": {"selector": {"app": "a"}, "rules": [{"port": port}]},
            "status": {"conditions": []},
        }),
        Resource::ReplicaSets | Resource::Jobs => {
            metadata["ownerReferences"][0]["kind"] = json!("Deployment");
            json!({"metadata": metadata})
        }
    }
}

/// Something where it does not belong.
pub(crate) fn junk(pick: u8) -> Value {
    match pick % 16 {
        0 => Value::Null,
        1 => json!([]),
        2 => json!({}),
        3 => json!(-1),
        4 => json!(1e300),
        5 => json!(true),
        6 => json!("x".repeat(10 << 10)),
        7 => json!([[[[[[[[]]]]]]]]),
        8 => (0..3000).map(|number| json!({"name": number.to_string()})).collect(),
        9 => (0..3000).map(|number| (format!("app-{number}"), json!("v"))).collect(),
        10 => (0..3000).map(|number| json!({"ip": format!("10.1.{}.{}", number / 256, number % 256)})).collect(),
        11 => json!("\u{0}\u{202e}\u{1b}[31m"),
        12 => json!(""),
        13 => json!("10.1.0.4"),
        14 => json!([{"ip": "10.1.0.5"}, null, 7, {"ip": {}}]),
        _ => (0..200).map(|number| json!({"name": "main", "containerID": format!("containerd://{}", id(number))})).collect(),
    }
}

/// Puts something else in the place of the `at`th value within `value`.
pub(crate) fn bend(value: &mut Value, at: &mut usize, by: &Value) -> bool {
    if *at == 0 {
        *value = by.clone();
        return true;
    }
    *at -= 1;
    match value {
        Value::Array(list) => list.iter_mut().take(8).any(|inner| bend(inner, at, by)),
        Value::Object(map) => map.values_mut().take(16).any(|inner| bend(inner, at, by)),
        _ => false,
    }
}

pub(crate) fn parsed(value: &Value) -> Option<IpAddr> {
    let address: IpAddr = value.as_str()?.parse().ok()?;
    Some(address.to_canonical())
}

pub(crate) fn list<'v>(value: &'v Value, pointer: &str) -> impl Iterator<Item = &'v Value> {
    value
        .pointer(pointer)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

pub(crate) fn is(value: &Value, pointer: &str, text: &str) -> bool {
    value.pointer(pointer).and_then(Value::as_str) == Some(text)
}

pub(crate) fn is_pod(value: &Value, pod: &Pod) -> bool {
    is(value, "/metadata/uid", &pod.uid)
        && is(value, "/metadata/namespace", &pod.namespace)
        && is(value, "/metadata/name", &pod.name)
}

pub(crate) fn has_ip(pod: &Value, address: IpAddr) -> bool {
    let ips = list(pod, "/status/podIPs").filter_map(|entry| parsed(&entry["ip"]));
    ips.chain(parsed(&pod["status"]["podIP"]))
        .any(|ip| ip == address)
}

pub(crate) fn has_endpoint(slice: &Value, address: IpAddr, uid: Option<&str>) -> bool {
    list(slice, "/endpoints").any(|endpoint| {
        parsed(&endpoint["addresses"][0]) == Some(address)
            && uid.is_none_or(|uid| is(endpoint, "/targetRef/uid", uid))
    })
}
