//! What caused the requests of a client, until these are told.

use crate::model::{connection::Role, event::Caused, exchange::Exchange, trace::Cause};

/// Writes that are remembered of one connection. One of HTTP/1 rarely has more than one at a time,
/// one of HTTP/2 as many as there are calls under way.
const MAX_CAUSES: usize = 64;

/// Writes to a server whose cause is known.
#[derive(Debug, Default)]
pub(super) struct Causes {
    /// In the order in which they were told.
    writes: Vec<Write>,
    /// First byte of the request of HTTP/1 that was told last without a cause.
    unexplained: Option<u32>,
    /// Those that went without a request.
    unmatched: u64,
}

#[derive(Debug)]
struct Write {
    caused: Caused,
    /// A request took it.
    taken: bool,
}

// === impl Causes ===

impl Causes {
    /// Remembers a write.
    pub(super) fn push(&mut self, caused: Caused) {
        let write = Write {
            caused,
            taken: false,
        };
        if self.unexplained.is_some_and(|first| write.has(first)) {
            // Its request was told before: the thread was held up on its way out of the write.
            self.unmatched += 1;
            return;
        }
        if self.writes.len() >= MAX_CAUSES {
            let oldest = self.writes.iter().position(|write| write.taken);
            let gone = self.writes.remove(oldest.unwrap_or(0));
            self.unmatched += u64::from(!gone.taken);
        }
        self.writes.push(write);
    }

    /// A request that ended, with what caused it.
    pub(super) fn explained(&mut self, mut exchange: Exchange) -> Exchange {
        if exchange.role != Role::Client {
            return exchange;
        }
        exchange.cause = self.find(&exchange);
        if exchange.stream.is_none() {
            let first = exchange.hop.0;
            self.unexplained = exchange.cause.is_none().then_some(first);
            // Requests of HTTP/1 end in order: what was written before went on with one of them.
            self.writes.retain(|write| !write.is_before(first));
        }
        exchange
    }

    fn find(&mut self, exchange: &Exchange) -> Option<Cause> {
        let first = exchange.hop.0;
        let mut found = self.writes.iter_mut().filter(|write| write.has(first));
        let write = found.next()?;
        write.taken = true;
        let mut cause = write.caused.cause;
        // A request of HTTP/1 starts a write of its own, and was on its way when that returned.
        // Frames of HTTP/2 may be written by whoever holds the connection.
        cause.certain &= exchange.stream.is_none()
            && write.caused.sequence == first
            && write.caused.time >= exchange.sent.first;
        for other in found {
            // Bytes are written once: what tells otherwise was miscounted.
            other.taken = true;
            cause.certain = false;
        }
        Some(cause)
    }

    /// Nothing that a process did is certain.
    pub(super) fn doubt(&mut self, pid: u32) {
        for write in &mut self.writes {
            if write.caused.pid == pid {
                write.caused.cause.certain = false;
            }
        }
    }

    /// The connection is over. Returns how many writes went without a request since this was last
    /// asked.
    pub(super) fn end(&mut self) -> u64 {
        for write in std::mem::take(&mut self.writes) {
            self.unmatched += u64::from(!write.taken);
        }
        self.take_unmatched()
    }

    /// How many writes went without a request since this was last asked.
    pub(super) fn take_unmatched(&mut self) -> u64 {
        std::mem::take(&mut self.unmatched)
    }
}

// === impl Write ===

impl Write {
    /// Whether the byte of a sequence number was written by it.
    fn has(&self, sequence: u32) -> bool {
        sequence.wrapping_sub(self.caused.sequence) < self.caused.length
    }

    /// Whether all of it is before a sequence number.
    fn is_before(&self, sequence: u32) -> bool {
        let end = self.caused.sequence.wrapping_add(self.caused.length);
        sequence.wrapping_sub(end).cast_signed() >= 0
    }
}

#[cfg(test)]
mod tests;
