//! The stages after `assemble`: where its results go.

use std::sync::Arc;

use crate::{
    aggregate::{
        Aggregator,
        access::AccessLog,
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
        mesh::DeclaredMtls,
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
                Told::Call(mut call) => self.call(&mut call),
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
        if let Some(flow) = self.aggregator.link(event, self.now) {
            self.answers.publish(flow);
        }
    }

    fn call(&mut self, call: &mut Call) {
        if self.ignored.is(&call.link.workload) {
            return;
        }
        if self.judges {
            let ended = call.exchange.ended;
            call.matched = self.ledger.call(call, ended).map(Arc::new);
            call.judged = Some(self.ledger.verdict(&call.link))
                .filter(|(declared, _)| *declared != DeclaredMtls::NoMesh);
        }
        if !call.link.hop.is_counted() {
            if let Some(flow) = self.aggregator.call(call, None, call.exchange.ended) {
                self.answers.publish(flow);
            }
            return;
        }
        let names = self.trace(call);
        if self.access_log.wants(call) {
            self.exports.access(call, names);
        }
        let ended = call.exchange.ended;
        if let Some(flow) = self.aggregator.call(call, names, ended) {
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
        if let Some(mut call) = self.enricher.exchange(exchange, self.now) {
            self.call(&mut call);
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

fn link_of(event: &LinkEvent) -> &Arc<Link> {
    match event {
        LinkEvent::Opened(link)
        | LinkEvent::Recognised { link, .. }
        | LinkEvent::Progress { link, .. }
        | LinkEvent::Closed { link, .. }
        | LinkEvent::Failed { link, .. } => link,
    }
}
