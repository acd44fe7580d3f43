//! What older profiles say, and what is let out of the cluster.

use std::time::Duration;

use super::{
    outbound::{PROFILE, get, name, of_service, routed, rule, the_rule, to_web},
    *,
};

#[test]
fn profiles_go_before_routes() {
    let profile = r#"{"spec": {"routes": [
        {"name": "read", "condition": {"method": "GET", "pathRegex": "/items/[0-9]+"}, "isRetryable": true, "timeout": "250ms"},
        {"name": "not-put", "condition": {"all": [{"not": {"method": "PUT"}}, {"any": [{"pathRegex": "/x"}, {"pathRegex": "/y"}]}]}}],
        "dstOverrides": [{"authority": "a.shop.svc.cluster.local:8080", "weight": "750m"}, {"authority": "b.shop.svc.cluster.local", "weight": 0.25},
                         {"authority": "c.shop.svc.cluster.local", "weight": 0}]}}"#;
    let policies = Cluster::new()
        .object(
            PolicyKind::HttpRoute,
            "shop",
            "a",
            &of_service(&rule("route", "", "")),
        )
        .object(PolicyKind::ServiceProfile, "shop", PROFILE, profile)
        .policies();
    let own = client();
    for (method, path, expected) in [
        ("GET", "/items/7", "read"),
        ("GET", "/items/7/more", "[DEFAULT]"),
        ("POST", "/items/7", "[DEFAULT]"),
        ("POST", "/x", "not-put"),
        ("PUT", "/x", "[DEFAULT]"),
        ("GET", "", "?read,not-put"),
        ("", "/x", "?not-put"),
    ] {
        let request = Request {
            method,
            ..get(path)
        };
        assert_eq!(
            name(&routed(&policies, &own, &request)),
            expected,
            "{method} {path}"
        );
    }
    let read = the_rule(&policies, &get("/items/7"));
    assert_eq!(read.timeout, Some(Duration::from_millis(250)));
    assert_eq!(read.retries.map(|it| it.attempts), Some(u32::MAX));
    let backends: Vec<(&str, u16, f64)> = read
        .backends
        .iter()
        .map(|it| (&*it.host, it.port, it.share))
        .collect();
    assert_eq!(
        backends,
        [
            ("a.shop.svc.cluster.local", 8080, 0.75),
            ("b.shop.svc.cluster.local", 0, 0.25)
        ]
    );
    let mut names: Vec<Box<str>> = policies
        .linkerd()
        .rules(policies.context(), policies.gateways())
        .into_iter()
        .map(|it| it.name)
        .collect();
    names.sort();
    // The route is declared all the same, and nothing matches it.
    let expected = ["[DEFAULT]", "not-put", "read", "route"].map(Box::<str>::from);
    assert_eq!(names, expected);
}

#[test]
fn profiles_of_the_clients_namespace_go_first_and_empty_ones_do_not_count() {
    let named = |name: &str| {
        format!(
            r#"{{"spec": {{"routes": [{{"name": "{name}", "condition": {{"pathRegex": "/.*"}}}}]}}}}"#
        )
    };
    let policies = Cluster::new()
        .object(PolicyKind::ServiceProfile, "shop", PROFILE, &named("shop"))
        .object(PolicyKind::ServiceProfile, "blog", PROFILE, &named("blog"))
        .policies();
    for namespace in ["shop", "blog"] {
        let client = pod(namespace, "x").linkerd().build();
        assert_eq!(name(&routed(&policies, &client, &get("/"))), namespace);
    }
    let client = pod("else", "x").linkerd().build();
    assert_eq!(name(&routed(&policies, &client, &get("/"))), "shop");
    let empty = Cluster::new()
        .object(
            PolicyKind::HttpRoute,
            "shop",
            "a",
            &of_service(&rule("route", "", "")),
        )
        .object(
            PolicyKind::ServiceProfile,
            "shop",
            PROFILE,
            r#"{"spec": {"retryBudget": {"retryRatio": 0.2}}}"#,
        )
        .policies();
    assert_eq!(name(&routed(&empty, &client, &get("/"))), "route");
}

#[test]
fn egress_is_by_the_most_specific_network() {
    let network = |networks: &str, policy: &str| {
        let networks = if networks.is_empty() {
            String::new()
        } else {
            format!(r#""networks": [{networks}], "#)
        };
        format!(r#"{{"spec": {{{networks}"trafficPolicy": "{policy}"}}}}"#)
    };
    let all = network("", "Deny");
    let some = network(
        r#"{"cidr": "1.0.0.0/8", "except": ["1.9.0.0/16"]}"#,
        "Allow",
    );
    let fewer = network(r#"{"cidr": "1.2.0.0/16"}"#, "Deny");
    let kind = PolicyKind::EgressNetwork;
    let cluster = Cluster::new()
        .object(kind, "linkerd-egress", "all", &all)
        .object(kind, "shop", "some", &some)
        .object(kind, "shop", "fewer", &fewer);
    let policies = cluster.policies();
    let (own, blog) = (client(), pod("blog", "x").linkerd().build());
    let hasty = pod("blog", "y")
        .linkerd()
        .annotation("config.linkerd.io/skip-outbound-ports", "443")
        .build();
    for (client, address, expected) in [
        (&own, "1.1.0.1", Egress::Declared),
        (&own, "1.2.0.1", Egress::Closed),
        (&own, "1.9.0.1", Egress::Open),
        // A namespace with networks of its own is not under those of all.
        (&own, "8.8.8.8", Egress::Open),
        (&blog, "8.8.8.8", Egress::Closed),
        // Of the cluster, as far as the installation says nothing else.
        (&blog, "10.8.8.8", Egress::Open),
        (&hasty, "8.8.8.8", Egress::Open),
    ] {
        let to = Destination {
            address: address.parse().ok(),
            port: 443,
            ..Destination::default()
        };
        assert_eq!(policies.egress(client, &to).value, expected, "{address}");
    }
    let somewhere = Destination {
        authority: "example.com",
        port: 443,
        ..Destination::default()
    };
    assert!(matches!(
        policies.egress(&own, &somewhere).value,
        Egress::Unknown(_)
    ));
    assert_eq!(policies.egress(&blog, &somewhere).value, Egress::Closed);
    assert_eq!(policies.egress(&blog, &to_web()).value, Egress::Open);
}

#[test]
fn routes_lead_out_of_denied_networks() {
    let parent = r#""group": "policy.linkerd.io", "kind": "EgressNetwork", "name": "all""#;
    let tls = route(parent, r#""*.example.com""#, r#"{}"#, true);
    let http = route(
        parent,
        r#""api.example.org""#,
        r#"{"matches": [{"path": {"value": "/v1"}}]}"#,
        true,
    );
    let policies = Cluster::new()
        .object(
            PolicyKind::EgressNetwork,
            "shop",
            "all",
            r#"{"spec": {"trafficPolicy": "Deny"}}"#,
        )
        .object(PolicyKind::TlsRoute, "shop", "tls", &tls)
        .object(PolicyKind::LinkerdHttpRoute, "shop", "http", &http)
        .policies();
    let ask = |authority| {
        let to = Destination {
            authority,
            address: "1.2.3.4".parse().ok(),
            port: 443,
            ..Destination::default()
        };
        policies.egress(&client(), &to).value
    };
    assert_eq!(ask("www.example.com"), Egress::Declared);
    assert_eq!(ask("example.net"), Egress::Closed);
    assert!(matches!(ask("api.example.org"), Egress::Unknown(_)));
    assert!(matches!(ask(""), Egress::Unknown(_)));
}
