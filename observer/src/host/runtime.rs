//! What a cgroup path says of the container and the systemd unit behind it.
//!
//! The layouts are those of runc and crun under both cgroup drivers: the systemd driver makes
//! scopes named `PREFIX-ID.scope`, the cgroupfs driver directories named `ID` or `PREFIX-ID`, and
//! a systemd-style path given to a cgroupfs runtime shows as `SLICE:PREFIX:ID`.

use crate::model::workload::Runtime;

/// What a cgroup path tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Placement {
    /// The innermost container, else the innermost unit.
    pub(super) runtime: Runtime,
    /// Service name by the systemd unit, without suffix, where the unit stands for one service.
    pub(super) unit_service: Option<Box<str>>,
    /// Uid of the pod as kubelet writes it into the path, with dashes; empty without.
    pub(super) pod_uid: Box<str>,
}

/// Engines by the prefix that they put before the container id.
const ENGINES: &[(&str, &str)] = &[
    ("cri-containerd", "containerd"),
    ("containerd", "containerd"),
    ("nerdctl", "containerd"),
    ("crio", "cri-o"),
    ("docker", "docker"),
    ("libpod", "podman"),
    ("libpod-payload", "podman"),
];

/// Engines by the name of the directory that holds directories named by bare ids.
const PARENTS: &[(&str, &str)] = &[
    ("docker", "docker"),
    ("ecs", "docker"),
    ("libpod_parent", "podman"),
    ("default", "containerd"),
    ("k8s.io", "containerd"),
    ("nerdctl", "containerd"),
];

/// Units of container runtimes: containers below them are not "the runtime's service".
const RUNTIME_UNITS: &[&str] = &[
    "buildkit",
    "buildkitd",
    "containerd",
    "cri-docker",
    "crio",
    "docker",
    "k0scontroller",
    "k0sworker",
    "k3s",
    "k3s-agent",
    "kubelet",
    "podman",
    "rke2-agent",
    "rke2-server",
    "snap.docker.dockerd",
    "snap.k8s.containerd",
    "snap.microk8s.daemon-containerd",
];

/// Reads `path`, a path below the cgroup root of either version.
pub(super) fn placement(path: &str) -> Placement {
    let components: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    // Nested containers (kind, Docker in Docker): the innermost is the one.
    let container = (0..components.len())
        .rev()
        .find_map(|index| container(&components, index).map(|found| (index, found)));
    let unit = unit(&components);
    let unit_service = unit_service(&components, container.as_ref().map(|(index, _)| *index));
    let runtime = match (container, unit) {
        (Some((_, runtime)), _) => runtime,
        (None, Some(name)) => Runtime::Unit { name: name.into() },
        (None, None) => Runtime::Host,
    };
    Placement {
        runtime,
        unit_service,
        pod_uid: components
            .iter()
            .rev()
            .find_map(|component| pod_uid(component))
            .unwrap_or_default(),
    }
}

/// The uid in the name of a pod's directory: `podUID` of the cgroupfs driver, `kubepods-podUID.slice`
/// and `kubepods-burstable-podUID.slice` of the systemd driver, with prefixes where kubelet itself
/// is in a slice. That of a static pod is a hash of 32 digits.
fn pod_uid(component: &str) -> Option<Box<str>> {
    // A systemd-style path that was given to a cgroupfs runtime: `SLICE:PREFIX:ID`.
    let component = component.split(':').next().unwrap_or(component);
    let uid = match component.strip_suffix(".slice") {
        Some(slice) => {
            let (before, uid) = slice.rsplit_once("-pod")?;
            before.contains("kubepods").then_some(uid)?
        }
        None => component.strip_prefix("pod")?,
    };
    let uid = uid.replace('_', "-");
    let shape = |dashes: &[usize]| {
        uid.bytes().enumerate().all(|(index, byte)| match byte {
            b'-' => dashes.contains(&index),
            _ => byte.is_ascii_hexdigit() && !dashes.contains(&index),
        })
    };
    let fits = match uid.len() {
        36 => shape(&[8, 13, 18, 23]),
        32 => shape(&[]),
        _ => false,
    };
    fits.then(|| uid.into())
}

/// Chooses among the paths of one process in several hierarchies: version 2 first, but on hybrid
/// hosts a runtime that only uses version 1 leaves its name there.
pub(super) fn placement_of_all<'a>(paths: impl IntoIterator<Item = &'a str>) -> Placement {
    let mut best = Placement::default();
    for path in paths {
        let candidate = placement(path);
        match (&best.runtime, &candidate.runtime) {
            (_, Runtime::Container { .. }) => return candidate,
            (Runtime::Host | Runtime::Unit { .. }, _) if !candidate.pod_uid.is_empty() => {
                best = candidate;
            }
            (Runtime::Host, Runtime::Unit { .. }) => best = candidate,
            _ => {}
        }
    }
    best
}

fn container(components: &[&str], index: usize) -> Option<Runtime> {
    let component = components.get(index)?;
    let name = component.strip_suffix(".scope").unwrap_or(component);
    if is_container_id(name) {
        let engine = bare_engine(components.get(..index).unwrap_or_default());
        return Some(Runtime::Container {
            id: name.into(),
            engine,
        });
    }
    let at = name.len().checked_sub(65)?;
    if !name.is_char_boundary(at) || !matches!(name.as_bytes().get(at), Some(b'-' | b':')) {
        return None;
    }
    let (prefix, id) = (name.get(..at)?, name.get(at + 1..)?);
    // `SLICE:PREFIX:ID`.
    let prefix = prefix.rsplit(':').next().unwrap_or(prefix);
    if !is_container_id(id) || prefix.ends_with("conmon") {
        return None;
    }
    let engine = lookup(ENGINES, prefix).unwrap_or("unknown");
    Some(Runtime::Container {
        id: id.into(),
        engine,
    })
}

fn bare_engine(parents: &[&str]) -> &'static str {
    for parent in parents.iter().rev() {
        // A bare id below `kubepods` is the cgroupfs driver's; CRI-O puts its prefix there too.
        if parent.starts_with("kubepods") || parent.starts_with("kubelet-kubepods") {
            return "containerd";
        }
        if let Some(engine) = lookup(PARENTS, parent) {
            return engine;
        }
    }
    "unknown"
}

fn lookup(table: &[(&str, &'static str)], key: &str) -> Option<&'static str> {
    table
        .iter()
        .find(|(name, _)| *name == key)
        .map(|(_, engine)| *engine)
}

fn is_container_id(text: &str) -> bool {
    text.len() == 64
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The innermost unit; a user's manager only where nothing is below it.
fn unit<'a>(components: &[&'a str]) -> Option<&'a str> {
    let is_unit = |name: &&&str| name.ends_with(".service") || name.ends_with(".scope");
    let units = || components.iter().rev().filter(is_unit).copied();
    units()
        .find(|name| !is_user_manager(name))
        .or_else(|| units().next())
}

fn unit_service(components: &[&str], container: Option<usize>) -> Option<Box<str>> {
    let innermost = components
        .iter()
        .enumerate()
        .rev()
        .find_map(|(index, name)| {
            let stem = name.strip_suffix(".service")?;
            Some((index, stem)).filter(|_| !stem.is_empty() && !is_user_manager(name))
        });
    let (index, stem) = innermost?;
    let around_container = container.is_some_and(|at| index < at);
    let anonymous = is_transient(stem) || around_container && RUNTIME_UNITS.contains(&stem);
    (!anonymous).then(|| stem.into())
}

fn is_user_manager(name: &str) -> bool {
    name.starts_with("user@") && name.ends_with(".service")
}

/// Units that `systemd-run` numbers itself: `run-u12`, `run-r` and 32 digits, `run-p12-i34`.
fn is_transient(stem: &str) -> bool {
    let Some(rest) = stem.strip_prefix("run-") else {
        return false;
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let hexadecimal = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match rest.split_at_checked(1) {
        Some(("u", number)) => digits(number),
        Some(("r", number)) => number.len() == 32 && hexadecimal(number),
        Some(("p", numbers)) => numbers
            .split_once("-i")
            .is_some_and(|(process, instance)| digits(process) && digits(instance)),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
