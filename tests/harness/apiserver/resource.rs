//! Resources of the Kubernetes API, and the paths that name them.

use serde_json::{Value, json};

use super::definitions;

/// A kind of object, and where the API has it.
#[derive(Debug, PartialEq, Eq)]
pub struct Resource {
    /// API group; empty for the core one.
    pub group: &'static str,
    /// Version within the group.
    pub version: &'static str,
    /// Name in paths.
    pub plural: &'static str,
    /// Name in objects.
    pub kind: &'static str,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// Whether `status` is written on its own.
    pub status: bool,
}

/// What a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The kind of object.
    pub resource: &'static Resource,
    /// Namespace; empty for all of them, and for what lives in none.
    pub namespace: String,
    /// Name; empty for all objects.
    pub name: String,
    /// `status`, `token`, or empty.
    pub subresource: String,
}

const fn resource(
    (group, version): (&'static str, &'static str),
    (plural, kind): (&'static str, &'static str),
    namespaced: bool,
    status: bool,
) -> Resource {
    Resource {
        group,
        version,
        plural,
        kind,
        namespaced,
        status,
    }
}

const CORE: (&str, &str) = ("", "v1");
const APPS: (&str, &str) = ("apps", "v1");
const BATCH: (&str, &str) = ("batch", "v1");
const RBAC: (&str, &str) = ("rbac.authorization.k8s.io", "v1");

/// All that the double knows.
pub static ALL: &[Resource] = &[
    resource(CORE, ("pods", "Pod"), true, true),
    resource(CORE, ("nodes", "Node"), false, true),
    resource(CORE, ("services", "Service"), true, true),
    resource(CORE, ("namespaces", "Namespace"), false, true),
    resource(CORE, ("events", "Event"), true, false),
    resource(CORE, ("serviceaccounts", "ServiceAccount"), true, false),
    resource(CORE, ("configmaps", "ConfigMap"), true, false),
    resource(
        ("networking.k8s.io", "v1"),
        ("networkpolicies", "NetworkPolicy"),
        true,
        false,
    ),
    resource(
        ("apiextensions.k8s.io", "v1"),
        ("customresourcedefinitions", "CustomResourceDefinition"),
        false,
        false,
    ),
    resource(
        ("discovery.k8s.io", "v1"),
        ("endpointslices", "EndpointSlice"),
        true,
        false,
    ),
    resource(APPS, ("replicasets", "ReplicaSet"), true, true),
    resource(APPS, ("deployments", "Deployment"), true, true),
    resource(APPS, ("statefulsets", "StatefulSet"), true, true),
    resource(APPS, ("daemonsets", "DaemonSet"), true, true),
    resource(BATCH, ("jobs", "Job"), true, true),
    resource(BATCH, ("cronjobs", "CronJob"), true, true),
    resource(RBAC, ("roles", "Role"), true, false),
    resource(RBAC, ("rolebindings", "RoleBinding"), true, false),
    resource(RBAC, ("clusterroles", "ClusterRole"), false, false),
    resource(
        RBAC,
        ("clusterrolebindings", "ClusterRoleBinding"),
        false,
        false,
    ),
];

/// Can only be created, and nothing of it stays.
pub static TOKEN_REVIEWS: Resource = resource(
    ("authentication.k8s.io", "v1"),
    ("tokenreviews", "TokenReview"),
    false,
    false,
);

/// The resource that is called `plural` in paths.
pub fn named(plural: &str) -> Option<&'static Resource> {
    ALL.iter()
        .chain([&TOKEN_REVIEWS])
        .find(|resource| resource.plural == plural)
}

/// The resource of an object.
pub fn of(object: &Value) -> Option<&'static Resource> {
    ALL.iter().chain(definitions::resources()).find(|resource| {
        object["kind"] == resource.kind && object["apiVersion"] == resource.api_version()
    })
}

/// What `path` names, or nothing if that is no resource.
pub fn parse(path: &str) -> Option<Target> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (group, version, rest) = match &*parts {
        ["api", version, rest @ ..] => ("", *version, rest),
        ["apis", group, version, rest @ ..] => (*group, *version, rest),
        _ => return None,
    };
    let find = |plural: &str| {
        let is = |found: &&Resource| {
            (found.group, found.version, found.plural) == (group, version, plural)
        };
        named(plural)
            .filter(is)
            .or_else(|| definitions::resources().iter().find(is))
    };
    let (namespace, plural, rest) = match rest {
        // A namespace is an object too: `namespaces/x` and `namespaces/x/status`.
        ["namespaces", namespace, plural, rest @ ..] if *plural != "status" => {
            (*namespace, *plural, rest)
        }
        [plural, rest @ ..] => ("", *plural, rest),
        [] => return None,
    };
    let resource = find(plural)?;
    let (name, subresource) = match rest {
        [] => ("", ""),
        [name] => (*name, ""),
        [name, subresource] => (*name, *subresource),
        _ => return None,
    };
    // Names of namespaced objects need their namespace.
    if resource.namespaced == namespace.is_empty() && !(resource.namespaced && name.is_empty()) {
        return None;
    }
    let known = match subresource {
        "" => true,
        "status" => resource.status,
        "token" => resource.plural == "serviceaccounts",
        _ => false,
    };
    known.then(|| Target {
        resource,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        subresource: subresource.to_owned(),
    })
}

// === impl Resource ===

impl Resource {
    /// `apiVersion` of its objects.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// What its objects are kept by: versions share them.
    pub(super) fn key(&self) -> (&'static str, &'static str) {
        (self.plural, self.group)
    }

    /// `pods`, or `replicasets.apps`: as errors call it.
    pub fn qualified(&self) -> String {
        qualified(self.plural, self.group)
    }

    /// `Pod`, or `ReplicaSet.apps`: as errors about objects call it.
    pub fn qualified_kind(&self) -> String {
        qualified(self.kind, self.group)
    }

    /// Path of all its objects in `namespace`, or of all when that is empty.
    pub fn path(&self, namespace: &str) -> String {
        let root = if self.group.is_empty() {
            format!("/api/{}", self.version)
        } else {
            format!("/apis/{}/{}", self.group, self.version)
        };
        if namespace.is_empty() {
            format!("{root}/{}", self.plural)
        } else {
            format!("{root}/namespaces/{namespace}/{}", self.plural)
        }
    }

    /// What a bookmark carries beside its version: an object of the kind with nothing in it, as
    /// the server's own language spells that.
    pub fn nothing(&self) -> Value {
        match self.kind {
            "Pod" => json!({"spec": {"containers": null}, "status": {}}),
            "Service" => json!({"spec": {}, "status": {"loadBalancer": {}}}),
            "EndpointSlice" => json!({"addressType": "", "endpoints": null, "ports": null}),
            "Node" => json!({"spec": {}, "status": {
                "daemonEndpoints": {"kubeletEndpoint": {"Port": 0}},
                "nodeInfo": node_info(),
            }}),
            "Namespace" => json!({"spec": {}, "status": {}}),
            "ReplicaSet" => json!({
                "spec": {"replicas": 0, "selector": null, "template": template_of_nothing()},
                "status": {"replicas": 0},
            }),
            "Deployment" => json!({
                "spec": {"selector": null, "template": template_of_nothing(), "strategy": {}},
                "status": {},
            }),
            "Job" => json!({"spec": {"template": template_of_nothing()}, "status": {}}),
            _ => json!({}),
        }
    }
}

/// `status.nodeInfo` of a node that has not said anything.
pub(super) fn node_info() -> Value {
    json!({
        "machineID": "", "systemUUID": "", "bootID": "", "kernelVersion": "", "osImage": "",
        "containerRuntimeVersion": "", "kubeletVersion": "", "kubeProxyVersion": "",
        "operatingSystem": "", "architecture": "",
    })
}

fn template_of_nothing() -> Value {
    json!({"metadata": {}, "spec": {"containers": null}})
}

fn qualified(name: &str, group: &str) -> String {
    if group.is_empty() {
        name.to_owned()
    } else {
        format!("{name}.{group}")
    }
}
