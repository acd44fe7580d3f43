//! Times as the API writes them.

/// Nanoseconds since the Unix epoch of a time by RFC 3339; `None` if it is none, or before 1970.
pub(super) fn unix_nanoseconds(text: &str) -> Option<u64> {
    let time: k8s_openapi::jiff::Timestamp = text.parse().ok()?;
    u64::try_from(time.as_nanosecond()).ok()
}
