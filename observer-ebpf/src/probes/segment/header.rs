//! The headers of a packet, and how they travel between functions.

use core::mem::MaybeUninit;

use aya_ebpf::{
    EbpfContext,
    bindings::bpf_sock,
    helpers::generated::{bpf_sk_fullsock, bpf_skb_load_bytes},
    programs::SkBuffContext,
};
use observer_ebpf::{
    counters,
    packet::{
        IPV4_MIN_HEADER, IPV4_WITHOUT_OPTIONS, IPV6_HEADER, PROTOCOL_TCP, TCP_MIN_HEADER,
        ipv4_header_length, tcp_flag, tcp_header_length,
    },
};

use crate::{emit, probes::datagram};

/// What a packet's headers say.
pub(super) struct Packet {
    /// Offset of the payload in the packet.
    pub(super) offset: u32,
    /// Bytes of payload.
    pub(super) length: u32,
    pub(super) sequence: u32,
    pub(super) acknowledgement: u32,
    /// Ports as on the wire: source in the low half, destination in the high half, host order.
    pub(super) source: u16,
    pub(super) destination: u16,
    pub(super) flags: u8,
    pub(super) version: u8,
}

impl Packet {
    /// The packet as numbers, for a global function: those take numbers and the context only.
    #[inline(always)]
    pub(super) fn pack(&self) -> (u64, u64, u64) {
        (
            u64::from(self.offset) | u64::from(self.length) << 32,
            u64::from(self.sequence) | u64::from(self.acknowledgement) << 32,
            u64::from(self.flags)
                | u64::from(self.version) << 8
                | u64::from(self.source) << 16
                | u64::from(self.destination) << 32,
        )
    }

    /// The packet from numbers.
    #[inline(always)]
    pub(super) fn unpack(place: u64, numbers: u64, rest: u64) -> Self {
        Self {
            offset: place as u32,
            length: (place >> 32) as u32,
            sequence: numbers as u32,
            acknowledgement: (numbers >> 32) as u32,
            flags: rest as u8,
            version: (rest >> 8) as u8,
            source: (rest >> 16) as u16,
            destination: (rest >> 32) as u16,
        }
    }

    /// Sequence number of the first byte of payload: a SYN counts as one before it.
    #[inline(always)]
    pub(super) fn first_sequence(&self) -> u32 {
        let syn = u32::from(self.flags & tcp_flag::SYN != 0);
        self.sequence.wrapping_add(syn)
    }
}

/// Reads the headers.
#[inline(always)]
pub(super) fn parse<const DIRECTION: usize>(context: &SkBuffContext) -> Option<Packet> {
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
        let tcp = if first == IPV4_WITHOUT_OPTIONS {
            let protocol = *((data + 9) as *const u8);
            if protocol != PROTOCOL_TCP {
                datagram::pass::<DIRECTION>(context, protocol, first);
                return None;
            }
            advance::<IPV4_MIN_HEADER>(data)
        } else if first >> 4 == 4 {
            let protocol = *((data + 9) as *const u8);
            if protocol != PROTOCOL_TCP {
                datagram::pass::<DIRECTION>(context, protocol, first);
                return None;
            }
            return parse_behind_options(context, first);
        } else {
            if data + IPV6_HEADER > end {
                emit::count(counters::BAD_HEADER);
                return None;
            }
            let next = *((data + 6) as *const u8);
            if next != PROTOCOL_TCP {
                datagram::pass::<DIRECTION>(context, next, first);
                // Extension headers in front of TCP are all but unseen on sockets' packets.
                if next == 0 || next == 43 || next == 60 {
                    emit::count(counters::EXTENSION_HEADERS);
                }
                return None;
            }
            advance::<IPV6_HEADER>(data)
        };
        if tcp + TCP_MIN_HEADER > end {
            emit::count(counters::BAD_HEADER);
            return None;
        }
        let transport = if first >> 4 == 4 {
            IPV4_MIN_HEADER
        } else {
            IPV6_HEADER
        };
        read_tcp(tcp as *const u8, (*skb).len, transport as u32, first >> 4)
    }
}

/// Reads the TCP header of an IPv4 packet with options: they are all but unseen, and a packet
/// pointer that moves by a variable is refused without CAP_PERFMON, so the header is copied.
#[inline(always)]
fn parse_behind_options(context: &SkBuffContext, first: u8) -> Option<Packet> {
    let transport = ipv4_header_length(first)? as u32;
    let mut header = MaybeUninit::<[u32; TCP_MIN_HEADER / 4]>::uninit();
    // SAFETY: twenty bytes into a local, read only when they were written.
    unsafe {
        let result = bpf_skb_load_bytes(
            context.as_ptr(),
            transport,
            header.as_mut_ptr().cast(),
            TCP_MIN_HEADER as u32,
        );
        if result != 0 {
            emit::count(counters::BAD_HEADER);
            return None;
        }
        read_tcp(header.as_ptr().cast(), (*context.skb.skb).len, transport, 4)
    }
}

/// Reads a TCP header that starts at offset `transport` of a packet of `total` bytes.
///
/// # Safety
///
/// Twenty bytes at `tcp` must be readable.
#[inline(always)]
unsafe fn read_tcp(tcp: *const u8, total: u32, transport: u32, version: u8) -> Option<Packet> {
    // SAFETY: promised by the caller.
    unsafe {
        let offset = transport + tcp_header_length(*tcp.add(12)) as u32;
        if total < offset {
            emit::count(counters::BAD_HEADER);
            return None;
        }
        Some(Packet {
            offset,
            length: total - offset,
            source: u16::from_be(tcp.cast::<u16>().read_unaligned()),
            destination: u16::from_be(tcp.add(2).cast::<u16>().read_unaligned()),
            sequence: u32::from_be(tcp.add(4).cast::<u32>().read_unaligned()),
            acknowledgement: u32::from_be(tcp.add(8).cast::<u32>().read_unaligned()),
            flags: *tcp.add(13),
            version,
        })
    }
}

/// Moves a packet pointer by a constant. In assembly, so that two branches are not folded into one
/// addition of a variable, which is refused without CAP_PERFMON.
#[inline(always)]
fn advance<const BY: usize>(mut pointer: usize) -> usize {
    // SAFETY: an addition.
    unsafe { core::arch::asm!("{0} += {1}", inout(reg) pointer, const BY) };
    pointer
}

/// The full socket of a packet.
#[inline(always)]
pub(in crate::probes) fn full_socket(context: &SkBuffContext) -> Option<*mut bpf_sock> {
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
