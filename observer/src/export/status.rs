//! What became of everything that was to be sent: counters that all threads may read.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    config::{Destination, Signal},
    telemetry::health::{ExportState, Loss, Table},
};

/// State of all signals.
#[derive(Debug, Default)]
pub struct Status {
    traces: SignalStatus,
    metrics: SignalStatus,
    logs: SignalStatus,
}

/// State of one signal. Items are spans, data points or log records.
#[derive(Debug, Default)]
pub struct SignalStatus {
    /// Items that the collector took.
    pub sent: AtomicU64,
    /// Items that wait in the queue, and bytes that they are about.
    pub queued: [AtomicU64; 2],
    /// Most items that may wait.
    pub limit: AtomicU64,
    /// Requests that were sent again.
    pub retries: AtomicU64,
    /// Requests that were made, each attempt.
    pub requests: AtomicU64,
    /// Of these, those that were not taken.
    pub failures: AtomicU64,
    /// Bytes of their bodies, as they were sent.
    pub request_bytes: AtomicU64,
    /// Time that they took, nanoseconds.
    pub request_nanoseconds: AtomicU64,
    dropped: [AtomicU64; Dropped::ALL.len()],
    said: Mutex<Said>,
}

/// Why items were not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// They were the oldest when there was no room.
    QueueFull,
    /// The collector did not want them, but for others of the same request.
    Rejected,
    /// The collector did not want their request.
    Refused,
    /// Their request failed for passing reasons for too long.
    Expired,
    /// Their request is more than the collector takes, and cannot be split.
    TooLarge,
    /// They could not be written as a request.
    Unencodable,
    /// There was no time for them at the end.
    Shutdown,
    /// They waited when the signal was turned off.
    TurnedOff,
}

/// What is told to people.
#[derive(Debug, Default)]
struct Said {
    /// Where it goes, and how; empty where it does not.
    destination: String,
    protocol: &'static str,
    taken: Option<Instant>,
    /// Why the last request failed; `None` after one that was taken.
    error: Option<String>,
}

/// Items that somebody answers for: what is not settled is counted as lost at the end.
#[derive(Debug)]
pub struct Owed {
    status: Arc<Status>,
    signal: Signal,
    items: u64,
}

// === impl Status ===

impl Status {
    /// Of one signal.
    pub const fn of(&self, signal: Signal) -> &SignalStatus {
        match signal {
            Signal::Traces => &self.traces,
            Signal::Metrics => &self.metrics,
            Signal::Logs => &self.logs,
        }
    }

    /// What was lost, over all signals.
    pub fn losses(&self) -> Vec<Loss> {
        let count = |reason| -> u64 {
            let signals = Signal::ALL.into_iter();
            signals.map(|signal| self.of(signal).dropped(reason)).sum()
        };
        Dropped::ALL
            .into_iter()
            .map(|reason| Loss {
                stage: "export",
                reason: reason.as_str(),
                count: count(reason),
            })
            .collect()
    }

    /// How full the queues are.
    pub fn tables(&self) -> Vec<Table> {
        let table = |name, status: &SignalStatus| Table {
            name,
            entries: status.queued[0].load(Ordering::Relaxed),
            limit: status.limit.load(Ordering::Relaxed),
        };
        vec![
            table("export_traces", &self.traces),
            table("export_logs", &self.logs),
        ]
    }

    /// State of the signals that are sent somewhere, or were.
    pub fn states(&self) -> Vec<ExportState> {
        let signals = Signal::ALL.into_iter();
        signals
            .filter_map(|signal| self.of(signal).state(signal))
            .collect()
    }
}

// === impl SignalStatus ===

impl SignalStatus {
    /// Items that were not delivered for this reason.
    pub fn dropped(&self, reason: Dropped) -> u64 {
        let count = self.dropped.get(reason as usize);
        count.map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Counts items that were not delivered.
    pub(super) fn drop_items(&self, reason: Dropped, items: u64) {
        if let Some(count) = self.dropped.get(reason as usize) {
            count.fetch_add(items, Ordering::Relaxed);
        }
    }

    /// Counts a request that was made.
    pub(super) fn requested(&self, bytes: usize, took: Duration) {
        add(&self.requests, 1);
        add(&self.request_bytes, bytes as u64);
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        add(&self.request_nanoseconds, took);
    }

    /// A request was taken; whether the one before was not.
    pub(super) fn taken(&self) -> bool {
        let mut said = self.said();
        said.taken = Some(Instant::now());
        said.error.take().is_some()
    }

    /// A request was not taken.
    pub(super) fn failed(&self, why: &str) {
        add(&self.failures, 1);
        self.said().error = Some(why.to_owned());
    }

    /// It goes there from now on.
    pub(super) fn goes_to(&self, destination: Option<&Destination>) {
        let mut said = self.said();
        said.destination = destination.map_or_else(String::new, Destination::shown);
        said.protocol = destination.map_or("", Destination::protocol);
        said.error = None;
    }

    fn said(&self) -> std::sync::MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[expect(clippy::cast_precision_loss, reason = "shown as seconds")]
    fn state(&self, signal: Signal) -> Option<ExportState> {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let said = self.said();
        let requests = load(&self.requests);
        if said.destination.is_empty() && requests == 0 {
            return None;
        }
        let [items, bytes] = &self.queued;
        let rejected = self.dropped(Dropped::Rejected);
        let dropped: u64 = self.dropped.iter().map(load).sum();
        Some(ExportState {
            signal: signal.as_str(),
            destination: said.destination.clone(),
            protocol: said.protocol,
            queued_items: load(items),
            queued_bytes: load(bytes),
            sent: load(&self.sent),
            rejected,
            dropped: dropped.saturating_sub(rejected),
            requests,
            failures: load(&self.failures),
            retries: load(&self.retries),
            request_bytes: load(&self.request_bytes),
            request_seconds: load(&self.request_nanoseconds) as f64 / 1e9,
            age_seconds: said.taken.map(|at| at.elapsed().as_secs_f64()),
            error: said.error.clone(),
        })
    }
}

pub(super) fn add(count: &AtomicU64, more: u64) {
    count.fetch_add(more, Ordering::Relaxed);
}

// === impl Owed ===

impl Owed {
    /// Answers for `items`.
    pub(super) const fn new(status: Arc<Status>, signal: Signal, items: u64) -> Self {
        Self {
            status,
            signal,
            items,
        }
    }

    /// There are so many, as turns out.
    pub(super) const fn set(&mut self, items: u64) {
        self.items = items;
    }

    /// Gives some of them to another.
    pub(super) fn split(&mut self, items: u64) -> Self {
        let items = items.min(self.items);
        self.items -= items;
        Self::new(Arc::clone(&self.status), self.signal, items)
    }

    /// The collector took them, but for some.
    pub(super) fn taken(mut self, rejected: u64) {
        let rejected = rejected.min(self.items);
        let status = self.status.of(self.signal);
        add(&status.sent, self.items - rejected);
        status.drop_items(Dropped::Rejected, rejected);
        self.items = 0;
    }

    /// They are lost.
    pub(super) fn lost(mut self, reason: Dropped) {
        let status = self.status.of(self.signal);
        status.drop_items(reason, self.items);
        self.items = 0;
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        let status = self.status.of(self.signal);
        status.drop_items(Dropped::Shutdown, self.items);
    }
}

// === impl Dropped ===

impl Dropped {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::QueueFull,
        Self::Rejected,
        Self::Refused,
        Self::Expired,
        Self::TooLarge,
        Self::Unencodable,
        Self::Shutdown,
        Self::TurnedOff,
    ];

    /// Label value of `observer_loss_total`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::Rejected => "rejected",
            Self::Refused => "refused",
            Self::Expired => "expired",
            Self::TooLarge => "too_large",
            Self::Unencodable => "unencodable",
            Self::Shutdown => "shutdown",
            Self::TurnedOff => "turned_off",
        }
    }
}
