//! What is remembered of an edge: counts for what is reported, and signs for what is judged.

use std::net::IpAddr;

use super::{latency::Latency, past::Past, raise::Outcome, turn::Turn, verdict::Judged};
use crate::{
    mesh::{
        decision::{Accepts, Decision, Reason, Sends},
        findings::{SAMPLES, Sample, is_over},
        istio::Waypoint,
    },
    model::{
        mesh::{DeclaredMtls, Verdict},
        policy::ObjectRef,
        security::Security,
        time::Monotonic,
    },
};

/// What tells edges apart: numbers of parties, and the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct EdgeKey {
    pub(super) client: u32,
    pub(super) server: u32,
    /// The Service that was dialled; `NOBODY` when it is not known.
    pub(super) service: u32,
    /// Port of the server's pod; 0 when it is not known.
    pub(super) port: u16,
}

/// What findings are made of. Each is counted once for a connection, and again while it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// A connection on the wire carried data both ways in the clear.
    Plain,
    /// Of these, one that a proxy made.
    PlainFromProxy,
    /// A connection carried TLS that is none of the mesh.
    Foreign,
    /// Of these, one that asked for TLS in the clear first, as protocols do that have their own.
    ForeignByProtocol,
    /// A handshake of TLS that is none of the mesh came to nothing.
    ForeignFailed,
    /// A connection carried mutual TLS of a mesh.
    Mutual,
    /// A handshake of a mesh came to nothing.
    MutualFailed,
    /// A connection in the clear was ended before the server answered.
    Refused,
    /// An application's own socket made the connection, past the proxy of its pod.
    AppSent,
    /// An application's own socket took the connection, past the proxy of its pod.
    AppTook,
    /// A proxy of a node or pod tunnelled it to the proxy of the server.
    Tunnelled,
    /// Of these, one that was seen at the client's end: it went straight to the server.
    TunnelledFrom,
    /// An application dialled a pod, by its proxy.
    DialledPod,
    /// The version, or the cipher, of TLS is weak.
    WeakTls,
    /// TLS of the mesh is of a version below 1.3.
    OldMutual,
    /// The client asked for another identity, or Service, than the pod's.
    Mismatch,
    /// A request.
    Request,
    /// A request in the clear on the application's own connection.
    PlainRequest,
    /// A request between whose proxies mutual TLS of a mesh is.
    MutualRequest,
    /// A request that the client's proxy answered: the server was not to be reached.
    Unavailable,
}

/// How many kinds of signs there are.
pub(super) const SIGNS: usize = Sign::Unavailable as usize + 1;

/// Counts of each kind of sign.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Signs([u64; SIGNS]);

/// Signs that wait to be judged, with flows that show them.
#[derive(Clone, Debug, Default)]
pub(super) struct Pending {
    pub(super) counts: Signs,
    samples: Vec<(Sign, Sample)>,
}

/// When something was last seen, of an edge or of another between the same two.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown {
    pub(super) at: Monotonic,
    /// How much there is that could be judged, for each time.
    pub(super) between: u64,
    /// How much of the edge could be judged then.
    pub(super) of: u64,
}

/// What was declared for an edge when it was last asked.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Declared {
    pub(super) accepts: Decision<Accepts>,
    pub(super) sends: Decision<Sends>,
}

/// What else is declared that an edge is judged by. Changes of it do not unsettle what is declared of
/// mutual TLS.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Surroundings {
    /// Refuses callers of the server by their identity.
    pub(super) by_identity: Option<ObjectRef>,
    /// About requests, and enforced by nobody; why.
    pub(super) unenforced: Vec<Reason>,
    /// The waypoint of the Service that is dialled.
    pub(super) waypoint: Option<Waypoint>,
    /// What that waypoint enforces.
    pub(super) enforced: Option<ObjectRef>,
    /// NetworkPolicies that let the port of the server's tunnel pass, and not the port itself.
    pub(super) voided: Vec<Reason>,
    /// The server's sidecar is to take all that comes to this port.
    pub(super) guarded: bool,
}

/// Which end counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Server,
}

/// Connections, or requests, by how they were secured, as each end counted them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    client: [u64; Security::ALL.len()],
    server: [u64; Security::ALL.len()],
}

/// An edge.
#[derive(Debug)]
pub(super) struct Edge {
    pub(super) key: EdgeKey,
    pub(super) first: Monotonic,
    pub(super) last: Monotonic,
    /// Connections that are open.
    pub(super) live: u32,
    /// Port as dialled; 0 when it is not known.
    pub(super) dialled_port: u16,
    /// Pods were dialled rather than a Service.
    pub(super) dialled_pod: bool,
    /// An address of the client, the last that was seen.
    pub(super) address: Option<IpAddr>,
    /// An address of the server, the last that was seen.
    pub(super) server_address: Option<IpAddr>,
    pub(super) connections: Tally,
    pub(super) requests: Tally,
    /// Connections that were never made.
    pub(super) failures: u64,
    /// First attempts of requests, and others, as the server's proxy numbers them.
    pub(super) attempts: (u64, u64),
    pub(super) past: Past,
    /// Last connection in the clear.
    pub(super) last_plaintext: Option<Monotonic>,
    pub(super) latency: Latency,
    /// Why nothing is judged.
    pub(super) exempt: Option<&'static str>,
    /// Since what was declared is what it is now, and settled.
    pub(super) since: Signs,
    /// Connections and requests since then of which it is known how they were secured.
    pub(super) judgeable: (u64, u64),
    pub(super) pending: Pending,
    /// Connections that started before are not judged.
    pub(super) judged_from: Monotonic,
    pub(super) declared: Option<Box<Declared>>,
    pub(super) around: Box<Surroundings>,
    /// What is declared was another before, and proxies show whether they have heard of it.
    pub(super) turn: Option<Box<Turn>>,
    /// What [`Self::declared`] was asked of: the revision of policies, and changes of both parties.
    pub(super) asked: Option<(u64, u32, u32)>,
    pub(super) judged: Judged,
    /// Something happened since it was last judged.
    pub(super) dirty: bool,
    /// Last sign that something is not as declared.
    pub(super) last_bad: Option<Shown>,
    /// When what is found was last seen, by place in the list of checks.
    pub(super) raised: Vec<(usize, Shown)>,
}

// === impl Shown ===

impl Shown {
    /// Whether that has ended, when so much could be judged until now.
    pub(super) fn is_over(self, judgeable: u64, minimum: u64, now: Monotonic) -> bool {
        let since = judgeable.saturating_sub(self.of);
        is_over(self.between, since, minimum, now.since(self.at))
    }
}

/// As many as there were at least, by kind, the first of which is unknown. Both ends count the same
/// ones, each as far as it is seen, and one may know what the other does not.
pub(in crate::mesh) fn at_least<const KINDS: usize>(
    client: [u64; KINDS],
    server: [u64; KINDS],
) -> [u64; KINDS] {
    let mut combined = [0; KINDS];
    for (count, (client, server)) in combined.iter_mut().zip(client.into_iter().zip(server)) {
        *count = client.max(server);
    }
    let sum = |counts: &[u64]| counts.iter().sum::<u64>();
    let all = sum(&client).max(sum(&server));
    if let Some((unknown, known)) = combined.split_first_mut() {
        *unknown = all.saturating_sub(sum(known));
    }
    combined
}

// === impl Signs ===

impl Signs {
    pub(super) fn get(&self, sign: Sign) -> u64 {
        self.0.get(sign as usize).copied().unwrap_or_default()
    }

    pub(super) fn sum(&self, signs: &[Sign]) -> u64 {
        signs.iter().map(|sign| self.get(*sign)).sum()
    }

    pub(super) fn has(&self, sign: Sign) -> bool {
        self.get(sign) > 0
    }

    pub(super) fn add(&mut self, sign: Sign, count: u64) {
        if let Some(known) = self.0.get_mut(sign as usize) {
            *known = known.saturating_add(count);
        }
    }

    fn clear(&mut self, sign: Sign) {
        if let Some(known) = self.0.get_mut(sign as usize) {
            *known = 0;
        }
    }

    fn merge(&mut self, other: &Self) {
        for (own, other) in self.0.iter_mut().zip(other.0) {
            *own = own.saturating_add(other);
        }
    }
}

// === impl Pending ===

impl Pending {
    /// Whether another flow that shows this is wanted.
    pub(super) fn wants(&self, sign: Sign) -> bool {
        let of_sign = self.samples.iter().filter(|(known, _)| *known == sign);
        of_sign.count() < SAMPLES
    }

    pub(super) fn keep(&mut self, sign: Sign, sample: Sample) {
        self.samples.push((sign, sample));
    }

    pub(super) fn samples(&self, signs: &[Sign]) -> impl Iterator<Item = &Sample> {
        let of_signs = move |(sign, sample)| match signs.contains(sign) {
            true => Some(sample),
            false => None,
        };
        self.samples
            .iter()
            .map(|(sign, sample)| (sign, sample))
            .filter_map(of_signs)
    }

    pub(super) fn clear(&mut self) {
        self.counts = Signs::default();
        self.samples.clear();
    }

    fn merge(&mut self, other: Self) {
        self.counts.merge(&other.counts);
        for (sign, sample) in other.samples {
            if self.wants(sign) {
                self.keep(sign, sample);
            }
        }
    }
}

// === impl Tally ===

impl Tally {
    pub(super) fn add(&mut self, side: Side, security: Security) {
        if let Some(count) = self.of(side).get_mut(security.index()) {
            *count += 1;
        }
    }

    /// One that was counted turned out to be none, or another.
    pub(super) fn take(&mut self, side: Side, security: Security) {
        if let Some(count) = self.of(side).get_mut(security.index()) {
            *count = count.saturating_sub(1);
        }
    }

    fn of(&mut self, side: Side) -> &mut [u64; Security::ALL.len()] {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }

    /// As many as there were at least: see [`at_least`].
    pub(super) fn combined(&self) -> [u64; Security::ALL.len()] {
        at_least(self.client, self.server)
    }

    /// As the clients' ends counted, and as the servers' ends did.
    pub(super) fn ends(&self) -> [[u64; Security::ALL.len()]; 2] {
        [self.client, self.server]
    }

    fn merge(&mut self, other: &Self) {
        for (own, other) in [
            (&mut self.client, other.client),
            (&mut self.server, other.server),
        ] {
            for (own, other) in own.iter_mut().zip(other) {
                *own += other;
            }
        }
    }
}

// === impl Edge ===

impl Edge {
    pub(super) fn new(key: EdgeKey, judged_from: Monotonic, now: Monotonic) -> Self {
        Self {
            key,
            first: now,
            last: now,
            live: 0,
            dialled_port: 0,
            dialled_pod: false,
            address: None,
            server_address: None,
            connections: Tally::default(),
            requests: Tally::default(),
            failures: 0,
            attempts: (0, 0),
            past: Past::default(),
            last_plaintext: None,
            latency: Latency::default(),
            exempt: None,
            since: Signs::default(),
            judgeable: (0, 0),
            pending: Pending::default(),
            judged_from,
            declared: None,
            around: Box::default(),
            turn: None,
            asked: None,
            judged: Judged::default(),
            dirty: true,
            last_bad: None,
            raised: Vec::new(),
        }
    }

    /// Counts a sign that is to be judged.
    pub(super) fn sign(&mut self, sign: Sign, sample: impl FnOnce() -> Sample) {
        self.since.add(sign, 1);
        self.pending.counts.add(sign, 1);
        if self.pending.wants(sign) {
            self.pending.keep(sign, sample());
        }
    }

    /// Counts a sign that nobody wants to see flows of.
    pub(super) fn note(&mut self, sign: Sign) {
        self.since.add(sign, 1);
        self.pending.counts.add(sign, 1);
    }

    /// As many as the configured minimum is about.
    pub(super) fn judgeable(&self) -> u64 {
        self.judgeable.0.max(self.judgeable.1)
    }

    /// What is declared is another now: what was seen before is no more judged.
    pub(super) fn renew(&mut self, judged_from: Monotonic) {
        self.since = Signs::default();
        self.judgeable = (0, 0);
        self.pending.clear();
        self.judged_from = judged_from;
        self.last_bad = None;
    }

    /// What was not as declared has ended: it is no more held against it.
    pub(super) fn forget_bad(&mut self, signs: &[Sign]) {
        for sign in signs {
            self.since.clear(*sign);
        }
        self.last_bad = None;
    }

    /// When it last showed what a check is about.
    pub(super) fn shown(&self, check: usize) -> Option<Shown> {
        let (_, shown) = self.raised.iter().find(|(known, _)| *known == check)?;
        Some(*shown)
    }

    /// Remembers what became of checks.
    pub(super) fn remember(&mut self, outcomes: &[(usize, Outcome)]) {
        for (check, outcome) in outcomes {
            self.raised.retain(|(known, _)| known != check);
            if let Outcome::Shown(shown) = outcome {
                self.raised.push((*check, *shown));
            }
        }
    }

    /// Takes all of another, which turned out to be the same.
    pub(super) fn absorb(&mut self, other: Self) {
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
        self.live += other.live;
        if self.dialled_port == 0 {
            self.dialled_port = other.dialled_port;
        }
        if other.dialled_pod && !self.dialled_pod {
            self.dialled_pod = true;
            self.asked = None;
        }
        self.address = self.address.or(other.address);
        self.server_address = self.server_address.or(other.server_address);
        self.connections.merge(&other.connections);
        self.requests.merge(&other.requests);
        self.failures += other.failures;
        self.attempts.0 += other.attempts.0;
        self.attempts.1 += other.attempts.1;
        self.past.merge(&other.past);
        self.last_plaintext = self.last_plaintext.max(other.last_plaintext);
        self.latency.merge(&other.latency);
        self.exempt = self.exempt.or(other.exempt);
        self.since.merge(&other.since);
        self.judgeable.0 += other.judgeable.0;
        self.judgeable.1 += other.judgeable.1;
        self.judged_from = self.judged_from.max(other.judged_from);
        self.pending.merge(other.pending);
        match (&mut self.turn, other.turn) {
            (Some(own), Some(other)) => own.merge(*other),
            (own @ None, other) => *own = other,
            (Some(_), None) => {}
        }
        self.last_bad = match (self.last_bad, other.last_bad) {
            (Some(own), Some(other)) if own.at < other.at => Some(other),
            (own, other) => own.or(other),
        };
        for (check, shown) in other.raised {
            match self.raised.iter_mut().find(|(own, _)| *own == check) {
                Some((_, own)) if own.at < shown.at => *own = shown,
                Some(_) => {}
                None => self.raised.push((check, shown)),
            }
        }
        self.dirty = true;
    }

    pub(super) fn declared_mtls(&self) -> DeclaredMtls {
        self.judged.declared
    }

    pub(super) fn verdict(&self) -> Verdict {
        self.judged.verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_that_count_the_same_are_not_added() {
        let mut tally = Tally::default();
        for (side, security, count) in [
            (Side::Client, Security::Unknown, 100),
            (Side::Server, Security::Hbone, 95),
            (Side::Server, Security::Plaintext, 5),
            (Side::Client, Security::Plaintext, 2),
        ] {
            for _ in 0..count {
                tally.add(side, security);
            }
        }
        let combined = tally.combined();
        let of = |security: Security| combined.get(security.index()).copied();
        assert_eq!(of(Security::Hbone), Some(95));
        assert_eq!(of(Security::Plaintext), Some(5));
        assert_eq!(of(Security::Unknown), Some(2));
    }
}
