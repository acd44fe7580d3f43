//! Who may call whom, as it is declared: AuthorizationPolicy, and which of them a pod has.

mod facts;
mod pattern;

use std::sync::Arc;

use serde::Deserialize;

pub use self::{
    facts::AuthorizationFacts,
    pattern::{path_matches, pattern_matches},
};
use super::{
    Istio,
    names::service_of,
    plane::gateway_of,
    read,
    store::{Choosing, Declared, Labels, Meta, SelectorSpec},
    waypoint::Waypoint,
};
use crate::{
    mesh::policy::{Context, Misunderstood},
    model::{
        kubernetes::Pod,
        mesh::Identity,
        policy::{PolicyObject, ServiceFacts, find},
    },
};

/// An AuthorizationPolicy.
#[derive(Debug)]
pub(super) struct AuthorizationPolicy {
    meta: Meta,
    pub(super) action: Action,
    pub(super) dry_run: bool,
    selector: Labels,
    targets: Vec<Target>,
    pub(super) rules: Vec<RuleSpec>,
}

/// What an AuthorizationPolicy does with what it matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "Box<str>")]
pub enum Action {
    /// It may pass, and what no policy of this kind matches may not.
    #[default]
    Allow,
    /// It is refused.
    Deny,
    /// It is logged.
    Audit,
    /// Somebody outside of the mesh is asked.
    Custom,
}

/// What an AuthorizationPolicy is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// All pods of the mesh.
    Mesh,
    /// All pods of a namespace.
    Namespace,
    /// Pods that it chooses.
    Workload,
    /// The gateway that the pod is.
    Gateway,
    /// A waypoint before the pod, or a Service behind one.
    Waypoint,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Target {
    kind: Box<str>,
    name: Box<str>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    selector: SelectorSpec,
    target_ref: Option<Target>,
    target_refs: Vec<Target>,
    action: Action,
    rules: Vec<RuleSpec>,
}

/// A rule: any of the sources, any of the operations, and all conditions.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RuleSpec {
    pub(super) from: Vec<FromSpec>,
    pub(super) to: Vec<ToSpec>,
    pub(super) when: Vec<Condition>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct FromSpec {
    pub(super) source: Source,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ToSpec {
    pub(super) operation: Operation,
}

/// Who calls: all that is said must be so.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Source {
    pub(super) principals: Vec<Box<str>>,
    pub(super) not_principals: Vec<Box<str>>,
    pub(super) request_principals: Vec<Box<str>>,
    pub(super) not_request_principals: Vec<Box<str>>,
    pub(super) namespaces: Vec<Box<str>>,
    pub(super) not_namespaces: Vec<Box<str>>,
    pub(super) service_accounts: Vec<Box<str>>,
    pub(super) not_service_accounts: Vec<Box<str>>,
    pub(super) trust_domains: Vec<Box<str>>,
    pub(super) not_trust_domains: Vec<Box<str>>,
    pub(super) ip_blocks: Vec<Box<str>>,
    pub(super) not_ip_blocks: Vec<Box<str>>,
    pub(super) remote_ip_blocks: Vec<Box<str>>,
    pub(super) not_remote_ip_blocks: Vec<Box<str>>,
}

/// What is asked for: all that is said must be so.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Operation {
    pub(super) hosts: Vec<Box<str>>,
    pub(super) not_hosts: Vec<Box<str>>,
    pub(super) ports: Vec<Box<str>>,
    pub(super) not_ports: Vec<Box<str>>,
    pub(super) methods: Vec<Box<str>>,
    pub(super) not_methods: Vec<Box<str>>,
    pub(super) paths: Vec<Box<str>>,
    pub(super) not_paths: Vec<Box<str>>,
}

/// A further condition.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Condition {
    pub(super) key: Box<str>,
    pub(super) values: Vec<Box<str>>,
    pub(super) not_values: Vec<Box<str>>,
}

// === impl Action ===

impl From<Box<str>> for Action {
    fn from(text: Box<str>) -> Self {
        match &*text {
            "DENY" => Self::Deny,
            "AUDIT" => Self::Audit,
            "CUSTOM" => Self::Custom,
            _ => Self::Allow,
        }
    }
}

impl Action {
    /// As the API spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "ALLOW",
            Self::Deny => "DENY",
            Self::Audit => "AUDIT",
            Self::Custom => "CUSTOM",
        }
    }
}

// === impl AuthorizationPolicy ===

impl AuthorizationPolicy {
    pub(super) fn read(object: &PolicyObject) -> Result<Self, Misunderstood> {
        let mut spec: Spec = read::spec(object)?;
        spec.target_refs.extend(spec.target_ref);
        if !spec.target_refs.is_empty() {
            // Only one of both is allowed, and what is named is more than what is chosen.
            spec.selector = SelectorSpec::default();
        }
        Ok(Self {
            meta: Meta::of(object),
            action: spec.action,
            dry_run: find(&object.annotations, "istio.io/dry-run") == Some("true"),
            selector: spec.selector.match_labels,
            targets: spec.target_refs,
            rules: spec.rules,
        })
    }

    /// What it is for, if it is for a pod by itself: what targets name is something else.
    fn attachment(&self, server: &Pod, root: &str) -> Option<Attachment> {
        if self.targets.is_empty() {
            if !self.selector.is_empty() {
                return self
                    .selector
                    .select(&server.traits)
                    .then_some(Attachment::Workload);
            }
            return Some(match self.meta.namespace() == root {
                true => Attachment::Mesh,
                false => Attachment::Namespace,
            });
        }
        let gateway = gateway_of(server)?;
        let own = self.meta.namespace() == &*server.namespace;
        (own && self.targets("Gateway", gateway)).then_some(Attachment::Gateway)
    }

    fn targets(&self, kind: &str, name: &str) -> bool {
        self.targets
            .iter()
            .any(|target| *target.kind == *kind && *target.name == *name)
    }

    /// Whether a waypoint enforces it for a Service.
    fn is_for(&self, waypoint: &Waypoint, service: Option<(&str, &str)>, root: &str) -> bool {
        let namespace = self.meta.namespace();
        (namespace == &*waypoint.namespace && self.targets("Gateway", &waypoint.name))
            || self.is_for_service(service)
            || (namespace == root && self.targets("GatewayClass", "istio-waypoint"))
    }

    fn is_for_service(&self, service: Option<(&str, &str)>) -> bool {
        service.is_some_and(|(namespace, name)| {
            self.meta.namespace() == namespace && self.targets("Service", name)
        })
    }

    fn conditions(&self) -> impl Iterator<Item = &Condition> {
        self.rules.iter().flat_map(|rule| &rule.when)
    }
}

impl Declared for AuthorizationPolicy {
    fn meta(&self) -> &Meta {
        &self.meta
    }
}

impl Choosing for AuthorizationPolicy {
    fn selector(&self) -> &Labels {
        &self.selector
    }
}

// === impl RuleSpec ===

impl RuleSpec {
    /// Whether it asks for what only HTTP has.
    pub(super) fn names_requests(&self) -> bool {
        let from = self.from.iter();
        let to = self.to.iter();
        from.map(|from| &from.source).any(Source::names_requests)
            || to.map(|to| &to.operation).any(Operation::names_requests)
            || self.when.iter().any(Condition::names_requests)
    }
}

// === impl Source ===

impl Source {
    fn names_identities(&self) -> bool {
        let lists = [
            &self.principals,
            &self.not_principals,
            &self.namespaces,
            &self.not_namespaces,
            &self.service_accounts,
            &self.not_service_accounts,
            &self.trust_domains,
            &self.not_trust_domains,
        ];
        lists.iter().any(|list| !list.is_empty())
    }

    pub(super) fn names_requests(&self) -> bool {
        !self.request_principals.is_empty() || !self.not_request_principals.is_empty()
    }

    /// Addresses behind proxies, from a field of the request or of the PROXY protocol.
    pub(super) fn names_remote(&self) -> bool {
        !self.remote_ip_blocks.is_empty() || !self.not_remote_ip_blocks.is_empty()
    }

    fn names_unseen(&self) -> bool {
        self.names_requests() || self.names_remote()
    }

    /// Whether it asks for anything that the node's proxy knows.
    pub(super) fn names_connections(&self) -> bool {
        self.names_identities() || !self.ip_blocks.is_empty() || !self.not_ip_blocks.is_empty()
    }
}

// === impl Operation ===

impl Operation {
    pub(super) fn names_requests(&self) -> bool {
        let lists = [
            &self.hosts,
            &self.not_hosts,
            &self.methods,
            &self.not_methods,
            &self.paths,
            &self.not_paths,
        ];
        lists.iter().any(|list| !list.is_empty())
    }

    pub(super) fn names_ports(&self) -> bool {
        !self.ports.is_empty() || !self.not_ports.is_empty()
    }
}

// === impl Condition ===

impl Condition {
    fn names_identities(&self) -> bool {
        matches!(
            &*self.key,
            "source.principal" | "source.namespace" | "source.serviceAccount"
        )
    }

    pub(super) fn names_requests(&self) -> bool {
        self.key.starts_with("request.")
    }

    /// Whether the node's proxy knows it.
    pub(super) fn names_connections(&self) -> bool {
        matches!(
            &*self.key,
            "source.ip"
                | "source.namespace"
                | "source.principal"
                | "destination.ip"
                | "destination.port"
        )
    }

    fn names_unseen(&self) -> bool {
        !self.names_identities() && !matches!(&*self.key, "source.ip" | "destination.port")
    }
}

// === impl Istio ===

impl Istio {
    /// Policies that a pod's own proxy, or that of its node, has: those of the whole mesh first, and in
    /// each namespace those for all of it.
    pub(super) fn policies_of<'a>(
        &'a self,
        server: &'a Pod,
    ) -> impl Iterator<Item = (&'a Arc<AuthorizationPolicy>, Attachment)> {
        let root = &*self.mesh_config().root_namespace;
        let policies = &self.authorization_policies;
        self.near(server)
            .flat_map(move |namespace| {
                let choosing = policies.choosing(namespace, &server.traits);
                policies.general(namespace).iter().chain(choosing)
            })
            .filter_map(move |policy| Some((policy, policy.attachment(server, root)?)))
    }

    /// Policies for something that has a name, in the mesh's namespace and the pod's.
    fn with_targets<'a>(
        &'a self,
        server: &'a Pod,
    ) -> impl Iterator<Item = &'a Arc<AuthorizationPolicy>> {
        self.near(server)
            .flat_map(|namespace| self.authorization_policies.general(namespace))
            .filter(|policy| !policy.targets.is_empty())
    }

    /// Namespaces whose policies have to do with a pod.
    fn near<'a>(&'a self, server: &'a Pod) -> impl Iterator<Item = &'a str> {
        let root = &*self.mesh_config().root_namespace;
        let own = Some(&*server.namespace).filter(|own| *own != root);
        std::iter::once(root).chain(own)
    }

    /// Policies that a waypoint enforces for a Service.
    pub(super) fn policies_at<'a>(
        &'a self,
        waypoint: &'a Waypoint,
        service: Option<(&'a str, &'a str)>,
    ) -> impl Iterator<Item = &'a Arc<AuthorizationPolicy>> {
        let root = &*self.mesh_config().root_namespace;
        let mut namespaces = vec![root, &*waypoint.namespace];
        namespaces.extend(service.map(|(namespace, _)| namespace));
        namespaces.sort_unstable();
        namespaces.dedup();
        namespaces
            .into_iter()
            .flat_map(|namespace| self.authorization_policies.general(namespace))
            .filter(move |policy| policy.is_for(waypoint, service, root))
    }

    /// Whether an identity is a principal as policies write it, `trust.domain/ns/shop/sa/web`. Trust
    /// domains that mean the mesh's own are the same.
    pub fn principal_matches(&self, pattern: &str, identity: &Identity) -> bool {
        let text = identity.text.strip_prefix("spiffe://");
        let text = text.unwrap_or(&identity.text);
        if pattern_matches(pattern, text) {
            return true;
        }
        let (Some((wanted, rest)), Some((domain, path))) =
            (pattern.split_once('/'), text.split_once('/'))
        else {
            return false;
        };
        let mesh = self.mesh_config();
        mesh.is_own_trust_domain(wanted)
            && mesh.is_own_trust_domain(domain)
            && pattern_matches(rest, path)
    }
}

/// Services that choose a pod, in the order of their names.
pub(super) fn services_of<'a>(
    context: &'a Context,
    pod: &'a Pod,
) -> impl Iterator<Item = &'a ServiceFacts> {
    let mut found: Vec<&ServiceFacts> = context
        .services
        .values()
        .map(|service| &**service)
        .filter(|service| chooses(service, pod))
        .collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found.into_iter()
}

/// Whether a Service chooses a pod.
pub(super) fn chooses(service: &ServiceFacts, pod: &Pod) -> bool {
    let mut selector = service.selector.iter();
    !service.selector.is_empty()
        && *service.namespace == *pod.namespace
        && selector.all(|(name, value)| pod.traits.label(name) == Some(value))
}

/// The Service that a request was for, if it chooses the pod that got it.
pub(super) fn service_for<'a>(
    context: &'a Context,
    server: &Pod,
    host: Option<&str>,
) -> Option<&'a ServiceFacts> {
    let (namespace, name) = service_of(host?)?;
    let service = context.service(namespace, name)?;
    chooses(service, server).then_some(&**service)
}

#[cfg(test)]
mod tests;
