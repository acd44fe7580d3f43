//! Whether servers could take mutual TLS only: who still sends anything else, over a window.

use std::{sync::Arc, time::Duration};

use hashbrown::HashMap;

use super::{Config, edge::Edge, edges::Edges, parties::Known, past::Totals};
use crate::{
    mesh::{
        decision::{Accepts, Reason},
        findings::{Findings, Id, Key, Samples, Saying, seconds},
        party::WORKLOAD,
        report::{self, Party},
    },
    model::{
        mesh::{DeclaredMtls, Plane},
        time::{Monotonic, WallOffset},
    },
};

/// Share of the window that has to be observed.
const OBSERVED: f64 = 0.98;

/// What is known of a server in a window.
struct Server<'a> {
    known: &'a Known,
    totals: Totals,
    declared: Vec<DeclaredMtls>,
    /// Edges that are not of mutual TLS alone.
    others: Vec<(&'a Edge, &'a Known, Totals)>,
}

/// Whether a server is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::mesh) enum State {
    Ready,
    NotReady,
    Insufficient,
}

/// What tells whether a server is ready.
#[derive(Clone, Copy, Debug)]
pub(in crate::mesh) struct Basis {
    /// Connections in the window.
    pub(in crate::mesh) counts: report::Connections,
    /// How many clients sent something else than mutual TLS.
    pub(in crate::mesh) clients: usize,
    /// Connections below which nothing is said.
    pub(in crate::mesh) minimum: u64,
    /// Window, seconds.
    pub(in crate::mesh) window: f64,
    /// How much of it was observed, seconds.
    pub(in crate::mesh) observed: f64,
}

/// Reports of all servers of the mesh, over a window that ends `now`.
pub(super) fn report(
    edges: &Edges,
    config: &Config,
    window: Duration,
    observed: Duration,
    now: Monotonic,
    offset: WallOffset,
) -> Vec<report::Readiness> {
    let servers = servers(edges, window, now);
    let mut reports: Vec<report::Readiness> = servers
        .iter()
        .map(|server| {
            let (state, why) = server.state(config, window, observed);
            let mut plaintext: Vec<report::PlaintextClient> = server
                .others
                .iter()
                .filter(|(_, _, totals)| totals.once().not_mutual() > 0)
                .map(|(edge, client, totals)| report::PlaintextClient {
                    client: (*client.party).clone(),
                    port: edge.key.port,
                    connections: totals.once().not_mutual(),
                    at_client: totals.at_client().not_mutual(),
                    at_server: totals.at_server().not_mutual(),
                    last_seen: seconds(edge.last_plaintext.unwrap_or(edge.last), offset),
                    address: edge
                        .address
                        .filter(|_| client.party.kind != WORKLOAD)
                        .map(|address| address.to_string()),
                })
                .collect();
            plaintext
                .sort_by(|one, other| (&one.client, one.port).cmp(&(&other.client, other.port)));
            report::Readiness {
                workload: (*server.known.party).clone(),
                state: state.as_str(),
                why,
                declared: server.declared().as_str(),
                window_seconds: window.as_secs_f64(),
                observed_seconds: observed.min(window).as_secs_f64(),
                minimum: config.minimum,
                connections: server.totals.once().total(),
                at_client: server.totals.at_client().report(),
                at_server: server.totals.at_server().report(),
                plaintext,
            }
        })
        .collect();
    reports.sort_by(|one, other| one.workload.cmp(&other.workload));
    reports
}

/// Says of servers that take plaintext too whether they have to.
pub(super) fn find(
    findings: &mut Findings,
    edges: &Edges,
    config: &Config,
    observed: Duration,
    now: Monotonic,
) {
    let servers = servers(edges, config.readiness, now);
    let mut told: Vec<Arc<Party>> = Vec::new();
    for server in &servers {
        let (state, why) = server.state(config, config.readiness, observed);
        let party = &server.known.party;
        if state == State::Insufficient || server.declared() != DeclaredMtls::Permissive {
            continue;
        }
        let reason = |(edge, client, totals): &(&Edge, &Known, Totals)| {
            let connections = totals.once().not_mutual();
            let text = without_mutual(&client.party, connections, edge.key.port);
            (connections > 0).then(|| Reason::plain(text))
        };
        let key = Key {
            id: Id::M03,
            workload: party.clone(),
            peer: None,
            port: 0,
            about: "".into(),
        };
        let saying = Saying {
            summary: summary(party, state, &why),
            because: server.others.iter().filter_map(reason).collect(),
            severity: None,
        };
        findings.assert(key, now, &Samples::default(), saying);
        told.push(party.clone());
    }
    findings.retain(|key, _| key.id != Id::M03 || told.contains(&key.workload));
}

/// Place of what is declared, the least protection first, and then what is not known.
fn least(mtls: &DeclaredMtls) -> u8 {
    match mtls {
        DeclaredMtls::Disabled => 0,
        DeclaredMtls::Permissive => 1,
        DeclaredMtls::Unknown => 2,
        DeclaredMtls::NoMesh => 3,
        DeclaredMtls::Strict => 4,
    }
}

/// What finding M03 says.
pub(in crate::mesh) fn summary(server: &Party, state: State, why: &str) -> String {
    let server = server.describe();
    match state {
        State::Ready => format!("{server} could take mutual TLS only: {why}"),
        State::NotReady | State::Insufficient => {
            format!("{server} cannot take mutual TLS only yet: {why}")
        }
    }
}

/// Why a server is not ready.
pub(in crate::mesh) fn without_mutual(client: &Party, connections: u64, port: u16) -> String {
    format!(
        "{} made {connections} connections without mutual TLS to port {port}",
        client.describe()
    )
}

fn servers(edges: &Edges, window: Duration, now: Monotonic) -> Vec<Server<'_>> {
    let mut servers: HashMap<u32, Server<'_>> = HashMap::new();
    for edge in edges.iter().filter(|edge| edge.exempt.is_none()) {
        let (Some(client), Some(known)) =
            (edges.known(edge.key.client), edges.known(edge.key.server))
        else {
            continue;
        };
        if known.plane == Plane::None || known.pod.is_none() {
            continue;
        }
        let server = servers.entry(edge.key.server).or_insert_with(|| Server {
            known,
            totals: Totals::default(),
            declared: Vec::new(),
            others: Vec::new(),
        });
        let totals = edge.past.sum(window, now);
        server.totals.add(totals);
        let accepts = edge.declared.as_deref().map(|told| &told.accepts.value);
        let declared = accepts.map_or(DeclaredMtls::Unknown, |accepts: &Accepts| {
            super::verdict::declared(accepts)
        });
        server.declared.push(declared);
        let counts = totals.once();
        if counts.mutual < counts.total() {
            server.others.push((edge, client, totals));
        }
    }
    servers.into_values().collect()
}

// === impl Server ===

impl Server<'_> {
    /// What is declared for all of its ports that were seen: the least of it.
    fn declared(&self) -> DeclaredMtls {
        let least = self.declared.iter().copied().min_by_key(least);
        least.unwrap_or_default()
    }

    fn state(&self, config: &Config, window: Duration, observed: Duration) -> (State, String) {
        let others = self.others.iter();
        let basis = Basis {
            counts: self.totals.once().report(),
            clients: others
                .filter(|(_, _, totals)| totals.once().not_mutual() > 0)
                .count(),
            minimum: config.minimum,
            window: window.as_secs_f64(),
            observed: observed.as_secs_f64(),
        };
        basis.state()
    }
}

// === impl Basis ===

impl Basis {
    /// Whether the server is ready, and why.
    pub(in crate::mesh) fn state(self) -> (State, String) {
        let report::Connections {
            mutual,
            plaintext,
            foreign,
            unknown,
        } = self.counts;
        let not_mutual = plaintext + foreign;
        let total = mutual + not_mutual + unknown;
        let minimum = self.minimum.max(1);
        if not_mutual > 0 {
            let tls = match foreign {
                0 => String::new(),
                foreign => format!(", {foreign} of them with TLS of their own"),
            };
            let clients = match self.clients {
                1 => "1 client".to_owned(),
                clients => format!("{clients} clients"),
            };
            let why = format!(
                "{not_mutual} of {total} connections were not of mutual TLS{tls}, from {clients}"
            );
            return (State::NotReady, why);
        }
        if unknown > 0 {
            let why = format!(
                "of {unknown} of {total} connections it is not known how they were secured"
            );
            return (State::Insufficient, why);
        }
        if total < minimum {
            let why = format!("{total} connections are too few to tell; it takes {minimum}");
            return (State::Insufficient, why);
        }
        if self.observed < self.window * OBSERVED {
            let hours = |seconds: f64| seconds / 3600.0;
            let why = format!(
                "{:.1} of {:.1} hours were observed: who calls seldom may be missing",
                hours(self.observed),
                hours(self.window)
            );
            return (State::Insufficient, why);
        }
        let why = format!("all {total} connections were of mutual TLS");
        (State::Ready, why)
    }
}

// === impl State ===

impl State {
    pub(in crate::mesh) const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "READY",
            Self::NotReady => "NOT READY",
            Self::Insufficient => "INSUFFICIENT",
        }
    }
}
