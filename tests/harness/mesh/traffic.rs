//! What clients count, and what edges and measures must say of it.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use anyhow::{Context, Result, bail};

use crate::{
    agent::Agent,
    kubernetes::lines,
    metrics::{Metrics, Sample},
    place::Place,
    process,
    wait::{self, PATIENCE, SETTLE},
};

/// Requests by curl(1).
#[derive(Clone, Copy, Debug)]
pub struct Requests<'a> {
    /// What the client calls the server.
    pub host: &'a str,
    /// What that name is resolved to.
    pub address: SocketAddr,
    /// Path without query.
    pub path: &'a str,
    /// How many.
    pub times: usize,
    /// How many at once; with one, all go over one connection.
    pub at_once: usize,
    /// Further options.
    pub options: &'a [&'a str],
}

/// Requests of an edge: reporter, source, destination, security of the wire.
pub type Edge<'a> = (&'a str, &'a str, &'a str, &'a str);

/// What `observer_edge_requests_total` says, of all of some agents.
type Edges = BTreeMap<[String; 4], u64>;

// === impl Requests ===

impl Requests<'_> {
    /// Makes them from `place`: how many were answered with each status, 0 for none.
    pub fn make(&self, place: &Place<'_>) -> Result<BTreeMap<u16, u64>> {
        let mut command = place.command("curl")?;
        let (host, port) = (self.host, self.address.port());
        command.args(["--silent", "--max-time", "20", "--output", "/dev/null"]);
        command.args(["--write-out", "%{http_code}\\n", "--resolve"]);
        command.arg(format!("{host}:{port}:{}", self.address.ip()));
        if self.at_once > 1 {
            command.args(["--parallel", "--parallel-immediate", "--parallel-max"]);
            command.arg(self.at_once.to_string());
        }
        command.args(self.options);
        command.arg(format!(
            "http://{host}:{port}{}?[1-{}]",
            self.path, self.times
        ));
        // An exchange that failed is counted as one; curl says so by its exit code too.
        let output = process::run(&mut command)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut statuses = BTreeMap::new();
        for line in text.lines() {
            let status: u16 = line
                .parse()
                .with_context(|| format!("curl says {text:?}"))?;
            *statuses.entry(status).or_default() += 1;
        }
        let total: u64 = statuses.values().sum();
        if total != self.times as u64 {
            bail!("{total} answers instead of {}: {statuses:?}", self.times);
        }
        Ok(statuses)
    }

    /// As [`Self::make`], which must be answered with `status`, all of them.
    pub fn expect(&self, place: &Place<'_>, status: u16) -> Result<u64> {
        let statuses = self.make(place)?;
        let times = self.times as u64;
        if statuses != BTreeMap::from([(status, times)]) {
            bail!("{self:?}: {statuses:?} instead of {status}");
        }
        Ok(times)
    }
}

/// Requests of all edges, as `agents` tell it together.
fn edges(agents: &[&Agent]) -> Result<(Edges, Vec<Metrics>)> {
    let mut found = Edges::new();
    let mut all = Vec::new();
    for agent in agents {
        let metrics = agent.metrics()?;
        for sample in metrics.select("observer_edge_requests_total", &[]) {
            // Every series begins with 0.
            if sample.value == 0.0 {
                continue;
            }
            let label = |name: &str| sample.labels.get(name).cloned().unwrap_or_default();
            let key = ["reporter", "source_name", "destination_name", "security"].map(label);
            *found.entry(key).or_default() += sample.value as u64;
        }
        all.push(metrics);
    }
    Ok((found, all))
}

/// Waits until the requests of all edges are these and no others, also a moment later.
pub fn expect_edges(agents: &[&Agent], expected: &[(Edge<'_>, u64)]) -> Result<()> {
    let mut wanted = Edges::new();
    for ((reporter, source, destination, security), count) in expected {
        let key = [*reporter, *source, *destination, *security].map(str::to_owned);
        *wanted.entry(key).or_default() += count;
    }
    wanted.retain(|_, count| *count > 0);
    let began = std::time::Instant::now();
    let (found, metrics) = loop {
        let (found, metrics) = edges(agents)?;
        if found == wanted || began.elapsed() > PATIENCE {
            std::thread::sleep(SETTLE);
            break (edges(agents)?.0, metrics);
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    if found == wanted {
        return Ok(());
    }
    let losses: Vec<_> = metrics.iter().map(Metrics::losses).collect();
    let mut text = String::new();
    for (key, count) in &wanted {
        let other = found.get(key).copied().unwrap_or(0);
        if other != *count {
            text.push_str(&format!("{other} instead of {count}: {key:?}\n"));
        }
    }
    for (key, count) in found.iter().filter(|(key, _)| !wanted.contains_key(*key)) {
        text.push_str(&format!("{count} not expected: {key:?}\n"));
    }
    let mut told = Vec::new();
    for agent in agents {
        let keys = [
            "kind",
            "side",
            "local",
            "remote",
            "peer_k8s_pod",
            "security",
        ];
        told.push(lines(&agent.flows()?, &keys));
    }
    let kept: Vec<String> = (metrics.iter())
        .flat_map(|metrics| metrics.select("observer_table_entries", &[]))
        .filter(|sample| sample.value > 0.0)
        .map(|sample| format!("{:?} {}", sample.labels, sample.value))
        .collect();
    bail!("requests of edges:\n{text}lost: {losses:?}\nkept: {kept:?}\ntold: {told:#?}")
}

/// Waits until this many connections of an edge have been opened; more is an error, also a moment
/// later.
pub fn expect_connections(agents: &[&Agent], edge: Edge<'_>, expected: u64) -> Result<()> {
    let (reporter, source, destination, security) = edge;
    let labels = [
        ("reporter", reporter),
        ("source_name", source),
        ("destination_name", destination),
        ("security", security),
    ];
    let name = "observer_edge_connections_opened_total";
    let count = || -> Result<u64> {
        let counts = agents
            .iter()
            .map(|agent| Ok(agent.metrics()?.sum(name, &labels)));
        Ok(counts.sum::<Result<f64>>()? as u64)
    };
    // What there is instead is told below.
    let _ = wait::until(name, PATIENCE, || Ok((count()? >= expected).then_some(())));
    std::thread::sleep(SETTLE);
    let found = count()?;
    if found != expected {
        let all = agents.iter().map(|agent| {
            let metrics = agent.metrics()?;
            let samples = metrics.select(name, &[]).filter(|one| one.value > 0.0);
            Ok(samples
                .map(|one| format!("{} {:?}", one.value, one.labels))
                .collect())
        });
        let all = all.collect::<Result<Vec<Vec<String>>>>()?.concat();
        bail!("{found} instead of {expected}: {name}{labels:?} of {all:#?}");
    }
    Ok(())
}

/// Checks that the measures of all agents' `http.{side}.request.duration` are of these workloads, and of
/// no others.
pub fn expect_calls(agents: &[&Agent], side: &str, expected: &[(&str, u64)]) -> Result<()> {
    let name = format!("http_{side}_request_duration_seconds_count");
    let mut found: BTreeMap<String, u64> = BTreeMap::new();
    for agent in agents {
        let metrics = agent.metrics()?;
        for sample in metrics
            .select(&name, &[])
            .filter(|one: &&Sample| one.value > 0.0)
        {
            let workload = sample.labels.get("k8s_workload_name");
            *found
                .entry(workload.cloned().unwrap_or_default())
                .or_default() += sample.value as u64;
        }
    }
    let expected: BTreeMap<String, u64> = (expected.iter())
        .filter(|(_, count)| *count > 0)
        .map(|(workload, count)| ((*workload).to_owned(), *count))
        .collect();
    if found != expected {
        bail!("{name}: {found:?} instead of {expected:?}");
    }
    Ok(())
}
