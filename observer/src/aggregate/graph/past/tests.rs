//! Windows of edges: as long as asked for and a step more, exact, bounded, whatever happened before.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::aggregate::{
    Aggregator, Config,
    fixture::{SECOND, call_on, link},
};

fn at(seconds: u64) -> Monotonic {
    Monotonic(seconds * SECOND)
}

/// An aggregate that keeps its edges, and is told of every second.
struct World {
    aggregator: Aggregator,
    now: u64,
}

impl World {
    fn new() -> Self {
        let aggregator = Aggregator::new(Config {
            idle: Duration::from_secs(100_000),
            ..Config::default()
        });
        Self {
            aggregator,
            now: 1_000,
        }
    }

    /// A second in which so many calls end.
    fn second(&mut self, calls: u64) {
        let link = link(1, "web");
        for _ in 0..calls {
            self.aggregator
                .call(&call_on(&link, "/", 200), None, at(self.now));
        }
        self.now += 1;
        self.aggregator.expire(at(self.now));
    }

    /// Length in seconds and requests of a window.
    fn window(&mut self, seconds: u64) -> (u64, u64) {
        let window = Duration::from_secs(seconds);
        let found = self.aggregator.graph_in(window, at(self.now));
        let requests = found.edges.iter().map(|edge| edge.counts.requests).sum();
        (found.length.as_secs(), requests)
    }
}

#[test]
fn a_window_is_as_long_as_asked_for_and_a_step_more() {
    let mut world = World::new();
    for _ in 0..8_000 {
        world.second(1);
    }
    for (asked, step) in [
        (10, 10),
        (30, 10),
        (60, 10),
        (61, 60),
        (300, 60),
        (600, 60),
        (900, 600),
        (3_600, 600),
    ] {
        let (length, requests) = world.window(asked);
        assert!(
            (asked..=asked + step).contains(&length),
            "{asked}: {length}"
        );
        assert_eq!(requests, length, "{asked}");
    }
}

#[test]
fn a_young_observer_tells_of_all_it_saw() {
    let mut world = World::new();
    for _ in 0..5 {
        world.second(3);
    }
    // The first second passed before something was kept.
    assert_eq!(world.window(60), (4, 15));
}

#[test]
fn a_quiet_edge_has_an_empty_window() {
    let mut world = World::new();
    world.second(7);
    for _ in 0..120 {
        world.second(0);
    }
    let found = world
        .aggregator
        .graph_in(Duration::from_secs(60), at(world.now));
    assert!(found.edges.iter().all(|edge| edge.counts.is_empty()));
    assert_eq!(world.window(600).1, 7);
}

#[test]
fn no_more_is_kept_than_is_said() {
    let mut past = Past::default();
    let mut times = Times::default();
    for second in 0..20_000 {
        let now = at(second);
        let due = times.due(now);
        let then = Then {
            at: now,
            sent_bytes: second,
            received_bytes: 0,
            rtt_nanoseconds: 0,
            small: [0; SMALL],
            durations: [0; MAX_BOUNDS + 1],
        };
        past.keep(&then, due);
    }
    let kept: usize = past.kept.iter().map(VecDeque::len).sum();
    assert!((20..=MOST_KEPT).contains(&kept), "{kept}");
    assert!(size_of::<Then>() <= 120);
}

#[test]
fn quantiles_are_those_of_prometheus() {
    let mut counts = Counts::default();
    assert_eq!(counts.quantile(0.5), None);
    // Ten in 5 to 10 ms, ten above the last bound.
    counts.durations[1] = 10;
    counts.durations[14] = 10;
    let close = |found: Option<f64>, expected: f64| {
        assert!((found.unwrap() - expected).abs() < 1e-9, "{found:?}");
    };
    close(counts.quantile(0.25), 0.0075);
    close(counts.quantile(0.5), 0.010);
    close(counts.quantile(0.99), 10.0);
}

proptest! {
    /// Whatever came when, a window has what was counted since it began.
    #[test]
    fn windows_are_exact(calls in prop::collection::vec(0_u64..4, 1..900), asked in 10_u64..3_600) {
        let mut world = World::new();
        for count in &calls {
            world.second(*count);
        }
        let (length, requests) = world.window(asked);
        let covered = usize::try_from(length).unwrap();
        let expected: u64 = match calls.len() - 1 == covered {
            // All there is, with the second before something was kept first.
            true => calls.iter().sum(),
            false => calls.iter().rev().take(covered).sum(),
        };
        // Where the window begins with the first time that was kept, the second before is not in it.
        let without_first: u64 = calls.iter().rev().take(covered).sum();
        prop_assert!(requests == expected || requests == without_first, "{requests} {expected}");
    }

    /// Counters that went around are told apart all the same.
    #[test]
    fn differences_go_around(before in any::<u64>(), added in 0..u64::from(u32::MAX)) {
        let before = before >> 1;
        let then = Then {
            at: at(0),
            sent_bytes: 0,
            received_bytes: 0,
            rtt_nanoseconds: 0,
            small: [low(before); SMALL],
            durations: [0; MAX_BOUNDS + 1],
        };
        let now = Counts { requests: before + added, errors: before, connections_opened: before,
            connect_failures: before, retransmits: before, rtt_samples: before, ..Counts::default() };
        prop_assert_eq!(now.since(&then).requests, added);
        prop_assert_eq!(now.since(&then).errors, 0);
    }
}
