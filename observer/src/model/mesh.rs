//! What a mesh does to a call: its proxies, the identities that they vouch for, its route, and
//! whether what was seen is what was declared.

use std::{sync::Arc, time::Duration};

use super::{
    policy::ObjectRef,
    security::Security,
    workload::{Peer, Workload},
};

/// Who carries the traffic of a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Plane {
    /// Nobody: it is in no mesh.
    #[default]
    None,
    /// Istio, by a sidecar.
    IstioSidecar,
    /// Istio, by the proxy of the node (ambient mode).
    IstioAmbient,
    /// Linkerd, by a sidecar.
    Linkerd,
}

/// What a proxy of a mesh stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProxyKind {
    /// The pod that it is in.
    Sidecar,
    /// The pods of its node: Istio's ztunnel.
    Node,
    /// Services and pods that chose it: Istio's waypoint.
    Waypoint,
    /// Nobody of the mesh: an ingress or egress gateway, a service in its own right.
    Gateway,
}

/// What a socket is on the way of a call through a mesh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Hop {
    /// The application's own, with nothing of a mesh before it that is known.
    #[default]
    Direct,
    /// The application's own, and its proxy took the connection: the peer is whom that speaks for.
    ToProxy,
    /// The application's own, and its proxy made the connection: the peer is whom that speaks for.
    FromProxy,
    /// The application's own or a proxy's, and it talks with a proxy about that: health, metrics, probes. No
    /// call of anybody to anybody.
    Meta,
    /// A proxy's: it carries what is counted at the application's own socket.
    Proxy(ProxyKind),
}

/// An identity of a workload, as a mesh proves it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// As written: `spiffe://...` or a DNS name of Linkerd.
    pub text: Box<str>,
    /// Trust domain; empty when it is none that is understood.
    pub trust_domain: Box<str>,
    /// Namespace; empty when it is none that is understood.
    pub namespace: Box<str>,
    /// Service account; empty when it is none that is understood.
    pub service_account: Box<str>,
}

/// What tells whom a proxy speaks for, the strongest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FarSource {
    /// An identity that the server's proxy proved and told the application in a field of the request,
    /// and one workload that has it.
    Identity,
    /// The identity in a PROXY protocol header (type 0xD0).
    ProxyHeader,
    /// The proxy kept the address of the pod that called.
    Address,
    /// The one workload behind the Service that was dialled.
    Service,
    /// Of all that are possible, the one workload that the proxy has connections with.
    Connections,
    /// Nothing tells it.
    Unknown,
}

/// Whom a socket next to a proxy is really connected with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Far {
    /// Who.
    pub peer: Peer,
    /// What tells it.
    pub source: FarSource,
    /// How the way between both proxies is secured; unknown where that cannot be told.
    pub security: Security,
    /// The identity that was proved.
    pub identity: Option<Arc<Identity>>,
    /// The proxy that took or made the connection, where it was seen.
    pub proxy: Option<Arc<Workload>>,
}

/// What proxies tell in the fields of a request and its response. Nothing else of them is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Forwarded {
    /// URI of the client's certificate, from the last element of `x-forwarded-client-cert` (Envoy),
    /// which the nearest proxy wrote. At most 512 bytes.
    pub client_uri: Option<Arc<str>>,
    /// `l5d-client-id` (Linkerd). At most 512 bytes.
    pub client_id: Option<Arc<str>>,
    /// `x-envoy-attempt-count`: which attempt this is, from 1.
    pub attempt: Option<u16>,
    /// `x-request-id` as a 64-bit hash where it is a UUID, to find the other hops of a request on
    /// this node. What Envoy notes in it of its trace is left out.
    pub request_id: Option<u64>,
    /// Response: `x-envoy-upstream-service-time`, as the proxy measured it; whole milliseconds.
    pub upstream: Option<Duration>,
    /// Response: `l5d-proxy-error` was there: Linkerd's proxy made the response.
    pub proxy_error: bool,
    /// Response: `server` is `envoy` or `istio-envoy`.
    pub by_envoy: bool,
}

/// What of mutual TLS is declared for an edge, both ends taken together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeclaredMtls {
    /// Only mutual TLS is taken.
    Strict,
    /// Mutual TLS is used where the client can; plaintext is taken too.
    Permissive,
    /// Mutual TLS is off.
    Disabled,
    /// The server is in no mesh.
    NoMesh,
    /// It cannot be told.
    #[default]
    Unknown,
}

/// Whether what was seen is what was declared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// It is.
    Satisfied,
    /// It is not.
    Violated,
    /// It cannot be told; a reason is with it.
    #[default]
    Unknown,
}

/// The declared rule that a call matched.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RouteMatch {
    /// The object.
    pub object: ObjectRef,
    /// Name of the rule, or its number from 0.
    pub rule: Box<str>,
    /// Subset or backend, where the rule leaves one, or the wire shows which; empty otherwise.
    pub backend: Box<str>,
}

// === impl Identity ===

impl Identity {
    /// What to call it: the service account, or all of it.
    pub fn name(&self) -> &str {
        match &*self.service_account {
            "" => &self.text,
            account => account,
        }
    }
}

// === impl Plane ===

impl Plane {
    /// Name in flows, JSON and labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::IstioSidecar => "istio_sidecar",
            Self::IstioAmbient => "istio_ambient",
            Self::Linkerd => "linkerd",
        }
    }
}

// === impl ProxyKind ===

impl ProxyKind {
    /// Whether it is no service in its own right: what it carries is counted elsewhere.
    pub const fn is_transparent(self) -> bool {
        !matches!(self, Self::Gateway)
    }

    /// Name in flows and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sidecar => "sidecar",
            Self::Node => "node",
            Self::Waypoint => "waypoint",
            Self::Gateway => "gateway",
        }
    }
}

// === impl Hop ===

impl Hop {
    /// A socket of a proxy whose calls are counted at the applications' own sockets.
    pub const fn is_between(self) -> bool {
        match self {
            Self::Proxy(kind) => kind.is_transparent(),
            Self::Direct | Self::ToProxy | Self::FromProxy | Self::Meta => false,
        }
    }

    /// What passes here is a call of somebody to somebody, and counted here.
    pub const fn is_counted(self) -> bool {
        !self.is_between() && !matches!(self, Self::Meta)
    }

    /// Name in flows and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::ToProxy => "to_proxy",
            Self::FromProxy => "from_proxy",
            Self::Meta => "meta",
            Self::Proxy(_) => "proxy",
        }
    }
}

// === impl FarSource ===

impl FarSource {
    /// Name in flows and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::ProxyHeader => "proxy_header",
            Self::Address => "address",
            Self::Service => "service",
            Self::Connections => "connections",
            Self::Unknown => "unknown",
        }
    }
}

// === impl DeclaredMtls ===

impl DeclaredMtls {
    /// Name in flows, JSON and labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Permissive => "permissive",
            Self::Disabled => "disabled",
            Self::NoMesh => "no_mesh",
            Self::Unknown => "unknown",
        }
    }
}

// === impl Verdict ===

impl Verdict {
    /// Name in flows, JSON and labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Satisfied => "satisfied",
            Self::Violated => "violated",
            Self::Unknown => "unknown",
        }
    }
}
