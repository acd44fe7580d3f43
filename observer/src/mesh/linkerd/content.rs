//! What Linkerd's objects say, as far as it is read.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::mesh::{block::Block, selector::Selector};

/// An object with a `spec`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Content<T: Default> {
    pub(super) spec: T,
}

/// Names another object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Ref {
    pub(super) group: Box<str>,
    pub(super) kind: Box<str>,
    pub(super) namespace: Option<Box<str>>,
    pub(super) name: Box<str>,
}

/// A block of addresses, without some of them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct NetworkContent {
    pub(super) cidr: Block,
    #[serde(default)]
    pub(super) except: Vec<Block>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ServerSpec {
    /// `None` for those that choose workloads outside of the cluster.
    pub(super) pod_selector: Option<Selector>,
    pub(super) port: PortContent,
    pub(super) proxy_protocol: Box<str>,
    pub(super) access_policy: Box<str>,
}

/// A port, or the name of one of a container.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(super) enum PortContent {
    Number(u16),
    Name(Box<str>),
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ServerAuthorizationSpec {
    pub(super) server: ServerRef,
    pub(super) client: ClientContent,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ServerRef {
    pub(super) name: Option<Box<str>>,
    pub(super) selector: Option<Selector>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ClientContent {
    pub(super) networks: Option<Vec<NetworkContent>>,
    pub(super) unauthenticated: bool,
    #[serde(rename = "meshTLS")]
    pub(super) mesh_tls: Option<MeshTlsContent>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct MeshTlsContent {
    #[serde(rename = "unauthenticatedTLS")]
    pub(super) unauthenticated_tls: bool,
    pub(super) identities: Vec<Box<str>>,
    pub(super) service_accounts: Vec<Ref>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct AuthorizationPolicySpec {
    pub(super) target_ref: Ref,
    pub(super) required_authentication_refs: Vec<Ref>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct MeshTlsAuthenticationSpec {
    pub(super) identities: Vec<Box<str>>,
    pub(super) identity_refs: Vec<Ref>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct NetworkAuthenticationSpec {
    pub(super) networks: Vec<NetworkContent>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct RateLimitSpec {
    pub(super) target_ref: Ref,
    pub(super) total: Option<LimitContent>,
    pub(super) identity: Option<LimitContent>,
    pub(super) overrides: Vec<OverrideContent>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct LimitContent {
    pub(super) requests_per_second: u32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct OverrideContent {
    pub(super) requests_per_second: u32,
    pub(super) client_refs: Vec<Ref>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct EgressNetworkSpec {
    pub(super) networks: Option<Vec<NetworkContent>>,
    pub(super) traffic_policy: Box<str>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ServiceProfileSpec {
    pub(super) routes: Vec<ProfileRouteContent>,
    pub(super) dst_overrides: Vec<OverrideDestination>,
    pub(super) opaque_ports: BTreeMap<Box<str>, serde_json::Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ProfileRouteContent {
    pub(super) name: Box<str>,
    pub(super) condition: ConditionContent,
    pub(super) is_retryable: bool,
    pub(super) timeout: Box<str>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ConditionContent {
    pub(super) path_regex: Box<str>,
    pub(super) method: Box<str>,
    pub(super) all: Vec<ConditionContent>,
    pub(super) any: Vec<ConditionContent>,
    pub(super) not: Option<Box<ConditionContent>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct OverrideDestination {
    pub(super) authority: Box<str>,
    pub(super) weight: QuantityContent,
}

/// A quantity of Kubernetes: `500m`, `1`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum QuantityContent {
    Number(f64),
    Text(Box<str>),
}

// === impl PortContent ===

impl Default for PortContent {
    fn default() -> Self {
        Self::Number(0)
    }
}

// === impl QuantityContent ===

impl Default for QuantityContent {
    fn default() -> Self {
        Self::Number(0.0)
    }
}
