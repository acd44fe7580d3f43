//! What is remembered of one connection.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use crate::{
    mesh,
    model::{
        call::Link,
        connection::{Connection, Owner, Role},
        exchange::{Exchange, RequestHead},
        mesh::Hop,
        security::Security,
        time::Monotonic,
        workload::{Peer, Workload},
    },
};

use super::{
    far::Caller,
    routes::{self, Path, Routes, ServiceIndex},
};

/// What is remembered of a connection.
#[derive(Debug)]
pub(super) struct State {
    pub(super) link: Arc<Link>,
    /// Whose budget of routes it uses.
    pub(super) service: ServiceIndex,
    /// The last request and its route.
    pub(super) recent: Option<Recent>,
    /// When something was last heard of it.
    pub(super) active: Monotonic,
    /// Its opening was not seen.
    pub(super) placeholder: bool,
    pub(super) closed: bool,
    /// Nothing of it is told yet.
    pub(super) waits: bool,
    /// More may become known of it: it is among those that are asked for again.
    pub(super) unsure: bool,
    /// Revisions of its proxy's connections and of the cluster, when it was last asked whom it is
    /// really with.
    pub(super) beyond: (u64, u64),
    /// Who made the last call that a proxy handed on.
    pub(super) caller: Option<Caller>,
}

/// A request head and the route it got. Equal heads are shared, so the pointer tells.
#[derive(Debug)]
pub(super) struct Recent {
    head: Arc<RequestHead>,
    rpc: bool,
    route: Arc<str>,
    /// In which epoch of the routes.
    epoch: u32,
}

/// Address of both ends of a connection whose opening was not seen.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// The link of an exchange whose connection was not seen to open.
pub(super) fn placeholder(exchange: &Exchange, unknown: &Arc<Workload>) -> Link {
    let connection = Connection {
        id: exchange.connection,
        role: exchange.role,
        local: NOWHERE,
        remote: NOWHERE,
        wire: None,
        owner: Owner::default(),
        started: exchange.sent.first,
        established: None,
        sequences: None,
        pre_existing: false,
    };
    Link {
        connection,
        workload: unknown.clone(),
        peer: Peer::Address(NOWHERE.ip()),
        dialled: None,
        security: Security::Unknown,
        opening: None,
        mesh: None,
        hop: Hop::Direct,
        far: None,
    }
}

/// Says whose encryption a connection has, by what its first bytes showed and where it goes to.
pub(super) fn classify(link: &mut Link) {
    let Some(opening) = &link.opening else {
        return;
    };
    let ports: Vec<u16> = link.connection.server_ports().collect();
    let (security, signs) = mesh::classify(opening, &ports);
    link.security = security;
    link.mesh = signs.map(Arc::new);
}

/// A connection as told at its end, with what only earlier reports said.
pub(super) fn newest(before: &Connection, mut now: Connection) -> Connection {
    if now.role == Role::Unknown {
        now.role = before.role;
    }
    if now.owner.pid == 0 && before.owner.pid != 0 {
        now.owner = before.owner.clone();
    }
    now.wire = now.wire.or(before.wire);
    now.sequences = now.sequences.or(before.sequences);
    now.established = now.established.or(before.established);
    now
}

// === impl Recent ===

impl Recent {
    fn is(&self, head: &Arc<RequestHead>, rpc: bool, epoch: u32) -> bool {
        Arc::ptr_eq(&self.head, head) && self.rpc == rpc && self.epoch == epoch
    }
}

// === impl State ===

impl State {
    /// The route of a request, by the budget of the connection's service. `rpc`: it is a remote
    /// procedure call.
    pub(super) fn route(
        &mut self,
        routes: &mut Routes,
        head: &Arc<RequestHead>,
        rpc: bool,
    ) -> Arc<str> {
        match &self.recent {
            Some(recent) if recent.is(head, rpc, routes.epoch()) => recent.route.clone(),
            _ => {
                let route = routes.route(self.service, Path::of(head, rpc));
                // Each call that gets the overflow route is counted there.
                let overflow = &*route == routes::OVERFLOW;
                self.recent = (!overflow).then(|| Recent {
                    head: head.clone(),
                    rpc,
                    route: route.clone(),
                    epoch: routes.epoch(),
                });
                route
            }
        }
    }
}
