//! What a connection may carry: by its first payload, by where a lost one may go on, and by what user
//! space says.

use core::mem::MaybeUninit;

use aya_ebpf::{
    EbpfContext,
    bindings::bpf_sock,
    helpers::generated::{bpf_skb_load_bytes, bpf_tcp_sock},
    programs::SkBuffContext,
};
use observer_ebpf::{
    abi::{Slot, role, verdict},
    sniff::{self, FRAME_HEADER, PREFACE},
};

use super::{Decision, EGRESS, INGRESS, header::Packet};
use crate::state::{Socket, UNFRAMED, phase};

/// Whether segments of a connection in `phase` leave.
#[inline(always)]
pub(super) fn is_shipped(phase: u32) -> bool {
    phase == phase::HTTP || phase == phase::HTTP2 || phase == phase::OPENING
}

/// The first nine bytes of a payload, as numbers.
struct Start {
    /// The first four, as a big-endian number.
    head: u32,
    /// The fifth.
    flags: u8,
    /// The last four, as a big-endian number.
    stream: u32,
}

/// Reads the first nine bytes of a payload that has as many.
#[inline(always)]
fn start(context: &SkBuffContext, packet: &Packet) -> Option<Start> {
    let mut bytes = MaybeUninit::<[u32; 3]>::uninit();
    // SAFETY: nine bytes into a local of twelve, of which those nine are used; volatile because the
    // helper wrote them.
    unsafe {
        let to = bytes.as_mut_ptr().cast::<u32>();
        to.add(2).write_volatile(0);
        if bpf_skb_load_bytes(context.as_ptr(), packet.offset, to.cast(), 9) != 0 {
            return None;
        }
        let second = u32::from_be(to.add(1).read_volatile());
        let third = u32::from_be(to.add(2).read_volatile());
        Some(Start {
            head: u32::from_be(to.read_volatile()),
            flags: (second >> 24) as u8,
            stream: second << 8 | third >> 24,
        })
    }
}

/// What a connection may carry, by its first payload.
#[inline(always)]
pub(super) fn first_payload<const DIRECTION: usize>(
    context: &SkBuffContext,
    sk: *mut bpf_sock,
    socket: &mut Socket,
    packet: &Packet,
) -> u32 {
    if DIRECTION == EGRESS && socket.role == u32::from(role::SERVER) {
        // The client's first bytes may have passed with the handshake, under the listener: then
        // TCP has received what this socket's state has not seen.
        // SAFETY: a full socket; the result is checked.
        unsafe {
            let tcp = bpf_tcp_sock(sk);
            if !tcp.is_null() && (*tcp).rcv_nxt != socket.next[INGRESS] {
                return phase::HTTP;
            }
        }
    }
    let client = if DIRECTION == EGRESS {
        role::CLIENT
    } else {
        role::SERVER
    };
    let from_client = socket.role == u32::from(client);
    if packet.length >= FRAME_HEADER as u32 {
        let Some(start) = start(context, packet) else {
            return phase::OPENING;
        };
        let preface = from_client && sniff::starts_preface(start.head);
        if preface || !from_client && sniff::may_start_server(start.head, start.flags, start.stream)
        {
            // SAFETY: fields of the map value; volatile because two stores side by side become a
            // call of `memset`, whose pointer arithmetic is refused without CAP_PERFMON.
            unsafe {
                let client = if socket.role == u32::from(role::CLIENT) {
                    (PREFACE, 0)
                } else {
                    (0, PREFACE)
                };
                (&raw mut socket.boundary[EGRESS]).write_volatile(client.0);
                (&raw mut socket.boundary[INGRESS]).write_volatile(client.1);
            }
            return phase::HTTP2;
        }
    }
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
    if from_client && result == 0 && sniff::may_start_request(first) {
        phase::HTTP
    } else {
        phase::OPENING
    }
}

/// Looks whether a segment of an unknown stream starts like a request, or like a frame.
#[inline(always)]
pub(super) fn resync<const DIRECTION: usize>(
    context: &SkBuffContext,
    socket: &mut Socket,
    packet: &Packet,
    new: &Decision,
) {
    if new.trim != 0 || !new.in_order {
        return;
    }
    let Some(start) = start(context, packet) else {
        return;
    };
    if sniff::may_start_frame(start.head, start.flags, start.stream) {
        // SAFETY: fields of the map value; volatile as above.
        unsafe {
            (&raw mut socket.boundary[EGRESS]).write_volatile(UNFRAMED);
            (&raw mut socket.boundary[INGRESS]).write_volatile(UNFRAMED);
        }
        socket.phase = phase::HTTP2;
        return;
    }
    if !sniff::starts_request(start.head) {
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
pub(super) fn obey(socket: &mut Socket, slot: &mut Slot) {
    let word = slot.verdict;
    if word != socket.verdict {
        socket.verdict = word;
        socket.shipped = 0;
        match word & 0xff {
            verdict::OPAQUE => {
                if socket.phase != phase::OPENING {
                    // Turns were not followed until now.
                    socket.turn = 0;
                }
                socket.phase = phase::OPAQUE;
            }
            verdict::HTTP => socket.phase = phase::HTTP,
            verdict::HTTP2 | verdict::HTTP2_DATA => {
                if socket.phase != phase::HTTP2 {
                    // SAFETY: fields of the map value; volatile as below.
                    unsafe {
                        (&raw mut socket.boundary[EGRESS]).write_volatile(UNFRAMED);
                        (&raw mut socket.boundary[INGRESS]).write_volatile(UNFRAMED);
                    }
                }
                socket.phase = phase::HTTP2;
                socket.with_data = u32::from(word & 0xff == verdict::HTTP2_DATA);
            }
            verdict::RESYNC => {
                socket.phase = phase::UNSYNCED;
                socket.turn = 0;
                // Volatile: two stores side by side become a call of `memset`, whose pointer
                // arithmetic is refused without CAP_PERFMON.
                // SAFETY: fields of the map value.
                unsafe {
                    (&raw mut socket.skip_until[INGRESS]).write_volatile(0);
                    (&raw mut socket.skip_until[EGRESS]).write_volatile(0);
                }
            }
            _ => {}
        }
    }
    // A hint moves forward only; a stale one is harmless.
    if slot.skip_ingress > socket.skip_until[INGRESS] {
        socket.skip_until[INGRESS] = slot.skip_ingress;
        if socket.boundary[INGRESS] == UNFRAMED {
            socket.boundary[INGRESS] = slot.skip_ingress;
            socket.partial[INGRESS] = 0;
        }
        socket.shipped = 0;
    }
    if slot.skip_egress > socket.skip_until[EGRESS] {
        socket.skip_until[EGRESS] = slot.skip_egress;
        if socket.boundary[EGRESS] == UNFRAMED {
            socket.boundary[EGRESS] = slot.skip_egress;
            socket.partial[EGRESS] = 0;
        }
        socket.shipped = 0;
    }
}
