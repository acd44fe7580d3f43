//! Objects are taken by a real API server, and an upgrade and an uninstallation leave nothing.

use anyhow::{Context, Result, ensure};
use observer_tests::{
    chart,
    control_plane::ControlPlane,
    requirement::{Need, lacking},
};
use serde_json::{Value, json};

use super::objects::{MATRIX, Object, at, the, with};

const NEEDS: &[Need] = &[
    Need::Helm,
    Need::ControlPlane,
    Need::Tool("kubectl"),
    Need::Tool("ip"),
    Need::Tool("openssl"),
];

/// Kinds that only clusters with further software know.
const OF_OTHERS: [&str; 4] = [
    "PodMonitor",
    "ServiceMonitor",
    "PrometheusRule",
    "Certificate",
];

/// Everything in the cluster, in any namespace, that is labelled as ours or is Helm's record.
fn ours(cluster: &ControlPlane) -> Result<Vec<String>> {
    let kinds = cluster.kubectl(&["api-resources", "--verbs=list", "--output=name"])?;
    let kinds: Vec<&str> = kinds
        .lines()
        .filter(|kind| !kind.starts_with("events"))
        .collect();
    let kinds = kinds.join(",");
    let mut found = Vec::new();
    for label in ["app.kubernetes.io/instance=observer", "owner=helm"] {
        let listed = cluster.kubectl(&[
            "get",
            &kinds,
            "--all-namespaces",
            "--selector",
            label,
            "--output=name",
        ])?;
        found.extend(listed.lines().map(str::to_owned));
    }
    found.sort();
    Ok(found)
}

#[test]
fn an_api_server_takes_every_object_to_the_letter() -> Result<()> {
    if lacking(NEEDS)? {
        return Ok(());
    }
    let cluster = ControlPlane::start()?;
    cluster.kubectl(&["create", "namespace", "observer"])?;
    cluster.kubectl(&["create", "namespace", "watching"])?;
    cluster.kubectl(&["create", "namespace", "mesh"])?;
    for (what, set) in MATRIX {
        let objects: Vec<Value> = with(set)?
            .into_iter()
            .filter(|object| !OF_OTHERS.contains(&object.kind()))
            // These two are there, and what a test pod runs as makes a controller.
            .filter(|object| !["Namespace", "Pod"].contains(&object.kind()))
            .map(|object| object.0)
            .collect();
        let apply = [
            "apply",
            "--server-side",
            "--dry-run=server",
            "--validate=strict",
        ];
        cluster.with_objects(&apply, &objects).context(*what)?;
    }
    // That is not because it takes anything.
    let mut wrong = the(&with(&[])?, "DaemonSet", "-agent")?.0.clone();
    wrong["spec"]["template"]["spec"]["hostNetwerk"] = true.into();
    let apply = [
        "apply",
        "--server-side",
        "--dry-run=server",
        "--validate=strict",
    ];
    let error = cluster.with_objects(&apply, &[wrong]).unwrap_err();
    ensure!(format!("{error:#}").contains("hostNetwerk"), "{error:#}");
    Ok(())
}

#[test]
fn the_hub_is_admitted_where_pods_are_restricted_and_the_agent_where_they_are_privileged()
-> Result<()> {
    if lacking(NEEDS)? {
        return Ok(());
    }
    let cluster = ControlPlane::start()?;
    let objects = with(&[])?;
    let pod = |kind: &str, name: &str, namespace: &str| -> Result<Value> {
        let template = the(&objects, kind, name)?.pod().context("pod")?;
        Ok(json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": { "name": "one", "namespace": namespace },
            "spec": at(template, "/spec"),
        }))
    };
    for level in ["restricted", "privileged"] {
        let label = format!("pod-security.kubernetes.io/enforce={level}");
        cluster.kubectl(&["create", "namespace", level])?;
        cluster.kubectl(&["label", "namespace", level, &label])?;
        for account in ["observer-hub", "observer-agent", "default"] {
            cluster.kubectl(&["create", "serviceaccount", account, "--namespace", level])?;
        }
    }
    let create = ["create", "--dry-run=server", "--validate=strict"];
    for namespace in ["restricted", "privileged"] {
        cluster.with_objects(&create, &[pod("Deployment", "-hub", namespace)?])?;
        cluster.with_objects(&create, &[pod("Pod", "-test", namespace)?])?;
    }
    cluster.with_objects(&create, &[pod("DaemonSet", "-agent", "privileged")?])?;
    let refused = cluster.with_objects(&create, &[pod("DaemonSet", "-agent", "restricted")?]);
    let refused = format!("{:#}", refused.unwrap_err());
    ensure!(refused.contains("violates PodSecurity"), "{refused}");
    // The namespace that the chart makes admits it.
    let objects = with(&["namespace.create=true", "namespace.name=made"])?;
    cluster.with_objects(
        &["create"],
        &[the(&objects, "Namespace", "made")?.0.clone()],
    )?;
    cluster.kubectl(&[
        "create",
        "serviceaccount",
        "observer-agent",
        "--namespace=made",
    ])?;
    cluster.with_objects(&create, &[pod("DaemonSet", "-agent", "made")?])?;
    Ok(())
}

#[test]
fn an_upgrade_keeps_what_is_to_stay_and_an_uninstallation_leaves_nothing() -> Result<()> {
    if lacking(NEEDS)? {
        return Ok(());
    }
    let cluster = ControlPlane::start()?;
    let chart = chart::folder();
    let chart = chart.to_str().context("the path is no text")?;
    ensure!(ours(&cluster)?.is_empty());
    let release = ["observer", chart, "--namespace=observer"];
    cluster.helm(&[&["install"][..], &release, &["--create-namespace"]].concat())?;
    let installed = ours(&cluster)?;
    let rendered = with(&[])?
        .iter()
        .filter(|object| object.kind() != "Pod")
        .count();
    // Helm's record is one more.
    ensure!(installed.len() == rendered + 1, "{installed:#?}");

    // The accounts may do what they need, and never read a secret.
    let may = |account: &str, verb: &str, resource: &str| -> Result<bool> {
        let account = format!("--as=system:serviceaccount:observer:observer-{account}");
        let asked = [
            "auth",
            "can-i",
            verb,
            resource,
            "--all-namespaces",
            &account,
        ];
        // It fails to say no.
        Ok(cluster.kubectl(&asked).is_ok())
    };
    for (account, verb, resource, allowed) in [
        ("agent", "watch", "pods", true),
        ("agent", "get", "replicasets.apps", true),
        ("agent", "get", "pods", false),
        ("agent", "list", "services", false),
        ("agent", "get", "secrets", false),
        ("agent", "get", "nodes/proxy", false),
        ("hub", "watch", "endpointslices.discovery.k8s.io", true),
        ("hub", "create", "tokenreviews.authentication.k8s.io", true),
        ("hub", "list", "secrets", false),
        ("hub", "delete", "pods", false),
    ] {
        ensure!(
            may(account, verb, resource)? == allowed,
            "{account} {verb} {resource}"
        );
    }

    // An upgrade keeps the certificate that agents know the hub by.
    let secret = [
        "get",
        "secret",
        "observer-hub-tls",
        "--namespace=observer",
        "--output=json",
    ];
    let data = || -> Result<Value> {
        let secret: Value = serde_json::from_str(&cluster.kubectl(&secret)?)?;
        Ok(secret["data"].clone())
    };
    let before = data()?;
    let values = ["--set=hub.replicas=3,agent.config.log.level=debug"];
    cluster.helm(&[&["upgrade"][..], &release, &values].concat())?;
    ensure!(data()? == before, "the certificate is another one");
    ensure!(
        ours(&cluster)?.len() == installed.len() + 1,
        "a record more, and nothing else"
    );

    // Without a hub, nothing of it stays but in Helm's records.
    cluster.helm(&[&["upgrade"][..], &release, &["--set=hub.enabled=false"]].concat())?;
    let without = ours(&cluster)?;
    ensure!(
        !without.iter().any(|name| name.contains("-hub")),
        "{without:#?}"
    );
    cluster.helm(&["rollback", "observer", "1", "--namespace=observer"])?;
    ensure!(ours(&cluster)?.len() == installed.len() + 3);
    cluster.helm(&["uninstall", "observer", "--namespace=observer"])?;
    let left = ours(&cluster)?;
    ensure!(left.is_empty(), "{left:#?}");
    Ok(())
}

#[test]
fn the_plain_manifests_are_applied_and_deleted_in_one_go() -> Result<()> {
    if lacking(NEEDS)? {
        return Ok(());
    }
    let cluster = ControlPlane::start()?;
    let folder = chart::workspace().join(chart::MANIFESTS);
    let folder = folder.to_str().context("the path is no text")?;
    // Twice: what is there already is no error.
    for _ in 0..2 {
        cluster.kubectl(&["apply", "--validate=strict", "--kustomize", folder])?;
    }
    let expected: Vec<Object> = with(&["namespace.create=true", "hub.tls.mode=none"])?;
    let expected = expected
        .iter()
        .filter(|object| object.kind() != "Pod")
        .count();
    let applied = ours(&cluster)?;
    ensure!(applied.len() == expected, "{applied:#?}");
    // No controller ends the namespace here; what is in it goes all the same.
    cluster.kubectl(&["delete", "--wait=false", "--kustomize", folder])?;
    let left = ours(&cluster)?;
    ensure!(
        left.iter().all(|name| name == "namespace/observer"),
        "{left:#?}"
    );
    Ok(())
}
