//! What a client's proxy sends, how it routes, and what it lets out of the cluster.

use std::time::Duration;

use super::*;
use crate::mesh::decision::Rule;

const PARENT: &str = r#""group": "core", "kind": "Service", "name": "web", "port": 80"#;
pub(super) const PROFILE: &str = "web.shop.svc.cluster.local";

pub(super) fn rule(name: &str, matches: &str, more: &str) -> String {
    format!(r#"{{"name": "{name}", "matches": [{matches}]{more}}}"#)
}

pub(super) fn of_service(rules: &str) -> String {
    route(PARENT, "", rules, true)
}

pub(super) fn get(path: &str) -> Request<'_> {
    Request {
        method: "GET",
        path,
        authority: "web.shop",
        ..Request::default()
    }
}

pub(super) fn to_web() -> Destination<'static> {
    Destination {
        service: Some(("shop", "web")),
        port: 80,
        ..Destination::default()
    }
}

pub(super) fn routed(policies: &Policies, client: &Pod, request: &Request<'_>) -> Routing {
    policies.routing(Some(client), &to_web(), request).value
}

pub(super) fn name(routing: &Routing) -> String {
    match routing {
        Routing::Undeclared => "undeclared".to_owned(),
        Routing::Unmatched => "-".to_owned(),
        Routing::Rule(rule) => rule.name.to_string(),
        Routing::Unknown { candidates, .. } => {
            let names: Vec<&str> = candidates.iter().map(|rule| &*rule.name).collect();
            format!("?{}", names.join(","))
        }
    }
}

pub(super) fn the_rule(policies: &Policies, request: &Request<'_>) -> Rule {
    match routed(policies, &client(), request) {
        Routing::Rule(rule) => *rule,
        other => panic!("{other:?}"),
    }
}

#[test]
fn proxies_encrypt_to_proxies_of_their_control_plane() {
    let policies = Cluster::new().policies();
    let sends = |client: &Pod, to: &Destination<'_>| policies.sends(client, to).value;
    let (own, web) = (client(), web());
    let to = |pod| Destination {
        pod: Some(pod),
        pod_port: 8080,
        port: 80,
        ..Destination::default()
    };
    let foreign = pod("shop", "x")
        .label("linkerd.io/control-plane-ns", "other")
        .container("linkerd-proxy")
        .build();
    let plain = pod("shop", "x").build();
    let skipping = pod("shop", "x")
        .linkerd()
        .annotation("config.linkerd.io/skip-inbound-ports", "8000-8090")
        .build();
    let hasty = pod("shop", "y")
        .linkerd()
        .annotation("config.linkerd.io/skip-outbound-ports", "80")
        .build();
    for (client, to, expected) in [
        (&own, to(&web), Sends::Mutual),
        (&own, to(&foreign), Sends::Plaintext),
        (&own, to(&plain), Sends::Plaintext),
        (&own, to(&skipping), Sends::Plaintext),
        (&hasty, to(&web), Sends::Plaintext),
        (&own, to(&own), Sends::Plaintext),
        (
            &own,
            Destination {
                address: "1.2.3.4".parse().ok(),
                ..Destination::default()
            },
            Sends::Plaintext,
        ),
    ] {
        assert_eq!(sends(client, &to), expected, "{to:?}");
    }
    assert!(matches!(sends(&own, &to_web()), Sends::Unknown(_)));
    // Who has no proxy sends nothing by one.
    assert_eq!(sends(&plain, &to(&web)), Sends::NoProxy);
}

#[test]
fn routes_of_both_groups_are_matched_together() {
    let policies = Cluster::new()
        .object(
            PolicyKind::LinkerdHttpRoute,
            "shop",
            "a",
            &of_service(&rule("own", r#"{"path": {"value": "/a"}}"#, "")),
        )
        .object(
            PolicyKind::HttpRoute,
            "shop",
            "b",
            &of_service(&rule("api", r#"{"path": {"value": "/a/b"}}"#, "")),
        )
        .object(
            PolicyKind::HttpRoute,
            "blog",
            "c",
            &of_service(&rule("consumer", r#"{"path": {"value": "/a/b/c"}}"#, ""))
                .replace(r#""name": "web""#, r#""namespace": "shop", "name": "web""#),
        )
        .policies();
    let (own, blog) = (client(), pod("blog", "x").linkerd().build());
    for (client, path, expected) in [
        (&own, "/a", "own"),
        (&own, "/a/b/c", "api"),
        (&own, "/b", "-"),
        // Routes of the client's own namespace go beside.
        (&blog, "/a/b/c", "consumer"),
        (&blog, "/a", "own"),
        (&blog, "/a/b", "api"),
    ] {
        assert_eq!(
            name(&routed(&policies, client, &get(path))),
            expected,
            "{path}"
        );
    }
    // A rule without backends leads to the Service itself.
    let found = the_rule(&policies, &get("/a"));
    let [backend] = found.backends.as_slice() else {
        panic!("{found:?}");
    };
    assert_eq!(
        (&*backend.host, backend.port, backend.share),
        ("web.shop.svc.cluster.local", 80, 1.0)
    );
    assert_eq!(found.retries.map(|it| it.attempts), Some(0));
}

#[test]
fn only_linkerds_word_counts() {
    let foreign = of_service(&rule("r", "", "")).replace(
        "linkerd.io/policy-controller",
        "istio.io/gateway-controller",
    );
    let policies = Cluster::new()
        .object(PolicyKind::HttpRoute, "shop", "a", &foreign)
        .policies();
    assert_eq!(name(&routed(&policies, &client(), &get("/"))), "undeclared");
}

#[test]
fn patterns_are_weighed_by_what_they_match() {
    let pattern = r#"{"path": {"type": "RegularExpression", "value": "/a/.*"}}"#;
    let prefix = r#"{"path": {"value": "/a/b"}}"#;
    let rules = rule("pattern", pattern, "") + "," + &rule("prefix", prefix, "");
    let policies = Cluster::new()
        .object(PolicyKind::HttpRoute, "shop", "a", &of_service(&rules))
        .policies();
    assert_eq!(
        name(&routed(&policies, &client(), &get("/a/b/c"))),
        "pattern"
    );
    assert_eq!(name(&routed(&policies, &client(), &get("/a/b"))), "pattern");
    assert_eq!(name(&routed(&policies, &client(), &get("/c"))), "-");
}

#[test]
fn where_there_are_routes_of_grpc_those_of_http_do_not_count() {
    let policies = Cluster::new()
        .object(
            PolicyKind::HttpRoute,
            "shop",
            "a",
            &of_service(&rule("http", "", "")),
        )
        .object(
            PolicyKind::GrpcRoute,
            "shop",
            "b",
            &of_service(&rule("grpc", r#"{"method": {"service": "s"}}"#, "")),
        )
        .policies();
    assert_eq!(name(&routed(&policies, &client(), &get("/s/M"))), "grpc");
    assert_eq!(name(&routed(&policies, &client(), &get("/"))), "-");
}

#[test]
fn names_of_hosts_count() {
    let content = route(PARENT, r#""shop.example""#, &rule("r", "", ""), true);
    let policies = Cluster::new()
        .object(PolicyKind::HttpRoute, "shop", "a", &content)
        .policies();
    assert_eq!(name(&routed(&policies, &client(), &get("/"))), "-");
    let named = Request {
        authority: "shop.example:80",
        ..get("/")
    };
    assert_eq!(name(&routed(&policies, &client(), &named)), "r");
}

#[test]
fn nothing_is_routed_past_the_proxy_or_to_pods() {
    let cluster = Cluster::new()
        .object(
            PolicyKind::HttpRoute,
            "shop",
            "a",
            &of_service(&rule("r", "", "")),
        )
        .service("shop", "web", &[("http", 80)], &[]);
    let policies = cluster.clone().policies();
    assert_eq!(name(&routed(&policies, &client(), &get("/"))), "r");
    let hasty = pod("shop", "y")
        .linkerd()
        .annotation("config.linkerd.io/skip-outbound-ports", "80")
        .build();
    assert_eq!(name(&routed(&policies, &hasty, &get("/"))), "undeclared");
    let to = Destination {
        pod_port: 80,
        ..Destination::default()
    };
    assert_eq!(
        name(&policies.routing(Some(&client()), &to, &get("/")).value),
        "undeclared"
    );
    assert_eq!(
        name(&routed(
            &cluster.headless().policies(),
            &client(),
            &get("/")
        )),
        "undeclared"
    );
    // Without a proxy.
    assert_eq!(
        name(&routed(&policies, &pod("shop", "z").build(), &get("/"))),
        "undeclared"
    );
}

#[test]
fn opaque_ports_have_no_routes_of_http() {
    const OPAQUE: &str = "config.linkerd.io/opaque-ports";
    let http = of_service(&rule("http", "", ""));
    let tcp = of_service(r#"{"name": "tcp"}"#);
    let base = Cluster::new()
        .object(PolicyKind::HttpRoute, "shop", "a", &http)
        .object(PolicyKind::TcpRoute, "shop", "b", &tcp);
    for (cluster, expected) in [
        (
            base.clone().service("shop", "web", &[("http", 80)], &[]),
            "http",
        ),
        (
            base.clone()
                .service("shop", "web", &[("http", 80)], &[(OPAQUE, "http")]),
            "tcp",
        ),
        (
            base.clone()
                .service("shop", "web", &[("http", 80)], &[(OPAQUE, "80")]),
            "tcp",
        ),
        (
            base.clone().namespace("shop", &[], &[(OPAQUE, "80")]),
            "tcp",
        ),
        (
            base.clone().object(
                PolicyKind::ServiceProfile,
                "shop",
                PROFILE,
                r#"{"spec": {"opaquePorts": {"80": {}}}}"#,
            ),
            "tcp",
        ),
    ] {
        assert_eq!(
            name(&routed(&cluster.policies(), &client(), &get("/"))),
            expected
        );
    }
}

#[test]
fn annotations_of_routes_go_before_those_of_services() {
    let seconds = |number| Some(Duration::from_secs(number));
    let timeouts = r#", "timeouts": {"request": "3s", "backendRequest": "2s"}"#;
    for (of_route, of_service_, more, timeout, attempts, per_try) in [
        (&[][..], &[][..], "", None, 0, None),
        (&[], &[], timeouts, seconds(2), 0, None),
        (
            &[("timeout.linkerd.io/request", "5s")],
            &[("timeout.linkerd.io/request", "1s")],
            r#", "timeouts": {"request": "3s"}"#,
            seconds(5),
            0,
            None,
        ),
        (
            &[("timeout.linkerd.io/request", "5s")],
            &[],
            timeouts,
            seconds(2),
            0,
            None,
        ),
        (
            &[],
            &[("timeout.linkerd.io/request", "1s")],
            timeouts,
            seconds(2),
            0,
            None,
        ),
        (
            &[],
            &[("timeout.linkerd.io/request", "1s")],
            "",
            seconds(1),
            0,
            None,
        ),
        (
            &[("retry.linkerd.io/http", "5xx")],
            &[],
            timeouts,
            seconds(3),
            1,
            seconds(2),
        ),
        (
            &[
                ("retry.linkerd.io/http", "5xx"),
                ("retry.linkerd.io/limit", "4"),
                ("retry.linkerd.io/timeout", "1s"),
            ],
            &[],
            "",
            None,
            4,
            seconds(1),
        ),
        (
            &[("retry.linkerd.io/limit", "4")],
            &[("retry.linkerd.io/limit", "9")],
            "",
            None,
            4,
            None,
        ),
        (&[], &[("retry.linkerd.io/limit", "9")], "", None, 9, None),
        (
            &[("retry.linkerd.io/limit", "many")],
            &[],
            "",
            None,
            0,
            None,
        ),
        (
            &[("retry.linkerd.io/grpc", "internal")],
            &[],
            "",
            None,
            0,
            None,
        ),
        // Not read by Linkerd.
        (&[], &[], r#", "retry": {"attempts": 7}"#, None, 0, None),
    ] {
        let policies = Cluster::new()
            .annotated(
                PolicyKind::LinkerdHttpRoute,
                "shop",
                "a",
                of_route,
                &of_service(&rule("r", "", more)),
            )
            .service("shop", "web", &[("http", 80)], of_service_)
            .policies();
        let found = the_rule(&policies, &get("/"));
        assert_eq!(
            found.timeout, timeout,
            "{of_route:?} {of_service_:?} {more}"
        );
        let retries = found.retries.expect("Linkerd's default is known");
        assert_eq!(
            (retries.attempts, retries.per_try),
            (attempts, per_try),
            "{of_route:?} {of_service_:?}"
        );
        // The same as is enumerated.
        let declared = policies
            .linkerd()
            .rules(policies.context(), policies.gateways());
        assert!(
            matches!(declared.as_slice(), [only] if only.rule.timeout == found.timeout && only.rule.retries == found.retries)
        );
    }
}

#[test]
fn rules_are_enumerated_once_by_who_accepted_them() {
    let own = of_service(&rule("r", "", ""));
    let other = own.replace("linkerd.io/policy-controller", "example.com/it");
    let annotations = [("retry.linkerd.io/limit", "3")];
    for (content, of_linkerd, of_others) in [(&own, 1, 0), (&other, 0, 1)] {
        let policies = Cluster::new()
            .annotated(PolicyKind::HttpRoute, "shop", "a", &annotations, content)
            .policies();
        let (context, gateways) = (policies.context(), policies.gateways());
        let declared = policies.linkerd().rules(context, gateways);
        assert_eq!(declared.len(), of_linkerd);
        let attempts = declared.iter().filter_map(|it| it.rule.retries);
        assert!(attempts.into_iter().all(|it| it.attempts == 3));
        assert_eq!(gateways.rules(context).len(), of_others);
    }
}

#[test]
fn services_without_routes_have_annotations() {
    let policies = Cluster::new()
        .service(
            "shop",
            "web",
            &[("http", 80)],
            &[
                ("retry.linkerd.io/http", "5xx"),
                ("timeout.linkerd.io/request", "1s"),
            ],
        )
        .policies();
    let found = the_rule(&policies, &get("/"));
    assert_eq!((&*found.object.kind, &*found.name), ("Service", "default"));
    assert_eq!(found.timeout, Some(Duration::from_secs(1)));
    assert_eq!(found.retries.map(|it| it.attempts), Some(1));
    let grpc = Request {
        grpc: true,
        ..get("/s/M")
    };
    assert_eq!(
        the_rule(&policies, &grpc).retries.map(|it| it.attempts),
        Some(0)
    );
}
