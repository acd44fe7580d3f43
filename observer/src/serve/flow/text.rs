//! Times and numbers as text.

use serde::Serializer;

use crate::model::time::{Monotonic, WallOffset};

/// `at` as RFC 3339 in UTC with nanoseconds.
pub(super) fn timestamp(offset: WallOffset, at: Monotonic) -> String {
    let nanoseconds = offset.unix_nanoseconds(at);
    let date = date(nanoseconds / 1_000_000_000);
    format!("{date}.{:09}Z", nanoseconds % 1_000_000_000)
}

/// Seconds since the Unix epoch as RFC 3339 in UTC; `None` for those before it.
pub(super) fn whole_seconds(seconds: i64) -> Option<String> {
    Some(format!("{}Z", date(u64::try_from(seconds).ok()?)))
}

/// Date and time of day.
fn date(seconds: u64) -> String {
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

pub(super) fn optional_hexadecimal<S: Serializer>(
    value: &Option<u64>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => hexadecimal(value, serializer),
        None => serializer.serialize_none(),
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde wants"
)]
pub(super) fn hexadecimal<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{value:016x}"))
}
