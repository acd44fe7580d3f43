//! A collector of OpenTelemetry that is independent of the observer, and misbehaves on demand.

pub mod seen;

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Read, Seek, SeekFrom, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    path::PathBuf,
    process::{ChildStdout, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

pub use seen::{Attributes, Link, LogSeen, MetricSeen, Request, SpanSeen};

use crate::{
    certificates::Pair,
    namespace::Namespace,
    peers::{self, Peer},
    place,
    process::{Process, Signal},
    wait::{self, PATIENCE, SETTLE},
};

/// A running collector: `peers/collector.py`. It is in no observed cgroup.
#[derive(Debug)]
pub struct Collector {
    running: Option<Running>,
    settings: Settings,
    folder: TempDir,
    book: Mutex<Book>,
}

/// How to start one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'a> {
    /// On whose network; without, the machine's own.
    pub namespace: Option<&'a Namespace>,
    /// Address to listen on; without, 127.0.0.1.
    pub address: Option<IpAddr>,
    /// Its certificate and key: it then speaks TLS only.
    pub identity: Option<&'a Pair>,
    /// Certificate that those of clients must be signed by.
    pub clients: Option<&'a PathBuf>,
    /// A header that it demands, as `name=value`.
    pub header: Option<&'a str>,
}

/// The process, and what it says.
#[derive(Debug)]
struct Running {
    process: Process,
    said: BufReader<ChildStdout>,
}

/// What it is started with, so that it can come back as it was.
#[derive(Debug)]
struct Settings {
    grpc: SocketAddr,
    http: SocketAddr,
    arguments: Vec<String>,
    namespace: Option<File>,
    tls: bool,
}

/// What was read of its file so far.
#[derive(Debug, Default)]
struct Book {
    read: u64,
    requests: Vec<Request>,
    spans: Vec<SpanSeen>,
    metrics: Vec<MetricSeen>,
    logs: Vec<LogSeen>,
}

// === impl Collector ===

impl Collector {
    /// Starts one on 127.0.0.1, without TLS.
    pub fn start() -> Result<Self> {
        Self::start_with(&Options::default())
    }

    /// As [`Self::start`], with `options`.
    pub fn start_with(options: &Options<'_>) -> Result<Self> {
        let address = options.address.unwrap_or(Ipv4Addr::LOCALHOST.into());
        let free = || -> Result<(SocketAddr, SocketAddr)> {
            let [one, other] = [(); 2].map(|()| TcpListener::bind((address, 0)));
            Ok((one?.local_addr()?, other?.local_addr()?))
        };
        let (grpc, http) = match options.namespace {
            Some(namespace) => namespace.within(free)?,
            None => free()?,
        };
        let mut arguments = Vec::new();
        let mut say = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
        if let Some(pair) = options.identity {
            say("--certificate", pair.certificate.display().to_string());
            say("--key", pair.key.display().to_string());
        }
        if let Some(clients) = options.clients {
            say("--clients", clients.display().to_string());
        }
        if let Some(header) = options.header {
            say("--header", header.to_owned());
        }
        let mut collector = Self {
            running: None,
            settings: Settings {
                grpc,
                http,
                arguments,
                namespace: options.namespace.map(Namespace::handle).transpose()?,
                tls: options.identity.is_some(),
            },
            folder: tempfile::tempdir().context("make a folder")?,
            book: Mutex::default(),
        };
        collector.come()?;
        Ok(collector)
    }

    /// Its endpoint for gRPC.
    pub fn grpc(&self) -> String {
        self.url(self.settings.grpc)
    }

    /// Its endpoint for HTTP, without a path.
    pub fn http(&self) -> String {
        self.url(self.settings.http)
    }

    /// Where it listens for gRPC.
    pub fn grpc_address(&self) -> SocketAddr {
        self.settings.grpc
    }

    /// Tells it how to answer from now on: see `peers/collector.py`. `{}` is as usual.
    pub fn behave(&mut self, manner: &Value) -> Result<()> {
        let running = self.running.as_mut().context("the collector is away")?;
        let input = running.process.child().stdin.as_mut().context("no input")?;
        writeln!(input, "{manner}").context("tell the collector")?;
        running.hear("ok")
    }

    /// Holds it where it is: connections stay, and nothing is answered.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::Stop)
    }

    /// Lets it go on.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::Continue)
    }

    /// Ends it at once, with all its connections. What it had received stays.
    pub fn leave(&mut self) -> Result<()> {
        let mut running = self.running.take().context("the collector is away")?;
        running.process.signal(Signal::Kill)?;
        running.process.wait(PATIENCE).map(drop)
    }

    /// Starts it where it was before.
    pub fn come(&mut self) -> Result<()> {
        ensure!(self.running.is_none(), "the collector is there");
        let mut command = Command::new(Peer::Python.program());
        place::enter_handle(&mut command, self.settings.namespace.as_ref())?;
        command.arg("-B").arg(peers::script("collector.py"));
        command.arg(self.settings.grpc.to_string());
        command.arg(self.settings.http.to_string());
        command
            .arg(self.folder.path())
            .args(&self.settings.arguments);
        let log = File::create(self.folder.path().join("log")).context("make a log")?;
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log);
        let mut process = Process::spawn(&mut command)?;
        let said = process.child().stdout.take().context("no output")?;
        let mut running = Running {
            process,
            said: BufReader::new(said),
        };
        running.hear("ready").with_context(|| self.log())?;
        self.running = Some(running);
        Ok(())
    }

    /// The requests that it received, also those that it did not take.
    pub fn requests(&self) -> Result<Vec<Request>> {
        Ok(self.look()?.requests.clone())
    }

    /// The spans that it took.
    pub fn spans(&self) -> Result<Vec<SpanSeen>> {
        Ok(self.look()?.spans.clone())
    }

    /// The points of metrics that it took, in the order in which they came.
    pub fn metrics(&self) -> Result<Vec<MetricSeen>> {
        Ok(self.look()?.metrics.clone())
    }

    /// The log records that it took.
    pub fn logs(&self) -> Result<Vec<LogSeen>> {
        Ok(self.look()?.logs.clone())
    }

    /// The messages as they were sent, without compression, also of what it did not take.
    pub fn messages(&self) -> Result<Vec<Vec<u8>>> {
        let mut messages = Vec::new();
        for entry in fs::read_dir(self.folder.path())? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "bin") {
                messages.push(fs::read(path)?);
            }
        }
        Ok(messages)
    }

    /// Fails if one of `words` is anywhere in what was sent.
    pub fn expect_without(&self, words: &[&str]) -> Result<()> {
        let messages = self.messages()?;
        ensure!(!messages.is_empty(), "nothing was sent");
        for message in messages {
            for word in words {
                let found = message
                    .windows(word.len())
                    .any(|part| part == word.as_bytes());
                ensure!(
                    !found,
                    "{word:?} was sent: {}",
                    String::from_utf8_lossy(&message)
                );
            }
        }
        Ok(())
    }

    /// Waits for `count` spans that `wanted` picks; more is an error, also a moment later.
    pub fn exactly(
        &self,
        count: usize,
        what: &str,
        wanted: impl Fn(&SpanSeen) -> bool,
    ) -> Result<Vec<SpanSeen>> {
        let number = || -> Result<usize> {
            let book = self.look()?;
            Ok(book.spans.iter().filter(|span| wanted(span)).count())
        };
        let reached = wait::until(what, PATIENCE, || Ok((number()? >= count).then_some(())));
        if reached.is_ok() {
            std::thread::sleep(SETTLE);
        }
        let book = self.look()?;
        let (found, others): (Vec<_>, Vec<_>) =
            book.spans.iter().cloned().partition(|span| wanted(span));
        ensure!(
            found.len() == count,
            "{what}: {} instead of {count}: {found:#?}; others: {:?}; {}",
            found.len(),
            others.iter().map(SpanSeen::outline).collect::<Vec<_>>(),
            self.log()
        );
        Ok(found)
    }

    /// Waits until nothing came for `quiet`.
    pub fn settle(&self, quiet: Duration) -> Result<()> {
        let mut before = (self.look()?.read, std::time::Instant::now());
        wait::until("the collector's silence", 3 * PATIENCE, || {
            let read = self.look()?.read;
            if read != before.0 {
                before = (read, std::time::Instant::now());
            }
            Ok((before.1.elapsed() >= quiet).then_some(()))
        })
    }

    fn url(&self, address: SocketAddr) -> String {
        let scheme = if self.settings.tls { "https" } else { "http" };
        format!("{scheme}://{address}")
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let running = self.running.as_ref().context("the collector is away")?;
        running.process.signal(signal)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// What it has received up to now.
    fn look(&self) -> Result<MutexGuard<'_, Book>> {
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        match File::open(self.folder.path().join("received")) {
            Ok(file) => book.read_on(file)?,
            // It has not been started yet.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).context("open what was received"),
        }
        Ok(book)
    }
}

// === impl Running ===

impl Running {
    fn hear(&mut self, expected: &str) -> Result<()> {
        let mut line = String::new();
        self.said
            .read_line(&mut line)
            .context("hear the collector")?;
        ensure!(line.trim() == expected, "the collector says {line:?}");
        Ok(())
    }
}

// === impl Book ===

impl Book {
    /// Reads what was added since the last time, up to the end of a line.
    fn read_on(&mut self, mut file: File) -> Result<()> {
        file.seek(SeekFrom::Start(self.read))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let whole = bytes
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |end| end + 1);
        for line in bytes[..whole].split(|byte| *byte == b'\n') {
            if !line.is_empty() {
                self.add(line)
                    .with_context(|| String::from_utf8_lossy(line).into_owned())?;
            }
        }
        self.read += whole as u64;
        Ok(())
    }

    fn add(&mut self, line: &[u8]) -> Result<()> {
        let value: Value = serde_json::from_slice(line)?;
        let taken = value["taken"] == true;
        match value["kind"].as_str() {
            Some("request") => self.requests.push(serde_json::from_value(value)?),
            // What was refused comes again, or is lost.
            _ if !taken => {}
            Some("span") => self.spans.push(serde_json::from_value(value)?),
            Some("point") => self.metrics.push(serde_json::from_value(value)?),
            Some("log") => self.logs.push(serde_json::from_value(value)?),
            _ => bail!("a line of no kind"),
        }
        Ok(())
    }
}
