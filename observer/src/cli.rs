//! The command line.

mod client;
pub mod flows;
mod terminal;
pub mod top;
