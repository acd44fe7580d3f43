//! The `service.*` attributes of a list of OpenTelemetry resource attributes.
//!
//! `OTEL_RESOURCE_ATTRIBUTES` is read as in the OpenTelemetry SDK specification: a list
//! `key=value,key=value` with percent-encoded values, dropped as a whole when any part of it is
//! malformed.

/// `service.*` attributes that somebody was started with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceAttributes {
    /// `service.name`; empty when not set.
    pub name: Box<str>,
    /// `service.namespace`; empty when not set.
    pub namespace: Box<str>,
    /// `service.version`; empty when not set.
    pub version: Box<str>,
}

/// Longest value that is kept, bytes.
pub const MAX_VALUE: usize = 256;

/// A value that can be shown: UTF-8, without control characters, not longer than [`MAX_VALUE`],
/// not empty.
pub fn shown(value: Vec<u8>) -> Option<Box<str>> {
    let text = String::from_utf8(value).ok()?;
    let fits = !text.is_empty() && text.len() <= MAX_VALUE && !text.contains(char::is_control);
    fits.then(|| text.into_boxed_str())
}

fn percent_decoded(value: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(value.len());
    let mut rest = value.iter();
    while let Some(byte) = rest.next() {
        if *byte == b'%' {
            let digit = |byte: &u8| char::from(*byte).to_digit(16);
            let (high, low) = (rest.next().and_then(digit)?, rest.next().and_then(digit)?);
            decoded.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            decoded.push(*byte);
        }
    }
    Some(decoded)
}

// === impl ServiceAttributes ===

impl ServiceAttributes {
    /// Reads a list; `None` when any part of it is malformed. A value that cannot be shown is as if
    /// it were not set.
    pub fn parse(list: &[u8]) -> Option<Self> {
        let mut found = Self::default();
        for pair in list.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if pair.is_empty() {
                continue;
            }
            let at = pair.iter().position(|byte| *byte == b'=')?;
            let (key, value) = pair.split_at_checked(at)?;
            let value = percent_decoded(value.get(1..)?.trim_ascii())?;
            let slot = match key.trim_ascii() {
                b"service.name" => &mut found.name,
                b"service.namespace" => &mut found.namespace,
                b"service.version" => &mut found.version,
                _ => continue,
            };
            *slot = shown(value).unwrap_or_default();
        }
        Some(found)
    }
}
