//! An exchange with its identities: what metrics, flows and spans are made of.

use std::sync::Arc;

use super::{
    connection::{ClosedBy, ConnectFailure, Connection, Transfer},
    exchange::Exchange,
    kubernetes::Service,
    mesh::{Far, Hop},
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
    /// What the socket is on the way of a call through a mesh.
    pub hop: Hop,
    /// Whom it is really connected with, where a proxy is in between; of a connection that carries
    /// the calls of several, what is known of all of them.
    pub far: Option<Arc<Far>>,
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
    /// Whom it is really with, where that is known better than of its connection.
    pub far: Option<Arc<Far>>,
    /// It is a probe of the kubelet: no call of anybody to anybody.
    pub probe: bool,
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

// === impl Link ===

impl Link {
    /// Who is at the other end, proxies left out.
    pub fn peer(&self) -> &Peer {
        self.far.as_ref().map_or(&self.peer, |far| &far.peer)
    }

    /// How the way to the other end is secured, proxies left out.
    pub fn secured(&self) -> Security {
        self.far.as_ref().map_or(self.security, |far| far.security)
    }
}

// === impl Call ===

impl Call {
    /// Whom it is really with; `None` without a proxy in between.
    pub fn far(&self) -> Option<&Arc<Far>> {
        self.far.as_ref().or(self.link.far.as_ref())
    }

    /// Who is at the other end, proxies left out.
    pub fn peer(&self) -> &Peer {
        self.far().map_or(&self.link.peer, |far| &far.peer)
    }

    /// How the way to the other end is secured, proxies left out.
    pub fn secured(&self) -> Security {
        self.far().map_or(self.link.security, |far| far.security)
    }
}
