//! Flows as JSON: the one place that documents and makes the lines of `/api/v1/flows`.
//!
//! Every line is one flat object with a `kind`: `call` ([`CallLine`]), `connection`
//! ([`ConnectionLine`]), `lookup` ([`LookupLine`]), `datagrams` ([`DatagramsLine`]), or `lost`
//! ([`LostLine`]). All keys are always there, `null` where
//! nothing is known; keys may be added. Times are RFC 3339, UTC, with nanoseconds; durations are
//! seconds; sizes are bytes; addresses are `ip:port`, `[ip]:port` for IPv6. Queries, bodies and
//! header fields other than those named here are never kept.

mod forwarded;
mod kubernetes;
mod mesh;
mod opening;
mod place;
mod procedure;
mod text;
mod traced;
mod udp;

use std::net::SocketAddr;

use serde::Serialize;

pub use self::{
    forwarded::Told,
    kubernetes::{Kubernetes, Pairs},
    mesh::Meshed,
    opening::{Handshake, Secured},
    place::Place,
    procedure::Procedure,
    traced::Traced,
};
use self::{
    place::{place, place_of},
    text::timestamp,
};

use crate::{
    aggregate::history::{Flow, FlowEvent, Judgement},
    model::{
        call::{Call, Link, LinkEvent},
        connection::{Role, Transfer},
        kubernetes::Service,
        time::WallOffset,
        workload::{Peer, Workload},
    },
};

pub use udp::{AnswerLine, DatagramsLine, LookupLine};

/// One HTTP request with its response.
#[derive(Clone, Debug, Serialize)]
pub struct CallLine<'a> {
    /// `call`.
    pub kind: &'static str,
    /// When the first byte of the request passed the socket.
    pub time: String,
    /// Which end was observed: `server` or `client`.
    pub side: &'static str,
    /// `http`; `grpc` or `grpc-web` when it is such a call.
    pub protocol: &'static str,
    /// Of HTTP: `1.0`, `1.1` or `2`, of the request.
    pub version: &'static str,
    /// Whose socket it is, and who is at the other end.
    #[serde(flatten)]
    pub who: Who<'a>,
    /// Request method as sent; empty when it was not seen.
    pub method: &'a str,
    /// Path of the target without its query; empty when it was not seen.
    pub path: &'a str,
    /// Scheme that the request named; HTTP/1 does so to proxies only.
    pub scheme: Option<&'a str>,
    /// Template of the path.
    pub route: &'a str,
    /// A query followed the path.
    pub query: bool,
    /// `Host`, or the authority of the target.
    pub authority: &'a str,
    /// `User-Agent`.
    pub user_agent: &'a str,
    /// Status of the final response; `null` when there was none.
    pub status: Option<u16>,
    /// `complete`, `tunnel`, `client_aborted`, `server_aborted`, `aborted`, `lost`, `malformed`,
    /// `refused`.
    pub outcome: &'static str,
    /// `error.type`, of the procedure if it is one; `null` when the call did not fail.
    pub error: Option<&'static str>,
    /// First byte of the request to last of the response, seconds.
    pub duration_seconds: f64,
    /// First byte of the request to first of the response, seconds.
    pub time_to_first_byte_seconds: Option<f64>,
    /// Start line and fields of the request.
    pub request_head_bytes: u64,
    /// Content of the request.
    pub request_body_bytes: u64,
    /// Status line and fields of the response; 0 without one.
    pub response_head_bytes: u64,
    /// Content of the response; 0 without one.
    pub response_body_bytes: u64,
    /// What it is as a remote procedure call.
    #[serde(flatten)]
    pub procedure: Procedure<'a>,
    /// The trace that it belongs to.
    #[serde(flatten)]
    pub traced: Traced,
    /// What proxies told.
    #[serde(flatten)]
    pub forwarded: Told<'a>,
    /// Over which connection.
    #[serde(flatten)]
    pub place: Place<'a>,
    /// Who secured that.
    #[serde(flatten)]
    pub secured: Secured<'a>,
    /// What a service mesh does to it.
    #[serde(flatten)]
    pub meshed: Meshed<'a>,
    /// Number of the exchange on its connection, from 0.
    pub ordinal: u64,
    /// HTTP/2: number of its stream.
    pub stream: Option<u32>,
    /// HTTP/2: the server pushed it.
    pub pushed: bool,
    /// HTTP/2: code of the RST_STREAM or GOAWAY that ended it (RFC 9113 section 7).
    pub reset_code: Option<u32>,
    /// TCP sequence number of the first byte of the request, the same at both ends.
    pub request_sequence: u32,
    /// The connection of the request that a thread of the client had read, and not answered, when
    /// it sent this one, 16 hexadecimal digits; `null` when that is not known.
    #[serde(serialize_with = "text::optional_hexadecimal")]
    pub cause_connection: Option<u64>,
    /// Which request on that connection: the last one whose `request_sequence` is before it.
    pub cause_sequence: Option<u32>,
    /// Whether that is certain, or likely only.
    pub cause_certain: Option<bool>,
}

/// A change of a TCP connection.
#[derive(Clone, Debug, Serialize)]
pub struct ConnectionLine<'a> {
    /// `connection`.
    pub kind: &'static str,
    /// `opened`, `recognised` when its first bytes showed what it is, `closed` or `failed`. TLS is
    /// recognised when its handshake ended; HTTP in the clear has calls instead.
    pub event: &'static str,
    /// When.
    pub time: String,
    /// Which end was observed: `server`, `client` or `unknown`.
    pub side: &'static str,
    /// `tcp`.
    pub protocol: &'static str,
    /// Whose socket it is, and who is at the other end.
    #[serde(flatten)]
    pub who: Who<'a>,
    /// Failed: `refused`, `timed_out`, `unreachable`, `reset`, `abandoned`.
    pub failure: Option<&'static str>,
    /// Closed: `local`, `remote`, `timeout`, `unknown`.
    pub closed_by: Option<&'static str>,
    /// Closed: with a RST.
    pub reset: Option<bool>,
    /// Closed: from the end of the handshake; failed: from the attempt.
    pub duration_seconds: Option<f64>,
    /// From connect to the end of the handshake, at clients.
    pub connect_seconds: Option<f64>,
    /// Closed: payload bytes sent; 0 before.
    pub sent_bytes: u64,
    /// Closed: payload bytes received; 0 before.
    pub received_bytes: u64,
    /// Closed: segments sent; 0 before.
    pub sent_segments: u32,
    /// Closed: segments received; 0 before.
    pub received_segments: u32,
    /// Closed: segments sent again; 0 before.
    pub retransmits: u32,
    /// Closed: smoothed round-trip time.
    pub smoothed_rtt_seconds: Option<f64>,
    /// Closed: lowest round-trip time.
    pub minimum_rtt_seconds: Option<f64>,
    /// Closed, where bytes were not read, as of TLS: how often the server answered what the client
    /// had said. With one request at a time that is their number; else it is less, and means little.
    pub turns: Option<u64>,
    /// With `turns`: from the first byte of the client to the last of the answer, all together.
    pub turn_seconds: Option<f64>,
    /// Older than the observer.
    pub pre_existing: bool,
    /// Which connection.
    #[serde(flatten)]
    pub place: Place<'a>,
    /// Who secured it.
    #[serde(flatten)]
    pub secured: Secured<'a>,
    /// What a service mesh does to it.
    #[serde(flatten)]
    pub meshed: Meshed<'a>,
    /// What else its first bytes showed.
    #[serde(flatten)]
    pub handshake: Handshake<'a>,
}

/// Flows that this reader was too slow for.
#[derive(Clone, Debug, Serialize)]
pub struct LostLine {
    /// `lost`.
    pub kind: &'static str,
    /// How many, before filters.
    pub count: u64,
}

/// Whose socket, and who is at the other end; part of [`CallLine`] and [`ConnectionLine`].
#[derive(Clone, Debug, Serialize)]
pub struct Who<'a> {
    /// `service.name` of the socket's owner.
    pub service: &'a str,
    /// `service.namespace`; empty when not set.
    pub service_namespace: &'a str,
    /// The other end: its service, or the name of its node or network or that DNS gave it, or what
    /// was dialled, or the address that called.
    pub peer: String,
    /// Service of the other end, if it is a process of this host or a pod.
    pub peer_service: Option<&'a str>,
    /// Where both are on Kubernetes.
    #[serde(flatten)]
    pub kubernetes: Kubernetes<'a>,
}

// === impl LostLine ===

impl LostLine {
    /// `count` flows were lost.
    pub fn new(count: u64) -> Self {
        Self {
            kind: "lost",
            count,
        }
    }
}

/// Appends `flow` as one line.
pub fn render(out: &mut Vec<u8>, flow: &Flow, offset: WallOffset) {
    let judgement = flow.judgement.as_ref();
    match &flow.event {
        FlowEvent::Call(call) => line(out, &call_line(call, judgement, offset)),
        FlowEvent::Link(event) => {
            if let Some(event) = connection_line(event, judgement, offset) {
                line(out, &event);
            }
        }
        FlowEvent::Lookup(resolution) => line(out, &udp::lookup(resolution, offset)),
        FlowEvent::Datagrams(conversation) => line(out, &udp::datagrams(conversation, offset)),
    }
}

/// Appends `value` as one line.
pub fn line(out: &mut Vec<u8>, value: &impl Serialize) {
    let start = out.len();
    if serde_json::to_writer(&mut *out, value).is_err() {
        out.truncate(start);
        return;
    }
    out.push(b'\n');
}

fn call_line<'a>(
    call: &'a Call,
    judgement: Option<&'a Judgement>,
    offset: WallOffset,
) -> CallLine<'a> {
    let exchange = &call.exchange;
    let head = &exchange.request;
    CallLine {
        kind: "call",
        time: timestamp(offset, exchange.sent.first),
        side: exchange.role.as_str(),
        protocol: exchange
            .rpc
            .as_ref()
            .map_or("http", |rpc| rpc.system.as_str()),
        version: head.version.as_str(),
        who: who(&call.link, exchange.role),
        method: &head.method,
        path: &head.path,
        scheme: head.scheme.as_deref(),
        route: &call.route,
        query: head.has_query,
        authority: &head.authority,
        user_agent: &head.user_agent,
        status: exchange.status,
        outcome: exchange.outcome.as_str(),
        error: call.error,
        duration_seconds: exchange.duration().as_secs_f64(),
        time_to_first_byte_seconds: exchange
            .received
            .map(|side| side.first.since(exchange.sent.first).as_secs_f64()),
        request_head_bytes: exchange.sent.head_bytes,
        request_body_bytes: exchange.sent.body_bytes,
        response_head_bytes: exchange.received.map_or(0, |side| side.head_bytes),
        response_body_bytes: exchange.received.map_or(0, |side| side.body_bytes),
        procedure: Procedure::of(exchange),
        traced: Traced::of(exchange),
        forwarded: Told::of(exchange),
        place: place(&call.link),
        secured: Secured::of(&call.link),
        meshed: Meshed::of(
            &call.link,
            call.far().map(|far| &**far),
            exchange.role,
            judgement,
        ),
        ordinal: exchange.ordinal,
        stream: exchange.stream,
        pushed: exchange.pushed,
        reset_code: exchange.reset,
        request_sequence: exchange.hop.0,
        cause_connection: exchange.cause.map(|cause| cause.inbound.0),
        cause_sequence: exchange.cause.map(|cause| cause.sequence),
        cause_certain: exchange.cause.map(|cause| cause.certain),
    }
}

fn connection_line<'a>(
    event: &'a LinkEvent,
    judgement: Option<&'a Judgement>,
    offset: WallOffset,
) -> Option<ConnectionLine<'a>> {
    let (name, link, at) = match event {
        LinkEvent::Opened(link) => {
            let at = link
                .connection
                .established
                .unwrap_or(link.connection.started);
            ("opened", link, at)
        }
        LinkEvent::Closed { link, at, .. } => ("closed", link, *at),
        LinkEvent::Failed { link, at, .. } => ("failed", link, *at),
        LinkEvent::Recognised { link, at } => ("recognised", link, *at),
        LinkEvent::Progress { .. } => return None,
    };
    let connection = &link.connection;
    let mut line = ConnectionLine {
        kind: "connection",
        event: name,
        time: timestamp(offset, at),
        side: connection.role.as_str(),
        protocol: "tcp",
        who: who(link, connection.role),
        failure: None,
        closed_by: None,
        reset: None,
        duration_seconds: None,
        connect_seconds: match (connection.role, connection.established) {
            (Role::Client, Some(established)) => {
                Some(established.since(connection.started).as_secs_f64())
            }
            _ => None,
        },
        sent_bytes: 0,
        received_bytes: 0,
        sent_segments: 0,
        received_segments: 0,
        retransmits: 0,
        smoothed_rtt_seconds: None,
        minimum_rtt_seconds: None,
        turns: None,
        turn_seconds: None,
        pre_existing: connection.pre_existing,
        place: place(link),
        secured: Secured::of(link),
        meshed: Meshed::of(link, link.far.as_deref(), connection.role, judgement),
        handshake: Handshake::of(link),
    };
    match event {
        LinkEvent::Closed {
            by,
            reset,
            transfer,
            ..
        } => {
            let since = connection.established.unwrap_or(connection.started);
            line.duration_seconds = Some(at.since(since).as_secs_f64());
            line.closed_by = Some(by.as_str());
            line.reset = Some(*reset);
            line.set_transfer(transfer);
        }
        LinkEvent::Failed { failure, .. } => {
            line.duration_seconds = Some(at.since(connection.started).as_secs_f64());
            line.failure = Some(failure.as_str());
        }
        LinkEvent::Opened(_) | LinkEvent::Recognised { .. } | LinkEvent::Progress { .. } => {}
    }
    Some(line)
}

impl ConnectionLine<'_> {
    fn set_transfer(&mut self, transfer: &Transfer) {
        let seconds = |microseconds: u32| f64::from(microseconds) / 1e6;
        self.sent_bytes = transfer.sent_bytes;
        self.received_bytes = transfer.received_bytes;
        self.sent_segments = transfer.sent_segments;
        self.received_segments = transfer.received_segments;
        self.retransmits = transfer.retransmits;
        let smoothed = transfer.smoothed_rtt_us;
        self.smoothed_rtt_seconds = (smoothed > 0).then(|| seconds(smoothed));
        self.minimum_rtt_seconds = transfer.minimum_rtt_us.map(seconds);
        if transfer.turns > 0 {
            self.turns = Some(transfer.turns);
            self.turn_seconds = Some(transfer.turn_nanoseconds as f64 / 1e9);
        }
    }
}

fn who(link: &Link, role: Role) -> Who<'_> {
    let remote = link.connection.remote;
    let dialled = link.dialled.as_deref();
    who_of(&link.workload, (&link.peer, remote), dialled, role)
}

fn who_of<'a>(
    workload: &'a Workload,
    (peer, remote): (&'a Peer, SocketAddr),
    dialled: Option<&'a Service>,
    role: Role,
) -> Who<'a> {
    let text = match (peer, role) {
        (Peer::Local(workload), _) => workload.service.to_string(),
        (Peer::Pod(pod), _) => pod.service.name.to_string(),
        (Peer::Address(_), Role::Client) => remote.to_string(),
        // A caller's port is one of thousands and tells nothing.
        (Peer::Address(address), _) => address.to_string(),
        (named, role) => match (named.name().unwrap_or_default(), role) {
            (name, Role::Client) => format!("{name}:{}", remote.port()),
            (name, _) => name.to_owned(),
        },
    };
    Who {
        service: &workload.service,
        service_namespace: &workload.namespace,
        peer: text,
        peer_service: peer.service(),
        kubernetes: Kubernetes::of(workload, peer, dialled),
    }
}

#[cfg(test)]
mod tests;
