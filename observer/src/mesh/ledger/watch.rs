//! Connections that are open, and what each adds to its edge.

use std::{sync::Arc, time::Duration};

use hashbrown::HashMap;

use super::{
    edge::{Edge, Side, Sign},
    edges::Edges,
    latency::{Place, Turns},
    marks,
    past::Counts,
    view::{Places, Vantage, View, service_of},
};
use crate::{
    mesh::{findings::Sample, policy::Policies, wire::linkerd_identity},
    model::{
        call::{Call, Link},
        connection::{ClosedBy, ConnectionId, Role, Transfer},
        kubernetes::Dialled,
        mesh::{Far, Hop},
        policy::find,
        security::{Handshake, Security},
        time::Monotonic,
        workload::Peer,
    },
};

/// How old a connection is before it counts, if it does not end first: its calls, which tell
/// whether it is a probe, come before.
const SETTLED: Duration = Duration::from_secs(2);
/// How often a connection that lasts is a sign again.
const AGAIN: Duration = Duration::from_secs(600);
/// After how long a connection is forgotten of which nothing is heard.
const SILENT: Duration = Duration::from_secs(6 * 3600);
/// What probes of the node's agent call themselves.
const PROBE: &str = "kube-probe/";

/// Versions of TLS on the wire (RFC 8446 section 4.2.1).
const TLS_1_2: u16 = 0x0303;
const TLS_1_3: u16 = 0x0304;

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
    /// It is in what is kept by time.
    dated: bool,
    /// What its handshake shows was looked at.
    shaken: bool,
    /// When it was last a sign.
    signed: Option<Monotonic>,
    turns: Turns,
    last: Monotonic,
    /// Whom its last call was really with, where that was told apart, and of which edge that is.
    far: Option<(Arc<Far>, Option<u32>)>,
}

/// Connections that are open, up to a limit.
#[derive(Debug, Default)]
pub(super) struct Watch {
    live: HashMap<ConnectionId, Live>,
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
    pub(super) now: Monotonic,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    pub(super) by: ClosedBy,
    pub(super) reset: bool,
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
            dated: false,
            shaken: false,
            signed: None,
            turns: Turns::default(),
            last: around.now,
            far: None,
        };
        let old = self.live.remove(&id);
        let fresh = old
            .as_ref()
            .is_none_or(|old| around.edges.current(old.edge) != around.edges.current(edge));
        if let Some(old) = old {
            live.probe = old.probe;
            live.dated = old.dated;
            live.turns = old.turns;
            if fresh {
                leave(&old, around.edges);
            } else {
                live.counted = old.counted;
                live.shaken = old.shaken;
                live.signed = old.signed;
            }
        }
        if fresh && let Some(edge) = around.edges.touch(edge, around.now) {
            edge.live += 1;
            edge.exempt = view.exempt;
            edge.address = Some(view.address);
            edge.server_address = Some(view.server_address);
            if view.dialled_port != 0 {
                edge.dialled_port = view.dialled_port;
            }
            if live.vantage == Vantage::AppClient && judged(&live, edge) {
                let by_service = link
                    .dialled
                    .as_ref()
                    .is_some_and(|service| service.dialled != Dialled::Headless);
                edge.note(match by_service {
                    true => Sign::Dialled,
                    false => Sign::DialledPod,
                });
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
        if live.probe || !settled {
            return;
        }
        if both {
            count(live, edge, side, ended.is_some(), now);
        }
        if let Some(ended) = ended {
            end(live, edge, both, transfer, ended);
        }
        if both {
            around_signs(live, around);
        }
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
        if link.hop.is_between() || !self.follow(link, around) {
            return;
        }
        let now = around.now;
        let Some(live) = self.live.get_mut(&link.connection.id) else {
            return;
        };
        if call.exchange.request.user_agent.starts_with(PROBE) {
            live.probe = true;
            return;
        }
        let slot = match &call.far {
            Some(far) if link.far.as_ref().is_none_or(|known| !Arc::ptr_eq(known, far)) => {
                let known = live.far.as_ref().filter(|(of, _)| Arc::ptr_eq(of, far));
                match known {
                    Some((_, edge)) => *edge,
                    None => {
                        let context = around.policies.context();
                        let edge = View::of(link, Some(far), &self.places, context)
                            .and_then(|view| around.find(&view));
                        live.far = Some((far.clone(), edge));
                        edge
                    }
                }
            }
            _ => Some(live.edge),
        };
        if let Some(edge) = slot.and_then(|slot| around.edges.touch(slot, now)) {
            add(call, live, edge, now);
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

/// How a connection is secured, once it carried data both ways. A handshake that came to nothing is
/// not encryption.
fn secured(link: &Link) -> Security {
    let shaken = |handshake: &Handshake| handshake.established;
    match link.security {
        Security::Plaintext => Security::Plaintext,
        security => {
            let handshake = link.opening.as_ref().and_then(|it| it.tls.as_deref());
            match handshake.is_none_or(shaken) {
                true => security,
                false => Security::Unknown,
            }
        }
    }
}

fn count(live: &mut Live, edge: &mut Edge, side: Side, ended: bool, now: Monotonic) {
    let security = secured(&live.link);
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
    if !live.dated && !second && !live.link.connection.pre_existing && (known || ended) {
        live.dated = true;
        edge.past.add(Counts::one(security), now);
        if security == Security::Plaintext {
            edge.last_plaintext = Some(now);
        }
        if known && judged(live, edge) {
            edge.judgeable.0 += 1;
        }
    }
}

/// Signs of a connection that carried data both ways: once, and again while it lasts.
fn around_signs(live: &mut Live, around: &mut Around<'_>) {
    let now = around.now;
    if live.signed.is_some_and(|last| now.since(last) < AGAIN) {
        return;
    }
    let security = secured(&live.link);
    let link = live.link.clone();
    let Some(edge) = around.edges.get(live.edge) else {
        return;
    };
    if !judged(live, edge) {
        return;
    }
    let key = edge.key;
    let own = match side(live.vantage) {
        Side::Client => key.client,
        Side::Server => key.server,
    };
    let past_proxy = past_proxy(live, own, around);
    let Some(edge) = around.edges.touch(live.edge, now) else {
        return;
    };
    let sample = || Sample::of_link(&link, now);
    if let Some(sign) = past_proxy {
        edge.sign(sign, sample);
        live.signed = Some(now);
    }
    let second = side(live.vantage) == Side::Server && live.told_twice;
    if security == Security::Unknown || second {
        return;
    }
    live.signed = Some(now);
    let proxied = live.vantage == Vantage::WireClient { proxied: true };
    match security {
        Security::Plaintext => {
            edge.sign(Sign::Plain, sample);
            if proxied {
                edge.sign(Sign::PlainFromProxy, sample);
            }
        }
        Security::Tls => {
            edge.sign(Sign::Foreign, sample);
            let asked = |link: &Link| link.opening.as_ref().and_then(|it| it.started_by);
            if asked(&link).is_some() {
                edge.note(Sign::ForeignByProtocol);
            }
        }
        _ => edge.sign(Sign::Mutual, sample),
    }
    if live.tunnel && security != Security::Plaintext {
        edge.sign(Sign::Tunnelled, sample);
        if proxied {
            edge.sign(Sign::TunnelledFrom, sample);
        }
    }
    if live.shaken {
        return;
    }
    live.shaken = true;
    let handshake = link.opening.as_ref().and_then(|it| it.tls.as_deref());
    if let Some(handshake) = handshake {
        if is_weak(handshake) {
            edge.sign(Sign::WeakTls, sample);
        }
        let old = handshake.version.is_some_and(|it| it < TLS_1_3);
        if old && security == Security::IstioMutualTls {
            edge.sign(Sign::OldMutual, sample);
        }
    }
    if proxied && is_mismatch(&link, around.policies) {
        let edge = around.edges.touch(live.edge, now);
        if let Some(edge) = edge {
            edge.sign(Sign::Mismatch, sample);
        }
    }
}

/// Whether an application's own socket is one that its pod's proxy should have been before.
fn past_proxy(live: &Live, own: u32, around: &Around<'_>) -> Option<Sign> {
    let sign = match live.vantage {
        Vantage::WireClient { proxied: false } => Sign::AppSent,
        Vantage::WireServer { proxied: false } => Sign::AppTook,
        _ => return None,
    };
    let link = &live.link;
    let container = link.workload.container.as_ref()?;
    let lasting = marks::is_application(&container.pod, &container.name);
    if !lasting || marks::is_gateway(&container.pod) {
        return None;
    }
    let known = around.edges.known(own)?;
    known
        .had_proxy(link.connection.started, Duration::from_secs(60))
        .then_some(sign)
}

/// A connection ended: handshakes that came to nothing, and clients that were refused.
fn end(live: &Live, edge: &mut Edge, both: bool, transfer: &Transfer, ended: Ended) {
    if !judged(live, edge) || (side(live.vantage) == Side::Server && live.told_twice) {
        return;
    }
    let link = &live.link;
    let now = live.last;
    let mut came_to_nothing = |sign| {
        edge.judgeable.0 += 1;
        edge.sign(sign, || Sample::of_link(link, now));
    };
    let role = link.connection.role;
    let handshake = link.opening.as_ref().and_then(|it| it.tls.as_deref());
    match link.security {
        Security::Plaintext if !both => {
            let client_spoke = match role {
                Role::Server => transfer.received_bytes > 0,
                Role::Client | Role::Unknown => transfer.sent_bytes > 0,
            };
            let by_server = ended.by.is_client(role, None) == Some(false) || ended.reset;
            if client_spoke && by_server {
                came_to_nothing(Sign::Refused);
            }
        }
        Security::Tls if handshake.is_some_and(|it| !it.established) => {
            came_to_nothing(Sign::ForeignFailed);
        }
        Security::IstioMutualTls | Security::LinkerdMutualTls
            if handshake.is_some_and(|it| !it.established) =>
        {
            came_to_nothing(Sign::MutualFailed);
        }
        _ => {}
    }
}

fn add(call: &Call, live: &Live, edge: &mut Edge, now: Monotonic) {
    let exchange = &call.exchange;
    let (side, place) = match exchange.role {
        Role::Server => (Side::Server, Place::Server),
        Role::Client | Role::Unknown => (Side::Client, Place::Client),
    };
    let through = matches!(live.vantage, Vantage::AppClient | Vantage::AppServer);
    let security = match through {
        true => call.far().map_or(Security::Unknown, |far| far.security),
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

/// Whether the version that was chosen is below 1.2, or the cipher does not authenticate what it
/// encrypts.
fn is_weak(handshake: &Handshake) -> bool {
    let Some(version) = handshake.version else {
        return false;
    };
    version < TLS_1_2 || (version == TLS_1_2 && handshake.cipher.is_some_and(|it| !is_aead(it)))
}

/// Suites with GCM, CCM or ChaCha20-Poly1305 (IANA TLS Cipher Suites), and those of TLS 1.3.
const fn is_aead(cipher: u16) -> bool {
    matches!(
        cipher,
        0x009c..=0x00ad
            | 0x1301..=0x1307
            | 0xc02b..=0xc032
            | 0xc050..=0xc063
            | 0xc06a..=0xc06f
            | 0xc07a..=0xc093
            | 0xc09c..=0xc0af
            | 0xccaa..=0xccae
            | 0xcca8..=0xcca9
            | 0xd001..=0xd005
    )
}

/// Whether a client asked for another identity than that of the pod that it got, or for a Service
/// that does not choose it.
fn is_mismatch(link: &Link, policies: &Policies) -> bool {
    let (Some(signs), Peer::Pod(_) | Peer::Local(_)) = (&link.mesh, &link.peer) else {
        return false;
    };
    let Some(pod) = link.peer.pod() else {
        return false;
    };
    if marks::is_gateway(pod) {
        return false;
    }
    if let Some(identity) = signs.server_identity.as_deref().and_then(linkerd_identity) {
        let account = &pod.traits.service_account;
        return !account.is_empty()
            && (identity.service_account != &**account || identity.namespace != &*pod.namespace);
    }
    let service = signs
        .host
        .as_deref()
        .and_then(service_of)
        .and_then(|(namespace, name)| policies.context().service(namespace, name));
    service.is_some_and(|service| {
        let chosen = service
            .selector
            .iter()
            .all(|(name, value)| find(&pod.traits.labels, name) == Some(&**value));
        !service.selector.is_empty() && (!chosen || service.namespace[..] != pod.namespace[..])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weak_tls_is_old_or_does_not_authenticate() {
        for (version, cipher, weak) in [
            (Some(0x0301), Some(0xc02f), true),
            (Some(0x0302), None, true),
            (Some(TLS_1_2), Some(0xc02f), false),
            (Some(TLS_1_2), Some(0xc013), true),
            (Some(TLS_1_2), Some(0x002f), true),
            (Some(TLS_1_2), Some(0x009c), false),
            (Some(TLS_1_2), Some(0xcca8), false),
            (Some(TLS_1_2), None, false),
            (Some(TLS_1_3), Some(0x1301), false),
            (None, None, false),
        ] {
            let handshake = Handshake {
                version,
                cipher,
                ..Handshake::default()
            };
            assert_eq!(is_weak(&handshake), weak, "{version:?} {cipher:?}");
        }
    }
}
