//! What the pods may do on their nodes.

use anyhow::{Context, Result, ensure};
use observer_tests::requirement::{Need, lacking};
use serde_json::{Value, json};

use super::objects::{MATRIX, Object, at, each, the, with};

/// All values below `value` under `key`.
fn under<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                if name == key {
                    found.push(value);
                }
                under(value, key, found);
            }
        }
        Value::Array(list) => list.iter().for_each(|value| under(value, key, found)),
        _ => {}
    }
}

#[test]
fn nothing_is_privileged_whatever_the_values() -> Result<()> {
    if lacking(&[Need::Helm])? {
        return Ok(());
    }
    for (what, set) in MATRIX {
        for object in with(set)? {
            for (key, allowed) in [
                ("privileged", &[json!(false)][..]),
                ("allowPrivilegeEscalation", &[json!(false)]),
                ("readOnlyRootFilesystem", &[json!(true)]),
                ("hostIPC", &[]),
                ("drop", &[json!(["ALL"])]),
                (
                    "hostPath",
                    &[json!({ "path": "/sys/fs/cgroup", "type": "Directory" })],
                ),
            ] {
                let mut found = Vec::new();
                under(&object.0, key, &mut found);
                let shown = format!("{what}: {} {}", object.kind(), object.name());
                ensure!(
                    found.iter().all(|value| allowed.contains(value)),
                    "{shown}: {key}: {found:?}"
                );
                let is_said = ["allowPrivilegeEscalation", "readOnlyRootFilesystem", "drop"];
                if object.pod().is_some() && is_said.contains(&key) {
                    ensure!(found.len() == 1, "{shown} does not say {key}");
                }
            }
        }
    }
    Ok(())
}

#[test]
fn the_agent_has_the_capabilities_that_it_uses() -> Result<()> {
    if lacking(&[Need::Helm])? {
        return Ok(());
    }
    let base = ["BPF", "NET_ADMIN", "SYS_PTRACE", "DAC_READ_SEARCH"];
    for (set, more) in [
        (&[][..], &[][..]),
        (&["agent.capabilities.perfmon=true"], &["PERFMON"]),
        (&["agent.capabilities.sysResource=true"], &["SYS_RESOURCE"]),
    ] {
        let objects = with(set)?;
        let pod = the(&objects, "DaemonSet", "-agent")?.pod().context("pod")?;
        let added: Vec<&str> = each(pod, "/spec/containers/0/securityContext/capabilities/add")
            .filter_map(Value::as_str)
            .collect();
        ensure!(added == [&base[..], more].concat(), "{added:?}");
        // What is mounted of the node, of its secrets and of the hub's is not written to.
        for mount in each(pod, "/spec/containers/0/volumeMounts") {
            ensure!(*at(mount, "/readOnly") == true, "{mount}");
        }
        // The hub's key does not go to every node.
        let secret: Vec<_> = each(pod, "/spec/volumes")
            .filter(|volume| volume.get("secret").is_some())
            .flat_map(|volume| each(volume, "/secret/items").map(|item| &item["key"]))
            .collect();
        ensure!(secret == ["ca.crt"], "{secret:?}");
        // A token that is good for the hub alone, and for a short time.
        let token = at(
            pod,
            "/spec/volumes/3/projected/sources/0/serviceAccountToken",
        );
        let wanted =
            json!({ "audience": "observer-hub", "expirationSeconds": 3600, "path": "token" });
        ensure!(*token == wanted, "{token}");
    }
    Ok(())
}

#[test]
fn the_hub_and_the_test_keep_to_the_level_restricted() -> Result<()> {
    if lacking(&[Need::Helm])? {
        return Ok(());
    }
    for (what, set) in MATRIX {
        let objects = with(set)?;
        for object in objects.iter().filter(|object| object.kind() != "DaemonSet") {
            let Some(pod) = object.pod() else { continue };
            let context = at(pod, "/spec/containers/0/securityContext");
            let wanted = json!({
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "runAsNonRoot": true,
                "runAsUser": 65532,
                "runAsGroup": 65532,
                "capabilities": { "drop": ["ALL"] },
                "seccompProfile": { "type": "RuntimeDefault" },
            });
            ensure!(*context == wanted, "{what}: {}: {context}", object.name());
            for key in ["hostNetwork", "hostPID", "hostIPC"] {
                ensure!(at(pod, "/spec").get(key).is_none(), "{what}: {key}");
            }
        }
    }
    Ok(())
}

#[test]
fn agents_are_on_every_node_and_are_replaced_a_few_at_a_time() -> Result<()> {
    if lacking(&[Need::Helm])? {
        return Ok(());
    }
    let objects = with(&[])?;
    let agent = &the(&objects, "DaemonSet", "-agent")?.0;
    ensure!(*at(agent, "/spec/template/spec/tolerations") == json!([{ "operator": "Exists" }]));
    ensure!(*at(agent, "/spec/updateStrategy/rollingUpdate/maxUnavailable") == "10%");
    ensure!(*at(agent, "/spec/template/spec/priorityClassName") == "system-node-critical");
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        let path = format!("/spec/template/spec/containers/0/{probe}/httpGet");
        ensure!(at(agent, &path).get("host").is_none(), "{probe}");
    }
    // On loopback the kubelet is told where, and nothing that could not reach it is made.
    let objects = with(&["agent.http.address=loopback"])?;
    let agent = &the(&objects, "DaemonSet", "-agent")?.0;
    let host = at(
        agent,
        "/spec/template/spec/containers/0/readinessProbe/httpGet/host",
    );
    ensure!(*host == "127.0.0.1", "{host}");
    ensure!(!objects.iter().any(|object| object.kind() == "Pod"));
    ensure!(the(&objects, "Service", "-agent").is_err());
    // A single hub must be movable.
    let objects = with(&["hub.replicas=1"])?;
    ensure!(
        !objects
            .iter()
            .map(Object::kind)
            .any(|kind| kind == "PodDisruptionBudget")
    );
    Ok(())
}
