//! The command line.

pub mod arguments;
mod client;
pub mod config;
pub mod doctor;
pub mod flows;
pub mod graph;
mod terminal;
pub mod top;
