//! The stages after `assemble`: where its results go.

use std::sync::Arc;

use crate::{
    aggregate::{
        Aggregator,
        access::AccessLog,
        history::Judgement,
        spans::{FarEnd, Spans},
    },
    app::{export::Exports, ignored::Ignored},
    assemble::{Instruction, Sink},
    enrich::{Enricher, Told},
    host::Host,
    mesh::ledger::Ledger,
    model::{
        call::{Call, Link, LinkEvent},
        connection::{ConnectionEvent, ConnectionId},
        datagram::{Conversation, Datagrams},
        exchange::Exchange,
        lookup::{Lookup, Resolution},
        mesh::RouteMatch,
        span::Span,
        time::Monotonic,
        trace::{SpanId, TraceId},
    },
    serve,
};

/// The stages after `assemble`: where its results go.
pub(super) struct Rest {
    pub(super) host: Host,
    pub(super) enricher: Enricher,
    pub(super) ignored: Ignored,
    pub(super) aggregator: Aggregator,
    pub(super) spans: Spans,
    pub(super) access_log: AccessLog,
    /// What was seen of service meshes, and what is declared.
    pub(super) ledger: Ledger,
    /// Whether that is asked for.
    pub(super) judges: bool,
    /// Where spans and entries of the access log go.
    pub(super) exports: Exports,
    pub(super) answers: serve::Pipeline,
    /// Room for what waited.
    pub(super) told: Vec<Told>,
    /// Room for spans.
    pub(super) made: Vec<Span>,
    /// For the kernel, carried out when a batch is done.
    pub(super) instructions: Vec<(u32, ConnectionId, Instruction)>,
    pub(super) now: Monotonic,
}

// === impl Rest ===

impl Rest {
    /// Tells what waited for pods to become known; `all`: also what is not.
    pub(super) fn settle(&mut self, all: bool) {
        let mut told = std::mem::take(&mut self.told);
        self.enricher
            .settle(&mut self.host, self.now, all, &mut told);
        for told in told.drain(..) {
            match told {
                Told::Link(event) => self.link(&event),
                Told::Call(call) => self.call(&call),
                Told::Lookup(resolution) => self.resolution(&resolution),
                Told::Datagrams(conversation) => self.conversation(&conversation),
            }
        }
        self.told = told;
    }

    fn link(&mut self, event: &LinkEvent) {
        if self.ignored.is(&link_of(event).workload) {
            return;
        }
        if self.judges {
            self.ledger.link(event, self.now);
        }
        let (ledger, link) = (&self.ledger, link_of(event));
        let judge = || judgement(ledger, link, None);
        if let Some(flow) = self.aggregator.link_judged(event, judge, self.now) {
            self.answers.publish(flow);
        }
    }

    fn call(&mut self, call: &Call) {
        if self.ignored.is(&call.link.workload) {
            return;
        }
        let ended = call.exchange.ended;
        let matched = if self.judges {
            self.ledger.call(call, ended)
        } else {
            None
        };
        let mut names = None;
        // What passes between proxies is told where it begins and ends.
        if call.link.hop.is_counted() {
            names = self.trace(call);
            if self.access_log.wants(call) {
                self.exports.access(call, names);
            }
        }
        let ledger = &self.ledger;
        let judge = || judgement(ledger, &call.link, matched.as_ref());
        if let Some(flow) = self.aggregator.call_judged(call, names, judge, ended) {
            self.answers.publish(flow);
        }
    }

    /// Makes the span of a call; returns its names, if it is kept and they are known.
    fn trace(&mut self, call: &Call) -> Option<(TraceId, SpanId)> {
        // An exemplar must not lead to a span that nobody gets.
        if self.exports.is_own(call) {
            return None;
        }
        let ignored = &mut self.ignored;
        let peers = self.spans.peers();
        let far = FarEnd::of(&call.link, peers, |workload| !ignored.is(workload));
        let names = self.spans.call(call, far, self.now, &mut self.made);
        self.exports.spans(&mut self.made);
        names
    }

    /// Tells spans that waited long enough, `all`: everything that waits.
    pub(super) fn expire_spans(&mut self, all: bool) {
        self.spans.expire(self.now, all, &mut self.made);
        self.exports.spans(&mut self.made);
    }

    fn resolution(&mut self, resolution: &Resolution) {
        if self.ignored.is(&resolution.workload) {
            return;
        }
        self.spans.lookup(resolution, &mut self.made);
        self.exports.spans(&mut self.made);
        if let Some(flow) = self.aggregator.lookup(resolution, self.now) {
            self.answers.publish(flow);
        }
    }

    fn conversation(&mut self, conversation: &Conversation) {
        if self.ignored.is(&conversation.workload) {
            return;
        }
        if let Some(flow) = self.aggregator.datagrams(conversation, self.now) {
            self.answers.publish(flow);
        }
    }
}

impl Sink for Rest {
    fn connection(&mut self, event: ConnectionEvent) {
        let event = self.enricher.connection(event, &mut self.host, self.now);
        if let Some(event) = event {
            self.link(&event);
        }
    }

    fn exchange(&mut self, exchange: Exchange) {
        if let Some(call) = self.enricher.exchange(exchange, self.now) {
            self.call(&call);
        }
    }

    fn lookup(&mut self, lookup: Lookup) {
        let resolution = self.enricher.lookup(lookup, &mut self.host, self.now);
        if let Some(resolution) = resolution {
            self.resolution(&resolution);
        }
    }

    fn datagrams(&mut self, datagrams: Datagrams) {
        let conversation = self.enricher.datagrams(datagrams, &mut self.host, self.now);
        if let Some(conversation) = conversation {
            self.conversation(&conversation);
        }
    }

    fn instruct(&mut self, slot: u32, id: ConnectionId, instruction: Instruction) {
        self.instructions.push((slot, id, instruction));
    }
}

/// What the ledger says of a connection, and of a call that matched `route`; `None` while nothing is
/// declared.
fn judgement(ledger: &Ledger, link: &Link, route: Option<&RouteMatch>) -> Option<Judgement> {
    if ledger.policies().is_empty() {
        return None;
    }
    let (declared, verdict) = ledger.verdict(link);
    Some(Judgement {
        declared,
        verdict,
        route: route.map(|route| Arc::new(route.clone())),
    })
}

fn link_of(event: &LinkEvent) -> &Arc<Link> {
    match event {
        LinkEvent::Opened(link)
        | LinkEvent::Recognised { link, .. }
        | LinkEvent::Progress { link, .. }
        | LinkEvent::Closed { link, .. }
        | LinkEvent::Failed { link, .. } => link,
    }
}
