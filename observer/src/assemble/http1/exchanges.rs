//! What messages come to: their times and sizes, their ends, and the exchanges they make.

use std::collections::VecDeque;

use super::{
    Http1,
    half::{Half, Pending},
};
use crate::{
    assemble::grpc::Walker,
    model::{
        exchange::{Exchange, Outcome},
        time::Monotonic,
    },
};

/// The messages of the request that is being sent, if it is a call.
pub(super) fn requests(queue: &mut VecDeque<Pending>) -> Option<&mut Walker> {
    Some(&mut queue.back_mut()?.rpc.as_mut()?.requests)
}

/// The messages of the response that is being sent, if it is one to a call.
pub(super) fn responses(queue: &mut VecDeque<Pending>) -> Option<&mut Walker> {
    queue.front_mut()?.rpc.as_mut()?.responses.as_mut()
}

// === impl Http1 ===

impl Http1 {
    pub(super) fn sent(&mut self, content: u64, time: Monotonic) {
        if let Some(pending) = self.queue.back_mut() {
            pending.sent.body_bytes += content;
            pending.sent.last = pending.sent.last.max(time);
        }
    }

    pub(super) fn received(&mut self, content: u64, time: Monotonic) {
        if let Some(Pending {
            answer: Some(answer),
            ..
        }) = self.queue.front_mut()
        {
            answer.side.body_bytes += content;
            answer.side.last = answer.side.last.max(time);
        }
    }

    pub(super) fn request_ended(&mut self, out: &mut dyn FnMut(Exchange)) {
        self.client = Half::Head(None);
        if let Some(pending) = self.queue.back_mut() {
            pending.sent_all = true;
        }
        self.emit_ready(out);
    }

    pub(super) fn response_ended(&mut self, out: &mut dyn FnMut(Exchange)) {
        self.server = Half::Head(None);
        if let Some(Pending {
            answer: Some(answer),
            ..
        }) = self.queue.front_mut()
        {
            answer.whole = true;
        }
        self.emit_ready(out);
    }

    /// Emits the exchanges at the front that are complete both ways.
    pub(super) fn emit_ready(&mut self, out: &mut dyn FnMut(Exchange)) {
        while let Some(pending) = self.queue.front()
            && pending.sent_all
            && pending.is_answered()
        {
            if let Some(pending) = self.queue.pop_front() {
                let ended = pending.last_byte();
                out(self.exchange(pending, Outcome::Complete, ended));
            }
        }
    }

    pub(super) fn exchange(
        &mut self,
        pending: Pending,
        outcome: Outcome,
        ended: Monotonic,
    ) -> Exchange {
        self.calls = self
            .calls
            .saturating_sub(usize::from(pending.rpc.is_some()));
        let cancelled =
            (outcome == Outcome::ClientAborted).then(|| ended.since(pending.sent.first));
        let rpc = pending.rpc.map(|calling| {
            let mut rpc = calling.finish(cancelled);
            if outcome == Outcome::Lost {
                rpc.requests.at_least |= !pending.sent_all;
                rpc.responses.at_least |= !pending.answer.is_some_and(|answer| answer.whole);
            }
            Box::new(rpc)
        });
        Exchange {
            connection: self.connection,
            role: self.role,
            ordinal: pending.ordinal,
            request: pending.head,
            sent: pending.sent,
            status: pending.answer.map(|answer| answer.status),
            response_version: pending.answer.map(|answer| answer.version),
            received: pending.answer.map(|answer| answer.side),
            stream: None,
            pushed: false,
            reset: None,
            rpc,
            outcome,
            ended,
            hop: pending.hop,
            forwarded: pending.forwarded,
            context: pending.context,
            cause: None,
        }
    }
}

#[cfg(test)]
mod tests;
