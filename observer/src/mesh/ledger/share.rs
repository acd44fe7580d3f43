//! One report for all who ask within a second: it is made on the way of all events, and takes long
//! where there are many edges.

use std::{sync::Arc, time::Duration};

use crate::{mesh::report::Report, model::time::Monotonic};

/// How long a report is given to others who ask.
const FRESH: Duration = Duration::from_secs(1);

/// The last report, while it is fresh.
#[derive(Debug, Default)]
pub(super) struct Shared {
    last: Option<Made>,
}

#[derive(Debug)]
struct Made {
    at: Monotonic,
    /// Window of readiness.
    window: Duration,
    report: Arc<Report>,
}

// === impl Shared ===

impl Shared {
    /// The last report, if it is of this window, and fresh.
    pub(super) fn get(&self, window: Duration, now: Monotonic) -> Option<Arc<Report>> {
        let made = self.last.as_ref()?;
        let fresh = made.window == window && now.since(made.at) < FRESH;
        fresh.then(|| made.report.clone())
    }

    /// Keeps a report for others.
    pub(super) fn put(&mut self, window: Duration, report: Arc<Report>, now: Monotonic) {
        self.last = Some(Made {
            at: now,
            window,
            report,
        });
    }

    /// Forgets a report that is not fresh: it is large.
    pub(super) fn expire(&mut self, now: Monotonic) {
        if self
            .last
            .as_ref()
            .is_some_and(|it| now.since(it.at) >= FRESH)
        {
            self.last = None;
        }
    }
}
