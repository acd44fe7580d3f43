//! What the hub counts of its agents, shared by all connections.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::listen::Events;

/// Counters since start; `agents` goes up and down.
#[derive(Debug, Default)]
pub struct Counters {
    /// Agents that are connected.
    pub agents: AtomicU64,
    /// Frames given to connections.
    pub frames: AtomicU64,
    /// Bytes of these frames.
    pub bytes: AtomicU64,
    /// Streams that went on where the agent was.
    pub resumed: AtomicU64,
    /// Snapshots that were sent.
    pub snapshots: AtomicU64,
    /// Those of them for agents that fell behind while connected.
    pub behind: AtomicU64,
    /// Snapshots that were encoded.
    pub encoded: AtomicU64,
    /// Questions to the API server whose a token is.
    pub reviews: AtomicU64,
    /// Connections that ended because the other end took nothing for too long.
    pub stalled: AtomicU64,
    refused: [AtomicU64; Refused::ALL.len()],
}

/// Why an agent was not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The hub does not know everything yet.
    NotReady,
    /// There are as many agents as there may be.
    TooManyAgents,
    /// There are as many connections as there may be.
    TooManyConnections,
    /// It showed no token.
    NoToken,
    /// Its token is not valid, or not for the hub.
    BadToken,
    /// Its token is of another account.
    WrongAccount,
    /// Whose its token is could not be asked.
    NoReview,
    /// The handshake of TLS failed.
    Handshake,
    /// The request was not understood.
    BadRequest,
}

// === impl Counters ===

impl Counters {
    /// Counts an agent that was not served.
    pub fn refuse(&self, why: Refused) {
        add(&self.refused[why as usize], 1);
    }

    /// How often an agent was not served, and why.
    pub fn refused(&self, why: Refused) -> u64 {
        get(&self.refused[why as usize])
    }
}

impl Events for Counters {
    fn refused(&self) {
        self.refuse(Refused::TooManyConnections);
    }

    fn not_secured(&self) {
        self.refuse(Refused::Handshake);
    }

    fn stalled(&self) {
        add(&self.stalled, 1);
    }
}

// === impl Refused ===

impl Refused {
    /// All reasons.
    pub const ALL: [Self; 9] = [
        Self::NotReady,
        Self::TooManyAgents,
        Self::TooManyConnections,
        Self::NoToken,
        Self::BadToken,
        Self::WrongAccount,
        Self::NoReview,
        Self::Handshake,
        Self::BadRequest,
    ];

    /// Name in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotReady => "not_ready",
            Self::TooManyAgents => "too_many_agents",
            Self::TooManyConnections => "too_many_connections",
            Self::NoToken => "no_token",
            Self::BadToken => "bad_token",
            Self::WrongAccount => "wrong_account",
            Self::NoReview => "no_review",
            Self::Handshake => "handshake",
            Self::BadRequest => "bad_request",
        }
    }
}

/// Adds to a counter.
pub fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

/// Reads a counter.
pub fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
