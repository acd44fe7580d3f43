//! Questions and answers of the kernel's connection tracking, as bytes of netlink.
//!
//! Formats: netlink(7), linux/netfilter/nfnetlink.h and nfnetlink_conntrack.h. Headers and lengths
//! are of the host's byte order, addresses and ports of the network's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// One direction of a connection, as its packets say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuple {
    /// Number of the transport protocol (IANA).
    pub protocol: u8,
    /// Where packets come from.
    pub source: SocketAddr,
    /// Where they go to.
    pub destination: SocketAddr,
}

/// Both directions of a connection. Untranslated, one is the reverse of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Of packets from the end that began, before translation.
    pub original: Tuple,
    /// Of packets from the end that answers, before they are translated back.
    pub reply: Tuple,
}

/// Which tuple of an entry is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// [`Entry::original`].
    Original,
    /// [`Entry::reply`].
    Reply,
}

/// What the kernel answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The entry.
    Entry(Entry),
    /// An entry of something that has no ports or addresses as expected.
    Unreadable,
    /// An error number (errno(3)), or 0: done, without an entry.
    Error(i32),
}

/// Bytes that are no message of netlink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed message of netlink")]
pub struct Malformed;

/// The attributes of a message, or within one.
struct Attributes<'a>(&'a [u8]);

/// TCP, UDP and SCTP: transport protocols with ports that are translated.
pub const PROTOCOLS: [u8; 3] = [6, 17, 132];

/// Most bytes of a question.
pub const LONGEST_REQUEST: usize = 96;

/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;
/// Length of `struct nfgenmsg`.
const SUBHEADER: usize = 4;
/// Length of `struct nlattr`.
const ATTRIBUTE: usize = 4;

const NLM_F_REQUEST: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const NLA_F_NESTED: u16 = 0x8000;
/// All but the two flags of an attribute's type.
const NLA_TYPE_MASK: u16 = 0x3fff;

/// `NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW`: an entry.
const CT_NEW: u16 = 1 << 8;
/// `NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET`.
const CT_GET: u16 = 1 << 8 | 1;

const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;

/// Address families of `nfgenmsg`, the same on every architecture.
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// Writes into `out`, instead of what is there, the question for the entry that has `tuple`. It
/// names no zone, so entries of the default one are meant.
pub fn write_request(out: &mut Vec<u8>, tuple: &Tuple, direction: Direction, sequence: u32) {
    out.clear();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&CT_GET.to_ne_bytes());
    out.extend_from_slice(&NLM_F_REQUEST.to_ne_bytes());
    out.extend_from_slice(&sequence.to_ne_bytes());
    out.extend_from_slice(&[0; 4]);
    let family = if tuple.source.is_ipv4() {
        AF_INET
    } else {
        AF_INET6
    };
    out.extend_from_slice(&[family, 0, 0, 0]);
    let kind = match direction {
        Direction::Original => CTA_TUPLE_ORIG,
        Direction::Reply => CTA_TUPLE_REPLY,
    };
    nest(out, kind, |out| {
        nest(out, CTA_TUPLE_IP, |out| {
            write_address(out, CTA_IP_V4_SRC, CTA_IP_V6_SRC, tuple.source.ip());
            write_address(out, CTA_IP_V4_DST, CTA_IP_V6_DST, tuple.destination.ip());
        });
        nest(out, CTA_TUPLE_PROTO, |out| {
            write(out, CTA_PROTO_NUM, &[tuple.protocol]);
            let [source, destination] = [tuple.source, tuple.destination].map(|end| end.port());
            write(out, CTA_PROTO_SRC_PORT, &source.to_be_bytes());
            write(out, CTA_PROTO_DST_PORT, &destination.to_be_bytes());
        });
    });
    let length = out.len() as u32;
    patch(out, 0, &length.to_ne_bytes());
}

/// The answer to question `sequence` in what was received; `None` if there is none in it.
///
/// # Errors
///
/// If the bytes are no messages of netlink.
pub fn read(datagram: &[u8], sequence: u32) -> Result<Option<Answer>, Malformed> {
    let mut rest = datagram;
    while !rest.is_empty() {
        let length = u32_at(rest, 0).ok_or(Malformed)? as usize;
        let message = rest.get(..length).ok_or(Malformed)?;
        let body = message.get(HEADER..).ok_or(Malformed)?;
        if u32_at(message, 8) == Some(sequence) {
            return match u16_at(message, 4) {
                Some(NLMSG_ERROR) => {
                    let code = u32_at(body, 0).ok_or(Malformed)? as i32;
                    Ok(Some(Answer::Error(code.saturating_neg())))
                }
                Some(CT_NEW) => {
                    let attributes = body.get(SUBHEADER..).ok_or(Malformed)?;
                    let entry = entry(Attributes(attributes));
                    Ok(Some(entry.map_or(Answer::Unreadable, Answer::Entry)))
                }
                _ => Err(Malformed),
            };
        }
        rest = rest.get(aligned(length)..).unwrap_or_default();
    }
    Ok(None)
}

fn entry(attributes: Attributes<'_>) -> Option<Entry> {
    let (mut original, mut reply) = (None, None);
    for (kind, value) in attributes {
        match kind {
            CTA_TUPLE_ORIG => original = tuple(Attributes(value)),
            CTA_TUPLE_REPLY => reply = tuple(Attributes(value)),
            _ => {}
        }
    }
    Some(Entry {
        original: original?,
        reply: reply?,
    })
}

fn tuple(attributes: Attributes<'_>) -> Option<Tuple> {
    let (mut addresses, mut transport) = (None, None);
    for (kind, value) in attributes {
        match kind {
            CTA_TUPLE_IP => addresses = read_addresses(Attributes(value)),
            CTA_TUPLE_PROTO => transport = read_transport(Attributes(value)),
            _ => {}
        }
    }
    let (source, destination) = addresses?;
    let (protocol, source_port, destination_port) = transport?;
    Some(Tuple {
        protocol,
        source: SocketAddr::new(source, source_port),
        destination: SocketAddr::new(destination, destination_port),
    })
}

fn read_addresses(attributes: Attributes<'_>) -> Option<(IpAddr, IpAddr)> {
    let (mut source, mut destination) = (None, None);
    for (kind, value) in attributes {
        match kind {
            CTA_IP_V4_SRC => source = v4(value),
            CTA_IP_V6_SRC => source = v6(value),
            CTA_IP_V4_DST => destination = v4(value),
            CTA_IP_V6_DST => destination = v6(value),
            _ => {}
        }
    }
    Some((source?, destination?))
}

fn read_transport(attributes: Attributes<'_>) -> Option<(u8, u16, u16)> {
    let (mut protocol, mut source, mut destination) = (None, None, None);
    let port = |value: &[u8]| Some(u16::from_be_bytes(value.try_into().ok()?));
    for (kind, value) in attributes {
        match kind {
            CTA_PROTO_NUM => protocol = value.first().copied(),
            CTA_PROTO_SRC_PORT => source = port(value),
            CTA_PROTO_DST_PORT => destination = port(value),
            _ => {}
        }
    }
    Some((protocol?, source?, destination?))
}

fn v4(value: &[u8]) -> Option<IpAddr> {
    let octets: [u8; 4] = value.try_into().ok()?;
    Some(Ipv4Addr::from(octets).into())
}

fn v6(value: &[u8]) -> Option<IpAddr> {
    let octets: [u8; 16] = value.try_into().ok()?;
    Some(Ipv6Addr::from(octets).into())
}

fn write_address(out: &mut Vec<u8>, v4: u16, v6: u16, address: IpAddr) {
    match address {
        IpAddr::V4(address) => write(out, v4, &address.octets()),
        IpAddr::V6(address) => write(out, v6, &address.octets()),
    }
}

/// Writes an attribute, with the bytes that align what follows.
fn write(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = (ATTRIBUTE + value.len()) as u16;
    out.extend_from_slice(&length.to_ne_bytes());
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(value);
    out.resize(aligned(out.len()), 0);
}

/// Writes an attribute that consists of those that `fill` writes.
fn nest(out: &mut Vec<u8>, kind: u16, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    write(out, kind | NLA_F_NESTED, &[]);
    fill(out);
    let length = (out.len() - start) as u16;
    patch(out, start, &length.to_ne_bytes());
}

fn patch(out: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = out.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

/// Messages and attributes begin at multiples of four (`NLMSG_ALIGN`, `NLA_ALIGN`).
fn aligned(length: usize) -> usize {
    length.saturating_add(3) & !3
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let found = bytes.get(at..at + 2)?;
    Some(u16::from_ne_bytes(found.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let found = bytes.get(at..at + 4)?;
    Some(u32::from_ne_bytes(found.try_into().ok()?))
}

// === impl Tuple ===

impl Tuple {
    /// Of packets from `source` to `destination`, v4-mapped addresses as IPv4, which is what
    /// packets carry. `None` if such packets are not tracked by ports, or cannot be.
    pub fn new(protocol: u8, source: SocketAddr, destination: SocketAddr) -> Option<Self> {
        let plain = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
        let (source, destination) = (plain(source), plain(destination));
        let fits = PROTOCOLS.contains(&protocol) && source.is_ipv4() == destination.is_ipv4();
        fits.then_some(Self {
            protocol,
            source,
            destination,
        })
    }

    /// Of packets the other way.
    pub fn reversed(&self) -> Self {
        Self {
            protocol: self.protocol,
            source: self.destination,
            destination: self.source,
        }
    }
}

// === impl Entry ===

impl Entry {
    /// Who answers packets of tuple `sent`, if that is not whom they are addressed to. The kernel
    /// finds an entry by either of its tuples: one that has `sent` as its reply is of packets that
    /// answer, and tells nothing here.
    pub fn answerer(&self, sent: &Tuple) -> Option<SocketAddr> {
        let found = self.original == *sent && self.reply.source != sent.destination;
        found.then_some(self.reply.source)
    }

    /// Who called a socket that answers with packets of tuple `sent`, and whom it dialled, if
    /// either is not what the socket sees.
    pub fn caller(&self, sent: &Tuple) -> Option<(SocketAddr, SocketAddr)> {
        let found = self.reply == *sent && self.original != sent.reversed();
        found.then_some((self.original.source, self.original.destination))
    }
}

// === impl Attributes ===

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    /// The next attribute that is whole: what follows a broken one has no beginning.
    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16_at(self.0, 0)?);
        let kind = u16_at(self.0, 2)? & NLA_TYPE_MASK;
        let value = self.0.get(ATTRIBUTE..length)?;
        self.0 = self.0.get(aligned(length)..).unwrap_or_default();
        Some((kind, value))
    }
}

#[cfg(test)]
mod tests;
