//! Requests to the API server: who it is, who we are, and how long we wait for it.

use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use hyper::{
    Request, Response,
    header::{ACCEPT, HeaderValue, USER_AGENT},
};
use kube::{
    Config,
    client::Body,
    config::{KubeConfigOptions, Kubeconfig},
};

/// Where the API server is, and by what we are known to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// As a pod: address from the environment, token and certificate of its service account.
    #[default]
    InCluster,
    /// By a kubeconfig.
    Kubeconfig {
        /// The file; `None` for `$KUBECONFIG`, or `~/.kube/config`.
        path: Option<PathBuf>,
        /// The context; `None` for its current one.
        context: Option<String>,
    },
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not in a pod, or one without a service account's token.
    #[error(
        "no access to the Kubernetes API from within a pod: {0}; run in a pod that has \
         automountServiceAccountToken, or give a kubeconfig"
    )]
    InCluster(#[source] kube::config::InClusterError),
    /// The kubeconfig cannot be used.
    #[error("cannot use the kubeconfig {path}: {source}")]
    Kubeconfig {
        /// Which one.
        path: String,
        /// Why.
        source: kube::config::KubeconfigError,
    },
    /// What it says cannot be made a client of.
    #[error("cannot make a client of the Kubernetes API: {0}")]
    Client(#[source] kube::Error),
}

/// A client of the API server, for any number of tasks.
///
/// It reads the token anew within a minute, as it rotates, and at once when the server refuses it.
pub struct Client {
    config: Config,
    current: Mutex<Current>,
}

struct Current {
    client: kube::Client,
    /// When the credentials were read anew.
    renewed: Option<Instant>,
}

/// For a connection, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Credentials are not read anew more often.
const RENEW_PAUSE: Duration = Duration::from_secs(1);
const NAME: &str = concat!("observer/", env!("CARGO_PKG_VERSION"));

// === impl Client ===

impl Client {
    /// A client by `access`. Nothing is asked of the server yet.
    pub async fn new(access: &Access) -> Result<Self, Error> {
        let config = match access {
            Access::InCluster => Config::incluster().map_err(Error::InCluster)?,
            Access::Kubeconfig { path, context } => {
                let shown = path.as_ref().map(|path| path.display().to_string());
                let failed = |source| Error::Kubeconfig {
                    path: shown
                        .clone()
                        .unwrap_or_else(|| "of the environment".to_owned()),
                    source,
                };
                let options = KubeConfigOptions {
                    context: context.clone(),
                    ..KubeConfigOptions::default()
                };
                match path {
                    Some(path) => {
                        let file = Kubeconfig::read_from(path).map_err(failed)?;
                        Config::from_custom_kubeconfig(file, &options)
                            .await
                            .map_err(failed)?
                    }
                    None => Config::from_kubeconfig(&options).await.map_err(failed)?,
                }
            }
        };
        Self::with_config(config)
    }

    /// A client by a configuration that somebody made; its timeouts and retries are ours.
    pub fn with_config(mut config: Config) -> Result<Self, Error> {
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        // Watches have timeouts of their own, and failures are told and paced by them too.
        config.read_timeout = None;
        config.default_retry = false;
        config
            .headers
            .push((USER_AGENT, HeaderValue::from_static(NAME)));
        let client = kube::Client::try_from(config.clone()).map_err(Error::Client)?;
        let renewed = None;
        let current = Mutex::new(Current { client, renewed });
        Ok(Self { config, current })
    }

    /// The address of the server, for logs.
    pub fn server(&self) -> String {
        self.config.cluster_url.to_string()
    }

    /// For requests of another kind; it reads its token anew by itself.
    pub fn other(&self) -> kube::Client {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.client.clone()
    }

    /// Reads the credentials anew, for requests from now on.
    pub(super) fn renew(&self) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.renewed.is_some_and(|at| at.elapsed() < RENEW_PAUSE) {
            return;
        }
        current.renewed = Some(Instant::now());
        match kube::Client::try_from(self.config.clone()) {
            Ok(client) => current.client = client,
            Err(error) => {
                tracing::warn!(%error, "cannot read the credentials for the Kubernetes API anew; those from before are kept")
            }
        }
    }

    /// Asks for a path, as JSON of a media type.
    pub(super) async fn get(
        &self,
        path: &str,
        accept: &'static str,
    ) -> Result<Response<Body>, kube::Error> {
        let request = Request::get(path)
            .header(ACCEPT, HeaderValue::from_static(accept))
            .body(Body::empty())
            .map_err(kube::Error::HttpError)?;
        self.other().send(request).await
    }
}

// === impl Debug ===

impl std::fmt::Debug for Client {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Nothing of the credentials.
        formatter
            .debug_struct("Client")
            .field("server", &self.server())
            .finish_non_exhaustive()
    }
}
