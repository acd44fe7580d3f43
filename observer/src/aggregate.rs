//! Calls to measures: counters, histograms, bounded series.
//!
//! One owner, one thread, no clock: every method is told the time. What is measured is listed in
//! [`contract`]. Nothing that was observed is lost to the bounds: what does not fit a budget goes
//! to the overflow series of its family.

use std::sync::Arc;

use crate::{
    mesh::report::Report,
    model::{
        call::{Call, Link, LinkEvent},
        datagram::Traffic,
        exchange::InFlight,
        policy::PolicyKind,
        time::Monotonic,
        trace::{SpanId, TraceId},
    },
    telemetry::health::Health,
};

pub mod access;
pub mod contract;
pub mod distribution;
pub mod exponential;
pub mod graph;
pub mod histogram;
pub mod history;
pub mod series;
pub mod services;
pub mod sketch;
pub mod snapshot;
pub mod spans;

mod bounds;
mod calls;
mod compatible;
mod connections;
mod derived;
mod edges;
#[cfg(test)]
pub(crate) mod fixture;
mod identity;
mod links;
mod mesh;
mod pods;
mod rpc;
mod subject;
mod udp;

pub use bounds::{Budgets, Config};

use calls::{Active, ActiveKey, CallKey, Calls, Method};
use compatible::Compatible;
use derived::Gone;
use edges::Edges;
use graph::past::Times;
use history::{Flow, History, Judgement};
use identity::{Identities, Interned, ServiceKey};
use links::{Links, Tcp};
use mesh::Judged;
use pods::PodInfo;
use rpc::{RpcCalls, RpcKey};
use series::{Handle, Store};
use services::Service;
use snapshot::Snapshot;
use subject::Labelling;

/// All measures.
#[derive(Debug)]
pub struct Aggregator {
    config: Config,
    identities: Identities,
    links: Links,
    server: Store<CallKey, Calls>,
    client: Store<CallKey, Calls>,
    active: Store<ActiveKey, Active>,
    rpc_server: Store<RpcKey, RpcCalls>,
    rpc_client: Store<RpcKey, RpcCalls>,
    gone: Gone,
    tcp: Store<Interned, Tcp>,
    services: Store<ServiceKey, Service>,
    lookups: Store<udp::LookupKey, udp::Lookups>,
    datagrams: Store<udp::DatagramKey, Traffic>,
    edges: Edges,
    /// By uid.
    pods: Store<Box<str>, PodInfo>,
    judged: Judged,
    compatible: Compatible,
    history: History,
}

// === impl Aggregator ===

impl Aggregator {
    /// Nothing measured yet.
    pub fn new(config: Config) -> Self {
        let Budgets {
            http_server,
            http_client,
            http_active,
            rpc_server,
            rpc_client,
            tcp,
            services,
            dns,
            udp,
            edges,
            pods,
            mesh,
        } = config.budgets;
        Self {
            identities: Identities::new(Labelling::new(&config)),
            links: Links::new(config.connections),
            server: Store::new(http_server),
            client: Store::new(http_client),
            active: Store::new(http_active),
            rpc_server: Store::new(rpc_server),
            rpc_client: Store::new(rpc_client),
            gone: Gone::default(),
            tcp: Store::new(tcp),
            services: Store::new(services),
            lookups: Store::new(dns),
            datagrams: Store::new(udp),
            edges: Edges {
                store: Store::new(edges),
                cluster: config.cluster.as_str().into(),
                times: Times::default(),
                exponential: config.histograms.has_native(),
            },
            pods: Store::new(pods),
            judged: Judged::new(mesh),
            compatible: Compatible::new(
                config.mesh_series,
                mesh,
                config.connections,
                &config.cluster,
            ),
            history: History::new(config.flow_history, config.flow_ratio),
            config,
        }
    }

    /// Changes the bounds and keeps all measures; series above a smaller budget stay until they
    /// are idle.
    pub fn reconfigure(&mut self, config: Config) {
        self.links.limit = config.connections;
        self.server.set_budget(config.budgets.http_server);
        self.client.set_budget(config.budgets.http_client);
        self.active.set_budget(config.budgets.http_active);
        self.rpc_server.set_budget(config.budgets.rpc_server);
        self.rpc_client.set_budget(config.budgets.rpc_client);
        self.tcp.set_budget(config.budgets.tcp);
        self.services.set_budget(config.budgets.services);
        self.lookups.set_budget(config.budgets.dns);
        self.datagrams.set_budget(config.budgets.udp);
        self.edges.store.set_budget(config.budgets.edges);
        self.pods.set_budget(config.budgets.pods);
        self.judged.set_budget(config.budgets.mesh);
        self.compatible.reconfigure(
            config.mesh_series,
            config.budgets.mesh,
            config.connections,
            &config.cluster,
        );
        let labelling = Labelling::new(&config);
        if *self.identities.labelling != labelling {
            self.edges.cluster = labelling.cluster.clone();
            self.identities.labelling = Arc::new(labelling);
        }
        self.edges.exponential = config.histograms.has_native();
        self.history
            .reconfigure(config.flow_history, config.flow_ratio);
        self.config = config;
    }

    /// Measures a call that ended; returns its flow, unless it is left out of the sample. `span` is
    /// that of the call if it is in the sample of spans: it may become an exemplar.
    pub fn call(
        &mut self,
        call: &Call,
        span: Option<(TraceId, SpanId)>,
        now: Monotonic,
    ) -> Option<&Flow> {
        self.call_judged(call, span, || None, now)
    }

    /// As [`call`](Self::call); `judge` says what is declared of it, and is asked if there is a flow.
    pub fn call_judged(
        &mut self,
        call: &Call,
        span: Option<(TraceId, SpanId)>,
        judge: impl FnOnce() -> Option<Judgement>,
        now: Monotonic,
    ) -> Option<&Flow> {
        if !call.link.hop.is_counted() {
            // It is counted where it begins and ends: at the applications' own sockets.
            return self.history.call(call, judge);
        }
        let mut service = match call.far {
            // Each call of the connection may be somebody else's.
            Some(_) => {
                self.edges.carries_calls(&mut self.links, call, now);
                Some(self.call_untracked(call, span, now))
            }
            None => self.call_tracked(call, span, now),
        };
        if service.is_none() && self.links.table.contains_key(&call.link.connection.id) {
            // More is known of the connection than when it was last heard of.
            self.track(&call.link, call.exchange.role, now);
            service = self.call_tracked(call, span, now);
        }
        let service = service.unwrap_or_else(|| self.call_untracked(call, span, now));
        if let Some(service) = self.services.update(service, now) {
            service.call(call, now);
        }
        if let Some(rpc) = &call.exchange.rpc {
            self.rpc(call, rpc, span, now);
        }
        self.compatible.call(call, now);
        self.history.call(call, judge)
    }

    /// Measures a change of a connection; returns its flow, unless there is none or it is left out
    /// of the sample.
    pub fn link(&mut self, event: &LinkEvent, now: Monotonic) -> Option<&Flow> {
        self.link_judged(event, || None, now)
    }

    /// As [`link`](Self::link); `judge` says what is declared of it, and is asked if there is a flow.
    pub fn link_judged(
        &mut self,
        event: &LinkEvent,
        judge: impl FnOnce() -> Option<Judgement>,
        now: Monotonic,
    ) -> Option<&Flow> {
        self.compatible.link(event, now);
        match event {
            LinkEvent::Opened(link) => {
                let known = self.links.table.contains_key(&link.connection.id);
                let (tcp, _) = self.track(link, link.connection.role, now);
                if known {
                    return None;
                }
                if !self.links.table.contains_key(&link.connection.id) {
                    self.links.untracked += 1;
                }
                if let Some(tcp) = self.tcp.update(tcp, now) {
                    tcp.established(link);
                }
                self.history.link(link.connection.id, event, judge)
            }
            LinkEvent::Recognised { link, .. } => {
                let (_, service) = self.track(link, link.connection.role, now);
                self.count_security(link, service, false, now);
                if !is_flow(link) {
                    return None;
                }
                self.history.link(link.connection.id, event, judge)
            }
            LinkEvent::Progress { link, transfer } => {
                self.moved(link, transfer, false, now);
                None
            }
            LinkEvent::Closed {
                link,
                at,
                by,
                reset,
                transfer,
            } => {
                let (tcp, service) = self.moved(link, transfer, true, now);
                self.count_security(link, service, true, now);
                if let Some(mut tracked) = self.links.table.remove(&link.connection.id) {
                    self.release(&mut tracked, now);
                }
                if let Some(tcp) = self.tcp.update(tcp, now) {
                    tcp.ended(link, *at, *by, *reset);
                }
                self.history.link(link.connection.id, event, judge)
            }
            LinkEvent::Failed { link, failure, .. } => {
                let (_, tcp, _) = self.resolve(link, link.connection.role, now);
                if let Some(mut tracked) = self.links.table.remove(&link.connection.id) {
                    self.release(&mut tracked, now);
                }
                self.edges.failed(link, *failure, now);
                if let Some(tcp) = self.tcp.update(tcp, now) {
                    tcp.failed(*failure);
                }
                self.history.link(link.connection.id, event, judge)
            }
        }
    }

    /// Takes over what was found of a mesh, and how many objects of each kind are declared: what
    /// snapshots show until the next time.
    pub fn judge(&mut self, report: &Report, objects: &[(PolicyKind, usize)], now: Monotonic) {
        let cluster = &self.edges.cluster;
        self.judged.take(report, objects, cluster, now);
    }

    /// Sets the gauges of requests in flight: `calls` are all of them.
    pub fn in_flight(
        &mut self,
        now: Monotonic,
        calls: &mut dyn Iterator<Item = (Arc<Link>, InFlight)>,
    ) {
        for active in self.active.values_mut() {
            *active = Active::default();
        }
        for service in self.services.values_mut() {
            service.in_flight = 0;
            service.oldest = None;
        }
        for (link, request) in calls {
            if !link.hop.is_counted() {
                continue;
            }
            let (identity, _, service) = self.resolve(&link, request.role, now);
            let key = ActiveKey {
                identity,
                method: Method::of(&request.request.method),
                scheme: calls::scheme(&request.request),
            };
            let handle = self
                .active
                .resolve(&key, now, || (key.labels(), Active::default()));
            let earlier = |oldest: Option<Monotonic>| {
                Some(oldest.map_or(request.since, |oldest| oldest.min(request.since)))
            };
            if let Some(active) = self.active.update(handle, now) {
                active.count += 1;
                active.oldest = earlier(active.oldest);
            }
            if let Some(service) = self.services.update(service, now) {
                service.in_flight += 1;
                service.oldest = earlier(service.oldest);
            }
        }
    }

    /// Removes what was idle for too long, and keeps what windows of the graph begin with; cheap
    /// enough for once a second.
    pub fn expire(&mut self, now: Monotonic) {
        for mut tracked in self.links.expire(now) {
            self.release(&mut tracked, now);
        }
        let idle = self.config.idle;
        let (gone, config) = (&mut self.gone, &self.config);
        for store in [&mut self.server, &mut self.client] {
            store.expire_to(
                now,
                idle,
                |_| false,
                |key, calls| gone.calls(key, calls, config),
            );
        }
        for store in [&mut self.rpc_server, &mut self.rpc_client] {
            store.expire_to(
                now,
                idle,
                |_| false,
                |key, calls| gone.rpc(key, calls, config),
            );
        }
        self.sweep_gone(now);
        self.active.expire(now, idle, |active| active.count > 0);
        self.tcp.expire(now, idle, |tcp| tcp.open() > 0);
        self.services.expire(now, idle, Service::busy);
        self.lookups.expire(now, idle, |_| false);
        self.datagrams.expire(now, idle, |_| false);
        self.judged.expire(now, idle);
        self.compatible.expire(now, idle);
        for tracked in self.links.table.values_mut() {
            self.edges.settle_late(tracked, now);
            if let Some(pod) = tracked.pod {
                self.pods.update(pod, now);
            }
            // The memo of a quiet connection must not keep what no series has any more.
            if now.since(tracked.used) >= idle {
                tracked.memo = None;
            }
        }
        self.edges.store.expire(now, idle, |edge| edge.open > 0);
        self.keep_graph(now);
        self.pods.expire(now, idle, |_| false);
        self.identities.expire();
    }

    /// All measures as plain values; `health` is shown with them.
    pub fn snapshot(&mut self, health: Health, now: Monotonic) -> Snapshot {
        snapshot::take(self, health, now)
    }

    /// The last flows.
    pub fn history(&self) -> &History {
        &self.history
    }
}

/// What the first bytes of a connection showed is a flow of its own. A handshake is one when it
/// ends; HTTP in the clear is none, as each of its calls says so.
fn is_flow(link: &Link) -> bool {
    let Some(opening) = &link.opening else {
        return false;
    };
    match &opening.tls {
        Some(tls) => tls.established || tls.alert.is_some(),
        None => {
            let http = matches!(opening.protocol, Some("http/1" | "http/2"));
            !http || opening.proxied.is_some() || opening.started_by.is_some()
        }
    }
}

/// The series of a service.
fn service(
    services: &mut Store<ServiceKey, Service>,
    identity: &Interned,
    now: Monotonic,
) -> Handle {
    let key = identity.0.service();
    services.resolve(&key, now, || (key.labels(), Service::new(now)))
}

#[cfg(test)]
mod tests;
