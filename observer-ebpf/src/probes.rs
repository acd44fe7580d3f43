//! The programs, one file per kernel subject.

pub mod connection;
mod datagram;
mod process;
mod segment;
mod thread;
