//! A route: its parents and who accepted it, its rules, and what each comes to.

use std::time::Duration;

use super::{
    content::{
        BackendContent, Condition, FilterContent, MirrorContent, ParentContent, ParentStatus,
        RouteContent, RuleContent,
    },
    hostname::Hostname,
    matching::Match,
};
use crate::{
    mesh::{
        decision::{Backend, Retries, Rule},
        duration::duration,
        policy::{Context, Misunderstood},
    },
    model::policy::{ObjectRef, PolicyKind, PolicyObject},
};

/// A route of any kind, also Linkerd's own.
#[derive(Debug)]
pub(in crate::mesh) struct Route {
    /// What it was read from.
    pub(in crate::mesh) object: ObjectRef,
    /// Its kind.
    pub(in crate::mesh) kind: PolicyKind,
    /// When it was made; those of which it is not known are last.
    pub(in crate::mesh) created: u64,
    /// Its annotations, sorted by name.
    pub(in crate::mesh) annotations: Box<[(Box<str>, Box<str>)]>,
    /// Hosts that it is about; all when there are none.
    pub(in crate::mesh) hostnames: Vec<Hostname>,
    /// Where it is in effect, or wants to be.
    pub(in crate::mesh) parents: Vec<ParentRef>,
    /// Its rules, in order.
    pub(in crate::mesh) rules: Vec<RouteRule>,
}

/// What a route may be attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::mesh) enum ParentKind {
    /// A Gateway.
    Gateway,
    /// A Service, for what is dialled by its cluster IP.
    Service,
    /// Linkerd's `Server`, for what comes in.
    Server,
    /// Linkerd's `EgressNetwork`, for what goes out of the cluster.
    EgressNetwork,
}

/// A parent that a route names.
#[derive(Clone, Debug)]
pub(in crate::mesh) struct ParentRef {
    /// What it is.
    pub(in crate::mesh) kind: ParentKind,
    /// Its namespace.
    pub(in crate::mesh) namespace: Box<str>,
    /// Its name.
    pub(in crate::mesh) name: Box<str>,
    /// A listener of a Gateway, a named port of a Service; empty for all.
    pub(in crate::mesh) section: Box<str>,
    /// A port of it; `None` for all.
    pub(in crate::mesh) port: Option<u16>,
    /// What controllers say of it.
    pub(in crate::mesh) claims: Vec<Claim>,
}

/// What a controller says of a route at a parent.
#[derive(Clone, Debug)]
pub(in crate::mesh) struct Claim {
    /// Its name.
    pub(in crate::mesh) controller: Box<str>,
    /// Condition `Accepted`.
    pub(in crate::mesh) accepted: Option<bool>,
    /// Condition `ResolvedRefs`.
    pub(in crate::mesh) resolved: Option<bool>,
    /// Why not, as it says.
    pub(in crate::mesh) reason: Box<str>,
}

/// A rule of a route.
#[derive(Debug)]
pub(in crate::mesh) struct RouteRule {
    /// Its name, or its number from 0.
    pub(in crate::mesh) name: Box<str>,
    /// Any of them will do; never empty.
    pub(in crate::mesh) matches: Vec<Match>,
    /// Whole time.
    pub(in crate::mesh) timeout: Option<Duration>,
    /// Time of one attempt.
    pub(in crate::mesh) attempt_timeout: Option<Duration>,
    /// Attempts after the first, where their number is declared.
    pub(in crate::mesh) retries: Option<u32>,
    backends: Vec<BackendRef>,
    mirrors: Vec<(BackendRef, f64)>,
    redirects: bool,
    partial: Option<String>,
}

/// What a rule is looked at with.
#[derive(Clone, Copy, Debug)]
pub(in crate::mesh) struct Surroundings<'a> {
    /// Services.
    pub(in crate::mesh) context: &'a Context,
    /// Whether a namespace lets routes of another lead to a Service; `None` where nobody asks.
    pub(in crate::mesh) grants: Option<&'a super::grant::Grants>,
    /// Where rules lead that name no backend; `None` where these are answered with 500.
    pub(in crate::mesh) own: Option<&'a Backend>,
}

#[derive(Debug)]
struct BackendRef {
    /// `group/kind` of what is no Service; empty for a Service.
    other: Box<str>,
    namespace: Box<str>,
    name: Box<str>,
    port: u16,
    weight: u32,
}

// === impl Route ===

impl Route {
    /// Reads one.
    pub(in crate::mesh) fn read(
        object: &PolicyObject,
        content: RouteContent,
    ) -> Result<Self, Misunderstood> {
        let statuses = &content.status.parents;
        let parents = content.spec.parent_refs.iter();
        let rules = content.spec.rules.into_iter().enumerate();
        Ok(Self {
            object: object.reference(),
            kind: object.kind,
            created: match object.created {
                0 => u64::MAX,
                created => created,
            },
            annotations: object.annotations.clone(),
            hostnames: content
                .spec
                .hostnames
                .iter()
                .map(|name| Hostname::new(name))
                .collect(),
            parents: parents
                .filter_map(|parent| ParentRef::read(parent, &object.namespace, statuses))
                .collect(),
            rules: rules
                .map(|(number, rule)| {
                    RouteRule::read(number, rule, &object.namespace)
                        .map_err(|problem| format!("spec.rules[{number}]: {problem}"))
                })
                .collect::<Result<_, _>>()?,
        })
    }

    /// What one of its rules comes to.
    pub(in crate::mesh) fn rule(&self, number: usize, around: Surroundings<'_>) -> Option<Rule> {
        let rule = self.rules.get(number)?;
        let mut problems: Vec<String> = rule.partial.iter().cloned().collect();
        let sum: f64 = rule.backends.iter().map(|it| f64::from(it.weight)).sum();
        let mut backends = Vec::new();
        for backend in rule.backends.iter().filter(|backend| backend.weight > 0) {
            let share = f64::from(backend.weight) / sum;
            problems.extend(backend.problem(self, around));
            backends.push(backend.leads(share));
        }
        if rule.backends.is_empty() && !rule.redirects {
            match around.own {
                Some(own) => backends.push(own.clone()),
                None => problems.push("it names no backend: it is answered with 500".to_owned()),
            }
        } else if backends.is_empty() && !rule.redirects {
            problems.push("all weights are 0: it is answered with 500".to_owned());
        }
        let mirrors = rule.mirrors.iter().map(|(backend, share)| {
            problems.extend(backend.problem(self, around));
            (backend.leads(*share), *share)
        });
        Some(Rule {
            object: self.object.clone(),
            name: rule.name.clone(),
            mirrors: mirrors.collect(),
            answers: rule.redirects || backends.is_empty(),
            backends: if rule.redirects { Vec::new() } else { backends },
            timeout: rule.timeout,
            retries: rule.retries.map(|attempts| Retries {
                attempts,
                per_try: rule.attempt_timeout,
            }),
            fault: None,
            partial: (!problems.is_empty()).then(|| problems.join("; ").into()),
        })
    }
}

// === impl ParentRef ===

impl ParentRef {
    fn read(content: &ParentContent, own: &str, statuses: &[ParentStatus]) -> Option<Self> {
        let kind = ParentKind::of(&content.group, &content.kind)?;
        let namespace = |it: &ParentContent| it.namespace.clone().unwrap_or_else(|| own.into());
        let same = |status: &&ParentStatus| {
            let other = &status.parent_ref;
            ParentKind::of(&other.group, &other.kind) == Some(kind)
                && namespace(other) == namespace(content)
                && other.name == content.name
                && other.section_name == content.section_name
                && other.port == content.port
        };
        Some(Self {
            kind,
            namespace: namespace(content),
            name: content.name.clone(),
            section: content.section_name.clone(),
            port: content.port,
            claims: statuses.iter().filter(same).map(Claim::read).collect(),
        })
    }

    /// Whether a controller of those that count has it in effect.
    pub(in crate::mesh) fn in_effect(&self, counts: fn(&str) -> bool) -> bool {
        let mut claims = self.claims.iter();
        claims.any(|claim| counts(&claim.controller) && claim.in_effect(self.kind))
    }

    /// Why it is not in effect with anybody; `None` when it is.
    pub(in crate::mesh) fn ignored(&self) -> Option<String> {
        if self.in_effect(|_| true) {
            return None;
        }
        let parent = format!("{} {}/{}", self.kind.as_str(), self.namespace, self.name);
        Some(match self.claims.first() {
            None => format!("{parent}: no controller has accepted it yet"),
            Some(claim) => {
                let condition = if claim.accepted == Some(true) {
                    "ResolvedRefs"
                } else {
                    "Accepted"
                };
                let (controller, reason) = (&claim.controller, &claim.reason);
                format!("{parent}: {controller} does not say that {condition} is True: {reason}")
            }
        })
    }
}

// === impl Claim ===

impl Claim {
    fn read(status: &ParentStatus) -> Self {
        let condition = |kind: &str| -> Option<&Condition> {
            status.conditions.iter().find(|it| *it.kind == *kind)
        };
        let is_true = |it: &Condition| *it.status == *"True";
        let (accepted, resolved) = (condition("Accepted"), condition("ResolvedRefs"));
        let failed = [accepted, resolved].into_iter().flatten();
        Self {
            controller: status.controller_name.clone(),
            accepted: accepted.map(is_true),
            resolved: resolved.map(is_true),
            reason: failed
                .filter(|it| !is_true(it))
                .map(|it| it.reason.clone())
                .next()
                .unwrap_or_else(|| "not told yet".into()),
        }
    }

    fn in_effect(&self, kind: ParentKind) -> bool {
        let resolved = match kind {
            ParentKind::Gateway | ParentKind::Service => self.resolved == Some(true),
            // Of what comes in, and goes out, Linkerd tells no more than that it is accepted.
            ParentKind::Server | ParentKind::EgressNetwork => self.resolved != Some(false),
        };
        self.accepted == Some(true) && resolved
    }
}

// === impl ParentKind ===

impl ParentKind {
    fn of(group: &str, kind: &str) -> Option<Self> {
        match (group, kind) {
            ("gateway.networking.k8s.io", "Gateway") => Some(Self::Gateway),
            // Linkerd takes the name of the group as well.
            ("" | "core", "Service") => Some(Self::Service),
            ("policy.linkerd.io", "Server") => Some(Self::Server),
            ("policy.linkerd.io", "EgressNetwork") => Some(Self::EgressNetwork),
            _ => None,
        }
    }

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "Gateway",
            Self::Service => "Service",
            Self::Server => "Server",
            Self::EgressNetwork => "EgressNetwork",
        }
    }
}

// === impl RouteRule ===

impl RouteRule {
    fn read(number: usize, content: RuleContent, own: &str) -> Result<Self, Misunderstood> {
        let time = |field: &str, text: &Option<Box<str>>| match text {
            Some(text) => duration(text)
                .map(|it| (!it.is_zero()).then_some(it))
                .ok_or_else(|| format!("timeouts.{field}: `{text}` is no duration")),
            None => Ok(None),
        };
        let timeout = time("request", &content.timeouts.request)?;
        let attempt_timeout = time("backendRequest", &content.timeouts.backend_request)?;
        let mut matches = content
            .matches
            .into_iter()
            .enumerate()
            .map(|(number, it)| {
                Match::read(it).map_err(|problem| format!("matches[{number}]: {problem}"))
            })
            .collect::<Result<Vec<_>, _>>()?;
        if matches.is_empty() {
            matches.push(Match::all());
        }
        let mut rule = Self {
            name: if content.name.is_empty() {
                number.to_string().into()
            } else {
                content.name
            },
            matches,
            timeout,
            attempt_timeout,
            retries: content.retry.and_then(|retry| retry.attempts),
            backends: content
                .backend_refs
                .into_iter()
                .map(|it| BackendRef::read(it, own))
                .collect(),
            mirrors: Vec::new(),
            redirects: false,
            partial: None,
        };
        for filter in content.filters {
            rule.add(filter, own);
        }
        Ok(rule)
    }

    fn add(&mut self, filter: FilterContent, own: &str) {
        match (&*filter.kind, filter.request_mirror) {
            ("RequestMirror", Some(mirror)) => {
                let share = mirror.share();
                let backend = BackendRef::read(mirror.backend_ref, own);
                self.mirrors.push((backend, share));
            }
            ("RequestRedirect", _) => self.redirects = true,
            ("RequestHeaderModifier" | "ResponseHeaderModifier" | "URLRewrite" | "CORS", _) => {}
            (other, _) => self.partial = Some(format!("filter `{other}` is not understood")),
        }
    }
}

// === impl MirrorContent ===

impl MirrorContent {
    fn share(&self) -> f64 {
        let share = match (self.percent, &self.fraction) {
            (Some(percent), _) => percent / 100.0,
            (None, Some(fraction)) => fraction.numerator / fraction.denominator.unwrap_or(100.0),
            (None, None) => 1.0,
        };
        if share.is_finite() {
            share.clamp(0.0, 1.0)
        } else {
            1.0
        }
    }
}

// === impl BackendRef ===

impl BackendRef {
    fn read(content: BackendContent, own: &str) -> Self {
        let kind = content.kind.as_deref().unwrap_or("Service");
        let other = match (&*content.group, kind) {
            ("" | "core", "Service") => Box::default(),
            (group, kind) => format!("{group}/{kind}").into(),
        };
        Self {
            other,
            namespace: content.namespace.unwrap_or_else(|| own.into()),
            name: content.name,
            port: content.port.unwrap_or(0),
            weight: content.weight.unwrap_or(1),
        }
    }

    fn leads(&self, share: f64) -> Backend {
        let host = if self.other.is_empty() {
            full_name(&self.namespace, &self.name)
        } else {
            self.name.clone()
        };
        Backend {
            host,
            port: self.port,
            share,
            ..Backend::default()
        }
    }

    /// Why its share is answered with 500, if it is.
    fn problem(&self, route: &Route, around: Surroundings<'_>) -> Option<String> {
        let (namespace, name) = (&*self.namespace, &*self.name);
        if !self.other.is_empty() {
            return Some(format!(
                "backend {name} of kind {} is not understood",
                self.other
            ));
        }
        let what = || format!("backend {name}.{namespace} is invalid, its share is refused: ");
        if let Some(grants) = around.grants
            && !grants.allow(route, namespace, name)
        {
            return Some(what() + "no ReferenceGrant lets this route lead there");
        }
        // Services may not be told yet.
        if around.context.services.is_empty() {
            return None;
        }
        match around.context.service(namespace, name) {
            None => Some(what() + "there is no such Service"),
            Some(service) if self.port != 0 => {
                let known = service.ports.iter().any(|port| port.port == self.port);
                (!known).then(|| what() + &format!("the Service has no port {}", self.port))
            }
            Some(_) => None,
        }
    }
}

/// Full name of a Service.
pub(in crate::mesh) fn full_name(namespace: &str, name: &str) -> Box<str> {
    format!("{name}.{namespace}.svc.cluster.local").into()
}
