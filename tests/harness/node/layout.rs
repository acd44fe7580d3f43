//! Where kubelets and container runtimes put the cgroups of pods.

/// Which driver a kubelet uses, and which runtime makes containers for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Slices of systemd, containerd.
    Containerd,
    /// Slices of systemd, CRI-O.
    Crio,
    /// Slices of systemd, Docker behind an adapter.
    Docker,
    /// Plain folders, containerd.
    Cgroupfs,
    /// Slices of systemd in a container that is the node, as kind makes it.
    Kind,
}

/// Quality of service, which the kubelet finds by a pod's requests and limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Quality {
    /// Requests are the limits.
    Guaranteed,
    /// Some requests.
    #[default]
    Burstable,
    /// None.
    BestEffort,
}

/// The container that a node of kind is.
const NODE_CONTAINER: &str =
    "system.slice/docker-77aa1e0fbd2c5d0c4a7bd7b9ac11f3ed6a0b4a8b0f31d8c2e0f9dd0a4a44c0de.scope";

// === impl Layout ===

impl Layout {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Containerd,
        Self::Crio,
        Self::Docker,
        Self::Cgroupfs,
        Self::Kind,
    ];

    /// Path of the kubelet's cgroup, below that of the node.
    pub fn kubelet(self) -> String {
        match self {
            Self::Kind => format!("{NODE_CONTAINER}/kubelet.slice/kubelet.service"),
            _ => "system.slice/kubelet.service".to_owned(),
        }
    }

    /// Path of the cgroup of pod `uid`, below that of the node.
    pub fn pod(self, quality: Quality, uid: &str) -> String {
        if self == Self::Cgroupfs {
            return match quality.name() {
                None => format!("kubepods/pod{uid}"),
                Some(name) => format!("kubepods/{name}/pod{uid}"),
            };
        }
        // Of a slice the name says all of those above: a dash in an uid would be one more.
        let uid = uid.replace('-', "_");
        let (root, above) = match self {
            Self::Kind => (
                "kubelet-kubepods",
                format!("{NODE_CONTAINER}/kubelet.slice/"),
            ),
            _ => ("kubepods", String::new()),
        };
        match quality.name() {
            None => format!("{above}{root}.slice/{root}-pod{uid}.slice"),
            Some(name) => {
                format!("{above}{root}.slice/{root}-{name}.slice/{root}-{name}-pod{uid}.slice")
            }
        }
    }

    /// Name of the cgroup of container `id`, below that of its pod.
    pub fn container(self, id: &str) -> String {
        match self {
            Self::Containerd | Self::Kind => format!("cri-containerd-{id}.scope"),
            Self::Crio => format!("crio-{id}.scope"),
            Self::Docker => format!("docker-{id}.scope"),
            Self::Cgroupfs => id.to_owned(),
        }
    }

    /// The runtime, as it stands before `://` in the status of a container.
    pub fn runtime(self) -> &'static str {
        match self {
            Self::Containerd | Self::Cgroupfs | Self::Kind => "containerd",
            Self::Crio => "cri-o",
            Self::Docker => "docker",
        }
    }
}

// === impl Quality ===

impl Quality {
    /// As folders are named; pods that are guaranteed have none of their own.
    fn name(self) -> Option<&'static str> {
        match self {
            Self::Guaranteed => None,
            Self::Burstable => Some("burstable"),
            Self::BestEffort => Some("besteffort"),
        }
    }

    /// As the API says it (`status.qosClass`).
    pub fn class(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_kubelets() {
        let uid = "5d3f9e0c-1b7a-4a4e-9b0e-0f1e2d3c4b5a";
        let path = |layout: Layout, quality| {
            format!("{}/{}", layout.pod(quality, uid), layout.container("ab12"))
        };
        assert_eq!(
            path(Layout::Containerd, Quality::Burstable),
            "kubepods.slice/kubepods-burstable.slice/\
             kubepods-burstable-pod5d3f9e0c_1b7a_4a4e_9b0e_0f1e2d3c4b5a.slice/\
             cri-containerd-ab12.scope"
        );
        assert_eq!(
            path(Layout::Crio, Quality::Guaranteed),
            "kubepods.slice/kubepods-pod5d3f9e0c_1b7a_4a4e_9b0e_0f1e2d3c4b5a.slice/crio-ab12.scope"
        );
        assert_eq!(
            path(Layout::Cgroupfs, Quality::BestEffort),
            "kubepods/besteffort/pod5d3f9e0c-1b7a-4a4e-9b0e-0f1e2d3c4b5a/ab12"
        );
        assert_eq!(
            path(Layout::Cgroupfs, Quality::Guaranteed),
            "kubepods/pod5d3f9e0c-1b7a-4a4e-9b0e-0f1e2d3c4b5a/ab12"
        );
        assert!(path(Layout::Kind, Quality::BestEffort).ends_with(
            ".scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/\
             kubelet-kubepods-besteffort-pod5d3f9e0c_1b7a_4a4e_9b0e_0f1e2d3c4b5a.slice/\
             cri-containerd-ab12.scope"
        ));
    }
}
