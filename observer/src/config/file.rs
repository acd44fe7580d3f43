//! The configuration file: YAML with the place of every value, so that errors can name it.

mod mesh;
mod otlp;
mod traces;

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::{
    Config, ConfigError, NamedNetwork, ServiceMatch, ServiceRule, kubernetes,
    settings::{self, Setting},
};

/// Text of a scalar and where it is; numbers too, each setting reads its own text.
type Value = Spanned<String>;

/// The file as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    listen: Option<Value>,
    cgroup: Option<Value>,
    capture: CaptureSection,
    ignore: IgnoreSection,
    only: OnlySection,
    services: Vec<Spanned<ServiceEntry>>,
    routes: RoutesSection,
    metrics: MetricsSection,
    flows: FlowsSection,
    dns: DnsSection,
    udp: UdpSection,
    kubernetes: KubernetesSection,
    networks: Vec<NetworkEntry>,
    mesh: mesh::Section,
    hub: HubSection,
    traces: traces::Section,
    otlp: otlp::Section,
    access_log: AccessSection,
    log: LogSection,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct CaptureSection {
    ring_bytes: Option<Value>,
    max_connections: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct IgnoreSection {
    ports: Vec<Value>,
    cgroups: Vec<Value>,
    services: Vec<Value>,
    namespaces: Vec<Value>,
    workloads: Vec<Value>,
    pod_labels: Vec<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct OnlySection {
    namespaces: Vec<Value>,
    workloads: Vec<Value>,
    pod_labels: Vec<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct KubernetesSection {
    enabled: Option<Value>,
    node: Option<Value>,
    cluster: Option<Value>,
    kubeconfig: Option<Value>,
    context: Option<Value>,
    hub: Option<Value>,
    hub_ca: Option<Value>,
    hub_token: Option<Value>,
    labels: Vec<Value>,
    annotations: Vec<Value>,
    hold: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NetworkEntry {
    name: Value,
    ranges: Vec<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ServiceEntry {
    #[serde(rename = "match")]
    matches: MatchSection,
    name: Value,
    namespace: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct MatchSection {
    executable: Option<Value>,
    command: Option<Value>,
    cgroup: Option<Value>,
    port: Option<Value>,
    arguments: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RoutesSection {
    patterns: Vec<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct MetricsSection {
    series_budget: Option<Value>,
    idle_expiry: Option<Value>,
    pods: Option<Value>,
    histograms: Option<Value>,
    service_graph: Option<Value>,
    span_metrics: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FlowsSection {
    history: Option<Value>,
    sampling: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct DnsSection {
    timeout: Option<Value>,
    names: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct UdpSection {
    max_flows: Option<Value>,
    idle: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct HubSection {
    listen: Option<Value>,
    tls: HubTlsSection,
    authenticate: Option<Value>,
    agent_account: Option<Value>,
    max_agents: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct HubTlsSection {
    certificate: Option<Value>,
    key: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct AccessSection {
    to: Option<Value>,
    path: Option<Value>,
    max_bytes: Option<Value>,
    only: Option<Value>,
    sampling: Option<Value>,
    slow: Option<Value>,
    per_second: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct LogSection {
    level: Option<Value>,
}

/// Sets what the file `name` with content `text` sets.
pub(super) fn apply(config: &mut Config, name: &str, text: &str) -> Result<(), ConfigError> {
    // A file of nothing but comments is a file that sets nothing.
    if text
        .lines()
        .all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'))
    {
        return Ok(());
    }
    let file: File = serde_saphyr::from_str(text).map_err(|error| unreadable(name, &error))?;
    let File {
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
    } = file;
    mesh::apply(config, name, mesh)?;
    otlp::apply(config, name, otlp)?;
    traces::apply(config, name, traces)?;
    let single = [
        (settings::LISTEN, listen),
        (settings::CGROUP, cgroup),
        (settings::RING_BYTES, capture.ring_bytes),
        (settings::MAX_CONNECTIONS, capture.max_connections),
        (settings::SERIES_BUDGET, metrics.series_budget),
        (settings::IDLE_EXPIRY, metrics.idle_expiry),
        (settings::METRICS_PODS, metrics.pods),
        (settings::HISTOGRAMS, metrics.histograms),
        (settings::SERVICE_GRAPH, metrics.service_graph),
        (settings::SPAN_METRICS, metrics.span_metrics),
        (settings::HISTORY, flows.history),
        (settings::SAMPLING, flows.sampling),
        (settings::DNS_TIMEOUT, dns.timeout),
        (settings::DNS_NAMES, dns.names),
        (settings::UDP_MAX_FLOWS, udp.max_flows),
        (settings::UDP_IDLE, udp.idle),
        (settings::KUBERNETES_ENABLED, kubernetes.enabled),
        (settings::KUBERNETES_NODE, kubernetes.node),
        (settings::KUBERNETES_CLUSTER, kubernetes.cluster),
        (settings::KUBERNETES_KUBECONFIG, kubernetes.kubeconfig),
        (settings::KUBERNETES_CONTEXT, kubernetes.context),
        (settings::KUBERNETES_HUB, kubernetes.hub),
        (settings::KUBERNETES_HUB_CA, kubernetes.hub_ca),
        (settings::KUBERNETES_HUB_TOKEN, kubernetes.hub_token),
        (settings::KUBERNETES_HOLD, kubernetes.hold),
        (settings::HUB_LISTEN, hub.listen),
        (settings::HUB_TLS_CERTIFICATE, hub.tls.certificate),
        (settings::HUB_TLS_KEY, hub.tls.key),
        (settings::HUB_AUTHENTICATE, hub.authenticate),
        (settings::HUB_AGENT_ACCOUNT, hub.agent_account),
        (settings::HUB_MAX_AGENTS, hub.max_agents),
        (settings::ACCESS_TO, access_log.to),
        (settings::ACCESS_PATH, access_log.path),
        (settings::ACCESS_MAX_BYTES, access_log.max_bytes),
        (settings::ACCESS_ONLY, access_log.only),
        (settings::ACCESS_SAMPLING, access_log.sampling),
        (settings::ACCESS_SLOW, access_log.slow),
        (settings::ACCESS_PER_SECOND, access_log.per_second),
        (settings::LOG_LEVEL, log.level),
    ];
    for (setting, value) in single {
        if let Some(value) = value {
            setting.apply(config, &value.value, || place(name, &value))?;
        }
    }
    let IgnoreSection {
        ports,
        cgroups,
        services: ignored,
        namespaces,
        workloads,
        pod_labels,
    } = ignore;
    let key = settings::IGNORE_PORTS.key;
    for value in &ports {
        check(name, key, value, settings::port)?;
    }
    if let Some(first) = ports.first() {
        let all: Vec<&str> = ports.iter().map(|value| value.value.as_str()).collect();
        settings::IGNORE_PORTS.apply(config, &all.join(","), || place(name, first))?;
    }
    config.ignore.cgroups = list(name, settings::IGNORE_CGROUPS.key, &cgroups, settings::glob)?;
    config.ignore.services = list(
        name,
        settings::IGNORE_SERVICES.key,
        &ignored,
        settings::glob,
    )?;
    let lists = [
        (settings::KUBERNETES_LABELS, &kubernetes.labels),
        (settings::KUBERNETES_ANNOTATIONS, &kubernetes.annotations),
        (settings::IGNORE_NAMESPACES, &namespaces),
        (settings::IGNORE_WORKLOADS, &workloads),
        (settings::IGNORE_POD_LABELS, &pod_labels),
        (settings::ONLY_NAMESPACES, &only.namespaces),
        (settings::ONLY_WORKLOADS, &only.workloads),
        (settings::ONLY_POD_LABELS, &only.pod_labels),
    ];
    for (setting, values) in lists {
        each(config, name, setting, values)?;
    }
    config.networks = networks
        .iter()
        .map(|entry| network(name, entry))
        .collect::<Result<_, _>>()?;
    config.routes.patterns = list(name, "routes.patterns", &routes.patterns, settings::route)?;
    config.services = services
        .into_iter()
        .map(|entry| service(name, entry))
        .collect::<Result<_, _>>()?;
    Ok(())
}

/// Sets a list, each of its values checked where it is written.
fn each(
    config: &mut Config,
    name: &str,
    setting: Setting,
    values: &[Value],
) -> Result<(), ConfigError> {
    for value in values {
        if value.value.contains(',') {
            return Err(ConfigError {
                place: place(name, value),
                key: setting.key.to_owned(),
                problem: format!(
                    "{:?} has a comma in it: write one value a line",
                    value.value
                ),
            });
        }
        setting.apply(&mut Config::default(), &value.value, || place(name, value))?;
    }
    if let Some(first) = values.first() {
        let all: Vec<&str> = values.iter().map(|value| value.value.as_str()).collect();
        setting.apply(config, &all.join(","), || place(name, first))?;
    }
    Ok(())
}

/// A named network with all its ranges checked.
fn network(file: &str, entry: &NetworkEntry) -> Result<NamedNetwork, ConfigError> {
    Ok(NamedNetwork {
        name: check(file, "networks.name", &entry.name, not_empty)?,
        ranges: list(file, "networks.ranges", &entry.ranges, kubernetes::range)?,
    })
}

/// A rule with all its patterns checked.
fn service(name: &str, entry: Spanned<ServiceEntry>) -> Result<ServiceRule, ConfigError> {
    let here = place(name, &entry);
    let ServiceEntry {
        matches,
        name: service,
        namespace,
    } = entry.value;
    let MatchSection {
        executable,
        command,
        cgroup,
        port,
        arguments,
    } = matches;
    let glob = |key, value: Option<Value>| {
        value
            .map(|value| check(name, key, &value, settings::glob))
            .transpose()
    };
    let matches = ServiceMatch {
        executable: glob("services.match.executable", executable)?,
        command: glob("services.match.command", command)?,
        cgroup: glob("services.match.cgroup", cgroup)?,
        port: port
            .map(|value| check(name, "services.match.port", &value, settings::port))
            .transpose()?,
        arguments: glob("services.match.arguments", arguments)?,
    };
    if matches == ServiceMatch::default() {
        return Err(ConfigError {
            place: here,
            key: "services.match".to_owned(),
            problem: "has no condition: give executable, command, cgroup, port or arguments"
                .to_owned(),
        });
    }
    Ok(ServiceRule {
        matches,
        name: check(name, "services.name", &service, not_empty)?,
        namespace: namespace
            .map(|value| check(name, "services.namespace", &value, not_empty))
            .transpose()?
            .unwrap_or_default(),
    })
}

fn not_empty(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        Err("is empty".to_owned())
    } else {
        Ok(text.trim().to_owned())
    }
}

fn list<T>(
    name: &str,
    key: &str,
    values: &[Value],
    item: fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, ConfigError> {
    values
        .iter()
        .map(|value| check(name, key, value, item))
        .collect()
}

fn check<T>(
    name: &str,
    key: &str,
    value: &Value,
    item: fn(&str) -> Result<T, String>,
) -> Result<T, ConfigError> {
    item(&value.value).map_err(|problem| ConfigError {
        place: place(name, value),
        key: key.to_owned(),
        problem,
    })
}

fn place<T>(name: &str, value: &Spanned<T>) -> String {
    format!(
        "{name}:{}:{}",
        value.referenced.line(),
        value.referenced.column()
    )
}

/// A file that is not YAML, or not of the right shape. The message of the parser names the key.
fn unreadable(name: &str, error: &serde_saphyr::Error) -> ConfigError {
    let place = match error.location() {
        Some(location) => format!("{name}:{}:{}", location.line(), location.column()),
        None => name.to_owned(),
    };
    let message = error.without_snippet().to_string();
    // The parser ends with the place, which stands in front already.
    let problem = match message.rsplit_once(" at line ") {
        Some((problem, _)) if error.location().is_some() => problem.to_owned(),
        _ => message,
    };
    ConfigError {
        place,
        key: String::new(),
        problem,
    }
}
