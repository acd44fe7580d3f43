//! Connections, step by step.

use super::*;

// === impl Wire ===

impl Wire {
    pub(in crate::mesh::ledger) fn new(
        hop: Hop,
        role: Role,
        own: &Arc<Pod>,
        container: &'static str,
        peer: Peer,
    ) -> Self {
        let (local, remote) = match role {
            Role::Server => ("10.0.2.2:8080", "10.0.1.1:40000"),
            _ => ("10.0.1.1:40000", "10.0.2.2:8080"),
        };
        Self {
            hop,
            role,
            own: own.clone(),
            container,
            peer,
            local: address(local),
            remote: address(remote),
            security: Security::Plaintext,
            dialled: None,
            opening: None,
            mesh: None,
            far: None,
            received: 500,
            sent: 100,
            by: ClosedBy::Local,
            reset: false,
            pre_existing: false,
            namespace: 0,
            turns: (0, Duration::ZERO),
        }
    }

    /// An application's own connection, on the client's node.
    pub(in crate::mesh::ledger) fn direct(client: &Arc<Pod>, server: &Arc<Pod>) -> Self {
        Self {
            dialled: Some(cart_service()),
            ..Self::new(
                Hop::Direct,
                Role::Client,
                client,
                "app",
                Peer::Pod(server.clone()),
            )
        }
    }

    /// The sidecar's connection on the wire, on the client's node.
    pub(in crate::mesh::ledger) fn sidecar(
        client: &Arc<Pod>,
        server: &Arc<Pod>,
        security: Security,
    ) -> Self {
        let container = match client.traits.has_container("linkerd-proxy") {
            true => "linkerd-proxy",
            false => "istio-proxy",
        };
        let hop = Hop::Proxy(ProxyKind::Sidecar);
        let peer = Peer::Pod(server.clone());
        Self {
            ..Self::new(hop, Role::Client, client, container, peer).secured(security)
        }
    }

    /// What the server's sidecar takes, on the server's node.
    pub(in crate::mesh::ledger) fn into_sidecar(
        server: &Arc<Pod>,
        peer: Peer,
        security: Security,
    ) -> Self {
        let hop = Hop::Proxy(ProxyKind::Sidecar);
        Self {
            local: address("10.0.2.2:15006"),
            ..Self::new(hop, Role::Server, server, "istio-proxy", peer).secured(security)
        }
    }

    /// What the server's application takes itself, on the server's node.
    pub(in crate::mesh::ledger) fn into_app(server: &Arc<Pod>, peer: Peer) -> Self {
        Self::new(Hop::Direct, Role::Server, server, "app", peer)
    }

    /// The client application's connection to its proxy.
    pub(in crate::mesh::ledger) fn to_proxy(
        client: &Arc<Pod>,
        server: &Arc<Pod>,
        security: Security,
    ) -> Self {
        let far = Far {
            peer: Peer::Pod(server.clone()),
            source: FarSource::Service,
            security,
            identity: None,
            proxy: Some(workload(client, "istio-proxy")),
        };
        let peer = Peer::Local(workload(client, "istio-proxy"));
        Self {
            remote: address("10.96.0.1:80"),
            dialled: Some(cart_service()),
            far: Some(Arc::new(far)),
            ..Self::new(Hop::ToProxy, Role::Client, client, "app", peer)
        }
    }

    /// The server application's connection from its proxy.
    pub(in crate::mesh::ledger) fn from_proxy(
        server: &Arc<Pod>,
        client: Peer,
        security: Security,
    ) -> Self {
        let far = Far {
            peer: client,
            source: FarSource::Identity,
            security,
            identity: None,
            proxy: Some(workload(server, "istio-proxy")),
        };
        let peer = Peer::Local(workload(server, "istio-proxy"));
        Self {
            remote: address("127.0.0.6:50000"),
            far: Some(Arc::new(far)),
            ..Self::new(Hop::FromProxy, Role::Server, server, "app", peer)
        }
    }

    pub(in crate::mesh::ledger) fn secured(self, security: Security) -> Self {
        let opening = match security {
            Security::Unknown | Security::Plaintext => None,
            _ => Some(tls(0x0304, 0x1301)),
        };
        Self {
            security,
            opening,
            ..self
        }
    }

    pub(in crate::mesh::ledger) fn link(&self, id: u64, started: Monotonic) -> Link {
        // Who dials the Service is led to the pod.
        let led = self.hop == Hop::Direct && self.role == Role::Client && self.dialled.is_some();
        let remote = match led {
            true => address("10.96.0.1:80"),
            false => self.remote,
        };
        Link {
            connection: Connection {
                id: ConnectionId(id),
                role: self.role,
                local: self.local,
                remote,
                wire: led.then_some((self.local, self.remote)),
                owner: Process {
                    network_namespace: self.namespace,
                    ..Process::default()
                },
                started,
                established: Some(started),
                sequences: None,
                pre_existing: self.pre_existing,
            },
            workload: workload(&self.own, self.container),
            peer: self.peer.clone(),
            dialled: self.dialled.clone(),
            security: self.security,
            opening: self.opening.clone().map(Arc::new),
            mesh: self.mesh.clone().map(Arc::new),
            hop: self.hop,
            far: self.far.clone(),
        }
    }
}
