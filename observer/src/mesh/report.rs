//! What a mesh was found to do, as plain values: the one place that documents the JSON of
//! `/api/v1/mesh` and `/api/v1/findings`.
//!
//! An agent reports what it sees of its own node: [`merge()`] makes one report of several, and
//! [`conclude()`] says what only all of them tell together. All keys are always there, `null` where nothing is known; keys may be added. Times are seconds
//! since the Unix epoch, durations are seconds, shares go from 0 to 1.

use serde::{Deserialize, Serialize};

use crate::model::policy::ObjectRef;

mod conclude;
mod merge;
mod read;

pub mod answer;

pub use self::{conclude::conclude, merge::merge};

/// One of a few words, which the field that has it lists.
pub type Word = &'static str;

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// How long this observer has looked, seconds.
    pub observed_seconds: f64,
    /// Who talks to whom, what was declared for it, and what was seen.
    pub edges: Vec<Edge>,
    /// What is wrong, or may be, worst first.
    pub findings: Vec<Finding>,
    /// Whether servers could take mutual TLS only.
    pub readiness: Vec<Readiness>,
    /// Declared and observed shares of backends.
    pub splits: Vec<Split>,
    /// Rules of routes, and how often they matched.
    pub routes: Vec<Route>,
    /// What policy says of requests, and what was done with them.
    pub authorizations: Vec<Authorization>,
    /// What policies that allow name, and whether it came.
    pub grants: Vec<Usage>,
    /// What other objects declare to be used, and whether it was.
    pub uses: Vec<Usage>,
    /// Objects that could not be understood.
    pub misunderstood: Vec<Misunderstood>,
    /// Objects that are understood, and in effect nowhere at one of the places that they are for.
    pub ignored: Vec<Ignored>,
}

/// An end.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Party {
    /// As in the graph of services: `workload`, `kubernetes_service`, `identity`, `node`, `network`,
    /// `name`, `outside`, `service`, `unknown`.
    #[serde(deserialize_with = "read::word")]
    pub kind: Word,
    /// Namespace; empty without.
    pub namespace: String,
    /// Kind of a workload, `Deployment`; empty for others.
    pub workload_kind: String,
    /// Name; empty without.
    pub name: String,
}

/// An object of the API.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Object {
    /// Kind as the API spells it.
    pub kind: String,
    /// API group; empty for the core's.
    pub group: String,
    /// Namespace; empty for what has none.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// `metadata.resourceVersion` of what was read.
    pub resource_version: String,
}

/// Part of why.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Reason {
    /// The object that says so; `null` for defaults and for what was observed.
    pub object: Option<Object>,
    /// In words.
    pub text: String,
}

/// Traffic from a client to a port of a server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Edge {
    /// Who calls.
    pub client: Party,
    /// Who is called.
    pub server: Party,
    /// Service that was dialled, `name.namespace`; `null` where none was, or it was not seen.
    pub service: Option<String>,
    /// Port of the server's pod; 0 when unknown.
    pub port: u16,
    /// Who carries the client's traffic: `none`, `istio_sidecar`, `istio_ambient`, `linkerd`.
    #[serde(deserialize_with = "read::word")]
    pub client_plane: Word,
    /// Who carries the server's.
    #[serde(deserialize_with = "read::word")]
    pub server_plane: Word,
    /// What is declared of mutual TLS: `strict`, `permissive`, `disabled`, `no_mesh`, `unknown`.
    #[serde(deserialize_with = "read::word")]
    pub declared: Word,
    /// What was seen between both ends, or their proxies: as many as there were at least.
    pub observed: Vec<Observed>,
    /// Of it, what was seen at the clients' ends; both ends count the same ones.
    pub at_client: Vec<Observed>,
    /// What was seen at the servers' ends.
    pub at_server: Vec<Observed>,
    /// Share of requests (of connections, where there are no requests) that were encrypted; `null`
    /// while nothing is known of any.
    pub encrypted_share: Option<f64>,
    /// Whether what was seen is what was declared: `satisfied`, `violated`, `unknown`.
    #[serde(deserialize_with = "read::word")]
    pub verdict: Word,
    /// Why.
    pub because: Vec<Reason>,
    /// When it was first seen.
    pub first_seen: f64,
    /// When it was last seen.
    pub last_seen: f64,
    /// Requests that were answered after another attempt, per request at the client; `null` when
    /// attempts are not known.
    #[serde(default)]
    pub retry_ratio: Option<f64>,
    /// Requests at the server that were a first attempt.
    #[serde(default)]
    pub first_attempts: u64,
    /// Requests at the server that were another.
    #[serde(default)]
    pub other_attempts: u64,
    /// Where the time of a request goes, in the mean.
    #[serde(default)]
    pub latency: Latency,
}

/// How connections and requests of an edge were secured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// As in flows: `plaintext`, `tls`, `istio_mtls`, `hbone`, `linkerd_mtls`, `unknown`.
    #[serde(deserialize_with = "read::word")]
    pub security: Word,
    /// Connections.
    pub connections: u64,
    /// Requests.
    pub requests: u64,
}

/// Where the time of a request goes, means in seconds. Each is `null` where this observer does not see
/// both of its ends.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// At the client application's own socket.
    pub client: Option<f64>,
    /// In the client's proxy.
    pub client_proxy: Option<f64>,
    /// Between both proxies: the network, and the other node.
    pub wire_client: Option<f64>,
    /// From the first byte that the server's proxy gets to the last that it sends.
    pub wire_server: Option<f64>,
    /// Network alone: both sides of the wire are seen.
    pub network: Option<f64>,
    /// In the server's proxy.
    pub server_proxy: Option<f64>,
    /// At the server application's own socket.
    pub server: Option<f64>,
    /// Whether applications have a proxy at the other end.
    pub proxied: bool,
    /// What all of it is made of, of the last five to ten minutes.
    pub measured: Vec<Measured>,
}

/// Times that were taken at one place, summed up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// `client`, `server`: at the applications' own sockets; `wire_client`, `wire_server`: at their
    /// proxies' sockets on the wire; `upstream`: as the client's proxy says.
    #[serde(deserialize_with = "read::word")]
    pub at: Word,
    /// Requests.
    pub count: u64,
    /// All that they took, nanoseconds: whole ones, so that sums are exact.
    pub nanoseconds: u64,
}

/// Something that is wrong, or may be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "read::Finding")]
pub struct Finding {
    /// `M01` to `M36`.
    pub id: Word,
    /// Its name: `plaintext_accepted_under_strict`.
    pub name: Word,
    /// `critical`, `high`, `medium`, `low`, `info`.
    pub severity: Word,
    /// Whom it is about.
    pub workload: Party,
    /// Who is at the other end; `null` where it is about one end.
    pub peer: Option<Party>,
    /// Port of the server's pod; 0 where it is about none.
    pub port: u16,
    /// What else tells two of them apart: a rule, a host; empty without.
    pub about: String,
    /// What was found, in one sentence.
    pub summary: String,
    /// What to do.
    pub advice: Word,
    /// Objects that decided, and what was observed.
    pub because: Vec<Reason>,
    /// How often it was seen: connections and requests that show it.
    pub count: u64,
    /// When it was first seen.
    pub first_seen: f64,
    /// When it was last seen.
    pub last_seen: f64,
    /// Some flows that show it.
    pub samples: Vec<Sample>,
    /// Codes of Kiali and `istioctl analyze` that are about the same.
    pub see: &'static [&'static str],
}

/// A flow that shows a finding.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// When.
    pub at: f64,
    /// Address of the client's socket, as seen.
    pub client: String,
    /// Address of the server's socket, as seen.
    pub server: String,
    /// As in flows.
    #[serde(deserialize_with = "read::word")]
    pub security: Word,
    /// `METHOD path` of a request, without query; empty for connections.
    pub request: String,
    /// Status of its response; `null` without.
    pub status: Option<u16>,
}

/// Whether a server could take mutual TLS only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Readiness {
    /// The server.
    pub workload: Party,
    /// `READY`, `NOT READY`, `INSUFFICIENT`.
    #[serde(deserialize_with = "read::word")]
    pub state: Word,
    /// Why.
    pub why: String,
    /// What is declared now, as in [`Edge::declared`].
    #[serde(deserialize_with = "read::word")]
    pub declared: Word,
    /// How long the window is that was asked for.
    pub window_seconds: f64,
    /// How much of it was observed.
    pub observed_seconds: f64,
    /// Connections below which nothing is said.
    pub minimum: u64,
    /// Connections in it.
    pub connections: u64,
    /// Of them, those that were seen at the clients' ends; both ends count the same ones.
    pub at_client: Connections,
    /// Those that were seen at the servers' ends.
    pub at_server: Connections,
    /// Who still sends plaintext.
    pub plaintext: Vec<PlaintextClient>,
}

/// Connections by how they were secured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connections {
    /// By mutual TLS of a mesh.
    pub mutual: u64,
    /// Not.
    pub plaintext: u64,
    /// By TLS of their own.
    pub foreign: u64,
    /// It could not be told.
    pub unknown: u64,
}

/// Who sends plaintext to a server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PlaintextClient {
    /// Who.
    pub client: Party,
    /// To this port of the pod.
    pub port: u16,
    /// Connections.
    pub connections: u64,
    /// Of them, those that were seen at the client's end.
    pub at_client: u64,
    /// Those that were seen at the server's end.
    pub at_server: u64,
    /// Last of them.
    pub last_seen: f64,
    /// An address of the client, where it is no workload.
    pub address: Option<String>,
}

/// Declared and observed shares of the backends of a rule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Split {
    /// The object.
    pub object: Object,
    /// The rule's name, or its number from 0.
    pub rule: String,
    /// What it is about: host or Service.
    pub host: String,
    /// Backends.
    pub backends: Vec<SplitBackend>,
    /// Requests that were told apart.
    pub requests: u64,
    /// Requests that clients of this node sent, since shares are declared as they are.
    pub sent: u64,
    /// Requests of theirs that were served on this node by none of the backends, since then.
    pub strays: u64,
    /// What makes counts say nothing; `null` when they do.
    pub unclear: Option<String>,
    /// How likely shares as observed are, if those declared are true (chi-square test); `null` below the
    /// minimum of requests.
    pub p_value: Option<f64>,
    /// `satisfied`, `violated`, `unknown`.
    #[serde(deserialize_with = "read::word")]
    pub verdict: Word,
    /// Why.
    pub why: String,
}

/// A backend of a rule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SplitBackend {
    /// Host or Service.
    pub host: String,
    /// Subset; empty without.
    pub subset: String,
    /// Declared share.
    pub declared: f64,
    /// Observed share; `null` without requests.
    pub observed: Option<f64>,
    /// Requests.
    pub requests: u64,
    /// Requests of clients of any node that it served on this node, since shares are declared as they
    /// are.
    pub served: u64,
}

/// A rule of a route.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Route {
    /// The object.
    pub object: Object,
    /// The rule's name, or its number from 0.
    pub rule: String,
    /// What it is about: host or Service.
    pub host: String,
    /// Requests that matched it.
    pub requests: u64,
    /// Requests that may have matched it: not all of them was seen.
    pub possible_requests: u64,
    /// Requests to that host.
    pub host_requests: u64,
    /// Requests to that host below which it is not called unused.
    pub minimum: u64,
    /// Rule before it that took requests which it matches too, and others; `null` without.
    pub shadowed_by: Option<String>,
    /// Last that matched; `null` without.
    pub last_seen: Option<f64>,
    /// Declared limit of the whole time.
    pub timeout_seconds: Option<f64>,
    /// Declared attempts after the first; `null` when the default applies.
    pub retries: Option<u32>,
    /// Longest that a request took.
    pub longest_seconds: Option<f64>,
    /// `used`, `unused`, `shadowed`, `unknown`.
    #[serde(deserialize_with = "read::word")]
    pub state: Word,
    /// Why.
    pub why: String,
}

/// What policy says of the requests from a client to a server, and what was done with them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Authorization {
    /// Who calls.
    pub client: Party,
    /// Its proved identity; `null` without.
    pub identity: Option<String>,
    /// Who is called.
    pub server: Party,
    /// Port of the server's pod.
    pub port: u16,
    /// Requests (connections, where there are none) that policy allows.
    pub allowed: u64,
    /// That policy refuses.
    pub denied: u64,
    /// Of which policy cannot tell.
    pub unknown: u64,
    /// Requests that were refused.
    pub refused: u64,
    /// `satisfied`, `violated`, `unknown`.
    #[serde(deserialize_with = "read::word")]
    pub verdict: Word,
    /// Why.
    pub because: Vec<Reason>,
}

/// Something that an object declares, and whether it was used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// The object.
    pub object: Object,
    /// What of it: `identity cluster.local/ns/shop/sa/web`, `subset v1 of cart.shop`.
    pub what: String,
    /// Whether it was used.
    pub used: bool,
    /// Requests, or connections, that could have used it.
    pub requests: u64,
}

/// An object that could not be understood.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Misunderstood {
    /// Which.
    pub object: Object,
    /// What is wrong.
    pub problem: String,
}

/// An object that is in effect nowhere at one of the places that it is for: a route of the Gateway API
/// that no controller says it has accepted there.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ignored {
    /// Which.
    pub object: Object,
    /// Where, and why: `Service shop/cart: no controller has accepted it yet`.
    pub reason: String,
}

// === impl Object ===

impl From<&ObjectRef> for Object {
    fn from(object: &ObjectRef) -> Self {
        Self {
            kind: object.kind.to_string(),
            group: object.group.to_string(),
            namespace: object.namespace.to_string(),
            name: object.name.to_string(),
            resource_version: object.version.to_string(),
        }
    }
}

#[cfg(test)]
pub(crate) mod fixture;
