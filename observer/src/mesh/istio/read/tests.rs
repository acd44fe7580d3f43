//! What can be read, and what is said of the rest.

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
        (
            r#"{"spec":{"ports":{"http":true}}}"#,
            "spec.ports: invalid value: expected key to be a number in quotes",
        ),
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
    let read: Spec =
        spec(r#"{"spec":{"http":[{"timeout":"1s","hosts":null}],"ports":null}}"#).expect("lenient");
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
