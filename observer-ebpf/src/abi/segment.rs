//! Records that carry payload bytes.

use super::Header;

/// Bits of [`SegmentPart::flags`].
pub mod flag {
    /// The segment carried a FIN: no byte follows it in this direction.
    pub const FIN: u8 = 1 << 0;
    /// The segment carried a RST.
    pub const RESET: u8 = 1 << 1;
    /// The segment starts exactly where the last new data of its direction ended. When it is not
    /// set, earlier bytes may still come.
    pub const IN_ORDER: u8 = 1 << 2;
    /// The end of an omitted body: the record has no bytes, only a position and a time.
    pub const BODY_END: u8 = 1 << 3;
    /// The segment was filtered against a listener (it completed a handshake): the cookie is the
    /// listener's, the connection's own follows in a record with the same ports and sequence.
    pub const LISTENER: u8 = 1 << 4;
    /// HTTP/2: the kernel follows the frames of this direction, and the record starts where a
    /// frame does.
    pub const FRAME: u8 = 1 << 5;
    /// HTTP/2: the kernel does not know where the frames of this direction start, and omits
    /// nothing. User space can tell by a hint to skip.
    pub const UNFRAMED: u8 = 1 << 6;
}

/// One segment, or a window of one; 40 bytes. Its captured bytes follow the record.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentPart {
    /// When the segment passed the socket.
    pub time_ns: u64,
    /// Offset of the first byte in the stream of this direction, counted from the first byte seen.
    pub position: u64,
    /// TCP sequence number of the first byte.
    pub sequence: u32,
    /// TCP acknowledgement number of the segment.
    pub acknowledgement: u32,
    /// Payload bytes that the part stands for.
    pub length: u32,
    /// How many of them were captured; always the first ones.
    pub captured: u32,
    /// One of [`super::direction`].
    pub direction: u8,
    /// Bits of [`flag`].
    pub flags: u8,
    /// Explicit padding.
    pub reserved: u16,
    /// Local port in the low half, remote port in the high half; only with [`flag::LISTENER`].
    pub ports: u32,
}

/// Fixed part of [`super::kind::SEGMENT`] and [`super::kind::PAIR`] records; 104 bytes.
///
/// A `SEGMENT` uses `first` only. The captured bytes of `first`, then those of `second`, follow
/// without padding.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentRecord {
    /// Kind, time and cookie.
    pub header: Header,
    /// The segment; in a pair, the request segment that was held back.
    pub first: SegmentPart,
    /// In a pair, the first segment of the other direction; otherwise zero.
    pub second: SegmentPart,
}

const _: () = assert!(size_of::<SegmentPart>() == 40);
const _: () = assert!(size_of::<SegmentRecord>() == 104);
