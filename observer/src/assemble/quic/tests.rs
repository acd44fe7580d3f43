//! Tests of QUIC's first packets: against the example of RFC 9001, in pieces, and broken.

use proptest::prelude::*;

use super::*;

/// The CRYPTO frame of RFC 9001 appendix A.2.
const FRAME: &str = "060040f1010000ed0303ebf8fa56f12939b9584a3896472ec40bb863cfd3e86804fe3a47f0\
6a2b69484c00000413011302010000c000000010000e00000b6578616d706c652e636f6dff01000100000a00080006001d\
0017001800100007000504616c706e000500050100000000003300260024001d00209370b2c9caa47fbabaf4559fedba75\
3de171fa71f50f1ce15d43e994ec74d748002b0003020304000d0010000e0403050306030203080408050806002d000201\
01001c00024001003900320408ffffffffffffffff05048000ffff07048000ffff0801100104800075300901100f088394\
c8f03e51570806048000ffff";
const DESTINATION: [u8; 8] = [0x83, 0x94, 0xc8, 0xf0, 0x3e, 0x51, 0x57, 0x08];

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .map(|digit| u8::try_from(digit.to_digit(16).unwrap()).unwrap())
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

fn number(value: usize) -> [u8; 2] {
    (0x4000 | u16::try_from(value).unwrap()).to_be_bytes()
}

/// The ClientHello of the frame.
fn hello() -> Vec<u8> {
    unhex(FRAME)[4..].to_vec()
}

fn crypto(offset: usize, bytes: &[u8]) -> Vec<u8> {
    let mut frame = vec![6];
    frame.extend_from_slice(&number(offset));
    frame.extend_from_slice(&number(bytes.len()));
    frame.extend_from_slice(bytes);
    frame
}

/// A datagram with a packet of `frames`, padded as a client's must be.
fn datagram(version: u32, frames: &[u8]) -> Vec<u8> {
    let mut frames = frames.to_vec();
    if frames.len() < 1162 {
        frames.resize(1162, 0);
    }
    Keys::seal(version, &DESTINATION, 2, &frames)
}

fn key() -> (ConnectionId, SocketAddr) {
    (ConnectionId(1), "192.0.2.1:443".parse().unwrap())
}

fn push(attempts: &mut Attempts, bytes: &[u8]) -> Option<Quic> {
    attempts.push(key(), Role::Client, Monotonic(0), 0, bytes)
}

fn offered(quic: Option<Quic>) -> Arc<Handshake> {
    quic.expect("it is QUIC").handshake.expect("it is whole")
}

#[test]
fn the_example_of_the_rfc_opens() {
    let bytes = datagram(QUIC_V1, &unhex(FRAME));
    // The header as appendix A.2 shows it protected, and the first bytes of the payload.
    let start =
        unhex("c000000001088394c8f03e5157080000449e7b9aec34d1b1c98dd7689fb8ec11d242b123dc9b");
    assert_eq!(bytes[..start.len()], start);
    assert_eq!(bytes.len(), 1200);
    let mut attempts = Attempts::default();
    let quic = push(&mut attempts, &bytes).unwrap();
    assert_eq!((quic.version, quic.role), (QUIC_V1, Role::Client));
    let handshake = offered(Some(quic));
    assert_eq!(handshake.server_name.as_deref(), Some("example.com"));
    assert_eq!(*handshake.alpn_offered, ["alpn".into()]);
    assert_eq!(*handshake.versions_offered, [0x0304]);
    assert!(handshake.ja4.as_deref().unwrap().starts_with("q13d"));
    assert!(attempts.is_empty());
}

#[test]
fn version_2_opens() {
    let bytes = datagram(QUIC_V2, &unhex(FRAME));
    let quic = push(&mut Attempts::default(), &bytes).unwrap();
    assert_eq!(quic.version, QUIC_V2);
    assert_eq!(
        offered(Some(quic)).server_name.as_deref(),
        Some("example.com")
    );
}

/// The seeds of the fuzz target were protected by aioquic, after a first byte of the target's.
#[test]
fn what_others_protect_opens() {
    let seeds: [(&[u8], u32); 2] = [
        (include_bytes!("../../../fuzz/corpus/quic/initial"), QUIC_V1),
        (
            include_bytes!("../../../fuzz/corpus/quic/initial2"),
            QUIC_V2,
        ),
    ];
    for (seed, version) in seeds {
        let quic = push(&mut Attempts::default(), &seed[1..]).unwrap();
        assert_eq!(quic.version, version);
        let name = offered(Some(quic)).server_name.clone();
        assert_eq!(name.as_deref(), Some("example.com"));
    }
}

#[test]
fn a_hello_in_many_pieces_is_put_together() {
    let hello = hello();
    let (early, late) = hello.split_at(100);
    let mut first = crypto(150, &late[50..]);
    first.extend_from_slice(&[0, 1, 0]);
    first.extend_from_slice(&crypto(10, &early[10..60]));
    let mut second = vec![2, 0, 0, 0, 0];
    second.extend_from_slice(&crypto(0, &early[..30]));
    second.extend_from_slice(&crypto(50, &hello[50..160]));
    let mut attempts = Attempts::default();
    let quic = push(&mut attempts, &datagram(QUIC_V1, &first)).unwrap();
    assert_eq!(quic.handshake, None, "it is QUIC, more is not known yet");
    assert_eq!(attempts.len(), 1);
    let quic = push(&mut attempts, &datagram(QUIC_V1, &second));
    assert_eq!(offered(quic).server_name.as_deref(), Some("example.com"));
    assert!(attempts.is_empty());
}

#[test]
fn datagrams_that_passed_as_one_are_told_apart() {
    let hello = hello();
    let mut bytes = datagram(QUIC_V1, &crypto(0, &hello[..100]));
    let size = bytes.len();
    bytes.extend_from_slice(&datagram(QUIC_V1, &crypto(100, &hello[100..])));
    let mut attempts = Attempts::default();
    let quic = attempts.push(key(), Role::Client, Monotonic(0), size, &bytes);
    assert_eq!(offered(quic).server_name.as_deref(), Some("example.com"));
}

#[test]
fn packets_of_one_datagram_are_told_apart() {
    let hello = hello();
    let mut bytes = Keys::seal(QUIC_V1, &DESTINATION, 0, &crypto(0, &hello[..100]));
    bytes.extend_from_slice(&Keys::seal(
        QUIC_V1,
        &DESTINATION,
        1,
        &crypto(100, &hello[100..]),
    ));
    let quic = push(&mut Attempts::default(), &bytes);
    assert_eq!(offered(quic).server_name.as_deref(), Some("example.com"));
}

#[test]
fn another_connection_starts_anew() {
    let hello = hello();
    let mut attempts = Attempts::default();
    push(&mut attempts, &datagram(QUIC_V1, &crypto(0, &hello[..100])));
    let bytes = Keys::seal(QUIC_V1, &[1; 20], 0, &crypto(100, &hello[100..]));
    let quic = push(&mut attempts, &bytes).unwrap();
    assert_eq!(quic.handshake, None, "pieces of two are not mixed");
}

#[test]
fn what_does_not_open_is_not_told() {
    let mut attempts = Attempts::default();
    let good = datagram(QUIC_V1, &unhex(FRAME));
    for index in [1, 8, 20, 30, 600, good.len() - 1] {
        let mut bytes = good.clone();
        bytes[index] ^= 1;
        assert_eq!(push(&mut attempts, &bytes), None, "byte {index}");
    }
    assert_eq!(push(&mut attempts, &good[..1199]), None, "cut off");
    assert_eq!(push(&mut attempts, &[0xff; 1200]), None);
    assert_eq!(attempts.counters().foreign, 8);
    assert!(attempts.is_empty());
}

#[test]
fn other_versions_are_told_by_their_number() {
    let mut attempts = Attempts::default();
    let mut bytes = vec![0xc3, 0xff, 0, 0, 29];
    bytes.resize(1200, 0);
    let quic = push(&mut attempts, &bytes).unwrap();
    assert_eq!((quic.version, quic.handshake), (0xff00_001d, None));
    bytes[1] = 0x12;
    assert_eq!(push(&mut attempts, &bytes), None, "none that is known");
}

#[test]
fn what_is_no_hello_is_counted() {
    let mut attempts = Attempts::default();
    let frames = [
        crypto(0, &[2, 0, 0, 1, 0]),
        crypto(0, &[1, 0, 0, 1, 0]),
        crypto(0, &[1, 0xff, 0, 0, 0]),
        vec![0x1e],
        vec![6, 0xff, 0xff],
    ];
    for frames in &frames {
        let quic = push(&mut attempts, &datagram(QUIC_V1, frames)).unwrap();
        assert_eq!(quic.handshake, None);
    }
    assert_eq!(attempts.counters().incomplete, frames.len() as u64);
    assert!(attempts.is_empty());
}

#[test]
fn attempts_are_bounded_and_given_up() {
    let mut attempts = Attempts::default();
    let part = crypto(0, &hello()[..100]);
    let bytes = datagram(QUIC_V1, &part);
    for index in 0..MAX_ATTEMPTS as u64 + 10 {
        let key = (ConnectionId(index), key().1);
        attempts.push(key, Role::Server, Monotonic(index), 0, &bytes);
    }
    assert_eq!(attempts.len(), MAX_ATTEMPTS);
    assert_eq!(attempts.counters().full, 10);
    attempts.expire(Monotonic(9_999_999_999));
    assert_eq!(attempts.len(), MAX_ATTEMPTS);
    attempts.expire(Monotonic(20_000_000_000));
    assert!(attempts.is_empty());
    assert_eq!(attempts.counters().incomplete, MAX_ATTEMPTS as u64);
}

#[test]
fn pieces_are_bounded() {
    let mut crypto = Crypto::default();
    for index in 0..MAX_PIECES {
        assert_eq!(crypto.insert(index * 2, &[1]), Some(()));
    }
    assert_eq!(crypto.insert(MAX_PIECES * 2, &[1]), None);
    assert_eq!(crypto.insert(MAX_HELLO, &[1]), None);
    assert_eq!(crypto.insert(usize::MAX, &[1]), None);
    assert_eq!(crypto.insert(0, &[1; MAX_PIECES * 2]), Some(()));
    assert_eq!(crypto.ranges, [(0, MAX_PIECES * 2)]);
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..1400)) {
        prop_assert_eq!(push(&mut Attempts::default(), &bytes), None);
    }

    #[test]
    fn any_frames_are_read_or_refused(frames in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut crypto = Crypto::default();
        crypto.frames(&frames);
        prop_assert!(crypto.bytes.len() <= MAX_HELLO && crypto.ranges.len() <= MAX_PIECES);
    }

    #[test]
    fn the_order_of_pieces_does_not_matter(
        order in Just((0..25_usize).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let hello = hello();
        let mut together = Crypto::default();
        for index in &order {
            prop_assert!(!matches!(together.hello(), Hello::Whole(_)));
            let from = index * 10;
            let to = (from + 10).min(hello.len());
            if from < to {
                together.insert(from, &hello[from..to]).unwrap();
            }
        }
        prop_assert!(matches!(together.hello(), Hello::Whole(_)));
        prop_assert_eq!(together.ranges, [(0, hello.len())]);
    }
}
