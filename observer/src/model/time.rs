//! Points in time as the kernel tells them, and how to read them as wall-clock time.

use std::time::Duration;

/// A point in time: nanoseconds of `CLOCK_MONOTONIC`, the clock of `bpf_ktime_get_ns`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Monotonic(pub u64);

/// How far `CLOCK_REALTIME` is ahead of `CLOCK_MONOTONIC`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WallOffset {
    /// Nanoseconds to add to a [`Monotonic`] to get nanoseconds since the Unix epoch.
    pub nanoseconds: u64,
}

// === impl Monotonic ===

impl Monotonic {
    /// Time since `earlier`, zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// This time plus `duration`, saturating.
    pub fn plus(self, duration: Duration) -> Self {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanoseconds))
    }
}

// === impl WallOffset ===

impl WallOffset {
    /// `at` as nanoseconds since the Unix epoch.
    pub fn unix_nanoseconds(self, at: Monotonic) -> u64 {
        self.nanoseconds.saturating_add(at.0)
    }
}
