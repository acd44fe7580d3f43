//! Where the time of a request goes: the shares of both proxies, the network and the application, where
//! each is known because it is made to take that long.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, ensure};
use observer_tests::{
    agent::Agent,
    mesh::{self, Member, Plane, Spec, Target, istio::Sidecar, service_address},
    process,
    requirement::{Need, lacking},
    server::PYTHON,
    wait::{self, PATIENCE, SETTLE},
};

/// How long the client's proxy, the server's proxy and the application keep a request, seconds. They
/// differ by more than [`SLACK`], so that none is taken for another.
const CLIENT_PROXY: f64 = 0.040;
const SERVER_PROXY: f64 = 0.070;
const APPLICATION: f64 = 0.110;
/// How much longer a share may be, seconds: each is on the way for a while, and it is a machine with much
/// else to do.
const SLACK: f64 = 0.020;
/// How much shorter, seconds: timers and clocks of three processes.
const ROUNDED: f64 = 0.002;
const REQUESTS: usize = 25;

/// Requests from `client`, one after the other on one connection: their mean as it has measured it
/// itself, without connecting, in seconds.
fn ask(client: &Member<'_>, target: &Target) -> Result<f64> {
    let mut command = client.app()?.command("curl")?;
    let address = target.dialled()?;
    command.args([
        "--silent",
        "--fail",
        "--max-time",
        "30",
        "--output",
        "/dev/null",
    ]);
    command.args(["--write-out", "%{time_pretransfer} %{time_total}\\n"]);
    command.arg(format!("http://{address}/share?[1-{REQUESTS}]"));
    let printed = process::check(&mut command)?;
    let took = |line: &str| -> Result<f64> {
        let (before, whole) = line.split_once(' ').context("not two times")?;
        Ok(whole.parse::<f64>()? - before.parse::<f64>()?)
    };
    let all = printed.lines().map(took).collect::<Result<Vec<f64>>>()?;
    ensure!(all.len() == REQUESTS, "{printed}");
    Ok(all.iter().sum::<f64>() / REQUESTS as f64)
}

/// Shares of the only edge, as the agent tells them.
fn shares(agent: &Agent) -> Result<BTreeMap<String, f64>> {
    let labels = [("source_name", "front"), ("destination_name", "web")];
    let metrics = agent.metrics()?;
    let samples = metrics.select("observer_mesh_latency_seconds", &labels);
    let share = |sample: &observer_tests::metrics::Sample| -> Result<(String, f64)> {
        let part = sample.labels.get("part").context("no part")?;
        Ok((part.clone(), sample.value))
    };
    samples.map(share).collect()
}

/// The parts that are told where all of the way is seen.
const PARTS: [(&str, f64); 4] = [
    ("client_proxy", CLIENT_PROXY),
    ("network", 0.0),
    ("server_proxy", SERVER_PROXY),
    ("application", APPLICATION),
];

#[test]
fn each_delay_is_in_the_share_of_who_made_it() -> Result<()> {
    if lacking(&[&mesh::NEEDS[..], &[Need::Tool(PYTHON)]].concat())? {
        return Ok(());
    }
    mesh::scene("shares", 1, |mesh| {
        let front = mesh.pod(1, &Spec::new("front", Plane::Istio))?;
        let web = mesh.pod(1, &Spec::new("web", Plane::Istio))?;
        let target = Target {
            delay: Some(Duration::from_secs_f64(CLIENT_PROXY)),
            ..Target::new("web", service_address(10, 80), &[&web])
        };
        mesh.services(&[(&target, "http", &[&web])])?;
        let _server = web.serve_slowly(Duration::from_secs_f64(APPLICATION))?;
        let inbound = Sidecar {
            delay: Some(Duration::from_secs_f64(SERVER_PROXY)),
            ..Sidecar::default()
        };
        let outbound = Sidecar {
            targets: &[&target],
            ..Sidecar::default()
        };
        let _sidecars = [mesh.istio(&web, &inbound)?, mesh.istio(&front, &outbound)?];
        let agent = mesh.agent(1)?;
        let measured = ask(&front, &target)?;
        // What is missing is told below.
        let _ = wait::until("shares", PATIENCE, || {
            Ok((shares(&agent)?.len() == PARTS.len()).then_some(()))
        });
        std::thread::sleep(SETTLE);
        let shares = shares(&agent)?;
        println!("{shares:?}, {measured:.6} s at the client");
        for (part, expected) in PARTS {
            let share = shares.get(part);
            let share = share.with_context(|| format!("no {part}: {shares:?}"))?;
            let allowed = expected - ROUNDED..expected + SLACK;
            ensure!(allowed.contains(share), "{part} {share}: {shares:?}");
        }
        // All of it is the time between the client's request and its response; curl has a little more.
        let sum: f64 = shares.values().sum();
        ensure!(
            (measured - SLACK / 4.0..measured + ROUNDED).contains(&sum),
            "{sum} s in all, {measured} s at the client: {shares:?}"
        );
        mesh::finish([agent])
    })
}
