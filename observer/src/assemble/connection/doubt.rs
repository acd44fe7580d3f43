//! Joining a connection midway, and what is to be doubted until it has proven itself.
//!
//! A request that was sent before we looked may still be owed a response. So what is assembled
//! after joining is held back until the connection shows that nothing was owed: a new request on
//! it when every response is there, or silence. A surplus response shows the opposite.

use std::time::Duration;

use super::{Protocol, Tracked};
use crate::{
    assemble::{
        Instruction, Shared, Sink,
        http1::{Http1, head},
    },
    model::{
        connection::{Direction, Role},
        event::Segment,
        exchange::{Exchange, Outcome},
        time::Monotonic,
    },
};

/// What is to be doubted about a connection that was joined midway.
pub(super) struct Doubt {
    /// End of the request that started it, as a sequence number: the answer must acknowledge it.
    request_end: u32,
    /// Where the answer starts, as a sequence number: its client had received all before it.
    answer_start: u32,
    /// The first response was seen, and passed the test.
    answered: bool,
    /// The role of the socket is a guess as well.
    guessed: bool,
    /// Exchanges that hold only if no surplus response comes.
    held: Vec<Exchange>,
    /// Time of the last byte.
    since: Monotonic,
}

/// Exchanges that are held in doubt at once; the oldest is given up as lost then.
const MAX_DOUBTED: usize = 64;
/// A connection that was answered in full and then quiet for so long owes no response.
const DOUBT_ENDS: Duration = Duration::from_millis(500);

// === impl Doubt ===

impl Doubt {
    /// Bytes of memory that it holds.
    pub(super) fn weight(&self) -> usize {
        self.held.capacity() * size_of::<Exchange>()
    }

    /// Notes that bytes came.
    pub(super) fn touch(&mut self, time: Monotonic) {
        self.since = self.since.max(time);
    }

    /// Nothing that an exchange held back was caused by is certain.
    pub(super) fn doubt_causes(&mut self) {
        for exchange in &mut self.held {
            if let Some(cause) = &mut exchange.cause {
                cause.certain = false;
            }
        }
    }

    /// Holds an exchange back.
    pub(super) fn hold(&mut self, exchange: Exchange) {
        self.held.push(exchange);
    }
}

// === impl Tracked ===

impl Tracked {
    /// Joins a connection of HTTP/1 midway, at the start of a request; false when this is none.
    pub(super) fn join_request(&mut self, segment: &Segment<'_>) -> bool {
        if !segment.in_order || !head::starts_request(segment.bytes) {
            return false;
        }
        let role = match segment.direction {
            Direction::Egress => Role::Client,
            Direction::Ingress => Role::Server,
        };
        let guessed = self.connection.role == Role::Unknown;
        if guessed {
            self.connection.role = role;
        } else if self.connection.role != role {
            return false;
        }
        self.stream(segment.direction)
            .start_at(Some(segment.position));
        self.stream(segment.direction.reverse()).start_at(None);
        let http = Http1::new(self.connection.id, role, self.ordinal);
        self.protocol = Protocol::Http1(Box::new(http));
        self.doubt = Some(Doubt {
            request_end: segment.sequence.wrapping_add(segment.length),
            answer_start: segment.acknowledgement,
            answered: false,
            guessed,
            held: Vec::new(),
            since: segment.time,
        });
        true
    }

    /// Whether the first segment of the server after joining can be of the answer to the first
    /// request: its sender had received the request, and it starts like a response, if it is the
    /// start. Finds out where the stream of the server goes on.
    ///
    /// A client that does not pipeline had received all responses before it sent the request; what
    /// is missing after that was lost.
    pub(super) fn stands_test(&mut self, segment: &Segment<'_>) -> bool {
        let from_server = self.is_from_server(segment.direction);
        let Some(doubt) = &mut self.doubt else {
            return true;
        };
        if !from_server || doubt.answered || segment.length == 0 {
            return true;
        }
        let ahead = segment.sequence.wrapping_sub(doubt.answer_start) as i32;
        if ahead < 0 {
            // Known to the client before it sent the request. The stream has no start yet, so it
            // is passed over.
            return true;
        }
        let acknowledges = segment.acknowledgement.wrapping_sub(doubt.request_end) as i32 >= 0;
        let start = segment
            .position
            .checked_sub(u64::from(ahead.unsigned_abs()));
        let like = ahead > 0 || !segment.bytes.is_empty() && head::may_be_response(segment.bytes);
        let (true, true, Some(start)) = (acknowledges, like, start) else {
            return false;
        };
        doubt.answered = true;
        self.stream(segment.direction).start_at(Some(start));
        true
    }

    /// Whether something is held back that new bytes of the client may prove right.
    pub(super) fn has_doubted(&self) -> bool {
        self.doubt
            .as_ref()
            .is_some_and(|doubt| !doubt.held.is_empty())
    }

    /// A request came after responses that were held back: when none is missing, the order is
    /// right.
    pub(super) fn settle(&mut self, new_request: bool, out: &mut impl Sink) {
        let (Some(doubt), Protocol::Http1(http)) = (&mut self.doubt, &self.protocol) else {
            return;
        };
        if new_request && http.waiting() <= 1 {
            self.confirm(out);
            return;
        }
        // A client that never lets the queue run empty: nothing will prove the oldest right.
        while doubt.held.len() > MAX_DOUBTED {
            out.exchange(unanswered(doubt.held.remove(0)));
        }
    }

    /// Ends doubt about a connection that was answered in full and is quiet.
    pub(super) fn settle_quiet(&mut self, now: Monotonic, out: &mut impl Sink) {
        if let (Some(doubt), Protocol::Http1(http)) = (&self.doubt, &self.protocol)
            && now.since(doubt.since) > DOUBT_ENDS
            && doubt.answered
            && http.is_idle()
        {
            self.confirm(out);
        }
    }

    /// Believes what was in doubt.
    pub(in crate::assemble) fn confirm(&mut self, out: &mut impl Sink) {
        if let Some(doubt) = self.doubt.take() {
            for exchange in doubt.held {
                out.exchange(exchange);
            }
        }
    }

    /// Process `pid` hands requests from thread to thread: nothing that it did is certain.
    pub(in crate::assemble) fn doubt_causes(&mut self, pid: u32) {
        self.causes.doubt(pid);
        if let Some(doubt) = &mut self.doubt {
            // Whose these were is not kept.
            doubt.doubt_causes();
        }
    }

    /// Ends everything under way as lost: bytes are missing, or the order was wrong.
    pub(super) fn lose_messages(&mut self, shared: &mut Shared, out: &mut impl Sink) {
        let Protocol::Http1(http) = &mut self.protocol else {
            return;
        };
        match self.doubt.take() {
            // Neither the role is known nor did anything answer: what started like a request may
            // have been part of a body, and is no call that anybody made.
            Some(doubt) if doubt.guessed && !doubt.answered => {
                http.lose(&mut shared.heads, &mut |_| {});
                self.connection.role = Role::Unknown;
            }
            // Responses in doubt may be another's.
            Some(doubt) => {
                for exchange in doubt.held {
                    out.exchange(unanswered(exchange));
                }
                http.lose(&mut shared.heads, &mut |exchange| {
                    out.exchange(unanswered(exchange));
                });
                if doubt.guessed {
                    self.connection.role = Role::Unknown;
                }
            }
            None => http.lose(&mut shared.heads, &mut |exchange| out.exchange(exchange)),
        }
        self.ordinal = http.ordinal();
        self.understood += http.understood();
    }

    /// The order is lost, and the segment itself may be where a request starts.
    pub(super) fn starts_over(
        &mut self,
        segment: &Segment<'_>,
        shared: &mut Shared,
        out: &mut impl Sink,
    ) -> bool {
        self.lose_messages(shared, out);
        self.cut = false;
        let joined = self.join_request(segment);
        if !joined {
            self.stop(Protocol::Unsynced, Instruction::Resync, out);
        }
        joined
    }
}

/// The exchange without a response that may be another's.
fn unanswered(exchange: Exchange) -> Exchange {
    Exchange {
        status: None,
        response_version: None,
        received: None,
        outcome: Outcome::Lost,
        ended: exchange.sent.last,
        ..exchange
    }
}
