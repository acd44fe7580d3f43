//! Shipping a segment as it is: whole in windows, or only its start.

use aya_ebpf::{bindings::__sk_buff, helpers::bpf_ktime_get_ns, programs::SkBuffContext};
use observer_ebpf::{
    abi::{SegmentPart, direction, flag},
    counters,
};

use super::{EGRESS, INGRESS, header::full_socket};
use crate::emit;

/// Bytes of one window of a segment that is shipped whole.
const WINDOW: u32 = 16384;
/// Windows a segment is shipped in at most: 256 KiB. Loopback sends two segments of 64 KiB at once,
/// BIG TCP (5.19) up to 185 KiB by default.
const WINDOWS: u32 = 16;
/// What a connection may ship beyond one window a segment for one exchange, or before user space
/// gives a verdict.
pub(super) const SHIP_BUDGET: u64 = 64 << 20;

/// What [`observer_ship`] is to do, in one number: `flag`s in the low byte.
#[derive(Clone, Copy)]
pub(super) struct What(pub(super) u64);

impl What {
    const EGRESS: u64 = 1 << 8;
    const WHOLE: u64 = 1 << 9;

    #[inline(always)]
    pub(super) fn new(flags: u8, direction: usize) -> Self {
        Self(u64::from(flags) | if direction == EGRESS { Self::EGRESS } else { 0 })
    }

    /// All of the segment, in windows.
    #[inline(always)]
    pub(super) fn whole(self) -> Self {
        Self(self.0 | Self::WHOLE)
    }

    /// With more `flag`s.
    #[inline(always)]
    pub(super) fn with(self, flags: u8) -> Self {
        Self(self.0 | u64::from(flags))
    }

    /// Without what ends the segment.
    #[inline(always)]
    pub(super) fn without_end(self) -> Self {
        Self(self.0 & !u64::from(flag::FIN | flag::RESET))
    }

    /// Only its first bytes.
    #[inline(always)]
    pub(super) fn captured(self, bytes: u32) -> Self {
        Self(self.0 | u64::from(bytes) << 32)
    }
}

/// Ships bytes of the packet's payload: `place` has their offset and length, `numbers` the sequence
/// and acknowledgement number. `position` is that of the first byte; for a listener, the ports.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn observer_ship(
    skb: *mut __sk_buff,
    position: u64,
    place: u64,
    numbers: u64,
    what: u64,
) -> u64 {
    let context = SkBuffContext::new(skb);
    let flags = what as u8;
    let egress = what & What::EGRESS != 0;
    let last = flags & (flag::FIN | flag::RESET);
    let total = (place >> 32) as u32;
    let mut part = SegmentPart {
        time_ns: 0,
        position,
        sequence: numbers as u32,
        acknowledgement: (numbers >> 32) as u32,
        length: total,
        captured: (what >> 32) as u32,
        direction: if egress {
            direction::EGRESS
        } else {
            direction::INGRESS
        },
        flags,
        reserved: 0,
        ports: 0,
    };
    let mut socket = None;
    let mut cookie = 0;
    if flags & flag::LISTENER != 0 {
        cookie = emit::cookie(&context);
        // SAFETY: a plain helper.
        part.time_ns = unsafe { bpf_ktime_get_ns() };
        part.position = 0;
        part.ports = position as u32;
    } else {
        let Some(sk) = full_socket(&context) else {
            return 0;
        };
        let Some(found) = emit::socket(sk, 0) else {
            return 0;
        };
        // Both are read, then one is chosen: a pointer that moves by a variable is refused without
        // CAP_PERFMON.
        // SAFETY: fields of the map value.
        let (came_in, went_out) = unsafe {
            (
                (&raw const found.seen_ns[INGRESS]).read_volatile(),
                (&raw const found.seen_ns[EGRESS]).read_volatile(),
            )
        };
        part.time_ns = if egress { went_out } else { came_in };
        socket = Some(found);
    }
    let mut whole = what & What::WHOLE != 0;
    if total > WINDOW
        && whole
        && let Some(socket) = socket.as_deref_mut()
    {
        socket.shipped += u64::from(total);
        if socket.shipped > SHIP_BUDGET {
            // User space has had its chance to say where this body ends.
            emit::count(counters::BUDGET_SPENT);
            part.captured = WINDOW;
            whole = false;
        }
    }
    let offset = place as u32;
    let mut done = 0;
    let mut index = 0;
    while index < WINDOWS {
        index += 1;
        let mut length = total - done;
        if whole {
            if length > WINDOW && index < WINDOWS {
                length = WINDOW;
            }
            part.captured = if length > WINDOW { WINDOW } else { length };
            part.length = length;
            part.flags = flags & !(flag::FIN | flag::RESET);
            if done != 0 {
                part.flags &= !flag::FRAME;
            }
            if done + length == total {
                part.flags |= last;
            }
        }
        emit::send_window(
            &context,
            socket.as_deref_mut(),
            cookie,
            &part,
            offset + done,
        );
        part.position += u64::from(length);
        part.sequence = part.sequence.wrapping_add(length);
        done += length;
        if done >= total {
            break;
        }
    }
    0
}
