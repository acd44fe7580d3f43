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

/// Who spoke last on a connection whose bytes are not read. A turn is what the client says and what
/// the server answers before the client speaks again.
pub mod turn {
    /// The client spoke, and waits.
    pub const ASKED: u32 = 1 << 0;
    /// The server has answered; more may come.
    pub const ANSWERED: u32 = 1 << 1;
    /// The client speaks TLS: only its application data is a turn.
    pub const TLS: u32 = 1 << 2;
    /// Payload of a direction changes nothing as it is, by direction from here on.
    pub const IGNORED: u32 = 1 << IGNORED_SHIFT;
    /// Where these bits start.
    pub const IGNORED_SHIFT: u32 = 8;
}

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
    /// Payload bytes that the application has read and written, by direction; counted while
    /// threads are looked at.
    pub passed: [u64; 2],
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
    /// Bits of [`turn`].
    pub turn: u32,
    /// Turns that were answered, and nanoseconds that they took in all.
    pub turns: u64,
    pub turns_ns: u64,
    /// When the turn that is under way began, or last had an answer.
    pub turn_ns: u64,
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

/// Whose turn a connection is: which thread owes an answer on it, or what caused the last request
/// on it. Apart from [`Socket`], as most connections need none.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Turn {
    /// The cookie of the connection whose request caused the last one on this; 0 before any.
    pub inbound: u64,
    /// Stream position of what had come from the other end then; where a request is to be answered,
    /// of what had been sent when it was read.
    pub received: u64,
    /// Sequence number that names that request on its connection.
    pub inbound_sequence: u32,
    /// Records since something came from the server.
    pub told: u32,
    /// A request was read that is not answered.
    pub open: u32,
    /// Sequence number behind the first byte that was read of it.
    pub sequence: u32,
    /// The thread that read it.
    pub tid: u32,
    /// Its process.
    pub tgid: u32,
    /// It waited in the read, as a thread does that has nothing else to do.
    pub waited: u32,
    /// Something was answered on this connection.
    pub answered: u32,
}

/// What a thread has read and not answered.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Thread {
    /// The cookies of the connections, combined by exclusive or: with one request its cookie.
    pub inbound: u64,
    /// Their sequence numbers, in the same way.
    pub sequence: u32,
    /// How many requests.
    pub count: u32,
    /// Its process: the number of a thread is given again.
    pub tgid: u32,
    /// The read told which request it is beyond doubt.
    pub sure: u32,
}

/// What is known of how a process works on requests.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Process {
    /// Requests that were answered by the thread that had waited for them and read them.
    pub answered: u32,
    /// Bits of [`habit`].
    pub habits: u32,
}

/// Bits of [`Process::habits`].
pub mod habit {
    /// A request was answered by another thread than the one that read it, or a thread that waits
    /// in its reads had two at a time: no thread tells anything for certain.
    pub const HANDS_OVER: u32 = 1 << 0;
    /// A cause was told as certain.
    pub const CLAIMED: u32 = 1 << 1;
}
