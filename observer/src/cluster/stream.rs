//! How a hub tells agents what the cluster is: a snapshot, then deltas, over one HTTP response.
//!
//! The hub watches the API server once for all agents. An agent asks
//! `GET /api/v1/cluster/stream?protocol=1&epoch=…&revision=…` and reads [`codec`] frames until one
//! of the two goes away:
//!
//! ```text
//! hello                     the hub's epoch, and whether what follows continues what was known
//! batch, batch, …           a snapshot: begin, objects, complete for each kind; the last batch has
//!                           its revision
//! batch, batch, …           deltas, each with its revision
//! heartbeat                 between them, every ten seconds: how old the hub's own knowledge is
//! ```
//!
//! An agent that comes back with the epoch and revision that it has gets the deltas since, if the hub
//! still has them, and a snapshot otherwise. One that falls behind while connected gets another
//! `hello` and a snapshot. So the hub keeps nothing for an agent but a position in the shared log.
//!
//! Hubs and agents of different versions understand each other: unknown fields, changes and frames
//! are skipped, and numbers of fields are never used again. [`PROTOCOL`] changes only when that is
//! not enough.

pub mod authentication;
pub mod certificate;
pub mod client;
pub mod codec;
pub mod counters;
pub mod message;
pub mod server;
pub mod status;
pub mod store;

use std::hash::{BuildHasher as _, RandomState};

/// Version of the protocol that this side speaks.
pub const PROTOCOL: u32 = 1;

/// Where the hub answers agents.
pub const PATH: &str = "/api/v1/cluster/stream";

/// Media type of the stream.
pub const MEDIA_TYPE: &str = "application/x-observer-cluster-stream";

/// Audience of the tokens that agents show.
pub const AUDIENCE: &str = "observer-hub";

/// A number that nobody can foresee, for epochs and for spreading agents in time.
fn random() -> u64 {
    // Each state has new keys, which the standard library takes from the system's random numbers.
    RandomState::new().hash_one(0_u8)
}

#[cfg(test)]
pub(crate) mod tests;
