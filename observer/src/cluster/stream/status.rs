//! What an agent knows of its hub, for metrics and health: written by the client, read by anybody.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    counters::{add, get},
    message::{Heartbeat, subject_of},
};
use crate::cluster::object::Subject;

/// State of the connection to the hub.
#[derive(Debug)]
pub struct Status {
    started: Instant,
    connected: AtomicBool,
    synced: AtomicBool,
    /// Milliseconds after `started`, plus one; 0 before the first.
    heard: AtomicU64,
    revision: AtomicU64,
    /// By [`Subject::index`].
    kinds: [HubKind; Subject::COUNT],
    error: Mutex<String>,
    pub(super) counts: Counts,
}

/// What happened, since start.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) connects: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) resumed: AtomicU64,
    pub(super) snapshots: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) frames: AtomicU64,
    pub(super) changes: AtomicU64,
    pub(super) unknown: AtomicU64,
    pub(super) malformed: AtomicU64,
}

/// The counters of [`Status`], since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Streams that began.
    pub connects: u64,
    /// Connections that could not be made, were refused, or ended early.
    pub failures: u64,
    /// Streams that went on where the last one ended.
    pub resumed: u64,
    /// Snapshots that were taken as a whole.
    pub snapshots: u64,
    /// Bytes of frames.
    pub bytes: u64,
    /// Frames.
    pub frames: u64,
    /// Changes passed on.
    pub changes: u64,
    /// Changes skipped because this version does not know them.
    pub unknown: u64,
    /// Changes skipped because they were not what they should be.
    pub malformed: u64,
}

/// What the hub says of its own watch of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KindAge {
    /// Which kind.
    pub kind: Subject,
    /// Objects.
    pub objects: u64,
    /// Since the API server was last heard of it, by the hub, and the hub by us; `None` before.
    pub age: Option<Duration>,
}

#[derive(Debug, Default)]
struct HubKind {
    /// The hub said something of it lately.
    told: AtomicBool,
    objects: AtomicU64,
    /// Milliseconds, plus one; 0 when the hub does not know.
    age: AtomicU64,
}

/// Longest error that is kept, characters.
const MAX_ERROR: usize = 512;

// === impl Status ===

impl Default for Status {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            connected: AtomicBool::default(),
            synced: AtomicBool::default(),
            heard: AtomicU64::default(),
            revision: AtomicU64::default(),
            kinds: std::array::from_fn(|_| HubKind::default()),
            error: Mutex::default(),
            counts: Counts::default(),
        }
    }
}

impl Status {
    /// Whether there is a stream now.
    pub fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    /// Whether all of the cluster was told once; it stays so while the hub is away.
    pub fn is_synced(&self) -> bool {
        self.synced.load(Ordering::Relaxed)
    }

    /// Since anything was last heard of the hub; `None` before.
    pub fn silence(&self) -> Option<Duration> {
        let heard = get(&self.heard).checked_sub(1)?;
        Some(
            self.started
                .elapsed()
                .saturating_sub(Duration::from_millis(heard)),
        )
    }

    /// The hub's revision that was passed on last.
    pub fn revision(&self) -> u64 {
        get(&self.revision)
    }

    /// What the hub said of its own watch, with the time since then added: of all that the cluster
    /// is, and of what is declared as far as the hub knows it.
    pub fn kinds(&self) -> Vec<KindAge> {
        let silence = self.silence().unwrap_or_default();
        let told = |subject: &Subject| {
            let told = &self.kinds[subject.index()].told;
            matches!(subject, Subject::Kind(_)) || told.load(Ordering::Relaxed)
        };
        let state = |subject: Subject| {
            let HubKind { objects, age, .. } = &self.kinds[subject.index()];
            KindAge {
                kind: subject,
                objects: get(objects),
                age: get(age)
                    .checked_sub(1)
                    .map(|age| Duration::from_millis(age).saturating_add(silence)),
            }
        };
        Subject::all().filter(told).map(state).collect()
    }

    /// Why there is no stream; empty while there is one.
    pub fn error(&self) -> String {
        self.error
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The counters.
    pub fn counted(&self) -> Counted {
        let counts = &self.counts;
        Counted {
            connects: get(&counts.connects),
            failures: get(&counts.failures),
            resumed: get(&counts.resumed),
            snapshots: get(&counts.snapshots),
            bytes: get(&counts.bytes),
            frames: get(&counts.frames),
            changes: get(&counts.changes),
            unknown: get(&counts.unknown),
            malformed: get(&counts.malformed),
        }
    }

    pub(super) fn connected(&self) {
        self.connected.store(true, Ordering::Relaxed);
        add(&self.counts.connects, 1);
        self.set_error("");
    }

    pub(super) fn disconnected(&self, error: Option<&str>) {
        self.connected.store(false, Ordering::Relaxed);
        if let Some(error) = error {
            add(&self.counts.failures, 1);
            self.set_error(error);
        }
    }

    pub(super) fn heard(&self, bytes: usize) {
        add(&self.counts.bytes, bytes as u64);
        let milliseconds = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.heard
            .store(milliseconds.saturating_add(1), Ordering::Relaxed);
    }

    pub(super) fn known(&self, revision: u64) {
        self.revision.store(revision, Ordering::Relaxed);
        self.synced.store(true, Ordering::Relaxed);
    }

    pub(super) fn heartbeat(&self, heartbeat: &Heartbeat) {
        let mut told = [false; Subject::COUNT];
        for state in &heartbeat.kinds {
            let Ok(subject) = subject_of(state.kind) else {
                continue;
            };
            told[subject.index()] = true;
            let HubKind { objects, age, .. } = &self.kinds[subject.index()];
            objects.store(state.objects, Ordering::Relaxed);
            let milliseconds = state.age_milliseconds;
            let stored = milliseconds.map_or(0, |milliseconds| milliseconds.saturating_add(1));
            age.store(stored, Ordering::Relaxed);
        }
        for (kind, told) in self.kinds.iter().zip(told) {
            kind.told.store(told, Ordering::Relaxed);
        }
    }

    fn set_error(&self, text: &str) {
        let mut error = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        error.clear();
        error.extend(text.chars().take(MAX_ERROR));
    }
}
