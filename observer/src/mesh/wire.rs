//! Names of meshes as they are on the wire.

use crate::model::mesh::Identity;

/// What the server name of Istio's mutual TLS says of the routing decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IstioTarget<'a> {
    /// Port of the service.
    pub port: u16,
    /// Subset of the destination rule; empty when there is none.
    pub subset: &'a str,
    /// Host of the service.
    pub host: &'a str,
}

/// Reads `outbound_.<port>_.<subset>_.<host>`, or `inbound_.` in front: four parts, no more.
/// `None` when it is anything else.
pub fn istio_target(name: &str) -> Option<IstioTarget<'_>> {
    let mut parts = name.split("_.");
    let direction = parts.next()?;
    let (port, subset, host) = (parts.next()?, parts.next()?, parts.next()?);
    let known = matches!(direction, "outbound" | "inbound");
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    if !known || !digits || host.is_empty() || parts.next().is_some() {
        return None;
    }
    Some(IstioTarget {
        port: port.parse().ok()?,
        subset,
        host,
    })
}

/// An identity of Linkerd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkerdIdentity<'a> {
    /// Service account.
    pub service_account: &'a str,
    /// Its namespace.
    pub namespace: &'a str,
    /// Namespace of the control plane.
    pub control_namespace: &'a str,
    /// Trust domain.
    pub trust_domain: &'a str,
}

/// Reads `<service account>.<namespace>.serviceaccount.identity.<control namespace>.<trust
/// domain>`. `None` when it is anything else.
pub fn linkerd_identity(name: &str) -> Option<LinkerdIdentity<'_>> {
    let (account, authority) = name.split_once(".serviceaccount.identity.")?;
    // Names of service accounts may have dots, those of namespaces have none.
    let (service_account, namespace) = account.rsplit_once('.')?;
    let (control_namespace, trust_domain) = authority.split_once('.')?;
    let all = [service_account, namespace, control_namespace, trust_domain];
    all.iter()
        .all(|part| is_name(part))
        .then_some(LinkerdIdentity {
            service_account,
            namespace,
            control_namespace,
            trust_domain,
        })
}

/// An identity of Istio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IstioIdentity<'a> {
    /// Trust domain.
    pub trust_domain: &'a str,
    /// Namespace of the service account.
    pub namespace: &'a str,
    /// Service account.
    pub service_account: &'a str,
}

/// Reads `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`. `None` when it is anything
/// else.
pub fn istio_identity(uri: &str) -> Option<IstioIdentity<'_>> {
    let mut parts = uri.strip_prefix("spiffe://")?.split('/');
    let mut part = || parts.next().filter(|part| !part.is_empty());
    let trust_domain = part()?;
    let namespace = part().filter(|kind| *kind == "ns").and_then(|_| part())?;
    let service_account = part().filter(|kind| *kind == "sa").and_then(|_| part())?;
    parts.next().is_none().then_some(IstioIdentity {
        trust_domain,
        namespace,
        service_account,
    })
}

/// Whether a URI is `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.
pub fn names_istio_workload(uri: &str) -> bool {
    istio_identity(uri).is_some()
}

/// The identity that a proxy vouches for, whichever mesh it is of. What is not understood is its
/// text alone.
pub fn identity(text: &str) -> Identity {
    let (trust_domain, namespace, service_account) = if let Some(istio) = istio_identity(text) {
        (istio.trust_domain, istio.namespace, istio.service_account)
    } else if let Some(linkerd) = linkerd_identity(text) {
        (
            linkerd.trust_domain,
            linkerd.namespace,
            linkerd.service_account,
        )
    } else {
        ("", "", "")
    };
    Identity {
        text: text.into(),
        trust_domain: trust_domain.into(),
        namespace: namespace.into(),
        service_account: service_account.into(),
    }
}

/// A DNS name of Kubernetes (RFC 1123), with dots.
fn is_name(name: &str) -> bool {
    name.split('.').all(|label| {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        !label.is_empty() && label.bytes().all(inner)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_istio_say_port_subset_and_host() {
        let host = "cart.shop.svc.cluster.local";
        let target = |port, subset, host| Some(IstioTarget { port, subset, host });
        for (name, expected) in [
            (
                format!("outbound_.8080_.v1_.{host}"),
                target(8080, "v1", host),
            ),
            (format!("outbound_.80_._.{host}"), target(80, "", host)),
            (
                format!("inbound_.65535_.a_b_.{host}"),
                target(65535, "a_b", host),
            ),
        ] {
            assert_eq!(istio_target(&name), expected, "{name}");
        }
    }

    #[test]
    fn malformed_names_of_istio_say_nothing() {
        for name in [
            "",
            "cart.shop.svc.cluster.local",
            "outbound",
            "outbound_.",
            "outbound_.80",
            "outbound_.80_.v1",
            "outbound_.80_.v1_.",
            "outbound_.80_.v1_.a_.b",
            "outbound_._.v1_.a",
            "outbound_.+80_.v1_.a",
            "outbound_.65536_.v1_.a",
            "outbound_.http_.v1_.a",
            "sideways_.80_.v1_.a",
            "outbound|80|v1|a",
            "x.outbound_.80_.v1_.a",
        ] {
            assert_eq!(istio_target(name), None, "{name}");
        }
    }

    #[test]
    fn identities_of_linkerd_have_four_parts() {
        let identity = |service_account, trust_domain| {
            Some(LinkerdIdentity {
                service_account,
                namespace: "shop",
                control_namespace: "linkerd",
                trust_domain,
            })
        };
        assert_eq!(
            linkerd_identity("web.shop.serviceaccount.identity.linkerd.cluster.local"),
            identity("web", "cluster.local")
        );
        assert_eq!(
            linkerd_identity("a.b-1.shop.serviceaccount.identity.linkerd.local"),
            identity("a.b-1", "local")
        );
        for name in [
            "web.serviceaccount.identity.linkerd.cluster.local",
            "web.shop.serviceaccount.identity.linkerd",
            "web.shop.serviceaccount.identity..cluster.local",
            ".shop.serviceaccount.identity.linkerd.cluster.local",
            "web..serviceaccount.identity.linkerd.cluster.local",
            "web.shop.serviceaccount.linkerd.cluster.local",
            "w_b.shop.serviceaccount.identity.linkerd.cluster.local",
            "web.shop.svc.cluster.local",
        ] {
            assert_eq!(linkerd_identity(name), None, "{name}");
        }
    }

    #[test]
    fn identities_are_understood_or_kept_as_text() {
        let read = |text: &str| {
            let identity = identity(text);
            assert_eq!(&*identity.text, text);
            let parts = [
                identity.trust_domain,
                identity.namespace,
                identity.service_account,
            ];
            parts.join(" ")
        };
        for (text, expected) in [
            (
                "spiffe://cluster.local/ns/shop/sa/web",
                "cluster.local shop web",
            ),
            ("spiffe://td/ns/a/sa/b.c", "td a b.c"),
            (
                "web.shop.serviceaccount.identity.linkerd.cluster.local",
                "cluster.local shop web",
            ),
            ("a.b.shop.serviceaccount.identity.linkerd.td", "td shop a.b"),
            ("spiffe://td/ns/a/sa/", "  "),
            ("spiffe://td/ns//sa/b", "  "),
            ("spiffe://td/sa/a/ns/b", "  "),
            ("spiffe://td/ns/a/sa/b/c", "  "),
            ("spiffe://td/ns/a/sa/b/", "  "),
            ("spiffe://dc1.consul/ns/default/dc/dc1/svc/web", "  "),
            ("web.shop.svc.cluster.local", "  "),
            ("", "  "),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }

    #[test]
    fn workloads_of_istio_are_told_from_other_spiffe_ids() {
        assert!(names_istio_workload(
            "spiffe://cluster.local/ns/shop/sa/web"
        ));
        for uri in [
            "spiffe://cluster.local/ns/shop/sa/",
            "spiffe:///ns/shop/sa/web",
            "spiffe://cluster.local/ns/shop/sa/web/more",
            "spiffe://dc1.consul/ns/default/dc/dc1/svc/web",
            "spiffe://mesh/web",
            "https://cluster.local/ns/shop/sa/web",
        ] {
            assert!(!names_istio_workload(uri), "{uri}");
        }
    }
}
