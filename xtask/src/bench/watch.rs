//! The observer while it is measured: what it costs, what it counts, what it loses.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use observer_tests::{
    agent::{self, Agent},
    cgroup::Cgroup,
    flow::BOTH_SIDES,
    metrics::Metrics,
};

use super::usage::{self, Memory};

/// A running observer, and the CPU time it had used when it was ready.
pub(super) struct Watch {
    agent: Agent,
    started: Duration,
}

/// What an observer was like.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Watched {
    /// CPU time since it was ready.
    pub(super) cpu: Duration,
    /// Its memory.
    pub(super) memory: Memory,
    /// Calls with status 200: as the server, as the client.
    pub(super) calls: [u64; 2],
    /// Calls of any outcome at both sides.
    pub(super) exchanges: u64,
    /// What it lost of the traffic, `stage/reason count`.
    pub(super) losses: Vec<String>,
    /// The kernel programs.
    pub(super) programs: Vec<Program>,
}

/// What one kernel program cost.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Program {
    /// Its name.
    pub(super) name: String,
    /// How often it ran.
    pub(super) runs: f64,
    /// How long it ran, seconds.
    pub(super) seconds: f64,
}

/// How long the observer may take to digest what it has seen.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long its counts have to stand still.
const STILL: Duration = Duration::from_millis(300);

// === impl Watch ===

impl Watch {
    /// Starts an observer of `cgroup`, with a configuration if there is one, and waits until it is
    /// attached.
    pub(super) fn start(cgroup: &Cgroup, configuration: Option<&str>) -> Result<Self> {
        let options = agent::Options {
            configuration: configuration.map(str::to_owned),
            ..agent::Options::default()
        };
        let agent = Agent::start_with(cgroup, &options)?;
        let started = usage::cpu(agent.id())?;
        Ok(Self { agent, started })
    }

    /// CPU time since it was ready.
    pub(super) fn cpu(&self) -> Result<Duration> {
        Ok(usage::cpu(self.agent.id())?.saturating_sub(self.started))
    }

    /// What it is like up to now, once it has digested everything. `cpu` is what [`Self::cpu`]
    /// said when the load ended: reading the metrics is not part of it.
    pub(super) fn look(&self, cpu: Duration) -> Result<Watched> {
        let metrics = self.settled()?;
        let runs = "observer_bpf_program_runs_total";
        let programs = metrics.select(runs, &[]).map(|sample| {
            let name = sample.labels.get("program").cloned().unwrap_or_default();
            let labels = [("program", name.as_str())];
            Program {
                runs: sample.value,
                seconds: metrics.sum("observer_bpf_program_seconds_total", &labels),
                name,
            }
        });
        let answered = [("http_response_status_code", "200")];
        Ok(Watched {
            cpu,
            memory: usage::memory(self.agent.id())?,
            calls: BOTH_SIDES.map(|side| calls(&metrics, side, &answered)),
            exchanges: all_calls(&metrics),
            losses: metrics.losses(),
            programs: programs.collect(),
        })
    }

    /// Sum of its metrics called `name` that have all of `labels`.
    pub(super) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Result<f64> {
        Ok(self.metrics()?.sum(name, labels))
    }

    /// Ends it; it has to exit cleanly.
    pub(super) fn stop(self) -> Result<()> {
        self.agent.stop()
    }

    /// Its metrics, once they count no more calls.
    fn settled(&self) -> Result<Metrics> {
        let started = Instant::now();
        let mut last = self.metrics()?;
        loop {
            sleep(STILL);
            let now = self.metrics()?;
            if all_calls(&now) == all_calls(&last) || started.elapsed() > PATIENCE {
                return Ok(now);
            }
            last = now;
        }
    }

    fn metrics(&self) -> Result<Metrics> {
        self.agent.metrics().context("ask the observer")
    }
}

fn calls(metrics: &Metrics, side: &str, labels: &[(&str, &str)]) -> u64 {
    let name = format!("http_{side}_request_duration_seconds_count");
    metrics.sum(&name, labels) as u64
}

fn all_calls(metrics: &Metrics) -> u64 {
    BOTH_SIDES
        .map(|side| calls(metrics, side, &[]))
        .iter()
        .sum()
}
