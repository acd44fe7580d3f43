//! Proxies that go on as before a change of policy, when others follow it.
//!
//! When what is declared of mutual TLS for an edge becomes another, it is remembered what only a
//! proxy that has not heard of it can still do, and what only one that has. Connections that were
//! opened once the change is settled are held against that, by the pod whose proxy it is.

use std::{sync::Arc, time::Duration};

use hashbrown::{HashMap, HashSet};

use super::{
    Config,
    edge::{Declared, Edge},
    edges::Edges,
    marks,
    parties::{Known, Ports},
};
use crate::{
    mesh::{
        decision::{Accepts, Decision, Reason, Sends},
        findings::{Findings, Id, Key, Sample, Samples, Saying, between, is_over},
        policy::Policies,
    },
    model::{kubernetes::Pod, mesh::Plane, policy::ObjectRef, time::Monotonic},
};

/// Most proxies that are told apart on one side of an edge.
const PROXIES: usize = 32;
/// Connections that show what a proxy does, below which it is not said.
const SHOWN: u64 = 3;

/// What a connection shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Saw {
    /// Plaintext was sent, and answered.
    Plain = 1,
    /// Plaintext was sent, and refused.
    Refused = 2,
    /// TLS that is none of the mesh was sent, and answered.
    Foreign = 4,
    /// The same came to nothing.
    ForeignFailed = 8,
    /// Mutual TLS of the mesh was sent, and answered.
    Mutual = 16,
    /// The same came to nothing.
    MutualFailed = 32,
}

/// Which end of an edge it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum End {
    /// What the client's proxy sends.
    Client,
    /// What the server's proxy takes.
    Server,
}

/// What became another, for each end.
#[derive(Debug, Default)]
pub(super) struct Turn {
    client: Option<Half>,
    server: Option<Half>,
}

/// What became another for one end.
#[derive(Debug)]
struct Half {
    /// The object that was changed, made or removed.
    cause: ObjectRef,
    /// What only a proxy does that goes on as before, a set of [`Saw`].
    as_before: u8,
    /// What only a proxy does that follows.
    as_now: u8,
    before: &'static str,
    now: &'static str,
    proxies: Vec<Conduct>,
}

/// What a proxy did since.
#[derive(Debug)]
struct Conduct {
    pod: Arc<Pod>,
    as_before: u64,
    as_now: u64,
    /// Connections that show neither, and how many of these were before the last that showed that it
    /// goes on.
    neither: (u64, u64),
    /// Of [`Self::as_before`], how many were told.
    told: u64,
    last: Monotonic,
    samples: Samples,
}

/// A change, and the end that it is about.
type Change<'a> = (&'a ObjectRef, End);

fn accepted(accepts: &Accepts) -> Option<(u8, &'static str)> {
    use Saw::{Foreign, ForeignFailed, Mutual, MutualFailed, Plain, Refused};
    match accepts {
        Accepts::Mutual => Some((
            set(&[Mutual, Refused, ForeignFailed]),
            "mutual TLS only is to be taken",
        )),
        Accepts::Both => Some((
            set(&[Plain, Foreign, Mutual]),
            "plaintext and mutual TLS are to be taken",
        )),
        Accepts::Plaintext => Some((
            set(&[Plain, Foreign, MutualFailed]),
            "plaintext only is to be taken",
        )),
        Accepts::NoMesh | Accepts::Unknown(_) | Accepts::Unasked => None,
    }
}

fn sent(sends: &Sends) -> Option<(u8, &'static str)> {
    use Saw::{Foreign, ForeignFailed, Mutual, MutualFailed, Plain, Refused};
    match sends {
        Sends::Mutual => Some((
            set(&[Mutual, MutualFailed]),
            "mutual TLS of the mesh is to be sent",
        )),
        Sends::Tls => Some((
            set(&[Foreign, ForeignFailed]),
            "TLS that is none of the mesh is to be sent",
        )),
        // What applications send may be TLS by itself.
        Sends::Plaintext => Some((
            set(&[Plain, Refused, Foreign, ForeignFailed]),
            "plaintext is to be sent",
        )),
        Sends::NoProxy | Sends::Unknown(_) => None,
    }
}

fn set(all: &[Saw]) -> u8 {
    all.iter().fold(0, |set, saw| set | *saw as u8)
}

/// The object whose change made one decision another; `None` when no object was changed.
fn cause<T>(old: &Decision<T>, new: &Decision<T>) -> Option<ObjectRef> {
    let objects = |decision: &Decision<T>| -> Vec<ObjectRef> {
        let reasons = decision.because.iter();
        reasons.filter_map(|it| it.object.clone()).collect()
    };
    let (old, new) = (objects(old), objects(new));
    let changed = new.iter().find(|object| !old.contains(object));
    let removed = old.iter().find(|object| !new.contains(object));
    changed.or(removed).cloned()
}

// === impl Turn ===

impl Turn {
    /// What became another, when what is declared for an edge did; `None` when nothing did that can be
    /// seen. `last` is what did before: of an end that is told the same it stays.
    pub(super) fn between(last: Option<Self>, old: &Declared, new: &Declared) -> Option<Self> {
        let last = last.unwrap_or_default();
        let client = match old.sends.value == new.sends.value {
            true => last.client,
            false => Half::between(
                sent(&old.sends.value),
                sent(&new.sends.value),
                cause(&old.sends, &new.sends),
            ),
        };
        let server = match old.accepts.value == new.accepts.value {
            true => last.server,
            false => Half::between(
                accepted(&old.accepts.value),
                accepted(&new.accepts.value),
                cause(&old.accepts, &new.accepts),
            ),
        };
        (client.is_some() || server.is_some()).then_some(Self { client, server })
    }

    /// Takes a connection that was opened after the change was settled, and the pod whose proxy it is
    /// of.
    pub(super) fn saw(
        &mut self,
        end: End,
        pod: &Arc<Pod>,
        saw: Saw,
        now: Monotonic,
        sample: impl FnOnce() -> Sample,
    ) {
        let half = match end {
            End::Client => &mut self.client,
            End::Server => &mut self.server,
        };
        if let Some(half) = half {
            half.saw(pod, saw, now, sample);
        }
    }

    /// Takes all of another, of the same edge.
    pub(super) fn merge(&mut self, other: Self) {
        if self.client.is_none() {
            self.client = other.client;
        }
        if self.server.is_none() {
            self.server = other.server;
        }
    }

    fn halves(&self) -> impl Iterator<Item = (End, &Half)> {
        let of = |end, half| Option::map(half, move |half| (end, half));
        let client = of(End::Client, self.client.as_ref());
        client
            .into_iter()
            .chain(of(End::Server, self.server.as_ref()))
    }
}

// === impl Half ===

impl Half {
    fn between(
        before: Option<(u8, &'static str)>,
        now: Option<(u8, &'static str)>,
        cause: Option<ObjectRef>,
    ) -> Option<Self> {
        let ((old, before), (new, now), cause) = (before?, now?, cause?);
        let (as_before, as_now) = (old & !new, new & !old);
        (as_before != 0 && as_now != 0).then(|| Self {
            cause,
            as_before,
            as_now,
            before,
            now,
            proxies: Vec::new(),
        })
    }

    fn saw(&mut self, pod: &Arc<Pod>, saw: Saw, now: Monotonic, sample: impl FnOnce() -> Sample) {
        let follows = match saw as u8 {
            saw if saw & self.as_before != 0 => Some(false),
            saw if saw & self.as_now != 0 => Some(true),
            _ => None,
        };
        let known = self.proxies.iter().position(|it| it.pod.uid == pod.uid);
        let place = match known {
            Some(place) => place,
            None if follows.is_none() || self.proxies.len() >= PROXIES => return,
            None => {
                self.proxies.push(Conduct {
                    pod: pod.clone(),
                    as_before: 0,
                    as_now: 0,
                    neither: (0, 0),
                    told: 0,
                    last: now,
                    samples: Samples::default(),
                });
                self.proxies.len() - 1
            }
        };
        let Some(conduct) = self.proxies.get_mut(place) else {
            return;
        };
        match follows {
            Some(true) => conduct.as_now += 1,
            Some(false) => {
                conduct.as_before += 1;
                conduct.neither.1 = conduct.neither.0;
                conduct.last = now;
                conduct.samples.push(sample());
            }
            None => conduct.neither.0 += 1,
        }
    }
}

// === impl Conduct ===

impl Conduct {
    /// Whether it goes on as before. One that has followed once has heard of the change, whatever it
    /// does then.
    fn is_stale(&self, minimum: u64, window: Duration, now: Monotonic) -> bool {
        let quiet = now.since(self.last);
        let (neither, before) = self.neither;
        let between = between(self.as_before, self.as_before + before);
        self.as_now == 0
            && self.as_before >= SHOWN
            && quiet <= window
            && !is_over(between, neither - before, minimum, quiet)
    }
}

/// Which proxy carries the traffic of a pod: its own, or that of its node.
fn proxy(plane: Plane, pod: &Pod) -> Option<&str> {
    match plane {
        Plane::IstioSidecar | Plane::Linkerd => Some(&pod.uid),
        Plane::IstioAmbient => Some(&pod.node.as_ref()?.name),
        Plane::None => None,
    }
}

fn parties<'a>(edges: &'a Edges, edge: &Edge, end: End) -> Option<(&'a Known, &'a Known)> {
    let (client, server) = (edges.known(edge.key.client)?, edges.known(edge.key.server)?);
    Some(match end {
        End::Client => (client, server),
        End::Server => (server, client),
    })
}

/// Says of proxies that they go on as before, and no more of others.
pub(super) fn find(
    findings: &mut Findings,
    edges: &mut Edges,
    policies: &Policies,
    config: &Config,
    now: Monotonic,
) {
    let raised = stale(edges, policies, config, now);
    let keys: HashSet<&Key> = raised.iter().map(|(_, key, ..)| key).collect();
    findings.retain(|key, _| key.id != Id::M33 || keys.contains(key));
    drop(keys);
    for (slot, key, end, uid, saying) in raised {
        let Some((edge, _)) = edges.get_mut(slot) else {
            continue;
        };
        let half = edge.turn.as_deref_mut().and_then(|turn| match end {
            End::Client => turn.client.as_mut(),
            End::Server => turn.server.as_mut(),
        });
        let proxies = half.map(|half| half.proxies.iter_mut());
        let conduct = proxies.and_then(|mut all| all.find(|it| it.pod.uid == uid));
        if let Some(conduct) = conduct {
            let new = conduct.as_before - conduct.told;
            conduct.told = conduct.as_before;
            let samples = match new {
                0 => Samples::default(),
                _ => std::mem::take(&mut conduct.samples),
            };
            findings.raise(key, conduct.last, new, &samples, saying);
        }
    }
}

type Raised = (u32, Key, End, Box<str>, Saying);

fn stale(edges: &Edges, policies: &Policies, config: &Config, now: Monotonic) -> Vec<Raised> {
    let minimum = config.minimum.max(1);
    let turned = || {
        edges
            .numbered()
            .filter(move |(_, edge)| edge.exempt.is_none() && edge.judgeable() >= minimum)
            .filter_map(|(slot, edge)| Some((slot, edge, edge.turn.as_deref()?)))
    };
    // Proxies that follow each change.
    let mut followers: HashMap<Change<'_>, HashSet<&str>> = HashMap::new();
    for (_, edge, turn) in turned() {
        for (end, half) in turn.halves() {
            let Some((own, _)) = parties(edges, edge, end) else {
                continue;
            };
            let follow = half.proxies.iter().filter(|it| it.as_now >= SHOWN);
            let follow = follow.filter_map(|it| proxy(own.plane, &it.pod));
            followers
                .entry((&half.cause, end))
                .or_default()
                .extend(follow);
        }
    }
    let mut raised = Vec::new();
    for (slot, edge, turn) in turned() {
        for (end, half) in turn.halves() {
            let Some((own, other)) = parties(edges, edge, end) else {
                continue;
            };
            let Some(follow) = followers.get(&(&half.cause, end)) else {
                continue;
            };
            if end == End::Server && !takes_all(policies, edge, own) {
                continue;
            }
            for conduct in half
                .proxies
                .iter()
                .filter(|it| it.is_stale(minimum, config.window, now))
            {
                let proxy = proxy(own.plane, &conduct.pod);
                // One that follows at another edge has heard of it.
                if proxy.is_none_or(|proxy| follow.contains(proxy)) || follow.is_empty() {
                    continue;
                }
                let key = Key {
                    id: Id::M33,
                    workload: own.party.clone(),
                    peer: Some(other.party.clone()),
                    port: edge.key.port,
                    about: conduct.pod.name.clone(),
                };
                let saying = saying(half, conduct, own, other, follow.len());
                raised.push((slot, key, end, conduct.pod.uid.clone(), saying));
            }
        }
    }
    raised
}

/// Whether all that comes to a server's port goes through its proxy, as far as is declared.
fn takes_all(policies: &Policies, edge: &Edge, server: &Known) -> bool {
    let port = edge.key.port;
    let told = port != 0 || server.ports != Ports::None;
    let excluded = |pod: &Arc<Pod>| marks::is_excluded_inbound(policies, pod, server.plane, port);
    told && !server.pod.as_ref().is_some_and(excluded)
}

fn saying(half: &Half, conduct: &Conduct, own: &Known, other: &Known, follow: usize) -> Saying {
    let ObjectRef {
        kind,
        namespace,
        name,
        ..
    } = &half.cause;
    Saying {
        summary: format!(
            "the proxy of pod {} of {} behaves towards {} as before {kind} {namespace}/{name} was \
             changed, which {follow} other proxies follow",
            conduct.pod.name,
            own.party.describe(),
            other.party.describe(),
        ),
        because: vec![
            Reason::of(
                half.cause.clone(),
                format!("since its change, {}", half.now),
            ),
            Reason::plain(format!("it behaves as when {}", half.before)),
        ],
        severity: None,
    }
}
