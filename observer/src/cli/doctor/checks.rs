//! The checks: pure functions of what was read from the machine.

use crate::host;

use super::{Asked, Check, Machine, Network, Report, State};
use crate::capture::object;

/// The oldest kernel that is tested: ring buffer (5.8), socket storage in these program types and
/// CAP_BPF (5.8) are all there.
const OLDEST_KERNEL: (u32, u32) = (5, 10);

/// From this kernel on, BPF memory is accounted to the cgroup, not to RLIMIT_MEMLOCK
/// (commit 3bdc4bd4b6df "bpf: Eliminate rlimit-based memory accounting").
const NO_MEMORY_LOCK: (u32, u32) = (5, 11);

/// From this kernel on there are the tracepoints `sock_recv_length` and `sock_send_length`
/// (commit 6e6eda44b939 "sock: add tracepoint for send recv length").
const THREAD_TRACEPOINTS: (u32, u32) = (6, 3);

/// What the maps of the default configuration take, bytes, rounded up.
const MEMORY_LOCK_NEEDED: u64 = 64 << 20;

/// Bits of `CapEff` (`linux/capability.h`).
mod capability {
    pub(super) const DAC_OVERRIDE: u32 = 1;
    pub(super) const DAC_READ_SEARCH: u32 = 2;
    pub(super) const NET_ADMIN: u32 = 12;
    pub(super) const SYS_PTRACE: u32 = 19;
    pub(super) const SYS_ADMIN: u32 = 21;
    pub(super) const SYS_RESOURCE: u32 = 24;
    pub(super) const PERFMON: u32 = 38;
    pub(super) const BPF: u32 = 39;
}

/// All checks of `machine`.
pub fn diagnose(machine: &Machine) -> Report {
    let effective = effective_capabilities(&machine.status);
    let kernel_version = machine.release.as_deref().and_then(parse_version);
    let mut checks = vec![
        kernel(machine.release.as_deref(), kernel_version),
        embedded(machine.object_embedded),
        cgroup(machine),
        bpf_capability(effective),
        net_capability(effective),
        proc_capability(effective),
        lockdown(machine.lockdown.as_deref()),
        jit(machine.jit.as_deref()),
        btf(machine.btf),
        causes(machine.btf, kernel_version, effective),
        statistics(machine.statistics.as_deref()),
        unprivileged(machine.unprivileged.as_deref()),
        memory_lock(&machine.limits, kernel_version, effective),
        conntrack(machine),
    ];
    checks.extend(machine.load.as_ref().map(load));
    checks.push(kubernetes_api(machine));
    checks.extend(machine.kubernetes.hub.as_ref().map(kubernetes_hub));
    let works = checks.iter().all(|check| check.state != State::Missing);
    Report { works, checks }
}

fn kernel(release: Option<&str>, version: Option<(u32, u32)>) -> Check {
    let name = "kernel";
    let found = release.unwrap_or("version not readable");
    match version {
        Some(version) if version >= OLDEST_KERNEL => Check::ok(name, found),
        Some(_) => Check::missing(
            name,
            found,
            "the kernel programs do not load",
            "run Linux 5.10 or later",
        ),
        None => Check::degraded(
            name,
            found,
            "whether this kernel is new enough is not known",
            "see that this is Linux 5.10 or later, with /proc mounted",
        ),
    }
}

fn embedded(present: bool) -> Check {
    if present {
        Check::ok("object", "kernel programs are in this binary")
    } else {
        Check::missing(
            "object",
            object::NOT_BUILT,
            "nothing can be captured",
            "cargo xtask build",
        )
    }
}

fn cgroup(machine: &Machine) -> Check {
    let name = "cgroup";
    let mounts = host::mounts(&machine.mountinfo);
    let Some(first) = mounts.iter().find(|mount| mount.is_cgroup2) else {
        return Check::missing(
            name,
            "cgroup v2 is not mounted",
            "there is nothing to attach to",
            "mount -t cgroup2 none /sys/fs/cgroup/unified, or boot with \
             systemd.unified_cgroup_hierarchy=1",
        );
    };
    let Some((path, is_directory)) = &machine.cgroup else {
        if machine.whole_tree == Some(false) {
            return Check::degraded(
                name,
                format!("{} is a part of the host's tree", first.point.display()),
                "processes outside of this part, those of other containers, are not observed",
                "mount the host's /sys/fs/cgroup at that place (in a pod: a hostPath volume)",
            );
        }
        return Check::ok(name, format!("cgroup v2 at {}", first.point.display()));
    };
    let shown = path.display();
    let cost = "there is nothing to attach to";
    let remedy = format!("choose a directory below {}", first.point.display());
    // The mount a path is on is the one with the longest mount point above it; of several on one
    // point the last covers the others.
    let on = mounts
        .iter()
        .filter(|mount| path.starts_with(&mount.point))
        .max_by_key(|mount| mount.point.components().count());
    if !is_directory {
        Check::missing(name, format!("{shown} is not a directory"), cost, remedy)
    } else if on.is_some_and(|mount| mount.is_cgroup2) {
        Check::ok(name, format!("{shown} in cgroup v2"))
    } else {
        Check::missing(name, format!("{shown} is not in cgroup v2"), cost, remedy)
    }
}

fn bpf_capability(effective: u64) -> Check {
    let name = "bpf_capability";
    if has(effective, capability::BPF) {
        Check::ok(name, "CAP_BPF")
    } else if has(effective, capability::SYS_ADMIN) {
        Check::ok(name, "CAP_SYS_ADMIN, which includes CAP_BPF")
    } else {
        Check::missing(
            name,
            "no CAP_BPF",
            "the kernel programs cannot be loaded",
            "run as root, or give CAP_BPF (systemd: AmbientCapabilities=CAP_BPF CAP_NET_ADMIN)",
        )
    }
}

fn net_capability(effective: u64) -> Check {
    let name = "net_capability";
    if has(effective, capability::NET_ADMIN) {
        Check::ok(name, "CAP_NET_ADMIN")
    } else {
        Check::missing(
            name,
            "no CAP_NET_ADMIN",
            "the kernel programs cannot be loaded and attached",
            "run as root, or give CAP_NET_ADMIN",
        )
    }
}

fn proc_capability(effective: u64) -> Check {
    let name = "proc_capability";
    let traces = has(effective, capability::SYS_PTRACE);
    let reads =
        has(effective, capability::DAC_READ_SEARCH) || has(effective, capability::DAC_OVERRIDE);
    match (traces, reads) {
        (true, true) => Check::ok(name, "/proc of every process is readable"),
        (false, _) => Check::degraded(
            name,
            "no CAP_SYS_PTRACE",
            "executable and environment of other users' processes are not read: their services \
             are named by systemd unit, command line or thread name",
            "give CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH, or name the services in the \
             configuration",
        ),
        (true, false) => Check::degraded(
            name,
            "no CAP_DAC_READ_SEARCH",
            "OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES of other users' processes are not \
             read",
            "give CAP_DAC_READ_SEARCH, or name the services in the configuration",
        ),
    }
}

fn lockdown(content: Option<&str>) -> Check {
    // The file reads `none [integrity] confidentiality`. No mode refuses anything that is used:
    // no kernel memory is read.
    let mode = content
        .and_then(|content| content.split_once('[')?.1.split_once(']'))
        .map_or("mode not readable", |(mode, _)| mode);
    Check::ok("lockdown", format!("{mode} (every mode works)"))
}

fn jit(content: Option<&str>) -> Check {
    match content {
        Some("0") => Check::degraded(
            "jit",
            "BPF programs are interpreted",
            "every packet costs several times more CPU",
            "sysctl -w net.core.bpf_jit_enable=1",
        ),
        Some(_) => Check::ok("jit", "BPF programs are compiled"),
        // The file is there in the first network namespace only.
        None => Check::ok("jit", "not visible from this network namespace"),
    }
}

fn btf(present: bool) -> Check {
    Check::ok(
        "btf",
        if present {
            "type information of the kernel is there"
        } else {
            "absent (needed for traces.causes only)"
        },
    )
}

/// Whether threads tell which request caused which.
fn causes(btf: bool, version: Option<(u32, u32)>, effective: u64) -> Check {
    let name = "causes";
    let cost = "which request of a service caused which is not seen: inside a process traces join \
                by what the requests say alone";
    if version.is_some_and(|version| version < THREAD_TRACEPOINTS) {
        Check::degraded(
            name,
            "this kernel does not tell what threads read and write",
            cost,
            "run Linux 6.3 or later, or set traces.causes to false",
        )
    } else if !btf {
        Check::degraded(
            name,
            "there is no type information of the kernel",
            cost,
            "run a kernel with CONFIG_DEBUG_INFO_BTF, or set traces.causes to false",
        )
    } else if has(effective, capability::PERFMON) || has(effective, capability::SYS_ADMIN) {
        Check::ok(name, "threads tell which request caused which")
    } else {
        Check::degraded(
            name,
            "no CAP_PERFMON",
            cost,
            "give CAP_PERFMON beside CAP_BPF and CAP_NET_ADMIN, or set traces.causes to false",
        )
    }
}

fn statistics(content: Option<&str>) -> Check {
    let found = match content {
        Some("1") => "on: run time of every program is in the metrics",
        Some(_) => {
            "off: run time of the programs reads 0 (sysctl -w kernel.bpf_stats_enabled=1 \
             measures it, at some 50 ns a run)"
        }
        None => "not readable: run time of the programs reads 0",
    };
    Check::ok("run_time_statistics", found)
}

fn unprivileged(content: Option<&str>) -> Check {
    let found = match content {
        Some("0") => "allowed (not needed)",
        Some(_) => "forbidden (not needed)",
        None => "not readable (not needed)",
    };
    Check::ok("unprivileged_bpf", found)
}

fn memory_lock(limits: &str, version: Option<(u32, u32)>, effective: u64) -> Check {
    let name = "memory_lock";
    if version.is_none_or(|version| version >= NO_MEMORY_LOCK) {
        return Check::ok(name, "not counted by this kernel");
    }
    if has(effective, capability::SYS_RESOURCE) {
        return Check::ok(name, "CAP_SYS_RESOURCE raises the limit");
    }
    match locked_memory(limits) {
        Some(Some(bytes)) if bytes < MEMORY_LOCK_NEEDED => Check::missing(
            name,
            format!("RLIMIT_MEMLOCK is {bytes} bytes"),
            "this kernel counts BPF maps as locked memory, and they do not fit",
            "ulimit -l unlimited (systemd: LimitMEMLOCK=infinity), or give CAP_SYS_RESOURCE",
        ),
        Some(Some(bytes)) => Check::ok(name, format!("RLIMIT_MEMLOCK is {bytes} bytes")),
        Some(None) => Check::ok(name, "RLIMIT_MEMLOCK is unlimited"),
        None => Check::ok(name, "RLIMIT_MEMLOCK is not readable"),
    }
}

fn conntrack(machine: &Machine) -> Check {
    let name = "conntrack";
    let cost = "calls to addresses that are translated, those of Services among them, are told \
                without who really answers, where the lookups of both ends do not tell";
    if machine.kubernetes.on && machine.network == Network::Own {
        return Check::degraded(
            name,
            "this is not the network namespace of the host, which translates for pods",
            cost,
            "run in the network of the host (in a pod: hostNetwork: true)",
        );
    }
    match &machine.conntrack {
        None => Check::ok(name, "this network namespace tracks no connections"),
        Some(Ok(())) => Check::ok(name, "the kernel tells whom it translates"),
        Some(Err(error)) => Check::degraded(
            name,
            format!("the kernel does not tell its connection tracking: {error}"),
            cost,
            "give CAP_NET_ADMIN, and see that the kernel has CONFIG_NF_CT_NETLINK",
        ),
    }
}

fn kubernetes_api(machine: &Machine) -> Check {
    let name = "kubernetes_api";
    let Some(asked) = &machine.kubernetes.api else {
        return Check::ok(
            name,
            "not asked (kubernetes.enabled, and neither pod, hub nor kubeconfig)",
        );
    };
    let Asked {
        who,
        missing,
        purpose,
    } = asked;
    let cost = "calls are observed, but pods, workloads and Services get no names";
    match missing {
        Ok(missing) if missing.is_empty() => {
            Check::ok(name, format!("{who} lets us watch {purpose}"))
        }
        Ok(missing) => Check::degraded(
            name,
            format!("{who} does not let us {}", missing.join(", ")),
            "what these would tell is not known: calls are observed, some without names",
            "give these permissions to the account (the chart: rbac.create)",
        ),
        Err(error) => Check::degraded(
            name,
            format!("{who}: {error}"),
            cost,
            "see that the API server can be reached from here, and that the pod has the token of \
             its account (automountServiceAccountToken)",
        ),
    }
}

fn kubernetes_hub(asked: &Asked) -> Check {
    let name = "kubernetes_hub";
    let Asked { who, missing, .. } = asked;
    match missing {
        Ok(_) => Check::ok(name, format!("{who} tells of the cluster")),
        Err(error) => Check::degraded(
            name,
            format!("{who}: {error}"),
            "only pods of this node get names",
            "see that the hub runs and is ready, that its name leads there, and that \
             kubernetes.hub_ca and kubernetes.hub_token are the files that it is for",
        ),
    }
}

fn load(result: &Result<Vec<String>, String>) -> Check {
    match result {
        Ok(features) if features.is_empty() => Check::ok("load", "every program loads"),
        Ok(features) => Check::ok(
            "load",
            format!("every program loads: {}", features.join(", ")),
        ),
        Err(problem) => Check::missing(
            "load",
            problem,
            "nothing can be captured",
            "see what is missing above; otherwise this kernel refuses a program, which is worth \
             a report",
        ),
    }
}

/// `CapEff` of `/proc/self/status`; 0 when it is not there.
fn effective_capabilities(status: &str) -> u64 {
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|value| u64::from_str_radix(value.trim(), 16).ok())
        .unwrap_or(0)
}

fn has(effective: u64, bit: u32) -> bool {
    effective & (1 << bit) != 0
}

/// Major and minor number of `6.12.1-cloud-amd64`.
fn parse_version(release: &str) -> Option<(u32, u32)> {
    let (major, rest) = release.split_once('.')?;
    let end = rest
        .find(|character: char| !character.is_ascii_digit())
        .unwrap_or(rest.len());
    Some((major.parse().ok()?, rest.get(..end)?.parse().ok()?))
}

/// Soft limit of locked memory in `/proc/self/limits`: bytes, or `None` for unlimited.
fn locked_memory(limits: &str) -> Option<Option<u64>> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max locked memory"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(None),
        bytes => Some(Some(bytes.parse().ok()?)),
    }
}

// === impl Check ===

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name,
            state: State::Ok,
            found: found.into(),
            cost: None,
            remedy: None,
        }
    }

    fn degraded(
        name: &'static str,
        found: impl Into<String>,
        cost: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            name,
            state: State::Degraded,
            found: found.into(),
            cost: Some(cost.into()),
            remedy: Some(remedy.into()),
        }
    }

    fn missing(
        name: &'static str,
        found: impl Into<String>,
        cost: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            state: State::Missing,
            ..Self::degraded(name, found, cost, remedy)
        }
    }
}
