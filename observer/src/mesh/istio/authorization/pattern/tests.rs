//! Values and paths as policies write them, in cases, and against a slow matcher.

use proptest::prelude::*;

use super::*;

#[test]
fn values_may_be_open_at_one_end() {
    for (pattern, value, expected) in [
        ("GET", "GET", true),
        ("GET", "get", false),
        ("*", "anything", true),
        ("*", "", false),
        ("/api/*", "/api/", true),
        ("/api/*", "/api/v1", true),
        ("/api/*", "/api", false),
        ("*.html", "/a.html", true),
        ("*.html", "/a.htm", false),
        ("a*b", "a*b", true),
        ("a*b", "ab", false),
        ("", "", true),
    ] {
        assert_eq!(
            pattern_matches(pattern, value),
            expected,
            "{pattern} {value}"
        );
    }
}

#[test]
fn paths_may_have_templates() {
    for (pattern, path, expected) in [
        ("/foo/{*}", "/foo/bar", true),
        ("/foo/{*}", "/foo/bar/baz", false),
        ("/foo/{*}", "/foo/", false),
        ("/foo/{**}", "/foo/bar/baz.txt", true),
        ("/foo/{**}", "/foo/", true),
        ("/foo/{**}", "/foo", false),
        ("/foo/{**}/", "/foo/bar/", true),
        ("/foo/{**}/", "/foo/bar", false),
        ("/{*}/baz", "/foo/baz", true),
        ("/{*}/baz", "/foo/bar/baz", false),
        ("/{**}/baz", "/foo/bar/baz", true),
        ("/store/{*}/cart/{**}", "/store/1/cart/x/y", true),
        ("/store/{*}/cart/{**}", "/store/1/2/cart/x", false),
        ("/{*}.html", "/a.b.html", true),
        ("/{*}", "/*", true),
        // Without a template a star is open at an end.
        ("/foo/*", "/foo/a/b", true),
    ] {
        assert_eq!(path_matches(pattern, path), expected, "{pattern} {path}");
    }
}

/// By trying all.
fn slowly(pattern: &str, path: &str) -> bool {
    if let Some(rest) = pattern.strip_prefix("{**}") {
        return (0..=path.len()).any(|taken| slowly(rest, &path[taken..]));
    }
    if let Some(rest) = pattern.strip_prefix("{*}") {
        let end = path.find('/').unwrap_or(path.len());
        return (1..=end).any(|taken| slowly(rest, &path[taken..]));
    }
    match (pattern.chars().next(), path.chars().next()) {
        (None, None) => true,
        (Some(wanted), Some(found)) => wanted == found && slowly(&pattern[1..], &path[1..]),
        _ => false,
    }
}

proptest! {
    #[test]
    fn templates_are_matched_as_if_all_were_tried(
        parts in prop::collection::vec(
            prop::sample::select(vec!["a", "b", "/", "{*}", "{**}"]), 0..8),
        path in "[ab/]{0,10}",
    ) {
        let pattern = parts.concat();
        prop_assert_eq!(template_matches(&pattern, &path), slowly(&pattern, &path), "{}", pattern);
    }
}
