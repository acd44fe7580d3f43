//! Records of a connection's life: established, ended, failed, rewritten.

use super::Header;

/// Which end of the connection the socket is.
pub mod role {
    /// Older than the programs, and nothing has shown it yet.
    pub const UNKNOWN: u8 = 0;
    /// The socket called `connect`.
    pub const CLIENT: u8 = 1;
    /// The socket came out of `accept`.
    pub const SERVER: u8 = 2;
}

/// What is known of a connection's end, as bits of [`ConnectionRecord::end`].
pub mod close {
    /// The socket sent a FIN.
    pub const FIN_SENT: u8 = 1 << 0;
    /// The socket received a FIN.
    pub const FIN_RECEIVED: u8 = 1 << 1;
    /// The socket sent a RST.
    pub const RESET_SENT: u8 = 1 << 2;
    /// The socket received a RST.
    pub const RESET_RECEIVED: u8 = 1 << 3;
    /// Retransmission gave up (`BPF_SOCK_OPS_RTO_CB` with its `expired` argument set).
    pub const TIMED_OUT: u8 = 1 << 4;
    /// The application had closed its last descriptor (`cgroup/sock_release`).
    pub const RELEASED: u8 = 1 << 5;
    /// The first FIN was ours: set together with [`FIN_SENT`] when no FIN had been received.
    pub const LOCAL_FIRST: u8 = 1 << 6;
    /// The connection was established before the programs were attached.
    pub const PRE_EXISTING: u8 = 1 << 7;
}

/// The process that made a socket, or made the listener that a socket was accepted from; 48 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// Process id (thread group) in the initial pid namespace; 0 when unknown.
    pub tgid: u32,
    /// Effective user id.
    pub uid: u32,
    /// Inode of the cgroup v2 directory of the process; 0 when unknown.
    pub cgroup: u64,
    /// `bpf_get_netns_cookie` of the socket's network namespace; 0 when unknown.
    pub netns: u64,
    /// Thread name (`comm`), NUL padded.
    pub comm: [u8; 16],
    /// Thread id.
    pub tid: u32,
    /// Explicit padding.
    pub reserved: u32,
}

/// A connection was established, ended, or failed to be made; 240 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionRecord {
    /// Kind, time and cookie.
    pub header: Header,
    /// Local address of the socket, network byte order; IPv4 as `::ffff:a.b.c.d`.
    pub local_address: [u8; 16],
    /// Remote address of the socket: what the application dialled, or who called it.
    pub remote_address: [u8; 16],
    /// Local port, host byte order.
    pub local_port: u16,
    /// Remote port, host byte order.
    pub remote_port: u16,
    /// One of [`role`].
    pub role: u8,
    /// Bits of [`close`].
    pub end: u8,
    /// TCP state the socket was in before it closed (`TCP_SYN_SENT` = 2 and so on).
    pub last_state: u8,
    /// Explicit padding.
    pub reserved: u8,
    /// Who made the socket.
    pub owner: Owner,
    /// Inode of the cgroup v2 directory of the socket itself; 0 until its first packet.
    pub cgroup: u64,
    /// When `connect` was called, or the connection was first seen.
    pub started_ns: u64,
    /// When the handshake was done; 0 if it never was, or was before the programs.
    pub established_ns: u64,
    /// Payload bytes that the socket received, each once.
    pub received_bytes: u64,
    /// Payload bytes that the socket sent, each once.
    pub sent_bytes: u64,
    /// Segments received, control segments included (`tcp_sock.segs_in`).
    pub received_segments: u32,
    /// Segments sent, control segments and retransmits included (`tcp_sock.segs_out`).
    pub sent_segments: u32,
    /// Segments sent again (`tcp_sock.total_retrans`).
    pub retransmits: u32,
    /// Smoothed round-trip time, microseconds.
    pub srtt_us: u32,
    /// Minimum round-trip time, microseconds; `u32::MAX` when never measured.
    pub min_rtt_us: u32,
    /// Sequence number of the first byte that the socket sends.
    pub local_sequence: u32,
    /// Sequence number of the first byte that the socket receives.
    pub remote_sequence: u32,
    /// Records of this connection lost in all.
    pub lost_records: u32,
    /// Local and remote address as packets carry them, when they differ from the socket's.
    pub wire_local_address: [u8; 16],
    /// See `wire_local_address`.
    pub wire_remote_address: [u8; 16],
    /// See `wire_local_address`; 0 when packets carry the socket's own addresses.
    pub wire_local_port: u16,
    /// See `wire_local_port`.
    pub wire_remote_port: u16,
    /// Explicit padding.
    pub reserved2: u32,
    /// Turns of a connection whose bytes are not read: what the client says, and what the server
    /// answers before the client speaks again. Handshakes of TLS are none.
    pub turns: u64,
    /// From the first byte of the client to the last of the server, all turns together. Of the last
    /// one what was answered so far.
    pub turns_ns: u64,
}

/// What only a packet of the connection could tell: its socket's cgroup, where the maker of the
/// socket is not known, and other addresses than the socket's; 72 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlaceRecord {
    /// Kind, time and cookie.
    pub header: Header,
    /// Inode of the cgroup v2 directory of the socket.
    pub cgroup: u64,
    /// Local address in the packet.
    pub local_address: [u8; 16],
    /// Remote address in the packet.
    pub remote_address: [u8; 16],
    /// Local port in the packet; 0 when the packet carries the socket's addresses.
    pub local_port: u16,
    /// Remote port in the packet.
    pub remote_port: u16,
    /// Explicit padding.
    pub reserved: u32,
}

const _: () = assert!(size_of::<Owner>() == 48);
const _: () = assert!(size_of::<ConnectionRecord>() == 240);
const _: () = assert!(size_of::<PlaceRecord>() == 72);
