//! A collector that is slow, refuses, leaves or hangs harms nothing that is observed: what did not
//! reach it is counted, and is exactly what is missing.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use observer_tests::{
    agent::Agent,
    cgroup::Cgroup,
    client::Load,
    collector::Collector,
    peers::Peer,
    place::Place,
    requirement::{Need, lacking},
    server::Server,
    wait::{self, PATIENCE, PROMPT},
};
use serde_json::json;

use crate::observe;

/// An agent, and what it observes and tells.
struct Scene {
    collector: Collector,
    agent: Agent,
    nginx: Server,
    cgroup: Cgroup,
    /// Calls so far.
    made: u64,
}

fn cannot_run() -> Result<bool> {
    lacking(&[
        Need::Observer,
        Need::Peer(Peer::Python),
        Need::Tool("nginx"),
    ])
}

// === impl Scene ===

impl Scene {
    /// `more`: further lines of the part `otlp`.
    fn new(label: &str, more: &str) -> Result<Self> {
        let (cgroup, collector) = (Cgroup::create(label)?, Collector::start()?);
        let nginx = Server::nginx(&Place::host(&cgroup))?;
        let configuration = format!(
            "otlp:\n  endpoint: {}\n  protocol: grpc\n  timeout: 1s\n  metrics:\n    \
             enabled: false\n  batch:\n    items: 32\n    delay: 20ms\n{more}traces:\n  \
             sampler: always\nflows:\n  history: 100000\n",
            collector.grpc()
        );
        let agent = observe(&cgroup, &configuration)?;
        Ok(Self {
            collector,
            agent,
            nginx,
            cgroup,
            made: 0,
        })
    }

    /// Makes `calls`, a multiple of 8, and checks that they are told in full as flows and metrics.
    fn drive(&mut self, calls: u64) -> Result<()> {
        let load = Load {
            address: self.nginx.address(),
            targets: &["/hello"],
            connections: 4,
            rounds: (calls / 8) as usize,
            pipelined: 2,
        };
        let counted = load.run(&Place::host(&self.cgroup))?;
        ensure!(counted.statuses.get(&200) == Some(&calls), "{counted:?}");
        self.made += calls;
        for side in ["server", "client"] {
            let name = format!("http_{side}_request_duration_seconds_count");
            self.agent.expect_metric(&name, &[], self.made)?;
        }
        Ok(())
    }

    /// Spans that were lost, by why.
    fn lost(&self, reason: &str) -> Result<u64> {
        let labels = [("stage", "export"), ("reason", reason)];
        Ok(self.agent.metrics()?.sum("observer_loss_total", &labels) as u64)
    }

    /// Waits until each span has come or is counted as lost, and none twice; returns how many were
    /// lost.
    fn balance(&self) -> Result<u64> {
        let lost = || -> Result<u64> {
            let metrics = self.agent.metrics()?;
            Ok(metrics.sum("observer_loss_total", &[("stage", "export")]) as u64)
        };
        let all = 2 * self.made;
        let (mut came, mut missing) = (0, 0);
        let waited = wait::until("every span, or its loss", 2 * PATIENCE, || {
            came = self.collector.spans()?.len() as u64;
            missing = lost()?;
            Ok((came + missing >= all).then_some(()))
        });
        let losses = self.agent.metrics()?.losses();
        waited.with_context(|| format!("{came} came, lost {losses:?}, of {all}"))?;
        self.collector.settle(Duration::from_millis(300))?;
        let spans = self.collector.spans()?;
        let ids: BTreeSet<&str> = spans.iter().map(|span| span.id.as_str()).collect();
        ensure!(
            ids.len() == spans.len(),
            "{} spans, {} ids",
            spans.len(),
            ids.len()
        );
        let (came, missing) = (spans.len() as u64, lost()?);
        ensure!(
            came + missing == all,
            "{came} came, lost {losses:?}, of {all}"
        );
        Ok(missing)
    }

    /// Resident memory of the agent, bytes.
    fn memory(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.agent.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes = line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok());
        Ok(kibibytes.context("no VmRSS")? << 10)
    }
}

#[test]
fn refusals_that_pass_lose_nothing() -> Result<()> {
    if cannot_run()? {
        return Ok(());
    }
    let mut scene = Scene::new("refusing", "")?;
    for status in ["UNAVAILABLE", "DEADLINE_EXCEEDED"] {
        scene
            .collector
            .behave(&json!({"status": status, "times": 2}))?;
        scene.drive(40)?;
        ensure!(scene.balance()? == 0, "lost");
    }
    // Without that it would try again at once; a wait that is asked for is kept.
    let wait = json!({"status": "RESOURCE_EXHAUSTED", "retry": 1, "times": 1});
    scene.collector.behave(&wait)?;
    scene.drive(40)?;
    ensure!(scene.balance()? == 0, "lost");
    let requests = scene.collector.requests()?;
    let refused = requests
        .iter()
        .position(|one| one.status == "RESOURCE_EXHAUSTED");
    let refused = refused.context("nothing was refused")?;
    let next = requests
        .get(refused + 1)
        .context("nothing came after a refusal")?;
    let waited = Duration::from_nanos(next.received - requests[refused].received);
    ensure!(
        waited >= Duration::from_millis(990),
        "it came again after {waited:?}"
    );
    scene.agent.stop()
}

#[test]
fn refusals_that_stay_are_counted() -> Result<()> {
    if cannot_run()? {
        return Ok(());
    }
    let mut scene = Scene::new("rejecting", "")?;
    scene
        .collector
        .behave(&json!({"status": "INVALID_ARGUMENT", "times": 1}))?;
    scene.drive(80)?;
    let lost = scene.balance()?;
    let refused = scene
        .collector
        .requests()?
        .into_iter()
        .find(|one| !one.taken);
    let refused = refused.context("nothing was refused")?;
    ensure!(
        lost == refused.items && lost > 0,
        "{lost} lost: {refused:?}"
    );
    // What is rejected was received: it is here, and counted.
    scene.collector.behave(&json!({"reject": 3, "times": 1}))?;
    scene.drive(40)?;
    wait::until("rejected spans", PATIENCE, || {
        Ok((scene.lost("rejected")? == 3).then_some(()))
    })?;
    scene.agent.stop()
}

#[test]
fn a_collector_that_is_away_loses_what_does_not_fit() -> Result<()> {
    if cannot_run()? {
        return Ok(());
    }
    let mut scene = Scene::new("away", "  queue:\n    items: 128\n")?;
    // Both ends of these fit.
    scene.drive(40)?;
    ensure!(scene.balance()? == 0, "lost");
    scene.collector.leave()?;
    let before = scene.memory()?;
    scene.drive(2000)?;
    let grown = scene.memory()?.saturating_sub(before);
    ensure!(grown < 32 << 20, "it grew by {grown} bytes");
    wait::until("losses", PATIENCE, || {
        Ok((scene.lost("queue_full")? > 0).then_some(()))
    })?;
    scene.collector.come()?;
    let lost = scene.balance()?;
    // Beside the queue there are requests under way.
    ensure!((2000..4000 - 128).contains(&lost), "{lost} lost");
    scene.drive(40)?;
    ensure!(scene.balance()? == lost, "lost more");
    scene.agent.stop()
}

#[test]
fn a_slow_collector_loses_nothing_that_fits() -> Result<()> {
    if cannot_run()? {
        return Ok(());
    }
    let mut scene = Scene::new("slow", "")?;
    scene.collector.behave(&json!({"delay": 0.2}))?;
    let begun = Instant::now();
    scene.drive(160)?;
    ensure!(begun.elapsed() < PROMPT, "held up");
    ensure!(scene.balance()? == 0, "lost");
    scene.agent.expect_no_loss()?;
    scene.agent.stop()
}

#[test]
fn a_collector_that_hangs_holds_up_nothing() -> Result<()> {
    if cannot_run()? {
        return Ok(());
    }
    let mut scene = Scene::new("hanging", "")?;
    scene.drive(80)?;
    scene.collector.freeze()?;
    let begun = Instant::now();
    scene.drive(400)?;
    // Flows, metrics and readiness are answered as ever.
    ensure!(
        scene.agent.get("/readyz").is_ok() && begun.elapsed() < PROMPT,
        "held up"
    );
    ensure!(
        scene
            .agent
            .flows()?
            .iter()
            .filter(|flow| flow.is_call())
            .count()
            == 960
    );
    scene.collector.thaw()?;
    let came = wait::until("the spans", 2 * PATIENCE, || {
        let spans = scene.collector.spans()?;
        let ids: BTreeSet<String> = spans.iter().map(|span| span.id.clone()).collect();
        Ok((ids.len() == 960).then_some(spans.len()))
    })?;
    // What waited in the kernel was given up and sent again: it may be there twice, never missing.
    ensure!(came >= 960 && scene.lost("expired")? == 0, "{came} came");
    scene.agent.stop()
}

#[test]
fn an_end_waits_for_a_collector_but_not_for_ever() -> Result<()> {
    if cannot_run()? {
        return Ok(());
    }
    let mut scene = Scene::new("ending", "")?;
    scene.drive(80)?;
    let Scene {
        agent,
        collector,
        made,
        ..
    } = scene;
    agent.stop()?;
    let spans = collector.spans()?.len() as u64;
    ensure!(spans == 2 * made, "{spans} of {}", 2 * made);

    let mut scene = Scene::new("ended", "")?;
    scene.collector.freeze()?;
    scene.drive(80)?;
    let begun = Instant::now();
    scene.agent.stop()?;
    ensure!(
        begun.elapsed() < Duration::from_secs(8),
        "{:?}",
        begun.elapsed()
    );
    scene.collector.thaw()
}
