//! What of a report is answered to which question: by an agent of its own node, and by the command
//! line of several agents together.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    Authorization, Edge, Finding, Ignored, Misunderstood, Observed, Party, Readiness, Reason,
    Report, Route, Split, Usage, Word,
};

/// A question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// What is wrong.
    Findings,
    /// Who talks to whom, with retries and where time goes.
    Edges,
    /// Encryption, declared and observed.
    Mtls,
    /// Which servers could take mutual TLS only.
    Readiness,
    /// Declared and observed shares of backends.
    Split,
    /// Rules of routes.
    Routes,
    /// What policy says of requests, and what was done.
    Authz,
}

/// The answer: one JSON object.
#[derive(Debug, Serialize)]
pub struct Answer {
    /// See [`Report::observed_seconds`].
    observed_seconds: f64,
    #[serde(flatten)]
    lists: Lists,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Lists {
    Findings {
        findings: Vec<Finding>,
        misunderstood: Vec<Misunderstood>,
        ignored: Vec<Ignored>,
    },
    Edges {
        edges: Vec<Edge>,
    },
    Mtls {
        namespaces: Vec<Namespace>,
        edges: Vec<Secured>,
    },
    Readiness {
        readiness: Vec<Readiness>,
    },
    Split {
        splits: Vec<Split>,
    },
    Routes {
        routes: Vec<Route>,
        uses: Vec<Usage>,
    },
    Authz {
        authorizations: Vec<Authorization>,
        grants: Vec<Usage>,
    },
}

/// The edges to servers of a namespace, counted.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Namespace {
    /// Name; empty for servers without one.
    pub namespace: String,
    /// All that there are.
    pub edges: usize,
    /// Those of which everything was encrypted.
    pub encrypted: usize,
    /// Those with some plaintext, or nothing but plaintext.
    pub plaintext: usize,
    /// Those that are what was declared.
    pub satisfied: usize,
    /// Those that are not.
    pub violated: usize,
    /// Those of which that cannot be told.
    pub unknown: usize,
}

/// What of an edge is about encryption; as in [`Edge`].
#[derive(Debug, Serialize)]
struct Secured {
    client: Party,
    server: Party,
    service: Option<String>,
    port: u16,
    client_plane: Word,
    server_plane: Word,
    declared: Word,
    observed: Vec<Observed>,
    at_client: Vec<Observed>,
    at_server: Vec<Observed>,
    encrypted_share: Option<f64>,
    verdict: Word,
    because: Vec<Reason>,
    first_seen: f64,
    last_seen: f64,
}

// === impl View ===

impl View {
    /// Where an agent answers it.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Findings => "/api/v1/findings",
            Self::Edges => "/api/v1/mesh",
            Self::Mtls => "/api/v1/mesh/mtls",
            Self::Readiness => "/api/v1/mesh/readiness",
            Self::Split => "/api/v1/mesh/split",
            Self::Routes => "/api/v1/mesh/routes",
            Self::Authz => "/api/v1/mesh/authz",
        }
    }
}

// === impl Answer ===

impl Answer {
    /// What of a report belongs to a question.
    pub fn new(view: View, report: Report) -> Self {
        let Report {
            observed_seconds,
            edges,
            findings,
            readiness,
            splits,
            routes,
            authorizations,
            grants,
            uses,
            misunderstood,
            ignored,
        } = report;
        let lists = match view {
            View::Findings => Lists::Findings {
                findings,
                misunderstood,
                ignored,
            },
            View::Edges => Lists::Edges { edges },
            View::Mtls => Lists::Mtls {
                namespaces: Namespace::of(&edges),
                edges: edges.into_iter().map(Secured::from).collect(),
            },
            View::Readiness => Lists::Readiness { readiness },
            View::Split => Lists::Split { splits },
            View::Routes => Lists::Routes { routes, uses },
            View::Authz => Lists::Authz {
                authorizations,
                grants,
            },
        };
        Self {
            observed_seconds,
            lists,
        }
    }
}

// === impl Namespace ===

impl Namespace {
    /// Counts edges by the namespace of their server, sorted by name.
    pub fn of(edges: &[Edge]) -> Vec<Self> {
        let mut found: BTreeMap<&str, Self> = BTreeMap::new();
        for edge in edges {
            let namespace = edge.server.namespace.as_str();
            let counts = found.entry(namespace).or_default();
            counts.edges += 1;
            match edge.encrypted_share {
                Some(share) if share >= 1.0 => counts.encrypted += 1,
                Some(_) => counts.plaintext += 1,
                None => {}
            }
            match edge.verdict {
                "satisfied" => counts.satisfied += 1,
                "violated" => counts.violated += 1,
                _ => counts.unknown += 1,
            }
        }
        let named = found.into_iter().map(|(namespace, counts)| Self {
            namespace: namespace.to_owned(),
            ..counts
        });
        named.collect()
    }
}

// === impl Secured ===

impl From<Edge> for Secured {
    fn from(edge: Edge) -> Self {
        Self {
            client: edge.client,
            server: edge.server,
            service: edge.service,
            port: edge.port,
            client_plane: edge.client_plane,
            server_plane: edge.server_plane,
            declared: edge.declared,
            observed: edge.observed,
            at_client: edge.at_client,
            at_server: edge.at_server,
            encrypted_share: edge.encrypted_share,
            verdict: edge.verdict,
            because: edge.because,
            first_seen: edge.first_seen,
            last_seen: edge.last_seen,
        }
    }
}
