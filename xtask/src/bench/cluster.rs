//! A cluster of 10,000 pods in which things happen: a hub and its agents, and an agent alone.
//!
//! The hub and the agents are the real ones, the API server is the tests' double in this process. Of
//! the agents that follow the hub all but one only count what they are sent.

mod churn;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use observer_tests::{
    agent::{self, Agent},
    apiserver::{Cluster, READER, double::Double, kubeconfig, objects::cluster_of},
    cgroup::Cgroup,
    followers::Followers,
    http,
    metrics::Metrics,
    process::Process,
    wait,
};

use self::churn::{CHANGES, Churn};
use super::{
    report::row::{Aim, Row},
    usage,
};
use crate::workspace::say;

/// What was measured.
pub(super) struct Scale {
    rows: Vec<Row>,
    /// Requests to the API server: who asked, the verb and the resource, and how often.
    pub(super) requests: BTreeMap<String, u64>,
    /// What hub and agents lost.
    pub(super) losses: Vec<String>,
}

/// The hub's process.
struct Hub {
    process: Process,
    address: SocketAddr,
    begun: Instant,
}

/// One of the agents, and how long it took until it knew the cluster.
struct Follower {
    agent: Agent,
    name: &'static str,
    synced: Duration,
}

const PODS: usize = 10_000;
const NODES: usize = 1_000;
const SERVICES: usize = 5_000;
const AGENTS: usize = 1_000;
/// How long anybody may take to know the cluster.
const PATIENCE: Duration = Duration::from_secs(120);
/// Before anything counts: what has begun is done by then.
const SETTLE: Duration = Duration::from_secs(5);
const MEBIBYTE: f64 = 1_048_576.0;

/// Measures for a minute of changes, or for ten seconds. `check` is asked between the steps.
pub(super) fn measure(
    cgroup: &Cgroup,
    quick: bool,
    check: impl Fn() -> Result<()>,
) -> Result<Scale> {
    let server = Double::start()?;
    let mut churn = Churn::fill(&server, &cluster_of(PODS, NODES, SERVICES))?;
    let folder = tempfile::tempdir().context("make a folder")?;
    let mut rows = Vec::new();
    let mut row = |key, label, values: Vec<f64>, unit, digits, aim| {
        rows.push(Row {
            key,
            label,
            values,
            unit,
            digits,
            aim,
        });
    };
    let mebibytes = |bytes: u64| vec![bytes as f64 / MEBIBYTE];
    let access = |name: &str| -> Result<String> {
        let path = folder.path().join(name);
        let token = server_of(&server).account(name, READER)?;
        fs::write(&path, kubeconfig(&server, &token))?;
        Ok(format!("kubeconfig: {}", path.display()))
    };

    check()?;
    say("bench: cluster: the hub");
    let mut hub = Hub::start(folder.path(), &access("hub")?)?;
    let known = hub.synced()?;
    row(
        "hub_synced",
        "hub: knows all after",
        vec![known.as_secs_f64()],
        "s",
        2,
        Aim::None,
    );
    let memory = usage::memory(hub.process.id())?;
    row(
        "hub_alone_memory",
        "hub: memory without agents",
        mebibytes(memory.resident),
        "MiB",
        1,
        Aim::None,
    );

    check()?;
    say("bench: cluster: 1,000 agents");
    let before = usage::cpu(hub.process.id())?;
    let followers = Followers::start(hub.address, AGENTS)?;
    let times = wait::until("all agents to know all", PATIENCE, || followers.synced())?;
    let cpu = usage::cpu(hub.process.id())?.saturating_sub(before);
    let seconds = times.iter().map(Duration::as_secs_f64).collect();
    row(
        "agents_synced",
        "1,000 agents at once: know all after",
        seconds,
        "s",
        2,
        Aim::None,
    );
    row(
        "agents_synced_cpu",
        "hub: CPU time for that",
        vec![cpu.as_secs_f64()],
        "s",
        2,
        Aim::None,
    );
    let sent = followers
        .snapshots()
        .into_iter()
        .map(|bytes| bytes as f64 / 1024.0);
    row(
        "snapshot",
        "sent to each agent at first",
        sent.collect(),
        "KiB",
        1,
        Aim::None,
    );

    check()?;
    say("bench: cluster: agents with kernel programs");
    let follow = format!("node: node-0, hub: \"http://{}\"", hub.address);
    let started = [
        ("off", "enabled: off".to_owned()),
        ("with_hub", format!("{}, {follow}", access("agent")?)),
        ("alone", access("alone")?),
    ];
    let agents = started.map(|(name, settings)| Follower::start(cgroup, name, &settings));
    let agents = agents.into_iter().collect::<Result<Vec<_>>>()?;

    check()?;
    let seconds = if quick { 10 } else { 60 };
    say(&format!("bench: cluster: {seconds} seconds of changes"));
    let stop = AtomicBool::new(false);
    let made = AtomicU64::new(0);
    let (bytes, busy, made, minutes) = thread::scope(|scope| {
        let churning = scope.spawn(|| churn.run(&server, &stop, &made));
        let watched = || -> Result<_> {
            thread::sleep(SETTLE);
            let cpu = || -> Result<Vec<Duration>> {
                let agents = agents.iter().map(|agent| agent.agent.id());
                let all = [hub.process.id()].into_iter().chain(agents);
                all.map(usage::cpu).collect()
            };
            let (from, used, changes, at) = (
                followers.bytes(),
                cpu()?,
                made.load(Relaxed),
                Instant::now(),
            );
            thread::sleep(Duration::from_secs(seconds));
            let time = at.elapsed();
            let to = followers.bytes();
            let sent: Vec<u64> = to.iter().zip(from).map(|(to, from)| to - from).collect();
            let busy: Vec<f64> = cpu()?
                .iter()
                .zip(used)
                .map(|(now, before)| {
                    now.saturating_sub(before).as_secs_f64() / time.as_secs_f64() * 100.0
                })
                .collect();
            Ok((
                sent,
                busy,
                made.load(Relaxed) - changes,
                time.as_secs_f64() / 60.0,
            ))
        };
        let watched = watched();
        stop.store(true, Relaxed);
        let churned = churning.join();
        churned.map_err(|_| anyhow::anyhow!("the changes ended in a panic"))??;
        watched
    })?;
    followers.synced()?;
    let rate = made as f64 / (minutes * 60.0);
    row(
        "changes",
        "changes of the API a second",
        vec![rate],
        "",
        1,
        Aim::AtLeast(0.9 * CHANGES as f64),
    );
    let sent = bytes.iter().map(|bytes| *bytes as f64 / 1024.0 / minutes);
    row(
        "deltas",
        "sent to each agent a minute",
        sent.collect(),
        "KiB",
        1,
        Aim::None,
    );
    let mut busy = busy.into_iter();
    let mut busy = || vec![busy.next().unwrap_or_default()];
    row(
        "hub_busy",
        "hub: CPU of one core",
        busy(),
        "%",
        2,
        Aim::None,
    );
    let memory = usage::memory(hub.process.id())?;
    row(
        "hub_memory",
        "hub: memory",
        mebibytes(memory.resident),
        "MiB",
        1,
        Aim::None,
    );
    row(
        "hub_peak",
        "hub: memory at its most",
        mebibytes(memory.peak),
        "MiB",
        1,
        Aim::Below(256.0),
    );
    let mut losses = hub.metrics()?.losses();
    for one in &agents {
        let memory = usage::memory(one.agent.id())?;
        let [synced, resident, peak, used] = one.rows();
        if one.name != "off" {
            row(
                synced.0,
                synced.1,
                vec![one.synced.as_secs_f64()],
                "s",
                2,
                Aim::None,
            );
        }
        row(
            resident.0,
            resident.1,
            mebibytes(memory.resident),
            "MiB",
            1,
            Aim::Below(64.0),
        );
        row(peak.0, peak.1, mebibytes(memory.peak), "MiB", 1, Aim::None);
        row(used.0, used.1, busy(), "%", 2, Aim::None);
        let metrics = one.agent.metrics()?;
        losses.extend(metrics.losses());
        for kind in ["pods", "services", "endpointslices", "nodes"] {
            let known = metrics.sum("observer_kubernetes_objects", &[("kind", kind)]);
            say(&format!(
                "bench: cluster: {} knows {known} {kind}",
                one.name
            ));
        }
    }
    let mut requests = BTreeMap::new();
    for request in server_of(&server).requests()? {
        let user = request.user.rsplit(':').next().unwrap_or_default();
        let asked = format!("{user}: {} {}", request.verb, request.resource);
        *requests.entry(asked).or_insert(0) += 1;
    }
    drop(followers);
    for one in agents {
        one.agent.stop()?;
    }
    let ended = hub.process.stop()?;
    ensure!(ended.success(), "the hub ended with {ended}");
    Ok(Scale {
        rows,
        requests,
        losses,
    })
}

fn server_of(server: &Double) -> &dyn Cluster {
    server
}

// === impl Scale ===

impl Scale {
    /// What it was, in words.
    pub(super) fn title(&self) -> String {
        format!(
            "{PODS} pods, {NODES} nodes, {SERVICES} services, {CHANGES} changes a second, {AGENTS} agents"
        )
    }

    pub(super) fn rows(&self) -> &[Row] {
        &self.rows
    }
}

// === impl Hub ===

impl Hub {
    fn start(folder: &Path, access: &str) -> Result<Self> {
        let config = folder.join("hub.yaml");
        let text = format!(
            "kubernetes: {{{access}}}\nhub: {{listen: 127.0.0.1:0, authenticate: false}}\n"
        );
        fs::write(&config, text).context("write the hub's configuration")?;
        let log = folder.join("hub.log");
        let out = File::create(&log).context("make the hub's log")?;
        let begun = Instant::now();
        let mut command = Command::new(agent::binary()?);
        agent::without_settings(command.args(["hub", "--config"]).arg(&config))
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out);
        let mut process = Process::spawn(&mut command)?;
        let address = wait::until("the hub's address", PATIENCE, || {
            let text = fs::read_to_string(&log)?;
            ensure!(process.ended()?.is_none(), "the hub ended: {text}");
            let line = text.split("listening on http://").nth(1);
            Ok(line.and_then(|line| line.split(": ").next()?.parse().ok()))
        })?;
        Ok(Self {
            process,
            address,
            begun,
        })
    }

    /// Waits until it knows the cluster.
    fn synced(&mut self) -> Result<Duration> {
        wait::until("the hub to know all", PATIENCE, || {
            let ready = http::get(self.address, "/readyz").is_ok_and(|answer| answer.status == 200);
            Ok(ready.then(|| self.begun.elapsed()))
        })
    }

    fn metrics(&self) -> Result<Metrics> {
        Metrics::parse(&http::get(self.address, "/metrics")?.body)
    }
}

// === impl Follower ===

impl Follower {
    fn start(cgroup: &Cgroup, name: &'static str, settings: &str) -> Result<Self> {
        let options = agent::Options {
            configuration: Some(format!("kubernetes: {{{settings}}}\n")),
            ..agent::Options::default()
        };
        let begun = Instant::now();
        let agent = Agent::start_with(cgroup, &options)?;
        wait::until("an agent to know all", PATIENCE, || {
            let metrics = agent.metrics()?;
            let mut states = metrics.select("observer_kubernetes_synced", &[]).peekable();
            let known = states.peek().is_some() && states.all(|state| state.value == 1.0);
            Ok((known || name == "off").then_some(()))
        })
        .with_context(|| agent.log().unwrap_or_default())?;
        Ok(Self {
            agent,
            name,
            synced: begun.elapsed(),
        })
    }

    /// Key and label of: when it knew the cluster, its memory, that at its most, its CPU time.
    fn rows(&self) -> [(&'static str, &'static str); 4] {
        match self.name {
            "off" => [
                ("", ""),
                ("off_memory", "agent, no cluster: memory"),
                ("off_peak", "agent, no cluster: at its most"),
                ("off_busy", "agent, no cluster: CPU of one core"),
            ],
            "alone" => [
                ("alone_synced", "agent, no hub: knows all after"),
                ("alone_memory", "agent, no hub: memory"),
                ("alone_peak", "agent, no hub: at its most"),
                ("alone_busy", "agent, no hub: CPU of one core"),
            ],
            _ => [
                ("with_hub_synced", "agent with hub: knows all after"),
                ("with_hub_memory", "agent with hub: memory"),
                ("with_hub_peak", "agent with hub: at its most"),
                ("with_hub_busy", "agent with hub: CPU of one core"),
            ],
        }
    }
}
