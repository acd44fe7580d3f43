//! What is not told yet, because the pods that it is about are not known: a bounded memory, in order.

use std::{collections::VecDeque, sync::Arc};

use hashbrown::HashMap;

use crate::model::{
    call::{Call, Link, LinkEvent},
    connection::ConnectionId,
    datagram::Conversation,
    lookup::Resolution,
    time::Monotonic,
};

/// What this stage tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// A change of a connection.
    Link(LinkEvent),
    /// A call.
    Call(Call),
    /// A lookup.
    Lookup(Resolution),
    /// Datagrams.
    Datagrams(Conversation),
}

/// What waits, by connection or socket.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    held: HashMap<ConnectionId, Held, foldhash::fast::RandomState>,
    /// Who waits, the first that began to wait first; also some who wait no longer.
    order: VecDeque<(Monotonic, ConnectionId)>,
    /// All that waits.
    told: usize,
    /// Told before their time, for want of room.
    pub(super) full: u64,
}

/// What waits of one connection, in order.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) deadline: Monotonic,
    pub(super) told: Vec<Told>,
}

// === impl Waiting ===

impl Waiting {
    /// Most that waits.
    pub(super) const LIMIT: usize = 16_384;

    /// Adds what is told of a connection; until `deadline` if it is the first.
    pub(super) fn push(&mut self, id: ConnectionId, deadline: Monotonic, told: Told) {
        let order = &mut self.order;
        let held = self.held.entry(id).or_insert_with(|| {
            order.push_back((deadline, id));
            Held {
                deadline,
                told: Vec::new(),
            }
        });
        held.told.push(told);
        self.told += 1;
    }

    /// Whether something of this connection waits.
    pub(super) fn has(&self, id: ConnectionId) -> bool {
        self.held.contains_key(&id)
    }

    /// Who waits, the first first.
    pub(super) fn ids(&self) -> Vec<ConnectionId> {
        let waits = |(deadline, id): &(Monotonic, ConnectionId)| {
            let held = self.held.get(id)?;
            (held.deadline == *deadline).then_some(*id)
        };
        self.order.iter().filter_map(waits).collect()
    }

    /// The one that waits longest, if there is more than fits.
    pub(super) fn overdue(&mut self) -> Option<ConnectionId> {
        if self.told <= Self::LIMIT {
            return None;
        }
        while let Some((deadline, id)) = self.order.front().copied() {
            if self
                .held
                .get(&id)
                .is_some_and(|held| held.deadline == deadline)
            {
                self.full += 1;
                return Some(id);
            }
            self.order.pop_front();
        }
        None
    }

    /// Whether somebody has waited long enough.
    pub(super) fn is_due(&self, now: Monotonic) -> bool {
        self.held.values().any(|held| held.deadline <= now)
    }

    pub(super) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Held> {
        self.held.get_mut(&id)
    }

    /// Takes out what waited of a connection.
    pub(super) fn take(&mut self, id: ConnectionId) -> Vec<Told> {
        let Some(held) = self.held.remove(&id) else {
            return Vec::new();
        };
        self.told -= held.told.len();
        while let Some((deadline, id)) = self.order.front()
            && self
                .held
                .get(id)
                .is_none_or(|held| held.deadline != *deadline)
        {
            self.order.pop_front();
        }
        held.told
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// All that waits.
    pub(super) fn len(&self) -> usize {
        self.told
    }
}

// === impl Told ===

impl Told {
    /// When its ends met: whose their addresses were is asked for then.
    pub(super) fn met(&self) -> Monotonic {
        let link = match self {
            Self::Call(call) => &call.link,
            Self::Link(
                LinkEvent::Opened(link)
                | LinkEvent::Recognised { link, .. }
                | LinkEvent::Progress { link, .. }
                | LinkEvent::Closed { link, .. }
                | LinkEvent::Failed { link, .. },
            ) => link,
            Self::Lookup(resolution) => return resolution.lookup.sent,
            Self::Datagrams(conversation) => return conversation.datagrams.started,
        };
        let connection = &link.connection;
        connection.established.unwrap_or(connection.started)
    }

    /// The link that it is about, if it is about one.
    pub(super) fn link_mut(&mut self) -> Option<&mut Arc<Link>> {
        match self {
            Self::Call(call) => Some(&mut call.link),
            Self::Link(event) => Some(match event {
                LinkEvent::Opened(link)
                | LinkEvent::Recognised { link, .. }
                | LinkEvent::Progress { link, .. }
                | LinkEvent::Closed { link, .. }
                | LinkEvent::Failed { link, .. } => link,
            }),
            Self::Lookup(_) | Self::Datagrams(_) => None,
        }
    }
}
