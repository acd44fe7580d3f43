//! Names of hosts, in one spelling.

use std::borrow::Cow;

/// A host without port, in lower case; a name of a Service of the cluster as `name.namespace`.
pub(super) fn canonical(host: &str) -> Cow<'_, str> {
    let host = without_port(host);
    let host = host.strip_suffix('.').unwrap_or(host);
    let host = match service(host) {
        Some((name, namespace)) => {
            let length = name.len() + 1 + namespace.len();
            host.get(..length).unwrap_or(host)
        }
        None => host,
    };
    match host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => Cow::Owned(host.to_ascii_lowercase()),
        false => Cow::Borrowed(host),
    }
}

/// As [`canonical`], of a name that an object writes: a short one is of a Service of its namespace.
pub(super) fn canonical_in(host: &str, namespace: &str) -> String {
    let canonical = canonical(host);
    match canonical.contains(['.', '*']) || canonical.is_empty() {
        true => canonical.into_owned(),
        false => format!("{canonical}.{namespace}"),
    }
}

/// Name and namespace of `name.namespace.svc`, with or without a domain behind it.
pub(super) fn service(host: &str) -> Option<(&str, &str)> {
    let (name, rest) = host.split_once('.')?;
    let (namespace, rest) = rest.split_once('.')?;
    let named = rest == "svc" || rest.starts_with("svc.");
    (named && !name.is_empty() && !namespace.is_empty()).then_some((name, namespace))
}

/// Without a port, and without the brackets of an address of IPv6.
pub(super) fn without_port(authority: &str) -> &str {
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split_once(']').map_or(rest, |(address, _)| address);
    }
    match authority.rsplit_once(':') {
        // More than one colon is an address.
        Some((host, port))
            if !host.contains(':') && port.bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            host
        }
        _ => authority,
    }
}

/// Whether a name is what a pattern says: itself, `*`, or `*.example.com`.
pub(super) fn matches(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some("") => true,
        Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
        None => pattern == host,
    }
}

/// The authority of a request that was copied, without what a proxy marks copies by: `-shadow`
/// behind the host. `None` for any other.
pub(super) fn without_shadow(authority: &str) -> Option<&str> {
    const MARK: &str = "-shadow";
    // Older proxies write it behind the port.
    without_port(authority).strip_suffix(MARK).map(without_port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_have_one_spelling() {
        for (host, expected) in [
            ("cart.shop.svc.cluster.local", "cart.shop"),
            ("cart.shop.svc.cluster.local:8080", "cart.shop"),
            ("cart.shop.svc", "cart.shop"),
            ("Cart.Shop.svc.cluster.local.", "cart.shop"),
            ("cart.shop:80", "cart.shop"),
            ("cart", "cart"),
            ("API.example.com:443", "api.example.com"),
            ("[2001:db8::1]:80", "2001:db8::1"),
            ("2001:db8::1", "2001:db8::1"),
            ("", ""),
        ] {
            assert_eq!(canonical(host), expected, "{host}");
        }
        assert_eq!(canonical_in("cart", "shop"), "cart.shop");
        assert_eq!(canonical_in("cart.other", "shop"), "cart.other");
        assert_eq!(canonical_in("*", "shop"), "*");
    }

    #[test]
    fn patterns_match_below_their_domain() {
        assert!(matches("*", "a"));
        assert!(matches("*.example.com", "a.example.com"));
        assert!(!matches("*.example.com", "example.com"));
        assert!(!matches("*.example.com", ".example.com"));
        assert!(matches("a.example.com", "a.example.com"));
        assert!(!matches("a.example.com", "b.a.example.com"));
    }

    #[test]
    fn copies_are_told_by_their_mark() {
        assert_eq!(without_shadow("cart-shadow"), Some("cart"));
        assert_eq!(without_shadow("cart.shop-shadow:8080"), Some("cart.shop"));
        assert_eq!(without_shadow("cart.shop:8080-shadow"), Some("cart.shop"));
        assert_eq!(without_shadow("cart"), None);
        assert_eq!(without_shadow("cart-shadow.shop"), None);
    }
}
