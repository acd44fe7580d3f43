//! Every datagram of UDP: counted by peer, and shipped where it is DNS or opens a QUIC connection.

mod ship;

use core::{mem::MaybeUninit, ptr::read_volatile as read};

use aya_ebpf::{
    EbpfContext,
    bindings::{__sk_buff, BPF_NOEXIST, bpf_sock},
    helpers::{
        bpf_ktime_get_ns,
        generated::{bpf_skb_cgroup_id, bpf_skb_load_bytes},
    },
    programs::SkBuffContext,
};
use observer_ebpf::{
    abi::{DatagramFlow, DatagramKey, direction, purpose},
    counters,
    packet::{
        DNS_HEADER, DNS_PORT, IPV4_WITHOUT_OPTIONS, IPV6_HEADER, PROTOCOL_UDP,
        QUIC_INITIAL_DATAGRAM, UDP_HEADER, ipv4_header_length, is_dns, is_quic_initial,
    },
};

use self::ship::{What, observer_datagram_ship};
use super::{
    connection::{MAPPED, ignored, write_address},
    segment::{
        adopt::{IPV4_ADDRESSES, IPV6_ADDRESSES, addresses},
        header::full_socket,
    },
};
use crate::{emit, maps::DATAGRAMS};

const INGRESS: usize = direction::INGRESS as usize;
const EGRESS: usize = direction::EGRESS as usize;
/// Initial packets that are shipped of a connection attempt: a large ClientHello takes two
/// datagrams, and either may be sent again.
const MOST_INITIALS: u32 = 4;
/// Initial packets belong to one attempt for so long. Those of the other direction answer it.
const ATTEMPT_NS: u64 = 3_000_000_000;

/// Where a datagram comes from and goes to.
struct Ends {
    local: [u32; 4],
    remote: [u32; 4],
    local_port: u16,
    remote_port: u16,
    /// Offset of the payload in the packet.
    offset: u32,
    /// Bytes of payload.
    length: u32,
}

/// A packet that is not of TCP; `first` is the first byte of its IP header.
#[inline(always)]
pub fn pass<const DIRECTION: usize>(context: &SkBuffContext, protocol: u8, first: u8) {
    if protocol == PROTOCOL_UDP {
        if DIRECTION == INGRESS {
            observer_datagram_in(context.skb.skb, first.into());
        } else {
            observer_datagram_out(context.skb.skb, first.into());
        }
    }
}

/// A datagram that came in. See [`datagram`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn observer_datagram_in(skb: *mut __sk_buff, first: u64) -> u64 {
    datagram::<INGRESS>(&SkBuffContext::new(skb), first as u8);
    0
}

/// A datagram that goes out. See [`datagram`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn observer_datagram_out(skb: *mut __sk_buff, first: u64) -> u64 {
    datagram::<EGRESS>(&SkBuffContext::new(skb), first as u8);
    0
}

/// Counts a datagram, or ships it.
#[inline(always)]
fn datagram<const DIRECTION: usize>(context: &SkBuffContext, first: u8) -> Option<()> {
    let sk = full_socket(context)?;
    // SAFETY: a full socket. A raw socket may see datagrams too, which are another's.
    if unsafe { (*sk).protocol } != u32::from(PROTOCOL_UDP) {
        return None;
    }
    let ends = ends::<DIRECTION>(context, sk, first)?;
    if ignored(ends.local_port) || ignored(ends.remote_port) {
        return None;
    }
    emit::count(counters::DATAGRAMS);
    let what = What::new(first, DIRECTION == EGRESS);
    let place = u64::from(ends.offset) | u64::from(ends.length) << 32;
    if (ends.local_port == DNS_PORT || ends.remote_port == DNS_PORT)
        && ends.length >= DNS_HEADER
        && starts_dns(context, ends.offset)
    {
        observer_datagram_ship(context.skb.skb, what.of(purpose::DNS), place);
        return None;
    }
    // SAFETY: a plain helper.
    let now = unsafe { bpf_ktime_get_ns() };
    let mut key = MaybeUninit::uninit();
    let key = write_key(&mut key, context, &ends);
    let flow = match find(key) {
        Some(flow) => flow,
        None => {
            observer_datagram_flow(context.skb.skb, what.of(0), now);
            let Some(flow) = find(key) else {
                emit::count(counters::DATAGRAM_FLOWS_FULL);
                return None;
            };
            flow
        }
    };
    // SAFETY: a context field.
    let segments = unsafe { (*context.skb.skb).gso_segs };
    let packets = if segments == 0 { 1 } else { segments };
    // SAFETY: fields of the map value, aligned; both directions and several CPUs add to them.
    unsafe {
        emit::add(&raw mut flow.bytes[DIRECTION], ends.length.into());
        emit::add(&raw mut flow.packets[DIRECTION], packets.into());
    }
    flow.last_ns = now;
    if ends.length >= QUIC_INITIAL_DATAGRAM
        && starts_initial(context, ends.offset)
        && is_worth_shipping::<DIRECTION>(flow, now)
    {
        observer_datagram_ship(context.skb.skb, what.of(purpose::QUIC), place);
    }
    Some(())
}

/// Writes the key of a peer.
#[inline(always)]
fn write_key<'a>(
    key: &'a mut MaybeUninit<DatagramKey>,
    context: &SkBuffContext,
    ends: &Ends,
) -> &'a DatagramKey {
    let to = key.as_mut_ptr();
    // SAFETY: every field is written. Volatile, so that it does not become a call of `memset`.
    unsafe {
        let words = (&raw mut (*to).remote_address).cast::<u32>();
        words.write_volatile(ends.remote[0]);
        words.add(1).write_volatile(ends.remote[1]);
        words.add(2).write_volatile(ends.remote[2]);
        words.add(3).write_volatile(ends.remote[3]);
        (&raw mut (*to).cookie).write_volatile(emit::cookie(context));
        let rest = (&raw mut (*to).remote_port).cast::<u64>();
        rest.write_volatile(ends.remote_port.into());
        key.assume_init_ref()
    }
}

/// What is counted of a peer.
#[inline(always)]
fn find(key: &DatagramKey) -> Option<&'static mut DatagramFlow> {
    // SAFETY: the entry stays readable while the program runs, even if it goes meanwhile.
    DATAGRAMS
        .get_ptr_mut(key)
        .and_then(|flow| unsafe { flow.as_mut() })
}

/// Makes an entry for the peer of a datagram; another CPU may be faster.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn observer_datagram_flow(skb: *mut __sk_buff, what: u64, now: u64) -> u64 {
    create(&SkBuffContext::new(skb), what, now);
    0
}

#[inline(always)]
fn create(context: &SkBuffContext, what: u64, now: u64) -> Option<()> {
    let sk = full_socket(context)?;
    let ends = ends_of(context, sk, what)?;
    let mut key = MaybeUninit::uninit();
    let key = write_key(&mut key, context, &ends);
    let mut flow = MaybeUninit::<DatagramFlow>::uninit();
    let to = flow.as_mut_ptr();
    // SAFETY: every word is written; volatile as above.
    unsafe {
        let words = to.cast::<u64>();
        words.write_volatile(0);
        words.add(1).write_volatile(0);
        words.add(2).write_volatile(0);
        words.add(3).write_volatile(0);
        (&raw mut (*to).started_ns).write_volatile(now);
        (&raw mut (*to).last_ns).write_volatile(now);
        words.add(6).write_volatile(0);
        words.add(7).write_volatile(0);
        words.add(8).write_volatile(0);
        (&raw mut (*to).cgroup).write_volatile(bpf_skb_cgroup_id(context.skb.skb));
        write_address(&raw mut (*to).local_address, ends.local);
        let rest = (&raw mut (*to).local_port).cast::<u64>();
        rest.write_volatile(ends.local_port.into());
        match emit::owner(sk, 0) {
            Some(owner) => emit::copy_owner(owner, &raw mut (*to).owner),
            None => emit::clear_owner(&raw mut (*to).owner),
        }
        DATAGRAMS
            .insert(key, flow.assume_init_ref(), BPF_NOEXIST.into())
            .ok()?;
    }
    emit::count(counters::DATAGRAM_FLOWS);
    Some(())
}

/// Whether the payload starts like a message of DNS.
#[inline(always)]
fn starts_dns(context: &SkBuffContext, offset: u32) -> bool {
    let mut start = MaybeUninit::<[u32; 2]>::uninit();
    // SAFETY: eight bytes into a local, read only when they were written.
    unsafe {
        let words = start.as_mut_ptr().cast::<u16>();
        if bpf_skb_load_bytes(context.as_ptr(), offset, words.cast(), 8) != 0 {
            emit::count(counters::LOAD_FAILED);
            return false;
        }
        is_dns(u16::from_be(*words.add(1)), u16::from_be(*words.add(2)))
    }
}

/// Whether the payload starts with an Initial packet of QUIC.
#[inline(always)]
fn starts_initial(context: &SkBuffContext, offset: u32) -> bool {
    let mut start = MaybeUninit::<[u32; 2]>::uninit();
    // SAFETY: eight bytes into a local, read only when they were written.
    unsafe {
        let to = start.as_mut_ptr().cast::<u8>();
        if bpf_skb_load_bytes(context.as_ptr(), offset, to.cast(), 8) != 0 {
            emit::count(counters::LOAD_FAILED);
            return false;
        }
        let version = u32::from_be(to.add(1).cast::<u32>().read_unaligned());
        is_quic_initial(*to, version)
    }
}

/// Whether an Initial packet is of the client, as far as can be told: the end that was first to
/// send one in a while. Notes that it is shipped.
#[inline(always)]
fn is_worth_shipping<const DIRECTION: usize>(flow: &mut DatagramFlow, now: u64) -> bool {
    let other = flow.initial_ns[1 - DIRECTION];
    if other != 0 && now.wrapping_sub(other) < ATTEMPT_NS {
        return false;
    }
    if now.wrapping_sub(flow.initial_ns[DIRECTION]) >= ATTEMPT_NS {
        flow.initials[DIRECTION] = 0;
    }
    if flow.initials[DIRECTION] >= MOST_INITIALS {
        return false;
    }
    flow.initials[DIRECTION] += 1;
    flow.initial_ns[DIRECTION] = now;
    true
}

/// As [`ends`], in the direction that `what` tells.
#[inline(always)]
fn ends_of(context: &SkBuffContext, sk: *mut bpf_sock, what: u64) -> Option<Ends> {
    if what & What::EGRESS != 0 {
        ends::<EGRESS>(context, sk, what as u8)
    } else {
        ends::<INGRESS>(context, sk, what as u8)
    }
}

/// Both ends of a datagram: a connected socket's own, which translation does not change, else those
/// in the packet.
#[inline(always)]
fn ends<const DIRECTION: usize>(
    context: &SkBuffContext,
    sk: *mut bpf_sock,
    first: u8,
) -> Option<Ends> {
    let v4 = first >> 4 == 4;
    let transport = if v4 {
        ipv4_header_length(first)? as u32
    } else {
        IPV6_HEADER as u32
    };
    let offset = transport + UDP_HEADER as u32;
    // SAFETY: a context field; a full socket.
    let (total, local_port, dialled) = unsafe {
        (
            (*context.skb.skb).len,
            (*sk).src_port as u16,
            u16::from_be((*sk).dst_port),
        )
    };
    if total < offset {
        emit::count(counters::BAD_HEADER);
        return None;
    }
    let length = total - offset;
    if dialled != 0 {
        // SAFETY: a full socket.
        let (local, remote) = unsafe { addresses(sk) };
        return Some(Ends {
            local,
            remote,
            local_port,
            remote_port: dialled,
            offset,
            length,
        });
    }
    let (source, destination, ports) = in_packet(context, v4, first, transport)?;
    let (source_port, destination_port) = (
        u16::from_be(ports as u16),
        u16::from_be((ports >> 16) as u16),
    );
    Some(if DIRECTION == INGRESS {
        Ends {
            local: destination,
            remote: source,
            local_port,
            remote_port: source_port,
            offset,
            length,
        }
    } else {
        Ends {
            local: source,
            remote: destination,
            local_port,
            remote_port: destination_port,
            offset,
            length,
        }
    })
}

/// Source, destination, and both ports as they are in the packet, source first.
#[inline(always)]
fn in_packet(
    context: &SkBuffContext,
    v4: bool,
    first: u8,
    transport: u32,
) -> Option<([u32; 4], [u32; 4], u32)> {
    // Copied: a packet pointer that moves by a variable is refused without CAP_PERFMON. Addresses
    // and ports are side by side but for IPv4 with options.
    let mut copied = MaybeUninit::<[u32; 9]>::uninit();
    // SAFETY: words are read only when they were written.
    unsafe {
        let words = copied.as_mut_ptr().cast::<u32>();
        let word = |index| read(words.add(index));
        if v4 {
            if bpf_skb_load_bytes(context.as_ptr(), IPV4_ADDRESSES, words.cast(), 12) != 0 {
                emit::count(counters::LOAD_FAILED);
                return None;
            }
            let source = [0, 0, MAPPED, word(0)];
            let destination = [0, 0, MAPPED, word(1)];
            if first != IPV4_WITHOUT_OPTIONS
                && bpf_skb_load_bytes(context.as_ptr(), transport, words.add(2).cast(), 4) != 0
            {
                emit::count(counters::LOAD_FAILED);
                return None;
            }
            return Some((source, destination, word(2)));
        }
        if bpf_skb_load_bytes(context.as_ptr(), IPV6_ADDRESSES, words.cast(), 36) != 0 {
            emit::count(counters::LOAD_FAILED);
            return None;
        }
        Some((
            [word(0), word(1), word(2), word(3)],
            [word(4), word(5), word(6), word(7)],
            word(8),
        ))
    }
}
