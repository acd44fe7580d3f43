//! Whether a request may pass: AuthorizationPolicies, in the order of the proxies.

mod question;

use std::{borrow::Cow, sync::Arc};

use self::question::{Layer, Question, Who};
use super::{
    Istio,
    authorization::{Action, AuthorizationPolicy, service_for, services_of},
    names::resolve,
    plane::has_sidecar,
    store::Declared,
};
use crate::{
    mesh::{
        decision::{Access, Caller, Certainty, Decision, Reason, Request},
        policy::Context,
    },
    model::{
        kubernetes::Pod,
        mesh::{Identity, Plane},
    },
};

/// Most reasons that are given.
const MAX_REASONS: usize = 16;

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

#[cfg(test)]
mod tests;
