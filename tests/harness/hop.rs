//! Services that ask others before they answer, whose paths say which request caused which.

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{peers, place::Place, process, server::Server};

/// Starts services, and has what they wrote down.
#[derive(Debug)]
pub struct Services {
    folder: TempDir,
    next: AtomicU32,
}

/// A service: see `peers/hop.py`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spec<'a> {
    /// `service.name` that it tells by its environment, and its name in the journal.
    pub name: &'a str,
    /// Whom it asks before it answers: `http://ADDRESS` or `grpc://ADDRESS`.
    pub next: &'a [String],
    /// Whether it hands on `traceparent` as it came.
    pub forward: bool,
    /// Its connections to those: `thread`, `pool` or `new`; `thread` when empty.
    pub connect: &'a str,
    /// Whether other threads ask than the one that was asked.
    pub workers: bool,
}

/// A request that a service answered, as it wrote it down itself.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Handled {
    /// Which service.
    pub service: String,
    /// Path of the request.
    pub path: String,
    /// Paths of the requests that it made for that.
    pub calls: Vec<String>,
    /// `traceparent` of the request.
    pub traceparent: Option<String>,
    /// When it began, nanoseconds since 1970.
    pub started: u64,
    /// When it was answered.
    pub ended: u64,
}

/// A request that the client made.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Asked {
    /// Its path.
    pub path: String,
    /// The trace that it says it is part of, if it says so.
    pub trace: String,
    /// The span that it says it is part of.
    pub span: String,
    /// When it was begun, nanoseconds since 1970.
    pub started: u64,
    /// When it was answered.
    pub ended: u64,
}

/// Asks by `peers/hop.py ask` with these options, in `place`.
pub fn ask(place: &Place<'_>, options: &Value) -> Result<Vec<Asked>> {
    read(&process::check(&mut asking(place, options)?)?)
}

/// The command that asks so.
pub fn asking(place: &Place<'_>, options: &Value) -> Result<Command> {
    let mut command = peers::python(place, "hop.py", &["ask", &options.to_string()])?;
    command.env("OTEL_SERVICE_NAME", "caller");
    Ok(command)
}

/// Reads what that has printed.
pub fn read(printed: &str) -> Result<Vec<Asked>> {
    let lines = printed.lines();
    lines
        .map(|line| serde_json::from_str(line).context("what was asked"))
        .collect()
}

// === impl Spec ===

impl Spec<'_> {
    fn json(&self) -> String {
        let connect = if self.connect.is_empty() {
            "thread"
        } else {
            self.connect
        };
        json!({
            "name": self.name, "next": self.next, "forward": self.forward, "connect": connect,
            "workers": self.workers,
        })
        .to_string()
    }
}

// === impl Services ===

impl Services {
    /// None yet.
    pub fn new() -> Result<Self> {
        Ok(Self {
            folder: tempfile::tempdir().context("make a folder")?,
            next: AtomicU32::new(0),
        })
    }

    /// A service with a thread for each connection.
    pub fn python(&self, place: &Place<'_>, address: SocketAddr, spec: Spec<'_>) -> Result<Server> {
        let journal = self.journal().display().to_string();
        let arguments = ["serve", &address.to_string(), &journal, &spec.json()];
        let mut command = peers::python(place, "hop.py", &arguments)?;
        Self::start(place, address, &mut command, spec)
    }

    /// A service for gRPC, with a thread for each call.
    pub fn rpc(&self, place: &Place<'_>, address: SocketAddr, spec: Spec<'_>) -> Result<Server> {
        let journal = self.journal().display().to_string();
        let arguments = ["rpc", &address.to_string(), &journal, &spec.json()];
        let mut command = peers::python(place, "hop.py", &arguments)?;
        Self::start(place, address, &mut command, spec)
    }

    /// A service with one thread for everything.
    pub fn node(&self, place: &Place<'_>, address: SocketAddr, spec: Spec<'_>) -> Result<Server> {
        let journal = self.journal().display().to_string();
        let (host, port) = (address.ip().to_string(), address.port().to_string());
        let arguments = [host.as_str(), &port, &journal, &spec.json()];
        let mut command = peers::node(place, "hop.mjs", &arguments)?;
        Self::start(place, address, &mut command, spec)
    }

    /// nginx as a proxy in front of `next`, with a pool of connections: it asks for the path with
    /// `_0` behind it, and hands on all fields. It writes nothing down.
    pub fn nginx(place: &Place<'_>, address: SocketAddr, next: SocketAddr) -> Result<Server> {
        let mut command = place.command("nginx")?;
        command.env("OTEL_SERVICE_NAME", "front");
        Server::at(place, address, &mut command, |command, folder| {
            let text = fs::read_to_string(peers::script("hop.conf"))?
                .replace("@FOLDER@", &folder.display().to_string())
                .replace("@ADDRESS@", &address.to_string())
                .replace("@NEXT@", &next.to_string());
            let configuration = folder.join("nginx.conf");
            fs::write(&configuration, text)?;
            command
                .arg("-p")
                .arg(folder)
                .arg("-e")
                .arg(folder.join("error.log"));
            command.arg("-c").arg(configuration);
            Ok(())
        })
    }

    /// What the services wrote down.
    pub fn handled(&self) -> Result<Vec<Handled>> {
        let mut handled = Vec::new();
        for entry in fs::read_dir(self.folder.path())? {
            for line in fs::read_to_string(entry?.path())?.lines() {
                handled.push(serde_json::from_str(line).context("what was handled")?);
            }
        }
        Ok(handled)
    }

    fn journal(&self) -> PathBuf {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.folder.path().join(number.to_string())
    }

    fn start(
        place: &Place<'_>,
        address: SocketAddr,
        command: &mut Command,
        spec: Spec<'_>,
    ) -> Result<Server> {
        command.env("OTEL_SERVICE_NAME", spec.name);
        Server::at(place, address, command, |_, _| Ok(()))
    }
}
