//! Label and field selectors of a request.

use serde_json::Value;

use super::{refusal::Refusal, resource::Resource};

/// What of a resource's objects a request is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<Field>,
}

/// One requirement on labels.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Missing(String),
}

/// One requirement on a field.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Field {
    path: String,
    value: String,
    equal: bool,
}

/// Fields of pods that can be selected by, beside those of all objects.
const POD_FIELDS: &[&str] = &[
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "spec.hostNetwork",
    "status.phase",
    "status.podIP",
    "status.nominatedNodeName",
];

/// Fields that are true or false.
const FLAGS: &[&str] = &["spec.hostNetwork", "spec.unschedulable"];

// === impl Selector ===

impl Selector {
    /// Reads `labelSelector` and `fieldSelector` of a request for `resource`.
    pub fn parse(resource: &Resource, labels: &str, fields: &str) -> Result<Self, Refusal> {
        let mut selector = Self::default();
        for text in split(labels) {
            selector.labels.push(requirement(text)?);
        }
        for text in split(fields) {
            selector.fields.push(field(resource, text)?);
        }
        Ok(selector)
    }

    /// Whether `object` is one of those.
    pub fn selects(&self, object: &Value) -> bool {
        self.labels.iter().all(|one| one.fits(object))
            && self.fields.iter().all(|one| one.fits(object))
    }
}

/// Splits at commas outside of parentheses.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0_usize, 0);
    for (at, character) in text.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    parts.retain(|part| !part.is_empty());
    parts
}

fn requirement(text: &str) -> Result<Requirement, Refusal> {
    let unreadable = |found: &str, expected: &str| {
        Refusal::bad_request(&format!(
            "unable to parse requirement: found '{found}', expected: {expected}"
        ))
    };
    if let Some(key) = text.strip_prefix('!') {
        return Ok(Requirement::Missing(key.trim().to_owned()));
    }
    if let Some(list) = text.strip_suffix(')') {
        let (head, list) = list
            .split_once('(')
            .ok_or_else(|| unreadable(")", "identifier"))?;
        let values = list
            .split(',')
            .map(|value| value.trim().to_owned())
            .collect();
        return match *head.split_whitespace().collect::<Vec<_>>() {
            [key, "in"] => Ok(Requirement::In(key.to_owned(), values)),
            [key, "notin"] => Ok(Requirement::NotIn(key.to_owned(), values)),
            _ => Err(unreadable(head, "in, notin, =, ==, !=, gt, lt")),
        };
    }
    let Some(at) = text.find(['=', '!']) else {
        return match text.split_whitespace().nth(1) {
            Some(more) => Err(unreadable(more, "in, notin, =, ==, !=, gt, lt")),
            None => Ok(Requirement::Exists(text.to_owned())),
        };
    };
    let (key, rest) = (text[..at].trim().to_owned(), &text[at..]);
    let (equal, value) = if let Some(value) = rest.strip_prefix("!=") {
        (false, value)
    } else if let Some(value) = rest.strip_prefix("==").or_else(|| rest.strip_prefix('=')) {
        (true, value)
    } else {
        return Err(unreadable("!", "in, notin, =, ==, !=, gt, lt"));
    };
    if value.starts_with('=') {
        return Err(unreadable("=", "identifier"));
    }
    let values = vec![value.trim().to_owned()];
    Ok(if equal {
        Requirement::In(key, values)
    } else {
        Requirement::NotIn(key, values)
    })
}

fn field(resource: &Resource, text: &str) -> Result<Field, Refusal> {
    let (path, value, equal) = if let Some((path, value)) = text.split_once("!=") {
        (path, value, false)
    } else if let Some((path, value)) = text.split_once("==") {
        (path, value, true)
    } else if let Some((path, value)) = text.split_once('=') {
        (path, value, true)
    } else {
        return Err(Refusal::bad_request(&format!(
            "invalid selector: '{text}'; can't understand '{text}'"
        )));
    };
    let known = path == "metadata.name"
        || (path == "metadata.namespace" && resource.namespaced)
        || (resource.kind == "Pod" && POD_FIELDS.contains(&path))
        || (resource.kind == "Node" && path == "spec.unschedulable")
        || (resource.kind == "Namespace" && path == "status.phase");
    if !known {
        let message = format!("field label not supported: {path}");
        return Err(Refusal::bad_request(&message));
    }
    Ok(Field {
        path: path.to_owned(),
        value: value.to_owned(),
        equal,
    })
}

// === impl Requirement ===

impl Requirement {
    fn fits(&self, object: &Value) -> bool {
        let label = |key: &str| object["metadata"]["labels"][key].as_str();
        match self {
            Self::In(key, values) => {
                label(key).is_some_and(|found| values.iter().any(|value| value == found))
            }
            Self::NotIn(key, values) => {
                !label(key).is_some_and(|found| values.iter().any(|value| value == found))
            }
            Self::Exists(key) => label(key).is_some(),
            Self::Missing(key) => label(key).is_none(),
        }
    }
}

// === impl Field ===

impl Field {
    fn fits(&self, object: &Value) -> bool {
        let found = self.path.split('.').fold(object, |value, key| &value[key]);
        let same = match found {
            Value::String(text) => *text == self.value,
            Value::Bool(flag) => flag.to_string() == self.value,
            // A flag that nobody has set is off.
            Value::Null if FLAGS.contains(&&*self.path) => self.value == "false",
            Value::Null => self.value.is_empty(),
            _ => false,
        };
        same == self.equal
    }
}
