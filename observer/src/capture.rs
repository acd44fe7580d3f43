//! Kernel to bytes: loads and attaches the programs, drains the ring buffer.

pub mod object;
