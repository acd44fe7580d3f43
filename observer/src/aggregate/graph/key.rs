//! What tells edges of the graph apart.

use std::{
    hash::{Hash, Hasher},
    net::IpAddr,
    sync::Arc,
};

use super::{EdgeRow, Party, PartyKind};
use crate::{
    aggregate::series::{Labels, labels},
    model::{
        call::{Call, Link},
        connection::Role,
        kubernetes::{Pod, Service},
        security::Security,
        workload::{NameSource, Peer, Workload},
    },
};

/// What tells edges apart.
#[derive(Clone, Debug)]
pub(in crate::aggregate) struct EdgeKey {
    workload: Arc<Workload>,
    peer: Peer,
    dialled: Option<Arc<Service>>,
    protocol: &'static str,
    security: Security,
    role: Role,
    /// The peer is behind a proxy.
    behind: bool,
}

/// [`Party`] without copies.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct End<'a> {
    kind: PartyKind,
    namespace: &'a str,
    workload_kind: &'a str,
    name: &'a str,
    zone: &'a str,
}

/// What the calls and the first bytes of a connection show that it speaks.
pub(in crate::aggregate) fn protocol(link: &Link, calls: Option<&'static str>) -> &'static str {
    let shown = || link.opening.as_deref()?.protocol;
    match calls.or_else(shown) {
        Some("http/1" | "http/2") => "http",
        Some(protocol) => protocol,
        None => "tcp",
    }
}

/// What a call shows that its connection speaks.
pub(in crate::aggregate) fn protocol_of_call(call: &Call) -> &'static str {
    let rpc = call.exchange.rpc.as_ref();
    rpc.map_or("http", |rpc| rpc.system.as_str())
}

// === impl Party ===

impl From<End<'_>> for Party {
    fn from(end: End<'_>) -> Self {
        Self {
            kind: end.kind,
            namespace: end.namespace.to_owned(),
            workload_kind: end.workload_kind.to_owned(),
            name: end.name.to_owned(),
        }
    }
}

// === impl End ===

impl<'a> End<'a> {
    const fn of(kind: PartyKind, name: &'a str) -> Self {
        Self {
            kind,
            namespace: "",
            workload_kind: "",
            name,
            zone: "",
        }
    }

    fn of_workload(workload: &'a Workload) -> Self {
        if let Some(pod) = workload.pod() {
            return Self::of_pod(pod);
        }
        if workload.source == NameSource::Unknown {
            return Self::of(PartyKind::Unknown, "");
        }
        Self {
            namespace: &workload.namespace,
            ..Self::of(PartyKind::Service, &workload.service)
        }
    }

    fn of_pod(pod: &'a Pod) -> Self {
        let (workload_kind, name) = pod.workload();
        Self {
            kind: PartyKind::Workload,
            namespace: &pod.namespace,
            workload_kind,
            name,
            zone: pod.zone(),
        }
    }

    /// The other end, for a socket of `role`. Of those who call from outside a few have a name by
    /// chance, which would only tell that chance: they are all one.
    fn of_peer(peer: &'a Peer, role: Role) -> Self {
        match peer {
            Peer::Local(workload) => Self::of_workload(workload),
            Peer::Pod(pod) => Self::of_pod(pod),
            Peer::Node(node) => Self {
                zone: &node.zone,
                ..Self::of(PartyKind::Node, &node.name)
            },
            Peer::Network(network) => Self::of(PartyKind::Network, &network.name),
            Peer::Service(service) => Self {
                namespace: &service.namespace,
                ..Self::of(PartyKind::Dialled, &service.name)
            },
            Peer::Identity(identity) => Self {
                namespace: &identity.namespace,
                ..Self::of(PartyKind::Identity, identity.name())
            },
            Peer::Named { name, .. } if role == Role::Client => Self::of(PartyKind::Name, name),
            Peer::Named { address, .. } | Peer::Address(address) => Self::of_address(*address),
        }
    }

    fn of_address(address: IpAddr) -> Self {
        // An address of this host that no process is known to have.
        let kind = match address.is_loopback() {
            true => PartyKind::Unknown,
            false => PartyKind::Outside,
        };
        Self::of(kind, "")
    }
}

// === impl EdgeKey ===

impl EdgeKey {
    pub(in crate::aggregate) fn of_link(link: &Link, role: Role, protocol: &'static str) -> Self {
        let (peer, security) = (link.peer(), link.secured());
        let key = Self::new(&link.workload, peer, role, protocol, security);
        Self {
            behind: link.far.is_some(),
            ..key.dialled(link.dialled.clone())
        }
    }

    pub(in crate::aggregate) fn of_call(call: &Call) -> Self {
        let (role, protocol) = (call.exchange.role, protocol_of_call(call));
        let workload = &call.link.workload;
        let key = Self::new(workload, call.peer(), role, protocol, call.secured());
        Self {
            behind: call.far().is_some(),
            ..key.dialled(call.link.dialled.clone())
        }
    }

    /// Both ends are on this host.
    fn same_host(&self) -> bool {
        if self.peer.is_local() {
            return true;
        }
        // Behind a proxy nothing but the pod tells.
        match (self.workload.pod(), &self.peer) {
            (Some(own), Peer::Pod(pod)) if self.behind => {
                let node = own.node_name();
                !node.is_empty() && pod.node_name() == node
            }
            _ => false,
        }
    }

    pub(in crate::aggregate) fn new(
        workload: &Arc<Workload>,
        peer: &Peer,
        role: Role,
        protocol: &'static str,
        security: Security,
    ) -> Self {
        Self {
            workload: workload.clone(),
            peer: peer.clone(),
            dialled: None,
            protocol,
            security,
            role,
            behind: false,
        }
    }

    pub(in crate::aggregate) fn dialled(self, service: Option<Arc<Service>>) -> Self {
        let dialled = service.filter(|_| self.role == Role::Client);
        Self { dialled, ..self }
    }

    /// Source and destination.
    fn ends(&self) -> (End<'_>, End<'_>) {
        let own = End::of_workload(&self.workload);
        let peer = End::of_peer(&self.peer, self.role);
        match self.role {
            Role::Server => (peer, own),
            Role::Client | Role::Unknown => (own, peer),
        }
    }

    fn dialled_name(&self) -> Option<(&str, &str)> {
        let service = self.dialled.as_ref()?;
        Some((&service.namespace, &service.name))
    }

    #[expect(clippy::type_complexity, reason = "all that is compared")]
    fn names(
        &self,
    ) -> (
        (End<'_>, End<'_>),
        Option<(&str, &str)>,
        &'static str,
        Security,
        Role,
        bool,
    ) {
        (
            self.ends(),
            self.dialled_name(),
            self.protocol,
            self.security,
            self.role,
            self.same_host(),
        )
    }

    pub(in crate::aggregate) fn labels(&self, cluster: &str) -> Labels {
        let (source, destination) = self.ends();
        let (dialled_namespace, dialled) = self.dialled_name().unwrap_or_default();
        labels([
            ("k8s_cluster_name", cluster),
            ("source_kind", source.kind.as_str()),
            ("source_namespace", source.namespace),
            ("source_workload_kind", source.workload_kind),
            ("source_name", source.name),
            ("source_zone", source.zone),
            ("destination_kind", destination.kind.as_str()),
            ("destination_namespace", destination.namespace),
            ("destination_workload_kind", destination.workload_kind),
            ("destination_name", destination.name),
            ("destination_zone", destination.zone),
            ("k8s_service_name", dialled),
            ("k8s_service_namespace", dialled_namespace),
            ("protocol", self.protocol),
            ("security", self.security.as_str()),
            ("reporter", self.role.as_str()),
            ("same_host", if self.same_host() { "true" } else { "" }),
        ])
    }

    /// The row, measures left empty.
    pub(in crate::aggregate) fn row(&self) -> EdgeRow {
        let (source, destination) = self.ends();
        EdgeRow {
            source: source.into(),
            destination: destination.into(),
            dialled: self
                .dialled_name()
                .map(|(namespace, name)| (namespace.to_owned(), name.to_owned())),
            protocol: self.protocol,
            security: self.security.as_str(),
            source_zone: source.zone.to_owned(),
            destination_zone: destination.zone.to_owned(),
            reporter: self.role.as_str(),
            same_host: self.same_host(),
            ..EdgeRow::default()
        }
    }
}

impl PartialEq for EdgeKey {
    fn eq(&self, other: &Self) -> bool {
        self.names() == other.names()
    }
}

impl Eq for EdgeKey {}

impl Hash for EdgeKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.names().hash(state);
    }
}
