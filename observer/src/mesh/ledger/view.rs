//! What a socket tells of an edge: which end of which part of the way it is, and who is at both ends.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use hashbrown::HashMap;

use super::marks;
use crate::{
    mesh::{
        hops::is_inbound_port,
        party::{End, NODE},
        policy::Context,
    },
    model::{
        call::Link,
        connection::Role,
        kubernetes::{Dialled, Pod},
        mesh::{Far, Hop, ProxyKind},
        workload::Peer,
    },
};

/// Which end of which part of the way a socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Vantage {
    /// The client application's, with its proxy at the other end.
    AppClient,
    /// The server application's, with its proxy at the other end.
    AppServer,
    /// The client's end of the wire: its proxy's socket, or its own.
    WireClient {
        /// It is the proxy's.
        proxied: bool,
    },
    /// The server's end of the wire.
    WireServer {
        /// It is the proxy's.
        proxied: bool,
    },
}

/// What a socket tells of an edge.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a> {
    pub(super) vantage: Vantage,
    pub(super) client: End<'a>,
    pub(super) client_pod: Option<&'a Arc<Pod>>,
    pub(super) server: End<'a>,
    pub(super) server_pod: Option<&'a Arc<Pod>>,
    /// Port of the server's pod; 0 when it is not known.
    pub(super) port: u16,
    /// Port as dialled: the Service's, where it was one; 0 when it is not known.
    pub(super) dialled_port: u16,
    /// Service that was dialled.
    pub(super) service: Option<(&'a str, &'a str)>,
    /// It goes to where a proxy takes what is meant for several ports.
    pub(super) tunnel: bool,
    /// Why nothing is judged by it.
    pub(super) exempt: Option<&'static str>,
    /// Address of the client.
    pub(super) address: IpAddr,
    /// Address of the server.
    pub(super) server_address: IpAddr,
    /// The other end is on this host, and tells the same.
    pub(super) told_twice: bool,
}

/// Which pod a network namespace is, as the applications' own sockets tell.
#[derive(Debug, Default)]
pub(super) struct Places {
    pods: HashMap<u64, Arc<Pod>>,
}

/// Most network namespaces that are remembered.
pub(super) const MOST_PLACES: usize = 4_096;

// === impl Places ===

impl Places {
    /// Remembers where the pod of an application is.
    pub(super) fn learn(&mut self, link: &Link) {
        let place = link.connection.owner.network_namespace;
        if place == 0 || matches!(link.hop, Hop::Proxy(_)) {
            return;
        }
        let Some(pod) = link.workload.pod() else {
            return;
        };
        if pod.traits.host_network {
            return;
        }
        if let Some(known) = self.pods.get_mut(&place) {
            if !Arc::ptr_eq(known, pod) {
                *known = pod.clone();
            }
            return;
        }
        if self.pods.len() >= MOST_PLACES {
            // Pods that are gone make room for those to come.
            self.pods.retain(|_, pod| Arc::strong_count(pod) > 1);
        }
        if self.pods.len() < MOST_PLACES {
            self.pods.insert(place, pod.clone());
        }
    }

    fn pod(&self, link: &Link) -> Option<&Arc<Pod>> {
        self.pods.get(&link.connection.owner.network_namespace)
    }

    pub(super) fn len(&self) -> usize {
        self.pods.len()
    }
}

// === impl View ===

impl<'a> View<'a> {
    /// What a socket tells; `far` is whom it is really with. `None` when that is nothing of an edge:
    /// what has no pod at either end, proxies' sockets to their own application, loopback, probes,
    /// and ports that are the mesh's own.
    pub(super) fn of(
        link: &'a Link,
        far: Option<&'a Arc<Far>>,
        places: &'a Places,
        context: &Context,
    ) -> Option<Self> {
        let connection = &link.connection;
        let (vantage, peer) = match (link.hop, connection.role) {
            (_, Role::Unknown) | (Hop::Meta, _) => return None,
            // The socket's own peer is but the proxy.
            (Hop::ToProxy, Role::Client) => (Vantage::AppClient, far.map(|far| &far.peer)),
            (Hop::FromProxy, Role::Server) => (Vantage::AppServer, far.map(|far| &far.peer)),
            (Hop::ToProxy | Hop::FromProxy, _) => return None,
            (Hop::Direct, Role::Client) => {
                (Vantage::WireClient { proxied: false }, Some(link.peer()))
            }
            (Hop::Direct, Role::Server) => {
                (Vantage::WireServer { proxied: false }, Some(link.peer()))
            }
            (Hop::Proxy(_), Role::Client) => {
                (Vantage::WireClient { proxied: true }, Some(link.peer()))
            }
            (Hop::Proxy(_), Role::Server) => {
                (Vantage::WireServer { proxied: true }, Some(link.peer()))
            }
        };
        let own_pod = match link.hop {
            // It has a socket in each pod that it stands for.
            Hop::Proxy(ProxyKind::Node) => Some(places.pod(link)?),
            _ => link.workload.pod(),
        };
        let peer_pod = peer.and_then(Peer::pod);
        if own_pod.is_none() && peer_pod.is_none() {
            return None;
        }
        if let (Some(own), Some(other)) = (own_pod, peer_pod)
            && own.uid == other.uid
            && own.name == other.name
            && own.namespace == other.namespace
        {
            return None;
        }

        let pair = (connection.local, connection.remote);
        let wire = connection.wire.unwrap_or(pair);
        let is_wire = matches!(
            vantage,
            Vantage::WireClient { .. } | Vantage::WireServer { .. }
        );
        if is_wire && !crosses(pair, wire, connection.role) {
            return None;
        }

        let own = own_pod.map_or_else(|| End::of_workload(&link.workload), |pod| End::of_pod(pod));
        let other = peer.map_or(End::UNKNOWN, |peer| End::of_peer(peer, connection.role));
        let (client, client_pod, server, server_pod) = match connection.role {
            Role::Server => (other, peer_pod, own, own_pod),
            Role::Client | Role::Unknown => (own, own_pod, other, peer_pod),
        };

        let mut view = View {
            vantage,
            client,
            client_pod,
            server,
            server_pod,
            port: 0,
            dialled_port: 0,
            service: link
                .dialled
                .as_ref()
                .map(|service| (&*service.namespace, &*service.name)),
            tunnel: false,
            exempt: None,
            address: match connection.role {
                Role::Server => wire.1.ip(),
                Role::Client | Role::Unknown => wire.0.ip(),
            },
            server_address: match connection.role {
                Role::Server => wire.0.ip(),
                Role::Client | Role::Unknown => wire.1.ip(),
            },
            // Whoever the proxy at the other end stands for, its socket is seen here.
            told_twice: link.peer.is_local() && is_wire || matches!(peer, Some(Peer::Local(_))),
        };
        view.find_port(link, wire, context);
        if view.port != 0 && marks::is_meta(view.port) {
            return None;
        }
        view.exempt = exempt(&view);
        Some(view)
    }

    fn find_port(&mut self, link: &'a Link, wire: (SocketAddr, SocketAddr), context: &Context) {
        let connection = &link.connection;
        let clusters_own = |dialled: Dialled| {
            matches!(
                dialled,
                Dialled::ClusterIp
                    | Dialled::NodePort
                    | Dialled::LoadBalancer
                    | Dialled::ExternalIp
            )
        };
        let virtual_address = link
            .dialled
            .as_ref()
            .is_some_and(|service| clusters_own(service.dialled));
        match self.vantage {
            Vantage::AppServer => self.port = connection.local.port(),
            Vantage::AppClient => {
                self.dialled_port = connection.remote.port();
                self.port = match virtual_address {
                    true => self.target(context),
                    false => self.dialled_port,
                };
            }
            Vantage::WireClient { proxied: false } => {
                self.dialled_port = connection.remote.port();
                self.port = match virtual_address && wire.1 == connection.remote {
                    true => self.target(context),
                    false => wire.1.port(),
                };
                self.tunnel = is_inbound_port(self.port);
            }
            Vantage::WireClient { proxied: true } => {
                self.port = wire.1.port();
                if let Some(signs) = &link.mesh {
                    self.dialled_port = signs.port.unwrap_or_default();
                    if let Some(service) = signs.host.as_deref().and_then(service_of) {
                        self.service = Some(service);
                    }
                }
                self.tunnel = is_inbound_port(self.port);
            }
            Vantage::WireServer { .. } => {
                self.service = None;
                let ports = [connection.local.port(), wire.0.port()];
                let own = ports.into_iter().find(|port| !is_inbound_port(*port));
                self.tunnel = ports.into_iter().any(is_inbound_port);
                self.port = own.unwrap_or_default();
            }
        }
        if is_inbound_port(self.port) {
            self.port = 0;
        }
    }

    /// The port of a pod that a port of a Service leads to; 0 when it cannot be told.
    fn target(&self, context: &Context) -> u16 {
        let find = || {
            let (namespace, name) = self.service?;
            let service = context.service(namespace, name)?;
            let mut ports = service.ports.iter();
            let port = ports.find(|port| port.port == self.dialled_port)?;
            if port.target != 0 {
                return Some(port.target);
            }
            if port.target_name.is_empty() {
                return Some(port.port);
            }
            let named = &self.server_pod?.traits.ports;
            let (_, number) = named.iter().find(|(name, _)| *name == port.target_name)?;
            Some(*number)
        };
        find().unwrap_or_default()
    }
}

/// Namespace and name of a Service, from its full name `cart.shop.svc.cluster.local`.
pub(super) fn service_of(host: &str) -> Option<(&str, &str)> {
    let (name, rest) = host.split_once('.')?;
    let (namespace, domain) = rest.split_once('.')?;
    let in_cluster = domain == "svc" || domain.starts_with("svc.");
    in_cluster.then_some((namespace, name))
}

/// Whether a connection leaves its pod, or came into it: not between a proxy and its application.
fn crosses(pair: (SocketAddr, SocketAddr), wire: (SocketAddr, SocketAddr), role: Role) -> bool {
    let all = [pair.0, pair.1, wire.0, wire.1];
    let inner = all.into_iter().any(|address| marks::is_inner(address.ip()));
    let own = wire.0.ip() == wire.1.ip();
    let outbound = role == Role::Server
        && [pair.0, wire.0]
            .into_iter()
            .any(|address| marks::is_outbound(address.port()));
    !inner && !own && !outbound
}

fn exempt(view: &View<'_>) -> Option<&'static str> {
    let host = |pod: Option<&Arc<Pod>>| pod.is_some_and(|pod| pod.traits.host_network);
    if view.client.kind == NODE {
        return Some("a node calls, and its probes cannot be told from pods on its network");
    }
    if view.server.kind == NODE || host(view.client_pod) || host(view.server_pod) {
        return Some("a pod on the network of its node is in no mesh");
    }
    None
}
