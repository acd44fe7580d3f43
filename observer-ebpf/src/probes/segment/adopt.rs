//! Sockets that the programs meet for the first time in a packet: listeners, connections older than
//! us, and connections whose packets carry other addresses than they do.

use core::{mem::MaybeUninit, ptr::read_volatile as read};

use aya_ebpf::{
    EbpfContext,
    bindings::{__sk_buff, BPF_F_CURRENT_NETNS, bpf_sock},
    helpers::{
        bpf_ktime_get_ns,
        generated::{
            bpf_sk_lookup_tcp, bpf_sk_release, bpf_skb_cgroup_id, bpf_skb_load_bytes, bpf_tcp_sock,
        },
    },
    programs::SkBuffContext,
};
use observer_ebpf::{
    abi::{ConnectionRecord, PlaceRecord, close, flag, kind, role},
    counters,
    packet::tcp_flag,
};

use super::{
    INGRESS,
    header::{Packet, full_socket},
    ship::{What, observer_ship},
};
use crate::{
    emit,
    maps::EVENTS,
    probes::connection::{MAPPED, fill, ignored, write_address},
    state::{Socket, phase},
};

const TCP_LISTEN: u32 = 10;
const AF_INET: u32 = 2;
/// Offset of the source address in an IPv4 header; the destination follows (RFC 791 section 3.1).
pub(in crate::probes) const IPV4_ADDRESSES: u32 = 12;
/// Offset of the source address in an IPv6 header; the destination follows (RFC 8200 section 3).
pub(in crate::probes) const IPV6_ADDRESSES: u32 = 8;

/// What [`observer_adopt`] returns for a segment that came in for a listener.
pub(super) const LISTENER: u64 = 2;

/// A segment of a socket that has no state: a listener, or a connection older than us. Returns 1
/// when the socket has a state now, [`LISTENER`] when it is for [`listener_segment`].
///
/// A global function (5.6), as every function here that has a name of its own in the object: it is
/// verified once, for any caller, and not once more for every path that leads to it. So it takes
/// nothing but the context and numbers, and finds everything else by itself.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn observer_adopt(skb: *mut __sk_buff, place: u64, ingress: u32) -> u64 {
    let context = SkBuffContext::new(skb);
    let Some(sk) = full_socket(&context) else {
        return 0;
    };
    if place >> 32 == 0 {
        return 0;
    }
    // SAFETY: a full socket.
    if unsafe { (*sk).state } == TCP_LISTEN {
        return if ingress != 0 { LISTENER } else { 0 };
    }
    let Some(socket) = emit::socket(sk, emit::CREATE) else {
        emit::count(counters::STORAGE_FULL);
        return 0;
    };
    adopt(&context, sk, socket);
    1
}

/// Learns what only a packet tells: the socket's cgroup, from its first one, and the addresses on
/// the wire, from the first that goes out (on the way in, reverse translation has been undone
/// already). Those that differ from the socket's are the other truth of an address translation.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn observer_first_packet(
    skb: *mut __sk_buff,
    rest: u64,
    now: u64,
    egress: u32,
) -> u64 {
    let context = SkBuffContext::new(skb);
    let packet = Packet::unpack(0, 0, rest);
    let Some(sk) = full_socket(&context) else {
        return 0;
    };
    let Some(socket) = emit::socket(sk, 0) else {
        return 0;
    };
    let mut tell = false;
    if socket.cgroup == 0 {
        // SAFETY: the context is an skb.
        socket.cgroup = unsafe { bpf_skb_cgroup_id(context.skb.skb) };
        // The maker's cgroup is the socket's: nothing new where the maker is known.
        tell = emit::owner(sk, 0).is_none();
    }
    if egress != 0 && socket.wire_checked == 0 {
        socket.wire_checked = 1;
        tell |= is_rewritten(&context, sk, socket, &packet);
    }
    if tell {
        send_place(socket, now);
    }
    0
}

/// Sends what the socket's state has of its place.
#[inline(always)]
fn send_place(socket: &mut Socket, now: u64) {
    let Some(mut entry) = EVENTS.reserve::<PlaceRecord>(0) else {
        emit::lost(socket);
        return;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: the entry is ours until submitted and every field is written.
    unsafe {
        (*record).header = emit::header(socket, kind::PLACE, now);
        (*record).cgroup = socket.cgroup;
        write_address(&raw mut (*record).local_address, socket.wire_local);
        write_address(&raw mut (*record).remote_address, socket.wire_remote);
        (*record).local_port = socket.wire_ports as u16;
        (*record).remote_port = (socket.wire_ports >> 16) as u16;
        (*record).reserved = 0;
    }
    entry.submit(emit::wakeup());
}

/// The segment that completes a handshake is filtered against the listener: ship it under the
/// listener's cookie, with what identifies the connection that comes out of it.
#[inline(always)]
pub(super) fn listener_segment(context: &SkBuffContext, packet: &Packet) {
    if ignored(packet.destination) || ignored(packet.source) {
        return;
    }
    emit::count(counters::LISTENER_SEGMENT);
    let mut flags = flag::LISTENER | flag::IN_ORDER;
    if packet.flags & tcp_flag::FIN != 0 {
        flags |= flag::FIN;
    }
    let ports = u64::from(packet.destination) | u64::from(packet.source) << 16;
    let place = u64::from(packet.offset) | u64::from(packet.length) << 32;
    let numbers = u64::from(packet.first_sequence()) | u64::from(packet.acknowledgement) << 32;
    let what = What::new(flags, INGRESS).whole();
    // A listener has no positions: the ports take their place.
    observer_ship(context.skb.skb, ports, place, numbers, what.0);
}

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
    // SAFETY: a full socket.
    let (local_words, remote_words) = unsafe { addresses(sk) };
    let role = if has_listener(context, local_words, local) {
        role::SERVER
    } else if has_listener(context, remote_words, remote) {
        role::CLIENT
    } else {
        // The first request will tell.
        role::UNKNOWN
    };
    socket.role = role.into();
    report(sk, socket, kind::OPENED, socket.started_ns);
}

/// Whether something listens on an address, in the network namespace of the packet: then the end
/// of a connection that has it was accepted, and is the server's.
#[inline(always)]
fn has_listener(context: &SkBuffContext, local: [u32; 4], port: u16) -> bool {
    let v4 = local[2] == MAPPED && local[1] == 0 && local[0] == 0;
    // The remote end is no address at all, so that no connection matches, only a listener.
    let mut tuple = MaybeUninit::<[u32; 9]>::uninit();
    let words = tuple.as_mut_ptr().cast::<u32>();
    let ports = u32::from(port.to_be()) << 16;
    // SAFETY: within the tuple. Volatile, word by word: no call of `memset`, see above. The layout
    // is `struct bpf_sock_tuple`: source, destination, source port, destination port.
    let size = unsafe {
        words.write_volatile(0);
        if v4 {
            words.add(1).write_volatile(local[3]);
            words.add(2).write_volatile(ports);
            12
        } else {
            words.add(1).write_volatile(0);
            words.add(2).write_volatile(0);
            words.add(3).write_volatile(0);
            words.add(4).write_volatile(local[0]);
            words.add(5).write_volatile(local[1]);
            words.add(6).write_volatile(local[2]);
            words.add(7).write_volatile(local[3]);
            words.add(8).write_volatile(ports);
            36
        }
    };
    // SAFETY: the tuple is on the stack; the socket that is found is released.
    unsafe {
        let found = bpf_sk_lookup_tcp(
            context.as_ptr(),
            words.cast(),
            size,
            BPF_F_CURRENT_NETNS as i64 as u64,
            0,
        );
        if found.is_null() {
            return false;
        }
        let listens = (*found).state == TCP_LISTEN;
        bpf_sk_release(found.cast());
        listens
    }
}

/// Sends a record of a connection from a packet's view.
#[inline(always)]
pub(super) fn report(sk: *mut bpf_sock, socket: &mut Socket, kind: u16, now: u64) {
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
    entry.submit(emit::wakeup());
}

/// Whether the packet carries other addresses than the socket; notes them.
#[inline(always)]
fn is_rewritten(
    context: &SkBuffContext,
    sk: *mut bpf_sock,
    socket: &mut Socket,
    packet: &Packet,
) -> bool {
    // SAFETY: the words are written before they are read; `sk` is a full socket.
    unsafe {
        // Source and destination, copied: reading them in place would move a packet pointer by a
        // variable, which is refused without CAP_PERFMON.
        let mut addresses_in_packet = MaybeUninit::<[u32; 8]>::uninit();
        let words = addresses_in_packet.as_mut_ptr().cast::<u32>();
        let (offset, length) = if packet.version == 4 {
            (IPV4_ADDRESSES, 8)
        } else {
            (IPV6_ADDRESSES, 32)
        };
        for index in 0..8 {
            words.add(index).write_volatile(0);
        }
        if bpf_skb_load_bytes(context.as_ptr(), offset, words.cast(), length) != 0 {
            emit::count(counters::LOAD_FAILED);
            return false;
        }
        let word = |index| read(words.add(index));
        let mut local = [word(0), word(1), word(2), word(3)];
        let mut remote = [word(4), word(5), word(6), word(7)];
        if packet.version == 4 {
            remote = [0, 0, MAPPED, local[1]];
            local = [0, 0, MAPPED, local[0]];
        }
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
            return false;
        }
        socket.wire_local = local;
        socket.wire_remote = remote;
        socket.wire_ports = u32::from(packet.source) | u32::from(packet.destination) << 16;
        true
    }
}

/// Local and remote address of a socket; IPv4 as `::ffff:a.b.c.d`.
///
/// # Safety
///
/// `sk` must be a full socket.
#[inline(always)]
pub(in crate::probes) unsafe fn addresses(sk: *mut bpf_sock) -> ([u32; 4], [u32; 4]) {
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
