//! Times and numbers as text.

use serde::Serializer;

use crate::model::time::{Monotonic, WallOffset, date, rfc3339};

/// `at` as RFC 3339 in UTC with nanoseconds.
pub(super) fn timestamp(offset: WallOffset, at: Monotonic) -> String {
    rfc3339(offset.unix_nanoseconds(at))
}

/// Seconds since the Unix epoch as RFC 3339 in UTC; `None` for those before it.
pub(super) fn whole_seconds(seconds: i64) -> Option<String> {
    Some(format!("{}Z", date(u64::try_from(seconds).ok()?)))
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
