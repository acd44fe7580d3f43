//! `HTTPLocalRateLimitPolicy`s: how many requests each proxy of a `Server` lets pass.

use std::sync::Arc;

use super::{
    LimitOverride, RateLimit,
    content::{RateLimitSpec, Ref},
};
use crate::{
    mesh::{
        policy::Misunderstood,
        shelf::{Pair, Shelf, Two},
    },
    model::{
        mesh::Identity,
        policy::{ObjectRef, PolicyObject},
    },
};

/// One, and what it is about.
#[derive(Debug)]
pub(super) struct Limited {
    server: Box<str>,
    created: u64,
    limit: RateLimit,
}

/// All of them, by namespace and name of their `Server`.
#[derive(Debug, Default)]
pub(super) struct Limits {
    shelf: Shelf<Two, Limited>,
}

// === impl Limited ===

impl Limited {
    pub(super) fn read(object: &PolicyObject, spec: RateLimitSpec) -> Result<Self, Misunderstood> {
        if *spec.target_ref.kind != *"Server" {
            let kind = spec.target_ref.kind;
            return Err(format!(
                "spec.targetRef.kind: `{kind}` has no limit of requests"
            ));
        }
        let account = |it: &Ref| {
            let namespace = it.namespace.clone();
            let namespace = namespace.unwrap_or_else(|| object.namespace.clone());
            (namespace, it.name.clone())
        };
        let overrides = spec.overrides.iter();
        Ok(Self {
            server: spec.target_ref.name,
            created: match object.created {
                0 => u64::MAX,
                created => created,
            },
            limit: RateLimit {
                object: object.reference(),
                total: spec.total.map(|it| it.requests_per_second),
                identity: spec.identity.map(|it| it.requests_per_second),
                overrides: overrides
                    .map(|it| LimitOverride {
                        accounts: it.client_refs.iter().map(account).collect(),
                        limit: it.requests_per_second,
                    })
                    .collect(),
            },
        })
    }
}

// === impl Limits ===

impl Limits {
    pub(super) fn insert(&mut self, uid: &str, it: &Arc<Limited>) {
        let key = (it.limit.object.namespace.clone(), it.server.clone());
        self.shelf.insert(key, uid, it.clone());
    }

    pub(super) fn remove(&mut self, uid: &str, it: &Limited) {
        let key = Pair(&it.limit.object.namespace, &it.server);
        self.shelf.remove(&key, uid);
    }

    /// That of a `Server`; of two the oldest, as only that one is accepted.
    pub(super) fn of(&self, server: &ObjectRef) -> Option<&RateLimit> {
        self.shelf
            .get(&Pair(&server.namespace, &server.name))
            .min_by_key(|it| (it.created, &it.limit.object))
            .map(|it| &it.limit)
    }
}

// === impl RateLimit ===

impl RateLimit {
    /// Requests per second that a client may make, beside [`Self::total`]; `None` without a limit. All
    /// clients without an identity share one.
    pub fn of(&self, identity: Option<&Identity>) -> Option<u32> {
        let own = |accounts: &[(Box<str>, Box<str>)]| {
            identity.is_some_and(|it| {
                accounts.iter().any(|(namespace, name)| {
                    *namespace == it.namespace && *name == it.service_account
                })
            })
        };
        let mut overrides = self.overrides.iter();
        let found = overrides.find(|it| own(&it.accounts));
        found.map(|it| it.limit).or(self.identity)
    }
}
