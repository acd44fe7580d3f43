//! Protocols whose server speaks first, by its greeting.

use super::{Guess, either, has, line, starts, when};
use crate::assemble::starttls::Protocol;

/// `INFO {...}`.
pub(super) fn nats(_: &[u8], server: &[u8]) -> Guess {
    starts(server, b"INFO {\"", Protocol::Nats)
}

/// Greetings of RFC 9051 section 7.1.
pub(super) fn imap(_: &[u8], server: &[u8]) -> Guess {
    either([
        starts(server, b"* OK ", Protocol::Imap),
        starts(server, b"* PREAUTH ", Protocol::Imap),
    ])
}

/// A greeting of RFC 1939 section 4, and a command that other protocols with `+OK` do not have.
pub(super) fn pop3(client: &[u8], server: &[u8]) -> Guess {
    match starts(server, b"+OK", Protocol::Pop3) {
        Guess::Yes(_) => {}
        other => return other,
    }
    let Some(greeting) = line(server) else {
        return Guess::More;
    };
    if has(greeting, b"POP3") {
        return Guess::Yes(Protocol::Pop3);
    }
    let commands = [b"CAPA".as_slice(), b"STLS", b"USER", b"APOP", b"AUTH"];
    command(client, &commands, Protocol::Pop3)
}

/// Greetings of SMTP (RFC 5321 section 4.2) and FTP (RFC 959 section 5.4) start alike.
pub(super) fn mail_or_files(client: &[u8], server: &[u8]) -> Guess {
    let greets = |with| starts(server, with, Protocol::Smtp);
    match either([greets(b"220 "), greets(b"220-")]) {
        Guess::Yes(_) => {}
        other => return other,
    }
    let Some(greeting) = line(server) else {
        return Guess::More;
    };
    match (has(greeting, b"SMTP"), has(greeting, b"FTP")) {
        (true, false) => return Guess::Yes(Protocol::Smtp),
        (false, true) => return Guess::Yes(Protocol::Ftp),
        _ => {}
    }
    let mail = [b"EHLO".as_slice(), b"HELO", b"LHLO"];
    let files = [
        b"USER".as_slice(),
        b"AUTH",
        b"FEAT",
        b"SYST",
        b"OPTS",
        b"HOST",
    ];
    either([
        command(client, &mail, Protocol::Smtp),
        command(client, &files, Protocol::Ftp),
    ])
}

/// Whether the first word of a client is one of `commands`, all of four letters.
fn command(client: &[u8], commands: &[&[u8]], protocol: Protocol) -> Guess {
    let Some((word, [after, ..])) = client.split_at_checked(4) else {
        return Guess::More;
    };
    let ends = after.is_ascii_whitespace();
    let known = commands.iter().any(|it| it.eq_ignore_ascii_case(word));
    when(ends && known, protocol)
}

/// The greeting of MySQL and MariaDB, protocol version 10: its version as text, and the zero in
/// its middle.
pub(super) fn mysql(_: &[u8], server: &[u8]) -> Guess {
    // Length below 512, packet 0, version 10.
    let head: [fn(u8) -> bool; 5] = [
        |_| true,
        |it| it < 2,
        |it| it == 0,
        |it| it == 0,
        |it| it == 10,
    ];
    if !server.iter().zip(head).all(|(byte, right)| right(*byte)) {
        return Guess::No;
    }
    let Some(body) = server.get(head.len()..) else {
        return Guess::More;
    };
    let end = memchr::memchr(0, body);
    let text = end.and_then(|end| body.get(..end)).unwrap_or(body);
    let begins = text.first().is_none_or(u8::is_ascii_digit);
    if !begins || !text.iter().all(u8::is_ascii_graphic) || text.len() > 100 {
        return Guess::No;
    }
    let Some(end) = end else {
        return Guess::More;
    };
    if !text.contains(&b'.') {
        return Guess::No;
    }
    // Thread id and the first part of a nonce.
    match body.get(end + 1 + 12) {
        Some(filler) => when(*filler == 0, Protocol::MySql),
        None => Guess::More,
    }
}
