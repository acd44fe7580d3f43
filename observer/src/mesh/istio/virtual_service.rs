//! How requests are routed, as it is declared: VirtualService.

mod spec;

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use self::spec::{
    DestinationSpec, FaultSpec, MatchSpec, MirrorSpec, Percent, RouteSpec, Spec, WeightSpec,
};
use super::{
    names::full_name,
    read::{self, Text, TextSpec},
    store::{Declared, Export, Labels, Meta},
};
use crate::{
    mesh::{
        decision::{Backend, Fault, Rule},
        policy::Misunderstood,
    },
    model::policy::PolicyObject,
};

/// Gateway that stands for all sidecars.
const MESH: &str = "mesh";

/// A VirtualService.
#[derive(Debug)]
pub(super) struct VirtualService {
    meta: Meta,
    /// In full; empty for one that others delegate to.
    pub(super) hosts: Vec<Box<str>>,
    /// Whether sidecars follow it, not only gateways.
    pub(super) in_mesh: bool,
    pub(super) export: Export,
    pub(super) http: Vec<Arc<DeclaredRoute>>,
    pub(super) tls: Vec<Arc<DeclaredRoute>>,
    pub(super) tcp: Vec<Arc<DeclaredRoute>>,
}

/// A rule, ready to compare with requests.
#[derive(Debug)]
pub(super) struct DeclaredRoute {
    /// Any of them; empty matches all.
    pub(super) matches: Vec<Match>,
    /// Namespace and name of the VirtualService whose rules stand here.
    pub(super) delegate: Option<(Box<str>, Box<str>)>,
    /// What it comes to, but for the labels of subsets.
    pub(super) rule: Rule,
    pub(super) rewrite: Option<Rewrite>,
}

/// What a rule changes of a request before the server gets it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewrite {
    /// The authority; empty for none.
    pub authority: Box<str>,
    /// The path, or the prefix that matched; empty for none.
    pub path: Box<str>,
}

/// All that is said must be so.
#[derive(Debug, Default)]
pub(super) struct Match {
    /// Whether it is for sidecars.
    pub(super) in_mesh: bool,
    pub(super) path: Option<Text>,
    pub(super) ignore_case: bool,
    pub(super) method: Option<Text>,
    pub(super) authority: Option<Text>,
    /// It asks for a scheme or for parameters of the query, which are not kept.
    pub(super) unseen: Option<&'static str>,
    pub(super) headers: Vec<(Box<str>, Text)>,
    pub(super) without_headers: Vec<(Box<str>, Text)>,
    /// Of the Service; 0 for any.
    pub(super) port: u16,
    pub(super) source_labels: Labels,
    pub(super) source_namespace: Box<str>,
    /// Server names of TLS; empty for any. May begin with `*`.
    pub(super) server_names: Vec<Box<str>>,
    /// Networks of destinations; empty for any.
    pub(super) networks: Vec<Box<str>>,
}

/// What rules are read with.
struct Reader<'a> {
    meta: &'a Meta,
    /// Whether sidecars follow those that do not say whom they are for.
    in_mesh: bool,
    problem: Option<Misunderstood>,
}

// === impl VirtualService ===

impl VirtualService {
    /// It is used also where there is a problem: a pattern that cannot be read leaves its rule
    /// undecided, and the others as they are.
    pub(super) fn read(
        object: &PolicyObject,
    ) -> Result<(Self, Option<Misunderstood>), Misunderstood> {
        let spec: Spec = read::spec(object)?;
        let meta = Meta::of(object);
        let in_mesh = spec.gateways.is_empty() || spec.gateways.iter().any(|it| **it == *MESH);
        let mut reader = Reader {
            meta: &meta,
            in_mesh,
            problem: None,
        };
        let mut list = |of: &'static str, routes: Vec<RouteSpec>| {
            let routes = routes.into_iter().enumerate();
            routes
                .map(|(index, route)| Arc::new(reader.route(of, index, route)))
                .collect::<Vec<_>>()
        };
        let http = list("http", spec.http);
        let tls = list("tls", spec.tls);
        let tcp = list("tcp", spec.tcp);
        let problem = reader.problem;
        let hosts = spec.hosts.iter();
        let hosts = hosts
            .map(|host| {
                full_name(host, &object.namespace)
                    .to_ascii_lowercase()
                    .into()
            })
            .collect();
        // One match for sidecars is enough.
        let any_in_mesh = [&http, &tls, &tcp].iter().any(|routes| {
            let mut matches = routes.iter().flat_map(|route| &route.matches);
            matches.any(|it| it.in_mesh)
        });
        let service = Self {
            meta,
            hosts,
            in_mesh: in_mesh || any_in_mesh,
            export: spec.export_to,
            http,
            tls,
            tcp,
        };
        Ok((service, problem))
    }

    /// All lists, with what each is of.
    pub(super) fn lists(&self) -> [&[Arc<DeclaredRoute>]; 3] {
        [&self.http, &self.tls, &self.tcp]
    }
}

impl Declared for VirtualService {
    fn meta(&self) -> &Meta {
        &self.meta
    }
}

// === impl Reader ===

impl Reader<'_> {
    fn route(&mut self, of: &'static str, index: usize, spec: RouteSpec) -> DeclaredRoute {
        let namespace = self.meta.namespace();
        let mut partial: Option<Cow<'static, str>> = None;
        let backends = backends(&spec.route, namespace, &mut partial);
        let mut matches: Vec<Match> = spec
            .r#match
            .into_iter()
            .enumerate()
            .map(|(at, written)| {
                self.condition(|| format!("spec.{of}[{index}].match[{at}]"), written)
            })
            .collect();
        if matches.is_empty() && !self.in_mesh {
            // What matches all does so for those that the object is for.
            matches.push(Match::default());
        }
        let unreadable = |text: &Text| matches!(text, Text::Unreadable);
        if matches.iter().any(|it| it.texts().any(unreadable)) {
            partial.get_or_insert("a pattern of it cannot be read".into());
        }
        let name = match &*spec.name {
            // Numbers of lists would be mistaken for each other.
            "" if of == "http" => index.to_string().into(),
            "" => format!("{of}-{index}").into(),
            name => name.into(),
        };
        DeclaredRoute {
            matches,
            delegate: spec.delegate.map(|delegate| match &*delegate.namespace {
                "" => (namespace.into(), delegate.name),
                _ => (delegate.namespace, delegate.name),
            }),
            rule: Rule {
                object: self.meta.reference.clone(),
                name,
                backends,
                timeout: spec.timeout.filter(|timeout| !timeout.is_zero()),
                retries: spec.retries.map(|retries| retries.retries()),
                mirrors: mirrors(
                    spec.mirrors,
                    spec.mirror,
                    spec.mirror_percentage
                        .map(|it| it.value)
                        .or(spec.mirror_percent),
                    namespace,
                ),
                fault: spec.fault.and_then(fault),
                answers: spec.redirect.is_some() || spec.direct_response.is_some(),
                partial,
            },
            rewrite: spec.rewrite.map(|rewrite| Rewrite {
                authority: rewrite.authority,
                path: if rewrite.uri.is_empty() {
                    rewrite.uri_regex_rewrite.rewrite
                } else {
                    rewrite.uri
                },
            }),
        }
    }

    fn condition(&mut self, path: impl Fn() -> String, spec: MatchSpec) -> Match {
        let problem = &mut self.problem;
        let mut text = |field: &str, written: Option<TextSpec>| {
            written.map(|it| it.ready(|| format!("{}.{field}", path()), problem))
        };
        let uri = text("uri", spec.uri);
        let method = text("method", spec.method);
        let authority = text("authority", spec.authority);
        let mut fields = |field: &str, written: BTreeMap<Box<str>, TextSpec>| {
            let ready = written.into_iter().filter_map(|(name, value)| {
                let value = text(&format!("{field}.{name}"), Some(value))?;
                Some((name.to_ascii_lowercase().into(), value))
            });
            ready.collect::<Vec<(Box<str>, Text)>>()
        };
        Match {
            in_mesh: match &*spec.gateways {
                [] => self.in_mesh,
                gateways => gateways.iter().any(|gateway| **gateway == *MESH),
            },
            path: uri,
            ignore_case: spec.ignore_uri_case,
            method,
            authority,
            unseen: if spec.scheme.is_some() {
                Some("the scheme")
            } else if !spec.query_params.is_empty() {
                Some("the query")
            } else {
                None
            },
            headers: fields("headers", spec.headers),
            without_headers: fields("withoutHeaders", spec.without_headers),
            port: spec.port,
            source_labels: spec.source_labels,
            source_namespace: spec.source_namespace,
            server_names: spec.sni_hosts,
            networks: spec.destination_subnets,
        }
    }
}

/// Shares are relative; a lone destination gets all, whatever its weight.
fn backends(
    routes: &[WeightSpec],
    namespace: &str,
    partial: &mut Option<Cow<'static, str>>,
) -> Vec<Backend> {
    let weight = |route: &WeightSpec| route.weight.max(0) as f64;
    let sum: f64 = routes.iter().map(weight).sum();
    let share = |route| match routes.len() {
        1 => 1.0,
        _ if sum > 0.0 => weight(route) / sum,
        _ => 0.0,
    };
    if routes.len() > 1 && sum == 0.0 {
        *partial = Some("no destination has a weight".into());
    }
    routes
        .iter()
        .map(|route| route.destination.backend(namespace, share(route)))
        .collect()
}

fn mirrors(
    list: Vec<MirrorSpec>,
    single: Option<DestinationSpec>,
    percent: Option<f64>,
    namespace: &str,
) -> Vec<(Backend, f64)> {
    let all = if list.is_empty() {
        let single = single.map(|destination| (destination, percent));
        single.into_iter().collect()
    } else {
        let list = list.into_iter();
        list.map(|it| (it.destination, it.percentage.map(|it| it.value)))
            .collect::<Vec<_>>()
    };
    all.into_iter()
        .map(|(destination, percent)| {
            let share = share_of(percent.unwrap_or(100.0));
            (destination.backend(namespace, 1.0), share)
        })
        .filter(|(_, share)| *share > 0.0)
        .collect()
}

/// Without a percentage nothing is injected.
fn fault(spec: FaultSpec) -> Option<Fault> {
    let abort = spec.abort.unwrap_or_default();
    let delay = spec.delay.unwrap_or_default();
    let percent = |percent: Option<Percent>| percent.map(|it| it.value);
    let fault = Fault {
        abort_share: share_of(percent(abort.percentage).unwrap_or(0.0)),
        abort_status: abort.http_status,
        delay_share: share_of(percent(delay.percentage).or(delay.percent).unwrap_or(0.0)),
        delay: delay.fixed_delay.unwrap_or_default(),
    };
    (fault.abort_share > 0.0 || fault.delay_share > 0.0).then_some(fault)
}

fn share_of(percent: f64) -> f64 {
    (percent / 100.0).clamp(0.0, 1.0)
}

// === impl DeclaredRoute ===

impl DeclaredRoute {
    /// Whether every request of a sidecar matches it, as far as that can be told without one.
    pub(super) fn takes_all(&self) -> bool {
        self.delegate.is_none()
            && (self.matches.is_empty() || self.matches.iter().any(Match::takes_all))
    }
}

// === impl Match ===

impl Match {
    fn texts(&self) -> impl Iterator<Item = &Text> {
        let fields = self.headers.iter().chain(&self.without_headers);
        let single = [&self.path, &self.method, &self.authority];
        single
            .into_iter()
            .flatten()
            .chain(fields.map(|(_, text)| text))
    }

    fn takes_all(&self) -> bool {
        let all = match &self.path {
            None | Some(Text::Present) => true,
            Some(Text::Prefix(prefix)) => matches!(&**prefix, "/" | ""),
            Some(_) => false,
        };
        all && self.in_mesh
            && self.method.is_none()
            && self.authority.is_none()
            && self.unseen.is_none()
            && self.headers.is_empty()
            && self.without_headers.is_empty()
            && self.port == 0
            && self.source_labels.is_empty()
            && self.source_namespace.is_empty()
            && self.server_names.is_empty()
            && self.networks.is_empty()
    }
}

#[cfg(test)]
mod tests;
