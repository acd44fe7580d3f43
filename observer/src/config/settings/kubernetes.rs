//! The settings of the cluster, and of the pods that are observed.

use std::{path::PathBuf, time::Duration};

use super::{
    super::{Config, Switch, kubernetes},
    Setting, between, glob, list,
};

pub(in crate::config) const KUBERNETES_ENABLED: Setting = Setting {
    key: "kubernetes.enabled",
    set: enabled,
};
pub(in crate::config) const KUBERNETES_NODE: Setting = Setting {
    key: "kubernetes.node",
    set: node,
};
pub(in crate::config) const KUBERNETES_CLUSTER: Setting = Setting {
    key: "kubernetes.cluster",
    set: cluster,
};
pub(in crate::config) const KUBERNETES_KUBECONFIG: Setting = Setting {
    key: "kubernetes.kubeconfig",
    set: kubeconfig,
};
pub(in crate::config) const KUBERNETES_CONTEXT: Setting = Setting {
    key: "kubernetes.context",
    set: context,
};
pub(in crate::config) const KUBERNETES_HUB: Setting = Setting {
    key: "kubernetes.hub",
    set: hub,
};
pub(in crate::config) const KUBERNETES_HUB_CA: Setting = Setting {
    key: "kubernetes.hub_ca",
    set: hub_ca,
};
pub(in crate::config) const KUBERNETES_HUB_TOKEN: Setting = Setting {
    key: "kubernetes.hub_token",
    set: hub_token,
};
pub(in crate::config) const KUBERNETES_LABELS: Setting = Setting {
    key: "kubernetes.labels",
    set: labels,
};
pub(in crate::config) const KUBERNETES_ANNOTATIONS: Setting = Setting {
    key: "kubernetes.annotations",
    set: annotations,
};
pub(in crate::config) const KUBERNETES_HOLD: Setting = Setting {
    key: "kubernetes.hold",
    set: hold,
};
pub(in crate::config) const IGNORE_NAMESPACES: Setting = Setting {
    key: "ignore.namespaces",
    set: ignore_namespaces,
};
pub(in crate::config) const IGNORE_WORKLOADS: Setting = Setting {
    key: "ignore.workloads",
    set: ignore_workloads,
};
pub(in crate::config) const IGNORE_POD_LABELS: Setting = Setting {
    key: "ignore.pod_labels",
    set: ignore_pod_labels,
};
pub(in crate::config) const ONLY_NAMESPACES: Setting = Setting {
    key: "only.namespaces",
    set: only_namespaces,
};
pub(in crate::config) const ONLY_WORKLOADS: Setting = Setting {
    key: "only.workloads",
    set: only_workloads,
};
pub(in crate::config) const ONLY_POD_LABELS: Setting = Setting {
    key: "only.pod_labels",
    set: only_pod_labels,
};

/// Longest name of a cluster, a node or a context, bytes.
const MAX_NAME: usize = 253;

fn enabled(config: &mut Config, text: &str) -> Result<(), String> {
    config.kubernetes.enabled = Switch::ALL
        .into_iter()
        .find(|switch| switch.as_str() == text.trim())
        .ok_or_else(|| format!("{text:?} is none of auto, on, off"))?;
    Ok(())
}

fn node(config: &mut Config, text: &str) -> Result<(), String> {
    config.kubernetes.node = name(text)?;
    Ok(())
}

fn cluster(config: &mut Config, text: &str) -> Result<(), String> {
    config.kubernetes.cluster = name(text)?;
    Ok(())
}

fn kubeconfig(config: &mut Config, text: &str) -> Result<(), String> {
    config.kubernetes.kubeconfig = Some(file(text)?);
    Ok(())
}

fn context(config: &mut Config, text: &str) -> Result<(), String> {
    config.kubernetes.context = name(text)?;
    Ok(())
}

fn hub(config: &mut Config, text: &str) -> Result<(), String> {
    config.kubernetes.hub = kubernetes::hub(text)?;
    Ok(())
}

fn hub_ca(config: &mut Config, text: &str) -> Result<(), String> {
    config.kubernetes.hub_ca = Some(file(text)?);
    Ok(())
}

fn hub_token(config: &mut Config, text: &str) -> Result<(), String> {
    config.kubernetes.hub_token = Some(file(text)?);
    Ok(())
}

fn labels(config: &mut Config, text: &str) -> Result<(), String> {
    config.kubernetes.labels = list(text, glob)?;
    Ok(())
}

fn annotations(config: &mut Config, text: &str) -> Result<(), String> {
    config.kubernetes.annotations = list(text, glob)?;
    Ok(())
}

fn hold(config: &mut Config, text: &str) -> Result<(), String> {
    config.kubernetes.hold = between(text, Duration::ZERO, Duration::from_secs(30))?;
    Ok(())
}

fn ignore_namespaces(config: &mut Config, text: &str) -> Result<(), String> {
    config.ignore.pods.namespaces = list(text, glob)?;
    Ok(())
}

fn ignore_workloads(config: &mut Config, text: &str) -> Result<(), String> {
    config.ignore.pods.workloads = list(text, glob)?;
    Ok(())
}

fn ignore_pod_labels(config: &mut Config, text: &str) -> Result<(), String> {
    config.ignore.pods.labels = list(text, kubernetes::label)?;
    Ok(())
}

fn only_namespaces(config: &mut Config, text: &str) -> Result<(), String> {
    config.only.namespaces = list(text, glob)?;
    Ok(())
}

fn only_workloads(config: &mut Config, text: &str) -> Result<(), String> {
    config.only.workloads = list(text, glob)?;
    Ok(())
}

fn only_pod_labels(config: &mut Config, text: &str) -> Result<(), String> {
    config.only.labels = list(text, kubernetes::label)?;
    Ok(())
}

fn name(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.len() > MAX_NAME || text.contains(char::is_whitespace) {
        return Err(format!(
            "{text:?} is not a name: at most {MAX_NAME} bytes, no blanks"
        ));
    }
    Ok(text.to_owned())
}

pub(super) fn file(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(format!("{text:?} is not the absolute path of a file"))
    }
}
