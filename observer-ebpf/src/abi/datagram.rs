//! Datagrams of UDP: what is counted of each peer, and the few that are shipped.

use super::{Header, connection::Owner};

/// Why a datagram is shipped, in [`DatagramRecord::purpose`].
pub mod purpose {
    /// One of its ports is that of DNS (53), and it starts like DNS. It is counted by its record and
    /// nowhere else.
    pub const DNS: u8 = 1;
    /// It starts like an Initial packet of QUIC. It is counted in its [`super::DatagramFlow`].
    pub const QUIC: u8 = 2;
}

/// A peer of a socket, the key of the map of flows; 32 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct DatagramKey {
    /// Remote address, network byte order; IPv4 as `::ffff:a.b.c.d`. What a connected socket
    /// dialled, otherwise what packets carry.
    pub remote_address: [u8; 16],
    /// The socket's cookie.
    pub cookie: u64,
    /// Remote port, host byte order.
    pub remote_port: u16,
    /// Explicit padding.
    pub reserved: u16,
    /// Explicit padding.
    pub reserved2: u32,
}

/// What passed between a socket and a peer; 152 bytes. Arrays are by direction.
///
/// The kernel only adds. User space remembers what it has read and takes the difference.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DatagramFlow {
    /// Bytes of payload.
    pub bytes: [u64; 2],
    /// Datagrams; each of those that passed as one packet (GSO, GRO).
    pub packets: [u64; 2],
    /// When the first passed.
    pub started_ns: u64,
    /// When the last passed.
    pub last_ns: u64,
    /// When the last Initial packet of QUIC was shipped.
    pub initial_ns: [u64; 2],
    /// How many were shipped lately.
    pub initials: [u32; 2],
    /// Inode of the cgroup v2 directory of the socket.
    pub cgroup: u64,
    /// Local address, from the socket or the first packet.
    pub local_address: [u8; 16],
    /// Local port, host byte order.
    pub local_port: u16,
    /// Explicit padding.
    pub reserved: u16,
    /// Explicit padding.
    pub reserved2: u32,
    /// Who made the socket; zero when unknown.
    pub owner: Owner,
}

/// One datagram; 128 bytes. The captured bytes of its payload follow.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DatagramRecord {
    /// Kind, time and cookie.
    pub header: Header,
    /// See [`DatagramFlow::local_address`].
    pub local_address: [u8; 16],
    /// See [`DatagramKey::remote_address`].
    pub remote_address: [u8; 16],
    /// Local port, host byte order.
    pub local_port: u16,
    /// Remote port, host byte order.
    pub remote_port: u16,
    /// One of [`super::direction`].
    pub direction: u8,
    /// One of [`purpose`].
    pub purpose: u8,
    /// Payload of each datagram but the last, where several passed as one packet; else 0.
    pub segment: u16,
    /// Bytes of payload.
    pub length: u32,
    /// How many of them were captured; always the first ones.
    pub captured: u32,
    /// Inode of the cgroup v2 directory of the socket.
    pub cgroup: u64,
    /// Who made the socket; zero when unknown.
    pub owner: Owner,
}

const _: () = assert!(size_of::<DatagramKey>() == 32);
const _: () = assert!(size_of::<DatagramFlow>() == 152);
const _: () = assert!(size_of::<DatagramRecord>() == 128);
