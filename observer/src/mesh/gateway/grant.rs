//! Which namespaces let routes of others lead to their Services.

use std::sync::Arc;

use super::{content::GrantContent, route::Route};
use crate::mesh::shelf::Shelf;

/// `ReferenceGrant`s, by namespace.
#[derive(Debug, Default)]
pub(in crate::mesh) struct Grants {
    by_namespace: Shelf<Box<str>, GrantContent>,
}

// === impl Grants ===

impl Grants {
    pub(super) fn insert(&mut self, namespace: &str, uid: &str, grant: GrantContent) {
        self.by_namespace
            .insert(namespace.into(), uid, Arc::new(grant));
    }

    pub(super) fn remove(&mut self, namespace: &str, uid: &str) {
        self.by_namespace.remove(namespace, uid);
    }

    /// Whether a route may lead to a Service; in its own namespace it may.
    pub(super) fn allow(&self, route: &Route, namespace: &str, name: &str) -> bool {
        let object = &route.object;
        if *object.namespace == *namespace {
            return true;
        }
        self.by_namespace.get(namespace).any(|grant| {
            let from = grant.spec.from.iter().any(|from| {
                from.group == object.group
                    && from.kind == object.kind
                    && from.namespace == object.namespace
            });
            let to = grant.spec.to.iter().any(|to| {
                to.group.is_empty()
                    && *to.kind == *"Service"
                    && (to.name.is_empty() || *to.name == *name)
            });
            from && to
        })
    }
}
