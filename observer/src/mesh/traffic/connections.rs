//! Connections: what those that carry no requests show, and what is asked once for all calls of one.

use std::sync::Arc;

use super::{
    Traffic,
    answers::Answers,
    declared::{Usage, services_of},
    ends::{self, ClientEnd, ServerEnd, Vantage},
    grants::Passed,
    host,
    memory::Valid,
    outside,
    pairs::Judged,
    ports,
    routes::Judge,
    sent::gateway_of,
    turn,
};
use crate::{
    mesh::{
        decision::{Access, Decision, Destination, Reason, Request},
        party::End,
        policy::Policies,
    },
    model::{
        call::{Link, LinkEvent},
        connection::{ConnectionId, Role, Transfer},
        kubernetes::Pod,
        mesh::{Far, Hop, Plane, ProxyKind},
        time::Monotonic,
        workload::Peer,
    },
};

/// Most callers of one connection that are told apart at once.
const FARS: usize = 8;

/// What was asked for a connection.
#[derive(Debug)]
pub(super) struct Known {
    link: Arc<Link>,
    valid: Valid,
    vantages: Vec<(Option<Arc<Far>>, Vantage)>,
    next: usize,
    /// Its protocol was counted.
    recognised: bool,
    last: Monotonic,
}

/// What a port of a pod is declared to speak to its proxy; `None` when nothing declares it.
fn speaks(
    answers: &impl Answers,
    plane: Plane,
    pod: &Pod,
    port: u16,
) -> Option<Decision<ports::Speaks>> {
    match plane {
        Plane::None => None,
        Plane::Linkerd => Some(ports::read_as(answers.served_protocol(pod, port))),
        Plane::IstioSidecar | Plane::IstioAmbient => {
            let labels = &pod.traits.labels;
            services_of(answers, &pod.namespace, labels).find_map(|service| {
                let mut ports = service.ports.iter();
                let facts = ports.find(|facts| ends::target(facts, Some(pod)) == port)?;
                Some(ports::declared(service, facts))
            })
        }
    }
}

/// Whether the proxy of a pod hands bytes on at a port, and reads no requests: it tells the application
/// of none of them who made it.
pub(in crate::mesh) fn is_bytes(policies: &Policies, pod: &Pod, port: u16) -> bool {
    let speaks = speaks(policies, policies.plane(pod), pod, port);
    speaks.is_some_and(|it| it.value == ports::Speaks::Bytes)
}

impl Traffic {
    /// What a socket is to us, remembered.
    pub(super) fn vantage(
        &mut self,
        answers: &impl Answers,
        link: &Arc<Link>,
        far: Option<&Arc<Far>>,
        now: Monotonic,
    ) -> Vantage {
        let valid = self.valid(answers);
        let id = link.connection.id;
        if let Some(known) = self.connections.get_mut(&id)
            && known.valid == valid
            && Arc::ptr_eq(&known.link, link)
        {
            known.last = now;
            let same = |one: &Option<Arc<Far>>| match (one, far) {
                (None, None) => true,
                (Some(one), Some(other)) => Arc::ptr_eq(one, other) || one == other,
                _ => false,
            };
            if let Some((_, vantage)) = known.vantages.iter().find(|(far, _)| same(far)) {
                return vantage.clone();
            }
        }
        let limit = self.config.entries;
        let vantage = self
            .ends
            .vantage(answers, link, far.map(|far| &**far), limit);
        let Some(known) = self.known(link, valid, now) else {
            return vantage;
        };
        let entry = (far.cloned(), vantage.clone());
        match known.vantages.get_mut(known.next) {
            Some(old) => *old = entry,
            None => known.vantages.push(entry),
        }
        known.next = (known.next + 1) % FARS;
        vantage
    }

    fn known(&mut self, link: &Arc<Link>, valid: Valid, now: Monotonic) -> Option<&mut Known> {
        let id = link.connection.id;
        if !self.connections.contains_key(&id) && self.connections.len() >= self.config.connections
        {
            self.lost_connections += 1;
            return None;
        }
        let known = self.connections.entry(id).or_insert_with(|| Known {
            link: link.clone(),
            valid,
            vantages: Vec::new(),
            next: 0,
            recognised: false,
            last: now,
        });
        if known.valid != valid || !Arc::ptr_eq(&known.link, link) {
            known.valid = valid;
            known.link = link.clone();
            known.vantages.clear();
            known.next = 0;
        }
        known.last = now;
        Some(known)
    }

    /// Takes a change of a connection.
    pub(super) fn link_with(&mut self, answers: &impl Answers, event: &LinkEvent, now: Monotonic) {
        match event {
            LinkEvent::Recognised { link, .. } => self.recognised(answers, link, now),
            LinkEvent::Closed { link, transfer, .. } => {
                self.closed(answers, link, transfer, now);
                self.connections.remove(&link.connection.id);
            }
            LinkEvent::Failed { link, .. } => {
                self.connections.remove(&link.connection.id);
            }
            LinkEvent::Opened(_) | LinkEvent::Progress { .. } => {}
        }
    }

    /// Forgets connections that nothing was heard of for long: their ends were lost.
    pub(super) fn expire_connections(&mut self, now: Monotonic) {
        let idle = self.config.idle;
        self.connections
            .retain(|_: &ConnectionId, known| now.since(known.last) <= idle);
    }

    fn recognised(&mut self, answers: &impl Answers, link: &Arc<Link>, now: Monotonic) {
        let opening = link.opening.as_ref();
        let Some(protocol) = opening.and_then(|opening| opening.protocol) else {
            return;
        };
        if link.connection.pre_existing {
            return;
        }
        let valid = self.valid(answers);
        let repeated = self
            .known(link, valid, now)
            .is_some_and(|known| std::mem::replace(&mut known.recognised, true));
        if repeated {
            return;
        }
        if link.hop == Hop::Proxy(ProxyKind::Sidecar) && link.connection.role == Role::Client {
            self.subset(link, now);
            self.around_gateway(answers, link, protocol, now);
            return;
        }
        let far = link.far.clone();
        match self.vantage(answers, link, far.as_ref(), now) {
            Vantage::Client(end) => self.port_of_service(answers, &end, link, protocol, now),
            Vantage::Server(end) => self.port_of_pod(answers, &end, link, protocol, now),
            Vantage::None => {}
        }
    }

    /// A connection of a client's proxy shows which subset it was routed to.
    fn subset(&mut self, link: &Link, now: Monotonic) {
        let Some(signs) = &link.mesh else {
            return;
        };
        let (Some(host), Some(subset)) = (&signs.host, &signs.subset) else {
            return;
        };
        if subset.is_empty() {
            return;
        }
        let host = host::canonical(host).into_owned();
        self.uses.mark(Usage::Subset, &host, subset, "");
        let settle = self.config.settle;
        let (mut leading, mut several) = (None, false);
        let (mut stray, mut unsettled) = (None, false);
        for (_, state) in self.routes.rules.iter_mut() {
            let of =
                |backend: &&crate::mesh::decision::Backend| host::canonical(&backend.host) == *host;
            let (mut leads, mut there) = (false, false);
            for backend in state.rule.backends.iter().filter(of) {
                leads = true;
                there |= backend.subset == *subset && backend.share > 0.0;
            }
            let settled = now.since(state.since) >= settle && state.rule.partial.is_none();
            // Where it is not settled it may lead there still, or again.
            unsettled |= leads && !settled;
            if there {
                several |= leading.is_some();
                leading = Some(state);
            } else if leads && settled {
                stray = stray.or(Some(state));
            }
        }
        let strays = leading.is_none();
        if unsettled || several {
            return;
        }
        let Some(state) = leading.or(stray) else {
            return;
        };
        if let (Some(turn), Some(pod)) = (&mut state.turn, link.workload.pod())
            && turn::counts(link.connection.started, state.since, settle)
        {
            let shows = turn.of_subset(&host, subset);
            if let Some(evidence) = turn.saw(pod, shows) {
                evidence.link(link, now);
            }
        }
        match strays {
            true => state.split.strayed(|evidence| evidence.link(link, now)),
            false => state.split.led(),
        }
    }

    fn port_of_service(
        &mut self,
        answers: &impl Answers,
        end: &ClientEnd,
        link: &Link,
        protocol: &'static str,
        now: Monotonic,
    ) {
        let Some(service) = end.service.as_ref().filter(|_| end.plane != Plane::None) else {
            return;
        };
        let Some(facts) = answers.service(&service.namespace, &service.name) else {
            return;
        };
        let Some(port) = facts.ports.iter().find(|port| port.port == end.port) else {
            return;
        };
        let pod = end.server_pod.as_deref();
        let speaks = match end.plane {
            Plane::Linkerd => ports::read_as(answers.dialled_protocol(&end.destination(""))),
            _ => ports::declared(facts, port),
        };
        let party = End {
            kind: crate::mesh::party::SERVICE,
            namespace: &service.namespace,
            workload_kind: "",
            name: &service.name,
        };
        let number = match ends::target(port, pod) {
            0 => end.port,
            number => number,
        };
        self.port(party, number, &speaks, link, protocol, now);
    }

    fn port_of_pod(
        &mut self,
        answers: &impl Answers,
        end: &ServerEnd,
        link: &Link,
        protocol: &'static str,
        now: Monotonic,
    ) {
        if let Some(speaks) = speaks(answers, end.plane, &end.pod, end.port) {
            let party = End::of_pod(&end.pod);
            self.port(party, end.port, &speaks, link, protocol, now);
        }
    }

    fn port(
        &mut self,
        party: End<'_>,
        number: u16,
        speaks: &Decision<ports::Speaks>,
        link: &Link,
        protocol: &'static str,
        now: Monotonic,
    ) {
        let limit = self.config.entries;
        let Some(who) = self.ends.parties.who(party, limit) else {
            return;
        };
        let place = self
            .ports
            .place(&(who, number), limit, ports::Port::default);
        if let Some(port) = place.and_then(|place| self.ports.get_mut(place))
            && let Some(evidence) = port.take(speaks, protocol, now)
        {
            evidence.link(link, now);
        }
    }

    /// Judges a connection that carried no requests.
    fn closed(
        &mut self,
        answers: &impl Answers,
        link: &Arc<Link>,
        transfer: &Transfer,
        now: Monotonic,
    ) {
        let carried = transfer.understood_bytes > 0;
        if carried || link.connection.pre_existing || transfer.sent_bytes == 0 {
            return;
        }
        let far = link.far.clone();
        match self.vantage(answers, link, far.as_ref(), now) {
            Vantage::Client(end) => self.connected(answers, &end, link, transfer, now),
            Vantage::Server(end) if transfer.received_bytes > 0 => {
                self.accepted(answers, &end, link, now);
            }
            Vantage::Server(_) | Vantage::None => {}
        }
    }

    fn connected(
        &mut self,
        answers: &impl Answers,
        end: &ClientEnd,
        link: &Link,
        transfer: &Transfer,
        now: Monotonic,
    ) {
        let handshake = link
            .opening
            .as_ref()
            .and_then(|opening| opening.tls.as_ref());
        let name = handshake.and_then(|handshake| handshake.server_name.as_deref());
        let to = end.destination(name.unwrap_or_default());
        let Some((place, decision)) = self.egress(answers, end, &to) else {
            return;
        };
        self.uses.seen(Usage::Outside);
        let reached = transfer.received_bytes > 0;
        if let Some(outside) = self.outside.get_mut(place)
            && let Some(evidence) = outside.take(&decision, reached, now)
        {
            evidence.link(link, now);
        }
        let around = self.around(answers, end, &to, &Request::default());
        if let Some(because) = around
            && reached
            && self.settled(answers.revision(), end.namespaces(&because), now)
            && let Some(outside) = self.outside.get_mut(place)
        {
            outside.passed_by(&because).link(link, now);
        }
    }

    /// A connection of a client's proxy leads outside: whether it should have been to a gateway.
    fn around_gateway(
        &mut self,
        answers: &impl Answers,
        link: &Link,
        protocol: &'static str,
        now: Monotonic,
    ) {
        let looked_up = match &link.peer {
            Peer::Named { name, .. } => Some(&**name),
            Peer::Network(_) | Peer::Address(_) => None,
            _ => return,
        };
        let Some(pod) = link.workload.pod() else {
            return;
        };
        let handshake = link.opening.as_ref().and_then(|it| it.tls.as_ref());
        let asked = handshake.and_then(|it| it.server_name.as_deref());
        let Some(name) = outside::name(asked.unwrap_or_default(), looked_up) else {
            return;
        };
        let remote = link.connection.remote;
        let to = Destination {
            authority: name,
            port: remote.port(),
            address: Some(remote.ip()),
            ..Destination::default()
        };
        // Of requests nothing but the host is known.
        let request = match protocol {
            "http/1" | "http/2" => Request {
                authority: name,
                ..Request::default()
            },
            _ => Request::default(),
        };
        let routed = answers.routing(Some(pod), &to, &request);
        let Some(because) = gateway_of(&routed) else {
            return;
        };
        let objects = because.iter().filter_map(|it| it.object.as_ref());
        let namespaces = objects.map(|object| &*object.namespace);
        let namespaces = namespaces.chain([&*pod.namespace]);
        if !self.settled(answers.revision(), namespaces, now) {
            return;
        }
        let limit = self.config.entries;
        let Some(who) = self.ends.parties.who(End::of_pod(pod), limit) else {
            return;
        };
        let key = (who, Box::from(&*host::canonical(name)));
        let place = self.outside.place(&key, limit, outside::Outside::default);
        if let Some(outside) = place.and_then(|place| self.outside.get_mut(place)) {
            outside.connected(now);
            outside.passed_by(&because).link(link, now);
        }
    }

    fn accepted(&mut self, answers: &impl Answers, end: &ServerEnd, link: &Link, now: Monotonic) {
        if end.plane == Plane::None {
            return;
        }
        let decision = answers.access(&end.pod, end.port, &end.caller(), None);
        let because: Arc<[Reason]> = decision.because.into();
        let settled = self.settled(answers.revision(), end.namespaces(&because), now);
        let Some(place) = self.pair(end) else {
            return;
        };
        let judge: Judge = self.judge(now);
        if let Some(pair) = self.pairs.get_mut(place) {
            let judged = Judged {
                access: &decision.value,
                because: &because,
                passed: true,
                settled,
            };
            if pair.take(judged, judge) {
                pair.against(true).link(link, now);
            }
        }
        if decision.value == Access::Allowed {
            let passed = Passed {
                identity: end.identity.as_ref(),
                head: None,
                route: &self.no_route,
                because: &because,
                server: (&end.who, end.port),
            };
            self.grants.passed(passed, true, self.config.entries, now);
        }
    }
}
