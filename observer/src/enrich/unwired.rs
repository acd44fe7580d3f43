//! What is told a moment later, because its proxy's connection has not shown yet what it is.
//!
//! The first call through a proxy ends when the proxy's own connection has just begun, and what that shows
//! may be read after the call. So the call waits for it, briefly: it would be told with unknown security, or
//! with nobody as its caller.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use super::{Enricher, Told};
use crate::model::{
    call::{Call, Link, LinkEvent},
    connection::{ConnectionId, Role},
    mesh::Hop,
    security::Security,
    time::Monotonic,
};

/// What waits, in order.
#[derive(Debug, Default)]
pub(super) struct Unwired {
    queue: VecDeque<(Monotonic, Told)>,
    /// State of all proxies' connections when the queue was last looked at.
    looked: u64,
    /// Told at once, for want of room.
    pub(super) full: u64,
}

/// How long something waits at most.
const PATIENCE: Duration = Duration::from_millis(500);

/// How old a proxy's connection may be that is waited for.
const YOUNG: Duration = Duration::from_secs(1);

// === impl Unwired ===

impl Unwired {
    /// Most that waits.
    pub(super) const LIMIT: usize = 4_096;

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    fn has(&self, id: ConnectionId) -> bool {
        self.queue.iter().any(|(_, told)| match told {
            Told::Call(call) => call.link.connection.id == id,
            Told::Link(LinkEvent::Closed { link, .. }) => link.connection.id == id,
            _ => false,
        })
    }
}

impl Enricher {
    /// Keeps a call until its proxy's connection has shown what it is; gives it back if that need not be.
    pub(super) fn call_unwired(&mut self, call: Call, now: Monotonic) -> Option<Call> {
        let security = call.far().map_or(Security::Plaintext, |far| far.security);
        if !self.awaits_wire(&call.link, security, now) {
            return Some(call);
        }
        match self.keep(Told::Call(call), now)? {
            Told::Call(call) => Some(call),
            _ => None,
        }
    }

    /// As [`Self::call_unwired`], for the end of a connection, which is also kept behind its calls.
    pub(super) fn event_unwired(&mut self, event: LinkEvent, now: Monotonic) -> Option<LinkEvent> {
        let LinkEvent::Closed { link, .. } = &event else {
            return Some(event);
        };
        let id = link.connection.id;
        let behind = matches!(link.hop, Hop::ToProxy | Hop::FromProxy) && self.unwired.has(id);
        if !behind && !self.awaits_wire(link, link.secured(), now) {
            return Some(event);
        }
        match self.keep(Told::Link(event), now)? {
            Told::Link(event) => Some(event),
            _ => None,
        }
    }

    /// As [`Self::call_unwired`] and [`Self::event_unwired`], for what has waited for pods.
    pub(super) fn tell_wired(&mut self, told: Told, now: Monotonic) -> Option<Told> {
        match told {
            Told::Call(mut call) => {
                self.find_caller(&mut call);
                self.call_unwired(call, now).map(Told::Call)
            }
            Told::Link(event) => self.event_unwired(event, now).map(Told::Link),
            Told::Lookup(_) | Told::Datagrams(_) => Some(told),
        }
    }

    fn keep(&mut self, told: Told, now: Monotonic) -> Option<Told> {
        if self.unwired.queue.len() >= Unwired::LIMIT {
            self.unwired.full += 1;
            return Some(told);
        }
        // What the kernel tells may be younger than our last look at the clock.
        let ended = match &told {
            Told::Call(call) => call.exchange.ended,
            Told::Link(LinkEvent::Closed { at, .. }) => *at,
            _ => now,
        };
        let due = now.max(ended).plus(PATIENCE);
        self.unwired.queue.push_back((due, told));
        None
    }

    /// Tells what has waited long enough, or for what has come; `all`: everything. Nearly free when nothing
    /// waits.
    pub(super) fn settle_unwired(&mut self, now: Monotonic, all: bool, out: &mut Vec<Told>) {
        let Some((due, _)) = self.unwired.queue.front() else {
            return;
        };
        let changes = self.wires.changes();
        if !all && *due > now && self.unwired.looked == changes {
            return;
        }
        self.unwired.looked = changes;
        let queue = std::mem::take(&mut self.unwired.queue);
        for (due, mut told) in queue {
            let (link, security) = match &mut told {
                Told::Call(call) => {
                    self.look_again(&mut call.link);
                    self.find_caller(call);
                    let security = call.far().map_or(Security::Plaintext, |far| far.security);
                    (call.link.clone(), security)
                }
                Told::Link(LinkEvent::Closed { link, .. }) => {
                    self.look_again(link);
                    (link.clone(), link.secured())
                }
                _ => {
                    out.push(told);
                    continue;
                }
            };
            let id = link.connection.id;
            let waits = self.awaits_wire(&link, security, now) || self.unwired.has(id);
            if waits && due > now && !all {
                self.unwired.queue.push_back((due, told));
            } else {
                out.push(told);
            }
        }
    }

    /// Whether a proxy has just opened what will tell how a socket next to it is secured.
    fn awaits_wire(&self, link: &Link, security: Security, now: Monotonic) -> bool {
        let role = match link.hop {
            Hop::ToProxy => Role::Client,
            Hop::FromProxy => Role::Server,
            Hop::Direct | Hop::Proxy(_) | Hop::Meta => return false,
        };
        if security != Security::Unknown {
            return false;
        }
        // Whoever called came by a connection that the proxy has: it is told in a moment, if not yet.
        if link.hop == Hop::FromProxy {
            return true;
        }
        let connection = &link.connection;
        let began = connection.established.unwrap_or(connection.started);
        let Some(ends) = self.wires.of(connection.local.ip()) else {
            return now.since(began) < YOUNG;
        };
        now.since(began) < YOUNG
            || ends.wires.iter().any(|wire| {
                wire.role == role
                    && wire.security == Security::Unknown
                    && now.since(wire.opened) < YOUNG
            })
    }

    fn look_again(&self, link: &mut Arc<Link>) {
        let far = self.far(link);
        if link.far != far {
            *link = Arc::new(Link {
                far,
                ..Link::clone(link)
            });
        }
    }
}
