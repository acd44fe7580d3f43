//! The cluster that this host is a node of: who is asked of it, and how well they know it.

use std::sync::Arc;

use anyhow::Context as _;
use tokio::sync::mpsc;

use super::announce::Announcer;
use crate::{
    cluster::{
        Changes,
        client::{Access, Client},
        events,
        index::Index,
        object::{Kind, Source},
        read::{self, Pattern},
        status::{Row, Status},
        stream,
        watch::{self, Declarations, Scope},
    },
    config::{self, Config, MeshParts, Switch},
    model::policy::{PolicyKind, PolicyPart},
    telemetry::health::{ClusterState, Loss, Table},
};

/// Those who tell what happens in the cluster.
pub(super) struct Cluster {
    /// What they tell.
    pub(super) changes: Changes,
    /// Who tells of the pods of this node.
    pub(super) source: Source,
    /// How well they know it.
    pub(super) informants: Informants,
    /// Who tells the cluster what was found, where that is wanted.
    pub(super) announcer: Option<Announcer>,
}

/// How well those who tell know the cluster.
#[derive(Clone, Default)]
pub(super) struct Informants {
    watch: Option<Arc<Status>>,
    hub: Option<Arc<stream::status::Status>>,
}

/// Batches that wait for the pipeline.
const BATCHES: usize = 256;

/// Starts whoever tells of the cluster, if the configuration wants that.
///
/// # Errors
///
/// When the cluster has to be asked, and it is not known how.
pub(super) async fn start(config: &Config) -> anyhow::Result<Option<Cluster>> {
    let settings = &config.kubernetes;
    let in_pod = std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
    if !settings.is_on(in_pod) {
        return Ok(None);
    }
    let has_hub = !settings.hub.is_empty();
    let client = match Client::new(&access(settings)).await {
        Ok(client) => Some(Arc::new(client)),
        Err(error) if settings.enabled == Switch::On && !has_hub => {
            return Err(error).context("kubernetes.enabled is on");
        }
        Err(error) if has_hub => {
            tracing::warn!(%error, "pods of this node are known by the hub alone: no containers");
            None
        }
        Err(error) => {
            tracing::warn!(%error, "pods and services get no names: the cluster is not asked");
            return Ok(None);
        }
    };
    let scope = match (has_hub, settings.node.as_str()) {
        (false, _) => Some(Scope::Cluster),
        (true, "") => {
            tracing::warn!(
                "kubernetes.node is not set: pods of this node are known by the hub alone"
            );
            None
        }
        (true, node) => Some(Scope::Node(node.to_owned())),
    };
    let announcer = announcer(config, client.as_ref());
    let (sender, changes) = mpsc::channel(BATCHES);
    let mut informants = Informants::default();
    let mut source = Source::Cluster;
    if let (Some(client), Some(scope)) = (client, scope) {
        if let Scope::Node(_) = scope {
            source = Source::Node;
        }
        let status = Arc::new(Status::new(source));
        informants.watch = Some(status.clone());
        tracing::info!(server = client.server(), ?scope, "watching the cluster");
        let options = watch::Options {
            read: read(config),
            declarations: declarations(config),
            ..watch::Options::default()
        };
        tokio::spawn(watch::run(client, scope, options, sender.clone(), status));
    }
    if has_hub {
        let status = Arc::new(stream::status::Status::default());
        informants.hub = Some(status.clone());
        let options = stream::client::Options {
            url: settings.hub.clone(),
            authorities: settings.hub_ca.clone(),
            token: settings.hub_token.clone(),
            ..stream::client::Options::default()
        };
        tracing::info!(hub = settings.hub, "following the hub");
        tokio::spawn(stream::client::run(options, sender, status));
    }
    Ok(Some(Cluster {
        changes,
        source,
        informants,
        announcer,
    }))
}

/// Starts who tells the cluster what was found, where that is wanted and there is a way.
fn announcer(config: &Config, client: Option<&Arc<Client>>) -> Option<Announcer> {
    let settings = &config.mesh;
    if !settings.events || !settings.is_on(true) {
        return None;
    }
    let Some(client) = client else {
        tracing::warn!("mesh.events: the API server is not asked, and is told nothing");
        return None;
    };
    let (sender, task) = events::start(client.clone(), config.kubernetes.node.clone());
    tokio::spawn(task);
    Some(Announcer::new(sender))
}

// === impl Informants ===

impl Informants {
    /// How well each kind of object is known, by everybody who tells of it.
    pub(super) fn states(&self, index: &Index) -> Vec<ClusterState> {
        let watched = self
            .watch
            .iter()
            .flat_map(|status| watched(status, |kind| index.objects(kind)));
        let told = self.hub.iter().flat_map(|status| {
            let counted = status.counted();
            status.kinds().into_iter().map(move |kind| ClusterState {
                source: "hub",
                kind: kind.kind.as_str(),
                synced: status.is_synced(),
                age_seconds: status.silence().and(kind.age).map(|age| age.as_secs_f64()),
                objects: kind.objects,
                requests: counted.connects,
                errors: vec![("stream", counted.failures)],
            })
        });
        watched.chain(told).collect()
    }

    /// What of the cluster's objects could not be read, resolved or kept.
    pub(super) fn losses(&self) -> Vec<Loss> {
        self.watch
            .iter()
            .flat_map(|status| status.losses())
            .collect()
    }

    /// How full the tables of those who tell are.
    pub(super) fn tables(&self) -> Vec<Table> {
        self.watch
            .iter()
            .flat_map(|status| status.tables())
            .collect()
    }
}

/// How well a watch of the API knows each kind of object, of which there are so many.
pub(super) fn watched(status: &Status, objects: impl Fn(Kind) -> usize) -> Vec<ClusterState> {
    let state = |row: Row| ClusterState {
        source: "api",
        kind: row.resource.as_str(),
        synced: row.synced,
        age_seconds: row.age.map(|age| age.as_secs_f64()),
        objects: match row.resource.kind() {
            Some(kind) => objects(kind) as u64,
            None => row.objects,
        },
        requests: row.requests.iter().map(|(_, count)| count).sum(),
        errors: row
            .errors
            .iter()
            .map(|(reason, count)| (reason.as_str(), *count))
            .collect(),
    };
    status.rows().into_iter().map(state).collect()
}

/// Where the API server is.
pub(super) fn access(settings: &config::Kubernetes) -> Access {
    match &settings.kubeconfig {
        None => Access::InCluster,
        Some(path) => Access::Kubeconfig {
            path: Some(path.clone()),
            context: Some(settings.context.clone()).filter(|context| !context.is_empty()),
        },
    }
}

/// What is read of what is declared, by whoever watches the whole cluster.
pub(super) fn declarations(config: &Config) -> Declarations {
    let mesh = &config.mesh;
    if !mesh.is_on(true) {
        return Declarations::default();
    }
    let MeshParts {
        istio,
        linkerd,
        gateway_api,
        network_policy,
    } = mesh.parts;
    let mut kinds = PolicyKind::ALL.to_vec();
    kinds.retain(|kind| match kind.part() {
        PolicyPart::Core => true,
        PolicyPart::Istio => istio,
        PolicyPart::Linkerd => linkerd,
        PolicyPart::GatewayApi => gateway_api,
        PolicyPart::NetworkPolicy => network_policy,
    });
    Declarations {
        kinds,
        istio_namespace: mesh.istio_namespace.clone(),
        istio_revisions: mesh.istio_revisions,
    }
}

/// What is kept of pods: what is told, and what chooses those that are observed.
pub(super) fn read(config: &Config) -> read::Options {
    let settings = &config.kubernetes;
    let patterns = |globs: &[config::Glob]| -> Vec<Pattern> {
        globs
            .iter()
            .map(|glob| Pattern::new(glob.as_str()))
            .collect()
    };
    let mut labels = patterns(&settings.labels);
    let choosing = config.ignore.pods.labels.iter().chain(&config.only.labels);
    labels.extend(choosing.map(|label| Pattern::new(&label.name)));
    read::Options {
        labels,
        annotations: patterns(&settings.annotations),
        // Whoever reads this asks the cluster.
        traits: config.mesh.is_on(true),
        ..read::Options::default()
    }
}
