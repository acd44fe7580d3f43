//! Messages in pieces, with holes, in base64: counted right, or said to be at least so many.

use proptest::{collection::vec, prelude::*};

use super::*;

fn message(flag: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![flag];
    bytes.extend((content.len() as u32).to_be_bytes());
    bytes.extend(content);
    bytes
}

fn encode(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = group.iter().enumerate().fold(0_u32, |bits, (at, byte)| {
            bits | u32::from(*byte) << (16 - 8 * at)
        });
        for at in 0..4 {
            text.push(if at <= group.len() {
                char::from(ALPHABET[(bits >> (18 - 6 * at) & 63) as usize])
            } else {
                '='
            });
        }
    }
    text
}

#[test]
fn content_types() {
    use Format::{Grpc, Web, WebText};
    for (value, format) in [
        ("application/grpc", Some(Grpc)),
        ("application/grpc+proto", Some(Grpc)),
        ("Application/GRPC; charset=utf-8", Some(Grpc)),
        ("application/grpc-web", Some(Web)),
        ("application/grpc-web+proto", Some(Web)),
        ("application/grpc-web-text", Some(WebText)),
        ("application/grpc-web-text+proto", Some(WebText)),
        ("application/grpc-Web-Text ;x", Some(WebText)),
        ("application/grpcx", None),
        ("application/grpc-webs", None),
        ("application/json", None),
        ("application/grp", None),
        ("", None),
    ] {
        assert_eq!(content_type(value.as_bytes()), format, "{value}");
    }
}

#[test]
fn timeouts() {
    for (value, duration) in [
        ("1S", Some(Duration::from_secs(1))),
        ("100m", Some(Duration::from_millis(100))),
        ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
        ("2M", Some(Duration::from_secs(120))),
        ("7u", Some(Duration::from_micros(7))),
        ("7n", Some(Duration::from_nanos(7))),
        ("0n", Some(Duration::ZERO)),
        ("100000000S", None),
        ("S", None),
        ("", None),
        ("1", None),
        ("1s", None),
        ("+1S", None),
        ("-1S", None),
        ("1 S", None),
    ] {
        assert_eq!(timeout(value.as_bytes()), duration, "{value}");
    }
}

#[test]
fn statuses() {
    assert_eq!(status(b"0"), Some(0));
    assert_eq!(status(b"16"), Some(16));
    assert_eq!(status(b"4294967295"), Some(u32::MAX));
    for value in ["", "x", "-1", "+1", "4294967296", "00000000001", "1 "] {
        assert_eq!(status(value.as_bytes()), None, "{value}");
    }
}

#[test]
fn ends() {
    let second = Some(Duration::from_secs(1));
    assert_eq!(end(Some(4), second, second), RpcEnd::Status(4));
    assert_eq!(end(None, second, second), RpcEnd::DeadlineExceeded);
    assert_eq!(
        end(None, second, Some(Duration::from_secs(2))),
        RpcEnd::Cancelled
    );
    assert_eq!(end(None, second, None), RpcEnd::Cancelled);
    assert_eq!(end(None, None, second), RpcEnd::Unknown);
}

#[test]
fn times_are_of_the_first_and_the_last_byte() {
    let mut walker = Walker::new(Format::Grpc);
    let bytes = [message(0, b"abc"), message(1, b""), message(0, b"de")].concat();
    for (at, byte) in bytes.iter().enumerate() {
        walker.push(&[*byte], Monotonic(at as u64 + 1));
    }
    let all = walker.messages();
    assert_eq!((all.count, all.at_least), (3, false));
    assert_eq!(all.first, Some(Monotonic(1)));
    assert_eq!(all.last, Some(Monotonic(bytes.len() as u64)));
    // A message that is not complete does not count, and changes no time.
    walker.push(&message(0, b"xy")[..6], Monotonic(99));
    assert_eq!(walker.messages(), all);
}

#[test]
fn holes_within_messages_are_passed_over() {
    let mut walker = Walker::new(Format::Grpc);
    walker.push(&message(0, &[7; 100])[..10], Monotonic(1));
    walker.skip(0, Monotonic(2));
    walker.skip(94, Monotonic(2));
    assert_eq!(walker.messages().count, 0);
    walker.push(&[7], Monotonic(3));
    walker.push(&message(0, &[7; 100])[..5], Monotonic(4));
    walker.skip(100, Monotonic(5));
    let all = walker.messages();
    assert_eq!((all.count, all.at_least), (2, false));
    assert_eq!(
        (all.first, all.last),
        (Some(Monotonic(1)), Some(Monotonic(5)))
    );
}

#[test]
fn a_hole_with_a_prefix_ends_the_count() {
    for (seen, count) in [(0, 0), (3, 0), (7, 1)] {
        let mut walker = Walker::new(Format::Grpc);
        let bytes = message(0, b"abc");
        walker.push(&bytes[..seen], Monotonic(1));
        walker.skip(bytes.len() as u64 - seen as u64 + 1, Monotonic(2));
        walker.push(&message(0, b"abc"), Monotonic(3));
        let all = walker.messages();
        assert_eq!((all.count, all.at_least), (count, true), "{seen}");
        assert_eq!(all.last, (count > 0).then_some(Monotonic(2)));
    }
}

#[test]
fn what_is_not_a_prefix_ends_the_count() {
    let mut walker = Walker::new(Format::Grpc);
    walker.push(b"<html><body>", Monotonic(1));
    let all = walker.messages();
    assert_eq!((all.count, all.at_least, all.first), (0, true, None));
    // Trailers are in content with gRPC-Web only.
    let mut walker = Walker::new(Format::Grpc);
    walker.push(&message(0x80, b"grpc-status: 0\r\n"), Monotonic(1));
    assert_eq!(walker.status(), None);
    assert!(walker.messages().at_least);
}

#[test]
fn trailers_of_grpc_web() {
    for (text, expected) in [
        (
            "grpc-status: 5\r\ngrpc-message: grpc-status: 1\r\n",
            Some(5),
        ),
        ("grpc-message:no\r\nGrpc-Status:0\r\n", Some(0)),
        (
            "grpc-message: a long text that does not fit\r\ngrpc-status:13",
            Some(13),
        ),
        ("x-grpc-status: 5\r\n", None),
        ("grpc-status: x\r\n", None),
        ("", None),
    ] {
        let mut walker = Walker::new(Format::Web);
        walker.push(&message(0, b"abc"), Monotonic(1));
        walker.push(&message(0x80, text.as_bytes()), Monotonic(2));
        assert_eq!(walker.status(), expected, "{text}");
        let all = walker.messages();
        assert_eq!((all.count, all.at_least), (1, false));
        assert_eq!(all.last, Some(Monotonic(1)), "trailers are no message");
    }
    let mut walker = Walker::new(Format::Web);
    walker.push(&message(0x81, b"grpc-status: 5\r\n"), Monotonic(1));
    assert_eq!(walker.status(), None, "compressed");
    assert!(!walker.messages().at_least);
}

#[test]
fn a_hole_in_trailers_spoils_one_line() {
    let bytes = message(0x80, b"grpc-message: x\r\ngrpc-status: 5\r\n");
    let mut walker = Walker::new(Format::Web);
    walker.push(&bytes[..8], Monotonic(1));
    walker.skip(4, Monotonic(1));
    walker.push(&bytes[12..], Monotonic(1));
    assert_eq!(walker.status(), Some(5));
    let mut walker = Walker::new(Format::Web);
    walker.push(&bytes[..8], Monotonic(1));
    walker.skip(bytes.len() as u64 - 8 - 3, Monotonic(1));
    walker.push(b"5\r\n", Monotonic(1));
    assert_eq!(walker.status(), None);
    assert!(!walker.messages().at_least, "all messages were seen");
}

#[test]
fn text_has_no_holes() {
    let mut walker = Walker::new(Format::WebText);
    walker.push(encode(&message(0, &[7; 100])).as_bytes(), Monotonic(1));
    walker.push(
        &encode(&message(0, &[7; 100])).as_bytes()[..20],
        Monotonic(1),
    );
    walker.skip(4, Monotonic(2));
    let all = walker.messages();
    assert_eq!((all.count, all.at_least), (1, true));
}

#[test]
fn what_is_not_text_ends_the_count_and_what_came_before_it_counts() {
    let mut text = encode(&message(0, b"abc")).into_bytes();
    text.push(0xff);
    let mut walker = Walker::new(Format::WebText);
    walker.push(&text, Monotonic(1));
    let all = walker.messages();
    assert_eq!((all.count, all.at_least), (1, true));
}

#[test]
fn a_call_has_the_status_of_its_head_or_of_its_content() {
    let mut call = Calling::new(Format::Web, Some(Duration::from_secs(1)));
    call.requests.push(&message(0, b"abc"), Monotonic(1));
    let unanswered = call.finish(Some(Duration::from_secs(1)));
    assert_eq!(unanswered.end, RpcEnd::DeadlineExceeded);
    assert_eq!(unanswered.responses, Messages::default());
    call.answered(Some(Format::Web), None);
    if let Some(responses) = &mut call.responses {
        responses.push(&message(0x80, b"grpc-status: 5\r\n"), Monotonic(2));
    }
    let rpc = call.finish(None);
    assert_eq!(
        (rpc.system, rpc.end),
        (RpcSystem::GrpcWeb, RpcEnd::Status(5))
    );
    assert_eq!(rpc.requests.count, 1);
    call.answered(None, Some(12));
    assert_eq!(call.finish(None).end, RpcEnd::Status(12));
}

proptest! {
    #[test]
    fn any_messages_in_any_pieces(
        contents in vec(vec(any::<u8>(), 0..40), 0..8),
        cuts in vec(1..30_usize, 1..6),
        format in prop::sample::select(&[Format::Grpc, Format::Web, Format::WebText][..]),
        code in 0..17_u32,
    ) {
        let mut bytes = Vec::new();
        // Servers pad each piece that they flush.
        let mut add = |message: Vec<u8>| match format {
            Format::WebText => bytes.extend(encode(&message).into_bytes()),
            _ => bytes.extend(message),
        };
        for content in &contents {
            add(message(0, content));
        }
        if format != Format::Grpc {
            add(message(0x80, format!("grpc-status:{code}\r\ngrpc-message:x\r\n").as_bytes()));
        }
        let mut walker = Walker::new(format);
        let (mut rest, mut time) = (&bytes[..], 0);
        for cut in cuts.iter().cycle() {
            let (piece, tail) = rest.split_at(rest.len().min(*cut));
            time += 1;
            walker.push(piece, Monotonic(time));
            rest = tail;
            if rest.is_empty() {
                break;
            }
        }
        let all = walker.messages();
        prop_assert_eq!(all.count, contents.len() as u64);
        prop_assert!(!all.at_least);
        match format {
            // The first byte of text is not a whole one.
            Format::WebText => prop_assert_eq!(all.first.is_some(), !contents.is_empty()),
            _ => prop_assert_eq!(all.first, (!contents.is_empty()).then_some(Monotonic(1))),
        }
        prop_assert_eq!(walker.status(), (format != Format::Grpc).then_some(code));
    }

    #[test]
    fn holes_never_count_too_much(
        contents in vec(vec(any::<u8>(), 0..40), 1..8),
        pieces in vec((1..30_usize, any::<bool>()), 1..40),
    ) {
        let bytes: Vec<u8> = contents.iter().flat_map(|content| message(0, content)).collect();
        let mut walker = Walker::new(Format::Grpc);
        let mut rest = &bytes[..];
        for (length, seen) in pieces {
            let (piece, tail) = rest.split_at(rest.len().min(length));
            if seen {
                walker.push(piece, Monotonic(1));
            } else {
                walker.skip(piece.len() as u64, Monotonic(1));
            }
            rest = tail;
        }
        let all = walker.messages();
        prop_assert!(all.count <= contents.len() as u64);
        if rest.is_empty() && !all.at_least {
            prop_assert_eq!(all.count, contents.len() as u64);
        }
    }

    #[test]
    fn any_bytes_are_walked_alike_in_any_pieces(
        bytes in vec(prop_oneof![any::<u8>(), 0..3_u8, Just(b'A')], 0..60),
        cut in any::<prop::sample::Index>(),
    ) {
        for format in [Format::Grpc, Format::Web, Format::WebText] {
            let mut whole = Walker::new(format);
            whole.push(&bytes, Monotonic(1));
            let mut parts = Walker::new(format);
            let (left, right) = bytes.split_at(cut.index(bytes.len() + 1));
            parts.push(left, Monotonic(1));
            parts.push(right, Monotonic(1));
            prop_assert_eq!(whole.messages(), parts.messages());
            prop_assert_eq!(whole.status(), parts.status());
        }
    }
}
