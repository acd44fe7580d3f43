//! What a connection speaks: from its first bytes on, until it speaks something else.

use std::sync::Arc;

use super::{
    Protocol, Tracked,
    recogniser::{self, Step},
};
use crate::{
    assemble::{
        Instruction, Shared, Sink,
        dns::{self, Channel},
        http1::{Http1, Piece, Verdict},
        http2::Http2,
    },
    model::{
        connection::{Connection, ConnectionEvent, Direction, Role},
        event::Segment,
        lookup::Transport,
        security::Opening,
    },
};

/// Where DNS servers listen (RFC 7766).
const DNS_PORT: u16 = 53;

// === impl Tracked ===

impl Tracked {
    /// The first bytes came: most of the time they tell at once what the connection speaks.
    pub(super) fn begin(
        &mut self,
        segment: &Segment<'_>,
        shared: &mut Shared,
        out: &mut impl Sink,
    ) {
        let from_client = !self.is_from_server(segment.direction);
        let at_start = segment.position == 0 && segment.length == segment.bytes.len() as u32;
        let of_dns = self.connection.server_ports().any(|port| port == DNS_PORT);
        if of_dns && at_start && from_client && dns::tcp::starts(segment.bytes) {
            self.recognised("dns", out);
            self.protocol = Protocol::Dns(Box::default());
            if let Some(slot) = self.slot {
                // All of it is wanted, and what answers a question may leave with it.
                out.instruct(slot, self.connection.id, Instruction::Http);
            }
            return;
        }
        let step = match recogniser::first_of_all(from_client, segment.bytes) {
            _ if !at_start => Step::More,
            step => step,
        };
        match step {
            Step::Http1 | Step::Http2 => self.speaks(step, shared, out),
            Step::More | Step::News | Step::Opaque => {
                self.protocol = Protocol::Opening(Box::default());
            }
        }
    }

    /// Takes bytes of DNS.
    fn look_up(
        &mut self,
        from_client: bool,
        piece: &Piece<'_>,
        shared: &mut Shared,
        out: &mut impl Sink,
    ) {
        let Protocol::Dns(dns) = &mut self.protocol else {
            return;
        };
        let Connection {
            id,
            role,
            local,
            remote,
            owner,
            ..
        } = &self.connection;
        let channel = Channel {
            socket: *id,
            owner,
            transport: Transport::Tcp,
            local: *local,
            remote: *remote,
        };
        let direction = if from_client == (*role == Role::Client) {
            Direction::Egress
        } else {
            Direction::Ingress
        };
        dns.understood += piece.bytes.len() as u64;
        let frames = if from_client {
            &mut dns.client
        } else {
            &mut dns.server
        };
        frames.push(piece.bytes, |message| {
            let ended = shared
                .lookups
                .push(&channel, direction, piece.time, message);
            if let Some(lookup) = ended {
                out.lookup(lookup);
            }
        });
    }

    /// The connection speaks what its first bytes showed.
    pub(super) fn speaks(&mut self, step: Step, shared: &mut Shared, out: &mut impl Sink) {
        let Connection { id, role, .. } = self.connection;
        match step {
            Step::More | Step::News => {}
            Step::Http1 => {
                self.protocol = Protocol::Http1(Box::new(Http1::new(id, role, self.ordinal)));
            }
            Step::Http2 => {
                self.protocol = Protocol::Http2(Box::new(Http2::new(id, role, self.ordinal)));
            }
            Step::Opaque => {
                shared.counters.not_http += 1;
                self.tell_opening(out);
                self.stop(Protocol::Opaque, Instruction::Opaque, out);
            }
        }
    }

    /// Tells what the connection speaks.
    pub(super) fn recognised(&mut self, protocol: &'static str, out: &mut impl Sink) {
        self.named = true;
        let opening = Opening {
            protocol: Some(protocol),
            ..self.opening.as_deref().cloned().unwrap_or_default()
        };
        self.tell(opening, out);
    }

    /// Tells what the connection speaks, once that is sure: a request, or the preface, is whole.
    fn name(&mut self, verdict: Verdict, piece: &Piece<'_>, out: &mut impl Sink) {
        match &self.protocol {
            Protocol::Http1(http) if http.ordinal() > 0 || http.is_proven() => {
                self.recognised("http/1", out);
            }
            Protocol::Http1(_)
                if verdict == Verdict::NotHttp && recogniser::is_text(piece.bytes) =>
            {
                self.recognised("text", out);
            }
            Protocol::Http2(http) if http.has_started() => self.recognised("http/2", out),
            _ => {}
        }
    }

    /// Tells what the first bytes showed so far.
    pub(super) fn tell_opening(&mut self, out: &mut impl Sink) {
        if let Protocol::Opening(recogniser) = &self.protocol {
            let opening = recogniser.opening().clone();
            self.tell(opening, out);
        }
    }

    fn tell(&mut self, opening: Opening, out: &mut impl Sink) {
        let before = self.opening.as_deref();
        if before == Some(&opening) || before.is_none() && opening == Opening::default() {
            return;
        }
        let opening = Arc::new(opening);
        self.opening = Some(Arc::clone(&opening));
        let id = self.connection.id;
        out.connection(ConnectionEvent::Recognised { id, opening });
    }

    /// Takes the next bytes of one direction; false when they ended the protocol.
    pub(super) fn take(
        &mut self,
        from_client: bool,
        piece: Piece<'_>,
        shared: &mut Shared,
        out: &mut impl Sink,
    ) -> bool {
        if let Protocol::Opening(opening) = &mut self.protocol {
            let step = opening.push(from_client, &piece);
            shared.counters.broken += u64::from(std::mem::take(&mut opening.broken));
            match step {
                Step::More => return true,
                Step::News => {
                    self.tell_opening(out);
                    return true;
                }
                Step::Http1 | Step::Http2 | Step::Opaque => {}
            }
            let kept = opening.take();
            if let Some(proxied) = &opening.opening().proxied {
                self.opening = Some(Arc::new(Opening {
                    proxied: Some(Arc::clone(proxied)),
                    ..Opening::default()
                }));
            }
            self.speaks(step, shared, out);
            let instruction = match step {
                Step::Http1 => Instruction::Http,
                Step::Http2 => Instruction::Http2 { with_data: false },
                _ => return false,
            };
            if let Some(slot) = self.slot {
                out.instruct(slot, self.connection.id, instruction);
            }
            return kept
                .iter()
                .all(|kept| self.take(kept.from_client, kept.piece(), shared, out));
        }
        if let Protocol::Dns(_) = &self.protocol {
            self.look_up(from_client, &piece, shared, out);
            return true;
        }
        let new_request = from_client && self.has_doubted();
        let heads = &mut shared.heads;
        let verdict = self.with_protocol(out, |protocol, emit| {
            protocol.push(from_client, piece, heads, emit)
        });
        if let Protocol::Http2(http) = &mut self.protocol {
            let (untracked, unpaired) = http.take_losses();
            shared.counters.pipeline_full += untracked;
            shared.counters.unpaired += unpaired;
        }
        if !self.named {
            self.name(verdict, &piece, out);
        }
        if self.doubt.is_some() {
            self.settle(new_request, out);
        }
        match verdict {
            Verdict::Http => true,
            Verdict::Upgraded => self.upgrade(from_client, piece, shared, out),
            _ => {
                self.end_protocol(verdict, shared, out);
                false
            }
        }
    }

    /// HTTP/1 became HTTP/2, and the last bytes of `piece` are the first of it.
    pub(super) fn upgrade(
        &mut self,
        from_client: bool,
        mut piece: Piece<'_>,
        shared: &mut Shared,
        out: &mut impl Sink,
    ) -> bool {
        let Protocol::Http1(http) = &mut self.protocol else {
            return true;
        };
        let Some((asked, unread)) = http.take_upgrade() else {
            return true;
        };
        self.confirm(out);
        self.keep_counts();
        let Connection { id, role, .. } = self.connection;
        let http = Http2::upgraded(id, role, self.ordinal, asked);
        self.protocol = Protocol::Http2(Box::new(http));
        self.recognised("http/2", out);
        if let Some(slot) = self.slot {
            out.instruct(slot, id, Instruction::Http2 { with_data: false });
        }
        piece.advance(piece.bytes.len().saturating_sub(unread));
        piece.bytes.is_empty() || self.take(from_client, piece, shared, out)
    }

    /// The connection is not HTTP any more, or is out of order.
    pub(super) fn end_protocol(
        &mut self,
        verdict: Verdict,
        shared: &mut Shared,
        out: &mut impl Sink,
    ) {
        let counters = &mut shared.counters;
        match verdict {
            Verdict::Http => return,
            Verdict::Tunnel | Verdict::Upgraded => {}
            Verdict::NotHttp => counters.not_http += 1,
            Verdict::Broken => counters.broken += 1,
            Verdict::Full => counters.pipeline_full += 1,
            Verdict::Unpaired => counters.unpaired += 1,
        }
        let misread = self.doubt.is_some() && verdict != Verdict::Tunnel;
        if verdict == Verdict::Unpaired || misread {
            // What was taken for a request may have been part of a body.
            self.lose_order(shared, out);
            return;
        }
        self.confirm(out);
        self.keep_counts();
        self.stop(Protocol::Opaque, Instruction::Opaque, out);
    }

    /// Keeps what counts of a protocol that is over.
    pub(super) fn keep_counts(&mut self) {
        if self.protocol.is_proven() {
            self.understood += self.protocol.understood();
        }
        self.ordinal = self.protocol.ordinal().unwrap_or(self.ordinal);
    }
}
