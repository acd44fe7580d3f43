//! The command line.

pub mod arguments;
mod client;
pub mod config;
pub mod doctor;
pub mod flows;
mod terminal;
pub mod top;
