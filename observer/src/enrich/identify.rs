//! Both ends of a connection, as the cluster knows them: pure decisions, asked again while they may
//! change.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use hashbrown::HashMap;

use super::pods::Pods;
use crate::{
    cluster::{
        Sight,
        index::{self, Index},
        object::{Kind, Source},
    },
    host::Host,
    model::{
        call::Link,
        connection::Role,
        datagram::Conversation,
        kubernetes::{Network, Service},
        lookup::Resolution,
        time::Monotonic,
        workload::{NameSource, Peer, Workload},
    },
};

/// What is known of the cluster, and how long what is not is waited for.
#[derive(Clone, Debug)]
pub struct Config {
    /// Bounds of the index.
    pub index: index::Config,
    /// How long what is told waits for a pod that is not known yet.
    pub hold: Duration,
    /// Who has to have told everything before nothing is waited for any longer than that.
    pub source: Source,
}

/// The cluster as enrichment sees it.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) config: Config,
    pub(super) index: Index,
    pub(super) pods: Pods,
    /// Addresses that were waited for in vain.
    strangers: HashMap<IpAddr, Stranger, foldhash::fast::RandomState>,
    /// When it was first asked something.
    began: Option<Monotonic>,
    pub(super) losses: Losses,
}

/// An address that was waited for in vain.
#[derive(Clone, Copy, Debug)]
struct Stranger {
    /// Until when nobody waits for it again.
    until: Monotonic,
    /// Somebody was there; else a pod may come, which is worth to be waited for.
    answered: bool,
}

/// What could not be told.
#[derive(Debug, Default)]
pub(super) struct Losses {
    /// Told without the pod of the socket, though it is in one.
    pub(super) pod_unknown: u64,
    /// Told without the other end, though its address is one of a cluster.
    pub(super) peer_unknown: u64,
}

/// What tells who is at the ends of something.
struct Ends<'a> {
    workload: &'a mut Arc<Workload>,
    peer: &'a mut Peer,
    dialled: &'a mut Option<Arc<Service>>,
    local: SocketAddr,
    remote: SocketAddr,
    wire: &'a mut Option<(SocketAddr, SocketAddr)>,
    role: Role,
    protocol: u8,
    at: Monotonic,
    /// Somebody is at the other end.
    answered: bool,
}

/// When something is asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    /// Now.
    pub(super) now: Monotonic,
    /// It is not asked again: the best that is certain is wanted.
    pub(super) last: bool,
    /// Name that the remote address was looked up by.
    pub(super) name: Option<&'a str>,
}

/// What the cluster knows of both ends of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Knowledge {
    /// All there is to know.
    Complete,
    /// More may become known, but nobody waits for it.
    Unsure,
    /// More is likely to be known in a moment.
    Awaited,
}

/// IP protocol numbers.
const TCP: u8 = 6;
const UDP: u8 = 17;

/// How long everything may wait while the first lists of the cluster are not complete.
pub(super) const HOLD_AT_START: Duration = Duration::from_secs(20);

/// How late the end of a pod may be told: what is in doubt for less stays so, as its address may have
/// been given to another.
const LATE: Duration = Duration::from_secs(3);

/// Addresses that were waited for in vain.
const MAX_STRANGERS: usize = 16_384;

/// How long an address that was waited for in vain is not waited for again.
const STRANGE: Duration = Duration::from_secs(60);

// === impl Cluster ===

impl Cluster {
    pub(super) fn new(config: Config) -> Self {
        Self {
            index: Index::new(config.index.clone()),
            pods: Pods::default(),
            strangers: HashMap::default(),
            began: None,
            losses: Losses::default(),
            config,
        }
    }

    pub(super) fn reconfigure(&mut self, config: Config) {
        self.index.reconfigure(config.index.clone());
        self.config = config;
    }

    /// Until when something that is not known now waits.
    pub(super) fn deadline(&mut self, now: Monotonic) -> Monotonic {
        let began = *self.began.get_or_insert(now);
        let complete = |source| self.index.is_complete(source, Kind::Pod);
        let hold = now.plus(self.config.hold);
        match complete(self.config.source) && complete(Source::Cluster) {
            true => hold,
            false => hold.max(began.plus(HOLD_AT_START)),
        }
    }

    /// Gives a link what the cluster knows of its ends, and says how much that is.
    pub(super) fn link(&mut self, link: &mut Link, host: &mut Host, asked: Asked<'_>) -> Knowledge {
        let connection = &mut link.connection;
        let ends = Ends {
            workload: &mut link.workload,
            peer: &mut link.peer,
            dialled: &mut link.dialled,
            local: connection.local,
            remote: connection.remote,
            wire: &mut connection.wire,
            role: connection.role,
            protocol: TCP,
            at: connection.established.unwrap_or(connection.started),
            answered: connection.established.is_some() || connection.pre_existing,
        };
        self.ends(ends, host, asked)
    }

    /// As [`Self::link`], for a lookup.
    pub(super) fn lookup(
        &mut self,
        resolution: &mut Resolution,
        host: &mut Host,
        asked: Asked<'_>,
    ) -> Knowledge {
        let lookup = &resolution.lookup;
        let ends = Ends {
            workload: &mut resolution.workload,
            peer: &mut resolution.peer,
            dialled: &mut resolution.dialled,
            local: lookup.local,
            remote: lookup.remote,
            wire: &mut None,
            role: lookup.role,
            protocol: UDP,
            at: lookup.sent,
            answered: true,
        };
        self.ends(ends, host, asked)
    }

    /// As [`Self::link`], for datagrams.
    pub(super) fn conversation(
        &mut self,
        conversation: &mut Conversation,
        host: &mut Host,
        asked: Asked<'_>,
    ) -> Knowledge {
        let datagrams = &conversation.datagrams;
        let ends = Ends {
            workload: &mut conversation.workload,
            peer: &mut conversation.peer,
            dialled: &mut conversation.dialled,
            local: datagrams.local,
            remote: datagrams.remote,
            wire: &mut None,
            role: datagrams.role(),
            protocol: UDP,
            at: datagrams.started,
            answered: true,
        };
        self.ends(ends, host, asked)
    }

    /// Forgets what is no longer of use. Meant to be called about once a minute.
    pub(super) fn expire(&mut self, now: Monotonic) {
        self.pods.expire(now);
        self.strangers.retain(|_, stranger| stranger.until > now);
    }

    fn ends(&mut self, ends: Ends<'_>, host: &mut Host, asked: Asked<'_>) -> Knowledge {
        let Ends {
            workload,
            peer,
            dialled,
            local,
            remote,
            wire,
            role,
            protocol,
            at,
            answered,
        } = ends;
        let mut known = self.own(workload, asked);
        if let Peer::Local(other) = peer {
            known = known.max(self.own(other, asked));
        }
        if remote.ip().is_loopback() || remote.ip().is_unspecified() {
            return known;
        }
        // Who talks to the address of a Service has dialled it, also where nothing else tells.
        let translated = wire.is_none() && self.index.is_service_address(remote, protocol);
        if role == Role::Client || role == Role::Unknown && translated {
            if dialled.is_none() {
                *dialled = self.index.dialled(remote, protocol, at).or_else(|| {
                    let name = asked.name?;
                    self.index.dialled_name(name, remote)
                });
            }
            if translated {
                let answerer = host.answerer(protocol, local, remote);
                *wire = answerer.map(|answerer| (local, answerer));
            }
        }
        let far = wire.map_or(remote, |(_, far)| far);
        match peer {
            // Of this host, and nothing was seen of it yet: its address may tell whose it is.
            Peer::Local(other)
                if other.source == NameSource::Unknown && other.cgroup.is_empty() =>
            {
                if let Sight::Pod(pod) = self.sight(far, protocol, at, asked) {
                    *peer = Peer::Pod(pod);
                }
                return known;
            }
            Peer::Local(_) | Peer::Pod(_) => return known,
            _ => {}
        }
        if role != Role::Server && self.index.is_service_address(far, protocol) {
            // Nobody on this node tells who answered.
            return known;
        }
        let mut sight = self.sight(far, protocol, at, asked);
        // Also an end of a pod's link that is the node's, of which the API knows nothing.
        if let (Sight::Node(_) | Sight::Doubtful, Role::Server, None) = (&sight, role, &wire)
            && let Some((caller, asked_for)) = host.caller(protocol, local, remote)
        {
            *wire = Some((asked_for, caller));
            *dialled = self.index.dialled(asked_for, protocol, at);
            sight = self.sight(caller, protocol, at, asked);
        }
        let address = wire.map_or(remote, |(_, far)| far).ip();
        match sight {
            Sight::Pod(pod) => {
                // The next that has it is waited for again.
                self.strangers.remove(&address);
                *peer = Peer::Pod(pod);
            }
            Sight::Node(node) => *peer = Peer::Node(node),
            Sight::Network(name) if !matches!(peer, Peer::Named { .. }) => {
                *peer = Peer::Network(Network { name, address });
            }
            Sight::Network(_) | Sight::Outside => {
                if let Peer::Address(known) = peer {
                    *known = address;
                }
            }
            Sight::Doubtful => known = known.max(self.doubtful(address, answered, asked)),
        }
        known
    }

    /// What is known when nobody, or more than one, has an address of the cluster.
    fn doubtful(&mut self, address: IpAddr, answered: bool, asked: Asked<'_>) -> Knowledge {
        let now = asked.now;
        let before = self.strangers.get(&address).filter(|one| one.until > now);
        if asked.last {
            self.losses.peer_unknown += 1;
            if self.index.is_pods(address) {
                // Of pods, at other times: the next to ask may be told.
                return Knowledge::Unsure;
            }
            let stranger = Stranger {
                until: now.plus(STRANGE),
                answered: answered || before.is_some_and(|one| one.answered),
            };
            if self.strangers.len() >= MAX_STRANGERS {
                self.strangers.clear();
            }
            self.strangers.insert(address, stranger);
            return Knowledge::Unsure;
        }
        match before {
            Some(stranger) if stranger.answered || !answered => Knowledge::Unsure,
            _ => Knowledge::Awaited,
        }
    }

    fn sight(&self, far: SocketAddr, protocol: u8, at: Monotonic, asked: Asked<'_>) -> Sight {
        let found = self.index.find(far, protocol, at);
        match found {
            Sight::Doubtful if asked.last && asked.now.since(at) >= LATE => {
                match self.index.settle(far, protocol, at) {
                    // It looked like an address of the cluster, and nobody has it.
                    Sight::Outside => Sight::Doubtful,
                    settled => settled,
                }
            }
            found => found,
        }
    }

    /// Names a workload of this host.
    fn own(&mut self, workload: &mut Arc<Workload>, asked: Asked<'_>) -> Knowledge {
        let (named, known) = self.pods.name(workload, &self.index, asked.now);
        if known == Knowledge::Awaited && asked.last {
            self.losses.pod_unknown += 1;
            self.pods.give_up(&named, asked.now);
        }
        *workload = named;
        known
    }
}
