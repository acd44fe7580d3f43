//! Exponential buckets as plain numbers, and what was added to them.

use crate::aggregate::exponential::Exponential;

/// Counts by magnitude, see [`Exponential`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Grown {
    /// Each power of two has 2^scale buckets.
    pub(super) scale: i32,
    /// Index of the first bucket.
    pub(super) offset: i32,
    /// Values that were 0.
    pub(super) zero: u64,
    /// Values by bucket.
    pub(super) counts: Vec<u64>,
}

// === impl Grown ===

impl Grown {
    /// All that was observed.
    pub(super) fn of(exponential: &Exponential) -> Self {
        Self {
            scale: exponential.scale().into(),
            offset: exponential.offset(),
            zero: exponential.zero_count(),
            counts: exponential.counts().collect(),
        }
    }

    /// All values.
    pub(super) fn count(&self) -> u64 {
        self.counts.iter().fold(self.zero, |sum, count| sum + count)
    }

    /// What was added since `earlier`, which may have had narrower buckets; `None` when that had
    /// something that is not in these: they were started anew.
    pub(super) fn since(&self, earlier: &Self) -> Option<Self> {
        let shift = u32::try_from(earlier.scale - self.scale).ok()?.min(31);
        let mut left = self.clone();
        left.zero = left.zero.checked_sub(earlier.zero)?;
        for (index, count) in (earlier.offset..).zip(&earlier.counts) {
            if *count == 0 {
                continue;
            }
            let slot = usize::try_from((index >> shift) - self.offset).ok()?;
            let own = left.counts.get_mut(slot)?;
            *own = own.checked_sub(*count)?;
        }
        // Without the empty ones at both ends.
        let first = left.counts.iter().position(|count| *count > 0);
        let last = left.counts.iter().rposition(|count| *count > 0);
        match (first, last) {
            (Some(first), Some(last)) => {
                left.counts.truncate(last + 1);
                left.counts.drain(..first);
                left.offset += i32::try_from(first).unwrap_or(0);
            }
            _ => {
                left.counts.clear();
                left.offset = 0;
            }
        }
        Some(left)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[f64]) -> Exponential {
        let mut exponential = Exponential::default();
        for value in values {
            exponential.observe(*value);
        }
        exponential
    }

    proptest! {
        /// What was added, added to what there was, is what there is.
        #[test]
        fn differences_add_up(
            before in prop::collection::vec(prop_oneof![Just(0.0), 1e-6..1e6], 0..60),
            after in prop::collection::vec(prop_oneof![Just(0.0), 1e-9..1e9], 0..60),
        ) {
            let mut all = of(&before);
            let earlier = Grown::of(&all);
            for value in &after {
                all.observe(*value);
            }
            let now = Grown::of(&all);
            let added = now.since(&earlier).expect("only added");
            prop_assert_eq!(added.count(), after.len() as u64);
            prop_assert_eq!(added.scale, now.scale);
            let mut sum = vec![0; now.counts.len()];
            let shift = u32::try_from(earlier.scale - now.scale).unwrap();
            for (index, count) in (earlier.offset..).zip(&earlier.counts) {
                sum[usize::try_from((index >> shift) - now.offset).unwrap()] += count;
            }
            for (index, count) in (added.offset..).zip(&added.counts) {
                sum[usize::try_from(index - now.offset).unwrap()] += count;
            }
            prop_assert_eq!(sum, now.counts);
        }
    }

    #[test]
    fn what_is_less_was_started_anew() {
        let (more, less) = (of(&[1.0, 1.0, 2.0]), of(&[1.0]));
        assert_eq!(Grown::of(&less).since(&Grown::of(&more)), None);
        let other = of(&[1e9]);
        assert_eq!(Grown::of(&other).since(&Grown::of(&less)), None);
    }
}
