//! Protocols whose client speaks first, by its first message.

use super::{Guess, either, has, starts, u16_at, u32_at, u32_le_at, when};
use crate::assemble::starttls::{Protocol, upgrade::ber_length};

/// Protocol headers of AMQP 0-9-1 and 1.0.
pub(super) fn amqp(client: &[u8], _: &[u8]) -> Guess {
    let header = |header: [u8; 4]| {
        let [a, b, c, d] = header;
        starts(
            client,
            &[b'A', b'M', b'Q', b'P', a, b, c, d],
            Protocol::Amqp,
        )
    };
    either([
        header([0, 0, 9, 1]),
        header([0, 1, 0, 0]),
        header([2, 1, 0, 0]),
        header([3, 1, 0, 0]),
    ])
}

/// OPTIONS or STARTUP of the native protocol, versions 3 to 5, and the answer's head.
pub(super) fn cassandra(client: &[u8], server: &[u8]) -> Guess {
    if !client
        .first()
        .is_none_or(|version| (3..=5).contains(version))
    {
        return Guess::No;
    }
    let [version, flags, _, _, opcode, rest @ ..] = client else {
        return Guess::More;
    };
    let Some(length) = u32_at(rest, 0) else {
        return Guess::More;
    };
    // Flags of compression, tracing and a beta version make no sense in a first message but the
    // last.
    let fits = match opcode {
        1 => (4..4096).contains(&length),
        5 => length == 0,
        _ => false,
    };
    if flags & !0x10 != 0 || !fits {
        return Guess::No;
    }
    let Some([answer, _, _, _, opcode]) = server.first_chunk::<5>() else {
        return Guess::More;
    };
    // ERROR, READY, AUTHENTICATE, SUPPORTED
    let answers = matches!(opcode, 0 | 2 | 3 | 6);
    when(
        *answer == 0x80 | version && answers,
        Protocol::Other("cassandra"),
    )
}

/// A first request of Kafka (ApiVersions, Metadata or SaslHandshake), and an answer with its
/// correlation id.
pub(super) fn kafka(client: &[u8], server: &[u8]) -> Guess {
    if client.first().is_some_and(|high| *high != 0) {
        return Guess::No;
    }
    let (Some(length), Some(key), Some(version)) =
        (u32_at(client, 0), u16_at(client, 4), u16_at(client, 6))
    else {
        return Guess::More;
    };
    let known = match key {
        3 => version <= 13,
        17 => version <= 1,
        18 => version <= 5,
        _ => false,
    };
    if !known || !(10..=4096).contains(&length) {
        return Guess::No;
    }
    let (Some(correlation), Some(name_length)) = (u32_at(client, 8), u16_at(client, 12)) else {
        return Guess::More;
    };
    let name_length = match name_length {
        u16::MAX => 0,
        length => usize::from(length),
    };
    // Counters start low; PostgreSQL has letters here.
    if correlation > 0xffff || name_length > 255 || name_length + 10 > length as usize {
        return Guess::No;
    }
    let Some(name) = client.get(14..14 + name_length) else {
        return Guess::More;
    };
    if !name.iter().all(u8::is_ascii_graphic) {
        return Guess::No;
    }
    let (Some(answer_length), Some(answered)) = (u32_at(server, 0), u32_at(server, 4)) else {
        return Guess::More;
    };
    let plausible = (4..=1 << 24).contains(&answer_length);
    when(
        plausible && answered == correlation,
        Protocol::Other("kafka"),
    )
}

/// An LDAPMessage (RFC 4511 section 4.1.1) that binds, searches or extends.
pub(super) fn ldap(client: &[u8], _: &[u8]) -> Guess {
    let Some((0x30, rest)) = client.split_first() else {
        return Guess::No;
    };
    let Some((length, rest)) = ber_length(rest) else {
        // Longer lengths are not in a first request.
        let long = rest
            .first()
            .is_some_and(|first| *first > 0x84 || *first == 0x80);
        return if long { Guess::No } else { Guess::More };
    };
    let [kind, size, id, operation, ..] = rest else {
        return match rest {
            [kind, ..] if *kind != 2 => Guess::No,
            _ => Guess::More,
        };
    };
    // A number of one byte, and BindRequest, SearchRequest or ExtendedRequest.
    let fits = (7..4096).contains(&length) && *kind == 2 && *size == 1 && (1..0x80).contains(id);
    when(
        fits && matches!(operation, 0x60 | 0x63 | 0x77),
        Protocol::Ldap,
    )
}

/// A request of memcached's binary protocol and an answer to it.
pub(super) fn memcached_binary(client: &[u8], server: &[u8]) -> Guess {
    match client.first() {
        Some(0x80) => {}
        _ => return Guess::No,
    }
    let Some(header) = client.first_chunk::<24>() else {
        return Guess::More;
    };
    let [_, opcode, _, _, extras, kind, ..] = *header;
    let key = u32::from(u16_at(header, 2).unwrap_or(u16::MAX));
    let body = u32_at(header, 8).unwrap_or(u32::MAX);
    let fits = opcode <= 0x26 && kind == 0 && key <= 250 && extras <= 20;
    if !fits || key + u32::from(extras) > body || body > 1 << 20 {
        return Guess::No;
    }
    match server {
        [magic, answered, ..] => when(
            *magic == 0x81 && *answered == opcode,
            Protocol::Other("memcached"),
        ),
        _ => Guess::More,
    }
}

/// A command of memcached's text protocol and an answer that fits to it.
pub(super) fn memcached_text(client: &[u8], server: &[u8]) -> Guess {
    let protocol = Protocol::Other("memcached");
    let commands: [(&[u8], &[&[u8]]); 6] = [
        (b"get ", &[b"VALUE ", b"END\r\n"]),
        (b"gets ", &[b"VALUE ", b"END\r\n"]),
        (b"set ", &[b"STORED\r\n", b"SERVER_ERROR "]),
        (b"add ", &[b"STORED\r\n", b"NOT_STORED\r\n"]),
        (b"version\r\n", &[b"VERSION "]),
        (b"stats\r\n", &[b"STAT "]),
    ];
    let mut all = Guess::No;
    for (command, answers) in commands {
        match starts(client, command, protocol) {
            Guess::No => continue,
            Guess::More => all = Guess::More,
            Guess::Yes(_) => {
                let mut answered = Guess::No;
                for answer in answers {
                    answered = either([answered, starts(server, answer, protocol)]);
                }
                return answered;
            }
        }
    }
    all
}

/// OP_QUERY or OP_MSG of MongoDB, neither an answer.
pub(super) fn mongodb(client: &[u8], _: &[u8]) -> Guess {
    let Some(length) = u32_le_at(client, 0) else {
        return Guess::More;
    };
    if !(26..1 << 16).contains(&length) {
        return Guess::No;
    }
    let (Some(answer_to), Some(opcode)) = (u32_le_at(client, 8), u32_le_at(client, 12)) else {
        return Guess::More;
    };
    if answer_to != 0 || !matches!(opcode, 2004 | 2013) {
        return Guess::No;
    }
    let Some(rest) = client.get(20..) else {
        return Guess::More;
    };
    let protocol = Protocol::Other("mongodb");
    if opcode == 2004 {
        return starts(rest, b"admin.$cmd\0", protocol);
    }
    let flags = u32_le_at(client, 16).unwrap_or(u32::MAX);
    match rest.first() {
        // Checksum, more to come, exhaust; a section of one document, or of several.
        Some(kind) => when(flags & !0x0001_0003 == 0 && *kind <= 1, protocol),
        None => Guess::More,
    }
}

/// CONNECT of MQTT 3.1, 3.1.1 and 5.
pub(super) fn mqtt(client: &[u8], _: &[u8]) -> Guess {
    let Some((0x10, rest)) = client.split_first() else {
        return Guess::No;
    };
    // The remaining length has up to four bytes, of which all but the last have their high bit.
    let Some(end) = rest.iter().take(4).position(|byte| *byte < 0x80) else {
        return if rest.len() < 4 {
            Guess::More
        } else {
            Guess::No
        };
    };
    let rest = rest.get(end + 1..).unwrap_or_default();
    let protocol = Protocol::Other("mqtt");
    either([
        starts(rest, b"\0\x04MQTT\x04", protocol),
        starts(rest, b"\0\x04MQTT\x05", protocol),
        starts(rest, b"\0\x06MQIsdp\x03", protocol),
    ])
}

/// StartupMessage, CancelRequest, SSLRequest and GSSENCRequest of PostgreSQL.
pub(super) fn postgresql(client: &[u8], _: &[u8]) -> Guess {
    let Some(length) = u32_at(client, 0) else {
        return match client {
            [high, ..] if *high != 0 => Guess::No,
            _ => Guess::More,
        };
    };
    if !(8..=10_000).contains(&length) {
        return Guess::No;
    }
    let Some(code) = u32_at(client, 4) else {
        return Guess::More;
    };
    match code {
        0x0003_0000 | 0x0003_0002 => match client.get(8) {
            Some(letter) => when(
                letter.is_ascii_lowercase() || *letter == b'_',
                Protocol::Postgres,
            ),
            None => Guess::More,
        },
        80_877_102 => when(length >= 16, Protocol::Postgres),
        80_877_103 | 80_877_104 => when(length == 8, Protocol::Postgres),
        _ => Guess::No,
    }
}

/// An array of bulk strings, of which the first is a command.
pub(super) fn redis(client: &[u8], _: &[u8]) -> Guess {
    let Some(number) = counted(client, b'*', 3) else {
        return Guess::No;
    };
    let Some((count, rest)) = number else {
        return Guess::More;
    };
    if count == 0 || rest.is_empty() {
        return if count == 0 { Guess::No } else { Guess::More };
    }
    let Some(number) = counted(rest, b'$', 2) else {
        return Guess::No;
    };
    let Some((length, rest)) = number else {
        return Guess::More;
    };
    let word = rest.get(..length).unwrap_or(rest);
    let letters = |byte: &u8| byte.is_ascii_alphanumeric() || b".-_".contains(byte);
    if length == 0 || !word.iter().all(letters) {
        return Guess::No;
    }
    let after = rest.get(length..).unwrap_or_default();
    if word.len() < length {
        return Guess::More;
    }
    starts(after, b"\r\n", Protocol::Other("redis"))
}

/// A mark, a number of at most `digits` digits, and a line end: the number and what follows.
/// `Some(None)` when bytes are missing, `None` when it is something else.
fn counted(bytes: &[u8], mark: u8, digits: usize) -> Option<Option<(usize, &[u8])>> {
    let Some((first, rest)) = bytes.split_first() else {
        return Some(None);
    };
    if *first != mark {
        return None;
    }
    let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if count > digits {
        return None;
    }
    let (number, after) = rest.split_at(count);
    match after {
        [] => Some(None),
        [b'\r'] if count > 0 => Some(None),
        [b'\r', b'\n', rest @ ..] if count > 0 => {
            let text = std::str::from_utf8(number).ok()?;
            Some(Some((text.parse().ok()?, rest)))
        }
        _ => None,
    }
}

/// The start of a stream (RFC 6120 section 4.2).
pub(super) fn xmpp(client: &[u8], _: &[u8]) -> Guess {
    let opens = either([
        starts(client, b"<?xml ", Protocol::Xmpp),
        starts(client, b"<stream:stream ", Protocol::Xmpp),
    ]);
    let namespace = b"http://etherx.jabber.org/streams";
    match opens {
        Guess::Yes(_) if has(client, namespace) => opens,
        Guess::Yes(_) => Guess::More,
        other => other,
    }
}
