//! Requests to the API server: who it is, who we are, and how long we wait for it.

use std::{
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use hyper::{
    Request, Response,
    header::{ACCEPT, HeaderValue, USER_AGENT},
};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::TokioExecutor,
};
use kube::{
    Config,
    client::{Body, ClientBuilder, ConfigExt as _},
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};
use tower::{BoxError, ServiceExt as _};

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
    #[error("cannot use the kubeconfig {path}: {reason}")]
    Kubeconfig {
        /// Which one.
        path: String,
        /// Why, without anything that the file says: there are credentials in it.
        reason: String,
    },
    /// The token in the kubeconfig is none.
    #[error(
        "the token in the kubeconfig is not one line of printable text: write it anew, or name \
         its file by tokenFile"
    )]
    Token,
    /// What it says cannot be made a client of.
    #[error("cannot make a client of the Kubernetes API: {0}")]
    Client(#[source] kube::Error),
}

/// A client of the API server, for any number of tasks.
///
/// It reads the token anew within a minute, as it rotates, and everything at once when the server
/// refuses it, or has a certificate that is not trusted.
pub struct Client {
    /// Where all of it is read anew; `None` for a configuration that somebody made.
    access: Option<Access>,
    current: Mutex<Current>,
}

struct Current {
    config: Config,
    client: kube::Client,
    /// When it was last tried to read all of it anew.
    renewed: Option<Instant>,
    /// That did not work, and it was said.
    stale: bool,
}

/// For a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A server that has said nothing for so long is asked whether it is there, and again after the
/// second of these, so many times: 45 seconds in all. One that is cut off does not close its
/// connections, and bookmarks alone would show that after a minute and a half.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(15), Duration::from_secs(10), 3);
/// Credentials are not read anew more often.
const RENEW_PAUSE: Duration = Duration::from_secs(1);
const NAME: &str = concat!("observer/", env!("CARGO_PKG_VERSION"));

/// What is wrong with a kubeconfig; the parser would show the line.
fn reason(error: &KubeconfigError) -> String {
    let KubeconfigError::Parse(error) = error else {
        return error.to_string();
    };
    let place = error.location().map_or_else(String::new, |place| {
        format!(": see line {}, column {}", place.line(), place.column())
    });
    format!("it is not the YAML of a kubeconfig{place}")
}

/// A client that says nothing in the log, as failures are told by those who ask, and once.
fn client(config: &Config) -> Result<kube::Client, Error> {
    // The library would panic at such a token.
    let credentials = serde_json::to_value(&config.auth_info).unwrap_or_default();
    if let Some(token) = credentials.get("token").and_then(|token| token.as_str())
        && HeaderValue::from_str(token).is_err()
    {
        return Err(Error::Token);
    }
    made(config).map_err(Error::Client)
}

fn made(config: &Config) -> Result<kube::Client, kube::Error> {
    let mut config = config.clone();
    config
        .headers
        .push((USER_AGENT, HeaderValue::from_static(NAME)));
    if config.proxy_url.is_some() {
        // Which of them can be used, the library tells.
        return kube::Client::try_from(config);
    }
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    let (idle, interval, retries) = KEEPALIVE;
    connector.set_keepalive(Some(idle));
    connector.set_keepalive_interval(Some(interval));
    connector.set_keepalive_retries(Some(retries));
    let connector = config.rustls_https_connector_with_connector(connector)?;
    let client = legacy::Client::builder(TokioExecutor::new()).build::<_, Body>(connector);
    let client = client.map_err(BoxError::from);
    let builder = ClientBuilder::new(client, &*config.default_namespace)
        .with_layer(&config.extra_headers_layer()?);
    let base = config.base_uri_layer();
    Ok(match config.auth_layer()? {
        Some(auth) => builder.with_layer(&auth).with_layer(&base).build(),
        None => builder.with_layer(&base).build(),
    })
}

// === impl Access ===

impl Access {
    async fn read(&self) -> Result<Config, Error> {
        let (path, context) = match self {
            Self::InCluster => return Config::incluster().map_err(Error::InCluster),
            Self::Kubeconfig { path, context } => (path, context),
        };
        let shown = path.as_ref().map(|path| path.display().to_string());
        let failed = |error| Error::Kubeconfig {
            path: shown
                .clone()
                .unwrap_or_else(|| "of the environment".to_owned()),
            reason: reason(&error),
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
                    .map_err(failed)
            }
            None => Config::from_kubeconfig(&options).await.map_err(failed),
        }
    }
}

// === impl Client ===

impl Client {
    /// A client by `access`. Nothing is asked of the server yet.
    pub async fn new(access: &Access) -> Result<Self, Error> {
        let config = access.read().await?;
        Self::made(Some(access.clone()), config)
    }

    /// A client by a configuration that somebody made; its timeouts and retries are ours.
    pub fn with_config(config: Config) -> Result<Self, Error> {
        Self::made(None, config)
    }

    fn made(access: Option<Access>, config: Config) -> Result<Self, Error> {
        let client = client(&config)?;
        let current = Mutex::new(Current {
            config,
            client,
            renewed: None,
            stale: false,
        });
        Ok(Self { access, current })
    }

    /// The address of the server, for logs.
    pub fn server(&self) -> String {
        self.current().config.cluster_url.to_string()
    }

    /// For requests of another kind; it reads its token anew by itself.
    pub fn other(&self) -> kube::Client {
        self.current().client.clone()
    }

    /// Reads credentials and authorities anew, for requests from now on.
    pub(super) async fn renew(&self) {
        let mut config = {
            let mut current = self.current();
            let renewed = current.renewed;
            if renewed.is_some_and(|at| at.elapsed() < RENEW_PAUSE) {
                return;
            }
            current.renewed = Some(Instant::now());
            current.config.clone()
        };
        let mut failed = None;
        if let Some(access) = &self.access {
            match access.read().await {
                Ok(read) => config = read,
                Err(error) => failed = Some(error),
            }
        }
        let made = match failed {
            None => client(&config),
            Some(error) => Err(error),
        };
        let mut current = self.current();
        match made {
            Ok(client) => {
                current.config = config;
                current.client = client;
                current.stale = false;
            }
            Err(error) if !std::mem::replace(&mut current.stale, true) => tracing::warn!(
                %error,
                "cannot read the credentials for the Kubernetes API anew; those from before are kept"
            ),
            Err(error) => tracing::debug!(%error, "cannot read the credentials anew"),
        }
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
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
