//! The record of a process that uses the network.

use super::{Header, connection::Owner};

/// A process made its first socket of TCP or UDP, or its first in a while; 72 bytes.
///
/// It is sent at once, so that user space can look at a process that will not live long.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessRecord {
    /// Kind and time; the cookie is 0.
    pub header: Header,
    /// The process.
    pub owner: Owner,
}

const _: () = assert!(size_of::<ProcessRecord>() == 72);
