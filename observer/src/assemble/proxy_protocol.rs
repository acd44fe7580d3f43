//! The PROXY protocol, versions 1 and 2 (HAProxy's `proxy-protocol.txt`): for whom a connection is
//! made, in front of all that it carries.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use crate::model::security::{Proxied, ProxyVersion};

/// What the first bytes of a client are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Header {
    /// A header, and its length: what the connection carries starts after it.
    Complete {
        /// Bytes.
        length: usize,
        /// What it says.
        proxied: Proxied,
    },
    /// They may become a header.
    Partial,
    /// They are none.
    Not,
}

/// What version 2 starts with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// What version 1 starts with.
const WORD: &[u8; 6] = b"PROXY ";
/// Longest line of version 1, with its end.
const LONGEST_LINE: usize = 107;
/// Longest header of version 2 that is taken for one: addresses of 216 bytes and the names, ids
/// and certificates that are in use fit in well.
pub const LONGEST: usize = 16 + 4096;
/// Longest name that is kept.
const LONGEST_NAME: usize = 2048;
/// `PP2_TYPE_AUTHORITY`.
const AUTHORITY: u8 = 0x02;
/// SPIFFE id of the client, by Istio's ztunnel.
const IDENTITY: u8 = 0xd0;

/// Reads a header at the start of `bytes`, the first bytes of a client.
pub fn parse(bytes: &[u8]) -> Header {
    let starts = |with: &[u8]| {
        let common = bytes.len().min(with.len());
        bytes.get(..common) == with.get(..common)
    };
    if bytes.is_empty() {
        Header::Partial
    } else if starts(SIGNATURE) {
        version_2(bytes)
    } else if starts(WORD) {
        version_1(bytes)
    } else {
        Header::Not
    }
}

fn version_1(bytes: &[u8]) -> Header {
    let within = bytes.get(..LONGEST_LINE).unwrap_or(bytes);
    let Some(end) = memchr::memchr(b'\n', within) else {
        let full = within.len() == LONGEST_LINE;
        // A line holds nothing but printable characters, up to its CR.
        let text = match within {
            [text @ .., b'\r'] => text,
            text => text,
        };
        return if full || !is_text(text) {
            Header::Not
        } else {
            Header::Partial
        };
    };
    let line = within.get(..end).and_then(|line| line.strip_suffix(b"\r"));
    match line.filter(|line| is_text(line)).and_then(line_of) {
        Some(addresses) => Header::Complete {
            length: end + 1,
            proxied: Proxied {
                version: ProxyVersion::V1,
                addresses,
                authority: None,
                identity: None,
            },
        },
        None => Header::Not,
    }
}

fn is_text(line: &[u8]) -> bool {
    line.iter().all(|byte| (b' '..=b'~').contains(byte))
}

/// The addresses of a line without its end; `None` when it is malformed.
fn line_of(line: &[u8]) -> Option<Option<(SocketAddr, SocketAddr)>> {
    let text = std::str::from_utf8(line).ok()?.strip_prefix("PROXY ")?;
    let mut fields = text.split(' ');
    let addresses = match fields.next()? {
        // Whatever follows is to be ignored.
        "UNKNOWN" => return Some(None),
        "TCP4" => addresses::<Ipv4Addr>(&mut fields)?,
        "TCP6" => addresses::<Ipv6Addr>(&mut fields)?,
        _ => return None,
    };
    fields.next().is_none().then_some(Some(addresses))
}

fn addresses<'a, A: FromStr + Into<IpAddr>>(
    fields: &mut impl Iterator<Item = &'a str>,
) -> Option<(SocketAddr, SocketAddr)> {
    let mut address = || Some(fields.next()?.parse::<A>().ok()?.into());
    let (source, destination): (IpAddr, IpAddr) = (address()?, address()?);
    let mut port = || {
        let digits = fields.next()?;
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        let leads = digits.len() > 1 && digits.starts_with('0');
        (plain && !leads).then(|| digits.parse().ok()).flatten()
    };
    let (from, to) = (port()?, port()?);
    Some((
        SocketAddr::new(source, from),
        SocketAddr::new(destination, to),
    ))
}

fn version_2(bytes: &[u8]) -> Header {
    let Some(rest) = bytes.get(SIGNATURE.len()..) else {
        return Header::Partial;
    };
    // What is there may be enough to see that it is none.
    let local = match rest.first() {
        None => return Header::Partial,
        Some(0x20) => true,
        Some(0x21) => false,
        Some(_) => return Header::Not,
    };
    let size = match rest.get(1) {
        None => return Header::Partial,
        Some(0x11 | 0x12) => 12,
        Some(0x21 | 0x22) => 36,
        Some(0x31 | 0x32) => 216,
        Some(0x00) => 0,
        // A receiver ignores the protocol block of LOCAL.
        Some(_) if local => 0,
        Some(_) => return Header::Not,
    };
    let family = rest.get(1).map_or(0, |byte| byte >> 4);
    let (Some(high), Some(low)) = (rest.get(2), rest.get(3)) else {
        return Header::Partial;
    };
    let block_length = usize::from(u16::from_be_bytes([*high, *low]));
    let length = SIGNATURE.len() + 4 + block_length;
    if length > LONGEST || (!local && block_length < size) {
        return Header::Not;
    }
    let Some(block) = rest.get(4..).and_then(|rest| rest.get(..block_length)) else {
        return Header::Partial;
    };
    let mut proxied = Proxied {
        version: ProxyVersion::V2,
        addresses: None,
        authority: None,
        identity: None,
    };
    if !local {
        let (block, extra) = block.split_at(size);
        proxied.addresses = match family {
            1 => pair::<4>(block),
            2 => pair::<16>(block),
            _ => None,
        };
        // Without a family the block is not described, and what is in it is to be skipped.
        if size > 0 {
            extras(extra, &mut proxied);
        }
    }
    Header::Complete { length, proxied }
}

/// Two addresses and two ports.
fn pair<const SIZE: usize>(block: &[u8]) -> Option<(SocketAddr, SocketAddr)>
where
    IpAddr: From<[u8; SIZE]>,
{
    let (source, rest) = block.split_first_chunk::<SIZE>()?;
    let (destination, rest) = rest.split_first_chunk::<SIZE>()?;
    let (from, to) = rest.split_first_chunk::<2>()?;
    let (to, _) = to.split_first_chunk::<2>()?;
    let address = |ip: &[u8; SIZE], port: &[u8; 2]| {
        SocketAddr::new(IpAddr::from(*ip).to_canonical(), u16::from_be_bytes(*port))
    };
    Some((address(source, from), address(destination, to)))
}

/// Reads type-length-value vectors; what is malformed among them is left out, with all after it.
fn extras(mut bytes: &[u8], proxied: &mut Proxied) {
    while let [kind, high, low, rest @ ..] = bytes {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let Some((value, rest)) = rest.split_at_checked(length) else {
            return;
        };
        bytes = rest;
        match *kind {
            AUTHORITY => proxied.authority = text(value),
            IDENTITY => proxied.identity = text(value),
            _ => {}
        }
    }
}

/// A name without spaces and control characters.
fn text(value: &[u8]) -> Option<Box<str>> {
    let text = std::str::from_utf8(value).ok()?;
    let clean = !text.contains(|character: char| character.is_control() || character == ' ');
    (clean && !text.is_empty() && text.len() <= LONGEST_NAME).then(|| text.into())
}

#[cfg(test)]
mod tests;
