//! The role `observer hub`: watches the API server once, and tells all agents.
//!
//! It loads no programs, reads nothing of this host and needs no privilege.

mod metrics;
mod watch;

use std::{io::Write as _, net::TcpListener, pin::Pin, sync::Arc};

use anyhow::Context as _;
use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

use crate::{
    cluster::{
        object::{Change, Source, Subject},
        status::Status,
        stream::{
            PATH,
            authentication::{self, Authenticator},
            certificate::{Certificate, Files},
            server::{self, Age, Hub},
        },
    },
    config::{self, Config},
    listen,
    model::time::WallOffset,
    serve::exposition::Wanted,
};

/// Who tells the hub of the cluster.
pub struct Feed {
    /// How long ago the API server was last heard of a kind.
    pub age: Box<Age>,
    /// Tells changes until the receiver is gone.
    pub watch: Watch,
    /// Asks whose a token is; needed where agents must show one.
    pub reviews: Option<kube::Client>,
    /// How the watch goes; `None` if it does not tell.
    pub status: Option<Arc<Status>>,
}

/// Begins a watch.
pub type Watch = Box<dyn FnOnce(mpsc::Sender<(Source, Vec<Change>)>) -> Watching + Send>;

/// A watch that goes on.
pub type Watching = Pin<Box<dyn Future<Output = ()> + Send>>;

#[derive(Clone)]
struct Site {
    hub: Hub,
    max_agents: u32,
    status: Option<Arc<Status>>,
}

const INDEX: &str = "\
Observer hub: what the cluster is, for the agents on its nodes

GET /metrics                 metrics of the hub, Prometheus text, OpenMetrics or protobuf by Accept
GET /livez                   200 while it runs
GET /readyz                  200 when the whole cluster is known
GET /api/v1/cluster/stream   for agents: snapshot and changes
";

/// Batches of the watch that wait to be taken.
const BATCHES: usize = 64;

/// Connections beside those of agents: scrapes, probes, and agents that are about to be refused.
const MORE_CONNECTIONS: usize = 128;

/// Threads of the runtime; twice as many may make snapshots and look names up.
const THREADS: usize = 2;

/// Watches the cluster and tells agents of it until SIGTERM or SIGINT.
///
/// # Errors
///
/// What [`run_with`] says.
pub fn run(config: &Config) -> anyhow::Result<()> {
    run_with(config, async || watch::feed(config).await)
}

/// Tells agents of the cluster until SIGTERM or SIGINT. `feed` is made once the port is taken.
///
/// # Errors
///
/// When it cannot start: a busy port, a bad certificate, no way to the API server.
pub fn run_with<F>(config: &Config, feed: F) -> anyhow::Result<()>
where
    F: AsyncFnOnce() -> anyhow::Result<Feed>,
{
    super::log(config.log.level);
    let config::Hub {
        listen,
        tls,
        authenticate,
        agent_account,
        max_agents,
    } = &config.hub;
    // The port first: it is the cheapest thing to fail.
    let listener = TcpListener::bind(listen)
        .with_context(|| format!("cannot listen on {listen} (choose another with --listen)"))?;
    listener
        .set_nonblocking(true)
        .context("cannot make the listener non-blocking")?;
    let address = listener
        .local_addr()
        .context("cannot tell the listening address")?;
    let certificate = match (&tls.certificate, &tls.key) {
        (Some(certificate), Some(key)) => Some(Certificate::read(Files {
            certificate: certificate.clone(),
            key: key.clone(),
        })?),
        (None, None) => None,
        _ => anyhow::bail!(
            "hub.tls.certificate and hub.tls.key belong together: set both, or none for no TLS"
        ),
    };
    if *authenticate && certificate.is_none() && !address.ip().is_loopback() {
        tracing::warn!(
            "agents send their tokens in the clear: set hub.tls.certificate and hub.tls.key"
        );
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .max_blocking_threads(2 * THREADS)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        let Feed {
            age,
            watch,
            reviews,
            status,
        } = feed().await?;
        let authenticator = if *authenticate {
            let client = reviews.context("no way to ask the API server whose a token is")?;
            let account = agent_account
                .as_ref()
                .map(|account| (account.namespace.clone(), account.name.clone()));
            let options = authentication::Options {
                account,
                answers: 2 * *max_agents as usize,
                ..authentication::Options::default()
            };
            Some(Authenticator::new(client, options))
        } else {
            None
        };
        let options = server::Options {
            agents: *max_agents as usize,
            ..server::Options::default()
        };
        let scheme = if certificate.is_some() {
            "https"
        } else {
            "http"
        };
        let hub = Hub::new(options, authenticator, age);
        let site = Site {
            hub: hub.clone(),
            max_agents: *max_agents,
            status,
        };
        let listener =
            tokio::net::TcpListener::from_std(listener).context("cannot serve the listener")?;
        let bounds = listen::Options {
            connections: *max_agents as usize + MORE_CONNECTIONS,
            ..listen::Options::default()
        };
        let served = tokio::spawn(listen::run(
            listener,
            certificate.map(Certificate::into_acceptor),
            site.router(),
            bounds,
            hub.counters(),
            hub.stopping(),
        ));
        announce(&format!("{scheme}://{address}"));
        let (changes, received) = mpsc::channel(BATCHES);
        let gathered = {
            let hub = hub.clone();
            tokio::spawn(async move { hub.gather(received).await })
        };
        let watched = tokio::spawn(watch(changes));
        let ended = until_stopped(&hub, gathered).await;
        hub.stop();
        watched.abort();
        served.await.context("the server stopped unexpectedly")?;
        ended
    })
}

/// Waits for a signal, or for the end of the watch, which is a failure.
async fn until_stopped(hub: &Hub, gathered: tokio::task::JoinHandle<()>) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot await SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot await SIGINT")?;
    // Unhandled, it would end the hub, and somebody may mean the agent's way to reload.
    let mut hangup = signal(SignalKind::hangup()).context("cannot await SIGHUP")?;
    let mut stopping = hub.stopping();
    let mut gathered = gathered;
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = hangup.recv() => {
                tracing::warn!("SIGHUP changes nothing: the hub reads its settings when it starts");
            }
            _ = stopping.wait_for(|stop| *stop) => return Ok(()),
            // Nothing is told that is not watched.
            _ = &mut gathered => anyhow::bail!(
                "the watch of the cluster stopped unexpectedly; what it said is above"
            ),
        }
    }
}

fn announce(url: &str) {
    let text = format!("listening on {url}: /metrics /livez /readyz {PATH}\n");
    let mut out = std::io::stdout().lock();
    // Nobody has to read it.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

// === impl Site ===

impl Site {
    fn router(self) -> Router {
        let stream = self.hub.router();
        Router::new()
            .route("/", get(async || INDEX))
            .route("/metrics", get(exposition))
            .route("/livez", get(async || "alive\n"))
            .route("/readyz", get(readyz))
            .with_state(self)
            .merge(stream)
    }
}

async fn exposition(State(site): State<Site>, headers: HeaderMap) -> Response {
    let snapshot = metrics::snapshot(&site.hub, site.max_agents, site.status.as_deref());
    // Nothing here has an exemplar, which would need the time.
    Wanted::by(&headers).answer(&snapshot, WallOffset::default())
}

async fn readyz(State(site): State<Site>) -> Response {
    let unsynced = site.hub.store().unsynced();
    if unsynced.is_empty() {
        return "ready\n".into_response();
    }
    let text: String = unsynced
        .into_iter()
        .map(|kind| {
            let heard = match site.hub.age(Subject::Kind(kind)) {
                None => "the API server was not heard yet".to_owned(),
                Some(age) => format!("the API server was heard {} seconds ago", age.as_secs()),
            };
            format!("not ready: {} are not known yet; {heard}\n", kind.as_str())
        })
        .collect();
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

#[cfg(test)]
mod tests;
