//! What is watched, and what is asked of the API server for that.

use super::{discovery, request::group};
use crate::{cluster::read::Resource, model::policy::PolicyKind};

/// What is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The pods of this node, and nothing else; their controllers are asked for by name.
    Node(String),
    /// The whole cluster.
    Cluster,
}

/// Something that whoever watches asks of the API server, and must be allowed to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Right {
    /// API group; empty for the core's.
    pub group: &'static str,
    /// Resource, as paths call it.
    pub resource: &'static str,
    /// Verb.
    pub verb: &'static str,
    /// The namespace that it is asked in; empty for all of them, and for what has none.
    pub namespace: String,
    /// The one object that it is asked for; empty for all of them.
    pub name: &'static str,
}

/// What is read of what is declared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Declarations {
    /// Which kinds; those that the API does not have are looked for again and again.
    pub kinds: Vec<PolicyKind>,
    /// Namespace of Istio's control plane.
    pub istio_namespace: String,
    /// It has revisions, whose configurations are read too: all ConfigMaps there are looked at.
    pub istio_revisions: bool,
}

/// What findings are told with, where they become Events of the cluster.
pub const EVENTS: Right = Right {
    group: "events.k8s.io",
    resource: "events",
    verb: "create",
    namespace: String::new(),
    name: "",
};

// === impl Scope ===

impl Scope {
    /// All that is asked of the API server, and nothing else: the rules of a role.
    pub fn rights(&self, declarations: &Declarations) -> Vec<Right> {
        let right = |resource: &Resource, verb| Right {
            group: group(*resource),
            resource: resource.as_str(),
            verb,
            namespace: String::new(),
            name: "",
        };
        let watched = self.watched().iter();
        let watched = watched.flat_map(|one| [right(one, "list"), right(one, "watch")]);
        let asked = self.asked().iter().map(|one| right(one, "get"));
        let kinds = match self {
            Self::Node(_) => &[][..],
            Self::Cluster => &*declarations.kinds,
        };
        let declared = kinds.iter().flat_map(|kind| {
            let config = *kind == PolicyKind::MeshConfig;
            let right = move |verb| Right {
                group: kind.group(),
                resource: kind.plural(),
                verb,
                namespace: match config {
                    true => declarations.istio_namespace.clone(),
                    false => String::new(),
                },
                name: match config && !declarations.istio_revisions {
                    true => discovery::MESH_CONFIG,
                    false => "",
                },
            };
            [right("list"), right("watch")]
        });
        watched.chain(asked).chain(declared).collect()
    }

    /// What is listed and watched.
    pub(super) const fn watched(&self) -> &'static [Resource] {
        match self {
            Self::Node(_) => &[Resource::Pods],
            Self::Cluster => &Resource::ALL,
        }
    }

    /// What is asked for by name: only who does not watch controllers asks for them.
    pub(super) const fn asked(&self) -> &'static [Resource] {
        match self {
            Self::Node(_) => &[Resource::ReplicaSets, Resource::Jobs],
            Self::Cluster => &[],
        }
    }
}
