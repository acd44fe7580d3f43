//! How a request is routed: which VirtualService a client follows, and the first of its rules that
//! matches.

mod matching;
mod rules;

use std::{borrow::Cow, sync::Arc};

pub(super) use self::matching::host_matches;
use self::matching::{Follower, Question, any_matches};
pub use self::rules::UnreachableRule;
use super::{
    Istio,
    names::{has_port, resolve, service_host},
    store::Declared,
    virtual_service::{DeclaredRoute, Match, VirtualService},
    waypoint::Waypoint,
};
use crate::{
    mesh::{
        decision::{Certainty, Decision, Destination, Reason, Request, Routing, Rule},
        gateway::Gateways,
        policy::Context,
    },
    model::{kubernetes::Pod, mesh::Plane, policy::ObjectRef},
};

/// Most rules that are named when it cannot be told which matches.
const MAX_CANDIDATES: usize = 16;

/// Most matches of a rule that are described.
const MAX_DESCRIBED: usize = 4;

/// A rule that may match, with what it takes over from the one that delegates to it.
struct Candidate<'a> {
    root: &'a DeclaredRoute,
    delegated: Option<&'a DeclaredRoute>,
}

// === impl Istio ===

impl Istio {
    /// See [`crate::mesh::policy::Policies::routing`].
    pub fn routing(
        &self,
        context: &Context,
        gateways: &Gateways,
        client: Option<&Pod>,
        to: &Destination<'_>,
        request: &Request<'_>,
    ) -> Decision<Routing> {
        let namespace = client.map_or("", |client| &client.namespace);
        let ambient = client.is_some_and(|client| self.plane(client) == Plane::IstioAmbient);
        if !ambient {
            let target = self.route_target(context, namespace, to, request);
            let follower = Follower {
                namespace,
                pod: client,
                host: target.as_deref(),
            };
            return self.route(context, gateways, client, follower, to, request);
        }
        // The node's proxy routes nothing: the waypoint of the Service that is dialled does, if it
        // has one.
        let target = to
            .service
            .map(|(namespace, name)| service_host(namespace, name));
        let waypoint = to
            .service
            .and_then(|service| self.service_waypoint(context, service));
        let ready = |gateway: &Waypoint| {
            let gateway = gateways.gateway(&gateway.namespace, &gateway.name);
            gateway.is_none_or(|gateway| gateway.programmed != Some(false))
        };
        let why = match &waypoint {
            None => "not followed: the Service has no waypoint",
            Some(_) => "not followed: the waypoint of the Service is not ready",
        };
        if let Some(waypoint) = waypoint.filter(ready) {
            let follower = Follower {
                namespace: &waypoint.namespace,
                pod: None,
                host: target.as_deref(),
            };
            let mut decision = self.route(context, gateways, client, follower, to, request);
            if decision.value != Routing::Undeclared {
                decision.because.push(waypoint.because);
            }
            return decision;
        }
        let declared = target.and_then(|host| self.virtual_service(namespace, &host));
        let own = declared.map(|(service, _)| service.meta().reference.clone());
        let others = gateways.route(context, client, to, request);
        let others = others.into_iter().flat_map(|decision| decision.because);
        let others = others.filter_map(|reason| reason.object);
        Decision {
            value: Routing::Undeclared,
            because: own
                .into_iter()
                .chain(others)
                .map(|object| Reason::of(object, why))
                .collect(),
        }
    }

    /// Full name of what a request is for. The name that it asks for goes before the address.
    fn route_target(
        &self,
        context: &Context,
        client: &str,
        to: &Destination<'_>,
        request: &Request<'_>,
    ) -> Option<String> {
        let authority = match request.authority {
            "" => to.authority,
            authority => authority,
        };
        let connection = is_connection(request);
        if let Some(named) = resolve(context, client, authority) {
            if to.service.is_none() && !has_port(context, &named, to.port) {
                // The address of a pod, at a port that no proxy listens for: it is passed on.
                return None;
            }
            let known = self.knows(context, client, &named)
                || self.virtual_service(client, &named).is_some();
            // A request for a name that nobody declares is passed on to where it was dialled; a
            // connection goes by its address.
            if known || !connection {
                return Some(named);
            }
        }
        let (namespace, name) = to.service?;
        Some(service_host(namespace, name))
    }

    /// The VirtualService that a client in a namespace follows for a host, and those of the same host
    /// that it does not follow for that.
    fn virtual_service(
        &self,
        client: &str,
        host: &str,
    ) -> Option<(&Arc<VirtualService>, Vec<&Arc<VirtualService>>)> {
        let default = &self.mesh_config().virtual_service_export;
        let rank = |service: &VirtualService| {
            let own = service.meta().namespace() == client;
            if own && service.export.is_private(default) {
                0
            } else if service.export.is_public(default) {
                2
            } else {
                1
            }
        };
        self.virtual_services.matching(host).find_map(|list| {
            let mut visible: Vec<&Arc<VirtualService>> = list
                .iter()
                .filter(|service| {
                    let own = service.meta().namespace();
                    service.export.reaches(own, client, default)
                })
                .collect();
            // By age they are already.
            visible.sort_by_key(|service| rank(service));
            let mut visible = visible.into_iter();
            Some((visible.next()?, visible.collect()))
        })
    }

    fn route(
        &self,
        context: &Context,
        gateways: &Gateways,
        client: Option<&Pod>,
        follower: Follower<'_>,
        to: &Destination<'_>,
        request: &Request<'_>,
    ) -> Decision<Routing> {
        let gateway_route = gateways.route(context, client, to, request);
        if let Some(host) = follower.host
            && let Some(client) = follower.pod
            && let Some(unknown) = self.out_of_sight(context, client, host)
        {
            return Decision::by(Routing::Undeclared, unknown);
        }
        let found = follower
            .host
            .and_then(|host| self.virtual_service(follower.namespace, host));
        let Some((service, others)) = found else {
            return gateway_route.unwrap_or_default();
        };
        let question = Question {
            follower,
            to,
            request,
        };
        let mut decision = self.first_match(service, &question);
        for other in others.into_iter().take(MAX_CANDIDATES) {
            decision.because.push(Reason::of(
                other.meta().reference.clone(),
                "not followed: an older VirtualService has the same host",
            ));
        }
        match gateway_route {
            None => decision,
            Some(other) if decision.value == Routing::Undeclared => other,
            // Both become the same kind of route, and which is first is nowhere promised.
            Some(other) => both(decision, other),
        }
    }

    fn first_match(&self, service: &VirtualService, question: &Question<'_>) -> Decision<Routing> {
        let reference = || service.meta().reference.clone();
        let connection = is_connection(question.request);
        let list = if !connection && !service.http.is_empty() {
            &service.http
        } else if connection && !service.tls.is_empty() && !question.to.authority.is_empty() {
            &service.tls
        } else {
            &service.tcp
        };
        let is_http = std::ptr::eq(list, &service.http);
        let mut candidates: Vec<Rule> = Vec::new();
        let mut why: Option<Cow<'static, str>> = None;
        for candidate in self.candidates(service, list) {
            match candidate.matches(question) {
                (Certainty::No, _) => {}
                (Certainty::Yes, _) if candidates.is_empty() => {
                    let rule = self.resolved(&candidate, question.follower.namespace);
                    let text = format!("rule {}: {}", rule.name, candidate.describe());
                    return Decision {
                        because: vec![Reason::of(rule.object.clone(), text)],
                        value: Routing::Rule(Box::new(rule)),
                    };
                }
                (Certainty::Yes, _) => {
                    candidates.push(self.resolved(&candidate, question.follower.namespace));
                    break;
                }
                (Certainty::Unknown, reason) => {
                    why = why.or(reason);
                    candidates.push(self.resolved(&candidate, question.follower.namespace));
                    if candidates.len() == MAX_CANDIDATES {
                        break;
                    }
                }
            }
        }
        if !candidates.is_empty() {
            let why = why.unwrap_or_default();
            let text = format!("rule {} may match", names_of(&candidates));
            return Decision::by(
                Routing::Unknown { candidates, why },
                Reason::of(reference(), text),
            );
        }
        if is_http {
            let text = "no rule matches";
            return Decision::by(Routing::Unmatched, Reason::of(reference(), text));
        }
        Decision::by(
            Routing::Undeclared,
            Reason::of(reference(), "it has no rule for this"),
        )
    }

    /// The rules of a list, with those of others where it delegates.
    fn candidates<'a>(
        &'a self,
        service: &'a VirtualService,
        list: &'a [Arc<DeclaredRoute>],
    ) -> impl Iterator<Item = Candidate<'a>> {
        list.iter().flat_map(move |root| {
            let delegated = root.delegate.as_ref().map(|(namespace, name)| {
                let target = self.virtual_service_list.named(namespace, name);
                // Only one level, and only to those that may be known here.
                let target = target.filter(|target| {
                    let default = &self.mesh_config().virtual_service_export;
                    let own = service.meta().namespace();
                    target.hosts.is_empty() && target.export.reaches(namespace, own, default)
                });
                target.map_or(&[][..], |target| target.http.as_slice())
            });
            let own = delegated.is_none().then_some(Candidate {
                root,
                delegated: None,
            });
            let of_others = delegated.unwrap_or_default().iter();
            own.into_iter().chain(of_others.map(|route| Candidate {
                root,
                delegated: Some(route),
            }))
        })
    }

    /// A rule with all that it takes over, and the labels of its subsets as a namespace knows them.
    fn resolved(&self, candidate: &Candidate<'_>, namespace: &str) -> Rule {
        let mut rule = candidate.rule();
        let mirrors = rule.mirrors.iter_mut().map(|(backend, _)| backend);
        for backend in rule.backends.iter_mut().chain(mirrors) {
            if backend.subset.is_empty() {
                continue;
            }
            match self.subset(namespace, &backend.host, &backend.subset) {
                Some(subset) => backend.labels = subset.labels,
                None => {
                    let text = format!("no DestinationRule has subset {}", backend.subset);
                    rule.partial.get_or_insert(text.into());
                }
            }
        }
        rule
    }

    /// Whether each rule that a client may follow for a request matches it, in order, though an earlier
    /// one may take it: what shadowed rules are found with. Empty when nothing is declared.
    pub fn matching_rules(
        &self,
        context: &Context,
        client: &Pod,
        to: &Destination<'_>,
        request: &Request<'_>,
    ) -> Vec<(ObjectRef, Box<str>, Certainty)> {
        let follower = Follower {
            namespace: &client.namespace,
            pod: Some(client),
            host: None,
        };
        let target = self.route_target(context, &client.namespace, to, request);
        let found = target.and_then(|host| {
            let (service, _) = self.virtual_service(&client.namespace, &host)?;
            Some(service)
        });
        let Some(service) = found else {
            return Vec::new();
        };
        let question = Question {
            follower,
            to,
            request,
        };
        self.candidates(service, &service.http)
            .map(|candidate| {
                let route = candidate.last();
                let (certainty, _) = candidate.matches(&question);
                (
                    route.rule.object.clone(),
                    route.rule.name.clone(),
                    certainty,
                )
            })
            .collect()
    }
}

fn names_of(rules: &[Rule]) -> String {
    let names: Vec<&str> = rules.iter().map(|rule| &*rule.name).collect();
    names.join(", ")
}

/// Nothing is known that HTTP would have.
fn is_connection(request: &Request<'_>) -> bool {
    request.method.is_empty() && request.path.is_empty() && request.authority.is_empty()
}

fn both(mut own: Decision<Routing>, other: Decision<Routing>) -> Decision<Routing> {
    let mut candidates = Vec::new();
    for routing in [own.value, other.value] {
        match routing {
            Routing::Rule(rule) => candidates.push(*rule),
            Routing::Unknown {
                candidates: more, ..
            } => candidates.extend(more),
            Routing::Undeclared | Routing::Unmatched => {}
        }
    }
    own.because.extend(other.because);
    Decision {
        value: Routing::Unknown {
            candidates,
            why: "a VirtualService and a route of the Gateway API are for the same host".into(),
        },
        because: own.because,
    }
}

// === impl Candidate ===

impl Candidate<'_> {
    fn last(&self) -> &DeclaredRoute {
        self.delegated.unwrap_or(self.root)
    }

    fn rule(&self) -> Rule {
        let Some(route) = self.delegated else {
            return self.root.rule.clone();
        };
        let (mut rule, root) = (route.rule.clone(), &self.root.rule);
        rule.timeout = rule.timeout.or(root.timeout);
        rule.retries = rule.retries.or(root.retries);
        rule.fault = rule.fault.or(root.fault);
        if rule.mirrors.is_empty() {
            rule.mirrors.clone_from(&root.mirrors);
        }
        rule
    }

    /// Whether both match, and why it cannot be told.
    fn matches(&self, question: &Question<'_>) -> (Certainty, Option<Cow<'static, str>>) {
        let (root, why) = any_matches(&self.root.matches, question);
        let Some(route) = self.delegated else {
            return (root, why);
        };
        let (own, other) = any_matches(&route.matches, question);
        (root.and(own), why.or(other))
    }

    fn describe(&self) -> String {
        let routes = [Some(self.root), self.delegated].into_iter().flatten();
        let parts: Vec<String> = routes
            .map(|route| {
                let matches = route.matches.iter().take(MAX_DESCRIBED);
                let any: Vec<String> = matches.map(Match::describe).collect();
                match any.iter().any(String::is_empty) {
                    true => String::new(),
                    false => any.join(" or "),
                }
            })
            .filter(|part| !part.is_empty())
            .collect();
        match &*parts {
            [] => "everything".to_owned(),
            parts => parts.join(", and "),
        }
    }
}

#[cfg(test)]
mod tests;
