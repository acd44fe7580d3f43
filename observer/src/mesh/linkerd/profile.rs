//! `ServiceProfile`s: routes, timeouts, retries and shares of a Service, in Linkerd's older way.

use std::{sync::Arc, time::Duration};

use regex::Regex;

use super::content::{ConditionContent, QuantityContent, ServiceProfileSpec};
use crate::{
    mesh::{
        decision::{Backend, Certainty, Decision, Reason, Request, Retries, Routing, Rule},
        duration::duration,
        pattern::pattern,
        policy::Misunderstood,
        shelf::{Shelf, Three, Triple, Two},
    },
    model::policy::{ObjectRef, PolicyObject},
};

/// Name of the route of what no other matches.
const DEFAULT: &str = "[DEFAULT]";
/// Deepest that conditions are looked into.
const DEEPEST: usize = 16;
/// Most routes that are told when it cannot be told which one it is.
const CANDIDATES: usize = 8;

/// A `ServiceProfile`.
#[derive(Debug)]
pub(super) struct Profile {
    object: ObjectRef,
    created: u64,
    /// Namespace and name of its Service.
    service: Two,
    routes: Vec<ProfileRoute>,
    overrides: Vec<Backend>,
    opaque_ports: Vec<u16>,
}

/// All `ServiceProfile`s.
#[derive(Debug, Default)]
pub(super) struct Profiles {
    /// By their own namespace, and namespace and name of the Service.
    shelf: Shelf<Three, Profile>,
}

#[derive(Debug)]
struct ProfileRoute {
    name: Box<str>,
    condition: Condition,
    retryable: bool,
    timeout: Option<Duration>,
}

/// All that is there must be true.
#[derive(Debug)]
struct Condition {
    path: Option<Regex>,
    method: Option<Box<str>>,
    all: Vec<Condition>,
    any: Vec<Condition>,
    not: Option<Box<Condition>>,
}

// === impl Profiles ===

impl Profiles {
    pub(super) fn insert(&mut self, uid: &str, profile: &Arc<Profile>) {
        let (namespace, name) = profile.service.clone();
        let key = (profile.object.namespace.clone(), namespace, name);
        self.shelf.insert(key, uid, profile.clone());
    }

    pub(super) fn remove(&mut self, uid: &str, profile: &Profile) {
        let (namespace, name) = &profile.service;
        let key = Triple(&profile.object.namespace, namespace, name);
        self.shelf.remove(&key, uid);
    }

    /// The one that counts for a client of a namespace: that of its own namespace, or else of the
    /// Service's.
    pub(super) fn of(&self, client: &str, namespace: &str, name: &str) -> Option<&Arc<Profile>> {
        let of = |own: &str| {
            let all = self.shelf.get(&Triple(own, namespace, name));
            // Of two of one name the later is there still.
            all.max_by_key(|it| (it.created, &it.object))
        };
        of(client).or_else(|| of(namespace))
    }
}

// === impl Profile ===

impl Profile {
    pub(super) fn read(
        object: &PolicyObject,
        spec: ServiceProfileSpec,
    ) -> Result<Self, Misunderstood> {
        // `cart.shop.svc.cluster.local`
        let mut parts = object.name.splitn(4, '.');
        let service = match (parts.next(), parts.next(), parts.next()) {
            (Some(name), Some(namespace), Some("svc")) => (namespace.into(), name.into()),
            _ => {
                return Err(format!("metadata.name: `{}` names no Service", object.name));
            }
        };
        let routes = spec.routes.into_iter().enumerate().map(|(number, route)| {
            let at = |problem| format!("spec.routes[{number}].{problem}");
            let timeout = match &*route.timeout {
                "" => None,
                text => Some(
                    duration(text)
                        .ok_or_else(|| at(format!("timeout: `{text}` is no duration")))?,
                ),
            };
            Ok(ProfileRoute {
                condition: Condition::read(route.condition, 0)
                    .map_err(|problem| at(format!("condition: {problem}")))?,
                name: route.name,
                retryable: route.is_retryable,
                timeout: timeout.filter(|timeout| !timeout.is_zero()),
            })
        });
        let overrides = spec.dst_overrides.iter().enumerate().map(|(number, it)| {
            let weight = it
                .weight
                .value()
                .ok_or_else(|| format!("spec.dstOverrides[{number}].weight: it is no quantity"))?;
            Ok((it.authority.clone(), weight))
        });
        let overrides: Vec<(Box<str>, f64)> = overrides.collect::<Result<_, Misunderstood>>()?;
        let sum: f64 = overrides.iter().map(|(_, weight)| weight).sum();
        Ok(Self {
            object: object.reference(),
            created: object.created,
            service,
            routes: routes.collect::<Result<_, Misunderstood>>()?,
            overrides: overrides
                .into_iter()
                .filter(|(_, weight)| *weight > 0.0)
                .map(|(authority, weight)| backend(&authority, weight / sum))
                .collect(),
            opaque_ports: spec
                .opaque_ports
                .keys()
                .filter_map(|port| port.parse().ok())
                .collect(),
        })
    }

    /// What it was read from.
    pub(super) fn object(&self) -> &ObjectRef {
        &self.object
    }

    /// Namespace and name of its Service.
    pub(super) fn service(&self) -> (&str, &str) {
        (&self.service.0, &self.service.1)
    }

    /// Whether it says how requests are routed: proxies then pass over routes of other kinds.
    pub(super) fn routes(&self) -> bool {
        !self.routes.is_empty() || !self.overrides.is_empty()
    }

    /// Whether it says that a port is not to be read as HTTP.
    pub(super) fn opaque(&self, port: u16) -> bool {
        self.opaque_ports.contains(&port)
    }

    /// How it routes a request. `own`: the Service itself.
    pub(super) fn routing(&self, request: &Request<'_>, own: &Backend) -> Decision<Routing> {
        let mut open: Vec<usize> = Vec::new();
        for (number, route) in self.routes.iter().enumerate() {
            match route.condition.holds(request) {
                Certainty::No => {}
                Certainty::Yes if open.is_empty() => {
                    let text = format!("route {} matches", route.name);
                    return self.decided(self.rule(Some(number), own), text);
                }
                certainty => {
                    open.push(number);
                    if certainty == Certainty::Yes {
                        break;
                    }
                }
            }
        }
        if open.is_empty() {
            if self.overrides.is_empty() {
                let text = "no route of it matches: it goes to the Service as it is";
                let reason = Reason::of(self.object.clone(), text);
                return Decision::by(Routing::Undeclared, reason);
            }
            return self.decided(self.rule(None, own), "no route of it matches".to_owned());
        }
        open.truncate(CANDIDATES);
        let candidates = open.iter().map(|number| self.rule(Some(*number), own));
        Decision::by(
            Routing::Unknown {
                candidates: candidates.collect(),
                why: "what was asked for is not known".into(),
            },
            Reason::of(self.object.clone(), "a route of it may match"),
        )
    }

    /// All of its rules.
    pub(super) fn rules(&self, own: &Backend) -> Vec<Rule> {
        let rules = (0..self.routes.len()).map(|number| self.rule(Some(number), own));
        let default = (!self.overrides.is_empty()).then(|| self.rule(None, own));
        rules.chain(default).collect()
    }

    fn decided(&self, rule: Rule, text: String) -> Decision<Routing> {
        let reason = Reason::of(self.object.clone(), text);
        Decision::by(Routing::Rule(Box::new(rule)), reason)
    }

    fn rule(&self, number: Option<usize>, own: &Backend) -> Rule {
        let route = number.and_then(|number| self.routes.get(number));
        let retryable = route.is_some_and(|route| route.retryable);
        Rule {
            object: self.object.clone(),
            name: route.map_or_else(|| DEFAULT.into(), |route| route.name.clone()),
            backends: if self.overrides.is_empty() {
                vec![own.clone()]
            } else {
                self.overrides.clone()
            },
            timeout: route.and_then(|route| route.timeout),
            // A budget is the only limit.
            retries: Some(Retries {
                attempts: if retryable { u32::MAX } else { 0 },
                per_try: None,
            }),
            mirrors: Vec::new(),
            fault: None,
            answers: false,
            partial: None,
        }
    }
}

fn backend(authority: &str, share: f64) -> Backend {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() => (host, port.parse().unwrap_or(0)),
        _ => (authority, 0),
    };
    Backend {
        host: host.into(),
        port,
        share,
        ..Backend::default()
    }
}

// === impl Condition ===

impl Condition {
    fn read(content: ConditionContent, depth: usize) -> Result<Self, Misunderstood> {
        if depth >= DEEPEST {
            return Err(format!("it is more than {DEEPEST} deep"));
        }
        let every = |list: Vec<ConditionContent>| -> Result<Vec<Self>, Misunderstood> {
            let all = list.into_iter();
            all.map(|it| Self::read(it, depth + 1)).collect()
        };
        let it = Self {
            path: match &*content.path_regex {
                "" => None,
                text => Some(pattern(text)?),
            },
            method: (!content.method.is_empty()).then_some(content.method),
            all: every(content.all)?,
            any: every(content.any)?,
            not: match content.not {
                Some(not) => Some(Box::new(Self::read(*not, depth + 1)?)),
                None => None,
            },
        };
        let empty = it.path.is_none()
            && it.method.is_none()
            && it.all.is_empty()
            && it.any.is_empty()
            && it.not.is_none();
        if empty {
            return Err("nothing is in it".to_owned());
        }
        Ok(it)
    }

    fn holds(&self, request: &Request<'_>) -> Certainty {
        let known = |text: &str, holds: &dyn Fn(&str) -> bool| match text {
            "" => Certainty::Unknown,
            text => holds(text).into(),
        };
        let path = self.path.as_ref().map_or(Certainty::Yes, |pattern| {
            known(request.path, &|path| pattern.is_match(path))
        });
        let method = self.method.as_ref().map_or(Certainty::Yes, |method| {
            known(request.method, &|it| it.eq_ignore_ascii_case(method))
        });
        let all = self.all.iter().map(|it| it.holds(request));
        let any = if self.any.is_empty() {
            Certainty::Yes
        } else {
            let any = self.any.iter().map(|it| it.holds(request));
            any.fold(Certainty::No, Certainty::or)
        };
        let not = self
            .not
            .as_ref()
            .map_or(Certainty::Yes, |it| it.holds(request).not());
        all.fold(path.and(method).and(any).and(not), Certainty::and)
    }
}

// === impl QuantityContent ===

impl QuantityContent {
    /// `None` when it is none, or negative.
    fn value(&self) -> Option<f64> {
        let value = match self {
            Self::Number(number) => *number,
            Self::Text(text) => {
                let (number, factor) = [
                    ("n", 1e-9),
                    ("u", 1e-6),
                    ("m", 1e-3),
                    ("k", 1e3),
                    ("M", 1e6),
                    ("G", 1e9),
                ]
                .into_iter()
                .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)))
                .unwrap_or((text, 1.0));
                number.parse::<f64>().ok()? * factor
            }
        };
        (value.is_finite() && value >= 0.0).then_some(value)
    }
}
