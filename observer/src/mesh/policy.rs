//! All that is declared, of whichever mesh, and the one place that is asked what it comes to.
//!
//! Each mesh has a module that reads its own objects and answers in the terms of
//! [`decision`](super::decision). Every answer is a pure function of what is declared and of what
//! is asked: an object that has nothing to do with it changes nothing.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use super::{
    decision::{Accepts, Access, Caller, Decision, Destination, Egress, Request, Routing, Sends},
    gateway::Gateways,
    istio::Istio,
    linkerd::Linkerd,
    network::Networks,
};
use crate::model::{
    kubernetes::Pod,
    mesh::Plane,
    policy::{ObjectRef, PolicyChange, PolicyKind, PolicyObject, PolicyPart, ServiceFacts},
};

/// All that is declared.
#[derive(Debug, Default)]
pub struct Policies {
    context: Context,
    istio: Istio,
    linkerd: Linkerd,
    gateways: Gateways,
    networks: Networks,
    /// By kind: uids that were set since all of a kind are told anew.
    telling: HashMap<PolicyKind, Vec<Box<str>>>,
    /// Kinds and objects by uid.
    objects: HashMap<Box<str>, Arc<PolicyObject>>,
    /// Kinds that were told whole.
    complete: HashMap<PolicyKind, bool>,
    /// Objects that could not be understood, by uid: which, and what is wrong.
    misunderstood: HashMap<Box<str>, (ObjectRef, String)>,
    revision: u64,
}

/// What all meshes need to know beside their own objects.
#[derive(Debug, Default)]
pub struct Context {
    /// Namespaces by name.
    pub namespaces: HashMap<Box<str>, Arc<PolicyObject>>,
    /// Services by namespace and name.
    pub services: HashMap<(Box<str>, Box<str>), Arc<ServiceFacts>>,
    /// Names of Services by uid.
    uids: HashMap<Box<str>, (Box<str>, Box<str>)>,
    /// Uids that were set since all Services are told anew; `None` while they are not.
    telling: Option<HashSet<Box<str>>>,
}

/// What a module of a mesh says of an object that it cannot use.
pub type Misunderstood = String;

// === impl Context ===

impl Context {
    /// Value of a label of a namespace.
    pub fn namespace_label(&self, namespace: &str, label: &str) -> Option<&str> {
        crate::model::policy::find(&self.namespaces.get(namespace)?.labels, label)
    }

    /// Value of an annotation of a namespace.
    pub fn namespace_annotation(&self, namespace: &str, annotation: &str) -> Option<&str> {
        crate::model::policy::find(&self.namespaces.get(namespace)?.annotations, annotation)
    }

    /// A Service.
    pub fn service(&self, namespace: &str, name: &str) -> Option<&Arc<ServiceFacts>> {
        // Allocates; asked seldom, as answers are remembered.
        self.services.get(&(namespace.into(), name.into()))
    }

    fn set(&mut self, service: Arc<ServiceFacts>) {
        if let Some(told) = &mut self.telling {
            told.insert(service.uid.clone());
        }
        let name = (service.namespace.clone(), service.name.clone());
        self.uids.insert(service.uid.clone(), name.clone());
        self.services.insert(name, service);
    }

    fn remove(&mut self, uid: &str) {
        // Another of its name may have come before it was told gone.
        if let Some(name) = self.uids.remove(uid)
            && self
                .services
                .get(&name)
                .is_some_and(|service| *service.uid == *uid)
        {
            self.services.remove(&name);
        }
    }

    fn complete(&mut self) {
        let Some(told) = self.telling.take() else {
            return;
        };
        let gone: Vec<Box<str>> = self
            .uids
            .keys()
            .filter(|uid| !told.contains(*uid))
            .cloned()
            .collect();
        for uid in gone {
            self.remove(&uid);
        }
    }
}

// === impl Policies ===

impl Policies {
    /// Whether no object is known.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// How many objects there are of each kind that there is any of.
    pub fn counts(&self) -> Vec<(PolicyKind, usize)> {
        let mut counts = [0; PolicyKind::ALL.len()];
        for object in self.objects.values() {
            if let Some(count) = counts.get_mut(object.kind.index()) {
                *count += 1;
            }
        }
        let counts = PolicyKind::ALL.into_iter().zip(counts);
        counts.filter(|(_, count)| *count > 0).collect()
    }

    /// Takes a change.
    pub fn apply(&mut self, change: PolicyChange) {
        self.revision += 1;
        match change {
            PolicyChange::Begin(kind) => {
                self.telling.insert(kind, Vec::new());
            }
            PolicyChange::Set(object) => {
                if let Some(told) = self.telling.get_mut(&object.kind) {
                    told.push(object.uid.clone());
                }
                self.set(object);
            }
            PolicyChange::Remove(_, uid) => self.remove(&uid),
            PolicyChange::Complete(kind) => {
                let told = self.telling.remove(&kind).unwrap_or_default();
                let told: HashSet<Box<str>> = told.into_iter().collect();
                let gone: Vec<Box<str>> = self
                    .objects
                    .iter()
                    .filter(|(uid, object)| object.kind == kind && !told.contains(*uid))
                    .map(|(uid, _)| uid.clone())
                    .collect();
                for uid in gone {
                    self.remove(&uid);
                }
                self.complete.insert(kind, true);
            }
            PolicyChange::Absent(kind) => {
                self.apply(PolicyChange::Begin(kind));
                self.apply(PolicyChange::Complete(kind));
            }
            PolicyChange::BeginServices => self.context.telling = Some(HashSet::new()),
            PolicyChange::SetService(service) => self.context.set(service),
            PolicyChange::RemoveService(uid) => self.context.remove(&uid),
            PolicyChange::CompleteServices => self.context.complete(),
        }
    }

    fn set(&mut self, object: Arc<PolicyObject>) {
        self.remove_parsed(&object.uid);
        let read = match object.kind.part() {
            PolicyPart::Core => {
                self.context
                    .namespaces
                    .insert(object.name.clone(), object.clone());
                Ok(())
            }
            PolicyPart::Istio => self.istio.set(&object),
            PolicyPart::Linkerd => self.linkerd.set(&object),
            PolicyPart::GatewayApi => self.gateways.set(&object),
            PolicyPart::NetworkPolicy => self.networks.set(&object),
        };
        if let Err(problem) = read {
            self.misunderstood
                .insert(object.uid.clone(), (object.reference(), problem));
        }
        self.objects.insert(object.uid.clone(), object);
    }

    fn remove(&mut self, uid: &str) {
        self.remove_parsed(uid);
        self.objects.remove(uid);
    }

    fn remove_parsed(&mut self, uid: &str) {
        self.misunderstood.remove(uid);
        let Some(object) = self.objects.get(uid) else {
            return;
        };
        match object.kind.part() {
            PolicyPart::Core => {
                if self
                    .context
                    .namespaces
                    .get(&object.name)
                    .is_some_and(|known| *known.uid == *uid)
                {
                    self.context.namespaces.remove(&object.name);
                }
            }
            PolicyPart::Istio => self.istio.remove(object),
            PolicyPart::Linkerd => self.linkerd.remove(object),
            PolicyPart::GatewayApi => self.gateways.remove(object),
            PolicyPart::NetworkPolicy => self.networks.remove(object),
        }
    }

    /// Changes with everything that is told.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// What all meshes need to know.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Istio's objects.
    pub fn istio(&self) -> &Istio {
        &self.istio
    }

    /// Linkerd's objects.
    pub fn linkerd(&self) -> &Linkerd {
        &self.linkerd
    }

    /// The Gateway API's objects.
    pub fn gateways(&self) -> &Gateways {
        &self.gateways
    }

    /// NetworkPolicies.
    pub fn networks(&self) -> &Networks {
        &self.networks
    }

    /// All objects, in no order.
    pub fn objects(&self) -> impl Iterator<Item = &Arc<PolicyObject>> {
        self.objects.values()
    }

    /// Objects that could not be understood, and what is wrong with each; in no order.
    pub fn misunderstood(&self) -> impl Iterator<Item = &(ObjectRef, String)> {
        self.misunderstood.values()
    }

    /// Objects that are understood, and in effect nowhere at one of the places that they are for; where
    /// and why, in no order.
    pub fn ignored(&self) -> impl Iterator<Item = (&ObjectRef, String)> {
        self.gateways.ignored().chain(self.linkerd.ignored())
    }

    /// Who carries the traffic of a pod.
    pub fn plane(&self, pod: &Pod) -> Plane {
        if self.linkerd.has(pod) {
            return Plane::Linkerd;
        }
        self.istio.plane(pod)
    }

    /// What a pod takes at one of its ports.
    pub fn accepts(&self, server: &Pod, port: u16) -> Decision<Accepts> {
        match self.plane(server) {
            Plane::Linkerd => self
                .linkerd
                .accepts(&self.context, &self.gateways, server, port),
            Plane::IstioSidecar | Plane::IstioAmbient => {
                self.istio.accepts(&self.context, server, port)
            }
            Plane::None => Decision {
                value: Accepts::NoMesh,
                because: Vec::new(),
            },
        }
    }

    /// What the proxy of a pod is to send to a destination.
    pub fn sends(&self, client: &Pod, to: &Destination<'_>) -> Decision<Sends> {
        match self.plane(client) {
            Plane::Linkerd => self.linkerd.sends(&self.context, client, to),
            Plane::IstioSidecar | Plane::IstioAmbient => {
                self.istio.sends(&self.context, client, to)
            }
            Plane::None => Decision {
                value: Sends::NoProxy,
                because: Vec::new(),
            },
        }
    }

    /// How a request of a pod is routed. `client` is `None` for a gateway's, or when it is unknown.
    pub fn routing(
        &self,
        client: Option<&Pod>,
        to: &Destination<'_>,
        request: &Request<'_>,
    ) -> Decision<Routing> {
        let plane = client.map_or(Plane::None, |client| self.plane(client));
        match plane {
            Plane::Linkerd => {
                self.linkerd
                    .routing(&self.context, &self.gateways, client, to, request)
            }
            Plane::IstioSidecar | Plane::IstioAmbient => {
                self.istio
                    .routing(&self.context, &self.gateways, client, to, request)
            }
            Plane::None => Decision {
                value: Routing::Undeclared,
                because: Vec::new(),
            },
        }
    }

    /// Whether a pod lets a request of a caller pass at one of its ports; `request` is `None` for
    /// what is no HTTP.
    pub fn access(
        &self,
        server: &Pod,
        port: u16,
        caller: &Caller<'_>,
        request: Option<&Request<'_>>,
    ) -> Decision<Access> {
        match self.plane(server) {
            Plane::Linkerd => {
                self.linkerd
                    .access(&self.context, &self.gateways, server, port, caller, request)
            }
            Plane::IstioSidecar | Plane::IstioAmbient => {
                self.istio
                    .access(&self.context, server, port, caller, request)
            }
            Plane::None => Decision {
                value: Access::Allowed,
                because: Vec::new(),
            },
        }
    }

    /// Whether a pod may reach a destination outside of the cluster.
    pub fn egress(&self, client: &Pod, to: &Destination<'_>) -> Decision<Egress> {
        match self.plane(client) {
            Plane::Linkerd => self
                .linkerd
                .egress(&self.context, &self.gateways, client, to),
            Plane::IstioSidecar | Plane::IstioAmbient => {
                self.istio.egress(&self.context, client, to)
            }
            Plane::None => Decision {
                value: Egress::Open,
                because: Vec::new(),
            },
        }
    }
}
