//! The wire contract between the kernel programs and user space, and the pure parsing both share.
//!
//! What the kernel promises:
//!
//! - It **ships bytes, it never interprets them**. The only liberty it takes is to *omit* bytes
//!   that it can prove to be body, and every omission is visible as a difference between a
//!   record's stream position and the next one's. User space alone decides what the bytes mean.
//! - Positions are exact: a record's `position` counts payload bytes of one direction of one
//!   socket, from the first byte the programs saw, recognised by TCP sequence number. A byte that
//!   was sent twice is shipped once, or recognisably twice.
//! - A record that could not be sent is counted in [`counters`], and the next record of the same
//!   connection carries the number of records that it lost.
//!
//! The library has no dependencies and compiles for every target.

#![cfg_attr(target_arch = "bpf", no_std, feature(asm_experimental_arch))]

pub mod abi;
pub mod counters;
pub mod packet;
pub mod sniff;
pub mod tls;
