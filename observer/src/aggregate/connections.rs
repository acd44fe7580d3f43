//! What connections do to their series: they open, move, show what they are, and end.

use std::sync::Arc;

use crate::model::{
    call::Link,
    connection::{Role, Transfer},
    security::Security,
    time::Monotonic,
};

use super::{
    Aggregator,
    edges::OnEdge,
    identity::Interned,
    links::{self, Tcp, Tracked},
    series::Handle,
    service,
};

// === impl Aggregator ===

impl Aggregator {
    /// Counts what a connection moved since it last told; returns its series.
    pub(super) fn moved(
        &mut self,
        link: &Arc<Link>,
        total: &Transfer,
        last: bool,
        now: Monotonic,
    ) -> (Handle, Handle) {
        let known = self.links.table.contains_key(&link.connection.id);
        // So old that it may have been forgotten: its past may be counted already.
        let old = !known && now.since(link.connection.started) >= links::FORGET;
        let (tcp, service) = self.track(link, link.connection.role, now);
        let change = match self.links.table.get_mut(&link.connection.id) {
            Some(tracked) => {
                let change = links::change(&tracked.counted, total);
                tracked.counted = links::latest(&tracked.counted, total);
                if !old {
                    self.edges.moved(tracked, &change, now);
                }
                change
            }
            // There was no room to track it: all that it moved is counted at its end.
            None if last => {
                if !old {
                    self.edges.ended_untracked(link, total, now);
                }
                *total
            }
            None => return (tcp, service),
        };
        if old {
            return (tcp, service);
        }
        if let Some(tcp) = self.tcp.update(tcp, now) {
            tcp.moved(&change, link.security, now);
        }
        if let Some(service) = self.services.update(service, now) {
            service.moved(&change, now);
        }
        (tcp, service)
    }

    /// The series of a connection, which is tracked from now on if there is room.
    pub(super) fn track(
        &mut self,
        link: &Arc<Link>,
        role: Role,
        now: Monotonic,
    ) -> (Handle, Handle) {
        let id = link.connection.id;
        let mut role = role;
        if let Some(tracked) = self.links.table.get_mut(&id) {
            tracked.used = now;
            if role == Role::Unknown {
                role = tracked.identity.0.role();
            }
            if tracked.is(link, role) {
                return (tracked.tcp, tracked.service);
            }
        } else if self.links.table.len() >= self.links.limit {
            let (_, tcp, service) = self.resolve(link, role, now);
            return (tcp, service);
        }
        let (identity, tcp, service) = self.resolve(link, role, now);
        let mut counted = Transfer::default();
        let mut security_counted = false;
        let mut on_edge = OnEdge::default();
        if let Some(tracked) = self.links.table.get_mut(&id) {
            if tracked.identity == identity {
                let before = std::mem::replace(&mut tracked.link, link.clone()).security;
                self.edges.settle_again(tracked, now);
                if before != link.security
                    && let Some(tcp) = self.tcp.update(tcp, now)
                {
                    let open = &mut tcp.secured(before).open;
                    *open = open.saturating_sub(1);
                    tcp.secured(link.security).open += 1;
                }
                return (tracked.tcp, tracked.service);
            }
            // More is known of it now: it is open under this identity, no longer under the old.
            counted = tracked.counted;
            security_counted = tracked.security_counted;
            on_edge = tracked.on_edge.carried();
            if let Some(mut tracked) = self.links.table.remove(&id) {
                self.release(&mut tracked, now);
            }
        }
        if let Some(tcp) = self.tcp.update(tcp, now) {
            tcp.secured(link.security).open += 1;
        }
        if let Some(service) = self.services.update(service, now) {
            service.open += 1;
        }
        let pod = self.see_pod(&link.workload, now);
        let link = link.clone();
        let tracked = Tracked {
            link,
            identity,
            tcp,
            service,
            memo: None,
            on_edge,
            pod,
            counted,
            security_counted,
            used: now,
        };
        self.links.table.insert(id, tracked);
        (tcp, service)
    }

    /// Takes a connection off the gauges of open ones.
    pub(super) fn release(&mut self, tracked: &mut Tracked, now: Monotonic) {
        self.edges.leave(&mut tracked.on_edge, now);
        if let Some(tcp) = self.tcp.update(tracked.tcp, now) {
            let open = &mut tcp.secured(tracked.link.security).open;
            *open = open.saturating_sub(1);
        }
        if let Some(service) = self.services.update(tracked.service, now) {
            service.open = service.open.saturating_sub(1);
        }
    }

    /// Counts the security of a connection once: when it is known, or at its end. One that is not
    /// tracked is counted at its end.
    pub(super) fn count_security(
        &mut self,
        link: &Link,
        service: Handle,
        last: bool,
        now: Monotonic,
    ) {
        let tracked = self.links.table.get_mut(&link.connection.id);
        let counted = match tracked {
            Some(tracked) if last || link.security != Security::Unknown => {
                std::mem::replace(&mut tracked.security_counted, true)
            }
            Some(_) => true,
            None => !last,
        };
        if !counted && let Some(service) = self.services.update(service, now) {
            service.security[link.security.index()] += 1;
        }
    }

    /// Identity and series of a connection, tracked or not.
    pub(super) fn resolve(
        &mut self,
        link: &Arc<Link>,
        role: Role,
        now: Monotonic,
    ) -> (Interned, Handle, Handle) {
        if let Some(tracked) = self.links.table.get(&link.connection.id)
            && tracked.is(link, role)
        {
            return (tracked.identity.clone(), tracked.tcp, tracked.service);
        }
        let identity = self.identities.intern(link, role);
        let exponential = self.config.histograms.has_native();
        let tcp = self.tcp.resolve(&identity, now, || {
            (
                identity.0.labels(&[("role", role.as_str())]),
                Tcp::new(exponential),
            )
        });
        let service = service(&mut self.services, &identity, now);
        (identity, tcp, service)
    }
}
