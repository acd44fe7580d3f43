//! The table of findings, and when they fail a pipeline.

use serde_json::{json, to_value};

use super::*;
use crate::mesh::report::fixture;

fn answer() -> Value {
    to_value(fixture::report()).unwrap()
}

#[test]
fn findings() {
    let expected = "\
SEVERITY  ID   WORKLOAD   PEER       PORT  COUNT  LAST  SUMMARY
critical  M01  shop/cart  old/batch  8080    150    2m  plaintext is accepted although only mutual TLS is declared
low       M15  pay/bill   -             -      1    2h  a rule never matched
    VirtualService pay/odd is not understood: http[0].match[0].uri: no such kind of match
    HTTPRoute pay/new is ignored: Service pay/bill: no controller has accepted it yet
";
    assert_eq!(
        table(&answer(), false, 8_220.0).text(Style::plain()),
        expected
    );
}

#[test]
fn findings_with_reasons() {
    let expected = "\
SEVERITY  ID   WORKLOAD   PEER       PORT  COUNT  LAST  SUMMARY
critical  M01  shop/cart  old/batch  8080    150    2m  plaintext is accepted although only mutual TLS is declared
    because PeerAuthentication shop/default: mode STRICT for the namespace
    because 150 of 200 connections are plaintext
    seen 2m ago: 10.0.0.9:40000 to 10.0.0.7:8080, plaintext, GET /cart 200
    Look for ports that are left out of the mesh.
    see KIA0505
low       M15  pay/bill   -             -      1    2h  a rule never matched
    Remove it.
    VirtualService pay/odd is not understood: http[0].match[0].uri: no such kind of match
    HTTPRoute pay/new is ignored: Service pay/bill: no controller has accepted it yet
";
    assert_eq!(
        table(&answer(), true, 8_220.0).text(Style::plain()),
        expected
    );
}

#[test]
fn nothing_is_said_to_be_nothing() {
    let empty =
        json!({"observed_seconds": 7200.0, "findings": [], "misunderstood": [], "ignored": []});
    let found = table(&empty, false, 0.0).text(Style::plain());
    assert!(found.ends_with("nothing was found in 2h\n"), "{found}");
    assert_eq!(worst(&empty), None);
}

#[test]
fn the_worst_decides() {
    assert_eq!(worst(&answer()), Some(Severity::Critical));
    let of = |severity: &str| worst(&json!({"findings": [{"severity": severity}]}));
    for severity in Severity::ALL {
        assert_eq!(of(severity.as_str()), Some(severity));
    }
    assert_eq!(of("unheard of"), None);
    assert!(Severity::Critical > Severity::High && Severity::Low > Severity::Info);
}
