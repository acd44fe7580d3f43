//! The settings by key: how each is written, checked and stored, wherever it was written.

mod access;
mod all;
mod hub;
mod kubernetes;
mod mesh;
mod metrics;
mod otlp;
mod traces;

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use clap::ValueEnum;

use super::{
    Config, ConfigError, Flags, Glob, LogLevel, MAX_IGNORED_PORTS, parse_bytes, parse_duration,
};

pub(super) use access::*;
pub(super) use all::ALL;
pub(super) use hub::*;
pub(super) use kubernetes::*;
pub(super) use mesh::*;
pub(super) use metrics::*;
pub(super) use otlp::*;
pub(super) use traces::*;

/// A setting that is one value, or a list of values with commas between.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setting {
    /// Key in the file and in errors.
    pub(super) key: &'static str,
    /// Checks the text and stores the value, or says what is wrong.
    set: fn(&mut Config, &str) -> Result<(), String>,
}

pub(super) const LISTEN: Setting = Setting {
    key: "listen",
    set: listen,
};
pub(super) const CGROUP: Setting = Setting {
    key: "cgroup",
    set: cgroup,
};
pub(super) const RING_BYTES: Setting = Setting {
    key: "capture.ring_bytes",
    set: ring_bytes,
};
pub(super) const MAX_CONNECTIONS: Setting = Setting {
    key: "capture.max_connections",
    set: max_connections,
};
pub(super) const IGNORE_PORTS: Setting = Setting {
    key: "ignore.ports",
    set: ignore_ports,
};
pub(super) const IGNORE_CGROUPS: Setting = Setting {
    key: "ignore.cgroups",
    set: ignore_cgroups,
};
pub(super) const IGNORE_SERVICES: Setting = Setting {
    key: "ignore.services",
    set: ignore_services,
};
pub(super) const HISTORY: Setting = Setting {
    key: "flows.history",
    set: history,
};
pub(super) const SAMPLING: Setting = Setting {
    key: "flows.sampling",
    set: sampling,
};
pub(super) const DNS_TIMEOUT: Setting = Setting {
    key: "dns.timeout",
    set: dns_timeout,
};
pub(super) const DNS_NAMES: Setting = Setting {
    key: "dns.names",
    set: dns_names,
};
pub(super) const UDP_MAX_FLOWS: Setting = Setting {
    key: "udp.max_flows",
    set: udp_max_flows,
};
pub(super) const UDP_IDLE: Setting = Setting {
    key: "udp.idle",
    set: udp_idle,
};
pub(super) const LOG_LEVEL: Setting = Setting {
    key: "log.level",
    set: log_level,
};

/// Sets what is set in `flags`.
pub(super) fn apply_flags(config: &mut Config, flags: &Flags) -> Result<(), ConfigError> {
    let Flags {
        listen,
        hub_listen,
        cgroup,
        log_level,
        sampling,
        ignore_ports,
    } = flags;
    if let Some(address) = listen {
        config.listen.address = *address;
    }
    if let Some(address) = hub_listen {
        config.hub.listen = *address;
    }
    if let Some(path) = cgroup {
        // A path need not be UTF-8 to be usable, so it does not go through text.
        config.cgroup = Some(absolute(path.clone()).map_err(|problem| ConfigError {
            place: "flag --cgroup".to_owned(),
            key: CGROUP.key.to_owned(),
            problem,
        })?);
    }
    if let Some(level) = log_level {
        config.log.level = *level;
    }
    if let Some(ratio) = sampling {
        SAMPLING.apply(config, &ratio.to_string(), || "flag --sampling".to_owned())?;
    }
    if !ignore_ports.is_empty() {
        let text: Vec<String> = ignore_ports.iter().map(u16::to_string).collect();
        IGNORE_PORTS.apply(config, &text.join(","), || "flag --ignore-port".to_owned())?;
    }
    Ok(())
}

/// Sets what `environment` has a variable for. An empty variable is one that is not set.
pub(super) fn apply_environment(
    config: &mut Config,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<(), ConfigError> {
    // First, as it is said to all programs, and what is said to us is stronger.
    apply_standard(config, environment)?;
    for setting in ALL {
        let name = setting.variable();
        if let Some(value) = environment(&name).filter(|value| !value.is_empty()) {
            setting.apply(config, &value, || format!("environment variable {name}"))?;
        }
    }
    Ok(())
}

/// Checks a port.
pub(super) fn port(text: &str) -> Result<u16, String> {
    text.trim()
        .parse()
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| format!("{text:?} is not a port: write a number from 1 to 65535"))
}

/// Checks a pattern.
pub(super) fn glob(text: &str) -> Result<Glob, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("a pattern cannot be empty; `*` matches everything".to_owned());
    }
    Ok(Glob::new(text))
}

/// Longest route template, bytes.
const MAX_ROUTE: usize = 256;

/// Checks a route template.
pub(super) fn route(text: &str) -> Result<String, String> {
    let problem = if !text.starts_with('/') {
        "does not start with `/`"
    } else if text.contains(['?', '#']) || text.contains(char::is_whitespace) {
        "is more than a path: leave out query, fragment and blanks"
    } else if text.split('/').any(|segment| !well_formed(segment)) {
        "has a `{` or `}` that does not enclose one whole, named segment"
    } else if text.len() > MAX_ROUTE {
        "is longer than 256 bytes"
    } else if text.strip_suffix("/**").unwrap_or(text).contains("**") {
        "has a `**` that is not the last segment"
    } else {
        return Ok(text.to_owned());
    };
    Err(format!(
        "{text:?} {problem}; a template looks like `/users/{{id}}/orders`"
    ))
}

/// Whether a segment is plain, or one name in braces.
fn well_formed(segment: &str) -> bool {
    let inner = segment
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'));
    match inner {
        Some(name) => !name.is_empty() && !name.contains(['{', '}']),
        None => !segment.contains(['{', '}']),
    }
}

fn listen(config: &mut Config, text: &str) -> Result<(), String> {
    config.listen.address = text.parse().map_err(|_| {
        format!("{text:?} is not an address and port: write `127.0.0.1:9920` or `[::1]:9920`")
    })?;
    Ok(())
}

fn cgroup(config: &mut Config, text: &str) -> Result<(), String> {
    config.cgroup = Some(absolute(PathBuf::from(text))?);
    Ok(())
}

fn absolute(path: PathBuf) -> Result<PathBuf, String> {
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(format!(
            "{:?} is not an absolute path of a cgroup v2 directory",
            path.display()
        ))
    }
}

fn ring_bytes(config: &mut Config, text: &str) -> Result<(), String> {
    let bytes = parse_bytes(text)?;
    // The kernel wants a power of two and whole pages; 1 GiB is more than any burst needs.
    config.capture.ring_bytes = u32::try_from(bytes)
        .ok()
        .filter(|bytes| bytes.is_power_of_two() && (64 << 10..=1 << 30).contains(bytes))
        .ok_or_else(|| format!("{text:?} is not a power of two from 64KiB to 1GiB"))?;
    Ok(())
}

fn max_connections(config: &mut Config, text: &str) -> Result<(), String> {
    config.capture.max_connections = count(text, 1, 1 << 20)?;
    Ok(())
}

fn ignore_ports(config: &mut Config, text: &str) -> Result<(), String> {
    let ports = list(text, port)?;
    let distinct: BTreeSet<u16> = ports.iter().copied().collect();
    if distinct.len() > MAX_IGNORED_PORTS {
        return Err(format!(
            "{} ports, but at most {MAX_IGNORED_PORTS} fit",
            distinct.len()
        ));
    }
    config.ignore.ports = distinct.into_iter().collect();
    Ok(())
}

fn ignore_cgroups(config: &mut Config, text: &str) -> Result<(), String> {
    config.ignore.cgroups = list(text, glob)?;
    Ok(())
}

fn ignore_services(config: &mut Config, text: &str) -> Result<(), String> {
    config.ignore.services = list(text, glob)?;
    Ok(())
}

/// A yes or no.
fn truth(text: &str) -> Result<bool, String> {
    match text.trim() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("{text:?} is neither `true` nor `false`")),
    }
}

fn history(config: &mut Config, text: &str) -> Result<(), String> {
    config.flows.history = count(text, 0, 1 << 20)?;
    Ok(())
}

fn sampling(config: &mut Config, text: &str) -> Result<(), String> {
    config.flows.sampling = ratio(text)?;
    Ok(())
}

/// A share.
fn ratio(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|ratio| (0.0..=1.0).contains(ratio))
        .ok_or_else(|| format!("{text:?} is not a ratio: write a number from 0 to 1"))
}

fn dns_timeout(config: &mut Config, text: &str) -> Result<(), String> {
    config.dns.timeout = between(text, Duration::from_secs(1), Duration::from_secs(60))?;
    Ok(())
}

fn dns_names(config: &mut Config, text: &str) -> Result<(), String> {
    config.dns.names = count(text, 0, 1 << 20)?;
    Ok(())
}

fn udp_max_flows(config: &mut Config, text: &str) -> Result<(), String> {
    config.udp.max_flows = count(text, 128, 1 << 20)?;
    Ok(())
}

fn udp_idle(config: &mut Config, text: &str) -> Result<(), String> {
    config.udp.idle = between(text, Duration::from_secs(3), Duration::from_secs(3600))?;
    Ok(())
}

/// A duration within bounds.
fn between(text: &str, least: Duration, most: Duration) -> Result<Duration, String> {
    let duration = parse_duration(text)?;
    if (least..=most).contains(&duration) {
        Ok(duration)
    } else {
        let (least, most) = (least.as_secs(), most.as_secs());
        Err(format!("{text:?} is not a time from {least}s to {most}s"))
    }
}

fn log_level(config: &mut Config, text: &str) -> Result<(), String> {
    config.log.level = LogLevel::value_variants()
        .iter()
        .copied()
        .find(|level| level.as_str() == text)
        .ok_or_else(|| format!("{text:?} is not a level: error, warn, info, debug or trace"))?;
    Ok(())
}

fn count(text: &str, least: u32, most: u32) -> Result<u32, String> {
    text.parse()
        .ok()
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| format!("{text:?} is not a whole number from {least} to {most}"))
}

fn list<T>(text: &str, item: fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    text.split(',')
        .filter(|part| !part.trim().is_empty())
        .map(item)
        .collect()
}

// === impl Setting ===

impl Setting {
    /// Name of its variable.
    pub(super) fn variable(self) -> String {
        format!(
            "OBSERVER_{}",
            self.key.replace('.', "_").to_ascii_uppercase()
        )
    }

    /// Checks and stores `text`, which was written at `place`.
    pub(super) fn apply(
        self,
        config: &mut Config,
        text: &str,
        place: impl FnOnce() -> String,
    ) -> Result<(), ConfigError> {
        (self.set)(config, text).map_err(|problem| ConfigError {
            place: place(),
            key: self.key.to_owned(),
            problem,
        })
    }
}
