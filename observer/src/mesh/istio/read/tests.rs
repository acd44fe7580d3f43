//! What can be read, in cases.

use std::collections::BTreeMap;

use serde_json::Value;

use super::*;
use crate::model::policy::PolicyKind;

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
}

fn object(content: &str) -> PolicyObject {
    PolicyObject {
        content: content.into(),
        ..crate::mesh::istio::tests::object(PolicyKind::Sidecar, "shop/o", 1, Value::Null)
    }
}

#[test]
fn what_is_wrong_is_named() {
    let told = |content: &str| spec::<Spec>(&object(content));
    let timeout = told(r#"{"spec":{"http":[{"timeout":"1s","hosts":null}]}}"#);
    let timeout = timeout.map(|spec| spec.http.first().and_then(|http| http.timeout));
    assert_eq!(timeout, Ok(Some(Time(Duration::from_secs(1)))));
    assert!(told(r#"{"status":{}}"#).is_ok());
    for (content, problem) in [
        (
            r#"{"spec":{"http":[{},{"timeout":5}]}}"#,
            "spec.http[1].timeout: invalid type: integer `5`, expected a duration such as 1.5s",
        ),
        (
            r#"{"spec":{"http":[{"timeout":"5 seconds"}]}}"#,
            "spec.http[0].timeout: invalid value: string \"5 seconds\", expected a duration such as \
             1.5s",
        ),
        (
            r#"{"spec":{"ports":{"http":true}}}"#,
            "spec.ports.?: invalid value: expected key to be a number in quotes",
        ),
    ] {
        assert_eq!(told(content).map(|_| ()), Err(problem.to_owned()));
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
    let (_, problem) = text(r#"{"regex":"a)(?:b"}"#);
    assert_eq!(
        problem.as_deref(),
        Some("here.regex: error: unopened group")
    );
    let (_, problem) = text(r#"{"regex":"((a{1,500}){1,500}){1,500}"}"#);
    assert_eq!(
        problem.as_deref(),
        Some("here.regex: the pattern is too large")
    );
}
