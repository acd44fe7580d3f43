//! What a server's proxy does: what it takes, and whom it lets pass.

use super::{
    Authorizer, Linkerd, Protocol,
    authorization::Authorization,
    client::{IdentityMatch, Networks, Requirement, Tls},
    server::{Otherwise, Server, default_policy, default_protocol, skips_inbound},
};
use crate::{
    mesh::{
        decision::{Accepts, Access, Caller, Certainty, Decision, Destination, Reason, Request},
        gateway::{
            Gateways,
            choose::{Attached, Candidate, Dialect, candidates},
            route::ParentKind,
        },
        policy::Context,
    },
    model::{
        kubernetes::Pod,
        policy::{ObjectRef, PolicyKind},
    },
};

/// Who is let pass, and by what.
struct Guards {
    because: Vec<Reason>,
    all: Vec<Guard>,
    /// What happens to all others is only that they are logged.
    audits: bool,
}

struct Guard {
    object: Option<ObjectRef>,
    requirement: Requirement,
}

/// Why a port that bypasses the proxy is as it is.
const SKIPPED: &str = "the pod's skip-inbound-ports have the port: it bypasses the proxy";

// === impl Linkerd ===

impl Linkerd {
    /// What a port of a pod takes.
    pub(super) fn takes(
        &self,
        context: &Context,
        gateways: &Gateways,
        server: &Pod,
        port: u16,
    ) -> Decision<Accepts> {
        if skips_inbound(server, port) {
            return Decision::by(Accepts::Plaintext, Reason::plain(SKIPPED));
        }
        let mut guards = self.guards(context, server, port);
        if let Some(of) = self.servers.of(server, port) {
            for attached in self.inbound_routes(gateways, of) {
                guards.add(self.authorizations.of_route(&attached.route.object));
            }
        }
        let plain = guards
            .all
            .iter()
            .find(|guard| guard.requirement.takes_plaintext());
        let mut because = guards.because;
        let value = match plain {
            Some(guard) => {
                let text = "authorizes clients without an identity";
                because.insert(0, guard.reason(text));
                Accepts::Both
            }
            None => {
                because.insert(
                    0,
                    Reason::plain("nothing authorizes clients without an identity"),
                );
                Accepts::Mutual
            }
        };
        Decision { value, because }
    }

    /// Whether a port of a pod lets a caller pass.
    pub(super) fn lets(
        &self,
        context: &Context,
        gateways: &Gateways,
        server: &Pod,
        port: u16,
        caller: &Caller<'_>,
        request: Option<&Request<'_>>,
    ) -> Decision<Access> {
        if skips_inbound(server, port) {
            return Decision::by(Access::Allowed, Reason::plain(SKIPPED));
        }
        let guards = self.guards(context, server, port);
        let of = self.servers.of(server, port);
        let routes = of.map_or_else(Vec::new, |of| self.inbound_routes(gateways, of));
        let mut decision = match request {
            Some(request) if !routes.is_empty() => {
                self.lets_by_route(&guards, &routes, caller, request)
            }
            _ => guards.decide(caller, &[]),
        };
        // The kubelet's probes are let pass, and no pod's; what they ask for is not known here.
        let stranger = caller.pod.is_none() && caller.identity.is_none();
        let probes = request.is_some_and(|it| matches!(it.method, "GET" | "HEAD" | ""));
        if decision.value == Access::Denied && routes.is_empty() && stranger && probes {
            let why = "it would be refused, unless it is a probe of the kubelet";
            decision.value = Access::Unknown(why.into());
        }
        decision
    }

    fn lets_by_route(
        &self,
        guards: &Guards,
        routes: &[Attached<'_>],
        caller: &Caller<'_>,
        request: &Request<'_>,
    ) -> Decision<Access> {
        let to = Destination::default();
        let dialect = &Dialect::LINKERD;
        let found = candidates(routes, &to, request, true, dialect.patterns);
        let mut decisions: Vec<Decision<Access>> = Vec::new();
        let mut sure = false;
        let mut last: Option<&Candidate<'_>> = None;
        for candidate in &found {
            let object = &candidate.route.object;
            if last.is_none_or(|last| last.route.object != *object) {
                let own = self.authorizations.of_route(object);
                decisions.push(guards.decide(caller, &own));
                last = Some(candidate);
            }
            if candidate.certainty == Certainty::Yes {
                sure = true;
                break;
            }
        }
        if !sure {
            let text = "no route of the Server matches: it is answered with 404";
            decisions.push(Decision::by(Access::Denied, Reason::plain(text)));
        }
        let Some(first) = decisions.first() else {
            return guards.decide(caller, &[]);
        };
        if decisions.iter().all(|it| it.value == first.value) {
            return first.clone();
        }
        let why = "it depends on which route of the Server it matches, which is not known";
        Decision {
            value: Access::Unknown(why.into()),
            because: first.because.clone(),
        }
    }

    /// What authorizes clients of a port of a pod, whatever they ask for.
    fn guards(&self, context: &Context, pod: &Pod, port: u16) -> Guards {
        let Some(server) = self.servers.of(pod, port) else {
            let default = default_policy(context, pod, port);
            let requirement = default.value.requirement();
            return Guards {
                because: default.because,
                all: requirement
                    .map(|requirement| Guard {
                        object: None,
                        requirement,
                    })
                    .into_iter()
                    .collect(),
                audits: default.value == Otherwise::Audit,
            };
        };
        let mut guards = Guards {
            because: vec![Reason::of(server.object.clone(), "it has the port")],
            all: Vec::new(),
            audits: server.otherwise == Otherwise::Audit,
        };
        guards.add(self.authorizations.of_server(server));
        if let Some(requirement) = server.otherwise.requirement() {
            guards.all.push(Guard {
                object: Some(server.object.clone()),
                requirement,
            });
        }
        guards
    }

    /// Routes of a `Server`, of its own protocol.
    fn inbound_routes<'a>(
        &'a self,
        gateways: &'a Gateways,
        server: &'a Server,
    ) -> Vec<Attached<'a>> {
        let dialect = &Dialect::LINKERD;
        let (namespace, name) = (&*server.object.namespace, &*server.object.name);
        let at = |routes: &'a crate::mesh::gateway::choose::Routes| {
            routes.at(ParentKind::Server, namespace, name, dialect)
        };
        let wanted = |it: &Attached<'_>| match server.protocol {
            Protocol::Grpc => it.route.kind == PolicyKind::GrpcRoute,
            Protocol::Detect | Protocol::Http1 | Protocol::Http2 => matches!(
                it.route.kind,
                PolicyKind::HttpRoute | PolicyKind::LinkerdHttpRoute
            ),
            Protocol::Opaque | Protocol::Tls => false,
        };
        let own = |it: &Attached<'_>| *it.route.object.namespace == *namespace;
        at(gateways.routes())
            .chain(at(&self.routes))
            .filter(|it| wanted(it) && own(it))
            .collect()
    }

    /// What a port of a pod is read as: what its `Server` says, and else the annotations of ports
    /// that are opaque, of the pod or of its namespace.
    pub fn protocol(&self, context: &Context, server: &Pod, port: u16) -> Decision<Protocol> {
        match self.servers.of(server, port) {
            Some(it) => Decision::by(
                it.protocol,
                Reason::of(it.object.clone(), "its proxyProtocol decides"),
            ),
            None => default_protocol(context, server, port),
        }
    }

    /// What authorizes clients of a port of a pod, and what it names: that of its `Server`, then that
    /// of its routes. Empty where no `Server` has the port.
    pub fn authorizers(&self, gateways: &Gateways, server: &Pod, port: u16) -> Vec<Authorizer> {
        let Some(of) = self.servers.of(server, port) else {
            return Vec::new();
        };
        let mut all: Vec<Authorizer> = self
            .authorizations
            .of_server(of)
            .into_iter()
            .map(|it| it.named(&of.object, None))
            .collect();
        let mut routes: Vec<&ObjectRef> = self
            .inbound_routes(gateways, of)
            .into_iter()
            .map(|it| &it.route.object)
            .collect();
        routes.sort();
        routes.dedup();
        for route in routes {
            let own = self.authorizations.of_route(route).into_iter();
            all.extend(own.map(|it| it.named(&of.object, Some(route))));
        }
        all
    }

    /// The `Server` that has a port of a pod.
    pub fn server(&self, server: &Pod, port: u16) -> Option<&ObjectRef> {
        self.servers.of(server, port).map(|it| &it.object)
    }
}

// === impl Authorization ===

impl Authorization {
    fn named(self, server: &ObjectRef, route: Option<&ObjectRef>) -> Authorizer {
        let mut authorizer = Authorizer {
            object: self.object,
            server: server.clone(),
            route: route.cloned(),
            identities: Vec::new(),
            networks: Vec::new(),
            plaintext: false,
            problem: None,
        };
        match self.requirement {
            Ok(requirement) => {
                authorizer.plaintext = requirement.takes_plaintext();
                if let Tls::Identities(identities) = &requirement.tls {
                    authorizer.identities = identities.iter().map(IdentityMatch::text).collect();
                }
                if let Networks::Of(networks) = &requirement.networks {
                    authorizer.networks = networks
                        .iter()
                        .map(|it| it.cidr.to_string().into())
                        .collect();
                }
            }
            Err(problem) => authorizer.problem = Some(problem),
        }
        authorizer
    }
}

// === impl Guards ===

impl Guards {
    fn add(&mut self, authorizations: Vec<Authorization>) {
        for it in authorizations {
            match it.requirement {
                Ok(requirement) => self.all.push(Guard {
                    object: Some(it.object),
                    requirement,
                }),
                Err(problem) => self.because.push(Reason::of(it.object, problem)),
            }
        }
    }

    /// Any of them will do, or of those of the route.
    fn decide(&self, caller: &Caller<'_>, route: &[Authorization]) -> Decision<Access> {
        let own = self.all.len() - usize::from(self.audits);
        let of_route = route.iter().filter_map(|it| {
            let requirement = it.requirement.as_ref().ok()?;
            Some((Some(&it.object), requirement))
        });
        let all = self
            .all
            .iter()
            // What only logs is last, and is asked when nothing else lets pass.
            .take(own)
            .map(|guard| (guard.object.as_ref(), &guard.requirement))
            .chain(of_route);
        let mut open: Vec<Reason> = Vec::new();
        for (object, requirement) in all {
            match requirement.met(caller) {
                Certainty::Yes => {
                    let mut because = self.because.clone();
                    because.insert(0, reason(object, "authorizes the client"));
                    return Decision {
                        value: Access::Allowed,
                        because,
                    };
                }
                Certainty::Unknown => open.push(reason(object, "may authorize the client")),
                Certainty::No => {}
            }
        }
        let value = match (open.is_empty(), self.audits) {
            (true, true) => Access::Audited,
            (true, false) => Access::Denied,
            (false, _) => Access::Unknown("identity or address of the client are not known".into()),
        };
        if open.is_empty() {
            open.push(Reason::plain("nothing authorizes the client"));
            let failed = route.iter().filter_map(|it| {
                let problem = it.requirement.as_ref().err()?;
                Some(Reason::of(it.object.clone(), problem.clone()))
            });
            open.extend(failed);
        }
        open.extend(self.because.iter().cloned());
        Decision {
            value,
            because: open,
        }
    }
}

// === impl Guard ===

impl Guard {
    fn reason(&self, text: &str) -> Reason {
        reason(self.object.as_ref(), text)
    }
}

/// That an object, or the default inbound policy, does something.
fn reason(object: Option<&ObjectRef>, text: &str) -> Reason {
    match object {
        Some(object) => Reason::of(object.clone(), format!("it {text}")),
        None => Reason::plain(format!("the default inbound policy {text}")),
    }
}
