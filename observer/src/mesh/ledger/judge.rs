//! What is wrong with an edge: each finding with what it takes, and what it must not be taken for.

use super::{
    edge::{Declared, Edge, Sign},
    marks,
    parties::{Known, NOBODY},
    rules::{Rules, waypoint},
};
use crate::{
    mesh::{
        decision::{Accepts, Reason, Sends},
        findings::{Id, Saying, Severity},
        party::{OUTSIDE, WORKLOAD},
        policy::Policies,
        report::Party,
    },
    model::{kubernetes::Pod, mesh::Plane, policy::ObjectRef},
};

/// An edge with all that it is judged by.
pub(super) struct Case<'a> {
    pub(super) edge: &'a Edge,
    pub(super) told: &'a Declared,
    pub(super) client: &'a Known,
    pub(super) server: &'a Known,
    /// The Service that was dialled.
    pub(super) service: Option<&'a Party>,
    pub(super) rules: &'a Rules,
    pub(super) policies: &'a Policies,
}

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
        holds: |case| case.is_strict() && case.excluded_inbound().is_none(),
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
                && case.excluded_inbound().is_none()
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
            let lost = case.server.plane == Plane::None && case.declared(case.server).is_some();
            case.client.plane != Plane::None
                && takes
                && (lost || case.told.sends.value == Sends::Mutual)
                && case.excluded_outbound().is_none()
                && case.excluded_inbound().is_none()
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
            if let (Plane::None, Some(why)) = (case.server.plane, case.declared(case.server)) {
                let why = format!("the server is to be in the mesh, by {why}, and has no proxy");
                saying.because.insert(0, Reason::plain(why));
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
            sidecar && case.edge.key.port != 53 && case.excluded_outbound().is_none()
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
        holds: |case| {
            let sidecar = matches!(case.server.plane, Plane::IstioSidecar | Plane::Linkerd);
            // Transparent interception keeps the client's address.
            let transparent = case.server_pod().is_some_and(|pod| {
                pod.traits.annotation("sidecar.istio.io/interceptionMode") == Some("TPROXY")
            });
            sidecar && !transparent && case.excluded_inbound().is_none()
        },
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
        holds: |case| case.is_missing(case.server),
        signs: |_| ANYTHING,
        at_least: 1,
        say: |case| case.missing(case.server),
    },
    Check {
        id: Id::M09,
        about: About::ClientAlone,
        holds: |case| case.is_missing(case.client),
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
                && case.excluded_inbound().is_none()
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
                && case.waypoint().is_some()
        },
        // A waypoint of a Service is not for what dials pods.
        signs: |case| match case.edge.since.has(Sign::DialledPod) {
            true => &[],
            false => &[Sign::TunnelledFrom],
        },
        at_least: 1,
        say: Case::past_waypoint,
    },
    Check {
        id: Id::M12,
        about: About::Server,
        holds: |case| {
            let mesh = matches!(case.client.plane, Plane::IstioAmbient | Plane::None);
            mesh && case.server.plane == Plane::IstioAmbient
                && !case.server_pod().is_some_and(marks::is_gateway)
                && case.unenforced().is_some()
        },
        signs: |_| &[Sign::Request],
        at_least: 1,
        say: |case| {
            let mut saying = case.saying(format!(
                "policy for requests to {} is not enforced: no waypoint is before it",
                case.server()
            ));
            saying.because = case.unenforced().map_or_else(Vec::new, |object| {
                vec![Reason::of(object.clone(), "is about requests")]
            });
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
                && case.by_identity().is_some()
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
            saying.because = case.by_identity().map_or_else(Vec::new, |object| {
                vec![Reason::of(object.clone(), "refuses callers by their identity")]
            });
            saying.because.extend(case.told.accepts.because.iter().cloned());
            saying
        },
    },
    Check {
        id: Id::M30,
        about: About::Server,
        holds: |case| !case.voided().is_empty(),
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
            let voided = case.voided();
            let reason = |object: &&ObjectRef| {
                Reason::of((*object).clone(), "lets the port of the tunnel pass, and not this one")
            };
            saying.because = voided.iter().map(reason).collect();
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
        signs: |case| match case.rules.demands_tls_1_3() {
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
        holds: |case| case.client.pod.as_deref().and_then(marks::conflict).is_some(),
        signs: |_| ANYTHING,
        at_least: 1,
        say: |case| case.conflict(case.client),
    },
];

// === impl Case ===

impl<'a> Case<'a> {
    fn is_strict(&self) -> bool {
        self.told.accepts.value == Accepts::Mutual
    }

    fn server_pod(&self) -> Option<&'a Pod> {
        self.server.pod.as_deref()
    }

    fn client(&self) -> String {
        self.client.party.describe()
    }

    fn server(&self) -> String {
        self.server.party.describe()
    }

    fn at_port(&self) -> String {
        match self.edge.key.port {
            0 => String::new(),
            port => format!(" at port {port}"),
        }
    }

    fn saying(&self, summary: String) -> Saying {
        Saying {
            summary,
            ..Saying::default()
        }
    }

    /// With what the server's policy says.
    fn accepted(&self, summary: String) -> Saying {
        Saying {
            because: self.told.accepts.because.clone(),
            ..self.saying(summary)
        }
    }

    /// With what both policies say.
    fn both(&self, summary: String) -> Saying {
        let mut saying = self.accepted(summary);
        saying.because.extend(self.told.sends.because.iter().cloned());
        saying
    }

    fn excluded_inbound(&self) -> Option<&'static str> {
        let server = self.server;
        marks::excluded_inbound(&self.server_pod()?.traits, server.plane, self.edge.key.port)
    }

    fn excluded_outbound(&self) -> Option<&'static str> {
        let traits = &self.client.pod.as_ref()?.traits;
        let ports = [self.edge.key.port, self.edge.dialled_port];
        marks::excluded_outbound(traits, self.client.plane, ports, self.edge.server_address)
    }

    /// What declares a party's pods to be in the mesh.
    fn declared(&self, known: &Known) -> Option<String> {
        marks::declared_in_mesh(self.policies.context(), known.pod.as_deref()?)
    }

    fn is_missing(&self, known: &Known) -> bool {
        known.plane == Plane::None && self.declared(known).is_some()
    }

    fn missing(&self, known: &Known) -> Saying {
        let why = self.declared(known).unwrap_or_default();
        Saying {
            because: vec![Reason::plain(format!("it is declared by {why}"))],
            ..self.saying(format!(
                "{} is to be in the mesh, and has no proxy",
                known.party.describe()
            ))
        }
    }

    fn conflict(&self, known: &Known) -> Saying {
        let what = known.pod.as_deref().and_then(marks::conflict);
        self.saying(format!(
            "pods of {} have {}",
            known.party.describe(),
            what.unwrap_or("two proxies")
        ))
    }

    /// A rule of the client's mesh says what to send.
    fn is_told(&self) -> bool {
        let mut because = self.told.sends.because.iter();
        because.any(|reason| {
            let object = reason.object.as_ref();
            object.is_some_and(|object| &*object.kind == "DestinationRule")
        })
    }

    fn contradicts_server(&self) -> bool {
        let sends = matches!(self.told.sends.value, Sends::Plaintext | Sends::Tls);
        self.is_strict() && sends && self.is_told()
    }

    fn contradicts_client(&self) -> bool {
        self.told.accepts.value == Accepts::Plaintext
            && self.told.sends.value == Sends::Mutual
            && self.is_told()
    }

    /// The port is declared to speak TLS.
    fn is_declared_tls(&self) -> bool {
        if matches!(self.edge.key.port, 443 | 8443) || matches!(self.edge.dialled_port, 443 | 8443)
        {
            return true;
        }
        let Some(service) = self.service else {
            return false;
        };
        let facts = self
            .policies
            .context()
            .service(&service.namespace, &service.name);
        facts.is_some_and(|facts| {
            facts
                .ports
                .iter()
                .filter(|port| {
                    port.port == self.edge.dialled_port || port.target == self.edge.key.port
                })
                .any(|port| {
                    let of_tls = |name: &str| {
                        matches!(name.split('-').next(), Some("https" | "tls"))
                    };
                    of_tls(&port.name) || of_tls(&port.app_protocol)
                })
        })
    }

    fn is_headless(&self) -> bool {
        let facts = self.service.and_then(|service| {
            let context = self.policies.context();
            context.service(&service.namespace, &service.name)
        });
        facts.is_some_and(|facts| facts.headless)
    }

    fn waypoint(&self) -> Option<super::rules::Waypoint> {
        let service = self.service?;
        waypoint(self.policies.context(), &service.namespace, &service.name)
    }

    fn past_waypoint(&self) -> Saying {
        let Some(waypoint) = self.waypoint() else {
            return Saying::default();
        };
        let (namespace, name) = (&*waypoint.namespace, &*waypoint.name);
        let mut saying = self.saying(format!(
            "{} reaches {}{} past the waypoint {namespace}/{name} of its Service",
            self.client(),
            self.server(),
            self.at_port()
        ));
        let state = match self.policies.gateways().gateway(namespace, name) {
            None => "there is no such waypoint: proxies go on without",
            Some(gateway) if gateway.programmed == Some(false) => {
                "the waypoint is not ready: proxies go on without"
            }
            Some(_) => "the waypoint is there",
        };
        saying.because.push(Reason::plain(state));
        let attached = |kind, namespace, name| self.rules.attached(kind, namespace, name);
        let by_service = self
            .service
            .and_then(|service| attached("Service", &service.namespace, &service.name));
        if let Some(object) = by_service.or_else(|| attached("Gateway", namespace, name)) {
            let skipped = Reason::of(object.clone(), "is about requests, and is passed over");
            saying.because.push(skipped);
            saying.severity = Some(Severity::Critical);
        }
        saying
    }

    /// A policy or route about requests that no waypoint enforces.
    fn unenforced(&self) -> Option<&'a ObjectRef> {
        if self.waypoint().is_some() {
            return None;
        }
        let of_service = self.service.and_then(|service| {
            self.rules
                .attached("Service", &service.namespace, &service.name)
        });
        let of_pod = || self.rules.about_requests(self.server_pod()?);
        of_service.or_else(of_pod)
    }

    fn by_identity(&self) -> Option<&'a ObjectRef> {
        self.rules.by_identity(self.server_pod()?)
    }

    fn voided(&self) -> Vec<&'a ObjectRef> {
        let tunnel = match self.server.plane {
            Plane::IstioAmbient => 15_008,
            Plane::Linkerd => 4_143,
            Plane::IstioSidecar | Plane::None => return Vec::new(),
        };
        let pod = self.server_pod();
        pod.map_or_else(Vec::new, |pod| {
            self.rules.voided(pod, self.edge.key.port, tunnel)
        })
    }
}

/// The Service of an edge, where it is known.
pub(super) fn has_service(edge: &Edge) -> Option<u32> {
    (edge.key.service != NOBODY).then_some(edge.key.service)
}
