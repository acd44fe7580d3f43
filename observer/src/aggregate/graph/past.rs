//! What edges had counted at earlier times, and so what they counted in a window that ends now.
//!
//! Of every edge that changed, what it had counted is kept every 10 seconds for a minute, every
//! minute for ten, and every 10 minutes for an hour ([`STEPS`]). A window covers what it asks for and
//! up to one such step more: it begins when something was kept, and says how long it is. An edge
//! that is quiet keeps nothing new. One that is gone, as it was idle for too long, is in no window.
//!
//! At most [`MOST_KEPT`] times of 120 bytes are kept of an edge: 6 MB for 2,000 busy edges.

use std::{collections::VecDeque, time::Duration};

use super::Edge;
use crate::{
    aggregate::histogram::{MAX_BOUNDS, REQUEST_SECONDS},
    model::time::Monotonic,
};

/// What was counted in a window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls and lookups.
    pub requests: u64,
    /// Those of them that failed.
    pub errors: u64,
    /// Durations of them by bucket of [`REQUEST_SECONDS`], each in one; without those whose end was
    /// not seen.
    pub durations: [u64; MAX_BOUNDS + 1],
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
    /// Sum of round-trip times, nanoseconds.
    pub rtt_nanoseconds: u64,
    /// Samples in that sum.
    pub rtt_samples: u64,
}

/// How often something is kept for windows that are not longer, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// How far the times that are kept are apart.
    pub every: Duration,
    /// Longest window that they serve.
    pub window: Duration,
}

/// Steps by length of window, the shortest first.
pub const STEPS: [Step; 3] = [Step::of(10, 60), Step::of(60, 600), Step::of(600, 3_600)];

/// Longest window there is.
pub const LONGEST: Duration = Duration::from_secs(3_600);

/// Most times that are kept of an edge: those in the window, the one that it begins with, and the
/// one that is being added.
pub const MOST_KEPT: usize = 8 + 12 + 8;

/// When something was kept of all edges, for each step.
#[derive(Debug, Default)]
pub(in crate::aggregate) struct Times {
    kept: [VecDeque<Monotonic>; STEPS.len()],
    began: Option<Monotonic>,
}

/// What one edge had counted, for each step.
#[derive(Debug, Default)]
pub(in crate::aggregate) struct Past {
    kept: [VecDeque<Then>; STEPS.len()],
}

/// Where a window begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::aggregate) struct Begin {
    level: usize,
    /// `None` when nothing was kept yet: with the first edge.
    at: Option<Monotonic>,
    /// How long it is.
    pub(in crate::aggregate) length: Duration,
}

/// What an edge had counted at a time. Most counters are kept modulo 2^32, as only the difference
/// to a later time is asked for, and no edge counts as much in an hour.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Then {
    at: Monotonic,
    sent_bytes: u64,
    received_bytes: u64,
    rtt_nanoseconds: u64,
    small: [u32; SMALL],
    durations: [u32; MAX_BOUNDS + 1],
}

const SMALL: usize = 6;

// === impl Step ===

impl Step {
    const fn of(every: u64, window: u64) -> Self {
        Self {
            every: Duration::from_secs(every),
            window: Duration::from_secs(window),
        }
    }

    /// The step that serves a window, and its index.
    fn serving(window: Duration) -> (usize, Self) {
        let mut steps = STEPS.into_iter().enumerate();
        let last = (STEPS.len() - 1, STEPS[STEPS.len() - 1]);
        steps
            .find(|(_, step)| window <= step.window)
            .unwrap_or(last)
    }

    /// How much longer than asked for a window may be.
    pub fn of_window(window: Duration) -> Duration {
        Self::serving(window).1.every
    }
}

// === impl Times ===

impl Times {
    /// The steps for which something is to be kept now.
    pub(in crate::aggregate) fn due(&mut self, now: Monotonic) -> [bool; STEPS.len()] {
        self.began.get_or_insert(now);
        let mut due = [false; STEPS.len()];
        for ((times, step), due) in self.kept.iter_mut().zip(STEPS).zip(&mut due) {
            *due = times
                .back()
                .is_none_or(|last| slot(*last, step) < slot(now, step));
            if *due {
                times.push_back(now);
                while times
                    .get(1)
                    .is_some_and(|second| now.since(*second) > step.window)
                {
                    times.pop_front();
                }
            }
        }
        due
    }

    /// Where a window begins that is at least as long as asked for, if there is as much to tell.
    pub(in crate::aggregate) fn begin(&self, window: Duration, now: Monotonic) -> Begin {
        let (level, _) = Step::serving(window);
        let times = self.kept.get(level).into_iter().flatten();
        let at = times.rev().find(|at| now.since(**at) >= window).copied();
        let since = at.or(self.began).unwrap_or(now);
        Begin {
            level,
            at,
            length: now.since(since),
        }
    }
}

/// Which of the equal parts of all time, as long as a step, a time is in.
fn slot(at: Monotonic, step: Step) -> u128 {
    u128::from(at.0) / step.every.as_nanos().max(1)
}

// === impl Past ===

impl Past {
    /// Keeps what `then` says for the steps that are due, unless it is what was kept last.
    fn keep(&mut self, then: &Then, due: [bool; STEPS.len()]) {
        for ((kept, step), due) in self.kept.iter_mut().zip(STEPS).zip(due) {
            if !due {
                continue;
            }
            if kept.back().is_none_or(|last| !last.same(then)) {
                kept.push_back(then.clone());
            }
            // The one before the window stays: the window begins with what it says.
            while kept
                .get(1)
                .is_some_and(|second| then.at.since(second.at) > step.window)
            {
                kept.pop_front();
            }
        }
    }

    /// What had been counted when a window began; `None` if nothing.
    fn at(&self, begin: Begin) -> Option<&Then> {
        let at = begin.at?;
        let kept = self.kept.get(begin.level)?;
        kept.iter().rev().find(|then| then.at <= at)
    }
}

// === impl Then ===

impl Then {
    fn of(edge: &Edge, at: Monotonic) -> Self {
        let counts = edge.counts();
        Self {
            at,
            sent_bytes: counts.sent_bytes,
            received_bytes: counts.received_bytes,
            rtt_nanoseconds: counts.rtt_nanoseconds,
            small: counts.small().map(low),
            durations: counts.durations.map(low),
        }
    }

    fn same(&self, other: &Self) -> bool {
        let Self {
            at: _,
            sent_bytes,
            received_bytes,
            rtt_nanoseconds,
            small,
            durations,
        } = self;
        *sent_bytes == other.sent_bytes
            && *received_bytes == other.received_bytes
            && *rtt_nanoseconds == other.rtt_nanoseconds
            && *small == other.small
            && *durations == other.durations
    }
}

/// The lower half.
#[expect(clippy::cast_possible_truncation, reason = "that is what it is for")]
const fn low(count: u64) -> u32 {
    count as u32
}

// === impl Counts ===

impl Counts {
    /// Nothing was counted.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds what another edge counted.
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.errors += other.errors;
        for (sum, count) in self.durations.iter_mut().zip(other.durations) {
            *sum += count;
        }
        self.sent_bytes += other.sent_bytes;
        self.received_bytes += other.received_bytes;
        self.connections_opened += other.connections_opened;
        self.connect_failures += other.connect_failures;
        self.retransmits += other.retransmits;
        self.rtt_nanoseconds = self.rtt_nanoseconds.saturating_add(other.rtt_nanoseconds);
        self.rtt_samples += other.rtt_samples;
    }

    /// The duration in seconds below which `part` of all are, 0 to 1: linear within a bucket, as
    /// `histogram_quantile` of Prometheus has it, and so the last bound for what is above it.
    /// `None` without any.
    #[expect(clippy::cast_precision_loss, reason = "a quantile is a float")]
    pub fn quantile(&self, part: f64) -> Option<f64> {
        let total: u64 = self.durations.iter().sum();
        let rank = part.clamp(0.0, 1.0) * total as f64;
        let bounds = REQUEST_SECONDS.upper_bounds();
        let (mut below, mut lower) = (0, 0.0);
        for (count, upper) in self.durations.iter().zip(bounds) {
            if *count > 0 && (below + count) as f64 >= rank {
                let within = (rank - below as f64) / *count as f64;
                return Some(lower + (upper - lower) * within);
            }
            below += count;
            lower = upper;
        }
        (total > 0).then_some(lower)
    }

    /// Mean round-trip time in seconds; `None` without a sample.
    #[expect(clippy::cast_precision_loss, reason = "a mean is a float")]
    pub fn rtt_seconds(&self) -> Option<f64> {
        let samples = self.rtt_samples;
        (samples > 0).then(|| self.rtt_nanoseconds as f64 / samples as f64 / 1e9)
    }

    fn small(&self) -> [u64; SMALL] {
        [
            self.requests,
            self.errors,
            self.connections_opened,
            self.connect_failures,
            self.retransmits,
            self.rtt_samples,
        ]
    }

    /// What was counted since.
    fn since(&self, then: &Then) -> Self {
        let mut durations = self.durations;
        for (now, then) in durations.iter_mut().zip(then.durations) {
            *now = low(*now).wrapping_sub(then).into();
        }
        let mut small = self.small();
        for (now, then) in small.iter_mut().zip(then.small) {
            *now = low(*now).wrapping_sub(then).into();
        }
        let [
            requests,
            errors,
            connections_opened,
            connect_failures,
            retransmits,
            rtt_samples,
        ] = small;
        Self {
            requests,
            errors,
            durations,
            sent_bytes: self.sent_bytes.wrapping_sub(then.sent_bytes),
            received_bytes: self.received_bytes.wrapping_sub(then.received_bytes),
            connections_opened,
            connect_failures,
            retransmits,
            rtt_nanoseconds: self.rtt_nanoseconds.wrapping_sub(then.rtt_nanoseconds),
            rtt_samples,
        }
    }
}

// === impl Edge ===

impl Edge {
    /// All that it counted.
    fn counts(&self) -> Counts {
        Counts {
            requests: self.requests,
            errors: self.errors,
            durations: self.duration.classic.counts,
            sent_bytes: self.sent_bytes,
            received_bytes: self.received_bytes,
            connections_opened: self.opened,
            connect_failures: self.failures.iter().sum(),
            retransmits: self.retransmits,
            rtt_nanoseconds: self.rtt.sum(),
            rtt_samples: self.rtt.count(),
        }
    }

    /// Keeps what it counted for the steps that are due.
    pub(in crate::aggregate) fn keep(&mut self, due: [bool; STEPS.len()], now: Monotonic) {
        let then = Then::of(self, now);
        self.past.keep(&then, due);
    }

    /// What it counted in a window.
    pub(in crate::aggregate) fn counted(&self, begin: Begin) -> Counts {
        let counts = self.counts();
        match self.past.at(begin) {
            Some(then) => counts.since(then),
            None => counts,
        }
    }
}

#[cfg(test)]
mod tests;
