//! Every segment of every socket (`cgroup_skb`, both directions): which bytes leave for user space.
//!
//! Steady state of keep-alive HTTP/1: the request segment is held in socket storage, the first
//! segment of its response takes it along: one record an exchange. Everything else falls back to
//! one record a segment, of which user space makes sense.

use core::ptr::read_volatile as read;

use aya_ebpf::{
    EbpfContext,
    bindings::{__sk_buff, bpf_sock},
    helpers::{
        bpf_ktime_get_ns,
        generated::{
            bpf_sk_fullsock, bpf_skb_cgroup_id, bpf_skb_load_bytes, bpf_spin_lock, bpf_spin_unlock,
            bpf_tcp_sock,
        },
    },
    macros::cgroup_skb,
    programs::SkBuffContext,
};
use observer_ebpf::{
    abi::{
        ConnectionRecord, RewriteRecord, SLOT_HEAD, SegmentPart, close, direction, flag, kind,
        role, verdict,
    },
    counters,
    packet::{
        IPV4_MIN_HEADER, IPV6_HEADER, PROTOCOL_TCP, TCP_MIN_HEADER, ipv4_header_length,
        sequence_distance, tcp_flag, tcp_header_length,
    },
    sniff::{self, Framing, NO_LENGTH},
};

use super::connection::{MAPPED, fill, ignored, write_address};
use crate::{
    emit,
    maps::EVENTS,
    state::{Hold, REQUEST_CAPTURE, RESPONSE_CAPTURE, Socket, hold, phase},
};

const INGRESS: usize = direction::INGRESS as usize;
const EGRESS: usize = direction::EGRESS as usize;
const TCP_LISTEN: u32 = 10;
const AF_INET: u32 = 2;
/// Bytes of one window of a segment that is shipped whole.
const WINDOW: u32 = 4096;
/// Windows a segment is shipped in at most: 64 KiB, the most that GRO and GSO make without BIG TCP.
const WINDOWS: u32 = 16;
/// What a connection may ship beyond one window a segment before user space gives a verdict.
const SHIP_BUDGET: u64 = 8 << 20;
/// How often the round-trip time is sampled into the slot.
const SAMPLE_NS: u64 = 500_000_000;

/// `BPF_CGROUP_INET_INGRESS` (4.10): before TCP takes the segment.
#[cgroup_skb(ingress)]
pub fn observer_ingress(context: SkBuffContext) -> i32 {
    try_segment::<INGRESS>(&context);
    1
}

/// `BPF_CGROUP_INET_EGRESS` (4.10): after the segment left TCP, after POSTROUTING.
#[cgroup_skb(egress)]
pub fn observer_egress(context: SkBuffContext) -> i32 {
    try_segment::<EGRESS>(&context);
    1
}

/// What a packet's headers say.
struct Packet {
    /// Offset of the payload in the packet.
    offset: u32,
    /// Bytes of payload.
    length: u32,
    sequence: u32,
    acknowledgement: u32,
    /// Ports as on the wire: source in the low half, destination in the high half, host order.
    source: u16,
    destination: u16,
    flags: u8,
    version: u8,
}

/// What is to be done with new bytes, decided under the lock.
struct Decision {
    /// Stream position of the first new byte.
    position: u64,
    /// Bytes of the payload that are not new, or are omitted.
    trim: u32,
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

#[inline(always)]
fn try_segment<const DIRECTION: usize>(context: &SkBuffContext) -> Option<()> {
    let packet = parse(context)?;
    let ending = packet.flags & (tcp_flag::FIN | tcp_flag::RST);
    if packet.length == 0 && ending == 0 {
        // A bare acknowledgement: as many of these pass as segments with data.
        return None;
    }
    let sk = full_socket(context)?;
    let Some(socket) = emit::socket(sk, 0) else {
        return unknown_socket::<DIRECTION>(context, sk, &packet);
    };
    known_socket::<DIRECTION>(context, sk, socket, &packet)
}

/// A segment of a socket that has no state: a listener, or a connection older than us.
#[inline(always)]
fn unknown_socket<const DIRECTION: usize>(
    context: &SkBuffContext,
    sk: *mut bpf_sock,
    packet: &Packet,
) -> Option<()> {
    // SAFETY: a full socket.
    let state = unsafe { (*sk).state };
    if state == TCP_LISTEN {
        if DIRECTION == INGRESS && packet.length > 0 {
            listener_segment(context, packet);
        }
        return None;
    }
    if packet.length == 0 {
        return None;
    }
    let Some(socket) = emit::socket(sk, emit::CREATE) else {
        emit::count(counters::STORAGE_FULL);
        return None;
    };
    adopt(context, sk, socket);
    known_socket::<DIRECTION>(context, sk, socket, packet)
}

/// The segment that completes a handshake is filtered against the listener: ship it under the
/// listener's cookie, with what identifies the connection that comes out of it.
#[inline(always)]
fn listener_segment(context: &SkBuffContext, packet: &Packet) {
    if ignored(packet.destination) || ignored(packet.source) {
        return;
    }
    emit::count(counters::LISTENER_SEGMENT);
    let mut nobody = NOBODY;
    nobody.cookie = emit::cookie(context);
    let syn = u32::from(packet.flags & tcp_flag::SYN != 0);
    let part = SegmentPart {
        // SAFETY: a plain helper.
        time_ns: unsafe { bpf_ktime_get_ns() },
        position: 0,
        sequence: packet.sequence.wrapping_add(syn),
        acknowledgement: packet.acknowledgement,
        length: packet.length,
        captured: 0,
        direction: direction::INGRESS,
        flags: flag::LISTENER
            | flag::IN_ORDER
            | if packet.flags & tcp_flag::FIN != 0 {
                flag::FIN
            } else {
                0
            },
        reserved: 0,
        ports: u32::from(packet.destination) | u32::from(packet.source) << 16,
    };
    ship(context, &mut nobody, part, packet.offset, WINDOWS);
}

/// A socket state that belongs to no socket, for records of a listener.
const NOBODY: Socket = Socket {
    lock: aya_ebpf::bindings::bpf_spin_lock { val: 0 },
    phase: phase::FRESH,
    hold: hold::EMPTY,
    slot: observer_ebpf::abi::NO_SLOT,
    cookie: 0,
    position: [0; 2],
    skip_until: [0; 2],
    bytes: [0; 2],
    next: [0; 2],
    synced: [0; 2],
    first_sequence: [0; 2],
    role: 0,
    end: 0,
    lost: 0,
    lost_records: 0,
    verdict: 0,
    wire_checked: 0,
    shipped: 0,
    started_ns: 0,
    established_ns: 0,
    sampled_ns: 0,
    cgroup: 0,
    wire_local: [0; 4],
    wire_remote: [0; 4],
    wire_ports: 0,
    announced: 0,
};

/// Takes in a connection that is older than us.
#[inline(always)]
fn adopt(context: &SkBuffContext, sk: *mut bpf_sock, socket: &mut Socket) {
    socket.slot = observer_ebpf::abi::NO_SLOT;
    socket.cookie = emit::cookie(context);
    socket.phase = phase::UNSYNCED;
    socket.end = close::PRE_EXISTING.into();
    // SAFETY: a full socket.
    let (local, remote) = unsafe { ((*sk).src_port as u16, u16::from_be((*sk).dst_port)) };
    if ignored(local) || ignored(remote) {
        socket.phase = phase::IGNORED;
        return;
    }
    socket.slot = emit::take_slot(socket.cookie);
    // SAFETY: a plain helper; the context is an skb.
    unsafe {
        socket.started_ns = bpf_ktime_get_ns();
        socket.cgroup = bpf_skb_cgroup_id(context.skb.skb);
    }
    socket.announced = 1;
    report(sk, socket, kind::OPENED, socket.started_ns);
}

/// Sends a record of a connection from a packet's view.
#[inline(always)]
fn report(sk: *mut bpf_sock, socket: &mut Socket, kind: u16, now: u64) {
    let owner = emit::owner(sk, 0);
    // SAFETY: a full socket, as the callers checked.
    let tcp = unsafe { bpf_tcp_sock(sk) };
    if tcp.is_null() {
        return;
    }
    let Some(mut entry) = EVENTS.reserve::<ConnectionRecord>(0) else {
        emit::lost(socket);
        return;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: the entry is ours until submitted and every field is written.
    unsafe {
        (*record).header = emit::header(socket, kind, now);
        let (local, remote) = addresses(sk);
        write_address(&raw mut (*record).local_address, local);
        write_address(&raw mut (*record).remote_address, remote);
        (*record).local_port = (*sk).src_port as u16;
        (*record).remote_port = u16::from_be((*sk).dst_port);
        (*record).received_segments = (*tcp).segs_in;
        (*record).sent_segments = (*tcp).segs_out;
        (*record).retransmits = (*tcp).total_retrans;
        (*record).srtt_us = (*tcp).srtt_us >> 3;
        (*record).min_rtt_us = (*tcp).rtt_min;
        fill(record, socket, owner, 0);
    }
    emit::count(counters::RECORDS);
    entry.submit(emit::wakeup());
}

#[inline(always)]
fn known_socket<const DIRECTION: usize>(
    context: &SkBuffContext,
    sk: *mut bpf_sock,
    socket: &mut Socket,
    packet: &Packet,
) -> Option<()> {
    if socket.phase == phase::IGNORED || socket.phase == phase::ENDED {
        return None;
    }
    // SAFETY: a plain helper.
    let now = unsafe { bpf_ktime_get_ns() };
    if socket.wire_checked == 0 {
        first_packet::<DIRECTION>(context, sk, socket, packet, now);
    }
    let new = decide::<DIRECTION>(sk, socket, packet);
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
    }
    if socket.phase == phase::FRESH && !new.skip && packet.length > 0 {
        // The first payload of the connection tells what it may be.
        socket.phase = if first_payload::<DIRECTION>(context, sk, socket, packet) {
            phase::HTTP
        } else {
            phase::OPAQUE
        };
    } else if socket.phase == phase::UNSYNCED && !new.skip && packet.length >= 4 {
        resync::<DIRECTION>(context, socket, packet, &new);
    }
    if socket.phase == phase::HTTP {
        if let Some(slot) = slot.as_deref_mut() {
            obey(socket, slot);
        }
        deliver::<DIRECTION>(context, sk, socket, slot, packet, &new, now);
    }
    if packet.flags & (tcp_flag::FIN | tcp_flag::RST) != 0 {
        ending::<DIRECTION>(sk, socket, packet.flags, now);
    }
    Some(())
}

/// Reads the headers.
#[inline(always)]
fn parse(context: &SkBuffContext) -> Option<Packet> {
    let skb = context.skb.skb;
    // SAFETY: every access is checked against `data_end` first, as the verifier demands.
    unsafe {
        let data = (*skb).data as usize;
        let end = (*skb).data_end as usize;
        if data + IPV4_MIN_HEADER > end {
            emit::count(counters::BAD_HEADER);
            return None;
        }
        let first = *(data as *const u8);
        let transport = if first >> 4 == 4 {
            if *((data + 9) as *const u8) != PROTOCOL_TCP {
                return None;
            }
            ipv4_header_length(first)?
        } else {
            if data + IPV6_HEADER > end {
                emit::count(counters::BAD_HEADER);
                return None;
            }
            let next = *((data + 6) as *const u8);
            if next != PROTOCOL_TCP {
                // Extension headers in front of TCP are all but unseen on sockets' packets.
                if next == 0 || next == 43 || next == 60 {
                    emit::count(counters::EXTENSION_HEADERS);
                }
                return None;
            }
            IPV6_HEADER
        };
        let tcp = data + transport;
        if tcp + TCP_MIN_HEADER > end {
            emit::count(counters::BAD_HEADER);
            return None;
        }
        let header = tcp_header_length(*((tcp + 12) as *const u8));
        let offset = (transport + header) as u32;
        let total = (*skb).len;
        if total < offset {
            emit::count(counters::BAD_HEADER);
            return None;
        }
        Some(Packet {
            offset,
            length: total - offset,
            source: u16::from_be((tcp as *const u16).read_unaligned()),
            destination: u16::from_be(((tcp + 2) as *const u16).read_unaligned()),
            sequence: u32::from_be(((tcp + 4) as *const u32).read_unaligned()),
            acknowledgement: u32::from_be(((tcp + 8) as *const u32).read_unaligned()),
            flags: *((tcp + 13) as *const u8),
            version: first >> 4,
        })
    }
}

/// Compares the addresses on the wire with the socket's, once: a difference is an address
/// translation, and the packet has the other truth.
#[inline(always)]
fn first_packet<const DIRECTION: usize>(
    context: &SkBuffContext,
    sk: *mut bpf_sock,
    socket: &mut Socket,
    packet: &Packet,
    now: u64,
) {
    // On the way in, reverse translation has been undone already: only egress has the wire's view.
    if DIRECTION == INGRESS {
        return;
    }
    socket.wire_checked = 1;
    // SAFETY: bounds are checked before access; `sk` is a full socket.
    unsafe {
        if socket.cgroup == 0 {
            socket.cgroup = bpf_skb_cgroup_id(context.skb.skb);
        }
        let data = (*context.skb.skb).data as usize;
        let end = (*context.skb.skb).data_end as usize;
        let (local, remote) = if packet.version == 4 {
            if data + 20 > end {
                return;
            }
            (
                [0, 0, MAPPED, ((data + 12) as *const u32).read_unaligned()],
                [0, 0, MAPPED, ((data + 16) as *const u32).read_unaligned()],
            )
        } else {
            if data + IPV6_HEADER > end {
                return;
            }
            (words(data + 8), words(data + 24))
        };
        let remote_port = u16::from_be((*sk).dst_port);
        let same_ports =
            (*sk).src_port == u32::from(packet.source) && remote_port == packet.destination;
        let (from, to) = addresses(sk);
        // A v4 socket's words differ from a v4-mapped one's in nothing.
        let same_addresses = from[3] == local[3]
            && from[2] == local[2]
            && from[1] == local[1]
            && from[0] == local[0]
            && to[3] == remote[3]
            && to[2] == remote[2]
            && to[1] == remote[1]
            && to[0] == remote[0];
        if same_ports && same_addresses {
            return;
        }
        socket.wire_local = local;
        socket.wire_remote = remote;
        socket.wire_ports = u32::from(packet.source) | u32::from(packet.destination) << 16;
        let Some(mut entry) = EVENTS.reserve::<RewriteRecord>(0) else {
            emit::lost(socket);
            return;
        };
        let record = entry.as_mut_ptr();
        (*record).header = emit::header(socket, kind::REWRITE, now);
        write_address(&raw mut (*record).local_address, local);
        write_address(&raw mut (*record).remote_address, remote);
        (*record).local_port = packet.source;
        (*record).remote_port = packet.destination;
        (*record).reserved = 0;
        emit::count(counters::RECORDS);
        entry.submit(emit::wakeup());
    }
}

/// Local and remote address of a socket; IPv4 as `::ffff:a.b.c.d`.
///
/// # Safety
///
/// `sk` must be a full socket.
#[inline(always)]
unsafe fn addresses(sk: *mut bpf_sock) -> ([u32; 4], [u32; 4]) {
    // SAFETY: promised by the caller. Volatile: the compiler must not fold two reads into one at a
    // computed offset, which the verifier refuses.
    unsafe {
        let (local4, remote4) = (
            read(&raw const (*sk).src_ip4),
            read(&raw const (*sk).dst_ip4),
        );
        let local = [
            read(&raw const (*sk).src_ip6[0]),
            read(&raw const (*sk).src_ip6[1]),
            read(&raw const (*sk).src_ip6[2]),
            read(&raw const (*sk).src_ip6[3]),
        ];
        let remote = [
            read(&raw const (*sk).dst_ip6[0]),
            read(&raw const (*sk).dst_ip6[1]),
            read(&raw const (*sk).dst_ip6[2]),
            read(&raw const (*sk).dst_ip6[3]),
        ];
        if (*sk).family == AF_INET {
            ([0, 0, MAPPED, local4], [0, 0, MAPPED, remote4])
        } else {
            (local, remote)
        }
    }
}

/// Four words of a packet.
///
/// # Safety
///
/// The sixteen bytes at `at` must have been checked against the packet's end.
#[inline(always)]
unsafe fn words(at: usize) -> [u32; 4] {
    // SAFETY: promised by the caller.
    unsafe {
        [
            (at as *const u32).read_unaligned(),
            ((at + 4) as *const u32).read_unaligned(),
            ((at + 8) as *const u32).read_unaligned(),
            ((at + 12) as *const u32).read_unaligned(),
        ]
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
    let syn = u32::from(packet.flags & tcp_flag::SYN != 0);
    let sequence = packet.sequence.wrapping_add(syn);
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
fn sample(sk: *mut bpf_sock, socket: &mut Socket, slot: &mut observer_ebpf::abi::Slot, now: u64) {
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

/// Whether the first payload of a connection may be HTTP/1: the client speaks first, and starts
/// like a method.
#[inline(always)]
fn first_payload<const DIRECTION: usize>(
    context: &SkBuffContext,
    sk: *mut bpf_sock,
    socket: &Socket,
    packet: &Packet,
) -> bool {
    if DIRECTION == EGRESS && socket.role == u32::from(role::SERVER) {
        // The client's first bytes may have passed with the handshake, under the listener: then
        // TCP has received what this socket's state has not seen.
        // SAFETY: a full socket; the result is checked.
        unsafe {
            let tcp = bpf_tcp_sock(sk);
            return !tcp.is_null() && (*tcp).rcv_nxt != socket.next[INGRESS];
        }
    }
    let client = if DIRECTION == EGRESS {
        role::CLIENT
    } else {
        role::SERVER
    };
    let from_client = socket.role == u32::from(client);
    let mut first = 0_u8;
    // SAFETY: one byte into a local.
    let result = unsafe {
        bpf_skb_load_bytes(
            context.as_ptr(),
            packet.offset,
            core::ptr::from_mut(&mut first).cast(),
            1,
        )
    };
    from_client && result == 0 && sniff::may_start_method(first)
}

/// Looks whether a segment of an unknown stream starts like a request.
#[inline(always)]
fn resync<const DIRECTION: usize>(
    context: &SkBuffContext,
    socket: &mut Socket,
    packet: &Packet,
    new: &Decision,
) {
    if new.trim != 0 || !new.in_order {
        return;
    }
    let mut first = 0_u32;
    // SAFETY: four bytes into a local.
    let result = unsafe {
        bpf_skb_load_bytes(
            context.as_ptr(),
            packet.offset,
            core::ptr::from_mut(&mut first).cast(),
            4,
        )
    };
    if result != 0 || !sniff::starts_request(u32::from_be(first)) {
        return;
    }
    let role = if DIRECTION == EGRESS {
        role::CLIENT
    } else {
        role::SERVER
    };
    if socket.role == u32::from(role::UNKNOWN) || socket.role == u32::from(role) {
        socket.role = role.into();
        socket.phase = phase::HTTP;
    }
}

/// Acts on what user space said of the connection.
#[inline(always)]
fn obey(socket: &mut Socket, slot: &mut observer_ebpf::abi::Slot) {
    let word = slot.verdict;
    if word != socket.verdict {
        socket.verdict = word;
        socket.shipped = 0;
        match word & 0xff {
            verdict::OPAQUE => socket.phase = phase::OPAQUE,
            verdict::RESYNC => {
                socket.phase = phase::UNSYNCED;
                socket.skip_until = [0, 0];
            }
            _ => {}
        }
    }
    // A hint moves forward only; a stale one is harmless.
    if slot.skip_ingress > socket.skip_until[INGRESS] {
        socket.skip_until[INGRESS] = slot.skip_ingress;
        socket.shipped = 0;
    }
    if slot.skip_egress > socket.skip_until[EGRESS] {
        socket.skip_until[EGRESS] = slot.skip_egress;
        socket.shipped = 0;
    }
}

/// Ships, holds or pairs what `decide` found to be new.
///
/// Written as one plan that is carried out at the end: every place that sends or frames would be
/// verified once more for each path that leads to it.
#[inline(always)]
fn deliver<const DIRECTION: usize>(
    context: &SkBuffContext,
    sk: *mut bpf_sock,
    socket: &mut Socket,
    slot: Option<&'static mut observer_ebpf::abi::Slot>,
    packet: &Packet,
    new: &Decision,
    now: u64,
) {
    let ending = packet.flags & (tcp_flag::FIN | tcp_flag::RST) != 0;
    if new.skip && !new.body_end && !ending {
        return;
    }
    let mut flags = 0;
    if new.in_order {
        flags |= flag::IN_ORDER;
    }
    if packet.flags & tcp_flag::FIN != 0 {
        flags |= flag::FIN;
    }
    if packet.flags & tcp_flag::RST != 0 {
        flags |= flag::RESET;
    }
    let mut length = packet.length - new.trim;
    let mut position = new.position;
    if new.skip {
        // The end of an omitted body, or a FIN or RST without new data.
        length = 0;
        position = socket.position[DIRECTION];
        flags |= flag::BODY_END;
    }
    let syn = u32::from(packet.flags & tcp_flag::SYN != 0);
    let mut part = SegmentPart {
        time_ns: now,
        position,
        sequence: packet.sequence.wrapping_add(syn).wrapping_add(new.trim),
        acknowledgement: packet.acknowledgement,
        length,
        captured: 0,
        direction: DIRECTION as u8,
        flags,
        reserved: 0,
        ports: 0,
    };
    let offset = packet.offset + new.trim;
    let mut windows = WINDOWS;
    if new.claimed {
        if let Some(held) = emit::hold(sk) {
            let plan =
                plan::<DIRECTION>(context, socket, held, &mut part, offset, new.held, ending);
            if plan == Plan::HOLD {
                show(slot, held, now);
                socket.hold = hold::HELD;
                return;
            }
            if new.held {
                hide(slot);
                emit::send_hold(socket, held, plan == Plan::PAIR, now);
            }
            socket.hold = hold::EMPTY;
            if plan == Plan::PAIR {
                return;
            }
            if plan == Plan::START {
                windows = 0;
            }
        } else {
            emit::count(counters::STORAGE_FULL);
            socket.hold = hold::EMPTY;
        }
    }
    ship(context, socket, part, offset, windows);
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
    ending: bool,
) -> Plan {
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
        let captured = load_request(context, held, part, offset);
        if captured != part.length {
            return Plan::WHOLE;
        }
        part.captured = captured;
        held.record.first = *part;
        return Plan::HOLD;
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

/// Smaller segments are shipped rather than proven to be body: that is cheaper. At least as much
/// as the hold can take of a request.
const PROOF_FROM: u32 = 1024;

/// Loads the start of a request segment into the hold; returns how many bytes.
#[inline(always)]
fn load_request(context: &SkBuffContext, held: &mut Hold, part: &SegmentPart, offset: u32) -> u32 {
    let mut length = emit::opaque(part.length.into());
    if length > REQUEST_CAPTURE as u64 {
        length = REQUEST_CAPTURE as u64;
    }
    if length == 0 {
        return 0;
    }
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

/// Loads the start of a response segment behind the request in the hold; returns how many bytes.
#[inline(always)]
fn load_response(context: &SkBuffContext, held: &mut Hold, part: &SegmentPart, offset: u32) -> u32 {
    let mut length = emit::opaque(part.length.into());
    if length > RESPONSE_CAPTURE as u64 {
        length = RESPONSE_CAPTURE as u64;
    }
    let at = emit::opaque(held.request_length.into());
    if length == 0 || at > REQUEST_CAPTURE as u64 {
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
    if held.bytes[0] == b'H' || held.bytes[0] == b'C' {
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
    let bytes = (&raw const held.bytes).cast::<u8>();
    let mut at = 0;
    let mut length = held.request_length;
    if response != 0 {
        at = emit::opaque(length.into());
        length = held.response_length;
    }
    if at > REQUEST_CAPTURE as u64 {
        return 0;
    }
    held.framing = sniff::frame::<RESPONSE_CAPTURE>(
        length as usize,
        // SAFETY: `at` is bounded, indexes are below the bound plus the slack.
        |index| unsafe { *bytes.add(at as usize).add(index) },
        &mut held.scratch,
    );
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

/// The full socket of a packet.
#[inline(always)]
fn full_socket(context: &SkBuffContext) -> Option<*mut bpf_sock> {
    // SAFETY: a context field, checked; the helper checks for a full socket.
    let sk = unsafe {
        let sk = (*context.skb.skb).__bindgen_anon_2.sk;
        if sk.is_null() {
            return None;
        }
        bpf_sk_fullsock(sk)
    };
    if sk.is_null() { None } else { Some(sk) }
}

/// Shows a held request in the connection's slot.
#[inline(always)]
fn show(slot: Option<&'static mut observer_ebpf::abi::Slot>, held: &Hold, now: u64) {
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
fn hide(slot: Option<&'static mut observer_ebpf::abi::Slot>) {
    if let Some(slot) = slot {
        slot.held_ns = 0;
    }
}

/// Ships a segment in up to `windows` windows; with none, only its first `captured` bytes. One
/// that has no bytes goes as a position and a time.
#[inline(always)]
fn ship(
    context: &SkBuffContext,
    socket: &mut Socket,
    mut part: SegmentPart,
    offset: u32,
    windows: u32,
) {
    let total = part.length;
    let last = part.flags & (flag::FIN | flag::RESET);
    let mut whole = windows != 0;
    if total > WINDOW && whole {
        socket.shipped += u64::from(total);
        if socket.shipped > SHIP_BUDGET {
            // User space has had its chance to say where this body ends.
            emit::count(counters::BUDGET_SPENT);
            part.captured = WINDOW;
            whole = false;
        }
    }
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
            part.flags &= !(flag::FIN | flag::RESET);
            if done + length == total {
                part.flags |= last;
            }
        }
        emit::send_window(context, socket, &part, offset + done);
        part.position += u64::from(length);
        part.sequence = part.sequence.wrapping_add(length);
        done += length;
        if done >= total {
            break;
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
