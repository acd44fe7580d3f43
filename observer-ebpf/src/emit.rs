//! Getting records out: reserve or copy, wake, and count what did not fit.

use aya_ebpf::{
    EbpfContext,
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP, bpf_sock},
    helpers::{
        bpf_ringbuf_query, bpf_sk_storage_get,
        generated::{bpf_get_socket_cookie, bpf_ringbuf_output},
    },
    programs::SkBuffContext,
};
use observer_ebpf::{
    abi::{Header, NO_SLOT, Owner, SegmentPart, SegmentRecord, Settings, Slot, kind},
    counters::{self, Counter},
};

use crate::{
    maps::{COUNTERS, EVENTS, FREE_SLOTS, HOLDS, OWNERS, SETTINGS, SLOTS, SOCKETS, TURNS},
    state::{Hold, REQUEST_CAPTURE, RESPONSE_CAPTURE, Socket, Turn},
};

/// `BPF_SK_STORAGE_GET_F_CREATE`.
pub const CREATE: u64 = 1;

/// Hides a value's origin from the optimiser, so that a bound checked after it stays checked
/// where the verifier can see it.
#[inline(always)]
pub fn opaque(mut value: u64) -> u64 {
    // SAFETY: the register is moved to itself. It is a real instruction because line information
    // must not name one instruction twice.
    unsafe { core::arch::asm!("{0} = {0}", inout(reg) value) };
    value
}

/// `value` as 1 to `most`, in a way that kernels before 6.2 follow: they do not learn from "not
/// zero" that a number is at least one.
#[inline(always)]
pub fn bounded(value: u64, most: u64) -> u64 {
    if most == 0 {
        return 0;
    }
    let mut less = opaque(value.wrapping_sub(1));
    if less > most - 1 {
        less = most - 1;
    }
    opaque(less) + 1
}

/// Adds to a number that other CPUs add to as well.
///
/// # Safety
///
/// `to` must be in a map value, and aligned.
#[inline(always)]
pub unsafe fn add(to: *mut u64, value: u64) {
    // SAFETY: promised by the caller. In assembly, as the compiler offers no atomic addition here.
    unsafe { core::arch::asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) to, in(reg) value) };
}

/// Counts one.
#[inline(always)]
pub fn count(counter: Counter) {
    if let Some(value) = COUNTERS.get_ptr_mut(counter.index) {
        // SAFETY: per-CPU element; a nested run may lose one count, which is tolerable.
        unsafe { *value += 1 };
    }
}

/// What user space wants.
#[inline(always)]
pub fn settings() -> Option<&'static Settings> {
    SETTINGS.get(0)
}

/// The state of a socket.
#[inline(always)]
pub fn socket(sk: *mut bpf_sock, flags: u64) -> Option<&'static mut Socket> {
    // SAFETY: `sk` is a socket the verifier knows; the result is checked.
    unsafe {
        bpf_sk_storage_get(storage(&SOCKETS), sk.cast(), core::ptr::null_mut(), flags)
            .cast::<Socket>()
            .as_mut()
    }
}

/// The held request of a socket.
#[inline(always)]
pub fn hold(sk: *mut bpf_sock) -> Option<&'static mut Hold> {
    // SAFETY: as above.
    unsafe {
        bpf_sk_storage_get(storage(&HOLDS), sk.cast(), core::ptr::null_mut(), CREATE)
            .cast::<Hold>()
            .as_mut()
    }
}

/// Whose turn a connection is.
#[inline(always)]
pub fn turn(sk: *mut bpf_sock, flags: u64) -> Option<&'static mut Turn> {
    // SAFETY: as above.
    unsafe {
        bpf_sk_storage_get(storage(&TURNS), sk.cast(), core::ptr::null_mut(), flags)
            .cast::<Turn>()
            .as_mut()
    }
}

/// The owner of a socket.
#[inline(always)]
pub fn owner(sk: *mut bpf_sock, flags: u64) -> Option<&'static mut Owner> {
    // SAFETY: as above.
    unsafe {
        bpf_sk_storage_get(storage(&OWNERS), sk.cast(), core::ptr::null_mut(), flags)
            .cast::<Owner>()
            .as_mut()
    }
}

#[inline(always)]
fn storage<T>(map: &'static T) -> *mut core::ffi::c_void {
    core::ptr::from_ref(map).cast_mut().cast()
}

/// Words of an [`Owner`].
const OWNER_WORDS: usize = size_of::<Owner>() / 8;

/// Copies an owner word by word: a copy of the whole becomes a call of `memcpy`, which subtracts
/// pointers, and that is refused without CAP_PERFMON.
///
/// # Safety
///
/// `to` must be valid for writes.
#[inline(always)]
pub unsafe fn copy_owner(owner: &Owner, to: *mut Owner) {
    let from = core::ptr::from_ref(owner).cast::<u64>();
    let to = to.cast::<u64>();
    const { assert!(OWNER_WORDS == 6) };
    // SAFETY: both are as long as an owner.
    unsafe {
        to.write_volatile(from.read_volatile());
        to.add(1).write_volatile(from.add(1).read_volatile());
        to.add(2).write_volatile(from.add(2).read_volatile());
        to.add(3).write_volatile(from.add(3).read_volatile());
        to.add(4).write_volatile(from.add(4).read_volatile());
        to.add(5).write_volatile(from.add(5).read_volatile());
    }
}

/// Writes an owner that is not known.
///
/// # Safety
///
/// `to` must be valid for writes.
#[inline(always)]
pub unsafe fn clear_owner(to: *mut Owner) {
    let to = to.cast::<u64>();
    // SAFETY: as long as an owner.
    unsafe {
        to.write_volatile(0);
        to.add(1).write_volatile(0);
        to.add(2).write_volatile(0);
        to.add(3).write_volatile(0);
        to.add(4).write_volatile(0);
        to.add(5).write_volatile(0);
    }
}

/// The slot of a connection.
#[inline(always)]
pub fn slot(index: u32) -> Option<&'static mut Slot> {
    // SAFETY: user space only reads the fields that the kernel writes.
    unsafe { SLOTS.get_ptr_mut(index).and_then(|slot| slot.as_mut()) }
}

/// Takes a free slot for `cookie`, or [`NO_SLOT`].
#[inline(always)]
pub fn take_slot(cookie: u64) -> u32 {
    let Ok(Some(index)) = FREE_SLOTS.pop() else {
        count(counters::SLOTS_FULL);
        return NO_SLOT;
    };
    if let Some(slot) = slot(index) {
        slot.cookie = cookie;
    }
    index
}

/// The cookie of the socket behind a context.
#[inline(always)]
pub fn cookie(context: &impl EbpfContext) -> u64 {
    // SAFETY: every context used here is accepted by the helper.
    unsafe { bpf_get_socket_cookie(context.as_ptr()) }
}

/// How a record is submitted: user space looks by itself every few milliseconds, so it is woken only
/// when the ring buffer fills up. A wake-up is an interrupt; one in many records looks whether one
/// is due.
#[inline(always)]
pub fn wakeup() -> u64 {
    wakeup_after(0)
}

/// As [`wakeup`], for a record of `bytes`: large ones fill the ring buffer soon, so each looks.
#[inline(always)]
fn wakeup_after(bytes: usize) -> u64 {
    let Some(records) = COUNTERS.get_ptr_mut(counters::RECORDS.index) else {
        return BPF_RB_NO_WAKEUP.into();
    };
    // SAFETY: a per-CPU element; a nested run may lose one count, which is tolerable.
    let number = unsafe {
        *records += 1;
        *records
    };
    if bytes < LARGE && number % WAKEUP_EVERY != 0 {
        return BPF_RB_NO_WAKEUP.into();
    }
    // SAFETY: the map is a ring buffer.
    let used = unsafe { bpf_ringbuf_query(storage(&EVENTS), BPF_RB_AVAIL_DATA.into()) };
    let limit = u64::from(settings().map_or(u32::MAX, |settings| settings.wakeup_bytes));
    // Large records wake where they cross a multiple of the limit: user space is on its way then, and
    // every further interrupt costs microseconds, most of all on a virtual machine.
    let crossing = bytes < LARGE || used & limit.wrapping_sub(1) < CROSSING;
    if used > limit && crossing {
        BPF_RB_FORCE_WAKEUP.into()
    } else {
        BPF_RB_NO_WAKEUP.into()
    }
}

/// Records of one CPU between two looks at how full the ring buffer is. They are smaller
/// than [`LARGE`], so at most 256 KiB a CPU go unnoticed.
const WAKEUP_EVERY: u64 = 64;
/// Records of this many bytes of payload look each.
const LARGE: usize = 4096;
/// Bytes behind a multiple of the limit that count as crossing it: some of the largest records.
const CROSSING: u64 = 64 << 10;

/// Notes that a record of `socket` was lost.
#[inline(always)]
pub fn lost(socket: &mut Socket) {
    count(counters::RING_FULL);
    socket.lost += 1;
    socket.lost_records += 1;
}

/// The header of a record of `socket`; takes over its pending loss.
#[inline(always)]
pub fn header(socket: &mut Socket, kind: u16, time_ns: u64) -> Header {
    let lost = socket.lost;
    socket.lost = 0;
    Header {
        kind,
        lost: if lost > u16::MAX.into() {
            u16::MAX
        } else {
            lost as u16
        },
        slot: socket.slot,
        time_ns,
        cookie: socket.cookie,
    }
}

/// Sends the held request, with the response's bytes behind it when `pair` is set.
#[inline(always)]
pub fn send_hold(socket: &mut Socket, hold: &mut Hold, pair: bool, time_ns: u64) {
    let pending = socket.lost;
    hold.record.header = header(
        socket,
        if pair { kind::PAIR } else { kind::SEGMENT },
        time_ns,
    );
    let mut length = u64::from(hold.record.first.captured);
    if pair {
        length += u64::from(hold.record.second.captured);
    }
    let length = opaque(length);
    if length > (REQUEST_CAPTURE + RESPONSE_CAPTURE) as u64 {
        return;
    }
    // SAFETY: record and bytes are contiguous (`repr(C)`, asserted below), and the length is
    // bounded by the bytes there are.
    let result = unsafe {
        bpf_ringbuf_output(
            storage(&EVENTS),
            core::ptr::from_mut(&mut hold.record).cast(),
            size_of::<SegmentRecord>() as u64 + length,
            wakeup(),
        )
    };
    if result != 0 {
        socket.lost = pending;
        lost(socket);
    }
}

const _: () = assert!(
    core::mem::offset_of!(Hold, bytes)
        == core::mem::offset_of!(Hold, record) + size_of::<SegmentRecord>()
);

/// A record with room for `N` payload bytes.
#[repr(C)]
struct Window<const N: usize> {
    record: SegmentRecord,
    bytes: [u8; N],
}

/// Sends one window of a segment, with payload at `offset` of the packet.
///
/// A record has a size that is known when the program is verified: the next power of two, so that
/// at most half of the room in the ring buffer is wasted.
///
/// `part.captured` says how many bytes to copy, at most 16384; none in the record if they could not
/// be read. Without a socket the record is a listener's, under `cookie`.
#[inline(always)]
pub fn send_window(
    context: &SkBuffContext,
    socket: Option<&mut Socket>,
    cookie: u64,
    part: &SegmentPart,
    offset: u32,
) {
    match part.captured {
        0 => send_sized::<0>(context, socket, cookie, part, offset),
        1..=256 => send_sized::<256>(context, socket, cookie, part, offset),
        257..=512 => send_sized::<512>(context, socket, cookie, part, offset),
        513..=1024 => send_sized::<1024>(context, socket, cookie, part, offset),
        1025..=2048 => send_sized::<2048>(context, socket, cookie, part, offset),
        2049..=4096 => send_sized::<4096>(context, socket, cookie, part, offset),
        4097..=8192 => send_sized::<8192>(context, socket, cookie, part, offset),
        _ => send_sized::<16384>(context, socket, cookie, part, offset),
    }
}

#[inline(always)]
fn send_sized<const N: usize>(
    context: &SkBuffContext,
    socket: Option<&mut Socket>,
    cookie: u64,
    part: &SegmentPart,
    offset: u32,
) {
    let Some(mut entry) = EVENTS.reserve::<Window<N>>(0) else {
        match socket {
            Some(socket) => lost(socket),
            None => count(counters::RING_FULL),
        }
        return;
    };
    let window = entry.as_mut_ptr();
    let captured = bounded(part.captured.into(), N as u64);
    // SAFETY: the entry is ours until it is submitted; all fields of the record are written.
    unsafe {
        let record = &raw mut (*window).record;
        (*record).header = match socket {
            Some(socket) => header(socket, kind::SEGMENT, part.time_ns),
            None => Header {
                kind: kind::SEGMENT,
                lost: 0,
                slot: NO_SLOT,
                time_ns: part.time_ns,
                cookie,
            },
        };
        (*record).first = *part;
        // Word by word: a larger store would become a call of `memset`.
        let second = (&raw mut (*record).second).cast::<u64>();
        second.write_volatile(0);
        second.add(1).write_volatile(0);
        second.add(2).write_volatile(0);
        second.add(3).write_volatile(0);
        second.add(4).write_volatile(0);
        if N > 0 && captured > 0 {
            let bytes = (&raw mut (*window).bytes).cast();
            let result = aya_ebpf::helpers::generated::bpf_skb_load_bytes(
                context.as_ptr(),
                offset,
                bytes,
                captured as u32,
            );
            if result != 0 {
                count(counters::LOAD_FAILED);
                (*record).first.captured = 0;
            }
        }
    }
    entry.submit(wakeup_after(N));
}
