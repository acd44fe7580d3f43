//! What a client's proxy sends: what DestinationRules say, and otherwise what the server can take.

use super::{
    Istio,
    destination_rule::{Applying, TlsMode},
    names::{has_port, resolve, service_host, service_of},
    peer_authentication::Mode,
    plane::{TLS_MODE, TUNNEL, has_sidecar, is_redirected},
};
use crate::{
    mesh::{
        decision::{Decision, Destination, Reason, Sends},
        policy::Context,
    },
    model::{kubernetes::Pod, mesh::Plane, policy::ServiceFacts},
};

// === impl Istio ===

impl Istio {
    /// See [`crate::mesh::policy::Policies::sends`].
    pub fn sends(&self, context: &Context, client: &Pod, to: &Destination<'_>) -> Decision<Sends> {
        let captured = self.captures_outbound(client, to.address, to.port);
        if !captured.value {
            return Decision {
                value: Sends::NoProxy,
                because: captured.because,
            };
        }
        match self.plane(client) {
            Plane::IstioAmbient => self.node_sends(context, to),
            _ => self.sidecar_sends(context, client, to),
        }
    }

    /// Full name of what a client asks for, where the mesh knows it: by the name that it asks for, or
    /// else by the address that it dials.
    pub(super) fn target(
        &self,
        context: &Context,
        client: &str,
        to: &Destination<'_>,
    ) -> Option<String> {
        let named = resolve(context, client, to.authority);
        let known = |host: &String| {
            self.knows(context, client, host)
                && (to.service.is_some() || has_port(context, host, to.port))
        };
        named.filter(known).or_else(|| {
            let (namespace, name) = to.service?;
            Some(service_host(namespace, name))
        })
    }

    /// Whether a full name is a Service's, or a ServiceEntry's that a client may know of.
    pub(super) fn knows(&self, context: &Context, client: &str, host: &str) -> bool {
        service_of(host).is_some_and(|(namespace, name)| context.service(namespace, name).is_some())
            || self.service_entry_namespace(client, host).is_some()
    }

    fn sidecar_sends(
        &self,
        context: &Context,
        client: &Pod,
        to: &Destination<'_>,
    ) -> Decision<Sends> {
        let Some(host) = self.target(context, &client.namespace, to) else {
            return Decision::by(
                Sends::Plaintext,
                Reason::plain("the mesh knows no service of it: it is passed on as it is"),
            );
        };
        if let Some(unknown) = self.out_of_sight(context, client, &host) {
            return Decision::by(Sends::Plaintext, unknown);
        }
        let applying = self.destination_rules(&client.namespace, Some(&client.traits), &host);
        if let Some(applying) = &applying
            && let Some(decided) = by_rules(applying, to)
        {
            return decided;
        }
        self.automatic(context, client, to, &host)
    }

    /// Why the proxy of a client does not know a host, if it does not.
    pub(super) fn out_of_sight(
        &self,
        context: &Context,
        client: &Pod,
        host: &str,
    ) -> Option<Reason> {
        let namespace = service_of(host).map(|(namespace, _)| namespace);
        if let Some(namespace) = namespace
            && !self.mesh_config().discovers(context, namespace)
        {
            let text = format!("discoverySelectors leave out namespace {namespace}");
            return Some(self.mesh_config().reason(text));
        }
        let namespace =
            namespace.or_else(|| self.service_entry_namespace(&client.namespace, host))?;
        let sidecar = self.sidecar_of(client)?;
        (!sidecar.imports(&client.namespace, namespace, host)).then(|| {
            let text = format!("its egress hosts leave out {host}");
            Reason::of(sidecar.object.clone(), text)
        })
    }

    /// Where no DestinationRule says anything: by what the pod that serves can take.
    fn automatic(
        &self,
        context: &Context,
        client: &Pod,
        to: &Destination<'_>,
        host: &str,
    ) -> Decision<Sends> {
        let plain = |value, text| Decision::by(value, Reason::plain(text));
        if !self.mesh_config().auto_mtls {
            return Decision::by(
                Sends::Plaintext,
                self.mesh_config()
                    .reason("enableAutoMtls is off, and no DestinationRule says anything"),
            );
        }
        if let Some(entry) = self.service_entry(&client.namespace, host)
            && entry.external
        {
            return Decision::by(
                Sends::Plaintext,
                Reason::of(entry.object.clone(), "its location is MESH_EXTERNAL"),
            );
        }
        let service =
            service_of(host).and_then(|(namespace, name)| context.service(namespace, name));
        if let Some(service) = service {
            if !service.external_name.is_empty() {
                return plain(
                    Sends::Unknown("an ExternalName: where it leads is not followed".into()),
                    "the Service is the name of another",
                );
            }
            if service.headless {
                return plain(
                    Sends::Unknown(
                        "a headless Service: its pods are not told apart when it is encrypted"
                            .into(),
                    ),
                    "the Service has no cluster IP",
                );
            }
        }
        let Some(pod) = to.pod else {
            return plain(
                Sends::Unknown("which pod serves it is not known, and that decides".into()),
                "mutual TLS where the pod can",
            );
        };
        if pod.traits.label(TLS_MODE) == Some("istio") {
            let mode = self.mode(pod, container_port(service.map(|it| &**it), to));
            if mode.value == Mode::Disable {
                return Decision {
                    value: Sends::Plaintext,
                    because: mode.because,
                };
            }
            return plain(
                Sends::Mutual,
                "the pod's label security.istio.io/tlsMode: istio",
            );
        }
        if takes_hbone(pod) {
            return plain(Sends::Mutual, "the pod takes HBONE");
        }
        plain(
            Sends::Plaintext,
            "the pod has no label security.istio.io/tlsMode: istio",
        )
    }

    /// The node's proxy knows addresses, no names and no DestinationRules: it uses its tunnel where the
    /// other end has one.
    fn node_sends(&self, context: &Context, to: &Destination<'_>) -> Decision<Sends> {
        let service = to.service;
        if let Some(waypoint) = service.and_then(|service| self.service_waypoint(context, service))
        {
            return Decision::by(Sends::Mutual, waypoint.because);
        }
        match to.pod {
            Some(pod) if takes_hbone(pod) => {
                Decision::by(Sends::Mutual, Reason::plain("the pod takes HBONE"))
            }
            Some(_) => Decision::by(
                Sends::Plaintext,
                Reason::plain("the pod takes no HBONE: the node's proxy passes it on as it is"),
            ),
            None if service.is_some() => Decision::by(
                Sends::Unknown("which pod serves it is not known, and that decides".into()),
                Reason::plain("HBONE where the pod takes it"),
            ),
            None => Decision::by(
                Sends::Plaintext,
                Reason::plain("outside of the mesh: the node's proxy passes it on as it is"),
            ),
        }
    }
}

/// What DestinationRules say, if they say anything. Which subset a request goes to is not known here:
/// where subsets differ, it depends.
fn by_rules(applying: &Applying, to: &Destination<'_>) -> Option<Decision<Sends>> {
    let general = applying.policy("", to.port);
    let mode = general.value.tls.as_ref().map(|tls| tls.mode);
    for subset in applying.subsets_of(to.pod) {
        let of_subset = applying.policy(subset, to.port);
        if of_subset.value.tls.as_ref().map(|tls| tls.mode) != mode {
            let text = format!("subset {subset} has another tls.mode than the host");
            return Some(Decision {
                value: Sends::Unknown(text.into()),
                because: of_subset.because,
            });
        }
    }
    let mode = mode?;
    let value = match mode {
        TlsMode::Disable => Sends::Plaintext,
        TlsMode::Simple | TlsMode::Mutual => Sends::Tls,
        TlsMode::IstioMutual => Sends::Mutual,
    };
    let because = general.because.into_iter().map(|reason| Reason {
        text: format!("tls.mode {}", mode.as_str()).into(),
        ..reason
    });
    Some(Decision {
        value,
        because: because.collect(),
    })
}

/// Whether proxies that know HBONE use it to a pod.
fn takes_hbone(pod: &Pod) -> bool {
    pod.traits.label(TUNNEL) == Some("http") || (is_redirected(pod) && !has_sidecar(pod))
}

/// Port of the container: as seen, or as the Service says.
fn container_port(service: Option<&ServiceFacts>, to: &Destination<'_>) -> u16 {
    if to.pod_port != 0 {
        return to.pod_port;
    }
    let Some(service) = service else {
        return to.port;
    };
    let port = service.ports.iter().find(|port| port.port == to.port);
    let named = |name: &str| {
        let pod = to.pod?;
        let mut ports = pod.traits.ports.iter();
        ports
            .find(|(known, _)| **known == *name)
            .map(|(_, port)| *port)
    };
    match port {
        Some(port) if port.target != 0 => port.target,
        Some(port) => named(&port.target_name).unwrap_or(to.port),
        None => to.port,
    }
}

#[cfg(test)]
mod tests;
