//! What waits between the pipeline's thread and the runtime: bounded, the oldest goes first.

pub mod weight;

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::Notify;

use self::weight::Weigh;
use super::status::{Dropped, Status};
use crate::config::Signal;

/// A queue with one end that puts in and one that takes out.
///
/// Both lock it for some tens of items at most, a few microseconds, and never while they do
/// something else: the pipeline's thread does not wait for the runtime.
pub struct Queue<T> {
    waiting: Mutex<Waiting<T>>,
    /// Most items and bytes that wait.
    most: [AtomicU64; 2],
    /// Items that are taken at once.
    batch: AtomicU64,
    awake: Notify,
    signal: Signal,
    status: Arc<Status>,
}

struct Waiting<T> {
    items: VecDeque<(T, u64)>,
    bytes: u64,
}

/// Bounds of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Most items that wait, at least 1.
    pub items: u64,
    /// Most bytes that wait, about: an item that alone has more is dropped.
    pub bytes: u64,
    /// Items that are taken at once, at least 1.
    pub batch: u64,
}

/// Bytes of items, about, that are taken at once.
const BATCH_BYTES: u64 = 2 << 20;
/// Items that are moved under one lock.
const STEP: usize = 64;

// === impl Queue ===

impl<T: Weigh> Queue<T> {
    /// An empty queue, which tells `status` what is in it and what did not fit.
    pub fn new(signal: Signal, bounds: Bounds, status: Arc<Status>) -> Self {
        let queue = Self {
            waiting: Mutex::new(Waiting {
                items: VecDeque::new(),
                bytes: 0,
            }),
            most: [AtomicU64::new(0), AtomicU64::new(0)],
            batch: AtomicU64::new(1),
            awake: Notify::new(),
            signal,
            status,
        };
        queue.set_bounds(bounds);
        queue
    }

    /// Changes the bounds; what no longer fits is dropped.
    pub fn set_bounds(&self, bounds: Bounds) {
        let Bounds {
            items,
            bytes,
            batch,
        } = bounds;
        let [most_items, most_bytes] = &self.most;
        most_items.store(items.max(1), Ordering::Relaxed);
        most_bytes.store(bytes, Ordering::Relaxed);
        self.batch.store(batch.max(1), Ordering::Relaxed);
        let status = self.status.of(self.signal);
        status.limit.store(items.max(1), Ordering::Relaxed);
        while self.trim() {}
        self.awake.notify_one();
    }

    /// Puts an item at the end. The oldest are dropped for it, and counted.
    pub fn push(&self, item: T) {
        let weight = item.weight() as u64;
        let [most_items, most_bytes] = self.bounds();
        if weight > most_bytes {
            self.lost(1);
            return;
        }
        let mut oldest = Vec::new();
        let mut waiting = self.lock();
        while waiting.items.len() as u64 >= most_items || waiting.bytes + weight > most_bytes {
            let Some((item, weight)) = waiting.items.pop_front() else {
                break;
            };
            waiting.bytes -= weight;
            oldest.push(item);
        }
        waiting.items.push_back((item, weight));
        let bytes = waiting.bytes;
        waiting.bytes += weight;
        let count = waiting.items.len() as u64;
        let full = bytes < BATCH_BYTES && waiting.bytes >= BATCH_BYTES;
        self.tell(&waiting);
        drop(waiting);
        if count == 1 || count == self.batch.load(Ordering::Relaxed) || full {
            self.awake.notify_one();
        }
        if !oldest.is_empty() {
            // They are freed here, out of the lock.
            self.lost(oldest.len() as u64);
        }
    }

    /// Waits until there is a batch, or until something has waited for `delay`, and takes it.
    ///
    /// Nothing is lost where nobody waits for the answer any longer.
    pub async fn batch(&self, delay: Duration) -> Vec<T> {
        self.until(|count, _| count > 0).await;
        let full = self.until(|count, bytes| {
            count >= self.batch.load(Ordering::Relaxed) || bytes >= BATCH_BYTES
        });
        // That it is not full in time is no error.
        let _ = tokio::time::timeout(delay, full).await;
        self.take()
    }

    /// Takes a batch of what is there: the oldest, in order.
    pub fn take(&self) -> Vec<T> {
        let most = self.batch.load(Ordering::Relaxed);
        let mut taken = Vec::new();
        let mut bytes = 0;
        loop {
            let mut waiting = self.lock();
            for _ in 0..STEP {
                if taken.len() as u64 >= most || bytes >= BATCH_BYTES {
                    break;
                }
                let Some((item, weight)) = waiting.items.pop_front() else {
                    break;
                };
                waiting.bytes -= weight;
                bytes += weight;
                taken.push(item);
            }
            self.tell(&waiting);
            if waiting.items.is_empty() {
                // What a burst has taken of memory is given back.
                waiting.items.shrink_to(STEP);
            }
            if waiting.items.is_empty() || taken.len() as u64 >= most || bytes >= BATCH_BYTES {
                return taken;
            }
        }
    }

    /// Drops all that waits.
    pub fn clear(&self, reason: Dropped) {
        let mut waiting = self.lock();
        let dropped = std::mem::take(&mut waiting.items);
        waiting.bytes = 0;
        self.tell(&waiting);
        drop(waiting);
        let status = self.status.of(self.signal);
        status.drop_items(reason, dropped.len() as u64);
    }

    /// Items and bytes that wait.
    pub fn fill(&self) -> [u64; 2] {
        let waiting = self.lock();
        [waiting.items.len() as u64, waiting.bytes]
    }

    async fn until(&self, enough: impl Fn(u64, u64) -> bool) {
        loop {
            let awake = self.awake.notified();
            let [count, bytes] = self.fill();
            if enough(count, bytes) {
                return;
            }
            awake.await;
        }
    }

    /// Drops some of what does not fit; whether there may be more.
    fn trim(&self) -> bool {
        let [most_items, most_bytes] = self.bounds();
        let mut dropped = Vec::new();
        let mut waiting = self.lock();
        while dropped.len() < STEP
            && (waiting.items.len() as u64 > most_items || waiting.bytes > most_bytes)
        {
            let Some((item, weight)) = waiting.items.pop_front() else {
                break;
            };
            waiting.bytes -= weight;
            dropped.push(item);
        }
        self.tell(&waiting);
        drop(waiting);
        self.lost(dropped.len() as u64);
        dropped.len() == STEP
    }

    fn bounds(&self) -> [u64; 2] {
        let [items, bytes] = &self.most;
        [items.load(Ordering::Relaxed), bytes.load(Ordering::Relaxed)]
    }

    fn tell(&self, waiting: &Waiting<T>) {
        let [items, bytes] = &self.status.of(self.signal).queued;
        items.store(waiting.items.len() as u64, Ordering::Relaxed);
        bytes.store(waiting.bytes, Ordering::Relaxed);
    }

    fn lost(&self, items: u64) {
        let status = self.status.of(self.signal);
        status.drop_items(Dropped::QueueFull, items);
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<T>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
