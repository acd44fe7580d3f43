//! Which edge of the graph a connection, a lookup or datagrams belong to, and what they add to it.

use std::{sync::Arc, time::Duration};

use crate::model::{
    call::{Call, Link},
    connection::{ConnectFailure, Role, Transfer},
    datagram::{Conversation, DatagramProtocol},
    exchange::Side,
    lookup::{LookupOutcome, Resolution},
    mesh::Hop,
    security::Security,
    time::Monotonic,
    trace::{SpanId, TraceId},
};

use super::{
    Aggregator,
    graph::{
        Edge, EdgeKey, EdgeRow, Party, SETTLE, Windowed, WindowedEdge, past::Times, protocol,
        protocol_of_call,
    },
    links::{Links, Tracked},
    series::{Handle, Store},
};

/// All edges.
#[derive(Debug)]
pub(super) struct Edges {
    pub(super) store: Store<EdgeKey, Edge>,
    /// Name of the cluster; empty without.
    pub(super) cluster: Box<str>,
    /// When something was kept of all edges.
    pub(super) times: Times,
    /// Whether durations have exponential buckets.
    pub(super) exponential: bool,
}

/// What a tracked connection has of its edge.
#[derive(Debug, Default)]
pub(super) struct OnEdge {
    /// Which edge, once it is settled.
    handle: Option<Handle>,
    /// What its calls showed that it speaks.
    calls: Option<&'static str>,
    /// It is counted as opened.
    opened: bool,
    /// The kubelet probes by it.
    probes: bool,
}

// === impl Edges ===

impl Edges {
    pub(super) fn resolve(&mut self, key: &EdgeKey, now: Monotonic) -> Handle {
        let (cluster, exponential) = (&self.cluster, self.exponential);
        self.store.resolve(key, now, || {
            (key.labels(cluster), Edge::new(exponential, now))
        })
    }

    pub(super) fn update(&mut self, key: &EdgeKey, now: Monotonic) -> Option<&mut Edge> {
        let handle = self.resolve(key, now);
        self.store.update(handle, now)
    }

    /// The edge of a connection, on which it is open from now on; `None` for one that is on none.
    fn settle(&mut self, tracked: &mut Tracked, now: Monotonic) -> Option<Handle> {
        if tracked.on_edge.handle.is_some() {
            return tracked.on_edge.handle;
        }
        let link = &tracked.link;
        if tracked.on_edge.probes || !is_on_edge(link, tracked.on_edge.calls) {
            return None;
        }
        let protocol = protocol(link, tracked.on_edge.calls);
        let key = EdgeKey::of_link(link, tracked.identity.0.role(), protocol);
        let handle = self.resolve(&key, now);
        tracked.on_edge.handle = Some(handle);
        let counted = std::mem::replace(&mut tracked.on_edge.opened, true);
        if let Some(edge) = self.store.update(handle, now) {
            edge.open += 1;
            edge.opened += u64::from(!counted && !tracked.link.connection.pre_existing);
        }
        Some(handle)
    }

    /// Takes a connection off its edge; whether it was on one.
    pub(super) fn leave(&mut self, on_edge: &mut OnEdge, now: Monotonic) -> bool {
        let Some(handle) = on_edge.handle.take() else {
            return false;
        };
        if let Some(edge) = self.store.update(handle, now) {
            edge.open = edge.open.saturating_sub(1);
        }
        true
    }

    /// Settles a connection that has been open for long enough.
    pub(super) fn settle_late(&mut self, tracked: &mut Tracked, now: Monotonic) {
        let connection = &tracked.link.connection;
        let since = connection.established.unwrap_or(connection.started);
        if now.since(since) >= SETTLE {
            self.settle(tracked, now);
        }
    }

    /// A link of which more is known has taken the place of that of a connection.
    pub(super) fn settle_again(&mut self, tracked: &mut Tracked, now: Monotonic) {
        if self.leave(&mut tracked.on_edge, now) {
            self.settle(tracked, now);
        }
    }

    /// Counts a call of a connection.
    pub(super) fn call(
        &mut self,
        tracked: &mut Tracked,
        call: &Call,
        span: Option<(TraceId, SpanId)>,
        now: Monotonic,
    ) {
        if call.probe {
            self.leave(&mut tracked.on_edge, now);
            tracked.on_edge.probes = true;
            return;
        }
        let shown = protocol_of_call(call);
        // One remote procedure call makes it a connection of those, whatever else it carries.
        let known = tracked.on_edge.calls;
        if known.is_none() || (known == Some("http") && shown != "http") {
            self.leave(&mut tracked.on_edge, now);
            tracked.on_edge.calls = Some(shown);
        }
        let handle = self.settle(tracked, now);
        if let Some(edge) = handle.and_then(|handle| self.store.update(handle, now)) {
            edge.call(call, span, now);
        }
    }

    /// Counts a call of a connection that is not tracked, or that carries those of several.
    pub(super) fn call_untracked(
        &mut self,
        call: &Call,
        span: Option<(TraceId, SpanId)>,
        now: Monotonic,
    ) {
        if call.probe {
            return;
        }
        let key = EdgeKey::of_call(call);
        if let Some(edge) = self.update(&key, now) {
            edge.call(call, span, now);
            if call.far.is_some() {
                // The connection is not on the edge: what it moves belongs to several.
                let bytes = |side: &Side| side.head_bytes + side.body_bytes;
                let (request, response) = (
                    bytes(&call.exchange.sent),
                    call.exchange.received.as_ref().map_or(0, bytes),
                );
                edge.bytes(response, request, Role::Server, now);
            }
        }
    }

    /// A connection carries the calls of several: it is on no edge itself.
    pub(super) fn carries_calls(&mut self, links: &mut Links, call: &Call, now: Monotonic) {
        if let Some(tracked) = links.table.get_mut(&call.link.connection.id)
            && tracked.on_edge.calls.is_none()
        {
            tracked.on_edge.calls = Some(protocol_of_call(call));
            self.leave(&mut tracked.on_edge, now);
        }
    }

    /// Counts what a connection moved.
    pub(super) fn moved(&mut self, tracked: &mut Tracked, change: &Transfer, now: Monotonic) {
        let role = tracked.identity.0.role();
        let handle = self.settle(tracked, now);
        if let Some(edge) = handle.and_then(|handle| self.store.update(handle, now)) {
            edge.moved(change, role, now);
        }
    }

    /// Counts all of a connection that was not tracked, at its end.
    pub(super) fn ended_untracked(&mut self, link: &Arc<Link>, total: &Transfer, now: Monotonic) {
        if !is_on_edge(link, None) {
            return;
        }
        let role = link.connection.role;
        let key = EdgeKey::of_link(link, role, protocol(link, None));
        if let Some(edge) = self.update(&key, now) {
            edge.opened += u64::from(!link.connection.pre_existing);
            edge.moved(total, role, now);
        }
    }

    /// Counts a connection that was never made.
    pub(super) fn failed(&mut self, link: &Link, failure: ConnectFailure, now: Monotonic) {
        if !is_on_edge(link, None) {
            return;
        }
        let key = EdgeKey::of_link(link, link.connection.role, protocol(link, None));
        if let Some(edge) = self.update(&key, now) {
            edge.failed(failure);
        }
    }
}

// === impl OnEdge ===

impl OnEdge {
    /// For a connection that is tracked anew as more is known of it.
    pub(super) fn carried(&self) -> Self {
        Self {
            handle: None,
            ..*self
        }
    }
}

// === impl Aggregator ===

impl Aggregator {
    /// All edges of the graph, in no order, without those that nothing was counted on.
    pub fn graph(&mut self, now: Monotonic) -> Vec<EdgeRow> {
        let rows: Vec<EdgeRow> = self.edges.store.iter().map(|(key, ..)| row(key)).collect();
        rows.into_iter()
            .zip(self.edges.store.values_mut())
            .map(|(row, edge)| edge.measure(row, now))
            .filter(|row| !row.is_empty())
            .collect()
    }

    /// All edges in a window that ends now: at least as long as asked for, if the observer is as old
    /// and that is not longer than [`past::LONGEST`](super::graph::past::LONGEST).
    pub fn graph_in(&self, window: Duration, now: Monotonic) -> Windowed {
        let begin = self.edges.times.begin(window, now);
        let edges = self.edges.store.iter().map(|(key, _, edge)| WindowedEdge {
            row: EdgeRow {
                open_connections: edge.open,
                ..row(key)
            },
            counts: edge.counted(begin),
        });
        Windowed {
            length: begin.length,
            edges: edges
                .filter(|edge| edge.row.open_connections > 0 || !edge.counts.is_empty())
                .collect(),
        }
    }

    /// Keeps what edges counted, for windows; cheap enough for once a second.
    pub(super) fn keep_graph(&mut self, now: Monotonic) {
        let due = self.edges.times.due(now);
        if due.contains(&true) {
            for edge in self.edges.store.values_mut() {
                edge.keep(due, now);
            }
        }
    }

    /// Counts a lookup on its edge.
    pub(super) fn edge_of_lookup(&mut self, resolution: &Resolution, now: Monotonic) {
        let Resolution {
            lookup,
            workload,
            peer,
            dialled,
        } = resolution;
        let key = EdgeKey::new(workload, peer, lookup.role, "dns", Security::Plaintext)
            .dialled(dialled.clone());
        // A lookup that was not heard out has no duration.
        let waited = !matches!(
            lookup.outcome,
            LookupOutcome::Superseded | LookupOutcome::Aborted
        );
        if let Some(edge) = self.edges.update(&key, now) {
            let duration = waited.then(|| lookup.duration());
            edge.request(lookup.error().is_some(), duration, None, now);
        }
    }

    /// Counts datagrams on their edge.
    pub(super) fn edge_of_datagrams(&mut self, conversation: &Conversation, now: Monotonic) {
        let Conversation {
            datagrams,
            workload,
            peer,
            dialled,
        } = conversation;
        let security = match datagrams.protocol {
            DatagramProtocol::Dns => Security::Plaintext,
            // RFC 9001: TLS is part of it.
            DatagramProtocol::Quic => Security::Tls,
            DatagramProtocol::Other => Security::Unknown,
        };
        let role = datagrams.role();
        let key = EdgeKey::new(workload, peer, role, datagrams.protocol.as_str(), security)
            .dialled(dialled.clone());
        if let Some(edge) = self.edges.update(&key, now) {
            let change = &datagrams.change;
            edge.bytes(change.sent_bytes, change.received_bytes, role, now);
        }
    }
}

/// Whether what a connection moves belongs to one edge: not between proxies, and not where one carries
/// the calls of several.
fn is_on_edge(link: &Link, calls: Option<&'static str>) -> bool {
    if !link.hop.is_counted() {
        return false;
    }
    let shows_calls = || {
        let opening = link.opening.as_deref();
        let protocol = opening.and_then(|opening| opening.protocol);
        protocol.is_some_and(|protocol| protocol.starts_with("http/"))
    };
    link.hop != Hop::FromProxy || calls.is_none() && !shows_calls()
}

/// The row of an edge, measures left empty; without a key it is that of all beyond the budget.
fn row(key: Option<&EdgeKey>) -> EdgeRow {
    key.map_or_else(
        || EdgeRow {
            source: Party::overflow(),
            destination: Party::overflow(),
            protocol: "tcp",
            security: Security::Unknown.as_str(),
            reporter: Role::Unknown.as_str(),
            ..EdgeRow::default()
        },
        EdgeKey::row,
    )
}
