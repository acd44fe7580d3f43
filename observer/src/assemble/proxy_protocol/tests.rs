//! Headers of both versions: right ones, wrong ones, in pieces.

use proptest::prelude::*;

use super::*;

fn addresses_of(bytes: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    match parse(bytes) {
        Header::Complete { length, proxied } => {
            assert!(length <= bytes.len());
            proxied.addresses
        }
        other => panic!("{other:?}"),
    }
}

fn both(source: &str, destination: &str) -> Option<(SocketAddr, SocketAddr)> {
    Some((source.parse().unwrap(), destination.parse().unwrap()))
}

/// A header of version 2.
fn header(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let length = (block.len() as u16).to_be_bytes();
    [SIGNATURE.as_slice(), &[command, family], &length, block].concat()
}

fn extra(kind: u8, value: &[u8]) -> Vec<u8> {
    let length = (value.len() as u16).to_be_bytes();
    [&[kind], length.as_slice(), value].concat()
}

const FOUR: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 7, 0xdc, 0x04, 0x01, 0xbb];

#[test]
fn lines_are_read() {
    let line = b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\nGET / HTTP/1.1\r\n";
    let Header::Complete { length, proxied } = parse(line) else {
        panic!("not complete");
    };
    assert_eq!(&line[length..length + 3], b"GET");
    assert_eq!(proxied.version, ProxyVersion::V1);
    let expected = both("192.0.2.1:56324", "198.51.100.7:443");
    assert_eq!(proxied.addresses, expected);
    assert_eq!(
        addresses_of(b"PROXY TCP6 2001:db8::1 ::1 0 65535\r\n"),
        both("[2001:db8::1]:0", "[::1]:65535")
    );
    assert_eq!(addresses_of(b"PROXY UNKNOWN\r\n"), None);
    assert_eq!(
        addresses_of(b"PROXY UNKNOWN ff:: any thing 1 2 3\r\n"),
        None
    );
}

#[test]
fn wrong_lines_are_none() {
    for line in [
        "PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\n",
        "PROXY TCP4 192.0.2.1 198.51.100.7 56324\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.7 56324 443 1\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.7 56324 65536\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.7 +5 443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.7 05 443\r\n",
        "PROXY TCP4 192.0.2.1  198.51.100.7 5 443\r\n",
        "PROXY TCP4 ::1 ::1 5 443\r\n",
        "PROXY TCP6 192.0.2.1 192.0.2.1 5 443\r\n",
        "PROXY UDP4 192.0.2.1 198.51.100.7 5 443\r\n",
        "PROXY \r\n",
        "PROXY\r\n",
        "proxy TCP4 192.0.2.1 198.51.100.7 5 443\r\n",
        "GET / HTTP/1.1\r\n",
        "PROXY UNKNOWN \u{7}",
        "PROXY UNKNOWN \rx\r\n",
    ] {
        assert_eq!(parse(line.as_bytes()), Header::Not, "{line:?}");
    }
}

#[test]
fn a_line_has_at_most_107_bytes() {
    let line = |padding: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(padding));
    assert_eq!(line(91).len(), LONGEST_LINE);
    assert_eq!(addresses_of(line(91).as_bytes()), None);
    assert_eq!(parse(line(92).as_bytes()), Header::Not);
    let endless = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 200]].concat();
    assert_eq!(parse(&endless[..106]), Header::Partial);
    assert_eq!(parse(&endless[..107]), Header::Not);
}

#[test]
fn binary_headers_are_read() {
    let expected = both("192.0.2.1:56324", "198.51.100.7:443");
    assert_eq!(addresses_of(&header(0x21, 0x11, &FOUR)), expected);
    assert_eq!(addresses_of(&header(0x21, 0x12, &FOUR)), expected);
    let six: Vec<u8> = [
        &[0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1][..],
        &[0; 10],
        &[0xff, 0xff, 10, 0, 0, 1],
        &[0, 1, 0, 2],
    ]
    .concat();
    assert_eq!(
        addresses_of(&header(0x21, 0x21, &six)),
        both("[2001:db8::1]:1", "10.0.0.1:2")
    );
    assert_eq!(addresses_of(&header(0x21, 0x31, &[0; 216])), None);
    assert_eq!(addresses_of(&header(0x21, 0x00, b"anything")), None);
    assert_eq!(addresses_of(&header(0x20, 0x11, &FOUR)), None);
    assert_eq!(addresses_of(&header(0x20, 0xff, b"")), None);
}

#[test]
fn names_are_read() {
    let id = b"spiffe://cluster.local/ns/shop/sa/web";
    let block = [
        FOUR.to_vec(),
        extra(0x04, &[0; 5]),
        extra(AUTHORITY, b"server.example"),
        extra(IDENTITY, id),
    ]
    .concat();
    let Header::Complete { length, proxied } = parse(&header(0x21, 0x11, &block)) else {
        panic!("not complete");
    };
    assert_eq!(length, 16 + block.len());
    assert_eq!(proxied.authority.as_deref(), Some("server.example"));
    assert_eq!(
        proxied.identity.as_deref().map(str::as_bytes),
        Some(id.as_slice())
    );
    // A vector that goes beyond the header ends them.
    let short = [
        FOUR.to_vec(),
        extra(AUTHORITY, b"a b"),
        vec![IDENTITY, 0, 9, b'x'],
    ]
    .concat();
    let Header::Complete { proxied, .. } = parse(&header(0x21, 0x11, &short)) else {
        panic!("not complete");
    };
    assert_eq!((proxied.authority, proxied.identity), (None, None));
    assert!(proxied.addresses.is_some());
}

#[test]
fn wrong_binary_headers_are_none() {
    assert_eq!(parse(&header(0x11, 0x11, &FOUR)), Header::Not);
    assert_eq!(parse(&header(0x22, 0x11, &FOUR)), Header::Not);
    assert_eq!(parse(&header(0x21, 0x13, &FOUR)), Header::Not);
    assert_eq!(parse(&header(0x21, 0x41, &FOUR)), Header::Not);
    assert_eq!(parse(&header(0x21, 0x11, &FOUR[..11])), Header::Not);
    assert_eq!(parse(&header(0x21, 0x21, &FOUR)), Header::Not);
    let longest = header(0x21, 0x11, &[0; 4096]);
    assert_eq!(longest.len(), LONGEST);
    assert!(addresses_of(&longest).is_some());
    let longer = header(0x21, 0x11, &[0; 4097]);
    assert_eq!(parse(&longer[..16]), Header::Not);
}

#[test]
fn every_beginning_may_become_a_header() {
    let binary = header(0x21, 0x11, &[&FOUR[..], &extra(AUTHORITY, b"a")].concat());
    let line = b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n";
    for whole in [binary.as_slice(), line] {
        for end in 0..whole.len() {
            assert_eq!(parse(&whole[..end]), Header::Partial, "{end}");
        }
    }
}

proptest! {
    #[test]
    fn more_bytes_change_nothing_of_what_is_known(
        binary in any::<bool>(),
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        cut in any::<usize>(),
    ) {
        let start: &[u8] = if binary { SIGNATURE } else { b"PROXY TCP" };
        let mut whole = [start, &bytes].concat();
        if binary && whole.len() > 14 {
            whole[12] = 0x20 | whole[12] & 1;
            whole[14] = 0;
        }
        let part = parse(&whole[..cut % (whole.len() + 1)]);
        if part != Header::Partial {
            prop_assert_eq!(&part, &parse(&whole));
        }
        if let Header::Complete { length, .. } = part {
            prop_assert!(length <= whole.len() && length <= LONGEST);
        }
    }
}
