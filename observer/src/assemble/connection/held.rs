//! A request that the kernel holds back until its response comes.

use std::sync::Arc;

use crate::{
    assemble::{heads::Heads, http1::head},
    model::{
        connection::{ConnectionId, Role},
        exchange::{HttpVersion, InFlight, RequestHead},
        time::Monotonic,
    },
};

/// A held request as one in flight, when enough of its head is there to tell.
pub(super) fn held_request(
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
