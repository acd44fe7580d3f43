//! Tests of the queue: its bounds hold, its order is kept, and everything is counted.

use proptest::prelude::*;

use super::*;

/// An item with a number and a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Thing(u32, usize);

impl Weigh for Thing {
    fn weight(&self) -> usize {
        self.1
    }
}

fn queue(items: u64, bytes: u64, batch: u64) -> (Queue<Thing>, Arc<Status>) {
    let status = Arc::new(Status::default());
    let bounds = Bounds {
        items,
        bytes,
        batch,
    };
    let queue = Queue::new(Signal::Traces, bounds, Arc::clone(&status));
    (queue, status)
}

fn dropped(status: &Status) -> u64 {
    status.of(Signal::Traces).dropped(Dropped::QueueFull)
}

#[derive(Clone, Debug)]
enum Step {
    Push(usize),
    Take,
    Bound(u64, u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (1_usize..200).prop_map(Step::Push),
        1 => Just(Step::Take),
        1 => (1_u64..300, 1_u64..5000).prop_map(|(items, bytes)| Step::Bound(items, bytes)),
    ];
    prop::collection::vec(step, 0..600)
}

proptest! {
    #[test]
    fn bounds_hold_and_everything_is_counted(
        items in 1_u64..200, bytes in 1_u64..5000, batch in 1_u64..100, steps in steps()
    ) {
        let (queue, status) = queue(items, bytes, batch);
        let (mut most, mut pushed, mut taken) = ([items, bytes], 0_u32, Vec::new());
        for step in steps {
            match step {
                Step::Push(weight) => {
                    queue.push(Thing(pushed, weight));
                    pushed += 1;
                }
                Step::Take => {
                    let things = queue.take();
                    prop_assert!(things.len() as u64 <= batch);
                    taken.extend(things);
                }
                Step::Bound(items, bytes) => {
                    most = [items, bytes];
                    queue.set_bounds(Bounds { items, bytes, batch });
                }
            }
            let [items, bytes] = queue.fill();
            prop_assert!(items <= most[0] && bytes <= most[1]);
        }
        loop {
            let things = queue.take();
            if things.is_empty() {
                break;
            }
            taken.extend(things);
        }
        prop_assert_eq!(queue.fill(), [0, 0]);
        prop_assert!(taken.is_sorted_by_key(|thing| thing.0), "in order");
        prop_assert_eq!(taken.len() as u64 + dropped(&status), u64::from(pushed));
        let told = &status.of(Signal::Traces).queued;
        prop_assert!(told.iter().all(|count| count.load(Ordering::Relaxed) == 0));
    }
}

#[test]
fn the_oldest_are_dropped() {
    let (queue, status) = queue(3, 1000, 10);
    for number in 0..5 {
        queue.push(Thing(number, 1));
    }
    assert_eq!(queue.take(), [Thing(2, 1), Thing(3, 1), Thing(4, 1)]);
    assert_eq!(dropped(&status), 2);
    queue.push(Thing(5, 900));
    queue.push(Thing(6, 200));
    assert_eq!(queue.take(), [Thing(6, 200)], "no room for both");
    queue.push(Thing(7, 1));
    queue.push(Thing(8, 1001));
    assert_eq!(queue.take(), [Thing(7, 1)], "it would never fit");
    assert_eq!(dropped(&status), 4);
}

#[test]
fn what_is_cleared_is_counted() {
    let (queue, status) = queue(10, 1000, 10);
    queue.push(Thing(0, 1));
    queue.push(Thing(1, 1));
    queue.clear(Dropped::TurnedOff);
    assert_eq!(queue.fill(), [0, 0]);
    assert_eq!(status.of(Signal::Traces).dropped(Dropped::TurnedOff), 2);
}

#[tokio::test]
async fn a_batch_is_taken_when_it_is_full_or_old() {
    let (queue, _) = queue(100, 10_000, 3);
    let delay = Duration::from_millis(200);
    let start = std::time::Instant::now();
    for number in 0..4 {
        queue.push(Thing(number, 1));
    }
    let long = Duration::from_secs(600);
    assert_eq!(queue.batch(long).await.len(), 3, "full");
    assert_eq!(queue.batch(delay).await, [Thing(3, 1)], "old");
    assert!(start.elapsed() >= delay);
    let (batch, ()) = tokio::join!(queue.batch(long), async {
        for number in 4..7 {
            tokio::time::sleep(Duration::from_millis(10)).await;
            queue.push(Thing(number, 1));
        }
    });
    assert_eq!(batch.len(), 3, "full while it was waited for");
    let (batch, ()) = tokio::join!(queue.batch(long), async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        queue.push(Thing(7, 1));
        queue.set_bounds(Bounds {
            items: 100,
            bytes: 10_000,
            batch: 1,
        });
    });
    assert_eq!(batch, [Thing(7, 1)], "full since less is asked for");
}

#[test]
fn two_threads_lose_nothing() {
    let (queue, status) = queue(1000, 1 << 20, 64);
    let (mut taken, pushed) = (0, 100_000_u32);
    std::thread::scope(|scope| {
        let pusher = scope.spawn(|| {
            for number in 0..pushed {
                queue.push(Thing(number, 10));
            }
        });
        let mut last = None;
        loop {
            let done = pusher.is_finished();
            let things = queue.take();
            for Thing(number, _) in &things {
                assert!(last.is_none_or(|last| last < *number));
                last = Some(*number);
            }
            taken += things.len() as u64;
            if done && things.is_empty() {
                break;
            }
        }
    });
    assert_eq!(taken + dropped(&status), u64::from(pushed));
}
