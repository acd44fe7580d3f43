//! Kinds that a cluster has where somebody defines them: those that meshes are told by.

use std::{collections::BTreeMap, sync::LazyLock};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{
    Cluster,
    resource::{self, Resource},
    store::Store,
};
use crate::wait;

/// Group, name in paths, name in objects, and versions.
type Defined = (
    &'static str,
    &'static str,
    &'static str,
    &'static [&'static str],
);

const NETWORKING: &str = "networking.istio.io";
const SECURITY: &str = "security.istio.io";
const LINKERD: &str = "policy.linkerd.io";
const GATEWAY: &str = "gateway.networking.k8s.io";
const ISTIO_VERSIONS: &[&str] = &["v1", "v1beta1", "v1alpha3"];
const SECURITY_VERSIONS: &[&str] = &["v1", "v1beta1"];

/// All of them; `v9` is a version that nobody knows.
const ALL: &[Defined] = &[
    (
        SECURITY,
        "peerauthentications",
        "PeerAuthentication",
        SECURITY_VERSIONS,
    ),
    (
        SECURITY,
        "authorizationpolicies",
        "AuthorizationPolicy",
        SECURITY_VERSIONS,
    ),
    (
        SECURITY,
        "requestauthentications",
        "RequestAuthentication",
        SECURITY_VERSIONS,
    ),
    (
        NETWORKING,
        "destinationrules",
        "DestinationRule",
        ISTIO_VERSIONS,
    ),
    (
        NETWORKING,
        "virtualservices",
        "VirtualService",
        ISTIO_VERSIONS,
    ),
    (NETWORKING, "serviceentries", "ServiceEntry", ISTIO_VERSIONS),
    (NETWORKING, "sidecars", "Sidecar", ISTIO_VERSIONS),
    (NETWORKING, "gateways", "Gateway", ISTIO_VERSIONS),
    (
        NETWORKING,
        "workloadentries",
        "WorkloadEntry",
        ISTIO_VERSIONS,
    ),
    (
        "telemetry.istio.io",
        "telemetries",
        "Telemetry",
        &["v1", "v1alpha1"],
    ),
    (
        LINKERD,
        "servers",
        "Server",
        &["v1beta3", "v1beta2", "v1beta1"],
    ),
    (
        LINKERD,
        "serverauthorizations",
        "ServerAuthorization",
        &["v1beta1"],
    ),
    (
        LINKERD,
        "authorizationpolicies",
        "AuthorizationPolicy",
        &["v1alpha1"],
    ),
    (
        LINKERD,
        "meshtlsauthentications",
        "MeshTLSAuthentication",
        &["v1alpha1"],
    ),
    (
        LINKERD,
        "networkauthentications",
        "NetworkAuthentication",
        &["v1alpha1"],
    ),
    (
        LINKERD,
        "httproutes",
        "HTTPRoute",
        &["v1beta3", "v1beta2", "v1beta1"],
    ),
    (
        LINKERD,
        "httplocalratelimitpolicies",
        "HTTPLocalRateLimitPolicy",
        &["v1alpha1"],
    ),
    (LINKERD, "egressnetworks", "EgressNetwork", &["v1alpha1"]),
    (
        "linkerd.io",
        "serviceprofiles",
        "ServiceProfile",
        &["v1alpha2"],
    ),
    (GATEWAY, "gateways", "Gateway", &["v1", "v1beta1"]),
    (GATEWAY, "httproutes", "HTTPRoute", &["v1", "v1beta1", "v9"]),
    (GATEWAY, "grpcroutes", "GRPCRoute", &["v1", "v1alpha2"]),
    (
        GATEWAY,
        "tlsroutes",
        "TLSRoute",
        &["v1", "v1alpha3", "v1alpha2"],
    ),
    (GATEWAY, "tcproutes", "TCPRoute", &["v1", "v1alpha2"]),
    (
        GATEWAY,
        "referencegrants",
        "ReferenceGrant",
        &["v1", "v1beta1"],
    ),
];

/// Each in each of its versions.
static RESOURCES: LazyLock<Vec<Resource>> = LazyLock::new(|| {
    let each = |(group, plural, kind, versions): &Defined| {
        let (group, plural, kind) = (*group, *plural, *kind);
        versions.iter().map(move |version| Resource {
            group,
            version,
            plural,
            kind,
            namespaced: true,
            status: false,
        })
    };
    ALL.iter().flat_map(each).collect()
});

/// The kinds that may be defined, in all their versions.
pub(super) fn resources() -> &'static [Resource] {
    &RESOURCES
}

/// Group and name in paths of each kind that may be defined.
pub fn kinds() -> impl Iterator<Item = (&'static str, &'static str)> {
    ALL.iter().map(|(group, plural, _, _)| (*group, *plural))
}

/// A definition of a kind with these versions, of which the first is stored. It takes anything.
pub fn definition(group: &str, plural: &str, versions: &[&str]) -> Result<Value> {
    let mut all = ALL.iter();
    let known = all.find(|one| (one.0, one.1) == (group, plural));
    let (_, _, kind, _) = known.with_context(|| format!("no kind {plural}.{group}"))?;
    let mut stored = true;
    let mut version = |name: &&str| {
        json!({
            "name": name, "served": true, "storage": std::mem::take(&mut stored),
            "schema": {"openAPIV3Schema": {
                "type": "object", "x-kubernetes-preserve-unknown-fields": true,
            }},
        })
    };
    let versions: Vec<Value> = versions.iter().map(&mut version).collect();
    let mut definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": {
            "group": group, "scope": "Namespaced", "versions": versions,
            "names": {"plural": plural, "kind": kind, "listKind": format!("{kind}List"),
                      "singular": kind.to_lowercase()},
        },
    });
    if group.ends_with(".k8s.io") {
        // The server takes definitions of these groups only from who says so.
        definition["metadata"]["annotations"] =
            json!({"api-approved.kubernetes.io": "unapproved, for a test"});
    }
    Ok(definition)
}

/// Defines a kind, and waits until the server has it.
pub fn define(cluster: &dyn Cluster, group: &str, plural: &str, versions: &[&str]) -> Result<()> {
    cluster.create(&definition(group, plural, versions)?)?;
    let version = versions.first().context("no version")?;
    let path = format!("/apis/{group}/{version}");
    wait::until(&format!("{plural}.{group}"), 3 * wait::PATIENCE, || {
        let answer = cluster.admin().get(&path)?;
        if answer.code != 200 {
            return Ok(None);
        }
        let told = answer.json()?;
        let mut names = told["resources"].as_array().into_iter().flatten();
        Ok(names.any(|one| one["name"] == plural).then_some(()))
    })
}

/// Takes the definition of a kind away, and all its objects with it.
pub fn undefine(cluster: &dyn Cluster, group: &str, plural: &str) -> Result<()> {
    let definition = definition(group, plural, &["v1"])?;
    cluster.delete(&definition)?;
    wait::until("the definition's end", 3 * wait::PATIENCE, || {
        let path = super::path(&definition)?;
        Ok((cluster.admin().get(&path)?.code == 404).then_some(()))
    })
}

/// Whether a kind of the double is there: it is defined, or needs no definition.
pub(super) fn is_there(store: &Store, resource: &Resource) -> bool {
    if !RESOURCES.iter().any(|one| one == resource) {
        return true;
    }
    let Some(definitions) = resource::named("customresourcedefinitions") else {
        return false;
    };
    let name = resource.qualified();
    let found = store.get(definitions, "", &name);
    found.is_some_and(|found| {
        let versions = found["spec"]["versions"].as_array().into_iter().flatten();
        let mut served = versions.filter(|version| version["served"] == true);
        served.any(|version| version["name"] == resource.version)
    })
}

/// What the double says that it has: its groups, or the resources of one in a version.
pub(super) fn discovery(store: &Store, path: &str) -> Option<Value> {
    let all = resource::ALL.iter().chain(resources());
    let there = all.filter(|resource| is_there(store, resource));
    if path == "/apis" {
        let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for resource in there.filter(|resource| !resource.group.is_empty()) {
            let versions = groups.entry(resource.group).or_default();
            if !versions.contains(&resource.version) {
                versions.push(resource.version);
            }
        }
        let group = |(name, versions): (&str, Vec<&str>)| {
            let version = |version: &str| json!({"groupVersion": format!("{name}/{version}"), "version": version});
            let versions: Vec<Value> = versions.into_iter().map(version).collect();
            json!({"name": name, "versions": versions, "preferredVersion": versions.first()})
        };
        let groups: Vec<Value> = groups.into_iter().map(group).collect();
        return Some(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}));
    }
    let (group, version) = path.strip_prefix("/apis/")?.split_once('/')?;
    let resources: Vec<Value> = there
        .filter(|resource| (resource.group, resource.version) == (group, version))
        .map(|resource| {
            json!({
                "name": resource.plural, "namespaced": resource.namespaced,
                "kind": resource.kind, "singularName": resource.kind.to_lowercase(),
                "verbs": ["create", "delete", "get", "list", "update", "watch"],
            })
        })
        .collect();
    (!resources.is_empty()).then(|| {
        json!({
            "kind": "APIResourceList", "apiVersion": "v1",
            "groupVersion": format!("{group}/{version}"), "resources": resources,
        })
    })
}

/// Defines every kind in the first of its versions.
pub fn define_all(cluster: &dyn Cluster) -> Result<()> {
    for (group, plural, _, versions) in ALL {
        define(cluster, group, plural, &versions[..1])?;
    }
    Ok(())
}
