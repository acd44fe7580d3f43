//! Authorizations of older kinds and of routes, probes, protocols and limits of a server.

use super::{
    inbound::{SERVER, access, guarded, unknown},
    *,
};

#[test]
fn older_authorizations_are_read_too() {
    let identity = identity("shop", "client");
    let proved = Caller {
        identity: Some(&identity),
        address: "10.0.0.1".parse().ok(),
        ..Caller::default()
    };
    let plain = Caller {
        mutual: Some(false),
        address: "10.0.0.1".parse().ok(),
        ..Caller::default()
    };
    for (spec, accepts, of_proved, of_plain) in [
        (
            r#""server": {"name": "web"}, "client": {"unauthenticated": true}"#,
            Accepts::Both,
            Access::Allowed,
            Access::Allowed,
        ),
        (
            r#""server": {"name": "other"}, "client": {"unauthenticated": true}"#,
            Accepts::Mutual,
            Access::Denied,
            Access::Denied,
        ),
        (
            r#""server": {"selector": {"matchLabels": {"tier": "front"}}}, "client": {"unauthenticated": true}"#,
            Accepts::Both,
            Access::Allowed,
            Access::Allowed,
        ),
        (
            r#""server": {"selector": {"matchLabels": {"tier": "back"}}}, "client": {"unauthenticated": true}"#,
            Accepts::Mutual,
            Access::Denied,
            Access::Denied,
        ),
        (
            r#""server": {"selector": {}}, "client": {"meshTLS": {"unauthenticatedTLS": true}}"#,
            Accepts::Mutual,
            Access::Allowed,
            Access::Denied,
        ),
        (
            r#""server": {"name": "web"}, "client": {"meshTLS": {"serviceAccounts": [{"name": "client"}]}}"#,
            Accepts::Mutual,
            Access::Allowed,
            Access::Denied,
        ),
        (
            r#""server": {"name": "web"}, "client": {"meshTLS": {"serviceAccounts": [{"name": "client", "namespace": "blog"}]}}"#,
            Accepts::Mutual,
            Access::Denied,
            Access::Denied,
        ),
        (
            r#""server": {"name": "web"}, "client": {"unauthenticated": true, "networks": [{"cidr": "11.0.0.0/8"}]}"#,
            Accepts::Both,
            Access::Denied,
            Access::Denied,
        ),
    ] {
        let policies = Cluster::new()
            .object(PolicyKind::LinkerdServer, "shop", "web", SERVER)
            .made(1, &[("tier", "front")])
            .object(
                PolicyKind::ServerAuthorization,
                "shop",
                "it",
                &format!(r#"{{"spec": {{{spec}}}}}"#),
            )
            .policies();
        assert_eq!(policies.accepts(&web(), 8080).value, accepts, "{spec}");
        assert_eq!(access(&policies, &proved), of_proved, "{spec}");
        assert_eq!(access(&policies, &plain), of_plain, "{spec}");
    }
}

#[test]
fn policies_of_a_route_authorize_that_route_alone() {
    let parent = r#""group": "policy.linkerd.io", "kind": "Server", "name": "web""#;
    let rules = r#"{"matches": [{"path": {"value": "/admin"}}]}"#;
    let policy = |kind: &str, group: &str, name: &str| {
        format!(
            r#"{{"spec": {{"targetRef": {{"group": "{group}", "kind": "{kind}", "name": "{name}"}}, "requiredAuthenticationRefs": []}}}}"#
        )
    };
    let headers = r#"{"matches": [{"path": {"value": "/secret"}, "headers": [{"name": "x", "value": "1"}]}]}"#;
    for (kind, group) in [
        (PolicyKind::LinkerdHttpRoute, "policy.linkerd.io"),
        (PolicyKind::HttpRoute, "gateway.networking.k8s.io"),
    ] {
        let policies = Cluster::new()
            .object(PolicyKind::LinkerdServer, "shop", "web", SERVER)
            .object(kind, "shop", "admin", &route(parent, "", rules, false))
            .object(
                kind,
                "shop",
                "public",
                &route(
                    parent,
                    "",
                    r#"{"matches": [{"path": {"value": "/public"}}]}"#,
                    false,
                ),
            )
            .object(kind, "shop", "secret", &route(parent, "", headers, false))
            .object(
                PolicyKind::LinkerdAuthorizationPolicy,
                "shop",
                "open",
                &policy("HTTPRoute", group, "public"),
            )
            .policies();
        let web = web();
        assert_eq!(policies.accepts(&web, 8080).value, Accepts::Both);
        let ask = |path: &'static str| {
            let request = Request {
                method: "GET",
                path,
                ..Request::default()
            };
            policies
                .access(&web, 8080, &Caller::default(), Some(&request))
                .value
        };
        assert_eq!(ask("/public/x"), Access::Allowed);
        assert_eq!(ask("/admin"), Access::Denied);
        assert_eq!(ask("/other"), Access::Denied);
        assert_eq!(ask("/secret"), Access::Denied);
        assert!(unknown(&ask("")));
        // Without a request there is no route.
        assert_eq!(
            policies.access(&web, 8080, &Caller::default(), None).value,
            Access::Denied
        );
        let authorizers = policies
            .linkerd()
            .authorizers(policies.gateways(), &web, 8080);
        let [only] = authorizers.as_slice() else {
            panic!("{authorizers:?}");
        };
        assert_eq!((&*only.object.name, only.plaintext), ("open", true));
        assert_eq!(only.route.as_ref().map(|it| &*it.name), Some("public"));
    }
}

#[test]
fn what_no_route_matches_is_refused_whoever_asks() {
    let parent =
        r#""group": "policy.linkerd.io", "kind": "Server", "namespace": "shop", "name": "web""#;
    let rules = r#"{"matches": [{"path": {"value": "/public"}}]}"#;
    let open = SERVER.replace(
        r#""port""#,
        r#""accessPolicy": "all-unauthenticated", "port""#,
    );
    let cluster = |namespace| {
        Cluster::new()
            .object(PolicyKind::LinkerdServer, "shop", "web", &open)
            .object(
                PolicyKind::HttpRoute,
                namespace,
                "public",
                &route(parent, "", rules, false),
            )
            .policies()
    };
    // A route of another namespace is none of the Server's.
    for (namespace, path, expected) in [
        ("shop", "/public", Access::Allowed),
        ("shop", "/other", Access::Denied),
        ("blog", "/other", Access::Allowed),
    ] {
        let request = Request {
            method: "GET",
            path,
            ..Request::default()
        };
        let found = cluster(namespace).access(&web(), 8080, &Caller::default(), Some(&request));
        assert_eq!(found.value, expected, "{namespace} {path}");
    }
}

#[test]
fn probes_may_pass_where_no_route_is() {
    let policies = Cluster::new()
        .object(PolicyKind::LinkerdServer, "shop", "web", SERVER)
        .policies();
    let client = client();
    let ask = |method: &'static str, caller: &Caller<'_>| {
        let request = Request {
            method,
            path: "/healthz",
            ..Request::default()
        };
        policies.access(&web(), 8080, caller, Some(&request)).value
    };
    assert!(unknown(&ask("GET", &Caller::default())));
    assert_eq!(ask("POST", &Caller::default()), Access::Denied);
    let by_pod = Caller {
        pod: Some(&client),
        ..Caller::default()
    };
    assert_eq!(ask("GET", &by_pod), Access::Denied);
}

#[test]
fn protocols_of_ports_are_of_server_pod_namespace() {
    const OPAQUE: &str = "config.linkerd.io/opaque-ports";
    let server = |protocol: &str| {
        format!(
            r#"{{"spec": {{"podSelector": {{}}, "port": 8080, "proxyProtocol": "{protocol}"}}}}"#
        )
    };
    let of = |pod: &Pod, cluster: Cluster, port| {
        let policies = cluster.policies();
        policies
            .linkerd()
            .protocol(policies.context(), pod, port)
            .value
    };
    let plain = web();
    let annotated = pod("shop", "web")
        .linkerd()
        .port("raw", 7000)
        .annotation(OPAQUE, "8080,raw")
        .build();
    let namespace = || Cluster::new().namespace("shop", &[], &[(OPAQUE, "8080")]);
    for (pod, cluster, port, expected) in [
        (&plain, Cluster::new(), 8080, Protocol::Detect),
        (&plain, Cluster::new(), 3306, Protocol::Opaque),
        (&plain, namespace(), 8080, Protocol::Opaque),
        // A list of its own is instead of the defaults.
        (&plain, namespace(), 3306, Protocol::Detect),
        (&annotated, Cluster::new(), 8080, Protocol::Opaque),
        (&annotated, Cluster::new(), 7000, Protocol::Opaque),
        (&annotated, Cluster::new(), 3306, Protocol::Detect),
        (
            &annotated,
            Cluster::new().object(PolicyKind::LinkerdServer, "shop", "s", &server("HTTP/2")),
            8080,
            Protocol::Http2,
        ),
        (
            &annotated,
            Cluster::new().object(PolicyKind::LinkerdServer, "shop", "s", &server("")),
            8080,
            Protocol::Detect,
        ),
        (
            &plain,
            Cluster::new().object(PolicyKind::LinkerdServer, "shop", "s", &server("opaque")),
            8080,
            Protocol::Opaque,
        ),
        (
            &plain,
            Cluster::new().object(PolicyKind::LinkerdServer, "shop", "s", &server("gRPC")),
            8080,
            Protocol::Grpc,
        ),
    ] {
        assert_eq!(of(pod, cluster, port), expected, "{port}");
    }
}

#[test]
fn limits_are_of_the_server_and_of_identities() {
    let limit = r#"{"spec": {"targetRef": {"group": "policy.linkerd.io", "kind": "Server", "name": "web"},
        "total": {"requestsPerSecond": 100}, "identity": {"requestsPerSecond": 20},
        "overrides": [{"requestsPerSecond": 5, "clientRefs": [{"kind": "ServiceAccount", "name": "client"}]}]}}"#;
    let policies = Cluster::new()
        .object(PolicyKind::LinkerdServer, "shop", "web", SERVER)
        .object(PolicyKind::HttpLocalRateLimitPolicy, "shop", "limit", limit)
        .made(2, &[])
        .object(
            PolicyKind::HttpLocalRateLimitPolicy,
            "shop",
            "later",
            &limit.replace("100", "7"),
        )
        .made(3, &[])
        .policies();
    let limit = policies
        .linkerd()
        .rate_limit(&web(), 8080)
        .expect("a limit");
    assert_eq!((&*limit.object.name, limit.total), ("limit", Some(100)));
    assert_eq!(limit.of(Some(&identity("shop", "client"))), Some(5));
    assert_eq!(limit.of(Some(&identity("blog", "client"))), Some(20));
    assert_eq!(limit.of(None), Some(20));
    assert_eq!(policies.linkerd().rate_limit(&web(), 8081), None);
}

#[test]
fn what_policies_name_is_told() {
    let spec = r#"{"spec": {"identities": ["*.shop.example"], "identityRefs": [{"kind": "ServiceAccount", "name": "a"}]}}"#;
    let policies = guarded(PolicyKind::MeshTlsAuthentication, spec).policies();
    let authorizers = policies
        .linkerd()
        .authorizers(policies.gateways(), &web(), 8080);
    let [only] = authorizers.as_slice() else {
        panic!("{authorizers:?}");
    };
    let expected: [Box<str>; 2] = [
        "*.shop.example".into(),
        "a.shop.serviceaccount.identity.*".into(),
    ];
    assert_eq!(*only.identities, expected);
    assert_eq!(
        (&*only.server.name, only.plaintext, &only.problem),
        ("web", false, &None)
    );
    assert!(only.networks.is_empty());
    let spec = r#"{"spec": {"networks": [{"cidr": "10.0.0.0/8"}]}}"#;
    let policies = guarded(PolicyKind::NetworkAuthentication, spec).policies();
    let authorizers = policies
        .linkerd()
        .authorizers(policies.gateways(), &web(), 8080);
    let networks: Vec<&str> = authorizers
        .iter()
        .flat_map(|it| &it.networks)
        .map(|it| &**it)
        .collect();
    assert_eq!(networks, ["10.0.0.0/8"]);
}
