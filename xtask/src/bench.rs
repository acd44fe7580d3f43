//! `cargo xtask bench`: what observing costs, as an operator would notice it.
//!
//! A server and a client saturate every core, in a cgroup of their own. Runs with an observer of that
//! cgroup and runs without alternate in pairs; what is reported is the median of the pairs' ratios.

mod cluster;
mod hold;
mod load;
mod report;
mod scenario;
mod server;
mod sink;
mod statistics;
mod traces;
mod usage;
mod watch;

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use observer_tests::{cgroup::Cgroup, place::Place};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::{
    build, setup,
    workspace::{cargo, is_root, run as run_command, say},
};
use report::{Outcome, Pair, Report};
use scenario::Scenario;
use server::Server;
use statistics::Statistics;
use watch::Watch;

/// Options of `bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Only these loads
    #[arg(long = "scenario", value_name = "NAME")]
    scenarios: Vec<Scenario>,
    /// Pairs of runs without and with the observer
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    pairs: u32,
    /// Length of a run
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Two pairs of two seconds: to see that it works, not to trust the numbers
    #[arg(long, conflicts_with_all = ["pairs", "seconds"])]
    quick: bool,
    /// Configuration file of the observer
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Also run the benchmarks of single stages: `cargo bench`
    #[arg(long)]
    micro: bool,
    /// What to print
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,
    /// Hold connections to this server: the client of `open`
    #[arg(long, hide = true)]
    hold: Option<SocketAddr>,
    /// Take telemetry and forget it, each request after so many milliseconds: the collector of
    /// `traces`
    #[arg(long, hide = true)]
    sink: Option<u64>,
}

/// How the result is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A table with the aim beside each number
    Table,
    /// One JSON object
    Json,
}

/// How much is run.
#[derive(Clone)]
struct Extent {
    pairs: u32,
    seconds: u64,
    /// Length of a time without traffic.
    idle: Duration,
    /// Content of the observer's configuration file.
    configuration: Option<String>,
    /// Set by a signal that asks for the end.
    interrupted: Arc<AtomicBool>,
}

/// Builds, measures and reports.
pub(crate) fn run(options: &Options) -> Result<()> {
    if let Some(server) = options.hold {
        return hold::hold(server);
    }
    if let Some(milliseconds) = options.sink {
        return sink::serve(Duration::from_millis(milliseconds));
    }
    if !is_root() {
        bail!("observing needs root: run this as root");
    }
    // A cluster needs none of the servers and clients that make the loads.
    if options.scenarios != [Scenario::Cluster] {
        setup::for_testing()?;
    }
    // Somebody who names a binary measures that one.
    let is_built = std::env::var_os("OBSERVER_BIN").is_none();
    if is_built {
        setup::for_building()?;
        build::kernel_programs()?;
        build::release()?;
    }
    if options.micro {
        run_command(cargo().args(["bench", "--locked", "--package", "observer"]))?;
    }
    let extent = Extent::new(options)?;
    let mut scenarios = options.scenarios.clone();
    if scenarios.is_empty() {
        scenarios = Scenario::value_variants().to_vec();
    }
    let cgroup = Cgroup::create("bench")?;
    let mut report = Report::default();
    for scenario in scenarios {
        if scenario == Scenario::Cluster {
            extent.check()?;
            if is_built && !options.micro {
                lookups()?;
            }
            say("bench: cluster");
            report.cluster = Some(cluster::measure(&cgroup, options.quick, || extent.check())?);
        } else if scenario == Scenario::Traces {
            say("bench: traces");
            report.spans = Some(traces::measure(&extent, &cgroup)?);
        } else if scenario == Scenario::Open {
            extent.check()?;
            say("bench: open");
            report.held = Some(hold::measure(
                &cgroup,
                extent.configuration.as_deref(),
                extent.idle,
            )?);
        } else {
            report.loads.push(extent.measure(scenario, &cgroup)?);
        }
    }
    // The cgroup goes first: a reader who leaves early must not keep it.
    drop(cgroup);
    let mut out = std::io::stdout().lock();
    match options.output {
        Format::Table => report.write_table(&mut out),
        Format::Json => report.write_json(&mut out),
    }
}

/// Measures what it costs to ask the index of such a cluster: a benchmark of its own.
fn lookups() -> Result<()> {
    say("bench: cluster, lookups");
    let mut command = cargo();
    command.args(["bench", "--locked", "--package", "observer"]);
    run_command(command.args(["--bench", "cluster"]))
}

// === impl Extent ===

impl Extent {
    fn new(options: &Options) -> Result<Self> {
        // What we start is sent a terminal's signal too and ends; then we tidy up and end.
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&interrupted))
                .context("cannot handle signals")?;
        }
        let (pairs, seconds, idle) = if options.quick {
            (2, 2, 3)
        } else {
            (options.pairs, options.seconds, 10)
        };
        let configuration = options.config.as_ref().map(|path| {
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
        });
        Ok(Self {
            configuration: configuration.transpose()?,
            pairs,
            seconds,
            idle: Duration::from_secs(idle),
            interrupted,
        })
    }

    fn check(&self) -> Result<()> {
        if self.interrupted.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        Ok(())
    }

    /// Measures `scenario` in `cgroup`.
    fn measure(&self, scenario: Scenario, cgroup: &Cgroup) -> Result<Outcome> {
        let name = scenario.name();
        let place = Place::host(cgroup);
        let server = Server::start(&place, scenario.tool())?;
        let plain = || {
            self.check()?;
            load::run(scenario, &place, &server, self.seconds)
        };
        let watched = || {
            self.check()?;
            let watch = Watch::start(cgroup, self.configuration.as_deref())?;
            let load = load::run(scenario, &place, &server, self.seconds)?;
            let cpu = watch.cpu()?;
            let watched = watch.look(cpu)?;
            watch.stop()?;
            Ok::<_, anyhow::Error>((load, watched))
        };
        // Caches and buffers get their size now.
        load::run(scenario, &place, &server, 1)?;
        let mut pairs = Vec::new();
        for number in 1..=self.pairs {
            // In turn, so that what drifts favours neither.
            let (off, (on, watched)) = if number % 2 == 0 {
                let on = watched()?;
                (plain()?, on)
            } else {
                (plain()?, watched()?)
            };
            say(&format!(
                "bench: {name} {number}/{}: {:.0} requests/s off, {:.0} on",
                self.pairs,
                off.throughput(),
                on.throughput()
            ));
            pairs.push(Pair { off, on, watched });
        }
        let programs = match Statistics::enable() {
            Ok(_statistics) => {
                let (load, watched) = watched()?;
                Some((load.client.requests, watched.programs))
            }
            Err(error) => {
                say(&format!("bench: no times of kernel programs: {error:#}"));
                None
            }
        };
        Ok(Outcome {
            scenario,
            pairs,
            programs,
        })
    }
}
