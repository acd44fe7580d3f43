//! What is declared: objects of the API that say what a mesh is to do, and what they choose by.

use std::sync::Arc;

/// Kinds of the API that a mesh is told by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PolicyKind {
    /// Namespaces, for their labels and annotations.
    Namespace,
    /// The ConfigMap that Istio's control plane is configured by: mesh-wide defaults.
    MeshConfig,
    /// `PeerAuthentication` (security.istio.io).
    PeerAuthentication,
    /// `DestinationRule` (networking.istio.io).
    DestinationRule,
    /// `VirtualService` (networking.istio.io).
    VirtualService,
    /// `AuthorizationPolicy` (security.istio.io).
    IstioAuthorizationPolicy,
    /// `RequestAuthentication` (security.istio.io).
    RequestAuthentication,
    /// `ServiceEntry` (networking.istio.io).
    ServiceEntry,
    /// `Sidecar` (networking.istio.io).
    Sidecar,
    /// `Gateway` (networking.istio.io).
    IstioGateway,
    /// `WorkloadEntry` (networking.istio.io).
    WorkloadEntry,
    /// `Telemetry` (telemetry.istio.io).
    Telemetry,
    /// `Server` (policy.linkerd.io).
    LinkerdServer,
    /// `ServerAuthorization` (policy.linkerd.io).
    ServerAuthorization,
    /// `AuthorizationPolicy` (policy.linkerd.io).
    LinkerdAuthorizationPolicy,
    /// `MeshTLSAuthentication` (policy.linkerd.io).
    MeshTlsAuthentication,
    /// `NetworkAuthentication` (policy.linkerd.io).
    NetworkAuthentication,
    /// `HTTPRoute` (policy.linkerd.io).
    LinkerdHttpRoute,
    /// `HTTPLocalRateLimitPolicy` (policy.linkerd.io).
    HttpLocalRateLimitPolicy,
    /// `EgressNetwork` (policy.linkerd.io).
    EgressNetwork,
    /// `ServiceProfile` (linkerd.io).
    ServiceProfile,
    /// `Gateway` (gateway.networking.k8s.io).
    Gateway,
    /// `HTTPRoute` (gateway.networking.k8s.io).
    HttpRoute,
    /// `GRPCRoute` (gateway.networking.k8s.io).
    GrpcRoute,
    /// `TLSRoute` (gateway.networking.k8s.io).
    TlsRoute,
    /// `TCPRoute` (gateway.networking.k8s.io).
    TcpRoute,
    /// `ReferenceGrant` (gateway.networking.k8s.io).
    ReferenceGrant,
    /// `NetworkPolicy` (networking.k8s.io).
    NetworkPolicy,
}

/// Parts that can be turned on and off: who defines a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PolicyPart {
    /// What any mesh needs.
    Core,
    /// Istio.
    Istio,
    /// Linkerd.
    Linkerd,
    /// The Gateway API.
    GatewayApi,
    /// NetworkPolicy.
    NetworkPolicy,
}

/// An object as it was told: what it says is kept as JSON, and read by who knows its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyObject {
    /// What it is.
    pub kind: PolicyKind,
    /// `metadata.uid`.
    pub uid: Box<str>,
    /// Namespace; empty for a Namespace.
    pub namespace: Box<str>,
    /// Name.
    pub name: Box<str>,
    /// `metadata.resourceVersion`.
    pub version: Box<str>,
    /// `metadata.creationTimestamp`, seconds since the Unix epoch; 0 when unknown. The older of two
    /// objects often wins.
    pub created: u64,
    /// `metadata.labels`, sorted by name.
    pub labels: Box<[(Box<str>, Box<str>)]>,
    /// `metadata.annotations` of meshes, sorted by name.
    pub annotations: Box<[(Box<str>, Box<str>)]>,
    /// A JSON object with `spec` and, of routes and gateways, `status`. Of [`PolicyKind::MeshConfig`]
    /// it is `{"mesh": "..."}`, with the YAML text; of a Namespace `{}`. Empty where that would be
    /// too long: then it is there, and what it says is not known.
    pub content: Box<str>,
}

/// Names an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectRef {
    /// Kind as the API spells it: `PeerAuthentication`.
    pub kind: Box<str>,
    /// API group; empty for the core's.
    pub group: Box<str>,
    /// Namespace; empty for what has none.
    pub namespace: Box<str>,
    /// Name.
    pub name: Box<str>,
    /// `metadata.resourceVersion` of what was read.
    pub version: Box<str>,
}

/// What policies choose a pod by, and what tells its place in a mesh: the same for all pods of one
/// template, which share it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Traits {
    /// `spec.serviceAccountName`.
    pub service_account: Box<str>,
    /// All labels, sorted by name.
    pub labels: Box<[(Box<str>, Box<str>)]>,
    /// Annotations of meshes, sorted by name.
    pub annotations: Box<[(Box<str>, Box<str>)]>,
    /// Names of its containers, also of those that run beside from the beginning (init containers
    /// that are always restarted).
    pub containers: Box<[Box<str>]>,
    /// Ports of its containers that have a name, by name.
    pub ports: Box<[(Box<str>, u16)]>,
    /// `spec.hostNetwork`.
    pub host_network: bool,
}

/// What policies choose a Service by, and how it is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceFacts {
    /// `metadata.uid`.
    pub uid: Box<str>,
    /// Namespace.
    pub namespace: Box<str>,
    /// Name.
    pub name: Box<str>,
    /// `spec.selector`, sorted by name; empty chooses none.
    pub selector: Box<[(Box<str>, Box<str>)]>,
    /// `metadata.labels` of meshes, sorted by name.
    pub labels: Box<[(Box<str>, Box<str>)]>,
    /// `metadata.annotations` of meshes, sorted by name.
    pub annotations: Box<[(Box<str>, Box<str>)]>,
    /// Its ports of TCP.
    pub ports: Box<[PortFacts]>,
    /// `clusterIP: None`.
    pub headless: bool,
    /// `spec.externalName`; empty unless of that type.
    pub external_name: Box<str>,
}

/// A port of a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortFacts {
    /// Its name; empty without.
    pub name: Box<str>,
    /// `appProtocol`; empty without.
    pub app_protocol: Box<str>,
    /// Port of the Service.
    pub port: u16,
    /// `targetPort`: a number, that of the Service where it is left out; 0 when it is a name.
    pub target: u16,
    /// `targetPort`: a name of a container's port; empty when it is a number.
    pub target_name: Box<str>,
}

/// What happens to declared things.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyChange {
    /// All objects of a kind follow, then [`Self::Complete`]; until then what was known stays.
    Begin(PolicyKind),
    /// An object is new, or different.
    Set(Arc<PolicyObject>),
    /// An object is gone: its uid.
    Remove(PolicyKind, Box<str>),
    /// What was not set since [`Self::Begin`] is gone.
    Complete(PolicyKind),
    /// The API has no such kind, as its definition is not installed, or it is not to be read.
    Absent(PolicyKind),
    /// All Services follow, then [`Self::CompleteServices`]; until then what was known stays.
    BeginServices,
    /// A Service is new, or different.
    SetService(Arc<ServiceFacts>),
    /// A Service is gone: its uid.
    RemoveService(Box<str>),
    /// What was not set since [`Self::BeginServices`] is gone.
    CompleteServices,
}

/// Name of a kind, its group, plural, and the versions that are understood, the preferred first.
type Names = (
    &'static str,
    &'static str,
    &'static str,
    &'static [&'static str],
);

// === impl PolicyKind ===

impl PolicyKind {
    /// All kinds.
    pub const ALL: [Self; 28] = [
        Self::Namespace,
        Self::MeshConfig,
        Self::PeerAuthentication,
        Self::DestinationRule,
        Self::VirtualService,
        Self::IstioAuthorizationPolicy,
        Self::RequestAuthentication,
        Self::ServiceEntry,
        Self::Sidecar,
        Self::IstioGateway,
        Self::WorkloadEntry,
        Self::Telemetry,
        Self::LinkerdServer,
        Self::ServerAuthorization,
        Self::LinkerdAuthorizationPolicy,
        Self::MeshTlsAuthentication,
        Self::NetworkAuthentication,
        Self::LinkerdHttpRoute,
        Self::HttpLocalRateLimitPolicy,
        Self::EgressNetwork,
        Self::ServiceProfile,
        Self::Gateway,
        Self::HttpRoute,
        Self::GrpcRoute,
        Self::TlsRoute,
        Self::TcpRoute,
        Self::ReferenceGrant,
        Self::NetworkPolicy,
    ];

    /// Place in [`Self::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    const fn names(self) -> Names {
        const ISTIO: &[&str] = &["v1", "v1beta1", "v1alpha3"];
        const SECURITY: &str = "security.istio.io";
        const NETWORKING: &str = "networking.istio.io";
        const LINKERD: &str = "policy.linkerd.io";
        const GATEWAY: &str = "gateway.networking.k8s.io";
        match self {
            Self::Namespace => ("Namespace", "", "namespaces", &["v1"]),
            Self::MeshConfig => ("ConfigMap", "", "configmaps", &["v1"]),
            Self::PeerAuthentication => (
                "PeerAuthentication",
                SECURITY,
                "peerauthentications",
                &["v1", "v1beta1"],
            ),
            Self::IstioAuthorizationPolicy => (
                "AuthorizationPolicy",
                SECURITY,
                "authorizationpolicies",
                &["v1", "v1beta1"],
            ),
            Self::RequestAuthentication => (
                "RequestAuthentication",
                SECURITY,
                "requestauthentications",
                &["v1", "v1beta1"],
            ),
            Self::DestinationRule => ("DestinationRule", NETWORKING, "destinationrules", ISTIO),
            Self::VirtualService => ("VirtualService", NETWORKING, "virtualservices", ISTIO),
            Self::ServiceEntry => ("ServiceEntry", NETWORKING, "serviceentries", ISTIO),
            Self::Sidecar => ("Sidecar", NETWORKING, "sidecars", ISTIO),
            Self::IstioGateway => ("Gateway", NETWORKING, "gateways", ISTIO),
            Self::WorkloadEntry => ("WorkloadEntry", NETWORKING, "workloadentries", ISTIO),
            Self::Telemetry => (
                "Telemetry",
                "telemetry.istio.io",
                "telemetries",
                &["v1", "v1alpha1"],
            ),
            Self::LinkerdServer => (
                "Server",
                LINKERD,
                "servers",
                &["v1beta3", "v1beta2", "v1beta1"],
            ),
            Self::ServerAuthorization => (
                "ServerAuthorization",
                LINKERD,
                "serverauthorizations",
                &["v1beta1"],
            ),
            Self::LinkerdAuthorizationPolicy => (
                "AuthorizationPolicy",
                LINKERD,
                "authorizationpolicies",
                &["v1alpha1"],
            ),
            Self::MeshTlsAuthentication => (
                "MeshTLSAuthentication",
                LINKERD,
                "meshtlsauthentications",
                &["v1alpha1"],
            ),
            Self::NetworkAuthentication => (
                "NetworkAuthentication",
                LINKERD,
                "networkauthentications",
                &["v1alpha1"],
            ),
            Self::LinkerdHttpRoute => (
                "HTTPRoute",
                LINKERD,
                "httproutes",
                &["v1beta3", "v1beta2", "v1beta1"],
            ),
            Self::HttpLocalRateLimitPolicy => (
                "HTTPLocalRateLimitPolicy",
                LINKERD,
                "httplocalratelimitpolicies",
                &["v1alpha1"],
            ),
            Self::EgressNetwork => ("EgressNetwork", LINKERD, "egressnetworks", &["v1alpha1"]),
            Self::ServiceProfile => (
                "ServiceProfile",
                "linkerd.io",
                "serviceprofiles",
                &["v1alpha2"],
            ),
            Self::Gateway => ("Gateway", GATEWAY, "gateways", &["v1", "v1beta1"]),
            Self::HttpRoute => ("HTTPRoute", GATEWAY, "httproutes", &["v1", "v1beta1"]),
            Self::GrpcRoute => ("GRPCRoute", GATEWAY, "grpcroutes", &["v1", "v1alpha2"]),
            Self::TlsRoute => (
                "TLSRoute",
                GATEWAY,
                "tlsroutes",
                &["v1", "v1alpha3", "v1alpha2"],
            ),
            Self::TcpRoute => ("TCPRoute", GATEWAY, "tcproutes", &["v1", "v1alpha2"]),
            Self::ReferenceGrant => (
                "ReferenceGrant",
                GATEWAY,
                "referencegrants",
                &["v1", "v1beta1"],
            ),
            Self::NetworkPolicy => (
                "NetworkPolicy",
                "networking.k8s.io",
                "networkpolicies",
                &["v1"],
            ),
        }
    }

    /// As the API spells it; two kinds may share it.
    pub const fn as_str(self) -> &'static str {
        self.names().0
    }

    /// API group; empty for the core's.
    pub const fn group(self) -> &'static str {
        self.names().1
    }

    /// Name in paths.
    pub const fn plural(self) -> &'static str {
        self.names().2
    }

    /// Name in metrics and logs: that of the resource, with its group where it is not the core's.
    pub const fn resource(self) -> &'static str {
        match self {
            Self::Namespace => "namespaces",
            Self::MeshConfig => "configmaps",
            Self::PeerAuthentication => "peerauthentications.security.istio.io",
            Self::DestinationRule => "destinationrules.networking.istio.io",
            Self::VirtualService => "virtualservices.networking.istio.io",
            Self::IstioAuthorizationPolicy => "authorizationpolicies.security.istio.io",
            Self::RequestAuthentication => "requestauthentications.security.istio.io",
            Self::ServiceEntry => "serviceentries.networking.istio.io",
            Self::Sidecar => "sidecars.networking.istio.io",
            Self::IstioGateway => "gateways.networking.istio.io",
            Self::WorkloadEntry => "workloadentries.networking.istio.io",
            Self::Telemetry => "telemetries.telemetry.istio.io",
            Self::LinkerdServer => "servers.policy.linkerd.io",
            Self::ServerAuthorization => "serverauthorizations.policy.linkerd.io",
            Self::LinkerdAuthorizationPolicy => "authorizationpolicies.policy.linkerd.io",
            Self::MeshTlsAuthentication => "meshtlsauthentications.policy.linkerd.io",
            Self::NetworkAuthentication => "networkauthentications.policy.linkerd.io",
            Self::LinkerdHttpRoute => "httproutes.policy.linkerd.io",
            Self::HttpLocalRateLimitPolicy => "httplocalratelimitpolicies.policy.linkerd.io",
            Self::EgressNetwork => "egressnetworks.policy.linkerd.io",
            Self::ServiceProfile => "serviceprofiles.linkerd.io",
            Self::Gateway => "gateways.gateway.networking.k8s.io",
            Self::HttpRoute => "httproutes.gateway.networking.k8s.io",
            Self::GrpcRoute => "grpcroutes.gateway.networking.k8s.io",
            Self::TlsRoute => "tlsroutes.gateway.networking.k8s.io",
            Self::TcpRoute => "tcproutes.gateway.networking.k8s.io",
            Self::ReferenceGrant => "referencegrants.gateway.networking.k8s.io",
            Self::NetworkPolicy => "networkpolicies.networking.k8s.io",
        }
    }

    /// Versions that are understood, the preferred first. Their fields are the same, as far as they
    /// are read.
    pub const fn versions(self) -> &'static [&'static str] {
        self.names().3
    }

    /// Who defines it.
    pub const fn part(self) -> PolicyPart {
        match self {
            Self::Namespace => PolicyPart::Core,
            Self::MeshConfig
            | Self::PeerAuthentication
            | Self::DestinationRule
            | Self::VirtualService
            | Self::IstioAuthorizationPolicy
            | Self::RequestAuthentication
            | Self::ServiceEntry
            | Self::Sidecar
            | Self::IstioGateway
            | Self::WorkloadEntry
            | Self::Telemetry => PolicyPart::Istio,
            Self::LinkerdServer
            | Self::ServerAuthorization
            | Self::LinkerdAuthorizationPolicy
            | Self::MeshTlsAuthentication
            | Self::NetworkAuthentication
            | Self::LinkerdHttpRoute
            | Self::HttpLocalRateLimitPolicy
            | Self::EgressNetwork
            | Self::ServiceProfile => PolicyPart::Linkerd,
            Self::Gateway
            | Self::HttpRoute
            | Self::GrpcRoute
            | Self::TlsRoute
            | Self::TcpRoute
            | Self::ReferenceGrant => PolicyPart::GatewayApi,
            Self::NetworkPolicy => PolicyPart::NetworkPolicy,
        }
    }
}

// === impl PolicyObject ===

impl PolicyObject {
    /// Its name with all that tells it apart.
    pub fn reference(&self) -> ObjectRef {
        ObjectRef {
            kind: self.kind.as_str().into(),
            group: self.kind.group().into(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            version: self.version.clone(),
        }
    }
}

// === impl Traits ===

impl Traits {
    /// Value of a label.
    pub fn label(&self, name: &str) -> Option<&str> {
        find(&self.labels, name)
    }

    /// Value of an annotation.
    pub fn annotation(&self, name: &str) -> Option<&str> {
        find(&self.annotations, name)
    }

    /// Whether it has a container of this name.
    pub fn has_container(&self, name: &str) -> bool {
        self.containers.iter().any(|container| **container == *name)
    }
}

/// The value of a name in a list that is sorted by name.
pub fn find<'a>(list: &'a [(Box<str>, Box<str>)], name: &str) -> Option<&'a str> {
    let at = list
        .binary_search_by(|(known, _)| (**known).cmp(name))
        .ok()?;
    list.get(at).map(|(_, value)| &**value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_in_their_places() {
        for (index, kind) in PolicyKind::ALL.into_iter().enumerate() {
            assert_eq!(kind.index(), index);
            assert!(!kind.versions().is_empty());
            let name = match kind.group() {
                "" => kind.plural().to_owned(),
                group => format!("{}.{group}", kind.plural()),
            };
            assert_eq!(kind.resource(), name);
        }
    }
}
