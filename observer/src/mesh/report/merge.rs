//! One report of the reports of several agents, each of which sees its own node.
//!
//! A call between two nodes is seen at both ends. So what an end counted is added to what the same end
//! counted elsewhere, and never to what the other end did: of both, as many are told as there were at
//! least.

use std::collections::BTreeMap;

use super::{Edge, Object, Reason, Report, Sample, Usage, Word};
use crate::mesh::findings::{SAMPLES, worst_first};

mod edges;
mod findings;
mod readiness;
mod traffic;

/// Most reasons that are kept of one verdict or finding, where several reports give some.
const REASONS: usize = 16;

/// Makes one report of several. In which order they are taken does not matter, nor whether some were
/// made one before; one alone stays as it is, and so does what only one of them has.
///
/// What only all of them tell together is [`conclude`](super::conclude())'s to say.
pub fn merge(reports: impl IntoIterator<Item = Report>) -> Report {
    let empty = Report::default();
    let mut reports: Vec<Report> = reports.into_iter().filter(|it| *it != empty).collect();
    if reports.len() <= 1 {
        return reports.pop().unwrap_or_default();
    }
    let observed = reports.iter().map(|report| report.observed_seconds);
    let mut merged = Report {
        observed_seconds: observed.fold(f64::INFINITY, f64::min),
        edges: unite(&mut reports, |it| &mut it.edges, edges::key, edges::join),
        findings: unite(
            &mut reports,
            |it| &mut it.findings,
            findings::key,
            findings::join,
        ),
        readiness: unite(
            &mut reports,
            |it| &mut it.readiness,
            |one| one.workload.clone(),
            readiness::join,
        ),
        splits: unite(
            &mut reports,
            |it| &mut it.splits,
            traffic::split_key,
            traffic::join_splits,
        ),
        routes: unite(
            &mut reports,
            |it| &mut it.routes,
            |route| (name(&route.object), route.rule.clone()),
            traffic::join_routes,
        ),
        authorizations: unite(
            &mut reports,
            |it| &mut it.authorizations,
            traffic::authorization_key,
            traffic::join_authorizations,
        ),
        grants: unite(&mut reports, |it| &mut it.grants, usage_key, join_usages),
        uses: unite(&mut reports, |it| &mut it.uses, usage_key, join_usages),
        misunderstood: unite(
            &mut reports,
            |it| &mut it.misunderstood,
            |one| (name(&one.object), one.problem.clone()),
            |own, other| newer(&mut own.object, other.object),
        ),
        ignored: unite(
            &mut reports,
            |it| &mut it.ignored,
            |one| (name(&one.object), one.reason.clone()),
            |own, other| newer(&mut own.object, other.object),
        ),
    };
    worst_first(&mut merged.findings);
    merged
}

/// Edges of which some may be the same by now, sorted.
pub(super) fn unite_edges(list: Vec<Edge>) -> Vec<Edge> {
    unite_lists([list], edges::key, edges::join)
}

/// Names an object, whatever version was read: kind, group, namespace and name.
type Name = (String, String, String, String);

fn name(object: &Object) -> Name {
    let Object {
        kind,
        group,
        namespace,
        name,
        resource_version: _,
    } = object;
    (kind.clone(), group.clone(), namespace.clone(), name.clone())
}

/// A list of all reports, sorted; those with the same key are joined.
fn unite<T, K: Ord>(
    reports: &mut [Report],
    list: impl Fn(&mut Report) -> &mut Vec<T>,
    key: impl Fn(&T) -> K,
    join: impl Fn(&mut T, T),
) -> Vec<T> {
    let lists = reports.iter_mut().map(|it| std::mem::take(list(it)));
    unite_lists(lists, key, join)
}

fn unite_lists<T, K: Ord>(
    lists: impl IntoIterator<Item = Vec<T>>,
    key: impl Fn(&T) -> K,
    join: impl Fn(&mut T, T),
) -> Vec<T> {
    let mut united: BTreeMap<K, T> = BTreeMap::new();
    for one in lists.into_iter().flatten() {
        match united.entry(key(&one)) {
            std::collections::btree_map::Entry::Vacant(free) => {
                free.insert(one);
            }
            std::collections::btree_map::Entry::Occupied(mut known) => join(known.get_mut(), one),
        }
    }
    united.into_values().collect()
}

/// The newer of two versions of an object, as far as that can be told: they are numbers in fact, though
/// nobody promises that.
fn newer(own: &mut Object, other: Object) {
    let rank = |object: &Object| {
        let version = &object.resource_version;
        (version.len(), version.clone())
    };
    if rank(&other) > rank(own) {
        *own = other;
    }
}

/// All reasons, without those that are said twice: first what was observed, then what objects say.
fn join_reasons(own: &mut Vec<Reason>, other: Vec<Reason>) {
    own.extend(other);
    own.sort();
    own.dedup();
    own.truncate(REASONS);
}

/// The newest few, the oldest of them first.
fn join_samples(own: &mut Vec<Sample>, other: Vec<Sample>) {
    own.extend(other);
    own.sort_by(|one, other| {
        let told = |sample: &Sample| {
            let Sample {
                at: _,
                client,
                server,
                security,
                request,
                status,
            } = sample;
            let ends = (client.clone(), server.clone());
            (ends, *security, request.clone(), *status)
        };
        one.at
            .total_cmp(&other.at)
            .then_with(|| told(one).cmp(&told(other)))
    });
    own.dedup();
    own.drain(..own.len().saturating_sub(SAMPLES));
}

/// Takes the worse of two verdicts, with its reasons; of the same one, with those of both.
fn join_verdicts(own: (&mut Word, &mut Vec<Reason>), other: (Word, Vec<Reason>)) {
    let rank = |verdict: Word| match verdict {
        "violated" => 0,
        "satisfied" => 2,
        _ => 1,
    };
    match rank(other.0).cmp(&rank(own.0)) {
        std::cmp::Ordering::Less => (*own.0, *own.1) = other,
        std::cmp::Ordering::Equal => join_reasons(own.1, other.1),
        std::cmp::Ordering::Greater => {}
    }
}

/// The least protection of two declarations, as ports of one server are taken together.
fn least_declared(own: &mut Word, other: Word) {
    let rank = |declared: Word| match declared {
        "disabled" => 0,
        "permissive" => 1,
        "no_mesh" => 2,
        "strict" => 3,
        // Somebody else may know.
        _ => 4,
    };
    if rank(other) < rank(own) {
        *own = other;
    }
}

/// The greater of two times.
fn later(own: &mut Option<f64>, other: Option<f64>) {
    *own = match (*own, other) {
        (Some(own), Some(other)) => Some(own.max(other)),
        (own, other) => own.or(other),
    };
}

/// The first of both by name; any is better than none.
fn first<T: Ord>(own: &mut Option<T>, other: Option<T>) {
    if other.is_some() && (own.is_none() || other < *own) {
        *own = other;
    }
}

fn usage_key(usage: &Usage) -> (Name, String) {
    (name(&usage.object), usage.what.clone())
}

fn join_usages(own: &mut Usage, other: Usage) {
    let Usage {
        object,
        what: _,
        used,
        requests,
    } = other;
    newer(&mut own.object, object);
    own.used |= used;
    own.requests = own.requests.saturating_add(requests);
}

#[cfg(test)]
mod tests;
