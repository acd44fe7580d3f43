//! Our own health: what was lost and why, what was covered, what it cost.

pub mod health;
pub mod process;
