//! Requests that the kernel holds back until their response comes.

use std::sync::Arc;

use super::Protocol;
use crate::{
    assemble::{Held, heads::Heads, http1::head},
    model::{
        connection::{ConnectionId, Role},
        exchange::{HttpVersion, InFlight, RequestHead},
        time::Monotonic,
    },
};

/// The requests of a held segment as such that are in flight, when enough of their heads is there
/// to tell.
///
/// `follows` says that the segment is next in what was read of the client, as far as is known.
pub(super) fn held_requests(
    protocol: &Protocol,
    (connection, role): (ConnectionId, Role),
    held: &Held,
    follows: bool,
    heads: &mut Heads,
) -> Vec<InFlight> {
    match protocol {
        Protocol::Http2(http) => http.held(held, follows, heads),
        _ => held_request(connection, role, held.since, &held.head, heads)
            .into_iter()
            .collect(),
    }
}

fn held_request(
    connection: ConnectionId,
    role: Role,
    since: Monotonic,
    bytes: &[u8],
    heads: &mut Heads,
) -> Option<InFlight> {
    let request = match head::opening(bytes) {
        Some(request) => heads.intern(&request),
        None if memchr::memchr(b'\n', bytes).is_none() && head::may_be_request(bytes) => {
            // The line is cut off: its method is all that is sure.
            let method = bytes.get(..memchr::memchr(b' ', bytes)?)?;
            Arc::new(RequestHead {
                method: String::from_utf8_lossy(method).into(),
                path: "".into(),
                has_query: false,
                scheme: None,
                authority: "".into(),
                user_agent: "".into(),
                version: HttpVersion::Http11,
                truncated: true,
            })
        }
        None => return None,
    };
    Some(InFlight {
        connection,
        role,
        request,
        since,
    })
}
