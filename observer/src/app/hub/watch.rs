//! What the hub is told of the cluster by: a watch of the API server.

use std::{path::Path, sync::Arc};

use kube::config::{KubeConfigOptions, Kubeconfig};

use super::{Feed, Watching};
use crate::{
    cluster::{
        client::Client,
        object::{Kind, Source},
        read::{self, Pattern, Resource},
        status::Status,
        watch::{self, Options, Scope},
    },
    config::{Glob, Kubernetes},
};
use anyhow::Context as _;

/// A watch of the whole cluster; nothing is asked of the server yet.
///
/// # Errors
///
/// When there is no way to the API server.
pub(super) async fn feed(kubernetes: &Kubernetes) -> anyhow::Result<Feed> {
    let access = access(kubernetes).await?;
    // Reads its token anew by itself.
    let reviews = kube::Client::try_from(access.clone())
        .context("cannot make a client of the Kubernetes API")?;
    let client = Arc::new(Client::with_config(access)?);
    tracing::info!(server = client.server(), "watching the whole cluster");
    let status = Arc::new(Status::new(Source::Cluster));
    let patterns = |globs: &[Glob]| {
        globs
            .iter()
            .map(|glob| Pattern::new(glob.as_str()))
            .collect()
    };
    let options = Options {
        read: read::Options {
            labels: patterns(&kubernetes.labels),
            annotations: patterns(&kubernetes.annotations),
            ..read::Options::default()
        },
        ..Options::default()
    };
    let ages = status.clone();
    Ok(Feed {
        age: Box::new(move |kind| {
            let resource = resource(kind);
            let mut rows = ages.rows().into_iter();
            rows.find(|row| row.resource == resource)?.age
        }),
        watch: Box::new(move |changes| -> Watching {
            Box::pin(watch::run(client, Scope::Cluster, options, changes, status))
        }),
        reviews: Some(reviews),
    })
}

async fn access(kubernetes: &Kubernetes) -> anyhow::Result<kube::Config> {
    let options = KubeConfigOptions {
        context: (!kubernetes.context.is_empty()).then(|| kubernetes.context.clone()),
        ..KubeConfigOptions::default()
    };
    let Some(path) = &kubernetes.kubeconfig else {
        return kube::Config::incluster().context(
            "no access to the Kubernetes API from within a pod: run in a pod with the token of a \
             service account, or set kubernetes.kubeconfig",
        );
    };
    let unusable = |path: &Path| format!("cannot use the kubeconfig {}", path.display());
    let file = Kubeconfig::read_from(path).with_context(|| unusable(path))?;
    kube::Config::from_custom_kubeconfig(file, &options)
        .await
        .with_context(|| unusable(path))
}

const fn resource(kind: Kind) -> Resource {
    match kind {
        Kind::Pod => Resource::Pods,
        Kind::Service => Resource::Services,
        Kind::Endpoints => Resource::EndpointSlices,
        Kind::Node => Resource::Nodes,
    }
}
