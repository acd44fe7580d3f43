//! The initial file system: busybox, the daemon, and a script that is the first process.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::workspace::{find, target};

/// The first process.
const INIT: &str = include_str!("init.sh");

/// Builds the archive with `observer` in it, or without, and gives its path.
pub(super) fn build(observer: Option<&Path>) -> Result<PathBuf> {
    let tree = target("vm/initramfs");
    if tree.exists() {
        fs::remove_dir_all(&tree)?;
    }
    for folder in ["bin", "proc", "sys", "dev", "tmp", "www"] {
        fs::create_dir_all(tree.join(folder))?;
    }
    let busybox = find("busybox").context("busybox is not installed")?;
    fs::copy(busybox, tree.join("bin/busybox"))?;
    let mut names = vec!["bin/busybox", "init"];
    write_executable(&tree.join("init"), INIT.as_bytes())?;
    fs::write(tree.join("www/hello"), "hello from busybox\n")?;
    if let Some(observer) = observer {
        fs::copy(observer, tree.join("bin/observer"))
            .with_context(|| format!("cannot copy {}", observer.display()))?;
        names.push("bin/observer");
    }
    names.extend(["bin", "proc", "sys", "dev", "tmp", "www", "www/hello"]);
    let archive = target("vm/initramfs.cpio");
    let mut cpio = Command::new("cpio")
        .args(["--create", "--quiet", "--format=newc", "--owner=0:0"])
        .current_dir(&tree)
        .stdin(Stdio::piped())
        .stdout(fs::File::create(&archive)?)
        .spawn()
        .context("cannot run cpio")?;
    // A folder comes before what is in it.
    names.sort_by_key(|name| name.matches('/').count());
    if let Some(mut list) = cpio.stdin.take() {
        list.write_all(names.join("\n").as_bytes())?;
    }
    let status = cpio.wait()?;
    if !status.success() {
        bail!("cpio failed ({status})");
    }
    Ok(archive)
}

fn write_executable(path: &Path, content: &[u8]) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, content)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}
