//! The graph of services: who calls whom, by protocol and security, as each end saw it.
//!
//! An edge is what one end of connections saw of them. Where both ends are on this host there are
//! two edges for the same connections, told apart by their reporter and marked as of the same host;
//! who adds edges up takes one of them.
//!
//! A connection belongs to one edge at a time, and goes to another when more is known of it. It is
//! settled late: with its first call, its first bytes or its end, or after a second. So one that
//! shows what it is in its first bytes leaves nothing behind at an edge of unknown protocol.

use std::time::Duration;

use crate::model::{
    call::Call,
    connection::{ConnectFailure, Role, Transfer},
    exchange::Outcome,
    time::Monotonic,
    trace::{SpanId, TraceId},
};

use super::{
    distribution::Distribution,
    histogram::{REQUEST_SECONDS, ROUND_TRIP_SECONDS},
    links::FAILURES,
    sketch::{Quantiles, Rate},
};

mod key;
pub mod past;

pub(super) use key::{EdgeKey, protocol, protocol_of_call};
use past::{Counts, Past};

/// What an end of an edge is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PartyKind {
    /// Pods of one workload of Kubernetes.
    Workload,
    /// A service of this host that is in no pod.
    Service,
    /// A node of the cluster.
    Node,
    /// A network that the configuration names.
    Network,
    /// What a name of DNS led to.
    Name,
    /// A Service of Kubernetes: one of several workloads behind it, and a proxy knows which.
    Dialled,
    /// Workloads with one identity, by their service account: a proxy knows which.
    Identity,
    /// Addresses outside of this host that nothing more is known of.
    Outside,
    /// A process of this host that nothing is known of.
    #[default]
    Unknown,
    /// All edges beyond the budget.
    Overflow,
}

/// An end of an edge.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Party {
    /// What it is.
    pub kind: PartyKind,
    /// Namespace of a workload, `service.namespace` of a service; empty without.
    pub namespace: String,
    /// Kind of a workload as the API spells it, `Deployment`; empty for all others.
    pub workload_kind: String,
    /// Name of the workload, service, node or network, or of DNS; empty for all others.
    pub name: String,
}

/// One edge as one end saw it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EdgeRow {
    /// Who connects; the observed end where that is not known.
    pub source: Party,
    /// Who is connected to.
    pub destination: Party,
    /// Namespace and name of the Service that was dialled, where the client saw that.
    pub dialled: Option<(String, String)>,
    /// `http`, `grpc`, `grpc-web`, `dns`, `quic`, `udp`, the name of another protocol, or `tcp`.
    pub protocol: &'static str,
    /// As in flows.
    pub security: &'static str,
    /// Zone of the source; empty when not known.
    pub source_zone: String,
    /// Zone of the destination; empty when not known.
    pub destination_zone: String,
    /// Which end saw it: `client`, `server`, or `unknown`.
    pub reporter: &'static str,
    /// Both ends are on this host.
    pub same_host: bool,
    /// Calls and lookups, since the edge began.
    pub requests: u64,
    /// Those of them that failed.
    pub errors: u64,
    /// Payload bytes from source to destination.
    pub sent_bytes: u64,
    /// Payload bytes from destination to source.
    pub received_bytes: u64,
    /// Connections established.
    pub connections_opened: u64,
    /// Connections never established.
    pub connect_failures: u64,
    /// Segments that the reporter sent again.
    pub retransmits: u64,
    /// Open connections.
    pub open_connections: u64,
    /// Mean of the round-trip times sampled since the edge began, seconds.
    pub rtt_seconds: Option<f64>,
    /// Requests per second, over the last ten.
    pub requests_per_second: f64,
    /// Failed requests per second, over the last ten.
    pub errors_per_second: f64,
    /// Bytes from source to destination per second, over the last ten.
    pub sent_bytes_per_second: f64,
    /// Bytes from destination to source per second, over the last ten.
    pub received_bytes_per_second: f64,
    /// Quantiles 0.5, 0.95 and 0.99 of durations in the last ten to twenty seconds, seconds.
    pub quantiles: Option<[f64; 3]>,
}

/// All edges, and what they counted in a window that ends now.
#[derive(Clone, Debug, PartialEq)]
pub struct Windowed {
    /// How long the window is: what was asked for and up to a [`past::Step`] more, or less when the
    /// observer is younger.
    pub length: Duration,
    /// In no order, without those that counted nothing and have no open connection.
    pub edges: Vec<WindowedEdge>,
}

/// One edge as one end saw it, in a window.
#[derive(Clone, Debug, PartialEq)]
pub struct WindowedEdge {
    /// What tells it apart, and its open connections; all other measures are left empty.
    pub row: EdgeRow,
    /// What was counted.
    pub counts: Counts,
}

/// Measures of one edge.
#[derive(Debug)]
pub(super) struct Edge {
    pub(super) requests: u64,
    pub(super) errors: u64,
    pub(super) duration: Distribution,
    pub(super) sent_bytes: u64,
    pub(super) received_bytes: u64,
    pub(super) opened: u64,
    pub(super) failures: [u64; FAILURES.len()],
    pub(super) retransmits: u64,
    pub(super) rtt: Distribution,
    pub(super) open: u64,
    requests_rate: Rate,
    errors_rate: Rate,
    sent_rate: Rate,
    received_rate: Rate,
    /// Only for edges that have requests.
    quantiles: Option<Quantiles>,
    past: Past,
}

/// How long a connection may be open before it is settled all the same.
pub(super) const SETTLE: Duration = Duration::from_secs(1);

// === impl PartyKind ===

impl PartyKind {
    /// Name in JSON and labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Workload => "workload",
            Self::Service => "service",
            Self::Node => "node",
            Self::Network => "network",
            Self::Name => "name",
            Self::Dialled => "kubernetes_service",
            Self::Identity => "identity",
            Self::Outside => "outside",
            Self::Unknown => "unknown",
            Self::Overflow => "overflow",
        }
    }
}

// === impl Party ===

impl Party {
    /// The end of all edges beyond the budget.
    pub(super) fn overflow() -> Self {
        Self {
            kind: PartyKind::Overflow,
            ..Self::default()
        }
    }
}

// === impl EdgeRow ===

impl EdgeRow {
    /// Nothing was counted: a connection was here until more was known of it.
    pub(super) fn is_empty(&self) -> bool {
        let Self {
            requests,
            sent_bytes,
            received_bytes,
            connections_opened,
            connect_failures,
            open_connections,
            ..
        } = self;
        let counts = [
            requests,
            sent_bytes,
            received_bytes,
            connections_opened,
            connect_failures,
            open_connections,
        ];
        counts.into_iter().all(|count| *count == 0)
    }
}

// === impl Edge ===

impl Edge {
    pub(super) fn new(exponential: bool, now: Monotonic) -> Self {
        Self {
            requests: 0,
            errors: 0,
            duration: Distribution::new(exponential),
            sent_bytes: 0,
            received_bytes: 0,
            opened: 0,
            failures: [0; FAILURES.len()],
            retransmits: 0,
            rtt: Distribution::new(exponential),
            open: 0,
            requests_rate: Rate::new(now),
            errors_rate: Rate::new(now),
            sent_rate: Rate::new(now),
            received_rate: Rate::new(now),
            quantiles: None,
            past: Past::default(),
        }
    }

    pub(super) fn call(&mut self, call: &Call, span: Option<(TraceId, SpanId)>, now: Monotonic) {
        let lost = call.exchange.outcome == Outcome::Lost;
        let duration = (!lost).then(|| call.exchange.duration());
        self.request(call.error.is_some(), duration, span, now);
    }

    /// Counts a request; one whose end was not seen has no duration.
    pub(super) fn request(
        &mut self,
        failed: bool,
        duration: Option<Duration>,
        span: Option<(TraceId, SpanId)>,
        now: Monotonic,
    ) {
        self.requests += 1;
        self.requests_rate.add(1, now);
        if failed {
            self.errors += 1;
            self.errors_rate.add(1, now);
        }
        if let Some(duration) = duration {
            self.duration
                .observe_duration(&REQUEST_SECONDS, duration, span, now);
            let quantiles = self.quantiles.get_or_insert_with(|| Quantiles::new(now));
            quantiles.observe(duration, now);
        }
    }

    pub(super) fn failed(&mut self, failure: ConnectFailure) {
        let index = FAILURES.iter().position(|known| *known == failure);
        if let Some(count) = index.and_then(|index| self.failures.get_mut(index)) {
            *count += 1;
        }
    }

    /// Adds what a connection moved, as seen from its end of `role`.
    pub(super) fn moved(&mut self, change: &Transfer, role: Role, now: Monotonic) {
        self.bytes(change.sent_bytes, change.received_bytes, role, now);
        self.retransmits += u64::from(change.retransmits);
        if change.smoothed_rtt_us > 0 {
            let rtt = Duration::from_micros(change.smoothed_rtt_us.into());
            self.rtt
                .observe_duration(&ROUND_TRIP_SECONDS, rtt, None, now);
        }
    }

    /// Adds bytes that an end of `role` sent and received.
    pub(super) fn bytes(&mut self, sent: u64, received: u64, role: Role, now: Monotonic) {
        let (sent, received) = match role {
            Role::Server => (received, sent),
            Role::Client | Role::Unknown => (sent, received),
        };
        self.sent_bytes += sent;
        self.received_bytes += received;
        self.sent_rate.add(sent, now);
        self.received_rate.add(received, now);
    }

    /// Fills in the measures of a row.
    #[expect(clippy::cast_precision_loss, reason = "a mean is a float")]
    pub(super) fn measure(&mut self, row: EdgeRow, now: Monotonic) -> EdgeRow {
        let samples = self.rtt.count();
        let mean = ROUND_TRIP_SECONDS.present(self.rtt.sum()) / samples as f64;
        let quantiles = self.quantiles.as_mut();
        EdgeRow {
            requests: self.requests,
            errors: self.errors,
            sent_bytes: self.sent_bytes,
            received_bytes: self.received_bytes,
            connections_opened: self.opened,
            connect_failures: self.failures.iter().sum(),
            retransmits: self.retransmits,
            open_connections: self.open,
            rtt_seconds: (samples > 0).then_some(mean),
            requests_per_second: self.requests_rate.per_second(now),
            errors_per_second: self.errors_rate.per_second(now),
            sent_bytes_per_second: self.sent_rate.per_second(now),
            received_bytes_per_second: self.received_rate.per_second(now),
            quantiles: quantiles
                .and_then(|quantiles| quantiles.quantiles([0.5, 0.95, 0.99], now))
                .map(|quantiles| quantiles.map(|duration| duration.as_secs_f64())),
            ..row
        }
    }
}

#[cfg(test)]
mod tests;
