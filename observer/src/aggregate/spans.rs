//! Spans: which place in which trace a call has, and whether it is kept.
//!
//! - A request that names its trace (`traceparent` and others) keeps it.
//! - Otherwise both ends of a request derive its trace, and each span, from what both see
//!   ([`ids`]): the server's span is the child of the client's without a word between them.
//! - The request that a thread had read when it wrote another is the other's parent, where that is
//!   certain and nobody else tells the other end; else it is a link. A parent in another trace
//!   would tear the other end from its client, and a wrong parent is worse than none.
//!
//! A call waits for what it belongs to: a client's for the request that caused it to be
//! answered, the server's end of a call within this host for the client's end. That is bounded in
//! number and time, and only where threads are watched and show causes.

mod ids;
mod place;
mod sampling;
mod waiting;

use std::{borrow::Cow, sync::Arc, time::Duration};

use self::{
    ids::Names,
    place::Place,
    sampling::{Candidate, Sampling},
    waiting::{Answered, On, Waiting, Waits},
};
use crate::{
    config::{SamplingRule, TracedPeers},
    model::{
        call::{Call, Link},
        connection::Role,
        lookup::Resolution,
        mesh::Hop,
        span::{Span, SpanLink, Subject},
        time::Monotonic,
        trace::{Cause, ParentSource, SpanId, TraceId},
        workload::{Peer, Workload},
    },
    telemetry::health::{Loss, Table},
};

/// How spans are made.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Somebody takes them.
    pub enabled: bool,
    /// How to choose, by service; the first that matches wins.
    pub rules: Vec<SamplingRule>,
    /// How to choose of all other services.
    pub sampling: crate::config::Sampling,
    /// Which ends outside of this host are expected to be told by another agent.
    pub peers: TracedPeers,
    /// Lookups of DNS become spans.
    pub lookups: bool,
    /// Longest that a call waits for the request that caused it to be answered.
    pub wait: Duration,
    /// Tells hosts apart, in names that one end gives alone.
    pub salt: u64,
}

/// Who tells the other end of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FarEnd {
    /// This agent: it is a process of this host.
    Here,
    /// The agent of another node.
    Elsewhere,
    /// Nobody.
    Unseen,
}

/// Makes spans of calls.
#[derive(Debug)]
pub struct Spans {
    config: Config,
    sampling: Sampling,
    waits: Waits,
    /// When a cause was seen last.
    caused: Option<Monotonic>,
    /// Calls that waited in vain.
    unanswered: u64,
}

/// A call whose place is known.
struct Placed<'a> {
    call: Cow<'a, Call>,
    names: Names,
    place: Place,
}

/// Longest that the server's end of a call within this host waits for the client's.
const CLIENT_WAIT: Duration = Duration::from_millis(500);
/// Without a cause for so long no call within this host waits.
const CAUSES_END: Duration = Duration::from_secs(60);

// === impl Config ===

impl Default for Config {
    fn default() -> Self {
        let traces = crate::config::Traces::default();
        Self {
            enabled: false,
            rules: traces.rules,
            sampling: traces.sampling,
            peers: traces.peers,
            lookups: traces.dns,
            wait: traces.wait,
            salt: 0,
        }
    }
}

// === impl FarEnd ===

impl FarEnd {
    /// Of a call over `link`; `is_told` says whether this agent tells the calls of a workload of
    /// this host.
    pub fn of(
        link: &Link,
        peers: TracedPeers,
        is_told: impl FnOnce(&Arc<Workload>) -> bool,
    ) -> Self {
        // Of a proxy's end nothing is told.
        if matches!(link.hop, Hop::ToProxy | Hop::FromProxy) {
            return Self::Unseen;
        }
        match (&link.peer, peers) {
            (Peer::Local(workload), _) if is_told(workload) => Self::Here,
            (Peer::Local(_), _) | (_, TracedPeers::None) => Self::Unseen,
            (Peer::Pod(_) | Peer::Node(_) | Peer::Service(_) | Peer::Identity(_), _)
            | (_, TracedPeers::All) => Self::Elsewhere,
            (Peer::Network(_) | Peer::Named { .. } | Peer::Address(_), TracedPeers::Cluster) => {
                Self::Unseen
            }
        }
    }
}

// === impl Spans ===

impl Spans {
    /// None made yet.
    pub fn new(config: Config) -> Self {
        Self {
            sampling: Sampling::new(config.rules.clone(), config.sampling.clone()),
            config,
            waits: Waits::default(),
            caused: None,
            unanswered: 0,
        }
    }

    /// Takes over new settings; what waits goes on waiting.
    pub fn reconfigure(&mut self, config: Config) {
        self.sampling = Sampling::new(config.rules.clone(), config.sampling.clone());
        self.config = config;
    }

    /// Which ends outside of this host are expected to be told.
    pub fn peers(&self) -> TracedPeers {
        self.config.peers
    }

    /// Places a call that ended, and pushes its span and those that waited for it, as far as they
    /// are kept. Returns its names if it is kept and its place is known at once.
    pub fn call(
        &mut self,
        call: &Call,
        far: FarEnd,
        now: Monotonic,
        out: &mut Vec<Span>,
    ) -> Option<(TraceId, SpanId)> {
        if !self.config.enabled {
            return None;
        }
        let names = Names::of(&call.exchange);
        let place = if call.exchange.role == Role::Client {
            self.place_client(call, names, far, now)?
        } else {
            self.place_server(call, names, far, now)?
        };
        let call = Cow::Borrowed(call);
        let placed = Placed { call, names, place };
        self.tell(placed, now, out)
    }

    /// Pushes the span of a lookup, if it is kept.
    pub fn lookup(&mut self, resolution: &Resolution, out: &mut Vec<Span>) {
        if !self.config.enabled || !self.config.lookups {
            return;
        }
        let (trace, id) = ids::of_lookup(&resolution.lookup, self.config.salt);
        let kept = self.sampling.decide(&Candidate {
            service: &resolution.workload.service,
            namespace: &resolution.workload.namespace,
            trace,
            context: None,
            failed: resolution.lookup.error().is_some(),
            duration: resolution.lookup.duration(),
        });
        out.extend(kept.map(|kept| Span {
            trace,
            id,
            parent: None,
            source: ParentSource::Root,
            context: None,
            link: None,
            kept,
            subject: Subject::Lookup(Box::new(resolution.clone())),
        }));
    }

    /// Tells what has waited long enough, `all`: everything; forgets what is old.
    pub fn expire(&mut self, now: Monotonic, all: bool, out: &mut Vec<Span>) {
        while let Some(waiting) = self.waits.due(now, all) {
            self.unanswered += u64::from(matches!(waiting.on, On::Inbound(_)) && !all);
            self.tell_alone(waiting, now, out);
        }
        self.waits.forget(now);
    }

    /// What could not be joined for want of room or time.
    pub fn losses(&self) -> Vec<Loss> {
        let loss = |reason, count| Loss {
            stage: "aggregate",
            reason,
            count,
        };
        vec![
            loss("cause_not_answered", self.unanswered),
            loss("cause_no_room", self.waits.full),
        ]
    }

    /// How full the tables are.
    pub fn tables(&self) -> Vec<Table> {
        self.waits.tables()
    }

    /// The place of a client's call; `None` when it waits.
    fn place_client(
        &mut self,
        call: &Call,
        names: Names,
        far: FarEnd,
        now: Monotonic,
    ) -> Option<Place> {
        let alone = Place::client(call, names);
        let Some(cause) = call.exchange.cause else {
            return Some(alone);
        };
        self.caused = Some(now);
        if let Some(answered) = self.waits.answered(cause.inbound) {
            match answered.fit(&cause) {
                waiting::Fit::Later => {}
                waiting::Fit::Never => return Some(alone),
                fit => {
                    let answered = *answered;
                    return Some(self.caused_by(call, names, far, &answered, &cause, fit));
                }
            }
        }
        let deadline = now.plus(self.config.wait);
        let waiting = Waiting {
            call: call.clone(),
            names,
            far,
            deadline,
            on: On::Inbound(cause),
        };
        if self.waits.push(waiting) {
            self.waits.extend(names.client, deadline.plus(CLIENT_WAIT));
            return None;
        }
        Some(alone)
    }

    /// The place of a server's call; `None` when it waits.
    fn place_server(
        &mut self,
        call: &Call,
        names: Names,
        far: FarEnd,
        now: Monotonic,
    ) -> Option<Place> {
        let alone = Place::server(call, names, far);
        let is_open = far == FarEnd::Here && call.exchange.context.is_none();
        if is_open && self.are_causes(now) {
            let waiting = Waiting {
                call: call.clone(),
                names,
                far,
                deadline: now.plus(CLIENT_WAIT),
                on: On::Client,
            };
            if self.waits.push(waiting) {
                return None;
            }
        }
        Some(alone)
    }

    /// The place of a client's call that `answered` was the cause of.
    fn caused_by(
        &self,
        call: &Call,
        names: Names,
        far: FarEnd,
        answered: &Answered,
        cause: &Cause,
        fit: waiting::Fit,
    ) -> Place {
        let alone = Place::client(call, names);
        if !answered.was_open(call.exchange.sent.first) {
            return alone;
        }
        let certain = cause.certain && fit == waiting::Fit::Exact && answered.alone;
        let link = SpanLink {
            trace: answered.trace,
            id: answered.id,
            certain,
        };
        let child = Place {
            trace: answered.trace,
            parent: Some(answered.id),
            source: ParentSource::Thread,
            link: None,
        };
        match &call.exchange.context {
            // What was called handed on the fields that it was called with: they name its caller.
            Some(context)
                if certain
                    && context.trace == answered.trace
                    && (context.parent.is_none() || context.parent == answered.caller) =>
            {
                child
            }
            Some(context) if certain && context.trace != answered.trace => Place {
                link: Some(link),
                ..alone
            },
            Some(_) => alone,
            // The other end must be told in the same trace.
            None if certain && (far == FarEnd::Unseen || self.waits.is_waiting(names.client)) => {
                child
            }
            None => Place {
                link: Some(link),
                ..alone
            },
        }
    }

    /// Whether threads have shown causes lately.
    fn are_causes(&self, now: Monotonic) -> bool {
        self.caused
            .is_some_and(|caused| now.since(caused) < CAUSES_END)
    }

    /// Tells one that waited, without what it waited for.
    fn tell_alone(&mut self, waiting: Waiting, now: Monotonic, out: &mut Vec<Span>) {
        let place = match waiting.on {
            On::Inbound(_) => Place::client(&waiting.call, waiting.names),
            On::Client => Place::server(&waiting.call, waiting.names, waiting.far),
        };
        self.tell(waiting.placed(place), now, out);
    }

    /// Pushes a span, and those whose places follow from it. Returns the names of the first if it
    /// is kept.
    fn tell<'a>(
        &mut self,
        first: Placed<'a>,
        now: Monotonic,
        out: &mut Vec<Span>,
    ) -> Option<(TraceId, SpanId)> {
        let id = first.names.of_end(first.call.exchange.role);
        let trace = first.place.trace;
        // Most calls ready no others, and cost no allocation.
        let mut ready = Vec::new();
        let first_is_kept = self.tell_one(first, now, &mut ready, out);
        while let Some(placed) = ready.pop() {
            self.tell_one(placed, now, &mut ready, out);
        }
        first_is_kept.then_some((trace, id))
    }

    /// Readies those whose places follow from a span, and pushes it if it is kept, and says whether.
    fn tell_one(
        &mut self,
        placed: Placed<'_>,
        now: Monotonic,
        ready: &mut Vec<Placed<'_>>,
        out: &mut Vec<Span>,
    ) -> bool {
        if placed.call.exchange.role == Role::Client {
            ready.extend(self.server_of(&placed));
        } else {
            self.answer(&placed, now, ready);
        }
        self.keep(placed, out)
    }

    /// The server's end of a call within this host that waits for this client's.
    fn server_of(&mut self, client: &Placed<'_>) -> Option<Placed<'static>> {
        let waiting = self.waits.take_server(client.names.client)?;
        let place = Place {
            trace: client.place.trace,
            ..Place::server(&waiting.call, waiting.names, waiting.far)
        };
        Some(waiting.placed(place))
    }

    /// Notes that a request was answered, and readies what waits for that.
    fn answer(&mut self, server: &Placed<'_>, now: Monotonic, ready: &mut Vec<Placed<'_>>) {
        if !self.are_causes(now) {
            return;
        }
        let id = server.call.exchange.connection;
        let answered = self.waits.answer(server, now);
        for waiting in self.waits.take_caused(id, &answered) {
            let On::Inbound(cause) = waiting.on else {
                continue;
            };
            let place = match answered.fit(&cause) {
                waiting::Fit::Later | waiting::Fit::Never => {
                    Place::client(&waiting.call, waiting.names)
                }
                fit => self.caused_by(
                    &waiting.call,
                    waiting.names,
                    waiting.far,
                    &answered,
                    &cause,
                    fit,
                ),
            };
            ready.push(waiting.placed(place));
        }
    }

    /// Pushes a span if it is kept, and says whether.
    fn keep(&self, placed: Placed<'_>, out: &mut Vec<Span>) -> bool {
        let Placed {
            call, names, place, ..
        } = placed;
        let workload = &call.link.workload;
        let kept = self.sampling.decide(&Candidate {
            service: &workload.service,
            namespace: &workload.namespace,
            trace: place.trace,
            context: call.exchange.context.as_deref(),
            failed: call.error.is_some(),
            duration: call.exchange.duration(),
        });
        let Some(kept) = kept else {
            return false;
        };
        out.push(Span {
            trace: place.trace,
            id: names.of_end(call.exchange.role),
            parent: place.parent,
            source: place.source,
            context: call.exchange.context.clone(),
            link: place.link,
            kept,
            subject: Subject::Call(Box::new(call.into_owned())),
        });
        true
    }
}

#[cfg(test)]
mod tests;
