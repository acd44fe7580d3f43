//! The cases: what is declared, what is done, and what is to be found.

use anyhow::Result;
use observer_tests::mesh::{Plane, Protocol, Spec, istio::Accepts};

use super::{Case, case, check};

#[test]
fn nothing_is_found_where_nothing_is_wrong() -> Result<()> {
    check(&Case {
        accepts: Accepts::Strict,
        allowed: &[],
        ..case("clean")
    })
}

#[test]
fn nothing_is_found_where_nothing_is_declared() -> Result<()> {
    // Pods with a sidecar stay with it in a namespace of the ambient mesh.
    check(&Case {
        labels: &[("istio.io/dataplane-mode", "ambient")],
        ..case("nothing")
    })
}

#[test]
fn plaintext_that_is_taken_under_strict() -> Result<()> {
    check(&Case {
        stranger_asks: Some(("/plain", 30, 200)),
        expected: &[("M01", &["web", "stranger"])],
        ..case("strict")
    })
}

#[test]
fn plaintext_that_is_refused_under_strict() -> Result<()> {
    check(&Case {
        accepts: Accepts::Strict,
        stranger_asks: Some(("/plain", 30, 0)),
        expected: &[("M02", &["web", "stranger"])],
        ..case("strict")
    })
}

#[test]
fn clients_and_servers_that_are_told_to_differ() -> Result<()> {
    check(&Case {
        accepts: Accepts::Strict,
        target: |target| {
            for subset in &mut target.subsets {
                subset
                    .endpoints
                    .iter_mut()
                    .for_each(|(_, secured)| *secured = false);
            }
        },
        front_asks: &[("/hop", 30, 503)],
        expected: &[("M05", &["front", "web"])],
        allowed: &["M02", "M03"],
        ..case("conflict")
    })
}

#[test]
fn a_server_that_should_be_in_the_mesh() -> Result<()> {
    check(&Case {
        web: Spec::new("web", Plane::None),
        injected: true,
        stranger_asks: Some(("/plain", 30, 200)),
        expected: &[("M06", &["front", "web"]), ("M09", &["web"])],
        // Who has no proxy sends plaintext by right.
        absent: &[("M06", &["stranger"]), ("M09", &["stranger"])],
        ..case("permissive")
    })
}

#[test]
fn a_client_that_passes_its_proxy_by() -> Result<()> {
    check(&Case {
        front: Spec {
            open_outbound: &[80],
            ..Spec::new("front", Plane::Istio)
        },
        expected: &[("M07", &["front"])],
        ..case("permissive")
    })
}

#[test]
fn a_server_that_is_reached_past_its_proxy() -> Result<()> {
    check(&Case {
        web: Spec {
            open_inbound: &[8080],
            ..Spec::new("web", Plane::Istio)
        },
        front_asks: &[],
        stranger_asks: Some(("/plain", 30, 200)),
        expected: &[("M08", &["web"])],
        ..case("permissive")
    })
}

#[test]
fn shares_that_are_not_as_declared() -> Result<()> {
    check(&Case {
        halved: Some([30, 70]),
        target: |target| target.mirror = Some("v2".to_owned()),
        front_asks: &[("/hop", 400, 200)],
        expected: &[("M13", &[])],
        ..case("split")
    })
}

#[test]
fn shares_as_declared_are_nothing_to_tell() -> Result<()> {
    check(&Case {
        halved: Some([75, 25]),
        target: |target| target.mirror = Some("v2".to_owned()),
        // What is called by another name is led by no rule of this one.
        direct: 100,
        front_asks: &[("/hop", 400, 200)],
        ..case("split")
    })
}

#[test]
fn a_fault_that_was_left_on() -> Result<()> {
    check(&Case {
        target: |target| target.fault = Some((503, 100)),
        front_asks: &[("/hop", 30, 503)],
        expected: &[("M22", &[])],
        ..case("fault")
    })
}

#[test]
fn requests_that_should_have_been_refused() -> Result<()> {
    check(&Case {
        front_asks: &[("/secret", 30, 200)],
        expected: &[("M25", &["web"])],
        ..case("refused")
    })
}

#[test]
fn requests_that_are_refused_as_declared() -> Result<()> {
    check(&Case {
        refuses: Some("/secret"),
        front_asks: &[("/secret", 30, 403)],
        ..case("refused")
    })
}

#[test]
fn http_on_a_port_that_is_not_said_to_be_and_tls_that_is_too_old() -> Result<()> {
    check(&Case {
        port: "tcp",
        web: Spec::new("web", Plane::Istio).serves(Protocol::Tcp),
        newest: Some("TLSv1_2"),
        expected: &[("M29", &["web"]), ("M32", &["front", "web"])],
        ..case("modern")
    })
}
