//! Observations of one series: classic buckets, exponential buckets where kept, and exemplars.

use std::time::Duration;

use crate::model::{
    time::Monotonic,
    trace::{SpanId, TraceId},
};

use super::{
    exponential::Exponential,
    histogram::{Buckets, Histogram},
};

/// Observations of one series.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Distribution {
    /// Counts by fixed buckets, and the exact sum.
    pub classic: Histogram,
    /// Exponential buckets of the same observations, in the unit of the exposition; `None` where
    /// they are not kept, and while there is no observation.
    pub exponential: Option<Box<Exponential>>,
    /// A few of the observations.
    pub exemplars: Exemplars,
    /// Whether exponential buckets are kept.
    keep_exponential: bool,
}

/// An observation whose span is in the sample: what to look at for the others in its bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exemplar {
    /// Its trace.
    pub trace: TraceId,
    /// Its span.
    pub span: SpanId,
    /// What was observed, in base units of the buckets.
    pub value: u64,
    /// When.
    pub at: Monotonic,
}

/// The newest exemplar of each classic bucket that has one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exemplars {
    by_bucket: Vec<(u8, Exemplar)>,
}

/// How long an exemplar stays before another of its bucket takes its place: who looks does so every
/// few seconds, and a busy series would only write.
pub const EXEMPLAR_STAYS: Duration = Duration::from_secs(1);

// === impl Distribution ===

impl Distribution {
    /// Nothing observed yet; with exponential buckets or without.
    pub fn new(exponential: bool) -> Self {
        Self {
            keep_exponential: exponential,
            ..Self::default()
        }
    }

    /// Counts `value` base units.
    pub fn observe(&mut self, buckets: &Buckets, value: u64) {
        self.classic.observe(buckets, value);
        if self.keep_exponential {
            let exponential = self.exponential.get_or_insert_default();
            exponential.observe(buckets.present(value));
        }
    }

    /// Counts a duration, for buckets whose base unit is the nanosecond. `span` is there when it is
    /// in the sample.
    pub fn observe_duration(
        &mut self,
        buckets: &Buckets,
        value: Duration,
        span: Option<(TraceId, SpanId)>,
        now: Monotonic,
    ) {
        let value = u64::try_from(value.as_nanos()).unwrap_or(u64::MAX);
        self.observe(buckets, value);
        if let Some((trace, span)) = span {
            let exemplar = Exemplar {
                trace,
                span,
                value,
                at: now,
            };
            self.exemplars.keep(buckets.bucket(value), exemplar);
        }
    }

    /// Adds all that `other` observed, in the same buckets. Exponential buckets remain if both
    /// keep them.
    pub fn merge(&mut self, other: &Self) {
        self.classic.merge(&other.classic);
        self.keep_exponential &= other.keep_exponential;
        if !self.keep_exponential {
            self.exponential = None;
        } else if let Some(exponential) = &other.exponential {
            self.exponential.get_or_insert_default().merge(exponential);
        }
        for (bucket, exemplar) in &other.exemplars.by_bucket {
            self.exemplars.newer(*bucket, *exemplar);
        }
    }

    /// Number of observations.
    pub fn count(&self) -> u64 {
        self.classic.count()
    }

    /// Sum of the observations in base units.
    pub fn sum(&self) -> u64 {
        self.classic.sum
    }

    /// Exponential buckets are kept, though there may be none yet.
    pub fn keeps_exponential(&self) -> bool {
        self.keep_exponential
    }
}

impl From<Histogram> for Distribution {
    fn from(classic: Histogram) -> Self {
        Self {
            classic,
            ..Self::default()
        }
    }
}

// === impl Exemplars ===

impl Exemplars {
    /// The exemplar of a classic bucket.
    pub fn of_bucket(&self, bucket: usize) -> Option<&Exemplar> {
        let mut known = self.by_bucket.iter();
        let (_, exemplar) = known.find(|(own, _)| usize::from(*own) == bucket)?;
        Some(exemplar)
    }

    /// All of them, in no order; at most one for each classic bucket.
    pub fn iter(&self) -> impl Iterator<Item = &Exemplar> {
        self.by_bucket.iter().map(|(_, exemplar)| exemplar)
    }

    /// Keeps an exemplar, unless that of its bucket is young.
    fn keep(&mut self, bucket: usize, exemplar: Exemplar) {
        let Ok(bucket) = u8::try_from(bucket) else {
            return;
        };
        let mut known = self.by_bucket.iter();
        match known.position(|(own, _)| *own == bucket) {
            Some(position) => {
                let (_, own) = &mut self.by_bucket[position];
                if exemplar.at.since(own.at) >= EXEMPLAR_STAYS {
                    *own = exemplar;
                }
            }
            None => self.add(bucket, exemplar),
        }
    }

    /// Keeps the newer of two exemplars of a bucket.
    fn newer(&mut self, bucket: u8, exemplar: Exemplar) {
        let mut known = self.by_bucket.iter_mut();
        match known.find(|(own, _)| *own == bucket) {
            Some((_, own)) if own.at < exemplar.at => *own = exemplar,
            Some(_) => {}
            None => self.add(bucket, exemplar),
        }
    }

    fn add(&mut self, bucket: u8, exemplar: Exemplar) {
        self.by_bucket.reserve_exact(1);
        self.by_bucket.push((bucket, exemplar));
    }
}

#[cfg(test)]
mod tests {
    use super::{super::histogram::REQUEST_SECONDS, *};

    fn span(number: u8) -> Option<(TraceId, SpanId)> {
        Some((TraceId([number; 16]), SpanId([number; 8])))
    }

    fn observe(distribution: &mut Distribution, milliseconds: u64, number: u8, second: u64) {
        let value = Duration::from_millis(milliseconds);
        let now = Monotonic(second * 1_000_000_000);
        distribution.observe_duration(&REQUEST_SECONDS, value, span(number), now);
    }

    #[test]
    fn the_newest_exemplar_of_each_bucket_stays_for_a_second() {
        let mut distribution = Distribution::new(true);
        observe(&mut distribution, 3, 1, 10);
        observe(&mut distribution, 4, 2, 10);
        observe(&mut distribution, 30_000, 3, 10);
        let at = |distribution: &Distribution, bucket| {
            distribution
                .exemplars
                .of_bucket(bucket)
                .map(|it| it.trace.0[0])
        };
        assert_eq!(at(&distribution, 0), Some(1));
        assert_eq!(at(&distribution, 1), None);
        assert_eq!(at(&distribution, 14), Some(3));
        observe(&mut distribution, 4, 4, 11);
        assert_eq!(at(&distribution, 0), Some(4));
        let unsampled = Duration::from_millis(8);
        distribution.observe_duration(&REQUEST_SECONDS, unsampled, None, Monotonic(0));
        assert_eq!(distribution.exemplars.iter().count(), 2);
        assert_eq!(distribution.count(), 5);
    }

    #[test]
    fn what_is_merged_has_all_observations_and_the_newer_exemplars() {
        let mut left = Distribution::new(true);
        observe(&mut left, 3, 1, 10);
        observe(&mut left, 300, 2, 10);
        let mut right = Distribution::new(true);
        observe(&mut right, 2, 3, 12);
        observe(&mut right, 3_000, 4, 9);
        left.merge(&right);
        assert_eq!((left.count(), left.sum()), (4, 3_305_000_000));
        assert_eq!(left.exponential.as_ref().map(|it| it.count()), Some(4));
        let mut kept: Vec<u8> = left.exemplars.iter().map(|it| it.trace.0[0]).collect();
        kept.sort_unstable();
        assert_eq!(kept, [2, 3, 4]);
        left.merge(&Distribution::new(false));
        assert_eq!(left.exponential, None);
        assert_eq!(left.count(), 4);
    }
}
