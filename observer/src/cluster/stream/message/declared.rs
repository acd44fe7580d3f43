//! What is declared, and what it chooses by, as messages.
//!
//! Pods of one template have equal traits, which are sent with each of them: a snapshot is sorted
//! and deflated, so that all but the first take a few bytes.

use std::sync::Arc;

use super::{
    Pair, Service, Uid,
    conversion::{Unusable, decode_pairs, encode_pairs, number, subject_of},
    uid::{encode_uid, own_uid},
};
use crate::{
    cluster::object::Subject,
    model::policy::{self, PolicyKind, PolicyObject, PortFacts, ServiceFacts},
};

/// [`policy::Traits`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct Traits {
    /// Service account.
    #[prost(string, tag = "1")]
    pub service_account: String,
    /// Labels.
    #[prost(message, repeated, tag = "2")]
    pub labels: Vec<Pair>,
    /// Annotations of meshes.
    #[prost(message, repeated, tag = "3")]
    pub annotations: Vec<Pair>,
    /// Names of containers.
    #[prost(string, repeated, tag = "4")]
    pub containers: Vec<String>,
    /// Ports that have a name.
    #[prost(message, repeated, tag = "5")]
    pub ports: Vec<NamedPort>,
}

/// A port of a container.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct NamedPort {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its number.
    #[prost(uint32, tag = "2")]
    pub port: u32,
}

/// [`ServiceFacts`], without what [`Service`] has.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Facts {
    /// Selector.
    #[prost(message, repeated, tag = "1")]
    pub selector: Vec<Pair>,
    /// Labels of meshes.
    #[prost(message, repeated, tag = "2")]
    pub labels: Vec<Pair>,
    /// Annotations of meshes.
    #[prost(message, repeated, tag = "3")]
    pub annotations: Vec<Pair>,
    /// Ports of TCP.
    #[prost(message, repeated, tag = "4")]
    pub ports: Vec<FactsPort>,
}

/// [`PortFacts`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct FactsPort {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// `appProtocol`.
    #[prost(string, tag = "2")]
    pub app_protocol: String,
    /// Its number.
    #[prost(uint32, tag = "3")]
    pub port: u32,
    /// `targetPort`, a number.
    #[prost(uint32, tag = "4")]
    pub target: u32,
    /// `targetPort`, a name.
    #[prost(string, tag = "5")]
    pub target_name: String,
}

/// [`PolicyObject`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct Policy {
    /// Namespace.
    #[prost(string, tag = "1")]
    pub namespace: String,
    /// Name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Which kind, as in [`super::KindState::kind`].
    #[prost(uint32, tag = "3")]
    pub kind: u32,
    /// `metadata.resourceVersion`.
    #[prost(string, tag = "4")]
    pub version: String,
    /// [`PolicyObject::created`], seconds.
    #[prost(uint64, tag = "5")]
    pub created: u64,
    /// Labels.
    #[prost(message, repeated, tag = "6")]
    pub labels: Vec<Pair>,
    /// Annotations of meshes.
    #[prost(message, repeated, tag = "7")]
    pub annotations: Vec<Pair>,
    /// [`PolicyObject::content`].
    #[prost(string, tag = "8")]
    pub content: String,
    /// Uid.
    #[prost(message, optional, tag = "16")]
    pub uid: Option<Uid>,
}

/// Number of a kind on the wire, which stays its own for ever.
pub(super) const fn number_of(kind: PolicyKind) -> u32 {
    match kind {
        PolicyKind::Namespace => 101,
        PolicyKind::MeshConfig => 102,
        PolicyKind::PeerAuthentication => 103,
        PolicyKind::DestinationRule => 104,
        PolicyKind::VirtualService => 105,
        PolicyKind::IstioAuthorizationPolicy => 106,
        PolicyKind::RequestAuthentication => 107,
        PolicyKind::ServiceEntry => 108,
        PolicyKind::Sidecar => 109,
        PolicyKind::IstioGateway => 110,
        PolicyKind::WorkloadEntry => 111,
        PolicyKind::Telemetry => 112,
        PolicyKind::LinkerdServer => 113,
        PolicyKind::ServerAuthorization => 114,
        PolicyKind::LinkerdAuthorizationPolicy => 115,
        PolicyKind::MeshTlsAuthentication => 116,
        PolicyKind::NetworkAuthentication => 117,
        PolicyKind::LinkerdHttpRoute => 118,
        PolicyKind::HttpLocalRateLimitPolicy => 119,
        PolicyKind::EgressNetwork => 120,
        PolicyKind::ServiceProfile => 121,
        PolicyKind::Gateway => 122,
        PolicyKind::HttpRoute => 123,
        PolicyKind::GrpcRoute => 124,
        PolicyKind::TlsRoute => 125,
        PolicyKind::TcpRoute => 126,
        PolicyKind::ReferenceGrant => 127,
        PolicyKind::NetworkPolicy => 128,
    }
}

pub(super) fn encode_traits(traits: &policy::Traits) -> Option<Traits> {
    let policy::Traits {
        service_account,
        labels,
        annotations,
        containers,
        ports,
        host_network: _,
    } = traits;
    if *traits == policy::Traits::default() {
        return None;
    }
    let port = |(name, port): &(Box<str>, u16)| NamedPort {
        name: name.to_string(),
        port: (*port).into(),
    };
    Some(Traits {
        service_account: service_account.to_string(),
        labels: encode_pairs(labels),
        annotations: encode_pairs(annotations),
        containers: containers.iter().map(ToString::to_string).collect(),
        ports: ports.iter().map(port).collect(),
    })
}

pub(super) fn decode_traits(
    traits: Option<Traits>,
    host_network: bool,
) -> Result<Arc<policy::Traits>, Unusable> {
    let Some(traits) = traits else {
        return Ok(Arc::default());
    };
    let port = |port: NamedPort| Ok((port.name.into(), number(port.port, "port")?));
    let ports = traits.ports.into_iter().map(port);
    let containers = traits.containers.into_iter();
    Ok(Arc::new(policy::Traits {
        service_account: traits.service_account.into(),
        labels: sorted(traits.labels),
        annotations: sorted(traits.annotations),
        containers: containers.map(String::into_boxed_str).collect(),
        ports: ports.collect::<Result<_, Unusable>>()?,
        host_network,
    }))
}

pub(super) fn encode_facts(facts: &ServiceFacts) -> Option<Facts> {
    let ServiceFacts {
        uid,
        namespace: _,
        name: _,
        selector,
        labels,
        annotations,
        ports,
        headless: _,
        external_name: _,
    } = facts;
    if uid.is_empty() {
        return None;
    }
    let port = |port: &PortFacts| FactsPort {
        name: port.name.to_string(),
        app_protocol: port.app_protocol.to_string(),
        port: port.port.into(),
        target: port.target.into(),
        target_name: port.target_name.to_string(),
    };
    Some(Facts {
        selector: encode_pairs(selector),
        labels: encode_pairs(labels),
        annotations: encode_pairs(annotations),
        ports: ports.iter().map(port).collect(),
    })
}

pub(super) fn decode_facts(uid: &str, service: &Service) -> Result<Arc<ServiceFacts>, Unusable> {
    let Some(facts) = service.facts.clone() else {
        return Ok(Arc::default());
    };
    let port = |port: FactsPort| {
        Ok(PortFacts {
            name: port.name.into(),
            app_protocol: port.app_protocol.into(),
            port: number(port.port, "port")?,
            target: number(port.target, "port")?,
            target_name: port.target_name.into(),
        })
    };
    let ports = facts.ports.into_iter().map(port);
    Ok(Arc::new(ServiceFacts {
        uid: uid.into(),
        namespace: service.namespace.as_str().into(),
        name: service.name.as_str().into(),
        selector: sorted(facts.selector),
        labels: sorted(facts.labels),
        annotations: sorted(facts.annotations),
        ports: ports.collect::<Result<_, Unusable>>()?,
        headless: service.headless,
        external_name: service.external_name.as_str().into(),
    }))
}

/// By name, as whoever looks for one relies on it.
fn sorted(pairs: Vec<Pair>) -> Box<[(Box<str>, Box<str>)]> {
    let mut pairs = decode_pairs(pairs);
    pairs.sort_unstable();
    pairs.into()
}

// === impl Policy ===

impl From<&PolicyObject> for Policy {
    fn from(object: &PolicyObject) -> Self {
        let PolicyObject {
            kind,
            uid,
            namespace,
            name,
            version,
            created,
            labels,
            annotations,
            content,
        } = object;
        Self {
            namespace: namespace.to_string(),
            name: name.to_string(),
            kind: number_of(*kind),
            version: version.to_string(),
            created: *created,
            labels: encode_pairs(labels),
            annotations: encode_pairs(annotations),
            content: content.to_string(),
            uid: encode_uid(uid),
        }
    }
}

impl TryFrom<Policy> for PolicyObject {
    type Error = Unusable;

    fn try_from(policy: Policy) -> Result<Self, Unusable> {
        let Subject::Policy(kind) = subject_of(policy.kind)? else {
            return Err(Unusable::Bad("kind"));
        };
        Ok(Self {
            kind,
            uid: own_uid(policy.uid)?,
            namespace: policy.namespace.into(),
            name: policy.name.into(),
            version: policy.version.into(),
            created: policy.created,
            labels: sorted(policy.labels),
            annotations: sorted(policy.annotations),
            content: policy.content.into(),
        })
    }
}
