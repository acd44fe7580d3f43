//! The servers of the benchmark: nginx with a worker for each core and room for many connections,
//! and the Go peer for gRPC.

use std::{
    fs::{self, File},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use observer_tests::{
    peers,
    place::Place,
    process::Process,
    wait::{self, PATIENCE},
};
use tempfile::TempDir;

use super::{scenario::Tool, usage};

const CONFIGURATION: &str = include_str!("nginx.conf");

/// A running server on 127.0.0.1.
pub(super) struct Server {
    process: Process,
    address: SocketAddr,
    folder: TempDir,
    /// Whether its children do the work, as nginx's do.
    has_workers: bool,
}

/// A command that starts nginx with its files in `folder`.
fn nginx(place: &Place<'_>, folder: &Path, port: u16, http: &str) -> Result<Command> {
    let root = folder.join("www");
    fs::create_dir(&root).context("make a folder")?;
    // Files with holes: they have a size and take no room.
    for (name, size) in [("64k", 64 << 10), ("10m", 10 << 20)] {
        File::create(root.join(name))
            .and_then(|file| file.set_len(size))
            .with_context(|| format!("make the file {name}"))?;
    }
    let text = CONFIGURATION
        .replace("@FOLDER@", &folder.display().to_string())
        .replace("@HTTP@", http)
        .replace("@PORT@", &port.to_string());
    let configuration = folder.join("nginx.conf");
    fs::write(&configuration, text).context("write nginx's configuration")?;
    let mut command = place.command("nginx")?;
    command.arg("-p").arg(folder);
    command.arg("-e").arg(folder.join("error.log"));
    command.arg("-c").arg(configuration);
    Ok(command)
}

// === impl Server ===

impl Server {
    /// Starts the one for `tool` in `place` and waits until it listens.
    pub(super) fn start(place: &Place<'_>, tool: Tool) -> Result<Self> {
        let folder = tempfile::tempdir().context("make a folder")?;
        let port = place.free_port()?;
        let mut command = match tool {
            Tool::Wrk => nginx(place, folder.path(), port, "")?,
            Tool::H2load => nginx(place, folder.path(), port, "http2")?,
            Tool::Go => {
                let address = format!("127.0.0.1:{port}");
                peers::go(place, &["grpc-serve", "-listen", &address])?
            }
        };
        let log = File::create(folder.path().join("log")).context("make a log")?;
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let process = Process::spawn(command.stderr(log))?;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut server = Self {
            process,
            address,
            folder,
            has_workers: tool != Tool::Go,
        };
        wait::until("a server to listen", PATIENCE, || {
            if let Some(status) = server.process.ended()? {
                let log = fs::read_to_string(server.folder.path().join("log"))?;
                bail!("the server ended with {status}: {log}");
            }
            Ok(TcpStream::connect(address).ok().map(drop))
        })?;
        Ok(server)
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// CPU time of what does its work since that started.
    pub(super) fn cpu(&self) -> Result<Duration> {
        if !self.has_workers {
            return usage::cpu(self.process.id());
        }
        let mut total = Duration::ZERO;
        for worker in usage::children(self.process.id())? {
            total += usage::cpu(worker)?;
        }
        Ok(total)
    }
}
