//! Who: the service behind a socket.

use std::sync::Arc;

/// What runs a process, as its cgroup tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Runtime {
    /// Neither a container nor a service manager's unit.
    #[default]
    Host,
    /// A container.
    Container {
        /// Full id, 64 hexadecimal digits.
        id: Box<str>,
        /// `containerd`, `cri-o`, `docker`, `podman`, or `unknown`.
        engine: &'static str,
    },
    /// A systemd service or scope.
    Unit {
        /// Unit name with its suffix, `nginx.service`.
        name: Box<str>,
    },
}

/// Where a workload's service name comes from, strongest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum NameSource {
    /// A rule of the configuration.
    Configuration,
    /// `OTEL_SERVICE_NAME` or `OTEL_RESOURCE_ATTRIBUTES` of the process.
    Environment,
    /// The systemd unit.
    Unit,
    /// The program: executable, or the script that an interpreter runs.
    Program,
    /// The thread name; the process was gone before it could be looked at.
    Command,
    /// Nothing is known.
    #[default]
    Unknown,
}

/// One service of this host: all processes that share a name and a runtime.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Workload {
    /// `service.name`; `unknown` when nothing is known.
    pub service: Box<str>,
    /// `service.namespace`; empty when not set.
    pub namespace: Box<str>,
    /// `service.version`; empty when not set.
    pub version: Box<str>,
    /// Where `service` comes from.
    pub source: NameSource,
    /// What runs it.
    pub runtime: Runtime,
    /// Path of its cgroup below the cgroup v2 root, `/` for the root; empty when unknown.
    pub cgroup: Box<str>,
    /// Process id; 0 when unknown.
    pub pid: u32,
    /// Thread name of the process (`/proc/PID/comm`).
    pub command: Box<str>,
    /// Executable path; empty when unknown.
    pub executable: Box<str>,
}

/// The other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// A process of this host.
    Local(Arc<Workload>),
    /// An address outside this host that a lookup of DNS had led to.
    Named {
        /// The name that was asked for.
        name: Arc<str>,
        /// Its address.
        address: std::net::IpAddr,
    },
    /// An address outside this host, or one that nothing is known of.
    Address(std::net::IpAddr),
}

// === impl Peer ===

impl Peer {
    /// Service name of the peer, if it is a process of this host.
    pub fn service(&self) -> Option<&str> {
        match self {
            Self::Local(workload) => Some(&workload.service),
            Self::Named { .. } | Self::Address(_) => None,
        }
    }

    /// Service name of the peer, or else the name that DNS gave it.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Local(workload) => Some(&workload.service),
            Self::Named { name, .. } => Some(name),
            Self::Address(_) => None,
        }
    }

    /// Whether it is a process of this host.
    pub fn is_local(&self) -> bool {
        matches!(self, Self::Local(_))
    }
}
