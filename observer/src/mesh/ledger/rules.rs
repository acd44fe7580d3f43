//! Routes that are declared for Services, and how far what is declared was taken in.

use std::{sync::Arc, time::Duration};

use hashbrown::HashMap;
use serde::Deserialize;

use super::view::service_of;
use crate::{
    mesh::{policy::Policies, read::read},
    model::{
        policy::{ObjectRef, PolicyKind, PolicyObject},
        time::Monotonic,
    },
};

/// How long the rules are kept while what is declared changes all the time.
const AT_MOST_EVERY: Duration = Duration::from_secs(10);

/// Routes by namespace and name of the Service that they are for.
#[derive(Debug, Default)]
pub(super) struct Rules {
    /// Revision of the policies that they were made of, and when that was.
    made: Option<(u64, Monotonic)>,
    routes: HashMap<(Box<str>, Box<str>), ObjectRef>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Content<S> {
    spec: S,
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
    parent_refs: Vec<ParentSpec>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ParentSpec {
    kind: Box<str>,
    namespace: Option<Box<str>>,
    name: Box<str>,
}

// === impl Rules ===

impl Rules {
    /// Revision of the policies that they were made of; 0 before the first.
    pub(super) fn revision(&self) -> u64 {
        self.made.map_or(0, |(revision, _)| revision)
    }

    /// Makes them anew, when they are of other policies than there are now. `false` when they still
    /// are not, because they were made anew a short time ago: then nothing is to be judged.
    pub(super) fn keep_up(&mut self, policies: &Policies, now: Monotonic) -> bool {
        match self.made {
            Some((revision, _)) if revision == policies.revision() => return true,
            Some((_, at)) if now.since(at) < AT_MOST_EVERY => return false,
            _ => {}
        }
        self.made = Some((policies.revision(), now));
        self.routes.clear();
        let wanted = |object: &&Arc<PolicyObject>| {
            matches!(
                object.kind,
                PolicyKind::VirtualService | PolicyKind::HttpRoute | PolicyKind::GrpcRoute
            )
        };
        for object in policies.objects().filter(wanted) {
            // What cannot be read is told with the objects that are not understood.
            let _read = self.read(object);
        }
        true
    }

    fn read(&mut self, object: &PolicyObject) -> Option<()> {
        let own = &object.namespace;
        let mut add = |namespace: &str, name: &str| {
            let key = (namespace.into(), name.into());
            self.routes.insert(key, object.reference());
        };
        if object.kind == PolicyKind::VirtualService {
            let content: Content<VirtualServiceSpec> = read(object).ok()?;
            let gateways = &content.spec.gateways;
            if !gateways.is_empty() && !gateways.iter().any(|it| **it == *"mesh") {
                return None;
            }
            for host in &content.spec.hosts {
                match (host.contains('.'), service_of(host)) {
                    (true, Some((namespace, name))) => add(namespace, name),
                    (true, None) => {}
                    (false, _) => add(own, host),
                }
            }
            return Some(());
        }
        let content: Content<RouteSpec> = read(object).ok()?;
        let parents = content.spec.parent_refs.iter();
        for parent in parents.filter(|parent| *parent.kind == *"Service") {
            add(parent.namespace.as_ref().unwrap_or(own), &parent.name);
        }
        Some(())
    }

    /// A route of a Service.
    pub(super) fn route(&self, namespace: &str, name: &str) -> Option<&ObjectRef> {
        // Allocates; asked only when what is declared has changed.
        self.routes.get(&(namespace.into(), name.into()))
    }
}
