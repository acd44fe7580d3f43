//! Handshakes as real clients and servers made them, in any pieces.
//!
//! A fixture is one recorded connection on loopback: `>` is what the client sent, `<` the server.

use proptest::prelude::*;

use super::*;
use crate::model::security::Certificate;

/// What one direction sent at once.
type Turn = (bool, Vec<u8>);

macro_rules! fixtures {
    ($($name:ident),* $(,)?) => {
        /// All fixtures.
        const ALL: &[(&str, &str)] = &[$((
            stringify!($name),
            include_str!(concat!("fixtures/", stringify!($name), ".txt")),
        )),*];
    };
}

fixtures![
    go_no_protocol,
    go_no_version,
    go_tls12_istio,
    go_tls12_ticket,
    go_tls13_istio,
    go_tls13_refused,
    go_tls13_session,
    tls11,
    tls12_mutual,
    tls12_no_client_certificate,
    tls12_refused,
    tls12_session_id,
    tls12_ticket,
    tls13,
    tls13_curl,
    tls13_early,
    tls13_no_sni,
    tls13_refused,
    tls13_retry,
    tls13_session,
    tls_no_common_version,
];

fn turns(name: &str) -> Vec<Turn> {
    let (_, text) = ALL.iter().find(|(known, _)| *known == name).unwrap();
    let line = |line: &str| -> Option<Turn> {
        let (side, digits) = line.split_once(' ')?;
        let from_client = match side {
            ">" => true,
            "<" => false,
            _ => return None,
        };
        let (pairs, rest) = digits.trim().as_bytes().as_chunks::<2>();
        assert!(rest.is_empty());
        let byte =
            |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        Some((from_client, pairs.iter().map(byte).collect()))
    };
    text.lines().filter_map(line).collect()
}

/// Pushes all turns; what came last, and what is known then.
fn read(turns: &[Turn]) -> (Progress, Handshake) {
    let mut tls = Tls::new();
    let mut last = Progress::More;
    for (from_client, bytes) in turns {
        last = tls.push(*from_client, bytes);
        assert!(tls.weight() <= 4 * side::MOST_MESSAGE);
    }
    (last, tls.handshake().clone())
}

/// The handshake of a fixture of which everything was learnt.
fn handshake(name: &str) -> Handshake {
    let (last, handshake) = read(&turns(name));
    assert_eq!(last, Progress::Done, "{name}");
    handshake
}

fn texts(list: &[Box<str>]) -> Vec<&str> {
    list.iter().map(|text| &**text).collect()
}

#[test]
fn tls_1_3_shows_offer_and_choice() {
    let handshake = handshake("tls13");
    assert_eq!(handshake.server_name.as_deref(), Some("server.example"));
    assert_eq!(texts(&handshake.alpn_offered), ["h2", "http/1.1"]);
    assert_eq!(handshake.versions_offered.first(), Some(&0x0304));
    assert_eq!(handshake.version, Some(0x0304));
    assert_eq!(handshake.cipher, Some(0x1302));
    assert_eq!(handshake.resumed, Some(false));
    assert_eq!(handshake.alpn_chosen, None);
    assert_eq!(handshake.client_certificate_requested, None);
    assert_eq!(handshake.server_certificate, None);
    assert!(handshake.established);
    assert_eq!(handshake.alert, None);
    assert!(handshake.ja4.unwrap().starts_with("t13d"));
}

/// What Envoy 1.40 (`%TLS_JA4_FINGERPRINT%`) says of the same ClientHellos, sent to its listener.
#[test]
fn fingerprints_are_those_of_envoy() {
    let expected = [
        ("go_no_protocol", "t12d1012xx_a8cf61a50a39_c60f93f0ffe7"),
        ("go_no_version", "t13d031300_55b375c5d22e_e698889013a8"),
        ("go_tls12_istio", "t12d1012i1_a8cf61a50a39_c60f93f0ffe7"),
        ("go_tls12_ticket", "t12d101100_a8cf61a50a39_c60f93f0ffe7"),
        ("go_tls13_istio", "t13d1314ie_f57a46bbacb6_fb48f8b98a29"),
        ("go_tls13_refused", "t13d0314h2_55b375c5d22e_e698889013a8"),
        ("go_tls13_session", "t13d0315h2_55b375c5d22e_b585588df545"),
        ("tls11", "t11d090600_c491f621fb4c_195413a0cc0f"),
        ("tls12_mutual", "t12d2808h2_d943125447b4_e7e480e5a997"),
        (
            "tls12_no_client_certificate",
            "t12d280700_d943125447b4_e7e480e5a997",
        ),
        ("tls12_refused", "t12d280700_d943125447b4_e7e480e5a997"),
        ("tls12_session_id", "t12d280600_d943125447b4_a44c6288192a"),
        ("tls12_ticket", "t12d280700_d943125447b4_e7e480e5a997"),
        ("tls13", "t13d3111h2_e8f1e7e78f70_1f22a2ca17c4"),
        ("tls13_curl", "t13d3112h2_e8f1e7e78f70_b26ce05bbdd6"),
        ("tls13_early", "t13d311200_e8f1e7e78f70_87f12a3f655c"),
        ("tls13_no_sni", "t13i310900_e8f1e7e78f70_1f22a2ca17c4"),
        ("tls13_refused", "t13d3112h2_e8f1e7e78f70_b26ce05bbdd6"),
        ("tls13_retry", "t13d311000_e8f1e7e78f70_1f22a2ca17c4"),
        ("tls13_session", "t13d311100_e8f1e7e78f70_dbd39dd1d406"),
        (
            "tls_no_common_version",
            "t12d280700_d943125447b4_e7e480e5a997",
        ),
    ];
    assert_eq!(expected.len(), ALL.len());
    for (name, ja4) in expected {
        let (_, handshake) = read(&turns(name));
        assert_eq!(handshake.ja4.as_deref(), Some(ja4), "{name}");
    }
}

#[test]
fn a_client_without_name_and_protocol_offers_none() {
    let handshake = handshake("tls13_no_sni");
    assert_eq!(handshake.server_name, None);
    assert!(handshake.alpn_offered.is_empty());
    assert!(handshake.established);
    let ja4 = handshake.ja4.unwrap();
    assert!(ja4.starts_with("t13i") && ja4.contains("00_"), "{ja4}");
}

#[test]
fn a_retry_is_not_the_answer() {
    let all = turns("tls13_retry");
    let (progress, early) = read(&all[..2]);
    assert_eq!(progress, Progress::News);
    assert_eq!((early.version, early.resumed), (Some(0x0304), None));
    let handshake = handshake("tls13_retry");
    assert_eq!(handshake.resumed, Some(false));
    assert!(handshake.established);
    assert_eq!(handshake.ja4, early.ja4);
}

#[test]
fn resumption_is_seen_in_all_its_forms() {
    for name in [
        "tls13_session",
        "tls13_early",
        "tls12_session_id",
        "tls12_ticket",
        "go_tls12_ticket",
        "go_tls13_session",
    ] {
        let handshake = handshake(name);
        assert_eq!(handshake.resumed, Some(true), "{name}");
        assert!(handshake.established, "{name}");
        assert_eq!(handshake.server_certificate, None, "{name}");
    }
}

#[test]
fn tls_1_2_shows_certificates_of_both() {
    let handshake = handshake("tls12_mutual");
    assert_eq!(handshake.version, Some(0x0303));
    assert_eq!(handshake.alpn_chosen.as_deref(), Some("http/1.1"));
    assert_eq!(handshake.client_certificate_requested, Some(true));
    assert_eq!(handshake.resumed, Some(false));
    assert!(handshake.established);
    // 2036-11-19T19:44:01Z, as `openssl x509 -enddate` writes it.
    let not_after = 2_110_736_641;
    assert_eq!(
        handshake.server_certificate.as_deref(),
        Some(&Certificate {
            subject: "CN=server.example,O=Example\\, Inc.,C=DE".into(),
            dns_names: ["server.example".into(), "*.server.example".into()].into(),
            uris: ["spiffe://cluster.local/ns/shop/sa/cart".into()].into(),
            not_after,
        })
    );
    assert_eq!(
        handshake.client_certificate.as_deref(),
        Some(&Certificate {
            subject: "CN=client,O=Example".into(),
            dns_names: [].into(),
            uris: ["spiffe://cluster.local/ns/shop/sa/web".into()].into(),
            not_after,
        })
    );
}

#[test]
fn go_and_openssl_are_read_alike() {
    let go = handshake("go_tls12_istio");
    assert_eq!(
        go.server_name.as_deref(),
        Some("outbound_.8080_.v1_.cart.shop.svc.cluster.local")
    );
    assert_eq!(
        texts(&go.alpn_offered),
        ["istio-http/1.1", "istio", "http/1.1"]
    );
    let openssl = handshake("tls12_mutual");
    assert_eq!(go.server_certificate, openssl.server_certificate);
    assert_eq!(go.client_certificate, openssl.client_certificate);
    assert!(go.established);
    assert!(handshake("go_tls13_istio").established);
    assert!(handshake("tls13_curl").established);
}

#[test]
fn a_client_that_is_asked_may_have_no_certificate() {
    let handshake = handshake("tls12_no_client_certificate");
    assert_eq!(handshake.client_certificate_requested, Some(true));
    assert_eq!(handshake.client_certificate, None);
    assert!(handshake.established);
}

#[test]
fn a_client_that_is_not_asked_is_known_not_to_be() {
    let handshake = handshake("tls11");
    assert_eq!(handshake.version, Some(0x0302));
    assert_eq!(handshake.client_certificate_requested, Some(false));
    assert!(handshake.server_certificate.is_some());
    assert!(handshake.established);
}

#[test]
fn alerts_in_the_clear_are_kept() {
    for (name, alert, version) in [
        // unknown_ca, protocol_version, no_application_protocol
        ("tls12_refused", 48, Some(0x0303)),
        ("tls13_refused", 48, Some(0x0304)),
        ("tls_no_common_version", 70, None),
        ("go_no_version", 70, None),
        ("go_no_protocol", 120, None),
    ] {
        let handshake = handshake(name);
        assert_eq!(handshake.alert, Some(alert), "{name}");
        assert_eq!(handshake.version, version, "{name}");
        assert!(!handshake.established, "{name}");
    }
}

#[test]
fn an_encrypted_refusal_is_not_taken_for_a_connection() {
    let handshake = handshake("go_tls13_refused");
    assert_eq!(handshake.version, Some(0x0304));
    assert!(!handshake.established);
    assert_eq!(handshake.alert, None);
}

#[test]
fn without_the_clients_last_turn_nothing_is_established() {
    for name in ["tls13", "tls12_mutual", "tls13_early"] {
        let all = turns(name);
        let last = all
            .iter()
            .position(|(from_client, _)| !from_client)
            .unwrap();
        let (progress, handshake) = read(&all[..=last]);
        assert_ne!(progress, Progress::Done, "{name}");
        assert!(!handshake.established, "{name}");
    }
}

#[test]
fn other_bytes_are_not_tls() {
    for bytes in [
        b"GET / HTTP/1.1\r\n".as_slice(),
        b"\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00",
        b"\x17\x03\x03\x00\x05aaaaa",
        b"\x16\x02\x00\x00\x05\x01\x00\x00\x01\x00",
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
        b"\x16\x03\x01\xff\xff\x01",
    ] {
        let mut tls = Tls::new();
        assert_eq!(tls.push(true, bytes), Progress::NotTls, "{bytes:?}");
        assert_eq!(tls.push(true, bytes), Progress::Done);
        assert_eq!(*tls.handshake(), Handshake::default());
    }
}

#[test]
fn an_answer_that_is_no_tls_is_broken() {
    let mut tls = Tls::new();
    assert_eq!(tls.push(true, &turns("tls13")[0].1), Progress::News);
    let answer = b"HTTP/1.1 400 Bad Request\r\n\r\n";
    assert_eq!(tls.push(false, answer), Progress::Broken);
    assert_eq!(tls.handshake().version, None);
    assert!(tls.handshake().server_name.is_some());
    assert!(!tls.handshake().established);
}

#[test]
fn the_first_bytes_tell_in_eleven() {
    for (name, _) in ALL {
        let first = &turns(name)[0].1;
        for end in 0..first.len().min(40) {
            let expected = (end >= 11).then_some(true);
            assert_eq!(starts(&first[..end]), expected, "{name} {end}");
        }
        let mut changed = first.clone();
        for at in [0, 1, 2, 3, 5, 6, 9, 10] {
            let before = std::mem::replace(&mut changed[at], 0xff);
            assert_eq!(starts(&changed), Some(false), "{name} {at}");
            assert_eq!(starts(&changed[..=at]), Some(false), "{name} {at}");
            changed[at] = before;
        }
    }
    assert_eq!(starts(b"GET / HTTP/1.1\r\n"), Some(false));
    assert_eq!(starts(b"\x16\x03\x01\x00\x05"), Some(false));
}

#[test]
fn a_hole_in_what_is_encrypted_is_no_loss() {
    let mut all = turns("tls13");
    let expected = read(&all);
    // The server's last turn before the client answers ends with records of TLS 1.3.
    let answer = all
        .iter()
        .position(|(from_client, _)| !from_client)
        .unwrap();
    let cut = all[answer].1.len() - 10;
    all[answer].1.truncate(cut);
    let mut tls = Tls::new();
    tls.push(true, &all[0].1);
    tls.push(false, &all[answer].1);
    assert_eq!(tls.skip(false, 10), Progress::More);
    for (from_client, bytes) in &all[answer + 1..] {
        tls.push(*from_client, bytes);
    }
    assert_eq!(*tls.handshake(), expected.1);
}

#[test]
fn a_hole_in_a_certificate_loses_the_certificate_only() {
    let all = turns("tls12_mutual");
    let (_, expected) = read(&all);
    let mut tls = Tls::new();
    tls.push(true, &all[0].1);
    let answer = &all[1].1;
    let name = answer.windows(14).position(|it| it == b"server.example");
    let at = name.unwrap();
    tls.push(false, &answer[..at]);
    assert_eq!(tls.skip(false, 20), Progress::More);
    tls.push(false, &answer[at + 20..]);
    for (from_client, bytes) in &all[2..] {
        tls.push(*from_client, bytes);
    }
    let mut known = tls.handshake().clone();
    assert_eq!(known.server_certificate, None);
    known.server_certificate = expected.server_certificate.clone();
    assert_eq!(known, expected);
}

#[test]
fn after_a_hole_elsewhere_the_rest_is_unknown() {
    let all = turns("tls13");
    let mut tls = Tls::new();
    tls.push(true, &all[0].1);
    tls.push(false, &all[1].1[..3]);
    assert_eq!(tls.skip(false, 200), Progress::More);
    assert_eq!(tls.push(false, &all[1].1[203..]), Progress::More);
    let mut last = Progress::More;
    for (_, bytes) in all[2..].iter().filter(|(from_client, _)| *from_client) {
        last = tls.push(true, bytes);
    }
    assert_eq!(last, Progress::Done);
    assert_eq!(tls.handshake().version, None);
    assert!(!tls.handshake().established);
    assert_eq!(tls.weight(), 0);

    let mut both = Tls::new();
    assert_eq!(both.skip(true, 1), Progress::More);
    assert_eq!(both.skip(false, u64::MAX), Progress::Done);
}

/// One handshake message in records of `size` bytes.
fn records(message: &[u8], size: usize) -> Vec<u8> {
    let record = |piece: &[u8]| {
        let length = (piece.len() as u16).to_be_bytes();
        [&[22, 3, 3], length.as_slice(), piece].concat()
    };
    message.chunks(size).flat_map(record).collect()
}

#[test]
fn a_message_goes_on_over_records() {
    let first = &turns("tls13")[0].1;
    let expected = read(&turns("tls13")[..1]);
    for size in [1, 7, 100] {
        let mut tls = Tls::new();
        assert_eq!(tls.push(true, &records(&first[5..], size)), Progress::News);
        assert_eq!(*tls.handshake(), expected.1);
    }
}

#[test]
fn a_message_that_is_too_long_is_passed_over() {
    let all = turns("tls12_mutual");
    let mut tls = Tls::new();
    tls.push(true, &all[0].1);
    // The ServerHello, then a Certificate that never ends within the limit.
    let hello = 5 + usize::from(u16::from_be_bytes([all[1].1[3], all[1].1[4]]));
    tls.push(false, &all[1].1[..hello]);
    let length = (side::MOST_MESSAGE + 1) as u32;
    let mut message = length.to_be_bytes().to_vec();
    message[0] = message::CERTIFICATE;
    assert_eq!(tls.push(false, &records(&message, 100)), Progress::TooLong);
    for _ in 0..65 {
        let piece = vec![0; 1024.min(length as usize)];
        assert_eq!(tls.push(false, &records(&piece, 1024)), Progress::More);
        assert_eq!(tls.weight(), 0);
    }
    assert_eq!(tls.handshake().server_certificate, None);

    let mut tls = Tls::new();
    message[0] = message::CLIENT_HELLO;
    assert_eq!(tls.push(true, &records(&message, 100)), Progress::TooLong);
}

#[test]
fn a_warning_does_not_end_a_handshake() {
    let all = turns("tls12_mutual");
    let mut tls = Tls::new();
    tls.push(true, &all[0].1);
    // unrecognized_name
    let warning = [21, 3, 3, 0, 2, 1, 112];
    assert_eq!(tls.push(false, &warning), Progress::More);
    assert_eq!(tls.push(false, &all[1].1), Progress::News);
    assert_eq!(tls.handshake().alert, None);
    let close = [21, 3, 3, 0, 2, 1, 0];
    assert_eq!(tls.push(true, &close), Progress::Done);
    assert_eq!(tls.handshake().alert, Some(0));
}

/// The turns of a fixture, each cut at places that `cuts` choose.
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
        cuts in proptest::collection::vec(1_u16..400, 1..20),
    ) {
        let whole = turns(ALL[index].0);
        let (last, handshake) = read(&cut(&whole, &cuts));
        prop_assert_eq!((last, handshake), read(&whole), "{}", ALL[index].0);
    }

    /// Early data and refusals depend on what came before; all other handshakes do not.
    #[test]
    fn which_direction_is_heard_first_does_not_matter(index in 0..ALL.len(), server in any::<bool>()) {
        let whole = turns(ALL[index].0);
        let (_, expected) = read(&whole);
        prop_assume!(expected.established && ALL[index].0 != "tls13_early");
        let mut sorted = whole.clone();
        sorted.sort_by_key(|(from_client, _)| *from_client == server);
        let (_, handshake) = read(&sorted);
        prop_assert_eq!(handshake, expected, "{}", ALL[index].0);
    }

    #[test]
    fn changed_bytes_are_bounded_and_fatal_to_nobody(
        index in 0..ALL.len(),
        changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..8),
        skips in proptest::collection::vec((any::<bool>(), 0_u64..300), 0..3),
    ) {
        let mut whole = turns(ALL[index].0);
        for (at, to) in changes {
            let count = whole.len();
            let (_, bytes) = &mut whole[at % count];
            let at = at / count % bytes.len();
            bytes[at] = to;
        }
        let mut tls = Tls::new();
        let mut skips = skips.into_iter();
        let mut over = false;
        for (from_client, bytes) in &whole {
            let progress = tls.push(*from_client, bytes);
            prop_assert!(!over || progress == Progress::Done);
            over |= matches!(progress, Progress::Done | Progress::Broken | Progress::NotTls);
            prop_assert!(tls.weight() <= 4 * side::MOST_MESSAGE);
            if let Some((from_client, count)) = skips.next() {
                over |= tls.skip(from_client, count) == Progress::Done;
            }
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(
        pieces in proptest::collection::vec(
            (any::<bool>(), proptest::collection::vec(any::<u8>(), 0..60)), 0..12),
    ) {
        let mut tls = Tls::new();
        for (from_client, bytes) in &pieces {
            tls.push(*from_client, bytes);
        }
        prop_assert!(!tls.handshake().established);
    }
}
