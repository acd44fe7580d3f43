//! A cluster whose nodes and pods run here and whose API knows them: what a kubelet and the
//! controllers would write there, a [`Site`] writes.

use std::{collections::BTreeMap, fs, process::Stdio, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    agent::{self, Agent, Options},
    apiserver::{self, MESHES, READER, kubeconfig, mint::timestamp, objects},
    flow::Flow,
    http,
    metrics::Metrics,
    node::{Node, Pod, PodSpec},
    place::Place,
    process::{self, Process},
    relay::Relay,
    server::Server,
    wait::{self, PATIENCE},
};

/// Nodes that run here, and the API server that knows them.
pub struct Site<'a> {
    /// The API server.
    pub api: &'a dyn apiserver::Cluster,
    nodes: &'a crate::node::Cluster,
    folder: TempDir,
    /// What leads from each node to the API server.
    _relays: Vec<Relay>,
}

/// Who controls a pod.
#[derive(Clone, Copy, Debug)]
pub enum Control<'a> {
    /// Nobody.
    Bare,
    /// This one: `apiVersion`, kind, name.
    Direct(&'a str, &'a str, &'a str),
    /// A ReplicaSet, controlled by this one.
    Set(&'a str, (&'a str, &'a str, &'a str)),
    /// A Job, controlled by a CronJob.
    Job(&'a str, &'a str),
}

/// A pod that runs here and that the API knows.
#[derive(Debug)]
pub struct Known<'a> {
    /// As it runs.
    pub pod: Pod<'a>,
    /// As the API has it.
    pub object: Value,
}

/// A hub that runs.
#[derive(Debug)]
pub struct Hub {
    process: Process,
    address: std::net::SocketAddr,
    configuration: std::path::PathBuf,
    relays: Vec<Relay>,
}

/// Namespace of all pods that a [`Site`] makes.
pub const NAMESPACE: &str = "shop";

/// Port of the servers in pods.
pub const PORT: u16 = 8080;

/// Seconds since the Unix epoch.
pub fn now() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// A web server in container `app`: it answers with the pod's name, on any path but those of
/// nginx.conf.
pub fn serve(pod: &Pod<'_>) -> Result<Server> {
    serve_at(&pod.container("app")?, pod.name())
}

/// As [`serve`], anywhere.
pub fn serve_at(place: &Place<'_>, name: &str) -> Result<Server> {
    serve_on(place, PORT, name)
}

/// As [`serve_at`], on another port.
pub fn serve_on(place: &Place<'_>, port: u16, name: &str) -> Result<Server> {
    let any = std::net::SocketAddr::new("::".parse()?, port);
    let answer = format!("location / {{ return 200 \"{name}\\n\"; }}");
    Server::nginx_at(place, any, "ipv6only=off", &answer)
}

/// Asks for `target` (`ADDRESS/PATH`) with curl(1), each time on a connection of its own: how many
/// times each server has answered, by what it says.
pub fn ask(place: &Place<'_>, target: &str, times: usize) -> Result<BTreeMap<String, usize>> {
    ask_with(place, target, times, &["--header", "Connection: close"])
}

/// As [`ask`], with these options of curl(1) instead of a connection for each.
pub fn ask_with(
    place: &Place<'_>,
    target: &str,
    times: usize,
    options: &[&str],
) -> Result<BTreeMap<String, usize>> {
    let url = format!("http://{target}?[1-{times}]");
    let mut command = place.command("curl")?;
    command.args(["--silent", "--show-error", "--max-time", "20"]);
    let body = process::check(command.args(options).arg(&url))?;
    let mut answers = BTreeMap::new();
    for line in body.lines() {
        *answers.entry(line.to_owned()).or_default() += 1;
    }
    ensure!(
        answers.values().sum::<usize>() == times,
        "{target}: {answers:?} instead of {times} answers"
    );
    Ok(answers)
}

/// What a test says of flows: fields `keys` of each with `|` between, and how many have them.
pub fn lines(flows: &[Flow], keys: &[&str]) -> BTreeMap<String, usize> {
    let mut lines = BTreeMap::new();
    for flow in flows {
        let words = keys.iter().map(|key| match flow.get(key) {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        });
        let words: Vec<String> = words.collect();
        *lines.entry(words.join("|")).or_default() += 1;
    }
    lines
}

/// Checks that the calls on paths that begin with `path`, seen at `side`, are these and no others.
pub fn expect(
    agent: &Agent,
    side: &str,
    path: &str,
    keys: &[&str],
    expected: &[(&str, usize)],
) -> Result<()> {
    let count = expected.iter().map(|(_, count)| count).sum();
    let what = format!("calls of {path} at the {side} side");
    let calls = agent.exactly(count, &what, |flow| {
        flow.is_call_at(side) && flow.text("path").starts_with(path)
    });
    let calls = calls.with_context(|| {
        let all = agent.flows().unwrap_or_default();
        let all = lines(&all, &["kind", "event", "side", "path", "local", "outcome"]);
        let metrics = agent.metrics().unwrap_or_default();
        let tables: Vec<_> = metrics
            .select("observer_table_entries", &[])
            .filter(|sample| sample.value > 0.0)
            .map(|sample| format!("{:?} {}", sample.labels, sample.value))
            .collect();
        format!(
            "lost {:?}, kept {tables:?}, told {all:#?}",
            metrics.losses()
        )
    })?;
    let found = lines(&calls, keys);
    let expected = expected
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(line, count)| ((*line).to_owned(), *count));
    let expected: BTreeMap<String, usize> = expected.collect();
    ensure!(
        found == expected,
        "{what}, {keys:?}: {found:#?} instead of {expected:#?}: {:?}",
        calls.first()
    );
    Ok(())
}

/// Waits until `agent` knows the cluster from all who tell of it.
pub fn synced(agent: &Agent) -> Result<()> {
    let name = "observer_kubernetes_synced";
    let waited = wait::until("the cluster to be known", 3 * PATIENCE, || {
        let metrics = agent.metrics()?;
        let states: Vec<f64> = metrics.select(name, &[]).map(|one| one.value).collect();
        let known = !states.is_empty() && states.iter().all(|state| *state == 1.0);
        Ok(known.then_some(()))
    });
    waited.with_context(|| agent.log().unwrap_or_default())
}

/// Waits until `agent` knows `count` objects of a kind.
pub fn knows(agent: &Agent, kind: &str, count: usize) -> Result<()> {
    let labels = [("kind", kind)];
    let mut found = 0.0;
    let waited = wait::until("objects", 2 * PATIENCE, || {
        let metrics = agent.metrics()?;
        let values = metrics.select("observer_kubernetes_objects", &labels);
        found = values.map(|one| one.value).fold(0.0, f64::max);
        Ok((found == count as f64).then_some(()))
    });
    waited.with_context(|| format!("{found} {kind} instead of {count}"))
}

// === impl Site ===

impl<'a> Site<'a> {
    /// Tells `api` of the nodes, and leads to it from all of them.
    pub fn new(
        api: &'a dyn apiserver::Cluster,
        nodes: &'a crate::node::Cluster,
        count: usize,
    ) -> Result<Self> {
        let mut relays = Vec::new();
        for number in 1..=count {
            let node = nodes.node(number);
            let networks = node.networks();
            let networks = networks.each_ref().map(String::as_str);
            let [v4, v6] = node.addresses();
            let zone = ["eu-1a", "eu-1b", "eu-1c"][(number - 1) % 3];
            let mut object = objects::node(&node.name(), &v4.to_string(), &networks, zone);
            if let Some(list) = object["status"]["addresses"].as_array_mut() {
                list.push(json!({"type": "InternalIP", "address": v6}));
            }
            api.create(&object)?;
            let port = api.address().port();
            relays.push(Relay::start(Some(node.namespace()), port, None)?);
        }
        api.create(&objects::namespace(NAMESPACE))?;
        let folder = tempfile::tempdir().context("make a folder")?;
        let token = api.account("observer", &[READER, MESHES].concat())?;
        fs::write(folder.path().join("kubeconfig"), kubeconfig(api, &token))?;
        Ok(Self {
            api,
            nodes,
            folder,
            _relays: relays,
        })
    }

    /// Node `number`, counted from 1.
    pub fn node(&self, number: usize) -> &'a Node {
        self.nodes.node(number)
    }

    /// The part `kubernetes` of the configuration of an agent on `node`.
    pub fn configuration(&self, node: &str, more: &[&str]) -> String {
        let mut text = format!(
            "kubernetes:\n  enabled: on\n  kubeconfig: {}\n  node: {node}\n  cluster: test\n",
            self.folder.path().join("kubeconfig").display()
        );
        for line in more {
            text.push_str(&format!("  {line}\n"));
        }
        text.push_str("flows:\n  history: 100000\n");
        text
    }

    /// An agent on node `number` that knows the cluster; `more`: lines of its part `kubernetes`,
    /// `rest`: other parts.
    pub fn agent(&self, number: usize, more: &[&str], rest: &str) -> Result<Agent> {
        let agent = self.young_agent(number, more, rest)?;
        synced(&agent)?;
        Ok(agent)
    }

    /// As [`Self::agent`]; it may not know the cluster yet.
    pub fn young_agent(&self, number: usize, more: &[&str], rest: &str) -> Result<Agent> {
        let node = self.node(number);
        let configuration = self.configuration(&node.name(), more) + rest;
        let options = Options {
            configuration: Some(configuration),
            ..Options::default()
        };
        Agent::start_in(Some(node.namespace()), node.cgroup(), &options)
    }

    /// Runs an ordinary pod `name` on node `number`.
    pub fn pod(&self, number: usize, name: &str, control: Control<'_>) -> Result<Known<'a>> {
        self.run(number, PodSpec::new(NAMESPACE, name), control, |_| ())
    }

    /// Runs a pod on node `number`, as a scheduler and a kubelet do: first the API has it, then it
    /// runs, then its status tells so. `change` may change the object before.
    pub fn run(
        &self,
        number: usize,
        spec: PodSpec<'_>,
        control: Control<'_>,
        change: impl FnOnce(&mut Value),
    ) -> Result<Known<'a>> {
        let object = self.admit(number, &spec, control, change)?;
        let uid = object["metadata"]["uid"].as_str().context("no uid")?;
        let hash = &object["metadata"]["annotations"]["kubernetes.io/config.mirror"];
        let uid = hash.as_str().unwrap_or(uid);
        let spec = PodSpec {
            uid: Some(uid),
            ..spec
        };
        let pod = self.node(number).pod(spec)?;
        let object = self.report(&pod, &object)?;
        Ok(Known { pod, object })
    }

    /// What the API has of a pod before its kubelet has heard of it.
    pub fn admit(
        &self,
        number: usize,
        spec: &PodSpec<'_>,
        control: Control<'_>,
        change: impl FnOnce(&mut Value),
    ) -> Result<Value> {
        let mut pod = objects::Pod::new(spec.name)
            .namespace(spec.namespace)
            .running(&self.node(number).name(), &[])
            .containers(spec.containers)
            .lean();
        if spec.host_network {
            pod = pod.host_network();
        }
        let mut object = pod.build();
        if let Some(object) = object.as_object_mut() {
            object.remove("status");
        }
        if let Some(owner) = self.control(spec.namespace, control)? {
            object["metadata"]["ownerReferences"] = json!([owner]);
        }
        change(&mut object);
        self.api.create(&object)
    }

    /// Reports what runs, as a kubelet does that has begun with it just now.
    pub fn report(&self, pod: &Pod<'_>, object: &Value) -> Result<Value> {
        self.report_since(pod, object, now())
    }

    /// As [`Self::report`], since a time in seconds since the Unix epoch.
    pub fn report_since(&self, pod: &Pod<'_>, object: &Value, began: u64) -> Result<Value> {
        let began = timestamp(began);
        let runtime = pod.node().layout().runtime();
        let containers: Vec<Value> = pod
            .containers()
            .iter()
            .map(|container| {
                json!({
                    "name": container.name(), "image": "registry.test/shop/main:1.2.3",
                    "imageID": "registry.test/shop/main@sha256:00", "lastState": {},
                    "containerID": format!("{runtime}://{}", container.id()),
                    "ready": true, "started": true, "restartCount": 0,
                    "state": {"running": {"startedAt": began}},
                })
            })
            .collect();
        let [v4, v6] = pod.addresses();
        self.api.change_status(object, |status| {
            // The server has found it by what containers ask for, and keeps to it.
            let quality = status["qosClass"].take();
            *status = json!({
                "phase": "Running", "startTime": began, "hostIP": pod.node().addresses()[0],
                "hostIPs": [{"ip": pod.node().addresses()[0]}],
                "podIP": v4, "podIPs": [{"ip": v4}, {"ip": v6}],
                "qosClass": quality, "containerStatuses": containers,
            });
        })
    }

    /// A Service at `address` (headless without), with a slice of these pods.
    pub fn service(&self, object: Value, pods: &[&Known<'_>]) -> Result<()> {
        self.service_named(object, "p80", pods)
    }

    /// As [`Self::service`], whose only port has this name.
    pub fn service_named(&self, mut object: Value, port: &str, pods: &[&Known<'_>]) -> Result<()> {
        object["metadata"]["namespace"] = json!(NAMESPACE);
        let created = self.api.create(&object)?;
        if pods.is_empty() {
            return Ok(());
        }
        let name = created["metadata"]["name"].as_str().context("no name")?;
        let pods: Vec<&Value> = pods.iter().map(|known| &known.object).collect();
        let mut slice = objects::slice_of(name, 0, &pods);
        slice["metadata"]["namespace"] = json!(NAMESPACE);
        slice["ports"][0]["name"] = json!(port);
        self.api.create(&slice).map(drop)
    }

    /// A hub for nodes 1 to `count`, that knows the cluster.
    pub fn hub(&self, count: usize) -> Result<Hub> {
        let first = (count > 0).then(|| self.node(1).namespace());
        // Finds a port that is free in the namespaces and on the machine.
        let address = std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
        let mut relays = Vec::new();
        for number in 1..=count {
            let namespace = self.node(number).namespace();
            relays.push(Relay::start(Some(namespace), address.port(), None)?);
        }
        ensure!(first.is_some(), "a hub is for nodes");
        let configuration = self.folder.path().join("hub.yaml");
        let text = format!(
            "kubernetes:\n  enabled: on\n  kubeconfig: {}\nhub:\n  listen: {address}\n  \
             authenticate: false\n",
            self.folder.path().join("kubeconfig").display()
        );
        fs::write(&configuration, text)?;
        let process = Hub::spawn(&configuration)?;
        let hub = Hub {
            process,
            address,
            configuration,
            relays,
        };
        hub.ready()?;
        Ok(hub)
    }

    fn control(&self, namespace: &str, control: Control<'_>) -> Result<Option<Value>> {
        let reference = |version: &str, object: Value| -> Result<Value> {
            let mut object = object;
            object["metadata"]["namespace"] = json!(namespace);
            // Another pod may have it already.
            let created = match self.api.read(&object) {
                Ok(read) => read,
                Err(_) => self.api.create(&object)?,
            };
            Ok(json!({
                "apiVersion": version, "kind": object["kind"], "controller": true,
                "name": created["metadata"]["name"], "uid": created["metadata"]["uid"],
            }))
        };
        Ok(match control {
            Control::Bare => None,
            Control::Direct(version, kind, name) => Some(objects::owner(version, kind, name)),
            Control::Set(name, owner) => Some(reference(
                "apps/v1",
                objects::replica_set(name, Some(owner)),
            )?),
            Control::Job(name, cron_job) => {
                Some(reference("batch/v1", objects::job(name, Some(cron_job)))?)
            }
        })
    }
}

// === impl Hub ===

impl Hub {
    fn spawn(configuration: &std::path::Path) -> Result<Process> {
        let mut command = std::process::Command::new(agent::binary()?);
        agent::without_settings(command.args(["hub", "--config"]).arg(configuration));
        let log = fs::File::create(configuration.with_extension("log"))?;
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        Process::spawn(&mut command)
    }

    fn ready(&self) -> Result<()> {
        let waited = wait::until("the hub to be ready", 3 * PATIENCE, || {
            let answer = http::get(self.address, "/readyz");
            Ok(answer
                .is_ok_and(|answer| answer.status == 200)
                .then_some(()))
        });
        waited.with_context(|| {
            fs::read_to_string(self.configuration.with_extension("log")).unwrap_or_default()
        })
    }

    /// The line that leads an agent there.
    pub fn setting(&self) -> String {
        format!("hub: http://{}", self.address)
    }

    /// Its metrics now.
    pub fn metrics(&self) -> Result<Metrics> {
        Metrics::parse(&http::get(self.address, "/metrics")?.body)
    }

    /// Ends it, and starts it anew after `pause`.
    pub fn restart(&mut self, pause: Duration) -> Result<()> {
        self.process.stop()?;
        std::thread::sleep(pause);
        self.process = Self::spawn(&self.configuration)?;
        ensure!(!self.relays.is_empty(), "nobody can reach it");
        self.ready()
    }
}
