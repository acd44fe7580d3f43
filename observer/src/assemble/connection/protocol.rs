//! What a connection speaks, behind one face.

use super::recogniser::Recogniser;
use crate::{
    assemble::{
        dns::tcp::Frames,
        heads::Heads,
        http1::{Http1, Piece, Verdict},
        http2::Http2,
    },
    model::{
        connection::Closed,
        exchange::{Exchange, InFlight},
        time::Monotonic,
    },
};

/// What the connection carries, as far as it is known.
pub(super) enum Protocol {
    /// Nothing yet: it was opened under our eyes and has not spoken.
    Fresh,
    /// Its order is not known: only the start of a request, or of frames, helps.
    Unsynced,
    /// Its first bytes are looked at.
    Opening(Box<Recogniser>),
    /// HTTP/1.
    Http1(Box<Http1>),
    /// HTTP/2.
    Http2(Box<Http2>),
    /// DNS.
    Dns(Box<Dns>),
    /// Not decoded.
    Opaque,
}

/// Both directions of a connection that carries DNS.
#[derive(Debug, Default)]
pub(super) struct Dns {
    pub(super) client: Frames,
    pub(super) server: Frames,
    /// Bytes of messages.
    pub(super) understood: u64,
}

// === impl Protocol ===

impl Protocol {
    /// Bytes ahead in one direction that need not be seen.
    pub(super) fn skippable(&self, from_client: bool) -> u64 {
        match self {
            Self::Http1(http) => http.skippable(from_client),
            Self::Http2(http) => http.skippable(from_client),
            Self::Fresh | Self::Unsynced | Self::Opening(_) | Self::Dns(_) | Self::Opaque => 0,
        }
    }

    /// Says whether bytes of the client are missing.
    pub(super) fn set_hole(&mut self, hole: bool) {
        match self {
            Self::Http1(http) => http.set_hole(hole),
            Self::Http2(http) => http.set_hole(hole),
            Self::Fresh | Self::Unsynced | Self::Opening(_) | Self::Dns(_) | Self::Opaque => {}
        }
    }

    /// Takes bytes of one direction.
    pub(super) fn push(
        &mut self,
        from_client: bool,
        piece: Piece<'_>,
        heads: &mut Heads,
        out: &mut dyn FnMut(Exchange),
    ) -> Verdict {
        match self {
            Self::Http1(http) => http.push(from_client, piece, heads, out),
            Self::Http2(http) => http.push(from_client, piece, heads, out),
            Self::Fresh | Self::Unsynced | Self::Opening(_) | Self::Dns(_) | Self::Opaque => {
                Verdict::Http
            }
        }
    }

    /// Takes bytes that were not captured.
    pub(super) fn skip(
        &mut self,
        from_client: bool,
        count: u64,
        time: Monotonic,
        heads: &mut Heads,
        out: &mut dyn FnMut(Exchange),
    ) {
        match self {
            Self::Http1(http) => http.skip(from_client, count, time, out),
            Self::Http2(http) => http.skip(from_client, count, time, heads, out),
            Self::Fresh | Self::Unsynced | Self::Opening(_) | Self::Dns(_) | Self::Opaque => {}
        }
    }

    /// The client, or the server, sends no more.
    pub(super) fn end_of_stream(
        &mut self,
        from_client: bool,
        time: Monotonic,
        out: &mut dyn FnMut(Exchange),
    ) {
        match self {
            Self::Http1(http) => http.end_of_stream(from_client, time, out),
            Self::Http2(http) => http.end_of_stream(from_client, time, out),
            Self::Fresh | Self::Unsynced | Self::Opening(_) | Self::Dns(_) | Self::Opaque => {}
        }
    }

    /// The connection ended.
    pub(super) fn close(&mut self, closed: &Closed, out: &mut dyn FnMut(Exchange)) {
        match self {
            Self::Http1(http) => http.close(closed, out),
            Self::Http2(http) => http.close(closed, out),
            Self::Fresh | Self::Unsynced | Self::Opening(_) | Self::Dns(_) | Self::Opaque => {}
        }
    }

    /// Bytes understood so far.
    pub(super) fn understood(&self) -> u64 {
        match self {
            Self::Http1(http) => http.understood(),
            Self::Http2(http) => http.understood(),
            Self::Dns(dns) => dns.understood,
            Self::Fresh | Self::Unsynced | Self::Opening(_) | Self::Opaque => 0,
        }
    }

    /// Number of the next exchange; `None` where there are none.
    pub(super) fn ordinal(&self) -> Option<u64> {
        match self {
            Self::Http1(http) => Some(http.ordinal()),
            Self::Http2(http) => Some(http.ordinal()),
            Self::Fresh | Self::Unsynced | Self::Opening(_) | Self::Dns(_) | Self::Opaque => None,
        }
    }

    /// Whether it is what it was taken for beyond doubt.
    pub(super) fn is_proven(&self) -> bool {
        match self {
            Self::Http1(http) => http.is_proven(),
            Self::Http2(http) => http.is_proven(),
            Self::Dns(_) => true,
            Self::Fresh | Self::Unsynced | Self::Opening(_) | Self::Opaque => false,
        }
    }

    /// Requests that are not answered in full.
    pub(super) fn in_flight(&self) -> impl Iterator<Item = InFlight> {
        let (first, second) = match self {
            Self::Http1(http) => (Some(http.in_flight()), None),
            Self::Http2(http) => (None, Some(http.in_flight())),
            Self::Fresh | Self::Unsynced | Self::Opening(_) | Self::Dns(_) | Self::Opaque => {
                (None, None)
            }
        };
        let second = second.into_iter().flatten();
        first.into_iter().flatten().chain(second)
    }

    /// Bytes of memory that it takes for what is under way.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Http1(http) => http.weight(),
            Self::Http2(http) => http.weight(),
            Self::Opening(opening) => opening.weight(),
            Self::Dns(dns) => dns.client.weight() + dns.server.weight(),
            Self::Fresh | Self::Unsynced | Self::Opaque => 0,
        }
    }

    /// Gives back memory that a burst took.
    pub(super) fn shrink(&mut self) {
        match self {
            Self::Http1(http) => http.shrink(),
            Self::Http2(http) => http.shrink(),
            Self::Fresh | Self::Unsynced | Self::Opening(_) | Self::Dns(_) | Self::Opaque => {}
        }
    }

    /// Gives back the memory of a quiet connection.
    pub(super) fn quieten(&mut self) {
        match self {
            Self::Http1(http) => http.quieten(),
            Self::Http2(http) => http.quieten(),
            Self::Fresh | Self::Unsynced | Self::Opening(_) | Self::Dns(_) | Self::Opaque => {}
        }
    }
}
