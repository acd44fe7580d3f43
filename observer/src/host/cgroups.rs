//! The tree of cgroup v2: from the inode of a directory, which the kernel reports, to its path.

use std::{
    os::unix::fs::{DirEntryExt, MetadataExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use hashbrown::HashMap;

use crate::model::time::Monotonic;

use super::process;

/// Known directories of cgroup v2.
#[derive(Debug)]
pub(super) struct Cgroups {
    root: PathBuf,
    limit: usize,
    paths: HashMap<u64, Arc<str>, foldhash::fast::RandomState>,
    walked: Option<Monotonic>,
    /// Directories that did not fit.
    pub(super) overflow: u64,
}

/// Walks of the whole tree are at least this far apart.
const WALK_INTERVAL: Duration = Duration::from_secs(1);

/// Deepest directory that is looked at.
const MAX_DEPTH: usize = 64;

/// Most processes of one cgroup that are looked at.
const MAX_PROCESSES: usize = 64;

// === impl Cgroups ===

impl Cgroups {
    /// Walks the tree below `root` once; keeps at most `limit` directories.
    pub(super) fn new(root: PathBuf, limit: usize) -> Self {
        let mut cgroups = Self {
            root,
            limit,
            paths: HashMap::default(),
            walked: None,
            overflow: 0,
        };
        cgroups.walk();
        cgroups
    }

    /// Number of directories known.
    pub(super) fn len(&self) -> usize {
        self.paths.len()
    }

    /// Path below the root of the directory with this inode, `/` for the root itself.
    pub(super) fn path(&mut self, inode: u64, now: Monotonic) -> Option<Arc<str>> {
        if inode == 0 {
            return None;
        }
        if let Some(path) = self.paths.get(&inode) {
            return Some(path.clone());
        }
        if self
            .walked
            .is_none_or(|walked| now.since(walked) >= WALK_INTERVAL)
        {
            self.walked = Some(now);
            self.walk();
        }
        self.paths.get(&inode).cloned()
    }

    /// The path and inode of a process's cgroup, from its `0::PATH` line. `reported` is what the
    /// kernel said the inode is, 0 if it said nothing.
    pub(super) fn locate(&mut self, path: &str, reported: u64, now: Monotonic) -> (Arc<str>, u64) {
        // Outside our own cgroup namespace the path climbs: `/../../pod1`; a removed directory is
        // marked.
        let path = path.strip_suffix(" (deleted)").unwrap_or(path);
        let climbs = path.starts_with("/..");
        let stripped = path.trim_start_matches("/..");
        let stripped = if stripped.is_empty() { "/" } else { stripped };
        if let Some(known) = self.paths.get(&reported)
            && (&**known == stripped || climbs)
        {
            return (known.clone(), reported);
        }
        if let Some(inode) = self
            .inode(stripped)
            .filter(|inode| !climbs || *inode == reported)
        {
            return (self.remember(inode, stripped), inode);
        }
        if climbs && let Some(known) = self.path(reported, now) {
            return (known, reported);
        }
        (stripped.into(), 0)
    }

    /// Processes in the directory of this inode itself, ascending.
    pub(super) fn processes(&mut self, inode: u64, now: Monotonic) -> Vec<u32> {
        let Some(path) = self.path(inode, now) else {
            return Vec::new();
        };
        let file = self.directory(&path).join("cgroup.procs");
        let contents = process::read(&file, 64 << 10).unwrap_or_default();
        let mut found: Vec<u32> = String::from_utf8_lossy(&contents)
            .lines()
            .filter_map(|line| line.trim().parse().ok())
            // Outside our pid namespace.
            .filter(|pid| *pid != 0)
            .collect();
        found.sort_unstable();
        found.truncate(MAX_PROCESSES);
        found
    }

    fn directory(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    fn inode(&self, path: &str) -> Option<u64> {
        if path.split('/').any(|part| part == "..") {
            return None;
        }
        let metadata = std::fs::metadata(self.directory(path)).ok()?;
        metadata.is_dir().then(|| metadata.ino())
    }

    fn remember(&mut self, inode: u64, path: &str) -> Arc<str> {
        if let Some(known) = self.paths.get(&inode)
            && &**known == path
        {
            return known.clone();
        }
        let path: Arc<str> = path.into();
        if self.paths.len() >= self.limit && !self.paths.contains_key(&inode) {
            self.overflow += 1;
        } else {
            self.paths.insert(inode, path.clone());
        }
        path
    }

    /// Replaces what is known by what is there, so that removed directories go.
    fn walk(&mut self) {
        self.paths.clear();
        let Ok(metadata) = std::fs::metadata(&self.root) else {
            return;
        };
        self.remember(metadata.ino(), "/");
        let mut folders = vec![(self.root.clone(), String::new(), 0)];
        while let Some((folder, path, depth)) = folders.pop() {
            let Ok(entries) = std::fs::read_dir(&folder) else {
                continue;
            };
            for entry in entries.filter_map(Result::ok) {
                if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    continue;
                }
                if self.paths.len() >= self.limit {
                    self.overflow += 1;
                    return;
                }
                let name = entry.file_name();
                let path = format!("{path}/{}", Path::new(&name).display());
                self.remember(entry.ino(), &path);
                if depth < MAX_DEPTH {
                    folders.push((entry.path(), path, depth + 1));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inode(root: &Path, path: &str) -> u64 {
        std::fs::metadata(root.join(path)).unwrap().ino()
    }

    fn at(seconds: u64) -> Monotonic {
        Monotonic(seconds * 1_000_000_000)
    }

    #[test]
    fn paths_by_inode() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::create_dir_all(root.join("a.slice/b.service")).unwrap();
        let mut cgroups = Cgroups::new(root.into(), 100);
        assert_eq!(cgroups.len(), 3);
        let path = |cgroups: &mut Cgroups, name, now| {
            cgroups
                .path(inode(root, name), now)
                .map(|path| path.to_string())
        };
        assert_eq!(path(&mut cgroups, "", at(1)).unwrap(), "/");
        assert_eq!(
            path(&mut cgroups, "a.slice/b.service", at(1)).unwrap(),
            "/a.slice/b.service"
        );
        assert_eq!(cgroups.path(0, at(1)), None);
        // Made later: found by a walk, of which there is one a second.
        assert_eq!(cgroups.path(u64::MAX, at(2)), None);
        std::fs::create_dir(root.join("c.slice")).unwrap();
        assert_eq!(path(&mut cgroups, "c.slice", at(2)), None);
        assert_eq!(path(&mut cgroups, "c.slice", at(3)).unwrap(), "/c.slice");
        // Removed: forgotten by the next walk.
        std::fs::remove_dir(root.join("c.slice")).unwrap();
        cgroups.path(u64::MAX, at(9));
        assert_eq!(cgroups.len(), 3);
    }

    #[test]
    fn paths_of_processes() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::create_dir_all(root.join("a.slice/b.service")).unwrap();
        let b = inode(root, "a.slice/b.service");
        let mut cgroups = Cgroups::new(root.into(), 100);
        let mut check = |line: &str, reported, path: &str, inode| {
            let found = cgroups.locate(line, reported, at(1));
            assert_eq!((&*found.0, found.1), (path, inode), "{line}");
        };
        check("/a.slice/b.service", b, "/a.slice/b.service", b);
        check("/a.slice/b.service", 0, "/a.slice/b.service", b);
        check("/a.slice/b.service (deleted)", 0, "/a.slice/b.service", b);
        check("/", 0, "/", inode(root, ""));
        // The process has moved since the kernel reported its cgroup.
        check("/a.slice", b, "/a.slice", inode(root, "a.slice"));
        // Seen from another cgroup namespace: only the inode can tell.
        check("/../../b.service", b, "/a.slice/b.service", b);
        check("/../../b.service", 0, "/b.service", 0);
        check("/gone.service", 0, "/gone.service", 0);
        check("/a/../../etc", 0, "/a/../../etc", 0);
    }

    #[test]
    fn processes_of_a_directory() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("cgroup.procs"), "30\n0\n4\n").unwrap();
        let mut cgroups = Cgroups::new(folder.path().into(), 100);
        assert_eq!(cgroups.processes(inode(folder.path(), ""), at(1)), [4, 30]);
        assert!(cgroups.processes(1, at(1)).is_empty());
    }

    #[test]
    fn the_tree_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a", "b", "c", "d"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        let cgroups = Cgroups::new(folder.path().into(), 3);
        assert_eq!((cgroups.len(), cgroups.overflow), (3, 1));
        let none = Cgroups::new(folder.path().join("missing"), 3);
        assert_eq!(none.len(), 0);
    }
}
