//! What a hub costs on a large cluster: a process of its own, and a thousand agents over loopback.
//!
//! The objects and their changes are made up in the hub's process and told to it as a watch would;
//! so there is no API server, and what the watch costs is not in here. Ten of the agents are real ones,
//! the others count bytes.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

#[path = "hub/cluster.rs"]
mod cluster;

use std::{
    env,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use observer::{
    app::hub::{self, Feed, Watching},
    cluster::{
        object::{Change, Source},
        stream::{PATH, PROTOCOL, client, status::Status},
    },
    config::Config,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
    task::JoinSet,
    time::MissedTickBehavior,
};

use self::cluster::{CHANGES, Cluster, NODES, PODS, SERVICES};

const AGENTS: usize = 1_000;
const REAL: usize = 10;
const ROLE: &str = "OBSERVER_BENCH_ROLE";

/// What an agent that only counts has seen.
#[derive(Default)]
struct Counted {
    bytes: AtomicU64,
    /// Bytes up to the first heartbeat, which follows the snapshot.
    snapshot: AtomicU64,
    /// Milliseconds until then.
    synced: AtomicU64,
}

/// A hub's process.
struct Hub {
    child: Child,
    address: SocketAddr,
}

#[derive(Clone, Copy, Debug)]
struct Usage {
    cpu: f64,
    resident: f64,
    peak: f64,
}

fn main() {
    if env::var(ROLE).is_ok() {
        run_hub();
        return;
    }
    // `cargo test` runs benchmarks too, to see that they work.
    let arguments: Vec<String> = env::args().collect();
    let is_test = !arguments.iter().any(|argument| argument == "--bench");
    let quick = is_test || arguments.iter().any(|argument| argument == "--quick");
    let (agents, seconds) = match (is_test, quick) {
        (true, _) => (20, 1),
        (false, true) => (AGENTS, 10),
        (false, false) => (AGENTS, 60),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(measure(agents, Duration::from_secs(seconds)));
}

fn run_hub() {
    let file = "hub: {listen: 127.0.0.1:0, authenticate: false}\n";
    let config = Config::parse("bench", file).unwrap();
    let feed = async || {
        Ok(Feed {
            age: Box::new(|_| Some(Duration::ZERO)),
            watch: Box::new(|changes| -> Watching { Box::pin(tell(changes)) }),
            reviews: None,
            status: None,
        })
    };
    hub::run_with(&config, feed).unwrap();
}

async fn tell(changes: mpsc::Sender<(Source, Vec<Change>)>) {
    let mut cluster = Cluster::new();
    let mut all = cluster.everything();
    // In batches, as a watch tells them; what is told is let go.
    while !all.is_empty() {
        let rest = all.split_off(all.len().min(512));
        changes.send((Source::Cluster, all)).await.unwrap();
        all = rest;
    }
    drop(all);
    let parts = 10;
    let mut tick = tokio::time::interval(Duration::from_secs(1) / parts);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let batch = cluster.happen(u64::from(parts));
        if changes.send((Source::Cluster, batch)).await.is_err() {
            return;
        }
    }
}

async fn measure(agents: usize, time: Duration) {
    println!(
        "{PODS} pods, {NODES} nodes, {SERVICES} services, {CHANGES} changes a second, {agents} agents"
    );
    let hub = Hub::start();
    hub.wait().await;
    let before = hub.usage();
    row("hub without agents, memory", before.resident, "MiB");

    let mut tasks = JoinSet::new();
    let begun = Instant::now();
    let counted: Vec<Arc<Counted>> = (REAL..agents).map(|_| Arc::default()).collect();
    for agent in &counted {
        tasks.spawn(count(hub.address, agent.clone(), begun));
    }
    let mut real = Vec::new();
    for _ in 0..REAL {
        let status = Arc::new(Status::default());
        let (sender, mut changes) = mpsc::channel(16);
        let options = client::Options {
            url: format!("http://{}", hub.address),
            ..client::Options::default()
        };
        tasks.spawn(client::run(options, sender, status.clone()));
        tasks.spawn(async move { while changes.recv().await.is_some() {} });
        real.push((status, Duration::ZERO));
    }
    loop {
        tokio::time::sleep(Duration::from_millis(5)).await;
        for (status, synced) in &mut real {
            if synced.is_zero() && status.is_synced() {
                *synced = begun.elapsed();
            }
        }
        let raw = counted.iter().all(|agent| load(&agent.synced) > 0);
        if raw && real.iter().all(|(_, synced)| !synced.is_zero()) {
            break;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(300),
            "not all agents are in sync"
        );
    }
    let synced = hub.usage();
    let mut times: Vec<f64> = counted
        .iter()
        .map(|agent| load(&agent.synced) as f64 / 1e3)
        .collect();
    times.sort_by(f64::total_cmp);
    let mut own: Vec<f64> = real
        .iter()
        .map(|(_, synced)| synced.as_secs_f64())
        .collect();
    own.sort_by(f64::total_cmp);
    row(
        "all agents at once: in sync, median",
        times[times.len() / 2],
        "s",
    );
    row(
        "all agents at once: in sync, last",
        times[times.len() - 1],
        "s",
    );
    row("real agents among them, last", own[own.len() - 1], "s");
    row("hub meanwhile, CPU", synced.cpu - before.cpu, "s");
    let snapshot = load(&counted[0].snapshot) as f64;
    row("snapshot of an agent", snapshot / 1024.0, "KiB");
    let text = hub.metrics().await;
    let object_bytes = value(&text, "observer_hub_object_bytes");
    row("objects, encoded", object_bytes / 1024.0, "KiB");

    let bytes =
        |counted: &[Arc<Counted>]| -> u64 { counted.iter().map(|agent| load(&agent.bytes)).sum() };
    let (from, usage, at) = (bytes(&counted), hub.usage(), Instant::now());
    tokio::time::sleep(time).await;
    let minutes = at.elapsed().as_secs_f64() / 60.0;
    let (to, after) = (bytes(&counted), hub.usage());
    let each = (to - from) as f64 / counted.len() as f64 / minutes;
    row("deltas of an agent", each / 1024.0, "KiB/min");
    let cpu = (after.cpu - usage.cpu) / (minutes * 60.0) * 100.0;
    row("hub with agents, CPU of one core", cpu, "%");
    row("hub with agents, memory", after.resident, "MiB");
    row(
        "hub, memory at its most (aim: below 256)",
        after.peak,
        "MiB",
    );

    let alone = Instant::now();
    let late = Arc::new(Counted::default());
    tasks.spawn(count(hub.address, late.clone(), alone));
    while load(&late.synced) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    row("one more agent: in sync", load(&late.synced) as f64, "ms");
    let text = hub.metrics().await;
    for name in [
        "observer_hub_agents",
        "observer_hub_snapshots_total",
        "observer_hub_snapshots_encoded_total",
        "observer_hub_behind_total",
        "observer_hub_changes_total{told=\"true\"}",
        "observer_hub_changes_total{told=\"false\"}",
    ] {
        row(name, value(&text, name), "");
    }
    // Before the hub goes.
    tasks.shutdown().await;
}

fn row(name: &str, value: f64, unit: &str) {
    println!("  {name:<48} {value:>12.1} {unit}");
}

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// Reads frames by their headers alone.
async fn count(address: SocketAddr, counted: Arc<Counted>, begun: Instant) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {PATH}?protocol={PROTOCOL} HTTP/1.0\r\nhost: hub\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    let mut buffer = vec![0; 16 << 10];
    // HTTP/1.0 has no chunks: what follows the head is frames.
    let mut frames = loop {
        let read = stream.read(&mut buffer).await.unwrap();
        assert!(read > 0, "{}", String::from_utf8_lossy(&head));
        head.extend_from_slice(&buffer[..read]);
        if let Some(end) = head.windows(4).position(|end| end == b"\r\n\r\n") {
            assert!(
                head.starts_with(b"HTTP/1.0 200"),
                "{}",
                String::from_utf8_lossy(&head)
            );
            break head.split_off(end + 4);
        }
    };
    let mut skip = 0;
    loop {
        let skipped = frames.len().min(skip);
        frames.drain(..skipped);
        skip -= skipped;
        while skip == 0 && frames.len() > 5 {
            let length = u32::from_be_bytes(frames[1..5].try_into().unwrap()) as usize + 5;
            counted.bytes.fetch_add(length as u64, Ordering::Relaxed);
            // A heartbeat, not deflated.
            if frames[0] == 0 && frames[5] == 0x1a && load(&counted.synced) == 0 {
                let time = begun.elapsed().as_millis().max(1) as u64;
                counted
                    .snapshot
                    .store(load(&counted.bytes), Ordering::Relaxed);
                counted.synced.store(time, Ordering::Relaxed);
            }
            let skipped = frames.len().min(length);
            frames.drain(..skipped);
            skip = length - skipped;
        }
        let read = stream.read(&mut buffer).await.unwrap();
        assert!(read > 0, "the hub ended a stream");
        frames.extend_from_slice(&buffer[..read]);
    }
}

/// The value of a series in an exposition.
fn value(text: &str, series: &str) -> f64 {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in {text}"))
        .parse()
        .unwrap()
}

// === impl Hub ===

impl Hub {
    fn start() -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .env(ROLE, "hub")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let out = child.stdout.take().unwrap();
        BufReader::new(out).read_line(&mut line).unwrap();
        let address = line
            .split("http://")
            .nth(1)
            .unwrap()
            .split(": ")
            .next()
            .unwrap();
        let address = address.parse().unwrap();
        Self { child, address }
    }

    async fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("GET {path} HTTP/1.0\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    async fn metrics(&self) -> String {
        self.get("/metrics").await
    }

    async fn wait(&self) {
        while !self.get("/readyz").await.starts_with("HTTP/1.0 200") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn usage(&self) -> Usage {
        let folder = format!("/proc/{}", self.child.id());
        let status = std::fs::read_to_string(format!("{folder}/status")).unwrap();
        let memory = |name: &str| -> f64 {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .unwrap();
            let kilobytes: f64 = line.split_whitespace().next().unwrap().parse().unwrap();
            kilobytes / 1024.0
        };
        let stat = std::fs::read_to_string(format!("{folder}/stat")).unwrap();
        let (_, rest) = stat.rsplit_once(") ").unwrap();
        let ticks: f64 = rest
            .split(' ')
            .skip(11)
            .take(2)
            .map(|ticks| ticks.parse::<f64>().unwrap())
            .sum();
        Usage {
            // `USER_HZ` is 100 on every Linux that we run on.
            cpu: ticks / 100.0,
            resident: memory("VmRSS:"),
            peak: memory("VmHWM:"),
        }
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
