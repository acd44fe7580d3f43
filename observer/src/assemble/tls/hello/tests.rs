//! Hellos put together by hand: what is read, what is malformed, what is bounded.

use proptest::prelude::*;

use super::*;

/// A vector with its length in the first `prefix` bytes.
fn vector(prefix: usize, content: &[u8]) -> Vec<u8> {
    let length = (content.len() as u32).to_be_bytes();
    [&length[4 - prefix..], content].concat()
}

fn extension_of(kind: u16, data: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes(), vector(2, data).as_slice()].concat()
}

fn server_name(kind: u8, name: &[u8]) -> Vec<u8> {
    let entry = [&[kind], vector(2, name).as_slice()].concat();
    extension_of(extension::SERVER_NAME, &vector(2, &entry))
}

fn protocols(names: &[&[u8]]) -> Vec<u8> {
    let names: Vec<u8> = names.iter().flat_map(|name| vector(1, name)).collect();
    extension_of(extension::ALPN, &vector(2, &names))
}

fn client(extensions: &[Vec<u8>]) -> Vec<u8> {
    [
        vec![3, 3],
        vec![7; 32],
        vector(1, &[1, 2, 3]),
        vector(2, &[0x0a, 0x0a, 0x13, 0x01]),
        vector(1, &[0]),
        vector(2, &extensions.concat()),
    ]
    .concat()
}

fn name_of(extension: Vec<u8>) -> Option<Box<str>> {
    ClientHello::parse(&client(&[extension]))
        .unwrap()
        .server_name
}

#[test]
fn an_offer_is_read() {
    let versions = vector(1, &[0x1a, 0x1a, 3, 3, 3, 4, 3, 3]);
    let body = client(&[
        server_name(0, b"Example.COM"),
        protocols(&[b"\x0a\x0a", b"h2", b"a\xffb"]),
        extension_of(extension::SUPPORTED_VERSIONS, &versions),
        extension_of(extension::SIGNATURE_ALGORITHMS, &vector(2, &[4, 3])),
        extension_of(extension::EARLY_DATA, &[]),
        extension_of(0xfafa, &[0]),
    ]);
    let hello = ClientHello::parse(&body).unwrap();
    assert_eq!(hello.server_name.as_deref(), Some("example.com"));
    let names: Vec<Box<str>> = hello.protocol_names().collect();
    assert_eq!(names, ["h2".into(), Box::from("a\\xffb")]);
    assert_eq!(hello.versions(), [0x0304, 0x0303]);
    assert_eq!(hello.signature_algorithms, [0x0403]);
    assert_eq!(hello.ciphers, [0x0a0a, 0x1301]);
    assert_eq!(hello.extensions, [0, 16, 43, 13, 42, 0xfafa]);
    assert!(hello.early_data);
}

#[test]
fn without_extensions_the_legacy_version_is_the_offer() {
    let mut body = client(&[]);
    body.truncate(body.len() - 2);
    let hello = ClientHello::parse(&body).unwrap();
    assert_eq!(hello.versions(), [0x0303]);
    assert_eq!(hello.server_name, None);
}

#[test]
fn a_name_that_is_none_of_a_host_is_not_taken() {
    assert_eq!(name_of(server_name(0, b"a.b")).as_deref(), Some("a.b"));
    assert_eq!(name_of(server_name(1, b"a.b")), None);
    assert_eq!(name_of(server_name(0, b"")), None);
    assert_eq!(name_of(server_name(0, b"a b")), None);
    assert_eq!(name_of(server_name(0, "b\u{fc}".as_bytes())), None);
    assert!(name_of(server_name(0, &[b'a'; LONGEST_NAME])).is_some());
    assert_eq!(name_of(server_name(0, &[b'a'; LONGEST_NAME + 1])), None);
}

#[test]
fn of_a_long_offer_the_first_are_kept() {
    let many = vec![b"x".as_slice(); 4 * MOST_OFFERED];
    let versions: Vec<u8> = (0..100).flat_map(|minor| [3, minor]).collect();
    let body = client(&[
        protocols(&many),
        extension_of(extension::SUPPORTED_VERSIONS, &vector(1, &versions)),
    ]);
    let hello = ClientHello::parse(&body).unwrap();
    assert_eq!(hello.protocols.len(), MOST_OFFERED);
    assert_eq!(hello.versions().len(), MOST_OFFERED);
    assert_eq!(hello.versions()[0], 0x0363);
}

#[test]
fn malformed_lengths_are_no_hello() {
    let whole = client(&[server_name(0, b"a"), protocols(&[b"h2"])]);
    assert!(ClientHello::parse(&whole).is_some());
    let without_extensions = client(&[]).len() - 2;
    for end in 0..whole.len() {
        let parsed = ClientHello::parse(&whole[..end]);
        assert_eq!(parsed.is_some(), end == without_extensions, "{end}");
    }
    let more = [whole, vec![0]].concat();
    assert_eq!(ClientHello::parse(&more), None);
    let odd = extension_of(extension::SUPPORTED_VERSIONS, &vector(1, &[3, 3, 3]));
    assert_eq!(ClientHello::parse(&client(&[odd])), None);
}

#[test]
fn an_answer_is_read() {
    let answer = |random: [u8; 32], extensions: &[Vec<u8>]| {
        let body = [
            vec![3, 3],
            random.to_vec(),
            vector(1, &[9; 32]),
            vec![0x13, 0x02, 0],
            vector(2, &extensions.concat()),
        ];
        ServerHello::parse(&body.concat()).unwrap()
    };
    let old = answer([1; 32], &[protocols(&[b"h2"])]);
    assert_eq!(
        (old.version, old.cipher, old.retry),
        (0x0303, 0x1302, false)
    );
    assert_eq!(old.protocol.as_deref(), Some(b"h2".as_slice()));
    let new = answer(
        RETRY,
        &[
            extension_of(extension::SUPPORTED_VERSIONS, &[3, 4]),
            extension_of(extension::PRE_SHARED_KEY, &[0, 0]),
        ],
    );
    assert_eq!((new.version, new.retry), (0x0304, true));
    assert!(new.pre_shared_key);
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = ServerHello::parse(&bytes);
        if let Some(hello) = ClientHello::parse(&bytes) {
            prop_assert!(hello.protocols.len() <= MOST_OFFERED);
        }
    }

    #[test]
    fn any_change_of_one_byte_is_read_or_refused(at in 0_usize..80, to in any::<u8>()) {
        let mut body = client(&[server_name(0, b"a.example"), protocols(&[b"h2"])]);
        if let Some(byte) = body.get_mut(at) {
            *byte = to;
        }
        let _ = ClientHello::parse(&body).map(|hello| hello.versions());
    }
}
