//! Turns of connections whose bytes are not read: how often a server answered, and how long it took.
//!
//! A turn begins with what the client says first of all, or first after the server spoke, and ends
//! with the last that the server says before the client speaks again. Nothing of the content is
//! needed, so encrypted connections and unknown protocols have turns as well. Where several requests
//! are under way at once, as in HTTP/2, turns are fewer than these and mean little.
//!
//! Of TLS only records of application data (content type 23) are a turn. That alone leaves out the
//! handshake of TLS 1.2. In TLS 1.3 most of it has that type too, but
//!
//! - the client's last flight starts with a record of another type (a change cipher spec for
//!   middleboxes, RFC 8446 appendix D.4), unless it was asked for a second hello; then it is a single
//!   record of a size that only a Finished has;
//! - the server speaks first with a ServerHello, and what follows answers no turn;
//! - session tickets come when no turn is under way, which makes them nothing; or behind the first
//!   request and before its answer, and are then a part of that answer, whose end counts;
//! - an alert, as at the end of an idle connection, is told by its size.
//!
//! A turn that is left out, because a request shares a segment with the end of the handshake, does no
//! harm to the mean of the others; to count what is no turn would.

use core::mem::MaybeUninit;

use aya_ebpf::{
    EbpfContext,
    bindings::__sk_buff,
    helpers::generated::{bpf_skb_load_bytes, bpf_spin_lock, bpf_spin_unlock},
    programs::SkBuffContext,
};
use observer_ebpf::{abi::role, tls::Start};

use super::{EGRESS, INGRESS, header::full_socket};
use crate::{
    emit,
    state::{Socket, phase, turn},
};

/// Phases in which bytes are read: exchanges are counted then.
const READ: u32 = 1 << phase::HTTP | 1 << phase::HTTP2;
/// Longer segments of a server are no alert, and not looked at.
const LONGEST_ALERT: u32 = 96;

/// Whether payload of a direction may change the turn. Without branches: each of them would double
/// what the verifier follows of the rest of the segment's way.
#[inline(always)]
pub(super) fn matters<const DIRECTION: usize>(socket: &Socket) -> bool {
    let read = READ >> (socket.phase & 31);
    let ignored = socket.turn >> (turn::IGNORED_SHIFT + DIRECTION as u32);
    (read | ignored) & 1 == 0
}

/// Takes new payload of a direction that [`matters`]; `place` has its offset and length.
///
/// A global function for the same reasons as the others: within the segment's program, the verifier
/// would not come to an end without CAP_PERFMON. Both directions run at once, so the turn changes
/// under the lock of the socket.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn observer_turn(skb: *mut __sk_buff, place: u64, now: u64, egress: u32) -> u64 {
    let context = SkBuffContext::new(skb);
    let Some(sk) = full_socket(&context) else {
        return 0;
    };
    let Some(socket) = emit::socket(sk, 0) else {
        return 0;
    };
    let (offset, length) = (place as u32, (place >> 32) as u32);
    if length == 0 {
        return 0;
    }
    let role = socket.role;
    if role == u32::from(role::UNKNOWN) {
        // Nobody knows who asks and who answers. The first request will tell.
        socket.turn = turn::IGNORED << INGRESS | turn::IGNORED << EGRESS;
        return 0;
    }
    let client = if role == u32::from(role::CLIENT) {
        (turn::IGNORED << EGRESS, turn::IGNORED << INGRESS)
    } else {
        (turn::IGNORED << INGRESS, turn::IGNORED << EGRESS)
    };
    if (egress != 0) == (role == u32::from(role::CLIENT)) {
        asks(&context, socket, (offset, length), now, client);
    } else {
        answers(&context, socket, (offset, length), now);
    }
    0
}

/// The client speaks. What it adds while it waits changes nothing, nor what the server says before it
/// is asked: `ignored` are the words for either.
#[inline(always)]
fn asks(
    context: &SkBuffContext,
    socket: &mut Socket,
    (offset, length): (u32, u32),
    now: u64,
    ignored: (u32, u32),
) {
    let asked = turn::ASKED | ignored.0;
    let after = match start(context, offset, length) {
        Some(start) if start.is_application_data() => {
            if socket.turns == 0 && start.is_finished(length) {
                turn::TLS | ignored.1
            } else {
                turn::TLS | asked
            }
        }
        Some(_) => turn::TLS | ignored.1,
        // The rest of a record.
        None if socket.turn & turn::TLS != 0 => turn::TLS | ignored.1,
        None => asked,
    };
    // SAFETY: the lock is in the map value; no helper is called until it is released.
    unsafe { bpf_spin_lock(&raw mut socket.lock) };
    if socket.turn & turn::ASKED == 0 {
        socket.turn = after;
        socket.turn_ns = now;
    }
    // SAFETY: see above.
    unsafe { bpf_spin_unlock(&raw mut socket.lock) };
}

/// The server speaks.
#[inline(always)]
fn answers(context: &SkBuffContext, socket: &mut Socket, (offset, length): (u32, u32), now: u64) {
    let before = socket.turn;
    let waited = before & turn::ASKED != 0;
    if before & turn::TLS != 0 && (waited || length <= LONGEST_ALERT) {
        let answers = match start(context, offset, length) {
            Some(start) if waited => start.is_application_data(),
            Some(start) => !start.is_alert(length),
            None => !waited,
        };
        if !answers {
            return;
        }
    }
    // SAFETY: the lock is in the map value; no helper is called until it is released.
    unsafe { bpf_spin_lock(&raw mut socket.lock) };
    let state = socket.turn;
    if state & turn::ASKED != 0 {
        socket.turns += 1;
        socket.turn = state & turn::TLS | turn::ANSWERED;
    }
    if state & (turn::ASKED | turn::ANSWERED) != 0 && now > socket.turn_ns {
        socket.turns_ns += now - socket.turn_ns;
        socket.turn_ns = now;
    }
    // SAFETY: see above.
    unsafe { bpf_spin_unlock(&raw mut socket.lock) };
    if let Some(slot) = emit::slot(socket.slot) {
        slot.turns = socket.turns as u32;
        slot.turns_ns = socket.turns_ns;
    }
}

/// The start of a record of TLS, if a payload starts with one.
#[inline(always)]
fn start(context: &SkBuffContext, offset: u32, length: u32) -> Option<Start> {
    if length < Start::BYTES {
        return None;
    }
    let mut bytes = MaybeUninit::<[u32; 2]>::uninit();
    // SAFETY: five bytes into a local of eight, of which those five are used; volatile because the
    // helper wrote them.
    unsafe {
        let to = bytes.as_mut_ptr().cast::<u32>();
        to.add(1).write_volatile(0);
        if bpf_skb_load_bytes(context.as_ptr(), offset, to.cast(), Start::BYTES) != 0 {
            return None;
        }
        let first = u32::from_be(to.read_volatile());
        let second = u32::from_be(to.add(1).read_volatile());
        Start::of(first, (second >> 24) as u8)
    }
}
