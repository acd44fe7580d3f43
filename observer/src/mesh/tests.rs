//! Handshakes of meshes and of others.

use std::sync::Arc;

use super::*;

const CART: &str = "outbound_.8080_.v1_.cart.shop.svc.cluster.local";
const WEB: &str = "web.shop.serviceaccount.identity.linkerd.cluster.local";

fn handshake(name: Option<&str>, protocols: &[&str]) -> Handshake {
    Handshake {
        server_name: name.map(Into::into),
        alpn_offered: protocols
            .iter()
            .map(|protocol| (*protocol).into())
            .collect(),
        versions_offered: [0x0304, 0x0303].into(),
        version: Some(0x0304),
        established: true,
        ..Handshake::default()
    }
}

fn opening(handshake: Handshake) -> Opening {
    Opening {
        protocol: Some("tls"),
        tls: Some(Arc::new(handshake)),
        ..Opening::default()
    }
}

fn classified(name: Option<&str>, protocols: &[&str], port: u16) -> (Security, Option<MeshSigns>) {
    classify(&opening(handshake(name, protocols)), &[port])
}

fn security(name: Option<&str>, protocols: &[&str], port: u16) -> Security {
    classified(name, protocols, port).0
}

fn certificate(uri: &str) -> Option<Box<Certificate>> {
    Some(Box::new(Certificate {
        uris: [uri.into()].into(),
        ..Certificate::default()
    }))
}

#[test]
fn istio_is_known_by_its_protocols_or_its_names() {
    let (security_of, signs) = classified(Some(CART), &["istio-peer-exchange", "istio"], 8080);
    assert_eq!(security_of, Security::IstioMutualTls);
    assert_eq!(
        signs,
        Some(MeshSigns {
            subset: Some("v1".into()),
            port: Some(8080),
            host: Some("cart.shop.svc.cluster.local".into()),
            server_identity: None,
        })
    );
    for protocols in [
        ["istio-http/1.1", "istio", "http/1.1"].as_slice(),
        &["istio-http/1.0", "istio", "http/1.0"],
        &["istio-h2", "istio", "h2"],
        &["istio-peer-exchange", "istio", "h2"],
        &["istio"],
    ] {
        let found = classified(Some("cart.shop"), protocols, 443);
        assert_eq!(found, (Security::IstioMutualTls, None), "{protocols:?}");
    }
    assert_eq!(security(Some(CART), &["h2"], 1), Security::IstioMutualTls);
    // A name that is malformed says nothing, the protocols still do.
    let malformed = "outbound_.80_.v1_.a_.b";
    assert_eq!(
        classified(Some(malformed), &["istio"], 80),
        (Security::IstioMutualTls, None)
    );
    assert_eq!(
        classified(Some(malformed), &["h2"], 80),
        (Security::Tls, None)
    );
}

#[test]
fn hbone_is_port_protocol_and_no_name_together() {
    assert_eq!(security(None, &["h2"], 15008), Security::Hbone);
    let either = opening(handshake(None, &["h2"]));
    assert_eq!(classify(&either, &[8080, 15008]).0, Security::Hbone);
    assert_eq!(security(None, &["h2"], 443), Security::Tls);
    assert_eq!(security(None, &[], 15008), Security::Tls);
    assert_eq!(security(None, &["h2", "http/1.1"], 15008), Security::Tls);
    assert_eq!(security(Some("a.example"), &["h2"], 15008), Security::Tls);
    assert_eq!(classify(&either, &[]).0, Security::Tls);
}

#[test]
fn linkerd_is_known_by_its_protocol_or_its_names() {
    let expected = |identity: Option<&str>| {
        let signs = MeshSigns {
            server_identity: identity.map(Into::into),
            ..MeshSigns::default()
        };
        (Security::LinkerdMutualTls, Some(signs))
    };
    let protocol = [LINKERD_PROTOCOL];
    assert_eq!(classified(Some(WEB), &protocol, 4143), expected(Some(WEB)));
    assert_eq!(classified(Some(WEB), &[], 8080), expected(Some(WEB)));
    let external = Some("vm-1.example");
    assert_eq!(classified(external, &protocol, 4143), expected(external));
    assert_eq!(classified(None, &protocol, 4143), expected(None));
    assert_eq!(security(Some("a.example"), &[], 4143), Security::Tls);
    assert_eq!(security(None, &[], 4143), Security::Tls);
}

#[test]
fn other_tls_is_tls() {
    assert_eq!(
        classified(Some("a.example"), &["h2", "http/1.1"], 443),
        (Security::Tls, None)
    );
    assert_eq!(security(None, &["istiod"], 443), Security::Tls);
}

#[test]
fn certificates_in_the_clear_decide() {
    let web = "spiffe://cluster.local/ns/shop/sa/web";
    let mut shown = handshake(Some("cart.shop"), &["http/1.1"]);
    shown.version = Some(0x0303);
    shown.client_certificate_requested = Some(true);
    shown.server_certificate = certificate("spiffe://cluster.local/ns/shop/sa/cart");
    let security = |shown: &Handshake| classify(&opening(shown.clone()), &[443]).0;
    assert_eq!(security(&shown), Security::Tls);
    shown.client_certificate = certificate(web);
    assert_eq!(security(&shown), Security::IstioMutualTls);
    shown.server_certificate = certificate("spiffe://mesh/cart");
    assert_eq!(security(&shown), Security::Tls);
    shown.server_certificate = None;
    assert_eq!(security(&shown), Security::Tls);
}

#[test]
fn what_is_not_mutual_is_not_taken_for_it() {
    let mut shown = handshake(Some(CART), &["istio"]);
    shown.version = Some(0x0303);
    shown.established = false;
    shown.client_certificate_requested = Some(true);
    let found = |shown: &Handshake| classify(&opening(shown.clone()), &[8080]);
    // The client's certificate may come still.
    assert_eq!(found(&shown).0, Security::IstioMutualTls);
    shown.established = true;
    assert_eq!(found(&shown).0, Security::Tls);
    assert!(found(&shown).1.is_some());
    shown.client_certificate_requested = Some(false);
    shown.established = false;
    assert_eq!(found(&shown).0, Security::Tls);
}

#[test]
fn without_tls_the_protocol_tells() {
    let found = |protocol| {
        let opening = Opening {
            protocol,
            ..Opening::default()
        };
        classify(&opening, &[15008])
    };
    assert_eq!(found(Some("http/1")), (Security::Plaintext, None));
    assert_eq!(found(Some("postgresql")), (Security::Plaintext, None));
    assert_eq!(found(Some("ssh")), (Security::Unknown, None));
    assert_eq!(found(Some("quic")), (Security::Tls, None));
    assert_eq!(found(Some("tls")), (Security::Tls, None));
    assert_eq!(found(None), (Security::Unknown, None));
}
