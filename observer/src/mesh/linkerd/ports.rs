//! Lists of ports in annotations: `25,587,4000-5000,metrics`.

/// Annotation of ports that are not to be read as HTTP.
pub(super) const OPAQUE: &str = "config.linkerd.io/opaque-ports";
/// Annotation of ports whose incoming connections bypass the proxy.
pub(super) const SKIP_INBOUND: &str = "config.linkerd.io/skip-inbound-ports";
/// Annotation of ports whose outgoing connections bypass the proxy.
pub(super) const SKIP_OUTBOUND: &str = "config.linkerd.io/skip-outbound-ports";
/// Annotation of ports that need a proved identity.
pub(super) const REQUIRE_IDENTITY: &str = "config.linkerd.io/proxy-require-identity-inbound-ports";
/// Ports that are not read as HTTP where nothing is said.
pub(super) const OPAQUE_BY_DEFAULT: &str = "25,587,3306,4444,5432,6379,9300,11211";

/// Whether a list has a port. `named` are ports by name. What is no port, range or name is passed
/// over.
pub(super) fn lists<'a>(
    list: &str,
    port: u16,
    mut named: impl FnMut(&str) -> Option<u16> + 'a,
) -> bool {
    list.split(',').map(str::trim).any(|item| {
        if let Ok(number) = item.parse::<u16>() {
            return number == port;
        }
        let range = item.split_once('-').and_then(|(from, to)| {
            Some((
                from.trim().parse::<u16>().ok()?,
                to.trim().parse::<u16>().ok()?,
            ))
        });
        match range {
            Some((from, to)) => (from..=to).contains(&port),
            None => !item.is_empty() && named(item) == Some(port),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_have_ports_ranges_and_names() {
        let named = |name: &str| (name == "web-ui").then_some(8080);
        for (list, port, expected) in [
            ("25,587", 587, true),
            ("25, 587 ", 587, true),
            ("25,587", 58, false),
            ("4000-5000", 4500, true),
            ("4000-5000", 5000, true),
            ("4000-5000", 5001, false),
            ("5000-4000", 4500, false),
            ("web-ui", 8080, true),
            ("web-ui", 80, false),
            ("", 0, false),
            ("x,,-,1-", 1, false),
            (OPAQUE_BY_DEFAULT, 5432, true),
        ] {
            assert_eq!(lists(list, port, named), expected, "{list} {port}");
        }
    }
}
