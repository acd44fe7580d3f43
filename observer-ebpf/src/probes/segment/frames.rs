//! HTTP/2: where frames start, so that the content of large DATA frames need not be shipped.

use aya_ebpf::{
    EbpfContext,
    bindings::__sk_buff,
    helpers::generated::{bpf_skb_load_bytes, bpf_spin_lock, bpf_spin_unlock},
    programs::SkBuffContext,
};
use observer_ebpf::{
    abi::flag,
    packet::tcp_flag,
    sniff::{FRAME_DATA, FRAME_HEADER},
};

use super::{
    EGRESS, INGRESS,
    header::{Packet, full_socket},
    ship::{SHIP_BUDGET, What, observer_ship},
};
use crate::{
    emit,
    state::{Socket, UNFRAMED},
};

/// DATA frames with more content than this leave without it.
const LARGE: u32 = 1024;
/// Bytes of the content of a large frame that leave: they tell padding, and the length of a gRPC
/// message.
const KEPT: u64 = 32;
/// Frames that one call of [`walk_on`] follows.
const FRAMES: u64 = 128;
/// Pieces that one segment leaves in: as many large frames as 64 KiB can have.
const PIECES: u64 = 64;
/// The result of [`walk_on`] when there are more frames to follow.
const MORE: u64 = 1 << 63;

/// What is to be shipped of bytes of HTTP/2.
pub(super) struct Piece {
    /// Bytes from the first on.
    pub(super) keep: u32,
    /// Bytes behind them that are to be omitted.
    pub(super) omit: u32,
}

/// Follows the frames in the bytes that came in. See [`walk_on`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn observer_walk_in(skb: *mut __sk_buff, position: u64, place: u64) -> u64 {
    walk_on::<INGRESS>(&SkBuffContext::new(skb), position, place)
}

/// Follows the frames in the bytes that go out. See [`walk_on`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn observer_walk_out(skb: *mut __sk_buff, position: u64, place: u64) -> u64 {
    walk_on::<EGRESS>(&SkBuffContext::new(skb), position, place)
}

/// Ships what is behind the first piece of a segment that came in. See [`pieces`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn observer_pieces_in(
    skb: *mut __sk_buff,
    place: u64,
    numbers: u64,
    rest: u64,
    done: u64,
) -> u64 {
    let packet = Packet::unpack(place, numbers, rest);
    pieces::<INGRESS>(&SkBuffContext::new(skb), &packet, done as u32);
    0
}

/// Ships what is behind the first piece of a segment that goes out. See [`pieces`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn observer_pieces_out(
    skb: *mut __sk_buff,
    place: u64,
    numbers: u64,
    rest: u64,
    done: u64,
) -> u64 {
    let packet = Packet::unpack(place, numbers, rest);
    pieces::<EGRESS>(&SkBuffContext::new(skb), &packet, done as u32);
    0
}

/// Follows the frames in bytes at `position`; `place` has their offset in the packet, and their
/// length.
#[inline(always)]
pub(super) fn walk<const DIRECTION: usize>(
    context: &SkBuffContext,
    socket: &mut Socket,
    position: u64,
    place: u64,
) -> Piece {
    let length = (place >> 32) as u32;
    let whole = Piece {
        keep: length,
        omit: 0,
    };
    if socket.boundary[DIRECTION] == UNFRAMED {
        return whole;
    }
    socket.frames[DIRECTION] = 0;
    let again = || {
        if DIRECTION == INGRESS {
            observer_walk_in(context.skb.skb, position, place)
        } else {
            observer_walk_out(context.skb.skb, position, place)
        }
    };
    // No loop: without CAP_PERFMON one with a constant bound is followed beyond it.
    let mut keep = again();
    if keep == MORE {
        keep = again();
    }
    if keep == MORE {
        keep = again();
    }
    if keep == MORE {
        keep = again();
    }
    // SAFETY: a field of the map value; volatile because the function wrote it behind our back.
    let boundary = unsafe { (&raw const socket.boundary[DIRECTION]).read_volatile() };
    if keep == MORE {
        socket.boundary[DIRECTION] = UNFRAMED;
        return whole;
    }
    let keep = keep as u32;
    if keep >= length {
        return whole;
    }
    let omit = boundary - (position + u64::from(keep));
    let left = length - keep;
    if omit > u64::from(left) {
        // The rest of the frame is in segments to come.
        socket.skip_until[DIRECTION] = boundary;
        return Piece { keep, omit: left };
    }
    Piece {
        keep,
        omit: omit as u32,
    }
}

/// `flag`s that tell user space how well the frames of a direction are known, before its bytes at
/// `position` are followed.
#[inline(always)]
pub(super) fn known<const DIRECTION: usize>(socket: &Socket, position: u64) -> u8 {
    let boundary = socket.boundary[DIRECTION];
    if boundary == UNFRAMED {
        flag::UNFRAMED
    } else if boundary == position {
        flag::FRAME
    } else {
        0
    }
}

/// Ships what is behind the first piece of a segment, of which `done` bytes are done with.
#[inline(always)]
fn pieces<const DIRECTION: usize>(
    context: &SkBuffContext,
    packet: &Packet,
    done: u32,
) -> Option<()> {
    let skb = context.skb.skb;
    let mut flags = flag::IN_ORDER;
    if packet.flags & tcp_flag::FIN != 0 {
        flags |= flag::FIN;
    }
    if packet.flags & tcp_flag::RST != 0 {
        flags |= flag::RESET;
    }
    let what = What::new(flags, DIRECTION);
    let left = packet.length.wrapping_sub(done);
    let place = u64::from(packet.offset.wrapping_add(done)) | u64::from(left) << 32;
    let sequence = packet.first_sequence().wrapping_add(done);
    let numbers = u64::from(sequence) | u64::from(packet.acknowledgement) << 32;
    let socket = emit::socket(full_socket(context)?, 0)?;
    let mut position = position_of::<DIRECTION>(socket, numbers as u32);
    if place >> 32 == 0 {
        end(skb, position, numbers, 0, what);
        return None;
    }
    let mut place = place;
    let mut numbers = numbers;
    let most = at_most(place >> 32, PIECES);
    let mut index = 0;
    while index < most {
        index += 1;
        let known = known::<DIRECTION>(socket, position);
        let piece = walk::<DIRECTION>(context, socket, position, place);
        let (keep, length) = (u64::from(piece.keep), place >> 32);
        let passed = keep + u64::from(piece.omit);
        let last = passed >= length;
        // What ends the segment is told with its last piece.
        let mut part = what.with(known);
        if !last || piece.omit != 0 {
            part = part.without_end();
        }
        let place_of_piece = (place & 0xffff_ffff) | keep << 32;
        observer_ship(skb, position, place_of_piece, numbers, part.whole().0);
        if last {
            if piece.omit != 0 {
                end(skb, position, numbers, passed, what);
            }
            break;
        }
        position += passed;
        place = ((place & 0xffff_ffff) + passed) | (length - passed) << 32;
        let sequence = (numbers as u32).wrapping_add(passed as u32);
        numbers = (numbers >> 32) << 32 | u64::from(sequence);
    }
    None
}

/// Stream position of a sequence number that has passed.
#[inline(always)]
fn position_of<const DIRECTION: usize>(socket: &mut Socket, sequence: u32) -> u64 {
    // SAFETY: the lock is in the map value; no helper is called until it is released.
    let (next, position) = unsafe {
        bpf_spin_lock(&raw mut socket.lock);
        let known = (socket.next[DIRECTION], socket.position[DIRECTION]);
        bpf_spin_unlock(&raw mut socket.lock);
        known
    };
    position.wrapping_sub(u64::from(next.wrapping_sub(sequence)))
}

/// Tells that a segment ended with bytes that were omitted: when, and whether with a FIN.
#[inline(always)]
fn end(skb: *mut __sk_buff, position: u64, numbers: u64, ahead: u64, what: What) {
    let sequence = (numbers as u32).wrapping_add(ahead as u32);
    let numbers = (numbers >> 32) << 32 | u64::from(sequence);
    let what = what.with(flag::BODY_END).whole();
    observer_ship(skb, position + ahead, 0, numbers, what.0);
}

/// Follows frames from the boundary on, and moves it. Returns how many bytes from the first one on
/// are to be shipped: all, or those up to and into the next large DATA frame, whose end is the
/// boundary then; or [`MORE`].
#[inline(always)]
fn walk_on<const DIRECTION: usize>(context: &SkBuffContext, position: u64, place: u64) -> u64 {
    let length = place >> 32;
    let Some(sk) = full_socket(context) else {
        return length;
    };
    let Some(socket) = emit::socket(sk, 0) else {
        return length;
    };
    let offset = place & 0xffff_ffff;
    let end = position + length;
    let mut large = LARGE;
    // Within a budget: at gigabytes a second the ring buffer would overflow.
    if socket.with_data != 0 && socket.shipped <= SHIP_BUDGET {
        large = u32::MAX;
    }
    let mut at = socket.boundary[DIRECTION];
    let mut frames = socket.frames[DIRECTION];
    // Of a header four bytes are needed: length and type (RFC 9113 section 4.1). Up to three may
    // have come with the last segment.
    let mut count = u64::from(socket.partial[DIRECTION] >> 24) & 3;
    let mut carried = u64::from(socket.partial[DIRECTION] & 0x00ff_ffff);
    if at + count < position {
        // Bytes passed that we did not see.
        socket.boundary[DIRECTION] = UNFRAMED;
        return length;
    }
    let mut cut = 0;
    let most = at_most(length, FRAMES);
    let mut index = 0;
    while index < most {
        index += 1;
        if at >= end || end - at < 4 {
            break;
        }
        // With carried bytes this starts before the payload: those are replaced.
        let bytes = u64::from(load(context, offset + (at.wrapping_sub(position))));
        let header = carried << (32 - 8 * count) | bytes & (0xffff_ffff >> (8 * count));
        carried = 0;
        count = 0;
        let content = (header >> 8) as u32 & 0x00ff_ffff;
        let kind = header as u32 & 0xff;
        frames |= 1 << (kind & 31);
        let start = at + FRAME_HEADER + KEPT;
        at += FRAME_HEADER + u64::from(content);
        if kind == FRAME_DATA && content > large && start < end {
            cut = start;
            break;
        }
    }
    let mut left = 0;
    if cut == 0 && at < end && end - at < 4 {
        // A header is cut off.
        if count != 0 {
            at = UNFRAMED;
        } else {
            let there = end - at;
            let bytes = load(context, offset + length - 4);
            left = (there as u32) << 24 | bytes & (0x00ff_ffff >> (8 * (3 - (there as u32 & 3))));
        }
    }
    socket.boundary[DIRECTION] = at;
    socket.partial[DIRECTION] = left;
    socket.frames[DIRECTION] = frames;
    if cut != 0 {
        cut - position
    } else if at < end && left == 0 {
        MORE
    } else {
        length
    }
}

/// Four bytes of the packet, as a big-endian number; 0 when there are none.
#[inline(always)]
fn load(context: &SkBuffContext, offset: u64) -> u32 {
    let mut word = 0_u32;
    let to = core::ptr::from_mut(&mut word).cast();
    // SAFETY: four bytes into a local of four; volatile because the helper wrote it.
    unsafe {
        bpf_skb_load_bytes(context.as_ptr(), offset as u32, to, 4);
        u32::from_be((&raw const word).read_volatile())
    }
}

/// `value`, at most `most`: a bound that the verifier does not know. A constant one would be
/// followed beyond it, as a processor might speculate.
#[inline(always)]
fn at_most(value: u64, most: u64) -> u64 {
    let mut value = emit::opaque(value);
    if value > most {
        value = most;
    }
    emit::opaque(value)
}
