//! The hub's end: one task that has the store, and a position in its log for each agent.

mod agent;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::sync::{Semaphore, mpsc, watch};

use super::{
    PATH, PROTOCOL,
    authentication::Authenticator,
    counters::{Counters, Refused, add},
    message::{Heartbeat, KindState, number_of},
    store::{Limits, Snapshot, Store},
};
use crate::{
    cluster::object::{Change, Kind, Source, Subject},
    model::policy::PolicyKind,
};

/// Bounds and times of a hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Bounds of the store.
    pub limits: Limits,
    /// Most agents at a time.
    pub agents: usize,
    /// How long changes are gathered before agents are told.
    pub gather: Duration,
    /// How long an agent hears nothing at most.
    pub heartbeat: Duration,
    /// How long a stream lasts at most: then the agent comes back with a token that is valid then.
    pub lifetime: Duration,
}

/// Says how long ago the API server was last heard of a kind; `None` before.
pub type Age = dyn Fn(Subject) -> Option<Duration> + Send + Sync;

/// A hub; cheap to clone.
#[derive(Clone)]
pub struct Hub {
    shared: Arc<Shared>,
}

struct Shared {
    options: Options,
    counters: Arc<Counters>,
    authenticator: Option<Authenticator>,
    store: Mutex<Store>,
    /// The snapshot that is handed out; whoever makes a new one has the others wait for it.
    snapshot: tokio::sync::Mutex<Option<Arc<Snapshot>>>,
    revision: watch::Sender<u64>,
    stop: watch::Sender<bool>,
    slots: Arc<Semaphore>,
    age: Box<Age>,
    /// Requests that brought changes: each is a batch of the watch.
    batches: AtomicU64,
}

/// What an agent asks for.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
struct Ask {
    protocol: u32,
    epoch: u64,
    revision: u64,
}

/// What a new snapshot must save to be worth it, bytes.
const LEAST_WASTE: u64 = 64 << 10;

// === impl Options ===

impl Default for Options {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            agents: 5_000,
            gather: Duration::from_millis(200),
            heartbeat: Duration::from_secs(10),
            lifetime: Duration::from_secs(1800),
        }
    }
}

// === impl Hub ===

impl Hub {
    /// A hub that knows nothing yet. Without `authenticator` anybody is served.
    pub fn new(options: Options, authenticator: Option<Authenticator>, age: Box<Age>) -> Self {
        // 0 is what agents say that know nothing.
        let store = Store::new(super::random().max(1), options.limits);
        Self {
            shared: Arc::new(Shared {
                slots: Arc::new(Semaphore::new(options.agents)),
                options,
                counters: Arc::default(),
                authenticator,
                snapshot: tokio::sync::Mutex::new(None),
                revision: watch::Sender::new(store.revision()),
                store: Mutex::new(store),
                stop: watch::Sender::new(false),
                age,
                batches: AtomicU64::new(0),
            }),
        }
    }

    /// Takes the changes of the watch until its sender is gone or the hub is stopped.
    pub async fn gather(&self, mut changes: mpsc::Receiver<(Source, Vec<Change>)>) {
        let mut stop = self.stopping();
        let mut seal = tokio::time::interval(self.shared.options.gather);
        seal.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // A sender that is gone means stop, too.
                _ = stop.wait_for(|stop| *stop) => return,
                _ = seal.tick() => self.seal(),
                batch = changes.recv() => match batch {
                    Some((_, batch)) => self.apply(batch),
                    None => break,
                },
            }
        }
        self.seal();
    }

    /// Takes changes; agents are told with the next [`Hub::seal`].
    pub fn apply(&self, changes: Vec<Change>) {
        self.shared.batches.fetch_add(1, Ordering::Relaxed);
        let mut store = self.store();
        for change in changes {
            store.apply(change);
        }
    }

    /// Tells agents what has changed since the last time.
    pub fn seal(&self) {
        let mut store = self.store();
        if store.seal() {
            let revision = store.revision();
            drop(store);
            self.shared.revision.send_replace(revision);
        }
    }

    /// The endpoint of agents.
    pub fn router(&self) -> Router {
        Router::new()
            .route(PATH, get(stream))
            .with_state(self.clone())
    }

    /// Ends all streams, and what waits for [`Hub::stopping`].
    pub fn stop(&self) {
        self.shared.stop.send_replace(true);
    }

    /// Becomes true when the hub is stopped.
    pub fn stopping(&self) -> watch::Receiver<bool> {
        self.shared.stop.subscribe()
    }

    /// What is counted.
    pub fn counters(&self) -> Arc<Counters> {
        self.shared.counters.clone()
    }

    /// Looks at the store.
    pub fn store(&self) -> MutexGuard<'_, Store> {
        // What panicked while it had the lock has left numbers, not pointers.
        self.shared
            .store
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Batches of changes that the watch has told.
    pub fn batches(&self) -> u64 {
        self.shared.batches.load(Ordering::Relaxed)
    }

    /// How long ago the API server was last heard of a kind; `None` before.
    pub fn age(&self, subject: Subject) -> Option<Duration> {
        (self.shared.age)(subject)
    }

    /// A snapshot that what follows can still be told of, made anew when the one there is is old.
    async fn snapshot(&self) -> Option<Arc<Snapshot>> {
        let mut current = self.shared.snapshot.lock().await;
        let collected = {
            let store = self.store();
            if let Some(snapshot) = &*current {
                let since = store.written() - snapshot.written;
                // Deltas cost bytes, and a snapshot costs time: a quarter more is a fair price.
                let waste = (snapshot.bytes as u64 / 4).max(LEAST_WASTE);
                if since <= waste && store.can_resume(snapshot.epoch, snapshot.revision) {
                    return Some(snapshot.clone());
                }
            }
            store.collect()
        };
        // A hundred thousand objects are a good part of a second.
        let encoded = tokio::task::spawn_blocking(move || collected.encode()).await;
        let snapshot = match encoded {
            Ok(Ok(snapshot)) => Arc::new(snapshot),
            Ok(Err(error)) => {
                tracing::error!(%error, "cannot make a snapshot");
                return None;
            }
            // The runtime is going.
            Err(_) => return None,
        };
        add(&self.shared.counters.encoded, 1);
        *current = Some(snapshot.clone());
        Some(snapshot)
    }

    fn heartbeat(&self) -> Heartbeat {
        let store = self.store();
        let kinds = Kind::ALL.map(|kind| (Subject::Kind(kind), store.kind(kind)));
        let declared = PolicyKind::ALL.into_iter().filter_map(|kind| {
            let objects = store.policies(kind)?;
            Some((Subject::Policy(kind), (true, objects)))
        });
        let known: Vec<_> = kinds.into_iter().chain(declared).collect();
        let revision = store.revision();
        drop(store);
        let aged = known.into_iter().map(|(subject, (synced, objects))| {
            let age = self.age(subject).map(|age| age.as_millis());
            KindState {
                kind: number_of(subject),
                synced,
                objects: objects as u64,
                age_milliseconds: age.and_then(|age| u64::try_from(age).ok()),
            }
        });
        Heartbeat {
            revision,
            kinds: aged.collect(),
        }
    }

    /// When a stream that begins now ends: not all at once, also if they began at once.
    fn end(&self) -> Instant {
        let lifetime = self.shared.options.lifetime;
        let spread = u32::try_from(super::random() % 256).unwrap_or(0);
        Instant::now() + lifetime - lifetime / 4 * spread / 256
    }
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Hub")
            .field("options", &self.shared.options)
            .finish_non_exhaustive()
    }
}

async fn stream(
    State(hub): State<Hub>,
    headers: HeaderMap,
    ask: Result<Query<Ask>, QueryRejection>,
) -> Response {
    let refuse = |status: StatusCode, why: Refused, text: &str| {
        hub.shared.counters.refuse(why);
        let mut response = (status, format!("{text}\n")).into_response();
        if status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    };
    let ask = match ask {
        Ok(Query(ask)) if ask.protocol == PROTOCOL => ask,
        Ok(Query(ask)) => {
            let text = format!(
                "protocol {} is not spoken here, but {PROTOCOL}: update the older end",
                ask.protocol
            );
            return refuse(StatusCode::BAD_REQUEST, Refused::BadRequest, &text);
        }
        Err(error) => {
            let text = error.body_text();
            return refuse(StatusCode::BAD_REQUEST, Refused::BadRequest, &text);
        }
    };
    if let Some(authenticator) = &hub.shared.authenticator {
        let token = headers.get(header::AUTHORIZATION);
        let token = token.map(HeaderValue::as_bytes);
        if let Err(refusal) = authenticator.check(token, &hub.shared.counters).await {
            let status = match refusal.reason {
                Refused::WrongAccount => StatusCode::FORBIDDEN,
                Refused::NoReview => StatusCode::SERVICE_UNAVAILABLE,
                _ => StatusCode::UNAUTHORIZED,
            };
            return refuse(status, refusal.reason, &refusal.text);
        }
    }
    let unavailable = StatusCode::SERVICE_UNAVAILABLE;
    if !hub.store().is_synced() {
        let text = "the hub does not know the whole cluster yet";
        return refuse(unavailable, Refused::NotReady, text);
    }
    let Ok(slot) = hub.shared.slots.clone().try_acquire_owned() else {
        let text = "the hub has as many agents as it may (hub.max_agents)";
        return refuse(unavailable, Refused::TooManyAgents, text);
    };
    agent::Agent::new(hub, slot, (ask.epoch, ask.revision)).response()
}
