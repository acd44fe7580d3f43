//! Traces: which spans are kept, and what they are joined by.

use std::time::Duration;

use super::Glob;

/// Spans.
#[derive(Clone, Debug, PartialEq)]
pub struct Traces {
    /// How to choose, for services without a rule of their own.
    pub sampling: Sampling,
    /// How to choose, by service; the first that matches wins.
    pub rules: Vec<SamplingRule>,
    /// Which ends outside of this host are expected to be told by another agent.
    pub peers: TracedPeers,
    /// Lookups of DNS become spans.
    pub dns: bool,
    /// Threads are watched for which request caused which (Linux 6.3, BTF, CAP_PERFMON).
    pub causes: bool,
    /// Longest that a call waits for the request that caused it to be answered.
    pub wait: Duration,
}

/// How spans are chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// By what.
    pub sampler: Sampler,
    /// Share of the traces that nobody has decided on, 0 to 1.
    pub ratio: f64,
    /// What failed is kept whatever the sampler says.
    pub keep_failed: bool,
    /// What took longer is kept whatever the sampler says.
    pub slower_than: Option<Duration>,
}

/// By what spans are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sampler {
    /// As the request says; where it says nothing, a share of all traces.
    #[default]
    Parent,
    /// A share of all traces.
    Ratio,
    /// All.
    Always,
    /// None.
    Never,
}

/// How spans of some services are chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplingRule {
    /// `service.name`.
    pub service: Option<Glob>,
    /// `service.namespace`.
    pub namespace: Option<Glob>,
    /// How.
    pub sampling: Sampling,
}

/// Which ends outside of this host are told by an agent of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TracedPeers {
    /// Pods and nodes of the cluster.
    #[default]
    Cluster,
    /// All.
    All,
    /// None.
    None,
}

// === impl Traces ===

impl Default for Traces {
    fn default() -> Self {
        Self {
            sampling: Sampling::default(),
            rules: Vec::new(),
            peers: TracedPeers::Cluster,
            dns: true,
            causes: true,
            wait: Duration::from_secs(10),
        }
    }
}

// === impl Sampling ===

impl Default for Sampling {
    fn default() -> Self {
        Self {
            sampler: Sampler::Parent,
            ratio: 0.1,
            keep_failed: true,
            slower_than: Some(Duration::from_secs(1)),
        }
    }
}

// === impl Sampler ===

impl Sampler {
    /// Name in the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Parent => "parent",
            Self::Ratio => "ratio",
            Self::Always => "always",
            Self::Never => "never",
        }
    }
}

// === impl TracedPeers ===

impl TracedPeers {
    /// Name in the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::All => "all",
            Self::None => "none",
        }
    }
}
