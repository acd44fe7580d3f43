//! Requests in a segment that the kernel holds back: read ahead, without a trace.

use std::sync::Arc;

use super::{
    Http2,
    fields::Fields,
    frame::{self, END_HEADERS, Kind},
    reader::strip,
    stream::Whose,
};
use crate::{
    assemble::{Held, heads::Heads, hpack::Decoder},
    model::exchange::{InFlight, RequestHead},
};

// === impl Http2 ===

impl Http2 {
    /// The requests that begin in a held segment of the client, in order. What of their heads is
    /// cut off is unknown.
    ///
    /// Only when the segment `follows` what was read, the tables of HPACK are those that it was
    /// written with; else only what needs none is known.
    pub fn held(&self, held: &Held, follows: bool, heads: &mut Heads) -> Vec<InFlight> {
        // It may start within a frame.
        let ahead = if follows {
            self.client.to_next()
        } else {
            Some(0)
        };
        let Some(bytes) = ahead
            .and_then(|ahead| usize::try_from(ahead).ok())
            .and_then(|ahead| held.head.get(ahead..))
        else {
            return Vec::new();
        };
        let mut decoder = if follows && !self.client.is_in_block() {
            self.client.decoder.clone()
        } else {
            Decoder::new(false)
        };
        let Whose { connection, role } = self.streams.whose;
        let mut highest = self.streams.highest;
        let mut fields = Fields::default();
        let mut requests = Vec::new();
        let frames = frame::frames(bytes, |header, payload| {
            if header.kind != Kind::Headers {
                return;
            }
            let whole = payload.len() == header.length as usize && header.has(END_HEADERS);
            let block = strip(&header, payload).map_or(&b""[..], |(block, _)| block);
            let read = fields.read(&mut decoder, block);
            if !whole {
                // What the rest of it puts into the table is not seen.
                decoder.lose();
            }
            // Trailers, too, may put something into the table.
            let opens = header.stream > highest && header.stream % 2 == 1;
            if !opens || whole && read.is_err() || fields.status.is_some() {
                return;
            }
            highest = header.stream;
            let mut request = fields.request(heads);
            if !whole && request.path.is_empty() {
                request = Arc::new(RequestHead {
                    truncated: true,
                    ..RequestHead::clone(&request)
                });
            }
            requests.push(InFlight {
                connection,
                role,
                request,
                since: held.since,
            });
        });
        if !frames && !follows {
            requests.clear();
        }
        requests
    }
}
