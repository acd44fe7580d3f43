//! A watch that a test drives, and what it has told so far.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use observer::cluster::{
    client::{Access, Client},
    object::{Change, Kind, Object, Source},
    status::Status,
    status::{Reason, Row},
    watch::{self, Options, Scope, Timing},
};
use observer_tests::{
    apiserver::{Cluster, READER, Rule, double::Double, kubeconfig, objects::Pod},
    wait::{self, PATIENCE},
};
use serde_json::json;
use tempfile::TempDir;
use tokio::{runtime::Runtime, sync::mpsc};

/// A watch that runs, and what it has told so far.
pub(crate) struct Watcher {
    pub(crate) changes: mpsc::Receiver<(Source, Vec<Change>)>,
    pub(crate) source: Source,
    /// Names of what is known, by kind and uid.
    pub(crate) known: BTreeMap<(Kind, String), String>,
    /// What was set or removed since a list began.
    pub(crate) listed: BTreeMap<Kind, BTreeSet<String>>,
    pub(crate) completed: BTreeMap<Kind, usize>,
    /// What it sends now.
    pub(crate) token: String,
    pub(crate) status: Arc<Status>,
    // Dropped in this order.
    _runtime: Runtime,
    pub(crate) folder: TempDir,
}

impl Watcher {
    /// Starts one with the token of an account that may do what `rules` say.
    pub(crate) fn start(cluster: &dyn Cluster, scope: Scope, rules: &[Rule<'_>]) -> Result<Self> {
        let timing = Timing {
            answer: Duration::from_secs(3),
            first_events: Duration::from_secs(3),
            first_pause: Duration::from_millis(50),
            longest_pause: Duration::from_millis(400),
            ..Timing::default()
        };
        Self::start_with(cluster, scope, rules, timing)
    }

    /// As [`Self::start`], with times of its own.
    pub(crate) fn start_with(
        cluster: &dyn Cluster,
        scope: Scope,
        rules: &[Rule<'_>],
        timing: Timing,
    ) -> Result<Self> {
        let token = cluster.account("observer", rules)?;
        Self::start_as(cluster, scope, token, timing)
    }

    /// As [`Self::start_with`], with a token that is there.
    pub(crate) fn start_as(
        cluster: &dyn Cluster,
        scope: Scope,
        token: String,
        timing: Timing,
    ) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("kubeconfig");
        let mut config: serde_json::Value = serde_json::from_str(&kubeconfig(cluster, ""))?;
        // A copy that a test may replace.
        let authority = folder.path().join("ca.crt");
        fs::copy(cluster.authority(), &authority)?;
        config["clusters"][0]["cluster"]["certificate-authority"] = json!(authority);
        let file = folder.path().join("token");
        fs::write(&file, &token)?;
        config["users"][0]["user"] = json!({"tokenFile": file});
        fs::write(&path, config.to_string())?;
        let source = if scope == Scope::Cluster {
            Source::Cluster
        } else {
            Source::Node
        };
        let options = Options {
            timing,
            ..Options::default()
        };
        let runtime = Runtime::new()?;
        let access = Access::Kubeconfig {
            path: Some(path),
            context: None,
        };
        // Made within the runtime that it is to run in.
        let client = runtime.block_on(Client::new(&access))?;
        let (sender, changes) = mpsc::channel(64);
        let status = Arc::new(Status::new(source));
        let told = status.clone();
        runtime.spawn(watch::run(Arc::new(client), scope, options, sender, told));
        Ok(Self {
            changes,
            source,
            known: BTreeMap::new(),
            listed: BTreeMap::new(),
            completed: BTreeMap::new(),
            token,
            status,
            _runtime: runtime,
            folder,
        })
    }

    /// Takes what there is.
    pub(crate) fn step(&mut self) -> Result<()> {
        while let Ok((source, batch)) = self.changes.try_recv() {
            ensure!(source == self.source);
            for change in batch {
                match change {
                    Change::Begin(kind) => {
                        self.listed.insert(kind, BTreeSet::new());
                    }
                    Change::Set(object) => {
                        let (kind, uid) = (object.kind(), object.uid().to_owned());
                        if let Some(listed) = self.listed.get_mut(&kind) {
                            listed.insert(uid.clone());
                        }
                        self.known.insert((kind, uid), name(&object));
                    }
                    Change::Remove(kind, uid) => {
                        self.known.remove(&(kind, uid.into_string()));
                    }
                    // Nothing of it is read here.
                    Change::Declared(_) => {}
                    Change::Complete(kind) => {
                        let listed = self.listed.remove(&kind).context("complete before begin")?;
                        self.known
                            .retain(|(other, uid), _| *other != kind || listed.contains(uid));
                        *self.completed.entry(kind).or_default() += 1;
                    }
                }
            }
        }
        Ok(())
    }

    /// Waits until this many lists of a kind are complete.
    pub(crate) fn complete(&mut self, kind: Kind, lists: usize) -> Result<()> {
        wait::until(&format!("list {lists} of {kind:?}"), 3 * PATIENCE, || {
            self.step()?;
            let found = self.completed.get(&kind).copied().unwrap_or_default();
            Ok((found >= lists).then_some(()))
        })
    }

    /// Waits until exactly these objects of a kind are known.
    pub(crate) fn knows(&mut self, kind: Kind, names: &[&str]) -> Result<()> {
        let mut found = Vec::new();
        let waited = wait::until("objects", 3 * PATIENCE, || {
            self.step()?;
            found = self.of(kind);
            Ok((found == names).then_some(()))
        });
        waited.with_context(|| format!("{found:?} instead of {names:?}"))
    }

    /// Waits until the watch of pods fails for this reason; says how.
    pub(crate) fn fails(&self, reason: Reason) -> Result<String> {
        wait::until(&format!("{reason:?}"), 3 * PATIENCE, || {
            let failing = self.pods()?.failing;
            let (found, detail) = failing.unwrap_or((Reason::Expired, Box::default()));
            Ok((found == reason).then(|| detail.into_string()))
        })
    }

    /// State of the watch of pods.
    pub(crate) fn pods(&self) -> Result<Row> {
        let mut rows = self.status.rows().into_iter();
        rows.find(|row| row.resource.as_str() == "pods")
            .context("pods are not watched")
    }

    pub(crate) fn of(&self, kind: Kind) -> Vec<String> {
        let own = self.known.iter().filter(|((other, _), _)| *other == kind);
        let mut names: Vec<String> = own.map(|(_, name)| name.clone()).collect();
        names.sort();
        names
    }
}

/// What an object is called, with what a test looks at.
pub(crate) fn name(object: &Object) -> String {
    match object {
        Object::Pod(pod) => {
            let workload = pod
                .owners
                .last()
                .map(|owner| format!("<{}/{}", owner.kind, owner.name));
            format!("{}{}", pod.name, workload.unwrap_or_default())
        }
        Object::Service(service) => service.name.to_string(),
        Object::Endpoints(endpoints) => endpoints.service.to_string(),
        Object::Node(node) => node.name.to_string(),
    }
}

pub(crate) fn pod(name: &str) -> serde_json::Value {
    Pod::new(name).running("node-0", &["10.1.0.4"]).build()
}

/// A double with one pod, and a watch that has told it.
pub(crate) fn watched() -> Result<(Double, Watcher)> {
    let double = Double::start()?;
    let cluster: &dyn Cluster = &double;
    cluster.create(&pod("first"))?;
    let mut watcher = Watcher::start(cluster, Scope::Node("node-0".to_owned()), READER)?;
    watcher.complete(Kind::Pod, 1)?;
    watcher.knows(Kind::Pod, &["first"])?;
    Ok((double, watcher))
}
