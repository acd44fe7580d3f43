//! When to try again: pauses that grow, shortened by chance, within a bounded time.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use tokio::time::Instant;

/// Pauses between attempts. They grow from one failure to the next, also over several requests,
/// until one is taken.
#[derive(Debug)]
pub(super) struct Retry {
    next: Duration,
    /// The collector wants to be left alone until then.
    not_before: Option<Instant>,
}

/// The first pause.
const FIRST: Duration = Duration::from_millis(500);
/// The longest one.
const LONGEST: Duration = Duration::from_secs(10);
/// The longest one that a collector may ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(300);

// === impl Retry ===

impl Retry {
    pub(super) const fn new() -> Self {
        Self {
            next: FIRST,
            not_before: None,
        }
    }

    /// A request was taken.
    pub(super) const fn reset(&mut self) {
        *self = Self::new();
    }

    /// A request failed for a passing reason; `after` is what the collector asked for.
    pub(super) fn failed(&mut self, now: Instant, after: Option<Duration>) {
        let pause = spread(self.next);
        self.next = self.next.saturating_mul(2).min(LONGEST);
        let pause = after.map_or(pause, |after| after.min(LONGEST_ASKED).max(pause));
        self.not_before = Some(now + pause);
    }

    /// When the next attempt may be; `None` at once.
    pub(super) fn not_before(&self, now: Instant) -> Option<Instant> {
        self.not_before.filter(|at| *at > now)
    }
}

/// Between half of a time and the whole: many senders to one collector do not come at once.
pub(in crate::export) fn spread(time: Duration) -> Duration {
    // The seed of a hash map: as random as this has to be.
    let random = RandomState::new().hash_one(0_u8) % 1024;
    let part = u32::try_from(random).unwrap_or_default();
    time / 2 + (time / 2048) * part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_start_over() {
        let now = Instant::now();
        let mut retry = Retry::new();
        assert_eq!(retry.not_before(now), None);
        let mut expected = FIRST;
        for _ in 0..12 {
            retry.failed(now, None);
            let pause = retry.not_before(now).unwrap() - now;
            assert!(pause >= expected / 2 && pause <= expected, "{pause:?}");
            expected = (expected * 2).min(LONGEST);
        }
        retry.reset();
        assert_eq!(retry.not_before(now), None);
    }

    #[test]
    fn what_a_collector_asks_for_is_kept_within_reason() {
        let now = Instant::now();
        let pause = |after| {
            let mut retry = Retry::new();
            retry.failed(now, Some(after));
            retry.not_before(now).unwrap() - now
        };
        assert_eq!(pause(Duration::from_secs(7)), Duration::from_secs(7));
        assert_eq!(pause(Duration::MAX), LONGEST_ASKED);
        assert!(pause(Duration::ZERO) >= FIRST / 2);
        let mut retry = Retry::new();
        retry.failed(now, Some(Duration::from_secs(1)));
        assert_eq!(retry.not_before(now + Duration::from_secs(1)), None);
    }
}
