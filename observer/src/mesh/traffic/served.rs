//! Requests at their servers: whether policy lets them pass, which backend served them, and which
//! attempt they were.

use std::sync::Arc;

use super::{
    Traffic,
    answers::Answers,
    declared::{Usage, selects, services_of},
    ejections::{Balanced, Ejects},
    ends::{self, ServerEnd},
    grants::Passed,
    host,
    memory::Question,
    pairs::{Judged, Pair, PairKey},
    rates::Rate,
    routes::Judge,
    split::Served,
    turn::{self, Shows},
};
use crate::{
    mesh::decision::{Access, Backend, Decision, Destination, Reason, Routing, Rule},
    model::{call::Call, kubernetes::Pod, mesh::Plane, policy::find, time::Monotonic},
};

/// Failures in a row after which Linkerd leaves a pod out, where nothing else is said.
const ACCRUED: u32 = 7;

/// What was found of a request at its server.
#[derive(Debug)]
pub(super) struct Found {
    access: Access,
    because: Arc<[Reason]>,
    /// Place of client and server.
    pair: Option<u32>,
    /// Place of the rule that it matched, and which of its backends this is.
    rule: Option<(u32, Served)>,
    /// What it shows of its client's proxy, where the rule was another before.
    shows: Option<Shows>,
    /// It is a copy.
    copy: bool,
    /// Attempts that the rule allows after the first.
    retries: Option<u32>,
    /// Place of client and server where pods that fail are ejected.
    ejects: Option<(u32, Ejects)>,
    /// Place of the server where requests are limited.
    rate: Option<u32>,
    /// No object has anything to do with it: it is the same for all requests.
    free: bool,
}

/// Whether a pod is of a backend; `None` when that cannot be told.
fn is_of(answers: &impl Answers, backend: &Backend, pod: &Pod) -> Option<bool> {
    let (name, namespace) = host::service(&backend.host)?;
    let service = answers.service(namespace, name)?;
    if *service.namespace != *pod.namespace || service.selector.is_empty() {
        return (*service.namespace != *pod.namespace).then_some(false);
    }
    if !selects(&service.selector, &pod.traits.labels) {
        return Some(false);
    }
    match (backend.subset.is_empty(), backend.labels.is_empty()) {
        (true, _) => Some(true),
        (false, true) => None,
        (false, false) => Some(selects(&backend.labels, &pod.traits.labels)),
    }
}

/// Which backend of a rule a pod is.
pub(super) fn backend_of(answers: &impl Answers, rule: &Rule, pod: &Pod) -> Served {
    if rule.answers || rule.partial.is_some() || rule.backends.is_empty() {
        return Served::Unclear;
    }
    let mut found = None;
    for (place, backend) in rule.backends.iter().enumerate() {
        match is_of(answers, backend, pod) {
            None => return Served::Unclear,
            Some(false) => {}
            Some(true) if found.is_some() => return Served::Unclear,
            Some(true) => found = Some((place, backend.share > 0.0)),
        }
    }
    match found {
        Some((place, true)) => Served::Backend(place),
        Some((place, false)) => Served::Idle(place),
        None => Served::Stray,
    }
}

impl Traffic {
    /// Takes a request at its server.
    pub(super) fn served(
        &mut self,
        answers: &impl Answers,
        end: &ServerEnd,
        call: &Call,
        judge: Judge,
    ) {
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
        let known = match self.free.get(&whole, limit) {
            None => self.served.get(&question, limit),
            free => free,
        };
        let (found, first) = match known {
            Some(found) => (found, false),
            None => {
                let found = Arc::new(self.find(answers, end, call, judge.now));
                match found.free {
                    true => self.free.put(&whole, found.clone(), limit),
                    false => self.served.put(&question, found.clone(), limit),
                }
                (found, true)
            }
        };
        let forwarded = call.exchange.forwarded.as_ref();
        let attempt = forwarded.and_then(|forwarded| forwarded.attempt);
        if let Some((place, served)) = found.rule
            && let Some(rule) = self.routes.rules.get_mut(place)
        {
            if found.copy {
                rule.split.copied(judge);
            } else if attempt.unwrap_or(1) <= 1 {
                let local = rule.clients.contains(&end.client);
                rule.split.served(call, served, local, judge);
                if let (Some(shows), Some(turn), Some(pod)) =
                    (found.shows, &mut rule.turn, &end.client_pod)
                    && turn::counts(call.exchange.sent.first, rule.since, judge.settle)
                    && let Some(evidence) = turn.saw(pod, shows)
                {
                    evidence.call(call, judge.now);
                }
            }
        }
        if let Some((place, ejects)) = &found.ejects
            && let Some(balanced) = self.balances.get_mut(*place)
        {
            balanced.take(end, call, ejects, judge.now);
        }
        if let Some(rate) = found.rate.and_then(|place| self.rates.get_mut(place)) {
            rate.take(&end.pod, judge.now);
        }
        let Some(place) = found.pair else {
            return;
        };
        let because = &found.because;
        let settled = found.access != Access::Denied
            || self.settled(answers.revision(), end.namespaces(because), judge.now);
        if let Some(pair) = self.pairs.get_mut(place) {
            pair.attempt(call, found.retries, judge.now);
            let judged = Judged {
                access: &found.access,
                because,
                passed: true,
                settled,
            };
            if pair.take(judged, judge) {
                pair.against(true).call(call, judge.now);
            }
        }
        if found.access == Access::Allowed {
            let passed = Passed {
                identity: end.identity.as_ref(),
                head: Some(&call.exchange.request),
                route: &call.route,
                because,
                server: (&end.who, end.port),
            };
            let limit = self.config.entries;
            self.grants.passed(passed, first, limit, judge.now);
        }
    }

    fn find(
        &mut self,
        answers: &impl Answers,
        end: &ServerEnd,
        call: &Call,
        now: Monotonic,
    ) -> Found {
        let head = &call.exchange.request;
        let mut fields = Vec::new();
        let request = ends::request(head, ends::is_grpc(&call.exchange), &mut fields);
        let access = match end.plane {
            Plane::None => Decision {
                value: Access::Allowed,
                because: Vec::new(),
            },
            _ => answers.access(&end.pod, end.port, &end.caller(), Some(&request)),
        };
        let pair = match end.plane {
            Plane::None => None,
            _ => self.pair(end),
        };
        let original = host::without_shadow(&head.authority);
        let rule = self.rule_of(answers, end, call, original, now);
        if original.is_none() {
            self.mirrors(answers, end);
        }
        let policed = end.plane != Plane::None && self.declared.polices(&end.pod.namespace);
        let (rule, silent) = rule;
        let shows = rule
            .as_ref()
            .and_then(|(place, served, _)| self.shows(answers, end, *place, *served));
        Found {
            shows,
            access: access.value,
            because: access.because.into(),
            pair,
            retries: rule.as_ref().and_then(|(_, _, retries)| *retries),
            rule: rule.map(|(place, served, _)| (place, served)),
            copy: original.is_some(),
            ejects: self.ejects(answers, end),
            rate: self.rate(answers, end, now),
            free: silent && !policed && original.is_none(),
        }
    }

    /// Place of a server where requests to it are limited.
    fn rate(&mut self, answers: &impl Answers, end: &ServerEnd, now: Monotonic) -> Option<u32> {
        let (object, limit) = answers.rate_limit(&end.pod, end.port)?;
        let key = (end.who.clone(), end.port);
        let new = || Rate::new(object, limit, now);
        let place = self.rates.place(&key, self.config.entries, new)?;
        self.rates.get_mut(place)?.declare(object, limit, now);
        Some(place)
    }

    /// What being served by this pod shows of the client's proxy.
    fn shows(
        &self,
        answers: &impl Answers,
        end: &ServerEnd,
        place: u32,
        served: Served,
    ) -> Option<Shows> {
        let state = self.routes.rules.get(place)?;
        let turn = state.turn.as_ref()?;
        let client = end.client_pod.as_ref()?;
        // In ambient mode it is another who routes requests: a waypoint.
        let own = matches!(answers.plane(client), Plane::IstioSidecar | Plane::Linkerd);
        let backend = match served {
            Served::Backend(place) => state.rule.backends.get(place),
            Served::Idle(_) | Served::Stray => None,
            Served::Unclear => return None,
        };
        own.then(|| turn.of_backend(backend, |backend| is_of(answers, backend, &end.pod)))
            .flatten()
    }

    /// Whether pods like this one are ejected when they fail.
    fn ejects(&mut self, answers: &impl Answers, end: &ServerEnd) -> Option<(u32, Ejects)> {
        let labels = &end.pod.traits.labels;
        let ejects = services_of(answers, &end.pod.namespace, labels).find_map(|service| {
            let name = format!("{}.{}", service.name, service.namespace);
            if let Some(target) = self.declared.target(&name) {
                let object = Some(target.object.clone());
                return target.ejects.map(|failures| Ejects { object, failures });
            }
            let annotation = |name| find(&service.annotations, name);
            let accrual = annotation("balancer.linkerd.io/failure-accrual")?;
            let most = annotation("balancer.linkerd.io/failure-accrual-consecutive-max-failures");
            (accrual == "consecutive").then(|| Ejects {
                object: None,
                failures: most.and_then(|most| most.parse().ok()).unwrap_or(ACCRUED),
            })
        })?;
        let key = (end.client.clone(), end.who.clone(), end.port);
        let limit = self.config.entries;
        let place = self.balances.place(&key, limit, Balanced::default)?;
        Some((place, ejects))
    }

    /// Place of client and server.
    pub(super) fn pair(&mut self, end: &ServerEnd) -> Option<u32> {
        let key = PairKey {
            client: end.client.clone(),
            identity: end.identity.clone(),
            server: end.who.clone(),
            port: end.port,
        };
        self.pairs.place(&key, self.config.entries, Pair::default)
    }

    /// The rule that a request must have matched at its client, which of its backends the server is,
    /// and how often it is tried again; and whether nothing has to do with any request like it.
    fn rule_of(
        &mut self,
        answers: &impl Answers,
        end: &ServerEnd,
        call: &Call,
        original: Option<&str>,
        now: Monotonic,
    ) -> (Option<(u32, Served, Option<u32>)>, bool) {
        let Some(client) = end.client_pod.as_ref() else {
            return (None, true);
        };
        if answers.plane(client) == Plane::None {
            return (None, true);
        }
        let head = &call.exchange.request;
        let authority = original.unwrap_or(&head.authority);
        let name = host::without_port(authority);
        let known = |namespace: &str, name: &str| answers.service(namespace, name).cloned();
        let service = match host::service(name) {
            Some((name, namespace)) => known(namespace, name),
            None => match name.split_once('.') {
                Some((name, namespace)) => known(namespace, name),
                None => known(&client.namespace, name),
            },
        };
        let port = authority
            .rsplit_once(':')
            .and_then(|(_, port)| port.parse().ok());
        let port = port.unwrap_or_else(|| {
            let mut ports = service.iter().flat_map(|service| service.ports.iter());
            let port = ports.find(|port| ends::target(port, Some(&end.pod)) == end.port);
            port.map_or(80, |port| port.port)
        });
        let service = service
            .as_ref()
            .map(|service| (&*service.namespace, &*service.name));
        let to = Destination {
            service,
            authority,
            port,
            ..Destination::default()
        };
        let mut fields = Vec::new();
        let request = ends::request(head, ends::is_grpc(&call.exchange), &mut fields);
        let request = crate::mesh::decision::Request {
            authority,
            ..request
        };
        let decision = answers.routing(Some(client), &to, &request);
        let Routing::Rule(rule) = decision.value else {
            let silent = decision.value == Routing::Undeclared && decision.because.is_empty();
            return (None, silent);
        };
        let canonical = match service {
            Some((namespace, name)) => format!("{name}.{namespace}"),
            None => host::canonical(authority).into_owned(),
        };
        let Some(place) = self.rule(&rule, &canonical, now) else {
            return (None, false);
        };
        let served = backend_of(answers, &rule, &end.pod);
        if let Served::Backend(place) = served
            && let Some(backend) = rule.backends.get(place)
            && !backend.subset.is_empty()
        {
            let name = host::canonical(&backend.host);
            self.uses.mark(Usage::Subset, &name, &backend.subset, "");
        }
        let retries = rule.retries.map(|retries| retries.attempts);
        (Some((place, served, retries)), false)
    }

    /// Tells rules whose copies this server gets that it is there.
    fn mirrors(&mut self, answers: &impl Answers, end: &ServerEnd) {
        for (_, state) in self.routes.rules.iter_mut() {
            let mut mirrors = state.rule.mirrors.iter();
            if mirrors.any(|(backend, _)| is_of(answers, backend, &end.pod) == Some(true)) {
                state.split.mirror_serves();
            }
        }
    }
}

// === impl ServerEnd ===

impl ServerEnd {
    /// Namespaces whose objects may decide about what it gets.
    pub(super) fn namespaces<'a>(&'a self, why: &'a [Reason]) -> impl Iterator<Item = &'a str> {
        let client = self.client_pod.as_ref().map(|pod| &*pod.namespace);
        let objects = why.iter().filter_map(|why| why.object.as_ref());
        std::iter::once(&*self.pod.namespace)
            .chain(client)
            .chain(objects.map(|object| &*object.namespace))
    }
}
