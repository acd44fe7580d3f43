//! What the first bytes of a connection showed, in flows.

use std::net::SocketAddr;

use serde::Serialize;

use crate::model::call::Link;

use super::text::whole_seconds;

/// Who secured a connection, and whom it speaks for; part of [`super::CallLine`] and
/// [`super::ConnectionLine`]. What is of TLS is `null` without TLS.
#[derive(Clone, Debug, Serialize)]
pub struct Secured<'a> {
    /// `plaintext`, `tls`, `istio_mtls`, `hbone`, `linkerd_mtls`; `unknown` before it is known.
    pub security: &'static str,
    /// Name that the client asked for (SNI).
    pub tls_server_name: Option<&'a str>,
    /// Protocols that the client offered (ALPN), commas between.
    pub tls_alpn_offered: Option<String>,
    /// Protocol that the server chose; in the clear up to TLS 1.2 only.
    pub tls_alpn: Option<&'a str>,
    /// Version that the server chose, as `1.3`.
    pub tls_version: Option<String>,
    /// Cipher suite that the server chose, by its IANA name, or as `0x1301`.
    pub tls_cipher: Option<String>,
    /// JA4 fingerprint of the client.
    pub tls_ja4: Option<&'a str>,
    /// Istio: subset of the destination that was routed to.
    pub istio_subset: Option<&'a str>,
    /// Istio: port of the service that was routed to.
    pub istio_port: Option<u16>,
    /// Istio: host of the service that was routed to.
    pub istio_host: Option<&'a str>,
    /// Linkerd: identity of the server that the client demanded.
    pub linkerd_server_identity: Option<&'a str>,
    /// PROXY protocol: whom the connection was made for.
    pub proxied_source: Option<SocketAddr>,
    /// PROXY protocol: whom it was made to.
    pub proxied_destination: Option<SocketAddr>,
    /// PROXY protocol: name that the client asked for.
    pub proxied_authority: Option<&'a str>,
    /// PROXY protocol: SPIFFE id of the client, as ztunnel tells it.
    pub proxied_identity: Option<&'a str>,
}

/// What else the first bytes showed; part of [`super::ConnectionLine`]. What is of TLS is `null`
/// without TLS, and what is of certificates from TLS 1.3 on.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Handshake<'a> {
    /// The innermost protocol that was recognised, as `http/1`, `http/2`, `tls`.
    pub application_protocol: Option<&'a str>,
    /// Protocol that started in the clear and asked for TLS.
    pub tls_started_by: Option<&'a str>,
    /// Versions that the client offered, commas between.
    pub tls_versions_offered: Option<String>,
    /// The handshake led to a connection.
    pub tls_established: Option<bool>,
    /// Alert that ended it (RFC 8446 section 6).
    pub tls_alert: Option<u8>,
    /// The server resumed an earlier session.
    pub tls_resumed: Option<bool>,
    /// The server asked for a certificate of the client.
    pub tls_client_certificate_requested: Option<bool>,
    /// Subject of the server's certificate.
    pub tls_server_subject: Option<&'a str>,
    /// DNS names of the server's certificate, commas between.
    pub tls_server_dns_names: Option<String>,
    /// URIs of the server's certificate, SPIFFE ids among them, commas between.
    pub tls_server_uris: Option<String>,
    /// When the server's certificate expires.
    pub tls_server_not_after: Option<String>,
    /// Subject of the client's certificate.
    pub tls_client_subject: Option<&'a str>,
    /// DNS names of the client's certificate, commas between.
    pub tls_client_dns_names: Option<String>,
    /// URIs of the client's certificate, SPIFFE ids among them, commas between.
    pub tls_client_uris: Option<String>,
    /// When the client's certificate expires.
    pub tls_client_not_after: Option<String>,
    /// Version of the PROXY protocol.
    pub proxied_version: Option<&'static str>,
}

/// Cipher suites in use, by their numbers (IANA TLS Cipher Suites).
const CIPHERS: [(u16, &str); 20] = [
    (0x002f, "TLS_RSA_WITH_AES_128_CBC_SHA"),
    (0x0035, "TLS_RSA_WITH_AES_256_CBC_SHA"),
    (0x009c, "TLS_RSA_WITH_AES_128_GCM_SHA256"),
    (0x009d, "TLS_RSA_WITH_AES_256_GCM_SHA384"),
    (0x009e, "TLS_DHE_RSA_WITH_AES_128_GCM_SHA256"),
    (0x009f, "TLS_DHE_RSA_WITH_AES_256_GCM_SHA384"),
    (0x1301, "TLS_AES_128_GCM_SHA256"),
    (0x1302, "TLS_AES_256_GCM_SHA384"),
    (0x1303, "TLS_CHACHA20_POLY1305_SHA256"),
    (0xc009, "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA"),
    (0xc00a, "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA"),
    (0xc013, "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA"),
    (0xc014, "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA"),
    (0xc02b, "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"),
    (0xc02c, "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"),
    (0xc02f, "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"),
    (0xc030, "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"),
    (0xcca8, "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"),
    (0xcca9, "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"),
    (0xccaa, "TLS_DHE_RSA_WITH_CHACHA20_POLY1305_SHA256"),
];

// === impl Secured ===

impl<'a> Secured<'a> {
    /// What is known of `link`.
    pub(super) fn of(link: &'a Link) -> Self {
        let opening = link.opening.as_deref();
        let tls = opening.and_then(|opening| opening.tls.as_deref());
        let proxied = opening.and_then(|opening| opening.proxied.as_deref());
        let addresses = proxied.and_then(|proxied| proxied.addresses);
        let mesh = link.mesh.as_deref();
        Self {
            security: link.security.as_str(),
            tls_server_name: tls.and_then(|tls| tls.server_name.as_deref()),
            tls_alpn_offered: tls.and_then(|tls| joined(&tls.alpn_offered)),
            tls_alpn: tls.and_then(|tls| tls.alpn_chosen.as_deref()),
            tls_version: tls.and_then(|tls| tls.version).map(version),
            tls_cipher: tls.and_then(|tls| tls.cipher).map(cipher),
            tls_ja4: tls.and_then(|tls| tls.ja4.as_deref()),
            istio_subset: mesh.and_then(|mesh| mesh.subset.as_deref()),
            istio_port: mesh.and_then(|mesh| mesh.port),
            istio_host: mesh.and_then(|mesh| mesh.host.as_deref()),
            linkerd_server_identity: mesh.and_then(|mesh| mesh.server_identity.as_deref()),
            proxied_source: addresses.map(|(source, _)| source),
            proxied_destination: addresses.map(|(_, destination)| destination),
            proxied_authority: proxied.and_then(|proxied| proxied.authority.as_deref()),
            proxied_identity: proxied.and_then(|proxied| proxied.identity.as_deref()),
        }
    }
}

// === impl Handshake ===

impl<'a> Handshake<'a> {
    /// What is known of `link`.
    pub(super) fn of(link: &'a Link) -> Self {
        let Some(opening) = link.opening.as_deref() else {
            return Self::default();
        };
        let mut line = Self {
            application_protocol: opening.protocol,
            tls_started_by: opening.started_by,
            proxied_version: opening.proxied.as_ref().map(|one| one.version.as_str()),
            ..Self::default()
        };
        let Some(tls) = opening.tls.as_deref() else {
            return line;
        };
        let offered = tls.versions_offered.iter().map(|number| version(*number));
        line.tls_versions_offered = joined(&offered.collect::<Vec<String>>());
        line.tls_established = Some(tls.established);
        line.tls_alert = tls.alert;
        line.tls_resumed = tls.resumed;
        line.tls_client_certificate_requested = tls.client_certificate_requested;
        if let Some(server) = tls.server_certificate.as_deref() {
            line.tls_server_subject = Some(&server.subject);
            line.tls_server_dns_names = joined(&server.dns_names);
            line.tls_server_uris = joined(&server.uris);
            line.tls_server_not_after = whole_seconds(server.not_after);
        }
        if let Some(client) = tls.client_certificate.as_deref() {
            line.tls_client_subject = Some(&client.subject);
            line.tls_client_dns_names = joined(&client.dns_names);
            line.tls_client_uris = joined(&client.uris);
            line.tls_client_not_after = whole_seconds(client.not_after);
        }
        line
    }
}

fn joined(items: &[impl AsRef<str>]) -> Option<String> {
    let items: Vec<&str> = items.iter().map(AsRef::as_ref).collect();
    (!items.is_empty()).then(|| items.join(","))
}

/// A version of TLS as people write it.
fn version(number: u16) -> String {
    match number {
        0x0300 => "ssl3".to_owned(),
        0x0301 => "1.0".to_owned(),
        0x0302 => "1.1".to_owned(),
        0x0303 => "1.2".to_owned(),
        0x0304 => "1.3".to_owned(),
        other => format!("0x{other:04x}"),
    }
}

fn cipher(number: u16) -> String {
    let found = CIPHERS.iter().find(|(known, _)| *known == number);
    found.map_or_else(|| format!("0x{number:04x}"), |(_, name)| (*name).to_owned())
}
