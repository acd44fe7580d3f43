//! Reads what an object says into the structs of who knows its kind.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::policy::Misunderstood;
use crate::model::policy::PolicyObject;

/// What an object says. Fields that nobody asks for are passed over, and `null` is as good as left
/// out; a field of a wrong type is named, with what is wrong: `spec.rules[0].name: invalid type`.
pub(super) fn read<T: DeserializeOwned>(object: &PolicyObject) -> Result<T, Misunderstood> {
    let content: Value = serde_json::from_str(&object.content)
        .map_err(|error| format!("the content is no JSON: {error}"))?;
    if !content.is_object() {
        return Err("the content is no JSON object".to_owned());
    }
    serde_path_to_error::deserialize(without_nulls(content)).map_err(|error| {
        let path = error.path().to_string();
        format!("{path}: {}", error.into_inner())
    })
}

/// JSON is at most 128 deep, which the parser sees to.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(
            fields
                .into_iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(name, value)| (name, without_nulls(value)))
                .collect(),
        ),
        Value::Array(values) => Value::Array(
            values
                .into_iter()
                .filter(|value| !value.is_null())
                .map(without_nulls)
                .collect(),
        ),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::model::policy::PolicyKind;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default)]
    struct Content {
        spec: Spec,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default)]
    struct Spec {
        names: Vec<String>,
        port: u16,
    }

    fn told(content: &str) -> Result<Content, Misunderstood> {
        read(&PolicyObject {
            kind: PolicyKind::HttpRoute,
            uid: "1".into(),
            namespace: "shop".into(),
            name: "web".into(),
            version: "7".into(),
            created: 0,
            labels: Box::default(),
            annotations: Box::default(),
            content: content.into(),
        })
    }

    #[test]
    fn unknown_fields_and_nulls_are_passed_over() {
        let expected = Content {
            spec: Spec {
                names: vec!["a".to_owned()],
                port: 0,
            },
        };
        let content = r#"{"spec": {"names": ["a", null], "port": null, "more": [1]}, "status": 3}"#;
        assert_eq!(told(content), Ok(expected));
        assert_eq!(told("{}"), Ok(Content::default()));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (content, start) in [
            (
                r#"{"spec": {"names": "a"}}"#,
                "spec.names: invalid type: string",
            ),
            (
                r#"{"spec": {"names": ["a", 2]}}"#,
                "spec.names[1]: invalid type",
            ),
            (r#"{"spec": {"port": 70000}}"#, "spec.port: invalid value"),
            (r#"{"spec": 1}"#, "spec: invalid type: integer"),
            ("[]", "the content is no JSON object"),
            ("{", "the content is no JSON: "),
        ] {
            let problem = told(content).expect_err(content);
            assert!(problem.starts_with(start), "{content}: {problem}");
        }
    }
}
