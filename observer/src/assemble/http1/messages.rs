//! What a head does: a request begins, a response answers it, or neither is one.

use super::{
    Http1, Upgraded, Verdict,
    body::Body,
    half::{Answer, Expects, Half, Pending},
    head::{self, BodyLength},
};
use crate::{
    assemble::{grpc::Calling, heads::Heads},
    model::{
        exchange::{Exchange, Outcome, Side},
        time::Monotonic,
    },
};

// === impl Http1 ===

impl Http1 {
    /// A request head is complete.
    pub(super) fn begin(
        &mut self,
        request: &head::Request<'_>,
        head_bytes: usize,
        hop: (u32, u32),
        (first, last): (Monotonic, Monotonic),
        heads: &mut Heads,
    ) {
        let (length, expects) = (request.body, Expects::of(request));
        self.understood += head_bytes as u64;
        let body = Body::new(length);
        let rpc = request
            .rpc
            .map(|(format, deadline)| Box::new(Calling::new(format, deadline)));
        self.calls += usize::from(rpc.is_some());
        self.queue.push_back(Pending {
            head: heads.intern(request),
            expects,
            ordinal: self.ordinal,
            sent: Side {
                first,
                last,
                head_bytes: head_bytes as u64,
                body_bytes: 0,
            },
            sent_all: body.is_none() || length == BodyLength::Malformed,
            hop,
            answer: None,
            rpc,
            context: heads.context(&request.trace),
            forwarded: heads.asked(&request.asked, &request.trace),
        });
        self.ordinal += 1;
        match (expects, length) {
            (Expects::Tunnel, _) => self.client = Half::Waiting,
            (_, BodyLength::Malformed) => self.stop_requests(Verdict::Broken),
            _ => self.client = Half::after(body),
        }
    }

    /// Takes the request whose head is not complete for what its start says. False when not even
    /// its line is there.
    pub(super) fn begin_opening(&mut self, heads: &mut Heads) -> bool {
        let Half::Head(Some(partial)) = &mut self.client else {
            return false;
        };
        let buffer = std::mem::take(&mut partial.buffer);
        let (hop, times) = (partial.hop, (partial.first, partial.last));
        let Some(request) = head::opening(&buffer) else {
            return false;
        };
        self.begin(&request, buffer.len(), hop, times, heads);
        if let Some(pending) = self.queue.back_mut() {
            pending.sent_all = true;
        }
        self.stop_requests(Verdict::Broken);
        true
    }

    /// A response head is complete.
    pub(super) fn answer(
        &mut self,
        response: head::Response,
        head_bytes: usize,
        (first, last): (Monotonic, Monotonic),
        heads: &mut Heads,
        out: &mut dyn FnMut(Exchange),
    ) -> Verdict {
        self.proven = true;
        self.understood += head_bytes as u64;
        if self.queue.is_empty() {
            if response.status == 408 && self.is_idle() {
                // The server tells a client that was idle for too long, and closes (RFC 9110
                // section 15.5.9).
                self.server = Half::Ignored;
                return Verdict::Http;
            }
            // Some servers refuse a request before its head is complete.
            if self.hole || !self.begin_opening(heads) {
                return Verdict::Unpaired;
            }
        }
        let Some(pending) = self.queue.front_mut() else {
            return Verdict::Unpaired;
        };
        if pending.answer.is_some() {
            // The request is still being sent, and has its answer already.
            return Verdict::Unpaired;
        }
        let status = response.status;
        if status < 200 && status != 101 {
            // Interim: the final response follows (RFC 9110 section 15.2).
            return Verdict::Http;
        }
        let switched =
            status == 101 || pending.expects == Expects::Tunnel && (200..300).contains(&status);
        let none = switched || pending.expects == Expects::NoContent || matches!(status, 204 | 304);
        let body = if none { None } else { Body::new(response.body) };
        let side = Side {
            first,
            last: last.max(first),
            head_bytes: head_bytes as u64,
            body_bytes: 0,
        };
        if let Some(calling) = &mut pending.rpc {
            calling.answered(response.rpc, response.rpc_status);
        }
        pending.forwarded = heads.answered(pending.forwarded.take(), response.answered);
        pending.answer = Some(Answer::new(response, side, body.is_none()));
        if switched {
            self.client = Half::Ignored;
            self.server = Half::Ignored;
            if let Some(pending) = self.queue.pop_front() {
                if status == 101 && response.to_http2 && pending.sent_all {
                    self.upgraded = Some(Upgraded {
                        head: pending.head,
                        ordinal: pending.ordinal,
                        sent: pending.sent,
                        hop: pending.hop,
                        context: pending.context,
                        forwarded: pending.forwarded,
                    });
                    return Verdict::Upgraded;
                }
                out(self.exchange(pending, Outcome::Tunnel, last));
            }
            self.abandon(Outcome::Malformed, last, out);
            return Verdict::Tunnel;
        }
        if !none && response.body == BodyLength::Malformed {
            // A client must not use such a response (RFC 9112 section 6.3, 5).
            self.abandon(Outcome::Malformed, last, out);
            return Verdict::Broken;
        }
        if pending.expects == Expects::Tunnel && matches!(self.client, Half::Waiting) {
            // Refused: the client may go on with other requests.
            self.client = Half::Head(None);
            pending.sent_all = true;
        }
        self.server = Half::after(body);
        self.emit_ready(out);
        Verdict::Http
    }

    /// Nothing that the client sends from here on is looked at. When the requests before are
    /// answered, the connection comes to `verdict`.
    pub(super) fn stop_requests(&mut self, verdict: Verdict) {
        self.client = Half::Ignored;
        self.verdict = Some(verdict);
    }

    pub(super) fn not_a_request(&mut self) -> Verdict {
        if !self.queue.is_empty() {
            // The requests before it have their responses all the same; and one that asks for an
            // upgrade may be followed by the new protocol before the server has agreed.
            self.stop_requests(Verdict::Broken);
            Verdict::Http
        } else if self.proven {
            Verdict::Broken
        } else {
            Verdict::NotHttp
        }
    }

    pub(super) fn not_a_response(
        &mut self,
        time: Monotonic,
        out: &mut dyn FnMut(Exchange),
    ) -> Verdict {
        if !self.proven {
            self.queue.clear();
            self.calls = 0;
            return Verdict::NotHttp;
        }
        self.abandon(Outcome::Malformed, time, out);
        Verdict::Broken
    }
}
