//! `cargo xtask image`: the static daemon as a container image, made without a container engine.

mod archive;
mod layout;
mod time;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    build, setup,
    workspace::{cargo, command, output_of, root, run as run_command, say, target},
};
use archive::Entry;
use layout::{Image, Platform};

/// Options of `image`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Name of the image, with registry and tag as wanted [default: observer:VERSION]
    #[arg(long, value_name = "NAME")]
    tag: Option<String>,
}

/// What the image says of itself.
const TITLE: &str = "Observer";
const DESCRIPTION: &str = "Observes the calls between services from the kernel, without sidecars";
const LICENSES: &str = "MIT OR Apache-2.0";

/// Users of the image: programs that look up who they are find something. The hub is `observer`.
const PASSWD: &str = "root:x:0:0:root:/:/sbin/nologin\n\
                      observer:x:65532:65532:observer:/:/sbin/nologin\n";
const GROUP: &str = "root:x:0:\nobserver:x:65532:\n";

/// Names come from `/etc/hosts`, where the kubelet writes its aliases, then from DNS.
const NSSWITCH: &str = "hosts: files dns\n";

/// Builds the daemon and writes the image.
pub(crate) fn run(options: &Options) -> Result<()> {
    setup::for_building()?;
    let platform = Platform::of(std::env::consts::ARCH)?;
    let binary = static_daemon()?;
    let name = match &options.tag {
        Some(tag) => tag.clone(),
        None => format!("observer:{}", env!("CARGO_PKG_VERSION")),
    };
    let created = time::source_date()?;
    let image = Image {
        name,
        platform,
        created: time::rfc3339(created),
        labels: labels(),
        entries: entries(&binary)?,
        modified: created,
    };
    let folder = target("image");
    let written = layout::write(&image, &folder)?;
    unpack(&image.entries, &folder.join("root"))?;
    say(&format!(
        "{} ({:.1} MB, {}) and {}",
        folder.join("observer.tar").display(),
        written.archive_bytes as f64 / 1e6,
        written.manifest,
        folder.join("oci").display(),
    ));
    say(
        "`docker load -i`, `podman load -i`, `ctr -n k8s.io images import` or `skopeo copy` take it",
    );
    Ok(())
}

/// Builds the daemon so that it runs on nothing but a kernel.
fn static_daemon() -> Result<PathBuf> {
    build::kernel_programs()?;
    let target_name = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let variable = format!(
        "CARGO_TARGET_{}_RUSTFLAGS",
        target_name.replace('-', "_").to_uppercase()
    );
    run_command(
        cargo()
            .args(["build", "--release", "--locked", "--package", "observer"])
            // Named, so that the flags are not for build scripts and procedural macros too.
            .args(["--target", &target_name])
            .env(variable, "-Ctarget-feature=+crt-static")
            // Names of functions stay, for the trace of a panic.
            .env("CARGO_PROFILE_RELEASE_STRIP", "debuginfo")
            .env_remove("RUSTFLAGS"),
    )?;
    let binary = target(&format!("{target_name}/release/observer"));
    let content = fs::read(&binary).with_context(|| format!("cannot read {}", binary.display()))?;
    ensure!(
        !has_interpreter(&content)?,
        "{} is not linked statically, and the image has no libraries",
        binary.display()
    );
    Ok(binary)
}

/// Whether an ELF program of 64 bits, little endian, asks for a dynamic linker (`PT_INTERP`).
fn has_interpreter(program: &[u8]) -> Result<bool> {
    const PT_INTERP: u64 = 3;
    let number = |at: usize, length: usize| -> Result<u64> {
        let bytes = at
            .checked_add(length)
            .and_then(|end| program.get(at..end))
            .context("the program is cut off")?;
        Ok(bytes
            .iter()
            .rev()
            .fold(0, |number, byte| number << 8 | u64::from(*byte)))
    };
    ensure!(
        program.starts_with(b"\x7fELF\x02\x01"),
        "not a program of 64 bits, little endian"
    );
    let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    for index in 0..count {
        let at = usize::try_from(table + index * size).context("the program is too large")?;
        if number(at, 4)? == PT_INTERP {
            return Ok(true);
        }
    }
    Ok(false)
}

fn entries(binary: &Path) -> Result<Vec<Entry>> {
    let read =
        |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    Ok(vec![
        Entry::folder("etc"),
        Entry::file("etc/group", 0o644, GROUP.into()),
        Entry::file("etc/nsswitch.conf", 0o644, NSSWITCH.into()),
        Entry::file("etc/passwd", 0o644, PASSWD.into()),
        Entry::folder("licenses"),
        Entry::file(
            "licenses/LICENSE-APACHE",
            0o644,
            read(&root().join("LICENSE-APACHE"))?,
        ),
        Entry::file(
            "licenses/LICENSE-MIT",
            0o644,
            read(&root().join("LICENSE-MIT"))?,
        ),
        Entry::file("observer", 0o755, read(binary)?),
    ])
}

/// The labels of the image, by the keys of the OCI specification.
fn labels() -> Vec<(String, String)> {
    let mut labels = vec![
        ("description", DESCRIPTION.to_owned()),
        ("licenses", LICENSES.to_owned()),
        ("title", TITLE.to_owned()),
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
    ];
    // A source without its history has no revision.
    if let Ok(revision) = output_of(command("git").args(["rev-parse", "HEAD"])) {
        let clean = output_of(command("git").args(["status", "--porcelain"]))
            .is_ok_and(|changes| changes.is_empty());
        let suffix = if clean { "" } else { "-changed" };
        labels.push(("revision", format!("{revision}{suffix}")));
    }
    labels
        .into_iter()
        .map(|(key, value)| (format!("org.opencontainers.image.{key}"), value))
        .collect()
}

/// Writes the files of the image below `folder`, for `deploy/Dockerfile` and for looking.
fn unpack(entries: &[Entry], folder: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot clear {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for entry in entries {
        let path = folder.join(&entry.path);
        match &entry.content {
            None => fs::create_dir_all(&path),
            Some(content) => fs::write(&path, content)
                .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(entry.mode))),
        }
        .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

// === impl Platform ===

impl Platform {
    /// The platform of a machine, as Rust names it.
    fn of(machine: &str) -> Result<Self> {
        // The names of Go, by the OCI specification.
        let architecture = match machine {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => bail!("no image can be made for machines of type {other}"),
        };
        Ok(Self { architecture })
    }
}

#[cfg(test)]
mod tests;
