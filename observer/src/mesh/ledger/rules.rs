//! Policies that are about requests, identities and ports of the network, found by the pods and
//! Services that they are for.

use std::time::Duration;

use hashbrown::HashMap;
use serde::Deserialize;

use crate::{
    mesh::{policy::Policies, read::read, selector::Selector},
    model::{
        kubernetes::Pod,
        policy::{ObjectRef, PolicyKind, PolicyObject, find},
        time::Monotonic,
    },
};

/// How long the rules are kept while what is declared changes all the time.
const AT_MOST_EVERY: Duration = Duration::from_secs(10);
/// Kinds that are read.
const KINDS: [PolicyKind; 6] = [
    PolicyKind::IstioAuthorizationPolicy,
    PolicyKind::RequestAuthentication,
    PolicyKind::VirtualService,
    PolicyKind::HttpRoute,
    PolicyKind::GrpcRoute,
    PolicyKind::NetworkPolicy,
];

/// Policies, found by what they are for.
#[derive(Debug, Default)]
pub(super) struct Rules {
    /// Revision of the policies that they were made of, and when that was.
    made: Option<(u64, Monotonic)>,
    root: Box<str>,
    /// That refuse some by their identity.
    identities: Vec<Selecting>,
    /// About requests, and chosen by labels of pods.
    requests: Vec<Selecting>,
    /// About requests, by what they are attached to: kind, namespace and name.
    attached: HashMap<(&'static str, Box<str>, Box<str>), ObjectRef>,
    networks: Vec<Network>,
}

/// A policy that chooses pods.
#[derive(Debug)]
struct Selecting {
    object: ObjectRef,
    selector: Selector,
}

/// A NetworkPolicy for what comes in.
#[derive(Debug)]
struct Network {
    object: ObjectRef,
    selector: Selector,
    /// `None` is any port.
    rules: Vec<Option<Vec<NetworkPort>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Content<S> {
    spec: S,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct AuthorizationSpec {
    selector: Selector,
    target_ref: Option<TargetSpec>,
    target_refs: Vec<TargetSpec>,
    action: Box<str>,
    rules: Vec<RuleSpec>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TargetSpec {
    kind: Box<str>,
    namespace: Option<Box<str>>,
    name: Box<str>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RuleSpec {
    from: Vec<FromSpec>,
    to: Vec<ToSpec>,
    when: Vec<WhenSpec>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct FromSpec {
    source: SourceSpec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct SourceSpec {
    principals: Vec<Box<str>>,
    not_principals: Vec<Box<str>>,
    namespaces: Vec<Box<str>>,
    not_namespaces: Vec<Box<str>>,
    service_accounts: Vec<Box<str>>,
    not_service_accounts: Vec<Box<str>>,
    request_principals: Vec<Box<str>>,
    not_request_principals: Vec<Box<str>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ToSpec {
    operation: OperationSpec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct OperationSpec {
    hosts: Vec<Box<str>>,
    not_hosts: Vec<Box<str>>,
    methods: Vec<Box<str>>,
    not_methods: Vec<Box<str>>,
    paths: Vec<Box<str>>,
    not_paths: Vec<Box<str>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct WhenSpec {
    key: Box<str>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct VirtualServiceSpec {
    hosts: Vec<Box<str>>,
    gateways: Vec<Box<str>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RouteSpec {
    parent_refs: Vec<TargetSpec>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct NetworkSpec {
    pod_selector: Selector,
    policy_types: Vec<Box<str>>,
    ingress: Vec<IngressSpec>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct IngressSpec {
    ports: Vec<NetworkPort>,
}

/// A port, a range of them, or the name of one; without any it is all of a protocol.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct NetworkPort {
    port: Option<PortName>,
    end_port: Option<u16>,
    protocol: Option<Box<str>>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum PortName {
    Number(u16),
    Name(Box<str>),
}

// === impl Rules ===

impl Rules {
    /// Revision of the policies that they were made of; 0 before the first.
    pub(super) fn revision(&self) -> u64 {
        self.made.map_or(0, |(revision, _)| revision)
    }

    /// Makes them anew, when they are of other policies than there are now. `false` when they are
    /// not, because they were made anew a short time ago.
    pub(super) fn keep_up(&mut self, policies: &Policies, now: Monotonic) -> bool {
        match self.made {
            Some((revision, _)) if revision == policies.revision() => return true,
            Some((_, at)) if now.since(at) < AT_MOST_EVERY => return false,
            _ => {}
        }
        *self = Self {
            made: Some((policies.revision(), now)),
            root: policies.istio().mesh_config().root_namespace.clone(),
            ..Self::default()
        };
        let wanted = |object: &&std::sync::Arc<PolicyObject>| KINDS.contains(&object.kind);
        for object in policies.objects().filter(wanted) {
            // What cannot be read is told with the objects that are not understood.
            let _read = self.read(object);
        }
        true
    }

    fn read(&mut self, object: &PolicyObject) -> Option<()> {
        match object.kind {
            PolicyKind::IstioAuthorizationPolicy => {
                let content: Content<AuthorizationSpec> = read(object).ok()?;
                self.authorization(object, content.spec);
            }
            PolicyKind::RequestAuthentication => {
                let content: Content<AuthorizationSpec> = read(object).ok()?;
                let spec = content.spec;
                self.attach(object, spec.target_refs.iter().chain(&spec.target_ref));
            }
            PolicyKind::VirtualService => {
                let content: Content<VirtualServiceSpec> = read(object).ok()?;
                let spec = content.spec;
                let in_mesh =
                    spec.gateways.is_empty() || spec.gateways.iter().any(|it| **it == *"mesh");
                for host in spec.hosts.iter().filter(|_| in_mesh) {
                    let (namespace, name) = match host.contains('.') {
                        true => super::view::service_of(host)?,
                        false => (&*object.namespace, &**host),
                    };
                    let key = ("Service", namespace.into(), name.into());
                    self.attached.insert(key, object.reference());
                }
            }
            PolicyKind::HttpRoute | PolicyKind::GrpcRoute => {
                let content: Content<RouteSpec> = read(object).ok()?;
                self.attach(object, &content.spec.parent_refs);
            }
            PolicyKind::NetworkPolicy => {
                let content: Content<NetworkSpec> = read(object).ok()?;
                self.network(object, content.spec);
            }
            _ => {}
        }
        Some(())
    }

    fn authorization(&mut self, object: &PolicyObject, spec: AuthorizationSpec) {
        if find(&object.annotations, "istio.io/dry-run") == Some("true") {
            return;
        }
        let about_requests = spec.rules.iter().any(RuleSpec::is_about_requests);
        let targets: Vec<&TargetSpec> = spec.target_refs.iter().chain(&spec.target_ref).collect();
        if !targets.is_empty() {
            self.attach(object, targets);
            return;
        }
        let by_identity =
            &*spec.action == "DENY" && spec.rules.iter().any(RuleSpec::is_by_identity);
        let selecting = |selector: &Selector| Selecting {
            object: object.reference(),
            selector: selector.clone(),
        };
        if by_identity {
            self.identities.push(selecting(&spec.selector));
        }
        if about_requests {
            self.requests.push(selecting(&spec.selector));
        }
    }

    fn attach<'a>(
        &mut self,
        object: &PolicyObject,
        targets: impl IntoIterator<Item = &'a TargetSpec>,
    ) {
        for target in targets {
            let kind = match &*target.kind {
                "Service" => "Service",
                // Routes may leave it out.
                "Gateway" | "" => "Gateway",
                _ => continue,
            };
            let namespace = target.namespace.as_ref().unwrap_or(&object.namespace);
            let key = (kind, namespace.clone(), target.name.clone());
            self.attached.insert(key, object.reference());
        }
    }

    fn network(&mut self, object: &PolicyObject, spec: NetworkSpec) {
        let types = &spec.policy_types;
        if !types.is_empty() && !types.iter().any(|it| **it == *"Ingress") {
            return;
        }
        let ports = |rule: IngressSpec| (!rule.ports.is_empty()).then_some(rule.ports);
        self.networks.push(Network {
            object: object.reference(),
            selector: spec.pod_selector,
            rules: spec.ingress.into_iter().map(ports).collect(),
        });
    }

    /// A policy that is to refuse some callers of a pod by their identity.
    pub(super) fn by_identity(&self, pod: &Pod) -> Option<&ObjectRef> {
        self.first(&self.identities, pod)
    }

    /// A policy about requests to a pod, that is attached to no waypoint.
    pub(super) fn about_requests(&self, pod: &Pod) -> Option<&ObjectRef> {
        self.first(&self.requests, pod)
    }

    /// A policy or route about requests that is attached to a Service, or to a waypoint.
    pub(super) fn attached(
        &self,
        kind: &'static str,
        namespace: &str,
        name: &str,
    ) -> Option<&ObjectRef> {
        self.attached.get(&(kind, namespace.into(), name.into()))
    }

    fn first<'a>(&self, policies: &'a [Selecting], pod: &Pod) -> Option<&'a ObjectRef> {
        let found = policies.iter().find(|policy| {
            let namespace = &policy.object.namespace;
            (*namespace == self.root || namespace[..] == pod.namespace[..])
                && policy.selector.matches(&pod.traits.labels)
        });
        found.map(|policy| &policy.object)
    }

    /// NetworkPolicies that let nothing pass to a port of a pod, but to the port of its tunnel.
    pub(super) fn voided(&self, pod: &Pod, port: u16, tunnel: u16) -> Vec<&ObjectRef> {
        let of_pod: Vec<&Network> = self
            .networks
            .iter()
            .filter(|network| network.object.namespace[..] == pod.namespace[..])
            .filter(|network| network.selector.matches(&pod.traits.labels))
            .collect();
        // Whoever it is from: who may, may.
        let passes = |port: u16| {
            let rules = of_pod.iter().flat_map(|network| &network.rules);
            rules.into_iter().any(|ports| {
                ports
                    .as_ref()
                    .is_none_or(|ports| ports.iter().any(|it| it.is(port, pod)))
            })
        };
        if port == 0 || passes(port) || !passes(tunnel) {
            return Vec::new();
        }
        of_pod.iter().map(|network| &network.object).collect()
    }
}

// === impl RuleSpec ===

impl RuleSpec {
    fn is_by_identity(&self) -> bool {
        let named = |source: &SourceSpec| {
            [
                &source.principals,
                &source.not_principals,
                &source.namespaces,
                &source.not_namespaces,
                &source.service_accounts,
                &source.not_service_accounts,
            ]
            .into_iter()
            .any(|names| !names.is_empty())
        };
        self.from.iter().any(|from| named(&from.source))
            || self
                .when
                .iter()
                .any(|when| matches!(&*when.key, "source.principal" | "source.namespace"))
    }

    fn is_about_requests(&self) -> bool {
        let of_request = |operation: &OperationSpec| {
            [
                &operation.hosts,
                &operation.not_hosts,
                &operation.methods,
                &operation.not_methods,
                &operation.paths,
                &operation.not_paths,
            ]
            .into_iter()
            .any(|names| !names.is_empty())
        };
        let by_token = |source: &SourceSpec| {
            !source.request_principals.is_empty() || !source.not_request_principals.is_empty()
        };
        self.to.iter().any(|to| of_request(&to.operation))
            || self.from.iter().any(|from| by_token(&from.source))
            || self
                .when
                .iter()
                .any(|when| when.key.starts_with("request."))
    }
}

// === impl NetworkPort ===

impl NetworkPort {
    fn is(&self, port: u16, pod: &Pod) -> bool {
        if self.protocol.as_deref().is_some_and(|it| it != "TCP") {
            return false;
        }
        match (&self.port, self.end_port) {
            (None, _) => true,
            (Some(PortName::Number(first)), last) => {
                (*first..=last.unwrap_or(*first)).contains(&port)
            }
            (Some(PortName::Name(name)), _) => pod
                .traits
                .ports
                .iter()
                .any(|(known, number)| known == name && *number == port),
        }
    }
}
