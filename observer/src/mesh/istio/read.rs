//! What the objects have in common that is read: their `spec`, durations, and texts to compare with.

use std::{borrow::Cow, fmt, time::Duration};

use regex::bytes::{Regex, RegexBuilder};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error, Visitor},
};

use crate::{
    mesh::{duration::duration, policy::Misunderstood, read::read},
    model::policy::PolicyObject,
};

/// Most bytes that the program of one pattern may take, so that no object can fill the memory.
const PATTERN_SIZE: usize = 256 * 1024;

/// What an object says, below `spec`.
#[derive(Deserialize)]
#[serde(bound = "S: DeserializeOwned + Default")]
struct Content<S> {
    #[serde(default)]
    spec: S,
}

/// A duration as the API writes it: `1.5s`, `1h30m`, `100ms`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Time(pub(super) Duration);

/// One of three ways to compare a text, as the API writes it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct TextSpec {
    exact: Option<Box<str>>,
    prefix: Option<Box<str>>,
    regex: Option<Box<str>>,
}

/// One of three ways to compare a text.
#[derive(Clone, Debug)]
pub(super) enum Text {
    /// It is there.
    Present,
    /// It is this.
    Exact(Box<str>),
    /// It begins so.
    Prefix(Box<str>),
    /// All of it matches.
    Pattern(Box<Regex>),
    /// A pattern that could not be read.
    Unreadable,
}

/// Reads `spec` of an object.
pub(super) fn spec<S: DeserializeOwned + Default>(
    object: &PolicyObject,
) -> Result<S, Misunderstood> {
    read::<Content<S>>(object).map(|content| content.spec)
}

/// Reads a duration that may not be set.
pub(super) fn optional_time<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    Ok(Option::<Time>::deserialize(deserializer)?.map(|time| time.0))
}

/// A pattern that must match the whole of a text, as RE2 reads it: classes such as `\d` are of ASCII,
/// other than in the patterns of Rust, unless a class of Unicode is asked for.
fn pattern(text: &str) -> Result<Regex, String> {
    let build = |text: &str, unicode| {
        RegexBuilder::new(text)
            .unicode(unicode)
            .size_limit(PATTERN_SIZE)
            .dfa_size_limit(PATTERN_SIZE)
            .build()
    };
    let whole = |unicode| {
        if text.contains(')') {
            // Alone too, so that the text cannot close the group.
            build(text, unicode)?;
        }
        build(&format!(r"\A(?:{text})\z"), unicode)
    };
    whole(false)
        .or_else(|_| whole(true))
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => "the pattern is too large".to_owned(),
            error => {
                // The last line says what is wrong; those before draw the pattern.
                let text = error.to_string();
                text.lines().last().unwrap_or_default().trim().to_owned()
            }
        })
}

// === impl Time ===

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Written;
        impl Visitor<'_> for Written {
            type Value = Time;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a duration such as 1.5s")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Time, E> {
                duration(text)
                    .map(Time)
                    .ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_str(Written)
    }
}

// === impl TextSpec ===

impl TextSpec {
    /// Ready to compare; `problems` gets what is wrong at `path`.
    pub(super) fn ready(
        self,
        path: impl FnOnce() -> String,
        problems: &mut Option<Misunderstood>,
    ) -> Text {
        if let Some(exact) = self.exact {
            return Text::Exact(exact);
        }
        if let Some(prefix) = self.prefix {
            return Text::Prefix(prefix);
        }
        let Some(regex) = self.regex else {
            return Text::Present;
        };
        match pattern(&regex) {
            Ok(pattern) => Text::Pattern(Box::new(pattern)),
            Err(problem) => {
                problems.get_or_insert_with(|| format!("{}.regex: {problem}", path()));
                Text::Unreadable
            }
        }
    }
}

// === impl Text ===

impl Text {
    /// `None` when it cannot be told.
    pub(super) fn matches(&self, text: &str, ignore_case: bool) -> Option<bool> {
        Some(match self {
            Self::Present => true,
            Self::Exact(exact) if ignore_case => exact.eq_ignore_ascii_case(text),
            Self::Exact(exact) => **exact == *text,
            Self::Prefix(prefix) => text.get(..prefix.len()).is_some_and(|start| {
                if ignore_case {
                    start.eq_ignore_ascii_case(prefix)
                } else {
                    *start == **prefix
                }
            }),
            Self::Pattern(pattern) => pattern.is_match(text.as_bytes()),
            Self::Unreadable => return None,
        })
    }

    /// In words: `/api/*`.
    pub(super) fn describe(&self) -> Cow<'_, str> {
        match self {
            Self::Present => "*".into(),
            Self::Exact(exact) => (&**exact).into(),
            Self::Prefix(prefix) => format!("{prefix}*").into(),
            Self::Pattern(pattern) => {
                let text = pattern.as_str();
                let inner = text
                    .strip_prefix(r"\A(?:")
                    .and_then(|rest| rest.strip_suffix(r")\z"));
                format!("~{}", inner.unwrap_or(text)).into()
            }
            Self::Unreadable => "an unreadable pattern".into(),
        }
    }
}

#[cfg(test)]
mod tests;
