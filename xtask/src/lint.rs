//! `cargo xtask lint`: formatting and clippy, warnings included.

use anyhow::Result;

use crate::workspace::{cargo, run as run_command};

/// Options of `lint`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {}

/// Fails unless everything is formatted and without warnings.
pub(crate) fn run(_: &Options) -> Result<()> {
    run_command(cargo().args(["fmt", "--all", "--check"]))?;
    run_command(
        cargo()
            .args([
                "clippy",
                "--quiet",
                "--workspace",
                "--all-targets",
                "--locked",
            ])
            .args(["--", "-D", "warnings"]),
    )
}
