//! Values of the fields that tell of a trace, read to the letter.

use crate::model::trace::{SpanId, TraceId};

/// What the value of a field names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ids {
    pub(super) trace: TraceId,
    pub(super) parent: Option<SpanId>,
    pub(super) sampled: Option<bool>,
}

/// Length of `traceparent` of version 00.
const TRACE_PARENT: usize = 55;
/// Length of a UUID as text (RFC 9562 section 4).
pub(super) const UUID: usize = 36;
/// Values of hexadecimal digits; `0x80` for all other bytes.
const DIGITS: [u8; 256] = {
    let mut values = [0x80; 256];
    let mut digit = 0;
    while digit < 16 {
        values[b"0123456789abcdef"[digit as usize] as usize] = digit;
        values[b"0123456789ABCDEF"[digit as usize] as usize] = digit;
        digit += 1;
    }
    values
};

/// Takes a value; false when there is none, or another.
pub(super) fn put<T: PartialEq>(place: &mut Option<T>, value: Option<T>) -> bool {
    if place.is_none() {
        *place = value;
        place.is_some()
    } else {
        *place == value
    }
}

/// A number of 1 to 32 hexadecimal digits.
fn number(digits: &[u8]) -> Option<u128> {
    if digits.is_empty() || digits.len() > 32 {
        return None;
    }
    let (mut number, mut seen) = (0_u128, 0);
    for digit in digits {
        let value = DIGITS[usize::from(*digit)];
        seen |= value;
        number = number << 4 | u128::from(value);
    }
    // What is no digit has a higher bit.
    (seen < 16).then_some(number)
}

fn trace(digits: &[u8]) -> Option<TraceId> {
    TraceId::new(number(digits)?.to_be_bytes())
}

fn span(digits: &[u8]) -> Option<SpanId> {
    SpanId::new(u64::try_from(number(digits)?).ok()?.to_be_bytes())
}

pub(super) fn exact_span(digits: &[u8]) -> Option<SpanId> {
    span(digits).filter(|_| digits.len() == 16)
}

/// `version "-" trace-id "-" parent-id "-" trace-flags`, in lower case; of later versions anything
/// may follow a further `-` (W3C Trace Context, sections 3.2.2 and 3.2.4).
pub(super) fn trace_parent(value: &[u8]) -> Option<Ids> {
    let (known, rest) = value.split_at_checked(TRACE_PARENT)?;
    let version = number(&known[..2]).filter(|version| *version != 0xff)?;
    let dashes = [2, 35, 52].iter().all(|at| known[*at] == b'-');
    let ends = rest.is_empty() || version > 0 && rest[0] == b'-';
    if !dashes || !ends || known.iter().any(u8::is_ascii_uppercase) {
        return None;
    }
    Some(Ids {
        trace: trace(&known[3..35])?,
        parent: Some(span(&known[36..52])?),
        sampled: Some(number(&known[53..])? & 1 != 0),
    })
}

/// `trace-span[-state[-parent]]`.
pub(super) fn b3(value: &[u8]) -> Option<Ids> {
    let mut parts = value.split(|byte| *byte == b'-');
    let trace = b3_trace(parts.next()?)?;
    let parent = exact_span(parts.next()?)?;
    let sampled = match parts.next() {
        Some(state) => Some(decision(state)?),
        None => None,
    };
    if let Some(grandparent) = parts.next() {
        exact_span(grandparent)?;
    }
    let ids = Ids {
        trace,
        parent: Some(parent),
        sampled,
    };
    parts.next().is_none().then_some(ids)
}

/// 64 or 128 bits; the shorter ones are those of the longer that start with zeros.
pub(super) fn b3_trace(digits: &[u8]) -> Option<TraceId> {
    trace(digits).filter(|_| matches!(digits.len(), 16 | 32))
}

pub(super) fn decision(value: &[u8]) -> Option<bool> {
    match value {
        b"1" | b"d" | b"true" => Some(true),
        b"0" | b"false" => Some(false),
        _ => None,
    }
}

/// `trace:span:parent:flags` without leading zeros, the colons perhaps percent-encoded.
pub(super) fn uber_trace(value: &[u8]) -> Option<Ids> {
    let (trace_digits, rest) = to_colon(value)?;
    let (span_digits, rest) = to_colon(rest)?;
    // The parent of the span is deprecated: whatever it is, it is not read.
    let (_, flags) = to_colon(rest)?;
    let flags = number(flags).filter(|_| flags.len() <= 2)?;
    Some(Ids {
        trace: trace(trace_digits)?,
        parent: Some(span(span_digits).filter(|_| span_digits.len() <= 16)?),
        sampled: Some(flags & 3 != 0),
    })
}

fn to_colon(value: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = memchr::memchr2(b':', b'%', value)?;
    let (part, rest) = value.split_at(at);
    let rest = rest
        .strip_prefix(b":")
        .or_else(|| rest.strip_prefix(b"%3A"))
        .or_else(|| rest.strip_prefix(b"%3a"))?;
    Some((part, rest))
}

/// `Root=1-seconds-number;Parent=span;Sampled=1`, in any order, with others between.
pub(super) fn x_ray(value: &[u8]) -> Option<Ids> {
    let (mut root, mut parent, mut sampled) = (None, None, None);
    for pair in value.split(|byte| *byte == b';') {
        let pair = pair.trim_ascii();
        let Some(at) = memchr::memchr(b'=', pair) else {
            continue;
        };
        let (key, value) = (&pair[..at], &pair[at + 1..]);
        let right = if key.eq_ignore_ascii_case(b"root") {
            put(&mut root, x_ray_root(value))
        } else if key.eq_ignore_ascii_case(b"parent") {
            put(&mut parent, exact_span(value))
        } else if key.eq_ignore_ascii_case(b"sampled") {
            // `?` asks whoever is called to decide.
            value == b"?" || put(&mut sampled, decision(value))
        } else {
            true
        };
        if !right {
            return None;
        }
    }
    Some(Ids {
        trace: root?,
        parent,
        sampled,
    })
}

/// Version 1, seconds since 1970 as 8 digits, and 24 more.
fn x_ray_root(value: &[u8]) -> Option<TraceId> {
    let rest = value.strip_prefix(b"1-").filter(|rest| rest.len() == 33)?;
    let (seconds, rest) = rest.split_at(8);
    let unique = number(rest.strip_prefix(b"-")?)?;
    TraceId::new((number(seconds)? << 96 | unique).to_be_bytes())
}

/// `trace[/span][;o=options]`, the span as a decimal number.
pub(super) fn cloud_trace(value: &[u8]) -> Option<Ids> {
    let end = memchr::memchr(b';', value).unwrap_or(value.len());
    let (ids, options) = value.split_at(end);
    let slash = memchr::memchr(b'/', ids).unwrap_or(ids.len());
    let (trace_digits, rest) = ids.split_at(slash);
    let parent = match rest.strip_prefix(b"/") {
        Some(digits) => SpanId::new(decimal(digits)?.to_be_bytes()),
        None => None,
    };
    let sampled = match options {
        b"" => None,
        _ => Some(decimal(options.strip_prefix(b";o=")?)? & 1 != 0),
    };
    Some(Ids {
        trace: trace(trace_digits).filter(|_| trace_digits.len() == 32)?,
        parent,
        sampled,
    })
}

fn decimal(digits: &[u8]) -> Option<u64> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// A UUID as the name of a trace. Envoy changes the first digit of its third group on the way, by
/// what it decides about the trace: `4` no, `9`, `a` and `b` yes. So all of these are one.
pub(super) fn uuid(value: &[u8]) -> Option<Ids> {
    let groups = [(0, 8), (9, 13), (14, 18), (19, 23), (24, UUID)];
    let dashes = [8, 13, 18, 23];
    if value.len() != UUID || dashes.iter().any(|at| value[*at] != b'-') {
        return None;
    }
    let mut id = 0;
    for (start, end) in groups {
        id = id << (4 * (end - start)) | number(&value[start..end])?;
    }
    // Behind it are 76 bits.
    if matches!(id >> 76 & 0xf, 0x9..=0xb) {
        id = id & !(0xf << 76) | 0x4 << 76;
    }
    Some(Ids {
        trace: TraceId::new(id.to_be_bytes())?,
        parent: None,
        sampled: None,
    })
}
