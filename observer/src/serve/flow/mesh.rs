//! What a service mesh does to a flow.

use serde::Serialize;

use crate::{
    aggregate::history::Judgement,
    model::{
        call::Link,
        connection::Role,
        mesh::{Far, Hop},
        workload::Peer,
    },
};

/// Who is really at the other end where proxies are in between, and what is declared; part of
/// [`super::CallLine`] and [`super::ConnectionLine`]. What begins with `far_` is about who the
/// proxy speaks for, and all `null` without a proxy; `peer` stays what the socket is connected to.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Meshed<'a> {
    /// What the socket is: `direct` (an application's, with no proxy before it that is known),
    /// `to_proxy` (an application's, and its proxy took the connection), `from_proxy` (an
    /// application's, and its proxy made the connection), `proxy` (a proxy's own), `meta` (it is about
    /// the proxy itself: health, metrics, probes).
    pub hop: &'static str,
    /// What the proxy whose socket it is stands for: `sidecar`, `node`, `waypoint`, `gateway`; `null`
    /// unless `hop` is `proxy`.
    pub hop_proxy: Option<&'static str>,
    /// Who is at the other end, proxies left out: its service, Service or identity, or an address.
    pub far_peer: Option<String>,
    /// As `peer_kind`: `local`, `pod`, `service` (one of the workloads behind a Service), `identity`
    /// (a workload that has it), and the others.
    pub far_kind: Option<&'static str>,
    /// Service of the far end, if it is a process of this host or a pod.
    pub far_service: Option<&'a str>,
    /// Namespace of its pod, of the Service, or of the identity.
    pub far_k8s_namespace: Option<&'a str>,
    /// Its pod.
    pub far_k8s_pod: Option<&'a str>,
    /// Kind of its workload.
    pub far_k8s_workload_kind: Option<&'a str>,
    /// Its workload.
    pub far_k8s_workload: Option<&'a str>,
    /// What tells who it is, the strongest first: `identity`, `proxy_header`, `address`, `service`,
    /// `connections`, `unknown`.
    pub far_source: Option<&'static str>,
    /// As `security`, of the way between both proxies.
    pub far_security: Option<&'static str>,
    /// Identity of the client that its proxy proved, at servers.
    pub client_identity: Option<&'a str>,
    /// Identity of the server that its proxy proved, at clients.
    pub server_identity: Option<&'a str>,
    /// The object with the rule that the call matched, `Kind namespace/name`.
    pub route_object: Option<String>,
    /// Name of that rule, or its number from 0.
    pub route_rule: Option<&'a str>,
    /// Subset or backend that it led to; `null` where several are possible.
    pub route_backend: Option<&'a str>,
    /// What is declared of mutual TLS: `strict`, `permissive`, `disabled`, `no_mesh`, `unknown`;
    /// `null` where nobody judges.
    pub declared_mtls: Option<&'static str>,
    /// Whether what was seen is what is declared: `satisfied`, `violated`, `unknown`; `null` where
    /// nobody judges.
    pub verdict: Option<&'static str>,
}

// === impl Meshed ===

impl<'a> Meshed<'a> {
    /// Of a connection, or a call on it that is with `far`.
    pub(super) fn of(
        link: &Link,
        far: Option<&'a Far>,
        role: Role,
        judgement: Option<&'a Judgement>,
    ) -> Self {
        let mut found = Self {
            hop: link.hop.as_str(),
            hop_proxy: match link.hop {
                Hop::Proxy(kind) => Some(kind.as_str()),
                Hop::Direct | Hop::ToProxy | Hop::FromProxy | Hop::Meta => None,
            },
            ..Self::default()
        };
        if let Some(far) = far {
            found.set_far(far, role);
        }
        if let Some(judgement) = judgement {
            found.declared_mtls = Some(judgement.declared.as_str());
            found.verdict = Some(judgement.verdict.as_str());
            if let Some(route) = judgement.route.as_deref() {
                let object = &route.object;
                found.route_object = Some(match &*object.namespace {
                    "" => format!("{} {}", object.kind, object.name),
                    namespace => format!("{} {namespace}/{}", object.kind, object.name),
                });
                found.route_rule = Some(&route.rule);
                found.route_backend = known(&route.backend);
            }
        }
        found
    }

    fn set_far(&mut self, far: &'a Far, role: Role) {
        let peer = &far.peer;
        self.far_peer = Some(match peer {
            Peer::Address(address) => address.to_string(),
            named => named.name().unwrap_or_default().to_owned(),
        });
        self.far_kind = Some(peer.kind());
        self.far_service = peer.service();
        self.far_k8s_namespace = match peer {
            Peer::Service(service) => known(&service.namespace),
            Peer::Identity(identity) => known(&identity.namespace),
            other => other.pod().map(|pod| &*pod.namespace),
        };
        if let Some(pod) = peer.pod() {
            let (kind, name) = pod.workload();
            self.far_k8s_pod = Some(&pod.name);
            self.far_k8s_workload_kind = Some(kind);
            self.far_k8s_workload = Some(name);
        }
        self.far_source = Some(far.source.as_str());
        self.far_security = Some(far.security.as_str());
        let identity = far.identity.as_deref().map(|identity| &*identity.text);
        match role {
            Role::Client => self.server_identity = identity,
            _ => self.client_identity = identity,
        }
    }
}

fn known(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}
