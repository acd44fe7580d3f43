//! rotel, a collector that others made: what it can read and pass on is OTLP.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::{
    collector::Collector,
    peers::Peer,
    process::Process,
    wait::{self, PATIENCE},
};

/// A running rotel that passes all it is sent on to another collector.
#[derive(Debug)]
pub struct Rotel {
    process: Process,
    grpc: SocketAddr,
    http: SocketAddr,
    folder: TempDir,
}

/// Whether an HTTP server answers: it may listen before it does.
fn answers(address: SocketAddr) -> bool {
    let answer = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: rotel\r\nConnection: close\r\n\r\n")?;
        let mut start = [0; 5];
        stream.read_exact(&mut start)?;
        Ok(start == *b"HTTP/")
    };
    answer().unwrap_or(false)
}

// === impl Rotel ===

impl Rotel {
    /// Starts one on 127.0.0.1 that passes on to `collector`, which must be without TLS.
    pub fn start(collector: &Collector) -> Result<Self> {
        // Both at once, so that they differ; free again before rotel binds them.
        let [grpc, http] = {
            let [grpc, http] = [(); 2].map(|()| TcpListener::bind(("127.0.0.1", 0)));
            [grpc?.local_addr()?, http?.local_addr()?]
        };
        let folder = tempfile::tempdir().context("make a folder")?;
        let mut command = Command::new(Peer::Rotel.program());
        // What is set for another one does not count here.
        command.env_clear().arg("start");
        command.args(["--otlp-grpc-endpoint", &grpc.to_string()]);
        command.args(["--otlp-http-endpoint", &http.to_string()]);
        command.args(["--exporter", "otlp", "--otlp-exporter-protocol", "http"]);
        command.args(["--otlp-exporter-endpoint", &collector.http()]);
        command.args(["--batch-timeout", "100ms"]);
        command.arg("--pid-file").arg(folder.path().join("pid"));
        let log = File::create(folder.path().join("log")).context("make a log")?;
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let mut rotel = Self {
            process: Process::spawn(&mut command)?,
            grpc,
            http,
            folder,
        };
        for address in [grpc, http] {
            wait::until("rotel to listen", PATIENCE, || {
                if let Some(status) = rotel.process.ended()? {
                    let log = std::fs::read_to_string(rotel.folder.path().join("log"))?;
                    bail!("rotel ended with {status}: {log}");
                }
                let ready = match address == http {
                    true => answers(address),
                    false => TcpStream::connect(address).is_ok(),
                };
                Ok(ready.then_some(()))
            })?;
        }
        Ok(rotel)
    }

    /// Its endpoint for gRPC.
    pub fn grpc(&self) -> String {
        format!("http://{}", self.grpc)
    }

    /// Its endpoint for HTTP, without a path.
    pub fn http(&self) -> String {
        format!("http://{}", self.http)
    }
}
