//! How the watches of the API go: what is in sync, how old it is, and what failed.
//!
//! Watches write, anybody reads, and nobody waits: every number is an atomic of its own.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use super::{
    object::Source,
    read::{Losses, Resource},
};
use crate::telemetry::health::{Loss, Table};

/// State of all watches of one source.
#[derive(Debug)]
pub struct Status {
    source: Source,
    born: Instant,
    /// By [`Resource::index`].
    watches: [Watch; Resource::COUNT],
    losses: Mutex<Owned>,
}

/// What the task of the watches keeps by itself, as last told.
#[derive(Debug, Default)]
struct Owned {
    read: Losses,
    owners: Vec<Loss>,
    tables: Vec<Table>,
    declared: Option<(Loss, Table)>,
}

/// State of the watch of one resource.
#[derive(Debug)]
struct Watch {
    resource: Resource,
    /// It was asked for at all.
    wanted: AtomicBool,
    synced: AtomicBool,
    /// When anything was heard, nanoseconds after `born`; 0 for never.
    heard: AtomicU64,
    lists: AtomicU64,
    streaming_lists: AtomicU64,
    watches: AtomicU64,
    gets: AtomicU64,
    objects: AtomicU64,
    events: AtomicU64,
    errors: [AtomicU64; Reason::ALL.len()],
    last_error: Mutex<Option<(Reason, Box<str>)>>,
    /// When each failure was last said in the log.
    said: Mutex<[Option<Instant>; Reason::ALL.len()]>,
}

/// Why a request or a watch failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The API server could not be reached, or closed the connection within an answer.
    Connection,
    /// Nothing was heard for longer than bookmarks take.
    Silent,
    /// 410: what was known is too old to go on from; all is listed anew.
    Expired,
    /// 401: the credentials are not accepted.
    Unauthorized,
    /// 403: a permission is missing.
    Forbidden,
    /// 429: the server asks for patience.
    Throttled,
    /// 5xx.
    Server,
    /// Any other answer that is none.
    Refused,
    /// An answer that cannot be read.
    Malformed,
    /// The server has no streaming lists.
    NoStreamingList,
}

/// State of the watch of one resource, as plain values.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Who watches.
    pub source: Source,
    /// What.
    pub resource: Resource,
    /// All of it was told at least once, or it is only asked for by name.
    pub synced: bool,
    /// Since anything was heard of it, also bookmarks: what is known is at most so much older than
    /// the server's. `None` if nothing ever was.
    pub age: Option<Duration>,
    /// Requests by what they asked for: `list`, `streaming_list`, `watch`, `get`.
    pub requests: [(&'static str, u64); 4],
    /// Objects, of what a mesh is told; of all else whoever is told of them counts them.
    pub objects: u64,
    /// Events of watches, also those of streaming lists.
    pub events: u64,
    /// Failures by reason.
    pub errors: Vec<(Reason, u64)>,
    /// The failure that lasts; `None` while all is well.
    pub failing: Option<(Reason, Box<str>)>,
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    List,
    StreamingList,
    Watch,
    Get,
}

/// A failure that comes back is said again after so long.
const SAID_AGAIN: Duration = Duration::from_secs(600);

// === impl Status ===

impl Status {
    /// The state before anything was asked.
    pub fn new(source: Source) -> Self {
        Self {
            source,
            born: Instant::now(),
            watches: {
                let mut all = Resource::all();
                // There are as many.
                std::array::from_fn(|_| Watch::new(all.next().unwrap_or(Resource::Pods)))
            },
            losses: Mutex::default(),
        }
    }

    /// Whether everything that is watched was told at least once.
    pub fn synced(&self) -> bool {
        // Without controllers some owners are missing, which is no reason to wait for ever.
        let kinds = self
            .watches
            .iter()
            .filter(|watch| watch.resource.kind().is_some());
        let mut wanted = kinds.filter(|watch| watch.wanted.load(Relaxed)).peekable();
        wanted.peek().is_some() && wanted.all(|watch| watch.synced.load(Relaxed))
    }

    /// State of every resource that is watched.
    pub fn rows(&self) -> Vec<Row> {
        let now = self.now();
        let wanted = self
            .watches
            .iter()
            .filter(|watch| watch.wanted.load(Relaxed));
        wanted.map(|watch| watch.row(self.source, now)).collect()
    }

    /// What was lost while reading objects, and while resolving owners.
    pub fn losses(&self) -> Vec<Loss> {
        let owned = self.losses.lock().unwrap_or_else(PoisonError::into_inner);
        owned
            .read
            .losses()
            .into_iter()
            .chain(owned.owners.iter().cloned())
            .chain(owned.declared.iter().map(|(loss, _)| loss.clone()))
            .collect()
    }

    /// How full the tables of the resolver of owners are.
    pub fn tables(&self) -> Vec<Table> {
        let owned = self.losses.lock().unwrap_or_else(PoisonError::into_inner);
        let declared = owned.declared.iter().map(|(_, table)| table.clone());
        owned.tables.iter().cloned().chain(declared).collect()
    }

    pub(crate) fn watch(&self, resource: Resource) {
        self.of(resource).wanted.store(true, Relaxed);
    }

    /// There is nothing to be watched any more.
    pub(super) fn unwatch(&self, resource: Resource) {
        let watch = self.of(resource);
        watch.wanted.store(false, Relaxed);
        watch.synced.store(false, Relaxed);
        watch.heard.store(0, Relaxed);
        self.well(resource);
    }

    pub(super) fn has(&self, resource: Resource, objects: usize) {
        let objects = u64::try_from(objects).unwrap_or(u64::MAX);
        self.of(resource).objects.store(objects, Relaxed);
    }

    pub(super) fn request(&self, resource: Resource, request: Request) {
        let watch = self.of(resource);
        watch.wanted.store(true, Relaxed);
        let counter = match request {
            Request::List => &watch.lists,
            Request::StreamingList => &watch.streaming_lists,
            Request::Watch => &watch.watches,
            Request::Get => &watch.gets,
        };
        counter.fetch_add(1, Relaxed);
    }

    pub(super) fn heard(&self, resource: Resource, events: u64) {
        let watch = self.of(resource);
        watch.heard.store(self.now().max(1), Relaxed);
        if events > 0 {
            watch.events.fetch_add(events, Relaxed);
        }
    }

    pub(crate) fn synced_now(&self, resource: Resource) {
        self.of(resource).synced.store(true, Relaxed);
    }

    pub(super) fn is_failing(&self, resource: Resource) -> bool {
        let watch = self.of(resource);
        watch
            .last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some()
    }

    pub(super) fn well(&self, resource: Resource) {
        let watch = self.of(resource);
        *watch
            .last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Counts a failure; `true` if it is to be said: it is another one than before, and was not
    /// said lately.
    pub(crate) fn failed(&self, resource: Resource, reason: Reason, detail: &str) -> bool {
        let watch = self.of(resource);
        if let Some(counter) = watch.errors.get(reason as usize) {
            counter.fetch_add(1, Relaxed);
        }
        let mut last = watch
            .last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let new = last.as_ref().is_none_or(|(known, _)| *known != reason);
        *last = Some((reason, detail.into()));
        drop(last);
        let mut said = watch.said.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(said) = said.get_mut(reason as usize).filter(|_| new) else {
            return false;
        };
        let lately = said.is_some_and(|at| at.elapsed() < SAID_AGAIN);
        if !lately {
            *said = Some(Instant::now());
        }
        !lately
    }

    pub(super) fn lost(&self, losses: &mut Losses) {
        let taken = std::mem::take(losses);
        if taken != Losses::default() {
            let mut owned = self.losses.lock().unwrap_or_else(PoisonError::into_inner);
            owned.read.add(&taken);
        }
    }

    pub(crate) fn resolver(&self, losses: &[Loss], tables: &[Table]) {
        let mut owned = self.losses.lock().unwrap_or_else(PoisonError::into_inner);
        owned.owners = losses.to_vec();
        owned.tables = tables.to_vec();
    }

    pub(super) fn declared(&self, loss: Loss, table: Table) {
        let mut owned = self.losses.lock().unwrap_or_else(PoisonError::into_inner);
        owned.declared = Some((loss, table));
    }

    fn of(&self, resource: Resource) -> &Watch {
        &self.watches[resource.index()]
    }

    fn now(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

// === impl Watch ===

impl Watch {
    fn new(resource: Resource) -> Self {
        Self {
            resource,
            wanted: AtomicBool::new(false),
            synced: AtomicBool::new(false),
            heard: AtomicU64::new(0),
            lists: AtomicU64::new(0),
            streaming_lists: AtomicU64::new(0),
            watches: AtomicU64::new(0),
            gets: AtomicU64::new(0),
            objects: AtomicU64::new(0),
            events: AtomicU64::new(0),
            errors: std::array::from_fn(|_| AtomicU64::new(0)),
            last_error: Mutex::new(None),
            said: Mutex::default(),
        }
    }

    fn row(&self, source: Source, now: u64) -> Row {
        let heard = self.heard.load(Relaxed);
        let asked_by_name = self.gets.load(Relaxed) > 0
            && self.lists.load(Relaxed) + self.streaming_lists.load(Relaxed) == 0;
        let errors = Reason::ALL.into_iter().zip(&self.errors);
        let last = self
            .last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        Row {
            source,
            resource: self.resource,
            synced: self.synced.load(Relaxed) || asked_by_name,
            age: (heard != 0).then(|| Duration::from_nanos(now.saturating_sub(heard))),
            requests: [
                ("list", self.lists.load(Relaxed)),
                ("streaming_list", self.streaming_lists.load(Relaxed)),
                ("watch", self.watches.load(Relaxed)),
                ("get", self.gets.load(Relaxed)),
            ],
            objects: self.objects.load(Relaxed),
            events: self.events.load(Relaxed),
            errors: errors
                .map(|(reason, count)| (reason, count.load(Relaxed)))
                .collect(),
            failing: last.clone(),
        }
    }
}

// === impl Reason ===

impl Reason {
    /// All reasons, in the order of their numbers.
    pub const ALL: [Self; 10] = [
        Self::Connection,
        Self::Silent,
        Self::Expired,
        Self::Unauthorized,
        Self::Forbidden,
        Self::Throttled,
        Self::Server,
        Self::Refused,
        Self::Malformed,
        Self::NoStreamingList,
    ];

    /// Name in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Silent => "silent",
            Self::Expired => "expired",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::Throttled => "throttled",
            Self::Server => "server",
            Self::Refused => "refused",
            Self::Malformed => "malformed",
            Self::NoStreamingList => "no_streaming_list",
        }
    }
}
