//! nginx, as the benchmark wants it: a worker for each core, and room for many connections.

use std::{
    fs::{self, File},
    net::{SocketAddr, TcpStream},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use observer_tests::{
    place::Place,
    process::Process,
    wait::{self, PATIENCE},
};
use tempfile::TempDir;

use super::usage;

const CONFIGURATION: &str = include_str!("nginx.conf");

/// A running nginx on 127.0.0.1.
pub(super) struct Server {
    process: Process,
    address: SocketAddr,
    folder: TempDir,
}

// === impl Server ===

impl Server {
    /// Starts it in `place` and waits until it listens.
    pub(super) fn start(place: &Place<'_>) -> Result<Self> {
        let folder = tempfile::tempdir().context("make a folder")?;
        let port = place.free_port()?;
        let root = folder.path().join("www");
        fs::create_dir(&root).context("make a folder")?;
        // Files with holes: they have a size and take no room.
        for (name, size) in [("64k", 64 << 10), ("10m", 10 << 20)] {
            File::create(root.join(name))
                .and_then(|file| file.set_len(size))
                .with_context(|| format!("make the file {name}"))?;
        }
        let text = CONFIGURATION
            .replace("@FOLDER@", &folder.path().display().to_string())
            .replace("@PORT@", &port.to_string());
        let configuration = folder.path().join("nginx.conf");
        fs::write(&configuration, text).context("write nginx's configuration")?;
        let log = File::create(folder.path().join("log")).context("make a log")?;
        let mut command = place.command("nginx")?;
        command.arg("-p").arg(folder.path());
        command.arg("-e").arg(folder.path().join("error.log"));
        command.arg("-c").arg(configuration);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let process = Process::spawn(command.stderr(log))?;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut server = Self {
            process,
            address,
            folder,
        };
        wait::until("nginx to listen", PATIENCE, || {
            if let Some(status) = server.process.ended()? {
                let log = fs::read_to_string(server.folder.path().join("log"))?;
                bail!("nginx ended with {status}: {log}");
            }
            Ok(TcpStream::connect(address).ok().map(drop))
        })?;
        Ok(server)
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// CPU time of its workers since they started.
    pub(super) fn cpu(&self) -> Result<Duration> {
        let mut total = Duration::ZERO;
        for worker in usage::children(self.process.id())? {
            total += usage::cpu(worker)?;
        }
        Ok(total)
    }
}
