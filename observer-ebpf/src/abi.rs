//! Layout of every record that crosses the ring buffer and of every map that user space reads.
//!
//! All integers are in native byte order (both sides run on one machine), addresses and packet
//! fields are named where they differ. Times are `CLOCK_MONOTONIC` nanoseconds
//! (`bpf_ktime_get_ns`). No field is a `bool` or an enum: any bit pattern is a valid value, and
//! decoding checks the ones that have a meaning.

mod cause;
mod connection;
mod datagram;
mod process;
mod segment;
mod settings;
mod slot;

pub use cause::{CERTAIN, CauseRecord};
pub use connection::{ConnectionRecord, Owner, PlaceRecord, close, role};
pub use datagram::{DatagramFlow, DatagramKey, DatagramRecord, purpose};
pub use process::ProcessRecord;
pub use segment::{SegmentPart, SegmentRecord, flag};
pub use settings::Settings;
pub use slot::{NO_SLOT, SLOT_HEAD, Slot, verdict};

/// Kinds of record, the first field of every [`Header`].
pub mod kind {
    /// [`super::ConnectionRecord`]: a connection was established, or was first seen.
    pub const OPENED: u16 = 1;
    /// [`super::ConnectionRecord`]: a connection ended.
    pub const CLOSED: u16 = 2;
    /// [`super::ConnectionRecord`]: a connection attempt ended without a connection.
    pub const FAILED: u16 = 3;
    /// [`super::SegmentRecord`] with one part: bytes of one segment.
    pub const SEGMENT: u16 = 4;
    /// [`super::SegmentRecord`] with two parts: the last request segment that was held back,
    /// and the first segment of the other direction.
    pub const PAIR: u16 = 5;
    /// [`super::ProcessRecord`]: a process made a socket of TCP or UDP.
    pub const PROCESS: u16 = 6;
    /// [`super::PlaceRecord`]: what only a packet of the connection could tell.
    pub const PLACE: u16 = 7;
    /// [`super::DatagramRecord`]: a datagram of UDP.
    pub const DATAGRAM: u16 = 8;
    /// [`super::CauseRecord`]: a thread that had a request to answer wrote to a server.
    pub const CAUSE: u16 = 9;
    /// [`super::CauseRecord`]: a process was seen to hand requests from thread to thread.
    pub const HANDOVER: u16 = 10;
}

/// Direction of a segment, seen from the socket.
pub mod direction {
    /// From the network to the socket.
    pub const INGRESS: u8 = 0;
    /// From the socket to the network.
    pub const EGRESS: u8 = 1;
}

/// What every record starts with; 24 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// One of [`kind`].
    pub kind: u16,
    /// Records of this connection that did not fit into the ring buffer since its last record.
    pub lost: u16,
    /// Index of the connection's [`Slot`], or [`NO_SLOT`].
    pub slot: u32,
    /// Time of the record; for segments, when the last of its bytes passed the socket.
    pub time_ns: u64,
    /// The socket's cookie (`bpf_get_socket_cookie`), unique until reboot; 0 for [`kind::PROCESS`].
    pub cookie: u64,
}

const _: () = assert!(size_of::<Header>() == 24);

/// A type that crosses the ring buffer: `repr(C)`, without implicit padding, any bits valid.
///
/// # Safety
///
/// The implementor must be all that.
pub unsafe trait Record: Copy {}

// SAFETY: integers and arrays of integers only, padding is explicit, sizes are asserted.
unsafe impl Record for Header {}
// SAFETY: as above.
unsafe impl Record for ConnectionRecord {}
// SAFETY: as above.
unsafe impl Record for PlaceRecord {}
// SAFETY: as above.
unsafe impl Record for SegmentRecord {}
// SAFETY: as above.
unsafe impl Record for ProcessRecord {}
// SAFETY: as above.
unsafe impl Record for CauseRecord {}
// SAFETY: as above.
unsafe impl Record for DatagramRecord {}
// SAFETY: as above.
unsafe impl Record for DatagramKey {}
// SAFETY: as above.
unsafe impl Record for DatagramFlow {}
// SAFETY: as above.
unsafe impl Record for Slot {}

/// Reads a record from the start of `bytes`; `None` when there are too few.
pub fn read<T: Record>(bytes: &[u8]) -> Option<T> {
    if bytes.len() < size_of::<T>() {
        return None;
    }
    // SAFETY: there are enough bytes, alignment does not matter, and any bits are valid.
    Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

/// The bytes of a record, as the kernel would send them: for fixtures and tests.
pub fn bytes_of<T: Record>(record: &T) -> &[u8] {
    // SAFETY: a valid reference to a type without implicit padding.
    unsafe { core::slice::from_raw_parts(core::ptr::from_ref(record).cast(), size_of::<T>()) }
}
