//! Cgroups of a test's own, so that the observer sees that test's traffic only.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context, Result};

use crate::wait;

/// A cgroup v2 directory made by a test; gone with everything in it when dropped.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
}

/// Mount point of the cgroup v2 hierarchy.
pub fn root() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("read mountinfo")?;
    mounts
        .lines()
        .find_map(mount_point)
        .map(PathBuf::from)
        .context("no cgroup v2 is mounted")
}

/// A name that no other test of this machine uses at the same time.
pub fn unique(label: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("observer-test-{}-{number}-{label}", std::process::id())
}

/// The mount point in a line of mountinfo (proc_pid_mountinfo(5)) if it is a cgroup v2 mount.
fn mount_point(line: &str) -> Option<&str> {
    let (mount, filesystem) = line.split_once(" - ")?;
    filesystem
        .starts_with("cgroup2 ")
        .then(|| mount.split(' ').nth(4))
        .flatten()
}

fn folders(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect()
}

fn remove(path: &Path) {
    for folder in folders(path) {
        remove(&folder);
    }
    // The directory stays busy for a moment after its last process is gone.
    let removed = wait::until("an empty cgroup", Duration::from_secs(3), || {
        Ok(match fs::remove_dir(path) {
            Ok(()) => Some(()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Some(()),
            Err(_) => None,
        })
    });
    if let Err(error) = removed {
        eprintln!("cgroup {} stays: {error:#}", path.display());
    }
}

// === impl Cgroup ===

impl Cgroup {
    /// A new cgroup directly below the root.
    pub fn create(label: &str) -> Result<Self> {
        let path = root()?.join(unique(label));
        fs::create_dir(&path).with_context(|| format!("make cgroup {}", path.display()))?;
        Ok(Self { path })
    }

    /// A cgroup below this one, with the folders between, as a container engine or a service
    /// manager would make it.
    pub fn child(&self, name: &str) -> Result<Self> {
        let path = self.path.join(name);
        fs::create_dir_all(&path).with_context(|| format!("make cgroup {}", path.display()))?;
        Ok(Self { path })
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its path below the cgroup v2 root, as `/proc/PID/cgroup` shows it.
    pub fn relative(&self) -> Result<String> {
        let below = self
            .path
            .strip_prefix(root()?)
            .context("cgroup outside of the root")?;
        Ok(format!("/{}", below.display()))
    }

    /// Inode of its directory: the id that kernel records carry.
    pub fn inode(&self) -> Result<u64> {
        Ok(fs::metadata(&self.path).context("look at cgroup")?.ino())
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Kills the processes of this subtree, which the test alone has filled (Linux 5.14).
        if let Err(error) = fs::write(self.path.join("cgroup.kill"), "1") {
            eprintln!("cgroup {} may keep processes: {error}", self.path.display());
        }
        remove(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_of_cgroup_v2_only() {
        let unified = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw";
        assert_eq!(mount_point(unified), Some("/sys/fs/cgroup/unified"));
        let legacy = "39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids";
        assert_eq!(mount_point(legacy), None);
    }
}
