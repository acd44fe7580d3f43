//! A VirtualService as it is written.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, de::IgnoredAny};

use crate::mesh::{
    decision::Backend,
    istio::{
        destination_rule::PortNumber,
        mesh_config::RetrySpec,
        names::full_name,
        read::{self, TextSpec},
        store::{Export, Labels},
    },
};

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Spec {
    pub(super) hosts: Vec<Box<str>>,
    pub(super) gateways: Vec<Box<str>>,
    pub(super) export_to: Export,
    pub(super) http: Vec<RouteSpec>,
    pub(super) tls: Vec<RouteSpec>,
    pub(super) tcp: Vec<RouteSpec>,
}

/// A rule of HTTP, TLS or TCP: the latter have fewer fields of the same meaning.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct RouteSpec {
    pub(super) name: Box<str>,
    pub(super) r#match: Vec<MatchSpec>,
    pub(super) route: Vec<WeightSpec>,
    pub(super) redirect: Option<IgnoredAny>,
    pub(super) direct_response: Option<IgnoredAny>,
    pub(super) delegate: Option<DelegateSpec>,
    pub(super) rewrite: Option<RewriteSpec>,
    #[serde(deserialize_with = "read::optional_time")]
    pub(super) timeout: Option<Duration>,
    pub(super) retries: Option<RetrySpec>,
    pub(super) fault: Option<FaultSpec>,
    pub(super) mirror: Option<DestinationSpec>,
    pub(super) mirror_percentage: Option<Percent>,
    #[serde(alias = "mirror_percent")]
    pub(super) mirror_percent: Option<f64>,
    pub(super) mirrors: Vec<MirrorSpec>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct MatchSpec {
    pub(super) uri: Option<TextSpec>,
    pub(super) ignore_uri_case: bool,
    pub(super) scheme: Option<IgnoredAny>,
    pub(super) method: Option<TextSpec>,
    pub(super) authority: Option<TextSpec>,
    pub(super) headers: BTreeMap<Box<str>, TextSpec>,
    pub(super) without_headers: BTreeMap<Box<str>, TextSpec>,
    pub(super) query_params: BTreeMap<Box<str>, IgnoredAny>,
    pub(super) port: u16,
    pub(super) source_labels: Labels,
    pub(super) source_namespace: Box<str>,
    pub(super) gateways: Vec<Box<str>>,
    pub(super) sni_hosts: Vec<Box<str>>,
    pub(super) destination_subnets: Vec<Box<str>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct WeightSpec {
    pub(super) destination: DestinationSpec,
    pub(super) weight: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct DestinationSpec {
    pub(super) host: Box<str>,
    pub(super) subset: Box<str>,
    pub(super) port: PortNumber,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct DelegateSpec {
    pub(super) name: Box<str>,
    pub(super) namespace: Box<str>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct RewriteSpec {
    pub(super) uri: Box<str>,
    pub(super) authority: Box<str>,
    pub(super) uri_regex_rewrite: UriRewriteSpec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct UriRewriteSpec {
    pub(super) rewrite: Box<str>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct FaultSpec {
    pub(super) abort: Option<AbortSpec>,
    pub(super) delay: Option<DelaySpec>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct AbortSpec {
    pub(super) http_status: u16,
    pub(super) percentage: Option<Percent>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct DelaySpec {
    #[serde(deserialize_with = "read::optional_time")]
    pub(super) fixed_delay: Option<Duration>,
    pub(super) percentage: Option<Percent>,
    /// Before there were fractions.
    pub(super) percent: Option<f64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct MirrorSpec {
    pub(super) destination: DestinationSpec,
    pub(super) percentage: Option<Percent>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Percent {
    pub(super) value: f64,
}

// === impl DestinationSpec ===

impl DestinationSpec {
    pub(super) fn backend(&self, namespace: &str, share: f64) -> Backend {
        Backend {
            host: full_name(&self.host, namespace).into(),
            subset: self.subset.clone(),
            port: self.port.number,
            share,
            labels: Vec::new(),
        }
    }
}
