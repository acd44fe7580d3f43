//! What clients may know and reach: Sidecar, and the way out of the mesh.

use serde::Deserialize;

use super::{
    Istio,
    mesh_config::OutboundPolicy,
    names::{resolve, service_of},
    plane::contains,
    read,
    routing::host_matches,
    service_entry::ServiceEntry,
    store::{Choosing, Declared, Labels, Meta, SelectorSpec},
};
use crate::{
    mesh::{
        decision::{Decision, Destination, Egress, Reason},
        policy::{Context, Misunderstood},
    },
    model::{
        kubernetes::Pod,
        mesh::Plane,
        policy::{ObjectRef, PolicyObject},
    },
};

/// A Sidecar: what the proxies of some pods know.
#[derive(Debug)]
pub struct Sidecar {
    meta: Meta,
    /// What names it.
    pub object: ObjectRef,
    selector: Labels,
    /// Hosts that its pods know, each with the namespaces that they may be of; empty for all.
    pub egress: Vec<EgressHost>,
    /// Whether its pods may only reach what is declared; `None` for what the mesh says.
    pub registry_only: Option<bool>,
}

/// Hosts that the pods of a Sidecar know: `namespace/host`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EgressHost {
    /// `*` for all namespaces, `.` for the pod's, `~` for none, or a name.
    pub namespace: Box<str>,
    /// May begin with `*`.
    pub host: Box<str>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    workload_selector: SelectorSpec,
    egress: Vec<EgressSpec>,
    outbound_traffic_policy: Option<OutboundPolicy>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct EgressSpec {
    hosts: Vec<Box<str>>,
}

// === impl Sidecar ===

impl Sidecar {
    pub(super) fn read(object: &PolicyObject) -> Result<Self, Misunderstood> {
        let spec: Spec = read::spec(object)?;
        let hosts = spec.egress.iter().flat_map(|listener| &listener.hosts);
        let egress = hosts.map(|written| match written.split_once('/') {
            Some((namespace, host)) => EgressHost {
                namespace: namespace.into(),
                host: host.to_ascii_lowercase().into(),
            },
            None => EgressHost {
                namespace: "*".into(),
                host: written.to_ascii_lowercase().into(),
            },
        });
        Ok(Self {
            meta: Meta::of(object),
            object: object.reference(),
            selector: spec.workload_selector.match_labels,
            egress: egress.collect(),
            registry_only: spec
                .outbound_traffic_policy
                .and_then(|policy| policy.registry_only()),
        })
    }

    /// Whether pods of a namespace know a host that is of another namespace.
    pub fn imports(&self, client_namespace: &str, namespace: &str, host: &str) -> bool {
        self.egress.is_empty()
            || self
                .egress
                .iter()
                .any(|known| known.covers(client_namespace, namespace, host))
    }
}

impl Declared for Sidecar {
    fn meta(&self) -> &Meta {
        &self.meta
    }
}

impl Choosing for Sidecar {
    fn selector(&self) -> &Labels {
        &self.selector
    }
}

// === impl EgressHost ===

impl EgressHost {
    /// Whether it is, or stands for, a host of a namespace, for pods of another.
    pub fn covers(&self, client_namespace: &str, namespace: &str, host: &str) -> bool {
        let of = match &*self.namespace {
            "*" => true,
            "." => namespace == client_namespace,
            "~" => false,
            name => name == namespace,
        };
        of && host_matches(&self.host, host)
    }
}

// === impl Istio ===

impl Istio {
    /// All Sidecars, in no order.
    pub fn sidecars(&self) -> impl Iterator<Item = &Sidecar> {
        self.sidecars.all().map(|sidecar| &**sidecar)
    }

    /// The Sidecar that says what the proxy of a pod knows: one that chooses it, else that of its
    /// namespace, else that of the mesh; the oldest of each.
    pub fn sidecar_of(&self, client: &Pod) -> Option<&Sidecar> {
        let own = &*client.namespace;
        let chosen = self.sidecars.choosing(own, &client.traits);
        let general = |namespace: &str| self.sidecars.general(namespace).first();
        chosen
            .first()
            .copied()
            .or_else(|| general(own))
            .or_else(|| general(&self.mesh_config().root_namespace))
            .map(|sidecar| &**sidecar)
    }

    /// See [`crate::mesh::policy::Policies::egress`].
    pub fn egress(
        &self,
        context: &Context,
        client: &Pod,
        to: &Destination<'_>,
    ) -> Decision<Egress> {
        let captured = self.captures_outbound(client, to.address, to.port);
        if !captured.value {
            return Decision {
                value: Egress::Open,
                because: captured.because,
            };
        }
        let ambient = self.plane(client) == Plane::IstioAmbient;
        let sidecar = (!ambient).then(|| self.sidecar_of(client)).flatten();
        let mut because = Vec::new();
        if let Some(declared) = self.declared(context, client, sidecar, to, &mut because) {
            return declared;
        }
        if ambient {
            because.push(Reason::plain("the node's proxy lets everything out"));
            return Decision {
                value: Egress::Open,
                because,
            };
        }
        let own = sidecar.and_then(|sidecar| Some((sidecar, sidecar.registry_only?)));
        let mesh = self.mesh_config();
        let closed = own.map_or(mesh.registry_only, |(_, closed)| closed);
        let text = match closed {
            true => "outboundTrafficPolicy REGISTRY_ONLY",
            false => "outboundTrafficPolicy ALLOW_ANY",
        };
        because.push(match own {
            Some((sidecar, _)) => Reason::of(sidecar.object.clone(), text),
            None => mesh.reason(text),
        });
        let maybe = closed.then(|| self.by_port(client, to)).flatten();
        let value = match (closed, maybe) {
            (true, Some(entry)) => {
                because.insert(0, Reason::of(entry.object.clone(), "it has this port"));
                Egress::Unknown(
                    "only the address is known, and a name at this port is declared".into(),
                )
            }
            (true, None) => Egress::Closed,
            (false, _) => Egress::Open,
        };
        Decision { value, because }
    }

    /// What declares a destination; `because` gets why something that might does not.
    fn declared(
        &self,
        context: &Context,
        client: &Pod,
        sidecar: Option<&Sidecar>,
        to: &Destination<'_>,
        because: &mut Vec<Reason>,
    ) -> Option<Decision<Egress>> {
        let namespace = &*client.namespace;
        let imported = |of: &str, host: &str| {
            sidecar.is_none_or(|sidecar| sidecar.imports(namespace, of, host))
        };
        let named = resolve(context, namespace, to.authority);
        let service = to
            .service
            .map(|(of, name)| super::names::service_host(of, name));
        for host in named.iter().chain(&service) {
            if let Some((of, name)) = service_of(host)
                && context.service(of, name).is_some()
                && imported(of, host)
            {
                let text = format!("Service {name} of namespace {of}");
                return Some(Decision::by(Egress::Declared, Reason::plain(text)));
            }
            for entry in self.service_entries_of(namespace, host) {
                let reason = |text: String| Reason::of(entry.object.clone(), text);
                if !imported(entry.meta().namespace(), host) {
                    because.push(reason(format!("the Sidecar leaves out {host}")));
                } else if !entry.has_port(to.port) && to.port != 0 {
                    because.push(reason(format!(
                        "it declares {host}, but not port {}",
                        to.port
                    )));
                } else {
                    let text = format!("it declares {host}");
                    return Some(Decision::by(Egress::Declared, reason(text)));
                }
            }
        }
        let address = to.address?;
        let by_address = self.addressed.iter().find(|entry| {
            let mut networks = entry.addresses.iter();
            self.may_know(namespace, entry)
                && entry.has_port(to.port)
                && networks.any(|network| contains(network, address))
                && (entry.hosts.iter()).any(|host| imported(entry.meta().namespace(), host))
        })?;
        let text = format!("it declares {address}");
        Some(Decision::by(
            Egress::Declared,
            Reason::of(by_address.object.clone(), text),
        ))
    }

    /// A ServiceEntry for names at a port, where only the address of a connection is known.
    fn by_port(&self, client: &Pod, to: &Destination<'_>) -> Option<&ServiceEntry> {
        if !to.authority.is_empty() {
            return None;
        }
        self.service_entries()
            .filter(|entry| entry.addresses.is_empty() && self.may_know(&client.namespace, entry))
            .filter(|entry| entry.ports.iter().any(|port| port.number == to.port))
            .min_by(|a, b| a.meta().age().cmp(&b.meta().age()))
    }
}

#[cfg(test)]
mod tests;
