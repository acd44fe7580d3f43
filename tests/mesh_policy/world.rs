//! A watch of a cluster, and what those who listen to it, and to a hub, know to be declared.

use std::{collections::BTreeMap, fs, sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use observer::{
    cluster::{
        client::{Access, Client},
        object::{Change, Object, Source},
        status::Status,
        stream::{
            client,
            server::{self, Hub},
            status,
        },
        watch::{self, Declarations, Options, Right, Scope, Timing},
    },
    mesh::policy::Policies,
    model::policy::{PolicyChange, PolicyKind, Traits},
};
use observer_tests::{
    apiserver::{Cluster, kubeconfig},
    wait::{self, PATIENCE},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{runtime::Runtime, sync::mpsc};

/// Changes as they come.
type Changes = mpsc::UnboundedReceiver<(Source, Vec<Change>)>;

/// What a cluster declares, as it is known by watching, and by following a hub.
pub(crate) struct World {
    pub(crate) watching: Knowledge,
    pub(crate) following: Knowledge,
    pub(crate) status: Arc<Status>,
    pub(crate) hub: Arc<status::Status>,
    pub(crate) store: Hub,
    // Dropped in this order.
    _runtime: Runtime,
    _folder: TempDir,
}

/// What somebody knows.
pub(crate) struct Knowledge {
    changes: Changes,
    pub(crate) policies: Policies,
    /// Whether the API has each kind, as was told last.
    pub(crate) there: BTreeMap<PolicyKind, bool>,
    /// By name of the pod.
    pub(crate) traits: BTreeMap<String, Arc<Traits>>,
}

/// What is read in tests, and who may.
pub(crate) fn everything() -> Declarations {
    Declarations {
        kinds: PolicyKind::ALL.to_vec(),
        istio_namespace: "istio-system".to_owned(),
        istio_revisions: false,
    }
}

/// Makes an account that may do exactly what these rights are; its token.
pub(crate) fn account(cluster: &dyn Cluster, rights: &[Right]) -> Result<String> {
    let name = "observer";
    let rules: Vec<Value> = rights
        .iter()
        .map(|right| {
            let mut rule = json!({
                "apiGroups": [right.group], "resources": [right.resource], "verbs": [right.verb],
            });
            if !right.name.is_empty() {
                rule["resourceNames"] = json!([right.name]);
            }
            rule
        })
        .collect();
    let rbac = "rbac.authorization.k8s.io";
    let version = format!("{rbac}/v1");
    for object in [
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}),
        json!({"apiVersion": version, "kind": "ClusterRole", "metadata": {"name": name},
               "rules": rules}),
        json!({"apiVersion": version, "kind": "ClusterRoleBinding", "metadata": {"name": name},
               "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": name},
               "subjects": [{"kind": "ServiceAccount", "namespace": "default", "name": name}]}),
    ] {
        cluster.create(&object)?;
    }
    cluster.token(name, &[], None)
}

// === impl World ===

impl World {
    /// Watches as somebody who has the rights that this takes, and no other.
    pub(crate) fn start(cluster: &dyn Cluster, declarations: Declarations) -> Result<Self> {
        let token = account(cluster, &Scope::Cluster.rights(&declarations))?;
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("kubeconfig");
        fs::write(&file, kubeconfig(cluster, &token))?;
        let access = Access::Kubeconfig {
            path: Some(file),
            context: None,
        };
        let mut options = Options {
            declarations,
            timing: Timing {
                answer: Duration::from_secs(3),
                first_events: Duration::from_secs(3),
                first_pause: Duration::from_millis(50),
                longest_pause: Duration::from_millis(400),
                definitions: Duration::from_millis(500),
                ..Timing::default()
            },
            ..Options::default()
        };
        options.read.traits = true;
        let runtime = Runtime::new()?;
        let client = Arc::new(runtime.block_on(Client::new(&access))?);
        let status = Arc::new(Status::new(Source::Cluster));
        let (sender, mut changes) = mpsc::channel::<(Source, Vec<Change>)>(64);
        runtime.spawn(watch::run(
            client,
            Scope::Cluster,
            options,
            sender,
            status.clone(),
        ));

        let store = Hub::new(server::Options::default(), None, Box::new(|_| None));
        let (gathered, received) = mpsc::channel(64);
        let (watching, watched) = mpsc::unbounded_channel();
        runtime.spawn(async move {
            while let Some(batch) = changes.recv().await {
                let _ = watching.send(batch.clone());
                if gathered.send(batch).await.is_err() {
                    return;
                }
            }
        });
        let gathering = store.clone();
        runtime.spawn(async move { gathering.gather(received).await });
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))?;
        let url = format!("http://{}", listener.local_addr()?);
        let router = store.router();
        runtime.spawn(async move { axum::serve(listener, router).await });

        let hub = Arc::new(status::Status::default());
        let (sender, mut changes) = mpsc::channel(64);
        let follow = client::Options {
            url,
            least_wait: Duration::from_millis(50),
            most_wait: Duration::from_millis(200),
            ..client::Options::default()
        };
        runtime.spawn(client::run(follow, sender, hub.clone()));
        let (following, followed) = mpsc::unbounded_channel();
        runtime.spawn(async move {
            while let Some(batch) = changes.recv().await {
                let _ = following.send(batch);
            }
        });
        Ok(Self {
            watching: Knowledge::new(watched),
            following: Knowledge::new(followed),
            status,
            hub,
            store,
            _runtime: runtime,
            _folder: folder,
        })
    }

    /// Waits until both know what is asked for.
    pub(crate) fn both(
        &mut self,
        what: &str,
        know: impl Fn(&Knowledge) -> Result<bool>,
    ) -> Result<()> {
        let waited = wait::until(what, 4 * PATIENCE, || {
            self.watching.step()?;
            self.following.step()?;
            Ok((know(&self.watching)? && know(&self.following)?).then_some(()))
        });
        waited.with_context(|| {
            format!(
                "watching {:?}, following {:?}, {:?}",
                self.watching.names(),
                self.following.names(),
                self.status
                    .rows()
                    .into_iter()
                    .filter_map(|row| row.failing.map(|failing| (row.resource, failing)))
                    .collect::<Vec<_>>()
            )
        })
    }

    /// Waits until exactly these objects of a kind are known to both, by their names.
    pub(crate) fn know(&mut self, kind: PolicyKind, names: &[&str]) -> Result<()> {
        let what = format!("{names:?} of {}", kind.resource());
        self.both(&what, |one| {
            Ok(one.there.get(&kind) == Some(&true) && one.of(kind) == names)
        })
    }

    /// Waits until both know that the API does not have these kinds.
    pub(crate) fn miss(&mut self, kinds: &[PolicyKind]) -> Result<()> {
        self.both("absent kinds", |one| {
            let absent =
                |kind: &PolicyKind| one.there.get(kind) == Some(&false) && one.of(*kind).is_empty();
            Ok(kinds.iter().all(absent))
        })
    }
}

// === impl Knowledge ===

impl Knowledge {
    fn new(changes: Changes) -> Self {
        Self {
            changes,
            policies: Policies::default(),
            there: BTreeMap::new(),
            traits: BTreeMap::new(),
        }
    }

    /// Takes what there is.
    pub(crate) fn step(&mut self) -> Result<()> {
        while let Ok((source, batch)) = self.changes.try_recv() {
            ensure!(source == Source::Cluster);
            for change in batch {
                if let Change::Set(Object::Pod(pod)) = &change {
                    self.traits.insert(pod.name.to_string(), pod.traits.clone());
                }
                let Some(change) = change.declares() else {
                    continue;
                };
                match &change {
                    PolicyChange::Complete(kind) => self.there.insert(*kind, true),
                    PolicyChange::Absent(kind) => self.there.insert(*kind, false),
                    _ => None,
                };
                self.policies.apply(change);
            }
        }
        Ok(())
    }

    /// Names of the objects of a kind.
    pub(crate) fn of(&self, kind: PolicyKind) -> Vec<&str> {
        let objects = self.policies.objects();
        let mut names: Vec<&str> = objects
            .filter(|object| object.kind == kind)
            .map(|object| &*object.name)
            .collect();
        names.sort_unstable();
        names
    }

    fn names(&self) -> Vec<String> {
        let objects = self.policies.objects();
        let mut names: Vec<String> = objects
            .filter(|object| object.kind != PolicyKind::Namespace)
            .map(|object| format!("{}/{}", object.kind.resource(), object.name))
            .collect();
        names.sort();
        names
    }
}
