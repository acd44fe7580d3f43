//! NetworkPolicies, as far as they say which ports of a pod may be reached by whom.

use std::{net::IpAddr, sync::Arc};

use hashbrown::HashMap;
use serde::Deserialize;

use super::{
    block::Block,
    decision::{Caller, Certainty, Decision, Reason},
    policy::{Context, Misunderstood},
    read::read,
    selector::{Selected, Selector},
};
use crate::model::{
    kubernetes::Pod,
    policy::{ObjectRef, PolicyObject},
};

/// NetworkPolicies.
#[derive(Debug, Default)]
pub struct Networks {
    /// By uid.
    read: HashMap<Box<str>, Arc<Policy>>,
    selected: Selected<Policy>,
}

/// A NetworkPolicy that chooses a pod, for what comes in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selecting {
    /// The policy.
    pub object: ObjectRef,
    /// A rule of it is for some ports only: a proxy that takes them all at a port of its own makes
    /// that void.
    pub names_ports: bool,
}

#[derive(Debug)]
struct Policy {
    object: ObjectRef,
    spec: Spec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Content {
    spec: Spec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    pod_selector: Selector,
    policy_types: Vec<Box<str>>,
    ingress: Vec<Ingress>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Ingress {
    from: Vec<Peer>,
    ports: Vec<Port>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Peer {
    pod_selector: Option<Selector>,
    namespace_selector: Option<Selector>,
    ip_block: Option<IpBlock>,
}

#[derive(Debug, Deserialize)]
struct IpBlock {
    cidr: Block,
    #[serde(default)]
    except: Vec<Block>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Port {
    protocol: Box<str>,
    port: Option<PortContent>,
    end_port: Option<u16>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum PortContent {
    Number(u16),
    Name(Box<str>),
}

// === impl Networks ===

impl Networks {
    /// Takes an object; an error says what is wrong with it.
    pub(super) fn set(&mut self, object: &PolicyObject) -> Result<(), Misunderstood> {
        let content: Content = read(object)?;
        let policy = Arc::new(Policy {
            object: object.reference(),
            spec: content.spec,
        });
        let selector = &policy.spec.pod_selector;
        self.selected
            .insert(&object.namespace, selector, &object.uid, policy.clone());
        self.read.insert(object.uid.clone(), policy);
        Ok(())
    }

    /// Forgets an object.
    pub(super) fn remove(&mut self, object: &PolicyObject) {
        if let Some(policy) = self.read.remove(&object.uid) {
            let selector = &policy.spec.pod_selector;
            self.selected
                .remove(&policy.object.namespace, selector, &object.uid);
        }
    }

    /// Policies that choose a pod for what comes in, by name.
    pub fn selecting(&self, server: &Pod) -> Vec<Selecting> {
        let policies = self.of(server).into_iter();
        policies
            .map(|policy| Selecting {
                object: policy.object.clone(),
                names_ports: policy.spec.ingress.iter().any(|it| !it.ports.is_empty()),
            })
            .collect()
    }

    /// Whether a port of a pod may be reached over TCP by a caller. With nothing known of the caller it
    /// is what the port alone comes to: `No` where no rule has it, whoever calls.
    pub fn port(
        &self,
        context: &Context,
        server: &Pod,
        port: u16,
        caller: &Caller<'_>,
    ) -> Decision<Certainty> {
        let policies = self.of(server);
        if policies.is_empty() {
            let text = "no NetworkPolicy chooses the pod for what comes in";
            return Decision::by(Certainty::Yes, Reason::plain(text));
        }
        if server.traits.host_network {
            let text = "the pod has the network of its node, where NetworkPolicies may not apply";
            return Decision::by(Certainty::Unknown, Reason::plain(text));
        }
        let mut value = Certainty::No;
        let mut because = Vec::new();
        for policy in policies {
            let allowed = policy.allows(context, server, port, caller);
            let text = match allowed {
                Certainty::Yes => format!("a rule of it allows port {port}"),
                Certainty::Unknown => {
                    format!("a rule of it may allow port {port}, for some clients")
                }
                Certainty::No => format!("no rule of it allows port {port} for the client"),
            };
            let reason = Reason::of(policy.object.clone(), text);
            // What decides is first.
            if allowed == value.or(allowed) && allowed != value {
                because.insert(0, reason);
            } else {
                because.push(reason);
            }
            value = value.or(allowed);
        }
        Decision { value, because }
    }

    fn of(&self, server: &Pod) -> Vec<&Arc<Policy>> {
        let labels = &server.traits.labels;
        let mut policies: Vec<&Arc<Policy>> = self
            .selected
            .candidates(&server.namespace, labels)
            .filter(|policy| policy.spec.for_ingress() && policy.spec.pod_selector.matches(labels))
            .collect();
        policies.sort_by(|left, right| left.object.cmp(&right.object));
        policies
    }
}

// === impl Policy ===

impl Policy {
    fn allows(&self, context: &Context, server: &Pod, port: u16, caller: &Caller<'_>) -> Certainty {
        let own = &self.object.namespace;
        let rules = self.spec.ingress.iter();
        rules
            .filter(|rule| rule.has(server, port))
            .map(|rule| rule.admits(context, own, caller))
            .fold(Certainty::No, Certainty::or)
    }
}

// === impl Spec ===

impl Spec {
    fn for_ingress(&self) -> bool {
        self.policy_types.is_empty() || self.policy_types.iter().any(|it| **it == *"Ingress")
    }
}

// === impl Ingress ===

impl Ingress {
    fn has(&self, server: &Pod, port: u16) -> bool {
        self.ports.is_empty() || self.ports.iter().any(|it| it.has(server, port))
    }

    fn admits(&self, context: &Context, own: &str, caller: &Caller<'_>) -> Certainty {
        if self.from.is_empty() {
            return Certainty::Yes;
        }
        let peers = self.from.iter().map(|peer| peer.is(context, own, caller));
        peers.fold(Certainty::No, Certainty::or)
    }
}

// === impl Port ===

impl Port {
    fn has(&self, server: &Pod, port: u16) -> bool {
        if !matches!(&*self.protocol, "" | "TCP") {
            return false;
        }
        match (&self.port, self.end_port) {
            (None, _) => true,
            (Some(PortContent::Number(first)), Some(last)) => (*first..=last).contains(&port),
            (Some(PortContent::Number(number)), None) => *number == port,
            (Some(PortContent::Name(name)), _) => {
                let mut named = server.traits.ports.iter();
                named.any(|(known, number)| known == name && *number == port)
            }
        }
    }
}

// === impl Peer ===

impl Peer {
    fn is(&self, context: &Context, own: &str, caller: &Caller<'_>) -> Certainty {
        if let Some(block) = &self.ip_block {
            return match (caller.address, caller.pod) {
                (Some(address), _) if !block.has(address) => Certainty::No,
                (Some(_), None) => Certainty::Yes,
                // Whether blocks are for pods is left to who implements the policies.
                (Some(_), Some(_)) | (None, _) => Certainty::Unknown,
            };
        }
        let Some(pod) = caller.pod else {
            return Certainty::Unknown;
        };
        if pod.traits.host_network {
            // It has the address of its node, which no selector chooses.
            return Certainty::Unknown;
        }
        let namespace = match &self.namespace_selector {
            None => (*pod.namespace == *own).into(),
            Some(selector) => match context.namespaces.get(&*pod.namespace) {
                Some(namespace) => selector.matches(&namespace.labels).into(),
                None => Certainty::Unknown,
            },
        };
        let chosen = self.pod_selector.as_ref();
        let chosen = chosen.is_none_or(|selector| selector.matches(&pod.traits.labels));
        namespace.and(chosen.into())
    }
}

// === impl IpBlock ===

impl IpBlock {
    fn has(&self, address: IpAddr) -> bool {
        self.cidr.contains(address) && !self.except.iter().any(|it| it.contains(address))
    }
}

#[cfg(test)]
mod tests;
