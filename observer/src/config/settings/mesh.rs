//! The settings of service meshes.

use std::time::Duration;

use super::{
    super::{Config, IstioSeries, MeshHops, Switch},
    Setting, between, count, truth,
};

pub(in crate::config) const MESH_ENABLED: Setting = Setting {
    key: "mesh.enabled",
    set: enabled,
};
pub(in crate::config) const MESH_ISTIO: Setting = Setting {
    key: "mesh.istio",
    set: |config, text| switch(&mut config.mesh.parts.istio, text),
};
pub(in crate::config) const MESH_LINKERD: Setting = Setting {
    key: "mesh.linkerd",
    set: |config, text| switch(&mut config.mesh.parts.linkerd, text),
};
pub(in crate::config) const MESH_GATEWAY_API: Setting = Setting {
    key: "mesh.gateway_api",
    set: |config, text| switch(&mut config.mesh.parts.gateway_api, text),
};
pub(in crate::config) const MESH_NETWORK_POLICY: Setting = Setting {
    key: "mesh.network_policy",
    set: |config, text| switch(&mut config.mesh.parts.network_policy, text),
};
pub(in crate::config) const MESH_ISTIO_NAMESPACE: Setting = Setting {
    key: "mesh.istio_namespace",
    set: istio_namespace,
};
pub(in crate::config) const MESH_ISTIO_REVISIONS: Setting = Setting {
    key: "mesh.istio_revisions",
    set: |config, text| switch(&mut config.mesh.istio_revisions, text),
};
pub(in crate::config) const MESH_HOPS: Setting = Setting {
    key: "mesh.hops",
    set: hops,
};
pub(in crate::config) const MESH_MINIMUM: Setting = Setting {
    key: "mesh.minimum",
    set: minimum,
};
pub(in crate::config) const MESH_SETTLE: Setting = Setting {
    key: "mesh.settle",
    set: settle,
};
pub(in crate::config) const MESH_WINDOW: Setting = Setting {
    key: "mesh.window",
    set: window,
};
pub(in crate::config) const MESH_READINESS_WINDOW: Setting = Setting {
    key: "mesh.readiness_window",
    set: readiness_window,
};
pub(in crate::config) const MESH_UNUSED_AFTER: Setting = Setting {
    key: "mesh.unused_after",
    set: unused_after,
};
pub(in crate::config) const MESH_EDGES: Setting = Setting {
    key: "mesh.edges",
    set: edges,
};
pub(in crate::config) const MESH_SERIES_ISTIO: Setting = Setting {
    key: "mesh.series.istio",
    set: series_istio,
};
pub(in crate::config) const MESH_SERIES_LINKERD: Setting = Setting {
    key: "mesh.series.linkerd",
    set: |config, text| switch(&mut config.mesh.series.linkerd, text),
};
pub(in crate::config) const MESH_EVENTS: Setting = Setting {
    key: "mesh.events",
    set: |config, text| switch(&mut config.mesh.events, text),
};

/// Longest name of a namespace, bytes: it is a label of DNS.
const MAX_NAMESPACE: usize = 63;
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn switch(value: &mut bool, text: &str) -> Result<(), String> {
    *value = truth(text)?;
    Ok(())
}

fn enabled(config: &mut Config, text: &str) -> Result<(), String> {
    config.mesh.enabled = Switch::ALL
        .into_iter()
        .find(|switch| switch.as_str() == text.trim())
        .ok_or_else(|| format!("{text:?} is none of auto, on, off"))?;
    Ok(())
}

fn istio_namespace(config: &mut Config, text: &str) -> Result<(), String> {
    let text = text.trim();
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if text.is_empty()
        || text.len() > MAX_NAMESPACE
        || !text.bytes().all(fits)
        || text.starts_with('-')
        || text.ends_with('-')
    {
        return Err(format!(
            "{text:?} is not a namespace: at most {MAX_NAMESPACE} of a-z, 0-9 and `-` within"
        ));
    }
    config.mesh.istio_namespace = text.to_owned();
    Ok(())
}

fn hops(config: &mut Config, text: &str) -> Result<(), String> {
    config.mesh.hops = MeshHops::ALL
        .into_iter()
        .find(|hops| hops.as_str() == text.trim())
        .ok_or_else(|| format!("{text:?} is neither `fold` nor `all`"))?;
    Ok(())
}

fn minimum(config: &mut Config, text: &str) -> Result<(), String> {
    config.mesh.minimum = count(text, 1, 1_000_000)?;
    Ok(())
}

fn settle(config: &mut Config, text: &str) -> Result<(), String> {
    config.mesh.settle = between(text, Duration::ZERO, HOUR)?;
    Ok(())
}

fn window(config: &mut Config, text: &str) -> Result<(), String> {
    config.mesh.window = between(text, HOUR, 30 * DAY)?;
    Ok(())
}

fn readiness_window(config: &mut Config, text: &str) -> Result<(), String> {
    config.mesh.readiness_window = between(text, HOUR, 90 * DAY)?;
    Ok(())
}

fn unused_after(config: &mut Config, text: &str) -> Result<(), String> {
    config.mesh.unused_after = between(text, Duration::ZERO, 90 * DAY)?;
    Ok(())
}

fn edges(config: &mut Config, text: &str) -> Result<(), String> {
    config.mesh.edges = count(text, 64, 1 << 20)?;
    Ok(())
}

fn series_istio(config: &mut Config, text: &str) -> Result<(), String> {
    config.mesh.series.istio = IstioSeries::ALL
        .into_iter()
        .find(|series| series.as_str() == text.trim())
        .ok_or_else(|| format!("{text:?} is none of off, gaps, all"))?;
    Ok(())
}
