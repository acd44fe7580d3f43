//! The other end of a call or a lookup as attributes.
//!
//! `service.peer.name` and `service.peer.namespace` are those of its service; `peer.service`, which
//! they replaced, is still what service graphs look for at clients, and also has names that are
//! none of a service: of a node, a network, or from DNS. `k8s.service.name` and
//! `k8s.service.namespace` are the Service that the client dialled, `observer.dialled` which of its
//! addresses. `observer.peer.kind` is `local` (a process of this host), `pod`, `node`, `network`,
//! `name` (that DNS had led to) or `address`; `observer.peer.k8s.*` and
//! `observer.peer.cloud.availability_zone` say where on Kubernetes it is.

use std::net::SocketAddr;

use opentelemetry_semantic_conventions::attribute as semantic;

use super::attributes::Attributes;
use crate::model::{connection::Role, kubernetes::Service, workload::Peer};

/// `service.name` of the other end, for what reads no newer name.
pub(super) const PEER_SERVICE: &str = "peer.service";

/// Namespace of `k8s.service.name`.
const SERVICE_NAMESPACE: &str = "k8s.service.namespace";

/// Who is at the other end of a socket of `role`.
pub(super) fn push(out: &mut Attributes, peer: &Peer, role: Role, dialled: Option<&Service>) {
    out.some(semantic::SERVICE_PEER_NAME, peer.service());
    out.some(semantic::SERVICE_PEER_NAMESPACE, peer.namespace());
    if role == Role::Client {
        out.some(PEER_SERVICE, peer.name());
        if let Some(service) = dialled {
            out.text(semantic::K8S_SERVICE_NAME, &service.name);
            out.text(SERVICE_NAMESPACE, &service.namespace);
            out.text("observer.dialled", service.dialled.as_str());
        }
    }
    out.text("observer.peer.kind", peer.kind());
    let mut node = match peer {
        Peer::Node(node) => Some(node),
        _ => None,
    };
    if let Some(pod) = peer.pod() {
        out.text("observer.peer.k8s.namespace.name", &pod.namespace);
        out.text("observer.peer.k8s.pod.name", &pod.name);
        let (kind, name) = pod.workload();
        out.text("observer.peer.k8s.workload.kind", kind);
        out.text("observer.peer.k8s.workload.name", name);
        node = pod.node.as_ref();
    }
    if let Some(node) = node {
        out.text("observer.peer.k8s.node.name", &node.name);
        out.text("observer.peer.cloud.availability_zone", &node.zone);
    }
}

/// `network.local.*` and `network.peer.*`: the addresses on the wire.
pub(super) fn push_addresses(out: &mut Attributes, local: SocketAddr, remote: SocketAddr) {
    out.made(semantic::NETWORK_PEER_ADDRESS, remote.ip().to_string());
    out.integer(semantic::NETWORK_PEER_PORT, remote.port());
    out.made(semantic::NETWORK_LOCAL_ADDRESS, local.ip().to_string());
    out.integer(semantic::NETWORK_LOCAL_PORT, local.port());
}

/// `server.address` and `server.port` of what a client dialled: the name that it asked for, that
/// of the Service, the name that DNS had led it by, or the address.
pub(super) fn push_dialled_address(
    out: &mut Attributes,
    asked: Option<&str>,
    (peer, remote): (&Peer, SocketAddr),
    dialled: Option<&Service>,
) {
    let key = semantic::SERVER_ADDRESS;
    match (asked, dialled, peer) {
        (Some(name), _, _) if !name.is_empty() => out.text(key, name),
        (_, Some(service), _) => out.made(key, format!("{}.{}", service.name, service.namespace)),
        (_, None, Peer::Named { name, .. }) => out.text(key, name),
        (_, None, _) => out.made(key, remote.ip().to_string()),
    }
    out.integer(semantic::SERVER_PORT, remote.port());
}
