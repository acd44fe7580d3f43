//! Answers of the double.

use std::sync::Arc;

use axum::{
    body::{Body, to_bytes},
    http::Response,
};
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{
    Shared, locked,
    options::{self, Options},
    watch::Watch,
};
use crate::apiserver::{
    Request,
    accounts::{User, allow, authorize},
    definitions,
    faults::{Act, Outlet},
    refusal::{Cause, Refusal},
    resource::{self, Resource, Target},
};

/// In which form a client wants objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// As they are.
    Whole,
    /// `PartialObjectMetadata`.
    Metadata,
    /// `Table`, for people.
    Table,
}

/// What is sent, before anything is done to it.
enum Content {
    Json(u16, Value),
    Text(u16, &'static str),
    Watch(Watch),
}

/// Largest body that is read.
const LARGEST: usize = 4 << 20;

/// Answers one request.
pub(super) async fn answer(
    shared: Arc<Shared>,
    request: hyper::Request<Incoming>,
) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let header = |name: &str| {
        parts
            .headers
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    let user = locked(&shared.accounts).user(header("authorization"));
    let name = user.as_ref().map_or("", |user| &user.name);
    let agent = header("user-agent").unwrap_or_default();
    let counted = Request::parse(parts.method.as_str(), &parts.uri.to_string(), name, agent);
    let mut act = None;
    if name != "admin" {
        locked(&shared.requests).push(counted.clone());
        act = locked(&shared.faults)
            .iter_mut()
            .find_map(|fault| fault.apply(&counted));
    }
    match &act {
        Some(Act::Silence) => std::future::pending().await,
        Some(Act::Busy(code, after)) => return busy(*code, *after),
        _ => {}
    }
    let body = to_bytes(Body::new(body), LARGEST).await.unwrap_or_default();
    let content = user.and_then(|user| {
        let form = Form::parse(header("accept"))?;
        route(&shared, &user, &counted, form, act.as_ref(), &body)
    });
    send(
        content.unwrap_or_else(|refusal| Content::Json(refusal.code, refusal.body)),
        act,
    )
    .await
}

fn busy(code: u16, after: Option<u32>) -> Response<Body> {
    let refusal = Refusal::busy(code);
    let mut response = Response::builder()
        .status(code)
        .header("Content-Type", "application/json");
    if let Some(after) = after {
        response = response.header("Retry-After", after);
    }
    built(response, Body::from(refusal.body.to_string()))
}

fn built(response: axum::http::response::Builder, body: Body) -> Response<Body> {
    // All of its parts are the double's own.
    response.body(body).unwrap_or_default()
}

/// Sends an answer, with what is done to it.
async fn send(content: Content, act: Option<Act>) -> Response<Body> {
    let (code, kind) = match &content {
        Content::Json(code, _) => (*code, "application/json"),
        Content::Text(code, _) => (*code, "text/plain; charset=utf-8"),
        Content::Watch(_) => (200, "application/json"),
    };
    let response = Response::builder()
        .status(code)
        .header("Content-Type", kind);
    let bytes = match &content {
        Content::Json(_, value) => value.to_string(),
        Content::Text(_, text) => (*text).to_owned(),
        Content::Watch(_) => String::new(),
    };
    if act.is_none() && !matches!(content, Content::Watch(_)) {
        return built(response, Body::from(bytes));
    }
    let (sender, receiver) = mpsc::channel(64);
    let mut outlet = Outlet::new(sender, act.as_ref());
    tokio::spawn(async move {
        if let Some(Act::Garbage(text)) = &act
            && !outlet.send(text.as_bytes()).await
        {
            return;
        }
        match content {
            Content::Watch(watch) => watch.run(outlet).await,
            _ => {
                outlet.send(bytes.as_bytes()).await;
            }
        }
    });
    built(response, Body::from_stream(ReceiverStream::new(receiver)))
}

fn route(
    shared: &Arc<Shared>,
    user: &User,
    request: &Request,
    form: Form,
    act: Option<&Act>,
    body: &[u8],
) -> Result<Content, Refusal> {
    let path = &*request.path;
    if let "/version" | "/readyz" | "/livez" | "/healthz" = path {
        // Everybody may read these, also who sends no token.
        return Ok(if path == "/version" {
            Content::Json(200, version())
        } else {
            Content::Text(200, "ok")
        });
    }
    if path == "/apis/authorization.k8s.io/v1/subjectaccessreviews" {
        return access(shared, body);
    }
    if request.verb == "get"
        && let Some(told) = definitions::discovery(&shared.store, path)
    {
        return Ok(Content::Json(200, told));
    }
    let target = resource::parse(path);
    let target = target.filter(|target| definitions::is_there(&shared.store, target.resource));
    let Some(target) = target else {
        let known = path.split('/').nth(1) == Some("api")
            || resource::ALL
                .iter()
                .any(|one| path.starts_with(&one.path("")));
        return if known {
            Err(Refusal::no_resource())
        } else {
            Ok(Content::Text(404, "404 page not found\n"))
        };
    };
    authorize(&shared.store, user, request, &target)?;
    if target.resource == &resource::TOKEN_REVIEWS {
        if request.verb != "create" {
            return Err(Refusal::not_allowed());
        }
        let review = read(target.resource, body)?;
        return Ok(Content::Json(201, locked(&shared.accounts).review(review)?));
    }
    let store = &shared.store;
    match (&*request.verb, target.name.is_empty()) {
        ("watch", _) => {
            if act == Some(&Act::NoStreamingLists) {
                let why = "sendInitialEvents is forbidden for watch unless the WatchList feature \
                           gate is enabled";
                let causes = [Cause::forbidden("sendInitialEvents", why)];
                let kind = ("ListOptions", "meta.k8s.io");
                return Err(Refusal::invalid(kind, "", &causes));
            }
            let options = Options::parse(request, target.resource)?;
            Ok(Content::Watch(Watch {
                shared: Arc::clone(shared),
                target,
                options,
                form,
                injected: shared.injected.subscribe(),
            }))
        }
        ("list", _) => list(
            shared,
            &target,
            &Options::parse(request, target.resource)?,
            form,
        ),
        ("get", false) => {
            let asked = request.query.get("resourceVersion").map_or("", |text| text);
            let asked = options::version(asked, true)?.unwrap_or_default();
            let current = store.version();
            if asked > current {
                return Err(Refusal::too_large(asked, current));
            }
            let found = store.get(target.resource, &target.namespace, &target.name);
            let found = found.ok_or_else(|| Refusal::not_found(target.resource, &target.name))?;
            Ok(Content::Json(200, form.one(&found)))
        }
        ("create", true) if target.resource.namespaced != target.namespace.is_empty() => {
            let created = store.create(&target, read(target.resource, body)?)?;
            Ok(Content::Json(201, form.one(&created)))
        }
        ("create", false) if target.subresource == "token" => {
            let asked: Value = serde_json::from_slice(body)
                .map_err(|error| Refusal::bad_request(&error.to_string()))?;
            let issued = locked(&shared.accounts).issue(store, &target, asked)?;
            Ok(Content::Json(201, issued))
        }
        ("update", false) if target.subresource != "token" => {
            let updated = store.update(&target, read(target.resource, body)?)?;
            Ok(Content::Json(200, form.one(&updated)))
        }
        ("delete", false) if target.subresource.is_empty() => {
            let options: Value = serde_json::from_slice(body).unwrap_or_default();
            let grace = options["gracePeriodSeconds"].as_u64();
            let deleted = store.delete(&target, grace)?;
            Ok(Content::Json(200, deleted_answer(&target, &deleted, form)))
        }
        _ => Err(Refusal::not_allowed()),
    }
}

/// What the answer to a deletion is: the object where somebody may wait for it, else `Status`.
fn deleted_answer(target: &Target, deleted: &Value, form: Form) -> Value {
    let waits = deleted["metadata"]["deletionTimestamp"].is_string();
    let told = ["Pod", "Service", "ServiceAccount"].contains(&target.resource.kind);
    if waits || told {
        return form.one(deleted);
    }
    let mut details = json!({
        "name": target.name, "kind": target.resource.plural,
        "uid": deleted["metadata"]["uid"],
    });
    if !target.resource.group.is_empty() {
        details["group"] = json!(target.resource.group);
    }
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
        "details": details,
    })
}

fn list(
    shared: &Shared,
    target: &Target,
    options: &Options,
    form: Form,
) -> Result<Content, Refusal> {
    let (mut version, mut after) = (None, String::new());
    if !options.after.is_empty() {
        let (at, start) = token(&options.after).ok_or_else(|| {
            Refusal::bad_request(
                "invalid continue token: continue key is not valid: invalid character",
            )
        })?;
        if at != 0 && at < shared.store.oldest() {
            return Err(Refusal::continue_too_old(&continue_token(0, &start)));
        }
        version = (at != 0).then_some(at);
        after = start;
    } else if let Some(asked) = options.version.filter(|asked| *asked > 0) {
        let current = shared.store.version();
        if asked > current {
            return Err(Refusal::too_large(asked, current));
        }
        // A page of a version is of that version; a whole list is as new as it can be.
        let exact = options.exact;
        version = exact.then_some(asked);
    }
    let page = shared.store.list(target, version)?;
    let key = |object: &Value| {
        let text = |key: &str| {
            object["metadata"][key]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        format!("{}/{}", text("namespace"), text("name"))
    };
    let mut items: Vec<_> = page
        .items
        .iter()
        .filter(|object| options.selector.selects(object))
        .filter(|object| after.is_empty() || key(object) > after)
        .collect();
    let mut metadata = json!({"resourceVersion": page.version.to_string()});
    // A list of any version comes from memory, whole.
    let limit = if options.version == Some(0) {
        0
    } else {
        options.limit
    };
    if limit > 0 && items.len() > limit {
        let rest = items.len() - limit;
        items.truncate(limit);
        let last = items.last().map(|object| key(object)).unwrap_or_default();
        metadata["continue"] = json!(continue_token(page.version, &last));
        if options.selector == Default::default() {
            metadata["remainingItemCount"] = json!(rest);
        }
    }
    let items: Vec<&Value> = items.into_iter().map(|object| &**object).collect();
    Ok(Content::Json(
        200,
        form.list(target.resource, &metadata, &items),
    ))
}

/// Opaque to clients: hexadecimal digits of a version and of the last object's key.
fn continue_token(version: u64, last: &str) -> String {
    let text = format!("{version} {last}");
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn token(text: &str) -> Option<(u64, String)> {
    let digits = text.as_bytes().chunks(2).map(|pair| {
        let pair = std::str::from_utf8(pair).ok()?;
        u8::from_str_radix(pair, 16).ok()
    });
    let bytes: Option<Vec<u8>> = digits.collect();
    let text = String::from_utf8(bytes?).ok()?;
    let (version, last) = text.split_once(' ')?;
    Some((version.parse().ok()?, last.to_owned()))
}

fn read(resource: &Resource, body: &[u8]) -> Result<Value, Refusal> {
    let mut object: Value = serde_json::from_slice(body).map_err(|error| {
        Refusal::bad_request(&format!(
            "the object provided is unrecognized (must be of type {}): couldn't get version/kind; \
             json parse error: {error}",
            resource.kind
        ))
    })?;
    // The path says what it is where the object does not.
    if object["kind"].is_null() && object["apiVersion"].is_null() && object.is_object() {
        object["kind"] = json!(resource.kind);
        object["apiVersion"] = json!(resource.api_version());
    }
    Ok(object)
}

/// Answers a SubjectAccessReview; only the harness itself asks for them.
fn access(shared: &Shared, body: &[u8]) -> Result<Content, Refusal> {
    let mut review: Value =
        serde_json::from_slice(body).map_err(|error| Refusal::bad_request(&error.to_string()))?;
    let asked = review["spec"]["resourceAttributes"].clone();
    let text = |key: &str| asked[key].as_str().unwrap_or_default();
    let resource = resource::named(text("resource")).ok_or_else(Refusal::no_resource)?;
    let target = Target {
        resource,
        namespace: text("namespace").to_owned(),
        name: text("name").to_owned(),
        subresource: text("subresource").to_owned(),
    };
    let name = review["spec"]["user"].as_str().unwrap_or_default();
    let allowed = allow(&shared.store, &User::named(name), text("verb"), &target).is_ok();
    review["status"] = json!({"allowed": allowed});
    Ok(Content::Json(201, review))
}

fn version() -> Value {
    json!({
        "major": "1", "minor": "35", "emulationMajor": "1", "emulationMinor": "35",
        "minCompatibilityMajor": "1", "minCompatibilityMinor": "34", "gitVersion": "v1.35.4",
        "gitCommit": "", "gitTreeState": "", "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "", "compiler": "gc", "platform": "linux/amd64",
    })
}

// === impl Form ===

impl Form {
    /// The first of those that the client accepts.
    fn parse(accept: Option<&str>) -> Result<Self, Refusal> {
        let Some(accept) = accept else {
            return Ok(Self::Whole);
        };
        for choice in accept.split(',') {
            let mut parts = choice.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default();
            if !["application/json", "application/*", "*/*"].contains(&kind) {
                continue;
            }
            let wanted = parts.find_map(|part| part.strip_prefix("as="));
            match wanted {
                None => return Ok(Self::Whole),
                Some("PartialObjectMetadata" | "PartialObjectMetadataList") => {
                    return Ok(Self::Metadata);
                }
                Some("Table") => return Ok(Self::Table),
                Some(_) => {}
            }
        }
        Err(Refusal::not_acceptable())
    }

    /// One object, on its own or in a watch.
    pub(super) fn one(self, object: &Value) -> Value {
        match self {
            Self::Whole => object.clone(),
            Self::Metadata => json!({
                "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
                "metadata": object["metadata"],
            }),
            Self::Table => self.table(
                &json!({
                    "resourceVersion": object["metadata"]["resourceVersion"],
                }),
                &[object],
            ),
        }
    }

    fn list(self, resource: &Resource, metadata: &Value, items: &[&Value]) -> Value {
        match self {
            Self::Whole => {
                // In a list of a kind no object says its own.
                let bare = items.iter().map(|object| {
                    let mut object = (*object).clone();
                    if let Some(fields) = object.as_object_mut() {
                        fields.remove("kind");
                        fields.remove("apiVersion");
                    }
                    object
                });
                json!({
                    "kind": format!("{}List", resource.kind),
                    "apiVersion": resource.api_version(), "metadata": metadata,
                    "items": bare.collect::<Vec<_>>(),
                })
            }
            Self::Metadata => json!({
                "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1",
                "metadata": metadata,
                "items": items.iter().map(|object| self.one(object)).collect::<Vec<_>>(),
            }),
            Self::Table => self.table(metadata, items),
        }
    }

    fn table(self, metadata: &Value, items: &[&Value]) -> Value {
        let rows: Vec<Value> = items
            .iter()
            .map(|object| {
                json!({
                    "cells": [
                        object["metadata"]["name"], object["metadata"]["creationTimestamp"],
                    ],
                    "object": Self::Metadata.one(object),
                })
            })
            .collect();
        json!({
            "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
            "columnDefinitions": [
                {
                    "name": "Name", "type": "string", "format": "name", "description": "",
                    "priority": 0,
                },
                {
                    "name": "Created At", "type": "date", "format": "", "description": "",
                    "priority": 0,
                },
            ],
            "rows": rows,
        })
    }
}
