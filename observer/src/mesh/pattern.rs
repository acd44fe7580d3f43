//! Patterns of routes, in the syntax of RE2.

use regex::{Regex, RegexBuilder};

use super::policy::Misunderstood;

/// Most memory of one, bytes.
const LARGEST: usize = 1 << 20;

/// Reads a pattern that a whole text is to match.
pub(super) fn pattern(text: &str) -> Result<Regex, Misunderstood> {
    // Alone, so that the text cannot close the group.
    let build = |text: &str| {
        RegexBuilder::new(text)
            .size_limit(LARGEST)
            .dfa_size_limit(LARGEST)
            .build()
            .map_err(|error| format!("`{text}` is no pattern that is understood: {error}"))
    };
    build(text)?;
    build(&format!("^(?:{text})$"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_texts() {
        let known = pattern("/a|/b.*").expect("a pattern");
        for (text, expected) in [("/a", true), ("/bc", true), ("/ac", false), ("x/b", false)] {
            assert_eq!(known.is_match(text), expected, "{text}");
        }
        for text in ["(", "a)(?:b", "(?=a)", "a{1000}{1000}"] {
            assert!(pattern(text).is_err(), "{text}");
        }
    }
}
