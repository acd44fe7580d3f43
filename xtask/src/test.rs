//! `cargo xtask test`: sets up everything and runs every test there is.

use anyhow::Result;

use crate::{
    build, lint, setup, vm,
    workspace::{cargo, daemon, is_root, run as run_command, say},
};

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
    let mut tests = cargo();
    tests.args(["test", "--workspace", "--locked", "--no-fail-fast"]);
    tests.env("OBSERVER_BIN", daemon());
    if std::env::var_os("KUBEBUILDER_ASSETS").is_none() && setup::kubernetes::is_there() {
        tests.env("KUBEBUILDER_ASSETS", setup::kubernetes::folder());
    }
    if is_root() {
        // Everything they need is set up now: a test that cannot run here has failed.
        tests.env("OBSERVER_TESTS_REQUIRE", "1");
    }
    tests.args(&options.filter);
    run_command(&mut tests)?;
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
