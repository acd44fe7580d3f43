//! Whether servers could take mutual TLS only: who still sends anything else, over a window.

use std::{sync::Arc, time::Duration};

use hashbrown::HashMap;

use super::{Config, edge::Edge, edges::Edges, parties::Known, past::Counts};
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
    counts: Counts,
    declared: Vec<DeclaredMtls>,
    /// Edges that are not of mutual TLS alone.
    others: Vec<(&'a Edge, &'a Known, Counts)>,
}

/// Whether a server is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ready,
    NotReady,
    Insufficient,
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
                .filter(|(_, _, counts)| counts.plaintext + counts.foreign > 0)
                .map(|(edge, client, counts)| report::PlaintextClient {
                    client: (*client.party).clone(),
                    port: edge.key.port,
                    connections: counts.plaintext + counts.foreign,
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
                connections: server.counts.total(),
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
        let summary = match state {
            State::Ready => format!("{} could take mutual TLS only: {why}", party.describe()),
            _ => format!(
                "{} cannot take mutual TLS only yet: {why}",
                party.describe()
            ),
        };
        let reason = |(edge, client, counts): &(&Edge, &Known, Counts)| {
            let connections = counts.plaintext + counts.foreign;
            let text = format!(
                "{} made {connections} connections without mutual TLS to port {}",
                client.party.describe(),
                edge.key.port
            );
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
            summary,
            because: server.others.iter().filter_map(reason).collect(),
            severity: None,
        };
        findings.assert(key, now, &Samples::default(), saying);
        told.push(party.clone());
    }
    findings.retain(|key, _| key.id != Id::M03 || told.contains(&key.workload));
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
            counts: Counts::default(),
            declared: Vec::new(),
            others: Vec::new(),
        });
        let counts = edge.past.sum(window, now);
        server.counts.add(counts);
        let accepts = edge.declared.as_deref().map(|told| &told.accepts.value);
        let declared = accepts.map_or(DeclaredMtls::Unknown, |accepts: &Accepts| {
            super::verdict::declared(accepts)
        });
        server.declared.push(declared);
        if counts.mutual < counts.total() {
            server.others.push((edge, client, counts));
        }
    }
    servers.into_values().collect()
}

// === impl Server ===

impl Server<'_> {
    /// What is declared for all of its ports that were seen: the least of it.
    fn declared(&self) -> DeclaredMtls {
        let least = |mtls: &DeclaredMtls| match mtls {
            DeclaredMtls::Disabled => 0,
            DeclaredMtls::Permissive => 1,
            DeclaredMtls::Unknown => 2,
            DeclaredMtls::NoMesh => 3,
            DeclaredMtls::Strict => 4,
        };
        let least = self.declared.iter().copied().min_by_key(least);
        least.unwrap_or_default()
    }

    fn state(&self, config: &Config, window: Duration, observed: Duration) -> (State, String) {
        let counts = self.counts;
        let not_mutual = counts.plaintext + counts.foreign;
        if not_mutual > 0 {
            let clients = self
                .others
                .iter()
                .filter(|(_, _, counts)| counts.plaintext + counts.foreign > 0)
                .count();
            let tls = match counts.foreign {
                0 => String::new(),
                foreign => format!(", {foreign} of them with TLS of their own"),
            };
            let why = format!(
                "{not_mutual} of {} connections were not of mutual TLS{tls}, from {clients} \
                 clients",
                counts.total()
            );
            return (State::NotReady, why);
        }
        if counts.unknown > 0 {
            let why = format!(
                "of {} of {} connections it is not known how they were secured",
                counts.unknown,
                counts.total()
            );
            return (State::Insufficient, why);
        }
        if counts.total() < config.minimum.max(1) {
            let why = format!(
                "{} connections are too few to tell; it takes {}",
                counts.total(),
                config.minimum.max(1)
            );
            return (State::Insufficient, why);
        }
        if observed.as_secs_f64() < window.as_secs_f64() * OBSERVED {
            let hours = |time: Duration| time.as_secs_f64() / 3600.0;
            let why = format!(
                "{:.1} of {:.1} hours were observed: who calls seldom may be missing",
                hours(observed),
                hours(window)
            );
            return (State::Insufficient, why);
        }
        let why = format!("all {} connections were of mutual TLS", counts.total());
        (State::Ready, why)
    }
}

// === impl State ===

impl State {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "READY",
            Self::NotReady => "NOT READY",
            Self::Insufficient => "INSUFFICIENT",
        }
    }
}
