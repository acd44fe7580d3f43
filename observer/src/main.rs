//! The `observer` program: reads the command line, runs one command, tells how it ended.

use std::{io, process::ExitCode};

use clap::Parser;
use observer::{
    app,
    capture::object,
    cli::{
        self,
        arguments::{AgentArguments, Arguments, Command, ConfigCommand, HubArguments},
    },
    config::Config,
};

fn main() -> ExitCode {
    let out = &mut io::stdout();
    let result = match Arguments::parse().command {
        Command::Agent(arguments) => agent(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Hub(arguments) => hub(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Flows(arguments) => {
            cli::flows::run((*arguments).into()).map(|()| ExitCode::SUCCESS)
        }
        Command::Top(arguments) => cli::top::run(arguments.into()).map(|()| ExitCode::SUCCESS),
        Command::Graph(arguments) => cli::graph::run(&arguments.into()).map(|()| ExitCode::SUCCESS),
        Command::Findings(arguments) => cli::findings::run(&(*arguments).into()),
        Command::Mesh(arguments) => {
            cli::mesh::run(&(*arguments).into()).map(|()| ExitCode::SUCCESS)
        }
        Command::Doctor(arguments) => {
            let check: cli::doctor::CaptureCheck = app::check;
            let kubernetes: cli::doctor::KubernetesCheck = app::kubernetes::check;
            let embedded = object::embedded().is_ok();
            cli::doctor::run(&arguments, embedded, Some(check), kubernetes, out)
        }
        Command::Config(ConfigCommand::Check { file }) => {
            cli::config::check(&file, out).map(|()| ExitCode::SUCCESS)
        }
    };
    result.unwrap_or_else(|error| match error.downcast_ref::<io::Error>() {
        // Whoever read our output has had enough, as `head` has.
        Some(cause) if cause.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        _ => {
            eprintln!("observer: {error:#}");
            ExitCode::FAILURE
        }
    })
}

fn agent(arguments: &AgentArguments) -> anyhow::Result<()> {
    let load = || {
        let environment = |name: &str| std::env::var(name).ok();
        Config::load(
            arguments.config.as_deref(),
            &arguments.flags(),
            &environment,
        )
    };
    app::run(load()?, load)
}

fn hub(arguments: &HubArguments) -> anyhow::Result<()> {
    let environment = |name: &str| std::env::var(name).ok();
    let config = Config::load(
        arguments.config.as_deref(),
        &arguments.flags(),
        &environment,
    )?;
    app::hub::run(&config)
}
