//! Service meshes as a connection's first bytes show them: whose encryption it is, and the routing
//! decision that it carries.
//!
//! In TLS 1.3 the certificates are encrypted, so that it is mutual is inferred: only proxies of a
//! mesh offer its protocols and ask for its names. Where TLS 1.2 shows the certificates, they
//! decide. A port alone proves nothing.

pub mod canonical;
pub mod decision;
pub mod findings;
#[cfg(test)]
mod fixture;
pub mod gateway;
pub mod hops;
pub mod istio;
pub mod ledger;
pub mod linkerd;
pub mod network;
pub mod party;
pub mod policy;
pub mod report;
pub mod traffic;
pub mod wire;

mod block;
mod duration;
mod pattern;
mod read;
mod selector;
mod shelf;
#[cfg(test)]
mod testing;

use self::wire::{istio_target, linkerd_identity, names_istio_workload};
use crate::model::security::{Certificate, Handshake, MeshSigns, Opening, Security};

/// Port of HBONE, the tunnel of Istio's ambient mode.
const HBONE_PORT: u16 = 15008;
/// Application protocols that Istio's proxies offer to each other, beside the real one.
const ISTIO_PROTOCOLS: [&str; 5] = [
    "istio",
    "istio-peer-exchange",
    "istio-http/1.0",
    "istio-http/1.1",
    "istio-h2",
];
/// Application protocol of Linkerd's transport header.
const LINKERD_PROTOCOL: &str = "transport.l5d.io/v1";
/// Protocols that are encrypted, but neither by TLS nor by a mesh.
const ENCRYPTED_OTHERWISE: [&str; 2] = ["ssh", "postgresql_gss"];
/// Protocols that are always encrypted by TLS, also when their handshake could not be read.
const ENCRYPTED_BY_TLS: [&str; 2] = ["tls", "quic"];

/// Whose encryption a connection has, and what a mesh showed of itself. `server_ports` are those
/// that the connection was made to: as dialled, and on the wire.
pub fn classify(opening: &Opening, server_ports: &[u16]) -> (Security, Option<MeshSigns>) {
    if let Some(handshake) = &opening.tls {
        return encrypted(handshake, server_ports);
    }
    let security = match opening.protocol {
        Some(protocol) if ENCRYPTED_BY_TLS.contains(&protocol) => Security::Tls,
        Some(protocol) if ENCRYPTED_OTHERWISE.contains(&protocol) => Security::Unknown,
        Some(_) => Security::Plaintext,
        // It may be encrypted in a way of its own.
        None => Security::Unknown,
    };
    (security, None)
}

fn encrypted(handshake: &Handshake, server_ports: &[u16]) -> (Security, Option<MeshSigns>) {
    let name = handshake.server_name.as_deref();
    let offers = |protocol: &str| handshake.alpn_offered.iter().any(|it| **it == *protocol);

    let transport_header = offers(LINKERD_PROTOCOL);
    if transport_header || name.is_some_and(|name| linkerd_identity(name).is_some()) {
        // With the transport header any name is the identity that the client demands.
        let signs = MeshSigns {
            server_identity: name.map(Into::into),
            ..MeshSigns::default()
        };
        return (Security::LinkerdMutualTls, Some(signs));
    }

    let target = name.and_then(istio_target);
    let istio = target.is_some() || ISTIO_PROTOCOLS.iter().any(|protocol| offers(protocol));
    let signs = target.map(|target| MeshSigns {
        subset: Some(target.subset.into()),
        port: Some(target.port),
        host: Some(target.host.into()),
        server_identity: None,
    });
    let security = match mutual(handshake) {
        Mutual::Disproved => Security::Tls,
        Mutual::BetweenIstioWorkloads => Security::IstioMutualTls,
        Mutual::NotShown if istio => Security::IstioMutualTls,
        Mutual::NotShown if is_hbone(handshake, server_ports) => Security::Hbone,
        Mutual::NotShown => Security::Tls,
    };
    (security, signs)
}

/// Clients of HBONE offer HTTP/2 alone and ask for no name.
fn is_hbone(handshake: &Handshake, server_ports: &[u16]) -> bool {
    let only_http2 = matches!(&*handshake.alpn_offered, [only] if **only == *"h2");
    only_http2 && handshake.server_name.is_none() && server_ports.contains(&HBONE_PORT)
}

/// What the certificates say, where they are in the clear.
enum Mutual {
    /// They are not, or not all of them.
    NotShown,
    /// The server asked for none, or the client had none.
    Disproved,
    /// Both ends showed an identity as Istio writes it.
    BetweenIstioWorkloads,
}

fn mutual(handshake: &Handshake) -> Mutual {
    let istio = |certificate: &Option<Box<Certificate>>| {
        certificate.as_ref().is_some_and(|certificate| {
            let mut uris = certificate.uris.iter();
            uris.any(|uri| names_istio_workload(uri))
        })
    };
    match (
        handshake.client_certificate_requested,
        &handshake.client_certificate,
    ) {
        (Some(false), _) => Mutual::Disproved,
        // It would have been seen before the connection was established.
        (Some(true), None) if handshake.established => Mutual::Disproved,
        (Some(true), client) if istio(client) && istio(&handshake.server_certificate) => {
            Mutual::BetweenIstioWorkloads
        }
        _ => Mutual::NotShown,
    }
}

#[cfg(test)]
mod tests;
