//! An exchange with its identities: what metrics, flows and spans are made of.

use std::sync::Arc;

use super::{
    connection::{ClosedBy, ConnectFailure, Connection, Transfer},
    exchange::Exchange,
    kubernetes::Service,
    security::{MeshSigns, Opening, Security},
    time::Monotonic,
    workload::{Peer, Workload},
};

/// Everything about a connection that its calls share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The connection, with both pairs of addresses.
    pub connection: Connection,
    /// Whose socket it is.
    pub workload: Arc<Workload>,
    /// Who is at the other end.
    pub peer: Peer,
    /// The Service of Kubernetes that the client dialled, where that is known.
    pub dialled: Option<Arc<Service>>,
    /// Whether it is encrypted, and by whom.
    pub security: Security,
    /// What its first bytes showed; `None` while, or if, they were not seen.
    pub opening: Option<Arc<Opening>>,
    /// What a mesh showed in its handshake.
    pub mesh: Option<Arc<MeshSigns>>,
}

/// An exchange with who made it and what for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Who, with whom, over which addresses.
    pub link: Arc<Link>,
    /// What was seen on the wire.
    pub exchange: Exchange,
    /// Route template (`http.route`, `url.template`), never a raw path.
    pub route: Arc<str>,
    /// `error.type`: the status code as text, the name of a status of gRPC, or a reason; `None`
    /// when the call did not fail.
    pub error: Option<&'static str>,
    /// `error.type` of the HTTP exchange alone; the same as `error`, unless it carried a remote
    /// procedure call.
    pub http_error: Option<&'static str>,
}

/// A change of a connection with who it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// Established, or first seen.
    Opened(Arc<Link>),
    /// Its first bytes showed what it is: the link has a security state now.
    Recognised {
        /// Which.
        link: Arc<Link>,
        /// When.
        at: Monotonic,
    },
    /// Totals of a live connection.
    Progress {
        /// Which.
        link: Arc<Link>,
        /// Totals so far.
        transfer: Transfer,
    },
    /// Ended.
    Closed {
        /// Which.
        link: Arc<Link>,
        /// When.
        at: Monotonic,
        /// Who ended it.
        by: ClosedBy,
        /// With a RST.
        reset: bool,
        /// Totals.
        transfer: Transfer,
    },
    /// Never made.
    Failed {
        /// Which.
        link: Arc<Link>,
        /// When it failed.
        at: Monotonic,
        /// Why.
        failure: ConnectFailure,
    },
}
