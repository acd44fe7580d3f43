//! Any reports, in any order and however they are grouped, make the same one; and what it says.

use proptest::{prelude::*, sample::select};

use super::*;
use crate::mesh::report::{
    Authorization, Connections, Edge, Finding, Ignored, Latency, Measured, Misunderstood, Observed,
    Party, PlaintextClient, Readiness, Route, Split, SplitBackend,
    fixture::{self, object, workload},
};

fn time() -> impl Strategy<Value = f64> {
    (0_u32..50).prop_map(f64::from)
}

fn party() -> impl Strategy<Value = Party> {
    select(vec!["a", "b"]).prop_map(|name| workload("shop", name))
}

fn declared_by() -> impl Strategy<Value = Object> {
    (select(vec!["x", "y"]), select(vec!["9", "10"])).prop_map(|(name, version)| Object {
        resource_version: version.to_owned(),
        ..object("VirtualService", "networking.istio.io", "shop", name)
    })
}

fn reasons() -> impl Strategy<Value = Vec<Reason>> {
    let reason = (prop::option::of(declared_by()), 0..40_u32).prop_map(|(object, text)| Reason {
        object,
        text: text.to_string(),
    });
    prop::collection::vec(reason, 0..12)
}

fn verdict() -> impl Strategy<Value = Word> {
    select(vec!["satisfied", "violated", "unknown"])
}

fn observed() -> impl Strategy<Value = Vec<Observed>> {
    let kinds = vec!["unknown", "plaintext", "istio_mtls"];
    let counts = (select(kinds), 0_u64..5, 0_u64..5);
    let one = counts.prop_map(|(security, connections, requests)| Observed {
        security,
        connections,
        requests,
    });
    prop::collection::vec(one, 0..3)
}

fn measured() -> impl Strategy<Value = Vec<Measured>> {
    let places = vec!["client", "server", "wire_client", "wire_server", "upstream"];
    let one = (select(places), 1_u64..200, 0_u64..1_000_000);
    let one = one.prop_map(|(at, count, nanoseconds)| Measured {
        at,
        count,
        nanoseconds,
    });
    prop::collection::vec(one, 0..5)
}

fn edge() -> impl Strategy<Value = Edge> {
    let names = (
        party(),
        party(),
        prop::option::of(Just("a.shop".to_owned())),
        0..2_u16,
    );
    let seen = (
        observed(),
        observed(),
        select(vec!["strict", "permissive", "unknown"]),
    );
    let judged = (verdict(), reasons(), time(), time(), 0..4_u64, 0..4_u64);
    let times = (measured(), any::<bool>());
    (names, seen, judged, times).prop_map(|(names, seen, judged, (measured, proxied))| {
        let (client, server, service, port) = names;
        let (at_client, at_server, declared) = seen;
        let (verdict, because, first_seen, last_seen, first_attempts, other_attempts) = judged;
        Edge {
            client,
            server,
            service,
            port,
            declared,
            at_client,
            at_server,
            verdict,
            because,
            first_seen,
            last_seen,
            first_attempts,
            other_attempts,
            latency: Latency {
                proxied,
                measured,
                ..Latency::default()
            },
            ..Edge::default()
        }
    })
}

fn finding() -> impl Strategy<Value = Finding> {
    let sample = (time(), select(vec!["10.0.0.1:1", "10.0.0.2:1"]));
    let sample = sample.prop_map(|(at, client)| Sample {
        at,
        client: client.to_owned(),
        ..Sample::default()
    });
    let key = (
        select(vec!["M01", "M15"]),
        party(),
        prop::option::of(party()),
    );
    let told = (select(vec!["critical", "low"]), 0..3_u32, reasons());
    let counts = (0_u64..9, time(), time());
    let samples = prop::collection::vec(sample, 0..=SAMPLES);
    (key, told, counts, samples).prop_map(|(key, told, counts, samples)| Finding {
        id: key.0,
        workload: key.1,
        peer: key.2,
        severity: told.0,
        summary: told.1.to_string(),
        because: told.2,
        count: counts.0,
        first_seen: counts.1,
        last_seen: counts.2,
        samples,
        ..Finding::default()
    })
}

fn connections() -> impl Strategy<Value = Connections> {
    (0..30_u64, 0..3_u64, 0..2_u64, 0..2_u64).prop_map(|(mutual, plaintext, foreign, unknown)| {
        Connections {
            mutual,
            plaintext,
            foreign,
            unknown,
        }
    })
}

fn readiness() -> impl Strategy<Value = Readiness> {
    let client = (party(), 0..2_u16, 0..5_u64, 0..5_u64, time());
    let client = (
        client,
        prop::option::of(select(vec!["192.0.2.1", "192.0.2.2"])),
    );
    let client = client.prop_map(
        |((client, port, at_client, at_server, last_seen), address)| PlaintextClient {
            client,
            port,
            connections: at_client.max(at_server),
            at_client,
            at_server,
            last_seen,
            address: address.map(str::to_owned),
        },
    );
    let plaintext = prop::collection::vec(client, 0..3);
    let ends = (connections(), connections());
    let times = (time(), time(), 0..30_u64);
    (party(), ends, plaintext, times).prop_map(|(workload, ends, plaintext, times)| Readiness {
        workload,
        state: "INSUFFICIENT",
        declared: "permissive",
        window_seconds: times.0,
        observed_seconds: times.1,
        minimum: times.2,
        at_client: ends.0,
        at_server: ends.1,
        plaintext,
        ..Readiness::default()
    })
}

fn split() -> impl Strategy<Value = Split> {
    let backends = (select(vec![0.5, 0.9]), 0_u64..500, 0_u64..500);
    let counts = (
        0_u64..1_000,
        0_u64..20,
        prop::option::of(select(vec!["p", "q"])),
    );
    let hosts = select(vec!["a", "a, b", "c"]);
    (declared_by(), backends, counts, hosts).prop_map(|(object, backends, counts, host)| {
        let (share, one, other) = backends;
        let backend = |declared, served| SplitBackend {
            declared,
            served,
            ..SplitBackend::default()
        };
        Split {
            object,
            host: host.to_owned(),
            backends: vec![backend(share, one), backend(1.0 - share, other)],
            sent: counts.0,
            strays: counts.1,
            unclear: counts.2.map(str::to_owned),
            verdict: "unknown",
            ..Split::default()
        }
    })
}

fn route() -> impl Strategy<Value = Route> {
    let counts = (0_u64..2, 0_u64..2, 0_u64..30, 0_u64..30);
    let shadowed_by = prop::option::of(select(vec!["0", "1"]));
    let times = (prop::option::of(time()), prop::option::of(0..3_u32));
    let hosts = select(vec!["a", "a, b", "c"]);
    (declared_by(), counts, shadowed_by, times, hosts).prop_map(
        |(object, counts, shadowed_by, times, host)| Route {
            object,
            host: host.to_owned(),
            requests: counts.0,
            possible_requests: counts.1,
            host_requests: counts.2,
            minimum: counts.3,
            shadowed_by: shadowed_by.map(str::to_owned),
            last_seen: times.0,
            timeout_seconds: times.0,
            longest_seconds: times.0,
            retries: times.1,
            state: "unknown",
            ..Route::default()
        },
    )
}

fn authorization() -> impl Strategy<Value = Authorization> {
    (party(), party(), 0..9_u64, verdict(), reasons()).prop_map(
        |(client, server, count, verdict, because)| Authorization {
            client,
            server,
            allowed: count,
            denied: count / 2,
            verdict,
            because,
            ..Authorization::default()
        },
    )
}

fn usage() -> impl Strategy<Value = Usage> {
    let what = select(vec!["subset v1 of a", "subset v2 of a"]);
    (declared_by(), what, any::<bool>(), 0..9_u64).prop_map(|(object, what, used, requests)| {
        Usage {
            object,
            what: what.to_owned(),
            used,
            requests,
        }
    })
}

fn misunderstood() -> impl Strategy<Value = Misunderstood> {
    (declared_by(), select(vec!["p", "q"])).prop_map(|(object, problem)| Misunderstood {
        object,
        problem: problem.to_owned(),
    })
}

fn ignored() -> impl Strategy<Value = Ignored> {
    (declared_by(), select(vec!["p", "q"])).prop_map(|(object, reason)| Ignored {
        object,
        reason: reason.to_owned(),
    })
}

fn any_report() -> impl Strategy<Value = Report> {
    use prop::collection::vec;
    let one = (
        vec(edge(), 0..4),
        vec(finding(), 0..4),
        vec(readiness(), 0..3),
    );
    let two = (
        vec(split(), 0..3),
        vec(route(), 0..3),
        vec(authorization(), 0..3),
    );
    let three = (
        vec(usage(), 0..3),
        vec(usage(), 0..3),
        (vec(misunderstood(), 0..3), vec(ignored(), 0..3)),
    );
    (time(), one, two, three).prop_map(|(observed_seconds, one, two, three)| Report {
        observed_seconds,
        edges: one.0,
        findings: one.1,
        readiness: one.2,
        splits: two.0,
        routes: two.1,
        authorizations: two.2,
        grants: three.0,
        uses: three.1,
        misunderstood: three.2.0,
        ignored: three.2.1,
    })
}

proptest! {
    #[test]
    fn order_does_not_matter(one in any_report(), other in any_report()) {
        let found = merge([one.clone(), other.clone()]);
        prop_assert_eq!(found, merge([other, one]));
    }

    #[test]
    fn groups_do_not_matter(a in any_report(), b in any_report(), c in any_report()) {
        let all = merge([a.clone(), b.clone(), c.clone()]);
        let left = merge([merge([a.clone(), b.clone()]), c.clone()]);
        prop_assert_eq!(&left, &all);
        prop_assert_eq!(merge([a, merge([b, c])]), all);
    }

    #[test]
    fn one_alone_stays_as_it_is(one in any_report()) {
        prop_assert_eq!(merge([one.clone()]), one.clone());
        prop_assert_eq!(merge([Report::default(), one.clone()]), one.clone());
        prop_assert_eq!(merge([one.clone(), Report::default()]), one);
    }
}

#[test]
fn nothing_is_made_of_nothing() {
    assert_eq!(merge([]), Report::default());
}

fn seen(security: Word, connections: u64, requests: u64) -> Vec<Observed> {
    vec![Observed {
        security,
        connections,
        requests,
    }]
}

fn edges_of(edges: Vec<Edge>) -> Report {
    Report {
        observed_seconds: 1.0,
        edges,
        ..Report::default()
    }
}

/// Two nodes of clients and two of servers see the same 100 requests at both ends.
#[test]
fn both_ends_count_the_same_and_nodes_count_others() {
    let at = |at_client, at_server| {
        edges_of(vec![Edge {
            client: workload("shop", "web"),
            server: workload("shop", "cart"),
            at_client,
            at_server,
            verdict: "satisfied",
            ..Edge::default()
        }])
    };
    let merged = merge([
        at(seen("istio_mtls", 3, 60), Vec::new()),
        at(seen("istio_mtls", 2, 40), Vec::new()),
        at(Vec::new(), seen("istio_mtls", 4, 70)),
        at(Vec::new(), seen("plaintext", 1, 30)),
    ]);
    let [edge] = merged.edges.as_slice() else {
        panic!("{:?}", merged.edges)
    };
    assert_eq!(edge.at_client, seen("istio_mtls", 5, 100));
    let mut expected = seen("plaintext", 1, 30);
    expected.extend(seen("istio_mtls", 5, 100));
    assert_eq!(edge.observed, expected);
    assert_eq!(edge.encrypted_share, Some(100.0 / 130.0));
}

#[test]
fn the_worst_verdict_wins_with_its_reasons() {
    let judged = |verdict, why: &str| {
        edges_of(vec![Edge {
            verdict,
            because: vec![Reason {
                object: None,
                text: why.to_owned(),
            }],
            ..Edge::default()
        }])
    };
    let told = |reports: Vec<Report>| {
        let edge = merge(reports).edges.remove(0);
        let because: Vec<String> = edge.because.into_iter().map(|it| it.text).collect();
        (edge.verdict, because.join(" "))
    };
    let (good, bad) = (judged("satisfied", "good"), judged("violated", "bad"));
    let dim = judged("unknown", "dim");
    assert_eq!(
        told(vec![good.clone(), dim.clone()]),
        ("unknown", "dim".to_owned())
    );
    assert_eq!(
        told(vec![good, bad, dim, judged("violated", "awful")]),
        ("violated", "awful bad".to_owned())
    );
}

/// The client's node measures its part of the way, the server's node its own; the network is between.
#[test]
fn time_is_where_it_was_measured() {
    let at = |measured: &[(Word, u64)]| {
        let measured = measured.iter().map(|(at, milliseconds)| Measured {
            at,
            count: 100,
            nanoseconds: 100 * milliseconds * 1_000_000,
        });
        edges_of(vec![Edge {
            latency: Latency {
                proxied: true,
                measured: measured.collect(),
                ..Latency::default()
            },
            ..Edge::default()
        }])
    };
    let merged = merge([
        at(&[("client", 20), ("wire_client", 15)]),
        at(&[("server", 10), ("wire_server", 12)]),
    ]);
    let latency = &merged.edges.first().unwrap().latency;
    let near = |one: Option<f64>, other: f64| (one.unwrap() - other).abs() < 1e-9;
    assert!(near(latency.client, 0.020) && near(latency.server, 0.010));
    assert!(near(latency.client_proxy, 0.005) && near(latency.server_proxy, 0.002));
    assert!(near(latency.network, 0.003), "{latency:?}");
}

#[test]
fn a_finding_is_told_once() {
    let found = |count, first_seen, last_seen, severity, summary: &str| {
        let mut report = fixture::report();
        report.findings.truncate(1);
        let finding = report.findings.first_mut().unwrap();
        finding.count = count;
        (finding.first_seen, finding.last_seen) = (first_seen, last_seen);
        finding.severity = severity;
        finding.summary = summary.to_owned();
        report
    };
    let merged = merge([
        found(150, 10.0, 20.0, "high", "five of ten"),
        found(5, 5.0, 15.0, "critical", "one of two"),
    ]);
    let [finding] = merged.findings.as_slice() else {
        panic!("{:?}", merged.findings)
    };
    assert_eq!((finding.count, finding.severity), (155, "critical"));
    assert_eq!((finding.first_seen, finding.last_seen), (5.0, 20.0));
    assert_eq!(finding.summary, "five of ten");
    // The reasons of both are the same; the other sentence is one more.
    let texts: Vec<&str> = finding.because.iter().map(|it| &*it.text).collect();
    assert_eq!(
        texts,
        [
            "150 of 200 connections are plaintext",
            "one of two",
            "mode STRICT for the namespace"
        ]
    );
    assert_eq!(finding.samples.len(), 1);
}

fn ready(mutual: [u64; 2], plaintext: [u64; 2], observed_seconds: f64) -> Report {
    let end = |place: usize| Connections {
        mutual: mutual[place],
        plaintext: plaintext[place],
        ..Connections::default()
    };
    let client = |at: [u64; 2]| PlaintextClient {
        client: workload("old", "batch"),
        port: 8_080,
        connections: at[0].max(at[1]),
        at_client: at[0],
        at_server: at[1],
        ..PlaintextClient::default()
    };
    Report {
        observed_seconds,
        readiness: vec![Readiness {
            workload: workload("shop", "cart"),
            declared: "permissive",
            window_seconds: 100.0,
            observed_seconds,
            minimum: 20,
            at_client: end(0),
            at_server: end(1),
            plaintext: (plaintext != [0, 0])
                .then(|| client(plaintext))
                .into_iter()
                .collect(),
            ..Readiness::default()
        }],
        ..Report::default()
    }
}

#[test]
fn a_server_is_ready_if_it_is_so_for_all() {
    let told = |reports: &[Report]| {
        let server = merge(reports.iter().cloned()).readiness.remove(0);
        (server.state, server.connections, server.plaintext.len())
    };
    let many = ready([0, 30], [0, 0], 100.0);
    // Each has too few, and both have enough.
    let few = [ready([0, 12], [0, 0], 100.0), ready([0, 13], [0, 0], 100.0)];
    assert_eq!(told(&few), ("READY", 25, 0));
    // What one saw at the clients' end the other saw at the server's: it is not twice as much.
    let twice = [ready([12, 0], [0, 0], 100.0), ready([0, 12], [0, 0], 100.0)];
    assert_eq!(told(&twice), ("INSUFFICIENT", 12, 0));
    let plain = [many.clone(), ready([0, 0], [2, 0], 100.0)];
    assert_eq!(told(&plain), ("NOT READY", 32, 1));
    let both = [ready([0, 0], [2, 0], 100.0), ready([0, 0], [0, 3], 100.0)];
    assert_eq!(told(&both), ("NOT READY", 3, 1));
    let young = [many, ready([0, 1], [0, 0], 10.0)];
    assert_eq!(told(&young), ("INSUFFICIENT", 31, 0));
}

fn shares(sent: u64, served: [u64; 2]) -> Report {
    let mut report = fixture::report();
    report.splits.truncate(1);
    let split = report.splits.first_mut().unwrap();
    split.sent = sent;
    for (backend, served) in split.backends.iter_mut().zip(served) {
        backend.served = served;
    }
    report
}

#[test]
fn shares_are_judged_by_all_requests() {
    let told = |reports: [Report; 2]| {
        let split = merge(reports).splits.remove(0);
        let requests: Vec<u64> = split.backends.iter().map(|it| it.requests).collect();
        (split.verdict, requests, split.p_value.is_some())
    };
    // Sent from one node, and served on both: neither of them could tell.
    let good = told([shares(1_000, [900, 0]), shares(0, [0, 100])]);
    assert_eq!(good, ("satisfied", vec![900, 100], true));
    let bad = told([shares(500, [350, 150]), shares(500, [350, 150])]);
    assert_eq!(bad, ("violated", vec![700, 300], true));
    let part = told([shares(1_000, [400, 0]), shares(0, [0, 100])]);
    assert_eq!(part, ("unknown", vec![400, 100], false));
    let mut other = shares(1_000, [500, 500]);
    let split = other.splits.first_mut().unwrap();
    for backend in &mut split.backends {
        backend.declared = 0.5;
    }
    assert_eq!(merge([shares(1_000, [900, 100]), other]).splits.len(), 2);
}

#[test]
fn a_rule_is_dead_if_nobody_uses_it() {
    let told = |counts: [(u64, u64, u64); 2]| {
        let reports = counts.map(|(requests, possible_requests, host_requests)| {
            let mut report = fixture::report();
            let route = report.routes.first_mut().unwrap();
            (route.requests, route.host_requests) = (requests, host_requests);
            route.possible_requests = possible_requests;
            report
        });
        let route = merge(reports).routes.remove(0);
        (route.state, route.host_requests)
    };
    assert_eq!(told([(0, 0, 500), (0, 0, 3)]), ("unused", 503));
    assert_eq!(told([(0, 0, 15), (0, 0, 15)]), ("unused", 30));
    assert_eq!(told([(0, 0, 5), (0, 0, 5)]), ("unknown", 10));
    assert_eq!(told([(0, 0, 500), (1, 0, 3)]), ("used", 503));
    assert_eq!(told([(0, 0, 500), (0, 2, 3)]), ("unknown", 503));
}
