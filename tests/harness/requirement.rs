//! What a test needs of the machine; without it the test says why and is skipped.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::{agent, cgroup, chart, control_plane, peers::Peer};

/// Something that not every machine has. Root and cgroup v2 are always needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The observer's binary.
    Observer,
    /// A program in the `PATH`.
    Tool(&'static str),
    /// Helm.
    Helm,
    /// The API server of Kubernetes and what it keeps its objects in.
    ControlPlane,
    /// The device `/dev/net/tun`.
    Tun,
    /// A peer that `cargo xtask setup` gets.
    Peer(Peer),
}

/// Whether this machine lacks any of `needs`: the test is then to return at once. Under
/// `OBSERVER_TESTS_REQUIRE=1` that is an error instead.
pub fn lacking(needs: &[Need]) -> Result<bool> {
    let Some(reason) = reason(needs) else {
        return Ok(false);
    };
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("test");
    if std::env::var("OBSERVER_TESTS_REQUIRE").is_ok_and(|value| value == "1") {
        bail!("{test} cannot run here: {reason}");
    }
    eprintln!("skipped: {test}: {reason}");
    Ok(true)
}

/// Full path of program `name`, from the `PATH` and the administrator's folders.
pub fn find_tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
}

fn reason(needs: &[Need]) -> Option<String> {
    // SAFETY: geteuid has no preconditions.
    if unsafe { libc::geteuid() } != 0 {
        return Some("needs root".to_owned());
    }
    if let Err(error) = cgroup::root() {
        return Some(format!("{error:#}"));
    }
    needs.iter().find_map(|need| match need {
        Need::Observer => agent::binary().err().map(|error| format!("{error:#}")),
        Need::Tool(name) => find_tool(name)
            .is_none()
            .then(|| format!("needs the program {name}")),
        Need::Peer(peer) => (!peer.program().exists())
            .then(|| format!("needs the peer {peer:?}: run `cargo xtask setup`")),
        Need::Helm => chart::helm()
            .is_none()
            .then(|| "needs Helm: run `cargo xtask setup`, or set HELM".to_owned()),
        Need::ControlPlane => control_plane::assets().is_none().then(|| {
            "needs kube-apiserver and etcd: run `cargo xtask setup`, or set KUBEBUILDER_ASSETS"
                .to_owned()
        }),
        Need::Tun => (!Path::new("/dev/net/tun").exists()).then(|| "needs /dev/net/tun".to_owned()),
    })
}
