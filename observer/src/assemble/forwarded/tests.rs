//! What fields of proxies tell, in both versions of HTTP, and what they must not.

use httlib_hpack::Encoder;
use proptest::prelude::*;

use super::*;
use crate::{
    assemble::{
        heads::Heads,
        http1::{Http1, Piece, Verdict},
        http2::Http2,
    },
    model::{
        connection::{ConnectionId, Role},
        exchange::Exchange,
        time::Monotonic,
    },
};

const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";
const CART: &str = "spiffe://cluster.local/ns/shop/sa/cart";
const HASH: &str = "468ed33be74eee6556d90c0149c1309e9ba61d6425303443c0748a02dd8de688";
const REQUEST_ID: &str = "f47ac10b-58cc-4372-a567-0e02b2c3d479";

type Fields<'a> = &'a [(&'a str, &'a str)];

/// Exchanges of HTTP/1 with these fields in requests and responses.
fn http1(heads: &mut Heads, exchanges: &[(Fields<'_>, Fields<'_>)]) -> Vec<Exchange> {
    let mut http = Http1::new(ConnectionId(1), Role::Server, 0);
    let mut out = Vec::new();
    let lines = |fields: Fields<'_>| -> String {
        fields
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect()
    };
    for (request, response) in exchanges {
        let request = format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", lines(request));
        let response = format!(
            "HTTP/1.1 200 OK\r\n{}Content-Length: 0\r\n\r\n",
            lines(response)
        );
        for (from_client, text) in [(true, request), (false, response)] {
            let verdict = http.push(
                from_client,
                piece(text.as_bytes()),
                heads,
                &mut |exchange| {
                    out.push(exchange);
                },
            );
            assert_eq!(verdict, Verdict::Http);
        }
    }
    out
}

/// As [`http1`], of HTTP/2: what repeats is an index into the tables.
fn http2(
    heads: &mut Heads,
    exchanges: &[(Fields<'_>, Fields<'_>)],
    huffman: bool,
) -> Vec<Exchange> {
    let mut http = Http2::new(ConnectionId(1), Role::Server, 0);
    let (mut client, mut server) = (Encoder::default(), Encoder::default());
    let mut out = Vec::new();
    for (index, (request, response)) in exchanges.iter().enumerate() {
        let request = [&[(":method", "GET"), (":path", "/")], *request].concat();
        let response = [&[(":status", "200")], *response].concat();
        let asked = block(&mut client, &request, huffman);
        let answered = block(&mut server, &response, huffman);
        for (from_client, block) in [(true, asked), (false, answered)] {
            let mut bytes = Vec::new();
            if from_client && index == 0 {
                bytes.extend(crate::assemble::http2::frame::PREFACE);
            }
            bytes.extend(&(block.len() as u32).to_be_bytes()[1..]);
            // HEADERS that end the block and the stream.
            bytes.extend([1, 5]);
            bytes.extend((index as u32 * 2 + 1).to_be_bytes());
            bytes.extend(block);
            let verdict = http.push(from_client, piece(&bytes), heads, &mut |exchange| {
                out.push(exchange);
            });
            assert_eq!(verdict, Verdict::Http);
        }
    }
    out
}

fn block(encoder: &mut Encoder<'static>, fields: Fields<'_>, huffman: bool) -> Vec<u8> {
    let mut flags = Encoder::BEST_FORMAT | Encoder::WITH_INDEXING;
    if huffman {
        flags |= Encoder::HUFFMAN_NAME | Encoder::HUFFMAN_VALUE;
    }
    let mut bytes = Vec::new();
    for (name, value) in fields {
        let field = (name.as_bytes().to_vec(), value.as_bytes().to_vec(), flags);
        encoder.encode(field, &mut bytes).unwrap();
    }
    bytes
}

fn piece(bytes: &[u8]) -> Piece<'_> {
    Piece {
        bytes,
        time: Monotonic(1),
        hop: (0, 0),
    }
}

fn told(exchanges: &[Exchange]) -> Vec<Option<Arc<Forwarded>>> {
    exchanges
        .iter()
        .map(|exchange| exchange.forwarded.clone())
        .collect()
}

fn uri(value: &str) -> String {
    String::from_utf8(client_uri(value.as_bytes()).to_vec()).unwrap()
}

#[test]
fn the_nearest_proxy_says_who_called() {
    let cases = [
        (format!("URI={WEB}"), WEB),
        (format!("By={CART};Hash={HASH};Subject=\"\";URI={WEB}"), WEB),
        (format!("by={CART};hash={HASH};uri={WEB}"), WEB),
        (format!("URI=\"{WEB}\";By={CART}"), WEB),
        (format!("URI={WEB};URI={CART}"), WEB),
        (format!("URI={CART},By=x;URI={WEB}"), WEB),
        (format!("URI={CART}, URI={WEB}"), WEB),
        (
            format!(r#"Subject="/C=US/O=a, b;URI={CART}\",URI={CART}";URI={WEB};DNS=a,URI={WEB}"#),
            WEB,
        ),
        (
            format!("Cert=\"-----BEGIN%20{}\";URI={WEB}", "A".repeat(9000)),
            WEB,
        ),
        // The last element has none, whatever those before say.
        (format!("URI={WEB},By={CART};Hash={HASH}"), ""),
        (format!("URI={WEB},"), ""),
        (format!("URI={WEB};"), ""),
        (format!("URI={WEB},nonsense"), ""),
        (format!("Subject=\"a;URI={WEB}"), ""),
        (format!("Subject=\"a\"b;URI={WEB}"), ""),
        ("URI=".to_owned(), ""),
        ("URI=\"\"".to_owned(), ""),
        ("URI=a b".to_owned(), ""),
        (r#"URI="a\"b""#.to_owned(), ""),
        (format!("URI=spiffe://{}", "a".repeat(LONGEST)), ""),
        ("URI=spiffe://\u{e4}/ns/a/sa/b".to_owned(), ""),
        (WEB.to_owned(), ""),
        (String::new(), ""),
    ];
    for (value, expected) in cases {
        assert_eq!(uri(&value), expected, "{value}");
    }
}

#[test]
fn values_that_are_not_right_tell_nothing() {
    for (mark, value, expected) in [
        (
            Mark::ClientId,
            " web.shop.serviceaccount.identity.linkerd.cluster.local ",
            54,
        ),
        (Mark::ClientId, "a b", 0),
        (Mark::ClientId, "a,b", 0),
        (Mark::AttemptCount, "2", 1),
        (Mark::AttemptCount, "-2", 0),
        (Mark::AttemptCount, "+2", 0),
        (Mark::AttemptCount, "1234567890", 0),
        (Mark::UpstreamTime, "12", 2),
        (Mark::UpstreamTime, "1.2", 0),
        (Mark::Server, "envoy", 5),
        (Mark::Server, "istio-envoy", 11),
        (Mark::Server, "envoy/1.2", 0),
        (Mark::Server, "nginx", 0),
        (Mark::ProxyError, "endpoint 10.0.0.1:8080: refused", 0),
    ] {
        assert_eq!(
            mark.cut(value.as_bytes()).len(),
            expected,
            "{mark:?} {value}"
        );
    }
    assert_eq!(attempt(b"0"), None);
    assert_eq!(attempt(b"65535"), Some(65535));
    assert_eq!(attempt(b"65536"), None);
}

#[test]
fn both_versions_of_http_tell_the_same() {
    let certificate = format!("URI={CART},By={CART};Subject=\"CN=secret\";URI={WEB}");
    let istio: Fields<'_> = &[
        ("x-forwarded-client-cert", &certificate),
        ("x-envoy-attempt-count", "2"),
    ];
    let linkerd: Fields<'_> = &[("l5d-client-id", "web.shop.serviceaccount.identity.l.local")];
    let by_envoy: Fields<'_> = &[
        ("server", "istio-envoy"),
        ("x-envoy-upstream-service-time", "7"),
    ];
    let failed: Fields<'_> = &[("l5d-proxy-error", "no"), ("server", "hyper")];
    let all = [
        (istio, by_envoy),
        (linkerd, failed),
        (&[][..], &[("server", "nginx")][..]),
        (istio, by_envoy),
        (linkerd, failed),
        (&[("x-envoy-attempt-count", "x")][..], &[][..]),
    ];
    let expected = [
        Some(Forwarded {
            client_uri: Some(WEB.into()),
            attempt: Some(2),
            upstream: Some(Duration::from_millis(7)),
            by_envoy: true,
            ..Forwarded::default()
        }),
        Some(Forwarded {
            client_id: Some("web.shop.serviceaccount.identity.l.local".into()),
            proxy_error: true,
            ..Forwarded::default()
        }),
        None,
    ];
    for version in 0..3 {
        let mut heads = Heads::new(4);
        let exchanges = match version {
            0 => http1(&mut heads, &all),
            _ => http2(&mut heads, &all, version == 2),
        };
        let told = told(&exchanges);
        assert_eq!(told.len(), all.len());
        for (index, one) in told.iter().enumerate() {
            let expected = &expected[if index == 5 { 2 } else { index % 3 }];
            assert_eq!(one.as_deref(), expected.as_ref(), "{version} {index}");
        }
        // What is equal is one allocation.
        for (first, again) in [(0, 3), (1, 4)] {
            let (first, again) = (told[first].as_ref().unwrap(), told[again].as_ref().unwrap());
            assert!(Arc::ptr_eq(first, again), "{version}");
        }
    }
}

#[test]
fn fields_of_the_other_direction_do_not_count() {
    let asked: Fields<'_> = &[
        ("server", "envoy"),
        ("l5d-proxy-error", "a"),
        ("x-envoy-upstream-service-time", "1"),
    ];
    let answered: Fields<'_> = &[
        ("l5d-client-id", "a"),
        ("x-forwarded-client-cert", "URI=a"),
        ("x-envoy-attempt-count", "1"),
    ];
    for exchanges in [
        http1(&mut Heads::new(1), &[(asked, answered)]),
        http2(&mut Heads::new(1), &[(asked, answered)], true),
    ] {
        assert_eq!(told(&exchanges), [None]);
    }
}

#[test]
fn the_last_field_of_a_name_counts() {
    let first = format!("URI={CART}");
    let last = format!("URI={WEB}");
    let asked: Fields<'_> = &[
        ("x-forwarded-client-cert", &first),
        ("l5d-client-id", "a"),
        ("x-forwarded-client-cert", &last),
        ("l5d-client-id", "b"),
    ];
    for exchanges in [
        http1(&mut Heads::new(1), &[(asked, &[])]),
        http2(&mut Heads::new(1), &[(asked, &[])], false),
    ] {
        let told = exchanges[0].forwarded.as_deref().unwrap();
        assert_eq!(told.client_uri.as_deref(), Some(WEB));
        assert_eq!(told.client_id.as_deref(), Some("b"));
    }
}

#[test]
fn hops_of_a_request_have_one_id_and_share_names() {
    let id = |digit: &str| REQUEST_ID.replacen("4372", &format!("{digit}372"), 1);
    let (sampled, other) = (id("9"), REQUEST_ID.replace('f', "e"));
    let uri = format!("URI={WEB}");
    let asked = |id| [("x-request-id", id), ("x-forwarded-client-cert", &*uri)];
    let requests = [
        asked(REQUEST_ID),
        asked(&sampled),
        asked(&other),
        asked("not-a-uuid"),
    ];
    let all: Vec<(Fields<'_>, Fields<'_>)> = requests
        .iter()
        .map(|request| (&request[..], &[("server", "envoy")][..]))
        .collect();
    for version in 1..3 {
        let mut heads = Heads::new(4);
        let exchanges = match version {
            1 => http1(&mut heads, &all),
            _ => http2(&mut heads, &all, true),
        };
        let told: Vec<_> = exchanges
            .iter()
            .map(|exchange| exchange.forwarded.as_deref().unwrap())
            .collect();
        let ids: Vec<_> = told.iter().map(|told| told.request_id).collect();
        // What Envoy notes in the id is no part of it.
        assert!(ids[0].is_some() && ids[0] == ids[1], "{ids:?}");
        assert!(ids[2].is_some() && ids[2] != ids[0], "{ids:?}");
        assert_eq!(ids[3], None);
        let name = told[0].client_uri.as_ref().unwrap();
        for other in &told {
            assert!(Arc::ptr_eq(name, other.client_uri.as_ref().unwrap()));
            assert!(other.by_envoy);
        }
    }
}

#[test]
fn no_two_answers_share_what_one_of_them_told() {
    let mut cache = Cache::default();
    let asked = Asked {
        attempt: Some(1),
        ..Asked::default()
    };
    let one = cache.asked(&asked, None);
    let answered = Answered {
        proxy_error: true,
        ..Answered::default()
    };
    let other = cache.answered(one.clone(), answered).unwrap();
    assert!(other.proxy_error && !one.unwrap().proxy_error);
    assert_eq!(other.attempt, Some(1));
}

proptest! {
    #[test]
    fn any_value_is_cut_to_what_may_be_kept(value in proptest::collection::vec(any::<u8>(), 0..700)) {
        for mark in Mark::ALL {
            let kept = mark.cut(&value);
            prop_assert!(kept.len() <= LONGEST);
            prop_assert!(std::str::from_utf8(kept).is_ok());
            // What was cut once stays as it is, but for the list of certificates.
            if mark != Mark::ClientCertificate {
                prop_assert_eq!(mark.cut(kept), kept);
            }
        }
    }

    #[test]
    fn a_list_is_read_as_it_was_written(
        elements in proptest::collection::vec(
            proptest::collection::vec(
                ("(By|Hash|Cert|Subject|URI|DNS)", "[ -~]{0,20}", any::<bool>()),
                1..5,
            ),
            1..4,
        ),
    ) {
        let mut written = Vec::new();
        let mut expected = String::new();
        for element in &elements {
            let mut pairs = Vec::new();
            let mut first = None;
            for (name, value, quoted) in element {
                let special = value.contains(['"', '\\', ',', ';']);
                let escaped = value.replace('\\', "\\\\").replace('"', "\\\"");
                pairs.push(if special || *quoted {
                    format!("{name}=\"{escaped}\"")
                } else {
                    format!("{name}={value}")
                });
                if name == "URI" {
                    first.get_or_insert_with(|| value.clone());
                }
            }
            written.push(pairs.join(";"));
            expected = first.filter(|uri| is_client(uri.as_bytes())).unwrap_or_default();
        }
        prop_assert_eq!(uri(&written.join(",")), expected);
    }
}
