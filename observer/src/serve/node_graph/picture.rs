//! What is shown of the graph: edges counted once, filtered, grouped, near the focus, within the limit.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    time::Duration,
};

use super::parameters::{Group, Parameters, is_called};
use crate::{
    aggregate::graph::{EdgeRow, Party, PartyKind, Windowed, past::Counts, past::Step},
    serve::graph,
};

/// The graph as it is shown, still in numbers.
#[derive(Debug, Default)]
pub(super) struct Picture {
    /// Length of the window.
    pub(super) window: Duration,
    /// How much longer than asked for the window may be.
    pub(super) granularity: Duration,
    /// Busiest first.
    pub(super) nodes: Vec<Vertex>,
    /// Busiest first.
    pub(super) edges: Vec<Line>,
    /// Nodes beyond the limit.
    pub(super) nodes_left_out: usize,
    /// Edges of those.
    pub(super) edges_left_out: usize,
}

/// A node.
#[derive(Clone, Debug, Default)]
pub(super) struct Vertex {
    pub(super) end: End,
    /// Zones that it was seen in.
    pub(super) zones: BTreeSet<String>,
    /// What it received as destination.
    pub(super) received: Counts,
    /// What it made as source.
    pub(super) made: Counts,
    pub(super) security: Shares,
}

/// What a node is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct End {
    pub(super) id: String,
    pub(super) kind: &'static str,
    pub(super) namespace: String,
    pub(super) workload_kind: String,
    /// Empty for kinds without one.
    pub(super) name: String,
    /// It is one of this host or cluster that is not observed itself.
    pub(super) icon: Option<&'static str>,
}

/// All edges from one node to another.
#[derive(Clone, Debug, Default)]
pub(super) struct Line {
    pub(super) source: String,
    pub(super) target: String,
    pub(super) counts: Counts,
    pub(super) open_connections: u64,
    pub(super) protocols: BTreeSet<&'static str>,
    /// As `NAMESPACE/NAME`.
    pub(super) dialled: BTreeSet<String>,
    pub(super) zones: BTreeSet<(String, String)>,
    pub(super) security: Shares,
}

/// Requests, bytes and open connections by security.
#[derive(Clone, Debug, Default)]
pub(super) struct Shares(BTreeMap<&'static str, [u64; 3]>);

// === impl Picture ===

impl Picture {
    pub(super) fn new(windowed: &Windowed, parameters: &Parameters) -> Self {
        let mut vertices: BTreeMap<String, Vertex> = BTreeMap::new();
        let mut lines: BTreeMap<(String, String), Line> = BTreeMap::new();
        let rows: Vec<&EdgeRow> = windowed.edges.iter().map(|edge| &edge.row).collect();
        let seen = graph::Seen::of(rows);
        for edge in &windowed.edges {
            let row = &edge.row;
            if seen.is_counted_elsewhere(row) || !parameters.passes(row) {
                continue;
            }
            let source = End::source(row, parameters.group);
            let target = End::destination(row, parameters.group);
            let key = (source.id.clone(), target.id.clone());
            let line = lines.entry(key).or_insert_with(|| Line {
                source: source.id.clone(),
                target: target.id.clone(),
                ..Line::default()
            });
            line.add(row, &edge.counts);
            let inside = source.id == target.id;
            let vertex = vertices.entry(source.id.clone()).or_default();
            vertex.end = source;
            vertex.add(row, &row.source_zone, &edge.counts);
            vertex.made.add(&edge.counts);
            let vertex = vertices.entry(target.id.clone()).or_default();
            vertex.end = target;
            if inside {
                vertex.zones.extend(known(&row.destination_zone));
            } else {
                vertex.add(row, &row.destination_zone, &edge.counts);
            }
            vertex.received.add(&edge.counts);
        }
        let mut picture = Self {
            window: windowed.length.max(Duration::from_secs(1)),
            granularity: Step::of_window(parameters.window),
            nodes: vertices.into_values().collect(),
            edges: lines.into_values().collect(),
            ..Self::default()
        };
        picture.choose(parameters);
        picture.approach(parameters);
        picture.limit(parameters);
        picture
    }

    /// Leaves edges out by what they count, and nodes without edges then.
    fn choose(&mut self, parameters: &Parameters) {
        let seconds = self.window.as_secs_f64();
        self.edges.retain(|line| {
            let Counts {
                requests,
                errors,
                connect_failures,
                ..
            } = line.counts;
            let failed = errors + connect_failures > 0;
            (failed || !parameters.errors) && per_second(requests, seconds) >= parameters.min_rate
        });
        let used: HashSet<&str> = self.edges.iter().flat_map(Line::ends).collect();
        self.nodes
            .retain(|vertex| used.contains(vertex.end.id.as_str()));
    }

    /// Leaves out what is not near the focus.
    fn approach(&mut self, parameters: &Parameters) {
        let Some(focus) = &parameters.focus else {
            return;
        };
        let mut near: HashSet<String> = self
            .nodes
            .iter()
            .filter(|vertex| vertex.end.is(focus))
            .map(|vertex| vertex.end.id.clone())
            .collect();
        for _ in 0..parameters.depth {
            let touching = self.edges.iter().filter(|line| line.touches(&near));
            let next: Vec<String> = touching.flat_map(Line::ends).map(str::to_owned).collect();
            let before = near.len();
            near.extend(next);
            if near.len() == before {
                break;
            }
        }
        self.keep(&near);
    }

    /// Orders by what is done, and keeps the nodes that do most; what is looked at stays.
    fn limit(&mut self, parameters: &Parameters) {
        let focus = parameters.focus.as_deref();
        self.nodes.sort_by_cached_key(|vertex| {
            let focused = focus.is_some_and(|focus| vertex.end.is(focus));
            let busy = vertex.busy();
            (!focused, std::cmp::Reverse(busy), vertex.end.id.clone())
        });
        self.edges.sort_by_cached_key(|line| {
            let busy = std::cmp::Reverse(activity(&line.counts));
            (busy, line.source.clone(), line.target.clone())
        });
        if self.nodes.len() <= parameters.limit {
            return;
        }
        let (nodes, edges) = (self.nodes.len(), self.edges.len());
        let kept = self.nodes.iter().take(parameters.limit);
        let kept = kept.map(|vertex| vertex.end.id.clone()).collect();
        self.keep(&kept);
        self.nodes_left_out = nodes - self.nodes.len();
        self.edges_left_out = edges - self.edges.len();
    }

    fn keep(&mut self, ids: &HashSet<String>) {
        self.nodes.retain(|vertex| ids.contains(&vertex.end.id));
        self.edges
            .retain(|line| line.ends().iter().all(|end| ids.contains(*end)));
    }
}

// === impl Vertex ===

impl Vertex {
    fn add(&mut self, row: &EdgeRow, zone: &str, counts: &Counts) {
        self.zones.extend(known(zone));
        self.security.add(row, counts);
    }

    /// Requests and bytes, as what it did.
    fn busy(&self) -> (u64, u64) {
        let (received, made) = (activity(&self.received), activity(&self.made));
        (received.0 + made.0, received.1 + made.1)
    }
}

// === impl End ===

impl End {
    fn source(row: &EdgeRow, group: Group) -> Self {
        Self::of(&row.source, &row.source_zone, group)
    }

    fn destination(row: &EdgeRow, group: Group) -> Self {
        match &row.dialled {
            Some((namespace, name)) if group == Group::Service => Self {
                id: format!(
                    "kubernetes_service:{}/{}",
                    graph::escaped(namespace),
                    graph::escaped(name)
                ),
                kind: "kubernetes_service",
                namespace: namespace.clone(),
                name: name.clone(),
                ..Self::default()
            },
            _ => Self::of(&row.destination, &row.destination_zone, group),
        }
    }

    fn of(party: &Party, zone: &str, group: Group) -> Self {
        match group {
            Group::Namespace if !party.namespace.is_empty() => Self {
                id: format!("namespace:{}", graph::escaped(&party.namespace)),
                kind: "namespace",
                namespace: party.namespace.clone(),
                name: party.namespace.clone(),
                ..Self::default()
            },
            Group::Zone => Self {
                id: format!("zone:{}", graph::escaped(zone)),
                kind: "zone",
                name: zone.to_owned(),
                ..Self::default()
            },
            Group::Workload | Group::Namespace | Group::Service => Self {
                id: graph::id(party),
                kind: party.kind.as_str(),
                namespace: party.namespace.clone(),
                workload_kind: party.workload_kind.clone(),
                name: party.name.clone(),
                icon: icon(party.kind),
            },
        }
    }

    /// What it is called.
    pub(super) fn title(&self) -> &str {
        match (self.name.as_str(), self.kind) {
            ("", "zone") => "no known zone",
            ("", kind) => kind,
            (name, _) => name,
        }
    }

    /// Whether it is what somebody means by `wanted`.
    fn is(&self, wanted: &str) -> bool {
        self.id == wanted || is_called(&self.namespace, self.title(), wanted)
    }
}

/// Icons of Grafana; none for what has statistics of its own, as it would stand in their place.
fn icon(kind: PartyKind) -> Option<&'static str> {
    match kind {
        PartyKind::Workload | PartyKind::Service | PartyKind::Dialled | PartyKind::Identity => None,
        PartyKind::Node => Some("monitor"),
        PartyKind::Network => Some("sitemap"),
        PartyKind::Name => Some("globe"),
        PartyKind::Outside => Some("cloud"),
        PartyKind::Unknown => Some("question-circle"),
        PartyKind::Overflow => Some("exclamation-triangle"),
    }
}

// === impl Line ===

impl Line {
    fn add(&mut self, row: &EdgeRow, counts: &Counts) {
        self.counts.add(counts);
        self.open_connections += row.open_connections;
        self.protocols.insert(row.protocol);
        let dialled = row.dialled.as_ref();
        self.dialled
            .extend(dialled.map(|(namespace, name)| format!("{namespace}/{name}")));
        let (source, destination) = (&row.source_zone, &row.destination_zone);
        if !source.is_empty() && !destination.is_empty() {
            self.zones.insert((source.clone(), destination.clone()));
        }
        self.security.add(row, counts);
    }

    fn ends(&self) -> [&str; 2] {
        [&self.source, &self.target]
    }

    fn touches(&self, ids: &HashSet<String>) -> bool {
        self.ends().iter().any(|end| ids.contains(*end))
    }
}

// === impl Shares ===

impl Shares {
    fn add(&mut self, row: &EdgeRow, counts: &Counts) {
        let sums = self.0.entry(row.security).or_default();
        let bytes = counts.sent_bytes + counts.received_bytes;
        let counted = [counts.requests, bytes, row.open_connections];
        for (sum, count) in sums.iter_mut().zip(counted) {
            *sum += count;
        }
    }

    /// Share of each kind of security, the largest first: of requests, or of bytes without any, or of
    /// open connections without those.
    pub(super) fn ratios(&self) -> Vec<(&'static str, f64)> {
        let total = |index: usize| -> u64 {
            let counts = self.0.values().filter_map(|sums| sums.get(index));
            counts.sum()
        };
        let Some(index) = (0..3).find(|index| total(*index) > 0) else {
            return Vec::new();
        };
        let whole = total(index);
        let parts: HashMap<&'static str, u64> = self
            .0
            .iter()
            .filter_map(|(security, sums)| Some((*security, *sums.get(index)?)))
            .filter(|(_, part)| *part > 0)
            .collect();
        let mut ratios: Vec<(&'static str, f64)> = parts
            .into_iter()
            .map(|(security, part)| (security, ratio(part, whole)))
            .collect();
        ratios.sort_by(|left, right| right.1.total_cmp(&left.1).then(left.0.cmp(right.0)));
        ratios
    }
}

fn known(text: &str) -> Option<String> {
    Some(text.to_owned()).filter(|text| !text.is_empty())
}

fn activity(counts: &Counts) -> (u64, u64) {
    (counts.requests, counts.sent_bytes + counts.received_bytes)
}

#[expect(clippy::cast_precision_loss, reason = "a rate is a float")]
pub(super) fn per_second(count: u64, seconds: f64) -> f64 {
    count as f64 / seconds
}

#[expect(clippy::cast_precision_loss, reason = "a share is a float")]
pub(super) fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}
