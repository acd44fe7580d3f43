//! Who may pass, in cases.

use serde_json::{Value, json};

use crate::{
    mesh::{
        decision::{Access, Caller, Request},
        istio::tests::{
            ambient, annotated, deciders, declare, identity, mesh, namespace, object, pairs,
            service, sidecar,
        },
        policy::Policies,
    },
    model::{
        kubernetes::Pod,
        mesh::Identity,
        policy::{PolicyKind, PolicyObject},
    },
};

fn policy(name: &str, spec: Value) -> PolicyObject {
    object(PolicyKind::IstioAuthorizationPolicy, name, 1, spec)
}

/// One rule with one source and one operation.
fn rule(source: Value, operation: Value) -> Value {
    let mut rule = json!({});
    if let Some(fields) = rule.as_object_mut() {
        if source != json!({}) {
            fields.insert("from".to_owned(), json!([{ "source": source }]));
        }
        if operation != json!({}) {
            fields.insert("to".to_owned(), json!([{ "operation": operation }]));
        }
    }
    rule
}

fn doing(action: &str, rules: Value) -> PolicyObject {
    policy(
        &format!("shop/{}", action.to_lowercase()),
        json!({ "action": action, "rules": rules }),
    )
}

fn one(action: &str, source: Value, operation: Value) -> PolicyObject {
    doing(action, json!([rule(source, operation)]))
}

const GET: Request<'static> = Request {
    method: "GET",
    path: "/api/items",
    authority: "cart.shop:80",
    grpc: false,
    headers: &[("x-user", "ann")],
};

fn web() -> Identity {
    identity("web", "web")
}

/// Yes, no, perhaps, or only logged.
fn word(access: &Access) -> &'static str {
    match access {
        Access::Allowed => "yes",
        Access::Denied => "no",
        Access::Audited => "logged",
        Access::Unknown(why) => {
            assert!(!why.is_empty());
            "perhaps"
        }
    }
}

fn proved(identity: &Identity) -> Caller<'_> {
    Caller {
        identity: Some(identity),
        mutual: Some(true),
        address: "10.0.0.1".parse().ok(),
        ..Caller::default()
    }
}

fn plaintext() -> Caller<'static> {
    Caller {
        mutual: Some(false),
        address: "10.0.0.1".parse().ok(),
        ..Caller::default()
    }
}

fn ask(
    policies: &Policies,
    server: &Pod,
    caller: &Caller<'_>,
    request: Option<&Request<'_>>,
) -> &'static str {
    word(&policies.access(server, 8080, caller, request).value)
}

fn cart() -> Pod {
    sidecar("shop", &[("app", "cart")])
}

#[test]
fn actions_have_an_order() {
    let all = || json!([{}]);
    let never = || json!([rule(json!({}), json!({ "methods": ["PUT"] }))]);
    let token = || json!([rule(json!({ "requestPrincipals": ["*"] }), json!({}))]);
    for (policies, expected, deciding) in [
        (vec![], "yes", &["no policy refuses it"][..]),
        (vec![doing("ALLOW", all())], "yes", &["shop/allow"]),
        // No rule at all allows nobody, and refuses nobody.
        (vec![doing("ALLOW", json!([]))], "no", &["shop/allow"]),
        (
            vec![doing("DENY", json!([]))],
            "yes",
            &["no policy refuses it"],
        ),
        (vec![doing("ALLOW", never())], "no", &["shop/allow"]),
        (
            vec![doing("DENY", never())],
            "yes",
            &["no policy refuses it"],
        ),
        (
            vec![doing("DENY", all()), doing("ALLOW", all())],
            "no",
            &["shop/deny"],
        ),
        (
            vec![doing("DENY", never()), doing("ALLOW", all())],
            "yes",
            &["shop/allow"],
        ),
        (
            vec![doing("AUDIT", all())],
            "yes",
            &["no policy refuses it"],
        ),
        (vec![doing("CUSTOM", all())], "perhaps", &["shop/custom"]),
        (
            vec![doing("CUSTOM", never())],
            "yes",
            &["no policy refuses it"],
        ),
        // All must let it pass.
        (
            vec![doing("CUSTOM", all()), doing("DENY", all())],
            "no",
            &["shop/deny"],
        ),
        (
            vec![doing("CUSTOM", all()), doing("ALLOW", never())],
            "no",
            &["shop/allow"],
        ),
        (
            vec![doing("CUSTOM", all()), doing("ALLOW", all())],
            "perhaps",
            &["shop/custom"],
        ),
        // What cannot be told decides only where nothing else does.
        (vec![doing("DENY", token())], "perhaps", &["shop/deny"]),
        (
            vec![doing("DENY", token()), doing("ALLOW", never())],
            "no",
            &["shop/allow"],
        ),
        (vec![doing("ALLOW", token())], "perhaps", &["shop/allow"]),
        (
            vec![
                doing("ALLOW", token()),
                policy("shop/more", json!({ "rules": [{}] })),
            ],
            "yes",
            &["shop/more"],
        ),
    ] {
        let text = format!("{policies:?}");
        let decision = declare(policies).access(&cart(), 8080, &proved(&web()), Some(&GET));
        assert_eq!(word(&decision.value), expected, "{text}");
        assert_eq!(deciders(&decision.because), deciding, "{text}");
    }
}

#[test]
fn all_that_a_rule_asks_for_must_be_so() {
    let nothing = || json!({});
    // The last three columns: with an identity, in plaintext, and when neither is known.
    for (source, operation, by_identity, in_plaintext, unknown) in [
        (nothing(), nothing(), "yes", "yes", "yes"),
        (
            json!({ "principals": ["cluster.local/ns/web/sa/web"] }),
            nothing(),
            "yes",
            "no",
            "perhaps",
        ),
        (
            json!({ "principals": ["*"] }),
            nothing(),
            "yes",
            "no",
            "perhaps",
        ),
        (
            json!({ "principals": ["*/sa/web"] }),
            nothing(),
            "yes",
            "no",
            "perhaps",
        ),
        (
            json!({ "principals": ["cluster.local/ns/web/*"] }),
            nothing(),
            "yes",
            "no",
            "perhaps",
        ),
        (
            json!({ "principals": ["cluster.local/ns/web/sa/other"] }),
            nothing(),
            "no",
            "no",
            "perhaps",
        ),
        (
            json!({ "principals": ["spiffe://cluster.local/ns/web/sa/web"] }),
            nothing(),
            "no",
            "no",
            "perhaps",
        ),
        // Nobody is not somebody else.
        (
            json!({ "notPrincipals": ["*"] }),
            nothing(),
            "no",
            "yes",
            "perhaps",
        ),
        (
            json!({ "notPrincipals": ["cluster.local/ns/web/sa/other"] }),
            nothing(),
            "yes",
            "yes",
            "perhaps",
        ),
        (
            json!({ "namespaces": ["web"] }),
            nothing(),
            "yes",
            "no",
            "perhaps",
        ),
        (
            json!({ "namespaces": ["w*"] }),
            nothing(),
            "yes",
            "no",
            "perhaps",
        ),
        (
            json!({ "namespaces": ["web"], "principals": ["x"] }),
            nothing(),
            "no",
            "no",
            "perhaps",
        ),
        (
            json!({ "notNamespaces": ["web"] }),
            nothing(),
            "no",
            "yes",
            "perhaps",
        ),
        (
            json!({ "serviceAccounts": ["web/web"] }),
            nothing(),
            "yes",
            "no",
            "perhaps",
        ),
        // Without a namespace it is the policy's.
        (
            json!({ "serviceAccounts": ["web"] }),
            nothing(),
            "no",
            "no",
            "perhaps",
        ),
        (
            json!({ "trustDomains": ["cluster.local"] }),
            nothing(),
            "yes",
            "no",
            "perhaps",
        ),
        (
            json!({ "notTrustDomains": ["cluster.local"] }),
            nothing(),
            "no",
            "yes",
            "perhaps",
        ),
        (
            json!({ "ipBlocks": ["10.0.0.0/8"] }),
            nothing(),
            "yes",
            "yes",
            "perhaps",
        ),
        (
            json!({ "ipBlocks": ["11.0.0.0/8", "10.0.0.1"] }),
            nothing(),
            "yes",
            "yes",
            "perhaps",
        ),
        (
            json!({ "notIpBlocks": ["10.0.0.0/8"] }),
            nothing(),
            "no",
            "no",
            "perhaps",
        ),
        (
            json!({ "remoteIpBlocks": ["10.0.0.0/8"] }),
            nothing(),
            "perhaps",
            "perhaps",
            "perhaps",
        ),
        (
            json!({ "requestPrincipals": ["*"] }),
            nothing(),
            "perhaps",
            "perhaps",
            "perhaps",
        ),
        (
            json!({ "notRequestPrincipals": ["*"] }),
            nothing(),
            "perhaps",
            "perhaps",
            "perhaps",
        ),
        (
            nothing(),
            json!({ "methods": ["GET", "HEAD"] }),
            "yes",
            "yes",
            "yes",
        ),
        (nothing(), json!({ "methods": ["PUT"] }), "no", "no", "no"),
        (
            nothing(),
            json!({ "notMethods": ["GET"] }),
            "no",
            "no",
            "no",
        ),
        (
            nothing(),
            json!({ "paths": ["/api/*"] }),
            "yes",
            "yes",
            "yes",
        ),
        (
            nothing(),
            json!({ "paths": ["/api/{*}"] }),
            "yes",
            "yes",
            "yes",
        ),
        (
            nothing(),
            json!({ "paths": ["/api/*"], "notPaths": ["/api/items"] }),
            "no",
            "no",
            "no",
        ),
        (
            nothing(),
            json!({ "hosts": ["CART.shop:*"] }),
            "yes",
            "yes",
            "yes",
        ),
        (
            nothing(),
            json!({ "hosts": ["cart.shop"] }),
            "no",
            "no",
            "no",
        ),
        (nothing(), json!({ "notHosts": ["*"] }), "no", "no", "no"),
        (nothing(), json!({ "ports": ["8080"] }), "yes", "yes", "yes"),
        (nothing(), json!({ "ports": ["80"] }), "no", "no", "no"),
        (nothing(), json!({ "notPorts": ["8080"] }), "no", "no", "no"),
        (
            json!({ "namespaces": ["web"] }),
            json!({ "methods": ["GET"] }),
            "yes",
            "no",
            "perhaps",
        ),
        (
            json!({ "namespaces": ["web"] }),
            json!({ "methods": ["PUT"] }),
            "no",
            "no",
            "no",
        ),
    ] {
        let text = format!("{source} {operation}");
        let policies = declare([one("ALLOW", source, operation)]);
        let server = cart();
        let web = web();
        let ask = |caller: &Caller<'_>| ask(&policies, &server, caller, Some(&GET));
        assert_eq!(ask(&proved(&web)), by_identity, "{text}");
        assert_eq!(ask(&plaintext()), in_plaintext, "{text}");
        assert_eq!(ask(&Caller::default()), unknown, "{text}");
    }
}

#[test]
fn any_source_any_operation_and_all_conditions() {
    let rules = json!([{
        "from": [
            { "source": { "namespaces": ["other"] } },
            { "source": { "namespaces": ["web"] } },
        ],
        "to": [
            { "operation": { "methods": ["PUT"] } },
            { "operation": { "paths": ["/api/*"] } },
        ],
        "when": [{ "key": "destination.port", "values": ["8080"] }],
    }]);
    assert_eq!(
        ask(
            &declare([doing("ALLOW", rules)]),
            &cart(),
            &proved(&web()),
            Some(&GET)
        ),
        "yes"
    );
    for (condition, expected) in [
        (json!({ "key": "destination.port", "values": ["80"] }), "no"),
        (
            json!({ "key": "destination.port", "notValues": ["80"] }),
            "yes",
        ),
        (
            json!({ "key": "source.namespace", "values": ["web"] }),
            "yes",
        ),
        (
            json!({ "key": "source.principal", "notValues": ["*"] }),
            "no",
        ),
        (
            json!({ "key": "source.ip", "values": ["10.0.0.0/24"] }),
            "yes",
        ),
        (
            json!({ "key": "request.headers[X-User]", "values": ["ann", "bob"] }),
            "yes",
        ),
        (
            json!({ "key": "request.headers[x-user]", "values": ["b*"] }),
            "no",
        ),
        (
            json!({ "key": "request.headers[x-other]", "values": ["a"] }),
            "perhaps",
        ),
        (
            json!({ "key": "request.auth.claims[iss]", "values": ["a"] }),
            "perhaps",
        ),
        (
            json!({ "key": "connection.sni", "values": ["a"] }),
            "perhaps",
        ),
        (
            json!({ "key": "remote.ip", "values": ["10.0.0.1"] }),
            "perhaps",
        ),
        (
            json!({ "key": "destination.ip", "values": ["10.0.0.1"] }),
            "perhaps",
        ),
        (
            json!({ "key": "of.the.future", "values": ["a"] }),
            "perhaps",
        ),
    ] {
        let text = condition.to_string();
        let policies = declare([doing("ALLOW", json!([{ "when": [condition] }]))]);
        assert_eq!(
            ask(&policies, &cart(), &proved(&web()), Some(&GET)),
            expected,
            "{text}"
        );
    }
}

#[test]
fn trust_domains_may_mean_the_same() {
    let mut policies = declare([one(
        "ALLOW",
        json!({ "principals": ["old.org/ns/web/sa/web"] }),
        json!({}),
    )]);
    assert_eq!(ask(&policies, &cart(), &proved(&web()), Some(&GET)), "no");
    mesh(
        &mut policies,
        "trustDomain: new.org\ntrustDomainAliases: [old.org]\n",
    );
    for (domain, expected) in [("new.org", "yes"), ("old.org", "yes"), ("other.org", "no")] {
        let mut caller = web();
        caller.text = format!("spiffe://{domain}/ns/web/sa/web").into();
        assert_eq!(
            ask(&policies, &cart(), &proved(&caller), Some(&GET)),
            expected,
            "{domain}"
        );
    }
}

#[test]
fn denying_by_principal_does_nothing_in_plaintext() {
    let deny = |source| declare([one("DENY", source, json!({}))]);
    let by_name = deny(json!({ "principals": ["cluster.local/ns/web/sa/web"] }));
    assert_eq!(ask(&by_name, &cart(), &proved(&web()), Some(&GET)), "no");
    assert_eq!(ask(&by_name, &cart(), &plaintext(), Some(&GET)), "yes");
    // This is how plaintext is refused.
    let nobody = deny(json!({ "notPrincipals": ["*"] }));
    assert_eq!(ask(&nobody, &cart(), &proved(&web()), Some(&GET)), "yes");
    assert_eq!(ask(&nobody, &cart(), &plaintext(), Some(&GET)), "no");
}

#[test]
fn a_pod_proves_its_account() {
    let policies = declare([one(
        "ALLOW",
        json!({ "serviceAccounts": ["web/account"] }),
        json!({}),
    )]);
    let client = sidecar("web", &[]);
    let caller = |mutual| Caller {
        pod: Some(&client),
        mutual,
        ..Caller::default()
    };
    assert_eq!(
        ask(&policies, &cart(), &caller(Some(true)), Some(&GET)),
        "yes"
    );
    assert_eq!(
        ask(&policies, &cart(), &caller(Some(false)), Some(&GET)),
        "no"
    );
    assert_eq!(
        ask(&policies, &cart(), &caller(None), Some(&GET)),
        "perhaps"
    );
    // Somebody is somebody.
    let anybody = declare([one("ALLOW", json!({ "principals": ["*"] }), json!({}))]);
    let somebody = Caller {
        mutual: Some(true),
        ..Caller::default()
    };
    assert_eq!(ask(&anybody, &cart(), &somebody, Some(&GET)), "yes");
    assert_eq!(ask(&policies, &cart(), &somebody, Some(&GET)), "perhaps");
}

#[test]
fn connections_know_no_requests() {
    let requests = || json!({ "methods": ["PUT"] });
    let with_port = || json!({ "methods": ["PUT"], "ports": ["8080"] });
    let other_port = || json!({ "methods": ["PUT"], "ports": ["80"] });
    let node = ambient("shop", &[("app", "cart")]);
    for (action, source, operation, by_sidecar, by_node) in [
        // A rule that allows is left out, and so refuses.
        ("ALLOW", json!({}), requests(), "no", "no"),
        ("ALLOW", json!({}), with_port(), "no", "no"),
        (
            "ALLOW",
            json!({}),
            json!({ "ports": ["8080"] }),
            "yes",
            "yes",
        ),
        // Of one that refuses, what is not understood is left out.
        ("DENY", json!({}), with_port(), "no", "no"),
        ("DENY", json!({}), other_port(), "yes", "yes"),
        (
            "DENY",
            json!({ "namespaces": ["web"] }),
            requests(),
            "no",
            "no",
        ),
        (
            "DENY",
            json!({ "namespaces": ["other"] }),
            requests(),
            "yes",
            "yes",
        ),
        // If nothing is left, sidecars refuse all, and nodes nothing.
        ("DENY", json!({}), requests(), "no", "yes"),
        (
            "DENY",
            json!({ "requestPrincipals": ["*"] }),
            json!({}),
            "no",
            "yes",
        ),
        ("DENY", json!({}), json!({}), "no", "no"),
        (
            "ALLOW",
            json!({ "remoteIpBlocks": ["10.0.0.0/8"] }),
            json!({}),
            "perhaps",
            "no",
        ),
        ("CUSTOM", json!({}), json!({}), "perhaps", "yes"),
    ] {
        let text = format!("{action} {source} {operation}");
        let policies = declare([one(action, source, operation)]);
        assert_eq!(
            ask(&policies, &cart(), &proved(&web()), None),
            by_sidecar,
            "{text}"
        );
        assert_eq!(
            ask(&policies, &node, &proved(&web()), None),
            by_node,
            "{text}"
        );
        // The node's proxy sees no more of requests.
        assert_eq!(
            ask(&policies, &node, &proved(&web()), Some(&GET)),
            by_node,
            "{text}"
        );
    }
}

#[test]
fn policies_are_for_those_that_they_choose() {
    let deny = |name: &str, more: Value| {
        let mut spec = json!({ "action": "DENY", "rules": [{}] });
        if let (Some(spec), Some(more)) = (spec.as_object_mut(), more.as_object()) {
            spec.extend(more.clone());
        }
        policy(name, spec)
    };
    let choose = |app: &str| json!({ "selector": { "matchLabels": { "app": app } } });
    let target = |kind: &str, name: &str| json!({ "targetRefs": [{ "kind": kind, "name": name }] });
    for (object, expected) in [
        (deny("shop/p", json!({})), "no"),
        (deny("shop/p", choose("cart")), "no"),
        (deny("shop/p", choose("web")), "yes"),
        (deny("web/p", json!({})), "yes"),
        (deny("istio-system/p", json!({})), "no"),
        // Other than with PeerAuthentication, these choose in all namespaces.
        (deny("istio-system/p", choose("cart")), "no"),
        (deny("istio-system/p", choose("web")), "yes"),
        // Waypoints and gateways have these.
        (deny("shop/p", target("Service", "cart")), "yes"),
        (deny("shop/p", target("Gateway", "gate")), "yes"),
        (
            deny(
                "shop/p",
                json!({ "targetRef": { "kind": "Service", "name": "cart" } }),
            ),
            "yes",
        ),
    ] {
        let text = format!("{object:?}");
        let policies = declare([object]);
        assert_eq!(
            ask(&policies, &cart(), &plaintext(), Some(&GET)),
            expected,
            "{text}"
        );
    }
    let gate = sidecar(
        "shop",
        &[("gateway.networking.k8s.io/gateway-name", "gate")],
    );
    let policies = declare([deny("shop/p", target("Gateway", "gate"))]);
    assert_eq!(ask(&policies, &gate, &plaintext(), Some(&GET)), "no");
}

#[test]
fn a_dry_run_is_only_logged() {
    let dry = |mut object: PolicyObject| {
        object.annotations = pairs(&[("istio.io/dry-run", "true")]);
        object.name = format!("dry-{}", object.name).into();
        object.uid = object.name.clone();
        object
    };
    let never = || json!([rule(json!({}), json!({ "methods": ["PUT"] }))]);
    for (policies, expected) in [
        (vec![dry(doing("DENY", json!([{}])))], "logged"),
        (vec![dry(doing("DENY", never()))], "yes"),
        (vec![dry(doing("ALLOW", never()))], "logged"),
        (vec![dry(doing("ALLOW", json!([{}])))], "yes"),
        (
            vec![dry(doing("ALLOW", json!([{}]))), doing("ALLOW", never())],
            "no",
        ),
        (
            vec![dry(doing("DENY", json!([{}]))), doing("ALLOW", json!([{}]))],
            "logged",
        ),
    ] {
        let text = format!("{policies:?}");
        assert_eq!(
            ask(&declare(policies), &cart(), &proved(&web()), Some(&GET)),
            expected,
            "{text}"
        );
    }
}

#[test]
fn a_waypoint_decides_before_the_node() {
    let for_service = policy(
        "shop/waypoint",
        json!({
            "targetRefs": [{ "kind": "Service", "name": "cart" }],
            "rules": [rule(json!({ "namespaces": ["web"] }), json!({ "methods": ["GET"] }))],
        }),
    );
    let at_node =
        |source: Value| policy("shop/node", json!({ "rules": [rule(source, json!({}))] }));
    let put = Request {
        method: "PUT",
        ..GET
    };
    let server = ambient("shop", &[("app", "cart")]);
    let client = ambient("web", &[]);
    let with_sidecar = sidecar("web", &[]);
    let web = web();
    let caller = |pod| Caller {
        pod: Some(pod),
        ..proved(&web)
    };
    let ready = |objects: Vec<PolicyObject>, labels: &[(&str, &str)]| {
        let mut policies = declare(objects);
        service(&mut policies, "shop/cart", |_| {});
        namespace(&mut policies, "shop", labels);
        policies
    };
    let waypoint = &[("istio.io/use-waypoint", "waypoint")][..];

    let policies = ready(vec![for_service.clone()], waypoint);
    assert_eq!(ask(&policies, &server, &caller(&client), Some(&GET)), "yes");
    assert_eq!(ask(&policies, &server, &caller(&client), Some(&put)), "no");
    // A client with a sidecar goes past it, and without it nobody decides.
    assert_eq!(
        ask(&policies, &server, &caller(&with_sidecar), Some(&put)),
        "yes"
    );
    let none = ready(vec![for_service.clone()], &[]);
    assert_eq!(ask(&none, &server, &caller(&client), Some(&put)), "yes");

    // To the node, the waypoint is who calls.
    let own = at_node(json!({ "namespaces": ["web"] }));
    let policies = ready(vec![for_service.clone(), own.clone()], waypoint);
    assert_eq!(
        ask(&policies, &server, &caller(&client), Some(&GET)),
        "perhaps"
    );
    assert_eq!(ask(&policies, &server, &caller(&client), Some(&put)), "no");
    let policies = ready(vec![own], &[]);
    assert_eq!(ask(&policies, &server, &caller(&client), Some(&put)), "yes");
}

#[test]
fn what_no_proxy_takes_nobody_refuses() {
    let policies = declare([doing("DENY", json!([{}]))]);
    let excluded = annotated(
        cart(),
        &[("traffic.sidecar.istio.io/excludeInboundPorts", "8080")],
    );
    assert_eq!(ask(&policies, &excluded, &plaintext(), Some(&GET)), "yes");
    assert_eq!(ask(&policies, &cart(), &plaintext(), Some(&GET)), "no");
}
