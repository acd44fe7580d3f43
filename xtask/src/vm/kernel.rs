//! Debian's cloud kernels, fetched through apt with sources and state of our own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::workspace::{output_of, run_quietly, say, target, write_if_different};

/// Where Debian keeps the kernels: 5.10 is bullseye's, 6.1 bookworm's, 6.12 its backport.
const SOURCES: &[&str] = &[
    "http://deb.debian.org/debian bullseye main",
    "http://deb.debian.org/debian-security bullseye-security main",
    "http://deb.debian.org/debian bookworm main",
    "http://deb.debian.org/debian-security bookworm-security main",
    "http://deb.debian.org/debian bookworm-backports main",
];

/// Signatures of the sources; from the package debian-archive-keyring.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A kernel to boot.
pub(super) struct Kernel {
    /// Its image.
    pub(super) image: PathBuf,
    /// Its release, `6.1.0-56-cloud-amd64`.
    pub(super) release: String,
}

// === impl Kernel ===

impl Kernel {
    /// The kernel of `series`, from an earlier run or from Debian.
    pub(super) fn fetch(series: &str) -> Result<Self> {
        let folder = target("vm/kernel").join(series);
        if let Some(kernel) = Self::cached(&folder) {
            return Ok(kernel);
        }
        download(series, &folder)?;
        Self::cached(&folder).with_context(|| format!("the package of {series} has no image"))
    }

    fn cached(folder: &Path) -> Option<Self> {
        fs::read_dir(folder).ok()?.flatten().find_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let release = name.strip_prefix("vmlinuz-")?.to_owned();
            Some(Self {
                image: entry.path(),
                release,
            })
        })
    }
}

/// Downloads the newest kernel of `series` that the mirror really has, and keeps its image.
fn download(series: &str, folder: &Path) -> Result<()> {
    if !Path::new(KEYRING).is_file() {
        bail!("{KEYRING} is missing: install the package debian-archive-keyring");
    }
    let state = target("vm/apt");
    for part in ["lists/partial", "cache/archives/partial", "deb"] {
        fs::create_dir_all(state.join(part))?;
    }
    let sources: String = SOURCES
        .iter()
        .map(|line| format!("deb [arch=amd64 signed-by={KEYRING}] {line}\n"))
        .collect();
    write_if_different(&state.join("sources.list"), sources.as_bytes())?;
    write_if_different(&state.join("status"), b"")?;

    say(&format!("vm: fetching Debian's kernel {series}"));
    run_quietly(apt("apt-get", &state).args(["update"]))
        .context("cannot read Debian's package lists")?;
    let mut candidates = candidates(series, &state)?;
    // A list may name a version that the mirror no longer has: the next older one will do.
    let mut problem = format!("Debian offers no cloud kernel {series}");
    while let Some(package) = candidates.pop() {
        let downloads = state.join("deb").join(series);
        let _ = fs::remove_dir_all(&downloads);
        fs::create_dir_all(&downloads)?;
        let mut command = apt("apt-get", &state);
        command.args(["download", &package]).current_dir(&downloads);
        match output_of(&mut command) {
            Ok(_) => return unpack(&downloads, folder),
            Err(error) => problem = format!("{error:#}"),
        }
    }
    bail!("{problem}")
}

/// Names of the packages of `series`, oldest first.
fn candidates(series: &str, state: &Path) -> Result<Vec<String>> {
    let pattern = format!(
        "^linux-image-{}\\..*-cloud-amd64-unsigned$",
        series.replace('.', "\\.")
    );
    let list = output_of(apt("apt-cache", state).args(["search", "--names-only", &pattern]))?;
    let mut names: Vec<String> = list
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        // Another release's kernel, rebuilt; it would be as good, but is not what is named.
        .filter(|name| !name.contains(".deb"))
        .map(str::to_owned)
        .collect();
    names.sort_by_key(|name| numbers(name));
    Ok(names)
}

/// The numbers in a name, for an order in which 43 is before 5 times ten.
fn numbers(name: &str) -> Vec<u64> {
    name.split(|character: char| !character.is_ascii_digit())
        .filter_map(|number| number.parse().ok())
        .collect()
}

/// Takes the image out of the one package in `downloads`.
fn unpack(downloads: &Path, folder: &Path) -> Result<()> {
    let package = fs::read_dir(downloads)?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .context("apt-get download left no package")?;
    let tree = downloads.join("tree");
    run_quietly(Command::new("dpkg").arg("-x").arg(&package).arg(&tree))?;
    fs::create_dir_all(folder)?;
    for entry in fs::read_dir(tree.join("boot"))?.flatten() {
        if entry.file_name().to_string_lossy().starts_with("vmlinuz-") {
            fs::copy(entry.path(), folder.join(entry.file_name()))?;
        }
    }
    // The modules are large, and everything that is needed is in the image.
    fs::remove_dir_all(downloads)?;
    Ok(())
}

/// apt with our sources and state; how to reach the mirror is still the system's configuration.
fn apt(program: &str, state: &Path) -> Command {
    let mut command = Command::new(program);
    let set = |command: &mut Command, key: &str, value: &Path| {
        command.arg("-o").arg(format!("{key}={}", value.display()));
    };
    set(&mut command, "Dir::State", state);
    set(&mut command, "Dir::State::lists", &state.join("lists"));
    set(&mut command, "Dir::State::status", &state.join("status"));
    set(&mut command, "Dir::Cache", &state.join("cache"));
    set(
        &mut command,
        "Dir::Etc::sourcelist",
        &state.join("sources.list"),
    );
    command.args([
        "-o",
        "Dir::Etc::sourceparts=-",
        "-o",
        "Acquire::Languages=none",
    ]);
    // Old suites are no longer signed anew.
    command.args(["-o", "Acquire::Check-Valid-Until=false"]);
    // As the sandbox user it could not write into our folders.
    command.args(["-o", "APT::Sandbox::User=root"]);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_in_numeric_order() {
        let mut names = [
            "linux-image-6.12.100+deb12-cloud-amd64-unsigned",
            "linux-image-6.12.9+deb12-cloud-amd64-unsigned",
            "linux-image-6.12.95+deb12-cloud-amd64-unsigned",
        ];
        names.sort_by_key(|name| numbers(name));
        let order: Vec<u64> = names.iter().map(|name| numbers(name)[2]).collect();
        assert_eq!(order, [9, 95, 100]);
    }
}
