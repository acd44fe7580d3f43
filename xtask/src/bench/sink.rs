//! A collector that costs as little as one can: it reads requests of OTLP over HTTP and forgets them.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Command, Stdio},
    thread::{self, sleep},
    time::Duration,
};

use anyhow::{Context, Result};
use observer_tests::{http, process::Process};

use super::usage;

/// A running sink, a process of its own: its CPU time is its own too.
pub(super) struct Sink {
    process: Process,
    address: SocketAddr,
}

/// Most bytes of a request's head.
const MOST_HEAD: u64 = 16 << 10;

/// What the process does: answers every request after `delay`, until its standard input ends.
pub(super) fn serve(delay: Duration) -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("listen")?;
    let mut stdout = io::stdout();
    writeln!(stdout, "{}", listener.local_addr()?)?;
    stdout.flush()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that goes away is no error.
            thread::spawn(move || answer(&stream, delay));
        }
    });
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn answer(stream: &TcpStream, delay: Duration) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::with_capacity(64 << 10, stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if (&mut reader).take(MOST_HEAD).read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        let length = http::content_length(&head).context("a request without a length")?;
        io::copy(&mut (&mut reader).take(length as u64), &mut io::sink())?;
        sleep(delay);
        let mut writer = stream;
        writer.write_all(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n",
        )?;
    }
}

// === impl Sink ===

impl Sink {
    /// Starts one that answers after `delay`.
    pub(super) fn start(delay: Duration) -> Result<Self> {
        let ourselves = std::env::current_exe().context("find this program")?;
        let mut command = Command::new(ourselves);
        command.args(["bench", "--sink", &delay.as_millis().to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Process::spawn(&mut command)?;
        let stdout = process.child().stdout.take().context("a sink's output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let address = line.trim().parse().context("the sink tells no address")?;
        Ok(Self { process, address })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// CPU time since it started.
    pub(super) fn cpu(&self) -> Result<Duration> {
        usage::cpu(self.process.id())
    }
}
