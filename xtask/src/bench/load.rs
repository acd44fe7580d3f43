//! One run of wrk against nginx, and what it cost.

use std::{io::Write, time::Duration};

use anyhow::{Context, Result, ensure};
use observer_tests::{place::Place, process};
use tempfile::NamedTempFile;

use super::{
    scenario::{CONNECTIONS, Scenario},
    server::Server,
    usage,
};

const MEASURE: &str = include_str!("wrk.lua");
const PIPELINE: &str = include_str!("pipeline.lua");

/// What one run of wrk was like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Load {
    /// What wrk says.
    pub(super) wrk: Wrk,
    /// CPU time of nginx and wrk.
    pub(super) cpu: Duration,
    /// Share of the machine's CPU time that nobody used, 0 to 1.
    pub(super) idle: f64,
    /// CPU time of the machine that was used.
    pub(super) busy: Duration,
}

/// What wrk itself counts and measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wrk {
    /// Responses.
    pub(super) requests: u64,
    /// From its first request to its end.
    pub(super) duration: Duration,
    /// Median of the latency.
    pub(super) median: Duration,
    /// 99th percentile of the latency.
    pub(super) slow: Duration,
}

/// Runs `scenario` for `seconds` in `place`.
pub(super) fn run(
    scenario: Scenario,
    place: &Place<'_>,
    server: &Server,
    seconds: u64,
) -> Result<Load> {
    let mut script = NamedTempFile::with_suffix(".lua").context("make a script")?;
    script.write_all(MEASURE.as_bytes())?;
    if scenario.depth() > 1 {
        script.write_all(PIPELINE.as_bytes())?;
    }
    let threads = std::thread::available_parallelism()
        .map_or(1, |count| (count.get() as u64).min(CONNECTIONS));
    let mut command = place.command("wrk")?;
    command.args([
        format!("-t{threads}"),
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

    // wrk is the only child that ends in between.
    let ended = usage::ended_children_cpu()?;
    let served = server.cpu()?;
    let machine = usage::machine()?;
    let report = process::check(&mut command)?;
    let machine_after = usage::machine()?;
    let cpu = server.cpu()? + usage::ended_children_cpu()? - served - ended;
    let total = machine_after.total.saturating_sub(machine.total);
    let idle = machine_after.idle.saturating_sub(machine.idle);
    Ok(Load {
        wrk: Wrk::parse(&report)?,
        cpu,
        idle: idle.as_secs_f64() / total.as_secs_f64().max(0.01),
        busy: total.saturating_sub(idle),
    })
}

// === impl Load ===

impl Load {
    /// Responses a second.
    pub(super) fn throughput(&self) -> f64 {
        self.wrk.requests as f64 / self.wrk.duration.as_secs_f64()
    }

    /// CPU time of nginx and wrk for a request, microseconds.
    pub(super) fn cpu_per_request(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.wrk.requests as f64
    }
}

// === impl Wrk ===

impl Wrk {
    fn parse(report: &str) -> Result<Self> {
        let line = report
            .lines()
            .find_map(|line| line.strip_prefix("measured "));
        let line = line.with_context(|| format!("wrk measured nothing: {report}"))?;
        let numbers: Vec<u64> = line
            .split(' ')
            .map(|word| word.parse().with_context(|| format!("wrk says {line:?}")))
            .collect::<Result<_>>()?;
        let [requests, duration, median, slow, _, errors] = numbers[..] else {
            anyhow::bail!("wrk says {line:?}");
        };
        ensure!(errors == 0, "wrk had {errors} errors: {report}");
        ensure!(requests > 0 && duration > 0, "wrk got no answer: {report}");
        Ok(Self {
            requests,
            duration: Duration::from_micros(duration),
            median: Duration::from_micros(median),
            slow: Duration::from_micros(slow),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_wrk_are_read() {
        let wrk = Wrk::parse("Running\nmeasured 100 2000000 150 900 12000 0\n").unwrap();
        let expected = Wrk {
            requests: 100,
            duration: Duration::from_secs(2),
            median: Duration::from_micros(150),
            slow: Duration::from_micros(900),
        };
        assert_eq!(wrk, expected);
        assert!(Wrk::parse("measured 100 2000000 150 900 12000 1\n").is_err());
        assert!(Wrk::parse("Running\n").is_err());
    }
}
