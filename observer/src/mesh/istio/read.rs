//! Reading what an object says: leniently, and naming the field where something is wrong.

use std::{borrow::Cow, fmt, time::Duration};

use regex::bytes::{Regex, RegexBuilder};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error, Visitor},
};

use crate::mesh::policy::Misunderstood;

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

/// Reads `spec` of an object's content.
pub(super) fn spec<S: DeserializeOwned + Default>(content: &str) -> Result<S, Misunderstood> {
    match serde_json::from_str::<Content<S>>(content) {
        Ok(content) => Ok(content.spec),
        // Some clients write `null` for what is not set.
        Err(error) => match without_nulls(content) {
            Some(content) => Ok(content.spec),
            None => Err(located(content, &error)),
        },
    }
}

fn without_nulls<S: DeserializeOwned + Default>(content: &str) -> Option<Content<S>> {
    let mut value: serde_json::Value = serde_json::from_str(content).ok()?;
    strip_nulls(&mut value);
    serde_json::from_value(value).ok()
}

/// The parser has a limit of depth, and so has this.
fn strip_nulls(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(strip_nulls);
        }
        serde_json::Value::Array(items) => {
            items.retain(|item| !item.is_null());
            items.iter_mut().for_each(strip_nulls);
        }
        _ => {}
    }
}

/// The field, and what is wrong with it.
fn located(content: &str, error: &serde_json::Error) -> Misunderstood {
    let text = error.to_string();
    let problem = match text.rfind(" at line ") {
        Some(at) => text.get(..at).unwrap_or(&text),
        None => &text,
    };
    let line = error.line().saturating_sub(1);
    let before: usize = content.split_inclusive('\n').take(line).map(str::len).sum();
    let path = path_at(content, before + error.column().saturating_sub(1));
    if path.is_empty() {
        return problem.to_owned();
    }
    format!("{path}: {problem}")
}

/// Path of the value that begins last before an offset: `spec.http[0].timeout`.
fn path_at(content: &str, end: usize) -> String {
    enum Place<'a> {
        Field(&'a str),
        Index(usize),
    }
    let bytes = content.as_bytes();
    let mut stack: Vec<Place<'_>> = Vec::new();
    let mut key_follows = false;
    let mut at = 0;
    while at < end
        && let Some(byte) = bytes.get(at)
    {
        at += 1;
        match byte {
            b'{' => {
                stack.push(Place::Field(""));
                key_follows = true;
            }
            b'[' => {
                stack.push(Place::Index(0));
                key_follows = false;
            }
            b'}' | b']' => {
                stack.pop();
                key_follows = false;
            }
            b',' => match stack.last_mut() {
                Some(Place::Index(index)) => *index += 1,
                Some(Place::Field(_)) => key_follows = true,
                None => {}
            },
            b'"' => {
                let start = at;
                while let Some(byte) = bytes.get(at)
                    && *byte != b'"'
                {
                    at += if *byte == b'\\' { 2 } else { 1 };
                }
                let text = content.get(start..at).unwrap_or_default();
                at += 1;
                if key_follows && let Some(place) = stack.last_mut() {
                    *place = Place::Field(text);
                    key_follows = false;
                }
            }
            _ => {}
        }
    }
    let mut path = String::new();
    for place in stack {
        match place {
            Place::Field("") => {}
            Place::Field(name) if path.is_empty() => path.push_str(name),
            Place::Field(name) => path.push_str(&format!(".{name}")),
            Place::Index(index) => path.push_str(&format!("[{index}]")),
        }
    }
    path
}

/// `None` when it is no duration.
pub(super) fn duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut seconds = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|it: char| !it.is_ascii_digit() && it != '.')?;
        let (number, after) = rest.split_at(digits);
        let units = after
            .find(|it: char| it.is_ascii_digit() || it == '.')
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(units);
        let scale = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * scale;
        rest = after;
    }
    // Rounded, as fractions of seconds have no exact double.
    let nanoseconds = (seconds * 1e9).round();
    (0.0..9e18)
        .contains(&nanoseconds)
        .then_some(Duration::from_nanos(nanoseconds as u64))
}

/// Reads a duration that may not be set.
pub(super) fn optional_time<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    Ok(Option::<Time>::deserialize(deserializer)?.map(|time| time.0))
}

/// A pattern that must match the whole of a text, in the dialect of RE2.
fn pattern(text: &str) -> Result<Regex, String> {
    let whole = format!(r"\A(?:{text})\z");
    // Classes of RE2 such as \d are of ASCII, unless a class of Unicode is asked for.
    let build = |unicode| {
        RegexBuilder::new(&whole)
            .unicode(unicode)
            .size_limit(PATTERN_SIZE)
            .dfa_size_limit(PATTERN_SIZE)
            .build()
    };
    build(false)
        .or_else(|_| build(true))
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
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Debug, Default, Deserialize)]
    #[serde(default)]
    struct Spec {
        http: Vec<Http>,
        ports: BTreeMap<u16, bool>,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(default)]
    struct Http {
        timeout: Option<Time>,
        hosts: Vec<String>,
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (content, problem) in [
            (
                r#"{"spec":{"http":[{},{"timeout":5}]}}"#,
                "spec.http[1].timeout: invalid type: integer `5`, expected a duration such as 1.5s",
            ),
            (
                r#"{"spec":{"http":[{"timeout":"5 seconds"}]}}"#,
                "spec.http[0].timeout: invalid value: string \"5 seconds\", expected a duration such as 1.5s",
            ),
            (
                r#"{"spec":{"http":{}}}"#,
                "spec.http: invalid type: map, expected a sequence",
            ),
            (
                r#"{"spec":{"http":[{"hosts":["a,\"}",3]}]}}"#,
                "spec.http[0].hosts[1]: invalid type: integer `3`, expected a string",
            ),
            (r#"{"spec":{"ports":{"http":true}}}"#, "spec.ports.http: "),
            (
                r#"{"spec":7}"#,
                "spec: invalid type: integer `7`, expected struct Spec",
            ),
            (
                "{\n \"spec\": {\n  \"http\": 1\n }\n}",
                "spec.http: invalid type: integer `1`, expected a sequence",
            ),
            ("", "EOF while parsing a value"),
        ] {
            let error = spec::<Spec>(content).unwrap_err();
            assert!(error.starts_with(problem), "{content}: {error}");
        }
    }

    #[test]
    fn what_is_not_set_may_be_null() {
        let read: Spec = spec(r#"{"spec":{"http":[{"timeout":"1s","hosts":null}],"ports":null}}"#)
            .expect("lenient");
        assert_eq!(
            read.http.first().and_then(|http| http.timeout),
            Some(Time(Duration::from_secs(1)))
        );
        assert!(spec::<Spec>(r#"{"status":{}}"#).is_ok());
    }

    #[test]
    fn durations_are_those_of_the_api() {
        for (text, expected) in [
            ("0s", Some(Duration::ZERO)),
            ("0", Some(Duration::ZERO)),
            ("1.5s", Some(Duration::from_millis(1500))),
            ("0.1s", Some(Duration::from_millis(100))),
            ("1h2m3s", Some(Duration::from_secs(3723))),
            ("250ms", Some(Duration::from_millis(250))),
            ("10us", Some(Duration::from_micros(10))),
            ("", None),
            ("s", None),
            ("5", None),
            ("5d", None),
            ("-1s", None),
            ("1.2.3s", None),
            ("9999999999999h", None),
        ] {
            assert_eq!(duration(text), expected, "{text}");
        }
    }

    fn text(json: &str) -> (Text, Option<String>) {
        let written: TextSpec = serde_json::from_str(json).expect("JSON");
        let mut problem = None;
        let text = written.ready(|| "here".to_owned(), &mut problem);
        (text, problem)
    }

    #[test]
    fn patterns_match_the_whole_text() {
        for (json, value, ignore_case, expected) in [
            (r#"{"regex":"/v[12]/.*"}"#, "/v1/cart", false, true),
            (r#"{"regex":"/v[12]"}"#, "/v1/cart", false, false),
            (r#"{"regex":"a|ab"}"#, "ab", false, true),
            (r#"{"regex":"(?i)/CART"}"#, "/cart", false, true),
            (r#"{"regex":"\\d+"}"#, "12", false, true),
            (r#"{"regex":"\\d+"}"#, "٣", false, false),
            (r#"{"regex":"\\pL+"}"#, "é", false, true),
            (r#"{"exact":"/Cart"}"#, "/cart", true, true),
            (r#"{"exact":"/Cart"}"#, "/cart", false, false),
            (r#"{"prefix":"/ca"}"#, "/cart", false, true),
            (r#"{"prefix":"/CA"}"#, "/cart", true, true),
            (r#"{"prefix":"/é"}"#, "/e", true, false),
            (r#"{}"#, "anything", false, true),
        ] {
            let (text, problem) = text(json);
            assert_eq!(problem, None, "{json}");
            assert_eq!(text.matches(value, ignore_case), Some(expected), "{json}");
        }
        let (unreadable, problem) = text(r#"{"regex":"a("}"#);
        assert_eq!(unreadable.matches("a", false), None);
        assert_eq!(
            problem.as_deref(),
            Some("here.regex: error: unclosed group")
        );
        let (_, problem) = text(r#"{"regex":"((a{1,500}){1,500}){1,500}"}"#);
        assert_eq!(
            problem.as_deref(),
            Some("here.regex: the pattern is too large")
        );
    }
}
