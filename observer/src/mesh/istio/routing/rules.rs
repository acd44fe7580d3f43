//! Rules as they are declared, whether or not anything matches them.

use crate::{
    mesh::{
        decision::DeclaredRule,
        istio::{Istio, store::Declared, virtual_service::Rewrite},
    },
    model::policy::ObjectRef,
};

/// A rule that no request reaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreachableRule {
    /// The VirtualService.
    pub object: ObjectRef,
    /// Name of the rule, or its number from 0.
    pub name: Box<str>,
    /// The rule before it that takes everything.
    pub by: Box<str>,
}

// === impl Istio ===

impl Istio {
    /// All rules of all VirtualServices, in no order; those of gateways too.
    pub fn rules(&self) -> impl Iterator<Item = DeclaredRule> {
        self.virtual_service_list
            .all()
            .filter(|service| !service.hosts.is_empty())
            .flat_map(move |service| {
                let lists = service.lists().into_iter();
                lists.flat_map(move |list| {
                    self.candidates(service, list).map(move |candidate| {
                        let rule = self.resolved(&candidate, service.meta().namespace());
                        DeclaredRule {
                            object: rule.object.clone(),
                            name: rule.name.clone(),
                            hosts: service.hosts.clone(),
                            rule,
                        }
                    })
                })
            })
    }

    /// Rules that no request of a sidecar reaches, as one before them takes everything; in no order.
    pub fn unreachable_rules(&self) -> impl Iterator<Item = UnreachableRule> {
        self.virtual_service_list.all().flat_map(|service| {
            service.lists().into_iter().flat_map(|list| {
                let first = list.iter().position(|route| route.takes_all());
                let by = first.and_then(|at| list.get(at));
                let rest = first.and_then(|at| list.get(at + 1..)).unwrap_or_default();
                rest.iter().filter_map(move |route| {
                    Some(UnreachableRule {
                        object: route.rule.object.clone(),
                        name: route.rule.name.clone(),
                        by: by?.rule.name.clone(),
                    })
                })
            })
        })
    }

    /// What a rule changes of a request before the server gets it: name what a routing named.
    pub fn rewrite(&self, object: &ObjectRef, rule: &str) -> Option<&Rewrite> {
        let service = self
            .virtual_service_list
            .named(&object.namespace, &object.name)?;
        let mut routes = service.lists().into_iter().flatten();
        let route = routes.find(|route| *route.rule.name == *rule)?;
        route.rewrite.as_ref()
    }
}
