//! What was found of a mesh as series: made anew from each report, in bounds.

use std::time::Duration;

use super::{
    contract::{self, Family},
    series::{Labels, Store, labels},
    snapshot::{Samples, Series, Value},
};
use crate::{
    mesh::report::{Authorization, Edge, Finding, Party, Readiness, Report, Split},
    model::{policy::PolicyKind, time::Monotonic},
};

/// The series of the last report.
#[derive(Debug)]
pub(super) struct Judged {
    /// Whether what was found is still so; what is not stays for a while, so that its end is seen.
    findings: Store<FindingKey, bool>,
    edges: Part,
    servers: Part,
    rules: Part,
    authorizations: Part,
    samples: Vec<Samples>,
}

/// What tells series of findings apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct FindingKey {
    id: &'static str,
    severity: &'static str,
    namespace: Box<str>,
    workload: Box<str>,
    peer: Box<str>,
}

/// Label sets of one kind.
#[derive(Clone, Copy, Debug, Default)]
struct Part {
    /// In the last report.
    entries: usize,
    /// Left out of reports because there were too many.
    left_out: u64,
}

/// Series of several families, in the making.
struct Making<'a> {
    cluster: &'a str,
    samples: Vec<Samples>,
}

// === impl Judged ===

impl Judged {
    pub(super) fn new(budget: usize) -> Self {
        Self {
            findings: Store::new(budget),
            edges: Part::default(),
            servers: Part::default(),
            rules: Part::default(),
            authorizations: Part::default(),
            samples: Vec::new(),
        }
    }

    pub(super) fn set_budget(&mut self, budget: usize) {
        self.findings.set_budget(budget);
    }

    /// Takes over a report, and how many objects of each kind are declared.
    pub(super) fn take(
        &mut self,
        report: &Report,
        objects: &[(PolicyKind, usize)],
        cluster: &str,
        now: Monotonic,
    ) {
        for open in self.findings.values_mut() {
            *open = false;
        }
        for finding in &report.findings {
            let key = FindingKey::of(finding);
            let handle = self
                .findings
                .resolve(&key, now, || (key.labels(cluster), true));
            if let Some(open) = self.findings.update(handle, now) {
                *open = true;
            }
        }
        let budget = self.findings.budget();
        let mut making = Making {
            cluster,
            samples: Vec::new(),
        };
        making.findings(&self.findings);
        making.edges(self.edges.within(&report.edges, budget));
        making.servers(self.servers.within(&report.readiness, budget));
        making.rules(self.rules.within(&report.splits, budget));
        making.authorizations(self.authorizations.within(&report.authorizations, budget));
        making.objects(objects, report);
        self.samples = making.samples;
    }

    /// Series of findings that ended a while ago are removed.
    pub(super) fn expire(&mut self, now: Monotonic, idle: Duration) {
        self.findings.expire(now, idle, |open| *open);
    }

    /// The families, in order of exposition.
    pub(super) fn samples(&self) -> impl Iterator<Item = Samples> + '_ {
        self.samples.iter().cloned()
    }

    /// By group: label sets, the most that there can be, and how often one was too many.
    pub(super) fn groups(&self) -> [(&'static str, usize, usize, u64); 5] {
        let budget = self.findings.budget();
        let part = |name, part: Part| (name, part.entries, budget, part.left_out);
        [
            (
                "mesh_findings",
                self.findings.len(),
                budget,
                self.findings.overflowed(),
            ),
            part("mesh_edges", self.edges),
            part("mesh_servers", self.servers),
            part("mesh_rules", self.rules),
            part("mesh_authorizations", self.authorizations),
        ]
    }
}

// === impl Part ===

impl Part {
    /// What of `list` may be shown.
    fn within<'a, T>(&mut self, list: &'a [T], budget: usize) -> &'a [T] {
        let shown = list.get(..budget).unwrap_or(list);
        self.entries = shown.len();
        self.left_out += (list.len() - shown.len()) as u64;
        shown
    }
}

// === impl FindingKey ===

impl FindingKey {
    fn of(finding: &Finding) -> Self {
        let Finding {
            id,
            severity,
            workload,
            peer,
            ..
        } = finding;
        Self {
            id,
            severity,
            namespace: workload.namespace.as_str().into(),
            workload: called(workload).into(),
            peer: peer.as_ref().map(full).unwrap_or_default().into(),
        }
    }

    fn labels(&self, cluster: &str) -> Labels {
        labels([
            ("k8s_cluster_name", cluster),
            ("id", self.id),
            ("severity", self.severity),
            ("namespace", &self.namespace),
            ("workload", &self.workload),
            ("peer", &self.peer),
        ])
    }
}

// === impl Making ===

impl Making<'_> {
    fn add(&mut self, family: &'static Family, series: Vec<Series>) {
        if !series.is_empty() {
            self.samples.push(Samples { family, series });
        }
    }

    fn findings(&mut self, findings: &Store<FindingKey, bool>) {
        let series = findings
            .iter()
            .map(|(_, labels, open)| Series::new(labels, Value::Integer((*open).into())));
        self.add(&contract::MESH_FINDING, series.collect());
    }

    fn edges(&mut self, edges: &[Edge]) {
        let edges: Vec<(&Edge, Labels)> = edges
            .iter()
            .map(|edge| (edge, edge_labels(edge, self.cluster)))
            .collect();
        let some = |pick: fn(&Edge) -> Option<f64>| {
            let series = edges
                .iter()
                .filter_map(|(edge, labels)| Some(Series::new(labels, Value::Float(pick(edge)?))));
            series.collect::<Vec<_>>()
        };
        self.add(&contract::MESH_ENCRYPTED, some(|edge| edge.encrypted_share));
        self.add(
            &contract::MESH_VIOLATED,
            some(|edge| match edge.verdict {
                "violated" => Some(1.0),
                "satisfied" => Some(0.0),
                _ => None,
            }),
        );
        self.add(&contract::MESH_RETRIES, some(|edge| edge.retry_ratio));
        let parts = edges.iter().flat_map(|(edge, labels)| {
            let latency = &edge.latency;
            let parts = [
                ("client_proxy", latency.client_proxy),
                ("network", latency.network),
                ("server_proxy", latency.server_proxy),
                ("application", latency.server),
            ];
            parts.into_iter().filter_map(|(part, seconds)| {
                Some(Series {
                    labels: labels.clone(),
                    more: Box::new([("part", part)]),
                    value: Value::Float(seconds?),
                })
            })
        });
        self.add(&contract::MESH_LATENCY, parts.collect());
    }

    fn servers(&mut self, servers: &[Readiness]) {
        let servers: Vec<_> = servers
            .iter()
            .map(|server| {
                let labels = labels([
                    ("k8s_cluster_name", self.cluster),
                    ("namespace", &server.workload.namespace),
                    ("workload_kind", &server.workload.workload_kind),
                    ("workload", called(&server.workload)),
                    ("declared", server.declared),
                ]);
                (server, labels)
            })
            .collect();
        let states = servers.iter().map(|(server, labels)| Series {
            labels: labels.clone(),
            more: Box::new([(
                "state",
                match server.state {
                    "READY" => "ready",
                    "NOT READY" => "not_ready",
                    _ => "insufficient",
                },
            )]),
            value: Value::Integer(1),
        });
        self.add(&contract::MESH_READINESS, states.collect());
        let clients = servers.iter().map(|(server, labels)| {
            Series::new(labels, Value::Integer(server.plaintext.len() as u64))
        });
        self.add(&contract::MESH_PLAINTEXT_CLIENTS, clients.collect());
    }

    fn rules(&mut self, splits: &[Split]) {
        let backends: Vec<_> = splits
            .iter()
            .flat_map(|split| {
                split.backends.iter().map(|backend| {
                    let labels = labels([
                        ("k8s_cluster_name", self.cluster),
                        ("object_kind", &split.object.kind),
                        ("object_namespace", &split.object.namespace),
                        ("object_name", &split.object.name),
                        ("rule", &split.rule),
                        ("host", &split.host),
                        ("backend", &backend.host),
                        ("subset", &backend.subset),
                    ]);
                    (backend, labels)
                })
            })
            .collect();
        let declared = backends
            .iter()
            .map(|(backend, labels)| Series::new(labels, Value::Float(backend.declared)));
        self.add(&contract::MESH_SPLIT_DECLARED, declared.collect());
        let observed = backends.iter().filter_map(|(backend, labels)| {
            Some(Series::new(labels, Value::Float(backend.observed?)))
        });
        self.add(&contract::MESH_SPLIT_OBSERVED, observed.collect());
        let requests = backends
            .iter()
            .map(|(backend, labels)| Series::new(labels, Value::Integer(backend.requests)));
        self.add(&contract::MESH_SPLIT_REQUESTS, requests.collect());
        let served = backends
            .iter()
            .map(|(backend, labels)| Series::new(labels, Value::Integer(backend.served)));
        self.add(&contract::MESH_SPLIT_SERVED, served.collect());
    }

    fn authorizations(&mut self, authorizations: &[Authorization]) {
        let series = authorizations.iter().flat_map(|one| {
            let port = port(one.port);
            let labels = labels(
                [("k8s_cluster_name", self.cluster)]
                    .into_iter()
                    .chain(ends(&one.client, &one.server))
                    .chain([
                        ("server_port", port.as_str()),
                        (
                            "client_identity",
                            one.identity.as_deref().unwrap_or_default(),
                        ),
                    ]),
            );
            let counts = [
                ("allowed", one.allowed),
                ("denied", one.denied),
                ("unknown", one.unknown),
                ("refused", one.refused),
            ];
            counts.map(|(decision, count)| Series {
                labels: labels.clone(),
                more: Box::new([("decision", decision)]),
                value: Value::Integer(count),
            })
        });
        let series = series.collect();
        self.add(&contract::MESH_AUTHORIZATION, series);
    }

    fn objects(&mut self, objects: &[(PolicyKind, usize)], report: &Report) {
        let kinds = objects.iter().map(|(kind, count)| {
            let labels = labels([
                ("k8s_cluster_name", self.cluster),
                ("kind", kind.as_str()),
                ("group", kind.group()),
            ]);
            Series::new(&labels, Value::Integer(*count as u64))
        });
        self.add(&contract::MESH_OBJECTS, kinds.collect());
        if objects.is_empty() && report.misunderstood.is_empty() {
            return;
        }
        let labels = labels([("k8s_cluster_name", self.cluster)]);
        let count = report.misunderstood.len() as u64;
        let series = vec![Series::new(&labels, Value::Integer(count))];
        self.add(&contract::MESH_MISUNDERSTOOD, series);
    }
}

/// Name of a party; its kind for those that have none.
fn called(party: &Party) -> &str {
    match party.name.as_str() {
        "" => party.kind,
        name => name,
    }
}

/// `namespace/name`.
fn full(party: &Party) -> String {
    match party.namespace.as_str() {
        "" => called(party).to_owned(),
        namespace => format!("{namespace}/{}", called(party)),
    }
}

/// A port; empty where none is known.
fn port(port: u16) -> String {
    match port {
        0 => String::new(),
        port => port.to_string(),
    }
}

fn ends<'a>(client: &'a Party, server: &'a Party) -> impl Iterator<Item = (&'static str, &'a str)> {
    [
        ("source_kind", client.kind),
        ("source_namespace", client.namespace.as_str()),
        ("source_workload_kind", client.workload_kind.as_str()),
        ("source_name", client.name.as_str()),
        ("destination_kind", server.kind),
        ("destination_namespace", server.namespace.as_str()),
        ("destination_workload_kind", server.workload_kind.as_str()),
        ("destination_name", server.name.as_str()),
    ]
    .into_iter()
}

fn edge_labels(edge: &Edge, cluster: &str) -> Labels {
    let dialled = edge.service.as_deref().unwrap_or_default();
    let (service, namespace) = dialled.split_once('.').unwrap_or((dialled, ""));
    let port = port(edge.port);
    let more = [
        ("k8s_service_name", service),
        ("k8s_service_namespace", namespace),
        ("server_port", port.as_str()),
        ("declared", edge.declared),
    ];
    labels(
        [("k8s_cluster_name", cluster)]
            .into_iter()
            .chain(ends(&edge.client, &edge.server))
            .chain(more),
    )
}

#[cfg(test)]
mod tests;
