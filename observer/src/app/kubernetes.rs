//! For `observer doctor`: what an agent with this configuration gets of Kubernetes.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::api::{Api, PostParams};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};

use super::cluster::{access, declarations};
use crate::{
    cli::doctor::{Asked, Kubernetes},
    cluster::{
        client::Client,
        stream,
        watch::{self, Declarations, Right, Scope},
    },
    config::{self, Config, Flags},
};

/// For all answers of the API server, and for the hub to tell something.
const PATIENCE: Duration = Duration::from_secs(5);

/// Questions to the API server at a time.
const AT_ONCE: usize = 8;

/// Between two looks at how far the hub's stream is.
const LOOK: Duration = Duration::from_millis(20);

/// Asks as an agent with this file, and with the environment of this process, would.
///
/// # Errors
///
/// When the configuration is wrong.
pub fn check(file: Option<&Path>) -> anyhow::Result<Kubernetes> {
    let environment = |name: &str| std::env::var(name).ok();
    let config = Config::load(file, &Flags::default(), &environment)?;
    let settings = &config.kubernetes;
    let in_pod = std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
    if !settings.is_on(in_pod) {
        return Ok(Kubernetes::default());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    Ok(runtime.block_on(async {
        let (api, hub) = tokio::join!(api(&config), hub(settings));
        Kubernetes {
            on: true,
            api: Some(api),
            hub,
        }
    }))
}

/// Whether the API server allows all that is asked of it.
async fn api(config: &Config) -> Asked {
    let settings = &config.kubernetes;
    let (scope, purpose) = match (settings.hub.as_str(), settings.node.as_str()) {
        ("", _) => (Scope::Cluster, "the cluster".to_owned()),
        (_, node) => (
            Scope::Node(node.to_owned()),
            format!(
                "the pods of {}",
                if node.is_empty() { "no node" } else { node }
            ),
        ),
    };
    let client = match Client::new(&access(settings)).await {
        Ok(client) => client,
        Err(error) => {
            return Asked {
                who: "the API server".to_owned(),
                missing: Err(error.to_string()),
                purpose,
            };
        }
    };
    let declarations = declarations(config);
    let mut rights = scope.rights(&declarations);
    if config.mesh.is_on(true) && config.mesh.events {
        rights.push(watch::EVENTS);
    }
    let asked = timeout(PATIENCE, missing(&client, &rights, &declarations)).await;
    Asked {
        who: client.server(),
        missing: asked.unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}"))),
        purpose,
    }
}

/// Those of `rights` that this account does not have. What the API does not have needs none.
async fn missing(
    client: &Client,
    rights: &[Right],
    declarations: &Declarations,
) -> Result<Vec<String>, String> {
    let mut missing: Vec<&Right> = Vec::new();
    for some in rights.chunks(AT_ONCE) {
        let asked: Vec<_> = some
            .iter()
            .map(|right| tokio::spawn(is_allowed(client.other(), right.clone())))
            .collect();
        for (right, answer) in some.iter().zip(asked) {
            let answer = answer.await.map_err(|error| error.to_string())?;
            if !answer? {
                missing.push(right);
            }
        }
    }
    if !missing.is_empty() {
        let served = watch::served(client, &declarations.kinds).await?;
        let declared = |right: &Right| {
            let mut kinds = declarations.kinds.iter();
            kinds
                .find(|kind| (kind.group(), kind.plural()) == (right.group, right.resource))
                .copied()
        };
        missing.retain(|right| declared(right).is_none_or(|kind| served.contains(&kind)));
    }
    Ok(missing.into_iter().map(said).collect())
}

/// Whether this account has a right.
async fn is_allowed(client: kube::Client, right: Right) -> Result<bool, String> {
    let Right {
        group,
        resource,
        verb,
        namespace,
        name,
    } = right;
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                group: Some(group.to_owned()),
                resource: Some(resource.to_owned()),
                verb: Some(verb.to_owned()),
                namespace: (!namespace.is_empty()).then_some(namespace),
                name: (!name.is_empty()).then(|| name.to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client);
    let answer = reviews.create(&PostParams::default(), &review).await;
    let answer = answer.map_err(|error| chain(&error))?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

/// A right as it is shown.
fn said(right: &Right) -> String {
    let Right {
        group,
        resource,
        verb,
        namespace,
        name,
    } = right;
    let point = if group.is_empty() { "" } else { "." };
    let of = if name.is_empty() { "" } else { " " };
    let place = match namespace.as_str() {
        "" => String::new(),
        namespace => format!(" in {namespace}"),
    };
    format!("{verb} {resource}{point}{group}{of}{name}{place}")
}

/// Follows the hub until it has told something; `None` if there is none.
async fn hub(settings: &config::Kubernetes) -> Option<Asked> {
    if settings.hub.is_empty() {
        return None;
    }
    let options = stream::client::Options {
        url: settings.hub.clone(),
        authorities: settings.hub_ca.clone(),
        token: settings.hub_token.clone(),
        ..stream::client::Options::default()
    };
    let status = Arc::new(stream::status::Status::default());
    let (changes, mut told) = mpsc::channel(1);
    let following = stream::client::run(options, changes, status.clone());
    let answered = async {
        loop {
            if status.is_connected() {
                return Ok(Vec::new());
            }
            let error = status.error();
            if !error.is_empty() {
                return Err(error);
            }
            sleep(LOOK).await;
        }
    };
    // What it tells is not wanted here, but must not hold it up.
    let drained = async { while told.recv().await.is_some() {} };
    let missing = tokio::select! {
        answered = timeout(PATIENCE, answered) => {
            answered.unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}")))
        }
        () = following => Err("the stream ended".to_owned()),
        () = drained => Err("the stream ended".to_owned()),
    };
    Some(Asked {
        who: settings.hub.clone(),
        missing,
        purpose: "the cluster".to_owned(),
    })
}

/// An error with all its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
