//! What the fields of a request say of the trace that it belongs to, in each of the usual ways.
//!
//! Values are read to the letter, within fixed lengths, and what is not right is not used: a wrong
//! trace is worse than none. Two fields of one kind that differ are wrong as well.

mod values;

use self::values::{
    Ids, UUID, b3, b3_trace, cloud_trace, decision, exact_span, put, trace_parent, uber_trace,
    uuid, x_ray,
};
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

    /// A hash of `x-request-id`, where that is a UUID: the same at every hop.
    pub fn request_id(&self) -> Option<u64> {
        let told = self
            .0
            .as_deref()?
            .told
            .get(Propagation::RequestId as usize)?;
        let Told::Ids(ids) = told else { return None };
        // Most of its bits are random: any mixture of both halves will do.
        let id = u128::from_be_bytes(ids.trace.0);
        let (older, newer) = ((id >> 64) as u64, id as u64);
        Some(older.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ newer)
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

#[cfg(test)]
mod tests;
