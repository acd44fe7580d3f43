//! The part of the file on service meshes.

use serde::Deserialize;

use super::{Config, ConfigError, Value, place, settings};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Section {
    enabled: Option<Value>,
    istio: Option<Value>,
    linkerd: Option<Value>,
    gateway_api: Option<Value>,
    network_policy: Option<Value>,
    istio_namespace: Option<Value>,
    istio_revisions: Option<Value>,
    hops: Option<Value>,
    minimum: Option<Value>,
    settle: Option<Value>,
    window: Option<Value>,
    readiness_window: Option<Value>,
    unused_after: Option<Value>,
    edges: Option<Value>,
    series: SeriesSection,
    events: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SeriesSection {
    istio: Option<Value>,
    linkerd: Option<Value>,
}

pub(super) fn apply(config: &mut Config, name: &str, section: Section) -> Result<(), ConfigError> {
    let all = [
        (settings::MESH_ENABLED, section.enabled),
        (settings::MESH_ISTIO, section.istio),
        (settings::MESH_LINKERD, section.linkerd),
        (settings::MESH_GATEWAY_API, section.gateway_api),
        (settings::MESH_NETWORK_POLICY, section.network_policy),
        (settings::MESH_ISTIO_NAMESPACE, section.istio_namespace),
        (settings::MESH_ISTIO_REVISIONS, section.istio_revisions),
        (settings::MESH_HOPS, section.hops),
        (settings::MESH_MINIMUM, section.minimum),
        (settings::MESH_SETTLE, section.settle),
        (settings::MESH_WINDOW, section.window),
        (settings::MESH_READINESS_WINDOW, section.readiness_window),
        (settings::MESH_UNUSED_AFTER, section.unused_after),
        (settings::MESH_EDGES, section.edges),
        (settings::MESH_SERIES_ISTIO, section.series.istio),
        (settings::MESH_SERIES_LINKERD, section.series.linkerd),
        (settings::MESH_EVENTS, section.events),
    ];
    for (setting, value) in all {
        if let Some(value) = value {
            setting.apply(config, &value.value, || place(name, &value))?;
        }
    }
    Ok(())
}
