//! Splits, routes and authorizations of several reports.

use std::collections::BTreeSet;

use super::{Name, first, join_verdicts, later, name, newer};
use crate::mesh::{
    report::{Authorization, Party, Route, Split, SplitBackend, Word},
    traffic::{Part, Shown},
};

/// Object, rule, and shares as they are declared: host, subset, and the bits of the share.
pub(super) type SplitKey = (Name, String, Vec<(String, String, u64)>);

/// What tells splits apart. Agents that know other shares speak of another split: both are shown.
pub(super) fn split_key(split: &Split) -> SplitKey {
    let backends = split.backends.iter();
    let declared = backends.map(|it| (it.host.clone(), it.subset.clone(), it.declared.to_bits()));
    (name(&split.object), split.rule.clone(), declared.collect())
}

/// Adds what another report says of the same split, and judges it by all requests: those that were
/// sent on one node and served on another are told apart only by both.
pub(super) fn join_splits(own: &mut Split, other: Split) {
    let Split {
        object,
        rule: _,
        host,
        backends,
        requests: _,
        sent,
        strays,
        unclear,
        p_value: _,
        verdict: _,
        why: _,
    } = other;
    newer(&mut own.object, object);
    join_hosts(&mut own.host, &host);
    own.sent = own.sent.saturating_add(sent);
    own.strays = own.strays.saturating_add(strays);
    first(&mut own.unclear, unclear);
    for (own, other) in own.backends.iter_mut().zip(backends) {
        own.served = own.served.saturating_add(other.served);
    }
    let parts = own.backends.iter().map(|it| Part {
        host: &it.host,
        subset: &it.subset,
        share: it.declared,
    });
    let parts: Vec<Part<'_>> = parts.collect();
    let shown = Shown {
        sent: own.sent,
        served: own.backends.iter().map(|it| it.served).collect(),
        strays: own.strays,
        unclear: own.unclear.as_deref(),
    };
    let elsewhere = |here: u64, sent: u64| {
        format!(
            "{here} requests were seen where they were served, and {sent} where they were sent: \
             some nodes were not asked, or have not looked for as long"
        )
    };
    let (standing, _) = shown.standing(&parts, elsewhere);
    own.requests = standing.requests;
    own.p_value = standing.probability;
    own.verdict = standing.verdict.as_str();
    own.why = standing.why;
    for backend in &mut own.backends {
        show(backend, own.requests);
    }
}

/// Counts are far below what a float has exactly.
#[expect(clippy::cast_precision_loss, reason = "counts of requests")]
fn show(backend: &mut SplitBackend, all: u64) {
    backend.requests = backend.served;
    backend.observed = (all > 0).then(|| backend.served as f64 / all as f64);
}

/// Adds what another report says of the same rule: it is dead only if it is so for all of them.
pub(super) fn join_routes(own: &mut Route, other: Route) {
    let Route {
        object,
        rule: _,
        host,
        requests,
        possible_requests,
        host_requests,
        minimum,
        shadowed_by,
        last_seen,
        timeout_seconds,
        retries,
        longest_seconds,
        state: _,
        why: _,
    } = other;
    newer(&mut own.object, object);
    join_hosts(&mut own.host, &host);
    own.requests = own.requests.saturating_add(requests);
    own.possible_requests = own.possible_requests.saturating_add(possible_requests);
    own.host_requests = own.host_requests.saturating_add(host_requests);
    own.minimum = own.minimum.max(minimum);
    first(&mut own.shadowed_by, shadowed_by);
    later(&mut own.last_seen, last_seen);
    later(&mut own.timeout_seconds, timeout_seconds);
    own.retries = own.retries.max(retries);
    later(&mut own.longest_seconds, longest_seconds);
    (own.state, own.why) = state(own);
}

fn state(route: &Route) -> (Word, String) {
    let Route {
        requests,
        possible_requests,
        host_requests,
        ..
    } = route;
    if *requests > 0 {
        return ("used", format!("{requests} requests matched"));
    }
    if *possible_requests > 0 {
        let why = format!("{possible_requests} requests may have matched: not all of them is seen");
        return ("unknown", why);
    }
    if *host_requests < route.minimum {
        let why = format!("only {host_requests} requests to its host were seen");
        return ("unknown", why);
    }
    if let Some(by) = &route.shadowed_by {
        return ("shadowed", format!("rule {by} took requests that match it"));
    }
    let why = format!("none of {host_requests} requests to its host matched");
    ("unused", why)
}

/// Names with commas between, as one list of them.
fn join_hosts(own: &mut String, other: &str) {
    let names = own.split(", ").chain(other.split(", "));
    let names: BTreeSet<&str> = names.filter(|name| !name.is_empty()).collect();
    *own = names.into_iter().collect::<Vec<_>>().join(", ");
}

/// What tells authorizations apart: client, identity, server and port.
pub(super) fn authorization_key(one: &Authorization) -> (Party, Option<String>, Party, u16) {
    (
        one.client.clone(),
        one.identity.clone(),
        one.server.clone(),
        one.port,
    )
}

/// Adds what another report says of the same client and server. A request is judged at one end: where
/// it was served, or, if it was refused, where it was sent.
pub(super) fn join_authorizations(own: &mut Authorization, other: Authorization) {
    let Authorization {
        client: _,
        identity: _,
        server: _,
        port: _,
        allowed,
        denied,
        unknown,
        refused,
        verdict,
        because,
    } = other;
    for (own, other) in [
        (&mut own.allowed, allowed),
        (&mut own.denied, denied),
        (&mut own.unknown, unknown),
        (&mut own.refused, refused),
    ] {
        *own = own.saturating_add(other);
    }
    join_verdicts((&mut own.verdict, &mut own.because), (verdict, because));
}
