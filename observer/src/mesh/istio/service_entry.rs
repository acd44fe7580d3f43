//! What is known beside the cluster's own Services: ServiceEntry.

use serde::Deserialize;

use super::{
    Istio, read,
    store::{Declared, Export, Meta, SelectorSpec},
};
use crate::{
    mesh::policy::Misunderstood,
    model::policy::{ObjectRef, PolicyObject},
};

/// A ServiceEntry.
#[derive(Debug)]
pub struct ServiceEntry {
    meta: Meta,
    /// What names it.
    pub object: ObjectRef,
    /// Names that are declared; may begin with `*`.
    pub hosts: Vec<Box<str>>,
    /// Addresses and networks that stand for it; empty for none.
    pub addresses: Vec<Box<str>>,
    /// Ports.
    pub ports: Vec<EntryPort>,
    /// `location: MESH_EXTERNAL`, which is the default: without mutual TLS of the mesh.
    pub external: bool,
    /// How its addresses are found.
    pub resolution: Resolution,
    /// Addresses or names of its endpoints.
    pub endpoints: Vec<Box<str>>,
    /// Whether it chooses pods or WorkloadEntries by labels.
    pub selects: bool,
    export: Export,
}

/// A port of a ServiceEntry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EntryPort {
    /// As dialled.
    pub number: u16,
    /// `HTTP`, `HTTPS`, `TLS`, `TCP` and others, as written.
    pub protocol: Box<str>,
    /// Its name.
    pub name: Box<str>,
    /// Port of the endpoints; 0 when it is the same.
    pub target_port: u16,
}

/// How the addresses of a ServiceEntry are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "Box<str>")]
pub enum Resolution {
    /// They are those that clients dial.
    #[default]
    None,
    /// They are listed.
    Static,
    /// By DNS.
    Dns,
    /// By DNS, one at a time.
    DnsRoundRobin,
    /// By DNS, of the name that each request asks for.
    DynamicDns,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    hosts: Vec<Box<str>>,
    addresses: Vec<Box<str>>,
    ports: Vec<EntryPort>,
    location: Box<str>,
    resolution: Resolution,
    endpoints: Vec<EndpointSpec>,
    workload_selector: Option<SelectorSpec>,
    export_to: Export,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct EndpointSpec {
    address: Box<str>,
}

// === impl Resolution ===

impl From<Box<str>> for Resolution {
    fn from(text: Box<str>) -> Self {
        match &*text {
            "STATIC" => Self::Static,
            "DNS" => Self::Dns,
            "DNS_ROUND_ROBIN" => Self::DnsRoundRobin,
            "DYNAMIC_DNS" => Self::DynamicDns,
            _ => Self::None,
        }
    }
}

// === impl ServiceEntry ===

impl ServiceEntry {
    pub(super) fn read(object: &PolicyObject) -> Result<Self, Misunderstood> {
        let spec: Spec = read::spec(object)?;
        let hosts = spec.hosts.iter();
        Ok(Self {
            meta: Meta::of(object),
            object: object.reference(),
            hosts: hosts.map(|host| host.to_ascii_lowercase().into()).collect(),
            addresses: spec.addresses,
            ports: spec.ports,
            external: &*spec.location != "MESH_INTERNAL",
            resolution: spec.resolution,
            endpoints: spec
                .endpoints
                .into_iter()
                .map(|endpoint| endpoint.address)
                .collect(),
            selects: spec.workload_selector.is_some(),
            export: spec.export_to,
        })
    }

    /// Whether a port is declared; without any, all are.
    pub fn has_port(&self, port: u16) -> bool {
        self.ports.is_empty() || self.ports.iter().any(|known| known.number == port)
    }
}

impl Declared for ServiceEntry {
    fn meta(&self) -> &Meta {
        &self.meta
    }
}

// === impl Istio ===

impl Istio {
    /// All ServiceEntries, in no order.
    pub fn service_entries(&self) -> impl Iterator<Item = &ServiceEntry> {
        self.service_entry_list.all().map(|entry| &**entry)
    }

    /// The ServiceEntry of a host that a client in a namespace may know of: of the most specific
    /// host, the oldest.
    pub fn service_entry(&self, client_namespace: &str, host: &str) -> Option<&ServiceEntry> {
        self.service_entries_of(client_namespace, host).next()
    }

    /// All of them, the one that counts first.
    pub(super) fn service_entries_of<'a, 'b>(
        &'a self,
        client: &'b str,
        host: &'b str,
    ) -> impl Iterator<Item = &'a ServiceEntry> + use<'a, 'b> {
        self.service_entries
            .matching(host)
            .flatten()
            .map(|entry| &**entry)
            .filter(move |entry| self.may_know(client, entry))
    }

    /// Whether a client in a namespace may know of a ServiceEntry.
    pub(super) fn may_know(&self, client: &str, entry: &ServiceEntry) -> bool {
        let default = &self.mesh_config().service_export;
        entry
            .export
            .reaches(entry.meta.namespace(), client, default)
    }

    pub(super) fn service_entry_namespace(&self, client: &str, host: &str) -> Option<&str> {
        let entry = self.service_entry(client, host)?;
        Some(entry.meta.namespace())
    }
}
