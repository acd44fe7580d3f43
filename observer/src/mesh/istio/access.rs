//! Whether a request may pass: AuthorizationPolicies, in the order of the proxies.

use std::{borrow::Cow, net::IpAddr, sync::Arc};

use super::{
    Istio,
    authorization::{
        Action, AuthorizationPolicy, Condition, Operation, RuleSpec, Source, path_matches,
        pattern_matches, service_for, services_of,
    },
    names::resolve,
    plane::{contains, has_sidecar},
    store::Declared,
};
use crate::{
    mesh::{
        decision::{Access, Caller, Certainty, Decision, Reason, Request},
        policy::Context,
    },
    model::{kubernetes::Pod, mesh::Identity, mesh::Plane},
};

/// Most reasons that are given.
const MAX_REASONS: usize = 16;

/// What the proxy that decides understands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Layer {
    /// Requests.
    Requests,
    /// Connections, by a proxy that would know requests.
    Connections,
    /// Connections, by the node's proxy.
    Node,
}

/// Who calls, as the proxy that decides knows it.
enum Who<'a> {
    /// This identity was proved.
    Proved(Cow<'a, Identity>),
    /// Plaintext: nobody.
    Nobody,
    /// Some identity was proved.
    Somebody,
    /// It is not known whether one was.
    Unknown,
}

/// What is asked.
struct Question<'a> {
    istio: &'a Istio,
    layer: Layer,
    who: Who<'a>,
    address: Option<IpAddr>,
    /// 0 when unknown.
    port: u16,
    request: Request<'a>,
}

/// Whether something matches, and what of it cannot be told.
type Match = (Certainty, Option<Cow<'static, str>>);

const YES: Match = (Certainty::Yes, None);
const NO: Match = (Certainty::No, None);

fn unknown(why: impl Into<Cow<'static, str>>) -> Match {
    (Certainty::Unknown, Some(why.into()))
}

fn and((a, why): Match, (b, other): Match) -> Match {
    (a.and(b), why.or(other))
}

/// Any of them; of an empty list, none.
fn any(matches: impl Iterator<Item = Match>) -> Match {
    matches.fold(NO, |(a, why), (b, other)| (a.or(b), why.or(other)))
}

fn not((certainty, why): Match) -> Match {
    (certainty.not(), why)
}

// === impl Istio ===

impl Istio {
    /// See [`crate::mesh::policy::Policies::access`].
    pub fn access(
        &self,
        context: &Context,
        server: &Pod,
        port: u16,
        caller: &Caller<'_>,
        request: Option<&Request<'_>>,
    ) -> Decision<Access> {
        let captured = self.captures_inbound(server, port);
        if !captured.value {
            return Decision {
                value: Access::Allowed,
                because: captured.because,
            };
        }
        let who = self.who(caller);
        let question = |layer, who, port| Question {
            istio: self,
            layer,
            who,
            address: caller.address,
            port,
            request: request.copied().unwrap_or_default(),
        };
        let own = || self.policies_of(server).map(|(policy, _)| policy);
        if self.plane(server) != Plane::IstioAmbient {
            let layer = match request {
                Some(_) => Layer::Requests,
                None => Layer::Connections,
            };
            return decide(own(), &question(layer, who, port));
        }

        // A client with a sidecar of its own goes past the waypoint.
        let past = caller.pod.is_some_and(has_sidecar);
        let asked = request.and_then(|it| resolve(context, &server.namespace, it.authority));
        let service = service_for(context, server, asked.as_deref())
            .or_else(|| services_of(context, server).next())
            .map(|service| (&*service.namespace, &*service.name));
        let waypoint = service.and_then(|service| self.service_waypoint(context, service));
        let Some(waypoint) = waypoint.filter(|_| !past) else {
            return decide(own(), &question(Layer::Node, who, port));
        };
        let layer = match request {
            Some(_) => Layer::Requests,
            None => Layer::Connections,
        };
        // Its ports are those of the Service, which are not known here.
        let first = decide(
            self.policies_at(&waypoint, service),
            &question(layer, who, 0),
        );
        // To the node's proxy the waypoint is who calls.
        let second = decide(own(), &question(Layer::Node, Who::Somebody, port));
        let mut both = one_after_the_other(first, second);
        both.because.push(waypoint.because);
        both
    }

    fn who<'a>(&self, caller: &Caller<'a>) -> Who<'a> {
        match (caller.identity, caller.mutual, caller.pod) {
            (Some(identity), mutual, _) if mutual != Some(false) => {
                Who::Proved(Cow::Borrowed(identity))
            }
            (_, Some(false), _) => Who::Nobody,
            // What a pod proves is its service account.
            (_, Some(true), Some(pod)) if !pod.traits.service_account.is_empty() => {
                let domain = &self.mesh_config().trust_domain;
                let account = &pod.traits.service_account;
                let namespace = &pod.namespace;
                Who::Proved(Cow::Owned(Identity {
                    text: format!("spiffe://{domain}/ns/{namespace}/sa/{account}").into(),
                    trust_domain: domain.clone(),
                    namespace: (**namespace).into(),
                    service_account: account.clone(),
                }))
            }
            (_, Some(true), _) => Who::Somebody,
            _ => Who::Unknown,
        }
    }
}

/// Both must let it pass.
fn one_after_the_other(first: Decision<Access>, second: Decision<Access>) -> Decision<Access> {
    let rank = |access: &Access| match access {
        Access::Denied => 0,
        Access::Unknown(_) => 1,
        Access::Audited => 2,
        Access::Allowed => 3,
    };
    let (mut stronger, weaker) = match rank(&first.value) <= rank(&second.value) {
        true => (first, second),
        false => (second, first),
    };
    stronger.because.extend(weaker.because);
    stronger
}

/// CUSTOM, then DENY, then ALLOW; and the same with those that are only logged.
fn decide<'a>(
    policies: impl Iterator<Item = &'a Arc<AuthorizationPolicy>>,
    question: &Question<'_>,
) -> Decision<Access> {
    let (dry, live): (Vec<_>, Vec<_>) = policies.partition(|policy| policy.dry_run);
    let mut decision = enforce(&live, question);
    if decision.value != Access::Allowed || dry.is_empty() {
        return decision;
    }
    let audited = enforce(&dry, question);
    match audited.value {
        Access::Denied => Decision {
            value: Access::Audited,
            because: audited.because,
        },
        // It passes either way; whether that is logged is not asked.
        _ => {
            decision.because.truncate(MAX_REASONS);
            decision
        }
    }
}

fn enforce(policies: &[&Arc<AuthorizationPolicy>], question: &Question<'_>) -> Decision<Access> {
    let of = |action: Action| {
        let policies = policies.iter();
        policies.filter(move |policy| policy.action == action)
    };
    let mut doubts: Vec<(Reason, Option<Cow<'static, str>>)> = Vec::new();

    for policy in of(Action::Deny) {
        match question.policy(policy) {
            (Certainty::Yes, _, rule) => {
                return Decision::by(Access::Denied, policy.reason(rule));
            }
            (Certainty::Unknown, why, rule) => doubts.push((policy.reason(rule), why)),
            (Certainty::No, ..) => {}
        }
    }

    let mut allowed: Option<Reason> = None;
    let mut perhaps: Vec<(Reason, Option<Cow<'static, str>>)> = Vec::new();
    for policy in of(Action::Allow) {
        match question.policy(policy) {
            (Certainty::Yes, _, rule) => {
                allowed = Some(policy.reason(rule));
                break;
            }
            (Certainty::Unknown, why, rule) => perhaps.push((policy.reason(rule), why)),
            (Certainty::No, ..) => {}
        }
    }
    let any_allow = of(Action::Allow).next().is_some();
    if any_allow && allowed.is_none() && perhaps.is_empty() {
        let because = of(Action::Allow).take(MAX_REASONS).map(|policy| {
            let text = match policy.rules.is_empty() {
                true => "ALLOW without a rule: nobody may",
                false => "ALLOW, and no rule matches",
            };
            Reason::of(policy.meta().reference.clone(), text)
        });
        return Decision {
            value: Access::Denied,
            because: because.collect(),
        };
    }
    if allowed.is_none() {
        doubts.extend(perhaps);
    }

    // The node's proxy asks nobody.
    for policy in of(Action::Custom).filter(|_| question.layer != Layer::Node) {
        let (certainty, _, rule) = question.policy(policy);
        if certainty != Certainty::No {
            let why = "somebody outside of the mesh is asked";
            doubts.push((policy.reason(rule), Some(why.into())));
        }
    }
    if let Some((_, why)) = doubts.first() {
        let why = why.clone().unwrap_or_default();
        let because = doubts.into_iter().map(|(reason, _)| reason);
        return Decision {
            value: Access::Unknown(why),
            because: because.take(MAX_REASONS).collect(),
        };
    }
    let reason = allowed.unwrap_or_else(|| Reason::plain("no policy refuses it"));
    Decision::by(Access::Allowed, reason)
}

// === impl AuthorizationPolicy ===

impl AuthorizationPolicy {
    fn reason(&self, rule: usize) -> Reason {
        let text = format!("{}, rule {rule}", self.action.as_str());
        Reason::of(self.meta().reference.clone(), text)
    }
}

// === impl Question ===

impl Question<'_> {
    /// Whether any rule matches, what cannot be told, and the number of the rule that decided.
    fn policy(
        &self,
        policy: &AuthorizationPolicy,
    ) -> (Certainty, Option<Cow<'static, str>>, usize) {
        let namespace = policy.meta().namespace();
        let mut doubt = None;
        for (index, rule) in policy.rules.iter().enumerate() {
            match self.rule(rule, policy.action, namespace) {
                (Certainty::Yes, _) => return (Certainty::Yes, None, index),
                (Certainty::Unknown, why) if doubt.is_none() => doubt = Some((why, index)),
                _ => {}
            }
        }
        match doubt {
            Some((why, index)) => (Certainty::Unknown, why, index),
            None => (Certainty::No, None, 0),
        }
    }

    /// What a proxy does not understand makes a rule that allows match nothing, and is left out of one
    /// that refuses: both refuse more.
    fn rule(&self, rule: &RuleSpec, action: Action, namespace: &str) -> Match {
        let foreign = match self.layer {
            Layer::Requests => false,
            Layer::Connections => rule.names_requests(),
            Layer::Node => {
                rule.names_requests()
                    || rule.from.iter().any(|from| from.source.names_remote())
                    || rule.when.iter().any(|when| !when.names_connections())
            }
        };
        if foreign && action == Action::Allow {
            return NO;
        }
        let node = self.layer == Layer::Node;
        let sources = rule.from.iter().map(|from| &from.source);
        let operations = rule.to.iter().map(|to| &to.operation);
        let whens = rule.when.iter();
        if node && foreign {
            let sources: Vec<_> = sources.filter(|it| it.names_connections()).collect();
            let operations: Vec<_> = operations.filter(|it| it.names_ports()).collect();
            let whens: Vec<_> = whens.filter(|it| it.names_connections()).collect();
            if sources.is_empty() && operations.is_empty() && whens.is_empty() {
                return NO;
            }
            return self.parts(
                (!sources.is_empty()).then_some(sources.into_iter()),
                (!operations.is_empty()).then_some(operations.into_iter()),
                whens.into_iter(),
                namespace,
            );
        }
        self.parts(
            (!rule.from.is_empty()).then_some(sources),
            (!rule.to.is_empty()).then_some(operations),
            whens,
            namespace,
        )
    }

    fn parts<'b>(
        &self,
        sources: Option<impl Iterator<Item = &'b Source>>,
        operations: Option<impl Iterator<Item = &'b Operation>>,
        whens: impl Iterator<Item = &'b Condition>,
        namespace: &str,
    ) -> Match {
        let from = sources.map_or(YES, |all| any(all.map(|it| self.source(it, namespace))));
        let to = operations.map_or(YES, |all| any(all.map(|it| self.operation(it))));
        whens.fold(and(from, to), |all, when| and(all, self.condition(when)))
    }

    /// Any of some values, and none of others.
    fn listed(
        &self,
        values: &[Box<str>],
        not_values: &[Box<str>],
        test: impl Fn(&str) -> Match,
    ) -> Match {
        let positive = match values {
            [] => YES,
            values => any(values.iter().map(|value| test(value))),
        };
        and(
            positive,
            not(any(not_values.iter().map(|value| test(value)))),
        )
    }

    /// A value that mutual TLS proves. Without it nothing matches, so that its negation does.
    fn proved(&self, pattern: &str, test: impl Fn(&Identity) -> bool) -> Match {
        match &self.who {
            Who::Proved(identity) => (Certainty::from(test(identity)), None),
            Who::Nobody => NO,
            Who::Somebody if pattern == "*" => YES,
            Who::Somebody => unknown("who calls is not known"),
            Who::Unknown => unknown("whether it came by mutual TLS is not known"),
        }
    }

    fn source(&self, source: &Source, own_namespace: &str) -> Match {
        let principal =
            |pattern: &str| self.proved(pattern, |it| self.istio.principal_matches(pattern, it));
        let namespace =
            |pattern: &str| self.proved(pattern, |it| pattern_matches(pattern, &it.namespace));
        let account = |written: &str| {
            let (namespace, name) = written.split_once('/').unwrap_or((own_namespace, written));
            self.proved(written, |it| {
                *it.namespace == *namespace && *it.service_account == *name
            })
        };
        let domain =
            |pattern: &str| self.proved(pattern, |it| pattern_matches(pattern, &it.trust_domain));
        let address = |network: &str| self.from_network(network);
        let mut all = self.listed(&source.principals, &source.not_principals, principal);
        all = and(
            all,
            self.listed(&source.namespaces, &source.not_namespaces, namespace),
        );
        all = and(
            all,
            self.listed(
                &source.service_accounts,
                &source.not_service_accounts,
                account,
            ),
        );
        all = and(
            all,
            self.listed(&source.trust_domains, &source.not_trust_domains, domain),
        );
        all = and(
            all,
            self.listed(&source.ip_blocks, &source.not_ip_blocks, address),
        );
        if source.names_requests() && self.layer == Layer::Requests {
            all = and(all, unknown("tokens are not kept"));
        }
        if source.names_remote() && self.layer != Layer::Node {
            all = and(all, unknown("addresses behind proxies are not kept"));
        }
        all
    }

    fn from_network(&self, network: &str) -> Match {
        let Some(address) = self.address else {
            return unknown("the client's address is not known");
        };
        // What is no network matches nothing.
        (
            Certainty::from(contains(network, address) == Some(true)),
            None,
        )
    }

    fn operation(&self, operation: &Operation) -> Match {
        let mut all = self.listed(&operation.ports, &operation.not_ports, |port| {
            self.to_port(port)
        });
        if self.layer != Layer::Requests {
            return all;
        }
        let request = &self.request;
        let seen = |value: &str, name: &'static str, test: &dyn Fn() -> bool| match value {
            "" => unknown(name),
            _ => (Certainty::from(test()), None),
        };
        let host = |pattern: &str| {
            seen(request.authority, "the authority is not known", &|| {
                let pattern = pattern.to_ascii_lowercase();
                pattern_matches(&pattern, &request.authority.to_ascii_lowercase())
            })
        };
        let method = |pattern: &str| {
            seen(request.method, "the method is not known", &|| {
                pattern_matches(pattern, request.method)
            })
        };
        let path = |pattern: &str| {
            seen(request.path, "the path is not known", &|| {
                path_matches(pattern, request.path)
            })
        };
        all = and(
            all,
            self.listed(&operation.hosts, &operation.not_hosts, host),
        );
        all = and(
            all,
            self.listed(&operation.methods, &operation.not_methods, method),
        );
        and(
            all,
            self.listed(&operation.paths, &operation.not_paths, path),
        )
    }

    fn to_port(&self, port: &str) -> Match {
        match (self.port, port.parse::<u16>()) {
            (_, Err(_)) => NO,
            (0, _) => unknown("the port is not known"),
            (own, Ok(port)) => (Certainty::from(own == port), None),
        }
    }

    fn condition(&self, condition: &Condition) -> Match {
        let (values, not_values) = (&condition.values, &condition.not_values);
        match &*condition.key {
            "source.ip" => self.listed(values, not_values, |it| self.from_network(it)),
            "source.namespace" => self.listed(values, not_values, |pattern| {
                self.proved(pattern, |it| pattern_matches(pattern, &it.namespace))
            }),
            "source.principal" => self.listed(values, not_values, |pattern| {
                self.proved(pattern, |it| self.istio.principal_matches(pattern, it))
            }),
            "destination.port" => self.listed(values, not_values, |it| self.to_port(it)),
            key if key.starts_with("request.") && self.layer != Layer::Requests => YES,
            key => match self.field(key) {
                Some(value) => self.listed(values, not_values, |pattern| {
                    (Certainty::from(pattern_matches(pattern, value)), None)
                }),
                None => unknown(format!("{key} is not kept")),
            },
        }
    }

    /// Value of `request.headers[name]`, where it is known.
    fn field(&self, key: &str) -> Option<&str> {
        let name = key
            .strip_prefix("request.headers[")
            .and_then(|rest| rest.strip_suffix(']'))?;
        let mut known = self.request.headers.iter();
        let (_, value) = known.find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        Some(value)
    }
}

#[cfg(test)]
mod tests;
