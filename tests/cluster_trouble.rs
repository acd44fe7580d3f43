//! Agents and hubs as processes, in a cluster in trouble: nothing secret is told, nobody spins or
//! floods a log, and two clusters are never mixed.

use std::{
    fs,
    io::Write as _,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use observer_tests::{
    agent::{self, Agent, Options, without_settings},
    apiserver::{
        Cluster, READER, Rule,
        double::Double,
        kubeconfig,
        objects::{self, Pod},
    },
    cgroup::Cgroup,
    http,
    process::{Process, Signal},
    requirement::{Need, lacking},
    wait::{self, PATIENCE},
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A hub as a process; gone when dropped.
struct Hub {
    process: Process,
    address: SocketAddr,
    log: PathBuf,
}

/// In every place where a secret can be; long and rare enough to be found by itself.
const SECRET: &str = "s3cr3tq7x9";

/// What a hub needs besides what [`READER`] has.
const REVIEWS: Rule<'_> = ("authentication.k8s.io", &["tokenreviews"], &["create"]);

// === impl Hub ===

impl Hub {
    fn start(folder: &Path, address: SocketAddr, settings: &Value) -> Result<Self> {
        let number = fs::read_dir(folder)?.count();
        let (file, log) = (
            folder.join(format!("hub-{number}.yaml")),
            folder.join(format!("hub-{number}.log")),
        );
        fs::write(&file, settings.to_string())?;
        let out = fs::File::create(&log)?;
        let mut command = Command::new(agent::binary()?);
        command
            .args(["hub", "--listen", &address.to_string(), "--config"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out);
        let mut hub = Self {
            process: Process::spawn(without_settings(&mut command))?,
            address,
            log,
        };
        let ready = wait::until("the hub", 3 * PATIENCE, || {
            ensure!(hub.process.ended()?.is_none(), "the hub ended");
            let ready = http::get(address, "/readyz");
            Ok(ready.is_ok_and(|answer| answer.status == 200).then_some(()))
        });
        ready.with_context(|| hub.log().unwrap_or_default())?;
        Ok(hub)
    }

    fn log(&self) -> Result<String> {
        Ok(fs::read_to_string(&self.log)?)
    }
}

fn free() -> Result<SocketAddr> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}

/// A kubeconfig in a file, with a token of an account that may do what `rules` say; and the token.
fn access(
    cluster: &dyn Cluster,
    folder: &Path,
    name: &str,
    rules: &[Rule<'_>],
) -> Result<(PathBuf, String)> {
    let token = cluster.account(name, rules)?;
    let path = folder.join(format!("{name}-{}.kubeconfig", cluster.address().port()));
    fs::write(&path, kubeconfig(cluster, &token))?;
    Ok((path, token))
}

fn service(number: usize) -> Value {
    objects::service(&format!("service-{number}"), &[80])
}

/// How many Services the index of an agent has.
fn services(agent: &Agent) -> Result<f64> {
    let metrics = agent.metrics()?;
    Ok(metrics.sum("observer_table_entries", &[("table", "cluster_services")]))
}

fn expect_services(agent: &Agent, count: f64) -> Result<()> {
    let mut found = 0.0;
    let waited = wait::until("Services", 6 * PATIENCE, || {
        found = services(agent)?;
        Ok((found == count).then_some(()))
    });
    waited.with_context(|| {
        format!(
            "{found} instead of {count}: {}",
            agent.log().unwrap_or_default()
        )
    })
}

/// Ticks of the processor that a process has used, and its resident memory in KiB.
fn used(id: u32) -> Result<(u64, u64)> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').context("no name")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let resident = resident.and_then(|text| text.split_whitespace().next());
    Ok((ticks, resident.context("no memory")?.parse()?))
}

#[test]
fn secrets_of_a_cluster_are_told_to_nobody() -> Result<()> {
    if lacking(&[Need::Observer])? {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let double = Double::start()?;
    let cluster: &dyn Cluster = &double;
    cluster.create(&objects::node(
        "node-0",
        "10.9.0.1",
        &["10.1.0.0/24"],
        "eu-1a",
    ))?;
    let mut pod = Pod::new("first").running("node-0", &["10.1.0.4"]).build();
    pod["metadata"]["labels"] = json!({"app": "web", "hidden": SECRET});
    pod["metadata"]["annotations"] = json!({"team": "shop", "hidden": SECRET});
    for container in pod["spec"]["containers"]
        .as_array_mut()
        .context("no containers")?
    {
        container["env"] = json!([
            {"name": "OTEL_SERVICE_NAME", "value": "checkout"},
            {"name": "OTEL_RESOURCE_ATTRIBUTES", "value": format!("service.version=7,password={SECRET}")},
            {"name": "OTEL_EXPORTER_OTLP_HEADERS", "value": format!("authorization={SECRET}")},
            {"name": "PASSWORD", "value": SECRET},
        ]);
        container["args"] = json!([format!("--password={SECRET}")]);
    }
    cluster.create(&pod)?;
    cluster.create(&service(0))?;
    let (hub_access, hub_token) = access(
        cluster,
        folder.path(),
        "hub",
        &[READER, &[REVIEWS]].concat(),
    )?;
    let (agent_access, agent_token) = access(cluster, folder.path(), "agent", READER)?;
    let shown = folder.path().join("token");
    let shown_token = cluster.token("agent", &["observer-hub"], None)?;
    fs::write(&shown, &shown_token)?;
    let kept = json!({"labels": ["app"], "annotations": ["team"]});
    let mut kubernetes = kept.clone();
    kubernetes["kubeconfig"] = json!(hub_access);
    let address = free()?;
    let settings = json!({"kubernetes": kubernetes, "log": {"level": "trace"},
        "hub": {"agent_account": "default/agent"}});
    let mut hub = Hub::start(folder.path(), address, &settings)?;
    let mut kubernetes = kept;
    kubernetes["kubeconfig"] = json!(agent_access);
    kubernetes["node"] = json!("node-0");
    kubernetes["hub"] = json!(format!("http://{address}"));
    kubernetes["hub_token"] = json!(shown);
    let cgroup = Cgroup::create("cluster-secrets")?;
    let options = Options {
        configuration: Some(
            json!({"kubernetes": kubernetes, "log": {"level": "trace"}}).to_string(),
        ),
        ..Options::default()
    };
    let agent = Agent::start_with(&cgroup, &options)?;
    expect_services(&agent, 1.0)?;
    // Failures of every kind have their say too.
    double.expire(&agent_token);
    double.disconnect();
    fs::write(&shown, SECRET)?;
    hub.process.stop()?;
    let before = hub.log()?;
    let hub = Hub::start(folder.path(), address, &settings)?;
    wait::until("a refusal", 3 * PATIENCE, || {
        Ok(agent.log()?.contains("the hub answers 401").then_some(()))
    })?;
    let mut said = vec![hub.log()?, agent.log()?, before];
    for target in [
        "/metrics",
        "/api/v1/flows?last=1000",
        "/api/v1/services",
        "/api/v1/status",
        "/readyz",
    ] {
        said.push(http::get(agent.address(), target)?.body);
    }
    for target in ["/metrics", "/", "/readyz"] {
        said.push(http::get(hub.address, target)?.body);
    }
    let secrets = [SECRET, &hub_token, &agent_token, &shown_token];
    for text in &said {
        for secret in secrets {
            let line = text.lines().find(|line| line.contains(secret));
            ensure!(line.is_none(), "a secret is told: {line:?}");
        }
    }
    ensure!(said[1].len() > 1000, "nothing was logged");
    agent.stop()
}

#[test]
fn files_that_cannot_be_used_are_named_and_not_shown() -> Result<()> {
    if lacking(&[Need::Observer])? {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let config = |user: Value| {
        json!({"apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": "https://127.0.0.1:1"}}],
            "users": [{"name": "test", "user": user}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}]})
        .to_string()
    };
    for (number, text) in [
        SECRET.to_owned(),
        format!("users: [{{name: a, user: {SECRET}}}]"),
        format!("token: {SECRET}: x\n\t- {SECRET}"),
        config(json!(SECRET)),
        config(json!({"token": [SECRET]})),
        config(json!({"client-certificate-data": SECRET, "client-key-data": SECRET})),
        config(json!({"token": format!("{SECRET}\n{SECRET}")})),
        config(json!({"username": SECRET, "password": [SECRET]})),
    ]
    .iter()
    .enumerate()
    {
        let path = folder.path().join(format!("kubeconfig-{number}"));
        fs::write(&path, text)?;
        let settings = folder.path().join("observer.yaml");
        fs::write(
            &settings,
            json!({"kubernetes": {"kubeconfig": path}}).to_string(),
        )?;
        let settings = settings.display().to_string();
        let address = free()?.to_string();
        let ended = agent::run(&["hub", "--listen", &address, "--config", &settings])?;
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&ended.stdout),
            String::from_utf8_lossy(&ended.stderr)
        );
        ensure!(!ended.status.success(), "{text}: {said}");
        ensure!(!said.contains(SECRET), "of {text}: {said}");
        ensure!(
            said.contains("kubeconfig") || said.contains("client"),
            "{said}"
        );
    }
    Ok(())
}

#[test]
fn a_hub_of_another_cluster_replaces_what_was_known() -> Result<()> {
    if lacking(&[Need::Observer])? {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let doubles = [Double::start()?, Double::start()?];
    let address = free()?;
    for (double, count) in doubles.iter().zip([3, 1]) {
        for number in 0..count {
            (double as &dyn Cluster).create(&service(number))?;
        }
    }
    let settings = |double: &Double| -> Result<Value> {
        let (path, _) = access(double, folder.path(), "hub", READER)?;
        Ok(json!({"kubernetes": {"kubeconfig": path}, "hub": {"authenticate": false}}))
    };
    let [first, second] = [settings(&doubles[0])?, settings(&doubles[1])?];
    let mut hub = Hub::start(folder.path(), address, &first)?;
    let kubernetes = json!({"enabled": "on", "hub": format!("http://{address}"),
        "kubeconfig": first["kubernetes"]["kubeconfig"], "node": "node-0"});
    let cgroup = Cgroup::create("cluster-other")?;
    let options = Options {
        configuration: Some(json!({"kubernetes": kubernetes}).to_string()),
        ..Options::default()
    };
    let agent = Agent::start_with(&cgroup, &options)?;
    expect_services(&agent, 3.0)?;
    hub.process.signal(Signal::Kill)?;
    hub.process.wait(PATIENCE)?;
    expect_services(&agent, 3.0)?;
    // In its place one that says nothing, then one that says nothing that can be read.
    for answer in [
        &b""[..],
        b"SSH-2.0-x\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n\x00\xff\xff\xff\xff!",
    ] {
        let listener = wait::until("the port", PATIENCE, || Ok(TcpListener::bind(address).ok()))?;
        listener.set_nonblocking(true)?;
        let mut held = Vec::new();
        wait::until("the agent", 4 * PATIENCE, || {
            if let Ok((mut stream, _)) = listener.accept() {
                stream.write_all(answer)?;
                held.push(stream);
            }
            Ok((!held.is_empty()).then_some(()))
        })?;
        std::thread::sleep(Duration::from_millis(300));
        ensure!(services(&agent)? == 3.0, "{}", agent.log()?);
    }
    let _hub = Hub::start(folder.path(), address, &second)?;
    expect_services(&agent, 1.0)?;
    let warnings = agent
        .log()?
        .lines()
        .filter(|line| line.contains("WARN"))
        .count();
    ensure!(warnings < 10, "{}", agent.log()?);
    agent.stop()
}

#[test]
fn who_is_refused_by_all_is_quiet() -> Result<()> {
    if lacking(&[Need::Observer])? {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let double = Double::start()?;
    // May do nothing.
    let (path, _) = access(&double, folder.path(), "nobody", &[])?;
    let refused = Arc::new(AtomicUsize::new(0));
    let closed = free()?;
    let mut idle = Vec::new();
    for (name, kubernetes) in [
        (
            "cluster-away",
            json!({"kubeconfig": path, "node": "node-0",
            "hub": format!("http://{closed}")}),
        ),
        ("cluster-refused", json!({"kubeconfig": path})),
    ] {
        let cgroup = Cgroup::create(name)?;
        let options = Options {
            configuration: Some(json!({"kubernetes": kubernetes}).to_string()),
            ..Options::default()
        };
        let agent = Agent::start_with(&cgroup, &options)?;
        idle.push((name, cgroup, agent));
    }
    std::thread::sleep(Duration::from_secs(5));
    let mut before = Vec::new();
    for (_, _, agent) in &idle {
        before.push((used(agent.id())?, agent.log()?.lines().count()));
    }
    refused.store((&double as &dyn Cluster).requests()?.len(), Relaxed);
    std::thread::sleep(Duration::from_secs(30));
    for ((name, _, agent), ((ticks, resident), lines)) in idle.iter().zip(before) {
        let (now, memory) = used(agent.id())?;
        let log = agent.log()?;
        let more = log.lines().count() - lines;
        println!(
            "{name}: {} ms of a processor in 30 s, {memory} KiB ({resident} before), {more} lines",
            (now - ticks) * 10
        );
        ensure!(now - ticks < 100, "{name}: {} ticks", now - ticks);
        ensure!(
            memory < resident + 4096,
            "{name}: {resident} KiB, then {memory}"
        );
        ensure!(more <= 2, "{name}: {log}");
        ensure!(log.lines().count() < 25, "{name}: {log}");
    }
    let requests = (&double as &dyn Cluster).requests()?.len() - refused.load(Relaxed);
    println!("{requests} requests in 30 s");
    // Seven watches, each asked for once in 30 to 60 seconds.
    ensure!(requests <= 16, "{requests} requests");
    for (_, _, agent) in idle {
        agent.stop()?;
    }
    drop::<TempDir>(folder);
    Ok(())
}
