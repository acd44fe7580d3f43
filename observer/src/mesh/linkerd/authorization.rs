//! Which objects authorize clients of a `Server` or of a route of it.

use std::sync::Arc;

use super::{
    client::{IdentityMatch, Networks, Requirement, Tls},
    content::{
        AuthorizationPolicySpec, MeshTlsAuthenticationSpec, NetworkAuthenticationSpec, Ref,
        ServerAuthorizationSpec,
    },
    server::Server,
};
use crate::{
    mesh::{
        policy::Misunderstood,
        selector::{Selected, Selector},
        shelf::{Pair, Shelf, Three, Triple, Two},
    },
    model::policy::{ObjectRef, PolicyObject},
};

/// All that authorizes.
#[derive(Debug, Default)]
pub(super) struct Authorizations {
    /// By namespace, kind with group, and name of what they are about.
    policies: Shelf<Three, Policy>,
    /// By namespace and name of the `Server` that they name.
    by_server: Shelf<Two, ServerAuthorization>,
    /// By labels of `Server`s.
    by_labels: Selected<ServerAuthorization>,
    identities: Shelf<Two, MeshTls>,
    networks: Shelf<Two, Network>,
}

/// An `AuthorizationPolicy`.
#[derive(Debug)]
pub(super) struct Policy {
    object: ObjectRef,
    kind: Box<str>,
    name: Box<str>,
    required: Vec<Ref>,
}

/// A `ServerAuthorization`.
#[derive(Debug)]
pub(super) struct ServerAuthorization {
    object: ObjectRef,
    server: Option<Box<str>>,
    selector: Selector,
    requirement: Requirement,
}

/// A `MeshTLSAuthentication`.
#[derive(Debug)]
pub(super) struct MeshTls {
    object: ObjectRef,
    created: u64,
    identities: Vec<IdentityMatch>,
}

/// A `NetworkAuthentication`.
#[derive(Debug)]
pub(super) struct Network {
    object: ObjectRef,
    created: u64,
    content: NetworkAuthenticationSpec,
}

/// An object that authorizes, with what it demands; or why it authorizes nobody.
#[derive(Debug)]
pub(super) struct Authorization {
    pub(super) object: ObjectRef,
    pub(super) requirement: Result<Requirement, String>,
}

// === impl Authorizations ===

impl Authorizations {
    pub(super) fn insert_policy(&mut self, uid: &str, policy: &Arc<Policy>) {
        let namespace = policy.object.namespace.clone();
        let key = (namespace, policy.kind.clone(), policy.name.clone());
        self.policies.insert(key, uid, policy.clone());
    }

    pub(super) fn remove_policy(&mut self, uid: &str, policy: &Policy) {
        let key = Triple(&policy.object.namespace, &policy.kind, &policy.name);
        self.policies.remove(&key, uid);
    }

    pub(super) fn insert_server(&mut self, uid: &str, it: &Arc<ServerAuthorization>) {
        let namespace = &it.object.namespace;
        match &it.server {
            Some(server) => {
                let key = (namespace.clone(), server.clone());
                self.by_server.insert(key, uid, it.clone());
            }
            None => self
                .by_labels
                .insert(namespace, &it.selector, uid, it.clone()),
        }
    }

    pub(super) fn remove_server(&mut self, uid: &str, it: &ServerAuthorization) {
        let namespace = &it.object.namespace;
        match &it.server {
            Some(server) => self.by_server.remove(&Pair(namespace, server), uid),
            None => self.by_labels.remove(namespace, &it.selector, uid),
        }
    }

    pub(super) fn insert_identities(&mut self, uid: &str, it: &Arc<MeshTls>) {
        let key = (it.object.namespace.clone(), it.object.name.clone());
        self.identities.insert(key, uid, it.clone());
    }

    pub(super) fn remove_identities(&mut self, uid: &str, it: &MeshTls) {
        self.identities
            .remove(&Pair(&it.object.namespace, &it.object.name), uid);
    }

    pub(super) fn insert_networks(&mut self, uid: &str, it: &Arc<Network>) {
        let key = (it.object.namespace.clone(), it.object.name.clone());
        self.networks.insert(key, uid, it.clone());
    }

    pub(super) fn remove_networks(&mut self, uid: &str, it: &Network) {
        self.networks
            .remove(&Pair(&it.object.namespace, &it.object.name), uid);
    }

    /// What authorizes clients of a `Server`, whatever they ask for, by name.
    pub(super) fn of_server(&self, server: &Server) -> Vec<Authorization> {
        let (namespace, name) = (&*server.object.namespace, &*server.object.name);
        let named = self.by_server.get(&Pair(namespace, name));
        let chosen = self
            .by_labels
            .candidates(namespace, &server.labels)
            .filter(|it| it.selector.matches(&server.labels));
        let mut all: Vec<Authorization> = named
            .chain(chosen)
            .map(|it| Authorization {
                object: it.object.clone(),
                requirement: Ok(it.requirement.clone()),
            })
            .collect();
        let kind = target("policy.linkerd.io", "Server");
        let policies = self.policies.get(&Triple(namespace, &kind, name));
        let kind = target("", "Namespace");
        let wide = self.policies.get(&Triple(namespace, &kind, namespace));
        all.extend(
            policies
                .chain(wide)
                .map(|policy| self.authorization(policy)),
        );
        all.sort_by(|left, right| left.object.cmp(&right.object));
        all
    }

    /// What authorizes clients of one route of a `Server`, by name.
    pub(super) fn of_route(&self, route: &ObjectRef) -> Vec<Authorization> {
        let kind = target(&route.group, &route.kind);
        let policies = self
            .policies
            .get(&Triple(&route.namespace, &kind, &route.name));
        let mut all: Vec<Authorization> =
            policies.map(|policy| self.authorization(policy)).collect();
        all.sort_by(|left, right| left.object.cmp(&right.object));
        all
    }

    fn authorization(&self, policy: &Policy) -> Authorization {
        Authorization {
            object: policy.object.clone(),
            requirement: self.requirement(policy),
        }
    }

    /// All that is required must be there, and once of each sort.
    fn requirement(&self, policy: &Policy) -> Result<Requirement, String> {
        let own = &policy.object.namespace;
        let mut identities: Option<Vec<IdentityMatch>> = None;
        let mut networks = None;
        for required in &policy.required {
            let namespace = required.namespace.as_deref().unwrap_or(own);
            let key = Pair(namespace, &required.name);
            let missing = || {
                let (kind, name) = (&required.kind, &required.name);
                format!("there is no {kind} {namespace}/{name}")
            };
            let found = match &*required.kind {
                "MeshTLSAuthentication" => {
                    // Of two of one name the later is there still.
                    let all = self.identities.get(&key);
                    let it = all.max_by_key(|it| (it.created, &it.object));
                    it.ok_or_else(missing)?.identities.clone()
                }
                "ServiceAccount" => vec![IdentityMatch::account(required, own)],
                _ => {
                    let all = self.networks.get(&key);
                    let it = all.max_by_key(|it| (it.created, &it.object));
                    let it = it.ok_or_else(missing)?.content.networks.clone();
                    if networks.replace(it).is_some() {
                        return Err("it requires two NetworkAuthentications".to_owned());
                    }
                    continue;
                }
            };
            if identities.replace(found).is_some() {
                return Err("it requires two identities at once".to_owned());
            }
        }
        Ok(Requirement {
            networks: networks.map_or(Networks::Any, Networks::Of),
            tls: identities.map_or(Tls::Nothing, Tls::Identities),
        })
    }
}

// === impl Policy ===

impl Policy {
    pub(super) fn read(
        object: &PolicyObject,
        spec: AuthorizationPolicySpec,
    ) -> Result<Self, Misunderstood> {
        let it = spec.target_ref;
        let known = matches!(
            (&*it.group, &*it.kind),
            ("policy.linkerd.io", "Server" | "HTTPRoute")
                | ("gateway.networking.k8s.io", "HTTPRoute" | "GRPCRoute")
                | ("" | "core", "Namespace")
        );
        if !known {
            return Err(format!(
                "spec.targetRef: {} of group `{}` is no target",
                it.kind, it.group
            ));
        }
        if let Some(namespace) = &it.namespace
            && *namespace != object.namespace
        {
            return Err(format!(
                "spec.targetRef.namespace: `{namespace}` is not the policy's own"
            ));
        }
        for (number, required) in spec.required_authentication_refs.iter().enumerate() {
            if !matches!(
                (&*required.group, &*required.kind),
                (
                    "policy.linkerd.io",
                    "MeshTLSAuthentication" | "NetworkAuthentication"
                ) | ("" | "core", "ServiceAccount")
            ) {
                return Err(format!(
                    "spec.requiredAuthenticationRefs[{number}]: {} of group `{}` is no authentication",
                    required.kind, required.group
                ));
            }
        }
        Ok(Self {
            object: object.reference(),
            kind: target(&it.group, &it.kind),
            name: it.name,
            required: spec.required_authentication_refs,
        })
    }
}

fn target(group: &str, kind: &str) -> Box<str> {
    let group = if group == "core" { "" } else { group };
    format!("{kind}/{group}").into()
}

// === impl ServerAuthorization ===

impl ServerAuthorization {
    pub(super) fn read(
        object: &PolicyObject,
        spec: ServerAuthorizationSpec,
    ) -> Result<Self, Misunderstood> {
        let (server, selector) = match (spec.server.name, spec.server.selector) {
            (Some(name), _) => (Some(name), Selector::default()),
            (None, Some(selector)) => (None, selector),
            (None, None) => {
                return Err("spec.server: neither name nor selector is there".to_owned());
            }
        };
        Ok(Self {
            object: object.reference(),
            server,
            selector,
            requirement: Requirement::of(spec.client, &object.namespace)?,
        })
    }
}

// === impl MeshTls ===

impl MeshTls {
    pub(super) fn read(
        object: &PolicyObject,
        spec: MeshTlsAuthenticationSpec,
    ) -> Result<Self, Misunderstood> {
        let own = &object.namespace;
        let mut identities: Vec<IdentityMatch> = spec
            .identities
            .iter()
            .map(|it| IdentityMatch::new(it))
            .collect();
        for (number, it) in spec.identity_refs.iter().enumerate() {
            identities.push(match &*it.kind {
                "ServiceAccount" => IdentityMatch::account(it, own),
                "Namespace" => IdentityMatch::Namespace(it.name.clone()),
                other => {
                    return Err(format!(
                        "spec.identityRefs[{number}].kind: `{other}` has no identity"
                    ));
                }
            });
        }
        Ok(Self {
            object: object.reference(),
            created: object.created,
            identities,
        })
    }
}

// === impl Network ===

impl Network {
    pub(super) fn new(object: &PolicyObject, content: NetworkAuthenticationSpec) -> Self {
        Self {
            object: object.reference(),
            created: object.created,
            content,
        }
    }
}
