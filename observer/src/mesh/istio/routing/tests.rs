//! Which rule a request follows, in cases.

use serde_json::{Value, json};

use super::*;
use crate::{
    mesh::{
        istio::tests::{ambient, declare, mesh, namespace, object, plain, service, sidecar},
        policy::Policies,
    },
    model::policy::{PolicyChange, PolicyKind, PolicyObject},
};

fn virtual_service(name: &str, created: u64, spec: Value) -> PolicyObject {
    object(PolicyKind::VirtualService, name, created, spec)
}

/// A rule that leads to `cart`.
fn rule(name: &str, matches: Value) -> Value {
    json!({ "name": name, "match": matches, "route": [{ "destination": { "host": "cart" } }] })
}

fn routes(http: Value) -> Value {
    json!({ "hosts": ["cart"], "http": http })
}

fn dialled<'a>() -> Destination<'a> {
    Destination {
        service: Some(("shop", "cart")),
        authority: "cart.shop",
        port: 80,
        ..Destination::default()
    }
}

const GET: Request<'static> = Request {
    method: "GET",
    path: "/api/items",
    authority: "cart.shop",
    grpc: false,
    headers: &[("x-user", "ann")],
};

/// The rule's name; all that may match; or what else it is.
fn word(routing: &Routing) -> String {
    match routing {
        Routing::Undeclared => "undeclared".to_owned(),
        Routing::Unmatched => "unmatched".to_owned(),
        Routing::Rule(rule) => rule.name.to_string(),
        Routing::Unknown { candidates, why } => {
            assert!(!why.is_empty());
            let names: Vec<&str> = candidates.iter().map(|rule| &*rule.name).collect();
            format!("perhaps {}", names.join(" "))
        }
    }
}

fn follow(
    policies: &Policies,
    client: &Pod,
    to: &Destination<'_>,
    request: &Request<'_>,
) -> String {
    word(&policies.routing(Some(client), to, request).value)
}

fn known(objects: impl IntoIterator<Item = PolicyObject>) -> Policies {
    let mut policies = declare(objects);
    service(&mut policies, "shop/cart", |_| {});
    policies
}

#[test]
fn a_rule_matches_where_all_of_a_match_does() {
    for (one, expected) in [
        (json!({}), "rule"),
        (json!({ "uri": { "exact": "/api/items" } }), "rule"),
        (json!({ "uri": { "exact": "/API/items" } }), "unmatched"),
        (
            json!({ "uri": { "exact": "/API/items" }, "ignoreUriCase": true }),
            "rule",
        ),
        (json!({ "uri": { "prefix": "/api/" } }), "rule"),
        (
            json!({ "uri": { "prefix": "/API/" }, "ignoreUriCase": true }),
            "rule",
        ),
        (json!({ "uri": { "prefix": "/api/items/" } }), "unmatched"),
        (json!({ "uri": { "regex": "/api/[a-z]+" } }), "rule"),
        (json!({ "uri": { "regex": "/api" } }), "unmatched"),
        (json!({ "method": { "exact": "GET" } }), "rule"),
        (json!({ "method": { "exact": "get" } }), "unmatched"),
        (json!({ "method": { "regex": "GET|PUT" } }), "rule"),
        (json!({ "authority": { "prefix": "cart" } }), "rule"),
        (json!({ "authority": { "exact": "web" } }), "unmatched"),
        (json!({ "port": 80 }), "rule"),
        (json!({ "port": 81 }), "unmatched"),
        (json!({ "sourceLabels": { "app": "web" } }), "rule"),
        (
            json!({ "sourceLabels": { "app": "web", "version": "v1" } }),
            "unmatched",
        ),
        (json!({ "sourceNamespace": "web" }), "rule"),
        (json!({ "sourceNamespace": "shop" }), "unmatched"),
        (json!({ "gateways": ["gate"] }), "unmatched"),
        (json!({ "gateways": ["gate", "mesh"] }), "rule"),
        (
            json!({ "headers": { "X-User": { "exact": "ann" } } }),
            "rule",
        ),
        (json!({ "headers": { "x-user": {} } }), "rule"),
        (
            json!({ "headers": { "x-user": { "regex": "b.*" } } }),
            "unmatched",
        ),
        (json!({ "withoutHeaders": { "x-user": {} } }), "unmatched"),
        (
            json!({ "withoutHeaders": { "x-user": { "exact": "bob" } } }),
            "rule",
        ),
        // What is not kept may be there or not.
        (json!({ "headers": { "x-other": {} } }), "perhaps rule"),
        (
            json!({ "withoutHeaders": { "x-other": {} } }),
            "perhaps rule",
        ),
        (
            json!({ "queryParams": { "q": { "exact": "1" } } }),
            "perhaps rule",
        ),
        (json!({ "scheme": { "exact": "http" } }), "perhaps rule"),
        (
            json!({ "uri": { "exact": "/" }, "headers": { "x-other": {} } }),
            "unmatched",
        ),
        (
            json!({ "uri": { "prefix": "/" }, "method": { "exact": "PUT" } }),
            "unmatched",
        ),
    ] {
        let text = one.to_string();
        let policies = known([virtual_service(
            "shop/v",
            1,
            routes(json!([rule("rule", json!([one]))])),
        )]);
        let client = sidecar("web", &[("app", "web")]);
        assert_eq!(
            follow(&policies, &client, &dialled(), &GET),
            expected,
            "{text}"
        );
    }
}

#[test]
fn the_first_rule_wins() {
    let prefix = |prefix: &str| json!([{ "uri": { "prefix": prefix } }]);
    let unseen = || json!([{ "headers": { "x-other": { "exact": "1" } } }]);
    let either = json!([{ "uri": { "exact": "/" } }, { "method": { "exact": "GET" } }]);
    for (http, expected) in [
        (
            json!([rule("a", json!([])), rule("b", prefix("/api"))]),
            "a",
        ),
        (
            json!([rule("a", prefix("/web")), rule("b", prefix("/api"))]),
            "b",
        ),
        (json!([rule("a", either), rule("b", json!([]))]), "a"),
        (
            json!([rule("a", prefix("/web")), rule("b", prefix("/x"))]),
            "unmatched",
        ),
        // A rule that may match leaves those after it, up to the first that does.
        (
            json!([
                rule("a", unseen()),
                rule("b", prefix("/x")),
                rule("c", json!([])),
                rule("d", json!([]))
            ]),
            "perhaps a c",
        ),
        (
            json!([rule("a", unseen()), rule("b", unseen())]),
            "perhaps a b",
        ),
        (json!([rule("a", prefix("/api")), rule("b", unseen())]), "a"),
        // One that may match by one of its matches does by another.
        (
            json!([rule(
                "a",
                json!([{ "headers": { "x-other": {} } }, { "uri": { "prefix": "/" } }])
            )]),
            "a",
        ),
    ] {
        let text = http.to_string();
        let policies = known([virtual_service("shop/v", 1, routes(http))]);
        let found = follow(&policies, &sidecar("web", &[]), &dialled(), &GET);
        assert_eq!(found, expected, "{text}");
    }
}

#[test]
fn why_is_said_in_words() {
    let either = json!([
        { "uri": { "prefix": "/api" }, "method": { "exact": "GET" } },
        { "headers": { "x-user": { "regex": "a.*" } }, "port": 80 },
    ]);
    for (matches, expected) in [
        (json!([]), "rule r: everything"),
        (
            either,
            "rule r: path /api*, method GET or field x-user ~a.*, port 80",
        ),
    ] {
        let policies = known([virtual_service(
            "shop/v",
            1,
            routes(json!([rule("r", matches)])),
        )]);
        let decision = policies.routing(Some(&sidecar("web", &[])), &dialled(), &GET);
        let why: Vec<&str> = decision.because.iter().map(|it| &*it.text).collect();
        assert_eq!(why, [expected]);
    }
}

#[test]
fn the_host_is_what_is_asked_for() {
    let all = |hosts: Value| json!({ "hosts": hosts, "http": [rule("rule", json!([]))] });
    let at = |authority: &'static str| Request { authority, ..GET };
    let no_service = Destination {
        port: 80,
        ..Destination::default()
    };
    let pod = sidecar("shop", &[("app", "cart")]);
    let of_pod = |port| Destination {
        pod: Some(&pod),
        port,
        ..Destination::default()
    };
    for (spec, to, request, expected) in [
        (all(json!(["cart"])), dialled(), GET, "rule"),
        (
            all(json!(["cart.shop.svc.cluster.local"])),
            dialled(),
            GET,
            "rule",
        ),
        (
            all(json!(["*.shop.svc.cluster.local"])),
            dialled(),
            GET,
            "rule",
        ),
        (all(json!(["*"])), dialled(), GET, "rule"),
        (all(json!(["other", "cart"])), dialled(), GET, "rule"),
        // A name with a dot is in full.
        (all(json!(["cart.shop"])), dialled(), GET, "undeclared"),
        (all(json!(["web"])), dialled(), GET, "undeclared"),
        (all(json!(["cart"])), dialled(), at("cart.shop:80"), "rule"),
        // Dialled by its address.
        (all(json!(["cart"])), dialled(), at("10.0.0.1:80"), "rule"),
        // Another name at its address is nobody's.
        (
            all(json!(["cart"])),
            dialled(),
            at("other.example"),
            "undeclared",
        ),
        // A name of one's own.
        (
            all(json!(["a.example"])),
            no_service,
            at("a.example"),
            "rule",
        ),
        (
            all(json!(["*.example"])),
            no_service,
            at("A.example:80"),
            "rule",
        ),
        (all(json!(["cart"])), no_service, at("cart.shop"), "rule"),
        // The address of a pod, at its own port and at the Service's.
        (
            all(json!(["cart"])),
            of_pod(8080),
            at("cart.shop"),
            "undeclared",
        ),
        (all(json!(["cart"])), of_pod(80), at("cart.shop"), "rule"),
        (
            all(json!(["cart"])),
            of_pod(80),
            at("10.0.0.7:80"),
            "undeclared",
        ),
    ] {
        let text = format!("{spec} {to:?} {}", request.authority);
        let policies = known([virtual_service("shop/v", 1, spec)]);
        let found = follow(&policies, &sidecar("web", &[]), &to, &request);
        assert_eq!(found, expected, "{text}");
    }
}

#[test]
fn one_object_wins_for_a_host() {
    let one = |name: &str| routes(json!([rule(name, json!([]))]));
    let wild = |name: &str| json!({ "hosts": ["*.local"], "http": [rule(name, json!([]))] });
    let exported = |name: &str, to: &str| {
        let host = "cart.shop.svc.cluster.local";
        json!({ "hosts": [host], "exportTo": [to], "http": [rule(name, json!([]))] })
    };
    for (objects, expected) in [
        (
            vec![
                virtual_service("shop/a", 2, one("young")),
                virtual_service("shop/b", 1, one("old")),
            ],
            "old",
        ),
        (
            vec![
                virtual_service("shop/a", 1, wild("wild")),
                virtual_service("shop/b", 2, one("exact")),
            ],
            "exact",
        ),
        // Those of the client alone go before those for all.
        (
            vec![
                virtual_service("shop/a", 1, one("public")),
                virtual_service("web/b", 2, exported("private", ".")),
            ],
            "private",
        ),
        (
            vec![
                virtual_service("shop/a", 1, one("public")),
                virtual_service("shop/b", 2, exported("named", "web")),
            ],
            "named",
        ),
        (
            vec![virtual_service("shop/a", 1, exported("other", "."))],
            "undeclared",
        ),
        (
            vec![virtual_service(
                "shop/a",
                1,
                json!({ "hosts": ["cart"], "gateways": ["gate"] }),
            )],
            "undeclared",
        ),
    ] {
        let text = format!("{objects:?}");
        let policies = known(objects);
        let found = follow(&policies, &sidecar("web", &[]), &dialled(), &GET);
        assert_eq!(found, expected, "{text}");
    }
    let policies = known([
        virtual_service("shop/a", 2, one("young")),
        virtual_service("shop/b", 1, one("old")),
    ]);
    let decision = policies.routing(Some(&sidecar("web", &[])), &dialled(), &GET);
    let deciders = crate::mesh::istio::tests::deciders(&decision.because);
    assert_eq!(deciders, ["shop/b", "shop/a"]);
}

#[test]
fn delegates_stand_in_the_place_of_the_rule() {
    let prefix = |prefix: &str| json!([{ "uri": { "prefix": prefix } }]);
    let delegate = |more: Value| {
        let mut rule =
            json!({ "delegate": { "name": "team", "namespace": "team" }, "timeout": "3s" });
        if let (Some(rule), Some(more)) = (rule.as_object_mut(), more.as_object()) {
            rule.extend(more.clone());
        }
        rule
    };
    let root = |more| {
        virtual_service(
            "shop/v",
            1,
            routes(json!([delegate(more), rule("rest", json!([]))])),
        )
    };
    let team = |http: Value| virtual_service("team/team", 1, json!({ "http": http }));
    for (objects, expected) in [
        (
            vec![root(json!({})), team(json!([rule("t", json!([]))]))],
            "t",
        ),
        (
            vec![
                root(json!({ "match": prefix("/api") })),
                team(json!([rule("t", prefix("/api/i"))])),
            ],
            "t",
        ),
        (
            vec![
                root(json!({ "match": prefix("/web") })),
                team(json!([rule("t", json!([]))])),
            ],
            "rest",
        ),
        (
            vec![
                root(json!({ "match": prefix("/api") })),
                team(json!([rule("t", prefix("/web"))])),
            ],
            "rest",
        ),
        // It is not there, or not to be seen, or stands for itself.
        (vec![root(json!({}))], "rest"),
        (
            vec![
                root(json!({})),
                virtual_service(
                    "team/team",
                    1,
                    json!({ "exportTo": ["."], "http": [rule("t", json!([]))] }),
                ),
            ],
            "rest",
        ),
        (
            vec![
                root(json!({})),
                virtual_service(
                    "team/team",
                    1,
                    json!({ "hosts": ["x"], "http": [rule("t", json!([]))] }),
                ),
            ],
            "rest",
        ),
    ] {
        let text = format!("{objects:?}");
        let policies = known(objects);
        let found = follow(&policies, &sidecar("web", &[]), &dialled(), &GET);
        assert_eq!(found, expected, "{text}");
    }
    let policies = known([root(json!({})), team(json!([rule("t", json!([]))]))]);
    let decision = policies.routing(Some(&sidecar("web", &[])), &dialled(), &GET);
    let Routing::Rule(followed) = decision.value else {
        panic!("{decision:?}")
    };
    assert_eq!(&*followed.object.namespace, "team");
    assert_eq!(followed.timeout, Some(std::time::Duration::from_secs(3)));
    let names: Vec<String> = policies
        .istio()
        .rules()
        .map(|rule| format!("{} {}", rule.name, rule.hosts.join(",")))
        .collect();
    let host = "cart.shop.svc.cluster.local";
    assert_eq!(names, [format!("t {host}"), format!("rest {host}")]);
}

#[test]
fn subsets_have_their_labels() {
    let spec = json!({ "hosts": ["cart"], "http": [{ "route": [
        { "destination": { "host": "cart", "subset": "v1" }, "weight": 90 },
        { "destination": { "host": "cart", "subset": "v2" }, "weight": 10 },
    ] }] });
    let subsets =
        json!({ "host": "cart", "subsets": [{ "name": "v1", "labels": { "version": "v1" } }] });
    let policies = known([
        virtual_service("shop/v", 1, spec),
        object(PolicyKind::DestinationRule, "shop/d", 1, subsets),
    ]);
    let decision = policies.routing(Some(&sidecar("web", &[])), &dialled(), &GET);
    let Routing::Rule(rule) = decision.value else {
        panic!("{decision:?}")
    };
    let labels: Vec<usize> = rule.backends.iter().map(|it| it.labels.len()).collect();
    assert_eq!(labels, [1, 0]);
    assert_eq!(
        rule.partial.as_deref(),
        Some("no DestinationRule has subset v2")
    );
}

#[test]
fn connections_have_lists_of_their_own() {
    let to = |authority: &'static str, port| Destination {
        service: Some(("shop", "cart")),
        authority,
        port,
        ..Destination::default()
    };
    let both = json!({
        "hosts": ["cart"],
        "tls": [{ "match": [{ "sniHosts": ["*.example"], "port": 443 }] }],
        "tcp": [{ "match": [{ "port": 5432 }] }],
    });
    let http = routes(json!([rule("rule", json!([]))]));
    // A request has no server name of TLS, though it has a host.
    let policies = known([virtual_service("shop/v", 1, both.clone())]);
    let client = sidecar("web", &[]);
    let found = follow(&policies, &client, &to("cart.shop", 443), &GET);
    assert_eq!(found, "undeclared");
    for (spec, to, expected) in [
        (both.clone(), to("a.example", 443), "tls-0"),
        (both.clone(), to("a.example", 444), "undeclared"),
        (both.clone(), to("a.other", 443), "undeclared"),
        (both.clone(), to("", 5432), "tcp-0"),
        (both, to("", 5433), "undeclared"),
        (http, to("", 80), "undeclared"),
    ] {
        let text = format!("{spec} {to:?}");
        let policies = known([virtual_service("shop/v", 1, spec)]);
        let found = follow(&policies, &sidecar("web", &[]), &to, &Request::default());
        assert_eq!(found, expected, "{text}");
    }
}

#[test]
fn who_has_no_proxy_for_it_follows_nothing() {
    let spec = routes(json!([rule("rule", json!([]))]));
    let mut policies = known([virtual_service("shop/v", 1, spec)]);
    assert_eq!(
        follow(&policies, &plain("web", &[]), &dialled(), &GET),
        "undeclared"
    );

    // In ambient mode, waypoints route.
    let client = ambient("web", &[]);
    let decision = policies.routing(Some(&client), &dialled(), &GET);
    assert_eq!(decision.value, Routing::Undeclared);
    assert_eq!(
        crate::mesh::istio::tests::deciders(&decision.because),
        ["shop/v"]
    );
    namespace(&mut policies, "shop", &[("istio.io/use-waypoint", "w")]);
    assert_eq!(follow(&policies, &client, &dialled(), &GET), "rule");
    // By the address of the Service alone: the node's proxy knows no names.
    let named = Destination {
        service: None,
        ..dialled()
    };
    assert_eq!(follow(&policies, &client, &named, &GET), "undeclared");
    let other = Request {
        authority: "other.example",
        ..GET
    };
    assert_eq!(follow(&policies, &client, &dialled(), &other), "rule");
    for (status, expected) in [("False", "undeclared"), ("True", "rule")] {
        let mut gateway = object(PolicyKind::Gateway, "shop/w", 1, json!({}));
        gateway.content = json!({
            "spec": { "gatewayClassName": "istio-waypoint" },
            "status": { "conditions": [{ "type": "Programmed", "status": status }] },
        })
        .to_string()
        .into();
        policies.apply(PolicyChange::Set(Arc::new(gateway)));
        assert_eq!(follow(&policies, &client, &dialled(), &GET), expected);
    }

    // A Sidecar, or the whole mesh, may not know the host.
    let meshed = sidecar("web", &[]);
    assert_eq!(follow(&policies, &meshed, &dialled(), &GET), "rule");
    let narrow = json!({ "egress": [{ "hosts": ["./*"] }] });
    let narrow = object(PolicyKind::Sidecar, "web/s", 1, narrow);
    let spec = routes(json!([rule("rule", json!([]))]));
    let policies = known([narrow, virtual_service("shop/v", 1, spec.clone())]);
    assert_eq!(follow(&policies, &meshed, &dialled(), &GET), "undeclared");
    let mut policies = known([virtual_service("shop/v", 1, spec)]);
    mesh(&mut policies, "defaultVirtualServiceExportTo: [\".\"]");
    assert_eq!(follow(&policies, &meshed, &dialled(), &GET), "undeclared");
}

#[test]
fn unreachable_rules_are_found_without_requests() {
    let prefix = |prefix: &str| json!([{ "uri": { "prefix": prefix } }]);
    for (http, expected) in [
        (
            json!([rule("a", prefix("/x")), rule("b", json!([]))]),
            &[][..],
        ),
        (
            json!([rule("a", json!([])), rule("b", prefix("/x"))]),
            &["b"],
        ),
        (
            json!([
                rule("a", prefix("/")),
                rule("b", json!([])),
                rule("c", json!([]))
            ]),
            &["b", "c"],
        ),
        (
            json!([rule("a", json!([{ "port": 80 }])), rule("b", json!([]))]),
            &[],
        ),
        (
            json!([
                rule("a", json!([{ "headers": { "x": {} } }])),
                rule("b", json!([]))
            ]),
            &[],
        ),
    ] {
        let text = http.to_string();
        let policies = known([virtual_service("shop/v", 1, routes(http))]);
        let found: Vec<String> = policies
            .istio()
            .unreachable_rules()
            .map(|rule| rule.name.to_string())
            .collect();
        assert_eq!(found, expected, "{text}");
    }
}

#[test]
fn all_rules_that_would_match_are_told() {
    let prefix = |prefix: &str| json!([{ "uri": { "prefix": prefix } }]);
    let http = json!([
        rule("a", prefix("/")),
        rule("b", prefix("/api")),
        rule("c", prefix("/x")),
        rule("d", json!([{ "headers": { "x-other": {} } }])),
    ]);
    let policies = known([virtual_service("shop/v", 1, routes(http))]);
    let found =
        policies
            .istio()
            .matching_rules(policies.context(), &sidecar("web", &[]), &dialled(), &GET);
    let told: Vec<Certainty> = found.into_iter().map(|(_, _, told)| told).collect();
    use Certainty::{No, Unknown, Yes};
    assert_eq!(told, [Yes, Yes, No, Unknown]);
}

/// A route of the Gateway API for the Service, which its controller has accepted.
fn gateway_route() -> PolicyObject {
    let parent = json!({ "group": "", "kind": "Service", "name": "cart" });
    let accepted = json!([
        { "type": "Accepted", "status": "True" },
        { "type": "ResolvedRefs", "status": "True" },
    ]);
    let mut route = object(PolicyKind::HttpRoute, "shop/route", 1, json!({}));
    route.content = json!({
        "spec": {
            "parentRefs": [parent],
            "rules": [{ "name": "other", "backendRefs": [{ "name": "cart", "port": 80 }] }],
        },
        "status": { "parents": [{
            "parentRef": parent,
            "controllerName": "istio.io/gateway-controller",
            "conditions": accepted,
        }] },
    })
    .to_string()
    .into();
    route
}

#[test]
fn routes_of_both_kinds_are_a_conflict() {
    let spec = routes(json!([rule("rule", json!([]))]));
    let own = virtual_service("shop/v", 1, spec);
    let client = sidecar("web", &[]);
    for (objects, expected) in [
        (vec![gateway_route()], "other"),
        (vec![own.clone()], "rule"),
        (vec![own.clone(), gateway_route()], "perhaps rule other"),
        // One that has no rules of HTTP contradicts nothing.
        (
            vec![
                virtual_service(
                    "shop/v",
                    1,
                    json!({ "hosts": ["cart"], "tcp": [{ "match": [{ "port": 1 }] }] }),
                ),
                gateway_route(),
            ],
            "other",
        ),
    ] {
        let policies = known(objects);
        assert_eq!(follow(&policies, &client, &dialled(), &GET), expected);
    }
    let policies = known([own, gateway_route()]);
    let decision = policies.routing(Some(&client), &dialled(), &GET);
    let deciders = crate::mesh::istio::tests::deciders(&decision.because);
    assert_eq!(deciders, ["shop/v", "shop/route"]);

    // Without a waypoint nobody follows either.
    let decision = policies.routing(Some(&ambient("web", &[])), &dialled(), &GET);
    assert_eq!(decision.value, Routing::Undeclared);
    let deciders = crate::mesh::istio::tests::deciders(&decision.because);
    assert_eq!(deciders, ["shop/v", "shop/route"]);
}
