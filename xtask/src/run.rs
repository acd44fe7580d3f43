//! `cargo xtask run`: builds the daemon and becomes it.

use std::{ffi::OsString, os::unix::process::CommandExt};

use anyhow::{Context, Result};

use crate::{
    build, setup,
    workspace::{command, daemon},
};

/// Options of `run`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Arguments of `observer agent`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Sets up what building needs, builds, and runs `observer agent`.
pub(crate) fn run(options: Options) -> Result<()> {
    setup::for_building()?;
    build::kernel_programs()?;
    build::release()?;
    // Signals then reach the daemon itself, and its exit code is ours.
    let error = command(daemon())
        .arg("agent")
        .args(options.arguments)
        .exec();
    Err(error).with_context(|| format!("cannot run {}", daemon().display()))
}
