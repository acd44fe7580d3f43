//! Every segment of every socket (`cgroup_skb`, both directions): which bytes leave for user space.
//!
//! Steady state of keep-alive HTTP/1: the request segment is held in socket storage, the first
//! segment of its response takes it along: one record an exchange. Everything else falls back to
//! one record a segment, of which user space makes sense.

pub mod adopt;
mod deliver;
mod frames;
pub mod header;
mod phases;
mod ship;
mod turns;

use aya_ebpf::{
    bindings::{__sk_buff, bpf_sock},
    helpers::{
        bpf_ktime_get_ns,
        generated::{bpf_spin_lock, bpf_spin_unlock, bpf_tcp_sock},
    },
    macros::cgroup_skb,
    programs::SkBuffContext,
};
use observer_ebpf::{
    abi::{Slot, close, direction, flag, kind},
    counters,
    packet::{sequence_distance, tcp_flag},
    sniff::FRAME_HEADER,
};

use self::{
    adopt::{observer_adopt, observer_first_packet, report},
    deliver::{deed, observer_deliver_in, observer_deliver_out},
    frames::{observer_pieces_in, observer_pieces_out},
    header::{Packet, full_socket, parse},
    phases::{first_payload, is_shipped, obey, resync},
    turns::observer_turn,
};
use crate::{
    emit,
    state::{Socket, hold, phase},
};

const INGRESS: usize = direction::INGRESS as usize;
const EGRESS: usize = direction::EGRESS as usize;
/// How often the round-trip time is sampled into the slot.
const SAMPLE_NS: u64 = 500_000_000;

/// `BPF_CGROUP_INET_INGRESS` (4.10): before TCP takes the segment.
#[cgroup_skb(ingress)]
pub fn observer_ingress(context: SkBuffContext) -> i32 {
    if let Some(packet) = wanted::<INGRESS>(&context) {
        let (place, numbers, rest) = packet.pack();
        let done = observer_segment_in(context.skb.skb, place, numbers, rest);
        if done != 0 {
            observer_pieces_in(context.skb.skb, place, numbers, rest, done);
        }
    }
    1
}

/// `BPF_CGROUP_INET_EGRESS` (4.10): after the segment left TCP, after POSTROUTING.
#[cgroup_skb(egress)]
pub fn observer_egress(context: SkBuffContext) -> i32 {
    if let Some(packet) = wanted::<EGRESS>(&context) {
        let (place, numbers, rest) = packet.pack();
        let done = observer_segment_out(context.skb.skb, place, numbers, rest);
        if done != 0 {
            observer_pieces_out(context.skb.skb, place, numbers, rest, done);
        }
    }
    1
}

/// The headers of a packet that tells something. A bare acknowledgement does not, and as many of
/// these pass as segments with data.
#[inline(always)]
fn wanted<const DIRECTION: usize>(context: &SkBuffContext) -> Option<Packet> {
    let packet = parse::<DIRECTION>(context)?;
    let ending = packet.flags & (tcp_flag::FIN | tcp_flag::RST);
    (packet.length != 0 || ending != 0).then_some(packet)
}

/// A segment that came in. See [`segment`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn observer_segment_in(
    skb: *mut __sk_buff,
    place: u64,
    numbers: u64,
    rest: u64,
) -> u64 {
    segment::<INGRESS>(&SkBuffContext::new(skb), place, numbers, rest).unwrap_or(0)
}

/// A segment that goes out. See [`segment`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn observer_segment_out(
    skb: *mut __sk_buff,
    place: u64,
    numbers: u64,
    rest: u64,
) -> u64 {
    segment::<EGRESS>(&SkBuffContext::new(skb), place, numbers, rest).unwrap_or(0)
}

/// What is to be done with new bytes, decided under the lock.
struct Decision {
    /// Stream position of the first new byte.
    position: u64,
    /// Bytes of the payload that are not new, or are omitted.
    trim: u32,
    /// Bytes of the payload that are new, or early.
    fresh: u32,
    /// Nothing to ship.
    skip: bool,
    /// The omitted body ends with this segment.
    body_end: bool,
    /// No earlier byte is under way.
    in_order: bool,
    /// The hold is ours until we let go.
    claimed: bool,
    /// It had a request.
    held: bool,
}

/// Places a segment in its stream and hands on what is new. Returns how many of its bytes are done
/// with, when [`observer_pieces_in`] is to take the rest.
#[inline(always)]
fn segment<const DIRECTION: usize>(
    context: &SkBuffContext,
    place: u64,
    numbers: u64,
    rest: u64,
) -> Option<u64> {
    let packet = Packet::unpack(place, numbers, rest);
    let sk = full_socket(context)?;
    let socket = match emit::socket(sk, 0) {
        Some(socket) => socket,
        None => {
            let ingress = u32::from(DIRECTION == INGRESS);
            let adopted = observer_adopt(context.skb.skb, place, ingress);
            if DIRECTION == INGRESS && adopted == adopt::LISTENER {
                // Not from there: the stack of all functions together is bounded.
                adopt::listener_segment(context, &packet);
            }
            if adopted != 1 {
                return None;
            }
            emit::socket(sk, 0)?
        }
    };
    if socket.phase == phase::IGNORED || socket.phase == phase::ENDED {
        return None;
    }
    // SAFETY: a plain helper.
    let now = unsafe { bpf_ktime_get_ns() };
    if DIRECTION == EGRESS && socket.wire_checked == 0 || socket.cgroup == 0 {
        let egress = u32::from(DIRECTION == EGRESS);
        observer_first_packet(context.skb.skb, rest, now, egress);
    }
    let new = decide::<DIRECTION>(sk, socket, &packet);
    let mut slot = emit::slot(socket.slot);
    if packet.length > 0 {
        emit::count(counters::SEGMENTS);
        if let Some(slot) = slot.as_deref_mut() {
            slot.last_ns = now;
            slot.received_bytes = socket.bytes[INGRESS];
            slot.sent_bytes = socket.bytes[EGRESS];
            if now - socket.sampled_ns > SAMPLE_NS {
                sample(sk, socket, slot, now);
            }
        }
        if turns::matters::<DIRECTION>(socket) {
            let place = u64::from(packet.offset) | u64::from(new.fresh) << 32;
            observer_turn(context.skb.skb, place, now, u32::from(DIRECTION == EGRESS));
        }
    }
    if socket.phase == phase::FRESH && !new.skip && packet.length > 0 {
        // The first payload of the connection tells what it may be.
        socket.phase = if new.in_order {
            first_payload::<DIRECTION>(context, sk, socket, &packet)
        } else {
            // The first payload is still under way: only user space can tell, in order.
            phase::HTTP
        };
    } else if socket.phase == phase::UNSYNCED && !new.skip && packet.length >= FRAME_HEADER as u32 {
        resync::<DIRECTION>(context, socket, &packet, &new);
    }
    let mut delivers = is_shipped(socket.phase);
    if delivers {
        if let Some(slot) = slot.as_deref_mut() {
            obey(socket, slot);
            delivers = is_shipped(socket.phase);
        }
    }
    let mut done = 0;
    if delivers {
        done = hand_on::<DIRECTION>(context, socket, &packet, &new, now);
        if done != 0 {
            done += u64::from(new.trim);
        }
    } else if new.claimed {
        socket.hold = hold::EMPTY;
    }
    if packet.flags & (tcp_flag::FIN | tcp_flag::RST) != 0 {
        ending::<DIRECTION>(sk, socket, packet.flags, now);
    }
    Some(done)
}

/// Gives new bytes, and what is worth telling without any, to `deliver`.
#[inline(always)]
fn hand_on<const DIRECTION: usize>(
    context: &SkBuffContext,
    socket: &mut Socket,
    packet: &Packet,
    new: &Decision,
    now: u64,
) -> u64 {
    let ending = packet.flags & (tcp_flag::FIN | tcp_flag::RST) != 0;
    if new.skip && !new.body_end && !ending {
        return 0;
    }
    let mut deeds = 0;
    if socket.phase == phase::HTTP2 {
        deeds |= deed::FRAMES;
    } else if socket.phase == phase::OPENING {
        deeds |= deed::OPENING;
    }
    if new.in_order {
        deeds |= u64::from(flag::IN_ORDER);
    }
    if packet.flags & tcp_flag::FIN != 0 {
        deeds |= u64::from(flag::FIN);
    }
    if packet.flags & tcp_flag::RST != 0 {
        deeds |= u64::from(flag::RESET);
    }
    if new.claimed {
        deeds |= deed::CLAIMED;
    }
    if new.held {
        deeds |= deed::HELD;
    }
    let mut length = packet.length - new.trim;
    let mut position = new.position;
    if new.skip {
        // The end of an omitted body, or a FIN or RST without new data.
        length = 0;
        position = socket.position[DIRECTION];
        deeds |= u64::from(flag::BODY_END);
    }
    socket.seen_ns[DIRECTION] = now;
    let place = u64::from(packet.offset + new.trim) | u64::from(length) << 32;
    let sequence = packet.first_sequence().wrapping_add(new.trim);
    let numbers = u64::from(sequence) | u64::from(packet.acknowledgement) << 32;
    if DIRECTION == INGRESS {
        observer_deliver_in(context.skb.skb, position, place, numbers, deeds)
    } else {
        observer_deliver_out(context.skb.skb, position, place, numbers, deeds)
    }
}

/// Places the segment in its stream, and claims the hold. All under the lock: two segments of one
/// socket may be looked at on two CPUs at once.
#[inline(always)]
fn decide<const DIRECTION: usize>(
    sk: *mut bpf_sock,
    socket: &mut Socket,
    packet: &Packet,
) -> Decision {
    let sequence = packet.first_sequence();
    // On the way in a segment may be early: what TCP itself has in order is the reference then.
    let mut floor = sequence;
    let mut has_floor = false;
    if DIRECTION == INGRESS && socket.synced[DIRECTION] != 0 && socket.next[DIRECTION] != sequence {
        // SAFETY: a full socket.
        let tcp = unsafe { bpf_tcp_sock(sk) };
        if !tcp.is_null() {
            // SAFETY: checked.
            floor = unsafe { (*tcp).rcv_nxt };
            has_floor = true;
        }
    }
    let mut decision = Decision {
        position: 0,
        trim: 0,
        fresh: 0,
        skip: true,
        body_end: false,
        in_order: true,
        claimed: false,
        held: false,
    };
    let ending = packet.flags & (tcp_flag::FIN | tcp_flag::RST) != 0;
    // SAFETY: the lock is in the map value; no helper is called until it is released.
    unsafe { bpf_spin_lock(&raw mut socket.lock) };
    if socket.synced[DIRECTION] == 0 {
        socket.synced[DIRECTION] = 1;
        socket.next[DIRECTION] = sequence;
        socket.first_sequence[DIRECTION] = sequence;
    }
    let mut next = socket.next[DIRECTION];
    let mut position = socket.position[DIRECTION];
    if has_floor {
        let ahead = sequence_distance(next, floor);
        if ahead > 0 {
            position += ahead as u64;
            socket.bytes[DIRECTION] += ahead as u64;
            next = floor;
        }
    }
    let gap = sequence_distance(next, sequence);
    let mut length = packet.length;
    if gap >= 0 {
        decision.position = position + gap as u64;
    } else {
        let old = gap.unsigned_abs();
        decision.trim = if old > length { length } else { old };
        length -= decision.trim;
        decision.position = position;
    }
    if length > 0 && (gap <= 0 || DIRECTION == EGRESS) {
        // New bytes in order. Egress cannot be early; a gap there is something we never saw.
        let jump = if gap > 0 { gap as u64 } else { 0 };
        position = decision.position + length as u64;
        next = sequence.wrapping_add(packet.length);
        socket.bytes[DIRECTION] += length as u64 + jump;
    } else if length > 0 {
        decision.in_order = false;
    }
    socket.position[DIRECTION] = position;
    socket.next[DIRECTION] = next;
    decision.fresh = length;
    let end = decision.position + length as u64;
    let skip_until = socket.skip_until[DIRECTION];
    if length > 0 {
        if end > skip_until {
            decision.skip = false;
            if decision.position < skip_until {
                let omitted = (skip_until - decision.position) as u32;
                decision.trim += omitted;
                decision.position = skip_until;
            }
        } else if end == skip_until {
            decision.body_end = true;
        }
    }
    if socket.hold != hold::BUSY && (!decision.skip || decision.body_end || ending) {
        decision.held = socket.hold == hold::HELD;
        socket.hold = hold::BUSY;
        decision.claimed = true;
    }
    // SAFETY: see above.
    unsafe { bpf_spin_unlock(&raw mut socket.lock) };
    if length == 0 && packet.length > 0 {
        emit::count(counters::DUPLICATE_SEGMENT);
    }
    decision
}

/// Samples what TCP measures into the slot.
#[inline(always)]
fn sample(sk: *mut bpf_sock, socket: &mut Socket, slot: &mut Slot, now: u64) {
    socket.sampled_ns = now;
    // SAFETY: a full socket; the result is checked.
    unsafe {
        let tcp = bpf_tcp_sock(sk);
        if !tcp.is_null() {
            slot.retransmits = (*tcp).total_retrans;
            slot.srtt_us = (*tcp).srtt_us >> 3;
            slot.min_rtt_us = (*tcp).rtt_min;
            slot.received_segments = (*tcp).segs_in;
            slot.sent_segments = (*tcp).segs_out;
        }
    }
}

/// Notes a FIN or RST; the end of a connection that is older than us shows here only.
#[inline(always)]
fn ending<const DIRECTION: usize>(sk: *mut bpf_sock, socket: &mut Socket, flags: u8, now: u64) {
    let mut end = socket.end as u8;
    if flags & tcp_flag::FIN != 0 {
        if DIRECTION == EGRESS {
            if end & (close::FIN_RECEIVED | close::FIN_SENT) == 0 {
                end |= close::LOCAL_FIRST;
            }
            end |= close::FIN_SENT;
        } else {
            end |= close::FIN_RECEIVED;
        }
    }
    if flags & tcp_flag::RST != 0 {
        end |= if DIRECTION == EGRESS {
            close::RESET_SENT
        } else {
            close::RESET_RECEIVED
        };
    }
    socket.end = end.into();
    let both = close::FIN_SENT | close::FIN_RECEIVED;
    if end & close::PRE_EXISTING != 0
        && (end & both == both || end & (close::RESET_SENT | close::RESET_RECEIVED) != 0)
    {
        report(sk, socket, kind::CLOSED, now);
        socket.phase = phase::ENDED;
    }
}
