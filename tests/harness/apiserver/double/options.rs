//! Parameters of lists and watches, checked as the real server checks them.

use serde_json::json;

use crate::apiserver::{
    Request,
    refusal::{Cause, Refusal},
    resource::Resource,
    selector::Selector,
};

/// What a list or a watch asks for.
#[derive(Clone, Debug)]
pub(super) struct Options {
    pub(super) selector: Selector,
    /// `None` when it says nothing.
    pub(super) version: Option<u64>,
    pub(super) exact: bool,
    pub(super) limit: usize,
    pub(super) after: String,
    pub(super) bookmarks: bool,
    pub(super) initial_events: Option<bool>,
    pub(super) timeout: Option<u64>,
}

// === impl Options ===

impl Options {
    /// Reads and checks those of `request`.
    pub(super) fn parse(request: &Request, resource: &Resource) -> Result<Self, Refusal> {
        let text = |key: &str| request.query.get(key).map_or("", |value| value);
        let number = |key: &str| match text(key) {
            "" => Ok(None),
            digits => digits.parse::<i64>().map(Some).map_err(|_| {
                Refusal::bad_request(&format!(
                    "strconv.ParseInt: parsing {digits:?}: invalid syntax"
                ))
            }),
        };
        let flag = |key: &str| {
            let value = request.query.get(key);
            value.map(|value| !["false", "0"].contains(&&**value))
        };
        let (limit, timeout) = (number("limit")?, number("timeoutSeconds")?);
        let selector = Selector::parse(resource, text("labelSelector"), text("fieldSelector"))?;
        let initial_events = flag("sendInitialEvents");
        let watch = request.verb == "watch";
        let causes = faults(
            watch,
            text("resourceVersionMatch"),
            text("resourceVersion"),
            initial_events,
        );
        if !causes.is_empty() {
            let kind = ("ListOptions", "meta.k8s.io");
            return Err(Refusal::invalid(kind, "", &causes));
        }
        let after = text("continue").to_owned();
        if !after.is_empty() && !["", "0"].contains(&text("resourceVersion")) {
            let message = "specifying resource version is not allowed when using continue";
            return Err(Refusal::bad_request(message));
        }
        Ok(Self {
            selector,
            version: version(text("resourceVersion"), watch)?,
            exact: text("resourceVersionMatch") == "Exact",
            // What is negative is no limit either.
            limit: limit
                .and_then(|limit| usize::try_from(limit).ok())
                .unwrap_or(0),
            after,
            bookmarks: flag("allowWatchBookmarks").unwrap_or_default(),
            initial_events,
            timeout: timeout.and_then(|seconds| u64::try_from(seconds).ok()),
        })
    }
}

/// Reads a version; lists and everything else refuse a bad one differently.
pub(super) fn version(text: &str, plainly: bool) -> Result<Option<u64>, Refusal> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| {
        let told = format!(
            "resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: \
             invalid syntax"
        );
        if plainly {
            Refusal::unknown(&told)
        } else {
            Refusal::bad_request(&format!("invalid resource version: {told}"))
        }
    })
}

/// The rules of `ValidateListOptions` of k8s.io/apimachinery.
fn faults(watch: bool, rule: &str, version: &str, initial_events: Option<bool>) -> Vec<Cause> {
    let field = "resourceVersionMatch";
    let mut causes = Vec::new();
    if watch {
        if initial_events.is_some() {
            if rule != "NotOlderThan" {
                causes.push(Cause::forbidden(
                    field,
                    "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
                ));
            }
        } else if !rule.is_empty() {
            causes.push(Cause::forbidden(
                field,
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            ));
        }
        return causes;
    }
    if !rule.is_empty() {
        if version.is_empty() {
            causes.push(Cause::forbidden(
                field,
                "resourceVersionMatch is forbidden unless resourceVersion is provided",
            ));
        }
        if !["Exact", "NotOlderThan"].contains(&rule) {
            let known = ["Exact", "NotOlderThan", ""];
            causes.push(Cause::unsupported(field, &json!(rule), &known));
        }
        if rule == "Exact" && version == "0" {
            causes.push(Cause::forbidden(
                field,
                "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
            ));
        }
    }
    if initial_events.is_some() {
        causes.push(Cause::forbidden(
            "sendInitialEvents",
            "sendInitialEvents is forbidden for list",
        ));
    }
    causes
}
