//! Answers: metrics, health, flows and services over HTTP.
//!
//! [`channel`] makes two ends. The [`Hub`] belongs to this side: many clients, all of them
//! bounded. The [`Pipeline`] belongs to the one thread that has the measures: it answers a
//! [`Query`] when it gets to it, and hands out flows while somebody follows. Nothing that a client
//! does can make that thread wait.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::{Semaphore, broadcast, mpsc, oneshot, watch};

use crate::{
    aggregate::{
        graph::{EdgeRow, Windowed},
        history::Flow,
        snapshot::Snapshot,
    },
    mesh::report::Report,
    model::time::WallOffset,
    telemetry::health::Loss,
};

pub mod exposition;
pub mod filter;
pub mod flow;

mod connection;
mod flows;
mod graph;
mod mesh;
mod node_graph;
mod routes;
mod services;
mod status;

pub use connection::run;
use filter::FlowFilter;

/// Bounds of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How long a client waits for the pipeline to answer.
    pub query_timeout: Duration,
    /// Most open connections of clients.
    pub connections: usize,
    /// Most clients that follow flows at a time.
    pub followers: usize,
    /// Most expositions that are made at a time.
    pub scrapes: usize,
    /// How long a client may take for a request head, and keep a connection without one.
    pub head_timeout: Duration,
    /// How long a client may take none of the bytes that wait for it.
    pub stall_timeout: Duration,
    /// Flows that a follower may lag behind before it loses some.
    pub live_flows: usize,
    /// How long the pipeline may be silent before it counts as stuck.
    pub silence: Duration,
}

/// What the pipeline is asked. An answer that nobody waits for any more is no error.
#[derive(Debug)]
pub enum Query {
    /// All measures.
    Snapshot(oneshot::Sender<Snapshot>),
    /// All edges of the graph of services.
    Graph(oneshot::Sender<Vec<EdgeRow>>),
    /// The same in a window that ends now.
    GraphIn {
        /// At least so long.
        window: Duration,
        /// Where to.
        reply: oneshot::Sender<Windowed>,
    },
    /// What was found of service meshes.
    Mesh {
        /// Window of readiness; `None` for the configured one.
        window: Option<Duration>,
        /// Where to.
        reply: oneshot::Sender<Arc<Report>>,
    },
    /// The last flows.
    History {
        /// At most so many.
        last: usize,
        /// Only those that match.
        filter: Box<FlowFilter>,
        /// Where to.
        reply: oneshot::Sender<Recent>,
    },
}

/// Answer to [`Query::History`].
#[derive(Debug)]
pub struct Recent {
    /// Oldest first.
    pub flows: Vec<Flow>,
    /// Sequence of the newest flow there is, matching or not: what is published later is newer.
    pub sequence: u64,
}

/// The clients' end; cheap to clone.
#[derive(Clone, Debug)]
pub struct Hub {
    shared: Arc<Shared>,
    queries: mpsc::Sender<Query>,
}

/// The end of the thread that has the measures.
#[derive(Debug)]
pub struct Pipeline {
    shared: Arc<Shared>,
    queries: mpsc::Receiver<Query>,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// The pipeline ended.
    #[error("the pipeline has ended")]
    Ended,
    /// It did not answer in time.
    #[error("the pipeline did not answer in time; try again")]
    Late,
}

#[derive(Debug)]
struct Shared {
    config: Config,
    live: broadcast::Sender<Flow>,
    started: Instant,
    /// Milliseconds after `started` of the pipeline's last sign of life.
    alive: AtomicU64,
    /// Nanoseconds of [`WallOffset`].
    offset: AtomicU64,
    /// Why the observer is not ready; empty when it is.
    unready: Mutex<Vec<String>>,
    followers: Arc<Semaphore>,
    scrapes: Semaphore,
    lagged: AtomicU64,
    refused: AtomicU64,
    /// Set when the server shuts down.
    stop: watch::Sender<bool>,
}

/// Queries that may wait for the pipeline.
const QUERIES: usize = 32;

/// Makes both ends. The observer is not ready until [`Hub::set_unready`] is called with nothing.
pub fn channel(config: Config, offset: WallOffset) -> (Hub, Pipeline) {
    let (sender, receiver) = mpsc::channel(QUERIES);
    let shared = Arc::new(Shared {
        live: broadcast::Sender::new(config.live_flows.max(1)),
        started: Instant::now(),
        alive: AtomicU64::new(0),
        offset: AtomicU64::new(offset.nanoseconds),
        unready: Mutex::new(vec!["capture is not attached yet".to_owned()]),
        followers: Arc::new(Semaphore::new(config.followers)),
        scrapes: Semaphore::new(config.scrapes.max(1)),
        lagged: AtomicU64::new(0),
        refused: AtomicU64::new(0),
        stop: watch::Sender::new(false),
        config,
    });
    (
        Hub {
            shared: shared.clone(),
            queries: sender,
        },
        Pipeline {
            shared,
            queries: receiver,
        },
    )
}

// === impl Config ===

impl Default for Config {
    fn default() -> Self {
        Self {
            query_timeout: Duration::from_secs(2),
            connections: 128,
            followers: 16,
            scrapes: 2,
            head_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(30),
            live_flows: 4_096,
            silence: Duration::from_secs(10),
        }
    }
}

// === impl Hub ===

impl Hub {
    /// Sets why the observer is not ready; nothing means that it is.
    pub fn set_unready(&self, reasons: Vec<String>) {
        *self
            .shared
            .unready
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = reasons;
    }

    /// Changes how monotonic times are shown as wall-clock time.
    pub fn set_wall_offset(&self, offset: WallOffset) {
        self.shared
            .offset
            .store(offset.nanoseconds, Ordering::Relaxed);
    }

    /// What this stage lost: also part of `/metrics`, without anybody's doing.
    pub fn losses(&self) -> [Loss; 2] {
        let loss = |reason, count: &AtomicU64| Loss {
            stage: "serve",
            reason,
            count: count.load(Ordering::Relaxed),
        };
        [
            loss("follower_lagged", &self.shared.lagged),
            loss("client_refused", &self.shared.refused),
        ]
    }

    /// The routes; [`run`] serves them with time limits and bounds.
    pub fn router(&self) -> axum::Router {
        routes::router(self.clone())
    }

    /// Everything measured, now.
    ///
    /// # Errors
    ///
    /// When the pipeline is late or has ended.
    pub async fn snapshot(&self) -> Result<Snapshot, NoAnswer> {
        self.ask(Query::Snapshot).await
    }

    async fn graph(&self) -> Result<Vec<EdgeRow>, NoAnswer> {
        self.ask(Query::Graph).await
    }

    async fn graph_in(&self, window: Duration) -> Result<Windowed, NoAnswer> {
        self.ask(|reply| Query::GraphIn { window, reply }).await
    }

    async fn mesh(&self, window: Option<Duration>) -> Result<Report, NoAnswer> {
        let report = self.ask(|reply| Query::Mesh { window, reply }).await?;
        // Others may have been given the same.
        Ok(Arc::unwrap_or_clone(report))
    }

    async fn history(&self, last: usize, filter: FlowFilter) -> Result<Recent, NoAnswer> {
        self.ask(|reply| Query::History {
            last,
            filter: Box::new(filter),
            reply,
        })
        .await
    }

    async fn ask<T>(&self, query: impl FnOnce(oneshot::Sender<T>) -> Query) -> Result<T, NoAnswer> {
        let (reply, answer) = oneshot::channel();
        let asked = async {
            self.queries
                .send(query(reply))
                .await
                .map_err(|_| NoAnswer::Ended)?;
            answer.await.map_err(|_| NoAnswer::Ended)
        };
        let timeout = self.shared.config.query_timeout;
        tokio::time::timeout(timeout, asked)
            .await
            .unwrap_or(Err(NoAnswer::Late))
    }

    /// How monotonic times are shown as wall-clock time.
    pub fn offset(&self) -> WallOffset {
        WallOffset {
            nanoseconds: self.shared.offset.load(Ordering::Relaxed),
        }
    }

    /// Why the observer is not ready.
    fn unready(&self) -> Vec<String> {
        self.shared
            .unready
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// How long the pipeline has been silent.
    fn silence(&self) -> Duration {
        let alive = Duration::from_millis(self.shared.alive.load(Ordering::Relaxed));
        self.shared.started.elapsed().saturating_sub(alive)
    }
}

// === impl Shared ===

impl Shared {
    /// Done when the server shuts down.
    fn stopping(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut stop = self.stop.subscribe();
        async move {
            let _ = stop.wait_for(|stop| *stop).await;
        }
    }
}

// === impl Pipeline ===

impl Pipeline {
    /// The next question, if there is one; never waits. Call it in every round: it also shows that
    /// the pipeline is alive.
    pub fn query(&mut self) -> Option<Query> {
        self.tick();
        self.queries.try_recv().ok()
    }

    /// Shows that the pipeline is alive, where a round takes long.
    pub fn tick(&self) {
        let now = u64::try_from(self.shared.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.shared.alive.store(now, Ordering::Relaxed);
    }

    /// Hands `flow` to those who follow; nearly free when nobody does.
    pub fn publish(&self, flow: &Flow) {
        if self.shared.live.receiver_count() > 0 {
            // The last follower may just have gone.
            let _ = self.shared.live.send(flow.clone());
        }
    }
}

#[cfg(test)]
mod tests;
