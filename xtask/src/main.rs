//! Developer commands; each is one file.

mod bench;
mod build;
mod dashboards;
mod image;
mod lint;
mod manifests;
mod run;
mod setup;
mod test;
mod tidy;
mod toolchain;
mod vm;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Developer commands of Observer.
///
/// `cargo xtask run` observes this host; `cargo xtask test` runs every test. Both set up what they
/// need first.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Install what is missing to build and test; says nothing when nothing is
    Setup(setup::Options),
    /// Build the kernel programs and the daemon: target/release/observer
    Build(build::Options),
    /// Build, then observe this host; arguments go to `observer agent`
    Run(run::Options),
    /// Set up everything, then run every test
    Test(test::Options),
    /// Check formatting and clippy's lints
    Lint(lint::Options),
    /// Check the rules of this repository
    Tidy(tidy::Options),
    /// Measure what observing costs: real servers and clients, observed and not, in turn
    Bench(bench::Options),
    /// Build the container image: target/image/observer.tar
    Image(image::Options),
    /// Write deploy/kubernetes from the chart
    Manifests(manifests::Options),
    /// Write dashboards, rules and Grafana's provisioning from the metric contract
    Dashboards(dashboards::Options),
    /// Run the daemon on a matrix of kernels under QEMU
    Vm(vm::Options),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Setup(options) => setup::run(&options),
        Command::Build(options) => build::run(&options),
        Command::Run(options) => run::run(options),
        Command::Test(options) => test::run(&options),
        Command::Lint(options) => lint::run(&options),
        Command::Tidy(options) => tidy::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Image(options) => image::run(&options),
        Command::Manifests(options) => manifests::run(&options),
        Command::Dashboards(options) => dashboards::run(&options),
        Command::Vm(options) => vm::run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
