//! What a socket is to the judge of requests: a client's end, a server's, or none that counts.

use std::{
    hash::BuildHasher,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use foldhash::fast::RandomState;

use super::{
    answers::Answers,
    party::{Parties, Who},
};
use crate::{
    mesh::{
        decision::{Caller, Destination, Request},
        party::End,
    },
    model::{
        call::Link,
        connection::Role,
        exchange::{Exchange, RequestHead},
        kubernetes::{Pod, Service},
        mesh::{Far, Hop, Identity, Plane},
        policy::PortFacts,
        security::Security,
        workload::Peer,
    },
};

/// Address that probes of kubelet come from in ambient mode.
const PROBES: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 7, 127));
/// Ports of proxies themselves: health, metrics, administration.
const META: [u16; 9] = [
    15_000, 15_004, 15_020, 15_021, 15_053, 15_080, 15_090, 4_190, 4_191,
];

/// What a socket is to us.
#[derive(Clone, Debug)]
pub(super) enum Vantage {
    /// Nothing that counts.
    None,
    /// A client's own.
    Client(Arc<ClientEnd>),
    /// A server's own.
    Server(Arc<ServerEnd>),
}

/// A client's own socket.
#[derive(Debug)]
pub(super) struct ClientEnd {
    /// Who.
    pub(super) who: Who,
    /// Its pod.
    pub(super) pod: Arc<Pod>,
    /// Who carries its traffic.
    pub(super) plane: Plane,
    /// Its proxy took the connection.
    pub(super) proxied: bool,
    /// It is older than us: what it is may not be known.
    pub(super) old: bool,
    /// Service that was dialled.
    pub(super) service: Option<Arc<Service>>,
    /// Who serves.
    pub(super) server: Who,
    /// Its pod, where that is known.
    pub(super) server_pod: Option<Arc<Pod>>,
    /// Port as dialled.
    pub(super) port: u16,
    /// Port of the server's pod; 0 when unknown.
    pub(super) pod_port: u16,
    /// Address as dialled.
    pub(super) address: IpAddr,
    /// The way to the server is mutual TLS; `None` when that is not known.
    pub(super) mutual: Option<bool>,
    /// Name of what is outside of the cluster, where DNS told it; `None` inside.
    pub(super) outside: Option<Option<Arc<str>>>,
    /// Stands for all of it.
    pub(super) scope: u64,
}

/// A server's own socket.
#[derive(Debug)]
pub(super) struct ServerEnd {
    /// Who.
    pub(super) who: Who,
    /// Its pod.
    pub(super) pod: Arc<Pod>,
    /// Who carries its traffic.
    pub(super) plane: Plane,
    /// Its port.
    pub(super) port: u16,
    /// Who calls.
    pub(super) client: Who,
    /// Its pod, where that is known.
    pub(super) client_pod: Option<Arc<Pod>>,
    /// The identity that was proved.
    pub(super) identity: Option<Arc<Identity>>,
    /// The way to the client is mutual TLS; `None` when that is not known.
    pub(super) mutual: Option<bool>,
    /// Address of the client, where it is its own.
    pub(super) address: Option<IpAddr>,
    /// Stands for all of it.
    pub(super) scope: u64,
}

/// What makes ends.
#[derive(Debug, Default)]
pub(super) struct Ends {
    hasher: RandomState,
    /// Who there is.
    pub(super) parties: Parties,
}

/// A port of a Service, as its pods have it; 0 when that is not known.
pub(super) fn target(port: &PortFacts, pod: Option<&Pod>) -> u16 {
    if port.target != 0 {
        return port.target;
    }
    if port.target_name.is_empty() {
        return port.port;
    }
    let named = pod.and_then(|pod| {
        let mut ports = pod.traits.ports.iter();
        ports.find(|(name, _)| *name == port.target_name)
    });
    named.map_or(0, |(_, number)| *number)
}

/// What is known of a request, with room for its fields.
pub(super) fn request<'a>(
    head: &'a RequestHead,
    grpc: bool,
    fields: &'a mut Vec<(&'static str, &'a str)>,
) -> Request<'a> {
    // It is cut at 128 bytes: then the rest is not known.
    if !head.user_agent.is_empty() && head.user_agent.len() < 128 {
        fields.push(("user-agent", &head.user_agent));
    }
    Request {
        method: &head.method,
        path: if head.truncated { "" } else { &head.path },
        authority: &head.authority,
        grpc,
        headers: fields,
    }
}

/// Whether an exchange is a remote procedure call.
pub(super) fn is_grpc(exchange: &Exchange) -> bool {
    exchange.rpc.is_some()
}

fn mutual(security: Security, identity: bool) -> Option<bool> {
    match security {
        Security::IstioMutualTls | Security::Hbone | Security::LinkerdMutualTls => Some(true),
        Security::Plaintext => Some(false),
        Security::Tls | Security::Unknown => identity.then_some(true),
    }
}

// === impl Ends ===

impl Ends {
    /// What a socket is to us. `far` is whom it is really connected with.
    pub(super) fn vantage(
        &mut self,
        answers: &impl Answers,
        link: &Link,
        far: Option<&Far>,
        limit: usize,
    ) -> Vantage {
        let vantage = match (link.hop, link.connection.role) {
            (Hop::ToProxy | Hop::Direct, Role::Client) => {
                self.client(answers, link, far, limit).map(Vantage::Client)
            }
            (Hop::FromProxy | Hop::Direct, Role::Server) => {
                self.server(answers, link, far, limit).map(Vantage::Server)
            }
            _ => None,
        };
        vantage.unwrap_or(Vantage::None)
    }

    fn client(
        &mut self,
        answers: &impl Answers,
        link: &Link,
        far: Option<&Far>,
        limit: usize,
    ) -> Option<Arc<ClientEnd>> {
        let pod = link.workload.pod()?.clone();
        let remote = link.connection.remote;
        let peer = far.map_or(&link.peer, |far| &far.peer);
        let proxied = link.hop == Hop::ToProxy;
        if remote.ip().is_loopback() || META.contains(&remote.port()) || pod.traits.host_network {
            return None;
        }
        let server_pod = peer.pod().cloned();
        let service = link.dialled.clone();
        let facts = service
            .as_ref()
            .and_then(|service| answers.service(&service.namespace, &service.name));
        let pod_port = match facts {
            Some(facts) => {
                let mut ports = facts.ports.iter();
                let port = ports.find(|port| port.port == remote.port());
                port.map_or(0, |port| target(port, server_pod.as_deref()))
            }
            None if service.is_none() => remote.port(),
            None => 0,
        };
        let outside = match peer {
            _ if service.is_some() => None,
            Peer::Named { name, .. } => Some(Some(name.clone())),
            Peer::Network(_) | Peer::Address(_) => Some(None),
            _ => None,
        };
        let security = far.map_or(link.security, |far| far.security);
        let plane = answers.plane(&pod);
        let scope = self.hasher.hash_one((
            (&pod.namespace, &pod.traits, plane, link.hop),
            pod.workload(),
            &service,
            remote,
            server_pod.as_ref().map(|pod| (&pod.namespace, &pod.traits)),
            peer.name(),
        ));
        Some(Arc::new(ClientEnd {
            who: self.parties.who(End::of_workload(&link.workload), limit)?,
            server: self.parties.who(End::of_peer(peer, Role::Client), limit)?,
            plane,
            proxied,
            old: link.connection.pre_existing,
            service,
            server_pod,
            port: remote.port(),
            pod_port,
            address: remote.ip(),
            mutual: mutual(security, false),
            outside,
            scope,
            pod,
        }))
    }

    fn server(
        &mut self,
        answers: &impl Answers,
        link: &Link,
        far: Option<&Far>,
        limit: usize,
    ) -> Option<Arc<ServerEnd>> {
        let pod = link.workload.pod()?.clone();
        let (local, remote) = (link.connection.local, link.connection.remote);
        let peer = far.map_or(&link.peer, |far| &far.peer);
        let direct = link.hop == Hop::Direct;
        let probe = matches!(peer, Peer::Node(_)) || remote.ip() == PROBES;
        let meta = META.contains(&local.port()) || pod.traits.host_network;
        let client_pod = peer.pod().cloned();
        let own = client_pod
            .as_ref()
            .is_some_and(|client| client.uid == pod.uid);
        if probe || meta || (direct && (own || remote.ip().is_loopback())) {
            return None;
        }
        let identity = far.and_then(|far| far.identity.clone());
        let security = far.map_or(link.security, |far| far.security);
        let own_address = |address: IpAddr| match address {
            IpAddr::V4(address) => !address.is_loopback(),
            IpAddr::V6(address) => {
                !address.is_loopback() && address.segments() != [0, 0, 0, 0, 0, 0, 0, 6]
            }
        };
        let address = match peer {
            Peer::Address(address) | Peer::Named { address, .. } => Some(*address),
            Peer::Network(network) => Some(network.address),
            _ => Some(remote.ip()),
        };
        let address = address.filter(|address| own_address(*address));
        let plane = answers.plane(&pod);
        let mutual = mutual(security, identity.is_some());
        let scope = self.hasher.hash_one((
            (&pod.namespace, &pod.traits, plane, link.hop),
            (pod.workload(), local.port()),
            (&identity, mutual, address),
            client_pod
                .as_ref()
                .map(|pod| (&pod.namespace, &pod.traits, pod.workload())),
            End::of_peer(peer, Role::Server),
        ));
        Some(Arc::new(ServerEnd {
            who: self.parties.who(End::of_workload(&link.workload), limit)?,
            client: self.parties.who(End::of_peer(peer, Role::Server), limit)?,
            plane,
            port: local.port(),
            client_pod,
            identity,
            mutual,
            address,
            scope,
            pod,
        }))
    }
}

// === impl ClientEnd ===

impl ClientEnd {
    /// Where it goes, with the name that it asked for.
    pub(super) fn destination<'a>(&'a self, authority: &'a str) -> Destination<'a> {
        let service = self.service.as_ref();
        Destination {
            service: service.map(|service| (&*service.namespace, &*service.name)),
            authority,
            port: self.port,
            pod: self.server_pod.as_deref(),
            pod_port: self.pod_port,
            address: self.outside.is_some().then_some(self.address),
        }
    }
}

// === impl ServerEnd ===

impl ServerEnd {
    /// Who calls.
    pub(super) fn caller(&self) -> Caller<'_> {
        Caller {
            pod: self.client_pod.as_deref(),
            identity: self.identity.as_deref(),
            mutual: self.mutual,
            address: self.address,
        }
    }
}
