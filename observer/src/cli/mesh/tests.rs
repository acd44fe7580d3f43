//! The tables, from what the server sends.

use serde_json::{json, to_value};

use super::*;
use crate::mesh::report::fixture;

const NOW: f64 = 8_220.0;

fn shown(view: View, wide: bool) -> String {
    let answer = to_value(fixture::report()).unwrap();
    show::table(view, &answer, wide, NOW).text(Style::plain())
}

#[test]
fn edges() {
    let expected = "\
CLIENT     SERVER     SERVICE    PORT  ENCRYPTED  VERDICT    RETRIES  AT CLIENT  CLIENT PROXY  NETWORK  SERVER PROXY  AT SERVER
shop/web   shop/cart  cart.shop  8080     100.0%  satisfied     2.0%     12.0ms        1.00ms   2.00ms        1.00ms     8.00ms
old/batch  shop/cart             8080      25.0%  violated         -          -             -        -             -          -
";
    assert_eq!(shown(View::Edges, false), expected);
}

#[test]
fn encryption_with_reasons() {
    let mut answer = to_value(fixture::report()).unwrap();
    answer["namespaces"] = json!([{
        "namespace": "shop", "edges": 2, "encrypted": 1, "plaintext": 1, "satisfied": 1,
        "violated": 1, "unknown": 0
    }]);
    let expected = "\
CLIENT     SERVER     PORT  CLIENT IN      SERVER IN      DECLARED  ENCRYPTED  VERDICT    OBSERVED
shop/web   shop/cart  8080  istio_sidecar  istio_sidecar  strict       100.0%  satisfied  istio_mtls 100.0%
    because PeerAuthentication shop/default: mode STRICT for the namespace
old/batch  shop/cart  8080  none           istio_sidecar  strict        25.0%  violated   istio_mtls 25.0%, plaintext 75.0%
    because PeerAuthentication shop/default: mode STRICT for the namespace
    because 150 of 200 connections are plaintext
    shop: 2 edges, 1 all encrypted, 1 with plaintext, 1 not as declared
";
    let found = show::table(View::Mtls, &answer, true, NOW).text(Style::plain());
    assert_eq!(found, expected);
}

#[test]
fn readiness() {
    let expected = "\
SERVER     STATE      DECLARED    OBSERVED  OF  CONNECTIONS  PLAINTEXT  WHY
shop/cart  NOT READY  permissive        2h  7d          210        153  1 client still sends plaintext
    plaintext from old/batch to port 8080: 150 connections, the last 2m ago
    plaintext from outside 192.0.2.7 to port 8080: 3 connections, the last 20m ago
";
    assert_eq!(shown(View::Readiness, false), expected);
}

#[test]
fn split() {
    let expected = "\
OBJECT                    RULE  HOST                         BACKEND                         DECLARED  OBSERVED  REQUESTS        P  VERDICT   WHY
VirtualService shop/cart  0     cart.shop.svc.cluster.local  cart.shop.svc.cluster.local v1     90.0%     70.0%       700  1.00e-5  violated  v2 gets 30% instead of 10%
                                                             cart.shop.svc.cluster.local v2     10.0%     30.0%       300
";
    assert_eq!(shown(View::Split, false), expected);
}

#[test]
fn routes() {
    let expected = "\
OBJECT               RULE      HOST  STATE   REQUESTS    OF  LAST  TIMEOUT  RETRIES  LONGEST  WHY
HTTPRoute shop/cart  checkout  cart  unused         0  5000     -    2.00s        3        -  none of 5000 requests matched
";
    assert_eq!(shown(View::Routes, false), expected);
}

#[test]
fn authorization() {
    let expected = "\
CLIENT     SERVER     PORT  ALLOWED  DENIED  UNKNOWN  REFUSED  VERDICT   IDENTITY
old/batch  shop/cart  8080       10       5        1        2  violated  spiffe://cluster.local/ns/old/sa/batch
    because AuthorizationPolicy shop/cart: no rule allows it
";
    assert_eq!(shown(View::Authz, true), expected);
}

#[test]
fn nothing_is_said_to_be_nothing() {
    for view in [
        View::Edges,
        View::Mtls,
        View::Readiness,
        View::Split,
        View::Routes,
        View::Authz,
    ] {
        let answer = json!({"observed_seconds": 30.0});
        let found = show::table(view, &answer, true, NOW).text(Style::plain());
        assert!(found.ends_with("nothing was seen in 30s\n"), "{found}");
        assert!(view.report().path().starts_with("/api/v1/mesh"));
    }
}

#[test]
fn times() {
    for (seconds, expected) in [
        (0.0, "0s"),
        (89.0, "89s"),
        (91.0, "2m"),
        (5_399.0, "90m"),
        (7_200.0, "2h"),
        (86_400.0, "24h"),
        (604_800.0, "7d"),
    ] {
        assert_eq!(span(seconds), expected);
    }
    assert_eq!(ago(None, NOW), "-");
    assert_eq!(ago(Some(NOW + 5.0), NOW), "0s");
}

#[test]
fn control_characters_do_not_reach_the_terminal() {
    let mut table = Table::new(&["A"]);
    table.note("a\u{1b}b");
    assert_eq!(table.text(Style::plain()), "A\n    a?b\n");
}
