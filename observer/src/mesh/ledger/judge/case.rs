//! An edge with all that it is judged by, and what checks ask of it.

use crate::{
    mesh::{
        decision::{Accepts, Reason, Sends},
        findings::{Saying, Severity},
        ledger::{
            edge::{Declared, Edge, Surroundings},
            marks,
            parties::{Known, Ports},
        },
        policy::Policies,
        report::Party,
    },
    model::{kubernetes::Pod, mesh::Plane},
};

/// An edge with all that it is judged by.
pub(in crate::mesh::ledger) struct Case<'a> {
    pub(in crate::mesh::ledger) edge: &'a Edge,
    pub(in crate::mesh::ledger) told: &'a Declared,
    pub(in crate::mesh::ledger) client: &'a Known,
    pub(in crate::mesh::ledger) server: &'a Known,
    /// The Service that was dialled.
    pub(in crate::mesh::ledger) service: Option<&'a Party>,
    pub(in crate::mesh::ledger) around: &'a Surroundings,
    pub(in crate::mesh::ledger) policies: &'a Policies,
}

// === impl Case ===

impl<'a> Case<'a> {
    pub(super) fn is_strict(&self) -> bool {
        self.told.accepts.value == Accepts::Mutual
    }

    /// Whether it is known which port it is, or what all ports of the server take.
    pub(super) fn is_port_told(&self) -> bool {
        self.edge.key.port != 0 || self.server.ports != Ports::None
    }

    pub(super) fn server_pod(&self) -> Option<&'a Pod> {
        self.server.pod.as_deref()
    }

    pub(super) fn client(&self) -> String {
        self.client.party.describe()
    }

    pub(super) fn server(&self) -> String {
        self.server.party.describe()
    }

    pub(super) fn at_port(&self) -> String {
        match self.edge.key.port {
            0 => String::new(),
            port => format!(" at port {port}"),
        }
    }

    pub(super) fn saying(&self, summary: String) -> Saying {
        Saying {
            summary,
            ..Saying::default()
        }
    }

    /// With what the server's policy says.
    pub(super) fn accepted(&self, summary: String) -> Saying {
        Saying {
            because: self.told.accepts.because.clone(),
            ..self.saying(summary)
        }
    }

    /// With what both policies say.
    pub(super) fn both(&self, summary: String) -> Saying {
        let mut saying = self.accepted(summary);
        saying
            .because
            .extend(self.told.sends.because.iter().cloned());
        saying
    }

    /// Whether the server's annotations keep the port from its proxy.
    pub(super) fn excluded_inbound(&self) -> bool {
        let excluded = |pod| {
            let port = self.edge.key.port;
            marks::is_excluded_inbound(self.policies, pod, self.server.plane, port)
        };
        self.server_pod().is_some_and(excluded)
    }

    /// Whether the client's annotations keep the destination from its proxy.
    pub(super) fn excluded_outbound(&self) -> bool {
        let ports = [self.edge.key.port, self.edge.dialled_port];
        let excluded = |pod| {
            let (plane, address) = (self.client.plane, self.edge.server_address);
            marks::is_excluded_outbound(self.policies, pod, plane, ports, address)
        };
        self.client.pod.as_deref().is_some_and(excluded)
    }

    /// What declares a party's pods to be in the mesh, though they have no proxy.
    pub(super) fn lost(&self, known: &Known) -> Option<Vec<Reason>> {
        let pod = known.pod.as_deref()?;
        (known.plane == Plane::None)
            .then(|| marks::declared_in_mesh(self.policies, pod))
            .flatten()
    }

    pub(super) fn missing(&self, known: &Known) -> Saying {
        Saying {
            because: self.lost(known).unwrap_or_default(),
            ..self.saying(format!(
                "{} is to be in the mesh, and has no proxy",
                known.party.describe()
            ))
        }
    }

    pub(super) fn conflict(&self, known: &Known) -> Saying {
        let what = known.pod.as_deref().and_then(marks::conflict);
        self.saying(format!(
            "pods of {} have {}",
            known.party.describe(),
            what.unwrap_or("two proxies")
        ))
    }

    /// A rule of the client's mesh says what to send.
    pub(super) fn is_told(&self) -> bool {
        let mut because = self.told.sends.because.iter();
        because.any(|reason| {
            let object = reason.object.as_ref();
            object.is_some_and(|object| &*object.kind == "DestinationRule")
        })
    }

    pub(super) fn contradicts_server(&self) -> bool {
        let sends = matches!(self.told.sends.value, Sends::Plaintext | Sends::Tls);
        self.is_strict() && sends && self.is_told()
    }

    pub(super) fn contradicts_client(&self) -> bool {
        self.told.accepts.value == Accepts::Plaintext
            && self.told.sends.value == Sends::Mutual
            && self.is_told()
    }

    /// The port is declared to speak TLS.
    pub(super) fn is_declared_tls(&self) -> bool {
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
                    let of_tls =
                        |name: &str| matches!(name.split('-').next(), Some("https" | "tls"));
                    of_tls(&port.name) || of_tls(&port.app_protocol)
                })
        })
    }

    pub(super) fn is_headless(&self) -> bool {
        let facts = self.service.and_then(|service| {
            let context = self.policies.context();
            context.service(&service.namespace, &service.name)
        });
        facts.is_some_and(|facts| facts.headless)
    }

    pub(super) fn past_waypoint(&self) -> Saying {
        let Some(waypoint) = &self.around.waypoint else {
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
        saying.because.push(waypoint.because.clone());
        saying.because.push(Reason::plain(state));
        if let Some(object) = &self.around.enforced {
            let skipped = Reason::of(object.clone(), "is for the waypoint, and is passed over");
            saying.because.push(skipped);
            saying.severity = Some(Severity::Critical);
        }
        saying
    }
}
