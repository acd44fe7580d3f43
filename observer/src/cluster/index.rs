//! Whose an address, a container or a name is, and when it was: what watches tell, kept to be asked.
//!
//! It belongs to one thread, and asks nobody. What it is told is late and comes from several
//! sources, whose clocks differ, so a question is about a time, and its answer may be a doubt that
//! passes: [`Index::find`] says so, and [`Index::settle`] says what is left of it a moment later.
//! **A wrong name is worse than none**: what cannot be told apart stays unknown.

use std::{
    cell::Cell,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use crate::{
    model::{
        kubernetes::{Container, Dialled, Pod, Service, ServiceName},
        time::{Monotonic, WallOffset},
    },
    telemetry::health::{Loss, Table},
};

use self::{
    behind::Answers,
    claims::Holder,
    endpoints::Endpoints,
    intern::Interner,
    nodes::Nodes,
    pods::Pods,
    services::{Services, Socket},
    sources::{Lists, Telling},
    spans::Holding,
};

use super::{
    Sight,
    networks::{Networks, is_claimable, is_private},
    object::{Change, Kind, Object, Source},
};

mod behind;
mod claims;
mod containers;
mod endpoints;
mod intern;
mod multimap;
mod nodes;
mod pods;
mod services;
mod slab;
mod sources;
mod spans;
mod uid;

pub use behind::Behind;

/// What an index keeps.
#[derive(Clone, Debug)]
pub struct Config {
    /// Named networks outside the cluster.
    pub networks: Networks,
    /// Domain of the cluster, as in `web.shop.svc.cluster.local`, without a dot at its end.
    pub domain: Box<str>,
    /// Most pods that live. Those of this node may be some more.
    pub max_pods: usize,
    /// Most Services.
    pub max_services: usize,
    /// Most endpoints, each as often as it has ports.
    pub max_endpoints: usize,
    /// Most nodes.
    pub max_nodes: usize,
    /// How long what is gone is remembered.
    pub retention: Duration,
}

/// What is known of the cluster.
#[derive(Debug)]
pub struct Index {
    networks: Networks,
    domain: Box<str>,
    retention: Duration,
    pods: Pods,
    services: Services,
    endpoints: Endpoints,
    nodes: Nodes,
    /// Namespaces and names of Services.
    names: Interner<str>,
    lists: Lists,
    revision: u64,
    /// Whose names are that pods share.
    behind: Answers,
    /// Questions that had no answer as two that live claimed the address.
    conflicts: Cell<u64>,
}

// === impl Config ===

impl Default for Config {
    fn default() -> Self {
        Self {
            networks: Networks::default(),
            domain: "cluster.local".into(),
            max_pods: 20_000,
            max_services: 10_000,
            max_endpoints: 100_000,
            max_nodes: 5_000,
            retention: Duration::from_secs(120),
        }
    }
}

// === impl Index ===

impl Index {
    /// An index that knows nothing yet.
    pub fn new(config: Config) -> Self {
        let mut index = Self {
            networks: Networks::default(),
            domain: Box::default(),
            retention: Duration::ZERO,
            pods: Pods::default(),
            services: Services::default(),
            endpoints: Endpoints::default(),
            nodes: Nodes::default(),
            names: Interner::default(),
            lists: Lists::default(),
            revision: 0,
            behind: Answers::default(),
            conflicts: Cell::new(0),
        };
        index.reconfigure(config);
        index
    }

    /// Takes other settings. What is known stays, also beyond a lower limit; new objects do not fit
    /// then.
    pub fn reconfigure(&mut self, config: Config) {
        let Config {
            networks,
            domain,
            max_pods,
            max_services,
            max_endpoints,
            max_nodes,
            retention,
        } = config;
        self.networks = networks;
        self.domain = domain;
        self.retention = retention;
        self.pods.limit = max_pods;
        self.services.limit = max_services;
        self.endpoints.limit = max_endpoints;
        self.nodes.limit = max_nodes;
        self.revision += 1;
    }

    /// Takes what a source tells `now`.
    pub fn apply(&mut self, source: Source, change: Change, now: Monotonic, offset: WallOffset) {
        let kind = match &change {
            Change::Begin(kind) | Change::Remove(kind, _) | Change::Complete(kind) => *kind,
            Change::Set(object) => object.kind(),
            // Whoever judges by what is declared is told of it.
            Change::Declared(_) => return,
        };
        let changed = match change {
            Change::Declared(_) => false,
            Change::Begin(_) => {
                self.lists.begin(source, kind);
                if kind == Kind::Endpoints {
                    self.endpoints.begin();
                }
                false
            }
            Change::Complete(_) => {
                let telling = self.lists.hear(source, kind, now, offset);
                let was_known = self.lists.is_known(kind);
                let since = self.lists.complete(source, kind, now);
                let swept = since.is_some_and(|since| self.complete(kind, &telling, since));
                swept || !was_known
            }
            Change::Set(object) => {
                let telling = self.lists.hear(source, kind, now, offset);
                self.set(object, &telling)
            }
            Change::Remove(_, uid) => {
                let telling = self.lists.hear(source, kind, now, offset);
                match kind {
                    Kind::Pod => self.pods.remove(&uid, &telling, &mut self.nodes),
                    Kind::Service => self.services.remove(&uid, &telling),
                    Kind::Endpoints => self.endpoints.remove(&uid, &telling),
                    Kind::Node => self.nodes.remove(&uid, &telling),
                }
            }
        };
        let forgot = self.forget(Monotonic(0));
        self.revision += u64::from(changed || forgot);
    }

    /// Rises with every change that may alter an answer.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// A container by its id, 64 hexadecimal digits, and what it is as a service: by its own word,
    /// and where it has none by its pod's.
    pub fn container(&self, id: &str) -> Option<(Container, &ServiceName)> {
        self.pods.container(id)
    }

    /// A pod by `metadata.uid`, or by what its cgroup calls it.
    pub fn pod(&self, uid: &str) -> Option<&Arc<Pod>> {
        self.pods.pod(uid)
    }

    /// Pods that have not ended.
    pub fn pods(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.pods.iter()
    }

    /// What an address is or was, for something that happened at `at`. [`Sight::Doubtful`] may be
    /// known in a moment: ask again, or [`Self::settle`] it.
    pub fn find(&self, address: SocketAddr, protocol: u8, at: Monotonic) -> Sight {
        self.look(address, protocol, at, false)
    }

    /// The same for somebody who has waited for as long as it takes to be told of a pod that
    /// starts: a pod that was about to end at `at` had the address if no other says so, and what
    /// nobody has is outside. Only what several pods claim stays [`Sight::Doubtful`].
    pub fn settle(&self, address: SocketAddr, protocol: u8, at: Monotonic) -> Sight {
        self.look(address, protocol, at, true)
    }

    /// Whether an address is a pod's own, or was a short time ago.
    pub fn is_pods(&self, address: IpAddr) -> bool {
        self.pods.has(address.to_canonical())
    }

    /// The Service that somebody means who dials this address.
    pub fn dialled(
        &self,
        address: SocketAddr,
        protocol: u8,
        at: Monotonic,
    ) -> Option<Arc<Service>> {
        let socket = Socket::new(address, protocol);
        if !is_claimable(socket.address) {
            return None;
        }
        match self.services.dialled(&socket, at) {
            Holding::One(service) => return Some(service.clone()),
            Holding::Several => return None,
            Holding::Nobody => {}
        }
        if self.services.has_on_nodes(&socket)
            && self.nodes.holder(socket.address, at) != Holding::Nobody
        {
            match self.services.on_nodes(&socket, at) {
                Holding::One(service) => return Some(service.clone()),
                Holding::Several => return None,
                Holding::Nobody => {}
            }
        }
        self.endpoint(&socket, at)
    }

    /// The Service that somebody means who dials an address by a name that led to it.
    pub fn dialled_name(&self, name: &str, address: SocketAddr) -> Option<Arc<Service>> {
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        if let Some((host, service, namespace)) = self.cluster_name(&name) {
            let service = self
                .services
                .by_name(namespace, service, address.ip().to_canonical())?;
            // Only where there is no address of its own do pods have names below it.
            let fits = !host || service.dialled == Dialled::Headless;
            return fits.then(|| service.clone());
        }
        self.services.by_balancer(&name, address.port())
    }

    /// Whether somebody dials a Service at this address, and another address stands for it once
    /// the connection is made.
    pub fn is_service_address(&self, address: SocketAddr, protocol: u8) -> bool {
        let socket = Socket::new(address, protocol);
        is_claimable(socket.address)
            && (self.services.has(&socket)
                || (self.services.has_on_nodes(&socket) && self.nodes.has(socket.address)))
    }

    /// Forgets what was gone for long; to be called often.
    pub fn expire(&mut self, now: Monotonic) {
        let forgot = self.forget(claims::before(now, self.retention));
        self.revision += u64::from(forgot);
    }

    /// How full the tables are.
    pub fn tables(&self) -> Vec<Table> {
        let (pods, services) = (&self.pods, &self.services);
        let (sockets, most_sockets) = services.sockets();
        let table = |name, entries: usize, limit: usize| Table {
            name,
            entries: entries as u64,
            limit: limit as u64,
        };
        vec![
            table("cluster_pods", pods.live(), pods.most()),
            table("cluster_ended_pods", pods.ended(), pods.limit),
            table("cluster_services", services.len(), services.limit),
            table("cluster_service_addresses", sockets, most_sockets),
            table(
                "cluster_endpoints",
                self.endpoints.sockets(),
                self.endpoints.limit,
            ),
            table("cluster_nodes", self.nodes.len(), self.nodes.limit),
        ]
    }

    /// What was lost, also where that is nothing.
    pub fn losses(&self) -> Vec<Loss> {
        [
            ("pods_full", self.pods.overflow),
            ("ended_pods_full", self.pods.evicted),
            ("services_full", self.services.overflow),
            ("endpoints_full", self.endpoints.overflow),
            ("nodes_full", self.nodes.overflow),
            ("object_malformed", self.pods.malformed),
            ("address_conflict", self.conflicts.get()),
        ]
        .map(|(reason, count)| Loss {
            stage: "cluster",
            reason,
            count,
        })
        .into()
    }

    /// Objects of a kind that are there; what is gone and remembered does not count.
    pub fn objects(&self, kind: Kind) -> usize {
        match kind {
            Kind::Pod => self.pods.live(),
            Kind::Service => self.services.len(),
            Kind::Endpoints => self.endpoints.len(),
            Kind::Node => self.nodes.len(),
        }
    }

    /// Whether a source ever told all objects of a kind.
    pub fn is_complete(&self, source: Source, kind: Kind) -> bool {
        self.lists.is_complete(source, kind)
    }

    fn set(&mut self, object: Object, telling: &Telling) -> bool {
        match object {
            Object::Pod(pod) => self.pods.set(pod, telling, &mut self.nodes),
            Object::Service(service) => self.services.set(&service, telling, &mut self.names),
            Object::Endpoints(endpoints) => self.endpoints.set(endpoints, telling, &mut self.names),
            Object::Node(node) => match self.nodes.set(node, telling) {
                Some((node, pods)) => {
                    self.pods.move_to(&node, &pods);
                    true
                }
                None => false,
            },
        }
    }

    fn complete(&mut self, kind: Kind, telling: &Telling, since: Monotonic) -> bool {
        match kind {
            Kind::Pod => self.pods.complete(telling, since, &mut self.nodes),
            Kind::Service => self.services.complete(telling),
            Kind::Endpoints => self.endpoints.complete(telling),
            Kind::Node => self.nodes.complete(telling),
        }
    }

    /// Forgets what was gone before `until`, and what is gone beyond the limits.
    fn forget(&mut self, until: Monotonic) -> bool {
        self.endpoints.expire(until);
        let pods = self.pods.expire(until);
        let services = self.services.expire(until);
        self.nodes.expire(until) || services || pods
    }

    fn look(&self, address: SocketAddr, protocol: u8, at: Monotonic, settled: bool) -> Sight {
        let socket = Socket::new(address, protocol);
        if !is_claimable(socket.address) {
            return match self.networks.find(socket.address) {
                Some(name) => Sight::Network(name.clone()),
                None => Sight::Outside,
            };
        }
        let node = self.nodes.holder(socket.address, at);
        let pod = self.pods.holder(socket.address, at);
        let pod = match (node, pod) {
            (Holding::One(node), Holder::Unheard | Holder::Nobody) => {
                return match self.on_host(&socket, at) {
                    Some(pod) => Sight::Pod(pod.clone()),
                    None => Sight::Node(node.clone()),
                };
            }
            (Holding::Nobody, Holder::Sure(pod)) => pod,
            (Holding::Nobody, Holder::Likely(pod)) if settled => pod,
            (Holding::Nobody, Holder::Unheard | Holder::Nobody) => {
                return self.unclaimed(socket.address, pod == Holder::Unheard, settled);
            }
            (Holding::Nobody, Holder::Likely(_) | Holder::Several { conflict: false }) => {
                return Sight::Doubtful;
            }
            // Two that are there say that it is theirs.
            _ => {
                self.conflicts.set(self.conflicts.get() + 1);
                return Sight::Doubtful;
            }
        };
        self.pods
            .at(pod)
            .map_or(Sight::Outside, |pod| Sight::Pod(pod.clone()))
    }

    /// What an address is that nobody has.
    fn unclaimed(&self, address: IpAddr, unheard: bool, settled: bool) -> Sight {
        let pod_network = self.nodes.pod_network(address);
        if let Some((length, name)) = self.networks.longest(address)
            && unheard
            && pod_network.is_none_or(|pods| pods < length)
        {
            return Sight::Network(name.clone());
        }
        let is_pods = !unheard || pod_network.is_some() || is_private(address);
        if is_pods && !settled {
            // Of a pod that is younger than what was told, perhaps.
            Sight::Doubtful
        } else {
            Sight::Outside
        }
    }

    /// The pod on its node's network that listens on a socket, by the endpoints that name it.
    fn on_host(&self, socket: &Socket, at: Monotonic) -> Option<&Arc<Pod>> {
        let mut found = self
            .endpoints
            .at(socket, at)
            .filter(|endpoint| endpoint.is_told(at));
        let uid = found.next()?.pod?;
        if found.any(|other| other.pod != Some(uid)) {
            return None;
        }
        self.pods.on_host(uid, at)
    }

    /// The one Service that stands for something outside of the cluster, whose endpoint this is.
    fn endpoint(&self, socket: &Socket, at: Monotonic) -> Option<Arc<Service>> {
        let known = [Kind::Service, Kind::Endpoints]
            .iter()
            .all(|kind| self.lists.is_known(*kind));
        if !known || !self.endpoints.are_all() {
            return None;
        }
        let mut only: Option<&Arc<Service>> = None;
        for endpoint in self.endpoints.at(socket, at) {
            // A pod that is dialled by its own address may be meant by that alone.
            if endpoint.pod.is_some() {
                continue;
            }
            let service = endpoint.service;
            if only.is_some_and(|only| only != service) {
                return None;
            }
            only = Some(service);
        }
        only.cloned()
    }

    /// The parts of a Service's name by which the cluster knows it: whether there is a host's name
    /// before it, itself, and its namespace.
    fn cluster_name<'a>(&self, name: &'a str) -> Option<(bool, &'a str, &'a str)> {
        let local = name
            .strip_suffix(&*self.domain)
            .and_then(|name| name.strip_suffix('.'))
            .unwrap_or(name);
        let mut labels = local.strip_suffix(".svc")?.rsplit('.');
        let (namespace, service) = (labels.next()?, labels.next()?);
        let host = labels.next();
        // Below a host there is nothing: what remains are names of ports, which have no address.
        let ends = labels.next().is_none();
        (ends && !service.is_empty() && host != Some("")).then_some((
            host.is_some(),
            service,
            namespace,
        ))
    }
}

#[cfg(test)]
mod tests;
