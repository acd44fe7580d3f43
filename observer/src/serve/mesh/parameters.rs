//! What `/api/v1/findings` and `/api/v1/mesh` are asked for.

use std::time::Duration;

use crate::{
    mesh::report::{Edge, Finding, Object, Party, answer::View},
    serve::{filter::parse_duration, node_graph::is_called},
};

/// Parameters of the query. One that is empty counts as absent, as variables of dashboards may be;
/// a list has commas between, and one of it must match. What is wrong, or means nothing for what
/// is asked, is told with status 400.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Parameters {
    /// `window=7d`: readiness is judged by what was seen in this time that ends now, `1m` to `31d`;
    /// else by the configured one.
    pub(super) window: Option<Duration>,
    /// `severity=critical,high`
    severities: Vec<String>,
    /// `id=M01,M06`, in any case.
    ids: Vec<String>,
    /// `namespace=shop`: of either end, or of the object that declares it.
    namespaces: Vec<String>,
    /// `workload=cart` or `workload=shop/cart`: of either end.
    workloads: Vec<String>,
    /// `host=cart`: what a route is about, as it is written there, or its first label.
    hosts: Vec<String>,
}

/// All severities, the worst first.
const SEVERITIES: [&str; 5] = ["critical", "high", "medium", "low", "info"];

/// Most bytes of a value.
const LONGEST: usize = 1_024;

const SHORTEST_WINDOW: Duration = Duration::from_secs(60);
const LONGEST_WINDOW: Duration = Duration::from_secs(31 * 24 * 3_600);

/// Parameters that mean something.
const fn keys(view: View) -> &'static [&'static str] {
    match view {
        View::Findings => &["severity", "id", "namespace", "workload"],
        View::Edges | View::Mtls | View::Authz => &["namespace", "workload"],
        View::Readiness => &["window", "namespace", "workload"],
        View::Split | View::Routes => &["namespace", "host"],
    }
}

// === impl Parameters ===

impl Parameters {
    /// Reads the pairs of a query string; what is wrong comes back as a sentence.
    pub(super) fn parse(view: View, pairs: &[(String, String)]) -> Result<Self, String> {
        let mut parameters = Self::default();
        for (name, value) in pairs {
            if !keys(view).contains(&name.as_str()) {
                let known = keys(view).join(", ");
                return Err(format!("{name} is no parameter here; there are {known}"));
            }
            let value = value.trim();
            if value.len() > LONGEST {
                return Err(format!("{name}: expected at most {LONGEST} bytes"));
            }
            if !value.is_empty() {
                parameters.set(name, value)?;
            }
        }
        Ok(parameters)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let wrong = |expected: &str| format!("{name}={value}: expected {expected}");
        let list: Vec<String> = value
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(str::to_owned)
            .collect();
        match name {
            "window" => {
                let window = parse_window(value)
                    .filter(|window| (SHORTEST_WINDOW..=LONGEST_WINDOW).contains(window));
                self.window = Some(window.ok_or_else(|| wrong("1m to 31d"))?);
            }
            "severity" => {
                if !list.iter().all(|part| SEVERITIES.contains(&part.as_str())) {
                    return Err(wrong(&SEVERITIES.join(", ")));
                }
                self.severities = list;
            }
            "id" => {
                if !list.iter().all(|part| is_id(part)) {
                    return Err(wrong("M01 to M36, with commas between"));
                }
                self.ids = list;
            }
            "namespace" => self.namespaces = list,
            "workload" => self.workloads = list,
            _ => self.hosts = list,
        }
        Ok(())
    }

    pub(super) fn finding(&self, finding: &Finding) -> bool {
        let mut parties = vec![&finding.workload];
        parties.extend(finding.peer.as_ref());
        any(&self.severities, |wanted| finding.severity == wanted)
            && any(&self.ids, |wanted| finding.id.eq_ignore_ascii_case(wanted))
            && self.parties(&parties)
    }

    pub(super) fn edge(&self, edge: &Edge) -> bool {
        self.parties(&[&edge.client, &edge.server])
    }

    /// Whether one of them is in a namespace that is wanted, and one is a workload that is.
    pub(super) fn parties(&self, parties: &[&Party]) -> bool {
        let is_of = |wanted: &str| parties.iter().any(|party| party.namespace == wanted);
        let is = |wanted: &str| {
            let mut parties = parties.iter();
            parties.any(|party| is_called(&party.namespace, &party.name, wanted))
        };
        any(&self.namespaces, is_of) && any(&self.workloads, is)
    }

    pub(super) fn object(&self, object: &Object) -> bool {
        any(&self.namespaces, |wanted| object.namespace == wanted)
    }

    /// A rule of a route of an object, about a host.
    pub(super) fn rule(&self, object: &Object, host: &str) -> bool {
        self.object(object)
            && any(&self.hosts, |wanted| {
                host == wanted || host.split('.').next() == Some(wanted)
            })
    }
}

fn any(alternatives: &[String], mut matches: impl FnMut(&str) -> bool) -> bool {
    alternatives.is_empty() || alternatives.iter().any(|wanted| matches(wanted))
}

/// `M01` to `M36`.
fn is_id(text: &str) -> bool {
    let number = text.strip_prefix(['M', 'm']).filter(|text| text.len() == 2);
    number
        .filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|number| number.parse::<u8>().ok())
        .is_some_and(|number| (1..=36).contains(&number))
}

fn parse_window(text: &str) -> Option<Duration> {
    for (unit, seconds) in [('h', 3_600.0), ('d', 24.0 * 3_600.0)] {
        if let Some(number) = text.strip_suffix(unit) {
            return Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok();
        }
    }
    parse_duration(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(view: View, text: &str) -> Result<Parameters, String> {
        let pairs = text.split('&').map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (name.to_owned(), value.to_owned())
        });
        Parameters::parse(view, &pairs.collect::<Vec<_>>())
    }

    #[test]
    fn everything_at_once() {
        let own = |list: &[&str]| list.iter().map(|part| (*part).to_owned()).collect();
        let text = "severity=critical,high&id=M01,m36&namespace=shop,pay&workload=shop/cart";
        let expected = Parameters {
            window: None,
            severities: own(&["critical", "high"]),
            ids: own(&["M01", "m36"]),
            namespaces: own(&["shop", "pay"]),
            workloads: own(&["shop/cart"]),
            hosts: Vec::new(),
        };
        assert_eq!(parse(View::Findings, text), Ok(expected));
        for (text, seconds) in [("60s", 60), ("1.5h", 5_400), ("31d", 31 * 86_400)] {
            let found = parse(View::Readiness, &format!("window={text}")).unwrap();
            assert_eq!(found.window, Some(Duration::from_secs(seconds)));
        }
        let found = parse(View::Findings, "severity=&id=&namespace=,&workload=");
        assert_eq!(found, Ok(Parameters::default()));
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (view, text, told) in [
            (
                View::Readiness,
                "window=59s",
                "window=59s: expected 1m to 31d",
            ),
            (View::Readiness, "window=32d", "expected 1m to 31d"),
            (View::Readiness, "window=nand", "expected 1m to 31d"),
            (View::Findings, "window=1h", "window is no parameter here"),
            (
                View::Findings,
                "severity=bad",
                "expected critical, high, medium",
            ),
            (View::Findings, "id=M37", "expected M01 to M36"),
            (View::Findings, "id=M1", "expected M01 to M36"),
            (View::Findings, "id=M+1", "expected M01 to M36"),
            (View::Split, "workload=a", "there are namespace, host"),
            (View::Mtls, "colour=red", "there are namespace, workload"),
        ] {
            let error = parse(view, text).unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
        }
        let long = format!("namespace={}", "x".repeat(2_000));
        assert!(parse(View::Edges, &long).is_err());
    }

    proptest! {
        #[test]
        fn nothing_panics(name in "(window|id|severity|host)", value in ".{0,20}") {
            for view in [View::Findings, View::Readiness, View::Routes] {
                let _ = Parameters::parse(view, &[(name.clone(), value.clone())]);
            }
        }
    }
}
