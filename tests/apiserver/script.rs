//! Requests whose answers are the same from the real server and from the double.

#[path = "script/objects.rs"]
mod objects;

use anyhow::{Context, Result};
use observer_tests::{
    apiserver::{Cluster, client::Client},
    wait::PATIENCE,
};
use serde_json::{Value, json};

use self::objects::{pod, with, written};

const PODS: &str = "/api/v1/namespaces/default/pods";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
const SERVICES: &str = "/api/v1/namespaces/default/services";
const SETS: &str = "/apis/apps/v1/namespaces/default/replicasets";
const STREAMING: &str = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan";

/// Names of a list's objects.
pub(crate) fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().into_iter().flatten();
    items
        .filter_map(|item| item["metadata"]["name"].as_str())
        .collect()
}

/// Asks for everything, and writes down each answer without what is each server's own.
pub(crate) fn run(cluster: &mut dyn Cluster) -> Result<Vec<String>> {
    let admin = cluster.admin().clone();
    let mut told = Vec::new();
    let mut tell = |what: &str, answer: String| told.push(format!("{what}: {answer}"));
    refused(&admin, &mut tell)?;
    written(&admin, &mut tell)?;
    listed(&admin, &mut tell)?;
    watched(&admin, &mut tell)?;
    Ok(told)
}

/// What is told of an answer: code, reason, message, details, shape.
fn summary(code: u16, body: &[u8]) -> String {
    let Ok(body) = serde_json::from_slice::<Value>(body) else {
        return format!("{code} {}", String::from_utf8_lossy(body).trim());
    };
    if body["kind"] != "Status" {
        return format!("{code} {}", shape(&body));
    }
    if body["status"] == "Success" {
        return format!("{code} {} {}", body["status"], body["details"]["kind"]);
    }
    let mut fields: Vec<String> = Vec::new();
    let causes = body["details"]["causes"].as_array();
    for cause in causes.into_iter().flatten() {
        fields.push(format!("{} {}", cause["field"], cause["reason"]));
    }
    // Each server finds faults in an order of its own.
    fields.sort();
    // How a parser words it is its own; and versions differ.
    let message = body["message"].as_str().unwrap_or_default();
    let message = match body["reason"].as_str() {
        Some("BadRequest" | "Invalid" | "Timeout") => "",
        _ => message,
    };
    format!(
        "{code} {} {} {message:?} {} {} {fields:?}",
        body["code"], body["reason"], body["details"]["kind"], body["details"]["name"]
    )
}

/// An object without what is each server's own.
fn shape(value: &Value) -> Value {
    let own = [
        "uid",
        "resourceVersion",
        "creationTimestamp",
        "deletionTimestamp",
        "managedFields",
        "time",
        "gitCommit",
        "goVersion",
        "clusterIP",
        "clusterIPs",
        "nodePort",
        "continue",
        // Added by admission, not by the API.
        "tolerations",
        "columnDefinitions",
        "cells",
    ];
    match value {
        Value::Object(fields) => fields
            .iter()
            .filter(|(key, value)| {
                // A status with nothing in it is there or not.
                let empty = value.as_object().is_some_and(|fields| fields.is_empty());
                let nothing = value.is_null() || (*key == "status" && empty);
                !nothing && !own.contains(&key.as_str())
            })
            .map(|(key, value)| (key.clone(), shape(value)))
            .collect(),
        Value::Array(list) => list
            .iter()
            .filter(|one| !is_own_service(one))
            .map(shape)
            .collect(),
        other => other.clone(),
    }
}

/// Whether an object, a row or an event is about the Service by which the real server offers itself.
fn is_own_service(value: &Value) -> bool {
    [value, &value["object"]]
        .iter()
        .any(|object| object["metadata"]["name"] == "kubernetes")
}

type Tell<'a> = dyn FnMut(&str, String) + 'a;

fn ask(client: &Client, method: &str, path: &str, tell: &mut Tell<'_>) -> Result<()> {
    let answer = client.send(method, path, None)?;
    tell(
        &format!("{method} {path}"),
        summary(answer.code, &answer.body),
    );
    Ok(())
}

fn write(
    client: &Client,
    (method, path): (&str, &str),
    body: &Value,
    tell: &mut Tell<'_>,
) -> Result<Value> {
    let answer = client.send(method, path, Some(body))?;
    tell(
        &format!("{method} {path} {body}"),
        summary(answer.code, &answer.body),
    );
    Ok(answer.json().unwrap_or_default())
}

/// Requests that are refused before anything is looked up.
fn refused(admin: &Client, tell: &mut Tell<'_>) -> Result<()> {
    let nobody = admin.with_token(None);
    let stranger = admin.with_token(Some("nonsense"));
    for path in [
        "/api/v1/pods",
        "/api/v1/pods?watch=1",
        "/apis/discovery.k8s.io/v1/namespaces/a/endpointslices",
        "/apis/apps/v1/replicasets",
        "/api/v1/namespaces/default/pods/x",
        "/api/v1/nodes/x",
        "/readyz",
    ] {
        ask(&nobody, "GET", path, tell)?;
        ask(&stranger, "GET", path, tell)?;
        // A watch that is let in does not end.
        if !path.ends_with("watch=1") {
            ask(admin, "GET", path, tell)?;
        }
    }
    for path in [
        "/version",
        "/api/v1/nothing",
        "/apis/none.test/v1/things",
        "/api/v1/namespaces/default/pods/x/nothing",
    ] {
        ask(admin, "GET", path, tell)?;
    }
    ask(admin, "DELETE", "/api/v1/nodes/none", tell)?;
    write(admin, ("POST", "/api/v1/pods"), &json!({}), tell)?;
    write(&nobody, ("POST", PODS), &json!({}), tell)?;
    let picky = admin.accepting("application/xml");
    ask(&picky, "GET", "/api/v1/pods", tell)?;
    Ok(())
}

/// Lists, whole and in pages, and their parameters.
fn listed(admin: &Client, tell: &mut Tell<'_>) -> Result<()> {
    for path in [PODS, SLICES, SETS, "/api/v1/nodes"] {
        ask(admin, "GET", path, tell)?;
        for accept in [
            "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
            "application/json;as=Table;g=meta.k8s.io;v=v1,application/json",
        ] {
            ask(&admin.accepting(accept), "GET", path, tell)?;
        }
    }
    let one = admin.accepting("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1");
    ask(&one, "GET", &format!("{PODS}/a"), tell)?;
    for query in [
        "limit=2",
        "limit=1&labelSelector=app",
        "limit=x",
        "limit=-1",
        "limit=1&resourceVersion=0",
        "resourceVersion=99999999",
        "resourceVersion=abc",
        "resourceVersionMatch=Exact",
        "resourceVersionMatch=Exact&resourceVersion=0",
        "resourceVersionMatch=Bad&resourceVersion=1",
        "sendInitialEvents=true&resourceVersionMatch=NotOlderThan",
        "continue=abc",
        "continue=616263&resourceVersion=5",
        "fieldSelector=foo%3Dbar",
        "fieldSelector=foo",
        "fieldSelector=spec.nodeName%3Dn1",
        "fieldSelector=spec.nodeName%3D",
        "fieldSelector=spec.nodeName!%3Dn1,metadata.name%3Da",
        "fieldSelector=spec.nodeName%3Dn1%2Cspec.hostNetwork%3Dtrue",
        "fieldSelector=spec.hostNetwork%3Dfalse",
        "fieldSelector=metadata.name%3Da",
        "fieldSelector=metadata.namespace%3Dother",
        "labelSelector=app%3Da",
        "labelSelector=app%20in%20(a,b)",
        "labelSelector=app%20notin%20(a,b)",
        "labelSelector=!app",
        "labelSelector=app,new",
        "labelSelector=app!%3Da",
        "labelSelector=a%3D%3D%3Db",
    ] {
        ask(admin, "GET", &format!("{PODS}?{query}"), tell)?;
    }
    for path in [
        "/api/v1/nodes?fieldSelector=spec.nodeName%3Dx",
        "/api/v1/nodes?fieldSelector=metadata.name%3Dn1",
        "/api/v1/nodes?fieldSelector=metadata.namespace%3Dx",
        "/api/v1/nodes/n1?resourceVersion=99999999",
        "/api/v1/nodes/n1?resourceVersion=abc",
    ] {
        ask(admin, "GET", path, tell)?;
    }
    let (mut token, mut paged) = (String::new(), Vec::new());
    loop {
        let list = admin
            .get(&format!("{SERVICES}?limit=2&continue={token}"))?
            .success()?;
        let found = names(&list);
        anyhow::ensure!((1..=2).contains(&found.len()), "{list}");
        paged.extend(
            found
                .into_iter()
                .filter(|name| *name != "kubernetes")
                .map(str::to_owned),
        );
        match list["metadata"]["continue"].as_str() {
            Some(next) => next.clone_into(&mut token),
            None => break,
        }
    }
    tell("pages", format!("{paged:?}"));
    // An older version, exactly.
    let before = admin.get(PODS)?.success()?;
    let version = before["metadata"]["resourceVersion"]
        .as_str()
        .context("no version")?;
    admin.send("POST", PODS, Some(&pod("later")))?.success()?;
    for rule in ["Exact", "NotOlderThan"] {
        let path = format!("{PODS}?resourceVersion={version}&resourceVersionMatch={rule}");
        let list = admin.get(&path)?.success()?;
        tell(rule, format!("{:?}", names(&list)));
    }
    Ok(())
}

/// Watches: how they begin, what they tell, how they end.
fn watched(admin: &Client, tell: &mut Tell<'_>) -> Result<()> {
    for query in [
        "watch=1&timeoutSeconds=1",
        "watch=true&timeoutSeconds=1&resourceVersion=0",
        "watch=1&timeoutSeconds=1&fieldSelector=spec.nodeName%3Dn1",
        "watch=1&timeoutSeconds=abc",
        "watch=1&timeoutSeconds=1&resourceVersion=abc",
        "watch=1&timeoutSeconds=1&resourceVersion=99999999",
        "watch=1&timeoutSeconds=1&resourceVersionMatch=NotOlderThan&resourceVersion=1",
        "watch=1&timeoutSeconds=1&sendInitialEvents=true",
    ] {
        events(admin, &format!("{PODS}?{query}"), tell)?;
    }
    let metadata = admin.accepting("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1");
    for path in [PODS, SLICES, SETS, "/api/v1/nodes"] {
        let streaming = format!("{path}?{STREAMING}&allowWatchBookmarks=true&timeoutSeconds=1");
        events(admin, &streaming, tell)?;
        events(&metadata, &streaming, tell)?;
    }
    events(admin, &format!("{PODS}?{STREAMING}&timeoutSeconds=1"), tell)?;
    let late = format!("{PODS}?{STREAMING}&timeoutSeconds=9&resourceVersion=99999999");
    events(admin, &late, tell)?;
    // What happens while two watch, one of them for a node.
    let list = admin.get(PODS)?.success()?;
    let version = list["metadata"]["resourceVersion"]
        .as_str()
        .context("no version")?;
    let from = format!("{PODS}?watch=1&resourceVersion={version}");
    let mut all = admin.watch(&from)?;
    let mut labelled = admin.watch(&format!("{from}&labelSelector=stage%3Dproduction"))?;
    let mut on_node = admin.watch(&format!("{from}&fieldSelector=spec.nodeName%3Dn9"))?;
    let scheduled = with(pod("w"), "/spec/nodeName", json!("n9"));
    admin.send("POST", PODS, Some(&scheduled))?.success()?;
    for stage in ["production", "production", "test"] {
        let mut object = admin.get(&format!("{PODS}/w"))?.success()?;
        object["metadata"]["labels"]["stage"] = json!(stage);
        admin
            .send("PUT", &format!("{PODS}/w"), Some(&object))?
            .success()?;
    }
    admin
        .send("DELETE", &format!("{PODS}/w"), None)?
        .success()?;
    admin
        .send("DELETE", &format!("{PODS}/w"), None)?
        .success()?;
    let now = json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0});
    admin
        .send("DELETE", &format!("{PODS}/w"), Some(&now))?
        .success()?;
    admin
        .send("DELETE", &format!("{PODS}/later"), None)?
        .success()?;
    let held = with(
        pod("held"),
        "/metadata/finalizers",
        json!(["test.test/held"]),
    );
    admin.send("POST", PODS, Some(&held))?.success()?;
    admin
        .send("DELETE", &format!("{PODS}/held"), None)?
        .success()?;
    let mut held = admin.get(&format!("{PODS}/held"))?.success()?;
    held["metadata"]["finalizers"] = json!([]);
    admin
        .send("PUT", &format!("{PODS}/held"), Some(&held))?
        .success()?;
    admin
        .send(
            "POST",
            PODS,
            Some(&with(pod("last"), "/spec/nodeName", json!("n9"))),
        )?
        .success()?;
    for (what, watch, last) in [
        ("all", &mut all, "last"),
        ("node", &mut on_node, "last"),
        ("label", &mut labelled, ""),
    ] {
        let mut events = Vec::new();
        let mut version = 0;
        loop {
            let event = watch.next(PATIENCE)?.context("the watch ended")?;
            let object = &event["object"];
            let name = object["metadata"]["name"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            let next: u64 = object["metadata"]["resourceVersion"]
                .as_str()
                .context("no version")?
                .parse()?;
            anyhow::ensure!(next > version, "{event} after version {version}");
            version = next;
            let kind = event["type"].as_str().unwrap_or_default().to_owned();
            let ends = object["metadata"]["deletionTimestamp"].is_string();
            events.push(format!("{kind} {name} {ends}"));
            if name == last || last.is_empty() && kind == "DELETED" {
                break;
            }
        }
        tell(what, format!("{events:?}"));
    }
    Ok(())
}

/// Writes down a watch to its end.
fn events(client: &Client, path: &str, tell: &mut Tell<'_>) -> Result<()> {
    let mut watch = client.watch(path)?;
    if watch.code != 200 {
        let mut body = String::new();
        while let Some(line) = watch.line(PATIENCE)? {
            body.push_str(&line);
        }
        tell(path, summary(watch.code, body.as_bytes()));
        return Ok(());
    }
    let mut told = Vec::new();
    while let Some(event) = watch.next(PATIENCE)? {
        let object = &event["object"];
        if is_own_service(object) {
            continue;
        }
        if object["kind"] == "Status" {
            let text = serde_json::to_vec(object)?;
            told.push(format!("{} {}", event["type"], summary(watch.code, &text)));
        } else if event["type"] == "BOOKMARK" {
            // All of it: what a client has to read is not what it expects.
            told.push(format!("{} {}", event["type"], without_version(object)));
        } else {
            told.push(format!("{} {}", event["type"], shape(object)));
        }
    }
    // The first events come in the order of a hash.
    told.sort();
    tell(path, told.join("\n    "));
    Ok(())
}

fn without_version(object: &Value) -> Value {
    let mut object = object.clone();
    object["metadata"]["resourceVersion"] = json!("");
    object
}
