//! What proxies of a mesh told, in flows.

use serde::Serialize;

use crate::model::exchange::Exchange;

/// What fields of the request and its response that proxies write say; part of
/// [`super::CallLine`], all `null` when they say nothing.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Told<'a> {
    /// The identity of the caller that the nearest proxy vouches for: the URI of
    /// `x-forwarded-client-cert`, or `l5d-client-id`.
    pub forwarded_client: Option<&'a str>,
    /// Which attempt of the proxy it is, from 1 (`x-envoy-attempt-count`).
    pub forwarded_attempt: Option<u16>,
    /// How long the proxy waited for its upstream (`x-envoy-upstream-service-time`).
    pub forwarded_upstream_seconds: Option<f64>,
    /// `true` when the proxy made the response (`l5d-proxy-error`).
    pub forwarded_proxy_error: Option<bool>,
}

// === impl Told ===

impl<'a> Told<'a> {
    /// What was told of `exchange`.
    pub(super) fn of(exchange: &'a Exchange) -> Self {
        let Some(told) = exchange.forwarded.as_deref() else {
            return Self::default();
        };
        Self {
            forwarded_client: told.client_uri.as_deref().or(told.client_id.as_deref()),
            forwarded_attempt: told.attempt,
            forwarded_upstream_seconds: told.upstream.map(|time| time.as_secs_f64()),
            forwarded_proxy_error: told.proxy_error.then_some(true),
        }
    }
}
