//! What is wrong with an edge: each finding with what it takes, and what it must not be taken for.

mod case;

pub(super) use self::case::Case;
use super::{edge::Sign, marks};
use crate::{
    mesh::{
        decision::{Accepts, Reason, Sends},
        findings::{Id, Saying},
        party::{OUTSIDE, WORKLOAD},
    },
    model::{mesh::Plane, policy::ObjectRef},
};

/// Whom a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    /// The server, with the client at the other end.
    Server,
    /// The client, with the server at the other end.
    Client,
    /// The server alone.
    ServerAlone,
    /// The client alone.
    ClientAlone,
}

/// How something is found.
pub(super) struct Check {
    pub(super) id: Id,
    pub(super) about: About,
    /// Whether it can be so, as far as what is declared tells.
    pub(super) holds: fn(&Case<'_>) -> bool,
    /// Signs that it is so.
    pub(super) signs: fn(&Case<'_>) -> &'static [Sign],
    /// Least signs that it takes.
    pub(super) at_least: u64,
    /// What is said then.
    pub(super) say: fn(&Case<'_>) -> Saying,
}

const IN_THE_CLEAR: &[Sign] = &[Sign::Plain, Sign::PlainRequest];
const ANYTHING: &[Sign] = &[Sign::Plain, Sign::Foreign, Sign::Mutual, Sign::Request];

/// All checks of edges.
pub(super) static CHECKS: &[Check] = &[
    Check {
        id: Id::M01,
        about: About::Server,
        holds: |case| case.is_strict() && case.is_port_told() && !case.excluded_inbound(),
        // What did not come by the proxy is another finding.
        signs: |case| match case.edge.since.has(Sign::AppTook) {
            true => &[],
            false => IN_THE_CLEAR,
        },
        at_least: 1,
        say: |case| {
            case.accepted(format!(
                "{} answers plaintext of {}{}, where only mutual TLS is to be taken",
                case.server(),
                case.client(),
                case.at_port()
            ))
        },
    },
    Check {
        id: Id::M02,
        about: About::Server,
        // Scanners and health checks of load balancers come from outside.
        holds: |case| {
            case.is_strict()
                && case.client.party.kind != OUTSIDE
                && case.told.sends.value != Sends::Mutual
        },
        signs: |_| &[Sign::Refused],
        at_least: 3,
        say: |case| {
            case.accepted(format!(
                "{} keeps sending plaintext to {}{}, which takes mutual TLS only",
                case.client(),
                case.server(),
                case.at_port()
            ))
        },
    },
    Check {
        id: Id::M04,
        about: About::Server,
        holds: |case| {
            let takes = matches!(case.told.accepts.value, Accepts::Both | Accepts::Mutual);
            case.server.plane != Plane::None
                && takes
                && case.told.sends.value != Sends::Tls
                && !case.excluded_inbound()
                && !case.server_pod().is_some_and(marks::is_gateway)
                && (case.is_strict() || !case.is_declared_tls())
        },
        signs: |case| {
            let seen = &case.edge.since;
            let foreign = seen.get(Sign::Foreign) > seen.get(Sign::ForeignByProtocol);
            match (case.is_strict(), foreign) {
                (true, _) => &[Sign::Foreign, Sign::ForeignFailed],
                // Protocols that have TLS of their own, as some databases do.
                (false, true) => &[Sign::Foreign],
                (false, false) => &[],
            }
        },
        at_least: 1,
        say: |case| {
            let what = match case.is_strict() {
                true => "which fails where only mutual TLS of the mesh is taken",
                false => "so that its proxy sees neither identity nor requests",
            };
            case.accepted(format!(
                "{} sends TLS of its own to {}{}, {what}",
                case.client(),
                case.server(),
                case.at_port()
            ))
        },
    },
    Check {
        id: Id::M05,
        about: About::Client,
        holds: |case| case.contradicts_server() || case.contradicts_client(),
        signs: |case| match case.contradicts_server() {
            true => &[
                Sign::Plain,
                Sign::Foreign,
                Sign::Refused,
                Sign::ForeignFailed,
                Sign::Unavailable,
            ],
            false => &[Sign::Mutual, Sign::MutualFailed, Sign::Unavailable],
        },
        at_least: 1,
        say: |case| {
            let sends = match case.told.sends.value {
                Sends::Mutual => "mutual TLS of the mesh",
                Sends::Tls => "TLS that is none of the mesh",
                _ => "plaintext",
            };
            let takes = match case.is_strict() {
                true => "mutual TLS",
                false => "plaintext",
            };
            case.both(format!(
                "{} is told to send {sends} to {}{}, which takes {takes} only",
                case.client(),
                case.server(),
                case.at_port()
            ))
        },
    },
    Check {
        id: Id::M06,
        about: About::Client,
        holds: |case| {
            let takes = matches!(case.told.accepts.value, Accepts::Both | Accepts::NoMesh);
            let lost = case.lost(case.server).is_some();
            case.client.plane != Plane::None
                && takes
                && (lost || case.told.sends.value == Sends::Mutual)
                && !case.excluded_outbound()
                && !case.excluded_inbound()
        },
        signs: |_| &[Sign::PlainFromProxy],
        at_least: 1,
        say: |case| {
            let mut saying = case.both(format!(
                "the proxy of {} sends plaintext to {}{}, where mutual TLS was to be expected",
                case.client(),
                case.server(),
                case.at_port()
            ));
            if let Some(because) = case.lost(case.server) {
                saying.because = because;
                let why = "the server is to be in the mesh, and has no proxy";
                saying.because.push(Reason::plain(why));
            }
            saying
        },
    },
    Check {
        id: Id::M07,
        about: About::Client,
        // Ambient mode has one of its own.
        holds: |case| {
            let sidecar = matches!(case.client.plane, Plane::IstioSidecar | Plane::Linkerd);
            sidecar && case.edge.key.port != 53 && !case.excluded_outbound()
        },
        signs: |_| &[Sign::AppSent],
        at_least: 1,
        say: |case| {
            case.both(format!(
                "{} talks to {}{} past its own proxy",
                case.client(),
                case.server(),
                case.at_port()
            ))
        },
    },
    Check {
        id: Id::M08,
        about: About::Server,
        holds: |case| case.around.guarded,
        signs: |_| &[Sign::AppTook],
        at_least: 1,
        say: |case| {
            case.accepted(format!(
                "{} is reached by {}{} past its proxy",
                case.server(),
                case.client(),
                case.at_port()
            ))
        },
    },
    Check {
        id: Id::M09,
        about: About::ServerAlone,
        holds: |case| case.lost(case.server).is_some(),
        signs: |_| ANYTHING,
        at_least: 1,
        say: |case| case.missing(case.server),
    },
    Check {
        id: Id::M09,
        about: About::ClientAlone,
        holds: |case| case.lost(case.client).is_some(),
        signs: |_| ANYTHING,
        at_least: 1,
        say: |case| case.missing(case.client),
    },
    Check {
        id: Id::M10,
        about: About::Client,
        holds: |case| {
            case.client.plane == Plane::IstioAmbient
                && case.server.plane == Plane::IstioAmbient
                && !case.excluded_inbound()
                && !case.is_headless()
        },
        signs: |_| &[Sign::Plain, Sign::Foreign],
        at_least: 1,
        say: |case| {
            case.both(format!(
                "{} talks to {}{} without the tunnel of the ambient mesh",
                case.client(),
                case.server(),
                case.at_port()
            ))
        },
    },
    Check {
        id: Id::M11,
        about: About::Server,
        // Sidecars and gateways do not use waypoints.
        holds: |case| {
            case.client.plane == Plane::IstioAmbient
                && case.server.plane == Plane::IstioAmbient
                && !case.server_pod().is_some_and(marks::is_gateway)
                && !case.client.pod.as_deref().is_some_and(marks::is_gateway)
                && case.around.waypoint.is_some()
        },
        // A waypoint of a Service is not for what dials pods.
        signs: |case| match case.edge.since.has(Sign::DialledPod) {
            true => &[],
            false => &[Sign::TunnelledFrom],
        },
        at_least: 1,
        say: |case| case.past_waypoint(),
    },
    Check {
        id: Id::M12,
        about: About::Server,
        holds: |case| {
            let mesh = matches!(case.client.plane, Plane::IstioAmbient | Plane::None);
            mesh && case.server.plane == Plane::IstioAmbient
                && !case.server_pod().is_some_and(marks::is_gateway)
                && !case.around.unenforced.is_empty()
        },
        signs: |_| &[Sign::Request],
        at_least: 1,
        say: |case| {
            let mut saying = case.saying(format!(
                "policy for requests to {} is not enforced: no waypoint does it",
                case.server()
            ));
            saying.because = case.around.unenforced.clone();
            saying
        },
    },
    Check {
        id: Id::M27,
        about: About::Server,
        // A server that takes no plaintext refuses it by itself.
        holds: |case| {
            case.server.plane != Plane::None
                && matches!(case.told.accepts.value, Accepts::Both | Accepts::Plaintext)
                && case.around.by_identity.is_some()
        },
        signs: |_| IN_THE_CLEAR,
        at_least: 1,
        say: |case| {
            let mut saying = case.saying(format!(
                "{} reaches {}{} without an identity, so that a policy that refuses some by \
                 theirs refuses nobody",
                case.client(),
                case.server(),
                case.at_port()
            ));
            let refuses = |object: &ObjectRef| {
                Reason::of(object.clone(), "refuses callers by their identity")
            };
            saying.because = case.around.by_identity.iter().map(refuses).collect();
            saying
                .because
                .extend(case.told.accepts.because.iter().cloned());
            saying
        },
    },
    Check {
        id: Id::M30,
        about: About::Server,
        holds: |case| !case.around.voided.is_empty(),
        signs: |_| &[Sign::Tunnelled],
        at_least: 1,
        say: |case| {
            let mut saying = case.saying(format!(
                "{} reaches {}{} through the mesh's tunnel, to a port that no NetworkPolicy lets \
                 pass",
                case.client(),
                case.server(),
                case.at_port()
            ));
            saying.because = case.around.voided.clone();
            saying
        },
    },
    Check {
        id: Id::M31,
        about: About::Client,
        holds: |case| case.server.pod.is_some(),
        signs: |_| &[Sign::Mismatch],
        // The address of a pod that is gone may be another's, for a moment.
        at_least: 3,
        say: |case| {
            case.saying(format!(
                "the proxy of {} asks for another server than {}{}, which it is connected with",
                case.client(),
                case.server(),
                case.at_port()
            ))
        },
    },
    Check {
        id: Id::M32,
        about: About::Server,
        // What those outside offer is theirs.
        holds: |case| case.client.party.kind == WORKLOAD,
        signs: |case| match case.policies.istio().mesh_config().minimum_tls >= 0x0304 {
            true => &[Sign::WeakTls, Sign::OldMutual],
            false => &[Sign::WeakTls],
        },
        at_least: 1,
        say: |case| {
            case.saying(format!(
                "{} and {}{} use a version or a cipher of TLS that is weak, or below what is \
                 declared",
                case.client(),
                case.server(),
                case.at_port()
            ))
        },
    },
    Check {
        id: Id::M34,
        about: About::ServerAlone,
        holds: |case| case.server_pod().and_then(marks::conflict).is_some(),
        signs: |_| ANYTHING,
        at_least: 1,
        say: |case| case.conflict(case.server),
    },
    Check {
        id: Id::M34,
        about: About::ClientAlone,
        holds: |case| {
            case.client
                .pod
                .as_deref()
                .and_then(marks::conflict)
                .is_some()
        },
        signs: |_| ANYTHING,
        at_least: 1,
        say: |case| case.conflict(case.client),
    },
];
