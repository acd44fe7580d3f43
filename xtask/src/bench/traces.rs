//! What spans cost: the load `hello` with none, some and all of them sent to a sink, and with all of
//! them while nobody takes them.

use std::{io::Write, net::TcpListener, time::Duration};

use anyhow::{Context, Result};
use observer_tests::{cgroup::Cgroup, place::Place};
use serde_json::{Value, json};

use super::{
    Extent,
    load::{self, Load},
    report::{
        self,
        row::{Aim, Row},
    },
    scenario::{Scenario, Tool},
    server::Server,
    sink::Sink,
    watch::{Watch, Watched},
};
use crate::workspace::say;

/// What was measured, by variant.
pub(super) struct Spans {
    variants: Vec<(&'static Variant, Vec<Run>)>,
}

/// Which spans are sent, and to whom.
struct Variant {
    key: &'static str,
    label: &'static str,
    /// Share of traces that is kept; nothing is exported without.
    share: Option<f64>,
    collector: Collector,
}

/// Who is there to take spans.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Collector {
    Sink,
    /// A sink that answers each request this late.
    Slow(Duration),
    Nobody,
}

/// A run with the observer, and the one without in the same round.
struct Run {
    off: Load,
    on: Load,
    watched: Watched,
    sent: f64,
    lost: f64,
    bytes: f64,
    sink: Duration,
}

const VARIANTS: [Variant; 7] = [
    Variant {
        key: "off",
        label: "no telemetry out",
        share: None,
        collector: Collector::Nobody,
    },
    Variant {
        key: "0",
        label: "no spans",
        share: Some(0.0),
        collector: Collector::Sink,
    },
    Variant {
        key: "1",
        label: "1 % of all traces",
        share: Some(0.01),
        collector: Collector::Sink,
    },
    Variant {
        key: "10",
        label: "10 % of all traces",
        share: Some(0.1),
        collector: Collector::Sink,
    },
    Variant {
        key: "100",
        label: "all traces",
        share: Some(1.0),
        collector: Collector::Sink,
    },
    Variant {
        key: "slow",
        label: "all traces, a collector that takes 2 s for a request",
        share: Some(1.0),
        collector: Collector::Slow(Duration::from_secs(2)),
    },
    Variant {
        key: "gone",
        label: "all traces, no collector",
        share: Some(1.0),
        collector: Collector::Nobody,
    },
];

const MEBIBYTE: f64 = 1_048_576.0;

/// Measures all variants in `cgroup`, one after the other in each round.
pub(super) fn measure(extent: &Extent, cgroup: &Cgroup) -> Result<Spans> {
    let place = Place::host(cgroup);
    let server = Server::start(&place, Tool::Wrk)?;
    let plain = |seconds| load::run(Scenario::Hello, &place, &server, seconds);
    plain(1)?;
    let mut variants: Vec<(&'static Variant, Vec<Run>)> = VARIANTS
        .iter()
        .map(|variant| (variant, Vec::new()))
        .collect();
    for round in 1..=extent.pairs {
        extent.check()?;
        let off = plain(extent.seconds)?;
        // In turn, so that what drifts favours none.
        let mut order: Vec<usize> = (0..variants.len()).collect();
        if round % 2 == 0 {
            order.reverse();
        }
        for place_of in order {
            extent.check()?;
            let Some((variant, runs)) = variants.get_mut(place_of) else {
                continue;
            };
            let run = variant.run(extent, cgroup, &off, || plain(extent.seconds))?;
            say(&format!(
                "bench: traces {round}/{}, {}: {:.0} requests/s off, {:.0} on",
                extent.pairs,
                variant.label,
                off.throughput(),
                run.on.throughput()
            ));
            runs.push(run);
        }
    }
    Ok(Spans { variants })
}

// === impl Variant ===

impl Variant {
    fn run(
        &self,
        extent: &Extent,
        cgroup: &Cgroup,
        off: &Load,
        load: impl FnOnce() -> Result<Load>,
    ) -> Result<Run> {
        let sink = match self.collector {
            Collector::Sink => Some(Sink::start(Duration::ZERO)?),
            Collector::Slow(delay) => Some(Sink::start(delay)?),
            Collector::Nobody => None,
        };
        let address = match &sink {
            Some(sink) => sink.address(),
            // Nothing listens there once this is closed.
            None => TcpListener::bind(("127.0.0.1", 0))
                .and_then(|listener| listener.local_addr())
                .context("find a free port")?,
        };
        let mut configuration = extent.configuration.clone().unwrap_or_default();
        if let Some(share) = self.share {
            configuration.push_str(&format!(
                "\notlp:\n  endpoint: http://{address}\n  protocol: http/protobuf\n  metrics:\n    \
                 enabled: false\n  logs:\n    enabled: false\ntraces:\n  sampler: ratio\n  \
                 ratio: {share}\n"
            ));
        }
        let watch = Watch::start(cgroup, Some(&configuration))?;
        let on = load()?;
        let cpu = watch.cpu()?;
        let spent = sink.as_ref().map(Sink::cpu).transpose()?;
        let spans = [("signal", "traces")];
        let sent = watch.sum("observer_export_sent_items_total", &spans)?;
        let bytes = watch.sum("observer_export_sent_bytes_total", &spans)?;
        let watched = watch.look(cpu)?;
        let lost = watch.sum("observer_loss_total", &[("stage", "export")])?;
        watch.stop()?;
        Ok(Run {
            off: *off,
            on,
            watched,
            sent,
            lost,
            bytes,
            sink: spent.unwrap_or_default(),
        })
    }
}

// === impl Spans ===

impl Spans {
    /// Writes it as a table.
    pub(super) fn write_table(&self, out: &mut impl Write) -> Result<()> {
        writeln!(out, "\ntraces: {}", Scenario::Traces.title())?;
        for (variant, runs) in &self.variants {
            writeln!(out, "  {}; {} rounds", variant.label, runs.len())?;
            for row in rows(variant, runs) {
                row.write(out)?;
            }
            let watched = runs.iter().map(|run| &run.watched);
            report::write_losses(out, watched)?;
        }
        Ok(())
    }

    /// It as JSON.
    pub(super) fn json(&self) -> Value {
        let variants = self.variants.iter().map(|(variant, runs)| {
            let value = json!({
                "rounds": runs.len(),
                "measures": report::measures(&rows(variant, runs)),
                "losses": report::losses(runs.iter().map(|run| &run.watched)),
            });
            (variant.key.to_owned(), value)
        });
        Value::Object(variants.collect())
    }
}

fn rows(variant: &Variant, runs: &[Run]) -> Vec<Row> {
    let row = |key, label, unit, digits, aim, value: &dyn Fn(&Run) -> f64| Row {
        key,
        label,
        values: runs.iter().map(value).collect(),
        unit,
        digits,
        aim,
    };
    let seconds = |run: &Run| run.on.client.duration.as_secs_f64();
    let observer = |run: &Run| run.watched.cpu.as_secs_f64() * 1e6;
    let taken = variant.share.is_some() && variant.collector == Collector::Sink;
    // All spans of a machine at its limit are more than an exporter must promise.
    let ratio = match variant.share {
        Some(share) if share > 0.1 => Aim::None,
        _ => Aim::AtLeast(0.9),
    };
    let mut rows = vec![
        row(
            "throughput_ratio",
            "throughput, on/off",
            "",
            3,
            ratio,
            &|run| run.on.throughput() / run.off.throughput(),
        ),
        // What the sink uses is not in this.
        row(
            "requests_per_cpu_ratio",
            "requests a CPU second, on/off",
            "",
            3,
            Aim::None,
            &|run| {
                let own = observer(run) / run.on.client.requests as f64;
                run.off.cpu_per_request() / (run.on.cpu_per_request() + own)
            },
        ),
        row(
            "observer_cpu_per_exchange",
            "observer's CPU an exchange",
            "us",
            2,
            Aim::None,
            &|run| observer(run) / run.watched.exchanges.max(1) as f64,
        ),
        row(
            "observer_peak_memory",
            "observer's memory, peak",
            "MiB",
            1,
            Aim::Below(64.0),
            &|run| run.watched.memory.peak as f64 / MEBIBYTE,
        ),
    ];
    if variant.share.is_some() {
        rows.push(row(
            "spans",
            "spans sent",
            "spans/s",
            0,
            Aim::None,
            &|run| run.sent / seconds(run),
        ));
        rows.push(row("lost", "spans lost", "spans/s", 0, Aim::None, &|run| {
            run.lost / seconds(run)
        }));
    }
    if taken {
        rows.push(row(
            "bytes",
            "bytes a span, sent",
            "B",
            0,
            Aim::None,
            &|run| run.bytes / run.sent.max(1.0),
        ));
        rows.push(row(
            "sink",
            "CPU of the sink",
            "% of a core",
            1,
            Aim::None,
            &|run| 100.0 * run.sink.as_secs_f64() / seconds(run),
        ));
    }
    rows
}
