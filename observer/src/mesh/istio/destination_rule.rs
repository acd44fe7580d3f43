//! How clients are to reach a host: DestinationRule, its subsets, and which of them applies.

use std::{sync::Arc, time::Duration};

use serde::Deserialize;

use super::{
    Istio,
    names::{full_name, service_of},
    read,
    store::{Declared, Export, Labels, Meta, SelectorSpec},
};
use crate::{
    mesh::{
        decision::{Decision, Reason},
        policy::Misunderstood,
    },
    model::{
        kubernetes::Pod,
        policy::{ObjectRef, PolicyObject, Traits},
    },
};

/// A DestinationRule.
#[derive(Debug)]
pub(super) struct DestinationRule {
    meta: Meta,
    /// In full.
    pub(super) host: Box<str>,
    selector: Labels,
    export: Export,
    policy: Option<PolicySpec>,
    subsets: Vec<SubsetSpec>,
}

/// A subset of a host's pods, as it is declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subset {
    /// The DestinationRule.
    pub object: ObjectRef,
    /// Host that it is of: a full name, may begin with `*`.
    pub host: Box<str>,
    /// Its name.
    pub name: Box<str>,
    /// Labels that its pods have, sorted by name.
    pub labels: Vec<(Box<str>, Box<str>)>,
}

/// How clients are to reach a host, a subset, or a port.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrafficPolicy {
    /// `tls`.
    pub tls: Option<Tls>,
    /// `outlierDetection`.
    pub outlier_detection: Option<OutlierDetection>,
    /// `connectionPool`.
    pub connection_pool: Option<ConnectionPool>,
    /// `loadBalancer`.
    pub load_balancer: Option<LoadBalancer>,
}

/// `tls`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Tls {
    /// What is sent.
    pub mode: TlsMode,
    /// Server name that is asked for; empty for that of the mesh, or of the host.
    pub sni: Box<str>,
}

/// `tls.mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "Box<str>")]
pub enum TlsMode {
    /// `DISABLE`: plaintext.
    #[default]
    Disable,
    /// `SIMPLE`: TLS without a certificate of the client.
    Simple,
    /// `MUTUAL`: mutual TLS with certificates of one's own.
    Mutual,
    /// `ISTIO_MUTUAL`: mutual TLS of the mesh.
    IstioMutual,
}

/// `outlierDetection`: when a pod is left out for a while.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct OutlierDetection {
    /// Failures in a row, of those that are answered with 5xx; `None` for the default of 5.
    #[serde(rename = "consecutive5xxErrors", alias = "consecutiveErrors")]
    pub consecutive_5xx_errors: Option<u32>,
    /// Failures in a row of the way there: 502, 503, 504.
    pub consecutive_gateway_errors: Option<u32>,
    /// How often is looked.
    #[serde(deserialize_with = "read::optional_time")]
    pub interval: Option<Duration>,
    /// How long it is left out the first time.
    #[serde(deserialize_with = "read::optional_time")]
    pub base_ejection_time: Option<Duration>,
    /// Most pods that are left out at once, percent; `None` for the default of 10.
    pub max_ejection_percent: Option<u32>,
}

/// `connectionPool`: what does not fit is answered with 503.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ConnectionPool {
    /// `tcp`.
    pub tcp: TcpPool,
    /// `http`.
    pub http: HttpPool,
}

/// Limits of connections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TcpPool {
    /// Most connections to a host.
    pub max_connections: Option<u32>,
    /// How long connecting may take.
    #[serde(deserialize_with = "read::optional_time")]
    pub connect_timeout: Option<Duration>,
}

/// Limits of requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct HttpPool {
    /// Most requests that wait for a connection.
    #[serde(rename = "http1MaxPendingRequests")]
    pub max_pending_requests: Option<u32>,
    /// Most requests at once.
    #[serde(rename = "http2MaxRequests")]
    pub max_requests: Option<u32>,
    /// Most requests of a connection; 0 and `None` for no limit.
    pub max_requests_per_connection: Option<u32>,
    /// Most retries at once.
    pub max_retries: Option<u32>,
}

/// `loadBalancer`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct LoadBalancer {
    /// `simple`: `ROUND_ROBIN` and others; empty without.
    pub simple: Box<str>,
    /// `consistentHash`: who calls, or what for, decides the pod.
    pub consistent_hash: Option<ConsistentHash>,
    /// `localityLbSetting`: near pods may go before.
    pub locality_lb_setting: Option<Locality>,
}

/// That there is a hash; by what does not matter here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ConsistentHash {
    /// By this field of a request.
    pub http_header_name: Option<Box<str>>,
    /// By the address of the client.
    pub use_source_ip: Option<bool>,
}

/// That near pods may go before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Locality {
    /// Whether it is on; `None` for the mesh's default, which is on.
    pub enabled: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    host: Box<str>,
    traffic_policy: Option<PolicySpec>,
    subsets: Vec<SubsetSpec>,
    export_to: Export,
    workload_selector: SelectorSpec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PolicySpec {
    tls: Option<Tls>,
    outlier_detection: Option<OutlierDetection>,
    connection_pool: Option<ConnectionPool>,
    load_balancer: Option<LoadBalancer>,
    port_level_settings: Vec<PortSpec>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PortSpec {
    port: PortNumber,
    tls: Option<Tls>,
    outlier_detection: Option<OutlierDetection>,
    connection_pool: Option<ConnectionPool>,
    load_balancer: Option<LoadBalancer>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PortNumber {
    pub(super) number: u16,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct SubsetSpec {
    name: Box<str>,
    labels: Labels,
    traffic_policy: Option<PolicySpec>,
}

/// The objects that apply to a client and a host, the oldest first: they are taken as one.
pub(super) struct Applying(Vec<Arc<DestinationRule>>);

// === impl DestinationRule ===

impl DestinationRule {
    pub(super) fn read(object: &PolicyObject) -> Result<Self, Misunderstood> {
        let spec: Spec = read::spec(object)?;
        Ok(Self {
            meta: Meta::of(object),
            host: full_name(&spec.host, &object.namespace).into(),
            selector: spec.workload_selector.match_labels,
            export: spec.export_to,
            policy: spec.traffic_policy,
            subsets: spec.subsets,
        })
    }

    fn subset(&self, name: &str) -> Option<&SubsetSpec> {
        self.subsets.iter().find(|subset| *subset.name == *name)
    }

    fn declared_subset(&self, subset: &SubsetSpec) -> Subset {
        Subset {
            object: self.meta.reference.clone(),
            host: self.host.clone(),
            name: subset.name.clone(),
            labels: subset.labels.0.to_vec(),
        }
    }
}

impl Declared for DestinationRule {
    fn meta(&self) -> &Meta {
        &self.meta
    }
}

// === impl PolicySpec ===

impl PolicySpec {
    fn sections(&self) -> TrafficPolicy {
        TrafficPolicy {
            tls: self.tls.clone(),
            outlier_detection: self.outlier_detection.clone(),
            connection_pool: self.connection_pool.clone(),
            load_balancer: self.load_balancer.clone(),
        }
    }

    /// Lays what this says over a policy. What is said of a port replaces all sections, also those
    /// that it says nothing of.
    fn lay_over(&self, policy: &mut TrafficPolicy, port: u16) {
        let of_port = self.port_level_settings.iter();
        if let Some(own) = of_port
            .rev()
            .find(|own| own.port.number == port && port != 0)
        {
            *policy = own.sections();
            return;
        }
        let sections = self.sections();
        policy.tls = sections.tls.or(policy.tls.take());
        policy.outlier_detection = sections
            .outlier_detection
            .or(policy.outlier_detection.take());
        policy.connection_pool = sections.connection_pool.or(policy.connection_pool.take());
        policy.load_balancer = sections.load_balancer.or(policy.load_balancer.take());
    }
}

// === impl PortSpec ===

impl PortSpec {
    fn sections(&self) -> TrafficPolicy {
        TrafficPolicy {
            tls: self.tls.clone(),
            outlier_detection: self.outlier_detection.clone(),
            connection_pool: self.connection_pool.clone(),
            load_balancer: self.load_balancer.clone(),
        }
    }
}

// === impl TlsMode ===

impl From<Box<str>> for TlsMode {
    fn from(text: Box<str>) -> Self {
        match &*text {
            "SIMPLE" => Self::Simple,
            "MUTUAL" => Self::Mutual,
            "ISTIO_MUTUAL" => Self::IstioMutual,
            _ => Self::Disable,
        }
    }
}

impl TlsMode {
    /// As the API spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "DISABLE",
            Self::Simple => "SIMPLE",
            Self::Mutual => "MUTUAL",
            Self::IstioMutual => "ISTIO_MUTUAL",
        }
    }
}

// === impl TrafficPolicy ===

impl TrafficPolicy {
    /// Whether it says something of requests, rather than of connections alone.
    pub fn is_for_requests(&self) -> bool {
        let hash = self
            .load_balancer
            .as_ref()
            .and_then(|it| it.consistent_hash.as_ref());
        let pool = self.connection_pool.as_ref();
        self.outlier_detection.is_some()
            || hash.is_some_and(|it| it.use_source_ip != Some(true))
            || pool.is_some_and(|it| it.http != HttpPool::default())
    }
}

// === impl Applying ===

impl Applying {
    /// What applies to a subset (empty for none) and a port of the Service (0 when unknown).
    pub(super) fn policy(&self, subset: &str, port: u16) -> Decision<TrafficPolicy> {
        let mut policy = TrafficPolicy::default();
        let mut because = Vec::new();
        if let Some((rule, own)) = self.find(|rule| rule.policy.as_ref()) {
            own.lay_over(&mut policy, port);
            because.push(Reason::of(rule.meta.reference.clone(), "trafficPolicy"));
        }
        if let Some((rule, own)) =
            self.find(|rule| rule.subset(subset).filter(|_| !subset.is_empty()))
            && let Some(own) = &own.traffic_policy
        {
            own.lay_over(&mut policy, port);
            let text = format!("trafficPolicy of subset {subset}");
            because.insert(0, Reason::of(rule.meta.reference.clone(), text));
        }
        Decision {
            value: policy,
            because,
        }
    }

    /// Of several objects of one host, the oldest that says something counts.
    fn find<'a, T: 'a>(
        &'a self,
        say: impl Fn(&'a DestinationRule) -> Option<T>,
    ) -> Option<(&'a DestinationRule, T)> {
        self.0
            .iter()
            .find_map(|rule| say(rule).map(|said| (&**rule, said)))
    }

    pub(super) fn subset(&self, name: &str) -> Option<Subset> {
        let (rule, subset) = self.find(|rule| rule.subset(name))?;
        Some(rule.declared_subset(subset))
    }

    /// Names of the subsets that a pod may be reached by, or of all when it is not known.
    pub(super) fn subsets_of(&self, pod: Option<&Pod>) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .flat_map(|rule| &rule.subsets)
            .filter(move |subset| pod.is_none_or(|pod| subset.labels.select(&pod.traits)))
            .map(|subset| &*subset.name)
    }
}

// === impl Istio ===

impl Istio {
    /// What applies to a host, for a client in a namespace with these traits: the first that has
    /// something for it, of the client's namespace, the Service's, the mesh's.
    pub(super) fn destination_rules(
        &self,
        client: &str,
        traits: Option<&Traits>,
        host: &str,
    ) -> Option<Applying> {
        let root = &*self.mesh_config().root_namespace;
        let own = (client != root).then_some(client);
        let service = match service_of(host) {
            Some((namespace, _)) => Some(namespace),
            None => self.service_entry_namespace(client, host),
        };
        let mut tried: [&str; 3] = [""; 3];
        let namespaces = [own, service, Some(root)];
        for (namespace, place) in namespaces.into_iter().flatten().zip(0..) {
            if namespace.is_empty() || tried.contains(&namespace) {
                continue;
            }
            if let Some(slot) = tried.get_mut(place) {
                *slot = namespace;
            }
            if let Some(applying) = self.applying_of(namespace, client, traits, host) {
                // Those that choose other workloads leave nothing to wider ones.
                return (!applying.0.is_empty()).then_some(applying);
            }
        }
        None
    }

    fn applying_of(
        &self,
        namespace: &str,
        client: &str,
        traits: Option<&Traits>,
        host: &str,
    ) -> Option<Applying> {
        let default = &self.mesh_config().destination_rule_export;
        let by_host = self.destination_rules.get(namespace)?;
        let mut lists = by_host.matching(host).map(|list| {
            list.iter()
                .filter(|rule| rule.export.reaches(namespace, client, default))
                .cloned()
                .collect::<Vec<_>>()
        });
        let visible = lists.find(|list| !list.is_empty())?;
        let chosen = visible.iter().find(|rule| {
            namespace == client
                && !rule.selector.is_empty()
                && traits.is_some_and(|traits| rule.selector.select(traits))
        });
        Some(Applying(match chosen {
            Some(rule) => vec![rule.clone()],
            None => visible
                .into_iter()
                .filter(|rule| rule.selector.is_empty())
                .collect(),
        }))
    }

    /// A subset of a host, as a client in a namespace knows it. `host` is a full name.
    pub fn subset(&self, client_namespace: &str, host: &str, subset: &str) -> Option<Subset> {
        self.destination_rules(client_namespace, None, host)?
            .subset(subset)
    }

    /// How a client is to reach a host; `subset` is empty for none, `port` is the Service's, 0 when
    /// it is not known. `None` when nothing is declared. `host` is a full name.
    pub fn traffic_policy(
        &self,
        client: &Pod,
        host: &str,
        subset: &str,
        port: u16,
    ) -> Option<Decision<TrafficPolicy>> {
        let applying = self.destination_rules(&client.namespace, Some(&client.traits), host)?;
        Some(applying.policy(subset, port))
    }

    /// All subsets of all DestinationRules, in no order.
    pub fn subsets(&self) -> impl Iterator<Item = Subset> {
        self.destination_rule_list.all().flat_map(|rule| {
            rule.subsets
                .iter()
                .map(|subset| rule.declared_subset(subset))
        })
    }
}

#[cfg(test)]
mod tests;
