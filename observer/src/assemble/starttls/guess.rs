//! Protocols by their first bytes.
//!
//! Whoever speaks first narrows them down. No two signatures fit the same bytes, so that it does
//! not matter when they are looked at.

mod client;
mod server;

use self::{
    client::{
        amqp, cassandra, kafka, ldap, memcached_binary, memcached_text, mongodb, mqtt, postgresql,
        redis, xmpp,
    },
    server::{imap, mail_or_files, mysql, nats, pop3},
};
use super::{First, Protocol};

/// What first bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guess {
    /// None of it, whatever follows.
    No,
    /// They may become it.
    More,
    /// They are.
    Yes(Protocol),
}

/// Judges one protocol by the first bytes of client and server.
type Judge = fn(&[u8], &[u8]) -> Guess;

/// Judges the first bytes of a connection.
pub(super) fn guess(first: &First) -> Guess {
    let (client, server) = (first.client.as_slice(), first.server.as_slice());
    let judges: &[Judge] = match first.from_client {
        None => return Guess::More,
        Some(true) => &[
            amqp,
            cassandra,
            kafka,
            ldap,
            memcached_binary,
            memcached_text,
            mongodb,
            mqtt,
            postgresql,
            redis,
            ssh,
            xmpp,
        ],
        Some(false) => &[imap, mail_or_files, mysql, nats, pop3, ssh],
    };
    let mut all = Guess::No;
    for judge in judges {
        match judge(client, server) {
            Guess::No => {}
            Guess::More => all = Guess::More,
            yes @ Guess::Yes(_) => return yes,
        }
    }
    all
}

/// Whether bytes start with a text.
fn starts(bytes: &[u8], with: &[u8], protocol: Protocol) -> Guess {
    let common = bytes.len().min(with.len());
    match bytes.get(..common) == with.get(..common) {
        false => Guess::No,
        true if common < with.len() => Guess::More,
        true => Guess::Yes(protocol),
    }
}

/// The first of several guesses that holds, or may.
fn either<const COUNT: usize>(guesses: [Guess; COUNT]) -> Guess {
    let open = |guess: &&Guess| **guess == Guess::More;
    let yes = guesses.iter().find(|it| matches!(it, Guess::Yes(_)));
    *yes.or(guesses.iter().find(open)).unwrap_or(&Guess::No)
}

/// `condition` decides.
fn when(condition: bool, protocol: Protocol) -> Guess {
    if condition {
        Guess::Yes(protocol)
    } else {
        Guess::No
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let taken = bytes.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_be_bytes(*taken))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let taken = bytes.get(at..)?.first_chunk::<2>()?;
    Some(u16::from_be_bytes(*taken))
}

fn u32_le_at(bytes: &[u8], at: usize) -> Option<u32> {
    u32_at(bytes, at).map(u32::swap_bytes)
}

/// The first line, without its end; `None` when it has not ended.
fn line(bytes: &[u8]) -> Option<&[u8]> {
    let end = memchr::memchr(b'\n', bytes)?;
    let line = bytes.get(..end)?;
    Some(line.strip_suffix(b"\r").unwrap_or(line))
}

/// Whether a text has a word in it, in any case.
fn has(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len())
        .any(|part| part.eq_ignore_ascii_case(word))
}

/// Identification strings (RFC 4253 section 4.2), from whoever is first.
fn ssh(client: &[u8], server: &[u8]) -> Guess {
    let protocol = Protocol::Other("ssh");
    let first = if client.is_empty() { server } else { client };
    either([
        starts(first, b"SSH-2.0-", protocol),
        starts(first, b"SSH-1.", protocol),
    ])
}
