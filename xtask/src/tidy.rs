//! `cargo xtask tidy`: the rules of this repository, as ordinary tests.

use anyhow::Result;

use crate::workspace::{cargo, run as run_command};

#[cfg(test)]
mod source;
#[cfg(test)]
mod tests;

/// Options of `tidy`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {}

/// Runs the tests of this module.
pub(crate) fn run(_: &Options) -> Result<()> {
    run_command(cargo().args([
        "test",
        "--quiet",
        "--locked",
        "--package",
        "xtask",
        "tidy::",
    ]))
}
