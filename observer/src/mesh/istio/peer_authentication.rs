//! What servers take: PeerAuthentication, from the whole mesh down to a port.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{
    Istio, read,
    store::{Choosing, Declared, Labels, Meta, SelectorSpec},
};
use crate::{
    mesh::{
        decision::{Accepts, Decision, Reason},
        policy::Misunderstood,
    },
    model::{kubernetes::Pod, mesh::Plane, policy::PolicyObject},
};

/// A PeerAuthentication.
#[derive(Debug)]
pub(super) struct PeerAuthentication {
    meta: Meta,
    selector: Labels,
    mode: Mode,
    ports: BTreeMap<u16, Mode>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "Box<str>")]
pub(super) enum Mode {
    /// That of the scope around it.
    #[default]
    Unset,
    Disable,
    Permissive,
    Strict,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    selector: SelectorSpec,
    mtls: Mtls,
    port_level_mtls: BTreeMap<u16, Mtls>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Mtls {
    mode: Mode,
}

// === impl PeerAuthentication ===

impl PeerAuthentication {
    pub(super) fn read(object: &PolicyObject) -> Result<Self, Misunderstood> {
        let spec: Spec = read::spec(object)?;
        Ok(Self {
            meta: Meta::of(object),
            selector: spec.selector.match_labels,
            mode: spec.mtls.mode,
            ports: spec
                .port_level_mtls
                .into_iter()
                .map(|(port, mtls)| (port, mtls.mode))
                .collect(),
        })
    }

    fn reason(&self, mode: Mode, of: &'static str) -> Reason {
        Reason::of(
            self.meta.reference.clone(),
            format!("mode {} {of}", mode.as_str()),
        )
    }
}

impl Declared for PeerAuthentication {
    fn meta(&self) -> &Meta {
        &self.meta
    }
}

impl Choosing for PeerAuthentication {
    fn selector(&self) -> &Labels {
        &self.selector
    }
}

// === impl Mode ===

impl From<Box<str>> for Mode {
    fn from(text: Box<str>) -> Self {
        match &*text {
            "DISABLE" => Self::Disable,
            "PERMISSIVE" => Self::Permissive,
            "STRICT" => Self::Strict,
            _ => Self::Unset,
        }
    }
}

impl Mode {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Unset => "UNSET",
            Self::Disable => "DISABLE",
            Self::Permissive => "PERMISSIVE",
            Self::Strict => "STRICT",
        }
    }
}

// === impl Istio ===

impl Istio {
    /// See [`crate::mesh::policy::Policies::accepts`]. `port` is the container's.
    pub fn accepts(
        &self,
        _context: &crate::mesh::policy::Context,
        server: &Pod,
        port: u16,
    ) -> Decision<Accepts> {
        let plane = self.plane(server);
        if plane == Plane::None {
            return Decision {
                value: Accepts::NoMesh,
                because: Vec::new(),
            };
        }
        let captured = self.captures_inbound(server, port);
        if !captured.value {
            return Decision {
                value: Accepts::Plaintext,
                because: captured.because,
            };
        }
        let Decision {
            value: mode,
            mut because,
        } = self.mode(server, port);
        let value = match (mode, plane) {
            (Mode::Strict, _) => Accepts::Mutual,
            (Mode::Disable, Plane::IstioAmbient) => {
                because.push(Reason::plain(
                    "ambient mode has no DISABLE: it only takes plaintext too",
                ));
                Accepts::Both
            }
            (Mode::Disable, _) => Accepts::Plaintext,
            (Mode::Permissive | Mode::Unset, _) => Accepts::Both,
        };
        Decision { value, because }
    }

    /// The narrowest scope that says something wins; in one scope, its oldest object.
    pub(super) fn mode(&self, server: &Pod, port: u16) -> Decision<Mode> {
        let root = &*self.mesh_config().root_namespace;
        // Also in the root namespace, where those with a selector are ignored.
        let of_mesh = self.peer_authentications.general(root).first();
        let own = (*server.namespace != *root).then_some(&*server.namespace);
        let of_namespace = own.and_then(|own| self.peer_authentications.general(own).first());
        let choosing = own.map(|own| self.peer_authentications.choosing(own, &server.traits));
        let of_workload = choosing.and_then(|choosing| choosing.first().copied());

        if let Some(object) = of_workload
            && let Some(mode) = object.ports.get(&port)
            && *mode != Mode::Unset
        {
            return Decision::by(*mode, object.reason(*mode, "for the port"));
        }
        let scopes = [
            (of_workload, "for the workload"),
            (of_namespace, "for the namespace"),
            (of_mesh, "for the mesh"),
        ];
        let decided = scopes
            .into_iter()
            .filter_map(|(object, of)| Some((object?, of)))
            .find(|(object, _)| object.mode != Mode::Unset);
        match decided {
            Some((object, of)) => Decision::by(object.mode, object.reason(object.mode, of)),
            None => Decision::by(Mode::Permissive, Reason::plain("PERMISSIVE is the default")),
        }
    }
}

#[cfg(test)]
mod tests;
