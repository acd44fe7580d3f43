//! What a client's proxy does: whether it encrypts, and how it routes.

use std::time::Duration;

use super::{
    Linkerd, Protocol,
    client::CONTROL_PLANE,
    ports::{OPAQUE, OPAQUE_BY_DEFAULT, lists},
    server::{skips_inbound, skips_outbound},
};
use crate::{
    mesh::{
        decision::{
            Backend, Decision, Destination, Reason, Request, Retries, Routing, Rule, Sends,
        },
        duration::duration,
        gateway::{
            Gateways,
            choose::{Dialect, candidates, of_one_protocol, routing},
            route::{Route, Surroundings, full_name},
        },
        policy::Context,
    },
    model::{
        kubernetes::Pod,
        policy::{ObjectRef, PolicyKind, ServiceFacts, find},
    },
};

/// Annotations of Services and routes.
const RETRY_HTTP: &str = "retry.linkerd.io/http";
const RETRY_GRPC: &str = "retry.linkerd.io/grpc";
const RETRY_LIMIT: &str = "retry.linkerd.io/limit";
const RETRY_TIMEOUT: &str = "retry.linkerd.io/timeout";
const TIMEOUT_REQUEST: &str = "timeout.linkerd.io/request";

/// What annotations say of time and retries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Annotated {
    timeout: Option<Duration>,
    retries: Option<Retries>,
}

// === impl Linkerd ===

impl Linkerd {
    /// What the proxy of a pod is to send to a destination: the control plane tells it whose identity
    /// to expect there, or of none.
    pub(super) fn sends_to(&self, client: &Pod, to: &Destination<'_>) -> Decision<Sends> {
        let decided = |value, text: &'static str| Decision::by(value, Reason::plain(text));
        if skips_outbound(client, to.port) {
            let text = "the client's skip-outbound-ports have the port: it bypasses the proxy";
            return decided(Sends::Plaintext, text);
        }
        let Some(server) = to.pod else {
            if to.service.is_none() && to.address.is_some() {
                return decided(Sends::Plaintext, "the address is of no pod");
            }
            let why = "which pod serves it is not known";
            return Decision::by(Sends::Unknown(why.into()), Reason::plain(why));
        };
        if server.uid == client.uid && server.name == client.name {
            return decided(Sends::Plaintext, "the pod calls itself");
        }
        let control = server.traits.label(CONTROL_PLANE);
        if control.is_none() {
            return decided(Sends::Plaintext, "the server's pod has no proxy");
        }
        if control != client.traits.label(CONTROL_PLANE) {
            let text = "the server's pod is of another control plane";
            return decided(Sends::Plaintext, text);
        }
        if skips_inbound(server, to.pod_port) {
            let text = "the server's skip-inbound-ports have the port: it bypasses the proxy";
            return decided(Sends::Plaintext, text);
        }
        let text = "the server's pod has a proxy of the same control plane";
        decided(Sends::Mutual, text)
    }

    /// How the proxy of a pod routes a request.
    pub(super) fn routes(
        &self,
        context: &Context,
        gateways: &Gateways,
        client: Option<&Pod>,
        to: &Destination<'_>,
        request: &Request<'_>,
    ) -> Decision<Routing> {
        let undeclared =
            |text: &'static str| Decision::by(Routing::Undeclared, Reason::plain(text));
        let Some((namespace, name)) = to.service else {
            return undeclared("routes are for what is dialled by the cluster IP of a Service");
        };
        if client.is_some_and(|client| skips_outbound(client, to.port)) {
            return undeclared("the client's skip-outbound-ports have the port");
        }
        let service = context.service(namespace, name).map(|it| &**it);
        if service.is_some_and(|it| it.headless) {
            return undeclared("the Service has no cluster IP: its routes do not apply");
        }
        let own = Backend {
            host: full_name(namespace, name),
            port: to.port,
            share: 1.0,
            ..Backend::default()
        };
        let of = client.map(|client| &*client.namespace);
        let opaque = self.service_protocol(context, to).value == Protocol::Opaque;
        let profile = self.profiles.of(of.unwrap_or(namespace), namespace, name);
        if let Some(profile) = profile.filter(|profile| profile.routes() && !opaque) {
            return profile.routing(request, &own);
        }
        let dialect = &Dialect::LINKERD;
        let mut routes = gateways.routes().of_service(context, of, to, dialect);
        routes.extend(self.routes.of_service(context, of, to, dialect));
        if opaque {
            routes
                .retain(|it| matches!(it.route.kind, PolicyKind::TlsRoute | PolicyKind::TcpRoute));
        }
        let annotations = service.map_or(&[][..], |it| &it.annotations);
        if routes.is_empty() {
            return match (service, opaque) {
                (Some(service), false) => default_route(service, request, own),
                _ => Decision {
                    value: Routing::Undeclared,
                    because: Vec::new(),
                },
            };
        }
        let routes = of_one_protocol(routes, dialect);
        let found = candidates(&routes, to, request, dialect.hostnames, dialect.patterns);
        let around = Surroundings {
            context,
            grants: None,
            own: Some(&own),
        };
        routing(&routes, &found, request, |route, number| {
            rule(route, number, around, annotations)
        })
    }

    /// What a port of a Service that was dialled is read as at the client's proxy. [`Protocol::Detect`]
    /// where nothing says otherwise.
    pub fn service_protocol(&self, context: &Context, to: &Destination<'_>) -> Decision<Protocol> {
        let Some((namespace, name)) = to.service else {
            let text = "no Service was dialled";
            return Decision::by(Protocol::Detect, Reason::plain(text));
        };
        let service = context.service(namespace, name);
        let profile = self.profiles.of(namespace, namespace, name);
        if let Some(profile) = profile.filter(|profile| profile.opaque(to.port)) {
            let reason = Reason::of(profile.object().clone(), "its opaquePorts have the port");
            return Decision::by(Protocol::Opaque, reason);
        }
        let own = service.and_then(|it| find(&it.annotations, OPAQUE));
        let of_namespace = || context.namespace_annotation(namespace, OPAQUE);
        let (list, reason) = match (own, service) {
            (Some(list), Some(service)) => (
                list,
                Reason::of(reference(service), "its opaque ports decide"),
            ),
            _ => match of_namespace() {
                Some(list) => (list, Reason::plain("the namespace's opaque ports decide")),
                None => (
                    OPAQUE_BY_DEFAULT,
                    Reason::plain("the default opaque ports decide"),
                ),
            },
        };
        let named = |wanted: &str| {
            let ports = &service?.ports;
            let port = ports.iter().find(|port| *port.name == *wanted)?;
            Some(port.port)
        };
        let value = if lists(list, to.port, named) {
            Protocol::Opaque
        } else {
            Protocol::Detect
        };
        Decision::by(value, reason)
    }

    /// Rules that are in effect for a route, with what the annotations of its Services add.
    pub(super) fn declared(
        &self,
        context: &Context,
        route: &Route,
        number: usize,
        own: &Backend,
        service: Option<&ServiceFacts>,
    ) -> Option<Rule> {
        let around = Surroundings {
            context,
            grants: None,
            own: Some(own),
        };
        let annotations = service.map_or(&[][..], |it| &it.annotations);
        rule(route, number, around, annotations)
    }
}

/// What a rule comes to at Linkerd's proxies: annotations of the route go before what it says itself,
/// and that before annotations of the Service.
fn rule(
    route: &Route,
    number: usize,
    around: Surroundings<'_>,
    service: &[(Box<str>, Box<str>)],
) -> Option<Rule> {
    let mut rule = route.rule(number, around)?;
    let attempt = route.rules.get(number).and_then(|it| it.attempt_timeout);
    let grpc = route.kind == PolicyKind::GrpcRoute;
    let own = Annotated::read(&route.annotations, grpc);
    let service = Annotated::read(service, grpc);
    // `retry` of the Gateway API is not read by Linkerd.
    let mut retries = own.retries.or(service.retries).unwrap_or(Retries {
        attempts: 0,
        per_try: None,
    });
    retries.per_try = retries.per_try.or(attempt);
    rule.timeout = own.timeout.or(rule.timeout).or(service.timeout);
    if retries.attempts == 0 {
        // The one attempt is the request.
        rule.timeout = match (rule.timeout, retries.per_try.take()) {
            (Some(whole), Some(attempt)) => Some(whole.min(attempt)),
            (whole, attempt) => whole.or(attempt),
        };
    }
    rule.retries = Some(retries);
    Some(rule)
}

/// What annotations of a Service come to, where it has no routes.
fn default_route(service: &ServiceFacts, request: &Request<'_>, own: Backend) -> Decision<Routing> {
    let annotated = Annotated::read(&service.annotations, request.grpc);
    if annotated == Annotated::default() {
        let text = "no route and no annotation of the Service says anything";
        return Decision::by(Routing::Undeclared, Reason::plain(text));
    }
    let object = reference(service);
    let rule = Rule {
        object: object.clone(),
        name: "default".into(),
        backends: vec![own],
        timeout: annotated.timeout,
        retries: Some(annotated.retries.unwrap_or(Retries {
            attempts: 0,
            per_try: None,
        })),
        mirrors: Vec::new(),
        fault: None,
        answers: false,
        partial: None,
    };
    let reason = Reason::of(object, "annotations of the Service, which has no routes");
    Decision::by(Routing::Rule(Box::new(rule)), reason)
}

fn reference(service: &ServiceFacts) -> ObjectRef {
    ObjectRef {
        kind: "Service".into(),
        group: Box::default(),
        namespace: service.namespace.clone(),
        name: service.name.clone(),
        version: Box::default(),
    }
}

// === impl Annotated ===

impl Annotated {
    /// What cannot be read counts as not written, as it does for the control plane.
    fn read(annotations: &[(Box<str>, Box<str>)], grpc: bool) -> Self {
        let time = |name| {
            let text = find(annotations, name)?;
            duration(text).filter(|it| !it.is_zero())
        };
        let condition = if grpc { RETRY_GRPC } else { RETRY_HTTP };
        let limit = find(annotations, RETRY_LIMIT)
            .and_then(|text| text.parse::<u16>().ok())
            .filter(|limit| *limit != 0);
        let per_try = time(RETRY_TIMEOUT);
        let declared =
            limit.is_some() || per_try.is_some() || find(annotations, condition).is_some();
        Self {
            timeout: time(TIMEOUT_REQUEST),
            retries: declared.then(|| Retries {
                attempts: limit.unwrap_or(1).into(),
                per_try,
            }),
        }
    }
}
