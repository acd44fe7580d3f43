//! What the policies of a pod name, and which of them do nothing for it.

use super::{Action, Attachment, AuthorizationPolicy, Condition, RuleSpec, Source, services_of};
use crate::{
    mesh::{istio::Istio, policy::Context},
    model::{
        kubernetes::Pod,
        mesh::Plane,
        policy::{ObjectRef, ServiceFacts},
    },
};

/// An AuthorizationPolicy that has to do with a pod, and what it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorizationFacts {
    /// What names it.
    pub object: ObjectRef,
    /// What it does.
    pub action: Action,
    /// What it is for.
    pub attachment: Attachment,
    /// It is only logged.
    pub dry_run: bool,
    /// Why it does not do what it says for this pod; `None` when it does.
    pub unenforced: Option<&'static str>,
    /// It asks for what only mutual TLS proves: principals, namespaces, service accounts.
    pub names_identities: bool,
    /// It asks for what only HTTP has: methods, paths, hosts, tokens, fields.
    pub names_requests: bool,
    /// It asks for what is never observed: tokens, addresses behind proxies, further conditions.
    pub names_unseen: bool,
    /// `principals` of all rules, as written.
    pub principals: Vec<Box<str>>,
    /// `namespaces` of all rules, as written.
    pub namespaces: Vec<Box<str>>,
    /// `serviceAccounts` of all rules, as `namespace/name`.
    pub service_accounts: Vec<Box<str>>,
    /// `methods` of all rules, as written.
    pub methods: Vec<Box<str>>,
    /// `paths` of all rules, as written.
    pub paths: Vec<Box<str>>,
    /// `hosts` of all rules, as written.
    pub hosts: Vec<Box<str>>,
}

fn all<'a, T: 'a>(
    items: impl Iterator<Item = &'a T>,
    list: impl Fn(&'a T) -> &'a Vec<Box<str>>,
) -> Vec<Box<str>> {
    let mut found: Vec<Box<str>> = items.flat_map(list).cloned().collect();
    found.sort();
    found.dedup();
    found
}

// === impl AuthorizationPolicy ===

impl AuthorizationPolicy {
    fn facts(
        &self,
        attachment: Attachment,
        unenforced: Option<&'static str>,
    ) -> AuthorizationFacts {
        let sources = || {
            let rules = self.rules.iter();
            rules.flat_map(|rule| rule.from.iter().map(|from| &from.source))
        };
        let operations = || {
            let rules = self.rules.iter();
            rules.flat_map(|rule| rule.to.iter().map(|to| &to.operation))
        };
        let accounts = sources().flat_map(|source| &source.service_accounts);
        let namespace = self.meta.namespace();
        AuthorizationFacts {
            object: self.meta.reference.clone(),
            action: self.action,
            attachment,
            dry_run: self.dry_run,
            unenforced,
            names_identities: sources().any(Source::names_identities)
                || self.conditions().any(Condition::names_identities),
            names_requests: self.rules.iter().any(RuleSpec::names_requests),
            names_unseen: sources().any(Source::names_unseen)
                || self.conditions().any(Condition::names_unseen),
            principals: all(sources(), |source| &source.principals),
            namespaces: all(sources(), |source| &source.namespaces),
            service_accounts: accounts
                .map(|account| match account.contains('/') {
                    true => account.clone(),
                    false => format!("{namespace}/{account}").into(),
                })
                .collect(),
            methods: all(operations(), |operation| &operation.methods),
            paths: all(operations(), |operation| &operation.paths),
            hosts: all(operations(), |operation| &operation.hosts),
        }
    }
}

// === impl Istio ===

impl Istio {
    /// All AuthorizationPolicies that have to do with a pod, and what they name: also those of Services
    /// that choose it, and those that do nothing for it.
    pub fn policies_for(&self, context: &Context, server: &Pod) -> Vec<AuthorizationFacts> {
        let ambient = self.plane(server) == Plane::IstioAmbient;
        let mut found: Vec<AuthorizationFacts> = self
            .policies_of(server)
            .map(|(policy, attachment)| {
                let unenforced = match (self.plane(server), policy.action) {
                    (Plane::None | Plane::Linkerd, _) => Some("the pod has no proxy of Istio"),
                    (Plane::IstioAmbient, Action::Custom | Action::Audit) => {
                        Some("the node's proxy has only ALLOW and DENY")
                    }
                    _ if ambient && policy.rules.iter().any(RuleSpec::names_requests) => {
                        Some("the node's proxy knows nothing of HTTP: a waypoint would")
                    }
                    _ => None,
                };
                policy.facts(attachment, unenforced)
            })
            .collect();
        let services: Vec<&ServiceFacts> = services_of(context, server).collect();
        for policy in self.with_targets(server) {
            let mut of = services.iter().map(|it| (&*it.namespace, &*it.name));
            let waypoint_of = |service| self.service_waypoint(context, service);
            let root = &*self.mesh_config().root_namespace;
            let enforced = of.clone().any(|service| {
                waypoint_of(service)
                    .is_some_and(|waypoint| policy.is_for(&waypoint, Some(service), root))
            });
            if !enforced && !of.any(|service| policy.is_for_service(Some(service))) {
                continue;
            }
            let unenforced = match (enforced, ambient) {
                (true, true) => None,
                (true, false) => Some("clients with sidecars do not pass the waypoint"),
                (false, _) => Some("the Service has no waypoint"),
            };
            found.push(policy.facts(Attachment::Waypoint, unenforced));
        }
        found
    }
}
