//! Connections that are open, and what each adds to its edge.

mod callers;
mod signs;

use std::{sync::Arc, time::Duration};

use hashbrown::HashMap;

use self::callers::Caller;
use super::{
    edge::{Edge, Side, Sign},
    edges::Edges,
    latency::{Place, Turns},
    past::{Counts, Teller},
    view::{Places, Vantage, View},
};
use crate::{
    mesh::{findings::Sample, policy::Policies},
    model::{
        call::{Call, Link},
        connection::{ClosedBy, ConnectionId, Role, Transfer},
        kubernetes::Dialled,
        mesh::{Far, Hop},
        security::Security,
        time::Monotonic,
    },
};

/// How old a connection is before it counts, if it does not end first: its calls, which tell
/// whether it is a probe, come before.
const SETTLED: Duration = Duration::from_secs(2);
/// After how long a connection is forgotten of which nothing is heard.
const SILENT: Duration = Duration::from_secs(6 * 3600);

/// A connection that is open.
#[derive(Debug)]
struct Live {
    link: Arc<Link>,
    edge: u32,
    vantage: Vantage,
    /// Nothing is judged by it: it is older than the observer, or of an edge that is not judged.
    exempt: bool,
    told_twice: bool,
    tunnel: bool,
    /// It is a probe.
    probe: bool,
    /// How it was counted.
    counted: Option<Security>,
    /// It waits to be settled.
    waiting: bool,
    /// It is in what is kept by time.
    dated: bool,
    /// When it was last a sign.
    signed: Option<Monotonic>,
    turns: Turns,
    last: Monotonic,
    /// Who made its last call, where that was told apart.
    caller: Option<Caller>,
}

/// Connections that are open, up to a limit.
#[derive(Debug, Default)]
pub(super) struct Watch {
    live: HashMap<ConnectionId, Live>,
    /// Connections that carried data both ways before they were settled: of those that proxies keep
    /// for later, nothing more may be heard for long.
    waiting: Vec<ConnectionId>,
    places: Places,
    /// Times that there was no room.
    pub(super) dropped: u64,
}

/// What the watch needs of the ledger.
pub(super) struct Around<'a> {
    pub(super) policies: &'a Policies,
    pub(super) edges: &'a mut Edges,
    /// Most edges.
    pub(super) limit: usize,
    /// From when on edges that are new are judged.
    pub(super) judged_from: Monotonic,
    /// How long that takes to settle which is new.
    pub(super) settle: Duration,
    pub(super) now: Monotonic,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    pub(super) by: ClosedBy,
}

// === impl Around ===

impl Around<'_> {
    fn find(&mut self, view: &View<'_>) -> Option<u32> {
        let policies = self.policies;
        self.edges.find(
            view,
            |pod| policies.plane(pod),
            self.limit,
            self.judged_from,
            self.now,
        )
    }
}

// === impl Watch ===

impl Watch {
    /// The edge of a connection.
    pub(super) fn edge(&self, link: &Link) -> Option<u32> {
        Some(self.live.get(&link.connection.id)?.edge)
    }

    pub(super) fn len(&self) -> usize {
        self.live.len()
    }

    pub(super) fn places(&self) -> usize {
        self.places.len()
    }

    /// Takes what is known of a connection; whether it is of an edge.
    pub(super) fn follow(&mut self, link: &Arc<Link>, around: &mut Around<'_>) -> bool {
        if let Some(live) = self.live.get_mut(&link.connection.id)
            && Arc::ptr_eq(&live.link, link)
        {
            live.last = around.now;
            return true;
        }
        self.place(link, around).is_some()
    }

    /// A connection that is new, or of which more is known.
    fn place(&mut self, link: &Arc<Link>, around: &mut Around<'_>) -> Option<()> {
        self.places.learn(link);
        let context = around.policies.context();
        let view = View::of(link, link.far.as_ref(), &self.places, context);
        let id = link.connection.id;
        let found = view.and_then(|view| Some((view, around.find(&view)?)));
        let Some((view, edge)) = found else {
            if let Some(old) = self.live.remove(&id) {
                leave(&old, around.edges);
            }
            return None;
        };
        let full = self.live.len() >= around.limit.saturating_mul(8);
        if full && !self.live.contains_key(&id) {
            self.dropped += 1;
            return None;
        }
        let mut live = Live {
            link: link.clone(),
            edge,
            vantage: view.vantage,
            exempt: view.exempt.is_some() || link.connection.pre_existing,
            told_twice: view.told_twice,
            tunnel: view.tunnel,
            probe: false,
            counted: None,
            waiting: false,
            dated: false,
            signed: None,
            turns: Turns::default(),
            last: around.now,
            caller: None,
        };
        let old = self.live.remove(&id);
        let fresh = old
            .as_ref()
            .is_none_or(|old| around.edges.current(old.edge) != around.edges.current(edge));
        if let Some(old) = old {
            live.probe = old.probe;
            live.waiting = old.waiting;
            live.dated = old.dated;
            live.turns = old.turns;
            if fresh {
                leave(&old, around.edges);
            } else {
                live.counted = old.counted;
                live.signed = old.signed;
            }
        }
        if fresh && let Some(edge) = around.edges.touch(edge, around.now) {
            edge.live += 1;
            edge.exempt = view.exempt;
            edge.address = Some(view.address);
            edge.server_address = Some(view.server_address);
            let dialled_port = match view.dialled_port {
                0 => edge.dialled_port,
                port => port,
            };
            let by_service = link
                .dialled
                .as_ref()
                .is_some_and(|service| service.dialled != Dialled::Headless);
            let dials = matches!(
                live.vantage,
                Vantage::AppClient | Vantage::WireClient { proxied: false }
            );
            let dialled_pod = edge.dialled_pod || (dials && !by_service);
            if (edge.dialled_port, edge.dialled_pod) != (dialled_port, dialled_pod) {
                (edge.dialled_port, edge.dialled_pod) = (dialled_port, dialled_pod);
                // More is known of what is to be asked.
                edge.asked = None;
            }
            if live.vantage == Vantage::AppClient && !by_service {
                edge.note(Sign::DialledPod);
            }
        }
        self.learn(&view, edge, around);
        self.live.insert(id, live);
        Some(())
    }

    /// What sockets next to a proxy tell of the application.
    fn learn(&self, view: &View<'_>, edge: u32, around: &mut Around<'_>) {
        let Some(key) = around.edges.get(edge).map(|edge| edge.key) else {
            return;
        };
        match view.vantage {
            Vantage::AppClient => around.edges.parties.proxied(key.client, around.now),
            Vantage::AppServer => {
                around.edges.parties.proxied(key.server, around.now);
                around.edges.serves(key.server, view.port);
            }
            Vantage::WireClient { .. } | Vantage::WireServer { .. } => {}
        }
    }

    /// First bytes of a connection, or totals: counts it, once it is settled.
    pub(super) fn carried(
        &mut self,
        link: &Link,
        transfer: Option<&Transfer>,
        ended: Option<Ended>,
        around: &mut Around<'_>,
    ) {
        let Some(live) = self.live.get_mut(&link.connection.id) else {
            return;
        };
        let now = around.now;
        let (side, proxied) = match live.vantage {
            Vantage::WireClient { proxied } => (Side::Client, proxied),
            Vantage::WireServer { proxied } => (Side::Server, proxied),
            Vantage::AppClient | Vantage::AppServer => return,
        };
        let Some(transfer) = transfer else {
            return;
        };
        let Some(edge) = around.edges.touch(live.edge, now) else {
            return;
        };
        if proxied {
            let (count, nanoseconds) = live.turns.advance(transfer);
            let place = match side {
                Side::Client => Place::WireClient,
                Side::Server => Place::WireServer,
            };
            if count > 0 {
                edge.latency.add(place, count, nanoseconds, now);
            }
        }
        let both = transfer.received_bytes > 0 && transfer.sent_bytes > 0;
        let settled = ended.is_some() || now.since(link.connection.started) >= SETTLED;
        if live.probe {
            return;
        }
        if !settled {
            if both && !live.waiting {
                live.waiting = true;
                self.waiting.push(link.connection.id);
            }
            return;
        }
        if both {
            count(live, edge, side, ended.is_some(), now);
        }
        if let Some(ended) = ended {
            signs::ended(live, edge, both, transfer, ended);
        }
        if both {
            signs::carried(live, around);
        }
    }

    /// Counts connections that have settled since something was heard of them.
    pub(super) fn settle(&mut self, around: &mut Around<'_>) {
        let now = around.now;
        let live = &mut self.live;
        self.waiting.retain(|id| {
            let Some(live) = live.get_mut(id) else {
                return false;
            };
            if now.since(live.link.connection.started) < SETTLED {
                return true;
            }
            live.waiting = false;
            if !live.probe
                && let Some(edge) = around.edges.touch(live.edge, live.last)
            {
                count(live, edge, side(live.vantage), false, now);
                signs::carried(live, around);
            }
            false
        });
    }

    /// A connection ended: nothing more is heard of it.
    pub(super) fn closed(&mut self, id: ConnectionId, edges: &mut Edges) {
        if let Some(live) = self.live.remove(&id)
            && let Some((edge, _)) = edges.get_mut(live.edge)
        {
            edge.live = edge.live.saturating_sub(1);
        }
    }

    /// A connection that was never made.
    pub(super) fn failed(&mut self, link: &Link, around: &mut Around<'_>) {
        if link.connection.role != Role::Client || link.hop == Hop::ToProxy {
            return;
        }
        let context = around.policies.context();
        let view = View::of(link, link.far.as_ref(), &self.places, context);
        let slot = view.and_then(|view| around.find(&view));
        if let Some(edge) = slot.and_then(|slot| around.edges.touch(slot, around.now)) {
            edge.failures += 1;
        }
    }

    /// A call.
    pub(super) fn call(&mut self, call: &Call, around: &mut Around<'_>) {
        let link = &call.link;
        if !link.hop.is_counted() || !self.follow(link, around) {
            return;
        }
        let now = around.now;
        let Some(live) = self.live.get_mut(&link.connection.id) else {
            return;
        };
        if call.probe {
            live.probe = true;
            return;
        }
        let (slot, far) = callers::edge_of(call, live, &self.places, around);
        if let Some(edge) = slot.and_then(|slot| around.edges.touch(slot, now)) {
            add(call, far, live, edge, now);
        }
    }

    /// Forgets connections of which nothing was heard for long.
    pub(super) fn expire(&mut self, now: Monotonic, edges: &mut Edges) {
        let silent = self
            .live
            .extract_if(|_, live| now.since(live.last) >= SILENT);
        for (_, live) in silent {
            if let Some((edge, _)) = edges.get_mut(live.edge) {
                edge.live = edge.live.saturating_sub(1);
            }
        }
    }
}

/// What is counted of a connection at the edge that it turned out not to be of.
fn leave(live: &Live, edges: &mut Edges) {
    let Some((edge, _)) = edges.get_mut(live.edge) else {
        return;
    };
    edge.live = edge.live.saturating_sub(1);
    if let Some(security) = live.counted {
        edge.connections.take(side(live.vantage), security);
    }
}

fn side(vantage: Vantage) -> Side {
    match vantage {
        Vantage::AppClient | Vantage::WireClient { .. } => Side::Client,
        Vantage::AppServer | Vantage::WireServer { .. } => Side::Server,
    }
}

/// Whether a connection is judged.
fn judged(live: &Live, edge: &Edge) -> bool {
    !live.exempt && live.link.connection.started >= edge.judged_from
}

fn count(live: &mut Live, edge: &mut Edge, side: Side, ended: bool, now: Monotonic) {
    let security = signs::secured(&live.link);
    let known = security != Security::Unknown;
    if live.counted != Some(security) {
        if let Some(old) = live.counted {
            edge.connections.take(side, old);
        }
        edge.connections.add(side, security);
        live.counted = Some(security);
    }
    let second = side == Side::Server && live.told_twice;
    // What is not known may still be, until the end.
    if !live.dated && !live.link.connection.pre_existing && (known || ended) {
        live.dated = true;
        let teller = match side {
            Side::Client => Teller::Client,
            Side::Server if second => Teller::Again,
            Side::Server => Teller::Server,
        };
        edge.past.add(teller, Counts::one(security), now);
        if second {
            return;
        }
        if security == Security::Plaintext {
            edge.last_plaintext = Some(now);
        }
        if known && judged(live, edge) {
            edge.judgeable.0 += 1;
        }
    }
}

fn add(call: &Call, far: Option<&Far>, live: &Live, edge: &mut Edge, now: Monotonic) {
    let exchange = &call.exchange;
    let (side, place) = match exchange.role {
        Role::Server => (Side::Server, Place::Server),
        Role::Client | Role::Unknown => (Side::Client, Place::Client),
    };
    let through = matches!(live.vantage, Vantage::AppClient | Vantage::AppServer);
    let security = match through {
        true => far.map_or(Security::Unknown, |far| far.security),
        false => call.link.security,
    };
    edge.requests.add(side, security);
    let nanoseconds = exchange.duration().as_nanos();
    let nanoseconds = u64::try_from(nanoseconds).unwrap_or(u64::MAX);
    edge.latency.add(place, 1, nanoseconds, now);
    if through {
        edge.latency.through_proxies();
    }
    if let Some(forwarded) = &exchange.forwarded {
        if let (Vantage::AppClient, Some(upstream)) = (live.vantage, forwarded.upstream) {
            let nanoseconds = u64::try_from(upstream.as_nanos()).unwrap_or(u64::MAX);
            edge.latency.add(Place::Upstream, 1, nanoseconds, now);
        }
        if let (Side::Server, Some(attempt)) = (side, forwarded.attempt) {
            match attempt {
                0 | 1 => edge.attempts.0 += 1,
                _ => edge.attempts.1 += 1,
            }
        }
    }
    let second = side == Side::Server && live.told_twice;
    if live.exempt || edge.exempt.is_some() || second {
        return;
    }
    edge.note(Sign::Request);
    if security != Security::Unknown {
        edge.judgeable.1 += 1;
        if security.is_mutual() {
            edge.since.add(Sign::MutualRequest, 1);
        }
    }
    let proxy_answered = || {
        let forwarded = exchange.forwarded.as_ref();
        forwarded.is_some_and(|it| it.by_envoy || it.proxy_error)
    };
    if live.vantage == Vantage::AppClient && exchange.status == Some(503) && proxy_answered() {
        edge.sign(Sign::Unavailable, || Sample::of_call(call));
    }
    // On the wire: connections of proxies are older than their calls may tell.
    if !through
        && security == Security::Plaintext
        && exchange.status.is_some()
        && judged(live, edge)
    {
        edge.sign(Sign::PlainRequest, || Sample::of_call(call));
    }
}
