//! What the programs remember of a socket: per-socket state that lives and dies with it.

use aya_ebpf::bindings::bpf_spin_lock;
use observer_ebpf::{
    abi::SegmentRecord,
    sniff::{Framing, SLACK, Scratch},
};

/// Most bytes of a request segment that are held back for its response.
pub const REQUEST_CAPTURE: usize = 768;
/// Most bytes of a response segment that join a held request.
pub const RESPONSE_CAPTURE: usize = 960;

/// What the programs think a connection carries.
pub mod phase {
    /// Established under our eyes, no payload yet.
    pub const FRESH: u32 = 0;
    /// Older than us, or lost: ships nothing until a segment starts like a request.
    pub const UNSYNCED: u32 = 1;
    /// May be HTTP/1: ships segments.
    pub const HTTP: u32 = 2;
    /// Something else: counts bytes only.
    pub const OPAQUE: u32 = 3;
    /// Not to be observed at all.
    pub const IGNORED: u32 = 4;
    /// Its end was reported: what still passes is of no interest.
    pub const ENDED: u32 = 5;
    /// HTTP/2: ships segments without the content of its large DATA frames.
    pub const HTTP2: u32 = 6;
    /// Something else, of which the first bytes are told: a handshake, a greeting.
    pub const OPENING: u32 = 7;
}

/// The next frame header is not known: everything is shipped.
pub const UNFRAMED: u64 = u64::MAX;

/// Who may touch a socket's [`Hold`].
pub mod hold {
    /// Free; its bytes are those of the latest run and may be read for framing.
    pub const EMPTY: u32 = 0;
    /// A program run works on it.
    pub const BUSY: u32 = 1;
    /// It has a request segment that waits for the first segment of its response.
    pub const HELD: u32 = 2;
}

/// State of one socket.
///
/// Both directions run at once on different CPUs: fields that decide about bytes change under
/// `lock` only.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Socket {
    pub lock: bpf_spin_lock,
    pub phase: u32,
    pub hold: u32,
    pub slot: u32,
    pub cookie: u64,
    /// Stream position of the next new byte, by direction.
    pub position: [u64; 2],
    /// Bytes before this position are omitted, by direction.
    pub skip_until: [u64; 2],
    /// Payload bytes, each once, by direction.
    pub bytes: [u64; 2],
    /// HTTP/2: stream position of the next frame header, by direction, or [`UNFRAMED`].
    pub boundary: [u64; 2],
    /// HTTP/2: the bytes of that header that came already, by direction: how many (at most three)
    /// in the high byte.
    pub partial: [u32; 2],
    /// When the segment passed that is being delivered, by direction.
    pub seen_ns: [u64; 2],
    /// Sequence number of the next new byte, by direction.
    pub next: [u32; 2],
    /// `next` is valid, by direction.
    pub synced: [u32; 2],
    /// First sequence number, by direction.
    pub first_sequence: [u32; 2],
    pub role: u32,
    /// Bits of `abi::close`.
    pub end: u32,
    /// Records lost since the last one that was sent.
    pub lost: u32,
    pub lost_records: u32,
    /// The verdict word of the slot that was last acted on.
    pub verdict: u32,
    /// Wire addresses were compared with the socket's.
    pub wire_checked: u32,
    /// HTTP/2: types of the frames in the segment that is being delivered, a bit each, by direction.
    pub frames: [u32; 2],
    /// HTTP/2: user space wants the content of DATA frames.
    pub with_data: u32,
    pub reserved: u32,
    /// Payload bytes shipped beyond one window a segment since user space last gave a verdict.
    pub shipped: u64,
    pub started_ns: u64,
    pub established_ns: u64,
    pub sampled_ns: u64,
    pub cgroup: u64,
    pub wire_local: [u32; 4],
    pub wire_remote: [u32; 4],
    /// Local port in the low half, remote port in the high half; 0 when as the socket's.
    pub wire_ports: u32,
}

/// A request segment that waits, and the bytes of the latest run of either direction.
///
/// It is one contiguous record, so that a pair leaves with one copy. `bytes` has the request's
/// captured bytes first and the response's right after them.
#[repr(C)]
pub struct Hold {
    /// Stream position of the first request byte in `bytes`.
    pub request_position: u64,
    /// Stream position of the first response byte in `bytes`.
    pub response_position: u64,
    pub request_length: u32,
    pub response_length: u32,
    pub record: SegmentRecord,
    pub bytes: [u8; REQUEST_CAPTURE + RESPONSE_CAPTURE],
    /// Room to read beyond the bytes without another check.
    pub slack: [u8; SLACK.next_multiple_of(8)],
    pub scratch: Scratch,
    pub framing: Framing,
}
