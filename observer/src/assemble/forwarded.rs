//! What the fields that proxies of a mesh write say of a call: who sent it, which attempt it is, how
//! long the proxy waited.
//!
//! A proxy replaces or appends such a field, so the last one of a name is the nearest proxy's, and
//! the only one that counts. What is not right to the letter tells nothing. Of certificates only the
//! URI is ever kept.

use std::{
    hash::{BuildHasher as _, Hash as _, Hasher as _},
    sync::Arc,
    time::Duration,
};

use crate::model::mesh::Forwarded;

/// A field that a proxy writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mark {
    /// `x-forwarded-client-cert` of a request (Envoy).
    ClientCertificate,
    /// `l5d-client-id` of a request (Linkerd).
    ClientId,
    /// `x-envoy-attempt-count` of a request.
    AttemptCount,
    /// `x-envoy-upstream-service-time` of a response.
    UpstreamTime,
    /// `l5d-proxy-error` of a response (Linkerd); what it says is not kept.
    ProxyError,
    /// `server` of a response, where it is Envoy.
    Server,
}

/// What the fields of a request say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked<'a> {
    /// URI of the client's certificate; empty when there is none.
    pub client_uri: &'a [u8],
    /// Name of the client; empty when there is none.
    pub client_id: &'a [u8],
    /// Which attempt it is, from 1.
    pub attempt: Option<u16>,
}

/// What the fields of a response say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answered {
    /// How long the proxy waited for whom it asked, milliseconds.
    pub upstream: Option<u32>,
    /// The proxy made the response.
    pub proxy_error: bool,
    /// Envoy sent it.
    pub by_envoy: bool,
}

/// What was told lately, with one place for each hash: equal values are one allocation. What is
/// looked up is compared in full, so a collision costs an allocation and nothing else.
#[derive(Debug)]
pub struct Cache {
    told: Vec<Option<Arc<Forwarded>>>,
    names: Vec<Option<Arc<str>>>,
    hasher: foldhash::fast::RandomState,
}

/// Longest name of a client that is kept, bytes.
pub const LONGEST: usize = 512;
/// Places for names of clients.
const NAMES: usize = 256;
/// Places for all that proxies tell: clients, attempts and times, combined.
const TOLD: usize = 512;

// === impl Mark ===

impl Mark {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::ClientCertificate,
        Self::ClientId,
        Self::AttemptCount,
        Self::UpstreamTime,
        Self::ProxyError,
        Self::Server,
    ];

    /// Name of the field, in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ClientCertificate => "x-forwarded-client-cert",
            Self::ClientId => "l5d-client-id",
            Self::AttemptCount => "x-envoy-attempt-count",
            Self::UpstreamTime => "x-envoy-upstream-service-time",
            Self::ProxyError => "l5d-proxy-error",
            Self::Server => "server",
        }
    }

    /// The field that a line of a head of HTTP/1 is, if it is one of these, and its value.
    #[inline]
    pub fn of_line<const REQUEST: bool>(line: &[u8]) -> Option<(Self, &[u8])> {
        // Most fields are none of these: two letters tell.
        let first = line.first()?.to_ascii_lowercase();
        let few: &[Self] = match (REQUEST, first, line.get(2)?.to_ascii_lowercase()) {
            (true, b'x', b'f') => &[Self::ClientCertificate],
            (true, b'x', b'e') => &[Self::AttemptCount],
            (true, b'l', b'd') => &[Self::ClientId],
            (false, b'x', b'e') => &[Self::UpstreamTime],
            (false, b'l', b'd') => &[Self::ProxyError],
            (false, b's', b'r') => &[Self::Server],
            _ => return None,
        };
        few.iter().find_map(|mark| {
            let wanted = mark.name().as_bytes();
            let (name, rest) = line.split_at_checked(wanted.len())?;
            let value = rest.strip_prefix(b":")?;
            name.eq_ignore_ascii_case(wanted).then_some((*mark, value))
        })
    }

    /// The part of a value that is of interest, and may be kept; empty when it is not right.
    pub fn cut(self, value: &[u8]) -> &[u8] {
        let value = value.trim_ascii();
        let right = match self {
            Self::ClientCertificate => return client_uri(value),
            Self::ClientId => is_client(value),
            Self::AttemptCount | Self::UpstreamTime => {
                (1..=9).contains(&value.len()) && value.iter().all(u8::is_ascii_digit)
            }
            Self::ProxyError => false,
            Self::Server => matches!(value, b"envoy" | b"istio-envoy"),
        };
        if right { value } else { b"" }
    }
}

/// The first URI in the last element of `x-forwarded-client-cert`: elements are separated by commas,
/// their pairs by semicolons, and neither counts within quotes. Empty when there is none, or the
/// value is malformed anywhere: what an element is depends on all before it.
fn client_uri(value: &[u8]) -> &[u8] {
    let mut found: Option<&[u8]> = None;
    let mut rest = value;
    loop {
        let Some((name, after)) = split_once(rest, b'=') else {
            return b"";
        };
        let Some((text, behind)) = pair_value(after) else {
            return b"";
        };
        if name.trim_ascii().eq_ignore_ascii_case(b"uri") {
            found = found.or(Some(text));
        }
        match behind.split_first() {
            Some((b';', next)) => rest = next,
            Some((b',', next)) => {
                found = None;
                rest = next;
            }
            Some(_) => return b"",
            None => break,
        }
    }
    match found {
        Some(uri) if is_client(uri) => uri,
        _ => b"",
    }
}

/// A value of a pair, without its quotes, and what is behind it: a separator, or nothing.
fn pair_value(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let Some(quoted) = bytes.strip_prefix(b"\"") else {
        let end = memchr::memchr2(b';', b',', bytes).unwrap_or(bytes.len());
        return bytes.split_at_checked(end);
    };
    let mut from = 0;
    loop {
        let at = from + memchr::memchr2(b'"', b'\\', quoted.get(from..)?)?;
        if quoted.get(at) == Some(&b'"') {
            return Some((quoted.get(..at)?, quoted.get(at + 1..)?));
        }
        // What is behind a backslash ends nothing.
        from = at + 2;
    }
}

fn split_once(bytes: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = memchr::memchr(separator, bytes)?;
    Some((bytes.get(..at)?, bytes.get(at + 1..)?))
}

/// Whether it may be the name of a client: a URI or a DNS name, neither of which has quotes, spaces
/// or backslashes.
fn is_client(value: &[u8]) -> bool {
    let inner = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\' | b',' | b';');
    (1..=LONGEST).contains(&value.len()) && value.iter().all(inner)
}

/// The number that a value is, if it is one.
pub fn number<T: std::str::FromStr>(value: &[u8]) -> Option<T> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

// === impl Asked ===

impl<'a> Asked<'a> {
    /// Takes a field of a request, of which [`Mark::cut`] left `value`.
    pub fn push(&mut self, mark: Mark, value: &'a [u8]) {
        match mark {
            Mark::ClientCertificate => self.client_uri = value,
            Mark::ClientId => self.client_id = value,
            Mark::AttemptCount => self.attempt = attempt(value),
            Mark::UpstreamTime | Mark::ProxyError | Mark::Server => {}
        }
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Attempts count from 1.
pub fn attempt(value: &[u8]) -> Option<u16> {
    number(value).filter(|attempt| *attempt > 0)
}

// === impl Answered ===

impl Answered {
    /// Takes a field of a response, of which [`Mark::cut`] left `value`.
    pub fn push(&mut self, mark: Mark, value: &[u8]) {
        match mark {
            Mark::UpstreamTime => self.upstream = number(value),
            Mark::ProxyError => self.proxy_error = true,
            Mark::Server => self.by_envoy = !value.is_empty(),
            Mark::ClientCertificate | Mark::ClientId | Mark::AttemptCount => {}
        }
    }

    fn upstream(self) -> Option<Duration> {
        self.upstream.map(|time| Duration::from_millis(time.into()))
    }
}

// === impl Cache ===

impl Default for Cache {
    fn default() -> Self {
        Self {
            told: vec![None; TOLD],
            names: vec![None; NAMES],
            hasher: foldhash::fast::RandomState::default(),
        }
    }
}

impl Cache {
    /// What a request tells, shared with all that told the same; `None` when it tells nothing. One
    /// with an id of its own is like no other, and shares its names only.
    pub fn asked(&mut self, asked: &Asked<'_>, request_id: Option<u64>) -> Option<Arc<Forwarded>> {
        if asked.is_empty() && request_id.is_none() {
            return None;
        }
        if request_id.is_some() {
            let mut told = self.own(asked, Answered::default());
            told.request_id = request_id;
            return Some(Arc::new(told));
        }
        Some(self.shared(asked, Answered::default()))
    }

    /// What request and response tell together.
    pub fn answered(
        &mut self,
        asked: Option<Arc<Forwarded>>,
        answered: Answered,
    ) -> Option<Arc<Forwarded>> {
        if answered == Answered::default() {
            return asked;
        }
        let Some(mut asked) = asked else {
            return Some(self.shared(&Asked::default(), answered));
        };
        if asked.request_id.is_some() {
            // Nobody else has it: it is changed in place.
            let told = Arc::make_mut(&mut asked);
            told.upstream = answered.upstream();
            told.proxy_error = answered.proxy_error;
            told.by_envoy = answered.by_envoy;
            return Some(asked);
        }
        let asked = Asked {
            client_uri: asked.client_uri.as_deref().unwrap_or_default().as_bytes(),
            client_id: asked.client_id.as_deref().unwrap_or_default().as_bytes(),
            attempt: asked.attempt,
        };
        Some(self.shared(&asked, answered))
    }

    fn shared(&mut self, asked: &Asked<'_>, answered: Answered) -> Arc<Forwarded> {
        let mut hasher = self.hasher.build_hasher();
        asked.client_uri.hash(&mut hasher);
        asked.client_id.hash(&mut hasher);
        (asked.attempt, answered.upstream).hash(&mut hasher);
        (answered.proxy_error, answered.by_envoy).hash(&mut hasher);
        let index = hasher.finish() as usize % TOLD;
        if let Some(Some(told)) = self.told.get(index)
            && is_same(told, asked, answered)
        {
            return Arc::clone(told);
        }
        let told = Arc::new(self.own(asked, answered));
        if let Some(place) = self.told.get_mut(index) {
            *place = Some(Arc::clone(&told));
        }
        told
    }

    fn own(&mut self, asked: &Asked<'_>, answered: Answered) -> Forwarded {
        Forwarded {
            client_uri: self.name(asked.client_uri),
            client_id: self.name(asked.client_id),
            attempt: asked.attempt,
            request_id: None,
            upstream: answered.upstream(),
            proxy_error: answered.proxy_error,
            by_envoy: answered.by_envoy,
        }
    }

    /// The shared text that a name is; `None` for an empty one.
    fn name(&mut self, name: &[u8]) -> Option<Arc<str>> {
        if name.is_empty() {
            return None;
        }
        let index = self.hasher.hash_one(name) as usize % NAMES;
        let place = self.names.get_mut(index)?;
        match place {
            Some(text) if text.as_bytes() == name => Some(Arc::clone(text)),
            _ => {
                let text: Arc<str> = std::str::from_utf8(name).ok()?.into();
                *place = Some(Arc::clone(&text));
                Some(text)
            }
        }
    }
}

fn is_same(told: &Forwarded, asked: &Asked<'_>, answered: Answered) -> bool {
    let name = |text: &Option<Arc<str>>, bytes: &[u8]| {
        text.as_deref().unwrap_or_default().as_bytes() == bytes
    };
    name(&told.client_uri, asked.client_uri)
        && name(&told.client_id, asked.client_id)
        && told.attempt == asked.attempt
        && told.request_id.is_none()
        && told.upstream == answered.upstream()
        && told.proxy_error == answered.proxy_error
        && told.by_envoy == answered.by_envoy
}

#[cfg(test)]
mod tests;
