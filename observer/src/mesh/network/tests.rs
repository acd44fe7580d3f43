//! What NetworkPolicies come to for a port and a caller.

use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::mesh::{
    policy::Policies,
    testing::{Cluster, pod},
};
use crate::model::policy::PolicyKind;

const NETWORK: PolicyKind = PolicyKind::NetworkPolicy;

fn answer(policies: &Policies, server: &Pod, port: u16, caller: &Caller<'_>) -> Certainty {
    let decision = policies
        .networks()
        .port(policies.context(), server, port, caller);
    decision.value
}

#[test]
fn a_pod_that_no_policy_chooses_is_open() {
    let policies = Cluster::new()
        .object(
            NETWORK,
            "shop",
            "other",
            r#"{"spec": {"podSelector": {"matchLabels": {"app": "db"}}}}"#,
        )
        .object(NETWORK, "else", "all", r#"{"spec": {"podSelector": {}}}"#)
        .object(
            NETWORK,
            "shop",
            "egress",
            r#"{"spec": {"podSelector": {}, "policyTypes": ["Egress"]}}"#,
        )
        .policies();
    let web = pod("shop", "web").label("app", "web").build();
    assert_eq!(
        answer(&policies, &web, 80, &Caller::default()),
        Certainty::Yes
    );
    assert_eq!(policies.networks().selecting(&web), []);
}

#[test]
fn ports_decide_alone_where_nothing_is_known_of_the_caller() {
    let spec = r#"{"spec": {"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [
        {"ports": [{"port": 8080}, {"port": "metrics"}, {"port": 9000, "endPort": 9010}]},
        {"ports": [{"port": 53, "protocol": "UDP"}]},
        {"ports": [{"port": 5432, "protocol": "TCP"}], "from": [{"podSelector": {}}]}]}}"#;
    let policies = Cluster::new()
        .object(NETWORK, "shop", "web", spec)
        .policies();
    let web = pod("shop", "web")
        .label("app", "web")
        .port("metrics", 9100)
        .build();
    for (port, expected) in [
        (8080, Certainty::Yes),
        (9100, Certainty::Yes),
        (9000, Certainty::Yes),
        (9010, Certainty::Yes),
        (9011, Certainty::No),
        (53, Certainty::No),
        (4143, Certainty::No),
        (5432, Certainty::Unknown),
    ] {
        assert_eq!(
            answer(&policies, &web, port, &Caller::default()),
            expected,
            "{port}"
        );
    }
    let [selecting] = policies
        .networks()
        .selecting(&web)
        .try_into()
        .expect("one policy");
    assert!(selecting.names_ports);
    assert_eq!(&*selecting.object.name, "web");
}

#[test]
fn peers_are_three_valued() {
    let peer = |from: &str| {
        format!(r#"{{"spec": {{"podSelector": {{}}, "ingress": [{{"from": [{from}]}}]}}}}"#)
    };
    let web = pod("shop", "web").label("app", "web").build();
    let cart = pod("shop", "cart").label("app", "cart").build();
    let ops = pod("ops", "probe").label("app", "cart").build();
    let node = pod("ops", "agent").host_network().build();
    let address = |text: &str| -> IpAddr { text.parse().expect("an address") };
    let by = |pod| Caller {
        pod: Some(pod),
        ..Caller::default()
    };
    let from = |text| Caller {
        address: Some(address(text)),
        ..Caller::default()
    };
    let both = Caller {
        address: Some(address("10.0.0.5")),
        ..by(&cart)
    };
    for (content, caller, expected) in [
        (
            r#"{"podSelector": {"matchLabels": {"app": "cart"}}}"#,
            by(&cart),
            Certainty::Yes,
        ),
        (
            r#"{"podSelector": {"matchLabels": {"app": "cart"}}}"#,
            by(&ops),
            Certainty::No,
        ),
        (
            r#"{"podSelector": {"matchLabels": {"app": "cart"}}}"#,
            by(&node),
            Certainty::Unknown,
        ),
        (
            r#"{"podSelector": {"matchLabels": {"app": "cart"}}}"#,
            Caller::default(),
            Certainty::Unknown,
        ),
        (
            r#"{"namespaceSelector": {"matchLabels": {"team": "ops"}}}"#,
            by(&ops),
            Certainty::Yes,
        ),
        (
            r#"{"namespaceSelector": {"matchLabels": {"team": "ops"}}}"#,
            by(&cart),
            Certainty::Unknown,
        ),
        (
            r#"{"namespaceSelector": {"matchLabels": {"team": "ops"}}, "podSelector": {"matchLabels": {"app": "x"}}}"#,
            by(&ops),
            Certainty::No,
        ),
        (
            r#"{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}"#,
            from("10.2.0.1"),
            Certainty::Yes,
        ),
        (
            r#"{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}"#,
            from("10.1.0.1"),
            Certainty::No,
        ),
        (
            r#"{"ipBlock": {"cidr": "10.0.0.0/8"}}"#,
            from("192.168.0.1"),
            Certainty::No,
        ),
        (
            r#"{"ipBlock": {"cidr": "10.0.0.0/8"}}"#,
            both,
            Certainty::Unknown,
        ),
        (
            r#"{"ipBlock": {"cidr": "10.0.0.0/8"}}"#,
            by(&cart),
            Certainty::Unknown,
        ),
    ] {
        // Only the namespace `ops` is known.
        let policies = Cluster::new()
            .namespace("ops", &[("team", "ops")], &[])
            .object(NETWORK, "shop", "web", &peer(content))
            .policies();
        assert_eq!(answer(&policies, &web, 80, &caller), expected, "{content}");
    }
}

#[test]
fn the_policy_that_decides_is_named_first() {
    let policies = Cluster::new()
        .object(
            NETWORK,
            "shop",
            "a",
            r#"{"spec": {"ingress": [{"ports": [{"port": 1}]}]}}"#,
        )
        .object(
            NETWORK,
            "shop",
            "b",
            r#"{"spec": {"ingress": [{"ports": [{"port": 80}]}]}}"#,
        )
        .object(NETWORK, "shop", "c", r#"{"spec": {"ingress": []}}"#)
        .policies();
    let web = pod("shop", "web").build();
    let decision = policies
        .networks()
        .port(policies.context(), &web, 80, &Caller::default());
    assert_eq!(decision.value, Certainty::Yes);
    let names = decision.because.iter().filter_map(|it| it.object.as_ref());
    let names: Vec<&str> = names.map(|object| &*object.name).collect();
    assert_eq!(names, ["b", "a", "c"]);
}

#[test]
fn the_network_of_a_node_is_another_matter() {
    let policies = Cluster::new()
        .object(NETWORK, "shop", "a", r#"{"spec": {"podSelector": {}}}"#)
        .policies();
    let agent = pod("shop", "agent").host_network().build();
    assert_eq!(
        answer(&policies, &agent, 80, &Caller::default()),
        Certainty::Unknown
    );
}

#[test]
fn what_is_wrong_is_told() {
    let policies = Cluster::new()
        .object(
            NETWORK,
            "shop",
            "a",
            r#"{"spec": {"ingress": [{"from": [{"ipBlock": {"cidr": "x"}}]}]}}"#,
        )
        .policies();
    let problems: Vec<String> = policies
        .misunderstood()
        .map(|(_, problem)| problem.clone())
        .collect();
    assert_eq!(
        problems,
        ["spec.ingress[0].from[0].ipBlock.cidr: `x` is no block of addresses"]
    );
}

fn policy() -> impl Strategy<Value = String> {
    let selector = prop::sample::select(vec![
        "{}",
        r#"{"matchLabels": {"app": "web"}}"#,
        r#"{"matchLabels": {"app": "db"}}"#,
    ]);
    let port = prop::sample::select(vec!["", r#"{"port": 80}"#, r#"{"port": 81}"#]);
    (selector, port).prop_map(|(selector, port)| {
        format!(r#"{{"spec": {{"podSelector": {selector}, "ingress": [{{"ports": [{port}]}}]}}}}"#)
    })
}

proptest! {
    /// Neither the order in which policies come, nor policies of other namespaces, change anything.
    #[test]
    fn order_and_others_change_nothing(
        specs in prop::collection::vec(policy(), 1..6),
        others in prop::collection::vec(policy(), 0..6),
        port in 79u16..82,
    ) {
        let web = pod("shop", "web").label("app", "web").build();
        let ask = |policies: &Policies| {
            policies.networks().port(policies.context(), &web, port, &Caller::default())
        };
        let mut forward = Cluster::new();
        for (number, spec) in specs.iter().enumerate() {
            forward = forward.object(NETWORK, "shop", &format!("p{number}"), spec);
        }
        let mut backward = Cluster::new();
        for (number, spec) in others.iter().enumerate() {
            backward = backward.object(NETWORK, "other", &format!("p{number}"), spec);
        }
        for (number, spec) in specs.iter().enumerate().rev() {
            backward = backward.object(NETWORK, "shop", &format!("p{number}"), spec);
        }
        prop_assert_eq!(ask(&forward.policies()), ask(&backward.policies()));
    }
}
