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

/// Nanoseconds since the Unix epoch as RFC 3339 in UTC, with nanoseconds.
pub fn rfc3339(nanoseconds: u64) -> String {
    let date = date(nanoseconds / 1_000_000_000);
    format!("{date}.{:09}Z", nanoseconds % 1_000_000_000)
}

/// Date and time of day of seconds since the Unix epoch, `2023-11-14T22:13:20`, UTC.
pub fn date(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days to a date, counted in eras of 400 years that begin on a 1 March (Howard Hinnant,
    // "chrono-compatible low-level date algorithms", civil_from_days).
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
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
