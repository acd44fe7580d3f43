//! Conversations as real clients began them, and some that are put together.
//!
//! A fixture is the start of one recorded connection on loopback: `>` is what the client sent, `<`
//! the server. PostgreSQL is a real server; others play as much of one as the client waits for.

use proptest::prelude::*;

use super::*;
use crate::assemble::tls::{self, Progress, Tls};

type Turn = (bool, Vec<u8>);

macro_rules! fixtures {
    ($($name:ident => $protocol:literal, $upgrade:literal;)*) => {
        /// All fixtures: name, text, protocol, whether TLS follows.
        const ALL: &[(&str, &str, &str, bool)] = &[$((
            stringify!($name),
            include_str!(concat!("fixtures/", stringify!($name), ".txt")),
            $protocol,
            $upgrade,
        )),*];
    };
}

fixtures! {
    amqp => "amqp", false;
    cassandra => "cassandra", false;
    ftp_curl => "ftp", true;
    ftp_openssl => "ftp", true;
    imap_openssl => "imap", true;
    imap_python => "imap", true;
    kafka => "kafka", false;
    ldap_bind => "ldap", false;
    ldap_openssl => "ldap", true;
    ldap_python => "ldap", true;
    memcached => "memcached", false;
    mongodb => "mongodb", false;
    mqtt => "mqtt", false;
    mqtt5 => "mqtt", false;
    mysql_openssl => "mysql", true;
    mysql_plain => "mysql", false;
    mysql_python => "mysql", true;
    nats_python => "nats", false;
    nats_tls => "nats", true;
    pop3_openssl => "pop3", true;
    postgresql_openssl => "postgresql", true;
    postgresql_plain => "postgresql", false;
    postgresql_psql => "postgresql", true;
    redis => "redis", false;
    smtp_openssl => "smtp", true;
    ssh => "ssh", false;
    xmpp_openssl => "xmpp", true;
}

fn turns(text: &str) -> Vec<Turn> {
    let line = |line: &str| -> Option<Turn> {
        let (side, digits) = line.split_once(' ')?;
        let from_client = match side {
            ">" => true,
            "<" => false,
            _ => return None,
        };
        let (pairs, _) = digits.trim().as_bytes().as_chunks::<2>();
        let byte =
            |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        Some((from_client, pairs.iter().map(byte).collect()))
    };
    text.lines().filter_map(line).collect()
}

fn fixture(name: &str) -> Vec<Turn> {
    turns(ALL.iter().find(|it| it.0 == name).unwrap().1)
}

fn text(turns: &[(bool, &str)]) -> Vec<Turn> {
    let turn = |(from_client, text): &(bool, &str)| (*from_client, text.as_bytes().to_vec());
    turns.iter().map(turn).collect()
}

/// What a conversation came to: the last step that said something, and where in both directions
/// TLS starts.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Result {
    last: Step,
    tls_at: Option<[usize; 2]>,
}

fn read(turns: &[Turn]) -> Result {
    let mut plain = Plain::new();
    let mut seen = [0, 0];
    let mut last = Step::More;
    for (from_client, bytes) in turns {
        let step = plain.push(*from_client, bytes);
        assert!(plain.weight() <= 4 * MOST_FIRST + 32 * 1024);
        match step {
            Step::More => {}
            Step::Upgraded { protocol, consumed } => {
                assert!(consumed <= bytes.len());
                seen[usize::from(*from_client)] += consumed;
                assert_eq!(plain.weight(), 0);
                let last = Step::Upgraded {
                    protocol,
                    consumed: 0,
                };
                assert_eq!(plain.push(true, b"x"), last);
                return Result {
                    last,
                    tls_at: Some(seen),
                };
            }
            step => last = step,
        }
        seen[usize::from(*from_client)] += bytes.len();
    }
    Result { last, tls_at: None }
}

/// The bytes of one direction.
fn stream(turns: &[Turn], from_client: bool) -> Vec<u8> {
    let own = turns.iter().filter(|turn| turn.0 == from_client);
    own.flat_map(|turn| turn.1.clone()).collect()
}

fn stays(name: &'static str) -> Result {
    Result {
        last: Step::Stays(name),
        tls_at: None,
    }
}

fn speaks(name: &'static str) -> Result {
    Result {
        last: Step::Protocol(name),
        tls_at: None,
    }
}

const UNKNOWN: Result = Result {
    last: Step::Unknown,
    tls_at: None,
};

#[test]
fn real_clients_are_recognised() {
    for (name, recorded, protocol, upgrade) in ALL {
        let turns = turns(recorded);
        let result = read(&turns);
        match (result.last, result.tls_at) {
            (Step::Upgraded { protocol: by, .. }, Some([server, client])) => {
                assert!(upgrade, "{name}");
                assert_eq!(by, *protocol);
                let rest = &stream(&turns, true)[client..];
                assert_eq!(tls::starts(rest), Some(true), "{name}");
                let rest = &stream(&turns, false)[server..];
                assert!(rest.is_empty() || rest[0] == 0x16, "{name}");
            }
            (Step::Stays(by), None) => {
                assert!(!upgrade, "{name}");
                assert_eq!(by, *protocol);
            }
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn tls_is_read_on_after_an_upgrade() {
    let turns = fixture("postgresql_psql");
    let [server, client] = read(&turns).tls_at.unwrap();
    let mut tls = Tls::new();
    let news = tls.push(true, &stream(&turns, true)[client..]);
    assert_eq!(news, Progress::News);
    assert_eq!(
        tls.push(false, &stream(&turns, false)[server..]),
        Progress::Done
    );
    assert!(tls.handshake().established);
}

#[test]
fn a_refusal_leaves_it_in_the_clear() {
    let hello = [(false, "220 mail ESMTP\r\n"), (true, "EHLO a\r\n")];
    for (answer, next, expected) in [
        ("454 not now\r\n", "MAIL FROM:<a@b>\r\n", stays("smtp")),
        ("454 not now\r\n", "NOOP\r\n", speaks("smtp")),
        ("250 STARTTLS\r\n", "", speaks("smtp")),
    ] {
        let rest = [
            (false, "250-mail\r\n250 STARTTLS\r\n"),
            (true, "starttls\r\n"),
            (false, answer),
            (true, next),
        ];
        let all = text(&[hello.as_slice(), &rest].concat());
        assert_eq!(read(&all), expected, "{answer}");
    }
    let refused = [
        vec![
            (true, b"\0\0\0\x08\x04\xd2\x16\x2f".to_vec()),
            (false, b"N".to_vec()),
        ],
        fixture("postgresql_plain"),
    ];
    assert_eq!(read(&refused.concat()), stays("postgresql"));
    let imap = text(&[
        (false, "* OK hi\r\n"),
        (true, "a1 STARTTLS\r\n"),
        (false, "* STATUS\r\na1 BAD no\r\n"),
        (true, "a2 LOGIN a b\r\n"),
    ]);
    assert_eq!(read(&imap), stays("imap"));
}

#[test]
fn more_than_one_way_leads_to_tls() {
    let upgraded = |turns: &[Turn], name: &'static str| {
        let result = read(turns);
        let expected = Step::Upgraded {
            protocol: name,
            consumed: 0,
        };
        assert_eq!(result.last, expected, "{name}");
        result.tls_at.unwrap()
    };
    // GSSENCRequest, then SSLRequest.
    let postgres = [
        (true, b"\0\0\0\x08\x04\xd2\x16\x30".to_vec()),
        (false, b"N".to_vec()),
        (true, b"\0\0\0\x08\x04\xd2\x16\x2f".to_vec()),
        (false, b"S\x16\x03\x03".to_vec()),
    ];
    assert_eq!(upgraded(&postgres, "postgresql"), [2, 16]);
    let amqp = [
        (true, b"AMQP\x02\x01\x00\x00".to_vec()),
        (false, b"AMQP\x02\x01\x00\x00".to_vec()),
    ];
    assert_eq!(upgraded(&amqp, "amqp"), [8, 8]);
    // The answer and the server's silence about its protocol.
    let smtp = text(&[
        (false, "220-hi\r\n220 there\r\n"),
        (true, "EHLO a\r\n"),
        (false, "250 ok\r\n"),
        (true, "STARTTLS\r\n"),
        (false, "220-two\r\n220 lines\r\n"),
    ]);
    assert_eq!(upgraded(&smtp, "smtp"), [47, 18]);
    // The client's TLS is heard before the server's consent.
    let early = [
        text(&[(false, "+OK POP3\r\n"), (true, "STLS\r\n")]),
        vec![(true, b"\x16\x03\x01".to_vec())],
    ];
    assert_eq!(upgraded(&early.concat(), "pop3"), [10, 6]);
}

#[test]
fn encryption_of_another_kind_is_not_called_postgresql() {
    let turns = [
        (true, b"\0\0\0\x08\x04\xd2\x16\x30".to_vec()),
        (false, b"G".to_vec()),
    ];
    assert_eq!(read(&turns), stays("postgresql_gss"));
}

#[test]
fn what_is_no_signature_is_unknown() {
    for bytes in [
        b"hello\r\n".as_slice(),
        b"*1\r\n$x\r\n",
        b"*0\r\n",
        b"*1000000\r\n",
        b"*1\r\n$4\r\nPI G\r\n",
        b"AMQP\x00\x00\x08\x00",
        b"\x00\x00\x00\x08\x04\xd2\x16\x20",
        b"\x00\x00\x00\x07\x00\x03\x00\x00user",
        b"\x10\x0c\x00\x04MQTX\x04",
        b"\x30\x1d\x02\x01\x01\x42\x00",
        b"<?xmk ",
        b"getx a\r\n",
        b"\x04\x00\x00\x00\x05\x00\x00\x00\x01",
        &[0xff; 40],
        &[b'x'; 2000],
    ] {
        assert_eq!(read(&[(true, bytes.to_vec())]), UNKNOWN, "{bytes:?}");
    }
    for bytes in [
        b"HTTP/1.1 200 OK\r\n".as_slice(),
        b"* NO\r\n",
        b"+OK\r\n",
        b"INFO x",
        b"\x4a\x00\x00\x00\x0911",
        b"\x4a\x00\x00\x00\x0aabc\x00",
        b"421 busy\r\n",
    ] {
        let result = read(&[(false, bytes.to_vec()), (true, b"??????\r\n".to_vec())]);
        assert_eq!(result, UNKNOWN, "{bytes:?}");
    }
}

#[test]
fn weak_signatures_wait_for_an_answer_that_fits() {
    for name in ["kafka", "memcached", "cassandra"] {
        let turns = fixture(name);
        assert_eq!(read(&turns[..1]).last, Step::More, "{name}");
        let other = [
            turns[0].clone(),
            (false, b"\xff\xff\xff\xff\xff\xff\xff\xff".to_vec()),
        ];
        assert_eq!(read(&other), UNKNOWN, "{name}");
    }
    let binary = [&[0x80, 0x0b][..], &[0; 22]].concat();
    let answer = [&[0x81, 0x0b][..], &[0; 22]].concat();
    let turns = [(true, binary), (false, answer)];
    assert_eq!(read(&turns), stays("memcached"));
}

#[test]
fn an_unknown_conversation_ends_after_some_bytes() {
    let mut plain = Plain::new();
    assert_eq!(plain.push(false, b"220 "), Step::More);
    assert_eq!(plain.push(false, &[b'x'; MOST_FIRST]), Step::Unknown);
    assert_eq!(plain.weight(), 0);

    let mut plain = Plain::new();
    assert_eq!(plain.push(false, b"220 SMTP\r\n"), Step::Protocol("smtp"));
    let last = (0..1000).find_map(|_| match plain.push(true, b"NOOP\r\n") {
        Step::More => None,
        step => Some(step),
    });
    assert_eq!(last, Some(Step::Stays("smtp")));

    let mut plain = Plain::new();
    let open = b"<stream:stream xmlns:stream='http://etherx.jabber.org/streams'>";
    assert_eq!(plain.push(true, open), Step::Protocol("xmpp"));
    let last = (0..1000).find_map(|_| match plain.push(false, &[b' '; 100]) {
        Step::More => None,
        step => Some(step),
    });
    assert_eq!(last, Some(Step::Stays("xmpp")));
}

#[test]
fn a_hole_ends_it_with_what_is_known() {
    let mut plain = Plain::new();
    assert_eq!(plain.skip(0), Step::More);
    assert_eq!(plain.skip(1), Step::Unknown);
    let mut plain = Plain::new();
    plain.push(false, b"220 SMTP\r\n");
    assert_eq!(plain.skip(10), Step::Stays("smtp"));
    assert_eq!(plain.push(true, b"STARTTLS\r\n"), Step::Stays("smtp"));
}

/// The turns, each cut at places that `cuts` choose.
fn cut(turns: &[Turn], cuts: &[u16]) -> Vec<Turn> {
    let mut cuts = cuts.iter().cycle();
    let mut pieces = Vec::new();
    for (from_client, bytes) in turns {
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let size = usize::from(*cuts.next().unwrap()).clamp(1, rest.len());
            let (piece, after) = rest.split_at(size);
            pieces.push((*from_client, piece.to_vec()));
            rest = after;
        }
    }
    pieces
}

proptest! {
    #[test]
    fn where_bytes_are_cut_does_not_matter(
        index in 0..ALL.len(),
        cuts in proptest::collection::vec(1_u16..60, 1..20),
    ) {
        let whole = turns(ALL[index].1);
        prop_assert_eq!(read(&cut(&whole, &cuts)), read(&whole), "{}", ALL[index].0);
    }

    #[test]
    fn changed_bytes_are_bounded_and_fatal_to_nobody(
        index in 0..ALL.len(),
        changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..6),
    ) {
        let mut whole = turns(ALL[index].1);
        for (at, to) in changes {
            let count = whole.len();
            let (_, bytes) = &mut whole[at % count];
            let at = at / count % bytes.len();
            bytes[at] = to;
        }
        read(&whole);
    }

    #[test]
    fn any_bytes_are_bounded_and_fatal_to_nobody(
        pieces in proptest::collection::vec(
            (any::<bool>(), proptest::collection::vec(any::<u8>(), 0..80)), 0..12),
    ) {
        read(&pieces);
    }

    #[test]
    fn random_bytes_are_next_to_never_a_protocol(
        bytes in proptest::collection::vec(any::<u8>(), 16..200),
        client in any::<bool>(),
    ) {
        prop_assert!(!matches!(read(&[(client, bytes)]).last, Step::Protocol(_) | Step::Stays(_)));
    }
}
