//! One lookup of a name: a question to a DNS server and its answer (RFC 1035).

use std::{
    borrow::Cow,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use super::{
    connection::{ConnectionId, Owner, Role},
    kubernetes::Service,
    time::Monotonic,
    workload::{Peer, Workload},
};

/// What carried a lookup (`network.transport`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// One message a datagram.
    Udp,
    /// Messages with their length in front (RFC 7766).
    Tcp,
}

/// How a lookup ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LookupOutcome {
    /// A response came; its code says how it was answered.
    Answered,
    /// A response came that says it is not whole: the client is to ask again over TCP.
    Truncated,
    /// No response came in time.
    Timeout,
    /// Another server that was asked at the same time was faster, and this one is not heard of.
    Superseded,
    /// The connection ended first.
    Aborted,
}

/// A resource record that says where a name leads to. Others are not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whose record it is: the name asked for, or one that an alias led to.
    pub name: Box<str>,
    /// Seconds for which it may be remembered.
    pub ttl: u32,
    /// What it says.
    pub target: Target,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A or AAAA.
    Address(IpAddr),
    /// CNAME: the name that it is another name for.
    Alias(Box<str>),
}

/// A question and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// The socket that was observed.
    pub socket: ConnectionId,
    /// Who made it.
    pub owner: Owner,
    /// `Client` asked, `Server` answered.
    pub role: Role,
    /// What carried it.
    pub transport: Transport,
    /// Address of the socket.
    pub local: SocketAddr,
    /// The other end: for a client the server that it asked.
    pub remote: SocketAddr,
    /// Name asked for (`dns.question.name`), lower case, without the last dot; `.` is the root.
    pub name: Box<str>,
    /// Type asked for (IANA DNS RR TYPEs); see [`type_name`].
    pub kind: u16,
    /// Class asked for; 1 is the Internet.
    pub class: u16,
    /// How it ended.
    pub outcome: LookupOutcome,
    /// Response code with its extension (RFC 6895 section 2.3); `None` without a response. See
    /// [`code_name`].
    pub code: Option<u16>,
    /// When the question passed the socket first.
    pub sent: Monotonic,
    /// When the response passed the socket, or it was given up.
    pub ended: Monotonic,
    /// How often the same question was sent again.
    pub retries: u32,
    /// Addresses and aliases of the response, the first [`MAX_ANSWERS`].
    pub answers: Box<[Answer]>,
}

/// A lookup with who made it and who answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// What was seen on the wire.
    pub lookup: Lookup,
    /// Whose socket it is.
    pub workload: Arc<Workload>,
    /// Who is at the other end.
    pub peer: Peer,
    /// The Service of Kubernetes that was dialled, where that is known.
    pub dialled: Option<Arc<Service>>,
}

/// Most answers that are kept of a response.
pub const MAX_ANSWERS: usize = 16;

/// Name of a record type as zone files write it; `TYPE` and its number (RFC 3597) for rare ones.
pub fn type_name(kind: u16) -> Cow<'static, str> {
    Cow::Borrowed(match kind {
        1 => "A",
        2 => "NS",
        5 => "CNAME",
        6 => "SOA",
        12 => "PTR",
        15 => "MX",
        16 => "TXT",
        28 => "AAAA",
        33 => "SRV",
        35 => "NAPTR",
        43 => "DS",
        46 => "RRSIG",
        47 => "NSEC",
        48 => "DNSKEY",
        64 => "SVCB",
        65 => "HTTPS",
        252 => "AXFR",
        255 => "ANY",
        257 => "CAA",
        _ => return Cow::Owned(format!("TYPE{kind}")),
    })
}

/// Name of a record type for a label of metrics: one of a few.
pub fn type_label(kind: u16) -> &'static str {
    match type_name(kind) {
        Cow::Borrowed(name) => name,
        Cow::Owned(_) => "other",
    }
}

/// Name of a response code (IANA DNS RCODEs).
pub const fn code_name(code: u16) -> &'static str {
    match code {
        0 => "NOERROR",
        1 => "FORMERR",
        2 => "SERVFAIL",
        3 => "NXDOMAIN",
        4 => "NOTIMP",
        5 => "REFUSED",
        6 => "YXDOMAIN",
        7 => "YXRRSET",
        8 => "NXRRSET",
        9 => "NOTAUTH",
        10 => "NOTZONE",
        16 => "BADVERS",
        23 => "BADCOOKIE",
        _ => "other",
    }
}

// === impl Transport ===

impl Transport {
    /// As in `network.transport`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }
}

// === impl LookupOutcome ===

impl LookupOutcome {
    /// Name in flows, JSON and labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Truncated => "truncated",
            Self::Timeout => "timeout",
            Self::Superseded => "superseded",
            Self::Aborted => "aborted",
        }
    }
}

// === impl Lookup ===

impl Lookup {
    /// From the first question to the end, at this socket.
    pub fn duration(&self) -> Duration {
        self.ended.since(self.sent)
    }

    /// `error.type`: the response code where it is none of success, or why there is no response.
    pub const fn error(&self) -> Option<&'static str> {
        match (self.outcome, self.code) {
            (LookupOutcome::Timeout, _) => Some("timeout"),
            (LookupOutcome::Aborted, _) => Some("aborted"),
            (LookupOutcome::Superseded, _) | (_, None | Some(0)) => None,
            (_, Some(code)) => Some(code_name(code)),
        }
    }
}
