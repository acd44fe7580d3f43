//! Real clients that count what they do: curl, ab, wrk, and one of our own.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use tempfile::NamedTempFile;

use crate::{http, place::Place, process};

const WRK_SCRIPT: &str = include_str!("client/limit.lua");
const CURL_FORMAT: &str = "%{http_code} %{size_request} %{size_upload} %{size_header} \
                           %{size_download} %{local_port} %{time_starttransfer} %{time_total}";

/// What curl counted of one exchange.
#[derive(Clone, Debug, PartialEq)]
pub struct Fetched {
    /// Status of the final response, 0 when there was none.
    pub status: u16,
    /// Bytes of request heads, and of content that was sent at once with its head.
    pub request_head_bytes: u64,
    /// Bytes of request content.
    pub request_body_bytes: u64,
    /// Bytes of response heads, also of 1xx ones.
    pub response_head_bytes: u64,
    /// Bytes of response content, without chunk framing.
    pub response_body_bytes: u64,
    /// Port of the client's end.
    pub local_port: u16,
    /// From its start to the first byte of the response.
    pub first_byte: Duration,
    /// From its start to its end.
    pub total: Duration,
    /// Exit code of curl.
    pub exit: Option<i32>,
}

/// What a load generator counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Responses by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Bytes of response content.
    pub body_bytes: u64,
    /// Connections made.
    pub connections: u64,
}

/// A load of our own: `connections` at once, each with `rounds` of `pipelined` requests.
#[derive(Clone, Copy, Debug)]
pub struct Load<'a> {
    /// Server.
    pub address: SocketAddr,
    /// Targets, asked for in turn; their responses need a `Content-Length`.
    pub targets: &'a [&'a str],
    /// Connections, each with a thread.
    pub connections: usize,
    /// Writes of each connection.
    pub rounds: usize,
    /// Requests in each write.
    pub pipelined: usize,
}

/// Runs curl with `arguments` in `place`. It need not succeed.
pub fn curl(place: &Place<'_>, arguments: &[&str]) -> Result<Fetched> {
    fetch(&mut place.command("curl")?, arguments)
}

/// As [`curl`], with a command that is prepared already.
pub fn fetch(command: &mut Command, arguments: &[&str]) -> Result<Fetched> {
    command.args([
        "--silent",
        "--output",
        "/dev/null",
        "--write-out",
        CURL_FORMAT,
    ]);
    let output = process::run(command.args(arguments))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let words: Vec<&str> = text.split_whitespace().collect();
    let [
        status,
        request,
        upload,
        header,
        download,
        port,
        first,
        total,
    ] = words[..]
    else {
        anyhow::bail!(
            "curl wrote {text:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    Ok(Fetched {
        status: status.parse()?,
        request_head_bytes: request.parse()?,
        request_body_bytes: upload.parse()?,
        response_head_bytes: header.parse()?,
        response_body_bytes: download.parse()?,
        local_port: port.parse()?,
        first_byte: Duration::from_secs_f64(first.parse()?),
        total: Duration::from_secs_f64(total.parse()?),
        exit: output.status.code(),
    })
}

/// Runs ab(1) for exactly `requests`, on a connection each or on `keep_alive` ones.
pub fn ab(
    place: &Place<'_>,
    url: &str,
    requests: u64,
    concurrency: u64,
    keep_alive: bool,
) -> Result<Counted> {
    let mut command = place.command("ab")?;
    if keep_alive {
        command.arg("-k");
    }
    command.args([
        "-q",
        "-n",
        &requests.to_string(),
        "-c",
        &concurrency.to_string(),
        url,
    ]);
    let report = process::check(&mut command)?;
    let number = |name: &str| -> Option<u64> {
        let line = report.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let complete = number("Complete requests:").context("ab reports no number")?;
    ensure!(number("Failed requests:") == Some(0), "ab: {report}");
    let failed = number("Non-2xx responses:").unwrap_or(0);
    ensure!(failed == 0, "ab: {report}");
    let body_bytes = number("HTML transferred:").context("ab reports no bytes")?;
    let connections = if keep_alive { concurrency } else { complete };
    Ok(Counted {
        statuses: BTreeMap::from([(200, complete)]),
        body_bytes,
        connections,
    })
}

/// Runs wrk(1) with 2 threads on `connections` connections; it stops asking after exactly
/// `writes` writes of `pipelined` requests, and ends a while after it has all the answers.
/// Returns wrk's own number of responses.
pub fn wrk(
    place: &Place<'_>,
    url: &str,
    connections: u64,
    writes: u64,
    pipelined: u64,
    seconds: u64,
) -> Result<u64> {
    let mut script = NamedTempFile::with_suffix(".lua").context("make a script")?;
    script.write_all(WRK_SCRIPT.as_bytes())?;
    let mut command = place.command("wrk")?;
    command.args([
        "-t2",
        &format!("-c{connections}"),
        &format!("-d{seconds}s"),
        "-s",
    ]);
    command.arg(script.path()).args([url, "--"]);
    command.args([(writes / 2).to_string(), pipelined.to_string()]);
    let report = process::check(&mut command)?;
    ensure!(!report.contains("Socket errors"), "wrk: {report}");
    ensure!(!report.contains("Non-2xx"), "wrk: {report}");
    let words = report.split_whitespace();
    let before = words
        .clone()
        .zip(words.skip(1))
        .find(|(_, word)| *word == "requests");
    let (number, _) = before.with_context(|| format!("wrk tells no number: {report}"))?;
    number
        .parse()
        .with_context(|| format!("wrk tells {number:?}"))
}

/// Sends one request on an open connection and reads the response, head and content.
pub fn exchange(stream: &mut TcpStream, request: &str) -> Result<(String, Vec<u8>)> {
    stream
        .write_all(request.as_bytes())
        .context("send request")?;
    let mut reader = Reader::new(stream);
    reader.response()
}

/// Reads responses from a stream, and keeps what was read of the next one.
struct Reader<'a> {
    stream: &'a mut TcpStream,
    received: Vec<u8>,
}

// === impl Load ===

impl Load<'_> {
    /// Requests that it makes in all.
    pub fn requests(&self) -> u64 {
        (self.connections * self.rounds * self.pipelined) as u64
    }

    /// Runs it from `place`.
    pub fn run(&self, place: &Place<'_>) -> Result<Counted> {
        let mut total = Counted::default();
        let streams = (0..self.connections).map(|_| place.connect(self.address));
        let streams: Vec<TcpStream> = streams.collect::<Result<_>>()?;
        let counts: Vec<Result<Counted>> = std::thread::scope(|scope| {
            let threads: Vec<_> = streams
                .into_iter()
                .map(|stream| scope.spawn(move || self.talk(stream)))
                .collect();
            let joined = threads.into_iter().map(std::thread::ScopedJoinHandle::join);
            joined
                .map(|result| result.unwrap_or_else(|_| Err(anyhow::anyhow!("a thread died"))))
                .collect()
        });
        for count in counts {
            let count = count?;
            for (status, number) in count.statuses {
                *total.statuses.entry(status).or_default() += number;
            }
            total.body_bytes += count.body_bytes;
            total.connections += count.connections;
        }
        Ok(total)
    }

    fn talk(&self, mut stream: TcpStream) -> Result<Counted> {
        let mut counted = Counted {
            connections: 1,
            ..Counted::default()
        };
        let mut targets = self.targets.iter().cycle();
        let mut reader = Reader::new(&mut stream);
        for _ in 0..self.rounds {
            let mut requests = String::new();
            for target in targets.by_ref().take(self.pipelined) {
                requests += &format!("GET {target} HTTP/1.1\r\nHost: {}\r\n\r\n", self.address);
            }
            reader
                .stream
                .write_all(requests.as_bytes())
                .context("send requests")?;
            for _ in 0..self.pipelined {
                let (head, body) = reader.response()?;
                *counted.statuses.entry(http::status_of(&head)?).or_default() += 1;
                counted.body_bytes += body.len() as u64;
            }
        }
        Ok(counted)
    }
}

// === impl Reader ===

impl<'a> Reader<'a> {
    fn new(stream: &'a mut TcpStream) -> Self {
        Self {
            stream,
            received: Vec::new(),
        }
    }

    fn response(&mut self) -> Result<(String, Vec<u8>)> {
        let start = Instant::now();
        let length = loop {
            if let Some(length) = http::end_of_head(&self.received) {
                break length;
            }
            self.more()
                .with_context(|| format!("read a head for {:?}", start.elapsed()))?;
        };
        let head = String::from_utf8_lossy(&self.received[..length]).into_owned();
        let end = length + http::content_length(&head).unwrap_or(0);
        while self.received.len() < end {
            self.more().context("read content")?;
        }
        let rest = self.received.split_off(end);
        let body = std::mem::replace(&mut self.received, rest).split_off(length);
        Ok((head, body))
    }

    fn more(&mut self) -> Result<()> {
        let mut buffer = [0; 16 * 1024];
        let length = self.stream.read(&mut buffer)?;
        ensure!(length > 0, "the server closed");
        self.received.extend_from_slice(&buffer[..length]);
        Ok(())
    }
}
