//! Peers that `cargo xtask setup` keeps below `target/tools`, and scripts below `tests/peers`.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
};

use anyhow::{Context, Result, ensure};

use crate::{place::Place, process, process::Process, tally::Tally, wait::PATIENCE};

/// A kind of peer that not every machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Python with grpcio, h2 and the messages of OpenTelemetry.
    Python,
    /// Envoy.
    Envoy,
    /// rotel, a collector of OpenTelemetry.
    Rotel,
    /// The program of `tests/peers/go`.
    Go,
}

/// A client that stays, and does one batch of work for each line it is told.
#[derive(Debug)]
pub struct Phases {
    process: Process,
    lines: mpsc::Receiver<String>,
}

/// Full path of a script below `tests/peers`.
pub fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("peers")
        .join(name)
}

/// A command that runs `script` of `tests/peers` by the Python of [`Peer::Python`] in `place`.
pub fn python(place: &Place<'_>, name: &str, arguments: &[&str]) -> Result<Command> {
    let mut command = place.command(&Peer::Python.program().display().to_string())?;
    command.arg("-B").arg(script(name)).args(arguments);
    Ok(command)
}

/// A command that runs `script` of `tests/peers` by Node in `place`.
pub fn node(place: &Place<'_>, name: &str, arguments: &[&str]) -> Result<Command> {
    let mut command = place.command("node")?;
    command.arg(script(name)).args(arguments);
    Ok(command)
}

/// A command that runs the Go peer in `place`.
pub fn go(place: &Place<'_>, arguments: &[&str]) -> Result<Command> {
    let mut command = place.command(&Peer::Go.program().display().to_string())?;
    command.args(arguments);
    Ok(command)
}

/// Runs a client to its end, and reads what it counted.
pub fn count(command: &mut Command) -> Result<Tally> {
    Tally::parse(&process::check(command)?)
}

// === impl Peer ===

impl Peer {
    /// Its program, whether or not it is there.
    pub fn program(self) -> PathBuf {
        let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools");
        tools.join(match self {
            Self::Python => "python/bin/python",
            Self::Envoy => "envoy",
            Self::Rotel => "rotel",
            Self::Go => "go-peers",
        })
    }
}

// === impl Phases ===

impl Phases {
    /// Starts it and waits until it has said `ready`.
    pub fn start(command: &mut Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Process::spawn(command)?;
        let output = process.child().stdout.take().context("no output")?;
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let phases = Self { process, lines };
        phases.hear("ready")?;
        Ok(phases)
    }

    /// Lets it do the phase `name` and waits for the end of that.
    pub fn run(&mut self, name: &str) -> Result<()> {
        let child: &mut Child = self.process.child();
        let input = child.stdin.as_mut().context("no input")?;
        writeln!(input, "{name}").context("tell a phase")?;
        self.hear(name)
    }

    /// Lets it end, and reads what it counted.
    pub fn finish(mut self) -> Result<Tally> {
        drop(self.process.child().stdin.take());
        let status = self.process.wait(PATIENCE)?;
        ensure!(status.success(), "a client ended with {status}");
        let lines: Vec<String> = self.lines.iter().collect();
        Tally::parse(&lines.join("\n"))
    }

    fn hear(&self, expected: &str) -> Result<()> {
        let line = self.lines.recv_timeout(3 * PATIENCE);
        let line = line.with_context(|| format!("waited for the client's {expected:?}"))?;
        ensure!(line == expected, "{line:?} instead of {expected:?}");
        Ok(())
    }
}
