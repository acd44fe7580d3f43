//! What the checks look at, as plain values, read from this machine.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// What was read from this machine; `None` where there was nothing to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// `/proc/sys/kernel/osrelease`.
    pub release: Option<String>,
    /// `/proc/self/mountinfo`.
    pub mountinfo: String,
    /// The cgroup that was asked for, and whether it is a directory.
    pub cgroup: Option<(PathBuf, bool)>,
    /// `/proc/self/status`.
    pub status: String,
    /// `/proc/self/limits`.
    pub limits: String,
    /// `/sys/kernel/security/lockdown`.
    pub lockdown: Option<String>,
    /// `/proc/sys/net/core/bpf_jit_enable`.
    pub jit: Option<String>,
    /// `/proc/sys/kernel/unprivileged_bpf_disabled`.
    pub unprivileged: Option<String>,
    /// `/proc/sys/kernel/bpf_stats_enabled`.
    pub statistics: Option<String>,
    /// Whether there is `/sys/kernel/btf/vmlinux`.
    pub btf: bool,
    /// Whether this binary carries the kernel programs.
    pub object_embedded: bool,
    /// What came of loading them; `None` when that was not tried.
    pub load: Option<Result<Vec<String>, String>>,
}

// === impl Machine ===

impl Machine {
    /// Reads everything but the object and the attempt to load it.
    pub fn gather(cgroup: Option<&Path>) -> Self {
        Self {
            release: read("/proc/sys/kernel/osrelease"),
            mountinfo: read("/proc/self/mountinfo").unwrap_or_default(),
            // A path below a link is below what the link leads to.
            cgroup: cgroup.map(|path| {
                let resolved = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
                let is_directory = resolved.is_dir();
                (resolved, is_directory)
            }),
            status: read("/proc/self/status").unwrap_or_default(),
            limits: read("/proc/self/limits").unwrap_or_default(),
            lockdown: read("/sys/kernel/security/lockdown"),
            jit: read("/proc/sys/net/core/bpf_jit_enable"),
            unprivileged: read("/proc/sys/kernel/unprivileged_bpf_disabled"),
            statistics: read("/proc/sys/kernel/bpf_stats_enabled"),
            btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
            object_embedded: false,
            load: None,
        }
    }
}

fn read(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim_end().to_owned())
}
