//! What was seen of every edge of the mesh, kept to be judged by what is declared.

use std::time::Duration;

use super::{policy::Policies, report::Report};
use crate::{
    model::{
        call::{Call, Link, LinkEvent},
        mesh::{DeclaredMtls, RouteMatch, Verdict},
        policy::PolicyChange,
        time::{Monotonic, WallOffset},
    },
    telemetry::health::{Loss, Table},
};

/// Bounds of the ledger, and when it judges.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Most edges.
    pub edges: usize,
    /// How long an edge is remembered that nothing is seen of: the longest window of readiness.
    pub idle: Duration,
    /// Connections, or requests, below which nothing is judged.
    pub minimum: u64,
    /// How long nothing is judged after something that has to do with it changed.
    pub settle: Duration,
    /// Window of readiness.
    pub readiness: Duration,
}

/// What was seen, and what is declared.
#[derive(Debug)]
pub struct Ledger {
    config: Config,
    policies: Policies,
}

// === impl Config ===

impl Default for Config {
    fn default() -> Self {
        Self {
            edges: 8_192,
            idle: Duration::from_secs(7 * 24 * 3600),
            minimum: 20,
            settle: Duration::from_secs(60),
            readiness: Duration::from_secs(7 * 24 * 3600),
        }
    }
}

// === impl Ledger ===

impl Ledger {
    /// Nothing seen yet.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            policies: Policies::default(),
        }
    }

    /// Changes bounds and times; what was seen stays.
    pub fn reconfigure(&mut self, config: Config) {
        self.config = config;
    }

    /// What is declared.
    pub fn policies(&self) -> &Policies {
        &self.policies
    }

    /// Takes a change of what is declared.
    pub fn declare(&mut self, change: PolicyChange, _now: Monotonic) {
        self.policies.apply(change);
    }

    /// Takes a change of a connection.
    pub fn link(&mut self, _event: &LinkEvent, _now: Monotonic) {}

    /// Takes a call, and says which declared rule it matched.
    pub fn call(&mut self, _call: &Call, _now: Monotonic) -> Option<RouteMatch> {
        None
    }

    /// Judges what is due, and forgets what is idle. Meant to be called about once a second.
    pub fn tick(&mut self, _now: Monotonic) {}

    /// What is declared for a connection, and whether that is what was seen.
    pub fn verdict(&self, _link: &Link) -> (DeclaredMtls, Verdict) {
        (DeclaredMtls::Unknown, Verdict::Unknown)
    }

    /// All that was found; `readiness` asks for another window than the configured.
    pub fn report(
        &self,
        _readiness: Option<Duration>,
        _now: Monotonic,
        _offset: WallOffset,
    ) -> Report {
        Report::default()
    }

    /// What did not fit.
    pub fn losses(&self) -> Vec<Loss> {
        Vec::new()
    }

    /// How full it is.
    pub fn tables(&self) -> Vec<Table> {
        Vec::new()
    }
}
