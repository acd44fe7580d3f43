//! Series: their starts, and what was added.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::aggregate::contract;

fn counter(key: u8, value: u64) -> Series {
    Series {
        labels: [("reason", Box::from(key.to_string()))].into(),
        more: Box::new([("stage", "x")]),
        value: Value::Integer(value),
    }
}

#[test]
fn what_is_remembered_is_bounded_and_what_is_not_is_counted() {
    for delta in [false, true] {
        let mut streams = Streams::new(delta, 5);
        streams.limit = 1;
        streams.begin(10);
        assert!(
            streams
                .advance(&contract::LOSS, &counter(1, 1), false)
                .is_some()
        );
        let told = streams.advance(&contract::LOSS, &counter(2, 1), false);
        assert_eq!(told.is_some(), !delta);
        streams.end();
        assert_eq!(streams.untracked(), 1);
        assert_eq!(streams.known.len(), 1);
        streams.begin(20);
        streams.end();
        assert_eq!(streams.known.len(), 0);
    }
}

proptest! {
    /// Deltas add up to what was counted, whatever came, went and started again, and none overlaps
    /// another.
    #[test]
    fn deltas_add_up(
        rounds in prop::collection::vec(
            prop::collection::btree_map(0u8..4, 0u64..50, 0..4),
            1..40,
        ),
    ) {
        let mut streams = Streams::new(true, 0);
        let mut values: BTreeMap<u8, u64> = BTreeMap::new();
        let mut expected: BTreeMap<u8, u64> = BTreeMap::new();
        let mut told: BTreeMap<u8, u64> = BTreeMap::new();
        let mut ends: BTreeMap<u8, u64> = BTreeMap::new();
        for (round, added) in (1_u64..).zip(rounds) {
            // A series that is not there any more was forgotten, and counts from zero later.
            values.retain(|key, _| added.contains_key(key));
            streams.begin(round * 10);
            for (key, added) in added {
                let value = values.entry(key).or_default();
                *value += added;
                *expected.entry(key).or_default() += added;
                let Some(one) = streams.advance(&contract::LOSS, &counter(key, *value), false) else {
                    continue;
                };
                let Amount::Integer(delta) = one.amount else { panic!() };
                *told.entry(key).or_default() += delta;
                prop_assert!(one.start < one.time);
                let end = ends.insert(key, one.time).unwrap_or(0);
                prop_assert!(one.start >= end, "{} before {end}", one.start);
            }
            streams.end();
        }
        for (key, count) in expected {
            prop_assert_eq!(told.get(&key).copied().unwrap_or_default(), count);
        }
    }
}
