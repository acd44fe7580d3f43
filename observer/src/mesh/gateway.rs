//! The Gateway API's routes, and which of them a request matches.

pub(in crate::mesh) mod choose;
mod content;
mod grant;
pub(in crate::mesh) mod hostname;
pub(in crate::mesh) mod matching;
pub(in crate::mesh) mod route;

use std::sync::Arc;

use hashbrown::HashMap;

use self::{
    choose::{Attached, Dialect, Routes, candidates, of_one_protocol, routing},
    content::{GatewayContent, GrantContent},
    grant::Grants,
    hostname::{Hostname, fit, host_of},
    route::{ParentKind, Route, Surroundings, full_name},
};
use super::{
    decision::{Certainty, Decision, DeclaredRule, Destination, Request, Routing},
    policy::{Context, Misunderstood},
    read::read,
    shelf::{Pair, Shelf, Two},
};
use crate::model::{
    kubernetes::Pod,
    policy::{ObjectRef, PolicyKind, PolicyObject},
};

/// Objects of the Gateway API.
#[derive(Debug, Default)]
pub struct Gateways {
    /// By uid.
    read: HashMap<Box<str>, Read>,
    routes: Routes,
    gateways: Shelf<Two, Gateway>,
    grants: Grants,
}

/// A Gateway: of an ingress, or of a waypoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// What it was read from.
    pub object: ObjectRef,
    /// `spec.gatewayClassName`.
    pub class: Box<str>,
    /// `metadata.labels`, sorted by name.
    pub labels: Box<[(Box<str>, Box<str>)]>,
    /// Condition `Programmed`: it is ready for traffic. `None` while nobody says so.
    pub programmed: Option<bool>,
    /// Where it listens.
    pub listeners: Vec<Listener>,
    created: u64,
}

/// Where a Gateway listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its name.
    pub name: Box<str>,
    /// Hosts that it is for, `*.example.com`; empty for all.
    pub hostname: Box<str>,
    /// Port.
    pub port: u16,
    /// `HTTP`, `HTTPS`, `TLS`, `TCP`, `HBONE`.
    pub protocol: Box<str>,
    host: Option<Hostname>,
}

#[derive(Debug)]
enum Read {
    Route(Arc<Route>),
    Gateway,
    Grant,
}

// === impl Gateways ===

impl Gateways {
    /// Takes an object; an error says what is wrong with it.
    pub(super) fn set(&mut self, object: &PolicyObject) -> Result<(), Misunderstood> {
        let uid = &object.uid;
        let read = match object.kind {
            PolicyKind::Gateway => {
                let gateway = Arc::new(Gateway::new(object, read(object)?));
                let key = (object.namespace.clone(), object.name.clone());
                self.gateways.insert(key, uid, gateway);
                Read::Gateway
            }
            PolicyKind::ReferenceGrant => {
                let grant: GrantContent = read(object)?;
                self.grants.insert(&object.namespace, uid, grant);
                Read::Grant
            }
            _ => {
                let route = Arc::new(Route::read(object, read(object)?)?);
                self.routes.insert(uid, &route);
                Read::Route(route)
            }
        };
        self.read.insert(uid.clone(), read);
        Ok(())
    }

    /// Forgets an object.
    pub(super) fn remove(&mut self, object: &PolicyObject) {
        let uid = &object.uid;
        match self.read.remove(uid) {
            Some(Read::Route(route)) => self.routes.remove(uid, &route),
            Some(Read::Gateway) => self
                .gateways
                .remove(&Pair(&object.namespace, &object.name), uid),
            Some(Read::Grant) => self.grants.remove(&object.namespace, uid),
            None => {}
        }
    }

    /// How routes of the Service that was dialled lead a request; `None` when no route that is in
    /// effect has the Service as its parent, for this client: routes of the client's own namespace
    /// go before those of the Service's. Only what is dialled by its cluster IP is routed.
    pub fn route(
        &self,
        context: &Context,
        client: Option<&Pod>,
        to: &Destination<'_>,
        request: &Request<'_>,
    ) -> Option<Decision<Routing>> {
        let dialect = &Dialect::COMMON;
        let client = client.map(|pod| &*pod.namespace);
        let routes = self.routes.of_service(context, client, to, dialect);
        if routes.is_empty() {
            return None;
        }
        let routes = of_one_protocol(routes, dialect);
        let found = candidates(&routes, to, request, dialect.hostnames, dialect.patterns);
        let around = self.around(context);
        Some(routing(&routes, &found, request, |route, number| {
            route.rule(number, around)
        }))
    }

    /// How routes of a Gateway, namespace and name, lead a request; `None` when no route that is in
    /// effect has it as its parent.
    pub fn gateway_route(
        &self,
        context: &Context,
        gateway: (&str, &str),
        to: &Destination<'_>,
        request: &Request<'_>,
    ) -> Option<Decision<Routing>> {
        let dialect = &Dialect::COMMON;
        let (namespace, name) = gateway;
        let kind = ParentKind::Gateway;
        let mut all = self.routes.at(kind, namespace, name, dialect);
        all.next()?;
        let authority = if request.authority.is_empty() {
            to.authority
        } else {
            request.authority
        };
        let host = host_of(authority);
        let mut routes = self.routes.of_gateway(namespace, name, &host, dialect);
        if let Some(gateway) = self.gateway(namespace, name) {
            routes.retain_mut(|it| gateway.listens(it, &host, to.port));
        }
        let routes = of_one_protocol(routes, dialect);
        let found = candidates(&routes, to, request, true, dialect.patterns);
        let around = self.around(context);
        Some(routing(&routes, &found, request, |route, number| {
            route.rule(number, around)
        }))
    }

    /// A Gateway.
    pub fn gateway(&self, namespace: &str, name: &str) -> Option<&Gateway> {
        // Of two of one name the later is there still.
        self.gateways
            .get(&Pair(namespace, name))
            .max_by_key(|it| it.created)
            .map(|it| &**it)
    }

    /// All rules of all routes that are in effect somewhere, in no order, but for those that only
    /// Linkerd accepted: these are [`super::linkerd::Linkerd::rules`].
    pub fn rules(&self, context: &Context) -> Vec<DeclaredRule> {
        let around = self.around(context);
        self.all().flat_map(|it| declared(it, around)).collect()
    }

    /// Routes that are in effect nowhere at one of their parents, and why, in no order.
    pub fn ignored(&self) -> impl Iterator<Item = (&ObjectRef, String)> {
        self.all().flat_map(|route| {
            let parents = route.parents.iter();
            let ignored = parents.filter_map(|parent| parent.ignored());
            ignored.map(move |why| (&route.object, why))
        })
    }

    /// All routes, by their parents.
    pub(super) fn routes(&self) -> &Routes {
        &self.routes
    }

    /// Whether a namespace lets routes of others lead to its Services is asked; rules that name no
    /// backend have none.
    fn around<'a>(&'a self, context: &'a Context) -> Surroundings<'a> {
        Surroundings {
            context,
            grants: Some(&self.grants),
            own: None,
        }
    }

    /// All routes, in no order.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.read.values().filter_map(|read| match read {
            Read::Route(route) => Some(route),
            Read::Gateway | Read::Grant => None,
        })
    }
}

/// All rules of a route, where it is in effect at a Service or a Gateway.
pub(in crate::mesh) fn declared(route: &Route, around: Surroundings<'_>) -> Vec<DeclaredRule> {
    let mut hosts: Vec<Box<str>> = Vec::new();
    let parents = route.parents.iter();
    for parent in parents.filter(|parent| parent.in_effect(Dialect::COMMON.controller)) {
        match parent.kind {
            ParentKind::Service => hosts.push(full_name(&parent.namespace, &parent.name)),
            ParentKind::Gateway if route.hostnames.is_empty() => hosts.push("*".into()),
            ParentKind::Gateway => {
                hosts.extend(route.hostnames.iter().map(|host| host.text().into()));
            }
            ParentKind::Server | ParentKind::EgressNetwork => {}
        }
    }
    if hosts.is_empty() {
        return Vec::new();
    }
    hosts.sort();
    hosts.dedup();
    let rules = (0..route.rules.len()).filter_map(|number| route.rule(number, around));
    rules
        .map(|rule| DeclaredRule {
            object: route.object.clone(),
            name: rule.name.clone(),
            hosts: hosts.clone(),
            rule,
        })
        .collect()
}

// === impl Gateway ===

impl Gateway {
    fn new(object: &PolicyObject, content: GatewayContent) -> Self {
        let conditions = &content.status.conditions;
        let programmed = conditions.iter().find(|it| *it.kind == *"Programmed");
        let listeners = content.spec.listeners.into_iter();
        Self {
            object: object.reference(),
            class: content.spec.gateway_class_name,
            labels: object.labels.clone(),
            programmed: programmed.map(|it| *it.status == *"True"),
            listeners: listeners
                .map(|it| Listener {
                    host: (!it.hostname.is_empty()).then(|| Hostname::new(&it.hostname)),
                    name: it.name,
                    hostname: it.hostname,
                    port: it.port,
                    protocol: it.protocol,
                })
                .collect(),
            created: object.created,
        }
    }

    /// Whether a listener that a route is attached to may take what is for a host at a port; notes
    /// how specific its name is.
    fn listens(&self, route: &mut Attached<'_>, host: &str, port: u16) -> bool {
        let parent = route.parent;
        let listeners = self.listeners.iter().filter(|it| {
            (parent.section.is_empty() || parent.section == it.name)
                && parent.port.is_none_or(|wanted| wanted == it.port)
                && (port == 0 || port == it.port)
        });
        let best = listeners
            .map(|it| fit(it.host.as_slice(), host))
            .filter(|(certainty, _)| *certainty != Certainty::No)
            .map(|(_, specificity)| specificity)
            .max();
        route.listener = best.unwrap_or_default();
        best.is_some()
    }
}

#[cfg(test)]
mod tests;
