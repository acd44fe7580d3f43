//! All that can be found, M01 to M36: names, severities and advice.

use super::severity::Severity;

/// Which finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Id {
    /// A server that is to take mutual TLS only answered plaintext.
    M01,
    /// A client keeps sending plaintext to a server that takes mutual TLS only, and is refused.
    M02,
    /// Whether a server that takes plaintext too could take mutual TLS only.
    M03,
    /// TLS that is none of the mesh reaches a port of the mesh.
    M04,
    /// What clients are told to send contradicts what the server takes.
    M05,
    /// A client's proxy sends plaintext where mutual TLS was to be expected.
    M06,
    /// A pod of the mesh talks past its own proxy.
    M07,
    /// A pod of the mesh is reached past its proxy.
    M08,
    /// A pod is declared to be in the mesh, and has no proxy.
    M09,
    /// Two pods of the ambient mesh talk without its tunnel.
    M10,
    /// Traffic to a Service that has a waypoint goes past it.
    M11,
    /// Policy for requests is declared in ambient mode where no waypoint enforces it.
    M12,
    /// Backends do not get the shares that are declared.
    M13,
    /// Traffic reaches a backend that no rule leads to.
    M14,
    /// No request ever matches a rule.
    M15,
    /// Requests that a rule is meant for match an earlier one.
    M16,
    /// Requests match no rule of the routes of their host, and are refused.
    M17,
    /// Routes are declared, and the traffic is not routed by them.
    M18,
    /// Copies of requests are not made as declared.
    M19,
    /// Retries multiply the load of a server.
    M20,
    /// Requests take longer than is declared, or clients give up before.
    M21,
    /// Requests fail or wait because faults are injected.
    M22,
    /// A client's proxy sends nothing to one of the pods of a server, as after failures.
    M23,
    /// A client's proxy refuses requests because its limit is reached.
    M24,
    /// Requests are let pass, or refused, against what policy says.
    M25,
    /// Policy allows callers or requests that never come.
    M26,
    /// Policy tells callers apart by identity, and they come without one.
    M27,
    /// A pod reaches a host outside that is not declared, or is refused.
    M28,
    /// A port does not speak what it is declared to speak.
    M29,
    /// A rule of a NetworkPolicy for a port does not hold, because the mesh carries the traffic to another.
    M30,
    /// A client asked for another server than the one that answered it.
    M31,
    /// A connection uses a version or a cipher of TLS that is weak, or below what is declared.
    M32,
    /// A proxy behaves as before a change of policy, when others follow it.
    M33,
    /// Two proxies carry the traffic of one pod.
    M34,
    /// A limit of rate is never reached, or always.
    M35,
    /// An object declares something that is never used, or lacks something that is.
    M36,
}

/// What is known of a finding before it is found.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Which.
    pub id: Id,
    /// `M01` to `M36`.
    pub code: &'static str,
    /// Its name in JSON and labels.
    pub name: &'static str,
    /// How bad it is, unless it is said otherwise with the finding.
    pub severity: Severity,
    /// What it is, in one sentence.
    pub title: &'static str,
    /// What to do.
    pub advice: &'static str,
    /// Codes of Kiali and `istioctl analyze` that are about the same.
    pub see: &'static [&'static str],
}

/// All, by [`Id`].
static CATALOGUE: [Entry; 36] = [
    Entry {
        id: Id::M01,
        code: "M01",
        name: "plaintext_accepted_under_strict",
        severity: Severity::Critical,
        title: "A server that is to take mutual TLS only answered plaintext.",
        advice: "Find why the proxy does not enforce the mode at this port: a policy for the port, a port that is kept from the proxy, or a proxy that did not get the policy.",
        see: &["KIA0501"],
    },
    Entry {
        id: Id::M02,
        code: "M02",
        name: "plaintext_refused",
        severity: Severity::High,
        title: "A client keeps sending plaintext to a server that takes mutual TLS only, and is refused.",
        advice: "Bring the client into the mesh, or let the server take plaintext at this port.",
        see: &["KIA0501"],
    },
    Entry {
        id: Id::M03,
        code: "M03",
        name: "strict_readiness",
        severity: Severity::Info,
        title: "Whether a server that takes plaintext too could take mutual TLS only.",
        advice: "When it is ready, set mutual TLS to strict; when it is not, bring the clients that are listed into the mesh first.",
        see: &["KIA0505"],
    },
    Entry {
        id: Id::M04,
        code: "M04",
        name: "foreign_tls_into_mesh",
        severity: Severity::Medium,
        title: "TLS that is none of the mesh reaches a port of the mesh.",
        advice: "Let the proxies encrypt: the client should send plaintext to its own proxy. If the TLS is meant, declare the port so.",
        see: &["IST0118"],
    },
    Entry {
        id: Id::M05,
        code: "M05",
        name: "client_policy_contradicts_server",
        severity: Severity::High,
        title: "What clients are told to send contradicts what the server takes.",
        advice: "Make the client's rule and the server's policy agree: remove the TLS mode of the rule, or change the policy.",
        see: &["KIA0207", "KIA0208", "KIA0206"],
    },
    Entry {
        id: Id::M06,
        code: "M06",
        name: "silent_plaintext_fallback",
        severity: Severity::High,
        title: "A client's proxy sends plaintext where mutual TLS was to be expected.",
        advice: "Bring the server into the mesh: restart its pods so that they get a proxy, or find why the proxy takes it for one outside.",
        see: &["IST0103", "KIA1301"],
    },
    Entry {
        id: Id::M07,
        code: "M07",
        name: "outbound_bypass",
        severity: Severity::High,
        title: "A pod of the mesh talks past its own proxy.",
        advice: "Find what keeps the traffic from the proxy: excluded ports or addresses, the proxy's user id, or a process that starts before it.",
        see: &["IST0144"],
    },
    Entry {
        id: Id::M08,
        code: "M08",
        name: "inbound_bypass",
        severity: Severity::High,
        title: "A pod of the mesh is reached past its proxy.",
        advice: "Find what keeps the traffic from the proxy: excluded ports or interfaces, a host port, or a listener that is not captured.",
        see: &["IST0143"],
    },
    Entry {
        id: Id::M09,
        code: "M09",
        name: "declared_but_not_captured",
        severity: Severity::High,
        title: "A pod is declared to be in the mesh, and has no proxy.",
        advice: "Restart the pod; if that does not help, look at the injector, or at the node's agent of the mesh.",
        see: &["IST0102", "IST0103"],
    },
    Entry {
        id: Id::M10,
        code: "M10",
        name: "ambient_leak",
        severity: Severity::High,
        title: "Two pods of the ambient mesh talk without its tunnel.",
        advice: "Look at the node's agent and proxy: the pod may not be captured, or bypasses it by an annotation.",
        see: &[],
    },
    Entry {
        id: Id::M11,
        code: "M11",
        name: "waypoint_bypass",
        severity: Severity::High,
        title: "Traffic to a Service that has a waypoint goes past it.",
        advice: "Look whether the waypoint is there and ready, and whether the client is one that uses waypoints.",
        see: &["KIA1312", "KIA1314"],
    },
    Entry {
        id: Id::M12,
        code: "M12",
        name: "policy_without_waypoint",
        severity: Severity::High,
        title: "Policy for requests is declared in ambient mode where no waypoint enforces it.",
        advice: "Deploy a waypoint and let the Service use it, or attach the policy to the one that is there.",
        see: &["KIA0109", "KIA0110", "KIA0210"],
    },
    Entry {
        id: Id::M13,
        code: "M13",
        name: "weight_drift",
        severity: Severity::Medium,
        title: "Backends do not get the shares that are declared.",
        advice: "Look for what overrides the shares: another rule that matches first, session affinity, retries, or a proxy without the newest routes.",
        see: &["KIA1104"],
    },
    Entry {
        id: Id::M14,
        code: "M14",
        name: "undeclared_destination",
        severity: Severity::Medium,
        title: "Traffic reaches a backend that no rule leads to.",
        advice: "Find who dials the backend directly; or remove it, if the rules are meant to be whole.",
        see: &["IST0174"],
    },
    Entry {
        id: Id::M15,
        code: "M15",
        name: "dead_rule",
        severity: Severity::Low,
        title: "No request ever matches a rule.",
        advice: "Remove the rule, or mend its match.",
        see: &["IST0131"],
    },
    Entry {
        id: Id::M16,
        code: "M16",
        name: "shadowed_rule",
        severity: Severity::Medium,
        title: "Requests that a rule is meant for match an earlier one.",
        advice: "Move the rule before the one that shadows it, or narrow that.",
        see: &["IST0130"],
    },
    Entry {
        id: Id::M17,
        code: "M17",
        name: "unmatched_traffic",
        severity: Severity::Medium,
        title: "Requests match no rule of the routes of their host, and are refused.",
        advice: "Add a rule without a match at the end, or mend the matches.",
        see: &["IST0130"],
    },
    Entry {
        id: Id::M18,
        code: "M18",
        name: "routing_policy_not_applied",
        severity: Severity::Medium,
        title: "Routes are declared, and the traffic is not routed by them.",
        advice: "Let the client have a proxy, and dial the host that the routes name rather than a pod.",
        see: &["IST0132", "KIA1102"],
    },
    Entry {
        id: Id::M19,
        code: "M19",
        name: "mirror_drift",
        severity: Severity::Low,
        title: "Copies of requests are not made as declared.",
        advice: "Look whether the mirror's backend exists and is ready.",
        see: &[],
    },
    Entry {
        id: Id::M20,
        code: "M20",
        name: "retry_amplification",
        severity: Severity::High,
        title: "Retries multiply the load of a server.",
        advice: "Lower the attempts, add a budget, and retry only what may be repeated.",
        see: &[],
    },
    Entry {
        id: Id::M21,
        code: "M21",
        name: "timeout_mismatch",
        severity: Severity::Medium,
        title: "Requests take longer than is declared, or clients give up before.",
        advice: "Make the limit of the route agree with what clients wait, and the attempts with the limit.",
        see: &[],
    },
    Entry {
        id: Id::M22,
        code: "M22",
        name: "fault_left_on",
        severity: Severity::Medium,
        title: "Requests fail or wait because faults are injected.",
        advice: "Remove the fault from the rule, if the test is over.",
        see: &[],
    },
    Entry {
        id: Id::M23,
        code: "M23",
        name: "endpoint_ejected",
        severity: Severity::Info,
        title: "A client's proxy sends nothing to one of the pods of a server, as after failures.",
        advice: "Look at that pod; if it is well, at the limits of outlier detection.",
        see: &[],
    },
    Entry {
        id: Id::M24,
        code: "M24",
        name: "circuit_breaker_overflow",
        severity: Severity::Medium,
        title: "A client's proxy refuses requests because its limit is reached.",
        advice: "Raise the limits of the connection pool, or find why the server is slow.",
        see: &[],
    },
    Entry {
        id: Id::M25,
        code: "M25",
        name: "authorization_drift",
        severity: Severity::Critical,
        title: "Requests are let pass, or refused, against what policy says.",
        advice: "Look whether the proxy of the server got the policy, and whether the policy selects it.",
        see: &["IST0166", "IST0167", "KIA0105"],
    },
    Entry {
        id: Id::M26,
        code: "M26",
        name: "authorization_unused",
        severity: Severity::Low,
        title: "Policy allows callers or requests that never come.",
        advice: "Narrow the policy to what is used.",
        see: &[],
    },
    Entry {
        id: Id::M27,
        code: "M27",
        name: "identity_policy_on_plaintext",
        severity: Severity::Critical,
        title: "Policy tells callers apart by identity, and they come without one.",
        advice: "Let the server take mutual TLS only: without an identity, rules that refuse identities refuse nobody.",
        see: &["KIA0105"],
    },
    Entry {
        id: Id::M28,
        code: "M28",
        name: "undeclared_egress",
        severity: Severity::High,
        title: "A pod reaches a host outside that is not declared, or is refused.",
        advice: "Declare the host, or find out why it is called.",
        see: &["KIA1004"],
    },
    Entry {
        id: Id::M29,
        code: "M29",
        name: "protocol_mismatch",
        severity: Severity::Medium,
        title: "A port does not speak what it is declared to speak.",
        advice: "Name the port, or declare its protocol, after what it speaks.",
        see: &["IST0118", "KIA0601"],
    },
    Entry {
        id: Id::M30,
        code: "M30",
        name: "network_policy_voided",
        severity: Severity::High,
        title: "A rule of a NetworkPolicy for a port does not hold, because the mesh carries the traffic to another.",
        advice: "Use the mesh's own authorization for ports: a NetworkPolicy sees only the port of the tunnel.",
        see: &[],
    },
    Entry {
        id: Id::M31,
        code: "M31",
        name: "identity_mismatch",
        severity: Severity::High,
        title: "A client asked for another server than the one that answered it.",
        advice: "Look for stale endpoints; if there are none, for somebody in between.",
        see: &[],
    },
    Entry {
        id: Id::M32,
        code: "M32",
        name: "weak_tls",
        severity: Severity::Medium,
        title: "A connection uses a version or a cipher of TLS that is weak, or below what is declared.",
        advice: "Raise the lowest version, or limit the ciphers, at the end that chose it.",
        see: &["IST0128"],
    },
    Entry {
        id: Id::M33,
        code: "M33",
        name: "stale_proxy",
        severity: Severity::Medium,
        title: "A proxy behaves as before a change of policy, when others follow it.",
        advice: "Look at the proxy's connection with its control plane; restart the pod if it has none.",
        see: &[],
    },
    Entry {
        id: Id::M34,
        code: "M34",
        name: "mode_conflict",
        severity: Severity::Medium,
        title: "Two proxies carry the traffic of one pod.",
        advice: "Let one mesh, in one mode, have the pod.",
        see: &["KIA1316", "KIA1317"],
    },
    Entry {
        id: Id::M35,
        code: "M35",
        name: "rate_limit_mismatch",
        severity: Severity::Low,
        title: "A limit of rate is never reached, or always.",
        advice: "Mind that the limit is of each pod, not of all; choose it after what is seen.",
        see: &[],
    },
    Entry {
        id: Id::M36,
        code: "M36",
        name: "unused_configuration",
        severity: Severity::Low,
        title: "An object declares something that is never used, or lacks something that is.",
        advice: "Trim the object, or add what is used.",
        see: &["IST0173", "IST0174", "KIA0203"],
    },
];

// === impl Id ===

impl Id {
    /// All.
    pub const ALL: [Self; 36] = [
        Self::M01,
        Self::M02,
        Self::M03,
        Self::M04,
        Self::M05,
        Self::M06,
        Self::M07,
        Self::M08,
        Self::M09,
        Self::M10,
        Self::M11,
        Self::M12,
        Self::M13,
        Self::M14,
        Self::M15,
        Self::M16,
        Self::M17,
        Self::M18,
        Self::M19,
        Self::M20,
        Self::M21,
        Self::M22,
        Self::M23,
        Self::M24,
        Self::M25,
        Self::M26,
        Self::M27,
        Self::M28,
        Self::M29,
        Self::M30,
        Self::M31,
        Self::M32,
        Self::M33,
        Self::M34,
        Self::M35,
        Self::M36,
    ];

    /// What is known of it.
    pub fn entry(self) -> &'static Entry {
        // There is one for each: a test holds them together.
        CATALOGUE.get(self as usize).unwrap_or(&CATALOGUE[0])
    }

    /// By its code.
    pub fn of(code: &str) -> Option<Self> {
        let entry = CATALOGUE.iter().find(|entry| entry.code == code)?;
        Some(entry.id)
    }
}
