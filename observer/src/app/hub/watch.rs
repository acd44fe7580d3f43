//! What the hub is told of the cluster by: a watch of the API server.

use std::sync::Arc;

use super::{Feed, Watching};
use crate::{
    app::cluster,
    cluster::{
        client::Client,
        object::{Kind, Source, Subject},
        read::Resource,
        status::Status,
        watch::{self, Options, Scope},
    },
    config::Config,
};

/// A watch of the whole cluster; nothing is asked of the server yet.
///
/// # Errors
///
/// When there is no way to the API server.
pub(super) async fn feed(config: &Config) -> anyhow::Result<Feed> {
    let client = Arc::new(Client::new(&cluster::access(&config.kubernetes)).await?);
    let reviews = client.other();
    tracing::info!(server = client.server(), "watching the whole cluster");
    let status = Arc::new(Status::new(Source::Cluster));
    let options = Options {
        read: cluster::read(config),
        declarations: cluster::declarations(config),
        ..Options::default()
    };
    let (ages, told) = (status.clone(), status.clone());
    Ok(Feed {
        age: Box::new(move |subject| {
            let resource = resource(subject);
            let mut rows = ages.rows().into_iter();
            rows.find(|row| row.resource == resource)?.age
        }),
        watch: Box::new(move |changes| -> Watching {
            Box::pin(watch::run(client, Scope::Cluster, options, changes, status))
        }),
        reviews: Some(reviews),
        status: Some(told),
    })
}

const fn resource(subject: Subject) -> Resource {
    match subject {
        Subject::Kind(Kind::Pod) => Resource::Pods,
        Subject::Kind(Kind::Service) => Resource::Services,
        Subject::Kind(Kind::Endpoints) => Resource::EndpointSlices,
        Subject::Kind(Kind::Node) => Resource::Nodes,
        Subject::Policy(kind) => Resource::Policy(kind),
    }
}
