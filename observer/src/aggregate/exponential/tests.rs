//! Bounds, errors, merging and narrow counts against plain arithmetic.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn of(values: &[f64]) -> Exponential {
    let mut histogram = Exponential::default();
    for value in values {
        histogram.observe(*value);
    }
    histogram
}

/// Lower and upper bound of each bucket that has values, with their count.
fn buckets(histogram: &Exponential) -> Vec<(f64, f64, u64)> {
    let factor = f64::from(histogram.scale()).exp2();
    let bound = |index: i32| (f64::from(index) / factor).exp2();
    histogram
        .counts()
        .enumerate()
        .map(|(slot, count)| {
            let index = histogram.offset() + small(slot);
            (bound(index), bound(index + 1), count)
        })
        .filter(|(_, _, count)| *count > 0)
        .collect()
}

#[test]
fn bounds_are_powers_of_the_base() {
    for (bucket, bound) in BOUNDS[..BUCKETS].iter().enumerate() {
        let float = f64::from_bits(bound | 1.0_f64.to_bits());
        let exact = (bucket as f64 / BUCKETS as f64).exp2();
        assert!(
            (float - exact).abs() <= f64::EPSILON,
            "{bucket}: {float} {exact}"
        );
    }
}

#[test]
fn a_power_of_two_is_the_upper_bound_of_its_bucket() {
    for power in -30..30 {
        let value = f64::from(power).exp2();
        assert_eq!(index(value), power * 16 - 1, "{value}");
        assert_eq!(index(value.next_up()), power * 16, "{value}");
        assert_eq!(index(value.next_down()), power * 16 - 1, "{value}");
    }
    // As the durations come: whole nanoseconds in seconds.
    assert_eq!(index(1_000_000_000.0 / 1e9), -1);
    assert_eq!(index(500_000_000.0 / 1e9), -17);
}

#[test]
fn nothing_and_zero_have_no_buckets() {
    let mut histogram = Exponential::default();
    assert_eq!((histogram.count(), histogram.counts().len()), (0, 0));
    histogram.observe(0.0);
    assert_eq!((histogram.count(), histogram.zero_count()), (1, 1));
    assert_eq!(histogram.counts().len(), 0);
}

#[test]
fn the_whole_range_of_durations_fits() {
    let nanosecond = 1e-9;
    let longest = u64::MAX as f64 / 1e9;
    let histogram = of(&[longest, nanosecond, 0.0, 1.0]);
    assert_eq!(histogram.scale(), 1);
    assert_eq!(histogram.count(), 4);
    assert!(histogram.counts().len() <= MAX_BUCKETS);
    let ordinary = of(&[0.001, 0.002, 0.05, 1.0]);
    assert_eq!(ordinary.scale(), MAX_SCALE);
}

#[test]
fn counts_widen_when_they_must() {
    let mut histogram = of(&[0.25]);
    assert_eq!(histogram.bytes(), 32);
    let all = u64::from(u16::MAX);
    histogram.add(histogram.offset, MAX_SCALE, all);
    assert_eq!((histogram.count(), histogram.bytes()), (all + 1, 4));
    histogram.add(histogram.offset, MAX_SCALE, u32::MAX.into());
    assert_eq!(histogram.count(), all + 1 + u64::from(u32::MAX));
    histogram.observe(0.5);
    assert_eq!(histogram.count(), all + 2 + u64::from(u32::MAX));
}

fn values() -> impl Strategy<Value = Vec<f64>> {
    // Spread over magnitudes, as a duration of nanoseconds is.
    let value = (0_u32..64, any::<u64>()).prop_map(|(shift, bits)| (bits >> shift) as f64 / 1e9);
    prop::collection::vec(value, 0..200)
}

proptest! {
    /// Every value is between the bounds of a bucket that has it, and none is lost.
    #[test]
    fn each_value_is_in_its_bucket(values in values()) {
        let histogram = of(&values);
        prop_assert_eq!(histogram.count(), values.len() as u64);
        prop_assert!(histogram.counts().len() <= MAX_BUCKETS);
        prop_assert!((1..=MAX_SCALE).contains(&histogram.scale()));
        for (lower, upper, count) in buckets(&histogram) {
            // What `exp2` rounds is not what is tested.
            let (low, high) = (lower * (1.0 - 1e-12), upper * (1.0 + 1e-12));
            let found = values.iter().filter(|value| **value > low && **value <= high).count();
            prop_assert!(found as u64 >= count, "{lower} {upper}: {found} {count}");
        }
    }

    /// A quantile is wrong by no more than half of what the bounds of a bucket are apart.
    #[test]
    fn quantiles_have_a_relative_error(mut values in values(), rank in 0.0_f64..1.0) {
        values.retain(|value| *value > 0.0);
        prop_assume!(!values.is_empty());
        let histogram = of(&values);
        values.sort_by(f64::total_cmp);
        let rank = (rank * values.len() as f64) as usize;
        let mut before = 0;
        let (lower, upper, _) = buckets(&histogram)
            .into_iter()
            .find(|(_, _, count)| {
                before += count;
                before > rank as u64
            })
            .expect("a bucket of this rank");
        let middle = (lower * upper).sqrt();
        let base = (-f64::from(histogram.scale())).exp2().exp2();
        let error = (middle / values[rank]).max(values[rank] / middle);
        prop_assert!(error <= base.sqrt() * (1.0 + 1e-9), "{error} {base}");
    }

    /// Merged is the same as counted in one, whatever the order and the scales were.
    #[test]
    fn merged_is_counted_together(left in values(), right in values()) {
        let mut merged = of(&left);
        merged.merge(&of(&right));
        let together: Vec<f64> = left.iter().chain(&right).copied().collect();
        let whole = of(&together);
        prop_assert_eq!(merged.count(), whole.count());
        prop_assert_eq!(merged.zero_count(), whole.zero_count());
        prop_assert_eq!(merged.scale(), whole.scale());
        prop_assert_eq!(buckets(&merged), buckets(&whole));
    }

    /// Against a plain map of indices at the highest scale.
    #[test]
    fn coarser_buckets_are_sums_of_finer(values in values()) {
        let histogram = of(&values);
        let mut model: BTreeMap<i32, u64> = BTreeMap::new();
        for value in values.iter().filter(|value| **value > 0.0) {
            *model.entry(index(*value) >> (MAX_SCALE - histogram.scale())).or_default() += 1;
        }
        let found: BTreeMap<i32, u64> = histogram
            .counts()
            .enumerate()
            .filter(|(_, count)| *count > 0)
            .map(|(slot, count)| (histogram.offset() + small(slot), count))
            .collect();
        prop_assert_eq!(found, model);
    }
}

#[test]
fn a_series_takes_few_bytes() {
    // Ten thousand durations, evenly spread over magnitudes from 1 ms to 1 s.
    let values: Vec<f64> = (0..10_000)
        .map(|step| 10_f64.powf(f64::from(step) / 10_000.0 * 3.0 - 3.0))
        .collect();
    let histogram = of(&values);
    assert_eq!(histogram.scale(), MAX_SCALE);
    assert_eq!(histogram.counts().len(), 160);
    assert_eq!((size_of::<Exponential>(), histogram.bytes()), (48, 320));
    // A usual service: 1 ms to 30 ms.
    let usual = of(&values[..4_900]);
    assert!(usual.bytes() <= 192, "{}", usual.bytes());
}
