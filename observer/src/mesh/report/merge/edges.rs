//! Edges of several reports.

use super::{Word, join_verdicts, least_declared, unite_lists};
use crate::{
    mesh::{
        ledger::{at_least, encrypted, observed, shares},
        report::{Edge, Latency, Measured, Observed, Party},
    },
    model::security::Security,
};

/// Counts by [`Security`].
type Counts = [u64; Security::ALL.len()];

/// Client, server, Service, port, and who carries the traffic of both.
pub(super) type Key = (Party, Party, Option<String>, u16, Word, Word);

/// What tells edges apart.
pub(super) fn key(edge: &Edge) -> Key {
    (
        edge.client.clone(),
        edge.server.clone(),
        edge.service.clone(),
        edge.port,
        edge.client_plane,
        edge.server_plane,
    )
}

/// Adds what another report says of the same edge.
pub(super) fn join(own: &mut Edge, other: Edge) {
    let Edge {
        client: _,
        server: _,
        service: _,
        port: _,
        client_plane: _,
        server_plane: _,
        declared,
        observed: _,
        at_client,
        at_server,
        encrypted_share: _,
        verdict,
        because,
        first_seen,
        last_seen,
        retry_ratio: _,
        first_attempts,
        other_attempts,
        latency,
    } = other;
    least_declared(&mut own.declared, declared);
    let mut ends = [[[0; Security::ALL.len()]; 2]; 2];
    for (end, parts) in ends
        .iter_mut()
        .zip([[&own.at_client, &at_client], [&own.at_server, &at_server]])
    {
        for part in parts {
            add(end, part);
        }
    }
    let [
        [client_connections, client_requests],
        [server_connections, server_requests],
    ] = ends;
    own.at_client = observed(&client_connections, &client_requests);
    own.at_server = observed(&server_connections, &server_requests);
    let connections = at_least(client_connections, server_connections);
    let requests = at_least(client_requests, server_requests);
    own.observed = observed(&connections, &requests);
    own.encrypted_share = encrypted(&requests).or_else(|| encrypted(&connections));
    join_verdicts((&mut own.verdict, &mut own.because), (verdict, because));
    own.first_seen = own.first_seen.min(first_seen);
    own.last_seen = own.last_seen.max(last_seen);
    own.first_attempts = own.first_attempts.saturating_add(first_attempts);
    own.other_attempts = own.other_attempts.saturating_add(other_attempts);
    own.retry_ratio =
        (own.first_attempts > 0).then(|| ratio(own.other_attempts, own.first_attempts));
    join_latencies(&mut own.latency, latency);
}

/// Counts are far below what a float has exactly.
#[expect(clippy::cast_precision_loss, reason = "counts of requests")]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

fn add([connections, requests]: &mut [Counts; 2], seen: &[Observed]) {
    for one in seen {
        let known = Security::ALL
            .into_iter()
            .zip(&mut *connections)
            .zip(&mut *requests);
        for ((security, connections), requests) in known {
            if security.as_str() == one.security {
                *connections = connections.saturating_add(one.connections);
                *requests = requests.saturating_add(one.requests);
            }
        }
    }
}

/// Times are added up by where they were taken: who has the client measures one part of the way, who
/// has the server the other, and what is between both only both of them.
fn join_latencies(own: &mut Latency, other: Latency) {
    let measured = unite_lists(
        [std::mem::take(&mut own.measured), other.measured],
        |it| it.at,
        |own: &mut Measured, other| {
            own.count = own.count.saturating_add(other.count);
            own.nanoseconds = own.nanoseconds.saturating_add(other.nanoseconds);
        },
    );
    *own = shares(measured, own.proxied || other.proxied);
}
