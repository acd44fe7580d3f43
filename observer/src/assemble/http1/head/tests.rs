//! Tests of message heads: tables, prefixes and properties.

use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Request<'_> {
    match request(text.as_bytes(), 0) {
        Parsed::Complete(request, length) => {
            assert_eq!(length, text.len(), "{text:?}");
            request
        }
        other => panic!("{text:?} is {other:?}"),
    }
}

#[test]
fn every_form_of_target_is_read() {
    let check = |target: &str, path: &str, authority: &str, has_query: bool| {
        let text = format!("GET {target} HTTP/1.1\r\nHost: field\r\n\r\n");
        let request = parse(&text);
        assert_eq!(request.path, path.as_bytes(), "{target}");
        assert_eq!(request.authority, authority.as_bytes(), "{target}");
        assert_eq!(request.has_query, has_query, "{target}");
    };
    check("/", "/", "field", false);
    check("/a/b?token=secret", "/a/b", "field", true);
    check("/a#fragment", "/a", "field", false);
    check("http://host:8080/a?b", "/a", "host:8080", true);
    check("http://user:password@host/a", "/a", "host", false);
    check("http://host", "/", "host", false);
    check("http://host?x", "/", "host", true);
    let connect = parse("CONNECT example.org:443 HTTP/1.1\r\nHost: other\r\n\r\n");
    assert_eq!(connect.authority, b"example.org:443");
    assert_eq!(parse("OPTIONS * HTTP/1.1\r\n\r\n").path, b"*");
}

#[test]
fn the_body_length_follows_the_rules() {
    let check = |fields: &str, body: BodyLength, answer: BodyLength| {
        let text = format!("POST / HTTP/1.1\r\n{fields}\r\n");
        assert_eq!(parse(&text).body, body, "request with {fields:?}");
        let text = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
        let Parsed::Complete(head, _) = response(text.as_bytes(), 0) else {
            panic!("{text:?}")
        };
        assert_eq!(head.body, answer, "response with {fields:?}");
    };
    use BodyLength::{Chunked, Fixed, Malformed, UntilClose};
    check("", Fixed(0), UntilClose);
    check("Content-Length: 5\r\n", Fixed(5), Fixed(5));
    check("content-length:5\r\n", Fixed(5), Fixed(5));
    check("Content-Length: 5, 5\r\n", Fixed(5), Fixed(5));
    check(
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        Fixed(5),
        Fixed(5),
    );
    check(
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        Malformed,
        Malformed,
    );
    check("Content-Length: +5\r\n", Malformed, Malformed);
    check(
        "Content-Length: 99999999999999999999\r\n",
        Malformed,
        Malformed,
    );
    check("Transfer-Encoding: chunked\r\n", Chunked, Chunked);
    check(
        "Transfer-Encoding: gzip, Chunked\r\nContent-Length: 5\r\n",
        Chunked,
        Chunked,
    );
    check(
        "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
        Chunked,
        Chunked,
    );
    check("Transfer-Encoding: gzip\r\n", Malformed, UntilClose);
}

#[test]
fn what_is_not_http_is_refused() {
    for text in [
        "GET /\r\n\r\n",
        "GET / HTTP/2.0\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\n",
        "GET  / HTTP/1.1\r\n\r\n",
        "GET /a b HTTP/1.1\r\n\r\n",
        " GET / HTTP/1.1\r\n\r\n",
        "GÉT / HTTP/1.1\r\n\r\n",
        "GET path HTTP/1.1\r\n\r\n",
        "*1\r\n$4\r\nPING\r\n\r\n",
        "SSH-2.0-OpenSSH_9\r\n\r\n",
        "EHLO mail\r\n\r\n",
        "\u{16}\u{3}\u{1}\n\n",
        "A_METHOD_THAT_IS_MUCH_TOO_LONG_TO_BE_ONE / HTTP/1.1\r\n\r\n",
    ] {
        assert_eq!(request(text.as_bytes(), 0), Parsed::Invalid, "{text:?}");
    }
    for text in [
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/2 200\r\n\r\n",
        "HTTP/1.1  200 OK\r\n\r\n",
        "http/1.1 200 OK\r\n\r\n",
    ] {
        assert_eq!(response(text.as_bytes(), 0), Parsed::Invalid, "{text:?}");
    }
}

#[test]
fn every_prefix_of_a_head_is_partial() {
    let text = "POST /a?b HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n";
    for end in 0..text.len() {
        assert_eq!(
            request(&text.as_bytes()[..end], 0),
            Parsed::Partial,
            "{:?}",
            &text[..end]
        );
        assert_eq!(request(&text.as_bytes()[..end], end / 2), Parsed::Partial);
    }
    let text = "HTTP/1.0 404 Not Found\r\nX: y\r\n\r\n";
    for end in 0..text.len() {
        assert_eq!(
            response(&text.as_bytes()[..end], 0),
            Parsed::Partial,
            "{:?}",
            &text[..end]
        );
    }
}

#[test]
fn single_line_feeds_and_leading_empty_lines_are_accepted() {
    assert_eq!(parse("\r\n\nGET / HTTP/1.1\nHost: x\n\n").authority, b"x");
    assert!(matches!(
        response(b"HTTP/1.1 200\n\n", 0),
        Parsed::Complete(_, 14)
    ));
}

proptest! {
    #[test]
    fn any_bytes_are_parsed_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), from in 0_usize..200) {
        let _ = request(&bytes, from);
        let _ = response(&bytes, from);
    }

    #[test]
    fn where_the_search_resumes_does_not_matter(
        fields in proptest::collection::vec("[a-zA-Z-]{1,8}: [ -~]{0,8}", 0..5),
        split in 0_usize..200,
    ) {
        let text = format!("GET / HTTP/1.1\r\n{}\r\n", fields.iter().map(|f| format!("{f}\r\n")).collect::<String>());
        let split = split.min(text.len());
        // Only bytes that were searched without finding an end are said to be searched.
        if find_end(&text.as_bytes()[..split], 0).is_none() {
            prop_assert_eq!(find_end(text.as_bytes(), split), find_end(text.as_bytes(), 0));
        }
    }
}
