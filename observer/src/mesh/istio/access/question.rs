//! Whether a policy matches a call, as far as that is known, to the proxy that decides.

use std::{borrow::Cow, net::IpAddr};

use crate::{
    mesh::{
        decision::{Certainty, Request},
        istio::{
            Istio,
            authorization::{
                Action, AuthorizationPolicy, Condition, Operation, RuleSpec, Source, path_matches,
                pattern_matches,
            },
            plane::contains,
            store::Declared,
        },
    },
    model::mesh::Identity,
};

/// What the proxy that decides understands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Layer {
    /// Requests.
    Requests,
    /// Connections, by a proxy that would know requests.
    Connections,
    /// Connections, by the node's proxy.
    Node,
}

/// Who calls, as the proxy that decides knows it.
pub(super) enum Who<'a> {
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
pub(super) struct Question<'a> {
    pub(super) istio: &'a Istio,
    pub(super) layer: Layer,
    pub(super) who: Who<'a>,
    pub(super) address: Option<IpAddr>,
    /// 0 when unknown.
    pub(super) port: u16,
    pub(super) request: Request<'a>,
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

// === impl Question ===

impl Question<'_> {
    /// Whether any rule matches, what cannot be told, and the number of the rule that decided.
    pub(super) fn policy(
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
        let address = |network: &str| self.in_network(network);
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

    fn in_network(&self, network: &str) -> Match {
        let Some(address) = self.address else {
            return unknown("the client's address is not known");
        };
        // What is no network matches nothing.
        (Certainty::from(contains(network, address)), None)
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
            "source.ip" => self.listed(values, not_values, |it| self.in_network(it)),
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
