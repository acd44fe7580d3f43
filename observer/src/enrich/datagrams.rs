//! Lookups and datagrams to who made them; what lookups tell of addresses.

use std::{net::SocketAddr, sync::Arc};

use super::{Enricher, names::Asker};
use crate::{
    host::Host,
    model::{
        connection::{Connection, Role},
        datagram::{Conversation, Datagrams},
        lookup::{Lookup, LookupOutcome, Resolution},
        time::Monotonic,
        workload::{Peer, Workload},
    },
};

impl Enricher {
    /// Takes a lookup, and remembers what it tells of addresses.
    pub fn lookup(&mut self, lookup: Lookup, host: &mut Host, now: Monotonic) -> Resolution {
        let workload = host.workload_of(&lookup.owner, now);
        let asker = Asker {
            workload: &workload,
            network_namespace: lookup.owner.network_namespace,
        };
        let answered = matches!(
            lookup.outcome,
            LookupOutcome::Answered | LookupOutcome::Truncated
        );
        if answered && lookup.role == Role::Client && lookup.code == Some(0) {
            self.names
                .learn(&lookup.name, &lookup.answers, asker, lookup.ended);
        }
        let peer = self.peer(lookup.remote, asker, now);
        Resolution {
            lookup,
            workload,
            peer,
        }
    }

    /// Takes what passed between a socket and a peer.
    pub fn datagrams(
        &mut self,
        datagrams: Datagrams,
        host: &mut Host,
        now: Monotonic,
    ) -> Conversation {
        let workload = host.workload_of(&datagrams.owner, now);
        let asker = Asker {
            workload: &workload,
            network_namespace: datagrams.owner.network_namespace,
        };
        let peer = self.peer(datagrams.remote, asker, now);
        Conversation {
            datagrams,
            workload,
            peer,
        }
    }

    /// The other end of a connection that is not on this host.
    pub(super) fn name(
        &self,
        connection: &Connection,
        workload: &Arc<Workload>,
        now: Monotonic,
    ) -> Peer {
        let asker = Asker {
            workload,
            network_namespace: connection.owner.network_namespace,
        };
        self.peer(connection.remote, asker, now)
    }

    fn peer(&self, remote: SocketAddr, asker: Asker<'_>, now: Monotonic) -> Peer {
        let address = remote.ip();
        match self.names.find(address, asker, now) {
            Some(name) => Peer::Named {
                name: name.clone(),
                address,
            },
            None => Peer::Address(address),
        }
    }
}
