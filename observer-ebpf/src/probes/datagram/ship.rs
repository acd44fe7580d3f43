//! Shipping a datagram: whole, but for what is longer than DNS and QUIC ever need.

use aya_ebpf::{
    EbpfContext,
    bindings::__sk_buff,
    helpers::{
        bpf_ktime_get_ns,
        generated::{bpf_skb_cgroup_id, bpf_skb_load_bytes},
    },
    programs::SkBuffContext,
};
use observer_ebpf::{
    abi::{DatagramRecord, Header, NO_SLOT, direction, kind},
    counters,
};

use super::ends_of;
use crate::{
    emit,
    maps::EVENTS,
    probes::{connection::write_address, segment::header::full_socket},
};

/// Most bytes of a datagram that are shipped.
const LARGEST: u32 = 4096;

/// What [`observer_datagram_ship`] is told of a datagram, in one number.
#[derive(Clone, Copy)]
pub(super) struct What(u64);

impl What {
    pub(super) const EGRESS: u64 = 1 << 8;

    #[inline(always)]
    pub(super) fn new(first: u8, egress: bool) -> Self {
        Self(u64::from(first) | if egress { Self::EGRESS } else { 0 })
    }

    #[inline(always)]
    pub(super) fn of(self, purpose: u8) -> u64 {
        self.0 | u64::from(purpose) << 16
    }
}

/// A record with room for `N` bytes of payload.
#[repr(C)]
struct Shipment<const N: usize> {
    record: DatagramRecord,
    bytes: [u8; N],
}

/// Ships a datagram: `place` has the offset and the length of its payload.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn observer_datagram_ship(skb: *mut __sk_buff, what: u64, place: u64) -> u64 {
    let context = SkBuffContext::new(skb);
    let length = (place >> 32) as u32;
    match length {
        0..=256 => send::<256>(&context, what, place),
        257..=1280 => send::<1280>(&context, what, place),
        _ => send::<{ LARGEST as usize }>(&context, what, place),
    };
    0
}

#[inline(always)]
fn send<const N: usize>(context: &SkBuffContext, what: u64, place: u64) -> Option<()> {
    let sk = full_socket(context)?;
    let ends = ends_of(context, sk, what)?;
    let owner = emit::owner(sk, 0);
    let cookie = emit::cookie(context);
    let (offset, length) = (place as u32, (place >> 32) as u32);
    let captured = if length > N as u32 { N as u32 } else { length };
    let Some(mut entry) = EVENTS.reserve::<Shipment<N>>(0) else {
        emit::count(counters::RING_FULL);
        return None;
    };
    let shipment = entry.as_mut_ptr();
    // SAFETY: the entry is ours until it is submitted; all fields of the record are written.
    unsafe {
        let record = &raw mut (*shipment).record;
        (*record).header = Header {
            kind: kind::DATAGRAM,
            lost: 0,
            slot: NO_SLOT,
            time_ns: bpf_ktime_get_ns(),
            cookie,
        };
        write_address(&raw mut (*record).local_address, ends.local);
        write_address(&raw mut (*record).remote_address, ends.remote);
        (*record).local_port = ends.local_port;
        (*record).remote_port = ends.remote_port;
        (*record).direction = if what & What::EGRESS != 0 {
            direction::EGRESS
        } else {
            direction::INGRESS
        };
        (*record).purpose = (what >> 16) as u8;
        (*record).segment = (*context.skb.skb).gso_size as u16;
        (*record).length = length;
        (*record).captured = captured;
        (*record).cgroup = bpf_skb_cgroup_id(context.skb.skb);
        match owner {
            Some(owner) => emit::copy_owner(owner, &raw mut (*record).owner),
            None => emit::clear_owner(&raw mut (*record).owner),
        }
        if captured > 0 {
            let bytes = (&raw mut (*shipment).bytes).cast();
            let most = emit::bounded(captured.into(), N as u64) as u32;
            if bpf_skb_load_bytes(context.as_ptr(), offset, bytes, most) != 0 {
                emit::count(counters::LOAD_FAILED);
                (*record).captured = 0;
            }
        }
    }
    entry.submit(emit::wakeup());
    Some(())
}
