//! `cargo xtask test`: sets up everything and runs every test there is.

use std::{ffi::OsStr, fs, process::Command};

use anyhow::{Context, Result, bail};

use crate::{
    build, lint, setup, vm,
    workspace::{cargo, daemon, is_root, root, run as run_command, say},
};

/// Begins the names of test programs whose scenes mostly wait, so that more than one for each CPU may
/// run at once.
const WAITING: &str = "mesh_";
/// How many of those run at once.
const SCENES: &str = "4";

/// Options of `test`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Leave out the matrix of kernels under QEMU
    #[arg(long)]
    no_vm: bool,
    /// Run only tests whose name contains this; then neither lints nor the kernel matrix
    filter: Option<String>,
}

/// Runs the tests of all packages, the repository's rules among them, then lints, then the kernel
/// matrix; the first failure ends it.
pub(crate) fn run(options: &Options) -> Result<()> {
    setup::for_testing()?;
    build::kernel_programs()?;
    build::release()?;
    if !is_root() {
        say("not root: tests that load the kernel programs say why they do not run");
    }
    let (waiting, others) = programs()?;
    let libraries = ["--workspace", "--lib", "--bins"];
    let package = ["--package", "observer-tests"];
    let scenes = ["--test-threads", SCENES];
    // What fails does not keep the rest from running.
    let results = [
        run_tests(options, &[&libraries[..], &selected(&others)].concat(), &[]),
        run_tests(
            options,
            &[&package[..], &selected(&waiting)].concat(),
            &scenes,
        ),
        run_tests(options, &["--workspace", "--doc"], &[]),
    ];
    results.into_iter().collect::<Result<()>>()?;
    if options.filter.is_some() {
        return Ok(());
    }
    lint::run(&lint::Options {})?;
    if !options.no_vm {
        vm::run(&vm::Options::default())?;
    }
    say("every test passed");
    Ok(())
}

/// The test programs of all packages: those that mostly wait, and the others.
fn programs() -> Result<(Vec<String>, Vec<String>)> {
    let mut names = Vec::new();
    for folder in ["observer/tests", "tests"] {
        let folder = root().join(folder);
        for entry in fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
            let path = entry?.path();
            if path.extension() == Some(OsStr::new("rs"))
                && let Some(name) = path.file_stem().and_then(OsStr::to_str)
            {
                names.push(name.to_owned());
            }
        }
    }
    names.sort();
    let (waiting, others): (Vec<_>, Vec<_>) =
        (names.into_iter()).partition(|name| name.starts_with(WAITING));
    if waiting.is_empty() || others.is_empty() {
        bail!("no test program that begins with {WAITING:?}, or no other");
    }
    Ok((waiting, others))
}

/// Arguments of cargo(1) that select test programs.
fn selected(names: &[String]) -> Vec<&str> {
    names.iter().flat_map(|name| ["--test", name]).collect()
}

fn run_tests(options: &Options, selection: &[&str], more: &[&str]) -> Result<()> {
    let mut tests: Command = cargo();
    tests.args(["test", "--locked", "--no-fail-fast"]);
    tests.args(selection);
    tests.env("OBSERVER_BIN", daemon());
    if std::env::var_os("KUBEBUILDER_ASSETS").is_none() && setup::kubernetes::is_there() {
        tests.env("KUBEBUILDER_ASSETS", setup::kubernetes::folder());
    }
    if is_root() {
        // Everything they need is set up now: a test that cannot run here has failed.
        tests.env("OBSERVER_TESTS_REQUIRE", "1");
    }
    tests.arg("--").args(&options.filter).args(more);
    run_command(&mut tests)
}
