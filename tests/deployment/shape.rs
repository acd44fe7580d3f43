//! Every object is one that Kubernetes knows, with no field that it does not, and names in one
//! object are those of another.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::{
    apps::v1::{DaemonSet, Deployment},
    core::v1::{ConfigMap, Namespace, Pod, ResourceQuota, Secret, Service, ServiceAccount},
    networking::v1::NetworkPolicy,
    policy::v1::PodDisruptionBudget,
    rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding},
};
use observer_tests::{
    chart::{self, Rendering},
    process,
    requirement::{Need, lacking},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::objects::{MATRIX, Object, at, each, of, the, with};

/// `value` is a `T` and nothing else: what `T` does not know would be missing afterwards.
fn strict<T: DeserializeOwned + Serialize>(value: &Value) -> Result<()> {
    let read: T = serde_json::from_value(value.clone())?;
    let written = serde_json::to_value(read)?;
    match difference(value, &written, String::new()) {
        Some(path) => bail!("{path} is not a field, or has another form"),
        None => Ok(()),
    }
}

/// Where `found` differs from `wanted`.
fn difference(wanted: &Value, found: &Value, path: String) -> Option<String> {
    match (wanted, found) {
        (Value::Object(wanted), Value::Object(found)) => wanted.iter().find_map(|(key, value)| {
            let path = format!("{path}/{key}");
            match found.get(key) {
                Some(found) => difference(value, found, path),
                None => Some(path),
            }
        }),
        (Value::Array(wanted), Value::Array(found)) if wanted.len() == found.len() => wanted
            .iter()
            .zip(found)
            .enumerate()
            .find_map(|(index, (wanted, found))| {
                difference(wanted, found, format!("{path}/{index}"))
            }),
        _ => (wanted != found).then_some(path),
    }
}

/// `value` has these keys at most.
fn keys(value: &Value, known: &[&str]) -> Result<()> {
    let object = value.as_object().context("not an object")?;
    match object.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => bail!("{key} is not a field"),
        None => Ok(()),
    }
}

/// The object is of a version and kind that is known, with no other fields.
fn valid(object: &Object) -> Result<()> {
    let value = &object.0;
    let version = at(value, "/apiVersion").as_str().unwrap_or_default();
    match (version, object.kind()) {
        ("v1", "Namespace") => strict::<Namespace>(value),
        ("v1", "ConfigMap") => strict::<ConfigMap>(value),
        ("v1", "Secret") => strict::<Secret>(value),
        ("v1", "Service") => strict::<Service>(value),
        ("v1", "ServiceAccount") => strict::<ServiceAccount>(value),
        ("v1", "ResourceQuota") => strict::<ResourceQuota>(value),
        ("v1", "Pod") => strict::<Pod>(value),
        ("apps/v1", "DaemonSet") => strict::<DaemonSet>(value),
        ("apps/v1", "Deployment") => strict::<Deployment>(value),
        ("policy/v1", "PodDisruptionBudget") => strict::<PodDisruptionBudget>(value),
        ("networking.k8s.io/v1", "NetworkPolicy") => strict::<NetworkPolicy>(value),
        ("rbac.authorization.k8s.io/v1", "ClusterRole") => strict::<ClusterRole>(value),
        ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding") => {
            strict::<ClusterRoleBinding>(value)
        }
        ("rbac.authorization.k8s.io/v1", "Role") => strict::<Role>(value),
        ("rbac.authorization.k8s.io/v1", "RoleBinding") => strict::<RoleBinding>(value),
        ("monitoring.coreos.com/v1", kind @ ("PodMonitor" | "ServiceMonitor")) => {
            let list = match kind {
                "PodMonitor" => "podMetricsEndpoints",
                _ => "endpoints",
            };
            let spec = at(value, "/spec");
            keys(spec, &["selector", "namespaceSelector", list])?;
            keys(at(spec, "/selector"), &["matchLabels"])?;
            keys(at(spec, "/namespaceSelector"), &["matchNames"])?;
            let mut endpoints = each(spec, &format!("/{list}")).peekable();
            ensure!(endpoints.peek().is_some(), "no endpoints");
            endpoints.try_for_each(|endpoint| {
                let known = [
                    "port",
                    "path",
                    "interval",
                    "honorLabels",
                    "scheme",
                    "tlsConfig",
                    "relabelings",
                    "metricRelabelings",
                ];
                keys(endpoint, &known)
            })
        }
        ("monitoring.coreos.com/v1", "PrometheusRule") => {
            keys(at(value, "/spec"), &["groups"])?;
            each(value, "/spec/groups").try_for_each(|group| {
                keys(group, &["name", "interval", "rules"])?;
                each(group, "/rules").try_for_each(|rule| {
                    let known = ["record", "alert", "expr", "for", "labels", "annotations"];
                    keys(rule, &known)
                })
            })
        }
        ("cert-manager.io/v1", "Certificate") => keys(
            at(value, "/spec"),
            &[
                "secretName",
                "commonName",
                "dnsNames",
                "usages",
                "issuerRef",
            ],
        ),
        (version, kind) => bail!("{version} {kind} is not known"),
    }
}

#[test]
fn every_object_is_one_that_kubernetes_knows() -> Result<()> {
    if lacking(&[Need::Helm])? {
        return Ok(());
    }
    for (what, set) in MATRIX {
        // The oldest that the chart takes, the last without a field for AppArmor, and newer ones.
        for kubernetes in ["1.25.0", "1.29.9-vendor.1", "1.30.0", "1.35.1"] {
            let rendering = Rendering {
                kubernetes,
                ..Rendering::of(set)
            };
            for object in of(&rendering.render().context(*what)?)? {
                valid(&object)
                    .with_context(|| format!("{what}: {} {}", object.kind(), object.name()))?;
                let name = object.name();
                // Names of pods and Services are labels of DNS; those of roles need not be.
                let most = if object.kind().contains("Role") {
                    253
                } else {
                    63
                };
                ensure!(
                    !name.is_empty() && name.len() <= most,
                    "{what}: the name {name:?} is too long"
                );
            }
        }
    }
    Ok(())
}

#[test]
fn unknown_fields_are_found() -> Result<()> {
    if lacking(&[Need::Helm])? {
        return Ok(());
    }
    let objects = with(&[])?;
    let mut wrong = the(&objects, "DaemonSet", "-agent")?.0.clone();
    wrong["spec"]["template"]["spec"]["hostNetwerk"] = Value::Bool(true);
    let error = valid(&Object(wrong)).unwrap_err().to_string();
    ensure!(error.contains("hostNetwerk"), "{error}");
    Ok(())
}

#[test]
fn older_servers_get_the_annotation_and_newer_ones_the_field_for_apparmor() -> Result<()> {
    if lacking(&[Need::Helm])? {
        return Ok(());
    }
    for (kubernetes, annotation, field) in [
        ("1.29.3", Value::from("unconfined"), Value::Null),
        ("1.30.0", Value::Null, Value::from("Unconfined")),
    ] {
        let objects = of(&Rendering {
            kubernetes,
            ..Rendering::of(&[])
        }
        .render()?)?;
        let pod = the(&objects, "DaemonSet", "-agent")?.pod().context("pod")?;
        let path = "/metadata/annotations/container.apparmor.security.beta.kubernetes.io~1agent";
        ensure!(*at(pod, path) == annotation, "{kubernetes}");
        let path = "/spec/containers/0/securityContext/appArmorProfile/type";
        ensure!(*at(pod, path) == field, "{kubernetes}");
    }
    Ok(())
}

#[test]
fn what_one_object_names_another_is() -> Result<()> {
    if lacking(&[Need::Helm])? {
        return Ok(());
    }
    for (what, set) in MATRIX {
        let objects = with(set)?;
        let own: BTreeSet<(&str, &str)> = objects
            .iter()
            .map(|object| (object.kind(), object.name()))
            .collect();
        // Two objects of one name would be one.
        ensure!(own.len() == objects.len(), "{what}: a name is there twice");
        let pods: Vec<&Value> = objects.iter().filter_map(Object::pod).collect();
        for object in &objects {
            let shown = format!("{what}: {} {}", object.kind(), object.name());
            let selected = selects(object);
            if let Some(labels) = selected {
                let matching: Vec<&&Value> = pods
                    .iter()
                    .filter(|pod| {
                        labels.as_object().is_some_and(|labels| {
                            !labels.is_empty()
                                && labels.iter().all(|(key, value)| {
                                    at(pod, "/metadata/labels").get(key) == Some(value)
                                })
                        })
                    })
                    .collect();
                ensure!(matching.len() == 1, "{shown} selects {}", matching.len());
                // Ports that are called by name are there.
                for port in named_ports(&object.0) {
                    ensure!(
                        each(matching[0], "/spec/containers/0/ports")
                            .any(|known| known["name"] == *port),
                        "{shown}: the pod has no port {port}"
                    );
                }
            }
            if let Some(pod) = object.pod() {
                mounts_are_there(pod, &own, set).context(shown)?;
            }
        }
    }
    Ok(())
}

/// Labels that pods are selected by.
fn selects(object: &Object) -> Option<&Value> {
    match object.kind() {
        "Service" => object.0.pointer("/spec/selector"),
        "NetworkPolicy" => object.0.pointer("/spec/podSelector/matchLabels"),
        "DaemonSet" | "Deployment" | "PodDisruptionBudget" | "PodMonitor" | "ServiceMonitor" => {
            object.0.pointer("/spec/selector/matchLabels")
        }
        _ => None,
    }
}

/// Ports that the object calls by name.
fn named_ports(value: &Value) -> Vec<&Value> {
    let lists = ["/spec/podMetricsEndpoints", "/spec/endpoints"];
    let mut found: Vec<&Value> = lists
        .iter()
        .flat_map(|list| each(value, list).map(|endpoint| &endpoint["port"]))
        .collect();
    found.extend(each(value, "/spec/ports").map(|port| &port["targetPort"]));
    found.extend(
        each(value, "/spec/ingress")
            .flat_map(|rule| each(rule, "/ports").map(|port| &port["port"])),
    );
    found
}

/// What a pod mounts is a volume of it, every volume is mounted, and what a volume is made from is
/// another object of the chart or one that the values name.
fn mounts_are_there(pod: &Value, own: &BTreeSet<(&str, &str)>, set: &[&str]) -> Result<()> {
    let names = |list: &str| -> BTreeSet<&str> {
        each(pod, list)
            .filter_map(|value| at(value, "/name").as_str())
            .collect()
    };
    let mounted = names("/spec/containers/0/volumeMounts");
    let volumes = names("/spec/volumes");
    ensure!(mounted == volumes, "mounts {mounted:?} of {volumes:?}");
    for volume in each(pod, "/spec/volumes") {
        if let Some(name) = at(volume, "/configMap/name").as_str() {
            ensure!(own.contains(&("ConfigMap", name)), "no ConfigMap {name}");
        }
        if let Some(name) = at(volume, "/secret/secretName").as_str() {
            let made = own.contains(&("Secret", name))
                || own.iter().any(|(kind, _)| *kind == "Certificate")
                || set.contains(&format!("hub.tls.secretName={name}").as_str());
            ensure!(made, "nobody makes the secret {name}");
        }
    }
    let account = at(pod, "/spec/serviceAccountName");
    if let Some(account) = account.as_str() {
        let made = own.contains(&("ServiceAccount", account))
            || set
                .iter()
                .any(|value| value.ends_with(&format!(".name={account}")));
        ensure!(made, "nobody makes the account {account}");
    }
    Ok(())
}

#[test]
fn images_are_named_as_the_values_say() -> Result<()> {
    if lacking(&[Need::Helm])? {
        return Ok(());
    }
    let digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    for (what, expected) in [
        (
            "defaults",
            format!("observer:{}", env!("CARGO_PKG_VERSION")),
        ),
        (
            "a digest",
            format!("registry.example:5000/tools/observer@{digest}"),
        ),
        ("a tag", "host.example/observer:9.9".to_owned()),
    ] {
        let (_, set) = MATRIX
            .iter()
            .find(|(name, _)| *name == what)
            .context(what)?;
        for object in with(set)?.iter().filter_map(Object::pod) {
            let image = at(object, "/spec/containers/0/image");
            ensure!(*image == expected, "{what}: {image}");
        }
    }
    Ok(())
}

#[test]
fn the_plain_manifests_are_what_the_chart_renders() -> Result<()> {
    if lacking(&[Need::Helm])? {
        return Ok(());
    }
    let folder = chart::workspace().join(chart::MANIFESTS);
    let manifests = chart::manifests()?;
    for (name, content) in &manifests {
        let there = std::fs::read_to_string(folder.join(name)).unwrap_or_default();
        ensure!(
            there == *content,
            "{}/{name} differs: run `cargo xtask manifests`",
            chart::MANIFESTS
        );
    }
    ensure!(
        std::fs::read_dir(&folder)?.count() == manifests.len(),
        "{} has more than the chart renders: run `cargo xtask manifests`",
        chart::MANIFESTS
    );
    if lacking(&[Need::Tool("kubectl")])? {
        return Ok(());
    }
    // Another program puts the same together.
    let mut kubectl = std::process::Command::new("kubectl");
    let built = of(&process::check(kubectl.arg("kustomize").arg(&folder))?)?;
    let rendered: Vec<Object> = manifests
        .iter()
        .filter(|(name, _)| name != "kustomization.yaml")
        .map(|(_, content)| of(content))
        .collect::<Result<Vec<_>>>()?
        .into_iter()
        .flatten()
        .collect();
    ensure!(built.len() == rendered.len(), "{}", built.len());
    for object in &built {
        valid(object)?;
        ensure!(
            rendered.iter().any(|other| other.0 == object.0),
            "{} {} differs",
            object.kind(),
            object.name()
        );
    }
    Ok(())
}

#[test]
fn dashboards_and_rules_are_those_of_the_files() -> Result<()> {
    if lacking(&[Need::Helm])? {
        return Ok(());
    }
    let objects = with(&[
        "dashboards.enabled=true",
        "dashboards.namespace=grafana",
        "prometheusRule.enabled=true",
    ])?;
    let read = |folder: &str| -> Result<Vec<(String, String)>> {
        let folder = chart::folder().join("files").join(folder);
        let mut files = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path.file_name().context("no name")?.to_string_lossy();
            files.push((name.into_owned(), std::fs::read_to_string(&path)?));
        }
        Ok(files)
    };
    let boards = read("dashboards")?;
    ensure!(!boards.is_empty(), "no dashboards");
    for (name, content) in &boards {
        let stem = name
            .trim_start_matches("observer-")
            .trim_end_matches(".json");
        let map = the(&objects, "ConfigMap", &format!("-{stem}-dashboard"))?;
        ensure!(at(&map.0, "/metadata/labels/grafana_dashboard") == "1");
        ensure!(at(&map.0, "/metadata/namespace") == "grafana");
        let held = map.0["data"][name.as_str()].as_str().context("no data")?;
        let (held, wanted): (Value, Value) =
            (serde_json::from_str(held)?, serde_json::from_str(content)?);
        ensure!(held == wanted, "{name} differs");
    }
    for (name, content) in read("rules")? {
        let rule = the(
            &objects,
            "PrometheusRule",
            &format!("-{}", name.trim_end_matches(".yaml")),
        )?;
        let wanted: Value = serde_saphyr::from_str(&content)?;
        ensure!(rule.0["spec"] == wanted, "{name} differs");
    }
    Ok(())
}
