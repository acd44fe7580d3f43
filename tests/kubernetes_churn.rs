//! Pods come and go while calls pass between them: every call is told once, with the pods at both
//! of its ends, and never with a pod that was not there.
//!
//! What is true the pods know themselves: each answer bears the uid of who answers, and each call
//! has a path of its own. What the API says of them comes late, in the order of a real cluster, and
//! an address is given to another pod a second or two after it was free.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
    sync::{PoisonError, RwLock},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use observer_tests::{
    agent::{self, Agent, Options},
    apiserver::{
        Cluster as _, READER,
        double::Double,
        faults::{Act, Fault},
        kubeconfig,
    },
    flow::{BOTH_SIDES, Flow},
    http,
    node::{Cluster, Layout},
    process::Process,
    requirement::{Need, lacking},
    wait,
};
use tempfile::TempDir;

#[path = "kubernetes_churn/forward.rs"]
mod forward;
#[path = "kubernetes_churn/truth.rs"]
mod truth;
#[path = "kubernetes_churn/world.rs"]
mod world;

use truth::{Truth, Verdict};
use world::{Dice, PORT, Plan, VIRTUAL, World};

/// Addresses that pods have one after the other, on each node: two of those who call and two of
/// those who answer.
const CHURNED: [u8; 4] = [101, 102, 103, 104];
/// Last octets of the pods that stay: one that calls and one that answers, on each node.
const STABLE: [u8; 2] = [11, 12];

/// A hub, on the machine's own network.
struct Hub {
    _process: Process,
    address: SocketAddr,
}

/// What tells the agents of the cluster, and how it behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Telling {
    /// Each of them watches the API.
    Watches,
    /// A hub does.
    Hub,
    /// Each of them watches an API that breaks off, forgets and falls silent.
    BrokenWatches,
}

fn cannot_run() -> Result<bool> {
    lacking(&[
        Need::Observer,
        Need::Tool("ip"),
        Need::Tool("nft"),
        Need::Tool("python3"),
    ])
}

/// Held by the longest of these for itself, and shared by the others: it is work enough for a machine.
static MACHINE: RwLock<()> = RwLock::new(());

fn free_address() -> Result<SocketAddr> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).context("find a free port")?;
    Ok(listener.local_addr()?)
}

impl Hub {
    fn start(folder: &Path, kubeconfig: &Path) -> Result<Self> {
        let address = free_address()?;
        let configuration = folder.join("hub.yaml");
        let text = format!(
            "kubernetes:\n  enabled: on\n  kubeconfig: {}\nhub:\n  authenticate: false\n",
            kubeconfig.display()
        );
        fs::write(&configuration, text)?;
        let log = fs::File::create(folder.join("hub.out"))?;
        let mut command = Command::new(agent::binary()?);
        command
            .args(["hub", "--listen", &address.to_string(), "--config"])
            .arg(&configuration)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let process = Process::spawn(agent::without_settings(&mut command))?;
        wait::until("the hub to know the cluster", wait::PATIENCE, || {
            let ready = http::get(address, "/readyz");
            Ok(ready.is_ok_and(|answer| answer.status == 200).then_some(()))
        })
        .with_context(|| fs::read_to_string(folder.join("hub.out")).unwrap_or_default())?;
        Ok(Self {
            _process: process,
            address,
        })
    }
}

/// What the pod of this number calls. Those that stay call also addresses that pods come to and go from.
fn calls(node: usize, octet: u8) -> Vec<(&'static str, String, u16, f64)> {
    let pod = |node: usize, octet: u8| format!("10.244.{node}.{octet}");
    let other = 3 - node;
    let mut calls = vec![
        ("keep", VIRTUAL.to_owned(), 80, 0.15),
        ("once", VIRTUAL.to_owned(), 80, 0.25),
        ("keep", pod(other, STABLE[1]), PORT, 0.15),
        ("once", pod(node, STABLE[1]), PORT, 0.3),
    ];
    if octet == STABLE[0] {
        for churned in &CHURNED[2..] {
            calls.push(("keep", pod(other, *churned), PORT, 0.1));
            calls.push(("once", pod(other, *churned), PORT, 0.2));
            calls.push(("once", pod(node, *churned), PORT, 0.3));
        }
    }
    calls
}

fn plan(node: usize, octet: u8, number: usize) -> Plan {
    let calling = octet == STABLE[0] || CHURNED[..2].contains(&octet);
    Plan {
        name: format!("pod-{node}-{octet}-{number}"),
        node,
        octet,
        serves: !calling,
        calls: if calling {
            calls(node, octet)
        } else {
            Vec::new()
        },
    }
}

/// What goes wrong with the API.
fn disturb(api: &Double, end: Instant) {
    for turn in 0.. {
        if Instant::now() + Duration::from_secs(4) >= end {
            break;
        }
        thread::sleep(Duration::from_secs(2));
        match turn % 3 {
            0 => api.disconnect(),
            1 => {
                // The watches cannot go on where they were.
                api.store().forget();
                api.disconnect();
            }
            _ => {
                api.misbehave(Fault::new(Act::Silence));
                api.disconnect();
                thread::sleep(Duration::from_secs(2));
                api.behave();
                api.disconnect();
            }
        }
    }
}

/// Lets pods come and go for so long, and compares what the agents tell.
fn churn(telling: Telling, duration: Duration) -> Result<(Verdict, usize)> {
    let folder = TempDir::new()?;
    let cluster = Cluster::create("churn", &[Layout::Containerd, Layout::Crio])?;
    let double = Double::start()?;
    let api: &dyn observer_tests::apiserver::Cluster = &double;
    let access = folder.path().join("kubeconfig");
    fs::write(&access, kubeconfig(api, &api.account("observer", READER)?))?;
    let world = World::new(&cluster, &double, folder.path())?;
    let hub = match telling {
        Telling::Hub => Some(Hub::start(folder.path(), &access)?),
        Telling::Watches | Telling::BrokenWatches => None,
    };
    let mut agents = Vec::new();
    for number in [1, 2] {
        let node = cluster.node(number);
        forward::forward(node.namespace(), double.address())?;
        let mut configuration = format!(
            "flows:\n  history: 200000\nkubernetes:\n  enabled: on\n  node: {}\n  kubeconfig: {}\n",
            node.name(),
            access.display()
        );
        if let Some(hub) = &hub {
            forward::forward(node.namespace(), hub.address)?;
            configuration += &format!("  hub: http://{}\n", hub.address);
        }
        let options = Options {
            configuration: Some(configuration),
            ..Options::default()
        };
        // What the thread starts is where the thread is.
        let agent = (node.namespace()).within(|| Agent::start_with(node.cgroup(), &options));
        agents.push(agent?);
    }

    let mut stable = Vec::new();
    thread::scope(|scope| -> Result<()> {
        let started = [1, 2].map(|number| {
            STABLE.map(|octet| {
                let world = &world;
                scope.spawn(move || {
                    let mut dice = Dice(u64::from(octet) + number as u64);
                    let running = world.begin(&plan(number, octet, 0), &mut dice)?;
                    running.listens(world.folder())?;
                    anyhow::Ok(running)
                })
            })
        });
        for thread in started.into_iter().flatten() {
            let running = thread.join().map_err(|_| anyhow!("a thread died"))?;
            stable.push(running?);
        }
        Ok(())
    })?;
    let end = Instant::now() + duration;
    thread::scope(|scope| {
        for number in [1, 2] {
            for octet in CHURNED {
                let seed = 1000 * number as u64 + u64::from(octet);
                world.churn(scope, move |turn| plan(number, octet, turn + 1), seed, end);
            }
        }
        if telling == Telling::BrokenWatches {
            scope.spawn(|| disturb(&double, end));
        }
    });
    world.error()?;
    world.end_all(stable)?;
    let lives = world.lives();
    let lived = lives.len();
    let truth = Truth::read(folder.path(), lives)?;
    // All that waits for a pod is told by then.
    thread::sleep(Duration::from_secs(4));
    let ask = |number: usize| -> Result<Vec<Flow>> {
        let (agent, namespace) = (&agents[number - 1], cluster.node(number).namespace());
        let (flows, metrics) = namespace.within(|| Ok((agent.flows()?, agent.metrics()?)))?;
        let (count, losses) = (flows.len(), metrics.losses());
        eprintln!("node {number}: {count} flows, lost: {losses:?}");
        for side in BOTH_SIDES {
            let name = format!("http_{side}_request_duration_seconds_count");
            let counted = metrics.sum(&name, &[]);
            let calls = flows.iter().filter(|flow| flow.is_call_at(side)).count();
            ensure!(
                counted == calls as f64,
                "node {number}: {name} is {counted}, not {calls}"
            );
        }
        Ok(flows)
    };
    let ask = &ask;
    let [first, second] = thread::scope(|scope| {
        let asked = [1, 2].map(|number| scope.spawn(move || ask(number)));
        asked.map(|thread| thread.join().map_err(|_| anyhow!("a thread died"))?)
    });
    let told = [first?, second?];
    let verdict = truth.judge(&told)?;
    eprintln!("{telling:?}: {lived} pods lived; {}", verdict.text());
    for agent in agents {
        agent.stop()?;
    }
    Ok((verdict, lived))
}

/// Checks what must hold however late the API is.
fn expect_nothing_wrong(verdict: &Verdict) -> Result<()> {
    let wrong: usize = verdict.names.values().map(|names| names.wrong).sum();
    ensure!(wrong == 0, "{wrong} names are wrong: {}", verdict.text());
    ensure!(
        verdict.faults.is_empty(),
        "calls are not told once: {}",
        verdict.text()
    );
    Ok(())
}

/// Checks that names are known as well as they can be: of a pod of the agent's own node always, but
/// on a machine that is too slow to tell of it in time, and of others but for the time in which
/// their address goes from one to the next.
fn expect_little_unknown(verdict: &Verdict) -> Result<()> {
    for (wanted, most) in [("own", 0.002), ("peer", 0.01)] {
        let part = verdict.part_unknown(|what, end| what == "call" && end == wanted);
        ensure!(part <= most, "{part:.4} of {wanted}: {}", verdict.text());
    }
    Ok(())
}

#[test]
fn calls_of_pods_that_come_and_go_bear_their_names() -> Result<()> {
    let _alone = MACHINE.write().unwrap_or_else(PoisonError::into_inner);
    if cannot_run()? {
        return Ok(());
    }
    let (verdict, lived) = churn(Telling::Watches, Duration::from_secs(60))?;
    expect_nothing_wrong(&verdict)?;
    expect_little_unknown(&verdict)?;
    ensure!(lived >= 40, "only {lived} pods lived");
    Ok(())
}

#[test]
fn so_they_do_with_a_hub() -> Result<()> {
    let _shared = MACHINE.read().unwrap_or_else(PoisonError::into_inner);
    if cannot_run()? {
        return Ok(());
    }
    let (verdict, _) = churn(Telling::Hub, Duration::from_secs(14))?;
    expect_nothing_wrong(&verdict)?;
    expect_little_unknown(&verdict)
}

#[test]
fn no_name_is_wrong_while_the_api_breaks_off() -> Result<()> {
    let _shared = MACHINE.read().unwrap_or_else(PoisonError::into_inner);
    if cannot_run()? {
        return Ok(());
    }
    let (verdict, _) = churn(Telling::BrokenWatches, Duration::from_secs(16))?;
    expect_nothing_wrong(&verdict)
}
