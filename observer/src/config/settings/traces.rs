//! The settings of traces.

use std::time::Duration;

use super::{
    super::{Config, Sampler, Sampling, TracedPeers, parse_duration},
    Setting, between, truth,
};

pub(in crate::config) const TRACES_SAMPLER: Setting = Setting {
    key: "traces.sampler",
    set: |config, text| set_sampler(&mut config.traces.sampling, text),
};
pub(in crate::config) const TRACES_RATIO: Setting = Setting {
    key: "traces.ratio",
    set: |config, text| set_ratio(&mut config.traces.sampling, text),
};
pub(in crate::config) const TRACES_KEEP_FAILED: Setting = Setting {
    key: "traces.keep_failed",
    set: |config, text| set_keep_failed(&mut config.traces.sampling, text),
};
pub(in crate::config) const TRACES_SLOWER_THAN: Setting = Setting {
    key: "traces.slower_than",
    set: |config, text| set_slower_than(&mut config.traces.sampling, text),
};
pub(in crate::config) const TRACES_PEERS: Setting = Setting {
    key: "traces.peers",
    set: peers,
};
pub(in crate::config) const TRACES_DNS: Setting = Setting {
    key: "traces.dns",
    set: dns,
};
pub(in crate::config) const TRACES_CAUSES: Setting = Setting {
    key: "traces.causes",
    set: causes,
};
pub(in crate::config) const TRACES_WAIT: Setting = Setting {
    key: "traces.wait",
    set: wait,
};

pub(in crate::config) fn set_sampler(sampling: &mut Sampling, text: &str) -> Result<(), String> {
    sampling.sampler = match text {
        "parent" => Sampler::Parent,
        "ratio" => Sampler::Ratio,
        "always" => Sampler::Always,
        "never" => Sampler::Never,
        _ => {
            return Err(format!(
                "{text:?} is no sampler: parent, ratio, always or never"
            ));
        }
    };
    Ok(())
}

pub(in crate::config) fn set_ratio(sampling: &mut Sampling, text: &str) -> Result<(), String> {
    sampling.ratio = super::ratio(text)?;
    Ok(())
}

pub(in crate::config) fn set_keep_failed(
    sampling: &mut Sampling,
    text: &str,
) -> Result<(), String> {
    sampling.keep_failed = truth(text)?;
    Ok(())
}

pub(in crate::config) fn set_slower_than(
    sampling: &mut Sampling,
    text: &str,
) -> Result<(), String> {
    sampling.slower_than = match text {
        "never" => None,
        _ => Some(parse_duration(text).map_err(|error| format!("{error}, or `never`"))?),
    };
    Ok(())
}

fn peers(config: &mut Config, text: &str) -> Result<(), String> {
    config.traces.peers = match text {
        "cluster" => TracedPeers::Cluster,
        "all" => TracedPeers::All,
        "none" => TracedPeers::None,
        _ => return Err(format!("{text:?} is none of cluster, all and none")),
    };
    Ok(())
}

fn dns(config: &mut Config, text: &str) -> Result<(), String> {
    config.traces.dns = truth(text)?;
    Ok(())
}

fn causes(config: &mut Config, text: &str) -> Result<(), String> {
    config.traces.causes = truth(text)?;
    Ok(())
}

fn wait(config: &mut Config, text: &str) -> Result<(), String> {
    config.traces.wait = between(text, Duration::ZERO, Duration::from_secs(60))?;
    Ok(())
}
