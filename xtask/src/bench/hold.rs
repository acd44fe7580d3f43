//! Many open connections without traffic: a small client that holds them, and what they cost.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    process::Stdio,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use observer_tests::{cgroup::Cgroup, http, place::Place, process::Process};

use super::{
    scenario::Tool,
    server::Server,
    watch::{Watch, Watched},
};
use crate::workspace::{command, run as run_command, say};

/// What open connections cost the observer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Held {
    /// Connections that were open.
    pub(super) connections: u64,
    /// Share of a core that it used before there were any, 0 to 1.
    pub(super) idle_without: f64,
    /// Share of a core that it used while they were open, 0 to 1.
    pub(super) idle_with: f64,
    /// The observer before there were any.
    pub(super) without: Watched,
    /// The observer while they were open.
    pub(super) with: Watched,
}

/// Connections that are held.
const CONNECTIONS: u64 = 10_000;
/// Files that a process has open besides its connections.
const OTHER_FILES: u64 = 200;
/// Before idling counts: what has begun is done by then.
const SETTLE: Duration = Duration::from_secs(2);

/// Measures the observer for `idle` without and with open connections.
pub(super) fn measure(
    cgroup: &Cgroup,
    configuration: Option<&str>,
    idle: Duration,
) -> Result<Held> {
    raise_file_limit(CONNECTIONS + OTHER_FILES)?;
    let place = Place::host(cgroup);
    let server = Server::start(&place, Tool::Wrk)?;
    let watch = Watch::start(cgroup, configuration)?;
    let (idle_without, without) = rest(&watch, idle)?;
    let client = Client::start(&place, server.address())?;
    let (idle_with, with) = rest(&watch, idle)?;
    drop(client);
    watch.stop()?;
    Ok(Held {
        connections: CONNECTIONS,
        idle_without,
        idle_with,
        without,
        with,
    })
}

/// What the client does: opens the connections with a request each, says so, and holds them until
/// its standard input ends.
pub(super) fn hold(server: SocketAddr) -> Result<()> {
    let streams = (0..CONNECTIONS).map(|number| {
        let mut stream = TcpStream::connect(server)
            .with_context(|| format!("open connection {number} to {server}"))?;
        let request = format!("GET /hello HTTP/1.1\r\nHost: {server}\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        read_response(&mut stream)?;
        Ok(stream)
    });
    let streams: Vec<TcpStream> = streams.collect::<Result<_>>()?;
    let mut stdout = io::stdout();
    writeln!(stdout, "open")?;
    stdout.flush()?;
    io::stdin().read_to_end(&mut Vec::new())?;
    drop(streams);
    Ok(())
}

/// The process that holds the connections.
struct Client {
    _process: Process,
}

/// The share of a core that the observer uses while nothing happens, and what it is like then.
fn rest(watch: &Watch, idle: Duration) -> Result<(f64, Watched)> {
    sleep(SETTLE);
    let before = watch.cpu()?;
    let started = Instant::now();
    sleep(idle);
    let cpu = watch.cpu()?;
    let share = (cpu - before).as_secs_f64() / started.elapsed().as_secs_f64();
    Ok((share, watch.look(cpu)?))
}

fn read_response(stream: &mut TcpStream) -> Result<()> {
    let mut received = Vec::new();
    let mut buffer = [0; 1024];
    loop {
        let length = stream.read(&mut buffer).context("read a response")?;
        ensure!(length > 0, "the server closed a connection");
        received.extend_from_slice(buffer.get(..length).unwrap_or_default());
        let Some(head) = http::end_of_head(&received) else {
            continue;
        };
        let text = String::from_utf8_lossy(received.get(..head).unwrap_or_default());
        if received.len() >= head + http::content_length(&text).unwrap_or(0) {
            return Ok(());
        }
    }
}

/// Lets us, and what we start, open `files`.
fn raise_file_limit(files: u64) -> Result<()> {
    let us = std::process::id().to_string();
    run_command(command("prlimit").args(["--pid", &us, &format!("--nofile={files}:")]))
        .with_context(|| format!("{files} open files are needed; see `ulimit -Hn`"))
}

// === impl Client ===

impl Client {
    fn start(place: &Place<'_>, server: SocketAddr) -> Result<Self> {
        let ourselves = std::env::current_exe().context("find this program")?;
        let mut command = place.command(&ourselves.display().to_string())?;
        command.args(["bench", "--hold", &server.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let started = Instant::now();
        let mut process = Process::spawn(&mut command)?;
        let stdout = process.child().stdout.take().context("a client's output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        ensure!(
            line == "open\n",
            "the client could not open its connections"
        );
        say(&format!(
            "bench: opened {CONNECTIONS} connections in {:.1} s",
            started.elapsed().as_secs_f64()
        ));
        Ok(Self { _process: process })
    }
}
