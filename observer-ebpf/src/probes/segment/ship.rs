//! Shipping a segment as it is: whole in windows, or only its start.

use aya_ebpf::{bindings::__sk_buff, helpers::bpf_ktime_get_ns, programs::SkBuffContext};
use observer_ebpf::{
    abi::{SegmentPart, direction, flag},
    counters,
};

use super::{EGRESS, INGRESS, header::full_socket};
use crate::emit;

/// Bytes of one window of a segment that is shipped whole, in sixteen at most: 256 KiB. Loopback sends
/// two segments of 64 KiB at once, BIG TCP (5.19) up to 185 KiB by default.
const WINDOW: u32 = 16384;
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
    let flags = what as u8;
    let total = (place >> 32) as u32;
    let mut captured = (what >> 32) as u32;
    let mut whole = what & What::WHOLE != 0;
    if total > WINDOW && whole && flags & flag::LISTENER == 0 && spend(skb, total).is_none() {
        // User space has had its chance to say where this body ends.
        emit::count(counters::BUDGET_SPENT);
        captured = WINDOW;
        whole = false;
    }
    if !whole {
        let place = (place & 0xffff_ffff) | u64::from(captured) << 32;
        let what = (what & 0xffff_ffff) | u64::from(total) << 32;
        return observer_window(skb, position, place, numbers, what);
    }
    let mut windows = Windows {
        skb,
        position,
        place,
        numbers,
        what,
    };
    // No loop: without CAP_PERFMON one with a constant bound is followed beyond it.
    let _ = windows.next(false)
        || windows.next(false)
        || windows.next(false)
        || windows.next(false)
        || windows.next(false)
        || windows.next(false)
        || windows.next(false)
        || windows.next(false)
        || windows.next(false)
        || windows.next(false)
        || windows.next(false)
        || windows.next(false)
        || windows.next(false)
        || windows.next(false)
        || windows.next(false)
        || windows.next(true);
    0
}

/// What is left to ship of a segment that leaves whole.
struct Windows {
    skb: *mut __sk_buff,
    position: u64,
    place: u64,
    numbers: u64,
    what: u64,
}

impl Windows {
    /// Sends the next window; whether it was the last. What is left after the sixteenth leaves with
    /// it, uncaptured.
    #[inline(always)]
    fn next(&mut self, sixteenth: bool) -> bool {
        let left = self.place >> 32;
        let window = u64::from(WINDOW);
        let captured = if left > window { window } else { left };
        let length = if sixteenth { left } else { captured };
        let mut flags = self.what & 0xff;
        if length != left {
            flags &= !u64::from(flag::FIN | flag::RESET);
        }
        observer_window(
            self.skb,
            self.position,
            (self.place & 0xffff_ffff) | captured << 32,
            self.numbers,
            flags | self.what & What::EGRESS | length << 32,
        );
        self.what &= !u64::from(flag::FRAME);
        self.position += if flags & u64::from(flag::LISTENER) != 0 {
            length << 32
        } else {
            length
        };
        self.place = ((self.place & 0xffff_ffff) + length) | (left - length) << 32;
        let sequence = (self.numbers as u32).wrapping_add(length as u32);
        self.numbers = (self.numbers >> 32) << 32 | u64::from(sequence);
        length == left
    }
}

/// Counts `bytes` beyond one window; `None` when the budget is spent.
#[inline(always)]
fn spend(skb: *mut __sk_buff, bytes: u32) -> Option<()> {
    let sk = full_socket(&SkBuffContext::new(skb))?;
    let socket = emit::socket(sk, 0)?;
    socket.shipped += u64::from(bytes);
    (socket.shipped <= SHIP_BUDGET).then_some(())
}

/// Sends one window: `place` has its offset and how many bytes are captured, `what` how many bytes it
/// stands for in the high half. For a listener, `position` has the ports in the low half and the
/// position in the high one.
///
/// A function of its own, so that what makes a record is verified once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn observer_window(
    skb: *mut __sk_buff,
    position: u64,
    place: u64,
    numbers: u64,
    what: u64,
) -> u64 {
    let context = SkBuffContext::new(skb);
    let flags = what as u8;
    let egress = what & What::EGRESS != 0;
    let mut part = SegmentPart {
        time_ns: 0,
        position,
        sequence: numbers as u32,
        acknowledgement: (numbers >> 32) as u32,
        length: (what >> 32) as u32,
        captured: (place >> 32) as u32,
        direction: if egress {
            direction::EGRESS
        } else {
            direction::INGRESS
        },
        flags,
        reserved: 0,
        ports: 0,
    };
    if flags & flag::LISTENER != 0 {
        // SAFETY: a plain helper.
        part.time_ns = unsafe { bpf_ktime_get_ns() };
        part.position = position >> 32;
        part.ports = position as u32;
        let cookie = emit::cookie(&context);
        emit::send_window(&context, None, cookie, &part, place as u32);
        return 0;
    }
    let Some(sk) = full_socket(&context) else {
        return 0;
    };
    let Some(socket) = emit::socket(sk, 0) else {
        return 0;
    };
    // Both are read, then one is chosen: a pointer that moves by a variable is refused without
    // CAP_PERFMON.
    // SAFETY: fields of the map value.
    let (came_in, went_out) = unsafe {
        (
            (&raw const socket.seen_ns[INGRESS]).read_volatile(),
            (&raw const socket.seen_ns[EGRESS]).read_volatile(),
        )
    };
    part.time_ns = if egress { went_out } else { came_in };
    emit::send_window(&context, Some(socket), 0, &part, place as u32);
    0
}
