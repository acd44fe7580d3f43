//! Clusters and pods for the tests of what is declared.

use std::sync::Arc;

use proptest::prelude::*;

use super::policy::Policies;
use crate::model::{
    kubernetes::Pod,
    policy::{PolicyChange, PolicyKind, PolicyObject, PortFacts, ServiceFacts, Traits},
};

/// What is declared in a cluster, in the order in which it is told.
#[derive(Clone, Default)]
pub(super) struct Cluster {
    changes: Vec<PolicyChange>,
}

/// A pod that is being made.
#[derive(Clone)]
pub(super) struct PodBuilder {
    pod: Pod,
    traits: Traits,
}

/// A pod of a namespace.
pub(super) fn pod(namespace: &str, name: &str) -> PodBuilder {
    PodBuilder {
        pod: Pod {
            uid: format!("{namespace}/{name}").into(),
            namespace: namespace.into(),
            name: name.into(),
            ..Pod::default()
        },
        traits: Traits {
            service_account: name.into(),
            ..Traits::default()
        },
    }
}

/// Any JSON, with words of policies among it.
pub(super) fn json() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "spec",
        "status",
        "rules",
        "matches",
        "parentRefs",
        "parents",
        "conditions",
        "name",
        "kind",
        "port",
        "podSelector",
        "matchLabels",
        "path",
        "value",
        "type",
        "routes",
        "condition",
        "backendRefs",
        "weight",
        "client",
        "server",
        "meshTLS",
        "networks",
        "cidr",
        "ingress",
        "from",
        "Exact",
        "Server",
        "Service",
        "10.0.0.0/8",
        "*",
        "",
        "RegularExpression",
        "(",
        "5s",
        "Deny",
    ]);
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        any::<i32>().prop_map(|number| number.to_string()),
        word.clone().prop_map(|word| format!("{word:?}")),
    ];
    leaf.prop_recursive(6, 48, 5, move |inner| {
        let field =
            (word.clone(), inner.clone()).prop_map(|(name, value)| format!("{name:?}: {value}"));
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(|all| format!("[{}]", all.join(","))),
            prop::collection::vec(field, 0..5).prop_map(|all| format!("{{{}}}", all.join(","))),
        ]
    })
}

fn pairs(list: &[(&str, &str)]) -> Box<[(Box<str>, Box<str>)]> {
    let mut list: Vec<(Box<str>, Box<str>)> = list
        .iter()
        .map(|(name, value)| ((*name).into(), (*value).into()))
        .collect();
    list.sort();
    list.into()
}

// === impl Cluster ===

impl Cluster {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// An object, later than those before it.
    pub(super) fn object(
        self,
        kind: PolicyKind,
        namespace: &str,
        name: &str,
        content: &str,
    ) -> Self {
        self.annotated(kind, namespace, name, &[], content)
    }

    /// An object with annotations.
    pub(super) fn annotated(
        mut self,
        kind: PolicyKind,
        namespace: &str,
        name: &str,
        annotations: &[(&str, &str)],
        content: &str,
    ) -> Self {
        self.changes.push(PolicyChange::Set(Arc::new(PolicyObject {
            kind,
            uid: format!("{kind:?}/{namespace}/{name}").into(),
            namespace: namespace.into(),
            name: name.into(),
            version: "1".into(),
            created: 1,
            labels: Box::default(),
            annotations: pairs(annotations),
            content: content.into(),
        })));
        self
    }

    /// Changes the object before: when it was made, and its labels.
    pub(super) fn made(mut self, created: u64, labels: &[(&str, &str)]) -> Self {
        if let Some(PolicyChange::Set(object)) = self.changes.last_mut() {
            let object = Arc::make_mut(object);
            object.created = created;
            object.labels = pairs(labels);
        }
        self
    }

    /// A namespace with labels and annotations.
    pub(super) fn namespace(
        mut self,
        name: &str,
        labels: &[(&str, &str)],
        annotations: &[(&str, &str)],
    ) -> Self {
        self = self.annotated(PolicyKind::Namespace, "", name, annotations, "{}");
        self.made(1, labels)
    }

    /// A Service with ports, by name and number, and annotations.
    pub(super) fn service(
        mut self,
        namespace: &str,
        name: &str,
        ports: &[(&str, u16)],
        annotations: &[(&str, &str)],
    ) -> Self {
        let ports = ports.iter().map(|(name, port)| PortFacts {
            name: (*name).into(),
            port: *port,
            target: *port,
            ..PortFacts::default()
        });
        self.changes
            .push(PolicyChange::SetService(Arc::new(ServiceFacts {
                uid: format!("{namespace}/{name}").into(),
                namespace: namespace.into(),
                name: name.into(),
                ports: ports.collect(),
                annotations: pairs(annotations),
                ..ServiceFacts::default()
            })));
        self
    }

    /// Makes the Service before headless.
    pub(super) fn headless(mut self) -> Self {
        if let Some(PolicyChange::SetService(service)) = self.changes.last_mut() {
            Arc::make_mut(service).headless = true;
        }
        self
    }

    /// The changes in another order.
    pub(super) fn shuffled(mut self, seed: usize) -> Self {
        let length = self.changes.len();
        for at in 0..length {
            let other = (at.wrapping_mul(7).wrapping_add(seed)) % length;
            self.changes.swap(at, other);
        }
        self
    }

    /// All that it declares.
    pub(super) fn policies(&self) -> Policies {
        let mut policies = Policies::default();
        for change in &self.changes {
            policies.apply(change.clone());
        }
        policies
    }

    /// What it declares, with things of another that come and go.
    pub(super) fn policies_after(&self, other: &Self) -> Policies {
        let mut policies = other.policies();
        for change in &self.changes {
            policies.apply(change.clone());
        }
        for change in &other.changes {
            match change {
                PolicyChange::Set(object) => {
                    policies.apply(PolicyChange::Remove(object.kind, object.uid.clone()));
                }
                PolicyChange::SetService(service) => {
                    policies.apply(PolicyChange::RemoveService(service.uid.clone()));
                }
                _ => {}
            }
        }
        policies
    }
}

// === impl PodBuilder ===

impl PodBuilder {
    pub(super) fn label(mut self, name: &str, value: &str) -> Self {
        let mut labels = self.traits.labels.to_vec();
        labels.push((name.into(), value.into()));
        labels.sort();
        self.traits.labels = labels.into();
        self
    }

    pub(super) fn annotation(mut self, name: &str, value: &str) -> Self {
        let mut annotations = self.traits.annotations.to_vec();
        annotations.push((name.into(), value.into()));
        annotations.sort();
        self.traits.annotations = annotations.into();
        self
    }

    pub(super) fn port(mut self, name: &str, port: u16) -> Self {
        let mut ports = self.traits.ports.to_vec();
        ports.push((name.into(), port));
        ports.sort();
        self.traits.ports = ports.into();
        self
    }

    pub(super) fn host_network(mut self) -> Self {
        self.traits.host_network = true;
        self
    }

    /// With a container.
    pub(super) fn container(mut self, name: &str) -> Self {
        let mut containers = self.traits.containers.to_vec();
        containers.push(name.into());
        self.traits.containers = containers.into();
        self
    }

    /// With Linkerd's proxy.
    pub(super) fn linkerd(self) -> Self {
        self.label("linkerd.io/control-plane-ns", "linkerd")
            .container("linkerd-proxy")
    }

    pub(super) fn build(self) -> Arc<Pod> {
        Arc::new(Pod {
            traits: Arc::new(self.traits),
            ..self.pod
        })
    }
}
