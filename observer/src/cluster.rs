//! The Kubernetes cluster as a read-only snapshot: pods, nodes, services, and whose an address is.
//!
//! Whoever watches, be it this process or the hub, tells [`object::Change`]s; an index takes them
//! and answers. Nothing here is asked over the network while a call is enriched.

pub mod client;
pub mod events;
pub mod index;
pub mod networks;
pub mod object;
pub mod owners;
pub mod read;
pub mod status;
pub mod stream;
pub mod watch;

use std::sync::Arc;

use crate::model::kubernetes::{Node, Pod};

/// What happens in a cluster, in batches, by who tells it.
pub type Changes = tokio::sync::mpsc::Receiver<(object::Source, Vec<object::Change>)>;

/// What a remote address is, at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sight {
    /// A pod's own address.
    Pod(Arc<Pod>),
    /// A node's address: the node, or a pod on its network.
    Node(Arc<Node>),
    /// Within a network outside the cluster that the configuration names.
    Network(Arc<str>),
    /// Nobody has it, or more than one, or its holder is about to end: it may be known in a moment.
    Doubtful,
    /// Nothing is known of it, and nothing will be soon: it is outside the cluster.
    Outside,
}
