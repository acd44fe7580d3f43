//! What waited for pods that were not known: told as soon as they are, or when it waited long enough.

use std::{sync::Arc, time::Duration};

use super::{
    Enricher, Told,
    identify::{Asked, Knowledge},
    names::Asker,
    state::State,
    waiting::Waiting,
};
use crate::{
    cluster::index::Index,
    host::Host,
    model::{call::Link, connection::ConnectionId, time::Monotonic, workload::Peer},
};

/// What was found out while the calls of a connection are looked at.
#[derive(Default)]
struct Looked {
    /// Calls share few links: each is looked at once.
    links: Vec<(Arc<Link>, Arc<Link>)>,
    /// The other end, where that is on this host.
    local: Option<Peer>,
}

/// Between two looks at connections that were told with something unknown.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Connections of those that are looked at in one go.
const ASK_AT_ONCE: usize = 1024;

impl Enricher {
    /// What is known of the cluster; `None` outside of one.
    pub fn index(&self) -> Option<&Index> {
        self.cluster.as_ref().map(|cluster| &cluster.index)
    }

    /// The same, to be told of changes.
    pub fn index_mut(&mut self) -> Option<&mut Index> {
        self.cluster.as_mut().map(|cluster| &mut cluster.index)
    }

    /// Tells what waited and is known now, or waited long enough. Cheap when nothing changed; meant to be
    /// called often. `all`: what waits is told as it is, for the end.
    pub fn settle(&mut self, host: &mut Host, now: Monotonic, all: bool, out: &mut Vec<Told>) {
        self.settle_unwired(now, all, out);
        let Some(cluster) = &self.cluster else {
            return;
        };
        let revision = cluster.index.revision();
        let changed = self.revision != revision;
        let fresh = std::mem::take(&mut self.fresh);
        if !self.waiting.is_empty() && (all || changed || self.waiting.is_due(now)) {
            for id in self.waiting.ids() {
                self.try_to_tell(id, host, now, all, out);
            }
        } else {
            // What it waits for may have become known before it began to wait.
            for id in fresh {
                self.try_to_tell(id, host, now, false, out);
            }
        }
        while let Some(id) = self.waiting.overdue() {
            self.try_to_tell(id, host, now, true, out);
        }
        self.revision = revision;
        if all {
            self.settle_unwired(now, true, out);
        }
        if self.asked_revision != revision && now.since(self.asked) >= ASK_AGAIN {
            (self.asked, self.asked_revision) = (now, revision);
            self.ask_again(host, now);
        }
    }

    /// Holds something back.
    pub(super) fn wait(&mut self, id: ConnectionId, told: Told, now: Monotonic) {
        let deadline = match &mut self.cluster {
            // What the kernel tells may be a little younger than our last look at the clock.
            Some(cluster) => cluster.deadline(now.max(told.met())),
            None => now,
        };
        if !self.waiting.has(id) {
            self.fresh.push(id);
        }
        self.waiting.push(id, deadline, told);
    }

    /// What is told of a socket that is no connection: at once, or later.
    pub(super) fn tell(
        &mut self,
        id: ConnectionId,
        mut told: Told,
        host: &mut Host,
        now: Monotonic,
    ) -> Option<Told> {
        let known = self.identify_told(&mut told, &mut Looked::default(), host, now, false);
        if known != Knowledge::Awaited {
            return Some(told);
        }
        self.wait(id, told, now);
        None
    }

    /// More may become known of a connection that was told.
    pub(super) fn doubt(&mut self, id: ConnectionId) {
        let told = |state: &&mut State| !state.waits && !state.unsure;
        if self.cluster.is_some()
            && let Some(state) = self.connections.get_mut(&id).filter(told)
        {
            state.unsure = true;
            self.unsure.push_back(id);
        }
    }

    fn try_to_tell(
        &mut self,
        id: ConnectionId,
        host: &mut Host,
        now: Monotonic,
        last: bool,
        out: &mut Vec<Told>,
    ) {
        let Some(held) = self.waiting.get_mut(id) else {
            return;
        };
        let last = last || held.deadline <= now;
        let mut told = std::mem::take(&mut held.told);
        let mut known = Knowledge::Complete;
        // The other end may have been found on this host in the meantime.
        let peer = self.connections.get(&id).map(|state| &state.link.peer);
        let local = peer.filter(|peer| peer.is_local()).cloned();
        let mut looked = Looked {
            links: Vec::new(),
            local,
        };
        for one in &mut told {
            known = known.max(self.identify_told(one, &mut looked, host, now, last));
        }
        if let Some(state) = self.connections.get(&id) {
            let mut link = Link::clone(&state.link);
            known = known.max(self.identify(&mut link, host, now, last));
            if let Some(state) = self.connections.get_mut(&id) {
                state.waits = known == Knowledge::Awaited && !last;
                if state.link.workload != link.workload {
                    self.routes.release(state.service);
                    state.service = self.routes.acquire(&link.workload);
                    state.recent = None;
                }
                state.link = Arc::new(link);
            }
        }
        if let Some(held) = self.waiting.get_mut(id) {
            held.told = told;
        }
        if known != Knowledge::Awaited || last {
            for one in self.waiting.take(id) {
                out.extend(self.tell_wired(one, now));
            }
            if known != Knowledge::Complete {
                self.doubt(id);
            }
        }
    }

    /// Gives what is told what the cluster knows by now.
    fn identify_told(
        &mut self,
        told: &mut Told,
        looked: &mut Looked,
        host: &mut Host,
        now: Monotonic,
        last: bool,
    ) -> Knowledge {
        if let Some(link) = told.link_mut() {
            let same = |(before, _): &&(Arc<Link>, _)| Arc::ptr_eq(before, link);
            if let Some((_, known)) = looked.links.iter().find(same) {
                *link = known.clone();
                return Knowledge::Complete;
            }
            let mut better = Link::clone(link);
            if let Some(local) = looked.local.as_ref().filter(|_| !better.peer.is_local()) {
                better.peer = local.clone();
            }
            let known = self.identify(&mut better, host, now, last);
            let better = Arc::new(better);
            looked.links.push((link.clone(), better.clone()));
            *link = better;
            return known;
        }
        let Some(cluster) = &mut self.cluster else {
            return Knowledge::Complete;
        };
        let (remote, workload, namespace) = match told {
            Told::Lookup(resolution) => (
                resolution.lookup.remote,
                &resolution.workload,
                resolution.lookup.owner.network_namespace,
            ),
            Told::Datagrams(conversation) => (
                conversation.datagrams.remote,
                &conversation.workload,
                conversation.datagrams.owner.network_namespace,
            ),
            Told::Link(_) | Told::Call(_) => return Knowledge::Complete,
        };
        let asker = Asker {
            workload,
            network_namespace: namespace,
        };
        let name = self.names.find(remote.ip(), asker, now).cloned();
        let asked = Asked {
            now,
            last,
            name: name.as_deref(),
        };
        match told {
            Told::Lookup(resolution) => cluster.lookup(resolution, host, asked),
            Told::Datagrams(conversation) => cluster.conversation(conversation, host, asked),
            Told::Link(_) | Told::Call(_) => Knowledge::Complete,
        }
    }

    /// Looks again at connections that were told with something unknown.
    fn ask_again(&mut self, host: &mut Host, now: Monotonic) {
        for _ in 0..self.unsure.len().min(ASK_AT_ONCE) {
            let Some(id) = self.unsure.pop_front() else {
                return;
            };
            let Some(state) = self.connections.get(&id).filter(|state| state.unsure) else {
                continue;
            };
            let mut link = Link::clone(&state.link);
            let known = self.identify(&mut link, host, now, false);
            if let Some(state) = self.connections.get_mut(&id) {
                state.unsure = known != Knowledge::Complete;
                if *state.link != link {
                    state.link = Arc::new(link);
                }
            }
            if known != Knowledge::Complete {
                self.unsure.push_back(id);
            }
        }
    }

    /// What waits.
    pub(super) fn waiting(&self) -> &Waiting {
        &self.waiting
    }
}
