//! The access log as lines of JSON, to the standard output or to a file that is kept short.
//!
//! Entries go through a bounded queue to a thread of their own: whoever has them never waits, and
//! what does not fit is counted. A line is one flat object: `time` (the end of the call, RFC 3339),
//! `severity`, `message`, `event`, `trace_id` and `span_id` where there are any, then resource and
//! attributes of the log record that OTLP would have, under their own names.

mod file;
mod line;

use std::{
    io::{self, Write as _},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, Receiver, SyncSender, TrySendError},
    },
    thread,
};

use thiserror::Error;

use self::{file::Rotated, line::Lines};
use super::about::About;
use crate::{model::span::Access, telemetry::health::Loss};

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The standard output.
    Stdout,
    /// A file, and one older file beside it, with `.1` at its end.
    File {
        /// Where it is.
        path: PathBuf,
        /// Size after which it becomes the older file, bytes.
        max_bytes: u64,
    },
}

/// The log cannot be written.
#[derive(Debug, Error)]
pub enum AccessError {
    /// The file cannot be opened.
    #[error("cannot open the access log {}: {source}", path.display())]
    Open {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There can be no more threads.
    #[error("cannot start the thread of the access log: {0}")]
    Thread(io::Error),
}

/// Takes entries.
#[derive(Clone, Debug)]
pub struct Sink {
    queue: SyncSender<Entry>,
    counters: Arc<Counters>,
}

/// The thread that writes them.
#[derive(Debug)]
pub struct Writer {
    thread: thread::JoinHandle<()>,
}

/// What became of entries.
#[derive(Debug, Default)]
pub struct Counters {
    written: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
    rotations_failed: AtomicU64,
}

struct Entry {
    access: Access,
    about: Arc<About>,
}

/// All that the thread has.
struct Output {
    to: To,
    lines: Lines,
    /// Whole lines that wait to be written.
    waiting: Vec<u8>,
    count: u64,
    counters: Arc<Counters>,
}

enum To {
    Stdout,
    File(Rotated),
}

/// Most entries that wait: as many as come in seconds, about 1 KiB each.
const QUEUE: usize = 4_096;

/// Bytes that are written at once at most, but for one long line.
const CHUNK: usize = 64 << 10;

/// Starts to write to `target`.
pub fn start(target: Target) -> Result<(Sink, Writer), AccessError> {
    let to = match target {
        Target::Stdout => To::Stdout,
        Target::File { path, max_bytes } => {
            let file = Rotated::open(path.clone(), max_bytes);
            To::File(file.map_err(|source| AccessError::Open { path, source })?)
        }
    };
    let counters = Arc::new(Counters::default());
    let (queue, entries) = mpsc::sync_channel(QUEUE);
    let output = Output {
        to,
        lines: Lines::default(),
        waiting: Vec::with_capacity(CHUNK),
        count: 0,
        counters: counters.clone(),
    };
    let thread = thread::Builder::new()
        .name("access-log".to_owned())
        .spawn(move || output.run(&entries))
        .map_err(AccessError::Thread)?;
    Ok((Sink { queue, counters }, Writer { thread }))
}

// === impl Sink ===

impl Sink {
    /// Hands an entry over; counts it when too many wait.
    pub fn push(&self, access: Access, about: &Arc<About>) {
        let about = about.clone();
        match self.queue.try_send(Entry { access, about }) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.counters.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// What became of entries.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}

// === impl Writer ===

impl Writer {
    /// Waits until all is written; every [`Sink`] must be gone, or it waits for ever.
    pub fn finish(self) {
        // A panic of the thread was reported where it happened.
        let _ = self.thread.join();
    }
}

// === impl Counters ===

impl Counters {
    /// Lines that were written.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// What was lost, and why.
    pub fn losses(&self) -> [Loss; 3] {
        [
            ("queue_full", &self.dropped),
            ("write_failed", &self.failed),
            ("rotation_failed", &self.rotations_failed),
        ]
        .map(|(reason, count)| Loss {
            stage: "access_log",
            reason,
            count: count.load(Ordering::Relaxed),
        })
    }
}

// === impl Output ===

impl Output {
    fn run(mut self, entries: &Receiver<Entry>) {
        while let Ok(first) = entries.recv() {
            self.take(&first);
            while let Ok(next) = entries.try_recv() {
                self.take(&next);
            }
            self.flush();
        }
    }

    fn take(&mut self, entry: &Entry) {
        self.lines
            .append(&mut self.waiting, &entry.access, &entry.about);
        self.count += 1;
        if self.waiting.len() >= CHUNK {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let count = std::mem::take(&mut self.count);
        let result = match &mut self.to {
            To::Stdout => {
                let mut output = io::stdout().lock();
                output
                    .write_all(&self.waiting)
                    .and_then(|()| output.flush())
            }
            To::File(file) => {
                let result = file.write(&self.waiting);
                let failed = &self.counters.rotations_failed;
                failed.store(file.rotations_failed(), Ordering::Relaxed);
                result
            }
        };
        let counter = match result {
            Ok(()) => &self.counters.written,
            Err(_) => &self.counters.failed,
        };
        counter.fetch_add(count, Ordering::Relaxed);
        self.waiting.clear();
        self.waiting.shrink_to(2 * CHUNK);
    }
}

#[cfg(test)]
mod tests;
