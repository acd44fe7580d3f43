//! The command line.

pub mod agents;
pub mod arguments;
mod client;
pub mod config;
pub mod doctor;
pub mod findings;
pub mod flows;
pub mod graph;
pub mod mesh;
mod terminal;
pub mod top;
