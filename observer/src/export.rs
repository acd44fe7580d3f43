//! Telemetry out: spans, metrics and the access log, sent over OTLP to a collector.
//!
//! ```text
//! pipeline's thread  Outlet::span, Outlet::access -> Queue (bounded, drops the oldest)
//! the runtime        Exporter::run: batch -> encode -> gzip -> Sender -> collector
//! ```
//!
//! All that is not delivered is counted by its reason, in [`status::Status`].

pub mod about;
pub mod access;
pub mod exporter;
pub mod otlp;
pub mod outlet;
pub mod queue;
pub mod status;

use std::sync::Arc;

use tokio::sync::watch;

use self::queue::{Bounds, Queue};
pub use self::{
    about::About,
    exporter::{Encoders, Exporter},
    outlet::Outlet,
    status::Status,
};
use crate::config::{Otlp, Signal};

/// Where telemetry goes, and how much of it may wait.
pub type Settings = Otlp;

/// The two ends of what is exported: the pipeline's, and the runtime's.
pub fn channel(settings: &Settings) -> (Outlet, Exporter) {
    let status = Arc::new(Status::default());
    let spans = Queue::new(Signal::Traces, bounds(settings), Arc::clone(&status));
    let accesses = Queue::new(Signal::Logs, bounds(settings), Arc::clone(&status));
    let (spans, accesses) = (Arc::new(spans), Arc::new(accesses));
    let (changed, current) = watch::channel(Arc::new(settings.clone()));
    let exporter = Exporter::new(
        (Arc::clone(&spans), Arc::clone(&accesses)),
        current,
        Arc::clone(&status),
    );
    (Outlet::new((spans, accesses), changed, status), exporter)
}

/// Of the queue of one signal.
fn bounds(settings: &Settings) -> Bounds {
    Bounds {
        items: settings.queue_items.into(),
        bytes: settings.queue_bytes,
        batch: settings.batch_items.into(),
    }
}
