//! What is mounted where.

use std::path::{Path, PathBuf};

/// A line of `/proc/self/mountinfo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Where it is mounted.
    pub point: PathBuf,
    /// It is a cgroup v2 hierarchy.
    pub is_cgroup2: bool,
}

/// Reads `/proc/self/mountinfo` (proc_pid_mountinfo(5)): the fifth field is the mount point, and the file system type follows
/// the lone `-`.
pub fn mounts(mountinfo: &str) -> Vec<Mount> {
    mountinfo
        .lines()
        .filter_map(|line| {
            let (mount, system) = line.split_once(" - ")?;
            let point = unescape(mount.split(' ').nth(4)?);
            let is_cgroup2 = system.split(' ').next() == Some("cgroup2");
            Some(Mount {
                point: Path::new(&point).to_owned(),
                is_cgroup2,
            })
        })
        .collect()
}

/// Blank, tab, line feed and backslash are written as three octal digits.
fn unescape(field: &str) -> String {
    [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ]
    .iter()
    .fold(field.to_owned(), |text, (escaped, plain)| {
        text.replace(escaped, plain)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hybrid_hosts_have_cgroup_v2_somewhere_else() {
        let found = mounts(
            "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
             41 31 0:38 / /sys/fs/cgroup/a\\040b rw,relatime shared:9 - cgroup2 cgroup2 rw\n\
             not a mount\n",
        );
        assert_eq!(found.len(), 2);
        assert!(!found[0].is_cgroup2);
        assert_eq!(found[1].point, Path::new("/sys/fs/cgroup/a b"));
        assert!(found[1].is_cgroup2);
    }
}
