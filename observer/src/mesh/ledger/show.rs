//! Edges, and objects that have no effect, as they are reported.

use super::{
    edge::{Edge, Tally},
    edges::Edges,
};
use crate::{
    mesh::{
        findings::{reasons, seconds},
        policy::Policies,
        report::{self, Ignored, Misunderstood, Object, Report},
    },
    model::{security::Security, time::WallOffset},
};

/// By [`Security`].
type Counts = [u64; Security::ALL.len()];

/// An edge as it is reported; `None` when nothing was counted.
pub(super) fn edge(edges: &Edges, edge: &Edge, offset: WallOffset) -> Option<report::Edge> {
    let client = edges.known(edge.key.client)?;
    let server = edges.known(edge.key.server)?;
    let service = edges.known(edge.key.service);
    let (connections, requests) = (edge.connections.combined(), edge.requests.combined());
    let all = [connections, requests].into_iter().flatten();
    if all.sum::<u64>() + edge.failures == 0 {
        // Nothing came of it yet.
        return None;
    }
    let [at_client, at_server] = [0, 1].map(|end| {
        let of = |tally: &Tally| tally.ends().get(end).copied().unwrap_or_default();
        observed(&of(&edge.connections), &of(&edge.requests))
    });
    let (first, again) = edge.attempts;
    Some(report::Edge {
        client: (*client.party).clone(),
        server: (*server.party).clone(),
        service: service.map(|it| format!("{}.{}", it.party.name, it.party.namespace)),
        port: edge.key.port,
        client_plane: client.plane.as_str(),
        server_plane: server.plane.as_str(),
        declared: edge.judged.declared.as_str(),
        observed: observed(&connections, &requests),
        at_client,
        at_server,
        encrypted_share: encrypted(&requests).or_else(|| encrypted(&connections)),
        verdict: edge.judged.verdict.as_str(),
        because: reasons(&edge.judged.because),
        first_seen: seconds(edge.first, offset),
        last_seen: seconds(edge.last, offset),
        retry_ratio: (first > 0).then(|| again as f64 / first as f64),
        first_attempts: first,
        other_attempts: again,
        latency: edge.latency.report(),
    })
}

/// Counts of connections and of requests, those that are not 0.
pub(in crate::mesh) fn observed(connections: &Counts, requests: &Counts) -> Vec<report::Observed> {
    let counts = connections.iter().zip(requests);
    Security::ALL
        .into_iter()
        .zip(counts)
        .filter(|(_, (connections, requests))| *connections + *requests > 0)
        .map(|(security, (connections, requests))| report::Observed {
            security: security.as_str(),
            connections: *connections,
            requests: *requests,
        })
        .collect()
}

/// Objects that are not understood, or in effect nowhere.
pub(super) fn objects(policies: &Policies, report: &mut Report) {
    let misunderstood = policies.misunderstood();
    report.misunderstood = misunderstood
        .map(|(object, problem)| Misunderstood {
            object: Object::from(object),
            problem: problem.clone(),
        })
        .collect();
    report
        .misunderstood
        .sort_by(|one, other| one.object.cmp(&other.object));
    let ignored = policies.ignored();
    report.ignored = ignored
        .map(|(object, reason)| Ignored {
            object: Object::from(object),
            reason,
        })
        .collect();
    report.ignored.sort();
    report.ignored.dedup();
}

/// Share of what is known that was encrypted; `None` of nothing.
pub(in crate::mesh) fn encrypted(counts: &Counts) -> Option<f64> {
    let of = |wanted: fn(Security) -> bool| {
        Security::ALL
            .into_iter()
            .zip(counts)
            .filter(|(security, _)| wanted(*security))
            .map(|(_, count)| *count)
            .sum::<u64>()
    };
    let known = of(|security| security != Security::Unknown);
    let encrypted = of(Security::is_encrypted);
    (known > 0).then(|| encrypted as f64 / known as f64)
}
