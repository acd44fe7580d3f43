//! The slot: what user space can read of a live connection at any time, without a record.

/// Index that says "this connection has no slot".
pub const NO_SLOT: u32 = u32::MAX;

/// Bytes of a held request that a slot shows.
pub const SLOT_HEAD: usize = 96;

/// What user space tells the kernel about a connection, in [`Slot::verdict`].
pub mod verdict {
    /// Nothing yet.
    pub const NONE: u32 = 0;
    /// Not a protocol that is decoded: count bytes, ship none.
    pub const OPAQUE: u32 = 1;
    /// The stream was lost: ship nothing until a segment starts like a request.
    pub const RESYNC: u32 = 2;
    /// It speaks HTTP/1.
    pub const HTTP: u32 = 3;
    /// It speaks HTTP/2. The hints to skip are positions of frame headers.
    pub const HTTP2: u32 = 4;
    /// It speaks HTTP/2, and the content of its DATA frames is wanted.
    pub const HTTP2_DATA: u32 = 5;
}

/// A live connection as user space sees it; 192 bytes, in an array map that is mapped into memory.
///
/// User space writes the fields that say so, the kernel all others. Reads race with
/// writes: a reader must check `cookie` and take numbers as of "about now".
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Cookie of the connection that has the slot; 0 while free.
    pub cookie: u64,
    /// Payload bytes received, each once.
    pub received_bytes: u64,
    /// Payload bytes sent, each once.
    pub sent_bytes: u64,
    /// Time of the last segment with payload.
    pub last_ns: u64,
    /// When the held request passed the socket; 0 while none is held.
    pub held_ns: u64,
    /// Segments sent again.
    pub retransmits: u32,
    /// Smoothed round-trip time, microseconds.
    pub srtt_us: u32,
    /// Minimum round-trip time, microseconds; 0 until sampled.
    pub min_rtt_us: u32,
    /// Bytes of the held request in `head`.
    pub head_length: u32,
    /// The first bytes of the held request.
    pub head: [u8; SLOT_HEAD],
    /// User space: one of [`verdict`] in the low 8 bits, a number that changes with each verdict
    /// above.
    pub verdict: u32,
    /// Turns, see [`super::ConnectionRecord::turns`]; wraps around.
    pub turns: u32,
    /// User space: ingress bytes before this position need not be shipped.
    pub skip_ingress: u64,
    /// User space: egress bytes before this position need not be shipped.
    pub skip_egress: u64,
    /// Segments received, control segments included.
    pub received_segments: u32,
    /// Segments sent, control segments and retransmits included.
    pub sent_segments: u32,
    /// See [`super::ConnectionRecord::turns_ns`].
    pub turns_ns: u64,
}

const _: () = assert!(size_of::<Slot>() == 192);
