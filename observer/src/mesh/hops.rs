//! Which sockets are a proxy's, and what a socket is on the way of a call through a mesh.
//!
//! A proxy is known by the container that it runs in, and by its executable while only the pod is
//! known; never by a port alone. An application behind a proxy is still counted at its own socket:
//! what its proxy does on the other side belongs to the same call.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::model::{
    call::Link,
    connection::Role,
    kubernetes::Pod,
    mesh::{Hop, ProxyKind},
    workload::{Peer, Workload},
};

/// Container of Istio's proxy, and of its gateways, waypoints and node proxies.
const ISTIO_CONTAINER: &str = "istio-proxy";
/// Container of Linkerd's proxy.
const LINKERD_CONTAINER: &str = "linkerd-proxy";
/// Executables of proxies, and what they are where nothing else tells.
const EXECUTABLES: [(&str, ProxyKind); 4] = [
    ("envoy", ProxyKind::Sidecar),
    ("pilot-agent", ProxyKind::Sidecar),
    ("linkerd2-proxy", ProxyKind::Sidecar),
    ("ztunnel", ProxyKind::Node),
];
/// The executable that runs beside Envoy: it asks applications for their health and metrics, and is
/// asked for those of the proxy.
const AGENT: &str = "pilot-agent";
/// Where Istio's sidecar calls its application from.
const FROM_ISTIO: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, 6)),
    IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6)),
];
/// Ports that sidecars take what their application sends at: Istio's and Linkerd's.
const OUTBOUND_PORTS: [u16; 2] = [15001, 4140];
/// Ports that proxies take what is sent to their application at: Istio's, HBONE's, Linkerd's.
const INBOUND_PORTS: [u16; 3] = [15006, 15008, 4143];
/// Ports of proxies themselves: administration, health, metrics.
const META_PORTS: [u16; 8] = [15000, 15004, 15020, 15021, 15053, 15090, 4190, 4191];
/// Label of pods that implement a Gateway of the Gateway API, waypoints among them.
const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";
/// Label with the class of that.
const GATEWAY_CLASS: &str = "gateway.networking.k8s.io/gateway-class-name";
/// Class of waypoints, and of those of another cluster.
const WAYPOINT_CLASSES: [&str; 2] = ["istio-waypoint", "istio-remote"];
/// Label with the controller that runs such a pod, and that of waypoints: older ones have no class.
const GATEWAY_CONTROLLER: (&str, &str) = ("gateway.istio.io/managed", "istio.io-mesh-controller");
/// Annotation of pods that the proxy of their node stands for.
const REDIRECTED: (&str, &str) = ("ambient.istio.io/redirection", "enabled");
/// Where probes of the kubelet seem to come from in ambient mode.
const AMBIENT_PROBES: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 7, 127));
/// How the kubelet calls itself in its probes: this and its version.
const KUBELET: &str = "kube-probe/";

/// The proxy that a workload is; `None` for an application.
pub fn proxy(workload: &Workload) -> Option<ProxyKind> {
    if let Some(container) = &workload.container
        && !container.name.is_empty()
    {
        return match &*container.name {
            ISTIO_CONTAINER => Some(istio(&container.pod, workload)),
            LINKERD_CONTAINER => Some(ProxyKind::Sidecar),
            _ => None,
        };
    }
    // In a pod, but nobody has told its container yet.
    if workload.pod_uid.is_empty() {
        return None;
    }
    let name = executable(workload);
    let known = EXECUTABLES.iter().find(|(known, _)| *known == name);
    known.map(|(_, kind)| *kind)
}

/// What a container of Istio's proxy is, in this pod.
fn istio(pod: &Pod, workload: &Workload) -> ProxyKind {
    let traits = &pod.traits;
    if executable(workload) == "ztunnel" || traits.label("app") == Some("ztunnel") {
        return ProxyKind::Node;
    }
    if is_waypoint(pod) {
        return ProxyKind::Waypoint;
    }
    // A gateway has no application beside it.
    let alone = traits.containers.len() == 1;
    if traits.label(GATEWAY_NAME).is_some() || alone {
        return ProxyKind::Gateway;
    }
    ProxyKind::Sidecar
}

/// Whether a pod is a waypoint: it takes the tunnels of the proxies of nodes, and makes others.
pub fn is_waypoint(pod: &Pod) -> bool {
    let traits = &pod.traits;
    match traits.label(GATEWAY_CLASS) {
        Some(class) => WAYPOINT_CLASSES.contains(&class),
        None => traits.label(GATEWAY_CONTROLLER.0) == Some(GATEWAY_CONTROLLER.1),
    }
}

/// Whether the proxy of its node stands for a pod.
pub fn is_redirected(pod: &Pod) -> bool {
    pod.traits.annotation(REDIRECTED.0) == Some(REDIRECTED.1)
}

fn executable(workload: &Workload) -> &str {
    let path = &workload.executable;
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

/// Whether a pod has a proxy of its own.
fn has_sidecar(pod: &Pod) -> bool {
    let traits = &pod.traits;
    traits.containers.len() > 1
        && [ISTIO_CONTAINER, LINKERD_CONTAINER]
            .iter()
            .any(|name| traits.has_container(name))
}

/// What the socket of a link is on the way of a call.
pub fn hop(link: &Link) -> Hop {
    if let Some(kind) = proxy(&link.workload) {
        return Hop::Proxy(kind);
    }
    let connection = &link.connection;
    let wire = connection.wire.map(|(_, far)| far);
    let redirected = wire.is_some_and(|far| far != connection.remote);
    if let Peer::Local(other) = &link.peer
        && let Some(kind) = proxy(other)
        && kind.is_transparent()
        && serves(other, kind, link)
    {
        if executable(other) == AGENT {
            return Hop::Meta;
        }
        return match connection.role {
            // It may as well be before another pod at the other end: that of its node.
            Role::Server if kind == ProxyKind::Node && is_bare(link) => Hop::Direct,
            Role::Server => Hop::FromProxy,
            // It did not call the proxy, but was redirected to it: on the way out, within its own pod.
            Role::Client if redirected && (kind != ProxyKind::Node || stays(link)) => Hop::ToProxy,
            Role::Client if kind == ProxyKind::Node && !asks_a_proxy(link) && !stays(link) => {
                Hop::Direct
            }
            Role::Client | Role::Unknown => Hop::Meta,
        };
    }
    if connection.role == Role::Client && asks_a_proxy(link) {
        return Hop::Meta;
    }
    // The proxy's end was not seen: where the pod has one, its addresses tell.
    let Some(pod) = link.workload.pod().filter(|pod| has_sidecar(pod)) else {
        return Hop::Direct;
    };
    match connection.role {
        Role::Server if FROM_ISTIO.contains(&connection.remote.ip()) => Hop::FromProxy,
        // Linkerd calls from the pod's own address.
        Role::Server
            if pod.traits.has_container(LINKERD_CONTAINER)
                && connection.remote.ip() == connection.local.ip() =>
        {
            Hop::FromProxy
        }
        Role::Client
            if redirected && wire.is_some_and(|far| OUTBOUND_PORTS.contains(&far.port())) =>
        {
            Hop::ToProxy
        }
        _ => Hop::Direct,
    }
}

/// Whether no proxy of a node stands for the pod of a link.
fn is_bare(link: &Link) -> bool {
    link.workload.pod().is_some_and(|pod| !is_redirected(pod))
}

/// Whether what a client sends does not leave its pod.
fn stays(link: &Link) -> bool {
    let connection = &link.connection;
    let far = connection.wire.map_or(connection.remote, |(_, far)| far);
    far.ip().is_loopback() || far.ip() == connection.local.ip()
}

/// Whether a link goes to an interface of a proxy itself.
fn asks_a_proxy(link: &Link) -> bool {
    let far = link
        .connection
        .wire
        .map_or(link.connection.remote, |(_, far)| far);
    if !is_meta_port(far.port()) {
        return false;
    }
    match &link.peer {
        Peer::Local(other) if proxy(other).is_some() => true,
        peer => peer.pod().is_some_and(|pod| {
            let containers = &pod.traits.containers;
            containers
                .iter()
                .any(|name| [ISTIO_CONTAINER, LINKERD_CONTAINER].contains(&&**name))
        }),
    }
}

/// Whether a port is one of proxies themselves, where there is a proxy.
pub fn is_meta_port(port: u16) -> bool {
    META_PORTS.contains(&port)
}

/// Whether a proxy carries what the workload of a link sends and gets.
fn serves(proxy: &Workload, kind: ProxyKind, link: &Link) -> bool {
    if kind == ProxyKind::Node {
        return true;
    }
    match (proxy.pod(), link.workload.pod()) {
        (Some(proxy), Some(own)) => proxy.uid == own.uid,
        _ => !proxy.pod_uid.is_empty() && proxy.pod_uid == link.workload.pod_uid,
    }
}

/// Whether a proxy's socket is on the side of the network, rather than of its application.
pub fn is_on_wire(link: &Link) -> bool {
    let connection = &link.connection;
    let own = connection.local.ip();
    let far = match connection.role {
        // Redirected from outside of the pod: the caller is as the socket has it.
        Role::Server => connection.remote.ip(),
        Role::Client => connection
            .wire
            .map_or(connection.remote, |(_, far)| far)
            .ip(),
        Role::Unknown => return false,
    };
    !own.is_loopback() && !far.is_loopback() && own != far && !delivers(link)
}

/// Whether it is the proxy of a node that hands on to an application what it took for it, in the name
/// of who called.
fn delivers(link: &Link) -> bool {
    if link.connection.role != Role::Client || proxy(&link.workload) != Some(ProxyKind::Node) {
        return false;
    }
    let Peer::Local(other) = &link.peer else {
        return false;
    };
    // To a pod that it does not stand for it goes over the network.
    proxy(other).is_none() && other.pod().is_some_and(|pod| is_redirected(pod))
}

/// Whether a port is one that proxies take what is sent to their application at.
pub fn is_inbound_port(port: u16) -> bool {
    INBOUND_PORTS.contains(&port)
}

/// Whether who asks is the kubelet, for a probe: by the name that it gives itself, or by where it
/// seems to come from.
pub fn is_probe(remote: IpAddr, peer: &Peer, user_agent: &str) -> bool {
    remote == AMBIENT_PROBES
        || user_agent.starts_with(KUBELET)
            && matches!(peer, Peer::Node(_) | Peer::Local(_) | Peer::Address(_))
}

#[cfg(test)]
mod tests;
