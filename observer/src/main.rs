//! The `observer` program: reads the command line, runs one command, tells how it ended.

use std::{io, process::ExitCode};

use clap::Parser;
use observer::{
    app,
    capture::object,
    cli::{
        self,
        arguments::{AgentArguments, Arguments, Command, ConfigCommand},
    },
    config::Config,
};

fn main() -> ExitCode {
    let out = &mut io::stdout();
    let result = match Arguments::parse().command {
        Command::Agent(arguments) => agent(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Flows(_) => Err(anyhow::anyhow!("`observer flows` is not connected yet")),
        Command::Top(_) => Err(anyhow::anyhow!("`observer top` is not connected yet")),
        Command::Doctor(arguments) => {
            cli::doctor::run(&arguments, object::embedded().is_ok(), None, out)
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
    let environment = |name: &str| std::env::var(name).ok();
    let config = Config::load(
        arguments.config.as_deref(),
        &arguments.flags(),
        &environment,
    )?;
    app::run(config)
}
