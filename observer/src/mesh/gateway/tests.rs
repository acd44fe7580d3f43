//! Which rule of a route a request matches, where routes are in effect, and what rules come to.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::mesh::{
    policy::Policies,
    testing::{Cluster, json, pod},
};

const HTTP: PolicyKind = PolicyKind::HttpRoute;
const GRPC: PolicyKind = PolicyKind::GrpcRoute;

/// A route of Service `shop/web` that a controller has accepted.
fn of_service(hostnames: &str, rules: &str) -> String {
    of_parent(
        r#""group": "", "kind": "Service", "namespace": "shop", "name": "web""#,
        hostnames,
        rules,
    )
}

fn of_gateway(more: &str, hostnames: &str, rules: &str) -> String {
    let parent = format!(r#""namespace": "shop", "name": "edge"{more}"#);
    of_parent(&parent, hostnames, rules)
}

fn of_parent(parent: &str, hostnames: &str, rules: &str) -> String {
    format!(
        r#"{{"spec": {{"parentRefs": [{{{parent}}}], "hostnames": [{hostnames}], "rules": [{rules}]}},
            "status": {{"parents": [{{"parentRef": {{{parent}}}, "controllerName": "example.com/it",
            "conditions": [{{"type": "Accepted", "status": "True"}},
                           {{"type": "ResolvedRefs", "status": "True"}}]}}]}}}}"#
    )
}

fn rule(name: &str, matches: &str) -> String {
    format!(
        r#"{{"name": "{name}", "matches": [{matches}], "backendRefs": [{{"name": "web", "port": 80}}]}}"#
    )
}

fn get(path: &str) -> Request<'_> {
    Request {
        method: "GET",
        path,
        authority: "web.shop:80",
        ..Request::default()
    }
}

fn to_web() -> Destination<'static> {
    Destination {
        service: Some(("shop", "web")),
        authority: "web.shop",
        port: 80,
        ..Destination::default()
    }
}

/// Name of the rule; `-` for none, `?a,b` for those that may match, `none` without routes.
fn chosen(decision: Option<&Decision<Routing>>) -> String {
    match decision.map(|decision| &decision.value) {
        None => "none".to_owned(),
        Some(Routing::Undeclared) => "undeclared".to_owned(),
        Some(Routing::Unmatched) => "-".to_owned(),
        Some(Routing::Rule(rule)) => rule.name.to_string(),
        Some(Routing::Unknown { candidates, .. }) => {
            let names: Vec<&str> = candidates.iter().map(|rule| &*rule.name).collect();
            format!("?{}", names.join(","))
        }
    }
}

fn asked(policies: &Policies, client: &str, request: &Request<'_>) -> String {
    let client = pod(client, "client").build();
    let decision = policies
        .gateways()
        .route(policies.context(), Some(&client), &to_web(), request);
    chosen(decision.as_ref())
}

fn the_rule(policies: &Policies, path: &str) -> crate::mesh::decision::Rule {
    let decision = policies
        .gateways()
        .route(policies.context(), None, &to_web(), &get(path));
    match decision.expect("a route").value {
        Routing::Rule(rule) => *rule,
        other => panic!("{path}: {other:?}"),
    }
}

#[test]
fn the_most_specific_match_goes_first() {
    let exact = r#"{"path": {"type": "Exact", "value": "/cart"}}"#;
    let prefix = r#"{"path": {"type": "PathPrefix", "value": "/cart"}}"#;
    let longer = r#"{"path": {"type": "PathPrefix", "value": "/cart/items/"}}"#;
    let pattern = r#"{"path": {"type": "RegularExpression", "value": "/(cart|v[0-9]+)/.*"}}"#;
    let method = r#"{"path": {"value": "/cart"}, "method": "GET"}"#;
    let all = "";
    for (rules, path, expected) in [
        // Whatever the order of the rules.
        (vec![("p", prefix), ("e", exact)], "/cart", "e"),
        (vec![("e", exact), ("p", prefix)], "/cart", "e"),
        (vec![("p", prefix), ("e", exact)], "/cart/", "p"),
        (vec![("p", prefix), ("l", longer)], "/cart/items", "l"),
        (vec![("p", prefix), ("l", longer)], "/cart/items/7", "l"),
        (vec![("p", prefix), ("l", longer)], "/cart/itemset", "p"),
        (vec![("p", prefix), ("m", method)], "/cart/1", "m"),
        (vec![("m", method), ("l", longer)], "/cart/items/7", "l"),
        (vec![("p", prefix)], "/carton", "-"),
        (vec![("p", prefix), ("a", all)], "/carton", "a"),
        (vec![("a", all), ("r", pattern)], "/v2/x", "r"),
        (vec![("p", prefix), ("r", pattern)], "/cart/x", "p"),
        (vec![("r", pattern)], "/x/cart/y", "-"),
        (vec![("first", all), ("second", all)], "/", "first"),
        (vec![("one", exact), ("two", exact)], "/cart", "one"),
    ] {
        let texts: Vec<String> = rules.iter().map(|(name, it)| rule(name, it)).collect();
        let policies = Cluster::new()
            .object(HTTP, "shop", "web", &of_service("", &texts.join(",")))
            .policies();
        let found = asked(&policies, "shop", &get(path));
        assert_eq!(found, expected, "{rules:?} {path}");
    }
}

#[test]
fn ties_are_broken_by_age_and_name() {
    let all = |name| of_service("", &rule(name, ""));
    for (first, second, expected) in [
        (("a", "a", 2), ("b", "b", 1), "b"),
        (("a", "a", 1), ("b", "b", 2), "a"),
        (("b", "b", 1), ("a", "a", 1), "a"),
        // Nobody knows when `a` was made.
        (("a", "a", 0), ("b", "b", 9), "b"),
    ] {
        let cluster = |one: (&str, &'static str, u64), two: (&str, &'static str, u64)| {
            Cluster::new()
                .object(HTTP, "shop", one.0, &all(one.1))
                .made(one.2, &[])
                .object(HTTP, "shop", two.0, &all(two.1))
                .made(two.2, &[])
                .policies()
        };
        for policies in [cluster(first, second), cluster(second, first)] {
            assert_eq!(asked(&policies, "shop", &get("/")), expected);
        }
    }
}

#[test]
fn what_is_not_observed_leaves_it_open() {
    let header = r#"{"headers": [{"name": "X-User", "value": "a"}]}"#;
    let headers = r#"{"headers": [{"name": "X-User", "value": "a"}, {"name": "b", "value": "b.*", "type": "RegularExpression"}]}"#;
    let query = r#"{"queryParams": [{"name": "q", "value": "1"}]}"#;
    let deep = r#"{"path": {"value": "/deep"}, "headers": [{"name": "x", "value": "1"}]}"#;
    let all = "";
    let known: &[(&str, &str)] = &[("x-user", "a"), ("b", "bb")];
    let other: &[(&str, &str)] = &[("x-user", "b")];
    let none: &[(&str, &str)] = &[];
    for (rules, headers, path, expected) in [
        (vec![("h", header), ("a", all)], none, "/", "?h,a"),
        (vec![("h", header), ("a", all)], known, "/", "h"),
        (vec![("h", header), ("a", all)], other, "/", "a"),
        (vec![("h", header)], none, "/", "?h"),
        (vec![("h", header)], other, "/", "-"),
        (vec![("h", header), ("hh", headers)], known, "/", "hh"),
        (vec![("h", header), ("hh", headers)], none, "/", "?hh,h"),
        (vec![("q", query), ("a", all)], none, "/", "?q,a"),
        // A longer path goes before any number of fields.
        (
            vec![("h", header), ("d", deep), ("a", all)],
            known,
            "/deep",
            "?d,h",
        ),
        (vec![("d", deep), ("a", all)], none, "/shallow", "a"),
        // Both ways to match lead to the same rule.
        (
            vec![("one", r#"{"headers": [{"name": "x", "value": "1"}]}, {}"#)],
            none,
            "/",
            "one",
        ),
    ] {
        let texts: Vec<String> = rules.iter().map(|(name, it)| rule(name, it)).collect();
        let policies = Cluster::new()
            .object(HTTP, "shop", "web", &of_service("", &texts.join(",")))
            .policies();
        let request = Request {
            headers,
            ..get(path)
        };
        assert_eq!(
            asked(&policies, "shop", &request),
            expected,
            "{rules:?} {path}"
        );
    }
    let exact = rule(
        "e",
        r#"{"path": {"type": "Exact", "value": "/a"}, "method": "GET"}"#,
    );
    let policies = Cluster::new()
        .object(HTTP, "shop", "web", &of_service("", &exact))
        .policies();
    assert_eq!(asked(&policies, "shop", &Request::default()), "?e");
    let post = Request {
        method: "POST",
        ..Request::default()
    };
    assert_eq!(asked(&policies, "shop", &post), "-");
}

#[test]
fn routes_of_the_clients_namespace_go_before_those_of_the_service() {
    let named = |name| of_service("", &rule(name, ""));
    let policies = Cluster::new()
        .object(HTTP, "shop", "web", &named("producer"))
        .object(HTTP, "blog", "web", &named("consumer"))
        .policies();
    for (client, expected) in [
        ("shop", "producer"),
        ("blog", "consumer"),
        ("else", "producer"),
    ] {
        assert_eq!(asked(&policies, client, &get("/")), expected, "{client}");
    }
    let only = Cluster::new()
        .object(HTTP, "blog", "web", &named("consumer"))
        .policies();
    assert_eq!(asked(&only, "shop", &get("/")), "none");
}

#[test]
fn routes_apply_to_cluster_ips_and_their_ports() {
    let parent = |more: &str| {
        let parent = format!(r#""group": "", "kind": "Service", "name": "web"{more}"#);
        of_parent(&parent, "", &rule("r", ""))
    };
    let cluster = |more: &str| {
        Cluster::new()
            .object(HTTP, "shop", "web", &parent(more))
            .service("shop", "web", &[("http", 80), ("admin", 81)], &[])
    };
    for (more, port, expected) in [
        ("", 80, "r"),
        (r#", "port": 80"#, 80, "r"),
        (r#", "port": 81"#, 80, "none"),
        (r#", "sectionName": "http""#, 80, "r"),
        (r#", "sectionName": "admin""#, 80, "none"),
        (r#", "sectionName": "gone""#, 80, "none"),
    ] {
        let policies = cluster(more).policies();
        let to = Destination { port, ..to_web() };
        let decision = policies
            .gateways()
            .route(policies.context(), None, &to, &get("/"));
        assert_eq!(chosen(decision.as_ref()), expected, "{more}");
    }
    let headless = cluster("").headless().policies();
    assert_eq!(asked(&headless, "shop", &get("/")), "none");
    let policies = cluster("").policies();
    let to = Destination {
        service: None,
        ..to_web()
    };
    let decision = policies
        .gateways()
        .route(policies.context(), None, &to, &get("/"));
    assert_eq!(chosen(decision.as_ref()), "none");
}

#[test]
fn routes_are_in_effect_where_a_controller_says_so() {
    let status = |conditions: &str| {
        let parent = r#"{"group": "", "kind": "Service", "name": "web"}"#;
        format!(
            r#"{{"spec": {{"parentRefs": [{parent}], "rules": [{}]}}, "status": {{"parents": [{conditions}]}}}}"#,
            rule("r", "")
        )
    };
    let claim = |name: &str, accepted: &str, resolved: &str| {
        format!(
            r#"{{"parentRef": {{"group": "", "kind": "Service", "namespace": "shop", "name": "{name}"}}, "controllerName": "c",
            "conditions": [{{"type": "Accepted", "status": "{accepted}", "reason": "NoMatchingParent"}},
                           {{"type": "ResolvedRefs", "status": "{resolved}", "reason": "BackendNotFound"}}]}}"#
        )
    };
    for (conditions, expected, why) in [
        (
            String::new(),
            "none",
            Some("no controller has accepted it yet"),
        ),
        (claim("web", "True", "True"), "r", None),
        (
            claim("web", "False", "True"),
            "none",
            Some("c does not say that Accepted is True: NoMatchingParent"),
        ),
        (
            claim("web", "True", "False"),
            "none",
            Some("c does not say that ResolvedRefs is True: BackendNotFound"),
        ),
        (
            claim("web", "Unknown", "True"),
            "none",
            Some("Accepted is True"),
        ),
        // Of another parent.
        (
            claim("cart", "True", "True"),
            "none",
            Some("no controller has accepted it yet"),
        ),
        (
            claim("web", "False", "False") + "," + &claim("web", "True", "True"),
            "r",
            None,
        ),
    ] {
        let policies = Cluster::new()
            .object(HTTP, "shop", "web", &status(&conditions))
            .policies();
        assert_eq!(
            asked(&policies, "shop", &get("/")),
            expected,
            "{conditions}"
        );
        let ignored: Vec<String> = policies.gateways().ignored().map(|(_, why)| why).collect();
        match why {
            None => assert!(ignored.is_empty(), "{ignored:?}"),
            Some(why) => assert!(
                matches!(ignored.as_slice(), [only] if only.contains(why) && only.contains("Service shop/web")),
                "{ignored:?}"
            ),
        }
        assert_eq!(
            policies.gateways().rules(policies.context()).len(),
            usize::from(why.is_none())
        );
    }
}

#[test]
fn weights_are_shares() {
    let with = |backends: &str| {
        let rule = format!(r#"{{"backendRefs": [{backends}]}}"#);
        Cluster::new().object(HTTP, "shop", "web", &of_service("", &rule))
    };
    for (backends, expected) in [
        (r#"{"name": "a"}"#, vec![("a", 1.0)]),
        (
            r#"{"name": "a", "weight": 9}, {"name": "b"}"#,
            vec![("a", 0.9), ("b", 0.1)],
        ),
        (
            r#"{"name": "a", "weight": 0}, {"name": "b"}"#,
            vec![("b", 1.0)],
        ),
        (r#"{"name": "a", "weight": 0}"#, vec![]),
        ("", vec![]),
    ] {
        let rule = the_rule(&with(backends).policies(), "/");
        let found: Vec<(&str, f64)> = rule
            .backends
            .iter()
            .map(|it| {
                (
                    it.host
                        .strip_suffix(".shop.svc.cluster.local")
                        .expect("a full name"),
                    it.share,
                )
            })
            .collect();
        assert_eq!(found, expected, "{backends}");
        assert_eq!(rule.answers, expected.is_empty(), "{backends}");
        assert_eq!(rule.partial.is_some(), expected.is_empty(), "{backends}");
    }
    let two = r#"{"name": "a", "port": 80}, {"name": "gone"}, {"name": "a", "port": 81}"#;
    let rule = the_rule(
        &with(two)
            .service("shop", "a", &[("http", 80)], &[])
            .policies(),
        "/",
    );
    let partial = rule.partial.expect("two are invalid");
    assert!(
        partial.contains("backend gone.shop is invalid"),
        "{partial}"
    );
    assert!(partial.contains("the Service has no port 81"), "{partial}");
    assert!(!partial.contains("port 80"), "{partial}");
    assert_eq!(rule.backends.len(), 3);
}

#[test]
fn other_namespaces_must_let_routes_lead_to_them() {
    let route = of_service(
        "",
        r#"{"backendRefs": [{"name": "db", "namespace": "data"}]}"#,
    );
    let grant = |from: &str, name: &str| {
        format!(
            r#"{{"spec": {{"from": [{{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": "{from}"}}],
                "to": [{{"group": "", "kind": "Service"{name}}}]}}}}"#
        )
    };
    for (namespace, grant, expected) in [
        ("data", Some(grant("shop", "")), true),
        ("data", Some(grant("shop", r#", "name": "db""#)), true),
        ("data", Some(grant("shop", r#", "name": "other""#)), false),
        ("data", Some(grant("blog", "")), false),
        ("shop", Some(grant("shop", "")), false),
        ("data", None, false),
    ] {
        let mut cluster = Cluster::new().object(HTTP, "shop", "web", &route);
        if let Some(grant) = &grant {
            cluster = cluster.object(PolicyKind::ReferenceGrant, namespace, "it", grant);
        }
        let rule = the_rule(&cluster.policies(), "/");
        assert_eq!(
            rule.partial.is_none(),
            expected,
            "{namespace} {grant:?}: {:?}",
            rule.partial
        );
    }
}

#[test]
fn filters_times_and_retries_are_read() {
    let rules = r#"{"filters": [{"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "copy", "port": 80}, "percent": 25}},
                                {"type": "URLRewrite"}],
                    "backendRefs": [{"name": "web", "port": 80}],
                    "timeouts": {"request": "2s", "backendRequest": "500ms"}, "retry": {"attempts": 3}},
                   {"matches": [{"path": {"value": "/old"}}], "filters": [{"type": "RequestRedirect"}], "timeouts": {"request": "0s"}},
                   {"matches": [{"path": {"value": "/new"}}], "filters": [{"type": "ExtensionRef"}], "backendRefs": [{"name": "web"}]}"#;
    let policies = Cluster::new()
        .object(HTTP, "shop", "web", &of_service("", rules))
        .policies();
    let first = the_rule(&policies, "/");
    assert_eq!(&*first.name, "0");
    assert_eq!(first.timeout, Some(Duration::from_secs(2)));
    let retries = first.retries.expect("declared");
    assert_eq!(
        (retries.attempts, retries.per_try),
        (3, Some(Duration::from_millis(500)))
    );
    let [(copy, share)] = first.mirrors.as_slice() else {
        panic!("one mirror");
    };
    assert_eq!((&*copy.host, *share), ("copy.shop.svc.cluster.local", 0.25));
    assert_eq!(first.partial, None);
    let second = the_rule(&policies, "/old");
    assert!(second.answers && second.backends.is_empty());
    assert_eq!((second.timeout, second.partial), (None, None));
    let third = the_rule(&policies, "/new");
    assert!(third.partial.is_some_and(|it| it.contains("ExtensionRef")));
}

#[test]
fn gateways_tell_routes_apart_by_hosts_and_listeners() {
    let gateway = r#"{"spec": {"gatewayClassName": "it", "listeners": [
        {"name": "http", "port": 80, "protocol": "HTTP"},
        {"name": "shop", "port": 443, "protocol": "HTTPS", "hostname": "*.shop.example"}]},
        "status": {"conditions": [{"type": "Programmed", "status": "True"}]}}"#;
    let policies = Cluster::new()
        .object(PolicyKind::Gateway, "shop", "edge", gateway)
        .object(HTTP, "shop", "any", &of_gateway("", "", &rule("any", "")))
        .object(
            HTTP,
            "shop",
            "wild",
            &of_gateway("", r#""*.shop.example""#, &rule("wild", "")),
        )
        .object(
            HTTP,
            "shop",
            "exact",
            &of_gateway("", r#""a.shop.example""#, &rule("exact", "")),
        )
        .object(
            HTTP,
            "shop",
            "tls",
            &of_gateway(
                r#", "sectionName": "shop""#,
                r#""b.shop.example""#,
                &rule("tls", ""),
            ),
        )
        .policies();
    let gateways = policies.gateways();
    for (authority, port, expected) in [
        ("a.shop.example", 80, "exact"),
        ("A.Shop.Example:80", 80, "exact"),
        ("c.shop.example", 80, "wild"),
        ("other.example", 80, "any"),
        ("b.shop.example", 443, "tls"),
        ("b.shop.example", 80, "wild"),
        ("other.example", 443, "-"),
        ("a.shop.example", 8080, "-"),
        ("", 80, "?exact,wild,any"),
    ] {
        let request = Request {
            authority,
            ..get("/")
        };
        let to = Destination {
            port,
            ..Destination::default()
        };
        let decision = gateways.gateway_route(policies.context(), ("shop", "edge"), &to, &request);
        assert_eq!(chosen(decision.as_ref()), expected, "{authority} {port}");
    }
    let to = Destination::default();
    let none = gateways.gateway_route(policies.context(), ("shop", "else"), &to, &get("/"));
    assert!(none.is_none());
    let edge = gateways.gateway("shop", "edge").expect("it is there");
    assert_eq!(
        (&*edge.class, edge.programmed, edge.listeners.len()),
        ("it", Some(true), 2)
    );
}

#[test]
fn grpc_is_matched_by_service_and_method() {
    let method = |text: &str| format!(r#"{{"method": {{{text}}}}}"#);
    let rules = [
        rule(
            "both",
            &method(r#""service": "shop.Cart", "method": "Add""#),
        ),
        rule("service", &method(r#""service": "shop.Cart""#)),
        rule("method", &method(r#""method": "Check""#)),
        rule(
            "pattern",
            &method(r#""type": "RegularExpression", "service": "blog\\..*", "method": "Get.*""#),
        ),
    ];
    let policies = Cluster::new()
        .object(GRPC, "shop", "web", &of_service("", &rules.join(",")))
        .policies();
    for (path, expected) in [
        ("/shop.Cart/Add", "both"),
        ("/shop.Cart/Remove", "service"),
        ("/shop.Carts/Remove", "-"),
        ("/grpc.health.v1.Health/Check", "method"),
        ("/shop.Cart/Check", "service"),
        ("/blog.Posts/GetOne", "pattern"),
        ("/blog.Posts/PutOne", "-"),
    ] {
        let request = Request {
            method: "POST",
            grpc: true,
            ..get(path)
        };
        assert_eq!(asked(&policies, "shop", &request), expected, "{path}");
    }
}

#[test]
fn http_goes_before_tls_and_tls_before_tcp() {
    let plain = |name: &str| format!(r#"{{"name": "{name}", "backendRefs": [{{"name": "web"}}]}}"#);
    let http = (HTTP, "http", of_service("", &rule("http", "")));
    let tls = (
        PolicyKind::TlsRoute,
        "tls",
        of_service(r#""web.shop""#, &plain("tls")),
    );
    let tcp = (PolicyKind::TcpRoute, "tcp", of_service("", &plain("tcp")));
    for (routes, authority, expected) in [
        (vec![&tcp, &tls, &http], "web.shop", "http"),
        (vec![&tcp, &tls], "web.shop", "tls"),
        (vec![&tcp, &tls], "other", "-"),
        (vec![&tcp], "other", "tcp"),
    ] {
        let mut cluster = Cluster::new();
        for (kind, name, content) in routes {
            cluster = cluster.object(*kind, "shop", name, content);
        }
        let request = Request {
            authority,
            ..Request::default()
        };
        let found = asked(&cluster.policies(), "shop", &request);
        assert_eq!(found, expected, "{authority}");
    }
}

#[test]
fn what_is_wrong_is_named() {
    for (content, expected) in [
        (
            of_service(
                "",
                r#"{"matches": [{"path": {"type": "Exactly", "value": "/"}}]}"#,
            ),
            "spec.rules[0]: matches[0]: `Exactly` is no type",
        ),
        (
            of_service(
                "",
                r#"{}, {"matches": [{"path": {"type": "RegularExpression", "value": "("}}]}"#,
            ),
            "spec.rules[1]: matches[0]: `(` is no pattern",
        ),
        (
            of_service("", r#"{"timeouts": {"request": "soon"}}"#),
            "spec.rules[0]: timeouts.request: `soon` is no duration",
        ),
        (
            of_service("", r#"{"backendRefs": [{"weight": -1}]}"#),
            "spec.rules[0].backendRefs[0].weight: invalid value",
        ),
        (
            r#"{"spec": {"parentRefs": {}}}"#.to_owned(),
            "spec.parentRefs: invalid type: map",
        ),
    ] {
        let policies = Cluster::new()
            .object(HTTP, "shop", "web", &content)
            .policies();
        let problems: Vec<&String> = policies
            .misunderstood()
            .map(|(_, problem)| problem)
            .collect();
        assert!(
            matches!(problems.as_slice(), [one] if one.starts_with(expected)),
            "{problems:?}"
        );
        assert_eq!(asked(&policies, "shop", &get("/")), "none");
    }
}

#[test]
fn an_object_that_changes_leaves_nothing_behind() {
    let named = |name| of_service("", &rule(name, ""));
    let policies = Cluster::new()
        .object(HTTP, "shop", "web", &named("old"))
        .object(HTTP, "shop", "web", &named("new"))
        .policies();
    assert_eq!(asked(&policies, "shop", &get("/")), "new");
    assert_eq!(policies.gateways().rules(policies.context()).len(), 1);
    let broken = Cluster::new()
        .object(HTTP, "shop", "web", &named("old"))
        .object(HTTP, "shop", "web", "[]")
        .policies();
    assert_eq!(asked(&broken, "shop", &get("/")), "none");
    assert_eq!(broken.gateways().rules(broken.context()).len(), 0);
}

/// Rules with paths, some with what is not observed.
fn rules() -> impl Strategy<Value = Vec<(&'static str, &'static str, bool)>> {
    let kind = prop::sample::select(vec!["Exact", "PathPrefix"]);
    let path = prop::sample::select(vec!["/", "/a", "/a/b", "/a/b/c", "/b"]);
    prop::collection::vec((kind, path, prop::bool::weighted(0.2)), 1..6)
}

fn route_of(rules: &[(&str, &str, bool)]) -> String {
    let texts: Vec<String> = rules
        .iter()
        .enumerate()
        .map(|(number, (kind, path, header))| {
            let header = if *header {
                r#", "headers": [{"name": "x", "value": "1"}]"#
            } else {
                ""
            };
            rule(
                &format!("r{number}"),
                &format!(r#"{{"path": {{"type": "{kind}", "value": "{path}"}}{header}}}"#),
            )
        })
        .collect();
    of_service("", &texts.join(","))
}

proptest! {
    /// Where all is observed, the rule that is found is the first of the longest that match.
    #[test]
    fn the_longest_of_the_sure_is_found(rules in rules(), path in "/[abc](/[abc]){0,2}") {
        let rules: Vec<_> = rules.into_iter().map(|(kind, at, _)| (kind, at, false)).collect();
        let policies = Cluster::new().object(HTTP, "shop", "web", &route_of(&rules)).policies();
        let matching = rules.iter().enumerate().filter(|(_, (kind, at, _))| match *kind {
            "Exact" => path == **at,
            _ => *at == "/" || path == **at || path.starts_with(&format!("{at}/")),
        });
        let best = matching.max_by_key(|(number, (kind, at, _))| {
            (*kind == "Exact", at.len(), std::cmp::Reverse(*number))
        });
        let expected = best.map_or("-".to_owned(), |(number, _)| format!("r{number}"));
        prop_assert_eq!(asked(&policies, "shop", &get(&path)), expected);
    }

    /// What may match without more being known has what does match once it is.
    #[test]
    fn knowing_more_contradicts_nothing(rules in rules(), path in "/[abc](/[abc]){0,2}", has: bool) {
        let policies = Cluster::new().object(HTTP, "shop", "web", &route_of(&rules)).policies();
        let less = asked(&policies, "shop", &get(&path));
        let headers: &[(&str, &str)] = if has { &[("x", "1")] } else { &[("x", "2")] };
        let more = asked(&policies, "shop", &Request { headers, ..get(&path) });
        prop_assert!(!more.starts_with('?'));
        let possible = less.trim_start_matches('?').split(',').any(|it| it == more);
        prop_assert!(possible || (less.starts_with('?') && more == "-"), "{less} {more}");
    }

    /// Neither order nor what others declare change a decision.
    #[test]
    fn order_and_others_change_nothing(
        mine in prop::collection::vec(rules(), 1..4),
        others in prop::collection::vec(rules(), 0..4),
        seed: usize,
        path in "/[abc](/[abc]){0,2}",
    ) {
        let mut cluster = Cluster::new();
        for (number, rules) in mine.iter().enumerate() {
            cluster = cluster.object(HTTP, "shop", &format!("r{number}"), &route_of(rules));
        }
        let mut more = cluster.clone();
        let mut passing = Cluster::new();
        for (number, rules) in others.iter().enumerate() {
            let content = route_of(rules);
            let elsewhere = content.replace(r#""name": "web""#, r#""name": "cart""#);
            more = more.object(HTTP, "shop", &format!("o{number}"), &elsewhere);
            more = more.object(HTTP, "blog", &format!("o{number}"), &content);
            passing = passing.object(HTTP, "shop", &format!("p{number}"), &content);
        }
        let expected = asked(&cluster.policies(), "shop", &get(&path));
        prop_assert_eq!(asked(&more.policies(), "shop", &get(&path)), expected.clone());
        let shuffled = more.shuffled(seed);
        prop_assert_eq!(asked(&shuffled.policies(), "shop", &get(&path)), expected.clone());
        let after = shuffled.policies_after(&passing);
        prop_assert_eq!(asked(&after, "shop", &get(&path)), expected);
    }

    /// What a Gateway's routes are found by has all that may be for a host.
    #[test]
    fn routes_of_a_host_are_all_found(
        hosts in prop::collection::vec(
            prop::collection::vec("(\\*\\.)?[ab](\\.[ab]){0,2}|\\*", 0..3),
            1..6,
        ),
        host in "[ab](\\.[ab]){0,3}|",
    ) {
        let mut cluster = Cluster::new();
        for (number, names) in hosts.iter().enumerate() {
            let names: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
            let content = of_gateway("", &names.join(","), &rule("r", ""));
            cluster = cluster.object(HTTP, "shop", &format!("r{number}"), &content);
        }
        let policies = cluster.policies();
        let routes = policies.gateways().routes();
        let dialect = &Dialect::COMMON;
        let names = |routes: Vec<Attached<'_>>| -> Vec<Box<str>> {
            let mut names: Vec<Box<str>> = routes
                .into_iter()
                .filter(|it| fit(&it.route.hostnames, &host).0 != Certainty::No)
                .map(|it| it.route.object.name.clone())
                .collect();
            names.sort();
            names
        };
        let all = names(routes.at(ParentKind::Gateway, "shop", "edge", dialect).collect());
        prop_assert_eq!(names(routes.of_gateway("shop", "edge", &host, dialect)), all);
    }

    /// Shares of backends that get anything add up to one.
    #[test]
    fn shares_add_up(weights in prop::collection::vec(0u32..1_000_000, 1..6)) {
        let backends: Vec<String> = weights
            .iter()
            .map(|weight| format!(r#"{{"name": "b", "weight": {weight}}}"#))
            .collect();
        let rule = format!(r#"{{"backendRefs": [{}]}}"#, backends.join(","));
        let policies = Cluster::new().object(HTTP, "shop", "web", &of_service("", &rule)).policies();
        let rule = the_rule(&policies, "/");
        let sum: f64 = rule.backends.iter().map(|it| it.share).sum();
        let expected = if weights.iter().all(|it| *it == 0) { 0.0 } else { 1.0 };
        prop_assert!((sum - expected).abs() < 1e-9);
    }

    /// Whatever an object says, it is read or told as misunderstood.
    #[test]
    fn any_content_is_read_or_told(content in json(), kind in 0usize..6) {
        let kinds = [
            HTTP, GRPC, PolicyKind::TlsRoute, PolicyKind::TcpRoute,
            PolicyKind::Gateway, PolicyKind::ReferenceGrant,
        ];
        let kind = kinds.get(kind).copied().unwrap_or(HTTP);
        let wrapped = of_service("", &content);
        let policies = Cluster::new()
            .object(kind, "shop", "web", &content)
            .object(kind, "shop", "wrapped", &wrapped)
            .policies();
        let _ = asked(&policies, "shop", &get("/a"));
        let _ = policies.gateways().rules(policies.context());
        let _ = policies.gateways().ignored().count();
    }
}
