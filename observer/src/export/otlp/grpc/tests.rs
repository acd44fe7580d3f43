//! Tests of prefixes, statuses, and of what foreign trailers may hold.

use proptest::prelude::*;

use super::*;

/// As a server writes them.
fn encoded(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let mut group = [0; 4];
        group[1..=chunk.len()].copy_from_slice(chunk);
        let group = u32::from_be_bytes(group);
        for place in 0..=chunk.len() {
            let digit = group >> (18 - 6 * place) & 63;
            text.push(char::from(DIGITS[digit as usize]));
        }
    }
    text
}

/// The value of `grpc-status-details-bin` that asks to wait.
pub(crate) fn details(delay: Duration) -> String {
    let info = RetryInfo {
        retry_delay: Some(ProtobufDuration {
            seconds: delay.as_secs() as i64,
            nanos: delay.subsec_nanos() as i32,
        }),
    };
    let status = Status {
        code: 8,
        message: "busy".to_owned(),
        details: vec![Any {
            type_url: "type.googleapis.com/google.rpc.RetryInfo".to_owned(),
            value: info.encode_to_vec(),
        }],
    };
    encoded(&status.encode_to_vec())
}

fn fields(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let pairs = pairs.iter();
    pairs
        .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
        .collect()
}

fn called(trailers: &[(&'static str, &str)]) -> Outcome {
    outcome(
        StatusCode::OK,
        &HeaderMap::new(),
        b"",
        Some(&fields(trailers)),
    )
}

#[test]
fn statuses_are_what_the_protocol_says() {
    for code in 0..20 {
        let outcome = called(&[
            ("grpc-status", &code.to_string()),
            ("grpc-message", "a%20b"),
        ]);
        match code {
            0 => assert!(matches!(outcome, Outcome::Taken { rejected: 0, .. })),
            1 | 4 | 10 | 11 | 14 | 15 => {
                let Outcome::Passing { after: None, text } = outcome else {
                    panic!("{code}: {outcome:?}")
                };
                assert!(text.ends_with(": a b"), "{text}");
            }
            8 => assert!(matches!(outcome, Outcome::TooLarge { certain: false, .. })),
            _ => assert!(matches!(outcome, Outcome::Refused { .. }), "{code}"),
        }
    }
    assert!(matches!(
        called(&[("grpc-status", "x")]),
        Outcome::Refused { .. }
    ));
}

#[test]
fn exhausted_resources_pass_where_the_server_says_so() {
    let details = details(Duration::from_millis(2500));
    let outcome = called(&[("grpc-status", "8"), ("grpc-status-details-bin", &details)]);
    let Outcome::Passing { after, .. } = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(after, Some(Duration::from_millis(2500)));
}

#[test]
fn trailers_alone_come_in_front() {
    let headers = fields(&[("grpc-status", "16"), ("grpc-message", "who?")]);
    let outcome = outcome(StatusCode::OK, &headers, b"", None);
    assert_eq!(
        outcome,
        Outcome::Refused {
            text: "UNAUTHENTICATED: who?".to_owned()
        }
    );
}

#[test]
fn proxies_that_answer_themselves_are_understood() {
    let check = |status: u16| {
        let status = StatusCode::from_u16(status).unwrap();
        outcome(status, &HeaderMap::new(), b"<html>", None)
    };
    for status in [429, 502, 503, 504] {
        assert!(matches!(check(status), Outcome::Passing { .. }), "{status}");
    }
    for status in [200, 400, 401, 404, 500] {
        assert!(matches!(check(status), Outcome::Refused { .. }), "{status}");
    }
}

proptest! {
    #[test]
    fn base64_is_read(bytes in prop::collection::vec(any::<u8>(), 1..64)) {
        prop_assert_eq!(base64(encoded(&bytes).as_bytes()), Some(bytes));
    }

    #[test]
    fn anything_may_be_in_trailers(
        text in prop::collection::vec(0x20_u8..0x7f, 0..64),
        body in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let _ = (base64(&text), percent_decoded(&text), retry_delay(&text), message(&body));
        let _ = outcome::taken(&body);
    }
}
