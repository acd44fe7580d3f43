//! One run of a load, and what it cost.

use std::{io::Write, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use observer_tests::{peers, place::Place, process};
use tempfile::NamedTempFile;

use super::{
    scenario::{CONNECTIONS, Scenario, Tool},
    server::Server,
    usage,
};

const MEASURE: &str = include_str!("wrk.lua");
const PIPELINE: &str = include_str!("pipeline.lua");

/// What one run was like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Load {
    /// What the client says.
    pub(super) client: Client,
    /// CPU time of server and client.
    pub(super) cpu: Duration,
    /// Share of the machine's CPU time that nobody used, 0 to 1.
    pub(super) idle: f64,
    /// CPU time of the machine that was used.
    pub(super) busy: Duration,
}

/// What the client itself counts and measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Client {
    /// Responses.
    pub(super) requests: u64,
    /// From its first request to its end.
    pub(super) duration: Duration,
    /// Median of the latency; zero if it does not tell.
    pub(super) median: Duration,
    /// 99th percentile of the latency; zero if it does not tell.
    pub(super) slow: Duration,
}

/// Runs `scenario` for `seconds` in `place`.
pub(super) fn run(
    scenario: Scenario,
    place: &Place<'_>,
    server: &Server,
    seconds: u64,
) -> Result<Load> {
    let script;
    let mut command = match scenario.tool() {
        Tool::Wrk => {
            script = write_script(scenario)?;
            wrk(scenario, place, server, seconds, &script)?
        }
        Tool::H2load => h2load(scenario, place, server, seconds)?,
        Tool::Go => peers::go(
            place,
            &[
                "grpc-load",
                "-address",
                &server.address().to_string(),
                "-connections",
                &CONNECTIONS.to_string(),
                "-streams",
                &scenario.depth().to_string(),
                "-seconds",
                &seconds.to_string(),
            ],
        )?,
    };

    // The client is the only child that ends in between.
    let ended = usage::ended_children_cpu()?;
    let served = server.cpu()?;
    let machine = usage::machine()?;
    let report = process::check(&mut command)?;
    let machine_after = usage::machine()?;
    let cpu = server.cpu()? + usage::ended_children_cpu()? - served - ended;
    let total = machine_after.total.saturating_sub(machine.total);
    let idle = machine_after.idle.saturating_sub(machine.idle);
    Ok(Load {
        client: match scenario.tool() {
            Tool::H2load => Client::of_h2load(&report)?,
            Tool::Wrk | Tool::Go => Client::parse(&report)?,
        },
        cpu,
        idle: idle.as_secs_f64() / total.as_secs_f64().max(0.01),
        busy: total.saturating_sub(idle),
    })
}

fn write_script(scenario: Scenario) -> Result<NamedTempFile> {
    let mut script = NamedTempFile::with_suffix(".lua").context("make a script")?;
    script.write_all(MEASURE.as_bytes())?;
    if scenario.depth() > 1 {
        script.write_all(PIPELINE.as_bytes())?;
    }
    Ok(script)
}

/// A thread for each core, but not more than there are connections.
fn threads() -> u64 {
    std::thread::available_parallelism().map_or(1, |count| (count.get() as u64).min(CONNECTIONS))
}

fn wrk(
    scenario: Scenario,
    place: &Place<'_>,
    server: &Server,
    seconds: u64,
    script: &NamedTempFile,
) -> Result<Command> {
    let mut command = place.command("wrk")?;
    command.args([
        format!("-t{}", threads()),
        format!("-c{CONNECTIONS}"),
        format!("-d{seconds}s"),
        "--latency".to_owned(),
        "--timeout=10s".to_owned(),
    ]);
    if scenario.closes() {
        command.args(["-H", "Connection: close"]);
    }
    command.arg("-s").arg(script.path());
    command.arg(format!("http://{}{}", server.address(), scenario.target()));
    command.args(["--", &scenario.depth().to_string()]);
    Ok(command)
}

fn h2load(scenario: Scenario, place: &Place<'_>, server: &Server, seconds: u64) -> Result<Command> {
    let mut command = place.command("h2load")?;
    command.args([
        format!("--threads={}", threads()),
        format!("--clients={CONNECTIONS}"),
        format!("--max-concurrent-streams={}", scenario.depth()),
        format!("--duration={seconds}"),
        format!("http://{}{}", server.address(), scenario.target()),
    ]);
    Ok(command)
}

// === impl Load ===

impl Load {
    /// Responses a second.
    pub(super) fn throughput(&self) -> f64 {
        self.client.requests as f64 / self.client.duration.as_secs_f64()
    }

    /// CPU time of server and client for a request, microseconds.
    pub(super) fn cpu_per_request(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.client.requests as f64
    }
}

// === impl Client ===

impl Client {
    /// Reads the line that the script of wrk and the Go peer print.
    fn parse(report: &str) -> Result<Self> {
        let line = report
            .lines()
            .find_map(|line| line.strip_prefix("measured "));
        let line = line.with_context(|| format!("the client measured nothing: {report}"))?;
        let numbers: Vec<u64> = line
            .split(' ')
            .map(|word| {
                word.parse()
                    .with_context(|| format!("the client says {line:?}"))
            })
            .collect::<Result<_>>()?;
        let [requests, duration, median, slow, _, errors] = numbers[..] else {
            anyhow::bail!("the client says {line:?}");
        };
        ensure!(errors == 0, "the client had {errors} errors: {report}");
        ensure!(
            requests > 0 && duration > 0,
            "the client got no answer: {report}"
        );
        Ok(Self {
            requests,
            duration: Duration::from_micros(duration),
            median: Duration::from_micros(median),
            slow: Duration::from_micros(slow),
        })
    }

    /// Reads what h2load prints; its latencies are those of all streams together.
    fn of_h2load(report: &str) -> Result<Self> {
        let word = |line: &str, number: usize| -> Result<String> {
            let line = report.lines().find(|text| text.starts_with(line));
            let word = line.and_then(|text| text.split_whitespace().nth(number));
            let word = word.with_context(|| format!("h2load measured nothing: {report}"))?;
            Ok(word.trim_end_matches(',').to_owned())
        };
        let requests: u64 = word("requests:", 1)?.parse()?;
        let succeeded: u64 = word("requests:", 7)?.parse()?;
        ensure!(
            requests > 0 && requests == succeeded,
            "h2load had errors: {report}"
        );
        let rate: f64 = word("finished in", 3)?.parse()?;
        ensure!(rate > 0.0, "h2load took no time: {report}");
        Ok(Self {
            requests,
            // It rounds the duration, and the rate less.
            duration: Duration::from_secs_f64(requests as f64 / rate),
            median: Duration::ZERO,
            slow: Duration::ZERO,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_wrk_are_read() {
        let wrk = Client::parse("Running\nmeasured 100 2000000 150 900 12000 0\n").unwrap();
        let expected = Client {
            requests: 100,
            duration: Duration::from_secs(2),
            median: Duration::from_micros(150),
            slow: Duration::from_micros(900),
        };
        assert_eq!(wrk, expected);
        assert!(Client::parse("measured 100 2000000 150 900 12000 1\n").is_err());
        assert!(Client::parse("Running\n").is_err());
    }

    #[test]
    fn the_numbers_of_h2load_are_read() {
        let report = "finished in 2.00s, 500.00 req/s, 67.87MB/s\n\
                      requests: 1000 total, 1160 started, 1000 done, 1000 succeeded, 0 failed\n\
                      status codes: 1002 2xx, 0 3xx, 0 4xx, 0 5xx\n";
        let client = Client::of_h2load(report).unwrap();
        assert_eq!(client.requests, 1000);
        assert_eq!(client.duration, Duration::from_secs(2));
        let failed = report.replace("1000 succeeded", "900 succeeded");
        assert!(Client::of_h2load(&failed).is_err());
        assert!(Client::of_h2load("").is_err());
    }
}
