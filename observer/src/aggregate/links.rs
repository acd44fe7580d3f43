//! Connections: measures by who with whom, and what each open connection last told.

use std::{sync::Arc, time::Duration};

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::model::{
    call::Link,
    connection::{ClosedBy, ConnectFailure, ConnectionId, Role, Transfer},
    security::Security,
    time::Monotonic,
};

use super::{
    calls::CallKey,
    distribution::Distribution,
    edges::OnEdge,
    histogram::{CONNECTION_SECONDS, Histogram, ROUND_TRIP_SECONDS},
    identity::Interned,
    series::Handle,
};

/// Measures of the connections that share an identity.
#[derive(Debug, Default)]
pub(super) struct Tcp {
    pub(super) opened: u64,
    pub(super) failures: [u64; FAILURES.len()],
    /// What depends on the security of the connections, in the order of [`Security::ALL`].
    pub(super) secured: [Secured; Security::ALL.len()],
    pub(super) sent_segments: u64,
    pub(super) received_segments: u64,
    pub(super) retransmits: u64,
    pub(super) rtt: Distribution,
    pub(super) minimum_rtt_us: Option<u32>,
    pub(super) connect: Distribution,
    pub(super) duration: Histogram,
}

/// Measures of the connections of one security.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Secured {
    /// Any connection was ever counted here.
    pub(super) used: bool,
    /// By who, then without and with a RST.
    pub(super) closed: [[u64; 2]; CLOSERS.len()],
    pub(super) open: u64,
    pub(super) sent_bytes: u64,
    pub(super) received_bytes: u64,
}

/// An open connection.
#[derive(Debug)]
pub(super) struct Tracked {
    pub(super) link: Arc<Link>,
    pub(super) identity: Interned,
    pub(super) tcp: Handle,
    pub(super) service: Handle,
    /// Series of its last call: on most connections the next one is alike.
    pub(super) memo: Option<(CallKey, Handle)>,
    /// What it has of its edge of the graph.
    pub(super) on_edge: OnEdge,
    /// The pod of this host that it belongs to.
    pub(super) pod: Option<Handle>,
    /// Totals already counted.
    pub(super) counted: Transfer,
    /// Its security is counted.
    pub(super) security_counted: bool,
    pub(super) used: Monotonic,
}

/// Open connections, at most `limit`.
#[derive(Debug)]
pub(super) struct Links {
    pub(super) table: HashMap<ConnectionId, Tracked, RandomState>,
    pub(super) limit: usize,
    /// Connections that were not tracked because the table was full.
    pub(super) untracked: u64,
    /// Connections that told nothing for so long that they were taken for gone.
    pub(super) forgotten: u64,
}

/// All reasons, in the order of [`Tcp::failures`].
pub(super) const FAILURES: [ConnectFailure; 5] = [
    ConnectFailure::Refused,
    ConnectFailure::TimedOut,
    ConnectFailure::Unreachable,
    ConnectFailure::Reset,
    ConnectFailure::Abandoned,
];

/// Everybody who can close, in the order of [`Tcp::closed`].
pub(super) const CLOSERS: [ClosedBy; 4] = [
    ClosedBy::Local,
    ClosedBy::Remote,
    ClosedBy::Timeout,
    ClosedBy::Unknown,
];

/// How long a connection may tell nothing before it is taken for gone. Connections may be quiet
/// for days; this only bounds what a lost end of a connection leaves behind.
pub(super) const FORGET: Duration = Duration::from_secs(24 * 3_600);

// === impl Tcp ===

impl Tcp {
    /// Nothing yet; round-trip times and times to connect with exponential buckets or without.
    pub(super) fn new(exponential: bool) -> Self {
        Self {
            rtt: Distribution::new(exponential),
            connect: Distribution::new(exponential),
            ..Self::default()
        }
    }

    pub(super) fn established(&mut self, link: &Link) {
        if link.connection.pre_existing {
            return;
        }
        self.opened += 1;
        if let (Role::Client, Some(established)) =
            (link.connection.role, link.connection.established)
        {
            let duration = established.since(link.connection.started);
            self.connect
                .observe_duration(&ROUND_TRIP_SECONDS, duration, None, established);
        }
    }

    pub(super) fn failed(&mut self, failure: ConnectFailure) {
        let index = FAILURES.iter().position(|known| *known == failure);
        if let Some(count) = index.and_then(|index| self.failures.get_mut(index)) {
            *count += 1;
        }
    }

    /// What depends on the security of a connection.
    pub(super) fn secured(&mut self, security: Security) -> &mut Secured {
        let secured = &mut self.secured[security.index()];
        secured.used = true;
        secured
    }

    /// Open connections.
    pub(super) fn open(&self) -> u64 {
        self.secured.iter().map(|secured| secured.open).sum()
    }

    pub(super) fn ended(&mut self, link: &Link, at: Monotonic, by: ClosedBy, reset: bool) {
        let index = CLOSERS.iter().position(|known| *known == by);
        let counts = index.and_then(|index| self.secured(link.security).closed.get_mut(index));
        if let Some(count) = counts.and_then(|counts| counts.get_mut(usize::from(reset))) {
            *count += 1;
        }
        if !link.connection.pre_existing {
            let since = link
                .connection
                .established
                .unwrap_or(link.connection.started);
            self.duration
                .observe_duration(&CONNECTION_SECONDS, at.since(since));
        }
    }

    /// Adds what moved since the connection last told, and samples its round-trip times.
    pub(super) fn moved(&mut self, change: &Transfer, security: Security, now: Monotonic) {
        let secured = self.secured(security);
        secured.sent_bytes += change.sent_bytes;
        secured.received_bytes += change.received_bytes;
        self.sent_segments += u64::from(change.sent_segments);
        self.received_segments += u64::from(change.received_segments);
        self.retransmits += u64::from(change.retransmits);
        if change.smoothed_rtt_us > 0 {
            let rtt = Duration::from_micros(change.smoothed_rtt_us.into());
            self.rtt
                .observe_duration(&ROUND_TRIP_SECONDS, rtt, None, now);
        }
        self.minimum_rtt_us = match (self.minimum_rtt_us, change.minimum_rtt_us) {
            (Some(left), Some(right)) => Some(left.min(right)),
            (left, right) => left.or(right),
        };
    }
}

// === impl Tracked ===

impl Tracked {
    /// It is tracked as this link, and in this role.
    pub(super) fn is(&self, link: &Arc<Link>, role: Role) -> bool {
        Arc::ptr_eq(&self.link, link) && self.identity.0.role() == role
    }
}

// === impl Links ===

impl Links {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            table: HashMap::with_hasher(RandomState::default()),
            limit,
            untracked: 0,
            forgotten: 0,
        }
    }

    /// Takes out connections that told nothing for [`FORGET`].
    pub(super) fn expire(&mut self, now: Monotonic) -> Vec<Tracked> {
        let gone: Vec<Tracked> = self
            .table
            .extract_if(|_, tracked| now.since(tracked.used) >= FORGET)
            .map(|(_, tracked)| tracked)
            .collect();
        self.forgotten += gone.len() as u64;
        gone
    }
}

/// What `total` has more than `counted`; round-trip times are those of `total`.
///
/// Segments are 32 bits in the kernel and wrap around.
pub(super) fn change(counted: &Transfer, total: &Transfer) -> Transfer {
    Transfer {
        received_bytes: total.received_bytes.saturating_sub(counted.received_bytes),
        sent_bytes: total.sent_bytes.saturating_sub(counted.sent_bytes),
        received_segments: wrapped(counted.received_segments, total.received_segments),
        sent_segments: wrapped(counted.sent_segments, total.sent_segments),
        retransmits: wrapped(counted.retransmits, total.retransmits),
        smoothed_rtt_us: total.smoothed_rtt_us,
        minimum_rtt_us: total.minimum_rtt_us,
        understood_bytes: total
            .understood_bytes
            .saturating_sub(counted.understood_bytes),
        turns: total.turns.saturating_sub(counted.turns),
        turn_nanoseconds: total
            .turn_nanoseconds
            .saturating_sub(counted.turn_nanoseconds),
    }
}

/// The larger of both by field: totals read from a racing slot may be a little behind.
pub(super) fn latest(counted: &Transfer, total: &Transfer) -> Transfer {
    let segments = |counted: u32, total: u32| counted.wrapping_add(wrapped(counted, total));
    Transfer {
        received_bytes: total.received_bytes.max(counted.received_bytes),
        sent_bytes: total.sent_bytes.max(counted.sent_bytes),
        received_segments: segments(counted.received_segments, total.received_segments),
        sent_segments: segments(counted.sent_segments, total.sent_segments),
        retransmits: segments(counted.retransmits, total.retransmits),
        understood_bytes: total.understood_bytes.max(counted.understood_bytes),
        turns: total.turns.max(counted.turns),
        turn_nanoseconds: total.turn_nanoseconds.max(counted.turn_nanoseconds),
        ..*total
    }
}

/// How far `total` is ahead of `counted`; 0 when it is behind.
fn wrapped(counted: u32, total: u32) -> u32 {
    if counted == 0 {
        return total;
    }
    let ahead = total.wrapping_sub(counted);
    if ahead > u32::MAX / 2 { 0 } else { ahead }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_counted_once() {
        let total = |turns, turn_nanoseconds| Transfer {
            turns,
            turn_nanoseconds,
            ..Transfer::default()
        };
        let mut counted = Transfer::default();
        let mut sum = (0, 0);
        // The second is from a slot that was read a little behind.
        for now in [
            total(2, 40),
            total(1, 30),
            total(5, 100),
            total(5, 110),
            total(1 << 33, 1 << 60),
        ] {
            let more = change(&counted, &now);
            sum = (sum.0 + more.turns, sum.1 + more.turn_nanoseconds);
            counted = latest(&counted, &now);
        }
        assert_eq!(sum, (1 << 33, 1 << 60));
    }
}
