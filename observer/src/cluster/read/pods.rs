//! Pods: who they are, where, and what controls them.

use super::{
    Found, Losses, MAX_NAME, MAX_UID, Options, Pattern, Resource, bounded,
    json::{Pairs, Text},
    names,
    objects::addresses,
    optional, policy,
    time::unix_nanoseconds,
    wire,
};
use std::sync::Arc;

use crate::{
    cluster::object::{ContainerObject, PodObject},
    model::{
        kubernetes::{Owner, ServiceName},
        resource_attributes::shown,
    },
};

/// A pod before its owners are resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Draft {
    /// The pod, without owners; `service.name` is empty when nothing but its owner names it.
    pub pod: PodObject,
    /// What controls it.
    pub controller: Option<Controller>,
}

/// What controls a pod, as the pod tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Controller {
    /// Kind and name.
    pub owner: Owner,
    /// Its uid.
    pub uid: Box<str>,
    /// Which resource tells what controls it in turn; `None` if the chain ends here.
    pub resource: Option<Resource>,
    /// What controls it in turn, where labels of the pod tell that exactly.
    pub above: Option<Owner>,
}

/// Most containers of a pod that are kept.
const MAX_CONTAINERS: usize = 128;
/// Most labels of a pod that are kept, and annotations.
const MAX_KEPT: usize = 64;
/// Digits of a container's id: a SHA-256.
const ID_DIGITS: usize = 64;

pub(super) fn pod(object: &wire::Pod<'_>, options: &Options, losses: &mut Losses) -> Option<Found> {
    let (metadata, spec, status) = (&object.metadata.0, &object.spec.0, &object.status.0);
    let uid = bounded(&metadata.uid, MAX_UID)?;
    let namespace = bounded(&metadata.namespace, MAX_NAME)?;
    let name = bounded(&metadata.name, MAX_NAME)?;
    losses.elements += metadata.labels.cut + metadata.annotations.cut;

    let cgroup_uid = ["kubernetes.io/config.mirror", "kubernetes.io/config.hash"]
        .into_iter()
        .find_map(|name| metadata.annotations.get(name))
        .map_or_else(Box::default, |hash| {
            optional(&Text(hash.into()), MAX_UID, losses)
        });
    let mut texts: Vec<&str> = Vec::new();
    texts.extend(
        status
            .pod_ips
            .elements
            .iter()
            .map(|entry| entry.0.ip.as_str()),
    );
    if texts.is_empty() {
        texts.push(status.pod_ip.as_str());
    }
    let phase = status.phase.as_str();
    let finished = matches!(phase, "Succeeded" | "Failed");
    let terminating = !metadata.deletion_timestamp.as_str().is_empty();
    let service = names::of_pod(metadata, options, losses);
    let containers = containers(object, &service, losses);
    let pod = PodObject {
        cgroup_uid: if cgroup_uid == uid {
            Box::default()
        } else {
            cgroup_uid
        },
        node: optional(&spec.node_name, MAX_NAME, losses),
        addresses: addresses(texts.into_iter(), losses),
        host_network: spec.host_network.0,
        owners: Vec::new(),
        containers,
        labels: kept(&metadata.labels, &options.labels, losses),
        annotations: kept(&metadata.annotations, &options.annotations, losses),
        started: unix_nanoseconds(status.start_time.as_str()).unwrap_or(0),
        ended: if finished || terminating {
            ended(object)
        } else {
            0
        },
        terminating,
        finished,
        traits: match options.traits {
            true => Arc::new(policy::traits(object, losses)),
            false => Arc::default(),
        },
        service: ServiceName {
            namespace: if service.namespace.is_empty() {
                namespace.clone()
            } else {
                service.namespace
            },
            ..service
        },
        uid,
        namespace,
        name,
    };
    let controller = controller(metadata);
    Some(Found::Pod(Box::new(Draft { pod, controller })))
}

/// All statuses of containers: ordinary ones first.
fn statuses<'o, 'a>(
    object: &'o wire::Pod<'a>,
) -> impl Iterator<Item = &'o wire::ContainerStatus<'a>> {
    let status = &object.status.0;
    [
        &status.container_statuses,
        &status.init_container_statuses,
        &status.ephemeral_container_statuses,
    ]
    .into_iter()
    .flat_map(|list| list.elements.iter().map(|entry| &entry.0))
}

fn specs<'o, 'a>(object: &'o wire::Pod<'a>) -> impl Iterator<Item = &'o wire::Container<'a>> {
    let spec = &object.spec.0;
    [
        &spec.containers,
        &spec.init_containers,
        &spec.ephemeral_containers,
    ]
    .into_iter()
    .flat_map(|list| list.elements.iter().map(|entry| &entry.0))
}

fn containers(
    object: &wire::Pod<'_>,
    service: &ServiceName,
    losses: &mut Losses,
) -> Vec<ContainerObject> {
    let status = &object.status.0;
    losses.elements += status.container_statuses.cut
        + status.init_container_statuses.cut
        + status.ephemeral_container_statuses.cut;
    let mut found = Vec::new();
    for status in statuses(object) {
        let Some(name) = bounded(&status.name, MAX_NAME) else {
            continue;
        };
        let terminated = |state: &wire::ContainerState<'_>| {
            let terminated = state.terminated.as_ref()?;
            Some(terminated.0.container_id.as_str().to_owned())
        };
        let told = [
            Some(status.container_id.as_str().to_owned()),
            terminated(&status.state.0),
            terminated(&status.last_state.0),
        ];
        let mut ids = Vec::new();
        for text in told.into_iter().flatten().filter(|text| !text.is_empty()) {
            match container_id(&text) {
                Some(id) if !ids.contains(&id) => ids.push(id),
                Some(_) => {}
                None => losses.container_ids += 1,
            }
        }
        if ids.is_empty() {
            continue;
        }
        if found.len() == MAX_CONTAINERS {
            losses.elements += 1;
            continue;
        }
        let spec = specs(object).find(|spec| spec.name.as_str() == &*name);
        let service = spec.map_or_else(ServiceName::default, |spec| {
            names::of_container(spec, object, service, losses)
        });
        found.push(ContainerObject { name, ids, service });
    }
    found
}

/// The id of a container without the engine's scheme.
fn container_id(text: &str) -> Option<Box<str>> {
    let id = text.rsplit_once("://").map_or(text, |(_, id)| id);
    let digits = id
        .bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (id.len() == ID_DIGITS && digits).then(|| id.into())
}

/// When the last container ended; 0 while one may run, or when that is not told.
fn ended(object: &wire::Pod<'_>) -> u64 {
    let expected = object.spec.0.containers.elements.len();
    if expected == 0 || object.status.0.container_statuses.elements.len() < expected {
        return 0;
    }
    let mut last = 0;
    for status in statuses(object) {
        let ended = status.state.0.terminated.as_ref();
        match ended.and_then(|ended| unix_nanoseconds(ended.0.finished_at.as_str())) {
            Some(ended) => last = last.max(ended),
            None => return 0,
        }
    }
    last
}

fn controller(metadata: &wire::Metadata<'_>) -> Option<Controller> {
    let references = metadata
        .owner_references
        .elements
        .iter()
        .map(|entry| &entry.0);
    let reference = references
        .into_iter()
        .find(|reference| reference.controller.0)?;
    let owner = Owner {
        kind: bounded(&reference.kind, MAX_NAME)?,
        name: bounded(&reference.name, MAX_NAME)?,
    };
    let in_group = |group: &str| {
        let version = reference.api_version.as_str().strip_prefix(group);
        version.is_some_and(|version| version.starts_with('/'))
    };
    let resource = match &*owner.kind {
        // The mirror of a static pod belongs to its node, which is no workload.
        "Node" if reference.api_version.as_str() == "v1" => return None,
        "ReplicaSet" if in_group("apps") => Some(Resource::ReplicaSets),
        "Job" if in_group("batch") => Some(Resource::Jobs),
        _ => None,
    };
    // Both controllers name their ReplicaSets after themselves and the hash of the template, and
    // put the hash on the pods.
    let above = (resource == Some(Resource::ReplicaSets))
        .then(|| {
            [
                ("pod-template-hash", "Deployment"),
                ("rollouts-pod-template-hash", "Rollout"),
            ]
            .into_iter()
            .find_map(|(label, kind)| {
                let hash = metadata.labels.get(label).filter(|hash| !hash.is_empty())?;
                let name = owner.name.strip_suffix(hash)?.strip_suffix('-')?;
                (!name.is_empty()).then(|| Owner {
                    kind: kind.into(),
                    name: name.into(),
                })
            })
        })
        .flatten();
    Some(Controller {
        uid: bounded(&reference.uid, MAX_UID).unwrap_or_default(),
        owner,
        resource,
        above,
    })
}

/// What of `pairs` was asked for, by name.
fn kept(pairs: &Pairs<'_>, patterns: &[Pattern], losses: &mut Losses) -> Vec<(Box<str>, Box<str>)> {
    if patterns.is_empty() {
        return Vec::new();
    }
    let mut found: Vec<(Box<str>, Box<str>)> = Vec::new();
    for (name, value) in pairs.iter() {
        if !patterns.iter().any(|pattern| pattern.matches(name)) {
            continue;
        }
        // Labels may be empty, and say something by that.
        let fits = value.is_empty() || shown(value.as_bytes().to_vec()).is_some();
        if !fits || shown(name.as_bytes().to_vec()).is_none() {
            losses.values += 1;
        } else if found.len() == MAX_KEPT {
            losses.elements += 1;
        } else {
            found.push((name.into(), value.into()));
        }
    }
    found.sort_unstable();
    found.dedup_by(|one, other| one.0 == other.0);
    found
}

// === impl Draft ===

impl Draft {
    /// The pod with its owners, lowest first: the last one names the service unless the pod does.
    pub fn finish(self, owners: Vec<Owner>) -> PodObject {
        let mut pod = self.pod;
        if pod.service.name.is_empty() {
            pod.service.name = owners.last().map_or(&pod.name, |owner| &owner.name).clone();
        }
        pod.owners = owners;
        pod
    }
}
