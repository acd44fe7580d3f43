//! Datagrams of UDP: what passed between a socket and a peer, and the QUIC connection in them.

use std::{borrow::Cow, net::SocketAddr, sync::Arc, time::Duration};

use super::{
    connection::{ConnectionId, Owner, Role},
    kubernetes::Service,
    security::Handshake,
    time::Monotonic,
    workload::{Peer, Workload},
};

/// What datagrams carry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DatagramProtocol {
    /// DNS, by its port.
    Dns,
    /// QUIC, by its first packet (RFC 9000).
    Quic,
    /// Anything else, or not known.
    #[default]
    Other,
}

/// Datagrams and the bytes of their payload, by direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes received.
    pub received_bytes: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Datagrams received.
    pub received_packets: u64,
    /// Datagrams sent.
    pub sent_packets: u64,
}

/// A QUIC connection, as far as its first packet is in the clear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quic {
    /// Version of the first packet; see [`version_name`].
    pub version: u32,
    /// Which end the socket is.
    pub role: Role,
    /// What the client offers; `None` when it could not be read.
    pub handshake: Option<Arc<Handshake>>,
}

/// What passed between a socket and a peer since it was last told, about once a second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagrams {
    /// The socket.
    pub socket: ConnectionId,
    /// Who made it.
    pub owner: Owner,
    /// Address of the socket.
    pub local: SocketAddr,
    /// The peer: what a connected socket dialled, else what packets carry.
    pub remote: SocketAddr,
    /// What they carry.
    pub protocol: DatagramProtocol,
    /// The QUIC connection in them, the latest.
    pub quic: Option<Arc<Quic>>,
    /// When the first passed.
    pub started: Monotonic,
    /// When the last passed.
    pub last: Monotonic,
    /// Since it was last told.
    pub change: Traffic,
    /// Since the first.
    pub total: Traffic,
    /// Nothing has passed for long: the flow is over. A later datagram starts another.
    pub ended: bool,
}

/// Datagrams with who sends and receives them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversation {
    /// What passed.
    pub datagrams: Datagrams,
    /// Whose socket it is.
    pub workload: Arc<Workload>,
    /// Who is at the other end.
    pub peer: Peer,
    /// The Service of Kubernetes that was dialled, where that is known.
    pub dialled: Option<Arc<Service>>,
}

/// Versions 1 and 2 (RFC 9000, RFC 9369).
pub const QUIC_V1: u32 = 1;
/// See [`QUIC_V1`].
pub const QUIC_V2: u32 = 0x6b33_43cf;

/// Name of a version of QUIC: `1`, `2`, `draft-29`, or its number.
pub fn version_name(version: u32) -> Cow<'static, str> {
    match version {
        QUIC_V1 => Cow::Borrowed("1"),
        QUIC_V2 => Cow::Borrowed("2"),
        0xff00_0001..=0xff00_00ff => Cow::Owned(format!("draft-{:02}", version & 0xff)),
        _ => Cow::Owned(format!("{version:#010x}")),
    }
}

// === impl DatagramProtocol ===

impl DatagramProtocol {
    /// Name in flows, JSON and labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Quic => "quic",
            Self::Other => "udp",
        }
    }
}

// === impl Traffic ===

impl Traffic {
    /// Nothing at all.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds what `other` has.
    pub fn add(&mut self, other: &Self) {
        self.received_bytes += other.received_bytes;
        self.sent_bytes += other.sent_bytes;
        self.received_packets += other.received_packets;
        self.sent_packets += other.sent_packets;
    }

    /// What was added since `earlier`; `None` when `earlier` has more of something.
    pub fn since(&self, earlier: &Self) -> Option<Self> {
        Some(Self {
            received_bytes: self.received_bytes.checked_sub(earlier.received_bytes)?,
            sent_bytes: self.sent_bytes.checked_sub(earlier.sent_bytes)?,
            received_packets: self
                .received_packets
                .checked_sub(earlier.received_packets)?,
            sent_packets: self.sent_packets.checked_sub(earlier.sent_packets)?,
        })
    }
}

// === impl Datagrams ===

impl Datagrams {
    /// From the first datagram to the last.
    pub fn duration(&self) -> Duration {
        self.last.since(self.started)
    }

    /// Which end the socket is, if the protocol tells.
    pub fn role(&self) -> Role {
        self.quic
            .as_ref()
            .map_or(Role::Unknown, |connection| connection.role)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_have_names() {
        assert_eq!(version_name(1), "1");
        assert_eq!(version_name(QUIC_V2), "2");
        assert_eq!(version_name(0xff00_001d), "draft-29");
        assert_eq!(version_name(0xface_b002), "0xfaceb002");
    }
}
