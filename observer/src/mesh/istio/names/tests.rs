//! Names, in cases.

use std::sync::Arc;

use super::*;
use crate::model::{
    kubernetes::Owner,
    policy::{PolicyChange, ServiceFacts, Traits},
};

#[test]
fn only_names_without_a_dot_are_short() {
    for (host, full) in [
        ("cart", "cart.shop.svc.cluster.local"),
        ("cart.other", "cart.other"),
        ("*", "*"),
        ("*.example.com", "*.example.com"),
        ("cart.shop.svc.cluster.local", "cart.shop.svc.cluster.local"),
        ("::1", "::1"),
        ("", ""),
    ] {
        assert_eq!(full_name(host, "shop"), full);
    }
    assert_eq!(
        service_of("cart.shop.svc.cluster.local"),
        Some(("shop", "cart"))
    );
    assert_eq!(service_of("cart.shop.svc"), Some(("shop", "cart")));
    assert_eq!(service_of("cart.shop.example.com"), None);
    assert_eq!(service_of(".shop.svc"), None);
}

#[test]
fn an_authority_is_resolved_as_its_client_would() {
    let mut policies = crate::mesh::policy::Policies::default();
    policies.apply(PolicyChange::SetService(Arc::new(ServiceFacts {
        uid: "1".into(),
        namespace: "shop".into(),
        name: "cart".into(),
        ..ServiceFacts::default()
    })));
    let cart = Some("cart.shop.svc.cluster.local");
    for (authority, expected) in [
        ("cart:8080", cart),
        ("Cart", cart),
        ("cart.shop", cart),
        ("cart.shop.svc:80", cart),
        ("cart.shop.svc.cluster.local.", cart),
        ("example.com", Some("example.com")),
        ("10.0.0.1:80", None),
        ("[::1]:80", None),
        ("", None),
    ] {
        let name = resolve(policies.context(), "shop", authority);
        assert_eq!(name.as_deref(), expected, "{authority}");
    }
}

fn pod(labels: &[(&str, &str)]) -> Pod {
    let mut labels: Vec<(Box<str>, Box<str>)> = labels
        .iter()
        .map(|(name, value)| ((*name).into(), (*value).into()))
        .collect();
    labels.sort();
    Pod {
        name: "web-1".into(),
        owners: Arc::new([Owner {
            kind: "Deployment".into(),
            name: "web".into(),
        }]),
        traits: Arc::new(Traits {
            labels: labels.into(),
            ..Traits::default()
        }),
        ..Pod::default()
    }
}

#[test]
fn canonical_names_have_an_order() {
    for (labels, service, revision) in [
        (&[][..], "web", "latest"),
        (&[("app", "a"), ("version", "v1")], "a", "v1"),
        (
            &[
                ("app", "a"),
                ("app.kubernetes.io/name", "b"),
                ("app.kubernetes.io/version", "2"),
                ("version", "v1"),
            ],
            "b",
            "2",
        ),
        (
            &[
                ("app", "a"),
                ("app.kubernetes.io/name", "b"),
                ("service.istio.io/canonical-name", "c"),
                ("service.istio.io/canonical-revision", "3"),
                ("app.kubernetes.io/version", "2"),
            ],
            "c",
            "3",
        ),
    ] {
        let pod = pod(labels);
        assert_eq!(canonical_service(&pod), service);
        assert_eq!(canonical_revision(&pod), revision);
    }
}
