//! The agent's end: follows the hub's stream, and comes back whenever it ends.

mod connection;

use std::{
    collections::HashMap,
    mem::{Discriminant, discriminant},
    path::PathBuf,
    time::{Duration, Instant},
};

use prost::bytes::Bytes;
use tokio::sync::mpsc;

use self::connection::Connection;
use super::{
    PROTOCOL,
    codec::{DecodeError, Decoder},
    counters::add,
    message::{Batch, Content, Frame, Hello, Unusable, decode_change},
    status::Status,
};
use crate::cluster::object::{Change, Source};

/// Where the hub is, and how to get there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// `http://NAME:PORT` or `https://NAME:PORT`.
    pub url: String,
    /// Authorities that sign the hub's certificate, PEM; needed for https.
    pub authorities: Option<PathBuf>,
    /// File with the token to show; read anew for each connection.
    pub token: Option<PathBuf>,
    /// How long connecting, and the answer's head, may take.
    pub connect_timeout: Duration,
    /// How long the hub may be silent; well above its heartbeat.
    pub idle_timeout: Duration,
    /// First wait after a failure; doubled with each further one.
    pub least_wait: Duration,
    /// Longest wait after a failure.
    pub most_wait: Duration,
    /// Most changes that are passed on at a time.
    pub batch: usize,
}

/// Why a stream ended, or did not begin.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Not a URL that can be used.
    #[error("the hub's URL {0:?} cannot be used: write http://NAME:PORT or https://NAME:PORT")]
    Url(String),
    /// A file that cannot be read.
    #[error("cannot read {path}: {cause}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// A token that cannot be sent.
    #[error("{0} does not hold a token")]
    Token(PathBuf),
    /// Authorities that cannot be used.
    #[error("the hub's authorities cannot be used: {0}")]
    Authorities(String),
    /// No connection.
    #[error("cannot connect to the hub: {0}")]
    Connect(std::io::Error),
    /// Nothing came in time.
    #[error("the hub says nothing")]
    Silent,
    /// Not served.
    #[error("the hub answers {status}: {text}")]
    Refused {
        /// Status of the response.
        status: u16,
        /// What the hub says.
        text: String,
    },
    /// The connection broke before the answer.
    #[error("the connection to the hub broke: {0}")]
    Broken(#[from] hyper::Error),
    /// The connection broke within the answer.
    #[error("the hub's stream broke off: {0}")]
    Body(axum::Error),
    /// It is not what it should be.
    #[error("the hub's stream cannot be read: {0}")]
    Garbage(#[from] DecodeError),
    /// It begins with something else than a greeting.
    #[error("the hub's stream does not begin as it should")]
    NoHello,
    /// Another protocol.
    #[error("the hub speaks protocol {0}, and this agent {PROTOCOL}: update the older one")]
    Protocol(u32),
}

/// What is known, and passed on.
struct Follower {
    changes: mpsc::Sender<(Source, Vec<Change>)>,
    epoch: u64,
    /// 0 while a snapshot is not complete.
    revision: u64,
    greeted: bool,
    batch: usize,
}

/// How a stream ended without a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The hub wants us to come back.
    Hub,
    /// Nobody takes changes any more.
    Receiver,
}

// === impl Options ===

impl Default for Options {
    fn default() -> Self {
        Self {
            url: String::new(),
            authorities: None,
            token: None,
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(35),
            least_wait: Duration::from_millis(500),
            most_wait: Duration::from_secs(30),
            batch: 512,
        }
    }
}

/// Follows the hub until the receiver of `changes` is gone. While the hub is away nothing is told: what
/// is known stays known.
pub async fn run(
    options: Options,
    changes: mpsc::Sender<(Source, Vec<Change>)>,
    status: impl AsRef<Status>,
) {
    let status = status.as_ref();
    let receiver = changes.clone();
    let mut follower = Follower {
        batch: options.batch.max(1),
        changes,
        epoch: 0,
        revision: 0,
        greeted: false,
    };
    let mut failures = 0;
    let mut said = HashMap::new();
    loop {
        let before = follower.revision;
        let ended = tokio::select! {
            ended = follower.stream(&options, status) => ended,
            () = receiver.closed() => Ok(End::Receiver),
        };
        let wait = match ended {
            Ok(End::Receiver) => {
                status.disconnected(None);
                return;
            }
            Ok(End::Hub) => {
                status.disconnected(None);
                failures = 0;
                spread(options.least_wait)
            }
            Err(failure) => {
                let text = failure.to_string();
                status.disconnected(Some(&text));
                // One that told something was good for a while.
                failures = if follower.revision > before {
                    0
                } else {
                    failures + 1
                };
                if say(&mut said, failure.class()) {
                    tracing::warn!(
                        error = text,
                        "no word of the cluster from the hub; what was known stays, and the hub \
                         is asked again"
                    );
                } else {
                    tracing::debug!(error = text, failures, "no word from the hub again");
                }
                let doubled = options.least_wait.saturating_mul(1 << failures.min(16));
                spread(doubled.min(options.most_wait))
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = receiver.closed() => return,
        }
    }
}

/// What a failure is in the log: what it is, and the status of a refusal.
type Class = (Discriminant<Failure>, u16);

/// A failure is said again after so long.
const SAID_AGAIN: Duration = Duration::from_secs(600);

/// Most failures that are said within that time.
const MAX_SAID: usize = 16;

/// Whether a failure is to be said: an outage is no line for each try, nor is a hub that comes and
/// goes.
fn say(said: &mut HashMap<Class, Instant>, class: Class) -> bool {
    said.retain(|_, at| at.elapsed() < SAID_AGAIN);
    let new = !said.contains_key(&class) && said.len() < MAX_SAID;
    if new {
        said.insert(class, Instant::now());
    }
    new
}

/// A time between half of `wait` and all of it: agents that lost the hub at once come back one by one.
fn spread(wait: Duration) -> Duration {
    let part = u32::try_from(super::random() % 256).unwrap_or(0);
    wait / 2 + wait / 2 * part / 256
}

// === impl Failure ===

impl Failure {
    fn class(&self) -> Class {
        let status = match self {
            Self::Refused { status, .. } => *status,
            _ => 0,
        };
        (discriminant(self), status)
    }
}

// === impl Follower ===

impl Follower {
    async fn stream(&mut self, options: &Options, status: &Status) -> Result<End, Failure> {
        self.greeted = false;
        let position = (self.epoch, self.revision);
        let opening = Connection::open(options, position);
        let mut connection = tokio::time::timeout(options.connect_timeout, opening)
            .await
            .map_err(|_| Failure::Silent)??;
        let mut decoder = Decoder::default();
        loop {
            let piece = tokio::time::timeout(options.idle_timeout, connection.next()).await;
            let Some(piece) = piece.map_err(|_| Failure::Silent)?? else {
                return Ok(End::Hub);
            };
            status.heard(piece.len());
            decoder.push(&piece);
            while let Some(frame) = decoder.next_frame()? {
                add(&status.counts.frames, 1);
                if self.take(frame, status).await?.is_none() {
                    return Ok(End::Receiver);
                }
            }
        }
    }

    /// Takes a frame; `None` when nobody takes changes any more.
    async fn take(&mut self, frame: Frame, status: &Status) -> Result<Option<()>, Failure> {
        match frame.content {
            Some(Content::Hello(hello)) => {
                self.hello(hello, status)?;
                Ok(Some(()))
            }
            _ if !self.greeted => Err(Failure::NoHello),
            Some(Content::Batch(batch)) => Ok(self.batch(batch, status).await),
            Some(Content::Heartbeat(heartbeat)) => {
                status.heartbeat(&heartbeat);
                Ok(Some(()))
            }
            // Of a later version.
            None => Ok(Some(())),
        }
    }

    fn hello(&mut self, hello: Hello, status: &Status) -> Result<(), Failure> {
        if hello.protocol != PROTOCOL {
            return Err(Failure::Protocol(hello.protocol));
        }
        if !self.greeted {
            self.greeted = true;
            status.connected();
        }
        if hello.resumed && hello.epoch == self.epoch && self.revision != 0 {
            add(&status.counts.resumed, 1);
            return Ok(());
        }
        if hello.resumed {
            // It continues what we do not know.
            return Err(Failure::NoHello);
        }
        self.epoch = hello.epoch;
        self.revision = 0;
        Ok(())
    }

    async fn batch(&mut self, batch: Batch, status: &Status) -> Option<()> {
        let Batch { revision, changes } = batch;
        for part in changes.chunks(self.batch) {
            let part: Vec<Change> = part
                .iter()
                .filter_map(|change| decode(change, status))
                .collect();
            add(&status.counts.changes, part.len() as u64);
            if !part.is_empty() {
                self.changes.send((Source::Cluster, part)).await.ok()?;
            }
        }
        if revision != 0 {
            if self.revision == 0 {
                add(&status.counts.snapshots, 1);
            }
            self.revision = revision;
            status.known(revision);
        }
        Some(())
    }
}

fn decode(change: &Bytes, status: &Status) -> Option<Change> {
    match decode_change(change.clone()) {
        Ok(change) => Some(change),
        Err(Unusable::Unknown) => {
            add(&status.counts.unknown, 1);
            None
        }
        Err(error) => {
            add(&status.counts.malformed, 1);
            tracing::debug!(%error, "a change of the hub is skipped");
            None
        }
    }
}
