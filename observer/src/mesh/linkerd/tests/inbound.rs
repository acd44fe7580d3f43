//! What a server's proxy takes, and whom it lets pass.

use super::*;

pub(super) const SERVER: &str =
    r#"{"spec": {"podSelector": {"matchLabels": {"app": "web"}}, "port": "http"}}"#;
const TO_SERVER: &str =
    r#""targetRef": {"group": "policy.linkerd.io", "kind": "Server", "name": "web"}"#;

/// `Server` `shop/web`, and a policy of it that requires `shop/it`.
pub(super) fn guarded(kind: PolicyKind, spec: &str) -> Cluster {
    let required = kind.as_str();
    Cluster::new()
        .object(PolicyKind::LinkerdServer, "shop", "web", SERVER)
        .object(
            PolicyKind::LinkerdAuthorizationPolicy,
            "shop",
            "policy",
            &format!(
                r#"{{"spec": {{{TO_SERVER}, "requiredAuthenticationRefs": [{{"group": "policy.linkerd.io", "kind": "{required}", "name": "it"}}]}}}}"#
            ),
        )
        .object(kind, "shop", "it", spec)
}

pub(super) fn access(policies: &Policies, caller: &Caller<'_>) -> Access {
    policies.access(&web(), 8080, caller, None).value
}

pub(super) fn unknown(access: &Access) -> bool {
    matches!(access, Access::Unknown(_))
}

#[test]
fn default_policies_are_of_pod_then_namespace() {
    const DEFAULT: &str = "config.linkerd.io/default-inbound-policy";
    let plain = Caller {
        mutual: Some(false),
        address: "10.0.0.9".parse().ok(),
        ..Caller::default()
    };
    let far = Caller {
        address: "8.8.8.8".parse().ok(),
        ..plain
    };
    let identity = identity("shop", "client");
    let proved = Caller {
        identity: Some(&identity),
        mutual: Some(true),
        ..plain
    };
    for (own, namespace, accepts, expected) in [
        (
            None,
            None,
            Accepts::Both,
            [
                Some(Access::Allowed),
                Some(Access::Allowed),
                Some(Access::Allowed),
            ],
        ),
        (
            None,
            Some("deny"),
            Accepts::Mutual,
            [
                Some(Access::Denied),
                Some(Access::Denied),
                Some(Access::Denied),
            ],
        ),
        (
            Some("all-authenticated"),
            Some("deny"),
            Accepts::Mutual,
            [
                Some(Access::Denied),
                Some(Access::Denied),
                Some(Access::Allowed),
            ],
        ),
        (
            Some("cluster-unauthenticated"),
            None,
            Accepts::Both,
            [Some(Access::Allowed), None, Some(Access::Allowed)],
        ),
        (
            Some("cluster-authenticated"),
            None,
            Accepts::Mutual,
            [
                Some(Access::Denied),
                Some(Access::Denied),
                Some(Access::Allowed),
            ],
        ),
        (
            Some("audit"),
            None,
            Accepts::Both,
            [
                Some(Access::Audited),
                Some(Access::Audited),
                Some(Access::Audited),
            ],
        ),
        (
            Some("nonsense"),
            Some("deny"),
            Accepts::Mutual,
            [
                Some(Access::Denied),
                Some(Access::Denied),
                Some(Access::Denied),
            ],
        ),
    ] {
        let annotations: Vec<(&str, &str)> =
            namespace.iter().map(|text| (DEFAULT, *text)).collect();
        let policies = Cluster::new()
            .namespace("shop", &[], &annotations)
            .policies();
        let mut web = pod("shop", "web").linkerd();
        if let Some(own) = own {
            web = web.annotation(DEFAULT, own);
        }
        let web = web.build();
        assert_eq!(
            policies.accepts(&web, 80).value,
            accepts,
            "{own:?} {namespace:?}"
        );
        for (caller, expected) in [&plain, &far, &proved].into_iter().zip(expected) {
            let found = policies.access(&web, 80, caller, None).value;
            match expected {
                Some(expected) => assert_eq!(found, expected, "{own:?} {namespace:?} {caller:?}"),
                None => assert!(unknown(&found), "{found:?}"),
            }
        }
    }
    let decision = Cluster::new().policies().accepts(&web(), 80);
    assert!(
        decision
            .because
            .iter()
            .any(|it| it.text.contains("the installation's own is not known"))
    );
}

#[test]
fn some_ports_need_an_identity_and_some_bypass_the_proxy() {
    let web = pod("shop", "web")
        .linkerd()
        .annotation(
            "config.linkerd.io/proxy-require-identity-inbound-ports",
            "80,90-99",
        )
        .annotation("config.linkerd.io/skip-inbound-ports", "22")
        .build();
    let policies = Cluster::new().policies();
    let plain = Caller {
        mutual: Some(false),
        ..Caller::default()
    };
    for (port, accepts, access) in [
        (80, Accepts::Mutual, Access::Denied),
        (95, Accepts::Mutual, Access::Denied),
        (81, Accepts::Both, Access::Allowed),
        (22, Accepts::Plaintext, Access::Allowed),
    ] {
        assert_eq!(policies.accepts(&web, port).value, accepts, "{port}");
        assert_eq!(
            policies.access(&web, port, &plain, None).value,
            access,
            "{port}"
        );
    }
}

#[test]
fn servers_deny_what_nothing_authorizes() {
    let anybody = Caller::default();
    for (more, accepts, expected) in [
        ("", Accepts::Mutual, Access::Denied),
        (
            r#", "accessPolicy": "deny""#,
            Accepts::Mutual,
            Access::Denied,
        ),
        (
            r#", "accessPolicy": "all-unauthenticated""#,
            Accepts::Both,
            Access::Allowed,
        ),
        (
            r#", "accessPolicy": "audit""#,
            Accepts::Both,
            Access::Audited,
        ),
    ] {
        let spec = format!(
            r#"{{"spec": {{"podSelector": {{"matchLabels": {{"app": "web"}}}}, "port": "http"{more}}}}}"#
        );
        let policies = Cluster::new()
            .object(PolicyKind::LinkerdServer, "shop", "web", &spec)
            .policies();
        let web = web();
        assert_eq!(policies.accepts(&web, 8080).value, accepts, "{more}");
        assert_eq!(access(&policies, &anybody), expected, "{more}");
        // Of another port, another pod, another namespace.
        assert_eq!(policies.accepts(&web, 8081).value, Accepts::Both);
        for other in [
            pod("shop", "db").label("app", "db"),
            pod("blog", "web").label("app", "web"),
        ] {
            let other = other.linkerd().port("http", 8080).build();
            assert_eq!(policies.accepts(&other, 8080).value, Accepts::Both);
        }
        assert_eq!(
            policies.linkerd().server(&web, 8080).map(|it| &*it.name),
            Some("web")
        );
        assert_eq!(policies.linkerd().server(&web, 8081), None);
    }
    let outside = r#"{"spec": {"externalWorkloadSelector": {}, "port": 8080}}"#;
    let policies = Cluster::new()
        .object(PolicyKind::LinkerdServer, "shop", "web", outside)
        .policies();
    assert_eq!(policies.accepts(&web(), 8080).value, Accepts::Both);
    assert_eq!(policies.misunderstood().count(), 0);
}

#[test]
fn all_that_a_server_chooses_by_must_hold() {
    let spec = r#"{"spec": {"port": 8080, "podSelector": {"matchLabels": {"app": "web"},
        "matchExpressions": [{"key": "canary", "operator": "DoesNotExist"}]}}}"#;
    let policies = Cluster::new()
        .object(PolicyKind::LinkerdServer, "shop", "web", spec)
        .policies();
    let canary = pod("shop", "web").linkerd().label("app", "web");
    let canary = canary.label("canary", "yes").build();
    assert_eq!(policies.accepts(&web(), 8080).value, Accepts::Mutual);
    assert_eq!(policies.accepts(&canary, 8080).value, Accepts::Both);
}

#[test]
fn of_two_servers_the_older_counts() {
    let spec = |policy: &str| {
        format!(r#"{{"spec": {{"podSelector": {{}}, "port": 8080, "accessPolicy": "{policy}"}}}}"#)
    };
    for (open, closed, expected) in [
        (1, 2, Accepts::Both),
        (2, 1, Accepts::Mutual),
        (0, 1, Accepts::Mutual),
    ] {
        let policies = Cluster::new()
            .object(
                PolicyKind::LinkerdServer,
                "shop",
                "a",
                &spec("all-unauthenticated"),
            )
            .made(open, &[])
            .object(PolicyKind::LinkerdServer, "shop", "b", &spec("deny"))
            .made(closed, &[])
            .policies();
        assert_eq!(policies.accepts(&web(), 8080).value, expected);
    }
}

#[test]
fn identities_are_compared_as_far_as_they_are_known() {
    let shop = identity("shop", "client");
    let blog = identity("blog", "client");
    let spiffe = Identity {
        text: "spiffe://td/vm".into(),
        ..Identity::default()
    };
    let client = client();
    let stranger = pod("shop", "client").build();
    let proved = |identity| Caller {
        identity: Some(identity),
        mutual: Some(true),
        ..Caller::default()
    };
    let of_shop = proved(&shop);
    let of_blog = proved(&blog);
    let of_vm = proved(&spiffe);
    let by_pod = Caller {
        pod: Some(&client),
        mutual: Some(true),
        ..Caller::default()
    };
    let maybe = Caller {
        pod: Some(&client),
        ..Caller::default()
    };
    let plain = Caller {
        pod: Some(&client),
        mutual: Some(false),
        ..Caller::default()
    };
    let outside = Caller {
        pod: Some(&stranger),
        ..Caller::default()
    };
    let some = Caller {
        mutual: Some(true),
        ..Caller::default()
    };
    let (yes, no, open) = (Some(Access::Allowed), Some(Access::Denied), None);
    let callers = [
        &of_shop, &of_blog, &of_vm, &by_pod, &maybe, &plain, &outside, &some,
    ];
    for (spec, expected) in [
        (
            r#"{"identities": ["*"]}"#,
            [&yes, &yes, &yes, &yes, &open, &no, &no, &yes],
        ),
        (
            r#"{"identities": ["client.shop.serviceaccount.identity.linkerd.cluster.local"]}"#,
            [&yes, &no, &no, &yes, &open, &no, &no, &open],
        ),
        (
            r#"{"identities": ["client.blog.serviceaccount.identity.linkerd.cluster.local"]}"#,
            [&no, &yes, &no, &no, &no, &no, &no, &open],
        ),
        (
            r#"{"identities": ["*.shop.serviceaccount.identity.linkerd.cluster.local"]}"#,
            [&yes, &no, &no, &open, &open, &no, &no, &open],
        ),
        (
            r#"{"identities": ["spiffe://td/vm"]}"#,
            [&no, &no, &yes, &no, &no, &no, &no, &open],
        ),
        (
            r#"{"identityRefs": [{"kind": "ServiceAccount", "name": "client"}]}"#,
            [&yes, &no, &no, &yes, &open, &no, &no, &open],
        ),
        (
            r#"{"identityRefs": [{"kind": "ServiceAccount", "name": "client", "namespace": "blog"}]}"#,
            [&no, &yes, &no, &no, &no, &no, &no, &open],
        ),
        (
            r#"{"identityRefs": [{"kind": "Namespace", "name": "shop"}]}"#,
            [&yes, &no, &no, &yes, &open, &no, &no, &open],
        ),
    ] {
        let spec = format!(r#"{{"spec": {spec}}}"#);
        let policies = guarded(PolicyKind::MeshTlsAuthentication, &spec).policies();
        assert_eq!(policies.accepts(&web(), 8080).value, Accepts::Mutual);
        for (caller, expected) in callers.iter().zip(expected) {
            let found = access(&policies, caller);
            match expected {
                Some(expected) => assert_eq!(found, *expected, "{spec} {caller:?}"),
                None => assert!(unknown(&found), "{spec} {caller:?} {found:?}"),
            }
        }
    }
}

#[test]
fn networks_are_compared_by_address() {
    let spec = r#"{"spec": {"networks": [{"cidr": "10.0.0.0/8", "except": ["10.9.0.0/16"]}, {"cidr": "::1/128"}]}}"#;
    let policies = guarded(PolicyKind::NetworkAuthentication, spec).policies();
    assert_eq!(policies.accepts(&web(), 8080).value, Accepts::Both);
    for (address, expected) in [
        ("10.0.0.1", Access::Allowed),
        ("::ffff:10.0.0.1", Access::Allowed),
        ("10.9.0.1", Access::Denied),
        ("11.0.0.1", Access::Denied),
        ("::1", Access::Allowed),
    ] {
        let caller = Caller {
            address: address.parse().ok(),
            ..Caller::default()
        };
        assert_eq!(access(&policies, &caller), expected, "{address}");
    }
    assert!(unknown(&access(&policies, &Caller::default())));
    let all = r#"{"spec": {"networks": [{"cidr": "0.0.0.0/0"}, {"cidr": "::/0"}]}}"#;
    let policies = guarded(PolicyKind::NetworkAuthentication, all).policies();
    assert_eq!(access(&policies, &Caller::default()), Access::Allowed);
}

#[test]
fn all_that_a_policy_requires_must_be_there() {
    let both = format!(
        r#"{{"spec": {{{TO_SERVER}, "requiredAuthenticationRefs": [
            {{"group": "policy.linkerd.io", "kind": "NetworkAuthentication", "name": "net"}},
            {{"kind": "ServiceAccount", "name": "client"}}]}}}}"#
    );
    let base = Cluster::new()
        .object(PolicyKind::LinkerdServer, "shop", "web", SERVER)
        .object(
            PolicyKind::LinkerdAuthorizationPolicy,
            "shop",
            "policy",
            &both,
        );
    let net = r#"{"spec": {"networks": [{"cidr": "10.0.0.0/8"}]}}"#;
    let whole = base
        .clone()
        .object(PolicyKind::NetworkAuthentication, "shop", "net", net)
        .policies();
    let (own, other) = (identity("shop", "client"), identity("shop", "other"));
    for (identity, address, expected) in [
        (&own, "10.0.0.1", Access::Allowed),
        (&own, "11.0.0.1", Access::Denied),
        (&other, "10.0.0.1", Access::Denied),
    ] {
        let caller = Caller {
            identity: Some(identity),
            address: address.parse().ok(),
            ..Caller::default()
        };
        assert_eq!(access(&whole, &caller), expected, "{address}");
    }
    // What is not there authorizes nobody, and is told.
    let missing = base
        .object(PolicyKind::NetworkAuthentication, "blog", "net", net)
        .policies();
    let caller = Caller {
        identity: Some(&own),
        address: "10.0.0.1".parse().ok(),
        ..Caller::default()
    };
    let decision = missing.access(&web(), 8080, &caller, None);
    assert_eq!(decision.value, Access::Denied);
    assert!(decision.because.iter().any(|it| {
        it.text
            .contains("there is no NetworkAuthentication shop/net")
    }));
    let missing = guarded(PolicyKind::MeshTlsAuthentication, "[]").policies();
    let decision = missing.access(&web(), 8080, &caller, None);
    assert_eq!(decision.value, Access::Denied);
    let text = "there is no MeshTLSAuthentication shop/it";
    assert!(decision.because.iter().any(|it| it.text.contains(text)));
    // Nothing required: everybody.
    let nothing = format!(r#"{{"spec": {{{TO_SERVER}, "requiredAuthenticationRefs": []}}}}"#);
    let open = Cluster::new()
        .object(PolicyKind::LinkerdServer, "shop", "web", SERVER)
        .object(
            PolicyKind::LinkerdAuthorizationPolicy,
            "shop",
            "policy",
            &nothing,
        )
        .policies();
    assert_eq!(access(&open, &Caller::default()), Access::Allowed);
    assert_eq!(open.accepts(&web(), 8080).value, Accepts::Both);
}
