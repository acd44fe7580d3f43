//! Requests at their clients: which rule each matched, and what became of it.

use std::{borrow::Cow, sync::Arc};

use super::{
    Traffic,
    answers::Answers,
    clients::{ClientState, answered_by_proxy},
    declared::{Usage, services_of},
    ends::{self, ClientEnd},
    host,
    memory::Question,
    outside,
    routes::{HostState, Judge, RuleKey},
};
use crate::{
    mesh::decision::{Certainty, Decision, Destination, Egress, Reason, Request, Routing, Rule},
    model::{
        call::Call,
        mesh::{Plane, RouteMatch},
        time::Monotonic,
    },
};

/// Most rules that are kept of those that a request may match.
const CANDIDATES: usize = 8;

/// What was found of a request at its client.
#[derive(Debug, Default)]
pub(super) struct Sent {
    routed: Routed,
    /// Place of the host; `None` when nothing is declared for it.
    host: Option<u32>,
    /// Place of the client of that host.
    client: Option<u32>,
    found: Option<RouteMatch>,
    /// Places of later rules that it matches too.
    shadowed: Vec<u32>,
    why: Arc<[Reason]>,
    /// Place of a host outside, and what is declared for it.
    outside: Option<(u32, Decision<Egress>)>,
    /// What leads there through a gateway, where the client went without.
    around: Option<Arc<[Reason]>>,
    /// No object has anything to do with where it goes.
    silent: bool,
}

/// How a request is routed.
#[derive(Debug, Default)]
enum Routed {
    /// Nothing is declared.
    #[default]
    Undeclared,
    /// Something is declared, and goes past it.
    Past,
    /// By the rule at this place.
    Rule(u32),
    /// By none.
    Unmatched,
    /// By one of these, or another.
    Unclear(Vec<u32>),
}

/// The Service of the cluster that a rule leads a host outside through, and what leads there; `None`
/// when it leads elsewhere too.
pub(super) fn gateway_of(routed: &Decision<Routing>) -> Option<Arc<[Reason]>> {
    let Routing::Rule(rule) = &routed.value else {
        return None;
    };
    let mut backends = rule.backends.iter().filter(|it| it.share > 0.0);
    let first = backends.next()?;
    let inside = |host: &str| host::service(host).is_some();
    let all = inside(&first.host) && backends.all(|it| inside(&it.host));
    let text = format!("leads through {}", first.host);
    all.then(|| [Reason::of(rule.object.clone(), text)].into())
}

/// Whether a request reached a host outside, rather than being answered by a proxy or nobody.
fn reached(call: &Call) -> bool {
    let answered = call.exchange.status.is_some();
    let refused = matches!(call.exchange.status, Some(403 | 502 | 503)) && answered_by_proxy(call);
    answered && !refused
}

impl Sent {
    /// Whether it is the same for all requests, whatever they ask for.
    fn is_silent(&self) -> bool {
        self.silent && self.host.is_none() && matches!(self.routed, Routed::Undeclared)
    }
}

impl Traffic {
    /// Takes a request at its client.
    pub(super) fn sent(
        &mut self,
        answers: &impl Answers,
        end: &ClientEnd,
        call: &Call,
        judge: Judge,
    ) -> Option<RouteMatch> {
        let question = Question {
            whole: false,
            scope: end.scope,
            head: &call.exchange.request,
            grpc: ends::is_grpc(&call.exchange),
            valid: self.valid(answers),
        };
        let limit = self.config.answers;
        let whole = Question {
            whole: true,
            ..question
        };
        let known = match self.silent.get(&whole, limit) {
            None => self.sent.get(&question, limit),
            silent => silent,
        };
        let sent = match known {
            Some(sent) => sent,
            None => {
                let sent = Arc::new(self.route(answers, end, call, judge.now));
                match sent.is_silent() {
                    true => self.silent.put(&whole, sent.clone(), limit),
                    false => self.sent.put(&question, sent.clone(), limit),
                }
                sent
            }
        };
        if end.plane != Plane::None {
            self.uses.seen(Usage::Scope);
            self.policed(answers, end, call, judge);
        }
        if let Some((place, decision)) = &sent.outside {
            self.uses.seen(Usage::Outside);
            if let Some(outside) = self.outside.get_mut(*place)
                && let Some(evidence) = outside.take(decision, reached(call), judge.now)
            {
                evidence.call(call, judge.now);
            }
            if let Some(because) = &sent.around
                && reached(call)
                && self.settled(answers.revision(), end.namespaces(because), judge.now)
                && let Some(outside) = self.outside.get_mut(*place)
            {
                outside.passed_by(because).call(call, judge.now);
            }
        }
        self.count(answers, &sent, end, call, judge);
        sent.found.clone()
    }

    fn count(
        &mut self,
        answers: &impl Answers,
        sent: &Sent,
        end: &ClientEnd,
        call: &Call,
        judge: Judge,
    ) {
        let now = judge.now;
        if let Some(host) = sent.host.and_then(|place| self.routes.hosts.get_mut(place)) {
            host.last = now;
            host.requests += u64::from(!matches!(sent.routed, Routed::Past));
        }
        match &sent.routed {
            Routed::Rule(place) => {
                if let Some(rule) = self.routes.rules.get_mut(*place) {
                    rule.matched(call, &end.who, judge);
                    let name = (!sent.shadowed.is_empty()).then(|| rule.rule.name.clone());
                    for (place, by) in sent.shadowed.iter().zip(name.iter().cycle()) {
                        if let Some(later) = self.routes.rules.get_mut(*place) {
                            later.shadowed(by);
                        }
                    }
                }
            }
            Routed::Unclear(places) => {
                for place in places {
                    if let Some(rule) = self.routes.rules.get_mut(*place) {
                        rule.perhaps += 1;
                    }
                }
            }
            Routed::Undeclared | Routed::Past | Routed::Unmatched => {}
        }
        if sent.client.is_none() {
            return;
        }
        let settled = self.settled(answers.revision(), end.namespaces(&sent.why), now);
        let capped = call.exchange.status == Some(503) && self.limited_host(sent.host);
        let Some(client) = sent
            .client
            .and_then(|place| self.routes.clients.get_mut(place))
        else {
            return;
        };
        client.last = now;
        client.requests += 1;
        let local = answered_by_proxy(call);
        let (all, why) = (client.requests, &sent.why);
        match (&sent.routed, call.exchange.status) {
            (Routed::Unmatched, Some(404)) if settled && local => {
                client.unmatched.of(all).by(why).call(call, now);
            }
            // Somebody answered to whom no route leads.
            (Routed::Unmatched, Some(_)) if settled && !local && end.proxied => {
                client.past.of(all).by(why).call(call, now);
            }
            (Routed::Past, _) if settled => client.past.of(all).by(why).call(call, now),
            (_, Some(429)) if local => client.limited.of(all).by(why).call(call, now),
            (_, Some(503)) if local && capped => client.overflown.of(all).by(why).call(call, now),
            _ => {}
        }
    }

    fn limited_host(&self, host: Option<u32>) -> bool {
        let host = host.and_then(|place| self.routes.hosts.entry(place));
        let target = host.and_then(|(name, _)| self.declared.target(name));
        target.is_some_and(|target| target.limited)
    }

    /// Asks how a request is routed.
    fn route(
        &mut self,
        answers: &impl Answers,
        end: &ClientEnd,
        call: &Call,
        now: Monotonic,
    ) -> Sent {
        let head = &call.exchange.request;
        let mut fields = Vec::new();
        let request = ends::request(head, ends::is_grpc(&call.exchange), &mut fields);
        let to = end.destination(&head.authority);
        let mut sent = Sent {
            outside: self.egress(answers, end, &to),
            ..Sent::default()
        };
        if sent.outside.is_some() {
            sent.around = self.around(answers, end, &to, &request);
        }
        let name = match &end.service {
            Some(service) => Cow::Owned(format!("{}.{}", service.name, service.namespace)),
            None => host::canonical(&head.authority),
        };
        self.uses.mark(Usage::Scope, &name, "", &end.pod.namespace);
        let routed = match end.plane {
            Plane::None => Decision::default(),
            _ => answers.routing(Some(&end.pod), &to, &request),
        };
        // What goes past its proxy is not routed, whatever is declared.
        let carried = end.proxied || end.plane == Plane::None;
        let routed = match (&routed.value, carried) {
            (Routing::Undeclared, _) => {
                sent.silent = routed.because.is_empty();
                self.past(answers, end, &to, &request)
            }
            // The node's proxy takes connections where that does not show.
            (_, false) if !end.old && end.plane != Plane::IstioAmbient => Some(routed),
            (_, false) => None,
            (_, true) => {
                if let Routing::Rule(rule) = &routed.value {
                    sent.shadowed = self.shadowed(answers, end, &to, &request, rule);
                }
                self.take_routing(&mut sent, routed, &name, end, now);
                return sent;
            }
        };
        let Some(past) = routed else {
            return self.limits(sent, &name, end, now);
        };
        sent.routed = Routed::Past;
        sent.why = match &past.value {
            Routing::Rule(rule) if past.because.is_empty() => {
                let text = format!("rule {}", rule.name);
                [Reason::of(rule.object.clone(), text)].into()
            }
            _ => past.because.into(),
        };
        self.places(&mut sent, &name, end, now);
        sent
    }

    /// Later rules of the same object that match too.
    fn shadowed(
        &self,
        answers: &impl Answers,
        end: &ClientEnd,
        to: &Destination<'_>,
        request: &Request<'_>,
        rule: &Rule,
    ) -> Vec<u32> {
        let all = answers.matching(&end.pod, to, request);
        let own = all
            .iter()
            .position(|(object, name, _)| *object == rule.object && *name == rule.name);
        let later = own.and_then(|own| all.get(own + 1..)).unwrap_or_default();
        later
            .iter()
            .filter(|(object, _, certainty)| *certainty == Certainty::Yes && *object == rule.object)
            .filter_map(|(object, name, _)| self.routes.rules.find(&RuleKey::of(object, name)))
            .take(CANDIDATES)
            .collect()
    }

    /// Nothing is declared to route it; it may be limited all the same.
    fn limits(&mut self, mut sent: Sent, name: &str, end: &ClientEnd, now: Monotonic) -> Sent {
        let limited = self
            .declared
            .target(name)
            .is_some_and(|target| target.limited)
            || !self.declared.limits.is_empty();
        if limited && end.plane != Plane::None && end.proxied {
            self.places(&mut sent, name, end, now);
            let target = self.declared.target(name).map(|target| &target.object);
            let objects = target.into_iter().chain(&self.declared.limits);
            sent.why = objects
                .take(CANDIDATES)
                .map(|object| Reason::of(object.clone(), "limits what may be sent"))
                .collect();
        }
        sent
    }

    /// Places of the host, and of its client.
    fn places(&mut self, sent: &mut Sent, name: &str, end: &ClientEnd, now: Monotonic) {
        let limit = self.config.entries;
        let new = || HostState {
            requests: 0,
            last: now,
        };
        sent.host = self.routes.hosts.place(&name.into(), limit, new);
        let Some(host) = sent.host else {
            return;
        };
        let new = || ClientState {
            last: now,
            ..ClientState::default()
        };
        let key = (end.who.clone(), host);
        sent.client = self.routes.clients.place(&key, limit, new);
    }

    fn take_routing(
        &mut self,
        sent: &mut Sent,
        routed: Decision<Routing>,
        name: &str,
        end: &ClientEnd,
        now: Monotonic,
    ) {
        self.places(sent, name, end, now);
        sent.why = routed.because.into();
        match routed.value {
            Routing::Undeclared => {}
            Routing::Unmatched => sent.routed = Routed::Unmatched,
            Routing::Rule(rule) => {
                sent.found = Some(found(&rule));
                self.uses.leads(&rule);
                if let Some(place) = self.rule(&rule, name, now) {
                    sent.routed = Routed::Rule(place);
                }
            }
            Routing::Unknown { candidates, .. } => {
                candidates.iter().for_each(|rule| self.uses.leads(rule));
                let places = candidates.iter().take(CANDIDATES);
                let places = places.filter_map(|rule| self.rule(rule, name, now));
                sent.routed = Routed::Unclear(places.collect());
            }
        }
    }

    /// The place of a rule, with what else is declared of its backends.
    pub(super) fn rule(&mut self, rule: &Rule, name: &str, now: Monotonic) -> Option<u32> {
        let place = self.routes.rule(rule, name, self.config.entries, now)?;
        let state = self.routes.rules.get_mut(place)?;
        if state.split.vague.is_none() {
            state.split.vague = super::split::Split::vague(rule, &self.declared);
        }
        Some(place)
    }

    /// What routes a request would have, if it were not sent past them; `None` when there are none.
    fn past(
        &self,
        answers: &impl Answers,
        end: &ClientEnd,
        to: &Destination<'_>,
        request: &Request<'_>,
    ) -> Option<Decision<Routing>> {
        if end.outside.is_some() || end.old {
            return None;
        }
        let declared = |to: &Destination<'_>| {
            let found = answers.routing_in_mesh(&end.pod, to, request);
            (found.value != Routing::Undeclared).then_some(found)
        };
        if end.plane == Plane::None {
            return declared(to);
        }
        // By the name of the Service, whatever name was asked for.
        let by_name = |namespace: &str, name: &str, port: u16| {
            let authority = format!("{name}.{namespace}.svc.cluster.local");
            let to = Destination {
                service: Some((namespace, name)),
                authority: &authority,
                port,
                ..*to
            };
            let request = Request {
                authority: &authority,
                ..*request
            };
            let found = answers.routing_in_mesh(&end.pod, &to, &request);
            (found.value != Routing::Undeclared).then_some(found)
        };
        if let Some((namespace, name)) = to.service {
            return by_name(namespace, name, end.port);
        }
        let pod = end.server_pod.as_ref()?;
        services_of(answers, &pod.namespace, &pod.traits.labels).find_map(|service| {
            let port = service
                .ports
                .iter()
                .find(|port| ends::target(port, Some(pod)) == end.port)?;
            by_name(&service.namespace, &service.name, port.port)
        })
    }

    /// What leads through a gateway that a client's own socket goes past, on its way outside.
    pub(super) fn around(
        &self,
        answers: &impl Answers,
        end: &ClientEnd,
        to: &Destination<'_>,
        request: &Request<'_>,
    ) -> Option<Arc<[Reason]>> {
        let past = end.plane == Plane::IstioSidecar && !end.proxied && !end.old;
        past.then(|| gateway_of(&answers.routing(Some(&end.pod), to, request)))
            .flatten()
    }

    /// Asks whether what is outside may be reached.
    pub(super) fn egress(
        &mut self,
        answers: &impl Answers,
        end: &ClientEnd,
        to: &Destination<'_>,
    ) -> Option<(u32, Decision<Egress>)> {
        let looked_up = end.outside.as_ref()?.as_deref();
        if end.plane == Plane::None {
            return None;
        }
        let decision = answers.egress(&end.pod, to);
        let name = match outside::name(to.authority, looked_up) {
            Some(name) => host::canonical(name),
            // An address alone may be anybody's, unless policy is about addresses.
            None if outside::by_address(&decision) => Cow::Owned(end.address.to_string()),
            None => return None,
        };
        if decision.value == Egress::Declared {
            self.uses
                .mark(Usage::Outside, &name, "", &end.pod.namespace);
        }
        let key = (end.who.clone(), Box::from(&*name));
        let place = self
            .outside
            .place(&key, self.config.entries, outside::Outside::default)?;
        Some((place, decision))
    }
}

/// What flows say of the rule.
fn found(rule: &Rule) -> RouteMatch {
    let mut backends = rule.backends.iter().filter(|backend| backend.share > 0.0);
    let backend = match (backends.next(), backends.next()) {
        (Some(only), None) if !only.subset.is_empty() => only.subset.clone(),
        (Some(only), None) => only.host.clone(),
        _ => Box::default(),
    };
    RouteMatch {
        object: rule.object.clone(),
        rule: rule.name.clone(),
        backend,
    }
}

// === impl ClientEnd ===

impl ClientEnd {
    /// Namespaces whose objects may decide about what it sends.
    pub(super) fn namespaces<'a>(&'a self, why: &'a [Reason]) -> impl Iterator<Item = &'a str> {
        let service = self.service.as_ref().map(|service| &*service.namespace);
        let server = self.server_pod.as_ref().map(|pod| &*pod.namespace);
        let objects = why.iter().filter_map(|why| why.object.as_ref());
        std::iter::once(&*self.pod.namespace)
            .chain(service)
            .chain(server)
            .chain(objects.map(|object| &*object.namespace))
    }
}
