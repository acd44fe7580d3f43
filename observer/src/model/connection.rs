//! TCP connections as one socket sees them.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use super::{security::Opening, time::Monotonic};

/// A socket's cookie: names one end of one connection, unique until reboot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// Which end of the connection the observed socket is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Role {
    /// Not known: the connection is older than the observer and nothing has shown it yet.
    #[default]
    Unknown,
    /// The socket called `connect`.
    Client,
    /// The socket came out of `accept`.
    Server,
}

/// Direction of bytes, seen from the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the network to the socket.
    Ingress,
    /// From the socket to the network.
    Egress,
}

/// The process that made a socket, or made the listener that it was accepted from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Owner {
    /// Process id in the initial pid namespace; 0 when unknown.
    pub pid: u32,
    /// Effective user id.
    pub uid: u32,
    /// Inode of the cgroup v2 directory; 0 when unknown.
    pub cgroup: u64,
    /// Cookie of the network namespace; 0 when unknown.
    pub network_namespace: u64,
    /// Thread name.
    pub command: String,
}

/// A connection, as known when it was established or first seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Which socket.
    pub id: ConnectionId,
    /// Which end.
    pub role: Role,
    /// Local address of the socket; IPv4 also for v4-mapped sockets.
    pub local: SocketAddr,
    /// Remote address of the socket: what the application dialled, or who called it.
    pub remote: SocketAddr,
    /// Local and remote address that packets carry, where an address translation made them differ
    /// from the socket's: what really answered.
    pub wire: Option<(SocketAddr, SocketAddr)>,
    /// Who made the socket.
    pub owner: Owner,
    /// When `connect` was called, or the connection was first seen.
    pub started: Monotonic,
    /// When the handshake was done; `None` when it never was, or was before the observer.
    pub established: Option<Monotonic>,
    /// The sequence numbers of the first byte sent and received: the same two, exchanged, at the
    /// other end, also through address translation. `None` for connections older than us.
    pub sequences: Option<(u32, u32)>,
    /// Older than the observer.
    pub pre_existing: bool,
}

/// Who ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClosedBy {
    /// The observed socket was the first to send FIN or RST.
    Local,
    /// The other end was.
    Remote,
    /// Nobody: retransmission gave up.
    Timeout,
    /// Not seen.
    Unknown,
}

/// Why a connection was never made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConnectFailure {
    /// A RST answered the SYN.
    Refused,
    /// Nothing answered.
    TimedOut,
    /// An ICMP error answered, or there was no route.
    Unreachable,
    /// A server's half-open connection was reset.
    Reset,
    /// The application gave up first.
    Abandoned,
}

/// Bytes, segments and round-trip times of a connection up to now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transfer {
    /// Payload bytes received, each once.
    pub received_bytes: u64,
    /// Payload bytes sent, each once.
    pub sent_bytes: u64,
    /// Segments received, control segments included.
    pub received_segments: u32,
    /// Segments sent, control segments and retransmits included.
    pub sent_segments: u32,
    /// Segments sent again.
    pub retransmits: u32,
    /// Smoothed round-trip time, microseconds; 0 when never measured.
    pub smoothed_rtt_us: u32,
    /// Minimum round-trip time, microseconds; `None` when never measured.
    pub minimum_rtt_us: Option<u32>,
    /// Payload bytes, both ways, that were understood as part of an exchange.
    pub understood_bytes: u64,
    /// Turns of a connection whose bytes are not read: what the client says, and what the server
    /// answers before the client speaks again. Handshakes of TLS are none. With one request at a
    /// time they are the requests; with several at once they are fewer, and mean little.
    pub turns: u64,
    /// From the first byte of the client to the last of the server, at this socket, all turns
    /// together. Of the last one what was answered so far; nothing of one without an answer.
    pub turn_nanoseconds: u64,
}

/// The end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed {
    /// When.
    pub at: Monotonic,
    /// Who ended it.
    pub by: ClosedBy,
    /// With a RST.
    pub reset: bool,
    /// Totals.
    pub transfer: Transfer,
}

/// What a stage after `assemble` hears of connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectionEvent {
    /// Established, or first seen.
    Opened(Connection),
    /// Totals of a live connection, about once a second while it moves.
    Progress {
        /// Which.
        id: ConnectionId,
        /// Totals so far.
        transfer: Transfer,
    },
    /// What only a packet of the connection could tell.
    Placed {
        /// Which.
        id: ConnectionId,
        /// Inode of the cgroup v2 directory of its socket.
        cgroup: u64,
        /// Local and remote address on the wire, where they differ from the socket's.
        wire: Option<(SocketAddr, SocketAddr)>,
    },
    /// Its first bytes showed what it is; again when more is known.
    Recognised {
        /// Which.
        id: ConnectionId,
        /// What they showed.
        opening: Arc<Opening>,
    },
    /// Ended.
    Closed {
        /// Which, and all that is known of it.
        connection: Connection,
        /// How.
        closed: Closed,
    },
    /// Never made.
    Failed {
        /// What was tried.
        connection: Connection,
        /// When it failed.
        at: Monotonic,
        /// Why.
        failure: ConnectFailure,
    },
}

// === impl Role ===

impl Role {
    /// Name in flows, JSON and labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}

// === impl Direction ===

impl Direction {
    /// The other direction.
    pub const fn reverse(self) -> Self {
        match self {
            Self::Ingress => Self::Egress,
            Self::Egress => Self::Ingress,
        }
    }
}

// === impl Connection ===

impl Connection {
    /// Ports that the connection was made to: as dialled, and on the wire where that is another
    /// truth. None while it is not known which end is the server's.
    pub fn server_ports(&self) -> impl Iterator<Item = u16> {
        let ends = [Some((self.local, self.remote)), self.wire];
        ends.into_iter()
            .flatten()
            .filter_map(|(local, remote)| match self.role {
                Role::Client => Some(remote.port()),
                Role::Server => Some(local.port()),
                Role::Unknown => None,
            })
    }
}

// === impl ClosedBy ===

impl ClosedBy {
    /// Whether it was the client, for a socket of `role`; where nobody was seen, `otherwise`. `None`
    /// when it is not known, or it was nobody.
    pub fn is_client(self, role: Role, otherwise: Option<bool>) -> Option<bool> {
        match self {
            Self::Local => Some(role == Role::Client),
            Self::Remote => Some(role == Role::Server),
            Self::Timeout => None,
            Self::Unknown => otherwise,
        }
    }

    /// Name in flows, JSON and labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Remote => "remote",
            Self::Timeout => "timeout",
            Self::Unknown => "unknown",
        }
    }
}

// === impl ConnectFailure ===

impl ConnectFailure {
    /// Name in flows, JSON and labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::TimedOut => "timed_out",
            Self::Unreachable => "unreachable",
            Self::Reset => "reset",
            Self::Abandoned => "abandoned",
        }
    }
}

/// `address` as IPv4 when it is an IPv4-mapped IPv6 address (RFC 4291 section 2.5.5.2).
pub fn canonical(address: [u8; 16]) -> IpAddr {
    std::net::Ipv6Addr::from(address).to_canonical()
}
