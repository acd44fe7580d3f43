//! Sums over series of calls, by the names of Tempo: the service graph, and spans by name.
//!
//! They are added up when they are asked for, and nothing is counted a second time for a call.
//! Series of calls come and go, and a sum must not fall when one goes, which Prometheus would take
//! for a restart: what a series had counted stays in the sum for as long as another series is in it.

use std::time::Duration;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::model::{connection::Role, time::Monotonic, workload::Peer};

use super::{
    Aggregator, Config,
    calls::{CallKey, Calls},
    distribution::Distribution,
    identity::Identity,
    rpc::{RpcCalls, RpcKey},
    series::{Labels, labels},
};

/// An edge of the service graph.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct GraphKey {
    client: Name,
    server: Name,
    /// The end that nobody observes.
    virtual_node: Option<Role>,
}

/// Name and namespace of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Name {
    name: Box<str>,
    namespace: Box<str>,
}

/// Measures of an edge.
#[derive(Clone, Debug, Default)]
pub(super) struct OnGraph {
    pub(super) requests: u64,
    pub(super) failed: u64,
    pub(super) server: Option<Distribution>,
    pub(super) client: Option<Distribution>,
}

/// What tells spans apart, but for those of one trace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct SpanKey {
    service: Name,
    name: Box<str>,
    client: bool,
    failed: bool,
}

/// Measures of spans that are alike.
#[derive(Clone, Debug)]
pub(super) struct Spans {
    pub(super) latency: Distribution,
    pub(super) bytes: u64,
}

pub(super) type Graph = HashMap<GraphKey, OnGraph, RandomState>;
pub(super) type ByName = HashMap<SpanKey, Spans, RandomState>;

/// What series counted that are gone. Every entry has a series that is still there, or lost its
/// last one within [`SWEEP`]: the budgets of the series bound it.
#[derive(Debug, Default)]
pub(super) struct Gone {
    graph: Graph,
    spans: ByName,
    swept: Monotonic,
}

/// How often sums without a series are looked for.
const SWEEP: Duration = Duration::from_secs(60);

/// Who calls from outside, as Tempo has it.
const USER: &str = "user";

// === impl Name ===

impl Name {
    fn new(name: &str, namespace: &str) -> Self {
        Self {
            name: name.into(),
            namespace: namespace.into(),
        }
    }

    fn of_peer(peer: &Peer) -> Option<Self> {
        Some(Self::new(peer.service()?, peer.namespace()?))
    }
}

// === impl GraphKey ===

impl GraphKey {
    /// The edge that calls of this identity are on.
    fn of(identity: &Identity) -> Self {
        let workload = identity.workload();
        let own = Name::new(&workload.service, &workload.namespace);
        let peer = Name::of_peer(identity.peer());
        if identity.role() != Role::Client {
            return Self {
                virtual_node: peer.is_none().then_some(Role::Client),
                client: peer.unwrap_or_else(|| Name::new(USER, "")),
                server: own,
            };
        }
        let virtual_node = peer.is_none().then_some(Role::Server);
        let server = peer.unwrap_or_else(|| {
            let (name, namespace) = identity.server_name();
            Name::new(&name, namespace)
        });
        Self {
            client: own,
            server,
            virtual_node,
        }
    }

    pub(super) fn labels(&self, cluster: &str) -> Labels {
        let virtual_node = self.virtual_node.map(Role::as_str).unwrap_or_default();
        let kind = match self.virtual_node {
            Some(_) => "virtual_node",
            None => "",
        };
        labels([
            ("client", &*self.client.name),
            ("client_service_namespace", &self.client.namespace),
            ("server", &self.server.name),
            ("server_service_namespace", &self.server.namespace),
            ("connection_type", kind),
            ("virtual_node", virtual_node),
            ("k8s_cluster_name", cluster),
        ])
    }
}

// === impl OnGraph ===

impl OnGraph {
    /// Adds calls that the end of `role` saw; it counts them unless the other end does.
    fn add(&mut self, calls: &Calls, role: Role, counts: bool) {
        if counts {
            self.requests += calls.duration.count();
            self.failed += calls.failed;
        }
        if role == Role::Client {
            add(&mut self.client, &calls.duration);
        }
        // Of a server that nobody observes its client tells.
        if role != Role::Client || counts {
            add(&mut self.server, &calls.duration);
        }
    }

    /// Adds a series, or all that came after the budget was used up.
    fn add_series(graph: &mut Graph, key: &CallKey, calls: &Calls) {
        let identity = &key.identity.0;
        let role = identity.role();
        let edge = GraphKey::of(identity);
        let counts = role != Role::Client || edge.virtual_node.is_some();
        graph.entry(edge).or_default().add(calls, role, counts);
    }
}

fn add(sum: &mut Option<Distribution>, more: &Distribution) {
    match sum {
        Some(sum) => sum.merge(more),
        None => *sum = Some(more.clone()),
    }
}

// === impl SpanKey ===

impl SpanKey {
    fn new(identity: &Identity, name: String, failed: bool) -> Self {
        let workload = identity.workload();
        Self {
            service: Name::new(&workload.service, &workload.namespace),
            name: name.into(),
            client: identity.role() == Role::Client,
            failed,
        }
    }

    /// `None` for remote procedure calls: those tell more of themselves.
    fn of_calls(key: &CallKey) -> Option<Self> {
        if key.rpc.is_some() {
            return None;
        }
        let method = key.method.in_span_name();
        let name = match &*key.route {
            "" => method.to_owned(),
            route => format!("{method} {route}"),
        };
        Some(Self::new(&key.identity.0, name, key.error.is_some()))
    }

    fn of_rpc(key: &RpcKey) -> Self {
        Self::new(key.identity(), key.span_name().to_owned(), key.failed())
    }

    pub(super) fn labels(&self, cluster: &str) -> Labels {
        labels([
            ("service", &*self.service.name),
            ("service_namespace", &self.service.namespace),
            ("k8s_cluster_name", cluster),
            ("span_name", &self.name),
            ("span_kind", span_kind(self.client)),
            (
                "status_code",
                match self.failed {
                    true => "STATUS_CODE_ERROR",
                    false => "STATUS_CODE_UNSET",
                },
            ),
        ])
    }
}

/// Kind of the spans of an end, as Tempo writes it.
pub(super) fn span_kind(client: bool) -> &'static str {
    match client {
        true => "SPAN_KIND_CLIENT",
        false => "SPAN_KIND_SERVER",
    }
}

// === impl Spans ===

impl Spans {
    pub(super) fn of_calls(calls: &Calls) -> Self {
        Self {
            latency: calls.duration.clone(),
            bytes: calls
                .request_body
                .sum
                .saturating_add(calls.response_body.sum),
        }
    }

    pub(super) fn of_rpc(calls: &RpcCalls) -> Self {
        Self {
            latency: calls.duration.clone(),
            bytes: calls.body_bytes,
        }
    }

    fn add_to(self, spans: &mut ByName, key: SpanKey) {
        match spans.get_mut(&key) {
            Some(sum) => {
                sum.latency.merge(&self.latency);
                sum.bytes = sum.bytes.saturating_add(self.bytes);
            }
            None => {
                spans.insert(key, self);
            }
        }
    }
}

// === impl Gone ===

impl Gone {
    /// Keeps what a series of calls had counted.
    pub(super) fn calls(&mut self, key: &CallKey, calls: &Calls, config: &Config) {
        if config.service_graph {
            OnGraph::add_series(&mut self.graph, key, calls);
        }
        if config.span_metrics
            && let Some(name) = SpanKey::of_calls(key)
        {
            Spans::of_calls(calls).add_to(&mut self.spans, name);
        }
    }

    /// Keeps what a series of remote procedure calls had counted.
    pub(super) fn rpc(&mut self, key: &RpcKey, calls: &RpcCalls, config: &Config) {
        if config.span_metrics {
            Spans::of_rpc(calls).add_to(&mut self.spans, SpanKey::of_rpc(key));
        }
    }
}

// === impl Aggregator ===

impl Aggregator {
    /// All edges of the service graph. Those beyond the budget of a family are left to the caller.
    pub(super) fn service_graph(&self) -> Graph {
        let mut graph = self.gone.graph.clone();
        for store in [&self.server, &self.client] {
            for (key, _, calls) in store.iter() {
                if let Some(key) = key {
                    OnGraph::add_series(&mut graph, key, calls);
                }
            }
        }
        graph
    }

    /// The edge of all that came after the budgets were used up; `None` while they last.
    pub(super) fn service_graph_overflow(&self) -> Option<OnGraph> {
        let mut overflow = None;
        for (store, role) in [(&self.server, Role::Server), (&self.client, Role::Client)] {
            for (key, _, calls) in store.iter() {
                if key.is_none() {
                    let edge: &mut OnGraph = overflow.get_or_insert_default();
                    edge.add(calls, role, role == Role::Server);
                }
            }
        }
        overflow
    }

    /// All spans by name, without those beyond the budget of a family.
    pub(super) fn spans_by_name(&self) -> ByName {
        let mut spans = self.gone.spans.clone();
        for store in [&self.server, &self.client] {
            for (key, _, calls) in store.iter() {
                if let Some(key) = key.and_then(SpanKey::of_calls) {
                    Spans::of_calls(calls).add_to(&mut spans, key);
                }
            }
        }
        for store in [&self.rpc_server, &self.rpc_client] {
            for (key, _, calls) in store.iter() {
                if let Some(key) = key {
                    Spans::of_rpc(calls).add_to(&mut spans, SpanKey::of_rpc(key));
                }
            }
        }
        spans
    }

    /// Forgets sums that no series is in any more.
    pub(super) fn sweep_gone(&mut self, now: Monotonic) {
        let Gone {
            graph,
            spans,
            swept,
        } = &self.gone;
        if now.since(*swept) < SWEEP || graph.is_empty() && spans.is_empty() {
            return;
        }
        let mut gone = std::mem::take(&mut self.gone);
        let Config {
            service_graph,
            span_metrics,
            ..
        } = self.config;
        let live = if service_graph {
            self.service_graph()
        } else {
            Graph::default()
        };
        gone.graph.retain(|key, _| live.contains_key(key));
        let live = if span_metrics {
            self.spans_by_name()
        } else {
            ByName::default()
        };
        gone.spans.retain(|key, _| live.contains_key(key));
        gone.swept = now;
        self.gone = gone;
    }
}

#[cfg(test)]
mod tests;
