//! Calls that wait for their place, and the requests that were answered last: a bounded memory.

use std::{borrow::Cow, collections::BTreeSet, time::Duration};

use hashbrown::HashMap;

use super::{FarEnd, Place, Placed, ids::Names};
use crate::{
    model::{
        call::Call,
        connection::ConnectionId,
        time::Monotonic,
        trace::{Cause, SpanId, TraceId},
    },
    telemetry::health::Table,
};

type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// What waits, and for what.
#[derive(Debug, Default)]
pub(super) struct Waits {
    calls: Map<u64, Waiting>,
    /// Number of the next.
    next: u64,
    /// Deadlines of all that wait.
    order: BTreeSet<(Monotonic, u64)>,
    /// Clients' calls, by the connection that their cause came on.
    by_inbound: Map<ConnectionId, Vec<u64>>,
    /// Servers' ends, by the span of the client's end.
    by_client: Map<SpanId, u64>,
    /// The request of each inbound connection that was answered last.
    answered: Map<ConnectionId, Answered>,
    forgot: Monotonic,
    /// Calls that did not wait, for want of room.
    pub(super) full: u64,
}

/// A call that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) call: Call,
    pub(super) names: Names,
    pub(super) far: FarEnd,
    pub(super) deadline: Monotonic,
    pub(super) on: On,
}

/// What a call waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum On {
    /// A client's: the end of the request that caused it.
    Inbound(Cause),
    /// A server's: the client's end.
    Client,
}

/// A request that was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answered {
    pub(super) trace: TraceId,
    /// The server's span.
    pub(super) id: SpanId,
    /// The span that the request's own fields name as its caller.
    pub(super) caller: Option<SpanId>,
    /// The one before it on this connection was over when it began.
    pub(super) alone: bool,
    /// Sequence number of its first byte.
    first: u32,
    /// Bytes of its head and content.
    length: u64,
    has_content: bool,
    is_stream: bool,
    began: Monotonic,
    ended: Monotonic,
    noted: Monotonic,
}

/// Whether a request is the one that a cause means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// It is.
    Exact,
    /// It seems so: the bytes that frame its content are not known.
    Likely,
    /// It is a later one.
    Later,
    /// It was an earlier one.
    Never,
}

/// Most calls that wait.
const LIMIT: usize = 16_384;
/// Most answered requests, one a connection.
const ANSWERED: usize = 65_536;
/// A call that ends so long after its cause was answered is not joined to it.
const ANSWERED_FOR: Duration = Duration::from_secs(30);
/// Between two looks at what is old.
const FORGET: Duration = Duration::from_secs(5);

// === impl Waits ===

impl Waits {
    /// Adds a call; `false` when there is no room.
    pub(super) fn push(&mut self, waiting: Waiting) -> bool {
        if self.calls.len() >= LIMIT {
            self.full += 1;
            return false;
        }
        let number = self.next;
        self.next += 1;
        match waiting.on {
            On::Inbound(cause) => {
                self.by_inbound
                    .entry(cause.inbound)
                    .or_default()
                    .push(number);
            }
            On::Client => {
                self.by_client.insert(waiting.names.client, number);
            }
        }
        self.order.insert((waiting.deadline, number));
        self.calls.insert(number, waiting);
        true
    }

    /// Lets the server's end of a call wait longer, as its client's end waits itself.
    pub(super) fn extend(&mut self, client: SpanId, deadline: Monotonic) {
        if let Some(number) = self.by_client.get(&client)
            && let Some(waiting) = self.calls.get_mut(number)
        {
            self.order.remove(&(waiting.deadline, *number));
            waiting.deadline = deadline;
            self.order.insert((deadline, *number));
        }
    }

    /// Whether the server's end of this client's call waits for it.
    pub(super) fn is_waiting(&self, client: SpanId) -> bool {
        self.by_client.contains_key(&client)
    }

    /// Takes out the server's end of this client's call.
    pub(super) fn take_server(&mut self, client: SpanId) -> Option<Waiting> {
        let number = self.by_client.remove(&client)?;
        self.take(number)
    }

    fn take(&mut self, number: u64) -> Option<Waiting> {
        let waiting = self.calls.remove(&number)?;
        self.order.remove(&(waiting.deadline, number));
        Some(waiting)
    }

    /// The request that was answered last on a connection.
    pub(super) fn answered(&self, id: ConnectionId) -> Option<&Answered> {
        self.answered.get(&id)
    }

    /// Notes that a request was answered.
    pub(super) fn answer(&mut self, server: &Placed<'_>, now: Monotonic) -> Answered {
        let exchange = &server.call.exchange;
        let before = self.answered.get(&exchange.connection);
        let answered = Answered {
            trace: server.place.trace,
            id: server.names.server,
            caller: exchange.context.as_ref().and_then(|context| context.parent),
            alone: before.is_none_or(|before| before.ended <= exchange.sent.first),
            first: exchange.hop.0,
            length: exchange.sent.head_bytes + exchange.sent.body_bytes,
            has_content: exchange.sent.body_bytes > 0,
            is_stream: exchange.stream.is_some(),
            began: exchange.sent.first,
            ended: exchange.ended,
            noted: now,
        };
        if before.is_some() || self.answered.len() < ANSWERED {
            self.answered.insert(exchange.connection, answered);
        } else {
            self.full += 1;
        }
        answered
    }

    /// Takes out the calls whose cause this request is, or can no longer be anything else.
    pub(super) fn take_caused(&mut self, id: ConnectionId, answered: &Answered) -> Vec<Waiting> {
        let Some(numbers) = self.by_inbound.get_mut(&id) else {
            return Vec::new();
        };
        let (calls, order) = (&mut self.calls, &mut self.order);
        let mut taken = Vec::new();
        numbers.retain(|number| {
            let fits = |waiting: &Waiting| match waiting.on {
                On::Inbound(cause) => answered.fit(&cause) != Fit::Later,
                On::Client => false,
            };
            if calls.get(number).is_some_and(fits) {
                taken.extend(calls.remove(number).inspect(|waiting| {
                    order.remove(&(waiting.deadline, *number));
                }));
            }
            calls.contains_key(number)
        });
        if numbers.is_empty() {
            self.by_inbound.remove(&id);
        }
        taken
    }

    /// Takes out one that has waited long enough, with `all` any.
    pub(super) fn due(&mut self, now: Monotonic, all: bool) -> Option<Waiting> {
        let (deadline, number) = self.order.first().copied()?;
        if deadline > now && !all {
            return None;
        }
        let waiting = self.take(number)?;
        self.unlink(&waiting, number);
        Some(waiting)
    }

    /// Forgets requests that were answered long ago.
    pub(super) fn forget(&mut self, now: Monotonic) {
        if now.since(self.forgot) >= FORGET {
            self.forgot = now;
            self.answered
                .retain(|_, answered| now.since(answered.noted) < ANSWERED_FOR);
        }
    }

    pub(super) fn tables(&self) -> Vec<Table> {
        let table = |name, entries: usize, limit: usize| Table {
            name,
            entries: entries as u64,
            limit: limit as u64,
        };
        vec![
            table("spans_waiting", self.calls.len(), LIMIT),
            table("spans_answered", self.answered.len(), ANSWERED),
        ]
    }

    fn unlink(&mut self, waiting: &Waiting, number: u64) {
        match waiting.on {
            On::Inbound(cause) => {
                if let Some(numbers) = self.by_inbound.get_mut(&cause.inbound) {
                    numbers.retain(|other| *other != number);
                    if numbers.is_empty() {
                        self.by_inbound.remove(&cause.inbound);
                    }
                }
            }
            On::Client => {
                if self.by_client.get(&waiting.names.client) == Some(&number) {
                    self.by_client.remove(&waiting.names.client);
                }
            }
        }
    }
}

// === impl Waiting ===

impl Waiting {
    pub(super) fn placed(self, place: Place) -> Placed<'static> {
        Placed {
            call: Cow::Owned(self.call),
            names: self.names,
            place,
        }
    }
}

// === impl Answered ===

impl Answered {
    /// Whether it was under way at `time`: otherwise it cannot have caused what began then.
    pub(super) fn was_open(&self, time: Monotonic) -> bool {
        self.began <= time && time <= self.ended
    }

    /// Whether this request is the one that `cause` means: the one whose last byte is the last that
    /// had come.
    pub(super) fn fit(&self, cause: &Cause) -> Fit {
        // Sequence numbers are compared as TCP does (RFC 9293 section 3.4).
        let behind = cause.sequence.wrapping_sub(self.first).cast_signed();
        let Ok(behind) = u64::try_from(behind) else {
            return Fit::Never;
        };
        if behind == 0 {
            return Fit::Never;
        }
        if behind <= self.length && !self.is_stream {
            return Fit::Exact;
        }
        // Chunks and frames take room of their own.
        let framing = match (self.has_content, self.is_stream) {
            (false, false) => 0,
            (_, _) => self.length / 4 + 64,
        };
        if behind <= self.length + framing {
            Fit::Likely
        } else {
            Fit::Later
        }
    }
}
