//! Whom a socket next to a proxy is really connected with.
//!
//! The proxy knows; this only sees its sockets, and what it tells in the fields of requests. So each
//! answer says what it rests on, and where several are possible it is the Service or the identity
//! alone that is told, never one of them by chance.

use std::sync::Arc;

use super::{
    Enricher,
    identify::Cluster,
    wires::{Ends, Wire, wires_at},
};
use crate::{
    cluster::{Sight, index::Behind},
    mesh::{self, hops},
    model::{
        call::{Call, Link},
        connection::{ConnectionId, Role},
        exchange::Exchange,
        kubernetes::{Network, Pod},
        mesh::{Far, FarSource, Forwarded, Hop, Identity, ProxyKind},
        security::Security,
        time::Monotonic,
        workload::{Peer, Workload},
    },
};

/// IP protocol number.
const TCP: u8 = 6;

/// Who called, by what the proxy told and had open then.
#[derive(Debug)]
pub(super) struct Caller {
    forwarded: Option<Arc<Forwarded>>,
    revision: u64,
    index: u64,
    /// Of requests from when on, and until when.
    times: (Monotonic, Monotonic),
    far: Arc<Far>,
}

impl Enricher {
    /// Finds out what the socket of a link is on the way of a call, and whom it is really with.
    pub(super) fn reckon(&mut self, link: &mut Link) {
        if !self.config.fold {
            return;
        }
        link.hop = hops::hop(link);
        if let Hop::Proxy(_) = link.hop {
            link.far = self.stands_for(link).map(Arc::new);
            // Of one that is not remembered nobody would tell the end.
            if self.connections.contains_key(&link.connection.id) {
                self.wires.set(link, self.wire_pod(link));
            }
            return;
        }
        link.far = self.far(link);
    }

    /// The pod at the other end of a proxy's connection, proxies of nodes left out: they have a socket in
    /// each pod that they stand for, with its address.
    pub(super) fn wire_pod(&self, link: &Link) -> Option<Arc<Pod>> {
        match &link.peer {
            Peer::Local(other) if hops::proxy(other) == Some(ProxyKind::Node) => {
                let connection = &link.connection;
                let far = connection.wire.map_or(connection.remote, |(_, far)| far);
                // What was dialled may be translated where this end does not see it.
                let other = self.peers.find(connection, |id| {
                    self.connections
                        .get(&id)
                        .map(|state| &state.link.connection)
                });
                let other = other.and_then(|id| self.connections.get(&id));
                let far = match (connection.role, other) {
                    (Role::Client, Some(other)) => other.link.connection.local,
                    _ => far,
                };
                let at = connection.established.unwrap_or(connection.started);
                match self.cluster.as_ref()?.index.find(far, TCP, at) {
                    Sight::Pod(pod) => Some(pod),
                    _ => None,
                }
            }
            peer => peer.pod().cloned(),
        }
    }

    /// The pod that the proxy at the other end stands for, where that is the one of a node: a socket of it
    /// is in that pod's network, and its process in a pod of its own.
    fn stands_for(&self, link: &Link) -> Option<Far> {
        let Peer::Local(other) = &link.peer else {
            return None;
        };
        if hops::proxy(other) != Some(ProxyKind::Node) {
            return None;
        }
        Some(Far {
            peer: Peer::Pod(self.wire_pod(link)?),
            source: FarSource::Address,
            security: link.security,
            identity: None,
            proxy: Some(other.clone()),
        })
    }

    /// Whom a connection is really with.
    pub(super) fn far(&self, link: &Link) -> Option<Arc<Far>> {
        let cluster = self.cluster.as_ref()?;
        let ends = self.wires.of(link.connection.local.ip());
        let far = match link.hop {
            Hop::ToProxy => self.beyond(link, cluster, ends),
            Hop::FromProxy => self.before(link, cluster, ends, None),
            Hop::Direct => self.stands_for(link)?,
            Hop::Proxy(_) | Hop::Meta => return None,
        };
        Some(match &link.far {
            Some(known) if **known == far => known.clone(),
            _ => Arc::new(far),
        })
    }

    /// Looks again at whom a connection is with, if its proxy has opened or closed something since.
    pub(super) fn look_beyond(&mut self, id: ConnectionId) {
        let Some(state) = self.connections.get(&id) else {
            return;
        };
        let hop = state.link.hop;
        if !matches!(hop, Hop::ToProxy | Hop::FromProxy) {
            return;
        }
        let revision = self.wires.revision(state.link.connection.local.ip());
        let index = self
            .index()
            .map_or(0, crate::cluster::index::Index::revision);
        if state.beyond == (revision, index) {
            return;
        }
        let far = self.far(&state.link);
        if let Some(state) = self.connections.get_mut(&id) {
            state.beyond = (revision, index);
            if state.link.far != far {
                state.link = Arc::new(Link {
                    far,
                    ..Link::clone(&state.link)
                });
            }
        }
    }

    /// Says who made a call that a proxy handed on.
    pub(super) fn find_caller(&mut self, call: &mut Call) {
        if call.link.hop != Hop::FromProxy {
            return;
        }
        let connection = &call.link.connection;
        let revision = self.wires.revision(connection.local.ip());
        let Some(cluster) = &self.cluster else {
            return;
        };
        let index = cluster.index.revision();
        let forwarded = &call.exchange.forwarded;
        let at = call.exchange.sent.first;
        let told = |caller: &&Caller| {
            caller.revision == revision
                && caller.index == index
                && (caller.times.0..caller.times.1).contains(&at)
                && same(caller.forwarded.as_ref(), forwarded.as_ref())
        };
        let ends = self.wires.of(connection.local.ip());
        let known = self.connections.get(&connection.id);
        if let Some(caller) = known.and_then(|state| state.caller.as_ref()).filter(told) {
            call.far = Some(caller.far.clone());
            return;
        }
        let far = Arc::new(self.before(&call.link, cluster, ends, Some(&call.exchange)));
        let always = (Monotonic::default(), Monotonic(u64::MAX));
        let times = ends.map_or(always, |ends| ends.unchanged(at));
        if let Some(state) = self.connections.get_mut(&connection.id) {
            state.caller = Some(Caller {
                forwarded: forwarded.clone(),
                revision,
                index,
                times,
                far: far.clone(),
            });
        }
        call.far = Some(far);
    }

    /// Whom an application's connection to its proxy goes on to.
    fn beyond(&self, link: &Link, cluster: &Cluster, ends: Option<&Ends>) -> Far {
        let secured =
            |which: &dyn Fn(&Wire) -> bool| secured(wires_at(ends, Role::Client, None, which));
        let connection = &link.connection;
        let at = connection.established.unwrap_or(connection.started);
        let (peer, source, security) = match &link.dialled {
            Some(service) => {
                let behind = cluster.index.behind(&service.namespace, &service.name);
                let asked_for = |wire: &Wire| {
                    let host = wire.signs.as_ref().and_then(|signs| signs.host.as_deref());
                    host.is_some_and(|host| is_host_of(host, &service.name, &service.namespace))
                };
                match behind {
                    Behind::One(pod) => {
                        let direct = |wire: &Wire| {
                            asked_for(wire)
                                || wire.pod.as_deref().is_some_and(|one| alike(one, &pod))
                        };
                        let security = secured_by(ends, Role::Client, None, &direct, &pod);
                        (Peer::Pod(pod), FarSource::Service, security)
                    }
                    // Which of them the proxy chose would be told by what it happens to have open.
                    Behind::Several | Behind::Nobody => {
                        let security = secured(&asked_for);
                        (Peer::Service(service.clone()), FarSource::Unknown, security)
                    }
                }
            }
            None => {
                let address = connection.remote.ip();
                let peer = match cluster.index.find(connection.remote, TCP, at) {
                    Sight::Pod(pod) => Peer::Pod(pod),
                    Sight::Node(node) => Peer::Node(node),
                    Sight::Network(name) => Peer::Network(Network { name, address }),
                    Sight::Doubtful | Sight::Outside => Peer::Address(address),
                };
                let direct = |wire: &Wire| wire.remote == address;
                let security = match &peer {
                    Peer::Pod(pod) => secured_by(ends, Role::Client, None, &direct, pod),
                    _ => secured(&direct),
                };
                (peer, FarSource::Address, security)
            }
        };
        Far {
            peer,
            source,
            security,
            identity: None,
            proxy: proxy_of(link),
        }
    }

    /// Who is before the proxy that called an application; with one of its requests, who made that.
    fn before(
        &self,
        link: &Link,
        cluster: &Cluster,
        ends: Option<&Ends>,
        exchange: Option<&Exchange>,
    ) -> Far {
        let connection = &link.connection;
        let remote = connection.remote.ip();
        let then = exchange.map(|exchange| exchange.sent.first);
        let far = |peer, source, security, identity| Far {
            peer,
            source,
            security,
            identity,
            proxy: proxy_of(link),
        };
        let (identity, vouched, security) = vouched(link, exchange);
        if !remote.is_loopback() && remote != connection.local.ip() {
            // The proxy kept the address of who called.
            let at = connection.established.unwrap_or(connection.started);
            let peer = match cluster.index.find(connection.remote, TCP, at) {
                Sight::Pod(pod) => Peer::Pod(pod),
                Sight::Node(node) => Peer::Node(node),
                Sight::Network(name) => Peer::Network(Network {
                    name,
                    address: remote,
                }),
                Sight::Doubtful | Sight::Outside => Peer::Address(remote),
            };
            let own = |wire: &Wire| wire.remote == remote;
            let security = security.unwrap_or_else(|| match &peer {
                Peer::Pod(pod) => secured_by(ends, Role::Server, then, &own, pod),
                _ => secured(wires_at(ends, Role::Server, then, &own)),
            });
            return far(peer, FarSource::Address, security, identity);
        }
        let Some(identity) = identity else {
            // Nobody vouched for it: it is one of those that come without a mesh's own TLS.
            let told = exchange.is_some();
            let may_be = |wire: &Wire| !told || !is_mutual(wire.security);
            let possible = || wires_at(ends, Role::Server, then, &may_be);
            let security = secured(possible());
            return match only(possible()) {
                Some(pod) => far(Peer::Pod(pod), FarSource::Connections, security, None),
                None if possible().count() > 0 && possible().all(|wire| wire.pod.is_none()) => {
                    let mut remotes = possible().map(|wire| wire.remote);
                    let address = remotes.next().unwrap_or(remote);
                    let same = remotes.all(|other| other == address);
                    let source = if same {
                        FarSource::Connections
                    } else {
                        FarSource::Unknown
                    };
                    far(Peer::Address(address), source, security, None)
                }
                None => {
                    let unknown = Peer::Local(self.unknown.clone());
                    far(unknown, FarSource::Unknown, security, None)
                }
            };
        };
        let security =
            security.unwrap_or_else(|| secured(wires_at(ends, Role::Server, then, &|_| true)));
        let behind = cluster
            .index
            .account(&identity.namespace, &identity.service_account);
        if let Behind::One(pod) = behind {
            return far(Peer::Pod(pod), vouched, security, Some(identity));
        }
        let has = |wire: &Wire| {
            wire.pod.as_deref().is_some_and(|pod| {
                *pod.namespace == *identity.namespace
                    && pod.traits.service_account == identity.service_account
            })
        };
        match only(wires_at(ends, Role::Server, then, &has)) {
            Some(pod) => far(
                Peer::Pod(pod),
                FarSource::Connections,
                security,
                Some(identity),
            ),
            None => far(
                Peer::Identity(identity.clone()),
                FarSource::Unknown,
                security,
                Some(identity),
            ),
        }
    }
}

/// The identity that a proxy vouches for, by which means, and how it was proved to the proxy.
fn vouched(
    link: &Link,
    exchange: Option<&Exchange>,
) -> (Option<Arc<Identity>>, FarSource, Option<Security>) {
    let proved = |text: &str, source, security| {
        (Some(Arc::new(mesh::wire::identity(text))), source, security)
    };
    let forwarded = exchange.and_then(|exchange| exchange.forwarded.as_deref());
    if let Some(forwarded) = forwarded {
        if let Some(uri) = &forwarded.client_uri {
            return proved(uri, FarSource::Identity, Some(Security::IstioMutualTls));
        }
        if let Some(id) = &forwarded.client_id {
            return proved(id, FarSource::Identity, Some(Security::LinkerdMutualTls));
        }
    }
    let proxied = link
        .opening
        .as_ref()
        .and_then(|opening| opening.proxied.as_ref());
    if let Some(text) = proxied.and_then(|proxied| proxied.identity.as_deref()) {
        return proved(text, FarSource::ProxyHeader, None);
    }
    (None, FarSource::Unknown, None)
}

fn proxy_of(link: &Link) -> Option<Arc<Workload>> {
    match &link.peer {
        Peer::Local(proxy) => Some(proxy.clone()),
        _ => None,
    }
}

/// A pod of the one workload that all of `wires` lead to.
fn only<'a>(mut wires: impl Iterator<Item = &'a Wire>) -> Option<Arc<Pod>> {
    let first = wires.next()?.pod.as_ref()?;
    let same = |wire: &Wire| wire.pod.as_deref().is_some_and(|pod| alike(pod, first));
    wires.all(same).then(|| first.clone())
}

/// Of one workload.
fn alike(one: &Pod, other: &Pod) -> bool {
    one.namespace == other.namespace && one.workload() == other.workload()
}

/// How all of `wires` are secured; unknown if not in one way.
fn secured<'a>(mut wires: impl Iterator<Item = &'a Wire>) -> Security {
    let Some(first) = wires.next() else {
        return Security::Unknown;
    };
    match wires.all(|wire| wire.security == first.security) {
        true => first.security,
        false => Security::Unknown,
    }
}

/// How those of a proxy's wires are secured that go to a pod or come from it, or without any, those that
/// have a waypoint between. `far`: that pod.
fn secured_by(
    ends: Option<&Ends>,
    role: Role,
    then: Option<Monotonic>,
    direct: &dyn Fn(&Wire) -> bool,
    far: &Pod,
) -> Security {
    let mut any = wires_at(ends, role, then, direct).peekable();
    // Waypoints are between the proxies of nodes alone.
    if any.peek().is_some() || !hops::is_redirected(far) {
        return secured(any);
    }
    let waypoint = |wire: &Wire| wire.pod.as_deref().is_some_and(hops::is_waypoint);
    secured(wires_at(ends, role, then, &waypoint))
}

const fn is_mutual(security: Security) -> bool {
    matches!(
        security,
        Security::IstioMutualTls | Security::Hbone | Security::LinkerdMutualTls
    )
}

/// Whether a host is the name of a Service.
fn is_host_of(host: &str, name: &str, namespace: &str) -> bool {
    let Some(rest) = host
        .strip_prefix(name)
        .and_then(|rest| rest.strip_prefix('.'))
    else {
        return false;
    };
    let rest = rest.strip_prefix(namespace);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(".svc"))
}

/// Equal, most often by the pointer.
fn same(one: Option<&Arc<Forwarded>>, other: Option<&Arc<Forwarded>>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => {
            Arc::ptr_eq(one, other)
                || one.client_uri == other.client_uri && one.client_id == other.client_id
        }
        _ => false,
    }
}
