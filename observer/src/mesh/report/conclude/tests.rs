//! What all agents know together goes before what one of them found.

use super::*;
use crate::mesh::report::{
    Observed,
    fixture::{self, workload},
};

fn finding(id: Word, about: &str) -> Finding {
    Finding {
        id,
        severity: "low",
        workload: workload("shop", "cart"),
        about: about.to_owned(),
        count: 500,
        summary: "as one node saw it".to_owned(),
        ..Finding::default()
    }
}

fn concluded(findings: Vec<Finding>, change: impl FnOnce(&mut Report)) -> Vec<Finding> {
    let mut report = fixture::report();
    report.findings = findings;
    change(&mut report);
    conclude(report, 0).findings
}

#[test]
fn who_is_ready_is_told_by_all() {
    let m03 = || vec![finding("M03", "")];
    let found = concluded(m03(), |_| ());
    let [found] = found.as_slice() else {
        panic!("{found:?}")
    };
    assert!(found.summary.contains("cannot take mutual TLS only yet"));
    assert_eq!(found.because.len(), 2);
    assert_eq!(
        found.because[0].text,
        "Deployment old/batch made 150 connections without mutual TLS to port 8080"
    );
    let ready = |report: &mut Report| {
        report.readiness[0].state = "READY";
        report.readiness[0].plaintext.clear();
    };
    let found = concluded(m03(), ready);
    assert!(found[0].summary.contains("could take mutual TLS only"));
    let few = |report: &mut Report| report.readiness[0].state = "INSUFFICIENT";
    assert_eq!(concluded(m03(), few), []);
    let strict = |report: &mut Report| report.readiness[0].declared = "strict";
    assert_eq!(concluded(m03(), strict), []);
}

#[test]
fn nobody_is_ready_whom_not_all_were_asked_about() {
    for (missing, state) in [(0, "READY"), (1, "INSUFFICIENT")] {
        let mut report = fixture::report();
        report.readiness[0].state = "READY";
        let concluded = conclude(report, missing);
        assert_eq!(concluded.readiness[0].state, state);
    }
    // What is known to be wrong stays so.
    let concluded = conclude(fixture::report(), 1);
    assert_eq!(concluded.readiness[0].state, "NOT READY");
}

#[test]
fn what_anybody_uses_is_not_unused() {
    let rule = "HTTPRoute shop/cart checkout ";
    let used = |report: &mut Report| report.routes[0].state = "used";
    for id in ["M15", "M16"] {
        assert_eq!(concluded(vec![finding(id, rule)], |_| ()).len(), 1);
        assert_eq!(concluded(vec![finding(id, rule)], used), []);
    }
    let found = concluded(vec![finding("M15", rule)], |_| ());
    assert_eq!(
        found[0].summary,
        "Rule checkout of HTTPRoute shop/cart matched none of 5000 requests that were made to cart."
    );
    assert_eq!(found[0].count, 5_000);

    let subset = "DestinationRule shop/cart subset v3 of cart.shop";
    assert_eq!(concluded(vec![finding("M36", subset)], |_| ()).len(), 1);
    let used = |report: &mut Report| report.uses[0].used = true;
    assert_eq!(concluded(vec![finding("M36", subset)], used), []);
}

#[test]
fn grants_are_unused_if_nobody_used_them() {
    let policy = "AuthorizationPolicy shop/cart";
    // One found it at another server.
    let m26 = || {
        let mut other = finding("M26", policy);
        other.workload = workload("shop", "till");
        vec![finding("M26", policy), other]
    };
    assert_eq!(concluded(m26(), |_| ()), []);
    let found = concluded(m26(), |report| {
        report.grants[0].used = false;
        report.grants[0].requests = 700;
    });
    let [found] = found.as_slice() else {
        panic!("{found:?}")
    };
    assert_eq!(
        found.summary,
        "AuthorizationPolicy shop/cart allows what none of 700 requests used: identity cluster.local/ns/old/sa/batch."
    );
}

#[test]
fn what_only_clients_know_is_known_of_servers_too() {
    let edge = |service: Option<&str>, port, at_client: u64, at_server: u64| {
        let seen = |requests| {
            vec![Observed {
                security: "hbone",
                connections: 1,
                requests,
            }]
        };
        Edge {
            client: workload("shop", "web"),
            server: workload("shop", "cart"),
            service: service.map(str::to_owned),
            port,
            observed: seen(at_client.max(at_server)),
            at_client: seen(at_client),
            at_server: seen(at_server),
            ..Edge::default()
        }
    };
    let told = |edges: Vec<Edge>| {
        let report = Report {
            edges,
            ..Report::default()
        };
        let edges = conclude(report, 0).edges.into_iter();
        let one = |edge: Edge| (edge.service, edge.port, edge.observed[0].requests);
        edges.map(one).collect::<Vec<_>>()
    };
    let own = |name: &str| Some(name.to_owned());
    assert_eq!(
        told(vec![
            edge(Some("cart.shop"), 8_080, 9, 0),
            edge(None, 0, 0, 10)
        ]),
        [(own("cart.shop"), 8_080, 10)]
    );
    // It may be either of them.
    assert_eq!(
        told(vec![
            edge(Some("a.shop"), 8_080, 9, 0),
            edge(Some("b.shop"), 8_080, 9, 0),
            edge(None, 8_080, 0, 18),
        ])
        .len(),
        3
    );
    assert_eq!(
        told(vec![
            edge(None, 80, 9, 0),
            edge(None, 81, 9, 0),
            edge(None, 0, 0, 18),
        ])
        .len(),
        3
    );
}
