//! What becomes of a segment's bytes: held back, joined with their response, shipped, or omitted.

use aya_ebpf::{
    EbpfContext, bindings::__sk_buff, helpers::generated::bpf_skb_load_bytes,
    programs::SkBuffContext,
};
use observer_ebpf::{
    abi::{SLOT_HEAD, SegmentPart, Slot, flag, role},
    counters,
    sniff::{self, FRAME_HEADERS, Framing, NO_LENGTH},
};

use super::{
    EGRESS, INGRESS,
    frames::{self, Piece},
    header::full_socket,
    ship::{What, observer_ship},
};
use crate::{
    emit,
    state::{Hold, REQUEST_CAPTURE, RESPONSE_CAPTURE, Socket, hold, phase},
};

/// What `deliver` has to know of a segment, in one number: `flag`s in the low byte.
pub(super) mod deed {
    /// The hold is this run's.
    pub(in crate::probes) const CLAIMED: u64 = 1 << 8;
    /// It has a request.
    pub(in crate::probes) const HELD: u64 = 1 << 9;
    /// The bytes are HTTP/2.
    pub(in crate::probes) const FRAMES: u64 = 1 << 10;
    /// The bytes are the first of something else.
    pub(in crate::probes) const OPENING: u64 = 1 << 11;
}

/// Delivers a segment that came in. See [`deliver`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn observer_deliver_in(
    skb: *mut __sk_buff,
    position: u64,
    place: u64,
    numbers: u64,
    deeds: u64,
) -> u64 {
    deliver::<INGRESS>(&SkBuffContext::new(skb), position, place, numbers, deeds).unwrap_or(0)
}

/// Delivers a segment that goes out. See [`deliver`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn observer_deliver_out(
    skb: *mut __sk_buff,
    position: u64,
    place: u64,
    numbers: u64,
    deeds: u64,
) -> u64 {
    deliver::<EGRESS>(&SkBuffContext::new(skb), position, place, numbers, deeds).unwrap_or(0)
}

/// Ships, holds or pairs what `decide` found to be new: `place` has the offset and the length of
/// the new bytes, `numbers` the sequence and acknowledgement number.
///
/// Written as one plan that is carried out at the end: every place that sends or frames would be
/// verified once more for each path that leads to it.
///
/// Returns how many of the bytes are done with, when `observer_pieces` is to take the rest.
#[inline(always)]
fn deliver<const DIRECTION: usize>(
    context: &SkBuffContext,
    position: u64,
    place: u64,
    numbers: u64,
    deeds: u64,
) -> Option<u64> {
    let sk = full_socket(context)?;
    let socket = emit::socket(sk, 0)?;
    let flags = deeds as u8;
    let now = socket.seen_ns[DIRECTION];
    let mut part = SegmentPart {
        time_ns: now,
        position,
        sequence: numbers as u32,
        acknowledgement: (numbers >> 32) as u32,
        length: (place >> 32) as u32,
        captured: 0,
        direction: DIRECTION as u8,
        flags,
        reserved: 0,
        ports: 0,
    };
    if deeds & deed::OPENING != 0 {
        socket.hold = hold::EMPTY;
        // Also many short segments are too many.
        socket.shipped += u64::from(part.length) + OPENING_SEGMENT;
        if socket.shipped > OPENING_BUDGET {
            socket.phase = phase::OPAQUE;
        }
        let what = What::new(flags, DIRECTION).whole();
        observer_ship(context.skb.skb, position, place, numbers, what.0);
        return None;
    }
    let was_held = deeds & deed::HELD != 0;
    let framed = deeds & deed::FRAMES != 0;
    let mut piece = Piece {
        keep: part.length,
        omit: 0,
    };
    if framed && flags & flag::IN_ORDER != 0 {
        part.flags |= frames::known::<DIRECTION>(socket, position);
        piece = frames::walk::<DIRECTION>(context, socket, position, place);
        part.length = piece.keep;
    }
    if piece.omit != 0 {
        part.flags &= !(flag::FIN | flag::RESET);
    }
    let flags_of_part = part.flags;
    let mut paired = false;
    let mut whole = true;
    if deeds & deed::CLAIMED != 0 {
        if let Some(held) = emit::hold(sk) {
            let offset = place as u32;
            let plan = if framed {
                // SAFETY: a field of the map value; volatile because another function wrote it.
                let kinds = unsafe { (&raw const socket.frames[DIRECTION]).read_volatile() };
                let may_hold = piece.omit == 0
                    && part.flags & flag::UNFRAMED == 0
                    && kinds & !HOLDABLE == 0
                    && kinds & 1 << FRAME_HEADERS != 0;
                plan_frames::<DIRECTION>(
                    context, socket, held, &mut part, offset, was_held, may_hold,
                )
            } else {
                plan::<DIRECTION>(context, socket, held, &mut part, offset, was_held)
            };
            if plan == Plan::HOLD {
                show(emit::slot(socket.slot), held, now);
                socket.hold = hold::HELD;
                return None;
            }
            if was_held {
                hide(emit::slot(socket.slot));
                emit::send_hold(socket, held, plan == Plan::PAIR, now);
            }
            socket.hold = hold::EMPTY;
            paired = plan == Plan::PAIR;
            whole = plan != Plan::START;
        } else {
            emit::count(counters::STORAGE_FULL);
            socket.hold = hold::EMPTY;
        }
    }
    if !paired {
        let mut what = What::new(flags_of_part, DIRECTION).captured(part.captured);
        if whole {
            what = what.whole();
        }
        let place = (place & 0xffff_ffff) | u64::from(piece.keep) << 32;
        observer_ship(context.skb.skb, position, place, numbers, what.0);
    }
    // Not here: the stack of all functions together is bounded.
    (piece.omit != 0).then_some(u64::from(piece.keep) + u64::from(piece.omit))
}

/// Decides what becomes of bytes of HTTP/2: requests that are small and alone wait for what comes
/// back, whatever it answers; streams are told apart by user space.
#[inline(always)]
fn plan_frames<const DIRECTION: usize>(
    context: &SkBuffContext,
    socket: &mut Socket,
    held: &mut Hold,
    part: &mut SegmentPart,
    offset: u32,
    was_held: bool,
    may_hold: bool,
) -> Plan {
    let ending = part.flags & (flag::FIN | flag::RESET) != 0;
    let simple = part.flags & flag::IN_ORDER != 0 && !ending && part.length > 0;
    let request = (DIRECTION == EGRESS) == (socket.role == u32::from(role::CLIENT));
    if !simple {
        return Plan::WHOLE;
    }
    if request {
        if was_held || !may_hold || part.length > REQUEST_CAPTURE as u32 {
            return Plan::WHOLE;
        }
        return hold_back(context, socket, held, part, offset);
    }
    if was_held && part.length <= RESPONSE_CAPTURE as u32 {
        let captured = load_response(context, held, part, offset);
        if captured == part.length {
            part.captured = captured;
            held.record.second = *part;
            return Plan::PAIR;
        }
    }
    Plan::WHOLE
}

/// What becomes of a segment.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Plan(u32);

impl Plan {
    /// It is held back.
    const HOLD: Self = Self(0);
    /// It leaves with the held request.
    const PAIR: Self = Self(1);
    /// Its start leaves, as much as `captured` says: the rest is proven to be body.
    const START: Self = Self(2);
    /// All of it leaves.
    const WHOLE: Self = Self(3);
}

/// Decides what becomes of a segment, with the hold in hand.
#[inline(always)]
fn plan<const DIRECTION: usize>(
    context: &SkBuffContext,
    socket: &mut Socket,
    held: &mut Hold,
    part: &mut SegmentPart,
    offset: u32,
    was_held: bool,
) -> Plan {
    let ending = part.flags & (flag::FIN | flag::RESET) != 0;
    let simple = part.flags & flag::IN_ORDER != 0 && !ending && part.length > 0;
    let request = (DIRECTION == EGRESS) == (socket.role == u32::from(role::CLIENT));
    let end = part.position + u64::from(part.length);
    let large = part.length > PROOF_FROM;
    if !simple {
        if request {
            held.request_length = 0;
        }
        held.response_length = 0;
        return Plan::WHOLE;
    }
    if request && !large && !was_held {
        // The usual request: small, and nothing is waiting.
        return hold_back(context, socket, held, part, offset);
    }
    if !request && (was_held || held.response_length == 0 && held.request_length != 0) {
        let captured = load_response(context, held, part, offset);
        part.captured = captured;
        if was_held && captured == part.length {
            held.record.second = *part;
            return Plan::PAIR;
        }
    }
    if !large {
        part.captured = 0;
        return Plan::WHOLE;
    }
    let framing = frame(context, held, 0);
    if request {
        if framing.until(held.request_position) >= end {
            socket.skip_until[DIRECTION] = framing.until(held.request_position);
            part.captured = 0;
            return Plan::START;
        }
        if was_held {
            // The held bytes are still to be sent: they must not be overwritten.
            return Plan::WHOLE;
        }
        part.captured = load_request(context, held, part, offset);
        let framing = frame(context, held, 0);
        if framing.until(held.request_position) >= end {
            socket.skip_until[DIRECTION] = framing.until(held.request_position);
            return Plan::START;
        }
        part.captured = 0;
        return Plan::WHOLE;
    }
    let until = prove_response(context, socket.position[1 - DIRECTION], framing, held);
    if until >= end {
        socket.skip_until[DIRECTION] = until;
        if was_held {
            held.record.second = *part;
            return Plan::PAIR;
        }
        return Plan::START;
    }
    part.captured = 0;
    Plan::WHOLE
}

/// Types of frames that may wait for an answer (RFC 9113 section 6): DATA, HEADERS, WINDOW_UPDATE
/// and CONTINUATION. Others may be all that comes for long.
const HOLDABLE: u32 = 1 << 0 | 1 << 1 | 1 << 8 | 1 << 9;
/// What the first bytes of a connection may ship, both ways.
const OPENING_BUDGET: u64 = 96 << 10;
/// What each segment counts beside its bytes.
const OPENING_SEGMENT: u64 = 1024;

/// Holds a request back, if all of it can be loaded.
#[inline(always)]
fn hold_back(
    context: &SkBuffContext,
    socket: &mut Socket,
    held: &mut Hold,
    part: &mut SegmentPart,
    offset: u32,
) -> Plan {
    let captured = load_request(context, held, part, offset);
    if captured != part.length {
        return Plan::WHOLE;
    }
    part.captured = captured;
    held.record.first = *part;
    // A new request: what its response ships counts anew.
    socket.shipped = 0;
    Plan::HOLD
}

/// Smaller segments are shipped rather than proven to be body: that is cheaper. At least as much
/// as the hold can take of a request.
const PROOF_FROM: u32 = 1024;

/// Loads the start of a request segment, which is not empty, into the hold; returns how many bytes.
#[inline(always)]
fn load_request(context: &SkBuffContext, held: &mut Hold, part: &SegmentPart, offset: u32) -> u32 {
    let length = emit::bounded(part.length.into(), REQUEST_CAPTURE as u64);
    // SAFETY: the length is bounded by the buffer.
    let result = unsafe {
        bpf_skb_load_bytes(
            context.as_ptr(),
            offset,
            (&raw mut held.bytes).cast(),
            length as u32,
        )
    };
    if result != 0 {
        emit::count(counters::LOAD_FAILED);
        return 0;
    }
    held.request_position = part.position;
    held.request_length = length as u32;
    held.response_length = 0;
    length as u32
}

/// Loads the start of a response segment, which is not empty, behind the request in the hold;
/// returns how many bytes.
#[inline(always)]
fn load_response(context: &SkBuffContext, held: &mut Hold, part: &SegmentPart, offset: u32) -> u32 {
    let length = emit::bounded(part.length.into(), RESPONSE_CAPTURE as u64);
    let at = emit::opaque(held.request_length.into());
    if at > REQUEST_CAPTURE as u64 {
        return 0;
    }
    // SAFETY: offset and length are bounded by their parts of the buffer.
    let result = unsafe {
        bpf_skb_load_bytes(
            context.as_ptr(),
            offset,
            (&raw mut held.bytes).cast::<u8>().add(at as usize).cast(),
            length as u32,
        )
    };
    if result != 0 {
        emit::count(counters::LOAD_FAILED);
        return 0;
    }
    held.response_position = part.position;
    held.response_length = length as u32;
    length as u32
}

/// Where the content of the response in the hold ends, 0 when that cannot be proven: there was
/// exactly one request (up to `requested`), it was not HEAD or CONNECT, and the status is one that
/// has content.
#[inline(always)]
fn prove_response(
    context: &SkBuffContext,
    requested: u64,
    request: Framing,
    held: &mut Hold,
) -> u64 {
    if request.head == 0 || held.response_length == 0 {
        return 0;
    }
    let content = if request.content == NO_LENGTH {
        0
    } else {
        request.content
    };
    if held.request_position + u64::from(request.head) + content != requested {
        return 0;
    }
    // HEAD and CONNECT: the responses have no content whatever they say.
    // Behind a PROXY header ("PROXY ") it may be either.
    let behind = held.bytes[0] == b'P' && held.bytes[3] == b'X';
    if held.bytes[0] == b'H' || held.bytes[0] == b'C' || behind {
        return 0;
    }
    let at = emit::opaque(held.request_length.into());
    if at > REQUEST_CAPTURE as u64 {
        return 0;
    }
    // "HTTP/1.1 200": 1xx, 204 and 304 have no content (RFC 9112 section 6.3).
    // SAFETY: the response part of the buffer is longer than a status line.
    let (hundreds, units) = unsafe {
        let status = (&raw const held.bytes).cast::<u8>().add(at as usize);
        (*status.add(9), *status.add(11))
    };
    if hundreds == b'1' || (hundreds == b'2' || hundreds == b'3') && units == b'4' {
        return 0;
    }
    frame(context, held, 1).until(held.response_position)
}

/// Frames the head of the request (`response` 0) or of the response in the hold of the packet's
/// socket, and leaves what it found in the hold's framing.
///
/// A global function (5.6): it is verified once, for any caller, and not once more for every path
/// that leads to it. So it takes nothing but the context, and finds the hold by itself.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn observer_frame(skb: *mut __sk_buff, response: u32) -> u64 {
    let context = SkBuffContext::new(skb);
    let Some(sk) = full_socket(&context) else {
        return 0;
    };
    let Some(held) = emit::hold(sk) else { return 0 };
    // Without branches: a pointer may move by one number only at one place, whatever the path.
    let response = u64::from(response & 1);
    let request_length = u64::from(held.request_length);
    let at = emit::opaque(request_length * response);
    let length = u64::from(held.response_length) * response + request_length * (1 - response);
    if at > REQUEST_CAPTURE as u64 {
        return 0;
    }
    // SAFETY: `at` is bounded, and the bytes have slack behind them.
    held.framing = unsafe {
        let start = (&raw const held.bytes).cast::<u8>().add(at as usize);
        sniff::frame::<RESPONSE_CAPTURE>(start, length as usize, &mut held.scratch)
    };
    0
}

/// Calls [`observer_frame`].
#[inline(always)]
fn frame(context: &SkBuffContext, held: &mut Hold, response: u32) -> Framing {
    held.framing = Framing {
        head: 0,
        content: NO_LENGTH,
    };
    observer_frame(context.skb.skb, response);
    // SAFETY: a field of the map value; volatile because the function wrote it behind our back.
    unsafe { (&raw const held.framing).read_volatile() }
}

/// Shows a held request in the connection's slot.
#[inline(always)]
fn show(slot: Option<&'static mut Slot>, held: &Hold, now: u64) {
    if let Some(slot) = slot {
        let from = (&raw const held.bytes).cast::<u64>();
        let to = (&raw mut slot.head).cast::<u64>();
        let mut index = 0;
        while index < SLOT_HEAD / 8 {
            // SAFETY: both are at least `SLOT_HEAD` bytes, and aligned for words.
            unsafe { to.add(index).write(from.add(index).read()) };
            index += 1;
        }
        slot.head_length = held.request_length;
        slot.held_ns = now;
    }
}

/// Takes a request out of the connection's slot.
#[inline(always)]
fn hide(slot: Option<&'static mut Slot>) {
    if let Some(slot) = slot {
        slot.held_ns = 0;
    }
}
