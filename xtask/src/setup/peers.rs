//! Peers of the tests that no package has: Python's and Go's, Envoy and rotel, below `target/tools`.

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    time::SystemTime,
};

use anyhow::{Context, Result, bail};

use super::{install, is_installed};
use crate::workspace::{find, output_of, root, run_quietly, say, target, write_if_different};

/// Debian's interpreter, as the tests use it: a version manager's would come and go.
const PYTHON: &str = "/usr/bin/python3";

/// Programs that come in packages of Python: what they are called below `target/tools`, and where
/// each is, as a package and a path in it. Their starters would be processes of Python first.
const PACKAGED: [(&str, &str, &str); 2] = [
    ("envoy", "envoy", "_bin/envoy"),
    ("rotel", "rotel", "rotel-agent"),
];

/// Gets what is missing. What cannot be had is named, and the tests that need it say so again.
pub(super) fn complete() {
    for (what, done) in [
        ("Python's peers, Envoy and rotel", python()),
        ("the Go peer", go()),
        ("a Kubernetes API server", super::kubernetes::complete()),
    ] {
        if let Err(error) = done {
            say(&format!("without {what}: {error:#}"));
        }
    }
}

/// A virtual environment with what `tests/peers/requirements.txt` names.
fn python() -> Result<()> {
    let requirements = root().join("tests/peers/requirements.txt");
    let text = fs::read(&requirements)
        .with_context(|| format!("cannot read {}", requirements.display()))?;
    let folder = target("tools/python");
    // Written when all else is done.
    let done = folder.join("requirements.txt");
    let mut programs = PACKAGED.iter().map(|(name, ..)| tool(name));
    if fs::read(&done).is_ok_and(|old| old == text) && programs.all(|path| path.exists()) {
        return Ok(());
    }
    if !Path::new(PYTHON).exists() || !is_installed("python3-venv") {
        install(
            "Python's virtual environments",
            &["python3", "python3-venv"],
        )?;
    }
    say("installing Python's peers, Envoy and rotel");
    if folder.exists() {
        fs::remove_dir_all(&folder)
            .with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    run_quietly(Command::new(PYTHON).args(["-m", "venv"]).arg(&folder))?;
    let mut pip = Command::new(folder.join("bin/python"));
    pip.args(["-m", "pip", "--quiet", "--disable-pip-version-check"]);
    // Built from source they would take a compiler, and long.
    pip.args(["install", "--no-cache-dir", "--only-binary=:all:", "-r"]);
    run_quietly(pip.arg(&requirements))?;
    for (name, package, path) in PACKAGED {
        let link = tool(name);
        match fs::remove_file(&link) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", link.display()));
            }
            _ => {}
        }
        symlink(packaged(&folder, package, path)?, &link)
            .with_context(|| format!("cannot make {}", link.display()))?;
    }
    write_if_different(&done, &text).map(drop)
}

/// Where a program of [`PACKAGED`] is linked.
fn tool(name: &str) -> PathBuf {
    target("tools").join(name)
}

/// The file `path` of a package of the environment in `folder`.
fn packaged(folder: &Path, package: &str, path: &str) -> Result<PathBuf> {
    let mut python = Command::new(folder.join("bin/python"));
    python.args([
        "-c",
        &format!("import {package}; print({package}.__path__[0])"),
    ]);
    let program = Path::new(&output_of(&mut python)?).join(path);
    if !program.is_file() {
        bail!("{} is not there", program.display());
    }
    Ok(program)
}

/// The program of `tests/peers/go`, built again when its source is newer.
fn go() -> Result<()> {
    let folder = root().join("tests/peers/go");
    let program = target("tools/go-peers");
    if let Ok(built) = program.metadata().and_then(|about| about.modified())
        && newest(&folder)? <= built
    {
        return Ok(());
    }
    if find("go").is_none() {
        install("Go's compiler", &["golang-go"])?;
    }
    let go = find("go").context("there is no go in PATH")?;
    say("building the Go peer");
    let mut build = Command::new(go);
    build
        .current_dir(&folder)
        .args(["build", "-buildvcs=false"]);
    run_quietly(build.arg("-o").arg(&program).arg("."))?;
    // The linker leaves a program that has not changed as old as it was.
    fs::File::open(&program)
        .and_then(|file| file.set_modified(SystemTime::now()))
        .with_context(|| format!("cannot date {}", program.display()))
}

/// When the last change of a file in `folder` was.
fn newest(folder: &Path) -> Result<SystemTime> {
    let mut newest = SystemTime::UNIX_EPOCH;
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        newest = newest.max(entry?.metadata()?.modified()?);
    }
    Ok(newest)
}
