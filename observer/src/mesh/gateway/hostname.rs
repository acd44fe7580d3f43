//! Names of hosts as routes and listeners have them, and how well one fits.

use crate::mesh::decision::Certainty;

/// A name, or a suffix of names: `*.example.com`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::mesh) struct Hostname {
    /// In lower case; of a suffix what follows the `*`.
    text: Box<str>,
    suffix: bool,
}

/// How specific a match is, more is greater: letters of a whole name, then letters of any.
pub(in crate::mesh) type Specificity = (usize, usize);

// === impl Hostname ===

impl Hostname {
    /// Reads one.
    pub(super) fn new(text: &str) -> Self {
        let text = text.to_ascii_lowercase();
        match text.strip_prefix('*') {
            Some(suffix) => Self {
                text: suffix.into(),
                suffix: true,
            },
            None => Self {
                text: text.into(),
                suffix: false,
            },
        }
    }

    /// As it was written.
    pub(super) fn text(&self) -> String {
        let star = if self.suffix { "*" } else { "" };
        format!("{star}{}", self.text)
    }

    /// What all hosts that it fits are found by: themselves, a part from one of their dots on, or
    /// nothing, which is of all.
    pub(super) fn key(&self) -> Box<str> {
        if self.suffix && !self.text.starts_with('.') {
            Box::default()
        } else {
            self.text.clone()
        }
    }

    fn matches(&self, host: &str) -> bool {
        if self.suffix {
            host.len() > self.text.len() && host.ends_with(&*self.text)
        } else {
            *host == *self.text
        }
    }

    fn specificity(&self) -> Specificity {
        let whole = if self.suffix { 0 } else { self.text.len() };
        (whole, self.text.len())
    }
}

/// Whether one of these names fits a host, and how specific the best is; no names fit all. An empty
/// host is not known.
pub(super) fn fit(names: &[Hostname], host: &str) -> (Certainty, Specificity) {
    if names.is_empty() {
        return (Certainty::Yes, (0, 0));
    }
    let unknown = host.is_empty();
    let fitting = names.iter().filter(|name| unknown || name.matches(host));
    match fitting.map(Hostname::specificity).max() {
        Some(best) if unknown => (Certainty::Unknown, best),
        Some(best) => (Certainty::Yes, best),
        None => (Certainty::No, (0, 0)),
    }
}

/// A host without its port and final dot, in lower case.
pub(in crate::mesh) fn host_of(authority: &str) -> String {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or(rest, |(host, _)| host),
        None => authority
            .rsplit_once(':')
            .map_or(authority, |(host, port)| {
                // An address of IPv6 without brackets has no port.
                if host.contains(':') || !port.bytes().all(|byte| byte.is_ascii_digit()) {
                    authority
                } else {
                    host
                }
            }),
    };
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_most_specific_name_counts() {
        let names: Vec<Hostname> = ["*.example.com", "*.a.example.com", "b.Example.com", "*.com"]
            .into_iter()
            .map(Hostname::new)
            .collect();
        for (host, expected) in [
            ("b.example.com", (Certainty::Yes, (13, 13))),
            ("c.example.com", (Certainty::Yes, (0, 12))),
            ("x.y.example.com", (Certainty::Yes, (0, 12))),
            ("x.a.example.com", (Certainty::Yes, (0, 14))),
            ("example.com", (Certainty::Yes, (0, 4))),
            ("example.org", (Certainty::No, (0, 0))),
            (".com", (Certainty::No, (0, 0))),
            ("", (Certainty::Unknown, (13, 13))),
        ] {
            assert_eq!(fit(&names, host), expected, "{host}");
        }
        assert_eq!(fit(&[], "any"), (Certainty::Yes, (0, 0)));
        assert_eq!(fit(&[], ""), (Certainty::Yes, (0, 0)));
    }

    #[test]
    fn hosts_have_no_port() {
        for (authority, expected) in [
            ("Shop.Example.com:8080", "shop.example.com"),
            ("shop.example.com.", "shop.example.com"),
            ("shop.example.com.:80", "shop.example.com"),
            ("[::1]:80", "::1"),
            ("::1", "::1"),
            ("10.0.0.1:80", "10.0.0.1"),
            ("", ""),
        ] {
            assert_eq!(host_of(authority), expected, "{authority}");
        }
    }

    proptest! {
        #[test]
        fn any_authority_is_read(authority in ".*") {
            let _ = host_of(&authority);
        }
    }
}
