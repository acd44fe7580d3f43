//! Names of pods as meshes give them: canonical services, identities, full names of Services.

use crate::model::{kubernetes::Pod, mesh::Identity};

/// Domain of the cluster in full names of Services.
const DOMAIN: &str = "svc.cluster.local";

/// Most bytes of a label of a name (RFC 1035 section 2.3.4).
const LONGEST_LABEL: usize = 63;

/// Name of the canonical service: what Istio's injection computes, the first label that is there.
pub fn service(pod: &Pod) -> &str {
    let labels = [
        "service.istio.io/canonical-name",
        "app.kubernetes.io/name",
        "app",
    ];
    first(pod, &labels).unwrap_or_else(|| pod.workload().1)
}

/// Revision of the canonical service.
pub fn revision(pod: &Pod) -> &str {
    let labels = [
        "service.istio.io/canonical-revision",
        "app.kubernetes.io/version",
        "version",
    ];
    first(pod, &labels).unwrap_or("latest")
}

/// Label `app`.
pub fn app(pod: &Pod) -> Option<&str> {
    first(pod, &["app"])
}

/// Label `version`.
pub fn version(pod: &Pod) -> Option<&str> {
    first(pod, &["version"])
}

/// `spiffe://DOMAIN/ns/NAMESPACE/sa/ACCOUNT`, where account and domain are known.
pub fn principal(pod: &Pod, trust_domain: &str) -> Option<String> {
    let account = &*pod.traits.service_account;
    let known = !account.is_empty() && !trust_domain.is_empty();
    known.then(|| format!("spiffe://{trust_domain}/ns/{}/sa/{account}", pod.namespace))
}

/// An identity that is one of SPIFFE.
pub fn spiffe(identity: &Identity) -> Option<&str> {
    Some(&*identity.text).filter(|text| text.starts_with("spiffe://"))
}

/// Whether Istio's sidecar runs in it.
pub fn has_istio_sidecar(pod: &Pod) -> bool {
    pod.traits.has_container("istio-proxy")
}

/// Whether Linkerd's sidecar runs in it.
pub fn has_linkerd_sidecar(pod: &Pod) -> bool {
    pod.traits.has_container("linkerd-proxy")
}

/// Whether the proxy of its node takes its traffic, as who redirected it says.
pub fn is_redirected(pod: &Pod) -> bool {
    pod.traits.annotation("ambient.istio.io/redirection") == Some("enabled")
}

/// `NAME.NAMESPACE.svc.cluster.local`
pub fn full_name(name: &str, namespace: &str) -> String {
    format!("{name}.{namespace}.{DOMAIN}")
}

/// Name and namespace of the Service that an authority names, for who is in `namespace`; `None` when it
/// is none of a cluster.
pub fn service_of_authority<'a>(
    authority: &'a str,
    namespace: &'a str,
) -> Option<(&'a str, &'a str)> {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        Some(_) => return None,
        None => authority,
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    let (name, rest) = host.split_once('.').unwrap_or((host, ""));
    let (space, domain) = match rest.split_once('.') {
        _ if rest.is_empty() => (namespace, DOMAIN),
        Some((space, domain)) => (space, domain),
        None => (rest, DOMAIN),
    };
    let of_cluster = [DOMAIN, "svc", "svc.cluster"].contains(&domain);
    (of_cluster && is_label(name) && is_label(space)).then_some((name, space))
}

/// Whether it is a label of a name as Kubernetes has them, and no part of an address.
fn is_label(text: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=LONGEST_LABEL).contains(&text.len())
        && text.bytes().all(known)
        && !text.bytes().all(|byte| byte.is_ascii_digit())
}

fn first<'a>(pod: &'a Pod, labels: &[&str]) -> Option<&'a str> {
    let mut found = labels.iter().filter_map(|label| pod.traits.label(label));
    found.find(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::model::{kubernetes::Owner, policy::Traits};

    fn pod(labels: &[(&str, &str)]) -> Pod {
        let mut labels: Vec<(Box<str>, Box<str>)> = labels
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect();
        labels.sort();
        Pod {
            namespace: "shop".into(),
            owners: [Owner {
                kind: "Deployment".into(),
                name: "cart".into(),
            }]
            .into(),
            traits: Arc::new(Traits {
                service_account: "cart-account".into(),
                labels: labels.into(),
                ..Traits::default()
            }),
            ..Pod::default()
        }
    }

    #[test]
    fn the_first_label_that_is_there_names_it() {
        for (labels, name, revision) in [
            (&[][..], "cart", "latest"),
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
                    ("app.kubernetes.io/name", "b"),
                    ("service.istio.io/canonical-name", "c"),
                    ("service.istio.io/canonical-revision", "3"),
                ],
                "c",
                "3",
            ),
            (&[("service.istio.io/canonical-name", "")], "cart", "latest"),
        ] {
            let pod = pod(labels);
            assert_eq!((service(&pod), self::revision(&pod)), (name, revision));
        }
        let own = pod(&[]);
        let expected = "spiffe://cluster.local/ns/shop/sa/cart-account";
        assert_eq!(principal(&own, "cluster.local").as_deref(), Some(expected));
        assert_eq!(principal(&own, ""), None);
        assert_eq!(principal(&Pod::default(), "cluster.local"), None);
    }

    #[test]
    fn authorities() {
        for (authority, expected) in [
            ("cart", Some(("cart", "shop"))),
            ("cart:8080", Some(("cart", "shop"))),
            ("cart.pay", Some(("cart", "pay"))),
            ("cart.pay.svc:80", Some(("cart", "pay"))),
            ("cart.pay.svc.cluster.local", Some(("cart", "pay"))),
            ("cart.pay.svc.cluster.local.", Some(("cart", "pay"))),
            ("shop.example.com", None),
            ("10.0.0.1:80", None),
            ("10.0.0.1", None),
            ("[::1]:80", None),
            ("::1", None),
            ("", None),
            ("Cart", None),
            ("a b", None),
        ] {
            assert_eq!(
                service_of_authority(authority, "shop"),
                expected,
                "{authority}"
            );
        }
    }

    proptest! {
        #[test]
        fn full_names_are_read_again(name in "[a-z][a-z0-9-]{0,20}", space in "[a-z][a-z0-9]{0,9}") {
            let full = full_name(&name, &space);
            let found = service_of_authority(&full, "other");
            prop_assert_eq!(found, Some((name.as_str(), space.as_str())));
        }

        #[test]
        fn nothing_panics(authority in ".{0,40}") {
            let _ = service_of_authority(&authority, "shop");
        }
    }
}
