//! Histograms of calls, and requests in flight.

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
};

use crate::model::{
    call::Call,
    exchange::{Exchange, HttpVersion, Outcome, RequestHead},
    security::Security,
    time::Monotonic,
};

use super::{
    contract::{METHODS, OTHER_METHOD, UNKNOWN},
    histogram::{BODY_BYTES, Histogram, REQUEST_SECONDS},
    identity::Interned,
    series::Labels,
};

/// What tells series of calls apart.
#[derive(Clone, Debug)]
pub(super) struct CallKey {
    pub(super) identity: Interned,
    pub(super) route: Arc<str>,
    pub(super) status: Option<u16>,
    pub(super) method: Method,
    pub(super) version: HttpVersion,
    pub(super) scheme: &'static str,
    pub(super) error: Option<&'static str>,
    pub(super) security: Security,
}

/// Histograms of one series of calls.
#[derive(Debug, Default)]
pub(super) struct Calls {
    pub(super) duration: Histogram,
    pub(super) request_body: Histogram,
    pub(super) response_body: Histogram,
}

/// What tells gauges of requests in flight apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ActiveKey {
    pub(super) identity: Interned,
    pub(super) method: Method,
    pub(super) scheme: &'static str,
}

/// Requests in flight when last looked.
#[derive(Debug, Default)]
pub(super) struct Active {
    pub(super) count: u64,
    pub(super) oldest: Option<Monotonic>,
}

/// A request method that may be a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Method(u8);

/// `url.scheme` of a request.
pub(super) fn scheme(head: &RequestHead) -> &'static str {
    match head.scheme.as_deref() {
        Some(scheme) if scheme.eq_ignore_ascii_case("http") => "http",
        Some(scheme) if scheme.eq_ignore_ascii_case("https") => "https",
        Some(_) => OTHER_METHOD,
        // HTTP/1 says it to proxies only; what we can read is not encrypted.
        None if head.version != HttpVersion::Http2 => "http",
        None => UNKNOWN,
    }
}

// === impl CallKey ===

impl CallKey {
    pub(super) fn new(identity: Interned, call: &Call) -> Self {
        let Exchange {
            request, status, ..
        } = &call.exchange;
        Self {
            identity,
            route: call.route.clone(),
            status: *status,
            method: Method::of(&request.method),
            version: request.version,
            scheme: scheme(request),
            error: call.http_error,
            security: call.link.security,
        }
    }

    /// `call` has this key, given that it has the same identity. Pointers decide most cases.
    pub(super) fn fits(&self, call: &Call) -> bool {
        let Exchange {
            request, status, ..
        } = &call.exchange;
        self.status == *status
            && self.version == request.version
            && self.method.is(&request.method)
            && self.scheme == scheme(request)
            && self.error == call.http_error
            && self.security == call.link.security
            && (Arc::ptr_eq(&self.route, &call.route) || self.route == call.route)
    }

    pub(super) fn labels(&self) -> Labels {
        let status = self
            .status
            .map(|status| status.to_string())
            .unwrap_or_default();
        self.identity.0.labels(&[
            ("http_request_method", self.method.as_str()),
            ("http_route", &self.route),
            ("http_response_status_code", &status),
            ("network_protocol_version", self.version.as_str()),
            ("url_scheme", self.scheme),
            ("error_type", self.error.unwrap_or_default()),
            ("security", self.security.as_str()),
        ])
    }
}

impl PartialEq for CallKey {
    fn eq(&self, other: &Self) -> bool {
        self.identity == other.identity
            && self.status == other.status
            && self.method == other.method
            && self.version == other.version
            && self.scheme == other.scheme
            && self.error == other.error
            && self.security == other.security
            && self.route == other.route
    }
}

impl Eq for CallKey {}

impl Hash for CallKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.identity.hash(state);
        self.status.hash(state);
        self.method.hash(state);
        self.route.hash(state);
    }
}

// === impl Calls ===

impl Calls {
    pub(super) fn observe(&mut self, exchange: &Exchange) {
        // The end of a lost exchange was not seen: its duration and sizes would be guesses.
        if exchange.outcome == Outcome::Lost {
            return;
        }
        self.duration
            .observe_duration(&REQUEST_SECONDS, exchange.duration());
        self.request_body
            .observe(&BODY_BYTES, exchange.sent.body_bytes);
        if let Some(response) = exchange.received {
            self.response_body.observe(&BODY_BYTES, response.body_bytes);
        }
    }
}

// === impl ActiveKey ===

impl ActiveKey {
    pub(super) fn labels(&self) -> Labels {
        self.identity.0.labels(&[
            ("http_request_method", self.method.as_str()),
            ("url_scheme", self.scheme),
        ])
    }
}

// === impl Method ===

impl Method {
    /// Of a request whose method was not seen.
    const UNKNOWN: Self = Self(u8::MAX - 1);

    /// Methods are case-sensitive (RFC 9110 section 9.1).
    pub(super) fn of(method: &str) -> Self {
        if method.is_empty() {
            return Self::UNKNOWN;
        }
        let known = METHODS.iter().position(|known| *known == method);
        Self(
            known
                .and_then(|index| u8::try_from(index).ok())
                .unwrap_or(u8::MAX),
        )
    }

    fn is(self, method: &str) -> bool {
        METHODS.get(usize::from(self.0)) == Some(&method) || self == Self::of(method)
    }

    pub(super) fn as_str(self) -> &'static str {
        match METHODS.get(usize::from(self.0)) {
            Some(method) => method,
            None if self == Self::UNKNOWN => UNKNOWN,
            None => OTHER_METHOD,
        }
    }
}
