//! Who tells: what every resource and message says of this host and of the observer.

use std::{fs, path::Path, sync::Arc};

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
    /// Version of the observer (`telemetry.distro.version`, and of the scope).
    pub version: &'static str,
}

/// Where a machine keeps its id. Through process 1 it is the host's also from a container that
/// shares the process ids of its host.
const MACHINE_IDS: [&str; 3] = [
    "proc/1/root/etc/machine-id",
    "etc/machine-id",
    "var/lib/dbus/machine-id",
];

const HOST_NAME: &str = "proc/sys/kernel/hostname";

// === impl About ===

impl About {
    /// This host, looked up below `root`, which is `/` but for tests: a node of `cluster` with the
    /// name `node`, both empty where there is none. What cannot be read is left empty.
    ///
    /// In a cluster the host has the name of its node: a pod without the host's network has another
    /// host name of its own. The id is told as it is, as the semantic conventions ask for
    /// (`host.id`), so that it joins what others tell of the host.
    pub fn of_host(root: &Path, cluster: &str, node: &str, offset: WallOffset) -> Self {
        let host_name = match node {
            "" => read(&root.join(HOST_NAME)).unwrap_or_default(),
            node => node.to_owned(),
        };
        let mut ids = MACHINE_IDS.iter().filter_map(|path| read(&root.join(path)));
        let host_id = ids.find(|text| is_machine_id(text));
        Self {
            cluster: cluster.into(),
            host_name: host_name.into(),
            host_id: host_id.unwrap_or_default().into(),
            node: node.into(),
            offset,
            version: env!("CARGO_PKG_VERSION"),
        }
    }

    /// Whether all but the clock is the same.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let Self {
            cluster,
            host_name,
            host_id,
            node,
            offset: _,
            version,
        } = self;
        *cluster == other.cluster
            && *host_name == other.host_name
            && *host_id == other.host_id
            && *node == other.node
            && *version == other.version
    }
}

/// One line of text.
fn read(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let text = text.trim();
    (!text.is_empty() && text.len() <= 255 && !text.contains(char::is_control))
        .then(|| text.to_owned())
}

/// 32 hexadecimal digits that are not all zero (machine-id(5)): `uninitialized` is none.
fn is_machine_id(text: &str) -> bool {
    text.len() == 32
        && text.bytes().all(|byte| byte.is_ascii_hexdigit())
        && text.bytes().any(|byte| byte != b'0')
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef";

    fn host(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn a_host_tells_its_name_and_id() {
        let root = host(&[(HOST_NAME, "box\n"), ("etc/machine-id", &format!("{ID}\n"))]);
        let offset = WallOffset { nanoseconds: 7 };
        let about = About::of_host(root.path(), "", "", offset);
        assert_eq!((&*about.host_name, &*about.host_id), ("box", ID));
        assert_eq!(about.offset, offset);
        assert_eq!(about.version, env!("CARGO_PKG_VERSION"));
    }

    #[test]
    fn a_node_is_its_host_and_process_1_knows_the_id() {
        let root = host(&[
            (HOST_NAME, "observer-x7k\n"),
            (MACHINE_IDS[0], ID),
            (MACHINE_IDS[1], "fffffffffffffffffffffffffffffff1"),
        ]);
        let about = About::of_host(root.path(), "west", "node-1", WallOffset::default());
        assert_eq!(&*about.cluster, "west");
        assert_eq!((&*about.node, &*about.host_name), ("node-1", "node-1"));
        assert_eq!(&*about.host_id, ID);
    }

    #[test]
    fn what_is_no_id_is_left_out() {
        for text in ["", "uninitialized", "00000000000000000000000000000000", "x"] {
            let root = host(&[("etc/machine-id", text)]);
            let about = About::of_host(root.path(), "", "", WallOffset::default());
            assert_eq!((&*about.host_name, &*about.host_id), ("", ""), "{text}");
        }
    }
}
