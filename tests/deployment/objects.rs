//! Renderings with many values, as objects.

use anyhow::{Context, Result, ensure};
use observer_tests::chart::Rendering;
use serde_json::Value;

/// Every kind of thing that values change.
pub(crate) const MATRIX: &[(&str, &[&str])] = &[
    ("defaults", &[]),
    ("without a hub", &["hub.enabled=false"]),
    (
        "everything",
        &[
            "namespace.create=true",
            "namespace.name=watching",
            "criticalPodsQuota.create=true",
            "cluster=production",
            "commonLabels.team=platform",
            "imagePullSecrets[0].name=pull",
            "agent.podMonitor.enabled=true",
            "agent.podMonitor.labels.release=prometheus",
            "agent.podMonitor.relabelings[0].action=labeldrop",
            "agent.podMonitor.relabelings[0].regex=pod",
            "agent.podMonitor.metricRelabelings[0].action=keep",
            "agent.capabilities.perfmon=true",
            "agent.capabilities.sysResource=true",
            "agent.seccomp.type=Localhost",
            "agent.apparmor.type=RuntimeDefault",
            "agent.extraEnv[0].name=OBSERVER_LOG_LEVEL",
            "agent.extraEnv[0].value=debug",
            "agent.podAnnotations.note=agent",
            "agent.podLabels.role=agent",
            "agent.serviceAccount.annotations.note=agent",
            "agent.service.annotations.note=agent",
            "agent.config.ignore.namespaces[0]=kube-system",
            "agent.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.\
             nodeSelectorTerms[0].matchExpressions[0].key=observe",
            "agent.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.\
             nodeSelectorTerms[0].matchExpressions[0].operator=Exists",
            "hub.replicas=3",
            "hub.maxAgents=500",
            "hub.serviceMonitor.enabled=true",
            "hub.serviceMonitor.labels.release=prometheus",
            "hub.networkPolicy.agents[0].ipBlock.cidr=10.0.0.0/16",
            "hub.tolerations[0].operator=Exists",
            "hub.topologySpreadConstraints[0].maxSkew=1",
            "hub.topologySpreadConstraints[0].topologyKey=rack",
            "hub.topologySpreadConstraints[0].whenUnsatisfiable=DoNotSchedule",
            "hub.extraEnv[0].name=OBSERVER_LOG_LEVEL",
            "hub.extraEnv[0].value=debug",
            "hub.podAnnotations.note=hub",
            "hub.podLabels.role=hub",
            "dashboards.enabled=true",
            "dashboards.annotations.grafana_folder=Observer",
            "prometheusRule.enabled=true",
            "prometheusRule.labels.release=prometheus",
            "prometheusRule.runbooks=https://wiki.example/observer",
        ],
    ),
    (
        "a digest",
        &[
            "image.registry=registry.example:5000",
            "image.repository=tools/observer",
            "image.digest=sha256:\
             0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        ],
    ),
    (
        "another mesh",
        &[
            "mesh.linkerd=false",
            "mesh.istioRevisions=true",
            "mesh.istioNamespace=mesh",
            "mesh.events=true",
        ],
    ),
    ("no mesh", &["mesh.enabled=false"]),
    ("a tag", &["image.registry=host.example", "image.tag=9.9"]),
    (
        "other names",
        &["nameOverride=looker", "fullnameOverride=lens"],
    ),
    (
        "a long name",
        &["nameOverride=a-name-that-is-about-as-long-as-the-chart-takes-any"],
    ),
    (
        "accounts of others",
        &[
            "agent.serviceAccount.create=false",
            "agent.serviceAccount.name=looker",
            "hub.serviceAccount.create=false",
            "hub.serviceAccount.name=teller",
            "rbac.create=false",
        ],
    ),
    ("loopback", &["agent.http.address=loopback"]),
    (
        "every address",
        &["agent.http.address=any", "agent.http.port=9999"],
    ),
    ("IPv6", &["agent.http.family=IPv6"]),
    (
        "IPv6 on loopback",
        &["agent.http.family=IPv6", "agent.http.address=loopback"],
    ),
    (
        "in the clear",
        &["hub.tls.mode=none", "hub.authenticate=false"],
    ),
    (
        "a secret of others",
        &["hub.tls.mode=secret", "hub.tls.secretName=mine"],
    ),
    (
        "cert-manager",
        &[
            "hub.tls.mode=certManager",
            "hub.tls.issuerRef.name=internal",
            "hub.tls.issuerRef.kind=ClusterIssuer",
        ],
    ),
    (
        "one hub, no policy",
        &["hub.replicas=1", "hub.networkPolicy.enabled=false"],
    ),
    ("nobody scrapes", &["hub.networkPolicy.scrapers=null"]),
];

/// An object with questions that tests ask.
pub(crate) struct Object(pub(crate) Value);

/// The objects of a rendering with these values.
pub(crate) fn with(set: &[&str]) -> Result<Vec<Object>> {
    of(&Rendering::of(set).render()?)
}

/// The objects of `rendered`.
pub(crate) fn of(rendered: &str) -> Result<Vec<Object>> {
    let objects: Vec<Object> = rendered
        .split("---\n")
        .filter(|document| {
            document
                .lines()
                .any(|line| !line.trim().is_empty() && !line.starts_with('#'))
        })
        .map(|document| {
            serde_saphyr::from_str(document)
                .map(Object)
                .with_context(|| format!("not YAML:\n{document}"))
        })
        .collect::<Result<_>>()?;
    ensure!(!objects.is_empty(), "nothing is rendered");
    Ok(objects)
}

/// The only object of `kind` whose name ends so.
pub(crate) fn the<'a>(objects: &'a [Object], kind: &str, name_end: &str) -> Result<&'a Object> {
    let mut found = objects
        .iter()
        .filter(|object| object.kind() == kind && object.name().ends_with(name_end));
    let object = found
        .next()
        .with_context(|| format!("no {kind} ...{name_end}"))?;
    ensure!(found.next().is_none(), "more than one {kind} ...{name_end}");
    Ok(object)
}

/// The value at a pointer (RFC 6901), null if there is none.
pub(crate) fn at<'a>(value: &'a Value, pointer: &str) -> &'a Value {
    value.pointer(pointer).unwrap_or(&Value::Null)
}

/// The elements of the list at a pointer, none if there is no list.
pub(crate) fn each<'a>(
    value: &'a Value,
    pointer: &str,
) -> impl Iterator<Item = &'a Value> + use<'a> {
    at(value, pointer).as_array().into_iter().flatten()
}

// === impl Object ===

impl Object {
    pub(crate) fn kind(&self) -> &str {
        at(&self.0, "/kind").as_str().unwrap_or_default()
    }

    pub(crate) fn name(&self) -> &str {
        at(&self.0, "/metadata/name").as_str().unwrap_or_default()
    }

    /// The template of its pods, or itself if it is a pod.
    pub(crate) fn pod(&self) -> Option<&Value> {
        match self.kind() {
            "DaemonSet" | "Deployment" => self.0.pointer("/spec/template"),
            "Pod" => Some(&self.0),
            _ => None,
        }
    }
}
