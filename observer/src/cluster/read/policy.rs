//! What a mesh is told, and what it chooses pods and Services by.
//!
//! What an object says is kept as the JSON that it is, for whoever knows its kind: here nothing of it
//! is understood, and so nothing of it can be misunderstood.

use std::sync::Arc;

use super::{
    Found, Losses, MAX_NAME, MAX_UID, bounded,
    json::{Pairs, Text},
    optional,
    time::unix_nanoseconds,
    wire,
};
use crate::model::{
    policy::{PolicyKind, PolicyObject, PortFacts, ServiceFacts, Traits},
    resource_attributes::shown,
};

/// Pairs of names and values, sorted by name.
type List = Box<[(Box<str>, Box<str>)]>;

/// Longest content that is kept of one object, bytes. The hub passes on objects of 256 KiB.
pub(super) const MAX_CONTENT: usize = 192 << 10;
/// Most labels of one object that are kept, annotations, and entries of a selector.
const MAX_PAIRS: usize = 64;
/// Longest annotation that is kept, bytes.
const MAX_ANNOTATION: usize = 2 << 10;
/// Most containers of a pod whose names are kept, and most ports that have a name.
const MAX_CONTAINERS: usize = 64;
/// Most ports of a Service.
const MAX_PORTS: usize = 256;
/// Name of the ConfigMap that Istio's control plane is configured by; that of a revision has the
/// revision after it, and a dash between.
const MESH_CONFIG: &str = "istio";

pub(super) fn policy(
    kind: PolicyKind,
    object: &wire::Declared<'_>,
    losses: &mut Losses,
) -> Option<Found> {
    let metadata = &object.metadata.0;
    let uid = bounded(&metadata.uid, MAX_UID)?;
    let name = bounded(&metadata.name, MAX_NAME)?;
    let namespace = match kind {
        PolicyKind::Namespace => Box::default(),
        _ => bounded(&metadata.namespace, MAX_NAME)?,
    };
    let content = match kind {
        PolicyKind::Namespace => "{}".to_owned(),
        PolicyKind::MeshConfig => {
            let text = object.data.0.mesh.as_str();
            if !is_mesh_config(&name) || text.is_empty() {
                return Some(Found::Unwanted(uid));
            }
            format!(
                "{{\"mesh\":{}}}",
                serde_json::Value::String(text.to_owned())
            )
        }
        _ => content(object),
    };
    let fits = content.len() <= MAX_CONTENT;
    losses.too_large += u64::from(!fits);
    losses.elements += metadata.labels.cut + metadata.annotations.cut;
    Some(Found::Policy(Arc::new(PolicyObject {
        kind,
        uid,
        namespace,
        name,
        version: optional(&metadata.resource_version, MAX_UID, losses),
        created: unix_nanoseconds(metadata.creation_timestamp.as_str()).unwrap_or(0)
            / 1_000_000_000,
        labels: labels(&metadata.labels, |_| true, losses),
        annotations: annotations(&metadata.annotations, losses),
        content: if fits { content.into() } else { Box::default() },
    })))
}

/// Whether a ConfigMap of this name configures a mesh.
fn is_mesh_config(name: &str) -> bool {
    name.strip_prefix(MESH_CONFIG)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// What an object says, and what of its status says whether that is heeded.
fn content(object: &wire::Declared<'_>) -> String {
    let status = &object.status.0;
    let status: Vec<String> = [
        ("conditions", status.conditions.list()),
        ("parents", status.parents.list()),
    ]
    .into_iter()
    .filter_map(|(name, text)| Some(format!("\"{name}\":{}", text?)))
    .collect();
    let spec = object.spec.object();
    let spec = spec.map(|text| format!("\"spec\":{text}"));
    let status = (!status.is_empty()).then(|| format!("\"status\":{{{}}}", status.join(",")));
    let parts: Vec<String> = spec.into_iter().chain(status).collect();
    format!("{{{}}}", parts.join(","))
}

/// What policies choose a pod by.
pub(super) fn traits(object: &wire::Pod<'_>, losses: &mut Losses) -> Traits {
    let (metadata, spec) = (&object.metadata.0, &object.spec.0);
    let beside = spec.init_containers.elements.iter();
    // Init containers that are always restarted run beside the others from the beginning.
    let beside = beside.filter(|container| container.0.restart_policy.as_str() == "Always");
    let all = spec.containers.elements.iter().chain(beside);
    let (mut containers, mut ports) = (Vec::new(), Vec::new());
    for container in all.map(|container| &container.0) {
        let Some(name) = bounded(&container.name, MAX_NAME) else {
            continue;
        };
        if containers.len() == MAX_CONTAINERS {
            losses.elements += 1;
            continue;
        }
        containers.push(name);
        for port in container.ports.elements.iter().map(|port| &port.0) {
            let number = port.container_port.0;
            let Some(name) = bounded(&port.name, MAX_NAME).filter(|_| number != 0) else {
                continue;
            };
            if ports.len() == MAX_CONTAINERS {
                losses.elements += 1;
            } else {
                ports.push((name, number));
            }
        }
    }
    ports.sort_unstable();
    ports.dedup_by(|one, other| one.0 == other.0);
    Traits {
        service_account: optional(&spec.service_account_name, MAX_NAME, losses),
        labels: labels(&metadata.labels, |_| true, losses),
        annotations: annotations(&metadata.annotations, losses),
        containers: containers.into(),
        ports: ports.into(),
        host_network: spec.host_network.0,
    }
}

/// What policies choose a Service by.
pub(super) fn facts(object: &wire::Service<'_>, losses: &mut Losses) -> ServiceFacts {
    let (metadata, spec) = (&object.metadata.0, &object.spec.0);
    let tcp =
        |port: &&wire::Port<'_>| port.port.0 != 0 && matches!(port.protocol.as_str(), "TCP" | "");
    let ports = spec.ports.elements.iter().map(|port| &port.0).filter(tcp);
    let ports = ports.take(MAX_PORTS).map(|port| {
        let target_name = optional(&port.target_port.name, MAX_NAME, losses);
        let target = match port.target_port.number {
            0 if target_name.is_empty() => port.port.0,
            number => number,
        };
        PortFacts {
            name: optional(&port.name, MAX_NAME, losses),
            app_protocol: optional(&port.app_protocol, MAX_NAME, losses),
            port: port.port.0,
            target,
            target_name,
        }
    });
    let ports = ports.collect();
    // What else there is of it, its object has.
    ServiceFacts {
        selector: labels(&spec.selector, |_| true, losses),
        labels: labels(&metadata.labels, is_of_mesh, losses),
        annotations: annotations(&metadata.annotations, losses),
        ports,
        ..ServiceFacts::default()
    }
}

/// Whether a label or an annotation is a mesh's, by the domain in front of its name.
fn is_of_mesh(name: &str) -> bool {
    let Some((domain, _)) = name.split_once('/') else {
        return false;
    };
    ["istio.io", "linkerd.io"].into_iter().any(|mesh| {
        domain
            .strip_suffix(mesh)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    })
}

/// Labels that are wanted, and entries of selectors.
fn labels(pairs: &Pairs<'_>, wanted: impl Fn(&str) -> bool, losses: &mut Losses) -> List {
    let fits = |value: &str| value.is_empty() || shown(value.as_bytes().to_vec()).is_some();
    kept(pairs, wanted, fits, losses)
}

/// Annotations of meshes. Some of them have text of several lines.
fn annotations(pairs: &Pairs<'_>, losses: &mut Losses) -> List {
    let fits = |value: &str| {
        let strange =
            |character: char| character.is_control() && !matches!(character, '\n' | '\r' | '\t');
        value.len() <= MAX_ANNOTATION && !value.contains(strange)
    };
    kept(pairs, is_of_mesh, fits, losses)
}

fn kept(
    pairs: &Pairs<'_>,
    wanted: impl Fn(&str) -> bool,
    fits: impl Fn(&str) -> bool,
    losses: &mut Losses,
) -> List {
    let mut found: Vec<(Box<str>, Box<str>)> = Vec::new();
    for (name, value) in pairs.iter().filter(|(name, _)| wanted(name)) {
        if !fits(value) || bounded(&Text(name.into()), MAX_NAME + MAX_NAME).is_none() {
            losses.values += 1;
        } else if found.len() == MAX_PAIRS {
            losses.elements += 1;
        } else {
            found.push((name.into(), value.into()));
        }
    }
    found.sort_unstable();
    found.dedup_by(|one, other| one.0 == other.0);
    found.into()
}

#[cfg(test)]
mod tests;
