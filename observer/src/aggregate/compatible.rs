//! Series as the proxies of meshes have them, for tools that read those.
//!
//! They are made on request only, and of calls and connections at an application's own socket only:
//! what proxies carry is counted there. Each dialect says who is told of and under which labels;
//! what is counted is the same for all.

use std::{
    collections::VecDeque,
    hash::{Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::{
    graph::SETTLE,
    links::{self, FORGET},
    series::{Handle, Labels, Store},
    snapshot::Samples,
};
use crate::{
    config::MeshSeries,
    model::{
        call::{Call, Link, LinkEvent},
        connection::{ConnectionId, Role, Transfer},
        exchange::Outcome,
        mesh::Far,
        time::Monotonic,
    },
};

mod istio;
mod linkerd;
mod requests;
mod show;

use requests::{Answer, Http};

/// All dialects.
#[derive(Debug)]
pub(super) struct Compatible {
    dialects: [Dialect; 2],
    connections: HashMap<ConnectionId, Connection, RandomState>,
    /// Connections that are not settled yet, the oldest first.
    unsettled: VecDeque<ConnectionId>,
    most_connections: usize,
    /// Connections that there was no room for.
    untracked: u64,
    cluster: Box<str>,
}

/// Series of one mesh.
#[derive(Debug)]
struct Dialect {
    which: Which,
    http: Store<HttpKey, Http>,
    tcp: Store<Ends, Tcp>,
}

/// Whose names are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Istio(crate::config::IstioSeries),
    Linkerd(bool),
}

/// Labels of who with whom, which tell apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Ends(Labels);

/// What tells series of requests apart.
#[derive(Clone, Debug, PartialEq, Eq)]
struct HttpKey {
    ends: Ends,
    result: Answer,
}

/// Measures of connections. Bytes are those from and to the client.
#[derive(Debug, Default)]
struct Tcp {
    opened: u64,
    closed: u64,
    open: u64,
    from_client: u64,
    to_client: u64,
}

/// A connection that is open.
#[derive(Debug)]
struct Connection {
    link: Arc<Link>,
    /// Totals that were told.
    seen: Transfer,
    /// Totals that are counted.
    counted: Transfer,
    /// It carried a call.
    calls: bool,
    settled: bool,
    /// By dialect.
    tcp: [Option<Handle>; 2],
    memo: [Option<Memo>; 2],
    used: Monotonic,
}

/// Series of the last call of a connection: the next one is alike, for the most part.
#[derive(Debug)]
struct Memo {
    link: Arc<Link>,
    far: Option<Arc<Far>>,
    authority: Box<str>,
    result: Answer,
    handle: Handle,
}

// === impl Compatible ===

impl Compatible {
    pub(super) fn new(
        series: MeshSeries,
        budget: usize,
        most_connections: usize,
        cluster: &str,
    ) -> Self {
        Self {
            dialects: [Which::Istio(series.istio), Which::Linkerd(series.linkerd)].map(|which| {
                Dialect {
                    which,
                    http: Store::new(budget),
                    tcp: Store::new(budget),
                }
            }),
            connections: HashMap::default(),
            unsettled: VecDeque::new(),
            most_connections,
            untracked: 0,
            cluster: cluster.into(),
        }
    }

    /// What is not wanted any more is gone; connections that are open are counted from now on.
    pub(super) fn reconfigure(
        &mut self,
        series: MeshSeries,
        budget: usize,
        most_connections: usize,
        cluster: &str,
    ) {
        let wanted = [Which::Istio(series.istio), Which::Linkerd(series.linkerd)];
        let same = self.dialects.iter().map(|dialect| dialect.which).eq(wanted);
        if !same || *self.cluster != *cluster {
            *self = Self::new(series, budget, most_connections, cluster);
            return;
        }
        self.most_connections = most_connections;
        for dialect in &mut self.dialects {
            dialect.http.set_budget(budget);
            dialect.tcp.set_budget(budget);
        }
    }

    fn is_off(&self) -> bool {
        self.dialects.iter().all(|dialect| dialect.which.is_off())
    }

    /// Counts a call.
    pub(super) fn call(&mut self, call: &Call, now: Monotonic) {
        // The end of a lost exchange was not seen.
        if self.is_off() || call.probe || call.exchange.outcome == Outcome::Lost {
            return;
        }
        let id = call.link.connection.id;
        let mut connection = self.connections.get_mut(&id);
        let result = Answer::of(call);
        for (index, dialect) in self.dialects.iter_mut().enumerate() {
            if dialect.which.is_off() {
                continue;
            }
            let memo = connection
                .as_mut()
                .and_then(|connection| connection.memo.get_mut(index));
            let known = memo
                .as_ref()
                .and_then(|memo| memo.as_ref())
                .filter(|memo| memo.fits(call, result))
                .map(|memo| memo.handle);
            if let Some(http) = known.and_then(|handle| dialect.http.update(handle, now)) {
                http.observe(call, now);
                continue;
            }
            let Some(ends) = dialect.which.http(call, &self.cluster) else {
                continue;
            };
            let key = HttpKey { ends, result };
            let handle = dialect
                .http
                .resolve(&key, now, || (dialect.which.labels(&key), Http::default()));
            if let Some(http) = dialect.http.update(handle, now) {
                http.observe(call, now);
            }
            if let Some(memo) = memo
                && !handle.is_overflow()
            {
                *memo = Some(Memo {
                    link: call.link.clone(),
                    far: call.far().cloned(),
                    authority: call.exchange.request.authority.clone(),
                    result,
                    handle,
                });
            }
        }
        if let Some(connection) = connection {
            connection.calls = true;
            connection.used = now;
        }
    }

    /// Counts what happens to a connection.
    pub(super) fn link(&mut self, event: &LinkEvent, now: Monotonic) {
        if self.is_off() {
            return;
        }
        match event {
            LinkEvent::Opened(link) => self.open(link, now),
            LinkEvent::Recognised { link, .. } => {
                self.open(link, now);
                // Of HTTP in the clear only calls tell whether there are any.
                let shown = link.opening.as_deref().and_then(|opening| opening.protocol);
                if !matches!(shown, None | Some("http/1" | "http/2")) {
                    self.settle(link.connection.id, now);
                }
            }
            LinkEvent::Progress { link, transfer } => {
                self.open(link, now);
                self.moved(link.connection.id, transfer, now);
            }
            LinkEvent::Closed { link, transfer, .. } => {
                self.open(link, now);
                self.settle(link.connection.id, now);
                self.moved(link.connection.id, transfer, now);
                if let Some(connection) = self.connections.remove(&link.connection.id) {
                    self.close(&connection, now);
                }
            }
            LinkEvent::Failed { link, .. } => {
                self.connections.remove(&link.connection.id);
            }
        }
    }

    fn open(&mut self, link: &Arc<Link>, now: Monotonic) {
        let id = link.connection.id;
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.used = now;
            if !Arc::ptr_eq(&connection.link, link) {
                connection.link = link.clone();
            }
            return;
        }
        if !link.hop.is_counted() || link.workload.pod().is_none() {
            return;
        }
        if self.connections.len() >= self.most_connections {
            self.untracked += 1;
            return;
        }
        self.unsettled.push_back(id);
        self.connections.insert(
            id,
            Connection {
                link: link.clone(),
                seen: Transfer::default(),
                counted: Transfer::default(),
                calls: false,
                settled: false,
                tcp: [None; 2],
                memo: [None, None],
                used: now,
            },
        );
    }

    /// From now on it is counted as what it is known to be.
    fn settle(&mut self, id: ConnectionId, now: Monotonic) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if std::mem::replace(&mut connection.settled, true) {
            return;
        }
        let fresh = !connection.link.connection.pre_existing;
        for (dialect, handle) in self.dialects.iter_mut().zip(&mut connection.tcp) {
            let Some(ends) = dialect
                .which
                .tcp(&connection.link, connection.calls, &self.cluster)
            else {
                continue;
            };
            let found = dialect
                .tcp
                .resolve(&ends, now, || (ends.0.clone(), Tcp::default()));
            *handle = Some(found);
            if let Some(tcp) = dialect.tcp.update(found, now) {
                tcp.open += 1;
                tcp.opened += u64::from(fresh);
            }
        }
        let seen = connection.seen;
        self.moved(id, &seen, now);
    }

    fn moved(&mut self, id: ConnectionId, total: &Transfer, now: Monotonic) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        connection.seen = links::latest(&connection.seen, total);
        if !connection.settled {
            return;
        }
        let change = links::change(&connection.counted, &connection.seen);
        connection.counted = connection.seen;
        let (from_client, to_client) = match connection.link.connection.role {
            Role::Client => (change.sent_bytes, change.received_bytes),
            Role::Server | Role::Unknown => (change.received_bytes, change.sent_bytes),
        };
        for (dialect, handle) in self.dialects.iter_mut().zip(connection.tcp) {
            if let Some(tcp) = handle.and_then(|handle| dialect.tcp.update(handle, now)) {
                tcp.from_client += from_client;
                tcp.to_client += to_client;
            }
        }
    }

    fn close(&mut self, connection: &Connection, now: Monotonic) {
        for (dialect, handle) in self.dialects.iter_mut().zip(connection.tcp) {
            if let Some(tcp) = handle.and_then(|handle| dialect.tcp.update(handle, now)) {
                tcp.open = tcp.open.saturating_sub(1);
                tcp.closed += 1;
            }
        }
    }

    /// Settles what has been open for long enough, and removes what is idle; cheap enough for once
    /// a second.
    pub(super) fn expire(&mut self, now: Monotonic, idle: Duration) {
        while let Some(id) = self.unsettled.front().copied() {
            if let Some(connection) = self.connections.get(&id) {
                let connection = &connection.link.connection;
                let since = connection.established.unwrap_or(connection.started);
                if now.since(since) < SETTLE {
                    break;
                }
            }
            self.unsettled.pop_front();
            self.settle(id, now);
        }
        let forgotten = self
            .connections
            .extract_if(|_, connection| now.since(connection.used) >= FORGET);
        let forgotten: Vec<Connection> = forgotten.map(|(_, connection)| connection).collect();
        for connection in forgotten {
            self.close(&connection, now);
        }
        for dialect in &mut self.dialects {
            dialect.http.expire(now, idle, |_| false);
            dialect.tcp.expire(now, idle, |tcp| tcp.open > 0);
        }
    }

    /// All families that have series, in order of exposition.
    pub(super) fn samples(&self) -> Vec<Samples> {
        let [istio, linkerd] = &self.dialects;
        let mut out = Vec::new();
        show::istio(istio, &mut out);
        show::linkerd(linkerd, &mut out);
        out
    }

    /// By group: label sets, the most that there can be, and updates of the overflow series.
    pub(super) fn groups(&self) -> [(&'static str, usize, usize, u64); 4] {
        let [istio, linkerd] = &self.dialects;
        let http = |name, dialect: &Dialect| {
            let store = &dialect.http;
            (name, store.len(), store.budget(), store.overflowed())
        };
        let tcp = |name, dialect: &Dialect| {
            let store = &dialect.tcp;
            (name, store.len(), store.budget(), store.overflowed())
        };
        [
            http("istio_http", istio),
            tcp("istio_tcp", istio),
            http("linkerd_http", linkerd),
            tcp("linkerd_tcp", linkerd),
        ]
    }

    /// Connections that there was no room for.
    pub(super) fn untracked(&self) -> u64 {
        self.untracked
    }
}

// === impl Which ===

impl Which {
    fn is_off(self) -> bool {
        matches!(
            self,
            Self::Istio(crate::config::IstioSeries::Off) | Self::Linkerd(false)
        )
    }

    /// Who a call is between, if it is told of.
    fn http(self, call: &Call, cluster: &str) -> Option<Ends> {
        let labels = match self {
            Self::Istio(which) => istio::http(which, call, cluster)?,
            Self::Linkerd(on) => on.then(|| linkerd::http(call))??,
        };
        Some(Ends(labels))
    }

    /// Who a connection is between, if it is told of; `calls`: it carried some.
    fn tcp(self, link: &Link, calls: bool, cluster: &str) -> Option<Ends> {
        let labels = match self {
            Self::Istio(which) => istio::tcp(which, link, calls, cluster)?,
            Self::Linkerd(on) => on.then(|| linkerd::tcp(link))??,
        };
        Some(Ends(labels))
    }

    /// All labels of a series of requests.
    fn labels(self, key: &HttpKey) -> Labels {
        match self {
            Self::Istio(_) => istio::answered(&key.ends.0, key.result),
            Self::Linkerd(_) => linkerd::answered(&key.ends.0, key.result),
        }
    }
}

// === impl HttpKey ===

impl Hash for HttpKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.result.hash(state);
        self.ends.hash(state);
    }
}

// === impl Memo ===

impl Memo {
    fn fits(&self, call: &Call, result: Answer) -> bool {
        let same_far = match (&self.far, call.far()) {
            (Some(known), Some(far)) => Arc::ptr_eq(known, far),
            (None, None) => true,
            _ => false,
        };
        same_far
            && self.result == result
            && Arc::ptr_eq(&self.link, &call.link)
            && self.authority == call.exchange.request.authority
    }
}

#[cfg(test)]
mod tests;
