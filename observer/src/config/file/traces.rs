//! The section of traces.

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::{
    super::{Config, ConfigError, Sampling, SamplingRule, settings},
    Value, check, place,
};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Section {
    sampler: Option<Value>,
    ratio: Option<Value>,
    keep_failed: Option<Value>,
    slower_than: Option<Value>,
    rules: Vec<Spanned<Entry>>,
    peers: Option<Value>,
    dns: Option<Value>,
    causes: Option<Value>,
    wait: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Entry {
    service: Option<Value>,
    namespace: Option<Value>,
    sampler: Option<Value>,
    ratio: Option<Value>,
    keep_failed: Option<Value>,
    slower_than: Option<Value>,
}

/// Sets what the section of the file `name` sets.
pub(super) fn apply(config: &mut Config, name: &str, traces: Section) -> Result<(), ConfigError> {
    let single = [
        (settings::TRACES_SAMPLER, traces.sampler),
        (settings::TRACES_RATIO, traces.ratio),
        (settings::TRACES_KEEP_FAILED, traces.keep_failed),
        (settings::TRACES_SLOWER_THAN, traces.slower_than),
        (settings::TRACES_PEERS, traces.peers),
        (settings::TRACES_DNS, traces.dns),
        (settings::TRACES_CAUSES, traces.causes),
        (settings::TRACES_WAIT, traces.wait),
    ];
    for (setting, value) in single {
        if let Some(value) = value {
            setting.apply(config, &value.value, || place(name, &value))?;
        }
    }
    // What a rule does not say is as for all others, which is known by now.
    let rest = config.traces.sampling.clone();
    config.traces.rules = traces
        .rules
        .into_iter()
        .map(|entry| sampling(name, entry, rest.clone()))
        .collect::<Result<_, _>>()?;
    Ok(())
}

/// A rule of sampling with all that is in it checked; what it does not say is as in `sampling`.
fn sampling(
    name: &str,
    entry: Spanned<Entry>,
    mut sampling: Sampling,
) -> Result<SamplingRule, ConfigError> {
    let here = place(name, &entry);
    let Entry {
        service,
        namespace,
        sampler,
        ratio,
        keep_failed,
        slower_than,
    } = entry.value;
    type Set = fn(&mut Sampling, &str) -> Result<(), String>;
    let parts: [(&str, Set, Option<Value>); 4] = [
        ("traces.rules.sampler", settings::set_sampler, sampler),
        ("traces.rules.ratio", settings::set_ratio, ratio),
        (
            "traces.rules.keep_failed",
            settings::set_keep_failed,
            keep_failed,
        ),
        (
            "traces.rules.slower_than",
            settings::set_slower_than,
            slower_than,
        ),
    ];
    for (key, set, value) in parts {
        if let Some(value) = value {
            set(&mut sampling, &value.value).map_err(|problem| ConfigError {
                place: place(name, &value),
                key: key.to_owned(),
                problem,
            })?;
        }
    }
    let glob = |key, value: Option<Value>| {
        value
            .map(|value| check(name, key, &value, settings::glob))
            .transpose()
    };
    let rule = SamplingRule {
        service: glob("traces.rules.service", service)?,
        namespace: glob("traces.rules.namespace", namespace)?,
        sampling,
    };
    if rule.service.is_none() && rule.namespace.is_none() {
        return Err(ConfigError {
            place: here,
            key: "traces.rules".to_owned(),
            problem: "has no condition: give service or namespace".to_owned(),
        });
    }
    Ok(rule)
}
