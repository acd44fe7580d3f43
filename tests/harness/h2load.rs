//! nghttp2's load generator: exact numbers of requests over HTTP/2.

use std::{net::SocketAddr, path::Path};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::{place::Place, process, tally::Tally};

/// A load of h2load(1). Every connection asks for `paths` in turn.
#[derive(Clone, Copy, Debug)]
pub struct Load<'a> {
    /// Server.
    pub address: SocketAddr,
    /// Paths with the status and the bytes of content that they are answered with.
    pub paths: &'a [(&'a str, u16, u64)],
    /// Requests: a multiple of the connections times the paths.
    pub requests: u64,
    /// Connections.
    pub connections: u64,
    /// Concurrent streams of a connection.
    pub streams: u64,
    /// Content of a file that is posted, instead of GET.
    pub upload: Option<&'a Path>,
    /// Further arguments.
    pub arguments: &'a [&'a str],
}

/// Responses by the first digit of their status, and bytes of content, as h2load(1) reports them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Responses with 2xx, 3xx, 4xx and 5xx.
    pub classes: [u64; 4],
    /// Requests that failed.
    pub failed: u64,
    /// Bytes of content.
    pub body_bytes: u64,
}

// === impl Load ===

impl Load<'_> {
    /// Runs it from `place`: what it must be reported as, once h2load has said the same.
    pub fn run(&self, place: &Place<'_>) -> Result<Tally> {
        let mut command = place.command("h2load")?;
        command.args([
            format!("--requests={}", self.requests),
            format!("--clients={}", self.connections),
            format!("--max-concurrent-streams={}", self.streams),
        ]);
        if let Some(path) = self.upload {
            command.arg("--data").arg(path);
        }
        command.args(self.arguments);
        for (path, ..) in self.paths {
            command.arg(format!("http://{}{path}", self.address));
        }
        let report = Report::parse(&process::check(&mut command)?)?;
        let each = self.requests / self.paths.len() as u64;
        ensure!(
            self.requests
                .is_multiple_of(self.connections * self.paths.len() as u64),
            "not a whole number of rounds: {self:?}"
        );
        let sent = match self.upload {
            Some(path) => path.metadata().context("look at the upload")?.len(),
            None => 0,
        };
        let (mut tally, mut expected) = (Tally::default(), Report::default());
        for (path, status, bytes) in self.paths {
            expected.body_bytes += each * bytes;
            let class = usize::from(status / 100).saturating_sub(2);
            *expected.classes.get_mut(class).context("no final status")? += each;
            let fields = json!({
                "method": if self.upload.is_some() { "POST" } else { "GET" },
                "path": path,
                "version": "2",
                "status": status,
                "outcome": "complete",
                "request_body_bytes": sent,
                "response_body_bytes": bytes,
            });
            tally.add(&fields, each);
        }
        ensure!(
            report == expected,
            "h2load: {report:?} instead of {expected:?}"
        );
        Ok(tally)
    }
}

// === impl Report ===

impl Report {
    /// Reads what h2load printed.
    pub fn parse(text: &str) -> Result<Self> {
        let line = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.with_context(|| format!("h2load does not tell its {name} {text}"))
        };
        let number = |text: &str, word: &str| -> Result<u64> {
            let part = text.split(", ").find(|part| part.ends_with(word));
            let digits = part.and_then(|part| part.trim().split(' ').next());
            let digits = digits.with_context(|| format!("h2load does not tell {word}: {text}"))?;
            digits.parse().with_context(|| format!("number {digits:?}"))
        };
        let codes = line("status codes:")?;
        let mut classes = [0; 4];
        for (class, word) in classes.iter_mut().zip([" 2xx", " 3xx", " 4xx", " 5xx"]) {
            *class = number(codes, word)?;
        }
        let requests = line("requests:")?;
        let traffic = line("traffic:")?;
        let bytes = traffic
            .rsplit_once('(')
            .and_then(|(_, rest)| rest.split_once(')'));
        Ok(Self {
            classes,
            failed: number(requests, " errored")? + number(requests, " timeout")?,
            body_bytes: bytes.context("h2load tells no bytes")?.0.parse()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_is_read() {
        let text = "requests: 9 total, 9 started, 9 done, 6 succeeded, 3 failed, 0 errored, 0 timeout\n\
                    status codes: 6 2xx, 0 3xx, 3 4xx, 0 5xx\n\
                    traffic: 1.04KB (1066) total, 172B (172) headers (space savings 83.62%), 72B (72) data\n";
        let expected = Report {
            classes: [6, 0, 3, 0],
            failed: 0,
            body_bytes: 72,
        };
        assert_eq!(Report::parse(text).unwrap(), expected);
        assert!(Report::parse("").is_err());
    }
}
