//! What `/api/v1/node-graph` is asked for.

use std::time::Duration;

use crate::{
    aggregate::graph::{EdgeRow, Party, PartyKind, past},
    serve::filter::parse_duration,
};

/// Parameters of the query. One that is empty counts as absent, as variables of dashboards may be;
/// a list has commas between. An edge is shown when it matches all filters; what a filter says of a
/// party holds for either end. What is wrong is told with status 400.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Parameters {
    /// `window=30s`: rates and quantiles of the time that ends now, `10s` to `1h`; else `1m`.
    pub(super) window: Duration,
    /// `group=`: what is one node.
    pub(super) group: Group,
    /// `focus=NAME`: only what is within `depth` edges of this node, which is named by its id, its
    /// title, or `NAMESPACE/TITLE`.
    pub(super) focus: Option<String>,
    /// `depth=2`: 0 to 16, else 1; without `focus` it means nothing.
    pub(super) depth: usize,
    /// `limit=100`: most nodes, 1 to 1500 (the panel shows no more), else 1500.
    pub(super) limit: usize,
    /// `errors=true`: only edges where something failed, a call or a connection.
    pub(super) errors: bool,
    /// `min_rate=0.5`: only edges with so many requests per second.
    pub(super) min_rate: f64,
    filter: Filter,
}

/// What is one node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Group {
    /// `group=workload`: a workload of Kubernetes, a service of a host, a node, a network, a name.
    #[default]
    Workload,
    /// `group=namespace`: all of a namespace; others as by workload.
    Namespace,
    /// `group=service`: who is called is the Service of Kubernetes that was dialled, where the client
    /// was seen and dialled one; others as by workload.
    Service,
    /// `group=zone`: all of a zone; all without a known one are one node.
    Zone,
}

/// What edges must be to be shown; an empty list lets all pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Filter {
    /// `namespace=shop,pay`
    namespaces: Vec<String>,
    /// `workload=cart` or `workload=shop/cart`: workloads of Kubernetes.
    workloads: Vec<String>,
    /// `service=cart` or `service=shop/cart`: services of a host, and Services that are dialled.
    services: Vec<String>,
    /// `kind=workload,outside`, as in `/api/v1/graph`.
    kinds: Vec<PartyKind>,
    /// `protocol=http,grpc`
    protocols: Vec<String>,
    /// `security=plaintext,tls`; `encrypted` is all but `plaintext` and `unknown`.
    securities: Vec<String>,
}

/// Most nodes: what the panel shows at most.
const MOST_NODES: usize = 1_500;

/// Most edges between the focus and what is shown.
const DEEPEST: usize = 16;

const SHORTEST: Duration = Duration::from_secs(10);

const KINDS: [PartyKind; 8] = [
    PartyKind::Workload,
    PartyKind::Service,
    PartyKind::Node,
    PartyKind::Network,
    PartyKind::Name,
    PartyKind::Outside,
    PartyKind::Unknown,
    PartyKind::Overflow,
];

const SECURITIES: [&str; 7] = [
    "plaintext",
    "tls",
    "istio_mtls",
    "hbone",
    "linkerd_mtls",
    "unknown",
    "encrypted",
];

// === impl Parameters ===

impl Default for Parameters {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(60),
            group: Group::default(),
            focus: None,
            depth: 1,
            limit: MOST_NODES,
            errors: false,
            min_rate: 0.0,
            filter: Filter::default(),
        }
    }
}

impl Parameters {
    /// Reads the pairs of a query string; what is wrong comes back as a sentence.
    pub(super) fn parse(pairs: &[(String, String)]) -> Result<Self, String> {
        let mut parameters = Self::default();
        for (name, value) in pairs {
            let value = value.trim();
            if !value.is_empty() {
                parameters.set(name, value)?;
            }
        }
        Ok(parameters)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let wrong = |expected: &str| format!("{name}={value}: expected {expected}");
        let list = || -> Vec<String> {
            let parts = value.split(',').map(str::trim);
            parts
                .filter(|part| !part.is_empty())
                .map(str::to_owned)
                .collect()
        };
        let Filter {
            namespaces,
            workloads,
            services,
            kinds,
            protocols,
            securities,
        } = &mut self.filter;
        match name {
            "window" => {
                self.window = parse_window(value)
                    .filter(|window| (SHORTEST..=past::LONGEST).contains(window))
                    .ok_or_else(|| wrong("10s to 1h"))?;
            }
            "group" => {
                self.group = Group::parse(value)
                    .ok_or_else(|| wrong("workload, namespace, service or zone"))?;
            }
            "focus" => self.focus = Some(value.to_owned()),
            "depth" => {
                let depth = value.parse().ok().filter(|depth| *depth <= DEEPEST);
                self.depth = depth.ok_or_else(|| wrong("0 to 16"))?;
            }
            "limit" => {
                let limit = value.parse().ok();
                self.limit = limit
                    .filter(|limit| (1..=MOST_NODES).contains(limit))
                    .ok_or_else(|| wrong("1 to 1500"))?;
            }
            "errors" => {
                self.errors = value.parse().map_err(|_| wrong("true or false"))?;
            }
            "min_rate" => {
                let rate = value.parse().ok();
                self.min_rate = rate
                    .filter(|rate: &f64| rate.is_finite() && *rate >= 0.0)
                    .ok_or_else(|| wrong("requests per second, 0 or more"))?;
            }
            "namespace" => *namespaces = list(),
            "workload" => *workloads = list(),
            "service" => *services = list(),
            "protocol" => *protocols = list(),
            "kind" => {
                let known = |part: &String| KINDS.into_iter().find(|kind| kind.as_str() == part);
                let found: Option<Vec<PartyKind>> = list().iter().map(known).collect();
                *kinds = found.ok_or_else(|| wrong(&KINDS.map(PartyKind::as_str).join(", ")))?;
            }
            "security" => {
                *securities = list();
                if !securities
                    .iter()
                    .all(|part| SECURITIES.contains(&part.as_str()))
                {
                    return Err(wrong(&SECURITIES.join(", ")));
                }
            }
            _ => {
                return Err(format!(
                    "{name} is no parameter; there are window, group, focus, depth, limit, errors, \
                     min_rate, namespace, workload, service, kind, protocol, security"
                ));
            }
        }
        Ok(())
    }

    /// Whether an edge passes the filters that are about what it is.
    pub(super) fn passes(&self, row: &EdgeRow) -> bool {
        self.filter.passes(row)
    }
}

// === impl Group ===

impl Group {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "workload" => Self::Workload,
            "namespace" => Self::Namespace,
            "service" => Self::Service,
            "zone" => Self::Zone,
            _ => return None,
        })
    }
}

// === impl Filter ===

impl Filter {
    fn passes(&self, row: &EdgeRow) -> bool {
        let ends = [&row.source, &row.destination];
        let dialled = row.dialled.as_ref();
        let any = |list: &[String], test: &dyn Fn(&str) -> bool| {
            list.is_empty() || list.iter().any(|wanted| test(wanted))
        };
        let of_kind = |kind: PartyKind, wanted: &str| {
            ends.iter()
                .any(|party| party.kind == kind && is_called(&party.namespace, &party.name, wanted))
        };
        any(&self.namespaces, &|wanted| {
            ends.iter().any(|party| party.namespace == wanted)
                || dialled.is_some_and(|(namespace, _)| namespace == wanted)
        }) && any(&self.workloads, &|wanted| {
            of_kind(PartyKind::Workload, wanted)
        }) && any(&self.services, &|wanted| {
            of_kind(PartyKind::Service, wanted)
                || dialled.is_some_and(|(namespace, name)| is_called(namespace, name, wanted))
        }) && any(&self.protocols, &|wanted| row.protocol == wanted)
            && any(&self.securities, &|wanted| match wanted {
                "encrypted" => is_encrypted(row.security),
                wanted => row.security == wanted,
            })
            && (self.kinds.is_empty() || ends.iter().any(|end| self.has_kind(end)))
    }

    fn has_kind(&self, party: &Party) -> bool {
        self.kinds.contains(&party.kind)
    }
}

fn parse_window(text: &str) -> Option<Duration> {
    match text.strip_suffix('h') {
        Some(hours) => Duration::try_from_secs_f64(hours.parse::<f64>().ok()? * 3_600.0).ok(),
        None => parse_duration(text),
    }
}

/// Whether something is meant by `NAME` or `NAMESPACE/NAME`.
pub(in crate::serve) fn is_called(namespace: &str, name: &str, wanted: &str) -> bool {
    name == wanted
        || wanted
            .split_once('/')
            .is_some_and(|(space, rest)| space == namespace && rest == name)
}

/// Whether nobody between the ends can read along.
pub(super) fn is_encrypted(security: &str) -> bool {
    !matches!(security, "plaintext" | "unknown")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<Parameters, String> {
        let pairs = text.split('&').map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (name.to_owned(), value.to_owned())
        });
        Parameters::parse(&pairs.collect::<Vec<_>>())
    }

    #[test]
    fn everything_at_once() {
        let found = parse(
            "window=5m&group=zone&focus=shop/cart&depth=3&limit=7&errors=true&min_rate=0.5\
             &namespace=shop,pay&workload=cart&service=web&kind=outside,workload&protocol=http\
             &security=encrypted",
        );
        let own = |list: &[&str]| list.iter().map(|part| (*part).to_owned()).collect();
        let expected = Parameters {
            window: Duration::from_secs(300),
            group: Group::Zone,
            focus: Some("shop/cart".to_owned()),
            depth: 3,
            limit: 7,
            errors: true,
            min_rate: 0.5,
            filter: Filter {
                namespaces: own(&["shop", "pay"]),
                workloads: own(&["cart"]),
                services: own(&["web"]),
                kinds: vec![PartyKind::Outside, PartyKind::Workload],
                protocols: own(&["http"]),
                securities: own(&["encrypted"]),
            },
        };
        assert_eq!(found, Ok(expected));
    }

    #[test]
    fn what_is_empty_is_absent() {
        assert_eq!(parse("window=1h").unwrap().window, past::LONGEST);
        let found = parse("window=&namespace=&focus=&limit=&group=&errors=&kind=,");
        assert_eq!(found, Ok(Parameters::default()));
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (text, told) in [
            ("window=9s", "window=9s: expected 10s to 1h"),
            ("window=2h", "expected 10s to 1h"),
            ("window=soon", "expected 10s to 1h"),
            ("window=nanh", "expected 10s to 1h"),
            ("group=pod", "expected workload, namespace, service or zone"),
            ("depth=17", "expected 0 to 16"),
            ("limit=0", "expected 1 to 1500"),
            ("limit=1501", "expected 1 to 1500"),
            ("errors=yes", "expected true or false"),
            ("min_rate=-1", "expected requests per second, 0 or more"),
            ("min_rate=NaN", "expected requests per second, 0 or more"),
            ("kind=workload,pod", "expected workload, service, node"),
            ("security=ssl", "expected plaintext, tls"),
            ("nodes=1", "nodes is no parameter; there are window"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(told), "{error}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(name in "[a-z_]{0,9}", value in ".{0,20}") {
            let _ = Parameters::parse(&[(name, value)]);
        }
    }
}
