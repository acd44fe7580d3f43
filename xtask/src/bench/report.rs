//! What was measured, as a table with the aim beside each number, and as JSON.

pub(super) mod row;

use std::io::Write;

use anyhow::Result;
use serde_json::{Value, json};

use super::{
    cluster::Scale,
    hold::Held,
    load::Load,
    scenario::Scenario,
    traces::Spans,
    watch::{Program, Watched},
};
use row::{Aim, Row, median};

/// Everything that was measured.
#[derive(Default)]
pub(super) struct Report {
    pub(super) loads: Vec<Outcome>,
    pub(super) spans: Option<Spans>,
    pub(super) held: Option<Held>,
    pub(super) cluster: Option<Scale>,
}

/// What was measured of one load.
pub(super) struct Outcome {
    pub(super) scenario: Scenario,
    pub(super) pairs: Vec<Pair>,
    /// The kernel programs in a run of their own, with as many requests.
    pub(super) programs: Option<(u64, Vec<Program>)>,
}

/// A run without and one with the observer, one after the other.
pub(super) struct Pair {
    pub(super) off: Load,
    pub(super) on: Load,
    pub(super) watched: Watched,
}

const MEBIBYTE: f64 = 1_048_576.0;
/// What others may use of a core, 0 to 1, before they spoil the ratios.
const QUIET: f64 = 0.1;

// === impl Report ===

impl Report {
    /// Writes it as a table.
    pub(super) fn write_table(&self, out: &mut impl Write) -> Result<()> {
        for outcome in &self.loads {
            let Outcome {
                scenario,
                pairs,
                programs,
            } = outcome;
            let (name, title) = (scenario.name(), scenario.title());
            writeln!(out, "\n{name}: {title}; {} pairs", pairs.len())?;
            for row in outcome.rows() {
                row.write(out)?;
            }
            write_losses(out, pairs.iter().map(|pair| &pair.watched))?;
            let others: Vec<f64> = pairs.iter().map(Pair::others).collect();
            if median(&others) > QUIET {
                writeln!(
                    out,
                    "  others used the machine too: repeat this when it is quiet"
                )?;
            }
            if let Some((requests, programs)) = programs {
                for program in programs.iter().filter(|program| program.runs > 0.0) {
                    let runs = program.runs / *requests as f64;
                    let time = program.seconds * 1e9 / program.runs;
                    let name = &program.name;
                    writeln!(
                        out,
                        "  {name:<34} {time:>10.0} ns a run {runs:>10.4} runs a request"
                    )?;
                }
            }
        }
        if let Some(spans) = &self.spans {
            spans.write_table(out)?;
        }
        if let Some(held) = &self.held {
            writeln!(out, "\nopen: {} open connections", held.connections)?;
            for row in held.rows() {
                row.write(out)?;
            }
            write_losses(out, [&held.without, &held.with])?;
        }
        if let Some(cluster) = &self.cluster {
            writeln!(out, "\ncluster: {}", cluster.title())?;
            for row in cluster.rows() {
                row.write(out)?;
            }
            writeln!(out, "  requests to the API server, by who asks")?;
            for (asked, count) in &cluster.requests {
                writeln!(out, "    {asked:<58} {count:>6}")?;
            }
            for loss in &cluster.losses {
                writeln!(out, "  lost: {loss}")?;
            }
        }
        Ok(())
    }

    /// Writes it as one JSON object.
    pub(super) fn write_json(&self, out: &mut impl Write) -> Result<()> {
        let loads = self.loads.iter().map(|outcome| {
            let programs = outcome.programs.iter().flat_map(|(requests, programs)| {
                programs.iter().map(|program| {
                    json!({
                        "program": program.name,
                        "runs": program.runs,
                        "runs_per_request": program.runs / *requests as f64,
                        "nanoseconds_per_run": program.seconds * 1e9 / program.runs.max(1.0),
                    })
                })
            });
            json!({
                "scenario": outcome.scenario.name(),
                "pairs": outcome.pairs.len(),
                "measures": measures(&outcome.rows()),
                "losses": losses(outcome.pairs.iter().map(|pair| &pair.watched)),
                "programs": programs.collect::<Vec<_>>(),
            })
        });
        let mut report = json!({ "loads": loads.collect::<Vec<_>>() });
        if let Some(spans) = &self.spans {
            report["traces"] = spans.json();
        }
        if let Some(held) = &self.held {
            report["open"] = json!({
                "connections": held.connections,
                "measures": measures(&held.rows()),
                "losses": losses([&held.without, &held.with]),
            });
        }
        if let Some(cluster) = &self.cluster {
            report["cluster"] = json!({
                "measures": measures(cluster.rows()),
                "requests": cluster.requests,
                "losses": cluster.losses,
            });
        }
        writeln!(out, "{report:#}")?;
        Ok(())
    }
}

pub(super) fn measures(rows: &[Row]) -> Value {
    let pairs = rows.iter().map(|row| {
        let value = json!({
            "median": median(&row.values),
            "values": row.values,
            "aim": row.aim.text(row.digits),
            "met": row.met(),
        });
        (row.key.to_owned(), value)
    });
    Value::Object(pairs.collect())
}

pub(super) fn losses<'a>(watched: impl IntoIterator<Item = &'a Watched>) -> Vec<&'a str> {
    let all = watched.into_iter().flat_map(|watched| &watched.losses);
    all.map(String::as_str).collect()
}

pub(super) fn write_losses<'a>(
    out: &mut impl Write,
    watched: impl IntoIterator<Item = &'a Watched>,
) -> Result<()> {
    for loss in losses(watched) {
        writeln!(out, "  lost: {loss}")?;
    }
    Ok(())
}

// === impl Pair ===

impl Pair {
    /// CPU time of the observer for a request, at both of its ends, microseconds.
    fn observer_per_request(&self) -> f64 {
        self.watched.cpu.as_secs_f64() * 1e6 / self.on.client.requests as f64
    }

    /// What of a core neither the load nor the observer used, 0 to 1.
    fn others(&self) -> f64 {
        let known = self.off.cpu + self.on.cpu + self.watched.cpu;
        let others = (self.off.busy + self.on.busy).saturating_sub(known);
        others.as_secs_f64() / (self.off.client.duration + self.on.client.duration).as_secs_f64()
    }
}

// === impl Outcome ===

impl Outcome {
    fn rows(&self) -> Vec<Row> {
        let row = |key, label, unit, digits, aim, value: &dyn Fn(&Pair) -> f64| Row {
            key,
            label,
            values: self.pairs.iter().map(value).collect(),
            unit,
            digits,
            aim,
        };
        let micros = |load: &Load, time: fn(&Load) -> f64| time(load) * 1e6;
        let p50 = |load: &Load| load.client.median.as_secs_f64();
        let p99 = |load: &Load| load.client.slow.as_secs_f64();
        // The observer cannot know more than the client but for what was under way at its end.
        let count = Aim::Within(0.0, self.scenario.under_way() as f64);
        let beyond = |pair: &Pair, side: usize| {
            let seen = pair.watched.calls.get(side).copied().unwrap_or(0);
            seen as f64 - pair.on.client.requests as f64
        };
        let hello = match self.scenario {
            Scenario::Hello
            | Scenario::H2
            | Scenario::H2Ten
            | Scenario::H2Hundred
            | Scenario::Grpc => Aim::AtLeast(0.9),
            _ => Aim::None,
        };
        // Where connections and bodies are small beside the exchanges.
        let exchange = match self.scenario {
            Scenario::Large | Scenario::Close | Scenario::Open => Aim::None,
            _ => Aim::Below(1.0),
        };
        let mut rows = vec![
            row(
                "throughput_ratio",
                "throughput, on/off",
                "",
                3,
                hello,
                &|p| p.on.throughput() / p.off.throughput(),
            ),
            row("p50_ratio", "p50 latency, on/off", "", 3, Aim::None, &|p| {
                p50(&p.on) / p50(&p.off)
            }),
            row("p99_ratio", "p99 latency, on/off", "", 3, Aim::None, &|p| {
                p99(&p.on) / p99(&p.off)
            }),
            row(
                "load_cpu_ratio",
                "CPU a request of the load, on/off",
                "",
                3,
                Aim::None,
                &|p| p.on.cpu_per_request() / p.off.cpu_per_request(),
            ),
            // Less disturbed by others than throughput is.
            row(
                "requests_per_cpu_ratio",
                "requests a CPU second, on/off",
                "",
                3,
                Aim::None,
                &|p| p.off.cpu_per_request() / (p.on.cpu_per_request() + p.observer_per_request()),
            ),
            row(
                "throughput_off",
                "throughput, off",
                "requests/s",
                0,
                Aim::None,
                &|p| p.off.throughput(),
            ),
            row(
                "throughput_on",
                "throughput, on",
                "requests/s",
                0,
                Aim::None,
                &|p| p.on.throughput(),
            ),
            row("p50_off", "p50 latency, off", "us", 0, Aim::None, &|p| {
                micros(&p.off, p50)
            }),
            row("p99_off", "p99 latency, off", "us", 0, Aim::None, &|p| {
                micros(&p.off, p99)
            }),
            row(
                "load_cpu_off",
                "CPU a request of the load, off",
                "us",
                2,
                Aim::None,
                &|p| p.off.cpu_per_request(),
            ),
            row(
                "observer_cpu",
                "observer's CPU",
                "% of a core",
                1,
                Aim::None,
                &|p| 100.0 * p.watched.cpu.as_secs_f64() / p.on.client.duration.as_secs_f64(),
            ),
            row(
                "observer_cpu_per_exchange",
                "observer's CPU an exchange",
                "us",
                2,
                exchange,
                &|p| p.watched.cpu.as_secs_f64() * 1e6 / p.watched.exchanges.max(1) as f64,
            ),
            row(
                "observer_peak_memory",
                "observer's memory, peak",
                "MiB",
                1,
                Aim::Below(64.0),
                &|p| p.watched.memory.peak as f64 / MEBIBYTE,
            ),
            row(
                "server_calls_beyond",
                "server's calls beyond the client's",
                "",
                0,
                count,
                &|p| beyond(p, 0),
            ),
            row(
                "client_calls_beyond",
                "client's calls beyond its own",
                "",
                0,
                count,
                &|p| beyond(p, 1),
            ),
            row(
                "losses",
                "losses by stage and reason",
                "",
                0,
                Aim::Below(1.0),
                &|p| p.watched.losses.len() as f64,
            ),
            row("idle", "machine idle, on", "%", 1, Aim::None, &|p| {
                100.0 * p.on.idle
            }),
            row(
                "others",
                "CPU of others, both runs",
                "% of a core",
                1,
                Aim::None,
                &|p| 100.0 * p.others(),
            ),
        ];
        if !self.scenario.has_latencies() {
            rows.retain(|row| !row.label.contains("latency"));
        }
        rows
    }
}

// === impl Held ===

impl Held {
    fn rows(&self) -> Vec<Row> {
        let row = |key, label, unit, digits, aim, value| Row {
            key,
            label,
            values: vec![value],
            unit,
            digits,
            aim,
        };
        let resident = |watched: &Watched| watched.memory.resident as f64 / MEBIBYTE;
        let missing = |side: usize| {
            let seen = self.with.calls.get(side).copied().unwrap_or(0);
            seen as f64 - self.connections as f64
        };
        let exact = Aim::Within(0.0, 0.0);
        let idle = Aim::Below(0.5);
        vec![
            row(
                "memory_without",
                "memory without them",
                "MiB",
                1,
                Aim::None,
                resident(&self.without),
            ),
            row(
                "memory_with",
                "memory with them",
                "MiB",
                1,
                Aim::Below(64.0),
                resident(&self.with),
            ),
            row(
                "peak_memory",
                "memory, peak",
                "MiB",
                1,
                Aim::Below(64.0),
                self.with.memory.peak as f64 / MEBIBYTE,
            ),
            row(
                "idle_without",
                "idle CPU without them",
                "% of a core",
                3,
                idle,
                100.0 * self.idle_without,
            ),
            row(
                "idle_with",
                "idle CPU with them",
                "% of a core",
                3,
                idle,
                100.0 * self.idle_with,
            ),
            row(
                "server_calls_beyond",
                "calls at nginx beyond requests",
                "",
                0,
                exact,
                missing(0),
            ),
            row(
                "client_calls_beyond",
                "calls at client beyond requests",
                "",
                0,
                exact,
                missing(1),
            ),
        ]
    }
}
