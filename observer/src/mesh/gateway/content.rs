//! What objects of the Gateway API say, as far as it is read.

use serde::Deserialize;

/// A route of any kind, also Linkerd's own `HTTPRoute`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::mesh) struct RouteContent {
    pub(super) spec: RouteSpec,
    pub(super) status: RouteStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct RouteSpec {
    pub(super) parent_refs: Vec<ParentContent>,
    pub(super) hostnames: Vec<Box<str>>,
    pub(super) rules: Vec<RuleContent>,
}

/// A parent; the namespace is that of the route where none is written.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ParentContent {
    pub(super) group: Box<str>,
    pub(super) kind: Box<str>,
    pub(super) namespace: Option<Box<str>>,
    pub(super) name: Box<str>,
    pub(super) section_name: Box<str>,
    pub(super) port: Option<u16>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RouteStatus {
    pub(super) parents: Vec<ParentStatus>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ParentStatus {
    pub(super) parent_ref: ParentContent,
    pub(super) controller_name: Box<str>,
    pub(super) conditions: Vec<Condition>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Condition {
    #[serde(rename = "type")]
    pub(super) kind: Box<str>,
    pub(super) status: Box<str>,
    pub(super) reason: Box<str>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct RuleContent {
    pub(super) name: Box<str>,
    pub(super) matches: Vec<MatchContent>,
    pub(super) filters: Vec<FilterContent>,
    pub(super) backend_refs: Vec<BackendContent>,
    pub(super) timeouts: TimeoutsContent,
    pub(super) retry: Option<RetryContent>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct MatchContent {
    pub(super) path: Option<ValueContent>,
    pub(super) headers: Vec<ValueContent>,
    pub(super) query_params: Vec<ValueContent>,
    pub(super) method: Option<MethodContent>,
}

/// A value to compare with: of a path, a field, a parameter.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ValueContent {
    /// `Exact`, `PathPrefix`, `RegularExpression`; empty for the default.
    #[serde(rename = "type")]
    pub(super) kind: Box<str>,
    pub(super) name: Box<str>,
    pub(super) value: Option<Box<str>>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum MethodContent {
    /// Of HTTP.
    Http(Box<str>),
    /// Of gRPC.
    Grpc(GrpcMethod),
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct GrpcMethod {
    #[serde(rename = "type")]
    pub(super) kind: Box<str>,
    pub(super) service: Box<str>,
    pub(super) method: Box<str>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct FilterContent {
    #[serde(rename = "type")]
    pub(super) kind: Box<str>,
    pub(super) request_mirror: Option<MirrorContent>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct MirrorContent {
    pub(super) backend_ref: BackendContent,
    pub(super) percent: Option<f64>,
    pub(super) fraction: Option<Fraction>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Fraction {
    pub(super) numerator: f64,
    pub(super) denominator: Option<f64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct BackendContent {
    pub(super) group: Box<str>,
    pub(super) kind: Option<Box<str>>,
    pub(super) namespace: Option<Box<str>>,
    pub(super) name: Box<str>,
    pub(super) port: Option<u16>,
    pub(super) weight: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct TimeoutsContent {
    pub(super) request: Option<Box<str>>,
    pub(super) backend_request: Option<Box<str>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RetryContent {
    pub(super) attempts: Option<u32>,
}

/// A `Gateway`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct GatewayContent {
    pub(super) spec: GatewaySpec,
    pub(super) status: GatewayStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct GatewaySpec {
    pub(super) gateway_class_name: Box<str>,
    pub(super) listeners: Vec<ListenerContent>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ListenerContent {
    pub(super) name: Box<str>,
    pub(super) hostname: Box<str>,
    pub(super) port: u16,
    pub(super) protocol: Box<str>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct GatewayStatus {
    pub(super) conditions: Vec<Condition>,
}

/// A `ReferenceGrant`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct GrantContent {
    pub(super) spec: GrantSpec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct GrantSpec {
    pub(super) from: Vec<GrantFrom>,
    pub(super) to: Vec<GrantTo>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct GrantFrom {
    pub(super) group: Box<str>,
    pub(super) kind: Box<str>,
    pub(super) namespace: Box<str>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct GrantTo {
    pub(super) group: Box<str>,
    pub(super) kind: Box<str>,
    pub(super) name: Box<str>,
}

// === impl ParentContent ===

impl Default for ParentContent {
    fn default() -> Self {
        Self {
            group: "gateway.networking.k8s.io".into(),
            kind: "Gateway".into(),
            namespace: None,
            name: Box::default(),
            section_name: Box::default(),
            port: None,
        }
    }
}
