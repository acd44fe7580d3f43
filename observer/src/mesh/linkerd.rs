//! Linkerd's objects, and what they come to.

mod authorization;
mod client;
mod content;
mod egress;
mod inbound;
mod limit;
mod outbound;
mod ports;
mod profile;
mod server;

use std::sync::Arc;

use hashbrown::HashMap;

use self::{
    authorization::{Authorizations, MeshTls, Network, Policy, ServerAuthorization},
    content::Content,
    egress::{EgressNetwork, EgressNetworks},
    limit::{Limited, Limits},
    profile::{Profile, Profiles},
    server::{Server, Servers},
};
use super::{
    decision::{
        Accepts, Access, Backend, Caller, Decision, DeclaredRule, Destination, Egress, Request,
        Routing, Sends,
    },
    gateway::{
        Gateways,
        choose::{Dialect, Routes},
        route::{ParentKind, Route, full_name},
    },
    policy::{Context, Misunderstood},
    read::read,
};
use crate::model::{
    kubernetes::Pod,
    policy::{ObjectRef, PolicyKind, PolicyObject},
};

/// Linkerd's objects.
#[derive(Debug, Default)]
pub struct Linkerd {
    /// By uid.
    read: HashMap<Box<str>, Read>,
    servers: Servers,
    authorizations: Authorizations,
    limits: Limits,
    egress: EgressNetworks,
    profiles: Profiles,
    /// Of Linkerd's own kind.
    routes: Routes,
}

/// What a port is read as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// What its first bytes show, for up to ten seconds; then as bytes.
    #[default]
    Detect,
    /// HTTP/1.
    Http1,
    /// HTTP/2.
    Http2,
    /// gRPC.
    Grpc,
    /// Bytes: nothing of what is in it is known to the proxy.
    Opaque,
    /// TLS of the application.
    Tls,
}

/// An object that authorizes clients, and what it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorizer {
    /// The object.
    pub object: ObjectRef,
    /// Whose clients it authorizes.
    pub server: ObjectRef,
    /// The route that it is about; `None` for all that is asked of the server.
    pub route: Option<ObjectRef>,
    /// Identities, of which any will do, as `*`, `*.suffix`, or whole; with `*` for the parts that
    /// depend on the installation. Empty where none is demanded.
    pub identities: Vec<Box<str>>,
    /// Blocks of addresses, of which any will do; empty where none is demanded.
    pub networks: Vec<Box<str>>,
    /// Clients without a proved identity may pass.
    pub plaintext: bool,
    /// Why it authorizes nobody, if so.
    pub problem: Option<String>,
}

/// How many requests each proxy of a server lets pass; what is above is answered with 429.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// The object.
    pub object: ObjectRef,
    /// Of all clients, requests per second; `None` without a limit.
    pub total: Option<u32>,
    /// Of each identity, requests per second; `None` without a limit.
    pub identity: Option<u32>,
    /// Of some clients, instead.
    pub overrides: Vec<LimitOverride>,
}

/// How many requests some clients may make instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitOverride {
    /// Their service accounts, namespace and name.
    pub accounts: Vec<(Box<str>, Box<str>)>,
    /// Requests per second, of each.
    pub limit: u32,
}

/// An object, to find it where it was put.
#[derive(Debug)]
enum Read {
    Server(Arc<Server>),
    ServerAuthorization(Arc<ServerAuthorization>),
    Policy(Arc<Policy>),
    MeshTls(Arc<MeshTls>),
    Network(Arc<Network>),
    Route(Arc<Route>),
    Limited(Arc<Limited>),
    EgressNetwork(Arc<EgressNetwork>),
    Profile(Arc<Profile>),
}

// === impl Linkerd ===

impl Linkerd {
    /// Takes an object of its own; an error says what is wrong with it.
    pub(super) fn set(&mut self, object: &PolicyObject) -> Result<(), Misunderstood> {
        let uid = &object.uid;
        let known = match object.kind {
            PolicyKind::LinkerdServer => {
                let content: Content<_> = read(object)?;
                let Some(it) = Server::read(object, content.spec)? else {
                    return Ok(());
                };
                let it = Arc::new(it);
                self.servers.insert(uid, &it);
                Read::Server(it)
            }
            PolicyKind::ServerAuthorization => {
                let content: Content<_> = read(object)?;
                let it = Arc::new(ServerAuthorization::read(object, content.spec)?);
                self.authorizations.insert_server(uid, &it);
                Read::ServerAuthorization(it)
            }
            PolicyKind::LinkerdAuthorizationPolicy => {
                let content: Content<_> = read(object)?;
                let it = Arc::new(Policy::read(object, content.spec)?);
                self.authorizations.insert_policy(uid, &it);
                Read::Policy(it)
            }
            PolicyKind::MeshTlsAuthentication => {
                let content: Content<_> = read(object)?;
                let it = Arc::new(MeshTls::read(object, content.spec)?);
                self.authorizations.insert_identities(uid, &it);
                Read::MeshTls(it)
            }
            PolicyKind::NetworkAuthentication => {
                let content: Content<_> = read(object)?;
                let it = Arc::new(Network::new(object, content.spec));
                self.authorizations.insert_networks(uid, &it);
                Read::Network(it)
            }
            PolicyKind::LinkerdHttpRoute => {
                let it = Arc::new(Route::read(object, read(object)?)?);
                self.routes.insert(uid, &it);
                Read::Route(it)
            }
            PolicyKind::HttpLocalRateLimitPolicy => {
                let content: Content<_> = read(object)?;
                let it = Arc::new(Limited::read(object, content.spec)?);
                self.limits.insert(uid, &it);
                Read::Limited(it)
            }
            PolicyKind::EgressNetwork => {
                let content: Content<_> = read(object)?;
                let it = Arc::new(EgressNetwork::read(object, content.spec)?);
                self.egress.insert(uid, &it);
                Read::EgressNetwork(it)
            }
            PolicyKind::ServiceProfile => {
                let content: Content<_> = read(object)?;
                let it = Arc::new(Profile::read(object, content.spec)?);
                self.profiles.insert(uid, &it);
                Read::Profile(it)
            }
            _ => return Ok(()),
        };
        self.read.insert(uid.clone(), known);
        Ok(())
    }

    /// Forgets an object.
    pub(super) fn remove(&mut self, object: &PolicyObject) {
        let uid = &object.uid;
        match self.read.remove(uid) {
            Some(Read::Server(it)) => self.servers.remove(uid, &it),
            Some(Read::ServerAuthorization(it)) => self.authorizations.remove_server(uid, &it),
            Some(Read::Policy(it)) => self.authorizations.remove_policy(uid, &it),
            Some(Read::MeshTls(it)) => self.authorizations.remove_identities(uid, &it),
            Some(Read::Network(it)) => self.authorizations.remove_networks(uid, &it),
            Some(Read::Route(it)) => self.routes.remove(uid, &it),
            Some(Read::Limited(it)) => self.limits.remove(uid, &it),
            Some(Read::EgressNetwork(it)) => self.egress.remove(uid, &it),
            Some(Read::Profile(it)) => self.profiles.remove(uid, &it),
            None => {}
        }
    }

    /// Whether a pod has Linkerd's proxy.
    pub fn has(&self, pod: &Pod) -> bool {
        client::has_proxy(pod)
    }

    /// See [`super::policy::Policies::accepts`].
    pub fn accepts(
        &self,
        context: &Context,
        gateways: &Gateways,
        server: &Pod,
        port: u16,
    ) -> Decision<Accepts> {
        self.takes(context, gateways, server, port)
    }

    /// See [`super::policy::Policies::sends`].
    pub fn sends(&self, _context: &Context, client: &Pod, to: &Destination<'_>) -> Decision<Sends> {
        self.sends_to(client, to)
    }

    /// See [`super::policy::Policies::routing`].
    pub fn routing(
        &self,
        context: &Context,
        gateways: &Gateways,
        client: Option<&Pod>,
        to: &Destination<'_>,
        request: &Request<'_>,
    ) -> Decision<Routing> {
        self.routes(context, gateways, client, to, request)
    }

    /// See [`super::policy::Policies::access`].
    pub fn access(
        &self,
        context: &Context,
        gateways: &Gateways,
        server: &Pod,
        port: u16,
        caller: &Caller<'_>,
        request: Option<&Request<'_>>,
    ) -> Decision<Access> {
        self.lets(context, gateways, server, port, caller, request)
    }

    /// See [`super::policy::Policies::egress`].
    pub fn egress(
        &self,
        _context: &Context,
        gateways: &Gateways,
        client: &Pod,
        to: &Destination<'_>,
    ) -> Decision<Egress> {
        self.reaches(gateways, client, to)
    }

    /// How many requests a port of a pod lets pass; `None` without a limit.
    pub fn rate_limit(&self, server: &Pod, port: u16) -> Option<&RateLimit> {
        self.limits.of(&self.servers.of(server, port)?.object)
    }

    /// All rules that are in effect somewhere for Linkerd's proxies, in no order: of its own kinds,
    /// and of the Gateway API's, which [`Gateways::rules`] has not where only Linkerd accepted them.
    pub fn rules(&self, context: &Context, gateways: &Gateways) -> Vec<DeclaredRule> {
        let mut rules = Vec::new();
        for known in self.read.values() {
            match known {
                Read::Route(route) => self.rules_of_route(context, route, &mut rules),
                Read::Profile(profile) => {
                    let (namespace, name) = profile.service();
                    let own = service_itself(namespace, name);
                    for rule in profile.rules(&own) {
                        rules.push(DeclaredRule {
                            object: rule.object.clone(),
                            name: rule.name.clone(),
                            hosts: vec![own.host.clone()],
                            rule,
                        });
                    }
                }
                _ => {}
            }
        }
        let common = |route: &Route| {
            let mut parents = route.parents.iter();
            parents.any(|parent| parent.in_effect(Dialect::COMMON.controller))
        };
        for route in gateways.all().filter(|route| !common(route)) {
            self.rules_of_route(context, route, &mut rules);
        }
        rules
    }

    /// Routes of its own kind that are in effect nowhere at one of their parents, and why, in no
    /// order.
    pub fn ignored(&self) -> impl Iterator<Item = (&ObjectRef, String)> {
        self.read.values().flat_map(|known| {
            let route = match known {
                Read::Route(route) => Some(route),
                _ => None,
            };
            route.into_iter().flat_map(|route| {
                let parents = route.parents.iter();
                let ignored = parents.filter_map(|parent| parent.ignored());
                ignored.map(move |why| (&route.object, why))
            })
        })
    }

    /// Once for each of its Services, as each has annotations of its own.
    fn rules_of_route(&self, context: &Context, route: &Route, rules: &mut Vec<DeclaredRule>) {
        let parents = route.parents.iter().filter(|parent| {
            parent.kind == ParentKind::Service && parent.in_effect(Dialect::LINKERD.controller)
        });
        for parent in parents {
            let own = service_itself(&parent.namespace, &parent.name);
            let service = context.service(&parent.namespace, &parent.name);
            for number in 0..route.rules.len() {
                let service = service.map(|it| &**it);
                if let Some(rule) = self.declared(context, route, number, &own, service) {
                    rules.push(DeclaredRule {
                        object: route.object.clone(),
                        name: rule.name.clone(),
                        hosts: vec![own.host.clone()],
                        rule,
                    });
                }
            }
        }
    }
}

fn service_itself(namespace: &str, name: &str) -> Backend {
    Backend {
        host: full_name(namespace, name),
        share: 1.0,
        ..Backend::default()
    }
}

// === impl Protocol ===

impl Protocol {
    /// `None` when it is none that is known.
    fn read(text: &str) -> Option<Self> {
        Some(match text {
            "" | "unknown" => Self::Detect,
            "HTTP/1" => Self::Http1,
            "HTTP/2" => Self::Http2,
            "gRPC" => Self::Grpc,
            "opaque" => Self::Opaque,
            "TLS" => Self::Tls,
            _ => return None,
        })
    }

    /// As a `Server` says it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Detect => "unknown",
            Self::Http1 => "HTTP/1",
            Self::Http2 => "HTTP/2",
            Self::Grpc => "gRPC",
            Self::Opaque => "opaque",
            Self::Tls => "TLS",
        }
    }
}

#[cfg(test)]
mod tests;
