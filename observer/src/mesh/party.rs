//! Who is at an end of an edge, named as in the graph of services, without copies.

use std::net::IpAddr;

use super::report::Party;
use crate::model::{
    connection::Role,
    kubernetes::Pod,
    workload::{NameSource, Peer, Workload},
};

/// [`Party`] without copies: hashes and compares as it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct End<'a> {
    /// See [`Party::kind`].
    pub kind: &'static str,
    /// See [`Party::namespace`].
    pub namespace: &'a str,
    /// See [`Party::workload_kind`].
    pub workload_kind: &'a str,
    /// See [`Party::name`].
    pub name: &'a str,
}

/// Kind of a party that is pods of one workload.
pub const WORKLOAD: &str = "workload";
/// Kind of a party that is a node, or pods on its network.
pub const NODE: &str = "node";
/// Kind of a party that is one of several workloads behind a Service.
pub const SERVICE: &str = "kubernetes_service";
/// Kind of a party that is one of several workloads with one identity.
pub const IDENTITY: &str = "identity";
/// Kind of a party that nothing is known of but that it is outside.
pub const OUTSIDE: &str = "outside";

// === impl End ===

impl<'a> End<'a> {
    /// Nothing is known of it.
    pub const UNKNOWN: Self = Self::of("unknown", "");

    const fn of(kind: &'static str, name: &'a str) -> Self {
        Self {
            kind,
            namespace: "",
            workload_kind: "",
            name,
        }
    }

    /// Whose socket it is.
    pub fn of_workload(workload: &'a Workload) -> Self {
        if let Some(pod) = workload.pod() {
            return Self::of_pod(pod);
        }
        if workload.source == NameSource::Unknown {
            return Self::UNKNOWN;
        }
        Self {
            namespace: &workload.namespace,
            ..Self::of("service", &workload.service)
        }
    }

    /// The workload of a pod.
    pub fn of_pod(pod: &'a Pod) -> Self {
        let (workload_kind, name) = pod.workload();
        Self {
            namespace: &pod.namespace,
            workload_kind,
            ..Self::of(WORKLOAD, name)
        }
    }

    /// The other end, for a socket of `role`. Of those who call from outside a few have a name by
    /// chance, which would only tell that chance: they are all one.
    pub fn of_peer(peer: &'a Peer, role: Role) -> Self {
        match peer {
            Peer::Local(workload) => Self::of_workload(workload),
            Peer::Pod(pod) => Self::of_pod(pod),
            Peer::Node(node) => Self::of(NODE, &node.name),
            Peer::Network(network) => Self::of("network", &network.name),
            Peer::Service(service) => Self {
                namespace: &service.namespace,
                ..Self::of(SERVICE, &service.name)
            },
            Peer::Identity(identity) => Self {
                namespace: &identity.namespace,
                ..Self::of(IDENTITY, &identity.service_account)
            },
            Peer::Named { name, .. } if role == Role::Client => Self::of("name", name),
            Peer::Named { address, .. } | Peer::Address(address) => Self::of_address(*address),
        }
    }

    fn of_address(address: IpAddr) -> Self {
        // An address of this host that no process is known to have.
        let kind = match address.is_loopback() {
            true => "unknown",
            false => OUTSIDE,
        };
        Self::of(kind, "")
    }

    /// With copies.
    pub fn party(self) -> Party {
        Party {
            kind: self.kind,
            namespace: self.namespace.to_owned(),
            workload_kind: self.workload_kind.to_owned(),
            name: self.name.to_owned(),
        }
    }
}

// === impl Party ===

impl Party {
    /// Without copies.
    pub fn end(&self) -> End<'_> {
        End {
            kind: self.kind,
            namespace: &self.namespace,
            workload_kind: &self.workload_kind,
            name: &self.name,
        }
    }

    /// For people: `Deployment shop/cart`, `node worker-1`, `outside`.
    pub fn describe(&self) -> String {
        match (self.kind, &*self.namespace) {
            (WORKLOAD, namespace) => format!("{} {namespace}/{}", self.workload_kind, self.name),
            (SERVICE, namespace) => format!("one behind Service {namespace}/{}", self.name),
            (IDENTITY, namespace) => format!("service account {namespace}/{}", self.name),
            (kind, _) if self.name.is_empty() => kind.to_owned(),
            (kind, _) => format!("{kind} {}", self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::kubernetes::{Node, Owner, Service};

    #[test]
    fn ends_are_named_as_in_the_graph() {
        let pod = Pod {
            namespace: "shop".into(),
            name: "cart-7f-x".into(),
            owners: [("ReplicaSet", "cart-7f"), ("Deployment", "cart")]
                .map(|(kind, name)| Owner {
                    kind: kind.into(),
                    name: name.into(),
                })
                .into(),
            ..Pod::default()
        };
        let address = |text: &str| Peer::Address(text.parse().expect("an address"));
        for (peer, role, expected) in [
            (
                Peer::Pod(Arc::new(pod)),
                Role::Client,
                "Deployment shop/cart",
            ),
            (
                Peer::Node(Arc::new(Node {
                    name: "worker-1".into(),
                    ..Node::default()
                })),
                Role::Server,
                "node worker-1",
            ),
            (
                Peer::Service(Arc::new(Service {
                    namespace: "shop".into(),
                    name: "cart".into(),
                    ..Service::default()
                })),
                Role::Client,
                "one behind Service shop/cart",
            ),
            (address("192.0.2.1"), Role::Server, "outside"),
            (address("127.0.0.1"), Role::Server, "unknown"),
        ] {
            let end = End::of_peer(&peer, role);
            let party = end.party();
            assert_eq!(party.describe(), expected);
            assert_eq!(party.end(), end);
        }
    }
}
