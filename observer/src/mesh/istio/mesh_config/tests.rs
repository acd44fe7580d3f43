//! The configuration of the mesh, in cases.

use std::{sync::Arc, time::Duration};

use super::*;
use crate::model::policy::{PolicyChange, PolicyKind};

fn object(name: &str, mesh: &str) -> PolicyObject {
    PolicyObject {
        kind: PolicyKind::MeshConfig,
        uid: name.into(),
        namespace: "mesh-root".into(),
        name: name.into(),
        version: "1".into(),
        created: 1,
        labels: Box::new([]),
        annotations: Box::new([]),
        content: serde_json::json!({ "mesh": mesh }).to_string().into(),
    }
}

fn config(mesh: &str) -> MeshConfig {
    let mut configs = MeshConfigs::default();
    configs.set(&object("istio", mesh)).expect("understood");
    configs.current().clone()
}

#[test]
fn nothing_said_is_the_default() {
    for mesh in ["", "\n", "{}", "defaultConfig:\n  tracing: {}\n", "null"] {
        let config = config(mesh);
        assert_eq!(&*config.root_namespace, "mesh-root");
        assert_eq!(&*config.trust_domain, "cluster.local");
        assert!(config.auto_mtls && !config.registry_only);
        assert_eq!(config.minimum_tls, 0x0303);
        assert_eq!(config.default_retries.map(|it| it.attempts), Some(2));
    }
    let default = MeshConfigs::default();
    assert_eq!(&*default.current().root_namespace, "istio-system");
    assert_eq!(default.current().object, None);
}

#[test]
fn what_is_said_counts() {
    let config = config(
        "rootNamespace: root\ntrustDomain: example.org\ntrustDomainAliases: [old.org]\n\
         enableAutoMtls: false\noutboundTrafficPolicy:\n  mode: REGISTRY_ONLY\n\
         meshMTLS:\n  minProtocolVersion: TLSV1_3\n\
         defaultHttpRetryPolicy:\n  attempts: 5\n  perTryTimeout: 2s\n",
    );
    assert_eq!(&*config.root_namespace, "root");
    assert!(config.is_own_trust_domain("old.org"));
    assert!(config.is_own_trust_domain("cluster.local"));
    assert!(!config.is_own_trust_domain("other.org"));
    assert!(!config.auto_mtls && config.registry_only);
    assert_eq!(config.minimum_tls, 0x0304);
    let retries = Retries {
        attempts: 5,
        per_try: Some(Duration::from_secs(2)),
    };
    assert_eq!(config.default_retries, Some(retries));
}

#[test]
fn the_default_revision_goes_first_in_any_order() {
    for names in [["istio", "istio-canary"], ["istio-canary", "istio"]] {
        let mut configs = MeshConfigs::default();
        for name in names {
            let text = format!("trustDomain: {name}");
            configs.set(&object(name, &text)).expect("understood");
        }
        assert_eq!(&*configs.current().trust_domain, "istio");
        configs.remove(&object("istio", ""));
        assert_eq!(&*configs.current().trust_domain, "istio-canary");
    }
}

#[test]
fn what_is_wrong_is_said() {
    let mut configs = MeshConfigs::default();
    for (mesh, word) in [
        ("enableAutoMtls: [1]", "mesh: "),
        ("a: b: c", "mesh: "),
        ("trustDomainAliases: 5", "mesh: "),
    ] {
        let problem = configs.set(&object("istio", mesh)).unwrap_err();
        assert!(problem.starts_with(word), "{problem}");
        assert!(!problem.contains('\n'));
    }
}

#[test]
fn namespaces_are_discovered_by_their_labels() {
    let config = config(
        "discoverySelectors:\n- matchLabels:\n    mesh: \"on\"\n- matchExpressions:\n  \
         - key: team\n    operator: In\n    values: [a, b]\n  - key: skip\n    operator: \
         DoesNotExist\n",
    );
    let mut policies = crate::mesh::policy::Policies::default();
    for (name, labels) in [
        ("on", &[("mesh", "on")][..]),
        ("off", &[("mesh", "off")]),
        ("team", &[("team", "b")]),
        ("skipped", &[("skip", ""), ("team", "b")]),
        ("mesh-root", &[]),
    ] {
        let mut namespace = object(name, "");
        namespace.kind = PolicyKind::Namespace;
        namespace.labels = labels
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect();
        policies.apply(PolicyChange::Set(Arc::new(namespace)));
    }
    for (namespace, expected) in [
        ("on", true),
        ("off", false),
        ("team", true),
        ("skipped", false),
        ("mesh-root", true),
        ("unknown", true),
    ] {
        let context = policies.context();
        assert_eq!(
            config.discovers(context, namespace),
            expected,
            "{namespace}"
        );
    }
}
