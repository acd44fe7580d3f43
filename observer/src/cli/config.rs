//! `observer config check`: reads a file, says what it sets or what is wrong with it.

use std::{io, path::Path};

use crate::config::{AccessTo, Config, ConfigError, Flags, MeshParts, Otlp, Pods, Signal};

/// Reads and checks `file` and writes a summary to `out`. Flags and environment play no part.
pub fn check(file: &Path, out: &mut dyn io::Write) -> anyhow::Result<()> {
    let config = read(file)?;
    writeln!(out, "{}: ok", file.display())?;
    write!(out, "{}", summary(&config))?;
    Ok(())
}

fn read(file: &Path) -> Result<Config, ConfigError> {
    Config::load(Some(file), &Flags::default(), &|_| None)
}

/// `1 rule`, `2 rules`.
fn count(number: impl TryInto<u64>, noun: &str) -> String {
    let number = number.try_into().unwrap_or(u64::MAX);
    let ending = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{ending}")
}

/// What chooses pods.
fn pods(pods: &Pods) -> String {
    let patterns = pods.namespaces.len() + pods.workloads.len() + pods.labels.len();
    count(patterns, "pod pattern")
}

/// Whose declarations are read.
fn parts(parts: MeshParts) -> String {
    let MeshParts {
        istio,
        linkerd,
        gateway_api,
        network_policy,
    } = parts;
    let names = [
        (istio, "istio"),
        (linkerd, "linkerd"),
        (gateway_api, "gateway_api"),
        (network_policy, "network_policy"),
    ];
    let read: Vec<&str> = names
        .iter()
        .filter_map(|(on, name)| on.then_some(*name))
        .collect();
    match read.is_empty() {
        true => "nothing is read".to_owned(),
        false => format!("{} are read", read.join(", ")),
    }
}

/// Where telemetry goes; the environment may say something else.
fn destinations(otlp: &Otlp) -> String {
    let sent: Vec<String> = Signal::ALL
        .into_iter()
        .filter_map(|signal| {
            let to = otlp.destination(signal)?;
            let name = signal.as_str();
            Some(format!("{name} to {} ({})", to.shown(), to.protocol()))
        })
        .collect();
    match sent.is_empty() {
        true => "nothing is sent".to_owned(),
        false => sent.join(", "),
    }
}

/// What a configuration comes to, one line a setting.
fn summary(config: &Config) -> String {
    let Config {
        listen,
        cgroup,
        capture,
        ignore,
        only,
        services,
        routes,
        metrics,
        flows,
        dns,
        udp,
        kubernetes,
        networks,
        mesh,
        hub,
        traces,
        otlp,
        access_log,
        log,
    } = config;
    let cgroup = cgroup
        .as_ref()
        .map_or("root of the first cgroup v2 mount".to_owned(), |path| {
            path.display().to_string()
        });
    let lines = [
        ("listen", listen.address.to_string()),
        ("cgroup", cgroup),
        (
            "capture",
            format!(
                "{} bytes of ring buffer, {}",
                capture.ring_bytes,
                count(capture.max_connections, "connection")
            ),
        ),
        (
            "ignore",
            format!(
                "{}, {}, {}, {}",
                count(ignore.ports.len(), "port"),
                count(ignore.cgroups.len(), "cgroup"),
                count(ignore.services.len(), "service"),
                pods(&ignore.pods)
            ),
        ),
        (
            "only",
            match only.is_empty() {
                true => "all pods".to_owned(),
                false => pods(only),
            },
        ),
        ("services", count(services.len(), "rule")),
        ("routes", count(routes.patterns.len(), "pattern")),
        (
            "metrics",
            format!(
                "{} series a family, of each {}, forgotten when idle for {:?}",
                metrics.series_budget,
                if metrics.pods { "pod" } else { "workload" },
                metrics.idle_expiry
            ),
        ),
        (
            "flows",
            format!("{} kept, sampled at {}", flows.history, flows.sampling),
        ),
        (
            "dns",
            format!(
                "{:?} for an answer, {}",
                dns.timeout,
                count(dns.names, "name")
            ),
        ),
        (
            "udp",
            format!(
                "{}, over when idle for {:?}",
                count(udp.max_flows, "flow"),
                udp.idle
            ),
        ),
        (
            "kubernetes",
            format!(
                "{}, {}, calls wait {:?} for pods",
                kubernetes.enabled.as_str(),
                match kubernetes.hub.as_str() {
                    "" => "no hub",
                    hub => hub,
                },
                kubernetes.hold
            ),
        ),
        ("networks", count(networks.len(), "name")),
        (
            "mesh",
            format!(
                "{}, {}, {}, hops {}",
                mesh.enabled.as_str(),
                parts(mesh.parts),
                count(mesh.edges, "edge"),
                mesh.hops.as_str()
            ),
        ),
        (
            "hub",
            format!(
                "{}, {}, {}, at most {}",
                hub.listen,
                match hub.tls.certificate {
                    Some(_) => "TLS",
                    None => "no TLS",
                },
                match hub.authenticate {
                    true => "agents show tokens",
                    false => "anybody is answered",
                },
                count(hub.max_agents, "agent")
            ),
        ),
        (
            "traces",
            format!(
                "{}, {} of those undecided, {}, {} elsewhere, causes {}",
                traces.sampling.sampler.as_str(),
                traces.sampling.ratio,
                count(traces.rules.len(), "rule"),
                traces.peers.as_str(),
                if traces.causes {
                    "watched"
                } else {
                    "not watched"
                },
            ),
        ),
        ("otlp", destinations(otlp)),
        (
            "access_log",
            match access_log.to {
                AccessTo::None => "none".to_owned(),
                to => format!(
                    "to {}, sampled at {}, at most {} a second",
                    to.as_str(),
                    access_log.sampling,
                    access_log.per_second
                ),
            },
        ),
        ("log", log.level.as_str().to_owned()),
    ];
    lines
        .iter()
        .map(|(key, value)| format!("  {key:<10} {value}\n"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_file_is_summed_up() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(
            file.path(),
            "listen: 127.0.0.1:1\nignore: {ports: [22, 53]}\n",
        )
        .unwrap();
        let mut out = Vec::new();
        check(file.path(), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.lines().next().unwrap().ends_with(": ok"), "{text}");
        assert!(text.contains("127.0.0.1:1"), "{text}");
        assert!(text.contains("2 ports, 0 cgroups"), "{text}");
        assert!(
            text.contains("auto, istio, linkerd, gateway_api, network_policy are read"),
            "{text}"
        );
    }

    #[test]
    fn a_bad_file_is_one_line_with_the_place() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "listen: nowhere\n").unwrap();
        let mut out = Vec::new();
        let error = check(file.path(), &mut out).unwrap_err().to_string();
        assert!(error.contains(":1:9: listen: "), "{error}");
        assert!(out.is_empty());
        std::fs::write(file.path(), "lisen: nowhere\n").unwrap();
        let error = check(file.path(), &mut out).unwrap_err().to_string();
        assert!(error.contains(":1:1: unknown field `lisen`"), "{error}");
        assert!(
            error.ends_with("traces, otlp, access_log, log"),
            "the place once: {error}"
        );
    }
}
