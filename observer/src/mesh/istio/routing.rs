//! How a request is routed: which VirtualService a client follows, and the first of its rules that
//! matches.

use std::{borrow::Cow, sync::Arc};

use super::{
    Istio,
    names::{resolve, service_host, service_of},
    plane::contains,
    read::Text,
    store::Declared,
    virtual_service::{DeclaredRoute, Match, Rewrite, VirtualService},
};
use crate::{
    mesh::{
        decision::{
            Certainty, Decision, DeclaredRule, Destination, Reason, Request, Routing, Rule,
        },
        gateway::Gateways,
        policy::Context,
    },
    model::{kubernetes::Pod, mesh::Plane, policy::ObjectRef},
};

/// Most rules that are named when it cannot be told which matches.
const MAX_CANDIDATES: usize = 16;

/// Who follows routes: whose namespace decides what is visible.
#[derive(Clone, Copy)]
struct Follower<'a> {
    namespace: &'a str,
    /// The client, where its own proxy routes.
    pod: Option<&'a Pod>,
}

/// What is asked of a rule.
struct Question<'a> {
    follower: Follower<'a>,
    to: &'a Destination<'a>,
    request: &'a Request<'a>,
}

/// A rule that may match, with what it takes over from the one that delegates to it.
struct Candidate<'a> {
    root: &'a DeclaredRoute,
    delegated: Option<&'a DeclaredRoute>,
}

/// A rule that no request reaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreachableRule {
    /// The VirtualService.
    pub object: ObjectRef,
    /// Name of the rule, or its number from 0.
    pub name: Box<str>,
    /// The rule before it that takes everything.
    pub by: Box<str>,
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
            let follower = Follower {
                namespace,
                pod: client,
            };
            return self.route(context, gateways, client, follower, to, request);
        }
        // The node's proxy routes nothing: the waypoint of the Service does, if it has one.
        let target = self.route_target(context, namespace, to, request);
        let service = target.as_deref().and_then(service_of);
        let waypoint = service.and_then(|service| self.service_waypoint(context, service));
        if let Some(waypoint) = waypoint {
            let follower = Follower {
                namespace: &waypoint.namespace,
                pod: None,
            };
            let mut decision = self.route(context, gateways, client, follower, to, request);
            if decision.value != Routing::Undeclared {
                decision.because.push(waypoint.because);
            }
            return decision;
        }
        let declared = target.and_then(|host| self.virtual_service(namespace, &host));
        Decision {
            value: Routing::Undeclared,
            because: declared
                .map(|(service, _)| {
                    let text = "not followed: the Service has no waypoint";
                    Reason::of(service.meta().reference.clone(), text)
                })
                .into_iter()
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
        let name_space = client.map_or(follower.namespace, |client| &client.namespace);
        let target = self.route_target(context, name_space, to, request);
        if let Some(host) = &target
            && let Some(client) = follower.pod
            && let Some(unknown) = self.out_of_sight(context, client, host)
        {
            return gateway_route.unwrap_or_else(|| Decision::by(Routing::Undeclared, unknown));
        }
        let found = target
            .as_deref()
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
            // Both become the same kind of route, and which is first is nowhere promised.
            Some(other) => both(decision, other),
        }
    }

    fn first_match(&self, service: &VirtualService, question: &Question<'_>) -> Decision<Routing> {
        let reference = || service.meta().reference.clone();
        let list = if !is_connection(question.request) && !service.http.is_empty() {
            &service.http
        } else if !service.tls.is_empty() && !question.to.authority.is_empty() {
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

    /// All rules of all VirtualServices, in no order; those of gateways too.
    pub fn rules(&self) -> impl Iterator<Item = DeclaredRule> {
        self.virtual_service_list
            .all()
            .filter(|service| !service.hosts.is_empty())
            .flat_map(move |service| {
                let lists = service.lists().into_iter();
                lists.flat_map(move |list| {
                    self.candidates(service, list).map(move |candidate| {
                        let rule = self.resolved(&candidate, service.meta().namespace());
                        DeclaredRule {
                            object: rule.object.clone(),
                            name: rule.name.clone(),
                            hosts: service.hosts.clone(),
                            rule,
                        }
                    })
                })
            })
    }

    /// Rules that no request of a sidecar reaches, as one before them takes everything; in no order.
    pub fn unreachable_rules(&self) -> impl Iterator<Item = UnreachableRule> {
        self.virtual_service_list.all().flat_map(|service| {
            service.lists().into_iter().flat_map(|list| {
                let first = list.iter().position(|route| route.takes_all());
                let by = first.and_then(|at| list.get(at));
                let rest = first.and_then(|at| list.get(at + 1..)).unwrap_or_default();
                rest.iter().filter_map(move |route| {
                    Some(UnreachableRule {
                        object: route.rule.object.clone(),
                        name: route.rule.name.clone(),
                        by: by?.rule.name.clone(),
                    })
                })
            })
        })
    }

    /// What a rule changes of a request before the server gets it: name what a routing named.
    pub fn rewrite(&self, object: &ObjectRef, rule: &str) -> Option<&Rewrite> {
        let service = self
            .virtual_service_list
            .named(&object.namespace, &object.name)?;
        let mut routes = service.lists().into_iter().flatten();
        let route = routes.find(|route| *route.rule.name == *rule)?;
        route.rewrite.as_ref()
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
        let parts: Vec<String> = [Some(self.root), self.delegated]
            .into_iter()
            .flatten()
            .flat_map(|route| route.matches.first())
            .map(Match::describe)
            .filter(|part| !part.is_empty())
            .collect();
        match &*parts {
            [] => "everything else".to_owned(),
            parts => parts.join(" and "),
        }
    }
}

fn any_matches(
    matches: &[Match],
    question: &Question<'_>,
) -> (Certainty, Option<Cow<'static, str>>) {
    if matches.is_empty() {
        return (Certainty::Yes, None);
    }
    let mut any = Certainty::No;
    let mut why = None;
    for one in matches {
        let (certainty, reason) = one.matches(question);
        any = any.or(certainty);
        why = why.or(reason);
    }
    (any, why)
}

// === impl Match ===

impl Match {
    fn matches(&self, question: &Question<'_>) -> (Certainty, Option<Cow<'static, str>>) {
        let request = question.request;
        let mut all = Certainty::from(self.in_mesh);
        let mut why: Option<Cow<'static, str>> = None;
        let mut add = |certainty: Certainty, name: &dyn Fn() -> Cow<'static, str>| {
            if certainty == Certainty::Unknown && why.is_none() {
                why = Some(name());
            }
            all = all.and(certainty);
        };
        let text = |wanted: &Option<Text>, value: &str, ignore_case| match wanted {
            None => Certainty::Yes,
            Some(_) if value.is_empty() => Certainty::Unknown,
            Some(wanted) => known(wanted.matches(value, ignore_case)),
        };
        add(text(&self.path, request.path, self.ignore_case), &|| {
            "the path is not known, or its pattern".into()
        });
        add(text(&self.method, request.method, false), &|| {
            "the method is not known".into()
        });
        add(text(&self.authority, request.authority, false), &|| {
            "the authority is not known".into()
        });
        if let Some(unseen) = self.unseen {
            add(Certainty::Unknown, &|| {
                format!("{unseen} is not kept").into()
            });
        }
        for (name, wanted) in &self.headers {
            add(header(request, name, wanted), &|| unseen_header(name));
        }
        for (name, wanted) in &self.without_headers {
            add(header(request, name, wanted).not(), &|| unseen_header(name));
        }
        if self.port != 0 {
            let port = match question.to.port {
                0 => Certainty::Unknown,
                port => Certainty::from(port == self.port),
            };
            add(port, &|| "the port is not known".into());
        }
        let pod = question.follower.pod;
        if !self.source_labels.is_empty() {
            let labels = pod.map(|pod| self.source_labels.select(&pod.traits));
            add(known(labels), &|| {
                "the client's labels are not known".into()
            });
        }
        if !self.source_namespace.is_empty() {
            let namespace = pod.map(|pod| *self.source_namespace == *pod.namespace);
            add(known(namespace), &|| {
                "the client's namespace is not known".into()
            });
        }
        if !self.server_names.is_empty() {
            let name = question.to.authority;
            let listed = (!name.is_empty()).then(|| {
                let mut names = self.server_names.iter();
                names.any(|wanted| host_matches(wanted, name))
            });
            add(known(listed), &|| "the server name is not known".into());
        }
        if !self.networks.is_empty() {
            let inside = question.to.address.map(|address| {
                let mut networks = self.networks.iter();
                networks.any(|network| contains(network, address) == Some(true))
            });
            add(known(inside), &|| "the address is not known".into());
        }
        (all, why)
    }

    /// What it asks for, in words.
    fn describe(&self) -> String {
        let mut parts = Vec::new();
        let mut part = |name: &str, text: &Option<Text>| {
            if let Some(text) = text {
                parts.push(format!("{name} {}", text.describe()));
            }
        };
        part("path", &self.path);
        part("method", &self.method);
        part("authority", &self.authority);
        for (name, text) in &self.headers {
            parts.push(format!("field {name} {}", text.describe()));
        }
        for (name, text) in &self.without_headers {
            parts.push(format!("not field {name} {}", text.describe()));
        }
        if self.port != 0 {
            parts.push(format!("port {}", self.port));
        }
        if !self.source_labels.is_empty() || !self.source_namespace.is_empty() {
            parts.push("some clients".to_owned());
        }
        parts.extend(
            self.server_names
                .iter()
                .map(|name| format!("server name {name}")),
        );
        parts.join(", ")
    }
}

fn known(answer: Option<bool>) -> Certainty {
    answer.map_or(Certainty::Unknown, Certainty::from)
}

/// Fields that are not known may be there or not.
fn header(request: &Request<'_>, name: &str, wanted: &Text) -> Certainty {
    let value = match name {
        ":method" => Some(request.method).filter(|value| !value.is_empty()),
        ":path" => Some(request.path).filter(|value| !value.is_empty()),
        ":authority" | "host" => Some(request.authority).filter(|value| !value.is_empty()),
        name => {
            let mut known = request.headers.iter();
            known
                .find(|(known, _)| *known == name)
                .map(|(_, value)| *value)
        }
    };
    match value {
        Some(value) => known(wanted.matches(value, false)),
        None => Certainty::Unknown,
    }
}

fn unseen_header(name: &str) -> Cow<'static, str> {
    format!("field {name} is not kept").into()
}

/// Whether a host is another, which may begin with `*`.
pub(super) fn host_matches(wanted: &str, host: &str) -> bool {
    match wanted.strip_prefix('*') {
        Some(suffix) => {
            let start = host.len().checked_sub(suffix.len());
            let end = start.and_then(|start| host.get(start..));
            end.is_some_and(|end| end.eq_ignore_ascii_case(suffix))
        }
        None => wanted.eq_ignore_ascii_case(host),
    }
}

#[cfg(test)]
mod tests;
