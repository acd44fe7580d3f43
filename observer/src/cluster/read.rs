//! Objects of the API as JSON, to what is kept of them: pure, total, and bounded.
//!
//! JSON is read field by field without a tree or a type for the whole object: what is not kept, the
//! values of other environment variables among it, is never copied out of the bytes that came.

mod json;
mod lists;
mod names;
mod objects;
mod pods;
mod policy;
mod time;
mod wire;

use std::sync::Arc;

use serde::Deserialize;

use super::object::{Kind, Object};
use crate::{
    model::{
        kubernetes::Owner,
        policy::{PolicyKind, PolicyObject},
    },
    telemetry::health::Loss,
};

use json::{Part, Text};
use objects::{controller, endpoints, node, service};

pub use lists::ListReader;
pub use pods::{Controller, Draft};

/// What is kept of pods besides what is always kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Labels to keep.
    pub labels: Vec<Pattern>,
    /// Annotations to keep.
    pub annotations: Vec<Pattern>,
    /// Labels `app.kubernetes.io/instance`, `/name` and `/version` may name services.
    pub service_from_labels: bool,
    /// What policies choose by is kept too: traits of pods, facts of Services.
    pub traits: bool,
}

/// A name, or names with `*` for any characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Box<str>);

/// Resources of the API that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// Pods.
    Pods,
    /// Services.
    Services,
    /// EndpointSlices.
    EndpointSlices,
    /// Nodes.
    Nodes,
    /// ReplicaSets, by their metadata alone.
    ReplicaSets,
    /// Jobs, by their metadata alone.
    Jobs,
    /// What a mesh is told.
    Policy(PolicyKind),
}

/// What an object of the API is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A pod, whose owners are still to be resolved.
    Pod(Box<Draft>),
    /// Anything else that is kept.
    Object(Box<Object>),
    /// A controller of pods.
    Controller(ControllerObject),
    /// What a mesh is told.
    Policy(Arc<PolicyObject>),
    /// Nothing that is kept; its uid.
    Unwanted(Box<str>),
}

/// A ReplicaSet or Job, by its metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ControllerObject {
    /// `metadata.uid`.
    pub uid: Box<str>,
    /// What controls it, and that one's uid; `None` if nothing does.
    pub controller: Option<(Owner, Box<str>)>,
}

/// An event of a watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An object is new or different, and the version of the resource that this is.
    Set(Found, Box<str>),
    /// An object is gone: its uid, and the version.
    Removed(Box<str>, Box<str>),
    /// An object that cannot be told was set or removed, and the version.
    Malformed(Box<str>),
    /// All up to this version was told; `true` at the end of the initial events.
    Bookmark(Box<str>, bool),
    /// The watch is over: code, reason and message of the status.
    Failed(Status),
}

/// A `Status`, as the API tells failures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// HTTP status; 0 when it tells none.
    pub code: u16,
    /// Reason, like `Expired`.
    pub reason: Box<str>,
    /// What people read.
    pub message: Box<str>,
}

/// What surrounds the items of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Version of the resource.
    pub version: Box<str>,
    /// Where the next page continues; empty at the last.
    pub next: Box<str>,
}

/// What could not be read, since start or since it was last taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Objects that have no usable uid, namespace or name, or are no JSON.
    pub malformed: u64,
    /// Objects longer than [`MAX_OBJECT`].
    pub too_large: u64,
    /// Addresses and networks that are none.
    pub addresses: u64,
    /// Container ids that are not 64 hexadecimal digits.
    pub container_ids: u64,
    /// Values too long or unfit to be shown: names of services, labels, annotations.
    pub values: u64,
    /// Elements of lists, labels and annotations beyond what is kept of one object.
    pub elements: u64,
}

/// Longest object that is read, bytes; the API server's store takes 1.5 MiB.
pub const MAX_OBJECT: usize = 4 << 20;

/// Longest uid, bytes. They are UUIDs, but for what tests and odd servers make.
const MAX_UID: usize = 128;
/// Longest name that the API takes, bytes.
const MAX_NAME: usize = 253;
/// Longest message of a status that is kept, bytes.
const MAX_MESSAGE: usize = 512;

/// Reads an object of a list.
pub fn object(
    resource: Resource,
    json: &[u8],
    options: &Options,
    losses: &mut Losses,
) -> Option<Found> {
    let found = match resource {
        Resource::Pods => parse(json).and_then(|pod| pods::pod(&pod, options, losses)),
        Resource::Services => parse(json).and_then(|object| service(&object, options, losses)),
        Resource::EndpointSlices => parse(json).and_then(|object| endpoints(&object, losses)),
        Resource::Nodes => parse(json).and_then(|object| node(&object, losses)),
        Resource::ReplicaSets | Resource::Jobs => {
            parse(json).and_then(|object| controller(&object))
        }
        Resource::Policy(kind) => {
            parse(json).and_then(|object| policy::policy(kind, &object, losses))
        }
    };
    losses.malformed += u64::from(found.is_none());
    found
}

/// Reads an event of a watch; `None` if it is no JSON, or nothing that a watch tells.
pub fn event(
    resource: Resource,
    line: &[u8],
    options: &Options,
    losses: &mut Losses,
) -> Option<Event> {
    match resource {
        Resource::Pods => typed(line, losses, |pod: &wire::Pod<'_>, losses| {
            pods::pod(pod, options, losses)
        }),
        Resource::Services => typed(line, losses, |object: &wire::Service<'_>, losses| {
            service(object, options, losses)
        }),
        Resource::EndpointSlices => typed(line, losses, endpoints),
        Resource::Nodes => typed(line, losses, node),
        Resource::ReplicaSets | Resource::Jobs => {
            typed(line, losses, |object: &wire::Bare<'_>, _| {
                controller(object)
            })
        }
        Resource::Policy(kind) => typed(line, losses, |object: &wire::Declared<'_>, losses| {
            policy::policy(kind, object, losses)
        }),
    }
}

/// Reads a `Status`; an empty one if it is none.
pub fn status(json: &[u8]) -> Status {
    parse::<wire::Failure<'_>>(json).map_or_else(Status::default, |failure| failure.owned())
}

/// One event's type and object.
#[derive(Deserialize)]
#[serde(bound(deserialize = "'de: 'a, T: Default + Deserialize<'de>"))]
struct Line<'a, T> {
    #[serde(rename = "type", borrow)]
    kind: Text<'a>,
    object: Part<T>,
}

/// Objects that have metadata.
trait HasMetadata<'a> {
    fn metadata(&self) -> &wire::Metadata<'a>;
}

fn parse<'a, T: Default + Deserialize<'a>>(json: &'a [u8]) -> Option<T> {
    // Part: what is JSON, and no object, is an object that lacks everything.
    serde_json::from_slice::<Part<T>>(json)
        .ok()
        .map(|part| part.0)
}

fn typed<'a, T: Default + Deserialize<'a> + HasMetadata<'a>>(
    line: &'a [u8],
    losses: &mut Losses,
    read: impl FnOnce(&T, &mut Losses) -> Option<Found>,
) -> Option<Event> {
    let event: Line<'a, T> = serde_json::from_slice(line).ok()?;
    let metadata = event.object.0.metadata();
    let version: Box<str> = bounded(&metadata.resource_version, MAX_UID).unwrap_or_default();
    match event.kind.as_str() {
        "ADDED" | "MODIFIED" => match read(&event.object.0, losses) {
            Some(found) => Some(Event::Set(found, version)),
            None => {
                losses.malformed += 1;
                Some(Event::Malformed(version))
            }
        },
        "DELETED" => match bounded(&metadata.uid, MAX_UID) {
            Some(uid) => Some(Event::Removed(uid, version)),
            None => {
                losses.malformed += 1;
                Some(Event::Malformed(version))
            }
        },
        "BOOKMARK" => {
            let end = metadata.annotations.get("k8s.io/initial-events-end") == Some("true");
            Some(Event::Bookmark(version, end))
        }
        "ERROR" => {
            let event: Line<'a, wire::Failure<'a>> = serde_json::from_slice(line).ok()?;
            Some(Event::Failed(event.object.0.owned()))
        }
        _ => None,
    }
}

/// Text that is neither empty nor longer than `limit`, nor unfit to be shown.
fn bounded(text: &Text<'_>, limit: usize) -> Option<Box<str>> {
    let text = text.as_str();
    let fits = !text.is_empty() && text.len() <= limit && !text.contains(char::is_control);
    fits.then(|| text.into())
}

/// Text that may be missing; too long is an error.
fn optional(text: &Text<'_>, limit: usize, losses: &mut Losses) -> Box<str> {
    if text.as_str().is_empty() {
        return Box::default();
    }
    bounded(text, limit).unwrap_or_else(|| {
        losses.values += 1;
        Box::default()
    })
}

// === impl Options ===

impl Default for Options {
    fn default() -> Self {
        Self {
            labels: Vec::new(),
            annotations: Vec::new(),
            service_from_labels: true,
            traits: false,
        }
    }
}

// === impl Pattern ===

impl Pattern {
    /// A pattern; every `*` stands for any characters, also none.
    pub fn new(pattern: &str) -> Self {
        Self(pattern.into())
    }

    /// Whether `name` is meant.
    pub fn matches(&self, name: &str) -> bool {
        let mut parts = self.0.split('*');
        // Split gives one part at least.
        let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else {
            return false;
        };
        let mut last = None;
        for part in parts {
            if let Some(middle) = last.replace(part) {
                let Some(at) = rest.find(middle) else {
                    return false;
                };
                rest = rest.get(at + middle.len()..).unwrap_or_default();
            }
        }
        last.map_or(rest.is_empty(), |last| rest.ends_with(last))
    }
}

// === impl Resource ===

impl Resource {
    /// All of them but what a mesh is told.
    pub const ALL: [Self; 6] = [
        Self::Pods,
        Self::Services,
        Self::EndpointSlices,
        Self::Nodes,
        Self::ReplicaSets,
        Self::Jobs,
    ];

    /// How many there are, also of what a mesh is told.
    pub const COUNT: usize = Self::ALL.len() + PolicyKind::ALL.len();

    /// All of them, also what a mesh is told.
    pub fn all() -> impl Iterator<Item = Self> {
        let declared = PolicyKind::ALL.into_iter().map(Self::Policy);
        Self::ALL.into_iter().chain(declared)
    }

    /// Place in [`Self::all`].
    pub const fn index(self) -> usize {
        match self {
            Self::Pods => 0,
            Self::Services => 1,
            Self::EndpointSlices => 2,
            Self::Nodes => 3,
            Self::ReplicaSets => 4,
            Self::Jobs => 5,
            Self::Policy(kind) => Self::ALL.len() + kind.index(),
        }
    }

    /// Name in paths, metrics and logs; what a mesh is told has its group after that.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pods => "pods",
            Self::Services => "services",
            Self::EndpointSlices => "endpointslices",
            Self::Nodes => "nodes",
            Self::ReplicaSets => "replicasets",
            Self::Jobs => "jobs",
            Self::Policy(kind) => kind.resource(),
        }
    }

    /// Whether it is there to resolve the owners of pods.
    pub const fn is_controllers(self) -> bool {
        matches!(self, Self::ReplicaSets | Self::Jobs)
    }

    /// The kind that its objects are told as; `None` for those that only resolve owners, and for
    /// what a mesh is told.
    pub const fn kind(self) -> Option<Kind> {
        match self {
            Self::Pods => Some(Kind::Pod),
            Self::Services => Some(Kind::Service),
            Self::EndpointSlices => Some(Kind::Endpoints),
            Self::Nodes => Some(Kind::Node),
            Self::ReplicaSets | Self::Jobs | Self::Policy(_) => None,
        }
    }
}

// === impl Losses ===

impl Losses {
    /// Adds those of `other`.
    pub fn add(&mut self, other: &Self) {
        self.malformed += other.malformed;
        self.too_large += other.too_large;
        self.addresses += other.addresses;
        self.container_ids += other.container_ids;
        self.values += other.values;
        self.elements += other.elements;
    }

    /// As losses of stage `cluster`.
    pub fn losses(&self) -> [Loss; 6] {
        [
            ("object_malformed", self.malformed),
            ("object_too_large", self.too_large),
            ("address_malformed", self.addresses),
            ("container_id_malformed", self.container_ids),
            ("value_unfit", self.values),
            ("elements_over_limit", self.elements),
        ]
        .map(|(reason, count)| Loss {
            stage: "cluster",
            reason,
            count,
        })
    }
}

// === impl Failure ===

impl wire::Failure<'_> {
    fn owned(&self) -> Status {
        let cut = |text: &Text<'_>| {
            let shown = text
                .as_str()
                .chars()
                .filter(|character| !character.is_control());
            shown.take(MAX_MESSAGE).collect::<String>().into_boxed_str()
        };
        Status {
            code: self.code.0,
            reason: cut(&self.reason),
            message: cut(&self.message),
        }
    }
}

// === impl HasMetadata ===

impl<'a> HasMetadata<'a> for wire::Pod<'a> {
    fn metadata(&self) -> &wire::Metadata<'a> {
        &self.metadata.0
    }
}

impl<'a> HasMetadata<'a> for wire::Service<'a> {
    fn metadata(&self) -> &wire::Metadata<'a> {
        &self.metadata.0
    }
}

impl<'a> HasMetadata<'a> for wire::EndpointSlice<'a> {
    fn metadata(&self) -> &wire::Metadata<'a> {
        &self.metadata.0
    }
}

impl<'a> HasMetadata<'a> for wire::Node<'a> {
    fn metadata(&self) -> &wire::Metadata<'a> {
        &self.metadata.0
    }
}

impl<'a> HasMetadata<'a> for wire::Declared<'a> {
    fn metadata(&self) -> &wire::Metadata<'a> {
        &self.metadata.0
    }
}

impl<'a> HasMetadata<'a> for wire::Bare<'a> {
    fn metadata(&self) -> &wire::Metadata<'a> {
        &self.metadata.0
    }
}

#[cfg(test)]
mod tests;
