//! From a path to its route template.

use std::fmt;

use super::segment;

/// A configured route: `/orders/{id}/items`. `{name}` and `*` stand for one segment, `**` at the
/// end for all that follow, also none. The route is the pattern as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutePattern {
    text: Box<str>,
    segments: Box<[PatternSegment]>,
    rest: bool,
}

/// Why a text is not a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoutePatternError {
    /// It does not start with `/`.
    NotAPath,
    /// It is longer than 256 bytes.
    TooLong,
    /// `**` is not the last segment.
    RestNotLast,
    /// Braces are not around a whole segment, or empty.
    Braces,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum PatternSegment {
    Exactly(Box<str>),
    Any,
}

/// Longest pattern, bytes.
const MAX_PATTERN: usize = 256;

/// Writes the template of `path` into `out`: at most `depth` segments, then `/*`.
///
/// Targets that are not paths (`*`, and the authority of CONNECT) have the empty template.
pub(super) fn write_template(path: &str, truncated: bool, depth: usize, out: &mut String) {
    out.clear();
    if !path.starts_with('/') {
        return;
    }
    // What is left of a path that was cut ends in a part of a segment.
    let (path, cut) = match path.rsplit_once('/') {
        Some((kept, _)) if truncated => (kept, true),
        _ => (path, false),
    };
    // Parameters of a segment (RFC 3986 section 3.3), session ids usually.
    let plain = |segment: &str| segment.split(';').next().unwrap_or_default().len();
    let mut count = 0;
    let mut more = cut;
    for whole in path.split('/').skip(1) {
        let segment = whole.get(..plain(whole)).unwrap_or_default();
        if segment.is_empty() {
            continue;
        }
        if count == depth {
            more = true;
            break;
        }
        count += 1;
        out.push('/');
        write_segment(segment, out);
    }
    if more {
        if !out.ends_with("/*") {
            out.push_str("/*");
        }
    } else if path.ends_with('/') {
        out.push('/');
    }
    if out.is_empty() {
        out.push('/');
    }
}

fn write_segment(segment: &str, out: &mut String) {
    if segment::is_placeholder(segment) {
        out.push_str(segment);
    } else if segment.len() > segment::MAX_SEGMENT {
        out.push_str("{token}");
    } else if let Some((before, placeholder, after)) = segment::structured(segment) {
        out.push_str(before);
        out.push_str(placeholder);
        out.push_str(after);
    } else {
        out.push_str(segment::placeholder(segment).unwrap_or(segment));
    }
}

// === impl RoutePattern ===

impl RoutePattern {
    /// Reads a pattern.
    pub fn parse(text: &str) -> Result<Self, RoutePatternError> {
        let path = text.strip_prefix('/').ok_or(RoutePatternError::NotAPath)?;
        if text.len() > MAX_PATTERN {
            return Err(RoutePatternError::TooLong);
        }
        let (path, rest) = match path.strip_suffix("**") {
            Some("") => (None, true),
            Some(before) => (Some(before.strip_suffix('/').unwrap_or("**")), true),
            None => (Some(path), false),
        };
        let segments = path
            .into_iter()
            .flat_map(|path| path.split('/'))
            .map(|segment| {
                let name = segment
                    .strip_prefix('{')
                    .and_then(|name| name.strip_suffix('}'));
                match (segment, name) {
                    ("*", _) => Ok(PatternSegment::Any),
                    (_, Some(name)) if !name.is_empty() && !name.contains(['{', '}']) => {
                        Ok(PatternSegment::Any)
                    }
                    _ if segment.contains("**") => Err(RoutePatternError::RestNotLast),
                    _ if segment.contains(['{', '}']) => Err(RoutePatternError::Braces),
                    _ => Ok(PatternSegment::Exactly(segment.into())),
                }
            });
        let segments = segments.collect::<Result<_, _>>()?;
        Ok(Self {
            text: text.into(),
            segments,
            rest,
        })
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Does the whole path match? A placeholder does not match an empty segment.
    pub fn matches(&self, path: &str) -> bool {
        let Some(path) = path.strip_prefix('/') else {
            return false;
        };
        let mut given = path.split('/');
        for wanted in &self.segments {
            let fits = match (wanted, given.next()) {
                (PatternSegment::Exactly(wanted), Some(given)) => **wanted == *given,
                (PatternSegment::Any, Some(given)) => !given.is_empty(),
                (_, None) => false,
            };
            if !fits {
                return false;
            }
        }
        self.rest || given.next().is_none()
    }
}

// === impl RoutePatternError ===

impl fmt::Display for RoutePatternError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::NotAPath => "a route pattern must start with `/`",
            Self::TooLong => "a route pattern may have at most 256 bytes",
            Self::RestNotLast => "`**` must be the last segment of a route pattern, alone",
            Self::Braces => "braces must enclose a whole segment and a name: `/orders/{id}`",
        })
    }
}

impl std::error::Error for RoutePatternError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DEPTH: usize = 8;

    fn template(path: &str) -> String {
        let mut out = String::from("what was there before");
        write_template(path, false, DEPTH, &mut out);
        out
    }

    #[test]
    fn templates() {
        for (path, expected) in [
            ("/", "/"),
            ("//", "/"),
            ("", ""),
            ("*", ""),
            ("example.org:443", ""),
            ("/users", "/users"),
            ("/users/", "/users/"),
            ("/users//7", "/users/{id}"),
            (
                "/api/v1/users/42/orders/5d3f9e0c-1b7a-4a4e-9b0e-0f1e2d3c4b5a",
                "/api/v1/users/{id}/orders/{uuid}",
            ),
            ("/app;jsessionid=7F/cart", "/app/cart"),
            ("/;x", "/"),
            ("/files/42.json", "/files/{id}.json"),
            ("/static/app.3f2a9c1b.js", "/static/{hash}.js"),
            ("/odata/Users(42)", "/odata/Users({id})"),
            (
                "/v1/projects/p/orders/12:cancel",
                "/v1/projects/p/orders/{id}:cancel",
            ),
            ("/a/b/c/d/e/f/g/h", "/a/b/c/d/e/f/g/h"),
            ("/a/b/c/d/e/f/g/h/i/j", "/a/b/c/d/e/f/g/h/*"),
            ("/a/b/c/d/e/f/g/h/", "/a/b/c/d/e/f/g/h/"),
            ("/a/%2e%2e/b", "/a/{text}/b"),
        ] {
            assert_eq!(template(path), expected, "{path}");
        }
    }

    #[test]
    fn the_cut_end_of_a_long_path_is_not_shown() {
        let mut out = String::new();
        for (path, expected) in [("/a/b/secr", "/a/b/*"), ("/secr", "/*"), ("/a/", "/a/*")] {
            write_template(path, true, DEPTH, &mut out);
            assert_eq!(out, expected, "{path}");
        }
    }

    #[test]
    fn patterns() {
        for (pattern, path, expected) in [
            ("/", "/", true),
            ("/", "/a", false),
            ("/orders/{id}/items", "/orders/x/items", true),
            ("/orders/{id}/items", "/orders//items", false),
            ("/orders/{id}/items", "/orders/x/items/", false),
            ("/orders/*", "/orders/x", true),
            ("/orders/*", "/orders", false),
            ("/orders/*", "/orders/x/y", false),
            ("/files/**", "/files", true),
            ("/files/**", "/files/a/b/c", true),
            ("/files/**", "/filesystem", false),
            ("/**", "/", true),
            ("/**", "/a/b", true),
            ("/**", "*", false),
        ] {
            let parsed = RoutePattern::parse(pattern).unwrap();
            assert_eq!(parsed.matches(path), expected, "{pattern} {path}");
            assert_eq!(parsed.as_str(), pattern);
        }
        for (pattern, expected) in [
            ("", RoutePatternError::NotAPath),
            ("orders", RoutePatternError::NotAPath),
            ("/a/**/b", RoutePatternError::RestNotLast),
            ("/a**", RoutePatternError::RestNotLast),
            ("/a/{}", RoutePatternError::Braces),
            ("/a{b}", RoutePatternError::Braces),
            ("/{a}{b}", RoutePatternError::Braces),
        ] {
            assert_eq!(RoutePattern::parse(pattern), Err(expected), "{pattern}");
        }
        let long = format!("/{}", "a".repeat(256));
        assert_eq!(RoutePattern::parse(&long), Err(RoutePatternError::TooLong));
    }

    fn segments() -> impl Strategy<Value = String> {
        prop_oneof![
            "[a-z]{1,12}",
            "[0-9]{1,20}",
            "[0-9a-f]{8,40}",
            "[A-Za-z0-9_-]{1,80}",
            "[a-z]{1,8}[.:(][a-z0-9]{1,12}[)]?",
            "[{][a-z]{0,8}[}][.:]?[a-z]{0,5}",
            "[a-z0-9%@;=,.~-]{0,20}",
            any::<String>().prop_map(|text| text.replace('/', "")),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn no_template_holds_a_value(parts in prop::collection::vec(segments(), 0..12), truncated: bool) {
            let path = format!("/{}", parts.join("/"));
            let mut found = String::new();
            write_template(&path, truncated, DEPTH, &mut found);
            prop_assert!(found.starts_with('/'));
            prop_assert!(found.len() <= DEPTH * (segment::MAX_SEGMENT + 16) + 2, "{}", found);
            for part in found.split('/') {
                prop_assert_eq!(segment::placeholder(part), None, "{} in {}", part, &found);
                if !segment::is_placeholder(part) {
                    prop_assert_eq!(segment::structured(part), None, "{} in {}", part, &found);
                    prop_assert!(part.is_ascii() && !part.contains(|c: char| c.is_control()));
                }
            }
            // A template is its own template.
            if !found.ends_with("/*") {
                prop_assert_eq!(template(&found), found.clone());
            }
        }

        #[test]
        fn any_text_is_taken(path in any::<String>(), truncated: bool, depth in 0..10_usize) {
            let mut found = String::new();
            write_template(&path, truncated, depth, &mut found);
            prop_assert!(found.is_empty() != path.starts_with('/'));
            prop_assert!(!found.contains('?') || !path.contains('?') || path.starts_with('/'));
            let _ = RoutePattern::parse(&path);
        }
    }
}
