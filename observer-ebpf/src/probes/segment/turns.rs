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
    EbpfContext, helpers::generated::bpf_skb_load_bytes, programs::SkBuffContext,
};
use observer_ebpf::{
    abi::{Slot, role},
    tls::Start,
};

use super::{EGRESS, header::Packet};
use crate::state::{Socket, phase, turn};

/// What a segment does to a turn, as bits beside those of [`turn`].
mod sign {
    /// The client speaks; [`super::turn`] has what the turn is then.
    pub const SPEAKS: u32 = 1 << 8;
    /// The server answers.
    pub const ANSWERS: u32 = 1 << 9;
}

/// Longer segments of a server are no alert, and not looked at.
const LONGEST_ALERT: u32 = 96;

/// Looks what payload may do to the turn, for [`advance`]. What it finds goes through the socket's
/// state: in a register it would be another program to the verifier for each of its values.
#[inline(always)]
pub(super) fn look<const DIRECTION: usize>(
    context: &SkBuffContext,
    socket: &mut Socket,
    packet: &Packet,
) {
    let mut sign = 0;
    if socket.phase != phase::HTTP && socket.phase != phase::HTTP2 {
        let client = if DIRECTION == EGRESS {
            role::CLIENT
        } else {
            role::SERVER
        };
        let state = socket.turn;
        if socket.role == u32::from(role::UNKNOWN) {
            // The first request will tell.
        } else if socket.role == u32::from(client) {
            // What the client adds while it waits changes nothing.
            if state & turn::ASKED == 0 {
                sign = of_client(context, socket, packet);
            }
        } else if state & (turn::ASKED | turn::ANSWERED) != 0 {
            sign = of_server(context, state, packet);
        }
    }
    // SAFETY: a field of the map value; volatile so that nothing of it is kept in a register.
    unsafe { (&raw mut socket.sign[DIRECTION]).write_volatile(sign) };
}

#[inline(always)]
fn of_client(context: &SkBuffContext, socket: &Socket, packet: &Packet) -> u32 {
    let after = match start(context, packet) {
        Some(start) if start.is_application_data() => {
            if socket.turns == 0 && start.is_finished(packet.length) {
                turn::TLS
            } else {
                turn::TLS | turn::ASKED
            }
        }
        Some(_) => turn::TLS,
        // The rest of a record.
        None if socket.turn & turn::TLS != 0 => turn::TLS,
        None => turn::ASKED,
    };
    sign::SPEAKS | after
}

#[inline(always)]
fn of_server(context: &SkBuffContext, state: u32, packet: &Packet) -> u32 {
    let waited = state & turn::ASKED != 0;
    if state & turn::TLS == 0 || !waited && packet.length > LONGEST_ALERT {
        return sign::ANSWERS;
    }
    let answers = match start(context, packet) {
        Some(start) if waited => start.is_application_data(),
        Some(start) => !start.is_alert(packet.length),
        None => !waited,
    };
    if answers { sign::ANSWERS } else { 0 }
}

/// Changes the turn by what [`look`] found, under the lock of the socket: both directions run at once.
#[inline(always)]
pub(super) fn advance<const DIRECTION: usize>(socket: &mut Socket, now: u64) {
    // SAFETY: as above.
    let sign = unsafe { (&raw const socket.sign[DIRECTION]).read_volatile() };
    let state = socket.turn;
    if sign & sign::SPEAKS != 0 && state & turn::ASKED == 0 {
        socket.turn = sign & (turn::ASKED | turn::TLS);
        socket.turn_ns = now;
    }
    if sign & sign::ANSWERS != 0 && state & (turn::ASKED | turn::ANSWERED) != 0 {
        if state & turn::ASKED != 0 {
            socket.turns += 1;
            socket.turn = state & turn::TLS | turn::ANSWERED;
        }
        if now > socket.turn_ns {
            socket.turns_ns += now - socket.turn_ns;
            socket.turn_ns = now;
        }
    }
}

/// Shows the totals in the connection's slot.
#[inline(always)]
pub(super) fn show(socket: &Socket, slot: &mut Slot) {
    if socket.turns != 0 {
        slot.turns = socket.turns as u32;
        slot.turns_ns = socket.turns_ns;
    }
}

/// The start of a record of TLS, if a payload starts with one.
#[inline(always)]
fn start(context: &SkBuffContext, packet: &Packet) -> Option<Start> {
    if packet.length < Start::BYTES {
        return None;
    }
    let mut bytes = MaybeUninit::<[u32; 2]>::uninit();
    // SAFETY: five bytes into a local of eight, of which those five are used; volatile because the
    // helper wrote them.
    unsafe {
        let to = bytes.as_mut_ptr().cast::<u32>();
        to.add(1).write_volatile(0);
        if bpf_skb_load_bytes(context.as_ptr(), packet.offset, to.cast(), Start::BYTES) != 0 {
            return None;
        }
        let first = u32::from_be(to.read_volatile());
        let second = u32::from_be(to.add(1).read_volatile());
        Start::of(first, (second >> 24) as u8)
    }
}
