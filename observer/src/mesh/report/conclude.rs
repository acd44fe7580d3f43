//! What only the agents of all nodes tell together: which edges are the same, what nobody uses, and
//! who is ready.

use std::collections::{BTreeMap, BTreeSet};

use super::{Edge, Finding, Object, Party, Readiness, Reason, Report, Route, Usage, Word, merge};
use crate::mesh::{
    findings::worst_first,
    ledger::{State, summary, without_mutual},
};

/// Draws conclusions from a merged report, once, after the last [`merge()`](super::merge()).
/// `missing` is how many agents did not answer: of what they see nothing is known, and so nobody is
/// ready.
///
/// Findings that something is never used, or that a server is ready, are those of one node each: they
/// stand only if [`Report::readiness`], [`Report::routes`], [`Report::grants`] and [`Report::uses`] of
/// all do not say otherwise.
pub fn conclude(mut report: Report, missing: usize) -> Report {
    fold(&mut report.edges);
    if missing > 0 {
        for server in &mut report.readiness {
            doubt(server, missing);
        }
    }
    let Report {
        findings,
        readiness,
        routes,
        grants,
        uses,
        ..
    } = &mut report;
    let facts = Facts::new(readiness, routes, grants, uses);
    findings.retain_mut(|finding| facts.stands(finding));
    // Agents may have found what a policy allows in vain at different servers.
    let mut told = BTreeSet::new();
    findings.retain(|finding| finding.id != "M26" || told.insert(finding.about.clone()));
    worst_first(findings);
    report
}

/// A party with who carries its traffic.
type End = (Party, Word);

/// Makes one edge of those that are the same. The server's end of the wire does not tell which Service
/// was dialled, nor, in a tunnel, the port; the client's end may.
fn fold(edges: &mut Vec<Edge>) {
    let client = |edge: &Edge| -> End { (edge.client.clone(), edge.client_plane) };
    let server = |edge: &Edge| -> End { (edge.server.clone(), edge.server_plane) };
    let mut ports: BTreeMap<End, BTreeSet<u16>> = BTreeMap::new();
    for edge in edges.iter().filter(|edge| edge.port != 0) {
        ports.entry(server(edge)).or_default().insert(edge.port);
    }
    // Without a name it stands for many servers.
    let named = |edge: &Edge| !edge.server.name.is_empty();
    for edge in edges.iter_mut().filter(|it| it.port == 0 && named(it)) {
        if let Some(known) = ports.get(&server(edge))
            && let (Some(port), 1) = (known.first(), known.len())
        {
            edge.port = *port;
        }
    }
    let mut services: BTreeMap<(End, End, u16), BTreeSet<String>> = BTreeMap::new();
    for edge in edges.iter() {
        let place = (client(edge), server(edge), edge.port);
        let known = services.entry(place).or_default();
        known.extend(edge.service.clone());
    }
    for edge in edges
        .iter_mut()
        .filter(|it| it.service.is_none() && named(it))
    {
        if let Some(known) = services.get(&(client(edge), server(edge), edge.port))
            && let (Some(service), 1) = (known.first(), known.len())
        {
            edge.service = Some(service.clone());
        }
    }
    *edges = merge::unite_edges(std::mem::take(edges));
}

/// Nobody is ready whom not all were asked about.
fn doubt(server: &mut Readiness, missing: usize) {
    if server.state == State::Ready.as_str() {
        server.state = State::Insufficient.as_str();
        server.why = format!(
            "{missing} agents did not answer; for the others {}",
            server.why
        );
    }
}

/// What all agents know together, by what findings call it.
struct Facts<'a> {
    readiness: BTreeMap<&'a Party, &'a Readiness>,
    routes: BTreeMap<String, &'a Route>,
    grants: BTreeMap<String, Vec<&'a Usage>>,
    used: BTreeSet<String>,
}

/// `VirtualService shop/cart`, as findings name an object.
fn words(object: &Object) -> String {
    format!("{} {}/{}", object.kind, object.namespace, object.name)
}

// === impl Facts ===

impl<'a> Facts<'a> {
    fn new(
        readiness: &'a [Readiness],
        routes: &'a [Route],
        grants: &'a [Usage],
        uses: &'a [Usage],
    ) -> Self {
        let mut by_object: BTreeMap<String, Vec<&Usage>> = BTreeMap::new();
        for grant in grants {
            by_object
                .entry(words(&grant.object))
                .or_default()
                .push(grant);
        }
        Self {
            readiness: readiness.iter().map(|it| (&it.workload, it)).collect(),
            routes: routes
                .iter()
                .map(|route| (format!("{} {} ", words(&route.object), route.rule), route))
                .collect(),
            grants: by_object,
            used: uses
                .iter()
                .filter(|it| it.used)
                .map(|it| format!("{} {}", words(&it.object), it.what))
                .collect(),
        }
    }

    /// Whether a finding stands, which then says what all know.
    fn stands(&self, finding: &mut Finding) -> bool {
        match finding.id {
            "M03" => match self.readiness.get(&finding.workload) {
                Some(server) => ready(finding, server),
                None => true,
            },
            "M15" | "M16" => match self.routes.get(&finding.about) {
                Some(route) => dead(finding, route),
                None => true,
            },
            "M26" => match self.grants.get(&finding.about) {
                Some(grants) => unused(finding, grants),
                None => true,
            },
            "M36" => !self.used.contains(&finding.about),
            _ => true,
        }
    }
}

fn ready(finding: &mut Finding, server: &Readiness) -> bool {
    let states = [State::Ready, State::NotReady];
    let Some(state) = states.into_iter().find(|it| it.as_str() == server.state) else {
        return false;
    };
    if server.declared != "permissive" {
        return false;
    }
    finding.summary = summary(&server.workload, state, &server.why);
    let clients = server.plaintext.iter();
    finding.because = clients
        .map(|it| Reason {
            object: None,
            text: without_mutual(&it.client, it.connections, it.port),
        })
        .collect();
    true
}

fn dead(finding: &mut Finding, route: &Route) -> bool {
    if finding.id == "M15" && finding.count != route.host_requests {
        // Others saw requests to the host too.
        finding.summary = format!(
            "Rule {} of {} matched none of {} requests that were made to {}.",
            route.rule,
            words(&route.object),
            route.host_requests,
            route.host
        );
        finding.count = route.host_requests;
        finding.because.retain(|reason| reason.object.is_some());
    }
    matches!(route.state, "unused" | "shadowed")
}

fn unused(finding: &mut Finding, grants: &[&Usage]) -> bool {
    let idle = grants.iter().filter(|grant| !grant.used);
    let idle: Vec<&str> = idle.map(|grant| &*grant.what).collect();
    let requests = grants
        .iter()
        .map(|it| it.requests)
        .max()
        .unwrap_or_default();
    if requests != finding.count {
        // Others saw requests too, and what is the least for one node is not for all.
        finding.summary = format!(
            "{} allows what none of {requests} requests used: {}.",
            finding.about,
            idle.join(", ")
        );
        finding.count = requests;
        finding.because.retain(|reason| reason.object.is_some());
    }
    !idle.is_empty()
}

#[cfg(test)]
mod tests;
