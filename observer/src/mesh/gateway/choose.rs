//! Which routes are in effect at a parent, and which rule of theirs a request matches.

use std::{borrow::Cow, cmp::Reverse, hash::Hash, sync::Arc};

use hashbrown::Equivalent;

use super::{
    hostname::{Hostname, Specificity, fit, host_of},
    matching::{Patterns, Weight},
    route::{ParentKind, ParentRef, Route},
};
use crate::{
    mesh::{
        decision::{Certainty, Decision, Destination, Reason, Request, Routing, Rule},
        policy::Context,
        shelf::{Shelf, Three, Triple},
    },
    model::policy::PolicyKind,
};

/// Most rules that are told when it cannot be told which one it is, and most objects as reasons.
const CANDIDATES: usize = 8;

/// What the Gateway API leaves open, and who decides it.
#[derive(Clone, Copy, Debug)]
pub(in crate::mesh) struct Dialect {
    /// Whose word counts on whether a route is in effect.
    pub(in crate::mesh) controller: fn(&str) -> bool,
    /// Routes of the client's own namespace go beside those of the Service's, rather than before
    /// them.
    pub(in crate::mesh) consumers_beside: bool,
    /// Names of hosts count also where the parent is a Service.
    pub(in crate::mesh) hostnames: bool,
    /// Weight of patterns of paths.
    pub(in crate::mesh) patterns: Patterns,
    /// Where there are routes of gRPC, those of HTTP do not count.
    pub(in crate::mesh) grpc_alone: bool,
}

/// Routes by their parents.
#[derive(Debug, Default)]
pub(in crate::mesh) struct Routes {
    by_parent: Shelf<Parent, Route>,
    /// Those of Gateways, of which one may have very many.
    by_host: Shelf<Hosted, Route>,
}

/// A route at a parent.
#[derive(Clone, Copy, Debug)]
pub(in crate::mesh) struct Attached<'a> {
    /// The route.
    pub(in crate::mesh) route: &'a Arc<Route>,
    /// The parent, as the route names it.
    pub(in crate::mesh) parent: &'a ParentRef,
    /// How specific the listener's name is that the request came by.
    pub(in crate::mesh) listener: Specificity,
}

/// A rule that a request may match.
#[derive(Clone, Copy, Debug)]
pub(in crate::mesh) struct Candidate<'a> {
    /// Its route.
    pub(in crate::mesh) route: &'a Arc<Route>,
    /// Its place in the route.
    pub(in crate::mesh) rule: usize,
    /// Whether the request matches it; never `No`.
    pub(in crate::mesh) certainty: Certainty,
    rank: Rank<'a>,
}

type Parent = (ParentKind, Box<str>, Box<str>);

#[derive(Hash)]
struct ParentKey<'a>(ParentKind, &'a str, &'a str);

/// Namespace and name of a Gateway, and a host: `a.example.com`, `*.example.com` without the `*`, or
/// nothing, for all.
type Hosted = Three;

/// What goes first, the greatest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank<'a> {
    host: Specificity,
    weight: Weight,
    age: Reverse<u64>,
    name: Reverse<(&'a str, &'a str, &'a str, &'a str)>,
    rule: Reverse<usize>,
}

// === impl Dialect ===

impl Dialect {
    /// As the Gateway API says. Any controller's word counts but Linkerd's, whose proxies have a way
    /// of their own.
    pub(in crate::mesh) const COMMON: Self = Self {
        controller: |name| !name.starts_with("linkerd.io/"),
        consumers_beside: false,
        hostnames: false,
        patterns: Patterns::AfterPrefixes,
        grpc_alone: false,
    };

    /// As Linkerd does.
    pub(in crate::mesh) const LINKERD: Self = Self {
        controller: |name| name == "linkerd.io/policy-controller",
        consumers_beside: true,
        hostnames: true,
        patterns: Patterns::ByLength,
        grpc_alone: true,
    };
}

// === impl Routes ===

impl Routes {
    /// Takes a route.
    pub(in crate::mesh) fn insert(&mut self, uid: &str, route: &Arc<Route>) {
        for parent in parents(route) {
            self.by_parent.insert(parent, uid, route.clone());
        }
        for key in hosted(route) {
            self.by_host.insert(key, uid, route.clone());
        }
    }

    /// Forgets it.
    pub(in crate::mesh) fn remove(&mut self, uid: &str, route: &Route) {
        for (kind, namespace, name) in parents(route) {
            self.by_parent
                .remove(&ParentKey(kind, &namespace, &name), uid);
        }
        for (namespace, name, host) in hosted(route) {
            self.by_host.remove(&Triple(&namespace, &name, &host), uid);
        }
    }

    /// Those that are in effect at a parent, in no order; a route twice that names it twice.
    pub(in crate::mesh) fn at<'s, 'a>(
        &'s self,
        kind: ParentKind,
        namespace: &'a str,
        name: &'a str,
        dialect: &Dialect,
    ) -> impl Iterator<Item = Attached<'s>> + use<'s, 'a> {
        let controller = dialect.controller;
        let all = self.by_parent.get(&ParentKey(kind, namespace, name));
        all.flat_map(move |route| attached(route, kind, namespace, name, controller))
    }

    /// Those that are in effect at a Gateway and may be for a host, in no order; all of the Gateway's
    /// where the host is not known.
    pub(in crate::mesh) fn of_gateway(
        &self,
        namespace: &str,
        name: &str,
        host: &str,
        dialect: &Dialect,
    ) -> Vec<Attached<'_>> {
        let kind = ParentKind::Gateway;
        if host.is_empty() {
            return self.at(kind, namespace, name, dialect).collect();
        }
        let suffixes = host.match_indices('.').filter_map(|(at, _)| host.get(at..));
        let mut routes: Vec<&Arc<Route>> = ["", host]
            .into_iter()
            .chain(suffixes)
            .flat_map(|key| self.by_host.get(&Triple(namespace, name, key)))
            .collect();
        // One may be there by several of its hosts.
        routes.sort_by_key(|route| Arc::as_ptr(route));
        routes.dedup_by(|left, right| Arc::ptr_eq(left, right));
        let routes = routes.into_iter();
        routes
            .flat_map(|route| attached(route, kind, namespace, name, dialect.controller))
            .collect()
    }

    /// Those that are in effect at the Service that was dialled, for a client of this namespace.
    pub(in crate::mesh) fn of_service(
        &self,
        context: &Context,
        client: Option<&str>,
        to: &Destination<'_>,
        dialect: &Dialect,
    ) -> Vec<Attached<'_>> {
        let Some((namespace, name)) = to.service else {
            return Vec::new();
        };
        let service = context.service(namespace, name);
        if service.is_some_and(|it| it.headless || !it.external_name.is_empty()) {
            return Vec::new();
        }
        let at_port = |it: &Attached<'_>| {
            let section = &it.parent.section;
            let named = service.and_then(|service| {
                let port = service.ports.iter().find(|port| port.name == *section)?;
                Some(port.port)
            });
            let wanted = it.parent.port.or(named);
            wanted.is_none_or(|wanted| to.port == 0 || wanted == to.port)
                && (section.is_empty() || named.is_some())
        };
        let mut routes: Vec<Attached<'_>> = self
            .at(ParentKind::Service, namespace, name, dialect)
            .filter(at_port)
            .filter(|it| {
                let of = &*it.route.object.namespace;
                of == namespace || Some(of) == client
            })
            .collect();
        let consumer = |it: &Attached<'_>| *it.route.object.namespace != *namespace;
        if !dialect.consumers_beside && routes.iter().any(consumer) {
            routes.retain(consumer);
        }
        routes
    }
}

/// A route at a parent, once for each time that it names it and is in effect there.
fn attached<'s, 'a>(
    route: &'s Arc<Route>,
    kind: ParentKind,
    namespace: &'a str,
    name: &'a str,
    controller: fn(&str) -> bool,
) -> impl Iterator<Item = Attached<'s>> + use<'s, 'a> {
    let parents = route.parents.iter().filter(move |parent| {
        parent.kind == kind && *parent.namespace == *namespace && *parent.name == *name
    });
    let in_effect = parents.filter(move |parent| parent.in_effect(controller));
    in_effect.map(move |parent| Attached {
        route,
        parent,
        listener: (0, 0),
    })
}

/// Where a route is found by the hosts that it is for.
fn hosted(route: &Route) -> Vec<Hosted> {
    let mut keys: Vec<Box<str>> = route.hostnames.iter().map(Hostname::key).collect();
    if keys.is_empty() {
        keys.push(Box::default());
    }
    let gateways = parents(route).into_iter();
    let gateways = gateways.filter(|(kind, ..)| *kind == ParentKind::Gateway);
    let mut hosted: Vec<Hosted> = gateways
        .flat_map(|(_, namespace, name)| {
            keys.iter()
                .map(move |key| (namespace.clone(), name.clone(), key.clone()))
        })
        .collect();
    hosted.sort();
    hosted.dedup();
    hosted
}

fn parents(route: &Route) -> Vec<Parent> {
    let mut parents: Vec<Parent> = Vec::new();
    for parent in &route.parents {
        let key = (parent.kind, parent.namespace.clone(), parent.name.clone());
        if !parents.contains(&key) {
            parents.push(key);
        }
    }
    parents
}

/// Of routes of several protocols those that count: of HTTP, or else of TLS, or else of TCP.
pub(in crate::mesh) fn of_one_protocol<'a>(
    routes: Vec<Attached<'a>>,
    dialect: &Dialect,
) -> Vec<Attached<'a>> {
    let http = |kind| matches!(kind, PolicyKind::HttpRoute | PolicyKind::LinkerdHttpRoute);
    let grpc = |kind| kind == PolicyKind::GrpcRoute;
    let has = |wanted: &dyn Fn(PolicyKind) -> bool| routes.iter().any(|it| wanted(it.route.kind));
    let wanted: &dyn Fn(PolicyKind) -> bool = if has(&grpc) && dialect.grpc_alone {
        &grpc
    } else if has(&grpc) || has(&http) {
        &|kind| grpc(kind) || http(kind)
    } else if has(&|kind| kind == PolicyKind::TlsRoute) {
        &|kind| kind == PolicyKind::TlsRoute
    } else {
        &|_| true
    };
    let mut routes = routes.clone();
    routes.retain(|it| wanted(it.route.kind));
    routes
}

/// Rules that a request may match, what goes first first. `hostnames`: whether names of hosts count.
pub(in crate::mesh) fn candidates<'a>(
    routes: &[Attached<'a>],
    to: &Destination<'_>,
    request: &Request<'_>,
    hostnames: bool,
    patterns: Patterns,
) -> Vec<Candidate<'a>> {
    let authority = if request.authority.is_empty() {
        to.authority
    } else {
        request.authority
    };
    let host = host_of(authority);
    let mut found = Vec::new();
    for attached in routes {
        let route = attached.route;
        // What TLS asks for is the only thing that tells its routes apart.
        let counts = hostnames || route.kind == PolicyKind::TlsRoute;
        let names: &[Hostname] = if counts { &route.hostnames } else { &[] };
        let (named, specificity) = fit(names, &host);
        if named == Certainty::No {
            continue;
        }
        for (number, rule) in route.rules.iter().enumerate() {
            for each in &rule.matches {
                let certainty = named.and(each.matches(request));
                if certainty == Certainty::No {
                    continue;
                }
                let object = &route.object;
                found.push(Candidate {
                    route,
                    rule: number,
                    certainty,
                    rank: Rank {
                        host: specificity.max(attached.listener),
                        weight: each.weight(request, patterns),
                        age: Reverse(route.created),
                        name: Reverse((
                            &object.namespace,
                            &object.name,
                            &object.group,
                            &object.kind,
                        )),
                        rule: Reverse(number),
                    },
                });
            }
        }
    }
    found.sort_by_key(|candidate| Reverse(candidate.rank));
    found
}

/// What candidates in order come to; `make` makes what a rule comes to.
pub(in crate::mesh) fn routing(
    routes: &[Attached<'_>],
    candidates: &[Candidate<'_>],
    request: &Request<'_>,
    make: impl Fn(&Route, usize) -> Option<Rule>,
) -> Decision<Routing> {
    let mut open: Vec<&Candidate<'_>> = Vec::new();
    let mut sure = false;
    for candidate in candidates {
        let same = |it: &&&Candidate<'_>| {
            Arc::ptr_eq(it.route, candidate.route) && it.rule == candidate.rule
        };
        if open.iter().find(same).is_none() {
            open.push(candidate);
        }
        if candidate.certainty == Certainty::Yes {
            sure = true;
            break;
        }
    }
    let made = |candidate: &&Candidate<'_>| make(candidate.route, candidate.rule);
    let because = |candidate: &&Candidate<'_>| {
        let name = candidate.route.rules.get(candidate.rule);
        let name = name.map_or("", |rule| &*rule.name);
        let text = match candidate.certainty {
            Certainty::Yes => format!("rule {name} matches"),
            _ => format!("rule {name} may match"),
        };
        Reason::of(candidate.route.object.clone(), text)
    };
    if let ([only], true) = (open.as_slice(), sure)
        && let Some(rule) = made(only)
    {
        let text = format!("rule {} matches", rule.name);
        let reason = Reason::of(rule.object.clone(), text);
        return Decision::by(Routing::Rule(Box::new(rule)), reason);
    }
    if open.is_empty() {
        let mut objects: Vec<_> = routes.iter().map(|it| &it.route.object).collect();
        objects.sort();
        objects.dedup();
        objects.truncate(CANDIDATES);
        return Decision {
            value: Routing::Unmatched,
            because: objects
                .into_iter()
                .map(|object| Reason::of(object.clone(), "no rule of it matches"))
                .collect(),
        };
    }
    open.truncate(CANDIDATES);
    Decision {
        because: open.iter().map(because).collect(),
        value: Routing::Unknown {
            candidates: open.iter().filter_map(made).collect(),
            why: why(request, sure),
        },
    }
}

fn why(request: &Request<'_>, sure: bool) -> Cow<'static, str> {
    match (request.path.is_empty(), sure) {
        (true, _) => "what was asked for is not known".into(),
        (false, true) => "which rule matches depends on what is not observed of the request".into(),
        (false, false) => {
            "whether any rule matches depends on what is not observed of the request".into()
        }
    }
}

// === impl ParentKey ===

impl Equivalent<Parent> for ParentKey<'_> {
    fn equivalent(&self, key: &Parent) -> bool {
        (self.0, self.1, self.2) == (key.0, &*key.1, &*key.2)
    }
}
