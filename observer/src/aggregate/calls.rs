//! Histograms of calls, and requests in flight.

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
};

use crate::{
    config::Histograms,
    model::{
        call::Call,
        connection::Role,
        exchange::{Exchange, HttpVersion, Outcome, RequestHead},
        rpc::{Rpc, RpcSystem},
        security::Security,
        time::Monotonic,
        trace::{SpanId, TraceId},
    },
};

use super::{
    Aggregator,
    contract::{METHODS, OTHER_METHOD, UNKNOWN},
    distribution::Distribution,
    histogram::{BODY_BYTES, Histogram, REQUEST_SECONDS},
    identity::Interned,
    rpc::{RpcCalls, RpcKey},
    series::{Handle, Labels, Store},
    service,
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
    pub(super) rpc: Option<RpcSystem>,
}

/// Histograms of one series of calls.
#[derive(Debug)]
pub(super) struct Calls {
    pub(super) duration: Distribution,
    pub(super) request_body: Histogram,
    pub(super) response_body: Histogram,
    /// Of those with a duration, the ones that failed.
    pub(super) failed: u64,
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
            security: call.secured(),
            rpc: call.exchange.rpc.as_ref().map(|rpc| rpc.system),
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
            && self.security == call.secured()
            && self.rpc == call.exchange.rpc.as_ref().map(|rpc| rpc.system)
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
            (
                "rpc_system_name",
                self.rpc.map(RpcSystem::as_str).unwrap_or_default(),
            ),
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
            && self.rpc == other.rpc
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
    /// None yet; durations with exponential buckets or without.
    pub(super) fn new(exponential: bool) -> Self {
        Self {
            duration: Distribution::new(exponential),
            request_body: Histogram::default(),
            response_body: Histogram::default(),
            failed: 0,
        }
    }

    /// Counts a call that ended `now`; `span` is that of the call if it is in the sample.
    pub(super) fn observe(&mut self, call: &Call, span: Option<(TraceId, SpanId)>, now: Monotonic) {
        let exchange = &call.exchange;
        // The end of a lost exchange was not seen: its duration and sizes would be guesses.
        if exchange.outcome == Outcome::Lost {
            return;
        }
        self.duration
            .observe_duration(&REQUEST_SECONDS, exchange.duration(), span, now);
        self.failed += u64::from(call.error.is_some());
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

    /// As spans are named by it: `HTTP` for all that are no label of their own (semantic
    /// conventions for HTTP spans, "Name").
    pub(super) fn in_span_name(self) -> &'static str {
        METHODS.get(usize::from(self.0)).copied().unwrap_or("HTTP")
    }

    pub(super) fn as_str(self) -> &'static str {
        match METHODS.get(usize::from(self.0)) {
            Some(method) => method,
            None if self == Self::UNKNOWN => UNKNOWN,
            None => OTHER_METHOD,
        }
    }
}

// === impl Aggregator ===

impl Aggregator {
    /// Counts a call on a tracked connection, in the series of its last call if that was alike;
    /// returns its service, or `None` when the connection is not tracked as this link.
    pub(super) fn call_tracked(
        &mut self,
        call: &Call,
        span: Option<(TraceId, SpanId)>,
        now: Monotonic,
    ) -> Option<Handle> {
        let role = call.exchange.role;
        let tracked = self.links.table.get_mut(&call.link.connection.id)?;
        if !tracked.is(&call.link, role) {
            return None;
        }
        tracked.used = now;
        let calls = if role == Role::Client {
            &mut self.client
        } else {
            &mut self.server
        };
        let handle = match &tracked.memo {
            Some((key, handle)) if key.fits(call) => Some(*handle),
            _ => None,
        };
        if let Some(value) = handle.and_then(|handle| calls.update(handle, now)) {
            value.observe(call, span, now);
        } else {
            let key = CallKey::new(tracked.identity.clone(), call);
            let handle = observe(calls, &key, call, span, self.config.histograms, now);
            // A key that overflowed may get a series of its own later: ask every time.
            tracked.memo = (!handle.is_overflow()).then_some((key, handle));
        }
        self.edges.call(tracked, call, span, now);
        Some(tracked.service)
    }

    /// Counts a call on a connection that is not tracked, or that carries those of several; returns its
    /// service.
    pub(super) fn call_untracked(
        &mut self,
        call: &Call,
        span: Option<(TraceId, SpanId)>,
        now: Monotonic,
    ) -> Handle {
        let role = call.exchange.role;
        let identity = self.identities.intern_with(&call.link, call.peer(), role);
        let calls = if role == Role::Client {
            &mut self.client
        } else {
            &mut self.server
        };
        let key = CallKey::new(identity.clone(), call);
        observe(calls, &key, call, span, self.config.histograms, now);
        self.edges.call_untracked(call, span, now);
        service(&mut self.services, &identity, now)
    }

    /// Counts a remote procedure call.
    pub(super) fn rpc(
        &mut self,
        call: &Call,
        rpc: &Rpc,
        span: Option<(TraceId, SpanId)>,
        now: Monotonic,
    ) {
        let role = call.exchange.role;
        let identity = match self.links.table.get(&call.link.connection.id) {
            Some(tracked) if call.far.is_none() && tracked.is(&call.link, role) => {
                tracked.identity.clone()
            }
            _ => self.identities.intern_with(&call.link, call.peer(), role),
        };
        let calls = if role == Role::Client {
            &mut self.rpc_client
        } else {
            &mut self.rpc_server
        };
        let key = RpcKey::new(identity, call, rpc);
        let exponential = self.config.histograms.has_native();
        let handle = calls.resolve(&key, now, || (key.labels(), RpcCalls::new(exponential)));
        if let Some(calls) = calls.update(handle, now) {
            calls.observe(&call.exchange, rpc, span, now);
        }
    }
}

/// Counts a call in the series of `key`.
fn observe(
    calls: &mut Store<CallKey, Calls>,
    key: &CallKey,
    call: &Call,
    span: Option<(TraceId, SpanId)>,
    histograms: Histograms,
    now: Monotonic,
) -> Handle {
    let make = || (key.labels(), Calls::new(histograms.has_native()));
    let handle = calls.resolve(key, now, make);
    if let Some(value) = calls.update(handle, now) {
        value.observe(call, span, now);
    }
    handle
}
