//! What the checks look at, as plain values, read from this machine.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use crate::host::{self, translation::Translations};

/// What came of asking Kubernetes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kubernetes {
    /// The configuration wants it asked.
    pub on: bool,
    /// The API server: its address, and what came of asking.
    pub api: Option<Asked>,
    /// The hub: its URL, and what came of following it for a moment; `None` without one.
    pub hub: Option<Asked>,
}

/// What came of asking somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Whom.
    pub who: String,
    /// Permissions that are missing, as `verb resource.group`; or why there was no answer.
    pub missing: Result<Vec<String>, String>,
    /// What for.
    pub purpose: String,
}

/// Whose network namespace this is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// That of the first process, which with `hostPID` is the host's.
    Host,
    /// Another one.
    Own,
    /// Not readable.
    #[default]
    Unknown,
}

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
    /// Whether what is mounted as the first cgroup v2 is the root of the kernel's tree; `None` when
    /// that cannot be read.
    pub whole_tree: Option<bool>,
    /// Whose network namespace this is.
    pub network: Network,
    /// What came of asking the kernel's connection tracking; `None` when it keeps no table.
    pub conntrack: Option<Result<(), String>>,
    /// What came of asking Kubernetes.
    pub kubernetes: Kubernetes,
    /// Whether this binary carries the kernel programs.
    pub object_embedded: bool,
    /// What came of loading them; `None` when that was not tried.
    pub load: Option<Result<Vec<String>, String>>,
}

/// There as soon as the kernel tracks connections of any network namespace.
const TABLE: &str = "/proc/sys/net/netfilter/nf_conntrack_count";

/// Inode of the root of the kernel's cgroup v2 tree; those below it have others.
const ROOT_INODE: u64 = 1;

// === impl Machine ===

impl Machine {
    /// Reads everything but the object and the attempt to load it, and asks nobody but the kernel.
    pub fn gather(cgroup: Option<&Path>) -> Self {
        let mountinfo = read("/proc/self/mountinfo").unwrap_or_default();
        Self {
            release: read("/proc/sys/kernel/osrelease"),
            whole_tree: whole_tree(&mountinfo),
            mountinfo,
            network: network(),
            // Asking where there is no table would make the kernel load its modules.
            conntrack: Path::new(TABLE).exists().then(|| {
                Translations::open()
                    .map(drop)
                    .map_err(|error| error.to_string())
            }),
            kubernetes: Kubernetes::default(),
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

fn whole_tree(mountinfo: &str) -> Option<bool> {
    let first = host::mounts(mountinfo)
        .into_iter()
        .find(|mount| mount.is_cgroup2)?;
    Some(fs::metadata(first.point).ok()?.ino() == ROOT_INODE)
}

fn network() -> Network {
    let of = |process: &str| fs::read_link(format!("/proc/{process}/ns/net")).ok();
    match (of("1"), of("self")) {
        (Some(first), Some(own)) if first == own => Network::Host,
        (Some(_), Some(_)) => Network::Own,
        _ => Network::Unknown,
    }
}
