//! The last seconds of a service: rates by second, and quantiles of durations.

use std::time::Duration;

use crate::model::time::Monotonic;

/// Seconds that rates look back.
pub const WINDOW_SECONDS: u64 = 10;

/// Sums over the last [`WINDOW_SECONDS`] whole seconds.
#[derive(Clone, Debug)]
pub struct Rate {
    sums: [u64; SLOTS],
    second: u64,
    first: u64,
}

/// Durations of the last ten to twenty seconds, with a relative error below 1/32.
///
/// Log-linear: every power of two of nanoseconds has [`STEPS`] equal buckets, from 1 microsecond
/// to 18 minutes; values outside count as the nearest end. Two sketches take turns, so a quantile
/// always covers at least one full window once there was one.
#[derive(Clone, Debug)]
pub struct Quantiles {
    current: Box<[u32; SIZE]>,
    previous: Box<[u32; SIZE]>,
    window: u64,
}

const SLOTS: usize = WINDOW_SECONDS as usize + 1;
const SECOND: u64 = 1_000_000_000;

const STEP_BITS: u32 = 4;
const STEPS: usize = 1 << STEP_BITS;
/// 2^10 ns is about 1 microsecond, 2^40 ns about 18 minutes.
const LOWEST: u32 = 10;
const HIGHEST: u32 = 40;
const SIZE: usize = (HIGHEST - LOWEST) as usize * STEPS;

// === impl Rate ===

impl Rate {
    /// Nothing yet.
    pub fn new(now: Monotonic) -> Self {
        let second = now.0 / SECOND;
        Self {
            sums: [0; SLOTS],
            second,
            first: second,
        }
    }

    /// Adds `amount` to the second of `now`.
    pub fn add(&mut self, amount: u64, now: Monotonic) {
        self.advance(now.0 / SECOND);
        if let Some(sum) = self.sums.get_mut(self.second as usize % SLOTS) {
            *sum += amount;
        }
    }

    /// Per second, over the last whole seconds: ten, or as many as there were since the start.
    #[expect(clippy::cast_precision_loss, reason = "a rate is a float")]
    pub fn per_second(&mut self, now: Monotonic) -> f64 {
        self.advance(now.0 / SECOND);
        let running = self
            .sums
            .get(self.second as usize % SLOTS)
            .copied()
            .unwrap_or_default();
        let total: u64 = self.sums.iter().sum();
        let seconds = (self.second - self.first).min(WINDOW_SECONDS);
        if seconds == 0 {
            // Only the running second exists: better a first guess than nothing for a second.
            return total as f64;
        }
        (total - running) as f64 / seconds as f64
    }

    fn advance(&mut self, second: u64) {
        if second <= self.second {
            return;
        }
        let steps = (second - self.second).min(SLOTS as u64);
        for step in 1..=steps {
            if let Some(sum) = self.sums.get_mut((second - steps + step) as usize % SLOTS) {
                *sum = 0;
            }
        }
        self.second = second;
    }
}

// === impl Quantiles ===

impl Quantiles {
    /// Nothing yet.
    pub fn new(now: Monotonic) -> Self {
        Self {
            current: Box::new([0; SIZE]),
            previous: Box::new([0; SIZE]),
            window: now.0 / (SECOND * WINDOW_SECONDS),
        }
    }

    /// Counts a duration.
    pub fn observe(&mut self, duration: Duration, now: Monotonic) {
        self.advance(now);
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        if let Some(count) = self.current.get_mut(bucket(nanoseconds)) {
            *count = count.saturating_add(1);
        }
    }

    /// The durations below which the given parts of all calls are; `None` without calls.
    /// `parts` must rise.
    pub fn quantiles<const N: usize>(
        &mut self,
        parts: [f64; N],
        now: Monotonic,
    ) -> Option<[Duration; N]> {
        self.advance(now);
        let counts = || {
            self.current
                .iter()
                .zip(self.previous.iter())
                .map(|(a, b)| u64::from(*a) + u64::from(*b))
        };
        let total: u64 = counts().sum();
        if total == 0 {
            return None;
        }
        Some(parts.map(|part| {
            #[expect(
                clippy::cast_precision_loss,
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a rank between 1 and the total"
            )]
            let rank = ((total as f64 * part).ceil() as u64).clamp(1, total);
            let mut seen = 0;
            let index = counts().position(|count| {
                seen += count;
                seen >= rank
            });
            Duration::from_nanos(middle(index.unwrap_or(SIZE - 1)))
        }))
    }

    fn advance(&mut self, now: Monotonic) {
        let window = now.0 / (SECOND * WINDOW_SECONDS);
        if window <= self.window {
            return;
        }
        std::mem::swap(&mut self.current, &mut self.previous);
        self.current.fill(0);
        if window > self.window + 1 {
            self.previous.fill(0);
        }
        self.window = window;
    }
}

fn bucket(nanoseconds: u64) -> usize {
    let clamped = nanoseconds.clamp(1 << LOWEST, (1 << HIGHEST) - 1);
    let power = clamped.ilog2();
    let step = (clamped >> (power - STEP_BITS)) as usize & (STEPS - 1);
    (power - LOWEST) as usize * STEPS + step
}

fn middle(bucket: usize) -> u64 {
    let power = LOWEST + (bucket / STEPS) as u32;
    let width = 1u64 << (power - STEP_BITS);
    (1u64 << power) + (bucket % STEPS) as u64 * width + width / 2
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Monotonic {
        Monotonic(seconds * SECOND)
    }

    #[test]
    fn a_rate_covers_the_last_ten_whole_seconds() {
        let mut rate = Rate::new(at(100));
        for second in 100..130 {
            rate.add(50, at(second));
        }
        assert!((rate.per_second(at(130)) - 50.0).abs() < 1e-9);
        assert!((rate.per_second(at(135)) - 25.0).abs() < 1e-9);
        assert!(rate.per_second(at(141)).abs() < 1e-9);
    }

    #[test]
    fn a_young_rate_divides_by_its_age() {
        let mut rate = Rate::new(at(100));
        rate.add(30, at(100));
        assert!((rate.per_second(at(100)) - 30.0).abs() < 1e-9);
        rate.add(10, at(101));
        assert!((rate.per_second(at(102)) - 20.0).abs() < 1e-9);
    }

    #[test]
    fn time_going_back_changes_nothing() {
        let mut rate = Rate::new(at(100));
        rate.add(1, at(90));
        assert!((rate.per_second(at(101)) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn quantiles_forget_after_two_windows() {
        let mut quantiles = Quantiles::new(at(0));
        quantiles.observe(Duration::from_millis(5), at(5));
        assert!(quantiles.quantiles([0.5], at(15)).is_some());
        assert!(quantiles.quantiles([0.5], at(25)).is_none());
        quantiles.observe(Duration::from_millis(5), at(25));
        assert!(quantiles.quantiles([0.5], at(55)).is_none());
    }

    proptest! {
        #[test]
        fn quantiles_are_close(mut values in prop::collection::vec(2_000u64..1_000_000_000_000, 1..300)) {
            let mut quantiles = Quantiles::new(at(0));
            for value in &values {
                quantiles.observe(Duration::from_nanos(*value), at(1));
            }
            values.sort_unstable();
            let found = quantiles.quantiles([0.5, 0.95, 0.99], at(1)).unwrap();
            for (part, found) in [0.5, 0.95, 0.99].into_iter().zip(found) {
                let rank = ((values.len() as f64 * part).ceil() as usize).max(1);
                let exact = values[rank - 1] as f64;
                let error = (found.as_nanos() as f64 - exact).abs() / exact;
                prop_assert!(error <= 1.0 / 32.0, "{found:?} instead of {exact}");
            }
        }
    }
}
