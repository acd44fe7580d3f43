//! Requests against declared routes and authorization: which rule each matched, what shares
//! backends really get, whom policy lets pass, and what of it is not so on the wire.

use std::time::Duration;

use super::{policy::Policies, report::Report};
use crate::{
    model::{
        call::{Call, LinkEvent},
        mesh::RouteMatch,
        time::{Monotonic, WallOffset},
    },
    telemetry::health::{Loss, Table},
};

/// Bounds of what is kept of traffic, and when it is judged.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Most rules, hosts, edges and clients, each.
    pub entries: usize,
    /// Most answers of policy that are remembered, of each question.
    pub answers: usize,
    /// Most connections of which is remembered what was asked for them.
    pub connections: usize,
    /// Requests, or connections, below which nothing is judged.
    pub minimum: u64,
    /// How long nothing is judged after something that has to do with it changed.
    pub settle: Duration,
    /// How long something must not be used to be called unused.
    pub window: Duration,
    /// How long is remembered what nothing is seen of.
    pub idle: Duration,
}

/// What was seen of requests.
#[derive(Debug)]
pub struct Traffic {
    config: Config,
}

// === impl Config ===

impl Default for Config {
    fn default() -> Self {
        Self {
            entries: 4_096,
            answers: 16_384,
            connections: 65_536,
            minimum: 20,
            settle: Duration::from_secs(60),
            window: Duration::from_secs(24 * 3600),
            idle: Duration::from_secs(7 * 24 * 3600),
        }
    }
}

// === impl Traffic ===

impl Traffic {
    /// Nothing seen yet.
    pub fn new(config: Config) -> Self {
        Self { config }
    }

    /// Changes bounds and times; what was seen stays.
    pub fn reconfigure(&mut self, config: Config) {
        self.config = config;
    }

    /// Takes a call, and says which declared rule it matched. Only calls at the applications' own
    /// sockets count; of others nothing is kept.
    pub fn call(
        &mut self,
        _policies: &Policies,
        _call: &Call,
        _now: Monotonic,
    ) -> Option<RouteMatch> {
        None
    }

    /// Takes a change of a connection.
    pub fn link(&mut self, _policies: &Policies, _event: &LinkEvent, _now: Monotonic) {}

    /// Judges what is due, and forgets what is idle. Meant to be called about once a second.
    pub fn tick(&mut self, _policies: &Policies, _now: Monotonic) {}

    /// Adds splits, routes, authorizations and findings to a report.
    pub fn report(
        &self,
        _policies: &Policies,
        _report: &mut Report,
        _now: Monotonic,
        _offset: WallOffset,
    ) {
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
