//! The programs, one file per kernel subject.

pub mod connection;
mod process;
mod segment;
