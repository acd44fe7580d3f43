//! Series of what was found of a mesh.

use super::*;
use crate::{
    aggregate::{Aggregator, Budgets, Config, fixture::SECOND, series::OVERFLOW_LABEL},
    mesh::report::fixture,
    telemetry::health::Health,
};

const NOW: Monotonic = Monotonic(3 * SECOND);

/// All series of a family, as `name=value,... value`.
fn series(aggregator: &mut Aggregator, family: &Family, now: Monotonic) -> Vec<String> {
    let snapshot = aggregator.snapshot(Health::default(), now);
    let found = snapshot
        .families
        .iter()
        .find(|samples| samples.family == family);
    let lines = found.iter().flat_map(|samples| &samples.series);
    lines
        .map(|series| {
            let labels: Vec<String> = series
                .labels()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            let value = match &series.value {
                Value::Integer(value) => value.to_string(),
                Value::Float(value) => value.to_string(),
                Value::Histogram(..) => "histogram".to_owned(),
            };
            format!("{} {value}", labels.join(","))
        })
        .collect()
}

fn judged(report: &Report, budget: usize) -> Aggregator {
    let mut aggregator = Aggregator::new(Config {
        budgets: Budgets {
            mesh: budget,
            ..Budgets::default()
        },
        cluster: "prod".to_owned(),
        ..Config::default()
    });
    let objects = [
        (PolicyKind::PeerAuthentication, 2),
        (PolicyKind::HttpRoute, 1),
    ];
    aggregator.judge(report, &objects, NOW);
    aggregator
}

#[test]
fn every_family() {
    let mut aggregator = judged(&fixture::report(), 100);
    let ends = |client: &str| {
        format!(
            "k8s_cluster_name=prod,source_kind=workload,source_namespace={}\
             ,source_workload_kind=Deployment,source_name={},destination_kind=workload\
             ,destination_namespace=shop,destination_workload_kind=Deployment\
             ,destination_name=cart",
            client.split('/').next().unwrap(),
            client.split('/').nth(1).unwrap()
        )
    };
    let web = format!(
        "{},k8s_service_name=cart,k8s_service_namespace=shop,server_port=8080,declared=strict",
        ends("shop/web")
    );
    let batch = format!("{},server_port=8080,declared=strict", ends("old/batch"));
    let cart = "k8s_cluster_name=prod,namespace=shop,workload_kind=Deployment,workload=cart\
                ,declared=permissive";
    let host = "cart.shop.svc.cluster.local";
    let backend = |subset| {
        format!(
            "k8s_cluster_name=prod,object_kind=VirtualService,object_namespace=shop\
             ,object_name=cart,rule=0,host={host},backend={host},subset={subset}"
        )
    };
    let allowed = format!(
        "{},server_port=8080,client_identity=spiffe://cluster.local/ns/old/sa/batch",
        ends("old/batch")
    );
    for (family, expected) in [
        (
            &contract::MESH_FINDING,
            vec![
                "k8s_cluster_name=prod,id=M01,severity=critical,namespace=shop,workload=cart\
                 ,peer=old/batch 1"
                    .to_owned(),
                "k8s_cluster_name=prod,id=M15,severity=low,namespace=pay,workload=bill 1"
                    .to_owned(),
            ],
        ),
        (
            &contract::MESH_ENCRYPTED,
            vec![format!("{web} 1"), format!("{batch} 0.25")],
        ),
        (
            &contract::MESH_VIOLATED,
            vec![format!("{web} 0"), format!("{batch} 1")],
        ),
        (&contract::MESH_RETRIES, vec![format!("{web} 0.02")]),
        (
            &contract::MESH_LATENCY,
            vec![
                format!("{web},part=client_proxy 0.001"),
                format!("{web},part=network 0.002"),
                format!("{web},part=server_proxy 0.001"),
                format!("{web},part=application 0.008"),
            ],
        ),
        (
            &contract::MESH_READINESS,
            vec![format!("{cart},state=not_ready 1")],
        ),
        (&contract::MESH_PLAINTEXT_CLIENTS, vec![format!("{cart} 2")]),
        (
            &contract::MESH_SPLIT_DECLARED,
            vec![
                format!("{} 0.9", backend("v1")),
                format!("{} 0.1", backend("v2")),
            ],
        ),
        (
            &contract::MESH_SPLIT_OBSERVED,
            vec![
                format!("{} 0.7", backend("v1")),
                format!("{} 0.3", backend("v2")),
            ],
        ),
        (
            &contract::MESH_SPLIT_REQUESTS,
            vec![
                format!("{} 700", backend("v1")),
                format!("{} 300", backend("v2")),
            ],
        ),
        (
            &contract::MESH_SPLIT_SERVED,
            vec![
                format!("{} 700", backend("v1")),
                format!("{} 300", backend("v2")),
            ],
        ),
        (
            &contract::MESH_AUTHORIZATION,
            vec![
                format!("{allowed},decision=allowed 10"),
                format!("{allowed},decision=denied 5"),
                format!("{allowed},decision=unknown 1"),
                format!("{allowed},decision=refused 2"),
            ],
        ),
        (
            &contract::MESH_OBJECTS,
            vec![
                "k8s_cluster_name=prod,kind=PeerAuthentication,group=security.istio.io 2"
                    .to_owned(),
                "k8s_cluster_name=prod,kind=HTTPRoute,group=gateway.networking.k8s.io 1".to_owned(),
            ],
        ),
        (
            &contract::MESH_MISUNDERSTOOD,
            vec!["k8s_cluster_name=prod 1".to_owned()],
        ),
    ] {
        let found = series(&mut aggregator, family, NOW);
        assert_eq!(found, expected, "{}", family.name);
    }
}

#[test]
fn labels_are_those_of_the_contract_in_its_order() {
    let mut aggregator = judged(&fixture::report(), 100);
    for samples in aggregator.snapshot(Health::default(), NOW).families {
        let known = samples.family.labels;
        for series in &samples.series {
            for (label, _) in series.labels() {
                assert!(known.contains(&label), "{}: {label}", samples.family.name);
            }
        }
    }
    let of_mesh = aggregator.snapshot(Health::default(), NOW);
    let names: Vec<&str> = of_mesh.families.iter().map(|one| one.family.name).collect();
    let all: Vec<&str> = contract::FAMILIES
        .iter()
        .map(|family| family.name)
        .filter(|name| names.contains(name))
        .collect();
    assert_eq!(names, all);
}

/// A finding that ends is told to have ended, and then forgotten.
#[test]
fn findings_end() {
    let mut report = fixture::report();
    let mut aggregator = judged(&report, 100);
    report.findings.remove(0);
    let later = NOW.plus(Duration::from_secs(10));
    aggregator.judge(&report, &[], later);
    let values = |aggregator: &mut Aggregator, now| {
        let found = series(aggregator, &contract::MESH_FINDING, now);
        let value = |line: &String| line.rsplit(' ').next().unwrap().to_owned();
        found.iter().map(value).collect::<Vec<_>>()
    };
    assert_eq!(values(&mut aggregator, later), ["0", "1"]);
    let much_later = later.plus(Duration::from_secs(301));
    aggregator.expire(much_later);
    aggregator.judge(&report, &[], much_later);
    assert_eq!(values(&mut aggregator, much_later), ["1"]);
}

#[test]
fn what_is_too_much_is_counted() {
    let mut aggregator = judged(&fixture::report(), 1);
    let found = series(&mut aggregator, &contract::MESH_FINDING, NOW);
    assert_eq!(found.len(), 2);
    assert_eq!(found[1], format!("{OVERFLOW_LABEL}=true 1"));
    let edges = series(&mut aggregator, &contract::MESH_ENCRYPTED, NOW);
    assert_eq!(edges.len(), 1);
    let over = series(&mut aggregator, &contract::SERIES_OVERFLOW, NOW);
    for expected in [
        "family=mesh_findings 1",
        "family=mesh_edges 1",
        "family=mesh_rules 0",
    ] {
        assert!(over.iter().any(|line| line == expected), "{over:?}");
    }
    let limits = series(&mut aggregator, &contract::SERIES_LIMIT, NOW);
    assert!(limits.contains(&"family=mesh_edges 1".to_owned()));
}

#[test]
fn without_a_mesh_there_is_nothing() {
    let mut aggregator = Aggregator::new(Config::default());
    aggregator.judge(&Report::default(), &[], NOW);
    let snapshot = aggregator.snapshot(Health::default(), NOW);
    let of_mesh = snapshot
        .families
        .iter()
        .find(|samples| samples.family.name.contains("mesh"));
    assert!(of_mesh.is_none());
}
