//! Who tells: what every resource and message says of this host and of the observer.

use std::sync::Arc;

use crate::model::time::WallOffset;

/// This host, and the observer on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// `k8s.cluster.name`; empty when not set.
    pub cluster: Arc<str>,
    /// `host.name`; empty when not known.
    pub host_name: Arc<str>,
    /// `host.id`: the machine id (machine-id(5)); empty when not known.
    pub host_id: Arc<str>,
    /// `k8s.node.name`; empty outside of a cluster.
    pub node: Arc<str>,
    /// From the kernel's clock to time since the Unix epoch.
    pub offset: WallOffset,
    /// Version of the observer (`telemetry.sdk.version`, and of the scope).
    pub version: &'static str,
}
