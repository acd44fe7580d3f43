//! Patterns of names and paths: `*` is any run of characters, `?` is any one.

use std::fmt;

/// A pattern that must match a whole text. `*` also crosses `/`, so that `/system.slice/*` is
/// everything below; there is no escape, because no name or path of interest has a `*` in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Glob(String);

// === impl Glob ===

impl Glob {
    /// A pattern; any text is one.
    pub fn new(pattern: impl Into<String>) -> Self {
        Self(pattern.into())
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `text` matches as a whole. Takes time proportional to the product of both lengths
    /// at worst, and no memory.
    pub fn matches(&self, text: &str) -> bool {
        let (mut pattern, mut rest) = (self.0.as_str(), text);
        // What to try again with one more character inside the last `*`.
        let mut retry: Option<(&str, &str)> = None;
        loop {
            let mut patterns = pattern.chars();
            let mut characters = rest.chars();
            match (patterns.next(), characters.next()) {
                (None, None) => return true,
                (Some('*'), _) => {
                    pattern = patterns.as_str();
                    retry = Some((pattern, rest));
                }
                (Some(wanted), Some(found)) if wanted == '?' || wanted == found => {
                    pattern = patterns.as_str();
                    rest = characters.as_str();
                }
                _ => {
                    let Some((after_star, from)) = retry else {
                        return false;
                    };
                    let mut skipped = from.chars();
                    if skipped.next().is_none() {
                        return false;
                    }
                    pattern = after_star;
                    rest = skipped.as_str();
                    retry = Some((pattern, rest));
                }
            }
        }
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(pattern: &str, text: &str, expected: bool) {
        assert_eq!(
            Glob::new(pattern).matches(text),
            expected,
            "{pattern:?} on {text:?}"
        );
    }

    #[test]
    fn matches_whole_texts() {
        check("", "", true);
        check("", "a", false);
        check("nginx", "nginx", true);
        check("nginx", "nginx2", false);
        check("nginx", "ngin", false);
        check("n?inx", "nginx", true);
        check("n?inx", "ninx", false);
        check("*", "", true);
        check("*", "/any/thing", true);
        check("/system.slice/*", "/system.slice/a/b", true);
        check("/system.slice/*", "/user.slice/a", false);
        check("*.service", "a.service.service", true);
        check("*a*b", "aab", true);
        check("*a*b", "aba", false);
        check("a**b", "ab", true);
        check("?", "\u{e9}", true);
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(pattern in "[ab*?]{0,7}", text in "[ab]{0,7}") {
            fn defined(pattern: &[u8], text: &[u8]) -> bool {
                match pattern.split_first() {
                    None => text.is_empty(),
                    Some((b'*', rest)) => (0..=text.len()).any(|skip| defined(rest, &text[skip..])),
                    Some((wanted, rest)) => text.split_first().is_some_and(|(found, after)| {
                        (*wanted == b'?' || wanted == found) && defined(rest, after)
                    }),
                }
            }
            prop_assert_eq!(
                Glob::new(&*pattern).matches(&text),
                defined(pattern.as_bytes(), text.as_bytes())
            );
        }
    }
}
