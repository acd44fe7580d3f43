//! What is kept of every service at each end: totals, the last seconds, requests in flight.

use crate::model::{
    call::Call, connection::Transfer, exchange::Outcome, security::Security, time::Monotonic,
};

use super::sketch::{Quantiles, Rate};

/// A row of the table of services: one service at one end of its connections.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServiceRow {
    /// `service.name`; [`ServiceRow::OVERFLOW`] for the row of all services beyond the budget.
    pub service: String,
    /// `service.namespace`; empty when not set.
    pub namespace: String,
    /// Namespace of its pods; empty outside of Kubernetes, as the next three.
    pub k8s_namespace: String,
    /// Kind of the workload that its pods belong to.
    pub k8s_workload_kind: String,
    /// Name of that workload.
    pub k8s_workload: String,
    /// Container.
    pub k8s_container: String,
    /// `client`, `server` or `unknown`.
    pub side: &'static str,
    /// Calls per second, over the last ten.
    pub calls_per_second: f64,
    /// Failed calls per second, over the last ten.
    pub errors_per_second: f64,
    /// Quantiles 0.5, 0.95 and 0.99 of durations in the last ten to twenty seconds, seconds.
    pub quantiles: Option<[f64; 3]>,
    /// Payload bytes sent per second, over the last ten.
    pub sent_bytes_per_second: f64,
    /// Payload bytes received per second, over the last ten.
    pub received_bytes_per_second: f64,
    /// Requests in flight.
    pub in_flight: u64,
    /// Age of the oldest request in flight, seconds.
    pub oldest_seconds: Option<f64>,
    /// Bytes understood by bytes moved, since the row began.
    pub coverage: Option<f64>,
    /// Encrypted connections by those whose security is known, since the row began.
    pub encrypted: Option<f64>,
    /// Open connections.
    pub open_connections: u64,
    /// Calls since the row began.
    pub calls: u64,
    /// Failed calls since the row began.
    pub errors: u64,
    /// Calls whose end was lost to the observer, since the row began.
    pub lost: u64,
}

/// State of one service at one end.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) outcomes: [u64; OUTCOMES.len()],
    /// Connections by their security, in the order of [`Security::ALL`].
    pub(super) security: [u64; Security::ALL.len()],
    pub(super) understood_bytes: u64,
    pub(super) moved_bytes: u64,
    pub(super) open: u64,
    pub(super) in_flight: u64,
    pub(super) oldest: Option<Monotonic>,
    errors: u64,
    calls_rate: Rate,
    errors_rate: Rate,
    sent_rate: Rate,
    received_rate: Rate,
    /// Only for services that make calls.
    quantiles: Option<Quantiles>,
}

/// All outcomes, in the order of [`Service::outcomes`].
pub(super) const OUTCOMES: [Outcome; 8] = [
    Outcome::Complete,
    Outcome::Tunnel,
    Outcome::ClientAborted,
    Outcome::ServerAborted,
    Outcome::Aborted,
    Outcome::Lost,
    Outcome::Malformed,
    Outcome::Refused,
];

// === impl ServiceRow ===

impl ServiceRow {
    /// Name of the row that takes the services beyond the budget.
    pub const OVERFLOW: &str = "_OVERFLOW";
}

// === impl Service ===

impl Service {
    pub(super) fn new(now: Monotonic) -> Self {
        Self {
            outcomes: [0; OUTCOMES.len()],
            security: [0; Security::ALL.len()],
            understood_bytes: 0,
            moved_bytes: 0,
            open: 0,
            in_flight: 0,
            oldest: None,
            errors: 0,
            calls_rate: Rate::new(now),
            errors_rate: Rate::new(now),
            sent_rate: Rate::new(now),
            received_rate: Rate::new(now),
            quantiles: None,
        }
    }

    pub(super) fn call(&mut self, call: &Call, now: Monotonic) {
        if let Some(count) = self.outcomes.get_mut(index(call.exchange.outcome)) {
            *count += 1;
        }
        self.calls_rate.add(1, now);
        if call.error.is_some() {
            self.errors += 1;
            self.errors_rate.add(1, now);
        }
        if call.exchange.outcome != Outcome::Lost {
            let quantiles = self.quantiles.get_or_insert_with(|| Quantiles::new(now));
            quantiles.observe(call.exchange.duration(), now);
        }
    }

    /// Adds what a connection moved since it last told.
    pub(super) fn moved(&mut self, change: &Transfer, now: Monotonic) {
        self.understood_bytes += change.understood_bytes;
        self.moved_bytes += change.received_bytes + change.sent_bytes;
        self.sent_rate.add(change.sent_bytes, now);
        self.received_rate.add(change.received_bytes, now);
    }

    /// Still has connections or requests: not idle, however quiet.
    pub(super) fn busy(&self) -> bool {
        self.open > 0 || self.in_flight > 0
    }

    /// Bytes understood by bytes moved.
    #[expect(clippy::cast_precision_loss, reason = "a ratio is a float")]
    pub(super) fn coverage(&self) -> Option<f64> {
        // An exchange can be reported before the connection tells its bytes.
        let ratio = self.understood_bytes as f64 / self.moved_bytes as f64;
        (self.moved_bytes > 0).then_some(ratio.min(1.0))
    }

    /// Encrypted connections by those whose security is known.
    #[expect(clippy::cast_precision_loss, reason = "a ratio is a float")]
    fn encrypted(&self) -> Option<f64> {
        let count = |wanted: fn(Security) -> bool| -> u64 {
            let all = Security::ALL.into_iter().zip(self.security);
            all.filter(|(security, _)| wanted(*security))
                .map(|(_, count)| count)
                .sum()
        };
        let known = count(|security| security != Security::Unknown);
        (known > 0).then(|| count(Security::is_encrypted) as f64 / known as f64)
    }

    /// The row, names left empty.
    pub(super) fn row(&mut self, now: Monotonic) -> ServiceRow {
        let quantiles = self.quantiles.as_mut();
        ServiceRow {
            calls_per_second: self.calls_rate.per_second(now),
            errors_per_second: self.errors_rate.per_second(now),
            quantiles: quantiles
                .and_then(|quantiles| quantiles.quantiles([0.5, 0.95, 0.99], now))
                .map(|quantiles| quantiles.map(|duration| duration.as_secs_f64())),
            sent_bytes_per_second: self.sent_rate.per_second(now),
            received_bytes_per_second: self.received_rate.per_second(now),
            in_flight: self.in_flight,
            oldest_seconds: self.oldest.map(|oldest| now.since(oldest).as_secs_f64()),
            coverage: self.coverage(),
            encrypted: self.encrypted(),
            open_connections: self.open,
            calls: self.outcomes.iter().sum(),
            errors: self.errors,
            lost: self
                .outcomes
                .get(index(Outcome::Lost))
                .copied()
                .unwrap_or_default(),
            ..ServiceRow::default()
        }
    }
}

const fn index(outcome: Outcome) -> usize {
    match outcome {
        Outcome::Complete => 0,
        Outcome::Tunnel => 1,
        Outcome::ClientAborted => 2,
        Outcome::ServerAborted => 3,
        Outcome::Aborted => 4,
        Outcome::Lost => 5,
        Outcome::Malformed => 6,
        Outcome::Refused => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_counted_under_their_own_name() {
        for (position, outcome) in OUTCOMES.into_iter().enumerate() {
            assert_eq!(index(outcome), position);
        }
    }
}
