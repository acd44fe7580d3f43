//! What the user wrote, validated.
//!
//! Settings come from three places, each stronger than the one before: the configuration file,
//! the flags of `observer agent` or `observer hub`, the environment. Every setting has a key (`capture.ring_bytes`)
//! that names it in the file and in errors; those that are one value have a variable as well
//! (`OBSERVER_CAPTURE_RING_BYTES`). `deploy/observer.yaml` documents all of them.

mod access;
mod change;
mod file;
mod glob;
mod hub;
mod kubernetes;
mod mesh;
mod otlp;
mod quantity;
mod settings;
mod traces;

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

pub use access::{AccessLog, AccessOnly, AccessTo};
pub use glob::Glob;
pub use hub::{Account, Hub, HubTls};
pub use kubernetes::{Kubernetes, LabelPattern, NamedNetwork, Pods, Switch};
pub use mesh::{IstioSeries, Mesh, MeshHops, MeshParts, MeshSeries};
pub use otlp::{
    Destination, Endpoint, Headers, Otlp, OtlpCompression, OtlpHistograms, OtlpProtocol,
    OtlpSignal, OtlpTls, Signal, Temporality,
};
pub use quantity::{parse_bytes, parse_duration};
pub use traces::{Sampler, Sampling, SamplingRule, TracedPeers, Traces};

/// Most ports that can be ignored: the kernel programs look through them for every connection.
pub const MAX_IGNORED_PORTS: usize = 32;

/// Names of the variables that settings are read from.
pub fn variables() -> impl Iterator<Item = String> {
    settings::ALL.iter().map(|setting| setting.variable())
}

/// Everything that can be set, validated.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// Where the HTTP interface listens.
    pub listen: Listen,
    /// Directory below a cgroup v2 mount whose sockets are observed; `None`: the root of the
    /// first cgroup v2 mount found.
    pub cgroup: Option<PathBuf>,
    /// Sizes of what the kernel side uses.
    pub capture: Capture,
    /// What is not observed.
    pub ignore: Ignore,
    /// Pods that alone are observed; everything, where nothing is chosen.
    pub only: Pods,
    /// Names of services; the first rule that matches wins.
    pub services: Vec<ServiceRule>,
    /// Route templates.
    pub routes: Routes,
    /// Bounds of the metrics.
    pub metrics: Metrics,
    /// Live flows.
    pub flows: Flows,
    /// Lookups of DNS, and the names that they tell.
    pub dns: Dns,
    /// Datagrams.
    pub udp: Udp,
    /// The cluster that this host is a node of.
    pub kubernetes: Kubernetes,
    /// Networks outside of the cluster that get a name; the longest prefix wins.
    pub networks: Vec<NamedNetwork>,
    /// Cooperation with a service mesh.
    pub mesh: Mesh,
    /// What `observer hub` listens on, and whom it answers.
    pub hub: Hub,
    /// Spans.
    pub traces: Traces,
    /// Telemetry out.
    pub otlp: Otlp,
    /// Entries for calls.
    pub access_log: AccessLog,
    /// Own log.
    pub log: Log,
}

/// Where the HTTP interface listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Address and port; port 0 lets the kernel choose.
    pub address: SocketAddr,
}

/// Sizes of what the kernel side uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capture {
    /// Size of the ring buffer, bytes; a power of two, at least 64 KiB.
    pub ring_bytes: u32,
    /// Connections that can be observed at the same time.
    pub max_connections: u32,
}

/// What is not observed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ignore {
    /// Connections with one of these ports at either end; at most [`MAX_IGNORED_PORTS`].
    pub ports: Vec<u16>,
    /// Sockets of cgroups whose path below the cgroup v2 root matches.
    pub cgroups: Vec<Glob>,
    /// Services whose name matches.
    pub services: Vec<Glob>,
    /// Pods.
    pub pods: Pods,
}

/// Gives processes a service name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceRule {
    /// All of these must match.
    pub matches: ServiceMatch,
    /// `service.name`.
    pub name: String,
    /// `service.namespace`; empty when not set.
    pub namespace: String,
}

/// Conditions of a [`ServiceRule`]: those that are set must all hold, and one is set at least.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceMatch {
    /// Path of the executable.
    pub executable: Option<Glob>,
    /// Thread name of the process, at most 15 bytes.
    pub command: Option<Glob>,
    /// Path of the cgroup below the cgroup v2 root.
    pub cgroup: Option<Glob>,
    /// Port that the service listens on.
    pub port: Option<u16>,
    /// Command line, arguments joined by one space.
    pub arguments: Option<Glob>,
}

/// Route templates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes {
    /// Templates such as `/users/{id}/orders`, tried in order before the heuristic.
    pub patterns: Vec<String>,
}

/// Bounds of the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// Most series of one family; further ones are counted in its overflow series.
    pub series_budget: u32,
    /// A series that did not change for so long is forgotten.
    pub idle_expiry: Duration,
    /// Series of each pod instead of each workload.
    pub pods: bool,
    /// Which histograms of durations there are.
    pub histograms: Histograms,
    /// Families of the service graph, named as Tempo names them.
    pub service_graph: bool,
    /// Families of spans, named as Tempo names them.
    pub span_metrics: bool,
}

/// Which histograms of durations there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Histograms {
    /// Fixed buckets.
    Classic,
    /// Buckets that grow by a constant factor, which only the protobuf format of Prometheus and
    /// OTLP have: the text formats have fixed buckets all the same.
    Native,
    /// Both, where the format has both.
    #[default]
    Both,
}

/// Live flows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Flows {
    /// Calls and connections that can be asked for after they happened.
    pub history: u32,
    /// Part of the calls that become flows, 0 to 1; metrics always count all.
    pub sampling: f64,
}

/// Lookups of DNS, and the names that they tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dns {
    /// A question that is not answered for so long is told as a timeout.
    pub timeout: Duration,
    /// Addresses whose names are remembered; 0 gives peers no names.
    pub names: u32,
}

/// Datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Udp {
    /// Peers of UDP sockets that are counted at the same time.
    pub max_flows: u32,
    /// A flow in which nothing has passed for so long is over.
    pub idle: Duration,
}

/// Own log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// The least important level that is written.
    pub level: LogLevel,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum LogLevel {
    /// What made it stop.
    Error,
    /// What is wrong but went on.
    Warn,
    /// What was started, attached and stopped.
    #[default]
    Info,
    /// What a developer wants to know.
    Debug,
    /// Everything.
    Trace,
}

/// What the flags of `observer agent` and `observer hub` set; `None` leaves it as it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Flags {
    /// `--listen` of the agent.
    pub listen: Option<SocketAddr>,
    /// `--listen` of the hub.
    pub hub_listen: Option<SocketAddr>,
    /// `--cgroup`
    pub cgroup: Option<PathBuf>,
    /// `--log-level`
    pub log_level: Option<LogLevel>,
    /// `--sampling`
    pub sampling: Option<f64>,
    /// `--ignore-port`; empty leaves it as it is.
    pub ignore_ports: Vec<u16>,
}

/// A setting that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Where it was written: `observer.yaml:3:5` (line and column, from 1), `flag --listen` or
    /// `environment variable OBSERVER_LISTEN`.
    pub place: String,
    /// Which setting; empty when the file as a whole is wrong.
    pub key: String,
    /// What is wrong, and what would be right.
    pub problem: String,
}

// === impl Histograms ===

impl Histograms {
    /// Buckets that grow by a constant factor are kept.
    pub fn has_native(self) -> bool {
        self != Self::Classic
    }
}

// === impl Config ===

impl Config {
    /// Reads the settings from `file`, then `flags`, then `environment`; what comes later is
    /// stronger. `environment` is the lookup of a variable by its name.
    pub fn load(
        file: Option<&Path>,
        flags: &Flags,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        if let Some(path) = file {
            let name = path.display().to_string();
            let text = std::fs::read_to_string(path).map_err(|error| ConfigError {
                place: name.clone(),
                key: String::new(),
                problem: format!("cannot read the configuration file: {error}"),
            })?;
            file::apply(&mut config, &name, &text)?;
        }
        settings::apply_flags(&mut config, flags)?;
        settings::apply_environment(&mut config, environment)?;
        if let Some((key, problem)) = config.access_log.problem() {
            return Err(ConfigError {
                place: "settings of the access log".to_owned(),
                key: key.to_owned(),
                problem: problem.to_owned(),
            });
        }
        match config.otlp.problem() {
            None => Ok(config),
            Some((key, problem)) => Err(ConfigError {
                place: "settings of TLS".to_owned(),
                key,
                problem,
            }),
        }
    }

    /// Reads the settings from the text of a file alone; `name` is what errors call it.
    pub fn parse(name: &str, text: &str) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        file::apply(&mut config, name, text)?;
        Ok(config)
    }

    /// Keys of the settings that differ in `new` and cannot change while the agent runs, in the
    /// order of the file; everything else may be taken over at once.
    pub fn reloadable_difference(&self, new: &Self) -> Vec<&'static str> {
        change::needs_restart(self, new)
    }

    /// `new` with every setting that needs a restart left as it is in `self`: what to run with
    /// after a reload.
    pub fn reloaded(&self, new: Self) -> Self {
        change::reloaded(self, new)
    }
}

// === impl Listen ===

impl Default for Listen {
    fn default() -> Self {
        Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 9920)),
        }
    }
}

// === impl Capture ===

impl Default for Capture {
    fn default() -> Self {
        Self {
            ring_bytes: 8 << 20,
            max_connections: 32_768,
        }
    }
}

// === impl Metrics ===

impl Default for Metrics {
    fn default() -> Self {
        Self {
            series_budget: 2_000,
            idle_expiry: Duration::from_secs(900),
            pods: false,
            histograms: Histograms::default(),
            service_graph: true,
            span_metrics: false,
        }
    }
}

// === impl Flows ===

impl Default for Dns {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(5),
            names: 16_384,
        }
    }
}

impl Default for Udp {
    fn default() -> Self {
        Self {
            max_flows: 16_384,
            idle: Duration::from_secs(30),
        }
    }
}

impl Default for Flows {
    fn default() -> Self {
        Self {
            history: 4_096,
            sampling: 1.0,
        }
    }
}

// === impl LogLevel ===

impl LogLevel {
    /// Name in the file, in flags and in the environment.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

// === impl ConfigError ===

impl fmt::Display for ConfigError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            place,
            key,
            problem,
        } = self;
        if key.is_empty() {
            write!(formatter, "{place}: {problem}")
        } else {
            write!(formatter, "{place}: {key}: {problem}")
        }
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests;
