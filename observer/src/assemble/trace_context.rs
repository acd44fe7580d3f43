//! What the fields of a request say of the trace that it belongs to, in each of the usual ways.
//!
//! Values are read to the letter, within fixed lengths, and what is not right is not used: a wrong
//! trace is worse than none. Two fields of one kind that differ are wrong as well.

use crate::model::trace::{Propagation, SpanId, TraceContext, TraceId};

/// A field that tells of a trace, or a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Carrier {
    /// `traceparent` (W3C Trace Context, section 3.2).
    TraceParent,
    /// `tracestate` (W3C Trace Context, section 3.3).
    TraceState,
    /// `b3`, the single field of B3.
    B3,
    /// `x-b3-traceid`.
    B3Trace,
    /// `x-b3-spanid`.
    B3Span,
    /// `x-b3-sampled`.
    B3Sampled,
    /// `x-b3-flags`; 1 is for debugging, which implies that the trace is kept.
    B3Flags,
    /// `uber-trace-id` (Jaeger).
    UberTrace,
    /// `x-amzn-trace-id` (AWS X-Ray).
    XRay,
    /// `x-cloud-trace-context` (Google Cloud).
    CloudTrace,
    /// `x-request-id`, where it is a UUID.
    RequestId,
}

/// What was found in the fields of a request; nothing is allocated before the first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collector(Option<Box<Found>>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Found {
    /// By [`Propagation`], in its order.
    told: [Told; KINDS],
    state: State,
    several: Several,
}

/// What the fields of one kind told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Told {
    #[default]
    Nothing,
    Ids(Ids),
    Malformed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ids {
    trace: TraceId,
    parent: Option<SpanId>,
    sampled: Option<bool>,
}

/// The members of `tracestate` so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct State {
    text: String,
    members: u8,
    /// There is no room for the next: none that follows is kept.
    full: bool,
    malformed: bool,
}

/// The fields of B3 that have one thing each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Several {
    trace: Option<TraceId>,
    span: Option<SpanId>,
    sampled: Option<bool>,
    debug: bool,
    malformed: bool,
}

/// Kinds of propagation.
const KINDS: usize = 6;
/// Most that is kept of `tracestate`, bytes (W3C Trace Context, section 3.3.1.5).
const MAX_STATE: usize = 512;
/// Members that `tracestate` may have (W3C Trace Context, section 3.3.1.1).
const MAX_MEMBERS: u8 = 32;
/// Longest value of any field that is read, bytes; of `tracestate` what is longer is not kept.
pub const LONGEST: usize = 1024;
/// Length of `traceparent` of version 00.
const TRACE_PARENT: usize = 55;
/// Length of a UUID as text (RFC 9562 section 4).
const UUID: usize = 36;
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

// === impl Carrier ===

impl Carrier {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::TraceParent,
        Self::TraceState,
        Self::B3,
        Self::B3Trace,
        Self::B3Span,
        Self::B3Sampled,
        Self::B3Flags,
        Self::UberTrace,
        Self::XRay,
        Self::CloudTrace,
        Self::RequestId,
    ];

    /// Name of the field, in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TraceParent => "traceparent",
            Self::TraceState => "tracestate",
            Self::B3 => "b3",
            Self::B3Trace => "x-b3-traceid",
            Self::B3Span => "x-b3-spanid",
            Self::B3Sampled => "x-b3-sampled",
            Self::B3Flags => "x-b3-flags",
            Self::UberTrace => "uber-trace-id",
            Self::XRay => "x-amzn-trace-id",
            Self::CloudTrace => "x-cloud-trace-context",
            Self::RequestId => "x-request-id",
        }
    }

    /// The field that a line of a head of HTTP/1 is, if it is one of these, and its value.
    #[inline]
    pub fn of_line(line: &[u8]) -> Option<(Self, &[u8])> {
        // Most fields are none of these: two letters tell.
        let few: &[Self] = match line.first()?.to_ascii_lowercase() {
            b't' => &[Self::TraceParent, Self::TraceState],
            b'b' => &[Self::B3],
            b'u' => &[Self::UberTrace],
            b'x' => match line.get(2)?.to_ascii_lowercase() {
                b'b' => &[Self::B3Trace, Self::B3Span, Self::B3Sampled, Self::B3Flags],
                b'a' => &[Self::XRay],
                b'c' => &[Self::CloudTrace],
                b'r' => &[Self::RequestId],
                _ => return None,
            },
            _ => return None,
        };
        few.iter().find_map(|carrier| {
            let wanted = carrier.name().as_bytes();
            let (name, rest) = line.split_at_checked(wanted.len())?;
            let value = rest.strip_prefix(b":")?;
            name.eq_ignore_ascii_case(wanted)
                .then_some((*carrier, value))
        })
    }

    /// The part of a value that may be kept: none that cannot be what the field is for.
    pub fn cut(self, value: &[u8]) -> &[u8] {
        match self {
            // It may be anything that an application likes.
            Self::RequestId if value.len() != UUID => b"",
            _ => &value[..value.len().min(LONGEST)],
        }
    }
}

// === impl Collector ===

impl Collector {
    /// Takes a field; white space around its value does not matter.
    pub fn push(&mut self, carrier: Carrier, value: &[u8]) {
        let value = value.trim_ascii();
        let ids = match carrier {
            Carrier::RequestId => match uuid(value) {
                Some(ids) => Some(ids),
                // Any other name of a request is right as well, and tells nothing.
                None => return,
            },
            Carrier::TraceParent => trace_parent(value),
            Carrier::B3 => match value {
                // A decision without a trace.
                b"0" | b"1" | b"d" => return,
                _ => b3(value),
            },
            Carrier::UberTrace => uber_trace(value),
            Carrier::XRay => x_ray(value),
            Carrier::CloudTrace => cloud_trace(value),
            Carrier::TraceState => return self.found().state.push(value),
            Carrier::B3Trace | Carrier::B3Span | Carrier::B3Sampled | Carrier::B3Flags => {
                return self.found().several.push(carrier, value);
            }
        };
        let propagation = match carrier {
            Carrier::B3 => Propagation::B3,
            Carrier::UberTrace => Propagation::Jaeger,
            Carrier::XRay => Propagation::XRay,
            Carrier::CloudTrace => Propagation::CloudTrace,
            Carrier::RequestId => Propagation::RequestId,
            _ => Propagation::TraceContext,
        };
        if let Some(told) = self.found().told.get_mut(propagation as usize) {
            told.add(ids);
        }
    }

    /// Forgets all fields.
    pub fn clear(&mut self) {
        self.0 = None;
    }

    /// What the strongest of the fields that are right tell.
    pub fn context(&self) -> Option<TraceContext> {
        const ORDER: [Propagation; KINDS] = [
            Propagation::TraceContext,
            Propagation::B3,
            Propagation::Jaeger,
            Propagation::XRay,
            Propagation::CloudTrace,
            Propagation::RequestId,
        ];
        let found = self.0.as_deref()?;
        let (propagation, ids) =
            ORDER
                .into_iter()
                .zip(found.told())
                .find_map(|(propagation, told)| match told {
                    Told::Ids(ids) => Some((propagation, ids)),
                    Told::Nothing | Told::Malformed => None,
                })?;
        let state = match propagation {
            Propagation::TraceContext if !found.state.malformed => found.state.text.as_str(),
            _ => "",
        };
        Some(TraceContext {
            propagation,
            trace: ids.trace,
            parent: ids.parent,
            sampled: ids.sampled,
            state: state.into(),
        })
    }

    /// How many kinds of fields were there and could not be read.
    pub fn malformed(&self) -> u64 {
        let Some(found) = &self.0 else { return 0 };
        let kinds = found.told().into_iter();
        let count = kinds.filter(|told| *told == Told::Malformed).count();
        count as u64 + u64::from(found.state.malformed)
    }

    fn found(&mut self) -> &mut Found {
        self.0.get_or_insert_default()
    }
}

// === impl Found ===

impl Found {
    /// What each kind told. Of B3 the single field is the stronger one.
    fn told(&self) -> [Told; KINDS] {
        let mut told = self.told;
        let b3 = &mut told[Propagation::B3 as usize];
        if *b3 == Told::Nothing {
            *b3 = self.several.told();
        }
        told
    }
}

// === impl Told ===

impl Told {
    /// Takes what one more field told, `None` when it could not be read.
    fn add(&mut self, ids: Option<Ids>) {
        *self = match (*self, ids) {
            (Self::Nothing, Some(ids)) => Self::Ids(ids),
            (Self::Ids(old), Some(ids)) if old == ids => Self::Ids(old),
            _ => Self::Malformed,
        };
    }
}

// === impl State ===

impl State {
    /// Takes a list of members; the lists of several fields are one (RFC 9110 section 5.3).
    fn push(&mut self, value: &[u8]) {
        for member in value.split(|byte| *byte == b',') {
            let Ok(member) = std::str::from_utf8(member.trim_ascii()) else {
                self.malformed = true;
                return;
            };
            if member.is_empty() || self.full || self.malformed {
                continue;
            }
            let separator = usize::from(!self.text.is_empty());
            if self.text.len() + separator + member.len() > MAX_STATE {
                self.full = true;
                continue;
            }
            self.members += 1;
            if self.members > MAX_MEMBERS || !is_member(member) {
                self.malformed = true;
                continue;
            }
            if separator > 0 {
                self.text.push(',');
            }
            self.text.push_str(member);
        }
    }
}

/// `key=value` (W3C Trace Context, section 3.3.1.3).
fn is_member(member: &str) -> bool {
    let Some((key, value)) = member.split_once('=') else {
        return false;
    };
    let of_key =
        |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/' | b'@');
    let starts = matches!(key.bytes().next(), Some(b'a'..=b'z' | b'0'..=b'9'));
    starts
        && key.len() <= 256
        && key.bytes().all(of_key)
        && (1..=256).contains(&value.len())
        && value
            .bytes()
            .all(|byte| matches!(byte, b' '..=b'~') && byte != b'=')
}

// === impl Several ===

impl Several {
    fn push(&mut self, carrier: Carrier, value: &[u8]) {
        let right = match carrier {
            Carrier::B3Trace => put(&mut self.trace, b3_trace(value)),
            Carrier::B3Span => put(&mut self.span, exact_span(value)),
            Carrier::B3Sampled => put(&mut self.sampled, decision(value)),
            // Other flags are of no interest.
            _ => {
                self.debug |= value == b"1";
                true
            }
        };
        self.malformed |= !right;
    }

    /// A decision without a trace tells nothing.
    fn told(&self) -> Told {
        match self.trace {
            _ if self.malformed => Told::Malformed,
            Some(trace) => Told::Ids(Ids {
                trace,
                parent: self.span,
                sampled: if self.debug { Some(true) } else { self.sampled },
            }),
            None => Told::Nothing,
        }
    }
}

/// Takes a value; false when there is none, or another.
fn put<T: PartialEq>(place: &mut Option<T>, value: Option<T>) -> bool {
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

fn exact_span(digits: &[u8]) -> Option<SpanId> {
    span(digits).filter(|_| digits.len() == 16)
}

/// `version "-" trace-id "-" parent-id "-" trace-flags`, in lower case; of later versions anything
/// may follow a further `-` (W3C Trace Context, sections 3.2.2 and 3.2.4).
fn trace_parent(value: &[u8]) -> Option<Ids> {
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
fn b3(value: &[u8]) -> Option<Ids> {
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
fn b3_trace(digits: &[u8]) -> Option<TraceId> {
    trace(digits).filter(|_| matches!(digits.len(), 16 | 32))
}

fn decision(value: &[u8]) -> Option<bool> {
    match value {
        b"1" | b"d" | b"true" => Some(true),
        b"0" | b"false" => Some(false),
        _ => None,
    }
}

/// `trace:span:parent:flags` without leading zeros, the colons perhaps percent-encoded.
fn uber_trace(value: &[u8]) -> Option<Ids> {
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
fn x_ray(value: &[u8]) -> Option<Ids> {
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
fn cloud_trace(value: &[u8]) -> Option<Ids> {
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
fn uuid(value: &[u8]) -> Option<Ids> {
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

#[cfg(test)]
mod tests;
