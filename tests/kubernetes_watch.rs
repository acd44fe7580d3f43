//! What a watch of Kubernetes' API tells, and what it asks for, whatever the server does.

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
    watch::{self, Options, Scope, Timing},
};
use observer_tests::{
    apiserver::{
        Cluster, READER, Rule,
        double::Double,
        each,
        faults::{Act, Fault},
        kubeconfig,
        objects::{self, Pod},
    },
    wait::{self, PATIENCE},
};
use serde_json::json;
use tempfile::TempDir;
use tokio::{runtime::Runtime, sync::mpsc};

/// A watch that runs, and what it has told so far.
struct Watcher {
    changes: mpsc::Receiver<(Source, Vec<Change>)>,
    source: Source,
    /// Names of what is known, by kind and uid.
    known: BTreeMap<(Kind, String), String>,
    /// What was set or removed since a list began.
    listed: BTreeMap<Kind, BTreeSet<String>>,
    completed: BTreeMap<Kind, usize>,
    /// What it sends now.
    token: String,
    // Dropped in this order.
    _runtime: Runtime,
    folder: TempDir,
}

impl Watcher {
    /// Starts one with the token of an account that may do what `rules` say.
    fn start(cluster: &dyn Cluster, scope: Scope, rules: &[Rule<'_>]) -> Result<Self> {
        let token = cluster.account("observer", rules)?;
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("kubeconfig");
        let mut config: serde_json::Value = serde_json::from_str(&kubeconfig(cluster, ""))?;
        let file = folder.path().join("token");
        fs::write(&file, &token)?;
        config["users"][0]["user"] = json!({"tokenFile": file});
        fs::write(&path, config.to_string())?;
        let source = if scope == Scope::Cluster {
            Source::Cluster
        } else {
            Source::Node
        };
        let timing = Timing {
            answer: Duration::from_secs(3),
            first_events: Duration::from_secs(3),
            first_pause: Duration::from_millis(50),
            longest_pause: Duration::from_millis(400),
            ..Timing::default()
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
        runtime.spawn(watch::run(Arc::new(client), scope, options, sender, status));
        Ok(Self {
            changes,
            source,
            known: BTreeMap::new(),
            listed: BTreeMap::new(),
            completed: BTreeMap::new(),
            token,
            _runtime: runtime,
            folder,
        })
    }

    /// Takes what there is.
    fn step(&mut self) -> Result<()> {
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
    fn complete(&mut self, kind: Kind, lists: usize) -> Result<()> {
        wait::until(&format!("list {lists} of {kind:?}"), 3 * PATIENCE, || {
            self.step()?;
            let found = self.completed.get(&kind).copied().unwrap_or_default();
            Ok((found >= lists).then_some(()))
        })
    }

    /// Waits until exactly these objects of a kind are known.
    fn knows(&mut self, kind: Kind, names: &[&str]) -> Result<()> {
        let mut found = Vec::new();
        let waited = wait::until("objects", 3 * PATIENCE, || {
            self.step()?;
            found = self.of(kind);
            Ok((found == names).then_some(()))
        });
        waited.with_context(|| format!("{found:?} instead of {names:?}"))
    }

    fn of(&self, kind: Kind) -> Vec<String> {
        let own = self.known.iter().filter(|((other, _), _)| *other == kind);
        let mut names: Vec<String> = own.map(|(_, name)| name.clone()).collect();
        names.sort();
        names
    }
}

/// What an object is called, with what a test looks at.
fn name(object: &Object) -> String {
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

fn pod(name: &str) -> serde_json::Value {
    Pod::new(name).running("node-0", &["10.1.0.4"]).build()
}

/// A double with one pod, and a watch that has told it.
fn watched() -> Result<(Double, Watcher)> {
    let double = Double::start()?;
    let cluster: &dyn Cluster = &double;
    cluster.create(&pod("first"))?;
    let mut watcher = Watcher::start(cluster, Scope::Node("node-0".to_owned()), READER)?;
    watcher.complete(Kind::Pod, 1)?;
    watcher.knows(Kind::Pod, &["first"])?;
    Ok((double, watcher))
}

#[test]
fn a_cluster_is_told_whole_and_then_as_it_changes() -> Result<()> {
    each(|cluster| {
        cluster.create(&objects::node(
            "node-0",
            "10.9.0.1",
            &["10.1.0.0/24"],
            "eu-1a",
        ))?;
        let owner = ("argoproj.io/v1alpha1", "Rollout", "shop");
        let set = cluster.create(&objects::replica_set("shop-1", Some(owner)))?;
        let mut shop = Pod::new("shop-1-a")
            .running("node-0", &["10.1.0.5"])
            .build();
        shop["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "shop-1", "controller": true,
            "uid": set["metadata"]["uid"],
        }]);
        let shop = cluster.create(&shop)?;
        cluster.create(&objects::service("web", &[80]))?;
        cluster.create(&objects::slice_of("web", 0, &[&shop]))?;
        let mut watcher = Watcher::start(cluster, Scope::Cluster, READER)?;
        for kind in Kind::ALL {
            watcher.complete(kind, 1)?;
        }
        watcher.knows(Kind::Pod, &["shop-1-a<Rollout/shop"])?;
        watcher.knows(Kind::Node, &["node-0"])?;
        ensure!(watcher.of(Kind::Service).contains(&"web".to_owned()));
        ensure!(watcher.of(Kind::Endpoints).contains(&"web".to_owned()));
        cluster.create(&pod("new"))?;
        watcher.knows(Kind::Pod, &["new", "shop-1-a<Rollout/shop"])?;
        cluster.remove(&shop)?;
        watcher.knows(Kind::Pod, &["new"])?;
        // Each kind was listed once, one way or the other.
        for kind in Kind::ALL {
            ensure!(watcher.completed[&kind] == 1, "{:?}", watcher.completed);
        }
        Ok(())
    })
}

#[test]
fn a_node_sees_its_own_pods_only() -> Result<()> {
    each(|cluster| {
        cluster.create(&pod("here"))?;
        cluster.create(&Pod::new("there").running("node-1", &["10.1.1.4"]).build())?;
        cluster.create(&Pod::new("nowhere").build())?;
        let mut watcher = Watcher::start(cluster, Scope::Node("node-0".to_owned()), READER)?;
        watcher.knows(Kind::Pod, &["here"])?;
        cluster.create(
            &Pod::new("elsewhere")
                .running("node-1", &["10.1.1.5"])
                .build(),
        )?;
        cluster.create(&pod("too"))?;
        watcher.knows(Kind::Pod, &["here", "too"])?;
        for request in cluster.requests()? {
            ensure!(request.resource == "pods", "{request:?}");
            ensure!(
                request.query["fieldSelector"] == "spec.nodeName=node-0",
                "{request:?}"
            );
        }
        Ok(())
    })
}

#[test]
fn forgotten_history_is_listed_again() -> Result<()> {
    each(|cluster| {
        cluster.create(&pod("first"))?;
        let mut watcher = Watcher::start(cluster, Scope::Node("node-0".to_owned()), READER)?;
        watcher.knows(Kind::Pod, &["first"])?;
        cluster.stop()?;
        cluster.start()?;
        let old = cluster.read(&pod("first"))?;
        cluster.remove(&old)?;
        cluster.create(&pod("second"))?;
        cluster.forget()?;
        watcher.knows(Kind::Pod, &["second"])
    })
}

#[test]
fn a_connection_that_ends_is_resumed_without_a_list() -> Result<()> {
    let (double, mut watcher) = watched()?;
    let cluster: &dyn Cluster = &double;
    let listed = watcher.completed[&Kind::Pod];
    for (number, end) in [Double::end, Double::cut].iter().enumerate() {
        // What was told by a bookmark need not be told again, even if history is forgotten.
        cluster.create(&Pod::new(&format!("far-{number}")).build())?;
        double.bookmark("pods");
        let watches = cluster.count("watch", "pods")?;
        end(&double, "pods");
        wait::until("another watch", PATIENCE, || {
            Ok((cluster.count("watch", "pods")? > watches).then_some(()))
        })?;
        cluster.create(&pod(&format!("later-{number}")))?;
    }
    watcher.knows(Kind::Pod, &["first", "later-0", "later-1"])?;
    ensure!(
        watcher.completed[&Kind::Pod] == listed,
        "it was listed again"
    );
    Ok(())
}

#[test]
fn a_server_that_is_away_or_out_of_its_mind_is_asked_again_in_peace() -> Result<()> {
    let (mut double, mut watcher) = watched()?;
    (&double as &dyn Cluster).create(&pod("second"))?;
    watcher.knows(Kind::Pod, &["first", "second"])?;
    double.stop()?;
    double.start()?;
    (&double as &dyn Cluster).create(&pod("third"))?;
    watcher.knows(Kind::Pod, &["first", "second", "third"])?;
    for line in [
        "garbage",
        "{\"type\":\"MODIFIED\"}",
        "{\"type\":\"ADDED\",\"object\":{}}",
        "[]",
    ] {
        double.inject("pods", line);
    }
    (&double as &dyn Cluster).create(&pod("zeta"))?;
    watcher.knows(Kind::Pod, &["first", "second", "third", "zeta"])?;
    for act in [
        Act::Busy(503, None),
        Act::Busy(429, Some(1)),
        Act::Garbage("<html>\n".to_owned()),
    ] {
        double.misbehave(Fault::new(act).times(3));
    }
    double.disconnect();
    (&double as &dyn Cluster).remove(&pod("first"))?;
    watcher.knows(Kind::Pod, &["second", "third", "zeta"])?;
    let requests = (&double as &dyn Cluster).requests()?.len();
    ensure!(requests < 60, "{requests} requests");
    Ok(())
}

#[test]
fn a_token_that_ends_is_read_anew() -> Result<()> {
    let (double, mut watcher) = watched()?;
    let cluster: &dyn Cluster = &double;
    // One that can stream asks once.
    cluster.expect_requests(&[("watch", "pods", 1)])?;
    let token = cluster.token("observer", &[], None)?;
    fs::write(watcher.folder.path().join("token"), token)?;
    double.expire(&watcher.token);
    double.disconnect();
    cluster.create(&pod("second"))?;
    watcher.knows(Kind::Pod, &["first", "second"])
}

#[test]
fn a_slow_server_is_waited_for() -> Result<()> {
    let double = Double::start()?;
    let cluster: &dyn Cluster = &double;
    for number in 0..5 {
        cluster.create(&pod(&format!("pod-{number}")))?;
    }
    // Longer in all than any one wait may be.
    double.misbehave(Fault::new(Act::Slow(100, Duration::from_millis(15))).verb("watch"));
    let mut watcher = Watcher::start(cluster, Scope::Node("node-0".to_owned()), READER)?;
    watcher.complete(Kind::Pod, 1)?;
    watcher.knows(Kind::Pod, &["pod-0", "pod-1", "pod-2", "pod-3", "pod-4"])?;
    cluster.expect_requests(&[("watch", "pods", 1)])
}

#[test]
fn a_server_without_streaming_lists_is_listed() -> Result<()> {
    let double = Double::start()?;
    let cluster: &dyn Cluster = &double;
    double.misbehave(Fault::new(Act::NoStreamingLists).streaming_lists());
    cluster.create(&pod("first"))?;
    let mut watcher = Watcher::start(cluster, Scope::Node("node-0".to_owned()), READER)?;
    watcher.complete(Kind::Pod, 1)?;
    watcher.knows(Kind::Pod, &["first"])?;
    cluster.create(&pod("second"))?;
    watcher.knows(Kind::Pod, &["first", "second"])?;
    // One watch refused, one list, one watch.
    cluster.expect_requests(&[("watch", "pods", 2), ("list", "pods", 1)])
}

#[test]
fn what_may_not_be_read_does_not_keep_the_rest() -> Result<()> {
    each(|cluster| {
        cluster.create(&pod("first"))?;
        cluster.create(&objects::node("node-0", "10.9.0.1", &[], ""))?;
        let mut watcher = Watcher::start(cluster, Scope::Cluster, &READER[1..])?;
        watcher.complete(Kind::Endpoints, 1)?;
        ensure!(watcher.of(Kind::Node).is_empty() && watcher.of(Kind::Pod).is_empty());
        cluster.allow("observer", READER)?;
        watcher.knows(Kind::Node, &["node-0"])?;
        watcher.knows(Kind::Pod, &["first"])
    })
}
