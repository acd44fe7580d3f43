//! Istio's objects, and what they come to.
//!
//! Each kind has a file below, which reads it and answers what it decides. They are found by
//! namespace and by host, so that an answer costs what has to do with it, not what is declared.

mod access;
mod authorization;
mod destination_rule;
mod egress;
mod mesh_config;
mod names;
mod peer_authentication;
mod plane;
mod read;
mod routing;
mod sends;
mod service_entry;
mod store;
mod virtual_service;
mod waypoint;

use std::sync::Arc;

use hashbrown::HashMap;

use self::{
    authorization::AuthorizationPolicy,
    destination_rule::DestinationRule,
    mesh_config::MeshConfigs,
    peer_authentication::PeerAuthentication,
    store::{ByHost, ByNamespace, BySelector},
    virtual_service::VirtualService,
};
pub use self::{
    authorization::{Action, Attachment, AuthorizationFacts, path_matches, pattern_matches},
    destination_rule::{
        ConnectionPool, ConsistentHash, HttpPool, LoadBalancer, Locality, OutlierDetection, Subset,
        TcpPool, Tls, TlsMode, TrafficPolicy,
    },
    egress::{EgressHost, Sidecar},
    mesh_config::MeshConfig,
    names::{
        CLUSTER_DOMAIN, authority_host, canonical_revision, canonical_service, full_name, resolve,
        service_host, service_of,
    },
    plane::gateway_of,
    routing::UnreachableRule,
    service_entry::{EntryPort, Resolution, ServiceEntry},
    virtual_service::Rewrite,
    waypoint::Waypoint,
};
use super::policy::Misunderstood;
use crate::model::policy::{PolicyKind, PolicyObject};

/// Istio's objects.
#[derive(Debug, Default)]
pub struct Istio {
    mesh: MeshConfigs,
    peer_authentications: BySelector<PeerAuthentication>,
    authorization_policies: BySelector<AuthorizationPolicy>,
    destination_rule_list: ByNamespace<DestinationRule>,
    /// By namespace, and in it by host.
    destination_rules: HashMap<Box<str>, ByHost<DestinationRule>>,
    virtual_service_list: ByNamespace<VirtualService>,
    /// Those that sidecars follow.
    virtual_services: ByHost<VirtualService>,
    service_entry_list: ByNamespace<ServiceEntry>,
    service_entries: ByHost<ServiceEntry>,
    /// Those that stand for addresses, the oldest first.
    addressed: Vec<Arc<ServiceEntry>>,
    sidecars: BySelector<Sidecar>,
}

// === impl Istio ===

impl Istio {
    /// Takes an object of its own; an error says what is wrong with it.
    pub(super) fn set(&mut self, object: &PolicyObject) -> Result<(), Misunderstood> {
        match object.kind {
            PolicyKind::MeshConfig => self.mesh.set(object)?,
            PolicyKind::PeerAuthentication => self
                .peer_authentications
                .insert(Arc::new(PeerAuthentication::read(object)?)),
            PolicyKind::IstioAuthorizationPolicy => self
                .authorization_policies
                .insert(Arc::new(AuthorizationPolicy::read(object)?)),
            PolicyKind::Sidecar => self.sidecars.insert(Arc::new(Sidecar::read(object)?)),
            PolicyKind::DestinationRule => {
                let rule = Arc::new(DestinationRule::read(object)?);
                self.destination_rules
                    .entry(object.namespace.clone())
                    .or_default()
                    .insert(&rule.host, &rule);
                self.destination_rule_list.insert(rule);
            }
            PolicyKind::ServiceEntry => {
                let entry = Arc::new(ServiceEntry::read(object)?);
                for host in &entry.hosts {
                    self.service_entries.insert(host, &entry);
                }
                if !entry.addresses.is_empty() {
                    let at = self.addressed.partition_point(|known| {
                        store::Declared::meta(&**known).age() < store::Declared::meta(&*entry).age()
                    });
                    self.addressed.insert(at, entry.clone());
                }
                self.service_entry_list.insert(entry);
            }
            PolicyKind::VirtualService => {
                let (service, problem) = VirtualService::read(object)?;
                let service = Arc::new(service);
                for host in service.hosts.iter().filter(|_| service.in_mesh) {
                    self.virtual_services.insert(host, &service);
                }
                self.virtual_service_list.insert(service);
                // The rest of it is used all the same.
                return problem.map_or(Ok(()), Err);
            }
            // Nothing is asked that these decide.
            _ => {}
        }
        Ok(())
    }

    /// Forgets an object.
    pub(super) fn remove(&mut self, object: &PolicyObject) {
        match object.kind {
            PolicyKind::MeshConfig => self.mesh.remove(object),
            PolicyKind::PeerAuthentication => self.peer_authentications.remove(object),
            PolicyKind::IstioAuthorizationPolicy => self.authorization_policies.remove(object),
            PolicyKind::Sidecar => self.sidecars.remove(object),
            PolicyKind::DestinationRule => {
                if let Some(rule) = self.destination_rule_list.remove(object)
                    && let Some(rules) = self.destination_rules.get_mut(&object.namespace)
                {
                    rules.remove(&rule.host, object);
                    if rules.is_empty() {
                        self.destination_rules.remove(&object.namespace);
                    }
                }
            }
            PolicyKind::ServiceEntry => {
                if let Some(entry) = self.service_entry_list.remove(object) {
                    for host in &entry.hosts {
                        self.service_entries.remove(host, object);
                    }
                    self.addressed.retain(|known| !Arc::ptr_eq(known, &entry));
                }
            }
            PolicyKind::VirtualService => {
                if let Some(service) = self.virtual_service_list.remove(object) {
                    for host in &service.hosts {
                        self.virtual_services.remove(host, object);
                    }
                }
            }
            _ => {}
        }
    }

    /// Defaults of the whole mesh.
    pub fn mesh_config(&self) -> &MeshConfig {
        self.mesh.current()
    }
}

#[cfg(test)]
mod tests;
