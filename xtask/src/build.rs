//! `cargo xtask build`: the kernel programs and the daemon that carries them.

use anyhow::Result;

use crate::{
    setup,
    toolchain::Toolchain,
    workspace::{cargo, daemon, run as run_command, say},
};

/// Options of `build`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {}

/// Sets up what building needs, builds, and says where the result is.
pub(crate) fn run(_: &Options) -> Result<()> {
    setup::for_building()?;
    kernel_programs()?;
    release()?;
    say(&format!("{} is up to date", daemon().display()));
    Ok(())
}

/// Builds the object that every later build of the daemon embeds.
pub(crate) fn kernel_programs() -> Result<()> {
    Toolchain::detect()?.build_object()
}

/// Builds the release binary.
pub(crate) fn release() -> Result<()> {
    run_command(cargo().args(["build", "--release", "--locked", "--package", "observer"]))
}
