//! `EgressNetwork`s: what may be reached outside of the cluster.

use std::{net::IpAddr, sync::Arc};

use super::{
    Linkerd,
    client::in_cluster_networks,
    content::{EgressNetworkSpec, NetworkContent},
    server::skips_outbound,
};
use crate::{
    mesh::{
        decision::{Certainty, Decision, Destination, Egress, Reason, Request},
        gateway::{
            Gateways,
            choose::{Attached, Dialect, candidates},
            route::ParentKind,
        },
        policy::Misunderstood,
        shelf::Shelf,
    },
    model::{
        kubernetes::Pod,
        policy::{ObjectRef, PolicyObject},
    },
};

/// Namespace of those that are for all clients, where the installation says nothing else.
const GLOBAL: &str = "linkerd-egress";

/// An `EgressNetwork`.
#[derive(Debug)]
pub(super) struct EgressNetwork {
    object: ObjectRef,
    created: u64,
    /// `None` for all that is not in the cluster.
    networks: Option<Vec<NetworkContent>>,
    allows: bool,
}

/// All `EgressNetwork`s, by namespace.
#[derive(Debug, Default)]
pub(super) struct EgressNetworks {
    shelf: Shelf<Box<str>, EgressNetwork>,
}

// === impl EgressNetwork ===

impl EgressNetwork {
    pub(super) fn read(
        object: &PolicyObject,
        spec: EgressNetworkSpec,
    ) -> Result<Self, Misunderstood> {
        let allows = match &*spec.traffic_policy {
            "Allow" => true,
            "Deny" => false,
            other => return Err(format!("spec.trafficPolicy: `{other}` is no policy")),
        };
        Ok(Self {
            object: object.reference(),
            created: match object.created {
                0 => u64::MAX,
                created => created,
            },
            networks: spec.networks,
            allows,
        })
    }

    /// Length of the longest prefix that has an address; `None` when none has. An address that is not
    /// known is in those of all.
    fn fit(&self, address: Option<IpAddr>) -> Option<u8> {
        match (&self.networks, address) {
            // The installation may say otherwise.
            (None, Some(address)) if in_cluster_networks(address) => None,
            (None, _) => Some(0),
            (Some(networks), Some(address)) => {
                let fitting = networks.iter().filter(|it| it.contains(address));
                fitting.map(|it| it.cidr.prefix()).max()
            }
            (Some(_), None) => None,
        }
    }
}

// === impl EgressNetworks ===

impl EgressNetworks {
    pub(super) fn insert(&mut self, uid: &str, it: &Arc<EgressNetwork>) {
        self.shelf
            .insert(it.object.namespace.clone(), uid, it.clone());
    }

    pub(super) fn remove(&mut self, uid: &str, it: &EgressNetwork) {
        self.shelf.remove(&*it.object.namespace, uid);
    }

    /// Those of the client's namespace, or, where it has none, those of all clients.
    fn of(&self, namespace: &str) -> Vec<&Arc<EgressNetwork>> {
        let own: Vec<_> = self.shelf.get(namespace).collect();
        if own.is_empty() {
            self.shelf.get(GLOBAL).collect()
        } else {
            own
        }
    }
}

// === impl Linkerd ===

impl Linkerd {
    /// Whether a pod may reach what is outside.
    pub(super) fn reaches(
        &self,
        gateways: &Gateways,
        client: &Pod,
        to: &Destination<'_>,
    ) -> Decision<Egress> {
        let decided = |value, text: &'static str| Decision::by(value, Reason::plain(text));
        if to.pod.is_some() || to.service.is_some() {
            return decided(Egress::Open, "it is in the cluster");
        }
        if skips_outbound(client, to.port) {
            let text = "the client's skip-outbound-ports have the port: it bypasses the proxy";
            return decided(Egress::Open, text);
        }
        let networks = self.egress.of(&client.namespace);
        // The most specific, then the oldest, then by name.
        let best = networks
            .iter()
            .filter_map(|it| Some((it, it.fit(to.address)?)))
            .min_by_key(|(it, prefix)| (u8::MAX - prefix, it.created, &it.object));
        let unsure = to.address.is_none() && networks.iter().any(|it| it.networks.is_some());
        if unsure {
            let why = "the address is not known, and EgressNetworks name networks";
            return decided(Egress::Unknown(why.into()), why);
        }
        let Some((network, _)) = best else {
            return decided(
                Egress::Open,
                "no EgressNetwork that applies to the client has it",
            );
        };
        let object = &network.object;
        if network.allows {
            let reason = Reason::of(object.clone(), "trafficPolicy Allow");
            return Decision::by(Egress::Declared, reason);
        }
        let dialect = &Dialect::LINKERD;
        let (namespace, name) = (&*object.namespace, &*object.name);
        let at = |routes| {
            crate::mesh::gateway::choose::Routes::at(
                routes,
                ParentKind::EgressNetwork,
                namespace,
                name,
                dialect,
            )
        };
        let routes: Vec<Attached<'_>> = at(gateways.routes())
            .chain(at(&self.routes))
            .filter(|it| it.parent.port.is_none_or(|port| port == to.port))
            .collect();
        let found = candidates(&routes, to, &Request::default(), true, dialect.patterns);
        let denied = Reason::of(object.clone(), "trafficPolicy Deny");
        let Some(first) = found.first() else {
            return Decision::by(Egress::Closed, denied);
        };
        let sure = found.iter().find(|it| it.certainty == Certainty::Yes);
        let text = "a route of it leads there";
        match sure {
            Some(route) => Decision {
                value: Egress::Declared,
                because: vec![Reason::of(route.route.object.clone(), text), denied],
            },
            None => Decision {
                value: Egress::Unknown(
                    "only some requests may go there, by routes of the EgressNetwork".into(),
                ),
                because: vec![
                    Reason::of(first.route.object.clone(), "a route of it may lead there"),
                    denied,
                ],
            },
        }
    }
}
