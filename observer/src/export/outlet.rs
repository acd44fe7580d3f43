//! The pipeline's end: takes spans and entries of the access log, and never waits.

use std::sync::Arc;

use tokio::sync::watch;

use super::{Settings, bounds, queue::Queue, status::Status};
use crate::{
    config::Signal,
    model::{
        call::Call,
        connection::Role,
        span::{Access, Span, Subject},
        workload::{Peer, Workload},
    },
};

/// Takes what is to be exported. What cannot be is dropped, and counted.
pub struct Outlet {
    spans: Arc<Queue<Span>>,
    accesses: Arc<Queue<Access>>,
    settings: watch::Sender<Arc<Settings>>,
    status: Arc<Status>,
    wants_spans: bool,
    wants_accesses: bool,
    /// Our own process.
    process: u32,
}

// === impl Outlet ===

impl Outlet {
    pub(super) fn new(
        (spans, accesses): (Arc<Queue<Span>>, Arc<Queue<Access>>),
        settings: watch::Sender<Arc<Settings>>,
        status: Arc<Status>,
    ) -> Self {
        let mut outlet = Self {
            spans,
            accesses,
            settings,
            status,
            wants_spans: false,
            wants_accesses: false,
            process: std::process::id(),
        };
        outlet.look();
        outlet
    }

    /// Names our own process, where the kernel knows it by another id than we do: in a namespace of
    /// process ids. Its calls are not exported, as each export would make the next.
    pub const fn set_own_process(&mut self, process: u32) {
        self.process = process;
    }

    /// Whether spans go anywhere: otherwise none need be made.
    pub const fn wants_spans(&self) -> bool {
        self.wants_spans
    }

    /// Whether entries of the access log go anywhere.
    pub const fn wants_accesses(&self) -> bool {
        self.wants_accesses
    }

    /// Takes a span.
    pub fn span(&mut self, span: Span) {
        let own = match &span.subject {
            Subject::Call(call) => self.is_own(call),
            Subject::Lookup(lookup) => self.is_us(&lookup.workload),
        };
        if self.wants_spans && !own {
            self.spans.push(span);
        }
    }

    /// Takes an entry of the access log.
    pub fn access(&mut self, access: Access) {
        if self.wants_accesses && !self.is_own(&access.call) {
            self.accesses.push(access);
        }
    }

    /// Takes over new settings, here and at the other end.
    pub fn reconfigure(&mut self, settings: &Settings) {
        if **self.settings.borrow() == *settings {
            return;
        }
        self.settings.send_replace(Arc::new(settings.clone()));
        self.spans.set_bounds(bounds(settings));
        self.accesses.set_bounds(bounds(settings));
        self.look();
    }

    /// What became of what was taken.
    pub const fn status(&self) -> &Arc<Status> {
        &self.status
    }

    fn look(&mut self) {
        let settings = self.settings.borrow();
        let wants = |signal| settings.destination(signal).is_some();
        let (spans, accesses) = (wants(Signal::Traces), wants(Signal::Logs));
        drop(settings);
        self.wants_spans = spans;
        self.wants_accesses = accesses;
    }

    fn is_us(&self, workload: &Workload) -> bool {
        workload.pid == self.process
    }

    /// Whether a call is one of our own process, or what the collector sees of one: an export would
    /// make the next otherwise.
    pub fn is_own(&self, call: &Call) -> bool {
        let at_server = call.link.connection.role == Role::Server;
        let from_us = match &call.link.peer {
            Peer::Local(client) => at_server && self.is_us(client),
            _ => false,
        };
        from_us || self.is_us(&call.link.workload)
    }
}
