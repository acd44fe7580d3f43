//! A cluster of two nodes whose pods come and go: what runs, and what the API says of it, late.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, Scope},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, anyhow};
use observer_tests::{
    apiserver::{
        double::Double,
        mint::timestamp,
        objects::{self, owner},
        resource::{self, Target},
    },
    node::{Backend, Cluster, Pod, PodSpec, Service},
    process::{self, Process},
    wait,
};
use serde_json::{Value, json};

/// The port that all pods listen on.
pub(crate) const PORT: u16 = 8080;
/// The address of the Service.
pub(crate) const VIRTUAL: &str = "10.96.0.10";

/// Everything that pods live in, and what was true of them.
pub(crate) struct World<'a> {
    cluster: &'a Cluster,
    api: &'a Double,
    folder: &'a Path,
    python: PathBuf,
    backends: Mutex<Vec<(Arc<Pod<'a>>, Value)>>,
    lives: Mutex<Vec<Life>>,
    errors: Mutex<Vec<anyhow::Error>>,
}

/// When a pod had its address, nanoseconds since the Unix epoch.
#[derive(Clone, Debug)]
pub(crate) struct Life {
    /// Its uid.
    pub(crate) uid: String,
    /// Number of its node.
    pub(crate) node: usize,
    /// Its address.
    pub(crate) address: IpAddr,
    /// Nobody else has its address from then on.
    pub(crate) up: u64,
    /// Nobody but the next has its address from then on.
    pub(crate) down: u64,
    /// When the API told its address.
    pub(crate) told: u64,
    /// When the API told that it is to end.
    pub(crate) ending: u64,
}

/// What a pod is to do.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Its name, and its owner's.
    pub(crate) name: String,
    /// Number of its node.
    pub(crate) node: usize,
    /// Last octet of its address.
    pub(crate) octet: u8,
    /// Whether it answers for the Service.
    pub(crate) serves: bool,
    /// What it calls: `keep` or `once`, address, port, pause in seconds.
    pub(crate) calls: Vec<(&'static str, String, u16, f64)>,
}

/// A pod that runs.
pub(crate) struct Running<'a> {
    pod: Arc<Pod<'a>>,
    process: Process,
    object: Value,
    life: Life,
    started: u64,
}

/// Numbers that look random, the same for every run.
pub(crate) struct Dice(pub u64);

pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_nanos() as u64)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn target(object: &Value, subresource: &str) -> Result<Target> {
    let text = |key: &str| {
        object["metadata"][key]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    let resource = resource::of(object).with_context(|| format!("no known kind: {object}"))?;
    Ok(Target {
        resource,
        namespace: text("namespace"),
        name: text("name"),
        subresource: subresource.to_owned(),
    })
}

// === impl Dice ===

impl Dice {
    /// A duration between two, in milliseconds.
    pub(crate) fn between(&mut self, least: u64, most: u64) -> Duration {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        Duration::from_millis(least + (self.0 >> 33) % (most - least + 1))
    }
}

// === impl World ===

impl<'a> World<'a> {
    pub(crate) fn new(cluster: &'a Cluster, api: &'a Double, folder: &'a Path) -> Result<Self> {
        // The program itself: what stands before it in the path may be a script that looks for it.
        let find = ["-c", "import sys; print(sys.executable)"];
        let python = process::check(std::process::Command::new("python3").args(find))?;
        fs::write(folder.join("traffic.py"), include_str!("traffic.py"))?;
        for number in [1, 2] {
            let node = cluster.node(number);
            let [v4, _] = node.networks();
            let address = node.addresses()[0].to_string();
            api.insert([&objects::node(&node.name(), &address, &[&v4], "here-1a")])?;
        }
        let mut service = objects::service("churning", &[80]);
        service["spec"]["clusterIP"] = json!(VIRTUAL);
        api.insert([&service, &objects::slice("churning", 1, &[])])?;
        Ok(Self {
            cluster,
            api,
            folder,
            python: python.trim().into(),
            backends: Mutex::default(),
            lives: Mutex::default(),
            errors: Mutex::default(),
        })
    }

    /// All lives that ended.
    pub(crate) fn lives(&self) -> Vec<Life> {
        locked(&self.lives).clone()
    }

    /// The first thing that went wrong in a thread.
    pub(crate) fn error(&self) -> Result<()> {
        locked(&self.errors).pop().map_or(Ok(()), Err)
    }

    /// Folder of the notes that pods make.
    pub(crate) fn folder(&self) -> &Path {
        self.folder
    }

    /// Pods with one address, one after the other, until `end`.
    pub(crate) fn churn<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        plan: impl Fn(usize) -> Plan + Send + 'scope,
        seed: u64,
        end: Instant,
    ) {
        scope.spawn(move || {
            let mut dice = Dice(seed);
            for number in 0.. {
                if Instant::now() >= end {
                    break;
                }
                let lived = self.live(scope, plan(number), &mut dice);
                if let Err(error) = lived {
                    locked(&self.errors).push(error.context(format!("slot {seed}, pod {number}")));
                    break;
                }
            }
        });
    }

    fn live<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        plan: Plan,
        dice: &mut Dice,
    ) -> Result<()> {
        let running = self.begin(&plan, dice)?;
        thread::sleep(dice.between(2500, 4500));
        let (object, late) = self.end(running, dice)?;
        let errors = &self.errors;
        scope.spawn(move || {
            thread::sleep(late);
            if let Err(error) = self.delete(&object, 0) {
                locked(errors).push(error.context("remove a pod that has ended"));
            }
        });
        // The same address is given away again.
        thread::sleep(dice.between(1000, 2500));
        Ok(())
    }

    /// Starts a pod as a scheduler, a kubelet and its runtime do.
    pub(crate) fn begin(&self, plan: &Plan, dice: &mut Dice) -> Result<Running<'a>> {
        let node = self.cluster.node(plan.node);
        let object = self.create(&json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "namespace": "default", "name": plan.name, "labels": {"app": plan.name},
                "ownerReferences": [owner("apps/v1", "StatefulSet", &plan.name)],
            },
            "spec": {
                "nodeName": node.name(), "serviceAccountName": "default",
                "containers": [{"name": "app", "image": "registry.test/churn:1"}],
            },
        }))?;
        let uid = object["metadata"]["uid"]
            .as_str()
            .context("no uid")?
            .to_owned();
        thread::sleep(dice.between(50, 300));
        let started = now() / 1_000_000_000;
        self.status(&object, |status| {
            status["phase"] = json!("Pending");
            status["startTime"] = json!(timestamp(started));
            status["containerStatuses"] = json!([{
                "name": "app", "image": "registry.test/churn:1", "imageID": "", "ready": false,
                "started": false, "restartCount": 0, "lastState": {},
                "state": {"waiting": {"reason": "ContainerCreating"}},
            }]);
        })?;
        let up = now();
        let pod = node.pod(PodSpec {
            octet: Some(plan.octet),
            uid: Some(&uid),
            ..PodSpec::new("default", &plan.name)
        })?;
        let log = self.folder.join(format!("{uid}.log"));
        let mut command = pod
            .container("app")?
            .command(&self.python.display().to_string())?;
        command
            .args(["-E", "-S"])
            .arg(self.folder.join("traffic.py"))
            .arg(&uid)
            .arg(&log)
            .arg(PORT.to_string());
        for (mode, address, port, pause) in &plan.calls {
            command.args([mode, &**address, &port.to_string(), &pause.to_string()]);
        }
        let process = Process::spawn(&mut command)?;
        // Its traffic begins before anybody is told of its address.
        thread::sleep(dice.between(300, 1500));
        let [v4, v6] = pod.addresses();
        let id = format!("containerd://{}", pod.containers()[0].id());
        self.status(&object, |status| {
            status["phase"] = json!("Running");
            status["podIP"] = json!(v4);
            status["podIPs"] = json!([{"ip": v4}, {"ip": v6}]);
            let container = &mut status["containerStatuses"][0];
            container["containerID"] = json!(id);
            container["ready"] = json!(true);
            container["started"] = json!(true);
            container["state"] = json!({"running": {"startedAt": timestamp(started)}});
        })?;
        let life = Life {
            uid,
            node: plan.node,
            address: v4,
            up,
            down: u64::MAX,
            told: now(),
            ending: u64::MAX,
        };
        let pod = Arc::new(pod);
        if plan.serves {
            let mut backends = locked(&self.backends);
            backends.push((pod.clone(), object.clone()));
            self.publish(&backends)?;
        }
        Ok(Running {
            pod,
            process,
            object,
            life,
            started,
        })
    }

    /// Ends a pod as the API, a kubelet and its runtime do. What remains is its object, to be
    /// removed so much later.
    pub(crate) fn end(&self, running: Running<'a>, dice: &mut Dice) -> Result<(Value, Duration)> {
        let Running {
            pod,
            mut process,
            object,
            mut life,
            started,
        } = running;
        self.delete(&object, 30)?;
        life.ending = now();
        thread::sleep(dice.between(20, 200));
        {
            let mut backends = locked(&self.backends);
            let before = backends.len();
            backends.retain(|(other, _)| !Arc::ptr_eq(other, &pod));
            if backends.len() != before {
                self.publish(&backends)?;
            }
        }
        // Connections that were made go on until the process ends.
        thread::sleep(dice.between(100, 600));
        process.stop()?;
        let id = format!("containerd://{}", pod.containers()[0].id());
        let finished = now() / 1_000_000_000;
        let pod = Arc::into_inner(pod).context("a pod is still in use")?;
        drop(pod);
        life.down = now();
        locked(&self.lives).push(life);
        thread::sleep(dice.between(50, 400));
        self.status(&object, |status| {
            status["containerStatuses"][0]["ready"] = json!(false);
            status["containerStatuses"][0]["state"] = json!({"terminated": {
                "exitCode": 0, "reason": "Completed", "containerID": id,
                "startedAt": timestamp(started), "finishedAt": timestamp(finished),
            }});
        })?;
        Ok((object, dice.between(100, 1200)))
    }

    /// Ends pods, all at a time.
    pub(crate) fn end_all(&self, running: Vec<Running<'a>>) -> Result<()> {
        thread::scope(|scope| {
            for (seed, running) in (1..).zip(running) {
                scope.spawn(move || {
                    if let Err(error) = self.end(running, &mut Dice(seed)) {
                        locked(&self.errors).push(error.context("end a pod that stayed"));
                    }
                });
            }
        });
        self.error()
    }

    /// Tells both nodes' proxies and the API who answers for the Service.
    fn publish(&self, backends: &[(Arc<Pod<'a>>, Value)]) -> Result<()> {
        let addresses: Vec<String> = (backends.iter())
            .map(|(pod, _)| pod.addresses()[0].to_string())
            .collect();
        let endpoints: Vec<(&str, Option<&Value>)> = (addresses.iter())
            .zip(backends)
            .map(|(address, (_, object))| (&**address, Some(object)))
            .collect();
        let slice = objects::slice("churning", 1, &endpoints);
        let written = self.api.store().update(&target(&slice, "")?, slice);
        written.map_err(|refusal| anyhow!("write endpoints: {}", refusal.body))?;
        self.cluster.serve(&[Service {
            addresses: vec![VIRTUAL.parse()?],
            port: 80,
            node_port: None,
            local_only: false,
            backends: (backends.iter())
                .map(|(pod, _)| Backend { pod, port: PORT })
                .collect(),
        }])
    }

    // The API is written without requests, which would wait while it does not answer.

    fn create(&self, object: &Value) -> Result<Value> {
        let created = self
            .api
            .store()
            .create(&target(object, "")?, object.clone());
        let created = created.map_err(|refusal| anyhow!("create: {}", refusal.body))?;
        Ok((*created).clone())
    }

    fn status(&self, object: &Value, change: impl FnOnce(&mut Value)) -> Result<()> {
        let target = target(object, "status")?;
        let store = self.api.store();
        let read = store.get(target.resource, &target.namespace, &target.name);
        let mut read = (*read.context("an object is gone")?).clone();
        change(&mut read["status"]);
        let written = store.update(&target, read);
        written.map_err(|refusal| anyhow!("write a status: {}", refusal.body))?;
        Ok(())
    }

    fn delete(&self, object: &Value, grace: u64) -> Result<()> {
        let deleted = self.api.store().delete(&target(object, "")?, Some(grace));
        deleted.map_err(|refusal| anyhow!("delete: {}", refusal.body))?;
        Ok(())
    }
}

impl Running<'_> {
    /// Waits until it listens.
    pub(crate) fn listens(&self, folder: &Path) -> Result<()> {
        let log = folder.join(format!("{}.log", self.life.uid));
        wait::until("a pod that listens", wait::PATIENCE, || {
            let text = fs::read_to_string(&log).unwrap_or_default();
            Ok(text.contains("listening").then_some(()))
        })
    }
}
