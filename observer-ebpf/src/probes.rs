//! The programs, one file per kernel subject.

mod connection;
mod process;
mod segment;
