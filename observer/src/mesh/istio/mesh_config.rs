//! The configuration of the whole mesh: defaults that objects refine.

use serde::{Deserialize, Deserializer};

use super::{read::Time, store::Labels};
use crate::{
    mesh::{
        decision::{Reason, Retries},
        policy::{Context, Misunderstood},
    },
    model::policy::{ObjectRef, PolicyObject, find},
};

/// Where Istio is, unless its configuration is somewhere else.
const ROOT_NAMESPACE: &str = "istio-system";
/// Trust domain without another.
const TRUST_DOMAIN: &str = "cluster.local";
/// Retries of requests that no route declares any for.
const DEFAULT_ATTEMPTS: u32 = 2;

/// The configuration of the whole mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeshConfig {
    /// Where it was read; `None` for defaults.
    pub object: Option<ObjectRef>,
    /// Namespace whose objects are the whole mesh's.
    pub root_namespace: Box<str>,
    /// Trust domain of its own identities.
    pub trust_domain: Box<str>,
    /// Trust domains that mean the same.
    pub trust_domain_aliases: Vec<Box<str>>,
    /// Whether proxies use mutual TLS by themselves where the server can.
    pub auto_mtls: bool,
    /// Whether clients may only reach what is declared: `REGISTRY_ONLY`.
    pub registry_only: bool,
    /// Least version of TLS between proxies, as in handshakes: 0x0303, 0x0304.
    pub minimum_tls: u16,
    /// Retries of requests that no route declares any for; `None` when they are off.
    pub default_retries: Option<Retries>,
    /// Who may know of VirtualServices that say nothing; empty for all.
    pub(super) virtual_service_export: Vec<Box<str>>,
    /// Who may know of DestinationRules that say nothing; empty for all.
    pub(super) destination_rule_export: Vec<Box<str>>,
    /// Who may know of ServiceEntries that say nothing; empty for all.
    pub(super) service_export: Vec<Box<str>>,
    discovery: Vec<DiscoverySelector>,
}

/// All configurations that were told: revisions of the control plane have one each.
#[derive(Debug, Default)]
pub(super) struct MeshConfigs {
    known: Vec<(Box<str>, MeshConfig)>,
    default: MeshConfig,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Told {
    mesh: Box<str>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Written {
    root_namespace: Option<Box<str>>,
    trust_domain: Option<Box<str>>,
    trust_domain_aliases: Option<Vec<Box<str>>>,
    enable_auto_mtls: Option<bool>,
    outbound_traffic_policy: Option<OutboundPolicy>,
    #[serde(rename = "meshMTLS")]
    mesh_mtls: Option<MeshMtls>,
    default_http_retry_policy: Option<RetrySpec>,
    discovery_selectors: Option<Vec<DiscoverySelector>>,
    default_virtual_service_export_to: Option<Vec<Box<str>>>,
    default_destination_rule_export_to: Option<Vec<Box<str>>>,
    default_service_export_to: Option<Vec<Box<str>>>,
}

/// `outboundTrafficPolicy`, also of Sidecars.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct OutboundPolicy {
    mode: Option<Box<str>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct MeshMtls {
    min_protocol_version: Option<Box<str>>,
}

/// `retries` of a route, and of the mesh.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct RetrySpec {
    attempts: i64,
    per_try_timeout: Option<Time>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct DiscoverySelector {
    match_labels: Labels,
    match_expressions: Vec<Expression>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Expression {
    key: Box<str>,
    operator: Box<str>,
    #[serde(deserialize_with = "or_empty")]
    values: Vec<Box<str>>,
}

fn or_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Box<str>>, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

// === impl MeshConfig ===

impl Default for MeshConfig {
    fn default() -> Self {
        Self::new(None, ROOT_NAMESPACE.into(), Written::default())
    }
}

impl MeshConfig {
    fn new(object: Option<ObjectRef>, namespace: Box<str>, written: Written) -> Self {
        let some = |text: Option<Box<str>>| text.filter(|text| !text.is_empty());
        let version = written.mesh_mtls.and_then(|it| it.min_protocol_version);
        Self {
            object,
            root_namespace: some(written.root_namespace).unwrap_or(namespace),
            trust_domain: some(written.trust_domain).unwrap_or_else(|| TRUST_DOMAIN.into()),
            trust_domain_aliases: written.trust_domain_aliases.unwrap_or_default(),
            auto_mtls: written.enable_auto_mtls.unwrap_or(true),
            registry_only: written
                .outbound_traffic_policy
                .and_then(|policy| policy.registry_only())
                .unwrap_or(false),
            minimum_tls: match version.as_deref() {
                Some("TLSV1_3") => 0x0304,
                _ => 0x0303,
            },
            default_retries: match written.default_http_retry_policy {
                Some(retries) => Some(retries.retries()).filter(|it| it.attempts > 0),
                None => Some(Retries {
                    attempts: DEFAULT_ATTEMPTS,
                    per_try: None,
                }),
            },
            virtual_service_export: written
                .default_virtual_service_export_to
                .unwrap_or_default(),
            destination_rule_export: written
                .default_destination_rule_export_to
                .unwrap_or_default(),
            service_export: written.default_service_export_to.unwrap_or_default(),
            discovery: written.discovery_selectors.unwrap_or_default(),
        }
    }

    /// Whether the control plane looks at a namespace at all. One that is not known is taken for one
    /// that it looks at.
    pub fn discovers(&self, context: &Context, namespace: &str) -> bool {
        let Some(known) = context.namespaces.get(namespace) else {
            return true;
        };
        self.discovery.is_empty()
            || *namespace == *self.root_namespace
            || self
                .discovery
                .iter()
                .any(|selector| selector.matches(&known.labels))
    }

    /// Whether a trust domain is the mesh's own, or means the same.
    pub fn is_own_trust_domain(&self, domain: &str) -> bool {
        *domain == *self.trust_domain
            || domain == TRUST_DOMAIN
            || self.trust_domain_aliases.iter().any(|own| **own == *domain)
    }

    /// A reason that this configuration gives.
    pub(super) fn reason(&self, text: impl Into<std::borrow::Cow<'static, str>>) -> Reason {
        match &self.object {
            Some(object) => Reason::of(object.clone(), text),
            None => Reason::plain(text),
        }
    }
}

// === impl MeshConfigs ===

impl MeshConfigs {
    pub(super) fn set(&mut self, object: &PolicyObject) -> Result<(), Misunderstood> {
        let told: Told =
            serde_json::from_str(&object.content).map_err(|error| format!("mesh: {error}"))?;
        let written = if told.mesh.trim().is_empty() {
            Written::default()
        } else {
            serde_saphyr::from_str::<Option<Written>>(&told.mesh)
                .map_err(|error| format!("mesh: {}", first_line(&error.to_string())))?
                .unwrap_or_default()
        };
        let config = MeshConfig::new(Some(object.reference()), object.namespace.clone(), written);
        self.known.push((object.uid.clone(), config));
        // The default revision's is called `istio`, others `istio-<revision>`.
        self.known.sort_by(|(_, a), (_, b)| {
            let order = |config: &MeshConfig| config.object.clone();
            order(a).cmp(&order(b))
        });
        Ok(())
    }

    pub(super) fn remove(&mut self, object: &PolicyObject) {
        self.known.retain(|(uid, _)| *uid != object.uid);
    }

    /// The one that counts: that of the default revision.
    pub(super) fn current(&self) -> &MeshConfig {
        let is_default = |config: &&(Box<str>, MeshConfig)| {
            config
                .1
                .object
                .as_ref()
                .is_some_and(|it| &*it.name == "istio")
        };
        let found = self.known.iter().find(is_default);
        found
            .or(self.known.first())
            .map_or(&self.default, |(_, config)| config)
    }
}

/// Errors of YAML draw the place in further lines.
fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

// === impl OutboundPolicy ===

impl OutboundPolicy {
    /// `None` when nothing is said.
    pub(super) fn registry_only(&self) -> Option<bool> {
        match self.mode.as_deref() {
            Some("REGISTRY_ONLY") => Some(true),
            Some("ALLOW_ANY") => Some(false),
            _ => None,
        }
    }
}

// === impl RetrySpec ===

impl RetrySpec {
    pub(super) fn retries(&self) -> Retries {
        Retries {
            attempts: u32::try_from(self.attempts.max(0)).unwrap_or(u32::MAX),
            per_try: self
                .per_try_timeout
                .map(|time| time.0)
                .filter(|time| !time.is_zero()),
        }
    }
}

// === impl DiscoverySelector ===

impl DiscoverySelector {
    fn matches(&self, labels: &[(Box<str>, Box<str>)]) -> bool {
        self.match_labels.within(labels)
            && self
                .match_expressions
                .iter()
                .all(|expression| expression.matches(labels))
    }
}

// === impl Expression ===

impl Expression {
    fn matches(&self, labels: &[(Box<str>, Box<str>)]) -> bool {
        let value = find(labels, &self.key);
        let listed = value.is_some_and(|value| self.values.iter().any(|it| **it == *value));
        match &*self.operator {
            "In" => listed,
            "NotIn" => !listed,
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests;
