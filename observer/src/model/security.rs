//! What the first bytes of a connection show: its protocol, its encryption, whom it speaks for.

use std::{net::SocketAddr, sync::Arc};

/// Whether a connection is encrypted, and by whom: a label of metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Security {
    /// Its first bytes were not seen, have not come yet, or are of no protocol that is known to be
    /// in the clear.
    #[default]
    Unknown,
    /// Bytes in the clear.
    Plaintext,
    /// TLS or QUIC that is none of a mesh.
    Tls,
    /// Mutual TLS between Istio's sidecars or gateways.
    IstioMutualTls,
    /// The tunnel of Istio's ambient mode: HTTP/2 CONNECT in mutual TLS.
    Hbone,
    /// Mutual TLS between Linkerd's proxies.
    LinkerdMutualTls,
}

/// A TLS handshake, as far as it is in the clear (RFC 8446, RFC 5246).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Handshake {
    /// Name that the client asked for (`server_name`, RFC 6066 section 3), lower case.
    pub server_name: Option<Box<str>>,
    /// Application protocols that the client offered, in its order (RFC 7301).
    pub alpn_offered: Box<[Box<str>]>,
    /// Application protocol that the server chose; in the clear up to TLS 1.2 only.
    pub alpn_chosen: Option<Box<str>>,
    /// Versions that the client offered, without GREASE (RFC 8701), highest first.
    pub versions_offered: Box<[u16]>,
    /// Version that the server chose; `None` before, or when its answer was not seen.
    pub version: Option<u16>,
    /// Cipher suite that the server chose (IANA TLS Cipher Suites).
    pub cipher: Option<u16>,
    /// JA4 fingerprint of the ClientHello.
    pub ja4: Option<Box<str>>,
    /// The server resumed an earlier session: `None` when it cannot be told.
    pub resumed: Option<bool>,
    /// The server asked the client for a certificate; in the clear up to TLS 1.2 only.
    pub client_certificate_requested: Option<bool>,
    /// Leaf certificate of the server; in the clear up to TLS 1.2 only.
    pub server_certificate: Option<Box<Certificate>>,
    /// Leaf certificate of the client; in the clear up to TLS 1.2 only.
    pub client_certificate: Option<Box<Certificate>>,
    /// Encrypted records followed in both directions: the handshake led to a connection.
    pub established: bool,
    /// An alert that was sent in the clear ended the handshake: its description (RFC 8446
    /// section 6).
    pub alert: Option<u8>,
}

/// Names and dates of an X.509 certificate. Its key is not kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Certificate {
    /// Subject, as RFC 4514 writes it.
    pub subject: Box<str>,
    /// DNS names of `subjectAltName`.
    pub dns_names: Box<[Box<str>]>,
    /// URIs of `subjectAltName`: SPIFFE ids among them.
    pub uris: Box<[Box<str>]>,
    /// `notAfter`, seconds since the Unix epoch.
    pub not_after: i64,
}

/// Version of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProxyVersion {
    /// One line of text.
    V1,
    /// Binary.
    V2,
}

/// What a PROXY protocol header in front of a connection says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxied {
    /// Version of the header.
    pub version: ProxyVersion,
    /// Whom the connection was made for, and whom it was made to; `None` for `LOCAL`, `UNKNOWN`
    /// and addresses that are none of IP.
    pub addresses: Option<(SocketAddr, SocketAddr)>,
    /// `PP2_TYPE_AUTHORITY`: the name that the client asked for.
    pub authority: Option<Box<str>>,
    /// The client's SPIFFE id, as Istio's ztunnel writes it (type 0xD0).
    pub identity: Option<Box<str>>,
}

/// What the first bytes of a connection showed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opening {
    /// Protocol by its common name (`http/1`, `http/2`, `tls`, `dns`, `postgresql`, ...), the
    /// innermost that was seen; `text` for lines of text of none that is
    /// known, `None` for other bytes.
    pub protocol: Option<&'static str>,
    /// Its TLS handshake; `None` when it is in the clear.
    pub tls: Option<Arc<Handshake>>,
    /// Protocol that asked for TLS after it had started in the clear (`smtp`, `postgresql`, ...).
    pub started_by: Option<&'static str>,
    /// A PROXY protocol header came before everything else.
    pub proxied: Option<Arc<Proxied>>,
}

/// What a mesh shows in a handshake. Which parts there are depends on the mesh.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MeshSigns {
    /// Istio: the subset of the destination rule that was routed to; empty when there is none.
    pub subset: Option<Box<str>>,
    /// Istio: port of the service that was routed to.
    pub port: Option<u16>,
    /// Istio: host of the service that was routed to.
    pub host: Option<Box<str>>,
    /// Linkerd: the identity of the server that the client demanded.
    pub server_identity: Option<Box<str>>,
}

// === impl Security ===

impl Security {
    /// All values.
    pub const ALL: [Self; 6] = [
        Self::Unknown,
        Self::Plaintext,
        Self::Tls,
        Self::IstioMutualTls,
        Self::Hbone,
        Self::LinkerdMutualTls,
    ];

    /// Place in [`Self::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Encrypted, by whomever.
    pub const fn is_encrypted(self) -> bool {
        !matches!(self, Self::Unknown | Self::Plaintext)
    }

    /// By mutual TLS of a mesh.
    pub const fn is_mutual(self) -> bool {
        matches!(
            self,
            Self::IstioMutualTls | Self::Hbone | Self::LinkerdMutualTls
        )
    }

    /// Name in flows, JSON and labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Plaintext => "plaintext",
            Self::Tls => "tls",
            Self::IstioMutualTls => "istio_mtls",
            Self::Hbone => "hbone",
            Self::LinkerdMutualTls => "linkerd_mtls",
        }
    }
}

// === impl ProxyVersion ===

impl ProxyVersion {
    /// Name in flows and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "1",
            Self::V2 => "2",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_in_their_places() {
        for (index, security) in Security::ALL.into_iter().enumerate() {
            assert_eq!(security.index(), index);
        }
    }
}
