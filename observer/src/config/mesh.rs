//! Cooperation with a service mesh: what is read of what it is told, and what is made of it.

use std::time::Duration;

use super::Switch;

/// Cooperation with a service mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mesh {
    /// Whether what is declared is read, and judged; `auto` is on where the cluster is asked.
    pub enabled: Switch,
    /// Whose declarations are read.
    pub parts: MeshParts,
    /// Namespace of Istio's control plane: its configuration is read there, and its policies hold
    /// for all of the mesh.
    pub istio_namespace: String,
    /// The control plane has revisions, whose configurations are read too: all ConfigMaps of its
    /// namespace are looked at, rather than one.
    pub istio_revisions: bool,
    /// What becomes of the hops between an application and its own proxy.
    pub hops: MeshHops,
    /// Connections, or requests, below which nothing is judged.
    pub minimum: u32,
    /// How long nothing is judged after something that has to do with it changed.
    pub settle: Duration,
    /// How long a finding stays that nothing shows any more and nothing speaks against.
    pub window: Duration,
    /// For how long there must have been no plaintext before it may be forbidden.
    pub readiness_window: Duration,
    /// How long something must not be used to be called unused.
    pub unused_after: Duration,
    /// Most edges that are remembered.
    pub edges: u32,
    /// Series as the meshes' own proxies have them.
    pub series: MeshSeries,
    /// Findings are told as Events of the cluster, by whoever reads what is declared.
    pub events: bool,
}

/// Whose declarations are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MeshParts {
    /// Istio's.
    pub istio: bool,
    /// Linkerd's.
    pub linkerd: bool,
    /// Those of the Gateway API.
    pub gateway_api: bool,
    /// NetworkPolicies.
    pub network_policy: bool,
}

/// What becomes of the hops between an application and its own proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MeshHops {
    /// A call through proxies is told once at each end.
    #[default]
    Fold,
    /// Every hop is told.
    All,
}

/// Series as the meshes' own proxies have them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MeshSeries {
    /// `istio_requests_total` and its family.
    pub istio: IstioSeries,
    /// `response_total` and its family.
    pub linkerd: bool,
}

/// Which of Istio's series there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IstioSeries {
    /// None.
    #[default]
    Off,
    /// Those that no proxy of the mesh has.
    Gaps,
    /// All, for where the proxies' own are turned off.
    All,
}

// === impl Mesh ===

impl Default for Mesh {
    fn default() -> Self {
        Self {
            enabled: Switch::Auto,
            parts: MeshParts::default(),
            istio_namespace: "istio-system".to_owned(),
            istio_revisions: false,
            hops: MeshHops::Fold,
            minimum: 20,
            settle: Duration::from_secs(60),
            window: Duration::from_secs(24 * 3600),
            readiness_window: Duration::from_secs(7 * 24 * 3600),
            unused_after: Duration::from_secs(24 * 3600),
            edges: 8_192,
            series: MeshSeries::default(),
            events: false,
        }
    }
}

impl Mesh {
    /// Whether it is on, by whether the cluster is asked: without it nothing is known to be
    /// declared.
    pub fn is_on(&self, kubernetes: bool) -> bool {
        match self.enabled {
            Switch::On => true,
            Switch::Off => false,
            Switch::Auto => kubernetes,
        }
    }
}

// === impl MeshParts ===

impl Default for MeshParts {
    fn default() -> Self {
        Self {
            istio: true,
            linkerd: true,
            gateway_api: true,
            network_policy: true,
        }
    }
}

// === impl MeshHops ===

impl MeshHops {
    /// All values.
    pub const ALL: [Self; 2] = [Self::Fold, Self::All];

    /// Name in the file and in the environment.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fold => "fold",
            Self::All => "all",
        }
    }
}

// === impl IstioSeries ===

impl IstioSeries {
    /// All values.
    pub const ALL: [Self; 3] = [Self::Off, Self::Gaps, Self::All];

    /// Name in the file and in the environment.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Gaps => "gaps",
            Self::All => "all",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_on_where_the_cluster_is_asked() {
        for (enabled, kubernetes, expected) in [
            (Switch::Auto, true, true),
            (Switch::Auto, false, false),
            (Switch::On, false, true),
            (Switch::Off, true, false),
        ] {
            let mesh = Mesh {
                enabled,
                ..Mesh::default()
            };
            assert_eq!(mesh.is_on(kubernetes), expected, "{enabled:?} {kubernetes}");
        }
    }
}
