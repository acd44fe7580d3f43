//! The command line.

pub mod arguments;
pub mod config;
pub mod doctor;
