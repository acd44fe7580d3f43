//! Whether what was seen of an edge is what is declared for it.

use super::edge::{Declared, Edge, Sign, Signs};
use crate::{
    mesh::decision::{Accepts, Reason, Sends},
    model::{
        mesh::{DeclaredMtls, Verdict},
        time::Monotonic,
    },
};

/// A verdict and why.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Judged {
    pub(super) declared: DeclaredMtls,
    pub(super) verdict: Verdict,
    pub(super) because: Vec<Reason>,
}

/// What of mutual TLS is declared, as far as the server tells.
pub(super) fn declared(accepts: &Accepts) -> DeclaredMtls {
    match accepts {
        Accepts::Mutual => DeclaredMtls::Strict,
        Accepts::Both => DeclaredMtls::Permissive,
        Accepts::Plaintext => DeclaredMtls::Disabled,
        Accepts::NoMesh => DeclaredMtls::NoMesh,
        Accepts::Unknown(_) | Accepts::Unasked => DeclaredMtls::Unknown,
    }
}

/// Judges an edge by what was seen since what is declared was declared.
pub(super) fn judge(edge: &Edge, minimum: u64, now: Monotonic) -> Judged {
    let Some(told) = edge.declared.as_deref() else {
        return unknown(DeclaredMtls::Unknown, Vec::new(), "nothing was asked yet");
    };
    let declared = declared(&told.accepts.value);
    let mut because = told.accepts.because.clone();
    because.extend(told.sends.because.iter().cloned());
    if let Some(why) = edge.exempt {
        return unknown(declared, because, why);
    }
    if now < edge.judged_from {
        return unknown(declared, because, "what is declared has just changed");
    }
    if edge.judgeable() < minimum.max(1) {
        let few = "too few connections and requests since what is declared last changed";
        return unknown(declared, because, few);
    }
    if let Some((why, _)) = bad(&edge.since, told, edge.around.guarded) {
        because.insert(0, Reason::plain(why));
        return Judged {
            declared,
            verdict: Verdict::Violated,
            because,
        };
    }
    match good(&edge.since, told) {
        Ok(why) => {
            because.insert(0, Reason::plain(why));
            Judged {
                declared,
                verdict: Verdict::Satisfied,
                because,
            }
        }
        Err(why) => unknown(declared, because, why),
    }
}

/// What of all that was seen is not as declared, and its signs; `None` when nothing is. The server is
/// `guarded` where its sidecar is to take all.
pub(super) fn bad(
    seen: &Signs,
    told: &Declared,
    guarded: bool,
) -> Option<(&'static str, &'static [Sign])> {
    const PLAIN: &[Sign] = &[Sign::Plain, Sign::PlainRequest];
    let plain = seen.sum(PLAIN) > 0;
    Some(match (&told.accepts.value, &told.sends.value) {
        (Accepts::Mutual, _) if plain => ("plaintext where only mutual TLS is to be taken", PLAIN),
        (Accepts::Mutual, _) if seen.has(Sign::Foreign) => (
            "TLS that is none of the mesh where only its mutual TLS is to be taken",
            &[Sign::Foreign],
        ),
        (Accepts::Plaintext, _) if seen.has(Sign::Mutual) => (
            "mutual TLS where only plaintext is to be taken",
            &[Sign::Mutual],
        ),
        (Accepts::Both | Accepts::NoMesh, Sends::Mutual) if plain => (
            "plaintext where the client's proxy is to send mutual TLS",
            PLAIN,
        ),
        (Accepts::Both | Accepts::NoMesh, Sends::Tls) if plain => {
            ("plaintext where the client's proxy is to send TLS", PLAIN)
        }
        _ if guarded && seen.has(Sign::AppTook) => (
            "the server is reached past its proxy, which then enforces nothing",
            &[Sign::AppTook],
        ),
        _ => return None,
    })
}

/// All signs of what is not as declared.
pub(super) fn held_against(told: &Declared) -> &'static [Sign] {
    match told.accepts.value {
        Accepts::Plaintext => &[Sign::Mutual, Sign::AppTook],
        _ => &[
            Sign::Plain,
            Sign::PlainRequest,
            Sign::Foreign,
            Sign::AppTook,
        ],
    }
}

/// Why it is as declared when nothing bad was seen, or why it cannot be told: that nothing against it
/// was seen is not enough, as it is when all that was tried came to nothing.
fn good(seen: &Signs, told: &Declared) -> Result<&'static str, &'static str> {
    let any = |signs: &[Sign]| signs.iter().any(|sign| seen.has(*sign));
    let mutual = any(&[Sign::Mutual, Sign::MutualRequest]);
    let other = any(&[Sign::Plain, Sign::Foreign, Sign::Request]);
    const NO_MUTUAL: &str = "no mutual TLS was seen";
    match (&told.accepts.value, &told.sends.value) {
        (Accepts::Mutual, _) if mutual => Ok("only mutual TLS was seen, as declared"),
        (Accepts::Mutual, _) => Err(NO_MUTUAL),
        (Accepts::Plaintext, _) if other => Ok("no mutual TLS was seen, as declared"),
        (Accepts::Both, Sends::Mutual) if mutual => {
            Ok("only encrypted traffic was seen, as declared")
        }
        (Accepts::Both, Sends::Mutual) => Err(NO_MUTUAL),
        (Accepts::Both, Sends::Plaintext | Sends::NoProxy) if mutual || other => {
            Ok("plaintext and mutual TLS are both taken")
        }
        (Accepts::Both | Accepts::NoMesh, Sends::Tls) if seen.has(Sign::Foreign) => {
            Ok("only TLS was seen, as declared")
        }
        (Accepts::Both, Sends::Unknown(_)) => Err("what the client is to send cannot be told"),
        (Accepts::NoMesh, _) => Err("the server is in no mesh"),
        (Accepts::Unknown(_) | Accepts::Unasked, _) => Err("what the server takes cannot be told"),
        (Accepts::Both | Accepts::Plaintext, _) => Err("nothing was answered that tells"),
    }
}

fn unknown(declared: DeclaredMtls, mut because: Vec<Reason>, why: &'static str) -> Judged {
    because.insert(0, Reason::plain(why));
    Judged {
        declared,
        verdict: Verdict::Unknown,
        because,
    }
}
