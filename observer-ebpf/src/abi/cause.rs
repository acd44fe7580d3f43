//! Records of what a thread does: which request it had read when it wrote another.

use super::Header;

/// Bit of [`CauseRecord::flags`]: up to now the process answers each request on the thread that
/// read it, its threads wait in their reads and have one request at a time, and all that had come
/// of this one was read.
pub const CERTAIN: u32 = 1 << 0;

/// A thread with one unanswered request wrote to a server ([`super::kind::CAUSE`]); 56 bytes.
///
/// [`super::kind::HANDOVER`] has the same layout and only `tgid`: from now on, and for what is under
/// way, nothing that the process's threads did is certain.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CauseRecord {
    /// Kind, time (when the write had returned) and the cookie of the socket that was written to.
    pub header: Header,
    /// Cookie of the connection that the unanswered request came on.
    pub inbound: u64,
    /// TCP sequence number of the first byte that was written.
    pub sequence: u32,
    /// Bytes that were written; a request that starts among them is meant.
    pub length: u32,
    /// TCP sequence number behind the first byte that the thread had read of the request.
    pub inbound_sequence: u32,
    /// [`CERTAIN`] or 0.
    pub flags: u32,
    /// Process id (thread group) in the initial pid namespace.
    pub tgid: u32,
    /// Thread id.
    pub tid: u32,
}

const _: () = assert!(size_of::<CauseRecord>() == 56);
