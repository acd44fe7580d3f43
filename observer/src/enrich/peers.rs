//! Which sockets of this host can be the two ends of one connection.

use std::{hash::BuildHasher, net::SocketAddr};

use hashbrown::{HashMap, HashTable};

use crate::model::connection::{Connection, ConnectionId, Role};

/// A local and a remote address.
type Pair = (SocketAddr, SocketAddr);

/// Ends of connections by what the other end has too.
#[derive(Debug, Default)]
pub(super) struct Peers {
    sequences: HashMap<(u32, u32), ConnectionId, foldhash::fast::RandomState>,
    /// More than one connection may have the same addresses: in network namespaces.
    addresses: HashTable<(Pair, ConnectionId)>,
    hasher: foldhash::fast::RandomState,
}

// === impl Peers ===

impl Peers {
    /// Adds an end under all its names.
    pub(super) fn insert(&mut self, connection: &Connection) {
        if let Some(sequences) = connection.sequences {
            self.sequences.insert(sequences, connection.id);
        }
        for pair in pairs(connection) {
            let hasher = &self.hasher;
            let entry = (pair, connection.id);
            self.addresses
                .entry(
                    hasher.hash_one(pair),
                    |other| *other == entry,
                    |(pair, _)| hasher.hash_one(pair),
                )
                .or_insert(entry);
        }
    }

    /// Removes an end, given as it was added.
    pub(super) fn remove(&mut self, connection: &Connection) {
        if let Some(sequences) = connection.sequences
            && self.sequences.get(&sequences) == Some(&connection.id)
        {
            self.sequences.remove(&sequences);
        }
        for pair in pairs(connection) {
            let entry = (pair, connection.id);
            let found = self
                .addresses
                .find_entry(self.hasher.hash_one(pair), |one| *one == entry);
            if let Ok(found) = found {
                found.remove();
            }
        }
    }

    /// The other end of a connection. `look` gives a connection that still lacks its other end.
    ///
    /// The two sequence numbers, exchanged, name the other end exactly. Where one end is older
    /// than the observer its addresses must do: exchanged, those of the socket or those on the
    /// wire, and only if that leaves no choice.
    pub(super) fn find<'a>(
        &self,
        connection: &Connection,
        look: impl Fn(ConnectionId) -> Option<&'a Connection>,
    ) -> Option<ConnectionId> {
        let candidate = |id: ConnectionId| {
            look(id).filter(|other| other.id != connection.id && are_ends(connection, other))
        };
        if let Some((sent, received)) = connection.sequences {
            let exact = self.sequences.get(&(received, sent)).copied();
            if let Some(found) = exact.and_then(candidate) {
                return Some(found.id);
            }
        }
        let mut found: Vec<&Connection> = Vec::new();
        for (local, remote) in pairs(connection) {
            let reverse = (remote, local);
            for (pair, id) in self.addresses.iter_hash(self.hasher.hash_one(reverse)) {
                if *pair != reverse || found.iter().any(|known| known.id == *id) {
                    continue;
                }
                let old = |other: &&Connection| {
                    connection.sequences.is_none() || other.sequences.is_none()
                };
                found.extend(candidate(*id).filter(old));
            }
        }
        // Loopback stays within a network namespace; another address may well be reached from
        // one namespace in another.
        let own = connection.owner.network_namespace;
        let same = |other: &&Connection| own != 0 && other.owner.network_namespace == own;
        if connection.local.ip().is_loopback() && connection.remote.ip().is_loopback() {
            found.retain(|other| own == 0 || other.owner.network_namespace == 0 || same(other));
            if found.iter().any(same) {
                found.retain(same);
            }
        }
        match found.as_slice() {
            [only] => Some(only.id),
            _ => None,
        }
    }

    /// Names in use.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.sequences.len() + self.addresses.len()
    }
}

fn pairs(connection: &Connection) -> impl Iterator<Item = Pair> {
    let socket = (connection.local, connection.remote);
    std::iter::once(socket).chain(connection.wire.filter(|wire| *wire != socket))
}

/// One end must be the client's where both are known.
fn are_ends(one: &Connection, other: &Connection) -> bool {
    one.role == Role::Unknown || other.role == Role::Unknown || one.role != other.role
}
