//! What runs in the cluster of a rollout: a Job's pod that calls, and a Deployment's that answers.

use anyhow::{Context, Result};
use observer_tests::control_plane::ControlPlane;
use serde_json::{Value, json};

use super::objects::at;

/// The only node.
pub(crate) const NODE: &str = "node-1";

/// Uids of containers, which the test makes itself.
pub(crate) const CALLER: &str = "1111111111111111111111111111111111111111111111111111111111111111";
pub(crate) const CALLEE: &str = "2222222222222222222222222222222222222222222222222222222222222222";

/// An owner, as a pod names it.
fn owner(version: &str, object: &Value) -> Value {
    json!([{
        "apiVersion": version, "kind": object["kind"], "name": at(object, "/metadata/name"),
        "uid": at(object, "/metadata/uid"), "controller": true,
    }])
}

/// A pod template of the rollout's callers and callees.
fn template(app: &str) -> Value {
    json!({
        "metadata": { "labels": { "app": app } },
        "spec": { "containers": [{ "name": "app", "image": "none" }], "restartPolicy": "Never" },
    })
}

/// Makes a Job's pod that calls, and a Deployment's pod behind a Service that answers; the uids
/// of both.
pub(crate) fn create(cluster: &ControlPlane) -> Result<(String, String)> {
    cluster.kubectl(&["create", "serviceaccount", "default"])?;
    let make = |object: Value| -> Result<Value> {
        let text = cluster.with_objects(&["create", "--output=json"], &[object])?;
        let made: Value = serde_json::from_str(&text)?;
        Ok(match at(&made, "/items/0") {
            Value::Null => made,
            first => first.clone(),
        })
    };
    let status = |kind: &str, name: &str, status: Value| -> Result<()> {
        let patch = json!({ "status": status }).to_string();
        let patch = [
            "patch",
            kind,
            name,
            "--subresource=status",
            "--type=merge",
            "--patch",
            &patch,
        ];
        cluster.kubectl(&patch).map(drop)
    };
    make(json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": NODE } }))?;
    let address = json!([{ "type": "InternalIP", "address": "10.79.0.1" }]);
    status("node", NODE, json!({ "addresses": address }))?;
    let selector = json!({ "matchLabels": { "app": "shop" } });
    let deployment = make(json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "shop" },
        "spec": { "selector": selector, "template": {
            "metadata": { "labels": { "app": "shop" } },
            "spec": { "containers": [{ "name": "app", "image": "none" }] },
        } },
    }))?;
    let set = make(json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {
            "name": "shop-5d8", "ownerReferences": owner("apps/v1", &deployment),
        },
        "spec": { "selector": selector, "template": {
            "metadata": { "labels": { "app": "shop" } },
            "spec": { "containers": [{ "name": "app", "image": "none" }] },
        } },
    }))?;
    let schedule = make(json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": { "name": "nightly" },
        "spec": { "schedule": "0 0 * * *", "jobTemplate": { "spec": {
            "template": template("nightly"),
        } } },
    }))?;
    let job = make(json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": { "name": "nightly-1", "ownerReferences": owner("batch/v1", &schedule) },
        "spec": { "template": template("nightly") },
    }))?;
    let mut uids = Vec::new();
    for (name, app, owner, address, id) in [
        (
            "nightly-1-x",
            "nightly",
            owner("batch/v1", &job),
            "10.79.0.10",
            CALLER,
        ),
        (
            "shop-5d8-y",
            "shop",
            owner("apps/v1", &set),
            "10.79.0.11",
            CALLEE,
        ),
    ] {
        let pod = make(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": name, "labels": { "app": app }, "ownerReferences": owner },
            "spec": {
                "nodeName": NODE, "automountServiceAccountToken": false,
                "containers": [{ "name": "app", "image": "none" }],
            },
        }))?;
        status(
            "pod",
            name,
            json!({
                "phase": "Running", "hostIP": "10.79.0.1", "podIP": address,
                "podIPs": [{ "ip": address }],
                "containerStatuses": [{
                    "name": "app", "image": "none", "imageID": "", "ready": true,
                    "restartCount": 0, "containerID": format!("containerd://{id}"),
                    "state": { "running": {} },
                }],
            }),
        )?;
        uids.push(
            at(&pod, "/metadata/uid")
                .as_str()
                .context("uid")?
                .to_owned(),
        );
    }
    make(json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "shop" },
        "spec": {
            "clusterIP": "10.96.0.10", "selector": { "app": "shop" },
            "ports": [{ "port": 80, "targetPort": 8080 }],
        },
    }))?;
    make(json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": "shop-z", "labels": { "kubernetes.io/service-name": "shop" },
        },
        "addressType": "IPv4", "ports": [{ "port": 8080, "protocol": "TCP", "name": "" }],
        "endpoints": [{
            "addresses": ["10.79.0.11"], "conditions": { "ready": true }, "nodeName": NODE,
            "targetRef": { "kind": "Pod", "name": "shop-5d8-y", "namespace": "default", "uid": uids[1] },
        }],
    }))?;
    let [caller, callee] = <[String; 2]>::try_from(uids).ok().context("two pods")?;
    Ok((caller, callee))
}
