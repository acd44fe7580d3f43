//! What Linkerd's objects come to: at the server, at the client, and outside of the cluster.

mod inbound;
mod outbound;
mod profile;
mod server;

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::{
    mesh::{
        policy::Policies,
        testing::{Cluster, json, pod},
    },
    model::mesh::{Identity, Plane},
};

const KINDS: [PolicyKind; 9] = [
    PolicyKind::LinkerdServer,
    PolicyKind::ServerAuthorization,
    PolicyKind::LinkerdAuthorizationPolicy,
    PolicyKind::MeshTlsAuthentication,
    PolicyKind::NetworkAuthentication,
    PolicyKind::LinkerdHttpRoute,
    PolicyKind::HttpLocalRateLimitPolicy,
    PolicyKind::EgressNetwork,
    PolicyKind::ServiceProfile,
];

fn web() -> Arc<Pod> {
    pod("shop", "web")
        .linkerd()
        .label("app", "web")
        .port("http", 8080)
        .build()
}

fn client() -> Arc<Pod> {
    pod("shop", "client").linkerd().build()
}

fn identity(namespace: &str, account: &str) -> Identity {
    Identity {
        text: format!("{account}.{namespace}.serviceaccount.identity.linkerd.cluster.local").into(),
        trust_domain: "cluster.local".into(),
        namespace: namespace.into(),
        service_account: account.into(),
    }
}

/// Status of a route at a parent that Linkerd's controller has accepted.
fn accepted(parent: &str, resolved: bool) -> String {
    let resolved = if resolved {
        r#", {"type": "ResolvedRefs", "status": "True"}"#
    } else {
        ""
    };
    format!(
        r#"{{"parents": [{{"parentRef": {{{parent}}}, "controllerName": "linkerd.io/policy-controller",
            "conditions": [{{"type": "Accepted", "status": "True"}}{resolved}]}}]}}"#
    )
}

/// A route of a parent, in effect.
fn route(parent: &str, hostnames: &str, rules: &str, resolved: bool) -> String {
    let status = accepted(parent, resolved);
    format!(
        r#"{{"spec": {{"parentRefs": [{{{parent}}}], "hostnames": [{hostnames}], "rules": [{rules}]}}, "status": {status}}}"#
    )
}

#[test]
fn pods_with_label_and_container_are_in_the_mesh() {
    let policies = Cluster::new().policies();
    for (builder, expected) in [
        (pod("shop", "a").linkerd(), Plane::Linkerd),
        (
            pod("shop", "a").label("linkerd.io/control-plane-ns", "linkerd"),
            Plane::None,
        ),
        (pod("shop", "a").container("linkerd-proxy"), Plane::None),
        (pod("shop", "a"), Plane::None),
    ] {
        assert_eq!(policies.plane(&builder.build()), expected);
    }
}

#[test]
fn what_is_wrong_is_named() {
    for (kind, name, content, expected) in [
        (
            PolicyKind::LinkerdServer,
            "a",
            r#"{"spec": {"podSelector": {}, "port": 80, "accessPolicy": "maybe"}}"#,
            "spec.accessPolicy: `maybe` is no policy",
        ),
        (
            PolicyKind::LinkerdServer,
            "a",
            r#"{"spec": {"podSelector": {}, "port": 80, "proxyProtocol": "HTTP/9"}}"#,
            "spec.proxyProtocol: `HTTP/9` is no protocol",
        ),
        (
            PolicyKind::LinkerdServer,
            "a",
            r#"{"spec": {"podSelector": {}, "port": [80]}}"#,
            "spec.port: ",
        ),
        (
            PolicyKind::ServerAuthorization,
            "a",
            r#"{"spec": {"client": {"unauthenticated": true}}}"#,
            "spec.server: neither name nor selector is there",
        ),
        (
            PolicyKind::ServerAuthorization,
            "a",
            r#"{"spec": {"server": {"name": "b"}}}"#,
            "spec.client: neither unauthenticated nor meshTLS is there",
        ),
        (
            PolicyKind::LinkerdAuthorizationPolicy,
            "a",
            r#"{"spec": {"targetRef": {"kind": "Pod", "name": "b"}}}"#,
            "spec.targetRef: Pod of group `` is no target",
        ),
        (
            PolicyKind::LinkerdAuthorizationPolicy,
            "a",
            r#"{"spec": {"targetRef": {"kind": "Namespace", "name": "shop"}, "requiredAuthenticationRefs": [{"kind": "Secret"}]}}"#,
            "spec.requiredAuthenticationRefs[0]: Secret",
        ),
        (
            PolicyKind::MeshTlsAuthentication,
            "a",
            r#"{"spec": {"identityRefs": [{"kind": "User"}]}}"#,
            "spec.identityRefs[0].kind: `User` has no identity",
        ),
        (
            PolicyKind::NetworkAuthentication,
            "a",
            r#"{"spec": {"networks": [{"cidr": "10/8"}]}}"#,
            "spec.networks[0].cidr: `10/8` is no block of addresses",
        ),
        (
            PolicyKind::NetworkAuthentication,
            "a",
            r#"{"spec": {"networks": [{}]}}"#,
            "spec.networks[0]: missing field `cidr`",
        ),
        (
            PolicyKind::HttpLocalRateLimitPolicy,
            "a",
            r#"{"spec": {"targetRef": {"kind": "Pod"}}}"#,
            "spec.targetRef.kind: `Pod`",
        ),
        (
            PolicyKind::EgressNetwork,
            "a",
            r#"{"spec": {}}"#,
            "spec.trafficPolicy: `` is no policy",
        ),
        (
            PolicyKind::ServiceProfile,
            "web",
            r#"{"spec": {}}"#,
            "metadata.name: `web` names no Service",
        ),
        (
            PolicyKind::ServiceProfile,
            "web.shop.svc.cluster.local",
            r#"{"spec": {"routes": [{"condition": {}}]}}"#,
            "spec.routes[0].condition: nothing is in it",
        ),
        (
            PolicyKind::ServiceProfile,
            "web.shop.svc.cluster.local",
            r#"{"spec": {"routes": [{"condition": {"pathRegex": "["}}]}}"#,
            "spec.routes[0].condition: `[` is no pattern",
        ),
        (
            PolicyKind::ServiceProfile,
            "web.shop.svc.cluster.local",
            r#"{"spec": {"dstOverrides": [{"authority": "a", "weight": "x"}]}}"#,
            "spec.dstOverrides[0].weight: it is no quantity",
        ),
    ] {
        let policies = Cluster::new()
            .object(kind, "shop", name, content)
            .policies();
        let problems: Vec<&String> = policies
            .misunderstood()
            .map(|(_, problem)| problem)
            .collect();
        assert!(
            matches!(problems.as_slice(), [one] if one.starts_with(expected)),
            "{content}: {problems:?}"
        );
    }
}

/// Some objects that are about each other, of one namespace.
fn objects() -> impl Strategy<Value = Vec<(PolicyKind, &'static str, &'static str, u64)>> {
    let object = prop::sample::select(vec![
        (
            PolicyKind::LinkerdServer,
            "web",
            r#"{"spec": {"podSelector": {"matchLabels": {"app": "web"}}, "port": "http"}}"#,
        ),
        (
            PolicyKind::LinkerdServer,
            "web2",
            r#"{"spec": {"podSelector": {}, "port": 8080, "accessPolicy": "audit"}}"#,
        ),
        (
            PolicyKind::ServerAuthorization,
            "any",
            r#"{"spec": {"server": {"selector": {}}, "client": {"meshTLS": {"identities": ["*"]}}}}"#,
        ),
        (
            PolicyKind::ServerAuthorization,
            "plain",
            r#"{"spec": {"server": {"name": "web"}, "client": {"unauthenticated": true, "networks": [{"cidr": "10.0.0.0/8"}]}}}"#,
        ),
        (
            PolicyKind::LinkerdAuthorizationPolicy,
            "policy",
            r#"{"spec": {"targetRef": {"group": "policy.linkerd.io", "kind": "Server", "name": "web"}, "requiredAuthenticationRefs": [{"group": "policy.linkerd.io", "kind": "MeshTLSAuthentication", "name": "tls"}]}}"#,
        ),
        (
            PolicyKind::LinkerdAuthorizationPolicy,
            "wide",
            r#"{"spec": {"targetRef": {"kind": "Namespace", "name": "shop"}, "requiredAuthenticationRefs": [{"group": "policy.linkerd.io", "kind": "NetworkAuthentication", "name": "net"}]}}"#,
        ),
        (
            PolicyKind::MeshTlsAuthentication,
            "tls",
            r#"{"spec": {"identityRefs": [{"kind": "ServiceAccount", "name": "client"}]}}"#,
        ),
        (
            PolicyKind::NetworkAuthentication,
            "net",
            r#"{"spec": {"networks": [{"cidr": "10.1.0.0/16"}]}}"#,
        ),
        (
            PolicyKind::EgressNetwork,
            "out",
            r#"{"spec": {"trafficPolicy": "Deny"}}"#,
        ),
        (
            PolicyKind::ServiceProfile,
            "web.shop.svc.cluster.local",
            r#"{"spec": {"routes": [{"name": "a", "condition": {"pathRegex": "/a"}}]}}"#,
        ),
    ]);
    let made = (object, 0u64..3)
        .prop_map(|((kind, name, content), created)| (kind, name, content, created));
    prop::collection::vec(made, 0..8).prop_map(|mut all| {
        all.sort_by_key(|(kind, name, ..)| (*kind, *name));
        all.dedup_by_key(|(kind, name, ..)| (*kind, *name));
        all
    })
}

fn cluster(namespace: &str, objects: &[(PolicyKind, &'static str, &'static str, u64)]) -> Cluster {
    objects
        .iter()
        .fold(Cluster::new(), |cluster, (kind, name, content, created)| {
            cluster
                .object(*kind, namespace, name, content)
                .made(*created, &[])
        })
}

/// All answers, in words.
fn answers(policies: &Policies) -> Vec<String> {
    let (web, client) = (web(), client());
    let identity = identity("shop", "client");
    let address = "10.1.0.7".parse().ok();
    let callers = [
        Caller::default(),
        Caller {
            identity: Some(&identity),
            mutual: Some(true),
            ..Caller::default()
        },
        Caller {
            pod: Some(&client),
            address,
            mutual: Some(false),
            ..Caller::default()
        },
    ];
    let request = Request {
        method: "GET",
        path: "/a",
        authority: "web.shop",
        ..Request::default()
    };
    let to = Destination {
        service: Some(("shop", "web")),
        port: 80,
        pod: Some(&web),
        pod_port: 8080,
        ..Destination::default()
    };
    let outside = Destination {
        address: "1.2.3.4".parse().ok(),
        port: 443,
        ..Destination::default()
    };
    let mut answers = Vec::new();
    for port in [8080, 9090] {
        answers.push(format!("{:?}", policies.accepts(&web, port)));
        for caller in &callers {
            answers.push(format!("{:?}", policies.access(&web, port, caller, None)));
            answers.push(format!(
                "{:?}",
                policies.access(&web, port, caller, Some(&request))
            ));
        }
        answers.push(format!(
            "{:?}",
            policies
                .linkerd()
                .authorizers(policies.gateways(), &web, port)
        ));
    }
    answers.push(format!("{:?}", policies.sends(&client, &to)));
    answers.push(format!(
        "{:?}",
        policies.routing(Some(&client), &to, &request)
    ));
    answers.push(format!("{:?}", policies.egress(&client, &outside)));
    answers
}

proptest! {
    /// Neither order, nor what other namespaces declare, nor what came and went, change an answer.
    #[test]
    fn order_and_others_change_nothing(mine in objects(), others in objects(), seed: usize) {
        let own = cluster("shop", &mine);
        let expected = answers(&own.policies());
        let mut more = own.clone();
        for (kind, name, content, created) in &others {
            // Those of all clients are in a namespace of their own.
            more = more.object(*kind, "blog", name, content).made(*created, &[]);
        }
        prop_assert_eq!(&answers(&more.shuffled(seed).policies()), &expected);
        let gone: Vec<_> = others.into_iter().filter(|(kind, name, ..)| {
            !mine.iter().any(|(own, known, ..)| own == kind && known == name)
        }).collect();
        prop_assert_eq!(&answers(&own.policies_after(&cluster("shop", &gone))), &expected);
    }

    /// Knowing more of the caller does not turn a sure answer around.
    #[test]
    fn knowing_more_contradicts_nothing(mine in objects(), mutual: bool, inside: bool) {
        let policies = cluster("shop", &mine).policies();
        let web = web();
        let identity = identity("shop", "client");
        let less = Caller::default();
        let more = Caller {
            identity: mutual.then_some(&identity),
            mutual: Some(mutual),
            address: if inside { "10.1.0.7" } else { "1.2.3.4" }.parse().ok(),
            ..less
        };
        let answer = |caller: &Caller<'_>| policies.access(&web, 8080, caller, None).value;
        let (less, more) = (answer(&less), answer(&more));
        prop_assert!(less == more || matches!(less, Access::Unknown(_)), "{less:?} {more:?}");
        // A port that takes mutual TLS only lets nobody pass without.
        if !mutual && policies.accepts(&web, 8080).value == Accepts::Mutual {
            prop_assert!(!matches!(more, Access::Allowed | Access::Audited), "{more:?}");
        }
    }

    /// Whatever an object says, it is read or told as misunderstood, and all is answered.
    #[test]
    fn any_content_is_read_or_told(content in json(), spec in json(), kind in 0usize..9) {
        let kind = KINDS.get(kind).copied().unwrap_or(PolicyKind::LinkerdServer);
        let spec = format!(r#"{{"spec": {spec}}}"#);
        let name = "web.shop.svc.cluster.local";
        let policies = Cluster::new()
            .object(kind, "shop", name, &content)
            .object(kind, "blog", name, &spec)
            .policies();
        let _ = answers(&policies);
        let _ = policies.linkerd().rules(policies.context(), policies.gateways());
        let _ = policies.linkerd().ignored().count();
    }

    /// Whatever annotations say, all is answered.
    #[test]
    fn any_annotation_is_read_or_passed_over(text in ".*") {
        let names = [
            "config.linkerd.io/opaque-ports", "config.linkerd.io/skip-inbound-ports",
            "config.linkerd.io/default-inbound-policy", "retry.linkerd.io/limit",
            "timeout.linkerd.io/request", "retry.linkerd.io/timeout",
        ];
        let annotations: Vec<(&str, &str)> = names.iter().map(|name| (*name, &*text)).collect();
        let policies = Cluster::new()
            .namespace("shop", &[], &annotations)
            .service("shop", "web", &[("http", 80)], &annotations)
            .policies();
        let _ = answers(&policies);
    }
}
