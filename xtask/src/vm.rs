//! `cargo xtask vm`: the same daemon and a real exchange on a matrix of kernels under QEMU.

mod initramfs;
mod kernel;
mod machine;

use std::time::Instant;

use anyhow::{Result, bail};

use crate::{
    build, setup,
    workspace::{cargo, run as run_command, say, target},
};
use kernel::Kernel;
use machine::{Outcome, boot};

/// Options of `vm`.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Options {
    /// Run only on kernels of this version: `5.10`, `6.1`, `6.12`
    #[arg(long)]
    kernel: Option<String>,
    /// Only boot and exchange, without the observer: checks the machinery itself
    #[arg(long)]
    boot_only: bool,
    /// Show what the machine prints
    #[arg(long)]
    verbose: bool,
}

/// One line of the matrix.
struct Case {
    /// Series of the kernel, `6.1`.
    series: &'static str,
    /// What to add to the kernel's command line.
    parameters: &'static str,
}

/// The oldest kernel that is supported, the long-term ones after it, and lockdown.
const MATRIX: &[Case] = &[
    Case {
        series: "5.10",
        parameters: "",
    },
    Case {
        series: "6.1",
        parameters: "",
    },
    Case {
        series: "6.12",
        parameters: "",
    },
    Case {
        series: "6.12",
        parameters: "lockdown=confidentiality",
    },
];

/// Target of the daemon that is linked statically: no library has to go along.
const STATIC_TARGET: &str = "x86_64-unknown-linux-gnu";

/// Boots every kernel of the matrix, one after the other, and fails unless all pass.
pub(crate) fn run(options: &Options) -> Result<()> {
    if std::env::consts::ARCH != "x86_64" {
        say("vm: the kernel matrix is for x86_64 only and does not run here");
        return Ok(());
    }
    setup::for_vm()?;
    let observer = if options.boot_only {
        None
    } else {
        Some(static_daemon()?)
    };
    let initramfs = initramfs::build(observer.as_deref())?;
    let cases: Vec<&Case> = MATRIX
        .iter()
        .filter(|case| {
            options
                .kernel
                .as_deref()
                .is_none_or(|series| series == case.series)
        })
        .collect();
    if cases.is_empty() {
        bail!("no such kernel in the matrix");
    }
    let mut table = Vec::new();
    for case in cases {
        let started = Instant::now();
        let outcome = Kernel::fetch(case.series)
            .and_then(|kernel| boot(&kernel, &initramfs, case.parameters, options.verbose))
            .unwrap_or_else(|error| Outcome::Failed(format!("{error:#}")));
        let seconds = started.elapsed().as_secs();
        let row = format!(
            "{:<6} {:<26} {seconds:>4} s  {outcome}",
            case.series, case.parameters
        );
        say(&format!("vm: {row}"));
        table.push((outcome, row));
    }
    let failed = table
        .iter()
        .filter(|(outcome, _)| !outcome.passed())
        .count();
    say("vm: kernel matrix");
    for (_, row) in &table {
        say(&format!("vm:   {row}"));
    }
    if failed > 0 {
        bail!(
            "{failed} of {} kernels failed (logs are in target/vm/log)",
            table.len()
        );
    }
    Ok(())
}

/// Builds the daemon so that it runs on nothing but a kernel.
fn static_daemon() -> Result<std::path::PathBuf> {
    build::kernel_programs()?;
    let mut command = cargo();
    command
        .args([
            "build",
            "--quiet",
            "--locked",
            "--package",
            "observer",
            "--profile",
            "vm",
        ])
        // Named, so that the flags are not for build scripts and procedural macros too.
        .args(["--target", STATIC_TARGET])
        .env(
            "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS",
            "-Ctarget-feature=+crt-static",
        )
        .env_remove("RUSTFLAGS");
    run_command(&mut command)?;
    Ok(target(&format!("{STATIC_TARGET}/vm/observer")))
}
