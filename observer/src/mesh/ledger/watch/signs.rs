//! What connections are signs of.

use std::time::Duration;

use super::{Around, Ended, Live, judged, side};
use crate::{
    mesh::{
        findings::Sample,
        ledger::{
            edge::{Edge, Side, Sign},
            marks,
            turn::{End, Saw},
            view::{Vantage, service_of},
        },
        policy::Policies,
        wire::linkerd_identity,
    },
    model::{
        call::Link,
        connection::{Role, Transfer},
        policy::find,
        security::{Handshake, Security},
        time::Monotonic,
        workload::Peer,
    },
};

/// How often a connection that lasts is a sign again.
const AGAIN: Duration = Duration::from_secs(600);

/// Versions of TLS on the wire (RFC 8446 section 4.2.1).
const TLS_1_2: u16 = 0x0303;
const TLS_1_3: u16 = 0x0304;

/// Signs of a connection that carried data both ways: once, and again while it lasts.
pub(super) fn carried(live: &mut Live, around: &mut Around<'_>) {
    let now = around.now;
    let again = live.signed.is_some();
    if live.signed.is_some_and(|last| now.since(last) < AGAIN) {
        return;
    }
    let security = secured(&live.link);
    let link = live.link.clone();
    let Some(edge) = around.edges.get(live.edge) else {
        return;
    };
    if !judged(live, edge) {
        return;
    }
    let key = edge.key;
    let own = match side(live.vantage) {
        Side::Client => key.client,
        Side::Server => key.server,
    };
    let past_proxy = past_proxy(live, own, around);
    let Some(edge) = around.edges.touch(live.edge, now) else {
        return;
    };
    let sample = || Sample::of_link(&link, now);
    if let Some(sign) = past_proxy {
        edge.sign(sign, sample);
        live.signed = Some(now);
    }
    let second = side(live.vantage) == Side::Server && live.told_twice;
    if security == Security::Unknown || second {
        return;
    }
    live.signed = Some(now);
    let proxied = live.vantage == Vantage::WireClient { proxied: true };
    // Each connection shows once what proxies do with those that are new.
    if !again && edge.turn.is_some() {
        let saw = match security {
            Security::Plaintext => Saw::Plain,
            Security::Tls => Saw::Foreign,
            _ => Saw::Mutual,
        };
        turned(live, edge, saw, past_proxy, now);
    }
    match security {
        Security::Plaintext => {
            edge.sign(Sign::Plain, sample);
            if proxied {
                edge.sign(Sign::PlainFromProxy, sample);
            }
        }
        Security::Tls => {
            edge.sign(Sign::Foreign, sample);
            let asked = |link: &Link| link.opening.as_ref().and_then(|it| it.started_by);
            if asked(&link).is_some() {
                edge.note(Sign::ForeignByProtocol);
            }
        }
        _ => edge.sign(Sign::Mutual, sample),
    }
    if live.tunnel && security != Security::Plaintext {
        edge.sign(Sign::Tunnelled, sample);
        if proxied {
            edge.sign(Sign::TunnelledFrom, sample);
        }
    }
    let handshake = link.opening.as_ref().and_then(|it| it.tls.as_deref());
    if let Some(handshake) = handshake {
        if is_weak(handshake) {
            edge.sign(Sign::WeakTls, sample);
        }
        let old = handshake.version.is_some_and(|it| it < TLS_1_3);
        if old && security == Security::IstioMutualTls {
            edge.sign(Sign::OldMutual, sample);
        }
    }
    if proxied && is_mismatch(&link, around.policies) {
        let edge = around.edges.touch(live.edge, now);
        if let Some(edge) = edge {
            edge.sign(Sign::Mismatch, sample);
        }
    }
}

/// A connection that shows whether the proxies at its ends have heard of what changed.
fn turned(live: &Live, edge: &mut Edge, saw: Saw, past_proxy: Option<Sign>, now: Monotonic) {
    let Some(turn) = edge.turn.as_deref_mut() else {
        return;
    };
    let link = &live.link;
    let (own, other) = (link.workload.pod(), link.peer.pod());
    let mutual = matches!(saw, Saw::Mutual | Saw::MutualFailed);
    let (client, server) = match live.vantage {
        Vantage::WireClient { proxied } => (own.filter(|_| proxied), other),
        // Whether it was the client's proxy that sent plaintext cannot be seen here.
        Vantage::WireServer { .. } => (other.filter(|_| mutual), own),
        Vantage::AppClient | Vantage::AppServer => return,
    };
    // What the application took itself tells nothing of its proxy.
    let server = server.filter(|_| past_proxy != Some(Sign::AppTook));
    for (end, pod) in [(End::Client, client), (End::Server, server)] {
        if let Some(pod) = pod {
            turn.saw(end, pod, saw, now, || Sample::of_link(link, now));
        }
    }
}

/// Whether an application's own socket is one that its pod's proxy should have been before.
fn past_proxy(live: &Live, own: u32, around: &Around<'_>) -> Option<Sign> {
    let sign = match live.vantage {
        Vantage::WireClient { proxied: false } => Sign::AppSent,
        Vantage::WireServer { proxied: false } => Sign::AppTook,
        _ => return None,
    };
    let link = &live.link;
    let container = link.workload.container.as_ref()?;
    let lasting = marks::is_application(&container.pod, &container.name);
    if !lasting || marks::is_gateway(&container.pod) {
        return None;
    }
    // Where its proxy was not seen to carry anything, it may be that it has not started yet.
    let known = around.edges.known(own)?;
    known
        .had_proxy(link.connection.started, around.settle)
        .then_some(sign)
}

/// A connection ended: handshakes that came to nothing, and clients that were refused.
pub(super) fn ended(live: &Live, edge: &mut Edge, both: bool, transfer: &Transfer, ended: Ended) {
    if !judged(live, edge) || (side(live.vantage) == Side::Server && live.told_twice) {
        return;
    }
    let link = &live.link;
    let now = live.last;
    let mut came_to_nothing = |sign, saw| {
        edge.judgeable.0 += 1;
        edge.sign(sign, || Sample::of_link(link, now));
        turned(live, edge, saw, None, now);
    };
    let role = link.connection.role;
    let handshake = link.opening.as_ref().and_then(|it| it.tls.as_deref());
    match link.security {
        Security::Plaintext if !both => {
            let client_spoke = match role {
                Role::Server => transfer.received_bytes > 0,
                Role::Client | Role::Unknown => transfer.sent_bytes > 0,
            };
            let by_server = ended.by.is_client(role, None) == Some(false);
            if client_spoke && by_server {
                came_to_nothing(Sign::Refused, Saw::Refused);
            }
        }
        Security::Tls if handshake.is_some_and(|it| !it.established) => {
            came_to_nothing(Sign::ForeignFailed, Saw::ForeignFailed);
        }
        Security::IstioMutualTls | Security::LinkerdMutualTls
            if handshake.is_some_and(|it| !it.established) =>
        {
            came_to_nothing(Sign::MutualFailed, Saw::MutualFailed);
        }
        _ => {}
    }
}

/// How a connection is secured, once it carried data both ways. A handshake that came to nothing is
/// not encryption.
pub(super) fn secured(link: &Link) -> Security {
    let shaken = |handshake: &Handshake| handshake.established;
    match link.security {
        Security::Plaintext => Security::Plaintext,
        security => {
            let handshake = link.opening.as_ref().and_then(|it| it.tls.as_deref());
            match handshake.is_none_or(shaken) {
                true => security,
                false => Security::Unknown,
            }
        }
    }
}

/// Whether the version that was chosen is below 1.2, or the cipher does not authenticate what it
/// encrypts.
fn is_weak(handshake: &Handshake) -> bool {
    let Some(version) = handshake.version else {
        return false;
    };
    version < TLS_1_2 || (version == TLS_1_2 && handshake.cipher.is_some_and(|it| !is_aead(it)))
}

/// Suites with GCM, CCM or ChaCha20-Poly1305 (IANA TLS Cipher Suites), and those of TLS 1.3.
const fn is_aead(cipher: u16) -> bool {
    matches!(
        cipher,
        0x009c..=0x00ad
            | 0x1301..=0x1307
            | 0xc02b..=0xc032
            | 0xc050..=0xc063
            | 0xc06a..=0xc06f
            | 0xc07a..=0xc093
            | 0xc09c..=0xc0af
            | 0xccaa..=0xccae
            | 0xcca8..=0xcca9
            | 0xd001..=0xd005
    )
}

/// Whether a client asked for another identity than that of the pod that it got, or for a Service
/// that does not choose it.
fn is_mismatch(link: &Link, policies: &Policies) -> bool {
    let (Some(signs), Peer::Pod(_) | Peer::Local(_)) = (&link.mesh, &link.peer) else {
        return false;
    };
    let Some(pod) = link.peer.pod() else {
        return false;
    };
    if marks::is_gateway(pod) {
        return false;
    }
    if let Some(identity) = signs.server_identity.as_deref().and_then(linkerd_identity) {
        let account = &pod.traits.service_account;
        return !account.is_empty()
            && (identity.service_account != &**account || identity.namespace != &*pod.namespace);
    }
    let service = signs
        .host
        .as_deref()
        .and_then(service_of)
        .and_then(|(namespace, name)| policies.context().service(namespace, name));
    service.is_some_and(|service| {
        let chosen = service
            .selector
            .iter()
            .all(|(name, value)| find(&pod.traits.labels, name) == Some(&**value));
        !service.selector.is_empty() && (!chosen || service.namespace[..] != pod.namespace[..])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weak_tls_is_old_or_does_not_authenticate() {
        for (version, cipher, weak) in [
            (Some(0x0301), Some(0xc02f), true),
            (Some(0x0302), None, true),
            (Some(TLS_1_2), Some(0xc02f), false),
            (Some(TLS_1_2), Some(0xc013), true),
            (Some(TLS_1_2), Some(0x002f), true),
            (Some(TLS_1_2), Some(0x009c), false),
            (Some(TLS_1_2), Some(0xcca8), false),
            (Some(TLS_1_2), None, false),
            (Some(TLS_1_3), Some(0x1301), false),
            (None, None, false),
        ] {
            let handshake = Handshake {
                version,
                cipher,
                ..Handshake::default()
            };
            assert_eq!(is_weak(&handshake), weak, "{version:?} {cipher:?}");
        }
    }
}
