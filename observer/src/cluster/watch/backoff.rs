//! How long to wait before trying again.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

/// Grows from a first to a longest pause, each of them shortened by chance, so that the clients of a
/// server that comes back do not come at once.
#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

// === impl Backoff ===

impl Backoff {
    pub(super) fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            next: first,
        }
    }

    /// All is well: the next pause is the first one again.
    pub(super) fn reset(&mut self) {
        self.next = self.first;
    }

    /// The next pause: between half of what it grew to, and that.
    pub(super) fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = pause.saturating_mul(2).min(self.longest);
        spread(pause)
    }
}

/// Between half of a time and the whole.
pub(super) fn spread(time: Duration) -> Duration {
    // The seed of a hash map: as random as this has to be.
    let random = RandomState::new().hash_one(0_u8) % 1024;
    let part = u32::try_from(random).unwrap_or_default();
    time / 2 + (time / 2048) * part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_longest_and_start_over() {
        let mut backoff = Backoff::new(Duration::from_millis(800), Duration::from_secs(60));
        let mut expected = 800;
        for _ in 0..12 {
            let pause = backoff.pause().as_millis();
            assert!(
                pause >= expected / 2 && pause <= expected,
                "{pause} of {expected}"
            );
            expected = (expected * 2).min(60_000);
        }
        backoff.reset();
        assert!(backoff.pause() <= Duration::from_millis(800));
    }

    #[test]
    fn pauses_are_not_alike() {
        let mut seen: Vec<Duration> = (0..32).map(|_| spread(Duration::from_secs(60))).collect();
        seen.dedup();
        assert!(seen.len() > 16, "{seen:?}");
    }
}
