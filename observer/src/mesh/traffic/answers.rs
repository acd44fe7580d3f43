//! What traffic asks of what is declared, and since when an answer has stood.

use std::{sync::Arc, time::Duration};

use hashbrown::HashMap;

use crate::{
    mesh::{
        decision::{
            Access, Caller, Certainty, Decision, DeclaredRule, Destination, Egress, Request,
            Routing,
        },
        linkerd::Protocol,
        policy::Policies,
    },
    model::{
        kubernetes::Pod,
        mesh::Plane,
        policy::{ObjectRef, PolicyKind, PolicyObject, ServiceFacts},
        time::Monotonic,
    },
};

/// What is asked: everything is a pure function of what is declared.
pub(super) trait Answers {
    /// Changes with everything that is declared.
    fn revision(&self) -> u64;
    /// Who carries the traffic of a pod.
    fn plane(&self, pod: &Pod) -> Plane;
    /// How a request is routed.
    fn routing(
        &self,
        client: Option<&Pod>,
        to: &Destination<'_>,
        request: &Request<'_>,
    ) -> Decision<Routing>;
    /// How it would be, if a proxy of a mesh took it.
    fn routing_in_mesh(
        &self,
        client: &Pod,
        to: &Destination<'_>,
        request: &Request<'_>,
    ) -> Decision<Routing>;
    /// Whether each rule of the object that decides matches a request, in order, though an earlier one
    /// takes it. Empty where rules have no order.
    fn matching(
        &self,
        client: &Pod,
        to: &Destination<'_>,
        request: &Request<'_>,
    ) -> Vec<(ObjectRef, Box<str>, Certainty)>;
    /// Whether a request may pass.
    fn access(
        &self,
        server: &Pod,
        port: u16,
        caller: &Caller<'_>,
        request: Option<&Request<'_>>,
    ) -> Decision<Access>;
    /// Whether a destination outside may be reached.
    fn egress(&self, client: &Pod, to: &Destination<'_>) -> Decision<Egress>;
    /// How many requests per second each proxy of a server lets pass to a port, of all clients; `None`
    /// without a limit.
    fn rate_limit(&self, server: &Pod, port: u16) -> Option<(&ObjectRef, u32)>;
    /// All rules of routes.
    fn rules(&self) -> Vec<DeclaredRule>;
    /// All objects.
    fn objects(&self) -> Box<dyn Iterator<Item = &Arc<PolicyObject>> + '_>;
    /// Namespace whose objects are for all others, in Istio.
    fn root(&self) -> &str;
    /// A Service.
    fn service(&self, namespace: &str, name: &str) -> Option<&Arc<ServiceFacts>>;
    /// All Services.
    fn services(&self) -> Box<dyn Iterator<Item = &Arc<ServiceFacts>> + '_>;
    /// What Linkerd reads a port of a Service that was dialled as.
    fn dialled_protocol(&self, to: &Destination<'_>) -> Decision<Protocol>;
    /// What Linkerd reads a port of a pod as.
    fn served_protocol(&self, server: &Pod, port: u16) -> Decision<Protocol>;
}

/// When what is declared in each namespace changed last.
#[derive(Debug, Default)]
pub(super) struct Changes {
    revision: Option<u64>,
    /// Version, namespace and kind by uid.
    objects: HashMap<Box<str>, (Box<str>, Box<str>, PolicyKind)>,
    namespaces: HashMap<Box<str>, Monotonic>,
    /// Namespaces whose objects are for all others.
    roots: Vec<Box<str>>,
}

impl Answers for Policies {
    fn revision(&self) -> u64 {
        Self::revision(self)
    }

    fn plane(&self, pod: &Pod) -> Plane {
        Self::plane(self, pod)
    }

    fn routing(
        &self,
        client: Option<&Pod>,
        to: &Destination<'_>,
        request: &Request<'_>,
    ) -> Decision<Routing> {
        Self::routing(self, client, to, request)
    }

    fn routing_in_mesh(
        &self,
        client: &Pod,
        to: &Destination<'_>,
        request: &Request<'_>,
    ) -> Decision<Routing> {
        let istio = || {
            let (context, gateways) = (self.context(), self.gateways());
            self.istio()
                .routing(context, gateways, Some(client), to, request)
        };
        let linkerd = || {
            let (context, gateways) = (self.context(), self.gateways());
            self.linkerd()
                .routing(context, gateways, Some(client), to, request)
        };
        match self.plane(client) {
            Plane::Linkerd => linkerd(),
            Plane::IstioSidecar | Plane::IstioAmbient => istio(),
            Plane::None => {
                let found = istio();
                match found.value {
                    Routing::Undeclared => linkerd(),
                    _ => found,
                }
            }
        }
    }

    fn matching(
        &self,
        client: &Pod,
        to: &Destination<'_>,
        request: &Request<'_>,
    ) -> Vec<(ObjectRef, Box<str>, Certainty)> {
        match self.plane(client) {
            Plane::IstioSidecar => {
                let context = self.context();
                self.istio().matching_rules(context, client, to, request)
            }
            Plane::IstioAmbient | Plane::Linkerd | Plane::None => Vec::new(),
        }
    }

    fn access(
        &self,
        server: &Pod,
        port: u16,
        caller: &Caller<'_>,
        request: Option<&Request<'_>>,
    ) -> Decision<Access> {
        Self::access(self, server, port, caller, request)
    }

    fn egress(&self, client: &Pod, to: &Destination<'_>) -> Decision<Egress> {
        Self::egress(self, client, to)
    }

    fn rate_limit(&self, server: &Pod, port: u16) -> Option<(&ObjectRef, u32)> {
        if self.plane(server) != Plane::Linkerd {
            return None;
        }
        let limit = self.linkerd().rate_limit(server, port)?;
        Some((&limit.object, limit.total?))
    }

    fn rules(&self) -> Vec<DeclaredRule> {
        let mut rules: Vec<DeclaredRule> = self.istio().rules().collect();
        rules.extend(self.linkerd().rules(self.context(), self.gateways()));
        rules.extend(self.gateways().rules(self.context()));
        rules
    }

    fn objects(&self) -> Box<dyn Iterator<Item = &Arc<PolicyObject>> + '_> {
        Box::new(Self::objects(self))
    }

    fn root(&self) -> &str {
        &self.istio().mesh_config().root_namespace
    }

    fn service(&self, namespace: &str, name: &str) -> Option<&Arc<ServiceFacts>> {
        self.context().service(namespace, name)
    }

    fn services(&self) -> Box<dyn Iterator<Item = &Arc<ServiceFacts>> + '_> {
        Box::new(self.context().services.values())
    }

    fn dialled_protocol(&self, to: &Destination<'_>) -> Decision<Protocol> {
        self.linkerd().service_protocol(self.context(), to)
    }

    fn served_protocol(&self, server: &Pod, port: u16) -> Decision<Protocol> {
        self.linkerd().protocol(self.context(), server, port)
    }
}

// === impl Changes ===

impl Changes {
    /// Looks at what is declared, if anything is different. Whether it was.
    pub(super) fn sync(&mut self, answers: &impl Answers, now: Monotonic) -> bool {
        let revision = answers.revision();
        if self.revision == Some(revision) {
            return false;
        }
        self.revision = Some(revision);
        let mut gone = std::mem::take(&mut self.objects);
        let mut roots = Vec::new();
        for object in answers.objects() {
            let namespace = match object.kind {
                PolicyKind::Namespace => &object.name,
                _ => &object.namespace,
            };
            if object.kind == PolicyKind::MeshConfig && !roots.contains(namespace) {
                roots.push(namespace.clone());
            }
            let entry = match gone.remove(&object.uid) {
                Some(known) if known.0 == object.version => known,
                _ => {
                    self.namespaces.insert(namespace.clone(), now);
                    (object.version.clone(), namespace.clone(), object.kind)
                }
            };
            self.objects.insert(object.uid.clone(), entry);
        }
        for (_, namespace, _) in gone.into_values() {
            self.namespaces.insert(namespace, now);
        }
        self.roots = roots;
        true
    }

    /// Forgets changes that are settled for long.
    pub(super) fn expire(&mut self, now: Monotonic, settle: Duration) {
        self.namespaces
            .retain(|_, at| now.since(*at) <= settle.saturating_mul(2));
    }

    /// Whether nothing changed lately in any of these namespaces, and nothing for all of them.
    pub(super) fn settled<'a>(
        &self,
        revision: u64,
        namespaces: impl IntoIterator<Item = &'a str>,
        now: Monotonic,
        settle: Duration,
    ) -> bool {
        if self.revision != Some(revision) {
            return false;
        }
        let quiet = |namespace: &str| {
            self.namespaces
                .get(namespace)
                .is_none_or(|at| now.since(*at) >= settle)
        };
        self.namespaces.is_empty()
            || (quiet("")
                && self.roots.iter().all(|root| quiet(root))
                && namespaces.into_iter().all(quiet))
    }
}
