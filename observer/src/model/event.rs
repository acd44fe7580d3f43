//! What the kernel reported, decoded and checked, still in kernel terms.

use std::net::SocketAddr;

use super::{
    connection::{Closed, ConnectFailure, Connection, ConnectionId, Direction, Owner},
    datagram::Traffic,
    time::Monotonic,
    trace::Cause,
};

/// One segment with payload, or a window of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// When it passed the socket.
    pub time: Monotonic,
    /// Which way.
    pub direction: Direction,
    /// Offset of its first byte in the stream of this direction, from the first byte seen.
    pub position: u64,
    /// TCP sequence number of its first byte.
    pub sequence: u32,
    /// TCP acknowledgement number.
    pub acknowledgement: u32,
    /// Payload bytes it stands for; at least `bytes.len()`.
    pub length: u32,
    /// The captured bytes: the first ones.
    pub bytes: &'a [u8],
    /// It carried a FIN.
    pub fin: bool,
    /// It carried a RST.
    pub reset: bool,
    /// No earlier byte of this direction is still under way.
    pub in_order: bool,
    /// HTTP/2: it starts where a frame does, as the kernel knows.
    pub at_frame: bool,
    /// HTTP/2: the kernel does not know where the frames of this direction start.
    pub unframed: bool,
}

/// A thread that had one request to answer wrote to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caused {
    /// When the write had returned.
    pub time: Monotonic,
    /// The connection that was written to.
    pub connection: ConnectionId,
    /// TCP sequence number of the first byte that was written.
    pub sequence: u32,
    /// Bytes that were written. A request that starts among them is the one that was caused.
    pub length: u32,
    /// Process id.
    pub pid: u32,
    /// What caused it.
    pub cause: Cause,
}

/// Why a datagram was shipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatagramPurpose {
    /// One of its ports is that of DNS, and it starts like DNS. It is counted nowhere else.
    Dns,
    /// It starts like the first packet of a QUIC connection.
    Quic,
}

/// One datagram of UDP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// When it passed the socket.
    pub time: Monotonic,
    /// The socket.
    pub socket: ConnectionId,
    /// Who made the socket.
    pub owner: Owner,
    /// Address of the socket.
    pub local: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
    /// Which way.
    pub direction: Direction,
    /// Why it is here.
    pub purpose: DatagramPurpose,
    /// Payload of each datagram but the last where several passed as one packet; else 0.
    pub segment: u16,
    /// Bytes of payload; at least `bytes.len()`.
    pub length: u32,
    /// The captured bytes: the first ones.
    pub bytes: &'a [u8],
}

/// What the kernel has counted between a socket and a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatagramTotals {
    /// The socket.
    pub socket: ConnectionId,
    /// The other end.
    pub remote: SocketAddr,
    /// When the first datagram passed.
    pub started: Monotonic,
    /// When the last passed.
    pub last: Monotonic,
    /// All that passed.
    pub total: Traffic,
}

/// One decoded kernel record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A connection was established, or first seen.
    Opened {
        /// It.
        connection: Connection,
        /// Index of its slot in the map of live connections, if it has one.
        slot: Option<u32>,
    },
    /// A connection ended.
    Closed {
        /// All that is known of it.
        connection: Connection,
        /// How it ended.
        closed: Closed,
        /// Index of its slot.
        slot: Option<u32>,
        /// Records of it that were lost in all.
        lost: u32,
    },
    /// A connection attempt failed.
    Failed {
        /// What was tried.
        connection: Connection,
        /// When it failed.
        at: Monotonic,
        /// Why.
        failure: ConnectFailure,
        /// Index of its slot.
        slot: Option<u32>,
    },
    /// Bytes of a segment.
    Segment {
        /// Of which connection.
        id: ConnectionId,
        /// Index of its slot.
        slot: Option<u32>,
        /// Records of this connection lost just before this one.
        lost: u16,
        /// The bytes.
        segment: Segment<'a>,
    },
    /// The last request segment and the first segment that answered it.
    Pair {
        /// Of which connection.
        id: ConnectionId,
        /// Index of its slot.
        slot: Option<u32>,
        /// Records of this connection lost just before this one.
        lost: u16,
        /// The request segment.
        request: Segment<'a>,
        /// The segment of the other direction.
        response: Segment<'a>,
    },
    /// Bytes that reached a listener with the end of a handshake; the connection's own record
    /// follows and has the same ports and sequence number.
    ListenerSegment {
        /// Local port.
        local_port: u16,
        /// Remote port.
        remote_port: u16,
        /// The bytes; the position is 0.
        segment: Segment<'a>,
    },
    /// A datagram of UDP.
    Datagram(Datagram<'a>),
    /// A process made a socket of TCP or UDP.
    Process {
        /// When.
        time: Monotonic,
        /// The process.
        owner: Owner,
    },
    /// What only a packet of a connection could tell.
    Placed {
        /// Which.
        id: ConnectionId,
        /// Inode of the cgroup v2 directory of its socket.
        cgroup: u64,
        /// Local and remote address on the wire, where they differ from the socket's.
        wire: Option<(SocketAddr, SocketAddr)>,
    },
    /// A thread that had one request to answer wrote to a server.
    Caused(Caused),
    /// A process was seen to hand requests from thread to thread: what its threads caused and was
    /// not told yet is not certain.
    HandsOver {
        /// Process id.
        pid: u32,
    },
}
