//! Classic histograms: fixed bounds, exact integer sums.

use std::time::Duration;

/// Bounds of a family of histograms.
#[derive(Debug, PartialEq, Eq)]
pub struct Buckets {
    /// Upper bounds, inclusive, rising, in whole base units (nanoseconds or bytes); at most
    /// [`MAX_BOUNDS`].
    pub bounds: &'static [u64],
    /// Base units in one unit of the exposition: 1e9 where nanoseconds are shown as seconds.
    pub scale: u64,
}

/// Counts by bucket, and the sum of everything observed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Observations by bucket, each in one; the one after the last bound has no upper bound.
    pub counts: [u64; MAX_BOUNDS + 1],
    /// Sum of the observations in base units.
    pub sum: u64,
}

/// Most bounds that a [`Buckets`] can have.
pub const MAX_BOUNDS: usize = 15;

/// Duration of HTTP requests, as the semantic conventions advise
/// (`http.server.request.duration`, explicit bucket boundaries): 5 ms to 10 s.
pub static REQUEST_SECONDS: Buckets = Buckets {
    bounds: &[
        5 * MILLISECOND,
        10 * MILLISECOND,
        25 * MILLISECOND,
        50 * MILLISECOND,
        75 * MILLISECOND,
        100 * MILLISECOND,
        250 * MILLISECOND,
        500 * MILLISECOND,
        750 * MILLISECOND,
        SECOND,
        2_500 * MILLISECOND,
        5 * SECOND,
        7_500 * MILLISECOND,
        10 * SECOND,
    ],
    scale: SECOND,
};

/// Lookups of DNS (`dns.lookup.duration`): the bounds of requests, with three more below them for
/// caches on the host, and three fewer above.
pub static LOOKUP_SECONDS: Buckets = Buckets {
    bounds: &[
        100 * MICROSECOND,
        500 * MICROSECOND,
        MILLISECOND,
        5 * MILLISECOND,
        10 * MILLISECOND,
        25 * MILLISECOND,
        50 * MILLISECOND,
        75 * MILLISECOND,
        100 * MILLISECOND,
        250 * MILLISECOND,
        500 * MILLISECOND,
        SECOND,
        2_500 * MILLISECOND,
        5 * SECOND,
        10 * SECOND,
    ],
    scale: SECOND,
};

/// Sizes of bodies: powers of four from 64 B to 1 GiB, after one for empty bodies. The
/// conventions advise no bounds for `http.*.body.size`.
pub static BODY_BYTES: Buckets = Buckets {
    bounds: &[
        0,
        1 << 6,
        1 << 8,
        1 << 10,
        1 << 12,
        1 << 14,
        1 << 16,
        1 << 18,
        1 << 20,
        1 << 22,
        1 << 24,
        1 << 26,
        1 << 28,
        1 << 30,
    ],
    scale: 1,
};

/// Round-trip times and times to connect: 0.5 ms to 1 s, one more below for loopback.
pub static ROUND_TRIP_SECONDS: Buckets = Buckets {
    bounds: &[
        100 * MICROSECOND,
        500 * MICROSECOND,
        MILLISECOND,
        2 * MILLISECOND,
        5 * MILLISECOND,
        10 * MILLISECOND,
        25 * MILLISECOND,
        50 * MILLISECOND,
        100 * MILLISECOND,
        250 * MILLISECOND,
        500 * MILLISECOND,
        SECOND,
    ],
    scale: SECOND,
};

/// Lives of connections: 1 ms to one day.
pub static CONNECTION_SECONDS: Buckets = Buckets {
    bounds: &[
        MILLISECOND,
        10 * MILLISECOND,
        100 * MILLISECOND,
        SECOND,
        10 * SECOND,
        30 * SECOND,
        60 * SECOND,
        300 * SECOND,
        1_800 * SECOND,
        3_600 * SECOND,
        21_600 * SECOND,
        86_400 * SECOND,
    ],
    scale: SECOND,
};

/// Duration of requests as Envoy has it, in milliseconds: 0.5 ms to a minute.
pub static REQUEST_MILLISECONDS: Buckets = Buckets {
    bounds: &[
        500 * MICROSECOND,
        MILLISECOND,
        5 * MILLISECOND,
        10 * MILLISECOND,
        25 * MILLISECOND,
        50 * MILLISECOND,
        100 * MILLISECOND,
        250 * MILLISECOND,
        500 * MILLISECOND,
        SECOND,
        2_500 * MILLISECOND,
        5 * SECOND,
        10 * SECOND,
        30 * SECOND,
        60 * SECOND,
    ],
    scale: MILLISECOND,
};

const MICROSECOND: u64 = 1_000;
const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;

// === impl Buckets ===

impl Buckets {
    /// Which bucket takes `value` base units.
    pub fn bucket(&self, value: u64) -> usize {
        self.bounds.partition_point(|bound| *bound < value)
    }

    /// Upper bounds in the unit of the exposition.
    pub fn upper_bounds(&self) -> impl Iterator<Item = f64> {
        self.bounds.iter().map(|bound| self.present(*bound))
    }

    /// `value` base units in the unit of the exposition.
    #[expect(
        clippy::cast_precision_loss,
        reason = "shown as a float; 2^53 is enough"
    )]
    pub fn present(&self, value: u64) -> f64 {
        value as f64 / self.scale as f64
    }
}

// === impl Histogram ===

impl Histogram {
    /// Counts `value` base units.
    pub fn observe(&mut self, buckets: &Buckets, value: u64) {
        if let Some(count) = self.counts.get_mut(buckets.bucket(value)) {
            *count += 1;
        }
        self.sum = self.sum.saturating_add(value);
    }

    /// Counts a duration, for buckets whose base unit is the nanosecond.
    pub fn observe_duration(&mut self, buckets: &Buckets, value: Duration) {
        self.observe(buckets, u64::try_from(value.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Adds all that `other` observed, in the same buckets.
    pub fn merge(&mut self, other: &Self) {
        for (own, count) in self.counts.iter_mut().zip(other.counts) {
            *own += count;
        }
        self.sum = self.sum.saturating_add(other.sum);
    }

    /// Number of observations.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_rise_and_fit() {
        for buckets in [
            &REQUEST_SECONDS,
            &BODY_BYTES,
            &ROUND_TRIP_SECONDS,
            &CONNECTION_SECONDS,
        ] {
            assert!(buckets.bounds.len() <= MAX_BOUNDS);
            assert!(buckets.bounds.is_sorted_by(|left, right| left < right));
        }
    }

    #[test]
    fn request_bounds_are_those_of_the_conventions() {
        let bounds: Vec<String> = REQUEST_SECONDS
            .upper_bounds()
            .map(|bound| bound.to_string())
            .collect();
        assert_eq!(
            bounds.join(" "),
            "0.005 0.01 0.025 0.05 0.075 0.1 0.25 0.5 0.75 1 2.5 5 7.5 10"
        );
    }

    #[test]
    fn a_bound_belongs_to_its_own_bucket() {
        let mut histogram = Histogram::default();
        histogram.observe(&BODY_BYTES, 0);
        histogram.observe(&BODY_BYTES, 64);
        histogram.observe(&BODY_BYTES, 65);
        histogram.observe(&BODY_BYTES, (1 << 30) + 1);
        assert_eq!(histogram.counts[..3], [1, 1, 1]);
        assert_eq!(histogram.counts[14], 1);
        assert_eq!(histogram.count(), 4);
        assert_eq!(histogram.sum, 64 + 65 + (1 << 30) + 1);
    }
}
