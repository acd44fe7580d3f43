//! The settings of metrics.

use super::{
    super::{Config, Histograms, parse_duration},
    Setting, count, truth,
};

pub(in crate::config) const SERIES_BUDGET: Setting = Setting {
    key: "metrics.series_budget",
    set: series_budget,
};
pub(in crate::config) const IDLE_EXPIRY: Setting = Setting {
    key: "metrics.idle_expiry",
    set: idle_expiry,
};
pub(in crate::config) const METRICS_PODS: Setting = Setting {
    key: "metrics.pods",
    set: metrics_pods,
};
pub(in crate::config) const HISTOGRAMS: Setting = Setting {
    key: "metrics.histograms",
    set: histograms,
};
pub(in crate::config) const SERVICE_GRAPH: Setting = Setting {
    key: "metrics.service_graph",
    set: service_graph,
};
pub(in crate::config) const SPAN_METRICS: Setting = Setting {
    key: "metrics.span_metrics",
    set: span_metrics,
};

fn series_budget(config: &mut Config, text: &str) -> Result<(), String> {
    config.metrics.series_budget = count(text, 1, 1_000_000)?;
    Ok(())
}

fn idle_expiry(config: &mut Config, text: &str) -> Result<(), String> {
    let expiry = parse_duration(text)?;
    if expiry.is_zero() {
        return Err("0 would forget every series at once; write `15m`, for example".to_owned());
    }
    config.metrics.idle_expiry = expiry;
    Ok(())
}

fn metrics_pods(config: &mut Config, text: &str) -> Result<(), String> {
    config.metrics.pods = truth(text)?;
    Ok(())
}

fn histograms(config: &mut Config, text: &str) -> Result<(), String> {
    config.metrics.histograms = match text.trim() {
        "classic" => Histograms::Classic,
        "native" => Histograms::Native,
        "both" => Histograms::Both,
        _ => return Err(format!("{text:?} is not `classic`, `native` or `both`")),
    };
    Ok(())
}

fn service_graph(config: &mut Config, text: &str) -> Result<(), String> {
    config.metrics.service_graph = truth(text)?;
    Ok(())
}

fn span_metrics(config: &mut Config, text: &str) -> Result<(), String> {
    config.metrics.span_metrics = truth(text)?;
    Ok(())
}
