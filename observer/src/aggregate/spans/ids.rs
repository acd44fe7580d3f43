//! Names of spans that both ends of a request derive on their own, from what both see of it.
//!
//! Both ends see the same TCP sequence number of a request's first byte and the same
//! acknowledgement number in the segment that carried it, also through address translation; of
//! HTTP/2 the stream, of HTTP/1 the path. Of these 64 bits and more the trace and both spans are
//! named, by functions that map different numbers to different names: two requests share a name
//! only if they share the numbers.
//!
//! Initial sequence numbers are random in all 32 bits in both directions (RFC 9293 section 3.4.1,
//! RFC 6528). Of `n` requests that are kept in one place, `n * n / 2^65` pairs are expected to
//! share the 64 bits, and of those only what has the same stream, or path, shares a name: one in
//! 37 for a billion requests, and one in 37 million for a million.
//!
//! **These functions are a contract between agents of all versions**: a change of one needs new
//! agents on all nodes at once.

use crate::model::{
    connection::Role,
    exchange::{Exchange, HttpVersion},
    lookup::Lookup,
    trace::{SpanId, TraceId},
};

/// The names of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Names {
    /// The trace, where the request names none itself.
    pub(super) trace: TraceId,
    /// The span of the client's end.
    pub(super) client: SpanId,
    /// The span of the server's end.
    pub(super) server: SpanId,
}

/// What keeps the names of one kind apart from those of another: odd, and far from each other.
const TRACE: u64 = 0x9e37_79b9_7f4a_7c15;
const CLIENT: u64 = 0xd1b5_4a32_d192_ed03;
const SERVER: u64 = 0xaef1_7502_b3db_e6e7;
const LOOKUP: u64 = 0x8cb9_2ba7_2f3d_8dd7;

// === impl Names ===

impl Names {
    /// Of an exchange, the same at both of its ends.
    pub(super) fn of(exchange: &Exchange) -> Self {
        let (sequence, acknowledgement) = exchange.hop;
        let hop = u64::from(sequence) << 32 | u64::from(acknowledgement);
        // The path may be unknown to one end of a connection of HTTP/2 that is older than its agent.
        let more = match exchange.stream {
            Some(stream) => u64::from(stream),
            None if exchange.request.version == HttpVersion::Http2 => 0,
            None => text(exchange.request.path.as_bytes()),
        };
        Self::from_numbers(hop, more)
    }

    fn from_numbers(hop: u64, more: u64) -> Self {
        let place = hop ^ mixed(more.wrapping_add(LOOKUP)).rotate_left(23);
        Self {
            trace: trace(
                mixed(hop ^ TRACE),
                mixed(more ^ mixed(hop.wrapping_add(TRACE))),
            ),
            client: span(mixed(place ^ CLIENT)),
            server: span(mixed(place ^ SERVER)),
        }
    }

    /// The span of one end.
    pub(super) fn of_end(&self, role: Role) -> SpanId {
        match role {
            Role::Client => self.client,
            Role::Server | Role::Unknown => self.server,
        }
    }
}

/// Names of a lookup: of one end only, as datagrams have no number that both ends share. `salt` tells
/// hosts apart.
pub(super) fn of_lookup(lookup: &Lookup, salt: u64) -> (TraceId, SpanId) {
    let who = mixed(lookup.socket.0 ^ salt);
    let when = mixed(lookup.sent.0 ^ who);
    let what = text(lookup.name.as_bytes()) ^ u64::from(lookup.kind);
    (
        trace(when, mixed(what ^ when ^ LOOKUP)),
        span(mixed(when.wrapping_add(what) ^ CLIENT)),
    )
}

fn trace(high: u64, low: u64) -> TraceId {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&high.to_be_bytes());
    bytes[8..].copy_from_slice(&low.to_be_bytes());
    TraceId::new(bytes).unwrap_or(TraceId([0xff; 16]))
}

fn span(number: u64) -> SpanId {
    SpanId::new(number.to_be_bytes()).unwrap_or(SpanId([0xff; 8]))
}

/// Every number to another one, one bit in changing half of all bits out (the finaliser of
/// SplitMix64, Steele, Lea and Flood 2014).
const fn mixed(number: u64) -> u64 {
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

/// FNV-1a, 64 bits.
fn text(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use hashbrown::HashSet;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_do_not_change() {
        // What an agent of another version derives: see the head of this file.
        let names = Names::from_numbers(0x0102_0304_a1b2_c3d4, 7);
        assert_eq!(names.trace.to_string(), "5cfb512f027de102a0606cef75c3f771");
        assert_eq!(names.client.to_string(), "17072c334d273415");
        assert_eq!(names.server.to_string(), "47dfb4cd44170fdd");
    }

    #[test]
    fn neighbours_do_not_collide() {
        // Requests of one connection differ in few bits; so do connections of a busy client.
        let (mut traces, mut spans) = (HashSet::new(), HashSet::new());
        let mut count = 0;
        for sequence in 0..200_u64 {
            for acknowledgement in 0..100_u64 {
                for more in 0..10_u64 {
                    let hop = (0x8000_0000 + sequence * 80) << 32 | (77 + acknowledgement * 120);
                    let names = Names::from_numbers(hop, 1 + 2 * more);
                    assert!(traces.insert(names.trace));
                    assert!(spans.insert(names.client), "client");
                    assert!(spans.insert(names.server), "server");
                    count += 1;
                }
            }
        }
        assert_eq!(traces.len(), count);
    }

    #[test]
    fn names_collide_as_seldom_as_their_numbers() {
        // A hop of 20 random bits instead of 64: n * n / 2^21 pairs are expected to collide, and
        // no more do, so nothing is lost on the way from numbers to names.
        let mut state = 42_u64;
        let (mut hops, mut traces, mut spans) = (HashSet::new(), HashSet::new(), HashSet::new());
        for _ in 0..20_000 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let hop = state >> 44;
            let names = Names::from_numbers(hop, 0);
            hops.insert(hop);
            traces.insert(names.trace);
            spans.insert(names.client);
        }
        assert_eq!(traces.len(), hops.len());
        assert_eq!(spans.len(), hops.len());
    }

    #[test]
    fn the_share_of_a_ratio_is_even() {
        // Sampling by ratio looks at the last 56 bits.
        let below = (0..10_000_u64)
            .filter(|number| {
                let names = Names::from_numbers(number << 32 | 5, 0);
                names.trace.0[9] < 128
            })
            .count();
        assert!((4_700..5_300).contains(&below), "{below}");
    }

    proptest! {
        #[test]
        fn different_numbers_have_different_traces(
            one in any::<(u64, u64)>(),
            other in any::<(u64, u64)>(),
        ) {
            let same = Names::from_numbers(one.0, one.1).trace == Names::from_numbers(other.0, other.1).trace;
            prop_assert_eq!(same, one == other);
        }

        #[test]
        fn names_are_valid(hop in any::<u64>(), more in any::<u64>()) {
            let names = Names::from_numbers(hop, more);
            prop_assert_ne!(names.trace.0, [0; 16]);
            prop_assert_ne!(names.client.0, [0; 8]);
            prop_assert_ne!(names.client, names.server);
        }
    }
}
