//! Errors as the API server tells them: `Status` objects.

use serde_json::{Map, Value, json};

use super::resource::Resource;

/// An error of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status code.
    pub code: u16,
    /// The `Status`.
    pub body: Value,
}

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    reason: &'static str,
    message: String,
    field: String,
}

// === impl Refusal ===

impl Refusal {
    fn new(code: u16, reason: &str, message: &str, details: Option<Value>) -> Self {
        let mut body = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": message, "code": code,
        });
        if !reason.is_empty() {
            body["reason"] = json!(reason);
        }
        if let Some(details) = details {
            body["details"] = details;
        }
        Self { code, body }
    }

    /// 401: the token is not known, or not any more.
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized", None)
    }

    /// 403: `user` must not do this.
    pub fn forbidden(
        user: &str,
        verb: &str,
        resource: &Resource,
        (namespace, name, subresource): (&str, &str, &str),
    ) -> Self {
        let scope = if namespace.is_empty() {
            "at the cluster scope".to_owned()
        } else {
            format!("in the namespace {namespace:?}")
        };
        let qualified = resource.qualified();
        let named = if name.is_empty() {
            qualified
        } else {
            format!("{qualified} {name:?}")
        };
        let asked = if subresource.is_empty() {
            resource.plural.to_owned()
        } else {
            format!("{}/{subresource}", resource.plural)
        };
        Self::new(
            403,
            "Forbidden",
            &format!(
                "{named} is forbidden: User {user:?} cannot {verb} resource {asked:?} in API \
                 group {:?} {scope}",
                resource.group
            ),
            Some(details(resource.plural, resource.group, name)),
        )
    }

    /// 404: there is no such object.
    pub fn not_found(resource: &Resource, name: &str) -> Self {
        Self::new(
            404,
            "NotFound",
            &format!("{} {name:?} not found", resource.qualified()),
            Some(details(resource.plural, resource.group, name)),
        )
    }

    /// 404: there is no such resource.
    pub fn no_resource() -> Self {
        let message = "the server could not find the requested resource";
        Self::new(404, "NotFound", message, Some(json!({})))
    }

    /// 405: the resource has no such verb.
    pub fn not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self::new(405, "MethodNotAllowed", message, Some(json!({})))
    }

    /// 406: nothing that the client accepts.
    pub fn not_acceptable() -> Self {
        let message = "406: Not Acceptable\n\nAvailable representations: application/json, \
                       application/yaml, application/vnd.kubernetes.protobuf, \
                       application/json;stream=watch, \
                       application/vnd.kubernetes.protobuf;stream=watch";
        Self::new(406, "NotAcceptable", message, Some(json!({})))
    }

    /// 409: there is one of that name.
    pub fn exists(resource: &Resource, name: &str) -> Self {
        Self::new(
            409,
            "AlreadyExists",
            &format!("{} {name:?} already exists", resource.qualified()),
            Some(details(resource.plural, resource.group, name)),
        )
    }

    /// 409: somebody else has written it since it was read.
    pub fn conflict(resource: &Resource, name: &str) -> Self {
        Self::new(
            409,
            "Conflict",
            &format!(
                "Operation cannot be fulfilled on {} {name:?}: the object has been modified; \
                 please apply your changes to the latest version and try again",
                resource.qualified()
            ),
            Some(details(resource.plural, resource.group, name)),
        )
    }

    /// 400: the request makes no sense.
    pub fn bad_request(message: &str) -> Self {
        Self::new(400, "BadRequest", message, None)
    }

    /// 500 without a reason, for what the server has no better answer to.
    pub fn unknown(message: &str) -> Self {
        Self::new(500, "", message, None)
    }

    /// 422: an object, or options, with these faults.
    pub fn invalid((kind, group): (&str, &str), name: &str, causes: &[Cause]) -> Self {
        let told: Vec<String> = causes
            .iter()
            .map(|cause| format!("{}: {}", cause.field, cause.message))
            .collect();
        let told = match &*told {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let qualified = if group.is_empty() {
            kind.to_owned()
        } else {
            format!("{kind}.{group}")
        };
        let mut details = details(kind, group, name);
        details["causes"] = causes
            .iter()
            .map(|cause| {
                json!({
                    "reason": cause.reason, "message": cause.message, "field": cause.field,
                })
            })
            .collect();
        Self::new(
            422,
            "Invalid",
            &format!("{qualified} {name:?} is invalid: {told}"),
            Some(details),
        )
    }

    /// 410 of a list.
    pub fn list_too_old() -> Self {
        let message = "The resourceVersion for the provided list is too old.";
        Self::new(410, "Expired", message, None)
    }

    /// 410 of a list's next page, with the token to go on with inconsistently.
    pub fn continue_too_old(token: &str) -> Self {
        let message = "The provided continue parameter is too old to display a consistent list \
                       result. You can start a new list without the continue parameter, or use \
                       the continue token in this response to retrieve the remainder of the \
                       results. Continuing with the provided token results in an inconsistent \
                       list - objects that were created, modified, or deleted between the time \
                       the first chunk was returned and now may show up in the list.";
        let mut refusal = Self::new(410, "Expired", message, None);
        refusal.body["metadata"]["continue"] = json!(token);
        refusal
    }

    /// 410 of a watch.
    pub fn watch_too_old(asked: u64, oldest: u64) -> Self {
        let message = format!("too old resource version: {asked} ({oldest})");
        Self::new(410, "Expired", &message, None)
    }

    /// 504: the server is not there yet.
    pub fn too_large(asked: u64, current: u64) -> Self {
        let message = format!("Timeout: Too large resource version: {asked}, current: {current}");
        let details = json!({
            "causes": [{
                "reason": "ResourceVersionTooLarge",
                "message": "Too large resource version",
            }],
            "retryAfterSeconds": 1,
        });
        Self::new(504, "Timeout", &message, Some(details))
    }

    /// 429, 500 or 503, for how busy the server is.
    pub fn busy(code: u16) -> Self {
        let (reason, message) = match code {
            429 => (
                "TooManyRequests",
                "the server has received too many requests and has asked us to try again later",
            ),
            503 => (
                "ServiceUnavailable",
                "the server is currently unable to handle the request",
            ),
            _ => (
                "InternalError",
                "Internal error occurred: etcdserver: leader changed",
            ),
        };
        Self::new(code, reason, message, Some(json!({})))
    }
}

fn details(kind: &str, group: &str, name: &str) -> Value {
    let mut details = Map::new();
    for (key, value) in [("name", name), ("group", group), ("kind", kind)] {
        if !value.is_empty() {
            details.insert(key.to_owned(), json!(value));
        }
    }
    Value::Object(details)
}

// === impl Cause ===

impl Cause {
    fn new(reason: &'static str, field: &str, message: String) -> Self {
        Self {
            reason,
            message,
            field: field.to_owned(),
        }
    }

    /// The field has to be there; `why` may be empty.
    pub fn required(field: &str, why: &str) -> Self {
        let message = if why.is_empty() {
            "Required value".to_owned()
        } else {
            format!("Required value: {why}")
        };
        Self::new("FieldValueRequired", field, message)
    }

    /// The field must not be `value`.
    pub fn invalid(field: &str, value: &Value, why: &str) -> Self {
        Self::new(
            "FieldValueInvalid",
            field,
            format!("Invalid value: {value}: {why}"),
        )
    }

    /// Another one has `value` already.
    pub fn duplicate(field: &str, value: &Value) -> Self {
        Self::new(
            "FieldValueDuplicate",
            field,
            format!("Duplicate value: {value}"),
        )
    }

    /// The field must not be there.
    pub fn forbidden(field: &str, why: &str) -> Self {
        Self::new("FieldValueForbidden", field, format!("Forbidden: {why}"))
    }

    /// The field has to be one of `known`.
    pub fn unsupported(field: &str, value: &Value, known: &[&str]) -> Self {
        let known: Vec<String> = known.iter().map(|known| format!("{known:?}")).collect();
        Self::new(
            "FieldValueNotSupported",
            field,
            format!(
                "Unsupported value: {value}: supported values: {}",
                known.join(", ")
            ),
        )
    }
}
