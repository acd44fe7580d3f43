//! JA4, the fingerprint of a ClientHello, as FoxIO publishes it.

use std::fmt::Write;

use sha2::{Digest, Sha256};

use super::hello::{ClientHello, extension, is_grease};

/// What carries the handshake: the first letter of a fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TLS over TCP: `t`.
    Tcp,
    /// QUIC: `q`.
    Quic,
}

/// The fingerprint of a ClientHello, for instance `t13d1516h2_8daaf6152771_b186095e22b6`.
pub fn ja4(hello: &ClientHello, transport: Transport) -> Box<str> {
    let mut ciphers = without_grease(&hello.ciphers);
    let mut extensions = without_grease(&hello.extensions);
    let transport = match transport {
        Transport::Tcp => 't',
        Transport::Quic => 'q',
    };
    let version = hello.versions().first().map_or("00", |found| name(*found));
    let named = if extensions.contains(&extension::SERVER_NAME) {
        'd'
    } else {
        'i'
    };
    let [first, last] = ends(hello.protocols.first().map_or(b"", |name| name));
    let counts = [ciphers.len(), extensions.len()].map(|count| count.min(99));

    ciphers.sort_unstable();
    extensions.sort_unstable();
    extensions.retain(|kind| !matches!(*kind, extension::SERVER_NAME | extension::ALPN));
    let mut offers = list(&extensions);
    let algorithms = without_grease(&hello.signature_algorithms);
    if !algorithms.is_empty() {
        offers.push('_');
        offers.push_str(&list(&algorithms));
    }
    let [ciphers, offers] = [list(&ciphers), offers].map(|text| hash(&text));
    let [cipher_count, extension_count] = counts;
    format!(
        "{transport}{version}{named}{cipher_count:02}{extension_count:02}{first}{last}_{ciphers}_{offers}"
    )
    .into()
}

fn without_grease(values: &[u16]) -> Vec<u16> {
    let kept = values.iter().copied().filter(|value| !is_grease(*value));
    kept.collect()
}

/// Two characters for a version.
fn name(version: u16) -> &'static str {
    match version {
        0x0304 => "13",
        0x0303 => "12",
        0x0302 => "11",
        0x0301 => "10",
        0x0300 => "s3",
        0x0002 => "s2",
        _ => "00",
    }
}

/// First and last character of a protocol's name, or of its hexadecimal form when either is no
/// letter or digit.
fn ends(name: &[u8]) -> [char; 2] {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
    match (name.first(), name.last()) {
        (Some(first), Some(last)) => {
            if first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() {
                [char::from(*first), char::from(*last)]
            } else {
                [digit(first >> 4), digit(last & 0x0f)]
            }
        }
        _ => ['0', '0'],
    }
}

/// Hexadecimal numbers with commas between.
fn list(values: &[u16]) -> String {
    let mut text = String::with_capacity(values.len() * 5);
    for (index, value) in values.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        // Writing to a `String` does not fail.
        let _ = write!(text, "{comma}{value:04x}");
    }
    text
}

/// The first twelve hexadecimal digits of SHA-256; zeros for nothing.
fn hash(text: &str) -> String {
    if text.is_empty() {
        return "0".repeat(12);
    }
    let digest = Sha256::digest(text.as_bytes());
    let mut hexadecimal = String::with_capacity(12);
    for byte in digest.iter().take(6) {
        let _ = write!(hexadecimal, "{byte:02x}");
    }
    hexadecimal
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ClientHello of the published examples.
    fn browser(private: u16) -> ClientHello {
        ClientHello {
            legacy_version: 0x0303,
            ciphers: vec![
                0x4a4a, 0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8,
                0xc013, 0xc014, 0x009c, 0x009d, 0x002f, 0x0035,
            ],
            extensions: vec![
                0xaaaa, 0x001b, 0x0000, 0x0033, 0x0010, private, 0x0017, 0x002d, 0x000d, 0x0005,
                0x0023, 0x0012, 0x002b, 0xff01, 0x000b, 0x000a, 0x0015, 0x1a1a,
            ],
            signature_algorithms: vec![
                0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601,
            ],
            supported_versions: Some(vec![0xdada, 0x0303, 0x0304]),
            protocols: vec![b"h2".as_slice().into(), b"http/1.1".as_slice().into()],
            server_name: Some("example.com".into()),
            ..ClientHello::default()
        }
    }

    #[test]
    fn the_published_example_has_its_fingerprint() {
        let hello = browser(0x4469);
        assert_eq!(
            &*ja4(&hello, Transport::Tcp),
            "t13d1516h2_8daaf6152771_e5627efa2ab1"
        );
        assert_eq!(
            &*ja4(&hello, Transport::Quic),
            "q13d1516h2_8daaf6152771_e5627efa2ab1"
        );
    }

    #[test]
    fn a_fingerprint_of_a_browser_that_a_public_service_shows_is_the_same() {
        let mut hello = browser(0x44cd);
        hello.extensions.retain(|kind| *kind != 0x0015);
        hello.extensions.push(0xfe0d);
        assert_eq!(
            &*ja4(&hello, Transport::Tcp),
            "t13d1516h2_8daaf6152771_d8a2da3f94cd"
        );
    }

    #[test]
    fn grease_is_ignored_wherever_it_is() {
        let mut greased = browser(0x4469);
        greased.signature_algorithms.insert(3, 0x5a5a);
        assert_eq!(
            ja4(&greased, Transport::Tcp),
            ja4(&browser(0x4469), Transport::Tcp)
        );
        assert!((0_u16..=u16::MAX).filter(|value| is_grease(*value)).count() == 16);
        assert!(is_grease(0x0a0a) && is_grease(0xfafa) && !is_grease(0x0a1a));
    }

    #[test]
    fn nothing_offered_is_zeros() {
        let hello = ClientHello {
            legacy_version: 0x0301,
            ..ClientHello::default()
        };
        assert_eq!(
            &*ja4(&hello, Transport::Tcp),
            "t10i000000_000000000000_000000000000"
        );
    }

    #[test]
    fn without_signature_algorithms_there_is_no_underscore() {
        let hello = ClientHello {
            legacy_version: 0x0301,
            ciphers: vec![0x0005],
            extensions: vec![0x0000, 0x0017],
            ..ClientHello::default()
        };
        assert_eq!(
            &*ja4(&hello, Transport::Tcp),
            format!("t10d010200_{}_{}", hash("0005"), hash("0017"))
        );
        // `printf 0005 | sha256sum`.
        assert_eq!(hash("0005"), "1ed8eb363bcd");
    }

    #[test]
    fn many_are_ninety_nine() {
        let hello = ClientHello {
            legacy_version: 0x0303,
            ciphers: (0x0100..0x0200).collect(),
            extensions: (0x0100..0x0200).collect(),
            ..ClientHello::default()
        };
        assert!(ja4(&hello, Transport::Tcp).starts_with("t12i999900_"));
    }

    #[test]
    fn the_ends_of_a_protocol_are_those_of_its_text_or_of_its_digits() {
        for (name, expected) in [
            (b"h2".as_slice(), "h2"),
            (b"http/1.1", "h1"),
            (b"a", "aa"),
            (b"", "00"),
            (b"\xab", "ab"),
            (b"\xab\xcd", "ad"),
            (b"\x30\xab", "3b"),
            (b"\x30\x31\xab\xcd", "3d"),
            (b"\x30\xab\xcd\x31", "01"),
            (b"istio/", "6f"),
        ] {
            assert_eq!(ends(name).iter().collect::<String>(), expected, "{name:?}");
        }
    }
}
